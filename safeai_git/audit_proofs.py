"""Proofs and copies out of an ``audit.log``: receipts, consistency, static tiles. Each verifies the log first."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct

from safeai_git.audit import Anchor, Progress, Report, verify_file
from safeai_git.core.errors import LogProofInvalid, StorageError, WrongUse
from safeai_git.core.log import merkle
from safeai_git.core.log.entry import receipt_head
from safeai_git.core.log.hashes import Hashes
from safeai_git.core.log.note import NoteKey
from safeai_git.core.log.proof import LogProof
from safeai_git.core.log.tiles import WIDTH, Tile, bundles_of, content, format_bundle, tiles_of
from safeai_git.core.publickey import PublicKey
from safeai_git.files import write_atomically


@dataclass(slots=True)
class Verified:
    """A log that was verified, with what proofs need. Only `read` makes one.

    Attributes:
        report: What was found.
        hashes: Of all its entries.
        size: How many of them the newest checkpoint covers.
        note: That checkpoint.
    """

    report: Report
    hashes: Hashes
    size: int
    note: bytes


class Bundles:
    """Writes bundles of entries while a log is read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: list[bytes] = []
        self._index = 0

    def add(self, line: bytes) -> None:
        """Take the next entry."""
        self._waiting.append(line)
        if len(self._waiting) == WIDTH:
            _put(self._folder, Tile(-1, self._index), format_bundle(self._waiting))
            self._index += 1
            self._waiting = []

    def end(self, size: int) -> None:
        """Write the partial bundle of a log of a size."""
        for tile in bundles_of(size):
            if tile.width < WIDTH:
                _put(self._folder, tile, format_bundle(self._waiting[: tile.width]))


def read(
    path: Path,
    keys: Sequence[NoteKey | PublicKey],
    anchors: Sequence[Anchor] = (),
    *,
    bundles: Bundles | None = None,
    progress: Progress | None = None,
) -> Verified:
    """Verify a log and keep its hashes.

    Raises:
        LogProofInvalid: It is not in order; nothing is proven out of such a file.
        StorageError: It cannot be read.
    """
    hashes = Hashes()

    def take(line: bytes, leaf: bytes) -> None:
        hashes.append(leaf)
        if bundles is not None:
            bundles.add(line)

    report = verify_file(path, keys=keys, anchors=anchors, progress=progress, sink=take)
    if report.state == "tampered" or report.checkpoint is None:
        why = "; ".join(map(str, report.faults)) or "no signed checkpoint stands in it"
        raise LogProofInvalid(f"{path} is not in order: {why}")
    return Verified(report, hashes, report.committed, report.checkpoint.note)


def prove(log: Verified, index: int, line: bytes) -> LogProof:
    """The receipt of an entry under the newest checkpoint.

    Raises:
        WrongUse: No checkpoint covers it.
    """
    if not 0 <= index < log.size:
        raise WrongUse(f"no checkpoint covers an entry {index}; the newest is over {log.size}")
    path = merkle.inclusion_path(index, log.size, log.hashes.node)
    return LogProof(index, tuple(path), log.note, receipt_head(line))


class Consistency(Struct, frozen=True):
    """A proof that a log of size `old` is the beginning of that of size `new`, with both roots."""

    old: int
    new: int
    old_root: bytes
    new_root: bytes
    path: tuple[bytes, ...]


def consistency(log: Verified, old: int, new: int) -> Consistency:
    """Prove that the log only grew.

    Raises:
        WrongUse: The sizes are the wrong way round, or larger than the log.
    """
    if not 0 <= old <= new <= log.report.size:
        raise WrongUse(
            f"sizes from 0 to {log.report.size} are needed, the smaller one first, not {old} and {new}"
        )
    path = tuple(merkle.consistency_path(old, new, log.hashes.node))
    roots = [merkle.root(size, log.hashes.node) for size in (old, new)]
    merkle.verify_consistency(old, new, path, *roots)
    return Consistency(old, new, roots[0], roots[1], path)


def export_tiles(
    path: Path,
    folder: Path,
    keys: Sequence[NoteKey | PublicKey],
    anchors: Sequence[Anchor] = (),
    *,
    progress: Progress | None = None,
) -> Verified:
    """Write a log as static files that any C2SP client reads: ``checkpoint`` and ``tile/…``.

    The checkpoint is written last, when the tiles are on the disk, so that a reader never finds one without its tiles.

    Raises:
        LogProofInvalid: The log is not in order.
        StorageError: It cannot be read, or the folder cannot be written.
    """
    bundles = Bundles(folder)
    log = read(path, keys, anchors, bundles=bundles, progress=progress)
    bundles.end(log.size)
    for tile in tiles_of(log.size):
        _put(folder, tile, content(tile, log.hashes.node))
    if hasattr(os, "sync"):
        os.sync()  # once, instead of twice for every tile
    write_atomically(folder / "checkpoint", log.note, mode=0o644)
    return log


def _put(folder: Path, tile: Tile, data: bytes) -> None:
    path = folder / tile.path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from error
