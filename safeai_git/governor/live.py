"""What the log's entries add up to: the keys, the organisation's policy, the kill switches.

Nothing here is kept anywhere else, and nothing changes it but an entry of the log: a Governor that starts reads the log,
one that runs follows it (`follower`). Entries that this version cannot read are counted; one about a kill switch engages
the global one, since it might be what it meant.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from safeai_git.core import canonical
from safeai_git.core.envelope import Envelope
from safeai_git.core.errors import FormatError
from safeai_git.core.key_list import KeyBook
from safeai_git.core.kill_switch import Scope, Switches, SwitchEvent
from safeai_git.core.log.entry import Entry, kind_of, parse_time
from safeai_git.core.policy import Policy
from safeai_git.core.policy_statement import PolicyStatement
from safeai_git.governor.stores.port import Older, Store
from safeai_git.governor.stores.segments import STATE_KINDS
from safeai_git.policyfile import load

_NEAR, _TOGETHER = 16, 500


@dataclass(frozen=True, slots=True)
class LoggedPolicy:
    """An organisation's policy that stands on the log.

    Attributes:
        statement: Whose, which version, until when.
        envelope: The signed statement.
        text: The policy's bytes.
        index: The entry's place.
    """

    statement: PolicyStatement
    envelope: Envelope
    text: bytes
    index: int

    @property
    def source(self) -> str:
        """What messages call it."""
        return f"policy of {self.statement.organisation}, version {self.statement.version}"

    def policy(self) -> Policy:
        """The layer that the text describes.

        Raises:
            PolicyError: This version does not understand it.
        """
        return load(self.text, self.source)

    def document(self) -> bytes:
        """What is handed out (docs/formats/policy-envelope.md)."""
        return self.envelope.format() + b"\n" + self.text


class LiveState:
    """The state, read by many threads and changed by the one that follows the log.

    Attributes:
        keys: The keys.
        unreadable: Entries of the kinds above that this version cannot read.
    """

    def __init__(self) -> None:
        self.keys = KeyBook()
        self.unreadable = 0
        self._policy: LoggedPolicy | None = None
        self._switches = Switches()
        self._released: dict[Scope, int] = {}
        self._lock = threading.Lock()
        self._size = 0
        self._changed = 0

    @property
    def version(self) -> int:
        """A number that grows with every change."""
        return self._changed

    @property
    def size(self) -> int:
        """How many entries were taken in."""
        return self._size

    @property
    def policy(self) -> LoggedPolicy | None:
        """The organisation's policy: of all versions on the log the highest."""
        return self._policy

    def switches(self) -> Switches:
        """The switches as the log leaves them, a copy."""
        with self._lock:
            return self._switches.copy()

    def released(self, scope: Scope) -> int:
        """When a switch was released last, by the log, in Unix time; 0 for never."""
        return self._released.get(scope, 0)

    def take(self, first: int, lines: Sequence[bytes]) -> None:
        """Take entries in; see `follower.Follows`."""
        for index, line in enumerate(lines, first):
            kind = kind_of(line)  # the follower has taken it apart
            if kind in STATE_KINDS:
                with self._lock:
                    self._apply(index, kind.decode(), Entry.parse(line))
                    self._changed += 1
        self._size = first + len(lines)

    def take_older(self, store: Store, older: Older) -> None:
        """Take in, of the entries that a start did not read, those that change something; before all others.

        Raises:
            LogFailed, LogAway, LookupError: They cannot be read.
        """
        for first, places in _near(older.changing()):
            lines = store.read(first, places[-1] - first + 1)
            for place in places:
                self.take(place, lines[place - first : place - first + 1])
        self._size = older.size

    def _apply(self, index: int, kind: str, entry: Entry) -> None:
        seconds = parse_time(entry.time) // 1000
        try:
            data = _object(entry.body)
            if kind == "keychange":
                self.keys.apply(index, seconds, data)
            elif kind == "killswitch":
                event = SwitchEvent.parse(canonical.dumps(data))
                self._switches.apply(event)
                if not event.engage:
                    self._released[event.scope] = event.time
            else:
                self._take_policy(index, data)
        except FormatError:
            self.unreadable += 1
            if kind == "killswitch":
                reason = f"entry {index} of the log cannot be read here"
                self._switches.apply(SwitchEvent(True, Scope("global"), reason, "safeai", seconds))

    def _take_policy(self, index: int, data: dict[str, canonical.JSON]) -> None:
        match data:
            case {"envelope": dict(envelope), "text": str(text)}:
                opened = Envelope.parse(canonical.dumps(envelope))
                statement = PolicyStatement.parse(opened.untrusted_payload)
            case _:
                raise FormatError("not a published policy")
        held = self._policy
        if held is None or statement.version > held.statement.version:
            self._policy = LoggedPolicy(statement, opened, text.encode(), index)


def _near(places: Iterable[int]) -> Iterator[tuple[int, list[int]]]:
    """Places that are read together, since little lies between them."""
    near: list[int] = []
    for place in places:
        if near and (place - near[-1] > _NEAR or place - near[0] >= _TOGETHER):
            yield near[0], near
            near = []
        near.append(place)
    if near:
        yield near[0], near


def _object(body: bytes) -> dict[str, canonical.JSON]:
    data = canonical.loads(body, limit=len(body))
    if not isinstance(data, dict):
        raise FormatError("the entry holds no object")
    return data
