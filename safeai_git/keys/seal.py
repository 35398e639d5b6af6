"""Seal a payload: sign it with each signer and put it into an envelope.

Promises that an envelope that leaves here verifies under the keys that it names: every signature of a machine far away
is checked before it is used, and a key in this process was, when it was loaded. Refuses what not every signer could sign.
"""

from __future__ import annotations

from collections.abc import Sequence

from safeai_git.core.envelope import MAX_PAE, PAYLOAD_TYPE, Envelope, Signature, pae
from safeai_git.core.errors import FormatError, KeyUnusable
from safeai_git.keys.ed25519 import Ed25519Signer, verify
from safeai_git.keys.port import Signer


def seal(payload: bytes, signers: Sequence[Signer], *, payload_type: str = PAYLOAD_TYPE) -> Envelope:
    """Sign a payload.

    Args:
        payload: The bytes, kept as they are.
        signers: One or more, of different keys, in any order.
        payload_type: What the payload is.

    Raises:
        KeyUnusable: There is no signer, or one gave a signature that does not hold.
        FormatError: The payload is too long to be signed.
    """
    if not signers:
        raise KeyUnusable(
            "there is no key to sign with",
            hint="make one with 'safeai-git keys generate --key-id default', or name an existing one",
        )
    message = pae(payload_type, payload)
    if len(message) > MAX_PAE:
        raise FormatError(
            f"the statement is too long to be signed: {len(message):,} bytes of at most {MAX_PAE:,}",
            hint="details belong into the report, which the statement names by its digest",
        )
    signatures = {}
    for signer in signers:
        signature = signer.sign(message)
        if type(signer) is not Ed25519Signer and not verify(signer.public.raw, signature, message):
            raise KeyUnusable(
                f"the holder of key {signer.key_id} gave a signature that does not hold under that key",
                hint="check that the configured public key belongs to the private one",
            )
        signatures[signer.key_id] = signature
    return Envelope(
        payload_type, payload, tuple(Signature(key_id, signatures[key_id]) for key_id in sorted(signatures))
    )
