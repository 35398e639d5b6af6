"""Statements: small enough to sign anywhere, read back strictly, and understood by in-toto's own models."""

from __future__ import annotations

import json

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

from safeai_git.core import canonical
from safeai_git.core.attribution import Attribution, Signal
from safeai_git.core.context import CheckEvidence, Context
from safeai_git.core.edit import Edit
from safeai_git.core.envelope import MAX_PAE, PAYLOAD_TYPE, pae
from safeai_git.core.errors import FormatError
from safeai_git.core.evaluate import evaluate
from safeai_git.core.policy import PolicyStack
from safeai_git.core.proposal import Proposal
from safeai_git.core.values import replace
from safeai_git.core.verdict import (
    APPROVAL_TYPE,
    VERDICT_TYPE,
    Stamp,
    approval,
    needs_review_only,
    parse_statement,
    report,
    statement,
)
from safeai_git.policyfile import load

STAMP = Stamp(1_767_323_045, "0.1.0", "github.com/example/shop")


def judged(*paths: bytes, who: Attribution = Attribution("ai", "codex", 0.9), context: Context = Context()):  # noqa: B008
    edits = tuple(
        Edit(path, "M", 0o100644, 0o100644, "1" * 40, "2" * 40, bytes_added=5, lines_added=1, sha256="3" * 64)
        for path in paths
    )
    change = Proposal("commit", "b" * 40, "c" * 40, "d" * 40, "e" * 40, edits, who)
    return evaluate(change, PolicyStack((load(b"deny_paths: [secret/]\n", "policy"),)), context)


def test_a_verdict_reads_back_as_it_was_written() -> None:
    verdict = judged(b"src/a.py")
    claim = parse_statement(statement(verdict, STAMP))
    assert (claim.kind, claim.decision, claim.governed) == ("verdict", "allow", True)
    assert (claim.tree, claim.commits, claim.base_tree) == ("e" * 40, ("c" * 40,), "d" * 40)
    assert (claim.repository, claim.policy_digest, claim.time) == (
        STAMP.repository,
        verdict.policy.digest,
        STAMP.time,
    )
    assert claim.data["predicate"]["report"]["sha256"] == canonical.digest(report(verdict, STAMP))
    assert not needs_review_only(claim)


def test_a_change_without_a_commit_names_its_tree() -> None:
    verdict = judged(b"src/a.py")
    staged = replace(verdict, proposal=replace(verdict.proposal, head_commit=""))
    assert parse_statement(statement(staged, STAMP)).commits == ()


def test_an_approval_reads_back_as_it_was_written() -> None:
    payload = approval(
        base_tree="d" * 40,
        tree="e" * 40,
        policy_digest="0" * 64,
        repository="r",
        time=STAMP.time,
        reason="read it\x1b",
    )
    claim = parse_statement(payload)
    assert (claim.kind, claim.tree, claim.base_tree, claim.decision) == ("approval", "e" * 40, "d" * 40, "")
    assert "\x1b" not in claim.data["predicate"]["reason"]


def test_B33_whatever_was_found_the_statement_can_be_signed() -> None:
    names = [b"secret/" + bytes([65 + number % 26]) * 4_000 + b"\xff\n%d" % number for number in range(200)]
    signals = tuple(Signal("trailer", "x" * 5_000, "ai", 0.9, "\udcff\x1b" * 5_000) for _ in range(5))
    who = Attribution("ai", "agent\udcff" * 1_000, 0.9, signals)
    evidence = {
        f"check-{number}": CheckEvidence(
            f"check-{number}", "passed", "ok", "4" * 64, "e" * 40, 1.0, 5, "5" * 64, "B x"
        )
        for number in range(64)
    }
    verdict = judged(*names, who=who, context=Context(evidence=evidence))
    payload = statement(verdict, STAMP)
    assert len(pae(PAYLOAD_TYPE, payload)) <= MAX_PAE
    claim = parse_statement(payload)
    assert claim.decision == "deny"
    assert claim.data["predicate"]["findings"]["count"] == len(verdict.findings) >= 200
    json.dumps(report(verdict, STAMP)).encode("utf-8")


@pytest.mark.parametrize("kind", ["verdict", "approval"])
def test_in_totos_own_models_accept_it(kind: str) -> None:
    payload = statement(judged(b"src/a.py"), STAMP)
    if kind == "approval":
        payload = approval(
            base_tree="", tree="e" * 40, policy_digest="0" * 64, repository="", time=1, reason=""
        )
    message = json_format.Parse(payload, StatementMessage())
    read = Statement.copy_from_pb(message)
    read.validate()
    for subject in message.subject:
        ResourceDescriptor.copy_from_pb(subject).validate()
    assert message.predicate_type == {"verdict": VERDICT_TYPE, "approval": APPROVAL_TYPE}[kind]


def changed(**values: object) -> bytes:
    data = json.loads(statement(judged(b"src/a.py"), STAMP))
    for path, value in values.items():
        place = data
        *folders, last = path.split("__")
        for folder in folders:
            place = place[folder]
        if value is None:
            del place[last]
        else:
            place[last] = value
    return canonical.dumps(data)


@pytest.mark.parametrize(
    "values",
    [
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"predicateType": "https://slsa.dev/provenance/v1"},
        {"predicate__decision": "allowed"},
        {"predicate__governed": "yes"},
        {"predicate__attribution__class": "robot"},
        {"predicate__base": None},
        {"predicate__time": "yesterday"},
        {"predicate__policy": []},
        {"predicate__evidence": 5},
        {"subject": []},
        {
            "subject": [
                {"name": "tree", "digest": {"gitTree": "a"}},
                {"name": "tree", "digest": {"gitTree": "b"}},
            ]
        },
    ],
)
def test_what_no_statement_of_ours_says_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        parse_statement(changed(**values))


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@given(
    _json
    | st.fixed_dictionaries(
        {
            "_type": st.just("https://in-toto.io/Statement/v1"),
            "predicateType": st.just(VERDICT_TYPE),
            "subject": _json,
            "predicate": _json,
        }
    )
)
def test_anything_else_is_refused_as_such(value: object) -> None:
    with pytest.raises(FormatError):
        parse_statement(canonical.dumps(value))  # type: ignore[arg-type]


def test_eight_checks_with_the_longest_names_fit() -> None:
    isolation = f"A two-stage bubblewrap {'8' * 32}, self-test {'9' * 32}"
    names = [f"{'n' * 62}{number}" for number in range(9)]
    evidence = {
        name: CheckEvidence(name, "undecided", "d", "4" * 64, "e" * 64, 1.5, 10, "5" * 64, isolation)
        for name in names
    }
    verdict = judged(
        *(b"secret/%d" % number for number in range(30)),
        who=Attribution("ai", "a" * 200, 1.0),
        context=Context(evidence=evidence),
    )
    long = {"base_commit": "b" * 64, "base_tree": "c" * 64, "head_commit": "d" * 64, "tree": "e" * 64}
    verdict = replace(verdict, proposal=replace(verdict.proposal, **long))
    payload = statement(verdict, replace(STAMP, repository="r" * 255))
    assert len(pae(PAYLOAD_TYPE, payload)) <= MAX_PAE
    signed = json.loads(payload)["predicate"]["evidence"]
    assert [(one["name"], one["isolation"], one["output_sha256"]) for one in signed] == [
        (name, "A", "5" * 64) for name in names[:8]
    ]
    few = judged(context=Context(evidence={names[0]: evidence[names[0]]}))
    assert json.loads(statement(few, STAMP))["predicate"]["evidence"][0]["isolation"] == isolation
