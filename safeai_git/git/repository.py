"""A repository: where its parts are, what its names point to, what its index would commit.

Asked of git's own plumbing, once each, with every program disabled (`plumbing`); the objects themselves come from
`store`.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from safeai_git.core.errors import HistoryTooShallow, ObjectCorrupt, RepositoryError, WrongUse
from safeai_git.git.extent import Extent
from safeai_git.git.few_store import FewStore
from safeai_git.git.opening import SETTINGS, answers
from safeai_git.git.plumbing import GitFailed, run
from safeai_git.git.store import CatFileStore, ObjectStore

NOTES_REF = "refs/notes/safeai"
REMOTE_NOTES = "refs/notes/remotes/{remote}/safeai"
"""Where ``git fetch`` puts a remote's notes, so that it never overwrites our own; both are read."""

_ALTERNATES = "GIT_ALTERNATE_OBJECT_DIRECTORIES"
_FULL_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_IDENT = re.compile(r"(?P<name>.*?) ?<(?P<email>[^<>]*)> \d+ [+-]\d{4}")


@dataclass(slots=True)
class Repository:
    """An open repository.

    Attributes:
        git_directory: The folder of this working tree (``.git`` or ``.git/worktrees/NAME``).
        common_directory: The folder that all working trees share.
        work_tree: The working tree's root; ``None`` in a bare repository.
        object_format: ``sha1`` or ``sha256``.
        shallow: Whether history was cut off when it was fetched.
        index_file: The index that a commit would be made of, ``GIT_INDEX_FILE`` or the working tree's own.
        environ: The environment, out of which git gets the allow-listed variables. Those that say where the
            repository is name these folders, so that every command is about the same one wherever it runs.
    """

    git_directory: Path
    common_directory: Path
    work_tree: Path | None
    object_directory: Path
    object_format: str
    shallow: bool
    index_file: Path
    environ: Mapping[str, str]
    _store: ObjectStore | None = field(default=None, repr=False)
    brief: bool = field(default=False, repr=False)
    """Whether it is open for one question only: then HEAD, and that nobody configured us, are asked once."""
    _seen_head: tuple[str, str] | None = field(default=None, repr=False)
    _settings: bool | None = field(default=None, repr=False)
    extents: dict[str, Extent] = field(default_factory=dict, repr=False)
    """What is known of trees that were merged (`git.extent`)."""

    @property
    def private_directory(self) -> Path:
        """Our own folder in it: spool, reports, cached self-tests. Never committed, never pushed."""
        return self.common_directory / "safeai"

    @property
    def root(self) -> Path:
        """The folder that a person would name: the working tree, or the bare repository."""
        return self.work_tree or self.git_directory

    @property
    def store(self) -> ObjectStore:
        """The object store, opened when it is first asked for."""
        if self._store is None:
            if self.object_format != "sha1":
                self._store = CatFileStore(self.git_directory, 32, self.environ)
            elif self.brief:
                self._store = FewStore(CatFileStore(self.git_directory, 20, self.environ), self._libgit2)
            else:
                self._store = self._libgit2()
        return self._store

    def _libgit2(self) -> ObjectStore:
        # Loaded here: whoever needs but few objects does without it.
        libgit2 = importlib.import_module("safeai_git.git.libgit2")
        store: ObjectStore = libgit2.Libgit2Store(self.object_directory, self._borrowed())
        return store

    def close(self) -> None:
        """Give back what the store holds open."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def _borrowed(self) -> tuple[Path, ...]:
        named = self.environ.get(_ALTERNATES, "")
        own = self.common_directory / "objects"
        folders = [Path(folder) for folder in named.split(os.pathsep) if folder]
        if own != self.object_directory and own not in folders:
            folders.append(own)
        return tuple(folders)

    def git(
        self, arguments: list[str | bytes], *, stdin: bytes = b"", extra: Mapping[str, str] | None = None
    ) -> bytes:
        """Run plumbing in this repository and return what it printed.

        Raises:
            GitFailed: It ended with an error.
        """
        return run(arguments, cwd=self.root, environ=self.environ, stdin=stdin, extra=extra)[0]

    def commit_id(self, revision: str) -> str:
        """The commit that a revision names.

        Raises:
            RepositoryError: There is none of that name, or the name could mean two things.
        """
        if not revision or revision.startswith("-") or "\0" in revision or "\n" in revision:
            raise WrongUse(f"{revision!r} is not a revision", hint="name a commit, a branch or a tag")
        try:
            printed, said = run(
                ["rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}"],
                cwd=self.root,
                environ=self.environ,
            )
        except GitFailed as error:
            hint = "'git log --oneline --all' lists the commits there are"
            if self.shallow:
                raise HistoryTooShallow(
                    f"revision '{revision}' is not in this shallow clone", hint="run 'git fetch --unshallow'"
                ) from error
            if _FULL_ID.fullmatch(revision) and self.store.exists(revision):
                raise ObjectCorrupt(
                    f"object {revision} is no commit, or one that git cannot take apart",
                    hint="'git cat-file -p' shows it, 'git fsck' tells more",
                ) from error
            raise RepositoryError(f"unknown revision '{revision}'", hint=hint) from error
        if "ambiguous" in said and not _FULL_ID.fullmatch(
            revision
        ):  # a full id is that object (gitrevisions(7))
            raise RepositoryError(
                f"'{revision}' could mean more than one thing",
                hint="give the full name (refs/heads/..., refs/tags/...) or the commit's full id",
            )
        return printed.decode("ascii").strip()

    def head(self) -> str:
        """The commit that HEAD points to; empty on an unborn branch."""
        if self._seen_head:
            return self._seen_head[0]
        try:
            return self.git(["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]).decode("ascii").strip()
        except GitFailed:
            if self._unborn():
                return ""
            raise RepositoryError(
                "HEAD names neither a commit that is here nor a branch to begin",
                hint="'git symbolic-ref HEAD' and 'git fsck' tell more",
            ) from None

    def _unborn(self) -> bool:
        try:
            target = self.git(["symbolic-ref", "--quiet", "HEAD"]).strip()
            return not self.git(["for-each-ref", "--format=%(refname)", target]).strip()
        except GitFailed:
            return False

    def branch(self) -> str:
        """The short name of the current branch; empty when HEAD is detached."""
        if self._seen_head:
            full = self._seen_head[1]
            return "" if full == "HEAD" else full.removeprefix("refs/heads/")
        try:
            name = self.git(["symbolic-ref", "--quiet", "HEAD"]).strip().decode("utf-8", "replace")
        except GitFailed:
            return ""
        return name.removeprefix("refs/heads/")

    def staged_tree(self) -> str:
        """The tree that ``git commit`` would record now, honouring ``GIT_INDEX_FILE``.

        Git's own ``write-tree`` is asked, since it knows every index extension (split, sparse, version 4) and leaves
        out what was only announced (``git add -N``). Objects that are not there are our reader's business.

        Writing a tree also writes the index, and for entries that changed in the same second git then compares the
        files, through the clean filters that the repository names (git, ``read-cache.c``,
        ``ce_smudge_racily_clean_entry``). So it works on a copy of the index, above an empty folder.

        Raises:
            RepositoryError: The index is unmerged or unreadable.
        """
        if self.work_tree is None:
            raise RepositoryError(
                f"{self.git_directory} is a bare repository: it has no index, so nothing is staged",
                hint="use --range BASE..HEAD",
            )
        try:
            return self._write_tree()
        except GitFailed as error:
            if "unmerged" in error.stderr or "needs merge" in error.stderr:
                raise RepositoryError(
                    "the index holds unmerged paths, so there is no tree to judge",
                    hint="resolve the conflicts and 'git add' the files",
                ) from error
            raise RepositoryError(
                f"the index cannot be written as a tree: {error.stderr.strip()}",
                hint="'git status' and 'git fsck' tell more",
            ) from error

    def _write_tree(self) -> str:
        with tempfile.TemporaryDirectory(prefix="safeai-index-") as scratch:
            copy, empty = Path(scratch, "index"), Path(scratch, "empty")
            empty.mkdir()
            index = self._index()
            if index:
                copy.write_bytes(index)
            here = {
                "GIT_DIR": os.fspath(self.git_directory),
                "GIT_WORK_TREE": os.fspath(empty),
                "GIT_INDEX_FILE": os.fspath(copy),
            }
            printed, _ = run(["write-tree", "--missing-ok"], cwd=empty, environ=self.environ, extra=here)
        return printed.decode("ascii").strip()

    def _index(self) -> bytes:
        """The index as it is on disk; empty when nothing was ever staged.

        Its last bytes are a hash of all others, or zeros where ``index.skipHash`` is set (git, index-format). Git has
        stopped looking at them, and makes entries of nothing out of an index that was cut off.
        """
        try:
            data = self.index_file.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise RepositoryError(
                f"the index cannot be read: {error}", hint="check GIT_INDEX_FILE and the file's permissions"
            ) from error
        hashed = hashlib.new(self.object_format, usedforsecurity=False)
        size = hashed.digest_size
        hashed.update(memoryview(data)[:-size])
        if data[-size:] not in (hashed.digest(), bytes(size)):
            raise RepositoryError(
                f"the index {self.index_file} is damaged: its checksum does not fit its content",
                hint="delete it and run 'git reset' to make it anew; then stage again",
            )
        return data

    def ref(self, name: str) -> str:
        """What a full ref name points to; empty when there is no such ref."""
        try:
            return (
                self.git(["rev-parse", "--verify", "--quiet", "--end-of-options", name])
                .decode("ascii")
                .strip()
            )
        except GitFailed:
            return ""

    def refs(self, pattern: str) -> list[str]:
        """The commits that refs matching a pattern (git-for-each-ref(1)) point to, tags peeled."""
        peeled = (
            "%(if)%(*objectname)%(then)%(*objectname) %(*objecttype)%(else)%(objectname) %(objecttype)%(end)"
        )
        printed = self.git(["for-each-ref", f"--format={peeled}", pattern]).decode("ascii")
        rows = (row.split(" ") for row in printed.splitlines())
        return list(dict.fromkeys(name for name, kind in rows if kind == "commit"))

    def update_ref(self, name: str, new: str, old: str) -> bool:
        """Move a ref if it still points to `old` (empty: if it is not there yet); false when somebody was faster."""
        try:
            self.git(["update-ref", "--no-deref", "-m", "safeai-git", name, new, old or "0" * len(new)])
        except GitFailed as error:
            if "cannot lock ref" in error.stderr and self.ref(name) != old:
                return False
            if "cannot lock ref" in error.stderr and "File exists" in error.stderr:
                return False
            raise
        return True

    def identity(self, who: str) -> tuple[str, str] | None:
        """The name and address that git would record now for ``AUTHOR`` or ``COMMITTER``; ``None`` if it has none.

        Reads the person's and the system's configuration, too; no program of it is run.
        """
        passed = {
            name: value
            for name, value in self.environ.items()
            if name == "EMAIL" or name.startswith(("GIT_AUTHOR_", "GIT_COMMITTER_"))
        }
        try:
            printed = self._ask_as_the_person(["var", f"GIT_{who}_IDENT"], passed)
        except GitFailed:
            return None
        found = _IDENT.fullmatch(printed.decode("utf-8", "replace").strip())
        return (found["name"], found["email"]) if found else None

    def config(self, key: str) -> str:
        """One value of the configuration; empty when it is not set.

        As git reads it: the system's file, the person's (``$XDG_CONFIG_HOME/git/config`` and ``~/.gitconfig``), the
        repository's, the working tree's; the last one that says something counts.

        Raises:
            RepositoryError: One of the files cannot be read: what it says might forbid something.
        """
        return self._configured(key) or ""

    def config_from_outside(self, key: str) -> str:
        """The same, where what the person's or the system's files say comes before the repository's own.

        For what must not depend on the clone: whoever writes the repository's configuration cannot point elsewhere.

        Raises:
            RepositoryError: See `config`.
        """
        found = self._outside(key)
        return self.config(key) if found is None else found

    def config_outside(self, key: str) -> str:
        """What the person's or the system's files say, and nothing else; empty when they say nothing.

        For what no clone may decide, such as where a token is sent.

        Raises:
            RepositoryError: See `config`.
        """
        return self._outside(key) or ""

    def _outside(self, key: str) -> str | None:
        without_home = not (self.environ.get("HOME") or self.environ.get("GIT_CONFIG_GLOBAL"))
        for scope in ("--system",) if without_home else ("--global", "--system"):
            if (found := self._configured(key, scope)) is not None:
                return found
        return None

    def _configured(self, key: str, *scope: str) -> str | None:
        if self.brief and key.startswith("safeai.") and not self._has_settings():
            return None
        try:
            found = self._ask_as_the_person(["config", *scope, "--get", key])
        except GitFailed as error:
            if error.status == 1:  # git-config(1): it is not set
                return None
            raise RepositoryError(
                f"the configuration of git cannot be read: {error.stderr.strip()}",
                hint="'git config --list --show-origin' names the file",
            ) from error
        return found.decode("utf-8", "replace").strip()

    def _has_settings(self) -> bool:
        """Whether any file of the configuration says anything of ours: mostly none does, and that is one question."""
        if self._settings is None:
            try:
                self._settings = bool(self._ask_as_the_person(SETTINGS))
            except GitFailed as error:
                self._settings = error.status != 1  # what else is wrong shows when a key is asked for
        return self._settings

    def _ask_as_the_person(
        self, arguments: list[str | bytes], extra: Mapping[str, str] | None = None
    ) -> bytes:
        return run(arguments, cwd=self.root, environ=self.environ, extra=extra, personal=True)[0]


def discover(start: Path, environ: Mapping[str, str], *, brief: bool = False) -> Repository:
    """Open the repository that `start` is in, or that ``GIT_DIR`` names (as git's hooks do).

    Args:
        start: A folder.
        environ: The environment.
        brief: See `Repository.brief`.

    Raises:
        RepositoryError: There is none, or its parts contradict each other.
    """
    lines = answers(start, environ)
    git_directory, common, objects, index = (Path(line) for line in lines[:4])
    bare, shallow, object_format = lines[4] == "true", lines[5] == "true", lines[6]
    work_tree = Path(lines[7]) if len(lines) > 7 else None
    if not bare and work_tree is None:
        try:
            printed, _ = run(["rev-parse", "--show-toplevel"], cwd=start, environ=environ)
        except GitFailed as error:
            raise RepositoryError(
                f"{start} is inside git's own folder", hint="change into the working tree"
            ) from error
        work_tree = Path(os.fsdecode(printed.removesuffix(b"\n")))
    places = {"GIT_DIR": git_directory}
    if work_tree is not None:
        places["GIT_WORK_TREE"] = work_tree
    known = {"GIT_COMMON_DIR": common, "GIT_OBJECT_DIRECTORY": objects, "GIT_INDEX_FILE": index}
    places |= {name: place for name, place in known.items() if name in environ}
    settled = {**environ, **{name: os.fspath(place) for name, place in places.items()}}
    borrowed = [start / folder for folder in environ.get(_ALTERNATES, "").split(os.pathsep) if folder]
    if borrowed:
        settled[_ALTERNATES] = os.pathsep.join(map(os.fspath, borrowed))
    repository = Repository(git_directory, common, work_tree, objects, object_format, shallow, index, settled)
    repository.brief = brief
    if brief and len(lines) > 8:
        repository._seen_head = lines[8], lines[9]  # noqa: SLF001 - it is being made
    _both_directions_agree(repository)
    return repository


def _both_directions_agree(repository: Repository) -> None:
    """A linked working tree must be known to the repository that it points to (gitrepository-layout(5))."""
    if repository.git_directory == repository.common_directory or repository.work_tree is None:
        return
    back = repository.git_directory / "gitdir"
    try:
        named = Path(back.read_text(encoding="utf-8", errors="surrogateescape").strip())
    except OSError as error:
        raise RepositoryError(
            f"the working tree's folder {repository.git_directory} has no 'gitdir': {error}"
        ) from error
    if not named.is_absolute():
        named = repository.git_directory / named
    if named.resolve() != (repository.work_tree / ".git").resolve():
        raise RepositoryError(
            f"{repository.work_tree}/.git points to {repository.git_directory}, which belongs to {named.parent}",
            hint="run 'git worktree repair' if the folder was moved",
        )
