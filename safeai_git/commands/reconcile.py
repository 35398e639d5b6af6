"""``safeai-git hook run post-receive``: after a push, say which commits on a protected ref have no verdict.

The push has been taken: nothing is refused here. What got there past pre-receive (it was not installed, or somebody
moved the ref on the server), or was judged elsewhere and brought no evidence, is told to the pusher, kept as a line
of JSON for whoever watches the server, and reported to the Governor that the server's machine names: at once, or by
``safeai-git push`` once it can be reached. Protected are the branch that ``HEAD`` names and the refs that
``safeai.protectedRefs`` names (patterns as in a policy, by spaces).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence

from msgspec import Struct

from safeai_git.client.spool import IncidentSpool
from safeai_git.commands.receive import deadline_seconds
from safeai_git.commands.session import Session
from safeai_git.commands.trust_root import since_policy
from safeai_git.core.display import count, display, safe_text
from safeai_git.core.errors import CouldNotDecide, WrongUse
from safeai_git.core.incident import Incident
from safeai_git.core.trust import format_time
from safeai_git.core.wildmatch import Pattern, PatternSet
from safeai_git.delivery import destination, is_named
from safeai_git.gate import Deadline
from safeai_git.ledger import append
from safeai_git.ref_updates import LARGEST_INPUT, Update, head_ref, parse_updates
from safeai_git.report import data, text
from safeai_git.report.style import Style
from safeai_git.reporting import Reporting
from safeai_git.verify import CommitResult, Verifier

PROTECTED_KEY = "safeai.protectedRefs"
FILE = "unverified.jsonl"
LONGEST_SECONDS = 60
REPORT_SECONDS = 5.0
"""What one exchange with the Governor may take while the pusher waits, and after how long no further one is begun."""

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
    found = [_verified(session, update, deadline) for update in protected]
    for one in found:
        _keep(session, one)
        _tell(session, one)
    _report(session, found)
    for one in found:
        if one.error is not None:
            raise one.error
    return int(any(one.failed for one in found))


class _Found(Struct, frozen=True):
    """What was found out about one update.

    Attributes:
        update: The update.
        repository: The repository's name, by the policy that judged; empty where that cannot be read.
        failed: The commits that do not pass.
        error: Why there may be more of them.
    """

    update: Update
    repository: str
    failed: list[CommitResult]
    error: CouldNotDecide | None


def _verified(session: Session, update: Update, deadline: Deadline) -> _Found:
    repository = ""
    failed: list[CommitResult] = []
    try:
        base, head = (update.old, update.new) if update.old else since_policy(session, update.new)
        trust = session.trust()
        repository = trust.at(base).policy.repository
        verifier = Verifier(session.repository, trust, now=time.time, check=deadline.check)
        failed.extend(one for one in verifier.range(base, head) if not one.passes)
    except CouldNotDecide as error:
        return _Found(update, repository, failed, error)
    return _Found(update, repository, failed, None)


def _tell(session: Session, found: _Found) -> None:
    if not found.failed:
        return
    ref = display(found.update.ref)
    session.note(
        f"safeai-git: {ref} has {count(len(found.failed), 'commit')} without a verdict that lets pass"
    )
    for one in found.failed[:_MOST_SHOWN]:
        session.note(text.verification(one, _PLAIN))
    if len(found.failed) > _MOST_SHOWN:
        session.note(f"... and {len(found.failed) - _MOST_SHOWN:,} more")


def _report(session: Session, found: Sequence[_Found]) -> None:
    """Tell the Governor; what it cannot be told now waits in the spool. No push hangs on it."""
    incidents = [one for each in found for one in _incidents(each)]
    if not incidents or not is_named(session.repository, session.environ):
        return
    spool = IncidentSpool(session.repository.private_directory)
    for one in incidents:
        spool.add(one)
    try:
        to = destination(session.repository, session.environ, None)
        assert to is not None
        done = Reporting(session.repository, session.environ, to, seconds=REPORT_SECONDS).drain(
            within=REPORT_SECONDS
        )
    except (CouldNotDecide, WrongUse) as error:
        session.note(
            f"safeai-git: the Governor is told later ('safeai-git push' on the server): {safe_text(error.message)}"
        )
        return
    for digest, refusal in done.refused:
        session.note(f"safeai-git: the Governor does not take the report {digest[:16]}: {refusal}")


def _incidents(found: _Found) -> Iterator[Incident]:
    commits: list[tuple[str, str]] = [(one.commit, one.status) for one in found.failed]
    if found.error is not None and found.update.new not in dict(commits):
        commits.append((found.update.new, "undecided"))
    update = found.update
    return Incident.of(
        commits,
        time=int(time.time()),
        repository=found.repository,
        ref=display(update.ref),
        old=update.old,
        new=update.new,
    )


def _is_protected(session: Session, ref: bytes) -> bool:
    if ref == head_ref(session.repository):
        return True
    patterns = session.repository.config(PROTECTED_KEY).split()
    return PatternSet(Pattern.parse(one) for one in patterns).first_match(ref) is not None


def _keep(session: Session, found: _Found) -> None:
    """One line for each commit, and one for what could not be found out."""
    common = {
        "time": format_time(int(time.time())),
        "ref": display(found.update.ref),
        "old": found.update.old,
        "new": found.update.new,
    }
    rows = [{**common, **data.verification(one)} for one in found.failed]
    if found.error is not None:
        rows.append(
            {**common, "status": "undecided", "reason": found.error.message, "hint": found.error.hint}
        )
    append(session.repository.private_directory / FILE, rows)
