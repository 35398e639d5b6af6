"""A report in Markdown, for a job's summary or a comment.

Foreign text cannot become markup: every character that Markdown, HTML or a forge's own links (``@name``, ``#1``) could
take for more than itself is written as a character reference, which no parser takes for structure (CommonMark 0.31,
"Entity and numeric character references"), and mentions are cut in two.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from safeai_git.core.display import count
from safeai_git.report.remarks import Level, Remark

MOST_ROWS = 200
_LONGEST = 400
_MARKUP = re.compile(r"[^\w ]|_", re.ASCII)
_WORDS: dict[Level, str] = {"error": "blocks", "warning": "approved", "note": "warning"}
_HEADS = {
    "allow": "allowed",
    "review": "needs an approval",
    "deny": "refused",
    "undecided": "could not decide",
}


def document(title: str, decision: str, facts: Sequence[tuple[str, str]], remarks: Sequence[Remark]) -> str:
    """The whole report.

    Args:
        title: What was looked at.
        decision: ``allow``, ``review``, ``deny`` or ``undecided``.
        facts: Names and values, shown as a list.
        remarks: The objections, worst first.
    """
    lines = [f"## safeai-git: {_HEADS[decision]}", "", safe(title), ""]
    lines += [f"- {safe(name)}: {code(value)}" for name, value in facts]
    if remarks:
        lines += ["", "| | rule | path | why | what to do | who can lift it |", "|---|---|---|---|---|---|"]
        lines += [_row(one) for one in remarks[:MOST_ROWS]]
    if len(remarks) > MOST_ROWS:
        lines += [
            "",
            f"… and {count(len(remarks) - MOST_ROWS, 'more finding')}; all of them are in the JSON report.",
        ]
    return "\n".join([*lines, ""])


def _row(one: Remark) -> str:
    path = code(one.place) if one.path is not None else ""
    cells = (
        _WORDS[one.level],
        code(one.rule),
        path,
        safe(one.message),
        safe(one.remedy),
        safe(one.lifted_by),
    )
    return f"| {' | '.join(cells)} |"


def code(text: str) -> str:
    """Foreign text in a typewriter's letters."""
    return f"<code>{_escaped(_cut(text))}</code>" if text else ""


def safe(text: str) -> str:
    """Foreign text that is nothing but text."""
    return re.sub(r"(&#(?:64|35);)", r"\1<!-- -->", _escaped(_cut(text)))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _escaped(text: str) -> str:
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};" if found[0] not in ".,-" else found[0], text)
