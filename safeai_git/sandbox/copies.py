"""A second process for work of our own: a copy of this one, that does its part and ends. It starts no program."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

_LARGEST_ANSWER = 512


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
