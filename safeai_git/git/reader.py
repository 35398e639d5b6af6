"""Reads proposals: from a commit, from a range, from a patch, and what `facts` reads. The only makers of facts."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from safeai_git.core.attribution import Attribution, Catalogue, Metadata, attribute
from safeai_git.core.edit import Malformation
from safeai_git.core.errors import FormatError, ObjectCorrupt, RepositoryError
from safeai_git.core.message import Message
from safeai_git.core.objects import Commit, Identity
from safeai_git.core.proposal import Kind, Proposal
from safeai_git.core.values import replace
from safeai_git.git.changes import EMPTY_TREE
from safeai_git.git.facts import FactReader, Origin
from safeai_git.git.history import commits_between, merge_bases, merged_tree, recomputed_merge
from safeai_git.git.libgit2 import Libgit2Store
from safeai_git.git.patches import make_scratch
from safeai_git.git.plumbing import GitFailed, run
from safeai_git.git.repository import Repository
from safeai_git.git.store import read_commit
from safeai_git.parallel import in_processes

_LARGEST_UNPACKED = 128 * 1024 * 1024
_BINARY = re.compile(rb"^(?:literal|delta) ([0-9]{1,18})\r?$", re.MULTILINE)

LEAST_OF_A_PROCESS = 40
"""Commits for which another process pays: it takes some 20 ms to start, and a commit nearly one."""


class ProposalReader(FactReader):
    """Reads proposals out of one repository: see `FactReader` for its arguments."""

    def commit(self, name: str) -> Proposal:
        """One commit against its first parent; a merge against the merge that git would have made.

        A commit that cannot be taken apart is a proposal with nothing but that malformation.
        """
        try:
            commit = read_commit(self._store, name)
        except FormatError as error:
            attribution = Attribution("unknown")
            broken = (Malformation(b"", error.message),)
            return Proposal("commit", "", name, "", "", (), attribution, malformed_commit=broken)
        attribution = self.attribution(commit)
        base_commit = commit.parents[0] if commit.parents else ""
        base_tree = read_commit(self._store, base_commit).tree if base_commit else EMPTY_TREE
        kind: Kind = "commit"
        start = base_tree
        if len(commit.parents) > 1:
            kind = "merge"
            start, _ = recomputed_merge(self._repository, commit.parents)
        proposal = self._between(
            kind, start, commit.tree, attribution, base_commit=base_commit, head_commit=name
        )
        problems = tuple(Malformation(b"", problem) for problem in commit.problems)
        return replace(proposal, base_tree=base_tree, malformed_commit=problems)

    def attribution(self, commit: Commit) -> Attribution:
        """Who wrote a commit."""
        return who_wrote(commit, self._catalogue, self._origin)

    def range(self, base: str, head: str) -> Iterator[Proposal]:
        """Everything that has to be judged before `head` may become part of `base`'s branch.

        Each commit; the net change against each merge base; and, where `base` has moved on, what merging would put
        on its branch. The net proposals carry the strongest attribution of the commits.

        Args:
            base: Commit id.
            head: Commit id.
        """
        attributions: list[Attribution] = []
        names = commits_between(self._repository, base, head)
        with closing(in_processes(self._bare, names, LEAST_OF_A_PROCESS)) as each:
            for bare, said in each:
                proposal = bare if said is None else self._whole(bare, *said)
                attributions.append(proposal.attribution)
                yield proposal
        if not attributions:
            return
        who = strongest(attributions)
        head_tree, base_tree = read_commit(self._store, head).tree, read_commit(self._store, base).tree
        bases = merge_bases(self._repository, base, head)
        for fork in bases:
            fork_tree = read_commit(self._store, fork).tree
            yield self._between("net", fork_tree, head_tree, who, base_commit=fork, head_commit=head)
        if bases == [base]:
            return
        tree, clean = merged_tree(self._repository, base, head)
        if clean:
            yield self._between("merge-result", base_tree, tree, who, base_commit=base)

    def _bare(self, name: str) -> tuple[Proposal, tuple[str, bool] | None]:
        """A commit's proposal as it goes from process to process: the agents' catalogue is everywhere already."""
        proposal = self.commit(name)
        said = proposal.attribution.message
        if said is None:
            return proposal, None
        who = replace(proposal.attribution, message=None)
        return replace(proposal, attribution=who), (said.text, said.committed_by_author)

    def _whole(self, bare: Proposal, text: str, committed_by_author: bool) -> Proposal:
        said = Message(text, self._catalogue, committed_by_author)
        return replace(bare, attribution=replace(bare.attribution, message=said))

    def net(self, base: str, head: str, who: Attribution) -> Proposal:
        """Everything that lies between a commit (empty: nothing) and another, as one change by `who`."""
        base_tree = read_commit(self._store, base).tree if base else EMPTY_TREE
        head_tree = read_commit(self._store, head).tree
        return self._between("net", base_tree, head_tree, who, base_commit=base, head_commit=head)

    def patch(self, patch: bytes, base: str, message: str = "") -> Proposal:
        """A patch (``git diff`` or ``git format-patch``) on a commit.

        What is judged is the tree that comes out, never what the patch says about itself. It is applied in a
        temporary repository that has the objects and nothing else of this one.

        Raises:
            RepositoryError: It does not apply.
        """
        base_tree = read_commit(self._store, base).tree
        metadata = Metadata(
            author=self._repository.identity("AUTHOR"),
            message=message,
            branch=self._origin.branch,
            environment=self._origin.environment,
            claimed_agent=self._origin.claimed_agent,
        )
        if isinstance(self._store, Libgit2Store):
            # A replay wants the objects of the patch later on: they stay as long as the store does.
            scratch = self._store.borrow_scratch()
            tree = _apply(self._repository, patch, base_tree, scratch)
            self._store.borrow(scratch / "objects")
            return self._between("patch", base_tree, tree, self._attribute(metadata), base_commit=base)
        with tempfile.TemporaryDirectory(prefix="safeai-patch-") as folder:
            scratch = Path(folder)
            tree = _apply(self._repository, patch, base_tree, scratch)
            objects = replace(self._repository, object_directory=scratch / "objects")
            objects._store = None  # noqa: SLF001 - a copy with a store of its own
            reader = ProposalReader(objects, self._catalogue, self._origin, most_paths=self._most_paths)
            try:
                return reader._between("patch", base_tree, tree, self._attribute(metadata), base_commit=base)
            finally:
                objects.close()


def who_wrote(commit: Commit, catalogue: Catalogue, origin: Origin) -> Attribution:
    """Who wrote a commit, by its own metadata and what is known besides."""
    metadata = Metadata(
        author=_identity(commit.author),
        committer=_identity(commit.committer),
        message=commit.text,
        committed=True,
        branch=origin.branch,
        claimed_agent=origin.claimed_agent,
    )
    return attribute(metadata, catalogue)


def strongest(attributions: list[Attribution]) -> Attribution:
    """The attribution that governs a whole range: AI before mixed before unknown before bot before human."""
    order = ("ai", "mixed", "unknown", "bot", "human")
    chosen = min(attributions, key=lambda one: (order.index(one.author_class), -one.confidence))
    text = [one for each in attributions for one in each.signals if one.kind == "text"]
    more = text if all(one.kind != "text" for one in chosen.signals) else []
    return replace(chosen, signals=(*chosen.signals, *more[:1]), message=None)


def _identity(who: Identity | None) -> tuple[str, str] | None:
    return (who.name.decode("utf-8", "replace"), who.email.decode("utf-8", "replace")) if who else None


def _apply(repository: Repository, patch: bytes, base_tree: str, scratch: Path) -> str:
    make_scratch(repository, scratch)
    unpacked = sum(int(size) for size in _BINARY.findall(patch))
    if unpacked > _LARGEST_UNPACKED:
        raise RepositoryError(
            f"the binary parts of the patch unpack to {unpacked:,} bytes",
            hint=f"{_LARGEST_UNPACKED:,} are read at most",
        )
    here = {"GIT_DIR": os.fspath(scratch), "GIT_INDEX_FILE": os.fspath(scratch / "index")}
    try:
        if base_tree != EMPTY_TREE:
            run(["read-tree", base_tree], cwd=scratch, environ={}, extra=here)
        limited = here | {"GIT_ALLOC_LIMIT": str(_LARGEST_UNPACKED)}  # git, wrapper.c: of one allocation
        run(
            ["apply", "--cached", "--whitespace=nowarn", "-"],
            cwd=scratch,
            environ={},
            stdin=patch,
            extra=limited,
        )
        return run(["write-tree"], cwd=scratch, environ={}, extra=here)[0].decode("ascii").strip()
    except GitFailed as error:
        said = error.stderr.replace("corrupt patch", "")  # that is the patch's fault, not the repository's
        if "corrupt" in said or "missing" in error.stderr.split("error:")[0]:
            raise ObjectCorrupt(f"the base of the patch cannot be read: {error.stderr.strip()}") from error
        raise RepositoryError(
            f"the patch does not apply: {error.stderr.strip()}",
            hint="make it against the revision given by --base",
        ) from error
