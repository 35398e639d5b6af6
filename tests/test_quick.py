"""The short way of a hook gives what the long way gives."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import Repo

from safeai_git.commands.quick import QuickSession
from safeai_git.commands.session import Session
from safeai_git.core.errors import PolicyError
from safeai_git.git import plumbing, xdiff
from safeai_git.git.changes import EMPTY_TREE
from safeai_git.git.lines import line_counts
from safeai_git.git.repository import discover
from safeai_git.git.working import FileEdit, MemoryStore, above, with_file, with_side
from safeai_git.policy_memory import memory_folder, read_policy

EDITS = [
    FileEdit(b"src/a.py", b"a = 1\n", b"a = 2\n"),
    FileEdit(b"src/a.py", b"a\nb\nc\nd\n", b"A\nb\nC\nd\n"),
    FileEdit(b"src/new.py", None, b"x" * 70_000),
    FileEdit(b"src/bin", None, b"\0" * 10),
    FileEdit(b"other/x", None, b"x\n"),
    FileEdit(b".github/workflows/x.yml", None, b"x\n"),
    FileEdit(b"src/a.py", b"a = 1\n", None),
    FileEdit("src/a\u200bb\n.py".encode(), None, b"x\n"),
    FileEdit(b"src/A.PY", None, b"x\n"),
]


def test_the_short_way_judges_as_the_long_way(governed: Repo, tmp_path: Path) -> None:
    environ = governed.environment | {"XDG_CACHE_HOME": str(tmp_path)}
    for edit in EDITS:
        short = QuickSession(
            governed.path, environ, _repository=above(discover(governed.path, environ, brief=True))
        )
        whole = Session(governed.path, environ)
        objects = Session(governed.path, environ, _repository=whole.repository)
        verdicts = []
        for session in (short, objects):
            if session is objects:
                session.repository._store = MemoryStore(session.repository.store)
                judged = session.gate(agent="codex", replay=False).edited([edit])
            else:
                judged = session.judge(agent="codex").edited([edit])
            verdicts.append((judged.decision, judged.verdict.findings, judged.verdict.proposal))
            session.close()
        assert verdicts[0] == verdicts[1]
    assert len(list((tmp_path / "safeai-git/policies").iterdir())) == 1


def test_lines_are_counted_as_xdiff_counts_them() -> None:
    pick = random.Random(6)
    quick = 0
    for _ in range(4_000):
        old, new = (
            b"".join(
                pick.choice((b"a\n", b"b\n", b"c\n", b"\r\n", b"\n", b"d")) for _ in range(pick.randrange(7))
            )
            for _ in range(2)
        )
        if old and new:
            assert line_counts(old, new)[:4] == xdiff.counts(old, new), (old, new)
            quick += not set(old.splitlines()) & set(new.splitlines())
    assert quick > 100


@pytest.mark.parametrize(
    "kept", ["", "null", "[]", '{"allow_paths": 7}', '{"allow_paths": [NaN]}', "[" * 9_000]
)
def test_what_is_remembered_wrongly_is_read_anew(tmp_path: Path, kept: str) -> None:
    text = b"allow_paths: [src/]\nmax_edits: 7\n"
    first = read_policy(text, "here", tmp_path)
    (place,) = tmp_path.iterdir()
    assert read_policy(text, "here", tmp_path) == first
    digest = hashlib.sha256(text).hexdigest()
    for written in (kept, f'{{"sha256": "{digest}", "says": {kept or "0"}}}'):
        place.write_text(written)
        assert read_policy(text, "here", tmp_path) == first
        said = {"sha256": digest, "says": {"allow_paths": ["src/"], "max_edits": 7}}
        assert json.loads(place.read_text()) == said
    place.write_text(json.dumps({"sha256": digest, "says": {"allow_paths": ["everything/"]}}))
    assert read_policy(text, "here", tmp_path) != first
    place.chmod(0o666)  # somebody else could have written it
    assert read_policy(text, "here", tmp_path) == first
    place.unlink()
    other = b"allow_paths: [everything/]\n"
    loose = read_policy(other, "here", tmp_path)
    (moved,) = tmp_path.iterdir()
    moved.rename(place)  # somebody else owns the folder
    assert read_policy(text, "here", tmp_path) == first != loose
    place.unlink()
    place.symlink_to(tmp_path / "elsewhere")
    assert read_policy(text, "here", tmp_path) == first


def test_what_is_no_policy_is_not_remembered(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(PolicyError, match="here:1:"):
            read_policy(b"allow_paths: 7\n", "here", tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    assert read_policy(b"max_edits: 7\n", "here", tmp_path / "file/folder").max_edits == 7


def test_where_policies_are_remembered() -> None:
    assert memory_folder({}) is None
    assert memory_folder({"XDG_CACHE_HOME": "relative", "HOME": "/h"}) is None
    assert memory_folder({"HOME": "/h"}) == Path("/h/.cache/safeai-git/policies")


def test_what_a_change_can_bring_is_not_remembered(governed: Repo) -> None:
    """A CI job keeps its cache in the checkout, and a commit brings what would make of the policy another one."""
    environ = governed.environment | {"XDG_CACHE_HOME": str(governed.path / "src/cache"), "CLAUDECODE": "1"}
    text = (governed.path / ".safeai/policy.yaml").read_bytes()
    read_policy(text, "here", governed.path / "src/cache/safeai-git/policies")
    (place,) = (governed.path / "src/cache/safeai-git/policies").iterdir()
    governed.commit("cache", {place.relative_to(governed.path).as_posix(): '{"safe_mode": false}'})
    governed.write("config/keys/prod.pem", "secret\n")
    governed.git("add", "-A")
    done = governed.safeai("hook", "run", "pre-commit", env=environ)
    assert (done.code, "denied-path" in done.err) == (1, True), done.both
    assert memory_folder(environ) is None


def test_an_answer_that_was_begun_is_taken_over_once(repo: Repo) -> None:
    asked = ["rev-parse", "--show-toplevel"]
    plumbing.begin(asked, cwd=repo.path, environ=repo.environment)
    (process,) = plumbing._BEGUN.values()
    assert plumbing.run(asked, cwd=repo.path, environ=repo.environment)[0].strip() == os.fsencode(repo.path)
    assert process.returncode == 0
    assert not plumbing._BEGUN
    plumbing.begin(asked, cwd=repo.path, environ=repo.environment)
    elsewhere = plumbing.run(["rev-parse", "--git-dir"], cwd=repo.path, environ=repo.environment)[0]
    assert elsewhere.strip() == b".git"
    (process,) = plumbing._BEGUN.values()
    plumbing.abandon()
    assert process.returncode is not None
    assert not plumbing._BEGUN


def call(folder: Path, path: str) -> str:
    given = {"file_path": path, "content": "x = 1\n"}
    asked = {"cwd": str(folder), "hook_event_name": "PreToolUse", "tool_name": "Write", "tool_input": given}
    return json.dumps(asked)


@pytest.mark.parametrize("kind", ["worktree", "detached", "a branch called HEAD", "sha256", "new\nline"])
def test_every_kind_of_repository_is_judged(governed: Repo, tmp_path: Path, kind: str) -> None:
    folder = governed.path
    if kind == "worktree":
        folder = tmp_path / "tree"
        governed.git("worktree", "add", "-q", str(folder))
    elif kind == "detached":
        governed.git("checkout", "-q", "--detach")
    elif kind == "a branch called HEAD":
        governed.git("update-ref", "refs/heads/HEAD", "HEAD")
    else:
        folder = tmp_path / kind
        more = ["--object-format=sha256"] if kind == "sha256" else []
        governed.git("init", "-q", *more, str(folder))
        (folder / ".safeai").mkdir()
        (folder / ".safeai/policy.yaml").write_text("allow_paths: [src/]\n")
        governed.git("-C", str(folder), "add", "-A")
        governed.git("-C", str(folder), "commit", "-q", "-m", "start")
    done = governed.safeai("agent", "hook", "claude-code", stdin=call(folder, "other/x"))
    assert (done.code, '"deny"' in done.out) == (0, True), done.both


def test_a_branch_without_commits_is_judged_by_the_default(repo: Repo, tmp_path: Path) -> None:
    repo.git("init", "-q", str(tmp_path / "new"))
    done = repo.safeai("agent", "hook", "claude-code", stdin=call(tmp_path / "new", "x"))
    assert (done.code, done.out) == (0, "")


def test_a_file_is_taken_out_with_the_folders_that_it_leaves_empty(governed: Repo) -> None:
    store = MemoryStore(discover(governed.path, governed.environment).store)
    tree = with_file(store, EMPTY_TREE, b"a/b/c", b"x")
    both = with_file(store, tree, b"a/d", b"y")
    assert with_file(store, both, b"a/d", None) == tree
    assert with_file(store, tree, b"a/b/c", None) == EMPTY_TREE
    assert with_file(store, both, b"not/there", None) == both
    assert with_file(store, both, b"a/d/below", None) == both
    name = store.write("blob", b"z")
    turned = with_side(store, both, b"a/b", 0o120000, name)
    assert with_side(store, turned, b"a/b", 0, "") == with_file(store, both, b"a/b/c", None)


def test_the_bare_library_is_the_one_of_the_package() -> None:
    """Loaded by itself first, as in an agent's hook, then the package: both work, and count alike."""
    code = (
        "from safeai_git.git import xdiff; import sys; assert 'pygit2' not in sys.modules\n"
        "first = xdiff.counts(b'a\\nb\\nc\\n', b'a\\nx\\nc\\ny')\n"
        "import pygit2; assert pygit2.Patch is xdiff._PATCH; assert pygit2.enums.DiffOption.FORCE_TEXT == 1 << 20\n"
        "pygit2.init_repository(sys.argv[1]); print(first)"
    )
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("(3, 2, 2, 1)", "")
