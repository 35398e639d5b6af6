"""Load whatever private key somebody names: a file of ours, an OpenSSH key, a key in Vault, OpenBao or AWS KMS."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from safeai_git.core.display import safe_text
from safeai_git.core.errors import KeyUnusable, WrongUse
from safeai_git.keys import file, openssh
from safeai_git.keys.keyfiles import read_secret
from safeai_git.keys.port import Signer

_FORMS = "a file's path, vault://MOUNT/NAME or awskms:///KEY"


def is_reference(named: str) -> bool:
    """Whether a text names a key that somebody else keeps, and not a file."""
    return "://" in named


def open_signer(named: str, environ: Mapping[str, str]) -> Signer:
    """Open a key that somebody else keeps.

    Args:
        named: ``vault://…`` (`keys.transit`) or ``awskms://…`` (`keys.awskms`).
        environ: The environment, for the server's address and token.

    Raises:
        WrongUse: The reference is none.
        KeyUnusable: The key's holder does not answer, denies it, has no such key, or its extra is not installed.
    """
    scheme = named.partition("://")[0]
    # Loaded only where such a key is named: a hook with a key file does not wait for HTTP and TLS.
    if scheme == "vault":
        found: Signer = importlib.import_module("safeai_git.keys.transit").TransitSigner(named, environ)
    elif scheme == "awskms":
        try:
            kms = importlib.import_module("safeai_git.keys.awskms")
        except ModuleNotFoundError as error:
            if error.name not in ("boto3", "botocore"):
                raise
            raise KeyUnusable(
                f"the key {safe_text(named[:200])} is in AWS KMS, and boto3 is not installed",
                hint="pip install 'safeai-git[aws]'",
            ) from None
        found = kms.KmsSigner(named)
    else:
        raise WrongUse(f"'{safe_text(named[:200])}' names no key", hint=f"a key is {_FORMS}")
    return found


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
