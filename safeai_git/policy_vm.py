"""The door to the policy VM: loads the expression evaluator when a policy really has rules.

Its import costs more than everything else that a hook does, so it is the one module that is loaded late, here.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from typing import Any

from safeai_git.core.errors import PolicyError
from safeai_git.core.policy import Policy


@cache
def _expressions() -> Any:
    return importlib.import_module("safeai_git.core.expressions")


@cache
def _compiled(when: str, each: str) -> Any:
    return _expressions().compile_rule(when, each)


def evaluate_expression(when: str, facts: Mapping[str, object]) -> bool:
    """Evaluate one expression over the facts.

    Raises:
        CouldNotDecide: It is no expression, its evaluation fails, or its value is neither true nor false.
    """
    return bool(_compiled(when, "edit" if "edit" in facts else "change").evaluate(facts))


def rules_out(when: str, facts: Mapping[str, object]) -> bool:
    """Whether an expression surely is false for every one of the facts' edits; false where that is not known."""
    return bool(_compiled(when, "edit").is_false_throughout(facts))


def check_expressions(policy: Policy) -> None:
    """Compile every rule of a policy.

    Raises:
        PolicyError: One or more are no expressions; each is named with its rule.
    """
    wrong: list[PolicyError] = []
    for rule in policy.rules:
        try:
            _compiled(rule.when, rule.each)
        except PolicyError as error:
            wrong.append(PolicyError(f"{policy.source}: rule '{rule.id}': {error.message}", hint=error.hint))
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        raise PolicyError(
            "\n".join(one.message + (f" ({one.hint})" if one.hint else "") for one in wrong),
            hint=f"mend all {len(wrong)}, then run 'safeai-git policy lint'",
        )
