"""Several things at one time: in threads, so that an error or Ctrl-C stops all of them, or in a process for each core.

Not `concurrent.futures`: that costs each start of a hook a dozen milliseconds, and waits for what runs.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T", bound=Hashable)
R = TypeVar("R")
S = TypeVar("S")

MOST_PROCESSES = 16


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


def shares(items: Sequence[S], least: int) -> list[Sequence[S]]:
    """Parts of a list for `in_processes`: one for each core that this process may use, none of them smaller than `least`.

    One part alone where processes cannot be multiplied: elsewhere than on Linux, and where other threads run, whose
    locks would be held for ever in a child.
    """
    number = 1
    if sys.platform == "linux" and threading.active_count() == 1:
        number = min(len(os.sched_getaffinity(0)), MOST_PROCESSES, max(len(items) // least, 1))
    size = -(-len(items) // number)
    return [items[at : at + size] for at in range(0, len(items), size)] if items else []


def in_processes(do: Callable[[Sequence[S]], Iterable[R]], parts: Sequence[Sequence[S]]) -> Generator[R]:
    """What `do` makes of each part, in their order: the first here, each of the others in a copy of this process.

    The copies only save time. What one of them does not bring, because it failed or was killed, is made here, so that
    every error is raised where it would have been.

    Args:
        do: What it gives can be pickled; it changes nothing that others see.
        parts: From `shares`.
    """
    copies: dict[int, _Copy] = {}
    try:
        with suppress(OSError):  # no more processes, or no more files: fewer copies
            for at in range(1, len(parts)):
                copies[at] = _Copy(do, parts[at])
        for at, part in enumerate(parts):
            found = copies[at].found() if at in copies else None
            yield from do(part) if found is None else found
    finally:
        for copy in copies.values():
            copy.end()


class _Copy:
    """A copy of this process that makes one list."""

    def __init__(self, do: Callable[[Sequence[S]], Iterable[R]], part: Sequence[S]) -> None:
        self._pipe, write = os.pipe()
        try:
            self._process = os.fork()
        except OSError:
            os.close(self._pipe)
            os.close(write)
            raise
        if self._process:
            os.close(write)
            return
        code = 1
        try:
            made = pickle.dumps(list(do(part)))
            with open(write, "wb") as pipe:
                pipe.write(made)
            code = 0
        finally:
            os._exit(code)  # whatever it was, it is told by there being no list

    def found(self) -> list[Any] | None:
        """The list; ``None`` where there is none."""
        with open(os.dup(self._pipe), "rb") as pipe:
            made = pipe.read()
        _, status = os.waitpid(self._process, 0)
        self._process = 0
        if status or not made.endswith(pickle.STOP):
            return None
        whole: list[Any] = pickle.loads(made)  # noqa: S301 - written by our own copy
        return whole

    def end(self) -> None:
        """Stop it, if it still runs."""
        os.close(self._pipe)
        if self._process:
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(self._process, signal.SIGKILL)
                os.waitpid(self._process, 0)
