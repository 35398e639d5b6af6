"""What an expression may be before it is compiled: a reading of its text that bounds what evaluating it can cost.

The library has no budget of its own and cannot be interrupted, so the bounds are static. They hold since

- values only grow by ``+``, of which there are few, and are bound to names only by macros, which nest two deep;
- a macro ranges over ``edits`` or over a list that is written out, and ``edits`` stands nowhere that a value could
  carry it away (``map`` and ``filter`` are refused: each step of theirs copies what was gathered before it);
- a regular expression is written out, so that its size is known: the library compiles it anew for each evaluation.

`examine` refuses the rest with `PolicyError` and returns the cost as a polynomial in the number of edits. The library
still parses the text itself; what this reading lets through and that one refuses is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from msgspec import Struct

from safeai_git.core.errors import PolicyError
from safeai_git.core.expression_tokens import Token, refuse, tokens
from safeai_git.core.policy_faults import guess
from safeai_git.core.policy_parts import MAX_WHEN

CHANGE_FACTS: dict[str, type] = {
    "edits": int,
    "total_size": int,
    "lines_added": int,
    "lines_removed": int,
    "bytes_added": int,
    "bytes_removed": int,
    "author_class": str,
    "agent": str,
    "branch": str,
    "repository": str,
}
EDIT_FACTS: dict[str, type] = {
    "path": str,
    "status": str,
    "old_mode": str,
    "new_mode": str,
    "size": int,
    "lines_added": int,
    "lines_removed": int,
    "bytes_added": int,
    "bytes_removed": int,
    "binary": bool,
    "symlink": bool,
    "lfs": bool,
}
"""The names and types of what `safeai_git.core.facts` makes."""

FUNCTIONS = frozenset(
    {"size", "contains", "startsWith", "endsWith", "matches", "has", "int", "uint", "double", "string"}
)
MACROS = frozenset({"all", "exists", "exists_one"})
WORDS = frozenset({"true", "false", "null", "in"})
MOST_SUMS = 16
DEEPEST = 2
LARGEST_REGEX = 4_096
CLASS_UNITS = 50
REGEX_STEPS = 25

_REPEAT = re.compile(r"\{[^{}]*\}")
_UNICODE = re.compile(r"\\[wWdDsSpPbB]|\(\?[a-zA-Z]*i|\[:")
_CLOSING = {")": "(", "]": "[", "}": "{"}


class Cost(Struct, frozen=True):
    """Steps of one evaluation, each about a fifth of a microsecond: ``once + each * n + pairs * n * n`` for ``n`` edits."""

    once: int
    each: int
    pairs: int

    def steps(self, edits: int) -> int:
        """The steps for a number of edits."""
        return self.once + self.each * edits + self.pairs * edits * edits


class Reading(Struct, frozen=True):
    """What `examine` learnt: the cost, and the regular expressions as they are written."""

    cost: Cost
    regexes: tuple[str, ...]


@dataclass(slots=True)
class _Open:
    """An open bracket, and what it multiplies if it is a macro's."""

    sign: str
    at: int
    is_list: bool
    bound: str = ""
    over_edits: bool = False
    times: int = 1


def examine(text: str, *, each: str) -> Reading:
    """Read an expression.

    Args:
        text: As the policy writes it.
        each: ``edit`` when the rule is asked of each edit, so that ``edit`` is there; otherwise ``change``.

    Raises:
        PolicyError: It is no expression that a rule may have; the message has the line and the column in it.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_WHEN:
        raise PolicyError(f"the expression has more than {MAX_WHEN:,} bytes", hint="make two rules of it")
    return _Reader(text, each).read()


def regex_units(written: str) -> int:
    """A bound for how large a regular expression becomes when its counted repetitions are written out."""
    units = len(written) + CLASS_UNITS * len(_UNICODE.findall(written))
    for repeat in _REPEAT.findall(written):
        units *= (
            max([min(int(number), LARGEST_REGEX) for number in re.findall(r"[0-9]{1,9}", repeat)] or [1]) or 1
        )
        units = min(units, LARGEST_REGEX + 1)
    return units


@dataclass(slots=True)
class _Reader:
    text: str
    each: str
    open: list[_Open] = field(default_factory=list)
    literals: dict[int, int] = field(default_factory=dict)
    """Items of the list literal that ends with the token of this index."""
    steps: list[int] = field(default_factory=lambda: [0, 0, 0])
    regexes: list[str] = field(default_factory=list)
    found: list[Token] = field(default_factory=list)

    def read(self) -> Reading:
        self.found = tokens(self.text)
        sums = [token for token in self.found if token.text == "+"]
        if len(sums) > MOST_SUMS:
            self._refuse(
                sums[MOST_SUMS], f"an expression adds at most {MOST_SUMS} times", "make two rules of it"
            )
        for i, token in enumerate(self.found):
            self._weigh(1)
            if token.kind == "name" and token.text not in WORDS:
                self._name(i, token)
            elif token.text in ("(", "[", "{"):
                self._opened(i, token)
            elif token.text in _CLOSING:
                self._closed(i, token)
            elif token.text == "," and self.open and not self.open[-1].bound:
                self.open[-1].times += 1
        if self.open:
            refuse(self.text, self.open[-1].at, f"the '{self.open[-1].sign}' is never closed")
        return Reading(Cost(*self.steps), tuple(self.regexes))

    def _refuse(self, token: Token, what: str, hint: str = "") -> None:
        refuse(self.text, token.at, what, hint)

    def _peek(self, i: int) -> str:
        return self.found[i].text if 0 <= i < len(self.found) and self.found[i].kind != "string" else ""

    def _weigh(self, steps: int) -> None:
        power, times = 0, 1
        for one in self.open:
            if one.bound:
                power, times = power + one.over_edits, times * (1 if one.over_edits else one.times)
        self.steps[power] += steps * times

    def _is_value(self, i: int) -> bool:
        """Whether the token ends a value, so that a bracket behind it indexes or calls and a dot selects."""
        if i < 0:
            return False
        token = self.found[i]
        return (
            token.kind in ("string", "number")
            or token.text in _CLOSING
            or (token.kind == "name" and token.text != "in")
        )

    def _name(self, i: int, token: Token) -> None:
        called = self._peek(i + 1) == "("
        if self._peek(i - 1) == ".":
            if not self._is_value(i - 2):
                self._refuse(token, "a name cannot begin with a dot")
            self._method(i, token) if called else self._field(i, token)
        elif called:
            if token.text not in FUNCTIONS - {"matches", "contains", "startsWith", "endsWith"}:
                self._unknown(token, "function", FUNCTIONS)
        elif self._peek(i + 1) == "{":
            self._refuse(token, "messages cannot be built here")
        elif all(token.text != one.bound for one in self.open) and not self._is_binding(i):
            known = ("change", "edits", "edit") if self.each == "edit" else ("change", "edits")
            if token.text not in known:
                missing = "'edit' is only there in a rule with 'each: edit'" if token.text == "edit" else ""
                self._unknown(token, "name", known, missing)
            if token.text == "edits" and not self._may_stand(i):
                hint = "it can be ranged over (edits.exists(e, ...)), counted (size(edits)) and indexed (edits[0])"
                self._refuse(token, "'edits' cannot be passed about", hint)

    def _unknown(self, token: Token, what: str, known: object, hint: str = "") -> None:
        options = sorted(set(known))  # type: ignore[call-overload]
        hint = hint or guess(token.text, options) or f"there are: {', '.join(options)}"
        self._refuse(token, f"there is no {what} '{token.text[:64]}' here", hint)

    def _is_binding(self, i: int) -> bool:
        return self._peek(i - 1) == "(" and self._peek(i - 2) in MACROS and self._peek(i - 3) == "."

    def _may_stand(self, i: int) -> bool:
        after, method = self._peek(i + 1), self._peek(i + 2)
        if after == ".":
            return method in MACROS or method in ("size", "map", "filter")  # the last two are refused by name
        return after == "[" or (self._peek(i - 2) == "size" and self._peek(i - 1) == "(" and after == ")")

    def _field(self, i: int, token: Token) -> None:
        owner = self._peek(i - 2)
        if self._peek(i - 3) == ".":
            return
        facts = {"change": CHANGE_FACTS, "edit": EDIT_FACTS}.get(owner)
        for one in self.open:
            if owner and one.bound == owner:
                facts = EDIT_FACTS if one.over_edits else None
        if facts is not None and token.text not in facts:
            self._unknown(token, "fact", facts)

    def _method(self, i: int, token: Token) -> None:
        if token.text in ("map", "filter"):
            hint = "use exists, exists_one or all; they stop early and copy nothing"
            self._refuse(token, f"'{token.text}' is not offered", hint)
        if token.text == "matches":
            self._matches(i, token)
        elif token.text not in MACROS and token.text not in ("size", "contains", "startsWith", "endsWith"):
            self._unknown(
                token, "function", (FUNCTIONS | MACROS) - {"int", "uint", "double", "string", "has"}
            )

    def _matches(self, i: int, token: Token) -> None:
        written = self.found[i + 2] if i + 3 < len(self.found) else token
        if written.kind != "string" or self._peek(i + 3) != ")":
            self._refuse(
                token, "'matches' takes one regular expression that is written out", "text.matches(r'...')"
            )
        raw = re.match(r"[rR]", written.text) is not None
        if not raw and "\\" in written.text:
            self._refuse(
                written, "a regular expression with a backslash has to be a raw string", "write r'...'"
            )
        units = regex_units(written.text)
        if units > LARGEST_REGEX:
            self._refuse(written, "the regular expression is too large", "use smaller counts in {...}")
        self.regexes.append(written.text)
        self._weigh(units * REGEX_STEPS)

    def _opened(self, i: int, token: Token) -> None:
        is_list = token.text == "[" and not self._is_value(i - 1)
        one = _Open(token.text, token.at, is_list)
        if token.text == "(" and self._peek(i - 1) in MACROS and self._peek(i - 2) == ".":
            self._bind(i, token, one)
        self.open.append(one)

    def _bind(self, i: int, token: Token, one: _Open) -> None:
        name = self.found[i + 1] if i + 2 < len(self.found) else token
        if name.kind != "name" or name.text in WORDS or self._peek(i + 2) != ",":
            self._refuse(
                token, "a macro takes a name and a condition", "for example edits.exists(e, e.binary)"
            )
        if name.text in ("change", "edit", "edits") or any(name.text == outer.bound for outer in self.open):
            self._refuse(name, f"'{name.text}' is taken", "give the macro's variable a name of its own")
        one.bound = name.text
        one.over_edits = self._peek(i - 3) == "edits" and self._peek(i - 4) != "."
        if not one.over_edits and i - 3 not in self.literals:
            self._refuse(token, "a macro ranges over 'edits' or over a list that is written out")
        one.times = 1 if one.over_edits else self.literals[i - 3]
        if sum(1 for outer in self.open if outer.bound) >= DEEPEST:
            self._refuse(token, "a macro within a macro within a macro is refused", "make two rules of it")

    def _closed(self, i: int, token: Token) -> None:
        if not self.open or self.open[-1].sign != _CLOSING[token.text]:
            self._refuse(token, f"the '{token.text}' closes nothing")
        one = self.open.pop()
        if one.is_list:
            self.literals[i] = one.times
