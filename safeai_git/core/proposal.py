"""A proposed change as a whole: what would become of which tree, and who wrote it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from safeai_git.core.attribution import Attribution
from safeai_git.core.canonical import digest
from safeai_git.core.edit import Collision, Edit, Malformation
from safeai_git.core.paths import to_json

Kind = Literal["staged", "commit", "merge", "net", "merge-result", "patch"]
"""How the proposal was read: the index, one commit against its first parent, a merge against its recomputation, a
range's end against its merge base, the merge of a range into its base, a patch on a base."""


class Proposal(Struct, frozen=True):
    """The facts that a verdict is about.

    Attributes:
        kind: Where it was read from.
        base_commit, head_commit: Object names in hex; empty where there is no commit (an unborn branch, the index).
        base_tree, tree: The tree that the change starts from (empty for none) and the one that it leads to.
        edits: One for each changed path, ordered by path; only those of governance files when not complete.
        attribution: Who wrote it, and what says so.
        malformed_tree, malformed_commit: What git would not have written; no other rule is asked about such a change.
        collisions: Added paths that fold to one that is there.
        complete: False when there were more edits than are read.
    """

    kind: Kind
    base_commit: str
    head_commit: str
    base_tree: str
    tree: str
    edits: tuple[Edit, ...]
    attribution: Attribution
    malformed_tree: tuple[Malformation, ...] = ()
    malformed_commit: tuple[Malformation, ...] = ()
    collisions: tuple[Collision, ...] = ()
    complete: bool = True

    @property
    def total_size(self) -> int:
        """Bytes that all edits count for together."""
        return sum(edit.size for edit in self.edits)

    def edits_digest(self) -> str:
        """SHA-256, in hex, over the canonical JSON of every edit's path, modes, object names and content digest.

        It binds a verdict to contents by SHA-256 where git's own names are SHA-1 (docs/formats/verdict.md).
        """
        return digest(
            [
                {
                    **to_json(edit.path),
                    "old_mode": f"{edit.old_mode:06o}",
                    "new_mode": f"{edit.new_mode:06o}",
                    "old_id": edit.old_id,
                    "new_id": edit.new_id,
                    "sha256": edit.sha256,
                }
                for edit in self.edits
            ]
        )
