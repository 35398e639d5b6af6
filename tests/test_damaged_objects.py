"""Files of objects that are not what they say: whoever reads one says so, and nobody waits for what never comes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from conftest import Repo
from tools_cli import PATIENCE, make

from safeai_git.core.errors import ObjectCorrupt
from safeai_git.git.libgit2 import Libgit2Store
from safeai_git.git.store import read_tree

CONTENT = b"zz\n" * 40
DAMAGED = {
    "empty": b"",
    "no zlib": b"garbage",
    "another content": zlib.compress(b"blob 3\0abc"),
    "another type": zlib.compress(b"tree 120\0" + CONTENT),
    "no type": zlib.compress(b"blub 120\0" + CONTENT),
    "larger than it is": zlib.compress(b"blob 999999\0" + CONTENT),
    "more than there is room for": zlib.compress(b"blob 99999999999999999\0" + os.urandom(9_000)),
    "gigantic": zlib.compress(b"blob 99999999999999999999\0" + CONTENT),
    "smaller than it is": zlib.compress(b"blob 2\0" + CONTENT),
    "negative": zlib.compress(b"blob -3\0" + CONTENT),
    "cut off": zlib.compress(b"blob 120\0" + CONTENT)[:-6],
    "cut off early": zlib.compress(b"blob 120\0" + os.urandom(120))[:40],
    "no end of the header": zlib.compress(b"blob 120" + b" " * 5_000),
}
"""What stands in the file of a blob with `CONTENT`."""

READ = """\
import sys
from pathlib import Path
from safeai_git.core.errors import CouldNotDecide, ObjectCorrupt, ObjectMissing
from safeai_git.git.few_store import FewStore
from safeai_git.git.libgit2 import Libgit2Store
from safeai_git.git.store import CatFileStore
kind, folder, good, *names = sys.argv[1:]
git = lambda size: CatFileStore(Path(folder), size, {})
libgit2 = lambda: Libgit2Store(Path(folder, "objects"))
store = {"git": lambda: git(20), "sha256": lambda: git(32), "libgit2": libgit2, "sizes first": libgit2}.get(
    kind, lambda: FewStore(git(20), libgit2)
)()
for name in names:
    try:
        if kind == "sizes first":
            store.header(name)
        found = store.read(name)
    except (ObjectCorrupt, ObjectMissing) as error:
        found = type(error).__name__
    assert store.read(good) == ("blob", b"good\\n")
    print(found, flush=True)
"""


def read(kind: str, folder: Path, good: str, *names: str) -> list[str]:
    """What came of reading each, in a process of its own: what does not end is found out."""
    done = subprocess.run(
        [sys.executable, "-c", READ, kind, str(folder), good, *names],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("kind", ["git", "sha256", "libgit2", "sizes first", "few"])
def test_a_damaged_file_of_an_object_is_named_and_keeps_nobody(repo: Repo, tmp_path: Path, kind: str) -> None:
    more = ["--object-format=sha256"] if kind == "sha256" else []
    repo.git("init", "-q", "--bare", *more, str(tmp_path / "objects.git"))
    folder = tmp_path / "objects.git"
    hashed = hashlib.sha256 if kind == "sha256" else hashlib.sha1
    names = []
    for data in [b"good\n", *(CONTENT + bytes([number]) for number in range(len(DAMAGED)))]:
        whole = b"blob %d\0%b" % (len(data), data)
        name = hashed(whole, usedforsecurity=False).hexdigest()
        names.append(name)
        place = folder / "objects" / name[:2] / name[2:]
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(zlib.compress(whole))
    assert read(kind, folder, names[0], names[1]) == [str(("blob", CONTENT + b"\0"))]
    for name, damaged in zip(names[1:], DAMAGED.values(), strict=True):
        (folder / "objects" / name[:2] / name[2:]).write_bytes(damaged)
    found = read(kind, folder, *names)
    if kind in ("git", "sha256"):  # which calls some of them missing
        assert dict.fromkeys(found).keys() == {"ObjectMissing", "ObjectCorrupt"}
        found = [one.replace("Missing", "Corrupt") for one in found]
    assert found == ["ObjectCorrupt"] * len(DAMAGED)


def test_a_pipe_in_the_place_of_an_object_keeps_nobody(repo: Repo) -> None:
    good = repo.git("hash-object", "-w", "--stdin", stdin=b"good\n")
    name = "1" * 40
    place = repo.path / ".git/objects" / name[:2] / name[2:]
    place.parent.mkdir()
    os.mkfifo(place)
    assert read("libgit2", repo.path / ".git", good, name) == ["ObjectCorrupt"]


def test_a_commit_that_was_cut_off_ends_the_walk(governed: Repo) -> None:
    base = governed.git("rev-parse", "HEAD")
    middle = governed.commit("middle", {"src/a.py": "a = 2\n"})
    governed.commit("head", {"src/a.py": "a = 3\n"})
    place = governed.path / ".git/objects" / middle[:2] / middle[2:]
    place.chmod(0o644)
    place.write_bytes(place.read_bytes()[:-9])
    done = subprocess.run(
        [sys.executable, "-m", "safeai_git", "check", "--range", f"{base}..HEAD"],
        cwd=governed.path,
        env=governed.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, "git fsck" in done.stderr) == (3, True), done.stderr


def test_objects_are_found_wherever_the_repository_borrows_them(governed: Repo, tmp_path: Path) -> None:
    """Through chains, by relative names, once each, in packs and loose; and what is packed anew meanwhile."""
    lenders = [tmp_path / f"lender {number}" for number in range(3)]
    good = governed.git("hash-object", "-w", "--stdin", stdin=b"good\n")
    for lender in lenders:
        governed.git("init", "-q", "--bare", str(lender))
    found = [
        governed.git("-C", str(lender), "hash-object", "-w", "--stdin", stdin=f"{lender.name}\n".encode())
        for lender in lenders
    ]
    lines = [
        f"# a remark\n\n{lenders[0]}/objects\n{tmp_path}/gone\n",
        f"../../{lenders[1].name}/objects\r\n",
        f"{lenders[2]}/objects\n",
        f"{governed.path}/.git/objects\n{lenders[0]}/objects\n",
    ]
    places = [governed.path / ".git/objects", *(lender / "objects" for lender in lenders)]
    for place, text in zip(places, lines, strict=True):
        (place / "info/alternates").write_text(text)
    answers = [str(("blob", f"{lender.name}\n".encode())) for lender in lenders]
    assert read("libgit2", governed.path / ".git", good, *found) == answers
    tree = governed.git("-C", str(lenders[2]), "mktree", stdin=f"100644 blob {found[2]}\tname\n".encode())
    governed.git("-C", str(lenders[2]), "update-ref", "refs/trees/one", tree)
    governed.git("-C", str(lenders[2]), "repack", "-a", "-d", "-q", "-l")
    governed.git("-C", str(lenders[2]), "prune-packed")
    assert list((lenders[2] / "objects/pack").glob("*.pack"))
    assert read("libgit2", governed.path / ".git", good, *found) == answers


def test_an_object_that_is_exchanged_between_two_questions_is_noticed(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Its size is asked first, then its content: two looks at files that somebody may write meanwhile."""
    repository = make(tmp_path / "repository", environment)
    blob = repository.git("hash-object", "-w", "--stdin", stdin=CONTENT)
    tree = repository.git("mktree", stdin=b"")

    class Exchanged(Libgit2Store):
        def header(self, name: str) -> tuple[str, int]:
            return super().header(tree)

    store = Exchanged(repository.path / ".git/objects")
    with pytest.raises(ObjectCorrupt, match="is a blob where a tree was announced"):
        read_tree(store, blob)
