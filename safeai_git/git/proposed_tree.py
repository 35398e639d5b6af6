"""The tree that checks run on, for as long as they need it.

Where a check works on an overlay, a kept tree lies at the bottom and what the proposed tree has different is written as
a layer upon it, so that a replay costs what the change costs. Everywhere else, and whenever that cannot be had, the
tree is written whole into scratch, in memory where there is some: copying a kept tree would take longer.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec import Struct

from safeai_git.core.errors import ObjectCorrupt, ObjectMissing, StorageError
from safeai_git.git.materialise import materialise, write_plan
from safeai_git.git.store import ObjectStore
from safeai_git.git.tree_cache import Entry, TreeCache, default_place
from safeai_git.git.tree_layer import survey_difference
from safeai_git.git.tree_plan import Materialised, Plan, TreeLimits, survey
from safeai_git.sandbox.layout import closed_folder
from safeai_git.sandbox.scratch import remove_tree, scratch_directory

LEAST_LAYER = 1_200
"""What a layer may always bring and hide, folders counted: 250 changed files in as many folders come to 1,000. It may be a
tenth of the tree, too."""
_TRIED = 2


class Laid(Struct, frozen=True):
    """A tree that is ready.

    Attributes:
        tree: All of it, or the uppermost layer.
        below: Layers below that, the next one first; none of them may be written.
        written: What the whole tree holds.
    """

    tree: Path
    below: tuple[Path, ...]
    written: Materialised


@contextmanager
def proposed_tree(
    store: ObjectStore,
    tree_id: str,
    *,
    repository: Path,
    layered: bool,
    owner: tuple[int, int] | None,
    environ: Mapping[str, str] | None = None,
) -> Iterator[Laid]:
    """Lay a tree out, and take away afterwards what is not kept.

    Args:
        store: The objects.
        tree_id: Name of the tree, in hex.
        repository: Its folder.
        layered: Whether the layers can be shown as one tree that is written elsewhere.
        owner: User and group that checks run as outside; ``None`` for the caller.
        environ: Where places are looked up; by default the process's own.

    Raises:
        FormatError, CouldNotDecide, StorageError, ObjectMissing, ObjectCorrupt: As `materialise`.
    """
    with scratch_directory(environ=environ) as scratch, ExitStack() as stack:
        place = default_place(os.environ if environ is None else environ) if layered else None
        if place is not None and (owner is None or closed_folder(place / "entry") is None):
            laying = _Laying(store, TreeCache(place, repository, owner), scratch / "tree", stack)
            with _uncollected():
                laid = laying.laid(tree_id)
            if laid is not None:
                yield laid
                return
        tree = scratch / "whole"
        with _uncollected():
            written = materialise(store.read, tree_id, tree, size=store.size, shared=store.serves_many)
        yield Laid(tree, (), written)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without looking for garbage in circles: a plan has none, and looking through all of it takes its time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


class _Laying:
    """Tries to lay a tree out in layers.

    Args:
        store: The objects.
        cache: The kept trees.
        layer: Where the layer is written.
        stack: Gets what holds the kept tree.
    """

    def __init__(self, store: ObjectStore, cache: TreeCache, layer: Path, stack: ExitStack) -> None:
        self._store = store
        self._cache = cache
        self._layer = layer
        self._stack = stack

    def laid(self, tree_id: str) -> Laid | None:
        """The tree in layers, or ``None`` where that is not to be had."""
        known = self._cache.recent()
        if tree_id in known and (entry := self._stack.enter_context(self._cache.hold(tree_id))):
            return self._upon(entry, Plan.empty(), entry.holds)
        for other in known[:_TRIED]:
            if (laid := self._from(other, tree_id)) is not None:
                return laid
        plan = survey(self._store.read, tree_id, self._store.size, TreeLimits(), self._store.serves_many)
        if not self._cache.has_room(plan):
            return None
        try:
            self._cache.add(tree_id, plan, self._store.read, self._store.serves_many)
        except StorageError:
            return None
        entry = self._stack.enter_context(self._cache.hold(tree_id))
        return None if entry is None else self._upon(entry, Plan.empty(), entry.holds)

    def _from(self, other: str, tree_id: str) -> Laid | None:
        with ExitStack() as held:
            entry = held.enter_context(self._cache.hold(other))
            if entry is None:
                return None
            most = max(LEAST_LAYER, entry.holds.entries // 10)
            try:
                found = survey_difference(
                    self._store.read, other, tree_id, self._store.size, TreeLimits(), entry.holds, most
                )
            except (
                ObjectMissing,
                ObjectCorrupt,
            ):  # of the other tree, perhaps: it need not be there any more
                return None
            if found is None:
                return None
            plan, whole = found
            try:
                laid = self._upon(entry, plan, whole)
            except StorageError:
                remove_tree(self._layer)
                return None
            self._stack.push(held.pop_all())
            return laid

    def _upon(self, entry: Entry, plan: Plan, whole: Materialised) -> Laid:
        write_plan(
            self._store.read,
            plan,
            self._layer,
            what=f"the layer upon {entry.tree_id}",
            shared=self._store.serves_many,
        )
        self._cache.used(entry)
        return Laid(self._layer, (entry.tree,), whole)
