"""SLSA summaries of verdicts: in-toto's own models read them, and any key service can sign them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Repo
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from in_toto_attestation.predicates.vsa.v1.vsa_pb2 import VerificationSummary
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage
from test_verdict import STAMP, judged

from safeai_git.core.display import safe_text
from safeai_git.core.envelope import MAX_PAE, PAYLOAD_TYPE, Envelope, pae
from safeai_git.core.errors import FormatError
from safeai_git.core.stamp import Stamp
from safeai_git.core.verdict import approval, parse_statement, statement
from safeai_git.core.vsa import ALLOWED, VSA_TYPE, resource_uri, summary


def checked(payload: bytes) -> VerificationSummary:
    """The predicate, after in-toto's models have taken the whole."""
    assert len(pae(PAYLOAD_TYPE, payload)) <= MAX_PAE
    Statement.copy_from_pb(json_format.Parse(payload, StatementMessage())).validate()
    data = json.loads(payload)
    assert data["predicateType"] == VSA_TYPE
    # The specification has a list here; the model of in-toto-attestation 0.9 a single text.
    (level,) = data["predicate"].pop("verifiedLevels")
    return json_format.ParseDict({**data["predicate"], "verifiedLevels": level}, VerificationSummary())


@pytest.mark.parametrize(
    ("path", "result", "level"), [(b"src/a.py", "PASSED", ALLOWED), (b"secret/a", "FAILED", "FAILED")]
)
def test_it_says_what_the_verdict_says(path: bytes, result: str, level: str) -> None:
    verdict = judged(path)
    claim = parse_statement(statement(verdict, STAMP))
    payload = summary(claim, "a" * 64)
    read = checked(payload)
    assert (read.verification_result, read.verified_levels) == (result, level)
    assert read.time_verified.ToSeconds() == STAMP.time
    assert read.resource_uri == "git+https://github.com/example/shop"
    assert dict(read.policy.digest) == {"sha256": verdict.policy.digest}
    assert [dict(one.digest) for one in read.input_attestations] == [{"sha256": "a" * 64}]
    assert json.loads(payload)["subject"] == claim.data["subject"]


@given(st.text(max_size=300))
def test_whatever_the_repository_is_called(name: str) -> None:
    claim = parse_statement(statement(judged(b"src/a.py"), Stamp(1, "0.1.0", name)))
    checked(summary(claim, "a" * 64))
    assert resource_uri(safe_text(name)).isascii()


def test_the_longest_name_there_can_be_still_fits() -> None:
    claim = parse_statement(statement(judged(b"src/a.py"), Stamp(1, "0.1.0", "\U00020000" * 500)))
    claim.data["predicate"]["policy"]["source"] = "\U00020000" * 120
    checked(summary(claim, "a" * 64))


def test_what_is_no_whole_verdict_gives_none() -> None:
    payload = approval(base_tree="", tree="e" * 40, policy_digest="0" * 64, repository="", time=1, reason="")
    with pytest.raises(FormatError, match="not from an approval"):
        summary(parse_statement(payload), "a" * 64)
    claim = parse_statement(statement(judged(b"src/a.py"), STAMP))
    claim.data["predicate"]["policy"]["source"] = "\U00020000" * 400
    with pytest.raises(FormatError, match="too long"):
        summary(claim, "a" * 64)
    del claim.data["predicate"]["policy"]["source"]
    with pytest.raises(FormatError, match="'source'"):
        summary(claim, "a" * 64)


def test_a_summary_is_no_verdict() -> None:
    claim = parse_statement(statement(judged(b"src/a.py"), STAMP))
    with pytest.raises(FormatError):
        parse_statement(summary(claim, "a" * 64))


def test_show_prints_it_signed_or_bare(governed: Repo, tmp_path: Path) -> None:
    done = governed.safeai("show", "--vsa")
    assert done.code == 3, done.both
    assert "no verdict of a trusted key" in done.err
    governed.commit("more", {"src/b.py": "b = 1\n"}, ai=True)
    assert governed.safeai("check", "--range", "HEAD~1..HEAD").code == 0
    kept = json.loads(governed.safeai("show", "--format", "json").out)["envelopes"]
    done = governed.safeai("show", "--vsa")
    assert done.code == 0, done.both
    read = checked(Envelope.parse(done.out.strip().encode()).untrusted_payload)
    assert read.verification_result == "PASSED"
    assert read.input_attestations[0].digest["sha256"] in [one["digest"] for one in kept]
    done = governed.safeai("show", "--vsa", env={"XDG_CONFIG_HOME": str(tmp_path / "nowhere")})
    assert done.code == 0, done.both
    assert "not signed" in done.err
    assert checked(done.out.strip().encode()).verification_result == "PASSED"
