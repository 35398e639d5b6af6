"""What happens beside a running file log: the whole of it is read again, and its older part moves into ``audit.index``.

A start that believed the index has not read the entries that are in it. They are read here, from the first byte on and as
strictly as a start does, and what they amount to is held against the index. A difference ends the log: nothing is
signed any more, and the index is thrown away, so that the next start reads everything and says what is wrong. Then each
segment that is complete, durable and under a checkpoint is added to the index. It rests three times as long as it works.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from safeai_git.core.errors import FormatError, LogProofInvalid, SafeAIError
from safeai_git.core.log.chain import Chain, is_commit, lines_of
from safeai_git.governor.stores.index_file import IndexFile
from safeai_git.governor.stores.port import LogFailed
from safeai_git.governor.stores.recovery import chunks
from safeai_git.governor.stores.sealed import SealedState
from safeai_git.governor.stores.segments import SEGMENT, Builder

_LINES = 32
"""Lines that are read in one go: a quarter of a millisecond, in which nobody else computes."""

_REST = 3.0
_IDLE_SECONDS = 1.0
_AGAIN_SECONDS = 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tended:
    """What a store lets be done beside it.

    Attributes:
        path: The log.
        reading: Its descriptor.
        chain: Makes a new chain with the log's name and keys.
        index, state: Its index, and what is in memory.
        covered: How many entries are under the newest checkpoint.
        held: Told how many entries were read here, in order and without a fault.
        fail: Ends the store, for a reason.
    """

    path: Path
    reading: int
    chain: Callable[[], Chain]
    index: IndexFile
    state: SealedState
    covered: Callable[[], int]
    held: Callable[[int], None]
    fail: Callable[[str], LogFailed]


class Tending:
    """A thread that tends a log.

    Args:
        tended: The log.
        sign: Signs a text with the log's key.
    """

    def __init__(self, tended: Tended, sign: Callable[[str], bytes]) -> None:
        self._tended = tended
        self._sign = sign
        self._ended = threading.Event()
        self._failed: Callable[[LogFailed], None] = lambda _failure: None
        self._thread = threading.Thread(target=self._run, name="audit-index", daemon=True)

    def start(self, failed: Callable[[LogFailed], None]) -> None:
        """Begin; `failed` is told, from the thread, when the log proves to be another one than it was."""
        self._failed = failed
        self._thread.start()

    def close(self) -> None:
        """End; before the store is closed."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        try:
            for rest in steps(self._tended, self._sign):
                if self._ended.wait(rest or _REST * (time.monotonic() - began)):
                    return
                began = time.monotonic()
        except LogFailed as failure:
            self._failed(failure)
        except (OSError, SafeAIError) as error:
            self._failed(refused(self._tended, error))
        except Exception as fault:  # noqa: BLE001 - a thread that dies in silence would leave the log unread
            self._failed(self._tended.fail(f"a fault of the program: {type(fault).__name__}: {fault}"))


def refused(tended: Tended, error: Exception) -> LogFailed:
    """End a log that could not be read, or is not what it was."""
    message = error.message if isinstance(error, SafeAIError) else str(error)
    failure = tended.fail(f"reading it whole, after the start: {message}")
    if isinstance(error, FormatError | LogProofInvalid):
        tended.index.forget()
        failure.__cause__ = LogProofInvalid(
            failure.message, hint="start it again: then all of it is read first"
        )
    log.error(failure.message)
    return failure


def steps(tended: Tended, sign: Callable[[str], bytes]) -> Iterator[float]:
    """Tend a log, step by step; after each, the seconds to rest, 0 for as long as is fair.

    Raises:
        FormatError, LogProofInvalid: The log is not what it was, or contradicts itself.
        OSError, LogFailed: It cannot be read.
    """
    chain, offset, trusted = tended.chain(), 0, tended.index.size
    while True:
        while chain.size < tended.covered() // SEGMENT * SEGMENT:
            builder = Builder(tended.index.salt)
            for number, line in enumerate(lines_of(chunks(tended.reading, offset, 1 << 16), offset)):
                if not line.ended:
                    break
                offset = line.offset + len(line.data) + 1
                if is_commit(line.data):
                    chain.commit(line.data)
                else:
                    found, leaf = chain.follow(line.data)
                    builder.take(line.offset, found[5], found[6], leaf)
                    if len(builder) == SEGMENT:
                        break
                if number % _LINES == 0:
                    yield 0.0
            if len(builder) < SEGMENT:
                raise LogProofInvalid(f"it ends at entry {chain.size}, and was longer")
            yield 0.0
            yield from _settled(tended, chain, builder.record(), sign)
            tended.held(chain.size)
            if chain.size == trusted:
                log.info("the %d entries of the log that the start did not read are in order", trusted)
        yield _IDLE_SECONDS


def _settled(tended: Tended, chain: Chain, record: bytes, sign: Callable[[str], bytes]) -> Iterator[float]:
    """Hold a segment against the index, or add it."""
    number = chain.size // SEGMENT - 1
    if number < tended.index.count:
        if tended.index.differs(number, record):
            raise LogProofInvalid(
                f"the entries {chain.size - SEGMENT} to {chain.size - 1} are not those that the log's key signed for"
            )
        return
    tended.state.compare(record)
    yield 0.0
    while True:
        try:
            tended.index.append(record, chain.frontier.root(), sign)
        except (OSError, SafeAIError) as error:
            log.warning("%s cannot be written, and is tried again: %s", tended.index.path, error)
            yield _AGAIN_SECONDS
        else:
            break
    tended.state.seal(record)
