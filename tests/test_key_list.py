"""The keys that a log's changes add up to, and the list of them: values alone, one test for each guard."""

from __future__ import annotations

from typing import Any

import pytest
from tools_log import LOG_SIGNER, OTHER_SIGNER, WITNESS_SIGNER

from safeai_git.core import canonical
from safeai_git.core.errors import FormatError, WrongUse
from safeai_git.core.key_list import (
    KeyBook,
    ListedKey,
    ListStatement,
    Revocation,
    digest,
    register_data,
    revoke_data,
    revoke_id,
)
from safeai_git.core.trust import Refusal, TrustedKey
from safeai_git.core.values import replace

VERDICT, APPROVAL = "safeai-verdict", "safeai-approval"
ONE = ListedKey(LOG_SIGNER.public, "ci@example.com", (VERDICT,), valid_after=100, valid_before=1_000)
TWO = ListedKey(OTHER_SIGNER.public, "maria", (APPROVAL, VERDICT))
HOUR = 3_600


def book(*changes: tuple[int, int, dict[str, Any]]) -> KeyBook:
    made = KeyBook()
    for index, time, data in changes:
        made.apply(index, time, data)
    return made


def added(key: ListedKey = TWO) -> dict[str, Any]:
    return register_data(key, reason="new", by="maria")


def revoked(key: ListedKey = TWO, since: int | None = None) -> dict[str, Any]:
    return revoke_data(key.key_id, since=since, reason="lost", by="maria")


def said(answer: TrustedKey | Refusal) -> str:
    return answer.reason if isinstance(answer, Refusal) else "trusted"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"principal": ""}, "cannot belong"),
        ({"principal": "-x"}, "cannot belong"),
        ({"principal": "x" * 201}, "cannot belong"),
        ({"purposes": ()}, "cannot serve no purpose, or one twice"),
        ({"purposes": (VERDICT, APPROVAL)}, "cannot serve no purpose, or one twice"),
        ({"purposes": (VERDICT, VERDICT)}, "cannot serve"),
        ({"purposes": (VERDICT, "zeal")}, "cannot serve zeal"),
        ({"valid_after": 1_000}, "before it begins"),
        ({"valid_before": 99}, "before it begins"),
    ],
)
def test_a_key_is_registered_for_what_there_is(change: dict[str, Any], message: str) -> None:
    with pytest.raises(WrongUse, match=message):
        replace(ONE, **change)


def test_either_end_of_a_key_may_be_open() -> None:
    assert replace(ONE, valid_after=None).valid_before == 1_000
    assert replace(ONE, valid_before=None).valid_after == 100
    assert replace(ONE, valid_before=101).valid_before == 101


def test_what_stands_in_a_change_is_text_on_one_line() -> None:
    for wrong in ("a\nb", "x" * 201, "\x9b", "\u2028"):
        with pytest.raises(WrongUse):
            register_data(ONE, reason=wrong, by="maria")
        with pytest.raises(WrongUse):
            revoke_data(ONE.key_id, since=None, reason="lost", by=wrong)
    with pytest.raises(WrongUse, match="not the id of a key"):
        revoke_data("SHA256:short", since=None, reason="lost", by="maria")
    assert revoke_id(ONE.key_id) == f"revoke:{ONE.key_id}"


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"action": "forget", "key": TWO.key_id},
        added() | {"public": "ssh-rsa AAAA"},
        added() | {"purposes": VERDICT},
        added() | {"purposes": None},
        added() | {"purposes": {VERDICT: True}},
        added() | {"purposes": ["zeal"]},
        added() | {"principal": None, "purposes": []},
        added() | {"valid_after": 5},
        added() | {"valid_after": "yesterday"},
        {"action": "revoke", "key": 5},
    ],
)
def test_what_is_no_change_of_a_key_is_refused(data: dict[str, Any]) -> None:
    made = KeyBook()
    with pytest.raises(FormatError):
        made.apply(1, 2, data)
    assert len(made) == 0


def test_a_registration_replaces_what_was_said_and_keeps_where_it_began() -> None:
    made = book((3, 0, added()), (7, 0, added(replace(TWO, principal="erika", valid_before=HOUR))))
    found = made.find(TWO.key_id)
    assert found == replace(TWO, principal="erika", valid_before=HOUR, index=3, changes=2)
    assert (len(made), made.public(TWO.key_id), made.public(ONE.key_id)) == (1, TWO.public, None)


def test_a_revocation_is_for_good_and_the_first_one_counts() -> None:
    made = book(
        (3, 0, added()), (4, HOUR, revoked(since=60)), (5, HOUR + 1, revoked(since=1)), (6, 0, added())
    )
    found = made.find(TWO.key_id)
    assert found is not None
    assert found.revoked == Revocation(4, HOUR, 60, "lost", "maria")
    assert (found.index, found.changes) == (3, 1)
    assert len(book((1, 0, revoked()))) == 0
    late = book((3, 0, added()), (4, HOUR, revoked(since=HOUR + 5))).find(TWO.key_id)
    assert late is not None
    assert late.revoked is not None
    assert late.revoked.since == HOUR  # nobody knows what is to come


def test_a_revoked_key_is_trusted_for_nothing_whatever_time_is_claimed() -> None:
    made = book((2, 0, added(ONE)), (3, 0, added()), (4, HOUR, revoked()))
    assert [said(made.trusts(TWO.key_id, VERDICT, at)) for at in (0, HOUR + 1, None)] == ["revoked"] * 3
    assert said(made.trusts(WITNESS_SIGNER.key_id, VERDICT, 0)) == "unknown-key"
    times = [said(made.trusts(ONE.key_id, VERDICT, at)) for at in (99, 100, 999, 1_000, None)]
    assert times == ["not-yet-valid", "trusted", "trusted", "expired", "time-unknown"]
    assert said(made.trusts(ONE.key_id, APPROVAL, 100)) == "wrong-namespace"
    answer = made.trusts(ONE.key_id, VERDICT, 100)
    assert isinstance(answer, TrustedKey)
    assert (answer.key_id, answer.principal) == (ONE.key_id, "ci@example.com")


def test_what_the_log_took_in_before_a_revocation_goes_on_counting() -> None:
    def counts(made: KeyBook, index: int, time: int, namespace: str = VERDICT) -> str:
        return said(made.counts(TWO.key_id, namespace, index=index, time=time))

    plain = book((3, 0, added()), (9, HOUR, revoked()))
    assert [counts(plain, index, 50) for index in (8, 9, 10)] == ["trusted", "revoked", "revoked"]
    assert counts(plain, 8, 50, "safeai-policy") == "wrong-namespace"
    since = book((3, 0, added()), (9, HOUR, revoked(since=60)))
    assert [counts(since, 8, time) for time in (59, 60, 61)] == ["trusted", "revoked", "revoked"]
    assert counts(book((3, 0, added())), 100, 50) == "trusted"
    assert counts(KeyBook(), 100, 50) == "unknown-key"


def test_a_list_is_read_back_and_written_one_way() -> None:
    made = book((2, 0, added(ONE)), (3, 0, added()), (4, HOUR, revoked(since=60)))
    data = made.format()
    assert KeyBook.parse(data).format() == data
    assert digest(data) != digest(data + b" ")
    plain = book((2, 0, added(ONE)), (3, 0, added()), (4, HOUR, revoked())).format()
    assert KeyBook.parse(plain).format() == plain
    rows: Any = canonical.loads(data, limit=len(data), depth=5)
    first, second = rows["keys"]
    gone = first if first["revoked"] else second

    def listed(*keys: dict[str, Any]) -> bytes:
        return canonical.dumps({"keys": list(keys)})

    assert KeyBook.parse(listed(first, second)).format() == data
    for wrong in (
        b"{}",
        canonical.dumps({"keys": [5]}),
        canonical.dumps(rows | {"more": 1}),
        listed(second, first),
        listed(first, first),
        listed(first | {"principal": "-"}, second),
        listed(first | {"index": "2"}, second),
        listed(first | {"id": second["id"]}, second),
        listed({name: value for name, value in first.items() if name != "revoked"}, second),
        listed(gone | {"revoked": {"index": 1}}),
        listed(gone | {"revoked": gone["revoked"] | {"since": 5}}),
    ):
        with pytest.raises(FormatError):
            KeyBook.parse(wrong)


def test_a_statement_about_a_list_is_read_back_and_written_one_way() -> None:
    made = ListStatement("governor.example", 7, 0, HOUR, "a" * 64)
    assert ListStatement.parse(made.format()) == made
    data: Any = canonical.loads(made.format(), limit=4_096)
    for change in (
        {"size": "7"},
        {"size": True},
        {"keys": {}},
        {"issued": "now"},
        {"more": 1},
        {"keys": {"sha256": "a", "x": 1}},
    ):
        with pytest.raises(FormatError):
            ListStatement.parse(canonical.dumps(data | change))
