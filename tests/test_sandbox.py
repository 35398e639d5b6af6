"""The sandbox, with real bubblewrap: what must not work inside, what must, and what each limit stops.

As root these tests also show what an ordinary user gets. A probe that must fail inside is first shown to work outside.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from tools_cli import PATIENCE

from safeai_git.core.errors import SandboxUnavailable
from safeai_git.core.values import replace
from safeai_git.sandbox import (
    Backend,
    Job,
    Limits,
    Outcome,
    bubblewrap,
    causes,
    choice,
    choose,
    describe,
    identity,
    landlock,
    launch,
    layout,
    programs,
    seccomp,
    selftest,
    supervise,
)
from safeai_git.sandbox.jobs import environment, resource_limits
from safeai_git.sandbox.launch import Launch, sets_limits
from safeai_git.sandbox.output import KEPT_AT_EACH_END
from safeai_git.sandbox.port import MIB
from safeai_git.sandbox.scratch import remove_tree, scratch_directory

ROOT = os.geteuid() == 0
ORDINARY = 54321
PROJECT = Path(__file__).resolve().parent.parent
PYTHON = "/usr/bin/python3"
MOUNTED_AT = Path("/work-of-a-test/repository")


def _why_not() -> str:
    if sys.platform != "linux":
        return "replay needs Linux"
    try:
        bubblewrap.installed()
    except SandboxUnavailable as error:
        return error.message
    return "" if Path(PYTHON).exists() else "the probes need /usr/bin/python3"


WHY_NOT = _why_not()
real = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")
x86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="machine code of x86_64")

Run = Callable[..., Outcome]


NAMESPACES = next(one for one in choice.CANDIDATES if one.level == "B")


@pytest.fixture(scope="session")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Backend:
    """Level B, which the others are variations of; `test_sandbox_probes` tries them all."""
    return choice._prepare(NAMESPACES, tmp_path_factory.mktemp("state"))


@pytest.fixture
def scratch() -> Iterator[Path]:
    with scratch_directory() as place:
        (place / "tree").mkdir(mode=0o700)
        yield place


@pytest.fixture
def run(backend: Backend, scratch: Path) -> Run:
    def run(*argv: str, limits: Limits | None = None, on_output: object = None, **more: object) -> Outcome:
        if len(argv) == 1:
            argv = ("/bin/sh", "-c", argv[0])
        job = Job("a-check", argv, scratch / "tree", MOUNTED_AT, limits=limits or Limits(wall_seconds=60))
        return backend.run(replace(job, **more), on_output=on_output)  # type: ignore[arg-type]

    return run


def _commands(marker: str) -> list[int]:
    """Processes of the host whose command line holds the marker."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (place / "cmdline").read_bytes():
                found.append(int(place.name))
        except OSError:
            continue
    return found


@pytest.fixture
def marker() -> Iterator[str]:
    """Something to put into a command line; nothing with it may be left when the test ends."""
    name = f"safeai-{uuid.uuid4().hex}"
    yield name
    assert _commands(name) == []


def _as_ordinary_user(argv: list[str]) -> list[str]:
    if not ROOT:
        return argv
    number = str(ORDINARY)
    return ["/usr/bin/setpriv", "--reuid", number, "--regid", number, "--clear-groups", *argv]


def _python_for_everybody() -> str:
    """An interpreter that can run the product and that an ordinary user can reach."""
    if not ROOT or layout.closed_folder(Path(sys.executable).resolve()) is None:
        return sys.executable
    if layout.closed_folder(PROJECT / "x") is not None:
        pytest.skip(f"an ordinary user cannot read {PROJECT}")
    version = subprocess.run(
        [PYTHON, "-c", "import sys; print(sys.version_info >= (3, 11))"], capture_output=True
    )
    if version.stdout.strip() != b"True":
        pytest.skip("an ordinary user can reach no Python of 3.11 or newer")
    return PYTHON


# ---- an ordinary command


@real
def test_a_command_ends_with_its_own_code_and_output(run: Run) -> None:
    outcome = run("echo out; echo err >&2; exit 3")
    assert (outcome.exit_code, outcome.signal, outcome.limit_hit) == (3, None, None)
    assert outcome.output == b"out\nerr\n"
    assert outcome.output_bytes == 8
    assert outcome.output_sha256 == hashlib.sha256(b"out\nerr\n").hexdigest()
    assert not outcome.passed
    assert run("true").passed
    assert run("kill -SEGV $$").exit_code == 128 + signal.SIGSEGV
    assert run("no-such-program").exit_code == 127


@real
def test_the_tree_is_at_the_repositorys_own_path_and_writable(run: Run, scratch: Path) -> None:
    (scratch / "tree/file").write_text("content")
    outcome = run("pwd; cat file; echo more >made; mkdir d; ls -A")
    assert outcome.output.decode() == f"{MOUNTED_AT}\ncontent\nd\nfile\nmade\n".replace(
        "content\n", "content"
    )
    assert (scratch / "tree/made").read_text() == "more\n"
    assert (scratch / "tree/made").stat().st_uid != 0


@real
def test_output_is_passed_on_as_it_comes(run: Run) -> None:
    pieces: list[bytes] = []
    outcome = run("echo one; sleep 0.2; printf 'two\\033[31m\\0'", on_output=pieces.append)
    assert len(pieces) >= 2
    assert b"".join(pieces) == outcome.output == b"one\ntwo\x1b[31m\0"


@real
def test_variables_are_fixed_ones_and_the_jobs_own(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFEAI_CANARY", "canary")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    outcome = run("cat /proc/self/environ /proc/1/environ", environment={"WANTED": "yes"}, commit_time=1234)
    found = dict(one.split("=", 1) for one in outcome.output.decode().split("\0") if one)
    assert found["WANTED"] == "yes"
    assert found["SOURCE_DATE_EPOCH"] == "1234"
    assert found["HOME"] == layout.HOME
    assert set(found) <= {*environment(Job("j", ("x",), Path("/t"), Path("/r"))), "WANTED", "PWD"}


@real
@pytest.mark.parametrize(
    "variables", [{"LD_PRELOAD": "/x.so"}, {"A=B": ""}, {"A": "a\0b"}, {"": "x"}, {"GCONV_PATH": "/x"}]
)
def test_B65_variables_that_act_on_bubblewrap_itself_are_refused(run: Run, variables: dict[str, str]) -> None:
    with pytest.raises(SandboxUnavailable, match="may not set the variable"):
        run("true", environment=variables)


@real
def test_B64_what_the_environment_names_is_never_started(
    backend: Backend, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    for name in ("bwrap", "prlimit", "sh"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran-$0\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f".:{tmp_path}")
    monkeypatch.setenv("LD_PRELOAD", str(tmp_path / "bwrap"))
    monkeypatch.setenv("BASH_ENV", str(tmp_path / "sh"))
    assert (
        choose(state_dir=None)
        .run(Job("a-check", ("/bin/sh", "-c", "echo $PATH"), scratch / "tree", MOUNTED_AT))
        .output.startswith(b"/usr/")
    )
    assert sorted(place.name for place in tmp_path.iterdir()) == ["bwrap", "prlimit", "sh"]


# ---- what must not work inside, each shown to work outside first

PROBES = r"""
import ctypes, errno, json, os, socket, sys
facts = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)

def call(number, *arguments):
    ctypes.set_errno(0)
    if libc.syscall(*[ctypes.c_long(one) if isinstance(one, int) else one for one in (number, *arguments)]) < 0:
        raise OSError(ctypes.get_errno(), "")

def attempt(action):
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    return "works"

def connect(family, kind, address, protocol=0):
    with socket.socket(family, kind, protocol) as one:
        one.settimeout(2)
        one.connect(address)

def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(2)
        one.connect(("127.0.0.1", facts["udp"]))
        one.send(b"hello")
        one.recv(1)

class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

def read_memory_of_another():
    # of a child of our own: what another process of this user would be
    child = os.fork()
    if child == 0:
        os.read(wait_end[0], 1)
        os._exit(0)
    try:
        into = ctypes.create_string_buffer(8)
        here, there = Vector(ctypes.addressof(into), 8), Vector(facts_address, 8)
        call(SYSCALLS["process_vm_readv"], child, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    finally:
        os.write(wait_end[1], b"x")
        os.waitpid(child, 0)

wait_end = os.pipe()
kept = ctypes.create_string_buffer(8)
facts_address = ctypes.addressof(kept)
SYSCALLS = facts["syscalls"]

def new_user_namespace():
    child = os.fork()
    if child == 0:
        try:
            call(SYSCALLS["unshare"], 0x10000000)
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    number = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if number:
        raise OSError(number, "")

ring = ctypes.create_string_buffer(256)
stat_name = ctypes.create_string_buffer(b"/usr")
handle = (ctypes.c_int * 64)(128)
mount_id = ctypes.c_int()
results = {
    "tcp": attempt(lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", facts["tcp"]))),
    "tcp6": attempt(lambda: connect(socket.AF_INET6, socket.SOCK_STREAM, ("::1", facts["tcp6"])))
        if facts["tcp6"] else "works",
    "mptcp": attempt(lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", facts["tcp"]), 262)),
    "udp": attempt(udp),
    "unix": attempt(lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, facts["unix"])),
    "abstract": attempt(lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + facts["abstract"])),
    "secret": attempt(lambda: os.close(os.open(facts["secret"], os.O_RDONLY))),
    "through a link": attempt(lambda: os.close(os.open("link", os.O_RDONLY))),
    "signal": attempt(lambda: os.kill(facts["pid"], 0)),
    "environ of another": attempt(lambda: os.close(os.open("/proc/%d/environ" % facts["pid"], os.O_RDONLY))),
    "memory of another": attempt(read_memory_of_another),
    "user namespace": attempt(new_user_namespace),
    "keyring": attempt(lambda: call(SYSCALLS["keyctl"], 0, -3, 0)),
    "io_uring": attempt(lambda: call(SYSCALLS["io_uring_setup"], 1, ring)),
    "handle": attempt(lambda: call(SYSCALLS["name_to_handle_at"], -100, stat_name, handle,
                                   ctypes.byref(mount_id), 0)),
    "personality": attempt(lambda: call(SYSCALLS["personality"], 0)),
}
print(json.dumps(results))
"""

INSIDE = {
    "tcp": {"ECONNREFUSED"},
    "tcp6": {"ECONNREFUSED", "EADDRNOTAVAIL"},
    "mptcp": {"EPROTONOSUPPORT"},
    "udp": {"ECONNREFUSED"},
    "unix": {"ENOENT"},
    "abstract": {"ECONNREFUSED"},
    "secret": {"ENOENT"},
    "through a link": {"ENOENT"},
    "signal": {"ESRCH"},
    "environ of another": {"ENOENT"},
    "memory of another": {"EPERM"},
    "user namespace": {"EPERM"},
    "keyring": {"EPERM"},
    "io_uring": {"EPERM"},
    "handle": {"EPERM"},
    "personality": {"EPERM"},
}
NOT_EVERYWHERE = {"mptcp", "tcp6", "io_uring", "keyring"}
"""Switched off on some hosts, where outside is no control."""


@real
def test_B67_nothing_of_the_host_is_within_reach(run: Run, scratch: Path) -> None:
    secret, link = scratch / "secret", scratch / "tree/link"
    secret.write_text("not for the sandbox")
    secret.chmod(0o644)
    link.symlink_to(secret)
    column = 0 if os.uname().machine == "x86_64" else 1
    names = ("process_vm_readv", "unshare", "keyctl", "io_uring_setup", "name_to_handle_at", "personality")
    with (
        closing(socket.socket()) as tcp,
        closing(socket.socket(socket.AF_INET6)) as tcp6,
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as udp,
        closing(socket.socket(socket.AF_UNIX)) as unix,
        closing(socket.socket(socket.AF_UNIX)) as abstract,
        subprocess.Popen(_as_ordinary_user(["/bin/sleep", "600"])) as other,
    ):
        abstract_name = f"safeai-{uuid.uuid4().hex}"
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", 0))
        unix.bind(str(scratch / "socket"))
        abstract.bind(f"\0{abstract_name}")
        (scratch / "socket").chmod(0o777)
        for listener in (tcp, unix, abstract):
            listener.listen(8)
        try:
            tcp6.bind(("::1", 0))
            tcp6.listen(8)
        except OSError:
            has_ipv6 = False
        else:
            has_ipv6 = True
        facts = {
            "tcp": tcp.getsockname()[1],
            "tcp6": tcp6.getsockname()[1] if has_ipv6 else 0,
            "udp": udp.getsockname()[1],
            "unix": str(scratch / "socket"),
            "abstract": abstract_name,
            "secret": str(secret),
            "pid": other.pid,
            "syscalls": {name: seccomp.REFUSED[name][column] for name in names},
        }
        argv = [PYTHON, "-I", "-S", "-c", PROBES, json.dumps(facts)]
        try:
            time.sleep(0.05)  # until setpriv is the ordinary user's sleep
            with subprocess.Popen(
                _as_ordinary_user(argv), cwd=scratch / "tree" if not ROOT else "/", stdout=subprocess.PIPE
            ) as outside:
                udp.settimeout(PATIENCE)
                _, asker = udp.recvfrom(16)
                udp.sendto(b"x", asker)
                told = json.loads(outside.communicate()[0])
            for listener in (tcp, unix, abstract, *([tcp6] if has_ipv6 else [])):
                listener.setblocking(False)
                while True:
                    try:
                        listener.accept()[0].close()
                    except BlockingIOError:
                        break
            udp.setblocking(False)
            outcome = run(*argv)
        finally:
            other.kill()
        expected_outside = dict.fromkeys(INSIDE, "works")
        for name in NOT_EVERYWHERE:
            expected_outside[name] = told[name]
        if ROOT:
            expected_outside["through a link"] = told[
                "through a link"
            ]  # relative to the tree, which is not its own
        assert told == expected_outside
        assert outcome.exit_code == 0, outcome.output
        found = json.loads(outcome.output)
        assert {name: value for name, value in found.items() if value not in INSIDE[name]} == (
            {} if has_ipv6 else {"tcp6": "works"}
        )
        assert found.keys() == INSIDE.keys()
        for listener in (tcp, unix, abstract, udp):
            with pytest.raises(BlockingIOError):
                listener.recv(1) if listener is udp else listener.accept()


@real
@x86_64
def test_B67_calls_of_another_architecture_kill(run: Run) -> None:
    # mov eax, 20 (getpid); int 0x80; ret
    program = (
        "import ctypes, mmap; m = mmap.mmap(-1, 4096, prot=7); m.write(bytes.fromhex('b814000000cd80c3'));"
        "print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))())"
    )
    outcome = run(PYTHON, "-I", "-S", "-c", program)
    assert outcome.exit_code == 128 + signal.SIGSYS
    assert outcome.output == b""


@real
def test_B67_only_what_is_listed_can_be_seen(run: Run) -> None:
    shown = set(run("ls -A /; ls -A /etc; ls -A /dev").output.decode().split())
    etc = {Path(name).parts[0] for name in layout.PASSED_FROM_ETC} | {
        Path(one).name for one in layout.OWN_FILES
    }
    top = {"usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "dev", "etc", "home", "proc", "tmp"}
    devices = {
        "console",
        "core",
        "fd",
        "full",
        "null",
        "ptmx",
        "pts",
        "random",
        "shm",
        "stderr",
        "stdin",
        "stdout",
    }
    devices |= {"tty", "urandom", "zero"}
    toolchain = {Path(sys.prefix).parts[1], Path(sys.base_prefix).parts[1]}
    assert shown <= top | etc | devices | toolchain | {MOUNTED_AT.parts[1]}
    assert {"usr", "etc", "passwd", "null"} <= shown


@real
def test_B67_the_hosts_processes_and_users_are_not_shown(run: Run) -> None:
    processes = run("ls /proc | grep -c '^[0-9]'").output
    assert int(processes) <= 5
    assert run("cut -d: -f1 /etc/passwd").output.split() == [b"root", b"sandbox", b"nobody"]
    assert run("id -un; hostname").output == b"sandbox\nsandbox\n"


@real
def test_B67_one_run_sees_nothing_of_another(run: Run, marker: str) -> None:
    program = f"for d in /tmp $HOME /dev/shm; do ls -A $d; echo {marker} >$d/left; done; ipcs -m; ipcmk -M 10 >/dev/null"
    first, second = run(program), run(program)
    assert first.exit_code == 0
    assert first.output == second.output


@real
def test_B67_raising_a_limit_is_refused(run: Run) -> None:
    outcome = run(
        "ulimit -n 64; (ulimit -Hn 100000) && echo raised; ulimit -c; (ulimit -Hu 100000) && echo raised"
    )
    assert b"raised" not in outcome.output
    assert b"\n0\n" in b"\n" + outcome.output


@real
def test_B66_an_editable_install_finds_the_proposed_code(run: Run, scratch: Path, passable: Path) -> None:
    """The interpreter's own path file names the repository: there must be the proposed tree, not the dirty one."""
    dirty = passable / "repository"
    site = dirty / ".venv/site"
    (dirty / "src/package").mkdir(parents=True)
    site.mkdir(parents=True)
    (dirty / "src/package/__init__.py").write_text("state = 'DIRTY'")
    (site / "editable.pth").write_text(f"{dirty}/src\n")
    (scratch / "tree/src/package").mkdir(parents=True)
    (scratch / "tree/src/package/__init__.py").write_text("state = 'PROPOSED'")
    program = f"import site; site.addsitedir({str(site)!r}); import package; print(package.state)"
    outside = subprocess.run([PYTHON, "-I", "-c", program], capture_output=True, check=True)
    assert outside.stdout == b"DIRTY\n"
    inside = run(PYTHON, "-I", "-c", program, mount_at=dirty, read_only=(dirty / ".venv",))
    assert inside.output == b"PROPOSED\n"
    assert run(f"touch {site}/x", mount_at=dirty, read_only=(dirty / ".venv",)).exit_code != 0


# ---- what a policy may show


@pytest.fixture
def passable() -> Iterator[Path]:
    """A folder that everybody may enter."""
    place = Path("/var/tmp") / f"safeai-test-{uuid.uuid4().hex}"
    place.mkdir(mode=0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place)


@real
def test_read_only_mounts_are_shown_and_their_programs_found(run: Run, passable: Path) -> None:
    tools = passable / "tools"
    (tools / "bin").mkdir(parents=True)
    (tools / "bin/tool").write_text("#!/bin/sh\necho tool runs\n")
    (tools / "bin/tool").chmod(0o755)
    (passable / "alias").symlink_to(tools)
    for shown in (tools, passable / "alias"):
        assert run("tool", read_only=(shown,)).output == b"tool runs\n"
        assert run(f"echo x >>{shown}/bin/tool", read_only=(shown,)).exit_code != 0
    assert (tools / "bin/tool").read_text().count("x") == 0


@real
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/home",
        "/root",
        "/run",
        "/var/run",
        "/proc/self",
        "/sys",
        "/dev",
        "/etc",
        "/etc/ssl",
        "/tmp",
        "/var",
    ],
)
def test_read_only_mounts_that_show_too_much_are_refused(run: Run, path: str) -> None:
    if not Path(path).exists():
        pytest.skip(f"{path} does not exist here")
    with pytest.raises(SandboxUnavailable, match="would show"):
        run("true", read_only=(Path(path),))


@real
def test_read_only_mounts_are_refused_with_the_reason(
    run: Run, scratch: Path, passable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, **more: object) -> str:
        with pytest.raises(SandboxUnavailable) as caught:
            run("true", read_only=(path,), **more)
        assert caught.value.hint
        return caught.value.message

    assert "not an absolute path" in refused(Path("tools"))
    assert "not an absolute path" in refused(Path("/usr/../etc"))
    assert "No such file" in refused(Path("/no/such/folder"))
    assert "part of the proposed tree" in refused(scratch / "tree")
    (passable / "link").symlink_to("/etc")
    assert "would show /etc" in refused(passable / "link")
    (passable / "loop").symlink_to(passable / "loop")
    assert "cannot be shown" in refused(passable / "loop")
    (passable / "clone/.git").mkdir(parents=True)
    assert "secret" in refused(passable / "clone")
    (passable / ".ssh").mkdir()
    assert "secret" in refused(passable / ".ssh")
    monkeypatch.setenv("HOME", str(passable / "clone"))
    assert "would show" in refused(passable)
    monkeypatch.setenv("HOME", "/nonexistent")
    assert "the repository itself" in refused(passable, mount_at=passable / "repository")
    if ROOT:
        (passable / "closed/tools").mkdir(parents=True)
        (passable / "closed").chmod(0o700)
        assert f"cannot enter {passable}/closed" in refused(passable / "closed/tools")


@real
def test_B67_a_mount_goes_through_no_link_of_the_tree(run: Run, scratch: Path, passable: Path) -> None:
    repository, tree = passable / "repository", scratch / "tree"
    (repository / ".venv/bin").mkdir(parents=True)
    (repository / "sub/tools").mkdir(parents=True)
    (tree / ".venv").symlink_to("/etc")
    (tree / "sub").symlink_to("/usr")
    for path in (repository / ".venv", repository / "sub/tools"):
        with pytest.raises(SandboxUnavailable, match="of its own"):
            run("true", mount_at=repository, read_only=(path,))
    (tree / ".venv").unlink()
    (tree / ".venv").mkdir()
    assert run("ls .venv", mount_at=repository, read_only=(repository / ".venv",)).output == b"bin\n"
    (tree / ".venv/own").write_text("x")
    with pytest.raises(SandboxUnavailable, match="of its own"):
        run("true", mount_at=repository, read_only=(repository / ".venv",))


@real
@pytest.mark.parametrize(
    "place",
    [
        "/",
        "/usr",
        "/home",
        "/tmp",
        "/etc/x",
        "/proc/x",
        "/dev",
        "/dev/shm",
        "/run/x",
        "/lib/x",
        "relative",
        "/a/../b",
    ],
)
def test_a_repository_cannot_lie_across_the_sandboxs_own_folders(run: Run, place: str) -> None:
    with pytest.raises(SandboxUnavailable, match=r"needs|absolute"):
        run("true", mount_at=Path(place))


@real
@pytest.mark.parametrize(
    "place", ["/tmp/a/b", "/dev/shm/ci/repository", "/home/somebody/r", "/srv/r", "/opt/x/r"]
)
def test_a_repository_can_lie_where_people_put_them(run: Run, scratch: Path, place: str) -> None:
    (scratch / "tree/file").write_text("here")
    assert run("pwd; cat file", mount_at=Path(place)).output.decode() == f"{place}\nhere"


def test_the_running_interpreter_is_shown_where_that_is_harmless(
    scratch: Path, passable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job("j", ("x",), scratch / "tree", Path("/srv/r"))
    toolchain = Path("/opt/toolchain-of-a-test/python")

    def mounts(base: str, prefix: str, executable: str) -> list[str]:
        monkeypatch.setattr(sys, "base_prefix", base)
        monkeypatch.setattr(sys, "prefix", prefix)
        monkeypatch.setattr(sys, "executable", executable)
        return [str(mount.target) for mount in layout.toolchain_mounts(job, None)]

    assert mounts("/usr", "/usr", "/usr/bin/python3") == []
    assert mounts("/usr", str(passable), "/usr/bin/python3") == []  # /var/tmp is everybody's
    assert mounts(str(toolchain), str(toolchain), f"{toolchain}/bin/python3") == []  # not there
    monkeypatch.setattr(layout, "_HOMES", ())
    (passable / "bin").mkdir()
    (passable / "bin/python3").touch()
    assert mounts(str(passable), str(passable), f"{passable}/bin/python3") == [str(passable)]
    assert mounts("/root/.x", str(passable), "/root/.x/bin/python3") == []
    monkeypatch.setenv("HOME", str(passable.parent))
    assert mounts(str(passable), str(passable), f"{passable}/bin/python3") == []


# ---- limits: whatever is stopped did not pass, and nothing of it is left


def _stopped(outcome: Outcome, *limits: str) -> bool:
    return outcome.limit_hit in limits and outcome.exit_code is None and not outcome.passed


@real
@pytest.mark.parametrize(
    "program",
    [
        "while :; do :; done",
        "trap '' TERM INT HUP; sleep 600",
        "kill -STOP $$",
        "sleep 600 & sleep 600 & wait",
    ],
)
def test_the_wall_clock_stops_everything(run: Run, marker: str, program: str) -> None:
    outcome = run("/bin/sh", "-c", program, marker, limits=Limits(wall_seconds=0.5))
    assert _stopped(outcome, "wall")
    assert outcome.signal == signal.SIGKILL
    assert outcome.seconds >= 0.5


@real
def test_processor_time(run: Run) -> None:
    outcome = run("exec sh -c 'while :; do :; done'", limits=Limits(wall_seconds=60, cpu_seconds=1))
    assert _stopped(outcome, "cpu")


@real
@pytest.mark.parametrize("kind", ["setsid", "double fork"])
def test_B67_what_goes_into_the_background_ends_with_the_command(run: Run, marker: str, kind: str) -> None:
    quiet = "" if kind == "setsid" else "exec >/dev/null 2>&1; "
    program = f"{quiet}(setsid sh -c 'trap \"\" TERM; sleep 600; : {marker}' &) ; echo started"
    outcome = run(program)
    assert outcome.exit_code == 0
    assert outcome.seconds < 60
    assert _commands(marker) == []


@real
def test_a_fork_bomb_meets_its_limit(run: Run, marker: str) -> None:
    program = """
import os, sys, time
made = 0
while True:
    try:
        if os.fork() == 0:
            time.sleep(600)
        made += 1
    except OSError as error:
        print(error.errno, made)
        break
"""
    outcome = run(PYTHON, "-I", "-S", "-c", program, marker, limits=Limits(wall_seconds=60, processes=40))
    number, made = map(int, outcome.output.split())
    assert number == errno.EAGAIN
    assert made < 40


@real
def test_a_fork_bomb_that_does_not_stop_is_stopped(run: Run, marker: str) -> None:
    program = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""
    limits = Limits(wall_seconds=1, processes=60)
    assert _stopped(run(PYTHON, "-I", "-S", "-c", program, marker, limits=limits), "wall", "memory")


@real
def test_memory_of_one_process(run: Run) -> None:
    outcome = run(
        PYTHON, "-c", "x = bytearray(2**29)", limits=Limits(wall_seconds=60, memory_bytes=256 * MIB)
    )
    assert outcome.exit_code == 1
    assert b"MemoryError" in outcome.output


@real
def test_memory_of_all_processes_together(run: Run, marker: str) -> None:
    program = """
import os, time
for _ in range(6):
    if os.fork() == 0:
        x = bytearray(os.urandom(1024)) * (100 * 1024)
        time.sleep(600)
time.sleep(600)
"""
    limits = Limits(wall_seconds=60, memory_bytes=300 * MIB)
    assert _stopped(run(PYTHON, "-I", "-S", "-c", program, marker, limits=limits), "memory")


@real
def test_memory_that_processes_share_counts_once(run: Run) -> None:
    program = """
import os, time
x = bytearray(b"x") * (150 * 2**20)
for _ in range(5):
    if os.fork() == 0:
        time.sleep(0.6)
        os._exit(0)
time.sleep(0.6)
"""
    outcome = run(PYTHON, "-I", "-S", "-c", program, limits=Limits(wall_seconds=60, memory_bytes=300 * MIB))
    assert outcome.passed


@real
def test_memory_in_files_without_a_name(run: Run) -> None:
    program = """
import os, time
for number in range(6):
    one = os.memfd_create(str(number))
    for _ in range(100):
        os.write(one, b"x" * 2**20)
time.sleep(600)
"""
    limits = Limits(wall_seconds=60, memory_bytes=300 * MIB)
    assert _stopped(run(PYTHON, "-I", "-S", "-c", program, limits=limits), "memory")


@real
@pytest.mark.parametrize("program", ["yes", "yes | tr -d '\\n'", "cat /dev/zero >&2"])
def test_output(run: Run, program: str) -> None:
    outcome = run(program, limits=Limits(wall_seconds=60, output_bytes=MIB))
    assert _stopped(outcome, "output")
    assert outcome.output_bytes == MIB
    assert len(outcome.output) < 3 * KEPT_AT_EACH_END


@real
def test_output_that_is_too_much_is_no_pass_even_when_the_command_has_ended(run: Run) -> None:
    outcome = run("head -c 50000 /dev/zero", limits=Limits(wall_seconds=60, output_bytes=40_000))
    assert _stopped(outcome, "output")


@real
def test_the_size_of_a_file(run: Run) -> None:
    outcome = run("head -c 3000000 /dev/zero >file", limits=Limits(wall_seconds=60, file_bytes=2_000_000))
    assert outcome.exit_code not in (0, None)


@real
@pytest.mark.parametrize("place", ["/tmp", "/dev/shm", layout.HOME])
def test_the_sandboxs_own_folders_are_bounded(run: Run, place: str) -> None:
    outcome = run(
        f"head -c 64M /dev/zero >{place}/file", limits=Limits(wall_seconds=60, scratch_bytes=8 * MIB)
    )
    assert outcome.exit_code == 1
    assert b"No space left" in outcome.output


@real
def test_what_is_written_into_the_tree(run: Run, scratch: Path) -> None:
    limits = Limits(wall_seconds=60, scratch_bytes=16 * MIB)
    outcome = run("for i in 1 2 3 4; do head -c 8M /dev/zero >$i; done; sleep 600", limits=limits)
    assert _stopped(outcome, "scratch")


@real
def test_what_is_written_into_the_tree_and_hidden(run: Run, marker: str) -> None:
    limits = Limits(wall_seconds=60, scratch_bytes=16 * MIB)
    outcome = run("exec 9>f; rm f; head -c 40M /dev/zero >&9; sleep 600", limits=limits)
    assert _stopped(outcome, "scratch")
    closed = run("mkdir d; head -c 40M /dev/zero >d/f; chmod 0 d; sleep 600", limits=limits)
    assert _stopped(closed, "scratch")


@real
def test_what_the_tree_holds_already_is_allowed(run: Run, scratch: Path) -> None:
    (scratch / "tree/large").write_bytes(b"x" * 30 * MIB)
    limits = Limits(wall_seconds=60, scratch_bytes=16 * MIB)
    outcome = run(
        "head -c 20M /dev/zero >a; rm a; sleep 0.3", limits=limits, tree_entries=1, tree_bytes=30 * MIB
    )
    assert outcome.limit_hit in (None, "scratch")  # depends on when it was looked at
    assert run("sleep 0.3", limits=limits, tree_entries=1, tree_bytes=30 * MIB).passed


@real
@pytest.mark.parametrize("place", [".", "/tmp", "$HOME"])
def test_a_flood_of_files(run: Run, place: str) -> None:
    program = f"""
import os
os.chdir(os.path.expandvars({place!r}))
number = 0
while True:
    number += 1
    os.close(os.open(str(number), os.O_CREAT))
"""
    outcome = run(PYTHON, "-I", "-S", "-c", program, limits=Limits(wall_seconds=60, scratch_files=3000))
    assert _stopped(outcome, "files")


@real
def test_folders_without_end_are_stopped_and_removed(run: Run, scratch: Path) -> None:
    program = """
import os, time
for _ in range(3000):
    os.mkdir("d")
    os.chdir("d")
os.open("f", os.O_CREAT)
time.sleep(600)
"""
    limits = Limits(wall_seconds=60, scratch_files=1000)
    assert _stopped(run(PYTHON, "-I", "-S", "-c", program, limits=limits), "files")
    remove_tree(scratch / "tree")
    assert not (scratch / "tree").exists()


@real
def test_the_result_cannot_be_forged(run: Run) -> None:
    program = """
import os, signal
for number in range(3, 256):
    try:
        os.write(number, b'{ "exit-code": 0 }\\n')
    except OSError:
        pass
os.write(1, b'{ "exit-code": 0 }\\n')
for pid in (1, -1):
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass
os._exit(7)
"""
    assert run(PYTHON, "-I", "-S", "-c", program).exit_code == 7


# ---- interruptions

DRIVER = """
import sys
from pathlib import Path
from safeai_git.sandbox import choice, Job, Limits
from safeai_git.sandbox.scratch import scratch_directory
backend = choice.untested("B")
with scratch_directory() as scratch:
    (scratch / "tree").mkdir(0o700)
    print(scratch, flush=True)
    try:
        outcome = backend.run(
            Job("driven", ("/bin/sh", "-c", sys.argv[1]), scratch / "tree", Path("/srv/r"), limits=Limits(wall_seconds=60)),
            on_output=lambda piece: print("output", piece, flush=True),
        )
        print(outcome.exit_code, (scratch / "tree/made").stat().st_uid)
    except KeyboardInterrupt:
        print("interrupted")
"""


def _drive(program: str, *, ordinary: bool = False) -> subprocess.Popen[str]:
    python = _python_for_everybody() if ordinary else sys.executable
    argv = [python, "-c", DRIVER, program]
    environment = {"PATH": os.defpath, "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(
        _as_ordinary_user(argv) if ordinary else argv,
        cwd="/",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@real
@pytest.mark.parametrize("ordinary", [False, True])
def test_it_works_for_root_and_for_an_ordinary_user(ordinary: bool) -> None:
    if ordinary and not ROOT:
        pytest.skip("the tests run as an ordinary user anyway")
    with _drive("touch made; id -u; exit 4", ordinary=ordinary) as driver:
        said, complaint = driver.communicate(timeout=60)
    assert complaint == ""
    place, *rest = said.splitlines()
    expected = ORDINARY if ordinary else os.geteuid()
    assert rest[0] == "output b'1000\\n'"
    code, owner = map(int, rest[1].split())
    assert code == 4
    assert owner in identity.RANGE if expected == 0 else owner == expected
    assert not Path(place).exists()


@real
@pytest.mark.parametrize("ordinary", [False, True] if ROOT else [False])
def test_ctrl_c_ends_the_sandbox_and_cleans_up(marker: str, ordinary: bool) -> None:
    with _drive(
        f"trap '' INT TERM; mkdir -p a/b; chmod 0 a; echo {marker}; sleep 600", ordinary=ordinary
    ) as driver:
        assert driver.stdout is not None
        place = Path(driver.stdout.readline().strip())
        assert "output" in driver.stdout.readline()
        assert place.exists()
        assert _commands(marker)
        driver.send_signal(signal.SIGINT)
        said, complaint = driver.communicate(timeout=60)
    assert said == "interrupted\n"
    assert complaint == ""
    assert not place.exists()


@real
def test_B67_nothing_survives_a_killed_supervisor(marker: str) -> None:
    with _drive(f"(setsid sh -c 'sleep 600; : {marker}' &); echo up; sleep 600; : {marker}") as driver:
        assert driver.stdout is not None
        place = Path(driver.stdout.readline().strip())
        assert "output" in driver.stdout.readline()
        assert _commands(marker)
        driver.kill()
    deadline = time.monotonic() + PATIENCE
    while (left := [pid for pid in _commands(marker) if pid != os.getpid()]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == []
    remove_tree(place)


@real
def test_an_error_of_the_listener_ends_the_sandbox(run: Run, marker: str) -> None:
    def fail(_piece: bytes) -> None:
        raise RuntimeError("the screen is gone")

    with pytest.raises(RuntimeError, match="the screen is gone"):
        run("/bin/sh", "-c", "echo x; sleep 600", marker, on_output=fail)
    assert _commands(marker) == []


def _children() -> set[str]:
    tasks = Path("/proc/self/task").iterdir()
    return {child for task in tasks for child in (task / "children").read_text().split()}


def _in_hand() -> tuple[int, set[str]]:
    """How many descriptors this process has open, and its children."""
    return len(os.listdir("/proc/self/fd")), _children()


def _of_level(level: str, state: Path) -> Backend:
    candidate = next(one for one in choice.CANDIDATES if one.level == level)
    try:
        return choice._prepare(candidate, state)
    except SandboxUnavailable as error:
        pytest.skip(f"level {level}: {error.message}")


@pytest.mark.parametrize("level", "ABC")
def test_what_is_stopped_while_it_is_set_up_leaves_nothing(
    level: str, tmp_path_factory: pytest.TempPathFactory, scratch: Path
) -> None:
    """At each moment of it: programs that the launcher had begun are children of ours when it is gone."""
    backend = _of_level(level, tmp_path_factory.mktemp("state"))
    before = _in_hand()
    for number in range(100):
        limits = Limits(wall_seconds=0.0003 * number)
        job = Job("a-check", ("/bin/sh", "-c", "sleep 9"), scratch / "tree", MOUNTED_AT, limits=limits)
        with suppress(SandboxUnavailable):  # it says that nothing was executed
            assert backend.run(job).limit_hit == "wall"
        assert _in_hand() == before, number


@pytest.mark.parametrize("level", "ABC")
def test_neither_descriptors_nor_processes_are_left(
    level: str, tmp_path_factory: pytest.TempPathFactory, scratch: Path
) -> None:
    backend = _of_level(level, tmp_path_factory.mktemp("state"))
    before = _in_hand()
    for limits in (Limits(wall_seconds=60), Limits(wall_seconds=0.3)):
        job = Job("a-check", ("/bin/sh", "-c", "sleep 0.4"), scratch / "tree", MOUNTED_AT, limits=limits)
        assert (backend.run(job).limit_hit is None) is (limits.wall_seconds == 60)
    assert _in_hand() == before


@real
def test_a_job_without_a_command_is_refused(run: Run, backend: Backend, scratch: Path) -> None:
    for argv in ((), ("",), ("a\0b",)):
        with pytest.raises(SandboxUnavailable, match="no command"):
            backend.run(Job("j", argv, scratch / "tree", MOUNTED_AT))


# ---- the self-test: every guard that is taken away is noticed

Mutation = Callable[[list[str]], list[str]]


def _mutate(monkeypatch: pytest.MonkeyPatch, mutate: Mutation) -> None:
    """Change bubblewrap's command line."""
    plain = supervise.run

    def mutated(launch: Launch, job: Job, **more: object) -> Outcome:
        changed = replace(launch, argv=lambda status: mutate(list(launch.argv(status))))
        return plain(changed, job, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(supervise, "run", mutated)


def _without(*flags: str, arguments: int = 0) -> Mutation:
    def mutate(argv: list[str]) -> list[str]:
        for flag in flags:
            place = argv.index(flag)
            del argv[place : place + 1 + arguments]
        return argv

    return mutate


def _swap(old: list[str], new: list[str], *, drop: list[str] | None = None) -> Mutation:
    def mutate(argv: list[str]) -> list[str]:
        place = next(n for n in range(len(argv)) if argv[n : n + len(old)] == old)
        changed = argv[:place] + new + argv[place + len(old) :]
        return _swap(drop, [])(changed) if drop else changed

    return mutate


def _no_remount(argv: list[str]) -> list[str]:
    return _swap(["--remount-ro", "/"], [])(argv)


MUTATIONS: dict[str, tuple[Mutation, str]] = {
    "no filter": (_without("--seccomp", arguments=1), "was not confined"),
    "no /proc/sys": (_swap(["--ro-bind", "/proc/sys", "/proc/sys"], []), "kernel settings: mounted writable"),
    "shared network": (
        _swap(["--unshare-all"], ["--unshare-all", "--share-net"]),
        "tcp to the host: succeeded",
    ),
    "shared host name": (
        _swap(
            ["--unshare-all"],
            ["--unshare-ipc", "--unshare-pid", "--unshare-net"],
            drop=["--hostname", "sandbox"],
        ),
        "namespaces: shared with the host",
    ),
    "writable root": (_no_remount, "unwritable root: can be written"),
    "writable /dev": (_swap(["--remount-ro", "/dev"], []), "unwritable root: can be written"),
    "tree not shown": (
        lambda argv: ["--tmpfs" if one == "--bind" else one for one in argv if not one.endswith("/tree")],
        "did not arrive in the tree",
    ),
}


@real
@pytest.mark.parametrize("name", MUTATIONS)
def test_B67_the_self_test_notices_when_a_guard_is_missing(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    mutate, finding = MUTATIONS[name]
    if name == "no filter":
        monkeypatch.setattr(supervise, "_LONGEST_SETUP_SECONDS", 0.5)
    _mutate(monkeypatch, mutate)
    with pytest.raises(SandboxUnavailable) as caught:
        choice._test(backend)
    assert finding in caught.value.message
    assert caught.value.hint


@real
def test_B67_the_self_test_notices_a_folder_of_the_host(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scratch_directory(room=MIB, entries=16) as beside:
        shown = str(beside.parent)
    mutate = _swap(["--remount-ro", "/"], ["--ro-bind", shown, shown, "--remount-ro", "/"])

    _mutate(monkeypatch, mutate)
    with pytest.raises(SandboxUnavailable) as caught:
        choice._test(backend)  # type: ignore[arg-type]
    for finding in (
        "file of the host: succeeded",
        "socket file of the host: succeeded",
        "connection from inside",
    ):
        assert finding in caught.value.message


@real
def test_B67_the_self_test_notices_an_empty_filter(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    allow_all = struct.pack("<HBBI", 0x06, 0, 0, seccomp.ALLOW)
    monkeypatch.setattr(seccomp, "program", lambda _machine, **_more: allow_all)
    _mutate(monkeypatch, _without("--disable-userns"))
    with pytest.raises(SandboxUnavailable) as caught:
        choice._test(backend)  # type: ignore[arg-type]
    assert "other kinds of socket: succeeded" in caught.value.message
    assert "user namespaces: one can be made" in caught.value.message


_LIMITED = """
import json, resource
names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
print(json.dumps({name: resource.getrlimit(getattr(resource, name)) for name in names}))
"""


@real
@pytest.mark.parametrize("by_shell", [True, False])
@pytest.mark.skipif(not sets_limits(), reason="/bin/sh is not dash")
def test_limits_are_the_same_whoever_sets_them(
    run: Run, monkeypatch: pytest.MonkeyPatch, by_shell: bool
) -> None:
    """The gate's shell, or where that is another one, a program."""
    monkeypatch.setattr(bubblewrap, "sets_limits", lambda: by_shell)
    if by_shell:
        monkeypatch.setattr(bubblewrap, "_prlimit_arguments", lambda _limits: ("--nofile=7:7",))
    limits = Limits(
        wall_seconds=60, processes=77, open_files=99, file_bytes=2**25, memory_bytes=2**28, cpu_seconds=31
    )
    done = run("/usr/bin/python3", "-c", _LIMITED, limits=limits)
    assert done.exit_code == 0, done.output
    found = {name: tuple(both) for name, both in json.loads(done.output).items()}
    wanted = resource_limits(limits)
    assert len(wanted) == 6
    assert {name: found[name] for name in wanted} == wanted


@real
def test_without_one_of_its_limits_nothing_is_executed(
    run: Run, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bubblewrap, "sets_limits", lambda: True)
    monkeypatch.setitem(launch._BUILT_IN, "RLIMIT_NPROC", ("Z", 1))
    with pytest.raises(SandboxUnavailable, match="ulimit"):
        run("touch ran")
    assert not (scratch / "tree/ran").exists()


@real
def test_the_self_test_notices_missing_limits(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap, "resource_limits", lambda _limits: {"RLIMIT_NPROC": (4000, 4000)})
    with pytest.raises(SandboxUnavailable, match="limits: core files and processes"):
        choice._test(backend)  # type: ignore[arg-type]


@real
def test_B65_the_self_test_notices_variables_and_descriptors(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plain = supervise.run
    leaking = os.open(tmp_path, os.O_RDONLY)

    def mutated(launch: Launch, job: Job, **more: object) -> Outcome:
        environment = {**launch.environment, "GITHUB_TOKEN": "canary"}
        changed = replace(launch, environment=environment, descriptors=(*launch.descriptors, leaking))
        return plain(changed, job, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(supervise, "run", mutated)
    with pytest.raises(SandboxUnavailable) as caught:
        choice._test(backend)
    os.close(leaking)
    assert "variables: unexpected: ['GITHUB_TOKEN']" in caught.value.message
    assert f"descriptors: open: [{leaking}]" in caught.value.message


@real
@pytest.mark.skipif(not ROOT, reason="only root can fail to step down")
def test_B67_the_self_test_notices_root(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(backend, bubblewrap.Bubblewrap)
    as_root = bubblewrap.Bubblewrap(bubblewrap.installed(), backend.isolation, None)
    with pytest.raises(SandboxUnavailable, match="no check as itself"):
        choice._test(as_root)
    monkeypatch.setattr(os, "getresuid", lambda: (1, 1, 1))
    with pytest.raises(SandboxUnavailable, match="belongs to user 0 outside"):
        choice._test(as_root)


@real
def test_the_self_test_in_shell_passes_and_notices_too(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "PYTHON", Path("/usr/bin/no-python"))
    choice._test(backend)
    for name, finding in (
        ("shared network", "shared with the host"),
        ("writable root", "read only root: / can be written"),
    ):
        with monkeypatch.context() as one:
            _mutate(one, MUTATIONS[name][0])
            with pytest.raises(SandboxUnavailable) as caught:
                choice._test(backend)  # type: ignore[arg-type]
        assert finding in caught.value.message


@real
def test_a_self_test_that_does_not_end_is_a_failure(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selftest, "_LIMITS", replace(selftest._LIMITS, wall_seconds=0.3))
    monkeypatch.setattr(selftest, "PYTHON", Path("/usr/bin/no-python"))
    monkeypatch.setattr(selftest, "SHELL", "echo begun; sleep 600; echo done")
    with pytest.raises(SandboxUnavailable, match=r"did not come to its end \(wall\)"):
        choice._test(backend)
    monkeypatch.setattr(selftest, "SHELL", "echo begun; echo done; exit 1")
    with pytest.raises(SandboxUnavailable, match=r"did not come to its end \(exit code 1\)"):
        choice._test(backend)
    monkeypatch.setattr(selftest, "_lay_out", lambda _stack: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(SandboxUnavailable, match="cannot be tested"):
        choice._test(backend)


@real
def test_a_passed_self_test_is_remembered_until_something_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = []
    plain = choice._test
    monkeypatch.setattr(choice, "_test", lambda backend, **more: (tests.append(1), plain(backend, **more)))
    monkeypatch.setattr(choice, "CANDIDATES", (NAMESPACES,))
    state = tmp_path / "state"
    first = choose(state_dir=state)
    remembered = state / NAMESPACES.remembered_as
    assert stat.S_IMODE(remembered.stat().st_mode) == 0o600
    assert choose(state_dir=state).isolation == first.isolation
    assert len(tests) == 1
    content = json.loads(remembered.read_text())
    for key in content["key"]:
        changed = {**content, "key": {**content["key"], key: "other"}}
        remembered.write_text(json.dumps(changed))
        choose(state_dir=state)
    assert len(tests) == 1 + len(content["key"])
    remembered.chmod(0o620)
    choose(state_dir=state)
    assert len(tests) == 2 + len(content["key"])
    for broken in ("", "[]", '{"key": 1}', json.dumps({**content, "complete": "yes"})):
        remembered.write_text(broken)
        choose(state_dir=state)
    assert len(tests) == 6 + len(content["key"])
    choose(state_dir=None)
    assert len(tests) == 7 + len(content["key"])


@real
def test_a_state_folder_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert choose(state_dir=tmp_path / "file").isolation.level in "ABC"


@real
def test_where_user_namespaces_cannot_be_turned_off_the_filter_stands_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = supervise.run

    def refusing(launch: Launch, job: Job, **more: object) -> Outcome:
        if "--disable-userns" in launch.argv(0):
            raise supervise.NotStarted("bwrap: Unknown option --disable-userns")
        return plain(launch, job, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(supervise, "run", refusing)
    monkeypatch.setattr(choice, "CANDIDATES", (NAMESPACES,))
    for _ in range(2):  # tested, then remembered
        found = choose(state_dir=tmp_path)
        assert found.isolation.degraded == ("user namespaces are refused by the filter alone",)
        assert isinstance(found, bubblewrap.Bubblewrap)
        assert not found._no_further_namespaces


# ---- no sandbox: nothing runs, and the reason is said


def test_other_systems_say_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SandboxUnavailable, match="on Linux only") as caught:
        choose(state_dir=None)
    assert caught.value.hint
    assert describe() == []


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_importing_it_elsewhere_does_no_harm(platform: str) -> None:
    missing = ("resource", "fcntl", "termios") + (("pwd", "grp") if platform == "win32" else ())
    program = (
        "import sys, subprocess, tempfile, selectors, socket, random\n"
        f"sys.platform = {platform!r}\n"
        f"sys.modules.update(dict.fromkeys({missing if platform == 'win32' else ('termios',)!r}))\n"
        "import os\n"
        "for name in ('geteuid', 'getuid', 'getresuid', 'statvfs', 'O_DIRECTORY', 'O_NOFOLLOW', 'O_CLOEXEC', 'sysconf',\n"
        "             'fwalk', 'memfd_create', 'pidfd_open', 'ST_NOEXEC', 'ST_RDONLY', 'MFD_CLOEXEC'):\n"
        "    delattr(os, name)\n"
        "import safeai_git.sandbox, safeai_git.git.materialise\n"
        "try:\n"
        "    safeai_git.sandbox.choose(state_dir=None)\n"
        "except safeai_git.core.errors.SandboxUnavailable as error:\n"
        "    print(error.message)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, env={"PATH": os.defpath}
    )
    assert done.stderr == ""
    assert "on Linux only" in done.stdout


def test_without_bubblewrap_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *, install: str) -> Path:
        return programs.find_program(name, install=install, folders=(Path("/nowhere"),))

    monkeypatch.setattr(bubblewrap, "find_program", missing)
    monkeypatch.setattr(landlock, "abi", lambda: 5)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(SandboxUnavailable, match="bwrap is not installed") as caught:
        choose(state_dir=None)
    assert "apt-get install -y bubblewrap" in caught.value.hint
    assert "ABI is 5 here, 6 is needed" in caught.value.message
    assert "6.12" in caught.value.hint
    reports = describe()
    assert [(one.level, one.name, one.available) for one in reports] == [
        (one.level, one.name, False) for one in choice.CANDIDATES
    ]
    assert all(one.hint and one.isolation is None for one in reports)
    assert "not installed" in reports[0].reason


@real
def test_what_is_there_is_described(backend: Backend) -> None:
    report = next(one for one in describe() if one.level == "B")
    assert report.available
    assert report.isolation == backend.isolation
    assert backend.isolation.level == "B"
    assert backend.isolation.backend == "bubblewrap"
    assert backend.isolation.backend_sha256 == programs.sha256_of(bubblewrap.installed().bubblewrap)
    assert backend.isolation.selftest_sha256 == selftest.digest()
    assert backend.isolation.kernel == os.uname().release


@pytest.mark.parametrize(
    ("said", "settings", "cause", "hint"),
    [
        ("bwrap: setting up uid map: Permission denied", {"apparmor": "1"}, "AppArmor", "apparmor_parser -r"),
        ("bwrap: loopback: Failed RTM_NEWADDR: x", {"apparmor": "1"}, "AppArmor", "apparmor_restrict"),
        (
            "bwrap: No permissions to create a new namespace",
            {"debian": "0"},
            "switched off",
            "userns_clone=1",
        ),
        (
            "bwrap: Creating new namespace failed: x",
            {"number": "0"},
            "no user namespaces",
            "max_user_namespaces",
        ),
        ("bwrap: Creating new namespace failed: x", {}, "the container around", "--security-opt"),
        ("bwrap: Can't mount proc on /newroot/proc: x", {}, "hides parts of /proc", "systempaths"),
        ("mount: /sys/tree: permission denied.", {}, "can mount no overlay", "level A"),
        ("bwrap: Unknown option --size", {}, "too old", "0.8"),
        ("bwrap: Can't find source path /x: x", {}, "cannot be reached", "exists"),
        ("setpriv: setresuid failed: Operation not permitted", {}, "become another user", "ordinary user"),
        ("bwrap: execvp /usr/bin/prlimit: No such file", {}, "missing", "util-linux"),
        ("bwrap: something new", {}, "gave up (bwrap: something new)", "doctor"),
        ("", {}, "no reason given", "doctor"),
    ],
)
def test_each_cause_has_its_words(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
    settings: dict[str, str],
    cause: str,
    hint: str,
) -> None:
    for name, switch in (
        ("apparmor", "_APPARMOR_SWITCH"),
        ("debian", "_DEBIAN_SWITCH"),
        ("number", "_NUMBER_ALLOWED"),
    ):
        if name in settings:
            (tmp_path / name).write_text(f"{settings[name]}\n")
        monkeypatch.setattr(causes, switch, tmp_path / name)
    error = causes.explain(f"some noise\n{said}\n" if said else "")
    assert cause in error.message
    assert "nothing was executed" in error.message
    assert hint in error.hint


@real
def test_a_sandbox_that_cannot_be_set_up_runs_nothing(
    run: Run, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _mutate(monkeypatch, lambda argv: [argv[0], "--ro-bind", "/no/such/place", "/x", *argv[1:]])
    with pytest.raises(SandboxUnavailable, match="cannot be reached"):
        run("touch ran")
    assert not (scratch / "tree/ran").exists()


def _launch(program: str, found: identity.Identity | None = None) -> Launch:
    """Something else in bubblewrap's place; ``$1`` is the status pipe."""
    return Launch(lambda status: ("/bin/sh", "-c", program, "sh", str(status)), ("true",), {}, (), found)


@real
def test_a_sandbox_that_cannot_be_started_says_so(scratch: Path) -> None:
    for found in (identity.Identity(2**31, 2**31) if ROOT else None, None):
        launch = replace(_launch("", found), argv=lambda _status: ("/no/such/program",))
        with pytest.raises(SandboxUnavailable, match=r"could not be set up: (setpriv|sh|/bin/sh): .*"):
            supervise.run(launch, Job("j", ("x",), scratch / "tree", MOUNTED_AT))


@real
def test_a_sandbox_ended_from_outside_is_no_answer(run: Run, marker: str) -> None:
    def kill(_piece: bytes) -> None:
        bubblewraps = [pid for pid in _commands(marker) if pid != os.getpid()]
        (outer,) = [pid for pid in bubblewraps if supervise._parent(pid) == os.getpid()]
        os.kill(outer, signal.SIGKILL)

    with pytest.raises(SandboxUnavailable, match="ended from outside, by signal 9"):
        run("/bin/sh", "-c", "echo up; sleep 600", marker, on_output=kill)


@real
def test_a_command_starts_only_when_it_cannot_outlive_its_supervisor(
    run: Run, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "_is_bound", lambda *_: False)
    monkeypatch.setattr(supervise, "_LONGEST_SETUP_SECONDS", 0.2)
    with pytest.raises(SandboxUnavailable, match="was not confined"):
        run("touch ran")
    with pytest.raises(SandboxUnavailable, match="no reason given"):
        run("touch ran", limits=Limits(wall_seconds=0.1))
    assert not (scratch / "tree/ran").exists()


@real
def test_B67_a_supervisor_killed_at_any_moment_leaves_nothing(marker: str) -> None:
    program = (
        "import os, sys, threading, time\n"
        "from pathlib import Path\n"
        "from safeai_git.sandbox import Job, bubblewrap\n"
        "from safeai_git.sandbox.identity import sandbox_identity\n"
        "backend = bubblewrap.Bubblewrap(bubblewrap.installed(), None, sandbox_identity())\n"
        "after = float(sys.argv[1])\n"
        "threading.Thread(target=lambda: (time.sleep(after), os.kill(os.getpid(), 9)), daemon=True).start()\n"
        "command = ('/bin/sh', '-c', 'sleep 600', sys.argv[3])\n"
        "backend.run(Job('j', command, Path(sys.argv[2]), Path('/srv/r')))\n"
    )
    with scratch_directory() as place:
        for step in range(25):
            tree = place / f"tree-{step}"
            tree.mkdir(mode=0o700)
            argv = [sys.executable, "-c", program, str(step * 0.0008), str(tree), marker]
            done = subprocess.run(argv, cwd=PROJECT, env={"PATH": os.defpath}, stdin=subprocess.DEVNULL)
            assert done.returncode == -signal.SIGKILL
        deadline = time.monotonic() + PATIENCE
        while _commands(marker) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert _commands(marker) == []


@real
def test_a_sandbox_that_does_not_come_up_ran_nothing(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "_LONGEST_SETUP_SECONDS", 0.2)
    job = Job("j", ("x",), scratch / "tree", MOUNTED_AT, limits=Limits(wall_seconds=0.2))
    with pytest.raises(supervise.NotStarted, match="no reason given"):
        supervise.run(_launch("exec sleep 600"), job)


@real
@pytest.mark.parametrize(
    "status", ["", "garbage", '{ "exit-code": 0 }', '{ "child-pid": 1 }', '[1] { "exit-code": 5 }', "up"]
)
def test_a_status_that_does_not_fit_is_no_answer(scratch: Path, status: str) -> None:
    program = f"echo up >&0; printf '%s' '{status}' >/dev/fd/$1; echo said; exit 3"
    with pytest.raises(supervise.NotStarted, match="said"):
        supervise.run(_launch(program), Job("j", ("x",), scratch / "tree", MOUNTED_AT))


@real
def test_a_kernel_without_process_descriptors_runs_nothing(
    run: Run, scratch: Path, marker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_pid: int) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    with pytest.raises(SandboxUnavailable, match="cannot be held") as caught:
        run("/bin/sh", "-c", "touch ran; sleep 600", marker)
    assert "Linux 5.3" in caught.value.hint
    assert not (scratch / "tree/ran").exists()


@real
def test_a_tree_that_is_not_there_is_refused(scratch: Path) -> None:
    with pytest.raises(SandboxUnavailable, match="cannot be watched"):
        supervise.run(_launch("true"), Job("j", ("x",), scratch / "missing", MOUNTED_AT))


@real
def test_a_tree_closed_by_its_job_is_measured_as_far_as_it_can_be(run: Run, scratch: Path) -> None:
    outcome = run("head -c 20M /dev/zero >f; chmod 0 .; sleep 600", limits=Limits(60, scratch_bytes=8 * MIB))
    assert _stopped(outcome, "scratch")
    remove_tree(scratch / "tree")


def test_what_cannot_be_read_makes_a_backend_unusable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    unreadable = replace(NAMESPACES, installed=lambda: (_ for _ in ()).throw(PermissionError(13, "no", "/x")))
    monkeypatch.setattr(choice, "CANDIDATES", (unreadable,))
    with pytest.raises(SandboxUnavailable, match="cannot be read"):
        choose(state_dir=None)


@real
@pytest.mark.skipif(not ROOT, reason="only root runs checks as somebody else")
def test_root_needs_a_tree_that_others_can_reach(backend: Backend, scratch: Path) -> None:
    (scratch / "closed/tree").mkdir(parents=True)
    (scratch / "closed").chmod(0o700)
    with pytest.raises(SandboxUnavailable, match="cannot enter"):
        backend.run(Job("j", ("true",), scratch / "closed/tree", MOUNTED_AT))
