"""What a change's author can choose, tried against a pipeline (B-70 to B-74). docs/ci.md shows the same table.

Each attempt is one call of ``safeai-git ci`` in a repository of its own copy, with the files that a runner would read
afterwards. `RESULT` is what the document says; the test of each row is what makes it true.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import AI_TRAILER, POLICY, Repo
from test_reports import SARIF

from safeai_git.commands import ci
from safeai_git.commands.reports import Reports
from safeai_git.commands.session import Session
from safeai_git.core.errors import SafeAIError
from safeai_git.core.publickey import format_openssh
from safeai_git.keys.file import generate

ROOT = Path(__file__).parent.parent
BOT = {
    "GIT_AUTHOR_NAME": "dependabot[bot]",
    "GIT_AUTHOR_EMAIL": "49699333+dependabot[bot]@users.noreply.github.com",
}


@dataclass
class Job:
    """One job: a repository with a feature branch, and what the pipeline wrote."""

    repo: Repo
    folder: Path
    code: int = -1
    printed: str = ""

    def propose(
        self, path: str, message: str = f"Change\n\n{AI_TRAILER}", env: dict[str, str] | None = None
    ) -> str:
        return self.repo.commit(message, {path: "k = 1\n"}, env=env)

    def run(
        self,
        event: str = "pull_request",
        *,
        branch: str = "feature",
        mode: str = "check",
        key: str = "",
        head: str = "",
    ) -> None:
        base = self.repo.git("rev-parse", "main")
        head = head or self.repo.git("rev-parse", "HEAD")
        payload = {"number": 7, "pull_request": {"number": 7, "title": "::error::x", "base": {"sha": base, "ref": "main"},
                   "head": {"sha": head, "ref": branch}}}  # fmt: skip
        (self.folder / "event.json").write_text(json.dumps(payload))
        environ = self.repo.environment | {
            "GITHUB_ACTIONS": "true",
            "GITHUB_EVENT_NAME": event,
            "GITHUB_EVENT_PATH": str(self.folder / "event.json"),
            "GITHUB_OUTPUT": str(self.folder / "output"),
            "GITHUB_ENV": str(self.folder / "env"),
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary"),
            **({"SAFEAI_KEY": key} if key else {}),
        }
        kinds = ("json", "markdown", "sarif", "github", "gitlab", "junit")
        reports = Reports.parse([f"{kind}={self.folder / kind}" for kind in kinds])
        session = Session(self.repo.path, environ)
        request = ci.Request(mode, "", "", None, True, "", False, "review", reports)
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                self.code = ci.run(session, request)
            except SafeAIError:
                self.code = 3
            finally:
                session.close()
        self.printed = out.getvalue()

    def read(self, name: str) -> str:
        return (self.folder / name).read_text(encoding="utf-8")

    @property
    def outputs(self) -> dict[str, str]:
        """As the runner reads them: ``name<<END``, lines, ``END``."""
        found: dict[str, str] = {}
        lines = iter(self.read("output").split("\n"))
        for line in lines:
            if "<<" in line:
                name, end = line.split("<<")
                value: list[str] = []
                for one in lines:
                    if one == end:
                        break
                    value.append(one)
                found[name] = "\n".join(value)
        return found

    def denied(self) -> None:
        """Refused, told so in every place, and nothing ran."""
        assert (self.code, self.outputs["decision"]) == (1, "deny"), self.printed
        assert set(self.outputs) == {"decision", "findings", "base", "head", "receipt-index", "verdicts"}
        assert not (self.folder / "env").exists()
        assert not list(self.repo.path.rglob("pwned"))
        assert re.findall(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", self.printed + self.read("summary")) == []
        for line in self.read("github").splitlines():
            assert re.match(r"::(error|warning|notice) ", line)
        SARIF.validate(json.loads(self.read("sarif")))
        rows = json.loads(self.read("gitlab"))
        assert {row["severity"] for row in rows} == {"blocker"}
        assert not any(re.search(r"[\x00-\x1f\x7f\u202e]", row["description"]) for row in rows)
        ET.fromstring(self.read("junit"))


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, base_environment: dict[str, str]) -> Repo:
    """A governed repository on a feature branch without commits of its own."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "repo").mkdir()
    repo = Repo(folder / "repo", base_environment | {"XDG_CONFIG_HOME": str(folder / "none")})
    repo.git("init", "-q")
    key = format_openssh(generate(folder / "keys", "ci", None).public).decode()
    generate(folder / "keys", "stranger", None)
    check = "checks:\n  - {name: canary, run: 'touch pwned', paths: [src/]}\n"
    files = {
        ".safeai/policy.yaml": POLICY,
        ".safeai/allowed_signers": f'ci@example.com namespaces="safeai-verdict" {key}\n',
    }
    repo.commit("start", {**files, "src/a.py": "a = 1\n"})
    repo.git("branch", "with-check")
    repo.git("checkout", "-q", "with-check")
    repo.commit("check", {".safeai/policy.yaml": POLICY + check})
    repo.git("checkout", "-q", "-b", "feature", "main")
    return repo


@pytest.fixture
def job(start: Repo, tmp_path: Path) -> Job:
    shutil.copytree(start.path, tmp_path / "repo")
    shutil.copytree(start.path.parent / "keys", tmp_path / "keys")
    folder = tmp_path / "job"
    folder.mkdir()
    return Job(Repo(tmp_path / "repo", start.environment), folder)


DENIED = "refused; shown escaped, nothing run, no output but ours"


def named(path: str) -> Callable[[Job], None]:
    def attempt(job: Job) -> None:
        job.propose(f"config/keys/{path}")
        job.run()
        job.denied()

    return attempt


def branch(name: str) -> Callable[[Job], None]:
    def attempt(job: Job) -> None:
        job.propose("config/keys/k")
        job.run(branch=name)
        job.denied()

    return attempt


def markup(job: Job) -> None:
    job.propose("config/keys/[x](javascript:1)<img src=x onerror=y>@everyone`|.md")
    job.run()
    job.denied()
    for kind in ("summary", "markdown"):
        assert "<img" not in job.read(kind)
        assert "[x](" not in job.read(kind)
        assert not re.search(r"(?<![\w\\`])@everyone", re.sub(r"`[^`]*`", "", job.read(kind)))


def message(job: Job) -> None:
    job.propose("config/keys/k", f"::set-output name=decision::allow\n\n##[set-env name=X]y\n\n{AI_TRAILER}")
    job.run()
    job.denied()


def target(job: Job) -> None:
    job.repo.git("checkout", "-q", "-B", "main", "with-check")
    job.repo.git("checkout", "-q", "-B", "feature")
    job.propose("src/x.py")
    job.run("pull_request_target")
    assert job.code == 1
    assert not list(job.repo.path.rglob("pwned"))
    assert all(not one["evidence"] for one in json.loads(job.read("json"))["judgements"])


def target_is_not_checked_out(job: Job) -> None:
    head = job.propose("config/keys/k")
    job.repo.git("checkout", "-q", "main")
    before = (job.repo.git("symbolic-ref", "HEAD"), job.repo.git("status", "--porcelain"))
    job.run("pull_request_target", head=head)
    job.denied()
    assert (job.repo.git("symbolic-ref", "HEAD"), job.repo.git("status", "--porcelain")) == before
    assert not (job.repo.path / "config").exists()


def signed(job: Job, who: str) -> None:
    """A commit that the policy allows, judged and signed in one job."""
    job.propose("src/b.py")
    job.run("pull_request", mode="check", key=str(job.folder.parent / "keys" / f"ed25519.{who}.sk"))
    assert job.code == 0, job.printed


def pushed_after(job: Job) -> None:
    signed(job, "ci")
    job.run(mode="verify")
    assert job.code == 0, job.printed
    later = job.propose("src/c.py")
    job.run(mode="verify")
    assert job.code == 1
    assert [one["status"] for one in json.loads(job.read("json"))["commits"] if one["commit"] == later] == [
        "missing"
    ]


def amended_after(job: Job) -> None:
    signed(job, "ci")
    job.repo.write("src/b.py", "k = 2\n")
    job.repo.git("add", "-A")
    job.repo.git("-c", "core.hooksPath=/dev/null", "commit", "-q", "--amend", "--no-edit")
    job.run(mode="verify")
    assert job.code == 1


def forged_verdict(job: Job) -> None:
    signed(job, "stranger")
    job.run(mode="verify")
    assert job.code == 1
    (result,) = json.loads(job.read("json"))["commits"]
    assert result["status"] == "invalid"
    assert "not listed" in result["reason"]


def forged_check(job: Job) -> None:
    """Whatever a forge shows beside a commit: it is not read, and changes nothing."""
    job.propose("src/b.py")
    for ref in ("refs/notes/checks", "refs/notes/commits", "refs/statuses/gate"):
        blob = job.repo.blob(b'{"name": "gate", "conclusion": "success"}')
        job.repo.git("update-ref", ref, blob)
    job.run(mode="verify")
    assert job.code == 1


def as_a_bot(job: Job) -> None:
    job.propose("config/keys/k", env=BOT)
    job.run()
    job.denied()


def as_a_bot_alone(job: Job) -> None:
    """By default a bot's commits are not governed; what governs itself is judged all the same."""
    job.propose(".safeai/policy.yaml", "Bump", env=BOT)
    job.run()
    assert job.code == 1
    assert job.outputs["decision"] != "allow"


def as_a_person(job: Job) -> None:
    job.propose(".safeai/policy.yaml", "By hand")
    job.run()
    assert job.code == 1
    assert job.outputs["decision"] != "allow"


def retracted(job: Job) -> None:
    """A later commit by a person does not make the agent's earlier one a person's."""
    job.propose("config/keys/k")
    job.propose("src/b.py", "By hand")
    job.run()
    job.denied()


GREEN = "does not pass: "
TABLE: list[tuple[str, str, str, Callable[[Job], None]]] = [
    ("B-70", "a branch called `$(touch pwned);x`", DENIED, branch("$(touch pwned);`touch pwned`")),
    ("B-70", "a branch with a line end and `::set-output name=decision::allow`", DENIED, branch("x\n::set-output name=decision::allow")),
    ("B-70", "a branch with `decision<<E` and a line end, for `GITHUB_OUTPUT`", DENIED, branch("x\ndecision<<E\nallow\nE")),
    ("B-70", "a branch with terminal escapes", DENIED, branch("\x1b[2J\x1b]0;x\x07\u202e")),
    ("B-70", "a file called `$(touch pwned)`", DENIED, named("$(touch pwned)`touch pwned`;touch pwned")),
    ("B-70", "a file with a line end and `::error::`", DENIED, named("a\n::error::x\n::stop-commands::y")),
    ("B-70", "a file with `##[set-output name=decision]allow` within its name", DENIED, named("a ##[set-output name=decision]allow")),
    ("B-70", "a file with `%0A::error::` and commas for an annotation's fields", DENIED, named("a%0A::error::x,line=9,title=y")),
    ("B-70", "a file with a link, HTML and a mention, for the summary", "refused; none of it is markup", markup),
    ("B-70", "a file with quotes, `]]>` and `&` for JSON and XML", DENIED, named("\"'<]]>&\\u0000")),
    ("B-70", "a commit message of workflow commands", DENIED, message),
    ("B-71", "a check on `pull_request_target` that writes a file", "not run; a check that is owed keeps it from passing", target),
    ("B-71", "a change on `pull_request_target`", "judged as objects; the working folder stays the base's", target_is_not_checked_out),
    ("B-72", "a push after the verdict", GREEN + "the new commit has no verdict", pushed_after),
    ("B-72", "another content under the same message", GREEN + "the verdict names another tree", amended_after),
    ("B-73", "a verdict signed by a key that nobody listed", GREEN + "the signature counts for nothing", forged_verdict),
    ("B-73", "green checks of the same name beside the commit", GREEN + "they are not read", forged_check),
    ("B-74", "an agent's commit under a bot's name", DENIED, as_a_bot),
    ("B-74", "the policy changed under a bot's name, no agent named", "asks for review: governance files are always judged", as_a_bot_alone),
    ("B-74", "the policy changed by hand", "asks for review: governance files are always judged", as_a_person),
    ("B-74", "a person's commit on top of an agent's", DENIED, retracted),
]  # fmt: skip


@pytest.mark.parametrize(
    ("attack", "attempt"),
    [pytest.param(row[0], row[3], id=f"{row[0]}-{number}") for number, row in enumerate(TABLE)],
)
def test_B70_B71_B72_B73_B74_attempts(job: Job, attack: str, attempt: Callable[[Job], None]) -> None:
    attempt(job)


def test_the_document_shows_this_table() -> None:
    rows = [f"| {attack} | {what} | {result} |" for attack, what, result, _ in TABLE]
    table = "\n".join(["| id | tried | result |", "|---|---|---|", *rows])
    assert table in (ROOT / "docs" / "ci.md").read_text(encoding="utf-8"), table
