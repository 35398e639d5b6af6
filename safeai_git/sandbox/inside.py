"""The self-test's part that runs inside the sandbox, as a script of the system's own Python.

Attempts what must not work and what must, and prints ``begun``, a line for each surprise, then ``done``. Needs nothing
but the standard library of Python 3.8, and is never imported by the product.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import socket
import struct
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

_UNWRITABLE = ("/", "/usr", "/etc", "/dev", "/home", "/proc/sys/kernel", "/var/tmp")  # noqa: S108
_VSOCK, _PACKET, _ALG, _MPTCP = 40, 17, 38, 262
_CLONE_NEWUSER = 0x10000000
_GET_SECCOMP, _CAPBSET_READ, _GET_NO_NEW_PRIVS = 21, 23, 39  # linux/prctl.h


def _fails(number: int, attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return "" if error.errno == number else f"failed otherwise: {error}"
    return "succeeded"


def _connect(family: int, address: Any) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(5)
        one.connect(address)


def _open_socket(family: int, protocol: int = 0) -> None:
    socket.socket(family, socket.SOCK_STREAM, protocol).close()


def _refusal(facts: dict[str, Any], with_namespaces: int) -> int:
    """The error of a socket: where there is no namespace for them there are none."""
    return with_namespaces if facts["spaces"] else errno.EAFNOSUPPORT


def _tcp_to_the_host(facts: dict[str, Any]) -> str:
    return _fails(
        _refusal(facts, errno.ECONNREFUSED), lambda: _connect(socket.AF_INET, ("127.0.0.1", facts["port"]))
    )


def _socket_file_of_the_host(facts: dict[str, Any]) -> str:
    return _fails(_refusal(facts, errno.ENOENT), lambda: _connect(socket.AF_UNIX, facts["socket"]))


def _abstract_socket_of_the_host(facts: dict[str, Any]) -> str:
    return _fails(
        _refusal(facts, errno.ECONNREFUSED), lambda: _connect(socket.AF_UNIX, "\0" + facts["abstract"])
    )


def _other_kinds_of_socket(facts: dict[str, Any]) -> str:
    found = [_fails(errno.EAFNOSUPPORT, partial(_open_socket, one)) for one in (_VSOCK, _PACKET, _ALG)]
    mptcp = _refusal(facts, errno.EPROTONOSUPPORT)
    found.append(_fails(mptcp, lambda: _open_socket(socket.AF_INET, _MPTCP)))
    return ", ".join(filter(None, found))


def _datagrams_through_a_pair(facts: dict[str, Any]) -> str:
    def send() -> None:
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with one, other:
            one.sendto(b"hello", facts["datagrams"])

    return _fails(errno.ENOENT if facts["spaces"] else errno.ESOCKTNOSUPPORT, send)


def _own_loopback(facts: dict[str, Any]) -> str:
    if not facts["spaces"]:
        return ""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)
        _connect(socket.AF_INET, server.getsockname())
    return ""


def _file_of_the_host(facts: dict[str, Any]) -> str:
    return _fails(
        errno.ENOENT if facts["spaces"] else errno.EACCES, lambda: os.open(facts["secret"], os.O_RDONLY)
    )


def _signal_to_the_host(facts: dict[str, Any]) -> str:
    return _fails(errno.ESRCH if facts["spaces"] else errno.EPERM, lambda: os.kill(facts["supervisor"], 0))


def _variables(facts: dict[str, Any]) -> str:
    names = set()
    if not facts["spaces"]:
        names = set(os.environ)
    for place in ("/proc/self/environ", "/proc/1/environ") if facts["spaces"] else ():
        names |= {os.fsdecode(one.partition(b"=")[0]) for one in Path(place).read_bytes().split(b"\0") if one}
    strange = names - set(facts["variables"]) - {"PWD"}
    return f"unexpected: {sorted(strange)}" if strange else ""


def _descriptors(_facts: dict[str, Any]) -> str:
    found = [number for number in range(3, 1024) if _fails(errno.EBADF, partial(os.fstat, number))]
    return f"open: {found}" if found else ""


def _kernel_settings(facts: dict[str, Any]) -> str:
    if facts["spaces"] and not os.statvfs("/proc/sys").f_flag & os.ST_RDONLY:
        return "mounted writable"
    try:
        os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))
    except OSError:
        return ""
    return "core_pattern can be opened for writing"


def _user_namespaces(_facts: dict[str, Any]) -> str:
    return "one can be made" if ctypes.CDLL(None).unshare(_CLONE_NEWUSER) == 0 else ""


def _namespaces(facts: dict[str, Any]) -> str:
    shown = {name: os.readlink(f"/proc/self/ns/{name}") for name in facts["namespaces"]}  # noqa: PTH115 - Python 3.8
    same = sorted(shown.items() & facts["namespaces"].items())
    return f"shared with the host: {same}" if same else ""


def _privileges(facts: dict[str, Any]) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    capabilities = ctypes.create_string_buffer(24)
    found = []
    # capget(2): version 3, this process; effective, permitted, inheritable
    if libc.capget(struct.pack("=Ii", 0x20080522, 0), capabilities) or any(capabilities.raw):
        found.append("there are capabilities")
    if facts["spaces"] and any(libc.prctl(_CAPBSET_READ, number, 0, 0, 0) == 1 for number in range(64)):
        found.append("capabilities can be had")
    if libc.prctl(_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1:
        found.append("new ones can be had")
    if libc.prctl(_GET_SECCOMP, 0, 0, 0, 0) != 2:
        found.append("no filter")
    return ", ".join(found)


def _unwritable_root(_facts: dict[str, Any]) -> str:
    written = []
    for place in _UNWRITABLE:
        try:
            Path(place, "made-inside").mkdir()
        except OSError:
            continue
        written.append(place)
    return f"can be written: {written}" if written else ""


def _writable_places(facts: dict[str, Any]) -> str:
    memory = ["/dev/shm"] if facts["spaces"] else []  # noqa: S108
    for place in (".", os.environ["TMPDIR"], os.environ["HOME"], *memory):
        Path(place, "made-inside").write_text("written", encoding="ascii")
    return ""


def _limits(facts: dict[str, Any]) -> str:
    # Without a namespace the number counts what the user runs already, too.
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[1] if facts["spaces"] else facts["processes"]
    found = (resource.getrlimit(resource.RLIMIT_CORE)[1], processes)
    return "" if found == (0, facts["processes"]) else f"core files and processes: {found}"


_PROBES = (
    _tcp_to_the_host,
    _socket_file_of_the_host,
    _abstract_socket_of_the_host,
    _other_kinds_of_socket,
    _datagrams_through_a_pair,
    _own_loopback,
    _file_of_the_host,
    _signal_to_the_host,
    _variables,
    _descriptors,
    _kernel_settings,
    _user_namespaces,
    _namespaces,
    _privileges,
    _unwritable_root,
    _writable_places,
    _limits,
)


def _main() -> None:
    print("begun", flush=True)
    facts = json.loads(sys.argv[1])
    for probe in _PROBES:
        if problem := probe(facts):
            print(f"{probe.__name__.replace('_', ' ').strip()}: {problem}", flush=True)
    print("done")


_main()
