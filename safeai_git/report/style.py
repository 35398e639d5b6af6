"""Colours, or none: only a terminal gets them, and only when nobody asked for plain text (https://no-color.org).

`for_terminal` is the last look at a text before it is printed: whatever a terminal would obey and is no colour of
ours is made visible. Foreign text should have been escaped long before (`core.display`), where it can still be told
from our own words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TextIO

from msgspec import Struct

from safeai_git.core.display import CONTROL, IGNORABLE, escape
from safeai_git.core.finding import Outcome

_RED, _YELLOW, _GREEN, _BOLD = "31", "33", "32", "1"
_COLOUR = re.compile("(\x1b\\[(?:0|1|31|32|33)m)")
_OBEYED = re.compile(f"(?!\n)[{CONTROL}{IGNORABLE}\ud800-\udfff]")


class Style(Struct, frozen=True):
    """How to mark words; ``coloured=False`` leaves them as they are."""

    coloured: bool = False

    @staticmethod
    def for_stream(stream: TextIO, environ: Mapping[str, str]) -> Style:
        """Colours if the stream is a terminal that can show them."""
        plain = environ.get("NO_COLOR") or environ.get("TERM") == "dumb"
        return Style(stream.isatty() and not plain)

    def _paint(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.coloured and text else text

    def bold(self, text: str) -> str:
        """Emphasis."""
        return self._paint(text, _BOLD)

    def ok(self, text: str) -> str:
        """Something is in order."""
        return self._paint(text, _GREEN)

    def bad(self, text: str) -> str:
        """Something is not."""
        return self._paint(text, _RED)

    def decision(self, decision: str) -> str:
        """A decision, in capitals."""
        colour = {"allow": _GREEN, "review": _YELLOW}.get(decision, _RED)
        return self._paint(decision.upper(), colour)

    def outcome(self, outcome: Outcome) -> str:
        """A finding's outcome, as wide as the longest."""
        colour = {Outcome.DENY: _RED, Outcome.REVIEW: _YELLOW, Outcome.WARN: _BOLD}[outcome]
        return self._paint(f"{outcome.word:6}", colour)


def for_terminal(text: str, style: Style | None = None) -> str:
    """A text as it may be printed: line feeds and, in a coloured style, our own colours stand; the rest is escaped."""
    if style is None or not style.coloured:
        return _OBEYED.sub(_escaped, text)
    parts = _COLOUR.split(text)
    return "".join(part if at % 2 else _OBEYED.sub(_escaped, part) for at, part in enumerate(parts))


def _escaped(found: re.Match[str]) -> str:
    return escape(found.group())
