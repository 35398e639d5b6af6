"""Opens the log that the settings ask for, and writes what the log has to say about itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from safeai_git import __version__
from safeai_git.core.canonical import JSON
from safeai_git.core.display import safe_text
from safeai_git.core.errors import FormatError, LogProofInvalid, SafeAIError
from safeai_git.core.log.checkpoint import open_checkpoint
from safeai_git.core.log.entry import Draft
from safeai_git.core.log.merkle import root
from safeai_git.governor.audit_log import AuditLog
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.stores.file import RESERVE, FileStore, Identity
from safeai_git.governor.stores.port import LogFailed, Store
from safeai_git.governor.stores.segments import SEGMENT
from safeai_git.governor.stores.tending import Tending
from safeai_git.keys.ed25519 import verify

logger = logging.getLogger(__name__)


def start_entry(signer: LogSigner) -> Draft:
    """The first entry: whose log this is."""
    keys: list[JSON] = [key.format() for key in signer.signing]
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
    guard: Callable[[Store], None] = lambda _store: None,
    whole: bool = False,
) -> AuditLog:
    """Open, recover and start the log in a folder; begin one where none was.

    `guard` may look at the store, and raise, before anything is signed. With `whole` all of the log is read first, whatever
    the index says.

    Raises:
        StorageError: Another process has it, or it cannot be read or written.
        LogProofInvalid: It is damaged, rolled back, forked, or gone though there was one.
        CouldNotDecide: The checkpoint could not be signed.
    """
    store = FileStore.open_folder(
        folder, Identity(signer.origin, signer.keys, verify), head=head, reserve=reserve, whole=whole
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
        _hold_against_former_keys(store, signer)
        guard(store)
        log.start(_first(store, store.size, signer))
        if store.unused and store.size >= SEGMENT:
            logger.warning("all of the log was read; audit.index was not used: %s", safe_text(store.unused))
        log.tend(Tending(store.tended(), signer.sign_text))
    except BaseException:
        store.close()
        raise
    return log


def start_log(
    store: Store,
    signer: LogSigner,
    *,
    guard: Callable[[Store], None] = lambda _store: None,
    **options: object,
) -> AuditLog:
    """Start a log on an open store; its options are those of `AuditLog`, and `guard` that of `open_file_log`.

    Raises:
        LogProofInvalid: The newest checkpoint of the store is not signed with the log's key, or is over other entries:
            whoever can write there wrote without it.
        StorageError: The store cannot be written.
        CouldNotDecide: The checkpoint could not be signed.
    """
    log = AuditLog(store, signer, **options)  # type: ignore[arg-type]
    try:
        _hold_against_checkpoint(store, signer)
        _hold_against_former_keys(store, signer)
        guard(store)
        log.start([] if store.size else [start_entry(signer)])
    except BaseException:
        store.close()
        raise
    return log


def _hold_against_checkpoint(store: Store, signer: LogSigner) -> None:
    """Before anything is signed over what a store holds: does it lead to what was signed before?"""
    note = store.published
    if note is None:
        return
    try:
        newest = open_checkpoint(note, signer.origin, signer.keys, verify).checkpoint
    except FormatError as error:
        raise LogProofInvalid(
            f"the log's newest checkpoint is none: {error.message}", hint=_UNTOUCHED
        ) from None
    except LogProofInvalid as error:
        raise LogProofInvalid(error.message, hint=_UNTOUCHED) from None
    if newest.size > store.size or root(newest.size, store.node) != newest.root:
        raise LogProofInvalid(
            f"the log {signer.origin} holds {store.size} entries that do not lead to its newest checkpoint, over "
            f"{newest.size}: it was rolled back or written anew\n{note.decode()}",
            hint=_UNTOUCHED,
        )


def _hold_against_former_keys(store: Store, signer: LogSigner) -> None:
    """A log that is shorter than it was when its key was exchanged was rolled back, to where the former key counts."""
    least = max((key.until or 0 for key in signer.keys), default=0)
    if store.size < least:
        raise LogProofInvalid(
            f"the log {signer.origin} holds {store.size} entries, and had {least} when its key was exchanged (SAFEAI_LOG_KEYS)",
            hint="nothing was signed; restore the newer log. If an older backup was restored on purpose, lower the number",
        )


_UNTOUCHED = "nothing was changed or signed; compare it with a checkpoint that was kept elsewhere"


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
