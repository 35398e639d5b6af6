"""The checks of three kinds of project, replayed with the network off: Python with pytest, Node, C with make.

The projects are made here and tiny; `tools_projects` does the same with any repository (docs/sandbox.md has what came of
three public ones).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_replay import needs_sandbox
from tools_projects import Failed, Wanted, replay_project

pytestmark = needs_sandbox

C = {
    "Makefile": "test: prog\n\t./prog\nprog: main.c twice.h\n\t$(CC) -Wall -o $@ main.c\n",
    "twice.h": "static int twice(int n) { return 2 * n; }\n",
    "main.c": '#include "twice.h"\nint main(void) { return twice(21) != 42; }\n',
}
NODE = {
    "index.js": "exports.twice = (n) => 2 * n;\n",
    "test.js": "const {test} = require('node:test'); const assert = require('node:assert');\n"
    "test('twice', () => assert.strictEqual(require('./index.js').twice(21), 42));\n",
}
PYTHON = {
    "src/twice.py": "def twice(n):\n    return 2 * n\n",
    "tests/test_twice.py": "from twice import twice\n\n\ndef test_it():\n    assert twice(21) == 42\n",
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where root's checks can pass, too."""
    place = Path(tempfile.mkdtemp(dir="/dev/shm"))
    place.chmod(0o711)
    yield place
    shutil.rmtree(place)


def project(folder: Path, files: dict[str, str], environment: dict[str, str]) -> str:
    origin = folder / "origin"
    for name, content in files.items():
        (origin / name).parent.mkdir(parents=True, exist_ok=True)
        (origin / name).write_text(content)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "a project"]):
        subprocess.run(["git", *command], cwd=origin, env=environment, check=True)
    return str(origin)


def system(*programs: str) -> None:
    for program in programs:
        if not any(Path(place, program).exists() for place in ("/usr/bin", "/usr/local/bin", "/bin")):
            pytest.skip(f"{program} is not installed in the system")


def test_a_project_in_c(folder: Path, environment: dict[str, str]) -> None:
    system("make", "cc")
    wanted = Wanted("make test", needs=("make", "cc"))
    origin = project(folder, C, environment)
    assert [one["result"] for one in replay_project(origin, wanted, folder, environment)] == ["passed"] * 2


def test_a_project_in_c_that_is_broken_is_told(folder: Path, environment: dict[str, str]) -> None:
    system("make", "cc")
    origin = project(folder, {**C, "twice.h": "static int twice(int n) { return n; }\n"}, environment)
    with pytest.raises(Failed, match="theirs: failed, exit code 2"):
        replay_project(origin, Wanted("make test"), folder, environment)


def test_a_project_for_node(folder: Path, environment: dict[str, str]) -> None:
    system("node")
    origin = project(folder, NODE, environment)
    wanted = Wanted("node --test", needs=("node",))
    evidence = replay_project(origin, wanted, folder, environment)
    assert [one["result"] for one in evidence] == ["passed"] * 2


def test_a_project_in_python_with_a_prepared_environment(folder: Path, environment: dict[str, str]) -> None:
    """Its environment is made by a set-up, from the packages of this very test, which are shown read-only."""
    system("python3")
    packages = Path(pytest.__file__).resolve().parent.parent
    closed = [one for one in packages.parents if not one.stat().st_mode & 1]
    if os.geteuid() == 0 and closed:
        pytest.skip(f"the user that root runs checks as cannot enter {closed[0]}")
    asked = "import sys, pytest; raise SystemExit(sys.version_info < (3, 10))"
    tried = subprocess.run(["/usr/bin/python3", "-c", asked], env={"PYTHONPATH": str(packages)})
    if tried.returncode:
        pytest.skip(f"the system's Python cannot use the pytest of {sys.executable}")
    parts = ("_pytest", "pytest", "pluggy", "iniconfig", "packaging", "pygments", "py.py")
    copies = " ".join(f"{packages}/{one}" for one in parts)
    wanted = Wanted(
        "PYTHONPATH=env:src python3 -m pytest -q -p no:cacheprovider",
        setup=f"mkdir env && cp -r {copies} env/",
        lock=("requirements.lock",),
        keeps=("env",),
        read_only=(str(packages),),
        level="B",
    )
    origin = project(folder, {**PYTHON, "requirements.lock": "pytest\n"}, environment)
    try:
        evidence = replay_project(origin, wanted, folder, environment)
    except Failed as error:
        if "of the level that the policy demands" in str(error):
            pytest.skip("prepared environments need namespaces")
        raise
    assert [(one["result"], bool(one["prepared"])) for one in evidence] == [
        ("passed", True),
        ("passed", False),
    ]
