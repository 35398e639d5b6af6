"""Level A by itself: the kernel keeps the quota, and the tree outside stays as it was."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from safeai_git.core.errors import SandboxUnavailable
from safeai_git.core.values import replace
from safeai_git.sandbox import choice, programs, quota
from safeai_git.sandbox.port import MIB, Backend, Job, Limits
from safeai_git.sandbox.scratch import scratch_directory

LEVEL_A = choice.CANDIDATES[0]


def _why_not() -> str:
    if sys.platform != "linux":
        return "replay needs Linux"
    try:
        choice._prepare(LEVEL_A, None)
    except SandboxUnavailable as error:
        return error.message
    return ""


WHY_NOT = _why_not()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "there is level A")


@pytest.fixture
def backend() -> Backend:
    return choice.untested("A")


@pytest.fixture
def job() -> Iterator[Job]:
    with scratch_directory(room=64 * MIB) as scratch:
        tree = scratch / "tree"
        (tree / "folder").mkdir(parents=True)
        (tree / "folder/file").write_text("content\n")
        (tree / "program").write_text("#!/bin/sh\necho runs\n")
        (tree / "program").chmod(0o755)
        yield Job("a-check", (), tree, Path("/srv/r"), limits=Limits(wall_seconds=60, scratch_bytes=8 * MIB))


def _run(backend: Backend, job: Job, line: str) -> tuple[int | None, str]:
    outcome = backend.run(replace(job, argv=("/bin/sh", "-c", line)))
    return outcome.exit_code, outcome.output.decode()


def _content(tree: Path) -> dict[str, tuple[int, str]]:
    return {
        str(place.relative_to(tree)): (place.stat().st_mode, place.read_text() if place.is_file() else "")
        for place in tree.rglob("*")
    }


def test_what_a_check_does_to_its_tree_stays_inside(backend: Backend, job: Job) -> None:
    before = _content(job.tree)
    line = "./program; echo more >>folder/file; chmod 0 program; rm -r folder; mkdir new; mv new newer; ls"
    assert _run(backend, job, line) == (0, "runs\nnewer\nprogram\n")
    assert _content(job.tree) == before
    assert _run(backend, job, "ls; cat folder/file") == (0, "folder\nprogram\ncontent\n")


def test_the_kernel_keeps_the_quota(backend: Backend, job: Job) -> None:
    code, said = _run(backend, job, "head -c 6M /dev/zero >a && echo fits; head -c 6M /dev/zero >b")
    assert code == 1
    assert said.startswith("fits\n")
    assert "No space left on device" in said
    code, said = _run(backend, job, "for i in 1 2 3 4 5; do head -c 6M /dev/zero >a; rm a; done; echo reused")
    assert (code, said) == (0, "reused\n")


def test_a_folder_of_the_tree_cannot_be_renamed_but_moved(backend: Backend, job: Job) -> None:
    """As overlayfs has it where ordinary users mount it; the docs say so."""
    program = "import errno, os\ntry: os.rename('folder', 'other')\nexcept OSError as e: print(errno.errorcode[e.errno])"
    assert _run(backend, job, f'/usr/bin/python3 -I -S -c "{program}"') == (0, "EXDEV\n")
    assert _run(backend, job, "mv folder other && cat other/file") == (0, "content\n")


def test_a_path_that_overlayfs_would_misread_is_refused(backend: Backend, job: Job) -> None:
    strange = job.tree.with_name("a,upperdir=b:c")
    job.tree.rename(strange)
    with pytest.raises(SandboxUnavailable, match="reads as an option") as caught:
        _run(backend, replace(job, tree=strange), "touch ran")
    assert caught.value.hint
    assert not (strange / "ran").exists()
    strange.rename(job.tree)


def test_without_mount_the_next_level_is_used_and_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str, *, install: str) -> Path:
        return programs.find_program(name, install=install, folders=(Path("/nowhere"),))

    monkeypatch.setattr(quota, "find_program", find)
    found = choice.choose(state_dir=None)
    assert found.isolation.level == "B"
    (reason,) = found.isolation.not_stronger
    assert reason.startswith("A two-stage bubblewrap: mount is not installed")
    with pytest.raises(SandboxUnavailable, match=r"the level that the policy demands \(A\)"):
        choice.choose(state_dir=None, least="A")


def test_an_overlay_that_cannot_be_mounted_executes_nothing(
    backend: Backend, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = quota._TABLE
    for wrong in (
        plain.replace("work,userxattr", "none,userxattr"),
        plain.replace("scratch /sys tmpfs", "scratch /sys nonsense"),
        plain.replace("/sys /sys/work", "/none /sys/work"),
        plain[: plain.rindex("overlay /sys")],
        "no table",
    ):
        assert wrong != plain
        monkeypatch.setattr(quota, "_TABLE", wrong)
        with pytest.raises(SandboxUnavailable, match="nothing was executed"):
            _run(backend, job, "touch ran")
        assert not (job.tree / "ran").exists()
    monkeypatch.setattr(quota, "_TABLE", plain)
    assert _run(backend, job, "touch ran") == (0, "")
    assert [one.name for one in job.tree.parent.iterdir()] == [job.tree.name]


def test_a_namespace_that_is_refused_is_named(
    backend: Backend, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "_NAMESPACES", ("--user", "--map-user", "7", "--map-group", "x"))
    with pytest.raises(SandboxUnavailable, match="nothing was executed"):
        _run(backend, job, "touch ran")


def test_a_scratch_folder_that_takes_nothing_is_refused(
    backend: Backend, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**_: object) -> tuple[int, str]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.mkstemp", full)
    with pytest.raises(SandboxUnavailable, match="No space left") as caught:
        _run(backend, job, "touch ran")
    assert caught.value.hint
    assert not (job.tree / "ran").exists()


def test_programs_of_the_first_stage_leave_nothing_to_a_job(backend: Backend, job: Job) -> None:
    """Neither its mounts nor its descriptors, and none of the privileges that it had."""
    line = "ls /sys /run 2>&1; ls /proc/self/fd | wc -l; grep CapEff /proc/self/status"
    code, said = _run(backend, job, line)
    assert code == 0
    assert said.count("No such file or directory") == 2
    assert said.splitlines()[-2:] == ["4", "CapEff:\t0000000000000000"]


def test_the_quota_stands_in_the_evidence_as_its_level(backend: Backend) -> None:
    words = backend.isolation.in_words
    assert words.startswith(f"A {quota.NAME} {backend.isolation.backend_sha256[:32]}, self-test ")
    assert words.endswith(backend.isolation.selftest_sha256[:32])
