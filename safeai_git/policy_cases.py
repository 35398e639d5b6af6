"""Tests of a policy: a YAML file of changes and the decision that each of them must get.

The same `evaluate` judges them as judges real changes; what a case leaves out is as harmless as it can be. The format
is in ``docs/formats/policy-cases.md``.
"""

from __future__ import annotations

from typing import Any, cast

from msgspec import Struct

from safeai_git.core.attribution import CLASSES, Attribution, AuthorClass
from safeai_git.core.context import CheckEvidence, Context
from safeai_git.core.edit import MODE_FILE, Edit, LfsPointer, Link, LinkFate, Status
from safeai_git.core.errors import PolicyError
from safeai_git.core.evaluate import evaluate
from safeai_git.core.policy import PolicyStack
from safeai_git.core.proposal import Proposal
from safeai_git.policy_vm import evaluate_expression, rules_out
from safeai_git.policyfile import Document, parse

_CASE = {"name", "author", "agent", "branch", "edits", "checks", "expect", "rules"}
_EDIT = {"path", "status", "added", "removed", "old_mode", "new_mode", "binary", "size", "link", "lfs_size"}
_STATUS = ("A", "D", "M", "T")
_FATES = ("inside", "outside", "git", "loop")


class Case(Struct, frozen=True):
    """One case.

    Attributes:
        name: What it shows.
        proposal: The change.
        context: The branch and what the checks gave.
        expect: ``allow``, ``review`` or ``deny``.
        rules: Rules that must have a finding; empty for any.
    """

    name: str
    proposal: Proposal
    context: Context
    expect: str
    rules: frozenset[str]


def load_cases(data: bytes, source: str) -> list[Case]:
    """Read a file of cases.

    Raises:
        PolicyError: It is not one; the message names the line.
    """
    document = parse(data, source)
    document.check()
    rows = document.data.get("cases") if isinstance(document.data, dict) else None
    if not isinstance(rows, list) or not rows or set(document.data) != {"cases"}:
        raise PolicyError(
            f"{source}: a file of cases has one key, 'cases', and a list below it",
            hint="see docs/formats/policy-cases.md",
        )
    return [_case(document, ("cases", number), row) for number, row in enumerate(rows)]


def run_case(case: Case, policy: PolicyStack) -> str:
    """Judge a case; empty when it came out as expected, else what came out instead."""
    verdict = evaluate(case.proposal, policy, case.context)
    found = {finding.rule for finding in verdict.findings}
    if verdict.decision != case.expect:
        why = "; ".join(f"{one.rule}: {one.message}" for one in verdict.findings) or "nothing was objected to"
        return f"expected {case.expect}, got {verdict.decision} ({why})"
    missing = case.rules - found
    if missing:
        return f"{case.expect} as expected, but not by {', '.join(sorted(missing))}; found: {', '.join(sorted(found))}"
    return ""


class _Reader:
    """Takes values out of a mapping and complains with the line."""

    def __init__(self, document: Document, place: tuple[Any, ...], data: object, known: set[str]) -> None:
        self._document = document
        self._place = place
        if not isinstance(data, dict):
            raise self._wrong("this has to be a mapping")
        self._data = data
        unknown = sorted(set(data) - known)
        if unknown:
            raise self._wrong(f"unknown key '{unknown[0]}'; there are {', '.join(sorted(known))}", unknown[0])

    def _wrong(self, what: str, key: str = "") -> PolicyError:
        at = self._document.positions.get((*self._place, key)) or self._document.positions.get(
            self._place, (1, 1)
        )
        return PolicyError(
            f"{self._document.source}:{at[0]}:{at[1]}: {what}", hint="see docs/formats/policy-cases.md"
        )

    def text(self, key: str, default: str | None = None, one_of: tuple[str, ...] = ()) -> str:
        value = self._data.get(key, default)
        if not isinstance(value, str) or (one_of and value not in one_of):
            wanted = f"one of {', '.join(one_of)}" if one_of else "text"
            raise self._wrong(f"'{key}' has to be {wanted}", key)
        return value

    def number(self, key: str, default: int) -> int:
        value = self._data.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._wrong(f"'{key}' has to be a number, 0 or more", key)
        return value

    def flag(self, key: str) -> bool:
        value = self._data.get(key, False)
        if not isinstance(value, bool):
            raise self._wrong(f"'{key}' has to be true or false", key)
        return value

    def mode(self, key: str, default: int) -> int:
        value = self.text(key, f"{default:06o}")
        try:
            return int(value, 8)
        except ValueError:
            raise self._wrong(f"'{key}' has to be a mode in quotes, such as \"100644\"", key) from None

    def rows(self, key: str) -> list[object]:
        value = self._data.get(key, [])
        if not isinstance(value, list):
            raise self._wrong(f"'{key}' has to be a list", key)
        return value

    def has(self, key: str) -> bool:
        return key in self._data


def _case(document: Document, place: tuple[Any, ...], row: object) -> Case:
    reader = _Reader(document, place, row, _CASE)
    author = cast("AuthorClass", reader.text("author", "ai", CLASSES))
    agent = reader.text("agent", "")
    edits = tuple(
        _edit(document, (*place, "edits", number), edit) for number, edit in enumerate(reader.rows("edits"))
    )
    checks: dict[str, CheckEvidence] = {}
    for number, check in enumerate(reader.rows("checks")):
        inner = _Reader(document, (*place, "checks", number), check, {"name", "result"})
        name, result = inner.text("name"), inner.text("result", None, ("passed", "failed", "undecided"))
        checks[name] = CheckEvidence(name, cast("Any", result), f"the case says that it {result}")
    proposal = Proposal("staged", "", "", "", "0" * 40, edits, Attribution(author, agent, 1.0))
    context = Context(
        evidence=checks,
        evaluate_expression=evaluate_expression,
        rules_out=rules_out,
        branch=reader.text("branch", ""),
    )
    rules = frozenset(str(rule) for rule in reader.rows("rules"))
    return Case(
        reader.text("name"),
        proposal,
        context,
        reader.text("expect", None, ("allow", "review", "deny")),
        rules,
    )


def _edit(document: Document, place: tuple[Any, ...], row: object) -> Edit:
    reader = _Reader(document, place, row, _EDIT)
    status = cast("Status", reader.text("status", "M", _STATUS))
    added, removed = reader.number("added", 0), reader.number("removed", 0)
    link = Link(b"", cast("LinkFate", reader.text("link", None, _FATES))) if reader.has("link") else None
    lfs = LfsPointer(reader.number("lfs_size", 0)) if reader.has("lfs_size") else None
    size = reader.number("size", 0)
    return Edit(
        path=reader.text("path").encode(),
        status=status,
        old_mode=0 if status == "A" else reader.mode("old_mode", MODE_FILE),
        new_mode=0 if status == "D" else reader.mode("new_mode", 0o120000 if link else MODE_FILE),
        old_id="" if status == "A" else "1" * 40,
        new_id="" if status == "D" else "2" * 40,
        old_size=0 if status == "A" else size,
        new_size=0 if status == "D" else size,
        bytes_added=added,
        bytes_removed=removed,
        lines_added=added and 1,
        lines_removed=removed and 1,
        binary=reader.flag("binary"),
        lfs=lfs,
        link=link,
    )
