"""The hooks that somebody waits for at every commit: what is staged is judged before it is one.

Apart from the hooks that sign, deliver and walk history, and load what that takes (`sealing_hook`).
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from safeai_git.commands.quick import QuickSession
from safeai_git.core.errors import StorageError, WrongUse
from safeai_git.files import write_atomically
from safeai_git.judging import Judgement
from safeai_git.report import text
from safeai_git.report.style import Style

_SCISSORS = re.compile(r"^[#;] -+ >8 -+$", re.MULTILINE)


def run(name: str, arguments: Sequence[str]) -> int:
    """Run ``pre-commit`` or ``commit-msg``; see `hook.run_hook`."""
    session = QuickSession.here()
    try:
        return _before(session, "" if name == "pre-commit" else _message(arguments))
    finally:
        session.close()


def _before(session: QuickSession, message: str) -> int:
    """Before the commit is made: judge the staged tree; with a message, its trailers count too."""
    policy = session.trust().at(session.repository.head()).policy
    replayer = None if session.switched_off("safeai.replay") else session.replayer()
    judged = session.judge(replayer=replayer, deadline_seconds=policy.deadline_seconds).staged(message)
    if judged.verdict.governed and judged.verdict.findings and not _shown_already(session, judged):
        show(session, judged)
    if judged.decision == "deny":
        session.note("safeai-git: the commit is refused; nothing of the change is lost")
        return 1
    if judged.decision == "review":
        session.note(
            "safeai-git: it may be committed here; CI and 'safeai-git verify' will ask for the approval"
        )
    return 0


def _shown_already(session: QuickSession, judged: Judgement) -> bool:
    """Whether the hook before this one has shown just the same; remembers what is shown now."""
    told = text.judgement(judged, Style())
    place = session.repository.private_directory / "shown"
    mark = hashlib.sha256(told.encode()).hexdigest().encode()
    try:
        if judged.decision != "deny" and place.read_bytes() == mark:
            place.unlink()
            return True
    except OSError:
        pass
    with suppress(StorageError):
        write_atomically(place, mark)
    return False


def _message(arguments: Sequence[str]) -> str:
    """The message as git will record it: without comments and without what stands below the scissors."""
    if len(arguments) != 1:
        raise WrongUse("commit-msg takes one argument: the file that holds the message")
    raw = Path(arguments[0]).read_bytes().decode("utf-8", "replace")
    cut = _SCISSORS.search(raw)
    kept = raw[: cut.start()] if cut else raw
    return "\n".join(line for line in kept.split("\n") if not line.startswith("#"))


def show(session: QuickSession, judged: Judgement) -> None:
    """Tell the findings, on standard error."""
    style = Style.for_stream(sys.stderr, session.environ)
    session.note(text.policies([judged]))
    session.note(text.judgement(judged, style))
