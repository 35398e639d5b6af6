"""Real repositories, a clean environment, and the command line as a person runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Speed is a benchmark's business: a slow machine must not turn a property red.
settings.register_profile(
    "suite", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("suite")

AI_TRAILER = "Co-Authored-By: Claude Code <noreply@anthropic.com>"
POLICY = """\
safe_mode: true
autonomy_tier: beta
repository: test/repository
allow_paths: [src/, tests/, .github/, .safeai/]
deny_paths: [config/keys/]
max_edit_size_bytes: 65536
max_total_size_bytes: 524288
"""

# Every variable by which the machine could leak into a test.
_DROPPED = (
    "GIT_",
    "SAFEAI_",
    "CLAUDE",
    "CODEX",
    "CURSOR",
    "GEMINI",
    "COPILOT",
    "AMP_",
    "GOOSE",
    "OPENCODE",
    "AIDER",
    "CLINE",
    "COVERAGE_",
)

# Started in the background of a shell, this process ignores Ctrl-C and hang-ups, and so would what it starts.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

# A worker is measured from within; what it starts is not: a program under test runs as users run it.
if "PYTEST_XDIST_WORKER" in os.environ:
    for _name in [name for name in os.environ if name.startswith("COVERAGE_PROCESS")]:
        del os.environ[_name]


@pytest.fixture(scope="session")
def base_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with a home of its own and without anything that names an agent or a repository."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_DROPPED)}
    home = tmp_path_factory.mktemp("home")
    (home / ".gitconfig").write_text(
        "[user]\n\tname = Maria Maintainer\n\temail = maria@example.com\n[init]\n\tdefaultBranch = main\n"
        '[commit]\n\tgpgsign = false\n[advice]\n\tdetachedHead = false\n[protocol "file"]\n\tallow = always\n'
    )
    return kept | {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_DATE": "2026-01-02T03:04:05+0000",
        "GIT_COMMITTER_DATE": "2026-01-02T03:04:05+0000",
        "NO_COLOR": "1",
        "LC_ALL": "C.UTF-8",
        "SAFEAI_TREES": "",  # what is kept between replays would outlive the tests
    }


@pytest.fixture
def environment(base_environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The same with the test's own folders for configuration and state: neither keys nor what was seen of a log travel."""
    return base_environment | {
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def both(self) -> str:
        return self.out + self.err


@dataclass
class Repo:
    """A real repository and the programs that are tried on it."""

    path: Path
    environment: dict[str, str]

    def git(self, *arguments: str | bytes, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        return os.fsdecode(self.git_bytes(*arguments, stdin=stdin, env=env)).strip()

    def git_bytes(
        self, *arguments: str | bytes, stdin: bytes = b"", env: Mapping[str, str] | None = None
    ) -> bytes:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.path,
            env=self.environment | dict(env or {}),
            input=stdin,
            capture_output=True,
        )
        assert done.returncode == 0, (arguments, done.stderr.decode(errors="replace"))
        return done.stdout

    def write(self, path: str | bytes, content: bytes | str = b"", mode: int = 0o644) -> None:
        full = os.path.join(os.fsencode(self.path), os.fsencode(path))
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        os.chmod(full, mode)

    def commit(
        self,
        message: str = "a change",
        files: Mapping[str, bytes | str] | None = None,
        *,
        ai: bool = False,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Write files, stage everything and commit, past all hooks; the commit's name."""
        for path, content in (files or {}).items():
            self.write(path, content)
        self.git("add", "-A")
        text = f"{message}\n\n{AI_TRAILER}\n" if ai else message
        self.git("-c", "core.hooksPath=/dev/null", "commit", "-q", "--allow-empty", "-m", text, env=env)
        return self.git("rev-parse", "HEAD")

    def mktree(self, *entries: bytes) -> str:
        """A tree object of raw entries (``b"100644 name\\0" + 20 bytes``), whatever git thinks of it."""
        data = b"".join(entries)
        return self.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=data)

    def blob(self, content: bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", stdin=content)

    def commit_tree(self, tree: str, *parents: str, message: str = "made by hand", ai: bool = True) -> str:
        text = f"{message}\n\n{AI_TRAILER}\n" if ai else message
        flags = [word for parent in parents for word in ("-p", parent)]
        return self.git("commit-tree", tree, *flags, "-m", text)

    def safeai(
        self, *arguments: str, env: Mapping[str, str] | None = None, stdin: str = "", cwd: Path | None = None
    ) -> Result:
        """Run ``safeai-git`` as a person does."""
        done = subprocess.run(
            [sys.executable, "-m", "safeai_git", *arguments],
            cwd=cwd or self.path,
            env=self.environment | dict(env or {}),
            input=stdin.encode(errors="surrogateescape"),
            capture_output=True,
        )
        return Result(
            done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        )


@pytest.fixture
def make_repo(tmp_path: Path, environment: dict[str, str]) -> Callable[..., Repo]:
    """Makes repositories in the test's own folder."""

    def make(name: str = "repo", *flags: str) -> Repo:
        path = tmp_path / name
        path.mkdir(parents=True)
        repo = Repo(path, environment)
        repo.git("init", "-q", *flags)
        return repo

    return make


@pytest.fixture
def repo(make_repo: Callable[..., Repo]) -> Repo:
    """An empty repository."""
    return make_repo()


@pytest.fixture
def governed(repo: Repo) -> Repo:
    """A repository with a policy, a key trusted for verdicts, and one commit; a person's approval key lies beside it."""
    done = repo.safeai("init", "--no-hooks")
    assert done.code == 0, done.both
    done = repo.safeai("keys", "generate", "--key-id", "maria", "--folder", str(repo.path.parent / "maria"))
    assert done.code == 0, done.both
    public = repo.safeai(
        "keys", "export", "--key-id", "maria", "--folder", str(repo.path.parent / "maria")
    ).out.strip()
    signers = repo.path / ".safeai" / "allowed_signers"
    signers.write_text(signers.read_text() + f'maria@example.com namespaces="safeai-approval" {public}\n')
    (repo.path / ".safeai" / "policy.yaml").write_text(POLICY)
    repo.commit("start", {"src/a.py": "a = 1\n"})
    return repo


@pytest.fixture
def maria(governed: Repo) -> dict[str, str]:
    """The variable that makes a command sign with the approver's key."""
    return {"SAFEAI_KEY": str(governed.path.parent / "maria" / "ed25519.maria.sk")}
