"""Opens the log that the settings ask for, and writes what the log has to say about itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from safeai_git import __version__
from safeai_git.core.canonical import JSON
from safeai_git.core.errors import SafeAIError
from safeai_git.core.log.entry import Draft
from safeai_git.governor.audit_log import AuditLog
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.stores.file import RESERVE, FileStore, Identity
from safeai_git.governor.stores.port import LogFailed, Store
from safeai_git.keys.ed25519 import verify


def start_entry(signer: LogSigner) -> Draft:
    """The first entry: whose log this is."""
    keys: list[JSON] = [key.format() for key in signer.keys]
    return Draft.of_data("start", "start", {"origin": signer.origin, "keys": keys, "version": __version__})


def open_file_log(
    folder: Path,
    signer: LogSigner,
    *,
    head: Path | None = None,
    reserve: int = RESERVE,
    now: Callable[[], float] = time.time,
    most_waiting: int = 4096,
    remember_every: float = 1.0,
    on_failure: Callable[[LogFailed], None] | None = None,
    on_batch: Callable[[float, SafeAIError | None], None] | None = None,
    on_sync: Callable[[float], None] | None = None,
) -> AuditLog:
    """Open, recover and start the log in a folder; begin one where none was.

    Raises:
        StorageError: Another process has it, or it cannot be read or written.
        LogProofInvalid: It is damaged, rolled back, forked, or gone though there was one.
        CouldNotDecide: The checkpoint could not be signed.
    """
    store = FileStore.open_folder(
        folder, Identity(signer.origin, signer.keys, verify), head=head, reserve=reserve
    )
    store.on_sync = on_sync
    log = AuditLog(
        store,
        signer,
        now=now,
        most_waiting=most_waiting,
        remember_every=remember_every,
        on_failure=on_failure,
        on_batch=on_batch,
    )
    try:
        log.start(_first(store, store.size, signer))
    except BaseException:
        store.close()
        raise
    return log


def start_log(store: Store, signer: LogSigner, **options: object) -> AuditLog:
    """Start a log on an open store; its options are those of `AuditLog`."""
    log = AuditLog(store, signer, **options)  # type: ignore[arg-type]
    log.start([] if store.size else [start_entry(signer)])
    return log


def _first(store: FileStore, size: int, signer: LogSigner) -> list[Draft]:
    drafts = [] if size else [start_entry(signer)]
    if store.cut is not None:
        found: dict[str, JSON] = {
            "bytes": store.cut.bytes,
            "sha256": store.cut.sha256,
            "kept_as": store.cut.kept_as.name,
            "reason": store.cut.reason,
        }
        drafts.append(Draft.of_data("recovery", f"recovery:{size}:{store.cut.sha256[:16]}", found))
    return drafts
