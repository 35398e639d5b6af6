"""Incidents on their way to a Governor: what a server found on its protected refs, kept until the log is proven to hold it.

As `delivery` does with verdicts: an incident leaves its spool only when the Governor's receipt proves the entry that it
has to be. Whatever is killed in between is done again, and logged once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

from safeai_git.client.governor import MOST_AT_ONCE, GovernorClient, Refused, Reported
from safeai_git.client.spool import IncidentSpool
from safeai_git.core.errors import FormatError, LogProofInvalid
from safeai_git.core.incident import Incident
from safeai_git.core.log.checkpoint import OpenedCheckpoint
from safeai_git.core.log.entry import format_data
from safeai_git.core.receipt import check_entry
from safeai_git.delivery import Delivered, Destination, checkpoints, work_off
from safeai_git.git.repository import Repository
from safeai_git.keys.ed25519 import verify

Entry = tuple[str, Incident]


class Reporting:
    """Delivers one repository's incidents.

    Args:
        repository: Where they are spooled.
        environ: The environment, for the person's state folder.
        to: The Governor.
        seconds: What one exchange may take.
    """

    def __init__(
        self, repository: Repository, environ: Mapping[str, str], to: Destination, *, seconds: float
    ) -> None:
        self._keys = to.keys
        self._client = GovernorClient(to.address, seconds=seconds)
        self._private = repository.private_directory
        self._spool = IncidentSpool(self._private)
        self._checkpoints = checkpoints(repository, environ)

    def drain(
        self,
        progress: Callable[[str], None] | None = None,
        *,
        wait: float = 0.0,
        within: float = math.inf,
    ) -> Delivered:
        """Report everything that waits, oldest first, and what is added meanwhile. Another process at it is left to it.

        Args:
            progress: Told after each batch.
            wait: Seconds to wait for another process that is at it already.
            within: Seconds after which no further batch is begun; the rest waits on.

        Raises: as `Delivery.drain` does.
        """
        done = Delivered()
        until = time.monotonic() + within

        def report(waiting: Iterator[Entry]) -> None:
            while time.monotonic() <= until and (batch := list(islice(waiting, MOST_AT_ONCE))):
                self._report(batch, done)
                if progress is not None:
                    progress(f"{done.sent + done.repeated:,} incidents reported")

        try:
            work_off(self._spool, self._private / "incidents.lock", report, wait=wait)
        finally:
            done.left = len(self._spool)
        return done

    def _report(self, batch: list[Entry], done: Delivered) -> None:
        answers = self._client.report([one for _, one in batch])
        taken: list[str] = []
        seen: dict[bytes, OpenedCheckpoint] = {}
        for (name, one), answer in zip(batch, answers, strict=True):
            if isinstance(answer, Refused):
                done.refused.append((one.digest, f"{answer.word}: {answer.detail}"))
                continue
            opened = self._proven(one, answer)
            seen.setdefault(opened.note, opened)
            taken.append(name)
            done.repeated += answer.repeated
            done.sent += not answer.repeated
        for opened in seen.values():
            self._checkpoints.advance(opened, self._keys, self._client.consistency)
            done.size = max(done.size, opened.checkpoint.size)
        for name in taken:
            self._spool.remove(name)

    def _proven(self, one: Incident, answer: Reported) -> OpenedCheckpoint:
        key, data = one.logged(answer.by)
        try:
            return check_entry(answer.proof, key, format_data(data), self._keys, verify).checkpoint
        except (FormatError, LogProofInvalid) as error:
            raise LogProofInvalid(
                f"the Governor's receipt for the incident {one.digest[:16]} does not hold: {error.message}",
                hint="nothing was taken out of the spool; check the log's key, and tell whoever runs the Governor",
            ) from error
