"""A hook in an agent's settings file, put in and taken out without touching anything else in it, comments included.

What is put in is text at one place, so taking it out leaves every other byte. A file that was written anew in between
(agents do that) is taken apart and written in the agents' own spelling: two blanks, in the order that was there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from json.decoder import JSONDecodeError, JSONDecoder
from typing import Any

from safeai_git.core.errors import FormatError

_BLANK = " \t\r\n"


class Hook:
    """An entry in ``hooks.EVENT`` of a settings file.

    Args:
        event: The event's name.
        entry: The entry; its own ``command`` or ``bash``, or that of its first ``hooks``, is what is run. An entry is
            ours if it runs exactly that.
        around: What a file needs to say besides.
    """

    def __init__(
        self, event: str, entry: Mapping[str, object], around: Mapping[str, object] | None = None
    ) -> None:
        self._event = event
        self._entry = dict(entry)
        self._around = dict(around or {})
        inner = entry.get("hooks")
        hook = inner[0] if isinstance(inner, list) else entry
        self._command = hook.get("command", hook.get("bash"))
        self.alone = json.dumps({**self._around, "hooks": {event: [self._entry]}}, indent=2) + "\n"
        """A settings file that holds nothing else."""

    def added(self, text: str) -> str:
        """The settings with the hook in; the same text when it is in already.

        Raises:
            FormatError: The text is not understood.
        """
        plain = _plain(text)
        if self._count(_parsed(plain)):
            return text
        at, piece = list(self._places(plain))[-1]  # as deep as what is there allows
        return text[:at] + _with_comma(plain, at, piece) + text[at:]

    def removed(self, text: str) -> str | None:
        """The settings without the hook; ``None`` when nothing else was ever in them.

        Raises:
            FormatError: The text is not understood.
        """
        if text == self.alone:
            return None
        plain = _plain(text)
        data = _parsed(plain)
        if not self._count(data):
            return text
        for at, piece in self._places(plain):
            for inserted in (piece + ",", piece):
                without = text[:at] + text[at + len(inserted) :]
                if text.startswith(inserted, at) and self._is_inverse(without, text):
                    return without
        if plain != text:
            raise FormatError(
                "the hook stands otherwise than it was put in, between comments: take it out by hand"
            )
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
        if not self._ours(entry) or self._runs(entry):
            return None if self._runs(entry) else entry
        rest = [one for one in entry["hooks"] if not self._runs(one)]
        return {**entry, "hooks": rest} if rest else None

    def _runs(self, hook: Any) -> bool:
        return isinstance(hook, dict) and self._command in (hook.get("command"), hook.get("bash"))

    def _ours(self, entry: Any) -> bool:
        inner = entry.get("hooks") if isinstance(entry, dict) else None
        return self._runs(entry) or (isinstance(inner, list) and any(map(self._runs, inner)))

    def _count(self, data: dict[str, Any]) -> int:
        hooks = data.get("hooks", {})
        entries = hooks.get(self._event, []) if isinstance(hooks, dict) else None
        if not isinstance(entries, list):
            raise FormatError(f"'hooks' is not an object with lists, or 'hooks.{self._event}' is no list")
        return sum(map(self._ours, entries))

    def _places(self, text: str) -> Iterator[tuple[int, str]]:
        entry = json.dumps(self._entry)
        at = _skip(text, 0)
        missing = [key for key in self._around if _member(text, at, key) is None]
        more = "".join(f"\n  {json.dumps(key)}: {json.dumps(self._around[key])}," for key in missing)
        whole = f'\n  "hooks": {{"{self._event}": [{entry}]}}'
        if (hooks := _member(text, at, "hooks")) is None:
            yield at + 1, more + whole
            return
        # One of these was put in if "hooks" was not there, or not all that a file needs to say.
        yield at + 1, whole
        if self._around:
            said = "".join(
                f"\n  {json.dumps(key)}: {json.dumps(value)}," for key, value in self._around.items()
            )
            yield at + 1, said + whole
        yield hooks + 1, f'\n    "{self._event}": [{entry}]'
        if (entries := _member(text, hooks, self._event)) is None:
            return
        yield entries + 1, f"\n      {entry}"


def _with_comma(text: str, at: int, piece: str) -> str:
    return piece if text[_skip(text, at)] in "]}" else piece + ","


_COMMENT = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_LAST_COMMA = re.compile(r'"(?:[^"\\\n]|\\.)*"|,(?=[ \t\r\n]*[]}])', re.DOTALL)


def _plain(text: str) -> str:
    """The text as JSON: comments, and commas behind which nothing comes, as blanks. Every character keeps its place."""

    def blank(found: re.Match[str]) -> str:
        piece = found[0]
        return piece if piece.startswith('"') else re.sub(r"[^\n]", " ", piece)

    return _LAST_COMMA.sub(blank, _COMMENT.sub(blank, text))


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
