"""Command lines that need no parser: of the commands that are waited for, with long options, each said once.

Typer takes a tenth of a second to be loaded and to take a line apart. What is not read here, and whatever is wrong, goes
to typer, which knows all options and says what it does not understand; what is read here means the same there.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from safeai_git.commands.session import Session

Action = Callable[[], int]

_NEW_OBJECTS = 50_000
"""That Python looks through for circles at once, instead of 700: hardly any of ours are, and a run is over soon."""


def read(arguments: list[str]) -> Action | None:
    """What a command line asks for; ``None`` for what is left to typer."""
    command, *rest = arguments or [""]
    reader = {"check": _check, "replay": _replay, "verify": _verify}.get(command)
    return reader(rest) if reader else None


class _Line:
    """A command line that was taken apart.

    Attributes:
        flags: Options without a value.
        values: The values of the others.
        places: What is no option.
    """

    def __init__(self) -> None:
        self.flags: set[str] = set()
        self.values: dict[str, str] = {}
        self.places: list[str] = []

    @classmethod
    def of(cls, arguments: list[str], flags: Collection[str], options: Collection[str]) -> _Line | None:
        line = cls()
        pending = iter(arguments)
        for one in pending:
            name, equals, value = one.partition("=")
            if one in flags and one not in line.flags:
                line.flags.add(one)
            elif name in options and name not in line.values:
                value = value if equals else next(pending, "")
                if not value or value.startswith("-"):
                    return None
                line.values[name] = value
            elif one and not one.startswith("-"):
                line.places.append(one)
            else:
                return None
        return line if line.values.get("--format", "text") in ("text", "json", "jsonl") else None


def _during(line: _Line, use: Callable[[Session], int], *, brief: bool = False) -> Action:
    def action() -> int:
        gc.set_threshold(_NEW_OBJECTS)
        from safeai_git.commands.session import BriefSession, Session

        session = (BriefSession if brief else Session).here(line.values.get("--format", "text"))
        try:
            return use(session)
        finally:
            session.close()

    return action


def _check(arguments: list[str]) -> Action | None:
    line = _Line.of(
        arguments, ("--no-replay", "--sign", "--no-sign"), ("--range", "--agent", "--branch", "--format")
    )
    if line is None or line.places or {"--sign", "--no-sign"} <= line.flags:
        return None

    def check(session: Session) -> int:
        from safeai_git.commands import check as command

        said = [name == "--sign" for name in ("--sign", "--no-sign") if name in line.flags]
        request = command.Request(
            line.values.get("--range", ""),
            agent=line.values.get("--agent", ""),
            branch=line.values.get("--branch", ""),
            replay="--no-replay" not in line.flags,
            sign=said[0] if said else None,
        )
        return command.check(session, request)

    return _during(line, check)


def _replay(arguments: list[str]) -> Action | None:
    line = _Line.of(arguments, ("--staged", "--quiet"), ())
    if line is None or len(line.places) + ("--staged" in line.flags) != 1:
        return None

    def replay(session: Session) -> int:
        from safeai_git.commands import replay as command

        return command.replay(
            session, command.Request("".join(line.places), show_output="--quiet" not in line.flags)
        )

    return _during(line, replay, brief=True)


def _verify(arguments: list[str]) -> Action | None:
    line = _Line.of(arguments, ("--all",), ("--ref", "--format"))
    if line is None or len(line.places) > 1:
        return None

    def verify(session: Session) -> int:
        from safeai_git.commands import people
        from safeai_git.commands.demands import Demands

        demands = Demands.parse(line.values.get("--ref", ""), "", (), "")
        everything = "--all" in line.flags
        return people.verify(
            session, "".join(line.places), policy=None, everything=everything, demands=demands
        )

    return _during(line, verify)
