"""Has the log's checkpoints cosigned by the witnesses of a policy, beside all requests and never in their way.

Works in rounds. A round takes the newest checkpoint and asks every witness that is free, each in a thread of its own that
it can hold as long as it likes; who failed is left alone for a while. What was gathered is kept in the data folder: it
changes no byte of the log, and losing it costs no more than asking again.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from safeai_git.core.errors import FormatError, LogProofInvalid, StorageError, WrongUse
from safeai_git.core.log.checkpoint import open_checkpoint
from safeai_git.core.log.merkle import root
from safeai_git.core.log.note import MAX_BYTES, Note, NoteKey, NoteSignature
from safeai_git.core.log.policy import MAX_BYTES as POLICY_BYTES
from safeai_git.core.log.policy import NONE, WitnessPolicy, parse_policy
from safeai_git.core.values import replace
from safeai_git.files import read_bounded, write_atomically
from safeai_git.governor.audit_log import AuditLog, Receipt
from safeai_git.governor.stores.port import Store, covered
from safeai_git.governor.witness_client import NotCosigned, Result, WitnessClient
from safeai_git.keys.ed25519 import verify

FOLDER = "witnessed"
QUORUM, SOME = "quorum.checkpoint", "some.checkpoint"
"""The newest checkpoint that met the policy's quorum; a newer one that some witnesses cosigned."""

MOST_WITNESSES = 32
SECONDS = 5.0
"""What one exchange may take, and a round at the most."""

EVERY = 1.0
"""Seconds between two rounds where nobody waits for them: witnesses bound how often they are asked."""

_LONGEST_PAUSE = 30.0

_log = structlog.get_logger("safeai.witnesses")


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A checkpoint with cosignatures that were checked.

    Attributes:
        size: Its size.
        note: The log's signatures first, then the witnesses'.
    """

    size: int
    note: bytes


@dataclass(slots=True)
class _Asker:
    """A witness, with its thread's ways in; only the worker touches anything but `client`."""

    client: WitnessClient
    inbox: queue.SimpleQueue[bytes | None] = field(default_factory=queue.SimpleQueue)
    busy: bool = False
    overdue: float = math.inf
    failures: int = 0
    pause_until: float = 0.0
    last: str = ""

    @property
    def name(self) -> str:
        return self.client.key.name


_Answer = tuple[_Asker, bytes, NoteSignature | NotCosigned]


def read_witness_policy(path: Path, log_keys: tuple[NoteKey, ...], *, required: bool) -> WitnessPolicy:
    """Read the policy that a Governor asks its witnesses by.

    Raises:
        WrongUse: It cannot be read, is of other logs, or names nobody that could be asked.
    """
    try:
        policy = parse_policy(read_bounded(path, POLICY_BYTES), str(path))
    except OSError as error:
        raise WrongUse(f"the witness policy {path} cannot be read: {error.strerror or error}") from None
    except FormatError as error:
        raise WrongUse(f"the witness policy {error.message}", hint=error.hint) from None
    if policy.logs and not any(party.key in log_keys for party in policy.logs):
        raise WrongUse(
            f"the witness policy {path} is of other logs",
            hint=f"its line for this one is: log {log_keys[0].format()}",
        )
    asked = [party.key for party in policy.witnesses.values() if party.url]
    if not 1 <= len(asked) <= MOST_WITNESSES:
        raise WrongUse(
            f"the witness policy {path} names {len(asked)} witnesses with an address; 1 to {MOST_WITNESSES} can be asked",
            hint="a witness's line ends in its address: witness NAME VKEY URL",
        )
    if required and (policy.quorum == NONE or not policy.is_met_by(asked)):
        raise WrongUse(
            f"SAFEAI_WITNESS_REQUIRED is on, and the quorum of {path} is none, or cannot be met by witnesses with an address"
        )
    return policy


def hold_against_witnessed(folder: Path, origin: str, log_keys: tuple[NoteKey, ...], store: Store) -> None:
    """Hold a log against what was cosigned of it, before anything more is signed.

    Raises:
        LogProofInvalid: A checkpoint was kept that its own key signed and it does not lead to.
    """
    for path in (folder / QUORUM, folder / SOME):
        try:
            opened = open_checkpoint(read_bounded(path, MAX_BYTES), origin, log_keys, verify)
        except (OSError, FormatError, LogProofInvalid):
            continue  # it says nothing that this log's key vouches for
        kept = opened.checkpoint
        if kept.size > store.size or root(kept.size, store.node) != kept.root:
            raise LogProofInvalid(
                f"the log {origin} holds {store.size} entries that do not lead to the checkpoint over {kept.size} in "
                f"{path}, which it signed: it was rolled back or written anew\n{opened.note.decode()}",
                hint="nothing was changed or signed; compare it with what the witnesses hold",
            )


class Witnesses:
    """Keeps the newest checkpoints cosigned.

    Args:
        log: The log; started.
        origin: Its name.
        log_keys: Its keys.
        policy: As `read_witness_policy` reads it.
        folder: Where cosigned checkpoints are kept.
        required: Nothing is shown before the quorum has cosigned it.
        count: Is told a witness's name and what came of asking it; must not block.

    Raises:
        WrongUse: A witness's address cannot be asked.
    """

    def __init__(
        self,
        log: AuditLog,
        origin: str,
        log_keys: tuple[NoteKey, ...],
        policy: WitnessPolicy,
        folder: Path,
        *,
        required: bool = False,
        count: Callable[[str, Result], None] = lambda _name, _result: None,
    ) -> None:
        self.required = required
        self._log = log
        self._policy = policy
        self._folder = folder
        self._count = count
        self._every = 0.0 if required else EVERY
        self._askers = [_Asker(WitnessClient.of(one)) for one in policy.witnesses.values() if one.url]
        self._outbox: queue.SimpleQueue[_Answer] = queue.SimpleQueue()
        self._target = b""
        self._lines: dict[NoteKey, NoteSignature] = {}
        self._met = False
        self._wake, self._closing = threading.Event(), threading.Event()
        self._moved = threading.Condition()
        self._waiting: list[tuple[int, Callable[[], None]]] = []
        keys = (*log_keys, *policy.witness_keys())
        self._quorum = self._load(QUORUM, origin, keys)
        self._some = self._load(SOME, origin, keys)
        self._worker = threading.Thread(target=self._run, name="witnesses", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        with suppress(OSError):  # writing to it will say so
            self._folder.mkdir(mode=0o755, exist_ok=True)  # whoever may read the log may read this
        for one in self._askers:
            threading.Thread(target=self._serve, args=(one,), name="witness", daemon=True).start()
        self._log.watch(self._wake.set)
        self._wake.set()
        self._worker.start()

    def close(self) -> None:
        """Ask no more; before the log is closed. A witness that holds its thread keeps nobody."""
        self._closing.set()
        self._wake.set()
        if self._worker.is_alive():
            self._worker.join()
        for one in self._askers:
            one.inbox.put(None)

    @property
    def size(self) -> int:
        """How many entries the newest checkpoint covers that met the quorum."""
        return self._quorum.size if self._quorum else 0

    def newest(self) -> bytes | None:
        """The newest checkpoint that may be shown, with the cosignatures that it has."""
        if self.required:
            return self._quorum.note if self._quorum else None
        note = self._log.store.published
        size = covered(note)
        return next((one.note for one in (self._quorum, self._some) if one and one.size == size), note)

    def settled(self) -> bytes | None:
        """The newest checkpoint that met the quorum, as long as the witnesses keep up; else as `newest`."""
        found = self._quorum
        return found.note if self._met and found else self.newest()

    def receipt(self, receipt: Receipt) -> Receipt:
        """A receipt under a cosigned checkpoint that covers the entry; as it is where there is none."""
        for one in (self._quorum, None if self.required else self._some):
            if one and receipt.index < one.size:
                return replace(receipt, size=one.size, checkpoint=one.note, _nodes=self._log.store.node)
        return receipt

    def when_covered(self, size: int, wake: Callable[[], None]) -> None:
        """Have `wake` called, from any thread, once the quorum has cosigned at least so many entries."""
        with self._moved:
            if self.size < size:
                self._waiting.append((size, wake))
                return
        wake()

    def forget(self, wake: Callable[[], None]) -> None:
        """Whoever waits does so no longer."""
        with self._moved:
            self._waiting = [one for one in self._waiting if one[1] is not wake]

    def wait(self, size: int, seconds: float) -> bool:
        """Wait until the quorum has cosigned at least so many entries; whether it did."""
        done = threading.Event()
        wake = done.set  # one object, by which it is forgotten again
        self.when_covered(size, wake)
        found = done.wait(seconds)
        self.forget(wake)
        return found

    def _load(self, name: str, origin: str, keys: tuple[NoteKey, ...]) -> Cosigned | None:
        path = self._folder / name
        try:
            opened = open_checkpoint(read_bounded(path, MAX_BYTES), origin, keys, verify)
        except FileNotFoundError:
            return None
        except (OSError, FormatError, LogProofInvalid) as error:
            _log.warning(
                "a cosigned checkpoint cannot be used; it is asked for again", file=str(path), why=str(error)
            )
            return None
        if name == QUORUM and not self._policy.is_met_by(opened.signers):
            return None  # the policy was changed
        return Cosigned(opened.checkpoint.size, opened.note)

    def _serve(self, asker: _Asker) -> None:
        """One witness's thread."""
        while (note := asker.inbox.get()) is not None:
            try:
                text = Note.parse(note).text
                found: NoteSignature | NotCosigned = asker.client.cosign(
                    note, text, covered(note), self._log.store.node, SECONDS
                )
            except NotCosigned as refusal:
                found = refusal
            except Exception as fault:  # noqa: BLE001 - a store that is closed meanwhile, too: the worker must hear of it
                found = NotCosigned("unreachable", f"{type(fault).__name__}: {fault}")
            self._outbox.put((asker, note, found))
            self._wake.set()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(self._patience())
            self._wake.clear()
            if self._closing.is_set():
                return
            try:
                self._round()
            except Exception as fault:  # noqa: BLE001 - the next round may be luckier
                self._met = False
                _log.error("a round of the witnesses failed", why=f"{type(fault).__name__}: {fault}")
                self._closing.wait(EVERY)
            self._closing.wait(self._every)

    def _patience(self) -> float | None:
        """Until when nothing is to be done, as long as the log does not grow and nobody answers late."""
        free = (one for one in self._askers if not one.busy and one.client.key not in self._lines)
        until = min(
            *(one.overdue for one in self._askers), *(one.pause_until for one in free), math.inf, math.inf
        )
        return None if until == math.inf else max(0.05, until - time.monotonic())

    def _round(self) -> None:
        note = self._log.store.published
        if note is None:
            return
        if note != self._target:
            self._target, self._lines = note, {}
        while not self._outbox.empty():
            self._take(*self._outbox.get())
        self._late()
        started, asked = time.monotonic(), {}
        for one in self._askers:
            if not one.busy and one.client.key not in self._lines and one.pause_until <= started:
                one.busy, one.overdue, asked[id(one)] = True, started + SECONDS + 1, one
                one.inbox.put(note)
        while asked and not self._closing.is_set():
            if self._is_met() and all(one.last != "cosigned" for one in asked.values()):
                break  # only such are awaited as did not cosign the last time either
            try:
                asker, answered, found = self._outbox.get(timeout=0.25)
            except queue.Empty:
                for one in self._late():
                    asked.pop(id(one), None)
                continue
            asked.pop(id(asker), None)
            self._take(asker, answered, found)
            if self._is_met() and self.size < covered(note):
                self._keep()  # whoever waits for the quorum need not wait for the rest
        self._met = self._is_met()
        if self._lines:
            self._keep()

    def _late(self) -> list[_Asker]:
        """Those that have held their thread for too long, each told once; they are asked again once they let go."""
        now = time.monotonic()
        found = [one for one in self._askers if one.busy and one.overdue <= now]
        for one in found:
            one.overdue = math.inf
            self._note(one, "unreachable", "it holds its connection and does not answer")
        return found

    def _take(self, asker: _Asker, answered: bytes, found: NoteSignature | NotCosigned) -> None:
        asker.busy, asker.overdue = False, math.inf
        if isinstance(found, NotCosigned):
            asker.failures += 1
            asker.pause_until = time.monotonic() + min(_LONGEST_PAUSE, 0.5 * 2 ** min(asker.failures, 10))
            self._note(asker, found.result, str(found))
            return
        asker.failures, asker.pause_until = 0, 0.0
        if answered == self._target:
            self._lines[asker.client.key] = found
        self._note(asker, "cosigned")

    def _note(self, asker: _Asker, result: Result, why: str = "") -> None:
        """Count what came of asking, and say so where it is another thing than the last time."""
        self._count(asker.name, result)
        if result == "cosigned" and asker.last not in ("", result):
            _log.info("a witness cosigns again", witness=asker.name)
        elif result not in ("cosigned", asker.last):
            _log.warning("a witness did not cosign", witness=asker.name, result=result, why=why)
        asker.last = result

    def _is_met(self) -> bool:
        return bool(self._lines) and self._policy.is_met_by(self._lines)

    def _keep(self) -> None:
        """Keep what was gathered for the target, and tell who waits for it."""
        note = Note.parse(self._target)
        whole = Note(note.text, (*note.signatures, *self._lines.values())).format()
        made, name = Cosigned(covered(self._target), whole), QUORUM if self._is_met() else SOME
        held = self._quorum if name == QUORUM else self._some
        if held and (made == held or made.size < held.size):
            return
        try:
            write_atomically(self._folder / name, whole, mode=0o644)
        except StorageError as error:
            _log.error("a cosigned checkpoint cannot be kept", why=error.message)
        if name == SOME:
            self._some = made
            return
        with self._moved:
            self._quorum = made
            woken = [wake for size, wake in self._waiting if size <= made.size]
            self._waiting = [one for one in self._waiting if one[0] > made.size]
        for wake in woken:
            wake()
