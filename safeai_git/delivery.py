"""Delivery: what waits in the spool goes to the Governor; what comes back is believed when it is proven.

For each envelope: submit, check the receipt against the log's key, remember the checkpoint, keep the receipt in the
notes, and only then take the envelope out of the spool. Whatever is killed in between is done again: the Governor logs
an envelope once, and a receipt that stands in the notes stays as it is.

One process at a time delivers a repository's spool. Whoever finds another one at it may leave what it added to that one,
which looks again when it has let go.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import Struct

from safeai_git.client.checkpoints import Checkpoints
from safeai_git.client.governor import (
    MOST_AT_ONCE,
    MOST_BYTES,
    Address,
    GovernorClient,
    Refused,
)
from safeai_git.client.spool import Queue, Spool, T
from safeai_git.core.display import count
from safeai_git.core.envelope import Envelope
from safeai_git.core.errors import FormatError, KeyUnusable, LogProofInvalid, WrongUse
from safeai_git.core.log.note import NoteKey
from safeai_git.core.policy_parts import GovernorLink
from safeai_git.core.publickey import PublicKey
from safeai_git.core.receipt import Logged, Receipt, check_receipt
from safeai_git.core.verdict import parse_statement
from safeai_git.files import alone, read_bounded
from safeai_git.git.notes import Notes
from safeai_git.git.repository import Repository
from safeai_git.keys.ed25519 import verify
from safeai_git.organisation import state_folder

URL_VARIABLE, URL_KEY = "SAFEAI_GOVERNOR", "safeai.governor"
LOG_KEY_VARIABLE, LOG_KEY_KEY = "SAFEAI_GOVERNOR_KEY", "safeai.governorKey"
TOKEN_VARIABLE, TOKEN_FILE_KEY = "SAFEAI_TOKEN", "safeai.tokenFile"
CERTIFICATE_VARIABLE, CERTIFICATE_KEY_VARIABLE = "SAFEAI_CLIENT_CERT", "SAFEAI_CLIENT_KEY"

_LONGEST_TOKEN = 16_384
_LONGEST_FOR_OTHERS_SECONDS = 10.0


class Destination(Struct, frozen=True):
    """A Governor that this machine's owner has named.

    Attributes:
        address: Where it is.
        keys: The log's keys, those included that only count for what was logged before their end.
    """

    address: Address
    keys: tuple[NoteKey, ...]

    @property
    def present(self) -> tuple[PublicKey, ...]:
        """Those that may still sign something else than a checkpoint: a lease, a policy."""
        return tuple(PublicKey(one.public) for one in self.keys if one.until is None)


@dataclass(slots=True)
class Delivered:
    """What became of the spool.

    Attributes:
        sent: Envelopes that were logged now.
        repeated: Envelopes that had been logged before.
        refused: Digests of those that the Governor does not take, each with why; they stay in the spool.
        left: How many are in the spool now.
        size: Of the log, by the newest checkpoint that was seen; 0 where none was.
    """

    sent: int = 0
    repeated: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    left: int = 0
    size: int = 0


def destination(
    repository: Repository, environ: Mapping[str, str], link: GovernorLink | None
) -> Destination | None:
    """The Governor that verdicts of a repository go to; ``None`` where this machine names none.

    The policy of a repository may say which Governor it wants. Whether a token goes there is said outside of any
    repository: by the environment, or by the person's or the system's git configuration.

    Raises:
        WrongUse: The policy wants another one than this machine names, or the address cannot be one.
        KeyUnusable: The log's key is missing or is none, or the token's file cannot be read.
    """
    url = _url(repository, environ)
    if not url:
        return None
    if link is not None and link.url.rstrip("/") != url.rstrip("/"):
        raise WrongUse(
            f"the policy wants the Governor {link.url}, and this machine names {url}",
            hint=f"set {URL_VARIABLE} or 'git config --global {URL_KEY}' to the one that you trust, or mend the policy",
        )
    named = environ.get(LOG_KEY_VARIABLE) or repository.config_outside(LOG_KEY_KEY)
    if not named:
        raise KeyUnusable(
            "the Governor is named, and its log's key is not",
            hint=f"set {LOG_KEY_VARIABLE} or 'git config --global {LOG_KEY_KEY}' to its verifier key, name+id+base64",
        )
    try:
        keys = tuple(NoteKey.bounded(one) for one in named.split())
    except FormatError as error:
        raise KeyUnusable(f"the log's key cannot be used: {error.message}") from error
    if len({one.name for one in keys}) != 1:
        raise KeyUnusable(
            "the log's keys have different names", hint="all keys of one log carry the log's name"
        )
    if all(one.until is not None for one in keys):
        raise KeyUnusable(
            "none of the log's keys is in use: each is said to have an end",
            hint="name the present one too, without '@SIZE'",
        )
    pair = environ.get(CERTIFICATE_VARIABLE), environ.get(CERTIFICATE_KEY_VARIABLE)
    certificate = (pair[0], pair[1]) if pair[0] and pair[1] else None
    return Destination(Address(url, _token(repository, environ), certificate), keys)


def is_named(repository: Repository, environ: Mapping[str, str]) -> bool:
    """Whether this machine names a Governor, be it one that can be spoken to or not."""
    return bool(_url(repository, environ))


def _url(repository: Repository, environ: Mapping[str, str]) -> str:
    return environ.get(URL_VARIABLE) or repository.config_outside(URL_KEY)


def _token(repository: Repository, environ: Mapping[str, str]) -> str:
    if TOKEN_VARIABLE in environ:
        return environ[TOKEN_VARIABLE].strip()
    named = repository.config_outside(TOKEN_FILE_KEY)
    if not named:
        return ""
    path = Path(named).expanduser()
    try:
        return read_bounded(path, _LONGEST_TOKEN).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise KeyUnusable(f"the token's file {path} cannot be read: {error}") from error


class Delivery:
    """Delivers one repository's spool.

    Args:
        repository: Where spool and notes are.
        environ: The environment, for the person's state folder.
        to: The Governor.
        seconds: What one exchange may take.
    """

    def __init__(
        self, repository: Repository, environ: Mapping[str, str], to: Destination, *, seconds: float
    ) -> None:
        self._repository = repository
        self._keys = to.keys
        self._client = GovernorClient(to.address, seconds=seconds)
        self._spool = Spool(repository.private_directory / "spool")
        self._checkpoints = checkpoints(repository, environ)

    def drain(self, progress: Callable[[str], None] | None = None, *, wait: float = 0.0) -> Delivered:
        """Deliver everything that waits, oldest first, and what others add meanwhile.

        Args:
            progress: Told after each batch.
            wait: Seconds to wait for another process that is at it already; after that it is left to it.

        Raises:
            GovernorUnavailable: It does not answer, or takes nothing now; what it took is out of the spool.
            LogProofInvalid: It answered with what is not proven, or its log was forked.
            FormatError: It answered with what is no answer.
            StorageError: The spool, the notes or what is remembered cannot be written.
        """
        done = Delivered()

        def deliver(waiting: Iterator[tuple[str, Envelope]]) -> None:
            for batch in _batches(waiting):
                self._deliver(batch, done)
                if progress is not None:
                    progress(f"{done.sent + done.repeated:,} verdicts delivered")

        try:
            work_off(self._spool, self._repository.private_directory / "spool.lock", deliver, wait=wait)
        finally:
            done.left = len(self._spool)
        return done

    def _deliver(self, batch: list[tuple[str, Envelope]], done: Delivered) -> None:
        notes: dict[str, list[bytes]] = {}
        taken: list[str] = []
        seen: dict[bytes, Logged] = {}
        answers = self._client.submit([envelope for _, envelope in batch])
        for (name, envelope), answer in zip(batch, answers, strict=True):
            if isinstance(answer, Refused):
                done.refused.append((envelope.digest, f"{answer.word}: {answer.detail}"))
                continue
            receipt = Receipt(envelope.digest, answer.proof)
            logged = self._proven(receipt, envelope)
            seen.setdefault(logged.checkpoint.note, logged)
            for subject in _subjects(envelope):
                notes.setdefault(subject, []).append(receipt.format())
            taken.append(name)
            done.repeated += answer.repeated
            done.sent += not answer.repeated
        for logged in seen.values():
            self._checkpoints.advance(logged.checkpoint, self._keys, self._client.consistency)
            done.size = max(done.size, logged.checkpoint.checkpoint.size)
        if notes:
            Notes(self._repository).add_all(notes)
        for name in taken:
            self._spool.remove(name)

    def _proven(self, receipt: Receipt, envelope: Envelope) -> Logged:
        try:
            return check_receipt(receipt, envelope, self._keys, verify)
        except (FormatError, LogProofInvalid) as error:
            raise LogProofInvalid(
                f"the Governor's receipt for {envelope.digest[:16]} does not hold: {error.message}",
                hint="nothing was taken out of the spool; check the log's key, and tell whoever runs the Governor",
            ) from error


def checkpoints(repository: Repository, environ: Mapping[str, str]) -> Checkpoints:
    """What this person, or a repository without one, remembers of logs."""
    own = state_folder(environ)
    return Checkpoints((own or repository.private_directory) / "governors", verify)


def _subjects(envelope: Envelope) -> Sequence[str]:
    """The objects whose notes hold the envelope."""
    claim = parse_statement(envelope.untrusted_payload)
    return tuple(filter(None, (*claim.commits, claim.tree)))


def work_off(
    queue: Queue[T], lock: Path, work: Callable[[Iterator[tuple[str, T]]], None], *, wait: float = 0.0
) -> None:
    """Do something with all that waits in a queue, while nobody else does; then with what was added meanwhile, and so on.

    Whoever adds something and finds the lock held may go away: the one who held it looks again when it has let go. For
    some seconds only: nobody works for others without end.

    Args:
        queue: The queue.
        lock: Its lock file.
        work: Gets entries with their files' names, each entry once, and takes out of the queue what is done.
        wait: Seconds to wait for another process; with none, it is left to that one.
    """
    known: set[str] = set()
    until = time.monotonic() + _LONGEST_FOR_OTHERS_SECONDS
    while new := [name for name in queue.names() if name not in known]:
        with alone(lock, wait=wait) as nobody_else:
            if not nobody_else or (known and time.monotonic() > until):
                return
            known.update(new)
            work(queue.read(new))


def _batches(waiting: Iterator[tuple[str, Envelope]]) -> Iterator[list[tuple[str, Envelope]]]:
    batch: list[tuple[str, Envelope]] = []
    size = 0
    for name, envelope in waiting:
        length = len(envelope.format())
        if batch and (len(batch) == MOST_AT_ONCE or size + length > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((name, envelope))
        size += length
    if batch:
        yield batch


def told(done: Delivered, what: str = "verdict") -> str:
    """What became of it, in one sentence."""
    parts = [f"{count(done.sent, what)} delivered"]
    if done.repeated:
        parts.append(f"{done.repeated:,} had been before")
    if done.refused:
        parts.append(f"{len(done.refused):,} refused")
    if done.left:
        parts.append(f"{done.left:,} left in the spool")
    return ", ".join(parts)
