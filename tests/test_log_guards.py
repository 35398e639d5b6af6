"""One test for each guard of the log's formats that no other test sees alone: what is refused, and in which words."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tools_log import (
    LOG_KEY,
    LOG_SIGNER,
    ORIGIN,
    OTHER_SIGNER,
    WITNESS_KEY,
    WITNESS_SIGNER,
    leaves,
    nodes_of,
    root_of,
    signed,
)

from safeai_git.core import canonical
from safeai_git.core.envelope import Envelope
from safeai_git.core.errors import FormatError, LogProofInvalid
from safeai_git.core.log import base64
from safeai_git.core.log.chain import LONGEST_LINE, Chain, lines_of
from safeai_git.core.log.checkpoint import Checkpoint, open_checkpoint, parse_number
from safeai_git.core.log.cosignature import Cosignature
from safeai_git.core.log.cosignature import message as witnessed
from safeai_git.core.log.entry import (
    MAX_ENTRY,
    Draft,
    Entry,
    completed,
    format_commit,
    format_time,
    parse_commit,
    parse_time,
    receipt_head,
)
from safeai_git.core.log.merkle import (
    Frontier,
    consistency_path,
    inclusion_path,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from safeai_git.core.log.note import (
    COSIGNATURE,
    ED25519,
    MAX_BYTES,
    MAX_SIGNATURES,
    Note,
    NoteKey,
    NoteSignature,
    is_key_name,
)
from safeai_git.core.log.policy import parse_policy
from safeai_git.core.log.proof import MAX_PATH, LogProof
from safeai_git.core.log.tiles import format_bundle
from safeai_git.core.receipt import LONGEST, Receipt, check_receipt
from safeai_git.core.values import replace
from safeai_git.keys.ed25519 import verify
from safeai_git.keys.seal import seal

OTHER_KEY = NoteKey(ORIGIN, ED25519, OTHER_SIGNER.public.raw)
TIME = format_time(1_767_225_600_000)


def entry(seq: int, prev: str = "", time: str = TIME, key: str = "") -> bytes:
    return Draft.of_data("note", key or f"n:{seq}", {"n": seq}).format(seq, prev, time)


def prev_of(line: bytes) -> str:
    return base64.encode(leaf_hash(line))


def chain(*lines: bytes) -> Chain:
    made = Chain(ORIGIN, (LOG_KEY,), verify)
    for line in lines:
        made.entry(line)
    return made


def commit(state: Chain, size: int | None = None) -> bytes:
    count = state.size if size is None else size
    return format_commit(signed(Checkpoint(ORIGIN, count, state.frontier.root()).format()).format())


# the chain


def test_a_chain_says_what_does_not_follow() -> None:
    first = entry(0)
    second = entry(1, prev_of(first))
    with pytest.raises(LogProofInvalid, match="it is number 1, and number 0 is due"):
        chain(entry(1))
    with pytest.raises(LogProofInvalid, match="entry 0 does not carry no hash"):
        chain(entry(0, prev_of(first)))
    with pytest.raises(LogProofInvalid, match="entry 1 does not carry the hash of entry 0"):
        chain(first, entry(1, prev_of(second)))
    with pytest.raises(LogProofInvalid, match="entry 1 is older than the entry before it"):
        chain(first, entry(1, prev_of(first), format_time(1_767_225_599_999)))
    assert chain(first, second).time == TIME  # the same millisecond is no step back


def test_a_chain_takes_one_commit_line_for_each_size() -> None:
    state = chain()
    state.commit(commit(state))
    with pytest.raises(LogProofInvalid, match="a second commit line for size 0"):
        state.commit(commit(state))
    state.entry(first := entry(0))
    state.commit(commit(state))
    state.entry(entry(1, prev_of(first)))
    with pytest.raises(LogProofInvalid, match="is over 1 entries, and 2 stand before it"):
        state.commit(commit(state, 1))
    with pytest.raises(LogProofInvalid, match="one of the entries 1 to 1 was changed"):
        state.commit(format_commit(signed(Checkpoint(ORIGIN, 2, bytes(32)).format()).format()))
    state.commit(commit(state))
    assert (state.committed, state.commits) == (2, 3)


def test_lines_of_the_longest_length_are_whole() -> None:
    assert [one.data for one in lines_of([b"a\n", b"b\n"])] == [b"a", b"b"]
    data = b"x" * LONGEST_LINE
    assert [(len(one.data), one.ended) for one in lines_of([data, b"\n"])] == [(LONGEST_LINE, True)]


# numbers, entries, commit lines


def test_a_number_has_63_bits() -> None:
    assert parse_number(str(2**63 - 1), "it") == 2**63 - 1
    for wrong in (str(2**63), "9" * 19, "1" * 20, "01", "-1", "", "1\n", "\u0661"):
        with pytest.raises(FormatError, match="it is a decimal number"):
            parse_number(wrong, "it")


def test_a_checkpoint_says_what_it_can_say() -> None:
    for wrong in (
        lambda: Checkpoint("", 0, bytes(32)),
        lambda: Checkpoint("a\nb", 0, bytes(32)),
        lambda: Checkpoint("a", -1, bytes(32)),
        lambda: Checkpoint("a", 2**63, bytes(32)),
        lambda: Checkpoint("a", 0, bytes(31)),
        lambda: Checkpoint("a", 0, bytes(32), ("",)),
        lambda: Checkpoint("a", 0, bytes(32), ("a\nb",)),
    ):
        with pytest.raises(FormatError, match="checkpoint"):
            wrong()
    whole = f"a\n0\n{base64.encode(bytes(32))}\n"
    assert Checkpoint.parse(whole).size == 0
    for text in (whole[:-1], whole + "more", "a\n0\n", ""):
        with pytest.raises(FormatError, match="each on a line of its own"):
            Checkpoint.parse(text)
    most = Checkpoint("a", 2**63 - 1, bytes(32), ("more",))
    assert Checkpoint.parse(most.format()) == most


def test_an_entry_has_a_longest_length() -> None:
    def draft(length: int) -> Draft:
        return Draft.of_data("note", "n:1", {"x": "y" * length})

    longest = MAX_ENTRY
    while longest:  # the longest that is taken, to the byte
        try:
            draft(longest)
            break
        except FormatError:
            longest -= 1
    written = draft(longest).format(10**14, "A" * 44, TIME, -(10**9))
    assert MAX_ENTRY - 200 < len(written) <= MAX_ENTRY
    for kind, key in (
        ("Note", "n"),
        ("", "n"),
        ("note", ""),
        ("note", "a b"),
        ("note", "x" * 129),
        ("note", '"'),
    ):
        with pytest.raises(FormatError):
            Draft.of_data(kind, key, {})
    assert len(draft(longest).rest) == MAX_ENTRY - 160  # what stands before the kind never takes more
    with pytest.raises(FormatError, match="cannot be written as JSON"):
        Draft.of_data("note", "n", {"x": float("nan")})


def test_an_entry_is_read_up_to_its_last_byte() -> None:
    line = entry(0)
    longest = line.replace(b'{"n":0}', b'{"n":"%b"}' % (b"x" * (MAX_ENTRY - len(line) - 1)))
    assert len(longest) == MAX_ENTRY
    assert Entry.parse(longest).body.startswith(b'{"n":"xx')
    for wrong in (
        longest.replace(b"xx", b"xxx", 1),
        line[:-1] + b"x",
        line + b"}",
        line[:-1],
        line.replace(b'{"n":0}', b"{}}"),
        line.replace(b'{"n":0}', b'{"n":0,}'),
        line.replace(b'{"n":0}', b"{" * 50_000 + b"}"),
        line.replace(b'"n":0', b'"n":"\xff"'),
    ):
        with pytest.raises(FormatError):
            Entry.parse(wrong)


def test_a_receipts_head_belongs_before_one_body() -> None:
    line = entry(0)
    head = receipt_head(line)
    body = line[len(head) : -1]
    assert completed(head, body) == line
    with pytest.raises(FormatError, match="not an entry of the log"):
        receipt_head(b'{"checkpoint":"x"}')
    for wrong in ((head + b'{"x":', body + b"}"), (line[:-1], b"")):
        with pytest.raises(FormatError, match="does not belong before that envelope"):
            completed(*wrong)


def test_a_commit_line_is_what_format_commit_writes() -> None:
    line = commit(chain(entry(0)))
    note = parse_commit(line)
    assert format_commit(note) == line
    for wrong in (
        line + b" ",
        b'{"checkpoint":"\\ud800"}',
        b'{"checkpoint":5}',
        b"[]",
        b"\xff",
        format_commit(note + b"x"),
    ):
        with pytest.raises(FormatError):
            parse_commit(wrong)


def test_a_time_is_written_one_way() -> None:
    assert parse_time(TIME) == 1_767_225_600_000
    for wrong in (
        TIME.replace(".", "x"),
        TIME[:-1] + "z",
        TIME[:-4] + " 00Z",
        "2026-01-01T00:00:60.000Z",
        "",
    ):
        with pytest.raises(FormatError, match="not a time"):
            parse_time(wrong)


def test_a_note_is_bounded_and_signed() -> None:
    line = signed("x\n").signatures[0]
    for wrong in (lambda: Note("x\n", ()), lambda: Note("x\n", (line,) * (MAX_SIGNATURES + 1))):
        with pytest.raises(FormatError, match="1 to 100 signatures"):
            wrong()
    most = Note("x\n", (line,) * MAX_SIGNATURES)
    assert Note.parse(most.format()) == most
    with pytest.raises(FormatError, match="more than 100 signatures"):
        Note.parse(most.format() + line.format().encode())
    for text in ("x", "x\t\n", "x\x00\n"):
        with pytest.raises(FormatError, match="ends in a newline"):
            Note(text, (line,))
    room = MAX_BYTES - len(signed("\n").format())
    whole = signed("x" * room + "\n").format()
    assert len(whole) == MAX_BYTES
    assert Note.parse(whole).format() == whole
    with pytest.raises(FormatError, match="is not read"):
        Note.parse(b"x" + whole)
    for data, message in (
        (b"\xff", "not UTF-8 at byte 0"),
        (b"x\n", "no signatures after an empty line"),
        (b"x\n\n\xe2\x80\x94 a AAAAAAA=", "no signatures after an empty line"),
    ):
        with pytest.raises(FormatError, match=message):
            Note.parse(data)


def test_a_key_of_a_note_has_a_name_a_kind_and_a_length() -> None:
    for name in ("", "a+b", "a b", "a\u00a0b", "a\x00", "\ud800"):
        assert not is_key_name(name)
        with pytest.raises(FormatError, match="cannot be called"):
            NoteKey(name, ED25519, bytes(32))
    assert is_key_name("example.com/log")
    with pytest.raises(FormatError, match="of type 0x02"):
        NoteKey("a", 2, bytes(32))
    for length in (31, 33):
        with pytest.raises(FormatError, match=f"has {length} bytes"):
            NoteKey("a", ED25519, bytes(length))
    empty = f"a+{'0' * 8}+"
    for text, message in (
        (empty, "is empty"),
        ("a+b", "not a verifier key"),
        (LOG_KEY.format().replace("dfc40b58", "DFC40B58"), "not a verifier key"),
        (LOG_KEY.format().replace("dfc40b58", "dfc40b59"), "says id dfc40b59"),
    ):
        with pytest.raises(FormatError, match=message):
            NoteKey.parse(text)


def test_a_signature_line_has_a_dash_a_name_and_five_bytes() -> None:
    good = f"\u2014 a {base64.encode(b'12345')}"
    assert NoteSignature.parse(good) == NoteSignature("a", b"1234", b"5")
    for line, message in (
        (good[2:], "not a note's signature line"),
        ("\u2014 a", "not a note's signature line"),
        (good.replace(" a ", " a+b "), "not a note's signature line"),
        (f"\u2014 a {base64.encode(b'1234')}", "is too short"),
    ):
        with pytest.raises(FormatError, match=message):
            NoteSignature.parse(line)


def test_a_known_keys_signature_holds_or_nothing_does() -> None:
    note = signed("x\n")
    twice = Note("x\n", note.signatures * 2)
    assert twice.check([LOG_KEY, LOG_KEY], verify) == (LOG_KEY,)
    assert note.check([], verify) == ()
    wrong = Note("y\n", note.signatures)
    assert wrong.check([OTHER_KEY], verify) == ()
    with pytest.raises(LogProofInvalid, match="does not hold"):
        wrong.check([LOG_KEY], verify)


def test_a_cosignature_is_of_its_witness_text_and_time() -> None:
    body = Cosignature(7, WITNESS_SIGNER.sign(witnessed("x\n", 7))).format()
    assert Cosignature.parse(body).format() == body
    assert WITNESS_KEY.holds("x\n", body, verify)
    assert not WITNESS_KEY.holds("y\n", body, verify)
    assert not WITNESS_KEY.holds("x\n", Cosignature(8, body[8:]).format(), verify)
    assert not WITNESS_KEY.holds("x\n", body[:-1], verify)
    assert not WITNESS_KEY.holds("x\n", LOG_SIGNER.sign(b"x\n"), verify)
    for wrong, words in ((body + b"x", "72 bytes"), (body[:-1], "72 bytes"), (b"\x80" + body[1:], "63 bits")):
        with pytest.raises(FormatError, match=words):
            Cosignature.parse(wrong)
    assert Cosignature.parse(b"\x7f" + b"\xff" * 7 + bytes(64)).time == 2**63 - 1


def test_a_checkpoint_is_signed_by_a_key_of_its_log() -> None:
    text = Checkpoint(ORIGIN, 1, bytes(32)).format()
    good = signed(text).format()
    assert open_checkpoint(good, ORIGIN, [LOG_KEY], verify).signers == (LOG_KEY,)
    with pytest.raises(LogProofInvalid, match="of the log"):
        open_checkpoint(good, "other.example", [LOG_KEY], verify)
    with pytest.raises(LogProofInvalid, match="not signed by a key of that log"):
        open_checkpoint(good, ORIGIN, [], verify)
    elsewhere = NoteKey("other.example", ED25519, LOG_SIGNER.public.raw)
    with pytest.raises(LogProofInvalid, match="not signed by a key of that log"):
        open_checkpoint(signed(text, key=elsewhere).format(), ORIGIN, [elsewhere], verify)
    witness = NoteKey(ORIGIN, COSIGNATURE, WITNESS_SIGNER.public.raw)
    line = NoteSignature(ORIGIN, witness.id, Cosignature(7, WITNESS_SIGNER.sign(witnessed(text, 7))).format())
    with pytest.raises(LogProofInvalid, match="not signed by a key of that log"):
        open_checkpoint(Note(text, (line,)).format(), ORIGIN, [witness], verify)


# proofs, policies, bundles


def test_a_proof_of_odd_shape_is_refused_in_words() -> None:
    whole = LogProof(0, (), signed(Checkpoint(ORIGIN, 1, bytes(32)).format()).format(), b"x").format()
    assert LogProof.parse(whole).extra == b"x"
    path = "\n".join([base64.encode(bytes(32))] * (MAX_PATH + 1))
    many = b"c2sp.org/tlog-proof@v1\nindex 0\n" + path.encode() + b"\n\nx"
    table = {
        b"x" * (2 * MAX_BYTES + 1): "is not read",
        b"\xff\n\n": "does not begin with ASCII",
        b"c2sp.org/tlog-proof@v2\nindex 0\n\nx": "the first line is not",
        b"c2sp.org/tlog-proof@v1\nindex 0\n": "the first line is not",
        b"c2sp.org/tlog-proof@v1\n\nx": "the index is missing",
        b"c2sp.org/tlog-proof@v1\nextra eA==\n\nx": "the index is missing",
        b"c2sp.org/tlog-proof@v1\nplace 0\n\nx": "the index is missing",
        many: f"at most {MAX_PATH} hashes",
    }
    for data, message in table.items():
        with pytest.raises(FormatError, match=message):
            LogProof.parse(data)
    most = LogProof(0, (bytes(32),) * MAX_PATH, b"x")
    assert LogProof.parse(most.format()) == most


def test_a_merkle_proof_is_of_the_length_that_it_has_to_be() -> None:
    hashes = leaves(7)
    nodes, root = nodes_of(hashes), root_of(hashes)
    path = inclusion_path(2, 7, nodes)
    verify_inclusion(hashes[2], 2, 7, path, root)
    for index, size, wrong, message in (
        (2, 7, [*path, root], "is too long for"),
        (2, 7, path[:-1], "is too short for"),
        (7, 7, path, "there is no leaf 7"),
        (-1, 7, path, "there is no leaf -1"),
        (3, 7, path, "leads to another root"),
        (2, 7, [path[0][:-1], *path[1:]], "have 32 bytes"),
    ):
        with pytest.raises(LogProofInvalid, match=message):
            verify_inclusion(hashes[2], index, size, wrong, root)
    old = root_of(hashes[:3])
    grown = consistency_path(3, 7, nodes)
    verify_consistency(3, 7, grown, old, root)
    verify_consistency(7, 7, [], root, root)
    verify_consistency(7, 7, [], b"any", b"any")  # of one size, roots are only compared
    verify_consistency(0, 7, [], root_of([]), root)
    verify_consistency(0, 0, [], root_of([]), root_of([]))
    for sizes, wrong, roots, message in (
        ((3, 7), [*grown, root], (old, root), "is too long"),
        ((3, 7), grown[:-1], (old, root), "is too short"),
        ((3, 7), [], (old, root), "is missing"),
        ((3, 7), grown, (root, root), "another root for the old"),
        ((3, 7), grown, (old, old), "another root for the new"),
        ((3, 7), grown, (old[1:], root), "have 32 bytes"),
        ((3, 7), grown, (old, root[1:]), "have 32 bytes"),
        ((3, 7), [*grown[:-1], b""], (old, root), "have 32 bytes"),
        ((8, 7), grown, (old, root), "is not the beginning"),
        ((-1, 7), grown, (old, root), "is not the beginning"),
        ((7, 7), grown, (root, root), "need no proof"),
        ((0, 7), grown, (root_of([]), root), "need no proof"),
        ((7, 7), [], (old, root), "two roots"),
        ((0, 7), [], (old, root), "two roots"),
        ((0, 0), [], (old, old), "two roots"),
        ((0, 0), [], (root_of([]), old), "two roots"),
    ):
        with pytest.raises(LogProofInvalid, match=message):
            verify_consistency(*sizes, wrong, *roots)
    with pytest.raises(ValueError, match="is not that of a tree"):
        Frontier(3, [bytes(32)])
    with pytest.raises(ValueError, match="is not that of a tree"):
        Frontier(1, [bytes(31)])


def test_a_policy_that_is_too_long_or_unfinished_is_refused() -> None:
    for data, message in (
        (b"#" + b"x" * 10_000_000 + b"\n", "too long"),
        (b"\n" * 1_000_000, "too long"),
        (b"quorum none", "does not end in a newline"),
        (b"# nothing\n", "'quorum' is missing"),
        (b"quorum none\nquorum none\n", "a second line"),
    ):
        with pytest.raises(FormatError, match=message):
            parse_policy(data)


def test_a_bundle_takes_entries_of_the_longest_length() -> None:
    assert len(format_bundle([b"x" * MAX_ENTRY])) == MAX_ENTRY + 2
    with pytest.raises(FormatError, match="at most"):
        format_bundle([b"x" * (MAX_ENTRY + 1)])


# receipts

ENVELOPE = seal(b"{}", [LOG_SIGNER])


def receipt(envelope: Envelope = ENVELOPE, key: str = "", seq: int = 0, index: int = 0) -> Receipt:
    """What a log with one entry, or two where `seq` is 1, gives for an envelope."""
    draft = Draft.of_envelope("verdict", key or f"sha256:{envelope.digest}", envelope)
    line = draft.format(seq, "" if not seq else "A" * 43 + "=", TIME)
    checkpoint = signed(Checkpoint(ORIGIN, 1, leaf_hash(line)).format()).format()
    return Receipt(envelope.digest, LogProof(index, (), checkpoint, receipt_head(line)))


def test_a_receipt_is_believed_for_its_envelope_alone() -> None:
    good = receipt()
    logged = check_receipt(good, ENVELOPE, [LOG_KEY], verify)
    assert (logged.index, logged.time, logged.checkpoint.checkpoint.size) == (0, TIME, 1)
    other = seal(b"{}", [OTHER_SIGNER])
    stranger = NoteKey(ORIGIN, ED25519, OTHER_SIGNER.public.raw)
    table: dict[str, Callable[[], object]] = {
        "the receipt is about envelope": lambda: check_receipt(good, other, [LOG_KEY], verify),
        "lacks the entry's head": lambda: check_receipt(
            replace(good, proof=replace(good.proof, extra=None)), ENVELOPE, [LOG_KEY], verify
        ),
        "entry 0 is about something else": lambda: check_receipt(
            receipt(key="sha256:other"), ENVELOPE, [LOG_KEY], verify
        ),
        "entry 1 is about something else": lambda: check_receipt(receipt(seq=1), ENVELOPE, [LOG_KEY], verify),
        "is not signed by a key of that log": lambda: check_receipt(good, ENVELOPE, [stranger], verify),
    }
    for message, attempt in table.items():
        with pytest.raises(LogProofInvalid, match=message):
            attempt()


def test_a_receipt_stands_on_one_line_written_one_way() -> None:
    good = receipt()
    line = good.format()
    assert Receipt.parse(line) == good
    data = {"envelope": good.envelope, "proof": good.proof.format().decode()}
    for wrong in (
        b"{}",
        line + b" ",
        canonical.dumps(data | {"more": 1}),
        canonical.dumps(data | {"envelope": "A" * 64}),
        canonical.dumps(data | {"envelope": "a" * 63}),
        canonical.dumps(data | {"proof": 5}),
        b'{"proof":"","envelope":""}' + b" " * LONGEST,
    ):
        with pytest.raises(FormatError):
            Receipt.parse(wrong)
    swapped = (
        b'{"proof":' + line.partition(b'"proof":')[2][:-1] + b',"envelope":"' + good.envelope.encode() + b'"}'
    )
    with pytest.raises(FormatError, match="one way"):
        Receipt.parse(swapped)
