"""The store port: one contract, run against each store; then what only the file store promises, broken on purpose."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from tools_cli import PATIENCE
from tools_log import LOG_KEY, LOG_SIGNER, ORIGIN, OTHER_SIGNER
from tools_postgres import cluster  # noqa: F401 - a fixture

from safeai_git.core.envelope import Envelope, Signature
from safeai_git.core.errors import KeyUnusable, LogProofInvalid, StorageError
from safeai_git.core.log import base64
from safeai_git.core.log.checkpoint import Checkpoint, open_checkpoint
from safeai_git.core.log.entry import Draft, Entry, completed, parse_time
from safeai_git.core.log.merkle import consistency_path, leaf_hash, verify_consistency
from safeai_git.core.log.note import Note
from safeai_git.core.log.proof import LogProof, verify_proof
from safeai_git.governor.audit_log import AuditLog, Receipt, Ticket
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.open_log import open_file_log, start_log
from safeai_git.governor.stores.file import FileStore, Identity
from safeai_git.governor.stores.memory import MemoryStore
from safeai_git.governor.stores.port import Barred, Conflict, LogFailed, LogFull, Placed, Store
from safeai_git.keys.ed25519 import verify

SIGNER = LogSigner(ORIGIN, [LOG_SIGNER])
IDENTITY = Identity(ORIGIN, (LOG_KEY,), verify)
NOW = 1_767_323_045_678

Opener = Callable[[], Store]


def draft(number: int, text: str = "") -> Draft:
    return Draft.of_data("policy", f"id-{number}", {"text": text})


@pytest.fixture(params=["memory", "file", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store
    if request.param == "memory":
        made = MemoryStore()
    elif request.param == "file":
        made = FileStore.open_folder(tmp_path, IDENTITY)
    else:
        url = request.getfixturevalue("cluster").url
        from safeai_git.governor.stores.postgres import PostgresStore

        made = PostgresStore(url, str(tmp_path))
    yield made
    made.close()


def open_log(folder: Path, **options: object) -> AuditLog:
    return open_file_log(folder, SIGNER, reserve=0, **options)  # type: ignore[arg-type]


# the contract


def test_places_are_given_in_order_and_kept(store: Store) -> None:
    appended = store.append([draft(number) for number in range(3)], NOW)
    assert appended.outcomes == (Placed(0), Placed(1), Placed(2))
    assert (appended.size, store.size, appended.before.size) == (3, 3, 0)
    assert appended.root == store.root()
    appended = store.append([draft(3)], NOW)
    assert appended.outcomes == (Placed(3),)
    assert appended.before.size == 3
    lines = [store.entry(index) for index in range(4)]
    entries = [Entry.parse(line) for line in lines]
    assert [one.seq for one in entries] == [0, 1, 2, 3]
    assert [one.id for one in entries] == ["id-0", "id-1", "id-2", "id-3"]
    assert entries[0].prev == ""
    assert all(
        two.prev == base64.encode(leaf_hash(one))
        for one, two in pairwise([*lines])
        for two in [Entry.parse(two)]
    )
    assert [store.node(0, index) for index in range(4)] == [leaf_hash(line) for line in lines]
    for index in (-1, 4):
        with pytest.raises(LookupError):
            store.entry(index)
        with pytest.raises(LookupError):
            store.node(0, index)


def test_a_retry_finds_its_entry_and_another_body_does_not(store: Store) -> None:
    store.append([draft(1), draft(2)], NOW)
    again = store.append([draft(2), draft(3), draft(3), draft(1, "other"), draft(3, "other")], NOW)
    assert again.outcomes == (
        Placed(1, repeated=True),
        Placed(2),
        Placed(2, repeated=True),
        Conflict(0),
        Conflict(2),
    )
    assert store.size == 3
    assert store.append([draft(1)], NOW).lines == ()


def test_entries_are_read_in_a_row_and_the_tail_is_where_they_end(store: Store) -> None:
    assert (store.tail(), store.read(0, 10)) == ((0, ""), [])
    for begin in range(0, 150, 50):
        appended = store.append([draft(number) for number in range(begin, begin + 50)], NOW)
        store.publish(SIGNER.sign(appended.size, appended.root), appended.size)
    lines = [store.entry(index) for index in range(150)]
    for first, most in ((0, 1000), (0, 1), (63, 3), (149, 5), (10, 0)):
        assert store.read(first, most) == lines[first : first + most]
    assert store.read(150, 5) == store.read(10_000, 5) == []
    assert store.tail() == (150, base64.encode(leaf_hash(lines[-1])))


def test_an_entry_keeps_others_out_and_not_those_that_were_there_before(store: Store) -> None:
    def late(number: int) -> Draft:
        return Draft.of_data("verdict", f"late-{number}", {}, unless=("none", "id-1"))

    assert store.append([late(1)], NOW).outcomes == (Placed(0),)
    in_one_batch = store.append([late(2), draft(1), late(3)], NOW)
    assert in_one_batch.outcomes == (Placed(1), Placed(2), Barred(2))
    assert store.append([late(4), late(1)], NOW).outcomes == (Barred(2), Placed(0, repeated=True))
    assert store.size == 3


def test_time_does_not_go_back_and_says_where_it_would_have(store: Store) -> None:
    store.append([draft(1)], NOW)
    store.append([draft(2)], NOW)
    store.append([draft(3)], NOW - 3_600_000)
    store.append([draft(4)], NOW + 315_360_000_000)
    times = [parse_time(Entry.parse(store.entry(index)).time) for index in range(4)]
    assert times == [NOW, NOW, NOW, NOW + 315_360_000_000]
    skews = [b'"clock_skew":' in store.entry(index) for index in range(4)]
    assert skews == [False, False, True, False]
    assert b'"clock_skew":-3600000,' in store.entry(2)


def test_every_size_is_consistent_with_every_earlier_one(store: Store) -> None:
    roots = [store.root()]
    for number in range(40):
        roots.append(store.append([draft(number)], NOW).root)
    for new in range(41):
        for old in range(new + 1):
            verify_consistency(old, new, consistency_path(old, new, store.node), roots[old], roots[new])


def test_the_newest_checkpoint_is_published(store: Store) -> None:
    assert store.published is None
    appended = store.append([draft(1)], NOW)
    note = SIGNER.sign(appended.size, appended.root)
    store.publish(note, 1)
    assert store.published == note
    store.remember()


# the log over a store


@pytest.fixture
def log(store: Store) -> Iterator[AuditLog]:
    made = start_log(store, SIGNER)
    yield made
    made.close()


def test_a_receipt_is_checked_offline_with_the_envelope_alone(log: AuditLog) -> None:
    envelope = Envelope("application/vnd.in-toto+json", b"{}", (Signature("SHA256:" + "A" * 43, bytes(64)),))
    receipts = [log.append(Draft.of_envelope("verdict", f"v{number}", envelope)) for number in range(20)]
    for receipt in receipts:
        assert isinstance(receipt, Receipt)
        proof = LogProof.parse(receipt.proof().format())
        assert proof.extra is not None
        line = completed(proof.extra, envelope.format())
        assert line == receipt.line == log.store.entry(receipt.index)
        opened = verify_proof(proof, leaf_hash(line), ORIGIN, [LOG_KEY], verify)
        assert opened.checkpoint.size == receipt.size > receipt.index
        with pytest.raises(LogProofInvalid):
            verify_proof(proof, leaf_hash(line + b" "), ORIGIN, [LOG_KEY], verify)


def test_a_retry_storm_makes_one_entry(log: AuditLog) -> None:
    tickets: list[Ticket] = []

    def storm() -> None:
        tickets.extend(log.submit([draft(7)]) for _ in range(100))

    threads = [threading.Thread(target=storm) for _ in range(10)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    results = [ticket.wait(PATIENCE)[0] for ticket in tickets]
    assert len(results) == 1000
    assert {one.index for one in results} == {1}
    assert {one.line for one in results if isinstance(one, Receipt)} == {log.store.entry(1)}
    assert sum(isinstance(one, Receipt) and not one.repeated for one in results) == 1
    assert isinstance(log.append(draft(7, "other")), Conflict)
    assert log.store.size == 2


def test_old_entries_get_receipts_too(log: AuditLog) -> None:
    for number in range(300):
        log.submit([draft(number)]).wait(PATIENCE)
    for index in (0, 1, 255, 256, 300):
        receipt = log.receipt(index)
        verify_proof(receipt.proof(), leaf_hash(log.store.entry(index)), ORIGIN, [LOG_KEY], verify)
    with pytest.raises(LookupError):
        log.receipt(301)


def test_waking_is_told_once_for_a_batch_and_cannot_stop_the_log(log: AuditLog) -> None:
    woken: list[Ticket] = []
    done = threading.Event()

    def wake(tickets: object) -> None:
        woken.extend(tickets)  # type: ignore[call-overload]
        if len(woken) == 3:
            done.set()
        raise RuntimeError("a caller that is gone")

    tickets = [log.submit([draft(number)], wake) for number in range(3)]
    assert done.wait(PATIENCE)
    assert woken == tickets
    assert isinstance(log.append(draft(9)), Receipt)


def test_too_many_waiting_are_refused_and_closing_takes_no_more(tmp_path: Path) -> None:
    log = open_log(tmp_path, most_waiting=3)
    with pytest.raises(LogFull, match="waiting"):
        log.submit([draft(number) for number in range(4)])
    assert log.submit([draft(number) for number in range(3)]).wait(PATIENCE)
    log.close()
    with pytest.raises(LogFull, match="closing"):
        log.submit([draft(9)])


def in_thread(action: Callable[[], object], name: str) -> None:
    thread = threading.Thread(target=action, name=name)
    thread.start()
    thread.join()


def test_a_lone_entry_is_written_by_its_own_thread_but_never_by_the_main_one(tmp_path: Path) -> None:
    writers: list[str] = []
    log = open_log(tmp_path, on_batch=lambda seconds, error: writers.append(threading.current_thread().name))
    in_thread(lambda: log.append(draft(1)), "caller")
    log.append(draft(2))
    in_thread(lambda: log.submit([draft(3)]).wait(), "caller")
    log.close()
    assert writers == ["caller", "audit-log", "audit-log"]
    with pytest.raises(LogFull, match="closing"):
        log.append(draft(4))


def test_who_writes_himself_and_who_waits_end_up_in_one_order(log: AuditLog) -> None:
    seen: list[Receipt | Conflict] = []
    woken: list[Ticket] = []

    def alone(first: int) -> None:
        seen.extend(log.append(draft(number), 30) for number in range(first, first + 40))

    def together(first: int) -> None:
        tickets = [log.submit([draft(number)], woken.extend) for number in range(first, first + 40)]
        seen.extend(ticket.wait(PATIENCE)[0] for ticket in tickets)

    threads = [
        threading.Thread(target=(alone, together)[number % 2], args=(1000 * number,)) for number in range(8)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(one.index for one in seen) == list(range(1, 321))
    lines = [log.store.entry(index) for index in range(321)]
    for receipt in seen:
        assert isinstance(receipt, Receipt)
        assert receipt.line == lines[receipt.index]
        verify_proof(receipt.proof(), leaf_hash(receipt.line), ORIGIN, [LOG_KEY], verify)
    for before, after in pairwise(lines):
        assert Entry.parse(after).prev == base64.encode(leaf_hash(before))


def test_closing_answers_whoever_writes_himself(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    kept: list[int] = []
    refused: list[LogFull] = []
    begun = threading.Barrier(5)

    def appends(first: int) -> None:
        begun.wait()
        try:
            for number in range(first, first + 10_000):
                kept.append(log.append(draft(number)).index)
        except LogFull as full:
            refused.append(full)

    threads = [threading.Thread(target=appends, args=(10_000 * number,)) for number in range(4)]
    for one in threads:
        one.start()
    begun.wait()
    log.close()
    for one in threads:
        one.join()
    assert len(refused) == 4
    again = open_log(tmp_path)
    assert again.store.size == len(kept) + 1
    assert sorted(kept) == list(range(1, again.store.size))
    again.close()


class DeafSigner:
    """A key holder that can be away, or sign with another key than it says."""

    def __init__(self) -> None:
        self.public = LOG_SIGNER.public
        self.key_id = LOG_SIGNER.key_id
        self.behaviour = "well"

    def sign(self, message: bytes) -> bytes:
        if self.behaviour == "away":
            raise KeyUnusable("the key holder does not answer")
        return (OTHER_SIGNER if self.behaviour == "wrong" else LOG_SIGNER).sign(message)


@pytest.mark.parametrize("behaviour", ["away", "wrong"])
def test_what_is_durable_and_unsigned_gets_its_receipt_from_a_retry(store: Store, behaviour: str) -> None:
    holder = DeafSigner()
    log = start_log(store, LogSigner(ORIGIN, [holder]))
    before = log.store.published
    holder.behaviour = behaviour
    with pytest.raises(KeyUnusable):
        log.append(draft(1))
    assert log.store.published == before
    assert log.failure is None
    holder.behaviour = "well"
    receipt = log.append(draft(1))
    assert isinstance(receipt, Receipt)
    assert (receipt.index, receipt.repeated) == (1, True)
    verify_proof(receipt.proof(), leaf_hash(receipt.line), ORIGIN, [LOG_KEY], verify)
    log.close()


# the file


def test_a_log_goes_on_after_a_clean_end(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    first = log.append(draft(1))
    log.close()
    data = (tmp_path / "audit.log").read_bytes()
    assert stat.S_IMODE((tmp_path / "audit.log").stat().st_mode) == 0o600
    log = open_log(tmp_path)
    again = log.append(draft(1))
    assert isinstance(first, Receipt)
    assert isinstance(again, Receipt)
    assert (again.index, again.line, again.repeated) == (first.index, first.line, True)
    log.close()
    assert (tmp_path / "audit.log").read_bytes() == data, "no new head without new entries"
    assert (tmp_path / "audit.head").read_bytes() == first.checkpoint
    assert sorted(os.listdir(tmp_path)) == ["audit.head", "audit.lock", "audit.log"]


def filled(folder: Path, count: int = 6) -> bytes:
    """A log that ended well; its bytes."""
    log = open_log(folder)
    for number in range(count):
        log.append(draft(number))
    log.close()
    return (folder / "audit.log").read_bytes()


def sizes(data: bytes) -> tuple[int, int]:
    lines = data.splitlines()
    return sum(line.startswith(b'{"seq":') for line in lines), len(lines)


TAILS = {
    "half a line": lambda line: line[: len(line) // 2],
    "all but the newline": lambda line: line,
    "zeros": lambda line: bytes(len(line)),
    "zeros in the middle": lambda line: line[:40] + bytes(60) + line[100:] + b"\n",
    "random": lambda line: bytes(byte ^ 0x5A for byte in line) + b"\n",
    "a line after a hole": lambda line: b"\n" + line + b"\n",
    "one byte": lambda line: b"{",
    "a commit line with another signature": lambda line: b'{"checkpoint":"x"}\n',
}


@pytest.mark.parametrize("name", TAILS)
def test_a_torn_end_is_moved_aside_and_noted(tmp_path: Path, name: str) -> None:
    data = filled(tmp_path)
    last = data.splitlines()[-2]
    torn = TAILS[name](last)
    (tmp_path / "audit.log").write_bytes(data + torn)
    log = open_log(tmp_path)
    entry = Entry.parse(log.store.entry(7))
    assert entry.kind == "recovery"
    (aside,) = tmp_path.glob("audit.log.torn-*")
    assert aside.read_bytes() == torn
    assert entry.data()["kept_as"] == aside.name  # type: ignore[index,call-overload]
    assert entry.data()["bytes"] == len(torn)  # type: ignore[index,call-overload]
    assert isinstance(log.append(draft(99)), Receipt)
    log.close()
    assert (tmp_path / "audit.log").read_bytes().startswith(data)
    open_log(tmp_path).close()
    assert len(list(tmp_path.glob("audit.log.torn-*"))) == 1


def test_a_cut_at_every_byte_of_the_last_batch_is_recovered(tmp_path: Path) -> None:
    """The last entry and its commit line, cut anywhere: the entry is whole or gone, and its number is used again."""
    data = filled(tmp_path, 2)
    begin = data.rindex(b'{"seq":')
    entry_end = data.index(b"\n", begin) + 1
    for end in range(begin, len(data)):
        for left in tmp_path.iterdir():
            left.unlink()
        (tmp_path / "audit.log").write_bytes(data[:end])
        log = open_log(tmp_path)
        whole = end >= entry_end
        result = log.append(draft(1))
        assert isinstance(result, Receipt)
        assert result.repeated == whole
        assert result.index == (2 if whole or end == begin else 3), "a recovery entry took the number"
        log.close()


def test_whole_lines_without_a_commit_line_are_kept_and_signed(tmp_path: Path) -> None:
    data = filled(tmp_path)
    (tmp_path / "audit.log").write_bytes(data[: data.rindex(b'{"checkpoint":')])
    (tmp_path / "audit.head").unlink()
    log = open_log(tmp_path)
    assert log.store.size == 7
    note = log.store.published
    assert note is not None
    assert open_checkpoint(note, ORIGIN, [LOG_KEY], verify).checkpoint.size == 7
    log.close()
    assert (tmp_path / "audit.log").read_bytes() == data


@pytest.mark.parametrize("at", [10, 200, 700])
def test_damage_before_a_commit_line_is_no_crash(tmp_path: Path, at: int) -> None:
    data = bytearray(filled(tmp_path))
    data[at] ^= 1
    (tmp_path / "audit.log").write_bytes(data)
    with pytest.raises(LogProofInvalid, match="so no crash did this"):
        open_log(tmp_path)
    assert (tmp_path / "audit.log").read_bytes() == data, "nothing was changed"
    assert not list(tmp_path.glob("audit.log.*"))


def test_a_log_that_lost_its_end_is_refused_with_both_heads(tmp_path: Path) -> None:
    data = filled(tmp_path)
    begin = data.rindex(b'{"seq":')
    (tmp_path / "audit.log").write_bytes(data[:begin])
    with pytest.raises(LogProofInvalid, match=r"rolled back: it holds 6 entries.* over 7\n"):
        open_log(tmp_path)
    assert (tmp_path / "audit.log").read_bytes() == data[:begin]


def test_another_log_of_the_same_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    filled(tmp_path / "a", 3)
    log = open_log(tmp_path / "b")
    for number in range(5):
        log.append(draft(number, "another history"))
    log.close()
    (tmp_path / "b" / "audit.head").write_bytes((tmp_path / "a" / "audit.head").read_bytes())
    with pytest.raises(LogProofInvalid, match="forked: at size 4") as caught:
        open_log(tmp_path / "b")
    assert caught.value.message.count(ORIGIN) == 3


@pytest.mark.parametrize("how", ["deleted", "emptied"])
def test_an_empty_log_is_not_begun_where_one_was(tmp_path: Path, how: str) -> None:
    filled(tmp_path)
    if how == "deleted":
        (tmp_path / "audit.log").unlink()
    else:
        (tmp_path / "audit.log").write_bytes(b"")
    with pytest.raises(LogProofInvalid, match="rolled back: it holds 0 entries"):
        open_log(tmp_path)
    (tmp_path / "audit.head").unlink()
    (tmp_path / "audit.log.0-99").write_bytes(b"")
    with pytest.raises(LogProofInvalid, match="there was a log"):
        open_log(tmp_path)


def test_the_remembered_checkpoint_may_lie_on_another_volume(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "head"
    log = open_log(tmp_path, head=elsewhere)
    log.append(draft(1))
    log.close()
    (tmp_path / "audit.log").unlink()
    assert not (tmp_path / "audit.head").exists()
    with pytest.raises(LogProofInvalid, match="rolled back"):
        open_log(tmp_path, head=elsewhere)


@pytest.mark.parametrize("change", ["flip", "cut", "other key", "empty"])
def test_a_remembered_checkpoint_that_is_none_stops_the_start(tmp_path: Path, change: str) -> None:
    filled(tmp_path)
    head = tmp_path / "audit.head"
    data = head.read_bytes()
    other = LogSigner(ORIGIN, [OTHER_SIGNER]).sign(7, bytes(32))
    wrong = {"flip": bytes([data[0] ^ 1]) + data[1:], "cut": data[:-9], "other key": other, "empty": b""}
    head.write_bytes(wrong[change])
    with pytest.raises(LogProofInvalid, match=r"audit\.head is no checkpoint of this log"):
        open_log(tmp_path)


def test_a_log_of_another_key_is_neither_cut_nor_gone_on_with(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "audit.head").unlink()
    before = (tmp_path / "audit.log").read_bytes()
    with pytest.raises(LogProofInvalid, match="is signed with another key than") as refused:
        open_file_log(tmp_path, LogSigner(ORIGIN, [OTHER_SIGNER]), reserve=0)
    assert "SAFEAI_KEY_ID" in refused.value.hint
    assert (tmp_path / "audit.log").read_bytes() == before
    assert not list(tmp_path.glob("audit.log.*"))
    open_log(tmp_path).close()


def test_a_second_process_is_told_who_has_the_log(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\nfrom test_log_stores import open_log\n"
        "from safeai_git.core.errors import StorageError\n"
        "try: open_log(Path(sys.argv[1]))\n"
        "except StorageError as error: print(error.message)\n"
    )
    log = open_log(tmp_path)
    log.append(draft(1))
    program = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(program, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert f"another process appends to {tmp_path}/audit.log: process {os.getpid()} on " in done.stdout, done
    assert isinstance(log.append(draft(2)), Receipt)
    log.close()
    done = subprocess.run(program, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert (done.returncode, done.stdout) == (0, "")


def _link(log: Path) -> None:
    log.rename(log.with_name("elsewhere"))
    log.symlink_to("elsewhere")


def _grow(log: Path) -> None:
    with log.open("ab") as file:
        file.write(b"x")


CHANGES = {
    "deleted": ("it was deleted", lambda log: log.unlink()),
    "replaced": ("another file was put", lambda log: log.write_bytes(b"") if log.unlink() is None else None),
    "moved": ("it was deleted or moved", lambda log: log.rename(log.with_name("elsewhere"))),
    "linked": ("another file was put", _link),
    "longer": ("somebody else wrote", _grow),
    "shorter": ("somebody else wrote", lambda log: os.truncate(log, 50)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_that_is_not_ours_any_more_ends_the_log(tmp_path: Path, name: str) -> None:
    failures: list[LogFailed] = []
    log = open_log(tmp_path, on_failure=failures.append, remember_every=1000)
    log.append(draft(1))
    reason, change = CHANGES[name]
    change(tmp_path / "audit.log")
    with pytest.raises(LogFailed, match=reason):
        log.append(draft(2))
    with pytest.raises(LogFailed, match=reason):
        log.append(draft(3))
    assert len(failures) == 1
    assert log.failure is failures[0]
    log.close()


def test_a_symbolic_link_or_a_fifo_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "audit.log").symlink_to("elsewhere")
    with pytest.raises(StorageError, match="symbolic link"):
        open_log(tmp_path)
    (tmp_path / "audit.log").unlink()
    os.mkfifo(tmp_path / "audit.log")
    with pytest.raises((StorageError, LogProofInvalid)):
        open_log(tmp_path)
    with pytest.raises(StorageError, match=r"audit\.lock cannot be opened"):
        open_log(tmp_path / "missing")


def test_below_the_reserve_nothing_is_taken_and_nothing_breaks(tmp_path: Path) -> None:
    open_log(tmp_path).close()
    store = FileStore.open_folder(tmp_path, IDENTITY, reserve=1 << 60)
    with pytest.raises(LogFull, match="MiB stay in reserve"):
        store.append([draft(1)], NOW)
    assert store.append([], NOW).size == 1
    store.close()
    log = open_log(tmp_path)
    assert isinstance(log.append(draft(1)), Receipt)
    log.close()


def test_a_commit_line_stands_only_behind_its_entries(tmp_path: Path) -> None:
    store = FileStore.open_folder(tmp_path, IDENTITY)
    appended = store.append([draft(1)], NOW)
    with pytest.raises(ValueError, match="cannot stand behind"):
        store.publish(SIGNER.sign(2, appended.root), 2)
    store.close()


def test_a_log_in_an_overlap_carries_both_signatures(tmp_path: Path) -> None:
    filled(tmp_path)
    both = LogSigner(ORIGIN, [LOG_SIGNER, OTHER_SIGNER])
    log = open_file_log(tmp_path, both, reserve=0)
    receipt = log.append(draft(50))
    assert isinstance(receipt, Receipt)
    assert [one.key_id for one in Note.parse(receipt.checkpoint).signatures] == [key.id for key in both.keys]
    assert Checkpoint.parse(Note.parse(receipt.checkpoint).text).size == 8
    log.close()
    open_log(tmp_path).close()
    with pytest.raises(KeyUnusable):
        LogSigner(ORIGIN, [])
