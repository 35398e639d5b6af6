"""Backup and restore of a Governor's log, by the scripts that are shipped."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Result
from tools_cli import PATIENCE
from tools_log import LOG_SIGNER, ORIGIN

from safeai_git.core.log.entry import Draft
from safeai_git.core.publickey import format_openssh
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.open_log import open_file_log

SCRIPTS = Path(__file__).parent.parent / "deploy" / "backup"


class Site:
    """A Governor's data folder, its public key kept elsewhere, and a folder for backups."""

    def __init__(self, folder: Path) -> None:
        self.data, self.backups = folder / "data", folder / "backups"
        self.data.mkdir()
        self.key = folder / "log.pub"
        self.key.write_bytes(format_openssh(LOG_SIGNER.public))
        self.written = 0

    def grow(self, number: int) -> None:
        log = open_file_log(self.data, LogSigner(ORIGIN, [LOG_SIGNER]), reserve=0)
        for at in range(self.written, self.written + number):
            log.append(Draft.of_data("policy", f"n{at}", {"n": at}))
        self.written += number
        log.close()

    def run(self, script: str, *arguments: str, **more: str) -> Result:
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.data.parent),
            "AUDIT_LOG": str(self.data / "audit.log"),
            "AUDIT_KEY": str(self.key),
            "BACKUP_DIR": str(self.backups),
        }
        done = subprocess.run(
            [SCRIPTS / script, *arguments], env=environment | more, capture_output=True, timeout=PATIENCE
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def kept(self) -> list[Path]:
        return sorted(self.backups.glob("audit_*.gz*"))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.grow(3)
    return made


def test_a_backup_is_verified_kept_and_restored_and_the_log_goes_on(site: Site, tmp_path: Path) -> None:
    done = site.run("backup-audit", BACKUP_SHIP=f"cp -t {shipped(tmp_path)}")
    assert done.code == 0, done.both
    (backup,) = site.kept()
    assert gzip.decompress(backup.read_bytes()) == (site.data / "audit.log").read_bytes()
    assert (tmp_path / "shipped" / backup.name).read_bytes() == backup.read_bytes()
    assert (site.backups / "newest.checkpoint").read_text().startswith(f"{ORIGIN}\n4\n")
    assert backup.stat().st_mode & 0o077 == 0

    shutil.rmtree(site.data)
    site.data.mkdir()
    done = site.run(
        "restore-audit", str(backup), str(site.data), CHECKPOINT=str(site.backups / "newest.checkpoint")
    )
    assert done.code == 0, done.both
    site.grow(2)
    done = site.run("backup-audit")
    assert done.code == 0, done.both
    assert (site.backups / "newest.checkpoint").read_text().startswith(f"{ORIGIN}\n6\n")


def shipped(tmp_path: Path) -> Path:
    folder = tmp_path / "shipped"
    folder.mkdir()
    return folder


def test_a_copy_taken_in_the_middle_of_a_write_is_kept_up_to_its_checkpoint(
    site: Site, tmp_path: Path
) -> None:
    whole = (site.data / "audit.log").read_bytes()
    torn = tmp_path / "torn.log"
    torn.write_bytes(whole[:-30])
    done = site.run("backup-audit", AUDIT_LOG=f"!cat {torn}")
    assert done.code == 0, done.both
    assert (site.backups / "newest.checkpoint").read_text().startswith(f"{ORIGIN}\n3\n")
    assert whole.startswith(gzip.decompress(site.kept()[0].read_bytes()))


def test_a_log_that_was_rewritten_is_not_kept(site: Site) -> None:
    assert site.run("backup-audit").code == 0
    before = (site.backups / "newest.checkpoint").read_bytes()
    shutil.rmtree(site.data)
    site.data.mkdir()
    site.written = 10
    site.grow(9)
    done = site.run("backup-audit")
    assert done.code == 1
    assert "NOT KEPT" in done.err
    assert len(site.kept()) == 1
    assert (site.backups / "newest.checkpoint").read_bytes() == before
    assert list(site.backups.glob("refused.*.log"))


def test_a_log_that_was_cut_is_not_kept(site: Site) -> None:
    assert site.run("backup-audit").code == 0
    lines = (site.data / "audit.log").read_bytes().splitlines(keepends=True)
    (site.data / "audit.log").write_bytes(b"".join(lines[:-2]))
    done = site.run("backup-audit")
    assert done.code == 1, done.both
    assert len(site.kept()) == 1


def test_an_older_backup_is_not_restored_over_a_newer_checkpoint(site: Site) -> None:
    assert site.run("backup-audit").code == 0
    (old,) = site.kept()
    old = old.rename(old.with_name("audit_20200101T000000Z.log.gz"))
    site.grow(1)
    assert site.run("backup-audit").code == 0
    now = (site.data / "audit.log").read_bytes()
    newest = str(site.backups / "newest.checkpoint")
    done = site.run("restore-audit", str(old), str(site.data), CHECKPOINT=newest)
    assert done.code == 1, done.both
    assert "NOT RESTORED" in done.err
    assert (site.data / "audit.log").read_bytes() == now
    done = site.run("restore-audit", "--accept-loss", str(old), str(site.data), CHECKPOINT=newest)
    assert done.code == 0, done.both
    (before,) = [one for one in site.data.glob("audit.log.before-*") if one.suffix != ".head"]
    assert before.read_bytes() == now


def test_a_damaged_backup_is_not_restored(site: Site) -> None:
    assert site.run("backup-audit").code == 0
    (backup,) = site.kept()
    checkpoint = str(site.backups / "newest.checkpoint")
    data = gzip.decompress(backup.read_bytes()).replace(b'{"n":1}', b'{"n":7}')
    backup.write_bytes(gzip.compress(data))
    assert site.run("restore-audit", str(backup), str(site.data), CHECKPOINT=checkpoint).code == 1
    backup.write_bytes(backup.read_bytes()[:-20])
    assert site.run("restore-audit", str(backup), str(site.data), CHECKPOINT=checkpoint).code == 3
    assert not list(site.data.glob(".restore*"))


def test_what_cannot_be_shipped_is_said_and_stays(site: Site) -> None:
    done = site.run("backup-audit", BACKUP_SHIP="false")
    assert done.code == 3
    assert len(site.kept()) == 1
    assert not (site.backups / "newest.checkpoint").exists()  # the next one leads on from what was shipped


def test_old_backups_go_and_the_newest_stays(site: Site) -> None:
    assert site.run("backup-audit").code == 0
    (first,) = site.kept()
    first = first.rename(first.with_name("audit_20200101T000000Z.log.gz"))
    os.utime(first, (1_577_836_800, 1_577_836_800))
    site.grow(1)
    done = site.run("backup-audit", BACKUP_KEEP_DAYS="30")
    assert done.code == 0, done.both
    assert not first.exists()
    assert len(site.kept()) == 1


@pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed")
def test_an_encrypted_backup_goes_and_comes_back(site: Site, tmp_path: Path) -> None:
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)
    there = {"GNUPGHOME": str(home)}
    subprocess.run(
        ["gpg", "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "security@example.com"],
        env=dict(os.environ) | there, check=True, capture_output=True, timeout=PATIENCE,
    )  # fmt: skip
    try:
        done = site.run("backup-audit", BACKUP_RECIPIENT="security@example.com", **there)
        assert done.code == 0, done.both
        (backup,) = site.kept()
        assert backup.suffix == ".gpg"
        assert b'"seq"' not in backup.read_bytes()
        before = (site.data / "audit.log").read_bytes()
        checkpoint = str(site.backups / "newest.checkpoint")
        done = site.run("restore-audit", str(backup), str(site.data), CHECKPOINT=checkpoint, **there)
        assert done.code == 0, done.both
        assert (site.data / "audit.log").read_bytes() == before
    finally:
        subprocess.run(["gpgconf", "--kill", "all"], env=dict(os.environ) | there, check=False)


def test_without_what_is_needed_it_says_so(site: Site) -> None:
    assert "AUDIT_KEY" in site.run("backup-audit", AUDIT_KEY="").err
    assert "AUDIT_LOG" in site.run("backup-audit", AUDIT_LOG="").err
    assert site.run("restore-audit").code == 2
    done = site.run("backup-audit", AUDIT_LOG="/nonexistent/audit.log")
    assert done.code == 3
    assert not site.kept()
