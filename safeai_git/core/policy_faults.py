"""Reading plain data strictly: each value is asked for by name and type, and everything wrong is noted, not the first.

A `Section` is one mapping of the document. A reader function takes a value and returns what it stands for or raises
`Refused`; the section notes the refusal with its position and goes on with the default, so that one run reports every
mistake of a file. `Faults.check` then turns what was noted into one `PolicyError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from msgspec import Struct

from safeai_git.core.errors import PolicyError

T = TypeVar("T")
Place = tuple[str | int, ...]
"""Where a value stands: keys and list indices from the top of the document."""

Positions = Mapping[Place, tuple[int, int]]
"""Line and column, from 1, of the value at a place; of its key, at the place with `KEY` appended."""

KEY = -1
UNREADABLE = object()
"""Stands for a value that was already refused when the file was taken apart; nothing more is said about it."""

MOST_FAULTS = 50
LONGEST_GUESS = 64
KEYS_HINT = "'safeai-git policy schema' lists the keys"


class Refused(Exception):
    """A value is not what its key asks for."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


class Fault(Struct, frozen=True, order=True):
    """One mistake: where (0 where unknown), what, and the next step."""

    line: int
    column: int
    what: str
    hint: str = ""


@dataclass(slots=True)
class Faults:
    """Everything that is wrong with one document."""

    source: str
    positions: Positions
    noted: list[Fault] = field(default_factory=list)

    def note(self, place: Place, what: str, hint: str = "") -> None:
        """Remember a mistake, at the nearest place whose position is known."""
        near = place
        while near and near not in self.positions:
            near = near[:-1]
        line, column = self.positions.get(near, (0, 0))
        self.noted.append(Fault(line, column, what, hint))

    def check(self) -> None:
        """Raise what was noted, in the order of the file.

        Raises:
            PolicyError: Anything was noted. One fault has its own hint; several stand one a line, hints included.
        """
        faults = sorted(set(self.noted))
        if not faults:
            return
        if len(faults) == 1:
            raise PolicyError(self._line(faults[0]), hint=faults[0].hint)
        lines = [
            self._line(fault) + (f" ({fault.hint})" if fault.hint else "") for fault in faults[:MOST_FAULTS]
        ]
        if len(faults) > MOST_FAULTS:
            lines.append(f"{self.source}: and {len(faults) - MOST_FAULTS:,} more")
        raise PolicyError(
            "\n".join(lines), hint=f"mend all {len(faults):,}, then run 'safeai-git policy lint'"
        )

    def _line(self, fault: Fault) -> str:
        where = f"{self.source}:{fault.line}:{fault.column}" if fault.line else self.source
        return f"{where}: {fault.what}"


class Section:
    """One mapping of the document.

    Args:
        faults: Where mistakes are noted.
        value: What stands there; anything but a mapping with text for keys is noted and read as an empty one.
        place: Where that is.
        known: The keys that it may have.
        what: What to call it in a message.
    """

    def __init__(self, faults: Faults, value: Any, place: Place, known: Iterable[str], what: str) -> None:
        self._faults = faults
        self._place = place
        self._items: dict[str, Any] = {}
        self._is_there = isinstance(value, dict)
        if not isinstance(value, dict):
            if value is not UNREADABLE:
                faults.note(place, f"{what} must be a mapping, not {kind(value)}")
            return
        options = tuple(known)
        for key, item in value.items():
            if key in options:
                self._items[key] = item
            else:
                hint = f"the keys are: {', '.join(options)}" if len(options) < 10 else KEYS_HINT
                faults.note((*place, key, KEY), f"unknown key {show(key)}", guess(key, options) or hint)

    def get(self, key: str, read: Callable[[Any], T], default: T) -> T:
        """The value of a key, or the default where it is absent or refused."""
        if key not in self._items:
            return default
        value: T = self._read((*self._place, key), self._items[key], read, default)
        return value

    def need(self, key: str, read: Callable[[Any], T], default: T) -> T:
        """As `get`, of a key that has to be there. The default only stands in until the faults are raised."""
        if key not in self._items and self._is_there:
            self._faults.note(self._place, f"the key '{key}' is missing")
        return self.get(key, read, default)

    def many(
        self, key: str, read: Callable[[Any], T], most: int, default: tuple[T, ...] = ()
    ) -> tuple[T, ...]:
        """A list, each item read on its own."""
        if key not in self._items or not self._is_list(key, most):
            return default
        place = (*self._place, key)
        read_items = [self._read((*place, i), item, read, None) for i, item in enumerate(self._items[key])]
        return tuple(item for item in read_items if item is not None)

    def sections(self, key: str, known: Iterable[str], what: str, most: int) -> list[Section]:
        """A list of mappings."""
        if key not in self._items or not self._is_list(key, most):
            return []
        items = enumerate(self._items[key])
        return [
            Section(self._faults, item, (*self._place, key, i), known, f"{what} {i + 1}") for i, item in items
        ]

    def section(self, key: str, known: Iterable[str], *, optional: bool = False) -> Section | None:
        """A mapping below a key, ``None`` where the key is absent, or where it is null and that is `optional`."""
        if key not in self._items or (optional and self._items[key] is None):
            return None
        return Section(self._faults, self._items[key], (*self._place, key), known, f"'{key}'")

    def mapping(self, key: str, most: int) -> dict[Any, Any]:
        """The raw items of a mapping whose keys are names that the document chooses."""
        value = self._items.get(key, {})
        if value is UNREADABLE:
            return {}
        if not isinstance(value, dict):
            self.note(key, f"'{key}' must be a mapping, not {kind(value)}")
            return {}
        if len(value) > most:
            self.note(key, f"'{key}' has {len(value):,} entries; {most:,} are allowed")
        return value

    def note(self, key: str | None, what: str, hint: str = "") -> None:
        """Remember a mistake at a key of this mapping, or at the mapping itself."""
        self._faults.note(self._place if key is None else (*self._place, key), what, hint)

    def _is_list(self, key: str, most: int) -> bool:
        value = self._items[key]
        if value is UNREADABLE:
            return False
        if not isinstance(value, list):
            self.note(
                key,
                f"'{key}' must be a list, not {kind(value)}",
                "write it as [one, two]; [] is the empty list",
            )
            return False
        if len(value) > most:
            self.note(key, f"'{key}' has {len(value):,} items; {most:,} are allowed")
        return len(value) <= most

    def _read(self, place: Place, value: Any, read: Callable[[Any], T], default: Any) -> Any:
        if value is UNREADABLE:
            return default
        try:
            return read(value)
        except Refused as refused:
            name = (
                f"'{place[-1]}'" if isinstance(place[-1], str) else f"item {place[-1] + 1} of '{place[-2]}'"
            )
            self._faults.note(place, f"{name} {refused.what}", refused.hint)
            return default


def kind(value: object) -> str:
    """What to call a value's type in a message."""
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", float: "a fraction"}
    return "nothing" if value is None else names.get(type(value), "a number")


def show(value: object) -> str:
    """A foreign value in quotes, short, with everything that could confuse a terminal escaped."""
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:76] + "..." + shown[0]


def guess(word: object, options: Iterable[str]) -> str:
    """A did-you-mean, or nothing."""
    if not isinstance(word, str) or len(word) > LONGEST_GUESS:
        return ""
    close = difflib.get_close_matches(word.lower().replace("-", "_"), list(options), 1)
    close = close or difflib.get_close_matches(word.lower(), list(options), 1)
    return f"did you mean '{close[0]}'?" if close else ""
