"""What a server reports to its Governor: commits that reached a protected ref without a verdict that lets them pass.

Unsigned: whoever reports it is known to the Governor by its token, and the log says so. Canonical JSON, so that the same
report has the same bytes however often it is sent. Format: ``docs/formats/incident.md``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

from msgspec import Struct

from safeai_git.core import canonical
from safeai_git.core.canonical import JSON
from safeai_git.core.errors import FormatError
from safeai_git.core.policy_statement import parse_time
from safeai_git.core.trust import format_time

KIND = "incident"
"""Of the log's entry."""

WHAT = "commits-without-verdict"

STATUSES = ("missing", "invalid", "denied", "unapproved", "undecided")
"""What `verify` says of such a commit; ``undecided`` where it could not be found out for a ref's new tip."""

MOST_COMMITS = 200
"""Commits of one report: an entry of the log holds 65,535 bytes."""

LONGEST = 65_536
_LONGEST_NAME = 500
_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


class Incident(Struct, frozen=True):
    """One report about one update of a ref.

    Attributes:
        time: When it was found out, seconds since 1970.
        repository: As the policy that judged names it; may be empty.
        ref: The protected ref, as `display` shows it, in ASCII.
        old, new: Where it stood and where it stands, in hex; `old` is empty for a new ref.
        commits: Names in hex, each with one of `STATUSES`; 1 to `MOST_COMMITS`, each once.

    Raises:
        FormatError: A member is none of this kind.
    """

    time: int
    repository: str
    ref: str
    old: str
    new: str
    commits: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.commits]
        if not 1 <= len(names) <= MOST_COMMITS or len(set(names)) != len(names):
            raise FormatError(f"an incident is about 1 to {MOST_COMMITS} commits, each named once")
        if not all(_ID.fullmatch(one) for one in (*names, self.new, *filter(None, [self.old]))):
            raise FormatError("an incident names commits in full, in small hex digits")
        if any(status not in STATUSES for _, status in self.commits):
            raise FormatError(f"a commit's status is one of {', '.join(STATUSES)}")
        for text in (self.repository, self.ref):
            if len(text) > _LONGEST_NAME or not (text.isascii() and text.isprintable()):
                raise FormatError(
                    f"repository and ref are printable ASCII of at most {_LONGEST_NAME} characters"
                )
        if not self.ref:
            raise FormatError("an incident names a ref")

    @classmethod
    def of(
        cls,
        commits: Sequence[tuple[str, str]],
        *,
        time: int,
        repository: str,
        ref: str,
        old: str,
        new: str,
    ) -> Iterator[Incident]:
        """As many reports as it takes; a ref that is longer than one holds is cut."""
        ref = ref.encode("ascii", "backslashreplace").decode()[:_LONGEST_NAME]
        for at in range(0, len(commits), MOST_COMMITS):
            yield cls(time, repository, ref, old, new, tuple(commits[at : at + MOST_COMMITS]))

    @classmethod
    def of_data(cls, data: object) -> Incident:
        """The inverse of `data`.

        Raises:
            FormatError: It is no such report.
        """
        match data:
            case {
                "what": str(what),
                "time": str(time),
                "repository": str(repository),
                "ref": str(ref),
                "old": str(old),
                "new": str(new),
                "commits": list(commits),
                **rest,
            } if not rest and what == WHAT:
                return cls(parse_time(time), repository, ref, old, new, tuple(map(_commit, commits)))
        raise FormatError("this is no report of commits without a verdict")

    @classmethod
    def parse(cls, line: bytes) -> Incident:
        """Read a line, the inverse of `format`.

        Raises:
            FormatError: It is none, or not written the one way.
        """
        found = cls.of_data(canonical.loads(line, limit=LONGEST))
        if found.format() != line:
            raise FormatError("the report is not written the one way")
        return found

    def data(self) -> dict[str, JSON]:
        """The report as a JSON object."""
        return {
            "what": WHAT,
            "time": format_time(self.time),
            "repository": self.repository,
            "ref": self.ref,
            "old": self.old,
            "new": self.new,
            "commits": [{"commit": name, "status": status} for name, status in self.commits],
        }

    def format(self) -> bytes:
        """Write it as one line."""
        return canonical.dumps(self.data())

    @property
    def digest(self) -> str:
        """SHA-256 of the line, in hex."""
        return sha256(self.format()).hexdigest()

    def logged(self, by: str) -> tuple[str, dict[str, JSON]]:
        """Id and data of the log's entry.

        Args:
            by: Who reports it, as the Governor knows them.
        """
        data: dict[str, JSON] = {**self.data(), "by": by}
        return f"incident:{canonical.digest(data)}", data


def _commit(value: Any) -> tuple[str, str]:
    match value:
        case {"commit": str(name), "status": str(status), **rest} if not rest:
            return name, status
    raise FormatError("a commit of an incident has a name and a status")
