"""``python -m benchmarks.scale``: an organisation's day against one Governor, as fast as this machine allows.

10,000 repositories with 50 verdicts a day each are 5.8 verdicts a second on average and ten times that in the busiest
hour. A Governor as people start it, with the file store, gets signed verdicts of all of them over real connections,
each in a request of its own, at moments that do not wait for its answers (Poisson): first at the average rate, then at
that of the busiest hour, then at rates that grow until it no longer keeps up. A time is counted from the moment at
which the request was due, so waiting counts. In the end batches fill the log, and it is searched, read and started
again. This process, which sends, shares the machine's processors with the Governor; its own use is told beside.

    python -m benchmarks.scale [--repositories 10000] [--per-day 50] [--peak 10] [--seconds 20] [--fill 50000]

The tables are printed and written to ``build/scale.md``, the figures to ``build/scale.json``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from benchmarks.audit_log import at_share
from benchmarks.governor_http import request, send, served, started
from benchmarks.measure import machine
from benchmarks.statements import statement
from benchmarks.sync import pid_of
from safeai_git.core.log.entry import Draft, format_time
from safeai_git.governor.stores.state import State
from safeai_git.keys.ed25519 import Ed25519Signer
from safeai_git.keys.seal import seal

DAY = 86_400
CONNECTIONS = 512
"""Most that are open at once; past it a request waits for one, and that counts as its time."""

GROWTH = 1.5
STEP_SECONDS = 5.0
MOST_STEPS = 14
LATE_MS = 1_000.0
"""A rate is kept up with while 99 of 100 answers come within this, and the last one this long after it was due."""

PATIENCE = 300.0
"""Seconds that the search index may be behind."""

TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Step:
    """What came of one rate.

    Attributes:
        name: Which one.
        rate: Verdicts a second that were due.
        verdicts: How many were sent, and answered.
        errors: Answers that were no receipt.
        p50, p95, p99: Milliseconds from the moment at which a request was due until its answer was there.
        behind: Seconds from the moment at which the last one was due until every answer was there.
        processor: Milliseconds of processor that the Governor took for a verdict, its search index included.
        busy: Processors that the Governor kept busy; one process of Python rarely gets past one.
        sender: Processors that this process kept busy.
        syncing: Share of the time in which the disk synced.
        log: Bytes that each verdict added to the log.
        memory: Megabytes that the Governor held at the end.
    """

    name: str
    rate: float
    verdicts: int
    errors: int
    p50: float
    p95: float
    p99: float
    behind: float
    processor: float
    busy: float
    sender: float
    syncing: float
    log: float
    memory: float

    @property
    def kept_up(self) -> bool:
        return not self.errors and max(self.p99, self.behind * 1000) <= LATE_MS


@dataclass(frozen=True)
class Reading:
    """What the system says at a moment: seconds, and bytes of the log."""

    at: float
    processor: float
    sender: float
    syncing: float
    log: int


def processor(pid: int) -> float:
    """Seconds of processor that a process took so far (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory(pid: int) -> float:
    """Megabytes of memory that it holds."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def settle(folder: Path, entries: float) -> None:
    """Wait until the search index has taken in so many entries."""
    until = time.monotonic() + PATIENCE
    with closing(sqlite3.connect(f"file:{folder / 'search.sqlite'}?mode=ro", uri=True)) as reading:
        while reading.execute("SELECT size FROM about").fetchone()[0] < entries:
            if time.monotonic() > until:
                raise SystemExit("the search index does not keep up")
            time.sleep(0.05)


class Sender:
    """Sends requests when they are due, whatever became of those before."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.times: list[float] = []
        self.errors = 0

    async def _one(self, data: bytes, due: float, free: asyncio.Semaphore) -> None:
        async with free:
            reader, writer = (
                self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
            )
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            self.times.append(time.perf_counter() - due)
            self.errors += head[9:12] != b"201"
            self._idle.append((reader, writer))

    async def run(self, requests: Sequence[bytes], pauses: Iterator[float]) -> float:
        """Send them with these pauses; how many seconds after the last was due everything was answered."""
        free = asyncio.Semaphore(CONNECTIONS)
        due = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for data in requests:
                due += next(pauses)
                if (left := due - time.perf_counter()) > 0:
                    await asyncio.sleep(left)
                tasks.create_task(self._one(data, due, free))
        behind = time.perf_counter() - due
        for _, writer in self._idle:
            writer.close()
        return behind


class Scene:
    """A Governor under load, and the organisation that loads it."""

    def __init__(self, folder: Path, port: int, token: str, signer: Ed25519Signer, repositories: int) -> None:
        self._folder = folder
        self.port, self._token, self._signer = port, token, signer
        self._chance = random.Random(1)
        self._repositories = repositories
        self._number = 0
        self.pid = pid_of(port)
        self.empty = processor(self.pid)

    def repository(self) -> str:
        number = self._chance.randrange(self._repositories)
        return f"github.com/example-{number // 100}/service-{number}"

    def envelopes(self, count: int) -> list[bytes]:
        """Signed verdicts, each on a commit of its own."""
        made = []
        for _ in range(count):
            self._number += 1
            made.append(seal(statement(self._number, self.repository()), [self._signer]).format())
        return made

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            found = re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def read(self) -> Reading:
        own = os.times()
        return Reading(
            time.perf_counter(),
            processor(self.pid),
            own.user + own.system,
            self.metric("safeai_log_sync_seconds_sum"),
            (self._folder / "audit.log").stat().st_size,
        )

    def step(self, name: str, rate: float, span: float) -> Step:
        """That many verdicts a second for so long."""
        requests = [request(one, self._token) for one in self.envelopes(max(20, round(rate * span)))]
        sender = Sender(self.port)
        before = self.read()
        behind = asyncio.run(sender.run(requests, (self._chance.expovariate(rate) for _ in requests)))
        end = self.read()
        settle(self._folder, self.metric("safeai_log_entries"))
        count, took = len(requests), end.at - before.at
        return Step(
            name,
            rate,
            count,
            sender.errors,
            at_share(sender.times, 0.5),
            at_share(sender.times, 0.95),
            at_share(sender.times, 0.99),
            behind=behind,
            processor=(processor(self.pid) - before.processor) * 1000 / count,
            busy=(end.processor - before.processor) / took,
            sender=(end.sender - before.sender) / took,
            syncing=(end.syncing - before.syncing) / took,
            log=(end.log - before.log) / count,
            memory=memory(self.pid),
        )

    def fill(self, count: int) -> None:
        """Grow the log by the hundred."""
        for _ in range(0, count, 10_000):
            many = self.envelopes(min(count, 10_000))
            bodies = [
                b'{"envelopes":[' + b",".join(many[at : at + 100]) + b"]}" for at in range(0, len(many), 100)
            ]
            send(self.port, [request(one, self._token) for one in bodies], 4)

    def ask(self, path: str) -> tuple[float, int]:
        """Milliseconds and bytes of an answer; the median of eleven."""
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        asked.add_header("Authorization", f"Bearer {self._token}")
        times, size = [], 0
        for _ in range(11):
            began = time.perf_counter()
            with urllib.request.urlopen(asked) as answer:
                size = len(answer.read())
            times.append((time.perf_counter() - began) * 1000)
        return sorted(times)[5], size


def rates(scene: Scene, asked: argparse.Namespace) -> list[Step]:
    """The average, the busiest hour, and up from there until it does not keep up."""
    mean = asked.repositories * asked.per_day / DAY
    scene.step("warm up", 50.0, 2.0)
    steps = [
        scene.step("the day's average", mean, asked.seconds),
        scene.step("the busiest hour", mean * asked.peak, asked.seconds),
    ]
    rate = mean * asked.peak
    for _ in range(MOST_STEPS):
        rate *= GROWTH
        steps.append(scene.step("up", rate, STEP_SECONDS))
        print(f"  {rate:,.0f}/s: p99 {steps[-1].p99:,.0f} ms", file=sys.stderr)
        if not steps[-1].kept_up:
            break
    return steps


def facts(scene: Scene, folder: Path, count: int) -> dict[str, float]:
    """What a full log costs who reads it, and what it weighs."""
    before = processor(scene.pid)
    scene.fill(count)
    settle(folder, scene.metric("safeai_log_entries"))
    entries = int(scene.metric("safeai_log_entries"))
    found = {
        "entries": float(entries),
        "by the hundred, ms of processor": (processor(scene.pid) - before) * 1000 / count,
    }
    for name, path in (
        ("one repository", f"/v1/entries?repository={scene.repository()}"),
        ("the newest", "/v1/entries"),
        ("those denied", "/v1/entries?decision=deny"),
    ):
        found[f"search, {name}, ms"] = scene.ask(path)[0]
    for name, path in (("hashes", "/log/tile/0/000"), ("entries", "/log/tile/entries/000")):
        took, size = scene.ask(path)
        found[f"tile of {name}, ms"], found[f"tile of {name}, bytes an entry"] = took, size / 256
    return found


def started_again(folder: Path, entries: float, empty: float) -> dict[str, float]:
    """What a start on that log takes beyond one on an empty one, and what lies on disk when nobody writes."""
    sizes = {one.name: one.stat().st_size / entries for one in folder.iterdir() if one.is_file()}
    began = time.perf_counter()
    with started(folder) as port:
        took, pid = time.perf_counter() - began, pid_of(port)
        used = processor(pid) - empty
        found = {
            "log, bytes an entry": sizes["audit.log"],
            "index, bytes an entry": sizes["search.sqlite"],
            "a start, s": took,
            "a start, µs of processor an entry": used * 1e6 / entries,
            "memory after a start, MB": memory(pid),
        }
    (folder / "search.sqlite").unlink()
    with started(folder) as port:
        settle(folder, entries)
        found["the index made anew, µs of processor an entry"] = (
            (processor(pid_of(port)) - empty - used) * 1e6 / entries
        )
    return found


def remembered() -> float:
    """Bytes of memory that each entry takes for good: what the file store remembers of a million, in a new process."""
    code = "import benchmarks.scale as here; print(here.remember(1_000_000))"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)


def remember(count: int) -> float:
    line = Draft.of_data("policy", "another", {}).format(0, "", format_time(0))
    state = State(lambda _index: line)
    before = memory(os.getpid())
    for number in range(count):
        key = f"{number:064x}"
        state.find(key)
        state.remember(key, sha256(key.encode()).digest(), number)
    return (memory(os.getpid()) - before) * 2**20 / count


def first_to_go(step: Step) -> str:
    """What had least left at that rate."""
    if step.syncing > 0.8:
        return "the disk: it syncs nearly all the time"
    if step.busy > 0.8:
        return "the processor: one process of Python is busy on one"
    if step.busy + step.sender > 0.8 * (os.cpu_count() or 1):
        return "the machine's processors, shared with the sender"
    return "nothing of the Governor's: something else kept the machine busy"


def written(steps: Sequence[Step], found: dict[str, float], asked: argparse.Namespace) -> str:
    lines = [
        "| load | due /s | verdicts | errors | p50 ms | p95 ms | p99 ms | processor ms each | processors | sender's | syncing | log bytes each | memory MB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.name} | {one.rate:,.1f} | {one.verdicts:,} | {one.errors} | {one.p50:,.1f} | {one.p95:,.1f} |"
        f" {one.p99:,.1f} | {one.processor:.2f} | {one.busy:.2f} | {one.sender:.2f} | {one.syncing:.0%} |"
        f" {one.log:,.0f} | {one.memory:,.0f} |"
        for one in steps
    ]
    kept = [one for one in steps if one.kept_up]
    day = asked.repositories * asked.per_day
    lines += ["", f"Highest rate kept up with: {max((one.rate for one in kept), default=0):,.0f} a second."]
    lines += [f"First to go: {first_to_go(steps[-1])}.", "", "| what | figure |", "|---|---|"]
    lines += [f"| {name} | {value:,.2f} |" for name, value in found.items()]
    busiest = steps[1]
    per_day = (busiest.log + found["index, bytes an entry"]) * day / 1e9
    lines += [
        "",
        f"{day:,.0f} verdicts a day: {per_day:.2f} GB a day on disk, {per_day * 365:,.0f} GB a year;",
    ]
    lines += [f"{busiest.processor * day / 1000 / 3600:.2f} hours of one processor a day."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repositories", type=int, default=10_000)
    parser.add_argument("--per-day", type=float, default=50.0, help="verdicts of each")
    parser.add_argument(
        "--peak", type=float, default=10.0, help="the busiest hour, as a multiple of the average"
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of the average, and of the busiest hour")
    parser.add_argument("--fill", type=int, default=50_000, help="verdicts by the hundred in the end")
    parser.add_argument("--folder", type=Path, help="on which file system; default: that for temporary files")
    parser.add_argument("--to", type=Path, default=Path("build"), help="where the results go")
    asked = parser.parse_args()
    before = machine()
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
        data = Path(scratch) / "governor"
        with served(Path(scratch)) as (port, token, signer):
            scene = Scene(data, port, token, signer, asked.repositories)
            steps = rates(scene, asked)
            found = facts(scene, data, asked.fill)
        found["memory, bytes an entry"] = remembered()
        found |= started_again(data, found["entries"], scene.empty)
    text = f"{before}\nafterwards: {machine().rpartition(', ')[2]}\n\n{written(steps, found, asked)}\n"
    print(text)
    asked.to.mkdir(parents=True, exist_ok=True)
    (asked.to / "scale.md").write_text(text)
    kept = {"machine": before, "steps": [asdict(one) for one in steps], "facts": found}
    (asked.to / "scale.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
