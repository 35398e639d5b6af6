"""Annotations on GitHub: workflow commands on standard output.

A step shows ten errors and ten warnings, the rest is dropped without a word
(docs.github.com, "Workflow commands for GitHub Actions"); so the last line says how many more there are. Nothing foreign
can end a command or begin another one: line ends and the characters of the syntax are escaped.
"""

from __future__ import annotations

from collections.abc import Iterable

from safeai_git.report.remarks import Level, Remark

MOST = 10

_COMMANDS: dict[Level, str] = {"error": "error", "warning": "warning", "note": "notice"}


def workflow_commands(remarks: Iterable[Remark]) -> str:
    """One command a line; empty where there is nothing to say."""
    shown: dict[Level, int] = dict.fromkeys(_COMMANDS, 0)
    lines: list[str] = []
    left = 0
    for one in remarks:
        # one place is kept for the line that says how many are left out
        if shown[one.level] >= MOST - (one.level == "warning"):
            left += 1
            continue
        shown[one.level] += 1
        lines.append(_command(one))
    if left:
        lines.append(f"::warning title=safeai-git::{left} more in the job summary and in the report")
    return "\n".join(lines)


def _command(one: Remark) -> str:
    file = f"file={_property(one.place)},line=1," if one.path is not None else ""
    return (
        f"::{_COMMANDS[one.level]} {file}title={_property(f'safeai-git: {one.rule}')}::{_data(one.sentence)}"
    )


def _data(text: str) -> str:
    """As actions/toolkit escapes it (packages/core/src/command.ts)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
