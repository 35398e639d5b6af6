"""What a sandbox is to the rest of the product: a job goes in, an outcome comes out.

A backend promises the isolation that its `Isolation` states, or raises `SandboxUnavailable` before anything of the job
was executed. It has no switch that turns isolation off. Levels: A and B are namespaces (A with a disk quota that the
kernel keeps), C is Landlock with seccomp; there is no level under which a job runs unconfined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from safeai_git.sandbox.identity import Identity

MIB = 2**20
LEVELS = ("A", "B", "C")
"""Strongest first."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one job may use. Past any of them it is stopped, and a stopped job never counts as a pass.

    Attributes:
        wall_seconds: From start to end.
        cpu_seconds: Of each process.
        memory_bytes: Of all processes together (shared pages counted once), and the data segment of each.
        processes: Processes and threads at one time.
        file_bytes: Of each file it writes.
        open_files: Of each process; never more than the caller may have itself.
        output_bytes: What it may print.
        scratch_bytes, scratch_files: What it may add to the tree, in bytes and in entries; half as many bytes again
            fit into ``/tmp``, a quarter each into its home and ``/dev/shm``.
    """

    wall_seconds: float = 300.0
    cpu_seconds: int = 1800
    memory_bytes: int = 2048 * MIB
    processes: int = 512
    file_bytes: int = 1024 * MIB
    open_files: int = 4096
    output_bytes: int = 16 * MIB
    scratch_bytes: int = 2048 * MIB
    scratch_files: int = 200_000


@dataclass(frozen=True, slots=True)
class Job:
    """One command to run on one tree.

    Attributes:
        name: For messages.
        argv: The command; a policy's line of shell is ``("/bin/sh", "-c", line)``.
        tree: The materialised tree, writable, the job's alone, not reused by another.
        mount_at: Where it appears inside: the repository's own path, so that an editable install finds it.
        environment: Variables on top of the fixed ones; who may choose them is the caller's to decide.
        limits: See there.
        read_only: Absolute paths of the host that are shown inside at the same place, unwritable.
        commit_time: Seconds since 1970, given as ``SOURCE_DATE_EPOCH``.
        tree_entries, tree_bytes: What the tree holds at the start; allowed on top of the limits.
        below: Layers below `tree`, the next one first, for a backend that keeps the tree: never written, and shared
            with other jobs. As overlayfs reads them, what `tree` has hides them, and its whiteouts hide more.
        prepared: Absolute places inside the tree, and the folder of the host that is shown at each, unwritable. ``None``
            for a place that the job itself prepares: no toolchain is shown there.
        stopping: Asked now and then; true ends the job, which then counts as not run.
        network: Whether it gets the host's network. Only for commands of a policy that an organisation allows it.
        collect: Given a descriptor of the tree as the job left it, once nothing of the job is running any more; not
            called for a job that was stopped.
        terminal: A terminal of its own, for a job that people talk to: our end, and the path of the other. Nothing
            that it prints is kept then.
    """

    name: str
    argv: tuple[str, ...]
    tree: Path
    mount_at: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = Limits()
    read_only: tuple[Path, ...] = ()
    commit_time: int = 0
    tree_entries: int = 0
    tree_bytes: int = 0
    below: tuple[Path, ...] = ()
    prepared: Mapping[Path, Path | None] = field(default_factory=dict)
    stopping: Callable[[], bool] | None = None
    network: bool = False
    collect: Callable[[int], None] | None = None
    terminal: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was observed of a job.

    Attributes:
        exit_code: The command's own; 128 + n when signal n ended it, as in a shell. ``None`` when it was stopped.
        signal: The signal it was stopped with, ``None`` when it ended by itself.
        limit_hit: ``wall``, ``cpu``, ``memory``, ``output``, ``scratch`` or ``files``; ``None`` when none was.
        seconds: Wall clock.
        output: Standard output and error in the order of arrival: all, or the beginning and the end.
        output_bytes, output_sha256: Of everything that was read from it (hex).
        log: All of that, as a zlib stream.
    """

    exit_code: int | None
    signal: int | None
    limit_hit: str | None
    seconds: float
    output: bytes
    output_bytes: int
    output_sha256: str
    log: bytes = b""

    @property
    def passed(self) -> bool:
        """It ended by itself, within its limits, with 0."""
        return self.exit_code == 0 and self.signal is None and self.limit_hit is None


@dataclass(frozen=True, slots=True)
class Isolation:
    """What stood around a job, for the evidence.

    Attributes:
        level: ``A``, ``B`` or ``C``.
        backend: Its name.
        backend_sha256: Of the program, in hex.
        kernel: Release of the running kernel.
        policy_digest: SHA-256, hex, of everything that decides what a job may do: mounts, filter, probes.
        degraded: What this machine cannot give, although the level usually does.
        selftest_sha256: Of the probes that it passed, in hex.
        not_stronger: Why each stronger level is not used.
    """

    level: str
    backend: str
    backend_sha256: str
    kernel: str
    policy_digest: str
    degraded: tuple[str, ...] = ()
    selftest_sha256: str = ""
    not_stronger: tuple[str, ...] = ()

    @property
    def in_words(self) -> str:
        """For the evidence: level, backend, and the beginnings (128 bits) of its digest and of the self-test's."""
        return (
            f"{self.level} {self.backend} {self.backend_sha256[:32]}, self-test {self.selftest_sha256[:32]}"
        )


class Backend(Protocol):
    """Runs jobs in isolation.

    Attributes:
        isolation: What it gives, as its self-test found it on this machine.
        identity: Who its jobs run as outside; ``None`` for the caller.
        keeps_tree: Whether what a job writes stays out of the tree outside.
    """

    isolation: Isolation
    identity: Identity | None
    keeps_tree: bool

    def run(self, job: Job, *, on_output: Callable[[bytes], None] | None = None) -> Outcome:
        """Run a job to its end; nothing of it is left running when this returns or raises.

        Args:
            job: What to run.
            on_output: Given each piece of output as it arrives, control characters and all.

        Raises:
            SandboxUnavailable: It was not executed.
        """


@dataclass(frozen=True, slots=True)
class Report:
    """One backend as ``doctor`` shows it: its isolation, or why there is none and the line that mends it."""

    name: str
    level: str
    isolation: Isolation | None
    reason: str = ""
    hint: str = ""

    @property
    def available(self) -> bool:
        """Whether jobs can run in it."""
        return self.isolation is not None
