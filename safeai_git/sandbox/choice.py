"""Chooses a backend by running its self-test, never by its version or by being installed.

A passed test is remembered for as long as nothing changes that it depends on: machine start, kernel, programs, filter,
mounts, probes, user and user namespace. A failed one is not remembered, so that a machine that has been mended gets the
stronger level at once; and whoever gets a weaker one is told why.
"""

from __future__ import annotations

import json
import os
import platform
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from safeai_git.core.errors import CouldNotDecide, SandboxUnavailable, StorageError
from safeai_git.files import read_json, write_atomically
from safeai_git.sandbox import bubblewrap, landlock, quota, selftest
from safeai_git.sandbox.identity import Identity, sandbox_identity
from safeai_git.sandbox.jobs import environment
from safeai_git.sandbox.port import LEVELS, Backend, Isolation, Job, Report

_NOT_DISABLED = "user namespaces are refused by the filter alone"


class _Programs(Protocol):
    @property
    def digest(self) -> str: ...
    @property
    def both_digests(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """A kind of backend.

    Attributes:
        level: What it promises.
        name: For messages.
        installed: Finds its programs, or raises.
        policy_digest: Of what decides what its jobs may do.
        build: From the programs, the isolation, who jobs run as and whether everything is asked for that not every
            machine has.
        spaces: Whether it makes namespaces.
        reduced: Whether it can do with less; what it then lacks stands in `Isolation.degraded`.
    """

    level: str
    name: str
    installed: Callable[[], _Programs]
    policy_digest: Callable[[], str]
    build: Callable[[Any, Isolation, Identity | None, bool], Backend]
    spaces: bool = True
    reduced: bool = True

    @property
    def remembered_as(self) -> str:
        """The file that remembers its passed test."""
        return f"sandbox-self-test-{self.level}.json"


CANDIDATES = (
    Candidate(
        quota.LEVEL,
        quota.NAME,
        lambda: quota.installed(),  # noqa: PLW0108 - looked up when it is used
        quota.Quota.policy_digest,
        lambda programs, isolation, identity, complete: quota.Quota(
            programs, isolation, identity, no_further_namespaces=complete
        ),
    ),
    Candidate(
        bubblewrap.LEVEL,
        bubblewrap.NAME,
        lambda: bubblewrap.installed(),  # noqa: PLW0108 - looked up when it is used
        bubblewrap.Bubblewrap.policy_digest,
        lambda programs, isolation, identity, complete: bubblewrap.Bubblewrap(
            programs, isolation, identity, no_further_namespaces=complete
        ),
    ),
    Candidate(
        landlock.LEVEL,
        landlock.NAME,
        lambda: landlock.installed(),  # noqa: PLW0108 - looked up when it is used
        landlock.Landlock.policy_digest,
        lambda programs, isolation, identity, _: landlock.Landlock(programs, isolation, identity),
        spaces=False,
        reduced=False,
    ),
)
"""Strongest first."""


def choose(*, state_dir: Path | None, least: str = LEVELS[-1]) -> Backend:
    """The best backend that passes its self-test here.

    Args:
        state_dir: A private folder of ours where a passed test is remembered; ``None`` to test anew.
        least: The weakest level that will do.

    Raises:
        SandboxUnavailable: There is none. The message says why for each, the hint how to mend it.
    """
    refusals: list[tuple[str, SandboxUnavailable]] = []
    for candidate in _candidates():
        if candidate.level > least:
            break
        try:
            backend = _prepare(candidate, state_dir)
        except SandboxUnavailable as error:
            refusals.append((f"{candidate.level} {candidate.name}", error))
            continue
        return _explained(backend, tuple(f"{name}: {error.message}" for name, error in refusals))
    if not refusals:
        raise SandboxUnavailable(
            f"checks are replayed on Linux only, this is {platform.system() or sys.platform}",
            hint="commit without them here; CI replays the checks on Linux",
        )
    wanted = "" if least == LEVELS[-1] else f" of the level that the policy demands ({least})"
    raise SandboxUnavailable(
        f"no usable sandbox{wanted}: {'; '.join(f'{name}: {error.message}' for name, error in refusals)}",
        hint="; ".join(dict.fromkeys(error.hint for _, error in refusals if error.hint)),
    )


def describe() -> list[Report]:
    """Every backend that this platform has, tested anew, strongest first."""
    reports: list[Report] = []
    for candidate in _candidates():
        try:
            reports.append(Report(candidate.name, candidate.level, _prepare(candidate, None).isolation))
        except CouldNotDecide as error:
            reports.append(Report(candidate.name, candidate.level, None, error.message, error.hint))
    return reports


def untested(level: str) -> Backend:
    """The backend of a level, without its self-test: for those who test it themselves.

    Raises:
        SandboxUnavailable: Its programs are missing.
    """
    candidate = next(one for one in CANDIDATES if one.level == level)
    programs = candidate.installed()
    return candidate.build(programs, _isolation(candidate, programs), sandbox_identity(), True)


def _explained(backend: Backend, reasons: tuple[str, ...]) -> Backend:
    backend.isolation = replace(backend.isolation, not_stronger=reasons)
    return backend


def _candidates() -> Iterator[Candidate]:
    if sys.platform == "linux":
        yield from CANDIDATES


def _prepare(candidate: Candidate, state_dir: Path | None) -> Backend:
    try:
        return _tested(candidate, state_dir)
    except OSError as error:
        raise SandboxUnavailable(
            f"what it depends on cannot be read: {error}",
            hint="check that /proc and the temporary folder are usable",
        ) from error


def _tested(candidate: Candidate, state_dir: Path | None) -> Backend:
    programs = candidate.installed()
    isolation = _isolation(candidate, programs)
    key = {
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
        "programs": programs.both_digests,
        "policy": isolation.policy_digest,
        "self_test": isolation.selftest_sha256,
        "kernel": platform.release(),
        "user": os.getuid(),
        "user_namespace": str(Path("/proc/self/ns/user").readlink()),
    }
    identity = sandbox_identity()
    place = None if state_dir is None else state_dir / candidate.remembered_as

    def build(*, complete: bool) -> Backend:
        less = () if complete else (_NOT_DISABLED,)
        return candidate.build(programs, replace(isolation, degraded=less), identity, complete)

    complete = _recalled(place, key)
    if complete is not None:
        return build(complete=complete)
    backend = build(complete=True)
    try:
        _test(backend, spaces=candidate.spaces)
    except SandboxUnavailable:
        if not candidate.reduced:
            raise
        backend = build(complete=False)
        _test(backend, spaces=candidate.spaces)
    _remember(place, key, complete=not backend.isolation.degraded)
    return backend


def _isolation(candidate: Candidate, programs: _Programs) -> Isolation:
    tested = selftest.digest()
    return Isolation(
        level=candidate.level,
        backend=candidate.name,
        backend_sha256=programs.digest,
        kernel=platform.release(),
        policy_digest=sha256((candidate.policy_digest() + tested).encode()).hexdigest(),
        selftest_sha256=tested,
    )


def _test(backend: Backend, *, spaces: bool = True) -> None:
    sample = Job("sample", ("true",), Path("/tree"), Path("/repository"))
    selftest.check(
        backend,
        owner=os.getuid() if backend.identity is None else backend.identity.uid,
        variables=tuple(environment(sample)),
        spaces=spaces,
    )


def _recalled(place: Path | None, key: dict[str, object]) -> bool | None:
    """Whether the remembered test passed with everything; ``None`` without a test that still counts."""
    if place is None:
        return None
    with suppress(OSError):
        status = place.lstat()
        private = stat.S_ISREG(status.st_mode) and not status.st_mode & 0o077 and status.st_uid == os.getuid()
        found = read_json(place) if private else None
        if isinstance(found, dict) and found.get("key") == key and isinstance(found.get("complete"), bool):
            return bool(found["complete"])
    return None


def _remember(place: Path | None, key: dict[str, object], *, complete: bool) -> None:
    if place is not None:
        with suppress(StorageError):  # the next run tests again
            write_atomically(place, json.dumps({"key": key, "complete": complete}).encode())
