"""Git's wildmatch on bytes: what a pattern consists of, and a regular expression that answers in linear time.

Answers as git's own function does (git, wildmatch.c), for every pattern and text. Of all stars but the last, the
leftmost shortest match leaves most of the text to those behind it, so none is ever tried twice: they are atomic
groups. The same holds one level up, for ``**`` over components; and what follows the last star of a component has a
known width, so it is looked at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final, Literal

from msgspec import Struct

SLASH: Final = 0x2F
UPPER: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
LOWER: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz")
_DIGIT: Final = frozenset(b"0123456789")
_BYTES: Final = frozenset(range(256))
_GRAPH: Final = frozenset(range(0x21, 0x7F))

# ASCII only, and white space without VT and FF: git's ctype.c, not the C library's.
_CLASSES: Final = {
    b"alnum": UPPER | LOWER | _DIGIT,
    b"alpha": UPPER | LOWER,
    b"blank": frozenset(b" \t"),
    b"cntrl": frozenset(range(0x20)) | {0x7F},
    b"digit": _DIGIT,
    b"graph": _GRAPH,
    b"lower": LOWER,
    b"print": _GRAPH | {0x20},
    b"punct": _GRAPH - UPPER - LOWER - _DIGIT,
    b"space": frozenset(b" \t\n\r"),
    b"upper": UPPER,
    b"xdigit": _DIGIT | frozenset(b"abcdefABCDEF"),
}


class GlobError(ValueError):
    """Git would match this pattern with nothing. Carries what is wrong and the next step."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


class Wild(Enum):
    """Of this there is only the star."""

    STAR = "*"


STAR: Final = Wild.STAR


class Bracket(Struct, frozen=True):
    """One byte of a set, or of its complement. ``?`` is the complement of nothing."""

    members: frozenset[int]
    negated: bool = False

    def accepted(self, *, pathname: bool = True) -> frozenset[int]:
        """Every byte that may stand here; a slash never, where slashes part components."""
        bytes_ = _BYTES - self.members if self.negated else self.members
        return bytes_ - {SLASH} if pathname else bytes_


Token = int | Bracket | Literal[Wild.STAR]

ANY: Final = Bracket(frozenset(), negated=True)
NOTHING: Final = Bracket(frozenset())


class Component(Struct, frozen=True):
    """What stands between two slashes of a pattern.

    ``strict`` says that the slash behind it was escaped: there git lets ``**`` not stand for no component at all.
    """

    tokens: tuple[Token, ...]
    strict: bool = False

    @property
    def is_double_star(self) -> bool:
        """Whether this is ``**``; git takes three and more for the same."""
        return len(self.tokens) > 1 and all(token is STAR for token in self.tokens)

    @property
    def literal(self) -> bytes | None:
        """Its bytes, if there is no wildcard among them."""
        found = bytes(token for token in self.tokens if isinstance(token, int))
        return found if len(found) == len(self.tokens) else None


def wildmatch(pattern: bytes, text: bytes, *, pathname: bool = True, casefold: bool = False) -> bool:
    """Git's function of this name.

    Args:
        pattern: As git reads it; a malformed one matches nothing.
        text: What it is to match, whole.
        pathname: Git's ``WM_PATHNAME``: a slash is only matched by a slash or by ``**``.
        casefold: Git's ``WM_CASEFOLD``: ASCII only, and a capital that is escaped or a single member of a bracket
            matches nothing, since git makes only the text small.
    """
    try:
        components = parse(pattern, pathname=pathname, casefold=casefold)
    except GlobError:
        return False
    return compile_components(components, pathname=pathname).match(text) is not None


def parse(pattern: bytes, *, pathname: bool = True, casefold: bool = False) -> list[Component]:
    """What a pattern consists of; one component for all of it where slashes mean nothing.

    Raises:
        GlobError: Git would match it with nothing: a bracket without end, a lone backslash, an unknown class.
    """
    components: list[Component] = []
    tokens: list[Token] = []
    at = 0
    while at < len(pattern):
        byte = pattern[at]
        at += 1
        if byte == ord("*"):
            tokens.append(STAR)
        elif byte == ord("?"):
            tokens.append(ANY)
        elif byte == ord("["):
            bracket, at = _parse_bracket(pattern, at, casefold=casefold)
            tokens.append(bracket)
        else:
            escaped = byte == ord("\\")
            if escaped:
                if at == len(pattern):
                    raise GlobError("ends in a backslash", "write two for a name that holds a backslash")
                byte = pattern[at]
                at += 1
            if byte == SLASH and pathname:
                components.append(Component(tuple(tokens), strict=escaped))
                tokens = []
            else:
                tokens.append(_either_case(byte, escaped=escaped) if casefold else byte)
    return [*components, Component(tuple(tokens))]


def _either_case(byte: int, *, escaped: bool) -> Token:
    if byte not in UPPER | LOWER:
        return byte
    return NOTHING if escaped and byte in UPPER else Bracket(frozenset({byte, byte ^ 0x20}))


def _parse_bracket(pattern: bytes, at: int, *, casefold: bool) -> tuple[Bracket, int]:
    """The bracket whose inside begins at ``at``, and where the pattern goes on behind it."""
    unclosed = GlobError("has a [ without its ]", "write \\[ for a name that holds a bracket")
    negated = pattern[at : at + 1] in {b"!", b"^"}
    at += negated
    first = at
    singles: set[int] = set()
    ranges: set[int] = set()
    previous = 0
    while pattern[at : at + 1] != b"]" or at == first:
        rest = pattern[at : at + 2]
        if not rest:
            raise unclosed
        byte = rest[0]
        is_range = byte == ord("-") and previous and rest[1:] not in {b"", b"]"}
        at += bool(is_range)
        if is_range or byte == ord("\\"):
            at += pattern[at] == ord("\\")
            if at == len(pattern):
                raise unclosed
            byte = pattern[at]
        if is_range:
            ranges.update(range(previous, byte + 1))
            previous = 0
        elif rest == b"[:":
            end = pattern.find(b"]", at + 2)
            if end < 0:
                raise unclosed
            if pattern[end - 1] == ord(":") and end > at + 2:
                name = pattern[at + 2 : end - 1]
                if name not in _CLASSES:
                    raise GlobError("names an unknown class of characters", f"git knows {_KNOWN}")
                (ranges if name == b"upper" else singles).update(_CLASSES[name])
                at, previous = end, 0
            else:
                singles.add(byte)
                previous = byte
        else:
            singles.add(byte)
            previous = byte
        at += 1
    members = singles | ranges
    if casefold:
        members = {
            n for n in range(256) if _small(n) in members or (n in UPPER | LOWER and n & 0xDF in ranges)
        }
    return Bracket(frozenset(members), negated), at + 1


_KNOWN: Final = ", ".join(f"[:{name.decode()}:]" for name in _CLASSES)


def _small(byte: int) -> int:
    return byte | 0x20 if byte in UPPER else byte


def compile_components(
    components: Sequence[Component], *, pathname: bool = True, folder: bool = False
) -> re.Pattern[bytes]:
    """A regular expression for ``match`` (it knows where to end) whose time is linear in the text.

    Args:
        components: As `parse` gives them.
        pathname: As they were parsed.
        folder: Whether whatever lies below a matched path is matched too.
    """
    end = rb"(?:/|\Z)" if folder else rb"\Z"
    out: list[bytes] = []
    run: list[bytes] = []
    skip: int | None = None  # how many components the last `**` takes at least

    def finish(run_end: bytes) -> None:
        body = b"/".join(run) + run_end if run else b""
        if skip is None:
            out.append(body)
        elif run:
            out.append(rb"(?>(?:[^/]*+/){%d,}?%b)" % (skip, body))
        else:
            out.append(rb"(?:[^/]*+/){%d}" % skip)
        run.clear()

    for component in components[:-1]:
        if component.is_double_star and pathname:
            taken = (skip or 0) if not run else 0
            if run:
                finish(b"/")
            skip = taken + component.strict
        else:
            run.append(_component(component.tokens, pathname=pathname))
    if components[-1].is_double_star and pathname:
        finish(b"/")
    else:
        run.append(_component(components[-1].tokens, pathname=pathname))
        finish(end)
    return re.compile(b"".join(out), re.DOTALL)


def _component(tokens: Sequence[Token], *, pathname: bool) -> bytes:
    byte = rb"[^/]" if pathname else rb"."
    head, *between = (_chunk(chunk, pathname=pathname) for chunk in _split_at_stars(tokens))
    if not between:
        return head
    *between, tail = between
    width = len(tokens) - 1 - max(at for at, token in enumerate(tokens) if token is STAR)
    enough, ends = (rb"(?=%b{%d})" % (byte, width), rb"(?<=%b)" % tail) if tail else (b"", b"")
    stars = (rb"(?>%b*?%b)" % (byte, chunk) for chunk in between if chunk)
    return b"".join([head, *stars, enough, byte, b"*+", ends])


def _split_at_stars(tokens: Sequence[Token]) -> Iterator[list[int | Bracket]]:
    chunk: list[int | Bracket] = []
    for token in tokens:
        if token is STAR:
            yield chunk
            chunk = []
        else:
            chunk.append(token)
    yield chunk


def _chunk(tokens: Sequence[int | Bracket], *, pathname: bool) -> bytes:
    return b"".join(
        re.escape(bytes([token])) if isinstance(token, int) else _charset(token.accepted(pathname=pathname))
        for token in tokens
    )


def _charset(accepted: frozenset[int]) -> bytes:
    if not accepted:
        return rb"[^\x00-\xff]"
    begins = sorted(n for n in accepted if n - 1 not in accepted)
    ends = sorted(n for n in accepted if n + 1 not in accepted)
    return b"[%b]" % b"".join(rb"\x%02x-\x%02x" % pair for pair in zip(begins, ends, strict=True))
