"""DSSE envelopes: one way to write them, who is believed, and what other people's verifiers say to ours."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from google.protobuf.json_format import Parse
from hypothesis import given
from hypothesis import strategies as st
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from securesystemslib.dsse import Envelope as ForeignEnvelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from safeai_git.core import canonical
from safeai_git.core.envelope import (
    MAX_LINE,
    MAX_PAE,
    MAX_SIGNATURES,
    PAYLOAD_TYPE,
    Envelope,
    Opened,
    Rejected,
    Signature,
    check_envelope,
    open_envelope,
    pae,
)
from safeai_git.core.errors import FormatError, KeyUnusable
from safeai_git.core.publickey import PublicKey
from safeai_git.core.trust import AllowedSigner, Refusal, TrustedKey
from safeai_git.core.values import replace
from safeai_git.keys.ed25519 import Ed25519Signer, verify
from safeai_git.keys.keyring import Keyring
from safeai_git.keys.seal import seal

STATEMENT = canonical.dumps(
    {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": "commit", "digest": {"gitCommit": "6ef2b0aa5a1c3a7ef24cbf4a8dbfa5a7d2d2b1c3"}},
            {"name": "tree", "digest": {"gitTree": "4b825dc642cb6eb9a060e54bf8d69288fbee4904"}},
        ],
        "predicateType": "https://safe-ai.dev/attestation/verdict/v1",
        "predicate": {"decision": "allow", "time": "2026-01-31T09:30:00Z"},
    }
)
PURPOSE = "safeai-verdict"


def signer(seed: int) -> Ed25519Signer:
    return Ed25519Signer.of(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


def ring(*signers: Ed25519Signer, **limits: object) -> Keyring:
    return Keyring(tuple(AllowedSigner(one.public, ("ci",), **limits) for one in signers), source="signers")  # type: ignore[arg-type]


CI, GOVERNOR, STRANGER = signer(1), signer(2), signer(3)


def reasons(result: Opened | Rejected) -> list[str]:
    assert isinstance(result, Rejected)
    assert result.message
    return [refusal.reason for refusal in result.refusals]


def check(
    envelope: Envelope, keyring: Keyring, *, purpose: str = PURPOSE, at: int | None = 1000
) -> Opened | Rejected:
    return check_envelope(envelope, keyring, purpose=purpose, at=at, verify=verify)


# The format


def test_pae_is_that_of_the_dsse_specification() -> None:
    # dsse, protocol.md, the example of the test vectors.
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_an_envelope_is_one_line_of_canonical_json_with_dsse_s_names() -> None:
    envelope = seal(b"{}", [CI])
    line = envelope.format()
    assert b"\n" not in line
    assert json.loads(line) == {
        "payload": "e30=",
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [{"keyid": CI.key_id, "sig": b64encode(CI.sign(pae(PAYLOAD_TYPE, b"{}"))).decode()}],
    }
    # printf '%s' LINE | sha256sum is the digest: the line's bytes, nothing else.
    assert envelope.digest == canonical.digest(json.loads(line))


@pytest.mark.parametrize("kind", [PAYLOAD_TYPE, '"', "\\", 'a"b\\u0041/<>&~!', "~" * 128])
def test_an_envelope_is_written_as_the_general_encoder_writes_it(kind: str) -> None:
    line = seal(bytes(range(256)), [CI, GOVERNOR], payload_type=kind).format()
    assert line == canonical.dumps(json.loads(line))
    assert json.loads(line)["payloadType"] == kind
    assert Envelope.parse(line).format() == line


KEY_IDS = st.binary(min_size=32, max_size=32).filter(lambda raw: raw[1] > 2 and raw[31] & 127 < 127)
SIGNATURES = st.dictionaries(
    KEY_IDS, st.binary(min_size=64, max_size=64), min_size=1, max_size=MAX_SIGNATURES
)


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=128),
    st.binary(),
    SIGNATURES,
)
def test_format_and_parse_are_inverse(
    payload_type: str, payload: bytes, signatures: Mapping[bytes, bytes]
) -> None:
    entries = (Signature(PublicKey(raw).key_id, sig) for raw, sig in signatures.items())
    envelope = Envelope(payload_type, payload, tuple(sorted(entries, key=lambda one: one.keyid)))
    assert Envelope.parse(envelope.format()) == envelope


@given(st.data())
def test_B87_a_changed_line_is_refused_or_formats_back_to_itself(data: st.DataObject) -> None:
    line = bytearray(seal(STATEMENT, [CI]).format())
    at = data.draw(st.integers(0, len(line) - 1))
    line[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        envelope = Envelope.parse(bytes(line))
    except FormatError:
        return
    assert envelope.format() == bytes(line)


def altered(**changes: object) -> bytes:
    document = json.loads(seal(b"{}", [CI]).format())
    document.update(changes)
    return canonical.dumps(document)


def signature(**changes: object) -> dict[str, object]:
    return {"keyid": CI.key_id, "sig": b64encode(bytes(64)).decode()} | changes


PAIR = [{"keyid": one.key_id, "sig": b64encode(bytes(64)).decode()} for one in (CI, GOVERNOR)]
UNSORTED = sorted(PAIR, key=lambda one: one["keyid"], reverse=True)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"payload":"e30=","payloadType":"x"}',
        altered(payload=1),
        altered(payload="e30"),
        altered(payload="e31="),
        altered(payload="e30=\n"),
        altered(payload="\u00e9"),
        altered(payload="_-8="),
        altered(payloadType=""),
        altered(payloadType="a b"),
        altered(payloadType="a\u00e9"),
        altered(payloadType="a\n"),
        altered(payloadType="a" * 129),
        altered(signatures=[]),
        altered(signatures={}),
        altered(signatures=["x"]),
        altered(signatures=[signature(keyid=None)]),
        altered(signatures=[signature(keyid="")]),
        altered(signatures=[signature(keyid=CI.key_id + "=")]),
        altered(signatures=[signature(keyid=CI.key_id[:-1] + "B")]),
        altered(signatures=[signature(keyid="MD5:" + CI.key_id[4:])]),
        altered(signatures=[signature(keyid=CI.key_id.replace("SHA256:", "sha256:"))]),
        altered(signatures=[signature(keyid="SHA256:" + "!" * 43)]),
        altered(signatures=[signature(sig="")]),
        altered(signatures=[signature(sig=b64encode(bytes(63)).decode())]),
        altered(signatures=[signature(sig=b64encode(bytes(65)).decode())]),
        altered(signatures=[{"sig": b64encode(bytes(64)).decode()}]),
        altered(signatures=[signature(cert="x")]),
        altered(signatures=[signature(), signature()]),
        altered(signatures=UNSORTED),
        altered(signatures=[signature()] * (MAX_SIGNATURES + 1)),
        altered(extra=1),
        b" " + seal(b"{}", [CI]).format(),
        seal(b"{}", [CI]).format() + b"\n",
        seal(b"{}", [CI]).format().replace(b'"payload":"e30="', b'"payload":"e30=","payload":"e30="'),
        seal(b"{}", [CI]).format().replace(b"/vnd", b"\\/vnd"),
        b"[" * 60_000,
        b'"' + b"a" * MAX_LINE + b'"',
    ],
    ids=lambda line: str(line[:60]),
)
def test_B87_a_line_that_is_not_exactly_an_envelope_is_refused(line: bytes) -> None:
    with pytest.raises(FormatError):
        Envelope.parse(line)


def test_a_key_id_with_half_a_surrogate_is_refused_without_a_crash() -> None:
    with pytest.raises(FormatError, match="key id"):
        Envelope("x", b"", (Signature("SHA256:" + "\ud800" * 43, bytes(64)),))


def test_a_line_never_exceeds_what_the_log_takes() -> None:
    one = (Signature(CI.key_id, bytes(64)),)
    fits = Envelope("x", bytes(48_900), one)
    assert len(fits.format()) <= MAX_LINE
    assert Envelope.parse(fits.format()) == fits
    with pytest.raises(FormatError, match="at most 65,535"):
        Envelope("x", bytes(49_200), one).format()


def test_the_longest_line() -> None:
    """Base64 grows by fours; the type's length fills what is left."""
    one = (Signature(CI.key_id, bytes(64)),)
    payload = bytes(48_930)
    room = MAX_LINE - len(Envelope("x", payload, one).format())
    assert 0 <= room < 127
    assert len(Envelope("x" * (1 + room), payload, one).format()) == MAX_LINE
    with pytest.raises(FormatError, match="65,536 bytes long"):
        Envelope("x" * (2 + room), payload, one).format()


# Sealing


def test_sealing_refuses_one_byte_more_than_a_kms_signs() -> None:
    overhead = len(pae(PAYLOAD_TYPE, b"x" * 1000)) - 1000
    assert len(seal(b"x" * (MAX_PAE - overhead), [CI]).signed_bytes) == MAX_PAE
    with pytest.raises(FormatError, match="4,097 bytes of at most 4,096"):
        seal(b"x" * (MAX_PAE - overhead + 1), [CI])


def test_B83_sealing_without_a_key_is_refused() -> None:
    with pytest.raises(KeyUnusable, match="no key to sign with") as caught:
        seal(STATEMENT, [])
    assert "keys generate" in caught.value.hint


class Confused(Ed25519Signer):
    """A key holder that is configured with somebody else's public key."""

    def sign(self, message: bytes) -> bytes:
        return STRANGER.sign(message)


def test_a_signature_that_does_not_hold_never_leaves_the_sealer() -> None:
    with pytest.raises(KeyUnusable, match="does not hold"):
        seal(STATEMENT, [CI, Confused(GOVERNOR.public, GOVERNOR._private)])


def test_the_order_of_the_signers_does_not_matter() -> None:
    assert seal(STATEMENT, [CI, GOVERNOR, STRANGER]) == seal(STATEMENT, [STRANGER, GOVERNOR, CI])
    assert len(seal(STATEMENT, [CI, CI]).signatures) == 1


# Opening


def test_a_trusted_signature_opens_the_envelope() -> None:
    opened = open_envelope(seal(STATEMENT, [CI]), ring(CI), purpose=PURPOSE, at=None, verify=verify)
    assert opened.payload == STATEMENT
    assert [key.key_id for key in opened.signers] == [CI.key_id]
    assert opened.ignored == ()


def test_B87_an_unknown_key_opens_nothing() -> None:
    assert reasons(check(seal(STATEMENT, [STRANGER]), ring(CI))) == ["unknown-key"]
    assert reasons(check(seal(STATEMENT, [STRANGER]), Keyring(()))) == ["unknown-key"]
    with pytest.raises(FormatError, match="is not listed in signers") as caught:
        open_envelope(seal(STATEMENT, [STRANGER]), ring(CI), purpose=PURPOSE, at=None, verify=verify)
    assert "allowed_signers" in caught.value.hint


def test_an_unknown_key_beside_a_trusted_one_does_no_harm() -> None:
    opened = check(seal(STATEMENT, [CI, STRANGER]), ring(CI))
    assert isinstance(opened, Opened)
    assert [key.key_id for key in opened.signers] == [CI.key_id]
    assert [(one.key_id, one.reason) for one in opened.ignored] == [(STRANGER.key_id, "unknown-key")]


def test_all_trusted_signers_are_named() -> None:
    opened = check(seal(STATEMENT, [CI, GOVERNOR]), ring(CI, GOVERNOR))
    assert isinstance(opened, Opened)
    assert {key.key_id for key in opened.signers} == {CI.key_id, GOVERNOR.key_id}


@pytest.mark.parametrize("known_for", [None, ("safeai-approval",)])
def test_B87_a_known_key_s_bad_signature_rejects_the_whole_whatever_the_key_is_for(
    known_for: tuple[str, ...] | None,
) -> None:
    good = seal(STATEMENT, [CI, GOVERNOR])
    forged = replace(
        good,
        signatures=tuple(
            replace(one, sig=bytes(64)) if one.keyid == GOVERNOR.key_id else one for one in good.signatures
        ),
    )
    keyring = Keyring((*ring(CI).entries, *ring(GOVERNOR, namespaces=known_for).entries))
    assert reasons(check(forged, keyring)) == ["bad-signature"]
    assert isinstance(check(forged, ring(CI)), Opened)


@given(st.data())
def test_B87_no_byte_of_payload_or_type_can_change(data: st.DataObject) -> None:
    envelope = seal(STATEMENT, [CI])
    payload = bytearray(envelope.untrusted_payload)
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    assert reasons(check(replace(envelope, untrusted_payload=bytes(payload)), ring(CI))) == ["bad-signature"]


def test_another_payload_type_is_refused_even_under_a_good_signature() -> None:
    assert reasons(check(seal(STATEMENT, [CI], payload_type="text/plain"), ring(CI))) == ["wrong-type"]
    relabelled = replace(seal(STATEMENT, [CI], payload_type="text/plain"), payload_type=PAYLOAD_TYPE)
    assert reasons(check(relabelled, ring(CI))) == ["bad-signature"]


def test_B80_a_signature_counts_only_for_its_purpose_and_its_time() -> None:
    envelope = seal(STATEMENT, [CI])
    keyring = ring(CI, namespaces=(PURPOSE,), valid_after=100, valid_before=200)
    assert isinstance(check(envelope, keyring, at=150), Opened)
    assert reasons(check(envelope, keyring, at=150, purpose="safeai-approval")) == ["wrong-namespace"]
    assert reasons(check(envelope, keyring, at=99)) == ["not-yet-valid"]
    assert reasons(check(envelope, keyring, at=200)) == ["expired"]
    assert reasons(check(envelope, keyring, at=None)) == ["time-unknown"]


class Contradictory:
    """A key directory that trusts every key and knows none, or another."""

    def __init__(self, known: PublicKey | None) -> None:
        self.known = known

    def public(self, key_id: str) -> PublicKey | None:
        return self.known

    def trusts(self, key_id: str, namespace: str, at: int | None) -> TrustedKey | Refusal:
        return TrustedKey(STRANGER.public, ())


def test_trust_without_a_checked_signature_opens_nothing() -> None:
    for known in (None, CI.public):
        result = check_envelope(
            seal(STATEMENT, [CI]), Contradictory(known), purpose=PURPOSE, at=None, verify=verify
        )
        assert reasons(result) == ["unknown-key"]


# Foreign judges


def foreign_key(one: Ed25519Signer) -> SSlibKey:
    return SSlibKey(one.key_id, "ed25519", "ed25519", {"public": one.public.raw.hex()})


def test_securesystemslib_accepts_our_envelopes() -> None:
    line = seal(STATEMENT, [CI, GOVERNOR]).format()
    foreign = ForeignEnvelope.from_dict(json.loads(line))
    assert foreign.payload == STATEMENT
    assert foreign.pae() == Envelope.parse(line).signed_bytes
    keys = [foreign_key(CI), foreign_key(GOVERNOR)]
    assert set(foreign.verify(keys, threshold=2)) == {CI.key_id, GOVERNOR.key_id}


@pytest.mark.parametrize("what", ["payload", "payload_type", "signature", "key"])
def test_B87_securesystemslib_rejects_the_same_tampering_as_we_do(what: str) -> None:
    good = seal(STATEMENT, [CI])
    bad = {
        "payload": replace(good, untrusted_payload=STATEMENT.replace(b"allow", b"deny!")),
        "payload_type": replace(good, payload_type=PAYLOAD_TYPE + "x"),
        "signature": replace(good, signatures=(Signature(CI.key_id, bytes(64)),)),
        "key": replace(good, signatures=(Signature(CI.key_id, STRANGER.sign(good.signed_bytes)),)),
    }[what]
    with pytest.raises(VerificationError):
        ForeignEnvelope.from_dict(json.loads(bad.format())).verify([foreign_key(CI)], threshold=1)
    assert isinstance(check(bad, ring(CI)), Rejected)


def test_we_accept_securesystemslib_s_envelope_of_the_same_payload() -> None:
    foreign = ForeignEnvelope.from_dict(json.loads(seal(STATEMENT, [CI]).format()))
    line = canonical.dumps(foreign.to_dict())
    assert isinstance(check(Envelope.parse(line), ring(CI)), Opened)


def test_in_toto_s_own_model_reads_the_statement() -> None:
    opened = open_envelope(seal(STATEMENT, [CI]), ring(CI), purpose=PURPOSE, at=None, verify=verify)
    statement = Statement.copy_from_pb(Parse(opened.payload, statement_pb2.Statement()))
    statement.validate()
    assert [dict(one.digest) for one in statement.pb.subject] == [
        {"gitCommit": "6ef2b0aa5a1c3a7ef24cbf4a8dbfa5a7d2d2b1c3"},
        {"gitTree": "4b825dc642cb6eb9a060e54bf8d69288fbee4904"},
    ]
