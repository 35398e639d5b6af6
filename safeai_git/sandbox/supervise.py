"""Runs one launcher (bubblewrap, or ours) and everything beneath it, to the end or to a limit.

It says on its status pipe which process is the sandbox's first and, later, with which code the command ended (the
command cannot reach that pipe). The first process is held by a descriptor, so that no reused id can mislead. Under
bubblewrap it is the init of a process namespace: when it is gone, the kernel has ended everything in there, so waiting
for it is the proof that nothing is left. Our own launcher ends only when it has no descendant any more.
"""

from __future__ import annotations

import errno
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from safeai_git.core.errors import SandboxUnavailable
from safeai_git.sandbox import orphans
from safeai_git.sandbox.launch import Launch, Started, start
from safeai_git.sandbox.output import Output
from safeai_git.sandbox.port import Job, Outcome
from safeai_git.sandbox.usage import Usage

_PIECE = 64 * 1024
_LARGEST_STATUS = 64 * 1024
_NEXT_LOOK_SECONDS = 0.05
_AT_ONCE_SECONDS = 0.001
_LONGEST_SETUP_SECONDS = 10.0
_LONGEST_END_SECONDS = 30.0
_CPU_LIMIT_EXIT = 128 + 24
"""As bubblewrap and shells report SIGXCPU."""


class NotStarted(SandboxUnavailable):
    """The sandbox could not be set up, so nothing was executed. ``said`` is what bubblewrap printed."""

    def __init__(self, said: str) -> None:
        super().__init__(f"the sandbox could not be set up: {said.strip() or 'no reason given'}")
        self.said = said.strip()


def run(launch: Launch, job: Job, *, on_output: Callable[[bytes], None] | None = None) -> Outcome:
    """Run it; nothing is left running when this returns or raises, an interrupt from the keyboard included.

    Raises:
        NotStarted: It ended before the command was executed.
        SandboxUnavailable: It could not be started, or not be stopped.
    """
    try:
        usage = Usage(job, launch.watched, launch.overlay)
    except OSError as error:
        raise SandboxUnavailable(
            f"the tree {job.tree} of check {job.name} cannot be watched: {error}",
            hint="write it anew, then try again",
        ) from error
    with ExitStack() as stack:
        begun = time.monotonic()
        supervised = _Supervised(start(launch, stack), launch, job, usage, stack, on_output)
        try:
            limit_hit = supervised.watch(begun + job.limits.wall_seconds)
        finally:
            supervised.end()
        outcome = supervised.outcome(limit_hit, time.monotonic() - begun)
        if job.collect is not None and outcome.limit_hit is None:
            job.collect(supervised.tree())
        return outcome


class _Supervised:
    """A started sandbox."""

    def __init__(
        self,
        started: Started,
        launch: Launch,
        job: Job,
        usage: Usage,
        stack: ExitStack,
        on_output: Callable[[bytes], None] | None,
    ) -> None:
        self._process = started.process
        self._guard = started.guard
        self._stop = launch.stop
        self._overlay = launch.overlay
        self._tree: int | None = None
        self._job = job
        self._usage = usage
        self._stack = stack
        self._output_end, self._status_end, self._line = started.output, started.status, started.line
        self._on_output = on_output
        self._output = Output(job.limits.output_bytes, logged=job.terminal is None)
        self._status = b""
        self._first: int | None = None
        self._first_pid = 0
        self._between: list[int] = []
        self._open = {self._output_end, self._status_end}
        self._selector = stack.enter_context(selectors.DefaultSelector())
        self._stopped = False
        self._named = False
        self._up: float | None = None
        self._released = False
        self._finished = False
        self._filters = orphans.filters(os.getpid())
        for descriptor in self._open:
            self._selector.register(descriptor, selectors.EVENT_READ)

    def watch(self, deadline: float) -> str | None:
        """Until it has ended by itself or a limit is passed; gives back which."""
        self._selector.register(own := self._hold(self._process.pid), selectors.EVENT_READ)
        self._selector.register(self._line, selectors.EVENT_READ)
        while True:
            now = time.monotonic()
            if now >= deadline:
                return "wall"
            if self._job.stopping is not None and self._job.stopping():
                raise SandboxUnavailable(f"check {self._job.name} was stopped", hint="run it again")
            waits = self._up is not None and not self._released
            pause = _AT_ONCE_SECONDS if waits else _NEXT_LOOK_SECONDS
            ready = [key.fd for key, _ in self._selector.select(min(deadline - now, pause))]
            if not self._released:
                self._release(ready)
            self._read(ready)
            if self._output.full:
                return "output"
            if own in ready:
                self._finished = True
                return None
            if self._released and (
                hit := self._usage.exceeded(self._process.pid if self._stop else self._first_pid)
            ):
                return hit

    def _release(self, ready: list[int]) -> None:
        """Let the command start, once it is there and cannot outlive us."""
        if self._up is None and self._line.fileno() in ready:
            if self._line.recv(16) == b"up\n":
                self._up = time.monotonic()
            self._selector.unregister(self._line)
        if self._up is None:
            return
        if self._first is not None and _is_bound(self._first_pid, self._filters):
            if self._job.collect is not None and self._overlay is not None:
                # Held by this descriptor it outlives the sandbox that mounted it.
                self._tree = self._folder(f"/proc/{self._first_pid}/root{self._overlay}")
            self._released = True
            with suppress(BrokenPipeError):
                self._line.sendall(b"go\n")
            self._line.close()
        elif time.monotonic() > self._up + _LONGEST_SETUP_SECONDS:
            raise NotStarted("bwrap: the first process of the sandbox was not confined")

    def end(self) -> None:
        """Stop whatever still runs, wait until the kernel says it is gone, and read what it left in the pipes."""
        if not self._finished:
            self._stopped = True
            # Without its first process known there would be nothing to wait for; bubblewrap names it at once.
            deadline = time.monotonic() + _LONGEST_SETUP_SECONDS
            with suppress(SandboxUnavailable):  # it cannot be held: what ended the watching says so
                while not self._named and self._status_end in self._open and time.monotonic() < deadline:
                    self._read([key.fd for key, _ in self._selector.select(1.0)], quietly=True)
            if self._guard is not None:
                os.killpg(self._process.pid, signal.SIGKILL)
            elif self._stop is not None:
                self._stop()
        self._line.close()
        deadline = time.monotonic() + _LONGEST_END_SECONDS
        if self._first is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first, signal.SIGKILL)
        try:
            self._process.wait(_LONGEST_END_SECONDS)
            if self._guard is not None:
                self._guard.dismiss()
            gone = all(_ended(process, deadline) for process in self._held())
            orphans.reap(self._held())
            if self._stop is not None and self._process.returncode < 0:
                gone = orphans.end_adopted(deadline) and gone
        except subprocess.TimeoutExpired:
            gone = False
        while gone and self._open and time.monotonic() < deadline:
            self._read([key.fd for key, _ in self._selector.select(1.0)], quietly=self._stopped)
        if not gone or self._open:
            raise SandboxUnavailable(
                f"check {self._job.name} does not end although it was killed: a process hangs in the kernel",
                hint="look for a broken disk or network mount, or restart the machine",
            )

    def outcome(self, limit_hit: str | None, seconds: float) -> Outcome:
        """What there is to say, after `end`."""
        code = None
        if not self._released:
            raise NotStarted(self._output.text().decode("utf-8", "replace"))
        if limit_hit is None and self._output.full:
            limit_hit = "output"
        if limit_hit is None:
            code = self._exit_code()
            if code == _CPU_LIMIT_EXIT:
                code, limit_hit = None, "cpu"
        return Outcome(
            exit_code=code,
            signal=None
            if limit_hit is None
            else int(signal.SIGKILL if limit_hit != "cpu" else signal.SIGXCPU),
            limit_hit=limit_hit,
            seconds=seconds,
            output=self._output.text(),
            output_bytes=self._output.total,
            output_sha256=self._output.sha256,
            log=self._output.log(),
        )

    def tree(self) -> int:
        """A descriptor of the tree as the job left it, after `end`."""
        return self._folder(str(self._job.tree)) if self._tree is None else self._tree

    def _folder(self, path: str) -> int:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise SandboxUnavailable(
                f"the tree of check {self._job.name} cannot be looked into: {error.strerror}",
                hint="take 'artifacts' and 'setup' out of the check, or demand isolation of another level",
            ) from error
        self._stack.callback(os.close, descriptor)
        return descriptor

    def _exit_code(self) -> int:
        told = [found["exit-code"] for found in _documents(self._status) if "exit-code" in found]
        if told and told[0] == self._process.returncode:
            return int(told[0])
        if self._process.returncode < 0:
            raise SandboxUnavailable(
                f"check {self._job.name} was ended from outside, by signal {-self._process.returncode}",
                hint="try again; if it was the kernel for want of memory, lower memory_bytes of the check",
            )
        raise NotStarted(self._output.text().decode("utf-8", "replace"))

    def _hold(self, pid: int) -> int:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            raise
        except OSError as error:
            raise SandboxUnavailable(
                f"a process cannot be held by a descriptor: {error}", hint="Linux 5.3 or newer is needed"
            ) from error
        self._stack.callback(os.close, descriptor)
        return descriptor

    def _read(self, ready: list[int], *, quietly: bool = False) -> None:
        if self._output_end in ready and self._output_end in self._open:
            try:
                piece = os.read(self._output_end, _PIECE)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                piece = b""  # a terminal whose other end nobody holds any more
            if not piece:
                self._close(self._output_end)
            fitted = self._output.take(piece)
            if fitted and self._on_output is not None and not quietly:
                self._on_output(fitted)
        if self._status_end in ready and self._status_end in self._open:
            self._read_status()

    def _read_status(self) -> None:
        piece = os.read(self._status_end, _PIECE)
        self._status += piece
        if not piece or len(self._status) > _LARGEST_STATUS:
            self._close(self._status_end)
        pids = [int(found["child-pid"]) for found in _documents(self._status) if "child-pid" in found]
        if pids and not self._named:
            self._named = True
            with suppress(ProcessLookupError, FileNotFoundError):  # gone already: its set-up failed
                descriptor = self._hold(pids[0])
                above = list(_ancestors(pids[0]))
                if self._process.pid in above:
                    self._first, self._first_pid = descriptor, pids[0]
                    self._between = list(map(self._hold, above[: above.index(self._process.pid)]))

    def _held(self) -> list[int]:
        """Descriptors of the first process and of each between it and the launcher."""
        return self._between if self._first is None else [self._first, *self._between]

    def _close(self, descriptor: int) -> None:
        self._selector.unregister(descriptor)
        self._open.discard(descriptor)


def _is_bound(pid: int, ours: int) -> bool:
    """Whether the sandbox's first process ends with its launcher, and so with us.

    Nothing shows that directly. The launcher asks for it and then applies the filter, in this order (bubblewrap.c,
    do_init; confine.py), and filters are shown (proc(5)): there is one more than around us, or any at all where the
    kernel does not count them (before 5.9).
    """
    return orphans.is_confined(pid, ours)


def _ancestors(pid: int) -> Iterator[int]:
    """Its parent, and the parent of that: launchers have up to two stages."""
    for _ in range(2):
        pid = _parent(pid)
        yield pid


def _parent(pid: int) -> int:
    # proc(5): the name, in brackets, can hold anything; the parent is the second field after it
    return int(Path("/proc", str(pid), "stat").read_bytes().rpartition(b")")[2].split()[1])


def _ended(process: int, deadline: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(process, selectors.EVENT_READ)
        return bool(selector.select(max(0.0, deadline - time.monotonic())))


def _documents(text: bytes) -> list[dict[str, Any]]:
    """The JSON objects that are complete so far, one after the other."""
    found: list[dict[str, Any]] = []
    rest = text.decode("utf-8", "replace").lstrip()
    decoder = json.JSONDecoder()
    while rest:
        try:
            value, end = decoder.raw_decode(rest)
        except ValueError:
            break
        if isinstance(value, dict):
            found.append(value)
        rest = rest[end:].lstrip()
    return found
