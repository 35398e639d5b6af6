"""Signed notes, checkpoints, cosignatures, proofs and witness policies: published vectors, and what must be refused."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tools_log import (
    LOG_KEY,
    LOG_SIGNER,
    ORIGIN,
    OTHER_SIGNER,
    WITNESS,
    WITNESS_KEY,
    WITNESS_SIGNER,
    WITNESS_TIME,
    checkpoint,
    leaves,
    nodes_of,
    root_of,
    signed,
)

from safeai_git.core.errors import FormatError, LogProofInvalid
from safeai_git.core.log.checkpoint import Checkpoint, open_checkpoint
from safeai_git.core.log.cosignature import Cosignature, message
from safeai_git.core.log.merkle import inclusion_path
from safeai_git.core.log.note import COSIGNATURE, ED25519, MAX_SIGNATURES, Note, NoteKey, NoteSignature
from safeai_git.core.log.policy import parse_policy
from safeai_git.core.log.proof import LogProof, verify_proof
from safeai_git.keys.ed25519 import verify

TEXT = f"{ORIGIN}\n7\nNZq173Ytm7JMChwQUYqc7UevAcCjK8Hy7k1pFtLRA6c=\n"
LINE = (
    f"\u2014 {ORIGIN} "
    "38QLWEPJ8HL6eXnPBiAoydwyJMhP+gEtgqJB00RMqT7df0CqKoBMC2muybz7oE03whd2ZPEmRVXOQCuX3bE1rG53twE=\n"
)
COSIGNATURE_LINE = (
    f"\u2014 {WITNESS} IDJKvgAAAABofKhAdXrF1koaibyI8gHHZgfgrgm6G1mGJH3dCgSMHl8tNUh7taXXHkvXDhNErDa3m42ByS7cAOwH26+5"
    "IxxzHLg+DA==\n"
)
SEVEN = (TEXT + "\n" + LINE).encode()
WITNESSED = SEVEN + COSIGNATURE_LINE.encode()
POLICY = (
    f"log {LOG_KEY.format()}\nwitness w1 {WITNESS_KEY.format()} https://w1.example/\nquorum w1\n".encode()
)


def cosigned(text: str, signer: object = WITNESS_SIGNER, time: int = WITNESS_TIME) -> NoteSignature:
    body = Cosignature(time, signer.sign(message(text, time))).format()  # type: ignore[attr-defined]
    return NoteSignature(WITNESS, WITNESS_KEY.id, body)


# keys


def test_verifier_keys_are_the_published_ones() -> None:
    assert LOG_KEY.format() == f"{ORIGIN}+dfc40b58+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
    assert WITNESS_KEY.format() == f"{WITNESS}+20324abe+BCmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X"
    for key in (LOG_KEY, WITNESS_KEY):
        assert NoteKey.parse(key.format()) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+dfc40b58",
        f"other{LOG_KEY.format()}",
        LOG_KEY.format().replace("dfc40b58", "dfc40b59"),
        LOG_KEY.format().upper(),
        LOG_KEY.format() + "=",
        LOG_KEY.format()[:-1],
        LOG_KEY.format().replace("AQOh", "AgOh"),
        f"+dfc40b58+{b64encode(b'x' * 33).decode()}",
        "a b+dfc40b58+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4",
        "name+dfc40b58+",
    ],
)
def test_what_is_no_verifier_key_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        NoteKey.parse(text)


# notes and checkpoints


def test_the_published_checkpoint_is_made_and_opened() -> None:
    assert checkpoint(7) == SEVEN
    opened = open_checkpoint(SEVEN, ORIGIN, [LOG_KEY], verify)
    assert opened.checkpoint == Checkpoint(ORIGIN, 7, root_of(leaves(7)))
    assert opened.signers == (LOG_KEY,)
    assert opened.note == SEVEN == Note.parse(SEVEN).format()


def test_the_published_cosignature_is_made_and_counts() -> None:
    assert cosigned(TEXT).format() == COSIGNATURE_LINE
    assert open_checkpoint(WITNESSED, ORIGIN, [LOG_KEY, WITNESS_KEY], verify).signers == (
        LOG_KEY,
        WITNESS_KEY,
    )
    assert open_checkpoint(WITNESSED, ORIGIN, [LOG_KEY], verify).signers == (LOG_KEY,)


@given(st.binary(max_size=300) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace")))
def test_odd_bytes_are_a_note_or_refused(data: bytes) -> None:
    try:
        note = Note.parse(data)
    except FormatError:
        return
    assert note.format() == data


@given(st.data())
def test_a_changed_checkpoint_is_refused(data: st.DataObject) -> None:
    """One bit, anywhere in the text or in the log's signature line."""
    at = data.draw(st.integers(0, len(SEVEN) - 1))
    wrong = bytearray(SEVEN)
    wrong[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((FormatError, LogProofInvalid)):
        open_checkpoint(bytes(wrong), ORIGIN, [LOG_KEY], verify)


UNKNOWN = NoteSignature("someone.example", b"abcd", bytes(64)).format()
OTHER_KEY = NoteKey(ORIGIN, ED25519, OTHER_SIGNER.public.raw)
BAD_SIGNATURE = NoteSignature(ORIGIN, LOG_KEY.id, bytes(64)).format()

REFUSED = {
    "CRLF": SEVEN.replace(b"\n", b"\r\n"),
    "no final newline": SEVEN[:-1],
    "no empty line": SEVEN.replace(b"\n\n", b"\n"),
    "two empty lines": SEVEN.replace(b"\n\n", b"\n\n\n"),
    "an empty line in the text": signed(TEXT.replace("\n7\n", "\n\n7\n")).format(),
    "no signature": TEXT.encode() + b"\n",
    "no text": b"\n" + LINE.encode(),
    "a leading zero": signed(TEXT.replace("\n7\n", "\n07\n")).format(),
    "a negative size": signed(TEXT.replace("\n7\n", "\n-7\n")).format(),
    "a size with a plus": signed(TEXT.replace("\n7\n", "\n+7\n")).format(),
    "a size of 64 bits": signed(TEXT.replace("\n7\n", f"\n{2**63}\n")).format(),
    "a size in other digits": signed(TEXT.replace("\n7\n", "\n\u0667\n")).format(),
    "a blank behind the size": signed(TEXT.replace("\n7\n", "\n7 \n")).format(),
    "a short root": signed(TEXT.replace("6c=\n", "\n")).format(),
    "a root with bits left over": signed(TEXT.replace("6c=\n", "6d=\n")).format(),
    "no root": signed(f"{ORIGIN}\n7\n").format(),
    "no origin": signed(TEXT.replace(f"{ORIGIN}\n", "\n")).format(),
    "another origin": signed(TEXT.replace(ORIGIN, "other.example/log")).format(),
    "another key's name": SEVEN.replace(f"\u2014 {ORIGIN}".encode(), "\u2014 other.example".encode()),
    "a known key's bad signature": (TEXT + "\n" + BAD_SIGNATURE).encode(),
    "a good one and a known key's bad one": SEVEN + BAD_SIGNATURE.encode(),
    "a bad cosignature of a known witness": SEVEN + cosigned("other\n").format().encode(),
    "a cosignature for another time": SEVEN
    + NoteSignature(WITNESS, WITNESS_KEY.id, (1).to_bytes(8, "big") + cosigned(TEXT).body[8:])
    .format()
    .encode(),
    "a cosignature that is too short": SEVEN
    + NoteSignature(WITNESS, WITNESS_KEY.id, b"short").format().encode(),
    "a cosignature beyond 63 bits": SEVEN
    + NoteSignature(WITNESS, WITNESS_KEY.id, b"\xff" * 72).format().encode(),
    "only signed by a stranger": signed(TEXT, OTHER_SIGNER, OTHER_KEY).format(),
    "only cosigned": (TEXT + "\n" + COSIGNATURE_LINE).encode(),
    "too many signatures": SEVEN + UNKNOWN.encode() * MAX_SIGNATURES,
    "a dash of another kind": SEVEN.replace("\u2014".encode(), b"-"),
    "not UTF-8": SEVEN[:-1] + b"\xff\n",
    "a line after the signatures": SEVEN + b"hello\n",
    "a signature of no bytes": SEVEN + b"\xe2\x80\x94 someone YWJjZA==\n",
    "a tab": signed(TEXT).format().replace(b"\n7\n", b"\n\t7\n"),
    "nothing": b"",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_checkpoint_of_this_log_is_refused(name: str) -> None:
    with pytest.raises((FormatError, LogProofInvalid)):
        open_checkpoint(REFUSED[name], ORIGIN, [LOG_KEY, WITNESS_KEY], verify)


TAKEN = {
    "seventeen signatures": SEVEN + UNKNOWN.encode() * 16,
    "strangers first": TEXT.encode() + b"\n" + UNKNOWN.encode() * 16 + LINE.encode(),
    "the same signature twice": SEVEN + LINE.encode(),
    "an extension line": signed(TEXT + "extension of someone\n").format(),
    "a stranger's key under the log's name": SEVEN
    + signed(TEXT, OTHER_SIGNER, OTHER_KEY).signatures[0].format().encode(),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_strangers_add_does_no_harm(name: str) -> None:
    opened = open_checkpoint(TAKEN[name], ORIGIN, [LOG_KEY, WITNESS_KEY], verify)
    assert opened.checkpoint.size == 7
    assert opened.signers == (LOG_KEY,)
    assert Note.parse(TAKEN[name]).format() == TAKEN[name]


def test_both_keys_of_an_overlap_count() -> None:
    both = SEVEN + signed(TEXT, OTHER_SIGNER, OTHER_KEY).signatures[0].format().encode()
    assert open_checkpoint(both, ORIGIN, [LOG_KEY, OTHER_KEY], verify).signers == (LOG_KEY, OTHER_KEY)
    assert open_checkpoint(both, ORIGIN, [OTHER_KEY], verify).signers == (OTHER_KEY,)


def test_a_text_may_hold_empty_lines_where_it_is_no_checkpoint() -> None:
    note = signed("one\n\ntwo\n")
    assert Note.parse(note.format()) == note
    assert note.check([LOG_KEY], verify) == (LOG_KEY,)


# proofs


def proof(index: int = 2, size: int = 7, **more: bytes) -> LogProof:
    return LogProof(
        index, tuple(inclusion_path(index, size, nodes_of(leaves(size)))), checkpoint(size), **more
    )


def test_a_proof_is_written_read_and_holds() -> None:
    text = proof().format()
    assert text == (
        b"c2sp.org/tlog-proof@v1\nindex 2\ntTA06jTY3fie3dzRlGNFbKFEbIDRzseDTbysiRQfLLA=\n"
        b"20u3Ek4yUewFdxu5rUYcen0vTZN8YF//7pzZS6fGr3k=\npdcULeEHsInEHAzzM1YCt5YSSBhoYCm68Qs7vNkOKAs=\n\n"
        + SEVEN
    )
    for one in (proof(), proof(0, 1), proof(extra=b""), proof(extra=b"anything"), proof(255, 1000)):
        again = LogProof.parse(one.format())
        assert again == one
        verify_proof(again, leaves(1000)[one.index], ORIGIN, [LOG_KEY], verify)


@given(st.data())
def test_a_changed_proof_is_refused(data: st.DataObject) -> None:
    text = bytearray(proof().format())
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((FormatError, LogProofInvalid)):
        verify_proof(LogProof.parse(bytes(text)), leaves(7)[2], ORIGIN, [LOG_KEY], verify)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"@v1\n", b"@v2\n"),
        (b"index 2", b"index 02"),
        (b"index 2", b"index 3"),
        (b"index 2\n", b""),
        (b"index 2\n", b"extra *\nindex 2\n"),
        (b"index 2\n", b"index 2\nextra eA==\n"),
        (b"=\n\n" + ORIGIN.encode(), b"=\n" + ORIGIN.encode()),
        (b"tTA06jTY3fie3dzRlGNFbKFEbIDRzseDTbysiRQfLLA=\n", b""),
        (b"\n", b"\r\n"),
        (b"c2sp", b"\nc2sp"),
    ],
)
def test_another_spelling_of_a_proof_is_refused(old: bytes, new: bytes) -> None:
    text = proof().format()
    changed = text.replace(old, new, 1)
    assert changed != text
    with pytest.raises((FormatError, LogProofInvalid)):
        verify_proof(LogProof.parse(changed), leaves(7)[2], ORIGIN, [LOG_KEY], verify)


def test_a_proof_needs_the_quorum_of_the_policy() -> None:
    policy = parse_policy(POLICY)
    bare = proof()
    with pytest.raises(LogProofInvalid, match="lacks cosignatures"):
        verify_proof(bare, leaves(7)[2], ORIGIN, [LOG_KEY], verify, witnesses=policy)
    witnessed = LogProof(bare.index, bare.path, WITNESSED)
    assert (
        verify_proof(witnessed, leaves(7)[2], ORIGIN, [LOG_KEY], verify, witnesses=policy).checkpoint.size
        == 7
    )


# witness policies


def witness(number: int) -> tuple[str, NoteKey]:
    return f"W{number}", NoteKey(f"w{number}.example", COSIGNATURE, bytes([number]) * 32)


def test_a_policy_counts_groups_of_groups() -> None:
    named = dict(witness(number) for number in range(1, 7))
    lines = [f"witness {name} {key.format()}" for name, key in named.items()]
    lines += [
        "# two organisations",
        "\t group X 2 W1 W2 W3",
        "group Y any W4 W5 W6 ",
        "group both all X Y",
        "",
    ]
    policy = parse_policy(("\n".join([*lines, "quorum both"]) + "\n").encode())
    for wanted, names in [
        (True, "W1 W2 W4"),
        (True, "W1 W2 W3 W4 W5 W6"),
        (False, "W1 W2"),
        (False, "W1 W4 W5 W6"),
        (False, ""),
    ]:
        assert policy.is_met_by([named[name] for name in names.split()]) == wanted, names
    stranger = witness(9)[1]
    assert not policy.is_met_by([stranger] * 6)
    assert parse_policy(b"quorum none\n").is_met_by([])


W1 = f"witness W1 {witness(1)[1].format()}\n"
W2 = f"witness W2 {witness(2)[1].format()}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'quorum' is missing"),
        ("quorum none", "does not end in a newline"),
        ("quorum none\nquorum none\n", r":2: a second"),
        ("quorum W1\n", "not defined above"),
        ("quorum W1\n" + W1, r":1: the quorum W1"),
        (W1 + W1 + "quorum W1\n", "taken"),
        (W1 + W1.replace(" W1 ", " W2 ") + "quorum W1\n", "stands in the file twice"),
        (W1 + "group G 2 W1\nquorum G\n", "threshold"),
        (W1 + "group G 0 W1\nquorum G\n", "threshold"),
        (W1 + "group G 01 W1\nquorum G\n", "threshold"),
        (W1 + "group G all\nquorum G\n", "not understood"),
        (W1 + "group G all none\nquorum G\n", "not defined above"),
        (W1 + "group G all W1 W1\nquorum G\n", "only once"),
        (W1 + W2 + "group G all W1\ngroup H all W1 W2\nquorum H\n", "only once"),
        (W1 + "group G all G\nquorum G\n", "not defined above"),
        (W1 + "group none all W1\nquorum none\n", "taken"),
        (f"log {witness(1)[1].format()}\nquorum none\n", "type 0x04"),
        (f"witness W1 {LOG_KEY.format()}\nquorum W1\n", "type 0x01"),
        (f"log {LOG_KEY.format()}\nlog {LOG_KEY.format()}\nquorum none\n", "twice"),
        ("quorum\u00a0none\n", "not understood"),
        ("quorum none\r\n", "control characters"),
        ("witness\n", "not understood"),
        ("log x y z w\nquorum none\n", "not understood"),
        ("log name+00000000+AQ==\nquorum none\n", r"policy:1: "),
    ],
)
def test_a_policy_that_is_not_understood_is_refused(text: str, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        parse_policy(text.encode())


def test_names_in_a_policy_are_bytes() -> None:
    odd = W1.replace(" W1 ", " \udcff ").encode("utf-8", "surrogateescape")
    assert parse_policy(odd + b"quorum \xff\n").quorum == "\udcff"
    with pytest.raises(FormatError, match="not defined above"):
        parse_policy(odd + b"quorum \xc3\xbf\n")


@given(st.binary(max_size=200))
def test_odd_bytes_are_a_policy_or_refused(data: bytes) -> None:
    try:
        parse_policy(data)
    except FormatError as error:
        named = error.message.startswith("policy:")
    else:
        named = True
    assert named


def test_the_log_signs_with_ed25519() -> None:
    note = Note.parse(SEVEN)
    assert note.signatures[0].body == LOG_SIGNER.sign(TEXT.encode())


# A key that is believed up to a size

NEXT_KEY = NoteKey(ORIGIN, ED25519, OTHER_SIGNER.public.raw)


def bounded(key: NoteKey, size: int) -> NoteKey:
    return NoteKey.bounded(f"{key.format()}@{size}")


def test_a_former_key_says_nothing_about_later_checkpoints() -> None:
    keys = [bounded(LOG_KEY, 7), NEXT_KEY]
    for size in (6, 7, 8):
        text = Checkpoint(ORIGIN, size, bytes(32)).format()
        former, present = (
            NoteSignature(ORIGIN, key.id, signer.sign(text.encode()))
            for key, signer in ((LOG_KEY, LOG_SIGNER), (NEXT_KEY, OTHER_SIGNER))
        )
        for signatures in ((former, present), (present, former), (present,)):
            note = Note(text, signatures).format()
            assert open_checkpoint(note, ORIGIN, keys, verify).checkpoint.size == size
        alone = Note(text, (former,)).format()
        if size <= 7:
            assert open_checkpoint(alone, ORIGIN, keys, verify).signers == (keys[0],)
        else:
            with pytest.raises(LogProofInvalid, match=r"with the former key .* counts up to size 7"):
                open_checkpoint(alone, ORIGIN, keys, verify)
        with pytest.raises(LogProofInvalid, match="is not signed by a key of that log"):
            open_checkpoint(Note(text, (present,)).format(), ORIGIN, [keys[0]], verify)
    assert LOG_KEY.believed_about(2**63 - 1)


def test_how_a_former_key_is_written() -> None:
    vkey = NEXT_KEY.format()
    assert (bounded(NEXT_KEY, 0).until, NoteKey.bounded(vkey)) == (0, NEXT_KEY)
    assert bounded(NEXT_KEY, 2**63 - 1).until == 2**63 - 1
    assert bounded(NEXT_KEY, 5).format() == vkey
    odd = NoteKey("log@7", ED25519, NEXT_KEY.public)
    assert NoteKey.bounded(odd.format()) == odd
    assert bounded(odd, 8).until == 8
    for size in ("", "-1", "07", "1e3", " 1", str(2**63), "9" * 5_000, "\u0661"):
        with pytest.raises(FormatError, match="a number of entries"):
            NoteKey.bounded(f"{vkey}@{size}")
    for text in ("@5", "nothing@5", f"{vkey[:-2]}@5", f"{vkey}@5@6", f"@{vkey}"):
        with pytest.raises(FormatError):
            NoteKey.bounded(text)
    with pytest.raises(FormatError, match="not a verifier key"):
        NoteKey.bounded("nothing")
    with pytest.raises(FormatError):
        NoteKey.parse(f"{vkey}@5")  # elsewhere a key is a key
