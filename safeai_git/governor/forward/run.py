"""Forwards: reads what is verified, delivers it, and moves the cursor when it was taken and not before.

A batch that is not taken is tried again, whole, after a pause that grows and differs each time; one that is refused is
halved, down to the one record that the destination will not have. Nothing is left out without somebody having said so.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from safeai_git.core.display import count
from safeai_git.core.errors import CouldNotDecide, StorageError, WrongUse
from safeai_git.files import write_atomically
from safeai_git.governor.forward.cursor import Cursor, CursorFile, Position
from safeai_git.governor.forward.records import Record, shown
from safeai_git.governor.forward.targets import NotTaken, Refused, Target, append
from safeai_git.governor.forward.verified import Batch, Reader

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
"""Seconds; each pause is up to twice the one before."""

LOOK_EVERY = 1.0
"""Seconds between two looks at a log that has not grown."""

TELL_EVERY = 15.0
"""Seconds after which metrics are written anew though nothing changed."""


class Unwanted(Exception):
    """The destination will not take one record, and nothing says what is to become of it.

    Args:
        record: Which.
        message: What it answered.
    """

    def __init__(self, record: Record, message: str) -> None:
        super().__init__(message)
        self.record = record


@dataclass(slots=True)
class Forwarder:
    """One log to one destination.

    Attributes:
        reader: The log.
        target: The destination.
        file: Where the cursor is kept.
        patience: Seconds without any progress after which `once` gives up.
        begin: The first entry, where there is no cursor yet.
        set_aside: File that takes records which the destination refuses; ``None`` stops there.
        metrics: File for Prometheus' textfile collector; ``None`` for none.
        say: Is told what goes wrong and what was done; must not raise.
        sleep, clock, now: Time.
        delivered: Entries that were acknowledged.
    """

    reader: Reader
    target: Target
    file: CursorFile
    patience: float = 60.0
    begin: int = 0
    set_aside: Path | None = None
    metrics: Path | None = None
    say: Callable[[str], None] = lambda _text: None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    delivered: int = 0
    failures: int = 0
    _at: Position = field(default_factory=Position)
    _moved: float = 0.0
    _seen: int = 0
    _told: tuple[tuple[int, ...], float] = ((), 0.0)
    _forever: bool = False
    _random: random.Random = field(default_factory=random.SystemRandom)

    def once(self) -> int:
        """Deliver what is there now; how many entries were acknowledged.

        Raises:
            CouldNotDecide: The destination takes nothing; what it took before stays taken.
            LogProofInvalid: The log is not in order, or not the one that was forwarded before.
            StorageError: Something of ours cannot be read or written.
            WrongUse: The cursor is another log's or destination's.
            Unwanted: It refuses a record.
        """
        self._moved = self.clock()
        self.delivered = 0
        self._at = self._position()
        self._all()
        return self.delivered

    def follow(self) -> None:
        """Deliver for ever. Raises as `once` does, but not because the destination or the log cannot be reached."""
        self._forever = True
        self._at = self._position()
        failures = 0
        while True:
            try:
                self._at = self.reader.found(self._at)
                self._all()
                failures = 0
            except StorageError as error:
                if failures == 0:
                    self.say(error.message)
                failures += 1
            self.sleep(min(LOOK_EVERY * 2 ** min(failures, 6), LONGEST_PAUSE))

    def _position(self) -> Position:
        """Where to go on."""
        held = self.file.load()
        if held is None:
            return self.reader.at(self.begin, chosen=True)
        if held.origin != self.reader.origin:
            raise WrongUse(
                f"the cursor {self.file.path} is of the log {held.origin}, and this one is {self.reader.origin}",
                hint="name another cursor: --cursor, or SAFEAI_FORWARD_CURSOR",
            )
        if held.destination != self.target.name:
            raise WrongUse(
                f"the cursor {self.file.path} is of {held.destination}, and SAFEAI_FORWARD_TO is {self.target.name}",
                hint="another destination gets a cursor of its own, and the log from its beginning (or --from N); if it only "
                'moved, change "destination" in that file',
            )
        return self.reader.found(held.position)

    def _all(self) -> None:
        self._seen = self._at.next
        self._tell()
        for batch in self.reader.batches(self._at):
            self._seen = batch.checkpoint.checkpoint.size
            self._send(batch)

    def _send(self, batch: Batch) -> None:
        """Deliver a batch, in parts if it has to be, and move the cursor behind each."""
        try:
            self._persist(batch)
        except Refused as error:
            if len(batch.records) > 1:
                middle = len(batch.records) // 2
                self._send(batch.first(middle))
                self._send(batch.rest(middle))
                return
            self._put_aside(batch.records[0], str(error))
        after = batch.after
        note = batch.checkpoint.note.decode()
        self._save(Cursor(self.reader.origin, self.target.name, after, note))
        self._at = after
        self.delivered += len(batch.ends)
        self._moved = self.clock()
        self._tell()

    def _save(self, cursor: Cursor) -> None:
        """Move the cursor. On a full disk this is tried again, and not the delivery: it would send the same for ever."""
        pause = FIRST_PAUSE
        while True:
            try:
                self.file.save(cursor)
            except StorageError as error:
                if not self._forever:
                    raise
                if pause == FIRST_PAUSE:
                    self.say(f"{error.message}; what was delivered is sent again if this process ends now")
                self.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                return

    def _persist(self, batch: Batch) -> None:
        pause = FIRST_PAUSE
        said = ""
        while True:
            try:
                self.target.deliver(batch.records)
            except NotTaken as error:
                self.failures += 1
                wait = max(error.wait, pause * (0.5 + self._random.random() / 2))
                self._give_up(error, wait, batch)
                if str(error) != said:  # the same reason again and again is said once
                    said = str(error)
                    self.say(f"{error}; {shown(batch.records)} wait and are sent again")
                self._tell()
                self.sleep(wait)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                return

    def _give_up(self, error: NotTaken, wait: float, batch: Batch) -> None:
        if self._forever or (not error.hopeless and self.clock() - self._moved + wait <= self.patience):
            return
        raise CouldNotDecide(
            f"{error}: {count(self.delivered, 'entry', 'entries')} were taken, and {shown(batch.records)} were not",
            hint="nothing is lost: the next run begins there. Check SAFEAI_FORWARD_TO, the network policy and the destination",
        ) from None

    def _put_aside(self, record: Record, message: str) -> None:
        if self.set_aside is None:
            raise Unwanted(record, message)
        try:
            append(self.set_aside, record.as_json() + b"\n", mode=0o600)
        except OSError as error:
            raise StorageError(f"{self.set_aside} cannot be written: {error.strerror or error}") from error
        self.say(f"{message}; {shown([record])} was put into {self.set_aside}")

    def _tell(self) -> None:
        """Write the metrics, if they changed or are old. That they cannot be written stops nothing."""
        figures = (self._at.next, self._seen, self.failures)
        if self.metrics is None or (figures == self._told[0] and self.clock() - self._told[1] < TELL_EVERY):
            return
        self._told = (figures, self.clock())
        rows = (
            ("entries", "gauge", "Entries that the destination acknowledged.", self._at.next),
            ("lag_entries", "gauge", "Signed entries that it did not, as of the last look.", self._seen - self._at.next),
            ("looked_timestamp_seconds", "gauge", "When the log was last looked at or something was tried.", int(self.now())),
            ("failures_total", "counter", "Deliveries that failed, since the process began.", self.failures),
        )  # fmt: skip
        text = "".join(
            f"# HELP safeai_forward_{name} {meaning}\n# TYPE safeai_forward_{name} {kind}\nsafeai_forward_{name} {value}\n"
            for name, kind, meaning, value in rows
        )
        try:
            write_atomically(self.metrics, text.encode(), mode=0o644)
        except StorageError as error:
            self.say(error.message)
