"""A start that believes ``audit.index``: what it takes from there, what it never believes, and what finds a change later."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tools_governor import PATIENCE, SAFEAI, Governor
from tools_log import LOG_KEY, LOG_SIGNER, ORIGIN, OTHER_SIGNER

from safeai_git.core.errors import LogProofInvalid
from safeai_git.core.key_list import ListedKey, register_data, revoke_data, revoke_id
from safeai_git.core.log.entry import Draft
from safeai_git.core.log.merkle import consistency_path, leaf_hash, root, verify_consistency, verify_inclusion
from safeai_git.core.log.note import NoteKey
from safeai_git.core.log.proof import LogProof
from safeai_git.governor.audit_log import Receipt
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.open_log import open_file_log
from safeai_git.governor.records import Records
from safeai_git.governor.stores.file import FileStore, Identity
from safeai_git.governor.stores.index_file import INDEX, NOTE, IndexFile
from safeai_git.governor.stores.port import Conflict, LogFailed, Placed
from safeai_git.governor.stores.segments import BLOCK, RECORD, SEGMENT
from safeai_git.governor.stores.tending import Tending, steps
from safeai_git.keys.ed25519 import verify
from safeai_git.keys.signer import load_signer

NOW = 1_767_323_045_000
SIGNER = LogSigner(ORIGIN, [LOG_SIGNER])
IDENTITY = Identity(ORIGIN, SIGNER.keys, verify)
SIZE = 2 * SEGMENT + 300
SMALL = SEGMENT + 300
KEY = ListedKey(OTHER_SIGNER.public, "bot", ("safeai-verdict",))
CHANGES = {
    7: Draft.of_data("keychange", "register", register_data(KEY, reason="new", by="test")),
    SEGMENT + 9: Draft.of_data(
        "keychange", revoke_id(KEY.key_id), revoke_data(KEY.key_id, since=None, reason="lost", by="test")
    ),
}


def draft(number: int) -> Draft:
    return CHANGES.get(number) or Draft.of_data("start", f"id-{number}", {"n": number})


def opened(folder: Path, identity: Identity = IDENTITY, **options: bool) -> FileStore:
    return FileStore.open_folder(folder, identity, reserve=0, **options)


def append(store: FileStore, first: int, end: int, signer: LogSigner = SIGNER) -> None:
    for begin in range(first, end, 1_000):
        done = store.append([draft(at) for at in range(begin, min(begin + 1_000, end))], NOW)
        store.publish(signer.sign(done.size, done.root), done.size)


def tend(store: FileStore, sign: Callable[[str], bytes] = SIGNER.sign_text) -> None:
    """Do at once what is done beside a running log."""
    for rest in steps(store.tended(), sign):
        if rest == 1.0:
            return
        assert not rest, "the index could not be written"


def made(folder: Path, entries: int) -> Path:
    """A log of so many entries, and its index."""
    store = opened(folder)
    append(store, 0, entries)
    tend(store)
    store.close()
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of two segments and some entries, and its index; never changed."""
    folder = made(tmp_path_factory.mktemp("base"), SIZE)
    assert (folder / INDEX).stat().st_size == 2 * RECORD
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of one segment, since what makes a start read everything costs a second for each."""
    return made(tmp_path_factory.mktemp("small"), SMALL)


@pytest.fixture
def less(small: Path, tmp_path: Path) -> Path:
    shutil.copytree(small, tmp_path / "log")
    return tmp_path / "log"


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Path:
    shutil.copytree(base, tmp_path / "log")
    return tmp_path / "log"


def test_a_start_by_the_index_knows_what_reading_everything_says(base: Path, folder: Path) -> None:
    whole, quick = opened(base, whole=True), opened(folder)
    assert (quick.unused, quick.unheld) == ("", 2 * SEGMENT)
    assert whole.unused
    assert (quick.size, quick.root(), quick.tail()) == (whole.size, whole.root(), whole.tail())
    places = [0, 7, 63, 64, 255, 256, SEGMENT - 1, SEGMENT, 2 * SEGMENT - 1, 2 * SEGMENT, SIZE - 1]
    for at in places:
        assert quick.entry(at) == whole.entry(at)
        assert quick.find(draft(at).id) == at
        assert quick.node(0, at) == leaf_hash(quick.entry(at))
    for level in range(18):
        for index in {0, 1, (SEGMENT >> level) - 1, SEGMENT >> level, (SIZE >> level) - 1} - {-1}:
            if (index + 1) << level <= SIZE:
                assert quick.node(level, index) == whole.node(level, index)
            else:
                with pytest.raises(LookupError):
                    quick.node(level, index)
    for at in (-1, SIZE):
        with pytest.raises(LookupError):
            quick.node(0, at)
    assert quick.read(SEGMENT - 70, 700) == whole.read(SEGMENT - 70, 700)
    for old in (1, SEGMENT, SEGMENT + 5, 2 * SEGMENT):
        path = consistency_path(old, SIZE, quick.node)
        verify_consistency(old, SIZE, path, root(old, whole.node), whole.root())
    again = quick.append([draft(3), Draft.of_data("start", "id-4", {"n": 5}), draft(SIZE)], NOW)
    assert again.outcomes == (Placed(3, repeated=True), Conflict(4), Placed(SIZE))
    unless = Draft.of_data("verdict", "late", {}, unless=(revoke_id(KEY.key_id),))
    assert quick.append([unless], NOW).outcomes[0].index == SEGMENT + 9
    assert quick.find("nobody") is None
    tend(quick)
    assert quick.unheld == 0
    whole.close()
    quick.close()


def test_a_segment_that_leaves_memory_is_found_as_before(less: Path) -> None:
    store = opened(less, whole=True)
    before = [store.node(level, (SEGMENT >> level) - 1) for level in range(17)]
    tend(store)
    assert [store.node(level, (SEGMENT >> level) - 1) for level in range(17)] == before
    places = (0, 7, SEGMENT - 1, SEGMENT, SEGMENT + 9, SMALL - 1)
    assert [store.find(draft(at).id) for at in places] == list(places)
    append(store, SMALL, SMALL + 700)
    assert store.append([draft(5), draft(SMALL + 600)], NOW).lines == ()
    store.close()


def test_a_serving_governor_ends_as_one_that_reads_first_would_not_have_begun(tmp_path: Path) -> None:
    governor = Governor(tmp_path, SAFEAI_LOG_ORIGIN=ORIGIN)
    signer = LogSigner(ORIGIN, [load_signer(tmp_path / "keys" / "ed25519.default.sk")])
    store = opened(tmp_path, Identity(ORIGIN, signer.keys, verify))
    append(store, 0, SEGMENT, signer)
    tend(store, signer.sign_text)
    store.close()
    _edited(tmp_path, 1)
    for message in ("are not those|does not carry", "damaged"):
        ended = subprocess.run(
            [*SAFEAI, "serve"], env=governor.environment, capture_output=True, text=True, timeout=PATIENCE
        )
        assert ended.returncode == 3
        assert re.search(message, ended.stderr), ended.stderr
        assert ("after the start" in ended.stderr) == (message != "damaged")


def test_keys_are_those_of_the_whole_log(base: Path, folder: Path) -> None:
    found = []
    for place, whole in ((base, True), (folder, False)):
        log = open_file_log(place, SIGNER, reserve=0, whole=whole)
        records = Records.of(log)
        found.append((records.state.keys.format(), records.state.size, records.follower.size))
        records.close()
        log.close()
    assert found[0] == found[1]
    assert b'"lost"' in found[0][0]


def test_receipts_after_such_a_start_lead_to_the_new_checkpoint(folder: Path) -> None:
    log = open_file_log(folder, SIGNER, reserve=0)
    fresh = log.append(Draft.of_data("start", "fresh", {}))
    assert isinstance(fresh, Receipt)
    for at in (0, SEGMENT, SIZE - 1, fresh.index):
        receipt = log.receipt(at)
        path = LogProof.parse(receipt.proof().format()).path
        verify_inclusion(leaf_hash(receipt.line), at, receipt.size, path, log.store.root())
    log.close()


# what is not believed


def _flip(at: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with (folder / INDEX).open("r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1]))

    return change


def _stranger(folder: Path) -> None:
    text = (folder / NOTE).read_text().rpartition("\n\n")[0] + "\n"
    (folder / NOTE).write_bytes(LogSigner(ORIGIN, [OTHER_SIGNER]).sign_text(text))


def _other_log(folder: Path) -> None:
    """Signed with the same key, of a log with the same name and other entries."""
    other = folder.parent / "other"
    other.mkdir()
    store = opened(other)
    store.append([Draft.of_data("start", "another", {})], NOW)
    append(store, 0, SEGMENT)
    tend(store)
    store.close()
    for name in (INDEX, NOTE):
        shutil.copy(other / name, folder / name)


def _fifo(folder: Path) -> None:
    (folder / INDEX).unlink()
    os.mkfifo(folder / INDEX)


def _link(folder: Path) -> None:
    (folder / INDEX).rename(folder / "elsewhere")
    (folder / INDEX).symlink_to("elsewhere")


def _large(folder: Path) -> None:
    with (folder / NOTE).open("ab") as file:
        file.write(b"x" * 100_000)


HOSTILE: dict[str, Callable[[Path], None]] = {
    "a leaf": _flip(5),
    "the root of a tile": _flip(256 * BLOCK + 40),
    "an offset": _flip(257 * BLOCK + 8),
    "a bit that a key's registration has": _flip(258 * BLOCK),
    "how many ids a shard has": _flip(259 * BLOCK),
    "a tag": _flip(261 * BLOCK),
    "an entry of a tag": _flip(RECORD - 1),
    "its end is gone": lambda folder: os.truncate(folder / INDEX, RECORD - 1),
    "it is empty": lambda folder: os.truncate(folder / INDEX, 0),
    "a note that is garbage": lambda folder: (folder / NOTE).write_bytes(os.urandom(300)),
    "an empty note": lambda folder: os.truncate(folder / NOTE, 0),
    "half a note": lambda folder: os.truncate(folder / NOTE, 150),
    "a note without end": _large,
    "a stranger's key": _stranger,
    "another log": _other_log,
    "a pipe": _fifo,
    "a link": _link,
    "no file": lambda folder: (folder / INDEX).unlink(),
    "a checkpoint as the note": lambda folder: (folder / NOTE).write_bytes(
        (folder / "audit.head").read_bytes()
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_an_index_that_is_not_the_logs_own_is_not_used(less: Path, what: str) -> None:
    HOSTILE[what](less)
    store = opened(less)
    assert store.unused
    assert store.unheld == 0
    assert store.size == SMALL
    assert store.older() is None
    assert store.find("id-3") == 3
    store.close()


def test_records_in_another_order_are_not_used(folder: Path) -> None:
    data = (folder / INDEX).read_bytes()
    (folder / INDEX).write_bytes(data[RECORD:] + data[:RECORD])
    store = opened(folder)
    assert store.unused
    assert store.find(revoke_id(KEY.key_id)) == SEGMENT + 9
    store.close()


def test_an_index_that_was_not_used_is_made_anew(less: Path) -> None:
    _flip(5)(less)
    store = opened(less)
    tend(store)
    assert store.find("id-3") == 3
    store.close()
    store = opened(less)
    assert (store.unused, store.unheld) == ("", SEGMENT)
    store.close()


def test_an_index_of_a_former_key_counts_while_that_has_no_end(less: Path) -> None:
    """Whoever stole it could leave out that a key was revoked, for as long as the rest is not read."""
    with_former = {
        end: Identity(ORIGIN, LogSigner(ORIGIN, [OTHER_SIGNER], [NoteKey.bounded(former)]).keys, verify)
        for end, former in (("", LOG_KEY.format()), ("ended", f"{LOG_KEY.format()}@{SMALL}"))
    }
    store = opened(less, with_former[""])
    assert (store.unused, store.unheld) == ("", SEGMENT)
    store.close()
    store = opened(less, with_former["ended"])
    assert (store.unused, store.unheld, store.size) == ("it is not signed with the log's key", 0, SMALL)
    store.close()


def test_a_former_note_of_this_log_only_makes_the_start_longer(less: Path) -> None:
    former = (less / NOTE).read_bytes()
    store = opened(less)
    append(store, SMALL, 2 * SEGMENT)
    tend(store)
    store.close()
    assert (less / INDEX).stat().st_size == 2 * RECORD
    (less / NOTE).write_bytes(former)
    store = opened(less)
    assert (store.unused, store.unheld, store.size) == ("", SEGMENT, 2 * SEGMENT)
    store.close()


def test_a_key_that_is_no_longer_named_vouches_for_nothing(folder: Path) -> None:
    signer = LogSigner(ORIGIN, [OTHER_SIGNER], SIGNER.keys)
    store = opened(folder, Identity(ORIGIN, signer.keys, verify))
    assert store.unused == ""
    store.close()
    with pytest.raises(LogProofInvalid, match=r"audit\.head"):
        opened(folder, Identity(ORIGIN, signer.signing, verify))


def test_an_index_changed_under_a_running_log_is_seen_where_it_is_read(less: Path) -> None:
    store = opened(less)
    _flip(5)(less)
    with pytest.raises(LogFailed, match="changed while it was open"):
        store.node(0, 0)
    assert store.node(0, 256) == leaf_hash(store.entry(256))
    store.close()


# a log that was changed


def _edited(folder: Path, number: int) -> None:
    """Change an entry of the log, in place."""
    path = folder / "audit.log"
    data = path.read_bytes()
    old = b'"n":%d}' % number
    at = data.index(old)
    with path.open("r+b") as file:
        file.seek(at + len(old) - 2)
        file.write(b"%d" % ((number + 1) % 10))


def test_a_changed_entry_is_refused_where_it_is_read_and_ends_the_log(folder: Path) -> None:
    _edited(folder, 70_001)
    store = opened(folder)
    assert store.size == SIZE, "it was not read"
    assert store.entry(5)
    with pytest.raises(LogFailed, match="was changed"):
        store.append([draft(70_001)], NOW)
    with pytest.raises(LogFailed, match="was changed"):
        store.append([Draft.of_data("start", "new", {})], NOW)
    store.close()
    with pytest.raises(LogProofInvalid, match="damaged"):
        opened(folder)


def _without_commit(folder: Path) -> None:
    """Another signature in one of the first commit lines."""
    path = folder / "audit.log"
    data = path.read_bytes()
    at = data.index(b'{"checkpoint"')
    end = data.index(b"\n", at) - 10
    path.write_bytes(data[:end] + (b"A" if data[end : end + 1] != b"A" else b"B") + data[end + 1 :])


DAMAGES: dict[str, Callable[[Path], None]] = {
    "the first entry": lambda folder: _edited(folder, 1),
    "an entry of the second segment": lambda folder: _edited(folder, SEGMENT + 100),
    "a signature": _without_commit,
}


@pytest.mark.parametrize("what", DAMAGES)
def test_reading_it_all_afterwards_finds_a_change_and_ends_the_log(folder: Path, what: str) -> None:
    DAMAGES[what](folder)
    told: list[LogFailed] = []
    store = opened(folder)
    assert store.size == SIZE
    tending = Tending(store.tended(), SIGNER.sign_text)
    done = threading.Event()

    def failed(failure: LogFailed) -> None:
        told.append(failure)
        done.set()

    tending.start(failed)
    assert done.wait(120)
    tending.close()
    assert len(told) == 1
    assert isinstance(told[0].__cause__, LogProofInvalid)
    with pytest.raises(LogFailed, match="reading it whole"):
        store.append([Draft.of_data("start", "new", {})], NOW)
    with pytest.raises(LogFailed):
        store.publish(SIGNER.sign(store.size, store.root()), store.size)
    store.close()
    with pytest.raises(LogProofInvalid, match="damaged"):
        opened(folder)


def test_who_reads_first_refuses_a_change_at_the_start(folder: Path) -> None:
    _edited(folder, 1)
    with pytest.raises(LogProofInvalid, match="damaged"):
        opened(folder, whole=True)


def test_a_log_cut_off_below_its_index_is_rolled_back(folder: Path) -> None:
    os.truncate(folder / "audit.log", (folder / "audit.log").stat().st_size // 2)
    with pytest.raises(LogProofInvalid, match="rolled back"):
        opened(folder)


def test_an_index_alone_says_that_there_was_a_log(folder: Path) -> None:
    (folder / "audit.log").unlink()
    (folder / "audit.head").unlink()
    with pytest.raises(LogProofInvalid, match="there was a log"):
        opened(folder)


def test_the_tail_is_read_as_strictly_as_ever(folder: Path) -> None:
    _edited(folder, 2 * SEGMENT + 50)
    with pytest.raises(LogProofInvalid, match="damaged"):
        opened(folder)


def test_a_torn_end_is_moved_aside_as_ever(folder: Path) -> None:
    with (folder / "audit.log").open("ab") as file:
        file.write(b'{"seq":')
    store = opened(folder)
    assert store.unused == ""
    assert store.cut is not None
    assert (store.cut.bytes, store.size) == (7, SIZE)
    store.close()


# crashes while the index grows

CHILD = """
import sys
import threading
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_log_index import IDENTITY, SIGNER, IndexFile, opened
folder = Path(sys.argv[2])
index = IndexFile(folder, IDENTITY.origin)
index.claim(IDENTITY.keys, IDENTITY.verify)
list(index.records())
try:
    index.append((folder / "next").read_bytes(), (folder / "root").read_bytes(), SIGNER.sign_text)
except Exception as error:
    print(type(error).__name__)
    index.append((folder / "next").read_bytes(), (folder / "root").read_bytes(), SIGNER.sign_text)
"""


@pytest.mark.parametrize("fault", ["signal=KILL", "error=ENOSPC", "error=EIO"])
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync", "fsync", "rename"])
def test_a_crash_while_the_index_grows_leaves_the_old_one_or_the_new(
    base: Path, tmp_path: Path, call: str, fault: str
) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is needed to make system calls fail; apt-get install strace")
    tried = subprocess.run(
        [strace, "-o", os.devnull, "-e", "inject=chdir:error=EIO", "true"], capture_output=True
    )
    if tried.returncode != 0:
        pytest.skip(f"strace may not trace here: {tried.stderr.decode(errors='replace').strip()[:200]}")
    store = opened(base)
    data = (base / INDEX).read_bytes()
    (tmp_path / "next").write_bytes(data[RECORD:])
    (tmp_path / "root").write_bytes(root(2 * SEGMENT, store.node))
    small = IndexFile(tmp_path, ORIGIN)
    small.salt = store.tended().index.salt
    small.append(data[:RECORD], root(SEGMENT, store.node), SIGNER.sign_text)
    small.close()
    store.close()
    for name in ("audit.log", "audit.head"):
        shutil.copy(base / name, tmp_path / name)
    child = [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(tmp_path)]
    ended = subprocess.run(
        [strace, "-f", "-o", os.devnull, "-e", f"inject={call}:{fault}:when=1", *child],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == (-9 if fault == "signal=KILL" else 0), ended.stderr
    assert fault == "signal=KILL" or "Error" in ended.stdout
    store = opened(tmp_path)
    assert store.unused == ""
    assert store.unheld in ({SEGMENT, 2 * SEGMENT} if fault == "signal=KILL" else {2 * SEGMENT})
    assert store.size == SIZE
    assert store.find(revoke_id(KEY.key_id)) == SEGMENT + 9
    store.close()
