"""The spool: what the Governor has not confirmed yet stays on disk, in order, once each, and never without end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tools_cli import as_ordinary_user, folder_of_ordinary_user, give_away

from safeai_git.client import spool as module
from safeai_git.client.spool import Spool
from safeai_git.core.envelope import Envelope, Signature
from safeai_git.core.errors import StorageError

KEY_ID = "SHA256:" + "A" * 43


def envelope(number: int) -> Envelope:
    payload = b'{"number":%d}' % number
    return Envelope("application/vnd.in-toto+json", payload, (Signature(KEY_ID, bytes([number % 256]) * 64),))


def waiting(spool: Spool) -> list[bytes]:
    return [one.untrusted_payload for _, one in spool]


def payloads(*numbers: int) -> list[bytes]:
    return [envelope(number).untrusted_payload for number in numbers]


def test_what_was_added_is_there_for_the_next_process_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "not" / "there" / "yet")
    assert (len(spool), list(spool)) == (0, [])
    for number in (5, 3, 9, 1):
        spool.add(envelope(number))
    again = Spool(tmp_path / "not" / "there" / "yet")
    assert len(again) == 4
    assert waiting(again) == payloads(5, 3, 9, 1)
    assert next(iter(again))[1].format() == envelope(5).format()


def test_order_is_that_of_adding_even_if_the_clock_stands_or_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([2_000, 2_000, 1_000, 1, 3_000, 2_999])
    monkeypatch.setattr(module.time, "time_ns", lambda: next(times))
    spool = Spool(tmp_path / "spool")
    for number in (9, 8, 7, 6, 5, 4):
        spool.add(envelope(number))
    assert waiting(spool) == payloads(9, 8, 7, 6, 5, 4)


def test_the_same_envelope_is_kept_once_and_keeps_its_place(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    for number in (1, 2, 1, 1, 2):
        spool.add(envelope(number))
    assert waiting(spool) == payloads(1, 2)


def test_only_what_is_taken_out_is_gone(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    for number in (1, 2, 3):
        spool.add(envelope(number))
    names = [name for name, _ in spool]
    spool.remove(names[1])
    spool.remove(names[1])
    assert waiting(spool) == payloads(1, 3)
    spool.add(envelope(2))
    assert waiting(spool) == payloads(1, 3, 2)


def test_a_full_spool_refuses_and_loses_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", most=2)
    spool.add(envelope(1))
    spool.add(envelope(2))
    with pytest.raises(StorageError, match="is full: it holds 2 entries"):
        spool.add(envelope(3))
    spool.add(envelope(2))  # it is there already
    assert waiting(spool) == payloads(1, 2)
    spool.remove(next(iter(spool))[0])
    spool.add(envelope(3))
    assert waiting(spool) == payloads(2, 3)


def test_what_a_crash_left_behind_is_neither_counted_nor_sent(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    spool = Spool(folder)
    spool.add(envelope(1))
    name = next(iter(spool))[0]
    (folder / f".{name}.abcd1234").write_bytes(b'{"payload')
    (folder / "README.json").write_bytes(b"{}")
    (folder / f"{'9' * 20}-{'0' * 63}.json").write_bytes(envelope(9).format())
    assert len(spool) == 1
    assert waiting(spool) == payloads(1)


def test_a_damaged_entry_does_not_hold_up_the_others(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    spool = Spool(folder)
    for number in (1, 2, 3, 4):
        spool.add(envelope(number))
    names = [name for name, _ in spool]
    (folder / names[0]).write_bytes(b"")
    (folder / names[1]).write_bytes(envelope(2).format()[:-20])
    (folder / names[2]).unlink()
    (folder / names[2]).mkdir()
    assert waiting(spool) == payloads(4)
    with (folder / names[0]).open("wb") as file:
        file.truncate(2**40)
    assert waiting(spool) == payloads(4)


def test_entries_are_private(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.add(envelope(1))
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "spool" / next(iter(spool))[0]).stat().st_mode & 0o777 == 0o600


def test_a_place_that_is_no_folder_is_an_error_not_an_empty_spool(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("x")
    spool = Spool(tmp_path / "spool")
    for action in (
        lambda: len(spool),
        lambda: list(spool),
        lambda: spool.add(envelope(1)),
        lambda: spool.remove("x"),
    ):
        with pytest.raises(StorageError, match=f"the spool {tmp_path}/spool cannot be used: Not a directory"):
            action()


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_spool import Spool, StorageError, envelope
resource.setrlimit(resource.RLIMIT_FSIZE, (30, 30))
try:
    Spool(Path(sys.argv[1])).add(envelope(2))
except StorageError as error:
    sys.exit(f"refused: {error.message}")
"""


def test_a_disk_that_refuses_leaves_what_was_there(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.add(envelope(1))
    before = os.listdir(tmp_path / "spool")
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "spool"), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("refused: ")
    assert "cannot be written: File too large" in done.stderr
    assert os.listdir(tmp_path / "spool") == before


def test_a_spool_that_may_not_be_read_is_an_error() -> None:
    prefix = as_ordinary_user()
    code = "import sys; from pathlib import Path; from safeai_git.client.spool import Spool\nlen(Spool(Path(sys.argv[1])))"
    with folder_of_ordinary_user() as folder:
        (folder / "spool").mkdir()
        give_away(folder)
        (folder / "spool").chmod(0)
        done = subprocess.run(
            [*prefix, sys.executable, "-c", code, str(folder / "spool")],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
        (folder / "spool").chmod(0o700)
    assert done.returncode == 1
    assert f"StorageError: the spool {folder}/spool cannot be used: Permission denied" in done.stderr
