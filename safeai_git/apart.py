"""Does something in a copy of this process, so that its crash, or its hanging in a native library, is noticed and answered.

A signal's handler in Python runs only once a native function returns, and none runs after a crash or when the kernel is
out of memory. Whoever waits outside can still say something.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

LARGEST = 16 * 1024 * 1024
"""Bytes that the copy may print."""

_PIECE = 65_536
_FAILED = 70  # sysexits(3): EX_SOFTWARE


def in_a_copy(do: Callable[[], int]) -> tuple[int, bytes] | None:
    """Do something in a copy of this process, and wait for it; what it prints on standard output is kept back.

    A copy that still runs when this ends, by an error too, is killed; nobody waits for one that not even that ends.

    Args:
        do: Gives an exit code.

    Returns:
        The exit code, and what was printed; ``None`` where it crashed, was killed or prints for ever.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    ours, theirs = os.pipe()
    process = os.fork()
    if process == 0:
        _do(do, theirs)
    os.close(theirs)
    try:
        printed = bytearray()
        while piece := os.read(ours, _PIECE):
            printed += piece
            if len(printed) > LARGEST:
                return None
        _, status = os.waitpid(process, 0)
        process = 0
        return (os.WEXITSTATUS(status), bytes(printed)) if os.WIFEXITED(status) else None
    finally:
        os.close(ours)
        if process:
            with suppress(OSError):
                os.kill(process, signal.SIGKILL)


def _do(do: Callable[[], int], output: int) -> NoReturn:
    code = _FAILED
    try:
        os.dup2(output, sys.stdout.fileno())
        os.close(output)
        code = do()
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001 - the code tells
        code = _FAILED
    finally:
        os._exit(code)
