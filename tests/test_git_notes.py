"""Verdicts in git notes: nothing is lost and nothing is half written, whoever writes at the same time or is killed."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Repo

from safeai_git.core.errors import StorageError
from safeai_git.git.notes import Notes
from safeai_git.git.notes_tree import LARGEST_NOTE
from safeai_git.git.repository import NOTES_REF, Repository, discover

ADDER = """
import os, sys
from pathlib import Path
from safeai_git.git.notes import Notes
from safeai_git.git.repository import discover
who, batches, *names = sys.argv[1:]
notes = Notes(discover(Path.cwd(), os.environ))
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(batches)):
    notes.add_all({name: [f"{who} {number} {name}".encode()] for name in names})
    print(number, flush=True)
"""
"""Adds a line to the note of every object named, once for each batch, and says so after each."""


def opened(repo: Repo) -> Repository:
    return discover(repo.path, repo.environment)


def names(count: int) -> list[str]:
    """Names of objects, which need not exist: a note is found by name alone."""
    source = random.Random(7)
    return [source.randbytes(20).hex() for _ in range(count)]


def all_lines(repo: Repo, ref: str = NOTES_REF) -> dict[str, set[bytes]]:
    """Every note as git itself reads it."""
    found: dict[str, set[bytes]] = {}
    for row in repo.git("notes", "--ref", ref, "list").splitlines():
        blob, name = row.split(" ")
        assert name not in found
        found[name] = set(repo.git_bytes("cat-file", "blob", blob).split(b"\n")) - {b""}
    return found


def start(repo: Repo, who: str, batches: int, about: list[str]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", ADDER, who, str(batches), *about],
        cwd=repo.path,
        env=repo.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def go(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.close()


def end(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    process.stdout.read()
    process.stdout.close()
    return process.wait()


# One writer


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_many_notes_are_one_update(make_repo: Callable[..., Repo], object_format: str) -> None:
    repo = make_repo(object_format, f"--object-format={object_format}")
    width = {"sha1": 20, "sha256": 32}[object_format]
    about = [random.Random(number).randbytes(width).hex() for number in range(40)]
    wanted = {name: {b"one " + name.encode(), b"two"} for name in about}
    with closing(opened(repo)) as repository:
        Notes(repository).add_all(wanted)
        assert all_lines(repo) == wanted
        tip = repo.git("rev-parse", NOTES_REF)
        Notes(repository).add_all(wanted)
        assert repo.git("rev-parse", NOTES_REF) == tip, "what is there already moves nothing"
        Notes(repository).add_all({})
        Notes(repository).add_all({about[0]: [b"three"], "ab" * width: [b"four"]})
        assert repo.git("rev-list", "--count", NOTES_REF) == "2"
        assert sorted(Notes(repository).lines(about[0])) == sorted([*wanted[about[0]], b"three"])
    assert all_lines(repo) == {
        **wanted,
        about[0]: wanted[about[0]] | {b"three"},
        "ab" * width: {b"four"},
    }
    repo.git("fsck", "--strict", "--no-dangling")


def tree_of(repo: Repo, files: Mapping[str, bytes]) -> str:
    rows = "".join(f"100644 {repo.blob(content)}\t{path}\0" for path, content in files.items())
    env = {"GIT_INDEX_FILE": str(repo.path.parent / "notes-index")}
    repo.git("read-tree", "--empty", env=env)
    repo.git("update-index", "-z", "--index-info", stdin=rows.encode(), env=env)
    return repo.git("write-tree", env=env)


@pytest.mark.parametrize("cuts", [(), (2,), (2, 4), (2, 4, 6)])
def test_a_note_is_found_and_kept_in_every_layout_that_git_writes(repo: Repo, cuts: tuple[int, ...]) -> None:
    one, two, *others = names(30)
    two = one[:-1] + ("0" if one[-1] != "0" else "1")  # in the same folder, however deep

    def place(name: str) -> str:
        edges = [0, *cuts, len(name)]
        return "/".join(name[start:end] for start, end in itertools.pairwise(edges))

    there = {name: {b"old " + name.encode()} for name in (one, two, *others)}
    root = tree_of(repo, {place(name): b"\n".join(lines) for name, lines in there.items()})
    repo.git("update-ref", NOTES_REF, repo.commit_tree(root, ai=False))
    assert all_lines(repo) == there
    with closing(opened(repo)) as repository:
        Notes(repository).add_all({one: [b"new"], "f" * 40: [b"first"]})
        assert sorted(Notes(repository).lines(one)) == sorted([b"new", *there[one]])
    assert all_lines(repo) == {**there, one: {*there[one], b"new"}, "f" * 40: {b"first"}}
    repo.git("fsck", "--strict", "--no-dangling")


def test_a_note_that_stands_at_two_places_becomes_one_with_the_lines_of_both(repo: Repo) -> None:
    (name,) = names(1)
    files = {
        name: b"flat\n",
        f"{name[:2]}/{name[2:]}": b"folder\n",
        f"{name[:2]}/{name[2:4]}/{name[4:]}": b"deep\n",
    }
    files["readme.txt"] = b"not a note\n"
    repo.git("update-ref", NOTES_REF, repo.commit_tree(tree_of(repo, files), ai=False))
    with closing(opened(repo)) as repository:
        Notes(repository).add(name, [b"new"])
    listed = repo.git("ls-tree", "-r", "--name-only", NOTES_REF).splitlines()
    assert listed == [f"{name[:2]}/{name[2:]}", "readme.txt"]
    assert all_lines(repo) == {name: {b"flat", b"folder", b"deep", b"new"}}


def test_notes_that_git_spread_over_folders_are_added_to(repo: Repo) -> None:
    """Git itself spreads notes when there are many."""
    about = names(400)
    repo.commit("start", {"a": "a"})
    blobs = repo.blob(b"old\n")
    trees = "".join(f"100644 blob {blobs}\t{name}\n" for name in sorted(about))
    repo.git(
        "update-ref",
        NOTES_REF,
        repo.commit_tree(repo.git("mktree", "--missing", stdin=trees.encode()), ai=False),
    )
    repo.git("notes", "--ref", NOTES_REF, "add", "-m", "by git", "HEAD")
    assert "/" in repo.git("ls-tree", "-r", "--name-only", NOTES_REF).splitlines()[0]
    with closing(opened(repo)) as repository:
        Notes(repository).add_all({name: [b"new"] for name in about[:100]})
    found = all_lines(repo)
    assert len(found) == 401
    assert {name for name, lines in found.items() if lines == {b"old", b"new"}} == set(about[:100])


def test_a_note_too_large_to_be_read_back_is_not_overwritten(repo: Repo) -> None:
    one, two = names(2)
    content = b"x" * (LARGEST_NOTE + 1)
    repo.git("update-ref", NOTES_REF, repo.commit_tree(tree_of(repo, {one: content}), ai=False))
    tip = repo.git("rev-parse", NOTES_REF)
    with closing(opened(repo)) as repository:
        with pytest.raises(StorageError, match=f"the note on {one[:12]} would hold more than") as caught:
            Notes(repository).add_all({two: [b"small"], one: [b"new"]})
        assert "git notes" in caught.value.hint
        assert repo.git("rev-parse", NOTES_REF) == tip, "all or none"
        with pytest.raises(StorageError, match="would hold more than"):
            Notes(repository).add(two, [b"y" * LARGEST_NOTE])
        Notes(repository).add(two, [b"small"])
    assert repo.git_bytes("cat-file", "blob", f"{NOTES_REF}:{one}") == content


def test_a_lock_that_a_killed_git_left_behind_is_named(repo: Repo) -> None:
    lock = repo.path / ".git" / f"{NOTES_REF}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    with closing(opened(repo)) as repository:
        with pytest.raises(StorageError, match="does not go away") as caught:
            Notes(repository).add("ab" * 20, [b"line"])
        assert str(lock) in caught.value.message
        assert "delete it" in caught.value.hint
        lock.unlink()
        Notes(repository).add("ab" * 20, [b"line"])
    assert all_lines(repo) == {"ab" * 20: {b"line"}}


# Many writers


def test_processes_that_add_to_the_same_notes_lose_nothing(repo: Repo) -> None:
    about = names(3)
    writers = [start(repo, f"w{number}", 6, about) for number in range(6)]
    for writer in writers:
        go(writer)
    for writer in writers:
        assert end(writer) == 0
    wanted = {
        name: {f"w{who} {number} {name}".encode() for who in range(6) for number in range(6)}
        for name in about
    }
    assert all_lines(repo) == wanted
    assert repo.git("rev-list", "--count", NOTES_REF) == "36"
    repo.git("fsck", "--strict", "--no-dangling")


def test_commands_that_sign_at_once_keep_every_verdict(governed: Repo) -> None:
    heads = []
    for number in range(4):
        heads.append(governed.commit(f"change {number}", {f"src/n{number}.py": "n = 1\n"}, ai=True))
    running = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "safeai_git",
                "check",
                "--range",
                f"{head}~1..{head}",
                "--sign",
                "--no-replay",
            ],
            cwd=governed.path,
            env=governed.environment,
            stdout=subprocess.DEVNULL,
        )
        for head in heads
    ]
    assert [one.wait() for one in running] == [0] * 4
    done = governed.safeai("verify", "HEAD~4..HEAD")
    assert done.code == 0, done.both
    assert len(all_lines(governed)) == 8, "on each commit and each tree"


def test_a_push_and_a_range_keep_all_their_verdicts_in_one_update(governed: Repo) -> None:
    base = governed.git("rev-parse", "HEAD")
    for number in range(3):
        head = governed.commit(f"change {number}", {f"src/n{number}.py": "n = 1\n"}, ai=True)
    governed.git("update-ref", "refs/remotes/origin/main", base)
    governed.git("config", "safeai.pushNotes", "false")
    line = f"refs/heads/main {head} refs/heads/main {base}\n"
    for arguments, told in (
        (["hook", "run", "pre-push", "origin", "nowhere"], line),
        (["check", "--range", f"{base}..{head}", "--sign", "--no-replay"], ""),
    ):
        done = governed.safeai(*arguments, stdin=told)
        assert done.code == 0, done.both
        assert governed.git("rev-list", "--count", NOTES_REF) == "1"
        assert len(all_lines(governed)) == 6
        governed.git("update-ref", "-d", NOTES_REF)


def test_notes_of_two_clones_merged_by_git_lose_nothing(repo: Repo, tmp_path: Path) -> None:
    shared, ours, theirs = names(3)
    with closing(opened(repo)) as repository:
        Notes(repository).add(shared, [b"before"])
    other = Repo(tmp_path / "other", repo.environment)
    repo.git("clone", "-q", str(repo.path), str(other.path))
    other.git("fetch", "-q", "origin", f"{NOTES_REF}:{NOTES_REF}")
    for one, own, word in ((repo, ours, b"ours"), (other, theirs, b"theirs")):
        with closing(opened(one)) as repository:
            Notes(repository).add_all({shared: [word, b"both"], own: [word]})
    repo.git("fetch", "-q", str(other.path), f"+{NOTES_REF}:refs/notes/theirs")
    tip = repo.git("rev-parse", NOTES_REF)
    wanted = {shared: {b"before", b"ours", b"theirs", b"both"}, ours: {b"ours"}, theirs: {b"theirs"}}
    repo.git("notes", "--ref", NOTES_REF, "merge", "-q", "-s", "cat_sort_uniq", "refs/notes/theirs")
    assert all_lines(repo) == wanted
    repo.git("update-ref", NOTES_REF, tip)
    with closing(opened(repo)) as repository:
        Notes(repository).join(repo.git("rev-parse", "refs/notes/theirs"))
    assert all_lines(repo) == wanted, "our own join gives the same"
    parents = repo.git("rev-parse", f"{NOTES_REF}^1", f"{NOTES_REF}^2").split()
    assert parents == [tip, repo.git("rev-parse", "refs/notes/theirs")]


def test_joining_goes_forward_where_it_can(repo: Repo) -> None:
    one, two = names(2)
    with closing(opened(repo)) as repository:
        notes = Notes(repository)
        notes.add(one, [b"one"])
        first = repo.git("rev-parse", NOTES_REF)
        notes.add(two, [b"two"])
        second = repo.git("rev-parse", NOTES_REF)
        notes.join(first)
        assert repo.git("rev-parse", NOTES_REF) == second, "it is in ours already"
        repo.git("update-ref", NOTES_REF, first)
        Notes(repository).join(second)
        assert repo.git("rev-parse", NOTES_REF) == second, "it only adds to ours"
        repo.git("update-ref", "-d", NOTES_REF)
        Notes(repository).join(second)
        assert repo.git("rev-parse", NOTES_REF) == second, "there were none of ours"


def test_B87_a_history_that_lost_lines_takes_none_from_ours(repo: Repo) -> None:
    """A remote's notes descend from ours and miss a line: going forward to them would lose it here, too."""
    one, two = names(2)
    with closing(opened(repo)) as repository:
        Notes(repository).add_all({one: [b"one"], two: [b"two"]})
        ours = repo.git("rev-parse", NOTES_REF)
        emptied = repo.commit_tree(tree_of(repo, {two: b"two\nmore\n"}), ours, ai=False)
        Notes(repository).join(emptied)
    assert all_lines(repo) == {one: {b"one"}, two: {b"two", b"more"}}
    repo.git("merge-base", "--is-ancestor", emptied, NOTES_REF)


def test_joining_while_others_add_loses_nothing(repo: Repo) -> None:
    """Git's own ``notes merge`` moves the ref to its result, whatever others have put there meanwhile."""
    about, theirs = names(2), names(14)[2:]
    with closing(opened(repo)) as repository:
        tips = []
        for number, name in enumerate(theirs):
            elsewhere = Notes(repository, f"refs/notes/elsewhere{number}")
            elsewhere.add(name, [b"from elsewhere"])
            tips.append(repo.git("rev-parse", f"refs/notes/elsewhere{number}"))
        writers = [start(repo, f"w{number}", 12, about) for number in range(2)]
        for writer in writers:
            go(writer)
        for tip in tips:
            Notes(repository).join(tip)
    for writer in writers:
        assert end(writer) == 0
    found = all_lines(repo)
    for name in about:
        assert found[name] == {f"w{who} {number} {name}".encode() for who in range(2) for number in range(12)}
    assert all(found[name] == {b"from elsewhere"} for name in theirs)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_a_writer_that_is_killed_leaves_whole_notes(repo: Repo) -> None:
    """What it said to be kept is kept; a batch that it was at is there as a whole or not at all."""
    about = names(4)
    source = random.Random(20)
    wanted: set[tuple[int, int]] = set()
    for number in range(10):
        writer = start(repo, f"w{number}", 1_000, about)
        go(writer)
        assert writer.stdout is not None
        kept = [writer.stdout.readline() for _ in range(source.randrange(1, 6))]
        os.killpg(writer.pid, signal.SIGKILL)
        kept += writer.stdout.readlines()
        assert end(writer) == -signal.SIGKILL
        wanted |= {(number, int(line)) for line in kept if line.endswith(b"\n")}
        (repo.path / ".git" / f"{NOTES_REF}.lock").unlink(missing_ok=True)  # as the message about it says
        repo.git("fsck", "--strict", "--no-dangling", NOTES_REF)
    found = all_lines(repo)
    assert set(found) == set(about)
    seen = {
        tuple(int(word) for word in line.removeprefix(b"w").split(b" ")[:2])
        for lines in found.values()
        for line in lines
    }
    assert seen >= wanted
    for name, lines in found.items():
        assert lines == {f"w{who} {batch} {name}".encode() for who, batch in seen}
    with closing(opened(repo)) as repository:
        Notes(repository).add(about[0], [b"after all"])
        assert b"after all" in Notes(repository).lines(about[0])
