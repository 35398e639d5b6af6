"""Chooses a backend by running its self-test, never by its version or by being installed.

A passed test is remembered for as long as nothing changes that it depends on: machine start, kernel, programs, filter,
mounts, probes, user and user namespace. A failed one is not remembered.
"""

from __future__ import annotations

import json
import os
import platform
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from safeai_git.core.errors import CouldNotDecide, SandboxUnavailable, StorageError
from safeai_git.files import read_json, write_atomically
from safeai_git.sandbox import bubblewrap, selftest
from safeai_git.sandbox.identity import Identity, sandbox_identity
from safeai_git.sandbox.port import Backend, Isolation, Job, Report

REMEMBERED_AS = "sandbox-self-test.json"
_NOT_DISABLED = "user namespaces are refused by the filter alone"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A kind of backend: its name, and how to get a tested one (or the error that says why not)."""

    name: str
    prepare: Callable[[Path | None], Backend]


def choose(*, state_dir: Path | None) -> Backend:
    """The best backend that passes its self-test here.

    Args:
        state_dir: A private folder of ours where a passed test is remembered; ``None`` to test anew.

    Raises:
        SandboxUnavailable: There is none. The message says why for each, the hint how to mend it.
    """
    refusals: list[tuple[str, SandboxUnavailable]] = []
    for candidate in _candidates():
        try:
            return _prepare(candidate, state_dir)
        except SandboxUnavailable as error:
            refusals.append((candidate.name, error))
    if not refusals:
        raise SandboxUnavailable(
            f"checks are replayed on Linux only, this is {platform.system() or sys.platform}",
            hint="commit without them here; CI replays the checks on Linux",
        )
    raise SandboxUnavailable(
        f"no usable sandbox: {'; '.join(f'{name}: {error.message}' for name, error in refusals)}",
        hint="; ".join(dict.fromkeys(error.hint for _, error in refusals if error.hint)),
    )


def describe() -> list[Report]:
    """Every backend that this platform has, tested anew."""
    reports: list[Report] = []
    for candidate in _candidates():
        try:
            reports.append(Report(candidate.name, _prepare(candidate, None).isolation))
        except CouldNotDecide as error:
            reports.append(Report(candidate.name, None, error.message, error.hint))
    return reports


def _prepare(candidate: Candidate, state_dir: Path | None) -> Backend:
    try:
        return candidate.prepare(state_dir)
    except OSError as error:
        raise SandboxUnavailable(
            f"what it depends on cannot be read: {error}",
            hint="check that /proc and the temporary folder are usable",
        ) from error


def _candidates() -> tuple[Candidate, ...]:
    """Strongest first."""
    if sys.platform != "linux":
        return ()
    return (Candidate(bubblewrap.NAME, _tested_bubblewrap),)


def _tested_bubblewrap(state_dir: Path | None) -> Backend:
    programs = bubblewrap.installed()
    policy = sha256((bubblewrap.Bubblewrap.policy_digest() + selftest.digest()).encode()).hexdigest()
    key = {
        "boot": Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
        "programs": programs.both_digests,
        "policy": policy,
        "kernel": platform.release(),
        "user": os.getuid(),
        "user_namespace": str(Path("/proc/self/ns/user").readlink()),
    }
    identity = sandbox_identity()
    complete = _recalled(state_dir, key)
    if complete is not None:
        return _bubblewrap(programs, policy, identity, complete=complete)
    backend = _bubblewrap(programs, policy, identity, complete=True)
    try:
        _test(backend)
    except SandboxUnavailable:
        backend = _bubblewrap(programs, policy, identity, complete=False)
        _test(backend)
    _remember(state_dir, key, complete=not backend.isolation.degraded)
    return backend


def _bubblewrap(
    programs: bubblewrap.Installed, policy: str, identity: Identity | None, *, complete: bool
) -> bubblewrap.Bubblewrap:
    isolation = Isolation(
        level=bubblewrap.LEVEL,
        backend=bubblewrap.NAME,
        backend_sha256=programs.digest,
        kernel=platform.release(),
        policy_digest=policy,
        degraded=() if complete else (_NOT_DISABLED,),
    )
    return bubblewrap.Bubblewrap(programs, isolation, identity, no_further_namespaces=complete)


def _test(backend: bubblewrap.Bubblewrap) -> None:
    sample = Job("sample", ("true",), Path("/tree"), Path("/repository"))
    selftest.check(
        backend,
        owner=os.getuid() if backend.identity is None else backend.identity.uid,
        variables=tuple(bubblewrap.environment(sample)),
    )


def _recalled(state_dir: Path | None, key: dict[str, object]) -> bool | None:
    """Whether the remembered test passed with everything; ``None`` without a test that still counts."""
    if state_dir is None:
        return None
    place = state_dir / REMEMBERED_AS
    with suppress(OSError):
        status = place.lstat()
        private = stat.S_ISREG(status.st_mode) and not status.st_mode & 0o077 and status.st_uid == os.getuid()
        found = read_json(place) if private else None
        if isinstance(found, dict) and found.get("key") == key and isinstance(found.get("complete"), bool):
            return bool(found["complete"])
    return None


def _remember(state_dir: Path | None, key: dict[str, object], *, complete: bool) -> None:
    if state_dir is not None:
        with suppress(StorageError):  # the next run tests again
            write_atomically(
                state_dir / REMEMBERED_AS, json.dumps({"key": key, "complete": complete}).encode()
            )
