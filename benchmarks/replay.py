"""``python -m benchmarks.replay``: the sandbox and the tree, each beside its reference, in turns.

    python -m benchmarks.replay [--repository PATH] [--rounds 7] [--launches 30]

What is measured: a sandbox around ``true`` beside a plain process and beside bubblewrap alone with the same options; a
check of a second; with a repository of 25,000 files or more (any clone, bare or not; nothing is written to it) its tree,
laid out the first time and with 250 changed files, beside ``git worktree add`` on the same file system, and a whole
``safeai-git replay`` of a check that does nothing. Every figure is given as least and median, with the machine's load.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from unittest.mock import patch

from benchmarks.measure import Goal, Row, run
from safeai_git.core.errors import SandboxUnavailable
from safeai_git.git.libgit2 import Libgit2Store
from safeai_git.git.proposed_tree import proposed_tree
from safeai_git.git.tree_cache import clear
from safeai_git.sandbox import Backend, Job, choice, choose, supervise
from safeai_git.sandbox.launch import Launch
from safeai_git.sandbox.port import Outcome
from safeai_git.sandbox.scratch import scratch_directory

POLICY = """\
safe_mode: true
autonomy_tier: beta
repository: bench/repository
allow_paths: ["**"]
checks:
  - name: nothing
    run: "true"
    paths: ["**"]
"""
CHANGED = 250
LARGE = 25_000
PIECE = "import hashlib\nfor _ in range({pieces}): hashlib.pbkdf2_hmac('sha256', b'x', b'y', 400_000)"
WORK = {"a tenth of a second": 1, "a second": 10}
"""Pieces of a tenth of a second, about."""


class Times:
    """Seconds by name, taken in turns; the first round does not count."""

    def __init__(self, *, told: bool = True) -> None:
        self.found: dict[str, list[float]] = {}
        self._told = told

    def take(self, rounds: int, actions: dict[str, Callable[[], object]]) -> None:
        for number in range(rounds + 1):
            for name, action in actions.items():
                began = time.perf_counter()
                action()
                if number:
                    self.found.setdefault(name, []).append(time.perf_counter() - began)

    def show(self, name: str, reference: str = "", *, difference: bool = False) -> None:
        if not self._told:
            return
        least, middle = min(self.found[name]), statistics.median(self.found[name])
        line = f"{name:44} {least * 1000:9.1f} {middle * 1000:9.1f}"
        if reference:
            other = min(self.found[reference]), statistics.median(self.found[reference])
            if difference:
                line += f"   {(least - other[0]) * 1000:+8.1f} {(middle - other[1]) * 1000:+8.1f} ms to {reference}"
            else:
                line += f"   {least / other[0]:8.3f} {middle / other[1]:8.3f} x {reference}"
        print(line, flush=True)


def backends() -> list[Backend]:
    found = []
    for level in ("A", "B"):
        try:
            backend = choose(state_dir=None, least=level)
        except SandboxUnavailable as error:
            print(f"no level {level}: {error.message}")
            continue
        if backend.isolation.level == level:
            found.append(backend)
    return found


def _level_b() -> Backend | None:
    """Level B where level A would be chosen: its self-test runs as usual."""
    only = tuple(one for one in choice.CANDIDATES if one.level == "B")
    with patch.object(choice, "CANDIDATES", only):
        try:
            return choose(state_dir=None)
        except SandboxUnavailable as error:
            print(f"no level B: {error.message}")
            return None


def bare(launch: Launch, job: Job, **_: object) -> Outcome:
    """In place of the supervisor: the same namespaces, mounts and command line of bubblewrap, and nothing else."""
    identity = launch.identity
    told, status = os.pipe()
    stage = ("/bin/sh", "-c", f'{launch.stage}exec "$@"', "sh") if launch.stage else ()
    before = (*launch.within, *stage)
    subprocess.run(
        [*before, *launch.argv(status), "--", *job.argv],
        env=launch.environment,
        pass_fds=(status, *launch.descriptors),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        cwd="/",
        user=identity.uid if identity else None,
        group=identity.gid if identity else None,
        extra_groups=[] if identity else None,
    )
    os.close(told)
    os.close(status)
    return Outcome(0, None, None, 0.0, b"", 0, "")


def sandboxes(times: Times, rounds: int, launches: int) -> None:
    found = [one for one in (*backends(), _level_b()) if one is not None]
    found = list({one.isolation.level: one for one in found}.values())
    with scratch_directory() as scratch:
        number = iter(range(10**9))

        def job(*argv: str) -> Job:
            tree = scratch / str(next(number))
            tree.mkdir()
            return Job("bench", argv, tree, Path("/srv/bench"))

        def sandboxed(backend: Backend, *argv: str) -> None:
            if not backend.run(job(*argv)).passed:
                raise SystemExit(f"{argv} failed in the sandbox")

        def alone(backend: Backend) -> None:
            with patch.object(supervise, "run", bare):
                backend.run(job("true"))

        def plain(*argv: str) -> None:
            subprocess.run(argv, capture_output=True, check=True)

        actions: dict[str, Callable[[], object]] = {"true": lambda: plain("true")}
        for one in found:
            level = one.isolation.level
            actions[f"true, level {level}"] = lambda one=one: sandboxed(one, "true")  # type: ignore[misc]
            actions[f"true, bubblewrap alone as at level {level}"] = lambda one=one: alone(one)  # type: ignore[misc]
        times.take(launches, actions)
        times.show("true")
        for one in found:
            level = one.isolation.level
            times.show(f"true, bubblewrap alone as at level {level}", "true", difference=True)
            times.show(f"true, level {level}", "true", difference=True)
            times.show(f"true, level {level}", f"true, bubblewrap alone as at level {level}", difference=True)
        for time_, pieces in WORK.items():
            long = ("/usr/bin/python3", "-I", "-S", "-c", PIECE.format(pieces=pieces))
            name = f"{time_} of work"
            actions = {name: partial(plain, *long)}
            for one in found:
                actions[f"{name}, level {one.isolation.level}"] = partial(sandboxed, one, *long)
            times.take(rounds, actions)
            for each in actions:
                times.show(each, name)


def repository(source: Path, folder: Path, environment: dict[str, str]) -> tuple[Path, list[str]]:
    """A clone that borrows the objects, with a policy, and four commits of 250 changed files: all over it, or near."""
    place = folder / "repository"
    run(folder, environment, "git", "clone", "-q", "--shared", "--no-checkout", str(source), str(place))

    def git(*arguments: str, given: bytes = b"") -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=place, env=environment, input=given, capture_output=True, check=True
        )
        return done.stdout.decode("utf-8", "surrogateescape").strip("\n")

    git("read-tree", "HEAD")
    files = [
        line.split("\t") for line in git("ls-files", "-s", "-z").split("\0") if line.startswith("100644")
    ]

    def commit(changes: Sequence[tuple[str, str]], message: str) -> str:
        lines = [
            f"100644 {git('hash-object', '-w', '--stdin', given=text.encode())}\t{path}"
            for path, text in changes
        ]
        git(
            "update-index",
            "-z",
            "--add",
            "--index-info",
            given="\0".join(lines).encode("utf-8", "surrogateescape"),
        )
        git("commit", "-q", "--no-verify", "-m", message)
        return git("rev-parse", "HEAD")

    commit([(".safeai/policy.yaml", POLICY)], "policy")
    git(
        "commit", "-q", "--no-verify", "--allow-empty", "-m", "nothing"
    )  # judged by the policy of the one before
    revisions = [git("rev-parse", "HEAD")]
    step = max(1, len(files) // CHANGED)
    for number in range(4):
        text = f"changed {number}\n"
        near = files[number * CHANGED : (number + 1) * CHANGED]
        chosen = near if number % 2 else files[number::step][:CHANGED]
        changes = [(path, f"{path} {text}") for _, path in chosen]
        revisions.append(commit(changes, f"change {number}"))
        git("read-tree", revisions[0])
        git("update-ref", "--no-deref", "HEAD", revisions[0])
    return place, revisions


def trees(times: Times, rounds: int, source: Path, folder: Path, environment: dict[str, str]) -> None:
    place, (base, *changed) = repository(source, folder, environment)
    backend = backends()[0]
    owner = (backend.identity.uid, backend.identity.gid) if backend.identity else None
    kept, worktree = folder / "trees", folder / "worktree"
    kept.mkdir(mode=0o711)
    kept.chmod(0o711)

    def tree_of(revision: str) -> str:
        done = subprocess.run(
            ["git", "rev-parse", f"{revision}^{{tree}}"],
            cwd=place,
            env=environment,
            capture_output=True,
            check=True,
        )
        return done.stdout.decode().strip()

    names = {revision: tree_of(revision) for revision in (base, *changed)}
    seconds: dict[str, list[float]] = {}

    def lay(revision: str, name: str) -> None:
        store = Libgit2Store(place / ".git/objects")
        began = time.perf_counter()
        with proposed_tree(
            store,
            names[revision],
            repository=place,
            layered=backend.keeps_tree,
            owner=owner,
            environ={**environment, "SAFEAI_TREES": str(kept), "TMPDIR": str(folder)},
        ):
            seconds.setdefault(name, []).append(time.perf_counter() - began)
        store.close()

    add = "git worktree add"
    for number in range(rounds + 1):
        began = time.perf_counter()
        run(place, environment, "git", "worktree", "add", "-q", "--detach", str(worktree), base)
        seconds.setdefault(add, []).append(time.perf_counter() - began)
        shutil.rmtree(worktree)
        run(place, environment, "git", "worktree", "prune")
        clear(kept)
        lay(base, "tree, first time")
        lay(changed[number % 2 * 2], f"tree, {CHANGED} changed files, all over it")
        lay(changed[number % 2 * 2 + 1], f"tree, {CHANGED} changed files, neighbours")
        lay(base, "tree, nothing changed")
    for name, found in seconds.items():
        times.found[name] = found[1:]
    for name in seconds:
        times.show(name, add)
    command = (sys.executable, "-m", "safeai_git", "replay", "--quiet")
    variables = {**environment, "SAFEAI_TREES": str(kept)}
    actions: dict[str, Callable[[], object]] = {
        "safeai-git --version": lambda: run(
            place, variables, sys.executable, "-m", "safeai_git", "--version"
        ),
        "safeai-git replay, nothing changed": lambda: run(place, variables, *command, base),
        f"safeai-git replay, {CHANGED} changed files": lambda: run(place, variables, *command, changed[1]),
    }
    times.take(rounds, actions)
    for name in actions:
        times.show(name)


def sandbox_rows(_folder: Path, rounds: int) -> Iterator[Row]:
    """For the table: the sandbox around ``true``, and around work."""
    times = Times(told=False)
    sandboxes(times, rounds, rounds * 4)
    for level in "AB":
        if (sandboxed := f"true, level {level}") not in times.found:
            print(f"level {level} cannot be had here: its rows are left out", file=sys.stderr)
            continue
        alone = f"true, bubblewrap alone as at level {level}"
        for name, bound in (("true", 10.0), (alone, 3.0)):
            reference = "a plain process" if name == "true" else "bubblewrap alone, the same options"
            yield Row(
                f"sandbox {level} beside {reference}",
                f"sandbox around `true`, level {level}",
                reference,
                times.found[sandboxed],
                times.found[name],
                Goal(bound, "more"),
            )
        for time_, pieces in WORK.items():
            yield Row(
                f"work in the sandbox {level}",
                f"{time_} of work, level {level}",
                "a plain process",
                times.found[f"{time_} of work, level {level}"],
                times.found[f"{time_} of work"],
                Goal(1.05) if time_ == "a second" else None,
                size=pieces,
            )


def tree_rows(folder: Path, rounds: int, source: Path, size: int) -> Iterator[Row]:
    """For the table: the tree of a repository, and a whole replay of nothing.

    Args:
        folder: Where everything is written.
        rounds: How often.
        source: The repository.
        size: How many files it has, roughly; 0 where that is not known. The goals are about 25,000 or more.
    """
    times = Times(told=False)
    trees(times, rounds, source, folder, variables_in(folder))
    of = f"{size:,} files" if size else "a repository"
    held = not size or size >= LARGE
    add = times.found["git worktree add"]
    for name, what, bound, expected in (
        ("tree, first time", f"tree for a replay, the first time, {of}", 1.0, "linear"),
        (
            f"tree, {CHANGED} changed files, neighbours",
            f"the same, {CHANGED} changed of {of}, neighbours",
            0.05,
            "flat",
        ),
        (
            f"tree, {CHANGED} changed files, all over it",
            f"the same, {CHANGED} changed of {of}, all over it",
            0.05,
            "flat",
        ),
    ):
        goal = Goal(bound) if held else None
        yield Row(
            name, what, "`git worktree add`", times.found[name], add, goal, size=size, expected=expected
        )
    yield Row(
        "whole replay",
        f"`replay` of a check that does nothing, warm, {of}",
        "",
        [one * 1000 for one in times.found["safeai-git replay, nothing changed"]],
        goal=Goal(150.0, "value") if held else None,
        unit="ms",
        size=size,
        expected="flat",
    )


def variables_in(folder: Path) -> dict[str, str]:
    """Nothing of the caller's git, keys or Python."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GIT_", "SAFEAI_", "PYTHON"))
    }
    kept |= {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    for name in ("AUTHOR", "COMMITTER"):
        kept |= {f"GIT_{name}_NAME": "Bench", f"GIT_{name}_EMAIL": "bench@example.com"}
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--launches", type=int, default=30)
    parser.add_argument("--repository", type=Path)
    parser.add_argument(
        "--folder", type=Path, help="on which file system; default: in memory, where kept trees lie"
    )
    asked = parser.parse_args()
    load = " ".join(f"{one:.2f}" for one in os.getloadavg())
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, load {load}")
    print(f"{'':44} {'least, ms':>9} {'median':>9}   {'least':>8} {'median':>8}")
    times = Times()
    sandboxes(times, asked.rounds, asked.launches)
    if asked.repository is not None:
        memory = Path("/dev/shm")
        default = memory if os.access(memory, os.W_OK) else None
        with tempfile.TemporaryDirectory(dir=asked.folder or default) as scratch:
            folder = Path(scratch)
            folder.chmod(0o711)
            environment = variables_in(folder)
            trees(times, asked.rounds, asked.repository.resolve(), folder, environment)
    print("load afterwards " + " ".join(f"{one:.2f}" for one in os.getloadavg()))


if __name__ == "__main__":
    main()
