"""The alerts: promtool's own tests, and the metrics that they ask for. test_deploy_alerts.py makes each of them fire."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from tools_cli import PATIENCE
from tools_deploy import DEPLOY, program
from tools_governor import Governor

PROMETHEUS = DEPLOY / "prometheus"
RULES = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"][0]["rules"]


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


OF_FILES = ("safeai_backup_", "safeai_forward_")
"""What the backup and the forwarder write; test_deploy_alerts.py has them write it."""


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\bsafeai_[a-z_]+", text))


def test_a_running_governor_has_every_metric_that_an_alert_asks_for(tmp_path: Path) -> None:
    with Governor(tmp_path / "g") as governor:
        governor.ask("GET", "/v1/entries/0", token=None)
        text = governor.ask("GET", "/metrics", token=None).body.decode()
    there = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    there |= set(re.findall(r"^(\w+_bucket)\{", text, re.MULTILINE))
    wanted = {name for rule in RULES for name in names_in(rule["expr"])}
    assert {name for name in wanted if not name.startswith(OF_FILES)} - there == set()
