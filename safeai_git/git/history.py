"""Which commits lie between two points, where two lines of history part, and what merging them gives.

libgit2 walks the objects alone: no grafts, no replace refs, no commit-graph file (`store`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from safeai_git.core.errors import HistoryTooShallow, ObjectMissing, RepositoryError
from safeai_git.git.extent import require_mergeable
from safeai_git.git.libgit2 import Libgit2Store
from safeai_git.git.native import SortMode, pygit2
from safeai_git.git.plumbing import GitFailed
from safeai_git.git.repository import Repository
from safeai_git.git.store import read_commit

_MOST_FORKS = 16

TOO_SHALLOW_HINT = "run 'git fetch --unshallow' (GitHub Actions: 'fetch-depth: 0' at actions/checkout)"


def _merging(repository: Repository) -> pygit2.Repository:
    store = repository.store
    if not isinstance(store, Libgit2Store):
        raise RepositoryError(
            f"histories cannot be walked in a repository of format {repository.object_format} yet",
            hint="staged changes can be checked there",
        )
    return store.merging_repository()


def _oid(name: str) -> pygit2.Oid:
    return pygit2.Oid(hex=name)


def commits_between(repository: Repository, base: str, head: str) -> list[str]:
    """The commits reachable from `head` and not from `base` (empty: from nothing), parents first.

    Raises:
        HistoryTooShallow: A parent of one of them was never fetched.
    """
    return new_commits(repository, head, [base] if base else [])


def new_commits(repository: Repository, head: str, known: Sequence[str]) -> list[str]:
    """The commits reachable from `head` and from none of the known ones, parents first.

    Raises:
        HistoryTooShallow: A parent of one of them was never fetched.
    """
    objects = _merging(repository)
    try:
        walker = objects.walk(_oid(head), SortMode.TOPOLOGICAL | SortMode.REVERSE)
        for name in known:
            walker.hide(_oid(name))
        return [str(commit.id) for commit in walker]
    except pygit2.InvalidError as error:  # a commit without readable authors: git looks at its parents only
        if repository.shallow:  # where git would stop without a word
            raise _incomplete(repository, known[0] if known else "", head) from error
        hidden = [f"^{name}" for name in known]
        wanted = "\n".join([head, *hidden]).encode("ascii") + b"\n"
        listed = repository.git(["rev-list", "--topo-order", "--reverse", "--stdin"], stdin=wanted)
        return listed.decode("ascii").split()
    except (KeyError, pygit2.GitError) as error:
        if repository.shallow:
            return _above_the_cut(repository, head, known)
        raise _incomplete(repository, known[0] if known else "", head) from error


def _above_the_cut(repository: Repository, head: str, known: Sequence[str]) -> list[str]:
    """The new commits of a shallow clone in which all of them are there, and the known ones end where it was cut off.

    A commit that the known ones reach below the cut alone counts as new: too much is judged then, never too little.
    """
    store = repository.store
    hidden = _reached(repository, known)
    found: list[str] = []
    seen: set[str] = set()
    pending = [(head, False)]
    while pending:
        name, parents_done = pending.pop()
        if parents_done:
            found.append(name)
        elif name not in hidden and name not in seen:
            seen.add(name)
            parents = read_commit(store, name).parents
            if not all(map(store.exists, parents)):  # what it changed cannot be said
                raise _incomplete(repository, known[0] if known else "", head)
            pending.append((name, True))
            pending += [(parent, False) for parent in parents]
    return found


def _reached(repository: Repository, tips: Sequence[str]) -> set[str]:
    """The commits that some others reach, themselves included, as far down as they are there."""
    found: set[str] = set()
    pending = list(tips)
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            if repository.store.exists(name):
                pending += read_commit(repository.store, name).parents
    return found


def _incomplete(repository: Repository, base: str, head: str) -> RepositoryError:
    between = f"the commits between {base[:12] or 'the beginning'} and {head[:12]}"
    if repository.shallow:
        return HistoryTooShallow(f"{between} are not all in this shallow clone", hint=TOO_SHALLOW_HINT)
    return ObjectMissing(f"{between} cannot all be read", hint="run 'git fsck --full'")


def merge_bases(repository: Repository, one: str, other: str) -> list[str]:
    """The best common ancestors of two commits; more than one where histories cross.

    Raises:
        HistoryTooShallow: There is none because the clone was cut off above it.
        RepositoryError: The two have nothing in common.
    """
    found = _forks(repository, one, other)
    if found:
        return found
    if repository.shallow:
        raise HistoryTooShallow(
            f"where {one[:12]} and {other[:12]} part lies below this shallow clone", hint=TOO_SHALLOW_HINT
        )
    raise RepositoryError(
        f"{one[:12]} and {other[:12]} have no history in common", hint="choose another base"
    )


def _forks(repository: Repository, one: str, other: str) -> list[str]:
    """The best common ancestors of two commits, also where libgit2 cannot take a commit on the way apart."""
    try:
        return _all_merge_bases(_merging(repository), one, other)
    except pygit2.InvalidError as error:  # as in `new_commits`
        if repository.shallow:
            raise _incomplete(repository, one, other) from error
        return _merge_bases_of_git(repository, one, other)
    except (KeyError, pygit2.GitError) as error:
        if (
            repository.shallow
        ):  # of a commit and its ancestor that is the ancestor, whatever was cut off below
            for ancestor, tip in ((one, other), (other, one)):
                if ancestor in _reached(repository, [tip]):
                    return [ancestor]
        raise _incomplete(repository, one, other) from error


def _merge_bases_of_git(repository: Repository, one: str, other: str) -> list[str]:
    try:
        return sorted(repository.git(["merge-base", "--all", one, other]).decode("ascii").split())
    except GitFailed as error:
        if error.status == 1:  # git-merge-base(1): there is none
            return []
        raise


def _all_merge_bases(objects: pygit2.Repository, one: str, other: str) -> list[str]:
    """Every best common ancestor: libgit2 names one, and each further one is an ancestor of both but not of it.

    A common ancestor is best when no other common ancestor descends from it (git-merge-base(1)).
    """
    first: pygit2.Oid | None = objects.merge_base(_oid(one), _oid(other))
    if first is None:
        return []
    found = [first]
    # Common ancestors that are not ancestors of the ones found: walk both sides with those hidden.
    walker = objects.walk(_oid(one), SortMode.TOPOLOGICAL)
    walker.hide(first)
    ours = {commit.id for commit in walker}
    walker = objects.walk(_oid(other), SortMode.TOPOLOGICAL)
    walker.hide(first)
    shared = [commit.id for commit in walker if commit.id in ours]
    covered: set[Any] = set()
    for candidate in shared:  # children first: whatever an earlier one reaches is no best one
        if candidate in covered:
            continue
        found.append(candidate)
        reach = objects.walk(candidate, SortMode.TOPOLOGICAL)
        reach.hide(first)
        covered |= {commit.id for commit in reach}
    return sorted(str(name) for name in found)


def merged_tree(repository: Repository, ours: str, theirs: str) -> tuple[str, bool]:
    """The tree that merging `theirs` into `ours` gives, and whether that went without conflict.

    Where both sides changed the same lines, the tree holds our side of that path: what was recorded in its place is
    then compared with it and judged as an edit. Attributes and merge drivers have no say.
    """
    objects = _merging(repository)
    _require_mergeable(repository, ours, theirs)
    try:
        try:
            index = objects.merge_commits(_oid(ours), _oid(theirs))
        except pygit2.GitError:  # a commit without readable authors, here or on the way
            index = _merged_by_trees(repository, ours, theirs)
    except (KeyError, pygit2.GitError) as error:
        raise _incomplete(repository, ours, theirs) from error
    try:
        return _write(index, objects)
    except UnicodeDecodeError:  # pygit2 cannot hand out a conflicting path that is not UTF-8
        return read_commit(repository.store, ours).tree, False


def _merged_by_trees(repository: Repository, ours: str, theirs: str) -> pygit2.Index:
    """A merge of commits that libgit2 cannot take apart; their trees are named all the same.

    Raises:
        RepositoryError: They part in several places, which would have to be merged first.
    """
    forks = _forks(repository, ours, theirs)
    if len(forks) > 1:
        raise RepositoryError(
            f"what merging {ours[:12]} and {theirs[:12]} gives cannot be computed: they part in {len(forks)} places, "
            "and a commit between cannot be taken apart",
            hint="'git fsck' names the commit; make it anew, for example with 'git rebase'",
        )
    objects = _merging(repository)
    trees = [read_commit(repository.store, one).tree for one in (*forks, ours, theirs)]
    if not forks:
        trees.insert(0, _empty(objects))
    ancestor, first, second = (_oid(one) for one in trees)
    return objects.merge_trees(ancestor, first, second)


def _require_mergeable(repository: Repository, ours: str, theirs: str) -> None:
    """Refuse what libgit2 would not come back from: trees of trees in either side, or in what both come from.

    It merges several best common ancestors with each other first (git-merge(1), recursive), so these are asked too.
    """
    pairs, asked = [(ours, theirs)], {ours, theirs}
    for one, other in pairs:
        for fork in _forks(repository, one, other):
            if fork not in asked:
                asked.add(fork)
                pairs += [(seen, fork) for seen in asked if seen not in (ours, theirs, fork)]
        if len(asked) > _MOST_FORKS:
            raise RepositoryError(
                f"{ours[:12]} and {theirs[:12]} part in more than {_MOST_FORKS} places",
                hint="rebase one of them onto the other",
            )
    for commit in asked:
        tree = read_commit(repository.store, commit).tree
        require_mergeable(repository.store, tree, repository.extents)


def recomputed_merge(repository: Repository, parents: tuple[str, ...]) -> tuple[str, bool]:
    """The tree that merging all parents in order gives, as `merged_tree` does for two."""
    tree, clean = merged_tree(repository, parents[0], parents[1])
    objects = _merging(repository)
    for parent in parents[2:]:
        base = _first_fork(repository, parents[0], parent)
        for commit in (base, parent) if base else (parent,):
            known = repository.extents
            require_mergeable(repository.store, read_commit(repository.store, commit).tree, known)
        ancestor = read_commit(repository.store, base).tree if base else _empty(objects)
        index = objects.merge_trees(
            _oid(ancestor), _oid(tree), _oid(read_commit(repository.store, parent).tree)
        )
        tree, step_clean = _write(index, objects)
        clean = clean and step_clean
    return tree, clean


def _first_fork(repository: Repository, one: str, other: str) -> str:
    try:
        found = _merging(repository).merge_base(_oid(one), _oid(other))
    except (KeyError, pygit2.GitError):
        return next(iter(_forks(repository, one, other)), "")
    return str(found) if found else ""


def _empty(objects: pygit2.Repository) -> str:
    return str(objects.TreeBuilder().write())


def _write(index: pygit2.Index, objects: pygit2.Repository) -> tuple[str, bool]:
    conflicts = list(index.conflicts or ())
    for ancestor, ours, theirs in conflicts:
        path = next(side.path for side in (ours, theirs, ancestor) if side is not None)
        del cast("Any", index.conflicts)[path]
        if ours is not None:
            index.add(ours)
    try:
        return str(index.write_tree(objects)), not conflicts
    except pygit2.GitError as error:
        raise RepositoryError(f"a merge cannot be computed: {error}", hint="run 'git fsck --full'") from error
