"""One test for each guard of the judge, on values alone: quick enough to be run once for each guard taken out.

`tests/mutation.py` does that. The same guards are tested end to end elsewhere; here each of them stands by itself.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from safeai_git.approvals import counted
from safeai_git.core import canonical
from safeai_git.core.attribution import Attribution
from safeai_git.core.context import CheckEvidence, Context, KillSwitch
from safeai_git.core.edit import Collision, Edit, LfsPointer, Link, Malformation
from safeai_git.core.envelope import MAX_PAE, PAYLOAD_TYPE, Envelope, Opened, Rejected, check_envelope, pae
from safeai_git.core.errors import CouldNotDecide, FormatError, PolicyError
from safeai_git.core.evaluate import evaluate, governed_part
from safeai_git.core.finding import Finding, Outcome, decide
from safeai_git.core.objects import TreeEntry, format_tree, parse_commit, parse_tree, tree_problems
from safeai_git.core.paths import fold, from_json, portability_problems, to_json
from safeai_git.core.policy import Policy, PolicyStack
from safeai_git.core.proposal import Proposal
from safeai_git.core.publickey import PublicKey
from safeai_git.core.rules import RULE_IDS
from safeai_git.core.stamp import Stamp
from safeai_git.core.trust import AllowedSigner, Refusal, TrustedKey
from safeai_git.core.values import replace
from safeai_git.core.verdict import approval, parse_statement, statement
from safeai_git.git.changes import LONGEST, MOST_REMARKS, TreeComparer
from safeai_git.git.content import lfs_pointer, resolve_link
from safeai_git.git.libgit2 import Libgit2Store
from safeai_git.keys.ed25519 import Ed25519Signer, verify
from safeai_git.keys.keyring import MAX_BYTES, Keyring
from safeai_git.keys.seal import seal
from safeai_git.trust import Trust
from safeai_git.weighing import Court, Subject, passed_checks, weigh

AI = Attribution("ai", "claude-code", 0.95)
HUMAN = Attribution("human", "", 0.5)
ID, OTHER_ID = "1" * 40, "2" * 40


def policy(**data: Any) -> Policy:
    return Policy.from_data({"repository": "test/repository", **data}, {}, "policy", "d" * 64)


def edit(path: bytes = b"src/a", **values: Any) -> Edit:
    made: dict[str, Any] = {
        "status": "M",
        "old_mode": 0o100644,
        "new_mode": 0o100644,
        "old_id": ID,
        "new_id": OTHER_ID,
    }
    return Edit(path=path, **(made | values))


def proposal(*edits: Edit, who: Attribution = AI, **values: Any) -> Proposal:
    made: dict[str, Any] = {
        "base_commit": "b" * 40,
        "head_commit": "c" * 40,
        "base_tree": "3" * 40,
        "tree": "4" * 40,
    }
    return Proposal(kind="commit", edits=edits, attribution=who, **(made | values))


def found(
    change: Proposal, *layers: Policy, context: Context | None = None
) -> list[tuple[str, str, bytes | None]]:
    verdict = evaluate(change, PolicyStack(layers or (policy(),)), context or Context())
    return [(one.rule, one.outcome.word, one.path) for one in verdict.findings]


def only(change: Proposal, *layers: Policy, context: Context | None = None) -> Finding:
    verdict = evaluate(change, PolicyStack(layers or (policy(),)), context or Context())
    assert len(verdict.findings) == 1, verdict.findings
    return verdict.findings[0]


LOOSE = {"safe_mode": False}


# Rules


def test_the_rules_that_are_asked() -> None:
    assert RULE_IDS == (
        "malformed-tree",
        "malformed-commit",
        "kill-switch",
        "autonomy-tier",
        "undecidable-author",
        "ai-disclosure",
        "ai-sign-off",
        "accountable-human",
        "denied-path",
        "path-not-allowed",
        "protected-path",
        "unportable-path",
        "path-collision",
        "mode-change",
        "symlink-escape",
        "submodule",
        "lfs-size",
        "edit-too-large",
        "total-too-large",
        "too-many-edits",
        "policy-expressions",
        "replay-failed",
    )


def test_a_harmless_change_is_allowed() -> None:
    assert found(proposal(edit())) == []


def test_autonomy_tier() -> None:
    for tier, outcome, lifted in (("frozen", "deny", "maintainer"), ("alpha", "review", "approver")):
        finding = only(proposal(edit()), policy(autonomy_tier=tier))
        assert (finding.rule, finding.outcome.word, finding.path) == ("autonomy-tier", outcome, None)
        assert "claude-code" in finding.message
        assert lifted in finding.lifted_by
        assert found(proposal(), policy(autonomy_tier=tier)) == []
    nobody = only(proposal(edit(), who=Attribution("ai")), policy(autonomy_tier="frozen"))
    assert "this author" in nobody.message
    assert found(proposal(edit()), policy(autonomy_tier="stable")) == []
    barred = policy(agents={"claude-code": {"allow": False}}, autonomy_tier="frozen")
    assert "does not admit" in only(proposal(edit()), barred).message
    assert only(proposal(edit()), barred).outcome is Outcome.DENY
    assert found(proposal(), barred) == []


def test_B01_denied_path() -> None:
    deny = policy(deny_paths=["keys/"])
    assert found(proposal(edit(b"keys/a"), edit(b"src/a")), deny) == [("denied-path", "deny", b"keys/a")]
    assert ("denied-path", "deny", b"Keys\\a") in found(proposal(edit(b"Keys\\a")), deny)


def test_edit_too_large() -> None:
    small = policy(max_edit_size_bytes=10)
    assert found(proposal(edit(bytes_added=6, bytes_removed=4)), small) == []
    finding = only(proposal(edit(bytes_added=11)), small)
    assert (finding.rule, finding.outcome) == ("edit-too-large", Outcome.DENY)
    assert "counted whole" not in finding.message
    assert "counted whole" in only(proposal(edit(bytes_added=11, counted_whole=True)), small).message
    assert only(proposal(edit(unread="too long")), small).outcome is Outcome.DENY
    assert only(proposal(edit(unread="too long")), policy(**LOOSE)).outcome is Outcome.REVIEW
    assert (
        found(
            proposal(edit(lfs=LfsPointer(11), bytes_added=11)),
            policy(max_edit_size_bytes=10, max_lfs_size_bytes=99),
        )
        == []
    )


def test_total_too_large_and_too_many_edits() -> None:
    two = policy(max_total_size_bytes=10, max_edits=2)
    assert found(proposal(edit(b"a", bytes_added=5), edit(b"b", bytes_added=5)), two) == []
    assert found(proposal(edit(b"a", bytes_added=5), edit(b"b", bytes_added=6)), two) == [
        ("total-too-large", "deny", None)
    ]
    three = only(proposal(edit(b"a"), edit(b"b"), edit(b"c")), two)
    assert (three.rule, three.outcome, three.path) == ("too-many-edits", Outcome.DENY, None)
    assert three.message.startswith("3 paths change")
    cut = only(proposal(complete=False), two)
    assert (cut.rule, cut.outcome) == ("too-many-edits", Outcome.DENY)
    assert cut.message.startswith("more paths change")


def test_kill_switch() -> None:
    def switched(state: Any, reason: str, layer: Policy) -> Finding:
        return only(proposal(edit()), layer, context=Context(kill_switch=KillSwitch(state, reason)))

    assert switched("engaged", "incident", policy(**LOOSE)).outcome is Outcome.DENY
    assert "incident" in switched("engaged", "incident", policy()).message
    assert "no reason was given" in switched("engaged", "", policy()).message
    assert switched("stale", "old", policy()).outcome is Outcome.DENY
    assert switched("stale", "old", policy(**LOOSE)).outcome is Outcome.REVIEW
    assert found(proposal(edit()), context=Context(kill_switch=KillSwitch("released"))) == []


def test_B46_lfs_size() -> None:
    ten = policy(max_lfs_size_bytes=10)
    assert found(proposal(edit(lfs=LfsPointer(10))), ten) == []
    assert only(proposal(edit(lfs=LfsPointer(11))), ten).outcome is Outcome.DENY
    assert (
        only(
            proposal(edit(lfs=LfsPointer(11))), policy(max_lfs_size_bytes=10, outcomes={"lfs-size": "warn"})
        ).outcome
        is Outcome.WARN
    )
    unknown = proposal(edit(lfs=LfsPointer(None)))
    assert (only(unknown, ten).rule, only(unknown, ten).outcome) == ("lfs-size", Outcome.DENY)
    assert "maintainer" in only(unknown, ten).lifted_by
    loose = only(unknown, policy(**LOOSE))
    assert loose.outcome is Outcome.REVIEW
    assert "approver" in loose.lifted_by


def test_B34_B55_malformed_objects_are_denied_and_nothing_else_is_asked() -> None:
    for values in (
        {"malformed_tree": (Malformation(b"x", "odd"),)},
        {"malformed_commit": (Malformation(b"", "odd"),)},
    ):
        for who in (AI, HUMAN):
            change = proposal(edit(b"keys/a"), who=who, **values)
            finding = only(change, policy(deny_paths=["keys/"]))
            assert finding.rule.startswith("malformed-")
            assert finding.outcome is Outcome.DENY
            assert finding.path == (b"x" if "malformed_tree" in values else None)
    assert only(proposal(malformed_tree=(Malformation(b"", "odd"),))).path is None


def test_B42_mode_change() -> None:
    assert found(proposal(edit(status="A", old_mode=0, old_id="", new_mode=0o100755))) == [
        ("mode-change", "warn", b"src/a")
    ]
    assert found(proposal(edit(new_mode=0o100755))) == [("mode-change", "review", b"src/a")]
    assert found(proposal(edit(new_mode=0o100755)), policy(outcomes={"mode-change": "deny"})) == [
        ("mode-change", "deny", b"src/a")
    ]
    assert found(proposal(edit(status="A", old_mode=0, old_id=""))) == []
    assert found(proposal(edit(status="D", new_mode=0, new_id=""))) == []


def test_B30_path_collision() -> None:
    change = proposal(edit(), collisions=(Collision(b"src/a", b"src/A"),))
    assert found(change) == [("path-collision", "deny", b"src/a")]
    assert found(change, policy(outcomes={"path-collision": "warn"})) == [
        ("path-collision", "warn", b"src/a")
    ]


def test_path_not_allowed() -> None:
    allow = policy(allow_paths=["src/"])
    assert found(proposal(edit(b"src/a"), edit(b"lib/a")), allow) == [("path-not-allowed", "deny", b"lib/a")]
    assert found(proposal(edit(b"Src/a")), allow) == [("path-not-allowed", "deny", b"Src/a")]
    eight = only(proposal(edit(b"x")), policy(allow_paths=[f"p{i}/" for i in range(8)]))
    nine = only(proposal(edit(b"x")), policy(allow_paths=[f"p{i}/" for i in range(9)]))
    assert "p7/)" in eight.message
    assert "p7/, ...)" in nine.message


def test_policy_expressions() -> None:
    def answers(when: str, facts: Any) -> bool:
        if when == "broken":
            raise CouldNotDecide("no answer")
        assert ("edit" in facts) == (when == "each")
        return when != "no" and (when != "each" or facts["edit"]["path"] == "src/b")

    def asked(when: str, each: str = "change", outcome: str = "review", **data: Any) -> list[Finding]:
        rule = {"id": "mine", "when": when, "each": each, "outcome": outcome, "message": "why"}
        change = proposal(edit(b"src/a"), edit(b"src/b"))
        context = Context(evaluate_expression=answers)
        return list(evaluate(change, PolicyStack((policy(rules=[rule], **data),)), context).findings)

    (finding,) = asked("yes")
    assert (finding.rule, finding.outcome, finding.path, finding.message) == (
        "policy-expressions/mine",
        Outcome.REVIEW,
        None,
        "why",
    )
    assert "approver" in finding.lifted_by
    assert "maintainer" in asked("yes", outcome="deny")[0].lifted_by
    assert asked("no") == []
    assert [one.path for one in asked("each", "edit")] == [b"src/b"]
    # What is ruled out for all edits at once is asked of none, and only rules of each edit are looked at so.
    looks: list[tuple[str, bool]] = []

    def rules_out(when: str, facts: Any) -> bool:
        looks.append((when, "edit" in facts))
        return len(facts["edits"]) == 2

    change = proposal(edit(b"src/a"), edit(b"src/b"))
    rules = [
        {"id": one, "when": one, "each": each, "outcome": "deny", "message": "why"}
        for one, each in (("each", "edit"), ("yes", "change"))
    ]
    context = Context(evaluate_expression=answers, rules_out=rules_out)
    told = evaluate(change, PolicyStack((policy(rules=rules),)), context).findings
    assert [one.rule for one in told] == ["policy-expressions/yes"]
    assert looks == [("each", False)]
    assert asked("broken")[0].outcome is Outcome.DENY
    assert asked("broken", outcome="warn", **LOOSE)[0].outcome is Outcome.REVIEW
    assert (
        found(proposal(), policy(rules=[{"id": "a", "when": "x", "outcome": "deny", "message": "m"}])) == []
    )
    # Without a policy VM a rule is an open question.
    assert found(
        proposal(edit()), policy(rules=[{"id": "a", "when": "x", "outcome": "warn", "message": "m"}])
    ) == [("policy-expressions/a", "deny", None)]


def test_B02_protected_path() -> None:
    assert found(proposal(edit(b".GitHub/x"))) == [("protected-path", "review", b".GitHub/x")]
    assert found(proposal(edit(b".github/x")), policy(outcomes={"protected-path": "deny"})) == [
        ("protected-path", "deny", b".github/x")
    ]
    stable = policy(autonomy_tier="stable")
    assert found(proposal(edit(b".github/x")), stable) == []
    assert found(proposal(edit(b".safeai/policy.yaml")), stable) == [
        ("protected-path", "review", b".safeai/policy.yaml")
    ]
    assert found(proposal(edit(b".safeai/policy.yaml")), policy(protect_defaults=False)) == [
        ("protected-path", "review", b".safeai/policy.yaml")
    ]


def test_replay_failed() -> None:
    checks = policy(checks=[{"name": "unit", "run": "true"}])

    def replayed(result: Any, layer: Policy = checks, **values: Any) -> list[Finding]:
        evidence = {"unit": CheckEvidence("unit", result, "detail")} if result else {}
        context = Context(evidence=evidence, **values)
        return list(evaluate(proposal(edit()), PolicyStack((layer,)), context).findings)

    assert replayed("passed") == []
    assert replayed("failed", replay_expected=False) == []
    assert [(one.rule, one.outcome) for one in replayed("failed")] == [("replay-failed", Outcome.DENY)]
    assert [(one.rule, one.outcome) for one in replayed("")] == [("replay-failed", Outcome.REVIEW)]
    assert "has not been replayed" in replayed("")[0].message
    assert replayed("undecided")[0].outcome is Outcome.DENY
    assert "sandbox" in replayed("undecided")[0].lifted_by
    loose = policy(checks=[{"name": "unit", "run": "true"}], **LOOSE)
    assert replayed("undecided", loose)[0].outcome is Outcome.REVIEW
    assert "approver" in replayed("undecided", loose)[0].lifted_by


def test_B43_submodule() -> None:
    for values, words in (
        ({"status": "A", "old_mode": 0, "old_id": "", "new_mode": 0o160000}, "from none to 222222222222"),
        ({"status": "D", "new_mode": 0, "new_id": "", "old_mode": 0o160000}, "from 111111111111 to none"),
    ):
        finding = only(proposal(edit(**values)))
        assert (finding.rule, finding.outcome) == ("submodule", Outcome.REVIEW)
        assert words in finding.message
    assert (
        only(
            proposal(edit(old_mode=0o160000, new_mode=0o160000)), policy(outcomes={"submodule": "deny"})
        ).outcome
        is Outcome.DENY
    )


def test_B42_symlink_escape() -> None:
    warn = policy(outcomes={"symlink-escape": "warn"})
    link = {"old_mode": 0o120000, "new_mode": 0o120000}
    assert found(proposal(edit(link=Link(b"x", "inside"), **link))) == []
    for fate, words in (
        ("outside", "out of the repository"),
        ("git", "git's own folder"),
        ("loop", "round in a circle"),
    ):
        change = proposal(edit(link=Link(b"../x", fate), **link))  # type: ignore[arg-type]
        assert only(change).outcome is Outcome.DENY
        assert words in only(change).message
        fixed = fate == "git"
        assert only(change, warn).outcome is (Outcome.DENY if fixed else Outcome.WARN)
        assert (only(change, warn).lifted_by == "nobody") is fixed


def test_undecidable_author() -> None:
    who = Attribution("unknown")
    assert found(proposal(edit(), who=who)) == [("undecidable-author", "warn", None)]
    assert ("undecidable-author", "deny", b".github/x") in found(
        proposal(edit(b".github/x"), edit(), who=who)
    )
    assert ("undecidable-author", "deny", b"src/a") not in found(
        proposal(edit(b".github/x"), edit(), who=who)
    )
    loose = evaluate(
        proposal(edit(b".github/x"), who=who), PolicyStack((policy(**LOOSE),)), Context()
    ).findings[0]
    assert (loose.rule, loose.outcome) == ("undecidable-author", Outcome.REVIEW)
    assert "approver" in loose.lifted_by
    strict = evaluate(proposal(edit(b".github/x"), who=who), PolicyStack((policy(),)), Context()).findings[0]
    assert "nobody" in strict.lifted_by


def test_B31_B32_unportable_path() -> None:
    assert found(proposal(edit(b"src/a b "))) == [("unportable-path", "deny", b"src/a b ")]
    assert found(proposal(edit(b"src/a b ", status="D", new_mode=0, new_id=""))) == []
    for outcome, lifted in (("warn", "policy's"), ("review", "approver"), ("deny", "policy's")):
        finding = only(proposal(edit(b"src/a ")), policy(outcomes={"unportable-path": outcome}))
        assert finding.outcome.word == outcome
        assert lifted in finding.lifted_by
    alias = evaluate(
        proposal(edit(b".git ")), PolicyStack((policy(outcomes={"unportable-path": "warn"}),)), Context()
    )
    assert {(one.outcome.word, one.lifted_by[:6]) for one in alias.findings} == {
        ("deny", "nobody"),
        ("warn", "the po"),
    }


# The judge


def test_the_worst_finding_decides() -> None:
    def of(*outcomes: Outcome) -> str:
        return decide(Finding("r", one, None, "", "", "") for one in outcomes)

    assert of() == of(Outcome.WARN) == "allow"
    assert of(Outcome.WARN, Outcome.REVIEW) == "review"
    assert of(Outcome.REVIEW, Outcome.DENY, Outcome.WARN) == "deny"


def test_B06_without_a_policy_nothing_is_judged() -> None:
    with pytest.raises(PolicyError):
        evaluate(proposal(edit()), PolicyStack(()), Context())


def test_what_a_policy_governs() -> None:
    mine = policy()
    assert governed_part(proposal(edit()), mine) == proposal(edit())
    assert governed_part(proposal(edit(), who=HUMAN), mine) is None
    assert governed_part(proposal(edit(b".safeai/x"), who=HUMAN), Policy.builtin()) is None
    change = proposal(edit(), edit(b".SafeAI/x"), who=HUMAN, collisions=(Collision(b"a", b"A"),))
    part = governed_part(change, mine)
    assert part is not None
    assert ([one.path for one in part.edits], part.collisions) == ([b".SafeAI/x"], ())
    for values in (
        {"malformed_tree": (Malformation(b"", "odd"),)},
        {"malformed_commit": (Malformation(b"", "odd"),)},
    ):
        odd = proposal(who=HUMAN, **values)
        assert governed_part(odd, mine) == governed_part(odd, Policy.builtin()) == odd


def test_B01_of_a_persons_change_only_governance_is_judged() -> None:
    layer = policy(deny_paths=["src/", ".safeai/"], autonomy_tier="frozen")
    change = proposal(edit(), edit(b".safeai/policy.yaml"), who=HUMAN)
    assert found(change, layer) == [("protected-path", "review", b".safeai/policy.yaml")]
    verdict = evaluate(proposal(edit(), who=HUMAN), PolicyStack((layer,)), Context())
    assert (verdict.governed, verdict.findings, verdict.decision) == (False, (), "allow")
    verdict = evaluate(change, PolicyStack((layer,)), Context())
    assert (verdict.governed, verdict.findings[0].policy, verdict.decision) == (True, "policy", "review")


def test_B05_a_layer_that_does_not_govern_takes_nothing_from_one_that_does() -> None:
    bots, all_of_us = policy(applies_to=["bot"]), policy(autonomy_tier="alpha")
    for layers in ((bots, all_of_us), (all_of_us, bots)):
        assert found(proposal(edit()), *layers) == [("autonomy-tier", "review", None)]


# Paths


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a\u200cb", "ab"),
        ("e\u0301", "\u00e9"),
        ("ABC", "abc"),
        ("a\\b", "a/b"),
        ("a:b", "a"),
        ("a. ", "a"),
        ("GIT~1", ".git"),
    ],
)
def test_B30_B31_B32_twins(one: str, other: str) -> None:
    assert fold(one.encode()) == fold(other.encode())
    assert fold(b"x/" + one.encode() + b"/y") == fold(b"x/" + other.encode() + b"/y")


@pytest.mark.parametrize(
    ("path", "kinds"),
    [
        (b"src/a.py", set()),
        (b"\xff", {"encoding"}),
        (b"a\nb", {"control"}),
        ("a\u202eb".encode(), {"bidi"}),
        ("a\u200cb".encode(), {"invisible"}),
        ("e\u0301".encode(), {"normalisation"}),
        (b"x/.GIT/y", {"git-alias"}),
        (b"ABCDEF~1", {"short-name"}),
        (b"a/aux.py", {"device"}),
        (b"c:x", {"drive", "reserved-character"}),
        (b"a?", {"reserved-character"}),
        (b"a.", {"trailing"}),
        (b"a /b", {"trailing"}),
        (b"x/-rf", {"leading-dash"}),
        (b"a" * 255, set()),
        (b"a" * 253 + "e\u0301".encode(), {"normalisation", "long-component"}),
        (b"a" * 254 + "e\u0301".encode(), {"long-component"}),
        (b"a" * 256, {"long-component"}),
        (b"/".join([b"a" * 63] * 64) + b"b", set()),
        (b"/".join([b"a" * 63] * 64) + b"bb", {"long-path"}),
        (b"/".join([b"a"] * 128), set()),
        (b"/".join([b"a"] * 129), {"deep"}),
    ],
)
def test_B31_B32_B33_B35_what_is_not_portable(path: bytes, kinds: set[str]) -> None:
    assert {problem.kind for problem in portability_problems(path)} == kinds


def test_paths_in_json() -> None:
    for path in (b"a/b", "é".encode(), b"\xff"):
        assert from_json(to_json(path)) == path
    for members in (
        {},
        {"path": 1},
        {"path": "a", "path_bytes": "YQ=="},
        {"path": "\\xff", "path_bytes": "/w="},
        {"path": "\ud800"},
        {"path": "b", "path_bytes": "/w=="},
    ):
        with pytest.raises(FormatError):
            from_json(members)


# Git's objects

RAW = bytes.fromhex(ID)


def row(name: bytes, mode: bytes = b"100644", raw: bytes = RAW) -> TreeEntry:
    return TreeEntry(mode, name, raw)


def test_B34_a_tree_is_taken_apart_whole_or_not_at_all() -> None:
    for size in (20, 32):
        entries = [row(b"a", raw=b"\n" * size), row(b"b", b"40000", b"\0" * size)]
        assert parse_tree(format_tree(entries), size) == entries
        for broken in (
            b"x",
            format_tree(entries)[:-1],
            b"8 a\0" + RAW * 2,
            b"100644 \0" + RAW * 2,
            b"x" + format_tree(entries),
        ):
            with pytest.raises(FormatError):
                parse_tree(broken, size)
    assert parse_tree(b"") == []


@pytest.mark.parametrize(
    ("entries", "problems"),
    [
        (
            [
                row(b"a"),
                row(b"b", b"100755"),
                row(b"c", b"120000"),
                row(b"d", b"160000"),
                row(b"e", b"40000"),
            ],
            [],
        ),
        ([row(b"a.b"), row(b"a", b"40000"), row(b"a0")], []),
        ([row(b"a"), row(b"a")], ["twice"]),
        ([row(b"b"), row(b"a")], ["sorted"]),
        ([row(b"a", b"40000"), row(b"a.b")], ["sorted"]),
        ([row(b"a", b"100664")], ["mode 100664"]),
        ([row(b"a", b"040000")], ["mode 040000"]),
        ([row(b".")], ["walks"]),
        ([row(b"..")], ["walks"]),
        ([row(b"a/b")], ["slash"]),
        ([row(b".GiT")], ["git's own folder"]),
        ([row(b"a", raw=bytes(20))], ["names no object"]),
    ],
)
def test_B34_what_git_would_not_have_written(entries: list[TreeEntry], problems: list[str]) -> None:
    said = tree_problems(entries)
    assert len(said) == len(problems)
    assert all(word in what for word, (_, what) in zip(problems, said, strict=True))


def test_B34_old_oddities_are_not_reported_again_but_order_is() -> None:
    odd = [row(b"b", b"100664"), row(b"a", b"100664"), row(b"a", b"100664")]
    said = tree_problems(odd, frozenset(odd))
    assert [what for _, what in said] == [
        "the tree is not sorted as git sorts",
        "the tree holds this name twice",
    ]


WHO = b"A <a@example.com> 1767322800 +0000"


def raw_commit(*lines: bytes, message: bytes = b"text\n", author: bytes = WHO) -> bytes:
    head = lines or (b"tree " + ID.encode(), b"author " + author, b"committer " + WHO)
    return b"\n".join(head) + b"\n\n" + message


TREE, AUTHOR, COMMITTER = b"tree " + ID.encode(), b"author " + WHO, b"committer " + WHO
PARENT = b"parent " + OTHER_ID.encode()


def test_B55_a_sound_commit() -> None:
    signature = (b"gpgsig -----BEGIN", b" tree x", b" -----END")
    commit = parse_commit(
        raw_commit(
            TREE,
            PARENT,
            PARENT,
            AUTHOR,
            COMMITTER,
            b"encoding latin-1",
            *signature,
            message=b"\xe9\ntree x\nauthor y\n",
        )
    )
    assert (commit.tree, commit.parents, commit.problems) == (ID, (OTHER_ID, OTHER_ID), ())
    assert (commit.text, commit.message) == ("é\ntree x\nauthor y\n", b"\xe9\ntree x\nauthor y\n")
    assert commit.author is not None
    assert (commit.author.name, commit.author.email, commit.author.time, commit.author.zone) == (
        b"A",
        b"a@example.com",
        1767322800,
        b"+0000",
    )
    bare = parse_commit(b"\n".join((TREE, AUTHOR, COMMITTER)) + b"\n")
    assert (bare.message, bare.problems) == (b"", ())
    assert parse_commit(raw_commit(message=b"\xff")).problems == ()
    assert parse_commit(raw_commit(TREE, *[PARENT] * 256, AUTHOR, COMMITTER)).problems == ()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        raw_commit(AUTHOR, TREE, COMMITTER),
        raw_commit(b"tree " + ID.encode() + b"0", AUTHOR, COMMITTER),
        raw_commit(TREE, b"parent HEAD", AUTHOR, COMMITTER),
        raw_commit(b" " + TREE, AUTHOR, COMMITTER),
        raw_commit(b"trea " + ID.encode(), AUTHOR, COMMITTER),
        raw_commit(TREE, *[PARENT] * 257, AUTHOR, COMMITTER),
    ],
)
def test_B55_what_is_no_commit(data: bytes) -> None:
    with pytest.raises(FormatError):
        parse_commit(data)


@pytest.mark.parametrize(
    ("lines", "message", "words"),
    [
        ((TREE, AUTHOR, PARENT, COMMITTER), b"", ["parent line", "author and committer do not follow"]),
        ((TREE, COMMITTER, AUTHOR), b"", ["author and committer do not follow"]),
        (
            (TREE, b" x", PARENT, AUTHOR, COMMITTER),
            b"",
            ["parent line", "author and committer do not follow"],
        ),
        ((TREE, AUTHOR, b" x", COMMITTER), b"", ["author and committer do not follow"]),
        ((TREE, AUTHOR, COMMITTER, AUTHOR), b"", ["author is given 2 times"]),
        ((TREE, AUTHOR, COMMITTER, COMMITTER), b"", ["committer is given 2 times"]),
        ((TREE, AUTHOR, COMMITTER, TREE), b"", ["tree is given 2 times"]),
        ((TREE, AUTHOR, COMMITTER, b"encoding utf-8", b"encoding utf-8"), b"", ["encoding is given 2 times"]),
        ((TREE, AUTHOR, COMMITTER, b"gpgsig a", b"gpgsig b"), b"", ["gpgsig is given 2 times"]),
        (
            (TREE, AUTHOR, COMMITTER, b"gpgsig-sha256 a", b"gpgsig-sha256 b"),
            b"",
            ["gpgsig-sha256 is given 2 times"],
        ),
        ((TREE, AUTHOR, COMMITTER), b"a\0b", ["NUL"]),
        ((TREE, b"author A", COMMITTER), b"", ["the author line cannot be read"]),
        ((TREE, AUTHOR, b"committer A"), b"", ["the committer line cannot be read"]),
        ((TREE, AUTHOR, COMMITTER, b"encoding klingon"), b"x", ["'klingon' is not known"]),
        ((TREE, AUTHOR, COMMITTER, b"encoding utf-8"), b"\xff", ["not in the declared encoding"]),
    ],
)
def test_B55_what_git_would_not_have_committed(
    lines: tuple[bytes, ...], message: bytes, words: list[str]
) -> None:
    problems = parse_commit(raw_commit(*lines, message=message)).problems
    assert len(problems) == len(words), problems
    assert all(word in problem for word, problem in zip(words, problems, strict=True))


@pytest.mark.parametrize(
    "name",
    ["klingon", "idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "hex", "a\0b", ""],
)
def test_B55_only_character_sets_are_encodings(name: str) -> None:
    """What Python calls an encoding and git does not would give another message than the one that git shows."""
    lines = (TREE, AUTHOR, COMMITTER, b"encoding " + name.encode())
    commit = parse_commit(raw_commit(*lines, message=b"\\x41 xn--a-\xff"))
    assert any("is not known" in problem for problem in commit.problems)
    assert commit.text == "\\x41 xn--a-\ufffd"


@pytest.mark.parametrize(
    "name", ["UTF-8", "latin-1", "ISO-8859-15", "cp1252", "EUC-JP", "Shift_JIS", "koi8-r"]
)
def test_a_declared_character_set_is_read(name: str) -> None:
    lines = (TREE, AUTHOR, COMMITTER, b"encoding " + name.encode())
    commit = parse_commit(raw_commit(*lines, message="A".encode(name)))
    assert (commit.text, commit.problems) == ("A", ())


def test_B55_of_two_the_first_counts_as_in_git() -> None:
    second = AUTHOR.replace(b"author A", b"author B")
    commit = parse_commit(raw_commit(TREE, AUTHOR, COMMITTER, second))
    assert commit.author is not None
    assert commit.author.name == b"A"
    assert (
        parse_commit(raw_commit(TREE, AUTHOR, COMMITTER, b"encoding klingon", message=b"\xff")).text
        == "\ufffd"
    )


# Two trees compared, and where links lead


@pytest.fixture
def store(tmp_path: Path) -> Libgit2Store:
    (tmp_path / "objects").mkdir()
    return Libgit2Store(tmp_path / "objects")


def tree(store: Libgit2Store, *entries: TreeEntry) -> str:
    return store.write("tree", format_tree(list(entries)))


def folder(name: bytes, tree_id: str) -> TreeEntry:
    return TreeEntry(b"40000", name, bytes.fromhex(tree_id))


def test_every_difference_of_two_trees(store: Libgit2Store) -> None:
    comparer = TreeComparer(store)
    same = tree(store, row(b"x"))
    inner, changed = (
        tree(store, row(b"a"), row(b"b")),
        tree(store, row(b"a"), row(b"b", b"100755"), row(b"c")),
    )
    old = tree(store, folder(b"d", inner), row(b"gone"), folder(b"same", same), row(b"turns"))
    new = tree(store, folder(b"d", changed), folder(b"same", same), folder(b"turns", same))
    result = comparer.compare(old, new)
    assert (result.complete, result.malformations, result.collisions) == (True, [], [])
    sides = {
        one.path: (one.old.mode if one.old else 0, one.new.mode if one.new else 0) for one in result.changes
    }
    assert sides == {
        b"d/b": (0o100644, 0o100755),
        b"d/c": (0, 0o100644),
        b"gone": (0o100644, 0),
        b"turns": (0o100644, 0),
        b"turns/x": (0, 0o100644),
    }
    assert [one.path for one in comparer.compare(old, "").changes] == [
        b"gone",
        b"turns",
        b"d/a",
        b"d/b",
        b"same/x",
    ]
    assert comparer.compare(new, new).changes == comparer.compare("", "").changes == []
    only_d = comparer.compare(old, new, within=lambda name: name == b"d")
    assert [one.path for one in only_d.changes] == [b"d/b", b"d/c"]


def test_B34_odd_modes_are_read_as_git_reads_them(store: Libgit2Store) -> None:
    modes = {b"100664": 0o100644, b"100775": 0o100755, b"120777": 0o120000, b"150000": 0o160000}
    for raw, mode in modes.items():
        (change,) = TreeComparer(store).compare("", tree(store, row(b"a", raw))).changes
        assert change.new is not None
        assert change.new.mode == mode
    same = TreeComparer(store).compare(tree(store, row(b"a", b"100664")), tree(store, row(b"a")))
    assert same.changes == []


def test_B54_a_comparison_ends(store: Libgit2Store, monkeypatch: pytest.MonkeyPatch) -> None:
    comparer = TreeComparer(store)
    two = tree(store, row(b"a"), row(b"b"))
    assert comparer.compare("", two, most=2).complete
    cut = comparer.compare("", two, most=1)
    assert (cut.complete, len(cut.changes)) == (False, 1)
    nested = tree(store)
    for _ in range(3):
        nested = tree(store, folder(b"a", nested), folder(b"b", nested))
    monkeypatch.setattr("safeai_git.git.changes.MOST_FOLDERS", 15)
    assert comparer.compare("", nested).complete
    monkeypatch.setattr("safeai_git.git.changes.MOST_FOLDERS", 1)
    assert comparer.compare("", two).complete  # files are no folders
    monkeypatch.setattr("safeai_git.git.changes.MOST_FOLDERS", 6)
    assert not comparer.compare("", nested).complete
    monkeypatch.undo()
    monkeypatch.setattr("safeai_git.git.changes.MOST_PATH_BYTES", 2)
    assert comparer.compare("", two).complete
    monkeypatch.setattr("safeai_git.git.changes.MOST_PATH_BYTES", 1)
    assert not comparer.compare("", two).complete


def test_B34_B54_remarks_about_a_tree_end(store: Libgit2Store) -> None:
    odd = [row(b"%05d" % i, b"100664") for i in range(MOST_REMARKS + 1)]
    assert TreeComparer(store).compare("", tree(store, *odd[:-1])).complete
    result = TreeComparer(store).compare("", tree(store, *odd))
    assert (result.complete, len(result.malformations)) == (False, MOST_REMARKS)
    assert TreeComparer(store).compare(tree(store, *odd), "").malformations == []
    unsorted = tree(store, row(b"b"), row(b"a"))
    assert TreeComparer(store).compare(unsorted, unsorted).malformations == []  # equal trees are never opened


def test_B35_depth_and_length_end(store: Libgit2Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safeai_git.git.changes.DEEPEST", 5)

    def nested(levels: int) -> str:
        name = tree(store, row(b"f"))
        for _ in range(levels):
            name = tree(store, folder(b"d", name))
        return name

    assert TreeComparer(store).compare("", nested(5)).malformations == []
    deep = TreeComparer(store).compare("", nested(6))
    assert [one.what for one in deep.malformations] == ["more than 5 folders deep"]
    assert deep.changes == []
    assert TreeComparer(store).compare("", tree(store, row(b"x" * LONGEST))).malformations == []
    long = TreeComparer(store).compare("", tree(store, row(b"x" * (LONGEST + 1))))
    assert len(long.malformations) == 1
    assert long.changes == []


def test_B34_a_tree_that_cannot_be_taken_apart(store: Libgit2Store) -> None:
    broken = store.write("tree", b"100644 a\0short")
    for old, new in (("", broken), (broken, "")):
        (malformation,) = TreeComparer(store).compare(old, new).malformations
        assert "cannot be taken apart" in malformation.what


def test_B30_collisions_are_about_what_is_added(store: Libgit2Store) -> None:
    comparer = TreeComparer(store)
    three = tree(store, row(b"A"), row(b"a"), row(b"b"))
    added = comparer.compare(tree(store, row(b"a"), row(b"b")), three)
    assert [(one.path, one.other) for one in added.collisions] == [(b"A", b"a")]
    changed = tree(store, row(b"A", b"100755"), row(b"a"), row(b"b"))
    assert comparer.compare(three, changed).collisions == []
    both = comparer.compare("", tree(store, folder(b"x", three))).collisions
    assert [(one.path, one.other) for one in both] == [(b"x/A", b"x/a"), (b"x/a", b"x/A")]


def test_B54_collisions_end(store: Libgit2Store) -> None:
    names = sorted(b"a" + b"\xe2\x80\x8c" * i for i in range(MOST_REMARKS + 2))
    result = TreeComparer(store).compare("", tree(store, *map(row, names)))
    assert len(result.collisions) == MOST_REMARKS


@pytest.mark.parametrize(
    ("content", "pointer"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", LfsPointer(5)),
        (b"version https://hawser.github.com/spec/v1\nsize 0\n", LfsPointer(0)),
        (b"version https://git-lfs.github.com/spec/v1\n", LfsPointer(None)),
        (b"version https://git-lfs.github.com/spec/v1\nsize 5\nsize 6\n", LfsPointer(None)),
        (b"version https://git-lfs.github.com/spec/v1\nsize 05\n", LfsPointer(None)),
        (b"size 5\n", None),
        (b"version https://git-lfs.github.com/spec/v1\n".ljust(1023), LfsPointer(None)),
        (b"version https://git-lfs.github.com/spec/v1\n".ljust(1024), None),
    ],
)
def test_B46_pointers(content: bytes, pointer: LfsPointer | None) -> None:
    assert lfs_pointer(content) == pointer


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Libgit2Store, str]:
    """A tree of links, made once."""
    folder_ = tmp_path_factory.mktemp("links") / "objects"
    folder_.mkdir()
    store = Libgit2Store(folder_)
    links = {
        b"up": b"..",
        b"hop": b"d",
        b"absolute": b"/etc",
        b"git": b".git",
        b"round": b"round",
        b"long": b"a" * 4097,
        b"half": b"d/../" * 819,
        b"brim": b"d/../" * 819 + b"d",
    }
    links |= {b"chain%d" % i: b"chain%d" % (i + 1) for i in range(39)} | {
        b"chain39": b"d",
        b"wide": b"./d/.." + b"/d/.." * 680,
    }
    inner = tree(store, row(b"f", raw=bytes.fromhex(store.write("blob", b""))))
    entries = [folder(b"d", inner), folder(b"broken", store.write("tree", b"x")), row(b"sub", b"160000")]
    entries += [
        TreeEntry(b"120000", name, bytes.fromhex(store.write("blob", to))) for name, to in links.items()
    ]
    root = tree(store, *sorted(entries, key=lambda one: one.name + b"/" * one.is_tree))
    return store, root


@pytest.mark.parametrize(
    ("path", "target", "fate"),
    [
        (b"d/link", b"f", "inside"),
        (b"d/link", b"../d/f", "inside"),
        (b"d/link", b"../../x", "outside"),
        (b"link", b"..", "outside"),
        (b"link", b"/etc", "outside"),
        (b"link", b"\\server", "outside"),
        (b"link", b"c:x", "outside"),
        (b"link", b"d/.GIT/config", "git"),
        (b"link", b"nothing/../d/./f", "inside"),
        (b"link", b"up/x", "outside"),
        (b"link", b"hop/f", "inside"),
        (b"link", b"hop/../hop/../f", "inside"),
        (b"link", b"absolute", "outside"),
        (b"link", b"git", "git"),
        (b"link", b"round", "loop"),
        (b"link", b"d/f/x/../../..", "inside"),
        (b"link", b"sub/x", "inside"),
        (b"link", b"broken/x", "inside"),
        (b"link", b"long", "loop"),
        (b"link", b"a" * 4096, "inside"),
        (b"link", b"a" * 4097, "loop"),
        (b"link", b"chain0", "inside"),
        (b"link", b"hop/../chain0", "loop"),
        (b"link", b"wide/wide/wide/wide", "loop"),
        (b"link", b"wide/wide", "inside"),
        (b"link", b"brim", "inside"),
        (b"link", b"half/half/" + b"d/../" * 409, "inside"),
        (b"link", b"half/half/" + b"d/../" * 409 + b"d", "loop"),
    ],
)
def test_B42_where_a_link_leads(
    linked: tuple[Libgit2Store, str], path: bytes, target: bytes, fate: str
) -> None:
    store, root = linked
    assert resolve_link(TreeComparer(store), root, path, target) == fate


# Statements


STAMP = Stamp(1_767_322_800, "1", "test/repository")


def verdict_of(
    change: Proposal | None = None, layer: Policy | None = None, stamp: Stamp = STAMP, **context: Any
) -> bytes:
    judged = evaluate(change or proposal(edit()), PolicyStack((layer or policy(),)), Context(**context))
    return statement(judged, stamp)


def altered(payload: bytes, *path: str | int, value: Any) -> bytes:
    data: Any = canonical.loads(payload, limit=MAX_PAE)
    place = data
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return canonical.dumps(data)


def test_a_statement_is_read_back() -> None:
    evidence = {
        name: CheckEvidence(name, result, "") for name, result in (("unit", "passed"), ("lint", "failed"))
    }  # type: ignore[arg-type]
    claim = parse_statement(verdict_of(evidence=evidence))
    assert (claim.kind, claim.tree, claim.commits, claim.base_tree) == (
        "verdict",
        "4" * 40,
        ("c" * 40,),
        "3" * 40,
    )
    assert (claim.repository, claim.policy_digest, claim.time) == ("test/repository", "d" * 64, STAMP.time)
    assert (claim.decision, claim.governed, claim.checks) == ("allow", True, {"unit"})
    assert parse_statement(verdict_of(proposal(edit(), head_commit=""))).commits == ()
    assert parse_statement(verdict_of(proposal(who=HUMAN))).governed is False
    signed = parse_statement(approval_of())
    assert (signed.kind, signed.decision, signed.governed, signed.checks) == (
        "approval",
        "",
        True,
        frozenset(),
    )


def approval_of(**values: Any) -> bytes:
    made = {
        "base_tree": "3" * 40,
        "tree": "4" * 40,
        "policy_digest": "d" * 64,
        "repository": "test/repository",
        "time": STAMP.time,
        "reason": "fine",
    }
    return approval(**(made | values))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("_type",), "https://in-toto.io/Statement/v0.1"),
        (("predicateType",), "https://example.com/"),
        (("subject",), []),
        (("subject",), [{"digest": {"gitTree": ID}}, {"digest": {"gitTree": ID}}]),
        (("subject",), 1),
        (("predicate", "decision"), "yes"),
        (("predicate", "decision"), ...),
        (("predicate", "attribution", "class"), "angel"),
        (("predicate", "governed"), 1),
        (("predicate", "time"), "yesterday"),
        (("predicate", "time"), None),
        (("predicate", "evidence"), 1),
        (("predicate", "base"), ...),
        (("predicate",), []),
    ],
)
def test_B80_what_is_no_statement_of_ours(path: tuple[str, ...], value: Any) -> None:
    with pytest.raises(FormatError):
        parse_statement(altered(verdict_of(), *path, value=value))


def test_a_statement_fits_whatever_was_found() -> None:
    long = "漢".encode() * 200
    many = proposal(*(edit(b"denied/%03d" % i + long) for i in range(50)), who=Attribution("ai", "漢" * 900))
    payload = verdict_of(many, policy(deny_paths=["denied/"], max_edits=2))
    assert len(pae(PAYLOAD_TYPE, payload)) <= MAX_PAE
    data: Any = canonical.loads(payload, limit=MAX_PAE)
    said = data["predicate"]["findings"]
    assert said["count"] > 50
    assert 0 < len(said["first"]) < 8
    assert said["first"][0]["outcome"] == "deny"
    assert said["first"][0]["path"].startswith("denied/000漢")
    assert len(said["first"][0]["path"]) == len(data["predicate"]["attribution"]["agent"]) == 120
    assert data["predicate"]["attribution"]["agent"].endswith("…")
    few = verdict_of(
        proposal(edit(b"src/a."), edit(b"denied/a")),
        policy(deny_paths=["denied/"], outcomes={"unportable-path": "warn"}),
    )
    first = canonical.loads(few, limit=MAX_PAE)["predicate"]["findings"]["first"]  # type: ignore[index,call-overload]
    assert first == [  # the strictest first
        {"rule": "denied-path", "outcome": "deny", "path": "denied/a"},
        {"rule": "unportable-path", "outcome": "warn", "path": "src/a."},
    ]
    evidence = {
        f"c{i}": CheckEvidence(f"c{i}" + "x" * 600, "passed", "", "c" * 64, isolation="I" * 500)
        for i in range(9)
    }
    with pytest.raises(FormatError):
        verdict_of(evidence=evidence)


def test_a_statement_is_filled_to_the_last_byte() -> None:
    """Findings are cut as soon as there is one byte too many, and not before."""
    layer = policy(deny_paths=["denied/"])
    edits = [edit(b"denied/%d" % i + "漢".encode() * 103 + b"y" * 90) for i in range(8)]

    def made(letters: int) -> tuple[int, int]:
        payload = verdict_of(proposal(*edits, who=Attribution("ai", "x" * letters)), layer)
        said: Any = canonical.loads(payload, limit=MAX_PAE)
        return len(pae(PAYLOAD_TYPE, payload)), len(said["predicate"]["findings"]["first"])

    size, shown = made(1)
    assert (shown, 1 <= MAX_PAE - size < 119) == (8, True), size
    assert made(1 + MAX_PAE - size) == (MAX_PAE, 8)
    assert made(2 + MAX_PAE - size)[1] == 7


# Envelopes


def signer(seed: int) -> Ed25519Signer:
    return Ed25519Signer.of(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


CI, ANNA, BOB, STRANGER = (signer(seed) for seed in range(1, 5))


def line(one: Ed25519Signer, name: str, namespace: str, **window: int) -> AllowedSigner:
    return AllowedSigner(one.public, (name,), (namespace,), source="signers", line=1, **window)


RING = Keyring(
    (
        line(CI, "ci", "safeai-verdict"),
        line(ANNA, "anna", "safeai-approval"),
        line(BOB, "bob", "safeai-approval", valid_before=STAMP.time + 100),
    ),
    source="signers",
)


class Liar:
    """A directory that trusts another key than the one that it shows."""

    def public(self, key_id: str) -> PublicKey | None:
        return CI.public

    def trusts(self, key_id: str, namespace: str, at: int | None) -> TrustedKey | Refusal:
        return TrustedKey(ANNA.public, RING.entries)


def opened(*signers: Ed25519Signer, keys: Any = RING, **values: Any) -> Opened | Rejected:
    envelope = seal(b"payload", signers, payload_type=values.pop("sealed_as", PAYLOAD_TYPE))
    made: dict[str, Any] = {"purpose": "safeai-verdict", "at": STAMP.time, "verify": verify}
    return check_envelope(envelope, keys, **(made | values))


def test_B87_whose_signature_opens_an_envelope() -> None:
    result = opened(CI, STRANGER)
    assert isinstance(result, Opened)
    assert [key.principal for key in result.signers] == ["ci"]
    assert [refusal.reason for refusal in result.ignored] == ["unknown-key"]
    for signers, values, reason in (
        ((STRANGER,), {}, "unknown-key"),
        ((ANNA,), {}, "wrong-namespace"),
        ((BOB,), {"purpose": "safeai-approval", "at": STAMP.time + 100}, "expired"),
        ((BOB,), {"purpose": "safeai-approval", "at": None}, "time-unknown"),
        ((CI,), {"sealed_as": "text/plain"}, "wrong-type"),
        ((CI,), {"keys": Liar()}, "unknown-key"),
    ):
        refused = opened(*signers, **values)  # type: ignore[arg-type]
        assert isinstance(refused, Rejected)
        assert [refusal.reason for refusal in refused.refusals] == [reason]
    assert isinstance(opened(BOB, purpose="safeai-approval", at=STAMP.time + 99), Opened)


def test_B82_one_false_signature_spoils_the_envelope() -> None:
    sound = seal(b"payload", [CI, ANNA])
    forged = replace(
        sound,
        signatures=tuple(
            replace(one, sig=bytes(64)) if one.keyid == ANNA.key_id else one for one in sound.signatures
        ),
    )
    result = check_envelope(forged, RING, purpose="safeai-verdict", at=1, verify=verify)
    assert isinstance(result, Rejected)
    assert [refusal.reason for refusal in result.refusals] == ["bad-signature"]


def test_B54_signers_are_read_up_to_a_bound_and_not_beyond() -> None:
    assert Keyring.parse(b"#" * MAX_BYTES, "signers").entries == ()
    with pytest.raises(PolicyError):
        Keyring.parse(b"#" * (MAX_BYTES + 1), "signers")
    unknown = [Keyring((), source=source).trusts(CI.key_id, "x", 1) for source in ("", "signers")]
    assert [
        str(one.message).partition("is not listed")[2] for one in unknown if isinstance(one, Refusal)
    ] == ["", " in signers"]


# Approvals


def trust(layer: Policy | None = None, **data: Any) -> Trust:
    return Trust(PolicyStack((layer or policy(**data),)), RING, "b" * 40, builtin=False)


def approvers(
    *lines: bytes, held: Trust | None = None, now: float = STAMP.time, keys: Any = RING
) -> tuple[str, ...]:
    return counted(lines, "3" * 40, "4" * 40, held or trust(), keys=keys, now=now)


def signed(payload: bytes, *signers: Ed25519Signer) -> bytes:
    return seal(payload, signers).format()


def test_B80_B82_whose_approval_counts() -> None:
    good = signed(approval_of(), ANNA)
    assert approvers(good, good, signed(approval_of(reason="again"), ANNA)) == ("anna",)
    assert approvers(signed(approval_of(), ANNA, BOB)) == ("anna", "bob")
    for payload in (
        approval_of(tree="5" * 40),
        approval_of(base_tree="5" * 40),
        approval_of(base_tree=""),
        approval_of(policy_digest="e" * 64),
        approval_of(repository="other"),
        approval_of(time=STAMP.time + 601),
        verdict_of(),
    ):
        assert approvers(signed(payload, ANNA)) == ()
    assert approvers(signed(approval_of(time=STAMP.time + 600), ANNA)) == ("anna",)
    assert approvers(signed(approval_of(), CI), signed(approval_of(), STRANGER), b"garbage", good[:-1]) == ()
    assert approvers(signed(approval_of(time=STAMP.time + 100), BOB)) == ()
    assert approvers(good, keys=Keyring(())) == ()
    named = trust(approvals={"approvers": ["bob", "m*"]})
    assert approvers(signed(approval_of(), ANNA, BOB), held=named) == ("bob",)
    both = Trust(
        PolicyStack((policy(approvals={"approvers": ["anna"]}), policy(approvals={"approvers": ["bob"]}))),
        RING,
        "",
        builtin=False,
    )
    assert approvers(signed(approval_of(policy_digest=both.policy.digest), ANNA, BOB), held=both) == ()


# What a verdict is worth


def weighed(*lines: bytes, who: Attribution = AI, limit: Any = RING, **data: Any) -> Any:
    return weigh(lines, Subject("4" * 40, "3" * 40, who), Court(trust(**data), limit, STAMP.time))


def test_B80_which_verdict_counts() -> None:
    good = signed(verdict_of(), CI)
    worth = weighed(good)
    assert (worth.status, worth.signed_by) == ("valid", ("ci",))
    assert weighed().status == "missing"
    assert weighed(signed(approval_of(), ANNA)).status == "missing"
    for bad, word in (
        (b"garbage", "JSON"),
        (signed(b"{}", CI), "statement"),
        (signed(verdict_of(), STRANGER), "not listed"),
        (signed(verdict_of(), ANNA), "not allowed to sign"),
        (signed(verdict_of(proposal(edit(), tree="5" * 40)), CI), "about tree 5555"),
        (signed(verdict_of(proposal(edit(), base_tree="5" * 40)), CI), "starts from tree 5555"),
        (signed(verdict_of(proposal(edit(), base_tree="")), CI), "starts from tree nothing"),
        (signed(verdict_of(stamp=replace(STAMP, repository="other")), CI), "repository 'other'"),
        (signed(verdict_of(layer=replace(policy(), digest="e" * 64)), CI), "another policy"),
        (signed(verdict_of(proposal(who=HUMAN)), CI), "not governed"),
        (signed(verdict_of(stamp=replace(STAMP, time=STAMP.time + 601)), CI), "in the future"),
    ):
        worth = weighed(bad)
        assert worth.status == "invalid"
        assert word in worth.reason, worth.reason
        assert weighed(bad, good).status == "valid"
    assert weighed(signed(verdict_of(stamp=replace(STAMP, time=STAMP.time + 600)), CI)).status == "valid"


def test_reasons_name_both_sides() -> None:
    good = signed(verdict_of(), CI)
    court = Court(trust(), RING, STAMP.time)
    assert "the commit from nothing" in weigh([good], Subject("4" * 40, "", AI), court).reason
    assert "the commit from 5555" in weigh([good], Subject("4" * 40, "5" * 40, AI), court).reason
    layer = policy(agents={"claude-code": {"autonomy_tier": "alpha"}}, autonomy_tier="beta")
    for said, is_by, words in (
        (Attribution("ai", "codex"), AI, "made for 'codex', whom the policy allows more than 'claude-code'"),
        (Attribution("mixed", ""), AI, "made for 'mixed', whom the policy allows more than 'claude-code'"),
    ):
        payload = verdict_of(proposal(edit(), who=said), layer)
        assert words in weighed(signed(payload, CI), who=is_by, layer=layer).reason
    mixed = policy(applies_to=["mixed"])
    stack = PolicyStack((policy(applies_to=["ai"]), mixed))
    payload = statement(
        evaluate(proposal(edit(), who=Attribution("mixed", "codex")), stack, Context()), STAMP
    )
    held = Court(Trust(stack, RING, "", builtin=False), RING, STAMP.time)
    assert (
        "allows more than 'ai'"
        in weigh([signed(payload, CI)], Subject("4" * 40, "3" * 40, Attribution("ai")), held).reason
    )


def test_a_layer_that_does_not_govern_the_author_has_no_say() -> None:
    stack = PolicyStack((policy(applies_to=["bot"]), policy(applies_to=["ai", "mixed"])))
    payload = statement(evaluate(proposal(edit(), who=Attribution("mixed", "")), stack, Context()), STAMP)
    held = Court(Trust(stack, RING, "", builtin=False), RING, STAMP.time)
    assert weigh([signed(payload, CI)], Subject("4" * 40, "3" * 40, AI), held).status == "valid"


def test_the_reason_is_that_of_the_verdict_that_came_closest() -> None:
    far = signed(verdict_of(proposal(edit(), tree="5" * 40)), CI)
    near = signed(verdict_of(), STRANGER)
    assert "not listed" in weighed(b"garbage", far, near).reason
    assert "about tree" in weighed(b"garbage", far).reason


def test_B82_a_key_has_to_be_trusted_by_both_directories() -> None:
    good = signed(verdict_of(), CI)
    assert weighed(good, limit=Keyring(RING.entries, source="copy")).status == "valid"
    assert weighed(good, limit=Keyring(())).status == "invalid"
    court = Court(replace(trust(), signers=Keyring(())), RING, STAMP.time)
    assert weigh([good], Subject("4" * 40, "3" * 40, AI), court).status == "invalid"
    elsewhere = Keyring((line(CI, "ci", "safeai-approval"),))  # known, and for something else
    court = Court(replace(trust(), signers=elsewhere), RING, STAMP.time)
    assert weigh([good], Subject("4" * 40, "3" * 40, AI), court).status == "invalid"


def test_the_newest_verdict_decides_and_the_strictest_of_one_second() -> None:
    allow = verdict_of()
    deny = verdict_of(kill_switch=KillSwitch("engaged"))
    later = replace(STAMP, time=STAMP.time + 1)
    assert weighed(signed(allow, CI), signed(deny, CI)).status == "denied"
    assert weighed(signed(verdict_of(stamp=later), CI), signed(deny, CI)).status == "valid"
    assert (
        weighed(
            signed(allow, CI), signed(verdict_of(stamp=later, kill_switch=KillSwitch("engaged")), CI)
        ).status
        == "denied"
    )


def test_a_review_needs_its_approvals() -> None:
    two = policy(approvals={"threshold": 2})
    review = signed(verdict_of(proposal(edit(new_mode=0o100755)), two), CI)
    anna, bob = signed(approval_of(), ANNA), signed(approval_of(), BOB)
    assert weighed(review, layer=two).status == "unapproved"
    one = weighed(review, anna, layer=two)
    assert (one.status, one.approved_by) == ("unapproved", ("anna",))
    assert "1 of 2" in one.reason
    both = weighed(review, anna, bob, layer=two)
    assert (both.status, both.approved_by) == ("valid", ("anna", "bob"))


@pytest.mark.parametrize(
    ("said", "is_by", "data", "status"),
    [
        (AI, AI, {}, "valid"),
        (Attribution("mixed", "claude-code"), AI, {}, "valid"),
        (AI, HUMAN, {}, "valid"),
        (Attribution("ai", "codex"), AI, {}, "valid"),
        (Attribution("ai", "codex"), AI, {"agents": {"claude-code": {"autonomy_tier": "alpha"}}}, "invalid"),
        (Attribution("ai", ""), AI, {"agents": {"claude-code": {"allow": False}}}, "invalid"),
        (
            Attribution("ai", "codex"),
            AI,
            {"agents": {"claude-code": {"allow": False}, "codex": {"allow": False}}},
            "denied",
        ),
        (
            AI,
            Attribution("ai", "codex"),
            {"agents": {"claude-code": {"autonomy_tier": "alpha"}}},
            "unapproved",
        ),
    ],
)
def test_B74_a_verdict_for_an_author_who_may_do_more(
    said: Attribution, is_by: Attribution, data: dict[str, Any], status: str
) -> None:
    layer = policy(**data)
    worth = weighed(signed(verdict_of(proposal(edit(), who=said), layer), CI), who=is_by, layer=layer)
    assert worth.status == status, worth.reason


def test_B74_a_verdict_for_an_author_whom_a_layer_does_not_govern() -> None:
    ai, mixed = policy(applies_to=["ai"]), policy(applies_to=["mixed"])
    stack = PolicyStack((ai, mixed))
    change = proposal(edit(), who=Attribution("mixed", "claude-code"))
    payload = statement(evaluate(change, stack, Context()), STAMP)
    held = Trust(stack, RING, "", builtin=False)
    worth = weigh([signed(payload, CI)], Subject("4" * 40, "3" * 40, AI), Court(held, RING, STAMP.time))
    assert worth.status == "invalid"
    assert "whom the policy allows more" in worth.reason


def test_which_checks_were_seen_to_pass() -> None:
    unit = {"unit": CheckEvidence("unit", "passed", "")}
    court = Court(trust(), RING, STAMP.time)
    good = signed(verdict_of(evidence=unit), CI)
    assert passed_checks([good, b"garbage"], "4" * 40, [court]) == {"unit"}
    assert passed_checks([good], "5" * 40, [court]) == frozenset()
    assert (
        passed_checks([signed(verdict_of(), CI), signed(approval_of(), ANNA)], "4" * 40, [court])
        == frozenset()
    )
    for bad in (
        signed(verdict_of(evidence=unit), STRANGER),
        signed(verdict_of(stamp=replace(STAMP, repository="other"), evidence=unit), CI),
        signed(verdict_of(layer=replace(policy(), digest="e" * 64), evidence=unit), CI),
    ):
        assert passed_checks([bad], "4" * 40, [court]) == frozenset()
    eight = {f"c{i}": CheckEvidence(f"c{i}", "passed", "") for i in range(8)}
    assert passed_checks([signed(verdict_of(evidence=eight), CI)], "4" * 40, [court]) is None
    denied = signed(verdict_of(evidence=eight, kill_switch=KillSwitch("engaged")), CI)
    assert passed_checks([denied], "4" * 40, [court]) == set(eight)


def test_a_line_of_notes_is_an_envelope_or_refused() -> None:
    good = signed(verdict_of(), CI)
    assert Envelope.parse(good).format() == good
    for bad in (b"", b"{}", b"[]", good + b" ", good.replace(b'"sig"', b'"sag"'), struct.pack("<I", 1)):
        with pytest.raises(FormatError):
            Envelope.parse(bad)
