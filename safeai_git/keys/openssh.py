"""Private keys that people have already: OpenSSH's own format, ssh-ed25519.

Protected ones need the ``bcrypt`` package for OpenSSH's key derivation; without it they are refused with words to that
effect.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from safeai_git.core.errors import KeyUnusable
from safeai_git.keys import file
from safeai_git.keys.ed25519 import Ed25519Signer
from safeai_git.keys.keyfiles import read_secret


def load(path: Path, passphrase: bytes | None = None) -> Ed25519Signer:
    """Read an OpenSSH private key file.

    Args:
        path: The file, such as ``~/.ssh/id_ed25519``; the same rules on owner and mode as for our own keys.
        passphrase: What protects it; ``None`` for a key without protection.

    Raises:
        KeyUnusable: The file, its owner, its mode, its contents or the passphrase will not do; the message says which.
    """
    return decode(read_secret(path), path, passphrase)


def decode(pem: bytes, path: Path, passphrase: bytes | None) -> Ed25519Signer:
    """Read the contents of an OpenSSH private key file; ``path`` is for messages only. Raises as `load` does."""
    label = file.pem_label(pem, path)
    if label != file.OPENSSH:
        raise KeyUnusable(f"{path} holds a {label}, not an OpenSSH private key")
    try:
        private = load_ssh_private_key(pem, passphrase)
    except UnsupportedAlgorithm as error:
        if "bcrypt" in str(error):
            raise KeyUnusable(
                f"the OpenSSH private key {path} is protected, and reading it needs the bcrypt package",
                hint="install bcrypt beside safeai-git, or use a key made with 'safeai-git keys generate'",
            ) from None
        raise KeyUnusable(
            f"{path} holds a key, or a protection, of a kind that is not supported",
            hint="make one with 'ssh-keygen -t ed25519'",
        ) from None
    except TypeError:
        # The library's way to say that a passphrase is missing, or one too many.
        raise (file.passphrase_needless(path) if passphrase else file.passphrase_missing(path)) from None
    except (ValueError, InvalidTag):
        if passphrase:
            raise KeyUnusable(
                f"the passphrase does not open the private key {path}, or the file is damaged"
            ) from None
        raise KeyUnusable(f"the private key {path} is damaged") from None
    return file.signer(private, path)
