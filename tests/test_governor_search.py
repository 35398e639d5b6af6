"""The search index: what it finds, that its pages hold still, and that it can be lost, damaged and mixed up."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tools_log import ORIGIN
from tools_postgres import Cluster, cluster  # noqa: F401 - a fixture
from tools_state import NOW, Clock, Parts, in_database, parts, person

from safeai_git.core import canonical
from safeai_git.core.errors import DeadlinePassed, StorageError, WrongUse
from safeai_git.core.key_list import KeyBook
from safeai_git.core.kill_switch import Scope
from safeai_git.core.log.entry import Draft, Entry
from safeai_git.core.verdict import VERDICT_TYPE
from safeai_git.governor import index as index_module
from safeai_git.governor.search import MOST, Search, entry_data
from safeai_git.governor.subjects import subjects
from safeai_git.keys.seal import seal
from safeai_git.schema import names

CI, DEV = person(1), person(2)


def verdict(
    number: int, repository: str, agent: str, decision: str, *rules: str, signer: object = CI
) -> Draft:
    """A verdict as far as a search looks at it."""
    predicate = {
        "repository": repository,
        "decision": decision,
        "attribution": {"agent": agent, "class": "ai"},
        "findings": {"count": len(rules), "first": [{"rule": rule} for rule in rules]},
        "number": number,
    }
    envelope = seal(canonical.dumps({"predicateType": VERDICT_TYPE, "predicate": predicate}), [signer])  # type: ignore[list-item]
    return Draft.of_envelope("verdict", f"sha256:{envelope.digest}", envelope)


def fill(governor: Parts, count: int) -> None:
    """Verdicts that differ in every field, one a second."""
    for number in range(count):
        governor.log.append(
            verdict(
                int(governor.clock.now),
                f"acme/r{number % 3}",
                ("codex", "aider")[number % 2],
                ("allow", "deny", "review", "allow")[number % 4],
                *(("denied-path", "edit-size")[: number % 3]),
                signer=(CI, DEV)[number % 2],
            )
        )
        governor.clock.now += 1


@pytest.fixture
def governor(tmp_path: Path) -> Iterator[Parts]:
    (tmp_path / "log").mkdir()
    with parts(tmp_path / "log") as made:
        yield made


@pytest.fixture
def search(governor: Parts, tmp_path: Path) -> Iterator[Search]:
    made = Search(tmp_path / "log", governor.records, ORIGIN)
    yield made
    made.close()


def found(search: Search, limit: int = MOST, **wanted: str) -> list[int]:
    times = {name: wanted.pop(name) for name in ("since", "until", "cursor") if name in wanted}
    return [Entry.parse(line).seq for line in search.page(wanted, limit=limit, **times).entries]


def by_hand(governor: Parts, **wanted: str) -> list[int]:
    """The same, by looking at every entry."""
    keys = governor.records.state.keys
    lines = governor.log.store.read(0, 10_000)
    return [
        index
        for index in reversed(range(len(lines)))
        if set(wanted.items()) <= subjects(Entry.parse(lines[index]), keys)
    ]


def test_entries_are_found_by_what_they_are_about(governor: Parts, search: Search) -> None:
    governor.keys.register(CI.public, "ci@example.com", ["safeai-verdict"], reason="", by="maria")
    fill(governor, 60)
    governor.switches.engage(Scope("agent", "codex"), reason="wild", by="maria")
    governor.switches.engage(Scope("repository", "acme/r1"), reason="a leak", by="otto")
    governor.policies.publish(b"allow_paths: [src/]\n", expires=NOW * 2, by="maria")
    for wanted in (
        {},
        {"repository": "acme/r1"},
        {"agent": "codex"},
        {"human": "ci@example.com"},
        {"human": DEV.key_id},
        {"human": "maria"},
        {"decision": "deny"},
        {"rule": "edit-size"},
        {"kind": "killswitch"},
        {"kind": "policy", "human": "maria"},
        {"repository": "acme/r1", "agent": "codex", "decision": "allow"},
        {"repository": "acme/r1", "kind": "killswitch"},
        {"repository": "acme/r2", "rule": "edit-size", "human": DEV.key_id},
        {"decision": "deny", "rule": "nothing-of-the-kind"},
        {"repository": "' OR 1=1 --"},
        {"repository": "acme/r%"},
    ):
        assert found(search, **wanted) == by_hand(governor, **wanted), wanted
    assert len(found(search, agent="codex", repository="acme/r1")) == 10
    assert found(search, human="maria", kind="policy") == [governor.log.store.size - 1]


def test_times_bound_what_is_found(governor: Parts, search: Search) -> None:
    fill(governor, 30)
    assert found(search, since="2026-05-28T20:26:50Z", until="2026-05-28T20:26:53Z") == [13, 12, 11]
    assert found(search, since="2026-05-28T20:26:50Z", until="2026-05-28T20:26:53Z", agent="aider") == [12]
    assert found(search, since="2030-01-01") == found(search, until="2000-01-01") == []
    assert found(search, since="2000-01-01", until="2030-01-01") == list(range(30, -1, -1))


def test_pages_hold_still_while_entries_come(governor: Parts, search: Search) -> None:
    fill(governor, 40)
    wanted = {"agent": "codex"}
    all_at_once = found(search, **wanted)
    seen: list[int] = []
    cursor = ""
    while True:
        page = search.page(wanted, cursor=cursor, limit=7)
        seen += [Entry.parse(line).seq for line in page.entries]
        fill(governor, 3)
        cursor = page.cursor
        if not cursor:
            break
    assert seen == all_at_once
    assert search.page({}, limit=MOST).cursor == ""
    exactly = len(found(search))
    assert search.page({}, limit=exactly).cursor == ""
    assert search.page({}, limit=exactly - 1).cursor


def test_a_page_of_long_entries_ends_early_and_goes_on(
    governor: Parts, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("safeai_git.governor.search.LARGEST_PAGE", 4_000)
    fill(governor, 30)
    seen, cursor = [], ""
    while True:
        page = search.page({}, cursor=cursor, limit=MOST)
        assert 1 <= len(page.entries) < 30
        seen += [Entry.parse(line).seq for line in page.entries]
        if not (cursor := page.cursor):
            break
    assert seen == list(range(30, -1, -1))


@pytest.mark.parametrize(
    "options",
    [
        {"limit": 0},
        {"limit": MOST + 1},
        {"since": "yesterday"},
        {"until": "2026-13-01"},
        {"cursor": "x"},
        {"cursor": "YmVmb3JlOjE "},
        {"cursor": "ä"},
        {"cursor": "YmVmb3JlOi0x"},
        {"cursor": "YmVmb3JlOjA1"},
        {"wanted": {"colour": "red"}},
    ],
)
def test_what_makes_no_sense_is_said_to_make_none(search: Search, options: dict[str, object]) -> None:
    with pytest.raises(WrongUse):
        search.page(**{"wanted": {}, **options})  # type: ignore[arg-type]


@given(st.text(max_size=30))
def test_no_text_is_taken_for_a_cursor_by_chance(text: str) -> None:
    from safeai_git.governor.search import _before, _cursor

    try:
        place = _before(text)
    except WrongUse:
        return
    assert text == "" or _cursor(place) == text


def test_an_index_is_taken_up_where_it_ended(governor: Parts, tmp_path: Path) -> None:
    fill(governor, 20)
    first = Search(tmp_path / "log", governor.records, ORIGIN)
    first.follower.catch_up()
    assert (first.index.position, first.index.made_anew) == ((0, ""), 1)
    first.close()
    fill(governor, 5)
    second = Search(tmp_path / "log", governor.records, ORIGIN)
    assert (second.index.position[0], second.index.made_anew) == (21, 0)
    assert found(second) == list(range(25, -1, -1))
    second.close()


def test_an_index_of_another_log_or_ahead_of_this_one_is_made_anew(tmp_path: Path) -> None:
    for name, count in (("one", 20), ("other", 25)):
        (tmp_path / name).mkdir()
        with parts(tmp_path / name) as governor:
            governor.clock.now += count * 1000
            fill(governor, count)
            made = Search(tmp_path / name, governor.records, ORIGIN)
            made.follower.catch_up()
            made.close()
    shutil.copy(tmp_path / "other" / "search.sqlite", tmp_path / "one")
    with parts(tmp_path / "one") as governor:
        made = Search(tmp_path / "one", governor.records, ORIGIN)
        assert made.index.made_anew == 1, "it is ahead"
        made.close()
        governor.clock.now += 10**6
        fill(governor, 10)
        shutil.copy(tmp_path / "other" / "search.sqlite", tmp_path / "one")
        made = Search(tmp_path / "one", governor.records, ORIGIN)
        assert made.index.made_anew == 1, "it ends with another entry"
        assert found(made) == list(range(30, -1, -1))
        made.close()
        made = Search(tmp_path / "one", governor.records, "another/origin")
        assert made.index.made_anew == 1
        made.close()


GARBAGE = {
    "text": b"garbage" * 1000,
    "empty": b"",
    "an SQLite header": b"SQLite format 3\0" + bytes(4080),
}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_start_with_garbage_makes_the_index_anew(governor: Parts, tmp_path: Path, garbage: str) -> None:
    fill(governor, 20)
    (tmp_path / "log" / "search.sqlite").write_bytes(GARBAGE[garbage])
    (tmp_path / "log" / "search.sqlite-wal").write_bytes(b"garbage")
    search = Search(tmp_path / "log", governor.records, ORIGIN)
    assert found(search, agent="codex") == by_hand(governor, agent="codex")
    search.close()


def until_it_answers(search: Search, **wanted: str) -> list[int]:
    for _ in range(3000):
        try:
            return found(search, **wanted)
        except StorageError:
            threading.Event().wait(0.01)
    pytest.fail("it was not made anew")


@pytest.mark.parametrize("how", [*GARBAGE, "deleted", "overwritten", "rows", "tables"])
def test_an_index_that_is_damaged_while_it_is_used_heals(
    governor: Parts, search: Search, tmp_path: Path, how: str
) -> None:
    fill(governor, 50)
    wanted = {"agent": "codex"}
    assert found(search, **wanted) == by_hand(governor, **wanted)
    path = tmp_path / "log" / "search.sqlite"
    if how in GARBAGE:
        (tmp_path / "new").write_bytes(GARBAGE[how])
        (tmp_path / "new").rename(path)
    elif how == "deleted":
        path.unlink()
    elif how == "overwritten":
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        path.write_bytes(b"\xff" * path.stat().st_size)
    else:
        with sqlite3.connect(path, isolation_level=None) as connection:
            if how == "rows":
                connection.execute("UPDATE post SET idx = 1000 - idx")
                connection.execute("UPDATE post SET idx = 1010 - idx")
            else:
                connection.execute("DROP TABLE post")
        connection.close()
    fill(governor, 1)
    assert until_it_answers(search, **wanted) == by_hand(governor, **wanted)
    fill(governor, 3)
    assert until_it_answers(search, **wanted) == by_hand(governor, **wanted)


def test_a_second_process_on_the_folder_has_an_index_of_its_own(
    governor: Parts, search: Search, tmp_path: Path
) -> None:
    fill(governor, 20)
    other = Search(tmp_path / "log", governor.records, ORIGIN)
    assert other.index._path.parent != tmp_path / "log"
    assert found(other) == found(search)
    folder = other.index._path.parent
    other.close()
    assert not folder.exists()


def test_a_search_that_takes_too_long_ends(
    governor: Parts, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(governor, 300)
    monkeypatch.setattr(index_module, "DEADLINE_SECONDS", -1.0)
    search.follower.catch_up()
    with sqlite3.connect(search.index._path, isolation_level=None) as connection:
        connection.execute("BEGIN")
        (codex,) = connection.execute("SELECT id FROM term WHERE value = 'codex'").fetchone()
        (deny,) = connection.execute("SELECT id FROM term WHERE value = 'deny'").fetchone()
        for term, parity in ((codex, 0), (deny, 1)):
            rows = ((term, number) for number in range(10_000, 60_000) if number % 2 == parity)
            connection.executemany("INSERT INTO post VALUES (?, ?)", rows)
        connection.execute("UPDATE about SET size = 100000")
        connection.execute("COMMIT")
    connection.close()
    with pytest.raises(DeadlinePassed, match="the search took more than"):
        search.index.find([("agent", "codex"), ("decision", "deny")], index_module.Span(5000), 10)
    assert not search.index.damaged


def test_many_search_while_many_write(governor: Parts, search: Search) -> None:
    errors: list[BaseException] = []

    def writing(number: int) -> None:
        for at in range(30):
            governor.log.append(verdict(number * 100 + at, "acme/r", "codex", "allow"))

    def searching() -> None:
        try:
            last = 0
            for _ in range(40):
                here = len(found(search, agent="codex"))
                assert here >= last
                last = here
        except BaseException as error:  # noqa: BLE001 - told in the main thread
            errors.append(error)

    threads = [threading.Thread(target=writing, args=(number,)) for number in range(4)]
    threads += [threading.Thread(target=searching) for _ in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert errors == []
    assert len(found(search, agent="codex")) == 120


def test_each_governor_of_a_database_has_its_own_index(cluster: Cluster, tmp_path: Path) -> None:  # noqa: F811
    clock = Clock()
    opener = in_database(cluster.url, "search", clock)
    with parts(opener, clock) as one, parts(opener, clock) as other:
        searches = [Search(tmp_path, each.records, ORIGIN) for each in (one, other)]
        fill(one, 20)
        fill(other, 10)
        assert found(searches[0], agent="codex") == found(searches[1], agent="codex")
        assert found(searches[0]) == list(range(one.log.store.tail()[0] - 1, -1, -1))
        for each in searches:
            each.close()


def test_an_entry_is_shown_with_what_it_holds(governor: Parts) -> None:
    fill(governor, 1)
    start, first = (entry_data(governor.log.store.entry(number)) for number in (0, 1))
    assert (start["kind"], start["data"]["origin"]) == ("start", ORIGIN)
    assert set(first) == {"index", "time", "kind", "id", "envelope"}
    assert "key-list" in names()


@given(
    st.recursive(
        st.none() | st.text(max_size=5) | st.integers(-9, 9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "predicate",
                        "findings",
                        "first",
                        "rule",
                        "attribution",
                        "agent",
                        "by",
                        "scope",
                        "kind",
                        "name",
                        "x",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_nothing_that_an_entry_holds_makes_the_index_stumble(value: object) -> None:
    payload = canonical.dumps(value)  # type: ignore[arg-type]
    envelope = seal(payload, [CI])
    drafts = [Draft.of_envelope("verdict", "v", envelope)]
    if isinstance(value, dict):
        drafts.append(Draft.of_data("policy", "p", value))
    for draft in drafts:
        about = subjects(Entry.parse(draft.format(0, "", "2026-01-02T03:04:05.678Z")), KeyBook())
        assert all(isinstance(text, str) and text for _, text in about)
