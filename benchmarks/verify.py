"""``python -m benchmarks.verify``: `verify` over many signed commits, beside bare Ed25519 verification of as many.

A repository is built with that many commits by an agent and a verdict on each, as CI signs them. The reference checks
as many signatures over as many envelopes, read and taken apart beforehand, one process for each core. Ours is the
command as people run it, start included. Taken in turns, as medians and ratios.

    python -m benchmarks.verify [--commits 5000] [--rounds 5] [--profile FILE]
"""

from __future__ import annotations

import argparse
import cProfile
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.measure import Goal, Row, interleaved, run
from safeai_git.commands import people
from safeai_git.commands.session import Session
from safeai_git.core.envelope import Envelope
from safeai_git.core.publickey import format_openssh, parse_openssh
from safeai_git.git.notes import Notes
from safeai_git.git.repository import discover
from safeai_git.keys.ed25519 import verify
from safeai_git.keys.file import generate

Check = tuple[bytes, bytes, bytes]
_checks: list[Check] = []


def build(folder: Path, environment: dict[str, str], commits: int) -> None:
    """A repository whose every commit after the first is an agent's and has a verdict by a trusted key."""
    folder.mkdir()
    run(folder, environment, "git", "init", "-q", "-b", "main")
    made = generate(Path(environment["XDG_CONFIG_HOME"]) / "safeai-git" / "keys", "default", None)
    key = format_openssh(made.public).decode()
    policy = "repository: bench/verify\nallow_paths: [src/]\n"
    signers = f'ci@example.com namespaces="safeai-verdict" {key}\n'
    stream = [_commit(1, "policy", {".safeai/policy.yaml": policy, ".safeai/allowed_signers": signers})]
    message = "Change number {}\n\nCo-Authored-By: Claude Code <noreply@anthropic.com>\n"
    for number in range(2, commits + 2):
        path = f"src/part{number % 40}/file{number % 500}.py"
        stream.append(_commit(number, message.format(number), {path: f"value = {number}\n"}))
    subprocess.run(
        ["git", "fast-import", "--quiet"],
        cwd=folder,
        env=environment,
        input="".join(stream).encode(),
        check=True,
    )
    run(folder, environment, "git", "reset", "-q", "--hard")
    ours = (sys.executable, "-m", "safeai_git")
    run(
        folder,
        environment,
        *ours,
        "check",
        "--range",
        f"HEAD~{commits}..HEAD",
        "--no-replay",
        "--format",
        "jsonl",
    )
    run(folder, environment, "git", "gc", "-q")


def _commit(number: int, message: str, files: dict[str, str]) -> str:
    lines = [
        f"commit refs/heads/main\nmark :{number}\n",
        f"committer Bench <bench@example.com> {1_760_000_000 + number} +0000\n",
        f"data {len(message.encode())}\n{message}\n",
    ]
    lines += [
        f"M 100644 inline {path}\ndata {len(content.encode())}\n{content}\n"
        for path, content in files.items()
    ]
    return "".join(lines)


def checks(folder: Path, environment: dict[str, str], commits: int) -> list[Check]:
    """Public key, signature and signed bytes of one verdict on each commit."""
    repository = discover(folder, environment)
    made = Path(environment["XDG_CONFIG_HOME"]) / "safeai-git" / "keys" / "ed25519.default.pub"
    public = parse_openssh(made.read_bytes().strip())[0].raw
    notes = Notes(repository)
    found = []
    names = repository.git(["rev-list", f"HEAD~{commits}..HEAD"]).decode().split()
    for name in names:
        envelope = Envelope.parse(notes.lines(name)[0])
        found.append((public, envelope.signatures[0].sig, envelope.signed_bytes))
    repository.close()
    return found


def _verify_some(part: range) -> bool:
    return all(verify(*_checks[at]) for at in part)


def bare(pool: multiprocessing.pool.Pool, processes: int) -> None:
    """Check all signatures, one process for each core."""
    parts = [range(at, len(_checks), processes) for at in range(processes)]
    if not all(pool.map(_verify_some, parts)):
        raise SystemExit("a signature does not hold")


def rows(folder: Path, rounds: int) -> Iterator[Row]:
    """For the table: five hundred and five thousand commits."""
    processes = len(os.sched_getaffinity(0))
    for commits in (500, 5_000):
        place = folder / f"verify{commits}"
        place.mkdir()
        variables = environment_in(place)
        build(place / "repository", variables, commits)
        _checks[:] = checks(place / "repository", variables, commits)
        command = (sys.executable, "-m", "safeai_git", "verify", f"HEAD~{commits}..HEAD", "--format", "jsonl")
        with multiprocessing.get_context("fork").Pool(processes) as pool:
            ours, theirs = interleaved(
                rounds,
                partial(run, place / "repository", variables, *command),
                partial(bare, pool, processes),
            )
        yield Row(
            "verify",
            f"`verify`, {commits:,} signed commits",
            "bare Ed25519 verification, a process for each core",
            ours,
            theirs,
            Goal(2.0),
            size=commits,
        )


def environment_in(place: Path) -> dict[str, str]:
    """Nothing of the caller's git and keys."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "SAFEAI_"))},
        "HOME": str(place),
        "XDG_CONFIG_HOME": str(place / "config"),
        "GIT_CONFIG_NOSYSTEM": "1",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--commits", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", type=Path, help="profile one verification in this process and leave")
    parser.add_argument("--folder", type=Path, help="keep the repository here, or take the one that is here")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = asked.folder or Path(scratch)
        place.mkdir(exist_ok=True)
        environment = environment_in(place)
        folder = place / "repository"
        if not folder.exists():
            build(folder, environment, asked.commits)
        if asked.profile:
            profile(folder, environment, asked.profile)
            return
        _checks.extend(checks(folder, environment, asked.commits))
        processes = len(os.sched_getaffinity(0))
        command = (
            sys.executable,
            "-m",
            "safeai_git",
            "verify",
            f"HEAD~{asked.commits}..HEAD",
            "--format",
            "jsonl",
        )
        with multiprocessing.get_context("fork").Pool(processes) as pool:
            ours, theirs = interleaved(
                asked.rounds,
                lambda: run(folder, environment, *command),
                lambda: bare(pool, processes),
            )
        mine, other = statistics.median(ours), statistics.median(theirs)
        print(
            f"Python {platform.python_version()}, {platform.machine()}, {processes} cores, {asked.rounds} rounds"
        )
        print(
            f"verify, {asked.commits:,} commits: {mine:.2f} s, {mine / asked.commits * 1e6:.0f} us a commit"
        )
        print(
            f"bare Ed25519, {processes} processes: {other:.2f} s, {other / asked.commits * 1e6:.0f} us a signature"
        )
        print(f"ratio {mine / other:.1f}, from {min(ours) / other:.1f} to {max(ours) / other:.1f}")


def profile(folder: Path, environment: dict[str, str], to: Path) -> None:
    """One verification in this process, under the profiler."""
    session = Session(folder, environment, "jsonl")
    watched = cProfile.Profile()
    began = time.perf_counter()
    with open(os.devnull, "w") as nothing:
        sys.stdout = nothing
        watched.runcall(people.verify, session, "", policy=None, everything=False)
        sys.stdout = sys.__stdout__
    watched.dump_stats(to)
    print(f"{time.perf_counter() - began:.2f} s under the profiler; python -m pstats {to}")


if __name__ == "__main__":
    main()
