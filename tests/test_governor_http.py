"""The Governor's API: a real process, real tokens, real signatures."""

from __future__ import annotations

import http.client
import json
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jwt
import pytest
from tools_cli import PATIENCE
from tools_governor import REPOSITORY, SAFEAI, SECRET, Governor, statement, verdict
from tools_log import OTHER_SIGNER, WITNESS_SIGNER

from safeai_git.core.canonical import dumps
from safeai_git.core.envelope import Envelope
from safeai_git.core.log.checkpoint import open_checkpoint
from safeai_git.core.log.entry import completed
from safeai_git.core.log.merkle import leaf_hash, verify_consistency
from safeai_git.core.log.note import NoteKey
from safeai_git.core.log.proof import LogProof, verify_proof
from safeai_git.core.verdict import approval
from safeai_git.keys.ed25519 import verify
from safeai_git.keys.seal import seal

AGENT = WITNESS_SIGNER
STRANGER = OTHER_SIGNER


@pytest.fixture(scope="module")
def governor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Governor]:
    with Governor(tmp_path_factory.mktemp("governor")) as running:
        answer = running.register(AGENT)
        assert answer.status in (200, 201), answer.body
        yield running


def key_of(governor: Governor) -> NoteKey:
    line = json.loads((governor.folder / "audit.log").read_bytes().split(b"\n")[0])
    return NoteKey.parse(line["data"]["keys"][0])


def check_receipt(governor: Governor, envelope: Envelope, receipt: str) -> int:
    """Verify a receipt with nothing but the log's key; the tree's size."""
    proof = LogProof.parse(receipt.encode())
    assert proof.extra is not None
    line = completed(proof.extra, envelope.format())
    key = key_of(governor)
    return verify_proof(proof, leaf_hash(line), key.name, [key], verify).checkpoint.size


def test_a_verdict_is_taken_once_and_its_receipt_holds_offline(governor: Governor) -> None:
    one = verdict(1, AGENT)
    first = governor.ask("POST", "/v1/verdicts", one.format())
    assert first.status == 201, first.body
    assert first.json()["repeated"] is False
    assert first.json()["digest"] == one.digest
    assert check_receipt(governor, one, first.json()["receipt"]) > first.json()["index"]
    again = governor.ask("POST", "/v1/verdicts", one.format())
    assert again.status == 200
    assert again.json()["repeated"] is True
    assert again.json()["index"] == first.json()["index"]
    check_receipt(governor, one, again.json()["receipt"])
    for token in ("", governor.token("verdicts:write", repositories=(REPOSITORY,))):
        later = governor.ask("GET", f"/v1/receipts/{one.digest}", token=token)
        assert later.status == 200
        check_receipt(governor, one, later.body.decode())


def test_spacing_and_order_of_an_envelope_do_not_matter(governor: Governor) -> None:
    one = verdict(2, AGENT)
    members = json.loads(one.format())
    answer = governor.ask(
        "POST", "/v1/verdicts", json.dumps(dict(reversed(members.items())), indent=4).encode()
    )
    assert answer.status == 201
    assert answer.json()["digest"] == one.digest


def test_approvals_are_taken_too(governor: Governor) -> None:
    payload = approval(
        base_tree="a" * 40,
        tree="b" * 40,
        policy_digest="c" * 64,
        repository=REPOSITORY,
        time=1,
        reason="looked at it",
    )
    answer = governor.ask("POST", "/v1/verdicts", seal(payload, [AGENT]).format())
    assert answer.status == 201
    entry = governor.ask("GET", f"/v1/entries/{answer.json()['index']}").json()
    assert entry["kind"] == "approval"


def test_one_bad_envelope_takes_no_other_down(governor: Governor) -> None:
    good = [verdict(number, AGENT) for number in (10, 11)]
    bad = verdict(12, STRANGER)
    body = {
        "envelopes": [
            json.loads(good[0].format()),
            {"nonsense": 1},
            json.loads(bad.format()),
            json.loads(good[1].format()),
        ]
    }
    answer = governor.ask("POST", "/v1/verdicts", body)
    assert answer.status == 200
    first, second, third, fourth = answer.json()["results"]
    assert (first["digest"], fourth["digest"]) == (good[0].digest, good[1].digest)
    assert fourth["index"] == first["index"] + 1
    assert second["problem"]["type"].endswith("/malformed")
    assert (third["digest"], third["problem"]["type"].rsplit("/", 1)[1]) == (bad.digest, "unknown-key")
    for one, told in zip(good, (first, fourth), strict=True):
        check_receipt(governor, one, told["receipt"])


def test_a_batch_is_logged_together_whatever_its_size(governor: Governor) -> None:
    many = [verdict(number, AGENT) for number in range(100, 180)]
    answer = governor.ask("POST", "/v1/verdicts", {"envelopes": [json.loads(one.format()) for one in many]})
    results = answer.json()["results"]
    assert [one["index"] for one in results] == list(range(results[0]["index"], results[0]["index"] + 80))


def tampered() -> bytes:
    one = json.loads(verdict(20, AGENT).format())
    one["payload"] = json.loads(verdict(21, AGENT).format())["payload"]
    return json.dumps(one).encode()


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (b"", 400, "malformed"),
        (b"[]", 400, "malformed"),
        (b"{", 400, "malformed"),
        (b"\xff\xfe", 400, "malformed"),
        (b'{"envelopes":[]}', 400, "malformed"),
        (b'{"envelopes":{}}', 400, "malformed"),
        (b'{"envelopes":[1],"more":2}', 400, "malformed"),
        (b'{"payload":"","payloadType":"","signatures":[]}', 400, "malformed"),
        (b"[" * 100_000, 400, "malformed"),
        (b'{"a":' * 100_000, 400, "malformed"),
        (json.dumps({"envelopes": [1] * 1001}).encode(), 413, "too-large"),
        (verdict(22, STRANGER).format(), 422, "unknown-key"),
        (tampered(), 422, "wrong-signature"),
        (seal(b'{"n":1}', [AGENT]).format(), 422, "wrong-statement"),
        (seal(dumps({"_type": "x", "subject": []}), [AGENT]).format(), 422, "wrong-statement"),
        (seal(statement(23), [AGENT], payload_type="application/json").format(), 422, "wrong-statement"),
        (verdict(24, AGENT, time="2099-01-01T00:00:00Z").format(), 422, "wrong-statement"),
        (verdict(25, AGENT, decision="fine").format(), 422, "wrong-statement"),
        (b'{"payload":"' + b"A" * 200_000 + b'","payloadType":"a","signatures":[]}', 413, "too-large"),
    ],
)  # fmt: skip
def test_what_is_not_taken(governor: Governor, body: bytes, status: int, word: str) -> None:
    size = governor.ask("GET", "/v1/checkpoint", token=None).body.split(b"\n")[1]
    answer = governor.ask("POST", "/v1/verdicts", body)
    assert (answer.status, answer.word) == (status, word), answer.body
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert answer.json()["detail"]
    assert governor.ask("GET", "/v1/checkpoint", token=None).body.split(b"\n")[1] == size


def test_another_kind_of_body_is_not_taken(governor: Governor) -> None:
    for kind in ("text/plain", "multipart/form-data; boundary=x", ""):
        answer = governor.ask(
            "POST", "/v1/verdicts", verdict(26, AGENT).format(), headers={"Content-Type": kind}
        )
        assert (answer.status, answer.word) == (415, "unsupported-media-type")


def claims(**more: Any) -> dict[str, Any]:
    now = int(time.time())
    facts: dict[str, Any] = {
        "iss": "safeai-governor", "aud": "safeai-governor", "sub": "x", "iat": now, "exp": now + 600,
        "scope": "verdicts:write log:read",
    }  # fmt: skip
    return {name: value for name, value in (facts | more).items() if value is not None}


def signed(**more: Any) -> str:
    return jwt.encode(claims(**more), SECRET, algorithm="HS256")


def unsigned(header: dict[str, str]) -> str:
    return f"{jwt.utils.base64url_encode(json.dumps(header).encode()).decode()}.{signed().split('.')[1]}."


@pytest.mark.parametrize(
    "made",
    [
        lambda: "",
        lambda: "Basic YTpi",
        lambda: "Bearer",
        lambda: "Bearer ",
        lambda: "Bearer a.b.c",
        lambda: f"Bearer {'x' * 9000}",
        lambda: f"Bearer {unsigned({'alg': 'none'})}",
        lambda: f"Bearer {unsigned({'alg': 'None', 'typ': 'JWT'})}",
        lambda: f"Bearer {jwt.encode(claims(), 'another secret of thirty-two bytes!!', algorithm='HS256')}",
        lambda: f"Bearer {jwt.encode(claims(), SECRET * 2, algorithm='HS512')}",
        lambda: f"Bearer {signed(exp=int(time.time()) - 120)}",
        lambda: f"Bearer {signed(exp=None)}",
        lambda: f"Bearer {signed(nbf=int(time.time()) + 600)}",
        lambda: f"Bearer {signed(iss='somebody else')}",
        lambda: f"Bearer {signed(aud='another service')}",
        lambda: f"Bearer {signed(aud=None)}",
        lambda: f"Bearer {signed(sub=None)}",
        lambda: f"Bearer {signed(sub=[1])}",
        lambda: f"Bearer {signed()[:-4]}AAAA",
        lambda: f"Bearer {signed()}, Bearer {signed()}",
    ],
)
def test_B89_tokens_that_are_none(governor: Governor, made: Callable[[], str]) -> None:
    authorization = made()  # now: a run of all tests takes longer than a token is good
    headers = {"Authorization": authorization} if authorization else {}
    answer = governor.ask("POST", "/v1/verdicts", verdict(30, AGENT).format(), token=None, headers=headers)
    assert (answer.status, answer.word) == (401, "not-authenticated")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert SECRET not in answer.body.decode()


def test_two_authorization_headers_are_none(governor: Governor) -> None:
    connection = http.client.HTTPConnection(governor.host, governor.port, timeout=PATIENCE)
    connection.putrequest("GET", "/log/tile/0/000.p/1")
    for _ in range(2):
        connection.putheader("Authorization", f"Bearer {governor.token()}")
    connection.endheaders()
    assert connection.getresponse().status == 401
    connection.close()


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/v1/verdicts", "log:read"),
        ("GET", "/log/tile/0/000.p/1", "verdicts:write"),
        ("GET", "/v1/entries/0", "log:read"),
        ("GET", f"/v1/receipts/{'a' * 64}", "log:read"),
        ("GET", "/v1/consistency?from=1&to=1", "policy:read"),
    ],
)
def test_scopes_hold(governor: Governor, method: str, path: str, scope: str) -> None:
    body = verdict(31, AGENT).format() if method == "POST" else None
    answer = governor.ask(method, path, body, token=governor.token(scope))
    assert (answer.status, answer.word) == (403, "forbidden")


def test_a_token_for_one_repository_writes_there_alone(governor: Governor) -> None:
    token = governor.token("verdicts:write", repositories=(REPOSITORY,))
    here = governor.ask("POST", "/v1/verdicts", verdict(32, AGENT).format(), token=token)
    assert here.status == 201
    for elsewhere in ("github.com/example/widget", "", REPOSITORY.upper()):
        answer = governor.ask(
            "POST", "/v1/verdicts", verdict(33, AGENT, repository=elsewhere).format(), token=token
        )
        assert (answer.status, answer.word) == (403, "forbidden"), elsewhere


def test_the_log_is_read_as_tiles_and_only_grows(governor: Governor) -> None:
    old = governor.ask("GET", "/log/checkpoint", token=None).body
    governor.ask("POST", "/v1/verdicts", verdict(40, AGENT).format())
    new = governor.ask("GET", "/v1/checkpoint", token=None).body
    key = key_of(governor)
    opened = [open_checkpoint(note, key.name, [key], verify).checkpoint for note in (old, new)]
    a, b = (one.size for one in opened)
    assert b == a + 1
    found = governor.ask("GET", f"/v1/consistency?from={a}&to={b}").json()
    path = [jwt.utils.base64.b64decode(one) for one in found["hashes"]]
    verify_consistency(a, b, path, opened[0].root, opened[1].root)
    width = min(256, b)
    suffix = f"000.p/{width}" if width < 256 else "000"
    tile = governor.ask("GET", f"/log/tile/0/{suffix}").body
    entries = governor.ask("GET", f"/log/tile/entries/{suffix}").body
    first = entries[2 : 2 + int.from_bytes(entries[:2], "big")]
    assert tile[:32] == leaf_hash(first)
    assert governor.ask("GET", "/v1/entries/0").body == first
    assert governor.ask("GET", "/log/tile/0/001.p/255").status == 404
    for wrong in ("0/0", "0/x000/000", "64/000", "entries/000.p/0", "../../keys", "0/000.p/257"):
        assert governor.ask("GET", f"/log/tile/{wrong}").status in (400, 404), wrong
    assert governor.ask("GET", f"/v1/consistency?from={b}&to={a}").status == 400
    assert governor.ask("GET", f"/v1/consistency?from=1&to={b + 100}").status == 404
    assert governor.ask("GET", f"/v1/entries/{b + 100}").status == 404
    assert governor.ask("GET", "/v1/entries/-1").word == "malformed"
    assert governor.ask("GET", "/v1/entries/99999999999999999999999").word == "malformed"
    assert governor.ask("GET", f"/v1/receipts/{'a' * 64}").word == "not-found"
    assert governor.ask("GET", "/v1/receipts/XYZ").word == "malformed"


def test_what_is_not_there_and_what_is_public(governor: Governor) -> None:
    assert governor.ask("GET", "/v2/verdicts").word == "not-found"
    answer = governor.ask("DELETE", "/v1/verdicts")
    assert (answer.word, answer.headers["allow"]) == ("method-not-allowed", "POST")
    for public in ("/livez", "/readyz", "/metrics", "/", "/v1/checkpoint", "/log/checkpoint"):
        assert governor.ask("GET", public, token=None).status == 200, public
    page = governor.ask("GET", "/", token=None)
    assert b"<script" not in page.body
    assert "style-src 'sha256-" in page.headers["content-security-policy"]
    assert REPOSITORY.encode() not in page.body


def test_a_request_keeps_the_id_that_it_came_with_unless_that_cannot_be_one(governor: Governor) -> None:
    assert (
        governor.ask("GET", "/livez", headers={"X-Request-Id": "ci-7.a_b"}).headers["x-request-id"]
        == "ci-7.a_b"
    )
    for odd in ("x" * 65, "a b", '"><script>'):
        assert governor.ask("GET", "/livez", headers={"X-Request-Id": odd}).headers["x-request-id"] != odd


def test_metrics_have_the_names_that_alerts_ask_for(governor: Governor) -> None:
    governor.ask("POST", "/v1/verdicts", verdict(
        50, AGENT, decision="deny", findings={"count": 1, "first": [{"rule": "denied-path", "outcome": "deny", "path": "x"}]}
    ).format())  # fmt: skip
    governor.ask("POST", "/v1/verdicts", verdict(
        51, AGENT, decision="deny", findings={"count": 1, "first": [{"rule": 'a"} 1\nevil', "outcome": "deny", "path": "x"}]}
    ).format())  # fmt: skip
    text = governor.ask("GET", "/metrics", token=None).body.decode()
    assert "safeai_kill_switch_active 0.0" in text
    assert 'safeai_policy_blocks_total{rule="denied-path"} 1.0' in text
    assert 'safeai_policy_blocks_total{rule="policy"} 1.0' in text
    assert 'safeai_sandbox_executions_total{exit_code="0"} 0.0' in text
    assert 'safeai_api_requests_total{route="/v1/verdicts",status="201"}' in text
    assert "evil" not in text
    assert REPOSITORY not in text
    for name in ("safeai_log_entries", "safeai_log_append_seconds_count", "safeai_log_sync_seconds_count",
                 "safeai_log_failed 0.0", "safeai_data_free_bytes", "safeai_log_checkpoint_timestamp_seconds"):  # fmt: skip
        assert name in text, name


def test_no_secret_and_no_content_stands_in_the_log_lines(governor: Governor) -> None:
    token = governor.token()
    governor.ask("POST", "/v1/verdicts", verdict(60, AGENT).format(), token=token)
    governor.ask("POST", "/v1/verdicts", b"a body that should not be logged", token=token)
    text = json.dumps(governor.lines)
    assert '"status": 201' in text
    for secret in (token, SECRET, "should not be logged", token.split(".")[2]):
        assert secret not in text


def raw(governor: Governor, data: bytes, *, patience: float = PATIENCE) -> bytes:
    """Send bytes as they are; everything that comes back until the other end closes or answers."""
    with socket.create_connection((governor.host, governor.port), timeout=patience) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        found = b""
        while chunk := connection.recv(65_536):
            found += chunk
    return found


def test_B89_bodies_that_are_too_large_are_not_read(governor: Governor) -> None:
    head = (
        b"POST /v1/verdicts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer "
        + governor.token().encode()
    )
    with socket.create_connection((governor.host, governor.port), timeout=PATIENCE) as connection:
        connection.sendall(head + b"\r\nContent-Length: 99999999999\r\n\r\n{")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with socket.create_connection((governor.host, governor.port), timeout=PATIENCE) as connection:
        connection.sendall(head + b"\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        try:
            for _ in range(8 * 1024 * 1024 // 0x10000 + 2):
                connection.sendall(chunk)
        except OSError:
            pass  # the other end had enough
        assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")


def test_trailers_say_nothing_about_who_asks(governor: Governor) -> None:
    token = b"Authorization: Bearer " + governor.token().encode()
    head = b"POST /v1/verdicts HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    body = b"\r\n2\r\n{}\r\n0\r\n"
    assert raw(governor, head + token + b"\r\n" + body + b"\r\n").startswith(b"HTTP/1.1 400 ")
    assert raw(governor, head + body + token + b"\r\n\r\n").startswith(b"HTTP/1.1 401 ")
    # The next request on the connection has a head again.
    keeps = head.replace(b"close", b"keep-alive") + body + b"X: y\r\n\r\n"
    asks = b"GET /v1/entries HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + token + b"\r\n\r\n"
    with socket.create_connection((governor.host, governor.port), timeout=PATIENCE) as connection:
        connection.sendall(keeps + asks)
        found = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert [one[:4] for one in found.split(b"HTTP/1.1 ")[1:]] == [b"401 ", b"200 "]


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"POST /v1/verdicts HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /v1/verdicts HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/verdicts HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"GET /?" + b"a" * 65_536 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_B89_what_is_no_request_harms_nobody(governor: Governor, data: bytes) -> None:
    try:
        answer = raw(governor, data)
    except OSError:  # it was closed before all of it was sent
        answer = b""
    assert not answer.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201", b"HTTP/1.1 500"))
    assert governor.ask("GET", "/livez", token=None).status == 200


def test_a_client_that_goes_away_in_the_middle_harms_nobody(governor: Governor) -> None:
    head = b"POST /v1/verdicts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\nAuthorization: Bearer "
    for _ in range(20):
        with socket.create_connection((governor.host, governor.port), timeout=PATIENCE) as connection:
            connection.sendall(head + governor.token().encode() + b"\r\n\r\n{")
    assert governor.ask("POST", "/v1/verdicts", verdict(70, AGENT).format()).status in (200, 201)


IDLE, SOURCES = 10_000, 4
_IDLER = """
import resource, socket, sys
port, source, number = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (number + 64, hard))
held = [socket.create_connection(("127.0.0.1", port), 60, (source, 0)) for _ in range(number)]
polite = 0
for one in held:
    said = one.recv(4096)
    polite += said.startswith(b"HTTP/1.1 503 ") and b"Retry-After: " in said and one.recv(1) == b""
print(polite, flush=True)
sys.stdin.read()
"""


def test_B89_idle_connections_are_bounded_and_service_goes_on(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    each = IDLE // SOURCES
    if hard != resource.RLIM_INFINITY and hard < each + 64:
        pytest.skip(f"a process may open {hard} files here, and {each + 64} are needed")
    settings = {"SAFEAI_MAX_CONNECTIONS": "64", "SAFEAI_HEAD_SECONDS": "300"}
    with Governor(tmp_path / "g", **settings) as governor, ExitStack() as stack:
        taken = [
            stack.enter_context(socket.create_connection((governor.host, governor.port), PATIENCE))
            for _ in range(64)
        ]
        deadline = time.monotonic() + PATIENCE
        while (status := quiet_status(governor)) != 503:  # the last of them may not be counted yet
            assert time.monotonic() < deadline, status
        crowd = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-ISc", _IDLER, str(governor.port), f"127.0.0.{2 + at}", str(each)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            for at in range(SOURCES)
        ]
        try:
            refused = [int(one.stdout.readline()) for one in crowd if one.stdout is not None]
            assert refused == [each] * SOURCES
            taken[0].close()  # while all the others are still held
            deadline = time.monotonic() + PATIENCE
            while (status := quiet_status(governor)) != 200:
                assert time.monotonic() < deadline, status
        finally:
            for one in crowd:
                one.kill()


def quiet_status(governor: Governor) -> int:
    try:
        return governor.ask("GET", "/livez", token=None).status
    except OSError:
        return 0


def test_B89_a_head_and_a_body_that_never_come_are_ended(tmp_path: Path) -> None:
    with Governor(tmp_path / "g", SAFEAI_HEAD_SECONDS="1", SAFEAI_BODY_SECONDS="1") as governor:
        with socket.create_connection((governor.host, governor.port), timeout=PATIENCE) as connection:
            assert connection.recv(100) == b""
        with socket.create_connection((governor.host, governor.port), timeout=PATIENCE) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHo")
            assert connection.recv(100) == b""
        with socket.create_connection((governor.host, governor.port), timeout=PATIENCE) as connection:
            head = f"POST /v1/verdicts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAuthorization: Bearer {governor.token()}"
            connection.sendall(head.encode() + b"\r\nContent-Length: 10\r\n\r\n{")
            assert connection.recv(65_536).startswith(b"HTTP/1.1 408 ")


def test_a_subject_that_asks_too_often_is_told_to_wait(tmp_path: Path) -> None:
    with Governor(tmp_path / "g", SAFEAI_REQUESTS_PER_MINUTE="5") as governor:
        answers = [governor.ask("GET", "/v1/entries/0") for _ in range(8)]
        assert [one.status for one in answers[:5]] == [200] * 5
        assert answers[-1].word == "too-many-requests"
        assert int(answers[-1].headers["retry-after"]) > 0
        assert (
            governor.ask("GET", "/v1/entries/0", token=governor.token(subject="somebody else")).status == 200
        )


def test_without_authentication_only_this_machine_is_served(tmp_path: Path) -> None:
    with Governor(tmp_path / "g", SAFEAI_JWT_SECRET="") as governor:
        assert any("only this machine" in one.get("event", "") for one in governor.lines)
        assert governor.register(AGENT, token=None).status in (200, 201)
        assert governor.ask("POST", "/v1/verdicts", verdict(1, AGENT).format(), token=None).status == 201
    done = subprocess.run(
        [*SAFEAI, "serve"],
        env=governor.environment | {"SAFEAI_HOST": "0.0.0.0"}, capture_output=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 2
    assert b"no authentication is configured" in done.stderr


def submit_until(governor: Governor, first: int, stop: threading.Event) -> list[tuple[Envelope, str]]:
    """Submit one verdict after the other; those that were answered, with their receipts."""
    taken = []
    number = first
    while not stop.is_set():
        one = verdict(number, AGENT)
        number += 1
        try:
            answer = governor.ask("POST", "/v1/verdicts", one.format())
        except (OSError, http.client.HTTPException):
            break
        if answer.status in (200, 201):
            taken.append((one, answer.json()["receipt"]))
    return taken


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_was_answered_is_there_however_it_ends(tmp_path: Path, number: signal.Signals) -> None:
    """Under load from eight sides; nothing that was answered is missing afterwards, and nothing is there twice."""
    governor = Governor(tmp_path / "g")
    with governor:
        assert governor.register(AGENT).status in (200, 201)
        stop = threading.Event()
        with ThreadPoolExecutor(8) as pool:
            workers = [pool.submit(submit_until, governor, 1_000_000 * at, stop) for at in range(8)]
            while int(governor.ask("GET", "/v1/checkpoint", token=None).body.split(b"\n")[1]) < 60:
                pass
            code = governor.stop(number)
            stop.set()
            taken = [pair for worker in workers for pair in worker.result(PATIENCE)]
    assert code == (0 if number == signal.SIGTERM else -number)
    assert len(taken) > 20
    done = governor.audit()
    assert done.returncode in (0, 3), done.stdout + done.stderr
    lines = (governor.folder / "audit.log").read_bytes().split(b"\n")
    for envelope, receipt in taken:
        check_receipt(governor, envelope, receipt)
        key = b'"id":"sha256:%b"' % envelope.digest.encode()
        assert sum(key in line for line in lines) == 1
    with governor:
        for envelope, _ in taken[:3]:
            assert governor.ask("POST", "/v1/verdicts", envelope.format()).json()["repeated"] is True


def test_a_log_that_fails_ends_the_process_and_says_so(tmp_path: Path) -> None:
    governor = Governor(tmp_path / "g")
    with governor:
        assert governor.register(AGENT).status in (200, 201)
        (governor.folder / "audit.log").rename(governor.folder / "elsewhere")
        answer = governor.ask("POST", "/v1/verdicts", verdict(1, AGENT).format())
        assert (answer.status, answer.word) == (503, "unavailable")
        assert governor.process is not None
        assert governor.process.wait(PATIENCE) == 3
    assert any("deleted or moved away" in json.dumps(one) for one in governor.lines)


def test_a_key_that_is_missing_and_a_port_that_is_taken_are_named(tmp_path: Path, governor: Governor) -> None:
    other = Governor(tmp_path / "g", SAFEAI_PORT=str(governor.port))
    serve = [*SAFEAI, "serve"]
    done = subprocess.run(serve, env=other.environment, capture_output=True, timeout=PATIENCE)
    assert done.returncode == 3
    assert b"cannot be listened on" in done.stderr
    done = subprocess.run(
        serve, env=other.environment | {"SAFEAI_KEY_ID": "other"}, capture_output=True, timeout=PATIENCE
    )
    assert done.returncode == 3
    assert b"safeai keys generate" in done.stderr
    done = subprocess.run(
        serve,
        env=other.environment | {"SAFEAI_DATA_DIR": str(governor.folder)},
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 3
    assert b"another process" in done.stderr


def test_the_document_describes_every_route_and_its_errors(governor: Governor) -> None:
    document = governor.ask("GET", "/openapi.json", token=None).json()
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert operation["summary"], path
            assert operation["responses"]["503"]["content"]["application/problem+json"], (path, method)
            for status, answer in operation["responses"].items():
                for kind, content in answer.get("content", {}).items():
                    assert (
                        "example" in content or "examples" in content or kind == "application/octet-stream"
                    ), (path, status)
