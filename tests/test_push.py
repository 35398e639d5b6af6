"""Verdicts on their way to a Governor: a real one, one that is away, one that is killed, and ones that lie."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest import POLICY, Repo
from tools_cli import PATIENCE, before_the_lock, make
from tools_governor import Governor, lease_line, verdict
from tools_log import LOG_SIGNER, ORIGIN, OTHER_SIGNER, checkpoint, leaves, nodes_of

from safeai_git import delivery as delivery_module
from safeai_git.client import checkpoints as module
from safeai_git.client.checkpoints import Checkpoints
from safeai_git.client.governor import Address
from safeai_git.client.spool import Spool
from safeai_git.core.envelope import Envelope
from safeai_git.core.errors import FormatError, GovernorUnavailable, LogProofInvalid, StorageError, WrongUse
from safeai_git.core.log.checkpoint import OpenedCheckpoint, open_checkpoint
from safeai_git.core.log.entry import Draft
from safeai_git.core.log.merkle import consistency_path
from safeai_git.core.log.note import ED25519, NoteKey
from safeai_git.core.log.proof import LogProof
from safeai_git.core.receipt import Receipt, check_receipt
from safeai_git.delivery import Delivery, Destination, work_off
from safeai_git.files import alone
from safeai_git.git.repository import discover
from safeai_git.governor.audit_log import AuditLog
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.open_log import start_log
from safeai_git.governor.stores.memory import MemoryStore
from safeai_git.keys.ed25519 import Ed25519Signer, verify

KEY = NoteKey(ORIGIN, ED25519, LOG_SIGNER.public.raw)
VERDICT = verdict(1, LOG_SIGNER).format()


def governed(
    path: Path, environment: dict[str, str], url: str, *, unreachable: str = "spool", seconds: int = 120
) -> Repo:
    """A repository whose policy names a Governor, with a key of its own and one commit."""
    repo = make(path, environment)
    assert repo.safeai("init").code == 0
    link = f"governor:\n  url: {url}\n  on_unreachable: {unreachable}\n  timeout_seconds: {seconds}\n"
    repo.write(".safeai/policy.yaml", POLICY + link)
    repo.commit("start", {"src/a.py": "a = 1\n"})
    return repo


def key_line(repo: Repo) -> str:
    """The public key of a repository's user, as an OpenSSH line."""
    return repo.safeai("keys", "export").out.strip()


def log_key(governor: Governor) -> str:
    first = json.loads((governor.folder / "audit.log").read_bytes().split(b"\n")[0])
    return str(first["data"]["keys"][0])


def named(repo: Repo, governor: Governor) -> dict[str, str]:
    """The variables of a machine that trusts a Governor."""
    return {
        "SAFEAI_GOVERNOR": governor.url,
        "SAFEAI_GOVERNOR_KEY": log_key(governor),
        "SAFEAI_TOKEN": governor.token("verdicts:write", "policy:read"),
    }


def logged(governor: Governor) -> list[str]:
    """Ids of the verdicts on its log."""
    found = []
    for line in (governor.folder / "audit.log").read_bytes().splitlines():
        if line.startswith(b'{"seq"'):
            entry = json.loads(line)
            if entry["kind"] == "verdict":
                found.append(entry["id"])
    return found


def waiting(repo: Repo) -> int:
    return len(list((repo.path / ".git/safeai/spool").glob("*.json")))


@pytest.fixture
def governor(tmp_path: Path) -> Iterator[Governor]:
    with Governor(tmp_path / "governor") as running:
        yield running


def registered(repo: Repo, governor: Governor) -> Repo:
    answer = governor.ask(
        "POST",
        "/v1/keys",
        {
            "action": "register",
            "public": key_line(repo),
            "principal": "maria@example.com",
            "purposes": ["safeai-verdict", "safeai-approval"],
            "reason": "tests",
        },
    )
    assert answer.status in (200, 201), answer.body
    return repo


def test_B15_hook_ci_and_push_with_a_governor_that_dies_in_between(
    tmp_path: Path, environment: dict[str, str], governor: Governor
) -> None:
    """Nothing missing and nothing doubled, and every receipt verifies with the Governor gone."""
    repo = registered(governed(tmp_path / "repo", environment, governor.url), governor)
    base = repo.git("rev-parse", "HEAD")
    with_governor = named(repo, governor)

    def commit(number: int) -> str:
        repo.write(f"src/f{number}.py", f"x = {number}\n")
        repo.git("add", "-A")
        message = f"change {number}\n\nCo-Authored-By: Claude <noreply@anthropic.com>\n"
        done = subprocess.run(
            ["git", "commit", "-q", "-m", message], cwd=repo.path, env=repo.environment | with_governor,
            capture_output=True, timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stderr.decode()

    commit(1)
    assert waiting(repo) == 0
    assert len(logged(governor)) == 1

    governor.stop(9)
    assert "waits in the spool" in commit(2)
    assert "waits in the spool" in commit(3)
    assert waiting(repo) == 2
    assert "safeai-git push" in repo.safeai("doctor", env=with_governor).out
    away = repo.safeai("push", env=with_governor)
    assert away.code == 3
    assert "cannot be reached" in away.err

    port = governor.port
    governor.settings["SAFEAI_PORT"] = str(port)
    governor.start()
    commit(4)  # delivers what waited, too
    assert waiting(repo) == 0
    ci = repo.safeai("ci", "--base", base, "--head", "HEAD", "--mode", "both", env=with_governor)
    assert ci.code == 0, ci.both
    assert waiting(repo) == 0
    ids = logged(governor)
    assert len(ids) == len(set(ids))
    notes = repo.git("log", "--format=%H", "refs/notes/safeai", "--")
    assert notes
    key = log_key(governor)
    governor.stop(9)

    told = repo.safeai("verify", f"{base}..HEAD", "--log-key", key, "--format", "json")
    assert told.code == 0, told.both
    commits = json.loads(told.out)["commits"]
    assert len(commits) == 4
    assert all(one["logged"].startswith("entry ") for one in commits)
    assert governor.audit().returncode in (0, 3)
    wrong = NoteKey("another.example/log", ED25519, OTHER_SIGNER.public.raw).format()
    assert repo.safeai("verify", f"{base}..HEAD", "--log-key", wrong).code == 1
    remembered = list((Path(environment["XDG_STATE_HOME"]) / "safeai-git/governors").glob("*.checkpoint"))
    assert remembered


def test_two_that_push_at_once_deliver_each_once(
    tmp_path: Path, environment: dict[str, str], governor: Governor
) -> None:
    repo = registered(governed(tmp_path / "repo", environment, governor.url), governor)
    base = repo.git("rev-parse", "HEAD")
    for number in range(12):
        repo.commit(f"change {number}", {f"src/f{number}.py": f"x = {number}\n"}, ai=True)
    assert repo.safeai("check", "--range", f"{base}..HEAD").code == 0
    count = waiting(repo)
    assert count >= 12
    env = named(repo, governor)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: repo.safeai("push", env=env), range(4)))
    assert {one.code for one in done} == {0}, [one.both for one in done]  # each waits for the one before
    assert waiting(repo) == 0
    assert len(logged(governor)) == len(set(logged(governor))) == count


def test_what_the_governor_refuses_stays_and_is_named(
    tmp_path: Path, environment: dict[str, str], governor: Governor
) -> None:
    repo = governed(tmp_path / "repo", environment, governor.url)
    base = repo.git("rev-parse", "HEAD")
    repo.commit("change", {"src/f.py": "x = 1\n"}, ai=True)
    env = named(repo, governor)
    done = repo.safeai("check", "--range", f"{base}..HEAD", env=env)
    assert done.code == 0, done.both
    assert "does not take" in done.err
    assert "unknown-key" in done.err
    left = waiting(repo)
    assert left
    done = repo.safeai("push", "--format", "json", env=env)
    assert done.code == 1
    assert len(json.loads(done.out)["refused"]) == left
    registered(repo, governor)
    assert repo.safeai("push", env=env).code == 0
    assert waiting(repo) == 0


def test_B15_a_policy_that_wants_the_log_now_gets_it_or_stops(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    url = "http://127.0.0.1:9"
    repo = governed(tmp_path / "repo", environment, url, unreachable="deny")
    base = repo.git("rev-parse", "HEAD")
    repo.commit("change", {"src/f.py": "x = 1\n"}, ai=True)
    machine = {"SAFEAI_GOVERNOR": url, "SAFEAI_GOVERNOR_KEY": KEY.format()}
    for env in ({}, machine):
        done = repo.safeai("check", "--range", f"{base}..HEAD", env=env)
        assert done.code == 3, done.both
        assert "wants the verdict on the Governor's log" in done.err
    assert waiting(repo)


@pytest.mark.parametrize("unreachable", ["deny", "spool"])
def test_a_policy_that_wants_the_log_now_waits_for_who_delivers_already(
    tmp_path: Path, environment: dict[str, str], governor: Governor, unreachable: str
) -> None:
    repo = governed(tmp_path / "repo", environment, governor.url, unreachable=unreachable)
    registered(repo, governor)
    base = repo.git("rev-parse", "HEAD")
    repo.commit("change", {"src/f.py": "x = 1\n"}, ai=True)
    env, lock = named(repo, governor), repo.path / ".git/safeai/spool.lock"
    with ThreadPoolExecutor(1) as pool:
        with alone(lock) as ours:
            assert ours
            checks = pool.submit(repo.safeai, "check", "--range", f"{base}..HEAD", env=env)
            if unreachable == "spool":
                assert checks.result(PATIENCE).code == 0
            else:
                until = time.monotonic() + PATIENCE
                while not waiting(repo) and time.monotonic() < until:
                    time.sleep(0.01)
                with pytest.raises(FutureTimeout):
                    checks.result(1)
            assert waiting(repo)
        done = checks.result(PATIENCE)
    assert done.code == 0, done.both
    assert bool(waiting(repo)) is (unreachable == "spool")


def test_a_repository_names_no_place_for_a_token(tmp_path: Path, environment: dict[str, str]) -> None:
    """Neither its policy nor its own configuration leads a token anywhere; they may only agree with the machine's."""
    with listening(lambda request: (200, b"{}")) as (server, seen):
        url = f"http://127.0.0.1:{server.server_port}"
        repo = governed(tmp_path / "repo", environment, url)
        repo.git("config", "safeai.governor", url)
        repo.git("config", "safeai.governorKey", KEY.format())
        base = repo.git("rev-parse", "HEAD")
        repo.commit("change", {"src/f.py": "x = 1\n"}, ai=True)
        done = repo.safeai("check", "--range", f"{base}..HEAD", env={"SAFEAI_TOKEN": "secret"})
        assert done.code == 0, done.both
        assert "names no Governor" in done.err
        elsewhere = {
            "SAFEAI_TOKEN": "secret",
            "SAFEAI_GOVERNOR": "https://governor.example",
            "SAFEAI_GOVERNOR_KEY": KEY.format(),
        }
        done = repo.safeai("check", "--range", f"{base}..HEAD", env=elsewhere)
        assert done.code == 2
        assert "the policy wants the Governor" in done.err
        assert not seen


@pytest.mark.parametrize(
    "url",
    [
        "http://governor.example", "ftp://x", "https://", "https://user:password@x", "https://x/?a=b", "https://x/#f",
        "file:///etc/passwd", "https://x:99999", "https://[::1", "javascript:x", "",
    ],
)  # fmt: skip
def test_addresses_that_no_token_is_sent_to(url: str) -> None:
    with pytest.raises(WrongUse, match="address cannot be"):
        Address(url, "token")
    with pytest.raises(WrongUse, match="token holds"):
        Address("https://governor.example", "a\r\nX-Evil: 1")


class Listening:
    """A server that answers as a function says, and remembers what it was asked."""

    def __init__(self, answer: Callable[[bytes], tuple[int, bytes] | None]) -> None:
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                outer.seen.append((self.path, dict(self.headers), body))
                found = answer(body)
                if found is None:
                    outer.ended.wait(PATIENCE)
                    return
                self.send_response(found[0])
                if found[0] in (301, 302, 307, 308):
                    self.send_header("Location", found[1].decode())
                self.send_header("Content-Length", str(len(found[1])))
                self.end_headers()
                self.wfile.write(found[1])

            def do_GET(self) -> None:
                outer.seen.append((self.path, dict(self.headers), b""))
                asked = self.path.startswith("/v1/kill-switch")
                found = outer.lease if asked else outer.proof(self.path)
                self.send_response(200)
                self.send_header("Content-Length", str(len(found)))
                self.end_headers()
                self.wfile.write(found)

            def log_message(self, *_: object) -> None:
                return

        self.ended = threading.Event()
        self.proof: Callable[[str], bytes] = lambda path: b"{}"
        self.lease = lease_line(LOG_SIGNER, ORIGIN)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self) -> tuple[ThreadingHTTPServer, list[Any]]:
        self.thread.start()
        return self.server, self.seen

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()


listening = Listening


def log_of(signer: Ed25519Signer = LOG_SIGNER, origin: str = ORIGIN) -> AuditLog:
    return start_log(MemoryStore(), LogSigner(origin, [signer]))


def envelopes_of(body: bytes) -> list[Envelope]:
    return [
        Envelope.parse(json.dumps(one, separators=(",", ":"), sort_keys=True).encode())
        for one in json.loads(body)["envelopes"]
    ]


def answer_with(
    log: AuditLog, change: Callable[[Envelope, LogProof], tuple[str, LogProof]]
) -> Callable[[bytes], tuple[int, bytes]]:
    """A Governor that logs, and lies in what it answers."""

    def answer(body: bytes) -> tuple[int, bytes]:
        results = []
        for one in envelopes_of(body):
            receipt = log.append(Draft.of_envelope("verdict", f"sha256:{one.digest}", one))
            digest, proof = change(one, receipt.proof())  # type: ignore[union-attr]
            results.append(
                {
                    "digest": digest,
                    "index": proof.index,
                    "repeated": False,
                    "receipt": proof.format().decode(),
                }
            )
        return 200, json.dumps({"results": results}).encode()

    return answer


def lies() -> dict[str, Callable[[], Callable[[bytes], tuple[int, bytes] | None]]]:
    def changed(
        change: Callable[[Envelope, LogProof], tuple[str, LogProof]], **log: Any
    ) -> Callable[[], Any]:
        return lambda: answer_with(log_of(**log), change)

    def other_path(one: Envelope, proof: LogProof) -> tuple[str, LogProof]:
        return one.digest, LogProof(proof.index, (b"\0" * 32, *proof.path[1:]), proof.checkpoint, proof.extra)

    def other_head(one: Envelope, proof: LogProof) -> tuple[str, LogProof]:
        extra = (proof.extra or b"").replace(one.digest[:8].encode(), b"00000000")
        return one.digest, LogProof(proof.index, proof.path, proof.checkpoint, extra)

    def other_index(one: Envelope, proof: LogProof) -> tuple[str, LogProof]:
        return one.digest, LogProof(proof.index - 1, proof.path, proof.checkpoint, proof.extra)

    return {
        "another path": changed(other_path),
        "another entry's head": changed(other_head),
        "another place": changed(other_index),
        "no head": changed(
            lambda one, proof: (one.digest, LogProof(proof.index, proof.path, proof.checkpoint))
        ),
        "another envelope's receipt": changed(lambda one, proof: ("0" * 64, proof)),
        "another key": changed(lambda one, proof: (one.digest, proof), signer=OTHER_SIGNER),
        "another log": changed(lambda one, proof: (one.digest, proof), origin="another.example/log"),
        "no JSON": lambda: lambda body: (200, b"<html>welcome to the hotel"),
        "deep JSON": lambda: lambda body: (200, b"[" * 100_000),
        "nothing": lambda: lambda body: (200, b""),
        "too few answers": lambda: lambda body: (200, b'{"results":[]}'),
        "a fault": lambda: lambda body: (500, b"oops \x1b[31m"),
        "a redirect": lambda: lambda body: (307, b"http://127.0.0.1:9/"),
        "too much": lambda: lambda body: (200, b" " * (17 * 1024 * 1024)),
        "silence": lambda: lambda body: None,
        "no HTTP status": lambda: lambda body: (99, b""),
    }


PROVEN = ("another path", "another entry's head", "another place", "no head", "another key", "another log")


@pytest.mark.parametrize("lie", lies())
def test_B15_B85_a_lying_governor_is_not_believed(
    tmp_path: Path, environment: dict[str, str], lie: str
) -> None:
    """Nothing leaves the spool, no receipt is kept, and nothing is remembered."""
    repo = make(tmp_path / "repo", environment)
    repo.commit("start", {"a": "1"})
    state = environment | {"XDG_STATE_HOME": str(tmp_path / "state")}
    with closing(discover(repo.path, state)) as repository, listening(lies()[lie]()) as (server, seen):
        spool = Spool(repository.private_directory / "spool")
        spool.add(Envelope.parse(VERDICT))
        to = Destination(Address(f"http://127.0.0.1:{server.server_port}", "t"), (KEY,))
        delivery = Delivery(repository, state, to, seconds=1 if lie == "silence" else PATIENCE)
        with pytest.raises(LogProofInvalid if lie in PROVEN else (FormatError, GovernorUnavailable)) as told:
            delivery.drain()
        assert seen
        assert "\x1b" not in told.value.message
        assert len(spool) == 1
        assert not repository.ref("refs/notes/safeai")
    assert not list(tmp_path.glob("state/**/*.checkpoint"))


@pytest.mark.parametrize(
    ("lie", "code", "words"), [("another path", 3, "does not hold"), ("no JSON", 0, "waits in the spool")]
)
def test_what_is_said_of_a_lie(
    tmp_path: Path, environment: dict[str, str], lie: str, code: int, words: str
) -> None:
    with listening(lies()[lie]()) as (server, _):
        url = f"http://127.0.0.1:{server.server_port}"
        repo = governed(tmp_path / "repo", environment, url)
        base = repo.git("rev-parse", "HEAD")
        repo.commit("change", {"src/f.py": "x = 1\n"}, ai=True)
        env = {"SAFEAI_GOVERNOR": url, "SAFEAI_GOVERNOR_KEY": KEY.format()}
        done = repo.safeai("check", "--range", f"{base}..HEAD", env=env)
    assert done.code == code, done.both
    assert words in done.err


def test_B84_B85_a_forked_log_stops_everything_and_both_checkpoints_are_shown(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    first, second = log_of(), log_of()
    second.append(Draft.of_data("policy", "other", {"n": 1}))
    logs = [first]

    def answer(body: bytes) -> tuple[int, bytes]:
        return answer_with(logs[0], lambda one, proof: (one.digest, proof))(body)

    serving = listening(answer)
    serving.proof = lambda path: consistency_of(logs[0], path)
    with serving as (server, _):
        url = f"http://127.0.0.1:{server.server_port}"
        repo = governed(tmp_path / "repo", environment | {"XDG_STATE_HOME": str(tmp_path / "state")}, url)
        env = {"SAFEAI_GOVERNOR": url, "SAFEAI_GOVERNOR_KEY": KEY.format()}
        codes = []
        for number in range(2):
            base = repo.git("rev-parse", "HEAD")
            repo.commit(f"change {number}", {f"src/f{number}.py": "x = 1\n"}, ai=True)
            done = repo.safeai("check", "--range", f"{base}..HEAD", env=env)
            codes.append(done.code)
            logs[0] = second
        assert codes == [0, 3], done.both
        assert "fork" in done.err
        assert done.err.count(f"{ORIGIN}\n") >= 2
        assert waiting(repo)


def consistency_of(log: AuditLog, path: str) -> bytes:
    """What ``/v1/consistency`` answers."""
    asked = parse_qs(urlsplit(path).query)
    old, new = int(asked["from"][0]), int(asked["to"][0])
    hashes = [b64encode(one).decode() for one in consistency_path(old, new, log.store.node)]
    return json.dumps({"from": old, "to": new, "hashes": hashes}).encode()


def test_B84_B85_checkpoints_move_only_forward_and_only_with_a_proof(tmp_path: Path) -> None:
    log = log_of()
    seen = []
    for number in range(5):
        receipt = log.append(Draft.of_data("policy", f"n{number}", {"n": number}))
        seen.append(receipt.proof())  # type: ignore[union-attr]

    def ask(old: int, new: int) -> list[bytes]:
        return list(consistency_path(old, new, log.store.node))

    opened = [open_checkpoint(one.checkpoint, ORIGIN, [KEY], verify) for one in seen]
    memory = Checkpoints(tmp_path, verify)
    assert memory.newest([KEY]) is None
    for at in (1, 3, 2, 3, 4):
        memory.advance(opened[at], [KEY], ask)
    held = memory.newest([KEY])
    assert held is not None
    assert held.checkpoint.size == opened[4].checkpoint.size
    with pytest.raises(LogProofInvalid, match="seen before"):
        memory.advance(opened[0], [KEY], lambda old, new: [b"\0" * 32] * 3)
    memory.path(ORIGIN).write_bytes(b"garbage")
    with pytest.raises(StorageError, match="no checkpoint of the log"):
        memory.advance(opened[4], [KEY], ask)


def grown(size: int) -> tuple[AuditLog, list[OpenedCheckpoint]]:
    """A log, and its checkpoint after each entry."""
    log, found = log_of(), []
    for number in range(size):
        proof = log.append(Draft.of_data("policy", f"n{number}", {"n": number})).proof()  # type: ignore[union-attr]
        found.append(open_checkpoint(proof.checkpoint, ORIGIN, [KEY], verify))
    return log, found


@pytest.mark.parametrize("moment", ["asks", "writes"])
@pytest.mark.parametrize("remembered", [False, True])
def test_what_another_process_remembers_meanwhile_is_not_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, remembered: bool
) -> None:
    log, opened = grown(8)
    memory, asked = Checkpoints(tmp_path, verify), list[tuple[int, int]]()

    def ask(old: int, new: int) -> list[bytes]:
        asked.append((old, new))
        return list(consistency_path(old, new, log.store.node))

    def other() -> None:
        Checkpoints(tmp_path, verify).advance(opened[7], [KEY], ask)

    def slow(old: int, new: int) -> list[bytes]:
        if moment == "asks" and len(asked) < 2:
            other()
        return ask(old, new)

    if remembered or moment == "asks":
        memory.advance(opened[2], [KEY], ask)
    if moment == "writes":
        before_the_lock(monkeypatch, module, other)
    memory.advance(opened[5], [KEY], slow)
    held = memory.newest([KEY])
    assert held is not None
    assert held.checkpoint.size == opened[7].checkpoint.size
    assert (opened[5].checkpoint.size, opened[7].checkpoint.size) in asked, (
        "what was passed over is proven too"
    )


def test_what_another_process_remembers_meanwhile_must_be_of_the_same_log(tmp_path: Path) -> None:
    true, other = leaves(8), leaves(3) + leaves(5)  # one log until the third entry
    memory = Checkpoints(tmp_path, verify)

    def opened(hashes: list[bytes], size: int) -> OpenedCheckpoint:
        return open_checkpoint(checkpoint(size, hashes), ORIGIN, [KEY], verify)

    def slow(old: int, new: int) -> list[bytes]:
        if (old, new) == (3, 6):
            path = list(consistency_path(3, 8, nodes_of(other)))
            Checkpoints(tmp_path, verify).advance(opened(other, 8), [KEY], lambda *_: path)
        return list(consistency_path(old, new, nodes_of(true)))

    memory.advance(opened(true, 3), [KEY], slow)
    with pytest.raises(LogProofInvalid, match="seen before"):
        memory.advance(opened(true, 6), [KEY], slow)
    assert memory.newest([KEY]) == opened(other, 8)


def test_somebody_who_holds_what_is_remembered_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LONGEST_WAIT_SECONDS", 0.1)
    _, opened = grown(1)
    memory = Checkpoints(tmp_path, verify)
    with (
        alone(memory.path(ORIGIN).with_suffix(".lock")),
        pytest.raises(StorageError, match="another process"),
    ):
        memory.advance(opened[0], [KEY], lambda *_: [])
    assert memory.newest([KEY]) is None
    memory.advance(opened[0], [KEY], lambda *_: [])
    assert memory.newest([KEY]) is not None


# ---- several that deliver at once


def entries(queue: Spool) -> list[Envelope]:
    return [envelope for _, envelope in queue]


def test_what_is_added_while_another_delivers_does_not_stay_behind(tmp_path: Path) -> None:
    """One adds its verdict when the other has read the queue, finds the lock held, and goes."""
    queue, lock = Spool(tmp_path / "spool"), tmp_path / "lock"
    first, second, third = (verdict(number, LOG_SIGNER) for number in (1, 2, 3))
    queue.add(first)
    turns: list[list[Envelope]] = []

    def late(waiting: Iterator[tuple[str, Envelope]]) -> None:
        turns.append([])
        for name, envelope in waiting:
            turns[-1].append(envelope)
            if envelope == first:
                queue.add(second)
                work_off(queue, lock, lambda _: pytest.fail("two at once"))
            if envelope != second:  # which is refused: it stays, and is not tried again
                queue.remove(name)
        if len(turns) == 2:
            queue.add(third)

    work_off(queue, lock, late)
    assert turns == [[first], [second], [third]]
    assert entries(queue) == [second]


def test_what_is_added_between_the_last_look_and_the_end_does_not_stay_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, lock = Spool(tmp_path / "spool"), tmp_path / "lock"
    queue.add(verdict(1, LOG_SIGNER))

    @contextmanager
    def meets(path: Path, **more: float) -> Iterator[bool]:
        monkeypatch.setattr(delivery_module, "alone", alone)
        with alone(path, **more) as free:
            yield free
            queue.add(verdict(2, LOG_SIGNER))
            with alone(path) as mine:
                assert not mine

    def take(waiting: Iterator[tuple[str, Envelope]]) -> None:
        for name, _ in waiting:
            queue.remove(name)

    monkeypatch.setattr(delivery_module, "alone", meets)
    work_off(queue, lock, take)
    assert not entries(queue)


def test_nobody_works_for_others_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "_LONGEST_FOR_OTHERS_SECONDS", 0.0)
    queue = Spool(tmp_path / "spool")
    queue.add(verdict(1, LOG_SIGNER))
    turns = []

    def work(waiting: Iterator[tuple[str, Envelope]]) -> None:
        turns.append([name for name, _ in waiting])
        queue.add(verdict(1 + len(turns), LOG_SIGNER))

    work_off(queue, tmp_path / "lock", work)
    assert len(turns) == 1
    assert len(queue) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_a_lock_is_waited_for_as_long_as_was_said(tmp_path: Path) -> None:
    path = tmp_path / "below/lock"
    with alone(path) as first, alone(path, wait=0.05) as second:
        assert (first, second) == (True, False)
    with ThreadPoolExecutor(1) as pool:
        with alone(path):
            waits = pool.submit(_held, path)
            with pytest.raises(FutureTimeout):
                waits.result(0.1)
        assert waits.result(PATIENCE)


def _held(path: Path) -> bool:
    with alone(path, wait=PATIENCE) as free:
        return free


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
@pytest.mark.parametrize(("number", "free"), [(errno.ENOLCK, True), (errno.EAGAIN, False)])
def test_where_there_are_no_locks_nobody_is_kept_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, free: bool
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, "flock")

    monkeypatch.setattr("fcntl.flock", refused)
    with alone(tmp_path / "lock") as found:
        assert found is free


def test_a_lock_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be written"), alone(tmp_path / "file/lock"):
        pass


def test_a_receipt_is_one_line_written_one_way(tmp_path: Path) -> None:
    log = log_of()
    envelope = Envelope.parse(VERDICT)
    receipt = log.append(Draft.of_envelope("verdict", f"sha256:{envelope.digest}", envelope))
    made = Receipt(envelope.digest, receipt.proof())  # type: ignore[union-attr]
    line = made.format()
    assert Receipt.parse(line) == made
    assert check_receipt(made, envelope, [KEY], verify).index == 1
    data = json.loads(line)
    for wrong in (
        b"", b"{}", line + b" ", b" " + line, line[:-1], json.dumps(data | {"more": 1}).encode(), json.dumps(data).encode(),
        line.replace(b'"envelope":"', b'"envelope":"X'), VERDICT,
    ):  # fmt: skip
        with pytest.raises(FormatError):
            Receipt.parse(wrong)


def test_a_hook_does_not_load_http_without_a_governor(tmp_path: Path, environment: dict[str, str]) -> None:
    repo = make(tmp_path / "repo", environment)
    repo.safeai("init", "--no-hooks")
    repo.write(".safeai/policy.yaml", POLICY)
    repo.commit("start", {"src/a.py": "a = 1\n"})
    repo.write("src/b.py", "b = 1\n")
    repo.git("add", "-A")
    code = (
        "import sys; from safeai_git.cli import run; code = run(['check']); "
        "print(code, 'urllib.request' in sys.modules, 'safeai_git.delivery' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=repo.path,
        env=repo.environment,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.stdout.decode().splitlines()[-1].endswith("False False"), done.stdout
