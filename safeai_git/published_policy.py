"""A published policy: an organisation's signature over its policy, and the text that it is about, in one file.

The first line is the envelope, the rest the policy's text (docs/formats/policy-envelope.md). Promises that what opens
was signed by a trusted key, has not expired and is a valid policy. Whether it is the newest one is `organisation`'s
business.
"""

from __future__ import annotations

import hashlib

from msgspec import Struct

from safeai_git.core.envelope import MAX_LINE, Envelope, open_envelope
from safeai_git.core.errors import FormatError, PolicyError
from safeai_git.core.policy import LARGEST_POLICY, Policy
from safeai_git.core.policy_statement import POLICY_NAMESPACE, PolicyStatement
from safeai_git.core.trust import TrustedKey, format_time
from safeai_git.keys.ed25519 import verify
from safeai_git.keys.keyring import Keyring
from safeai_git.keys.port import Signer
from safeai_git.keys.seal import seal
from safeai_git.policyfile import load

LARGEST_PUBLISHED = MAX_LINE + 1 + LARGEST_POLICY
"""Bytes of a published policy's file."""


class Published(Struct, frozen=True):
    """An organisation's policy that somebody trusted has signed.

    Attributes:
        statement: Whose it is, which version, until when.
        payload_digest: SHA-256, in hex, of the signed statement.
        policy: The layer.
        keys: The trusted keys that signed it.
    """

    statement: PolicyStatement
    payload_digest: str
    policy: Policy
    keys: tuple[TrustedKey, ...]


def publish(text: bytes, *, organisation: str, version: int, expires: int, signer: Signer) -> bytes:
    """Sign a policy.

    Args:
        text: The policy file's bytes.
        organisation: Whose policy it is.
        version: Higher than every one before.
        expires: Unix time from which it no longer counts.
        signer: The key.

    Returns:
        The bytes of the file to hand out.
    """
    statement = PolicyStatement(organisation, version, expires, hashlib.sha256(text).hexdigest())
    return seal(statement.format(), [signer]).format() + b"\n" + text


def policy_text(data: bytes) -> bytes:
    """The policy's text out of a file that may be published or plain; says nothing about who vouches for it."""
    try:
        return _split(data)[1]
    except FormatError:
        return data


def _split(data: bytes) -> tuple[Envelope, bytes]:
    line, _, text = data.partition(b"\n")
    return Envelope.parse(line), text


def open_published(data: bytes, source: str, signers: Keyring, *, now: float) -> Published:
    """Open a published policy.

    Args:
        data: The file's bytes.
        source: Its name, for messages.
        signers: The organisation's allowed signers.
        now: Seconds since 1970. A key has to be trusted at this time: nothing vouches for the time of signing.

    Raises:
        PolicyError: It proves nothing to the holder of these keys, has expired, or is no valid policy.
    """
    try:
        envelope, text = _split(data)
        opened = open_envelope(envelope, signers, purpose=POLICY_NAMESPACE, at=int(now), verify=verify)
        statement = PolicyStatement.parse(opened.payload)
    except FormatError as error:
        raise PolicyError(
            f"{source} is not a policy that the organisation published: {error.message}",
            hint=f"get it again from where it is published; {signers.source} says whose signature counts",
        ) from error
    if hashlib.sha256(text).hexdigest() != statement.policy_digest:
        raise PolicyError(
            f"{source}: the policy's text is not the one that was signed",
            hint="get it again from where it is published, without any change of its bytes",
        )
    name = f"policy of {statement.organisation}, version {statement.version}"
    if now >= statement.expires:
        raise PolicyError(
            f"the {name} has expired ({format_time(statement.expires)})",
            hint="get the current one; whoever publishes it runs 'safeai-git policy publish'",
        )
    digest = hashlib.sha256(opened.payload).hexdigest()
    return Published(statement, digest, load(text, name), opened.signers)
