"""Ed25519 in this process: check a signature, sign with a private key in memory.

Imports no more of `cryptography` than the primitive, because this is on the path of every verification.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from safeai_git.core.errors import KeyUnusable
from safeai_git.core.publickey import PublicKey

_PROBE = b"safeai-git: do these two halves belong together?"
"""Signed once for each key that is loaded, and nothing that anybody takes for a statement."""


def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """Check one signature (RFC 8032 §5.1.7).

    Args:
        public: The 32 bytes of the public key.
        signature: The 64 bytes of the signature.
        message: The signed bytes.

    Returns:
        Whether it holds; also ``False`` for bytes that are no key or no signature.
    """
    try:
        _key(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=256)
def _key(public: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(public)


@dataclass(frozen=True, slots=True, eq=False)
class Ed25519Signer:
    """A `Signer` whose private key is in this process's memory. Its representation shows the public half only.

    Made only of halves that belong together: one signature is checked here, so that not each of them has to be.

    Raises:
        KeyUnusable: They do not.
    """

    public: PublicKey
    _private: Ed25519PrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        if not verify(self.public.raw, self._private.sign(_PROBE), _PROBE):
            raise KeyUnusable(f"the private key does not belong to the public key {self.public.key_id}")

    @classmethod
    def of(cls, private: Ed25519PrivateKey) -> Ed25519Signer:
        """Make a signer from a private key."""
        return cls(PublicKey(private.public_key().public_bytes_raw()), private)

    @property
    def key_id(self) -> str:
        """The fingerprint of the public half."""
        return self.public.key_id

    def sign(self, message: bytes) -> bytes:
        """Sign a message with pure Ed25519."""
        return self._private.sign(message)
