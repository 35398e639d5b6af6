"""The Governor has its checkpoints cosigned: real witnesses, one of them killed; hostile ones; one that is required."""

from __future__ import annotations

import asyncio
import http.server
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tools_cli import PATIENCE, free_port
from tools_governor import SAFEAI, Governor, verdict
from tools_log import LOG_KEY, LOG_SIGNER, ORIGIN, OTHER_SIGNER, WITNESS_SIGNER

from safeai_git.core.errors import WrongUse
from safeai_git.core.log.checkpoint import Checkpoint
from safeai_git.core.log.cosignature import Cosignature, message
from safeai_git.core.log.entry import Draft
from safeai_git.core.log.note import COSIGNATURE, ED25519, Note, NoteKey, NoteSignature
from safeai_git.core.log.policy import Party, parse_policy
from safeai_git.core.log.proof import LogProof
from safeai_git.core.publickey import parse_openssh
from safeai_git.governor.audit_log import Receipt
from safeai_git.governor.http import submitter
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.open_log import open_file_log
from safeai_git.governor.problem import Problem
from safeai_git.governor.settings import read_settings
from safeai_git.governor.witness_client import WitnessClient
from safeai_git.governor.witnesses import FOLDER, QUORUM, Witnesses, read_witness_policy
from safeai_git.keys.ed25519 import Ed25519Signer, verify

AGENT = OTHER_SIGNER


def log_key(governor: Governor) -> NoteKey:
    """The key that the log of a Governor will have, before it was ever started."""
    public, _ = parse_openssh(next((governor.folder / "keys").glob("*.pub")).read_bytes().strip())
    return NoteKey(ORIGIN, ED25519, public.raw)


class RealWitness:
    """``safeai witness`` in a process of its own, on a port that it keeps."""

    def __init__(self, folder: Path, name: str, log: NoteKey, environment: dict[str, str]) -> None:
        self.name, self.port, self._environment = name, free_port(), environment
        subprocess.run(
            [*SAFEAI, "keys", "generate", "--data-dir", str(folder)],
            env=environment, check=True, capture_output=True, timeout=PATIENCE,
        )  # fmt: skip
        self._command = [
            *SAFEAI, "witness", "--name", name, "--log", log.format(), "--data-dir", str(folder), "--port", str(self.port)
        ]  # fmt: skip
        public, _ = parse_openssh(next((folder / "keys").glob("*.pub")).read_bytes().strip())
        self.key = NoteKey(name, COSIGNATURE, public.raw)
        self.line = f"witness {name} {self.key.format()} http://127.0.0.1:{self.port}\n"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, env=self._environment, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        threading.Event().wait(0.05)


def signers(note: bytes, *keys: NoteKey) -> set[str]:
    return {key.name for key in Note.parse(note).check(keys, verify)}


def size_of(note: bytes) -> int:
    return Checkpoint.parse(Note.parse(note).text).size


def newest(governor: Governor, path: str = "/v1/checkpoint") -> bytes:
    answer = governor.ask("GET", path, token=None)
    return answer.body if answer.status == 200 else b""


def submit(governor: Governor, number: int) -> str:
    one = verdict(number, AGENT)
    assert governor.ask("POST", "/v1/verdicts", one.format()).status == 201
    return one.digest


def test_two_witnesses_cosign_one_is_killed_and_comes_back(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    policy_file = tmp_path / "policy"
    governor = Governor(tmp_path / "g", SAFEAI_WITNESS_POLICY=str(policy_file), SAFEAI_LOG_ORIGIN=ORIGIN)
    key = log_key(governor)
    first, second = (RealWitness(tmp_path / name, name, key, environment) for name in ("w1", "w2"))
    try:
        policy_file.write_text(
            f"log {key.format()}\n{first.line}{second.line}group both all w1 w2\nquorum both\n"
        )
        policy = parse_policy(policy_file.read_bytes())
        keys = (key, first.key, second.key)

        def all_cosigned() -> bool:
            note = newest(governor)
            return bool(note) and signers(note, *keys) == {ORIGIN, "w1", "w2"}

        with governor:
            governor.register(AGENT)
            digest = submit(governor, 1)
            until(all_cosigned)
            before = size_of(newest(governor))
            proof = LogProof.parse(governor.ask("GET", f"/v1/receipts/{digest}").body)
            assert policy.is_met_by(Note.parse(proof.checkpoint).check(keys, verify))
            assert newest(governor, "/log/checkpoint") == newest(governor)

            second.kill()
            submit(governor, 2)  # nobody waits for a witness
            until(lambda: signers(newest(governor), *keys) == {ORIGIN, "w1"})
            counted = governor.ask("GET", "/metrics", token=None).body
            assert b'safeai_witness_requests_total{result="unreachable",witness="w2"}' in counted
            assert b"safeai_log_witnessed_size %d.0" % before in counted
            assert governor.stop() == 0
        log_bytes = (governor.folder / "audit.log").read_bytes()
        assert "— w1 ".encode() not in log_bytes.replace(rb"\u2014", "—".encode())

        with governor:  # what was gathered outlives a restart, although the second one is still away
            proof = LogProof.parse(governor.ask("GET", f"/v1/receipts/{digest}").body)
            assert policy.is_met_by(Note.parse(proof.checkpoint).check(keys, verify))
            second.start()
            until(all_cosigned)
            assert size_of(newest(governor)) > before
            assert governor.stop(signal.SIGKILL) != 0

        command = [*SAFEAI, "audit", "--verify", "--witness-policy", str(policy_file)]
        done = subprocess.run(command, env=governor.environment, capture_output=True, timeout=PATIENCE)
        assert done.returncode == 0, done
        assert b"by the quorum of the policy" in done.stdout
        held = (governor.folder / FOLDER / QUORUM).read_bytes()
        (governor.folder / FOLDER / QUORUM).unlink()
        done = subprocess.run(command, env=governor.environment, capture_output=True, timeout=PATIENCE)
        assert (done.returncode, b"No checkpoint that the quorum" in done.stdout) == (1, True)

        # A log that ends before what its own key signed and witnesses saw was rolled back: nothing more is signed.
        (governor.folder / FOLDER / QUORUM).write_bytes(held)
        (governor.folder / "audit.head").unlink()
        lines = log_bytes.splitlines(keepends=True)
        short = b"".join(lines[:2])
        (governor.folder / "audit.log").write_bytes(short)
        done = subprocess.run(
            [*SAFEAI, "serve"], env=governor.environment, capture_output=True, timeout=PATIENCE
        )
        assert (done.returncode, b"rolled back or written anew" in done.stderr) == (3, True), done
        assert (governor.folder / "audit.log").read_bytes() == short
    finally:
        first.kill()
        second.kill()


class Peer(http.server.ThreadingHTTPServer):
    """A witness in this process, which answers as a function says."""

    daemon_threads = True
    key = NoteKey("honest.example", COSIGNATURE, WITNESS_SIGNER.public.raw)

    def __init__(self, answer: Callable[[http.server.BaseHTTPRequestHandler, bytes], None]) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                answer(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """The other side may hang up."""

    def line(self, name: str, key: NoteKey) -> str:
        return f"witness {name} {key.format()} http://127.0.0.1:{self.server_port}/\n"


def reply(handler: http.server.BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in ({"Content-Length": str(len(body))} | headers).items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def cosignature(body: bytes, name: str = "honest.example", signer: Ed25519Signer = WITNESS_SIGNER) -> bytes:
    text = Note.parse(body.partition(b"\n\n")[2]).text
    key = NoteKey(name, COSIGNATURE, WITNESS_SIGNER.public.raw)
    made = Cosignature(1_753_000_000, signer.sign(message(text, 1_753_000_000))).format()
    return NoteSignature(key.name, key.id, made).format().encode()


def unlike(number: int) -> NoteKey:
    return NoteKey(f"hostile{number}.example", COSIGNATURE, bytes([number]) * 32)


@pytest.fixture
def peers() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_hostile_witnesses_neither_hang_nor_break_it(tmp_path: Path, peers: ExitStack) -> None:
    over = threading.Event()
    peers.callback(over.set)
    followed: list[str] = []

    def trickle(handler: http.server.BaseHTTPRequestHandler, _: bytes) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not over.wait(0.1):
            handler.wfile.write(b"x")

    def followed_to(handler: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
        followed.append(handler.path)
        reply(handler, 200, cosignature(body))

    elsewhere = Peer(followed_to)
    peers.callback(elsewhere.server_close)
    peers.callback(elsewhere.shutdown)
    hostile: list[tuple[str, Callable[[http.server.BaseHTTPRequestHandler, bytes], None]]] = [
        ("wrong", lambda one, body: reply(one, 200, cosignature(body))),
        ("wrong", lambda one, body: reply(one, 200, cosignature(body, unlike(2).name, OTHER_SIGNER))),
        ("wrong", lambda one, _: reply(one, 200, b"A" * 1_000_000)),
        ("wrong", lambda one, body: reply(one, 200, cosignature(body) * 17)),
        ("wrong", lambda one, _: reply(one, 200, b"\xff\xfe\n")),
        ("wrong", lambda one, _: reply(one, 409, b"-1\n")),
        ("ahead", lambda one, _: reply(one, 409, b"%d\n" % (2**63 - 1))),
        ("refused", lambda one, _: reply(one, 409, b"0\n")),
        ("refused", lambda one, _: reply(one, 422, b"\x1b[2Jno\n" * 200)),
        ("refused", lambda one, _: reply(
            one, 307, b"", Location=f"http://127.0.0.1:{elsewhere.server_port}/add-checkpoint")),
        ("unreachable", lambda one, _: one.connection.close()),
        ("unreachable", lambda one, _: (over.wait(), None)[1]),
        ("unreachable", trickle),
    ]  # fmt: skip
    sizes: list[int] = []

    def honest(handler: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
        old = int(body.partition(b"\n")[0].removeprefix(b"old "))
        note = body.partition(b"\n\n")[2]
        if old != (held := sizes[-1] if sizes else 1):
            reply(handler, 409, b"%d\n" % held)
            return
        assert body.count(b"\n", 0, body.index(b"\n\n") + 1) > 1  # a proof from 1 is not empty
        sizes.append(size_of(note))
        reply(handler, 200, cosignature(body))

    lines = []
    for number, (_, answer) in enumerate(hostile, 1):
        peer = Peer(answer)
        peers.callback(peer.server_close)
        peers.callback(peer.shutdown)
        lines.append(peer.line(f"h{number}", unlike(number)))
    good = Peer(honest)
    peers.callback(good.server_close)
    peers.callback(good.shutdown)
    lines.append(good.line("good", Peer.key))
    (tmp_path / "policy").write_text("".join(lines) + "quorum good\n")
    with Governor(
        tmp_path / "g", SAFEAI_WITNESS_POLICY=str(tmp_path / "policy"), SAFEAI_LOG_ORIGIN=ORIGIN
    ) as governor:
        governor.register(AGENT)
        submit(governor, 1)
        until(lambda: "honest.example" in signers(newest(governor), log_key(governor), Peer.key))

        def counted() -> str:
            return governor.ask("GET", "/metrics", token=None).body.decode()

        wanted = [
            f'safeai_witness_requests_total{{result="{result}",witness="hostile{number}.example"}}'
            for number, (result, _) in enumerate(hostile, 1)
        ]
        until(lambda: all(one in counted() for one in wanted))
        assert 'result="cosigned",witness="hostile' not in counted()
        submit(governor, 2)
        until(lambda: "honest.example" in signers(newest(governor), log_key(governor), Peer.key))
        assert governor.stop() == 0
        assert not any("\x1b" in str(line.get("why")) for line in governor.lines)
    assert followed == []


def test_where_witnesses_are_required_nothing_is_shown_before_they_cosigned(
    tmp_path: Path, peers: ExitStack
) -> None:
    asked, go, held = threading.Event(), threading.Event(), [0]
    go.set()

    def answer(handler: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
        asked.set()
        go.wait(PATIENCE)
        if int(body.partition(b"\n")[0].removeprefix(b"old ")) != held[0]:
            reply(handler, 409, b"%d\n" % held[0])
            return
        held[0] = size_of(body.partition(b"\n\n")[2])
        reply(handler, 200, cosignature(body))

    peer = Peer(answer)
    peers.callback(peer.server_close)
    peers.callback(peer.shutdown)
    (tmp_path / "policy").write_text(peer.line("one", Peer.key) + "quorum one\n")
    with Governor(
        tmp_path / "g",
        SAFEAI_WITNESS_POLICY=str(tmp_path / "policy"),
        SAFEAI_WITNESS_REQUIRED="on",
        SAFEAI_LOG_ORIGIN=ORIGIN,
    ) as governor:
        keys = (log_key(governor), Peer.key)
        governor.register(AGENT)  # changes of keys, and stops, are answered at once
        until(lambda: bool(newest(governor)) and size_of(newest(governor)) == 3)
        go.clear()
        asked.clear()
        one, answers = verdict(1, AGENT), []
        thread = threading.Thread(
            target=lambda: answers.append(governor.ask("POST", "/v1/verdicts", one.format()))
        )
        thread.start()
        assert asked.wait(PATIENCE)
        assert size_of(newest(governor)) == size_of(newest(governor, "/log/checkpoint")) == 3
        assert governor.ask("GET", f"/v1/receipts/{one.digest}").status == 503
        assert governor.ask("GET", "/log/tile/0/000.p/4").status == 404
        assert governor.ask("GET", "/v1/entries/3").status == 404
        assert not answers
        go.set()
        thread.join(PATIENCE)
        assert answers[0].status == 201, answers[0].body
        proof = LogProof.parse(answers[0].json()["receipt"].encode())
        assert signers(proof.checkpoint, *keys) == {ORIGIN, "honest.example"}
        assert governor.ask("GET", "/log/tile/0/000.p/4").status == 200


@pytest.mark.parametrize(
    ("text", "required", "said"),
    [
        ("nonsense\n", False, "not understood"),
        ("#" * 99 + "\n" + ("#" * 999 + "\n") * 1_100, False, "too long"),
        (f"log {unlike(1).format()}\nquorum none\n", False, "type 0x04"),
        (f"log {NoteKey('a.example', ED25519, bytes(32)).format()}\nquorum none\n", False, "of other logs"),
        ("quorum none\n", False, "names 0 witnesses"),
        (f"witness w {unlike(1).format()}\nquorum w\n", False, "names 0 witnesses"),
        (f"witness w {unlike(1).format()} http://w/\nquorum none\n", True, "SAFEAI_WITNESS_REQUIRED"),
        (
            f"witness w {unlike(1).format()} http://w/\nwitness v {unlike(2).format()}\ngroup g all w v\nquorum g\n",
            True,
            "cannot be met",
        ),
    ],
)
def test_policies_that_nobody_can_ask_by(tmp_path: Path, text: str, *, required: bool, said: str) -> None:
    place = tmp_path / "policy"
    place.write_text(text)
    with pytest.raises(WrongUse, match=said):
        read_witness_policy(place, (NoteKey(ORIGIN, ED25519, bytes(32)),), required=required)


@pytest.mark.parametrize(
    "url", ["ftp://w/", "http://", "https://u:p@w/", "https://w/?a", "http://w:0/", "http://w/\u00e9"]
)
def test_addresses_that_are_not_asked(url: str) -> None:
    with pytest.raises(WrongUse, match="cannot be asked"):
        WitnessClient.of(Party(unlike(1), url))


def test_required_needs_a_policy() -> None:
    with pytest.raises(WrongUse, match="needs SAFEAI_WITNESS_POLICY"):
        read_settings({"SAFEAI_WITNESS_REQUIRED": "on"})


def test_too_few_witnesses_is_said_and_nobody_waits_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_file_log(tmp_path, LogSigner(ORIGIN, [LOG_SIGNER]))
    away = f"witness w {unlike(1).format()} http://127.0.0.1:{free_port()}\nquorum w\n"
    asked: list[tuple[str, str]] = []
    witnesses = Witnesses(
        log,
        ORIGIN,
        (LOG_KEY,),
        parse_policy(away.encode()),
        tmp_path / FOLDER,
        required=True,
        count=lambda name, result: asked.append((name, result)),
    )
    try:
        witnesses.start()
        receipt = log.append(Draft.of_data("policy", "p", {"version": 1}), PATIENCE)
        assert isinstance(receipt, Receipt)
        monkeypatch.setattr(submitter, "WITNESS_SECONDS", 0.01)
        with pytest.raises(Problem, match="too few witnesses"):
            asyncio.run(submitter.witnessed(witnesses, [receipt]))
        assert not witnesses.wait(1, 0.01)
        assert witnesses.newest() is witnesses.settled() is None
        assert asyncio.run(submitter.witnessed(None, [receipt])) == (receipt,)
        until(lambda: ("hostile1.example", "unreachable") in asked)
    finally:
        witnesses.close()
        log.close()
