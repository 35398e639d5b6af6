"""The file store is killed, and its disk fails, at every system call of an append; then under load, by chance.

Whatever happened, a new start must find: every acknowledged entry once, at its place; nothing half; every checkpoint
that was handed out still true.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tools_log import LOG_KEY, LOG_SIGNER, ORIGIN

from safeai_git.audit import Anchor, verify_file
from safeai_git.core.log.entry import Draft, Entry
from safeai_git.governor.audit_log import Receipt
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.open_log import open_file_log
from safeai_git.governor.stores.file import FileStore, Identity
from safeai_git.governor.stores.port import LogFailed, LogFull
from safeai_git.keys.ed25519 import verify

HERE = Path(__file__).parent
STRACE = shutil.which("strace")

OPENING = "openat flock ftruncate pwrite64 fadvise64 fstat newfstatat fstatfs write pread64 fdatasync fsync rename chmod"
APPENDING = "write fdatasync pread64 fstat newfstatat fstatfs futex"
KILLED = [("steps", call) for call in OPENING.split()] + [("appends", call) for call in APPENDING.split()]
FAILING = [
    ("steps", "write", "EIO"),
    ("steps", "fdatasync", "EIO"),
    ("steps", "pread64", "EIO"),
    ("steps", "fsync", "EIO"),
    ("steps", "rename", "EIO"),
    ("steps", "rename", "ENOSPC"),
    ("steps", "openat", "EIO"),
    ("steps", "openat", "ENOSPC"),
    ("steps", "ftruncate", "EIO"),
    ("appends", "write", "EIO"),
    ("appends", "write", "ENOSPC"),
    ("appends", "fdatasync", "EIO"),
    ("appends", "fdatasync", "ENOSPC"),
    ("appends", "pread64", "EIO"),
    ("appends", "fstatfs", "EIO"),
]
"""Calls are counted by thread: the one that opens the log and the one that writes to it are attached to separately."""

LEAST = {
    ("steps", "openat"): 5,
    ("appends", "write"): 6,
    ("appends", "fdatasync"): 3,
    ("appends", "pread64"): 3,
}
"""How many different calls must have been hit, so that a case cannot pass by missing."""

MOST_CALLS = 60
"""More calls of one kind than an opening, three appends and a closing make."""


@dataclass
class Run:
    """What a child said before it ended."""

    acks: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    code: int = 0


class Children:
    """One process that forks the processes to be killed."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "log_child.py")],
            cwd=HERE.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert self.process.stdin
        assert self.process.stdout
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.lines = iter(self.stdout.readline, b"")
        self.ahead = b""

    def start(self, mode: str, folder: Path | str, first: int) -> int:
        self.stdin.write(f"{mode} {folder} {first}\n".encode())
        word, pid = next(self.lines).decode().split()
        assert word == "pid"
        return int(pid)

    def go(self) -> None:
        self.stdin.write(b"go\n")
        word = next(self.lines)
        # Killed in its first write, it says nothing; then the end is what comes.
        self.ahead = b"" if word == b"begun\n" else word

    def read(self, run: Run) -> bool:
        """Read a line; whether the child goes on."""
        text, self.ahead = (self.ahead or next(self.lines)).decode(), b""
        if text.startswith("ack "):
            number, index, note = text.split()[1:]
            assert int(number) not in run.acks
            run.acks[int(number)] = (int(index), b64decode(note))
        elif text.startswith("end "):
            run.code = int(text.split()[1])
            return False
        else:
            run.words.append(text)
        return True


@pytest.fixture(scope="module")
def children() -> Iterator[Children]:
    made = Children()
    yield made
    made.stdin.close()
    assert made.process.wait(60) == 0
    made.stdout.close()


@pytest.fixture
def strace() -> str:
    if STRACE is None:
        pytest.skip("strace is needed to make system calls fail; apt-get install strace")
    tried = subprocess.run(
        [STRACE, "-o", os.devnull, "-e", "inject=chdir:error=EIO", "true"], capture_output=True
    )
    if tried.returncode != 0:
        pytest.skip(f"strace may not trace here: {tried.stderr.decode(errors='replace').strip()[:200]}")
    return STRACE


def injected(children: Children, strace: str, folder: Path, what: str, mode: str = "steps") -> Run:
    """Run three appends with a fault injected."""
    pid = children.start(mode, folder, 0)
    tracer = subprocess.Popen(
        [strace, "-f", "-p", str(pid), "-o", os.devnull, "-e", f"inject={what}"], stderr=subprocess.PIPE
    )
    assert tracer.stderr
    attached = tracer.stderr.readline().decode()
    if "attached" not in attached:
        children.go()
        while children.read(Run()):
            pass
        tracer.wait()
        pytest.skip(f"strace may not attach to a process here: {attached.strip()}")
    children.go()
    run = Run()
    while children.read(run):
        pass
    tracer.stderr.close()
    tracer.wait()
    return run


def draft(number: int) -> Draft:
    return Draft.of_data("policy", f"id-{number}", {"number": number, "filling": "x" * (number * 37 % 900)})


def restarted(folder: Path, run: Run, submitted: int) -> None:
    """Start again, as the Governor does, and hold the log against everything that was acknowledged."""
    log = open_file_log(folder, LogSigner(ORIGIN, [LOG_SIGNER]), reserve=0)
    for number, (index, _) in run.acks.items():
        entry = Entry.parse(log.store.entry(index))
        assert entry.rest == draft(number).rest, "an acknowledged entry is at its place"
    found = [Entry.parse(log.store.entry(index)) for index in range(log.store.size)]
    kinds = [one.kind for one in found]
    assert kinds.count("start") == 1
    ids = [one.id for one in found if one.kind == "policy"]
    assert len(ids) == len(set(ids)) <= submitted
    for number in list(run.acks)[-2:]:
        again = log.append(draft(number))
        assert isinstance(again, Receipt)
        assert (again.index, again.repeated) == (run.acks[number][0], True)
    assert isinstance(log.append(Draft.of_data("policy", f"after-{log.store.size}", {})), Receipt)
    log.close()
    anchors = [Anchor(f"ack {number}", note) for number, (_, note) in list(run.acks.items())[-5:]]
    report = verify_file(folder / "audit.log", keys=[LOG_KEY], anchors=anchors)
    assert report.state == "consistent", report.faults
    assert len(report.anchors) == len(anchors)


def cases(children: Children, strace: str, folder: Path, what: str, mode: str) -> Iterator[tuple[int, Run]]:
    """Every call of a kind in turn, each on a log of its own, until there is no such call any more."""
    for nth in range(1, MOST_CALLS):
        here = folder / str(nth)
        here.mkdir()
        run = injected(children, strace, here, f"{what}:when={nth}", mode)
        yield nth, run
        if run.code == 0:
            assert set(run.acks) == {0, 1, 2}
            return
        shutil.rmtree(here)
    raise AssertionError("there is no end of these calls")


@pytest.mark.parametrize(("mode", "call"), KILLED)
def test_a_kill_at_every_call_loses_nothing(
    children: Children, strace: str, tmp_path: Path, mode: str, call: str
) -> None:
    killed = 0
    for nth, run in cases(children, strace, tmp_path, f"{call}:signal=KILL", mode):
        assert run.code in (0, -9), (nth, run.words)
        killed += run.code == -9
        restarted(tmp_path / str(nth), run, 3)
    assert killed >= LEAST.get((mode, call), 0), killed


@pytest.mark.parametrize(("mode", "call", "error"), FAILING)
def test_a_failing_call_ends_the_log_and_loses_nothing(
    children: Children, strace: str, tmp_path: Path, mode: str, call: str, error: str
) -> None:
    failed = 0
    for nth, run in cases(children, strace, tmp_path, f"{call}:error={error}", mode):
        assert run.code in (0, 1), (nth, run.words)
        assert "later success\n" not in run.words
        failed += run.code == 1
        restarted(tmp_path / str(nth), run, 6)
    assert failed >= LEAST.get((mode, call), 0), failed


def test_a_kill_in_a_recovery_is_recovered(children: Children, strace: str, tmp_path: Path) -> None:
    """The torn end of one crash, and another crash in the middle of moving it aside."""
    base = tmp_path / "base"
    base.mkdir()
    log = open_file_log(base, LogSigner(ORIGIN, [LOG_SIGNER]), reserve=0)
    log.append(draft(50))
    log.close()
    with (base / "audit.log").open("ab") as file:
        file.write(b'{"seq":2,"prev":"torn')
    for call in ("openat", "write", "rename", "ftruncate", "fsync", "fdatasync"):
        for nth in range(1, MOST_CALLS):
            here = tmp_path / f"{call}-{nth}"
            shutil.copytree(base, here)
            run = injected(children, strace, here, f"{call}:signal=KILL:when={nth}")
            restarted(here, run, 4)
            kept = [path.read_bytes() for path in here.glob("audit.log.torn-*")]
            assert kept
            assert set(kept) == {b'{"seq":2,"prev":"torn'}
            shutil.rmtree(here)
            if run.code == 0:
                break


def test_two_hundred_kills_under_load_lose_nothing(children: Children, tmp_path: Path) -> None:
    """Eight submitters, killed after a random number of answers; the same log, two hundred times."""
    chance = random.Random(20)
    run, submitted = Run(), 0
    for round_number in range(200):
        first = round_number * 100_000
        pid = children.start("load", tmp_path, first)
        children.go()
        for _ in range(chance.choice([0, 0, 1, 2, 5, 20])):
            assert children.read(run), run.words
        os.kill(pid, 9)
        while children.read(run):
            pass
        assert run.code == -9
        assert not run.words
        submitted = len(run.acks) + 8 * (round_number + 1)
        if round_number % 50 == 49:
            restarted(tmp_path, run, submitted)
    assert len(run.acks) > 500


def test_the_sync_comes_before_the_answer(children: Children, strace: str, tmp_path: Path) -> None:
    """The order of calls, from the outside: entries, sync, commit line, and only then the word that it is done."""
    pid = children.start("steps", tmp_path, 0)
    trace = tmp_path / "trace"
    tracer = subprocess.Popen(
        [strace, "-f", "-p", str(pid), "-o", str(trace), "-s", "20", "-e", "trace=write,fdatasync"],
        stderr=subprocess.PIPE,
    )
    assert tracer.stderr
    attached = tracer.stderr.readline().decode()
    children.go()
    while children.read(Run()):
        pass
    tracer.stderr.close()
    tracer.wait()
    if "attached" not in attached:
        pytest.skip(f"strace may not attach to a process here: {attached.strip()}")
    order = []
    for line in trace.read_text().splitlines():
        for mark, name in [
            (r'"{\"seq\":', "entries"),
            (r'"{\"checkpoint', "commit"),
            ('"ack ', "answer"),
            ("fdatasync(", "sync"),
        ]:
            if mark in line:
                order.append(name)
    text = " ".join(order)
    assert text.count("entries sync commit answer") == 3, text
    assert order.count("answer") == 3


# disk full, for real


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_ends_the_log_and_room_brings_it_back(small_disk: Path) -> None:
    folder = small_disk / "data"
    folder.mkdir()
    log = open_file_log(folder, LogSigner(ORIGIN, [LOG_SIGNER]), reserve=0)
    run = Run()
    number = 0

    def fill() -> None:
        nonlocal number
        for number in range(10_000):
            result = log.append(draft(number))
            assert isinstance(result, Receipt)
            run.acks[number] = (result.index, result.checkpoint)

    with pytest.raises(LogFailed, match="No space left on device"):
        fill()
    with pytest.raises(LogFailed):
        log.append(draft(number))
    log.close()
    assert len(run.acks) > 20
    # More room, as when an operator grows the volume.
    subprocess.run(["mount", "-o", "remount,size=512k", str(small_disk)], check=True)
    restarted(folder, run, number + 1)


def test_the_reserve_refuses_before_the_disk_is_full(small_disk: Path) -> None:
    store = FileStore.open_folder(small_disk, Identity(ORIGIN, (LOG_KEY,), verify), reserve=32 * 1024)

    def fill() -> None:
        for number in range(1000):
            store.append([draft(number)], 1_767_323_045_000)

    with pytest.raises(LogFull):
        fill()
    size = store.size
    assert size > 5, "some were taken"
    filler = os.statvfs(small_disk)
    assert filler.f_bavail * filler.f_frsize >= 28 * 1024
    subprocess.run(["mount", "-o", "remount,size=512k", str(small_disk)], check=True)
    assert store.append([draft(9999)], 1_767_323_045_000).size == size + 1
    store.close()
