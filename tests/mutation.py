"""Take each guard out of the code, one at a time, and see that a test fails.

``make mutation`` walks the table below and writes ``docs/mutation.md``; a guard that can go without a test noticing is
an error. ``--full`` negates every condition and drops every ``raise`` of ``core/`` as well, ``--sample N`` some of
those. Promises to change nothing but a copy of the package in a temporary folder. Refuses to begin when the tests do
not pass on the untouched copy.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import copy
import importlib
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
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PACKAGE = "safeai_git"
LONGEST_SECONDS = 300
_NO_TESTS = 5  # pytest.ExitCode.NO_TESTS_COLLECTED

PATHS = ("test_paths.py",)
POLICY = ("test_policy.py",)
ENVELOPE = ("test_envelope.py",)
KEYRING = ("test_keyring.py",)
WILDMATCH = ("test_wildmatch.py",)

TABLE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # module: (functions and tables whose guards are taken out; tests to run after tests/test_guards.py)
    "core/rules/__init__.py": (("MALFORMED", "RULES"), ()),
    **{
        f"core/rules/{path.name}": (("*",), ())
        for path in sorted((ROOT / PACKAGE / "core" / "rules").glob("*.py"))
        if path.name != "__init__.py"
    },
    "core/evaluate.py": (("*",), ()),
    "core/finding.py": (("decide",), ()),
    "core/paths.py": (
        ("FOLDS", "_drop_ignorables", "portability_problems", "_component_problems", "from_json"),
        PATHS,
    ),
    "core/objects.py": (
        ("parse_tree", "tree_problems", "parse_commit", "_ONCE", "MODES_THAT_GIT_WRITES"),
        (),
    ),
    "core/envelope.py": (
        ("__post_init__", "parse", "format", "_signature", "check_envelope", "open_envelope"),
        ENVELOPE,
    ),
    "core/trust.py": (("matches", "refusal"), KEYRING),
    "core/verdict.py": (("parse_statement", "statement"), ()),
    "core/policy_parts.py": (("CHOOSABLE", "GOVERNANCE"), POLICY),
    "core/policy_reader.py": (("_applies_to", "_agents", "_outcomes", "_checks", "_rules"), POLICY),
    "core/policy_values.py": (
        ("boolean", "number", "text", "matching", "one_of", "pattern", "variable", "host_path", "expression"),
        POLICY,
    ),
    "core/policy_faults.py": (("__init__", "need", "mapping", "_is_list", "check"), POLICY),
    "core/policy.py": (("governs", "admits", "tier", "safe_mode", "threshold", "checks_for"), POLICY),
    "core/wildmatch.py": (("_parse", "_refuse_odd_bracket", "first_match_folded"), WILDMATCH),
    "core/canonical.py": (
        ("loads", "_object", "_integer", "_float", "_check", "_check_text"),
        ("test_canonical.py",),
    ),
    "core/publickey.py": (
        ("__post_init__", "from_blob", "is_key_id", "parse_openssh"),
        ("test_keys.py", "test_envelope.py", "test_keyring.py"),
    ),
    "core/kill_switch.py": (
        ("__post_init__", "parse", "apply", "engaged", "find", "lease", "state", "_texts"),
        ("test_kill_switch.py",),
    ),
    "keys/keyring.py": (("parse", "public", "trusts"), KEYRING),
    "keys/ed25519.py": (("verify",), ENVELOPE),
    "approvals.py": (("counted", "_open", "from_the_future", "_is_approver"), ()),
    "weighing.py": (
        ("weigh", "_open", "_decide", "_mismatches", "_gives_more", "trusts", "passed_checks"),
        (),
    ),
    "git/changes.py": (("compare", "_compare_folder", "_collisions"), ()),
    "git/content.py": (("lfs_pointer", "resolve_link"), ()),
}
"""``*`` stands for every function of a module."""

SAME: dict[tuple[str, str], str] = {
    (
        "core/canonical.py",
        "_check_text: `not text.isascii()` is always true",
    ): "a shortcut: ASCII holds no surrogate",
    (
        "core/publickey.py",
        "is_key_id: `len(encoded) != 43` dropped from `len(encoded) != 43 or len(text) != 50 or (not text.isascii())`",
    ): "50 characters without the prefix are no whole base64",
    (
        "keys/keyring.py",
        "trusts: the condition `refusal is not None` dropped",
    ): "where no line serves, each has its refusal",
    (
        "core/wildmatch.py",
        "_parse: `len(components) > 1` dropped from `len(components) > 1 and (not components[0].tokens)`",
    ): "a single component is never empty: the empty pattern is refused before",
    (
        "core/wildmatch.py",
        "_parse: `len(components) > 1` becomes `len(components) >= 1`",
    ): "the same",
    (
        "core/wildmatch.py",
        "_refuse_odd_bracket: `byte > 127` becomes `byte >= 127`",
    ): "DEL is a control character, which no pattern holds",
    (
        "core/wildmatch.py",
        "first_match_folded: `not self._twins` is always true",
    ): "a shortcut: made again, the twins are the same",
    (
        "core/policy_values.py",
        "one_of: `isinstance(value, str)` dropped from `isinstance(value, str) and value in options`",
    ): "the options are text, and nothing else equals text",
    (
        "core/rules/policy_expressions.py",
        "findings: `not policy.rules` dropped from `not policy.rules or not proposal.edits`",
    ): "a shortcut: without rules the loop says nothing either",
    (
        "core/paths.py",
        "_drop_ignorables: `text.isascii()` is always false",
    ): "a shortcut: none of them is ASCII",
    (
        "core/paths.py",
        "_component_problems: `not text.isascii()` is always true",
    ): "a shortcut: ASCII has none of these",
    (
        "core/paths.py",
        "_component_problems: `'~' in text` dropped from `'~' in text and _SHORT_NAME.fullmatch(text)`",
    ): "a shortcut: the expression wants a tilde too",
    ("core/paths.py", "FOLDS: `':' in text` is always true"): "a shortcut: without a colon nothing is cut",
    ("core/paths.py", "FOLDS: `_AT_THE_END.search(text)` is always true"): "a shortcut: nothing else is cut",
    ("core/paths.py", "FOLDS: `'~' in text` is always true"): "a shortcut: short names have a tilde",
    (
        "core/objects.py",
        "parse_commit: `not separator` is always false",
    ): "the empty line that is left is a header without a name, which counts for nothing",
    (
        "weighing.py",
        "passed_checks: `claim.kind != 'verdict'` dropped from `claim.kind != 'verdict' or claim.tree != tree or (not claim.checks)`",
    ): "an approval names no checks",
    (
        "weighing.py",
        "passed_checks: `not claim.checks` dropped from `claim.kind != 'verdict' or claim.tree != tree or (not claim.checks)`",
    ): "a shortcut: there is nothing to add",
    (
        "git/changes.py",
        "_compare_folder: `added` is always true",
    ): "a shortcut: nothing added collides with nothing",
    (
        "git/changes.py",
        "_compare_folder: the condition `new` dropped",
    ): "the empty tree has no entries to object to",
}
"""Mutants that behave as the original does, and why: ``(module, what)``."""


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
        quick = [(test, "not hypothesis") for test in dict.fromkeys(("test_guards.py", *tests))]
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
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    if not os.environ.get("MUTATION_DEBUG"):
        for stream in (0, 1, 2):
            os.dup2(null, stream)
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = str(folder)
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
            "no:xdist",
            "--no-header",
            "--tb=no",
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


def killed(everything: list[Mutant], jobs: int) -> list[Mutant]:
    """Run the tests on each mutant; returns the ones that nobody noticed."""
    survivors: list[Mutant] = []
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
            mine = benches.get()
            try:
                if not mine.fails(mutant, mutant.tests):
                    survivors.append(mutant)
                    print(f"survived: {PACKAGE}/{mutant.module}:{mutant.line}: {mutant.what}", flush=True)
            finally:
                benches.put(mine)

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
    return [mutant for mutant in made if (mutant.module, mutant.what) not in SAME]


def everything_in_core() -> list[Mutant]:
    """The mutants of all functions of ``core/``."""
    tests = tuple(sorted({test for _, tests in TABLE.values() for test in tests} | {"test_expressions.py"}))
    core = sorted((ROOT / PACKAGE / "core").rglob("*.py"))
    modules = [str(path.relative_to(ROOT / PACKAGE)) for path in core]
    return [mutant for module in modules for mutant in mutants(module, ("*",), tests)]


def report(made: list[Mutant], survivors: list[Mutant], seconds: float) -> str:
    """The page for ``docs/``."""
    number, left = Counter(one.module for one in made), Counter(one.module for one in survivors)
    rows = [
        f"| `{module}` | {count} | {count - left[module]} | {left[module]} |"
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
            f"{len(made)} guards, {len(made) - len(survivors)} noticed, {len(survivors)} survived, {seconds:.0f} seconds.",
            "",
            "| module | guards | noticed | survived |",
            "|---|---|---|---|",
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
    survivors = killed(made, asked.jobs)
    seconds = time.monotonic() - start
    print(f"{len(made)} mutants, {len(survivors)} survived, {seconds:.0f} s")
    if not (asked.only or asked.full or asked.sample):
        (ROOT / "docs" / "mutation.md").write_text(report(made, survivors, seconds), encoding="utf-8")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
