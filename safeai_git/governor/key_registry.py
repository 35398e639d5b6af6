"""The Governor's keys: who may sign what. State is what the log's ``keychange`` entries add up to.

A key that was revoked stays so. Whoever takes in what a key signed hands `kept_out_by` to the log with it: an entry that
was checked before a revocation, by whatever replica, and arrives behind it is refused there.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from safeai_git.core.envelope import Envelope
from safeai_git.core.errors import WrongUse
from safeai_git.core.key_list import (
    PURPOSES,
    KeyBook,
    ListedKey,
    register_data,
    revoke_data,
    revoke_id,
)
from safeai_git.core.log.entry import Draft
from safeai_git.core.publickey import PublicKey, is_key_id
from safeai_git.governor.audit_log import Receipt
from safeai_git.governor.records import FRESH_SECONDS, Conflicting, Records
from safeai_git.keys.key_list import sign_keys
from safeai_git.keys.port import Signer

LIST_SECONDS = 24 * 3600
"""How long a signed list is good."""

_KEPT_SECONDS = 60
"""How long a signed list is handed out before it is signed anew."""


@dataclass(frozen=True, slots=True)
class Document:
    """Something signed that is handed out as it is.

    Attributes:
        data: Its bytes.
        etag: A name of these bytes, in quotes as HTTP has it (RFC 9110 §8.8.3).
    """

    data: bytes
    etag: str

    @classmethod
    def of(cls, data: bytes) -> Document:
        """A document and its name."""
        return cls(data, f'"{sha256(data).hexdigest()[:32]}"')


class KeyRegistry:
    """Registers, revokes and lists keys.

    Args:
        records: The log.
        governor: Its origin.
        signer: Signs the list.
    """

    def __init__(self, records: Records, governor: str, signer: Signer) -> None:
        self._records = records
        self._governor = governor
        self._signer = signer
        self._lock = threading.Lock()
        self._made: tuple[int, int, Document] | None = None

    @property
    def keys(self) -> KeyBook:
        """The keys as this Governor knows them; a `KeyDirectory`."""
        return self._records.state.keys

    def fresh(self) -> KeyBook:
        """The keys, not older than a few seconds: what signatures are to be held against.

        Raises:
            StorageError: The log cannot be read.
            LogProofInvalid: It contradicts itself.
        """
        self._records.follower.need(FRESH_SECONDS)
        return self.keys

    def kept_out_by(self, envelope: Envelope) -> tuple[str, ...]:
        """Ids of the entries that an envelope must not come behind (`Draft.unless`)."""
        known = (one.keyid for one in envelope.signatures if self.keys.public(one.keyid) is not None)
        return tuple(revoke_id(key_id) for key_id in known)

    def ensure_own(self) -> None:
        """Have the Governor's own key on the log, for everything that it signs.

        Raises:
            Conflicting: The key was revoked.
            StorageError: The log cannot take it.
        """
        there = self.keys.find(self._signer.key_id)
        if there is None:
            purposes = [one for one in PURPOSES if one != "safeai-approval"]
            self.register(self._signer.public, self._own_name(), purposes, reason="its own key", by="safeai")
        elif there.revoked is not None:
            raise Conflicting(
                f"the Governor's own key {there.key_id} was revoked: {there.revoked.reason}",
                hint="make another one with 'safeai keys generate --key-id NAME' and set SAFEAI_KEY_ID",
            )

    def _own_name(self) -> str:
        return "".join(
            one if one.isascii() and (one.isalnum() or one in "._/@:+-") else "-" for one in self._governor
        )

    def register(
        self,
        public: PublicKey,
        principal: str,
        purposes: Sequence[str],
        *,
        reason: str,
        by: str,
        valid_after: int | None = None,
        valid_before: int | None = None,
    ) -> Receipt:
        """Register a key, or say anew what a registered one is for.

        Raises:
            WrongUse: The principal, a purpose or the window cannot be.
            Conflicting: It was revoked, or somebody registered it in this moment.
            StorageError: The log cannot take it.
        """
        there = self.keys.find(public.key_id)
        if there is not None and there.revoked is not None:
            raise Conflicting(
                f"key {public.key_id} was revoked and stays so", hint="make a new key and register that"
            )
        key = ListedKey(public, principal, tuple(sorted(set(purposes))), valid_after, valid_before)
        number = there.changes + 1 if there else 1
        draft = Draft.of_data(
            "keychange",
            f"key:{key.key_id}:{number}",
            register_data(key, reason=reason, by=by),
            unless=(revoke_id(key.key_id),),
        )
        return self._records.write(draft, f"key {key.key_id} was changed by somebody else in this moment")

    def revoke(self, key_id: str, *, reason: str, by: str, since: int | None = None) -> Receipt:
        """Revoke a key, for good.

        Args:
            key_id: Which.
            reason: Why, for people.
            by: Who says so.
            since: From when on it may have been in wrong hands, if that was earlier.

        Raises:
            WrongUse: There is no such key, or the reason is too long.
            Conflicting: It is revoked already.
            StorageError: The log cannot take it.
        """
        if not is_key_id(key_id) or self.keys.find(key_id) is None:
            raise WrongUse(f"no key {key_id[:64]!a} is registered", hint="GET /v1/keys lists them")
        if since is not None and since > self._records.now():
            raise WrongUse("a key cannot be revoked since a time that has not come")
        data = revoke_data(key_id, since=since, reason=reason, by=by)
        return self._records.write(
            Draft.of_data("keychange", revoke_id(key_id), data), f"key {key_id} is revoked already"
        )

    def document(self) -> Document:
        """The signed list.

        Raises:
            StorageError: The log cannot be read.
            LogProofInvalid: It contradicts itself.
            CouldNotDecide: The Governor's key cannot be used.
        """
        self._records.follower.need(FRESH_SECONDS)
        state, now = self._records.state, int(self._records.now())
        with self._lock:
            if self._made is not None and self._made[0] == state.version and now < self._made[1]:
                return self._made[2]
            version = state.version
            data = sign_keys(
                state.keys,
                governor=self._governor,
                size=state.size,
                issued=now,
                seconds=LIST_SECONDS,
                signer=self._signer,
            )
            self._made = (version, now + _KEPT_SECONDS, Document.of(data))
            return self._made[2]
