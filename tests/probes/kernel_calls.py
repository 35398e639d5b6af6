"""The system calls that the probes ask the filter about, and the answers that must come, by backend.

The list is the suite's own: a call that is dropped from the filter's table must not drop out of here too. Numbers are
those of Linux for x86_64 and aarch64 (``arch/x86/entry/syscalls/syscall_64.tbl``, ``asm-generic/unistd.h``).
"""

from __future__ import annotations

import platform

REACHES = "reaches the kernel"
_HIGH = 1 << 32

REFUSED: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "memfd_secret": (447, 447),
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
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
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
"""EPERM in every backend."""

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
"""EPERM where there is no namespace of its own for them."""

_CLONE, _CLONE3, _IOCTL, _SOCKET, _SOCKETPAIR = (56, 220), (435, 435), (16, 29), (41, 198), (53, 199)
_NAMESPACES = {
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
}
_FAMILIES = {
    "ax25": 3, "ipx": 4, "x25": 9, "key": 15, "packet": 17, "pppox": 24, "can": 29, "tipc": 30, "bluetooth": 31,
    "phonet": 35, "alg": 38, "nfc": 39, "vsock": 40, "qipcrtr": 42, "smc": 43, "xdp": 44, "mctp": 45,
}  # fmt: skip
_PROTOCOLS = {"icmp raw": (3, 1), "tcp raw": (3, 6), "sequenced": (5, 0), "sctp": (1, 132), "mptcp": (1, 262)}
_NETLINK = {"audit": 9, "netfilter": 12, "kobject events": 15, "generic": 16}

Call = tuple[str, int, list[int]]
"""Name, number, arguments."""


def expected(level: str) -> dict[str, str]:
    """The answer to each call, by its name."""
    return {name: answers[1 if level == "C" else 0] for name, answers, _ in _calls()}


def as_argument() -> list[Call]:
    """What `calls` is given."""
    return [call for _, _, call in _calls()]


def row(name: str) -> int:
    """The row of the matrix that a call belongs to."""
    if name.startswith(("socket ", "socketpair ", "netlink ")):
        return 3 if name.endswith("mptcp") else 8 if "wanted" in name else 7
    word = name.split(maxsplit=1)[0]
    for number, words in _ROWS.items():
        if word in words:
            return number
    return 38


_ROWS = {
    20: ("name_to_handle_at", "open_by_handle_at"),
    31: ("ptrace", "process_vm_readv", "process_vm_writev", "kcmp", "pidfd_getfd", "process_madvise"),
    33: ("ioctl",),
    35: ("io_uring_setup", "io_uring_enter", "io_uring_register"),
    36: ("keyctl", "add_key", "request_key"),
    37: ("mount", "umount2", "pivot_root", "chroot", "fsopen", "fsconfig", "fsmount", "fspick", "open_tree",
         "open_tree_attr", "move_mount", "mount_setattr", "unshare", "setns", "clone", "clone3"),
    39: ("x32", "newer"),
    42: tuple(SHARED),
}  # fmt: skip


def _calls() -> list[tuple[str, tuple[str, str], Call]]:
    """Name, the answers (with namespaces, without), and the call."""
    column = 0 if platform.machine() == "x86_64" else 1
    found: list[tuple[str, tuple[str, str], Call]] = []

    def add(
        name: str, numbers: tuple[int | None, int | None], answers: tuple[str, str], *arguments: int
    ) -> None:
        number = numbers[column]
        if number is not None:
            found.append((name, answers, (name, number, list(arguments))))

    eperm = ("EPERM", "EPERM")
    for name, numbers in REFUSED.items():
        add(name, numbers, eperm)
    for name, numbers in SHARED.items():
        add(name, numbers, (REACHES, "EPERM"))
    for name, flag in _NAMESPACES.items():
        add(f"clone with a {name} namespace", _CLONE, eperm, flag | 17)
        add(f"clone with a {name} namespace, high half set", _CLONE, eperm, _HIGH | flag | 17)
    add("clone of a thread, wanted", _CLONE, (REACHES, REACHES), 0x003D0F00)
    add("clone3", _CLONE3, ("ENOSYS", "ENOSYS"))
    for name, command in (("TIOCSTI", 0x5412), ("TIOCLINUX", 0x541C)):
        add(f"ioctl {name}", _IOCTL, eperm, 0, command)
        add(f"ioctl {name}, high half set", _IOCTL, eperm, 0, _HIGH | command)
    add("ioctl TCGETS, wanted", _IOCTL, (REACHES, REACHES), 0, 0x5401)
    for name, family in _FAMILIES.items():
        add(f"socket {name}", _SOCKET, ("EAFNOSUPPORT", "EAFNOSUPPORT"), family, 1, 0)
    add("socket vsock, high half set", _SOCKET, ("EAFNOSUPPORT", "EAFNOSUPPORT"), _HIGH | 40, 1, 0)
    for family_name, family in (("inet", 2), ("inet6", 10)):
        for name, (kind, protocol) in _PROTOCOLS.items():
            answer = "ESOCKTNOSUPPORT" if kind in (3, 5) else "EPROTONOSUPPORT"
            add(f"socket {family_name} {name}", _SOCKET, (answer, "EAFNOSUPPORT"), family, kind, protocol)
        add(f"socket {family_name} stream, wanted", _SOCKET, (REACHES, "EAFNOSUPPORT"), family, 1, 6)
    for name, protocol in _NETLINK.items():
        add(f"netlink {name}", _SOCKET, ("EPROTONOSUPPORT", "EAFNOSUPPORT"), 16, 3, protocol)
    add("netlink route, wanted", _SOCKET, (REACHES, "EAFNOSUPPORT"), 16, 3, 0)
    add("socket unix, wanted", _SOCKET, (REACHES, "EAFNOSUPPORT"), 1, 1, 0)
    add("socketpair unix stream, wanted", _SOCKETPAIR, (REACHES, REACHES), 1, 1, 0)
    add("socketpair unix datagram", _SOCKETPAIR, (REACHES, "ESOCKTNOSUPPORT"), 1, 2, 0)
    add("socketpair tipc", _SOCKETPAIR, ("EAFNOSUPPORT", "EAFNOSUPPORT"), 30, 1, 0)
    add("newer than the table", (470, 470), ("ENOSYS", "ENOSYS"))
    add("x32", (0x40000027, None), ("ENOSYS", "ENOSYS"))
    return found
