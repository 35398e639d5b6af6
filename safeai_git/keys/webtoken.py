"""Public keys of web tokens: RSA for RS256, Ed25519 for EdDSA (RFC 7518, RFC 8037)."""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from safeai_git.core.errors import KeyUnusable

LEAST_RSA_BITS = 2_048

TokenKey = RSAPublicKey | Ed25519PublicKey | bytes
"""What checks a token's signature; bytes are an HMAC secret."""


def parse_pem(pem: str, algorithm: str) -> TokenKey:
    """Read a public key.

    Raises:
        KeyUnusable: It is no public key in PEM, or does not serve the algorithm.
    """
    try:
        return fitting(load_pem_public_key(pem.encode()), algorithm)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyUnusable(f"no public key in PEM: {' '.join(str(error).split())}") from None


def fitting(key: object, algorithm: str) -> TokenKey:
    """A public key, if it serves the algorithm.

    Raises:
        KeyUnusable: It does not, or is an RSA key of less than 2,048 bits.
    """
    if algorithm == "RS256" and isinstance(key, RSAPublicKey):
        if key.key_size < LEAST_RSA_BITS:
            raise KeyUnusable(f"the RSA key has {key.key_size} bits; {LEAST_RSA_BITS:,} or more are needed")
        return key
    if algorithm == "EdDSA" and isinstance(key, Ed25519PublicKey):
        return key
    raise KeyUnusable(f"the public key does not serve {algorithm}")
