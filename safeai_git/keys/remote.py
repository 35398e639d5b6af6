"""What holds for every key that somebody else keeps: its signature is checked before anybody uses it."""

from __future__ import annotations

from safeai_git.core.errors import KeyUnusable
from safeai_git.core.publickey import PublicKey
from safeai_git.keys.ed25519 import verify


def checked(signature: bytes, public: PublicKey, message: bytes, shown: str) -> bytes:
    """The signature, if it holds.

    Args:
        signature: What the key's holder gave.
        public: The key that was asked for.
        message: What was to be signed.
        shown: The key, for the message.

    Raises:
        KeyUnusable: It does not hold.
    """
    if not verify(public.raw, signature, message):
        raise KeyUnusable(
            f"{shown} gave a signature that does not hold under its own public key",
            hint="nothing was signed; the key may have been exchanged, or its holder signs in another way than pure Ed25519",
        )
    return signature
