"""A Governor that is asked to decide: what is believed of its answer, and what a job does without one."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import POLICY, Repo
from test_push import KEY, VERDICT, Listening, log_of
from tools_cli import make
from tools_governor import verdict
from tools_log import LOG_SIGNER, OTHER_SIGNER

from safeai_git.asking import Asking
from safeai_git.client.governor import Address
from safeai_git.core.envelope import Envelope
from safeai_git.core.errors import FormatError, GovernorUnavailable, LogProofInvalid
from safeai_git.core.log.entry import Draft
from safeai_git.delivery import Destination
from safeai_git.git.repository import discover

NAME = "test/repository"
NOTES = "refs/notes/safeai"


def answered(
    sent: Envelope | None = None, *, log: Any = None, decision: str = "deny", **change: Any
) -> Callable[[bytes], tuple[int, bytes]]:
    """The answer of a Governor that logged one verdict."""

    def answer(_: bytes) -> tuple[int, bytes]:
        one = sent or verdict(1, LOG_SIGNER, repository=NAME)
        receipt = (log or log_of()).append(Draft.of_envelope("verdict", f"sha256:{one.digest}", one))
        row = {"envelope": json.loads(one.format()), "receipt": receipt.proof().format().decode()} | change
        found = [{"rule": "denied-path\x1b[2J", "message": "no\n::error::x"}]
        return 200, json.dumps({"decision": decision, "findings": found, "verdicts": [row]}).encode()

    return answer


def ask(folder: Path, repo: Repo, answer: Callable[[bytes], tuple[int, bytes]]) -> Any:
    environ = repo.environment | {"XDG_STATE_HOME": str(folder / "state")}
    with closing(discover(repo.path, environ)) as repository, Listening(answer) as (server, seen):
        to = Destination(Address(f"http://127.0.0.1:{server.server_port}", "t"), (KEY,))
        asking = Asking(repository, environ, to)
        found = asking.decide(
            NAME, repo.git("rev-parse", "HEAD~1"), repo.git("rev-parse", "HEAD"), "a b&base=x"
        )
        return found, seen


@pytest.fixture
def change(tmp_path: Path, environment: dict[str, str]) -> Repo:
    repo = make(tmp_path / "repo", environment)
    repo.commit("start", {"a": "1"})
    repo.commit("more", {"a": "2"}, ai=True)
    return repo


def test_what_is_proven_is_kept(change: Repo, tmp_path: Path) -> None:
    found, seen = ask(tmp_path, change, answered())
    assert found.decision == "deny"
    assert found.findings == (("denied-path\\x1b[2J", "no\\n::error::x"),)
    assert found.digests == (verdict(1, LOG_SIGNER, repository=NAME).digest,)
    ((path, headers, body),) = seen
    assert "branch=a+b%26base%3Dx" in path
    assert headers["Content-Type"] == "application/x-git-bundle"
    assert body.startswith(b"# v2 git bundle\n")
    note = change.git("show", f"{NOTES}:{change.git('ls-tree', '-r', '--name-only', NOTES).splitlines()[0]}")
    assert len(note.splitlines()) == 2  # the envelope, and its receipt
    assert list(tmp_path.glob("state/**/*.checkpoint"))


LIES: dict[str, Callable[[], Callable[[bytes], tuple[int, bytes]]]] = {
    "a verdict about another repository": lambda: answered(verdict(1, LOG_SIGNER)),
    "another log": lambda: answered(log=log_of(OTHER_SIGNER)),
    "another verdict's receipt": lambda: answered(envelope=json.loads(VERDICT)),
    "a receipt that is none": lambda: answered(receipt="c2sp.org/tlog-proof@v1\n"),
    "an envelope that is none": lambda: answered(envelope={"payload": 7}),
    "a decision that is none": lambda: answered(decision="splendid"),
    "no JSON": lambda: lambda _: (200, b"<html>"),
    "a list": lambda: lambda _: (200, b"[]"),
    "a finding that is none": lambda: lambda _: (200, b'{"decision":"allow","findings":[7],"verdicts":[]}'),
    "a problem": lambda: lambda _: (400, b'{"type":"x/malformed","detail":"no \\u001b[2J"}'),
    "a refusal": lambda: lambda _: (403, b"{}"),
}
UNPROVEN = ("a verdict about another repository", "another log", "another verdict's receipt")


@pytest.mark.parametrize("lie", LIES)
def test_what_is_not_proven_is_not_kept(change: Repo, tmp_path: Path, lie: str) -> None:
    expected = LogProofInvalid if lie in UNPROVEN else (FormatError, GovernorUnavailable)
    with pytest.raises(expected) as told:
        ask(tmp_path, change, LIES[lie]())
    assert "\x1b" not in told.value.message
    assert not change.git("for-each-ref", NOTES)
    assert not list(tmp_path.glob("state/**/*.checkpoint"))


@pytest.fixture
def linked(change: Repo) -> Callable[[str, str], None]:
    def link(url: str, unreachable: str) -> None:
        line = f"governor: {{url: '{url}', on_unreachable: {unreachable}, timeout_seconds: 5}}\n"
        change.commit("policy", {".safeai/policy.yaml": POLICY + line})
        change.commit("work", {"src/b.py": "b = 1\n"}, ai=True)

    return link


def ci(repo: Repo, **env: str) -> Any:
    named = {"SAFEAI_GOVERNOR_KEY": KEY.format(), "SAFEAI_KEY": ""}
    return repo.safeai("ci", "--base", "HEAD~1", "--head", "HEAD", "--decide", env=named | env)


@pytest.mark.parametrize(("unreachable", "code"), [("spool", 0), ("deny", 3)])
def test_a_governor_that_does_not_decide(
    change: Repo, linked: Callable[[str, str], None], unreachable: str, code: int
) -> None:
    """The lease is good, the decision is not to be had: the policy says whether the job goes on."""
    with Listening(lambda _: (503, b"{}")) as (server, _):
        url = f"http://127.0.0.1:{server.server_port}"
        linked(url, unreachable)
        done = ci(change, SAFEAI_GOVERNOR=url, SAFEAI_TOKEN="t")
    assert done.code == code, done.both
    assert "the Governor did not decide" in done.err


def test_its_refusal_counts_and_its_consent_alone_does_not(
    change: Repo, linked: Callable[[str, str], None]
) -> None:
    with Listening(answered()) as (server, _):
        url = f"http://127.0.0.1:{server.server_port}"
        linked(url, "spool")
        done = ci(change, SAFEAI_GOVERNOR=url, SAFEAI_TOKEN="t")
    assert done.code == 1, done.both
    assert "DENY by the Governor" in done.out
    assert "[denied-path\\x1b[2J] no\\n::error::x" in done.out
    with Listening(answered(decision="allow")) as (server, _):
        url = f"http://127.0.0.1:{server.server_port}"
        linked(url, "spool")
        change.commit("key", {"config/keys/k": "k"}, ai=True)
        another_log = str(change.path.parent / "state-of-another")
        done = ci(change, SAFEAI_GOVERNOR=url, SAFEAI_TOKEN="t", XDG_STATE_HOME=another_log)
    assert done.code == 1, done.both


def test_a_job_without_a_token_is_judged_alone(change: Repo, linked: Callable[[str, str], None]) -> None:
    with Listening(answered()) as (server, seen):
        url = f"http://127.0.0.1:{server.server_port}"
        linked(url, "deny")
        done = ci(change, SAFEAI_GOVERNOR=url)
    assert done.code == 0, done.both
    assert "this job has no token for it" in done.err
    assert not [path for path, _, _ in seen if path.startswith("/v1/decisions")]
