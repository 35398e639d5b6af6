"""A real PostgreSQL for tests: a cluster of its own in a temporary folder, reached by a Unix socket only."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tools_cli import NOBODY, PATIENCE


def binaries() -> Path | None:
    """Where ``initdb`` and ``postgres`` are; Debian keeps them out of the way."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4].split(".")[0])
    )
    on_path = [Path(one) for one in [shutil.which("initdb")] if one and shutil.which("postgres")]
    return (found or on_path)[-1].parent if found or on_path else None


class Cluster:
    """A cluster that can be stopped and started."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder, self._programs = folder, programs
        self._prefix: list[str] = []
        if os.geteuid() == 0:  # it refuses to run as root
            setpriv = shutil.which("setpriv")
            if setpriv is None:
                pytest.skip("as root, setpriv is needed to start PostgreSQL as somebody else")
            os.chown(folder, NOBODY, NOBODY)
            self._prefix = [setpriv, "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
        self._run("initdb", "--no-sync", "-A", "trust", "-U", "safeai", "-D", str(folder / "data"))
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql:///postgres?host={self.folder}&user=safeai"

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._prefix, str(self._programs / program), *arguments],
            capture_output=True,
            text=True,
            cwd="/",
        )
        if done.returncode != 0:
            pytest.skip(f"{program} of PostgreSQL does not run here: {done.stderr.strip()[-300:]}")

    def start(self) -> None:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "max_connections": "40",
        }
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self.process = subprocess.Popen(
            [*self._prefix, str(self._programs / "postgres"), "-D", str(self.folder / "data"), *flags],
            cwd="/",
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        end = time.monotonic() + PATIENCE
        while (
            subprocess.run([str(self._programs / "pg_isready"), "-q", "-h", str(self.folder)]).returncode != 0
        ):
            if self.process.poll() is not None or time.monotonic() > end:
                pytest.skip("PostgreSQL does not start here")
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT disconnects everybody and stops; SIGQUIT stops as a crash would."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(60)
            self.process = None


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL with the log's tables, for all tests of a module."""
    pytest.importorskip("psycopg", reason="psycopg is needed to speak to PostgreSQL")
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL's server is needed; apt-get install postgresql")
    from safeai_git.governor.stores.postgres_schema import upgrade

    folder = Path(tempfile.mkdtemp(prefix="safeai-pg-", dir="/tmp"))
    made = None
    try:
        made = Cluster(folder, programs)
        upgrade(made.url)
        yield made
    finally:
        if made is not None:
            made.stop()
        shutil.rmtree(folder)
