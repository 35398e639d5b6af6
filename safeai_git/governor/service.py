"""A running Governor: its log, what follows from it, and who may ask. Everything that the HTTP layer speaks about."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from safeai_git.audit import claims
from safeai_git.core.errors import FormatError, KeyUnusable, StorageError, WrongUse
from safeai_git.files import read_bounded
from safeai_git.governor.audit_log import AuditLog
from safeai_git.governor.auth.authenticator import Authenticator, build
from safeai_git.governor.key_registry import KeyRegistry
from safeai_git.governor.kill_switch import KillSwitchService
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.metrics import Metrics
from safeai_git.governor.open_log import open_file_log, start_log
from safeai_git.governor.policies import LARGEST_TEXT, PolicyService
from safeai_git.governor.records import Records
from safeai_git.governor.settings import Settings
from safeai_git.governor.stores.port import LogFailed
from safeai_git.keys.port import Signer
from safeai_git.keys.signer import load_signer

FIRST_POLICY_SECONDS = 365 * 24 * 3600
"""How long the policy that a new log begins with is good."""

LEAST_FREE = 64 * 1024 * 1024
"""Bytes of free space in the data folder below which a Governor says that it is not ready."""


@dataclass(frozen=True, slots=True)
class Governor:
    """Everything that one process serves. Made by `open_governor`.

    Attributes:
        settings: What it was started with.
        origin: The log's name.
        signer: The key for checkpoints, leases, lists and decisions.
        log: The audit log.
        records: What follows from the log.
        keys: Who may sign what.
        policies: The organisation's policy.
        kill_switch: The kill switches.
        authenticator: Who asks.
        metrics: What is counted.
    """

    settings: Settings
    origin: str
    signer: Signer
    log: AuditLog
    records: Records
    keys: KeyRegistry
    policies: PolicyService
    kill_switch: KillSwitchService
    authenticator: Authenticator
    metrics: Metrics

    def not_ready(self) -> str:
        """Why nothing should be sent here now; empty where all is well."""
        if (failure := self.log.failure) is not None:
            return failure.message
        if (stale := self.records.follower.failure) is not None:
            return stale.message
        if self.free_bytes() < LEAST_FREE:
            return f"less than {LEAST_FREE:,} bytes are free in the data folder"
        return ""

    def free_bytes(self) -> int:
        """Free space where the log and the index lie."""
        found = os.statvfs(self.settings.data_dir)
        return found.f_bavail * found.f_frsize

    def close(self) -> None:
        """Answer what was taken, and close the log.

        Raises:
            StorageError: The newest checkpoint could not be kept in its second place.
        """
        self.records.close()
        self.log.close()


def open_governor(settings: Settings, *, on_failure: Callable[[LogFailed], None] | None = None) -> Governor:
    """Open the log that the settings name, or begin one, and take in what it says.

    Args:
        settings: See `Settings`.
        on_failure: Told once, from another thread, when the log takes nothing any more; the process should end.

    Raises:
        WrongUse: The settings contradict each other or what is there.
        KeyUnusable: The signing key is missing or cannot be used.
        PolicyError: A rules file or the first policy makes no sense.
        StorageError: The log cannot be opened; another process may have it.
        LogProofInvalid: It is damaged, rolled back, forked, or gone though there was one.
    """
    authenticator = build(settings)
    signer = _signer(settings)
    origin = settings.log_origin or _origin(settings, signer)
    metrics = Metrics()
    with ExitStack() as opened:
        log = _open_log(settings, LogSigner(origin, [signer]), metrics, on_failure)
        opened.callback(log.close)
        records = Records.of(log)
        opened.callback(records.close)
        governor = Governor(
            settings,
            origin,
            signer,
            log,
            records,
            KeyRegistry(records, origin, signer),
            PolicyService(records, origin, signer),
            KillSwitchService(
                records,
                origin,
                signer,
                lease_seconds=settings.lease_seconds,
                second_person=settings.release_needs_second_person,
            ),
            authenticator,
            metrics,
        )
        _begin(governor)
        metrics.watch(governor)
        opened.pop_all()
    return governor


def _begin(governor: Governor) -> None:
    governor.keys.ensure_own()
    place = governor.settings.config_dir / "policy.yaml"
    if place.exists():
        try:
            text = read_bounded(place, LARGEST_TEXT + 1)
        except OSError as error:
            raise StorageError(f"{place} cannot be read: {error.strerror or error}") from error
        governor.policies.first(text, seconds=FIRST_POLICY_SECONDS)
    if not governor.settings.enabled:
        governor.kill_switch.start_engaged()


def _signer(settings: Settings) -> Signer:
    path = settings.data_dir / "keys" / f"ed25519.{settings.key_id}.sk"
    if not path.exists():
        raise KeyUnusable(
            f"there is no signing key {path}",
            hint=f"safeai keys generate --data-dir {settings.data_dir} --key-id {settings.key_id}",
        )
    return load_signer(path)


def _origin(settings: Settings, signer: Signer) -> str:
    """The name of a log that nobody named: its own word if it is there, else one after its first key."""
    if settings.database_url:
        raise WrongUse(
            "SAFEAI_DATABASE_URL needs SAFEAI_LOG_ORIGIN: all replicas have to agree on the log's name",
            hint="set it to a name such as governor.example/safeai, and never change it",
        )
    path = settings.data_dir / "audit.log"
    if path.exists() and path.stat().st_size:
        try:
            origin, _ = claims(path)
        except FormatError:
            origin = ""  # opening it says what is wrong with it
        if origin:
            return origin
    return f"safeai.local/{hashlib.sha256(signer.public.raw).hexdigest()[:16]}"


def _open_log(
    settings: Settings,
    signer: LogSigner,
    metrics: Metrics,
    on_failure: Callable[[LogFailed], None] | None,
) -> AuditLog:
    if not settings.database_url:
        if not Path(settings.data_dir).is_dir():
            raise StorageError(
                f"the data folder {settings.data_dir} is not there", hint="make it, or set SAFEAI_DATA_DIR"
            )
        return open_file_log(
            settings.data_dir,
            signer,
            most_waiting=settings.max_outstanding,
            on_failure=on_failure,
            on_batch=metrics.batch,
            on_sync=metrics.sync_seconds.observe,
        )
    from safeai_git.governor.stores.postgres import PostgresStore  # noqa: PLC0415 - psycopg is slow to load

    return start_log(
        PostgresStore(settings.database_url, signer.origin),
        signer,
        most_waiting=settings.max_outstanding,
        on_failure=on_failure,
        on_batch=metrics.batch,
    )
