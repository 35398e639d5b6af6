"""The parts of the sandbox by themselves: who, with which programs, what is counted, removed and filtered."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from safeai_git.core.errors import SandboxUnavailable, StorageError
from safeai_git.sandbox import identity, programs, seccomp, usage
from safeai_git.sandbox.output import KEPT_AT_EACH_END, Output
from safeai_git.sandbox.rlimits import hard_limit
from safeai_git.sandbox.scratch import memory_places, remove_tree, scratch_directory, suits

ROOT = os.geteuid() == 0
ORDINARY = 54321
PROJECT = Path(__file__).resolve().parent.parent
x86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="headers of x86_64")


def test_root_steps_down_to_an_id_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getresuid", lambda: (1000, 1000, 1000))
    assert identity.sandbox_identity() is None
    for ids in ((0, 0, 0), (1000, 0, 1000), (1000, 1000, 0)):
        monkeypatch.setattr(os, "getresuid", lambda ids=ids: ids)
        found = identity.sandbox_identity()
        assert found is not None
        assert found.uid == found.gid
        assert found.uid in identity.RANGE
    monkeypatch.setattr(identity, "_ids_of_processes", lambda: [found.uid])
    other = identity.sandbox_identity()
    assert other is not None
    assert other.uid != found.uid
    monkeypatch.setattr(identity, "RANGE", range(1))
    with pytest.raises(SandboxUnavailable, match="no unused id"):
        identity.sandbox_identity()


def test_B64_only_programs_that_root_alone_can_write_are_used(tmp_path: Path) -> None:
    def find(name: str, *folders: Path) -> Path:
        return programs.find_program(name, install="install it", folders=folders or (tmp_path,))

    with pytest.raises(SandboxUnavailable, match="not installed") as caught:
        find("tool")
    assert caught.value.hint == "install it"
    (tmp_path / "tool").mkdir()
    with pytest.raises(SandboxUnavailable, match="not installed"):
        find("tool")
    (tmp_path / "tool").rmdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(SandboxUnavailable, match="cannot be examined"):
        find("loop")
    (tmp_path / "tool").touch(mode=0o755)
    if ROOT:
        tmp_path.chmod(0o755)
        assert find("tool") == (tmp_path / "tool").resolve()
        (tmp_path / "link").symlink_to("tool")
        assert find("link") == (tmp_path / "tool").resolve()
        for mode in (0o775, 0o757):
            (tmp_path / "tool").chmod(mode)
            with pytest.raises(SandboxUnavailable, match="could be replaced"):
                find("tool")
            (tmp_path / "tool").chmod(0o755)
            tmp_path.chmod(mode)
            with pytest.raises(SandboxUnavailable, match="could be replaced"):
                find("tool")
            tmp_path.chmod(0o755)
        os.chown(tmp_path / "tool", ORDINARY, ORDINARY)
    with pytest.raises(SandboxUnavailable, match="could be replaced"):
        find("tool")
    assert find("sh", Path("/usr/bin")).is_absolute()


def test_limits_never_exceed_the_callers_own() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard_limit("RLIMIT_NOFILE", 1) == 1
    if hard != resource.RLIM_INFINITY:
        assert hard_limit("RLIMIT_NOFILE", hard + 1) == hard
    program = (
        "import resource; from safeai_git.sandbox.rlimits import hard_limit\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (5, 7)); print(hard_limit('RLIMIT_CPU', 100))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, check=True)
    assert done.stdout == b"7\n"


def test_output_keeps_the_beginning_and_the_end() -> None:
    kept = Output(10 * KEPT_AT_EACH_END)
    content = bytes(range(256)) * (KEPT_AT_EACH_END // 64)
    for start in range(0, len(content), 1000):
        piece = content[start : start + 1000]
        assert kept.take(piece) == piece
    missing = len(content) - 2 * KEPT_AT_EACH_END
    expected = (
        content[:KEPT_AT_EACH_END] + b"\n[%d bytes left out here]\n" % missing + content[-KEPT_AT_EACH_END:]
    )
    assert kept.text() == expected
    assert (kept.total, kept.full) == (len(content), False)
    assert kept.sha256 == hashlib.sha256(content).hexdigest()
    small = Output(5)
    assert small.take(b"abc") == b"abc"
    assert small.take(b"defg") == b"de"
    assert small.take(b"h") == b""
    assert (small.text(), small.total, small.full) == (b"abcde", 5, True)


def test_measuring_follows_no_link_and_counts_hard_links_once(tmp_path: Path) -> None:
    (tmp_path / "d/e").mkdir(parents=True)
    (tmp_path / "d/f").write_bytes(b"x" * 100_000)
    os.link(tmp_path / "d/f", tmp_path / "d/e/g")
    (tmp_path / "up").symlink_to("/usr")
    found = usage.measure(tmp_path, entries=100, size=2**40)
    assert (found.entries, found.closed, found.too_deep) == (5, False, False)
    assert 100_000 <= found.size < 200_000
    assert usage.measure(tmp_path, entries=1, size=2**40).entries > 1
    assert usage.measure(tmp_path, entries=100, size=10).size > 10


def test_memory_is_resident_memory_where_the_kernel_does_not_tell_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "_PROC", tmp_path)
    assert usage._proportional(7) == 0  # ended meanwhile
    (tmp_path / "7").mkdir()
    (tmp_path / "7/statm").write_text("100 3 1 1 0 1 0")
    assert usage._proportional(7) == 0
    (tmp_path / "7/smaps_rollup").mkdir()
    assert usage._proportional(7) == 3 * usage._PAGE
    (tmp_path / "7/smaps_rollup").rmdir()
    (tmp_path / "7/smaps_rollup").write_text("0-1 ---p\nRss: 9 kB\n")
    assert usage._proportional(7) == 3 * usage._PAGE
    (tmp_path / "7/smaps_rollup").write_text("0-1 ---p\nRss: 9 kB\nPss:   2 kB\n")
    assert usage._proportional(7) == 2048
    assert usage._resident(8) == 0


def test_all_processes_beneath_one_are_found(tmp_path: Path) -> None:
    program = "sleep 60 & sh -c 'sleep 60 & echo; wait' & wait"
    with subprocess.Popen(
        ["/bin/sh", "-c", program], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = list(usage.descendants(process.pid))
        os.killpg(process.pid, 9)
    assert len(found) == 3
    assert list(usage.descendants(process.pid)) == []


def test_removing_copes_with_what_hostile_checks_leave(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (victim / "below").mkdir(parents=True)
    (victim / "file").touch()
    top = tmp_path / "top"
    top.mkdir()
    (top / "link").symlink_to(victim)
    (top / "closed/a").mkdir(parents=True)
    (top / "closed/a/file").touch()
    (top / "closed/link").symlink_to(victim)
    (top / "closed/a").chmod(0)
    (top / "closed").chmod(0)
    here = os.open(top, os.O_RDONLY)
    for _ in range(2500):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    remove_tree(top)
    assert not top.exists()
    assert sorted(place.name for place in victim.iterdir()) == ["below", "file"]
    remove_tree(top)
    with pytest.raises(StorageError):
        remove_tree(victim / "file")


def test_scratch_is_private_and_goes_away(tmp_path: Path) -> None:
    def interrupted() -> None:
        with scratch_directory() as place:
            assert stat.S_IMODE(place.stat().st_mode) == (0o711 if ROOT else 0o700)
            (place / "tree/deep").mkdir(parents=True)
            places.append(place)
            raise KeyboardInterrupt

    places: list[Path] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not places[0].exists()


def test_scratch_goes_where_it_fits(tmp_path: Path) -> None:
    runtime, temporary = tmp_path / "runtime", tmp_path / "temporary"
    runtime.mkdir()
    temporary.mkdir()
    environ = {"XDG_RUNTIME_DIR": str(runtime), "TMPDIR": str(temporary)}
    with scratch_directory(room=1, entries=1, environ=environ) as place:
        assert place.parent == (Path("/dev/shm") if ROOT else runtime)
    with scratch_directory(room=2**62, environ=environ) as place:
        assert place.parent == temporary
    with (
        pytest.raises(StorageError, match="no temporary folder"),
        scratch_directory(room=2**62, environ={"TMPDIR": str(tmp_path / "missing")}),
    ):
        pass


# ---- the filter, run by an interpreter of its own

ARGUMENTS = 6


def _judge(code: bytes, arch: int, number: int, *arguments: int) -> int:
    """Run a filter on one system call (linux/Documentation/networking/filter.rst)."""
    data = struct.pack(
        "<IIQ6Q", number & 0xFFFFFFFF, arch, 0, *arguments, *[0] * (ARGUMENTS - len(arguments))
    )
    steps = list(struct.iter_unpack("<HBBI", code))
    place, accumulator = 0, 0
    while True:
        operation, if_true, if_false, value = steps[place]
        place += 1
        if operation == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif operation == 0x54:
            accumulator &= value
        elif operation == 0x15:
            place += if_true if accumulator == value else if_false
        elif operation == 0x25:
            place += if_true if accumulator > value else if_false
        elif operation == 0x45:
            place += if_true if accumulator & value else if_false
        elif operation == 0x06:
            return int(value)
        else:
            raise AssertionError(f"unknown instruction {operation:#x}")


@pytest.fixture(params=["x86_64", "aarch64"])
def judge(request: pytest.FixtureRequest) -> Callable[..., int]:
    machine: str = request.param
    code, arch = seccomp.program(machine), seccomp.ARCHITECTURES[machine]
    column = ("x86_64", "aarch64").index(machine)

    def judge(call: str | int, *arguments: int, arch: int = arch) -> int:
        if isinstance(call, str):
            number = {**seccomp.REFUSED, **seccomp.FILTERED}[call][column]
            assert number is not None
            call = number
        return _judge(code, arch, call, *arguments)

    judge.column = column  # type: ignore[attr-defined]
    return judge


def _error(name: str) -> int:
    return 0x00050000 | int(getattr(errno, name))


def test_filter_refuses_what_it_lists_and_allows_the_rest(judge: Callable[..., int]) -> None:
    column: int = judge.column  # type: ignore[attr-defined]
    refused = {numbers[column] for numbers in seccomp.REFUSED.values()} - {None}
    looked_at = {numbers[column] for numbers in seccomp.FILTERED.values()}
    assert not refused & looked_at
    for number in range(seccomp.NEWEST + 1):
        if number in refused:
            assert judge(number) == _error("EPERM")
        elif number not in looked_at:
            assert judge(number) == seccomp.ALLOW
    for number in (seccomp.NEWEST + 1, 512, 0x40000000, 0x40000000 + 41, -1):
        assert judge(number) == _error("ENOSYS")


def test_filter_kills_other_architectures(judge: Callable[..., int]) -> None:
    for arch in (0x40000003, 0x40000028, 0, 0xC0000016):  # i386, 32-bit ARM, none, s390x
        assert judge(1, arch=arch) == seccomp.KILL


def test_filter_for_sockets(judge: Callable[..., int]) -> None:
    stream, datagram, raw, sequenced, cloexec = 1, 2, 3, 5, 0o2000000
    for kind in (stream, datagram, sequenced, stream | cloexec):
        assert judge("socket", 1, kind, 0) == seccomp.ALLOW
    for family in (2, 10):
        for kind in (stream, datagram, stream | cloexec | 0o4000):
            for protocol in (0, 1, 6, 17, 58):
                assert judge("socket", family, kind, protocol) == seccomp.ALLOW
            for protocol in (262, 132, 33, 115, 136, 255):
                assert judge("socket", family, kind, protocol) == _error("EPROTONOSUPPORT")
        for kind in (raw, sequenced, 4, 10, raw | cloexec):
            assert judge("socket", family, kind, 0) == _error("ESOCKTNOSUPPORT")
    assert judge("socket", 16, raw, 0) == seccomp.ALLOW
    for protocol in (4, 9, 12, 15, 16):
        assert judge("socket", 16, raw, protocol) == _error("EPROTONOSUPPORT")
    for family in set(range(64)) - {1, 2, 10, 16}:
        assert judge("socket", family, stream, 0) == _error("EAFNOSUPPORT")
        assert judge("socketpair", family, stream, 0) == _error("EAFNOSUPPORT")
    assert judge("socketpair", 1, stream, 0) == seccomp.ALLOW
    high = 1 << 32
    assert judge("socket", high | 40, stream, 0) == _error("EAFNOSUPPORT")
    assert judge("socket", high | 2, high | stream, high | 262) == _error("EPROTONOSUPPORT")


def test_filter_for_terminals_ignores_the_high_half(judge: Callable[..., int]) -> None:
    for command in (0x5412, 0x541C):
        for high in (0, 1 << 32, 0xFFFFFFFF << 32):
            assert judge("ioctl", 0, high | command, 0) == _error("EPERM")
    for command in (0x5401, 0x5413, 0x5421):
        assert judge("ioctl", 0, command, 0) == seccomp.ALLOW


def test_filter_for_new_namespaces(judge: Callable[..., int]) -> None:
    threads = 0x003D0F00
    for flags in (0, 17, threads, 0x4111):
        assert judge("clone", flags) == seccomp.ALLOW
    for flag in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        for high in (0, 1 << 32):
            assert judge("clone", high | flag | 17) == _error("EPERM")
    assert judge("clone3") == _error("ENOSYS")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_filter_jumps_stay_inside_and_forward(machine: str) -> None:
    steps = list(struct.iter_unpack("<HBBI", seccomp.program(machine)))
    assert len(steps) <= 4096  # BPF_MAXINSNS
    for place, (operation, if_true, if_false, _) in enumerate(steps):
        if operation in (0x15, 0x25, 0x45):
            assert place + 1 + max(if_true, if_false) < len(steps)
    assert steps[-1][0] == 0x06


def test_an_architecture_without_a_table_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for machine in ("riscv64", "i686", "armv7l", ""):
        with pytest.raises(SandboxUnavailable, match="no system call filter"):
            seccomp.program(machine)


@x86_64
def test_filter_numbers_are_the_kernels_own() -> None:
    headers = {
        0: Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        1: Path("/usr/include/asm-generic/unistd.h"),
    }
    checked = 0
    for column, header in headers.items():
        if not header.exists():
            pytest.skip("the kernel's headers are not installed")
        defined = {}
        for line in header.read_text().splitlines():
            fields = line.split()
            if (
                fields[:1] == ["#define"]
                and fields[1].startswith("__NR_")
                and fields[2:]
                and fields[2].isdecimal()
            ):
                defined[fields[1].removeprefix("__NR_")] = int(fields[2])
        for name, numbers in {**seccomp.REFUSED, **seccomp.FILTERED}.items():
            if name in defined:
                assert numbers[column] == defined[name], name
                checked += 1
    assert checked > 120


LEAVE = """\
import os, signal
from safeai_git.sandbox.scratch import scratch_directory
with scratch_directory(room=1, entries=1, environ={}) as folder:
    (folder / "tree").mkdir()
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_in_memory_goes_with_the_next_one() -> None:
    place = next(memory_places({}))
    if not suits(place, 1, 1):
        pytest.skip(f"{place} cannot be written here")
    left, young = (
        Path(subprocess.run([sys.executable, "-c", LEAVE], capture_output=True, text=True).stdout.strip())
        for _ in range(2)
    )
    assert {left.parent, young.parent} == {place}
    named = place / f"safeai-trees-test-{os.getpid()}"
    named.mkdir()
    old = time.time() - 100_000
    try:
        with scratch_directory(room=1, entries=1, environ={}) as held:
            for folder in (left, held, named):
                os.utime(folder, (old, old))
            with scratch_directory(room=1, entries=1, environ={}):
                pass
            assert [one.exists() for one in (left, young, held, named)] == [False, True, True, True]
    finally:
        for folder in (left, young, named):
            with suppress(StorageError):
                remove_tree(folder)
