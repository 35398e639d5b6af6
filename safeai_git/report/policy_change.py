"""What a change does to the policy, as text and as data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from safeai_git.core.display import safe_text
from safeai_git.core.policy_difference import Change
from safeai_git.core.values import fields
from safeai_git.policy_change import PolicyChange


def lines(changes: Iterable[Change]) -> str:
    """Differences, one a line: ``either`` where nobody can tell what it does to the limits."""
    told = [f"  {one.direction:7} {safe_text(one.key)}: {safe_text(one.text)}" for one in changes]
    return "\n".join(told) or "  no effective difference"


def remark(change: PolicyChange) -> str:
    """What becomes of the policy, as a remark below a judgement."""
    if change.problem:
        return (
            f"policy.yaml changes; what that means cannot be told: {safe_text(change.problem, newlines=True)}"
        )
    return f"policy.yaml changes:\n{lines(change.changes)}"


def data(change: PolicyChange) -> dict[str, Any]:
    """The same for programs."""
    return {"problem": change.problem, "changes": [fields(one) for one in change.changes]}
