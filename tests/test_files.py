"""Our own small files: whole or not at all, private, and never through somebody else's link."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from safeai_git import files
from safeai_git.core.errors import StorageError
from safeai_git.files import LARGEST_JSON, read_bounded, read_json, sync_folder, write_atomically


def test_a_file_is_written_whole_with_its_folders(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "file"
    write_atomically(file, b"one")
    write_atomically(file, b"two")
    assert file.read_bytes() == b"two"
    assert os.listdir(file.parent) == ["file"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o755])
def test_the_mode_is_the_one_asked_for_whatever_the_umask(tmp_path: Path, mode: int) -> None:
    old = os.umask(0o077)
    try:
        write_atomically(tmp_path / "file", b"x", mode=mode)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    link = tmp_path / "link"
    link.symlink_to(victim)
    write_atomically(link, b"ours")
    assert victim.read_bytes() == b"precious"
    assert not link.is_symlink()
    assert link.read_bytes() == b"ours"


def test_what_cannot_be_written_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(StorageError, match=r"file/inner cannot be written: ") as caught:
        write_atomically(tmp_path / "file" / "inner", b"y")
    assert caught.value.hint == "check free space and permissions of its folder"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner").write_bytes(b"x")
    with pytest.raises(StorageError, match="folder cannot be written: "):
        write_atomically(tmp_path / "folder", b"y")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.parametrize(
    "ending", [KeyboardInterrupt(), OSError(5, "Input/output error")], ids=["Ctrl-C", "EIO"]
)
def test_an_end_in_the_middle_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: BaseException
) -> None:
    write_atomically(tmp_path / "file", b"old")

    def fail(handle: int) -> None:
        raise ending

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(StorageError if isinstance(ending, OSError) else KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


CRASH = """
import os, sys
from pathlib import Path
from safeai_git import files
at = sys.argv[2]
def die(*_): os._exit(9)
if at == "fsync": files.os.fsync = die
else: files.Path.replace = die
files.write_atomically(Path(sys.argv[1]), b"new")
"""


@pytest.mark.parametrize("at", ["fsync", "rename"])
def test_a_crash_leaves_the_old_content(tmp_path: Path, at: str) -> None:
    write_atomically(tmp_path / "file", b"old")
    done = subprocess.run(
        [sys.executable, "-c", CRASH, str(tmp_path / "file"), at], cwd=Path(__file__).parent.parent
    )
    assert done.returncode == 9
    assert (tmp_path / "file").read_bytes() == b"old"
    write_atomically(tmp_path / "file", b"newer")
    assert (tmp_path / "file").read_bytes() == b"newer"


def test_a_file_without_an_end_is_read_to_the_limit(tmp_path: Path) -> None:
    assert len(read_bounded(Path("/dev/zero"), 1000)) == 1001
    (tmp_path / "file").write_bytes(b"x" * 1000)
    assert read_bounded(tmp_path / "file", 1000) == b"x" * 1000
    with pytest.raises(FileNotFoundError):
        read_bounded(tmp_path / "nowhere", 1)


def test_json_that_is_not_ours_is_none(tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert read_json(file) is None
    for content in (b"", b"{", b"\xff", b"[" * 10):
        file.write_bytes(content)
        assert read_json(file) is None, content
    file.write_bytes(b'{"a": [1]}')
    assert read_json(file) == {"a": [1]}
    file.write_bytes(b" " * LARGEST_JSON + b"1")
    assert read_json(file) is None
    assert read_json(tmp_path) is None


def test_deep_json_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"[" * 200_000)
    assert read_json(tmp_path / "file") is None


def test_a_folder_is_synced_or_the_reason_is_told(tmp_path: Path) -> None:
    sync_folder(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "nowhere")
