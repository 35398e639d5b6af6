"""Take each guard out of the code, one at a time, and see that a test fails.

``make mutation`` walks the table below and writes ``docs/mutation.md``; a guard that can go without a test noticing is
an error. ``--full`` negates every condition and drops every ``raise`` of ``core/`` as well, ``--sample N`` some of
those. Promises to change nothing but a copy of the package in a temporary folder. Refuses to begin when the tests do
not pass on the untouched copy.

A run can be broken off: ``build/mutation.json`` remembers the mutants that were noticed, each under a digest of the
module, of the mutant and of all that its tests consist of. What is unchanged is taken over, ``--fresh`` tries all again.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import copy
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace  # noqa: TID251 - of this file
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from threading import Lock

from mutation_table import LONE, SAME, TABLE

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = ROOT / "build" / "mutation.json"
PACKAGE = "safeai_git"
LONGEST_SECONDS = 300
_NO_TESTS = 5  # pytest.ExitCode.NO_TESTS_COLLECTED


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    module: str
    line: int
    what: str
    source: str
    tests: tuple[str, ...]


# Making mutants


def mutants(module: str, wanted: tuple[str, ...], tests: tuple[str, ...]) -> Iterator[Mutant]:
    """Every mutant of the named functions and tables of a module."""
    text = (ROOT / PACKAGE / module).read_text(encoding="utf-8")
    found: set[str] = set()
    for owner, node in _owners(ast.parse(text)):
        if "*" not in wanted and owner not in wanted:
            continue
        found.add(owner)
        for place, (replacement, what) in _changes(node):
            tree = ast.parse(text)
            twin = next(one for name, one in _owners(tree) if name == owner and one.lineno == node.lineno)
            target = list(ast.walk(twin))[place]
            line = getattr(target, "lineno", node.lineno)
            _Replace(target, replacement).visit(tree)
            source = ast.unparse(ast.fix_missing_locations(tree))
            yield Mutant(module, line, f"{owner}: {what}", source, tests)
    missing = set(wanted) - found - {"*"}
    if missing:
        raise SystemExit(
            f"{module} has no {', '.join(sorted(missing))}: the table in tests/mutation.py is out of date"
        )


def _owners(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
    for node in tree.body:
        target = (
            node.targets[0]
            if isinstance(node, ast.Assign)
            else node.target
            if isinstance(node, ast.AnnAssign)
            else None
        )
        if isinstance(target, ast.Name):
            yield target.id, node


def _changes(owner: ast.stmt) -> Iterator[tuple[int, tuple[ast.AST | None, str]]]:
    """Places (in the order of `ast.walk`) with what stands there instead, ``None`` for nothing."""
    table = isinstance(owner, ast.Assign | ast.AnnAssign)
    hints = {id(one) for node in ast.walk(owner) for hint in _hints(node) for one in ast.walk(hint)}
    for place, node in enumerate(ast.walk(owner)):
        if id(node) in hints:
            continue
        if isinstance(node, ast.If | ast.IfExp) and not _types_only(node):
            for value in (False, True):
                changed = copy.deepcopy(node)
                changed.test = ast.Constant(value)
                yield place, (changed, f"`{_short(node.test)}` is always {str(value).lower()}")
        if isinstance(node, ast.BoolOp):
            for at, operand in enumerate(node.values):
                rest = node.values[:at] + node.values[at + 1 :]
                changed = rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
                yield place, (changed, f"`{_short(operand)}` dropped from `{_short(node)}`")
        if isinstance(node, ast.comprehension) and node.ifs:
            changed = copy.deepcopy(node)
            changed.ifs = []
            yield place, (changed, f"the condition `{_short(node.ifs[0])}` dropped")
        if isinstance(node, ast.Compare) and type(node.ops[0]) in _NEIGHBOUR:
            changed = copy.deepcopy(node)
            changed.ops[0] = _NEIGHBOUR[type(node.ops[0])]()
            yield place, (changed, f"`{_short(node)}` becomes `{_short(changed)}`")
        if isinstance(node, ast.Attribute) and node.attr in ("DENY", "REVIEW"):
            changed = ast.Attribute(node.value, "WARN", node.ctx)
            yield place, (changed, f"`{_short(node)}` becomes a warning")
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Yield | ast.YieldFrom):
            yield place, (ast.parse("if False:\n    yield").body[0], f"`{_short(node)}` dropped")
        if isinstance(node, ast.Raise):
            yield place, (ast.Pass(), f"`{_short(node)}` dropped")
        if table and isinstance(node, ast.Tuple | ast.List | ast.Set) and len(node.elts) > 1:
            for at, element in enumerate(node.elts):
                changed = copy.deepcopy(node)
                del changed.elts[at]
                yield place, (changed, f"`{_short(element)}` dropped")
        if table and isinstance(node, ast.Dict):
            for at, key in enumerate(node.keys):
                changed = copy.deepcopy(node)
                del changed.keys[at], changed.values[at]
                yield place, (changed, f"`{_short(key)}` dropped")


def _hints(node: ast.AST) -> list[ast.expr]:
    """Types, which nothing at run time looks at."""
    both = (getattr(node, "annotation", None), getattr(node, "returns", None))
    return [hint for hint in both if isinstance(hint, ast.expr)]


_NEIGHBOUR: dict[type, type] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


def _types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and _short(node.test) == "TYPE_CHECKING"


def _short(node: ast.AST | None) -> str:
    text = " ".join(ast.unparse(node).split()) if node else "**"
    return text if len(text) <= 90 else text[:87] + "..."


class _Replace(ast.NodeTransformer):
    def __init__(self, target: ast.AST, replacement: ast.AST | None) -> None:
        self.target = target
        self.replacement = replacement

    def visit(self, node: ast.AST) -> ast.AST | None:
        return self.replacement if node is self.target else self.generic_visit(node)


# Running tests on them


class Bench:
    """A copy of the package in which one module at a time is another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / PACKAGE, folder / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(folder, quiet=1)

    def fails(self, mutant: Mutant | None, tests: tuple[str, ...]) -> bool:
        """Whether a test fails (or none ends in time) on a mutant; on the untouched copy for ``None``."""
        apart = [test for test in tests if test.endswith("guards.py")]
        quick = [(test, "not hypothesis") for test in dict.fromkeys((*apart, "test_guards.py", *tests))]
        return any(self._run(mutant, *one) for one in [*quick, *((test, "hypothesis") for test in tests)])

    def _run(self, mutant: Mutant | None, test: str, marks: str) -> bool:
        path = self.folder / PACKAGE / mutant.module if mutant else None
        before = (path.read_bytes(), path.stat().st_mtime_ns) if path else None
        if path and mutant:
            path.write_text(mutant.source, encoding="utf-8")
            os.utime(path, ns=(1, time.time_ns()))
        child = os.fork()
        if child == 0:
            os._exit(_in_child(self.folder, test, marks))
        _, status = os.waitpid(child, 0)
        if path and before:
            path.write_bytes(before[0])
            os.utime(path, ns=(before[1], before[1]))
        return os.waitstatus_to_exitcode(status) not in (0, _NO_TESTS)


def _in_child(folder: Path, test: str, marks: str) -> int:
    signal.alarm(LONGEST_SECONDS)
    signal.setitimer(signal.ITIMER_PROF, LONGEST_SECONDS / 5)  # of its own: an endless loop is found sooner
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    if not os.environ.get("MUTATION_DEBUG"):
        for stream in (0, 1, 2):
            os.dup2(null, stream)
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = str(folder)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(folder / "hypothesis")
    os.chdir(folder)
    try:
        import pytest

        import safeai_git

        if not str(safeai_git.__file__).startswith(str(folder)):
            return 99
        options = [
            "-m",
            marks,
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "_hypothesis_pytestplugin",
            "--no-header",
            "--tb=no",
            "--assert=plain",
            "-W",
            "ignore::pytest.PytestAssertRewriteWarning",
        ]
        return int(
            pytest.main(
                [*options, "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), str(HERE / test)]
            )
        )
    except BaseException as error:  # noqa: BLE001 - a mutant that cannot even be imported is noticed too
        print(repr(error), file=sys.stderr)
        return 98


class Results:
    """What earlier runs noticed, as long as nothing that decided it has changed."""

    def __init__(self, *, fresh: bool) -> None:
        self._lock = Lock()
        self._noticed: dict[str, str] = {}
        if RESULTS.exists() and not fresh:
            self._noticed = json.loads(RESULTS.read_bytes())

    def knows(self, mutant: Mutant) -> bool:
        """Whether a test noticed this mutant, of this module, and both are still what they were."""
        return key(mutant) in self._noticed

    def keep(self, mutant: Mutant) -> None:
        """Remember a mutant that was noticed; one that was not is always tried again."""
        with self._lock:
            self._noticed[key(mutant)] = f"{mutant.module} {mutant.what}"
            RESULTS.parent.mkdir(exist_ok=True)
            beside = RESULTS.with_suffix(".new")
            beside.write_text(json.dumps(self._noticed, indent=0, sort_keys=True), encoding="utf-8")
            beside.replace(RESULTS)


def key(mutant: Mutant) -> str:
    """A digest of the module, of the mutant and of the files of its tests."""
    parts = [(ROOT / PACKAGE / mutant.module).read_bytes(), mutant.module.encode(), mutant.source.encode()]
    parts += [_digest(path) for test in ("test_guards.py", *mutant.tests) for path in sorted(_files(test))]
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()


@cache
def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


@cache
def _files(test: str) -> frozenset[Path]:
    """A test's file, the modules of ``tests/`` that it imports, however far away, and the data that they name."""
    wanted, found = [HERE / test, HERE / "conftest.py"], set[Path]()
    while wanted:
        path = wanted.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        text = path.read_text(encoding="utf-8")
        for data in (HERE / "data").iterdir():
            if f"data/{data.name}" in text or f'"data" / "{data.name}"' in text:
                found |= {one for one in (data, *data.rglob("*")) if one.is_file()}
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                names = [one.name for one in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [f"{node.module}.{one.name}" for one in node.names] + [node.module or ""]
            elif isinstance(node, ast.ImportFrom):
                wanted += path.parent.glob("*.py")  # a folder of tests is taken as a whole
                continue
            else:
                continue
            for name in names:
                place = HERE.joinpath(*name.removeprefix("tests.").split("."))
                wanted += [place.with_suffix(".py"), place / "__init__.py"]
    return frozenset(found)


def killed(everything: list[Mutant], jobs: int, results: Results) -> list[Mutant]:
    """Run the tests on each mutant whose end is not known; returns the ones that nobody noticed."""
    survivors: list[Mutant] = []
    start, done, total = time.monotonic(), 0, len(everything)
    everything = [mutant for mutant in everything if not results.knows(mutant)]
    print(f"{total} mutants, {total - len(everything)} taken over, {len(everything)} to try", flush=True)
    if not everything:
        return []
    with tempfile.TemporaryDirectory(prefix="safeai-mutation-") as temporary:
        benches: SimpleQueue[Bench] = SimpleQueue()
        for job in range(jobs):
            benches.put(Bench(Path(temporary) / str(job)))
        bench = benches.get()
        for test in sorted({test for mutant in everything for test in mutant.tests} | {"test_guards.py"}):
            if bench.fails(None, (test,)):
                raise SystemExit(f"tests/{test} does not pass as it is")
        benches.put(bench)

        def judge(mutant: Mutant) -> None:
            nonlocal done
            mine = benches.get()
            try:
                if mine.fails(mutant, mutant.tests):
                    results.keep(mutant)
                else:
                    survivors.append(mutant)
                    print(f"survived: {PACKAGE}/{mutant.module}:{mutant.line}: {mutant.what}", flush=True)
            finally:
                benches.put(mine)
            done += 1
            if done % 25 == 0:
                seconds = time.monotonic() - start
                print(f"{done} of {len(everything)}, {seconds:.0f} s, now {mutant.module}", flush=True)

        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(judge, everything))
    return sorted(survivors, key=lambda one: (one.module, one.line))


def table(only: str = "") -> list[Mutant]:
    """The mutants of the guards, without those that cannot be told from the original."""
    made = [
        mutant
        for module, (wanted, tests) in TABLE.items()
        if only in module
        for mutant in mutants(module, wanted, tests)
    ]
    return [
        replace(mutant, tests=("test_lone_guards.py", *mutant.tests))
        if mutant.what in LONE.get(mutant.module, ())
        else mutant
        for mutant in made
        if (mutant.module, mutant.what) not in SAME
    ]


def everything_in_core() -> list[Mutant]:
    """The mutants of all functions of ``core/``."""
    tests = tuple(sorted({test for _, tests in TABLE.values() for test in tests} | {"test_expressions.py"}))
    core = sorted((ROOT / PACKAGE / "core").rglob("*.py"))
    modules = [str(path.relative_to(ROOT / PACKAGE)) for path in core]
    return [mutant for module in modules for mutant in mutants(module, ("*",), tests)]


def report(
    made: list[Mutant], tried: list[Mutant], survivors: list[Mutant], known: int, seconds: float
) -> str:
    """The page for ``docs/``."""
    number, left = Counter(one.module for one in made), Counter(one.module for one in survivors)
    seen = Counter(one.module for one in tried)
    rows = [
        f"| `{module}` | {count} | {seen[module] - left[module]} | {left[module]} | {count - seen[module]} |"
        for module, count in sorted(number.items())
    ]
    same = [
        f"| `{module}` | {what.replace('|', chr(92) + '|')} | {why} |"
        for (module, what), why in sorted(SAME.items())
    ]
    return "\n".join(
        [
            "# Guards that tests watch",
            "",
            "Written by `make mutation`. Each guard of the table in `tests/mutation.py` is taken out of a copy of the",
            "package, one at a time: a condition that is always true or always false, a clause dropped, a comparison",
            "turned, a finding softened, a `raise` or a table's row removed. Then the tests run, and one has to fail.",
            "",
            f"{len(made)} guards: {len(tried) - len(survivors)} noticed, {len(survivors)} survived, {len(made) - len(tried)} not tried.",
            f"{known} results are of earlier runs, in which the module, the mutant and its tests were the same byte for byte",
            f"(docs/decisions/0022); {len(tried) - known} were tried now, in {seconds:.0f} seconds.",
            "",
            "| module | guards | noticed | survived | not tried |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "## Left out",
            "",
            "These change nothing that can be observed:",
            "",
            "| module | mutant | why |",
            "|---|---|---|",
            *same,
            "",
        ]
    )


def main() -> int:
    """Run; 1 when a guard can go unnoticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="every condition of core/, hours")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="N of those, drawn by chance")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="modules whose name holds this; writes no report"
    )
    parser.add_argument(
        "--known", action="store_true", help="try nothing; write the report of what is known, and what is not"
    )
    parser.add_argument("--fresh", action="store_true", help="take nothing over from earlier runs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    os.environ.setdefault("HYPOTHESIS_MAX_EXAMPLES", "100")
    for heavy in (
        "pytest",
        "hypothesis",
        "pygit2",
        "cryptography.hazmat.primitives.asymmetric.ed25519",
        "rfc8785",
        "yaml",
    ):
        importlib.import_module(heavy)
    if asked.full or asked.sample:
        made = everything_in_core()
        if asked.sample:
            made = random.Random(asked.seed).sample(made, min(asked.sample, len(made)))
    else:
        made = table(asked.only)
    start = time.monotonic()
    results = Results(fresh=asked.fresh)
    known = [mutant for mutant in made if results.knows(mutant)]
    survivors = [] if asked.known else killed(made, asked.jobs, results)
    seconds = time.monotonic() - start
    tried = known if asked.known else made
    print(
        f"{len(made)} mutants, {len(made) - len(tried)} not tried, {len(survivors)} survived, {seconds:.0f} s"
    )
    if not (asked.only or asked.full or asked.sample):
        text = report(made, tried, survivors, len(known), seconds)
        (ROOT / "docs" / "mutation.md").write_text(text, encoding="utf-8")
    return 1 if survivors or len(tried) < len(made) else 0


if __name__ == "__main__":
    sys.exit(main())
