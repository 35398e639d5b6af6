"""Lines of audit.log, tiles and the set of ids: inverse pairs, and what must be refused."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tools_log import LOG_KEY, ORIGIN, checkpoint, leaves, nodes_of, root_of, signed

from safeai_git.core.envelope import Envelope, Signature
from safeai_git.core.errors import FormatError, LogProofInvalid
from safeai_git.core.log import base64, merkle
from safeai_git.core.log.chain import LONGEST_LINE, Chain, holds_valid_commit, lines_of
from safeai_git.core.log.checkpoint import Checkpoint
from safeai_git.core.log.entry import Draft, Entry, format_commit, format_time, parse_commit, parse_time
from safeai_git.core.log.ids import Ids
from safeai_git.core.log.merkle import leaf_hash
from safeai_git.core.log.tiles import (
    Tile,
    bundles_of,
    content,
    format_bundle,
    node_in,
    parse_bundle,
    tile_root,
    tiles_of,
)
from safeai_git.keys.ed25519 import verify

TIME = "2026-01-02T03:04:05.678Z"
ENVELOPE = Envelope("application/vnd.in-toto+json", b"{}", (Signature("SHA256:" + "A" * 43, bytes(64)),))


def entry(seq: int = 0, prev: str = "", **data: object) -> bytes:
    return Draft.of_data("policy", f"id-{seq}", data or {"n": seq}).format(seq, prev, TIME)  # type: ignore[arg-type]


# entries


def test_an_entry_is_written_as_documented() -> None:
    line = Draft.of_data("start", "start:0", {"origin": ORIGIN, "b": "\u00e9"}).format(0, "", TIME)
    assert line == (
        b'{"seq":0,"prev":"","time":"2026-01-02T03:04:05.678Z","kind":"start","id":"start:0",'
        b'"data":{"b":"\\u00e9","origin":"governor.example/safeai-audit"}}'
    )
    prev = base64.encode(leaf_hash(line))
    line = Draft.of_envelope("verdict", "k", ENVELOPE).format(1, prev, TIME, skew=-5)
    assert json.loads(line) == {
        "seq": 1,
        "prev": prev,
        "time": TIME,
        "clock_skew": -5,
        "kind": "verdict",
        "id": "k",
        "env": json.loads(ENVELOPE.format()),
    }
    parsed = Entry.parse(line)
    assert (parsed.seq, parsed.prev, parsed.kind, parsed.id, parsed.member) == (
        1,
        prev,
        "verdict",
        "k",
        "env",
    )
    assert Envelope.parse(parsed.body) == ENVELOPE


@given(st.integers(0, 2**62), st.text(max_size=40), st.integers(-(10**12), 0))
def test_what_was_written_is_read(seq: int, text: str, skew: int) -> None:
    draft = Draft.of_data("policy", "an:id/1", {"text": text.encode("utf-8", "replace").decode()})
    line = draft.format(seq, base64.encode(bytes(32)), TIME, skew)
    parsed = Entry.parse(line)
    assert parsed.seq == seq
    assert parsed.rest == draft.rest
    assert parsed.digest == draft.digest


GOOD = entry(3, base64.encode(bytes(32)))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        GOOD + b" ",
        b" " + GOOD,
        GOOD + b"\r",
        GOOD[:-1],
        GOOD.replace(b'"seq":3', b'"seq":03'),
        GOOD.replace(b'"seq":3', b'"seq": 3'),
        GOOD.replace(b'"seq":3', b'"seq":3.0'),
        GOOD.replace(b'"seq":3', b'"seq":-3'),
        GOOD.replace(b"policy", b"Policy"),
        GOOD.replace(b"id-3", b""),
        GOOD.replace(b"id-3", b"i d"),
        GOOD.replace(b"id-3", b'i\\"d'),
        GOOD.replace(b"id-3", b"x" * 129),
        GOOD.replace(b"2026-", b"226-"),
        GOOD.replace(b'"data"', b'"else"'),
        GOOD.replace(b'{"n":3}', b"[3]"),
        GOOD.replace(b'{"n":3}', b'{"n":3},"m":{}'),
        GOOD.replace(b'{"n":3}', b'{"n":\xc3\xa9}'),
        GOOD.replace(b'{"n":3}', b'{"n":"\x00"}'),
        GOOD.replace(b'{"n":3}', b'{"n":' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
        GOOD.replace(b'{"n":3}', b'{"n":"' + b"x" * 65_535 + b'"}'),
        GOOD.replace(b'"prev":"', b'"prev":"A'),
    ],
)
def test_what_is_no_entry_is_refused(line: bytes) -> None:
    assert Entry.parse(GOOD).seq == 3
    with pytest.raises(FormatError):
        Entry.parse(line)


@pytest.mark.parametrize(
    ("kind", "key", "data"),
    [
        ("Policy", "id", {}),
        ("", "id", {}),
        ("policy", "", {}),
        ("policy", "two words", {}),
        ("policy", "\u00e9", {}),
        ("policy", "x" * 129, {}),
        ("policy", "id", {"x": "y" * 65_400}),
        ("policy", "id", {"x": float("nan")}),
        ("policy", "id", {"x": object()}),
    ],
)
def test_what_cannot_be_logged_is_refused_before_it_is_signed(
    kind: str, key: str, data: dict[str, object]
) -> None:
    with pytest.raises(FormatError):
        Draft.of_data(kind, key, data)  # type: ignore[arg-type]


def test_the_longest_entry_fits_a_bundle() -> None:
    draft = Draft.of_data("policy", "x" * 128, {"x": "y" * 65_180})
    line = draft.format(2**62, base64.encode(bytes(32)), TIME, -(10**17))
    assert len(line) <= 65_535
    assert parse_bundle(format_bundle([line])) == [line]


@given(st.integers(0, 250_000_000_000_000))
def test_times_are_inverse(milliseconds: int) -> None:
    assert parse_time(format_time(milliseconds)) == milliseconds


@pytest.mark.parametrize(
    "text", ["", TIME[:-1], TIME.replace("T", " "), "2026-13-02T03:04:05.678Z", TIME + "Z"]
)
def test_other_times_are_refused(text: str) -> None:
    assert format_time(parse_time(TIME)) == TIME
    with pytest.raises(FormatError):
        parse_time(text)


# commit lines and the chain


def test_commit_lines_are_inverse_and_ascii() -> None:
    note = checkpoint(7)
    line = format_commit(note)
    assert line.isascii()
    assert line.startswith(b'{"checkpoint":"governor.example/safeai-audit\\n7\\n')
    assert parse_commit(line) == note
    for wrong in (
        line + b" ",
        line.replace(b"\\u2014", "\u2014".encode()),
        line.replace(b"\\u2014", b"\\u2014".upper()),
        line.replace(b'{"checkpoint":', b'{"checkpoint": '),
        line[:-1] + b',"x":1}',
        b'{"checkpoint":"\\ud800"}',
        b'{"checkpoint":7}',
        b"[]",
        b"\xff",
    ):
        with pytest.raises(FormatError):
            parse_commit(wrong)


def written(count: int) -> list[bytes]:
    """A log of entries, with a commit line at the end."""
    lines: list[bytes] = []
    prev = ""
    for seq in range(count):
        lines.append(entry(seq, prev))
        prev = base64.encode(leaf_hash(lines[-1]))
    root = root_of([leaf_hash(line) for line in lines])
    return [*lines, format_commit(signed(Checkpoint(ORIGIN, count, root).format()).format())]


def chain() -> Chain:
    return Chain(ORIGIN, (LOG_KEY,), verify)


def feed(lines: list[bytes]) -> Chain:
    state = chain()
    for line in lines:
        state.commit(line) if line.startswith(b'{"c') else state.entry(line)
    return state


def test_a_chain_takes_what_was_written() -> None:
    state = feed(written(5))
    assert (state.size, state.committed, state.commits) == (5, 5, 1)


@pytest.mark.parametrize("change", ["swap", "drop", "twice", "first", "commit", "again", "stranger", "older"])
def test_a_chain_refuses_what_does_not_follow(change: str) -> None:
    lines = written(5)
    wrong = {
        "swap": [lines[0], lines[2], lines[1], *lines[3:]],
        "drop": [lines[0], *lines[2:]],
        "twice": [*lines[:2], lines[1], *lines[2:]],
        "first": lines[1:],
        "commit": [*lines[:4], lines[5]],
        "again": [*lines, lines[5]],
        "stranger": [*lines[:5], format_commit(checkpoint(5))],
        "older": [*lines[:5], entry(5, feed(lines[:5]).prev).replace(b"2026", b"2025")],
    }[change]
    state = chain()
    before = (0, "", 0)

    def feed_on() -> None:
        nonlocal before
        for line in wrong:
            before = (state.size, state.prev, state.commits)
            state.commit(line) if line.startswith(b'{"c') else state.entry(line)

    with pytest.raises(LogProofInvalid):
        feed_on()
    assert (state.size, state.prev, state.commits) == before


def test_lines_are_cut_where_they_end_whatever_the_chunks() -> None:
    data = b"one\ntwo\n\nlast"
    whole = [(0, b"one", True), (4, b"two", True), (8, b"", True), (9, b"last", False)]
    for size in (1, 2, 3, 100):
        chunks = [data[at : at + size] for at in range(0, len(data), size)]
        assert [(one.offset, one.data, one.ended) for one in lines_of(chunks)] == whole
    endless = list(lines_of([b"x" * LONGEST_LINE, b"y", b"never\nread\n"], 10))
    assert [(one.offset, one.ended) for one in endless] == [(10, False)]


def test_a_valid_commit_line_is_found_among_garbage() -> None:
    good = written(3)[-1]
    garbage = [b"\0" * 10, b'{"checkpoint":"x"}', format_commit(checkpoint(3, origin="other.example"))]
    lines = list(lines_of([b"\n".join([*garbage, b""])]))
    assert holds_valid_commit(lines, ORIGIN, (LOG_KEY,), verify) is None
    lines = list(lines_of([b"\n".join([*garbage, good, b""])]))
    found = holds_valid_commit(lines, ORIGIN, (LOG_KEY,), verify)
    assert found is not None
    assert found.data == good
    assert holds_valid_commit(list(lines_of([good])), ORIGIN, (LOG_KEY,), verify) is None


# tiles


def test_tile_paths_are_as_in_the_specification() -> None:
    assert Tile(0, 1_234_067).path() == "tile/0/x001/x234/067"
    assert Tile(1, 0, 1).path() == "tile/1/000.p/1"
    assert Tile(-1, 273, 112).path() == "tile/entries/273.p/112"


@given(st.integers(-1, 63), st.integers(0, 2**55), st.integers(1, 256))
def test_tile_paths_are_inverse(level: int, index: int, width: int) -> None:
    tile = Tile(level, index, width)
    assert Tile.parse(tile.path()) == tile


@pytest.mark.parametrize(
    "path",
    [
        "",
        "checkpoint",
        "tile/0/0",
        "tile/00/000",
        "tile/64/000",
        "tile/0/x000/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/257",
        "tile/0/000.p/01",
        "tile/0/001/002",
        "tile/0/x001/x002",
        "tile/0/000/",
        "/tile/0/000",
        "tile/-1/000",
        "tile/0/../000",
        "tile/0/" + "x001/" * 40 + "001",
        "tile/0/000\n",
    ],
)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(FormatError):
        Tile.parse(path)


def test_the_tiles_of_seventy_thousand_entries() -> None:
    tiles = list(tiles_of(70_000))
    assert len([one for one in tiles if one.level == 0 and one.width == 256]) == 273
    assert [one.path() for one in tiles if one.width < 256] == [
        "tile/0/273.p/112",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    ]
    assert [one.path() for one in tiles_of(256)] == ["tile/0/000", "tile/1/000.p/1"]
    assert list(tiles_of(0)) == [] == list(bundles_of(0))
    assert [one.width for one in bundles_of(513)] == [256, 256, 1]
    for size in (1, 255, 256, 257, 70_000):
        assert all(
            one.is_in(size) and not one.is_in(size - 1)
            for one in tiles_of(size)
            if one.level == 0 and one.width < 256
        )
    assert Tile(1, 1, 17).is_in(70_000)
    assert not Tile(1, 1, 18).is_in(70_000)
    assert Tile(-1, 0).is_in(256)
    assert not Tile(-1, 0).is_in(255)


def test_a_root_comes_out_of_tiles_alone() -> None:
    size = 1000
    nodes = nodes_of(leaves(size))
    kept = {tile: content(tile, nodes) for tile in tiles_of(size)}

    def from_tiles(level: int, index: int) -> bytes:
        tall, within = divmod(level, 8)
        first = index << within
        tile = next(one for one in kept if one.level == tall and one.index == first // 256)
        return node_in(kept[tile], within, (first % 256) >> within)

    assert merkle.root(size, from_tiles) == root_of(leaves(size))
    assert tile_root(kept[Tile(0, 0)]) == nodes(8, 0)
    with pytest.raises(ValueError, match="not wide enough"):
        tile_root(kept[Tile(0, 3, 232)])


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_bundles_are_inverse(entries: list[bytes]) -> None:
    data = format_bundle(entries)
    assert parse_bundle(data) == entries
    if entries:
        with pytest.raises(FormatError):
            parse_bundle(data[:-1] if len(data) > 2 else data[:1])


# ids


def test_ids_are_found_where_they_were_put() -> None:
    ids = Ids(b"salt")
    for number in range(20_000):
        ids.add(f"id-{number}", number)
    assert len(ids) == 20_000
    assert all(number in set(ids.find(f"id-{number}")) for number in range(20_000))
    strangers = sum(1 for number in range(20_000) for _ in ids.find(f"other-{number}"))
    assert strangers < 5
    with pytest.raises(ValueError, match="no more than"):
        ids.add("x", 2**32)


def test_ids_that_share_everything_kept_are_all_candidates() -> None:
    ids = Ids()
    for number in range(40):
        ids.add("the same", number)
    assert sorted(ids.find("the same")) == list(range(40))


# the documentation


def test_the_example_in_the_documentation_is_what_is_written() -> None:
    text = (Path(__file__).parent.parent / "docs/formats/log.md").read_text()
    shown = [line for line in text.splitlines() if line.startswith(('{"seq":', '{"checkpoint":'))]
    assert len(shown) >= 3
    state = chain()
    for line in shown:
        state.commit(line.encode()) if line.startswith('{"c') else state.entry(line.encode())
    assert state.committed == state.size == len(shown) - 1
    assert sha256(b"\x00" + shown[0].encode()).digest() == base64.decode(json.loads(shown[1])["prev"], "prev")
