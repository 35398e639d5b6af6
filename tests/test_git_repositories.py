"""Repositories as they are in the wild: what is judged there is what git commits, or exit 3 says why not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import tarfile
from pathlib import Path

import pytest
from conftest import AI_TRAILER, Repo
from tools_git import DENIED, Watched, copy_of, make_watched

from safeai_git.core.errors import RepositoryError
from safeai_git.git.repository import Repository, discover

REFTABLE = Path(__file__).resolve().parent / "data/reftable.tar.gz"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, base_environment: dict[str, str]) -> Watched:
    repo = make_watched(tmp_path_factory.mktemp("template") / "repo", base_environment)
    repo.git("config", "uploadpack.allowFilter", "true")
    return repo


@pytest.fixture
def repo(template: Watched, tmp_path: Path, environment: dict[str, str]) -> Watched:
    return copy_of(template, tmp_path / "repo", environment)


def stage(repo: Watched, path: str = "src/a.py", content: str = "a = 2\n") -> None:
    repo.write(path, content)
    repo.git("add", "--", path)


def clone(repo: Watched, name: str, *flags: str) -> Watched:
    place = repo.path.parent / name
    by_path = "--shared" in flags
    repo.git("clone", "-q", *flags, str(repo.path) if by_path else f"file://{repo.path}", str(place))
    return repo.at(place)


# Where the parts of a repository are


def test_a_linked_working_tree_with_a_configuration_of_its_own(repo: Watched) -> None:
    repo.git("config", "extensions.worktreeConfig", "true")
    repo.git("worktree", "add", "-q", "-b", "topic", "../linked")
    linked = repo.at(repo.path.parent / "linked")
    linked.git("config", "--worktree", "core.hooksPath", "/dev/null")
    linked.git("config", "--worktree", "safeai.replay", "false")
    assert (discover(linked.path, linked.environment).config("safeai.replay"), repo_config(repo)) == (
        "false",
        "",
    )
    linked.git("config", "--worktree", "--unset", "core.hooksPath")
    stage(linked)
    linked.commits()
    linked.refuses()
    repo.watch()
    assert repo.judged() == repo.git("rev-parse", "main^{tree}"), "the main working tree is at another commit"
    stage(repo, "src/b.py", "b\n")
    repo.commits()


def repo_config(repo: Watched) -> str:
    return discover(repo.path, repo.environment).config("safeai.replay")


def test_git_kept_apart_from_the_working_tree(repo: Watched) -> None:
    """``.git`` is a file that names the folder, as ``git init --separate-git-dir`` makes it."""
    repo.git("init", "-q", "--separate-git-dir", "../apart")
    assert (repo.path / ".git").is_file()
    stage(repo)
    repo.commits(cwd=repo.path / "src")


def test_a_working_tree_that_the_configuration_names(repo: Watched) -> None:
    """The folder of ``core.worktree`` has no ``.git``; git finds the repository from beside ``.git`` only."""
    elsewhere = repo.path.parent / "elsewhere"
    shutil.copytree(repo.path, elsewhere, ignore=shutil.ignore_patterns(".git"))
    repo.git("config", "core.worktree", str(elsewhere))
    (elsewhere / "src/a.py").write_text("a = 'elsewhere'\n")
    repo.git("add", "src/a.py")
    repo.commits()
    assert repo.git("show", "HEAD:src/a.py") == "a = 'elsewhere'"


def test_repositories_that_the_environment_names(repo: Watched) -> None:
    outside = repo.path.parent
    stage(repo)
    named = {"GIT_DIR": "repo/.git", "GIT_WORK_TREE": "repo"}
    repo.commits(env=named, cwd=outside)
    repo.refuses(env=named, cwd=outside)
    repo.git("reset", "-q")
    stage(repo, "src/b.py", "b\n")
    repo.commits(env={"GIT_DIR": str(repo.path / ".git")})
    own = {"GIT_DIR": "../.git", "GIT_WORK_TREE": "..", "GIT_INDEX_FILE": str(outside / "own-index")}
    repo.run("read-tree", "HEAD", env=own, cwd=repo.path / "src")
    blob = repo.blob(b"own\n")
    repo.run(
        "update-index", "--add", "--cacheinfo", f"100644,{blob},src/own.py", env=own, cwd=repo.path / "src"
    )
    repo.commits(env=own, cwd=repo.path / "src")


def test_objects_kept_elsewhere(repo: Watched) -> None:
    """New objects go to the folder that the environment names, and what is there already is borrowed."""
    outside = repo.path.parent
    (outside / "objects").mkdir()
    named = {
        "GIT_OBJECT_DIRECTORY": "../objects",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(repo.path / ".git/objects"),
    }
    repo.write("src/a.py", "a = 2\n")
    assert repo.run("add", "src/a.py", env=named).code == 0
    assert any((outside / "objects").iterdir())
    repo.commits(env=named)
    repo.refuses(env=named)
    done = repo.safeai("check", "--agent", "claude-code", "--no-sign")
    assert done.code == 3
    assert "HEAD names neither a commit that is here" in done.err


def test_objects_borrowed_from_another_clone(repo: Watched) -> None:
    shared = clone(repo, "shared", "--shared")
    assert (shared.path / ".git/objects/info/alternates").exists()
    stage(shared)
    shared.commits()
    twice = clone(shared, "twice", "--shared")
    stage(twice, "src/a.py", "a = 3\n")
    twice.commits()
    os.rename(repo.path, repo.path.parent / "moved")
    done = shared.safeai("check", "--agent", "claude-code", "--no-sign")
    assert done.code == 3
    assert "hint: " in done.err


def test_packed_refs_and_packed_objects(repo: Watched) -> None:
    for number in range(3):
        repo.commit(f"more {number}", {"src/a.py": f"a = {number + 7}\n"})
    repo.git("pack-refs", "--all", "--prune")
    repo.git(
        "-c", "core.multiPackIndex=true", "repack", "-q", "-a", "-d", "--write-bitmap-index", "--write-midx"
    )
    repo.git("commit-graph", "write", "--reachable")
    assert not (repo.path / ".git/refs/heads/main").exists()
    stage(repo)
    repo.commits()


def test_head_detached_and_head_a_link(repo: Watched) -> None:
    repo.git("checkout", "-q", "--detach")
    stage(repo)
    repo.commits()
    repo.git("checkout", "-q", "main")
    (repo.path / ".git/HEAD").unlink()
    (repo.path / ".git/HEAD").symlink_to("refs/heads/main")
    stage(repo, "src/a.py", "a = 3\n")
    repo.commits()


def test_a_branch_below_a_name_that_is_hard(repo: Watched) -> None:
    repo.git("checkout", "-q", "-b", "topic/ä-'x'$y/HEAD")
    stage(repo)
    repo.commits()


@pytest.mark.parametrize("state", ["HEAD gone", "HEAD of nothing", "broken branch", "broken configuration"])
def test_a_repository_that_is_broken_is_not_judged(repo: Watched, state: str) -> None:
    git = repo.path / ".git"
    stage(repo)
    words = {
        "HEAD gone": "is not inside a git repository",
        "HEAD of nothing": "HEAD names neither a commit that is here nor a branch to begin",
        "broken branch": "HEAD names neither",
        "broken configuration": "cannot be opened: fatal: bad config",
    }
    if state == "HEAD gone":
        (git / "HEAD").unlink()
    elif state == "HEAD of nothing":
        (git / "HEAD").write_text("0123456789" * 4 + "\n")
    elif state == "broken branch":
        (git / "refs/heads/main").write_text("nothing\n")
    else:
        (git / "config").write_text("[core\n")
    assert repo.run("commit", "-q", "-m", "x").code != 0
    done = repo.safeai("check", "--agent", "claude-code", "--no-sign")
    assert (done.code, words[state] in done.err, "hint: " in done.err) == (3, True, True), done.both


def test_a_search_that_stops_below(repo: Watched) -> None:
    stage(repo)
    for below, ceiling in (("src", repo.path), ("docs/deep", repo.path / "docs")):
        there = {"GIT_CEILING_DIRECTORIES": str(ceiling)}
        assert repo.run("status", env=there, cwd=repo.path / below).code == 128
        done = repo.safeai("check", env=there, cwd=repo.path / below)
        assert (done.code, "is not inside a git repository" in done.err) == (3, True)
    repo.commits(env={"GIT_CEILING_DIRECTORIES": str(repo.path.parent)}, cwd=repo.path / "src")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a folder away"
)
def test_a_repository_of_another_owner(repo: Watched) -> None:
    """Git refuses it until ``safe.directory`` names it; judging it runs nothing of it, so it is judged either way."""
    stage(repo)
    for place in (repo.path, repo.path / ".git"):
        os.chown(place, 65534, 65534)
    done = repo.run("commit", "-q", "-m", "x")
    assert "dubious ownership" in done.err
    tree = repo.judged()
    (Path(repo.environment["XDG_CONFIG_HOME"]) / "git").mkdir(parents=True)
    (Path(repo.environment["XDG_CONFIG_HOME"]) / "git/config").write_text(
        f"[safe]\n\tdirectory = {repo.path}\n"
    )
    assert repo.commits() == tree


# Kinds of repository


def test_sha256(tmp_path: Path, environment: dict[str, str]) -> None:
    repo = make_watched(tmp_path / "sha256", environment, "--object-format=sha256")
    stage(repo)
    assert len(repo.commits()) == 64
    repo.refuses()
    done = repo.safeai("check", "--range", "HEAD~1..HEAD", "--no-sign")
    assert done.code == 3
    assert "histories cannot be walked in a repository of format sha256 yet" in done.err


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("extensions.refStorage", "reftable", "keeps its refs in a reftable"),
        ("extensions.somethingNew", "true", "is of a kind that the git here does not know"),
        ("core.repositoryFormatVersion", "2", "is of a kind that the git here does not know"),
        ("extensions.objectFormat", "sha512", "cannot be opened"),
    ],
)
def test_a_kind_that_git_cannot_read_is_named(repo: Watched, key: str, value: str, words: str) -> None:
    """Reftable is what git makes by default before long; one that cannot read it says so in a word of its own."""
    repo.git("config", "core.repositoryFormatVersion", "1")
    repo.git("config", key, value)
    understood = repo.run("status").code == 0
    if understood:
        pytest.skip("the git here reads this kind")
    for arguments in (
        ["check"],
        ["check", "--range", "main~1..main"],
        ["hook", "run", "pre-commit"],
        ["verify", "main~1..main"],
    ):
        done = repo.safeai(*arguments)
        assert done.code == 3
        assert words in done.err
        assert "hint: " in done.err


def test_a_repository_with_a_reftable(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "probe").mkdir()
    probe = Watched(tmp_path / "probe", environment)
    if probe.run("init", "-q", "--ref-format=reftable").code != 0:  # git before 2.45: one that 2.47.3 made
        with tarfile.open(REFTABLE) as packed:
            packed.extractall(tmp_path)
        repo = Watched(tmp_path / "repo", environment)
        assert (repo.path / ".git/reftable/tables.list").exists()
        for arguments in (["check"], ["check", "--range", "main~1..main"], ["verify", "main~1..main"]):
            done = repo.safeai(*arguments)
            assert done.code == 3
            assert "keeps its refs in a reftable" in done.err
        return
    repo = make_watched(tmp_path / "reftable", environment, "--ref-format=reftable")
    stage(repo)
    repo.commits()
    repo.refuses()


def test_a_partial_clone(repo: Watched) -> None:
    repo.commit("large", {"docs/large.txt": "large\n" * 100})
    partial = clone(repo, "partial", "--filter=blob:none", "--sparse")
    partial.git("sparse-checkout", "set", "src", ".safeai")
    large = partial.git("rev-parse", "HEAD:docs/large.txt")
    missing = partial.git("rev-list", "--objects", "--missing=print", "HEAD")
    assert f"?{large}" in missing
    stage(partial)
    partial.commits()
    partial.refuses()
    partial.git("reset", "-q", "--hard")
    partial.git("rm", "-q", "--cached", "--sparse", "docs/large.txt")
    done = partial.run("commit", "-q", "-m", "x")
    assert done.code != 0
    assert f"object {large} is not in the object store" in done.err
    assert "git fetch --refetch" in done.err
    still = partial.git("rev-list", "--objects", "--missing=print", "HEAD")
    assert f"?{large}" in still, "nothing was fetched to judge it"


def test_a_shallow_clone(repo: Watched) -> None:
    repo.commit("more", {"src/a.py": "a = 7\n"})
    shallow = clone(repo, "shallow", "--depth=1")
    assert (shallow.path / ".git/shallow").exists()
    stage(shallow)
    shallow.commits()
    shallow.refuses()
    shallow.git("reset", "-q", "--hard")
    # the base is where the clone was cut off, as in CI that fetches two commits
    stage(shallow, "src/b.py", "b = 1\n")
    shallow.commits()
    cut = shallow.git("rev-list", "--max-parents=0", "HEAD")
    assert len(shallow.git("cat-file", "commit", cut).split("parent ")) == 2
    done = shallow.safeai("check", "--range", f"{cut}..HEAD", "--no-sign", "--no-replay", "--format", "json")
    assert done.code == 0, done.both
    judged = [one["head"]["commit"] for one in json.loads(done.out)["judgements"] if one["kind"] == "commit"]
    assert judged == shallow.git("rev-list", "--reverse", f"{cut}..HEAD").split()
    below = repo.git("rev-parse", "HEAD~1")
    raw = shallow.git_bytes("cat-file", "commit", "HEAD").replace(
        shallow.git("rev-parse", "HEAD~1").encode(), below.encode()
    )
    beside = shallow.git("hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=raw)
    for revisions in (f"{below}..HEAD", f"{cut}..{beside}", f"{beside}..HEAD"):
        done = shallow.safeai("check", "--range", revisions, "--no-sign", "--no-replay")
        assert (done.code, "git fetch --unshallow" in done.err) == (3, True), done.both


def test_submodules(repo: Watched) -> None:
    """The superproject records a commit of it; inside it is a repository like any other."""
    library = make_watched(repo.path.parent / "library", repo.environment)
    repo.git("submodule", "--quiet", "add", f"file://{library.path}", "src/lib")
    repo.commit("a library")
    assert (repo.path / "src/lib/.git").is_file()
    inner = repo.at(repo.path / "src/lib")
    stage(inner)
    inner.commits()
    repo.git("add", "src/lib")
    repo.commits()
    recorded = repo.git("ls-tree", "HEAD", "src/lib").split()[:3]
    assert recorded == ["160000", "commit", inner.git("rev-parse", "HEAD")]


# What changes the shape of history


def test_B51_replaced_objects_are_not_what_is_judged(repo: Watched) -> None:
    """Git commits the index's own tree, whatever is shown in place of trees and commits."""
    repo.git("replace", "HEAD:src", repo.git("rev-parse", "HEAD:tests"))
    head = repo.git("rev-parse", "HEAD")
    other = repo.commit_tree(repo.git("rev-parse", "HEAD^{tree}"))
    repo.git("replace", head, other)
    (repo.path / ".git/info").mkdir(exist_ok=True)
    (repo.path / ".git/info/grafts").write_text(f"{head} {other}\n")
    stage(repo)
    repo.git("cat-file", "-p", "HEAD^{tree}")
    plain = {"GIT_NO_REPLACE_OBJECTS": "1"}
    before = repo.judged()
    done = repo.run("commit", "-q", "-m", f"A change\n\n{AI_TRAILER}")
    assert done.code == 0, done.both
    assert repo.seen() == [("pre-commit", before)]
    assert repo.git("rev-parse", "HEAD^{tree}", env=plain) == before


def rewritten_graph(graph: bytes, child: str, parent: str) -> bytes:
    """A commit-graph file in which one commit has another parent (gitformat-commit-graph(5))."""
    data = bytearray(graph[:-20])
    chunks = {}
    for number in range(data[6]):
        row = 8 + 12 * number
        chunks[bytes(data[row : row + 4])] = struct.unpack(">Q", data[row + 4 : row + 12])[0]
    count = struct.unpack(">L", data[chunks[b"OIDF"] + 255 * 4 : chunks[b"OIDF"] + 256 * 4])[0]
    start = chunks[b"OIDL"]
    listed = [bytes(data[start + 20 * number : start + 20 * number + 20]).hex() for number in range(count)]
    place = chunks[b"CDAT"] + 36 * listed.index(child) + 20
    data[place : place + 4] = struct.pack(">L", listed.index(parent))
    return bytes(data) + hashlib.sha1(data, usedforsecurity=False).digest()


def test_B51_a_commit_graph_that_leaves_a_commit_out_is_not_believed(repo: Watched) -> None:
    base = repo.git("rev-parse", "HEAD")
    bad = repo.commit("bad", {DENIED: "x"}, ai=True)
    repo.git("rm", "-q", DENIED)
    undone = repo.commit("undone", ai=True)
    head = repo.commit("more", {"src/more.py": "m\n"}, ai=True)
    repo.git("commit-graph", "write", "--reachable")
    graph = repo.path / ".git/objects/info/commit-graph"
    lied = rewritten_graph(graph.read_bytes(), undone, base)
    graph.chmod(0o644)
    graph.write_bytes(lied)
    assert repo.git("rev-list", f"{base}..{head}").split() == [head, undone], "git believes it"
    done = repo.safeai("check", "--range", f"{base}..{head}", "--no-sign", "--no-replay")
    assert done.code == 1
    assert f"{DENIED} [denied-path]" in done.out
    stage(repo)
    repo.commits()
    line = f"refs/heads/main {head} refs/heads/main {base}\n"
    done = repo.safeai("hook", "run", "pre-push", "origin", "nowhere", stdin=line)
    assert done.code == 1, (bad, done.both)


def test_a_range_whose_base_went_on_and_whose_head_names_no_author(repo: Watched) -> None:
    """libgit2 cannot take such a commit apart: it is denied as malformed, and its tree is merged all the same."""
    fork = repo.git("rev-parse", "HEAD")
    base = repo.commit("base goes on", {"src/main.py": "m\n"})
    tree = repo.git("rev-parse", f"{fork}^{{tree}}")

    def strange(parent: str, *lines: str) -> str:
        text = "\n".join([f"tree {tree}", f"parent {parent}", *lines, "", "message", ""])
        return repo.git("hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=text.encode())

    heads = [strange(fork), strange(fork, "author ", "committer x")]
    heads.append(repo.commit_tree(tree, heads[0]))
    for head in heads:
        done = repo.safeai(
            "check", "--range", f"{base}..{head}", "--no-sign", "--no-replay", "--format", "json"
        )
        assert done.code == 1, done.both
        assert '"malformed-commit"' in done.out
        assert '"kind": "merge-result"' in done.out
    one, two = strange(base), strange(fork)
    crossed = [repo.commit_tree(tree, base, two), repo.commit_tree(tree, fork, one)]
    done = repo.safeai("check", "--range", f"{crossed[0]}..{crossed[1]}", "--no-sign", "--no-replay")
    assert done.code in (1, 3), done.both
    odd = f"parent {fork}\ntree {tree}\n\nx\n"
    name = repo.git("hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=odd.encode())
    done = repo.safeai("check", "--range", f"{base}..{name}", "--no-sign")
    assert (done.code, "is no commit, or one that git cannot take apart" in done.err) == (3, True)


# While git is in the middle of something


def test_a_merge_that_stopped(repo: Watched) -> None:
    repo.git("checkout", "-q", "-b", "topic")
    repo.commit("theirs", {"src/a.py": "a = 'theirs'\n", "src/topic.py": "t\n"})
    repo.git("checkout", "-q", "main")
    repo.commit("ours", {"src/a.py": "a = 'ours'\n"})
    assert repo.run("merge", "-q", "topic").code == 1
    done = repo.safeai("check", "--agent", "claude-code")
    assert (done.code, "resolve the conflicts" in done.err) == (3, True)
    stage(repo, "src/a.py", "a = 'both'\n")
    repo.commits()
    assert len(repo.git("show", "-s", "--format=%P").split()) == 2
    repo.git("reset", "-q", "--hard", "HEAD~1")
    assert repo.run("merge", "-q", "--no-commit", "-s", "ours", "topic").code == 0
    repo.refuses()


@pytest.mark.parametrize("by", ["cherry-pick", "revert", "rebase", "am"])
def test_a_commit_in_the_middle(repo: Watched, by: str) -> None:
    """Each stops at a conflict; what is resolved and committed by hand is judged as it is committed."""
    repo.git("checkout", "-q", "-b", "topic")
    repo.commit("before", {"src/a.py": "a = 'before'\n"})
    repo.commit("theirs", {"src/a.py": "a = 'theirs'\n"})
    repo.commit("after", {"src/after.py": "after\n"})
    patch = repo.git_bytes("format-patch", "--stdout", "-1", "topic~1")
    if by != "revert":
        repo.git("checkout", "-q", "main")
    repo.commit("ours", {"src/a.py": "a = 'ours'\n"})
    (repo.path.parent / "theirs.patch").write_bytes(patch)
    command = {
        "cherry-pick": ["cherry-pick", "topic~1"],
        "revert": ["revert", "--no-edit", "topic~2"],
        "rebase": ["rebase", "-q", "--onto", "main", "topic~2", "topic"],
        "am": ["am", "-q", "-3", str(repo.path.parent / "theirs.patch")],
    }[by]
    assert repo.run(*command).code != 0
    assert repo.git("ls-files", "--unmerged")
    stage(repo, "src/a.py", f"a = '{by}'\n")
    repo.commits()
    assert repo.git("show", "HEAD:src/a.py") == f"a = '{by}'"


# The configuration


def opened(repo: Watched, **environment: str) -> Repository:
    return discover(repo.path, repo.environment | environment)


def test_configuration_is_read_where_git_reads_it(repo: Watched) -> None:
    """The system's file, both of the person's, the repository's: later ones count, and the answer is git's own."""
    outside = repo.path.parent
    files = {name: outside / f"{name}.conf" for name in ("system", "other")}
    home, xdg = outside / "home", outside / "xdg"
    (xdg / "git").mkdir(parents=True)
    home.mkdir()
    places = [files["system"], xdg / "git/config", home / ".gitconfig"]
    environ = {"HOME": str(home), "XDG_CONFIG_HOME": str(xdg), "GIT_CONFIG_SYSTEM": str(files["system"])}
    environ["GIT_CONFIG_NOSYSTEM"] = "0"

    def said(**more: str) -> str:
        answer = opened(repo, **environ, **more).config("safeai.key")
        assert answer == repo.run("config", "--get", "safeai.key", env=environ | more).out.strip()
        return answer

    assert said() == ""
    for number, place in enumerate(places):
        place.write_text(f"[safeai]\n\tkey = key{number}\n")
        assert said() == f"key{number}"
    files["other"].write_text("[safeai]\n\tkey = other\n")
    assert said(GIT_CONFIG_GLOBAL=str(files["other"])) == "other"
    files["other"].write_text("")
    assert said(GIT_CONFIG_GLOBAL=str(files["other"])) == "key0"
    assert (
        opened(repo, **environ | {"GIT_CONFIG_NOSYSTEM": "1"}, GIT_CONFIG_GLOBAL=str(files["other"])).config(
            "safeai.key"
        )
        == ""
    )
    repo.git("config", "safeai.key", "own")
    assert said() == "own"
    unset = {name: value for name, value in repo.environment.items() if name != "XDG_CONFIG_HOME"}
    (home / ".config/git").mkdir(parents=True)
    (home / ".gitconfig").unlink()
    (home / ".config/git/config").write_text("[user]\n\temail = xdg@example.com\n\tname = X\n")
    found = discover(repo.path, unset | {"HOME": str(home)}).identity("AUTHOR")
    assert found == ("X", "xdg@example.com")


def test_B65_keys_and_values_in_the_environment_are_no_configuration(repo: Watched) -> None:
    environ = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safeai.replay", "GIT_CONFIG_VALUE_0": "false"}
    environ["GIT_CONFIG_PARAMETERS"] = "'safeai.replay'='false'"
    assert opened(repo, **environ).config("safeai.replay") == ""


def test_a_persons_configuration_that_cannot_be_read_is_no_silence(repo: Watched, tmp_path: Path) -> None:
    """It might name the organisation's policy."""
    (tmp_path / "broken").write_text("[safeai\n")
    with pytest.raises(RepositoryError, match="the configuration of git cannot be read"):
        opened(repo, GIT_CONFIG_GLOBAL=str(tmp_path / "broken")).config("safeai.orgPolicy")
    done = repo.safeai("check", env={"GIT_CONFIG_GLOBAL": str(tmp_path / "broken")})
    assert (done.code, "hint: " in done.err) == (3, True)


def test_what_is_borrowed_for_a_merge_is_given_back(repo: Watched, tmp_path: Path) -> None:
    """Computed merges are written to a folder for nobody else to read, which closing removes."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    fork = repo.git("rev-parse", "HEAD")
    repo.commit("main", {"src/m.py": "m\n"})
    other = repo.commit_tree(repo.git("rev-parse", f"{fork}^{{tree}}"), fork)
    done = repo.safeai(
        "check", "--range", f"main..{other}", "--no-sign", "--no-replay", env={"TMPDIR": str(scratch)}
    )
    assert done.code == 0, done.both
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"no certificate\n", None])
def test_certificates_that_are_none_do_not_keep_anybody_from_judging(
    governed: Repo, tmp_path: Path, content: bytes | None
) -> None:
    place = tmp_path / "certificates"
    place.mkdir() if content is None else place.write_bytes(content)
    done = governed.safeai("check", "--range", "HEAD..HEAD", env={"SSL_CERT_FILE": str(place)})
    assert done.code == 0, done.both
    assert governed.safeai("verify", "HEAD..HEAD", env={"SSL_CERT_FILE": str(place)}).code == 0
