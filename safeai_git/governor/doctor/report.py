"""What an examination found, as lines for people and as data; the exit code follows from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from safeai_git.core.display import safe_text
from safeai_git.core.errors import SafeAIError
from safeai_git.core.values import fields
from safeai_git.report.style import Style, for_terminal

State = Literal["ok", "warn", "bad", "unknown"]

FINE, BROKEN, NOT_LOOKED = 0, 1, 3
"""Exit codes; 2 is wrong use of the command."""

_WORDS = {"bad": "broken", "warn": "to be looked at", "unknown": "not examined"}


@dataclass(frozen=True, slots=True)
class Examined:
    """One thing that was looked at.

    Attributes:
        what: Its name.
        state: ``ok``; ``warn``: it works, with less than is wanted; ``bad``: the Governor does not start, or does not do
            what it is there for; ``unknown``: nobody could look.
        detail: What is so, and where.
        hint: What to do; empty where nothing is to be done.
    """

    what: str
    state: State
    detail: str
    hint: str = ""


def of_error(what: str, error: SafeAIError, state: State = "bad") -> Examined:
    """What an error of ours says, as a finding."""
    return Examined(what, state, error.message, error.hint)


def exit_code(found: Iterable[Examined]) -> int:
    """0 where nothing is broken, 1 where something is, 3 where something could not be looked at."""
    states = {one.state for one in found}
    if "bad" in states:
        return BROKEN
    return NOT_LOOKED if "unknown" in states else FINE


def text(found: Sequence[Examined], style: Style) -> str:
    """For people: a line each, what to do below it, and a sum at the end."""
    lines = []
    for one in found:
        mark = {"ok": style.ok("ok  "), "warn": style.bold("warn"), "bad": style.bad("bad ")}.get(
            one.state, style.bold("??  ")
        )
        lines.append(f"{mark} {safe_text(one.what)}: {safe_text(one.detail)}")
        if one.hint:
            lines.append(f"       do: {safe_text(one.hint)}")
    counted = [
        f"{sum(one.state == state for one in found)} {word}"
        for state, word in _WORDS.items()
        if any(one.state == state for one in found)
    ]
    lines.append("")
    lines.append(", ".join(counted) if counted else f"{len(found)} things were looked at, and all are fine")
    return for_terminal("\n".join(lines), style)


def data(found: Sequence[Examined]) -> str:
    """For programs: one JSON document."""
    return json.dumps({"examined": [fields(one) for one in found], "exit": exit_code(found)}, indent=2)
