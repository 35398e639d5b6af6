"""Options that several commands have, and those whose description is long; for `cli`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """How a command answers."""

    text = "text"
    json = "json"
    jsonl = "jsonl"


FormatOption = Annotated[
    Format, typer.Option("--format", help="text for people, json or jsonl for programs.")
]
PolicyOption = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        metavar="FILE",
        help="Judge by this file instead of the repository's policy.",
        readable=False,
    ),
]
AtOption = Annotated[
    str, typer.Option("--at", metavar="REV", help="The commit whose policy is meant (default: HEAD).")
]
AgentOption = Annotated[
    str, typer.Option("--agent", metavar="NAME", help="The agent that wrote the change, if you know.")
]

ReportOption = Annotated[
    list[str] | None,
    typer.Option(
        "--report",
        metavar="KIND=FILE",
        help="Write a report too: json, markdown, sarif, github, gitlab or junit; '-' is standard output. Repeatable.",
        show_default=False,
    ),
]
JobsOption = Annotated[
    int, typer.Option("--jobs", "-j", metavar="N", min=1, max=64, help="How many checks run at one time.")
]
ShellOption = Annotated[
    bool, typer.Option("--shell", help="A shell in the sandbox instead, to look around. Nothing is recorded.")
]
LogOption = Annotated[
    str,
    typer.Option(
        "--log", metavar="DIGEST", help="Show what a check printed, by its SHA-256 or the beginning of it."
    ),
]
AgainOption = Annotated[
    str,
    typer.Option(
        "--again",
        metavar="VERDICT",
        help="Replay what a verdict claims (of a commit, or in a file), and compare.",
    ),
]
EvidenceOption = Annotated[
    Path | None,
    typer.Option(
        "--evidence",
        metavar="FILE",
        help="Take what was replayed from the JSON report of an earlier job; run nothing of the change.",
        readable=False,
    ),
]
