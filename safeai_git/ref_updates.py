"""The updates of refs that a push asks for, and what is said of the moves themselves.

A branch's history rewritten, a tag moved, a ref to something that is no commit, notes that lose lines: none of these
is a change of files, so no rule on proposals sees them. They are findings like any other (B-52, B-87).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from msgspec import Struct

from safeai_git.core.display import display
from safeai_git.core.errors import FormatError, HistoryTooShallow, ObjectMissing, RepositoryError
from safeai_git.core.finding import NOBODY, Finding, Outcome
from safeai_git.git.history import merge_bases
from safeai_git.git.notes_update import NotesAt, objections
from safeai_git.git.plumbing import GitFailed
from safeai_git.git.repository import NOTES_REF, Repository

REWRITE = "history-rewrite"
NOT_A_COMMIT = "ref-without-commit"
NOTES = "notes-update"

MOST_UPDATES = 10_000
"""Refs in one push, at most."""

LARGEST_INPUT = 8 * 1024 * 1024
_LINE = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64}) ([0-9a-f]{40}|[0-9a-f]{64}) (refs/[^\x00-\x20\x7f]+)")
_ADMINISTRATOR = "whoever administers the server, with 'git config safeai.historyRewrite warn' there"


class Update(Struct, frozen=True):
    """One ref's move: from which object to which, in hex; empty for "is not there"."""

    old: str
    new: str
    ref: bytes


class Ref(Struct, frozen=True):
    """Where a ref stands: its object, the commit that this leads to (or empty), and what it is another name for."""

    id: str = ""
    commit: str = ""
    alias: bytes = b""


def parse_updates(data: bytes) -> list[Update]:
    """Read what git writes to pre-receive: lines of ``OLD SP NEW SP REF``, zeros for "is not there".

    Raises:
        FormatError: A line is something else, or a ref is named twice.
    """
    if len(data) > LARGEST_INPUT or data.count(b"\n") > MOST_UPDATES:
        raise FormatError(f"the push moves more than {MOST_UPDATES:,} refs", hint="push fewer at once")
    updates: list[Update] = []
    for line in data.removesuffix(b"\n").split(b"\n") if data else []:
        found = _LINE.fullmatch(line)
        if found is None:
            raise FormatError(
                f"pre-receive reads lines of two object names and a ref, not '{display(line[:200])}'",
                hint="let git start this hook",
            )
        old, new = (name.decode("ascii") if name.strip(b"0") else "" for name in found.groups()[:2])
        updates.append(Update(old, new, found[3]))
    if len({one.ref for one in updates}) != len(updates):
        raise FormatError("the push names a ref twice", hint="push it once")
    return updates


def read_refs(repository: Repository) -> dict[bytes, Ref]:
    """All refs of a repository, as they stand before the push.

    Raises:
        RepositoryError: One of them leads nowhere.
    """
    row = "%(refname) %(objectname) %(objecttype) %(*objectname) %(*objecttype) %(symref)"
    refs: dict[bytes, Ref] = {}
    for line in repository.git(["for-each-ref", f"--format={row}"]).splitlines():
        name, object_id, kind, peeled, peeled_kind, alias = line.split(b" ")
        commit = object_id if kind == b"commit" else peeled if peeled_kind == b"commit" else b""
        refs[name] = Ref(object_id.decode("ascii"), commit.decode("ascii"), alias)
    return refs


def rewrite(
    repository: Repository, update: Update, target: bytes, old: str, new: str, outcome: Outcome | None
) -> Iterator[Finding]:
    """Say that an update takes history away: a ref deleted or moved to what does not descend from it, a tag moved.

    Args:
        repository: Where both tips can be read.
        update: The update.
        target: The ref that really moves, where the named one is another name for it.
        old: The commit where the ref stands; empty where there is none.
        new: The commit where it would; empty where there is none.
        outcome: What it comes to; ``None`` for the default.
    """
    if not update.old or update.old == update.new:
        return
    tag = target.startswith(b"refs/tags/")
    if not update.new:
        message = f"{display(target)} is deleted; it stood at {update.old[:12]}"
    elif tag:
        message = f"the tag is moved from {update.old[:12]} to {update.new[:12]}"
    elif old and new and _descends(repository, old, new):
        return
    else:
        message = f"{update.new[:12]} does not descend from {update.old[:12]}, where the ref stands"
    if outcome is None:
        outcome = Outcome.REVIEW if tag or target == head_ref(repository) else Outcome.WARN
    yield Finding(
        rule=REWRITE,
        outcome=outcome,
        path=None,
        message=message,
        remedy="add a new tag" if tag else "add commits on top ('git revert', 'git merge')",
        lifted_by=_ADMINISTRATOR,
    )


def head_ref(repository: Repository) -> bytes:
    """The branch that HEAD names, born or not; empty when HEAD is detached."""
    try:
        return repository.git(["symbolic-ref", "--quiet", "HEAD"]).removesuffix(b"\n")
    except GitFailed:
        return b""


def _descends(repository: Repository, old: str, new: str) -> bool:
    try:
        return merge_bases(repository, old, new) == [old]
    except (HistoryTooShallow, ObjectMissing):
        raise
    except RepositoryError:
        return False  # nothing in common


def unjudgeable(update: Update, safe_mode: bool) -> Finding:
    """A ref to something that is neither a commit nor a tag of one: no rule can say anything about it."""
    return Finding(
        rule=NOT_A_COMMIT,
        outcome=Outcome.DENY if safe_mode else Outcome.WARN,
        path=None,
        message=f"{update.new[:12]} leads to no commit, so what it holds cannot be judged",
        remedy="push a commit, or a tag of one",
        lifted_by=NOBODY,
    )


def notes_findings(repository: Repository, update: Update, check: Callable[[], None]) -> Iterator[Finding]:
    """What is wrong with an update of the notes: they only grow, and hold envelopes."""
    if not update.new:
        yield _notes("the notes would be deleted, and all verdicts with them")
        return
    if repository.store.header(update.new)[0] != "commit":
        yield _notes(f"{update.new[:12]} is not a commit")
        return
    if update.old and not _descends(repository, update.old, update.new):
        yield _notes(
            f"{update.new[:12]} does not descend from {update.old[:12]}: verdicts that others pushed would be lost"
        )
        return
    old = NotesAt(repository, (update.old,) if update.old else (), check)
    for place, what in objections(old, NotesAt(repository, (update.new,), check)):
        yield _notes(f"{display(place)}: {what}")


def _notes(message: str) -> Finding:
    return Finding(
        rule=NOTES,
        outcome=Outcome.DENY,
        path=None,
        message=message,
        remedy=f"fetch {NOTES_REF}, join both with 'git notes merge -s cat_sort_uniq', push again",
        lifted_by=NOBODY,
    )
