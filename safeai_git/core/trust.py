"""Who may sign what, and when: the values that a keyring answers with.

An `AllowedSigner` is one line of an allowed_signers file. A `TrustedKey` is the answer "yes, for this purpose, at
this time"; a `Refusal` is the answer "no" with its reason. Neither is an error. Nothing here reads a file or a clock:
the time at which a signature is vouched for is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, Protocol

from msgspec import Struct

from safeai_git.core.publickey import PublicKey

Verify = Callable[[bytes, bytes, bytes], bool]
"""``verify(public, signature, message)``: 32 bytes, 64 bytes, the message. Says no, never raises, on a bad one."""

Reason = Literal[
    "unknown-key",
    "wrong-namespace",
    "time-unknown",
    "not-yet-valid",
    "expired",
    "bad-signature",
    "wrong-type",
    "revoked",
]


class Refusal(Struct, frozen=True):
    """Why a signature, or a whole envelope, counts for nothing.

    ``key_id`` is empty when no single key is to blame; ``message`` is a sentence for people.
    """

    key_id: str
    reason: Reason
    message: str


def matches(text: str, patterns: Iterable[str]) -> bool:
    """Match a text against a pattern list of ssh_config(5), PATTERNS.

    ``*`` stands for any run of characters, ``?`` for one, ``!`` before a pattern negates it. One negated match decides
    against; without a positive match the answer is no too.
    """
    positive = False
    for pattern in patterns:
        if _glob(text, pattern.removeprefix("!")):
            if pattern.startswith("!"):
                return False
            positive = True
    return positive


_LONGEST_KEPT = 512


def _glob(text: str, pattern: str) -> bool:
    """Match ``*`` and ``?``; what is short and asked for often is remembered."""
    return _kept(text, pattern) if len(text) + len(pattern) <= _LONGEST_KEPT else _match(text, pattern)


@lru_cache(maxsize=1024)
def _kept(text: str, pattern: str) -> bool:
    return _match(text, pattern)


def _match(text: str, pattern: str) -> bool:
    """Match ``*`` and ``?`` in at most len(text) * len(pattern) steps, so that no pattern can stall us."""
    at = step = 0
    star = resume = -1
    while at < len(text):
        if step < len(pattern) and pattern[step] == "*":
            star, resume = step, at
            step += 1
        elif step < len(pattern) and pattern[step] in ("?", text[at]):
            at += 1
            step += 1
        elif star >= 0:
            resume += 1
            at, step = resume, star + 1
        else:
            return False
    return not pattern[step:].strip("*")


@dataclass(frozen=True, slots=True)
class AllowedSigner:
    """One line of an allowed_signers file (ssh-keygen(1), ALLOWED SIGNERS).

    Attributes:
        public: The key.
        principals: Patterns of the names that the key signs for, at least one of them not negated.
        namespaces: Patterns of the purposes that it serves; ``None`` means any, an empty tuple means none.
        valid_after: First second, in Unix time, at which it is valid; ``None`` for always.
        valid_before: First second at which it is no longer valid; ``None`` for never.
        source, line: Where it stands. Two lines that say the same are equal wherever they stand.
    """

    public: PublicKey
    principals: tuple[str, ...]
    namespaces: tuple[str, ...] | None = None
    valid_after: int | None = None
    valid_before: int | None = None
    source: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)

    def names(self, principal: str) -> bool:
        """Whether the key signs for this name."""
        return matches(principal, self.principals)

    def refusal(self, namespace: str, at: int | None) -> Refusal | None:
        """Say why this line does not serve a purpose at a time; ``None`` when it does.

        Args:
            namespace: The purpose.
            at: Unix time that somebody vouches for; with ``None`` a line that has a window does not serve.
        """
        key = f"key {self.public.key_id} ({self.source}:{self.line})"
        if self.namespaces is not None and not matches(namespace, self.namespaces):
            return self._refuse("wrong-namespace", f"{key} is not allowed to sign for {namespace}")
        if at is None:
            if self.valid_after is None and self.valid_before is None:
                return None
            return self._refuse(
                "time-unknown",
                f"{key} is valid for a limited time, and nothing vouches for the time of signing",
            )
        if self.valid_after is not None and at < self.valid_after:
            return self._refuse("not-yet-valid", f"{key} is valid only from {format_time(self.valid_after)}")
        if self.valid_before is not None and at >= self.valid_before:
            return self._refuse("expired", f"{key} was valid only before {format_time(self.valid_before)}")
        return None

    def _refuse(self, reason: Reason, message: str) -> Refusal:
        return Refusal(self.public.key_id, reason, message)


class TrustedKey(Struct, frozen=True):
    """A key that is trusted for one purpose at one time, with every line that says so."""

    public: PublicKey
    lines: tuple[AllowedSigner, ...]

    @property
    def key_id(self) -> str:
        """The key's fingerprint."""
        return self.public.key_id

    @property
    def principal(self) -> str:
        """Whom to name as the signer: the first principal of the first line that is not negated."""
        return next(pattern for pattern in self.lines[0].principals if not pattern.startswith("!"))

    def names(self, principal: str) -> bool:
        """Whether one of the lines lets the key sign for this name."""
        return any(line.names(principal) for line in self.lines)


class KeyDirectory(Protocol):
    """Whatever knows keys: an allowed_signers file, the Governor's list."""

    def public(self, key_id: str) -> PublicKey | None:
        """The key of this id, trusted or not; ``None`` when it was never heard of."""

    def trusts(self, key_id: str, namespace: str, at: int | None) -> TrustedKey | Refusal:
        """Whether the key may sign for a purpose at a time; see `AllowedSigner.refusal`."""


def format_time(when: int) -> str:
    """Unix time as ``2026-01-31T09:30:00Z``."""
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
