"""A real Governor for tests: a process of its own, on a free port of the loopback interface, in a folder that is thrown away."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tools_cli import PATIENCE

from safeai_git.core.canonical import dumps
from safeai_git.core.envelope import Envelope
from safeai_git.core.kill_switch import LEASE_TYPE, Lease
from safeai_git.core.publickey import format_openssh
from safeai_git.governor.auth.principal import SCOPES
from safeai_git.governor.auth.tokens import issue
from safeai_git.keys.ed25519 import Ed25519Signer
from safeai_git.keys.seal import seal

SAFEAI = [sys.executable, "-c", "from safeai_git.admin import main; main()"]
SECRET = "a secret of thirty-two bytes or more, for tests"
REPOSITORY = "github.com/example/widgets"


class Answer:
    """What came back."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def word(self) -> str:
        """The problem's word."""
        assert self.headers["content-type"] == "application/problem+json", self.body
        return str(self.json()["type"]).rsplit("/", 1)[1]


class Governor:
    """One Governor; start it again on the same folder as often as you like.

    Args:
        folder: Its data folder; a key is made in it if there is none.
        settings: Variables besides the folder and the port.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.settings = {
            "SAFEAI_DATA_DIR": str(folder),
            "SAFEAI_PORT": "0",
            "SAFEAI_JWT_SECRET": SECRET,
        } | settings
        self.settings = {name: value for name, value in self.settings.items() if value}
        self.process: subprocess.Popen[bytes] | None = None
        self.lines: list[dict[str, Any]] = []
        self.host, self.port, self.tls = "127.0.0.1", 0, False
        if not (folder / "keys").exists():
            subprocess.run(
                [*SAFEAI, "keys", "generate", "--data-dir", str(folder)],
                env=self.environment, check=True, capture_output=True, timeout=PATIENCE,
            )  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            name: os.environ[name]
            for name in ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH")
            if name in os.environ
        }
        return kept | self.settings

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    def start(self) -> Governor:
        self.process = subprocess.Popen([*SAFEAI, "serve"], env=self.environment, stderr=subprocess.PIPE)
        serving = threading.Event()
        threading.Thread(target=self._read, args=(self.process, serving), daemon=True).start()
        assert serving.wait(PATIENCE), self.lines
        assert self.port, self.lines
        return self

    def _read(self, process: subprocess.Popen[bytes], serving: threading.Event) -> None:
        assert process.stderr is not None
        with process.stderr as lines:
            for line in lines:
                try:
                    said = json.loads(line)
                except ValueError:
                    said = {"event": line.decode(errors="replace").rstrip()}
                self.lines.append(said)
                if said.get("event") == "serving":
                    address = said["address"].rsplit("/", 1)[1]
                    self.tls = said["address"].startswith("https")
                    self.port = int(address.rsplit(":", 1)[1])
                    serving.set()
        serving.set()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self if self.process and self.process.poll() is None else self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def token(self, *scopes: str, repositories: tuple[str, ...] | None = None, **more: Any) -> str:
        """A token for these scopes; for all of them if none is named."""
        facts: dict[str, Any] = {
            "key": SECRET.encode(), "algorithm": "HS256", "issuer": "safeai-governor", "audience": "safeai-governor",
            "subject": "tests", "scopes": frozenset(scopes or SCOPES), "seconds": 600,
            "repositories": frozenset(repositories) if repositories else None,
        }  # fmt: skip
        return issue(**(facts | more))

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Any = None,
        *,
        token: str | None = "",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request. ``token`` is a token, empty for one with every scope, or ``None`` for none at all."""
        sent = {"Authorization": f"Bearer {token or self.token()}"} if token is not None else {}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            sent["Content-Type"] = "application/json"
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, sent | dict(headers or {}))
            answer = connection.getresponse()
            return Answer(
                answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
            )
        finally:
            connection.close()

    def register(
        self, signer: Ed25519Signer, principal: str = "ci@example.com", *purposes: str, token: str | None = ""
    ) -> Answer:
        """Register a key for verdicts and approvals."""
        return self.ask(
            "POST",
            "/v1/keys",
            {
                "action": "register",
                "public": format_openssh(signer.public).decode().strip(),
                "principal": principal,
                "purposes": list(purposes or ("safeai-verdict", "safeai-approval")),
                "reason": "for tests",
            },
            token=token,
        )

    def audit(self) -> subprocess.CompletedProcess[bytes]:
        """``safeai audit --verify`` over its file."""
        return subprocess.run(
            [*SAFEAI, "audit", "--verify"], env=self.environment, capture_output=True, timeout=PATIENCE
        )


def statement(
    number: int = 0, *, repository: str = REPOSITORY, decision: str = "allow", **more: Any
) -> bytes:
    """The payload of a verdict."""
    predicate = {
        "repository": repository,
        "time": "2026-01-31T09:30:00Z",
        "gate": "0.1.0",
        "kind": "commit",
        "base": {"commit": "a" * 40, "tree": "b" * 40},
        "governed": True,
        "decision": decision,
        "kill_switch": {"state": "off"},
        "policy": {"digest": "c" * 64, "source": ".safeai/policy.yaml"},
        "attribution": {"class": "ai", "agent": "claude-code", "confidence": "1.00"},
        "edits": {"count": 1, "total_size": 10, "digest": "d" * 64},
        "evidence": [],
        "report": {"sha256": "e" * 64},
        "findings": {"count": 0, "first": []},
    }
    return dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [
                {"name": "commit", "digest": {"gitCommit": f"{number:040x}"}},
                {"name": "tree", "digest": {"gitTree": f"{number + 1:040x}"}},
            ],
            "predicateType": "https://safe-ai.dev/attestation/verdict/v1",
            "predicate": predicate | more,
        }
    )


def verdict(number: int, signer: Ed25519Signer, **more: Any) -> Envelope:
    """A signed verdict."""
    return seal(statement(number, **more), [signer])


def lease_line(signer: Ed25519Signer, origin: str, **more: Any) -> bytes:
    """A lease on the kill switch for the repository of `conftest.POLICY`, released and good for ten minutes."""
    now = int(time.time())
    facts: dict[str, Any] = {
        "governor": origin, "repository": "test/repository", "issued": now, "expires": now + 600, "stopped": "", "agents": ()
    }  # fmt: skip
    return seal(Lease(**(facts | more)).format(), [signer], payload_type=LEASE_TYPE).format()
