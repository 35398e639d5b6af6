"""DSSE envelopes (secure-systems-lab/dsse, protocol 1.0): a payload with Ed25519 signatures over it, one line each.

An `Envelope` is untrusted bytes, well formed and no more. `open_envelope` with a keyring is the only way to a payload
that somebody trusted has signed. There is one way to write an envelope: a line that parses formats back to itself,
everything else is refused. Signing lives in `safeai_git.keys`; the check of a signature is handed in.
"""

from __future__ import annotations

import hashlib
import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from dataclasses import dataclass, field

from msgspec import Struct

from safeai_git.core import canonical
from safeai_git.core.errors import FormatError
from safeai_git.core.publickey import is_key_id
from safeai_git.core.trust import KeyDirectory, Refusal, TrustedKey, Verify

PAYLOAD_TYPE = "application/vnd.in-toto+json"
"""The payload type of an in-toto Statement (in-toto/attestation, spec/v1/envelope.md)."""

MAX_LINE = 65_535
"""Bytes of a line: a log entry's length is a uint16 (C2SP tlog-tiles)."""

MAX_PAE = 4_096
"""Bytes that may be signed: AWS KMS takes no longer message. Held to when sealing."""

MAX_SIGNATURES = 16

_LINE = re.compile(
    rb'\{"payload":"([A-Za-z0-9+/]*={0,2})","payloadType":"([!#-\[\]-~]{1,128})",'
    rb'"signatures":\[\{"keyid":"(SHA256:[A-Za-z0-9+/]{43})","sig":"([A-Za-z0-9+/]{86}==)"\}\]\}'
)
"""An envelope with one signature, as canonical JSON writes it: nothing in it needs an escape."""

_TYPE = re.compile(r"[!-~]{1,128}")


class Signature(Struct, frozen=True):
    """A signature: whose (a `PublicKey.key_id`), and its 64 bytes (RFC 8032 §5.1.6)."""

    keyid: str
    sig: bytes


def pae(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed: DSSE's Pre-Authentication Encoding (dsse, protocol.md)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload and signatures that nobody has checked yet.

    Attributes:
        payload_type: Printable ASCII without spaces.
        untrusted_payload: What is said to be signed; for display and for finding the ids in it, never for a decision.
        signatures: One to sixteen, in ascending order of the key ids, one for each.

    Raises:
        FormatError: One of these does not hold.
    """

    payload_type: str
    untrusted_payload: bytes
    signatures: tuple[Signature, ...]
    _line: bytes = field(default=b"", init=False, repr=False, compare=False)
    """What `format` gives, once it is known: the server asks for it three times for each envelope."""

    def __post_init__(self) -> None:
        if not _TYPE.fullmatch(self.payload_type):
            raise FormatError(f"an envelope's payload type cannot be {self.payload_type[:128]!a}")
        if not 1 <= len(self.signatures) <= MAX_SIGNATURES:
            raise FormatError(f"an envelope has 1 to {MAX_SIGNATURES} signatures, not {len(self.signatures)}")
        for signature in self.signatures:
            if not is_key_id(signature.keyid):
                raise FormatError(
                    f"an envelope's key id is an OpenSSH fingerprint (SHA256:…), not {signature.keyid[:64]!a}"
                )
            if len(signature.sig) != 64:
                raise FormatError(
                    f"an Ed25519 signature has 64 bytes, that of {signature.keyid} {len(signature.sig)}"
                )
        ids = [signature.keyid for signature in self.signatures]
        if ids != sorted(set(ids)):
            raise FormatError(
                "an envelope's signatures stand in ascending order of their key ids, one for each"
            )

    @property
    def signed_bytes(self) -> bytes:
        """What each of the signatures is over."""
        return pae(self.payload_type, self.untrusted_payload)

    @property
    def digest(self) -> str:
        """SHA-256 of the line in hex: the envelope's name in the log and in messages."""
        return hashlib.sha256(self.format()).hexdigest()

    def format(self) -> bytes:
        """Write the envelope as one line of canonical JSON, without a newline.

        Raises:
            FormatError: The line would be longer than `MAX_LINE`.
        """
        if self._line:
            return self._line
        # Canonical JSON of these members by hand: base64 and key ids need no escape, and the type is written by `canonical`.
        line = b'{"payload":"%b","payloadType":%b,"signatures":[%b]}' % (
            b2a_base64(self.untrusted_payload, newline=False),
            canonical.dumps(self.payload_type),
            b",".join(
                b'{"keyid":"%b","sig":"%b"}' % (one.keyid.encode(), b2a_base64(one.sig, newline=False))
                for one in self.signatures
            ),
        )
        if len(line) > MAX_LINE:
            raise FormatError(
                f"the envelope would be {len(line):,} bytes long; at most {MAX_LINE:,} fit into the log"
            )
        object.__setattr__(self, "_line", line)
        return line

    @classmethod
    def parse(cls, line: bytes) -> Envelope:
        """Read one line, the inverse of `format`.

        Args:
            line: The line, without its newline.

        Raises:
            FormatError: Not an envelope, or not written the one way that `format` writes it.
        """
        found = _LINE.fullmatch(line) if len(line) <= MAX_LINE else None
        if found is not None:
            payload, kind, keyid, sig = (one.decode("ascii") for one in found.groups())
            parsed = cls(kind, _base64(payload), (Signature(keyid, _base64(sig)),))
            if (
                b2a_base64(parsed.untrusted_payload, newline=False) == found[1]
                and b2a_base64(parsed.signatures[0].sig, newline=False) == found[4]
            ):
                object.__setattr__(parsed, "_line", bytes(line))
                return parsed
        match canonical.loads(line, limit=MAX_LINE, depth=4):
            case {"payload": str(payload), "payloadType": str(payload_type), "signatures": list(signatures)}:
                envelope = cls(payload_type, _base64(payload), tuple(_signature(item) for item in signatures))
            case _:
                raise FormatError("not a DSSE envelope: payload, payloadType and signatures are needed")
        if envelope.format() != line:
            # Also the answer to a member that we do not know: it would be dropped without a word.
            raise FormatError("the DSSE envelope is not in canonical form")
        return envelope


def _signature(item: canonical.JSON) -> Signature:
    match item:
        case {"keyid": str(keyid), "sig": str(sig)}:
            return Signature(keyid, _base64(sig))
        case _:
            raise FormatError("not a DSSE envelope: each signature needs keyid and sig")


def _base64(text: str) -> bytes:
    try:
        return a2b_base64(text, strict_mode=True)
    except (Base64Error, ValueError) as error:
        raise FormatError(f"not a DSSE envelope: {error}") from None


class Opened(Struct, frozen=True):
    """A payload that at least one trusted key has signed. Only opening an envelope makes one.

    ``signers`` are the trusted keys whose signatures hold; ``ignored`` says why other signatures did not count.
    """

    payload: bytes
    signers: tuple[TrustedKey, ...]
    ignored: tuple[Refusal, ...] = ()


class Rejected(Struct, frozen=True):
    """An envelope that proves nothing to the holder of this keyring, with the reasons; never empty."""

    refusals: tuple[Refusal, ...]

    @property
    def message(self) -> str:
        """All the reasons in one line."""
        return "; ".join(refusal.message for refusal in self.refusals)


def check_envelope(
    envelope: Envelope,
    keyring: KeyDirectory,
    *,
    purpose: str,
    at: int | None,
    verify: Verify,
    payload_type: str = PAYLOAD_TYPE,
) -> Opened | Rejected:
    """Check an envelope's signatures and hand out its payload if somebody trusted made one.

    A signature by a key that the keyring knows, for whatever purpose, must hold: one that does not rejects the
    envelope whole. Signatures by unknown keys count for nothing and do no harm.

    Args:
        envelope: The untrusted envelope.
        keyring: Who is trusted.
        purpose: The namespace that a signer must be trusted for. DSSE does not sign it: the caller still has to check
            that the payload is of the kind that it asked for.
        at: Unix time at which the signatures are vouched for; ``None`` when nothing vouches for a time, and then keys
            of limited validity do not count.
        verify: The check of one signature, `safeai_git.keys.ed25519.verify`.
        payload_type: The only payload type that is accepted.
    """
    if envelope.payload_type != payload_type:
        message = f"the envelope's payload type is {envelope.payload_type}, not {payload_type}"
        return Rejected((Refusal("", "wrong-type", message),))
    signed = envelope.signed_bytes
    signers: list[TrustedKey] = []
    refusals: list[Refusal] = []
    for signature in envelope.signatures:
        public = keyring.public(signature.keyid)
        if public is not None and not verify(public.raw, signature.sig, signed):
            message = f"the signature in the name of key {signature.keyid} does not hold"
            return Rejected((Refusal(signature.keyid, "bad-signature", message),))
        answer = keyring.trusts(signature.keyid, purpose, at)
        if isinstance(answer, Refusal):
            refusals.append(answer)
        elif answer.public == public:
            signers.append(answer)
        else:
            # A directory that contradicts itself: what it trusts is not what was checked.
            refusals.append(Refusal(signature.keyid, "unknown-key", f"key {signature.keyid} was not checked"))
    if not signers:
        return Rejected(tuple(refusals))
    return Opened(envelope.untrusted_payload, tuple(signers), tuple(refusals))


def open_envelope(
    envelope: Envelope,
    keyring: KeyDirectory,
    *,
    purpose: str,
    at: int | None,
    verify: Verify,
    payload_type: str = PAYLOAD_TYPE,
) -> Opened:
    """Open an envelope or fail: `check_envelope` for callers who have no use for a refusal.

    Raises:
        FormatError: It proves nothing to the holder of this keyring; the message gives every reason.
    """
    result = check_envelope(
        envelope, keyring, purpose=purpose, at=at, verify=verify, payload_type=payload_type
    )
    if isinstance(result, Rejected):
        raise FormatError(
            result.message, hint="see .safeai/allowed_signers on the base branch for who may sign"
        )
    return result
