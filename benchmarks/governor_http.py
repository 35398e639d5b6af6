"""Verdicts over HTTP, beside bare signature checks and beside an empty server.

A Governor as people start it, with tokens and the file store, is sent verdicts over 64 connections, one at a time on each;
then batches of 100. The first reference checks the same signatures in one process and does nothing else; the second is
uvicorn with an application that reads the body and answers, under the same client.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from benchmarks.measure import Goal, Row
from benchmarks.statements import statement
from safeai_git.core.envelope import Envelope
from safeai_git.core.publickey import format_openssh
from safeai_git.governor.auth.principal import SCOPES
from safeai_git.governor.auth.tokens import issue
from safeai_git.keys.ed25519 import Ed25519Signer, verify
from safeai_git.keys.file import generate
from safeai_git.keys.seal import seal
from safeai_git.keys.signer import load_signer

SECRET = "a secret of thirty-two bytes or more, for benchmarks"
VERDICTS, CONNECTIONS = 4_000, 64


@contextmanager
def governor(folder: Path) -> Iterator[int]:
    """A Governor as people start it, with a key of its own; its port."""
    subprocess.run([*_safeai(), "keys", "generate"], env=_settings(folder), check=True, capture_output=True)
    with started(folder) as port:
        yield port


@contextmanager
def started(folder: Path) -> Iterator[int]:
    """A Governor on a folder that has been one's; its port."""
    process = subprocess.Popen([*_safeai(), "serve"], env=_settings(folder), stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            said = json.loads(line)
            if said.get("event") == "serving":
                break
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield int(said["address"].rsplit(":", 1)[1])
    finally:
        process.terminate()
        process.wait()


def _safeai() -> list[str]:
    beside = Path(sys.executable).with_name("safeai")
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "safeai_git.admin"]


def _settings(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SAFEAI_")}
    own = {"SAFEAI_DATA_DIR": str(folder), "SAFEAI_PORT": "0", "SAFEAI_JWT_SECRET": SECRET}
    # INFO has the line that says where it listens.
    own |= {"SAFEAI_REQUESTS_PER_MINUTE": "0", "SAFEAI_LOG_LEVEL": "INFO", "SAFEAI_HOST": "127.0.0.1"}
    return kept | own


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """The least that a server does."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


@contextmanager
def empty_server() -> Iterator[int]:
    """uvicorn around `echo`, in a process of its own; its port."""
    code = "import benchmarks.governor_http as here; here.serve_empty()"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def serve_empty() -> None:
    config = uvicorn.Config(
        echo, port=0, loop="uvloop", http="httptools", access_log=False, log_level="error", lifespan="off"
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            print(self.servers[0].sockets[0].getsockname()[1], flush=True)

    Server(config).run()


def request(body: bytes, token: str) -> bytes:
    head = f"POST /v1/verdicts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def _one(port: int, requests: Iterator[bytes], times: list[float], wrong: list[bytes]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for one in requests:
        began = time.perf_counter()
        writer.write(one)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        times.append(time.perf_counter() - began)
        if head[9:12] not in (b"200", b"201"):
            wrong.append(head)
    writer.close()


def send(port: int, requests: list[bytes], connections: int) -> tuple[float, list[float]]:
    """Send them all; seconds, and how long each answer took."""
    times: list[float] = []
    wrong: list[bytes] = []

    async def everything() -> None:
        left = iter(requests)
        await asyncio.gather(*(_one(port, left, times, wrong) for _ in range(connections)))

    began = time.perf_counter()
    asyncio.run(everything())
    if wrong:
        raise SystemExit(f"{len(wrong)} requests failed: {wrong[0]!r}")
    return time.perf_counter() - began, times


def check(envelopes: list[Envelope], signer: Ed25519Signer) -> float:
    """Seconds that the bare signatures take."""
    began = time.perf_counter()
    for one in envelopes:
        if not verify(signer.public.raw, one.signatures[0].sig, one.signed_bytes):
            raise SystemExit("a signature does not hold")
    return time.perf_counter() - began


@contextmanager
def served(folder: Path) -> Iterator[tuple[int, str, Ed25519Signer]]:
    """A Governor that knows a key, and where it listens; a token, and the key."""
    made = generate(folder / "agent", "default", None)
    signer = load_signer(made.secret)
    assert isinstance(signer, Ed25519Signer)
    facts: dict[str, Any] = {"issuer": "safeai-governor", "audience": "safeai-governor", "subject": "bench"}
    token = issue(key=SECRET.encode(), algorithm="HS256", scopes=frozenset(SCOPES), seconds=86_400, **facts)
    data = folder / "governor"
    data.mkdir()
    with governor(data) as port:
        key = {
            "action": "register",
            "public": format_openssh(signer.public).decode().strip(),
            "principal": "bench@example.com",
            "purposes": ["safeai-verdict"],
            "reason": "benchmark",
        }
        send(port, [request(json.dumps(key).encode(), token).replace(b"/v1/verdicts", b"/v1/keys")], 1)
        yield port, token, signer


def http(folder: Path, rounds: int) -> Iterator[Row]:
    """Verdicts one by one over 64 connections, and by the hundred; a tenth of them, too."""
    counts = (VERDICTS // 10, VERDICTS)
    taken: dict[tuple[str, int], list[float]] = {}
    with served(folder) as (port, token, signer), empty_server() as empty:
        number = 0
        for round_ in range(rounds + 1):
            for count in counts:
                many = [seal(statement(number + at), [signer]) for at in range(count * 2)]
                number += len(many)
                found = _round(port, empty, token, signer, many[:count], many[count:])
                for name, sample in found.items() if round_ else ():  # the first round does not count
                    taken.setdefault((name, count), []).append(sample)
    for count in counts:
        what = f"HTTP verdicts, {count:,} over {CONNECTIONS} connections"
        floor = "bare Ed25519 verification, one process"
        single, checks = taken["single", count], taken["checks", count]
        yield Row("HTTP verdict", what, floor, single, checks, Goal(0.6, at_most=False), "/s", count)
        yield Row(
            "HTTP verdict beside an empty server",
            what,
            "an ASGI application that answers",
            single,
            taken["empty", count],
            unit="/s",
            size=count,
        )
        late, bound = taken["p99", count], Goal(20.0, "value")
        yield Row("HTTP verdict, p99", f"{what}, p99", "", late, [], bound, "ms", count, "flat")
        yield Row(
            "HTTP batches",
            f"batches of 100 verdicts, {count:,} of them",
            floor,
            taken["batches", count],
            checks,
            Goal(0.8, at_most=False),
            "/s",
            count,
        )


def _round(
    port: int, empty: int, token: str, signer: Ed25519Signer, single: list[Envelope], batched: list[Envelope]
) -> dict[str, float]:
    """Rates of everything, one after the other, and the slowest of a hundred answers in milliseconds."""
    requests = [request(one.format(), token) for one in single]
    batches = [
        request(
            b'{"envelopes":[' + b",".join(one.format() for one in batched[at : at + 100]) + b"]}",
            token,
        )
        for at in range(0, len(batched), 100)
    ]
    checks = len(single) / check(single, signer)
    took, times = send(port, requests, CONNECTIONS)
    bare, _ = send(empty, requests, CONNECTIONS)
    together, _ = send(port, batches, 4)
    return {
        "checks": checks,
        "single": len(single) / took,
        "empty": len(single) / bare,
        "batches": len(batched) / together,
        "p99": statistics.quantiles(times, n=100)[98] * 1000,
    }


def soak(folder: Path, minutes: float) -> Row:
    """Verdicts over 64 connections for that long; a single wrong answer is an error. Seconds of the slowest of a hundred."""
    late, number, end = [], 0, time.monotonic() + minutes * 60
    with served(folder) as (port, token, signer):
        while time.monotonic() < end:
            many = [seal(statement(number + at), [signer]) for at in range(VERDICTS)]
            number += len(many)
            _, times = send(port, [request(one.format(), token) for one in many], CONNECTIONS)
            late.append(statistics.quantiles(times, n=100)[98] * 1000)
    what = f"HTTP verdicts for {minutes:g} minutes, {number:,} without an error, p99"
    return Row("HTTP soak", what, "", late, goal=Goal(20.0, "value"), unit="ms")
