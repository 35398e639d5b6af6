"""What the tests of the command line share: other ways to start it, and a repository that several tests read."""

from __future__ import annotations

import fcntl
import os
import pty
import pwd
import random
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

import pytest
from conftest import POLICY, Repo, Result

from safeai_git.files import locked

NOBODY = 65534
SAFEAI = [sys.executable, "-m", "safeai_git"]
PATIENCE = 60.0
"""Seconds until a test that waits for something gives up; a limit, nothing that is measured."""


def _is_known() -> bool:
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return True


KNOWN = _is_known()
"""Whether the system has a name for who runs the tests: OpenSSH and PostgreSQL do nothing for others."""
SSH_KEYGEN = shutil.which("ssh-keygen") if KNOWN else None
NO_SSH_KEYGEN = (
    "ssh-keygen is not installed" if KNOWN else "ssh-keygen does nothing for a user without a name"
)
needs_ssh_keygen = pytest.mark.skipif(SSH_KEYGEN is None, reason=NO_SSH_KEYGEN)


def free_port() -> int:
    """A port of this machine that nobody listens on.

    It is below those that the system gives to whoever asks for any (ip(7), ``ip_local_port_range``): a connection that
    somebody makes meanwhile does not take it.
    """
    while True:
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", random.randrange(16_384, 32_768)))
            return int(one.getsockname()[1])


def before_the_lock(monkeypatch: pytest.MonkeyPatch, owner: ModuleType, other: Callable[[], None]) -> None:
    """Let another process come in between, once: after this one has looked, and before it has the lock and writes."""

    @contextmanager
    def late(path: Path, *, wait: float) -> Iterator[None]:
        monkeypatch.setattr(owner, "locked", locked)
        other()
        with locked(path, wait=wait):
            yield

    monkeypatch.setattr(owner, "locked", late)


def run(
    arguments: list[str], cwd: Path, env: Mapping[str, str], *, program: list[str] = SAFEAI, **options: object
) -> Result:
    """Start a program and wait for it; `options` are those of `subprocess.run`."""
    done = subprocess.run(
        [*program, *arguments], cwd=cwd, env=dict(env), **{"capture_output": True, **options}
    )
    out, err = done.stdout or b"", done.stderr or b""
    return Result(done.returncode, out.decode(errors="replace"), err.decode(errors="replace"))


def make(path: Path, environment: Mapping[str, str], *flags: str) -> Repo:
    """A new repository."""
    path.mkdir(parents=True)
    repo = Repo(path, dict(environment))
    repo.git("init", "-q", *flags)
    return repo


def start(repo: Repo, policy: str = POLICY) -> Repo:
    """Give a repository a key of its own, a policy and a first commit."""
    done = repo.safeai("init", "--no-hooks")
    assert done.code == 0, done.both
    repo.write(".safeai/policy.yaml", policy)
    repo.commit("start", {"src/a.py": "a = 1\n"})
    return repo


def as_ordinary_user() -> list[str]:
    """What to put before a command so that permissions count for it; skips where that cannot be had."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("as root, setpriv is needed to try what an ordinary user sees")
    prefix = [setpriv, "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    if subprocess.run([*prefix, *SAFEAI, "--version"], capture_output=True, cwd="/").returncode != 0:
        pytest.skip("an ordinary user cannot reach this interpreter or this source")
    return prefix


@contextmanager
def folder_of_ordinary_user() -> Iterator[Path]:
    """A folder that the user of `as_ordinary_user` can reach and owns; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="safeai-test-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def give_away(folder: Path) -> None:
    """Make the ordinary user the owner of a folder and everything in it."""
    if os.geteuid() != 0:
        return
    for root, _, files in os.walk(folder):
        for name in ["", *files]:
            os.chown(Path(root, name), NOBODY, NOBODY, follow_symlinks=False)


class Terminal:
    """A program on a terminal of its own, with what it prints there."""

    def __init__(self, arguments: list[str], cwd: Path, env: Mapping[str, str]) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
        self.before = termios.tcgetattr(slave)
        self._slave = slave
        self.process = subprocess.Popen(
            [*SAFEAI, *arguments],
            cwd=cwd,
            env=dict(env),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no threads here
        )
        self.output = b""

    def read_until(self, word: bytes = b"\0never\0") -> bytes:
        """Read until a word was printed or the program has ended."""
        end = time.monotonic() + PATIENCE
        while word not in self.output and time.monotonic() < end:
            if not select.select([self.master], [], [], 0.2)[0]:
                if self.process.poll() is not None:
                    break
                continue
            try:
                self.output += os.read(self.master, 65536)
            except OSError:
                break
        return self.output

    def press_ctrl_c(self) -> None:
        """What the terminal driver turns into SIGINT for everything in the foreground."""
        os.write(self.master, b"\x03")

    def end(self) -> int:
        """Wait for the program; its exit code. The terminal must be as it was."""
        self.read_until()
        code = self.process.wait(PATIENCE)
        assert termios.tcgetattr(self._slave) == self.before
        os.close(self._slave)
        os.close(self.master)
        return code
