"""Where a repository's parts are, asked of git; and git's refusals to open one, with the next step."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from safeai_git.core.errors import RepositoryError
from safeai_git.git.plumbing import GitFailed, begin, run

_QUESTIONS = (
    ["--git-dir"],
    ["--git-common-dir"],
    ["--git-path", "objects"],
    ["--git-path", "index"],
    ["--is-bare-repository"],
    ["--is-shallow-repository"],
    ["--show-object-format"],
)
_WORK_TREE = ["--show-toplevel"]
_HEAD = (["HEAD^{commit}"], ["--symbolic-full-name", "HEAD"])
_EVERYTHING = (*_QUESTIONS, _WORK_TREE, *_HEAD)
SETTINGS: list[str | bytes] = ["config", "--name-only", "--get-regexp", "^safeai\\."]
"""Lists what the configuration says of ours."""


def begin_answers(start: Path, environ: Mapping[str, str]) -> None:
    """Start git on what a hook will ask about the repository whose working tree begins at `start`."""
    begin(_line(*_EVERYTHING), cwd=start, environ=environ)
    if (start / ".git").is_dir():
        there = {**environ, "GIT_DIR": os.fspath(start / ".git"), "GIT_WORK_TREE": os.fspath(start)}
        begin(SETTINGS, cwd=start, environ=there, personal=True)
        begin(["var", "GIT_AUTHOR_IDENT"], cwd=start, environ=there, personal=True)


def _line(*questions: list[str]) -> list[str | bytes]:
    return ["rev-parse", "--path-format=absolute", *(word for question in questions for word in question)]


def answers(start: Path, environ: Mapping[str, str]) -> list[str]:
    """What git says about the repository around a folder.

    All is asked at once; where git refuses one of the questions (a bare repository has no working tree, a new branch
    no commit) or a path has newlines, what has to be known is asked by itself.

    Returns:
        The repository's folder, the one that its working trees share, that of the objects, the index; then ``true``
        or ``false`` for bare and for shallow; then the name of the hash. Where that could be asked at once: the
        working tree's root, the commit that HEAD points to, and the full name of its branch (or ``HEAD``).

    Raises:
        RepositoryError: There is none, or git cannot open it.
    """

    def ask(*questions: list[str]) -> str:
        printed, _ = run(_line(*questions), cwd=start, environ=environ)
        return os.fsdecode(printed.removesuffix(b"\n"))

    with suppress(GitFailed):
        lines = ask(*_EVERYTHING).split("\n")
        if len(lines) == len(_EVERYTHING):
            return lines
    try:
        lines = ask(*_QUESTIONS).split("\n")
        return lines if len(lines) == len(_QUESTIONS) else [ask(question) for question in _QUESTIONS]
    except GitFailed as error:
        raise cannot_be_opened(start, error.stderr) from error


def cannot_be_opened(start: Path, said: str) -> RepositoryError:
    """Git's own refusal to open a repository (git, ``setup.c``), with the next step."""
    if "not a git repository" in said:
        return RepositoryError(
            f"{start} is not inside a git repository", hint="change into one, or make one with 'git init'"
        )
    told = " ".join(said.split())
    if "unknown repository extension" in said and "refstorage" in said.lower():
        return RepositoryError(
            f"the repository at {start} keeps its refs in a reftable, which the git here cannot read",
            hint="install git 2.45 or newer",
        )
    if "unknown repository extension" in said or "Expected git repo version" in said:
        return RepositoryError(
            f"the repository at {start} is of a kind that the git here does not know: {told}",
            hint="install a newer git",
        )
    return RepositoryError(
        f"the repository at {start} cannot be opened: {told}",
        hint="'git status' there tells more; nothing can be judged before it works",
    )
