"""The facts as a policy's expressions see them (docs/formats/policy.md): plain values, no objects."""

from __future__ import annotations

from safeai_git.core.display import display
from safeai_git.core.edit import MODE_SYMLINK, Edit
from safeai_git.core.proposal import Proposal


def edit_facts(edit: Edit) -> dict[str, object]:
    """One edit. ``path`` is the displayed path, so that bytes which are not UTF-8 have a spelling too."""
    return {
        "path": display(edit.path),
        "status": edit.status,
        "old_mode": f"{edit.old_mode:06o}",
        "new_mode": f"{edit.new_mode:06o}",
        "size": edit.size,
        "lines_added": edit.lines_added,
        "lines_removed": edit.lines_removed,
        "bytes_added": edit.bytes_added,
        "bytes_removed": edit.bytes_removed,
        "binary": edit.binary,
        "symlink": edit.new_mode == MODE_SYMLINK,
        "lfs": edit.lfs is not None,
    }


def change_facts(proposal: Proposal, branch: str) -> dict[str, object]:
    """The change as a whole."""
    edits = proposal.edits
    return {
        "edits": len(edits),
        "total_size": proposal.total_size,
        "lines_added": sum(edit.lines_added for edit in edits),
        "lines_removed": sum(edit.lines_removed for edit in edits),
        "bytes_added": sum(edit.bytes_added for edit in edits),
        "bytes_removed": sum(edit.bytes_removed for edit in edits),
        "author_class": proposal.attribution.author_class,
        "agent": proposal.attribution.agent,
        "branch": branch,
    }
