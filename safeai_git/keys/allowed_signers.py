"""The lines of an OpenSSH allowed_signers file (ssh-keygen(1), ALLOWED SIGNERS): parse and format.

Reads what OpenSSH reads, and stricter: a line that OpenSSH would pass over with a complaint is an error here, since a
file that decides about trust must not be half understood. Three differences by intent: a time without ``Z`` is UTC and
not the reader's local time, so that every reader decides the same; ``valid-before`` is the first second at which the key
is no longer valid, where OpenSSH still takes that second; a certificate authority is refused.
"""

from __future__ import annotations

import re
from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from datetime import UTC, datetime

from msgspec import Struct

from safeai_git.core.errors import FormatError, PolicyError
from safeai_git.core.publickey import KEY_TYPE, PublicKey
from safeai_git.core.trust import AllowedSigner

OTHER_KEY_TYPES = frozenset(
    {
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp256-cert-v01@openssh.com",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp384-cert-v01@openssh.com",
        "ecdsa-sha2-nistp521",
        "ecdsa-sha2-nistp521-cert-v01@openssh.com",
        "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
        "sk-ssh-ed25519-cert-v01@openssh.com",
        "sk-ssh-ed25519@openssh.com",
        "ssh-dss",
        "ssh-dss-cert-v01@openssh.com",
        "ssh-ed25519-cert-v01@openssh.com",
        "ssh-rsa",
        "ssh-rsa-cert-v01@openssh.com",
    }
)
"""Types that OpenSSH knows (``ssh -Q key``) and that sign nothing here."""

_KEY_TYPES = OTHER_KEY_TYPES | {KEY_TYPE}

MAX_PATTERN = 1_023
"""Characters of one pattern; OpenSSH lets longer ones match nothing (match.c, match_pattern_list)."""

_OPTION = re.compile(r'([A-Za-z-]+)(?:="([^"\\]*)")?(,|$)')
_OPTIONS_FIELD = re.compile(r'(?:[^ \t"]|"[^"]*")+(?=[ \t]|$)')
_TIME = re.compile(r"(\d{4})(\d\d)(\d\d)(?:(\d\d)(\d\d)(\d\d)?)?(?:Z|UTC)?", re.IGNORECASE | re.ASCII)
_BLANKS = " \t"


class Skipped(Struct, frozen=True):
    """A well-formed line whose key is of a type that is not used here."""

    key_type: str
    source: str
    line: int

    @property
    def message(self) -> str:
        """A sentence for people."""
        return f"{self.source}:{self.line}: {self.key_type} keys sign nothing here, the line is passed over"


def parse_line(text: str, source: str = "", line: int = 0) -> AllowedSigner | Skipped | None:
    """Read one line.

    Args:
        text: The line, without its newline.
        source: The file that it stands in, for messages.
        line: Its number there, from 1, for messages.

    Returns:
        ``None`` for a blank line or a comment.

    Raises:
        PolicyError: The line says something that is not understood; the message begins with ``source:line:``.
    """
    stripped = text.strip(_BLANKS)
    if not stripped or stripped.startswith("#"):
        return None
    try:
        return _parse(stripped, source, line)
    except FormatError as error:
        raise PolicyError(f"{source}:{line}: {error.message}", hint=error.hint) from None


def _parse(text: str, source: str, line: int) -> AllowedSigner | Skipped:
    if any(ord(character) < 0x20 and character != "\t" for character in text):
        raise FormatError("a control character stands in the line")
    principals, rest = _principals(text)
    key_type, encoded, options_text = _split_key(rest)
    options = _options(options_text)
    after, before = _time(options, "valid-after"), _time(options, "valid-before")
    if after is not None and before is not None and before <= after:
        raise FormatError("valid-before is not after valid-after, so the key would never be valid")
    namespaces: tuple[str, ...] | None = None
    if (value := options.get("namespaces")) is not None:
        namespaces = _patterns(value, "namespaces") if value else ()
    blob = _blob(encoded, key_type)
    if key_type != KEY_TYPE:
        return Skipped(key_type, source, line)
    return AllowedSigner(PublicKey.from_blob(blob), principals, namespaces, after, before, source, line)


def _principals(text: str) -> tuple[tuple[str, ...], str]:
    """Take the first field off, which may stand in quotes (OpenSSH, misc.c, strdelimw)."""
    if text.startswith('"'):
        field, quote, rest = text[1:].partition('"')
        if not quote or not rest.startswith((" ", "\t")):
            raise FormatError("the quotes around the principals do not end before a space")
    else:
        field, rest = _field(text)
        if '"' in field:
            raise FormatError(
                "a quote stands within the principals", hint="put quotes around all of them, or none"
            )
    patterns = _patterns(field, "principals")
    if all(pattern.startswith("!") for pattern in patterns):
        raise FormatError("the principals are all negated, so the key signs for nobody")
    return patterns, rest.lstrip(_BLANKS)


def _patterns(field: str, what: str) -> tuple[str, ...]:
    patterns = tuple(field.split(","))
    for pattern in patterns:
        bare = pattern.removeprefix("!")
        if not bare:
            raise FormatError(f"the list of {what} {field[:80]!a} has an empty item")
        if len(bare) > MAX_PATTERN:
            raise FormatError(f"a pattern in the list of {what} is longer than {MAX_PATTERN:,} characters")
        if not bare.isprintable():
            raise FormatError(f"a character that cannot be seen stands in the list of {what} {field[:80]!a}")
    return patterns


def _split_key(rest: str) -> tuple[str, str, str]:
    """Split ``[options] keytype base64 [comment]``; the comment is dropped."""
    options = ""
    key_type, after = _field(rest)
    if key_type not in _KEY_TYPES:
        field = _OPTIONS_FIELD.match(rest)
        if field is None and rest:
            raise FormatError("the quotes in the options do not end before a space")
        if field is not None:
            options = field.group()
            key_type, after = _field(rest[field.end() :].lstrip(_BLANKS))
        if key_type not in _KEY_TYPES:
            raise FormatError(
                "no key follows the principals and the options",
                hint="a line is: principals [options] ssh-ed25519 AAAA… [comment]",
            )
    return key_type, _field(after)[0], options


def _field(text: str) -> tuple[str, str]:
    """Split at the first run of spaces and tabs, and no other white space."""
    end = next((at for at, character in enumerate(text) if character in _BLANKS), len(text))
    return text[:end], text[end:].lstrip(_BLANKS)


def _options(text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    at = 0
    while at < len(text):
        option = _OPTION.match(text, at)
        if option is None:
            raise FormatError(f"the options are not understood from {text[at : at + 40]!a}")
        name, value = option[1].lower(), option[2]
        if name == "cert-authority":
            raise FormatError(
                "cert-authority: certificates are not supported", hint="list the keys that sign, one a line"
            )
        if name not in ("namespaces", "valid-after", "valid-before"):
            raise FormatError(
                f"{name!a} is not an option", hint="there are namespaces, valid-after and valid-before"
            )
        if name in options:
            raise FormatError(f"the option {name} stands twice")
        if value is None:
            raise FormatError(f'the option {name} needs a value in quotes, as in {name}="…"')
        options[name] = value
        at = option.end()
        if option[3] == "," and at == len(text):
            raise FormatError("the options end with a comma")
    return options


def _time(options: dict[str, str], name: str) -> int | None:
    value = options.get(name)
    if value is None:
        return None
    match = _TIME.fullmatch(value)
    parts = [int(part or 0) for part in match.groups()] if match else [0] * 6
    year, month, day, hour, minute, second = parts
    try:
        when = int(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp())
    except ValueError:
        when = 0
    if when <= 0:
        raise FormatError(
            f"{name} is not a time after 1970: {value[:40]!a}",
            hint="write YYYYMMDD[HHMM[SS]]Z, as in 20260131Z",
        )
    return when


def _blob(encoded: str, key_type: str) -> bytes:
    if not encoded:
        raise FormatError(f"nothing follows {key_type}")
    try:
        blob = a2b_base64(encoded, strict_mode=True)
    except (Base64Error, ValueError):
        raise FormatError(f"the {key_type} key is not base64") from None
    name = key_type.encode()
    if not blob.startswith(len(name).to_bytes(4, "big") + name):
        raise FormatError(f"the key is not an {key_type} key, whatever the line calls it")
    return blob


def format_line(entry: AllowedSigner) -> str:
    """Write one line, without a newline; `parse_line` reads it back as an equal entry.

    Raises:
        FormatError: The entry holds a pattern that no such line can carry.
    """
    principals = ",".join(entry.principals)
    if " " in principals or principals.startswith("#"):
        principals = f'"{principals}"'
    options = []
    if entry.namespaces is not None:
        options.append(f'namespaces="{",".join(entry.namespaces)}"')
    for name, when in (("valid-after", entry.valid_after), ("valid-before", entry.valid_before)):
        if when is not None:
            options.append(f'{name}="{datetime.fromtimestamp(when, UTC):%Y%m%d%H%M%SZ}"')
    fields = (principals, ",".join(options), KEY_TYPE, b64encode(entry.public.blob).decode())
    text = " ".join(field for field in fields if field)
    try:
        same = parse_line(text) == entry
    except PolicyError:
        same = False
    if not same:
        raise FormatError(f"the entry for {principals[:80]!a} cannot be written as an allowed_signers line")
    return text
