"""Takes one guard of a backend away at a time, and says which probes notice.

A guard whose absence no probe notices is either untested or not needed; `SILENT` names those that something else covers
on every machine, and why.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from safeai_git.core.errors import SandboxUnavailable
from safeai_git.sandbox import bubblewrap, landlock, launch, layout, quota, seccomp, supervise
from safeai_git.sandbox.launch import Launch
from safeai_git.sandbox.port import Job, Outcome
from tests.probes import judge, kernel_calls, rows, runs

if TYPE_CHECKING:
    from tests.probes.driver import Session

_ARGUMENTS = {
    "--bind": 2, "--ro-bind": 2, "--symlink": 2, "--file": 2, "--dev": 1, "--size": 1, "--perms": 1,
    "--tmpfs": 1, "--proc": 1, "--remount-ro": 1, "--chdir": 1, "--uid": 1, "--gid": 1, "--cap-drop": 1,
    "--hostname": 1, "--seccomp": 1, "--json-status-fd": 1,
}  # fmt: skip
_WRITABLE_TREE = "scratch /sys tmpfs mode=0755 0 0\n{tree} /sys/tree none bind,X-mount.mkdir 0 0\n"
_PLACED = ("--size", "--perms")
_SPACES = ("ipc", "pid", "net", "uts", "cgroup")

SILENT: dict[str, dict[str, str]] = {
    "A": {
        "bwrap without --disable-userns": "the filter refuses user namespaces too; see the run without both"
    },
    "B": {
        "bwrap without --disable-userns": "the filter refuses user namespaces too; see the run without both",
        "bwrap without --cap-drop ALL": "started without privileges, bubblewrap keeps none by itself",
    },
    "C": {
        "landlock that does not handle execute": "what is run must be readable, and what is readable may be run",
        "landlock that does not handle make_char": "takes a capability that no job has",
    },
}
"""By level and name, the reason."""
_NO_GUARDS = (
    *("--ro-bind /etc/", "--ro-bind /usr/", "--symlink "),
    *(f"--file /etc/{name}" for name in layout.PASSED_FROM_ETC),
)
"""What only lets more programs work."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """A guard that is taken away: its name, how, and which part of the suite is asked."""

    name: str
    apply: Callable[[], Any]
    part: str


def run_all(session: Session) -> dict[str, list[str]]:
    """The surprises that each mutation causes, by its name; none means that nobody noticed."""
    return {one.name: noticed(session, one) for one in every(session)}


def noticed(session: Session, mutation: Mutation) -> list[str]:
    """The surprises that a mutation causes."""
    with mutation.apply():
        try:
            if mutation.part in ("inside", "calls"):
                return judge.faults(session.probe(mutation.part), session.level)
            found, _ = runs.run_all(session.backend, control=False, only=(mutation.part,))
            expected = rows.RUNS[mutation.part].expected(session.level)
            return [f"{name}: {result}" for name, result in found.items() if result not in expected]
        except SandboxUnavailable as error:
            return [f"refused: {error.message}"]
        finally:
            session.bait.effects()


def every(session: Session) -> Iterator[Mutation]:
    """All mutations of the session's backend."""
    yield from _filter_mutations(session)
    if session.level == "C":
        yield from _landlock_mutations(session)
    else:
        yield from _bubblewrap_mutations(session)


# ---- the filter


def _filter_mutations(session: Session) -> Iterator[Mutation]:
    for name in kernel_calls.REFUSED:
        if seccomp.REFUSED.get(name, (None, None))[_column()] is not None:
            yield Mutation(f"filter without {name}", _filter_less(name), "calls")
    if session.level == "C":
        for name in kernel_calls.SHARED:
            less = {other: numbers for other, numbers in seccomp.SHARED.items() if other != name}
            yield Mutation(f"filter without {name}", _patched(seccomp, "SHARED", less), "calls")
    for name in seccomp.FILTERED:
        yield Mutation(
            f"filter without {name}'s rule", _patched(seccomp, "_rules", _rules_without(name)), "calls"
        )
    if session.level != "C":  # there no socket passes at all
        more = (*seccomp.INTERNET_PROTOCOLS, 262)
        yield Mutation("filter with MPTCP", _patched(seccomp, "INTERNET_PROTOCOLS", more), "calls")
    yield Mutation("filter of all numbers", _patched(seccomp, "NEWEST", 2**31 - 1), "calls")
    yield Mutation("filter of all architectures", _patched(seccomp, "KILL", seccomp.ALLOW), "inside")


def _filter_less(*names: str) -> Callable[[], Any]:
    less = {other: numbers for other, numbers in seccomp.REFUSED.items() if other not in names}
    return _patched(seccomp, "REFUSED", less)


@contextmanager
def _two(one: Callable[[], Any], other: Callable[[], Any]) -> Iterator[None]:
    with one(), other():
        yield


def _column() -> int:
    return 0 if os.uname().machine == "x86_64" else 1


def _rules_without(name: str) -> Callable[..., Iterator[Any]]:
    plain = seccomp._rules

    def rules(column: int, *more: bool) -> Iterator[Any]:
        return (rule for rule in plain(column, *more) if rule[0] != seccomp.FILTERED[name][column])

    return rules


def _patched(owner: Any, name: str, value: Any) -> Callable[[], Any]:
    return lambda: patch.object(owner, name, value)


# ---- bubblewrap's command line


def _bubblewrap_mutations(session: Session) -> Iterator[Mutation]:
    groups = _groups(_seen_command_line(session))
    for group in groups:
        where = str(session.bait.repository)
        name = f"bwrap without {_name(group, groups)}".replace(where, "REPOSITORY")
        if group[0] == "--" or any(f"without {one}" in name for one in _NO_GUARDS):
            continue
        yield Mutation(name, _mutated(_without(_name(group, groups))), _part(name))
        if group[0] == "--ro-bind" and group[-1] != "/proc/sys":
            yield Mutation(
                f"bwrap with a writable {group[-1]}".replace(where, "REPOSITORY"),
                _mutated(_writable(group[-1])),
                "inside",
            )
    if session.level == "A":
        for name, without in (("a size", "size={size},"), ("an overlay of its own", None)):
            table = quota._TABLE.replace(without, "") if without else _WRITABLE_TREE
            part = "disk: the tree" if without else "inside"
            yield Mutation(f"the first stage without {name}", _patched(quota, "_TABLE", table), part)
    for kept_out in _SPACES:
        yield Mutation(f"bwrap with the host's {kept_out} namespace", _mutated(_shared(kept_out)), "inside")
    yield Mutation("bwrap with all of the host's files", _mutated(_everything), "inside")
    both = partial(_two, _mutated(_without("--disable-userns")), _filter_less("unshare", "clone"))
    yield Mutation("bwrap without --disable-userns, filter without unshare and clone", both, "inside")
    yield Mutation(
        "the caller's variables", _launched(lambda one: replace(one, environment={**os.environ})), "inside"
    )
    inherited = session.bait.inherited
    yield Mutation(
        "a descriptor of the caller",
        _launched(lambda one: replace(one, descriptors=(*one.descriptors, inherited))),
        "inside",
    )
    for limit in ("CORE", "NPROC", "FSIZE", "NOFILE", "DATA", "CPU"):
        less = _limits_without(f"RLIMIT_{limit}")
        yield Mutation(f"no limit {limit}", _patched(bubblewrap, "resource_limits", less), "inside")
    gate = launch._GATE.replace(" </dev/null", "")
    yield Mutation("the supervisor's line as input", _patched(launch, "_GATE", gate), "inside")


def _part(name: str) -> str:
    for target, run in (
        ("/tmp", "disk: /tmp"),
        ("/home/sandbox", "disk: the home"),
        ("/dev/shm", "disk: shared memory"),
    ):
        if name == f"bwrap without --size {target}":
            return run
    return "a killed bubblewrap" if "--die-with-parent" in name else "inside"


def _limits_without(limit: str) -> Callable[..., dict[str, tuple[int, int]]]:
    plain = bubblewrap.resource_limits
    return lambda limits: {name: both for name, both in plain(limits).items() if name != limit}


def _seen_command_line(session: Session) -> list[str]:
    seen: list[list[str]] = []
    plain = supervise.run

    def watched(launched: Launch, job: Job, **more: Any) -> Outcome:
        seen.append(list(launched.argv(9)))
        return plain(launched, job, **more)

    with patch.object(supervise, "run", watched):
        session.probe("calls")
    return seen[0]


def _groups(argv: list[str]) -> list[tuple[str, ...]]:
    """An option with its arguments, one after the other; the program aside."""
    found, place = [], 1
    while place < len(argv):
        length = 1 + _ARGUMENTS.get(argv[place], 0)
        found.append(tuple(argv[place : place + length]))
        place += length
    return found


def _name(group: tuple[str, ...], groups: list[tuple[str, ...]]) -> str:
    """The option and what it is about, without descriptors and sizes, which differ from run to run."""
    if group[0] in _PLACED:
        place = next(number for number, one in enumerate(groups) if one is group)
        return f"{group[0]} {next(one[-1] for one in groups[place:] if one[0] == '--tmpfs')}"
    if group[0] in ("--seccomp", "--json-status-fd"):
        return group[0]
    return f"{group[0]} {group[-1]}" if len(group) > 1 else group[0]


def _without(name: str) -> Callable[[list[str]], list[str]]:
    def mutate(argv: list[str]) -> list[str]:
        groups = _groups(argv)
        return [argv[0], *(part for one in groups if _name(one, groups) != name for part in one)]

    return mutate


def _writable(target: str) -> Callable[[list[str]], list[str]]:
    def mutate(argv: list[str]) -> list[str]:
        changed = [argv[0]]
        for group in _groups(argv):
            ours = group[-1] == target and group[0].startswith("--ro-bind")
            changed += [group[0].replace("--ro-bind", "--bind"), *group[1:]] if ours else group
        return changed

    return mutate


def _shared(kept_out: str) -> Callable[[list[str]], list[str]]:
    def mutate(argv: list[str]) -> list[str]:
        place = argv.index("--unshare-all")
        others = [f"--unshare-{one}" for one in _SPACES if one != kept_out]
        changed = [*argv[:place], *others, *argv[place + 1 :]]
        if kept_out == "uts":  # a host name needs a namespace of its own
            place = changed.index("--hostname")
            del changed[place : place + 2]
        return changed

    return mutate


def _everything(argv: list[str]) -> list[str]:
    return [argv[0], "--ro-bind", "/", "/", *argv[1:]]


def _launched(change: Callable[[Launch], Launch]) -> Callable[[], Any]:
    plain = supervise.run

    def mutated(launched: Launch, job: Job, **more: Any) -> Outcome:
        return plain(change(launched), job, **more)

    return lambda: patch.object(supervise, "run", mutated)


def _mutated(mutate: Callable[[list[str]], list[str]]) -> Callable[[], Any]:
    def change(launched: Launch) -> Launch:
        return replace(launched, argv=lambda status: mutate(list(launched.argv(status))))

    return _launched(change)


# ---- Landlock


def _landlock_mutations(session: Session) -> Iterator[Mutation]:
    everything = [("/", landlock.FILES)]
    for name, change in {
        "landlock without scopes": {"scoped": 0},
        "landlock with signals": {"scoped": 1},
        "landlock with all files readable": {"allowed": [("/", landlock.READ)]},
        "landlock with all files": {"allowed": everything},
    }.items():
        yield Mutation(name, _specified(lambda one, change=change: one["rules"].update(change)), "inside")
    for bit, name in enumerate(_ACCESSES):
        yield Mutation(
            f"landlock that does not handle {name}", _specified(partial(_unhandled, bit)), "inside"
        )
    for place in ("/proc", "/dev", "/etc", "/run", "/dev/shm", "/dev/pts", "/var/tmp", "/sys"):
        more = [place, landlock.READ]
        yield Mutation(
            f"landlock with {place}",
            _specified(lambda one, more=more: one["rules"]["allowed"].append(more)),
            "inside",
        )
    for name in ("CORE", "NPROC", "FSIZE", "NOFILE", "DATA", "CPU"):
        drop = _specified(lambda one, name=name: one["limits"].pop(f"RLIMIT_{name}"))
        yield Mutation(f"no limit {name}", drop, "fork bomb" if name == "NPROC" else "inside")
    for line, part in _LINES.items():
        yield Mutation(f"launcher without {line}", partial(_script_without, line), part)
    yield Mutation(
        "the caller's variables", _specified(lambda one: one["environment"].update(os.environ)), "inside"
    )


_ACCESSES = (
    "execute", "write_file", "read_file", "read_dir", "remove_dir", "remove_file", "make_char", "make_dir",
    "make_reg", "make_sock", "make_fifo", "make_block", "make_sym", "refer", "truncate", "ioctl_dev",
)  # fmt: skip
_LINES = {
    "_restrict_files(specification": "inside",
    "_restrict_calls(bytes": "calls",
    "_prctl(_SET_NO_NEW_PRIVS": "inside",
    "os.closerange(3": "inside",
    "os.setsid()": "inside",
    "_end_all()": "background process",
    "_prctl(_SET_CHILD_SUBREAPER": "background process",
    "for number in (signal.SIGPIPE": "signals as usual, wanted",
}


@contextmanager
def _script_without(line: str) -> Iterator[None]:
    text = landlock.CONFINE.read_text()
    assert any(one.strip().startswith(line) for one in text.splitlines())
    kept = [
        f"{one[: len(one) - len(one.lstrip())]}{_instead(line)}\n" if one.strip().startswith(line) else one
        for one in text.splitlines(True)
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write("".join(kept))
        file.flush()
        with patch.object(landlock, "CONFINE", Path(file.name)):
            yield


def _instead(line: str) -> str:
    return "for number in ():" if line.startswith("for ") else "pass"


def _unhandled(bit: int, specification: dict[str, Any]) -> None:
    rules = specification["rules"]
    rules["files"] &= ~(1 << bit)
    rules["allowed"] = [(path, access & ~(1 << bit)) for path, access in rules["allowed"]]


def _specified(change: Callable[[dict[str, Any]], object]) -> Callable[[], Any]:
    plain = landlock.specification

    def changed(*arguments: Any) -> dict[str, Any]:
        found = plain(*arguments)
        change(found)
        return found

    return lambda: patch.object(landlock, "specification", changed)
