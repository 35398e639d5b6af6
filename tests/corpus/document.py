"""``python -m tests.corpus.document``: run every test that names a row of the catalogue, and write the threat model.

The part of ``docs/threat-model.md`` above the marker is written by hand and kept; the tables below it are made from
the catalogue and from what the tests just said. Exit code 1 when a row without an excuse has no test, or one failed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from . import ATTACKS
from .catalogue import Row, rows
from .model import Attack, Expect

MARKER = "<!-- make threat-model writes what follows -->"
ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "threat-model.md"
_ROW = re.compile(r"B-?(\d\d)(?=[_\[-])")


def ids_of(name: str) -> list[str]:
    """The rows that a test's name carries: ``test_B30_B31_twins``, ``test_attack[B-33-newline-range]``."""
    function, _, parameters = name.partition("[")
    if function in ("test_attack", "test_command_line"):
        return [f"B-{found[1]}"] if (found := _ROW.match(parameters)) else []
    return [f"B-{number}" for number in re.findall(r"B(\d\d)(?=_)", function)]


@dataclass
class Recorder:
    """A pytest plugin: keeps only tests that name a row, and remembers how each ended."""

    ended: dict[str, str] = field(default_factory=dict)

    @pytest.hookimpl
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what names no row, and what says the same once more."""
        kept = [item for item in items if ids_of(item.name) and not item.name.startswith("test_command_line")]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
        items[:] = kept

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember the worst of set-up, call and tear-down."""
        order = ("passed", "skipped", "failed")
        worst = max(self.ended.get(report.nodeid, "passed"), report.outcome, key=order.index)
        self.ended[report.nodeid] = worst


def table(row: Row, ended: dict[str, str]) -> list[str]:
    """The lines of one catalogue row: one for each corpus attack, one for each other test."""
    lines: list[str] = []
    for attack in (one for one in ATTACKS if one.id == row.id):
        name = f"{attack.id}-{attack.name}"
        results = {
            mode: said
            for mode in attack.modes
            for test, said in ended.items()
            if test.endswith(f"[{name}-{mode}]")
        }
        bad = [f"{mode} {said}" for mode, said in results.items() if said != "passed"]
        told = "**" + ", ".join(bad) + "**" if bad else _result(attack)
        lines.append(
            _line(
                row.id, attack.name.replace("_", " "), ", ".join(attack.modes), told, f"test_corpus.py {name}"
            )
        )
    others: dict[str, list[str]] = {}
    for test, said in ended.items():
        place, _, name = test.partition("::")
        name = name[name.find("test_") :]  # without its class
        if row.id in ids_of(name) and not name.startswith("test_attack"):
            others.setdefault(f"{Path(place).name} {name.partition('[')[0]}", []).append(said)
    for test, said_all in sorted(others.items()):
        words = re.sub(r"^test_(?:B\d\d_)+", "", test.partition(" ")[2]).replace("_", " ")
        lines.append(_line(row.id, words, "", _counted(said_all), test))
    if not lines:
        lines.append(
            _line(row.id, "", "", f"comes with {row.comes_with}" if row.comes_with else "**no test**", "")
        )
    return lines


def _line(*cells: str) -> str:
    *words, test = cells
    return "| " + " | ".join([*words, f"`{test}`" if test else ""]) + " |"


def _counted(said: list[str]) -> str:
    failed, skipped = said.count("failed"), said.count("skipped")
    if failed:
        return f"**{failed} of {len(said)} failed**"
    if skipped == len(said):
        return "not run where this was written"
    return "holds" if len(said) == 1 else f"holds ({len(said) - skipped} cases)"


def _result(attack: Attack) -> str:
    told: dict[str, list[str]] = {}
    for mode in attack.modes:
        told.setdefault(_expected(attack.expected(mode)), []).append(mode)
    if len(told) == 1:
        return next(iter(told))
    return "; ".join(f"{', '.join(modes)}: {said}" for said, modes in told.items())


def _expected(wanted: Expect) -> str:
    if wanted.git:
        return "git refuses"
    if wanted.error:
        return "no decision"
    return f"{wanted.decision}: {', '.join(wanted.rules)}"


def document(ended: dict[str, str]) -> str:
    """All tables."""
    lines: list[str] = []
    section = ""
    for row in rows():
        if row.section != section:
            section = row.section
            lines += ["", f"## {section}"]
        lines += ["", f"**{row.id}** {row.attack}. *{row.required}.*", ""]
        lines += ["| id | tried | modes | result | test |", "|---|---|---|---|---|", *table(row, ended)]
    return "\n".join(lines) + "\n"


def without_a_test(ended: Iterable[str]) -> list[str]:
    """Rows that nothing tests and nothing excuses."""
    tested = {number for test in ended for number in ids_of(test.partition("::")[2])}
    return [row.id for row in rows() if row.id not in tested and not row.comes_with]


def main() -> int:
    """Run the tests and write the document."""
    recorder = Recorder()
    pytest.main(
        ["-q", "-p", "no:cacheprovider", "--rootdir", str(ROOT), str(ROOT / "tests")], plugins=[recorder]
    )
    above = DOCUMENT.read_text(encoding="utf-8").partition(MARKER)[0]
    DOCUMENT.write_text(above + MARKER + "\n" + document(recorder.ended), encoding="utf-8")
    missing = without_a_test(recorder.ended)
    failed = sorted(test for test, said in recorder.ended.items() if said == "failed")
    for number in missing:
        print(f"{number}: nothing tests it", file=sys.stderr)
    for test in failed:
        print(f"failed: {test}", file=sys.stderr)
    print(f"{DOCUMENT}: {len(recorder.ended)} tests", file=sys.stderr)
    return 1 if missing or failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
