"""Puts together what ``safeai audit forward`` was asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safeai_git.audit import claims
from safeai_git.core.errors import FormatError, WrongUse
from safeai_git.core.log.note import ED25519, NoteKey
from safeai_git.core.publickey import PublicKey
from safeai_git.governor.forward.cursor import CursorFile
from safeai_git.governor.forward.destination import target_of
from safeai_git.governor.forward.run import Forwarder
from safeai_git.governor.forward.source import DatabaseSource, FileSource, Source
from safeai_git.governor.forward.verified import Reader, check_key
from safeai_git.governor.settings import Settings

CURSOR = "forward.cursor"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was said on the command line.

    Attributes:
        log: The file; ``None`` for the one of the settings, or their database.
        keys: The log's keys.
        cursor: Where it is kept; ``None`` for where the settings say.
        begin: The first entry, where there is no cursor yet.
        set_aside, metrics, patience: As `Forwarder`.
        longest: Bytes of a syslog message.
    """

    log: Path | None
    keys: Sequence[NoteKey | PublicKey]
    cursor: Path | None = None
    begin: int = 0
    set_aside: Path | None = None
    metrics: Path | None = None
    patience: float = 60.0
    longest: int = 8_192


def cursor_of(settings: Settings) -> Path:
    """Where the settings say that the cursor is kept."""
    return settings.forward_cursor or settings.data_dir / CURSOR


def open_forwarder(settings: Settings, wanted: Wanted) -> Forwarder:
    """A forwarder.

    Raises:
        WrongUse: Settings and arguments name no destination, no key or no log.
        StorageError: The log cannot be read.
        FormatError: It is none.
    """
    target = target_of(settings, longest=wanted.longest)
    source, origin = _source(settings, wanted)
    named = [one for one in wanted.keys if isinstance(one, NoteKey)]
    if foreign := [one for one in named if one.name != origin]:
        raise WrongUse(f"the key {foreign[0].name} is of another log than {origin}")
    bare = [one for one in wanted.keys if isinstance(one, PublicKey)]
    keys = (*named, *(NoteKey(origin, ED25519, one.raw) for one in bare))
    check_key(origin, keys)
    keys += tuple(one for one in settings.log_keys if one.name == origin)
    return Forwarder(
        Reader(source, origin, keys),
        target,
        CursorFile(wanted.cursor or cursor_of(settings)),
        wanted.patience,
        wanted.begin,
        wanted.set_aside,
        wanted.metrics,
        say,
    )


def _source(settings: Settings, wanted: Wanted) -> tuple[Source, str]:
    if settings.database_url and wanted.log is None:
        if not settings.log_origin:
            raise WrongUse("SAFEAI_DATABASE_URL needs SAFEAI_LOG_ORIGIN: the database may hold several logs")
        return DatabaseSource(settings.database_url, settings.log_origin), settings.log_origin
    path = wanted.log or settings.data_dir / "audit.log"
    origin, _ = claims(path)
    if not origin:
        raise FormatError(
            f"{path} does not begin with whose log it is", hint=f"run 'safeai audit --verify {path}'"
        )
    if settings.log_origin and settings.log_origin != origin:
        raise WrongUse(f"{path} is the log {origin}, and SAFEAI_LOG_ORIGIN is {settings.log_origin}")
    return FileSource(path), origin


def say(text: str) -> None:
    """A line of JSON on standard error, as the Governor's own are."""
    print(json.dumps({"event": text, "logger": "safeai.forward"}), file=sys.stderr, flush=True)
