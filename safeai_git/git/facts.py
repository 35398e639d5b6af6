"""Reads the proposals that are about to be made: what is staged, and an agent's edit. `reader` adds all others.

Apart from `reader`, since this is what hooks wait for: nothing here walks history, which is libgit2's work.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from safeai_git.core.attribution import Attribution, Catalogue, Metadata, attribute
from safeai_git.core.edit import Edit
from safeai_git.core.policy_parts import GOVERNANCE
from safeai_git.core.proposal import Kind, Proposal
from safeai_git.core.wildmatch import Pattern, PatternSet
from safeai_git.git.changes import EMPTY_TREE, MOST_PATHS, Change, TreeComparer
from safeai_git.git.content import EditReader
from safeai_git.git.repository import Repository
from safeai_git.git.store import read_commit
from safeai_git.git.working import FileEdit, with_file

_GOVERNANCE = PatternSet(Pattern.parse(one) for one in GOVERNANCE)

MANY = 1_000
"""Changed files from which on they are worth a process for each core."""


class Origin(Struct, frozen=True):
    """What the entry point knows about a change besides the objects: see `core.attribution.Metadata`."""

    claimed_agent: str = ""
    branch: str = ""
    environment: frozenset[str] = frozenset()


class FactReader:
    """Reads proposals out of one repository: whatever is about to be made.

    Args:
        repository: An open repository.
        catalogue: The agents.
        origin: What is known besides.
        check: Called between objects; raises `DeadlinePassed` when the time is used up.
        most_paths: How many changed paths are read of one proposal.
    """

    def __init__(
        self,
        repository: Repository,
        catalogue: Catalogue,
        origin: Origin,
        *,
        check: Callable[[], None] = lambda: None,
        most_paths: int = MOST_PATHS,
    ) -> None:
        self._repository = repository
        self._store = repository.store
        self._catalogue = catalogue
        self._origin = origin
        self._most_paths = most_paths
        self.comparer = TreeComparer(self._store, check=check)
        self._edits = EditReader(self.comparer, self._store, check=check)

    def staged(self, message: str = "") -> Proposal:
        """What ``git commit`` would record now, against HEAD.

        Args:
            message: The commit message, where it is known already.
        """
        head = self._repository.head()
        base_tree = read_commit(self._store, head).tree if head else EMPTY_TREE
        metadata = Metadata(
            author=self._repository.identity("AUTHOR"),
            committer=self._repository.identity("COMMITTER"),
            message=message,
            branch=self._origin.branch or self._repository.branch(),
            environment=self._origin.environment,
            claimed_agent=self._origin.claimed_agent,
        )
        return self._between(
            "staged", base_tree, self._repository.staged_tree(), self._attribute(metadata), base_commit=head
        )

    def edited(self, edits: Sequence[FileEdit]) -> Proposal:
        """Changes of files in the working tree, on top of HEAD: what is written before goes to this store."""
        head = self._repository.head()
        base_tree = read_commit(self._store, head).tree if head else EMPTY_TREE
        for one in edits:
            if one.before is not None:
                base_tree = with_file(self._store, base_tree, one.path, one.before)
        metadata = Metadata(
            author=self._repository.identity("AUTHOR"),
            branch=self._origin.branch or self._repository.branch(),
            environment=self._origin.environment,
            claimed_agent=self._origin.claimed_agent,
        )
        tree = base_tree
        for one in edits:
            tree = with_file(self._store, tree, one.path, one.after)
        return self._between("patch", base_tree, tree, self._attribute(metadata), base_commit=head)

    def paths(self, old: str, new: str) -> list[bytes]:
        """The paths that differ between two trees: the first of them, where there are too many, and governance files."""
        found = self.comparer.compare(old, new, most=self._most_paths)
        more = [] if found.complete else self._governance(old, new)
        return [change.path for change in (*found.changes, *more)]

    def between(self, kind: Kind, base_tree: str, tree: str, like: Proposal) -> Proposal:
        """The change from one tree to another, by whoever made another change, and on the same commit."""
        return self._between(kind, base_tree, tree, like.attribution, base_commit=like.base_commit)

    def _governance(self, old: str, new: str) -> list[Change]:
        """What differs of the files that are protected in any change, however much else does (decision 6)."""
        return self.comparer.compare(
            old, new, most=self._most_paths, within=_GOVERNANCE.first_match_folded
        ).changes

    def _attribute(self, metadata: Metadata) -> Attribution:
        return attribute(metadata, self._catalogue)

    def _read(self, changes: Sequence[Change], tree: str) -> Iterator[Edit]:
        if len(changes) < MANY or not self._store.serves_many():
            return (self._edits.edit(change, tree) for change in changes)
        # Loaded here, since hardly a commit changes so many files.
        many: Iterator[Edit] = importlib.import_module("safeai_git.git.many_edits").edits(
            self._edits, changes, tree
        )
        return many

    def _between(
        self,
        kind: Kind,
        base_tree: str,
        tree: str,
        attribution: Attribution,
        *,
        base_commit: str = "",
        head_commit: str = "",
    ) -> Proposal:
        found = self.comparer.compare(base_tree, tree, most=self._most_paths)
        if not found.complete:
            found.changes = self._governance(base_tree, tree)
        self._edits.begin()
        edits = () if found.malformations else self._read(found.changes, tree)
        return Proposal(
            kind=kind,
            base_commit=base_commit,
            head_commit=head_commit,
            base_tree=base_tree,
            tree=tree,
            edits=tuple(sorted(edits, key=lambda edit: edit.path)),
            attribution=attribution,
            malformed_tree=tuple(found.malformations),
            collisions=tuple(found.collisions),
            complete=found.complete,
        )
