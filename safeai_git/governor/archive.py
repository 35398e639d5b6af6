"""An archive of a log: its lines in compressed segments, in a folder or an object store.

A segment is a run of the log's own bytes from one commit line to a later one, as a zstd frame; all of them behind each
other are the beginning of ``audit.log``, byte for byte, so that whatever verifies the file verifies the archive
(``zstd -dc audit.log.*.zst`` gives it back). Segments are written once and never changed; the log itself is only read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import zstandard

from safeai_git.audit import Anchor, Progress, chunks
from safeai_git.audit_proofs import read
from safeai_git.core.display import safe_text
from safeai_git.core.errors import FormatError, LogProofInvalid, StorageError, WrongUse
from safeai_git.core.log.chain import is_commit, lines_of
from safeai_git.core.log.entry import taken_apart
from safeai_git.core.log.note import NoteKey
from safeai_git.core.publickey import PublicKey
from safeai_git.files import read_bounded, sync_folder, write_atomically

SEGMENT_BYTES = 16 << 20
"""A segment ends with the first commit line past so many bytes of the log."""

MOST_COMPRESSED = 256 << 20
"""Bytes of a segment as it is kept; ours are far smaller."""

_LEVEL = 9
_WINDOW = 1 << 23
_NAME = re.compile(r"audit\.log\.([0-9]{12,19})-([0-9]{12,19})\.zst")
_PIECE = 1 << 20


class Place(Protocol):
    """Where segments are kept."""

    def names(self) -> list[str]:
        """What is there, by name.

        Raises:
            StorageError: It cannot be told.
        """

    def get(self, name: str) -> bytes:
        """The content of one, at most `MOST_COMPRESSED` bytes.

        Raises:
            StorageError: It cannot be read, or is larger.
        """

    def put(self, name: str, data: bytes) -> None:
        """Keep one; durable when this returns. One that is there already is never overwritten.

        Raises:
            StorageError: It could not be kept.
        """


class Folder:
    """A folder of this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        """As `Place`; nothing where the folder is missing."""
        try:
            return [one.name for one in self._path.iterdir()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageError(f"{self._path} cannot be read: {error.strerror or error}") from error

    def get(self, name: str) -> bytes:
        """As `Place`."""
        try:
            data = read_bounded(self._path / name, MOST_COMPRESSED)
        except OSError as error:
            raise StorageError(f"{self._path / name} cannot be read: {error.strerror or error}") from error
        if len(data) > MOST_COMPRESSED:
            raise StorageError(f"{self._path / name} is larger than any segment")
        return data

    def put(self, name: str, data: bytes) -> None:
        """As `Place`."""
        path = self._path / name
        if path.exists() and self.get(name) != data:
            raise StorageError(f"{path} is there already, with another content")
        write_atomically(path, data, mode=0o644)


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """A segment, by the entries that it holds.

    Attributes:
        first, last: Numbers of entries.
    """

    first: int
    last: int

    @property
    def name(self) -> str:
        """Its name; in the order of names, segments are in the order of the log."""
        return f"audit.log.{self.first:012d}-{self.last:012d}.zst"


def segments_of(place: Place) -> list[Segment]:
    """The segments of an archive, in order.

    Raises:
        StorageError: It cannot be read, or one is missing or doubled: then nobody knows what the archive says.
    """
    found = (_NAME.fullmatch(name) for name in place.names())
    segments = sorted(Segment(int(one[1]), int(one[2])) for one in found if one)
    due = 0
    for one in segments:
        if one.first != due or one.last < one.first:
            raise StorageError(
                f"the archive is not whole: after entry {due - 1} comes {one.name}",
                hint=f"the segment that begins with entry {due} has to be put back",
            )
        due = one.last + 1
    return segments


def archive_log(
    log: Path,
    place: Place,
    keys: Sequence[NoteKey | PublicKey],
    anchors: Sequence[Anchor],
    *,
    segment_bytes: int = SEGMENT_BYTES,
    progress: Progress | None = None,
) -> tuple[list[Segment], int]:
    """Verify a log, and bring what an archive lacks of it, up to the log's newest commit line.

    Each segment is read back and compared. A run that was broken off is taken up by the next.

    Returns:
        The segments that were written, and how many entries the archive holds now.

    Raises:
        LogProofInvalid: The log is not in order, or the archive's last segment is not part of it.
        StorageError: Something cannot be read or written.
    """
    verified = read(log, keys, anchors, progress=progress)
    there = segments_of(place)
    if there and there[-1].last >= verified.size:
        raise LogProofInvalid(
            f"the archive holds {there[-1].last + 1} entries, and {log} has {verified.size} under its newest checkpoint: "
            "the log was cut off, or is an older copy"
        )
    written: list[Segment] = []
    for segment, data in _cut(log, there, verified.size, segment_bytes):
        if segment in there:
            if segment == there[-1] and b"".join(expanded(place.get(segment.name), segment.name)) != data:
                raise LogProofInvalid(f"{segment.name} of the archive is not what {log} holds there")
            continue
        packed = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(data)
        place.put(segment.name, packed)
        if place.get(segment.name) != packed:
            raise StorageError(f"{segment.name} does not come back as it was written")
        written.append(segment)
    held = written or there
    return written, held[-1].last + 1 if held else 0


def _cut(log: Path, there: list[Segment], size: int, most: int) -> Iterator[tuple[Segment, bytes]]:
    """A log's segments, those that are archived and those that follow; only whole batches under a commit line."""
    ends = {one.last for one in there}
    archived = there[-1].last if there else -1
    first = count = length = 0
    lines: list[bytes] = []
    for line in lines_of(chunks(log, None)):
        if not is_commit(line.data):
            if count == size:
                return
            count += 1
        if first > archived or (there and first == there[-1].first):
            lines.append(line.data + b"\n")  # of older ones the bytes are not needed
        length += len(line.data) + 1
        known = count - 1 <= archived
        if is_commit(line.data) and (count - 1 in ends if known else length >= most or count == size):
            yield Segment(first, count - 1), b"".join(lines)
            first, length, lines = count, 0, []


def expanded(data: bytes, name: str) -> Iterator[bytes]:
    """A segment's bytes, in pieces: a small frame that would become a large one fills no memory.

    Raises:
        FormatError: It is no zstd frame, or damaged.
    """
    done = 0
    try:
        with zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(data) as stream:
            while piece := stream.read(_PIECE):
                done += len(piece)
                yield piece
        whole = zstandard.frame_content_size(data) == done
    except zstandard.ZstdError as error:
        raise FormatError(f"{name} cannot be expanded: {safe_text(str(error))}") from None
    if not whole:  # what is cut off expands to less, without an error
        raise FormatError(f"{name} is cut off")


class Archived:
    """An archive, and the live file behind it if there is one, read as one log (`safeai_git.audit.Source`).

    Args:
        place: The archive.
        live: The log that goes on where the archive ends: all of it from entry 0, or what follows.
    """

    def __init__(self, place: Place, live: Path | None = None) -> None:
        self._place = place
        self._live = live

    def __str__(self) -> str:
        return "the archive" + (f" and {self._live}" if self._live else "")

    def chunks(self, progress: Progress | None) -> Iterator[bytes]:
        """The bytes, in order.

        Raises:
            LogProofInvalid: The live file begins otherwise than the archive, or ends before it.
            FormatError: A segment is damaged.
            StorageError: Something cannot be read.
        """
        digest, length = sha256(), 0
        for segment in segments_of(self._place):
            for piece in expanded(self._place.get(segment.name), segment.name):
                digest.update(piece)
                length += len(piece)
                yield piece
        if self._live is None:
            return
        left = length if _begins_at_zero(self._live) else 0
        same = sha256() if left else digest
        for piece in chunks(self._live, progress):
            rest = piece[left:]
            if left:
                same.update(piece[:left])
                left -= min(left, len(piece))
            if not left and same.digest() != digest.digest():
                raise LogProofInvalid(
                    f"{self._live} begins otherwise than the archive: one of the two was changed"
                )
            yield rest
        if left:
            raise LogProofInvalid(
                f"{self._live} ends before the archive does: it was cut off, or is an older copy"
            )


def _begins_at_zero(log: Path) -> bool:
    first = next(lines_of(chunks(log, None)), None)
    try:
        return first is not None and taken_apart(first.data).group(1) == b"0"
    except FormatError:
        return True  # damage, which the comparison finds


def restore(place: Place, to: Path) -> int:
    """Write an archive's log into a new file; how many bytes. Nothing is verified by that.

    Raises:
        WrongUse: The file is there already.
        StorageError, FormatError: It cannot be read or written; no half file is left.
    """
    if to.exists():
        raise WrongUse(f"{to} is there already", hint="name a new file")
    part, done = to.with_name(to.name + ".part"), 0
    try:
        with part.open("wb") as target:
            for piece in Archived(place).chunks(None):
                done += target.write(piece)
            target.flush()
            os.fsync(target.fileno())
        part.rename(to)
        sync_folder(to.parent)
    except OSError as error:
        raise StorageError(f"{to} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink()
    return done
