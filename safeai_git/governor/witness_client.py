"""Asks one witness to cosign a checkpoint (C2SP tlog-witness, the log's side).

What it answers is believed in nothing: a cosignature is checked, a size is only where the next try begins, an address
elsewhere is not followed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from safeai_git.client.web import exchange_here
from safeai_git.core.display import safe_text
from safeai_git.core.errors import FormatError, WrongUse
from safeai_git.core.log import base64
from safeai_git.core.log.checkpoint import parse_number
from safeai_git.core.log.merkle import Nodes, consistency_path
from safeai_git.core.log.note import NoteKey, NoteSignature
from safeai_git.core.log.policy import Party
from safeai_git.keys.ed25519 import verify

MOST_BYTES = 16_384
"""Of a witness's answer."""

MOST_LINES = 16
"""Cosignatures of one answer."""

Result = Literal["cosigned", "unreachable", "refused", "wrong", "ahead"]
RESULTS: tuple[Result, ...] = ("cosigned", "unreachable", "refused", "wrong", "ahead")


class NotCosigned(Exception):
    """A witness did not cosign.

    Args:
        result: One word, for the metrics.
        message: A sentence, fit for a log line.
    """

    def __init__(self, result: Result, message: str) -> None:
        super().__init__(message)
        self.result = result


@dataclass(slots=True)
class WitnessClient:
    """One witness, and the size that it is thought to hold.

    Attributes:
        key: Its key.
        url: Its submission prefix, without a slash at the end.
        size: Where the next proof begins; whatever it says corrects this.
    """

    key: NoteKey
    url: str
    size: int = 0

    @classmethod
    def of(cls, party: Party) -> WitnessClient:
        """The client of a witness of a policy.

        Raises:
            WrongUse: Its address cannot be asked.
        """
        try:
            parts = urlsplit(party.url)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            good = good and not (parts.username or parts.password or parts.query or parts.fragment)
        except ValueError:
            good = False
        if not good or not all("!" <= one <= "~" for one in party.url):
            raise WrongUse(
                f"the address of the witness {safe_text(party.key.name)} cannot be asked: {safe_text(party.url)[:120]}",
                hint="it is an http:// or https:// address without user, query and fragment",
            )
        return cls(party.key, party.url.rstrip("/"))

    def cosign(self, note: bytes, text: str, size: int, nodes: Nodes, seconds: float) -> NoteSignature:
        """Have a checkpoint cosigned. One that holds another size than was thought is asked once more.

        Args:
            note: The checkpoint, with the log's signatures.
            text: What is signed of it.
            size: Its size.
            nodes: The log's tree.
            seconds: What an exchange may take; a witness that sends its head byte by byte takes longer.

        Raises:
            NotCosigned: It did not.
        """
        for again in (True, False):
            old = min(self.size, size)
            path = consistency_path(old, size, nodes)
            head = "".join([f"old {old}\n", *(f"{base64.encode(one)}\n" for one in path), "\n"])
            status, body = self._exchange(head.encode() + note, seconds)
            if status == 200:
                line = self._checked(body, text)
                self.size = size
                return line
            if status != 409 or not again:
                break
            self.size = _size(body)
            if self.size > size:
                raise NotCosigned(
                    "ahead", f"it says that it saw {self.size:,} entries; this log has {size:,}"
                )
        said = safe_text(body[:200].decode("utf-8", "replace")).strip()
        raise NotCosigned("refused", f"it answered {status}: {said}")

    def _exchange(self, body: bytes, seconds: float) -> tuple[int, bytes]:
        try:
            answer = exchange_here(
                "POST",
                f"{self.url}/add-checkpoint",
                body,
                {"Content-Type": "text/plain; charset=utf-8"},
                seconds=seconds,
                most=MOST_BYTES,
            )
        except FormatError as error:
            raise NotCosigned("wrong", error.message) from None
        except OSError as error:
            raise NotCosigned("unreachable", str(error)) from None
        return answer.status, answer.body

    def _checked(self, body: bytes, text: str) -> NoteSignature:
        """Its own line out of an answer; lines of other keys of its are not asked for, and are dropped."""
        try:
            lines = body.decode("utf-8").removesuffix("\n").split("\n")
            if len(lines) > MOST_LINES:
                raise NotCosigned("wrong", f"it answered with {len(lines)} lines")
            for line in map(NoteSignature.parse, lines):
                if (line.name, line.key_id) == (self.key.name, self.key.id):
                    if self.key.holds(text, line.body, verify):
                        return line
                    raise NotCosigned("wrong", "its cosignature does not hold under its key")
        except (UnicodeDecodeError, FormatError) as error:
            raise NotCosigned("wrong", f"it answered with no cosignature: {error}") from None
        raise NotCosigned("wrong", "its answer is not signed with the key that the policy names")


def _size(body: bytes) -> int:
    try:
        return parse_number(body.decode("ascii").removesuffix("\n"), "a witness's size")
    except (UnicodeDecodeError, FormatError):
        raise NotCosigned("wrong", "it answered 409 without the size that it holds") from None
