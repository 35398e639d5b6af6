"""The examples for other systems, as far as a shell can run them: each system's variables lead to the same change."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import AI_TRAILER, POLICY, Repo, Result

ROOT = Path(__file__).parent.parent
SCRIPTS = sysconfig.get_path("scripts")
NAME = "src/$(touch pwned)`id`.py"


@pytest.fixture
def clone(governed: Repo, tmp_path: Path) -> Repo:
    """A job's clone of a server that has main and a feature branch, one commit ahead and one behind."""
    governed.git("checkout", "-q", "-b", "feature")
    governed.git("commit", "-q", "--no-verify", "--allow-empty", "-m", f"Change\n\n{AI_TRAILER}")
    governed.commit(f"More\n\n{AI_TRAILER}", {NAME: "b = 1\n"})
    path = tmp_path / "clone"
    governed.git("clone", "-q", governed.path.as_uri(), str(path))
    repo = Repo(path, governed.environment)
    repo.git("checkout", "-q", "--detach", "origin/feature")
    return repo


def shell(repo: Repo, line: str, variables: dict[str, str]) -> Result:
    environment = repo.environment | {"PATH": f"{SCRIPTS}:{os.environ['PATH']}"} | variables
    done = subprocess.run(["sh", "-c", line], cwd=repo.path, env=environment, capture_output=True)
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


def commands(value: Any) -> list[str]:
    """All texts of a document that run ``safeai-git ci``."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [line for one in value for line in commands(one)]
    return [value] if isinstance(value, str) and value.startswith("safeai-git ci ") else []


def of_yaml(path: str) -> Callable[[], str]:
    return lambda: commands(yaml.safe_load((ROOT / path).read_text()))[0]


def of_jenkins() -> str:
    found = re.search(r"sh '(safeai-git ci [^']*)'", (ROOT / "examples/Jenkinsfile").read_text())
    assert found is not None
    return found[1]


SYSTEMS: dict[str, tuple[Callable[[], str], dict[str, str]]] = {
    "gitlab": (of_yaml("templates/safeai-git.gitlab-ci.yml"), {
        "GITLAB_CI": "true", "CI_COMMIT_SHA": "HEAD", "CI_MERGE_REQUEST_IID": "4", "CI_MERGE_REQUEST_DIFF_BASE_SHA": "BASE",
        "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "feature", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main"}),
    "bitbucket": (of_yaml("examples/bitbucket-pipelines.yml"), {
        "BITBUCKET_BUILD_NUMBER": "1", "BITBUCKET_COMMIT": "HEAD", "BITBUCKET_PR_DESTINATION_COMMIT": "BASE",
        "BITBUCKET_BRANCH": "feature", "BITBUCKET_PR_DESTINATION_BRANCH": "main"}),
    "azure": (of_yaml("examples/azure-pipelines.yml"), {
        "TF_BUILD": "True", "BUILD_SOURCEVERSION": "HEAD", "BUILD_SOURCEBRANCH": "refs/heads/feature",
        "SYSTEM_PULLREQUEST_TARGETBRANCH": "refs/heads/main"}),
    "woodpecker": (of_yaml("examples/woodpecker.yml"), {
        "CI_PIPELINE_FORGE_URL": "https://forge.example", "CI_COMMIT_SHA": "HEAD", "CI_COMMIT_BRANCH": "feature",
        "CI_COMMIT_TARGET_BRANCH": "main"}),
    "jenkins": (of_jenkins, {"JENKINS_URL": "https://ci.example", "GIT_COMMIT": "HEAD", "BRANCH_NAME": "PR-4", "CHANGE_TARGET": "main"}),
}  # fmt: skip


@pytest.mark.parametrize("system", SYSTEMS)
def test_each_system_leads_to_the_same_change(clone: Repo, system: str) -> None:
    find, variables = SYSTEMS[system]
    head, base = clone.git("rev-parse", "origin/feature"), clone.git("rev-parse", "origin/main")
    known = {"HEAD": head, "BASE": base}
    (clone.path / "test-results").mkdir()
    line = f"{find()} --report json=whole.json"
    done = shell(clone, line, {name: known.get(value, value) for name, value in variables.items()})
    assert done.code == 0, done.both
    told = json.loads((clone.path / "whole.json").read_text())
    assert (told["facts"]["base"], told["facts"]["head"]) == (base, head)
    assert len([one for one in told["judgements"] if one["kind"] == "commit"]) == 2
    assert not list(clone.path.rglob("pwned"))


def test_the_note_on_a_merge_request_travels_as_a_file(clone: Repo, tmp_path: Path) -> None:
    """With a curl that writes down what it was given: the token on standard input, the text in a file."""
    job = yaml.safe_load((ROOT / "templates/safeai-git.gitlab-ci.yml").read_text())["safeai-git"]
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "curl").write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/arguments\ncat > {tmp_path}/input\n'
    )
    (tools / "curl").chmod(0o755)
    (clone.path / "safeai.md").write_text("`$(touch pwned)`\n")
    variables = {
        "PATH": f"{tools}:{os.environ['PATH']}", "SAFEAI_NOTE_TOKEN": "glpat-secret", "CI_MERGE_REQUEST_IID": "4",
        "CI_API_V4_URL": "https://gitlab.example/api/v4", "CI_PROJECT_ID": "7",
    }  # fmt: skip
    assert shell(clone, job["after_script"][0], variables).code == 0
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert "body@safeai.md" in arguments
    assert arguments[-1] == "https://gitlab.example/api/v4/projects/7/merge_requests/4/notes"
    assert "glpat-secret" not in " ".join(arguments)
    assert (tmp_path / "input").read_text() == 'header = "PRIVATE-TOKEN: glpat-secret"\n'
    assert not list(clone.path.rglob("pwned"))


def test_without_network_and_key_a_change_is_judged_and_said_to_be_unsigned(
    governed: Repo, tmp_path: Path
) -> None:
    """As pre-commit.ci runs hooks: no key, nothing to reach. A refusal stays a refusal."""
    nothing = {
        "XDG_CONFIG_HOME": str(tmp_path / "none"),
        "https_proxy": "http://127.0.0.1:9",
        "GIT_TERMINAL_PROMPT": "0",
    }
    governed.commit("work", {"src/b.py": "b = 1\n"}, ai=True)
    done = governed.safeai("hook", "run", "post-commit", env=nothing)
    assert done.code == 0
    assert "judged, not signed: no key is configured" in done.err
    done = governed.safeai("check", "--range", "HEAD~1..HEAD", env=nothing)
    assert (done.code, "not signed: no key is configured" in done.err) == (0, True)
    governed.write("config/keys/k", "k\n")
    governed.git("add", "-A")
    done = governed.safeai("hook", "run", "pre-commit", env=nothing | {"CLAUDECODE": "1"})
    assert (done.code, "denied-path" in done.err) == (1, True)


def test_husky_runs_the_hooks_that_there_are(governed: Repo) -> None:
    for name in ("pre-commit", "commit-msg", "post-commit", "pre-push"):
        script = ROOT / "examples/husky" / name
        line = f'sh "{script}"' + (f" {governed.path}/.git/COMMIT_EDITMSG" if name == "commit-msg" else "")
        done = shell(governed, line + " < /dev/null", {})
        assert done.code == 0, (name, done.both)
    hooks = yaml.safe_load((ROOT / "examples/lefthook.yml").read_text())
    assert list(hooks) == ["pre-commit", "commit-msg", "post-commit", "pre-push"]
    for name, hook in hooks.items():
        assert hook["commands"]["safeai-git"]["run"].startswith(f"safeai-git hook run {name}")


# A signing job that takes what another one replayed


def test_B67_the_job_that_signs_runs_nothing_and_believes_only_what_is_about_its_tree(governed: Repo) -> None:
    check = "checks:\n  - {name: unit, run: 'test -f src/b.py', paths: [src/]}\n"
    governed.commit("check", {".safeai/policy.yaml": POLICY + check})
    governed.commit("work", {"src/b.py": "b = 1\n"}, ai=True)
    line = ("ci", "--base", "HEAD~1", "--head", "HEAD")
    done = governed.safeai(
        *line, "--report", "json=replay.json", env={"SAFEAI_KEY": "", "XDG_CONFIG_HOME": "/nonexistent"}
    )
    if done.code != 0:
        pytest.skip(f"no sandbox here: {done.both[-200:]}")
    done = governed.safeai(
        *line, "--evidence", "replay.json", "--report", "json=sign.json", "--format", "json"
    )
    assert done.code == 0, done.both
    told = json.loads(done.out)
    seen = [one for judged in told["judgements"] for one in judged["evidence"]]
    assert {(one["name"], one["result"]) for one in seen} == {("unit", "passed")}
    assert all(one["isolation"].endswith(", in an earlier job") for one in seen)
    assert governed.safeai("verify", "HEAD~1..HEAD").code == 0
    # Another tree: what was seen before says nothing of it.
    governed.commit("more", {"src/b.py": "b = 2\n"}, ai=True)
    assert governed.safeai("ci", "--base", "HEAD~1", "--head", "HEAD", "--evidence", "replay.json").code == 1
    whole = json.loads((governed.path / "replay.json").read_text())
    whole["judgements"][0]["evidence"] = [{"name": "unit", "result": "splendid"}]
    (governed.path / "odd.json").write_text(json.dumps(whole))
    for file in ("odd.json", "none.json", "src/b.py"):
        done = governed.safeai("ci", "--base", "HEAD~1", "--head", "HEAD", "--evidence", file)
        assert done.code == 3, (file, done.both)
