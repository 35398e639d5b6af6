"""A process for each core: the same results in the same order, whatever happens to the copies; and a verification by them."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import POLICY, Repo

from benchmarks.verify import build
from safeai_git.parallel import in_processes, shares
from safeai_git.verify import LEAST_OF_A_PROCESS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are multiplied on Linux alone")

HERE = os.getpid
PARTS = [range(3), range(3, 6), range(6, 8)]


def copies() -> set[str]:
    """Children of this process with its own name, ended ones too: orphans of other tests may have become its own."""
    tasks = list(Path("/proc/self/task").iterdir())
    children = {child for task in tasks for child in (task / "children").read_text().split()}
    name = Path("/proc/self/comm").read_text()
    return {child for child in children if Path("/proc", child, "comm").read_text() == name}


@pytest.fixture
def before() -> set[str]:
    return copies()


def test_results_come_in_order_and_from_elsewhere(before: set[str]) -> None:
    def do(part: Sequence[int]) -> Iterator[tuple[int, int]]:
        return ((one, HERE()) for one in part)

    found = list(in_processes(do, PARTS))
    assert [one for one, _ in found] == list(range(8))
    assert len({process for _, process in found}) == 3
    assert {process for one, process in found if one < 3} == {os.getpid()}
    assert copies() <= before
    assert list(in_processes(do, [])) == []


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def failed() -> None:
    raise SystemExit(0)


def cut_off() -> None:
    os._exit(0)


@pytest.mark.parametrize("end", [killed, failed, cut_off])
def test_what_a_copy_does_not_bring_is_made_here(end: Callable[[], None], before: set[str]) -> None:
    parent = os.getpid()

    def do(part: Sequence[int]) -> Iterator[int]:
        for one in part:
            if one == 4 and os.getpid() != parent:
                end()
            yield one

    assert list(in_processes(do, PARTS)) == list(range(8))
    assert copies() <= before


def test_an_error_is_raised_where_it_would_have_been(before: set[str]) -> None:
    def do(part: Sequence[int]) -> Iterator[int]:
        for one in part:
            if one == 4:
                raise ValueError("four")
            yield one

    found: list[int] = []
    with pytest.raises(ValueError, match="four"):
        found.extend(in_processes(do, PARTS))
    assert found == [0, 1, 2, 3]
    assert copies() <= before


def test_who_stops_early_leaves_nobody_behind(before: set[str]) -> None:
    def do(part: Sequence[int]) -> Iterator[int]:
        for one in part:
            if one >= 3:
                signal.pause()
            yield one

    given = in_processes(do, PARTS)
    assert next(given) == 0
    given.close()
    assert copies() <= before


def test_without_a_file_to_spare_everything_is_made_here() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    first_free = os.dup(0)
    os.close(first_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_free + 1, hard))  # one is free, a pipe takes two
    try:
        found = list(in_processes(lambda part: [HERE() for _ in part], PARTS))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert found == [os.getpid()] * 8


def test_shares_are_worth_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = len(os.sched_getaffinity(0))
    assert shares([], 10) == []
    assert shares(range(19), 10) == [range(19)]
    with monkeypatch.context() as alone:  # threads that other tests left do not count
        alone.setattr(threading, "active_count", lambda: 1)
        parts = shares(range(1_000), 10)
    assert len(parts) == min(cores, 16)
    assert [one for part in parts for one in part] == list(range(1_000))
    ended = threading.Event()
    other = threading.Thread(target=ended.wait)
    other.start()
    assert shares(range(1_000), 10) == [range(1_000)]  # a copy would hold that thread's locks for ever
    ended.set()
    other.join()


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
