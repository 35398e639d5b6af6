"""Commits that reach a protected ref without a verdict, told to a live Governor: an entry of its log, and a metric."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Repo
from test_push import log_key
from test_receive_transports import Way, install
from tools_governor import Governor
from tools_log import OTHER_SIGNER

from safeai_git.core.errors import FormatError
from safeai_git.core.incident import MOST_COMMITS, STATUSES, Incident
from safeai_git.core.log.note import ED25519, NoteKey

NAME = "test/repository"
ONE = {"repository": NAME, "ref": "refs/heads/main", "old": "", "new": "c" * 40, "time": 1_769_851_800}


@pytest.fixture(scope="module")
def governor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Governor]:
    with Governor(tmp_path_factory.mktemp("governor")) as running:
        yield running


@pytest.fixture
def way(governed: Repo, make_repo: Callable[..., Repo]) -> Way:
    """A server that takes every push, and looks at it afterwards."""
    server = make_repo("server.git", "--bare")
    governed.git("push", "-q", "--no-verify", str(server.path), "main")
    install(server, "post-receive")
    return Way(governed, server, server.path.as_uri(), "peter", {"USER": "peter"})


def trusting(way: Way, governor: Governor, token: str) -> dict[str, str]:
    """Have the server's machine name the Governor."""
    way.variables |= {
        "SAFEAI_GOVERNOR": governor.url, "SAFEAI_GOVERNOR_KEY": log_key(governor), "SAFEAI_TOKEN": token,
    }  # fmt: skip
    return way.variables


def incidents(governor: Governor) -> list[dict[str, Any]]:
    lines = (governor.folder / "audit.log").read_bytes().splitlines()
    entries = [json.loads(line) for line in lines if line.startswith(b'{"seq"')]
    return [one["data"] for one in entries if one["kind"] == "incident"]


def counted(governor: Governor) -> dict[str, int]:
    text = governor.ask("GET", "/metrics", token=None).body.decode()
    found = re.findall(r'^safeai_commits_without_verdict_total\{status="(\w+)"\} (\d+)', text, re.MULTILINE)
    return {status: int(number) for status, number in found}


def spooled(way: Way) -> list[Path]:
    return sorted((way.server.path / "safeai/incidents").glob("*.json"))


def test_a_commit_without_a_verdict_is_an_entry_and_a_metric(way: Way, governor: Governor) -> None:
    before = counted(governor)
    assert set(before) == set(STATUSES)  # from the start: an alert sees the first one
    trusting(way, governor, governor.token("incidents:write", repositories=(NAME,), subject="git.example"))
    old = way.ref("refs/heads/main")
    one = way.repo.commit("work", {"src/b.py": "b = 1\n"}, ai=True)
    two = way.repo.commit("more", {"src/b.py": "b = 2\n"}, ai=True)
    done = way.push("main")
    assert done.code == 0, done.both
    assert "2 commits without a verdict" in done.err
    assert "Governor" not in done.err  # it was told
    (entry,) = incidents(governor)
    assert entry.pop("time")
    assert entry == {
        "what": "commits-without-verdict", "repository": NAME, "by": "git.example", "ref": "refs/heads/main",
        "old": old, "new": two, "commits": [{"commit": one, "status": "missing"}, {"commit": two, "status": "missing"}],
    }  # fmt: skip
    assert counted(governor) == before | {"missing": before["missing"] + 2}
    assert spooled(way) == []
    found = governor.ask("GET", f"/v1/entries?kind=incident&repository={NAME}").json()
    assert len(found["entries"]) == 1
    assert governor.audit().returncode == 0


def test_what_a_verdict_lets_pass_is_no_incident(way: Way, governor: Governor) -> None:
    before = incidents(governor)
    trusting(way, governor, governor.token("incidents:write"))
    way.repo.commit("work", {"src/b.py": "b = 1\n"}, ai=True)
    assert way.repo.safeai("check", "--range", "HEAD~1..HEAD").code == 0
    assert way.push("refs/notes/safeai").code == 0
    assert way.push("main").code == 0
    assert incidents(governor) == before


def test_it_waits_for_a_governor_that_is_away_and_is_logged_once(way: Way, tmp_path: Path) -> None:
    with Governor(tmp_path / "away") as governor:
        port, variables = governor.port, trusting(way, governor, governor.token("incidents:write"))
        assert governor.stop() == 0
        way.repo.commit("work", {"src/b.py": "b = 1\n"}, ai=True)
        done = way.push("main")
        assert done.code == 0, done.both
        assert "the Governor is told later" in done.err
        # What cannot be verified is told as well, and keeps no other ref from being told.
        way.repo.git("checkout", "-q", "-b", "broken")
        way.repo.commit("broken", {".safeai/policy.yaml": "nonsense: [\n"})
        last = way.repo.commit("work", {"src/c.py": "c = 1\n"}, ai=True)
        way.repo.git("checkout", "-q", "main")
        way.repo.commit("more", {"src/b.py": "b = 2\n"}, ai=True)
        way.server.git("config", "safeai.protectedRefs", "refs/heads/")
        assert way.push("broken", "main").code == 0
        (first, *_) = waiting = spooled(way)
        assert len(waiting) == 3
        assert way.server.safeai("push", env=variables).code == 3
        assert "3 incidents" in way.server.safeai("push").both  # nobody names a Governor: said, and kept
        assert spooled(way) == waiting

        governor.settings["SAFEAI_PORT"] = str(port)
        governor.start()
        shutil.copyfile(first, tmp_path / first.name)
        # Nobody else's log takes the reports off our hands.
        other = NoteKey(NoteKey.parse(log_key(governor)).name, ED25519, OTHER_SIGNER.public.raw).format()
        lied = way.server.safeai("push", env=variables | {"SAFEAI_GOVERNOR_KEY": other})
        assert lied.code == 3, lied.both
        assert spooled(way) == waiting
        done = way.server.safeai("push", "--format", "json", env=variables)
        assert done.code == 0, done.both
        assert json.loads(done.out)["incidents"]["repeated"] == 3  # logged when the lie was told
        assert spooled(way) == []
        told = incidents(governor)
        assert len(told) == 3
        (undecided,) = [one for one in told if one["ref"] == "refs/heads/broken"]
        assert undecided["commits"][-1] == {"commit": last, "status": "undecided"}
        # Killed after the answer and before the file was gone: sent again, logged once.
        shutil.copyfile(tmp_path / first.name, first)
        assert "1 had been before" in way.server.safeai("push", env=variables).out
        assert spooled(way) == []
        assert len(incidents(governor)) == 3
        assert sum(counted(governor).values()) == sum(len(one["commits"]) for one in told)


def test_what_the_governor_refuses_stays_and_keeps_nothing_back(way: Way, governor: Governor) -> None:
    """A policy that names another repository must not silence the reports of those that come after."""
    variables = trusting(way, governor, governor.token("incidents:write", repositories=(NAME,)))
    policy = way.repo.path / ".safeai/policy.yaml"
    way.repo.commit(
        "another name", {".safeai/policy.yaml": policy.read_text().replace(NAME, "acme/other")}, ai=True
    )
    assert way.push("main").code == 0
    way.repo.commit("work", {"src/b.py": "b = 1\n"}, ai=True)
    done = way.push("main")
    assert "forbidden" in done.err, done.err
    assert len(spooled(way)) == 1
    way.repo.git("checkout", "-q", "-b", "next", "HEAD~2")
    last = way.repo.commit("work", {"src/c.py": "c = 1\n"}, ai=True)
    way.server.git("config", "safeai.protectedRefs", "refs/heads/")
    assert way.push("next").code == 0
    assert [one["commit"] for one in incidents(governor)[-1]["commits"]] == [last]
    refused = way.server.safeai("push", env=variables)
    assert (refused.code, len(spooled(way))) == (1, 1)
    assert "forbidden" in refused.err


def test_without_the_scope_nothing_is_taken(governor: Governor) -> None:
    (one,) = Incident.of([("a" * 40, "missing")], **ONE)
    body = {"incidents": [one.data()]}
    before = len(incidents(governor))
    for scopes in (("verdicts:write",), ("policy:read", "entries:read")):
        answer = governor.ask("POST", "/v1/incidents", body, token=governor.token(*scopes))
        assert (answer.status, answer.word) == (403, "forbidden")
    assert governor.ask("POST", "/v1/incidents", body, token=None).status == 401
    for wrong in ({"incidents": []}, {"incidents": {}}, {"incidents": [7]}, {}, [], {**body, "more": 1}):
        assert governor.ask("POST", "/v1/incidents", wrong).status == 400, wrong
    assert governor.ask("POST", "/v1/incidents", {"incidents": [{}] * 1001}).word == "too-large"
    mixed = governor.ask(
        "POST", "/v1/incidents", {"incidents": [{**one.data(), "by": "me"}, one.data()]}
    ).json()
    assert [sorted(result) for result in mixed["results"]] == [
        ["problem"],
        ["by", "index", "receipt", "repeated"],
    ]
    assert len(incidents(governor)) == before + 1


def test_many_commits_are_told_in_parts() -> None:
    commits = [(f"{number:040x}", "missing") for number in range(2 * MOST_COMMITS + 1)]
    told = list(Incident.of(commits, **ONE | {"ref": "refs/heads/ü" + "x" * 900}))
    assert [len(one.commits) for one in told] == [MOST_COMMITS, MOST_COMMITS, 1]
    assert [pair for one in told for pair in one.commits] == commits
    assert all(one.ref.isascii() and len(one.ref) == 500 for one in told)
    assert all(Incident.parse(one.format()) == one for one in told)


@pytest.mark.parametrize(
    "change",
    [
        {"what": "something else"},
        {"time": "yesterday"},
        {"ref": ""},
        {"ref": "refs/heads/\x1b[2J"},
        {"repository": "ü"},
        {"repository": "x" * 501},
        {"new": "C" * 40},
        {"new": ""},
        {"old": "c" * 39},
        {"commits": []},
        {"commits": [{"commit": "a" * 40, "status": "fine"}]},
        {"commits": [{"commit": "a" * 40, "status": "missing", "more": 1}]},
        {"commits": [{"commit": "a" * 40, "status": "missing"}] * 2},
        {"more": 1},
    ],
    ids=str,
)
def test_only_a_report_is_one(change: dict[str, Any]) -> None:
    (one,) = Incident.of([("a" * 40, "missing")], **ONE)
    assert Incident.of_data(one.data()) == one
    with pytest.raises(FormatError):
        Incident.of_data(one.data() | change)


def test_a_report_is_written_one_way() -> None:
    (one,) = Incident.of([("a" * 40, "missing")], **ONE)
    with pytest.raises(FormatError, match="not written the one way"):
        Incident.parse(one.format().replace(b",", b", ", 1))


def test_the_same_report_by_the_same_server_is_one_entry() -> None:
    (one,) = Incident.of([("a" * 40, "missing")], **ONE)
    key, data = one.logged("git.example")
    assert one.logged("git.example") == (key, data)
    assert data == {**one.data(), "by": "git.example"}
    assert one.logged("another")[0] != key
    assert len({one.digest, *(other.digest for other in Incident.of([("b" * 40, "missing")], **ONE))}) == 2
