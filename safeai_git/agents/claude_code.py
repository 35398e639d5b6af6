"""Claude Code's tool calls, as its PreToolUse hooks are told of them (code.claude.com/docs/en/hooks).

One JSON object: ``cwd``, ``hook_event_name``, ``tool_name``, ``tool_input``. Pure: what is in a file is an argument.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from safeai_git.core.errors import FormatError

NAME = "claude-code"
EVENT = "PreToolUse"
FILE_TOOLS = {
    "Write": "file_path",
    "Edit": "file_path",
    "MultiEdit": "file_path",
    "NotebookEdit": "notebook_path",
}
"""The tools that write a file, and the key of its path."""
MATCHER = "|".join((*FILE_TOOLS, "Bash"))


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call: the tool's name, its input as it came, and the folder that the agent is in."""

    tool: str
    given: dict[str, Any]
    folder: str

    @property
    def path(self) -> str:
        """The file that is written; empty for a tool that writes none."""
        key = FILE_TOOLS.get(self.tool)
        return _text(self.given, key) if key else ""

    @property
    def command(self) -> str:
        """The shell command; empty for any other tool."""
        return _text(self.given, "command") if self.tool == "Bash" else ""


def parse(payload: bytes) -> ToolCall:
    """Take a payload apart.

    Raises:
        FormatError: It is not the call of a tool.
    """
    try:
        data = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"the agent's payload is not JSON: {error}") from error
    if not isinstance(data, dict) or data.get("hook_event_name") != EVENT:
        raise FormatError(
            f"the agent's payload is not one of {EVENT}", hint="docs/agents.md says what is read"
        )
    given = data.get("tool_input")
    if not isinstance(given, dict):
        raise FormatError("the agent's payload has no 'tool_input'")
    return ToolCall(_text(data, "tool_name"), given, _text(data, "cwd"))


def proposed(call: ToolCall, before: bytes | None) -> tuple[bytes | None, bytes]:
    """A file's content before and after the call.

    A notebook is written anew by the tool, so both sides are spelled alike and differ in the cell alone.

    Args:
        call: Of one of `FILE_TOOLS`.
        before: The content now; ``None`` when the file does not exist.

    Raises:
        FormatError: The call does not fit the content: the tool would fail, or do what is not foreseen here.
    """
    match call.tool:
        case "Write":
            return before, _bytes(_text(call.given, "content"))
        case "Edit":
            return before, _replaced(before, call.given)
        case "MultiEdit":
            after = before
            for one in _list(call.given, "edits"):
                if not isinstance(one, dict):
                    raise FormatError("an entry of 'edits' is no object")
                after = _replaced(after, one)
            if after is None:
                raise FormatError("'edits' is empty")
            return before, after
        case _:
            return _notebook(call.given, before)


def _replaced(before: bytes | None, edit: dict[str, Any]) -> bytes:
    old, new = _bytes(_text(edit, "old_string")), _bytes(_text(edit, "new_string"))
    if not old:
        if before:
            raise FormatError("'old_string' is empty, and the file is not")
        return new
    if before is None:
        raise FormatError("the file does not exist")
    if old not in before and b"\r\n" in before:
        old, new = (one.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for one in (old, new))
    if old not in before:
        raise FormatError("'old_string' does not occur in the file", hint="read the file again")
    return before.replace(old, new) if edit.get("replace_all") is True else before.replace(old, new, 1)


def _notebook(given: dict[str, Any], before: bytes | None) -> tuple[bytes, bytes]:
    try:
        notebook = json.loads(before or b"")
        cells = notebook["cells"]
        old = _spelled(notebook)
        named = given.get("cell_id")
        mode = given.get("edit_mode", "replace")
        # without ids, the tool names cells by number: cell-0, cell-1
        names = [cell.get("id", f"cell-{at}") for at, cell in enumerate(cells)]
        at = names.index(named) if named else -1
        if mode == "delete" and named:
            del cells[at]
        elif mode == "insert":
            source = _text(given, "new_source")
            kind = given.get("cell_type", "code")
            cells.insert(at + 1, {"cell_type": kind, "metadata": {}, "source": source})
        elif mode == "replace" and named:
            cells[at]["source"] = _text(given, "new_source")
        else:
            raise FormatError(f"an edit of a notebook that is not known here: {mode!r}")
        return old, _spelled(notebook)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError("the notebook, or the cell that is meant, cannot be read") from error


def _spelled(notebook: object) -> bytes:
    return _bytes(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def _text(data: dict[str, Any], key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str):
        raise FormatError(f"the agent's payload has no text '{key}'")
    return value


def _list(data: dict[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    if not isinstance(value, list):
        raise FormatError(f"the agent's payload has no list '{key}'")
    return value


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def answer(decision: str, reason: str) -> str:
    """The decision as Claude Code reads it on standard output: ``deny`` or ``ask``, and why."""
    said = {"hookEventName": EVENT, "permissionDecision": decision, "permissionDecisionReason": reason}
    return json.dumps({"hookSpecificOutput": said})
