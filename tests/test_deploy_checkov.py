"""checkov over what the overlays render and over the Dockerfile: every finding is explained, every explanation is needed.

checkov brings 90 packages along, so it has an environment and a lock of its own, which ``make deploy-test`` installs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from tools_cli import PATIENCE
from tools_deploy import DEPLOY, OVERLAYS, rendered

CHECKOV = DEPLOY.parent / "build" / "checkov" / "bin" / "checkov"

Finding = tuple[str, str]
"""A check's id, and the overlay or file that it objects to."""


def findings(folder: Path) -> set[Finding]:
    """What checkov finds in a folder, whose files are named after overlays."""
    if not CHECKOV.exists():
        pytest.skip("checkov is not installed in build/checkov; 'make deploy-test' does that")
    done = subprocess.run(
        [CHECKOV, "--directory", folder, "--framework", "kubernetes", "dockerfile", "secrets",
         "--skip-download", "--quiet", "--compact", "--output", "json"],
        capture_output=True,
        timeout=PATIENCE,
        env={"PATH": os.defpath, "HOME": str(folder), "LANG": "C.UTF-8"},
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    reports = json.loads(done.stdout)
    reports = reports if isinstance(reports, list) else [reports]
    seen = {report["check_type"] for report in reports}
    assert {"kubernetes", "dockerfile"} <= seen, "checkov read nothing of these"
    assert not any(report["summary"]["parsing_errors"] for report in reports)
    return {
        (one["check_id"], Path(one["file_path"]).stem)
        for report in reports
        for one in report["results"]["failed_checks"]
    }


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """What would be applied and built."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    for overlay in OVERLAYS:
        (folder / f"{overlay}.yaml").write_text(yaml.safe_dump_all(rendered(overlay)))
    shutil.copy(DEPLOY / "docker" / "Dockerfile", folder)
    return folder


def test_every_finding_of_checkov_is_explained_and_every_explanation_needed(shipped: Path) -> None:
    exceptions = yaml.safe_load((DEPLOY / "checkov.yaml").read_text())
    explained = {(one["check"], where) for one in exceptions for where in one["where"]}
    assert all(len(one["reason"]) > 40 for one in exceptions)
    assert findings(shipped) == explained


def test_what_is_worse_than_shipped_is_found(shipped: Path) -> None:
    path = shipped / "single.yaml"
    path.write_text(path.read_text().replace("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false"))
    (shipped / "Dockerfile").write_text((shipped / "Dockerfile").read_text().replace("USER 1000:1000\n", ""))
    assert {("CKV_K8S_22", "single"), ("CKV_DOCKER_3", "Dockerfile")} <= findings(shipped)
