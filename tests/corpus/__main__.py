"""``python -m tests.corpus [ID...] --to FOLDER``: build the attacks as repositories on disk.

Each lies in a folder ``ID-name`` with a ``HEADER.txt`` that says what it is and what must happen. They are plain git
repositories with hostile objects in them: look at them with plumbing, do not check them out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from . import ATTACKS
from .model import Attack, Expect
from .modes import Built, build, updates, words


def main() -> int:
    """Build what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.corpus", description=__doc__)
    parser.add_argument(
        "ids", nargs="*", metavar="ID", help="rows of the catalogue, such as B-33 (default: all)"
    )
    parser.add_argument(
        "--to", type=Path, required=True, metavar="FOLDER", help="where to build; must not exist"
    )
    arguments = parser.parse_args()
    chosen = [one for one in ATTACKS if not arguments.ids or one.id in arguments.ids]
    if not chosen:
        parser.error("there is no such attack")
    if arguments.to.exists():
        parser.error(f"{arguments.to} is there already")
    for attack in chosen:
        place = arguments.to.resolve() / f"{attack.id}-{attack.name}"
        built = build(attack, place)
        (place / "HEADER.txt").write_text(header(attack, built), encoding="utf-8")
        print(place)
    return 0


def header(attack: Attack, built: Built) -> str:
    """What the attack is and what must happen, for whoever opens the folder."""
    base, head = words(built.case)
    lines = [f"{attack.id} {attack.name}", "", attack.about, ""]
    lines += [f"base:  {built.case.base}", f"head:  {built.case.head}", f"range: {base}..{head}"]
    lines += [f"push:  {new} to {ref}" for new, ref in updates(built.case)]
    lines += [f"{mode}: {_told(attack.expected(mode))}" for mode in attack.modes]
    if built.case.patch is not None:
        (built.bench.place / "change.patch").write_bytes(built.case.patch)
        lines.append("the patch: change.patch")
    return "\n".join(lines) + "\n"


def _told(wanted: Expect) -> str:
    if wanted.git:
        return f"git itself refuses: {wanted.git}"
    if wanted.error:
        return f"no decision: {wanted.error}"
    return f"{wanted.decision} {', '.join(wanted.rules)}".rstrip()


if __name__ == "__main__":
    raise SystemExit(main())
