"""What every benchmark has in common: measuring two things in turns, and what is made of the figures.

A `Row` is one line of the table: samples of ours and of the reference, taken one after the other in the same run, and
the goal that they are held against. Nothing here knows what is measured.
"""

from __future__ import annotations

import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

How = Literal["ratio", "more", "value"]

Taken = tuple[list[float], list[float]]
"""Samples of ours and of the reference, round by round."""


@dataclass(frozen=True)
class Goal:
    """What a row should reach.

    Attributes:
        bound: The figure.
        how: ``ratio`` to the reference of the same round, ``more`` than it in milliseconds, or a ``value`` by itself.
        at_most: Whether less is better.
    """

    bound: float
    how: How = "ratio"
    at_most: bool = True

    def __str__(self) -> str:
        sign = "≤" if self.at_most else "≥"
        return f"{sign} {_written(self.bound, self.how)}"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: Under which it is recorded and compared; the same for all sizes.
        what: What was measured.
        reference: Beside what; empty for a value by itself.
        ours: A sample for each round.
        theirs: The reference's, of the same rounds.
        goal: ``None`` for a row that is only told.
        unit: ``s``, ``/s``, ``ms`` or ``MB``, of all samples.
        size: The work: entries, commits, files. Rows of one name and several sizes show the growth.
        expected: How it should grow with that, for the table of growth: ``flat``, ``log n`` or ``linear``.
        note: What else there is to say.
    """

    name: str
    what: str
    reference: str
    ours: list[float]
    theirs: list[float] = field(default_factory=list)
    goal: Goal | None = None
    unit: str = "s"
    size: int = 0
    expected: str = "linear"
    note: str = ""

    @property
    def how(self) -> How:
        return self.goal.how if self.goal else "ratio" if self.theirs else "value"

    def figures(self) -> list[float]:
        """What the goal is about, for each round."""
        if self.how == "value" or not self.theirs:
            return self.ours
        pairs = zip(self.ours, self.theirs, strict=True)
        if self.how == "more":
            return [(one - other) * 1000 for one, other in pairs]
        return [one / other for one, other in pairs]

    def figure(self) -> float:
        """The median of them; of a difference, between the medians."""
        if self.how == "more" and self.theirs:
            return (statistics.median(self.ours) - statistics.median(self.theirs)) * 1000
        return statistics.median(self.figures())

    def reached(self) -> bool | None:
        """Whether the goal is; ``None`` without one."""
        if self.goal is None:
            return None
        return self.figure() <= self.goal.bound if self.goal.at_most else self.figure() >= self.goal.bound

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "figure": self.figure(), "reached": self.reached()}


def run(
    folder: Path,
    environment: Mapping[str, str],
    *command: str,
    check: bool = True,
    given: bytes | None = None,
) -> None:
    """Run a command that has to succeed; what it prints is shown where it does not."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        input=given,
        stdin=subprocess.DEVNULL if given is None else None,
        capture_output=True,
        check=False,
    )
    if check and done.returncode:
        raise SystemExit(
            f"{command}: {done.stdout.decode(errors='replace')[-500:]}{done.stderr.decode(errors='replace')}"
        )


_WATCHED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak(folder: Path, environment: Mapping[str, str], *command: str) -> float:
    """The most memory that a command, or one of its children that it waited for, held at once, in MB.

    Started by a small process: a child counts what its parent held when it was made.
    """
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _WATCHED, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        check=True,
    )
    return int(done.stdout) / 1024


def seconds(action: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def interleaved(rounds: int, ours: Callable[[], object], reference: Callable[[], object]) -> Taken:
    """Seconds of each, taken in turns after one round that does not count."""
    taken: Taken = ([], [])
    for number in range(rounds + 1):
        for kept, action in zip(taken, (ours, reference), strict=True):
            took = seconds(action)
            if number:
                kept.append(took)
    return taken


# The tables


def _written(figure: float, how: How, unit: str = "") -> str:
    if how == "ratio":
        return f"{figure:.2f} x" if figure < 10 else f"{figure:.1f} x"
    if how == "more":
        return f"{figure:+.1f} ms"
    return _amount(figure, unit)


def _amount(amount: float, unit: str) -> str:
    if unit == "s":
        return f"{amount * 1000:,.1f} ms" if amount < 10 else f"{amount:,.1f} s"
    if unit == "/s":
        return f"{amount:,.0f}/s"
    return f"{amount:,.1f} {unit}".rstrip()


def machine() -> str:
    """On what, and how busy it was."""
    load = " ".join(f"{one:.2f}" for one in os.getloadavg())
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    return (
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Linux {platform.release()}, "
        f"Python {platform.python_version()}, git {git}, load {load}"
    )


def table(rows: Iterable[Row]) -> str:
    """As Markdown; of rows of several sizes the one that the goal is about, or the largest."""
    lines = [
        "| what | reference | ours | reference | figure | spread | goal | reached |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        figures = row.figures()
        spread = f"{_written(min(figures), row.how, row.unit)} to {_written(max(figures), row.how, row.unit)}"
        theirs = _amount(statistics.median(row.theirs), row.unit) if row.theirs else ""
        verdict = {True: "yes", False: "**no**", None: ""}[row.reached()]
        goal = (
            ""
            if row.goal is None
            else f"{'≤' if row.goal.at_most else '≥'} {_written(row.goal.bound, row.how, row.unit)}"
        )
        lines.append(
            f"| {row.what} | {row.reference} | {_amount(statistics.median(row.ours), row.unit)} | {theirs} "
            f"| {_written(row.figure(), row.how, row.unit)} | {spread} | {goal} | {verdict} |"
        )
    return "\n".join(lines)


def growth(rows: Sequence[Row]) -> str:
    """How each grows with its work, as an exponent between its smallest and its largest size; empty without any."""
    names = dict.fromkeys(row.name for row in rows)
    lines = []
    for name in names:
        sizes = sorted((row for row in rows if row.name == name and row.size), key=lambda row: row.size)
        if len(sizes) < 2:
            continue
        small, large = sizes[0], sizes[-1]
        first, last = (_cost(one) for one in (small, large))
        exponent = math.log(last / first) / math.log(large.size / small.size)
        lines.append(
            f"| {large.what} | {small.size:,} | {_amount(statistics.median(small.ours), small.unit)} | {large.size:,} "
            f"| {_amount(statistics.median(large.ours), large.unit)} | {exponent:.2f} | {large.expected} | {large.note} |"
        )
    if not lines:
        return ""
    head = [
        "| what | work | ours | work | ours | exponent | expected | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join(head + lines)


def _cost(row: Row) -> float:
    """Seconds for all its work, for one piece of it where that is to stay the same, or what it needs where that is no rate."""
    middle = statistics.median(row.ours)
    if row.unit != "/s":
        return middle
    return (1 if row.expected == "flat" else row.size) / middle
