"""Signs a log's checkpoints, with one key or, while keys are exchanged, with two."""

from __future__ import annotations

from collections.abc import Sequence

from safeai_git.core.errors import KeyUnusable, WrongUse
from safeai_git.core.log.checkpoint import Checkpoint
from safeai_git.core.log.note import ED25519, Note, NoteKey, NoteSignature
from safeai_git.keys.ed25519 import verify
from safeai_git.keys.port import Signer


class LogSigner:
    """The keys that a log signs with now.

    Args:
        origin: The log's name, which is the name of its keys too.
        signers: One or more.
        also: Keys that the log was, or by another Governor is, signed with besides.

    Raises:
        KeyUnusable: There is no signer.
        WrongUse: One of the other keys is of another log.
    """

    def __init__(self, origin: str, signers: Sequence[Signer], also: Sequence[NoteKey] = ()) -> None:
        if not signers:
            raise KeyUnusable("there is no key to sign the log's checkpoints with")
        for key in also:
            if (key.name, key.algorithm) != (origin, ED25519):
                raise WrongUse(
                    f"the key {key.format()} is none of the log {origin}",
                    hint="a verifier key of this log begins with its name; SAFEAI_LOG_KEYS names those it was signed with before",
                )
        self.origin = origin
        self._also = tuple(also)
        self._signers = tuple((NoteKey(origin, ED25519, one.public.raw), one) for one in signers)

    @property
    def signing(self) -> tuple[NoteKey, ...]:
        """The public halves of the keys that sign."""
        return tuple(key for key, _ in self._signers)

    @property
    def keys(self) -> tuple[NoteKey, ...]:
        """The keys by which the log's checkpoints are believed: those that sign first, then the others."""
        return tuple(dict.fromkeys((*self.signing, *self._also)))

    def sign(self, size: int, root: bytes) -> bytes:
        """A checkpoint's note. The caller has seen to it that the entries are durable.

        Raises:
            CouldNotDecide: A key cannot be used, or gave a signature that does not hold.
        """
        return self.sign_text(Checkpoint(self.origin, size, root).format())

    def sign_text(self, text: str) -> bytes:
        """A note of another text, which must not look like a checkpoint's; raises as `sign` does."""
        signatures = []
        for key, signer in self._signers:
            body = signer.sign(text.encode())
            if not verify(key.public, body, text.encode()):
                raise KeyUnusable(
                    f"the holder of the log's key {key.id.hex()} gave a signature that does not hold under it",
                    hint="check that the configured public key belongs to the private one",
                )
            signatures.append(NoteSignature(key.name, key.id, body))
        return Note(text, tuple(signatures)).format()
