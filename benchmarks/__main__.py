"""``make bench``: everything that has to be fast, each beside its reference, in turns, as a table.

    python -m benchmarks [NAME ...] [--rounds 5] [--large] [--soak MINUTES] [--repository PATH] [--folder PATH]

Names are those of `SUITES`; without any, all are run. ``--large`` adds a log of a million entries (some minutes, 2 GB),
``--soak`` a Governor under load for that long. The tree of a replay is measured on the repository that is named, or on one
that is made here. The table is printed and written to ``build/bench.md``, the samples to ``build/bench.json``;
``python -m benchmarks.compare`` holds those against the recorded ones.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks import audit_log, gate, governor_http, replay, verify
from benchmarks.measure import Row, growth, machine, table
from benchmarks.places import environment, repository

Suite = Callable[[Path, int], Iterator[Row]]

SUITES: dict[str, Suite] = {
    "hook": gate.hook,
    "change": gate.large_change,
    "range": gate.history,
    "verify": verify.rows,
    "agent": gate.agent_hook,
    "imports": gate.imports,
    "attribution": gate.attribution,
    "sandbox": replay.sandbox_rows,
    "tree": lambda folder, rounds: _trees(folder, rounds, None),
    "log": audit_log.appending,
    "signing": audit_log.signing,
    "postgres": audit_log.postgres,
    "http": governor_http.http,
    "audit": audit_log.verifying,
}
FILES = 27_000


def _trees(folder: Path, rounds: int, source: Path | None) -> Iterator[Row]:
    memory = Path("/dev/shm")
    for files in (FILES // 10, FILES) if source is None else (0,):
        made = source or repository(folder / f"source{files}", environment(folder), files=files)
        with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else folder) as scratch:
            place = Path(scratch)
            place.chmod(0o711)
            yield from replay.tree_rows(place, rounds, made.resolve(), files)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*SUITES, []], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--soak", type=float, default=0.0, metavar="MINUTES")
    parser.add_argument("--repository", type=Path)
    parser.add_argument("--folder", type=Path, help="on which file system; default: that for temporary files")
    parser.add_argument("--to", type=Path, default=Path("build"), help="where the results go")
    asked = parser.parse_args()
    suites = {name: SUITES[name] for name in asked.names or SUITES}
    if "tree" in suites:
        suites["tree"] = partial(_trees, source=asked.repository)
    if asked.large:
        suites["large"] = audit_log.large
    if asked.soak:
        suites["soak"] = lambda folder, _: iter([governor_http.soak(folder, asked.soak)])
    rows: list[Row] = []
    before = machine()
    for name, suite in suites.items():
        began = time.monotonic()
        print(f"{name} ...", end="", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
            Path(scratch).chmod(0o711)
            rows += suite(Path(scratch), asked.rounds)
        print(f" {time.monotonic() - began:.0f} s", file=sys.stderr)
    text = f"{before}\nafterwards: {machine().rpartition(', ')[2]}; {asked.rounds} rounds, medians\n\n{table(rows)}\n"
    if found := growth(rows):
        text += f"\n{found}\n"
    print(text)
    asked.to.mkdir(parents=True, exist_ok=True)
    (asked.to / "bench.md").write_text(text)
    found_json = {"machine": before, "rounds": asked.rounds, "rows": [row.to_json() for row in rows]}
    (asked.to / "bench.json").write_text(json.dumps(found_json, indent=1) + "\n")


if __name__ == "__main__":
    main()
