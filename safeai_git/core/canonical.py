"""Canonical JSON (RFC 8785) out, strict I-JSON (RFC 7493) in.

Promises that equal values give equal bytes, and that whatever `loads` accepts has one meaning for every reader:
UTF-8, no duplicate keys, no lone surrogates, integers that a double holds exactly. Refuses everything else with
`FormatError`, and never reads past the size and the nesting that the caller allows.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import NoReturn, TypeAlias

import rfc8785

from safeai_git.core.errors import FormatError

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
"""What `loads` gives."""

JSONLike: TypeAlias = "bool | int | float | str | Sequence[JSONLike] | Mapping[str, JSONLike] | None"
"""What `dumps` takes: lists or tuples, and dictionaries with string keys."""

MAX_INTEGER = 2**53 - 1
"""The largest integer that every JSON reader holds exactly (RFC 7493 §2.2)."""

_MAX_INTEGER_CHARACTERS = len(str(-MAX_INTEGER))


def dumps(value: JSONLike) -> bytes:
    """Write a value as canonical JSON.

    Args:
        value: Integers within ±(2^53 - 1), finite floats, strings without lone surrogates.

    Returns:
        UTF-8 bytes without a final newline, the same for equal values.

    Raises:
        FormatError: The value has no canonical form.
    """
    try:
        written = _ENCODER.encode(value)
        if _is_plain(value):
            return written.encode("utf-8")
    except (ValueError, TypeError, RecursionError):  # among them a cycle and half a surrogate pair
        pass  # the library says what is wrong
    try:
        return rfc8785.dumps(value)
    except RecursionError:
        raise FormatError("the value is nested too deeply, or in itself, to be written as JSON") from None
    except UnicodeEncodeError:
        # The library orders the keys before it checks them, so this one comes out raw.
        raise FormatError("an object's key holds half of a surrogate pair, which JSON cannot carry") from None
    except rfc8785.CanonicalizationError as error:
        raise FormatError(f"the value has no canonical JSON form: {error}") from error


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True)
"""Python's own, in C and five times as quick: canonical for what `_is_plain` names."""


def _is_plain(value: object) -> bool:
    """Whether Python's JSON of a value is canonical: it escapes strings as RFC 8785 does, and sorts such keys alike.

    Not for numbers with a fraction, and not for keys beyond ASCII, which are sorted by their UTF-16 there.

    Args:
        value: Something without cycles.
    """
    pending = [value]
    for item in pending:
        kind = type(item)
        if kind is dict:
            for key in item:  # type: ignore[attr-defined]
                if type(key) is not str or not key.isascii():
                    return False
            pending += item.values()  # type: ignore[attr-defined]
        elif kind is list or kind is tuple:
            pending += item  # type: ignore[arg-type]
        elif kind is int:
            if not -MAX_INTEGER <= item <= MAX_INTEGER:  # type: ignore[operator]
                return False
        elif kind is not str and kind is not bool and item is not None:
            return False
    return True


def loads(data: bytes, *, limit: int, depth: int = 32) -> JSON:
    """Read one JSON value that need not be canonical but must be unambiguous.

    Args:
        data: The bytes, UTF-8 without a byte order mark.
        limit: The largest number of bytes to read.
        depth: The deepest nesting of arrays and objects; a bare number or string has depth 0.

    Raises:
        FormatError: Too long, too deep, not UTF-8, not JSON, or JSON that two readers could read differently.
    """
    if len(data) > limit:
        raise FormatError(f"the JSON is {len(data):,} bytes long; at most {limit:,} are read")
    try:
        value: JSON = _DECODER.decode(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise FormatError(f"the JSON is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise FormatError(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise FormatError(f"the JSON is nested more than {depth} deep") from None
    # Without an escape no string can hold half a surrogate pair, and what opens less often cannot be nested deeper.
    if b"\\u" in data or data.count(b"{") + data.count(b"[") > depth:
        _check(value, depth)
    return value


def digest(value: JSONLike) -> str:
    """SHA-256 of the canonical form: 64 lower-case hex digits, without an algorithm prefix."""
    return hashlib.sha256(dumps(value)).hexdigest()


def _object(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise FormatError(f"the key {twice!a} stands twice in one JSON object")
    return result


def _integer(text: str) -> int:
    # The length first: int() of a very long text is slow, or refused with an error of its own.
    if len(text) > _MAX_INTEGER_CHARACTERS or abs(int(text)) > MAX_INTEGER:
        raise FormatError(f"the JSON holds an integer beyond 2^53 - 1: {text[:20]}")
    return int(text)


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise FormatError(f"the JSON holds a number beyond the range of a double: {text[:20]}")
    return number


def _constant(text: str) -> NoReturn:
    raise FormatError(f"{text} is not a JSON value")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
)
"""Made once: a verification reads thousands of statements."""


def _check(value: JSON, depth: int) -> None:
    """Bound the nesting and refuse surrogates, which an escape smuggles past the UTF-8 decoder."""
    level: list[JSON] = [value]
    left = depth
    while level:
        below: list[JSON] = []
        for item in level:
            if isinstance(item, str):
                _check_text(item)
            elif isinstance(item, dict | list):
                if left == 0:
                    raise FormatError(f"the JSON is nested more than {depth} deep")
                if isinstance(item, dict):
                    for key in item:
                        _check_text(key)
                    below.extend(item.values())
                else:
                    below.extend(item)
        level = below
        left -= 1


def _check_text(text: str) -> None:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise FormatError(f"the JSON string {text[:20]!a} holds half of a surrogate pair") from None
