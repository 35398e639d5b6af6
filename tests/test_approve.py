"""Approve: a person signs for exactly one change, and is told when that will not count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import POLICY, Repo

from safeai_git.commands import people
from safeai_git.commands.session import Session
from safeai_git.core.envelope import Envelope
from safeai_git.core.errors import KeyUnusable, WrongUse
from safeai_git.core.verdict import Claim, parse_statement
from safeai_git.git.notes import Notes


def session_of(repo: Repo, key: dict[str, str] | None = None, output_format: str = "text") -> Session:
    return Session(repo.path, repo.environment | (key or {}), output_format)


def claims(repo: Repo, revision: str) -> list[Claim]:
    lines = Notes(session_of(repo).repository).lines(repo.git("rev-parse", revision))
    return [parse_statement(Envelope.parse(line).untrusted_payload) for line in lines]


@pytest.fixture
def workflow(governed: Repo) -> str:
    """An agent's commit of a CI workflow, judged and signed."""
    name = governed.commit("CI", {".github/workflows/ci.yml": "on: push\n"}, ai=True)
    assert governed.safeai("check", "--range", "HEAD~1..HEAD").code == 1
    return name


def test_from_review_to_pass(governed: Repo, workflow: str, maria: dict[str, str]) -> None:
    assert governed.safeai("verify", "HEAD~1..HEAD").code == 1
    done = governed.safeai("approve", "HEAD", "--reason", "read it, harmless", env=maria)
    assert done.code == 0, done.both
    tree, base = (governed.git("rev-parse", f"{one}^{{tree}}") for one in ("HEAD", "HEAD~1"))
    assert f"approved: tree {tree[:12]} (from {base[:12]}), key SHA256:" in done.out
    assert "will not count" not in done.err
    done = governed.safeai("verify", "HEAD~1..HEAD")
    assert done.code == 0, done.both
    assert "approved by maria@example.com" in done.out
    assert governed.safeai("check", "--range", "HEAD~1..HEAD").code == 0


def test_the_approval_says_exactly_what_was_approved(
    governed: Repo, workflow: str, maria: dict[str, str]
) -> None:
    assert people.approve(session_of(governed, maria), "HEAD", reason="seen \x1b[31m") == 0
    (claim,) = [one for one in claims(governed, "HEAD^{tree}") if one.kind == "approval"]
    assert claim.tree == governed.git("rev-parse", "HEAD^{tree}")
    assert claim.base_tree == governed.git("rev-parse", "HEAD~1^{tree}")
    assert claim.repository == "test/repository"
    assert claim.policy_digest == session_of(governed).trust().at(workflow).policy.digest
    assert "\x1b" not in claim.data["predicate"]["reason"]


def test_of_what_is_staged(governed: Repo, maria: dict[str, str]) -> None:
    governed.write(".github/workflows/ci.yml", "on: push\n")
    governed.git("add", "-A")
    assert governed.safeai("check", "--agent", "claude-code", "--no-sign").code == 1
    assert people.approve(session_of(governed, maria), "", reason="") == 0
    assert governed.safeai("check", "--agent", "claude-code", "--no-sign").code == 0
    governed.write(".github/workflows/ci.yml", "on: pull_request_target\n")
    governed.git("add", "-A")
    assert governed.safeai("check", "--agent", "claude-code", "--no-sign").code == 1


def test_of_a_range_everything_that_needs_it(governed: Repo, maria: dict[str, str]) -> None:
    base = governed.git("rev-parse", "HEAD")
    governed.commit("one", {".github/a.yml": "a\n"}, ai=True)
    governed.commit("two", {"src/b.py": "b = 2\n"}, ai=True)
    governed.commit("three", {".github/c.yml": "c\n"}, ai=True)
    assert governed.safeai("check", "--range", f"{base}..HEAD").code == 1
    assert people.approve(session_of(governed, maria), f"{base}..HEAD", reason="") == 0
    assert governed.safeai("check", "--range", f"{base}..HEAD").code == 0
    assert governed.safeai("verify", f"{base}..HEAD").code == 0


def test_a_range_that_needs_none_is_wrong_use(governed: Repo, maria: dict[str, str]) -> None:
    governed.commit("two", {"src/b.py": "b = 2\n"}, ai=True)
    with pytest.raises(WrongUse, match=r"nothing in HEAD~1\.\.HEAD needs an approval"):
        people.approve(session_of(governed, maria), "HEAD~1..HEAD", reason="")


def test_B48_an_approval_of_a_merge_does_not_serve_for_what_it_merged(
    governed: Repo, maria: dict[str, str]
) -> None:
    """What the approver saw is what the merge adds; a squash of the same trees brings everything."""
    base = governed.git("rev-parse", "HEAD")
    side = governed.commit("side", {".github/side.yml": "side\n"}, ai=True)
    governed.write(".github/merge.yml", "merge\n")
    governed.git("add", "-A")
    tree = governed.git("write-tree")
    merge = governed.commit_tree(tree, base, side)
    squash = governed.commit_tree(tree, base)
    gate = session_of(governed).gate(replay=False)
    assert [edit.path for edit in gate.commit(merge).verdict.proposal.edits] == [b".github/merge.yml"]
    assert people.approve(session_of(governed, maria), merge, reason="") == 0
    gate = session_of(governed).gate(replay=False)
    assert gate.commit(merge).decision == "allow"
    assert gate.commit(squash).decision == "review"


def test_an_approval_that_will_not_count_says_so(governed: Repo, workflow: str) -> None:
    done = governed.safeai("approve", "HEAD")  # with the machine's key
    assert done.code == 0
    assert "this approval will not count" in done.err
    assert "not allowed to sign for safeai-approval" in done.err
    assert 'namespaces="safeai-approval"' in done.err
    assert governed.safeai("verify", "HEAD~1..HEAD").code == 1


def test_B74_somebody_the_policy_does_not_take_for_an_approver(governed: Repo, maria: dict[str, str]) -> None:
    policy = POLICY + "approvals: {approvers: ['*@security.example.com']}\n"
    governed.commit("policy", {".safeai/policy.yaml": policy})
    governed.commit("CI", {".github/ci.yml": "on: push\n"}, ai=True)
    assert people.approve(session_of(governed, maria), "HEAD", reason="") == 0
    assert session_of(governed).gate(replay=False).commit(governed.git("rev-parse", "HEAD")).approved_by == ()


def test_a_deny_is_not_lifted(governed: Repo, maria: dict[str, str]) -> None:
    governed.commit("keys", {"config/keys/prod.pem": "x"}, ai=True)
    done = governed.safeai("approve", "HEAD", env=maria)
    assert "the policy denies this change; an approval does not lift that" in done.err
    assert governed.safeai("check", "--range", "HEAD~1..HEAD", "--no-sign").code == 1


def test_B83_without_a_key_nothing_is_signed(governed: Repo, workflow: str, tmp_path: Path) -> None:
    nowhere = {"XDG_CONFIG_HOME": str(tmp_path / "nowhere")}
    done = governed.safeai("approve", "HEAD", env=nowhere)
    assert done.code == 3
    assert "there is no key to sign with" in done.err
    assert "safeai-git keys generate" in done.err
    with pytest.raises(KeyUnusable):
        people.approve(session_of(governed, nowhere), "HEAD", reason="")
    assert [one for one in claims(governed, "HEAD^{tree}") if one.kind == "approval"] == []


def test_twice_is_once(governed: Repo, workflow: str, maria: dict[str, str]) -> None:
    for _ in range(2):
        assert people.approve(session_of(governed, maria), "HEAD", reason="ok") == 0
    judged = session_of(governed).gate(replay=False).commit(workflow)
    assert judged.approved_by == ("maria@example.com",)


def test_as_json(
    governed: Repo, workflow: str, maria: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert people.approve(session_of(governed, maria, "json"), "HEAD", reason="") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["tree"] == governed.git("rev-parse", "HEAD^{tree}")
    assert len(data["envelope"]) == 64


def test_show_tells_what_each_envelope_is_worth(
    governed: Repo, workflow: str, maria: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    people.approve(session_of(governed, maria), "HEAD", reason="read it")
    people.approve(session_of(governed), "HEAD", reason="me too")
    Notes(session_of(governed).repository).add(workflow, [b"rubbish"])
    capsys.readouterr()
    assert people.show(session_of(governed), "HEAD") == 0
    out, err = capsys.readouterr()
    assert "REVIEW" in out
    assert out.count("signature holds, key trusted") >= 2
    assert "counts for nothing: key SHA256:" in out
    assert "reason: read it" in out
    assert "review .github/workflows/ci.yml [protected-path]: the path is protected" in out
    assert "a line of the note is no envelope" in err
    assert people.show(session_of(governed), "HEAD~1") == 1
    assert "nothing is kept about" in capsys.readouterr().out


def test_show_without_the_report_shows_what_the_statement_carries(
    governed: Repo, workflow: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for report in (governed.path / ".git/safeai/reports").iterdir():
        report.unlink()
    assert people.show(session_of(governed), "HEAD") == 0
    assert "review .github/workflows/ci.yml [protected-path]\n" in capsys.readouterr().out
