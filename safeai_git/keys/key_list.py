"""The Governor's signed list of keys: made by it, opened by whoever trusts its key.

One file: the envelope's line, then the list (``docs/formats/key-list.md``). Promises that what opens was signed by a
trusted key, is of the Governor that was asked for, has not expired and is not older than what was seen before.
"""

from __future__ import annotations

from msgspec import Struct

from safeai_git.core.envelope import MAX_LINE, Envelope, open_envelope
from safeai_git.core.errors import FormatError
from safeai_git.core.key_list import (
    LARGEST_LIST,
    LIST_NAMESPACE,
    LIST_TYPE,
    KeyBook,
    ListStatement,
    digest,
)
from safeai_git.core.trust import KeyDirectory, format_time
from safeai_git.keys.ed25519 import verify
from safeai_git.keys.port import Signer
from safeai_git.keys.seal import seal

LARGEST_SIGNED_LIST = MAX_LINE + 1 + LARGEST_LIST
"""Bytes of the file."""

_CLOCKS_DIFFER_SECONDS = 600


class OpenedKeys(Struct, frozen=True):
    """A list that the Governor signed.

    Attributes:
        statement: Of which Governor, over how many entries, until when.
        keys: The keys; a `KeyDirectory`.
    """

    statement: ListStatement
    keys: KeyBook


def sign_keys(book: KeyBook, *, governor: str, size: int, issued: int, seconds: int, signer: Signer) -> bytes:
    """The signed list, as it is handed out.

    Raises:
        CouldNotDecide: The key cannot be used.
        FormatError: There are more keys than a list holds.
    """
    listed = book.format()
    if len(listed) > LARGEST_LIST:
        raise FormatError(f"the list of keys has {len(listed):,} bytes, more than {LARGEST_LIST:,}")
    statement = ListStatement(governor, size, issued, issued + seconds, digest(listed))
    return seal(statement.format(), [signer], payload_type=LIST_TYPE).format() + b"\n" + listed


def open_keys(
    data: bytes, governors: KeyDirectory, *, governor: str, now: float, seen: int = 0
) -> OpenedKeys:
    """Open a signed list.

    Args:
        data: The file.
        governors: The keys that may sign it, for `LIST_NAMESPACE`; configured, never taken from a list.
        governor: The log's origin.
        now: Seconds since 1970.
        seen: The largest `ListStatement.size` that was accepted before: an older list could hide a revocation.

    Raises:
        FormatError: It proves nothing to the holder of these keys, is another Governor's, too old, or damaged.
    """
    line, _, listed = data.partition(b"\n")
    opened = open_envelope(
        Envelope.parse(line),
        governors,
        purpose=LIST_NAMESPACE,
        at=int(now),
        verify=verify,
        payload_type=LIST_TYPE,
    )
    statement = ListStatement.parse(opened.payload)
    if statement.governor != governor:
        raise FormatError(f"the list of keys is that of {statement.governor!a}, not of {governor!a}")
    if now >= statement.expires or now < statement.issued - _CLOCKS_DIFFER_SECONDS:
        raise FormatError(
            f"the list of keys was good from {format_time(statement.issued)} to {format_time(statement.expires)}",
            hint="get it again from the Governor, and check this machine's clock",
        )
    if statement.size < seen:
        raise FormatError(
            f"the list of keys rests on {statement.size} entries of the log; one over {seen} was seen before",
            hint="an older list could hide a revocation; get the current one",
        )
    if digest(listed) != statement.digest:
        raise FormatError("the list of keys is not the one that was signed")
    return OpenedKeys(statement, KeyBook.parse(listed))
