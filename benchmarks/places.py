"""Repositories to measure in: made from nothing, of a size that is asked for, and the same at every run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import run

SAFEAI = (sys.executable, "-m", "safeai_git")
PRE_COMMIT = (str(Path(sys.executable).parent / "pre-commit"), "run")
AI = "Co-Authored-By: Claude Code <noreply@anthropic.com>"

NO_OP = """\
repos:
  - repo: local
    hooks:
      - {id: no-op, name: no-op, entry: "true", language: system, pass_filenames: false, always_run: true}
"""
POLICY = """\
repository: bench/repository
allow_paths: [src/]
max_edits: 100000
max_total_size_bytes: 1000000000
"""
PATTERNS = """\
repository: bench/repository
max_edits: 100000
max_total_size_bytes: 1000000000
allow_paths: [src/, tests/, docs/, "**/*.py", "tools/**/[a-z]*.sh", "part*/", "examples/*/src/", "*.md"]
deny_paths: [secrets/, "**/*.pem", "**/*.key", "**/id_rsa*", "vendor/**/generated/", "**/.env"]
protected_paths: [infra/, "**/*.tf", "**/Dockerfile*", "migrations/**/*.sql", "**/auth/**", "deploy/"]
rules:
  - {id: no-new-binaries, each: edit, when: "edit.binary && edit.status == 'A'", outcome: review, message: A new binary file.}
  - {id: no-shell, each: edit, when: "edit.path.endsWith('.sh') && edit.size > 100", outcome: review, message: A script.}
  - {id: short-names, each: edit, when: "size(edit.path) > 200", outcome: warn, message: A long path.}
  - {id: many-lines, when: "change.lines_added > 10000000", outcome: warn, message: Very many lines.}
  - {id: docs-too, when: "edits.exists(e, e.path.startsWith('docs/x')) && size(edits) > 2", outcome: warn, message: Docs.}
"""
"""Twenty patterns and five expressions, none of which objects to what `edit` edits."""


def environment(home: Path) -> dict[str, str]:
    """Nothing of the caller's git, keys or policy."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("GIT_", "SAFEAI_")) and name != "PYTHONDONTWRITEBYTECODE"
    }
    kept |= {"HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), "GIT_CONFIG_NOSYSTEM": "1"}
    for name in ("AUTHOR", "COMMITTER"):
        kept |= {f"GIT_{name}_NAME": "Bench", f"GIT_{name}_EMAIL": "bench@example.com"}
    return kept


def path_of(number: int) -> str:
    """Some hundred files to a folder, two folders deep."""
    return f"src/part{number // 5000}/folder{number // 100 % 50}/file{number}.py"


def content_of(number: int, edition: int = 0) -> str:
    """Some 40 lines."""
    return "".join(f"value_{line} = {number * 31 + line * edition}\n" for line in range(40))


def commit(number: int, message: str, files: dict[str, str]) -> str:
    """One commit for ``git fast-import``, after the one before."""
    lines = [
        f"commit refs/heads/main\nmark :{number}\n",
        f"committer Bench <bench@example.com> {1_760_000_000 + number} +0000\n",
        f"data {len(message.encode())}\n{message}\n",
    ]
    lines += [
        f"M 100644 inline {path}\ndata {len(content.encode())}\n{content}\n"
        for path, content in files.items()
    ]
    return "".join(lines)


def repository(
    place: Path,
    variables: dict[str, str],
    *,
    files: int,
    commits: int = 0,
    policy: str = POLICY,
    signers: str = "",
) -> Path:
    """A repository with a work tree, a policy, so many files, and after them so many commits of an agent.

    Each of those edits three files.
    """
    place.mkdir(parents=True)
    run(place, variables, "git", "init", "-q", "-b", "main")
    first = {".safeai/policy.yaml": policy, ".pre-commit-config.yaml": NO_OP}
    if signers:
        first[".safeai/allowed_signers"] = signers
    first |= {path_of(number): content_of(number) for number in range(files)}
    stream = [commit(1, "start", first)]
    for number in range(2, commits + 2):
        edited = {path_of(at % files): content_of(at, number) for at in range(3 * number, 3 * number + 3)}
        stream.append(commit(number, f"Change number {number}\n\n{AI}\n", edited))
    subprocess.run(
        ["git", "fast-import", "--quiet"],
        cwd=place,
        env=variables,
        input="".join(stream).encode(),
        check=True,
    )
    run(place, variables, "git", "reset", "-q", "--hard")
    run(place, variables, "git", "gc", "-q")
    return place


def edit(place: Path, variables: dict[str, str], count: int, files: int) -> None:
    """Edit that many files and stage them."""
    for number in range(count):
        at = number * (files // count)
        (place / path_of(at)).write_text(content_of(at, 7))
    run(place, variables, "git", "add", "-u")
