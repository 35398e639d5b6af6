"""Whole flows under act: the reusable workflow in its two jobs, a shallow clone, a Governor that knows the job by its token."""

from __future__ import annotations

import http.server
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
import yaml
from conftest import POLICY, Repo
from cryptography.hazmat.primitives.asymmetric import rsa
from test_action import ACT, ROOT, SCRIPTS, WORKFLOW, action, pull_request  # noqa: F401
from test_action import pytestmark as only_with_act
from test_push import log_key
from tools_governor import Governor

from safeai_git.core.envelope import Envelope
from safeai_git.core.publickey import format_openssh
from safeai_git.keys.file import generate

pytestmark = only_with_act

NAME = "test/repository"
UPLOAD, DOWNLOAD = "upload-artifact", "download-artifact"
STORE = """\
name: a stand-in for GitHub's artifacts
inputs:
  name: {default: ""}
  path: {default: ""}
  if-no-files-found: {default: ""}
  retention-days: {default: ""}
runs:
  using: composite
  steps:
    - shell: bash
      env:
        NAME: ${{ inputs.name }}
        FILES: ${{ inputs.path }}
      run: 'COMMAND'
"""


@dataclass
class Job:
    """A repository with a feature branch, and act to run workflows on it."""

    repo: Repo
    folder: Path
    action: Path
    keys: Path

    @property
    def key(self) -> str:
        return (self.keys / "ed25519.ci.sk").read_text()

    def propose(self, path: str = "src/b.py") -> str:
        self.repo.git("checkout", "-q", "-b", "feature")
        return self.repo.commit("Add a file", {path: "b = 1\n"}, ai=True)

    def act(
        self, workflow: Path, payload: dict[str, Any], *flags: str, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        shutil.copyfile(Path(self.repo.environment["HOME"]) / ".gitconfig", home / ".gitconfig")
        event = self.folder / "event.json"
        event.write_text(json.dumps(payload))
        return subprocess.run(
            [
                ACT, "pull_request", "--workflows", workflow, "--eventpath", event, "--platform", "ubuntu-latest=-self-hosted",
                "--local-repository", f"safeai/safeai-git@v1={self.action}", "--no-cache-server", "--action-offline-mode", *flags,
            ],
            cwd=cwd or self.repo.path,
            env=self.repo.environment | {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")},
            capture_output=True, text=True, errors="replace", timeout=300,
        )  # fmt: skip

    def gate(self, payload: dict[str, Any], *flags: str, cwd: Path | None = None, **inputs: str) -> Any:
        """Run the Action; its outcome, and the report."""
        lines = "".join(
            f"          {name.replace('_', '-')}: {json.dumps(value)}\n" for name, value in inputs.items()
        )
        text = WORKFLOW.replace("EXECUTABLE", str(SCRIPTS / "safeai-git")).replace("INPUTS\n", lines)
        text = text.replace(
            "SARIF: ${{ steps.gate.outputs.sarif }}",
            "VERDICTS: ${{ steps.gate.outputs.verdicts }}\n          INDEX: ${{ steps.gate.outputs.receipt-index }}",
        )
        text = text.replace('findings=%s\\n\' "$DECISION" "$FINDINGS"', 'index=%s\\n\' "$DECISION" "$INDEX"')
        text = text.replace('cp "$SARIF" "$REPORT" "$HOME/"', 'cp "$REPORT" "$VERDICTS" "$HOME/"')
        workflow = self.folder / "gate.yml"
        workflow.write_text(text)
        return self.act(workflow, payload, *flags, cwd=cwd)


def seen(done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """Decision and receipt index that the workflow's last step was given."""
    found = re.search(r"\| seen: decision=(\w*) index=(\d*)", done.stdout + done.stderr)
    assert found, done.stdout + done.stderr
    return found[1], found[2]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, base_environment: dict[str, str]) -> Repo:
    folder = tmp_path_factory.mktemp("start")
    (folder / "repo").mkdir()
    repo = Repo(folder / "repo", base_environment | {"XDG_CONFIG_HOME": str(folder / "none")})
    repo.git("init", "-q")
    key = format_openssh(generate(folder / "keys", "ci", None).public).decode()
    files = {
        ".safeai/policy.yaml": POLICY,
        ".safeai/allowed_signers": f'ci@example.com namespaces="safeai-verdict" {key}\n',
        "src/a.py": "a = 1\n",
    }
    repo.commit("start", files)
    return repo


@pytest.fixture
def job(start: Repo, tmp_path: Path, action: Path) -> Job:  # noqa: F811
    shutil.copytree(start.path, tmp_path / "repo")
    (tmp_path / "job").mkdir()
    return Job(
        Repo(tmp_path / "repo", start.environment), tmp_path / "job", action, start.path.parent / "keys"
    )


# The reusable workflow


@pytest.fixture
def artifacts(tmp_path: Path) -> tuple[list[str], Path]:
    """GitHub's two actions for artifacts, which need GitHub: here they copy files. The flags for act, and the folder."""
    store = tmp_path / "artifacts"
    commands = {
        UPLOAD: 'mkdir -p "STORE/$NAME"; printf "%s" "$FILES" | while read -r one || [ -n "$one" ]; do cp "$one" "STORE/$NAME/"; done',
        DOWNLOAD: 'mkdir -p "$FILES"; cp "STORE/$NAME/"* "$FILES/"',
    }
    gate = (ROOT / ".github/workflows/gate.yml").read_text()
    flags = []
    for name, command in commands.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "action.yml").write_text(STORE.replace("COMMAND", command.replace("STORE", str(store))))
        (used,) = set(re.findall(rf"actions/{name}@[0-9a-f]{{40}}", gate))
        flags += ["--local-repository", f"{used}={folder}"]
    return flags, store


def test_the_reusable_workflow_replays_in_one_job_and_signs_in_the_other(
    job: Job, artifacts: tuple[list[str], Path], tmp_path: Path
) -> None:
    check = "checks:\n  - {name: unit, run: 'test -f src/b.py', paths: [src/]}\n"
    call = (
        "on: pull_request\npermissions: {contents: read}\njobs:\n  gate:\n    uses: ./.github/workflows/gate.yml\n"
        "    secrets:\n      signing-key: ${{ secrets.SAFEAI_SIGNING_KEY }}\n"
    )
    gate = (ROOT / ".github/workflows/gate.yml").read_text()
    job.repo.commit(
        "gate",
        {
            ".safeai/policy.yaml": POLICY + check,
            ".github/workflows/gate.yml": gate,
            ".github/workflows/call.yml": call,
        },
    )
    job.propose()
    # The action as it is, but with this project installed already: installing it twice takes a minute.
    ready = shutil.copytree(job.action, tmp_path / "ready")
    text = (ready / "action.yml").read_text()
    empty = 'hashed lock."\n    default: ""'
    assert empty in text
    (ready / "action.yml").write_text(
        text.replace(empty, f'hashed lock."\n    default: {SCRIPTS / "safeai-git"}')
    )
    job.action = ready
    flags, store = artifacts
    payload = pull_request(job.repo)
    done = job.act(
        Path(".github/workflows/call.yml"), payload, *flags, "--secret", f"SAFEAI_SIGNING_KEY={job.key}"
    )
    log = done.stdout + done.stderr
    assert done.returncode == 0, log
    first = json.loads((store / "safeai-replay/report.json").read_text())
    second = json.loads((store / "safeai-report/report.json").read_text())
    assert (store / "safeai-report/report.sarif").exists()
    assert (first["decision"], second["decision"]) == ("allow", "allow")
    # The job that ran the change signed nothing and held no key.
    assert int(first["facts"]["signed"].split()[0]) == 0
    assert int(second["facts"]["signed"].split()[0]) >= 1
    ran = {
        one["isolation"].endswith(", in an earlier job")
        for judged in second["judgements"]
        for one in judged["evidence"]
    }
    assert ran == {True}
    assert job.key.splitlines()[1] not in log + (store / "safeai-replay/report.json").read_text()


# A shallow clone


def test_the_action_brings_the_history_that_a_shallow_clone_lacks(job: Job, tmp_path: Path) -> None:
    head = job.propose()
    job.repo.commit("second", {"src/c.py": "c = 1\n"}, ai=True)
    payload = pull_request(job.repo)
    origin = tmp_path / "origin.git"
    job.repo.git("clone", "-q", "--bare", str(job.repo.path), str(origin))
    shallow = tmp_path / "shallow"
    job.repo.git("clone", "-q", "--depth", "1", "--branch", "feature", origin.as_uri(), str(shallow))
    done = job.gate(payload, cwd=shallow)
    assert (done.returncode, seen(done)[0]) == (0, "allow"), done.stdout + done.stderr
    report = json.loads((job.folder / "home/report.json").read_text())
    assert head in {one["head"]["commit"] for one in report["judgements"]}
    # From nowhere it cannot be brought: nothing is judged, nothing is allowed.
    done = job.gate(payload, cwd=shallow, remote="")
    assert done.returncode != 0
    assert seen(done)[0] == "undecided"
    assert "fetch-depth: 0" in done.stdout + done.stderr


# A Governor that knows the job by its OIDC token


@dataclass
class Issuer:
    """GitHub's side: hands out tokens to whoever may, and publishes the key that they are signed with."""

    url: str = ""
    claims: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())) | {
        "kid": "1",
        "use": "sig",
        "alg": "RS256",
    }
    issuer = Issuer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            """Nothing on the tests' output."""

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            issuer.asked.append(parts.path)
            answer: dict[str, Any] = {"keys": [jwk]}
            if parts.path == "/token":
                assert self.headers["Authorization"] == "bearer request-secret"
                now = int(time.time())
                claims = {
                    "iss": issuer.url,
                    "aud": parse_qs(parts.query)["audience"][0],
                    "iat": now,
                    "exp": now + 300,
                    "sub": "repo:test/repository",
                }
                answer = {
                    "value": jwt.encode(claims | issuer.claims, key, algorithm="RS256", headers={"kid": "1"})
                }
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    issuer.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield issuer
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def governor(issuer: Issuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Governor]:
    folder = tmp_path_factory.mktemp("governor")
    rules = {"issuers": [{"issuer": issuer.url, "jwks_url": f"{issuer.url}/jwks", "audience": "the-governor", "rules": [
        {"name": "pull requests", "claims": {"repository_id": "42"}, "scopes": ["verdicts:write", "decisions:write", "policy:read"], "repositories": [NAME]}]}]}  # fmt: skip
    (folder / "oidc.yaml").write_text(yaml.safe_dump(rules))
    with Governor(
        folder, SAFEAI_OIDC_RULES=str(folder / "oidc.yaml"), SAFEAI_PUBLIC_REPOSITORIES=NAME
    ) as running:
        yield running


def entries(governor: Governor) -> list[dict[str, Any]]:
    lines = (governor.folder / "audit.log").read_bytes().splitlines()
    return [json.loads(line) for line in lines if line.startswith(b'{"seq"')]


def link(job: Job, governor: Governor) -> dict[str, str]:
    """A policy that wants the Governor, and the inputs that name it."""
    policy = POLICY + f"governor: {{url: '{governor.url}', on_unreachable: deny, timeout_seconds: 20}}\n"
    job.repo.commit("governor", {".safeai/policy.yaml": policy})
    return {"governor_url": governor.url, "governor_key": log_key(governor), "audience": "the-governor"}


def token_of(issuer: Issuer, repository_id: str) -> list[str]:
    """What GitHub gives a job that may ask for tokens."""
    issuer.claims = {"repository_id": repository_id, "event_name": "pull_request"}
    return [
        "--env",
        f"ACTIONS_ID_TOKEN_REQUEST_URL={issuer.url}/token?api-version=2",
        "--env",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN=request-secret",
    ]


def test_a_verdict_is_delivered_with_the_jobs_own_token(job: Job, governor: Governor, issuer: Issuer) -> None:
    inputs = link(job, governor)
    public = (job.keys / "ed25519.ci.pub").read_text()
    answer = governor.ask("POST", "/v1/keys", {"action": "register", "public": public, "principal": "ci@example.com", "purposes": ["safeai-verdict"], "reason": "tests"})  # fmt: skip
    assert answer.status == 201, answer.body
    job.propose()
    flags = token_of(issuer, "42")
    done = job.gate(pull_request(job.repo), *flags, signing_key=job.key, **inputs)
    decision, index = seen(done)
    assert (done.returncode, decision) == (0, "allow"), done.stdout + done.stderr
    entry = entries(governor)[int(index)]
    assert entry["kind"] == "verdict"
    lines = (job.folder / "home/verdicts.jsonl").read_bytes().splitlines()
    assert entry["id"] in {f"sha256:{Envelope.parse(line).digest}" for line in lines}
    assert "request-secret" not in done.stdout + done.stderr
    # Another repository's job has a good token of the same issuer, and may not.
    flags = token_of(issuer, "43")
    denied = job.gate(pull_request(job.repo), *flags, signing_key=job.key, **inputs)
    assert denied.returncode != 0
    assert seen(denied)[0] != "allow"


def test_the_governor_decides_and_signs_for_a_job_without_a_key(
    job: Job, governor: Governor, issuer: Issuer
) -> None:
    inputs = link(job, governor)
    own = governor.ask("GET", "/v1/keys", token=None).body.split(b"\n")[1]
    (public,) = (one["public"] for one in json.loads(own)["keys"] if one["principal"] != "ci@example.com")
    signers = f'governor@example.com namespaces="safeai-verdict" {public}\n'
    base = job.repo.commit("trust the Governor", {".safeai/allowed_signers": signers})
    head = job.propose()
    flags = token_of(issuer, "42")
    done = job.gate(pull_request(job.repo), *flags, mode="both", decide="true", **inputs)
    decision, index = seen(done)
    assert (done.returncode, decision) == (0, "allow"), done.stdout + done.stderr
    report = json.loads((job.folder / "home/report.json").read_text())
    assert [(one["commit"], one["status"], one["signed_by"]) for one in report["commits"]] == [
        (head, "valid", ["governor@example.com"])
    ]
    assert entries(governor)[int(index)]["kind"] == "verdict"
    asked = [one["data"] for one in entries(governor) if one["kind"] == "decision"][-1]
    assert (asked["base"], asked["head"], asked["claims"]["repository_id"]) == (base, head, "42")


def test_a_forks_job_is_judged_though_it_has_neither_key_nor_token(job: Job, governor: Governor) -> None:
    inputs = link(job, governor)
    job.propose()
    before = len(entries(governor))
    done = job.gate(pull_request(job.repo), decide="true", **inputs)
    assert (done.returncode, seen(done)) == (0, ("allow", "")), done.stdout + done.stderr
    log = done.stdout + done.stderr
    for said in (
        "this job gets no OIDC token",
        "not signed: no key is configured",
        "the Governor is not asked",
    ):
        assert said in log
    assert len(entries(governor)) == before
    # What the policy denies is denied there too.
    job.repo.commit("key", {"config/keys/k": "k"}, ai=True)
    denied = job.gate(pull_request(job.repo), **inputs)
    assert (denied.returncode != 0, seen(denied)[0]) == (True, "deny")
