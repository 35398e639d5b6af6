"""How the writing of a large tree is divided between two processes.

Half of the time goes into unpacking objects and half into making files, and neither can be done by two threads of one
interpreter.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator

from safeai_git.git.tree_plan import Folder, Plan

WORTH_IT = 2_000
"""Files from which on it saves more than it costs."""
_PIECES = 16
_LARGEST_ANSWER = 512


def divide(plan: Plan, shared: Callable[[], bool]) -> bool:
    """Say in the plan who writes which folder; false where one process had better do it all.

    A process with threads cannot be copied safely, one processor gains nothing, and where a program is asked for the
    objects (`shared`), two askers would take each other's answers.
    """
    if plan.files < WORTH_IT or sys.platform != "linux":
        return False
    if threading.active_count() > 1 or len(os.sched_getaffinity(0)) < 2 or not shared():
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
