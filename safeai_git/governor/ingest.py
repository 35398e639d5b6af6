"""Taking in verdicts and approvals: what has to hold before one is worth an entry of the log.

Nothing here waits and nothing here is written: `check` says what would be, the caller submits it.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from safeai_git.core.envelope import MAX_LINE, PAYLOAD_TYPE, Envelope, Opened, check_envelope
from safeai_git.core.errors import FormatError
from safeai_git.core.key_list import KeyBook
from safeai_git.core.log.entry import Draft
from safeai_git.core.verdict import APPROVAL_NAMESPACE, VERDICT_NAMESPACE, Claim, parse_statement
from safeai_git.governor.auth.principal import Principal
from safeai_git.governor.key_registry import KeyRegistry
from safeai_git.governor.problem import Problem, Word
from safeai_git.keys.ed25519 import verify

AHEAD_SECONDS = 300
"""By how much a statement's claimed time may be ahead of this clock."""

_PURPOSES = {"verdict": VERDICT_NAMESPACE, "approval": APPROVAL_NAMESPACE}
_REASONS: dict[str, Word] = {"unknown-key": "unknown-key", "bad-signature": "wrong-signature"}


class _Signature(msgspec.Struct, forbid_unknown_fields=True):
    keyid: str
    sig: str


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    payload: str
    payloadType: str  # noqa: N815 - DSSE's name
    signatures: list[_Signature]


_read_envelope = msgspec.json.Decoder(_Envelope).decode
_read_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_read_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class Taken:
    """What may be logged.

    Attributes:
        envelope: The envelope.
        claim: What its statement says.
        draft: The entry.
    """

    envelope: Envelope
    claim: Claim
    draft: Draft


def split(body: bytes, most: int) -> tuple[bool, list[msgspec.Raw]]:
    """Take a request's body apart.

    Args:
        body: One envelope, or an object whose only member ``envelopes`` is a list of them.
        most: How many there may be.

    Returns:
        Whether it is a list, and the envelopes, not looked at yet.

    Raises:
        Problem: It is neither.
    """
    try:
        members = _read_members(body)
        if "envelopes" not in members:
            return False, [msgspec.Raw(body)]
        many = _read_list(members["envelopes"])
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem("malformed", f"the body is no JSON object of this kind: {error}", _BODY_HINT) from None
    if members.keys() != {"envelopes"}:
        raise Problem("malformed", "beside 'envelopes' there is something else", _BODY_HINT)
    if not many:
        raise Problem("malformed", "the list 'envelopes' is empty", _BODY_HINT)
    if len(many) > most:
        raise Problem(
            "too-large",
            f"there are {len(many):,} envelopes; {most:,} are taken at once",
            "send them in parts",
        )
    return True, many


_BODY_HINT = 'send one DSSE envelope, or {"envelopes": [...]}'


def read(raw: bytes) -> Envelope:
    """Read an envelope, in whatever spacing and order its members come.

    Raises:
        Problem: It is none.
    """
    if len(raw) > 2 * MAX_LINE:
        raise Problem("too-large", f"an envelope has at most {MAX_LINE:,} bytes")
    try:
        # Written anew in the one form that an envelope has: sorted members, no spaces.
        return Envelope.parse(msgspec.json.encode(_read_envelope(raw)))
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem("malformed", f"not a DSSE envelope: {error}", _BODY_HINT) from None
    except FormatError as error:
        raise Problem("malformed", error.message, error.hint) from None


def check(
    envelope: Envelope, principal: Principal, registry: KeyRegistry, keys: KeyBook, now: float
) -> Taken:
    """Decide whether an envelope may be logged.

    Args:
        envelope: What somebody sent.
        principal: Who.
        registry: Says which entries would keep it out.
        keys: The keys as they are known now (`KeyRegistry.fresh`).
        now: Unix time in seconds. A signature counts if its key is valid now: nothing vouches for an earlier time.

    Raises:
        Problem: It may not.
    """
    if envelope.payload_type != PAYLOAD_TYPE:
        raise Problem("wrong-statement", f"the payload type is {envelope.payload_type}, not {PAYLOAD_TYPE}")
    try:
        claim = parse_statement(envelope.untrusted_payload)
    except FormatError as error:
        raise Problem("wrong-statement", error.message, error.hint) from None
    if not principal.may("verdicts:write", claim.repository):
        raise Problem(
            "forbidden",
            f"verdicts:write for the repository {claim.repository!a} is needed",
            "ask for a token with this scope and repository",
        )
    opened = check_envelope(envelope, keys, purpose=_PURPOSES[claim.kind], at=int(now), verify=verify)
    if not isinstance(opened, Opened):
        words: list[Word] = [_REASONS[one.reason] for one in opened.refusals if one.reason in _REASONS]
        word: Word = words[0] if words else "unknown-key"
        raise Problem(word, opened.message, "keys are registered by POST /v1/keys; GET /v1/keys lists them")
    if claim.time > now + AHEAD_SECONDS:
        raise Problem(
            "wrong-statement",
            f"the statement claims a time {claim.time - int(now):,} seconds ahead of this Governor's clock",
            "set the clock of whoever signs",
        )
    key = f"sha256:{envelope.digest}"
    try:
        draft = Draft.of_envelope(claim.kind, key, envelope, unless=registry.kept_out_by(envelope))
    except FormatError as error:
        raise Problem("too-large", error.message, error.hint) from None
    return Taken(envelope, claim, draft)
