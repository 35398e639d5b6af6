"""A commit that is about to be made, judged by the short way of its hook and by the long way: the same, whatever is odd."""

from __future__ import annotations

import hashlib
import os
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from conftest import AI_TRAILER, POLICY, Repo

from safeai_git.commands.quick import QuickSession
from safeai_git.commands.session import Session
from safeai_git.core.errors import SafeAIError
from safeai_git.git.few_store import FEW

Answer = tuple[object, ...]
Env = Mapping[str, str]
HOSTILE = [
    b"src/a\nb",
    b"src/\xff\xfe",
    b"src/-x",
    "src/a\u200b.py".encode(),
    b"src/A.PY",
    b"SRC/a.py",
    b'"src/x"',
    b"src\\x",
    b"src/aux.py",
    b"config/keys/x",
    b".github/workflows/x.yml",
]


def judged(kind: type[QuickSession], folder: Path, environ: Env, message: str) -> Answer:
    session = kind(folder, environ)
    try:
        judge = session.gate(replay=False) if isinstance(session, Session) else session.judge()
        found = judge.staged(message)
    except SafeAIError as error:
        return type(error), error.message, error.hint
    else:
        return found.decision, found.verdict.findings, found.verdict.proposal, found.trust.policy
    finally:
        session.close()


def entry(repo: Repo, mode: str, name: str, path: bytes) -> None:
    repo.git("update-index", "-z", "--index-info", stdin=f"{mode} {name}\t".encode() + path + b"\0")


def loose(repo: Repo, revision: str) -> Path:
    name = repo.git("rev-parse", revision)
    place = repo.path / ".git/objects" / name[:2] / name[2:]
    place.chmod(0o644)
    return place


def hostile_names(repo: Repo) -> None:
    for path in HOSTILE:
        entry(repo, "100644", repo.blob(b"x\n"), path)


def other_kinds(repo: Repo) -> None:
    entry(repo, "160000", "1" * 40, b"src/sub")
    for number, target in enumerate((b"/etc/passwd", b"../.git/config", b"a.py", b"../../x")):
        entry(repo, "120000", repo.blob(target), b"src/link%d" % number)
    repo.git("update-index", "--chmod=+x", "src/a.py")
    entry(repo, "100644", repo.blob(b"\0" * 70_000), b"src/binary")
    entry(
        repo, "100644", repo.blob(b"version https://git-lfs.github.com/spec/v1\nsize 99999999\n"), b"src/lfs"
    )


def announced(repo: Repo) -> None:
    repo.write("src/later.py", "x\n")
    repo.git("add", "-N", "src/later.py")
    repo.git("rm", "-q", "--cached", "-r", ".safeai")


def many(number: int) -> Callable[[Repo], None]:
    def stage(repo: Repo) -> None:
        name = repo.blob(b"x\n")
        lines = (f"100644 {name}\tsrc/f{one}\0".encode() for one in range(number))
        repo.git("update-index", "-z", "--index-info", stdin=b"".join(lines))

    return stage


def missing(revision: str) -> Callable[[Repo], None]:
    return lambda repo: loose(repo, revision).unlink()


def other_content(revision: str) -> Callable[[Repo], None]:
    def write(repo: Repo) -> None:
        loose(repo, revision).write_bytes(zlib.compress(b"blob 2\0ab"))

    return write


def another_type(repo: Repo) -> None:
    entry(repo, "100644", repo.git("rev-parse", "HEAD:src"), b"src/tree.py")


def borrowed(repo: Repo) -> None:
    elsewhere = repo.path.parent / "lender"
    shutil.move(repo.path / ".git/objects", elsewhere)
    (repo.path / ".git/objects/info").mkdir(parents=True)
    (repo.path / ".git/objects/info/alternates").write_text("../../../lender\n")


def elsewhere(repo: Repo) -> Env:
    shutil.copytree(repo.path / ".git/objects", repo.path.parent / "objects")
    shutil.rmtree(repo.path / ".git/objects")
    (repo.path / ".git/objects").mkdir()
    return {"GIT_OBJECT_DIRECTORY": str(repo.path.parent / "objects")}


def replaced(repo: Repo) -> None:
    policy = repo.git("rev-parse", "HEAD:.safeai/policy.yaml")
    repo.git("replace", policy, repo.blob(b"safe_mode: false\n"))
    repo.write(".git/info/grafts", repo.git("rev-parse", "HEAD") + "\n")


def other_index(repo: Repo) -> Env:
    shutil.copy(repo.path / ".git/index", repo.path / ".git/other")
    repo.git("reset", "-q")
    return {"GIT_INDEX_FILE": ".git/other"}


def cut_index(repo: Repo) -> None:
    place = repo.path / ".git/index"
    data = place.read_bytes()
    place.write_bytes(data[:-40] + data[-20:])


def unmerged(repo: Repo) -> None:
    name = repo.blob(b"x\n")
    lines = f"0 {'0' * 40}\tsrc/a.py\0100644 {name} 2\tsrc/a.py\0100644 {name} 3\tsrc/a.py\0"
    repo.git("update-index", "-z", "--index-info", stdin=lines.encode())


def head_of(text: str) -> Callable[[Repo], None]:
    return lambda repo: repo.write(".git/HEAD", text + "\n")


def ambiguous(repo: Repo) -> None:
    for name in ("heads", "tags"):
        repo.git("update-ref", f"refs/{name}/HEAD", "HEAD")


def configured(*settings: str) -> Callable[[Repo], None]:
    def configure(repo: Repo) -> None:
        for one in settings:
            repo.git("config", one, "/not/there")

    return configure


def broken_configuration(repo: Repo) -> None:
    with (repo.path / ".git/config").open("a") as file:
        file.write("[safeai\n")


SITUATIONS: dict[str, Callable[[Repo], Env | None]] = {
    "as ever": lambda repo: None,
    "hostile names": hostile_names,
    "other kinds": other_kinds,
    "announced, and no policy any more": announced,
    "as many objects as git is asked for": many(FEW),
    "more": many(FEW + 150),
    "a missing blob": missing(":src/a.py"),
    "a missing base": missing("HEAD:src/a.py"),
    "a missing tree": missing("HEAD^{tree}"),
    "a missing commit": missing("HEAD"),
    "a missing policy": missing("HEAD:.safeai/policy.yaml"),
    "another blob": other_content(":src/a.py"),
    "another policy": other_content("HEAD:.safeai/policy.yaml"),
    "another folder": other_content("HEAD:.safeai"),
    "a tree as a file": another_type,
    "borrowed objects": borrowed,
    "objects elsewhere": elsewhere,
    "replaced and grafted": replaced,
    "another index": other_index,
    "a cut index": cut_index,
    "no index": lambda repo: (repo.path / ".git/index").unlink(),
    "unmerged": unmerged,
    "a split index": lambda repo: repo.git("update-index", "--split-index") and None,
    "a branch to begin": head_of("ref: refs/heads/new"),
    "a detached head": lambda repo: repo.git("checkout", "-q", "--detach") and None,
    "a loop": head_of("ref: HEAD"),
    "a head that is nothing": head_of("1" * 40),
    "an ambiguous head": ambiguous,
    "half an organisation": configured("safeai.orgPolicy"),
    "an organisation that is gone": configured("safeai.orgPolicy", "safeai.orgSigners"),
    "a broken configuration": broken_configuration,
    "the kill switch": lambda repo: {"SAFEAI_ENABLE": "off"},
    "a cache that cannot be written": lambda repo: {"XDG_CACHE_HOME": os.devnull},
}


@pytest.fixture
def governed(repo: Repo) -> Repo:
    """A repository with a policy and nothing else, made by git alone: there are many of them."""
    repo.commit("start", {".safeai/policy.yaml": POLICY, "src/a.py": "a = 1\n", "src/b.py": "b\n"})
    return repo


@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_short_way_says_what_the_long_way_says(governed: Repo, tmp_path: Path, situation: str) -> None:
    governed.write("src/a.py", "a = 7\n")
    governed.write("config/keys/prod.pem", "secret\n")
    governed.git("add", "-A")
    environ = governed.environment | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "CLAUDECODE": "1"}
    environ |= SITUATIONS[situation](governed) or {}
    long = judged(Session, governed.path, environ, f"A change\n\n{AI_TRAILER}\n")
    for _ in range(2):  # with what the first one remembered of the policy, too
        assert judged(QuickSession, governed.path, environ, f"A change\n\n{AI_TRAILER}\n") == long


def test_an_exact_policy_is_remembered(governed: Repo, tmp_path: Path) -> None:
    environ = governed.environment | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    judged(QuickSession, governed.path, environ, "")
    text = (governed.path / ".safeai/policy.yaml").read_bytes()
    (kept,) = (tmp_path / "cache/safeai-git/policies").iterdir()
    assert kept.name.startswith(hashlib.sha256(text).hexdigest())
