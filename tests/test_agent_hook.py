"""An agent's hook: what it says to real tool calls, and how it gets into settings and out again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Repo, Result

from safeai_git.agents import shell
from safeai_git.agents.adapters import ADAPTERS
from safeai_git.agents.edits import ToolCall, parse
from safeai_git.agents.settings import Hook
from safeai_git.commands.agent_hook import of_command
from safeai_git.commands.agents import install, uninstall
from safeai_git.commands.session import Session
from safeai_git.core.errors import FormatError, StorageError

CALLS = json.loads((Path(__file__).parent / "data/agents/claude-code.json").read_text(encoding="utf-8"))
HOOK = ("agent", "hook", "claude-code")


def ask(repo: Repo, tool: str, **given: Any) -> Result:
    """One tool call, in the form that is published, with other values."""
    call = CALLS.get(tool, CALLS["Edit"]) | {"cwd": str(repo.path), "tool_name": tool, "tool_input": given}
    return repo.safeai(*HOOK, stdin=json.dumps(call))


def decision(done: Result) -> str:
    assert done.code == 0, done.both
    return json.loads(done.out)["hookSpecificOutput"]["permissionDecision"] if done.out else "none"


def test_an_edit_inside_the_limits_gets_no_opinion(governed: Repo) -> None:
    path = str(governed.path / "src/a.py")
    before = governed.git("count-objects", "-v")
    assert decision(ask(governed, "Write", file_path=path, content="a = 2\n")) == "none"
    assert decision(ask(governed, "Edit", file_path=path, old_string="a = 1", new_string="a = 2")) == "none"
    edits = [{"old_string": "a = 1", "new_string": "b = 1"}, {"old_string": "b", "new_string": "c"}]
    assert decision(ask(governed, "MultiEdit", file_path=path, edits=edits)) == "none"
    assert governed.git("count-objects", "-v") == before


def test_a_path_that_is_not_allowed_is_refused_with_reason_and_fix(governed: Repo) -> None:
    done = ask(governed, "Write", file_path=str(governed.path / "other/x.py"), content="x\n")
    assert decision(done) == "deny"
    reason = json.loads(done.out)["hookSpecificOutput"]["permissionDecisionReason"]
    assert "other/x.py" in reason
    assert "do: " in reason


def test_a_large_edit_is_refused_and_a_small_one_in_a_large_file_is_not(governed: Repo) -> None:
    large = "".join(f"x{number} = {number}\n" for number in range(20_000))
    path = str(governed.path / "src/large.py")
    assert decision(ask(governed, "Write", file_path=path, content=large)) == "deny"
    governed.write("src/large.py", large)
    assert decision(ask(governed, "Edit", file_path=path, old_string="x7 = 7\n", new_string="")) == "none"


@pytest.mark.parametrize(
    "path", [".git/hooks/pre-commit", ".GIT/config", ".safeai/policy.yaml", "src/link/x"]
)
def test_what_decides_about_changes_is_not_written_unseen(governed: Repo, path: str) -> None:
    (governed.path / "src/link").symlink_to("../.safeai")
    assert decision(ask(governed, "Write", file_path=str(governed.path / path), content="x\n")) in (
        "ask",
        "deny",
    )


def test_outside_every_repository_there_is_no_opinion(governed: Repo, tmp_path: Path) -> None:
    assert decision(ask(governed, "Write", file_path=str(tmp_path / "notes"), content="x\n")) == "none"


def test_another_folder_does_not_lead_past_the_policy(governed: Repo, tmp_path: Path) -> None:
    """The repository follows from the file, wherever the agent stands and whatever GIT_DIR says."""
    given = {"file_path": str(governed.path / "other/x"), "content": "x\n"}
    call = json.dumps(CALLS["Write"] | {"cwd": "/", "tool_input": given})
    done = governed.safeai(*HOOK, stdin=call, cwd=tmp_path, env={"GIT_DIR": "/nowhere"})
    assert decision(done) == "deny"


UNDECIDED: list[tuple[str, dict[str, str]]] = [
    ("Edit", {"file_path": "src/a.py", "old_string": "not there", "new_string": "x"}),
    ("Edit", {"file_path": "src/a.py"}),
    ("Write", {"file_path": "src", "content": "a folder"}),
    ("Write", {"file_path": "src/\0", "content": ""}),
    ("NotebookEdit", {"notebook_path": "src/a.py", "new_source": "x"}),
]


def test_what_cannot_be_decided_stops_the_agent(governed: Repo) -> None:
    for tool, given in UNDECIDED:
        done = ask(governed, tool, **given)
        assert done.code == 2
        assert "safeai-git:" in done.err


@pytest.mark.parametrize("payload", ["", "{", "[]", '{"hook_event_name": "Stop"}', "[" * 100_000])
def test_a_payload_that_is_none_is_an_error(payload: str) -> None:
    with pytest.raises(FormatError):
        parse(ADAPTERS["claude-code"], payload.encode())


def test_a_policy_that_cannot_be_read_stops_the_agent(governed: Repo) -> None:
    governed.commit("broken", {".safeai/policy.yaml": "allow_paths: 7\n"})
    assert ask(governed, "Write", file_path="src/a.py", content="x\n").code == 2
    assert governed.safeai("agent", "hook", "nobody", stdin="{}").code == 2


def test_a_cell_of_a_notebook(governed: Repo) -> None:
    cell = {"cell_type": "code", "id": "one", "metadata": {}, "outputs": [], "source": ["1\n"]}
    text = json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    governed.write("src/n.ipynb", text)
    given = {"notebook_path": "src/n.ipynb", "cell_id": "one"}
    assert decision(ask(governed, "NotebookEdit", **given, new_source="2\n")) == "none"
    assert decision(ask(governed, "NotebookEdit", **given, new_source="2\n" * 70_000)) == "deny"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("npm test", "none"),
        ("git commit -m 'no -n here'", "none"),
        ("git commit -m -n", "none"),
        ("git push -n", "none"),
        ("echo git commit -n", "none"),
        ("cat .safeai/policy.yaml > /dev/null", "none"),
        ("git commit --no-verify -m x", "deny"),
        ("git add . && git commit -anm x", "deny"),
        ("cd src\nHUSKY=0 git -C . commit -n", "deny"),
        ("git push --no-verify", "deny"),
        ("git -c core.hooksPath=/dev/null commit", "deny"),
        ("echo x >> .safeai/policy.yaml", "deny"),
        ("cd src; echo x >../.safeai/policy.yaml", "deny"),
        ("echo x 2>&1 >| .git/hooks/pre-commit", "deny"),
    ],
)
def test_commands_that_plainly_go_round_the_gate(tmp_path: Path, command: str, said: str) -> None:
    (tmp_path / ".git").mkdir()
    answer = of_command(ToolCall(str(tmp_path), command=command))
    assert (answer[0] if answer else "none") == said


def test_what_stands_before_an_open_quote_counts() -> None:
    assert ["git", "commit", "-n"] in list(shell.commands("git commit -n; echo 'open"))


OTHER = '{"matcher": "Bash", "hooks": [{"type": "command", "command": "mine"}]}'
SETTINGS = [
    "{}",
    "{ }\n",
    '{\n\t"z": 1,\n\t"a": [1,2 ],  "ü": "\\u00fc"\n}',
    '{"hooks": {}}',
    '{"hooks" : { "Stop": [] }, "x": {"hooks": 1}}\r\n',
    '{"hooks": {"PreToolUse": []}}',
    '{"hooks": {"Stop": [], "PreToolUse": [\n ' + OTHER + '\n]}, "model": "x"}',
]


def put(home: Path, text: str) -> tuple[Session, Path]:
    """A home folder with settings, and a session of whoever lives there."""
    place = home / ".claude/settings.json"
    place.parent.mkdir()
    place.write_bytes(text.encode())
    place.chmod(0o640)
    return Session(home, {"HOME": str(home)}), place


@pytest.mark.parametrize("text", SETTINGS)
def test_settings_are_as_they_were_after_install_and_uninstall(tmp_path: Path, text: str) -> None:
    session, place = put(tmp_path, text)
    install(session, "claude-code", user=True)
    once = place.read_bytes()
    assert b"safeai-git agent hook claude-code" in once
    json.loads(once)
    install(session, "claude-code", user=True)
    assert place.read_bytes() == once
    uninstall(session, "claude-code", user=True)
    assert place.read_bytes() == text.encode()
    assert place.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("text", SETTINGS)
def test_settings_that_the_agent_wrote_anew_keep_everything_else(text: str) -> None:
    hook = Hook("PreToolUse", {"matcher": "Write", "hooks": [{"command": "ours"}]})
    anew = json.dumps(json.loads(hook.added(text)), indent=2)
    left = json.loads(hook.removed(anew) or "{}")
    emptied = json.loads(text)
    for folder, key in ((emptied.get("hooks", {}), "PreToolUse"), (emptied, "hooks")):
        if folder.get(key) in ([], {}):
            del folder[key]
    assert left == emptied


def test_settings_that_were_not_there_are_not_there_again(repo: Repo) -> None:
    place = repo.path / ".claude/settings.json"
    assert repo.safeai("agent", "install", "claude-code").code == 0
    assert json.loads(place.read_text())["hooks"]["PreToolUse"]
    assert repo.safeai("agent", "uninstall", "claude-code").code == 0
    assert not place.exists()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"hooks": []}', '{"hooks": {"PreToolUse": {}}}', '{"a": 1, "a": 2}'],
)
def test_settings_that_are_not_understood_are_left_alone(tmp_path: Path, text: str) -> None:
    session, place = put(tmp_path, text)
    for command in (install, uninstall):
        with pytest.raises(FormatError, match="nothing was changed"):
            command(session, "claude-code", user=True)
    assert place.read_text() == text


@pytest.mark.parametrize("link", [".claude", ".claude/settings.json"])
def test_settings_behind_a_symlink_are_refused(tmp_path: Path, link: str) -> None:
    aim, home = tmp_path / "aim", tmp_path / "home"
    aim.mkdir()
    (home / link).parent.mkdir(parents=True, exist_ok=True)
    (home / link).symlink_to(aim if link == ".claude" else aim / "file")
    with pytest.raises(StorageError, match="symlink"):
        install(Session(home, {"HOME": str(home)}), "claude-code", user=True)
    assert not list(aim.iterdir())


def asked(repo: Repo, script: str, agent: str, call: object) -> subprocess.CompletedProcess[str]:
    """What an agent's hook answers that runs a script of ours."""
    return subprocess.run(
        [sys.executable, "-c", script, "agent", "hook", agent],
        input=json.dumps(call),
        cwd=repo.path,
        env=repo.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


ENDS_BADLY = """\
import os, signal, sys
from safeai_git import __main__
__main__.AGENT_SECONDS = 0.2
__main__._SECONDS_MORE = 0.3
from safeai_git.commands import agent_call

def read_call(agent):
    print("half an answer", flush=True)
    if sys.argv.pop() == "hang":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])  # as in a native library: no handler runs
        while True:
            signal.pause()
    os.kill(os.getpid(), signal.SIGSEGV)

agent_call.read_call = read_call
__main__.main()
"""


@pytest.mark.parametrize(("agent", "code"), [("claude-code", 2), ("copilot-cli", 0)])
@pytest.mark.parametrize("how", ["crash", "hang"])
def test_B14_a_crash_and_a_hang_in_native_code_are_refusals(
    governed: Repo, agent: str, code: int, how: str
) -> None:
    """Any code but 2 lets most agents go on: a fault in libgit2, or the kernel's want of memory, must not be one."""
    done = asked(governed, ENDS_BADLY.replace("sys.argv.pop()", repr(how)), agent, {})
    assert (done.returncode, "crashed, was killed or hung" in done.stderr) == (code, True), done.stderr
    assert "half an answer" not in done.stdout
    assert ('"permissionDecision": "deny"' in done.stdout) is (agent == "copilot-cli")


IN_A_MOMENT = """\
import sys
from safeai_git import __main__
__main__.AGENT_SECONDS = 0.5
__main__.main()
"""


@pytest.mark.parametrize(("agent", "code"), [("claude-code", 2), ("copilot-cli", 0)])
def test_B14_what_hangs_is_refused_before_the_agent_gives_up_on_it(
    governed: Repo, agent: str, code: int
) -> None:
    """A pipe in the place of an object holds git for ever."""
    tree = governed.git("rev-parse", "HEAD^{tree}")
    place = governed.path / ".git/objects" / tree[:2] / tree[2:]
    place.unlink()
    os.mkfifo(place)
    path = str(governed.path / "src/a.py")
    call = {
        "claude-code": {
            "hook_event_name": "PreToolUse",
            "cwd": str(governed.path),
            "tool_name": "Write",
            "tool_input": {"file_path": path, "content": "x"},
        },
        "copilot-cli": {
            "cwd": str(governed.path),
            "toolName": "create",
            "toolArgs": {"path": path, "file_text": "x"},
        },
    }[agent]
    done = asked(governed, IN_A_MOMENT, agent, call)
    assert (done.returncode, "no decision within 0.5 seconds" in done.stderr) == (code, True), done.stderr
    assert ('"permissionDecision": "deny"' in done.stdout) is (agent == "copilot-cli")
