"""Writing a large tree in two processes at once.

Half of the time goes into unpacking objects and half into making files, and neither can be done by two threads of one
interpreter. The second process is a copy of this one that writes its part and ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

from safeai_git.git.tree_plan import Folder, Plan

WORTH_IT = 2_000
"""Files from which on it saves more than it costs."""
_PIECES = 16
_LARGEST_ANSWER = 512


def divide(plan: Plan) -> bool:
    """Say in the plan who writes which folder; false where one process had better do it all.

    A process with threads cannot be copied safely, and one processor gains nothing.
    """
    if plan.files < WORTH_IT or sys.platform != "linux":
        return False
    if threading.active_count() > 1 or len(os.sched_getaffinity(0)) < 2:
        return False
    weights: dict[int, int] = {}
    for folder in reversed(list(folders(plan.root))):
        weights[id(folder)] = 1 + len(folder.files) + sum(weights[id(below)] for _, below in folder.folders)
    loads = [0, 0]
    waiting = [plan.root]
    while waiting:
        folder = waiting.pop()
        weight = weights[id(folder)]
        if weight > weights[id(plan.root)] // _PIECES:
            waiting += (below for _, below in folder.folders)
        else:
            folder.part = loads.index(min(loads))
            loads[folder.part] += weight
    return True


def folders(root: Folder) -> Iterator[Folder]:
    """A folder and all beneath it, each before those that it holds."""
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        yield folder
        waiting += (below for _, below in folder.folders)


def in_two(work: Callable[[int], int], take_over: Callable[[int | None], None]) -> None:
    """Do part 0 here and part 1 in a copy of this process, and take over what that found.

    Args:
        work: Does a part and gives back a number.
        take_over: Given the number of the other part, or ``None`` when it failed in a way that has no error number.

    Raises:
        OSError: The copy could not be made, or its part failed with this error.
    """
    answer, their_answer = os.pipe()
    with os.fdopen(answer, "rb") as told:
        try:
            copy = os.fork()
            if copy == 0:
                _do(work, their_answer)
        finally:
            os.close(their_answer)
        try:
            work(0)
            words = told.read(_LARGEST_ANSWER).decode("ascii").split()
        except BaseException:
            with suppress(ProcessLookupError):
                os.kill(copy, signal.SIGKILL)
            raise
        finally:
            os.waitpid(copy, 0)
    if words[:1] == ["error"]:
        raise OSError(int(words[1]), os.strerror(int(words[1])))
    take_over(int(words[1]) if words[:1] == ["done"] else None)


def _do(work: Callable[[int], int], answer: int) -> None:
    """The other part, as the whole rest of this process: nothing that the original has to clean up is cleaned up."""
    try:
        said = f"done {work(1)}"
    except OSError as error:
        said = f"error {error.errno}"
    except BaseException:  # noqa: BLE001 - the original finds out why, and says so
        said = "failed"
    with suppress(OSError):
        os.write(answer, said.encode("ascii"))
    os._exit(0)
