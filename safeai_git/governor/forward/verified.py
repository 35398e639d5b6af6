"""Batches of records that a signed checkpoint vouches for: read to the checkpoint and verified first, then read again and sent.

Between the two readings only leaf hashes are kept, 32 bytes an entry, so memory is bounded however far the next checkpoint
is; what is read the second time has to be what was verified, line by line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from safeai_git.core.errors import FormatError, LogProofInvalid, WrongUse
from safeai_git.core.log.chain import Chain, Line, is_commit
from safeai_git.core.log.checkpoint import OpenedCheckpoint
from safeai_git.core.log.merkle import HASH_BYTES, leaf_hash
from safeai_git.core.log.note import NoteKey
from safeai_git.governor.forward.cursor import Position
from safeai_git.governor.forward.records import Record
from safeai_git.governor.forward.source import Source
from safeai_git.keys.ed25519 import verify

MOST_RECORDS = 500
MOST_BYTES = 1 << 20
"""Of entries in one batch, which is what one request or connection carries."""

_RUN = 2_000
"""Entries after which the reading ahead stops at the next checkpoint."""

_UNTOUCHED = "nothing more is forwarded; run 'safeai audit --verify', and see 'Fork detected' in docs/deploy/runbooks.md"


@dataclass(frozen=True, slots=True)
class Batch:
    """Records to be sent together.

    Attributes:
        before: Where they begin.
        records: At least one; the last one may be the checkpoint that vouches for all of them.
        ends: For each entry where its line ends and how long it is, as `Position` has it.
        checkpoint: That checkpoint.
    """

    before: Position
    records: tuple[Record, ...]
    ends: tuple[tuple[int, int], ...]
    checkpoint: OpenedCheckpoint

    def first(self, count: int) -> Batch:
        """The first so many records."""
        return Batch(self.before, self.records[:count], self.ends[:count], self.checkpoint)

    def rest(self, count: int) -> Batch:
        """The others; they begin where `first` ends."""
        return Batch(self.first(count).after, self.records[count:], self.ends[count:], self.checkpoint)

    @property
    def after(self) -> Position:
        """Where they end."""
        sent = self.records[: len(self.ends)]
        if not sent:
            return self.before
        return self.before.after([one.hash for one in sent], sent[-1].time, *self.ends[-1])


class Reader:
    """Reads a log from a position on.

    Args:
        source: The log.
        origin: Its name.
        keys: Its keys, from a source that is trusted.
    """

    def __init__(self, source: Source, origin: str, keys: tuple[NoteKey, ...]) -> None:
        self.origin = origin
        self._source = source
        self._keys = keys

    def found(self, position: Position) -> Position:
        """The position, with its offset in the file as it is now.

        Raises:
            LogProofInvalid: The log does not lead there: it is shorter than it was, or another one.
            StorageError: It cannot be read.
        """
        if self._source.holds(position):
            return position
        there = self.at(position.next)
        if there.last != position.last or there.frontier.root() != position.frontier.root():
            raise LogProofInvalid(
                f"{self._source} is not the log of which {position.next} entries were forwarded: entry "
                f"{position.next - 1} is another one",
                hint=_UNTOUCHED,
            )
        return there

    def at(self, index: int, *, chosen: bool = False) -> Position:
        """The position before an entry, by verifying everything before it.

        Args:
            index: The entry; it need not be there yet.
            chosen: Somebody asked for it; else so many were forwarded.

        Raises:
            LogProofInvalid: The log is not in order, or ends before what was forwarded.
            WrongUse: It ends before what was asked for.
            StorageError: It cannot be read.
        """
        position = Position()
        if not index:
            return position
        chain = self._chain(position)
        for line in self._source.lines(position):
            if not line.ended:
                break
            if is_commit(line.data):
                self._checked(chain, line)
                continue
            leaf = self._checked(chain, line)
            if chain.size == index:
                length = len(line.data) + 1
                return Position(chain.frontier, leaf, chain.time, line.offset + length, length)
        if chosen:
            raise WrongUse(
                f"{self._source} holds {chain.size} entries: there is nothing before an entry {index}"
            )
        raise LogProofInvalid(
            f"{self._source} holds {chain.size} entries, and {index} were forwarded: it was rolled back, or is an older copy",
            hint=_UNTOUCHED,
        )

    def batches(self, position: Position) -> Iterator[Batch]:
        """What can be sent now, in order.

        Raises:
            LogProofInvalid: The log is not in order.
            StorageError: It cannot be read.
        """
        while (run := self._run(position)) is not None:
            leaves, opened = run
            for batch in self._again(position, leaves, opened):
                position = batch.after
                yield batch

    def _chain(self, position: Position) -> Chain:
        frontier = position.frontier.copy()
        return Chain(
            self.origin,
            self._keys,
            verify,
            frontier,
            _prev=position.prev.encode(),
            _time=position.time.encode(),
        )

    def _checked(self, chain: Chain, line: Line) -> bytes:
        """Take a line; the leaf hash of an entry."""
        try:
            if is_commit(line.data):
                chain.commit(line.data)
                return b""
            return chain.entry(line.data)[2]
        except (FormatError, LogProofInvalid) as error:
            raise LogProofInvalid(
                f"{self._source} is not in order where entry {chain.size} is due: {error.message}",
                hint=f"the log's keys are those of --key, or of keys/ beside it, and of SAFEAI_LOG_KEYS; if they are: {_UNTOUCHED}",
            ) from None

    def _run(self, position: Position) -> tuple[bytes, OpenedCheckpoint] | None:
        """Read on to a checkpoint: the leaf hashes up to it; ``None`` where no newer one is there yet."""
        chain = self._chain(position)
        leaves = bytearray()
        newest: OpenedCheckpoint | None = None
        for line in self._source.lines(position):
            if not line.ended:
                break  # its writer is not done
            try:
                leaf = self._checked(chain, line)
            except LogProofInvalid:
                if newest is None:
                    raise
                break  # what stands before it is sent first
            leaves += leaf
            if leaf or chain.size == position.next:
                continue
            newest = chain.checkpoint
            if len(leaves) >= _RUN * HASH_BYTES:
                break
        if newest is None:
            return None
        return bytes(leaves[: (newest.checkpoint.size - position.next) * HASH_BYTES]), newest

    def _again(self, position: Position, leaves: bytes, opened: OpenedCheckpoint) -> Iterator[Batch]:
        size = opened.checkpoint.size
        records: list[Record] = []
        ends: list[tuple[int, int]] = []
        bytes_there = 0
        before = position
        due = position.next
        for line in self._source.lines(position):
            if is_commit(line.data):
                continue
            at = (due - position.next) * HASH_BYTES
            leaf = leaves[at : at + HASH_BYTES]
            if not line.ended or leaf_hash(line.data) != leaf:
                raise LogProofInvalid(
                    f"entry {due} of {self._source} is not any more what was verified a moment ago",
                    hint=_UNTOUCHED,
                )
            records.append(Record.of_entry(self.origin, line.data, leaf, size))
            ends.append((line.offset + len(line.data) + 1, len(line.data) + 1))
            bytes_there += len(line.data)
            due += 1
            if due == size:
                records.append(Record.of_checkpoint(opened, records[-1].time))
            if due == size or len(records) >= MOST_RECORDS or bytes_there >= MOST_BYTES:
                batch = Batch(before, tuple(records), tuple(ends), opened)
                yield batch
                before, bytes_there = batch.after, 0
                records.clear()
                ends.clear()
            if due == size:
                return
        raise LogProofInvalid(f"{self._source} ended at entry {due} while it was read", hint=_UNTOUCHED)


def check_key(origin: str, keys: tuple[NoteKey, ...]) -> None:
    """Forwarding takes nobody's own word for a key.

    Raises:
        WrongUse: None was named, and none lies beside the log.
    """
    if not keys:
        raise WrongUse(
            f"nobody but the log {origin} itself says which key it is signed with",
            hint="name the log's key: --key FILE, or --key VKEY as the Governor's first line says it",
        )
