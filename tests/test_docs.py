"""Every example of a format is taken by the schema and the parser of that format; every finding is documented."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from safeai_git.core import canonical
from safeai_git.core.log.chain import is_entry
from safeai_git.core.log.entry import Entry, parse_commit
from safeai_git.core.rules import RULE_IDS
from safeai_git.core.verdict import parse_statement
from safeai_git.core.vsa import summary
from safeai_git.policy_cases import load_cases
from safeai_git.policyfile import load
from safeai_git.schema import faults, schema, schema_faults

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(json|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ELIDED = "…"


def examples() -> Iterator[Any]:
    for path in [*sorted((ROOT / "docs/formats").glob("*.md")), ROOT / "docs/rules.md", ROOT / "README.md"]:
        for number, (language, text) in enumerate(BLOCK.findall(path.read_text(encoding="utf-8"))):
            yield pytest.param(path.name, language, text, id=f"{path.name}-{number}")


@pytest.mark.parametrize(("file", "language", "text"), list(examples()))
def test_an_example_is_what_it_shows(file: str, language: str, text: str) -> None:
    if language == "yaml":
        if file == "policy-cases.md":
            assert load_cases(text.encode(), file)
        elif text.startswith("# yaml-language-server: "):
            assert text.strip().endswith(f"$schema={schema('policy')['$id']}")
        else:
            assert schema_faults(text.encode()) == []
            load(text.encode(), file)
        return
    if file == "log.md":
        for line in text.splitlines():
            assert Entry.parse(line.encode()) if is_entry(line.encode()) else parse_commit(line.encode())
        return
    data = json.loads(text)
    if file == "report.md":
        assert faults(data, "report") == []
    elif file == "vsa.md":
        claim = parse_statement(canonical.dumps(verdict_example()))
        digest = data["predicate"]["inputAttestations"][0]["digest"]["sha256"]
        assert summary(claim, digest) == canonical.dumps(data)
    elif data.get("predicateType", "").startswith("https://safe-ai.dev/attestation/policy/"):
        assert ELIDED in text  # the digest: its parser has tests of its own
    elif "predicateType" in data:
        kind = parse_statement(canonical.dumps(data)).kind
        assert faults(data, kind) == []
    else:
        # One line as it is stored, in canonical form.
        assert canonical.dumps(data).decode() == text.strip()
        if file == "key-list.md" and "governor" not in data:
            assert faults(data, "key-list") == []


def verdict_example() -> Any:
    return json.loads(BLOCK.findall((ROOT / "docs/formats/verdict.md").read_text(encoding="utf-8"))[0][1])


def finding_ids() -> set[str]:
    """The `rule=` of every `Finding(...)` in the code, with names of constants looked up in their module."""
    found: set[str] = set()
    for path in (ROOT / "safeai_git").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding":
                given = [one.value for one in node.keywords if one.arg == "rule"] or node.args[:1]
                name = given[0] if given else None
                if isinstance(name, ast.JoinedStr):
                    name = next(one.value for one in name.values if isinstance(one, ast.FormattedValue))
                if isinstance(name, ast.Name) and name.id in constants:
                    found.add(str(constants[name.id]))
                elif isinstance(name, ast.Constant):
                    found.add(str(name.value))
                else:
                    pytest.fail(f"{path}:{node.lineno}: this test cannot tell the finding's id")
    return found


def test_every_finding_has_a_heading() -> None:
    headings = re.findall(
        r"^###? ([a-z-]+)$", (ROOT / "docs/rules.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert finding_ids() == set(headings)
    assert set(RULE_IDS) < set(headings)


def test_links_between_documents_lead_somewhere() -> None:
    for path in (ROOT / "docs").rglob("*.md"):
        for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), f"{path.name}: {link}"
