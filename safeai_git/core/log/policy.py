"""Witness policies (C2SP tlog-policy): which logs are known, which witnesses, and how many of them must have cosigned."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec import Struct

from safeai_git.core.display import safe_text
from safeai_git.core.errors import FormatError
from safeai_git.core.log.note import COSIGNATURE, ED25519, NoteKey

NONE = "none"
MAX_BYTES = 1 << 20
MAX_LINES = 10_000

_REFUSED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_NUMBER = re.compile(r"[1-9][0-9]{0,5}")


class Party(Struct, frozen=True):
    """A log or a witness: its key, and where it is reached (empty when the file does not say)."""

    key: NoteKey
    url: str = ""


class Group(Struct, frozen=True):
    """`threshold` of the members must have witnessed."""

    threshold: int
    members: tuple[str, ...]


@dataclass(slots=True)
class WitnessPolicy:
    """A policy file, understood.

    Attributes:
        logs: The known logs; may be empty.
        witnesses: By their name in the file.
        groups: Likewise; a group only names what stands before it.
        quorum: A witness, a group, or ``none``.
    """

    logs: list[Party] = field(default_factory=list)
    witnesses: dict[str, Party] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    quorum: str = ""

    def witness_keys(self) -> list[NoteKey]:
        """The keys of all witnesses."""
        return [party.key for party in self.witnesses.values()]

    def is_met_by(self, signers: Iterable[NoteKey]) -> bool:
        """Whether these keys, whose signatures on a checkpoint hold, are a quorum."""
        if self.quorum == NONE:
            return True
        signing = set(signers)
        met = {name: party.key in signing for name, party in self.witnesses.items()}
        for name, group in self.groups.items():
            met[name] = sum(met[member] for member in group.members) >= group.threshold
        return met[self.quorum]


def parse_policy(data: bytes, source: str = "policy") -> WitnessPolicy:
    """Read a policy file.

    Args:
        data: Its bytes. What is not ASCII is opaque: names are compared byte by byte.
        source: Its name, for messages.

    Raises:
        FormatError: A line is not understood; the message begins with ``source:line:``.
    """
    text = data.decode("utf-8", "surrogateescape")
    lines = text.split("\n")
    if len(data) > MAX_BYTES or len(lines) > MAX_LINES:
        raise FormatError(f"{source}: too long for a witness policy")
    if lines[-1]:
        raise FormatError(f"{source}:{len(lines)}: the last line does not end in a newline")
    policy = WitnessPolicy()
    for number, line in enumerate(lines, 1):
        try:
            _read(policy, line)
        except FormatError as error:
            raise FormatError(f"{source}:{number}: {error.message}", hint=error.hint) from None
    if not policy.quorum:
        raise FormatError(f"{source}: the line 'quorum' is missing", hint="'quorum none' asks for no witness")
    return policy


def _read(policy: WitnessPolicy, line: str) -> None:
    if _REFUSED.search(line):
        raise FormatError("control characters other than tab cannot stand in a witness policy")
    words = [word for word in re.split("[ \t]+", line) if word]
    if not words or words[0].startswith("#"):
        return
    match words:
        case ["log", vkey, *url] if len(url) <= 1:
            _add_log(policy, vkey, "".join(url))
        case ["witness", name, vkey, *url] if len(url) <= 1:
            _new_name(policy, name)
            key = _vkey(vkey, COSIGNATURE)
            if any(party.key.public == key.public for party in policy.witnesses.values()):
                raise FormatError(f"the key of the witness {_shown(name)} stands in the file twice")
            policy.witnesses[name] = Party(key, "".join(url))
        case ["group", name, threshold, _, *_]:
            _new_name(policy, name)
            policy.groups[name] = _group(policy, threshold, tuple(words[3:]))
        case ["quorum", name]:
            if policy.quorum:
                raise FormatError("a second line 'quorum'")
            if name != NONE and name not in policy.witnesses and name not in policy.groups:
                raise FormatError(f"the quorum {_shown(name)} is not defined above")
            policy.quorum = name
        case _:
            raise FormatError(
                f"not understood: {_shown(' '.join(words))[:120]}",
                hint="lines are 'log', 'witness', 'group' and 'quorum' (C2SP tlog-policy)",
            )


def _add_log(policy: WitnessPolicy, vkey: str, url: str) -> None:
    key = _vkey(vkey, ED25519)
    if any(party.key.public == key.public for party in policy.logs):
        raise FormatError(f"the key of the log {key.name} stands in the file twice")
    policy.logs.append(Party(key, url))


def _group(policy: WitnessPolicy, threshold: str, members: tuple[str, ...]) -> Group:
    taken = {member for group in policy.groups.values() for member in group.members}
    for at, member in enumerate(members):
        if member not in policy.witnesses and member not in policy.groups:
            raise FormatError(f"the member {_shown(member)} is not defined above")
        if member in taken or member in members[:at]:
            raise FormatError(f"{_shown(member)} is a member already, and can be one only once")
    if threshold in ("all", "any"):
        return Group(len(members) if threshold == "all" else 1, members)
    if not _NUMBER.fullmatch(threshold) or int(threshold) > len(members):
        raise FormatError(f"a threshold is all, any or 1 to {len(members)}, not {_shown(threshold)[:40]}")
    return Group(int(threshold), members)


def _new_name(policy: WitnessPolicy, name: str) -> None:
    if name == NONE or name in policy.witnesses or name in policy.groups:
        raise FormatError(f"the name {_shown(name)} is taken")


def _vkey(text: str, algorithm: int) -> NoteKey:
    key = NoteKey.parse(text)
    if key.algorithm != algorithm:
        raise FormatError(
            f"the key {key.name} is of type 0x{key.algorithm:02x}; here 0x{algorithm:02x} is needed"
        )
    return key


def _shown(text: str) -> str:
    return safe_text(text)
