"""Several things at one time, in threads, so that an error or Ctrl-C stops all of them.

Not `concurrent.futures`: that costs each start of a hook a dozen milliseconds, and waits for what runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

T = TypeVar("T", bound=Hashable)
R = TypeVar("R")


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
