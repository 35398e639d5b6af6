"""Workflows, templates and examples: linted by other people's tools, and every variable of ours is known to the Action."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
SCRIPTS = Path(sysconfig.get_path("scripts"))
WORKFLOWS = [
    *sorted((ROOT / ".github/workflows").glob("*.yml")),
    *sorted((ROOT / "examples/github").glob("*.yml")),
]
ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.7"


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def actionlint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """actionlint: one that is there, or built by Go."""
    if found := shutil.which("actionlint"):
        return found
    go = shutil.which("go")
    if go is None:
        pytest.skip("neither actionlint nor Go, which builds it, is installed")
    folder = tmp_path_factory.mktemp("actionlint")
    environment = os.environ | {"GOBIN": str(folder), "GOFLAGS": "-modcacherw"}
    built = subprocess.run(
        [go, "install", ACTIONLINT], env=environment, capture_output=True, text=True, timeout=300
    )
    if built.returncode:
        pytest.skip(f"Go could not fetch or build actionlint: {built.stderr.strip()[-200:]}")
    return str(folder / "actionlint")


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_actionlint_has_nothing_to_say(actionlint: str) -> None:
    run(actionlint, "-no-color", "-shellcheck=", "-pyflakes=", *WORKFLOWS)


def test_zizmor_has_nothing_to_say() -> None:
    program = SCRIPTS / "zizmor"
    if not program.exists():
        pytest.skip("zizmor is not installed")
    run(program, "--offline", "--persona", "pedantic", "--no-progress", *WORKFLOWS, ROOT / "action.yml")


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", WORKFLOWS),
        ("vendor.github-actions", [ROOT / "action.yml"]),
        ("vendor.gitlab-ci", [ROOT / "templates/safeai-git.gitlab-ci.yml"]),
        ("vendor.azure-pipelines", [ROOT / "examples/azure-pipelines.yml"]),
        ("vendor.bitbucket-pipelines", [ROOT / "examples/bitbucket-pipelines.yml"]),
        ("vendor.woodpecker-ci", [ROOT / "examples/woodpecker.yml"]),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_they_fit_their_schemas(schema: str, files: list[Path]) -> None:
    program = SCRIPTS / "check-jsonschema"
    if not program.exists():
        pytest.skip("check-jsonschema is not installed")
    run(program, "--regex-variant", "python", "--builtin-schema", schema, *files)


def steps() -> list[tuple[str, dict[str, Any]]]:
    found = []
    for path in WORKFLOWS:
        for job in load(path)["jobs"].values():
            found += [(path.name, step) for step in job.get("steps", ())]
    return found


def test_they_give_the_action_inputs_that_it_has() -> None:
    action = load(ROOT / "action.yml")
    ours = [
        (name, step) for name, step in steps() if str(step.get("uses", "")).startswith("safeai/safeai-git@")
    ]
    assert len(ours) >= 7
    for name, step in ours:
        assert set(step.get("with", {})) <= set(action["inputs"]), name
    used = re.findall(r"steps\.gate\.outputs\.([a-z-]+)", "".join(path.read_text() for path in WORKFLOWS))
    assert set(used) <= set(action["outputs"])
    given = set(re.findall(r"inputs\.([a-z-]+)", (ROOT / "action.yml").read_text()))
    assert given == set(action["inputs"])


def test_every_job_that_runs_the_change_holds_no_secret() -> None:
    """The reusable workflow: the key is in the job that replays nothing, and in no other."""
    jobs = load(ROOT / ".github/workflows/gate.yml")["jobs"]
    assert "secrets." not in json.dumps(jobs["replay"])
    assert "write" not in json.dumps(jobs["replay"]["permissions"])
    (signing,) = [step for step in jobs["sign"]["steps"] if step.get("id") == "gate"]
    assert signing["with"]["evidence"]


def test_nothing_foreign_is_pasted_into_a_shell() -> None:
    for name, step in steps():
        assert "${{" not in step.get("run", ""), name


def test_the_required_check_has_an_expected_source() -> None:
    rules = json.loads((ROOT / "examples/github/ruleset.json").read_text())["rules"]
    (checks,) = [
        one["parameters"]["required_status_checks"]
        for one in rules
        if one["type"] == "required_status_checks"
    ]
    names = {job.get("name") for path in WORKFLOWS for job in load(path)["jobs"].values()}
    assert all(one["integration_id"] == 15368 and one["context"] in names for one in checks)
