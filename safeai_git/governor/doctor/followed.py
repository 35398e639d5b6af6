"""What follows from the log's entries: the Governor's own key, other keys, the organisation's policy, kill switches."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from safeai_git.core.display import count
from safeai_git.core.errors import FormatError, PolicyError
from safeai_git.core.log.chain import LONGEST_LINE, is_entry
from safeai_git.core.log.entry import taken_apart
from safeai_git.core.trust import format_time
from safeai_git.governor.doctor.case import Case, ago
from safeai_git.governor.doctor.database import governing_entries
from safeai_git.governor.doctor.report import Examined
from safeai_git.governor.live import LiveState
from safeai_git.governor.stores.recovery import chunks
from safeai_git.governor.stores.segments import STATE_KINDS

SOON_SECONDS = 30 * 86_400
_MARKS = tuple(b'"kind":"' + kind + b'"' for kind in STATE_KINDS)


def examine(case: Case) -> Iterator[Examined]:
    """Read those entries, and say what they add up to."""
    if case.size is None:
        return
    state = LiveState()
    lines = governing_entries(case) if case.settings.database_url else entries_of(case.log)
    for line in lines:
        state.take(int(taken_apart(line)[1]), [line])
    if state.unreadable:
        yield Examined(
            "log",
            "warn",
            f"{count(state.unreadable, 'entry', 'entries')} about keys, policy or kill switches cannot be read by this version",
            "upgrade; one about kill switches counts as engaged",
        )
    yield from _keys(case, state)
    yield from _policy(case, state)
    engaged = state.switches().engaged(int(case.now))
    for event in engaged:
        until = f" until {format_time(event.expires)}" if event.expires else ""
        yield Examined(
            "kill switch",
            "warn",
            f"engaged for {event.scope}{until} by {event.by}: {event.reason}",
            "see KillSwitchActivated in docs/deploy/runbooks.md",
        )
    if not engaged:
        yield Examined("kill switch", "ok", "none is engaged")


def entries_of(path: Path) -> Iterator[bytes]:
    """The entries of a file that are about keys, policy and kill switches. Nothing is verified."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        yield from _governing(chunks(descriptor, 0))
    finally:
        os.close(descriptor)


def _governing(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Most pieces of a log hold none: they are looked through as a whole, and not line by line."""
    rest = b""
    for piece in pieces:
        whole, newline, rest = (rest + piece).rpartition(b"\n")
        if len(rest) > LONGEST_LINE:
            return  # no line of a log, which its own examiner says
        if not newline or not any(mark in whole for mark in _MARKS):
            continue
        for line in whole.split(b"\n"):
            if is_entry(line) and any(mark in line for mark in _MARKS):
                try:
                    if taken_apart(line)[5] in STATE_KINDS:
                        yield line
                except FormatError:
                    continue  # damage, which the log's own examiner finds


def _keys(case: Case, state: LiveState) -> Iterator[Examined]:
    if case.signer is not None:
        own = state.keys.find(case.signer.key_id)
        if own is not None and own.revoked is not None:
            yield Examined(
                "keys",
                "bad",
                f"the Governor's own key {own.key_id} was revoked by {own.revoked.by}: {own.revoked.reason}",
                "see 'Key compromise' in docs/deploy/runbooks.md",
            )
    now, valid = case.now, 0
    for key in state.keys:
        if key.revoked is not None:
            continue
        end = key.valid_before
        shown = f"{key.key_id} of {key.principal} ({', '.join(key.purposes)})"
        if end is not None and end <= now:
            yield Examined(
                "keys",
                "warn",
                f"{shown} has been no longer valid for {ago(now - end)}",
                "register its successor, or revoke it",
            )
        elif end is not None and end - now < SOON_SECONDS:
            yield Examined(
                "keys", "warn", f"{shown} is valid for {ago(end - now)} more", "register its successor"
            )
        elif key.valid_after is not None and key.valid_after > now:
            yield Examined(
                "keys", "warn", f"{shown} becomes valid in {ago(key.valid_after - now)}", "check both clocks"
            )
        valid += (end is None or end > now) and (key.valid_after or 0) <= now
    if not valid:
        yield Examined(
            "keys", "warn", "no key is registered: no verdict can be taken in", "POST /v1/keys registers one"
        )
    else:
        yield Examined("keys", "ok", f"{count(valid, 'key')} of {len(state.keys)} can sign now")


def _policy(case: Case, state: LiveState) -> Iterator[Examined]:
    held = state.policy
    if held is None:
        yield Examined("policy", "ok", "the organisation has published none")
        return
    left = held.statement.expires - case.now
    try:
        held.policy()
    except PolicyError as error:
        yield Examined(
            "policy", "bad", f"this version does not understand the {held.source}: {error.message}"
        )
        return
    if left <= 0:
        yield Examined(
            "policy",
            "bad",
            f"the {held.source} expired {ago(-left)} ago: nothing is decided any more",
            "publish it anew, with a higher version",
        )
    elif left < SOON_SECONDS:
        yield Examined(
            "policy",
            "warn",
            f"the {held.source} expires in {ago(left)}",
            "publish it anew, with a higher version",
        )
    else:
        yield Examined("policy", "ok", f"{held.source}, until {format_time(held.statement.expires)}")
