"""Runs the probes in one backend under the user that started this, and prints what came of them as JSON.

Usage: ``python -m tests.probes.driver LEVEL [--mutation NAME] [--only calls,inside,runs] [--no-control]``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from safeai_git.core.errors import CouldNotDecide
from safeai_git.sandbox import choice
from safeai_git.sandbox.identity import Identity
from safeai_git.sandbox.port import MIB, Backend, Job, Limits
from safeai_git.sandbox.scratch import remove_tree
from safeai_git.sandbox.tree import hand_over
from tests.probes import kernel_calls, mutations, runs
from tests.probes.host import Bait, has_ipv6, lay_tree

PYTHON = "/usr/bin/python3"
HERE = Path(__file__).parent
LIMITS = Limits(
    wall_seconds=60,
    cpu_seconds=50,
    memory_bytes=1024 * MIB,
    processes=200,
    file_bytes=64 * MIB,
    open_files=512,
    scratch_bytes=64 * MIB,
)
PARTS = ("inside", "calls", "runs")


class Session:
    """One backend, what stands beside it, and the two trees: the job's and the control's."""

    def __init__(self, level: str, stack: ExitStack) -> None:
        self.level = level
        self.backend: Backend = choice.untested(level)
        self.identity: Identity | None = self.backend.identity
        place = Path(tempfile.mkdtemp(prefix="safeai-probes-", dir="/var/tmp"))
        stack.callback(remove_tree, place)
        place.chmod(0o711)
        (place / "bait").mkdir()
        self.bait = Bait(place / "bait", self.identity, stack)
        self._tree, self._other = place / "tree", place / "control"
        for one in (self._tree, self._other):
            lay_tree(one, self.bait)
        # What started us has a terminal, so a sandbox that shares it would be seen.
        os.dup2(self.bait.terminal, 0)

    def probe(self, part: str) -> dict[str, Any]:
        """Run one script of probes in the sandbox."""
        spaces = self.level != "C"
        shown = (self.bait.repository / ".venv",) if spaces else ()
        argument = self._argument(part, self.bait.repository if spaces else self._tree)
        job = Job(
            "probes", _argv(part, argument), self._tree, self.bait.repository, limits=LIMITS, read_only=shown
        )
        outcome = self.backend.run(job)
        found = {part: _read(outcome.output) if outcome.exit_code == 0 else {}}
        if outcome.exit_code != 0:
            found[f"ended {part}"] = f"{outcome.limit_hit or outcome.exit_code}: {outcome.output[-1000:]!r}"
        found[f"effects {part}"] = sorted(self.bait.effects())
        return found

    def control(self, part: str) -> dict[str, Any]:
        """The same script without a sandbox, as the user that the sandbox runs as."""
        number = None if self.identity is None else self.identity.uid
        if number is not None:
            hand_over(self._other, number, number)
        with subprocess.Popen(
            [*_argv(part, self._argument(part, self.bait.repository))],
            cwd=self._other,
            stdin=self.bait.terminal,
            stdout=subprocess.PIPE,
            close_fds=False,
            user=number,
            group=number,
            extra_groups=None if number is None else [],
        ) as process:
            found = {f"control {part}": _read(self.bait.answer(process))}
        return {**found, f"control effects {part}": sorted(self.bait.effects())}

    def _argument(self, part: str, repository: Path) -> str:
        if part == "calls":
            return json.dumps(kernel_calls.as_argument())
        facts = self.bait.facts(LIMITS, repository)
        if self.level == "C":
            facts["limits"]["RLIMIT_NPROC"] = None  # on top of what the user runs already
        return json.dumps(facts)


def run(level: str, parts: tuple[str, ...], *, control: bool = True) -> dict[str, Any]:
    """Everything that is asked for, as ``{"inside": {probe: result}, "effects": [...], ...}``."""
    found: dict[str, Any] = {"level": level, "ipv6": has_ipv6(), "uid": os.getuid()}
    with ExitStack() as stack:
        session = Session(level, stack)
        for part in ("inside", "calls"):
            if part in parts:
                if control:
                    found |= session.control(part)
                found |= session.probe(part)
        if "runs" in parts:
            found["runs"], found["control runs"] = runs.run_all(session.backend, control=control)
    return found


def _argv(part: str, argument: str) -> tuple[str, ...]:
    return (PYTHON, "-I", "-S", "-c", (HERE / f"{part}.py").read_text(), argument)


def _read(output: bytes) -> Any:
    try:
        return json.loads(output)
    except ValueError:
        return {"output": output[-1000:].decode("utf-8", "replace")}


def main() -> int:
    """Print the results of one backend."""
    parser = argparse.ArgumentParser()
    parser.add_argument("level")
    parser.add_argument("--mutate", action="store_true")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--no-control", action="store_true")
    asked = parser.parse_args()
    try:
        if asked.mutate:
            with ExitStack() as stack:
                found = {"level": asked.level, "mutations": mutations.run_all(Session(asked.level, stack))}
        else:
            found = run(asked.level, tuple(asked.only.split(",")), control=not asked.no_control)
    except CouldNotDecide as error:
        found = {"level": asked.level, "refused": error.message, "hint": error.hint}
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
