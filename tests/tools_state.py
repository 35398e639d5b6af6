"""What the tests of a Governor's state share: logs with a clock that is set by hand, and everything that follows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tools_log import LOG_SIGNER, ORIGIN

from safeai_git.governor.audit_log import AuditLog
from safeai_git.governor.key_registry import KeyRegistry
from safeai_git.governor.kill_switch import KillSwitchService
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.open_log import open_file_log, start_log
from safeai_git.governor.policies import PolicyService
from safeai_git.governor.records import Records
from safeai_git.keys.ed25519 import Ed25519Signer

NOW = 1_780_000_000
SIGNER = LogSigner(ORIGIN, [LOG_SIGNER])


def person(number: int) -> Ed25519Signer:
    """A key from a fixed seed."""
    return Ed25519Signer.of(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


class Clock:
    """Seconds since 1970, as the test has them."""

    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


@dataclass
class Parts:
    """A Governor without its HTTP."""

    log: AuditLog
    records: Records
    keys: KeyRegistry
    policies: PolicyService
    switches: KillSwitchService
    clock: Clock


@contextmanager
def parts(
    place: Path | Callable[[], AuditLog], clock: Clock | None = None, *, second_person: bool = False
) -> Iterator[Parts]:
    """Open a log, in a folder or however a function does, and what follows from it; close it afterwards."""
    clock = clock or Clock()
    log = open_file_log(place, SIGNER, reserve=0, now=clock) if isinstance(place, Path) else place()
    records = Records.of(log, clock)
    try:
        yield Parts(
            log,
            records,
            KeyRegistry(records, ORIGIN, LOG_SIGNER),
            PolicyService(records, ORIGIN, LOG_SIGNER),
            KillSwitchService(records, ORIGIN, LOG_SIGNER, lease_seconds=900, second_person=second_person),
            clock,
        )
    finally:
        records.close()
        log.close()


def in_database(url: str, log_id: str, clock: Clock) -> Callable[[], AuditLog]:
    """Opens a log in PostgreSQL."""

    def opened() -> AuditLog:
        from safeai_git.governor.stores.postgres import PostgresStore

        return start_log(PostgresStore(url, log_id, patience=30), SIGNER, now=clock)

    return opened
