"""Our reading of trailers held against git's own, message by message, on any repository.

    python tests/tools_trailers.py REPOSITORY... [--most 20000]

Every commit's message is given to ``git interpret-trailers --parse`` (many in one process, each followed by a message
of ours that marks the end of the answer) and to `safeai_git.core.trailers`. Writes nothing but a temporary folder.
Exits 1 on any difference, or if nothing was compared.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from safeai_git.core.trailers import read_block

MARK = "End-Of-This-Answer: 69d1c1b4"
TOGETHER = 200
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin:/usr/local/bin:/opt/homebrew/bin",
    "LC_ALL": "C",
    "HOME": "/nowhere",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CEILING_DIRECTORIES": "/",
}


def of_git(messages: Sequence[bytes]) -> list[bytes]:
    """What ``git interpret-trailers --parse`` prints for each message, without any configuration."""
    answers: list[bytes] = []
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "mark").write_text(f"mark\n\n{MARK}\n", encoding="ascii")
        for start in range(0, len(messages), TOGETHER):
            names: list[str] = []
            for number, message in enumerate(messages[start : start + TOGETHER]):
                (here / str(number)).write_bytes(message)
                names += [str(number), "mark"]
            printed = subprocess.run(
                ["git", "interpret-trailers", "--parse", *names],
                cwd=here,
                env=ENVIRONMENT | {"GIT_DIR": str(here / "none")},
                capture_output=True,
                check=True,
                timeout=300,
            ).stdout
            answers += printed.split(MARK.encode() + b"\n")[:-1]
    return answers


def of_ours(message: bytes) -> bytes:
    """The same, by `safeai_git.core.trailers`."""
    pairs = read_block(message.decode("utf-8", "surrogateescape")).pairs
    return "".join(f"{key}: {value}\n" for key, value in pairs).encode("utf-8", "surrogateescape")


def differences(messages: Sequence[bytes]) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Each message on which the two disagree, with git's answer and ours."""
    for message, theirs in zip(messages, of_git(messages), strict=True):
        ours = of_ours(message)
        if ours != theirs:
            yield message, theirs, ours


def messages_of(repository: Path, most: int) -> list[bytes]:
    """The different messages of a repository's commits, the newest first."""
    listed = subprocess.run(
        ["git", "-C", str(repository), "rev-list", "--all", f"--max-count={most}"],
        capture_output=True,
        check=True,
    ).stdout
    printed = subprocess.run(
        ["git", "-C", str(repository), "cat-file", "--batch"], input=listed, capture_output=True, check=True
    ).stdout
    found: dict[bytes, None] = {}
    at = 0
    while at < len(printed):
        line = printed.index(b"\n", at)
        size = int(printed[at:line].split()[2])
        commit = printed[line + 1 : line + 1 + size]
        found[commit.partition(b"\n\n")[2]] = None
        at = line + 1 + size + 1
    return list(found)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("repositories", type=Path, nargs="+")
    parser.add_argument("--most", type=int, default=20_000, help="commits of each repository")
    asked = parser.parse_args()
    compared = with_trailers = wrong = 0
    for repository in asked.repositories:
        messages = messages_of(repository, asked.most)
        found = list(differences(messages))
        for message, theirs, ours in found[:5]:
            print(f"{repository}: {message!r}: git says {theirs!r}, we say {ours!r}")
        compared += len(messages)
        with_trailers += sum(bool(of_ours(message)) for message in messages)
        wrong += len(found)
    print(f"{compared:,} different messages compared, {with_trailers:,} with trailers, {wrong:,} differ")
    return 1 if wrong or not compared else 0


if __name__ == "__main__":
    sys.exit(main())
