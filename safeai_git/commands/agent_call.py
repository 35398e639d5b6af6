"""What an agent's hook is asked: the tool call, the file that it would write, the repository that this is in.

Apart from `agent_hook`, so that git is at work on its answers while the judge is loaded.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from safeai_git.agents import claude_code
from safeai_git.core.errors import FormatError
from safeai_git.git.opening import begin_answers

LARGEST_PAYLOAD = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """A tool call.

    Attributes:
        call: As it came.
        file: What it writes, links followed; ``None`` for a tool that writes no file.
        root: The working tree that the file is in; ``None`` outside every one.
        environ: The environment without git's variables: where the repository is follows from the file.
    """

    call: claude_code.ToolCall
    file: Path | None
    root: Path | None
    environ: dict[str, str]


def read_call() -> Asked:
    """Read a tool call on standard input, and start git where it will be needed.

    Raises:
        FormatError: It is not understood.
    """
    payload = sys.stdin.buffer.read(LARGEST_PAYLOAD + 1) if sys.stdin else b""
    if len(payload) > LARGEST_PAYLOAD:
        raise FormatError(f"the agent's payload is larger than {LARGEST_PAYLOAD:,} bytes")
    call = claude_code.parse(payload)
    environ = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    if not call.path:
        return Asked(call, None, None, environ)
    file = real_path(call.path, call.folder)
    root = root_of(file)
    if root is not None:
        begin_answers(root, environ)
    return Asked(call, file, root, environ)


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
