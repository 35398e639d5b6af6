"""The lines of ``audit.log``: entries, whose exact bytes are the tree's leaves, and commit lines, which are none.

The first key says which of the two a line is. Lines are written here and never written again from what was read: who
verifies hashes the bytes that he has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256

from msgspec import Struct

from safeai_git.core.canonical import JSON
from safeai_git.core.envelope import Envelope
from safeai_git.core.errors import FormatError
from safeai_git.core.log.note import Note
from safeai_git.core.log.tiles import MAX_ENTRY

ENTRY_START = b'{"seq":'
COMMIT_START = b'{"checkpoint":'

KINDS = (
    "verdict",
    "approval",
    "decision",
    "keychange",
    "killswitch",
    "policy",
    "start",
    "recovery",
    "incident",
)
"""The kinds that are written today. A reader takes any word: an older one must be able to verify a newer log."""

MAX_ID = 128
_AHEAD = 160
"""More bytes than an entry's members before the kind ever take."""

_ID = re.compile(r"[!#-\[\]-~]{1,128}")
_KIND = re.compile(r"[a-z]{1,32}")
_TIME = rb"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z"
_ENTRY = re.compile(
    rb'\{"seq":(0|[1-9][0-9]{0,18}),"prev":"([A-Za-z0-9+/]{43}=|)","time":"(' + _TIME + rb')",'
    rb'(?:"clock_skew":(-[1-9][0-9]{0,17}),)?"kind":"([a-z]{1,32})","id":"([!#-\[\]-~]{1,128})",'
    rb'"(env|data)":(?=\{)'
)

_read_json = json.JSONDecoder().raw_decode


@dataclass(frozen=True, slots=True)
class Draft:
    """An entry before it has a place: what a caller wants logged.

    Attributes:
        kind: One word of lower-case letters.
        id: The idempotency key: 1 to 128 printable ASCII characters without blank, quote and backslash.
        rest: The entry's bytes from the kind on, up to its end.
        unless: Ids of entries that keep this one out: where the log holds one of them, it is too late for this one.
    """

    kind: str
    id: str
    rest: bytes
    unless: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def of_envelope(cls, kind: str, key: str, envelope: Envelope, *, unless: tuple[str, ...] = ()) -> Draft:
        """An entry around a signed envelope.

        Raises:
            FormatError: It cannot be an entry.
        """
        return cls._made(kind, key, b'"env":' + envelope.format(), unless)

    @classmethod
    def of_data(cls, kind: str, key: str, data: Mapping[str, JSON], *, unless: tuple[str, ...] = ()) -> Draft:
        """An entry around a plain JSON object; the checkpoint's signature is the only one over it.

        Raises:
            FormatError: It cannot be an entry.
        """
        return cls._made(kind, key, b'"data":' + format_data(data), unless)

    @classmethod
    def _made(cls, kind: str, key: str, body: bytes, unless: tuple[str, ...]) -> Draft:
        if not _KIND.fullmatch(kind):
            raise FormatError(f"an entry's kind is one word of lower-case letters, not {kind[:40]!a}")
        if not _ID.fullmatch(key):
            raise FormatError(
                f"an entry's id is 1 to {MAX_ID} printable ASCII characters without blank, quote and backslash"
            )
        rest = b'"kind":"%b","id":"%b",%b}' % (kind.encode(), key.encode(), body)
        if len(rest) + _AHEAD > MAX_ENTRY:
            raise FormatError(
                f"the entry would be longer than {MAX_ENTRY:,} bytes, which is all that a log holds"
            )
        return cls(kind, key, rest, unless)

    @property
    def digest(self) -> bytes:
        """SHA-256 of `rest`: equal for a retry, different for another body under the same id."""
        return sha256(self.rest).digest()

    def format(self, seq: int, prev: str, time: str, skew: int = 0) -> bytes:
        """Write the entry's line, without its newline.

        Args:
            seq: Its place, from 0.
            prev: Base64 of the leaf hash of the entry before; empty for the first.
            time: From `format_time`.
            skew: Milliseconds by which the clock stood behind the entry before; 0 or negative.
        """
        skewed = f'"clock_skew":{skew},' if skew else ""
        return f'{{"seq":{seq},"prev":"{prev}","time":"{time}",{skewed}'.encode() + self.rest


class Entry(Struct, frozen=True):
    """An entry's line, taken apart.

    Attributes:
        seq: Its place, from 0.
        prev: Base64 of the leaf hash of the entry before; empty for the first.
        time: As it stands, in UTC.
        kind: One word.
        id: The idempotency key.
        member: ``env`` for a signed envelope, ``data`` for a plain object.
        body: The JSON of that member.
        rest: The bytes from the kind on: what a draft brings.
    """

    seq: int
    prev: str
    time: str
    kind: str
    id: str
    member: str
    body: bytes
    rest: bytes

    @classmethod
    def parse(cls, line: bytes) -> Entry:
        """Read a line, without its newline.

        Raises:
            FormatError: Not an entry, or not written the one way.
        """
        found = taken_apart(line)
        return cls(
            int(found[1]),
            found[2].decode(),
            found[3].decode(),
            found[5].decode(),
            found[6].decode(),
            found[7].decode(),
            line[found.end() : -1],
            line[found.start(5) - 8 :],
        )

    @property
    def digest(self) -> bytes:
        """`Draft.digest` of the draft that it was."""
        return sha256(self.rest).digest()

    def data(self) -> JSON:
        """The object that `member` holds."""
        value: JSON = json.loads(self.body)
        return value


def taken_apart(line: bytes) -> re.Match[bytes]:
    """Check that a line is an entry; the groups are seq, prev, time, skew, kind, id and member, the end is the body's.

    Raises:
        FormatError: Not an entry, or not written the one way.
    """
    found = _ENTRY.match(line)
    if found is None or not line.endswith(b"}}") or len(line) > MAX_ENTRY:
        raise FormatError("not an entry of the log as one is written")
    try:
        value, end = _read_json(line.decode("ascii"), found.end())
    except (ValueError, RecursionError):
        value, end = None, 0
    if not isinstance(value, dict) or end != len(line) - 1:
        raise FormatError("the entry holds no JSON object")
    return found


def kind_of(line: bytes) -> bytes:
    """The kind of an entry that `taken_apart` has accepted before, without reading its JSON again."""
    found = _ENTRY.match(line)
    return found[5] if found is not None else b""


def format_data(data: Mapping[str, JSON]) -> bytes:
    """A plain object as it stands in an entry.

    Raises:
        FormatError: It cannot be written as JSON.
    """
    try:
        text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"the entry's data cannot be written as JSON: {error}") from None
    return text.encode()


def receipt_head(line: bytes) -> bytes:
    """An entry's bytes up to where its envelope or data begins: what a receipt carries beside the proof.

    Raises:
        FormatError: Not an entry.
    """
    found = _ENTRY.match(line)
    if found is None:
        raise FormatError("not an entry of the log as one is written")
    return line[: found.end()]


def completed(head: bytes, body: bytes) -> bytes:
    """An entry's exact bytes from a receipt's head and the envelope or data that the reader holds.

    Raises:
        FormatError: The two do not make an entry with that body.
    """
    line = head + body + b"}"
    if Entry.parse(line).body != body:
        raise FormatError("the receipt's head does not belong before that envelope")
    return line


def format_time(milliseconds: int) -> str:
    """Unix time in milliseconds as it stands in an entry."""
    return f"{_to_the_second(milliseconds // 1000)}.{milliseconds % 1000:03d}Z"


@lru_cache(maxsize=4)
def _to_the_second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


@lru_cache(maxsize=16)
def parse_time(text: str) -> int:
    """The inverse of `format_time`. The last few are remembered: all entries of a batch have the same.

    Raises:
        FormatError: No time of an entry.
    """
    try:
        moment = datetime.strptime(text[:-5] + "+0000", "%Y-%m-%dT%H:%M:%S%z")
        milliseconds = int(moment.timestamp()) * 1000 + int(text[-4:-1])
    except ValueError:
        raise FormatError(f"not a time as it stands in an entry: {text[:40]!a}") from None
    if format_time(milliseconds) != text:
        raise FormatError(f"not a time as it stands in an entry: {text[:40]!a}")
    return milliseconds


def format_commit(note: bytes) -> bytes:
    """Write a commit line around a checkpoint's note, without its newline."""
    return COMMIT_START + json.dumps(note.decode(), ensure_ascii=True).encode() + b"}"


def parse_commit(line: bytes) -> bytes:
    """The note of a commit line: the inverse of `format_commit`.

    Raises:
        FormatError: Not a commit line, or not written the one way.
    """
    try:
        value = json.loads(line.decode("ascii"))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not isinstance(text := value.get("checkpoint"), str):
        raise FormatError("not a commit line: it holds no checkpoint")
    try:
        note = text.encode()
    except UnicodeEncodeError:
        raise FormatError("not a commit line: half of a surrogate pair stands in it") from None
    if format_commit(note) != line or Note.parse(note).format() != note:
        raise FormatError("the commit line is not written the one way")
    return note
