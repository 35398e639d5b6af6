"""``attribution``: who wrote each commit, by its metadata alone, and what other programs' records hint at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safeai_git.agents import catalogue
from safeai_git.commands.session import Session
from safeai_git.core.attribution import Attribution
from safeai_git.core.display import safe_text
from safeai_git.core.errors import FormatError, WrongUse
from safeai_git.core.foreign_records import LARGEST
from safeai_git.files import read_bounded
from safeai_git.git.facts import Origin
from safeai_git.git.foreign import ForeignRecords
from safeai_git.git.reader import ProposalReader
from safeai_git.git.store import read_commit


def attribution(
    session: Session, revisions: str, *, everything: bool, hints: bool = False, records: Path | None = None
) -> int:
    """Print one line for each commit, the newest first. Trees and blobs are not read, so a partial clone will do.

    Args:
        session: The run.
        revisions: ``BASE..HEAD``, or a revision with all that it is made of; empty: HEAD.
        everything: Every branch, tag and remote branch instead; not notes, which no one merges.
        hints: Whether the notes of git-ai and of Agent Trace are read too; those are blobs.
        records: A file of Agent Trace records to look commits up in.

    Raises:
        WrongUse: Both were given, or the file of records cannot be read.
        RepositoryError: A revision is not known.
    """
    if revisions and everything:
        raise WrongUse("a range and --all exclude each other", hint="leave one of them out")
    reader = ProposalReader(session.repository, catalogue(), Origin())
    foreign = ForeignRecords(session.repository, catalogue()) if hints or records else None
    if foreign and records:
        foreign.add_file(_content(records))
    rows = []
    for number, name in enumerate(_names(session, revisions, everything=everything), start=1):
        found = _attributed(session, reader, name)
        if foreign:
            found = foreign.beside(found, name, notes=hints)
        if session.output_format == "jsonl":
            session.data(_row(name, found))
        elif session.output_format == "json":
            rows.append(_row(name, found))
        else:
            session.say(_line(name, found))
        if number % 5000 == 0:
            session.progress(f"{number:,} commits read")
    if session.output_format == "json":
        session.data({"commits": rows})
    if foreign and foreign.unreadable:
        session.note(f"{foreign.unreadable:,} foreign records could not be read; the first: {foreign.reason}")
    return 0


def _content(path: Path) -> bytes:
    try:
        return read_bounded(path, LARGEST)
    except OSError as error:
        raise WrongUse(f"{path} cannot be read: {error.strerror}", hint="name a file of records") from error


def _names(session: Session, revisions: str, *, everything: bool) -> Iterator[str]:
    repository = session.repository
    if everything:
        arguments: list[str | bytes] = ["rev-list", "--exclude=refs/notes/*", "--all"]
        wanted = ""
    else:
        base, dots, head = revisions.rpartition("..")
        if base.endswith(".") or (dots and not base):
            raise WrongUse(
                f"{revisions!r} is not a range", hint="write BASE..HEAD, for example main..feature"
            )
        arguments = ["rev-list", "--stdin"]
        wanted = repository.commit_id(head or "HEAD") + "\n"
        wanted += f"^{repository.commit_id(base)}\n" if base else ""
    return iter(repository.git(arguments, stdin=wanted.encode("ascii")).decode("ascii").split())


def _attributed(session: Session, reader: ProposalReader, name: str) -> Attribution:
    try:
        return reader.attribution(read_commit(session.repository.store, name))
    except FormatError:  # as the gate has it: a commit that cannot be taken apart is nobody's
        return Attribution("unknown")


def _row(name: str, found: Attribution) -> dict[str, Any]:
    return {
        "commit": name,
        "class": found.author_class,
        "agent": safe_text(found.agent),
        "confidence": round(found.confidence, 2),
        "signals": [
            {
                "kind": one.kind,
                "agent": safe_text(one.agent),
                "class": one.author_class,
                "confidence": round(one.confidence, 2),
                "evidence": safe_text(one.evidence),
            }
            for one in found.signals
        ],
    }


def _line(name: str, found: Attribution) -> str:
    signals = ", ".join(f"{one.kind}: {safe_text(one.evidence)[:80]}" for one in found.signals)
    agent = safe_text(found.agent) or "-"
    return f"{name[:12]}  {found.author_class:7}  {agent}  {found.confidence:.2f}  {signals}".rstrip()
