"""What was objected to, as one flat list: the common ground of the reports for forges and CI systems."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from safeai_git.core.display import display, safe_text
from safeai_git.core.finding import Outcome
from safeai_git.gate import Judgement
from safeai_git.verify import CommitResult

Level = Literal["error", "warning", "note"]


class Remark(Struct, frozen=True):
    """One objection; every text is safe on a terminal, and escaped further by each report.

    Attributes:
        rule: The rule's id; ``verify-missing`` and the like for what `verify` found.
        level: ``error`` for what keeps the change from passing, ``warning`` for a review that approvals lifted,
            ``note`` for a warning of the policy.
        path: As git records it; ``None`` when it is about the change as a whole.
        commit: The commit that it is about, in hex; empty for a change without one.
        message: What is the matter.
        remedy: What the author can do.
        lifted_by: Who can lift it, and how.
    """

    rule: str
    level: Level
    path: bytes | None
    commit: str
    message: str
    remedy: str
    lifted_by: str = ""

    @property
    def place(self) -> str:
        """The path for people; empty where there is none."""
        return "" if self.path is None else display(self.path)

    @property
    def fingerprint(self) -> str:
        """The same, in hex, for the same objection at another time, on whichever commit it is found."""
        facts = (self.rule.encode(), self.path or b"", self.message.encode())
        return hashlib.sha256(b"\0".join(facts)).hexdigest()

    @property
    def sentence(self) -> str:
        """Everything that there is to say, in one line."""
        lifted = f" Can be lifted by {self.lifted_by}." if self.lifted_by else ""
        remedy = f" To do: {self.remedy}." if self.remedy else ""
        return f"{self.message}.{remedy}{lifted}"


def of_judgements(judgements: Iterable[Judgement]) -> list[Remark]:
    """The findings, worst first. The same finding on a commit and on the net change is said once."""
    found: dict[tuple[str, bytes | None, str], Remark] = {}
    for one in judgements:
        for finding in one.verdict.findings:
            remark = Remark(
                rule=safe_text(finding.rule),
                level=_level(finding.outcome, one.decision),
                path=finding.path,
                commit=one.verdict.proposal.head_commit,
                message=safe_text(finding.message),
                remedy=safe_text(finding.remedy),
                lifted_by=safe_text(finding.lifted_by),
            )
            found.setdefault((remark.rule, remark.path, remark.message), remark)
    return sorted(found.values(), key=lambda remark: _ORDER.index(remark.level))


def of_verification(results: Iterable[CommitResult]) -> list[Remark]:
    """The commits that do not pass."""
    return [
        Remark(
            rule=f"verify-{one.status}",
            level="error",
            path=None,
            commit=one.commit,
            message=f"commit {one.commit[:12]}: {safe_text(one.reason)}",
            remedy=safe_text(one.hint),
        )
        for one in results
        if not one.passes
    ]


_ORDER: tuple[Level, ...] = ("error", "warning", "note")


def _level(outcome: Outcome, decision: str) -> Level:
    if outcome is Outcome.WARN:
        return "note"
    return "warning" if outcome is Outcome.REVIEW and decision == "allow" else "error"
