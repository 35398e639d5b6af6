"""The README's console blocks are transcripts, run here; every command and flag that the documents name exists."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import typer
from conftest import Repo

from safeai_git.admin import app as safeai
from safeai_git.cli import app as safeai_git

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    {*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "policy.example.yaml", *ROOT.glob("action.yml")}
)


@dataclass
class Step:
    """One command of a transcript: what it must print, with ``...`` for anything, and its exit code."""

    line: int
    command: str
    expected: list[str] = field(default_factory=list)
    code: int = 0


def transcript(text: str) -> Iterator[Step]:
    inside, step = False, None
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            inside = line == "```console"
            if step is not None:
                yield step
            step = None
        elif inside and line.startswith("$ "):
            if step is not None:
                yield step
            step = Step(number, line[2:])
        elif step is not None and re.fullmatch(r"\? \d+", line):
            step.code = int(line[2:])
        elif step is not None:
            step.expected.append(line)


def matches(expected: list[str], printed: str) -> bool:
    """As doctest's ELLIPSIS, over whole lines: ``...`` stands for anything, several lines too."""
    pattern = "\n".join(expected).strip("\n")
    parts = map(re.escape, pattern.split("..."))
    return re.fullmatch(".*".join(parts), printed.strip("\n"), re.DOTALL) is not None


def test_the_wildcard_means_what_it_should() -> None:
    assert matches(["a ... c"], "a b c\n")
    assert matches(["a", "...", "z"], "a\nb\nc\nz\n")
    assert matches([], "")
    assert not matches(["a ... c"], "a b d\n")
    assert not matches([], "something\n")
    steps = list(
        transcript(
            "```console\nmake demo\n```\n```console\n$ false\n? 1\n$ echo a\na\n```\n```sh\n$ rm\n```\n"
        )
    )
    assert [(one.line, one.command, one.expected, one.code) for one in steps] == [
        (5, "false", [], 1),
        (7, "echo a", ["a"], 0),
    ]


def test_the_readme_does_what_it_says(repo: Repo) -> None:
    steps = list(transcript((ROOT / "README.md").read_text(encoding="utf-8")))
    assert len(steps) > 5
    path = os.pathsep.join([str(Path(sys.executable).parent), repo.environment.get("PATH", os.defpath)])
    for step in steps:
        done = subprocess.run(
            ["sh", "-c", step.command],
            cwd=repo.path,
            env=repo.environment | {"PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        printed = done.stdout.decode(errors="replace")
        shown = f"README.md:{step.line}: $ {step.command}\n{printed}? {done.returncode}"
        assert done.returncode == step.code, shown
        assert matches(step.expected, printed), shown


def commands(app: typer.Typer) -> dict[tuple[str, ...], set[str]]:
    """Every command of a program, by the words that name it, with its options."""
    found: dict[tuple[str, ...], set[str]] = {}

    def walk(command: object, words: tuple[str, ...], inherited: set[str]) -> None:
        options = {
            one
            for param in command.params
            for one in (*param.opts, *param.secondary_opts)
            if one.startswith("-")
        }
        options |= {"--help", "-h"}
        found[words] = options | inherited
        for word, inner in getattr(command, "commands", {}).items():
            walk(inner, (*words, word), options)

    walk(typer.main.get_command(app), (), set())
    return found


PROGRAMS = {"safeai-git": commands(safeai_git), "safeai": commands(safeai)}
_USE = re.compile(r"(?<![\w./@-])(safeai-git|safeai) ((?:(?!&&|\|\||[|;`'\"<>()]|…).)+)")


def uses(text: str) -> Iterator[tuple[str, list[str]]]:
    """What looks like a command line in code: fenced blocks, and spans between backticks."""
    fenced = re.findall(r"^```(?:console|sh|bash|yaml)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    for piece in [*(line for block in fenced for line in block.splitlines()), *spans]:
        if piece.lstrip().startswith("#"):
            continue
        for found in _USE.finditer(piece):
            yield found[1], found[2].split()


def wrong(program: str, words: list[str]) -> str:
    """What does not exist in a command line; empty when everything does."""
    known = PROGRAMS[program]
    named: tuple[str, ...] = ()
    for word in words:
        alternatives = word.replace("\\", "").split("|")
        if word.startswith("-"):
            flag = word.partition("=")[0].rstrip(".,:")
            if (program, named, flag) == ("safeai", ("audit",), "--verify"):  # as the deployment guide has it
                named = ("audit", "verify")
                continue
            if flag not in known[named]:
                return f"{' '.join([program, *named])} has no option {flag}"
        elif any((*named, one) in known for one in alternatives):
            missing = [one for one in alternatives if (*named, one) not in known]
            if missing:
                return f"{program} has no command {' '.join([*named, missing[0]])}"
            named = (*named, alternatives[0])
        elif (
            any(key[: len(named)] == named and len(key) > len(named) for key in known)
            and not named
            and re.fullmatch("[a-z-]+", word)
        ):
            return f"{program} has no command {word}"
    return ""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_the_documents_name_exists(document: Path) -> None:
    for program, words in uses(document.read_text(encoding="utf-8")):
        assert not wrong(program, words), (
            f"{document.name}: {program} {shlex.join(words)}: {wrong(program, words)}"
        )


def test_the_search_for_commands_finds_what_does_not_exist() -> None:
    found = list(
        uses(
            "`safeai-git check --range a..b`\n```console\n$ safeai-git frobnicate\n$ safeai-git verify --loud\n```\n"
        )
    )
    assert [wrong(*one) for one in found] == [
        "safeai-git has no command frobnicate",
        "safeai-git verify has no option --loud",
        "",
    ] or [wrong(*one) for one in found] == [
        "",
        "safeai-git has no command frobnicate",
        "safeai-git verify has no option --loud",
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "safeai_git").rglob("*.py")), ids=lambda path: path.name)
def test_what_hints_tell_to_run_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for found in re.finditer(r"'(safeai-git|safeai) ([a-z][^'\n]*)'", text):
        program, words = found[1], found[2].split()
        if words[0].startswith("{") or "{" in found[2].split()[0]:
            continue
        assert not wrong(program, words), f"{path.name}: {found[0]}: {wrong(program, words)}"


def test_the_commands_of_the_readme_are_all_there_are() -> None:
    table = re.findall(r"^\| (`.*?) \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    told = {word for row in table for span in re.findall(r"`([^`]+)`", row) for word in [span.split()[0]]}
    there = {words[0] for words in PROGRAMS["safeai-git"] if len(words) == 1}
    assert told == there
