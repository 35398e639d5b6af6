"""Reading ``audit.log`` at a start: what is kept, what a crash left over, and what no crash can have done.

Kept is the longest beginning of complete lines that follow from each other. What comes behind it was never acknowledged,
unless a commit line of this log stands in it: those are written after the sync only, so that is damage, and refused.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from safeai_git.core.errors import FormatError, LogProofInvalid, StorageError
from safeai_git.core.log.chain import Chain, Line, holds_valid_commit, is_commit, lines_of
from safeai_git.core.log.checkpoint import Checkpoint, OpenedCheckpoint
from safeai_git.core.log.entry import parse_commit, parse_time
from safeai_git.core.log.merkle import frontier_of
from safeai_git.core.log.note import Note
from safeai_git.files import sync_folder
from safeai_git.governor.stores.index_file import IndexFile
from safeai_git.governor.stores.sealed import SealedState
from safeai_git.governor.stores.segments import EVERY
from safeai_git.governor.stores.state import Head, State

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Cut:
    """What a crash left behind the last whole line.

    Attributes:
        bytes: How many.
        sha256: Their digest in hex.
        kept_as: The file that they were moved to.
        reason: What was wrong with the first line of them.
    """

    bytes: int
    sha256: str
    kept_as: Path
    reason: str


@dataclass(slots=True)
class Scan:
    """A log that was read.

    Attributes:
        end: Where the last line that is kept ends, in bytes.
        fault: What is wrong with the line at `end`; empty when the file ends there.
    """

    end: int = 0
    fault: str = ""


def chunks(descriptor: int, offset: int, size: int = CHUNK) -> Iterator[bytes]:
    """A file's bytes from an offset on, in pieces of up to `size`."""
    while data := os.pread(descriptor, size, offset):
        yield data
        offset += len(data)


def read_log(
    descriptor: int,
    chain: Chain,
    state: State,
    marks: array[int],
    anchor: OpenedCheckpoint | None,
    offset: int = 0,
) -> Scan:
    """Read a log into a state.

    Args:
        descriptor: The file.
        chain: A new one, with the log's origin and keys, or that of `resume`, as are the next two.
        state: A new one, which reads entries by the marks.
        marks: Takes the offsets of the entries 0, 64, 128, …
        anchor: The checkpoint that the log had when it was last seen.
        offset: Where to begin, in bytes.

    Raises:
        LogProofInvalid: Damage that no crash can have done, or not what the anchor says.
    """
    scan = Scan(offset)
    lines = lines_of(chunks(descriptor, offset), offset)
    for line in lines:
        try:
            _take(line, chain, state, marks)
        except (FormatError, LogProofInvalid) as error:
            scan.fault = error.message
            _refuse_damage(line, lines, chain, scan.fault)
            break
        scan.end = line.offset + len(line.data) + 1
        if anchor is not None and chain.size == anchor.checkpoint.size and not is_commit(line.data):
            _agree(chain, anchor)
    if anchor is not None and anchor.checkpoint.size > chain.size:
        raise rolled_back(chain.size, anchor)
    state.head = Head(chain.frontier, chain.prev, parse_time(chain.time) if chain.time else 0)
    return scan


def resume(
    descriptor: int,
    chain: Chain,
    index: IndexFile,
    entry: Callable[[int], bytes],
    marks: array[int],
    anchor: OpenedCheckpoint | None,
) -> tuple[SealedState, int]:
    """Take in what the index holds, and be where it ends; the arguments are those of `read_log` and of `SealedState`.

    Returns:
        The state, and the byte of the log at which reading goes on.

    Raises:
        FileNotFoundError: There is no index.
        OSError: It, or the log, cannot be read.
        FormatError, LogProofInvalid: It is not to be believed, or the log is not the one that it is of.
    """
    index.claim(chain.keys, chain.verify)
    state = SealedState(entry, index)
    state.adopt(index.records(), index.claimed, marks)
    size = index.size
    if state.root_of(size) != index.root:
        raise LogProofInvalid("its hashes do not lead to its root")
    remembered = anchor.checkpoint if anchor else Checkpoint(chain.origin, size, index.root)
    if remembered.size <= size and state.root_of(remembered.size) != remembered.root:
        raise LogProofInvalid("it is not of the log that the remembered checkpoint is of")
    last = None
    skip = EVERY
    for line in lines_of(chunks(descriptor, marks[-1], 1 << 16), marks[-1]):
        if line.ended and not is_commit(line.data):
            skip, last = skip - 1, line
        if not skip or not line.ended:
            break
    if skip or last is None or not state.holds(size - 1, [last.data]):
        raise LogProofInvalid("the log has another entry where it ends")
    chain.begin_behind(last.data, frontier_of(size, state.hashes.node))
    return state, last.offset + len(last.data) + 1


def _take(line: Line, chain: Chain, state: State, marks: array[int]) -> None:
    if not line.ended:
        raise FormatError("the line has no end")
    if is_commit(line.data):
        chain.commit(line.data)
        return
    index = chain.size
    _, key, leaf = chain.entry(line.data)
    if index % EVERY == 0:
        marks.append(line.offset)
    if state.find(key) is not None:
        raise LogProofInvalid(f"entry {index} has an id that the log holds already")
    state.remember(key, leaf, index)


def _refuse_other_key(bad: Line, chain: Chain) -> None:
    """A whole commit line of this log in another key's name is no crash's doing: cutting there would fork the log."""
    if not bad.ended or not is_commit(bad.data):
        return
    try:
        note = Note.parse(parse_commit(bad.data))
        stated = Checkpoint.parse(note.text)
    except FormatError:
        return
    known = {(key.name, key.id) for key in chain.keys if key.believed_about(stated.size)}
    if stated.origin == chain.origin and not any((one.name, one.key_id) in known for one in note.signatures):
        raise LogProofInvalid(
            f"the checkpoint of audit.log over {stated.size} entries, at byte {bad.offset}, is signed with another key "
            f"than {', '.join(key.format() for key in chain.keys if key.believed_about(stated.size))}",
            hint="nothing was changed; SAFEAI_KEY_ID has to name the key that the log was signed with, or SAFEAI_LOG_KEYS the "
            "keys that it was signed with before ('Key rotation' in docs/deploy/runbooks.md)",
        )


def _refuse_damage(bad: Line, rest: Iterator[Line], chain: Chain, fault: str) -> None:
    _refuse_other_key(bad, chain)
    later = holds_valid_commit([bad], chain.origin, chain.keys, chain.verify)
    later = later or holds_valid_commit(rest, chain.origin, chain.keys, chain.verify)
    if later is not None:
        raise LogProofInvalid(
            f"audit.log is damaged at byte {bad.offset} (entry {chain.size} is due there): {fault}; "
            f"a commit line of this log stands at or behind it, at byte {later.offset}, so no crash did this",
            hint="nothing was changed; keep the file as it is, run 'safeai audit --verify' on it and restore a backup",
        )


def _agree(chain: Chain, anchor: OpenedCheckpoint) -> None:
    try:
        chain.agree(anchor.checkpoint)
    except LogProofInvalid:
        ours = Checkpoint(chain.origin, chain.size, chain.frontier.root()).format()
        raise LogProofInvalid(
            f"audit.log is forked: at size {chain.size} it has another root than the remembered checkpoint\n"
            f"remembered:\n{anchor.note.decode()}\nthe file:\n{ours}",
            hint="nothing was changed; keep both, and restore the file that the checkpoint was made of",
        ) from None


def rolled_back(size: int, anchor: OpenedCheckpoint) -> LogProofInvalid:
    """The refusal of a log that is shorter than it once was."""
    return LogProofInvalid(
        f"audit.log is rolled back: it holds {size} entries, and the remembered checkpoint is over "
        f"{anchor.checkpoint.size}\nremembered:\n{anchor.note.decode()}",
        hint="nothing was changed; restore the newer file. If an older backup was restored on purpose, "
        "the remembered checkpoint (audit.head) has to be moved away by hand",
    )


def quarantine(log: Path, descriptor: int, end: int, stamp: str, reason: str) -> Cut:
    """Move everything behind `end` into a file beside the log, and cut it off there; durable when this returns.

    Args:
        log: The log's path.
        descriptor: The log, open for writing.
        end: Where it is to end.
        stamp: For the new file's name, such as a time.
        reason: Why.

    Raises:
        StorageError: The disk refused; the log is as it was.
    """
    number, digest, count = 0, sha256(), 0
    try:
        while (aside := log.with_name(f"{log.name}.torn-{stamp}{f'-{number}' if number else ''}")).exists():
            number += 1
        # Under another name until it is whole: a crash in here leaves the log uncut and the next start begins again.
        unfinished = log.with_name(f".{aside.name}")
        with unfinished.open("wb") as file:
            for chunk in chunks(descriptor, end):
                file.write(chunk)
                digest.update(chunk)
                count += len(chunk)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(aside)
        sync_folder(log.parent)
        os.ftruncate(descriptor, end)
        os.fsync(descriptor)
    except OSError as error:
        raise StorageError(
            f"the torn end of {log} cannot be moved aside: {error.strerror or error}",
            hint="nothing was cut off; make room in its folder and start again",
        ) from error
    return Cut(count, digest.hexdigest(), aside, reason)
