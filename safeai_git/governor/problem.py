"""Why a request cannot be answered as asked: a word for programs, a sentence and a hint for people (RFC 9457)."""

from __future__ import annotations

from typing import Any, Literal

from safeai_git.core.errors import (
    FormatError,
    KeyUnusable,
    LogProofInvalid,
    PolicyError,
    SafeAIError,
    StorageError,
    WrongUse,
)
from safeai_git.governor.records import Conflicting, NotAllowed

TYPE_PREFIX = "https://safe-ai.dev/problems/"

Word = Literal[
    "malformed",
    "not-authenticated",
    "forbidden",
    "not-found",
    "method-not-allowed",
    "too-slow",
    "conflict",
    "too-large",
    "unsupported-media-type",
    "unknown-key",
    "wrong-signature",
    "wrong-statement",
    "too-many-requests",
    "fault",
    "unavailable",
]

STATUS: dict[Word, tuple[int, str]] = {
    "malformed": (400, "The request cannot be read"),
    "not-authenticated": (401, "Nobody that we know asks"),
    "forbidden": (403, "This may not be asked"),
    "not-found": (404, "There is no such thing"),
    "method-not-allowed": (405, "This cannot be done with it"),
    "too-slow": (408, "The request took too long to arrive"),
    "conflict": (409, "It contradicts what is there"),
    "too-large": (413, "It is too large"),
    "unsupported-media-type": (415, "This kind of body is not taken"),
    "unknown-key": (422, "The key is not registered for this"),
    "wrong-signature": (422, "The signature does not hold"),
    "wrong-statement": (422, "The statement makes no sense here"),
    "too-many-requests": (429, "Too many requests"),
    "fault": (500, "A fault of the program"),
    "unavailable": (503, "Not now"),
}
"""Of each word the status and the title."""


class Problem(Exception):
    """A request cannot be answered as asked.

    Args:
        word: What kind of problem.
        detail: What is wrong, in one sentence.
        hint: The next step; may be empty.
    """

    def __init__(self, word: Word, detail: str, hint: str = "") -> None:
        super().__init__(detail)
        self.word: Word = word
        self.detail = detail
        self.hint = hint

    @property
    def status(self) -> int:
        """The HTTP status."""
        return STATUS[self.word][0]

    def data(self, request_id: str) -> dict[str, Any]:
        """The problem as a JSON object."""
        status, title = STATUS[self.word]
        return {
            "type": TYPE_PREFIX + self.word,
            "title": title,
            "status": status,
            "detail": self.detail,
            "hint": self.hint,
            "request_id": request_id,
        }


def of_error(error: SafeAIError) -> Problem:
    """What to say of an error of ours. What only the operator should know stays out of it."""
    if isinstance(error, Conflicting):
        return Problem("conflict", error.message, error.hint)
    if isinstance(error, NotAllowed):
        return Problem("forbidden", error.message, error.hint)
    if isinstance(error, WrongUse | FormatError | PolicyError):
        return Problem("malformed", error.message, error.hint)
    if isinstance(error, KeyUnusable):
        return Problem("unavailable", "the Governor's signing key cannot be used now")
    if isinstance(error, LogProofInvalid):
        return Problem("unavailable", "the log is not in order; whoever runs this Governor has to look at it")
    if isinstance(error, StorageError):
        return Problem(
            "unavailable", "the log takes nothing now", "try again, under the same ids: that is safe"
        )
    return Problem("unavailable", "this could not be decided now")
