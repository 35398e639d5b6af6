"""A real Prometheus for tests, with the rules that are shipped, which looks at Governors every half second."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from tools_cli import PATIENCE, free_port
from tools_deploy import DEPLOY, program

WINDOW = "10s"
"""What every rule looks back in place of minutes; promtool has tried the times (alerts_test.yml)."""


def shortened(expression: str) -> str:
    """A query as it is shipped, that looks back seconds."""
    return re.sub(r"\[(\d+[smhd]|\$__rate_interval)\]", f"[{WINDOW}]", expression)


class Prometheus:
    """One process.

    Args:
        folder: For its data.
        targets: Addresses with ports.
        thresholds: Parts of the rules' text and what to say instead, where a test cannot do as much in a second.
    """

    def __init__(
        self, folder: Path, targets: Sequence[str], thresholds: Sequence[tuple[str, str]] = ()
    ) -> None:
        folder.mkdir()
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        often = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"}
        config["global"] = often
        job = config["scrape_configs"][0]
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": list(targets)}]
        rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
        for rule in rules["groups"][0]["rules"]:
            rule["for"] = "0s"
            rule["expr"] = shortened(rule["expr"])
            for old, new in thresholds:
                rule["expr"] = rule["expr"].replace(old, new)
        rules["groups"][0]["interval"] = "500ms"
        (folder / "alerts.yml").write_text(yaml.safe_dump(rules))
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.port = free_port()
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

    def wait_for(self, query: str, meanwhile: Callable[[], object] = lambda: None) -> list[dict[str, Any]]:
        """The first answer to a query that is not empty; `meanwhile` is done again and again until then."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            meanwhile()
            try:
                if found := self.ask(query):
                    return found
            except OSError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"{query} has no answer")

    def fires(self, alert: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Wait until an alert fires."""
        self.wait_for(f'ALERTS{{alertname="{alert}", alertstate="firing"}}', meanwhile)

    def firing(self) -> set[str]:
        """The alerts that fire."""
        return {one["metric"]["alertname"] for one in self.ask('ALERTS{alertstate="firing"}')}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
