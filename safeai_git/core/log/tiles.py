"""How a log is served: C2SP tlog-tiles. Paths, which tiles a size has, and what is in them.

A tile of level L holds up to 256 hashes, each over 256^L leaves; its width is 256 unless it is the last one. Level 1 and
above hold hashes of full tiles only. A bundle holds the entries of one level-0 tile, each behind its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msgspec import Struct

from safeai_git.core.errors import FormatError
from safeai_git.core.log.merkle import HASH_BYTES, Nodes, node_hash

WIDTH = 256
HEIGHT = 8
MAX_ENTRY = 65_535
"""An entry's length is a uint16."""

MAX_LEVEL = 7
"""Of a log with fewer than 2^63 entries; C2SP writes up to 63."""

_PATH = re.compile(
    r"tile/(?:(entries)|([0-9]|[1-5][0-9]|6[0-3]))/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?"
)


class Tile(Struct, frozen=True):
    """The name of a tile, or of a bundle of entries.

    Attributes:
        level: 0 to 63, or -1 for a bundle of entries.
        index: From 0.
        width: 1 to 256; below 256 the tile is partial.
    """

    level: int
    index: int
    width: int = WIDTH

    def path(self) -> str:
        """The path below the log's prefix."""
        kind = "entries" if self.level < 0 else str(self.level)
        digits = f"{self.index % 1000:03d}"
        rest = self.index // 1000
        while rest:
            digits = f"x{rest % 1000:03d}/{digits}"
            rest //= 1000
        return f"tile/{kind}/{digits}" + ("" if self.width == WIDTH else f".p/{self.width}")

    @classmethod
    def parse(cls, path: str) -> Tile:
        """The inverse of `path`.

        Raises:
            FormatError: No path of a tile, or another spelling of one.
        """
        found = _PATH.fullmatch(path)
        if found is None or len(path) > 64:
            raise FormatError(f"not the path of a tile: {path[:80]!a}")
        level = -1 if found[1] else int(found[2])
        tile = cls(level, int(found[3].replace("/", "").replace("x", "")), int(found[4] or WIDTH))
        if tile.path() != path or tile.width > WIDTH:
            raise FormatError(f"the path of that tile is {tile.path()}, not {path[:80]!a}")
        return tile

    def is_in(self, size: int) -> bool:
        """Whether a log of a size has at least this much of the tile."""
        return (self.index * WIDTH + self.width) << (HEIGHT * max(self.level, 0)) <= size


def tiles_of(size: int) -> Iterator[Tile]:
    """Every tile that a log of a size serves, level by level: the full ones, and the partial one at the edge."""
    level = 0
    while (hashes := size >> (HEIGHT * level)) > 0:
        yield from (Tile(level, index) for index in range(hashes // WIDTH))
        if hashes % WIDTH:
            yield Tile(level, hashes // WIDTH, hashes % WIDTH)
        level += 1


def bundles_of(size: int) -> Iterator[Tile]:
    """Every bundle of entries that a log of a size serves."""
    yield from (Tile(-1, index) for index in range(size // WIDTH))
    if size % WIDTH:
        yield Tile(-1, size // WIDTH, size % WIDTH)


def content(tile: Tile, nodes: Nodes) -> bytes:
    """The bytes of a tile of hashes."""
    begin = tile.index * WIDTH
    return b"".join(nodes(HEIGHT * tile.level, at) for at in range(begin, begin + tile.width))


def tile_root(tile: bytes) -> bytes:
    """The hash of a full tile: an element of the tile above it.

    Raises:
        ValueError: The tile is not full.
    """
    return _within(tile, WIDTH, 0, HEIGHT)


def node_in(tile: bytes, level: int, index: int) -> bytes:
    """A complete subtree inside a tile: 2^level of its elements from index·2^level on; level 0 to 8.

    Raises:
        ValueError: The tile does not hold all of them.
    """
    return _within(tile, 1 << level, index << level, level)


def _within(tile: bytes, width: int, begin: int, level: int) -> bytes:
    row = [
        tile[at : at + HASH_BYTES]
        for at in range(begin * HASH_BYTES, (begin + width) * HASH_BYTES, HASH_BYTES)
    ]
    if len(row[-1]) != HASH_BYTES:
        raise ValueError("the tile is not wide enough")
    for _ in range(level):
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


def format_bundle(entries: Iterable[bytes]) -> bytes:
    """Write a bundle: each entry behind its length, a big-endian uint16.

    Raises:
        FormatError: An entry is longer than 65,535 bytes.
    """
    parts: list[bytes] = []
    for entry in entries:
        if len(entry) > MAX_ENTRY:
            raise FormatError(f"an entry has at most {MAX_ENTRY:,} bytes, not {len(entry):,}")
        parts += (len(entry).to_bytes(2, "big"), entry)
    return b"".join(parts)


def parse_bundle(data: bytes) -> list[bytes]:
    """Read a bundle, the inverse of `format_bundle`.

    Raises:
        FormatError: It ends in the middle of an entry.
    """
    entries: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if at + 2 > len(data) or end > len(data):
            raise FormatError(f"the bundle ends in the middle of entry {len(entries)}")
        entries.append(data[at + 2 : end])
        at = end
    return entries
