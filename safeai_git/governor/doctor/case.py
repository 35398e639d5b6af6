"""The Governor that is examined: its settings, and what earlier examiners learned that later ones need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safeai_git.core.errors import SafeAIError
from safeai_git.core.log.note import NoteKey
from safeai_git.governor.forward.cursor import Cursor
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.settings import Settings, Slip
from safeai_git.keys.port import Signer


@dataclass(slots=True)
class Case:
    """What is known so far. Nothing in it is ever written.

    Attributes:
        settings: As far as they make sense.
        slips: What is wrong with them.
        environ: Where they came from.
        now: Seconds since 1970.
        archive: Where the log is archived, if somebody said so.
        signer: The Governor's key, once it was loaded.
        origin: The log's name, once it is known.
        size: How many entries the log's newest checkpoint covers; ``None`` where nobody could tell.
        last: Time of the log's last entry, in Unix seconds; ``None`` likewise.
        running: Whether a Governor has this log open, as far as can be seen.
        cursor: How far forwarding was before the log was looked at, or why nobody knows; ``None`` where nothing was forwarded.
        archived: Segments of the archive then, and the entries in them.
    """

    settings: Settings
    slips: list[Slip]
    environ: Mapping[str, str]
    now: float
    archive: str = ""
    signer: Signer | None = None
    origin: str = ""
    size: int | None = None
    last: float | None = None
    running: bool = False
    cursor: Cursor | SafeAIError | None = None
    archived: tuple[int, int] | None = None

    @property
    def log(self) -> Path:
        """The log's file, where it is one."""
        return self.settings.data_dir / "audit.log"

    @property
    def log_keys(self) -> tuple[NoteKey, ...]:
        """The key that the log has to be signed with, and those it may have been; empty where it is not known."""
        if self.signer is None or not self.origin:
            return ()
        return LogSigner(self.origin, [self.signer], self.settings.log_keys).keys


def ago(seconds: float) -> str:
    """A time that has passed, in words."""
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def size_of(count: float) -> str:
    """A number of bytes, in words."""
    for unit, length in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= length:
            return f"{count / length:,.1f} {unit}"
    return f"{count:.0f} bytes"
