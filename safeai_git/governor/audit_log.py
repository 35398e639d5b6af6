"""The audit log: takes entries from many, makes them durable together, and gives each a receipt.

Natural group commit: while one batch is synced, the next gathers; a lone request pays one sync, a crowd shares it. The
order is fixed: write, sync, read back, only then sign, publish, and answer. So a signed head never says more than the
disk holds, and an answer never more than a signed head.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from safeai_git.core.errors import SafeAIError, StorageError
from safeai_git.core.log.entry import Draft, receipt_head
from safeai_git.core.log.merkle import Nodes, grown, inclusion_path
from safeai_git.core.log.proof import LogProof
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.stores.port import Appended, Conflict, LogFailed, LogFull, Store, covered
from safeai_git.governor.stores.tending import Tending

MOST_ENTRIES = 1024
"""Entries of one batch."""

MOST_BYTES = 1 << 20
"""Bytes of one batch; one submission is never split."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The log's word that it holds an entry.

    Attributes:
        index: The entry's place, from 0.
        repeated: It was there before: the same id, the same body.
        line: The entry's exact bytes.
        size: Of the tree that the checkpoint is over.
        checkpoint: The signed note.
    """

    index: int
    repeated: bool
    line: bytes
    size: int
    checkpoint: bytes
    _nodes: Nodes

    def proof(self) -> LogProof:
        """The tlog-proof. Its extra data are the bytes that stand before the envelope in the entry."""
        path = inclusion_path(self.index, self.size, self._nodes)
        return LogProof(self.index, tuple(path), self.checkpoint, receipt_head(self.line))


Result = Receipt | Conflict


class Ticket:
    """A submission that waits for its answer."""

    __slots__ = ("_done", "drafts", "error", "results", "wake")

    def __init__(self, drafts: tuple[Draft, ...], wake: Callable[[Sequence[Ticket]], None] | None) -> None:
        self.drafts = drafts
        self.wake = wake
        self.results: tuple[Result, ...] = ()
        self.error: SafeAIError | None = None
        self._done = threading.Lock()
        self._done.acquire()

    def finish(self, results: tuple[Result, ...], error: SafeAIError | None) -> None:
        """Answer. Called once, by the log."""
        self.results, self.error = results, error
        self._done.release()

    def wait(self, seconds: float = -1) -> tuple[Result, ...]:
        """Wait for the answer: a receipt or a conflict for each draft.

        Raises:
            StorageError: It took longer, or the log could not take them. Whether they are in it is not known: submitting
                them again under the same ids is safe.
            CouldNotDecide: They are durable, and the checkpoint could not be signed.
        """
        if not self._done.acquire(timeout=seconds):
            raise StorageError("the log did not answer in time", hint="submit again, under the same ids")
        self._done.release()
        if self.error is not None:
            raise self.error
        return self.results


Wake = Callable[[Sequence[Ticket]], None]
"""Is told, from the log's thread, which of its tickets have answers; one call for all of a batch. Must not block."""


class AuditLog:
    """A log that many submit to.

    Args:
        store: Where entries are kept; the log is the only one to use it from here on.
        signer: Signs the checkpoints.
        now: Unix time in seconds.
        most_waiting: Entries that may wait; past it a submission is refused at once.
        remember_every: Seconds between two writings of the newest checkpoint to its second place.
        on_failure: Told once when the log takes nothing any more; the process should end.
        on_batch: Told of each batch how many seconds it took, and the error that it ended with; must not block.
    """

    def __init__(
        self,
        store: Store,
        signer: LogSigner,
        *,
        now: Callable[[], float] = time.time,
        most_waiting: int = 4096,
        remember_every: float = 1.0,
        on_failure: Callable[[LogFailed], None] | None = None,
        on_batch: Callable[[float, SafeAIError | None], None] | None = None,
    ) -> None:
        self._store = store
        self._signer = signer
        self._now = now
        self._most_waiting = most_waiting
        self._on_failure = on_failure
        self._on_batch = on_batch
        self._covered = 0
        self._failed: LogFailed | None = None
        self._head_error: StorageError | None = None
        self._tending: Tending | None = None
        self._turn = threading.Lock()
        """Held by whoever writes a batch; taken before the queue's."""
        self._queue: deque[Ticket] = deque()
        self._waiting = 0
        self._closing = False
        self._watching: list[Callable[[], None]] = []
        self._changed = threading.Condition(threading.Lock())
        self._ended = threading.Event()
        self._writer = threading.Thread(target=self._write, name="audit-log", daemon=True)
        self._keeper = threading.Thread(
            target=self._keep, args=(remember_every,), name="audit-head", daemon=True
        )

    @property
    def store(self) -> Store:
        """The store, for reading entries, nodes and the newest checkpoint."""
        return self._store

    @property
    def failure(self) -> StorageError | None:
        """Why the log is not well, or ``None``: it takes nothing any more, or cannot keep its checkpoint twice."""
        return self._failed or self._head_error

    @property
    def waiting(self) -> int:
        """How many entries wait."""
        return self._waiting

    def start(self, first: Sequence[Draft] = ()) -> None:
        """Begin to take entries.

        Args:
            first: What the log itself has to say, such as that it begins or was recovered; in it when this returns.

        Raises:
            StorageError: The store could not take it.
            CouldNotDecide: The checkpoint could not be signed.
        """
        self._covered = covered(self._store.published)
        if first:
            self._store.append(first, self._milliseconds())
        if self._store.size > self._covered:
            self._publish(self._store.size, self._store.root())
        self._store.remember()
        self._writer.start()
        self._keeper.start()

    def tend(self, tending: Tending) -> None:
        """Have the store tended from here on."""
        self._tending = tending
        tending.start(self._fail)

    def watch(self, wake: Callable[[], None]) -> None:
        """Have `wake` called, from any thread, after entries became durable, ours or others'. Must not block."""
        self._watching.append(wake)
        if len(self._watching) == 1:
            self._store.watch(self._tell)

    def _tell(self) -> None:
        for wake in self._watching:
            with suppress(Exception):  # one that follows must not keep the others from hearing of it
                wake()

    def submit(self, drafts: Sequence[Draft], wake: Wake | None = None) -> Ticket:
        """Hand in entries that belong together; they are answered together.

        Raises:
            LogFailed: The log takes nothing any more.
            LogFull: Too many wait, or it is closing.
        """
        ticket = Ticket(tuple(drafts), wake)
        with self._changed:
            self._enqueue(ticket)
            if len(self._queue) == 1:
                self._changed.notify()
        return ticket

    def _enqueue(self, ticket: Ticket) -> None:
        if self._failed:
            raise self._failed
        if self._closing or self._waiting + len(ticket.drafts) > self._most_waiting:
            what = "is closing" if self._closing else f"has {self._waiting:,} entries waiting"
            raise LogFull(f"the log {what}", hint="try again in a moment, under the same ids")
        self._queue.append(ticket)
        self._waiting += len(ticket.drafts)

    def append(self, draft: Draft, seconds: float = -1) -> Result:
        """Submit one entry and wait for its receipt; raises as `submit` and `Ticket.wait` do.

        Where nobody else is writing, the caller's thread writes it, with whatever waits by then: the log's thread would
        have to be woken, and to wake the caller again. The time that is set counts for waiting, not for one's own sync.
        """
        # Never the main thread: a signal's handler may raise in it anywhere, also between a write and its sync.
        if threading.current_thread() is threading.main_thread() or not self._turn.acquire(blocking=False):
            return self.submit((draft,)).wait(seconds)[0]
        try:
            ticket = Ticket((draft,), None)
            with self._changed:
                self._enqueue(ticket)
                taken = self._taken()
            self._commit(taken)
        finally:
            self._turn.release()
        return ticket.wait(seconds)[0]

    def receipt(self, index: int) -> Receipt:
        """A receipt for any entry, under the newest published checkpoint.

        Raises:
            LookupError: No published checkpoint covers it.
        """
        note = self._store.published
        size = covered(note)
        if note is None or not 0 <= index < size:
            raise LookupError(f"no checkpoint covers an entry {index}")
        return Receipt(index, True, self._store.entry(index), size, note, self._store.node)

    def close(self) -> None:
        """Answer what was taken, take no more, and close the store.

        Raises:
            StorageError: The newest checkpoint could not be kept in its second place.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._writer.is_alive():
            self._writer.join()
        self._ended.set()
        if self._keeper.is_alive():
            self._keeper.join()
        if self._tending is not None:
            self._tending.close()
        with self._turn:
            self._store.close()

    def _write(self) -> None:
        while self._wait():
            with self._turn:
                with self._changed:
                    taken = self._taken()
                if taken:  # else somebody else wrote them meanwhile
                    self._commit(taken)

    def _wait(self) -> bool:
        """Wait until there is something to write; ``False`` when the log is closing and nothing is left."""
        with self._changed:
            while not self._queue and not self._closing:
                self._changed.wait()
            return bool(self._queue)

    def _taken(self) -> list[Ticket]:
        """Everything that waits, up to a batch. For whoever holds both locks."""
        taken: list[Ticket] = []
        entries = size = 0
        while self._queue and entries < MOST_ENTRIES and size < MOST_BYTES:
            ticket = self._queue.popleft()
            taken.append(ticket)
            entries += len(ticket.drafts)
            size += sum(len(draft.rest) for draft in ticket.drafts)
        return taken

    def _commit(self, tickets: list[Ticket]) -> None:
        results: list[Result] = []
        error: SafeAIError | None = self._failed
        started = time.perf_counter()
        if error is None:
            try:
                drafts = [draft for ticket in tickets for draft in ticket.drafts]
                results = self._placed(self._store.append(drafts, self._milliseconds()))
            except LogFailed as failure:
                error = failure
                self._fail(failure)
            except SafeAIError as refusal:
                error = refusal
            except BaseException as fault:  # noqa: BLE001 - whoever waits must hear of it, whatever it is
                error = LogFailed(f"a fault of the program in the log: {type(fault).__name__}: {fault}")
                self._fail(error)
        self._answer(tickets, results, error)
        if self._on_batch is not None:
            self._on_batch(time.perf_counter() - started, error)

    def _placed(self, appended: Appended) -> list[Result]:
        if appended.size > self._covered:
            self._publish(appended.size, appended.root)
        note, size = self._store.published, self._covered
        if note is None:
            raise LogFailed("the log has no checkpoint to answer with")
        fresh = _Fresh(appended)
        first = appended.before.size
        results: list[Result] = []
        for outcome in appended.outcomes:
            if isinstance(outcome, Conflict):
                results.append(outcome)
            elif first <= outcome.index < first + len(appended.lines) and size == first + len(appended.lines):
                line = appended.lines[outcome.index - first]
                results.append(Receipt(outcome.index, outcome.repeated, line, size, note, fresh.node))
            else:
                line = self._store.entry(outcome.index)
                results.append(Receipt(outcome.index, outcome.repeated, line, size, note, self._store.node))
        return results

    def _publish(self, size: int, root: bytes) -> None:
        self._store.publish(self._signer.sign(size, root), size)
        self._covered = size

    def _answer(self, tickets: list[Ticket], results: list[Result], error: SafeAIError | None) -> None:
        with self._changed:
            self._waiting -= sum(len(ticket.drafts) for ticket in tickets)
        at = 0
        waking: dict[Wake, list[Ticket]] = {}
        for ticket in tickets:
            ticket.finish(tuple(results[at : at + len(ticket.drafts)]), error)
            at += len(ticket.drafts)
            if ticket.wake is not None:
                waking.setdefault(ticket.wake, []).append(ticket)
        for wake, woken in waking.items():
            with suppress(Exception):  # a caller that is gone must not stop the log for the others
                wake(woken)
        self._tell()

    def _fail(self, failure: LogFailed) -> None:
        with self._changed:
            first, self._failed = self._failed is None, failure
        if first and self._on_failure is not None:
            self._on_failure(failure)

    def _keep(self, every: float) -> None:
        while not self._ended.wait(every):
            try:
                self._store.remember()
                self._head_error = None
            except StorageError as error:
                self._head_error = error

    def _milliseconds(self) -> int:
        return int(self._now() * 1000)


class _Fresh:
    """The nodes that prove a batch's new entries, computed when the first of them is asked for its proof."""

    __slots__ = ("_appended", "_nodes")

    def __init__(self, appended: Appended) -> None:
        self._appended = appended
        self._nodes: Nodes | None = None

    def node(self, level: int, index: int) -> bytes:
        if self._nodes is None:
            self._nodes = grown(self._appended.before, self._appended.leaves)
        return self._nodes(level, index)
