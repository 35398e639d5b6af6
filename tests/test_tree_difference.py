"""What was replaced in a tree, told from its bytes: the same as a reading of both says, or nothing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from safeai_git.core.objects import TreeEntry, format_tree, parse_tree
from safeai_git.git.tree_difference import MOST, replaced

IDS = st.one_of(
    st.binary(min_size=20, max_size=20),
    # what an entry's end, a mode or a name could be taken for
    st.sampled_from([b"\0" * 20, b"100644 a\0" + b"\0" * 11, b"40000 x\0" + b"x" * 12, b"b\0" + b"1" * 18]),
)
ENTRIES = st.builds(
    TreeEntry,
    st.sampled_from([b"100644", b"100755", b"40000", b"120000", b"160000", b"0100644"]),
    st.sampled_from([b"a", b"b", b"a.py", b"1 2", b"\n", b"100644", b"x" * 300, b"\xff"]),
    IDS,
)
TREES = st.lists(ENTRIES, max_size=30, unique_by=lambda entry: entry.name)


@given(TREES, st.data())
@settings(max_examples=400)
def test_it_is_what_a_reading_of_both_says(before: list[TreeEntry], data: st.DataObject) -> None:
    after = [
        entry._replace(raw_id=data.draw(IDS), raw_mode=data.draw(st.sampled_from([b"100644", b"40000"])))
        if data.draw(st.booleans())
        else entry
        for entry in before
    ]
    found = replaced(format_tree(before), format_tree(after), 20)
    expected = [(was, now) for was, now in zip(before, after, strict=True) if was != now]
    assert found == (expected if len(expected) <= MOST else None)


@given(TREES, TREES)
@settings(max_examples=400)
def test_other_names_are_left_to_a_reading(before: list[TreeEntry], after: list[TreeEntry]) -> None:
    found = replaced(format_tree(before), format_tree(after), 20)
    if [entry.name for entry in before] != [entry.name for entry in after]:
        assert found is None
    else:
        assert found is None or found == [
            pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]
        ]


@given(st.binary(max_size=80), st.binary(max_size=80))
@settings(max_examples=400)
def test_what_is_no_tree_is_none(one: bytes, other: bytes) -> None:
    """Whatever two runs of bytes are, they are told apart only where both can be read."""
    whole = format_tree([TreeEntry(b"100644", b"a", b"\1" * 20)])
    for before, after in ((one, other), (whole + one, whole + other), (one, whole), (whole, one)):
        found = replaced(before, after, 20)
        if found is not None:
            assert found == [
                pair for pair in zip(parse_tree(before), parse_tree(after), strict=True) if pair[0] != pair[1]
            ]


def test_longer_names_of_objects() -> None:
    tree = [TreeEntry(b"100644", b"a%d" % number, b"%032d" % number) for number in range(200)]
    other = [*tree[:77], tree[77]._replace(raw_id=b"z" * 32), *tree[78:]]
    assert replaced(format_tree(tree), format_tree(other), 32) == [(tree[77], other[77])]
    assert replaced(format_tree(tree), format_tree(other), 20) is None
