"""Our reading of a change is git's: on a repository of everything that is hard to read, and on generated trees."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from conftest import Repo
from differential import compare
from hypothesis import given, settings
from hypothesis import strategies as st

HARD_NAMES = [
    b"plain.txt",
    b"with space.txt",
    b"tab\there",
    b"new\nline",
    b"carriage\rreturn",
    b'quo"te',
    b"back\\slash",
    b"-leading-dash",
    b"esc\x1b[31m",
    b"caf\xc3\xa9",
    b"cafe\xcc\x81-nfd",
    b"latin1-\xe9",
    b"zero\xe2\x80\x8bwidth",
    b"deep/er/and/deep/er/still/file",
    b"a/b",
    b"a.b",
    b"a-b",
    b":(glob)*",
    b"*.star",
]


def commits(repo: Repo) -> list[str]:
    return repo.git("rev-list", "--all").split()


def test_everything_that_is_hard_to_read_is_read_as_git_reads_it(repo: Repo) -> None:
    for name in HARD_NAMES:
        repo.write(name, b"one\ntwo\nthree\n")
    repo.write("binary.bin", b"\0\1\2" * 100)
    repo.write("crlf.txt", b"a\r\nb\r\n")
    repo.write("noend.txt", b"a\nb")
    repo.write(
        "lfs.bin", b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
    )
    os.symlink("plain.txt", repo.path / "link")
    repo.commit("all kinds")
    for name in HARD_NAMES[::2]:
        repo.write(name, b"zero\none\nthree\nfour")
    os.remove(repo.path / "link")
    repo.write("link", b"now a file\n")  # a type change
    os.chmod(repo.path / "crlf.txt", 0o755)
    repo.write("crlf.txt", b"a\nb\r\n", 0o755)
    repo.write("binary.bin", b"\0\1\2" * 90)
    os.rename(repo.path / "plain.txt", repo.path / "renamed.txt")
    repo.write(
        ".gitattributes", "*.txt binary\n*.bin diff\n* -diff filter=none working-tree-encoding=UTF-8\n"
    )
    repo.commit("everything changes")
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},vendor/lib")
    repo.write(".gitmodules", '[submodule "lib"]\n\tpath = vendor/lib\n\turl = x\n\tignore = all\n')
    repo.git("add", ".gitmodules")
    repo.git("commit", "-qm", "a submodule that wants to be overlooked")
    repo.git("update-index", "--cacheinfo", f"160000,{'2' * 40},vendor/lib")
    repo.git("commit", "-qm", "the submodule moves")
    repo.git("checkout", "-q", "-b", "side", "HEAD~2")
    repo.commit("side", {"side.txt": "side\n"})
    repo.git("checkout", "-q", "main")
    repo.git("merge", "-q", "-m", "merge", "side")
    outcome = compare(repo.path, commits(repo))
    assert outcome.differences == []
    assert (outcome.commits, outcome.unreadable) == (6, 0)
    assert outcome.edits == 44


def test_the_comparison_notices_a_difference(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.commit("one", {"a.txt": "a\n"})
    repo.commit("two", {"a.txt": "b\n"})
    monkeypatch.setattr("differential.raw_rows", lambda *_: set())
    assert len(compare(repo.path, commits(repo)).differences) == 2


_names = st.sampled_from([b"a", b"b", b"a.b", b"a-b", b"a0", b"A", b"\xff", b"x\ny"])
_leaves = st.tuples(
    st.sampled_from(["100644", "100755", "120000", "160000"]),
    st.sampled_from([b"", b"1\n", b"1\n2\n", b"\0", b"3"]),
)
_trees = st.recursive(
    st.dictionaries(_names, _leaves, max_size=4),
    lambda inner: st.dictionaries(_names, st.one_of(_leaves, inner), max_size=4),
    max_leaves=12,
)


def _write(repo: Repo, tree: object) -> str:
    rows = []
    for name, value in tree.items():  # type: ignore[attr-defined]
        if isinstance(value, dict):
            rows.append(b"040000 tree %b\t%b" % (_write(repo, value).encode(), name))
        elif value[0] == "160000":
            rows.append(b"160000 commit %b\t%b" % (b"1" * 40, name))
        else:
            rows.append(b"%b blob %b\t%b" % (value[0].encode(), repo.blob(value[1]).encode(), name))
    return repo.git("mktree", "-z", "--missing", stdin=b"".join(row + b"\0" for row in rows))


def test_generated_trees_are_read_as_git_reads_them(make_repo: Callable[..., Repo]) -> None:
    repo = make_repo("generated")
    made: list[str] = []

    @settings(max_examples=40)
    @given(_trees, _trees)
    def pair(old: object, new: object) -> None:
        first = repo.commit_tree(_write(repo, old))
        made.extend([first, repo.commit_tree(_write(repo, new), first)])

    pair()
    outcome = compare(repo.path, made)
    assert outcome.differences == []
    assert outcome.commits == len(made)


def test_a_merge_beside_a_file_that_is_not_there_is_read(repo: Repo) -> None:
    """A clone may lack a large file that no side changed; git would not need it either."""
    repo.commit("start", {"a.txt": "a\n", "large.bin": b"\0" * 1000})
    blob = repo.git("rev-parse", "HEAD:large.bin")
    repo.git("checkout", "-q", "-b", "side")
    repo.commit("side", {"side.txt": "side\n"})
    repo.git("checkout", "-q", "main")
    repo.commit("main", {"a.txt": "b\n"})
    repo.git("merge", "-q", "-m", "merge", "side")
    (repo.path / ".git/objects" / blob[:2] / blob[2:]).unlink()
    done = repo.safeai("check", "--range", "HEAD~1..HEAD", "--no-sign")
    assert done.code == 0, done.both
