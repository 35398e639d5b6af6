"""Trees kept between replays: what is shown is the proposed tree, what is kept is never written by a check."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if sys.platform != "linux":
    pytest.skip("kept trees need Linux", allow_module_level=True)

import fcntl

from conftest import POLICY
from tools_cli import make

from safeai_git.core.errors import FormatError, ObjectMissing, SandboxUnavailable
from safeai_git.git import division, proposed_tree, tree_cache
from safeai_git.git.libgit2 import Libgit2Store
from safeai_git.git.materialise import materialise
from safeai_git.git.proposed_tree import Laid
from safeai_git.git.tree_plan import Materialised
from safeai_git.sandbox import choose
from safeai_git.sandbox.layout import policy_mounts
from safeai_git.sandbox.port import Backend, Job, Outcome
from safeai_git.sandbox.scratch import remove_tree

PROJECT = Path(__file__).resolve().parents[1]
MOUNTED_AT = Path("/srv/tree")
Tree = dict[str, Any]

# Prints what a tree holds, however it is put together: run on this side and inside.
LISTING = """
import hashlib, json, os, stat
found = {}
for folder, folders, files in os.walk("."):
    for name in folders + files:
        path = os.path.join(folder, name)
        status = os.lstat(path)
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFLNK:
            what = os.readlink(path)
        else:
            what = oct(stat.S_IMODE(status.st_mode))
            if kind == stat.S_IFREG:
                what += hashlib.sha256(open(path, "rb").read()).hexdigest()
        found[ascii(path)] = [kind, ascii(what)]
print(json.dumps(found, sort_keys=True))
"""


def _level_a() -> Backend | str:
    try:
        return choose(state_dir=None, least="A")
    except SandboxUnavailable as error:
        return error.message


LEVEL_A = _level_a()
layered = pytest.mark.skipif(isinstance(LEVEL_A, str), reason=f"no overlay: {LEVEL_A}")


class Objects:
    """A bare repository, and trees in it made of what Python has: text, `Link`, ``None`` for a gitlink, dicts."""

    def __init__(self, folder: Path) -> None:
        subprocess.run(["git", "init", "-q", "--bare", folder], check=True, env={"PATH": os.defpath})
        self.folder = folder
        self.store = Libgit2Store(folder / "objects")

    def tree(self, content: Tree) -> str:
        entries = []
        for name, what in content.items():
            raw = os.fsencode(name)
            if isinstance(what, dict):
                entries.append((b"40000", raw, self.tree(what)))
            elif what is None:
                entries.append((b"160000", raw, "1" * 40))
            else:
                mode, text = what if isinstance(what, tuple) else ("100644", what)
                entries.append((mode.encode(), raw, self.store.write("blob", text.encode())))
        entries.sort(key=lambda one: one[1] + b"/" * (one[0] == b"40000"))
        return self.raw(*entries)

    def raw(self, *entries: tuple[bytes, bytes, str]) -> str:
        data = b"".join(mode + b" " + name + b"\0" + bytes.fromhex(one) for mode, name, one in entries)
        return self.store.write("tree", data)


class Bench:
    """A cache of its own and a repository."""

    def __init__(self, place: Path, objects: Objects) -> None:
        self.place = place
        self.objects = objects
        self.owner = None
        if not isinstance(LEVEL_A, str) and LEVEL_A.identity is not None:
            self.owner = (LEVEL_A.identity.uid, LEVEL_A.identity.gid)

    def laid(self, tree: Tree | str, **more: Any) -> Any:
        name = tree if isinstance(tree, str) else self.objects.tree(tree)
        return proposed_tree.proposed_tree(
            self.objects.store,
            name,
            repository=self.objects.folder,
            layered=True,
            owner=self.owner,
            environ={"SAFEAI_TREES": str(self.place), **more},
        )

    def run(self, laid: Laid, *command: str) -> Outcome:
        assert not isinstance(LEVEL_A, str)
        return LEVEL_A.run(
            Job(
                "listing", command, laid.tree, MOUNTED_AT, below=laid.below, tree_entries=laid.written.entries
            )
        )

    def inside(self, tree: Tree | str) -> tuple[dict[str, Any], Materialised, tuple[Path, ...]]:
        with self.laid(tree) as laid:
            outcome = self.run(laid, "/usr/bin/python3", "-I", "-S", "-c", LISTING)
            assert outcome.passed, outcome.output
            return json.loads(outcome.output), laid.written, laid.below

    def whole(self, tree: Tree | str, scratch: Path) -> tuple[dict[str, Any], Materialised]:
        name = tree if isinstance(tree, str) else self.objects.tree(tree)
        store = self.objects.store
        target = Path(tempfile.mkdtemp(dir=scratch)) / "whole"
        written = materialise(store.read, name, target, size=lambda one: store.header(one)[1])
        return listing(target), written

    def entries(self) -> list[Path]:
        return sorted(self.place.iterdir())


def listing(folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LISTING], cwd=folder, capture_output=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="session")
def shared_bench() -> Iterator[Bench]:
    with _bench() as bench:
        yield bench


@pytest.fixture
def bench() -> Iterator[Bench]:
    with _bench() as bench:
        yield bench


class _bench:  # noqa: N801 - used like a function
    def __enter__(self) -> Bench:
        memory = Path("/dev/shm")
        self.folder = Path(
            tempfile.mkdtemp(prefix="safeai-tests-", dir=memory if os.access(memory, os.W_OK) else None)
        )
        self.folder.chmod(0o711)
        place = self.folder / "trees"
        place.mkdir(mode=0o711)
        place.chmod(0o711)
        return Bench(place, Objects(self.folder / "objects.git"))

    def __exit__(self, *_: object) -> None:
        remove_tree(self.folder)


# ---- what is shown is what would have been written

NAMES = st.sampled_from(["a", "b", "c", "d.txt", "Ü", "-e"])
TEXT = st.sampled_from(["", "one\n", "two\r\n", "x" * 5000])
FILES = st.one_of(TEXT, TEXT.map(lambda text: ("100755", text)))
LINKS = st.sampled_from(["a", "../b", "/etc/passwd", "c/d"]).map(lambda target: ("120000", target))
LEAVES = st.one_of(FILES, LINKS, st.none())
TREES = st.recursive(
    st.dictionaries(NAMES, LEAVES, max_size=4),
    lambda below: st.dictionaries(NAMES, st.one_of(LEAVES, below), max_size=5),
    max_leaves=12,
)


@layered
@given(old=TREES, new=TREES)
@settings(max_examples=40)
def test_B66_any_tree_upon_any_other_is_what_is_written_whole(
    shared_bench: Bench, tmp_path_factory: pytest.TempPathFactory, old: Tree, new: Tree
) -> None:
    tree_cache.clear(shared_bench.place)
    shared_bench.inside(old)
    shown, written, below = shared_bench.inside(new)
    assert len(below) == 1
    assert (shown, written) == shared_bench.whole(new, tmp_path_factory.mktemp("whole"))
    assert len(shared_bench.entries()) == 1, "a second tree was written although a layer would have done"


SWAPS: dict[str, tuple[Tree, Tree]] = {
    "file becomes folder": ({"a": "text"}, {"a": {"b": {"c": "text"}}}),
    "folder becomes file": ({"a": {"b": {"c": "text"}, "d": "e"}}, {"a": "text"}),
    "folder becomes link": ({"a": {"b": "text"}, "c": {"b": "2"}}, {"a": ("120000", "c"), "c": {"b": "2"}}),
    "link becomes folder": ({"a": ("120000", "c"), "c": {"b": "2"}}, {"a": {"b": "text"}, "c": {"b": "2"}}),
    "folder becomes submodule": ({"a": {"b": "text", "c": {"d": "e"}}}, {"a": None}),
    "submodule becomes folder": ({"a": None}, {"a": {"b": "text"}}),
    "submodule becomes file": ({"a": None}, {"a": "text"}),
    "file becomes submodule": ({"a": "text"}, {"a": None}),
    "mode": ({"a": "text", "b": ("100755", "t")}, {"a": ("100755", "text"), "b": "t"}),
    "file becomes link": ({"a": "b", "b": ""}, {"a": ("120000", "b"), "b": ""}),
    "all but one gone": ({"a": {"b": "1", "c": "2"}, "d": {"e": {"f": "3"}}}, {"a": {"c": "2"}}),
    "everything gone": ({"a": {"b": "1"}, "c": "2"}, {}),
    "folder becomes empty": ({"a": {"b": "1"}}, {"a": {}}),
    "a folder moves": ({"a": {"x": {"y": "1"}}}, {"b": {"x": {"y": "1"}}}),
    "nothing": ({"a": {"b": "1"}}, {"a": {"b": "1"}}),
}


@layered
@pytest.mark.parametrize("swap", SWAPS)
def test_B66_what_changes_its_kind(bench: Bench, tmp_path: Path, swap: str) -> None:
    old, new = SWAPS[swap]
    bench.inside(old)
    shown, written, below = bench.inside(new)
    assert (shown, written) == bench.whole(new, tmp_path)
    assert len(below) == 1


@layered
def test_what_is_too_different_becomes_an_entry_of_its_own(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proposed_tree, "LEAST_LAYER", 3)
    bench.inside({"a": "1"})
    other = {name: name for name in "bcdefg"}
    shown, written, _ = bench.inside(other)
    assert (shown, written) == bench.whole(other, tmp_path)
    assert len(bench.entries()) == 2


@pytest.mark.parametrize("name", [b".git", b".GIT", b"git~1", b".git ", b"..", b"."])
@pytest.mark.parametrize("warm", [False, True])
def test_B34_names_are_refused_in_a_layer_too(bench: Bench, name: bytes, warm: bool) -> None:
    blob = bench.objects.store.write("blob", b"text")
    if warm:
        with bench.laid({"a": {"b": "text"}, "c": "d"}):
            pass
    below = bench.objects.raw((b"100644", name, blob))
    with (
        pytest.raises(FormatError, match=r"cannot be written: "),
        bench.laid(bench.objects.raw((b"40000", b"a", below), (b"100644", b"c", blob))),
    ):
        pass
    assert len(bench.entries()) == warm


# ---- what is kept is never written by a check

HOSTILE = """
echo evil > kept; echo evil >> folder/kept; chmod 777 kept folder; truncate -s 0 program; rm -rf folder; mv link other
ln kept hard; ln -sf /etc/passwd kept2; touch -d @1 program; mkdir new; echo evil > new/file; mkfifo new/pipe
python3 -I -S -c '
import os, mmap
file = os.open("mapped", os.O_RDWR)
memory = mmap.mmap(file, 0)
memory[:4] = b"evil"
for name in ("user.overlay.opaque", "user.overlay.whiteout", "trusted.overlay.opaque"):
    try:
        os.setxattr("mapped", name, b"y")
    except OSError:
        pass
'
find / -xdev -name 'kept' -writable -exec sh -c 'echo evil > "$1"' sh {} ';' 2>/dev/null
echo tried everything
"""


@layered
def test_B67_what_a_check_writes_never_reaches_the_kept_tree(bench: Bench, tmp_path: Path) -> None:
    content = {
        "kept": "good",
        "folder": {"kept": "good"},
        "program": ("100755", "good"),
        "link": ("120000", "kept"),
        "mapped": "good",
    }
    before, _, _ = bench.inside(content)
    (entry,) = bench.entries()
    with bench.laid(content) as laid:
        outcome = bench.run(laid, "/bin/sh", "-c", HOSTILE)
    assert outcome.output.endswith(b"tried everything\n")
    assert listing(entry / "tree") == before == bench.whole(content, tmp_path)[0]
    assert bench.inside(content)[0] == before
    assert bench.entries() == [entry]


# ---- what is kept is believed only while nothing has touched it


def _change_content(entry: Path) -> None:
    (entry / "tree/folder/kept").write_text("evil")


def _rewrite_seal(**changed: Any) -> Any:
    def change(entry: Path) -> None:
        seal = json.loads((entry / "seal").read_text())
        (entry / "seal").write_text(json.dumps({**seal, **changed}))

    return change


def _swap(entry: Path) -> None:
    (entry / "tree").rename(entry / "old")
    shutil.copytree(entry / "old", entry / "tree")


def _hidden_change(entry: Path) -> None:
    file = entry / "tree/folder/kept"
    times = file.stat()
    file.write_text("evil")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


HARM: dict[str, Any] = {
    "content": _change_content,
    "content, with its time put back": _hidden_change,
    "a mode": lambda entry: (entry / "tree/folder/kept").chmod(0o755),
    "a file more": lambda entry: (entry / "tree/folder/more").write_text("x"),
    "a file less": lambda entry: (entry / "tree/folder/kept").unlink(),
    "another tree in its place": _swap,
    "no tree": lambda entry: shutil.rmtree(entry / "tree"),
    "no seal": lambda entry: (entry / "seal").unlink(),
    "half a seal": lambda entry: os.truncate(entry / "seal", 40),
    "a seal that is a list": lambda entry: (entry / "seal").write_text("[]"),
    "no lock": lambda entry: (entry / "lock").unlink(),
    "another start of the machine": _rewrite_seal(boot="another"),
    "another owner": _rewrite_seal(owner=[1, 1]),
    "another tree's seal": _rewrite_seal(tree="0" * 40),
    "another format": _rewrite_seal(format=0),
}


@layered
@pytest.mark.parametrize("harm", HARM)
def test_a_kept_tree_that_was_touched_is_written_anew(bench: Bench, tmp_path: Path, harm: str) -> None:
    content: Tree = {"folder": {"kept": "good", "other": "x"}}
    bench.inside(content)
    (entry,) = bench.entries()
    number = (entry / "tree").stat().st_ino
    HARM[harm](entry)
    shown, _, _ = bench.inside({**content, "more": "x"})
    assert shown == bench.whole({**content, "more": "x"}, tmp_path)[0]
    assert bench.inside(content)[0] == bench.whole(content, tmp_path)[0]
    assert all((one / "tree").stat().st_ino != number for one in bench.entries())


@layered
def test_a_large_kept_tree_is_looked_at_again_after_a_while(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_cache, "SMALL", 1)
    content: Tree = {"folder": {"kept": "good"}}
    before = bench.inside(content)[0]
    (entry,) = bench.entries()
    monkeypatch.setattr(tree_cache, "BETWEEN_LOOKS_SECONDS", -1.0)
    looked = json.loads((entry / "seal").read_text())["looked"]
    assert bench.inside(content)[0] == before
    assert json.loads((entry / "seal").read_text())["looked"] > looked
    _change_content(entry)
    assert bench.inside(content)[0] == before


# ---- several processes, killed ones, and no end of trees

WRITER = """
import sys, time
from pathlib import Path
from safeai_git.git import materialise
from safeai_git.git.proposed_tree import proposed_tree
from safeai_git.git.libgit2 import Libgit2Store
folder, tree, place, stop = sys.argv[1:]
store, plain = Libgit2Store(Path(folder, "objects")), Libgit2Store.read
read_here = []
def read(self, name):
    kind, data = plain(self, name)
    read_here.append(kind)
    if stop == "stop" and data == b"the last one":
        print("writing", flush=True)
        time.sleep(600)
    return kind, data
Libgit2Store.read = read
owner = eval(sys.stdin.readline())
with proposed_tree(store, tree, repository=Path(folder), layered=True, owner=owner,
                   environ={"SAFEAI_TREES": place}) as laid:
    print(len(laid.below), laid.written.files, read_here.count("blob"), flush=True)
"""


def _writer(bench: Bench, tree: str, stop: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(bench.objects.folder), tree, str(bench.place), stop]
    process = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write(f"{bench.owner!r}\n")
    process.stdin.flush()
    return process


@layered
def test_a_killed_writer_leaves_nothing_that_is_believed(bench: Bench, tmp_path: Path) -> None:
    content: Tree = {"a": "1", "b": {"c": "2"}, "z": "the last one"}
    name = bench.objects.tree(content)
    with _writer(bench, name, "stop") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        (half,) = bench.entries()
        assert half.name.startswith("new-")
        tree_cache.clear(bench.place)
        assert bench.entries() == [half], "a writer that lives is left alone"
        process.send_signal(signal.SIGKILL)
    assert bench.inside(name)[0] == bench.whole(name, tmp_path)[0]
    (entry,) = bench.entries()
    assert entry.name.endswith(name)


def test_several_processes_at_once_make_one_entry(bench: Bench) -> None:
    name = bench.objects.tree({str(number): str(number) for number in range(300)})
    writers = [_writer(bench, name, "go") for _ in range(4)]
    for process in writers:
        out, _ = process.communicate(timeout=60)
        assert (process.returncode, out.split()[:2]) == (0, ["1", "300"])
    assert [one.name[-40:] for one in bench.entries()] == [name]


@pytest.mark.parametrize("moment", ["before the lock is made", "before the lock is held"])
def test_an_entry_that_is_being_begun_is_not_taken_for_a_leftover(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    steps, removed = [os, fcntl][moment.endswith("held")], []
    name = {os: "open", fcntl: "flock"}[steps]
    plain = getattr(steps, name)

    def interrupted(*arguments: Any, **named: Any) -> Any:
        begun = [one.name for one in bench.entries() if one.name.startswith("new-")]
        if begun and not removed:
            removed.extend(begun)
            monkeypatch.setattr(steps, name, plain)
            tree_cache.evict(bench.place)
        return plain(*arguments, **named)

    monkeypatch.setattr(steps, name, interrupted)
    with bench.laid({"a": "1"}) as laid:
        assert len(laid.below) == 1
    assert len(removed) == 1
    assert [one.name[:4] for one in bench.entries()] != ["new-"]
    assert len(bench.entries()) == 1


def test_where_others_remove_what_is_begun_each_time_the_tree_is_written_whole(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = fcntl.flock

    def interrupted(descriptor: int, how: int) -> None:
        for one in bench.entries():
            one.rename(bench.place / "elsewhere")
            shutil.rmtree(bench.place / "elsewhere")
        plain(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", interrupted)
    with bench.laid({"a": "1"}) as laid:
        assert laid.below == ()
        assert (laid.tree / "a").read_text() == "1"


def test_where_nothing_can_be_locked_the_tree_is_written_whole(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_descriptor: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    with bench.laid({"a": "1"}) as laid:
        assert laid.below == ()


def test_an_entry_in_use_stays(bench: Bench) -> None:
    with bench.laid({"a": "1"}) as laid:
        assert tree_cache.clear(bench.place).entries == 1
        assert (laid.below[0] / "a").read_text() == "1"
    assert tree_cache.clear(bench.place).entries == 0
    assert bench.entries() == []


def test_few_trees_of_a_repository_are_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposed_tree, "LEAST_LAYER", 0)
    names = [bench.objects.tree({"a": str(number)}) for number in range(5)]
    begun = time.time() - 100
    for number, name in enumerate(names):
        with bench.laid(name) as laid:
            os.utime(laid.below[0].parent / "lock", (number, begun + number))
    kept = {one.name[-40:] for one in bench.entries()}
    assert kept == set(names[-tree_cache.MOST_OF_ONE :])


def test_what_was_used_longest_ago_goes_first(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that was looked at, and was of no use, was not used."""
    monkeypatch.setattr(proposed_tree, "LEAST_LAYER", 0)
    names = [bench.objects.tree({"a": str(number)}) for number in range(tree_cache.MOST_OF_ONE + 1)]
    *kept, last = names
    begun = time.time() - 100
    for number, name in enumerate(kept):
        with bench.laid(name) as laid:
            lock = laid.below[0].parent / "lock"
            os.utime(lock, (number, begun + number))
    with bench.laid(kept[0]):
        pass
    with bench.laid(last):
        pass
    assert {one.name[-40:] for one in bench.entries()} == {last, *kept} - {kept[1]}


def test_old_entries_and_too_many_bytes_go(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposed_tree, "LEAST_LAYER", 0)
    for number in range(2):
        with bench.laid({"a": str(number)}):
            pass
    first, second = bench.entries()
    os.utime(first / "lock", (1, time.time() - tree_cache.LONGEST_UNUSED_SECONDS - 1))
    tree_cache.evict(bench.place)
    assert bench.entries() == [second]
    tree_cache.evict(bench.place, room=tree_cache.MOST_BYTES)
    assert bench.entries() == []


def test_a_tree_that_is_too_large_to_be_kept_is_written_whole(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_cache, "MOST_BYTES", 8192)
    with bench.laid({"a": "x" * 20_000}) as laid:
        assert laid.below == ()
        assert (laid.tree / "a").stat().st_size == 20_000
    assert bench.entries() == []


def test_a_folder_that_others_can_write_is_not_used(bench: Bench, tmp_path: Path) -> None:
    bench.place.chmod(0o777)
    with bench.laid({"a": "1"}) as laid:
        assert laid.below == ()
    assert bench.entries() == []
    link = tmp_path / "link"
    bench.place.chmod(0o711)
    link.symlink_to(bench.place)
    assert tree_cache.default_place({"SAFEAI_TREES": str(link)}) is None
    assert tree_cache.default_place({"SAFEAI_TREES": ""}) is None
    assert tree_cache.default_place({"SAFEAI_TREES": str(tmp_path / "no/such")}) is None


# ---- a large tree is written by two processes


def _large(objects: Objects, number: int) -> tuple[Tree, str]:
    content = {
        f"folder{folder}": {f"file{file}": f"{folder} {file}" for file in range(25)}
        for folder in range(number // 25)
    }
    content["links"] = {"a": ("120000", "../folder1/file1")}
    return content, objects.tree(content)


def test_two_processes_write_what_one_would(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, name = _large(bench.objects, division.WORTH_IT)
    with _writer(bench, name, "go") as process:  # one without threads, whatever runs the tests
        out, _ = process.communicate(timeout=60)
    layers, files, read_by_one = map(int, out.split())
    assert layers == 1
    if len(os.sched_getaffinity(0)) > 1:
        assert read_by_one < 0.7 * files
    (entry,) = bench.entries()
    monkeypatch.setattr(tree_cache, "BETWEEN_LOOKS_SECONDS", -1.0)
    number = (entry / "tree").stat().st_ino
    with bench.laid(name):
        assert (entry / "tree").stat().st_ino == number, "what both saw does not add up to what there is"
    two = listing(entry / "tree")
    monkeypatch.setattr(division, "WORTH_IT", 10**9)
    assert bench.whole(name, tmp_path)[0] == two


def test_an_error_of_either_process_is_told(bench: Bench, tmp_path: Path) -> None:
    content, name = _large(bench.objects, division.WORTH_IT)
    for folder in ("folder3", "folder40", "folder79"):
        lost = hashlib.sha1(f"blob {len(content[folder]['file7'])}\0{content[folder]['file7']}".encode())
        place = bench.objects.folder / "objects" / lost.hexdigest()[:2] / lost.hexdigest()[2:]
        away = bench.objects.folder / "away"
        place.rename(away)
        store = Libgit2Store(bench.objects.folder / "objects")
        with pytest.raises(ObjectMissing, match=lost.hexdigest()):
            # Sizes as they were: the loss shows while it is written.
            materialise(store.read, name, tmp_path / folder, size=_sizes(bench, place, away))
        away.rename(place)


@layered
def test_one_git_is_not_asked_by_two_processes(tmp_path: Path, environment: dict[str, str]) -> None:
    """The objects of a SHA-256 repository come from ``git cat-file``, which answers one at a time."""
    repo = make(tmp_path / "repository", environment, "--object-format=sha256")
    check = "checks: [{name: look, run: 'cat src/*/* | cksum', paths: ['**']}]\n"
    repo.write(".safeai/policy.yaml", POLICY + check)
    repo.git("add", "-A")
    repo.git("commit", "-qm", "policy")
    for number in range(division.WORTH_IT):
        repo.write(f"src/{number // 25}/f{number}", f"{number}\n")
    repo.git("add", "-A")
    done = repo.safeai("replay", "--staged")
    assert done.code == 0, done.both
    summed = subprocess.run(["/bin/sh", "-c", "cat src/*/* | cksum"], cwd=repo.path, capture_output=True)
    assert summed.stdout.decode().strip() in done.both


def _sizes(bench: Bench, place: Path, away: Path) -> Any:
    def size(name: str) -> int:
        if place.name == name[2:]:
            return len(zlib.decompress(away.read_bytes()).partition(b"\0")[2])
        return bench.objects.store.header(name)[1]

    return size


# ---- where it shows


def test_a_mount_inside_the_tree_sees_all_layers(bench: Bench, tmp_path: Path) -> None:
    point = tmp_path / "repository/env"
    point.mkdir(parents=True)

    def asked(tree: Tree) -> str:
        with bench.laid(tree) as laid:
            job = Job("j", ("x",), laid.tree, point.parent, below=laid.below, read_only=(point,))
            try:
                return str(len(policy_mounts(job, None)))
            except SandboxUnavailable as error:
                return error.message.rpartition(": ")[2]

    base: Tree = {"env": {"python": "x"}, "a": "1"}
    taken = "the proposed tree has env of its own"
    assert asked(base) == taken
    assert asked({**base, "a": "2"}) == taken
    assert asked({"a": "1"}) == "1", "the layer takes it away"
    assert asked({"a": "1", "env": {}}) == "1"
    assert asked({"a": "1", "env": {"node": "y"}}) == taken
    assert asked({"a": "1", "env": "file"}) == taken
    assert asked({"a": "1", "env": ("120000", "a")}) == taken
