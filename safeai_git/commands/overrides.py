"""What a push got past the policy's own answer, and by whose word: one line a push, for whoever administers the server.

An override is a review that approvals lifted, a move of a ref that the server's configuration lets through, or a judge
that the configuration made easier. A push is only taken once its overrides are on the disk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from safeai_git.commands.session import Session
from safeai_git.core.display import display, safe_text
from safeai_git.core.trust import format_time
from safeai_git.ledger import append
from safeai_git.receive import Answer

FILE = "overrides.jsonl"

_PUSHERS = (
    "GL_USERNAME",
    "GL_ID",
    "GITEA_PUSHER_NAME",
    "GITHUB_USER_LOGIN",
    "REMOTE_USER",
    "LOGNAME",
    "USER",
)
"""Who pushes, as GitLab, Gitea and Forgejo, GitHub Enterprise, a web server and sshd say; the first that is set."""


def pusher(environ: Mapping[str, str]) -> str:
    """The name under which the server knows who pushes; empty where it says nothing."""
    return safe_text(next((environ[name] for name in _PUSHERS if environ.get(name)), ""))[:200]


def record(session: Session, answers: Sequence[Answer], *, rewrites_allowed: bool, now: float) -> None:
    """Keep the overrides of a push that is about to be taken.

    Args:
        session: Of the hook.
        answers: What was found about its refs; all of them let it pass.
        rewrites_allowed: Whether the server's configuration says what a rewrite of history comes to.
        now: Seconds since 1970.

    Raises:
        StorageError: They could not be kept; the push must not be taken then.
    """
    rows = [
        {
            "time": format_time(int(now)),
            "pusher": pusher(session.environ),
            "ref": display(answer.update.ref),
            "old": answer.update.old,
            "new": answer.update.new,
            **told,
        }
        for answer in answers
        for told in _of(answer, rewrites_allowed)
    ]
    append(session.repository.private_directory / FILE, rows)


def _of(answer: Answer, rewrites_allowed: bool) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = [
        {
            "override": "approved",
            "commit": one.verdict.proposal.head_commit,
            "tree": one.verdict.proposal.tree,
            "approved_by": [safe_text(name) for name in one.approved_by],
            "rules": sorted({finding.rule for finding in one.verdict.findings}),
        }
        for one in answer.judged
        if one.verdict.decision == "review"
    ]
    if rewrites_allowed:
        told += [
            {"override": "configured", "rules": [finding.rule], "message": safe_text(finding.message)}
            for finding in answer.findings
        ]
    return told
