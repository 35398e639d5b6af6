"""``python -m benchmarks.audit_log``: the audit log beside a bare write and fdatasync, in turns, as medians and ratios.

Entries of some 600 bytes, ready before the clock runs. One submitter waits for each receipt; 64 do so in one event loop.
Then: reading the log at a start, and verifying it. Everything on the file system of the folder that is named.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from safeai_git.audit import verify_file
from safeai_git.core.log.entry import Draft
from safeai_git.governor.audit_log import AuditLog, Ticket
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.open_log import open_file_log
from safeai_git.keys.ed25519 import Ed25519Signer

ORIGIN = "governor.example/benchmark"
RECORD = 600
CLIENTS = 64
READY = 1500
"""Drafts that are ready for each client in each round."""


def drafts(label: str, count: int) -> list[Draft]:
    return [
        Draft.of_data("policy", f"{label}-{number}", {"filling": "x" * (RECORD - 160)})
        for number in range(count)
    ]


def bare(folder: Path, batch: int, seconds: float) -> tuple[float, list[float]]:
    """Records a second of one write and one fdatasync for a batch."""
    data, times, end = b"x" * RECORD * batch, [], time.perf_counter() + seconds
    descriptor = os.open(folder / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    while (began := time.perf_counter()) < end:
        os.write(descriptor, data)
        os.fdatasync(descriptor)
        times.append(time.perf_counter() - began)
    os.close(descriptor)
    (folder / "bare").unlink()
    return batch * len(times) / seconds, times


def one(log: AuditLog, label: str, seconds: float) -> tuple[float, list[float]]:
    ready, times = drafts(label, 20_000), []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        log.append(ready[len(times)])
        times.append(time.perf_counter() - began)
    return len(times) / seconds, times


async def many(log: AuditLog, label: str, seconds: float) -> tuple[float, list[float]]:
    loop, times = asyncio.get_running_loop(), list[float]()
    ready = [drafts(f"{label}-{client}", READY) for client in range(CLIENTS)]
    waiting: dict[int, asyncio.Future[None]] = {}

    def answered(tickets: Sequence[Ticket]) -> None:
        for ticket in tickets:
            waiting.pop(id(ticket)).set_result(None)

    def wake(tickets: Sequence[Ticket]) -> None:
        loop.call_soon_threadsafe(answered, tickets)

    end = time.perf_counter() + seconds

    async def client(mine: list[Draft]) -> None:
        for draft in mine:
            if (began := time.perf_counter()) >= end:
                return
            done = loop.create_future()
            ticket = log.submit((draft,), wake)
            waiting[id(ticket)] = done
            await done
            ticket.wait()
            times.append(time.perf_counter() - began)

    await asyncio.gather(*(client(mine) for mine in ready))
    return len(times) / seconds, times


def shown(name: str, rates: list[float], times: list[float]) -> None:
    ordered = sorted(times)
    middle, late = (1000 * ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.99))
    print(f"{name:24} {statistics.median(rates):10,.0f} /s   p50 {middle:6.2f} ms   p99 {late:6.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    signer = LogSigner(ORIGIN, [Ed25519Signer.of(Ed25519PrivateKey.generate())])
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
        folder = Path(scratch)
        log = open_file_log(folder, signer, reserve=0)
        rates: dict[str, list[float]] = {}
        times: dict[str, list[float]] = {}
        for number in range(asked.rounds):
            for name, (rate, took) in (
                ("bare, 1", bare(folder, 1, asked.seconds)),
                ("log, 1 submitter", one(log, f"one{number}", asked.seconds)),
                (f"bare, {CLIENTS}", bare(folder, CLIENTS, asked.seconds)),
                (f"log, {CLIENTS} submitters", asyncio.run(many(log, f"many{number}", asked.seconds))),
            ):
                rates.setdefault(name, []).append(rate)
                times.setdefault(name, []).extend(took)
        size = log.store.size
        log.close()
        print(f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
        for name, found in rates.items():
            shown(name, found, times[name])
        middle = {name: statistics.median(found) for name, found in rates.items()}
        print(f"ratio, 1 submitter       {middle['log, 1 submitter'] / middle['bare, 1']:.2f}")
        print(
            f"ratio, {CLIENTS} submitters     {middle[f'log, {CLIENTS} submitters'] / middle[f'bare, {CLIENTS}']:.2f}"
        )
        began = time.perf_counter()
        open_file_log(folder, signer, reserve=0).close()
        print(f"start                    {size / (time.perf_counter() - began):10,.0f} entries/s of {size:,}")
        began = time.perf_counter()
        report = verify_file(folder / "audit.log", keys=signer.keys)
        took = time.perf_counter() - began
        print(f"verify                   {size / took:10,.0f} entries/s, {report.commits:,} checkpoints")


main()
