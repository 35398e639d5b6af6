"""A witness: says of logs that it saw them only grow (C2SP tlog-witness, v1.0.0).

For each log it keeps the newest checkpoint that it cosigned, durable before anybody hears of the cosignature, and moves
it only with a proof of consistency. What it kept and cannot read again is never taken for nothing.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from safeai_git.core.errors import FormatError, KeyUnusable, LogProofInvalid, StorageError
from safeai_git.core.log import base64
from safeai_git.core.log.checkpoint import Checkpoint, OpenedCheckpoint, open_checkpoint, parse_number
from safeai_git.core.log.cosignature import Cosignature, message
from safeai_git.core.log.merkle import EMPTY_ROOT, verify_consistency
from safeai_git.core.log.note import COSIGNATURE, MAX_BYTES, Note, NoteKey, NoteSignature
from safeai_git.core.log.proof import MAX_PATH
from safeai_git.files import read_bounded, write_atomically
from safeai_git.keys.ed25519 import verify
from safeai_git.keys.port import Signer

MOST_BODY = MAX_BYTES + MAX_PATH * 64 + 64
"""Bytes of a request."""

LOCK = "witness.lock"

TEXT = "text/plain; charset=utf-8"
SIZE_TYPE = "text/x.tlog.size"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, as HTTP has it."""

    status: int
    body: bytes
    media_type: str = TEXT


class Witness:
    """Cosigns checkpoints of some logs.

    Args:
        folder: Where the newest checkpoints are kept; one process at a time.
        name: The witness's name.
        logs: The keys of the logs that it looks at.
        signer: Its key.
        now: Seconds since 1970.

    Raises:
        StorageError: Another process has the folder, or it cannot be used.
        FormatError: The name cannot be one.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        logs: Sequence[NoteKey],
        signer: Signer,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.key = NoteKey(name, COSIGNATURE, signer.public.raw)
        self._folder = folder
        self._logs = tuple(logs)
        self._signer = signer
        self._now = now
        self._lock = threading.Lock()
        self._held = _locked(folder / LOCK)

    def close(self) -> None:
        """Let the next process in."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    def add_checkpoint(self, body: bytes) -> Reply:
        """Answer ``POST /add-checkpoint``.

        Raises:
            StorageError: What was kept cannot be read or written.
            KeyUnusable: The witness's key cannot be used.
        """
        try:
            old, path, data = _request(body)
            checkpoint = Checkpoint.parse(Note.parse(data).text)
        except FormatError as error:
            return _refusal(400, error.message)
        keys = [key for key in self._logs if key.name == checkpoint.origin]
        if not keys:
            return _refusal(404, "this witness does not look at that log")
        try:
            opened = open_checkpoint(data, checkpoint.origin, keys, verify)
        except LogProofInvalid as error:
            return _refusal(403, error.message)
        if old > checkpoint.size:
            return _refusal(400, "the old size is larger than the checkpoint's")
        with self._lock:
            return self._cosign(opened, old, path)

    def _cosign(self, opened: OpenedCheckpoint, old: int, path: list[bytes]) -> Reply:
        checkpoint = opened.checkpoint
        held = self._newest(checkpoint.origin)
        size, root = (held.size, held.root) if held else (0, EMPTY_ROOT)
        if old != size:
            return Reply(409, b"%d\n" % size, SIZE_TYPE)
        try:
            verify_consistency(size, checkpoint.size, path, root, checkpoint.root)
        except LogProofInvalid as error:
            return _refusal(422, error.message)
        note = Note.parse(opened.note)
        line = self._signed(note.text)
        # Only what was checked is kept: whoever sends it may have added a line in our name that does not hold.
        ours = {(key.name, key.id) for key in opened.signers}
        checked = [one for one in note.signatures if (one.name, one.key_id) in ours]
        kept = Note(note.text, (*checked, line)).format()
        write_atomically(self._place(checkpoint.origin), kept, mode=0o644)
        return Reply(200, line.format().encode())

    def _signed(self, text: str) -> NoteSignature:
        moment = int(self._now())
        signature = self._signer.sign(message(text, moment))
        line = NoteSignature(self.key.name, self.key.id, Cosignature(moment, signature).format())
        if not self.key.holds(text, line.body, verify):
            raise KeyUnusable("the holder of the witness's key gave a signature that does not hold")
        return line

    def checkpoint(self, digest: str) -> bytes | None:
        """Answer ``GET /DIGEST/checkpoint``: the newest one that was cosigned, by SHA-256 of the log's origin."""
        for key in self._logs:
            if sha256(key.name.encode()).hexdigest() == digest:
                return self._read(key.name)
        return None

    def _newest(self, origin: str) -> Checkpoint | None:
        data = self._read(origin)
        if data is None:
            return None
        try:
            return open_checkpoint_of_ours(data, origin, self.key)
        except (FormatError, LogProofInvalid) as error:
            raise StorageError(
                f"{self._place(origin)} is damaged: {error.message}",
                hint="put it back from a backup; without it nobody knows what was cosigned",
            ) from None

    def _read(self, origin: str) -> bytes | None:
        try:
            return read_bounded(self._place(origin), MAX_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"{self._place(origin)} cannot be read: {error.strerror or error}") from error

    def _place(self, origin: str) -> Path:
        return self._folder / f"{sha256(origin.encode()).hexdigest()}.checkpoint"


def open_checkpoint_of_ours(data: bytes, origin: str, key: NoteKey) -> Checkpoint:
    """A checkpoint that a witness cosigned.

    Raises:
        FormatError: It is none.
        LogProofInvalid: It is of another log, or not cosigned with this key.
    """
    note = Note.parse(data)
    checkpoint = Checkpoint.parse(note.text)
    if checkpoint.origin != origin or key not in note.check([key], verify):
        raise LogProofInvalid("it is not what this witness cosigned")
    return checkpoint


def _request(body: bytes) -> tuple[int, list[bytes], bytes]:
    if len(body) > MOST_BODY:
        raise FormatError(f"a request has at most {MOST_BODY:,} bytes")
    head, gap, note = body.partition(b"\n\n")
    try:
        first, *hashes = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise FormatError("a request begins with ASCII lines") from None
    if not gap or not first.startswith("old "):
        raise FormatError("a request begins with 'old SIZE'")
    if len(hashes) > MAX_PATH:
        raise FormatError(f"a proof has at most {MAX_PATH} hashes")
    path = [base64.decode_hash(one, "a hash of the proof") for one in hashes]
    return parse_number(first.removeprefix("old "), "the old size"), path, note


def _refusal(status: int, text: str) -> Reply:
    return Reply(status, f"{text}\n".encode())


def _locked(path: Path) -> int:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StorageError(f"{path} cannot be opened: {error.strerror or error}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise StorageError(
            f"another witness has {path.parent}",
            hint="two that know nothing of each other could cosign a fork",
        ) from None
    return handle
