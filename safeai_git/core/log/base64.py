"""Base64 that has one spelling: standard alphabet, padding, no bits left over (RFC 4648 §3.5)."""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64

from safeai_git.core.errors import FormatError


def encode(data: bytes) -> str:
    """Write bytes as one line without a newline."""
    return b2a_base64(data, newline=False).decode("ascii")


def decode(text: str, what: str) -> bytes:
    """Read what `encode` writes, and no other spelling of it.

    Args:
        text: The base64.
        what: Its name for the message, such as "a root hash".

    Raises:
        FormatError: Not base64, or not written the one way.
    """
    try:
        data = a2b_base64(text, strict_mode=True)
    except (Base64Error, ValueError):
        data = None
    if data is None or encode(data) != text:
        raise FormatError(f"{what} is not base64 as it must be written: {text[:64]!a}")
    return data


def decode_hash(text: str, what: str) -> bytes:
    """Read the 32 bytes of a SHA-256.

    Raises:
        FormatError: Not base64 of 32 bytes.
    """
    data = decode(text, what)
    if len(data) != 32:
        raise FormatError(f"{what} has 32 bytes, not {len(data)}")
    return data
