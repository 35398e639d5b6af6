"""``safeai-git split``: a refused change as two patches, one that is allowed and the rest."""

from __future__ import annotations

import base64
from email.utils import formatdate
from pathlib import Path
from typing import Any

from msgspec import Struct

from safeai_git.commands.session import Session
from safeai_git.commands.trust_root import endpoints
from safeai_git.core.display import count, display, safe_text
from safeai_git.core.errors import StorageError, WrongUse
from safeai_git.core.objects import Commit
from safeai_git.core.values import replace
from safeai_git.files import write_atomically
from safeai_git.gate import Gate, Judgement
from safeai_git.git.history import commits_between, merge_bases
from safeai_git.git.patches import patches
from safeai_git.git.reader import strongest
from safeai_git.git.repository import Repository
from safeai_git.git.store import read_commit
from safeai_git.git.working import MemoryStore
from safeai_git.report import text
from safeai_git.splitting import Split, split

NAMES = ("0001-allowed.patch", "0002-refused.patch")


class Request(Struct, frozen=True):
    """What `split_change` was asked for: nothing for what is staged, a commit, or a range as one change."""

    revision: str = ""
    output: Path | None = None
    agent: str = ""


def split_change(session: Session, request: Request) -> int:
    """Propose how to split a change.

    Returns:
        0 when there is a part that is allowed, 1 when there is none.
    """
    store = MemoryStore(session.repository.store)
    part = Session(
        session.start,
        session.environ,
        session.output_format,
        _repository=replace(session.repository, _store=store),
    )
    gate = part.gate(agent=request.agent, replay=False)
    whole, commit = _whole(part, session.repository, gate, request)
    proposal = whole.verdict.proposal

    def judge(tree: str) -> Judgement:
        return gate.judge(gate.reader.between("patch", proposal.base_tree, tree, proposal))

    found = split(whole, store, judge)
    made = patches(session.repository, store, [proposal.base_tree, found.tree, proposal.tree])
    mails = [_mail(session, commit, patch, number) for number, patch in enumerate(made)]
    wanted = [bool(found.kept), bool(found.refused)]
    if request.output is not None:
        for name, mail, is_wanted in zip(NAMES, mails, wanted, strict=True):
            if is_wanted:
                _write(request.output, name, mail)
            else:
                _remove(request.output / name)
    if session.output_format == "text":
        _say(session, found, request)
    else:
        session.data(_data(found, mails))
    return 0 if found.kept else 1


def _whole(
    session: Session, outer: Repository, gate: Gate, request: Request
) -> tuple[Judgement, Commit | None]:
    if not request.revision:
        judged = gate.judge(gate.reader.staged())
        return judged, None
    if ".." in request.revision:
        return _range(session, outer, gate, request.revision)
    name = session.repository.commit_id(request.revision)
    commit = read_commit(session.repository.store, name)
    if len(commit.parents) > 1:
        raise WrongUse("a merge cannot be split", hint="name one of the commits that it merges, or a range")
    return gate.judge(gate.reader.commit(name)), commit


def _range(session: Session, outer: Repository, gate: Gate, revisions: str) -> tuple[Judgement, Commit]:
    """A range as one change, from where it left its base, by the base's policy; all of its authors count."""
    base, head = endpoints(session, revisions)
    names = commits_between(outer, base, head)
    forks = merge_bases(outer, base, head)
    if not names or len(forks) != 1:
        raise WrongUse(
            f"'{revisions}' holds no commits, or begins at no one commit", hint="name the commits one by one"
        )
    tip = read_commit(outer.store, head)
    who = strongest([gate.reader.attribution(read_commit(outer.store, name)) for name in names])
    return gate.judge(replace(gate.reader.net(forks[0], head, who), base_commit=base)), tip


_TITLES = ("the part that is allowed", "the part that is refused")


def _mail(session: Session, commit: Commit | None, patch: bytes, number: int) -> bytes:
    """A patch as git-format-patch(1) writes it, so that both ``git apply`` and ``git am`` take it."""
    who = session.repository.identity("AUTHOR") or ("nobody", "nobody@localhost")
    subject = "A staged change"
    if commit is not None:
        subject = _line(commit.text.split("\n", 1)[0]) or "A change"
        if commit.author is not None:
            name, email = commit.author.name, commit.author.email
            who = (name.decode("utf-8", "replace"), email.decode("utf-8", "replace"))
    head = (
        f"From {'0' * 40} Mon Sep 17 00:00:00 2001\n"
        f"From: {_line(who[0]).replace('<', '').replace('>', '') or 'nobody'} <{_line(who[1]) or 'nobody@localhost'}>\n"
        f"Date: {formatdate(0)}\n"
        f"Subject: [PATCH {number + 1}/2] {subject}: {_TITLES[number]}\n"
        "MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\n---\n"
    )
    return head.encode("utf-8", "replace") + patch + b"-- \nsafeai-git\n\n"


def _line(foreign: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in foreign).split())


def _write(folder: Path, name: str, mail: bytes) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be made: {error.strerror}", hint="name another folder"
        ) from error
    write_atomically(folder / name, mail, mode=0o644)


def _remove(older: Path) -> None:
    """What an earlier split left under a name would be taken for a part of this one."""
    try:
        older.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            f"{older} is of an earlier split, and cannot be removed: {error.strerror}",
            hint="name another folder",
        ) from error


def _say(session: Session, found: Split, request: Request) -> None:
    if not found.refused:
        session.say("all of the change is allowed: there is nothing to split")
        return
    session.say(text.judgement(found.whole, session.style))
    session.say(f"allowed as it stands: {count(len(found.kept), 'edit')}")
    for path in found.kept:
        session.say(f"  {display(path)}")
    session.say(f"refused: {count(len(found.refused), 'edit')}")
    for path in found.refused:
        session.say(f"  {display(path)}")
    if request.output is None:
        session.say("\nthe patches: safeai-git split --output FOLDER")
    elif found.kept:
        folder = safe_text(str(request.output))
        session.say(f"\non the base: git am --keep-cr {folder}/{NAMES[0]}    (or git apply --index)")
        session.say(f"the rest:    {folder}/{NAMES[1]}, once it is mended or approved")


def _data(found: Split, mails: list[bytes]) -> dict[str, Any]:
    sides = []
    for paths, mail in ((found.kept, mails[0]), (found.refused, mails[1])):
        side: dict[str, Any] = {"paths": [display(path) for path in paths]}
        if paths:
            side["patch_base64"] = base64.b64encode(mail).decode("ascii")
        sides.append(side)
    proposal = found.whole.verdict.proposal
    return {
        "decision": found.whole.decision,
        "trees": {"base": proposal.base_tree, "allowed": found.tree, "proposed": proposal.tree},
        "allowed": sides[0],
        "refused": sides[1],
    }
