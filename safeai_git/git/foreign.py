"""Reads what other programs note down beside commits: git-ai's and Agent Trace's notes, and files of trace records."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from safeai_git.core.attribution import Attribution, Signal
from safeai_git.core.attribution_catalogue import Catalogue
from safeai_git.core.errors import FormatError
from safeai_git.core.foreign_records import Record, parse_authorship_log, parse_traces
from safeai_git.core.hints import NOTE, TRACE, hints, with_hints
from safeai_git.git.notes import Notes
from safeai_git.git.repository import Repository

AUTHORSHIP_LOGS = ("refs/notes/ai", "refs/notes/ai-remote/*")
"""Where git-ai keeps its own logs, and those that it fetched (its ``src/git/refs.rs``)."""

TRACES = ("refs/notes/agent-trace", "refs/notes/remotes/*/agent-trace")
"""Where programs that keep Agent Trace records in notes keep them; the standard leaves the place open."""


class ForeignRecords:
    """What is noted about commits, as hints.

    Args:
        repository: An open repository.
        catalogue: The agents.

    Attributes:
        unreadable: How many notes or files were not what they claim to be.
        reason: What was wrong with the first of them.
    """

    def __init__(self, repository: Repository, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._logs = Notes(repository, *AUTHORSHIP_LOGS)
        self._traces = Notes(repository, *TRACES)
        self._given: dict[str, list[Record]] = {}
        self.unreadable = 0
        self.reason = ""

    def add_file(self, content: bytes) -> None:
        """Take the records of a file; each counts for the commit that it names."""
        for record in self._read(content, parse_traces):
            if record.revision:
                self._given.setdefault(record.revision, []).append(record)

    def beside(self, found: Attribution, commit: str, *, notes: bool) -> Attribution:
        """An answer with the hints about its commit among the signals.

        Args:
            found: Who wrote it, by its own metadata.
            commit: Its name.
            notes: Whether notes are read, besides the records that were given.
        """
        more: list[Signal] = []
        traces = list(self._given.get(commit, ()))
        if notes:
            logs = [one for data in self._logs.contents(commit) for one in self._read(data, _one_log)]
            more += hints(NOTE, commit, logs, self._catalogue)
            traces += [
                one for data in self._traces.contents(commit) for one in self._read(data, parse_traces)
            ]
        return with_hints(found, [*more, *hints(TRACE, commit, traces, self._catalogue)])

    def _read(self, data: bytes, parse: Callable[[bytes], Iterable[Record]]) -> list[Record]:
        read: list[Record] = []
        try:
            read.extend(parse(data))
        except FormatError as error:
            self.unreadable += 1
            self.reason = self.reason or error.message
        return read


def _one_log(data: bytes) -> list[Record]:
    return [parse_authorship_log(data)]
