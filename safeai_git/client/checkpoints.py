"""What a client remembers of logs: of each the newest checkpoint that it saw. A log that leads elsewhere is a fork."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from safeai_git.core.errors import FormatError, LogProofInvalid, StorageError
from safeai_git.core.log.checkpoint import OpenedCheckpoint, open_checkpoint
from safeai_git.core.log.merkle import verify_consistency
from safeai_git.core.log.note import MAX_BYTES, NoteKey
from safeai_git.core.trust import Verify
from safeai_git.files import locked, read_bounded, write_atomically

Ask = Callable[[int, int], Sequence[bytes]]
"""Brings the hashes of a consistency proof from one size to a larger one."""

_LONGEST_WAIT_SECONDS = 30.0
"""For another process that remembers something; it may be waiting for a proof."""


class Checkpoints:
    """Remembers the newest checkpoint of each log.

    Args:
        folder: Where to; the person's own, so that all clones share what each of them saw.
        verify: The check of one signature.
    """

    def __init__(self, folder: Path, verify: Verify) -> None:
        self._folder = folder
        self._verify = verify

    def path(self, origin: str) -> Path:
        """The file for one log: a signed note, which ``safeai audit --verify --anchor`` takes."""
        return self._folder / f"{hashlib.sha256(origin.encode()).hexdigest()[:32]}.checkpoint"

    def newest(self, keys: Iterable[NoteKey]) -> OpenedCheckpoint | None:
        """What is remembered of a log; ``None`` for nothing.

        Raises:
            StorageError: It cannot be read, or is no checkpoint of this log under these keys.
        """
        known = tuple(keys)
        path = self.path(known[0].name)
        try:
            data = read_bounded(path, MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror or error}") from error
        try:
            return open_checkpoint(data, known[0].name, known, self._verify)
        except (FormatError, LogProofInvalid) as error:
            raise StorageError(
                f"{path} is no checkpoint of the log {known[0].name}: {error.message}",
                hint="it guards against a log that is exchanged; delete it only if the log's key was changed on purpose",
            ) from error

    def advance(self, seen: OpenedCheckpoint, keys: Iterable[NoteKey], ask: Ask) -> None:
        """Hold a checkpoint against what is remembered, and remember it if it is newer.

        Args:
            seen: A checkpoint that the log has signed.
            keys: The log's keys.
            ask: Brings the proof that one leads to the other.

        Raises:
            LogProofInvalid: It does not: the log was forked or rolled back. The message holds both checkpoints.
            StorageError: What is remembered cannot be read or written.
            GovernorUnavailable: The proof cannot be had now.
            FormatError: What was given for a proof is none.
        """
        known = tuple(keys)
        held = self.newest(known)
        if not self._leads(held, seen, known, ask):
            return
        path = self.path(known[0].name)
        with locked(path.with_suffix(".lock"), wait=_LONGEST_WAIT_SECONDS):
            now = self.newest(known)
            if (now and now.note) == (held and held.note) or self._leads(now, seen, known, ask):
                write_atomically(path, seen.note, mode=0o644)

    @staticmethod
    def _leads(
        held: OpenedCheckpoint | None, seen: OpenedCheckpoint, known: tuple[NoteKey, ...], ask: Ask
    ) -> bool:
        """Whether a checkpoint is newer than the one that is held; that one leads to the other is proven."""
        if held is not None:
            old, new = sorted((held.checkpoint, seen.checkpoint), key=lambda one: one.size)
            path = ask(old.size, new.size) if 0 < old.size < new.size else ()
            try:
                verify_consistency(old.size, new.size, path, old.root, new.root)
            except LogProofInvalid as error:
                raise LogProofInvalid(
                    f"the log {known[0].name} does not lead from the checkpoint that was seen before to this one: "
                    f"{error.message}\n--- seen before\n{held.note.decode(errors='replace')}"
                    f"--- seen now\n{seen.note.decode(errors='replace')}",
                    hint="keep both: they prove that the log was forked; tell whoever runs it, and believe neither",
                ) from error
            return seen.checkpoint.size > held.checkpoint.size
        return True
