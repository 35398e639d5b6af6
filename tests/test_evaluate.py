"""Properties of the judge: restrictions only restrict, layers only tighten, the decision follows from the findings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeai_git.agents import catalogue
from safeai_git.core.attribution import Attribution, Signal
from safeai_git.core.context import Context
from safeai_git.core.edit import Edit
from safeai_git.core.errors import PolicyError
from safeai_git.core.evaluate import evaluate
from safeai_git.core.finding import decide
from safeai_git.core.message import Message
from safeai_git.core.policy import Policy, PolicyStack
from safeai_git.core.proposal import Proposal
from safeai_git.policyfile import load

ORDER = ("allow", "review", "deny")
PATHS = [
    b"src/a.py",
    b"src/b/c.py",
    b"docs/x.md",
    b".github/workflows/ci.yml",
    b"Infra/main.tf",
    b".safeai/policy.yaml",
]

SIGNALS = (Signal("text", "codex", "ai", 0.3, "x"), Signal("trailer", "codex", "ai", 0.95, "y"))
MESSAGES = ("", "s\n\nRequested-by: A <a@b.c>\n", "s\n\nSigned-off-by: Claude\n")
edits = st.builds(
    lambda path, size, mode: Edit(
        path, "M", 0o100644, mode, "1" * 40, "2" * 40, bytes_added=size, lines_added=1
    ),
    st.sampled_from(PATHS),
    st.integers(0, 200_000),
    st.sampled_from([0o100644, 0o100755]),
)
proposals = st.builds(
    lambda found, who: Proposal(
        "commit",
        "b" * 40,
        "c" * 40,
        "1" * 40,
        "2" * 40,
        tuple({one.path: one for one in found}.values()),
        Attribution(
            who, "codex", 0.5, SIGNALS[: len(found) % 3], Message(MESSAGES[len(found) % 3], catalogue())
        ),
    ),
    st.lists(edits, min_size=1, max_size=5),
    st.sampled_from(["ai", "mixed", "human", "bot", "unknown"]),
)
keys = st.fixed_dictionaries(
    {},
    optional={
        "safe_mode": st.booleans(),
        "autonomy_tier": st.sampled_from(["frozen", "alpha", "beta", "stable"]),
        "allow_paths": st.lists(st.sampled_from(["src/", "docs/", "**/*.py"]), max_size=2),
        "deny_paths": st.lists(st.sampled_from(["infra/", "src/b/", "*.md"]), max_size=2),
        "protected_paths": st.lists(st.sampled_from(["src/", "docs/x.md"]), max_size=2),
        "max_edit_size_bytes": st.integers(1, 300_000),
        "max_total_size_bytes": st.integers(1, 600_000),
        "max_edits": st.integers(1, 5),
        "applies_to": st.lists(
            st.sampled_from(["ai", "mixed", "human", "bot"]), min_size=1, max_size=4, unique=True
        ),
        "free_text_governs": st.booleans(),
        "ai_until_shown_human": st.booleans(),
        "attribution": st.sampled_from([None, "forbid", "disclose", "require"]),
        "ai_may_sign_off": st.booleans(),
        "accountable_trailers": st.lists(st.sampled_from(["Requested-by", "Signed-off-by"]), max_size=2),
    },
)


def policy(data: dict[str, object]) -> Policy:
    return Policy.from_data(data, {}, "policy", "0" * 64)


def strictness(change: Proposal, *layers: Policy) -> int:
    return ORDER.index(evaluate(change, PolicyStack(layers), Context()).decision)


@given(proposals, keys, keys)
def test_B05_another_layer_never_loosens(
    change: Proposal, one: dict[str, object], other: dict[str, object]
) -> None:
    both = strictness(change, policy(one), policy(other))
    assert both == max(strictness(change, policy(one)), strictness(change, policy(other)))


@given(
    proposals,
    keys,
    st.sampled_from(
        [
            ("deny_paths", lambda old: [*old, "src/"]),
            ("protected_paths", lambda old: [*old, "src/"]),
            ("allow_paths", lambda old: old[:1] or ["src/b/"]),
            ("autonomy_tier", lambda old: {"stable": "beta", "beta": "alpha"}.get(old, "frozen")),
            ("max_edit_size_bytes", lambda old: max(1, old // 2)),
            ("max_total_size_bytes", lambda old: max(1, old // 2)),
            ("max_edits", lambda old: max(1, old - 1)),
            ("applies_to", lambda _: ["ai", "mixed", "human", "bot", "unknown"]),
            ("safe_mode", lambda _: True),
            ("free_text_governs", lambda _: True),
            ("ai_until_shown_human", lambda _: True),
            ("attribution", lambda old: old if old == "forbid" else "require"),
            ("ai_may_sign_off", lambda _: False),
            ("accountable_trailers", lambda old: old[:1] or ["Requested-by"]),
        ]
    ),
)
def test_adding_a_restriction_never_loosens(
    change: Proposal, data: dict[str, object], restriction: object
) -> None:
    key, tighten = restriction  # type: ignore[misc]
    defaults = policy(data).to_data()
    tighter = {**data, key: tighten(defaults[key])}
    assert strictness(change, policy(tighter)) >= strictness(change, policy(data))


@given(proposals, keys)
def test_the_decision_is_the_strictest_finding(change: Proposal, data: dict[str, object]) -> None:
    verdict = evaluate(change, PolicyStack((policy(data),)), Context())
    assert verdict.decision == decide(verdict.findings)
    if not verdict.governed:
        assert verdict.findings == ()


def test_without_a_policy_there_is_no_verdict() -> None:
    change = Proposal("commit", "", "", "", "2" * 40, (), Attribution("ai"))
    with pytest.raises(PolicyError):
        evaluate(change, PolicyStack(()), Context())


def test_the_first_policy_of_a_repository_may_be_written_by_a_person() -> None:
    first = Edit(b".safeai/policy.yaml", "A", 0, 0o100644, "", "2" * 40)
    change = Proposal("commit", "", "", "", "2" * 40, (first,), Attribution("human"))
    assert not evaluate(change, PolicyStack((Policy.builtin(),)), Context()).governed
    agent = Proposal("commit", "", "", "", "2" * 40, (first,), Attribution("ai"))
    assert evaluate(agent, PolicyStack((Policy.builtin(),)), Context()).decision == "review"
    assert evaluate(change, PolicyStack((load(b"safe_mode: true\n", "p"),)), Context()).decision == "review"
