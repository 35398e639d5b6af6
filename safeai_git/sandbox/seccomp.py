"""The system call filter: classic BPF, generated here, for x86_64 and aarch64.

Everything is allowed that is not named below or newer than this table. Refused calls give an error that libraries
know how to live with; only another ABI's call kills. An architecture without a table is refused, never run unfiltered.
Numbers: Linux ``arch/x86/entry/syscalls/syscall_64.tbl`` and ``include/uapi/asm-generic/unistd.h``. Instructions and
return values: ``linux/filter.h``, ``linux/seccomp.h``; the data they read: ``struct seccomp_data``.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

from safeai_git.core.errors import SandboxUnavailable

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""``AUDIT_ARCH_*`` by the name that ``uname -m`` prints."""

NEWEST = 469
"""``file_setattr`` (Linux 6.17). What came later was never judged and answers ENOSYS, as on an older kernel. The x32
calls (0x40000000 and up) fall under the same comparison."""

_BOTH = ("x86_64", "aarch64")

REFUSED: dict[str, tuple[int | None, int | None]] = {
    # other processes
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    # runs calls that no filter sees
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    # the user's keyrings are not namespaced
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    # kernel attack surface that no check needs
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "memfd_secret": (447, 447),
    # mounts and namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "move_mount": (429, 429),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    # files by handle go round the mount namespace
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    # the machine
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "create_module": (174, None),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "get_kernel_syms": (177, None),
    "query_module": (178, None),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "clock_settime": (227, 112),
    "settimeofday": (164, 170),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "syslog": (103, 116),
    "personality": (135, 92),
    "vhangup": (153, 58),
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
    "_sysctl": (156, None),
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
}

SHARED: dict[str, tuple[int | None, int | None]] = {
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "shmdt": (67, 197),
    "semget": (64, 190),
    "semop": (65, 193),
    "semctl": (66, 191),
    "semtimedop": (220, 192),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
}
"""Outlast a run and are seen by others, where there is no namespace for them."""

FILTERED = {
    "clone": (56, 220),
    "clone3": (435, 435),
    "ioctl": (16, 29),
    "socket": (41, 198),
    "socketpair": (53, 199),
}

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET = 1, 2, 5
NETLINK_ROUTE = 0
INTERNET_PROTOCOLS = (0, 1, 6, 17, 58)
"""Default, ICMP, TCP, UDP, ICMPv6. MPTCP (262) passes where TCP is watched; others make the kernel load modules."""

# CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}; NEWTIME exists only for clone3 and unshare
_CLONE_NEW = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C

_LOAD, _JEQ, _JGT, _JSET, _AND, _RET = 0x20, 0x15, 0x25, 0x45, 0x54, 0x06
_NR, _ARCH = 0, 4

ALLOW = 0x7FFF0000
KILL = 0x80000000
_ERRNO = 0x00050000

_Step = tuple[int, int, int, int]


def refusal(number: int) -> int:
    """``SECCOMP_RET_ERRNO`` with an error number."""
    return _ERRNO | number


def _argument(index: int) -> int:
    # The low half of a 64-bit argument, little-endian: the kernel takes these as 32-bit values too, and comparing
    # all 64 bits would let a call through whose high half is not zero (CVE-2019-7303).
    return 16 + 8 * index


def _ret(value: int) -> _Step:
    return (_RET, 0, 0, value)


def _one_of(values: tuple[int, ...], otherwise: int) -> list[_Step]:
    """Refuse unless the accumulator is one of the values; then go on."""
    count = len(values)
    return [(_JEQ, count - place, 0, value) for place, value in enumerate(values)] + [_ret(otherwise)]


def _rules(column: int, spaces: bool, network: bool) -> Iterator[tuple[int, list[_Step]]]:
    """Per call that is looked at more closely: its number and what decides, beginning with no accumulator."""
    eperm = refusal(errno.EPERM)
    yield FILTERED["clone3"][column], [_ret(refusal(errno.ENOSYS))]  # glibc falls back to clone
    yield (
        FILTERED["clone"][column],
        [(_LOAD, 0, 0, _argument(0)), (_JSET, 0, 1, _CLONE_NEW), _ret(eperm), _ret(ALLOW)],
    )
    yield (
        FILTERED["ioctl"][column],
        [
            (_LOAD, 0, 0, _argument(1)),
            (_JEQ, 1, 0, _TIOCSTI),
            (_JEQ, 0, 1, _TIOCLINUX),
            _ret(eperm),
            _ret(ALLOW),
        ],
    )
    # A datagram pair could be pointed at any socket file of the host, where there is no own file system, and at any
    # abstract socket of the host, where its network is shared.
    pairs = [(_LOAD, 0, 0, _argument(1)), (_AND, 0, 0, 0xF)]
    pairs += _one_of((SOCK_STREAM, SOCK_SEQPACKET), refusal(errno.ESOCKTNOSUPPORT))
    yield (
        FILTERED["socketpair"][column],
        [
            (_LOAD, 0, 0, _argument(0)),
            *_one_of((AF_UNIX,), refusal(errno.EAFNOSUPPORT)),
            *([] if spaces and not network else pairs),
            _ret(ALLOW),
        ],
    )
    if not spaces:
        yield FILTERED["socket"][column], [_ret(refusal(errno.EAFNOSUPPORT))]
        return
    netlink = [
        (_LOAD, 0, 0, _argument(2)),
        *_one_of((NETLINK_ROUTE,), refusal(errno.EPROTONOSUPPORT)),
        _ret(ALLOW),
    ]
    internet = [
        (_LOAD, 0, 0, _argument(1)),
        (_AND, 0, 0, 0xF),  # SOCK_TYPE_MASK
        *_one_of((SOCK_STREAM, SOCK_DGRAM), refusal(errno.ESOCKTNOSUPPORT)),
        (_LOAD, 0, 0, _argument(2)),
        *_one_of(INTERNET_PROTOCOLS, refusal(errno.EPROTONOSUPPORT)),
        _ret(ALLOW),
    ]
    yield (
        FILTERED["socket"][column],
        [
            (_LOAD, 0, 0, _argument(0)),
            *([] if network else [(_JEQ, 0, 1, AF_UNIX), _ret(ALLOW)]),
            (_JEQ, 0, len(netlink), AF_NETLINK),
            *netlink,
            (_JEQ, 1, 0, AF_INET),
            (_JEQ, 0, len(internet), AF_INET6),
            *internet,
            _ret(refusal(errno.EAFNOSUPPORT)),
        ],
    )


def program(machine: str, *, spaces: bool = True, network: bool = False) -> bytes:
    """The filter for one architecture, as ``struct sock_filter[]``.

    Args:
        machine: What ``uname -m`` prints.
        spaces: Whether the job has namespaces of its own. If not, it has no sockets either, only pairs, and nothing
            that is shared by name.
        network: Whether it shares the host's network. If so, it has no sockets of the local kind, only pairs: abstract
            ones belong to the network.

    Raises:
        SandboxUnavailable: There is no table for it.
    """
    if machine not in ARCHITECTURES:
        raise SandboxUnavailable(
            f"there is no system call filter for {machine or 'this architecture'}",
            hint=f"replay on one of: {', '.join(_BOTH)}",
        )
    column = _BOTH.index(machine)
    steps: list[_Step] = [
        (_LOAD, 0, 0, _ARCH),
        (_JEQ, 1, 0, ARCHITECTURES[machine]),
        _ret(KILL),
        (_LOAD, 0, 0, _NR),
        (_JGT, 0, 1, NEWEST),
        _ret(refusal(errno.ENOSYS)),
    ]
    for number, body in _rules(column, spaces, network):
        steps += [(_JEQ, 0, len(body), number), *body]
    for numbers in (REFUSED if spaces else {**REFUSED, **SHARED}).values():
        number_here = numbers[column]
        if number_here is not None:
            steps += [(_JEQ, 0, 1, number_here), _ret(refusal(errno.EPERM))]
    steps.append(_ret(ALLOW))
    return b"".join(struct.pack("<HBBI", *step) for step in steps)
