"""A refused change in two parts: what is allowed as it stands, and the rest.

The parts are trees: base, base with the allowed edits, and the tree that was proposed. Judging the first part anew
decides, so it is allowed or there is none. Edits that need one another's place (a file where a folder was) stay
together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct

from safeai_git.core.edit import Edit
from safeai_git.core.errors import RepositoryError
from safeai_git.core.finding import Outcome
from safeai_git.core.proposal import Proposal
from safeai_git.git.store import ObjectStore
from safeai_git.git.working import with_side
from safeai_git.judging import Judgement


class Split(Struct, frozen=True):
    """How a change is split.

    Attributes:
        whole: The judgement of all of it.
        allowed: The judgement of the part that is allowed; ``None`` when there is no such part.
        tree: The tree of base and allowed edits.
        kept: The paths of the allowed part.
        refused: The paths of the rest.
    """

    whole: Judgement
    allowed: Judgement | None
    tree: str
    kept: tuple[bytes, ...]
    refused: tuple[bytes, ...]


def split(whole: Judgement, store: ObjectStore, judge: Callable[[str], Judgement]) -> Split:
    """Split a change.

    Args:
        whole: Its judgement.
        store: Its objects; gets those of the part.
        judge: Judges the change from its base to another tree.

    Raises:
        RepositoryError: It is malformed or too large to be split.
    """
    proposal = whole.verdict.proposal
    if proposal.malformed_tree or proposal.malformed_commit or not proposal.complete:
        raise RepositoryError(
            "the change is malformed or too large, so it cannot be split",
            hint="'safeai-git check' says what it is",
        )
    paths = tuple(edit.path for edit in proposal.edits)
    if whole.decision == "allow":
        return Split(whole, whole, proposal.tree, paths, ())
    parts = _together(proposal.edits)
    while parts:
        tree = _tree(store, proposal, parts)
        judged = judge(tree)
        if judged.decision == "allow":
            kept = frozenset(edit.path for part in parts for edit in part)
            return Split(
                whole,
                judged,
                tree,
                tuple(path for path in paths if path in kept),
                tuple(path for path in paths if path not in kept),
            )
        refused = _refused(judged)
        left = [part for part in parts if not any(edit.path in refused for edit in part)]
        if len(left) < len(parts):
            parts = left
            continue
        # What is said of the whole change only grows with it: the smallest edits first, as many as there may be; and
        # what holds for the smallest alone, such as an engaged kill switch, holds for all.
        parts = sorted(parts, key=lambda part: (sum(edit.size for edit in part), part[0].path))
        if judge(_tree(store, proposal, parts[:1])).decision != "allow":
            break
        parts = parts[: len(parts) - max(1, len(parts) // 16)]
    return Split(whole, None, proposal.base_tree, (), paths)


def _refused(judged: Judgement) -> frozenset[bytes]:
    findings = judged.verdict.findings
    return frozenset(one.path for one in findings if one.path is not None and one.outcome > Outcome.WARN)


def _together(edits: Iterable[Edit]) -> list[tuple[Edit, ...]]:
    """Edits in groups: a path and what lies below it cannot both be there, so they change at once."""
    groups: list[list[Edit]] = []
    top = b""
    for edit in sorted(edits, key=lambda one: one.path.split(b"/")):
        if groups and edit.path.startswith(top + b"/"):
            groups[-1].append(edit)
        else:
            groups.append([edit])
            top = edit.path
    return [tuple(group) for group in groups]


def _tree(store: ObjectStore, proposal: Proposal, parts: Iterable[tuple[Edit, ...]]) -> str:
    tree = proposal.base_tree
    edits = [edit for part in parts for edit in part]
    for edit in sorted(edits, key=lambda one: bool(one.new_mode)):  # deletions first: they make room
        tree = with_side(store, tree, edit.path, edit.new_mode, edit.new_id)
    return tree
