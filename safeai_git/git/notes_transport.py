"""Verdicts on their way: notes are fetched from a remote, joined with our own, and pushed.

The only place where git talks to another machine, so the only one where the person's own configuration (transports,
credentials, URLs) is in force. Hooks stay off, or a push would run itself again.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from safeai_git.core.errors import FormatError, StorageError
from safeai_git.git.notes import Notes
from safeai_git.git.plumbing import git_program
from safeai_git.git.repository import NOTES_REF, REMOTE_NOTES, Repository

_TRIES = 4
_LONGEST_SECONDS = 120


def fetch_notes(repository: Repository, remote: str) -> bool:
    """Fetch a remote's notes to a place of their own and join them with ours; false when it has none.

    Raises:
        StorageError: The remote did not answer.
    """
    target = REMOTE_NOTES.format(remote=_checked(remote))
    code, said = _git(repository, ["fetch", "--quiet", "--no-tags", remote, f"+{NOTES_REF}:{target}"])
    if code and "couldn't find remote ref" in said:
        return False
    if code:
        raise StorageError(
            f"notes could not be fetched from '{remote}': {said}", hint="'git fetch' tells more"
        )
    tip = repository.ref(target)
    if tip:
        Notes(repository).join(tip)
    return True


def fetch_history(repository: Repository, remote: str, refs: Sequence[str] = ()) -> None:
    """Fetch what a shallow clone lacks, and refs of a forge that clones do not bring, without checking anything out.

    Args:
        repository: Where to.
        remote: The remote's name.
        refs: Whole names; their commits are fetched, no ref of ours is made.

    Raises:
        StorageError: The remote did not answer, or has no such ref.
    """
    asked = [f"+{one}" for one in refs]
    deepen = ["--unshallow"] if repository.shallow else []
    if not asked and not deepen:
        return
    code, said = _git(
        repository,
        ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", *deepen, _checked(remote), *asked],
    )
    if code:
        raise StorageError(
            f"history could not be fetched from '{remote}': {said}", hint="'git fetch' tells more"
        )


def push_notes(repository: Repository, remote: str) -> None:
    """Push our notes, after joining them with those that the remote has.

    Raises:
        StorageError: The remote did not take them, or kept changing.
    """
    if not repository.ref(NOTES_REF):
        return
    said = ""
    for _ in range(_TRIES):
        code, said = _git(repository, ["push", "--quiet", "--no-verify", remote, f"{NOTES_REF}:{NOTES_REF}"])
        if not code:
            return
        if "fetch first" not in said and "non-fast-forward" not in said and "rejected" not in said:
            break
        fetch_notes(repository, remote)
    raise StorageError(
        f"notes could not be pushed to '{remote}': {said}", hint=f"try again: git push {remote} {NOTES_REF}"
    )


def _checked(remote: str) -> str:
    if not remote or remote.startswith("-") or any(character in remote for character in " ~^:?*[\\\n"):
        raise FormatError(f"'{remote}' is not the name of a remote", hint="'git remote' lists them")
    return remote


def _git(repository: Repository, arguments: list[str]) -> tuple[int, str]:
    environment = {**os.environ, **repository.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [git_program(), "-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false", *arguments],
            cwd=repository.root,
            env=environment,
            capture_output=True,
            timeout=_LONGEST_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StorageError(f"git {arguments[0]} gave no answer: {error}") from error
    return done.returncode, done.stderr.decode("utf-8", "replace").strip()
