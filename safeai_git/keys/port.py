"""The port that every private key stands behind: a file, an OpenSSH key, Vault, a KMS."""

from __future__ import annotations

from typing import Protocol

from safeai_git.core.publickey import PublicKey


class Signer(Protocol):
    """Something that holds an Ed25519 private key, or speaks to something that does."""

    @property
    def key_id(self) -> str:
        """The fingerprint of `public`."""

    @property
    def public(self) -> PublicKey:
        """The public half."""

    def sign(self, message: bytes) -> bytes:
        """Sign a message with pure Ed25519 (RFC 8032 §5.1.6).

        Returns:
            The 64 bytes of the signature.

        Raises:
            CouldNotDecide: The key cannot be used or its holder does not answer.
        """
