"""Judging starts no program that the repository can name: canaries in every place, every command of ours (B-60)."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from corpus.bench import POLICY, Bench, gitlink
from corpus.canary import ATTRIBUTES, PLACES, Canaries, plant
from corpus.modes import run_program

AGENT = ("--agent", "claude-code")


@dataclass
class Planted:
    """A repository full of canaries: a policy with a check, a trusted key, a commit by an agent, something staged."""

    bench: Bench
    canaries: Canaries
    base: str
    head: str

    def safeai(self, *arguments: str, stdin: bytes = b"", folder: Path | None = None) -> tuple[int, bytes]:
        return run_program(folder or self.bench.path, self.bench.environ, list(arguments), stdin)


def _prepare(place: Path) -> tuple[Bench, str, str]:
    bench = Bench(place, POLICY + b"checks:\n  - name: unit\n    run: 'true'\n")
    environ = bench.environ
    code, printed = run_program(bench.path, environ, ["keys", "generate"])
    assert code == 0, printed
    code, line = run_program(bench.path, environ, ["keys", "export"])
    assert code == 0, line
    base = bench.commit(
        bench.tree(
            {
                b".safeai/allowed_signers": b'ada@example.com namespaces="safeai-verdict" ' + line,
                b".gitattributes": ATTRIBUTES,
                b".gitmodules": b'[submodule "lib"]\n\tpath = lib\n\turl = https://example.com/lib\n',
                b"lib": gitlink(),
            },
            bench.base,
        ),
        bench.base,
        ai=False,
    )
    head = bench.change({b"src/b.py": b"b = 1\n"}, on=base)
    bench.git("update-ref", "refs/heads/main", head)
    bench.git("reset", "-q", "--hard")
    bench.write("src/c.py", b"c = 1\n")
    bench.git("add", "src/c.py")
    return bench, base, head


@pytest.fixture(params=PLACES)
def planted(request: pytest.FixtureRequest, tmp_path: Path) -> Planted:
    """Canaries in one of the places."""
    bench, base, head = _prepare(tmp_path)
    canaries = Canaries(tmp_path / "canaries")
    plant(bench, canaries, request.param)
    return Planted(bench, canaries, base, head)


def test_B60_plain_git_starts_them(planted: Planted, request: pytest.FixtureRequest) -> None:
    """The control: were the canaries dead, nothing would be proved."""
    bench = planted.bench
    for path in ("src/a.py", "README.md"):
        bench.write(path, b"other\n")

    def git(*arguments: str) -> None:
        subprocess.run(
            ["git", *arguments], cwd=bench.path, env=bench.environ, capture_output=True, check=False
        )

    git("status")
    git("diff")
    git("log", "-p", "--", "src/a.py")
    git("add", "src/a.py")
    git("planted-alias")
    git("commit", "-m", "x")
    git("-c", "commit.gpgSign=false", "commit", "-m", "x")
    (bench.path / "src/a.py").unlink()
    git("checkout", "--", "src/a.py")
    git("fetch", "origin")
    bench.write("src/x.late", b"other\n")
    git("add", "src/x.late")  # last: a filter process that dies ends the command
    controller, terminal = pty.openpty()
    with os.fdopen(controller, "rb"), os.fdopen(terminal, "wb") as screen:
        subprocess.run(
            ["git", "--paginate", "rev-list", "HEAD"],
            cwd=bench.path,
            env=bench.environ | {"TERM": "dumb"},
            stdout=screen,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    fired = planted.canaries.fired()
    expected = {
        "core-fsmonitor",
        "diff-external",
        "diff-planted-command",
        "diff-planted-textconv",
        "gpg-program",
    }
    expected |= {"filter-planted-clean", "filter-planted-smudge", "filter-process-process"}
    expected |= {"core-pager", "remote-url"}
    if request.node.callspec.params["planted"] != "config.worktree":  # where git does not look for aliases
        expected.add("alias-planted-alias")
    assert expected - fired == set()
    assert {name for name in fired if name.endswith("-pre-commit") and name.startswith("hooks")}
    assert {name for name in fired if name.endswith("-reference-transaction")}


def _message(planted: Planted) -> str:
    return str(planted.bench.write(".git/MESSAGE", b"A change\n"))


def _patch(planted: Planted) -> str:
    lines = b"diff --git a/src/d.py b/src/d.py\nnew file mode 100644\n--- /dev/null\n+++ b/src/d.py\n@@ -0,0 +1 @@\n+d\n"
    return str(planted.bench.write("../change.patch", lines))


def _cases(planted: Planted) -> str:
    text = b"cases:\n  - name: one\n    edits: [{path: src/a.py}]\n    expect: allow\n"
    return str(planted.bench.write("../cases.yaml", text))


def test_B60_B63_no_command_of_ours_starts_one(planted: Planted) -> None:
    """Every command does its work, and no canary fires: neither while judging nor while signing and verifying."""
    span = f"{planted.base}..{planted.head}"
    commands: list[tuple[tuple[int, ...], tuple[str, ...]]] = [
        ((0, 1), ("check", *AGENT)),
        ((0, 1, 3), ("check", *AGENT, "--no-replay", "--sign")),
        ((0, 1), ("check", "--range", span)),
        ((0, 1), ("check", "--range", span, "--format", "json")),
        ((0, 1), ("check", "--patch", _patch(planted), "--base", planted.head, "--no-replay", *AGENT)),
        ((0, 1), ("verify", span)),
        ((0, 1), ("verify", "--all", "--format", "json", span)),
        ((0,), ("show", planted.head)),
        ((0, 1), ("explain", "src/a.py")),
        ((0,), ("scope",)),
        ((0,), ("scope", "--for-agent")),
        ((0,), ("policy", "show")),
        ((0,), ("policy", "lint")),
        ((0, 1, 2, 3), ("policy", "test", _cases(planted))),
        ((0,), ("policy", "schema")),
        ((0, 1), ("doctor",)),
        ((0,), ("keys", "list")),
        ((0,), ("keys", "export")),
        ((0,), ("keys", "generate", "--key-id", "second")),
        ((0,), ("approve", planted.head, "--reason", "read")),
        ((0, 3), ("replay", planted.head)),
        ((0, 3), ("replay", "--staged")),
        ((0, 1), ("hook", "run", "pre-commit")),
        ((0, 1), ("hook", "run", "commit-msg", _message(planted))),
        ((0,), ("hook", "run", "post-commit")),
        ((0,), ("init", "--no-hooks")),
    ]
    planted.bench.git("config", "-f", ".git/config", "safeai.pushNotes", "false")
    planted.canaries.fired()
    for wanted, arguments in commands:
        code, printed = planted.safeai(*arguments)
        assert planted.canaries.fired() == set(), arguments
        assert code in wanted, (arguments, printed)
    line = f"refs/heads/main {planted.head} refs/heads/main {planted.base}\n".encode()
    code, printed = planted.safeai("hook", "run", "pre-push", "origin", "nowhere", stdin=line)
    assert planted.canaries.fired() == set()
    assert code == 0, printed


@pytest.mark.parametrize("place", ["config", "included"])
def test_B60_the_servers_hook_starts_none(tmp_path: Path, place: str) -> None:
    """The same on a server, where the repository's own configuration could have been written by an earlier push."""
    bench, base, head = _prepare(tmp_path)
    server = tmp_path / "server.git"
    bench.git("clone", "-q", "--bare", str(bench.path), str(server))
    bench.git("update-ref", "refs/heads/main", base, cwd=server)
    canaries = Canaries(tmp_path / "canaries")
    plant(bench, canaries, place, folder=server)
    line = f"{base} {head} refs/heads/main\n".encode()
    code, printed = run_program(server, bench.environ, ["hook", "run", "pre-receive"], line)
    assert canaries.fired() == set()
    assert code == 1, printed
    assert b"has not been replayed" in printed


def test_B60_a_submodules_own_repository_is_never_entered(tmp_path: Path) -> None:
    """The submodule's folder holds a repository full of canaries; git status enters it, judging does not."""
    bench, base, _ = _prepare(tmp_path)
    inner = bench.path / "lib"
    inner.mkdir(exist_ok=True)
    bench.git("init", "-q", cwd=inner)
    bench.git("commit", "-q", "--allow-empty", "-m", "x", cwd=inner)
    canaries = Canaries(tmp_path / "canaries")
    plant(bench, canaries, "config", folder=inner / ".git")
    bench.git("status")
    assert canaries.fired()
    for arguments in (
        ["check", *AGENT, "--no-replay"],
        ["check", "--no-replay", "--range", f"{base}..HEAD"],
        ["doctor"],
    ):
        run_program(bench.path, bench.environ, arguments)
        assert canaries.fired() == set(), arguments


def test_B64_programs_planted_in_the_folder_and_on_the_path_are_not_started(tmp_path: Path) -> None:
    """``git``, ``bwrap``, ``python`` and the like lie in the working folder, which stands first on PATH."""
    bench, base, head = _prepare(tmp_path)
    canaries = Canaries(tmp_path / "canaries")
    names = ("git", "bwrap", "python", "python3", "sh", "setpriv", "unshare", "ssh-keygen", "gpg", "env")
    for name in names:
        (bench.path / name).symlink_to(canaries.program(name))
    environ = bench.environ | {"PATH": f".:{bench.path}:{bench.environ['PATH']}"}
    subprocess.run(
        ["/bin/sh", "-c", "git --version"], cwd=bench.path, env=environ, check=False, capture_output=True
    )
    assert canaries.fired() == {"git"}
    for arguments in (
        ["check", *AGENT],
        ["check", "--range", f"{base}..{head}"],
        ["verify", f"{base}..{head}"],
        ["replay", "HEAD"],
        ["doctor"],
        ["hook", "run", "pre-commit"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "safeai_git", *arguments],
            cwd=bench.path,
            env=environ,
            capture_output=True,
            check=False,
        )
        assert canaries.fired() == set(), arguments
        assert done.returncode in (0, 1, 3), done.stderr


def test_B65_variables_that_name_programs_are_not_passed_on(tmp_path: Path) -> None:
    """``GIT_CONFIG_*``, ``GIT_EXTERNAL_DIFF`` and their like in the environment start nothing."""
    bench, base, head = _prepare(tmp_path)
    canaries = Canaries(tmp_path / "canaries")
    direct = ("GIT_EXTERNAL_DIFF", "GIT_PAGER", "GIT_EDITOR", "GIT_SEQUENCE_EDITOR", "GIT_SSH", "GIT_SSH_COMMAND",
              "GIT_ASKPASS", "SSH_ASKPASS", "GIT_PROXY_COMMAND", "PAGER", "EDITOR", "VISUAL")  # fmt: skip
    environ = bench.environ | {name: canaries.program(name) for name in direct}
    keys = ("core.fsmonitor", "diff.external", "core.pager", "gpg.program", "core.alternateRefsCommand")
    environ |= {"GIT_CONFIG_COUNT": str(len(keys)), "GIT_EXEC_PATH": str(tmp_path / "no-such-folder")}
    for number, key in enumerate(keys):
        environ[f"GIT_CONFIG_KEY_{number}"] = key
        environ[f"GIT_CONFIG_VALUE_{number}"] = canaries.program(key)
    environ["GIT_CONFIG_PARAMETERS"] = f"'core.fsmonitor={canaries.program('parameters')}'"
    environ["GIT_TRACE"] = str(tmp_path / "trace")
    plain = {name: value for name, value in environ.items() if name not in ("GIT_EXEC_PATH", "GIT_TRACE")}
    subprocess.run(["git", "status"], cwd=bench.path, env=plain, capture_output=True, check=False)
    assert canaries.fired()
    for arguments in (
        ["check", *AGENT, "--no-replay"],
        ["check", "--no-replay", "--range", f"{base}..{head}"],
        ["verify", f"{base}..{head}"],
        ["doctor"],
    ):
        code, printed = run_program(bench.path, environ, arguments)
        assert canaries.fired() == set(), arguments
        assert code in (0, 1), printed
    assert not (tmp_path / "trace").exists()
