"""Judging: the hook, a large change, a range of history, one edit of an agent, and reading who wrote what."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.measure import Goal, Row, interleaved, peak, run
from benchmarks.places import AI, PATTERNS, PRE_COMMIT, SAFEAI, edit, environment, repository

SMALL, LARGE = 200, 56_000
HOOK = (*SAFEAI, "hook", "run", "pre-commit")


def hook(folder: Path, rounds: int) -> Iterator[Row]:
    """The hook at a commit, in a small and in a large repository, by time and by memory."""
    variables = environment(folder)
    marked = {**variables, "CLAUDECODE": "1"}
    for files, bound in ((SMALL, 1.0), (LARGE, 0.8)):
        place = repository(folder / f"hook{files}", variables, files=files)
        edit(place, variables, 10, files)
        theirs = "`pre-commit run`, one no-op hook"
        ours, reference = interleaved(
            rounds, partial(run, place, marked, *HOOK), partial(run, place, variables, *PRE_COMMIT)
        )
        yield Row(
            "hook by files of the repository",
            f"hook, 10 edited files of {files:,}",
            theirs,
            ours,
            reference,
            Goal(bound),
            size=files,
            expected="flat",
        )
        memory: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            memory[0].append(peak(place, marked, *HOOK))
            memory[1].append(peak(place, variables, *PRE_COMMIT))
        yield Row(
            "memory of the hook",
            f"its memory, {files:,} files",
            theirs,
            *memory,
            Goal(2.0),
            unit="MB",
            size=files,
            expected="flat",
        )
        if files == SMALL:
            edit(place, variables, 100, files)
            ours, reference = interleaved(
                rounds, partial(run, place, marked, *HOOK), partial(run, place, variables, *PRE_COMMIT)
            )
            yield Row(
                "hook by edited files",
                f"hook, 100 edited files of {files:,}",
                theirs,
                ours,
                reference,
                size=100,
                expected="flat",
                note="mostly start-up",
            )


def large_change(folder: Path, rounds: int) -> Iterator[Row]:
    """Five hundred and five thousand staged edits under twenty patterns and five expressions."""
    variables = environment(folder)
    for edited in (500, 5_000):
        files = edited * 2
        place = repository(folder / f"change{edited}", variables, files=files, policy=PATTERNS)
        edit(place, variables, edited, files)
        names = _new_blobs(place, variables, "diff", "--cached", "--raw", "-z", "--no-renames", "--abbrev=40")
        ours, theirs = interleaved(
            rounds,
            partial(
                run, place, {**variables, "CLAUDECODE": "1"}, *SAFEAI, "check", "--no-replay", "--no-sign"
            ),
            _by_git(place, variables, names, "diff", "--cached", "--raw", "-z"),
        )
        yield Row(
            "a large change",
            f"`check`, {edited:,} edited files, 20 patterns, 5 expressions",
            "`git diff --cached --raw`, blobs by `cat-file --batch`",
            ours,
            theirs,
            Goal(3.0),
            size=edited,
        )


def history(folder: Path, rounds: int) -> Iterator[Row]:
    """A hundred and a thousand commits of an agent."""
    variables = environment(folder)
    place = repository(folder / "history", variables, files=2_000, commits=1_000)
    for commits in (100, 1_000):
        revisions = f"HEAD~{commits}..HEAD"
        log = ("log", "--raw", "-z", "--no-renames", "--abbrev=40", "--format=", revisions)
        names = _new_blobs(place, variables, *log)
        check = (*SAFEAI, "check", "--range", revisions, "--no-sign", "--no-replay", "--format", "jsonl")
        ours, theirs = interleaved(
            rounds, partial(run, place, variables, *check), _by_git(place, variables, names, *log)
        )
        yield Row(
            "a range",
            f"`check --range`, {commits:,} commits",
            "`git log --raw -z`, blobs by `cat-file --batch`",
            ours,
            theirs,
            Goal(2.0),
            size=commits,
        )


def agent_hook(folder: Path, rounds: int) -> Iterator[Row]:
    """One PreToolUse call of Claude Code that is refused, in a small repository and in one of ten times its files."""
    variables = environment(folder)
    for files in (SMALL, SMALL * 10):
        place = repository(folder / f"agent{files}", variables, files=files)
        edit(place, variables, 1, files)
        call = {
            "cwd": str(place),
            "hook_event_name": "PreToolUse",
            "tool_name": "Write",
            "tool_input": {"file_path": str(place / "other.py"), "content": "x = 1\n"},
        }
        mine, theirs = interleaved(
            rounds,
            partial(_refused, place, variables, json.dumps(call).encode()),
            partial(run, place, variables, *PRE_COMMIT),
        )
        yield Row(
            "an agent's hook",
            f"one call of an agent's hook, {files:,} files",
            "`pre-commit run`, one no-op hook",
            mine,
            theirs,
            Goal(1.0),
            size=files,
            expected="flat",
        )


def _refused(place: Path, variables: dict[str, str], payload: bytes) -> None:
    done = subprocess.run(
        [*SAFEAI, "agent", "hook", "claude-code"],
        cwd=place,
        env=variables,
        input=payload,
        capture_output=True,
        check=True,
    )
    if b'"deny"' not in done.stdout:
        raise SystemExit(f"the edit was not refused: {done.stdout!r} {done.stderr!r}")


def imports(folder: Path, rounds: int) -> Iterator[Row]:
    """What is loaded at a start, and how long that takes, as ``-X importtime`` has it."""
    variables = {**environment(folder), "CLAUDECODE": "1"}
    place = repository(folder / "imports", variables, files=SMALL, commits=3)
    edit(place, variables, 10, SMALL)
    ours = SAFEAI[1:]
    for what, command in {
        "the hook": (*ours, "hook", "run", "pre-commit"),
        "`check --range`": (*ours, "check", "--range", "HEAD~2..HEAD", "--no-sign", "--no-replay"),
        "`verify`": (*ours, "verify", "HEAD~0..HEAD"),
    }.items():
        taken = [_imported(place, variables, *command) for _ in range(rounds)]
        nothing = [_imported(place, variables, "-c", "pass") for _ in range(rounds)]
        counts = f"{taken[0][1]} modules, {nothing[0][1]} of them Python's own start"
        yield Row(
            f"imports of {what}",
            f"imports of {what} ({counts})",
            "Python's own start",
            [one for one, _ in taken],
            [one for one, _ in nothing],
        )


def _imported(place: Path, variables: dict[str, str], *command: str) -> tuple[float, int]:
    """Seconds of all imports, each without those within it, and how many there were."""
    watched = (sys.executable, "-X", "importtime", *command)
    done = subprocess.run(watched, cwd=place, env=variables, capture_output=True, text=True, check=True)
    lines = [line.split("|") for line in done.stderr.splitlines() if line.startswith("import time:")][1:]
    return sum(int(own.removeprefix("import time:")) for own, _, _ in lines) / 1e6, len(lines)


def attribution(folder: Path, rounds: int) -> Iterator[Row]:
    """Who wrote each of many commits."""
    variables = environment(folder)
    for commits in (2_000, 20_000):
        place = folder / f"attribution{commits}"
        place.mkdir()
        run(place, variables, "git", "init", "-q", "-b", "main")
        message = f"Change\n\nWhy it is so.\n\nSigned-off-by: Bench <bench@example.com>\n{AI}\n"
        stream = "".join(
            f"commit refs/heads/main\ncommitter Bench <bench@example.com> {1_760_000_000 + number} +0000\n"
            f"data {len(message)}\n{message}\n"
            for number in range(commits)
        )
        run(place, variables, "git", "fast-import", "--quiet", given=stream.encode())
        command = (*SAFEAI, "attribution", "--all", "--format", "jsonl")
        ours, theirs = interleaved(
            rounds,
            partial(run, place, variables, *command),
            partial(run, place, variables, "git", "log", "--all", "--format=%an%ae%cn%ce%B"),
        )
        yield Row(
            "attribution",
            f"`attribution --all`, {commits:,} commits",
            "`git log` of the same facts",
            [commits / one for one in ours],
            [commits / one for one in theirs],
            Goal(5_000, "value", at_most=False),
            "/s",
            commits,
        )


def _new_blobs(place: Path, variables: dict[str, str], *command: str) -> bytes:
    """The names of the blobs after each change, one on a line."""
    done = subprocess.run(["git", *command], cwd=place, env=variables, capture_output=True, check=True)
    fields = [part for part in done.stdout.split(b"\0") if part.startswith(b":")]
    return b"".join(field.split()[3] + b"\n" for field in fields)


def _by_git(place: Path, variables: dict[str, str], names: bytes, *command: str) -> Callable[[], None]:
    def both() -> None:
        run(place, variables, "git", *command)
        run(place, variables, "git", "cat-file", "--batch", given=names)

    return both
