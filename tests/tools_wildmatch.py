"""Compare our wildmatch with git's own table.

    python tests/tools_wildmatch.py path/to/git/t/t3070-wildmatch.sh

Reads the `match` lines of git's test script (it is not part of this repository) and runs each of them through
`safeai_git.core.globs.wildmatch`: with and without WM_PATHNAME, with and without WM_CASEFOLD. Exits 1 at a difference.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from safeai_git.core.globs import wildmatch

MODES = [
    ("wildmatch", True, False),
    ("iwildmatch", True, True),
    ("pathmatch", False, False),
    ("ipathmatch", False, True),
]


def rows(script: str) -> Iterator[tuple[list[bool], bytes, bytes]]:
    """The expected answers in the order of `MODES`, the text and the pattern of each `match` line."""
    for line in script.replace("\\\n", " ").splitlines():
        if line.startswith("match "):
            words = shlex.split(line)[1:]
            if len(words) not in {6, 10}:
                raise SystemExit(f"not a line of the table: {line}")
            yield [word == "1" for word in words[:4]], words[-2].encode(), words[-1].encode()


def main(path: str) -> int:
    checked = 0
    different: list[str] = []
    for expected, text, pattern in rows(Path(path).read_text(encoding="utf-8")):
        for (name, pathname, casefold), want in zip(MODES, expected, strict=True):
            checked += 1
            if wildmatch(pattern, text, pathname=pathname, casefold=casefold) is not want:
                different.append(f"{name}: pattern {pattern!r}, text {text!r}: git says {want}")
    print(*different, f"{checked} answers compared, {len(different)} differ", sep="\n")
    return 1 if different or not checked else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
