"""Attacks of a check on the machine, as a replay meets them: each ends within its limit and leaves nothing, and the
evidence says which limit. And an attack on the tree while it is written.

`test_sandbox_probes` runs the same kinds in every backend, each beside a control.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import Repo
from test_replay import checked, checked_template, kept_trees, needs_sandbox, session_of, stage
from test_replay_features import level

from safeai_git import replay
from safeai_git.core.errors import StorageError
from safeai_git.core.policy import Check
from safeai_git.core.policy_parts import CheckLimits
from safeai_git.git.materialise import materialise
from safeai_git.replay import Replayer
from safeai_git.sandbox import choice
from safeai_git.sandbox.port import Job
from tests.probes.runs import processes_with

__all__ = ["checked", "checked_template", "kept_trees", "level"]
PYTHON = "/usr/bin/python3 -I -S -c"
MEMORY = 192 * 2**20
FILES = f"{PYTHON} \"import os\nfor n in range({{number}}): os.close(os.open('f%d' % n, os.O_CREAT))\""

SMALL = CheckLimits(file_bytes=16 * 2**20, scratch_bytes=48 * 2**20, output_bytes=2**20)


class Attack(NamedTuple):
    """What a check tries, what it may use, and what its evidence says: result, sentence, limit."""

    run: str
    may: dict[str, Any]
    result: str
    detail: str
    limit: str = ""


ATTACKS: dict[str, Attack] = {
    "fork bomb": Attack(
        f'{PYTHON} "import os\nwhile True:\n  try: os.fork()\n  except OSError: pass"',
        {"timeout_seconds": 1, "limits": CheckLimits(processes=100)},
        "failed",
        "stopped at its limit: (wall|memory)",
        "wall|memory",
    ),
    "fork bomb that gives up": Attack(
        f'{PYTHON} "import os, signal\nwhile True:\n  if not os.fork(): signal.pause()"',
        {"timeout_seconds": 20, "limits": CheckLimits(processes=100)},
        "failed|undecided",
        "exit code 1, (at its limit: processes|perhaps only because)",
        "processes",
    ),
    "memory bomb": Attack(
        f'for i in 1 2 3 4 5 6; do {PYTHON} "import time; x = bytearray(90 * 2**20); time.sleep(60)" & done; wait',
        {"memory_bytes": MEMORY},
        "failed",
        "stopped at its limit: memory",
        "memory",
    ),
    "memory bomb of one process": Attack(
        f'{PYTHON} "x = bytearray(2**30)"',
        {"memory_bytes": MEMORY},
        "failed",
        "exit code 1, at its limit: memory",
        "memory",
    ),
    "disk fill": Attack(
        "head -c 20M /dev/zero >large",
        {"limits": SMALL},
        "failed",
        "exit code .*, at its limit: file size",
        "file size",
    ),
    "disk fill in many files": Attack(
        "n=0; while n=$((n+1)); do head -c 10M /dev/zero >large$n || exit; done",
        {"limits": SMALL},
        "failed",
        "exit code 1, at its limit: scratch|stopped at its limit: scratch",
        "scratch",
    ),
    "output flood": Attack("yes", {"limits": SMALL}, "failed", "stopped at its limit: output", "output"),
    "endless loop": Attack(
        "while :; do :; done", {"timeout_seconds": 1}, "failed", "stopped at its limit: wall", "wall"
    ),
    "endless loop against the processor's limit": Attack(
        "while :; do :; done",
        {"limits": CheckLimits(cpu_seconds=1)},
        "failed",
        "stopped at its limit: cpu",
        "cpu",
    ),
    "background daemon": Attack(
        "(setsid sh -c 'trap \"\" TERM; sleep 600' &) ; true", {}, "passed", "exit code 0"
    ),
    "SIGSTOP of itself": Attack(
        "kill -STOP $$", {"timeout_seconds": 1}, "failed", "stopped at its limit: wall", "wall"
    ),
    "100,000 files": Attack(FILES.format(number=100_000), {}, "passed", "exit code 0"),
    "100,000 files where fewer are allowed": Attack(
        FILES.format(number=100_000) + "; sleep 60",
        {"limits": CheckLimits(scratch_files=20_000)},
        "failed",
        "stopped at its limit: files",
        "files",
    ),
}


@needs_sandbox
@pytest.mark.parametrize("name", ATTACKS)
def test_B67_an_attack_ends_at_its_limit_and_leaves_nothing(
    checked: Repo, level: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attack = ATTACKS[name]
    jobs: list[Job] = []
    backend = choice.untested(level)
    run = backend.run
    monkeypatch.setattr(backend, "run", lambda job, **more: (jobs.append(job), run(job, **more))[1])
    monkeypatch.setattr(replay, "choose", lambda **_: backend)
    stage(checked, {"src/a": "still ok\n"})
    tree = checked.git("write-tree")
    marker = f"attack-{uuid.uuid4().hex}"
    check = Check("attack", f"{attack.run}\ncode=$?; : {marker}; exit $code", **attack.may)
    before = sorted(place.name for place in checked.path.iterdir())
    found = Replayer(session_of(checked).repository, environ={}).of_tree(tree, [check])["attack"]
    assert re.fullmatch(attack.result, found.result), found
    assert re.match(attack.detail, found.detail), found
    assert re.fullmatch(attack.limit, found.limit), found
    assert found.isolation.startswith(level)
    assert processes_with(marker) == []
    assert [one for job in jobs for one in (job.tree, job.tree.parent) if one.exists()] == []
    assert len(jobs) == 1
    assert sorted(place.name for place in checked.path.iterdir()) == before


@needs_sandbox
def test_B67_terminal_escapes_are_in_no_message(checked: Repo) -> None:
    policy = "checks: [{name: title, run: 'printf \"\\033]0;title\\007\\033[2J\"; exit 1'}]\n"
    checked.commit(
        "a check",
        {
            ".safeai/policy.yaml": (checked.path / ".safeai/policy.yaml").read_text().partition("checks:")[0]
            + policy
        },
    )
    stage(checked, {"src/a": "still ok\n"})
    done = checked.safeai("replay", "--staged")
    assert done.code == 1
    assert "\x1b]0;" not in done.both
    assert "\x07" not in done.both


class Store:
    """Objects in memory, and somebody who swaps folders for links whenever one of them is read."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[str, bytes]] = {}
        self.reads = 0

    def put(self, kind: str, content: bytes) -> str:
        name = hashlib.sha1(b"%s %d\0%s" % (kind.encode(), len(content), content)).hexdigest()
        self.objects[name] = (kind, content)
        return name

    def tree(self, **entries: str) -> str:
        rows = b""
        for name, target in sorted(entries.items()):
            mode = b"40000" if self.objects[target][0] == "tree" else b"100644"
            rows += b"%s %s\0" % (mode, name.encode()) + bytes.fromhex(target)
        return self.put("tree", rows)

    def size(self, name: str) -> int:
        return len(self.objects[name][1])


@pytest.mark.parametrize("at", range(1, 8))
def test_B34_a_link_that_is_swapped_in_while_the_tree_is_written_is_not_followed(
    tmp_path: Path, at: int
) -> None:
    """Deterministic: the swap happens at the n-th read of a blob, for each n."""
    store, victim, destination = Store(), tmp_path / "victim", tmp_path / "tree"
    victim.mkdir()
    blobs = [store.put("blob", b"content %d" % number) for number in range(6)]
    deep = store.tree(e=blobs[0], f=blobs[1])
    tree = store.tree(a=blobs[2], b=store.tree(c=deep, d=blobs[3]), x=store.tree(y=blobs[4], z=blobs[5]))
    swapped: list[Path] = []

    def read(name: str) -> tuple[str, bytes]:
        kind, content = store.objects[name]
        if kind == "blob":
            store.reads += 1
            if store.reads == at:
                for place in [destination, *(one for one in destination.rglob("*") if one.is_dir())][::-1]:
                    os.rename(place, tmp_path / f"away-{len(swapped)}")
                    place.symlink_to(victim)
                    swapped.append(place)
        return kind, content

    try:
        materialise(read, tree, destination, size=store.size)
        finished = True
    except StorageError:
        finished = False
    assert list(victim.iterdir()) == []
    assert bool(swapped) == (at <= 6)
    assert finished or swapped
    if swapped:  # the control: whoever goes by the path ends up there
        (swapped[-1] / "by-path").touch()
        assert (victim / "by-path").exists()
