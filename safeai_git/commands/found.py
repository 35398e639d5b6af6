"""What a command found, handed to whatever reports it. Apart from the reports, which are loaded only when asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from safeai_git.gate import Judgement
    from safeai_git.verify import CommitResult


class Found(Struct, frozen=True):
    """What the reports are about.

    Attributes:
        title: What was looked at, in words.
        decision: ``allow``, ``review``, ``deny`` or ``undecided``.
        judgements, results: What `check` and `verify` found.
        facts: Names and values for the head of a report.
    """

    title: str
    decision: str
    judgements: Sequence[Judgement] = ()
    results: Sequence[CommitResult] = ()
    facts: Sequence[tuple[str, str]] = ()


Report = Callable[[Found], None]
"""Where what was found goes besides the answer."""
