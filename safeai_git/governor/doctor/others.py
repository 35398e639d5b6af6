"""Those that the log is shown to: witnesses, the archive, the destination of forwarding. Nothing is submitted and nothing written."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

from safeai_git.client.web import exchange
from safeai_git.core.display import count
from safeai_git.core.errors import FormatError, LogProofInvalid, SafeAIError
from safeai_git.core.log.checkpoint import open_checkpoint
from safeai_git.core.log.note import MAX_BYTES, NoteKey
from safeai_git.core.log.policy import Party
from safeai_git.files import read_bounded
from safeai_git.governor.doctor.case import Case
from safeai_git.governor.doctor.report import Examined, of_error
from safeai_git.governor.forward.cursor import CursorFile
from safeai_git.governor.forward.destination import target_of
from safeai_git.governor.forward.open import cursor_of
from safeai_git.governor.witness_client import WitnessClient
from safeai_git.governor.witnesses import FOLDER, QUORUM, SOME, read_witness_policy
from safeai_git.keys.ed25519 import verify

_SECONDS = 5.0
_BEHIND = 1_000


def witnesses(case: Case) -> Iterator[Examined]:
    """The policy, whether each answers, and how far it has cosigned what is kept here."""
    settings = case.settings
    if settings.witness_policy is None:
        return
    if not case.log_keys:
        yield Examined("witnesses", "unknown", "the log's name and key come first")
        return
    policy = read_witness_policy(settings.witness_policy, case.log_keys, required=settings.witness_required)
    asked = [one for one in policy.witnesses.values() if one.url]
    yield Examined(
        "witnesses", "ok", f"{settings.witness_policy}: {count(len(asked), 'witness', 'witnesses')} are asked"
    )
    cosigned = _cosigned(case, tuple(one.key for one in asked))
    for party in asked:
        yield _witness(case, party, cosigned.get(party.key))


def _cosigned(case: Case, keys: tuple[NoteKey, ...]) -> dict[NoteKey, int]:
    """The size up to which each has cosigned, by the checkpoints that were kept."""
    found: dict[NoteKey, int] = {}
    for name in (QUORUM, SOME):
        path = case.settings.data_dir / FOLDER / name
        try:
            data = read_bounded(path, MAX_BYTES)
            opened = open_checkpoint(data, case.origin, (*case.log_keys, *keys), verify)
        except (OSError, FormatError, LogProofInvalid):
            continue  # `log_file` says what is wrong with it
        for key in opened.signers:
            found[key] = max(found.get(key, 0), opened.checkpoint.size)
    return found


def _witness(case: Case, party: Party, size: int | None) -> Examined:
    name = f"witness {party.key.name}"
    try:
        client = WitnessClient.of(party)
        # Its one way in takes POST: any answer to this shows that somebody is there, and submits nothing.
        answer = exchange("GET", f"{client.url}/add-checkpoint", None, {}, seconds=_SECONDS, most=1 << 20)
    except (OSError, SafeAIError) as error:
        return Examined(
            name,
            "bad" if case.settings.witness_required else "warn",
            f"{party.url} does not answer: {error!s}",
            "check its address in the witness policy, and the network policy",
        )
    if answer.status >= 500:
        return Examined(name, "warn", f"{party.url} answers {answer.status}", "tell whoever runs it")
    shown = f"{party.url} answers"
    if size is None:
        return Examined(
            name,
            "warn" if case.size else "ok",
            f"{shown}; no cosignature by its key is kept here",
            "if a Governor has been running, see safeai_witness_requests_total: the key in the policy may be another"
            if case.size
            else "",
        )
    behind = (case.size or 0) - size
    return Examined(
        name,
        "warn" if behind > _BEHIND else "ok",
        f"{shown}, and has cosigned {count(size, 'entry', 'entries')}"
        + (f"; {behind:,} are missing" if behind > 0 else ""),
        "see safeai_witness_requests_total" if behind > _BEHIND else "",
    )


def copies(case: Case) -> Iterator[Examined]:
    """Read how far forwarding and the archive are. Before the log is: a server that runs must not seem to lose entries."""
    if case.settings.forward_to:
        try:
            case.cursor = CursorFile(cursor_of(case.settings)).load()
        except SafeAIError as error:
            yield of_error("forwarding", error)
            case.cursor = error
    if case.archive:
        yield from _segments(case)


def forwarding(case: Case) -> Iterator[Examined]:
    """Whether the destination makes sense, and how far forwarding is. Nothing is sent."""
    settings, held = case.settings, case.cursor
    if not settings.forward_to or isinstance(held, SafeAIError):
        return
    name = target_of(settings).name
    path = cursor_of(settings)
    if held is None:
        yield Examined("forwarding", "ok", f"to {name}; nothing was acknowledged yet: there is no {path}")
    elif held.destination != name or (case.origin and held.origin != case.origin):
        yield Examined(
            "forwarding",
            "bad",
            f"the cursor {path} is of the log {held.origin} to {held.destination}, and not of "
            f"{case.origin} to {name}",
            "name another cursor in SAFEAI_FORWARD_CURSOR",
        )
    elif case.size is None:
        yield Examined("forwarding", "unknown", f"to {name}; the log comes first")
    elif held.position.next > case.size:
        yield Examined(
            "forwarding",
            "bad",
            f"{count(held.position.next, 'entry', 'entries')} were forwarded to {name}, and the log has {case.size:,}",
            "it was rolled back: see 'Fork detected' in docs/deploy/runbooks.md",
        )
    else:
        lag = case.size - held.position.next
        yield Examined(
            "forwarding",
            "warn" if lag > _BEHIND else "ok",
            f"to {name}: {held.position.next:,} of {count(case.size, 'entry', 'entries')}",
            "see ForwardingLags in docs/deploy/runbooks.md" if lag > _BEHIND else "",
        )


def _segments(case: Case) -> Iterator[Examined]:
    name = f"archive {case.archive}"
    module = importlib.import_module("safeai_git.governor.archive")  # zstandard
    remote = case.archive.startswith("s3://")
    if not remote and not Path(case.archive).is_dir():
        yield Examined(name, "bad", "there is no such folder", "'safeai audit archive' makes it; or mount it")
        return
    place = (
        importlib.import_module("safeai_git.governor.archive_s3").S3(case.archive)
        if remote
        else module.Folder(Path(case.archive))
    )
    try:
        segments = module.segments_of(place)
    except SafeAIError as error:
        yield of_error(name, error)
        return
    case.archived = (len(segments), segments[-1].last + 1 if segments else 0)


def archive(case: Case) -> Iterator[Examined]:
    """How far behind the log the archive is."""
    if case.archived is None:
        return
    name = f"archive {case.archive}"
    segments, held = case.archived
    shown = f"{count(segments, 'segment')}, {count(held, 'entry', 'entries')}"
    if case.size is not None and held > case.size:
        yield Examined(
            name,
            "bad",
            f"{shown}, and the log has {case.size:,}: it was cut off, or is an older copy",
            "see 'Restore' in docs/deploy/runbooks.md",
        )
    else:
        behind = "" if case.size is None else f"; {case.size - held:,} of the log are not there yet"
        yield Examined(name, "ok", shown + behind)
