"""The shipped schemas: valid themselves, true of what real runs print and sign, and no laxer than the parser."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Repo
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from test_verdict import STAMP, judged

from safeai_git.core import canonical
from safeai_git.core.attribution import Attribution
from safeai_git.core.context import CheckEvidence, Context
from safeai_git.core.errors import FormatError, WrongUse
from safeai_git.core.verdict import approval, parse_statement, report, statement
from safeai_git.schema import faults, names, schema

VERDICT = json.loads(statement(judged(b"secret/a.py"), STAMP))
APPROVAL = json.loads(
    approval(base_tree="", tree="e" * 40, policy_digest="0" * 64, repository="r", time=1, reason="ok")
)
REPORT = report(judged(b"secret/a.py", b"\xff"), STAMP)


@pytest.mark.parametrize("name", names())
def test_each_is_a_schema_with_a_name_of_its_own(name: str) -> None:
    found = schema(name)
    Draft202012Validator.check_schema(found)
    assert found["$id"] == f"https://safe-ai.dev/schemas/{name}.schema.json"
    assert found["description"]


def objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "properties" in value and value.get("type") == "object":
            yield value
        for one in value.values():
            yield from objects(one)
    elif isinstance(value, list):
        for one in value:
            yield from objects(one)


@pytest.mark.parametrize("name", sorted(set(names()) - {"policy"}))
def test_none_lets_unknown_members_pass(name: str) -> None:
    assert all(one["additionalProperties"] is False for one in objects(schema(name)))


def test_there_are_no_others() -> None:
    for name in ("nothing", "../secret", ""):
        with pytest.raises(WrongUse, match="no schema called"):
            schema(name)


def printed(repo: Repo, *arguments: str, env: dict[str, str] | None = None) -> Any:
    done = repo.safeai(*arguments, "--format", "json", env=env or {})
    assert done.code in (0, 1), done.both
    return json.loads(done.out)


def test_what_commands_print_in_a_real_repository(governed: Repo, maria: dict[str, str]) -> None:
    governed.commit("more", {"src/b.py": "b = 1\n"}, ai=True)
    governed.commit("CI", {".github/workflows/ci.yml": "on: push\n"}, ai=True)
    governed.commit("key", {"config/keys/a": "x\n"}, ai=True)
    governed.write(".safeai/policy.yaml", "autonomy_tier: stable\n")
    governed.git("add", ".safeai/policy.yaml")
    commands = {
        "check": (("check",), ("check", "--range", "HEAD~3..HEAD")),
        "approve": (("approve", "HEAD~1"),),
        "show": (("show",), ("show", "HEAD~1"), ("show", "HEAD~3")),
        "verify": (("verify", "HEAD~3..HEAD"),),
        "doctor": (("doctor",),),
        "explain": (("explain", "src/b.py"), ("explain", "config/keys/a")),
        "scope": (("scope",), ("scope", "--agent", "codex")),
        "attribution": (("attribution",),),
        "policy-show": (("policy", "show"),),
        "policy-lint": (("policy", "lint"),),
        "policy-diff": (("policy", "diff"),),
        "keys-list": (("keys", "list"),),
    }
    for part, runs in commands.items():
        for arguments in runs:
            document = printed(governed, *arguments, env=maria if part == "approve" else None)
            assert faults(document, "output", part) == [], arguments
            assert faults({**document, "more": 1}, "output", part), arguments
    for file in (governed.path / ".git/safeai/reports").iterdir():
        assert faults(json.loads(file.read_bytes()), "report") == []
    done = governed.safeai("check", "--range", "HEAD~3..HEAD", "--format", "jsonl")
    *lines, last = map(json.loads, done.out.splitlines())
    assert lines
    assert [fault for one in lines for fault in faults(one, "output", "judgement")] == []
    assert faults(last, "output", "check-end") == []
    done = governed.safeai("schema", "report")
    assert json.loads(done.out) == schema("report")


words = st.text(max_size=200)


@given(
    st.lists(
        st.binary(min_size=1, max_size=40).filter(lambda one: b"\0" not in one), max_size=12, unique=True
    ),
    words,
    st.sampled_from(["passed", "failed", "undecided"]),
    st.floats(0, 1),
)
def test_whatever_is_judged_fits(paths: list[bytes], agent: str, result: Any, sure: float) -> None:
    context = Context(evidence={"unit": CheckEvidence("unit", result, agent, "4" * 64, "e" * 40, 1.5)})
    verdict = judged(*paths, who=Attribution("ai", agent, sure), context=context)
    assert faults(report(verdict, STAMP), "report") == []
    assert faults(json.loads(statement(verdict, STAMP)), "verdict") == []


@given(words, words)
def test_whatever_is_approved_fits(repository: str, reason: str) -> None:
    payload = approval(
        base_tree="", tree="e" * 40, policy_digest="0" * 64, repository=repository, time=1, reason=reason
    )
    assert faults(json.loads(payload), "approval") == []


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of each member and item, the whole left out."""
    if at:
        yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in items:
        yield from places(one, (*at, key))


def changed(document: Any, at: tuple[Any, ...], new: Any = None, *, drop: bool = False) -> Any:
    document = copy.deepcopy(document)
    inner = document
    for key in at[:-1]:
        inner = inner[key]
    if drop:
        del inner[at[-1]]
    else:
        inner[at[-1]] = new
    return document


DOCUMENTS = [("verdict", VERDICT), ("approval", APPROVAL), ("report", REPORT)]


@pytest.mark.parametrize(("name", "document"), DOCUMENTS)
def test_mutants_are_refused(name: str, document: Any) -> None:
    """No value can stand for another type, and no member can be left out, but for a finding's path."""
    assert faults(document, name) == []
    for at in places(document):
        assert faults(changed(document, at, None), name), at
        if isinstance(at[-1], str) and at[-1] not in ("path", "path_bytes"):
            assert faults(changed(document, at, drop=True), name), at


@pytest.mark.parametrize(("name", "document"), DOCUMENTS[:2])
@given(st.data())
def test_what_the_schema_takes_the_parser_takes(name: str, document: Any, data: st.DataObject) -> None:
    """The parser reads what a signature is weighed by and disregards the rest, so it may take more, never less."""
    at = data.draw(st.sampled_from(list(places(document))))
    new = data.draw(
        st.none()
        | st.booleans()
        | st.integers(-2, 2)
        | st.sampled_from(
            ["", "allow", "deny", "warn", "human", "e" * 40, "f" * 64, "2026-01-02T03:04:05Z", []]
        )
    )
    mutant = changed(document, at, new)
    if not faults(mutant, name):
        parse_statement(canonical.dumps(mutant))


@pytest.mark.parametrize(
    ("at", "new"),
    [
        (("_type",), "https://in-toto.io/Statement/v0.1"),
        (("predicateType",), "https://slsa.dev/provenance/v1"),
        (("subject",), []),
        (("predicate", "decision"), "warn"),
        (("predicate", "governed"), 1),
        (("predicate", "attribution", "class"), "robot"),
        (("predicate", "time"), "yesterday"),
        (("predicate", "time"), None),
        (("predicate", "base"), "x"),
        (("predicate", "evidence"), [{}]),
    ],
)
def test_what_the_parser_weighs_both_refuse(at: tuple[str, ...], new: Any) -> None:
    mutant = changed(VERDICT, at, new)
    assert faults(mutant, "verdict")
    with pytest.raises(FormatError):
        parse_statement(canonical.dumps(mutant))
