"""Which change a CI job is about, by the variables and events of each system."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import AI_TRAILER, Repo
from hypothesis import given
from hypothesis import strategies as st

from safeai_git.ci import Change, detect
from safeai_git.core.errors import WrongUse

A, B, NONE = "a" * 40, "b" * 40, "0" * 40
SHA256 = "c" * 64


def github(event: str, **payload: Any) -> Change:
    return detect({"GITHUB_ACTIONS": "true", "GITHUB_EVENT_NAME": event}, payload)


def request(base: Any = A, head: Any = B, ref: Any = "feature") -> dict[str, Any]:
    return {"number": 5, "base": {"sha": base, "ref": "main"}, "head": {"sha": head, "ref": ref}}


def test_github() -> None:
    assert github("pull_request", pull_request=request()) == Change(
        "github", "pull_request", A, B, "feature", "main", 5
    )
    assert github("pull_request_target", pull_request=request()).only_data
    assert github("pull_request", pull_request=request(SHA256, SHA256)).base == SHA256
    group = {"base_sha": A, "head_sha": B, "base_ref": "refs/heads/main", "head_ref": "refs/heads/q/1"}
    assert github("merge_group", merge_group=group) == Change("github", "merge_group", A, B, "q/1", "main")
    push = {"before": A, "after": B, "ref": "refs/heads/x", "repository": {"default_branch": "main"}}
    assert github("push", **push) == Change("github", "push", A, B, "x", "main")
    assert github("push", **push | {"before": NONE}).base == ""
    assert github("push", **push | {"after": NONE}).head == ""


@pytest.mark.parametrize(
    ("environ", "change"),
    [
        (
            {"GITLAB_CI": "true", "CI_COMMIT_SHA": B, "CI_COMMIT_BEFORE_SHA": A, "CI_COMMIT_REF_NAME": "x", "CI_DEFAULT_BRANCH": "main"},
            Change("gitlab", "push", A, B, "x", "main"),
        ),
        (
            {"GITLAB_CI": "true", "CI_COMMIT_SHA": B, "CI_COMMIT_BEFORE_SHA": NONE, "CI_COMMIT_REF_NAME": "x"},
            Change("gitlab", "push", "", B, "x"),
        ),
        (
            {"GITLAB_CI": "true", "CI_COMMIT_SHA": B, "CI_MERGE_REQUEST_IID": "4", "CI_MERGE_REQUEST_DIFF_BASE_SHA": A,
             "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "x", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main"},
            Change("gitlab", "merge_request", A, B, "x", "main"),
        ),
        (
            {"GITLAB_CI": "true", "CI_COMMIT_SHA": "d" * 40, "CI_MERGE_REQUEST_IID": "4", "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": B,
             "CI_MERGE_REQUEST_TARGET_BRANCH_SHA": A, "CI_MERGE_REQUEST_DIFF_BASE_SHA": "e" * 40},
            Change("gitlab", "merge_request", A, B),
        ),
        (
            {"BITBUCKET_BUILD_NUMBER": "1", "BITBUCKET_COMMIT": B, "BITBUCKET_PR_DESTINATION_COMMIT": A,
             "BITBUCKET_BRANCH": "x", "BITBUCKET_PR_DESTINATION_BRANCH": "main"},
            Change("bitbucket", "build", A, B, "x", "main"),
        ),
        (
            {"TF_BUILD": "True", "BUILD_SOURCEVERSION": B, "BUILD_SOURCEBRANCH": "refs/heads/x",
             "SYSTEM_PULLREQUEST_TARGETBRANCH": "refs/heads/main"},
            Change("azure", "build", "", B, "x", "main"),
        ),
        (
            {"CI_PIPELINE_FORGE_URL": "https://forge.example", "CI_COMMIT_SHA": B, "CI_PREV_COMMIT_SHA": A, "CI_COMMIT_BRANCH": "x"},
            Change("woodpecker", "build", A, B, "x"),
        ),
        ({"JENKINS_URL": "https://ci.example", "GIT_COMMIT": B, "CHANGE_TARGET": "main"}, Change("jenkins", "build", "", B, "", "main")),
    ],
)  # fmt: skip
def test_other_systems(environ: dict[str, str], change: Change) -> None:
    assert detect(environ, {}) == change


@pytest.mark.parametrize(
    "value", ["", "main", "a" * 39, "A" * 40, f"{A}\n", "--upload-pack=x", None, 5, ["a"], A + "^"]
)
def test_B03_what_is_no_id_is_refused(value: Any) -> None:
    with pytest.raises(WrongUse, match="names no commit"):
        github("pull_request", pull_request=request(base=value))
    with pytest.raises(WrongUse, match="names no commit"):
        github("push", before=A, after=value or "x")


@pytest.mark.parametrize("event", ["", "workflow_dispatch", "schedule", "issue_comment"])
def test_events_without_a_change(event: str) -> None:
    with pytest.raises(WrongUse, match="names no change"):
        github(event)


def test_no_ci_at_all() -> None:
    with pytest.raises(WrongUse) as caught:
        detect({}, {})
    assert "--base" in caught.value.hint


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["base", "head", "sha", "ref", "number"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.sampled_from(["pull_request", "push", "merge_group", "pull_request_target"]), json_values)
def test_any_event_is_a_change_or_wrong_use(event: str, value: Any) -> None:
    for payload in (
        {event: value},
        {"before": value, "after": value},
        {"pull_request": {"base": value, "head": value}},
    ):
        with pytest.raises(WrongUse):
            github(event, **payload)


# In a repository


def job(governed: Repo, tmp_path: Path, name: str, payload: Any) -> dict[str, str]:
    event = tmp_path / "event.json"
    event.write_text(payload if isinstance(payload, str) else json.dumps(payload))
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_EVENT_NAME": name,
        "GITHUB_EVENT_PATH": str(event),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
    }


def outputs(tmp_path: Path) -> dict[str, str]:
    lines = (tmp_path / "output").read_text().split("\n")
    return {lines[at].split("<<")[0]: lines[at + 1] for at in range(0, len(lines) - 2, 3)}


def test_what_could_not_be_decided_is_reported_as_such(governed: Repo, tmp_path: Path) -> None:
    env = job(governed, tmp_path, "pull_request", {"pull_request": request()})
    done = governed.safeai("ci", env=env)
    assert done.code == 3
    assert outputs(tmp_path)["decision"] == "undecided"
    assert "could not decide" in (tmp_path / "summary").read_text()


@pytest.mark.parametrize("payload", ["", "[", "[]", "null"])
def test_an_event_that_cannot_be_read(governed: Repo, tmp_path: Path, payload: str) -> None:
    assert governed.safeai("ci", env=job(governed, tmp_path, "push", payload)).code in (2, 3)


def test_fail_on(governed: Repo, tmp_path: Path) -> None:
    base = governed.git("rev-parse", "HEAD")
    governed.commit(f"CI\n\n{AI_TRAILER}", {".github/workflows/x.yml": "on: push\n"})
    flags = ("ci", "--base", base, "--head", "HEAD")
    assert governed.safeai(*flags).code == 1
    assert governed.safeai(*flags, "--fail-on", "deny").code == 0
    assert governed.safeai(*flags, "--fail-on", "deny", "--mode", "verify").code == 1
    assert governed.safeai(*flags, "--fail-on", "allow").code == 2
    assert governed.safeai(*flags, "--mode", "guess").code == 2
    governed.commit(f"Keys\n\n{AI_TRAILER}", {"config/keys/k": "k\n"})
    assert governed.safeai(*flags, "--fail-on", "deny").code == 1


def test_a_shallow_clone_fetches_what_it_lacks(governed: Repo, tmp_path: Path) -> None:
    base = governed.git("rev-parse", "HEAD")
    governed.commit(f"One\n\n{AI_TRAILER}", {"src/one.py": "1\n"})
    head = governed.commit(f"Two\n\n{AI_TRAILER}", {"src/two.py": "2\n"})
    governed.safeai("check", "--range", f"{base}..{head}")  # signs: the notes travel too
    clone = Repo(tmp_path / "clone", governed.environment)
    governed.git("clone", "-q", "--depth", "1", governed.path.as_uri(), str(clone.path))
    flags = ("ci", "--base", base, "--head", head, "--mode", "verify")
    done = clone.safeai(*flags)
    assert done.code == 3
    assert "fetch-depth: 0" in done.err
    done = clone.safeai(*flags, "--fetch", "origin")
    assert done.code == 0, done.both
    assert clone.safeai(*flags, "--fetch", "no-such-remote").code == 0


def test_a_new_branch_begins_where_it_left_the_default_branch(governed: Repo, tmp_path: Path) -> None:
    main = governed.git("rev-parse", "HEAD")
    governed.git("checkout", "-q", "-b", "x")
    after = governed.commit(f"One\n\n{AI_TRAILER}", {"config/keys/k": "1\n"})
    payload = {
        "before": NONE,
        "after": after,
        "ref": "refs/heads/x",
        "repository": {"default_branch": "main"},
    }
    done = governed.safeai("ci", "--format", "json", env=job(governed, tmp_path, "push", payload))
    assert done.code == 1
    assert json.loads(done.out)["base"] == main
    payload["repository"] = {"default_branch": "elsewhere"}
    done = governed.safeai("ci", env=job(governed, tmp_path, "push", payload))
    assert (done.code, "git fetch origin elsewhere" in done.err) == (3, True)
