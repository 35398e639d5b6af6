"""Judgements for programs: JSON data, the same in every command."""

from __future__ import annotations

from typing import Any

from safeai_git.core.verdict import report
from safeai_git.gate import Judgement
from safeai_git.verify import CommitResult


def judgement(one: Judgement) -> dict[str, Any]:
    """A judgement: the report (docs/formats/report.md), with what approvals make of the decision."""
    data = report(one.verdict, one.stamp)
    return {**data, "passes": one.decision == "allow", "approved_by": list(one.approved_by)}


def verification(result: CommitResult) -> dict[str, Any]:
    """One commit's verification."""
    return {
        "commit": result.commit,
        "status": result.status,
        "passes": result.passes,
        "class": result.attribution.author_class,
        "agent": result.attribution.agent,
        "reason": result.reason,
        "hint": result.hint,
        "signed_by": list(result.signed_by),
        "approved_by": list(result.approved_by),
        **({"logged": result.logged} if result.logged else {}),
    }
