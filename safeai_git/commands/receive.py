"""``safeai-git hook run pre-receive``: judge a push, and tell the pusher all that is wrong with it at once."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from safeai_git import __version__
from safeai_git.commands.overrides import record
from safeai_git.commands.quick import kill_switch
from safeai_git.commands.session import Session
from safeai_git.core.display import count, display, safe_text
from safeai_git.core.errors import CouldNotDecide, PolicyError, WrongUse
from safeai_git.core.finding import Outcome
from safeai_git.gate import Deadline
from safeai_git.policy_vm import evaluate_expression, rules_out
from safeai_git.receive import Answer, Receiver
from safeai_git.ref_updates import LARGEST_INPUT, Update, parse_updates
from safeai_git.report import text
from safeai_git.report.style import Style

DEADLINE = "--deadline-seconds"
REWRITE_KEY = "safeai.historyRewrite"
_LONGEST_DEADLINE = 86_400
_MOST_SHOWN = 100
"""Verdicts shown for one ref; the first ones tell what is the matter."""

_PLAIN = Style()


def pre_receive(session: Session, arguments: Sequence[str]) -> int:
    """Judge the push that git describes on standard input.

    Args:
        session: Started by git in the server's repository.
        arguments: None, or ``--deadline-seconds N`` in place of the policy's.

    Returns:
        0 to take the push, 1 to refuse it.

    Raises:
        CouldNotDecide: Nothing was refused and something could not be decided.
    """
    updates = parse_updates(sys.stdin.buffer.read(LARGEST_INPUT + 1))
    return _receive(session, updates, deadline_seconds(arguments, "pre-receive"))


def update(session: Session, arguments: Sequence[str]) -> int:
    """Judge one ref of a push, for servers that offer no pre-receive: git's update hook.

    Args:
        session: Started by git in the server's repository.
        arguments: ``--deadline-seconds N`` or nothing, then the ref, its old and its new object (githooks(5)).

    Returns:
        0 to move the ref, 1 to refuse it.

    Raises:
        CouldNotDecide: As for `pre_receive`.
    """
    if len(arguments) < 3:
        raise WrongUse("update takes a ref and two object names", hint='let git start this hook, with "$@"')
    *before, ref, old, new = arguments
    updates = parse_updates(os.fsencode(f"{old} {new} {ref}\n"))
    return _receive(session, updates, deadline_seconds(before, "update"))


def _receive(session: Session, updates: list[Update], seconds: int) -> int:
    repository = session.repository
    trust = session.trust()
    seconds = seconds or trust.at(repository.head()).policy.deadline_seconds
    rewrites = repository.config(REWRITE_KEY)
    receiver = Receiver(
        repository,
        trust,
        version=__version__,
        now=time.time,
        evaluate_expression=evaluate_expression,
        rules_out=rules_out,
        kill_switch=kill_switch(session.environ),
        deadline=Deadline(seconds),
        on_rewrite=_on_rewrite(rewrites),
    )
    refused = 0
    undecided = 0
    answers: list[Answer] = []
    for answer in receiver.answers(updates):
        answers.append(answer)
        _tell(session, answer)
        refused += answer.decision != "allow"
        undecided += answer.error is not None
    if refused:
        session.note(f"safeai-git: the push is refused: {refused} of {count(len(updates), 'ref')}")
        return 1
    if undecided:
        raise CouldNotDecide(
            f"the push is not taken: no decision about {undecided} of {count(len(updates), 'ref')}",
            hint="what kept it from being decided stands above",
        )
    record(session, answers, rewrites_allowed=rewrites == "warn", now=time.time())
    return 0


def deadline_seconds(arguments: Sequence[str], hook: str) -> int:
    """The deadline that a hook of the server was given; 0 for none.

    Raises:
        WrongUse: It was given something else.
    """
    if not arguments:
        return 0
    words = arguments[0].split("=", 1) if len(arguments) == 1 else list(arguments)
    if len(words) == 2 and words[0] == DEADLINE and words[1].isascii() and words[1].isdigit():
        seconds = int(words[1][:9])
        if 1 <= seconds <= _LONGEST_DEADLINE:
            return seconds
    raise WrongUse(
        f"{hook} does not take {safe_text(' '.join(arguments))!r}",
        hint=f"it takes {DEADLINE} N, 1 to {_LONGEST_DEADLINE:,}, or nothing",
    )


def _on_rewrite(word: str) -> Outcome | None:
    if not word:
        return None
    if word not in ("warn", "review", "deny"):
        raise PolicyError(
            f"{REWRITE_KEY} is '{safe_text(word)}' in the server's git configuration",
            hint="it can be warn, review or deny",
        )
    return Outcome.of(word)


def _tell(session: Session, answer: Answer) -> None:
    """Say what was found about one ref; nothing when all is well. Escaped, since it goes to the pusher's terminal."""
    telling = [one for one in answer.judged if one.verdict.findings]
    if not telling and not answer.findings and answer.error is None:
        return
    word = "COULD NOT DECIDE" if answer.error and answer.decision == "allow" else answer.decision.upper()
    session.note(f"safeai-git: {word} {display(answer.update.ref)}: {len(answer.judged):,} judged")
    for finding in answer.findings:
        session.note("\n".join(text.finding(finding, _PLAIN)))
    if telling:
        session.note(text.policies(telling))
    telling.sort(key=lambda one: one.decision == "allow")
    for one in telling[:_MOST_SHOWN]:
        session.note(text.judgement(one, _PLAIN))
    if len(telling) > _MOST_SHOWN:
        session.note(f"... and {len(telling) - _MOST_SHOWN:,} more")
    if answer.error is not None:
        session.note(f"  no full answer: {safe_text(answer.error.message, newlines=True)}")
        if answer.error.hint:
            session.note(f"  hint: {safe_text(answer.error.hint, newlines=True)}")
