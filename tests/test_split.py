"""A refused change in two patches: git takes both, and together they are the change."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest
from conftest import Repo

from safeai_git.core.edit import Edit
from safeai_git.splitting import _together


def tree_after(repo: Repo, base: str, patches: list[bytes], index: Path) -> str:
    """The tree that ``git apply`` makes of the base's tree and patches."""
    env = {"GIT_INDEX_FILE": str(index)}
    repo.git("read-tree", base, env=env)
    for patch in patches:
        repo.git("apply", "--cached", "--whitespace=nowarn", "-", stdin=patch, env=env)
    return repo.git("write-tree", env=env).strip()


def change(repo: Repo) -> None:
    """Everything that a patch finds hard, on both sides of the line."""
    for folder in ("src", "other"):
        place = repo.path / folder
        place.mkdir(exist_ok=True)
        (place / "binary").write_bytes(bytes(range(256)) * 9)
        (place / "dos.txt").write_bytes(b"one\r\nTWO\r\nthree\r\n")
        (place / "no-end").write_bytes(b"line\nno end")
        (place / "empty").write_bytes(b"")
        (place / "run").chmod(0o755)
        (place / "renamed to").write_bytes((place / "was").read_bytes())
        (place / "was").unlink()
        (place / "link").symlink_to("binary")
        (place / "folder").unlink()
        (place / "folder").mkdir()
        (place / "folder/x").write_text("a folder now\n")
        os.mkdir(os.fsencode(place) + b'/-od\xff "d\\')
        Path(os.fsdecode(os.fsencode(place) + b'/-od\xff "d\\/na\tme\n--- a')).write_text("From x\n-- \n")
    repo.git("add", "-A")


@pytest.fixture
def prepared(governed: Repo) -> Repo:
    for folder in ("src", "other"):
        governed.write(f"{folder}/was", "the same\n" * 20)
        governed.write(f"{folder}/run", "#!/bin/sh\n")
        governed.write(f"{folder}/folder", "a file yet\n")
        governed.write(f"{folder}/dos.txt", "one\r\ntwo\r\nthree\r\n")
    governed.git("-c", "core.autocrlf=false", "add", "-A")
    governed.git("commit", "--no-verify", "-q", "-m", "start")
    return governed


def test_both_patches_together_are_the_change(prepared: Repo, tmp_path: Path) -> None:
    base = prepared.git("rev-parse", "HEAD").strip()
    change(prepared)
    proposed = prepared.git("write-tree").strip()
    done = prepared.safeai("split", "--agent", "codex", "--format", "json")
    assert done.code == 0, done.both
    said = json.loads(done.out)
    patches = [base64.b64decode(said[side]["patch_base64"]) for side in ("allowed", "refused")]
    assert not [path for path in said["allowed"]["paths"] if path.startswith("other/")]
    for name in ("binary", "dos.txt", "no-end", "empty", "renamed to", "was", "link", "folder", "folder/x"):
        assert f"src/{name}" in said["allowed"]["paths"], name
        assert f"other/{name}" in said["refused"]["paths"], name
    assert said["trees"]["proposed"] == proposed
    assert tree_after(prepared, base, patches[:1], tmp_path / "i1") == said["trees"]["allowed"]
    assert tree_after(prepared, base, patches, tmp_path / "i2") == proposed
    # what is allowed is allowed when it comes by itself
    prepared.git("read-tree", said["trees"]["allowed"])
    assert prepared.safeai("check", "--no-sign", "--no-replay", "--agent", "codex").code == 0


def test_git_am_takes_both(prepared: Repo, tmp_path: Path) -> None:
    change(prepared)
    prepared.git("commit", "--no-verify", "-q", "-m", "Änderung [x] \x1b of\n\n--- a\ndiff --git a/x b/x\n")
    proposed = prepared.git("rev-parse", "HEAD^{tree}").strip()
    folder = tmp_path / "out"
    done = prepared.safeai("split", "HEAD", "--agent", "codex", "--output", str(folder))
    assert done.code == 0, done.both
    prepared.git("reset", "-q", "--hard", "HEAD~1")
    env = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.hooksPath", "GIT_CONFIG_VALUE_0": os.devnull}
    for name in ("0001-allowed.patch", "0002-refused.patch"):
        prepared.git("am", "-q", "--keep-cr", str(folder / name), env=env)
    assert prepared.git("rev-parse", "HEAD^{tree}").strip() == proposed
    assert "the part that is refused" in prepared.git("log", "-1", "--format=%s")


def test_of_a_change_that_is_too_large_the_smallest_edits_are_allowed(governed: Repo) -> None:
    for number in range(12):
        governed.write(f"src/f{number}.py", "x = 1\n" * (2_000 + 900 * number))
    governed.git("add", "-A")
    done = governed.safeai("split", "--agent", "codex", "--format", "json")
    assert done.code == 0, done.both
    said = json.loads(done.out)
    assert said["decision"] == "deny"
    assert "src/f0.py" in said["allowed"]["paths"]
    assert "src/f11.py" in said["refused"]["paths"]


def test_what_is_allowed_and_what_is_refused_whole(governed: Repo) -> None:
    governed.write("src/b.py", "b = 1\n")
    governed.git("add", "-A")
    done = governed.safeai("split", "--agent", "codex")
    assert (done.code, "nothing to split" in done.out) == (0, True)
    governed.git("rm", "-q", "--cached", "src/b.py")
    governed.write("other/b.py", "b = 1\n")
    governed.git("add", "other")
    (governed.path / "out").mkdir()
    (governed.path / "out/0001-allowed.patch").write_text("of another day")
    done = governed.safeai("split", "--agent", "codex", "--output", str(governed.path / "out"))
    assert done.code == 1
    assert not (governed.path / "out/0001-allowed.patch").exists()
    assert (governed.path / "out/0002-refused.patch").exists()


def test_a_range_begins_where_it_left_its_base(governed: Repo) -> None:
    governed.git("checkout", "-q", "-b", "feature")
    trailer = "Co-Authored-By: Claude Code <noreply@anthropic.com>"
    for path in ("src/one.py", "other/two.py"):
        governed.write(path, "x = 1\n")
        governed.git("add", "-A")
        governed.git("commit", "--no-verify", "-q", "-m", f"add {path}\n\n{trailer}")
    governed.git("checkout", "-q", "-")
    governed.write("src/meanwhile.py", "y = 1\n")
    governed.git("add", "-A")
    governed.git("commit", "--no-verify", "-q", "-m", "meanwhile")
    done = governed.safeai("split", "HEAD..feature", "--format", "json")
    assert done.code == 0, done.both
    said = json.loads(done.out)
    assert (said["allowed"]["paths"], said["refused"]["paths"]) == (["src/one.py"], ["other/two.py"])
    assert said["trees"]["base"] == governed.git("rev-parse", "HEAD~1^{tree}").strip()
    assert governed.safeai("split", "HEAD..HEAD").code == 2


def test_nothing_is_allowed_while_the_kill_switch_is_engaged(governed: Repo) -> None:
    for number in range(3):
        governed.write(f"src/f{number}.py", "x\n")
    governed.git("add", "-A")
    done = governed.safeai("split", "--agent", "codex", env={"SAFEAI_ENABLE": "off"})
    assert (done.code, "allowed as it stands: 0 edits" in done.out) == (1, True), done.both


def test_a_file_and_what_takes_its_place_stay_together() -> None:
    edits = [Edit(path, "M") for path in (b"a", b"a-b", b"a/b", b"a/b/c", b"ab", b"b/a")]
    assert [[edit.path for edit in part] for part in _together(edits)] == [
        [b"a", b"a/b", b"a/b/c"],
        [b"a-b"],
        [b"ab"],
        [b"b/a"],
    ]
