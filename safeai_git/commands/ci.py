"""``safeai-git ci``: what a pipeline runs. Finds the change, judges it, signs, verifies, reports."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec import Struct

from safeai_git import ci
from safeai_git.commands.check import sign_judgements
from safeai_git.commands.decide import decided
from safeai_git.commands.found import Found
from safeai_git.commands.reports import Reports, remarks
from safeai_git.commands.session import Session
from safeai_git.core.display import count, safe_text
from safeai_git.core.envelope import Envelope
from safeai_git.core.errors import (
    FormatError,
    HistoryTooShallow,
    RepositoryError,
    SafeAIError,
    StorageError,
    WrongUse,
)
from safeai_git.core.finding import Decision
from safeai_git.core.receipt import START as RECEIPT
from safeai_git.core.receipt import Receipt
from safeai_git.core.values import replace
from safeai_git.files import read_bounded, write_atomically
from safeai_git.gate import Judgement, worst
from safeai_git.git.history import merge_bases
from safeai_git.git.notes import Notes
from safeai_git.git.notes_transport import fetch_history, fetch_notes, push_notes
from safeai_git.recorded import RecordedEvidence
from safeai_git.report import data, text
from safeai_git.verify import CommitResult, Verifier

LARGEST_EVENT = 32 * 1024 * 1024
MODES = ("check", "verify", "both")
_STRICTNESS: tuple[Decision, ...] = ("allow", "review", "deny")


class Request(Struct, frozen=True):
    """What the pipeline asks for.

    Attributes:
        mode: ``check``, ``verify`` or ``both``.
        base, head: The commits; empty to take them from the CI system.
        policy: A policy file instead of the base commit's.
        replay: Whether checks are replayed.
        remote: Where history and notes are fetched from; empty to fetch nothing.
        push: Whether verdicts are pushed there.
        fail_on: ``review`` or ``deny``: what ends with 1.
        reports: See `Reports`.
        evidence: The report of the job that replayed; nothing is replayed here then.
        jobs: How many checks are replayed at one time.
        decide: Whether the Governor that the policy and this machine name judges too, and signs.
        verdicts: Where the envelopes of this job's verdicts are written, one a line.
    """

    mode: str
    base: str
    head: str
    policy: Path | None
    replay: bool
    remote: str
    push: bool
    fail_on: str
    reports: Reports
    jobs: int = 1
    evidence: Path | None = None
    decide: bool = False
    verdicts: Path | None = None


def run(session: Session, request: Request) -> int:
    """Judge the change of this job.

    What could not be decided is reported as such before the error goes on: no summary may be missing, and none may
    read as allowed.
    """
    if request.mode not in MODES:
        raise WrongUse(f"--mode is one of {', '.join(MODES)}, not '{request.mode}'")
    if request.fail_on not in ("review", "deny"):
        raise WrongUse(f"--fail-on is review or deny, not '{request.fail_on}'")
    try:
        found = _judge(session, request)
    except SafeAIError as error:
        _report(session, request, Found(error.message, "undecided", facts=[("what to do", error.hint)]))
        raise
    _report(session, request, found)
    failing = _STRICTNESS.index(request.fail_on) if found.decision != "deny" else 0
    return int(_STRICTNESS.index(found.decision) >= max(failing, 1))


def _judge(session: Session, request: Request) -> Found:
    change = _change(session, request)
    if not change.head:
        session.say("nothing to judge: the branch was deleted")
        return Found("The branch was deleted: there is nothing to judge.", "allow")
    if request.remote:
        _bring(session, change, request.remote)
    base, head = _endpoints(session, change)
    session.say(f"judging {base[:12]}..{head[:12]} ({change.system}, {safe_text(change.event)})")
    judged: list[Judgement] = []
    results: list[CommitResult] = []
    signed: list[str] = []
    theirs: Decision = "allow"
    if request.mode in ("check", "both"):
        replay = request.replay and not change.only_data
        gate = session.gate(
            branch=change.branch,
            policy_file=request.policy,
            replay=replay,
            jobs=request.jobs,
            recorded=RecordedEvidence(request.evidence) if request.evidence else None,
        )
        judged = list(gate.range(base, head))
        for one in judged:
            session.say(text.judgement(one, session.style))
        signed = sign_judgements(session, judged, None)
        if request.decide:
            told = decided(session, request.policy, base, head, change.branch)
            theirs = told.decision
            signed += told.digests
        if signed and request.push and request.remote:
            _push(session, request.remote)
    if request.mode in ("verify", "both"):
        verifier = Verifier(session.repository, session.trust(request.policy), now=time.time)
        results = list(verifier.range(base, head))
        for result in results:
            session.say(text.verification(result, session.style))
    decision = worst(judged) if judged or request.mode == "check" else "allow"
    decision = max(decision, theirs, key=_STRICTNESS.index)
    if not all(one.passes for one in results):
        decision = "deny"
    session.say(f"{session.style.decision(decision)} {base[:12]}..{head[:12]}")
    if session.output_format != "text":
        session.data(
            {
                "decision": decision,
                "base": base,
                "head": head,
                "judgements": [data.judgement(one) for one in judged],
                "commits": [data.verification(one) for one in results],
                "signed": signed,
            }
        )
    facts = [
        ("base", base),
        ("head", head),
        ("branch", change.branch),
        ("judged", count(len(judged), "verdict")),
        ("verified", count(len(results), "commit")),
        ("signed", count(len(signed), "verdict")),
    ]
    envelopes, index = _kept(session, judged, signed)
    if index >= 0:
        facts.append(("receipt-index", str(index)))
    if request.verdicts is not None and envelopes:
        write_atomically(request.verdicts, b"".join(one + b"\n" for one in envelopes), mode=0o644)
        facts.append(("verdicts", str(request.verdicts)))
    title = f"{change.event.replace('_', ' ')} on {change.target or change.branch or 'this repository'}"
    return Found(title, decision, judged, results, facts)


def _kept(session: Session, judged: Sequence[Judgement], signed: Sequence[str]) -> tuple[list[bytes], int]:
    """The envelopes that this job brought about, and where the Governor's log holds the last; -1 for nowhere yet."""
    notes = Notes(session.repository)
    last = -1
    envelopes: dict[str, bytes] = {}
    for tree in {one.verdict.proposal.tree for one in judged} if signed else ():
        for line in notes.lines(tree):
            with suppress(FormatError):
                if line.startswith(RECEIPT):
                    receipt = Receipt.parse(line)
                    last = max(last, receipt.proof.index) if receipt.envelope in signed else last
                else:
                    envelope = Envelope.parse(line)
                    envelopes[envelope.digest] = line
    return [envelopes[one] for one in dict.fromkeys(signed) if one in envelopes], last


def _bring(session: Session, change: ci.Change, remote: str) -> None:
    """Fetch what the job's clone lacks. What cannot be had is found missing afterwards, with what to do about it."""
    repository = session.repository
    wanted: tuple[str, ...] = ()
    try:
        repository.commit_id(change.head)
    except RepositoryError:
        wanted = (f"refs/pull/{change.pull_request}/head",) if change.pull_request else (change.head,)
    try:
        fetch_history(repository, remote, wanted)
        fetch_notes(repository, remote)
    except (StorageError, FormatError) as error:
        session.note(f"safeai-git: {error.message}")


def _change(session: Session, request: Request) -> ci.Change:
    if request.base and request.head:
        return ci.Change("explicit", "range", request.base, request.head)
    change = ci.detect(session.environ, _event(session.environ))
    return replace(change, base=request.base or change.base, head=request.head or change.head)


def _event(environ: Mapping[str, str]) -> Mapping[str, Any]:
    path = environ.get("GITHUB_EVENT_PATH", "")
    if not path or environ.get("GITHUB_ACTIONS") is None:
        return {}
    try:
        event = json.loads(read_bounded(Path(path), LARGEST_EVENT))
    except (OSError, ValueError, RecursionError) as error:
        raise RepositoryError(f"the event {path} cannot be read: {error}") from error
    return event if isinstance(event, dict) else {}


def _endpoints(session: Session, change: ci.Change) -> tuple[str, str]:
    """The two commits, as they are in this clone."""
    repository = session.repository
    try:
        head = repository.commit_id(change.head)
        if change.base:
            return repository.commit_id(change.base), head
    except RepositoryError as error:
        raise HistoryTooShallow(
            f"this clone lacks a commit of the change: {error.message}",
            hint="fetch the whole history first (actions/checkout: 'fetch-depth: 0'; GitLab: GIT_DEPTH=0)",
        ) from error
    # A new branch: everything that the branch it goes to does not have.
    target = change.target
    tip = target and (
        repository.ref(f"refs/remotes/origin/{target}") or repository.ref(f"refs/heads/{target}")
    )
    if not tip:
        raise HistoryTooShallow(
            f"the build names no base, and the branch {target!r} that it could be is not in this clone",
            hint=f"fetch it: git fetch origin {target or 'BRANCH'}; or name it: --base",
        )
    bases = merge_bases(repository, tip, head)
    return (bases[0] if bases else tip), head


def _push(session: Session, remote: str) -> None:
    """A token that may only read is no reason to fail: the verdict stands in the log of the job."""
    try:
        push_notes(session.repository, remote)
    except StorageError as error:
        session.note(f"safeai-git: the verdicts stay here: {error.message}")


def _report(session: Session, request: Request, found: Found) -> None:
    request.reports.write(found)
    summary = session.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        _append(Path(summary), Reports.text("markdown", found))
    output = session.environ.get("GITHUB_OUTPUT")
    if output:
        facts = dict(found.facts)
        values = {
            "decision": found.decision,
            "findings": str(len(remarks(found))),
            "base": facts.get("base", ""),
            "head": facts.get("head", ""),
            "receipt-index": facts.get("receipt-index", ""),
            "verdicts": facts.get("verdicts", ""),
        }
        _append(Path(output), "".join(_output(name, value) for name, value in values.items()))


def _output(name: str, value: str) -> str:
    """In the form that holds any value: its end cannot be guessed (GitHub, "Multiline strings")."""
    end = secrets.token_hex(16)
    return f"{name}<<{end}\n{value}\n{end}\n"


def _append(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "ab") as file:
            file.write(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error
