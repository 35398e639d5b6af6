"""What an entry of the log is about: the words by which it is found again. Says nothing about what a signature is worth."""

from __future__ import annotations

import json
from binascii import a2b_base64
from collections.abc import Iterator
from typing import Any

from safeai_git.core.key_list import KeyBook
from safeai_git.core.log.entry import Entry

FIELDS = ("repository", "agent", "human", "decision", "rule", "kind")
"""What can be asked for."""

_LONGEST = 200


def subjects(entry: Entry, keys: KeyBook) -> set[tuple[str, str]]:
    """Fields and values of an entry.

    Args:
        entry: The entry.
        keys: Tells whose a signature is; a key that it does not know stands for itself, by its id.
    """
    return {
        (field, value[:_LONGEST]) for field, value in _all(entry, keys) if isinstance(value, str) and value
    }


def _all(entry: Entry, keys: KeyBook) -> Iterator[tuple[str, Any]]:
    yield "kind", entry.kind
    data: Any = entry.data()
    if entry.member == "data":
        yield from _of_data(data)
        return
    for signature in _listed(data.get("signatures")):
        key_id = _member(signature, "keyid")
        known = keys.find(key_id) if isinstance(key_id, str) else None
        yield "human", known.principal if known else key_id
    try:
        statement = json.loads(a2b_base64(data.get("payload", "")))
    except (ValueError, TypeError, RecursionError):
        return
    if isinstance(statement, dict) and isinstance(predicate := statement.get("predicate"), dict):
        yield "repository", predicate.get("repository")
        yield "decision", predicate.get("decision")
        yield "agent", _member(predicate.get("attribution"), "agent")
        for finding in _listed(_member(predicate.get("findings"), "first")):
            yield "rule", _member(finding, "rule")


def _of_data(data: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(data, dict):
        return
    yield "human", data.get("by")
    yield "human", data.get("principal")
    yield "repository", data.get("repository")
    yield "decision", data.get("decision")
    match data.get("scope"):
        case {"kind": "repository" | "agent" as kind, "name": str(name)}:
            yield kind, name


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
