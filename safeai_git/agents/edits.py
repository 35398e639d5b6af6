"""Tool calls of agents, as their hooks are told of them: which files each would write, and what would be in them.

One JSON object; which of its members says what stands in `adapters`. Pure: what is in a file is an argument.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from safeai_git.agents.adapters import Adapter, Tool
from safeai_git.agents.patches import FilePatch, updated
from safeai_git.agents.patches import parse as parse_patch
from safeai_git.core.errors import FormatError

Sides = tuple[bytes | None, bytes | None]
"""A file's content before and after; ``None`` where it does not exist."""


class Write(NamedTuple):
    """One file that a call writes: its path as the agent says it, and what becomes of its content."""

    path: str
    sides: Callable[[bytes | None], Sides]


class ToolCall(NamedTuple):
    """A tool call: the folder that the agent is in, the files that are written, the shell command (or neither)."""

    folder: str
    writes: tuple[Write, ...] = ()
    command: str = ""


def parse(adapter: Adapter, payload: bytes) -> ToolCall:
    """Take a payload apart.

    Raises:
        FormatError: It is not the call of a tool, or not in a form that is known.
    """
    try:
        data = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"the agent's payload is not JSON: {error}") from error
    if not isinstance(data, dict) or (adapter.event and data.get(adapter.event_key) != adapter.event):
        raise FormatError(
            f"the agent's payload is not one of {adapter.event or adapter.name}",
            hint="docs/agents.md says what is read",
        )
    tool = adapter.tools.get(_text(data, adapter.tool_key))
    given = data.get(adapter.input_key)
    if isinstance(given, str):  # Copilot CLI has written its tools' arguments as text
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            given = {"input": given}
    if not isinstance(given, dict):
        raise FormatError(f"the agent's payload has no '{adapter.input_key}'")
    folder = _folder(data, adapter.folder_keys)
    if tool is None:
        return ToolCall(folder)
    if tool.kind == "command":
        return ToolCall(folder, command=_text(given, "command"))
    return ToolCall(folder, tuple(_writes(tool, given)))


def _folder(data: dict[str, Any], keys: tuple[str, ...]) -> str:
    for key in keys:
        value = data.get(key)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, str) and value:
            return value
    raise FormatError(f"the agent's payload has no text '{keys[0]}'")


def _writes(tool: Tool, given: dict[str, Any]) -> list[Write]:
    if tool.kind == "patch":
        return [write for one in parse_patch(_text(given, *tool.text)) for write in _of_patch(one)]
    path = _text(given, *tool.path)
    kind = tool.kind
    if kind == "editor":
        command = _text(given, "command")
        kinds = {"create": "write", "str_replace": "replace", "insert": "insert"}
        if command == "view":
            return []
        if command not in kinds:
            raise FormatError(f"a command of the editor that is not known here: {command[:40]!r}")
        kind = kinds[command]
    elif kind == "file":
        kind = _fitting(tool, given)
    return [Write(path, lambda before: _sides(kind, tool, given, before))]


def _fitting(tool: Tool, given: dict[str, Any]) -> str:
    if any(key in given for key in tool.text):
        return "write"
    if "edits" in given:
        return "several"
    return "replace" if any(key in given for key in tool.old) else "touch"


def _sides(kind: str, tool: Tool, given: dict[str, Any], before: bytes | None) -> Sides:
    match kind:
        case "write":
            return before, _bytes(_text(given, *tool.text))
        case "replace":
            return before, _replaced(before, tool, given)
        case "several":
            after = before
            for one in _list(given, "edits"):
                if not isinstance(one, dict):
                    raise FormatError("an entry of 'edits' is no object")
                after = _replaced(after, tool, one)
            if after is None:
                raise FormatError("'edits' is empty")
            return before, after
        case "insert":
            line, text = given.get("insert_line"), _bytes(_text(given, *tool.new))
            lines = (before or b"").split(b"\n")
            if not isinstance(line, int) or not 0 <= line <= len(lines):
                raise FormatError("'insert_line' is no line of the file")
            return before, b"\n".join([*lines[:line], text, *lines[line:]])
        case "delete":
            return before, None
        case "touch":
            # The agent does not say what it writes: a line that was not there stands for it, so that the path counts.
            return before, (before or b"") + b"\n"
        case _:
            return _notebook(given, before)


def _of_patch(patch: FilePatch) -> list[Write]:
    if patch.kind == "delete":
        return [Write(patch.path, lambda before: (before, None))]
    if patch.kind == "add":
        text = _bytes("".join(line + "\n" for line in patch.lines))
        return [Write(patch.path, lambda before: (before, text))]

    def after(before: bytes | None) -> bytes:
        if before is None:
            raise FormatError("the file does not exist")
        return updated(before, patch.lines)

    if not patch.moved:
        return [Write(patch.path, lambda before: (before, after(before)))]
    told: list[bytes] = []

    def leave(before: bytes | None) -> Sides:
        told.append(after(before))
        return before, None

    return [Write(patch.path, leave), Write(patch.moved, lambda before: (before, told[-1]))]


def _replaced(before: bytes | None, tool: Tool, edit: dict[str, Any]) -> bytes:
    old, new = _bytes(_text(edit, *tool.old)), _bytes(_text(edit, *tool.new))
    if not old:
        if before:
            raise FormatError(f"'{tool.old[0]}' is empty, and the file is not")
        return new
    if before is None:
        raise FormatError("the file does not exist")
    if old not in before and b"\r\n" in before:
        old, new = (one.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for one in (old, new))
    if old not in before:
        raise FormatError(f"'{tool.old[0]}' does not occur in the file", hint="read the file again")
    every = any(edit.get(key) not in (None, False, 0, 1) or edit.get(key) is True for key in tool.every)
    return before.replace(old, new) if every else before.replace(old, new, 1)


def _notebook(given: dict[str, Any], before: bytes | None) -> Sides:
    """Both sides are spelled alike, since the tool writes the notebook anew: they differ in the cell alone."""
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


def _text(data: dict[str, Any], *keys: str) -> str:
    there = [key for key in keys if key in data]
    if len(there) > 1 and data[there[0]] != data[there[1]]:
        raise FormatError(f"the agent's payload says '{there[0]}' and '{there[1]}', and not the same")
    value = data[there[0]] if there else None
    if not isinstance(value, str):
        raise FormatError(f"the agent's payload has no text '{keys[0]}'")
    return value


def _list(data: dict[str, Any], key: str) -> list[Any]:
    value = data.get(key)
    if not isinstance(value, list):
        raise FormatError(f"the agent's payload has no list '{key}'")
    return value


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")
