"""The signatures of a log's entries, by the keys that the log itself names.

They take most of a verification's time, and none needs another: gathered, they are checked in a process for each core.
What does not hold is then found after later entries were read. Whoever has to say what came first checks again, one by one.
"""

from __future__ import annotations

from collections.abc import Iterable

from safeai_git.core.envelope import Envelope
from safeai_git.core.errors import FormatError, LogProofInvalid
from safeai_git.core.log.entry import Entry
from safeai_git.core.publickey import PublicKey, parse_openssh
from safeai_git.keys.ed25519 import verify
from safeai_git.parallel import in_processes

GATHERED_BYTES = 1 << 24
"""Of envelopes that are checked together: some ten thousand."""

LEAST_OF_A_PROCESS = 250
"""Envelopes: checking fewer takes less time than starting a process does."""


class DoesNotHold(Exception):
    """One of the envelopes that were checked together does not hold."""


class EntrySignatures:
    """Keys and envelopes, in the order of the log.

    Args:
        together: Gather envelopes; else each is checked when it comes.

    Attributes:
        checked: Signatures that hold.
        unknown: Signatures by keys that the log does not name.
    """

    def __init__(self, *, together: bool) -> None:
        self.checked = self.unknown = 0
        self._together = together
        self._keys: dict[str, tuple[PublicKey, int | None]] = {}
        self._gathered: list[tuple[int, bytes]] = []
        self._bytes = 0

    def take(self, index: int, body: bytes) -> None:
        """Take the envelope of an entry.

        Raises:
            FormatError: It is none.
            LogProofInvalid: A signature does not hold, or is by a key that was revoked before.
            DoesNotHold: One of the two, in an entry that was gathered.
        """
        if not self._together:
            self._count([self._check(index, body)])
            return
        self._gathered.append((index, body))
        self._bytes += len(body)
        if self._bytes >= GATHERED_BYTES:
            self.settle()

    def settle(self) -> None:
        """Check what was gathered.

        Raises:
            DoesNotHold: Not all of it holds.
        """
        gathered, self._gathered, self._bytes = self._gathered, [], 0
        try:
            self._count(in_processes(lambda one: self._check(*one), gathered, LEAST_OF_A_PROCESS))
        except (FormatError, LogProofInvalid):
            raise DoesNotHold from None

    def change(self, entry: Entry) -> None:
        """Take an entry that registers or revokes a key; what was gathered counts by the keys before it."""
        self.settle()
        match entry.data():
            case {"action": "register", "public": str(line)}:
                public, _ = parse_openssh(line.encode())
                self._keys.setdefault(public.key_id, (public, None))  # a revocation is for good
            case {"action": "revoke", "key": str(key_id)} if key_id in self._keys:
                self._keys[key_id] = (self._keys[key_id][0], entry.seq)

    def _count(self, found: Iterable[tuple[int, int]]) -> None:
        for checked, unknown in found:
            self.checked += checked
            self.unknown += unknown

    def _check(self, index: int, body: bytes) -> tuple[int, int]:
        """How many of an envelope's signatures hold, and how many are by keys that the log does not name."""
        envelope = Envelope.parse(body)
        checked = 0
        for signature in envelope.signatures:
            public, revoked = self._keys.get(signature.keyid, (None, None))
            if public is None:
                continue
            if revoked is not None:
                raise LogProofInvalid(
                    f"entry {index} is signed with {signature.keyid}, which entry {revoked} revoked"
                )
            if not verify(public.raw, signature.sig, envelope.signed_bytes):
                raise LogProofInvalid(f"the signature of {signature.keyid} in entry {index} does not hold")
            checked += 1
        return checked, len(envelope.signatures) - checked
