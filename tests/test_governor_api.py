"""Keys, policy, kill switch, search and decisions over HTTP, asked of Governors that run."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import POLICY, Repo
from tools_cli import make
from tools_governor import REPOSITORY, Answer, Governor, verdict
from tools_postgres import Cluster, cluster  # noqa: F401 - a fixture
from tools_state import person

from safeai_git.core.envelope import Envelope, open_envelope
from safeai_git.core.kill_switch import LEASE_NAMESPACE, LEASE_TYPE, Lease
from safeai_git.core.publickey import format_openssh, parse_openssh
from safeai_git.core.trust import AllowedSigner, Refusal, TrustedKey
from safeai_git.core.verdict import VERDICT_NAMESPACE, parse_statement
from safeai_git.git.bundle import make_bundle
from safeai_git.git.repository import discover
from safeai_git.keys.ed25519 import verify
from safeai_git.keys.key_list import open_keys
from safeai_git.keys.keyring import Keyring
from safeai_git.published_policy import open_published

CI, DEV = person(1), person(2)
BUNDLE = {"Content-Type": "application/x-git-bundle"}


@pytest.fixture(scope="module")
def governor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Governor]:
    folder = tmp_path_factory.mktemp("governor") / "data"
    with Governor(folder, SAFEAI_RELEASE_NEEDS_SECOND_PERSON="on") as made:
        yield made


def own_key(governor: Governor) -> Keyring:
    line = (governor.folder / "keys" / "ed25519.default.pub").read_bytes().strip()
    return Keyring((AllowedSigner(parse_openssh(line)[0], ("governor",)),))


def origin(governor: Governor) -> str:
    return governor.ask("GET", "/v1/checkpoint", token=None).body.decode().splitlines()[0]


def lease(governor: Governor, repository: str = REPOSITORY) -> Lease:
    answer = governor.ask("GET", f"/v1/kill-switch?repository={repository}")
    assert answer.status == 200, answer.body
    opened = open_envelope(
        Envelope.parse(answer.body),
        own_key(governor),
        purpose=LEASE_NAMESPACE,
        at=int(time.time()),
        verify=verify,
        payload_type=LEASE_TYPE,
    )
    return Lease.parse(opened.payload)


def turn(governor: Governor, action: str, subject: str = "maria", **scope: str) -> Answer:
    body = {"action": action, "scope": scope or {"kind": "global"}, "reason": "a leaked key"}
    return governor.ask("POST", "/v1/kill-switch", body, token=governor.token(subject=subject))


def submit(governor: Governor, number: int, signer: Any = CI, **more: Any) -> Answer:
    return governor.ask("POST", "/v1/verdicts", verdict(number, signer, **more).format())


def test_keys_are_registered_listed_and_revoked(governor: Governor) -> None:
    assert submit(governor, 1).word == "unknown-key"
    made = governor.register(CI)
    assert made.status == 201, made.body
    assert (made.json()["key"], made.json()["repeated"]) == (CI.key_id, False)
    assert submit(governor, 1).status == 201
    listed = governor.ask("GET", "/v1/keys", token=None)
    assert listed.headers["cache-control"] == "public, max-age=60"
    opened = open_keys(listed.body, own_key(governor), governor=origin(governor), now=time.time())
    assert isinstance(opened.keys.trusts(CI.key_id, VERDICT_NAMESPACE, int(time.time())), TrustedKey)
    same = governor.ask("GET", "/v1/keys", token=None, headers={"If-None-Match": listed.headers["etag"]})
    assert (same.status, same.body) == (304, b"")

    revoked = governor.ask("POST", "/v1/keys", {"action": "revoke", "key": CI.key_id, "reason": "stolen"})
    assert revoked.status == 201, revoked.body
    late = submit(governor, 2)
    assert late.word == "unknown-key"
    assert "revoked" in late.json()["detail"]
    early = submit(governor, 3, time="2020-01-01T00:00:00Z")
    assert early.word == "unknown-key", "an earlier time is the signer's own word"
    assert submit(governor, 1).word == "unknown-key"
    again = open_keys(
        governor.ask("GET", "/v1/keys", token=None, headers={"If-None-Match": listed.headers["etag"]}).body,
        own_key(governor),
        governor=origin(governor),
        now=time.time(),
        seen=opened.statement.size,
    )
    assert isinstance(again.keys.trusts(CI.key_id, VERDICT_NAMESPACE, None), Refusal)
    assert governor.register(CI).word == "conflict"
    assert governor.audit().returncode == 0


def test_what_is_no_change_of_a_key_is_refused(governor: Governor) -> None:
    line = format_openssh(DEV.public).decode()
    good = {"action": "register", "public": line, "principal": "dev", "purposes": ["safeai-verdict"]}
    for change, word in (
        ({"action": "delete"}, "malformed"),
        ({"public": "ssh-rsa AAAA"}, "malformed"),
        ({"public": line + "ä"}, "malformed"),
        ({"principal": "*"}, "malformed"),
        ({"purposes": ["everything"]}, "malformed"),
        ({"purposes": []}, "malformed"),
        ({"valid_before": "tomorrow"}, "malformed"),
        ({"reason": "x" * 201}, "malformed"),
        ({"since": "2026-01-01"}, "malformed"),
        ({"colour": "red"}, "malformed"),
        ({"action": "revoke"}, "malformed"),
    ):
        assert governor.ask("POST", "/v1/keys", good | change).word == word, change
    for body in (b"", b"[]", b"{", b'{"action":"revoke","key":"x"}', b"\xff", b"[" * 100_000):
        assert governor.ask("POST", "/v1/keys", body).word == "malformed", body
    assert governor.ask("POST", "/v1/keys", good, token=None).word == "not-authenticated"
    assert governor.ask("POST", "/v1/keys", good, token=governor.token("verdicts:write")).word == "forbidden"
    sent = governor.ask("POST", "/v1/keys", b"x", headers={"Content-Type": "text/plain"})
    assert sent.word == "unsupported-media-type"


def test_a_policy_is_published_and_served(governor: Governor) -> None:
    assert governor.ask("GET", "/v1/policy").word == "not-found"
    body = {"policy": "allow_paths: [src/]\n", "expires": "2100-01-01T00:00:00Z"}
    first = governor.ask("POST", "/v1/policy", body)
    assert first.status == 201, first.body
    assert first.json()["version"] == 1
    assert [one["direction"] for one in first.json()["difference"]] == ["tighter"]
    second = governor.ask(
        "POST",
        "/v1/policy?version=5&expires=2100-01-01",
        b"allow_paths: [src/, docs/]\n",
        headers={"Content-Type": "application/yaml"},
    )
    assert second.status == 201, second.body
    assert second.json()["difference"] == [
        {"key": "allow_paths", "text": "'docs/' is added", "direction": "looser"}
    ]
    assert governor.ask("POST", "/v1/policy", body | {"version": 4}).word == "conflict"
    assert governor.ask("POST", "/v1/policy", body | {"version": 5}).word == "conflict"
    bad = governor.ask("POST", "/v1/policy", body | {"policy": "allow_path: [src/]\n"})
    assert (bad.word, "allow_path" in bad.json()["detail"]) == ("malformed", True)
    assert governor.ask("POST", "/v1/policy", body | {"expires": "2000-01-01"}).word == "malformed"
    assert governor.ask("POST", "/v1/policy", body | {"policy": "#" * 60_000}).word == "too-large"
    assert governor.ask("POST", "/v1/policy", body, token=governor.token("policy:read")).word == "forbidden"

    limited = governor.token("policy:read", repositories=("acme/shop",))
    answer = governor.ask("GET", "/v1/policy", token=limited)
    opened = open_published(answer.body, "the Governor", own_key(governor), now=time.time())
    assert (opened.statement.version, [one.source for one in opened.policy.allow_paths]) == (
        5,
        ["src/", "docs/"],
    )
    assert governor.ask("GET", "/v1/policy", headers={"If-None-Match": answer.headers["etag"]}).status == 304
    assert governor.ask("GET", "/v1/policy", token=None).word == "not-authenticated"


def test_a_kill_switch_is_engaged_and_released_by_two(governor: Governor) -> None:
    assert lease(governor).stopped == ""
    engaged = turn(governor, "engage")
    assert engaged.status == 201, engaged.body
    assert lease(governor).stopped == "a leaked key (maria)"
    assert b"safeai_kill_switch_active 1.0" in governor.ask("GET", "/metrics", token=None).body
    listed = governor.ask("GET", "/v1/kill-switch").json()["engaged"]
    assert [(one["scope"]["kind"], one["by"]) for one in listed] == [("global", "maria")]
    same = turn(governor, "release")
    assert (same.word, "somebody else" in same.json()["detail"]) == ("forbidden", True)
    assert lease(governor).stopped
    assert turn(governor, "release", subject="anna").status == 201
    assert lease(governor).stopped == ""
    assert b"safeai_kill_switch_active 0.0" in governor.ask("GET", "/metrics", token=None).body
    assert turn(governor, "release", subject="anna").word == "malformed"


def test_who_may_turn_a_switch_and_what_is_none(governor: Governor) -> None:
    one = governor.token("kill-switch:engage", "policy:read", repositories=("acme/shop",))
    own = {
        "action": "engage",
        "scope": {"kind": "repository", "name": "acme/shop"},
        "reason": "a leak",
        "expires": "2100-01-01T00:00:00Z",
    }
    assert governor.ask("POST", "/v1/kill-switch", own, token=one).status == 201
    for scope in (
        {"kind": "repository", "name": "acme/other"},
        {"kind": "global"},
        {"kind": "agent", "name": "x"},
    ):
        assert governor.ask("POST", "/v1/kill-switch", own | {"scope": scope}, token=one).word == "forbidden"
    assert governor.ask("POST", "/v1/kill-switch", own | {"action": "release"}, token=one).word == "forbidden"
    assert governor.ask("GET", "/v1/kill-switch?repository=acme/other", token=one).word == "forbidden"
    assert governor.ask("GET", "/v1/kill-switch", token=one).word == "forbidden"
    assert governor.ask("GET", "/v1/kill-switch?repository=acme/shop", token=one).status == 200
    for change in (
        {"action": "pause"},
        {"scope": {"kind": "planet", "name": "x"}},
        {"scope": {"kind": "global", "name": "x"}},
        {"scope": {"kind": "agent", "name": "a b"}},
        {"reason": ""},
        {"reason": "a\nb"},
        {"expires": "2000-01-01"},
        {"expires": "soon"},
    ):
        assert governor.ask("POST", "/v1/kill-switch", own | change).word == "malformed", change
    assert governor.ask("GET", "/v1/kill-switch?repository=a%20b").word == "malformed"
    released = own | {"action": "release", "expires": None}
    assert (
        governor.ask("POST", "/v1/kill-switch", released, token=governor.token(subject="anna")).status == 201
    )


def test_entries_are_searched_by_page(governor: Governor) -> None:
    assert governor.register(DEV, "dev@example.com").status == 201
    for number in range(12):
        sent = submit(
            governor,
            100 + number,
            DEV,
            repository=f"acme/s{number % 2}",
            decision=("allow", "deny")[number % 2],
        )
        assert sent.status == 201, sent.body
    seen: list[str] = []
    cursor = ""
    while True:
        answer = governor.ask("GET", f"/v1/entries?repository=acme/s1&limit=4{cursor}")
        assert answer.status == 200, answer.body
        seen += [one["id"] for one in answer.json()["entries"]]
        if answer.json()["next"] is None:
            break
        cursor = f"&cursor={answer.json()['next']}"
    assert seen == [
        f"sha256:{verdict(100 + number, DEV, repository='acme/s1', decision='deny').digest}"
        for number in (11, 9, 7, 5, 3, 1)
    ]
    found = governor.ask("GET", "/v1/entries?human=dev%40example.com&decision=deny&kind=verdict").json()
    assert len(found["entries"]) == 6
    assert all("envelope" in one for one in found["entries"])
    switches = governor.ask("GET", "/v1/entries?kind=killswitch&human=anna").json()["entries"]
    assert {one["data"]["action"] for one in switches} == {"release"}
    for query in ("limit=0", "limit=501", "limit=x", "cursor=x", "since=soon", f"rule={'x' * 201}"):
        assert governor.ask("GET", f"/v1/entries?{query}").word == "malformed", query
    one = governor.token("entries:read", repositories=("acme/s1",))
    assert governor.ask("GET", "/v1/entries?repository=acme/s1", token=one).status == 200
    assert governor.ask("GET", "/v1/entries?repository=acme/s0", token=one).word == "forbidden"
    assert governor.ask("GET", "/v1/entries", token=one).word == "forbidden"


@pytest.fixture
def change(tmp_path: Path, environment: dict[str, str]) -> tuple[Repo, bytes, str]:
    """A repository, a bundle of its last commit, and the query for it."""
    repo = make(tmp_path / "repo", environment)
    repo.commit("start", {".safeai/policy.yaml": POLICY, "src/a.py": "a = 1\n"})
    repo.commit("more", {"src/b.py": "b = 1\n"}, ai=True)
    base, head = repo.git("rev-parse", "HEAD~1"), repo.git("rev-parse", "HEAD")
    repository = discover(repo.path, repo.environment)
    data = make_bundle(repository, base, head)
    repository.close()
    return repo, data, f"repository=test/repository&base={base}&head={head}"


def test_a_change_is_decided(governor: Governor, change: tuple[Repo, bytes, str]) -> None:
    repo, data, query = change
    token = governor.token("decisions:write", repositories=("test/repository",))
    answer = governor.ask("POST", f"/v1/decisions?{query}&branch=topic", data, token=token, headers=BUNDLE)
    assert answer.status == 200, answer.body
    found = answer.json()
    assert (found["decision"], found["findings"], len(found["verdicts"])) == ("allow", [], 2)
    opened = open_envelope(
        Envelope.parse(json.dumps(found["envelope"], separators=(",", ":"), sort_keys=True).encode()),
        own_key(governor),
        purpose=VERDICT_NAMESPACE,
        at=int(time.time()),
        verify=verify,
    )
    assert parse_statement(opened.payload).tree == repo.git("rev-parse", "HEAD^{tree}")
    assert f"\nindex {found['index']}\n" in found["receipt"]
    asked = governor.ask("GET", "/v1/entries?kind=decision&limit=1").json()["entries"][0]["data"]
    assert (asked["by"], asked["branch"], asked["decision"]) == ("tests", "topic", "allow")
    for changed, sent, word in (
        (query.replace("test/repository", "acme/shop"), data, "forbidden"),
        (query.replace("base=", "base=x"), data, "malformed"),
        (query, b"", "malformed"),
        (query, data[:200], "malformed"),
        (query, b"x" * (9 << 20), "too-large"),
    ):
        got = governor.ask("POST", f"/v1/decisions?{changed}", sent, token=token, headers=BUNDLE)
        assert got.word == word, got.body
    everywhere = governor.ask(
        "POST", f"/v1/decisions?{query.replace('test/repository', 'acme/shop')}", data, headers=BUNDLE
    )
    assert everywhere.word == "forbidden", "the policy names another repository"
    assert governor.ask("POST", f"/v1/decisions?{query}", data).word == "unsupported-media-type"
    assert governor.audit().returncode == 0


def test_a_governor_that_was_killed_knows_what_it_knew(tmp_path: Path) -> None:
    governor = Governor(tmp_path / "data", SAFEAI_ENABLE="off")
    with governor:
        assert lease(governor).stopped == "SAFEAI_ENABLE=off at the start (SAFEAI_ENABLE)"
        assert governor.register(CI).status == 201
        assert submit(governor, 1).status == 201
        left = tmp_path / "data" / "quarantine" / "of-left" / "bundle-x"
        left.mkdir(parents=True)
        governor.stop(signal.SIGKILL)
    (tmp_path / "data" / "search.sqlite").write_bytes(b"garbage")
    governor.settings["SAFEAI_ENABLE"] = "on"
    with governor.start():
        assert not left.parent.exists()
        assert lease(governor).stopped.startswith("SAFEAI_ENABLE=off")
        assert submit(governor, 2).status == 201
        assert len(governor.ask("GET", "/v1/entries?kind=verdict").json()["entries"]) == 2
        assert turn(governor, "release").status == 201
        assert lease(governor).stopped == ""
        assert governor.stop() == 0


def test_the_first_policy_comes_out_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    place = tmp_path / "config" / "policy.yaml"
    place.write_text("allow_paths: [src/]\n")
    governor = Governor(tmp_path / "data", SAFEAI_CONFIG_DIR=str(tmp_path / "config"))
    with governor:
        first = governor.ask("GET", "/v1/policy").body
        assert first.endswith(b"\nallow_paths: [src/]\n")
        assert governor.stop() == 0
    place.write_text("allow_paths: [docs/]\n")
    with governor.start():
        assert governor.ask("GET", "/v1/policy").body == first, "the file is the first policy, not the newest"


def eventually(seen: Any) -> bool:
    """Whether something comes to hold; the time that it takes is nobody's business here."""
    for _ in range(3000):
        if seen():
            return True
        threading.Event().wait(0.02)
    return False


def test_two_governors_on_one_database_agree(cluster: Cluster, tmp_path: Path) -> None:  # noqa: F811
    settings = {"SAFEAI_DATABASE_URL": cluster.url, "SAFEAI_LOG_ORIGIN": "two.example/log"}
    one = Governor(tmp_path / "one", **settings)
    other = Governor(tmp_path / "other", **settings)
    (tmp_path / "other" / "keys").rename(tmp_path / "unused")
    (tmp_path / "one" / "keys").rename(tmp_path / "keys")
    for each in (one, other):
        (each.folder / "keys").symlink_to(tmp_path / "keys")
    with one, other:
        assert turn(one, "engage").status == 201
        assert eventually(lambda: lease(other).stopped == "a leaked key (maria)")
        assert turn(other, "release", subject="anna").status == 201
        assert eventually(lambda: lease(one).stopped == "")
        assert one.register(CI).status == 201
        assert eventually(lambda: submit(other, 1).status in (200, 201))
        revoked = other.ask("POST", "/v1/keys", {"action": "revoke", "key": CI.key_id, "reason": "stolen"})
        assert revoked.status == 201, revoked.body
        # Not one more is taken, by whichever of them, from the moment of that answer.
        assert [submit(each, number).word for each in (one, other) for number in (2, 3)] == [
            "unknown-key"
        ] * 4
        body = {"policy": "allow_paths: [src/]\n", "expires": "2100-01-01", "version": 3}
        assert one.ask("POST", "/v1/policy", body).status == 201
        assert other.ask("POST", "/v1/policy", body | {"version": 2}).word == "conflict"
        assert eventually(lambda: other.ask("GET", "/v1/policy").body == one.ask("GET", "/v1/policy").body)
        found = [each.ask("GET", "/v1/entries?limit=500").json()["entries"] for each in (one, other)]
        assert found[0] == found[1]
