"""What other people's tools note down about who wrote which lines, in one form: hints, never proof.

Two formats are read: git-ai's authorship log, which hangs on a commit in ``refs/notes/ai``, and Agent Trace records.
Whoever can push a ref can write either, git-ai writes one for every commit whether or not an agent took part, and
both may sit on another commit than the one that they describe. So what they say is reported with a low confidence and
decides nothing. The bytes are foreign: everything is bounded, and what is not of the format is refused whole.

Sources: git-ai-project/git-ai, ``specs/git_ai_standard_v3.0.0.md``; cursor/agent-trace, ``README.md`` (0.1.0) and
``schemas.ts``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from msgspec import Struct

from safeai_git.core import canonical
from safeai_git.core.canonical import JSON
from safeai_git.core.errors import FormatError

LARGEST = 4 * 1024 * 1024
"""Bytes of one log or of one note full of records; the largest seen in 10,898 real notes is 3.2 million."""
MOST_CLAIMS = 100_000
"""Claims of one log; past it the log is refused."""
LONGEST_PATH = 4096
LONGEST_NAME = 250
LARGEST_LINE = 2**31 - 1

_VERSION = re.compile(r"authorship/3\.[0-9]{1,6}\.[0-9]{1,6}")
_TRACE_VERSION = re.compile(r"[01]\.[0-9]{1,6}(?:\.[0-9]{1,6})?")
_SESSION = re.compile(r"(s_[0-9a-f]{14})::t_[0-9a-f]{14}")
_HUMAN = re.compile(r"h_[0-9a-f]{14}")
_LEGACY = re.compile(r"[0-9a-f]{16}|[0-9a-f]{7}")
_KEY = re.compile(r"[A-Za-z0-9_.:-]{1,100}")
_QUOTED = re.compile(r'"(.+)"')
_RANGE = re.compile(r"([1-9][0-9]{0,9})(?:-([1-9][0-9]{0,9}))?(,|$)")
_CONTRIBUTORS = ("human", "ai", "mixed", "unknown")


class Claim(Struct, frozen=True):
    """Lines of one file that are said to be somebody's.

    Attributes:
        path: The file, as the record spells it.
        contributor: ``ai``, ``human``, ``mixed`` or ``unknown``.
        tool: The program, as the record calls it; may be empty.
        model: The model; may be empty.
        lines: How many lines, each range counted by itself.
    """

    path: str
    contributor: str
    tool: str
    model: str
    lines: int


class Record(Struct, frozen=True):
    """One log, or one trace record.

    Attributes:
        revision: The commit that it says it is about; empty where it names none.
        claims: In the record's order; none where it only says that it was written.
    """

    revision: str
    claims: tuple[Claim, ...]


def parse_authorship_log(data: bytes) -> Record:
    """A note of ``refs/notes/ai``: attestations by file, a line ``---``, then JSON that says who the keys are.

    Raises:
        FormatError: It is too large, or not an authorship log of version 3.
    """
    _bounded(data, "the authorship log is")
    head, divider, rest = (b"\n" + data).partition(b"\n---\n")
    if not divider:
        raise FormatError("the authorship log has no divider '---'")
    about = _mapping(canonical.loads(rest, limit=LARGEST), "the authorship log")
    if not _VERSION.fullmatch(_text(about, "schema_version")):
        raise FormatError("the authorship log is not of version 3")
    people = {name: _tool(about, name) for name in ("prompts", "sessions")}
    claims: list[Claim] = []
    path = ""
    for number, line in enumerate(_decoded(head).split("\n")[1:], start=1):
        if not line:
            continue
        if len(claims) >= MOST_CLAIMS:
            raise FormatError(f"the authorship log makes more than {MOST_CLAIMS:,} claims")
        if not line.startswith("  "):
            quoted = _QUOTED.fullmatch(line)
            path = quoted[1] if quoted else line
            if len(path) > LONGEST_PATH or path[0].isspace():
                raise FormatError(f"line {number} of the authorship log is no path")
            continue
        key, _, ranges = line[2:].partition(" ")
        lines = _counted(ranges)
        if not path or lines is None:
            raise FormatError(f"line {number} of the authorship log attests no lines of a file")
        claims.append(_attested(path, key, lines, people, number))
    return Record(_text(about, "base_commit_sha"), tuple(claims))


def _attested(
    path: str, key: str, lines: int, people: Mapping[str, Mapping[str, tuple[str, str]]], number: int
) -> Claim:
    if _HUMAN.fullmatch(key):
        return Claim(path, "human", "", "", lines)
    if not _KEY.fullmatch(key):
        raise FormatError(f"line {number} of the authorship log has a key of no known form")
    session = _SESSION.fullmatch(key)
    known = people["sessions"].get(session[1]) if session else people["prompts"].get(key)
    if not (known or session or _LEGACY.fullmatch(key)):
        return Claim(
            path, "unknown", "", "", lines
        )  # old versions wrote the like of `ai_agent` and whole UUIDs
    # A session that nothing explains still says that the lines are no person's.
    tool, model = known or ("", "")
    return Claim(path, "human" if tool == "human" else "ai", tool, model, lines)


def _tool(about: Mapping[str, JSON], name: str) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for key, one in _mapping(about.get(name, {}), name).items():
        agent = _mapping(_mapping(one, key).get("agent_id", {}), "agent_id")
        found[key] = (_text(agent, "tool")[:LONGEST_NAME], _text(agent, "model")[:LONGEST_NAME])
    return found


def _counted(ranges: str) -> int | None:
    """How many lines ``1-4,9,12-14`` names; ``None`` where it is not of that form."""
    lines = at = 0
    while at < len(ranges):
        found = _RANGE.match(ranges, at)
        if found is None or (found[3] == "," and found.end() == len(ranges)):
            return None
        first = int(found[1])
        last = int(found[2] or first)
        if not first <= last <= LARGEST_LINE:
            return None
        lines += last - first + 1
        at = found.end()
    return lines or None


def parse_traces(data: bytes) -> Iterator[Record]:
    """Agent Trace records: one JSON object, or one a line.

    Raises:
        FormatError: It is too large, or one of them is no trace record; what came before it was given out.
    """
    _bounded(data, "the trace records are")
    lines = [line for line in data.split(b"\n") if line.strip()]
    if lines and not lines[0].rstrip().endswith(b"}"):
        lines = [data]  # one object, spread over lines
    for line in lines:
        yield parse_trace(line)


def parse_trace(data: bytes) -> Record:
    """One Agent Trace record.

    Raises:
        FormatError: It is none, or one of a version that nobody here knows.
    """
    record = _mapping(canonical.loads(data, limit=LARGEST), "the trace record")
    if not _TRACE_VERSION.fullmatch(_text(record, "version")):
        raise FormatError("the trace record is of no version that is known here")
    vcs = _mapping(record.get("vcs") or {}, "vcs")
    tool = _text(_mapping(record.get("tool") or {}, "tool"), "name")[:LONGEST_NAME]
    claims: list[Claim] = []
    for file in _list(record, "files"):
        entry = _mapping(file, "a file")
        path = _text(entry, "path")[:LONGEST_PATH]
        for conversation in _list(entry, "conversations"):
            said = _mapping(conversation, "a conversation")
            for spread in _list(said, "ranges"):
                claims.append(_traced(path, tool, said, _mapping(spread, "a range")))
                if len(claims) > MOST_CLAIMS:
                    raise FormatError(f"the trace record makes more than {MOST_CLAIMS:,} claims")
    return Record(_text(vcs, "revision") if vcs.get("type") == "git" else "", tuple(claims))


def _traced(path: str, tool: str, said: Mapping[str, JSON], spread: Mapping[str, JSON]) -> Claim:
    first, last = spread.get("start_line"), spread.get("end_line")
    if not isinstance(first, int) or not isinstance(last, int) or not 1 <= first <= last <= LARGEST_LINE:
        raise FormatError("a range of the trace record names no lines")
    who = _mapping(spread.get("contributor") or said.get("contributor") or {}, "a contributor")
    contributor = _text(who, "type") or "unknown"
    if contributor not in _CONTRIBUTORS:
        raise FormatError("a contributor of the trace record is of no known type")
    return Claim(path, contributor, tool, _text(who, "model_id")[:LONGEST_NAME], last - first + 1)


def _bounded(data: bytes, what: str) -> None:
    if len(data) > LARGEST:
        raise FormatError(f"{what} {len(data):,} bytes long; at most {LARGEST:,} are read")


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise FormatError("the authorship log is not UTF-8") from None


def _mapping(value: JSON, what: str) -> dict[str, JSON]:
    if not isinstance(value, dict):
        raise FormatError(f"{what[:40]!a} is not a JSON object")
    return value


def _list(value: Mapping[str, JSON], key: str) -> list[JSON]:
    found = value.get(key)
    if not isinstance(found, list):
        raise FormatError(f"{key!a} is not a list")
    return found


def _text(value: Mapping[str, JSON], key: str) -> str:
    found = value.get(key)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise FormatError(f"{key!a} is not text")
    return found
