"""An Ed25519 public key: 32 bytes, its OpenSSH line, its fingerprint.

The fingerprint is the key's id everywhere: ``SHA256:`` and base64, as ``ssh-keygen -lf`` prints it. Refuses bytes
that are no key and the few keys of small order, for which anybody can make a signature. Does no arithmetic: whether
a point lies on the curve shows when a signature is verified.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from functools import lru_cache

from msgspec import Struct

from safeai_git.core.errors import FormatError

KEY_TYPE = "ssh-ed25519"

_BLOB_PREFIX = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20"
"""What comes before the 32 bytes in the wire format (RFC 8709 §4)."""

_P = 2**255 - 19
_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER_Y = frozenset({0, 1, _ORDER_8, _P - _ORDER_8, _P - 1})
"""The y coordinates of the points whose order divides 8 (libsodium, ge25519_has_small_order)."""


class PublicKey(Struct, frozen=True):
    """An Ed25519 public key.

    Attributes:
        raw: The 32 bytes of RFC 8032 §5.1.5.

    Raises:
        FormatError: Not 32 bytes, not in reduced form, or a key of small order.
    """

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != 32:
            raise FormatError(f"an Ed25519 public key has 32 bytes, not {len(self.raw)}")
        y = int.from_bytes(self.raw, "little") & ~(1 << 255)
        if y >= _P:
            raise FormatError("not an Ed25519 public key: its coordinate is not reduced (RFC 8032 §5.1.3)")
        if y in _SMALL_ORDER_Y:
            raise FormatError(
                "an Ed25519 public key of small order: anybody can sign for it",
                hint="this is no key that a tool would make; remove it and ask where it came from",
            )

    @property
    def blob(self) -> bytes:
        """The key in SSH's wire format (RFC 8709 §4)."""
        return _BLOB_PREFIX + self.raw

    @property
    def key_id(self) -> str:
        """The OpenSSH fingerprint: ``SHA256:`` and 43 characters of base64 without padding."""
        return _fingerprint(self.blob)

    @classmethod
    def from_blob(cls, blob: bytes) -> PublicKey:
        """Read SSH's wire format, the inverse of `blob`.

        Raises:
            FormatError: Another type of key, cut off, or followed by more.
        """
        if not blob.startswith(_BLOB_PREFIX):
            raise FormatError(f"not an {KEY_TYPE} public key in SSH's wire format")
        return cls(blob[len(_BLOB_PREFIX) :])


@lru_cache(maxsize=1024)
def _fingerprint(blob: bytes) -> str:
    return "SHA256:" + b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def is_key_id(text: str) -> bool:
    """Whether a text has the form of a `PublicKey.key_id`."""
    encoded = text.removeprefix("SHA256:")
    if len(encoded) != 43 or len(text) != 50 or not text.isascii():
        return False
    try:
        raw = a2b_base64(encoded.encode() + b"=", strict_mode=True)
    except Base64Error:
        return False
    return b64encode(raw).decode() == encoded + "="


def format_openssh(public: PublicKey, comment: str = "") -> bytes:
    """Write the line of an OpenSSH ``.pub`` file, without its newline.

    Args:
        public: The key.
        comment: Free text for people; printable, no spaces around it.

    Raises:
        FormatError: The comment cannot stand in such a line.
    """
    if not comment.isprintable() or comment != comment.strip():
        raise FormatError(f"a key's comment is one line of printable text, not {comment!a}")
    line = f"{KEY_TYPE} {b64encode(public.blob).decode()}"
    return (f"{line} {comment}" if comment else line).encode()


def parse_openssh(line: bytes) -> tuple[PublicKey, str]:
    """Read the line of an OpenSSH ``.pub`` file, the inverse of `format_openssh`.

    Args:
        line: The line, without its newline.

    Returns:
        The key and its comment.

    Raises:
        FormatError: Not such a line, another type of key, or not written the one way that OpenSSH writes it.
    """
    key_type, _, rest = line.partition(b" ")
    if key_type != KEY_TYPE.encode():
        raise FormatError(f"not an {KEY_TYPE} public key: the line begins with {key_type[:40]!r}")
    encoded, _, comment_bytes = rest.partition(b" ")
    try:
        public = PublicKey.from_blob(a2b_base64(encoded, strict_mode=True))
        comment = comment_bytes.decode("utf-8")
    except (Base64Error, UnicodeDecodeError) as error:
        raise FormatError(f"not an {KEY_TYPE} public key: {error}") from None
    if format_openssh(public, comment) != line:
        raise FormatError(f"the {KEY_TYPE} public key is not written the way that OpenSSH writes it")
    return public, comment
