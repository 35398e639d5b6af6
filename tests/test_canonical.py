"""Canonical JSON: the vectors of RFC 8785 and what strict reading refuses."""

from __future__ import annotations

import enum
import json
import math
import struct
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from safeai_git.core import canonical
from safeai_git.core.errors import FormatError

# RFC 8785, appendix B: the bits of a double, and how it is written.
NUMBERS = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"),
    ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]

SAFE_INTEGERS = st.integers(-canonical.MAX_INTEGER, canonical.MAX_INTEGER)
# Doubles of 2^53 and more that are whole are written like integers, which the reader refuses.
FLOATS = st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: abs(number) < 2**53)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | SAFE_INTEGERS | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(("bits", "written"), NUMBERS)
def test_numbers_are_written_as_in_rfc_8785_appendix_b(bits: str, written: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical.dumps(number) == written.encode()


def test_keys_are_sorted_by_utf_16_as_in_rfc_8785_section_3_2_3() -> None:
    value = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    assert list(json.loads(canonical.dumps(value)).values()) == [
        "Carriage Return",
        "One",
        "Control",
        "Latin Small Letter O With Diaeresis",
        "Euro Sign",
        "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
    ]


def test_the_example_of_rfc_8785_section_3_2_4() -> None:
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    assert canonical.dumps(value) == (
        b'{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        b'"string":"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


def test_the_digest_is_bare_hex_and_does_not_depend_on_the_order_of_the_keys() -> None:
    # printf '{"a":1,"b":2}' | sha256sum
    expected = "43258cff783fe7036d8a43033f830adfc60ec037382473548ac742b888292777"
    assert canonical.digest({"b": 2, "a": 1}) == canonical.digest({"a": 1, "b": 2}) == expected


def circular() -> object:
    value: list[object] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [
        2**53,
        -(2**53),
        math.nan,
        math.inf,
        -math.inf,
        "\ud800",
        {"\udfff": 1},
        {"a": 1, "\udfff": 1},
        {1: 2},
        {b"a": 1},
        {None: 1, "a": 2},
        b"bytes",
        {1, 2},
        pytest.param(object(), id="object"),
        circular(),
    ],
    ids=str,
)
def test_what_is_not_i_json_is_not_written(value: object) -> None:
    with pytest.raises(FormatError):
        canonical.dumps(value)  # type: ignore[arg-type]


@given(VALUES)
def test_what_is_written_reads_back_the_same(value: canonical.JSON) -> None:
    data = canonical.dumps(value)
    assert canonical.loads(data, limit=len(data)) == value
    assert canonical.dumps(canonical.loads(data, limit=len(data))) == data


WRITTEN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.text('\x00\x1f "\\/\x7f\u2028\ud800\U00010000\ue000'),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner)
        | st.dictionaries(st.text('aA_\x00"é\ue000\U00010000') | st.none() | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(WRITTEN)
@example({"\U00010000": 0, "\ue000": 0})
@example({"a": 1.0})
@example([2**53])
@example([-(2**53)])
@example({1: "a"})
@example([True, 1, None])
def test_the_quick_way_writes_what_the_library_writes_or_leaves_it_to_it(value: canonical.JSON) -> None:
    try:
        expected = rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, TypeError):
        with pytest.raises((FormatError, TypeError)):
            canonical.dumps(value)
    else:
        assert canonical.dumps(value) == expected


def test_the_quick_way_takes_everything_that_statements_are_made_of() -> None:
    most = canonical.MAX_INTEGER
    for one in ({"a": "é"}, ["a"], ("a",), [1, most, -most], [True], [None]):
        assert canonical._is_plain(one)


def test_the_largest_integers_are_read() -> None:
    most = canonical.MAX_INTEGER
    assert canonical.loads(b"[%d,-%d]" % (most, most), limit=100) == [most, -most]


@pytest.mark.parametrize("kind", [enum.IntEnum("Number", ["ONE"]), enum.StrEnum("Text", ["ONE"])])
def test_a_value_of_a_kind_of_its_own_is_the_librarys_to_write(kind: Any) -> None:
    assert canonical.dumps([kind.ONE]) == rfc8785.dumps([kind.ONE])
    assert canonical.dumps({"a": kind.ONE}) == rfc8785.dumps({"a": kind.ONE})


@given(VALUES)
def test_plain_json_of_the_same_value_reads_the_same(value: canonical.JSON) -> None:
    loose = json.dumps(value, indent=1, ensure_ascii=True).encode()
    assert canonical.loads(loose, limit=len(loose)) == value


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"1 2", "not JSON"),
        (b"'a'", "not JSON"),
        (b'{"a":1,}', "not JSON"),
        (b'"\x00"', "not JSON"),
        (b"01", "not JSON"),
        (b"\xef\xbb\xbf1", "not JSON"),
        (b'"\xff"', "not UTF-8 at byte 1"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        ('"a"'.encode("utf-16"), "not UTF-8"),
        ("1".encode("utf-32-be"), "not JSON"),
        (b'{"a":1,"a":1}', "'a' stands twice"),
        (b'{"b":1,"a":1,"c":1,"a":1}', "'a' stands twice"),
        (b'{"a":1,"b":1,"\\u0061":2}', "'a' stands twice"),
        (b'[{"k":{"x":1,"x":2}}]', "'x' stands twice"),
        (b"NaN", "NaN is not"),
        (b"[Infinity]", "Infinity is not"),
        (b"-Infinity", "-Infinity is not"),
        (b"1e999", "beyond the range of a double"),
        (b"-1e999", "beyond the range of a double"),
        (b"9007199254740992", "beyond 2^53 - 1"),
        (b"-9007199254740992", "beyond 2^53 - 1"),
        (b"9" * 5000, "beyond 2^53 - 1"),
        (b'"\\ud800"', "half of a surrogate pair"),
        (b'{"\\udc00x":1}', "half of a surrogate pair"),
        (b'[["\\udc00\\ud800"]]', "half of a surrogate pair"),
    ],
)
def test_B89_json_that_readers_could_read_differently_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(FormatError) as caught:
        canonical.loads(data, limit=10_000)
    assert complaint in caught.value.message


def test_escaped_pairs_of_surrogates_are_one_character() -> None:
    assert canonical.loads(b'"\\ud83d\\ude00"', limit=100) == "\U0001f600"


def test_B89_size_is_bounded_before_anything_is_read() -> None:
    assert canonical.loads(b"[1]", limit=3) == [1]
    with pytest.raises(FormatError, match="4 bytes long; at most 3"):
        canonical.loads(b"[12]", limit=3)


@pytest.mark.parametrize("bracket", [(b"[", b"]"), (b'{"a":', b"}")])
@pytest.mark.parametrize("inside", [b"", b"1"])
def test_B89_nesting_is_bounded_to_the_exact_level(bracket: tuple[bytes, bytes], inside: bytes) -> None:
    opening, closing = bracket
    if opening != b"[" and not inside:
        inside = b"{}"

    def nested(levels: int) -> bytes:
        around = levels - inside.count(b"{")
        return opening * around + inside + closing * around

    assert canonical.loads(nested(5), limit=1000, depth=5) is not None
    with pytest.raises(FormatError, match="more than 5 deep"):
        canonical.loads(nested(6), limit=1000, depth=5)


def test_a_bare_value_has_depth_zero() -> None:
    assert canonical.loads(b"1", limit=10, depth=0) == 1
    with pytest.raises(FormatError, match="more than 0 deep"):
        canonical.loads(b"[]", limit=10, depth=0)


def test_B89_absurd_nesting_is_refused_without_a_crash() -> None:
    with pytest.raises(FormatError, match="nested more than 32 deep"):
        canonical.loads(b"[" * 100_000 + b"]" * 100_000, limit=1_000_000)


@given(st.binary(max_size=200))
def test_whatever_bytes_come_the_answer_is_a_value_or_a_refusal(data: bytes) -> None:
    try:
        value = canonical.loads(data, limit=200)
    except FormatError:
        return
    assert json.loads(data) == value
