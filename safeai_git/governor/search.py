"""Search over the log's entries: a page at a time, the newest first, stable while new ones come."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safeai_git.core.errors import FormatError, StorageError, WrongUse
from safeai_git.core.log.entry import Entry
from safeai_git.core.policy_statement import parse_time
from safeai_git.governor.follower import Follower
from safeai_git.governor.index import SearchIndex, Span
from safeai_git.governor.records import Records
from safeai_git.governor.subjects import FIELDS, subjects

MOST = 500
DEFAULT = 50

LARGEST_PAGE = 4 * 1024 * 1024
"""Bytes of entries after which a page ends early."""

_MOST_BEHIND = 5_000
"""Entries that a search waits for; if more are missing, the index is being made, and that is said."""

_REST_SECONDS = 0.05

_CURSOR = re.compile(r"before:(0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Page:
    """Entries, the newest first.

    Attributes:
        entries: Their lines.
        cursor: Where the next page begins; empty after the last one.
    """

    entries: tuple[bytes, ...]
    cursor: str


class Search:
    """Searches one log.

    Args:
        folder: Where the index is kept.
        records: The log.
        origin: Its name.
    """

    def __init__(self, folder: Path, records: Records, origin: str) -> None:
        self._store = records.log.store
        self._keys = records.state.keys
        self.index = SearchIndex(folder, records.log, origin, self._keys)
        self.follower = Follower(
            records.log, self.index, position=self.index.position, name="search-index", rest=_REST_SECONDS
        )
        self.index.on_damage = self.follower.start_over
        self.follower.start()

    def close(self) -> None:
        """Stop; before the log is closed."""
        self.follower.close()
        self.index.close()

    def page(
        self,
        wanted: Mapping[str, str],
        *,
        since: str = "",
        until: str = "",
        cursor: str = "",
        limit: int = DEFAULT,
    ) -> Page:
        """Find entries.

        Args:
            wanted: Some of `FIELDS`, each with the value that entries must have.
            since: Not older: ``2026-05-28`` or ``2026-05-28T20:26:40Z``.
            until: Older than this.
            cursor: Of the page before; entries that came since then are not in the following pages.
            limit: How many entries at most.

        Raises:
            WrongUse: One of these makes no sense.
            DeadlinePassed: The search takes too long.
            StorageError: The index is being made, or the log cannot be read.
            LogProofInvalid: The log contradicts itself.
        """
        unknown = sorted(wanted.keys() - set(FIELDS))
        if unknown:
            raise WrongUse(
                f"entries cannot be searched by {unknown[0][:60]!a}", hint=f"by {', '.join(FIELDS)}"
            )
        if not 1 <= limit <= MOST:
            raise WrongUse(f"a page has 1 to {MOST} entries, not {limit}")
        span = Span(0, _before(cursor), _moment(since, "since"), _moment(until, "until"))
        asked = [(field, value[:200]) for field, value in sorted(wanted.items())]
        self._catch_up()
        found = self.index.find(asked, span, limit + 1)
        lines: list[bytes] = []
        size = 0
        for index in found[:limit]:
            line = self._store.entry(index)
            self._hold_against(line, asked)
            size += len(line)
            lines.append(line)
            if size > LARGEST_PAGE:
                break
        more = len(found) > len(lines)
        return Page(tuple(lines), _cursor(found[len(lines) - 1]) if more and lines else "")

    def _catch_up(self) -> None:
        size, _ = self._store.tail()
        behind = size - self.follower.size
        if self.index.damaged or behind > _MOST_BEHIND:
            raise StorageError(
                f"the search index is being made: {self.follower.size:,} of {size:,} entries are in it",
                hint="try again in a moment",
            )
        self.follower.catch_up()

    def _hold_against(self, line: bytes, asked: list[tuple[str, str]]) -> None:
        """An index that was changed shows where it names an entry that is about something else."""
        about = subjects(Entry.parse(line), self._keys)
        if any(one not in about for one in asked if one[0] != "human"):
            self.index.report_damage()
            raise StorageError(
                "the search index does not agree with the log", hint="it is made anew; try again in a moment"
            )


def entry_data(line: bytes) -> dict[str, Any]:
    """An entry as the API shows it."""
    entry = Entry.parse(line)
    body = json.loads(entry.body)
    return {
        "index": entry.seq,
        "time": entry.time,
        "kind": entry.kind,
        "id": entry.id,
        "envelope" if entry.member == "env" else "data": body,
    }


def _cursor(index: int) -> str:
    return urlsafe_b64encode(f"before:{index}".encode()).decode().rstrip("=")


def _before(cursor: str) -> int:
    if not cursor:
        return 2**62
    try:
        text = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode("ascii")
    except ValueError:
        text = ""
    found = _CURSOR.fullmatch(text)
    if found is None or _cursor(int(found[1])) != cursor:
        raise WrongUse("this is no cursor of a page", hint="take it from 'next' of the page before, as it is")
    return int(found[1])


def _moment(text: str, name: str) -> int | None:
    if not text:
        return None
    try:
        return parse_time(text) * 1000
    except FormatError as error:
        raise WrongUse(f"{name}: {error.message}", hint=error.hint) from None
