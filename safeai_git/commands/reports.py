"""Reports beside the answer: ``--report KIND=FILE``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from safeai_git.commands.found import Found
from safeai_git.core.errors import WrongUse
from safeai_git.files import write_atomically
from safeai_git.report import data, github, gitlab, junit, markdown, sarif
from safeai_git.report.remarks import Remark, of_judgements, of_verification


def remarks(found: Found) -> list[Remark]:
    """All objections, worst first."""
    return [*of_judgements(found.judgements), *of_verification(found.results)]


def _markdown(found: Found) -> str:
    return markdown.document(found.title, found.decision, found.facts, remarks(found))


def _junit(found: Found) -> str:
    cases: list[tuple[str, list[Remark]]] = []
    for one in found.judgements:
        proposal = one.verdict.proposal
        cases.append((f"{proposal.kind} {proposal.head_commit[:12]}".strip(), of_judgements([one])))
    cases += [(f"verify {one.commit[:12]}", of_verification([one])) for one in found.results]
    return junit.document(cases)


def _json(found: Found) -> str:
    whole = {
        "decision": found.decision,
        "title": found.title,
        "facts": dict(found.facts),
        "judgements": [data.judgement(one) for one in found.judgements],
        "commits": [data.verification(one) for one in found.results],
    }
    return json.dumps(whole, indent=2)


KINDS: dict[str, Callable[[Found], str]] = {
    "json": _json,
    "markdown": _markdown,
    "sarif": lambda found: sarif.document(remarks(found), finished=found.decision != "undecided"),
    "github": lambda found: github.workflow_commands(remarks(found)),
    "gitlab": lambda found: gitlab.document(remarks(found)),
    "junit": _junit,
}


class Reports(Struct, frozen=True):
    """Which reports to write, and where."""

    wanted: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, specifications: Sequence[str]) -> Reports:
        """Read the values of ``--report``.

        Raises:
            WrongUse: One is not of the form ``KIND=FILE``.
        """
        wanted = []
        for one in specifications:
            kind, equals, place = one.partition("=")
            if kind not in KINDS or not equals or not place:
                raise WrongUse(
                    f"'{one}' is not a report",
                    hint=f"write KIND=FILE with one of {', '.join(KINDS)}; '-' is standard output",
                )
            wanted.append((kind, place))
        return cls(tuple(wanted))

    @staticmethod
    def text(kind: str, found: Found) -> str:
        """One report as text."""
        return KINDS[kind](found)

    def write(self, found: Found) -> None:
        """Write them all, each whole or not at all.

        Raises:
            StorageError: A file cannot be written.
        """
        for kind, place in self.wanted:
            text = self.text(kind, found)
            if place != "-":
                write_atomically(Path(place), text.encode("utf-8", "backslashreplace"), mode=0o644)
            elif text:
                sys.stdout.write(text if text.endswith("\n") else text + "\n")
