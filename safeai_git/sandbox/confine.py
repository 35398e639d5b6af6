"""The launcher of level C, as a script of an interpreter of its own; never imported by the product.

It forks. The child gives up everything that it may not have and becomes the command; this process stays outside the
child's domain, is the parent of whatever the child leaves behind (PR_SET_CHILD_SUBREAPER), and ends only when nothing
of it is left. It does so too when the leash closes: when whoever started it wants it to stop, or has died. Arguments:
descriptors of the specification (see `landlock.specification`), of the status pipe and of the leash; then ``--`` and
the command. Needs nothing but the standard library of Python 3.8.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import resource
import select
import signal
import struct
import sys
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:  # each module that is imported here costs a check milliseconds
    from typing import Any

# linux/prctl.h
_SET_PDEATHSIG, _SET_SECCOMP, _SET_CHILD_SUBREAPER, _SET_NO_NEW_PRIVS = 1, 22, 36, 38
_SECCOMP_MODE_FILTER = 2
# The same numbers on every architecture (landlock(7))
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_RULE_PATH_BENEATH = 1
_CONFINEMENT_FAILED = 126

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _prctl(option: int, *values: Any) -> None:
    more = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in (*values, 0, 0, 0, 0)[:4]]
    _checked(_libc.prctl(option, *more), f"prctl({option})")


def _restrict_files(rules: dict[str, Any]) -> None:
    attributes = struct.pack("=QQQ", rules["files"], rules["network"], rules["scoped"])
    ruleset = _checked(
        _libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0),
        "landlock_create_ruleset",
    )
    for path, access in rules["allowed"]:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        rule = struct.pack("=Qi", access, place)
        _checked(_libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0), f"landlock_add_rule({path})")
        os.close(place)
    _checked(_libc.syscall(_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)


def _restrict_calls(code: bytes) -> None:
    steps = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(steps, ctypes.c_void_p).value)
    _prctl(_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program))


def _write(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, content)
    finally:
        os.close(descriptor)


def _become(command: list[str], specification: dict[str, Any], parent: int) -> None:
    """Give up everything, then start the command; does not come back."""
    # Ignored by this interpreter, which a program would inherit
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(_CONFINEMENT_FAILED)
    with suppress(OSError):  # so that the kernel, short of memory, ends this and not what watches it
        _write("/proc/self/oom_score_adj", b"500")
    os.umask(0o022)
    os.chdir(specification["folder"])
    for name, (soft, hard) in specification["limits"].items():
        resource.setrlimit(getattr(resource, name), (soft, hard))
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    _prctl(_SET_NO_NEW_PRIVS, 1)
    _restrict_files(specification["rules"])
    _restrict_calls(bytes.fromhex(specification["filter"]))
    os.execve(command[0], command, specification["environment"])  # noqa: S606 - a shell is one of the things it may be


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208
            with suppress(OSError), open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def _descendants() -> list[int]:
    found, waiting = [], [os.getpid()]
    while waiting:
        below = _children(waiting.pop())
        found += below
        waiting += below
    return found


_PAUSE = 0.001
"""Seconds between two looks for what is left."""


def _end_all() -> None:
    """End whatever descends from this process. First all are stopped, so that none can make another meanwhile."""
    while True:
        stopped: set[int] = set()
        while new := set(_descendants()) - stopped:
            for pid in new:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGSTOP)
            stopped |= new
        for pid in stopped:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        # Only for those: one that was missed, since it ended as it made the next, goes on doing so for ever.
        for pid in stopped:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return  # orphans come to this process, so without children there are no descendants
        select.select([], [], [], _PAUSE)


def _watch(child: int, leash: int, wake: int) -> int:
    """Until the child has ended or the leash closes; gives back the code, as a shell would."""
    while True:
        ready = select.select([leash, wake], [], [])[0]
        if wake in ready:
            os.read(wake, 4096)
            with suppress(ChildProcessError):
                while True:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                    if pid == child:
                        code = (
                            os.waitstatus_to_exitcode(status)
                            if hasattr(os, "waitstatus_to_exitcode")
                            else status >> 8
                        )
                        return code if code >= 0 else 128 - code
                    if pid == 0:
                        break
        if leash in ready:
            return 128 + signal.SIGKILL


def _main() -> int:
    specified, status, leash = map(int, sys.argv[1:4])
    command = sys.argv[5:]
    with os.fdopen(specified, "rb") as file:
        specification = marshal.loads(file.read())  # noqa: S302 - written by who started this
    _prctl(_SET_CHILD_SUBREAPER, 1)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # whoever holds the leash decides
        signal.signal(number, signal.SIG_IGN)
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            _become(command, specification, parent)
        except (OSError, ValueError) as error:
            os.write(2, f"confine: {error}\n".encode())
        finally:
            os._exit(_CONFINEMENT_FAILED)
    os.write(status, b'{"child-pid": %d}' % child)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # the child has them; here they would keep its pipes open
        os.dup2(null, descriptor)
    code = _watch(child, leash, wake)
    _end_all()
    os.write(status, b'{"exit-code": %d}' % code)
    return code


if __name__ == "__main__":
    os._exit(_main())
