"""A hook in an agent's settings file, put in and taken out without touching anything else in it.

What is put in is text at one place, so taking it out leaves every other byte. A file that was written anew in between
(agents do that) is taken apart and written in the agents' own spelling: two blanks, in the order that was there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from json.decoder import JSONDecodeError, JSONDecoder
from typing import Any

from safeai_git.core.errors import FormatError

_BLANK = " \t\r\n"


class Hook:
    """An entry in ``hooks.EVENT`` of a settings file (Claude Code's form).

    Args:
        event: The event's name.
        matcher: Of the tools.
        command: What is run; an entry is ours if it runs exactly that.
    """

    def __init__(self, event: str, matcher: str, command: str) -> None:
        self._event = event
        self._command = command
        self._entry = {"matcher": matcher, "hooks": [{"type": "command", "command": command}]}
        self.alone = json.dumps({"hooks": {event: [self._entry]}}, indent=2) + "\n"
        """A settings file that holds nothing else."""

    def added(self, text: str) -> str:
        """The settings with the hook in; the same text when it is in already.

        Raises:
            FormatError: The text is not understood.
        """
        if self._count(_parsed(text)):
            return text
        at, piece = self._place(text)
        return text[:at] + self._piece(text, at, piece) + text[at:]

    def removed(self, text: str) -> str | None:
        """The settings without the hook; ``None`` when nothing else was ever in them.

        Raises:
            FormatError: The text is not understood.
        """
        if text == self.alone:
            return None
        data = _parsed(text)
        if not self._count(data):
            return text
        for at, piece in self._places(text):
            for inserted in (piece + ",", piece):
                without = text[:at] + text[at + len(inserted) :]
                if text.startswith(inserted, at) and self._is_inverse(without, text):
                    return without
        hooks = data["hooks"]
        hooks[self._event] = [one for one in map(self._cleaned, hooks[self._event]) if one is not None]
        if not hooks[self._event]:
            del hooks[self._event]
        if not hooks:
            del data["hooks"]
        return json.dumps(data, indent=2, ensure_ascii=False) + ("\n" if text.endswith("\n") else "")

    def _is_inverse(self, without: str, text: str) -> bool:
        try:
            return self.added(without) == text
        except FormatError:
            return False

    def _cleaned(self, entry: Any) -> Any:
        """An entry without our command; ``None`` when that was all."""
        if not self._ours(entry):
            return entry
        rest = [one for one in entry["hooks"] if not self._runs(one)]
        return {**entry, "hooks": rest} if rest else None

    def _runs(self, hook: Any) -> bool:
        return isinstance(hook, dict) and hook.get("command") == self._command

    def _ours(self, entry: Any) -> bool:
        inner = entry.get("hooks") if isinstance(entry, dict) else None
        return isinstance(inner, list) and any(map(self._runs, inner))

    def _count(self, data: dict[str, Any]) -> int:
        hooks = data.get("hooks", {})
        entries = hooks.get(self._event, []) if isinstance(hooks, dict) else None
        if not isinstance(entries, list):
            raise FormatError(f"'hooks' is not an object with lists, or 'hooks.{self._event}' is no list")
        return sum(map(self._ours, entries))

    def _place(self, text: str) -> tuple[int, str]:
        """Where the hook goes: as deep as what is there allows."""
        return list(self._places(text))[-1]

    def _places(self, text: str) -> Iterator[tuple[int, str]]:
        entry = json.dumps(self._entry)
        at = _skip(text, 0)
        yield at + 1, f'\n  "hooks": {{"{self._event}": [{entry}]}}'
        if (hooks := _member(text, at, "hooks")) is None:
            return
        yield hooks + 1, f'\n    "{self._event}": [{entry}]'
        if (entries := _member(text, hooks, self._event)) is None:
            return
        yield entries + 1, f"\n      {entry}"

    def _piece(self, text: str, at: int, piece: str) -> str:
        return piece if text[_skip(text, at)] in "]}" else piece + ","


def _parsed(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, JSONDecodeError) else str(error)
        raise FormatError(f"not JSON as it is read here: {where}") from error
    if not isinstance(data, dict):
        raise FormatError("not a JSON object")
    return data


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        raise ValueError("a key stands there twice")
    return data


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at


def _member(text: str, at: int, name: str) -> int | None:
    """Where the value of a member begins, of the object that begins at `at`; the text is known to be JSON."""
    decoder = JSONDecoder()
    at = _skip(text, at + 1)
    while text[at] != "}":
        key, at = decoder.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)
        if key == name:
            return at
        _, at = decoder.raw_decode(text, at)
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return None
