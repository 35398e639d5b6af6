"""Every built-in rule: what it lets pass, what it wants reviewed, what it denies; and that it is documented."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from safeai_git.agents import catalogue
from safeai_git.core.attribution import Attribution, Metadata, attribute
from safeai_git.core.context import CheckEvidence, Context, KillSwitch
from safeai_git.core.edit import Collision, Edit, LfsPointer, Link, Malformation
from safeai_git.core.errors import CouldNotDecide
from safeai_git.core.evaluate import evaluate
from safeai_git.core.policy import PolicyStack
from safeai_git.core.proposal import Proposal
from safeai_git.core.rules import RULE_IDS
from safeai_git.core.values import replace
from safeai_git.policyfile import load

AI = Attribution("ai", "claude-code", 1.0)
UNKNOWN = Attribution("unknown")
SAFE = "safe_mode: true\n"
EASY = "safe_mode: false\n"
RULE = 'rules: [{id: no-x, when: "true", outcome: OUT, message: stop}]\n'
CHECK = "checks: [{name: unit, run: make}]\n"


def edit(path: bytes = b"src/a.py", **more: Any) -> Edit:
    given = {
        "status": "M",
        "old_mode": 0o100644,
        "new_mode": 0o100644,
        "old_id": "1" * 40,
        "new_id": "2" * 40,
    }
    return Edit(path=path, **{**given, "bytes_added": 10, "lines_added": 1, **more})


def proposal(*edits: Edit, **more: Any) -> Proposal:
    return Proposal(
        "commit", "b" * 40, "c" * 40, "1" * 40, "2" * 40, edits or (edit(),), **{"attribution": AI, **more}
    )


def always(_: str, __: object) -> bool:
    return True


def broken(_: str, __: object) -> bool:
    raise CouldNotDecide("no")


def evidence(result: Any) -> Context:
    return Context(evidence={"unit": CheckEvidence("unit", result, "it says")})


def said(message: str, agent: str = "") -> Attribution:
    who = ("Maria", "maria@example.com")
    return attribute(Metadata(who, who, message, committed=True, claimed_agent=agent), catalogue())


# rule, policy, change, context, decision
CASES: list[tuple[str, str, Proposal, Context, str]] = [
    ("malformed-tree", SAFE, proposal(malformed_tree=(Malformation(b"x", "twice"),)), Context(), "deny"),
    ("malformed-tree", SAFE, proposal(), Context(), "allow"),
    ("malformed-commit", SAFE, proposal(malformed_commit=(Malformation(b"", "NUL"),)), Context(), "deny"),
    ("malformed-commit", SAFE, proposal(), Context(), "allow"),
    ("kill-switch", SAFE, proposal(), Context(KillSwitch("engaged", "stop")), "deny"),
    ("kill-switch", SAFE, proposal(), Context(KillSwitch("stale", "old")), "deny"),
    ("kill-switch", EASY, proposal(), Context(KillSwitch("stale", "old")), "review"),
    ("kill-switch", SAFE, proposal(), Context(KillSwitch("released")), "allow"),
    ("autonomy-tier", "autonomy_tier: frozen\n", proposal(), Context(), "deny"),
    ("autonomy-tier", "autonomy_tier: alpha\n", proposal(), Context(), "review"),
    ("autonomy-tier", "agents: {claude-code: {allow: false}}\n", proposal(), Context(), "deny"),
    ("autonomy-tier", "agents: {claude-code: {autonomy_tier: alpha}}\n", proposal(), Context(), "review"),
    ("autonomy-tier", "autonomy_tier: stable\n", proposal(), Context(), "allow"),
    ("undecidable-author", SAFE, proposal(edit(b".github/x"), attribution=UNKNOWN), Context(), "deny"),
    ("undecidable-author", EASY, proposal(edit(b".github/x"), attribution=UNKNOWN), Context(), "review"),
    ("undecidable-author", SAFE, proposal(attribution=UNKNOWN), Context(), "allow"),
    ("ai-disclosure", "attribution: require\n", proposal(attribution=said("x", "amp")), Context(), "deny"),
    (
        "ai-disclosure",
        "attribution: require\n",
        proposal(attribution=said("x\n\nAssisted-by: Amp\n")),
        Context(),
        "allow",
    ),
    (
        "ai-sign-off",
        "ai_may_sign_off: false\n",
        proposal(attribution=said("x\n\nSigned-off-by: Maria <m@e.x>\n", "amp")),
        Context(),
        "deny",
    ),
    (
        "ai-sign-off",
        "ai_may_sign_off: false\n",
        proposal(attribution=said("x\n\nAssisted-by: Amp\nSigned-off-by: Maria <m@e.x>\n")),
        Context(),
        "allow",
    ),
    (
        "accountable-human",
        "accountable_trailers: [Requested-by]\n",
        proposal(attribution=said("x", "amp")),
        Context(),
        "review",
    ),
    (
        "accountable-human",
        "accountable_trailers: [Requested-by]\n",
        proposal(attribution=said("x\n\nRequested-by: Maria <m@e.x>\n", "amp")),
        Context(),
        "allow",
    ),
    ("denied-path", "deny_paths: [infra/]\n", proposal(edit(b"Infra/x")), Context(), "deny"),
    ("denied-path", "deny_paths: [infra/]\n", proposal(edit(b"infrastructure/x")), Context(), "allow"),
    ("path-not-allowed", "allow_paths: [src/]\n", proposal(edit(b"Src/a.py")), Context(), "deny"),
    ("path-not-allowed", "allow_paths: [src/]\n", proposal(), Context(), "allow"),
    ("protected-path", SAFE, proposal(edit(b".github/workflows/x.yml")), Context(), "review"),
    (
        "protected-path",
        "outcomes: {protected-path: deny}\n",
        proposal(edit(b"CODEOWNERS")),
        Context(),
        "deny",
    ),
    ("protected-path", "autonomy_tier: stable\n", proposal(edit(b"CODEOWNERS")), Context(), "allow"),
    (
        "protected-path",
        "autonomy_tier: stable\n",
        proposal(edit(b".safeai/policy.yaml")),
        Context(),
        "review",
    ),
    ("unportable-path", SAFE, proposal(edit(b"src/a\nb")), Context(), "deny"),
    (
        "unportable-path",
        "outcomes: {unportable-path: review}\n",
        proposal(edit(b"src/aux.c")),
        Context(),
        "review",
    ),
    (
        "unportable-path",
        "outcomes: {unportable-path: warn}\n",
        proposal(edit(b"src/GIT~1/x")),
        Context(),
        "deny",
    ),
    (
        "unportable-path",
        SAFE,
        proposal(edit(b"src/a\nb", new_id="", new_mode=0, status="D")),
        Context(),
        "allow",
    ),
    ("path-collision", SAFE, proposal(collisions=(Collision(b"A", b"a"),)), Context(), "deny"),
    (
        "path-collision",
        "outcomes: {path-collision: review}\n",
        proposal(collisions=(Collision(b"A", b"a"),)),
        Context(),
        "review",
    ),
    ("path-collision", SAFE, proposal(), Context(), "allow"),
    ("mode-change", SAFE, proposal(edit(new_mode=0o100755)), Context(), "review"),
    (
        "mode-change",
        "outcomes: {mode-change: deny}\n",
        proposal(edit(new_mode=0o120000, status="T")),
        Context(),
        "deny",
    ),
    (
        "mode-change",
        SAFE,
        proposal(edit(status="A", old_mode=0, old_id="", new_mode=0o100755)),
        Context(),
        "allow",
    ),
    ("symlink-escape", SAFE, proposal(edit(link=Link(b"/etc", "outside"))), Context(), "deny"),
    (
        "symlink-escape",
        "outcomes: {symlink-escape: review}\n",
        proposal(edit(link=Link(b"a", "loop"))),
        Context(),
        "review",
    ),
    (
        "symlink-escape",
        "outcomes: {symlink-escape: warn}\n",
        proposal(edit(link=Link(b".git", "git"))),
        Context(),
        "deny",
    ),
    ("symlink-escape", SAFE, proposal(edit(link=Link(b"b", "inside"))), Context(), "allow"),
    ("submodule", SAFE, proposal(edit(old_mode=0o160000, new_mode=0o160000)), Context(), "review"),
    (
        "submodule",
        "outcomes: {submodule: deny}\n",
        proposal(edit(status="A", old_mode=0, old_id="", new_mode=0o160000)),
        Context(),
        "deny",
    ),
    (
        "submodule",
        "outcomes: {submodule: warn}\n",
        proposal(edit(old_mode=0o160000, new_mode=0o160000)),
        Context(),
        "allow",
    ),
    ("lfs-size", SAFE, proposal(edit(lfs=LfsPointer(70_000))), Context(), "deny"),
    ("lfs-size", SAFE, proposal(edit(lfs=LfsPointer(None))), Context(), "deny"),
    ("lfs-size", EASY, proposal(edit(lfs=LfsPointer(None))), Context(), "review"),
    ("lfs-size", SAFE, proposal(edit(lfs=LfsPointer(100))), Context(), "allow"),
    ("edit-too-large", SAFE, proposal(edit(bytes_added=70_000)), Context(), "deny"),
    ("edit-too-large", SAFE, proposal(edit(bytes_added=70_000, counted_whole=True)), Context(), "deny"),
    ("edit-too-large", SAFE, proposal(edit(unread="huge", new_size=5)), Context(), "deny"),
    ("edit-too-large", EASY, proposal(edit(unread="huge", new_size=5)), Context(), "review"),
    ("edit-too-large", SAFE, proposal(edit(bytes_added=65_536)), Context(), "allow"),
    (
        "total-too-large",
        SAFE,
        proposal(*[edit(b"src/%d" % i, bytes_added=60_000) for i in range(9)]),
        Context(),
        "deny",
    ),
    (
        "total-too-large",
        SAFE,
        proposal(*[edit(b"src/%d" % i, bytes_added=60_000) for i in range(8)]),
        Context(),
        "allow",
    ),
    ("too-many-edits", "max_edits: 1\n", proposal(edit(b"a"), edit(b"b")), Context(), "deny"),
    ("too-many-edits", SAFE, proposal(complete=False), Context(), "deny"),
    ("too-many-edits", "max_edits: 1\n", proposal(), Context(), "allow"),
    (
        "policy-expressions",
        RULE.replace("OUT", "deny"),
        proposal(),
        Context(evaluate_expression=always),
        "deny",
    ),
    (
        "policy-expressions",
        RULE.replace("OUT", "review"),
        proposal(),
        Context(evaluate_expression=always),
        "review",
    ),
    (
        "policy-expressions",
        RULE.replace("OUT", "warn, each: edit"),
        proposal(),
        Context(evaluate_expression=always),
        "allow",
    ),
    (
        "policy-expressions",
        RULE.replace("OUT", "warn"),
        proposal(),
        Context(evaluate_expression=broken),
        "deny",
    ),
    (
        "policy-expressions",
        EASY + RULE.replace("OUT", "warn"),
        proposal(),
        Context(evaluate_expression=broken),
        "review",
    ),
    (
        "policy-expressions",
        RULE.replace("OUT", "deny"),
        proposal(),
        Context(evaluate_expression=lambda *_: False),
        "allow",
    ),
    ("policy-expressions", RULE.replace("OUT", "warn"), proposal(), Context(), "deny"),
    ("replay-failed", CHECK, proposal(), Context(), "review"),
    ("replay-failed", CHECK, proposal(), evidence("failed"), "deny"),
    ("replay-failed", CHECK, proposal(), evidence("undecided"), "deny"),
    ("replay-failed", EASY + CHECK, proposal(), evidence("undecided"), "review"),
    ("replay-failed", CHECK, proposal(), evidence("passed"), "allow"),
    ("replay-failed", CHECK, proposal(), Context(replay_expected=False), "allow"),
]


@pytest.mark.parametrize(("rule", "policy", "change", "context", "decision"), CASES)
def test_rule(rule: str, policy: str, change: Proposal, context: Context, decision: str) -> None:
    verdict = evaluate(change, PolicyStack((load(policy.encode(), "policy"),)), context)
    assert verdict.decision == decision, verdict.findings
    found = {finding.rule.partition("/")[0] for finding in verdict.findings}
    if decision != "allow":
        assert rule in found, verdict.findings
    for finding in verdict.findings:
        assert finding.message
        assert finding.remedy
        assert finding.lifted_by
        assert finding.policy == "policy"


@pytest.mark.parametrize("rule", RULE_IDS)
def test_every_rule_has_cases_that_pass_and_cases_that_do_not(rule: str) -> None:
    decisions = {case[4] for case in CASES if case[0] == rule}
    assert "allow" in decisions
    assert decisions & {"review", "deny"}


def test_every_rule_has_its_file_and_its_heading() -> None:
    root = Path(__file__).parent.parent
    headings = re.findall(r"^## (\S+)$", (root / "docs/rules.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert tuple(headings) == RULE_IDS
    files = {path.stem.replace("_", "-") for path in (root / "safeai_git/core/rules").glob("*.py")}
    assert files - {"--init--", "common"} == set(RULE_IDS)


def test_what_the_policy_does_not_govern_gets_no_findings() -> None:
    person = replace(proposal(edit(b".github/x")), attribution=Attribution("human"))
    verdict = evaluate(person, PolicyStack((load(SAFE.encode(), "policy"),)), Context())
    assert (verdict.governed, verdict.findings, verdict.decision) == (False, (), "allow")


def test_B01_governance_files_are_judged_whoever_changes_them() -> None:
    person = replace(proposal(edit(b".SafeAI/policy.yaml"), edit(b"x")), attribution=Attribution("human"))
    verdict = evaluate(person, PolicyStack((load(SAFE.encode(), "policy"),)), Context())
    assert verdict.decision == "review"
    assert [finding.path for finding in verdict.findings] == [b".SafeAI/policy.yaml"]
