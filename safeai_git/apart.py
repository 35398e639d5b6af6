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


class Copy:
    """A copy of this process that is doing something; what it prints on standard output is kept back.

    Args:
        do: Gives an exit code.
    """

    def __init__(self, do: Callable[[], int]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._printed, theirs = os.pipe()
        self._process: int | None = os.fork()
        if self._process == 0:
            _do(do, theirs)
        os.close(theirs)

    def ended(self) -> tuple[int, bytes] | None:
        """Wait until it ends: its exit code, and what it printed; ``None`` where it crashed, was killed or prints for ever."""
        printed = bytearray()
        while piece := os.read(self._printed, _PIECE):
            printed += piece
            if len(printed) > LARGEST:
                return None
        if self._process is None:
            return None
        _, status = os.waitpid(self._process, 0)
        self._process = None
        return (os.WEXITSTATUS(status), bytes(printed)) if os.WIFEXITED(status) else None

    def end(self) -> None:
        """Stop it if it still runs; nobody waits for one that not even a kill ends."""
        os.close(self._printed)
        if self._process is not None:
            with suppress(OSError):
                os.kill(self._process, signal.SIGKILL)


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
