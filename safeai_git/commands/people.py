"""``verify``, ``approve``, ``show``: who vouches for what."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safeai_git.commands.demands import Demands
from safeai_git.commands.found import Found, Report
from safeai_git.commands.session import Session
from safeai_git.commands.summaries import write_summary
from safeai_git.commands.trust_root import endpoints, since_policy
from safeai_git.core.display import count, safe_text
from safeai_git.core.envelope import Envelope, Opened, check_envelope
from safeai_git.core.errors import FormatError, WrongUse
from safeai_git.core.log.note import NoteKey
from safeai_git.core.receipt import START as RECEIPT
from safeai_git.core.trust import Refusal
from safeai_git.core.verdict import APPROVAL_NAMESPACE, VERDICT_NAMESPACE, Claim, parse_statement
from safeai_git.git.notes import Notes
from safeai_git.git.store import read_commit
from safeai_git.keys.ed25519 import verify as verify_signature
from safeai_git.report import data, text
from safeai_git.seal import Sealer
from safeai_git.trust import Trust
from safeai_git.verify import CommitResult, Verifier


def verify(
    session: Session,
    revisions: str,
    *,
    policy: Path | None,
    everything: bool,
    report: Report | None = None,
    log_keys: Sequence[str] = (),
    demands: Demands | None = None,
) -> int:
    """Verify a range; without one, everything since the policy was introduced. 0 when each commit passes."""
    demands = demands or Demands()
    known = tuple(NoteKey.bounded(one) for one in log_keys)
    if len({one.name for one in known}) > 1:
        raise WrongUse("the keys of --log-key belong to different logs", hint="name the keys of one log")
    base, head = _ends(session, revisions, demands)
    verifier = Verifier(
        session.repository,
        session.trust(policy),
        now=time.time,
        log_keys=known,
        approvals=demands.agent_approved > 0,
    )
    total = passed = governed = 0
    failed: list[CommitResult] = []
    style = session.style
    if not revisions and not demands.mergeable:
        session.say(f"trust root: {base[:12]}, the commit that introduced .safeai/policy.yaml")
    results = []
    for found in _results(verifier, base, head, demands):
        result = demands.held_against(found)
        total += 1
        passed += result.passes
        governed += result.status != "not-governed"
        if not result.passes:
            failed.append(result)
        if session.output_format == "jsonl":
            session.data(data.verification(result))
        elif session.output_format == "json":
            results.append(data.verification(result))
        elif everything or not result.passes or (result.status == "valid" and total <= 1000):
            subject = read_commit(session.repository.store, result.commit).text.split("\n", 1)[0]
            session.say(text.verification(result, style, subject))
        if total % 500 == 0:
            session.progress(f"{total:,} commits verified")
    decision = "allow" if passed == total else "deny"
    if session.output_format == "json":
        session.data({"decision": decision, "base": base, "head": head, "commits": results})
    else:
        session.say(
            f"{style.decision(decision)} {count(total, 'commit')}, {governed:,} governed, {len(failed):,} without a verdict "
            f"that lets them pass ({base[:12] or 'the beginning'}..{head[:12]})"
        )
    if demands.vsa:
        write_summary(session, session.trust(policy).at(base), head, decision, demands.vsa)
    if report is not None:
        report(Found(f"verification of {base[:12]}..{head[:12]}", decision, results=failed))
    return 0 if decision == "allow" else 1


def _ends(session: Session, revisions: str, demands: Demands) -> tuple[str, str]:
    """Where a verification begins and ends."""
    if revisions and (demands.ref or demands.mergeable):
        raise WrongUse("a range goes neither with --ref nor with --mergeable", hint="leave the range out")
    if revisions:
        return endpoints(session, revisions)
    head = session.repository.commit_id(demands.ref or "HEAD") if demands.ref or demands.mergeable else ""
    if demands.mergeable:
        return session.repository.commit_id(demands.mergeable), head
    return since_policy(session, head)


def _results(verifier: Verifier, base: str, head: str, demands: Demands) -> Iterator[CommitResult]:
    yield from verifier.range(base, head)
    if demands.mergeable:
        yield verifier.landing(base, head)


def approve(session: Session, revision: str, *, reason: str) -> int:
    """Sign an approval of a commit, of a range's net change, or of the staged tree."""
    signer = session.need_signer()
    gate = session.gate(replay=False)
    if ".." in revision:
        base, head = endpoints(session, revision)
        judged = [one for one in gate.range(base, head) if one.verdict.decision == "review"]
        if not judged:
            raise WrongUse(
                f"nothing in {revision} needs an approval", hint="'safeai-git check --range' shows what does"
            )
    else:
        judged = [gate.commit(session.repository.commit_id(revision)) if revision else gate.staged()]
    sealer = Sealer(session.repository, signer)
    for one in judged:
        proposal = one.verdict.proposal
        if one.verdict.decision == "deny":
            session.note("safeai-git: the policy denies this change; an approval does not lift that")
        envelope = sealer.approve(one, reason)
        answer = one.trust.keyring.trusts(signer.key_id, APPROVAL_NAMESPACE, one.stamp.time)
        if session.output_format != "text":
            session.data(
                {"tree": proposal.tree, "base_tree": proposal.base_tree, "envelope": envelope.digest}
            )
        session.say(
            f"approved: tree {proposal.tree[:12]} (from {proposal.base_tree[:12] or 'nothing'}), key {signer.key_id}"
        )
        if isinstance(answer, Refusal):
            session.note(f"safeai-git: this approval will not count: {answer.message}")
            session.note('  hint: list the key in .safeai/allowed_signers with namespaces="safeai-approval"')
    return 0


def show(session: Session, revision: str) -> int:
    """Show what is kept about a commit: every verdict and approval, and what it is worth here. 1 when there is none."""
    repository = session.repository
    name = repository.commit_id(revision or "HEAD")
    commit = read_commit(repository.store, name)
    trust = session.trust().at(commit.parents[0] if commit.parents else name)
    notes = Notes(repository)
    lines = sorted({*notes.lines(name), *notes.lines(commit.tree)})
    shown = []
    receipts = [line for line in lines if line.startswith(RECEIPT)]
    for line in sorted(set(lines) - set(receipts)):
        try:
            envelope = Envelope.parse(line)
            claim = parse_statement(envelope.untrusted_payload)
        except FormatError as error:
            session.note(f"safeai-git: a line of the note is no envelope: {error.message}")
            continue
        shown.append(_shown(session, envelope, claim, trust))
    if session.output_format != "text":
        session.data({"commit": name, "tree": commit.tree, "envelopes": shown})
    elif receipts:
        session.say(
            f"{count(len(receipts), 'receipt')} of a log; 'safeai-git verify --log-key KEY' checks them"
        )
    elif not shown:
        session.say(f"nothing is kept about {name[:12]}; 'safeai-git verify' says how to get a verdict")
    return 0 if shown else 1


def _shown(session: Session, envelope: Envelope, claim: Claim, trust: Trust) -> dict[str, object]:
    purpose = VERDICT_NAMESPACE if claim.kind == "verdict" else APPROVAL_NAMESPACE
    opened = check_envelope(envelope, trust.keyring, purpose=purpose, at=claim.time, verify=verify_signature)
    trusted = isinstance(opened, Opened)
    predicate = claim.data["predicate"]
    worth = (
        "signature holds, key trusted"
        if isinstance(opened, Opened)
        else f"counts for nothing: {opened.message}"
    )
    style = session.style
    head = style.decision(claim.decision) if claim.decision else style.bold("APPROVAL")
    session.say(f"{head} {predicate['time']} envelope {envelope.digest[:16]}")
    session.say(f"  {style.ok(worth) if trusted else style.bad(safe_text(worth))}")
    session.say(f"  key {', '.join(one.keyid for one in envelope.signatures)}")
    session.say(
        f"  tree {claim.tree[:12]} from {claim.base_tree[:12] or 'nothing'}, policy {claim.policy_digest[:16]}"
    )
    if claim.kind == "verdict":
        edits, who = predicate["edits"], predicate["attribution"]
        session.say(
            f"  {count(edits['count'], 'edit')}, {edits['total_size']:,} bytes, by {text.author(who['class'], who['agent'])}"
        )
        session.say(f"  gate {safe_text(predicate['gate'])}, report {predicate['report']['sha256'][:16]}")
        _show_report(session, predicate["report"]["sha256"], predicate)
    elif predicate["reason"]:
        session.say(f"  reason: {safe_text(predicate['reason'])}")
    return {"digest": envelope.digest, "trusted": trusted, "worth": worth, "statement": claim.data}


def _show_report(session: Session, digest: str, predicate: dict[str, Any]) -> None:
    """All findings if the report is here, else the first ones that the statement carries."""
    from_statement = predicate["findings"]
    path = session.repository.private_directory / "reports" / f"{digest}.json"
    try:
        findings = json.loads(path.read_bytes())["findings"]
        complete = True
    except (OSError, ValueError, KeyError):
        findings, complete = from_statement["first"], False
    for one in findings:
        why = f": {safe_text(one['message'])}" if "message" in one else ""
        session.say(f"  {one['outcome']:6} {safe_text(one.get('path', ''))} [{safe_text(one['rule'])}]{why}")
    if not complete and from_statement["count"] > len(findings):
        session.say(f"  ... {from_statement['count'] - len(findings)} more in the report, which is not here")
