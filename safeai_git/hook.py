"""The git hooks: what each of them judges, and what it lets pass.

A hook is advice given early: it stops what the policy denies and shows what needs review. Nothing rests on its having
run; `verify`, CI and pre-receive do not ask whether it did.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from safeai_git.commands.receive import pre_receive, update
from safeai_git.commands.reconcile import post_receive
from safeai_git.commands.session import HOOKS, Session
from safeai_git.core.errors import CouldNotDecide, StorageError, WrongUse
from safeai_git.files import write_atomically
from safeai_git.gate import Judgement
from safeai_git.git.history import new_commits
from safeai_git.git.notes_transport import push_notes
from safeai_git.report import text
from safeai_git.report.style import Style
from safeai_git.seal import Sealer

SERVER_HOOKS = ("pre-receive", "update", "post-receive")
"""Not installed in clones: docs/pre-receive.md."""

_SCISSORS = re.compile(r"^[#;] -+ >8 -+$", re.MULTILINE)


def run_hook(name: str, arguments: Sequence[str]) -> int:
    """Run one hook as git does.

    Args:
        name: One of `HOOKS` or `SERVER_HOOKS`.
        arguments: What git passes.

    Returns:
        0 to let git go on, 1 to stop it.
    """
    session = Session.here()
    try:
        match name:
            case "pre-commit":
                return _before(session, "")
            case "commit-msg":
                return _before(session, _message(arguments))
            case "post-commit":
                return _after(session)
            case "pre-push":
                return _pre_push(session, arguments)
            case "pre-receive":
                return pre_receive(session, arguments)
            case "update":
                return update(session, arguments)
            case "post-receive":
                return post_receive(session, arguments)
            case _:
                known = ", ".join((*HOOKS, *SERVER_HOOKS))
                raise WrongUse(f"there is no hook '{name}'", hint=f"hooks there are: {known}")
    finally:
        session.close()


def _settings(session: Session) -> tuple[bool, float]:
    """Whether to replay, and how many seconds there are for the rest."""
    head = session.repository.head()
    policy = session.trust().at(head).policy
    return not session.switched_off("safeai.replay"), policy.deadline_seconds


def _before(session: Session, message: str) -> int:
    """Before the commit is made: judge the staged tree; with a message, its trailers count too."""
    replay, seconds = _settings(session)
    gate = session.gate(replay=replay, remember=True, deadline_seconds=seconds)
    judged = gate.staged(message)
    if judged.verdict.governed and judged.verdict.findings and not _shown_already(session, judged):
        _show(session, judged)
    if judged.decision == "deny":
        session.note("safeai-git: the commit is refused; nothing of the change is lost")
        return 1
    if judged.decision == "review":
        session.note(
            "safeai-git: it may be committed here; CI and 'safeai-git verify' will ask for the approval"
        )
    return 0


def _shown_already(session: Session, judged: Judgement) -> bool:
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


def _after(session: Session) -> int:
    """After the commit was made: judge it again from its objects, sign the verdict and keep it."""
    replay, _ = _settings(session)
    repository = session.repository
    judged = session.gate(replay=replay, remember=True).commit(repository.head())
    if not judged.verdict.governed:
        return 0
    if judged.decision == "deny":
        _show(session, judged)
        session.note("safeai-git: this commit will not pass: mend it with 'git commit --amend'")
    _keep(session, [judged])
    return 0


def _keep(session: Session, judged: list[Judgement]) -> None:
    signer = session.signer()
    if signer is None:
        session.note(
            "safeai-git: judged, not signed: no key is configured ('safeai-git keys generate' makes one)"
        )
        return
    sealer = Sealer(session.repository, signer)
    # what cannot be taken apart has no tree
    unsigned = [one for one in judged if one.verdict.proposal.tree and not sealer.has(one)]
    sealer.keep_all((one, sealer.seal(one)) for one in unsigned)
    if judged:
        session.deliver(judged[-1].trust.policy)


def _pre_push(session: Session, arguments: Sequence[str]) -> int:
    """Judge every commit that the remote does not have, sign what is unsigned, and send the verdicts along."""
    remote, updates = _updates(session, arguments)
    replay, _ = _settings(session)
    gate = session.gate(replay=replay, remember=True)
    judged: list[Judgement] = []
    for name in _pushed(session, remote, updates):
        session.progress(f"judging {name[:12]}")
        judged.append(gate.commit(name))
    refused = [one for one in judged if one.decision == "deny"]
    for one in refused:
        _show(session, one)
    if refused:
        session.note(f"safeai-git: the push is refused: {len(refused)} of {len(judged)} commits do not pass")
        return 1
    governed = [one for one in judged if one.verdict.governed]
    if governed:
        _keep(session, governed)
    if remote and not session.switched_off("safeai.pushNotes"):
        try:
            push_notes(session.repository, remote)
        except CouldNotDecide as error:
            session.note(f"safeai-git: the verdicts were not pushed: {error.message}")
            session.note(f"  hint: {error.hint}")
    return 0


def _updates(session: Session, arguments: Sequence[str]) -> tuple[str, bytes]:
    """The remote, and the lines that git writes to the hook.

    The pre-commit program reads those lines itself and passes on, in variables, what it made of the first one
    (pre-commit, ``hook_impl.py``): the end of the push, or just the branch when the remote is empty.
    """
    if arguments:
        return arguments[0], sys.stdin.buffer.read()
    told = session.environ
    tip = told.get("PRE_COMMIT_TO_REF") or told.get("PRE_COMMIT_LOCAL_BRANCH")
    if not tip:
        return "", sys.stdin.buffer.read()
    name = session.repository.commit_id(tip)
    ref = told.get("PRE_COMMIT_REMOTE_BRANCH", "refs/heads/unknown")
    return told.get("PRE_COMMIT_REMOTE_NAME", ""), os.fsencode(f"{tip} {name} {ref} {'0' * len(name)}")


def _pushed(session: Session, remote: str, updates: bytes) -> list[str]:
    """The commits that a push brings to a remote, parents first (githooks(5), pre-push)."""
    repository = session.repository
    there = repository.refs(f"refs/remotes/{remote}/*") if remote else []
    found: dict[str, None] = {}
    for line in filter(None, updates.splitlines()):
        words = os.fsdecode(line).split(" ")
        if len(words) != 4:
            raise WrongUse("pre-push reads lines of four words, as git writes them")
        _, tip, ref, old = words
        if not tip.strip("0") or ref.startswith("refs/notes/"):
            continue  # a deletion, or the verdicts themselves
        pushed = (
            repository.git(["rev-parse", "--verify", "--end-of-options", f"{tip}^{{}}"])
            .decode("ascii")
            .strip()
        )
        if repository.store.header(pushed)[0] != "commit":
            continue  # a tag on a file or a folder brings no commit
        known = [*there, old] if old.strip("0") and repository.store.exists(old) else there
        found |= dict.fromkeys(new_commits(repository, pushed, known))
    return list(found)


def _show(session: Session, judged: Judgement) -> None:
    style = Style.for_stream(sys.stderr, session.environ)
    session.note(text.policies([judged]))
    session.note(text.judgement(judged, style))
