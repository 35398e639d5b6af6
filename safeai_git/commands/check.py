"""``safeai-git check``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec import Struct

from safeai_git.commands.found import Found, Report
from safeai_git.commands.session import Session
from safeai_git.commands.trust_root import endpoints
from safeai_git.core.display import count
from safeai_git.core.errors import RepositoryError, WrongUse
from safeai_git.files import read_bounded
from safeai_git.gate import Gate, Judgement, worst
from safeai_git.policy_change import policy_change
from safeai_git.report import data, text
from safeai_git.report import policy_change as report_policy_change
from safeai_git.seal import Sealer

LARGEST_PATCH = 64 * 1024 * 1024


class Request(Struct, frozen=True):
    """What `check` was asked for."""

    revisions: str = ""
    patch: Path | None = None
    base: str = ""
    agent: str = ""
    branch: str = ""
    policy: Path | None = None
    replay: bool = True
    sign: bool | None = None
    report: Report | None = None
    jobs: int = 1


def check(session: Session, request: Request) -> int:
    """Judge a change, sign the verdicts if a key is configured, report, and say 0 for allow and 1 for anything else."""
    if request.sign:
        session.need_key()
    gate = session.gate(
        agent=request.agent,
        branch=request.branch,
        policy_file=request.policy,
        replay=request.replay,
        jobs=request.jobs,
    )
    judged: list[Judgement] = []
    for one in _judgements(session, gate, request):
        judged.append(one)
        if session.output_format == "jsonl":
            session.data(_data(session, one))
    decision = worst(judged)
    if session.output_format == "text":
        _show(session, judged, decision)  # first: a key that cannot be used must not hide what was found
    signed = sign_judgements(session, judged, request.sign)
    if session.output_format == "json":
        session.data(
            {"decision": decision, "judgements": [_data(session, one) for one in judged], "signed": signed}
        )
    elif session.output_format == "jsonl":
        session.data({"decision": decision, "judged": len(judged), "signed": signed})
    elif signed:
        session.say(f"signed: {count(len(signed), 'verdict')} in refs/notes/safeai")
    if request.report is not None:
        request.report(Found(_title(request), decision, judged))
    return 0 if decision == "allow" else 1


def _title(request: Request) -> str:
    if request.patch is not None:
        return f"patch {request.patch}"
    return f"range {request.revisions}" if request.revisions else "staged change"


def _judgements(session: Session, gate: Gate, request: Request) -> Iterable[Judgement]:
    if request.patch is not None:
        if request.revisions:
            raise WrongUse("--patch and --range exclude each other", hint="use --patch FILE --base REV")
        base = session.repository.commit_id(request.base or "HEAD")
        return [gate.patch(_read_patch(request.patch), base)]
    if request.base:
        raise WrongUse("--base goes with --patch", hint="for a range, use --range BASE..HEAD")
    if request.revisions:
        base, head = endpoints(session, request.revisions)
        return gate.range(base, head)
    return [gate.staged()]


def _read_patch(path: Path) -> bytes:
    try:
        if str(path) == "-":
            patch = sys.stdin.buffer.read(LARGEST_PATCH + 1) if sys.stdin else b""
        else:
            patch = read_bounded(path, LARGEST_PATCH)
    except OSError as error:
        raise WrongUse(
            f"{path}: {error.strerror}", hint="name a file made by 'git diff' or 'git format-patch'"
        ) from error
    if len(patch) > LARGEST_PATCH:
        raise RepositoryError(f"the patch is larger than {LARGEST_PATCH:,} bytes", hint="split it")
    return patch


def sign_judgements(session: Session, judged: list[Judgement], sign: bool | None) -> list[str]:
    """Sign what is governed; returns the digests of the envelopes."""
    governed = [one for one in judged if one.verdict.governed and one.verdict.proposal.tree]
    if sign is False or not governed:
        return []
    signer = session.need_signer() if sign else session.signer()
    if signer is None:
        session.note("safeai-git: not signed: no key is configured ('safeai-git keys generate' makes one)")
        return []
    sealer = Sealer(session.repository, signer)
    verdicts = [(one, sealer.seal(one)) for one in governed]
    sealer.keep_all(verdicts)
    session.deliver(governed[-1].trust.policy)
    return [sealed.envelope.digest for _, sealed in verdicts]


def _data(session: Session, one: Judgement) -> dict[str, Any]:
    """A judgement for programs, with what it does to the policy where it touches that."""
    change = policy_change(session.repository, one.verdict.proposal)
    known = data.judgement(one)
    return known if change is None else {**known, "policy_change": report_policy_change.data(change)}


def _show(session: Session, judged: list[Judgement], decision: str) -> None:
    style = session.style
    if judged:
        session.say(text.policies(judged))
    for one in judged:
        session.say(text.judgement(one, style))
        change = policy_change(session.repository, one.verdict.proposal)
        if change is not None:
            session.say(report_policy_change.remark(change))
    if len(judged) != 1:
        session.say(text.summary(judged, decision, style))
