"""The kinds of values in a policy: each function here reads one, or refuses it with what is wrong and what to write.

The forms and bounds are those of ``schemas/policy.schema.json``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from safeai_git.core import policy_parts as parts
from safeai_git.core.errors import PolicyError
from safeai_git.core.policy_faults import Refused, guess, kind, show
from safeai_git.core.wildmatch import Pattern

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")
AGENT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
KEPT_OUT = ("LD_", "DYLD_", "GIT_", "SAFEAI_")
HOST_PATH = re.compile(r"(/(?!\.{1,2}(/|\Z))[^/\x00-\x1f\x7f]+)+\Z")
_COMPONENT = r"(?!\.{1,2}(/|\Z))[^/\x00-\x1f\x7f]+"
TREE_PATH = re.compile(rf"{_COMPONENT}(/{_COMPONENT})*\Z")
PROGRAM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,63}\Z")
TRAILER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}\Z")
PRINCIPAL = re.compile(r"[^\x00-\x20\x7f,!][^\x00-\x20\x7f,]{0,254}\Z")
REPOSITORY = re.compile(r"[!-~]{0,255}\Z")
LINE = re.compile(r"[^\x00-\x1f\x7f]+\Z")
PORT = r"(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"
OCTET = r"(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
URL = re.compile(
    rf"(https://([A-Za-z0-9][A-Za-z0-9.-]{{0,252}}|\[[0-9A-Fa-f:.]{{2,45}}\])"
    rf"|http://(localhost|127(\.{OCTET}){{3}}|\[::1\])){PORT}(/[A-Za-z0-9._~/-]{{0,512}})?\Z"
)


def boolean(value: object) -> bool:
    """``true`` or ``false``."""
    if isinstance(value, bool):
        return value
    raise Refused(f"must be true or false, not {_found(value)}", "write true or false, without quotes")


def number(least: int, most: int) -> Callable[[Any], int]:
    """A whole number within bounds."""

    def read_number(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            hint = (
                f"write {int(value)}"
                if isinstance(value, float) and abs(value) <= most
                else "write digits only"
            )
            raise Refused(f"must be a whole number, not {_found(value)}", hint)
        if not least <= value <= most:
            raise Refused(f"must be from {least:,} to {most:,}, not {show(value)}")
        return value

    return read_number


def optional(read_value: Callable[[Any], int]) -> Callable[[Any], int | None]:
    """The same or ``null``."""
    return lambda value: None if value is None else read_value(value)


def text(most: int, *, line: bool = True) -> Callable[[Any], str]:
    """Text that is not empty, of one line unless said otherwise; never a NUL."""

    def read_text(value: object) -> str:
        if not isinstance(value, str):
            raise Refused(f"must be text, not {_found(value)}", "put it in quotes")
        if not 0 < len(value) <= most:
            raise Refused(f"has {len(value):,} characters; from 1 to {most:,} are allowed")
        if "\0" in value or (line and not LINE.match(value)):
            raise Refused("holds a line break or a control character" if line else "holds a NUL")
        return value

    return read_text


def matching(expression: re.Pattern[str], what: str, hint: str = "") -> Callable[[Any], str]:
    """Text of a given form."""

    def read_matching(value: object) -> str:
        if not isinstance(value, str) or not expression.match(value):
            raise Refused(f"{what}, not {_found(value)}", hint)
        return value

    return read_matching


def one_of(options: tuple[Any, ...]) -> Callable[[Any], Any]:
    """One word of several."""

    def read_word(value: object) -> str:
        if isinstance(value, str) and value in options:
            return value
        raise Refused(f"must be one of {', '.join(options)}, not {_found(value)}", guess(value, options))

    return read_word


def pattern(value: object) -> Pattern:
    """A path pattern."""
    if not isinstance(value, str):
        raise Refused(f"must be a path pattern, not {_found(value)}", "put it in quotes")
    try:
        return Pattern.parse(value)
    except PolicyError as error:
        raise Refused(f"is not a path pattern: {error.message}", error.hint) from error


def _found(value: object) -> str:
    return show(value) if isinstance(value, str | float) else kind(value)


def variable(value: object) -> str:
    """The name of a variable that a check may see; never one that steers the loader, git or this product."""
    name = matching(VARIABLE, "must be the name of an environment variable", "write the name alone, no '='")(
        value
    )
    if name.startswith(KEPT_OUT):
        raise Refused(
            f"may not pass {name} into the sandbox", f"nothing that starts with {', '.join(KEPT_OUT)} goes in"
        )
    return name


def host_path(value: object) -> str:
    """An absolute path without detours."""
    hint = "no '.', '..' or empty component, and no '/' at the end"
    path = matching(HOST_PATH, "must be an absolute path of the host", hint)(value)
    if len(path) > 1_024:
        raise Refused("has more than 1,024 characters")
    return path


def tree_path(value: object) -> str:
    """The path of a file or folder of the tree, from its root, without detours."""
    hint = "from the repository's root; no '.', '..' or empty component, and no '/' at either end"
    path = matching(TREE_PATH, "must be a path of the tree", hint)(value)
    if len(path) > 1_024:
        raise Refused("has more than 1,024 characters")
    return path


def maybe(value: object) -> bool | None:
    """``true``, ``false`` or ``null``."""
    return None if value is None else boolean(value)


def expression(value: object) -> str:
    """The text of an expression; whether it compiles is asked where it is used, and by the lint."""
    when = text(parts.MAX_WHEN, line=False)(value)
    if len(when.encode("utf-8", "surrogatepass")) > parts.MAX_WHEN:
        raise Refused(f"has more than {parts.MAX_WHEN:,} bytes")
    return when
