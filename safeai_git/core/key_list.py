"""The Governor's keys: the changes that stand on the log, the keys that they add up to, and the signed list of them.

A `KeyBook` is what the changes so far amount to. It answers as an allowed_signers file does, with one thing more: a key
that was revoked is trusted for nothing any more, whatever time a signature claims; only an entry that the log placed
before the revocation goes on counting (`KeyBook.counts`). Formats: ``docs/formats/key-list.md``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from safeai_git.core import canonical
from safeai_git.core.canonical import JSON
from safeai_git.core.envelope import MAX_PAE
from safeai_git.core.errors import FormatError, WrongUse
from safeai_git.core.kill_switch import LEASE_NAMESPACE
from safeai_git.core.policy_statement import POLICY_NAMESPACE, parse_time
from safeai_git.core.publickey import PublicKey, format_openssh, is_key_id, parse_openssh
from safeai_git.core.trust import AllowedSigner, Refusal, TrustedKey, format_time
from safeai_git.core.values import replace
from safeai_git.core.verdict import APPROVAL_NAMESPACE, VERDICT_NAMESPACE

LIST_TYPE = "application/vnd.safeai.key-list+json"
LIST_NAMESPACE = "safeai-key-list"
"""What a key has to be trusted for to sign lists of keys."""

PURPOSES = (VERDICT_NAMESPACE, APPROVAL_NAMESPACE, POLICY_NAMESPACE, LEASE_NAMESPACE, LIST_NAMESPACE)

LARGEST_LIST = 8 * 1024 * 1024
"""Bytes of a list, some 15,000 keys."""

_SOURCE = "the Governor's key list"
_PRINCIPAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@:+-]{0,199}")
_TEXT = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{0,200}")


class Revocation(Struct, frozen=True):
    """A key does not count any more.

    Attributes:
        index: The log's entry that says so.
        time: When that was, in Unix seconds.
        since: From when on the key may have been in wrong hands, if that is known to be earlier.
        reason, by: For people.
    """

    index: int
    time: int
    since: int | None
    reason: str
    by: str


class ListedKey(Struct, frozen=True):
    """A key that was registered.

    Attributes:
        public: The key.
        principal: Whose it is.
        purposes: What it signs; some of `PURPOSES`, sorted.
        valid_after: First second at which it is valid; ``None`` for always.
        valid_before: First second at which it is no longer valid; ``None`` for never.
        index: The log's entry that registered it first.
        changes: How often it was registered: whoever does it anew replaces what was said before.
        revoked: Whether, and since when, it is revoked; that is for good.

    Raises:
        WrongUse: One of these cannot be.
    """

    public: PublicKey
    principal: str
    purposes: tuple[str, ...]
    valid_after: int | None = None
    valid_before: int | None = None
    index: int = 0
    changes: int = 1
    revoked: Revocation | None = None

    def __post_init__(self) -> None:
        if not _PRINCIPAL.fullmatch(self.principal):
            raise WrongUse(
                f"a key cannot belong to {self.principal[:100]!a}",
                hint="a name has 1 to 200 ASCII letters, digits and ._/@:+-, a letter or a digit first",
            )
        unknown = sorted(set(self.purposes) - set(PURPOSES))
        if unknown or not self.purposes or list(self.purposes) != sorted(set(self.purposes)):
            raise WrongUse(
                f"a key cannot serve {', '.join(unknown)[:200] or 'no purpose, or one twice'}",
                hint=f"the purposes are {', '.join(PURPOSES)}",
            )
        if None not in (self.valid_after, self.valid_before) and self.valid_after >= self.valid_before:  # type: ignore[operator]
            raise WrongUse("a key cannot end to be valid before it begins")

    @property
    def key_id(self) -> str:
        """The key's fingerprint."""
        return self.public.key_id

    def line(self) -> AllowedSigner:
        """The key as a line of an allowed_signers file."""
        return AllowedSigner(
            self.public,
            (self.principal,),
            self.purposes,
            self.valid_after,
            self.valid_before,
            _SOURCE,
            self.index,
        )

    def to_data(self) -> dict[str, JSON]:
        """The key as it stands in a list."""
        revoked: JSON = None
        if self.revoked is not None:
            revoked = {
                "index": self.revoked.index,
                "time": format_time(self.revoked.time),
                "since": _time_or_none(self.revoked.since),
                "reason": self.revoked.reason,
                "by": self.revoked.by,
            }
        return {
            "id": self.key_id,
            "public": format_openssh(self.public).decode(),
            "principal": self.principal,
            "purposes": list(self.purposes),
            "valid_after": _time_or_none(self.valid_after),
            "valid_before": _time_or_none(self.valid_before),
            "index": self.index,
            "revoked": revoked,
        }


def register_data(key: ListedKey, *, reason: str, by: str) -> dict[str, JSON]:
    """The data of an entry that registers a key.

    Raises:
        WrongUse: The reason cannot stand there.
    """
    return {
        "action": "register",
        "public": format_openssh(key.public).decode(),
        "principal": key.principal,
        "purposes": list(key.purposes),
        "valid_after": _time_or_none(key.valid_after),
        "valid_before": _time_or_none(key.valid_before),
        "reason": _text(reason),
        "by": _text(by),
    }


def revoke_data(key_id: str, *, since: int | None, reason: str, by: str) -> dict[str, JSON]:
    """The data of an entry that revokes a key; without `since` it counted until now.

    Raises:
        WrongUse: Not a key's id, or the reason cannot stand there.
    """
    if not is_key_id(key_id):
        raise WrongUse(f"{key_id[:64]!a} is not the id of a key", hint="it looks like SHA256:…")
    return {
        "action": "revoke",
        "key": key_id,
        "since": _time_or_none(since),
        "reason": _text(reason),
        "by": _text(by),
    }


def revoke_id(key_id: str) -> str:
    """The id of the entry that revokes a key: there is one at most, and it keeps out what comes later by that key."""
    return f"revoke:{key_id}"


class KeyBook:
    """The keys that a log's changes add up to: a `KeyDirectory`."""

    def __init__(self, keys: Iterable[ListedKey] = ()) -> None:
        self._keys = {key.key_id: key for key in keys}

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[ListedKey]:
        return iter(self._keys.values())

    def find(self, key_id: str) -> ListedKey | None:
        """What is known of a key."""
        return self._keys.get(key_id)

    def apply(self, index: int, time: int, data: Mapping[str, JSON]) -> None:
        """Take the next change.

        Args:
            index: The entry's place in the log.
            time: Its time, in Unix seconds.
            data: What it holds.

        Raises:
            FormatError: It is no change of a key.
        """
        try:
            match data:
                case {"action": "register", "public": str(line)}:
                    self._register(index, parse_openssh(line.encode())[0], data)
                case {"action": "revoke", "key": str(key_id)}:
                    self._revoke(index, time, key_id, data)
                case _:
                    raise FormatError("not a change of a key")
        except WrongUse as error:
            raise FormatError(f"not a change of a key: {error.message}") from None

    def _register(self, index: int, public: PublicKey, data: Mapping[str, JSON]) -> None:
        there = self._keys.get(public.key_id)
        if there is not None and there.revoked is not None:
            return
        purposes = data.get("purposes")
        if not isinstance(purposes, list):
            raise FormatError("the registration of a key names no purposes")
        self._keys[public.key_id] = ListedKey(
            public,
            str(data.get("principal")),
            tuple(str(one) for one in purposes),
            _parsed(data.get("valid_after")),
            _parsed(data.get("valid_before")),
            there.index if there else index,
            there.changes + 1 if there else 1,
        )

    def _revoke(self, index: int, time: int, key_id: str, data: Mapping[str, JSON]) -> None:
        there = self._keys.get(key_id)
        if there is None or there.revoked is not None:
            return
        since = _parsed(data.get("since"))
        self._keys[key_id] = replace(
            there,
            revoked=Revocation(
                index,
                time,
                None if since is None else min(since, time),
                str(data.get("reason", "")),
                str(data.get("by", "")),
            ),
        )

    def public(self, key_id: str) -> PublicKey | None:
        """The key of this id, whatever it is trusted for, revoked or not."""
        there = self._keys.get(key_id)
        return there.public if there else None

    def trusts(self, key_id: str, namespace: str, at: int | None) -> TrustedKey | Refusal:
        """Whether a key may sign for a purpose at a time; never if it is revoked: such a time may be a thief's word."""
        there = self._keys.get(key_id)
        if there is None:
            return Refusal(key_id, "unknown-key", f"key {key_id} is not in {_SOURCE}")
        if there.revoked is not None:
            when = format_time(there.revoked.time)
            return Refusal(key_id, "revoked", f"key {key_id} was revoked on {when}: {there.revoked.reason}")
        return self._serves(there, namespace, at)

    def counts(self, key_id: str, namespace: str, *, index: int, time: int) -> TrustedKey | Refusal:
        """Whether a signature counts that the log took in.

        Args:
            key_id: Whose signature.
            namespace: The purpose.
            index: The entry's place in the log, by its receipt.
            time: The entry's time, in Unix seconds.
        """
        there = self._keys.get(key_id)
        if there is not None and there.revoked is not None:
            since = there.revoked.since
            if index < there.revoked.index and (since is None or time < since):
                return self._serves(there, namespace, time)
        return self.trusts(key_id, namespace, time)

    @staticmethod
    def _serves(key: ListedKey, namespace: str, at: int | None) -> TrustedKey | Refusal:
        line = key.line()
        return line.refusal(namespace, at) or TrustedKey(key.public, (line,))

    def format(self) -> bytes:
        """The list, in canonical JSON, by the keys' ids."""
        return canonical.dumps({"keys": [key.to_data() for _, key in sorted(self._keys.items())]})

    @classmethod
    def parse(cls, data: bytes) -> KeyBook:
        """Read a list, the inverse of `format`.

        Raises:
            FormatError: It is something else.
        """
        try:
            match canonical.loads(data, limit=LARGEST_LIST, depth=5):
                case {"keys": list(rows)}:
                    book = cls(_listed(row) for row in rows)
                case _:
                    raise FormatError("not a list of keys")
        except WrongUse as error:
            raise FormatError(f"not a list of keys: {error.message}") from None
        if book.format() != data:
            raise FormatError("the list of keys is not written the one way")
        return book


class ListStatement(Struct, frozen=True):
    """What is signed about a list.

    Attributes:
        governor: The log's origin.
        size: How many entries of the log the list rests on.
        issued, expires: Unix time; from `expires` on it says nothing any more.
        digest: SHA-256, in hex, of the list's bytes.
    """

    governor: str
    size: int
    issued: int
    expires: int
    digest: str

    def format(self) -> bytes:
        """The statement in canonical JSON."""
        return canonical.dumps(
            {
                "governor": self.governor,
                "size": self.size,
                "issued": format_time(self.issued),
                "expires": format_time(self.expires),
                "keys": {"sha256": self.digest},
            }
        )

    @classmethod
    def parse(cls, payload: bytes) -> ListStatement:
        """Read a statement, the inverse of `format`.

        Raises:
            FormatError: It is something else.
        """
        match canonical.loads(payload, limit=MAX_PAE, depth=3):
            case {
                "governor": str(governor),
                "size": int(size),
                "issued": str(issued),
                "expires": str(expires),
                "keys": {"sha256": str(digest)},
            }:
                made = cls(governor, int(size), parse_time(issued), parse_time(expires), digest)
            case _:
                raise FormatError("not a statement about a list of keys")
        if made.format() != payload:
            raise FormatError("the statement about a list of keys is not written the one way")
        return made


def digest(listed: bytes) -> str:
    """SHA-256, in hex, of a list's bytes."""
    return hashlib.sha256(listed).hexdigest()


def _listed(row: Any) -> ListedKey:
    match row:
        case {
            "public": str(public),
            "principal": str(principal),
            "purposes": list(purposes),
            "valid_after": str() | None as after,
            "valid_before": str() | None as before,
            "index": int(index),
            "revoked": dict() | None as revoked,
        }:
            return ListedKey(
                parse_openssh(public.encode())[0],
                principal,
                tuple(str(one) for one in purposes),
                _parsed(after),
                _parsed(before),
                int(index),
                revoked=None if revoked is None else _revocation(revoked),
            )
        case _:
            raise FormatError("not a list of keys: a key lacks a member")


def _revocation(row: Any) -> Revocation:
    match row:
        case {
            "index": int(index),
            "time": str(time),
            "since": str() | None as since,
            "reason": str(reason),
            "by": str(by),
        }:
            return Revocation(int(index), parse_time(time), _parsed(since), reason, by)
        case _:
            raise FormatError("not a list of keys: a revocation lacks a member")


def _parsed(value: object) -> int | None:
    if value is not None and not isinstance(value, str):
        raise FormatError("a time is written as text")
    return None if value is None else parse_time(value)


def _time_or_none(when: int | None) -> str | None:
    return None if when is None else format_time(when)


def _text(text: str) -> str:
    if not _TEXT.fullmatch(text):
        raise WrongUse("a reason has at most 200 characters and no control characters")
    return text
