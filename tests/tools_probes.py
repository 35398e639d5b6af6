"""The probe suite from the command line.

``python tests/tools_probes.py`` runs it in every backend and situation that can be had here; ``--mutate`` takes each
guard away in turn and fails if nobody notices; ``--write`` puts what was found into the table of docs/sandbox.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from safeai_git.sandbox.levels import PROMISES  # noqa: E402
from tests.probes import judge, kernel_calls, mutations, rows, situations  # noqa: E402

DOCUMENT = PROJECT / "docs/sandbox.md"
BEGIN, END = "<!-- begin: probes -->", "<!-- end: probes -->"


def main() -> int:
    """Zero when everything is as it must be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutate", action="store_true")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--levels", default="A,B,C")
    parser.add_argument("--situations", default=",".join(situations.SITUATIONS))
    asked = parser.parse_args()
    levels = asked.levels.split(",")
    if asked.mutate:
        return max(_mutate(level) for level in levels)
    faults = 0
    results: dict[str, dict[str, Any]] = {}
    for situation in asked.situations.split(","):
        if why := situations.why_not(situation):
            print(f"{situation}: skipped, {why}")
            continue
        for level in levels:
            if level not in situations.LEVELS[situation]:
                continue
            found = situations.run(situation, level)
            said = judge.faults(found, level)
            count = sum(len(found.get(part, ())) for part in ("inside", "calls", "runs"))
            print(f"{situation}, level {level}: {count} probes, {len(said)} surprises")
            for line in said:
                print(f"  {line}")
            faults += len(said)
            results.setdefault(level, found)
    if asked.write and not faults:
        write(DOCUMENT, table(results))
    return int(faults > 0)


def _mutate(level: str) -> int:
    """As an ordinary user where there is one, since that is who checks run for."""
    situation = "root" if situations.why_not("user") else "user"
    found = situations.run(situation, level, "--mutate").get("mutations")
    if found is None:
        print(f"level {level}: the mutations could not be run")
        return 1
    silent = [name for name, said in found.items() if not said and name not in mutations.SILENT[level]]
    wrong = [
        f"{name} (noticed, although listed)"
        for name in found.keys() & mutations.SILENT[level].keys()
        if found[name]
    ]
    print(f"level {level}: {len(found)} guards taken away, {len(silent)} unnoticed")
    silent += wrong
    for name in silent:
        print(f"  {name}")
    return int(bool(silent))


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results as Markdown: a line for each probe, a column for each level."""
    levels = [level for level in PROMISES if level in results]
    lines = ["| row | probe | outside | " + " | ".join(f"level {level}" for level in levels) + " |"]
    lines.append("|---|---|---|" + "---|" * len(levels))
    named = {"inside": rows.INSIDE, "runs": rows.RUNS}
    found: list[tuple[int, str, str, list[str]]] = []
    for part, one in named.items():
        for name, row in one.items():
            outside = _control(results, part, name)
            found.append(
                (
                    row.number,
                    name.replace("_", " "),
                    outside,
                    [_result(results[level], part, name) for level in levels],
                )
            )
    for name in kernel_calls.expected("B"):
        answers = [_result(results[level], "calls", name) for level in levels]
        found.append((kernel_calls.row(name), f"call: {name}", kernel_calls.REACHES, answers))
    for number, name, outside, answers in sorted(found, key=lambda one: one[0]):
        lines.append(f"| {number} | {name} | {outside} | {' | '.join(answers)} |")
    return "\n".join(lines)


def _result(found: dict[str, Any], part: str, name: str) -> str:
    return _cell(found[part].get(name, ""))


def _control(results: dict[str, dict[str, Any]], part: str, name: str) -> str:
    row = (rows.INSIDE if part == "inside" else rows.RUNS)[name]
    if row.outside == "-":
        return ""
    told = next((found[f"control {part}"] for found in results.values()), {})
    return _cell(told.get(name, ""))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace(", exit code 0", "").replace("exit code 0", "ends")


def write(document: Path, text: str) -> None:
    """Put a table between the two marks of a document."""
    before, _, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    document.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
