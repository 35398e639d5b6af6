"""The Governor's kill switch at a workstation: engaged, released, offline, too old, lied about."""

from __future__ import annotations

import json
import time
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Repo
from test_push import KEY, LOG_SIGNER, ORIGIN, governed, listening, named
from tools_governor import Governor, lease_line

from safeai_git.client.governor import Address
from safeai_git.core.errors import WrongUse
from safeai_git.core.log.note import ED25519, NoteKey
from safeai_git.delivery import Destination
from safeai_git.git.repository import discover
from safeai_git.governor.settings import read_settings
from safeai_git.keys.ed25519 import Ed25519Signer
from safeai_git.keys.file import generate, load
from safeai_git.lease import Leases, opened


@pytest.fixture
def governor(tmp_path: Path) -> Iterator[Governor]:
    with Governor(tmp_path / "governor") as running:
        yield running


def staged(repo: Repo) -> Repo:
    repo.write("src/f.py", "x = 1\n")
    repo.git("add", "-A")
    return repo


def check(repo: Repo, env: dict[str, str]) -> Any:
    return repo.safeai("check", env=env | {"CLAUDECODE": "1"})


def kept(repo: Repo) -> list[Path]:
    return list((repo.path / ".git/safeai/leases").glob("*.json"))


def turn(governor: Governor, action: str, kind: str = "repository", name: str = "test/repository") -> None:
    body = {"action": action, "scope": {"kind": kind, "name": name}, "reason": "a leaked key"}
    answer = governor.ask("POST", "/v1/kill-switch", body)
    assert answer.status == 201, answer.body


def forget(repo: Repo) -> None:
    """Make the lease old enough to be asked for again; a lease says itself when it was issued."""
    for path in kept(repo):
        path.unlink()


def test_what_the_governor_engages_stops_a_workstation_also_when_it_is_gone(
    tmp_path: Path, environment: dict[str, str], governor: Governor
) -> None:
    repo = staged(governed(tmp_path / "repo", environment, governor.url))
    env = named(repo, governor)
    assert check(repo, env).code == 0
    turn(governor, "engage")
    assert check(repo, env).code == 0  # known for a moment
    forget(repo)
    stopped = check(repo, env)
    assert stopped.code == 1
    assert "a leaked key" in stopped.both
    governor.stop(9)
    assert check(repo, env).code == 1
    assert "kill switch: engaged: a leaked key" in repo.safeai("doctor", env=env).out
    port = str(governor.port)
    governor.settings["SAFEAI_PORT"] = port
    governor.start()
    turn(governor, "release")
    turn(governor, "engage", "agent", "another-agent")
    forget(repo)
    assert check(repo, env).code == 0
    governor.stop(9)
    assert check(repo, env).code == 0


def test_who_was_never_told_does_not_take_silence_for_release(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    url = "http://127.0.0.1:9"
    repo = staged(governed(tmp_path / "repo", environment, url))
    denied = check(repo, {"SAFEAI_GOVERNOR": url, "SAFEAI_GOVERNOR_KEY": KEY.format()})
    assert denied.code == 1
    assert "kill switch's state is not known" in denied.both
    assert "cannot be reached" in denied.both
    assert check(repo, {}).code == 0  # a machine that names no Governor has none to ask


def test_a_token_without_the_scope_is_told(
    tmp_path: Path, environment: dict[str, str], governor: Governor
) -> None:
    repo = staged(governed(tmp_path / "repo", environment, governor.url))
    denied = check(repo, named(repo, governor) | {"SAFEAI_TOKEN": governor.token("verdicts:write")})
    assert denied.code == 1
    assert "policy:read" in denied.both


def test_a_job_without_a_token_reads_the_lease_of_a_public_repository(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """A fork's job: judged, stopped while the switch is engaged, and told nothing that only the team should know."""
    repo = staged(governed(tmp_path / "repo", environment, "http://127.0.0.1:1"))
    with Governor(tmp_path / "public", SAFEAI_PUBLIC_REPOSITORIES="acme/site, test/repository") as governor:
        policy = repo.path / ".safeai/policy.yaml"
        repo.commit(
            "address", {".safeai/policy.yaml": policy.read_text().replace("http://127.0.0.1:1", governor.url)}
        )
        staged(repo).write("src/g.py", "x = 2\n")
        repo.git("add", "-A")
        env = named(repo, governor) | {"SAFEAI_TOKEN": ""}
        assert check(repo, env).code == 0
        turn(governor, "engage")
        forget(repo)
        stopped = check(repo, env)
        assert stopped.code == 1
        assert "a kill switch is engaged" in stopped.both
        assert "leaked" not in stopped.both
        # Only this, only of these, and a bad token is no way to be nobody.
        lease = "/v1/kill-switch?repository="
        assert governor.ask("GET", f"{lease}acme/site", token=None).status == 200
        for path in (f"{lease}acme/shop", lease, "/v1/kill-switch", "/v1/policy"):
            assert governor.ask("GET", path, token=None).status == 401, path
        assert governor.ask("GET", f"{lease}acme/site", token="bad").status == 401
        with_token = governor.ask("GET", f"{lease}test/repository").body
        assert b64decode(json.loads(with_token)["payload"]).count(b"leaked") == 1
        assert governor.ask("POST", "/v1/kill-switch", {"action": "release"}, token=None).status == 401
        assert len([one for one in governor.lines if one.get("subject") == "nobody"]) >= 3


def test_a_job_without_a_token_is_told_what_is_missing(
    tmp_path: Path, environment: dict[str, str], governor: Governor
) -> None:
    repo = staged(governed(tmp_path / "repo", environment, governor.url))
    denied = check(repo, named(repo, governor) | {"SAFEAI_TOKEN": ""})
    assert denied.code == 1
    assert "answers nobody without a token" in denied.both


@pytest.mark.parametrize("names", ["a b\x1b", "x" * 101, "a,b,%"])
def test_only_names_are_public(names: str) -> None:
    with pytest.raises(WrongUse, match="SAFEAI_PUBLIC_REPOSITORIES"):
        read_settings({"SAFEAI_PUBLIC_REPOSITORIES": names})
    assert read_settings({"SAFEAI_PUBLIC_REPOSITORIES": " a/b,c/d  e "}).public_repositories == {
        "a/b",
        "c/d",
        "e",
    }


@pytest.fixture
def other(tmp_path: Path) -> Ed25519Signer:
    return load(generate(tmp_path, "other").secret)


TIMES = ("issued", "expires")
"""What is given in seconds from now: tests are collected long before they run."""


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"stopped": "everything stands still"}, "everything stands still"),
        ({"agents": ("claude-code",)}, "it stops claude-code"),
        ({"issued": -4000, "expires": 4000}, "too old"),
        ({"issued": -900, "expires": -1}, "too old"),
        ({"issued": 7200, "expires": 9000}, "in the future"),
        ({"repository": "test/another"}, "another repository"),
        ({"governor": "governor.example/another"}, "another repository or Governor"),
    ],
    ids=str,
)
def test_a_lease_that_is_not_good_now_lets_nothing_pass(
    tmp_path: Path, environment: dict[str, str], more: dict[str, Any], words: str
) -> None:
    now = int(time.time())
    facts = {name: now + value if name in TIMES else value for name, value in more.items()}
    denied = served(tmp_path, environment, lease_line(LOG_SIGNER, ORIGIN, **facts))
    assert denied.code == 1, denied.both
    assert words in denied.both


@pytest.mark.parametrize("lie", ["another key", "no lease", "endless"])
def test_what_is_no_lease_of_the_log_s_key_is_not_believed(
    tmp_path: Path, environment: dict[str, str], other: Ed25519Signer, lie: str
) -> None:
    lines = {"another key": lease_line(other, ORIGIN), "no lease": b"{}", "endless": b"x" * 17_000_000}
    denied = served(tmp_path, environment, lines[lie])
    assert denied.code == 1, denied.both
    assert "not known" in denied.both


def test_a_former_key_signs_no_lease(
    tmp_path: Path, environment: dict[str, str], other: Ed25519Signer
) -> None:
    """Whoever stole it could release what was engaged; what was logged under it counts on."""
    present = NoteKey(ORIGIN, ED25519, other.public.raw).format()
    former = f"{KEY.format()}@9"
    for number, (signer, keys, code) in enumerate(
        (
            (LOG_SIGNER, f"{former} {present}", 1),
            (other, f"{former} {present}", 0),
            (LOG_SIGNER, f"{KEY.format()} {present}", 0),
            (LOG_SIGNER, former, 1),
        )
    ):
        done = served(tmp_path / str(number), environment, lease_line(signer, ORIGIN), keys=keys)
        assert done.code == code, done.both
        assert ("not known" in done.both) == (code == 1)
        assert ("none of the log's keys is in use" in done.both) == (keys == former)


def served(
    tmp_path: Path,
    environment: dict[str, str],
    line: bytes,
    held: bytes = b"",
    keys: str = KEY.format(),
) -> Any:
    """What ``check`` says where the Governor hands out this."""
    serving = listening(lambda body: (200, b"{}"))
    serving.lease = line
    with serving as (server, _):
        url = f"http://127.0.0.1:{server.server_port}"
        repo = staged(governed(tmp_path / "repo", environment, url))
        env = {"SAFEAI_GOVERNOR": url, "SAFEAI_GOVERNOR_KEY": keys}
        if held:
            serving.lease = held
            check(repo, env)
            serving.lease = line
        return check(repo, env)


def test_an_older_lease_does_not_take_the_place_of_a_newer_one(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    now = int(time.time())
    newer = lease_line(LOG_SIGNER, ORIGIN, issued=now - 60, stopped="engaged since")
    older = lease_line(LOG_SIGNER, ORIGIN, issued=now - 120)
    denied = served(tmp_path, environment, older, newer)
    assert denied.code == 1
    assert "engaged since" in denied.both


OF_ONE_SECOND = [({}, {"stopped": "x"}), ({"agents": ("a",)}, {"stopped": "x"}), ({}, {"agents": ("a",)})]


@pytest.mark.parametrize(
    ("mine", "theirs"), [({"issued": -2}, {"issued": -1, "stopped": "x"}), *OF_ONE_SECOND], ids=str
)
@pytest.mark.parametrize("first", [False, True])
def test_a_newer_lease_that_another_process_gets_meanwhile_counts(
    tmp_path: Path, environment: dict[str, str], mine: dict[str, Any], theirs: dict[str, Any], first: bool
) -> None:
    """Two ask at once; the one that got the older lease is the later one to keep it, or the earlier one."""
    now = int(time.time())
    older, newer = (
        lease_line(LOG_SIGNER, ORIGIN, **(facts | {"issued": now + facts.get("issued", -1)}))
        for facts in (mine, theirs)
    )
    answers = [older, newer] if first else [newer, older]
    repo = governed(tmp_path / "repo", environment, "https://governor.example")
    to = Destination(Address("https://governor.example"), (KEY,))
    leases = [Leases(discover(repo.path, repo.environment), {}) for _ in answers]
    path = leases[0]._path(to, "test/repository")
    found = [
        one._newer(path, to, "test/repository", opened(line, to, "test/repository"), line)
        for one, line in zip(leases, answers, strict=True)
    ]
    best = opened(newer, to, "test/repository")
    assert found[-1] == best
    assert opened(path.read_bytes(), to, "test/repository") == best


def test_a_lease_counts_where_it_cannot_be_kept(tmp_path: Path, environment: dict[str, str]) -> None:
    repo = governed(tmp_path / "repo", environment, "https://governor.example")
    to = Destination(Address("https://governor.example"), (KEY,))
    leases = Leases(discover(repo.path, repo.environment), {})
    path = leases._path(to, "test/repository")
    path.parent.parent.mkdir(exist_ok=True)
    path.parent.write_bytes(b"no folder")
    line = lease_line(LOG_SIGNER, ORIGIN, stopped="x")
    lease = opened(line, to, "test/repository")
    assert leases._newer(path, to, "test/repository", lease, line) == lease
