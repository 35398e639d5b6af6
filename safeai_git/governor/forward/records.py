"""What is forwarded: an entry of the log, or a checkpoint, with what makes it one and the same wherever it arrives twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from safeai_git.core.key_list import KeyBook
from safeai_git.core.log import base64
from safeai_git.core.log.checkpoint import OpenedCheckpoint
from safeai_git.core.log.entry import Entry, parse_time
from safeai_git.governor.subjects import subjects

CHECKPOINT = "checkpoint"
"""The kind of a record that is no entry."""

INFO, NOTICE, WARNING, ERROR, ALERT = 6, 5, 4, 3, 1
"""Severities, as RFC 5424 §6.2.1 numbers them; the lower, the worse."""

_OF_KIND = {
    "killswitch": ALERT,
    "incident": ERROR,
    "recovery": WARNING,
    "keychange": NOTICE,
    "policy": NOTICE,
}
_OF_DECISION = {"deny": WARNING, "review": NOTICE}
_NAMES = {
    "verdict": "Verdict on a change",
    "approval": "Approval of a change",
    "decision": "Decision of the Governor",
    "keychange": "Change of a key",
    "killswitch": "Kill switch",
    "policy": "Policy published",
    "start": "Log begun",
    "recovery": "Recovery after a crash",
    "incident": "Commits without a verdict",
    CHECKPOINT: "Checkpoint signed",
}
_NOBODY = KeyBook()


@dataclass(frozen=True)
class Record:
    """One record.

    Attributes:
        origin: The log's name.
        index: The entry's place; of a checkpoint its size.
        hash: The entry's leaf hash, or the checkpoint's root.
        kind: The entry's, or `CHECKPOINT`.
        id: The entry's idempotency key within the log; empty for a checkpoint.
        time: As the entry says it; of a checkpoint that of its last entry.
        under: Size of the signed checkpoint that the entry was verified against.
        text: The entry's exact bytes, or the checkpoint's note.
    """

    origin: str
    index: int
    hash: bytes
    kind: str
    id: str
    time: str
    under: int
    text: bytes

    @classmethod
    def of_entry(cls, origin: str, line: bytes, leaf: bytes, under: int) -> Record:
        """The record of an entry that was verified.

        Raises:
            FormatError: It is none.
        """
        entry = Entry.parse(line)
        return cls(origin, entry.seq, leaf, entry.kind, entry.id, entry.time, under, line)

    @classmethod
    def of_checkpoint(cls, opened: OpenedCheckpoint, time: str) -> Record:
        """The record of a checkpoint that was opened."""
        stated = opened.checkpoint
        return cls(stated.origin, stated.size, stated.root, CHECKPOINT, "", time, stated.size, opened.note)

    @property
    def key(self) -> str:
        """The same for the same record, however often it is sent, and for no other."""
        return f"{self.kind if self.kind == CHECKPOINT else 'entry'}:{self.index}:{self.digest}"

    @property
    def digest(self) -> str:
        """`hash` in base64."""
        return base64.encode(self.hash)

    @property
    def milliseconds(self) -> int:
        """The time, in Unix milliseconds."""
        return parse_time(self.time)

    @property
    def name(self) -> str:
        """What it is, for people."""
        return _NAMES.get(self.kind, self.kind)

    @cached_property
    def facts(self) -> dict[str, list[str]]:
        """What the entry is about, by the fields of `subjects` but its kind; sorted."""
        found: dict[str, list[str]] = {}
        if self.kind != CHECKPOINT:
            for field, value in sorted(subjects(Entry.parse(self.text), _NOBODY)):
                if field != "kind":
                    found.setdefault(field, []).append(value)
        return found

    @property
    def severity(self) -> int:
        """How bad it is, of `INFO` and the others."""
        worst = min((_OF_DECISION.get(one, INFO) for one in self.facts.get("decision", ())), default=INFO)
        return min(worst, _OF_KIND.get(self.kind, INFO))

    def as_json(self) -> bytes:
        """The record as one line of JSON in ASCII, in which an entry stands byte for byte as in the log."""
        head = {
            "key": self.key,
            "log": self.origin,
            "index": self.index,
            "hash": self.digest,
            "time": self.time,
            "kind": self.kind,
            "id": self.id,
            "under": self.under,
        }
        whole = json.dumps(head, ensure_ascii=True, separators=(",", ":")).encode()
        if self.kind == CHECKPOINT:
            return whole[:-1] + b',"checkpoint":' + json.dumps(self.text.decode()).encode() + b"}"
        return whole[:-1] + b',"entry":' + self.text + b"}"


def shown(records: Sequence[Record]) -> str:
    """Which records these are, for a message."""
    entries = [one for one in records if one.kind != CHECKPOINT]
    if not entries:
        return f"the checkpoint over {records[0].index} entries"
    if len(entries) == 1:
        return f"entry {entries[0].index}"
    return f"entries {entries[0].index} to {entries[-1].index}"
