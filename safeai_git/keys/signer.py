"""Load whatever private key file somebody names: one of our own, or an OpenSSH key."""

from __future__ import annotations

from pathlib import Path

from safeai_git.keys import file, openssh
from safeai_git.keys.keyfiles import read_secret
from safeai_git.keys.port import Signer


def load_signer(path: Path, passphrase: bytes | None = None) -> Signer:
    """Read a private key file of either format.

    Args:
        path: The file.
        passphrase: What protects it; ``None`` for a key without protection.

    Raises:
        KeyUnusable: The file, its owner, its mode, its contents or the passphrase will not do; the message says which.
    """
    pem = read_secret(path)
    if file.pem_label(pem, path) == file.OPENSSH:
        return openssh.decode(pem, path, passphrase)
    return file.decode(pem, path, passphrase)
