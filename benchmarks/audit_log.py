"""The audit log: appending to a file and to PostgreSQL, verifying, recovering and searching.

Entries of some 600 bytes, ready before the clock runs. One submitter waits for each receipt; 64 do so in one event loop.
Everything on the file system of the folder that is given.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.pool import Pool
from pathlib import Path

import psycopg
import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tools_postgres import Cluster, binaries

from benchmarks.measure import Goal, Row, peak, seconds
from benchmarks.reopen import ORIGIN, log_signer, tended
from benchmarks.statements import statement
from safeai_git.audit import verify_file
from safeai_git.core.envelope import Envelope
from safeai_git.core.key_list import ListedKey, register_data
from safeai_git.core.log.entry import Draft
from safeai_git.governor.audit_log import AuditLog
from safeai_git.governor.http.submitter import Submitter
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.open_log import open_file_log, start_log
from safeai_git.governor.records import Records
from safeai_git.governor.search import Search
from safeai_git.governor.stores.postgres import PostgresStore
from safeai_git.governor.stores.postgres_schema import upgrade
from safeai_git.keys.ed25519 import Ed25519Signer, verify
from safeai_git.keys.seal import seal

RECORD = 600
CLIENTS = 64
SPAN = 1.0
"""Seconds of each round."""

Made = Callable[[int, int], Draft]
"""The draft of a client's nth submission."""


def plain(label: str) -> Made:
    """Entries that nobody signed."""
    filling = {"filling": "x" * (RECORD - 160)}
    return lambda client, number: Draft.of_data("policy", f"{label}-{client}-{number}", filling)


def bare(folder: Path, batch: int) -> tuple[float, list[float]]:
    """Records a second of one write and one fdatasync for a batch; and how long each took."""
    data, times, end = b"x" * RECORD * batch, [], time.perf_counter() + SPAN
    descriptor = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    while (began := time.perf_counter()) < end:
        os.write(descriptor, data)
        os.fdatasync(descriptor)
        times.append(time.perf_counter() - began)
    os.close(descriptor)
    (folder / "bare").unlink()
    return batch * len(times) / SPAN, times


def one(log: AuditLog, made: Made) -> tuple[float, list[float]]:
    """One submitter that waits for each receipt, in a thread like those that the Governor answers from."""
    ready = [made(0, number) for number in range(20_000)]
    times: list[float] = []
    end = time.perf_counter() + SPAN
    while (began := time.perf_counter()) < end:
        log.append(ready[len(times)])
        times.append(time.perf_counter() - began)
    return len(times) / SPAN, times


async def _many(log: AuditLog, made: Made, ready: int) -> tuple[float, list[float]]:
    submitter, times = Submitter(log), list[float]()
    drafts = [[made(client, number) for number in range(ready)] for client in range(CLIENTS)]
    end = time.perf_counter() + SPAN

    async def client(number: int) -> None:
        for at in range(sys.maxsize):
            if (began := time.perf_counter()) >= end:
                return
            # With none ready, making one is part of what is measured.
            await submitter.submit([drafts[number][at] if at < ready else made(number, at)])
            times.append(time.perf_counter() - began)

    await asyncio.gather(*map(client, range(CLIENTS)))
    return len(times) / SPAN, times


def many(log: AuditLog, made: Made, *, ready: int = 1_500) -> tuple[float, list[float]]:
    """64 submitters, each waiting for its own receipts; what they submit is made beforehand, or as they go with 0."""
    # The loop that the Governor runs in.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_many(log, made, ready))


def at_share(times: list[float], share: float) -> float:
    """The time in milliseconds that a share of them stays within."""
    return sorted(times)[int(share * (len(times) - 1))] * 1000


LENGTHS = (10_000, 100_000)
"""Entries that a log has when it is appended to: what grew with them would hurt most where the log is worth most."""


def appending(folder: Path, rounds: int) -> Iterator[Row]:
    """To a file, by one and by 64, where the log is short and where it is long."""
    for length in LENGTHS:
        place = folder / f"log{length}"
        log = open_file_log(place, _filled(place, length), reserve=0)
        taken: dict[str, list[float]] = {}
        for number in range(rounds + 1):
            found = {
                "bare 1": bare(place, 1),
                "one": asyncio.run(asyncio.to_thread(one, log, plain(f"one{number}"))),
                "bare 64": bare(place, CLIENTS),
                "many": many(log, plain(f"many{number}")),
            }
            for name, (rate, times) in found.items() if number else ():
                taken.setdefault(name, []).append(rate)
                for share in (0.5, 0.99):
                    taken.setdefault(f"{name} {share}", []).append(at_share(times, share))
        log.close()
        after = f"after {length:,} entries"
        yield Row(
            "log append, 64 submitters",
            f"log append, unsigned, 64 submitters, {after}",
            "64-record write and fdatasync",
            taken["many"],
            taken["bare 64"],
            Goal(0.55, at_most=False),
            "/s",
            length,
            "flat",
        )
        for share, bound in ((0.5, 1.5), (0.99, 2.0)):
            yield Row(
                f"log append, one submitter, {share}",
                f"log append, one submitter, p{share * 100:.0f}, {after}",
                "single-record write and fdatasync",
                taken[f"one {share}"],
                taken[f"bare 1 {share}"],
                Goal(bound),
                "ms",
                length,
                "flat",
            )


def signing(folder: Path, rounds: int) -> Iterator[Row]:
    """Verdicts that are signed as they are submitted, where the log is short and where it is long."""
    signer = Ed25519Signer.of(Ed25519PrivateKey.generate())
    payload = statement(1)
    for length in LENGTHS:
        place = folder / f"signing{length}"
        log = open_file_log(place, _filled(place, length), reserve=0)
        ours: list[float] = []
        theirs: list[float] = []
        late: list[float] = []
        for number in range(rounds + 1):

            def made(client: int, at: int, round_: int = number) -> Draft:
                return Draft.of_envelope("verdict", f"{round_}-{client}-{at}", seal(payload, [signer]))

            count, end = 0, time.perf_counter() + SPAN
            while time.perf_counter() < end:
                for _ in range(100):
                    signer.sign(payload)
                count += 100
            rate, times = many(log, made, ready=0)
            if number:
                ours.append(rate)
                theirs.append(count / SPAN)
                late.append(at_share(times, 0.99))
        log.close()
        what = f"signed verdicts in process, 64 submitters, after {length:,} entries"
        bare_rate, goal = "bare Ed25519 signing", Goal(0.75, at_most=False)
        yield Row("signed verdicts", what, bare_rate, ours, theirs, goal, "/s", length, "flat")
        slowest = Goal(5.0, "value")
        yield Row("signed verdicts, p99", f"{what}, p99", "", late, [], slowest, "ms", length, "flat")


def _bare_inserts(url: str) -> float:
    count, end = 0, time.perf_counter() + SPAN
    with psycopg.connect(url, autocommit=False) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS bare (number bigint, line bytea)")
        connection.commit()
        while time.perf_counter() < end:
            rows = [(count + at, b"x" * RECORD) for at in range(CLIENTS)]
            with connection.cursor() as cursor:
                cursor.executemany("INSERT INTO bare VALUES (%s, %s)", rows)
            connection.commit()
            count += CLIENTS
    return count / SPAN


def _fill(url: str, first: int, end: int) -> None:
    """Append entries from one number up to another."""
    log = start_log(PostgresStore(url, ORIGIN), log_signer())
    made = plain("filling")
    for at in range(first, end, 1_000):
        log.submit([made(0, number) for number in range(at, min(at + 1_000, end))]).wait()
    log.close()


def _replica(url: str, label: str) -> float:
    """Rate of one replica with 64 submitters, in a process of its own."""
    log = start_log(PostgresStore(url, ORIGIN), log_signer())
    rate, _ = many(log, plain(label))
    log.close()
    return rate


def postgres(folder: Path, rounds: int) -> Iterator[Row]:
    """To PostgreSQL, by one replica and by four, where the log is short and where it is long."""
    programs = binaries()
    if programs is None:
        print("PostgreSQL is not installed: its rows are left out", file=sys.stderr)
        return
    cluster = Cluster(folder, programs)
    try:
        upgrade(cluster.url)
        with multiprocessing.get_context("spawn").Pool(4) as pool:
            for before, length in zip((0, *LENGTHS), LENGTHS, strict=False):
                pool.apply(_fill, (cluster.url, before, length))
                yield from _replicas(pool, cluster.url, length, rounds)
    finally:
        cluster.stop()


def _replicas(pool: Pool, url: str, length: int, rounds: int) -> Iterator[Row]:
    taken: dict[str, list[float]] = {"bare": [], "one": [], "four": []}
    for number in range(rounds + 1):
        inserts = _bare_inserts(url)
        rates = [
            pool.starmap(_replica, [(url, f"{length}-{count}-{number}-{at}") for at in range(count)])
            for count in (1, 4)
        ]
        if number:
            for name, rate in zip(taken, (inserts, *map(sum, rates)), strict=True):
                taken[name].append(rate)
    after = f"after {length:,} entries"
    yield Row(
        "PostgreSQL, 64 submitters",
        f"PostgreSQL store, 64 submitters, {after}",
        "bare psycopg batches of 64",
        taken["one"],
        taken["bare"],
        Goal(0.7, at_most=False),
        "/s",
        length,
        "flat",
    )
    yield Row(
        "PostgreSQL, 4 replicas",
        f"PostgreSQL store, 4 replicas, {after}",
        "one replica",
        taken["four"],
        taken["one"],
        Goal(0.9, at_most=False),
        "/s",
        length,
        "flat",
    )


def _filled(folder: Path, entries: int, signed: Ed25519Signer | None = None) -> LogSigner:
    """A log of so many entries."""
    folder.mkdir()
    signer = log_signer()
    log = open_file_log(folder, signer, reserve=0)
    if signed is not None:
        key = ListedKey(signed.public, "bench", ("safeai-verdict",))
        log.append(Draft.of_data("keychange", "key", register_data(key, reason="benchmark", by="bench")))
    for first in range(0, entries, 1_000):
        drafts = [
            Draft.of_data("policy", f"entry-{at}", {"filling": "x" * (RECORD - 160)})
            if signed is None
            else Draft.of_envelope("verdict", f"entry-{at}", seal(statement(at), [signed]))
            for at in range(first, min(first + 1_000, entries))
        ]
        log.submit(drafts).wait()
    log.close()
    return signer


def verifying(folder: Path, rounds: int) -> Iterator[Row]:
    """`audit --verify`, over entries that nobody signed and over verdicts."""
    for entries in (20_000, 200_000):
        place = folder / f"plain{entries}"
        signer = _filled(place, entries)
        file = place / "audit.log"
        lines = file.read_bytes().splitlines()

        def hashed(lines: list[bytes] = lines) -> None:
            for line in lines:
                hashlib.sha256(line).digest()

        rates: tuple[list[float], list[float]] = ([], [])
        for number in range(rounds + 1):
            took = seconds(hashed), seconds(partial(_holds, file, signer))
            if number:
                rates[0].append(entries / took[1])
                rates[1].append(entries / took[0])
        what = f"`audit --verify`, structure only, {entries:,} entries"
        yield Row(
            "verify structure",
            what,
            "hashlib over the same lines",
            *rates,
            Goal(0.25, at_most=False),
            "/s",
            entries,
        )
        yield Row(
            "verify structure, rate",
            f"{what}, a core",
            "",
            rates[0],
            goal=Goal(350_000, "value", at_most=False),
            unit="/s",
        )
    own = Ed25519Signer.of(Ed25519PrivateKey.generate())
    for entries in (2_000, 20_000):
        place = folder / f"signed{entries}"
        signer = _filled(place, entries, own)
        envelopes = [
            Envelope.parse(json.dumps(json.loads(line)["env"], separators=(",", ":")).encode())
            for line in (place / "audit.log").read_bytes().splitlines()
            if b'"env"' in line
        ]
        checks = [(own.public.raw, one.signatures[0].sig, one.signed_bytes) for one in envelopes]

        def verified(checks: list[tuple[bytes, bytes, bytes]] = checks) -> None:
            if not all(verify(*check) for check in checks):
                raise SystemExit("a signature does not hold")

        rates = ([], [])
        for number in range(rounds + 1):
            took = (
                seconds(verified),
                seconds(partial(_holds, place / "audit.log", signer)),
            )
            if number:
                rates[0].append(entries / took[1])
                rates[1].append(entries / took[0])
        yield Row(
            "verify with signatures",
            f"`audit --verify` with signatures, {entries:,} verdicts",
            "bare Ed25519 verification",
            *rates,
            Goal(0.9, at_most=False),
            "/s",
            entries,
        )


def _holds(file: Path, signer: LogSigner) -> None:
    if verify_file(file, keys=signer.keys).state != "consistent":
        raise SystemExit(f"{file} does not hold")


def large(folder: Path, rounds: int, entries: int = 1_000_000) -> Iterator[Row]:
    """What a start, its memory and a page of a search cost with a million entries and with a tenth of them."""
    for size in (entries // 10, entries):
        place = folder / f"large{size}"
        signer = _filled(place, size)
        tended(place)  # in a running Governor this happened as the log grew
        starts, memory = [], []
        for _ in range(rounds):
            # As after kill -9: the file ends in the middle of a batch.
            with (place / "audit.log").open("ab") as file:
                file.write(b'{"n":')
            began = time.perf_counter()
            log = open_file_log(place, signer, reserve=0)
            starts.append(time.perf_counter() - began)
            log.close()
            code = (
                "from pathlib import Path; from benchmarks.reopen import reopened; "
                f"reopened(Path({str(place)!r}))"
            )
            memory.append(peak(Path.cwd(), dict(os.environ), sys.executable, "-c", code))
        yield Row(
            "recovery",
            f"recovery after kill -9, {size:,} entries",
            "",
            starts,
            goal=Goal(1.0, "value") if size == entries else None,
            size=size,
            expected="log n",
        )
        yield Row(
            "memory of a Governor's log",
            f"memory with {size:,} entries",
            "",
            memory,
            goal=Goal(120.0, "value"),
            unit="MB",
            size=size,
            expected="flat",
        )
        log = open_file_log(place, signer, reserve=0)
        records = Records.of(log)
        search = Search(place / "index", records, ORIGIN)
        search.follower.catch_up()
        times: list[float] = []
        for number in range(40 * rounds):
            began = time.perf_counter()
            search.page({"kind": "policy"}, limit=100 if number % 2 else 50)
            times.append(time.perf_counter() - began)
        search.close()
        records.close()
        log.close()
        parts = [at_share(times[at::rounds], 0.95) for at in range(rounds)]
        yield Row(
            "search",
            f"a page of a search, p95, {size:,} entries",
            "",
            parts,
            goal=Goal(50.0, "value"),
            unit="ms",
            size=size,
            expected="flat",
        )
