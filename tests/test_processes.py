"""A process for each core: the same results in the same order, whatever happens to the copies; and a verification by them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import POLICY, Repo
from tools_cli import make

from benchmarks.verify import build
from safeai_git import parallel
from safeai_git.agents import catalogue
from safeai_git.core.edit import Edit
from safeai_git.core.message import Message
from safeai_git.git import content, facts, many_edits
from safeai_git.git.facts import FactReader, Origin
from safeai_git.git.reader import ProposalReader
from safeai_git.git.repository import discover
from safeai_git.git.working import MemoryStore
from safeai_git.parallel import TURN, in_processes, processes
from safeai_git.verify import LEAST_OF_A_PROCESS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are multiplied on Linux alone")

HERE = os.getpid
MANY = range(5 * TURN + 3)


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three processes, whatever the cores, and whatever threads other tests have left."""
    monkeypatch.setattr(parallel, "processes", lambda items, least: 3)


def copies() -> set[str]:
    """Children of this process with its own name, ended ones too: orphans of other tests may have become its own."""
    tasks = list(Path("/proc/self/task").iterdir())
    children = {child for task in tasks for child in (task / "children").read_text().split()}
    name = Path("/proc/self/comm").read_text()
    return {child for child in children if Path("/proc", child, "comm").read_text() == name}


@pytest.fixture
def before() -> set[str]:
    return copies()


@pytest.mark.usefixtures("three")
def test_results_come_in_order_and_from_elsewhere(before: set[str]) -> None:
    found = list(in_processes(lambda one: (one, HERE()), MANY, 1))
    assert [one for one, _ in found] == list(MANY)
    by = [{process for one, process in found if one // TURN % 3 == turn} for turn in range(3)]
    assert by[0] == {os.getpid()}
    assert [len(one) for one in by] == [1, 1, 1]
    assert len(set.union(*by)) == 3
    assert copies() <= before
    assert list(in_processes(lambda one: one, [], 1)) == []


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def failed() -> None:
    raise SystemExit(0)


def cut_off() -> None:
    os._exit(0)


def unsendable() -> object:
    return threading.Lock()


def in_the_middle_of_a_word() -> object:
    return HalfSent()


class HalfSent:
    """Says that it is longer than it is."""

    def __reduce__(self) -> Any:
        for descriptor in range(3, 256):
            with contextlib.suppress(OSError):
                if fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ) == parallel._BUFFER:
                    os.write(descriptor, (1_000).to_bytes(8) + b"x")
        os._exit(0)


def in_the_middle_of_what_looks_like_an_answer() -> object:
    return Forged()


class Forged:
    """Breaks off behind what would be an answer by itself, and is the beginning of one."""

    def __reduce__(self) -> Any:
        inner = pickle.dumps("forged")
        for descriptor in range(3, 256):
            with contextlib.suppress(OSError):
                if fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ) == parallel._BUFFER:
                    os.write(descriptor, (1_000).to_bytes(8) + (len(inner).to_bytes(8) + inner) * 9)
        os._exit(0)


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    "end",
    [
        killed,
        failed,
        cut_off,
        unsendable,
        in_the_middle_of_a_word,
        in_the_middle_of_what_looks_like_an_answer,
    ],
)
@pytest.mark.parametrize("when", [TURN, TURN + 1, 2 * TURN - 1, 4 * TURN])
def test_what_a_copy_does_not_bring_is_made_here(
    end: Callable[[], object], when: int, before: set[str]
) -> None:
    parent = os.getpid()

    def do(one: int) -> object:
        return end() if one == when and os.getpid() != parent else one

    assert list(in_processes(do, MANY, 1)) == list(MANY)
    assert copies() <= before


def stopped() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def asleep() -> None:
    signal.pause()


def asleep_within_a_word() -> object:
    return Half()


class Half(HalfSent):
    """Says that it is longer than it is, and no more."""

    def __reduce__(self) -> Any:
        for descriptor in range(3, 256):
            with contextlib.suppress(OSError):
                if fcntl.fcntl(descriptor, fcntl.F_GETPIPE_SZ) == parallel._BUFFER:
                    os.write(descriptor, (1_000).to_bytes(8) + b"x")
        signal.pause()
        return str, ()


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("hang", [stopped, asleep, asleep_within_a_word])
@pytest.mark.parametrize("when", [TURN, 2 * TURN + 1, 4 * TURN])
def test_a_copy_that_hangs_is_not_waited_for(
    hang: Callable[[], object], when: int, before: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "PATIENCE", 0.05)
    parent = os.getpid()

    def do(one: int) -> object:
        return hang() if one == when and os.getpid() != parent else one

    assert list(in_processes(do, MANY, 1)) == list(MANY)
    assert copies() <= before


@pytest.mark.usefixtures("three")
def test_what_a_copy_brings_too_late_is_taken_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended when it was given up: what it makes then is about another item than the one that is due."""
    monkeypatch.setattr(parallel, "PATIENCE", 0.05)
    monkeypatch.setattr(parallel, "TURN", 1)
    parent = os.getpid()
    go = os.pipe()

    def do(one: int) -> tuple[int, int]:
        if one == 1:
            if os.getpid() != parent:
                os.read(go[0], 1)  # until it was given up
            else:
                os.write(go[1], b"x")
        return one, os.getpid()

    found = list(in_processes(do, MANY, 1))
    for descriptor in go:
        os.close(descriptor)
    assert [one for one, _ in found] == list(MANY)
    assert found[1][1] == found[4][1] == parent


@pytest.mark.usefixtures("three")
def test_an_error_is_raised_where_it_would_have_been(before: set[str]) -> None:
    def do(one: int) -> int:
        if one == TURN + 4:
            raise ValueError("four")
        return one

    found: list[int] = []
    with pytest.raises(ValueError, match="four"):
        found.extend(in_processes(do, MANY, 1))
    assert found == list(range(TURN + 4))
    assert copies() <= before


@pytest.mark.usefixtures("three")
def test_who_stops_early_leaves_nobody_behind(before: set[str]) -> None:
    def do(one: int) -> int:
        if one >= TURN:
            signal.pause()
        return one

    given = in_processes(do, MANY, 1)
    assert next(given) == 0
    given.close()
    assert copies() <= before


@pytest.mark.usefixtures("three")
def test_a_copy_waits_until_somebody_takes_what_it_made(tmp_path: Path) -> None:
    parent = os.getpid()
    large = bytes(1 << 20)

    def do(one: int) -> bytes:
        if os.getpid() != parent:
            (tmp_path / str(one)).touch()
        return large

    given = in_processes(do, MANY, 1)
    next(given)
    first = tmp_path / str(TURN)
    while not first.exists():
        os.sched_yield()
    for _ in range(1_000):
        os.sched_yield()
    made = [one for one in range(TURN, 2 * TURN) if (tmp_path / str(one)).exists()]
    assert len(made) <= 3
    given.close()


@pytest.mark.usefixtures("three")
def test_without_a_file_to_spare_everything_is_made_here() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first_free = os.dup(0)
    os.close(first_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_free + 1, hard))  # one is free, a pipe takes two
    try:
        found = set(in_processes(lambda _: HERE(), MANY, 1))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == {os.getpid()}


def test_processes_are_worth_their_start(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = len(os.sched_getaffinity(0))
    with monkeypatch.context() as alone:  # threads that other tests left do not count
        alone.setattr(threading, "active_count", lambda: 1)
        assert [processes(items, 10) for items in (0, 19, 20, 1_000)] == [1, 1, min(2, cores), min(cores, 16)]
    ended = threading.Event()
    other = threading.Thread(target=ended.wait)
    other.start()
    assert processes(1_000, 10) == 1  # a copy would hold that thread's locks for ever
    ended.set()
    other.join()


@pytest.fixture
def three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(threading, "active_count", lambda: 1)


@pytest.mark.usefixtures("three_cores")
def test_copies_make_no_copies() -> None:
    def do(_: int) -> tuple[int, set[int]]:
        return HERE(), set(in_processes(lambda _: HERE(), MANY, 1))

    found = list(in_processes(do, MANY, 1))
    assert len({process for process, _ in found}) == 3
    assert all(within == {process} for process, within in found)
    assert len(set(in_processes(lambda _: HERE(), MANY, 1))) == 3, "afterwards there are copies again"


# The edits of a large change


@pytest.mark.usefixtures("three_cores")
def test_a_large_change_is_the_same_whoever_reads_it(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = make(tmp_path / "repository", environment)
    number = 300
    files: dict[str, str | bytes] = {f"src/f{at}.py": f"x = {at}\n" * at for at in range(number)}
    repo.commit("before", files)
    for at in range(number):
        repo.write(f"src/f{at}.py", f"y = {at}\n" + f"x = {at}\n" * (at // 2))
    repo.write("src/f3.py", b"\0binary")
    repo.write(
        "src/f40.py", "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 5\n"
    )
    repo.write("src/large.bin", b"z" * 20_000)
    (repo.path / "src/f77.py").unlink()
    (repo.path / "src/f78.py").unlink()
    (repo.path / "src/f78.py").symlink_to("../../outside")
    repo.git("add", "-A")

    def staged(many: int) -> tuple[Edit, ...]:
        monkeypatch.setattr(facts, "MANY", many)
        repository = discover(repo.path, environment)
        repository.brief = True
        try:
            return FactReader(repository, catalogue(), Origin()).staged().edits
        finally:
            repository.close()

    def without_copies(*_: object) -> int:
        raise AssertionError("no copies for so few")

    forks: list[int] = []
    fork = os.fork

    def counted() -> int:
        forks.append(1)
        return fork()

    monkeypatch.setattr(os, "fork", counted)
    monkeypatch.setattr(many_edits, "LEAST_OF_A_PROCESS", 50)
    monkeypatch.setattr(content, "LARGEST_READ", 10_000)
    for most in (content.MOST_READ, 300_000, 20_000, 0):
        monkeypatch.setattr(content, "MOST_READ", most)
        with monkeypatch.context() as alone:
            alone.setattr(parallel, "processes", without_copies)
            expected = staged(10_000)
        forks.clear()
        found = staged(100)
        assert found == expected
        assert len(forks) == 2, "two copies, and this one"
        unread = [one.path for one in found if "beyond the first" in one.unread]
        assert bool(unread) == (most < 400_000)
    (large,) = (one for one in found if one.path == b"src/large.bin")
    assert "larger than 10000 bytes" in large.unread


@pytest.mark.usefixtures("three_cores")
def test_one_git_is_not_shared_by_copies(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(facts, "MANY", 1)
    repo = make(tmp_path / "repository", environment, "--object-format=sha256")
    repo.commit("before", {"a.py": "a\n"})
    repo.write("a.py", "b\n")
    repo.git("add", "-A")
    repository = discover(repo.path, environment)
    with contextlib.closing(repository):
        assert not repository.store.serves_many()
        assert [one.path for one in FactReader(repository, catalogue(), Origin()).staged().edits] == [b"a.py"]
        assert not MemoryStore(repository.store).serves_many()


# A verification in as many processes as there are cores, against one in a single process


COMMITS = 2 * LEAST_OF_A_PROCESS + 20


def verified(repo: Repo, *, cores: int) -> list[dict[str, Any]]:
    code = (
        f"import os, runpy, sys; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{cores}]); "
        f"sys.argv[1:] = ['verify', 'HEAD~{COMMITS}..HEAD', '--format', 'jsonl']; runpy.run_module('safeai_git', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repo.path, env=repo.environment, capture_output=True, timeout=120)  # fmt: skip
    assert done.returncode == 1, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_liars_are_found_by_copies_too(tmp_path: Path, environment: dict[str, str]) -> None:
    folder = tmp_path / "repository"
    build(folder, environment, COMMITS)
    repo = Repo(folder, environment)
    names = repo.git("rev-list", "--reverse", f"HEAD~{COMMITS}..HEAD").split()
    last = names[-10:]
    ref = "--ref=safeai"

    def trees(name: str) -> list[str]:
        return [name, repo.git("rev-parse", f"{name}^{{tree}}")]

    # One without a verdict, one with another's, one whose signature was touched.
    missing, other, forged = last[1], last[4], last[7]
    repo.git("notes", ref, "remove", *trees(missing))
    line = repo.git("notes", ref, "show", last[5])
    for name in trees(other):
        repo.git("notes", ref, "add", "-f", "-m", line, name)
    envelope = json.loads(repo.git("notes", ref, "show", forged))
    signature = envelope["signatures"][0]["sig"]
    envelope["signatures"][0]["sig"] = ("B" if signature[0] == "A" else "A") + signature[1:]
    for name in trees(forged):
        repo.git(
            "notes", ref, "add", "-f", "-m", json.dumps(envelope, separators=(",", ":"), sort_keys=True), name
        )
    alone = verified(repo, cores=1)
    assert [one["commit"] for one in alone] == names
    bad = {one["commit"]: (one["status"], one["reason"]) for one in alone if one["status"] != "valid"}
    assert set(bad) == {missing, other, forged}
    assert bad[missing][0] == "missing"
    assert "is about tree" in bad[other][1]
    assert "does not hold" in bad[forged][1]
    assert verified(repo, cores=16) == alone


TWICE = """
import os, pickle, sys, time
from pathlib import Path
from safeai_git.commands.session import Session
from safeai_git.verify import Verifier
from safeai_git import parallel
from safeai_git.agents import catalogue
from safeai_git.core.message import Message
from safeai_git.git.facts import Origin
from safeai_git.git.reader import ProposalReader
from safeai_git.git.repository import discover
parallel.TURN = 1
session = Session(Path.cwd(), os.environ)
head = session.repository.head()
base = session.repository.commit_id(sys.argv[1])
made = [list(Verifier(session.repository, session.trust(), now=time.time, least=least).range(base, head)) for least in (10**9, 1)]
assert made[0] == made[1], made
assert pickle.loads(pickle.dumps(made[0])) == made[0]  # or no copy could bring its part
print(" ".join(one.status for one in made[1]))
"""


def test_checks_are_owed_and_paid_across_processes(governed: Repo) -> None:
    """What a step owes is paid at the end of its range, which another process may have verified."""
    check = "checks:\n  - {name: unit, run: 'test -f src/a.py', paths: [src/]}\n"
    base = governed.commit("check", {".safeai/policy.yaml": POLICY + check})
    for number in range(4):
        governed.commit(f"step {number}", {f"src/f{number}.py": "x = 1\n"}, ai=True)
    done = governed.safeai("check", "--range", f"{base}..HEAD")
    if done.code == 3:
        pytest.skip(f"no sandbox here: {done.both[-200:]}")
    assert done.code == 0, done.both

    def both() -> list[str]:
        ran = subprocess.run([sys.executable, "-c", TWICE, base], cwd=governed.path, env=governed.environment, capture_output=True, text=True, timeout=120)  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.split()

    assert both() == ["valid"] * 4
    # A range that ends at a step: nobody replayed what lands there.
    governed.git("reset", "-q", "--hard", "HEAD~1")
    assert both() == ["valid", "valid", "invalid"]


@pytest.mark.usefixtures("three")
def test_a_range_is_read_by_copies_as_by_one(
    governed: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = governed.git("rev-parse", "HEAD")
    for number in range(3):
        governed.commit(f"step {number}", {f"src/f{number}.py": f"x = {number}\n"}, ai=True)
    governed.git("checkout", "-q", "-b", "side", base)
    governed.commit("aside", {"src/side.py": "y = 1\n", "src/link.py": "z\n"})
    governed.git("merge", "-q", "--no-edit", "main")
    governed.commit("bytes", {"docs/a": b"\x00\xff"})
    tree = governed.git("rev-parse", "HEAD^{tree}")
    odd = f"tree {tree}\nparent {governed.git('rev-parse', 'HEAD')}\nauthor ?\ncommitter ?\n\nodd\n".encode()
    head = governed.git("hash-object", "-t", "commit", "-w", "--stdin", "--literally", stdin=odd)
    monkeypatch.setattr(parallel, "TURN", 1)

    def read() -> list[Any]:
        repository = discover(governed.path, governed.environment)
        try:
            return list(ProposalReader(repository, catalogue(), Origin()).range(base, head))
        finally:
            repository.close()

    by_several = read()
    monkeypatch.setattr(parallel, "processes", lambda items, least: 1)
    by_one = read()
    assert by_several == by_one
    messages = [one.attribution.message for one in by_one]
    assert [one.attribution.message for one in by_several] == messages
    assert {type(one) for one in messages} == {Message, type(None)}
    assert [one.kind for one in by_one].count("merge") == 1
    assert any(one.malformed_commit for one in by_one)
