"""Trees written from objects, hostile ones among them, built with git itself."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from safeai_git.core.errors import CouldNotDecide, FormatError, ObjectCorrupt, StorageError
from safeai_git.git.materialise import Materialised, TreeLimits, materialise

EMPTY_BLOB = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


class Repository:
    """A bare repository that git's own plumbing fills."""

    def __init__(self, place: Path, *options: str) -> None:
        self.place = place
        place.mkdir()
        self.git("init", "-q", "--bare", *options)
        self.reads: list[str] = []
        self._known: dict[str, tuple[str, bytes]] = {}

    def git(self, *arguments: str, stdin: bytes = b"") -> bytes:
        environment = {"PATH": os.defpath, "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent"}
        done = subprocess.run(
            ["git", *arguments], cwd=self.place, env=environment, input=stdin, capture_output=True, check=True
        )
        return done.stdout

    def blob(self, content: bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", stdin=content).decode().strip()

    def tree(self, *entries: tuple[str, bytes, str]) -> str:
        """A tree as it is given, in any order and with any name."""
        raw = b"".join(
            mode.encode() + b" " + name + b"\0" + bytes.fromhex(one) for mode, name, one in entries
        )
        return (
            self.git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", stdin=raw).decode().strip()
        )

    def mktree(self, *entries: tuple[str, bytes, str]) -> str:
        """A tree as git itself makes it."""
        kinds = {"040000": "tree", "160000": "commit"}
        lines = b"".join(
            f"{mode} {kinds.get(mode, 'blob')} {one}\t".encode() + name + b"\0" for mode, name, one in entries
        )
        return self.git("mktree", "-z", "--missing", stdin=lines).decode().strip()

    def read(self, name: str) -> tuple[str, bytes]:
        self.reads.append(name)
        if name not in self._known:
            kind = self.git("cat-file", "-t", name).decode().strip()
            self._known[name] = kind, self.git("cat-file", kind, name)
        return self._known[name]

    def size(self, name: str) -> int:
        return int(self.git("cat-file", "-s", name))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "objects.git")


Write = Callable[..., Materialised]


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def write(repository: Repository, destination: Path) -> Write:
    def write(tree: str, **options: object) -> Materialised:
        return materialise(repository.read, tree, destination, size=repository.size, **options)  # type: ignore[arg-type]

    return write


def test_a_tree_arrives_byte_for_byte(repository: Repository, write: Write, destination: Path) -> None:
    script, text, link = (
        repository.blob(b"#!/bin/sh\r\n"),
        repository.blob(b"a\r\n\0$Id$\n"),
        repository.blob(b"../x"),
    )
    deeper = repository.mktree(("100644", b"\xff\n\t name", text))
    below = repository.mktree(
        ("040000", b"deeper", deeper), ("100755", b"run", script), ("120000", b"link", link)
    )
    attributes = repository.blob(b"* text=auto eol=crlf filter=evil ident\n")
    tree = repository.mktree(
        ("040000", b"below", below),
        ("100644", b".gitattributes", attributes),
        ("160000", b"module", "1" * 40),
        ("100644", b"empty", repository.blob(b"")),
    )
    told: list[tuple[int, int]] = []
    written = write(tree, progress=lambda done, total: told.append((done, total)))
    assert written == Materialised(files=4, links=1, folders=2, gitlinks=1, bytes=11 + 9 + 39)
    assert written.entries == 8
    assert (destination / "below/run").read_bytes() == b"#!/bin/sh\r\n"
    assert stat.S_IMODE((destination / "below/run").stat().st_mode) == 0o755
    raw = os.fsencode(destination) + b"/below/deeper/\xff\n\t name"
    assert os.path.getsize(raw) == 9
    assert stat.S_IMODE(os.stat(raw).st_mode) == 0o644
    assert os.readlink(destination / "below/link") == "../x"
    assert list((destination / "module").iterdir()) == []
    assert (destination / "empty").read_bytes() == b""
    assert stat.S_IMODE(destination.stat().st_mode) == 0o700
    assert told[0] == (0, 4)
    assert told[-1] == (4, 4)


def test_the_result_is_what_git_itself_checks_out(
    repository: Repository, write: Write, destination: Path
) -> None:
    blobs = [repository.blob(f"content {number}\n".encode()) for number in range(5)]
    below = repository.mktree(*(("100644", f"f{number}".encode(), one) for number, one in enumerate(blobs)))
    tree = repository.mktree(("040000", b"d", below), ("100755", b"x", blobs[0]), ("120000", b"l", blobs[1]))
    write(tree)
    repository.git(f"--work-tree={destination}", "add", "-A")
    assert repository.git("write-tree").decode().strip() == tree


def test_progress_is_told_on_the_way(repository: Repository, write: Write) -> None:
    blob = repository.blob(b"")
    told: list[tuple[int, int]] = []
    write(
        repository.mktree(*(("100644", b"%04d" % number, blob) for number in range(501))),
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(0, 501), (500, 501), (501, 501)]


def test_old_modes_become_plain_ones(repository: Repository, write: Write, destination: Path) -> None:
    blob = repository.blob(b"x")
    write(repository.tree(("100664", b"group", blob), ("104777", b"setuid", blob)))
    assert stat.S_IMODE((destination / "group").stat().st_mode) == 0o644
    assert stat.S_IMODE((destination / "setuid").stat().st_mode) == 0o755


def test_modes_do_not_depend_on_the_umask(repository: Repository, write: Write, destination: Path) -> None:
    below = repository.mktree(("100755", b"run", repository.blob(b"x")))
    before = os.umask(0o077)
    try:
        write(repository.mktree(("040000", b"below", below)))
    finally:
        os.umask(before)
    assert stat.S_IMODE((destination / "below").stat().st_mode) == 0o755
    assert stat.S_IMODE((destination / "below/run").stat().st_mode) == 0o755


def test_sha256_repositories(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "long.git", "--object-format=sha256")
    tree = repository.mktree(("100644", b"file", repository.blob(b"long names\n")))
    assert len(tree) == 64
    materialise(repository.read, tree, tmp_path / "out", size=repository.size)
    assert (tmp_path / "out/file").read_bytes() == b"long names\n"


NAMES_THAT_WALK = [b".", b"..", b"a/b", b"/etc", b"../escape"]
SPELLINGS_OF_GIT = [
    b".git",
    b".GIT",
    b".Git",
    b"git~1",
    b"GIT~1",
    b".git.",
    b".git ",
    b".git. . ",
    b".git::$INDEX_ALLOCATION",
    b".git\\hooks",
    b".g\xe2\x80\x8cit",
    b"\xef\xbb\xbf.git",
]


@pytest.mark.parametrize("name", NAMES_THAT_WALK + SPELLINGS_OF_GIT)
@pytest.mark.parametrize("nested", [False, True])
def test_B34_names_that_walk_or_address_git_are_refused_before_any_write(
    repository: Repository, write: Write, destination: Path, name: bytes, nested: bool
) -> None:
    bad = repository.tree(("100644", name, repository.blob(b"x")))
    tree = (
        repository.tree(("100644", b"a", repository.blob(b"a")), ("40000", b"vendor", bad)) if nested else bad
    )
    with pytest.raises(FormatError, match="cannot be written"):
        write(tree)
    assert not destination.exists()


@pytest.mark.parametrize(
    "name", [b".gitignore", b".github", b"git", b"agit~1", b"...", b".gitmodules", b"digit"]
)
def test_names_that_only_look_alike_are_written(
    repository: Repository, write: Write, destination: Path, name: bytes
) -> None:
    write(repository.tree(("100644", name, repository.blob(b"x"))))
    assert os.listdir(os.fsencode(destination)) == [name]


def test_B34_a_folder_that_is_a_link_too_is_refused_before_any_write(
    repository: Repository, write: Write, destination: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    below = repository.mktree(("100644", b"pwned", repository.blob(b"x")))
    link = repository.blob(os.fsencode(outside))
    for entries in (
        (("120000", b"a", link), ("40000", b"a", below)),
        (("40000", b"a", below), ("120000", b"a", link)),
        (("100644", b"a", link), ("100644", b"a", link)),
    ):
        with pytest.raises(FormatError, match="twice"):
            write(repository.tree(*entries))
        assert not destination.exists()
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("mode", ["10644", "20644", "60644", "140755", "0"])
def test_B34_devices_and_other_kinds_are_refused(
    repository: Repository, write: Write, destination: Path, mode: str
) -> None:
    with pytest.raises(FormatError, match="no kind that git writes"):
        write(repository.tree((mode, b"device", EMPTY_BLOB)))
    assert not destination.exists()


def test_B34_bytes_that_are_no_tree_are_refused(repository: Repository, write: Write) -> None:
    raw = repository.git(
        "hash-object", "-w", "-t", "tree", "--literally", "--stdin", stdin=b"100644 a"
    ).decode()
    with pytest.raises(FormatError):
        write(raw.strip())


def test_B42_links_lead_where_they_like_and_nothing_follows_them(
    repository: Repository, write: Write, destination: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    target = repository.blob(os.fsencode(victim))
    assert write(repository.mktree(("120000", b"a", target))).links == 1
    assert os.readlink(destination / "a") == str(victim)
    assert victim.read_text() == "untouched"
    assert stat.S_IMODE(victim.stat().st_mode) & 0o111 == 0


@pytest.mark.parametrize("target", [b"", b"a\0b"])
def test_a_link_to_no_path_is_refused(repository: Repository, write: Write, target: bytes) -> None:
    with pytest.raises(FormatError, match="leads to no path"):
        write(repository.mktree(("120000", b"l", repository.blob(target))))


def test_B54_a_bomb_of_nested_trees_is_refused_before_any_write(
    repository: Repository, write: Write, destination: Path
) -> None:
    tree = repository.mktree(("100644", b"f", repository.blob(b"x")))
    for _ in range(10):  # 10^10 files
        tree = repository.mktree(*(("040000", f"d{number}".encode(), tree) for number in range(10)))
    with pytest.raises(CouldNotDecide, match="more than 300 entries"):
        write(tree, limits=TreeLimits(entries=300))
    assert not destination.exists()
    assert len(repository.reads) < 310


LARGE = b"x" * 5000


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (TreeLimits(entries=2), "more than 2 entries"),
        (TreeLimits(bytes=9_999), "larger than 9,999 bytes"),
        (TreeLimits(blob_bytes=4_999), "has 5,000 bytes"),
        (TreeLimits(tree_bytes=60), "larger than 60 bytes"),
        (TreeLimits(depth=0), "more than 0 folders deep"),
    ],
)
def test_B54_what_is_too_large_is_refused_before_it_is_read(
    repository: Repository, write: Write, destination: Path, limits: TreeLimits, message: str
) -> None:
    blob = repository.blob(LARGE)
    below = repository.mktree(("100644", b"c", EMPTY_BLOB))
    repository.blob(b"")
    tree = repository.mktree(("100644", b"a", blob), ("100644", b"b", blob), ("040000", b"d", below))
    with pytest.raises(CouldNotDecide, match=message):
        write(tree, limits=limits)
    assert blob not in repository.reads
    assert not destination.exists()
    assert write(tree).bytes == 10_000


@pytest.mark.parametrize("length", [4096, 70_000])
def test_B35_a_link_longer_than_any_path_is_refused(
    repository: Repository, write: Write, length: int
) -> None:
    with pytest.raises(CouldNotDecide, match="too many to write"):
        write(repository.mktree(("120000", b"l", repository.blob(b"x" * length))))


def test_B35_a_name_longer_than_file_systems_take_is_refused(repository: Repository, write: Write) -> None:
    with pytest.raises(FormatError, match="more than 255 bytes"):
        write(repository.tree(("100644", b"n" * 256, repository.blob(b"x"))))


def test_an_object_of_another_kind_or_size_stops_the_writing(
    repository: Repository, write: Write, destination: Path
) -> None:
    blob, tree = repository.blob(b"12345"), repository.mktree()
    with pytest.raises(ObjectCorrupt, match="where a tree was expected"):
        write(blob)
    with pytest.raises(ObjectCorrupt, match="not the blob that was announced"):
        write(repository.tree(("100644", b"a", tree)))
    lying = repository.mktree(("100644", b"a", blob))
    with pytest.raises(ObjectCorrupt, match="not the blob that was announced"):
        materialise(
            repository.read, lying, destination.with_name("other"), size=lambda one: repository.size(one) + 1
        )


def test_the_destination_must_be_new(repository: Repository, write: Write, destination: Path) -> None:
    tree = repository.mktree(("100644", b"a", repository.blob(b"x")))
    destination.mkdir()
    with pytest.raises(StorageError, match="exists"):
        write(tree)
    destination.rmdir()
    elsewhere = destination.with_name("elsewhere")
    elsewhere.mkdir()
    destination.symlink_to(elsewhere)
    with pytest.raises(StorageError, match="exists"):
        write(tree)
    assert list(elsewhere.iterdir()) == []


def test_a_tree_that_the_disk_cannot_take_is_refused_before_any_write(
    repository: Repository, write: Write, destination: Path
) -> None:
    blob = repository.blob(b"x")
    tree = repository.mktree(("100644", b"a", blob))
    free = os.statvfs(destination.parent)
    huge = free.f_blocks * free.f_frsize + 1

    def size(name: str) -> int:
        return huge if name == blob else repository.size(name)

    with pytest.raises(StorageError, match=" left"):
        materialise(
            repository.read,
            tree,
            destination,
            size=size,
            limits=TreeLimits(bytes=2 * huge, blob_bytes=2 * huge),
        )
    assert not destination.exists()


def test_B61_nothing_of_the_repository_runs(repository: Repository, write: Write, tmp_path: Path) -> None:
    canary = tmp_path / "ran"
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "fsmonitor", "smudge"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {canary}\n")
        (hooks / name).chmod(0o755)
    for key, value in (
        ("core.hooksPath", str(hooks)),
        ("core.fsmonitor", str(hooks / "fsmonitor")),
        ("filter.evil.smudge", str(hooks / "smudge")),
    ):
        repository.git("config", key, value)
    attributes = repository.blob(b"* filter=evil\n")
    write(
        repository.mktree(("100644", b".gitattributes", attributes), ("100644", b"f", repository.blob(b"x")))
    )
    assert not canary.exists()
