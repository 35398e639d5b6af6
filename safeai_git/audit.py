"""Verifies an ``audit.log``, the one of a Governor or any copy of it, with nothing but the file and keys.

Says to which entry the file is consistent in itself, and up to which it is *anchored*: the same as a checkpoint that was
kept elsewhere says. Without an anchor from outside nobody can exclude that its end was cut off, or that whoever holds the
key wrote it anew; a report never claims more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from msgspec import Struct

from safeai_git.audit_signatures import DoesNotHold, EntrySignatures
from safeai_git.core.errors import FormatError, LogProofInvalid, StorageError
from safeai_git.core.log.chain import Chain, Line, holds_valid_commit, is_commit, is_entry, lines_of
from safeai_git.core.log.checkpoint import Checkpoint, OpenedCheckpoint, open_checkpoint
from safeai_git.core.log.entry import Entry, taken_apart
from safeai_git.core.log.ids import Ids
from safeai_git.core.log.note import COSIGNATURE, ED25519, Note, NoteKey
from safeai_git.core.log.policy import WitnessPolicy
from safeai_git.core.publickey import PublicKey
from safeai_git.core.values import replace
from safeai_git.keys.ed25519 import verify

CHUNK = 1 << 20
MOST_SUSPECTS = 10_000

Progress = Callable[[int, int], None]
"""Is told how many bytes of how many are read."""


class Source(Protocol):
    """A log that does not lie in one file."""

    def chunks(self, progress: Progress | None) -> Iterator[bytes]:
        """Its bytes from the beginning, in pieces; each call begins anew."""


Sink = Callable[[bytes, bytes], None]
"""Is given each entry's bytes and leaf hash, in order."""


class Anchor(Struct, frozen=True):
    """A checkpoint that was kept somewhere.

    Attributes:
        source: Where, for messages.
        note: Its bytes.
        outside: Whether it was handed in; the one beside the log is worth less.
    """

    source: str
    note: bytes
    outside: bool = True


class Fault(Struct, frozen=True):
    """What is wrong, and where.

    Attributes:
        message: A sentence.
        line: The first bad line, from 1; 0 when no single line is to blame.
        offset: Where it begins, in bytes.
        index: The entry that is due there.
    """

    message: str
    line: int = 0
    offset: int = 0
    index: int = 0

    def __str__(self) -> str:
        if not self.line:
            return self.message
        return f"line {self.line} (byte {self.offset}, entry {self.index} is due): {self.message}"


State = Literal["consistent", "torn", "tampered"]


@dataclass(slots=True)
class Report:
    """What a verification found.

    Attributes:
        origin: The log's name.
        keys: The keys that its checkpoints were held against.
        keys_claimed: The keys are the log's own word: nobody else vouched for them.
        size: Entries that are consistent with each other.
        committed: How many of them a signed checkpoint of the file covers.
        commits: How many such checkpoints there are.
        checked: Signatures of envelopes that were checked.
        unknown: Signatures by keys that the log does not name.
        anchors: The anchors that the file agrees with: source, size, whether from outside.
        witnessed: Up to where witnesses vouch for the file, by the policy that was given; ``None`` where none was.
        state: ``torn`` means that the end looks like the middle of a write.
        faults: Why it is not consistent.
    """

    origin: str
    keys: tuple[NoteKey, ...]
    keys_claimed: bool
    size: int = 0
    committed: int = 0
    commits: int = 0
    checked: int = 0
    unknown: int = 0
    anchors: list[tuple[str, int, bool]] = field(default_factory=list)
    state: State = "consistent"
    faults: list[Fault] = field(default_factory=list)
    checkpoint: OpenedCheckpoint | None = None
    witnessed: int | None = None

    @property
    def anchored(self) -> int:
        """Up to where an anchor from outside vouches for the file."""
        return max((size for _, size, outside in self.anchors if outside), default=0)


def claims(path: Path | Source) -> tuple[str, tuple[NoteKey, ...]]:
    """What a log says of itself in its first entry: its origin and its keys. Nobody vouches for it.

    Returns:
        An empty origin and no keys where the entry does not say.

    Raises:
        StorageError: The file cannot be read.
        FormatError: It is no log at all.
    """
    first = next(lines_of(chunks(path, None)), Line(0, b""))
    if not is_entry(first.data):
        raise FormatError(f"{path} is no audit log: it does not begin with an entry")
    try:
        match Entry.parse(first.data).data():
            case {"origin": str(origin), "keys": list(keys)}:
                return origin, tuple(NoteKey.parse(str(key)) for key in keys)
    except FormatError:
        pass  # damage, which the verification will find and place
    return "", ()


def verify_file(
    path: Path | Source,
    *,
    keys: Sequence[NoteKey | PublicKey] = (),
    anchors: Sequence[Anchor] = (),
    witnesses: WitnessPolicy | None = None,
    progress: Progress | None = None,
    sink: Sink | None = None,
) -> Report:
    """Verify a log.

    Args:
        path: The file, or what gives the same bytes.
        keys: The log's keys, from a source that is trusted; without any, the log's own word is taken and said to be that.
        anchors: Checkpoints that the file must agree with.
        witnesses: An anchor that they cosigned, by this policy, is from outside wherever it lies.
        progress: Told now and then.
        sink: Given each entry that holds so far.

    Raises:
        StorageError: The file cannot be read.
        FormatError: An anchor is none of this log, or the file does not say whose it is.
    """
    note_keys = [key for key in keys if isinstance(key, NoteKey)]
    bare = [key for key in keys if isinstance(key, PublicKey)]
    named = {note_keys[0].name} if note_keys else {_origin(anchor) for anchor in anchors}
    try:
        origin, claimed = claims(path)
    except FormatError:
        if not named:
            raise
        origin, claimed = "", ()
    origin = min(named) if named else origin
    trusted = tuple(note_keys) + tuple(NoteKey(origin, ED25519, key.raw) for key in bare if origin)

    def read(*, together: bool) -> tuple[Report, list[tuple[Anchor, OpenedCheckpoint]]]:
        report = Report(origin, trusted or claimed, not trusted)
        held = _open_anchors(report, anchors, witnesses)
        _Reading(path, report, held, sink, together=together).run(progress)
        return report, held

    try:
        # Who is given the entries that hold is given none behind a signature that does not.
        report, held = read(together=sink is None)
    except DoesNotHold:
        report, held = read(together=False)
    if witnesses is not None:
        agreed = {(source, size) for source, size, _ in report.anchors}
        cosigned = [one for anchor, one in held if (anchor.source, one.checkpoint.size) in agreed]
        sizes = [one.checkpoint.size for one in cosigned if _is_cosigned(one, witnesses)]
        report.witnessed = max(sizes, default=0)
    return report


def _is_cosigned(opened: OpenedCheckpoint, witnesses: WitnessPolicy) -> bool:
    cosigners = [key for key in opened.signers if key.algorithm == COSIGNATURE]
    return bool(cosigners) and witnesses.is_met_by(cosigners)


def _origin(anchor: Anchor) -> str:
    try:
        return Checkpoint.parse(Note.parse(anchor.note).text).origin
    except FormatError as error:
        raise FormatError(f"{anchor.source} is no checkpoint: {error.message}") from None


def _open_anchors(
    report: Report, anchors: Sequence[Anchor], witnesses: WitnessPolicy | None
) -> list[tuple[Anchor, OpenedCheckpoint]]:
    held = []
    known = (*report.keys, *(witnesses.witness_keys() if witnesses else ()))
    for anchor in anchors:
        try:
            opened = open_checkpoint(anchor.note, report.origin, known, verify)
            cosigned = witnesses is not None and _is_cosigned(opened, witnesses)
            held.append((replace(anchor, outside=anchor.outside or cosigned), opened))
        except LogProofInvalid as error:
            if not report.keys_claimed:
                raise FormatError(f"{anchor.source} does not fit this log's key: {error.message}") from None
            message = (
                f"{anchor.source} was not made with the key that this file names as its own: {error.message}. "
                "The file is another log, or was written anew with another key"
            )
            _tampered(report, Fault(message))
    return held


def _tampered(report: Report, fault: Fault) -> None:
    report.state = "tampered"
    report.faults.append(fault)


class _Reading:
    """One pass over a file."""

    def __init__(
        self,
        path: Path | Source,
        report: Report,
        anchors: list[tuple[Anchor, OpenedCheckpoint]],
        sink: Sink | None,
        *,
        together: bool,
    ) -> None:
        self._path = path
        self._report = report
        self._chain = Chain(report.origin, report.keys, verify)
        self._anchors: dict[int, list[tuple[Anchor, OpenedCheckpoint]]] = {}
        for anchor in anchors:
            self._anchors.setdefault(anchor[1].checkpoint.size, []).append(anchor)
        self._sink = sink
        self._ids = Ids(os.urandom(16))
        self._suspects: list[tuple[int, int, str]] = []
        self._signatures = EntrySignatures(together=together)

    def run(self, progress: Progress | None) -> None:
        report, chain = self._report, self._chain
        lines = lines_of(chunks(self._path, progress))
        number = 0
        for number, line in enumerate(lines, 1):
            index = chain.size
            try:
                self._take(line)
            except (FormatError, LogProofInvalid) as error:
                self._signatures.settle()  # one that stands before it is to be told of first
                self._judge_end(Fault(error.message, number, line.offset, index), line, lines)
                break
        self._signatures.settle()
        report.checked, report.unknown = self._signatures.checked, self._signatures.unknown
        report.size, report.committed, report.commits = chain.size, chain.committed, chain.commits
        report.checkpoint = chain.checkpoint
        if report.state != "tampered" or not any(fault.line for fault in report.faults):
            self._hold_anchors_beyond()
        self._look_at_suspects()
        if any(fault.line for fault in report.faults):
            # Entries that do not hold by themselves say nothing about a fork.
            report.faults = [fault for fault in report.faults if fault.line]
        covered = max([chain.committed, *(size for _, size, _ in report.anchors)])
        if report.state == "consistent" and covered < chain.size:
            report.state = "torn"
            report.faults.append(
                Fault(
                    f"the last {chain.size - covered} of {chain.size} entries are covered by no signed checkpoint: "
                    "the file was copied, or its writer killed, in the middle of a batch"
                )
            )

    def _take(self, line: Line) -> None:
        if not line.ended:
            raise FormatError("the line has no end")
        chain = self._chain
        if is_commit(line.data):
            chain.commit(line.data)
            return
        index = chain.size
        found, leaf = chain.follow(line.data)
        key = found[6]
        place = self._ids.place_of(key)
        for earlier in self._ids.at(place):
            if len(self._suspects) < MOST_SUSPECTS:
                self._suspects.append((index, earlier, key.decode()))
        self._ids.put(place, index)
        if found[7] == b"env":
            self._signatures.take(index, line.data[found.end() : -1])
        elif found[5] == b"keychange":
            self._signatures.change(Entry.parse(line.data))
        if self._sink is not None:
            self._sink(line.data, leaf)
        for anchor, opened in self._anchors.get(index + 1, ()):
            if opened.checkpoint.root == chain.frontier.root():
                self._report.anchors.append((anchor.source, chain.size, anchor.outside))
            else:
                _tampered(
                    self._report,
                    Fault(
                        f"forked or rewritten: over its first {chain.size} entries the file has another root than the "
                        f"checkpoint of {anchor.source}, which the same key signed"
                    ),
                )

    def _judge_end(self, fault: Fault, bad: Line, rest: Iterator[Line]) -> None:
        """An unfinished line at the very end is a crash or a copy of a running log; everything else is not."""
        chain = self._chain
        unfinished = not bad.ended or b"\0" in bad.data
        if unfinished and holds_valid_commit(rest, chain.origin, chain.keys, verify) is None:
            self._report.state = "torn"
            self._report.faults.append(fault)
        else:
            _tampered(self._report, fault)

    def _hold_anchors_beyond(self) -> None:
        size = self._chain.size
        for anchors in self._anchors.values():
            for anchor, opened in anchors:
                if opened.checkpoint.size > size:
                    _tampered(
                        self._report,
                        Fault(
                            f"cut off or an older copy: the file holds {size} entries, and {anchor.source} is a checkpoint "
                            f"over {opened.checkpoint.size}"
                        ),
                    )

    def _look_at_suspects(self) -> None:
        """Ids can share what was kept of them: read the few again."""
        if not self._suspects:
            return
        wanted = {earlier for _, earlier, _ in self._suspects}
        found: dict[int, str] = {}
        for index, line in enumerate(entries(self._path)):
            if index in wanted:
                found[index] = Entry.parse(line).id
                if len(found) == len(wanted):
                    break
        for index, earlier, key in self._suspects:
            if found.get(earlier) == key:
                _tampered(self._report, Fault(f"entries {earlier} and {index} have the same id"))
                return


def entries(path: Path | Source) -> Iterator[bytes]:
    """The bytes of a file's entries, one after the other, unchecked; commit lines are left out."""
    for line in lines_of(chunks(path, None)):
        if line.ended and not is_commit(line.data):
            taken_apart(line.data)
            yield line.data


def chunks(path: Path | Source, progress: Progress | None) -> Iterator[bytes]:
    """A log's bytes, in pieces.

    Raises:
        StorageError: It cannot be read.
    """
    if not isinstance(path, Path):
        yield from path.chunks(progress)
        return
    try:
        with path.open("rb", buffering=0) as file:
            total, done = os.fstat(file.fileno()).st_size, 0
            while data := file.read(CHUNK):
                done += len(data)
                if progress is not None:
                    progress(done, max(total, done))
                yield data
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}") from error


def summary(report: Report) -> dict[str, object]:
    """A report as data for programs."""
    return {
        "state": report.state,
        "origin": report.origin,
        "keys": [key.format() for key in report.keys],
        "keys_claimed": report.keys_claimed,
        "size": report.size,
        "committed": report.committed,
        "checkpoints": report.commits,
        "signatures_checked": report.checked,
        "signatures_unknown": report.unknown,
        "anchored": report.anchored,
        "witnessed": report.witnessed,
        "anchors": [
            {"source": source, "size": size, "outside": outside} for source, size, outside in report.anchors
        ],
        "faults": [
            {"message": one.message, "line": one.line, "offset": one.offset, "entry": one.index}
            for one in report.faults
        ],
    }


def as_json(report: Report) -> str:
    """A report as one JSON document."""
    return json.dumps(summary(report), indent=2)
