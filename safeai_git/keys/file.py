"""Private keys of our own: ``ed25519.<name>.sk``, PKCS#8 in PEM (RFC 8410, RFC 5958), with or without a passphrase.

Promises that a key never replaces another and is never readable by others, not for a moment. Refuses keys of another
kind, keys that others can read, and a passphrase for a key that has none.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from msgspec import Struct

from safeai_git.core.errors import KeyUnusable
from safeai_git.core.publickey import PublicKey, format_openssh
from safeai_git.keys.ed25519 import Ed25519Signer
from safeai_git.keys.keyfiles import NewFile, public_path, read_secret, secret_path, write_new
from safeai_git.keys.pbes2 import encrypt

PLAIN = "PRIVATE KEY"
SEALED = "ENCRYPTED PRIVATE KEY"
OPENSSH = "OPENSSH PRIVATE KEY"

MAX_PASSPHRASE = 1_023
"""Bytes that OpenSSL takes (PEM_BUFSIZE)."""


class Generated(Struct, frozen=True):
    """A new pair of key files."""

    secret: Path
    public_file: Path
    public: PublicKey


def generate(directory: Path, name: str, passphrase: bytes | None = None) -> Generated:
    """Make a key: ``ed25519.<name>.sk`` (mode 0600) and ``ed25519.<name>.pub`` (an OpenSSH line).

    Args:
        directory: Where to; made with mode 0700 if it is missing.
        name: 1 to 64 of ``A-Z a-z 0-9 . _ -``, no dot in front.
        passphrase: Protects the private key; ``None`` for none.

    Raises:
        WrongUse: The name cannot be used.
        KeyUnusable: The passphrase is empty or too long.
        StorageError: One of the files is there already, or cannot be written; nothing is left behind.
    """
    secret, public_file = secret_path(directory, name), public_path(directory, name)
    if passphrase is not None and not 1 <= len(passphrase) <= MAX_PASSPHRASE:
        raise KeyUnusable(f"a passphrase has 1 to {MAX_PASSPHRASE:,} bytes, not {len(passphrase):,}")
    private = Ed25519PrivateKey.generate()
    if passphrase is None:
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    else:
        pem = encrypt(private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), passphrase)
    public = PublicKey(private.public_key().public_bytes_raw())
    write_new(
        (
            NewFile(secret, pem, 0o600),
            NewFile(public_file, format_openssh(public, name) + b"\n", 0o644),
        )
    )
    return Generated(secret, public_file, public)


def load(path: Path, passphrase: bytes | None = None) -> Ed25519Signer:
    """Read a private key in PKCS#8.

    Args:
        path: The file.
        passphrase: What protects it; ``None`` for a key without protection.

    Raises:
        KeyUnusable: The file, its owner, its mode, its contents or the passphrase will not do; the message says which.
    """
    return decode(read_secret(path), path, passphrase)


def decode(pem: bytes, path: Path, passphrase: bytes | None) -> Ed25519Signer:
    """Read the contents of a private key file; ``path`` is for messages only. Raises as `load` does."""
    label = pem_label(pem, path)
    if label == OPENSSH:
        raise KeyUnusable(f"{path} is an OpenSSH private key", hint="name it as an OpenSSH key")
    if label not in (PLAIN, SEALED):
        raise KeyUnusable(
            f"{path} holds a {label}, not a private key in PKCS#8",
            hint="convert it with 'openssl pkey', or make a key with 'safeai-git keys generate'",
        )
    if label == SEALED and not passphrase:
        raise passphrase_missing(path)
    if label == PLAIN and passphrase:
        raise passphrase_needless(path)
    try:
        private = load_pem_private_key(pem, passphrase or None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Their messages speak of padding and DER: a wrong passphrase cannot be told from damage.
        if label == SEALED:
            raise KeyUnusable(
                f"the passphrase does not open the private key {path}, or the file is damaged"
            ) from None
        raise KeyUnusable(f"the private key {path} is damaged, or of a kind that is not supported") from None
    return signer(private, path)


def passphrase_missing(path: Path) -> KeyUnusable:
    """The refusal of a protected key without its passphrase; an empty one is none."""
    return KeyUnusable(f"the private key {path} is protected by a passphrase and none was given")


def passphrase_needless(path: Path) -> KeyUnusable:
    """The refusal of a passphrase for a key that has none: its owner believes it protected."""
    return KeyUnusable(
        f"a passphrase was given for the private key {path}, which is not protected by one",
        hint="leave the passphrase away, or make a protected key",
    )


def signer(private: object, path: Path) -> Ed25519Signer:
    """Make a signer of a loaded key, refusing every other kind than Ed25519."""
    if not isinstance(private, Ed25519PrivateKey):
        kind = type(private).__name__.removesuffix("PrivateKey")
        raise KeyUnusable(
            f"{path} holds a key of the kind {kind}; only Ed25519 is used here",
            hint="make one with 'safeai-git keys generate', or with 'ssh-keygen -t ed25519'",
        )
    return Ed25519Signer.of(private)


def pem_label(pem: bytes, path: Path) -> str:
    """Say what one PEM block (RFC 7468) claims to be.

    Raises:
        KeyUnusable: There is none, more than one, or one that is cut off.
    """
    _, dashes, rest = pem.partition(b"-----BEGIN ")
    label, closing, body = rest.partition(b"-----")
    if not dashes or not closing or not label.isascii() or not label.decode().isprintable():
        what = "is empty" if not pem.strip() else "is no key file in PEM"
        raise KeyUnusable(f"{path} {what}", hint="name the .sk file that 'safeai-git keys generate' made")
    if b"-----BEGIN" in body:
        raise KeyUnusable(f"{path} holds more than one PEM block", hint="keep one private key to a file")
    if b"-----END " + label + b"-----" not in body:
        raise KeyUnusable(f"the private key {path} is cut off: its END line is missing")
    return label.decode()
