"""The alerts: promtool's own tests, the metrics that they ask for, and a real Prometheus that scrapes a real Governor."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from tools_cli import PATIENCE
from tools_deploy import DEPLOY, program
from tools_governor import Governor

PROMETHEUS = DEPLOY / "prometheus"
RULES = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]
OF_PROMETHEUS = {"up"}


@pytest.mark.parametrize(
    "words",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
)
def test_promtool_is_content(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        [program("promtool"), *words], cwd=PROMETHEUS, capture_output=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_and_has_a_page_of_its_own() -> None:
    tested = (PROMETHEUS / "alerts_test.yml").read_text()
    pages = (DEPLOY.parent / "docs/deploy/runbooks.md").read_text()
    for rule in RULES:
        assert f'alertname="{rule["alert"]}"' in tested
        assert rule["annotations"]["runbook"] == f"docs/deploy/runbooks.md#{rule['alert'].lower()}"
        assert f"\n## {rule['alert']}\n" in pages
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def test_the_operators_resource_holds_the_same_rules() -> None:
    done = subprocess.run([PROMETHEUS / "rule-resource"], capture_output=True, check=True)
    resource = yaml.safe_load(done.stdout)
    assert resource["kind"] == "PrometheusRule"
    assert resource["spec"]["groups"][0]["rules"] == RULES


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\bsafeai_[a-z_]+", text))


def test_a_running_governor_has_every_metric_that_an_alert_asks_for(tmp_path: Path) -> None:
    with Governor(tmp_path / "g") as governor:
        governor.ask("GET", "/v1/entries/0", token=None)
        text = governor.ask("GET", "/metrics", token=None).body.decode()
    there = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    wanted = {name for rule in RULES for name in names_in(rule["expr"])}
    assert wanted - there == set()


class Prometheus:
    """A real one, that looks at one Governor every half second."""

    def __init__(self, folder: Path, target: str) -> None:
        config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
        config["global"] = {
            "scrape_interval": "500ms",
            "scrape_timeout": "500ms",
            "evaluation_interval": "500ms",
        }
        job = config["scrape_configs"][0]
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": [target]}]
        rules = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())
        for rule in rules["groups"][0]["rules"]:
            rule["for"] = "0s"  # nobody waits minutes here; promtool has tried the times
        rules["groups"][0]["interval"] = "500ms"
        (folder / "alerts.yml").write_text(yaml.safe_dump(rules))
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        with (folder / "said").open("wb") as said:
            self.process = subprocess.Popen(
                [program("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                 f"--web.listen-address=127.0.0.1:{self.port}"], stderr=said,
            )  # fmt: skip

    def ask(self, query: str) -> list[dict[str, Any]]:
        url = f"http://127.0.0.1:{self.port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return found

    def wait_for(self, query: str) -> list[dict[str, Any]]:
        """The first answer to a query that is not empty."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                if found := self.ask(query):
                    return found
            except OSError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"{query} has no answer")


def test_a_real_prometheus_sees_the_governor_and_raises_the_alarm(tmp_path: Path) -> None:
    with Governor(tmp_path / "g", SAFEAI_ENABLE="off") as governor:
        folder = tmp_path / "prometheus"
        folder.mkdir()
        prometheus = Prometheus(folder, f"127.0.0.1:{governor.port}")
        try:
            assert prometheus.wait_for("safeai_log_entries")[0]["value"][1] in ("2", "3")
            prometheus.wait_for('ALERTS{alertname="KillSwitchActivated", alertstate="firing"}')
            assert not prometheus.ask('ALERTS{alertname="LogFailed"}')
            (governor.folder / "audit.log").rename(tmp_path / "gone")
            governor.stop(9)
            prometheus.wait_for('ALERTS{alertname="GovernorDown", alertstate="firing"}')
            for board in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")):
                for panel in json.loads(board.read_text())["panels"]:
                    for target in panel.get("targets", []):
                        query = target["expr"].replace("$__rate_interval", "1m")
                        assert prometheus.ask(f"count({query}) or vector(1)"), query
        finally:
            prometheus.process.terminate()
            prometheus.process.wait(PATIENCE)
