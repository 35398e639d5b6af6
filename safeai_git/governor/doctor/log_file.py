"""The log in its file: its end is followed and its newest checkpoint opened. Read-only; the writer's lock is not touched.

The whole log is not verified: that is ``safeai audit --verify``, which takes as long as the log is large.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from safeai_git.audit import claims
from safeai_git.core.display import count
from safeai_git.core.errors import FormatError, LogProofInvalid
from safeai_git.core.log import base64
from safeai_git.core.log.chain import Line, is_commit, lines_of
from safeai_git.core.log.checkpoint import OpenedCheckpoint, open_checkpoint
from safeai_git.core.log.entry import parse_commit, parse_time, taken_apart
from safeai_git.core.log.merkle import Frontier, leaf_hash
from safeai_git.core.log.note import MAX_BYTES, NoteKey
from safeai_git.files import read_bounded
from safeai_git.governor.doctor.case import Case, ago, size_of
from safeai_git.governor.doctor.report import Examined
from safeai_git.governor.service import origin_of
from safeai_git.governor.stores.file import HEAD
from safeai_git.governor.stores.lock import LOG
from safeai_git.governor.stores.recovery import chunks
from safeai_git.governor.witnesses import FOLDER, QUORUM, SOME
from safeai_git.keys.ed25519 import verify

TAIL = 4 << 20
"""Bytes of the log's end that are followed; a batch has at most one MiB."""

_UNSIGNED_SECONDS = 60.0
_VERIFY = (
    "run 'safeai audit --verify', and see 'Restore' in docs/deploy/runbooks.md before anything is changed"
)


@dataclass(slots=True)
class Tail:
    """The end of a log.

    Attributes:
        size: How many entries the log has.
        time: The last one's, in Unix milliseconds.
        prev: The leaf hash of the last one, as the next would carry it.
        note, over: The newest checkpoint in it, and how many entries stand before it; 0 where the end begins with it.
        newest: The same, opened.
        frontier, root: The tree and its root there, if the whole log was read; else ``None`` and empty.
        fault: What is wrong with the first line that does not follow; empty where all do.
        last: Whether that is the file's last line: then a crash, or a write under way, looks so.
    """

    size: int = 0
    time: int = 0
    prev: bytes = b""
    note: bytes = b""
    over: int = 0
    newest: OpenedCheckpoint | None = None
    frontier: Frontier | None = None
    root: bytes = b""
    fault: str = ""
    last: bool = False


def examine(case: Case) -> Iterator[Examined]:
    """Look at the log and at the checkpoints beside it."""
    if case.settings.database_url:
        if case.log.exists():
            yield Examined(
                "log",
                "warn",
                f"SAFEAI_DATABASE_URL is set, and {case.log} is there too: nothing of it is served",
                "'safeai audit import' brings a file into a database; else move it away",
            )
        return
    path = case.log
    try:
        status = path.lstat()
    except FileNotFoundError:
        traces = [name for name in (HEAD,) if (path.parent / name).exists()]
        traces += sorted(one.name for one in path.parent.glob(f"{LOG}.*"))
        if traces:
            yield Examined(
                "log", "bad", f"{path} is gone, and {traces[0]} says that there was one", "restore a backup"
            )
        else:
            _name_after_key(case)
            yield Examined("log", "ok", f"none yet: the first start begins {path}")
        return
    if not stat.S_ISREG(status.st_mode):
        yield Examined(
            "log", "bad", f"{path} is not a plain file", "the Governor opens nothing else: name its folder"
        )
        return
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        yield Examined(
            "log",
            "bad",
            f"user id {os.geteuid()} may not read and write {path} (owner {status.st_uid})",
            f"chown {os.geteuid()} {path}, or run the Governor as its owner",
        )
    if status.st_size == 0:
        _name_after_key(case)
        yield Examined("log", "ok", f"{path} is empty: the next start begins it")
        return
    origin, keys = claims(path)
    if not origin:
        yield Examined("log", "bad", f"{path} does not begin with whose log it is", _VERIFY)
        return
    wanted = case.settings.log_origin
    if wanted and wanted != origin:
        yield Examined(
            "log",
            "bad",
            f"{path} is the log {origin}, and SAFEAI_LOG_ORIGIN is {wanted}",
            "a log's name never changes: set it back, or name another folder",
        )
    case.origin = origin
    yield from _end(case, status, case.log_keys or keys)


def _name_after_key(case: Case) -> None:
    if case.signer is not None:
        case.origin = case.settings.log_origin or origin_of(case.settings, case.signer)


def _end(case: Case, status: os.stat_result, keys: tuple[NoteKey, ...]) -> Iterator[Examined]:
    path = case.log
    kept = _kept(case)  # before the log: who writes it meanwhile only makes that one longer
    try:
        tail = _follow(path, status.st_size, case.origin, keys)
    except LogProofInvalid as error:
        yield Examined(
            "log",
            "bad",
            f"the newest checkpoint of {path} does not hold under the Governor's key: {error.message}",
            f"SAFEAI_KEY_ID must name the key that the log was signed with, or SAFEAI_LOG_KEYS that key; if so: {_VERIFY}",
        )
        return
    shown = f"{path}, {size_of(status.st_size)}, {count(tail.size, 'entry', 'entries')} of {case.origin}"
    case.last = tail.time / 1000 if tail.size else None
    if tail.fault and not tail.last:
        yield Examined("log", "bad", f"{shown}: {tail.fault}", _VERIFY)
        return
    yield Examined(
        "log", "ok", f"{shown}; its last {size_of(min(TAIL, status.st_size))} follow from each other"
    )
    if tail.fault and not case.running:
        yield Examined(
            "log",
            "warn",
            f"its last line is not whole ({tail.fault}): a crash, or a copy of a log that was being written",
            "nothing: the next start moves it aside",
        )
    yield from _checkpoint(case, tail)
    yield from _remembered(case, tail, keys, kept)


def _checkpoint(case: Case, tail: Tail) -> Iterator[Examined]:
    if tail.newest is None:
        yield Examined(
            "checkpoint",
            "bad",
            f"no signed checkpoint stands in the last {size_of(TAIL)} of the log",
            _VERIFY,
        )
        return
    case.size = tail.newest.checkpoint.size
    age = case.now - tail.time / 1000
    whose = "the Governor's key" if case.signer else "the key that the log itself names"
    if tail.size > case.size and age > _UNSIGNED_SECONDS:
        yield Examined(
            "checkpoint",
            "bad" if case.running else "warn",
            f"{count(tail.size - case.size, 'entry', 'entries')} stand behind the newest checkpoint since {ago(age)}",
            "see SigningFailures in docs/deploy/runbooks.md" if case.running else "the next start signs them",
        )
    else:
        yield Examined(
            "checkpoint",
            "ok",
            f"signed by {whose} over {count(case.size, 'entry', 'entries')}; the last entry is {ago(max(age, 0.0))} old",
        )


def _kept(case: Case) -> list[tuple[Path, bytes | OSError]]:
    """The checkpoints beside the log, as they are now."""
    folder = case.settings.data_dir
    found: list[tuple[Path, bytes | OSError]] = []
    for path in (folder / HEAD, folder / FOLDER / QUORUM, folder / FOLDER / SOME):
        try:
            found.append((path, read_bounded(path, MAX_BYTES)))
        except FileNotFoundError:
            continue
        except OSError as error:
            found.append((path, error))
    return found


def _remembered(
    case: Case, tail: Tail, keys: tuple[NoteKey, ...], remembered: list[tuple[Path, bytes | OSError]]
) -> Iterator[Examined]:
    """What was seen of this log before must not be more than there is now."""
    for path, note in remembered:
        try:
            if isinstance(note, OSError):
                raise note
            opened = open_checkpoint(note, case.origin, keys, verify)
        except (FormatError, LogProofInvalid, OSError) as error:
            yield Examined(
                "checkpoint",
                "bad" if path.name == HEAD else "warn",
                f"{path} is no checkpoint of this log: {error}",
                "signed with a former key: name that in SAFEAI_LOG_KEYS. Damaged, or of another log: if 'safeai audit "
                "--verify' finds the log in order, move it away",
            )
            continue
        kept, newest = opened.checkpoint, tail.newest
        rolled_back = kept.size > tail.size
        same = newest is not None and newest.checkpoint.size == kept.size
        if rolled_back or (same and newest is not None and newest.checkpoint.root != kept.root):
            yield Examined(
                "checkpoint",
                "bad",
                f"{path} was signed over {count(kept.size, 'entry', 'entries')}, and the log "
                + (
                    f"has {tail.size:,}: it was rolled back"
                    if rolled_back
                    else "has another root: it is forked"
                ),
                _VERIFY,
            )


def _follow(path: Path, size: int, origin: str, keys: tuple[NoteKey, ...]) -> Tail:
    """Follow the lines of a log's end, from the first whole one on.

    Raises:
        LogProofInvalid: The newest checkpoint is not signed with these keys.
    """
    begin = max(0, size - TAIL)
    tail = Tail(frontier=None if begin else Frontier())
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        lines = lines_of(chunks(descriptor, begin), begin)
        if begin:
            next(lines, None)  # its beginning is not there
        for line in lines:
            try:
                _take(line, tail)
            except FormatError as error:
                tail.fault = f"byte {line.offset}: {error.message}"
                tail.last = next(lines, None) is None
                break
    finally:
        os.close(descriptor)
    if tail.note:
        tail.newest = open_checkpoint(tail.note, origin, keys, verify)
        stated = tail.newest.checkpoint
        if tail.over and stated.size != tail.over and not tail.fault:
            tail.fault = (
                f"the newest checkpoint is over {stated.size} entries, and {tail.over} stand before it"
            )
        elif tail.root and stated.root != tail.root and not tail.fault:
            tail.fault = (
                f"the entries do not lead to the newest checkpoint, over {stated.size}: one was changed"
            )
    return tail


def _take(line: Line, tail: Tail) -> None:
    if not line.ended:
        raise FormatError("the line has no end")
    if is_commit(line.data):
        tail.note, tail.over = parse_commit(line.data), tail.size
        tail.root = tail.frontier.root() if tail.frontier else b""
        return
    found = taken_apart(line.data)
    seq, time = int(found[1]), parse_time(found[3].decode())
    if tail.size and (seq != tail.size or found[2] != tail.prev or time < tail.time):
        raise FormatError(f"entry {seq} does not follow the one before it")
    leaf = leaf_hash(line.data)
    if tail.frontier is not None:
        tail.frontier.append(leaf)
    tail.prev = base64.encode(leaf).encode()
    tail.size, tail.time = seq + 1, time
