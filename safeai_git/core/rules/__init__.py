"""The built-in rules: one file each, and the file, the id and the heading in ``docs/rules.md`` are one name.

A rule is a module with an ``ID`` and a function ``findings(proposal, policy, context)`` that yields what it objects
to, reading nothing but its arguments. They are listed here, explicitly and in the order in which they are reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from safeai_git.core.context import Context
from safeai_git.core.finding import Finding
from safeai_git.core.policy import Policy
from safeai_git.core.proposal import Proposal
from safeai_git.core.rules import (
    accountable_human,
    ai_disclosure,
    ai_sign_off,
    autonomy_tier,
    denied_path,
    edit_too_large,
    kill_switch,
    lfs_size,
    malformed_commit,
    malformed_tree,
    mode_change,
    path_collision,
    path_not_allowed,
    policy_expressions,
    protected_path,
    replay_failed,
    submodule,
    symlink_escape,
    too_many_edits,
    total_too_large,
    undecidable_author,
    unportable_path,
)


class Rule(Protocol):
    """What a rule module offers."""

    ID: str

    def findings(self, proposal: Proposal, policy: Policy, context: Context) -> Iterator[Finding]:
        """Every objection of this rule to the change, under one policy layer."""


MALFORMED: tuple[Rule, ...] = (malformed_tree, malformed_commit)
"""Asked first; where one of them objects, no other rule is asked: the facts mean nothing."""

MESSAGE_RULES: tuple[Rule, ...] = (ai_disclosure, ai_sign_off, accountable_human)
"""About what a commit says, not what it changes: a verdict, which is about a change, does not vouch for the answer."""

RULES: tuple[Rule, ...] = (
    kill_switch,
    autonomy_tier,
    undecidable_author,
    *MESSAGE_RULES,
    denied_path,
    path_not_allowed,
    protected_path,
    unportable_path,
    path_collision,
    mode_change,
    symlink_escape,
    submodule,
    lfs_size,
    edit_too_large,
    total_too_large,
    too_many_edits,
    policy_expressions,
    replay_failed,
)
"""Asked of every governed change."""

RULE_IDS: tuple[str, ...] = tuple(rule.ID for rule in (*MALFORMED, *RULES))
