"""Protect a private key with a passphrase: PKCS#8 EncryptedPrivateKeyInfo with PBES2 (RFC 8018 §6.2, RFC 5958 §3).

Only writes; reading is left to the library, which reads what anybody wrote. Exists because the library's own writer
derives the key with 2,048 rounds and takes no other number: a stolen file would be searched 300 times as fast.
"""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from textwrap import wrap

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

ROUNDS = 600_000
"""Of PBKDF2-HMAC-SHA-256: some 70 ms, and what OWASP's Password Storage Cheat Sheet asks for."""

_SEQUENCE, _INTEGER, _OCTETS = 0x30, 0x02, 0x04
_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_PBKDF2 = bytes.fromhex("06092a864886f70d01050c")
_HMAC_SHA256 = bytes.fromhex("06082a864886f70d02090500")
_AES256_CBC = bytes.fromhex("060960864801650304012a")


def encrypt(private_key_info: bytes, passphrase: bytes) -> bytes:
    """Encrypt a PKCS#8 PrivateKeyInfo.

    Args:
        private_key_info: The key in DER.
        passphrase: Not empty.

    Returns:
        PEM with the label ``ENCRYPTED PRIVATE KEY``.
    """
    salt, start = os.urandom(16), os.urandom(16)
    key = hashlib.pbkdf2_hmac("sha256", passphrase, salt, ROUNDS, 32)
    padding = 16 - len(private_key_info) % 16
    encryptor = Cipher(AES(key), CBC(start)).encryptor()
    sealed = encryptor.update(private_key_info + bytes([padding]) * padding) + encryptor.finalize()
    rounds = ROUNDS.to_bytes(ROUNDS.bit_length() // 8 + 1, "big")
    derivation = _der(
        _SEQUENCE,
        _PBKDF2,
        _der(_SEQUENCE, _der(_OCTETS, salt), _der(_INTEGER, rounds), _der(_SEQUENCE, _HMAC_SHA256)),
    )
    scheme = _der(_SEQUENCE, _AES256_CBC, _der(_OCTETS, start))
    algorithm = _der(_SEQUENCE, _PBES2, _der(_SEQUENCE, derivation, scheme))
    der = _der(_SEQUENCE, algorithm, _der(_OCTETS, sealed))
    lines = ["-----BEGIN ENCRYPTED PRIVATE KEY-----", *wrap(b64encode(der).decode(), 64)]
    return "\n".join([*lines, "-----END ENCRYPTED PRIVATE KEY-----", ""]).encode()


def _der(tag: int, *parts: bytes) -> bytes:
    """One element in DER (X.690 §8.1)."""
    content = b"".join(parts)
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size, "big") + content
