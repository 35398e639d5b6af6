"""A keyring: who may sign what, from an OpenSSH allowed_signers file.

Answers with a `TrustedKey` or with a `Refusal` that says why not; all lines of a key are considered. A file that is not
understood to its last line is an error and trusts nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from safeai_git.core.errors import PolicyError
from safeai_git.core.publickey import PublicKey
from safeai_git.core.trust import AllowedSigner, Reason, Refusal, TrustedKey
from safeai_git.keys.allowed_signers import Skipped, parse_line

__all__ = ["MAX_BYTES", "Keyring"]

MAX_BYTES = 1 << 20
"""Bytes of a file: some 10,000 keys."""

_TELLING: tuple[Reason, ...] = ("expired", "not-yet-valid", "time-unknown", "wrong-namespace")
"""Which refusal to show when several lines of one key refuse: the one that came closest to a yes."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys of one allowed_signers file.

    Attributes:
        entries: The lines with a key that is of use here, in the order of the file.
        skipped: The lines with a key of another type.
        source: The file's name, for messages.
    """

    entries: tuple[AllowedSigner, ...]
    skipped: tuple[Skipped, ...] = ()
    source: str = ""
    _by_id: dict[str, tuple[AllowedSigner, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_id: dict[str, list[AllowedSigner]] = {}
        for entry in self.entries:
            by_id.setdefault(entry.public.key_id, []).append(entry)
        object.__setattr__(self, "_by_id", {key_id: tuple(lines) for key_id, lines in by_id.items()})

    @classmethod
    def parse(cls, data: bytes, source: str) -> Keyring:
        """Read an allowed_signers file.

        Args:
            data: Its bytes, UTF-8, lines ended by LF or CRLF.
            source: Its name, for messages.

        Raises:
            PolicyError: A line is not understood; the message begins with ``source:line:``.
        """
        if len(data) > MAX_BYTES:
            raise PolicyError(f"{source}: {len(data):,} bytes are too many for an allowed_signers file")
        entries: list[AllowedSigner] = []
        skipped: list[Skipped] = []
        for number, raw in enumerate(data.split(b"\n"), start=1):
            try:
                text = raw.removesuffix(b"\r").decode("utf-8")
            except UnicodeDecodeError as error:
                raise PolicyError(f"{source}:{number}: not UTF-8 at byte {error.start} of the line") from None
            match parse_line(text, source, number):
                case AllowedSigner() as entry:
                    entries.append(entry)
                case Skipped() as other:
                    skipped.append(other)
        return cls(tuple(entries), tuple(skipped), source)

    def find(self, key_id: str) -> tuple[AllowedSigner, ...]:
        """All lines of a key, in the order of the file; empty when there is none."""
        return self._by_id.get(key_id, ())

    def public(self, key_id: str) -> PublicKey | None:
        """The key of this id, whatever it is trusted for."""
        lines = self.find(key_id)
        return lines[0].public if lines else None

    def trusts(self, key_id: str, namespace: str, at: int | None) -> TrustedKey | Refusal:
        """Say whether a key may sign for a purpose at a time.

        Args:
            key_id: The key's fingerprint.
            namespace: The purpose, such as ``safeai-verdict``.
            at: Unix time that somebody vouches for; with ``None`` only lines without a window serve.
        """
        lines = self.find(key_id)
        if not lines:
            where = f" in {self.source}" if self.source else ""
            return Refusal(key_id, "unknown-key", f"key {key_id} is not listed{where}")
        refusals = [(entry, entry.refusal(namespace, at)) for entry in lines]
        serving = tuple(entry for entry, refusal in refusals if refusal is None)
        if serving:
            return TrustedKey(serving[0].public, serving)
        return _most_telling(refusal for _, refusal in refusals if refusal is not None)


def _most_telling(refusals: Iterable[Refusal]) -> Refusal:
    return min(refusals, key=lambda refusal: _TELLING.index(refusal.reason))
