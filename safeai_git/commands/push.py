"""``safeai-git push``, and the delivery that hooks and pipelines try by themselves."""

from __future__ import annotations

import time

from safeai_git.client.spool import IncidentSpool, Spool
from safeai_git.commands.session import Session
from safeai_git.core.display import count, safe_text
from safeai_git.core.errors import CouldNotDecide, GovernorUnavailable, KeyUnusable, LogProofInvalid
from safeai_git.core.policy_parts import GovernorLink
from safeai_git.core.values import fields
from safeai_git.delivery import LOG_KEY_KEY, URL_KEY, URL_VARIABLE, Delivered, Delivery, destination, told
from safeai_git.organisation import organisation_policy
from safeai_git.organisation_places import organisation_places
from safeai_git.reporting import Reporting

PUSH_SECONDS = 30.0


def push(session: Session) -> int:
    """Deliver the spool, and on a server what it found on protected refs. 0 when nothing is left, 1 when some is refused.

    Then bring the organisation's newest policy, if it is to come from the Governor.

    Raises:
        PolicyError: That one does not count.
        KeyUnusable: No Governor is named on this machine, or its log's key is not.
        GovernorUnavailable: It did not answer; what it took is out of the spool.
        LogProofInvalid: It answered with what is not proven, or its log was forked.
    """
    private = session.repository.private_directory
    waiting = len(Spool(private / "spool"))
    to = destination(session.repository, session.environ, None)
    if to is None:
        found = len(IncidentSpool(private))
        incidents = f" and {count(found, 'incident')}" if found else ""
        raise KeyUnusable(
            f"{count(waiting, 'verdict')}{incidents} in the spool, and this machine names no Governor",
            hint=f"git config --global {URL_KEY} https://HOST, and {LOG_KEY_KEY}; or set {URL_VARIABLE}",
        )
    done = Delivery(session.repository, session.environ, to, seconds=PUSH_SECONDS).drain(
        session.progress, wait=PUSH_SECONDS
    )
    session.say(told(done))
    reported = Reporting(session.repository, session.environ, to, seconds=PUSH_SECONDS).drain(
        session.progress, wait=PUSH_SECONDS
    )
    if reported != Delivered():
        session.say(told(reported, "incident"))
    for digest, why in (*done.refused, *reported.refused):
        session.note(f"safeai-git: {digest[:16]} is not taken: {why}")
    places = organisation_places(session.repository, session.environ)
    if places is not None and places.policy is None:
        organisation_policy(session.repository, session.environ, now=time.time(), ask=True)
    if session.output_format != "text":
        session.data({**fields(done), "incidents": fields(reported)})
    return 1 if done.refused or done.left or reported.refused or reported.left else 0


def deliver(session: Session, link: GovernorLink) -> None:
    """Deliver the spool within the policy's time, as part of something else.

    Raises:
        GovernorUnavailable: It could not be, and the policy does not let verdicts wait.
        LogProofInvalid: The Governor answered with what is not proven, or its log was forked.
    """
    try:
        to = destination(session.repository, session.environ, link)
        if to is None:
            why = f"this machine names no Governor ('git config --global {URL_KEY}')"
            raise GovernorUnavailable(why, hint="'safeai-git push' delivers them once it does")
        waits = 0.0 if link.on_unreachable == "spool" else link.timeout_seconds
        delivery = Delivery(session.repository, session.environ, to, seconds=link.timeout_seconds)
        done = delivery.drain(wait=waits)
    except LogProofInvalid:
        raise
    except CouldNotDecide as error:
        if link.on_unreachable != "spool":
            raise GovernorUnavailable(
                f"the policy wants the verdict on the Governor's log now: {error.message}", hint=error.hint
            ) from error
        session.note(f"safeai-git: the verdict waits in the spool: {safe_text(error.message)}")
        return
    for digest, why in done.refused:
        session.note(f"safeai-git: the Governor does not take {digest[:16]}: {why}")
    if (done.refused or done.left) and link.on_unreachable != "spool":
        raise GovernorUnavailable(
            "the policy wants the verdict on the Governor's log, and it did not take all of them",
            hint="'safeai-git push' says which, and why",
        )
