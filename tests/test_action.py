"""The Action, run by act as GitHub runs it: on this machine, with real repositories and each kind of event."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

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


# The Governor: what scripts/action asks of GitHub, and what it hands on


class Issuer(BaseHTTPRequestHandler):
    """GitHub's endpoint for the job's OIDC token."""

    asked: list[tuple[str, str]]
    status = 200

    def log_message(self, *args: object) -> None:
        """Nothing on the tests' output."""

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization", "")))
        body = b'{"count": 1, "value": "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJ4In0.c2ln_-"}'
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def issuer() -> Iterator[tuple[str, type[Issuer]]]:
    handler = type("OneIssuer", (Issuer,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/token?api-version=2.0", handler
    server.shutdown()
    thread.join()
    server.server_close()


def judge(tmp_path: Path, **variables: str) -> tuple[str, dict[str, str]]:
    """Run the Action's second step with a program that writes down its environment; its log, and that environment."""
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\nenv > {tmp_path}/environment\n")
    program.chmod(0o755)
    names = (
        "BASE",
        "HEAD",
        "POLICY",
        "REMOTE",
        "EVIDENCE",
        "GOVERNOR_URL",
        "LOG_KEY",
        "AUDIENCE",
        "SIGNING_KEY",
        "PUSH",
    )
    environment = {f"SAFEAI_{name}": "" for name in names} | {
        "SAFEAI_MODE": "check", "SAFEAI_FAIL_ON": "review", "SAFEAI_REPLAY": "false", "PATH": os.environ["PATH"],
        "RUNNER_TEMP": str(tmp_path), "GITHUB_OUTPUT": str(tmp_path / "output"),
    }  # fmt: skip
    done = subprocess.run(
        [ROOT / "scripts/action", "judge", program],
        env=environment | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "environment").read_text().splitlines()
    return done.stdout + done.stderr, dict(line.split("=", 1) for line in lines if "=" in line)


GOVERNOR = {"SAFEAI_GOVERNOR_URL": "https://governor.example", "SAFEAI_LOG_KEY": "governor.example+1+x"}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl, which fetches the token, is not installed")
def test_the_jobs_own_token_goes_to_the_governor_and_nowhere_else(
    tmp_path: Path, issuer: tuple[str, type[Issuer]]
) -> None:
    url, handler = issuer
    secret = {"ACTIONS_ID_TOKEN_REQUEST_URL": url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "request-secret"}
    log, seen = judge(tmp_path, **GOVERNOR, **secret, SAFEAI_AUDIENCE="safeai governor&x")
    ((path, authorization),) = handler.asked
    assert parse_qs(urlsplit(path).query) == {"api-version": ["2.0"], "audience": ["safeai governor&x"]}
    assert authorization == "bearer request-secret"
    assert seen["SAFEAI_GOVERNOR"] == "https://governor.example"
    assert seen["SAFEAI_GOVERNOR_KEY"] == "governor.example+1+x"
    assert seen["SAFEAI_TOKEN"] == "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJ4In0.c2ln_-"
    assert not [name for name in seen if name.startswith("ACTIONS_ID_TOKEN")]
    assert log.count(seen["SAFEAI_TOKEN"]) == log.count("::add-mask::") == 1
    assert "request-secret" not in log


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl, which fetches the token, is not installed")
def test_a_fork_gets_no_token_and_the_job_goes_on(tmp_path: Path, issuer: tuple[str, type[Issuer]]) -> None:
    url, handler = issuer
    log, seen = judge(tmp_path, **GOVERNOR)
    assert "this job gets no OIDC token" in log
    assert seen.get("SAFEAI_TOKEN", "") == ""
    handler.status = 403
    secret = {"ACTIONS_ID_TOKEN_REQUEST_URL": url, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "request-secret"}
    log, seen = judge(tmp_path, **GOVERNOR, **secret)
    assert "GitHub gave no OIDC token for 'https://governor.example'" in log
    assert seen["SAFEAI_TOKEN"] == ""
    assert "request-secret" not in log


def test_a_token_that_may_only_read_keeps_nothing_but_the_upload(
    governed: Repo, act: Callable[..., Run], tmp_path: Path
) -> None:
    """A fork's job: no secret, and a remote that takes no push. It is judged, and what it could not do is said."""
    made = governed.safeai("keys", "generate", "--key-id", "ci", "--folder", str(tmp_path / "keys"))
    assert made.code == 0, made.both
    propose(governed)
    bare = Repo(tmp_path / "remote.git", governed.environment)
    governed.git("clone", "-q", "--bare", str(governed.path), str(bare.path))
    hook = bare.path / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'remote: Permission denied to fork'\nexit 1\n")
    hook.chmod(0o755)
    governed.git("remote", "add", "origin", bare.path.as_uri())
    key = (tmp_path / "keys" / "ed25519.ci.sk").read_text()
    done = act("pull_request", pull_request(governed), signing_key=key, push_verdicts="true")
    assert (done.code, done.decision) == (0, "allow"), done.log
    assert "the verdicts stay here" in done.log
    shutil.rmtree(governed.environment["XDG_CONFIG_HOME"])
    done = act("pull_request", pull_request(governed), push_verdicts="true")
    assert (done.code, done.decision) == (0, "allow"), done.log
    assert "not signed: no key is configured" in done.log
