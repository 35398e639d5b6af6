"""``safeai-git hook run post-receive``: after a push, say which commits on a protected ref have no verdict.

The push has been taken: nothing is refused here. What got there past pre-receive (it was not installed, or somebody
moved the ref on the server), or was judged elsewhere and brought no evidence, is told to the pusher and kept as a line
of JSON for whoever watches the server. Protected are the branch that ``HEAD`` names and the refs that
``safeai.protectedRefs`` names (patterns as in a policy, by spaces).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from safeai_git.commands.receive import deadline_seconds
from safeai_git.commands.session import Session
from safeai_git.commands.trust_root import since_policy
from safeai_git.core.display import count, display
from safeai_git.core.errors import CouldNotDecide
from safeai_git.core.trust import format_time
from safeai_git.core.wildmatch import Pattern, PatternSet
from safeai_git.gate import Deadline
from safeai_git.ledger import append
from safeai_git.ref_updates import LARGEST_INPUT, Update, head_ref, parse_updates
from safeai_git.report import data, text
from safeai_git.report.style import Style
from safeai_git.verify import CommitResult, Verifier

PROTECTED_KEY = "safeai.protectedRefs"
FILE = "unverified.jsonl"
LONGEST_SECONDS = 60
_MOST_SHOWN = 50

_PLAIN = Style()


def post_receive(session: Session, arguments: Sequence[str]) -> int:
    """Verify what a push brought to protected refs.

    Args:
        session: Started by git in the server's repository.
        arguments: None, or ``--deadline-seconds N``.

    Returns:
        0 when every commit there has its verdict, 1 when one has none. Git does not ask.

    Raises:
        CouldNotDecide: It could not be found out, or not be kept.
    """
    updates = parse_updates(sys.stdin.buffer.read(LARGEST_INPUT + 1))
    deadline = Deadline(deadline_seconds(arguments, "post-receive") or LONGEST_SECONDS)
    protected = [one for one in updates if one.new and _is_protected(session, one.ref)]
    missing = 0
    for update in protected:
        base, head = (update.old, update.new) if update.old else since_policy(session, update.new)
        verifier = Verifier(session.repository, session.trust(), now=time.time, check=deadline.check)
        failed: list[CommitResult] = []
        error: CouldNotDecide | None = None
        try:
            failed.extend(one for one in verifier.range(base, head) if not one.passes)
        except CouldNotDecide as caught:
            error = caught
        _keep(session, update, failed, error)
        missing += len(failed)
        if failed:
            ref = display(update.ref)
            session.note(
                f"safeai-git: {ref} has {count(len(failed), 'commit')} without a verdict that lets pass"
            )
            for one in failed[:_MOST_SHOWN]:
                session.note(text.verification(one, _PLAIN))
            if len(failed) > _MOST_SHOWN:
                session.note(f"... and {len(failed) - _MOST_SHOWN:,} more")
        if error is not None:
            raise error
    return int(missing > 0)


def _is_protected(session: Session, ref: bytes) -> bool:
    if ref == head_ref(session.repository):
        return True
    patterns = session.repository.config(PROTECTED_KEY).split()
    return PatternSet(Pattern.parse(one) for one in patterns).first_match(ref) is not None


def _keep(
    session: Session, update: Update, failed: Sequence[CommitResult], error: CouldNotDecide | None
) -> None:
    """One line for each commit, and one for what could not be found out."""
    common = {
        "time": format_time(int(time.time())),
        "ref": display(update.ref),
        "old": update.old,
        "new": update.new,
    }
    rows = [{**common, **data.verification(one)} for one in failed]
    if error is not None:
        rows.append({**common, "status": "undecided", "reason": error.message, "hint": error.hint})
    append(session.repository.private_directory / FILE, rows)
