"""Several things at one time: in threads, so that an error or Ctrl-C stops all of them, or in a process for each core.

Not `concurrent.futures`: that costs each start of a hook a dozen milliseconds, and waits for what runs.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import threading
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

if sys.platform == "linux":
    import fcntl

T = TypeVar("T", bound=Hashable)
R = TypeVar("R")
S = TypeVar("S")

MOST_PROCESSES = 16

TURN = 32
"""Items that one process does before it is the next one's turn: what it makes of so few fits into a pipe, mostly."""

PATIENCE = 120.0
"""Seconds for which a copy may bring nothing before what it was to do is done here. It takes far less for a turn, mostly."""

_BUFFER = 1 << 20
_LENGTH = 8

_busy = False
"""Whether there are copies already, or this is one: what is done within their work makes no further ones."""


def in_parallel(
    do: Callable[[T], R], items: Sequence[T], number: int, stopping: threading.Event
) -> dict[T, R]:
    """What `do` makes of each item, in the order of the items.

    Args:
        do: Ends soon once `stopping` is set.
        items: Each once.
        number: How many at one time.
        stopping: Set when anything goes wrong.

    Raises:
        BaseException: The first that `do` raised, or that reached this thread meanwhile.
    """
    done: dict[T, R] = {}
    failed: list[BaseException] = []
    waiting = list(reversed(items))

    def work() -> None:
        while not stopping.is_set():
            try:
                item = waiting.pop()
            except IndexError:
                return
            try:
                done[item] = do(item)
            except BaseException as error:  # noqa: BLE001 - handed on to whoever waits
                failed.append(error)
                stopping.set()

    workers = [threading.Thread(target=work) for _ in range(min(number, len(items)))]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    except BaseException:
        stopping.set()
        raise
    finally:
        for worker in workers:
            if worker.ident is not None:
                worker.join()
    if failed:
        raise failed[0]
    return {item: done[item] for item in items}


def processes(items: int, least: int) -> int:
    """How many processes are worth their start: one for each core that this one may use, none for less than `least` items.

    One alone where processes cannot be multiplied: elsewhere than on Linux, and where other threads run, whose locks would
    be held for ever in a child; nor within the work of others (`in_processes`).
    """
    if sys.platform != "linux" or threading.active_count() > 1 or _busy:
        return 1
    return min(len(os.sched_getaffinity(0)), MOST_PROCESSES, max(items // least, 1))


def in_processes(do: Callable[[S], R], items: Sequence[S], least: int) -> Generator[R]:
    """What `do` makes of each item, in their order: in turns here and in copies of this process, `TURN` items at a time.

    The copies only save time. What one of them does not bring, because it failed, was killed or hangs (`PATIENCE`), is
    made here, so that every error is raised where it would have been. A copy waits when nobody takes what it made, so
    that it never holds much more than a pipe does.

    Args:
        do: What it gives can be pickled; it changes nothing that others see.
        items: What is done.
        least: Items for which a process is worth its start.
    """
    global _busy  # noqa: PLW0603 - what was forked knows it too
    number = processes(len(items), least)
    turns = [items[at : at + TURN] for at in range(0, len(items), TURN)]
    copies: dict[int, _Copy] = {}
    first = number > 1
    try:
        _busy = _busy or first
        with suppress(OSError):  # no more processes, or no more files: fewer copies
            for one in range(1, number):
                copies[one] = _Copy(do, [item for turn in turns[one::number] for item in turn])
        for at, turn in enumerate(turns):
            copy = copies.get(at % number)
            for item in turn:
                made = copy.next() if copy else None
                yield do(item) if made is None else made[0]
    finally:
        for copy in copies.values():
            copy.end()
        _busy = _busy and not first


class _Copy:
    """A copy of this process that does something with each of some items, and tells what came of it."""

    def __init__(self, do: Callable[[S], R], items: Sequence[S]) -> None:
        read, write = os.pipe()
        try:
            self._process = os.fork()
        except OSError:
            os.close(read)
            os.close(write)
            raise
        if self._process:
            os.close(write)
            self._pipe = read
            self._held, self._at = bytearray(), 0
            self._ready = select.poll()
            self._ready.register(read, select.POLLIN)
            return
        try:
            if sys.platform == "linux":
                with suppress(OSError):  # without more room it waits earlier
                    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, _BUFFER)
            with open(write, "wb", buffering=_BUFFER) as pipe:
                for at in range(0, len(items), TURN):
                    for item in items[at : at + TURN]:
                        made = pickle.dumps(do(item))
                        pipe.write(len(made).to_bytes(_LENGTH) + made)
                    pipe.flush()
        finally:
            os._exit(0)  # whatever went wrong, it is told by what does not come

    def next(self) -> tuple[Any] | None:
        """What came of its next item; ``None`` where it does not come, and nothing after that."""
        if not self._come(_LENGTH):
            return None
        size = int.from_bytes(self._held[self._at : self._at + _LENGTH])
        self._at += _LENGTH
        if not size or not self._come(size):
            return None
        made = memoryview(self._held)[self._at : self._at + size]
        self._at += size
        return (pickle.loads(made),)  # noqa: S301 - written by our own copy

    def _come(self, size: int) -> bool:
        """Whether so many more bytes came of what it tells; if not, that ended, or is ended since it takes too long."""
        while len(self._held) - self._at < size:
            waits = self._process and self._ready.poll(PATIENCE * 1_000)
            piece = os.read(self._pipe, _BUFFER) if waits else b""
            if not piece:
                # What comes after all, or begins in the middle, would be taken for the answer to another item.
                self.end()
                return False
            del self._held[: self._at]
            self._at = 0
            self._held += piece
        return True

    def end(self) -> None:
        """Stop it, if it still runs; nothing of what it tells counts any more."""
        self._held, self._at = bytearray(), 0
        process, self._process = self._process, 0
        if not process:
            return
        os.close(self._pipe)
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
