"""What import-linter cannot say: late imports, doors for names and not only for modules, sizes, and start-up."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Repo

SOURCE = Path(__file__).parent.parent / "safeai_git"
MODULES = sorted(SOURCE.rglob("*.py"))
LARGEST_MODULE = 600
LATE_IMPORTS = {"cli.py", "plain.py", "cli_agents.py", "cli_evidence.py", "admin.py", "__main__.py"}

DOORS = {
    "pygit2": ("git/",),
    "subprocess": ("git/", "sandbox/"),
    "multiprocessing": (),
    "pty": (),
    "ctypes": ("sandbox/",),
    # the sandbox closes the network, and tests that it did; the Governor listens
    "socket": ("client/", "sandbox/", "governor/http/server.py"),
    "ssl": ("client/", "governor/http/server.py"),
    "http": ("client/",),
    "urllib.request": ("client/", "governor/auth/jwks.py"),
    "urllib.error": ("client/", "governor/auth/jwks.py"),
    "asyncio": ("governor/http/",),
    "requests": (),
    "httpx": (),
    "yaml": ("policyfile.py",),
    "jsonschema": ("schema.py",),
    "referencing": ("schema.py",),
    "cel": ("core/expressions.py",),
    "rfc8785": ("core/canonical.py",),
    "cryptography": ("keys/",),
    "mcp": ("commands/mcp_server.py",),
    "boto3": ("keys/awskms.py", "governor/archive_s3.py"),
    "botocore": ("keys/awskms.py", "governor/archive_s3.py"),
    "zstandard": ("governor/archive.py",),
    "bcrypt": (),
    "typer": ("cli.py", "cli_agents.py", "cli_evidence.py", "cli_options.py", "admin.py"),
    "click": (),
    "rich": (),
    "sqlite3": ("governor/",),
    "psycopg": ("governor/",),
    "fastapi": ("governor/",),
    "starlette": ("governor/",),
    "uvicorn": ("governor/",),
    "msgspec.json": ("governor/",),  # its structs are for everybody (decision 64)
    "msgspec.msgpack": (),
    "prometheus_client": ("governor/",),
    "opentelemetry": ("governor/http/traces.py",),
    "pickle": ("parallel.py",),  # from copies of this very process, through a pipe that nobody else holds
    "marshal": ("sandbox/",),  # hands code of ours to a Python without a standard library
    "shelve": (),
    "webbrowser": (),
}
"""Who may import what. A folder ends with a slash; an empty list means nobody."""

STARTING_PROGRAMS = {
    *("system", "popen", "posix_spawn", "posix_spawnp", "fork", "forkpty", "startfile"),
    *(
        f"{call}{kind}"
        for call in ("exec", "spawn")
        for kind in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")
    ),
}


def name(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes(), str(path))


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every imported module with its line, wherever the statement stands, and what importlib is given as text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((one.name, node.lineno) for one in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or "", node.lineno
            yield from ((f"{node.module}.{one.name}", node.lineno) for one in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func)
            if called.endswith(("import_module", "__import__")) and isinstance(node.args[0].value, str):
                yield node.args[0].value, node.lineno


def within(path: Path, doors: tuple[str, ...]) -> bool:
    return any(name(path) == door or (door.endswith("/") and name(path).startswith(door)) for door in doors)


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_outside_things_have_one_door_each(path: Path) -> None:
    for module, line in imports(parsed(path)):
        for door in {module.partition(".")[0], ".".join(module.split(".")[:2])} & DOORS.keys():
            assert within(path, DOORS[door]), f"{name(path)}:{line} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_programs_are_started_by_no_back_door(path: Path) -> None:
    for node in ast.walk(parsed(path)):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in ("os", "posix")
        ):
            assert node.attr not in STARTING_PROGRAMS or within(
                path, ("sandbox/", "parallel.py", "apart.py")
            ), f"{name(path)}:{node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "compile", "__import__"), (
                f"{name(path)}:{node.lineno}"
            )
        if isinstance(node, ast.keyword) and node.arg == "shell":
            assert isinstance(node.value, ast.Constant), f"{name(path)}:{node.lineno}"
            assert node.value.value is False


@pytest.mark.parametrize("path", [one for one in MODULES if name(one) not in LATE_IMPORTS], ids=name)
def test_imports_stand_at_the_top(path: Path) -> None:
    """Inside a function they are late, and a hook that works today fails in the middle of a commit tomorrow."""
    for function in ast.walk(parsed(path)):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for node in ast.walk(function):
                assert not isinstance(node, ast.Import | ast.ImportFrom), f"{name(path)}:{node.lineno}"


@pytest.mark.parametrize("path", [one for one in MODULES if name(one).startswith("core/")], ids=name)
def test_the_core_asks_nobody_what_time_it_is(path: Path) -> None:
    """`datetime` may take a given moment apart; it must not ask for the present one."""
    tree = parsed(path)
    asked = {"now", "utcnow", "today", "urandom", "getenv", "environ", "open", "input", "print"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            outside = called.rpartition(".")[0] in ("datetime", "date", "os", "datetime.datetime", "")
            assert not (outside and called.rpartition(".")[2] in asked), (
                f"{name(path)}:{node.lineno} calls {called}"
            )


def test_the_client_never_imports_the_governor() -> None:
    for path in MODULES:
        if not name(path).startswith("governor/"):
            for module, line in imports(parsed(path)):
                assert not module.startswith("safeai_git.governor") or name(path) == "admin.py", (
                    f"{name(path)}:{line}"
                )


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_group_is_repeated_possessively(path: Path) -> None:
    """Before Python 3.11.5, which Debian 12 has, such a repetition may end behind what it has matched (gh-106052)."""
    assert not re.search(r"\)(?:[*+?]|\{[0-9,]+\})\+[^+ ]", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_are_small_and_say_what_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= LARGEST_MODULE
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), f"{name(path)} begins without a docstring"
    assert not re.search(r"\b(TODO|FIXME|XXX)\b|NotImplementedError", text)


def imported_by(repo: Repo, *arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "safeai_git", *arguments],
        cwd=repo.path,
        env=repo.environment | {"CLAUDECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = [
        line.rpartition("|")[2].strip()
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    ]
    return {row.partition(".")[0] for row in rows} | {row for row in rows if row.startswith("safeai_git")}


def test_a_hook_loads_nothing_that_it_does_not_need(governed: Repo) -> None:
    governed.write("src/b.py", "b = 1\n")
    governed.git("add", "-A")
    heavy = {
        "typer",
        "click",
        "jsonschema",
        "referencing",
        "cel",
        "rich",
        "prometheus_client",
        "asyncio",
        "sqlite3",
        "fastapi",
        "http",
        "importlib_metadata",
        "safeai_git.cli",
        "safeai_git.core.expressions",
    }
    assert not imported_by(governed, "hook", "run", "pre-commit") & heavy
    assert {"typer", "safeai_git.cli"} <= imported_by(governed, "--version")
    assert not imported_by(governed, "--version") & {"pygit2", "yaml", "cryptography", "safeai_git.gate"}
