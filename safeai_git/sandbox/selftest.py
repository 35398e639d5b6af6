"""Proves on this machine, now, that a backend keeps its promises, before anything else is run in it.

The probes run through the same door as any job. Next to them stand what they must not reach: a listening port, sockets,
a file, an inheritable descriptor; each is first shown to be within reach from outside, so that a refusal means
something. A failed, crashed or late test means that the backend is not usable.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from safeai_git.core.errors import SandboxUnavailable
from safeai_git.sandbox.port import MIB, Backend, Job, Limits, Outcome
from safeai_git.sandbox.scratch import scratch_directory

PYTHON = Path("/usr/bin/python3")
INSIDE = Path(__file__).with_name("inside.py")
MOUNTED_AT = Path("/srv/safeai-self-test")
NAMESPACES = ("mnt", "pid", "net", "ipc", "uts", "user")

_LIMITS = Limits(
    wall_seconds=30, memory_bytes=512 * MIB, processes=32, open_files=256, scratch_bytes=64 * MIB
)
_MOST_LINES = 20

# The same in shell, for a machine without Python in /usr. $1 file, $2 socket, then the host's namespaces.
SHELL = r"""
echo begun
say() { echo "$1"; }
[ -e "$1" ] && say "file of the host: can be seen"
[ -e "$2" ] && say "socket file of the host: can be seen"
shift 2
for one in "$@"; do
  [ "$(readlink /proc/self/ns/"${one%%:*}")" = "$one" ] && say "namespaces: $one is shared with the host"
done
tail -n +3 /proc/net/dev | grep -qv '^ *lo:' && say "network: there is more than loopback"
tr '\0' '\n' </proc/1/environ | grep -q '^SAFEAI' && say "variables: the host's are visible"
for one in 3 4 5 6 7 8 9; do
  [ -e "/proc/$$/fd/$one" ] && [ "$(readlink "/proc/$$/fd/$one" | cut -c1-5)" != "pipe:" ] &&
    say "descriptors: $one is open"
done
grep -q '^NoNewPrivs:.*1' /proc/self/status || say "privileges: new ones can be had"
grep -q '^Seccomp:.*2' /proc/self/status || say "privileges: no filter"
grep -q '^CapEff:.*0000000000000000' /proc/self/status || say "privileges: there are capabilities"
(unshare -U true) 2>/dev/null && say "user namespaces: can be made"
(: >>/proc/sys/kernel/core_pattern) 2>/dev/null && say "kernel settings: can be written"
for one in / /usr /etc /dev; do (: >"$one/made-inside") 2>/dev/null && say "read only root: $one can be written"; done
echo written >made-inside || say "writable tree: it is not"
echo done
"""


@cache
def digest() -> str:
    """SHA-256, in hex, over the probes."""
    return hashlib.sha256(INSIDE.read_bytes() + SHELL.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Bait:
    """What stands outside and must not be reached."""

    folder: Path
    secret: Path
    socket_file: Path
    datagrams: Path
    abstract: str
    port: int
    listeners: tuple[socket.socket, ...]
    receiver: socket.socket


def check(backend: Backend, *, owner: int, variables: tuple[str, ...], spaces: bool = True) -> None:
    """Run the probes.

    Args:
        backend: What is tested.
        owner: The user id, outside, that its jobs have.
        variables: The names of all variables that a job has.
        spaces: Whether it promises namespaces.

    Raises:
        SandboxUnavailable: With what was found.
    """
    with ExitStack() as stack:
        try:
            bait = _lay_out(stack)
        except OSError as error:
            raise SandboxUnavailable(
                f"the sandbox cannot be tested: {error}", hint="check that TMPDIR can be written"
            ) from error
        outcome = backend.run(_python_job(bait, variables, spaces))
        if spaces and not outcome.output.startswith(
            b"begun\n"
        ):  # not there, or too small an installation of it
            outcome = backend.run(_shell_job(bait))
        problems = [*_told(outcome), *_seen_outside(bait, owner, backend.keeps_tree)]
    if problems:
        raise SandboxUnavailable(
            f"the sandbox does not isolate here, so nothing is run in it: {'; '.join(problems)}",
            hint="replay on another machine, and report this with the output of 'safeai-git doctor'",
        )


def _lay_out(stack: ExitStack) -> _Bait:
    folder = stack.enter_context(scratch_directory(room=MIB, entries=16))
    (folder / "tree").mkdir(mode=0o700)
    secret = folder / "secret"
    secret.write_text("not for the sandbox", encoding="ascii")
    secret.chmod(0o644)
    descriptor = os.open(secret, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    os.set_inheritable(descriptor, True)
    abstract = f"safeai-{secrets.token_hex(8)}"
    listeners = []
    for family, address in (
        (socket.AF_INET, ("127.0.0.1", 0)),
        (socket.AF_UNIX, str(folder / "socket")),
        (socket.AF_UNIX, f"\0{abstract}"),
    ):
        listener = stack.enter_context(socket.socket(family))
        listener.bind(address)
        listener.listen(4)
        with socket.socket(family) as near:
            near.connect(listener.getsockname())
            listener.accept()[0].close()
        listener.setblocking(False)
        listeners.append(listener)
    datagrams = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    datagrams.bind(str(folder / "datagrams"))
    datagrams.setblocking(False)
    (folder / "datagrams").chmod(0o777)
    (folder / "socket").chmod(0o777)
    port: int = listeners[0].getsockname()[1]
    return _Bait(
        folder, secret, folder / "socket", folder / "datagrams", abstract, port, tuple(listeners), datagrams
    )


def _host_namespaces() -> dict[str, str]:
    return {name: str(Path(f"/proc/self/ns/{name}").readlink()) for name in NAMESPACES}


def _python_job(bait: _Bait, variables: tuple[str, ...], spaces: bool) -> Job:
    facts = {
        "spaces": spaces,
        "supervisor": os.getpid(),
        "port": bait.port,
        "secret": str(bait.secret),
        "socket": str(bait.socket_file),
        "datagrams": str(bait.datagrams),
        "abstract": bait.abstract,
        "variables": variables,
        "namespaces": _host_namespaces() if spaces else {},
        "processes": _LIMITS.processes,
    }
    script = INSIDE.read_text(encoding="utf-8")
    return _job(bait, (str(PYTHON), "-I", "-S", "-c", script, json.dumps(facts)))


def _shell_job(bait: _Bait) -> Job:
    arguments = (str(bait.secret), str(bait.socket_file), *_host_namespaces().values())
    return _job(bait, ("/bin/sh", "-c", SHELL, "sh", *arguments))


def _job(bait: _Bait, argv: tuple[str, ...]) -> Job:
    return Job("self-test", argv, bait.folder / "tree", MOUNTED_AT, limits=_LIMITS)


def _told(outcome: Outcome) -> list[str]:
    lines = outcome.output.decode("utf-8", "replace").splitlines()
    if outcome.passed and lines[:1] == ["begun"] and lines[-1:] == ["done"]:
        return lines[1:-1]
    ended = outcome.limit_hit or f"exit code {outcome.exit_code}"
    return [*lines[1:_MOST_LINES], f"the self-test did not come to its end ({ended})"]


def _seen_outside(bait: _Bait, owner: int, keeps_tree: bool) -> list[str]:
    """What a job cannot lie about."""
    problems = []
    for listener in bait.listeners:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            continue
        problems.append("a connection from inside arrived")
    with suppress(BlockingIOError):
        bait.receiver.recv(16)
        problems.append("a datagram from inside arrived")
    made = bait.folder / "tree" / "made-inside"
    if keeps_tree:
        return [*problems, "what was written inside reached the tree"] if os.path.lexists(made) else problems
    if not made.is_file() or made.read_text(encoding="ascii").strip() != "written":
        problems.append("what was written inside did not arrive in the tree")
    elif made.stat().st_uid != owner or owner == 0:
        problems.append(
            f"what was written inside belongs to user {made.stat().st_uid} outside, not to {owner}"
        )
    return problems
