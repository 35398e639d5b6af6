"""Opens a log as a Governor does, and nothing else: for measuring what a process holds that has a long log open."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import safeai_git.governor.service  # noqa: F401 - what a Governor has loaded counts
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.open_log import open_file_log
from safeai_git.governor.stores.file import FileStore, Identity
from safeai_git.governor.stores.tending import steps
from safeai_git.keys.ed25519 import Ed25519Signer, verify

ORIGIN = "governor.example/benchmark"


def log_signer() -> LogSigner:
    return LogSigner(
        ORIGIN, [Ed25519Signer.of(Ed25519PrivateKey.from_private_bytes(b"benchmark-only--" * 2))]
    )


def tended(folder: Path) -> None:
    """Do at once what a Governor does beside its log: hold all of it against its index, and let that grow."""
    signer = log_signer()
    store = FileStore.open_folder(folder, Identity(ORIGIN, signer.keys, verify), reserve=0)
    for rest in steps(store.tended(), signer.sign_text):
        if rest:
            break
    store.close()


def reopened(folder: Path) -> None:
    """Open a log and let it go; in a process of its own, for its memory."""
    open_file_log(folder, log_signer(), reserve=0).close()
    tended(folder)
