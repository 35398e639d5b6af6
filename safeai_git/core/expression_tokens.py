"""The tokens of an expression (CEL), read as the library reads them, so that nothing hides in what looks like text."""

from __future__ import annotations

import re
from typing import NoReturn

from msgspec import Struct

from safeai_git.core.display import safe_text
from safeai_git.core.errors import PolicyError

# The lexical rules of the CEL specification (langdef.md, Syntax).
_TOKEN = re.compile(
    r"""
      (?P<space> [\ \t\r\n]+ | //[^\n]* )
    | (?P<string> [bB]?[rR] (?: \"{3}[\s\S]*?\"{3} | '{3}[\s\S]*?'{3} | "[^"\r\n]*" | '[^'\r\n]*' )
                | [bB]? (?: \"{3}(?:[^\\]|\\[\s\S])*?\"{3} | '{3}(?:[^\\]|\\[\s\S])*?'{3}
                          | "(?:[^"\\\r\n]|\\[^\r\n])*" | '(?:[^'\\\r\n]|\\[^\r\n])*' ) )
    | (?P<number> 0x[0-9a-fA-F]+[uU]? | [0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)? | [0-9]+(?:[eE][+-]?[0-9]+ | [uU])? )
    | (?P<name> [_a-zA-Z][_a-zA-Z0-9]* )
    | (?P<sign> && | \|\| | [<>=!]= | [-+*/%!<>?:.,()\[\]{}] )
    """,
    re.VERBOSE,
)


class Token(Struct, frozen=True):
    """One token: its kind (a group of the grammar above), its text and where it starts."""

    kind: str
    text: str
    at: int


def tokens(text: str) -> list[Token]:
    """The tokens of an expression, without space and comments.

    Raises:
        PolicyError: Something there is no token of CEL.
    """
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            refuse(text, at, f"{safe_text(text[at])} cannot stand here")
        if match.lastgroup != "space":
            found.append(Token(str(match.lastgroup), match.group(), at))
        at = match.end()
    return found


def refuse(text: str, at: int, what: str, hint: str = "") -> NoReturn:
    """Raise a `PolicyError` that names the line and the column of an offset."""
    line, column = text.count("\n", 0, at) + 1, at - (text.rfind("\n", 0, at) + 1) + 1
    raise PolicyError(f"line {line}, column {column} of the expression: {what}", hint=hint)
