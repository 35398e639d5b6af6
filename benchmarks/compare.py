"""``make bench-check``: the newest figures beside the recorded ones; exit 1 where one is worse by more than the noise.

    python -m benchmarks.compare [--new build/bench.json] [--recorded benchmarks/recorded.json]

A figure is worse when even the best of its rounds is worse than the worst of the recorded ones, and its median by more
than a fifth: then neither a busy moment nor the machine's usual spread is the reason. Ratios are compared, and differences
and values only as far as the same machine allows. Rows that are new or gone are named.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import Goal, Row

WORSE = 1.2


def _rows(path: Path) -> dict[tuple[str, int], Row]:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path}: {error}; run 'make bench' first") from None
    found = {}
    for one in document["rows"]:
        facts = {name: value for name, value in one.items() if name not in ("figure", "reached", "goal")}
        row = Row(**facts, goal=Goal(**one["goal"]) if one["goal"] else None)
        found[row.name, row.size] = row
    return found


def worse(new: Row, recorded: Row) -> bool:
    """Whether it is, beyond the noise."""
    less = new.goal.at_most if new.goal else new.unit != "/s"
    now, then = new.figures(), recorded.figures()
    if new.how == "more":  # a difference can be near nothing
        return min(now) > max(then) and new.figure() - recorded.figure() > 1.0
    if less:
        return min(now) > max(then) and new.figure() > recorded.figure() * WORSE
    return max(now) < min(then) and new.figure() * WORSE < recorded.figure()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--new", type=Path, default=Path("build/bench.json"))
    parser.add_argument("--recorded", type=Path, default=Path("benchmarks/recorded.json"))
    asked = parser.parse_args()
    new, recorded = _rows(asked.new), _rows(asked.recorded)
    code = 0
    for key, row in new.items():
        then = recorded.get(key)
        if then is None:
            print(f"new      {row.figure():10.2f}             {row.what}")
            continue
        bad = worse(row, then)
        code |= bad
        print(f"{'worse' if bad else 'fine':8} {row.figure():10.2f} {then.figure():10.2f}  {row.what}")
    for key in recorded.keys() - new.keys():
        print(f"missing             {recorded[key].figure():10.2f}  {recorded[key].what}")
    sys.exit(code)


if __name__ == "__main__":
    main()
