r"""Foreign text on a terminal: paths, messages and names, escaped so that nothing in them is obeyed or hidden.

Two different paths are never shown alike, on one line each. Nothing is cut off, and nothing is refused.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Set as AbstractSet

# Unicode 14 to 16, DerivedCoreProperties.txt, Default_Ignorable_Code_Point (with its reserved ranges). The
# characters that HFS+ ignores (git, utf8.c, next_hfs_char) and all bidi controls are among them.
IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
CONTROL = "\x00-\x1f\x7f-\x9f\u2028\u2029"

IGNORABLES = re.compile(f"[{IGNORABLE}]+")
CONTROLS = re.compile(f"[{CONTROL}]")
BIDI_CONTROLS = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # PropList.txt, Bidi_Control
UNDECODABLE = re.compile("[\udc80-\udcff]")
"""What ``surrogateescape`` makes of a byte that is not UTF-8 (PEP 383)."""

_READ_AS_ESCAPE = frozenset("\\nrtxuU")
_LONGEST = 255  # a component beyond it is trouble anyway, and Python normalises long ones in quadratic time


def display(path: bytes) -> str:
    r"""A path for people: one line, nothing that a terminal obeys, and never the same for two paths.

    Printable text stands as it is. Escaped are controls, invisible characters and spaces at either end
    (``\n``, ``\x1b``, ``\u200c``), bytes that are not UTF-8 (``\xff``), a component's non-ASCII characters when they
    are not in normal form C (else the twin would look the same), combining marks without a character to stand on,
    and a backslash before what could then be read as an escape.
    """
    text = path.decode("utf-8", "surrogateescape")
    if text.isascii() and text.isprintable() and "\\" not in text and text[:1] != " " != text[-1:]:
        return text
    hide = {at for at in (0, len(text) - 1) if text[at] == " "}
    begin = 0
    for part in text.split("/"):
        if not is_composed(part):
            hide.update(begin + at for at, char in enumerate(part) if not char.isascii())
        begin += len(part) + 1
    return _escaped(text, hide)


def safe_text(text: str, *, newlines: bool = False) -> str:
    """Foreign text (a message, a name) for a terminal or a report: escaped as in `display`.

    Args:
        text: May hold lone surrogates, as ``surrogateescape`` leaves them.
        newlines: Let line feeds stand.
    """
    if newlines:
        return "\n".join(map(safe_text, text.split("\n")))
    return text if text.isascii() and text.isprintable() and "\\" not in text else _escaped(text, frozenset())


def count(number: int, one: str, many: str = "") -> str:
    """``1 edit``, ``2 edits``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def is_composed(component: str) -> bool:
    """Whether a component is in Unicode's normal form C. Said of none that is overlong: it is not looked at."""
    return component.isascii() or (len(component) <= _LONGEST and unicodedata.is_normalized("NFC", component))


def _escaped(text: str, hide: AbstractSet[int]) -> str:
    pieces: list[str] = []
    bare = True  # whether a combining mark here would change an escape or a slash instead of a character
    for at, char in enumerate(text):
        bare_mark = bare and unicodedata.category(char).startswith("M")
        hidden = at in hide or bare_mark or not char.isprintable() or IGNORABLES.match(char)
        pieces.append(escape(char) if hidden else char)
        bare = bool(hidden) or char == "/"
    after = ""
    for at in range(len(pieces) - 1, -1, -1):
        if pieces[at] == "\\" and after in _READ_AS_ESCAPE:
            pieces[at] = "\\\\"
        after = pieces[at][0]
    return "".join(pieces)


def escape(char: str) -> str:
    r"""One character as an escape, such as ``\n``, ``\x1b``, ``\u200c``; an undecodable byte as ``\xff``."""
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if char in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[char]
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
