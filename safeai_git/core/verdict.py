"""Verdicts and approvals as in-toto statements: what is signed, and how it is read back.

A statement stays small enough for any signing service (`MAX_PAE`): it carries the first findings and the digest of
the full report. Formats: in-toto attestation, ``spec/v1/statement.md``; the predicates are in
``docs/formats/verdict.md`` and, for machines, in ``safeai_git/schemas``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from safeai_git.core import canonical
from safeai_git.core.attribution import CLASSES
from safeai_git.core.context import CheckEvidence
from safeai_git.core.display import display, safe_text
from safeai_git.core.envelope import MAX_PAE, PAYLOAD_TYPE, pae
from safeai_git.core.errors import FormatError
from safeai_git.core.evaluate import Verdict
from safeai_git.core.finding import Finding, Outcome
from safeai_git.core.paths import to_json
from safeai_git.core.stamp import Stamp

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
VERDICT_TYPE = "https://safe-ai.dev/attestation/verdict/v1"
APPROVAL_TYPE = "https://safe-ai.dev/attestation/approval/v1"

VERDICT_NAMESPACE = "safeai-verdict"
APPROVAL_NAMESPACE = "safeai-approval"

_LONGEST_TEXT = 120
_MOST_FINDINGS = 8


def report(verdict: Verdict, stamp: Stamp) -> dict[str, Any]:
    """The full report: everything that a verdict rests on, as JSON data. Its digest goes into the statement."""
    proposal = verdict.proposal
    attribution = proposal.attribution
    return {
        "repository": stamp.repository,
        "time": _rfc3339(stamp.time),
        "gate": stamp.gate,
        "kind": proposal.kind,
        "base": {"commit": proposal.base_commit, "tree": proposal.base_tree},
        "head": {"commit": proposal.head_commit, "tree": proposal.tree},
        "policy": {
            "digest": verdict.policy.digest,
            "layers": [{"source": layer.source, "digest": layer.digest} for layer in verdict.policy.layers],
        },
        "attribution": {
            "class": attribution.author_class,
            "agent": safe_text(attribution.agent),
            "confidence": f"{attribution.confidence:.2f}",
            "signals": [
                {
                    "kind": one.kind,
                    "agent": safe_text(one.agent),
                    "class": one.author_class,
                    "evidence": safe_text(one.evidence),
                }
                for one in attribution.signals
            ],
        },
        "governed": verdict.governed,
        "decision": verdict.decision,
        "findings": [finding_data(finding) for finding in verdict.findings],
        "edits": {
            "count": len(proposal.edits),
            "complete": proposal.complete,
            "total_size": proposal.total_size,
            "lines_added": sum(edit.lines_added for edit in proposal.edits),
            "lines_removed": sum(edit.lines_removed for edit in proposal.edits),
            "digest": proposal.edits_digest(),
            "paths": [
                {**to_json(edit.path), "status": edit.status, "size": edit.size} for edit in proposal.edits
            ],
        },
        "evidence": [evidence_data(one) for one in verdict.context.evidence.values()],
        "kill_switch": {
            "state": verdict.context.kill_switch.state,
            "reason": safe_text(verdict.context.kill_switch.reason),
        },
    }


def evidence_data(evidence: CheckEvidence) -> dict[str, Any]:
    """What was observed of one check, as JSON data."""
    return {
        "name": evidence.name,
        "result": evidence.result,
        "detail": safe_text(evidence.detail),
        "command_digest": evidence.command_digest,
        "tree": evidence.tree,
        "milliseconds": round(evidence.seconds * 1000),
        "output_bytes": evidence.output_bytes,
        "output_sha256": evidence.output_sha256,
        "isolation": evidence.isolation,
        "exit_code": evidence.exit_code,
        "signal": evidence.signal,
        "limit": evidence.limit,
        "limits": dict(evidence.limits),
        "attempts": evidence.attempts,
        "artifacts": [
            {"path": safe_text(one.path), "sha256": one.sha256, "bytes": one.bytes}
            for one in evidence.artifacts
        ],
        "prepared": evidence.prepared,
    }


def finding_data(finding: Finding) -> dict[str, Any]:
    """One finding as JSON data."""
    where = {} if finding.path is None else to_json(finding.path)
    return {
        "rule": finding.rule,
        "outcome": finding.outcome.word,
        **where,
        "message": safe_text(finding.message),
        "remedy": finding.remedy,
        "lifted_by": finding.lifted_by,
        "policy": finding.policy,
    }


def statement(verdict: Verdict, stamp: Stamp) -> bytes:
    """The in-toto statement of a verdict, in canonical JSON, small enough to sign anywhere.

    Where it would not fit, the isolation of checks is cut to its level, then findings are cut from the end; their
    number and the report's digest always stand there, and so does every check, up to eight.
    """
    full = report(verdict, stamp)
    proposal = verdict.proposal
    subject = [{"name": "tree", "digest": {"gitTree": proposal.tree}}]
    if proposal.head_commit:
        subject.insert(0, {"name": "commit", "digest": {"gitCommit": proposal.head_commit}})
    predicate: dict[str, Any] = {
        key: full[key]
        for key in ("repository", "time", "gate", "kind", "base", "governed", "decision", "kill_switch")
    }
    predicate["policy"] = {"digest": verdict.policy.digest, "source": _short(verdict.policy.source)}
    predicate["repository"] = _short(stamp.repository)
    predicate["kill_switch"] = {"state": verdict.context.kill_switch.state}
    predicate["attribution"] = {
        "class": proposal.attribution.author_class,
        "agent": _short(proposal.attribution.agent),
        "confidence": f"{proposal.attribution.confidence:.2f}",
    }
    predicate["edits"] = {key: full["edits"][key] for key in ("count", "total_size", "digest")}
    predicate["evidence"] = [
        {
            "name": one.name,
            "result": one.result,
            "command_digest": one.command_digest,
            "output_sha256": one.output_sha256,
            "isolation": one.isolation,
        }
        for one in verdict.context.evidence.values()
    ][:_MOST_FINDINGS]
    predicate["report"] = {"sha256": canonical.digest(full)}
    predicate["findings"] = {"count": len(verdict.findings), "first": []}
    worst_first = sorted(verdict.findings, key=lambda finding: -finding.outcome)
    shown = [
        {"rule": _short(one.rule), "outcome": one.outcome.word, "path": _short(display(one.path or b""))}
        for one in worst_first[:_MOST_FINDINGS]
    ]
    document: dict[str, Any] = {
        "_type": STATEMENT_TYPE,
        "subject": subject,
        "predicateType": VERDICT_TYPE,
        "predicate": predicate,
    }
    while True:
        predicate["findings"]["first"] = shown
        payload = canonical.dumps(document)
        if len(pae(PAYLOAD_TYPE, payload)) <= MAX_PAE:
            return payload
        if any(len(one["isolation"]) > 1 for one in predicate["evidence"]):
            for one in predicate["evidence"]:
                one["isolation"] = one["isolation"][:1]
            continue
        if not shown:
            raise FormatError(
                "a verdict does not fit into a signed statement", hint="use fewer checks in the policy"
            )
        shown.pop()


def approval(
    *, base_tree: str, tree: str, policy_digest: str, repository: str, time: int, reason: str
) -> bytes:
    """The in-toto statement by which somebody approves of exactly one change: this tree, from that base tree."""
    return canonical.dumps(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": "tree", "digest": {"gitTree": tree}}],
            "predicateType": APPROVAL_TYPE,
            "predicate": {
                "repository": _short(repository),
                "base": {"tree": base_tree},
                "policy": {"digest": policy_digest},
                "time": _rfc3339(time),
                "reason": safe_text(reason)[:500],
            },
        }
    )


class Claim(Struct, frozen=True):
    """What a statement of ours says, read back; worth as much as the signature that it came under.

    Attributes:
        kind: ``verdict`` or ``approval``.
        tree, commits: The subjects: one tree, and the commits that are named with it.
        base_tree: The tree that the change starts from; empty for none.
        repository: The name that the policy gave it.
        policy_digest: SHA-256 in hex.
        time: Seconds since 1970.
        decision: ``allow``, ``review`` or ``deny``; empty in an approval.
        governed: Whether the policy had a say.
        checks: Names of the checks that passed.
        data: The whole statement.
    """

    kind: str
    tree: str
    commits: tuple[str, ...]
    base_tree: str
    repository: str
    policy_digest: str
    time: int
    decision: str
    governed: bool
    checks: frozenset[str]
    data: dict[str, Any]


def parse_statement(payload: bytes) -> Claim:
    """Read a statement of ours back.

    Raises:
        FormatError: It is not one, or says something that none of ours can say.
    """
    data: Any = canonical.loads(payload, limit=MAX_PAE)
    try:
        if data["_type"] != STATEMENT_TYPE:
            raise FormatError(f"the statement's type is {data['_type']!r}")
        kind = {VERDICT_TYPE: "verdict", APPROVAL_TYPE: "approval"}[data["predicateType"]]
        predicate = data["predicate"]
        trees = [one["digest"]["gitTree"] for one in data["subject"] if "gitTree" in one["digest"]]
        commits = tuple(
            str(one["digest"]["gitCommit"]) for one in data["subject"] if "gitCommit" in one["digest"]
        )
        if len(trees) != 1:
            raise FormatError("the statement does not name exactly one tree")
        verdict = kind == "verdict"
        if verdict and (
            predicate["decision"] not in ("allow", "review", "deny")
            or predicate["attribution"]["class"] not in CLASSES
            or not isinstance(predicate["governed"], bool)
        ):
            raise FormatError("the statement holds a value that no verdict has")
        return Claim(
            kind=kind,
            tree=str(trees[0]),
            commits=commits,
            base_tree=str(predicate["base"]["tree"]),
            repository=str(predicate["repository"]),
            policy_digest=str(predicate["policy"]["digest"]),
            time=int(datetime.fromisoformat(predicate["time"]).timestamp()),
            decision=predicate["decision"] if verdict else "",
            governed=predicate["governed"] if verdict else True,
            checks=frozenset(str(one["name"]) for one in predicate["evidence"] if one["result"] == "passed")
            if verdict
            else frozenset(),
            data=data,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"the statement is not one of safeai-git's: {error!r}") from error


def needs_review_only(claim: Claim) -> bool:
    """Whether approvals can lift what this verdict holds against the change."""
    return claim.decision == Outcome.REVIEW.word


def _short(text: str) -> str:
    """Foreign text for a statement: no control characters, no lone surrogates, bounded."""
    text = safe_text(text)
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"


def _rfc3339(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
