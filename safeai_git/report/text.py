"""Judgements for people: every finding with what to do about it, safe to print on any terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from safeai_git.core.display import count, display, safe_text
from safeai_git.core.finding import Finding
from safeai_git.judging import Judgement
from safeai_git.report.style import Style

if TYPE_CHECKING:
    from safeai_git.verify import CommitResult

_MOST_FINDINGS = 50

_KINDS = {
    "staged": "staged change",
    "commit": "commit",
    "merge": "merge commit",
    "net": "net change",
    "merge-result": "result of the merge",
    "patch": "patch",
}


def judgement(one: Judgement, style: Style) -> str:
    """One judgement, several lines, without a newline at the end."""
    verdict = one.verdict
    proposal, attribution = verdict.proposal, verdict.proposal.attribution
    name = f" {proposal.head_commit[:12]}" if proposal.head_commit else ""
    what = (
        f"{_KINDS[proposal.kind]}{name}: {count(len(proposal.edits), 'edit')}, {proposal.total_size:,} bytes"
    )
    lines = [
        f"{style.decision(one.decision)} {what}, by {author(attribution.author_class, attribution.agent)}"
    ]
    if not verdict.governed:
        lines.append("  the policy does not govern it")
        return "\n".join(lines)
    shown = sorted(verdict.findings, key=lambda finding: -finding.outcome)
    lines += [text for one_finding in shown[:_MOST_FINDINGS] for text in finding(one_finding, style)]
    if len(shown) > _MOST_FINDINGS:
        lines.append(
            f"  ... and {len(shown) - _MOST_FINDINGS:,} more findings (all of them with --format json)"
        )
    lines += [
        f"  check {evidence.name}: {evidence.result} ({safe_text(evidence.detail)}, {evidence.seconds:.1f} s, "
        f"{evidence.isolation or 'not run'})"
        for evidence in verdict.context.evidence.values()
    ]
    if one.approved_by:
        lines.append(f"  approved by {', '.join(safe_text(who) for who in one.approved_by)}")
    return "\n".join(lines)


def author(author_class: str, agent: str) -> str:
    """``claude-code (ai)`` or ``human``."""
    return f"{safe_text(agent)} ({author_class})" if agent else author_class


def finding(one: Finding, style: Style) -> list[str]:
    """One finding: where, what, what to do, who can lift it."""
    where = "" if one.path is None else display(one.path)
    head = f"  {style.outcome(one.outcome)} {style.bold(where)}{' ' if where else ''}[{safe_text(one.rule)}]"
    return [
        head,
        f"      why: {safe_text(one.message)}",
        f"      do: {safe_text(one.remedy)}",
        f"      lifted by: {safe_text(one.lifted_by)}",
    ]


def policies(judgements: Iterable[Judgement]) -> str:
    """Which policy was held against the changes, said aloud when it is only the built-in one."""
    lines: list[str] = []
    for one in judgements:
        if one.trust.builtin:
            lines.append(
                "policy: none in this repository, so the built-in default ('safeai-git init' writes one)"
            )
        else:
            lines.append(f"policy: {safe_text(one.trust.policy.source)}")
    return "\n".join(dict.fromkeys(lines))


def summary(judgements: list[Judgement], decision: str, style: Style) -> str:
    """The last line."""
    found = [finding for one in judgements for finding in one.verdict.findings]
    counts = [
        f"{number} {word}"
        for word in ("deny", "review", "warn")
        if (number := sum(finding.outcome.word == word for finding in found))
    ]
    governed = sum(one.verdict.governed for one in judgements)
    what = f"{len(judgements)} judged, {governed} governed"
    return f"{style.decision(decision)} {what}{'; findings: ' + ', '.join(counts) if counts else ''}"


def verification(result: CommitResult, style: Style, subject: str = "") -> str:
    """One commit's verification."""
    mark = style.ok("ok") if result.passes else style.bad(result.status)
    who = author(result.attribution.author_class, result.attribution.agent)
    lines = [f"{mark} {result.commit[:12]} {safe_text(subject)[:60]} [{who}] {safe_text(result.reason)}"]
    if result.signed_by and result.passes:
        by = f"; approved by {', '.join(map(safe_text, result.approved_by))}" if result.approved_by else ""
        lines[0] += f", signed by {', '.join(map(safe_text, result.signed_by))}{by}"
    if not result.passes and result.hint:
        lines.append(f"      do: {safe_text(result.hint)}")
    return "\n".join(lines)
