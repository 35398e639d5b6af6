"""Attacks that are situations rather than changes, and the threat model itself."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Repo
from corpus import ATTACKS
from corpus.bench import Bench, gitlink, link
from corpus.catalogue import rows
from corpus.document import DOCUMENT, MARKER, ids_of
from corpus.modes import AGENT, run_program

from safeai_git.commands.session import Session
from safeai_git.core.display import display

ROOT = Path(__file__).resolve().parent.parent
TROUBLE = ROOT / ".." / "shared" / "data" / "trouble-sample.tsv"


def test_B21_a_redirected_working_tree_is_refused(make_repo: Callable[..., Repo], tmp_path: Path) -> None:
    """The pointer file of a linked working tree is made to point to another repository's working tree."""
    trusted, other = make_repo("trusted"), make_repo("other")
    for repo in (trusted, other):
        repo.commit("start", {"a": "1\n"})
        repo.git("worktree", "add", "-q", f"../{repo.path.name}-tree")
    work = tmp_path / "trusted-tree"
    assert trusted.safeai("check", cwd=work).code == 0
    shutil.copy(tmp_path / "other-tree" / ".git", work / ".git")
    done = trusted.safeai("check", cwd=work)
    assert done.code == 3
    assert "which belongs to" in done.err


def test_B56_a_verdict_carries_sha256_of_the_contents(tmp_path: Path) -> None:
    """Should two contents share a name in SHA-1, the signed digest still tells them apart."""
    bench = Bench(tmp_path)
    digests: list[str] = []
    for content in (b"one\n", b"two\n"):
        head = bench.change({b"src/b.py": content})
        session = Session(bench.path, bench.environ)
        proposal = session.gate(replay=False).commit(head).verdict.proposal
        session.close()
        (edit,) = proposal.edits
        assert edit.sha256 == hashlib.sha256(content).hexdigest()
        digests.append(proposal.edits_digest())
    assert digests[0] != digests[1]


def test_B56_a_repository_of_another_format_is_judged_or_undecided(make_repo: Callable[..., Repo]) -> None:
    """In a SHA-256 repository what is staged is judged; whatever cannot be read is no decision."""
    repo = make_repo("sha256", "--object-format=sha256")
    base = repo.commit("start", {"a": "1\n"})
    repo.write(".github/workflows/x.yml", "on: push\n")
    repo.git("add", "-A")
    done = repo.safeai("check", "--agent", AGENT)
    assert done.code == 1
    assert "[protected-path]" in done.out
    head = repo.commit("more", ai=True)
    assert repo.safeai("check", "--range", f"{base}..{head}").code in (1, 3)


_EXPECTED = {
    "gitlink with .gitmodules": "submodule",
    "gitlink without .gitmodules": "submodule",
    "submodule at HEAD": "submodule",
    "symlink-absolute": "symlink-escape",
    "symlink-escapes-repo": "symlink-escape",
    "symlink-to-itself": "symlink-escape",
    "backslash": "unportable-path",
    "colon": "unportable-path",
    "control": "unportable-path",
    "newline": "unportable-path",
    "quote": "unportable-path",
    "leading-dash": "unportable-path",
    "long-component": "unportable-path",
    "not-NFC": "unportable-path",
    "trailing-dot-or-space": "unportable-path",
    "windows-reserved-name": "unportable-path",
    "format-char(bidi/zero-width)": "unportable-path",
    ".git-like": "malformed-tree",
    ".gitattributes": "protected-path",
}
"""What a kind of trouble has to come to; the other kinds are ordinary on every system, or only look odd."""


def _trouble() -> list[tuple[str, bytes]]:
    if not TROUBLE.exists():
        return []
    lines = (line.split("\t") for line in TROUBLE.read_text(encoding="ascii").splitlines()[1:])
    return sorted({(kind, base64.b64decode(path)) for _, _, kind, path in lines})


@pytest.mark.skipif(not TROUBLE.exists(), reason="the sample of public history is not part of the repository")
def test_B33_B43_trouble_from_public_history_is_read_as_it_is(tmp_path: Path) -> None:
    """Paths that agents and people really committed: each is one edit, bytes unchanged, and found for what it is."""
    bench = Bench(tmp_path)
    session = Session(bench.path, bench.environ)
    gate = session.gate(agent=AGENT, replay=False)
    for kind, path in _trouble():
        up = b"../" * (path.count(b"/") + 1)
        entry = {
            "submodule": gitlink(),
            "symlink-absolute": link(b"/usr/bin/python3"),
            "symlink-escapes-repo": link(up + b"elsewhere"),
            "symlink-to-itself": link(path.rpartition(b"/")[2]),
        }.get("submodule" if _EXPECTED.get(kind) == "submodule" else kind, b"x\n")
        judged = gate.commit(bench.change({path: entry}))
        proposal, found = judged.verdict.proposal, {one.rule for one in judged.verdict.findings}
        assert proposal.malformed_tree or [edit.path for edit in proposal.edits] == [path]
        assert _EXPECTED.get(kind) in {None, *found}, (kind, display(path), found)
    session.close()


def test_the_corpus_is_built_on_disk(tmp_path: Path) -> None:
    """``python -m tests.corpus``: a repository for each attack, with a header that explains it."""
    place = tmp_path / "built"
    command = [sys.executable, "-m", "tests.corpus", "B-44", "B-62", "--to", str(place)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wanted = {f"{one.id}-{one.name}" for one in ATTACKS if one.id in ("B-44", "B-62")}
    assert {folder.name for folder in place.iterdir()} == wanted
    text = (place / "B-44-gitmodules_hides_the_pointer" / "HEADER.txt").read_text()
    assert "review submodule" in text
    assert "ignore = all" in text
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 2


def test_the_catalogue_knows_every_attack() -> None:
    """No attack has an id that the catalogue does not list, and no id stands there twice."""
    known = [row.id for row in rows()]
    assert len(known) == len(set(known))
    assert {one.id for one in ATTACKS} <= set(known)


def test_the_threat_model_lists_every_row_and_only_tests_that_exist() -> None:
    """The committed document is that of these tests; ``make threat-model`` writes it."""
    above, marker, tables = DOCUMENT.read_text(encoding="utf-8").partition(MARKER)
    assert marker
    assert "## What it cannot stop" in above
    listed = re.findall(r"^\*\*(B-\d\d)\*\* ", tables, re.MULTILINE)
    assert listed == [row.id for row in rows()]
    functions: dict[str, set[str]] = {}
    for file in (ROOT / "tests").glob("test_*.py"):
        nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        functions[file.name] = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    attacks = {f"{one.id}-{one.name}" for one in ATTACKS}
    named = re.findall(r"^\| (B-\d\d) \|.*\| `(\S+) (\S+)` \|$", tables, re.MULTILINE)
    assert attacks == {test for _, file, test in named if file == "test_corpus.py" and test in attacks}
    for number, file, test in named:
        assert test in attacks or test in functions[file], test
        assert test.startswith(number) or number in ids_of(test)
    assert "no test" not in tables
    assert "failed**" not in tables


def test_json_of_a_hostile_change_is_json(tmp_path: Path) -> None:
    """Whatever stands in names, standard output stays one JSON document, in ASCII, with the paths in it."""
    bench = Bench(tmp_path)
    path = b"src/\xff\n\x1b[31m\"'.py"
    bench.git("read-tree", f"{bench.change({path: b'x'})}^{{tree}}")
    code, printed = run_program(
        bench.path, bench.environ, ["check", "--no-sign", "--agent", AGENT, "--format", "json"]
    )
    assert code == 1
    (judged,) = json.loads(printed.decode("ascii"))["judgements"]
    (edit,) = judged["edits"]["paths"]
    assert base64.b64decode(edit["path_bytes"]) == path
