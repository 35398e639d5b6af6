"""What an agent's hook is asked: the tool call, the files that it would write, the repositories that these are in.

Apart from `agent_hook`, so that git is at work on its answers while the judge is loaded.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

from safeai_git.agents.adapters import ADAPTERS, Adapter
from safeai_git.agents.edits import ToolCall, Write, parse
from safeai_git.core.display import safe_text
from safeai_git.core.errors import FormatError, WrongUse
from safeai_git.git.opening import begin_answers

LARGEST_PAYLOAD = 64 * 1024 * 1024


class Target(NamedTuple):
    """A file that a call writes: links followed, the working tree that it is in (``None`` outside every one)."""

    write: Write
    file: Path
    root: Path | None


class Asked(NamedTuple):
    """A tool call, the files that it writes, and the environment without git's variables.

    Where the repository is follows from the files, not from what the agent's environment says.
    """

    adapter: Adapter
    call: ToolCall
    targets: tuple[Target, ...]
    environ: dict[str, str]


def read_call(agent: str) -> Asked:
    """Read a tool call on standard input, and start git where it will be needed.

    Raises:
        WrongUse: No such agent is known.
        FormatError: The call is not understood.
    """
    adapter = known(agent)
    payload = sys.stdin.buffer.read(LARGEST_PAYLOAD + 1) if sys.stdin else b""
    if len(payload) > LARGEST_PAYLOAD:
        raise FormatError(f"the agent's payload is larger than {LARGEST_PAYLOAD:,} bytes")
    call = parse(adapter, payload)
    environ = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    targets = []
    for write in call.writes:
        file = real_path(write.path, call.folder)
        targets.append(Target(write, file, root_of(file)))
    for root in dict.fromkeys(target.root for target in targets):
        if root is not None:
            begin_answers(root, environ)
    return Asked(adapter, call, tuple(targets), environ)


def known(agent: str) -> Adapter:
    """The adapter of an agent.

    Raises:
        WrongUse: There is none of that name.
    """
    if agent not in ADAPTERS:
        names = ", ".join(ADAPTERS)
        raise WrongUse(f"no hook of '{safe_text(agent)}' is known", hint=f"known: {names} (docs/agents.md)")
    return ADAPTERS[agent]


def real_path(path: str, folder: str) -> Path:
    """The file that a write would reach: links followed, as the tool's open does.

    Raises:
        FormatError: No file can be called that.
    """
    if "\0" in path or not folder.startswith(os.sep):
        raise FormatError("the path of the file, or 'cwd', is none that a file can have")
    try:
        return Path(os.path.realpath(os.path.join(folder, os.path.expanduser(path))))  # noqa: PTH111, PTH118
    except (OSError, ValueError) as error:
        raise FormatError(f"the path of the file cannot be followed: {error}") from error


def root_of(file: Path) -> Path | None:
    """The working tree that a file is in, which need not exist; ``None`` outside every one."""
    return next((folder for folder in file.parents if os.path.lexists(folder / ".git")), None)
