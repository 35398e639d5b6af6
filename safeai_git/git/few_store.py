"""Objects for a question that most often needs few of them: the first through git, the others through libgit2.

Loading libgit2 takes longer than asking git for some hundred objects, and reads thousands much faster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from safeai_git.core.errors import ObjectCorrupt, ObjectMissing
from safeai_git.git.store import CatFileStore, ObjectStore

Answer = TypeVar("Answer")

FEW = 400
"""Questions that git is asked."""


class FewStore:
    """An `ObjectStore` that changes from one to the other; both verify what they read.

    Args:
        few: Is asked first.
        many: Opens the other one.
    """

    def __init__(self, few: CatFileStore, many: Callable[[], ObjectStore]) -> None:
        self.hash_size = few.hash_size
        self._few = few
        self._open = many
        self._many: ObjectStore | None = None
        self._asked = 0

    def _ask(self, question: Callable[[ObjectStore], Answer]) -> Answer:
        self._asked += 1
        if self._many is None and self._asked <= FEW:
            try:
                return question(self._few)
            except (ObjectMissing, ObjectCorrupt):
                # The other says it more exactly: in a partial clone git ends when it would have to fetch.
                pass
        if self._many is None:
            self._many = self._open()
        return question(self._many)

    def read(self, name: str) -> tuple[str, bytes]:
        """See `ObjectStore.read`."""
        return self._ask(lambda store: store.read(name))

    def header(self, name: str) -> tuple[str, int]:
        """See `ObjectStore.header`."""
        return self._ask(lambda store: store.header(name))

    def size(self, name: str) -> int:
        """See `ObjectStore.size`."""
        return self.header(name)[1]

    def exists(self, name: str) -> bool:
        """See `ObjectStore.exists`."""
        return self._ask(lambda store: store.exists(name))

    def write(self, kind: str, data: bytes) -> str:
        """See `ObjectStore.write`."""
        return self._few.write(kind, data)

    def serves_many(self) -> bool:
        """See `ObjectStore.serves_many`."""
        if self._many is None:
            self._many = self._open()
        return self._many.serves_many()

    def close(self) -> None:
        """See `ObjectStore.close`."""
        self._few.close()
        if self._many is not None:
            self._many.close()
