"""Policy files: bytes in, a `Policy` out. The only door to YAML.

Takes the part of YAML 1.2 that every reader reads alike: mappings, lists, quoted and block text, ``true``, ``false``,
``null``, decimal numbers. Refuses what two readers could read differently or a person could overlook: duplicate keys,
anchors, aliases, merge keys, tags, several documents, ``yes`` and ``0777``, tabs, invisible characters. Reports every
mistake of a file at once, each with its line and column.

The parser's events are walked, never its objects: nothing is constructed that was not asked for, an alias cannot
multiply anything, and depth costs no stack.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import yaml

from safeai_git.core.errors import PolicyError
from safeai_git.core.policy import LARGEST_POLICY, Policy
from safeai_git.core.policy_faults import KEY, UNREADABLE, Fault, Faults, Place, show

DEEPEST = 16
MOST_DIGITS = 20
_NOWHERE: Place = (KEY,)
"""The place of what nobody reads."""

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml where PyYAML was built with it, ten times faster; otherwise PyYAML's own."""

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?\Z")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
_TRUE = frozenset({"yes", "on", "y", "true"})
_FALSE = frozenset({"no", "off", "n", "false"})
# What YAML 1.1 or the core schema of 1.2 takes for something else than text (yaml.org/type; YAML 1.2.2 §10.3.2).
_AMBIGUOUS = re.compile(
    r"[-+]?([0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|\.[0-9][0-9_]*([eE][-+]?[0-9]+)?"
    r"|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?|0b[01_]+|0x[0-9a-fA-F_]+|0o[0-7_]+|[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?|\.(inf|Inf|INF))\Z|\.(nan|NaN|NAN)\Z"
)
# Controls, every line break but LF and CRLF, and what Unicode hides or reorders (UTS 39, Trojan Source).
_HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\ufff9-\ufffb\ufffe\uffff\U000e0000-\U000e0fff]|\r(?!\n)"
)
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(slots=True)
class Document:
    """A file taken apart: plain data, where each value stands, and what was wrong on the way."""

    source: str
    data: Any = None
    positions: dict[Place, tuple[int, int]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def note(self, line: int, column: int, what: str, hint: str = "") -> None:
        """Remember a mistake."""
        self.faults.append(Fault(line, column, what, hint))

    def check(self) -> None:
        """Raise what was noted.

        Raises:
            PolicyError: Anything was.
        """
        Faults(self.source, self.positions, list(self.faults)).check()


def load(data: bytes, source: str) -> Policy:
    """Read a policy.

    Args:
        data: The file's bytes.
        source: What to call it in messages.

    Raises:
        PolicyError: It is no valid policy; the message lists every mistake as ``source:line:column: what``.
    """
    document = parse(data, source)
    digest = hashlib.sha256(data).hexdigest()
    return Policy.from_data(document.data, document.positions, source, digest, document.faults)


def parse(data: bytes, source: str) -> Document:
    """Take a file apart. Mistakes that leave a document are noted in it; its `Document.check` raises them.

    Raises:
        PolicyError: There is no document: empty, too large, not UTF-8, or broken off by a mistake of syntax.
    """
    document = Document(source)
    text = _text(data, document)
    try:
        _Walk(document).run(yaml.parse(text, Loader=LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        what = " ".join(str(part) for part in (error.context, error.problem) if part)
        document.note(line, column, f"not YAML: {what}", "check the indentation and the quotes")
        document.check()
    except (
        yaml.YAMLError,
        ValueError,
        OverflowError,
    ) as error:  # the last two: PyYAML's own, on absurd escapes
        document.note(0, 0, f"not YAML: {' '.join(str(error).split())}")
        document.check()
    return document


def _text(data: bytes, document: Document) -> str:
    if len(data) > LARGEST_POLICY:
        raise PolicyError(f"{document.source}: the file has more than {LARGEST_POLICY:,} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        what = f"the byte 0x{data[error.start]:02x} is not UTF-8"
        raise PolicyError(
            f"{document.source}:{line}:{column}: {what}", hint="save the file as UTF-8"
        ) from error
    for match in _HIDDEN.finditer(text):
        shown = f"U+{ord(match.group()):04X}"
        document.note(*_at(text, match.start()), f"the invisible character {shown}", _HIDDEN_HINT)
    for match in re.finditer("\t+", text):
        document.note(
            *_at(text, match.start()), "a tab", 'use spaces; in text write "\\t" between double quotes'
        )
    if document.faults:
        document.check()
    return text


_HIDDEN_HINT = 'remove it; where it is meant, write it as "\\u...." between double quotes'


def _at(text: str, offset: int) -> tuple[int, int]:
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


@dataclass(slots=True)
class _Level:
    """An open mapping or list."""

    value: Any
    place: Place
    keys: dict[str, int] = field(default_factory=dict)
    key: str | None = None
    skipping: bool = False
    """The coming value belongs to a key that could not be used; nobody reads it."""

    @property
    def wants_key(self) -> bool:
        """Whether the next node is a key."""
        return isinstance(self.value, dict) and self.key is None and not self.skipping


@dataclass(slots=True)
class _Walk:
    document: Document
    levels: list[_Level] = field(default_factory=list)
    documents: int = 0

    def run(self, events: Iterable[Any]) -> None:
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._started(event)
            elif isinstance(event, yaml.NodeEvent):
                self._node(event)
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                self.levels.pop()
        empty = not self.documents or self.document.data is None
        if empty and not self.document.faults:
            hint = "write at least 'safe_mode: true', or delete the file to have the built-in policy"
            raise PolicyError(f"{self.document.source}: the file says nothing", hint=hint)

    def _note(self, event: Any, what: str, hint: str = "") -> None:
        self.document.note(event.start_mark.line + 1, event.start_mark.column + 1, what, hint)

    def _started(self, event: Any) -> None:
        self.documents += 1
        if event.version or event.tags:
            self._note(event, "a directive ('%...')", "remove it; the file is read as YAML 1.2")
        if self.documents > 1:
            self._note(
                event, "a second document", "a policy is one document: remove the '---' and what follows"
            )
            self.document.check()

    def _node(self, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent):
            self._note(event, f"an alias (*{str(event.anchor)[:64]})", "write the value out")
            self._place(event, UNREADABLE)
            return
        if event.anchor:
            self._note(
                event, f"an anchor (&{str(event.anchor)[:64]})", "remove it; aliases are not read either"
            )
        if event.tag:
            self._note(event, f"a tag ({show(event.tag)})", "remove it; the key decides what its value is")
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
            return
        value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        place = self._place(event, value)
        self.levels.append(_Level(value, place))
        if len(self.levels) > DEEPEST:
            self._note(event, f"nested deeper than {DEEPEST} levels")
            self.document.check()

    def _scalar(self, event: Any) -> None:
        if _SURROGATE.search(event.value):
            self._note(
                event, "half of a surrogate pair", "write the character itself, or \\U and eight digits"
            )
            event = yaml.ScalarEvent(None, "!", (False, False), "", event.start_mark, event.end_mark)
        plain = not event.style and not event.tag  # None or the empty string, by loader
        level = self.levels[-1] if self.levels else None
        if level is not None and level.wants_key:
            self._key(event, level, plain=plain)
            return
        if event.tag:
            self._place(event, UNREADABLE)
        else:
            self._place(event, self._plain(event) if plain else event.value)

    def _key(self, event: Any, level: _Level, *, plain: bool) -> None:
        key: str = event.value
        mark = event.start_mark
        if plain and key == "<<":
            self._note(event, "a merge key (<<)", "write the values out")
        elif plain and not isinstance(self._plain(event), str):
            self._note(event, f"the key {show(key)} is not text", "put it in quotes")
        elif key in level.keys:
            what = f"the key {show(key)} stands here a second time; the first is in line {level.keys[key]}"
            self._note(event, what, "remove one of them")
        else:
            level.keys[key] = mark.line + 1
            level.key = key
            if level.place != _NOWHERE:
                self.document.positions[(*level.place, key, KEY)] = (mark.line + 1, mark.column + 1)
            return
        level.skipping = True

    def _place(self, event: Any, value: Any) -> Place:
        """Put a value where it belongs and remember where it stands."""
        if not self.levels:
            self.document.data = value
            place: Place = ()
        else:
            level = self.levels[-1]
            if isinstance(level.value, list):
                place = (*level.place, len(level.value))
                level.value.append(value)
            elif level.wants_key:
                if value is not UNREADABLE:
                    self._note(event, "a key that is not text", "write the key as a word")
                level.skipping = True
                return _NOWHERE
            elif level.key is None:
                level.skipping = False
                return _NOWHERE
            else:
                place = (*level.place, level.key)
                level.value[level.key] = value
                level.key = None
            if level.place == _NOWHERE:
                return _NOWHERE
        self.document.positions[place] = (event.start_mark.line + 1, event.start_mark.column + 1)
        return place

    def _plain(self, event: Any) -> Any:
        """What an unquoted scalar stands for."""
        text: str = event.value
        if text in _WORDS:
            return _WORDS[text]
        small = text.lower()
        if small in _TRUE or small in _FALSE:
            word = "true" if small in _TRUE else "false"
            self._note(
                event,
                f"{show(text)} is text to some readers and {word} to others",
                f'write {word}, or "{text}"',
            )
            return UNREADABLE
        if small == "null":
            self._note(
                event, f"{show(text)} is text to some readers and null to others", f'write null, or "{text}"'
            )
            return UNREADABLE
        if _INTEGER.match(text):
            if len(text) <= MOST_DIGITS:
                return int(text)
        elif _FLOAT.match(text) and math.isfinite(float(text)):
            return float(text)
        if _AMBIGUOUS.match(text):
            what = (
                "is a number that a policy cannot hold"
                if _FLOAT.match(text)
                else "is a number or a date to some readers only"
            )
            shown = text if len(text) <= 40 else "..."
            self._note(
                event,
                f"{show(text)} {what}",
                f'a number is written in plain decimal digits, text as "{shown}"',
            )
            return UNREADABLE
        return text
