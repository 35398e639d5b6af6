"""``safeai-git agent``: the hook that an agent calls before it writes, and how it gets into the agent's settings.

The hook is advice given as early as can be. It never replaces the gate: what a shell writes is judged by git's objects.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from safeai_git.agents.adapters import Settings
from safeai_git.agents.settings import Hook
from safeai_git.commands.agent_call import known, read_call
from safeai_git.commands.agent_hook import run_hook
from safeai_git.commands.session import Session
from safeai_git.core.errors import FormatError, StorageError, WrongUse
from safeai_git.files import read_bounded, write_atomically

LARGEST_SETTINGS = 4 * 1024 * 1024


def named_hook(agent: str) -> int:
    """`run_hook` for an agent that is named."""
    return run_hook(read_call(agent))


def install(session: Session, agent: str, *, user: bool) -> int:
    """Put the hook into an agent's settings."""
    path = _place(session, agent, user=user)
    form = _Form(known(agent).settings)
    text = _read(path)
    new = _understood(path, form.alone, text, form.added)
    if new == text:
        session.say(f"{path}: the hook is there already")
        return 0
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, new or "")
    session.say(f"{path}: the hook is in; it judges each edit of {agent} before it is made")
    if note := known(agent).note:
        session.say(note)
    return 0


def uninstall(session: Session, agent: str, *, user: bool) -> int:
    """Take the hook out of an agent's settings."""
    path = _place(session, agent, user=user)
    form = _Form(known(agent).settings)
    text = _read(path)
    new = _understood(path, None, text, form.removed)
    if new == text:
        session.say(f"{path}: the hook is not there")
    elif new is None:
        path.unlink()
        session.say(f"{path}: removed, nothing but the hook was in it")
    else:
        _write(path, new)
        session.say(f"{path}: the hook is out")
    return 0


class _Form:
    """What is put where: an entry in a file of JSON, or a file of our own."""

    def __init__(self, settings: Settings) -> None:
        self._text = settings.text
        self._hook = None if settings.entry is None else Hook(settings.event, settings.entry, settings.around)
        self.alone = self._text if self._hook is None else self._hook.alone

    def added(self, text: str) -> str:
        if self._hook is not None:
            return self._hook.added(text)
        if text != self._text:
            raise FormatError("it holds something else")
        return text

    def removed(self, text: str) -> str | None:
        if self._hook is not None:
            return self._hook.removed(text)
        if text != self._text:
            raise FormatError("it is not what was put there")
        return None


def _place(session: Session, agent: str, *, user: bool) -> Path:
    settings = known(agent).settings
    home = session.environ.get("HOME") or session.environ.get("USERPROFILE") or ""
    if user and not home:
        raise WrongUse("--user needs a home folder, and HOME is not set")
    base = Path(home) if user else session.repository.root
    path = base / (settings.own_place if user else settings.place)
    for part in (path, *path.parents):
        if part == base:
            break
        if part.is_symlink():
            raise StorageError(
                f"{part} is a symlink; nothing was changed", hint="put a plain one in its place"
            )
    return path


def _read(path: Path) -> str | None:
    """The settings; ``None`` when there are none."""
    try:
        raw = read_bounded(path, LARGEST_SETTINGS)
    except FileNotFoundError:
        return None
    try:
        if len(raw) <= LARGEST_SETTINGS:
            return raw.decode("utf-8")
    except UnicodeDecodeError:
        pass
    raise FormatError(f"{path} is too large or not UTF-8; nothing was changed")


def _understood(
    path: Path, nothing: str | None, text: str | None, change: Callable[[str], str | None]
) -> str | None:
    if text is None:
        return nothing
    try:
        return change(text)
    except FormatError as error:
        hint = "mend the file, then run this again"
        raise FormatError(f"{path}: {error.message}; nothing was changed", hint=hint) from error


def _write(path: Path, text: str) -> None:
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o644
    write_atomically(path, text.encode("utf-8"), mode=mode)
