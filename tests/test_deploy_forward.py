"""Forwarding: every entry at least once and in order, whatever the receiver does and whenever the process is killed."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.server
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from test_deploy_doctor import certificate
from tools_cli import PATIENCE, free_port
from tools_deploy import DEPLOY, program
from tools_governor import SAFEAI, Governor
from tools_log import LOG_KEY, LOG_SIGNER, ORIGIN, OTHER_SIGNER
from tools_postgres import Cluster, cluster

from safeai_git.client import stream
from safeai_git.core.errors import (
    CouldNotDecide,
    FormatError,
    LogProofInvalid,
    SafeAIError,
    StorageError,
    WrongUse,
)
from safeai_git.core.log.chain import Line
from safeai_git.core.log.entry import Draft, Entry
from safeai_git.core.log.merkle import leaf_hash
from safeai_git.core.log.note import ED25519, NoteKey
from safeai_git.core.values import replace
from safeai_git.governor.forward.cursor import Cursor, CursorFile, Position
from safeai_git.governor.forward.destination import target_of
from safeai_git.governor.forward.formats import cef_header, cef_value, octet_counted, sd_value
from safeai_git.governor.forward.open import Wanted, open_forwarder
from safeai_git.governor.forward.records import Record
from safeai_git.governor.forward.run import Forwarder, Unwanted
from safeai_git.governor.forward.source import DatabaseSource, FileSource
from safeai_git.governor.forward.targets import webhook_signature
from safeai_git.governor.forward.verified import Reader
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.open_log import open_file_log
from safeai_git.governor.settings import VARIABLES, read_settings
from safeai_git.keys.ed25519 import Ed25519Signer

__all__ = ["cluster"]

HOSTILE = 'a\x1b[31mb|c=d\\e\nf]g"h \u202e\ud800\0 é'
SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


def grow(
    folder: Path, batches: int, *, first: int = 0, filling: int = 0, signer: Ed25519Signer = LOG_SIGNER
) -> Path:
    """A log with so many more batches of three entries; the file."""
    folder.mkdir(exist_ok=True)
    log = open_file_log(folder, LogSigner(ORIGIN, [signer]))
    try:
        for batch in range(first, first + batches):
            drafts = [
                Draft.of_data("policy", f"p{batch}.{at}", {"by": HOSTILE, "filling": "x" * filling, "at": at})
                for at in range(3)
            ]
            log.submit(drafts).wait(PATIENCE)
    finally:
        log.close()
    return folder / "audit.log"


def lines_of(log: Path) -> list[bytes]:
    """The entries of a log."""
    return [line for line in log.read_bytes().splitlines() if line.startswith(b'{"seq":')]


def forwarder(log: Path, to: str, *, waits: list[float] | None = None, **more: Any) -> Forwarder:
    """One in this process, which sleeps not at all but notes for how long it would have."""
    variables = {name: value for name, value in more.items() if name.startswith("SAFEAI_")}
    wanted = {name: value for name, value in more.items() if not name.startswith("SAFEAI_")}
    settings = read_settings({"SAFEAI_DATA_DIR": str(log.parent), "SAFEAI_FORWARD_TO": to} | variables)
    made = open_forwarder(settings, Wanted(log, [LOG_KEY], **wanted))
    noted: list[float] = [] if waits is None else waits
    made.sleep = noted.append
    made.clock = lambda: sum(noted)
    made.say = lambda _text: None
    return made


def run(log: Path, to: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command(*arguments), env=environment(log, to, **more), capture_output=True, timeout=PATIENCE
    )


def command(*arguments: str) -> list[str]:
    return [*SAFEAI, "audit", "forward", "--key", LOG_KEY.format(), *arguments]


def environment(log: Path, to: str, **more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    return kept | {"SAFEAI_DATA_DIR": str(log.parent), "SAFEAI_FORWARD_TO": to} | more


def ordered(indexes: Sequence[int], size: int) -> None:
    """Everything came, and nothing before what stands before it had come."""
    due = 0
    for one in indexes:
        assert one <= due, f"entry {one} came before entry {due}"
        due = max(due, one + 1)
    assert due == size


class Receiver(http.server.ThreadingHTTPServer):
    """An HTTP server that does what the script says, one step for each request, and then answers 200."""

    daemon_threads = True

    def __init__(
        self, *script: Callable[[Receiver, http.server.BaseHTTPRequestHandler, bytes], None]
    ) -> None:
        self.script = list(script)
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self.taken: list[bytes] = []
        self.more = threading.Condition()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with receiver.more:
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    receiver.seen.append((headers | {"path": self.path}, body))
                    step = receiver.script.pop(0) if receiver.script else answers(200)
                    receiver.more.notify_all()
                step(receiver, self, body)

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self) -> int:
        return self.server_port

    def webhook(self) -> str:
        return f"webhook+http://127.0.0.1:{self.port}/hook?token=hidden"

    def otlp(self) -> str:
        return f"otlp+http://127.0.0.1:{self.port}"

    def wait_for(self, count: int) -> None:
        """Until so many requests were read."""
        with self.more:
            assert self.more.wait_for(lambda: len(self.seen) >= count, PATIENCE)

    def indexes(self, *, taken: bool = True) -> list[int]:
        """The entries that came, in order; of webhooks."""
        bodies = self.taken if taken else [body for _, body in self.seen]
        rows = [json.loads(line) for body in bodies for line in body.splitlines()]
        return [row["index"] for row in rows if row["kind"] != "checkpoint"]


def answers(status: int, body: bytes = b"", **headers: str) -> Callable[..., None]:
    def step(receiver: Receiver, handler: http.server.BaseHTTPRequestHandler, got: bytes) -> None:
        if 200 <= status < 300:
            receiver.taken.append(got)
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return step


def drops(receiver: Receiver, handler: http.server.BaseHTTPRequestHandler, got: bytes) -> None:
    """Takes it, and the answer is lost."""
    receiver.taken.append(got)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


@pytest.fixture
def receive() -> Iterator[Callable[..., Receiver]]:
    made: list[Receiver] = []

    def start(*script: Any) -> Receiver:
        made.append(Receiver(*script))
        return made[-1]

    yield start
    for one in made:
        one.shutdown()
        one.server_close()


class Syslog:
    """A syslog server: reads octet-counted frames until the other side ends, and then does what `end` says."""

    def __init__(self, *ends: Callable[[socket.socket], None], context: ssl.SSLContext | None = None) -> None:
        self.ends = list(ends)
        self.messages: list[bytes] = []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.context = context
        self.ends_tls = True
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), connection:
                if self.ends:
                    self.ends.pop(0)(connection)
                elif self.context is not None:
                    with self.context.wrap_socket(connection, server_side=True) as secured:
                        self.read(secured)
                        if self.ends_tls:
                            secured.unwrap()
                else:
                    self.read(connection)

    def read(self, connection: socket.socket) -> None:
        """Read frames; every byte has to belong to one."""
        with connection.makefile("rb") as stream:
            while digits := b"".join(iter(lambda: stream.read(1).replace(b" ", b""), b"")):
                assert digits.isdigit(), digits
                message = stream.read(int(digits))
                assert len(message) == int(digits)
                self.messages.append(message)

    def close(self) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()

    def indexes(self) -> list[int]:
        return [int(parsed(one)["index"]) for one in self.messages if parsed(one)["msgid"] != "checkpoint"]


@pytest.fixture
def syslog() -> Iterator[Callable[..., Syslog]]:
    made: list[Syslog] = []

    def start(*ends: Any, **more: Any) -> Syslog:
        made.append(Syslog(*ends, **more))
        return made[-1]

    yield start
    for one in made:
        one.close()


def parsed(message: bytes) -> dict[str, str]:
    """A message of RFC 5424, taken apart by its grammar (§6)."""
    text = message.decode("utf-8")
    param = r'[!#-<>-\[^-~]{1,32}="(?:[^"\\\]]|\\["\\\]])*"'
    found = re.fullmatch(
        rf"<(\d{{1,3}})>1 (\S+) ([!-~]{{1,255}}) ([!-~]{{1,48}}) ([!-~]{{1,128}}) ([!-~]{{1,32}}) "
        rf"\[([!#-<>-\[^-~]{{1,32}})((?: {param})*)\] (\ufeff.*)",
        text,
        re.DOTALL,
    )
    assert found, text
    rows = re.findall(r' ([^ =]+)="((?:[^"\\\]]|\\["\\\]])*)"', found[8])
    facts = {name: re.sub(r"\\(.)", r"\1", value) for name, value in rows}
    return facts | {
        "pri": found[1], "time": found[2], "app": found[4], "msgid": found[6], "sd": found[7],
        "msg": found[9].removeprefix("\ufeff"),
    }  # fmt: skip


def test_a_syslog_server_gets_every_entry_byte_for_byte(
    tmp_path: Path, syslog: Callable[..., Syslog]
) -> None:
    log = grow(tmp_path / "g", 4)
    server = syslog()
    made = forwarder(log, f"syslog+tcp://127.0.0.1:{server.port}")
    assert made.once() == 13
    entries = [parsed(one) for one in server.messages if parsed(one)["msgid"] != "checkpoint"]
    assert [one["msg"].encode() for one in entries] == lines_of(log)
    for one, line in zip(entries, lines_of(log), strict=True):
        assert base64.b64decode(one["hash"]) == leaf_hash(line)
        assert one["time"] == Entry.parse(line).time
        assert (one["log"], one["id"], one["app"]) == (ORIGIN, Entry.parse(line).id, "safeai-governor")
    assert entries[0]["pri"] == str(13 * 8 + 6)
    assert entries[1]["pri"] == str(13 * 8 + 5)
    (note,) = [
        json.loads(parsed(one)["msg"]) for one in server.messages if parsed(one)["msgid"] == "checkpoint"
    ]
    assert note["checkpoint"].encode() == (tmp_path / "g/audit.head").read_bytes()
    assert b"\x1b" not in b"".join(server.messages)
    assert made.once() == 0
    grow(tmp_path / "g", 2, first=4)
    assert forwarder(log, f"syslog+tcp://127.0.0.1:{server.port}").once() == 6
    assert server.indexes() == list(range(19))


def test_over_tls_with_a_certificate(tmp_path: Path, syslog: Callable[..., Syslog]) -> None:
    log = grow(tmp_path / "g", 2)
    pair = certificate(tmp_path, "localhost", -1, 5)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair["SAFEAI_TLS_CERT"], pair["SAFEAI_TLS_KEY"])
    server = syslog(context=context)
    to = f"syslog+tls://localhost.example:{server.port}"
    with pytest.raises(CouldNotDecide, match="does not take messages"):
        forwarder(log, to, SAFEAI_FORWARD_CA=pair["SAFEAI_TLS_CERT"], patience=0.0).once()
    good = f"syslog+tls://localhost:{server.port}"
    for ends in (True, False):
        server.ends_tls = ends
        server.messages.clear()
        cursor = tmp_path / f"c{ends}"
        assert forwarder(log, good, SAFEAI_FORWARD_CA=pair["SAFEAI_TLS_CERT"], cursor=cursor).once() == 7
        assert server.indexes() == list(range(7))
    server.messages.clear()
    server.ends.append(reset)
    cursor = tmp_path / "reset"
    made = forwarder(log, good, SAFEAI_FORWARD_CA=pair["SAFEAI_TLS_CERT"], cursor=cursor)
    assert (made.once(), made.failures, server.indexes()) == (7, 1, list(range(7)))
    server.messages.clear()
    with pytest.raises(CouldNotDecide, match=r"CERTIFICATE_VERIFY_FAILED|certificate verify failed"):
        forwarder(log, f"syslog+tls://127.0.0.1:{server.port}", patience=0.0).once()
    assert not server.messages


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def read_some(connection: socket.socket) -> None:
    connection.recv(10)


def read_and_send_for_ever(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection.sendall(b"x" * 65_536)


def test_a_syslog_server_that_did_not_read_everything_has_acknowledged_nothing(
    tmp_path: Path, syslog: Callable[..., Syslog]
) -> None:
    log = grow(tmp_path / "g", 4)
    waits: list[float] = []
    server = syslog(reset, read_some, reset, read_and_send_for_ever, read_some)
    made = forwarder(log, f"syslog+tcp://127.0.0.1:{server.port}", waits=waits)
    assert made.once() == 13
    assert len(waits) == made.failures == 5
    assert waits[4] > waits[0]
    assert server.indexes() == list(range(13))


def test_an_end_that_comes_before_ours_is_no_acknowledgement() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        with socket.create_connection(listening.getsockname()) as ours, listening.accept()[0] as theirs:
            theirs.shutdown(socket.SHUT_WR)
            assert select.select([ours], [], [], PATIENCE)[0]
            with pytest.raises(ConnectionError, match="before it had read everything"):
                stream.send(ours, b"1 x", PATIENCE)
        with socket.create_connection(listening.getsockname()) as ours, listening.accept()[0] as theirs:
            theirs.sendall(b"hello")
            assert select.select([ours], [], [], PATIENCE)[0]
            reader = threading.Thread(target=lambda: (theirs.recv(10), theirs.recv(10), theirs.close()))
            reader.start()
            stream.send(ours, b"1 x", PATIENCE)
            reader.join(PATIENCE)


def test_a_syslog_server_that_keeps_the_connection_has_acknowledged_nothing(
    tmp_path: Path, syslog: Callable[..., Syslog], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = grow(tmp_path / "g", 1)
    over = threading.Event()
    server = syslog(lambda connection: over.wait(PATIENCE))
    with pytest.raises(TimeoutError, match=r"close its end within 0\.2 seconds"):
        stream.deliver("127.0.0.1", server.port, b"1 x", seconds=0.2)
    over.set()
    with pytest.raises(OSError, match="refused"):
        stream.deliver("127.0.0.1", free_port(), b"1 x", seconds=PATIENCE)
    with pytest.raises(CouldNotDecide, match="0 entries were taken, and entries 0 to 3 were not"):
        forwarder(log, f"syslog+tcp://127.0.0.1:{free_port()}").once()


def test_what_the_receiver_does_loses_nothing(tmp_path: Path, receive: Callable[..., Receiver]) -> None:
    log = grow(tmp_path / "g", 7)
    waits: list[float] = []
    receiver = receive(
        answers(500), drops, answers(429, Retry_After="7"), answers(503, Retry_After="Fri, 31 Dec 1999 23:59:59 GMT"),
        answers(429, Retry_After="999999999"), answers(413), answers(200), drops, answers(422), answers(408),
    )  # fmt: skip
    assert forwarder(log, receiver.webhook(), waits=waits, patience=10_000.0).once() == 22
    ordered(receiver.indexes(), 22)
    ordered(receiver.indexes(taken=False), 22)
    assert waits[2] == 7.0
    assert waits[4] == 3_600.0
    assert all(0 < one <= 60 for at, one in enumerate(waits) if at != 4)
    rows = [json.loads(line) for body in receiver.taken for line in body.splitlines()]
    keys = {row["key"]: row for row in rows}
    assert len(keys) == 23
    for line in lines_of(log):
        assert any(b'"entry":' + line + b"}\n" in body for body in receiver.taken)
    assert rows[-1]["kind"] == "checkpoint"


def test_webhooks_are_signed_and_their_id_stays_the_same(
    tmp_path: Path, receive: Callable[..., Receiver]
) -> None:
    log = grow(tmp_path / "g", 1)
    receiver = receive(answers(500))
    settings = {
        "SAFEAI_FORWARD_SECRET": SECRET,
        "SAFEAI_FORWARD_HEADERS": "Authorization: Splunk abc\nX-A: b",
    }
    forwarder(log, receiver.webhook(), **settings).once()
    (first, _), (second, body) = receiver.seen
    assert first["webhook-id"] == second["webhook-id"]
    assert (second["authorization"], second["x-a"], second["path"]) == (
        "Splunk abc",
        "b",
        "/hook?token=hidden",
    )
    signed = f"{second['webhook-id']}.{second['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(b"s" * 32, signed, hashlib.sha256).digest()).decode()
    assert second["webhook-signature"] == f"v1,{expected}"
    # A vector that was published for implementations of Standard Webhooks.
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    vector = webhook_signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert vector == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_otlp_has_its_shape_and_a_partial_success_is_none(
    tmp_path: Path, receive: Callable[..., Receiver]
) -> None:
    log = grow(tmp_path / "g", 2)

    def partial(count: object) -> Callable[..., None]:
        return answers(
            200, json.dumps({"partialSuccess": {"rejectedLogRecords": count, "errorMessage": "x"}}).encode()
        )

    receiver = receive(partial("3"), partial(0), partial("1"), answers(200, b"{}"), answers(200))
    assert forwarder(log, receiver.otlp()).once() == 7
    assert {headers["path"] for headers, _ in receiver.seen} == {"/v1/logs"}
    assert {headers["content-type"] for headers, _ in receiver.seen} == {"application/json"}
    found = []
    for _, body in receiver.seen:
        (resource,) = json.loads(body)["resourceLogs"]
        names = {one["key"]: one["value"]["stringValue"] for one in resource["resource"]["attributes"]}
        assert names["service.name"] == "safeai-governor"
        (scope,) = resource["scopeLogs"]
        found.append(scope["logRecords"])
    assert [len(one) for one in found] == [8, 4, 4, 2, 2]
    last = found[1][3]
    facts = {one["key"]: one["value"] for one in last["attributes"]}
    line = lines_of(log)[3]
    assert last["body"] == {"stringValue": line.decode()}
    assert facts["safeai.index"] == {"intValue": "3"}
    assert facts["safeai.hash"]["stringValue"] == base64.b64encode(leaf_hash(line)).decode()
    assert re.fullmatch(r"\d{19}", last["timeUnixNano"])
    assert (last["severityNumber"], last["eventName"]) == (10, "safeai.policy")
    said = facts["safeai.human"]["arrayValue"]["values"][0]["stringValue"]
    assert "\x1b" not in said
    assert "\\ud800" in said
    said.encode()
    other = {"partial_success": {"rejected_log_records": 1}}
    again = receive(answers(200, json.dumps(other).encode()))
    forwarder(grow(tmp_path / "i", 1), again.otlp()).once()
    assert len(again.seen) == 3
    with pytest.raises(CouldNotDecide, match="no OTLP answer"):
        forwarder(grow(tmp_path / "h", 1), receive(answers(200, b"<html>log in</html>")).otlp()).once()


def test_one_record_that_is_refused_stops_or_is_set_aside(
    tmp_path: Path, receive: Callable[..., Receiver]
) -> None:
    log = grow(tmp_path / "g", 2)

    def picky(receiver: Receiver, handler: Any, got: bytes) -> None:
        answers(400 if b'"index":4,' in got else 200, b"no \x1b four")(receiver, handler, got)

    receiver = receive(*[picky] * 40)
    with pytest.raises(Unwanted, match=r"no \\x1b four"):
        forwarder(log, receiver.webhook()).once()
    assert receiver.indexes() == [0, 1, 2, 3]
    done = run(log, receiver.webhook(), "--once")
    assert (done.returncode, b"it will not take entry 4" in done.stderr) == (1, True), done.stderr
    aside = tmp_path / "aside"
    done = run(log, receiver.webhook(), "--once", "--set-aside", str(aside))
    assert done.returncode == 0, done.stderr
    assert receiver.indexes() == [0, 1, 2, 3, 5, 6]
    assert json.loads(aside.read_bytes())["index"] == 4


def test_a_record_that_is_set_aside_is_there_whole(tmp_path: Path, receive: Callable[..., Receiver]) -> None:
    """What a full disk takes of it is not it: the cursor stays before it."""
    log = grow(tmp_path / "g", 1)
    receiver = receive(*[answers(400)] * 40)
    aside = tmp_path / "aside"
    limit = 1 << 20
    before = b"x" * (limit - 101) + b"\n"
    aside.write_bytes(before)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(StorageError, match="aside cannot be written"):
            forwarder(log, receiver.webhook(), set_aside=aside).once()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (tmp_path / "g/forward.cursor").exists()
    forwarder(log, receiver.webhook(), set_aside=aside).once()
    torn, *whole = aside.read_bytes()[len(before) :].splitlines()
    assert len(torn) == 100
    assert [json.loads(line)["index"] for line in whole] == [0, 1, 2, 3, 4]  # the last is a checkpoint


def test_what_a_collector_repeats_of_a_secret_is_not_shown(
    tmp_path: Path, receive: Callable[..., Receiver]
) -> None:
    def repeats(receiver: Receiver, handler: Any, got: bytes) -> None:
        said = f"no token '{handler.headers['Authorization']}' at {handler.path} is known".encode()
        answers(200 if handler.path == "/v1/logs" else 401, said)(receiver, handler, got)

    def rejects(receiver: Receiver, handler: Any, got: bytes) -> None:
        why = {"rejectedLogRecords": 1, "errorMessage": f"not with {handler.headers['Authorization']}"}
        answers(200, json.dumps({"partialSuccess": why}).encode())(receiver, handler, got)

    headers = "Authorization: Bearer hid/den+hidden=="
    webhook = receive(*[repeats] * 3)
    address = webhook.webhook().replace("/hook", "/hook-secret") + "&key=query%2Dsecret"
    otlp = receive(*[rejects] * 9)
    for receiver, to in ((webhook, address), (otlp, otlp.otlp())):
        done = run(grow(tmp_path / "g", 1), to, "--once", SAFEAI_FORWARD_HEADERS=headers)
        assert done.returncode in (1, 3)
        assert receiver.seen
        assert b"(left out)" in done.stderr
        for secret in (b"den+hidden", b"hook-secret", b"query%2Dsecret", b"query-secret"):
            assert secret not in done.stderr + done.stdout
        shutil.rmtree(tmp_path / "g")


def test_a_collector_cannot_end_forwarding_by_a_number(
    tmp_path: Path, receive: Callable[..., Receiver]
) -> None:
    log = grow(tmp_path / "g", 1)
    for number in (b"1e999", b"Infinity", b"NaN", b"[" * 5_000, b"9" * 5_000):
        receiver = receive(answers(200, b'{"partialSuccess":{"rejectedLogRecords":%b}}' % number))
        with pytest.raises(CouldNotDecide, match="no OTLP answer"):
            forwarder(log, receiver.otlp()).once()


@pytest.mark.parametrize("status", [301, 401, 403, 404])
def test_what_waiting_does_not_mend_is_told_at_once_and_without_secrets(
    tmp_path: Path, receive: Callable[..., Receiver], status: int
) -> None:
    log = grow(tmp_path / "g", 1)
    receiver = receive(answers(status, Location="http://127.0.0.1:1/"))
    done = run(log, receiver.webhook(), "--once", SAFEAI_FORWARD_HEADERS="Authorization: Bearer hidden")
    assert done.returncode == 3
    assert f"answers {status}".encode() in done.stderr
    assert b"nothing is lost" in done.stderr
    assert b"hidden" not in done.stderr + done.stdout
    assert len(receiver.seen) == 1
    assert not (tmp_path / "g/forward.cursor").exists()


def test_a_killed_forwarder_loses_nothing(tmp_path: Path, receive: Callable[..., Receiver]) -> None:
    """Killed before the answer, after it, and while the next batch is on its way."""
    log = grow(tmp_path / "g", 40, filling=30_000)
    held = threading.Event()

    def hangs(receiver: Receiver, handler: Any, got: bytes) -> None:
        receiver.taken.append(got)
        held.wait(PATIENCE)

    receiver = receive(hangs, answers(200), hangs, answers(200), answers(200), hangs)
    killed = 0
    for requests in (1, 3, 6):
        with subprocess.Popen(
            command("--once"),
            env=environment(log, receiver.webhook()),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            receiver.wait_for(requests)
            process.kill()
            killed += process.wait(PATIENCE) == -signal.SIGKILL
    held.set()
    assert killed == 3
    held_at = CursorFile(tmp_path / "g/forward.cursor").load()
    assert held_at is not None
    assert 0 < held_at.position.next < 121
    done = run(log, receiver.webhook(), "--once")
    assert done.returncode == 0, done.stderr
    ordered(receiver.indexes(), 121)
    assert len(receiver.indexes()) > 121


def test_it_follows_a_governor_that_writes(tmp_path: Path, receive: Callable[..., Receiver]) -> None:
    receiver = receive()
    with Governor(tmp_path / "g") as governor:
        metrics = tmp_path / "m.prom"
        arguments = [*SAFEAI, "audit", "forward", "--metrics", str(metrics)]
        settings = environment(governor.folder / "audit.log", receiver.webhook())
        with subprocess.Popen(arguments, env=settings, stderr=subprocess.PIPE) as process:
            receiver.wait_for(1)
            again = subprocess.run(
                [*arguments, "--once"], env=settings, capture_output=True, timeout=PATIENCE
            )
            assert (again.returncode, b"another process forwards" in again.stderr) == (2, True)
            assert governor.register(OTHER_SIGNER).status == 201
            receiver.wait_for(2)
            process.terminate()
            assert process.wait(PATIENCE) != 0
            assert process.stderr is not None
            assert b"Traceback" not in process.stderr.read()
        governor.stop()
    assert "safeai_forward_lag_entries" in metrics.read_text()
    done = subprocess.run([*arguments, "--once"], env=settings, capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    ordered(receiver.indexes(), 3)  # it may have been ended between the answer and the cursor
    assert "safeai_forward_lag_entries 0\n" in metrics.read_text()
    assert "safeai_forward_entries 3\n" in metrics.read_text()


class Ended(Exception):
    """Ends what would go on for ever."""


def test_a_full_disk_is_waited_out_and_the_same_is_not_sent_for_ever(
    tmp_path: Path, receive: Callable[..., Receiver]
) -> None:
    log = grow(tmp_path / "g", 1)
    place = tmp_path / "place"
    place.mkdir()

    def exchanges_the_folder(receiver: Receiver, handler: Any, got: bytes) -> None:
        place.rename(tmp_path / "away")
        place.write_bytes(b"")  # nothing can be written below it, whoever tries
        answers(200)(receiver, handler, got)

    receiver = receive(exchanges_the_folder)
    said: list[str] = []
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            place.unlink()
            place.mkdir()
        if len(naps) > 5:
            raise Ended

    made = forwarder(log, receiver.webhook(), cursor=place / "cursor")
    made.sleep, made.say = sleep, said.append
    with pytest.raises(Ended):
        made.follow()
    assert len(receiver.seen) == 1
    assert len(said) == 1
    assert "cannot be written" in said[0]
    assert naps[:3] == [0.5, 1.0, 2.0]
    held = CursorFile(place / "cursor").load()
    assert held is not None
    assert held.position.next == 4
    place.rename(tmp_path / "gone")
    place.write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be read"):
        forwarder(log, receiver.webhook(), cursor=place / "cursor").once()


def test_a_log_that_is_away_for_a_while_is_waited_for(
    tmp_path: Path, receive: Callable[..., Receiver]
) -> None:
    log = grow(tmp_path / "g", 1)
    receiver = receive()
    made = forwarder(log, receiver.webhook())
    said: list[str] = []
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 1:
            log.rename(tmp_path / "away")
        if len(naps) == 4:
            (tmp_path / "away").rename(log)
            grow(tmp_path / "g", 1, first=1)
        if len(naps) == 6:
            raise Ended

    made.sleep, made.say = sleep, said.append
    with pytest.raises(Ended):
        made.follow()
    assert receiver.indexes() == list(range(7))
    assert naps[1:4] == [2.0, 4.0, 8.0]
    assert len(said) == 1


def changed(log: Path) -> None:
    """The fifth entry says something else, with its length kept."""
    lines = log.read_bytes().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if line.startswith(b'{"seq":5,'))
    lines[at] = lines[at].replace(b'"at":1', b'"at":7')
    log.write_bytes(b"".join(lines))


def cut(log: Path) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if line.startswith(b'{"seq":4,'))
    log.write_bytes(b"".join(lines[:at]))


def test_nothing_is_sent_that_no_checkpoint_vouches_for(tmp_path: Path) -> None:
    log = grow(tmp_path / "g", 4)
    whole = log.read_bytes()
    out = tmp_path / "out"
    to = f"file://{out}"

    def sent() -> list[int]:
        rows = [json.loads(line) for line in out.read_bytes().splitlines()] if out.exists() else []
        return [row["index"] for row in rows if row["kind"] != "checkpoint"]

    changed(log)
    with pytest.raises(LogProofInvalid, match="not in order where entry 6 is due"):
        forwarder(log, to).once()
    assert sent() == [0, 1, 2, 3]  # of the batches whose checkpoints hold
    log.write_bytes(whole)
    lines = whole.splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:-1]))
    assert forwarder(log, to).once() == 6
    log.write_bytes(b"".join(lines[:-1]) + b'{"seq":13,"pre')
    assert forwarder(log, to).once() == 0
    log.write_bytes(whole)
    assert forwarder(log, to).once() == 3
    assert sent() == list(range(13))
    changed(log)  # before what was sent: by the chain all behind it would have to differ, and it does not
    assert forwarder(log, to).once() == 0
    log.write_bytes(whole)
    cut(log)
    with pytest.raises(LogProofInvalid, match="holds 4 entries, and 13 were forwarded: it was rolled back"):
        forwarder(log, to).once()
    shutil.rmtree(tmp_path / "g")
    other = grow(tmp_path / "g", 5)  # the same key, and another log
    (tmp_path / "g/forward.cursor").write_bytes(Cursor(ORIGIN, to, Position()).format())
    shutil.copy(other, tmp_path / "other")
    assert forwarder(other, to).once() == 16
    assert len(sent()) == 29


def test_a_log_that_was_written_anew_is_not_gone_on_with(tmp_path: Path) -> None:
    log = grow(tmp_path / "g", 3)
    to = f"file://{tmp_path / 'out'}"
    assert forwarder(log, to).once() == 10
    grow(tmp_path / "h", 3)
    log.write_bytes((tmp_path / "h/audit.log").read_bytes())
    with pytest.raises(LogProofInvalid, match="entry 9 is another one"):
        forwarder(log, to).once()
    forged = grow(tmp_path / "i", 3, signer=OTHER_SIGNER)
    with pytest.raises(LogProofInvalid, match="not in order"):
        forwarder(forged, to, cursor=tmp_path / "new").once()


def test_the_same_entries_with_other_checkpoints_between_them_are_gone_on_with(tmp_path: Path) -> None:
    log = grow(tmp_path / "g", 3)
    to = f"file://{tmp_path / 'out'}"
    assert forwarder(log, to).once() == 10
    grow(tmp_path / "g", 1, first=3)
    lines = log.read_bytes().splitlines(keepends=True)
    dropped = next(number for number, line in enumerate(lines) if not line.startswith(b'{"seq":'))
    log.write_bytes(b"".join(line for number, line in enumerate(lines) if number != dropped))
    assert forwarder(log, to).once() == 3


class Lying:
    """A log whose medium gives other bytes the second time."""

    def __init__(self, log: Path) -> None:
        self.source = FileSource(log)
        self.readings = 0

    def holds(self, position: Position) -> bool:
        return self.source.holds(position)

    def lines(self, position: Position) -> Iterator[Line]:
        self.readings += 1
        for line in self.source.lines(position):
            lie = self.readings > 1 and line.data.startswith(b'{"seq":2,')
            yield line._replace(data=line.data.replace(b'"at":1', b'"at":2')) if lie else line


def test_what_is_sent_is_what_was_verified(tmp_path: Path) -> None:
    log = grow(tmp_path / "g", 2)
    reader = Reader(Lying(log), ORIGIN, (LOG_KEY,))
    with pytest.raises(LogProofInvalid, match=r"entry 2 .* is not any more what was verified"):
        list(reader.batches(Position()))


def test_many_batches_go_in_order_whatever_their_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = grow(tmp_path / "g", 10)
    reader = Reader(FileSource(log), ORIGIN, (LOG_KEY,))
    for most in (1, 2, 5, 31, 500):
        for run_length in (1, 4, 2_000):
            monkeypatch.setattr("safeai_git.governor.forward.verified.MOST_RECORDS", most)
            monkeypatch.setattr("safeai_git.governor.forward.verified._RUN", run_length)
            batches = list(reader.batches(Position()))
            entries = [one for batch in batches for one in batch.records if one.kind != "checkpoint"]
            assert [one.text for one in entries] == lines_of(log)
            at = Position()
            for batch in batches:
                assert batch.before == at
                assert len(batch.records) <= most + 1
                parts = [batch.first(1), batch.rest(1)]
                assert parts[1].after == batch.after
                at = batch.after
                assert reader.found(at) == at
            assert at.frontier.root() == batches[-1].checkpoint.checkpoint.root
            assert reader.at(31) == at
            assert next(one.before.next for one in reader.batches(reader.at(7))) == 7


def test_the_beginning_can_be_chosen_once(tmp_path: Path) -> None:
    log = grow(tmp_path / "g", 3)
    out = tmp_path / "out"
    assert forwarder(log, f"file://{out}", begin=4).once() == 6
    assert json.loads(out.read_bytes().splitlines()[0])["index"] == 4
    assert forwarder(log, f"file://{out}", begin=0).once() == 0
    with pytest.raises(WrongUse, match="holds 10 entries: there is nothing before an entry 99"):
        forwarder(log, f"file://{out}", begin=99, cursor=tmp_path / "new").once()


def test_a_file_whose_last_line_was_torn_is_gone_on_with(tmp_path: Path) -> None:
    log = grow(tmp_path / "g", 1)
    out = tmp_path / "out"
    out.write_bytes(b'{"key":"entry:0:')
    assert forwarder(log, f"file://{out}").once() == 4
    first, *rest = out.read_bytes().splitlines()
    assert first == b'{"key":"entry:0:'
    assert [json.loads(one)["index"] for one in rest] == [0, 1, 2, 3, 4]
    link = tmp_path / "link"
    link.symlink_to(out)
    with pytest.raises(CouldNotDecide, match="cannot be written"):
        forwarder(log, f"file://{link}", cursor=tmp_path / "c", patience=0.0).once()


def test_cursors_are_strict(tmp_path: Path) -> None:
    log = grow(tmp_path / "g", 1)
    to = f"file://{tmp_path / 'out'}"
    path = tmp_path / "g/forward.cursor"
    forwarder(log, to).once()
    good = path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0
    assert Cursor.parse(good).format() == good
    data = json.loads(good)
    for name, value in (
        ("format", 2), ("next", 5), ("next", -1), ("next", "4"), ("edge", []), ("edge", ["x"]), ("last", ""), ("last", "x"),
        ("offset", -1), ("length", 10**9), ("offset", 2**63), ("offset", 2**62), ("time", "now"), ("log", 1), ("checkpoint", None),
    ):  # fmt: skip
        with pytest.raises(FormatError):
            Cursor.parse(json.dumps(data | {name: value}).encode())
    for spoiled in (b"", b"{", b"[]", good[:-20], b"[" * 100_000):
        path.write_bytes(spoiled)
        with pytest.raises(StorageError, match="is damaged"):
            forwarder(log, to).once()
    data["offset"], data["length"] = 10**15, 60_000
    path.write_bytes(json.dumps(data).encode())
    assert forwarder(log, to).once() == 0  # it is found again, and what was sent stays sent
    data["length"] = 10**9
    path.write_bytes(json.dumps(data).encode())
    with pytest.raises(StorageError, match="is damaged"):
        forwarder(log, to).once()
    data = json.loads(good)
    path.write_bytes(good)
    with pytest.raises(WrongUse, match="is of file://"):
        forwarder(log, f"file://{tmp_path / 'elsewhere'}").once()
    path.write_bytes(json.dumps(data | {"log": "another"}).encode())
    with pytest.raises(WrongUse, match="is of the log another"):
        forwarder(log, to).once()


def test_nobodys_own_word_is_taken_for_a_key(tmp_path: Path) -> None:
    log = grow(tmp_path / "g", 1)
    settings = read_settings(
        {"SAFEAI_DATA_DIR": str(log.parent), "SAFEAI_FORWARD_TO": f"file://{tmp_path / 'o'}"}
    )
    with pytest.raises(WrongUse, match="itself says which key"):
        open_forwarder(settings, Wanted(None, []))
    with pytest.raises(WrongUse, match="of another log"):
        open_forwarder(settings, Wanted(None, [NoteKey("other", ED25519, LOG_SIGNER.public.raw)]))
    assert open_forwarder(settings, Wanted(None, [LOG_SIGNER.public])).once() == 4
    with pytest.raises(SafeAIError, match="SAFEAI_LOG_ORIGIN is other"):
        open_forwarder(replace(settings, log_origin="other"), Wanted(None, [LOG_KEY]))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"SAFEAI_FORWARD_TO": ""}, "is not set"),
        ({"SAFEAI_FORWARD_TO": "https://hidden/x"}, "is no destination"),
        ({"SAFEAI_FORWARD_TO": "webhook+https://u:hidden@h/x"}, "is no destination"),
        ({"SAFEAI_FORWARD_TO": "webhook+https://h:hidden/x"}, "is no destination"),
        ({"SAFEAI_FORWARD_TO": "webhook+https://h/\u00e9hidden"}, "is no destination"),
        ({"SAFEAI_FORWARD_TO": "webhook+https:///hidden"}, "names no host"),
        ({"SAFEAI_FORWARD_TO": "syslog+tcp://h/hidden"}, "is no destination"),
        ({"SAFEAI_FORWARD_TO": "syslog+tcp://h"}, "names no port"),
        ({"SAFEAI_FORWARD_TO": "file://h/hidden"}, "names no file"),
        ({"SAFEAI_FORWARD_TO": "file:///hidden/"}, "names no file"),
        ({"SAFEAI_FORWARD_TO": "webhook+https://h/", "SAFEAI_FORWARD_FORMAT": "cef"}, "goes over syslog"),
        ({"SAFEAI_FORWARD_TO": "otlp+https://h/", "SAFEAI_FORWARD_SECRET": "hidden" * 9}, "signs webhooks"),
        (
            {"SAFEAI_FORWARD_TO": "webhook+https://h/", "SAFEAI_FORWARD_SECRET": "hidden"},
            "fewer than 24 bytes",
        ),
        ({"SAFEAI_FORWARD_TO": "webhook+https://h/", "SAFEAI_FORWARD_SECRET": "whsec_hidden!"}, "no base64"),
        ({"SAFEAI_FORWARD_TO": "webhook+http://h/", "SAFEAI_FORWARD_HEADERS": "A: hidden"}, "in the clear"),
        ({"SAFEAI_FORWARD_TO": "webhook+https://h/", "SAFEAI_FORWARD_HEADERS": "hidden"}, "line 1 of"),
        (
            {"SAFEAI_FORWARD_TO": "webhook+https://h/", "SAFEAI_FORWARD_HEADERS": "A: b\nHost: hidden"},
            "line 2 of",
        ),
        ({"SAFEAI_FORWARD_TO": "syslog+tcp://h:1", "SAFEAI_FORWARD_HEADERS": "A: hidden"}, "goes with HTTP"),
        ({"SAFEAI_FORWARD_TO": "syslog+tcp://h:1", "SAFEAI_FORWARD_CA": "/hidden"}, "uses no TLS"),
        ({"SAFEAI_FORWARD_TO": "syslog+tls://h", "SAFEAI_FORWARD_CERT": "/hidden"}, "need each other"),
        ({"SAFEAI_FORWARD_TO": "syslog+tls://h", "SAFEAI_FORWARD_CA": "/no/such"}, "cannot be used"),
    ],
)
def test_a_destination_that_is_none_is_told_without_its_secrets(more: dict[str, str], words: str) -> None:
    with pytest.raises(WrongUse, match=re.escape(words)) as raised:
        target_of(read_settings(more))
    assert "hidden" not in raised.value.message + raised.value.hint


def test_names_of_destinations_hold_no_secret() -> None:
    for to, name in (
        ("webhook+https://h:1/hidden?x=hidden", "webhook+https://h:1"),
        ("otlp+https://h", "otlp+https://h"),
        ("syslog+tls://h", "syslog+tls://h"),
    ):
        assert target_of(read_settings({"SAFEAI_FORWARD_TO": to})).name == name
    settings = read_settings(
        {"SAFEAI_FORWARD_TO": "webhook+https://h/hidden", "SAFEAI_FORWARD_HEADERS": "hidden"}
    )
    assert "hidden" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("a|b", "a|b"),
        ("a=b", r"a\=b"),
        ("a\\b", r"a\\b"),
        ("a\\=b", r"a\\\=b"),
        ("a\nb\r\nc\rd", r"a\nb\nc\nd"),
        ("a\\nb", r"a\\nb"),
        ("\x1b[31m", r"\\x1b[31m"),
        ("x\0y\u202e\ud800", r"x\\x00y\\u202e\\ud800"),
        (" suser=root ", r" suser\=root "),
        ("é", "é"),
    ],
)
def test_values_of_cef(text: str, expected: str) -> None:
    shown = cef_value("msg", text)
    assert shown == expected
    assert not re.search(r"(?<!\\)(?:\\\\)*=", shown)
    assert "\n" not in shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a|b", r"a\|b"),
        ("a\\b", r"a\\b"),
        ("a=b", "a=b"),
        ("a\nb", r"a\\nb"),
        ("\x1b", r"\\x1b"),
        ("a\\|b", r"a\\\|b"),
    ],
)
def test_fields_of_the_header_of_cef(text: str, expected: str) -> None:
    assert cef_header(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a]b", r"a\]b"),
        ('a"b', r"a\"b"),
        ("a\\b", r"a\\b"),
        ("a\nb", r"a\\nb"),
        ("\x1b", r"\\x1b"),
        ("é|=", "é|="),
    ],
)
def test_values_of_structured_data(text: str, expected: str) -> None:
    assert sd_value(text) == expected


def test_fields_are_cut_before_they_are_escaped() -> None:
    assert cef_value("act", "=" * 100) == "\\=" * 63
    assert cef_value("msg", "\\" * 5_000) == "\\\\" * 1_023
    assert len(sd_value("]" * 5_000)) == 2_000
    assert octet_counted("é".encode()) == b"2 \xc3\xa9"


def test_cef_goes_into_a_file_and_over_syslog(tmp_path: Path, syslog: Callable[..., Syslog]) -> None:
    log = grow(tmp_path / "g", 1)
    out = tmp_path / "out.cef"
    forwarder(log, f"file://{out}", SAFEAI_FORWARD_FORMAT="cef").once()
    server = syslog()
    to = f"syslog+tcp://127.0.0.1:{server.port}"
    forwarder(log, to, SAFEAI_FORWARD_FORMAT="cef", cursor=tmp_path / "c").once()
    lines = out.read_text().splitlines()
    assert [parsed(one)["msg"] for one in server.messages] == lines
    assert len(lines) == 5
    for line, entry in zip(lines, lines_of(log), strict=False):
        header = re.split(r"(?<!\\)\|", line, maxsplit=7)
        assert header[:3] == ["CEF:0", "safe-ai", "safeai-git"]
        fields = dict(re.findall(r"(\w+)=((?:\\.|[^\\=])*?)(?= \w+=|$)", header[7]))
        assert fields["externalId"] == str(Entry.parse(entry).seq)
        assert fields["cs1"].replace("\\=", "=") == base64.b64encode(leaf_hash(entry)).decode()
        assert fields["cs1Label"] == "hash"
        if header[4] == "policy":
            assert fields["suser"].startswith("a\\\\x1b[31mb|c\\=d\\\\e\\nf]g")
    assert re.search(
        r"\|checkpoint\|Checkpoint signed\|3\|.*msg=governor.example/safeai-audit\\n4\\n", lines[-1]
    )


def test_an_entry_that_no_message_holds_is_named(tmp_path: Path, syslog: Callable[..., Syslog]) -> None:
    log = grow(tmp_path / "g", 1, filling=9_000)
    server = syslog()
    to = f"syslog+tcp://127.0.0.1:{server.port}"
    forwarder(log, to).once()
    assert all(len(one) <= 8_192 for one in server.messages)
    line = lines_of(log)[1]
    found = parsed(server.messages[1])
    said = json.loads(found["msg"])
    assert (said["seq"], said["kind"], said["left_out_bytes"]) == (1, "policy", len(line))
    assert base64.b64decode(found["hash"]) == leaf_hash(line)
    assert found["bytes"] == str(len(line))
    server.messages.clear()
    forwarder(log, to, cursor=tmp_path / "c", longest=65_536).once()
    assert parsed(server.messages[1])["msg"].encode() == line


def test_what_entries_are_about_and_how_bad_they_are(tmp_path: Path) -> None:
    log = grow(tmp_path / "g", 1)

    def record(kind: str, **data: Any) -> Record:
        line = Draft.of_data(kind, "x", data).format(0, "", "2026-01-02T03:04:05.678Z")
        return Record.of_entry(ORIGIN, line, leaf_hash(line), 1)

    assert record("decision", decision="deny", repository="a/b").severity == 4
    assert record("decision", decision="review").severity == 5
    assert record("decision", decision="allow").severity == 6
    assert record("killswitch").severity == 1
    assert record("incident", decision="allow").severity == 3
    assert record("newkind").severity == 6
    assert record("decision", repository="a/b", by="m").facts == {"repository": ["a/b"], "human": ["m"]}
    assert lines_of(log)


def test_the_log_in_postgresql_is_forwarded_alike(cluster: Cluster, tmp_path: Path) -> None:
    import psycopg

    log = grow(tmp_path / "g", 250)
    origin = f"{ORIGIN}"
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    subprocess.run(
        [*SAFEAI, "audit", "import", str(log), "--url", cluster.url, "--key", LOG_KEY.format()],
        env=kept, check=True, capture_output=True, timeout=PATIENCE,
    )  # fmt: skip
    settings = read_settings(
        {
            "SAFEAI_DATA_DIR": str(tmp_path), "SAFEAI_DATABASE_URL": cluster.url, "SAFEAI_LOG_ORIGIN": origin,
            "SAFEAI_FORWARD_TO": f"file://{tmp_path / 'out'}",
        }
    )  # fmt: skip
    assert open_forwarder(settings, Wanted(None, [LOG_KEY])).once() == 751
    rows = [json.loads(line) for line in (tmp_path / "out").read_bytes().splitlines()]
    assert [row["index"] for row in rows if row["kind"] != "checkpoint"] == list(range(751))
    assert open_forwarder(settings, Wanted(None, [LOG_KEY])).once() == 0
    reader = Reader(DatabaseSource(cluster.url, origin), origin, (LOG_KEY,))
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute(
            "UPDATE audit_entry SET body = replace(encode(body, 'escape'), '\"at\":2', '\"at\":1')::bytea WHERE idx = 750"
        )
        with pytest.raises(LogProofInvalid, match=r"entry 750 of .* is another one, and it was forwarded"):
            open_forwarder(settings, Wanted(None, [LOG_KEY])).once()
        with pytest.raises(LogProofInvalid, match="not in order where entry 751 is due"):
            list(reader.batches(Position()))
        connection.execute("DELETE FROM audit_entry WHERE idx >= 700")
        with pytest.raises(LogProofInvalid, match=r"entry 750 of .* is not there"):
            open_forwarder(settings, Wanted(None, [LOG_KEY])).once()
        connection.execute("DELETE FROM audit_entry")
        connection.execute("DELETE FROM audit_idem")
        connection.execute("DELETE FROM audit_checkpoint")
        connection.execute("DELETE FROM audit_head")


def test_the_example_for_kubernetes_fits_beside_the_governor(tmp_path: Path) -> None:
    single = os.path.relpath(DEPLOY / "kubernetes/overlays/single", tmp_path.resolve())
    shutil.copy(DEPLOY / "kubernetes/examples/forward.yaml", tmp_path / "forward.yaml")
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [{single}]\npatches: [{{path: forward.yaml}}]\n"
    )
    done = subprocess.run(
        [program("kubectl"), "kustomize", "--load-restrictor", "LoadRestrictionsNone", str(tmp_path)],
        capture_output=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (deployment,) = [one for one in yaml.safe_load_all(done.stdout) if one and one["kind"] == "Deployment"]
    kubernetes_validate.validate(deployment, "1.25", strict=True)
    made, served = sorted(
        deployment["spec"]["template"]["spec"]["containers"], key=lambda one: str(one["name"])
    )
    assert (made["name"], served["name"]) == ("forward", "governor")
    assert made["securityContext"] == served["securityContext"]
    assert made["image"] == served["image"]
    known = {variable.name: variable.secret for variable in VARIABLES}
    assert all(known[one["name"]] == ("valueFrom" in one) for one in made["env"])


def test_rsyslog_takes_it(tmp_path: Path) -> None:
    rsyslogd = shutil.which("rsyslogd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if rsyslogd is None:
        pytest.skip("rsyslogd is not installed: apt-get install rsyslog")
    log = grow(tmp_path / "g", 3)
    port = free_port()
    out = tmp_path / "out"
    configuration = tmp_path / "rsyslog.conf"
    configuration.write_text(
        f'global(workDirectory="{tmp_path}" maxMessageSize="64k")\nmodule(load="imtcp")\n'
        'template(name="o" type="string" string="%msgid% %pri% %structured-data% %msg%\\n")\n'
        f'ruleset(name="r") {{ action(type="omfile" file="{out}" template="o") }}\n'
        f'input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="r")\n'
    )
    with subprocess.Popen([rsyslogd, "-n", "-f", str(configuration), "-i", str(tmp_path / "pid")]) as process:
        try:
            made = forwarder(log, f"syslog+tcp://127.0.0.1:{port}", patience=PATIENCE)
            made.sleep, made.clock = time.sleep, time.monotonic
            assert made.once() == 10
        finally:
            process.terminate()
            process.wait(PATIENCE)
    lines = out.read_bytes().splitlines()
    assert len(lines) == 11
    for line, entry in zip(lines, lines_of(log), strict=False):
        assert entry in line
