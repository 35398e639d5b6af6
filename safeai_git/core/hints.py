"""What foreign records say about a commit, as signals: reported beside the others, and deciding nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from safeai_git.core.attribution import MOST_SIGNALS, Attribution, Signal
from safeai_git.core.attribution_catalogue import AuthorClass, Catalogue
from safeai_git.core.foreign_records import Record
from safeai_git.core.values import replace

NOTE, TRACE = "note", "trace"

NAMES_IT = 0.5
"""A record that names the commit it was found for."""
NAMES_NONE = 0.3
NAMES_ANOTHER = 0.1
"""Two of a hundred real notes of git-ai, which copies them along when history is rewritten."""

_MOST_HINTS = 4
"""Tools of one record that are told."""


def hints(kind: str, commit: str, records: Iterable[Record], catalogue: Catalogue) -> list[Signal]:
    """The signals of the records that were found for a commit; none for one that attests no line to an AI.

    Args:
        kind: `NOTE` or `TRACE`.
        commit: Its name, in hex.
        records: What was found.
        catalogue: The agents, by whose names tools and models are told.
    """
    found: dict[tuple[str, AuthorClass], Signal] = {}
    for record in records:
        confidence = NAMES_NONE
        if record.revision:
            confidence = NAMES_IT if record.revision == commit else NAMES_ANOTHER
        by_people = any(claim.contributor == "human" for claim in record.claims)
        lines: Counter[tuple[str, str, str]] = Counter()
        for claim in record.claims:
            if claim.contributor in ("ai", "mixed"):
                lines[claim.contributor, claim.tool, claim.model] += claim.lines
        for (contributor, tool, model), number in lines.most_common(_MOST_HINTS):
            agent = catalogue.product(tool) or catalogue.product(model.rpartition("/")[2])
            author_class: AuthorClass = "mixed" if by_people or contributor == "mixed" else "ai"
            who = " ".join(filter(None, (tool, model))) or "an AI"
            about = "" if confidence != NAMES_ANOTHER else f", about {record.revision[:12]}"
            signal = Signal(
                kind,
                agent.name if agent else "",
                author_class,
                confidence,
                f"{number} lines by {who[:200]}{about}",
            )
            found.setdefault((signal.agent, author_class), signal)
    return sorted(found.values(), key=lambda one: -one.confidence)


def with_hints(found: Attribution, more: Iterable[Signal]) -> Attribution:
    """The same answer, with hints among its signals."""
    signals = sorted((*found.signals, *more), key=lambda one: -one.confidence)
    return replace(found, signals=tuple(signals[:MOST_SIGNALS]))
