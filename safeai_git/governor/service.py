"""A running Governor: its log, what follows from it, and who may ask. Everything that the HTTP layer speaks about."""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from safeai_git.audit import claims
from safeai_git.core.errors import FormatError, KeyUnusable, StorageError, WrongUse
from safeai_git.core.log.note import ED25519, NoteKey
from safeai_git.core.log.policy import WitnessPolicy
from safeai_git.governor.audit_log import AuditLog, Receipt
from safeai_git.governor.auth.authenticator import Authenticator, build
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.metrics import Metrics
from safeai_git.governor.open_log import open_file_log, start_log
from safeai_git.governor.services import Services
from safeai_git.governor.settings import Settings
from safeai_git.governor.stores.port import LogFailed, Store, covered
from safeai_git.governor.witnesses import FOLDER, Witnesses, hold_against_witnessed, read_witness_policy
from safeai_git.keys.port import Signer
from safeai_git.keys.signer import is_reference, load_signer, open_signer

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
        services: What rests on it: keys, policy, kill switches, search, decisions.
        authenticator: Who asks.
        metrics: What is counted.
        witnesses: Who cosigns the log's checkpoints; ``None`` where nobody is asked.
    """

    settings: Settings
    origin: str
    signer: Signer
    log: AuditLog
    services: Services
    authenticator: Authenticator
    metrics: Metrics
    witnesses: Witnesses | None = None

    @property
    def verifier(self) -> str:
        """The log's verifier key (``name+id+base64``): what clients are told once, and check every receipt by."""
        return NoteKey(self.origin, ED25519, self.signer.public.raw).format()

    def not_ready(self) -> str:
        """Why nothing should be sent here now; empty where all is well."""
        if (failure := self.log.failure) is not None:
            return failure.message
        if (stale := self.services.failure) is not None:
            return stale.message
        if self.free_bytes() < LEAST_FREE:
            return f"less than {LEAST_FREE:,} bytes are free in the data folder"
        return ""

    def checkpoint(self) -> bytes | None:
        """The newest checkpoint that may be shown, with the cosignatures that it has."""
        return self.witnesses.newest() if self.witnesses else self.log.store.published

    def settled(self) -> bytes | None:
        """The checkpoint for readers of tiles: a cosigned one as long as the witnesses keep up."""
        return self.witnesses.settled() if self.witnesses else self.log.store.published

    def receipt(self, index: int) -> Receipt:
        """A receipt for an entry, under a cosigned checkpoint where one covers it.

        Raises:
            LookupError: No checkpoint that may be shown covers the entry.
        """
        if index >= covered(self.checkpoint()):
            raise LookupError(f"no checkpoint covers an entry {index}")
        found = self.log.receipt(index)
        return self.witnesses.receipt(found) if self.witnesses else found

    def free_bytes(self) -> int:
        """Free space where the log and the index lie."""
        found = os.statvfs(self.settings.data_dir)
        return found.f_bavail * found.f_frsize

    def close(self) -> None:
        """Answer what was taken, and close the log.

        Raises:
            StorageError: The newest checkpoint could not be kept in its second place.
        """
        self.services.close()
        if self.witnesses:
            self.witnesses.close()
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
    signer = signer_of(settings, os.environ)
    origin = settings.log_origin or origin_of(settings, signer)
    metrics = Metrics()
    with ExitStack() as opened:
        log_signer = LogSigner(origin, [signer], settings.log_keys)
        policy = _witness_policy(settings, log_signer)
        log = _open_log(settings, log_signer, metrics, on_failure)
        opened.callback(log.close)
        services = Services.open(log, settings, origin=origin, signer=signer)
        opened.callback(services.close)
        witnesses = None
        if policy is not None:
            witnesses = Witnesses(
                log,
                origin,
                log_signer.keys,
                policy,
                settings.data_dir / FOLDER,
                required=settings.witness_required,
                count=metrics.witness,
            )
            witnesses.start()
        governor = Governor(settings, origin, signer, log, services, authenticator, metrics, witnesses)
        metrics.watch(governor)
        opened.pop_all()
    return governor


def _witness_policy(settings: Settings, signer: LogSigner) -> WitnessPolicy | None:
    if settings.witness_policy is None:
        return None
    return read_witness_policy(settings.witness_policy, signer.keys, required=settings.witness_required)


def signer_of(settings: Settings, environ: Mapping[str, str]) -> Signer:
    """The Governor's key.

    Args:
        settings: Which one.
        environ: Where a key service is, and how to ask it.

    Raises:
        WrongUse: What is named is no key.
        KeyUnusable: It is missing, or cannot be used.
    """
    if is_reference(settings.key_id):
        return open_signer(settings.key_id, environ)
    path = settings.data_dir / "keys" / f"ed25519.{settings.key_id}.sk"
    if not path.exists():
        raise KeyUnusable(
            f"there is no signing key {path}",
            hint=f"safeai keys generate --data-dir {settings.data_dir} --key-id {settings.key_id}",
        )
    return load_signer(path)


def origin_of(settings: Settings, signer: Signer) -> str:
    """The name of a log that nobody named: its own word if it is there, else one after its first key.

    Raises:
        WrongUse: The log is in a database, where it has to be named.
        StorageError: The log cannot be read.
    """
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

    def guard(store: Store) -> None:
        hold_against_witnessed(settings.data_dir / FOLDER, signer.origin, signer.keys, store)

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
            guard=guard,
            whole=settings.read_log_first,
        )
    postgres = importlib.import_module("safeai_git.governor.stores.postgres")  # psycopg is slow to load

    return start_log(
        postgres.PostgresStore(settings.database_url, signer.origin),
        signer,
        most_waiting=settings.max_outstanding,
        on_failure=on_failure,
        on_batch=metrics.batch,
        guard=guard,
    )
