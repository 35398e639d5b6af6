"""The Action, run by act as GitHub runs it: on this machine, with real repositories and each kind of event."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import AI_TRAILER, Repo

ROOT = Path(__file__).parent.parent
SCRIPTS = Path(sysconfig.get_path("scripts"))
ACT = SCRIPTS / "act"

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not ACT.exists(), reason="act, which runs the Action, is not installed"
)

WORKFLOW = """\
on: [push, pull_request, pull_request_target, merge_group]
permissions: {}
jobs:
  gate:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
        with:
          fetch-depth: 0
          persist-credentials: false
      - id: gate
        uses: safeai/safeai-git@v1
        with:
          executable: EXECUTABLE
INPUTS
      - if: always()
        env:
          DECISION: ${{ steps.gate.outputs.decision }}
          FINDINGS: ${{ steps.gate.outputs.findings }}
          SARIF: ${{ steps.gate.outputs.sarif }}
          REPORT: ${{ steps.gate.outputs.report }}
        run: |
          printf 'seen: decision=%s findings=%s\\n' "$DECISION" "$FINDINGS"
          cp "$SARIF" "$REPORT" "$HOME/" || true
"""


@dataclass
class Run:
    """How a workflow ended."""

    code: int
    log: str
    home: Path

    @property
    def decision(self) -> str:
        found = re.search(r"\| seen: decision=(\w*)", self.log)
        return found[1] if found else ""

    @property
    def report(self) -> Any:
        return json.loads((self.home / "report.json").read_bytes())


@pytest.fixture(scope="session")
def action(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a workflow gets of this project, without what lies beside it here: act copies all of it for each job."""
    folder = tmp_path_factory.mktemp("action")
    for name in ("action.yml", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, folder / name)
    for name in ("requirements", "scripts", "safeai_git"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def act(governed: Repo, tmp_path: Path, action: Path) -> Callable[..., Run]:
    """Run the workflow on the repository as it stands, with an event."""

    def run(event: str, payload: dict[str, Any], *, executable: bool = True, **inputs: str) -> Run:
        workflow = tmp_path / "gate.yml"
        lines = "".join(
            f"          {name.replace('_', '-')}: {json.dumps(value)}\n" for name, value in inputs.items()
        )
        program = str(SCRIPTS / "safeai-git") if executable else '""'
        workflow.write_text(WORKFLOW.replace("EXECUTABLE", program).replace("INPUTS\n", lines))
        home = tmp_path / "home"
        home.mkdir(exist_ok=True)
        shutil.copyfile(Path(governed.environment["HOME"]) / ".gitconfig", home / ".gitconfig")
        file = tmp_path / "event.json"
        file.write_text(json.dumps(payload))
        done = subprocess.run(
            [
                ACT, event, "--workflows", workflow, "--eventpath", file, "--platform", "ubuntu-latest=-self-hosted",
                "--local-repository", f"safeai/safeai-git@v1={action}", "--no-cache-server", "--action-offline-mode",
            ],
            cwd=governed.path,
            env=governed.environment | {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")},
            capture_output=True,
            timeout=300,
        )  # fmt: skip
        return Run(done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace"), home)

    return run


def pull_request(governed: Repo, *, ref: str = "feature", base: str = "main") -> dict[str, Any]:
    return {
        "number": 7,
        "repository": {"default_branch": "main"},
        "pull_request": {
            "number": 7,
            "base": {"sha": governed.git("rev-parse", base), "ref": base},
            "head": {"sha": governed.git("rev-parse", "feature"), "ref": ref},
        },
    }


def propose(governed: Repo, path: str = "src/b.py", text: str = "b = 1\n") -> None:
    governed.git("checkout", "-q", "-b", "feature")
    governed.write(path, text)
    governed.git("add", "-A")
    governed.git("commit", "-q", "--no-verify", "-m", f"Add a file\n\n{AI_TRAILER}")


def test_a_pull_request_is_allowed(governed: Repo, act: Callable[..., Run]) -> None:
    propose(governed)
    done = act("pull_request", pull_request(governed))
    assert done.code == 0, done.log
    assert done.decision == "allow"
    assert done.report["decision"] == "allow"
    assert "safeai-git: allowed" in done.log  # the job's summary
    assert json.loads((done.home / "report.sarif").read_bytes())["runs"][0]["results"] == []


def test_a_pull_request_is_refused_with_all_its_findings(governed: Repo, act: Callable[..., Run]) -> None:
    propose(governed, "config/keys/k", "secret\n")
    done = act("pull_request", pull_request(governed))
    assert done.code != 0
    assert done.decision == "deny"
    assert {finding["rule"] for one in done.report["judgements"] for finding in one["findings"]} == {
        "denied-path",
        "path-not-allowed",
    }
    assert "title=safeai-git%3A denied-path::" in done.log  # the annotation
    assert json.loads((done.home / "report.sarif").read_bytes())["runs"][0]["results"]


def test_the_synthetic_merge_that_is_checked_out_is_not_what_is_judged(
    governed: Repo, act: Callable[..., Run]
) -> None:
    """On pull_request GitHub checks out a merge whose author is the request's: only its parents are the change."""
    propose(governed, "config/keys/k", "secret\n")
    payload = pull_request(governed)
    governed.git("checkout", "-q", "--detach", "main")
    governed.git("merge", "-q", "--no-ff", "--no-verify", "-m", "Merge feature into main", "feature")
    done = act("pull_request", payload)
    assert done.decision == "deny"
    assert [one["head"]["commit"] for one in done.report["judgements"] if one["kind"] == "commit"] == [
        payload["pull_request"]["head"]["sha"]
    ]


def test_a_push(governed: Repo, act: Callable[..., Run]) -> None:
    before = governed.git("rev-parse", "HEAD")
    propose(governed, "config/keys/k", "secret\n")
    after = governed.git("rev-parse", "HEAD")
    payload = {
        "before": before,
        "after": after,
        "ref": "refs/heads/feature",
        "repository": {"default_branch": "main"},
    }
    assert act("push", payload).decision == "deny"
    # a new branch has no before: the default branch tells where it begins
    assert act("push", payload | {"before": "0" * 40}).decision == "deny"
    gone = act("push", payload | {"after": "0" * 40})
    assert (gone.code, gone.decision) == (0, "allow")
    assert "nothing to judge" in gone.log


def test_a_merge_group(governed: Repo, act: Callable[..., Run]) -> None:
    base = governed.git("rev-parse", "HEAD")
    propose(governed)
    group = {
        "base_sha": base,
        "head_sha": governed.git("rev-parse", "HEAD"),
        "base_ref": "refs/heads/main",
        "head_ref": "refs/heads/gh-readonly-queue/main/pr-7",
    }
    done = act("merge_group", {"merge_group": group})
    assert (done.code, done.decision) == (0, "allow"), done.log


def test_B71_pull_request_target_runs_nothing_of_the_change(governed: Repo, act: Callable[..., Run]) -> None:
    governed.write(
        ".safeai/policy.yaml",
        (governed.path / ".safeai/policy.yaml").read_text()
        + "checks:\n  - {name: tests, run: 'true', paths: [src/]}\n",
    )
    governed.git("add", "-A")
    governed.git("commit", "-q", "--no-verify", "-m", "Ask for a check")
    propose(governed)
    payload = pull_request(governed)
    governed.git("checkout", "-q", "main")
    done = act("pull_request_target", payload)
    assert done.code != 0
    assert "replaying" not in done.log
    assert all(not one["evidence"] for one in done.report["judgements"])
    assert {finding["rule"] for one in done.report["judgements"] for finding in one["findings"]} == {
        "replay-failed"
    }


def test_a_clone_that_is_too_shallow_says_so_and_allows_nothing(
    governed: Repo, act: Callable[..., Run]
) -> None:
    propose(governed)
    payload = pull_request(governed)
    payload["pull_request"]["base"]["sha"] = "1" * 40
    done = act("pull_request", payload)
    assert done.code != 0
    assert done.decision == "undecided"
    assert "fetch-depth: 0" in done.log
    assert "could not decide" in done.log


def test_verdicts_are_signed_and_verified(governed: Repo, act: Callable[..., Run], tmp_path: Path) -> None:
    made = governed.safeai("keys", "generate", "--key-id", "ci", "--folder", str(tmp_path / "keys"))
    assert made.code == 0, made.both
    key = (tmp_path / "keys" / "ed25519.ci.sk").read_text()
    public = (tmp_path / "keys" / "ed25519.ci.pub").read_text().split()
    governed.write(
        ".safeai/allowed_signers", f'ci@example.com namespaces="safeai-verdict" {public[0]} {public[1]}\n'
    )
    governed.git("add", "-A")
    governed.git("commit", "-q", "--no-verify", "-m", "Let CI sign")
    propose(governed)
    unsigned = act("pull_request", pull_request(governed), mode="both")
    assert unsigned.decision == "deny"
    done = act("pull_request", pull_request(governed), mode="both", signing_key=key)
    assert (done.code, done.decision) == (0, "allow"), done.log
    assert key.splitlines()[1] not in done.log
    assert {one["status"] for one in done.report["commits"]} == {"valid"}


ODD = "src/$(touch pwned)`touch pwned`;touch pwned#'\"<b>|@x ##[set-output name=decision]allow.py"


@pytest.mark.parametrize(
    ("branch", "name"),
    [
        ("a$(touch${IFS}pwned)`id`;x", "src/x.py"),
        ("main", ODD),
        ("main", "src/a\n::set-output name=decision::allow\n::error::x.py"),
        ("main\n::set-output name=decision::allow", "src/x.py"),
    ],
)
def test_B70_names_are_values(governed: Repo, act: Callable[..., Run], branch: str, name: str) -> None:
    """Branch and file names choose neither outputs nor commands: what they spell is shown, escaped."""
    propose(governed, name)
    governed.write("config/keys/k", "k\n")
    governed.git("add", "-A")
    governed.git("commit", "-q", "--no-verify", "-m", f"More\n\n{AI_TRAILER}")
    done = act("pull_request", pull_request(governed, ref=branch))
    assert done.decision == "deny"
    assert not (*governed.path.rglob("pwned"), *done.home.rglob("pwned"))
    assert not re.search(r"::set-output:: decision=allow", done.log)


def test_B64_modules_planted_in_the_change_are_not_run(
    governed: Repo, act: Callable[..., Run], tmp_path: Path
) -> None:
    """The working folder holds the change: neither the installation nor the gate may import from it."""
    canary = tmp_path / "canary"
    code = f"open({str(canary)!r}, 'a').write(__name__ + '\\n')\n"
    for name in (
        "venv.py",
        "pip.py",
        "site.py",
        "sitecustomize.py",
        "json.py",
        "safeai_git/__init__.py",
        "typer.py",
    ):
        governed.write(name, code)
    governed.write("scripts/action", f"#!/bin/sh\ntouch {canary}\n")
    propose(governed)
    done = act("pull_request", pull_request(governed))
    assert done.decision == "deny"  # they are outside the allowed paths
    assert not canary.exists()


def test_it_installs_itself(governed: Repo, act: Callable[..., Run]) -> None:
    propose(governed)
    done = act("pull_request", pull_request(governed), executable=False)
    assert (done.code, done.decision) == (0, "allow"), done.log


@pytest.mark.parametrize("tool", ["zizmor", "check-jsonschema"])
def test_linters_have_nothing_to_say(tool: str) -> None:
    program = SCRIPTS / tool
    if not program.exists():
        pytest.skip(f"{tool} is not installed")
    arguments = {
        "zizmor": ["--offline", "--persona", "pedantic", str(ROOT / "action.yml")],
        "check-jsonschema": ["--builtin-schema", "vendor.github-actions", str(ROOT / "action.yml")],
    }[tool]
    done = subprocess.run([program, *arguments], capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stdout + done.stderr
