"""What each level of isolation guarantees, and what it does not, in a line each: for people, and for the docs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Promise:
    """A level in words.

    Attributes:
        summary: What it is made of.
        guarantees: What a check cannot do there, whatever it tries, as long as the kernel has no fault.
        lacks: What it can do, or what is watched instead of prevented.
    """

    summary: str
    guarantees: tuple[str, ...]
    lacks: tuple[str, ...]


_SPACES = (
    "no network but its own loopback, no socket of the host",
    "no file of the host but the system's, read-only; no home, no .git, no secret variable",
    "the proposed tree stands at the repository's own path",
    "no process of the host can be seen, signalled or traced",
    "no capability, no further privilege, no further namespace, none of the calls that the filter refuses",
    "nothing is left running when it ends",
)
_WATCHED_MEMORY = (
    "the memory of all processes together is watched twenty times a second, not bounded by the kernel"
)
_KERNEL = "a fault of the kernel itself"

PROMISES = {
    "A": Promise(
        "two stages, an overlay of bounded size and bubblewrap upon it: namespaces, a system call filter",
        (*_SPACES, "what it writes is bounded by the kernel and never reaches the tree outside"),
        (_WATCHED_MEMORY, "a folder that the tree holds already cannot be renamed (EXDEV)", _KERNEL),
    ),
    "B": Promise(
        "bubblewrap: namespaces and a system call filter",
        _SPACES,
        (_WATCHED_MEMORY, "what it writes into the tree is watched, not bounded by the kernel", _KERNEL),
    ),
    "C": Promise(
        "Landlock and a system call filter, without namespaces",
        (
            "no socket of any kind but pairs",
            "no file of the host but the system's, read-only; no home, no .git, no secret variable",
            "no process outside it can be signalled or traced, or its variables or command line be read",
            "no further privilege, no namespace, no shared memory or message queue by name, none of the refused calls",
            "nothing is left running when it ends",
        ),
        (
            "no loopback: a check that starts a server cannot decide",
            "no semaphore by name: a check that uses locks or pools of Python's multiprocessing cannot decide",
            "the tree stands at a path of its own: an editable install of the repository cannot be imported",
            "names and sizes of the host's files, its users and the existence of processes can be found out",
            "the number of processes is counted together with the user's other ones",
            _WATCHED_MEMORY,
            "what it writes is watched, not bounded by the kernel",
            "if its launcher and safeai-git are both killed at once, processes of it may be left",
            _KERNEL,
        ),
    ),
}

_REFUSALS = {
    "C": (
        b"Address family not supported",
        b"EAFNOSUPPORT",
        b"Socket type not supported",
        b"Permission denied",
        b"EACCES",
        b"Operation not permitted",
        b"EPERM",
        b"out of pty devices",
        b"Resource temporarily unavailable",
        b"ModuleNotFoundError",
    )
}
"""What programs print when a level refuses what a stronger one has: sockets of its own, places of its own, an editable
install. A check that prints such a thing on purpose gains nothing: what could not decide is no pass."""


def caused_by_isolation(level: str, output: bytes) -> str:
    """The words in a failed check's output that the level itself may have caused; empty when there are none."""
    return next((words.decode("ascii") for words in _REFUSALS.get(level, ()) if words in output), "")


_MET = {
    "scratch": (b"No space left on device", b"ENOSPC"),
    "memory": (b"MemoryError", b"Cannot allocate memory", b"ENOMEM", b"out of memory"),
    "file size": (b"File too large", b"EFBIG"),
    "open files": (b"Too many open files", b"EMFILE"),
    "processes": (b"Resource temporarily unavailable", b"Cannot fork", b"EAGAIN"),
}
_FILE_SIZE_EXIT = 128 + 25
"""As shells report SIGXFSZ."""


def limit_met(exit_code: int | None, output: bytes) -> str:
    """The limit that a failed check ran into by its own account; empty when it says nothing of one.

    Some limits stop nothing: the kernel refuses what is beyond them, and the check ends as it likes.
    """
    if exit_code == _FILE_SIZE_EXIT:
        return "file size"
    return next((name for name, words in _MET.items() if any(one in output for one in words)), "")
