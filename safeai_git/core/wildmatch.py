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
from itertools import groupby

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
        return cls(text, components, folder, _test_for(components, folder=folder))

    def matches(self, path: bytes) -> bool:
        """Whether the pattern names this path, byte for byte."""
        return self._test(path)

    def folded(self) -> Pattern:
        """The same pattern for paths that went through `fold`: a letter in a bracket then stands for both cases.

        ``?`` and a bracket still match one byte, as in git.
        """
        components = tuple(_folded(self._components))
        return Pattern(self.source, components, self._folder, _test_for(components, folder=self._folder))


class PatternSet:
    """Patterns in the order in which they decide."""

    __slots__ = ("_tests", "_twins", "patterns")

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        self.patterns = tuple(patterns)
        self._tests = [(pattern.matches, pattern) for pattern in self.patterns]
        self._twins: list[tuple[Test, Test, Pattern]] = []

    def __len__(self) -> int:
        return len(self.patterns)

    def __iter__(self) -> Iterator[Pattern]:
        return iter(self.patterns)

    def first_match(self, path: bytes) -> Pattern | None:
        """The first pattern that names this very path: for allowing."""
        for test, pattern in self._tests:
            if test(path):
                return pattern
        return None

    def first_match_folded(self, path: bytes) -> Pattern | None:
        """The first pattern that names this path, or another that a file system may take for it: for denying.

        Args:
            path: As git records it, not folded yet.
        """
        if not self._twins:
            self._twins = [(pattern.folded().matches, pattern.matches, pattern) for pattern in self.patterns]
        twin = fold(path)
        for test_twin, test, pattern in self._twins:
            if test_twin(twin) or test(path):
                return pattern
        return None


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


def _test_for(components: Sequence[Component], *, folder: bool) -> Test:
    """The quickest way to compare: the usual shapes need no regular expression at all."""
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
            return lambda path: path.endswith(ending)
    names = [component.literal for component in rest]
    if None in names or not all(names):
        return _regex_test(components, folder=folder)
    name = b"/".join(filter(None, names))
    prefix, inside, suffix = name + b"/", b"/" + name + b"/", b"/" + name
    if floating and below:
        return lambda path: path.startswith(prefix) or inside in path
    if floating and folder:
        return lambda path: path == name or path.startswith(prefix) or path.endswith(suffix) or inside in path
    if floating:
        return lambda path: path == name or path.endswith(suffix)
    if below:
        return lambda path: path.startswith(prefix)
    if folder:
        return lambda path: path == name or path.startswith(prefix)
    return lambda path: path == name


def _regex_test(components: Sequence[Component], *, folder: bool) -> Test:
    compiled: re.Pattern[bytes] | None = None

    def test(path: bytes) -> bool:
        nonlocal compiled
        if compiled is None:  # at the first path, not when a policy is read
            compiled = compile_components(components, folder=folder)
        return compiled.match(path) is not None

    return test
