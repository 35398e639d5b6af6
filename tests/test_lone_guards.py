"""Guards that no other quick test sees: `tests/mutation_table.py` names this file for their mutants alone."""

from __future__ import annotations

import pytest
from test_guards import AI, CI, RING, STAMP, edit, policy, proposal, signed, trust, verdict_of
from tools_log import LOG_KEY, LOG_SIGNER, WITNESS_KEY

from safeai_git.agents import catalogue
from safeai_git.core.errors import FormatError
from safeai_git.core.log import note
from safeai_git.core.log.policy import MAX_BYTES, MAX_LINES, parse_policy
from safeai_git.core.log.proof import LogProof
from safeai_git.core.log.tiles import WIDTH, Tile
from safeai_git.core.message import Message
from safeai_git.core.receipt import START
from safeai_git.core.values import replace
from safeai_git.weighing import Court, Subject, weigh


def test_a_receipt_among_the_lines_is_no_spoilt_verdict() -> None:
    court, subject = Court(trust(), RING, 1), Subject("4" * 40, "3" * 40, AI)
    receipt = START + b'x"}'
    assert weigh([receipt], subject, court) == weigh([], subject, court)
    spoilt = signed(verdict_of(), LOG_SIGNER)
    assert weigh([receipt, spoilt], subject, court).reason == weigh([spoilt], subject, court).reason


def test_a_witness_policy_has_a_longest_length() -> None:
    end = b"quorum none\n"
    assert parse_policy(b"\n" * (MAX_LINES - 2) + end).quorum == "none"
    assert parse_policy(b"#" * (MAX_BYTES - len(end) - 1) + b"\n" + end).quorum == "none"
    for data in (b"\n" * (MAX_LINES - 1) + end, b"#" * (MAX_BYTES - len(end)) + b"\n" + end):
        with pytest.raises(FormatError, match="too long"):
            parse_policy(data)


def test_a_log_and_a_witness_may_have_an_address() -> None:
    log, witness = LOG_KEY.format(), WITNESS_KEY.format()
    text = f"log {log} https://log.example/\nwitness w {witness} https://w.example/\nquorum w\n"
    policy = parse_policy(text.encode())
    assert [one.url for one in (policy.logs[0], policy.witnesses["w"])] == [
        "https://log.example/",
        "https://w.example/",
    ]
    for one in ("https://log.example/", "https://w.example/"):
        with pytest.raises(FormatError, match="not understood"):
            parse_policy(text.replace(one, one + " more").encode())


def test_a_group_may_want_all_of_its_members_by_number() -> None:
    text = f"witness w {WITNESS_KEY.format()}\ngroup g 1 w\nquorum g\n"
    assert parse_policy(text.encode()).groups["g"].threshold == 1


def test_two_groups_of_a_witness_policy_cannot_have_one_name() -> None:
    text = f"witness w {WITNESS_KEY.format()}\ngroup g 1 w\ngroup g 1 g\nquorum g\n"
    with pytest.raises(FormatError, match="the name g is taken"):
        parse_policy(text.encode())


def test_a_proof_has_a_longest_length() -> None:
    checkpoint = b"x\n"
    for more in (0, 1):
        # Each group of four characters stands for three bytes; the length of the checkpoint settles the rest.
        extra = bytes(3 * (note.MAX_BYTES // 4))
        short = LogProof(0, (), checkpoint, extra).format()
        data = LogProof(0, (), b"x" * (2 * note.MAX_BYTES + more - len(short)) + checkpoint, extra).format()
        assert len(data) == 2 * note.MAX_BYTES + more
        if more:
            with pytest.raises(FormatError, match="is not read"):
                LogProof.parse(data)
        else:
            assert LogProof.parse(data).extra == extra


def test_the_path_of_a_tile_is_read_back() -> None:
    for tile in (Tile(-1, 0), Tile(-1, 1_234_067, 3), Tile(0, 999), Tile(0, 1_000, WIDTH - 1), Tile(63, 5)):
        assert Tile.parse(tile.path()) == tile
    longest = Tile(0, 10**31, 1)
    assert len(longest.path()) == 64
    assert Tile.parse(longest.path()) == longest
    for path in (Tile(0, 10**31, 12).path(), "tile/0/000.p/256", "tile/0/x000/001", "tile/64/000"):
        with pytest.raises(FormatError):
            Tile.parse(path)


@pytest.mark.parametrize(
    ("outcome", "message", "status", "reason"),
    [
        ("deny", "x\n", "denied", "no person is named who asked for the work"),
        (
            "review",
            "x\n",
            "unapproved",
            "no person is named who asked for the work; 0 of 1 approvals are there",
        ),
        ("warn", "x\n", "valid", "a trusted verdict allows it"),
        ("deny", "x\n\nRequested-by: Anna <anna@example.com>\n", "valid", "a trusted verdict allows it"),
    ],
)
def test_what_a_message_lacks_is_asked_of_each_commit_itself(
    outcome: str, message: str, status: str, reason: str
) -> None:
    layer = policy(accountable_trailers=["Requested-by"], outcomes={"accountable-human": outcome})
    verdict = signed(verdict_of(layer=layer), CI)
    change = proposal(edit())
    who = replace(AI, message=Message(message, catalogue()))
    found = weigh(
        [verdict], Subject(change.tree, change.base_tree, who), Court(trust(layer), RING, STAMP.time)
    )
    assert (found.status, found.reason) == (status, reason)


def test_a_verdict_that_asks_for_review_says_so_where_the_message_lacks_nothing() -> None:
    layer = policy(protected_paths=["src/"])
    change = proposal(edit())
    subject = Subject(change.tree, change.base_tree, AI)
    found = weigh([signed(verdict_of(layer=layer), CI)], subject, Court(trust(layer), RING, STAMP.time))
    assert found.status == "unapproved"
    assert found.reason == "the verdict asks for review; 0 of 1 approvals are there"
