"""The hooks that sign: what was committed is judged again from its objects, and what is pushed takes its verdicts along."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from safeai_git.commands.session import Session
from safeai_git.commit_hook import show
from safeai_git.core.errors import CouldNotDecide, WrongUse
from safeai_git.gate import Judgement
from safeai_git.git.history import new_commits
from safeai_git.git.notes_transport import push_notes
from safeai_git.seal import Sealer


def run(name: str, arguments: Sequence[str]) -> int:
    """Run ``post-commit`` or ``pre-push``; see `hook.run_hook`."""
    session = Session.here()
    try:
        return _after(session) if name == "post-commit" else _pre_push(session, arguments)
    finally:
        session.close()


def _after(session: Session) -> int:
    """After the commit was made: judge it again from its objects, sign the verdict and keep it."""
    replay = not session.switched_off("safeai.replay")
    repository = session.repository
    judged = session.gate(replay=replay, remember=True).commit(repository.head())
    if not judged.verdict.governed:
        return 0
    if judged.decision == "deny":
        show(session, judged)
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
    replay = not session.switched_off("safeai.replay")
    gate = session.gate(replay=replay, remember=True)
    judged: list[Judgement] = []
    for name in _pushed(session, remote, updates):
        session.progress(f"judging {name[:12]}")
        judged.append(gate.commit(name))
    refused = [one for one in judged if one.decision == "deny"]
    for one in refused:
        show(session, one)
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
