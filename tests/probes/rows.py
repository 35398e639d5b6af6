"""What must come of each probe of `inside` and of each of `runs`, by backend, and what its control must show.

An expectation is what the probe prints, exactly; a bar separates what depends on how the kernel was built. Outside,
``-`` stands where any answer will do.
"""

from __future__ import annotations

from dataclasses import dataclass

WORKS = "works"


@dataclass(frozen=True, slots=True)
class Row:
    """One probe: its row in the matrix, and the answers with namespaces (A, B), without (C), and outside."""

    number: int
    spaces: str
    landlock: str
    outside: str = WORKS

    def expected(self, level: str) -> tuple[str, ...]:
        """The answers that pass at a level."""
        return split(self.landlock if level == "C" else self.spaces)


def split(answers: str) -> tuple[str, ...]:
    """The single answers; none where any will do."""
    return () if answers == "-" else tuple(answers.split("|"))


def _row(number: int, spaces: str, landlock: str, outside: str = WORKS) -> Row:
    return Row(number, spaces, landlock, outside)


_NO_FAMILY = "EAFNOSUPPORT"

INSIDE: dict[str, Row] = {
    "tcp": _row(1, "ECONNREFUSED", _NO_FAMILY),
    "tcp6": _row(
        2,
        "ECONNREFUSED|EADDRNOTAVAIL|EAFNOSUPPORT",
        _NO_FAMILY,
        "works|ECONNREFUSED|EADDRNOTAVAIL|EAFNOSUPPORT",
    ),
    "mptcp": _row(3, "EPROTONOSUPPORT", _NO_FAMILY, "works|EPROTONOSUPPORT|ENOPROTOOPT"),
    "udp": _row(4, "ECONNREFUSED", _NO_FAMILY),
    "unix_stream": _row(5, "ENOENT", _NO_FAMILY),
    "unix_datagram": _row(5, "ENOENT", _NO_FAMILY),
    "datagram_through_a_pair": _row(5, "ENOENT", "ESOCKTNOSUPPORT"),
    "abstract_stream": _row(6, "ECONNREFUSED", _NO_FAMILY),
    "abstract_datagram": _row(6, "ECONNREFUSED", _NO_FAMILY),
    "interfaces": _row(7, "loopback alone", "EACCES", "works|loopback alone"),
    "wanted_socketpair": _row(8, WORKS, WORKS),
    "wanted_loopback": _row(8, WORKS, _NO_FAMILY),
    "wanted_unix_socket": _row(8, WORKS, _NO_FAMILY),
    "wanted_children": _row(8, WORKS, WORKS),
    "wanted_temporary_file": _row(8, WORKS, WORKS),
    "wanted_home": _row(8, WORKS, WORKS),
    "wanted_tree": _row(8, WORKS, WORKS),
    "wanted_semaphore": _row(8, WORKS, "EACCES", "-"),
    "wanted_git": _row(8, "works|ENOENT", "works|ENOENT", "-"),
    "wanted_edits": _row(8, WORKS, WORKS),
    "wanted_names": _row(8, WORKS, "KeyError|works", "works|KeyError"),
    "read an ssh key": _row(9, "ENOENT", "EACCES"),
    "read cloud credentials": _row(9, "ENOENT", "EACCES"),
    "read a netrc": _row(9, "ENOENT", "EACCES"),
    "read a cluster's token": _row(9, "ENOENT", "EACCES"),
    "read a registry's password": _row(9, "ENOENT", "EACCES"),
    "read the shadow file": _row(10, "ENOENT", "EACCES", "EACCES"),
    "read root's home": _row(10, "ENOENT", "EACCES", "EACCES"),
    "read another home": _row(10, "ENOENT", "EACCES"),
    "read the host's name": _row(10, "ENOENT", "EACCES|ENOENT", "works|ENOENT"),
    "read runtime files": _row(10, "ENOENT", "EACCES"),
    "read a secret": _row(10, "ENOENT", "EACCES"),
    "read the kernel's objects": _row(10, "ENOENT", "EACCES"),
    "hosts_users": _row(10, "not shown", WORKS),
    "environment_of_the_first_process": _row(11, "clean", "EACCES", "EACCES|clean|works"),
    "environment_of_another": _row(11, "ENOENT", "EACCES"),
    "environment_of_any_process": _row(11, "never", "EACCES"),
    "command_line_of_any_process": _row(11, "never", "EACCES"),
    "processes_of_the_host": _row(11, "few", "EACCES", "works|few"),
    "variables": _row(12, "absent", "EACCES"),
    "variables_in_this_process": _row(12, "absent", "absent"),
    "descriptors": _row(13, "only standard ones", "only standard ones"),
    "write /etc/passwd": _row(14, "EROFS", "EACCES|EROFS", "EACCES|EROFS"),
    "write /etc/group": _row(14, "EROFS", "EACCES|EROFS", "EACCES|EROFS"),
    "write /etc/nsswitch.conf": _row(14, "EROFS", "EACCES|EROFS", "EACCES|EROFS"),
    "write /etc/hosts": _row(14, "EROFS", "EACCES|EROFS", "EACCES|EROFS"),
    "write the prepared environment": _row(14, "EROFS", "EACCES"),
    "write /etc": _row(14, "EROFS", "EACCES|EROFS", "EACCES|EROFS"),
    "write /usr": _row(14, "EROFS", "EACCES|EROFS", "EACCES|EROFS"),
    "write /": _row(14, "EROFS", "EACCES|EROFS", "EACCES|EROFS"),
    "write /dev": _row(14, "EROFS", "EACCES|EROFS", "EACCES|EROFS|works"),
    "write /var/tmp": _row(14, "EROFS|ENOENT", "EACCES"),
    "write the real home": _row(14, "ENOENT", "EACCES"),
    "write a file of the host": _row(14, "ENOENT", "EACCES"),
    "make_a_folder_outside": _row(14, "ENOENT", "EACCES"),
    "make_a_pipe_outside": _row(14, "ENOENT", "EACCES"),
    "make_a_link_outside": _row(14, "ENOENT", "EACCES"),
    "make_a_socket_outside": _row(14, "ENOENT", "EACCES"),
    "remove_a_file_outside": _row(14, "ENOENT", "EACCES"),
    "remove_a_folder_outside": _row(14, "ENOENT", "EACCES"),
    "truncate_outside": _row(14, "ENOENT", "EACCES"),
    "execute_a_program_outside": _row(14, "ENOENT", "EACCES"),
    "write a hook": _row(15, "ENOENT", "EACCES"),
    "write git's configuration": _row(15, "ENOENT", "EACCES"),
    "write an object": _row(15, "ENOENT", "EACCES"),
    "write a branch": _row(15, "ENOENT", "EACCES"),
    "write git's attributes": _row(15, "ENOENT", "EACCES"),
    "git_folder": _row(15, "not there", "EACCES"),
    "read a secret through a link of the tree": _row(18, "ENOENT", "EACCES"),
    "write_through_a_link_of_the_tree": _row(18, "ENOENT", "EACCES"),
    "hard_link_out": _row(20, "ENOENT", "EXDEV"),
    "rename_out": _row(20, "ENOENT", "EACCES"),
    "through_own_root": _row(20, "ENOENT", "EACCES"),
    "through_the_root_of_another": _row(20, "ENOENT", "EACCES"),
    "through_the_folder_of_another": _row(20, "ENOENT", "EACCES"),
    "file_handle": _row(20, "EPERM", "EPERM", "works|EOPNOTSUPP"),
    "own_session": _row(33, "an own one", "an own one"),
    "terminal_by_its_name": _row(33, "ENOENT", "EACCES", "works|EACCES"),
    "standard_input": _row(33, "the null device", "the null device"),
    "own_identity": _row(30, "1000 1000", "-", "-"),
    "modes_of_own_folders": _row(14, "1777 700 1777", "-", "-"),
    "privileges": _row(30, "none", "none", "none"),
    "bounding_set": _row(30, "empty", "empty|works", "works|empty"),
    "no_new_privileges": _row(30, "set", "set", "works|set"),
    "become_root": _row(30, "EINVAL", "EPERM|EINVAL", "EPERM|EINVAL"),
    "setuid_program": _row(30, "no", "no", "works|no"),
    "trace_a_process": _row(31, "EPERM", "EPERM"),
    "read_memory_by_call": _row(31, "EPERM", "EPERM"),
    "descriptor_of_another": _row(31, "EPERM", "EPERM"),
    "memory_of_another": _row(31, "ENOENT", "EACCES"),
    "signal_to_a_process_of_the_host": _row(32, "ESRCH", "EPERM"),
    "signal_to_the_supervisor": _row(32, "ESRCH", "EPERM", "works|EPERM"),
    "controlling_terminal": _row(33, "ENXIO", "EACCES"),
    "inject_into_the_controlling_terminal": _row(33, "ENXIO", "EACCES", "works|EIO"),
    "inject_into_standard_input": _row(33, "EPERM", "EPERM", "works|EIO"),
    "inject_into_an_own_terminal": _row(33, "EPERM", "out of pty devices", "works|EIO"),
    "read the kernel's log": _row(34, "ENOENT", "EACCES|ENOENT", "works|EPERM|EACCES|ENOENT"),
    "read memory": _row(34, "ENOENT", "EACCES|ENOENT", "EACCES|ENOENT"),
    "read a disk": _row(34, "ENOENT", "EACCES|ENOENT", "EACCES|ENOENT"),
    "read FUSE": _row(34, "ENOENT", "EACCES|ENOENT", "works|EACCES|ENOENT|EPERM"),
    "read loop devices": _row(34, "ENOENT", "EACCES|ENOENT", "EACCES|ENOENT"),
    "character_device": _row(34, "EPERM", "EPERM|EACCES", "EPERM"),
    "block_device": _row(34, "EPERM", "EPERM|EACCES", "EPERM"),
    "io_uring": _row(35, "EPERM", "EPERM", "works|EPERM|ENOSYS"),
    "keyring": _row(36, "EPERM", "EPERM", "works|ENOSYS"),
    "user_namespace": _row(37, "EPERM", "EPERM", "works|EPERM|ENOSPC"),
    "user_namespace_by_clone": _row(37, "EPERM", "EPERM", "works|EPERM|ENOSPC"),
    "user_namespace_by_clone3": _row(37, "ENOSYS", "ENOSYS", "works|EPERM|ENOSPC"),
    "own_namespaces": _row(37, "own ones", WORKS),
    "host_name": _row(37, "another", WORKS),
    "performance_events": _row(38, "EPERM", "EPERM", "works|EACCES|EPERM|ENOENT"),
    "real_time": _row(38, "EPERM", "EPERM", "EPERM"),
    "other_abi": _row(39, "SIGSYS", "SIGSYS", "works|SIGSEGV|SIGILL"),
    "core_pattern": _row(40, "EACCES", "EACCES", "EACCES|EROFS"),
    "kernel_settings": _row(40, "none", "none", "-"),
    "kernel_settings_are_read_only": _row(40, "read-only", WORKS),
    "control_group": _row(40, "ENOENT", "EACCES|EROFS|ENOENT", "EACCES|EROFS|ENOENT"),
    "editable_install": _row(41, "PROPOSED", "ModuleNotFoundError", "DIRTY"),
    "shared_memory_of_another": _row(42, "ENOENT", "EPERM"),
    "semaphores_of_another": _row(42, "ENOENT", "EPERM"),
    "messages_of_another": _row(42, "ENOENT", "EPERM"),
    "own_shared_memory": _row(42, WORKS, "EPERM"),
    "message_queue_of_another": _row(42, "ENOENT", "EPERM", "works|ENOSYS"),
    "file_in_shared_memory": _row(42, "ENOENT", "EACCES"),
    "raise_a_limit": _row(45, "refused", "refused", "-"),
    "shield_from_the_memory_killer": _row(45, "EACCES", "EACCES", "EACCES"),
    "higher_priority": _row(45, "EACCES", "EACCES", "EACCES"),
}

EFFECTS = frozenset(
    {
        "abstract_datagram",
        "abstract_stream",
        "changed repository/.git/config",
        "changed repository/.git/hooks/pre-commit",
        "changed repository/.git/info/attributes",
        "changed repository/.git/objects/ab/cdef",
        "changed repository/.git/refs/heads/main",
        "changed open/empty",
        "changed open/removable",
        "changed open/truncated",
        "changed writable",
        "shared memory",
        "tcp",
        "udp",
        "unix_datagram",
        "unix_stream",
    }
)
"""What the control must leave on the host's side; a sandbox leaves none of it. IPv6 and terminals are not everywhere."""

_ENDS = "exit code 0"

RUNS: dict[str, Row] = {
    "fork bomb": _row(21, "EAGAIN, exit code 0", "EAGAIN, exit code 0", _ENDS),
    "fork bomb without end": _row(21, "limit wall", "limit wall", "-"),
    "memory of one process": _row(22, "MemoryError, exit code 0", "MemoryError, exit code 0", _ENDS),
    "memory of all processes": _row(23, "limit memory", "limit memory", _ENDS),
    "disk: the tree": _row(24, "limit scratch|ENOSPC, exit code 0", "limit scratch", _ENDS),
    "disk: /tmp": _row(24, "ENOSPC, exit code 0", "limit scratch", _ENDS),
    "disk: the home": _row(24, "ENOSPC, exit code 0", "limit scratch", _ENDS),
    "disk: shared memory": _row(
        24, "ENOSPC, exit code 0", "EACCES, exit code 0", "exit code 0|EACCES, exit code 0"
    ),
    "size of a file": _row(24, "EFBIG, exit code 0", "EFBIG, exit code 0", _ENDS),
    "100,000 files in the tree": _row(25, "limit files", "limit files", "-"),
    "files in /tmp": _row(25, "limit files", "limit files", _ENDS),
    "endless loop, wall clock": _row(26, "limit wall", "limit wall", "-"),
    "endless loop, processor": _row(26, "limit cpu", "limit cpu", "-"),
    "SIGTERM ignored": _row(26, "limit wall", "limit wall", _ENDS),
    "SIGSTOP of itself": _row(26, "limit wall", "limit wall", "-"),
    "output flood": _row(27, "limit output", "limit output", _ENDS),
    "output without a line's end": _row(27, "limit output", "limit output", _ENDS),
    "open files": _row(45, "EMFILE, exit code 0", "EMFILE, exit code 0", _ENDS),
    "background process": _row(28, "started, exit code 0", "started, exit code 0", "-"),
    "background process that holds the output": _row(28, "started, exit code 0", "started, exit code 0", "-"),
    "processes that respawn": _row(29, "started, exit code 0", "started, exit code 0", "-"),
    "a forged result": _row(43, '{ "exit-code": 0 }, exit code 7', '{ "exit-code": 0 }, exit code 7', "-"),
    "exit codes, wanted": _row(43, "0 3 139", "0 3 139", "-"),
    "signals as usual, wanted": _row(43, "141 153", "141 153", "-"),
    "a signal to everybody": _row(32, "exit code 5", "exit code 5", "-"),
    "git repositories planted in the tree": _row(16, "nothing executed", "nothing executed", "-"),
    "terminal escapes in the output": _row(27, "escaped", "escaped", "-"),
    "a terminal": _row(33, "no terminal", "no terminal", "-"),
    "a second run": _row(44, "nothing seen", "nothing seen", "-"),
    "a killed supervisor": _row(46, "0 left", "0 left", "-"),
    "a killed bubblewrap": _row(46, "0 left", "0 left", "-"),
    "two at once": _row(47, "own limits", "shared limits", "-"),
    "a hostile environment of the tool": _row(49, "ignored", "ignored", "-"),
}
"""``disk: the tree`` is ENOSPC at level A, where the kernel keeps the limit; the suite asks for it there."""
