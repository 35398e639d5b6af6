"""``make bench``: the hook and a range, each beside its reference, interleaved, as ratios of medians.

    python -m benchmarks [--rounds 7] [--repository PATH --commits 500]

Without a repository the range is measured on one that is built here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

NO_OP = """\
repos:
  - repo: local
    hooks:
      - {id: no-op, name: no-op, entry: "true", language: system, pass_filenames: false, always_run: true}
"""


def run(folder: Path, environment: dict[str, str], *command: str, check: bool = True) -> None:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    if check and done.returncode:
        raise SystemExit(f"{command}: {done.stderr.decode(errors='replace')}")


def interleaved(
    rounds: int, ours: Callable[[], None], reference: Callable[[], None]
) -> tuple[list[float], list[float]]:
    """Seconds of each, taken in turns after one round that does not count."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for kept, action in zip(times, (ours, reference), strict=True):
            began = time.perf_counter()
            action()
            if number:
                kept.append(time.perf_counter() - began)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--repository", type=Path)
    parser.add_argument("--commits", type=int, default=200)
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "SAFEAI_"))},
            "HOME": scratch,
            "XDG_CONFIG_HOME": scratch,
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        for name in ("AUTHOR", "COMMITTER"):
            environment |= {f"GIT_{name}_NAME": "Bench", f"GIT_{name}_EMAIL": "bench@example.com"}
        folder = Path(scratch) / "repository"
        folder.mkdir()
        python = sys.executable
        tools = Path(python).parent
        run(folder, environment, "git", "init", "-q", "-b", "main")
        (folder / ".pre-commit-config.yaml").write_text(NO_OP)
        for number in range(asked.commits):
            (folder / f"file{number % 50}.txt").write_text(f"{number}\n" * (1 + number % 40))
            run(folder, environment, "git", "add", "-A")
            message = f"change {number}\n\nCo-Authored-By: Claude Code <noreply@anthropic.com>"
            run(folder, environment, "git", "commit", "-q", "-m", message)
        for number in range(10):
            (folder / f"file{number}.txt").write_text("edited\n" * 20)
        run(folder, environment, "git", "add", "-A")
        marked = {**environment, "CLAUDECODE": "1"}
        hook = (python, "-m", "safeai_git", "hook", "run", "pre-commit")
        rows.append(
            (
                "pre-commit hook, 10 edited files",
                "`pre-commit run`, one no-op hook",
                *interleaved(
                    asked.rounds,
                    lambda: run(folder, marked, *hook),
                    lambda: run(folder, environment, str(tools / "pre-commit"), "run"),
                ),
            )
        )
        place, number = (asked.repository, asked.commits) if asked.repository else (folder, asked.commits - 1)
        revisions = f"HEAD~{number}..HEAD"
        check = (
            python,
            "-m",
            "safeai_git",
            "check",
            "--range",
            revisions,
            "--no-sign",
            "--no-replay",
            "--format",
            "jsonl",
        )
        log = ("git", "log", "--raw", "-z", "--no-renames", "-p", revisions)
        rows.append(
            (
                f"check --range, {number} commits",
                "`git log --raw -p --no-renames`",
                *interleaved(
                    asked.rounds,
                    lambda: run(place, environment, *check, check=False),
                    lambda: run(place, environment, *log),
                ),
            )
        )
    report = []
    print(
        f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, {asked.rounds} rounds\n"
    )
    print("| what | reference | ours, ms | reference, ms | ratio | spread |\n|---|---|---|---|---|---|")
    for what, reference, ours, theirs in rows:
        mine, other = statistics.median(ours), statistics.median(theirs)
        spread = f"{min(ours) / other:.2f}-{max(ours) / other:.2f}"
        print(
            f"| {what} | {reference} | {mine * 1000:.0f} | {other * 1000:.0f} | {mine / other:.2f} | {spread} |"
        )
        report.append({"what": what, "reference": reference, "seconds": ours, "reference_seconds": theirs})
    Path("build").mkdir(exist_ok=True)
    Path("build/bench.json").write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
