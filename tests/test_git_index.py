"""Whatever the index looks like: the tree that is judged before a commit is the tree that git commits."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import POLICY
from tools_git import AGENT, Watched, copy_of, make_watched


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, base_environment: dict[str, str]) -> Watched:
    return make_watched(tmp_path_factory.mktemp("template") / "repo", base_environment)


@pytest.fixture
def repo(template: Watched, tmp_path: Path, environment: dict[str, str]) -> Watched:
    return copy_of(template, tmp_path / "repo", environment)


def index(repo: Watched) -> bytes:
    return (repo.path / ".git/index").read_bytes()


def stage(repo: Watched, path: str = "src/a.py", content: str = "a = 2\n") -> None:
    repo.write(path, content)
    repo.git("add", "--sparse", "--", path)


def plain(repo: Watched) -> None:
    """The control: an index as git writes it by default."""
    stage(repo)


def split(repo: Watched) -> None:
    repo.git("config", "core.splitIndex", "true")
    repo.git("config", "splitIndex.maxPercentChange", "100")
    repo.git("update-index", "--split-index")
    stage(repo)
    assert list((repo.path / ".git").glob("sharedindex.*"))
    assert b"link" in index(repo)


def sparse(repo: Watched) -> None:
    repo.git("sparse-checkout", "init", "--cone", "--sparse-index")
    repo.git("sparse-checkout", "set", "src")
    stage(repo)
    assert b"sdir" in index(repo)
    assert not (repo.path / "docs").exists()


def sparse_with_a_change_outside(repo: Watched) -> None:
    sparse(repo)
    stage(repo, "tests/new.py")


def sparse_without_cone(repo: Watched) -> None:
    repo.git("sparse-checkout", "set", "--no-cone", "/src/a*")
    stage(repo)
    assert not (repo.path / "src/n1.py").exists()


def version_4(repo: Watched) -> None:
    repo.git("update-index", "--index-version", "4")
    stage(repo)
    assert struct.unpack(">4sL", index(repo)[:8]) == (b"DIRC", 4)


def fsmonitor(repo: Watched) -> None:
    monitor = repo.path.parent / "monitor"
    monitor.write_text("#!/bin/sh\nprintf 'token\\0/\\0'\n")
    monitor.chmod(0o755)
    repo.git("config", "core.fsmonitor", str(monitor))
    repo.git("update-index", "--fsmonitor")
    stage(repo)
    assert b"FSMN" in index(repo)


def fsmonitor_that_hides_a_change(repo: Watched) -> None:
    """The index says that a file is unchanged, and the monitor agrees; ``git add`` believes them."""
    fsmonitor(repo)
    (repo.path.parent / "monitor").write_text("#!/bin/sh\nprintf 'token\\0'\n")
    repo.write("src/n1.py", "hidden\n")


def untracked_cache(repo: Watched) -> None:
    repo.git("update-index", "--force-untracked-cache")
    repo.write("untracked.txt", "u\n")
    repo.git("status")
    stage(repo)
    assert b"UNTR" in index(repo)


def several_extensions(repo: Watched) -> None:
    repo.git("update-index", "--index-version", "4")
    untracked_cache(repo)
    fsmonitor(repo)
    assert b"UNTR" in index(repo)


def intent_to_add(repo: Watched) -> None:
    repo.write("src/later.py", "later\n")
    repo.git("add", "-N", "src/later.py")
    stage(repo)
    assert repo.git("ls-files", "src/later.py") == "src/later.py"


def intent_to_add_in_place_of_a_folder(repo: Watched) -> None:
    repo.git("rm", "-q", "-r", "--cached", "tests")
    os.rename(repo.path / "tests", repo.path / "was-tests")
    repo.write("tests", "a file\n")
    repo.git("add", "-N", "tests")


def bits_that_overlook_changes(repo: Watched) -> None:
    for flag, path in (("--assume-unchanged", "src/n1.py"), ("--skip-worktree", "src/n2.py")):
        repo.git("update-index", flag, path)
        repo.write(path, "overlooked\n")
    stage(repo)


def line_ends(repo: Watched) -> None:
    repo.git("config", "core.autocrlf", "true")
    repo.git("config", "core.safecrlf", "false")
    stage(repo, "src/crlf.py", "a = 1\r\nb = 2\r\n")
    assert repo.git_bytes("cat-file", "blob", ":src/crlf.py") == b"a = 1\nb = 2\n"


def attributes_that_convert(repo: Watched) -> None:
    repo.git("config", "filter.upper.clean", "tr a-z A-Z")
    lines = "*.eol text eol=crlf\n*.u16 text working-tree-encoding=UTF-16LE\n*.up filter=upper\n*.id ident\n"
    repo.write(".git/info/attributes", lines)
    repo.write("src/x.u16", "text\n".encode("utf-16-le"))
    repo.write("src/x.eol", "one\r\n")
    repo.write("src/x.up", "loud\n")
    repo.write("src/x.id", "$Id: 0123 $\n")
    repo.git("add", "src")
    shown = [repo.git_bytes("cat-file", "blob", f":src/x.{end}") for end in ("u16", "eol", "up", "id")]
    assert shown == [b"text\n", b"one\n", b"LOUD\n", b"$Id$\n"]


def entries_changed_in_the_same_second(repo: Watched) -> None:
    """Git smudges such entries when it writes the index, and looks at their files through the filters then."""
    repo.git("config", "filter.upper.clean", "tr a-z A-Z")
    repo.write(".git/info/attributes", "*.py filter=upper\n")
    stage(repo, "src/a.py", "a = 3\n")
    there = (repo.path / ".git/index").stat().st_mtime_ns
    repo.write("src/a.py", "b = 3\n")
    for name in ("src/a.py", ".git/index"):
        os.utime(repo.path / name, ns=(there, there))


def deletions_and_modes(repo: Watched) -> None:
    repo.git("rm", "-q", "src/n1.py")
    repo.git("update-index", "--chmod=+x", "src/n2.py")
    repo.git("update-index", "--add", "--cacheinfo", f"120000,{repo.blob(b'a.py')},src/link")


def whole_folders_go(repo: Watched) -> None:
    repo.git("rm", "-q", "-r", "--cached", "src", "tests")


KINDS: list[Callable[[Watched], None]] = [
    split, sparse, fsmonitor_that_hides_a_change, several_extensions, intent_to_add,
]  # fmt: skip
"""Indexes of another form; the hook has to see what is denied in them."""

STATES: list[Callable[[Watched], None]] = [
    plain, sparse_with_a_change_outside, sparse_without_cone, version_4, untracked_cache, fsmonitor, intent_to_add_in_place_of_a_folder,
    bits_that_overlook_changes, line_ends, attributes_that_convert, entries_changed_in_the_same_second,
    deletions_and_modes, whole_folders_go,
]  # fmt: skip


@pytest.mark.parametrize("state", [*KINDS, *STATES])
def test_the_tree_that_is_judged_is_committed(repo: Watched, state: Callable[[Watched], None]) -> None:
    state(repo)
    repo.commits()
    if state in KINDS:
        repo.refuses()


def test_the_index_itself_is_left_as_it_is(repo: Watched) -> None:
    """Judging writes no index: what git keeps there about files and times is git's."""
    several_extensions(repo)
    before = index(repo)
    repo.judged()
    assert index(repo) == before


# Commits of something else than the index


def test_B18_only_some_paths(repo: Watched) -> None:
    stage(repo, "src/n1.py", "staged\n")
    repo.write("src/a.py", "only\n")
    repo.commits("--only", "src/a.py", plain=False)
    assert repo.git("diff", "--cached", "--name-only") == "src/n1.py"
    repo.write("src/n2.py", "included\n")
    repo.commits("--include", "src/n2.py", plain=False)
    assert repo.git("show", "--name-only", "--format=").splitlines() == ["src/n1.py", "src/n2.py"]
    repo.write("src/n3.py", "by its path\n")
    repo.commits("n3.py", plain=False, cwd=repo.path / "src")


def test_B18_everything_that_is_known(repo: Watched) -> None:
    repo.write("src/a.py", "all\n")
    os.remove(repo.path / "src/n1.py")
    repo.write("src/unknown.py", "stays out\n")
    repo.commits("--all", plain=False)
    assert repo.git("show", "--name-only", "--format=").splitlines() == ["src/a.py", "src/n1.py"]


def test_B18_an_index_of_ones_own(repo: Watched) -> None:
    other = repo.path.parent / "other-index"
    own = {"GIT_INDEX_FILE": str(other)}
    repo.git("read-tree", "HEAD", env=own)
    stage(repo, "src/n1.py", "in the usual index\n")
    repo.git("update-index", "--add", "--cacheinfo", f"100644,{repo.blob(b'own')},src/own.py", env=own)
    repo.commits(env=own)
    assert repo.git("show", "--name-only", "--format=") == "src/own.py"
    relative = {"GIT_INDEX_FILE": "../other-index"}
    repo.git("update-index", "--add", "--cacheinfo", f"100644,{repo.blob(b'two')},src/two.py", env=own)
    repo.commits(env=relative, cwd=repo.path / "src")
    repo.refuses(env=own)
    assert repo.judged() != repo.judged(own)


def test_an_amended_commit(repo: Watched) -> None:
    stage(repo)
    repo.commits()
    stage(repo, "src/a.py", "a = 3\n")
    repo.commits("--amend")
    repo.refuses("--amend")


def test_a_first_commit(tmp_path: Path, environment: dict[str, str]) -> None:
    path = tmp_path / "new"
    path.mkdir()
    repo = Watched(path, environment)
    repo.git("init", "-q")
    repo.watch()
    repo.write("src/a.py", "a\n")
    assert repo.git("write-tree") == repo.judged(), "an index that was never written is an empty tree"
    repo.git("add", "-A")
    repo.commits()
    repo.git("checkout", "-q", "--orphan", "fresh")
    repo.write("src/b.py", "b\n")
    repo.git("add", "-A")
    repo.commits()
    assert repo.git("rev-list", "--count", "HEAD") == "1"


def test_a_folder_below_and_a_path_with_spaces(tmp_path: Path, environment: dict[str, str]) -> None:
    repo = make_watched(tmp_path / "a 'folder' with\nall kinds", environment)
    stage(repo)
    repo.commits(cwd=repo.path / "docs/deep")
    repo.refuses(cwd=repo.path / "docs/deep")


# Indexes of which no commit can be made


def test_no_tree_no_decision(repo: Watched) -> None:
    """What git itself cannot commit is refused with the reason, by the command and by the hook."""
    blob = repo.git("rev-parse", "HEAD:src/a.py")
    stage(repo)
    whole = index(repo)

    def told(env: dict[str, str] | None = None) -> str:
        assert repo.run("commit", "-q", "-m", "x", env=env).code != 0
        hook = repo.safeai("hook", "run", "pre-commit", env={**AGENT, **(env or {})})
        assert (hook.code, "hint: " in hook.err) == (3, True), hook.both
        return hook.err

    repo.git("update-index", "--index-info", stdin=f"100644 {blob} 2\tsrc/a.py\n".encode())
    assert "the index holds unmerged paths" in told()
    (repo.path / ".git/index").write_bytes(whole[:200])
    assert "the index" in (said := told())
    assert "is damaged" in said
    (repo.path / ".git/index").write_bytes(whole)
    split(repo)
    for shared in (repo.path / ".git").glob("sharedindex.*"):
        shared.unlink()
    assert "cannot be written as a tree" in told()
    (repo.path / ".git/index").write_bytes(whole)
    assert "cannot be" in told({"GIT_INDEX_FILE": str(repo.path / "src")})


def test_an_index_without_a_checksum(repo: Watched) -> None:
    """Newer git leaves it out where ``index.skipHash`` says so."""
    stage(repo)
    (repo.path / ".git/index").write_bytes(index(repo)[:-20] + bytes(20))
    repo.commits()


def test_an_index_of_an_unknown_kind(repo: Watched) -> None:
    """A mandatory extension that git does not know: its name begins with a small letter (git, index-format)."""
    whole = index(repo)
    odd = whole[:-20] + b"next" + struct.pack(">L", 0)
    (repo.path / ".git/index").write_bytes(odd + hashlib.sha1(odd, usedforsecurity=False).digest())
    done = repo.safeai("check", "--agent", "claude-code", "--no-sign")
    assert done.code == 3
    assert "cannot be written as a tree" in done.err


# Many files


def test_sixty_thousand_files(tmp_path: Path, environment: dict[str, str]) -> None:
    path = tmp_path / "large"
    path.mkdir()
    repo = Watched(path, environment)
    repo.git("init", "-q")
    stream = [b"feature done\nblob\nmark :1\ndata 2\nx\n\ncommit refs/heads/main\n"]
    stream.append(b"committer A Person <a@example.com> 1767323045 +0000\ndata 5\nstart\n")
    stream.append(b"M 100644 inline .safeai/policy.yaml\ndata %d\n%b\n" % (len(POLICY), POLICY.encode()))
    stream += [b"M 100644 :1 src/d%03d/file%05d.py\n" % (number % 300, number) for number in range(60_000)]
    repo.git("fast-import", "--quiet", stdin=b"".join([*stream, b"\ndone\n"]))
    repo.git("sparse-checkout", "init", "--cone", "--sparse-index")
    repo.git("sparse-checkout", "set", "src/d000")
    repo.git("reset", "-q", "--hard")
    repo.watch()
    stage(repo, "src/d000/new.py", "new\n")
    repo.commits()
    repo.git("sparse-checkout", "init", "--cone", "--no-sparse-index")
    rows = b"".join(
        b"100755 %b\tsrc/d%03d/file%05d.py\0"
        % (repo.git("rev-parse", "HEAD:src/d001/file00001.py").encode(), n, n)
        for n in range(0, 300, 3)
    )
    repo.git("update-index", "-z", "--index-info", stdin=rows)
    assert len(repo.git("ls-files").splitlines()) == 60_002
    repo.commits()
    assert len(repo.git("show", "--name-only", "--format=").splitlines()) == 100
    repo.refuses()
