"""``safeai-git agent``: the hook that an agent calls before it writes, and how it gets into the agent's settings.

The hook is advice given as early as can be. It never replaces the gate: what a shell writes is judged by git's objects.
"""

from __future__ import annotations

import stat
from pathlib import Path

from safeai_git.agents import claude_code
from safeai_git.agents.settings import Hook
from safeai_git.commands.agent_call import read_call
from safeai_git.commands.agent_hook import run_hook
from safeai_git.commands.session import Session
from safeai_git.core.display import safe_text
from safeai_git.core.errors import FormatError, StorageError, WrongUse
from safeai_git.files import read_bounded, write_atomically

LARGEST_SETTINGS = 4 * 1024 * 1024

_HOOK = Hook(claude_code.EVENT, claude_code.MATCHER, f"safeai-git agent hook {claude_code.NAME}")
_PLACE = Path(".claude/settings.json")


def named_hook(agent: str) -> int:
    """`run_hook` for an agent that is named."""
    _need_known(agent)
    return run_hook(read_call())


def install(session: Session, agent: str, *, user: bool) -> int:
    """Put the hook into an agent's settings."""
    path = _settings(session, agent, user=user)
    text = _read(path)
    new = _HOOK.alone if text is None else _understood(path, text, removing=False)
    if new == text:
        session.say(f"{path}: the hook is there already")
        return 0
    assert new is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, new)
    session.say(f"{path}: the hook is in; it judges each edit of {agent} before it is made")
    return 0


def uninstall(session: Session, agent: str, *, user: bool) -> int:
    """Take the hook out of an agent's settings."""
    path = _settings(session, agent, user=user)
    text = _read(path)
    new = None if text is None else _understood(path, text, removing=True)
    if new == text:
        session.say(f"{path}: the hook is not there")
    elif new is None:
        path.unlink()
        session.say(f"{path}: removed, nothing but the hook was in it")
    else:
        _write(path, new)
        session.say(f"{path}: the hook is out")
    return 0


def _need_known(agent: str) -> None:
    if agent != claude_code.NAME:
        raise WrongUse(
            f"no hook of '{safe_text(agent)}' is known", hint="known: claude-code (docs/agents.md)"
        )


def _settings(session: Session, agent: str, *, user: bool) -> Path:
    _need_known(agent)
    home = session.environ.get("HOME") or session.environ.get("USERPROFILE") or ""
    if user and not home:
        raise WrongUse("--user needs a home folder, and HOME is not set")
    path = (Path(home) if user else session.repository.root) / _PLACE
    for part in (path.parent, path):
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


def _understood(path: Path, text: str, *, removing: bool) -> str | None:
    try:
        return _HOOK.removed(text) if removing else _HOOK.added(text)
    except FormatError as error:
        hint = "mend the file, then run this again"
        raise FormatError(f"{path}: {error.message}; nothing was changed", hint=hint) from error


def _write(path: Path, text: str) -> None:
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o644
    write_atomically(path, text.encode("utf-8"), mode=mode)
