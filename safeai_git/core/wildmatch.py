"""The path patterns of a policy: git's wildmatch, always from the repository's root.

``/`` at the end of a pattern stands for a folder, everything below it, and whatever takes its place as a file or a
symlink. A pattern that no path could match is refused, since a deny that is dead by a slip of the pen is worse than
an error. For allowing, patterns are compared with the exact bytes; for denying and protecting also with the folded
path (`safeai_git.core.paths.fold`), the pattern's own text folded likewise.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import NamedTuple

from safeai_git.core.display import CONTROL, IGNORABLE, safe_text
from safeai_git.core.errors import PolicyError
from safeai_git.core.globs import (
    SLASH,
    STAR,
    UPPER,
    Bracket,
    Component,
    GlobError,
    Token,
    compile_components,
    parse,
    wildmatch,
)
from safeai_git.core.paths import fold, fold_part

__all__ = ["LONGEST_PATTERN", "Pattern", "PatternSet", "wildmatch"]

LONGEST_PATTERN = 1024
"""Bytes."""

Test = Callable[[bytes], bool]


@dataclass(frozen=True, slots=True)
class Pattern:
    """A path pattern of a policy, from `parse`.

    Attributes:
        source: As written.
    """

    source: str
    _components: tuple[Component, ...] = field(repr=False)
    _folder: bool = field(repr=False)
    _shape: _Shape = field(repr=False, compare=False)
    _test: Test = field(repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read a pattern.

        Raises:
            PolicyError: It is empty, negated, too long, malformed, or nothing that a path could match.
        """
        try:
            components, folder = _parse(text)
        except GlobError as error:
            raise PolicyError(f"the pattern '{safe_text(text[:80])}' {error.what}", hint=error.hint) from None
        return cls._of(text, components, folder=folder)

    @classmethod
    def _of(cls, text: str, components: tuple[Component, ...], *, folder: bool) -> Pattern:
        shape = _shape(components, folder=folder)
        return cls(text, components, folder, shape, shape.test())

    def matches(self, path: bytes) -> bool:
        """Whether the pattern names this path, byte for byte."""
        return self._test(path)

    def folded(self) -> Pattern:
        """The same pattern for paths that went through `fold`: a letter in a bracket then stands for both cases.

        ``?`` and a bracket still match one byte, as in git.
        """
        return self._of(self.source, tuple(_folded(self._components)), folder=self._folder)

    @staticmethod
    def any_of(patterns: Iterable[Pattern]) -> Test:
        """What tells whether one of several patterns names a path, quicker than asking each of them."""
        shapes = zip(_Shape(), *(pattern._shape for pattern in patterns), strict=True)  # noqa: SLF001
        names, *others = (chain.from_iterable(one) for one in shapes)
        return _Shape(frozenset(names), *map(tuple, others)).test()


class PatternSet:
    """Patterns in the order in which they decide."""

    __slots__ = ("_any", "_any_twin", "_twins", "patterns")

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        self.patterns = tuple(patterns)
        self._any = Pattern.any_of(self.patterns)
        self._twins: tuple[Pattern, ...] | None = None

    def __len__(self) -> int:
        return len(self.patterns)

    def __iter__(self) -> Iterator[Pattern]:
        return iter(self.patterns)

    def first_match(self, path: bytes) -> Pattern | None:
        """The first pattern that names this very path: for allowing."""
        if not self._any(path):
            return None
        return next(pattern for pattern in self.patterns if pattern.matches(path))

    def first_match_folded(self, path: bytes) -> Pattern | None:
        """The first pattern that names this path, or another that a file system may take for it: for denying.

        Args:
            path: As git records it, not folded yet.
        """
        if self._twins is None:  # at the first path, not when a policy is read
            self._twins = tuple(pattern.folded() for pattern in self.patterns)
            self._any_twin = Pattern.any_of(self._twins)
        folded = fold(path)
        if not self._any_twin(folded) and not self._any(path):
            return None
        each = zip(self._twins, self.patterns, strict=True)
        return next(pattern for twin, pattern in each if twin.matches(folded) or pattern.matches(path))


def _parse(text: str) -> tuple[tuple[Component, ...], bool]:
    if not text:
        raise GlobError("is empty", "write `**` for everything")
    if text.startswith("!"):
        raise GlobError(
            "begins with !, and policies have no negation",
            "put what is refused under deny_paths; for a name that begins with ! write \\!",
        )
    if bad := re.search(f"[{CONTROL}{IGNORABLE}\ud800-\udfff]", text):
        raise GlobError(f"holds the unprintable character {safe_text(bad[0])}", "write * or ? in its place")
    raw = text.encode()
    if len(raw) > LONGEST_PATTERN:
        raise GlobError(
            f"is {len(raw):,} bytes long, over {LONGEST_PATTERN:,}", "split it into several patterns"
        )
    components = parse(raw)
    if len(components) > 1 and not components[0].tokens:
        del components[0]
    folder = len(components) > 1 and not components[-1].tokens
    if folder:
        del components[-1]
    for component in components:
        if not component.tokens:
            raise GlobError("has an empty component", "write one / between two names")
        if component.literal in {b".", b".."}:
            raise GlobError("has a . or .. as a component", "write the path from the repository's root")
        for token in component.tokens:
            if isinstance(token, Bracket):
                _refuse_odd_bracket(token)
    return tuple(components), folder


def _refuse_odd_bracket(bracket: Bracket) -> None:
    if any(byte > 0x7F for byte in bracket.members):
        raise GlobError(
            "has a bracket with characters beyond ASCII, and git compares bytes",
            "write one pattern for each, or * in its place",
        )
    if not bracket.accepted():
        raise GlobError(
            "has a bracket that nothing matches",
            "a / is never matched by a bracket: write it outside",
        )


def _folded(components: Sequence[Component]) -> Iterator[Component]:
    for component in components:
        part: list[Token] = []
        for token in _folded_tokens(component.tokens):
            if token == SLASH:  # a backslash in a name has become one
                yield _folded_name(Component(tuple(part)))
                part = []
            else:
                part.append(token)
        yield _folded_name(Component(tuple(part), strict=component.strict))


def _folded_tokens(tokens: Sequence[Token]) -> Iterator[Token]:
    for is_text, run in groupby(tokens, key=lambda token: isinstance(token, int)):
        if is_text:
            yield from fold_part(bytes(token for token in run if isinstance(token, int)).decode()).encode()
        else:
            yield from map(_folded_wildcard, run)


def _folded_wildcard(token: Token) -> Token:
    if not isinstance(token, Bracket):
        return token
    return Bracket(token.members | {byte | 0x20 for byte in token.members & UPPER}, token.negated)


def _folded_name(component: Component) -> Component:
    name = component.literal
    return component if name is None else Component(tuple(fold(name)), strict=component.strict)


class _Shape(NamedTuple):
    """What a path has to be, begin with, end in or hold, or what else says so; each does by itself."""

    names: frozenset[bytes] = frozenset()
    starts: tuple[bytes, ...] = ()
    ends: tuple[bytes, ...] = ()
    parts: tuple[bytes, ...] = ()
    others: tuple[Test, ...] = ()

    def test(self) -> Test:
        """Whether a path has this shape."""
        names, starts, ends, parts, others = self

        def test(path: bytes) -> bool:
            if path in names or path.startswith(starts) or path.endswith(ends):
                return True
            for part in parts:
                if part in path:
                    return True
            return any(other(path) for other in others) if others else False

        return test


def _shape(components: Sequence[Component], *, folder: bool) -> _Shape:
    """The usual patterns need no regular expression at all."""
    rest = list(components)
    floating = len(rest) > 1 and rest[0].is_double_star and not rest[0].strict
    if floating:
        del rest[0]
    below = len(rest) > 1 and rest[-1].is_double_star
    if below:
        del rest[-1]
    if floating and not below and not folder and len(rest) == 1 and rest[0].tokens[:1] == (STAR,):
        ending = Component(rest[0].tokens[1:]).literal
        if ending is not None:
            return _Shape(ends=(ending,))
    names = [component.literal for component in rest]
    if None in names or not all(names):
        return _Shape(others=(_regex_test(components, folder=folder),))
    name = b"/".join(filter(None, names))
    return _Shape(
        names=frozenset() if below else frozenset({name}),
        starts=(name + b"/",) if below or folder else (),
        ends=(b"/" + name,) if floating and not below else (),
        parts=(b"/" + name + b"/",) if floating and (below or folder) else (),
    )


def _regex_test(components: Sequence[Component], *, folder: bool) -> Test:
    compiled: re.Pattern[bytes] | None = None

    def test(path: bytes) -> bool:
        nonlocal compiled
        if compiled is None:  # at the first path, not when a policy is read
            compiled = compile_components(components, folder=folder)
        return compiled.match(path) is not None

    return test
