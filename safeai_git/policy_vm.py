"""The door to the policy VM: loads the expression evaluator when a policy really has rules.

Its import costs more than everything else that a hook does, so it is the one module that is loaded late, here.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from typing import Any

from safeai_git.core.policy import Policy


@cache
def _expressions() -> Any:
    return importlib.import_module("safeai_git.core.expressions")


@cache
def _compiled(when: str) -> Any:
    return _expressions().compile_rule(when)


def evaluate_expression(when: str, facts: Mapping[str, object]) -> bool:
    """Evaluate one expression over the facts.

    Raises:
        CouldNotDecide: It is no expression, its evaluation fails, or its value is neither true nor false.
    """
    return bool(_compiled(when, "edit" if "edit" in facts else "change").evaluate(facts))


def check_expressions(policy: Policy) -> None:
    """Compile every rule of a policy.

    Raises:
        PolicyError: One is no expression.
    """
    for rule in policy.rules:
        _compiled(rule.when, rule.each)
