"""``safeai-git ci --decide``: the Governor judges the job's change too, and signs, so that the job needs no key."""

from __future__ import annotations

from pathlib import Path

from safeai_git.asking import Asking, Decided
from safeai_git.commands.session import Session
from safeai_git.core.display import count
from safeai_git.core.errors import CouldNotDecide, GovernorUnavailable, LogProofInvalid
from safeai_git.delivery import destination

_NOTHING = Decided("allow", (), ())
"""What a Governor that was not asked adds to the job's own decision."""


def decided(session: Session, policy_file: Path | None, base: str, head: str, branch: str) -> Decided:
    """What the Governor makes of a change, on top of what was found here; the stricter of the two counts.

    A job without a token, as a fork's, is judged here alone, and that is said. Where the Governor cannot decide, the
    policy's ``on_unreachable`` says whether the job goes on.

    Raises:
        GovernorUnavailable: It could not decide, and the policy wants a verdict on its log.
        LogProofInvalid: It answered with what is not proven, or its log was forked.
    """
    policy = session.trust(policy_file).at(base).policy
    link = policy.governor
    try:
        if link is None:
            raise GovernorUnavailable("the policy names no Governor")
        to = destination(session.repository, session.environ, link)
        if to is None:
            raise GovernorUnavailable("this job names no Governor")
        if not to.address.token and to.address.certificate is None:
            session.note("safeai-git: the Governor is not asked: this job has no token for it")
            return _NOTHING
        found = Asking(session.repository, session.environ, to).decide(policy.repository, base, head, branch)
    except LogProofInvalid:
        raise
    except CouldNotDecide as error:
        if link is None or link.on_unreachable != "spool":
            raise GovernorUnavailable(
                f"the Governor did not decide: {error.message}", hint=error.hint
            ) from error
        session.note(f"safeai-git: the Governor did not decide: {error.message}")
        return _NOTHING
    word = f"{session.style.decision(found.decision)} by the Governor, {count(len(found.digests), 'verdict')}"
    session.say(word)
    for rule, message in found.findings:
        session.say(f"  [{rule}] {message}")
    return found
