"""Every agent whose hook is known: its calls, its answers, and its settings as they were after install and uninstall."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Repo, Result

from safeai_git.agents import patches
from safeai_git.agents.adapters import ADAPTERS, PLUGIN
from safeai_git.agents.edits import parse
from safeai_git.commands.agent_hook import of_command
from safeai_git.commands.agents import install, uninstall
from safeai_git.commands.session import Session
from safeai_git.core.errors import FormatError, StorageError

DATA = Path(__file__).parent / "data/agents"
OTHERS = [name for name in ADAPTERS if name != "claude-code"]
CALLS = {name: json.loads((DATA / f"{name}.json").read_text(encoding="utf-8")) for name in OTHERS}


def filled(value: Any, **words: str) -> Any:
    """A published payload with our values for what stands in braces, and our folder."""
    if isinstance(value, dict):
        return {key: filled(one, **words) for key, one in value.items()}
    if isinstance(value, list):
        return [filled(one, **words) for one in value]
    if isinstance(value, str):
        value = value.replace("/repo", words["cwd"]) if value == "/repo" else value
        for word, text in words.items():
            value = value.replace("{" + word + "}", text)
    return value


def ask(repo: Repo, agent: str, call: str, **words: str) -> Result:
    payload = filled(CALLS[agent][call], cwd=str(repo.path), **words)
    return repo.safeai("agent", "hook", agent, stdin=json.dumps(payload))


def refused(done: Result) -> str:
    """The reason of a refusal in the agent's own form; empty for no opinion."""
    assert done.code == 0, done.both
    said = json.loads(done.out) if done.out.strip() else {}
    said = said.get("hookSpecificOutput", said)
    for verdict, reason in (
        ("permissionDecision", "permissionDecisionReason"),
        ("decision", "reason"),
        ("permission", "agent_message"),
    ):
        if said.get(verdict) == "deny":
            return str(said[reason])
    assert said in ({}, {"permission": "allow"})
    return ""


@pytest.mark.parametrize("agent", OTHERS)
def test_an_edit_is_judged_before_it_is_made(governed: Repo, agent: str) -> None:
    assert refused(ask(governed, agent, "write", path="src/new.py")) == ""
    reason = refused(ask(governed, agent, "write", path="other/new.py"))
    assert "other/new.py" in reason
    assert "do: " in reason
    assert refused(ask(governed, agent, "edit", path="src/a.py", old="a = 1", new="a = 2")) == ""


@pytest.mark.parametrize("agent", OTHERS)
def test_a_command_that_goes_round_the_gate_is_refused(tmp_path: Path, agent: str) -> None:
    for command, said in (("git commit --no-verify -m x", "--no-verify"), ("npm test", "")):
        payload = filled(CALLS[agent]["command"], cwd=str(tmp_path), command=command)
        answer = of_command(parse(ADAPTERS[agent], json.dumps(payload).encode()))
        assert said in (answer[1] if answer else "")
        assert (answer is None) is (said == "")


@pytest.mark.parametrize("agent", [name for name in OTHERS if not ADAPTERS[name].asks])
def test_who_cannot_ask_a_person_is_refused_what_needs_one(governed: Repo, agent: str) -> None:
    reason = refused(ask(governed, agent, "write", path=".github/workflows/x.yml"))
    assert reason
    done = ask(governed, agent, "write", path="bad\0path")
    assert (done.code, bool(done.err)) == (2, True)


def test_copilot_is_told_of_what_could_not_be_decided_by_its_answer(governed: Repo) -> None:
    assert "none that a file can have" in refused(ask(governed, "copilot-cli", "write", path="bad\0path"))
    done = governed.safeai("agent", "hook", "copilot-cli", stdin="{")
    assert "could not decide" in refused(done)
    assert "is not JSON" in done.err


def test_a_patch_of_several_files_is_one_change(governed: Repo) -> None:
    governed.write("src/m.py", "one\ntwo\nthree\n")
    text = (
        "*** Begin Patch\n*** Update File: src/m.py\n*** Move to: {to}\n@@ one\n-two\n+2\n three\n"
        "*** Delete File: src/a.py\n*** Add File: src/n.py\n+n\n*** End Patch"
    )
    call = CALLS["codex"]["write"] | {"cwd": str(governed.path)}
    for to, allowed in (("src/moved.py", True), ("elsewhere/moved.py", False)):
        call["tool_input"] = {"command": text.replace("{to}", to)}
        done = governed.safeai("agent", "hook", "codex", stdin=json.dumps(call))
        assert (refused(done) == "") is allowed


PATCHED = [
    (b"a\nb\nc\n", ("@@", " a", "-b", "+B", " c"), b"a\nB\nc\n"),
    (b"a\nb\nc", ("-b", "+B"), b"a\nB\nc\n"),
    (b"a  \nb\n", ("@@", "-a", "+A"), b"A\nb\n"),
    (b"  a\nb\n", ("@@", "-a", "+A"), b"A\nb\n"),
    (b"x\nf\nx\n", ("@@ f", "-x", "+y"), b"x\nf\ny\n"),
    (b"x\nx\n", ("-x", "+y", "*** End of File"), b"x\ny\n"),
    (b"A\nf\nB\nf\n", ("@@ B", "@@", "-f", "+g"), b"A\nf\nB\ng\n"),
    (b"A\nf\nB\n f\nx\n", ("@@ B", "@@ f", "-x", "+y"), b"A\nf\nB\n f\ny\n"),
    (b"a\n", ("@@", "+b"), b"a\nb\n"),
    (b"a\nb\nc\nd\n", ("@@", "-a", "+A", "@@", "-d"), b"A\nb\nc\n"),
]


@pytest.mark.parametrize(("before", "hunks", "after"), PATCHED)
def test_hunks_are_put_where_the_tool_puts_them(before: bytes, hunks: tuple[str, ...], after: bytes) -> None:
    assert patches.updated(before, hunks) == after


BROKEN = [
    "",
    "*** Begin Patch\n*** End Patch",
    "*** Begin Patch\n*** Add File: x\nno plus\n*** End Patch",
    "*** Begin Patch\n*** Rename File: x\n*** End Patch",
    # the tool itself takes blanks before a head: it would add the second file
    "*** Begin Patch\n*** Delete File: src/a.py\n *** Add File: config/keys/x\n+x\n*** End Patch",
]


@pytest.mark.parametrize("text", BROKEN)
def test_a_patch_that_is_none_is_an_error(text: str) -> None:
    with pytest.raises(FormatError):
        patches.parse(text)
    with pytest.raises(FormatError):
        patches.updated(b"a\n", ("@@", "-b", "+c"))
    with pytest.raises(FormatError):
        patches.updated(b"a\n", ("*b",))


def test_two_names_for_one_path_that_differ_are_an_error() -> None:
    call = CALLS["cursor"]["write"]
    call = call | {"tool_input": {"file_path": "src/ok.py", "path": ".safeai/policy.yaml", "content": ""}}
    with pytest.raises(FormatError, match="not the same"):
        parse(ADAPTERS["cursor"], json.dumps(call).encode())


@pytest.mark.parametrize(
    ("given", "after"),
    [
        ({"command": "create", "path": "x", "file_text": "new"}, b"new"),
        ({"command": "str_replace", "path": "x", "old_str": "b", "new_str": "B"}, b"a\nB\n"),
        ({"command": "insert", "path": "x", "insert_line": 1, "new_str": "i"}, b"a\ni\nb\n"),
    ],
)
def test_the_editor_does_what_its_command_says(given: dict[str, Any], after: bytes) -> None:
    call = CALLS["copilot-cli"]["write"] | {"toolName": "str_replace_editor", "toolArgs": given}
    (write,) = parse(ADAPTERS["copilot-cli"], json.dumps(call).encode()).writes
    assert write.sides(b"a\nb\n")[1] == after


OTHER = '{"matcher": "Bash", "hooks": [{"type": "command", "command": "mine"}], "command": "mine"}'
SETTINGS = [
    "{}",
    "{ }\n",
    '{\n\t"z": 1,\n\t"a": [1,2 ],  "ü": "\\u00fc"\n}',
    '{"hooks": {}}',
    '{"hooks" : { "Stop": [] }, "x": {"hooks": 1}}\r\n',
    '{"hooks": {"EVENT": []}}',
    '{"version": 1, "hooks": {"Stop": [], "EVENT": [\n ' + OTHER + '\n]}, "model": "x"}',
    '// mine\n{ // "hooks": {\n  /* and { this } */ "a": "// no comment", \n  "hooks": { /**/ "EVENT": [ '
    + OTHER
    + ", ], },\n}\n",
    '{"a": 1} // mine',
]
WITH_ENTRIES = [name for name in ADAPTERS if not ADAPTERS[name].settings.text]


def home(folder: Path, agent: str, text: str | None) -> tuple[Session, Path]:
    place = folder / ADAPTERS[agent].settings.own_place
    if text is not None:
        place.parent.mkdir(parents=True)
        place.write_bytes(text.encode())
        place.chmod(0o640)
    return Session(folder, {"HOME": str(folder)}), place


@pytest.mark.parametrize("agent", WITH_ENTRIES)
def test_settings_are_as_they_were_after_install_and_uninstall(tmp_path: Path, agent: str) -> None:
    for number, form in enumerate(SETTINGS):
        text = form.replace("EVENT", ADAPTERS[agent].settings.event)
        session, place = home(tmp_path / str(number), agent, text)
        install(session, agent, user=True)
        once = place.read_bytes()
        assert f"safeai-git agent hook {agent}".encode() in once
        install(session, agent, user=True)
        assert place.read_bytes() == once
        uninstall(session, agent, user=True)
        assert place.read_bytes() == text.encode()
        assert place.stat().st_mode & 0o777 == 0o640
        uninstall(session, agent, user=True)
        assert place.read_bytes() == text.encode()


@pytest.mark.parametrize("agent", ADAPTERS)
def test_settings_that_were_not_there_are_not_there_again(repo: Repo, agent: str) -> None:
    session = Session(repo.path, repo.environment)
    place = repo.path / ADAPTERS[agent].settings.place
    install(session, agent, user=False)
    once = place.read_bytes()
    install(session, agent, user=False)
    assert place.read_bytes() == once
    uninstall(session, agent, user=False)
    assert not place.exists()


@pytest.mark.parametrize("agent", ADAPTERS)
def test_settings_behind_a_symlink_are_left_alone(tmp_path: Path, agent: str) -> None:
    aim = tmp_path / "aim"
    aim.write_bytes(b"{}")
    session, place = home(tmp_path / "home", agent, None)
    place.parent.mkdir(parents=True)
    place.symlink_to(aim)
    for command in (install, uninstall):
        with pytest.raises(StorageError, match="symlink"):
            command(session, agent, user=True)
    assert aim.read_bytes() == b"{}"
    assert place.is_symlink()


def test_a_hook_that_was_moved_between_comments_is_not_guessed_at(tmp_path: Path) -> None:
    session, place = home(tmp_path, "gemini-cli", "{ }")
    install(session, "gemini-cli", user=True)
    place.write_text(json.dumps(json.loads(place.read_text()), indent=4) + "\n// mine\n")
    before = place.read_bytes()
    with pytest.raises(FormatError, match="by hand"):
        uninstall(session, "gemini-cli", user=True)
    assert place.read_bytes() == before


@pytest.mark.parametrize("agent", WITH_ENTRIES)
def test_settings_that_the_agent_wrote_anew_keep_everything_else(tmp_path: Path, agent: str) -> None:
    event = ADAPTERS[agent].settings.event
    text = SETTINGS[6].replace("EVENT", event)
    session, place = home(tmp_path, agent, text)
    install(session, agent, user=True)
    place.write_text(json.dumps(json.loads(place.read_text()), indent=4))
    uninstall(session, agent, user=True)
    assert json.loads(place.read_text()) == json.loads(text)


def test_a_plugin_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    session, place = home(tmp_path, "opencode", "// mine\n")
    for command in (install, uninstall):
        with pytest.raises(FormatError, match="nothing was changed"):
            command(session, "opencode", user=True)
    assert place.read_text() == "// mine\n"


def test_the_plugin_refuses_what_is_refused(governed: Repo, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node to run the plugin with")
    (tmp_path / "plugin.mjs").write_text(PLUGIN)
    (tmp_path / "safeai-git").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m safeai_git "$@"\n')
    (tmp_path / "safeai-git").chmod(0o755)
    (tmp_path / "run.mjs").write_text(
        'import { SafeaiGit } from "./plugin.mjs"\n'
        "const hooks = await SafeaiGit({ directory: process.argv[2] })\n"
        'for (const filePath of ["src/new.py", "other/new.py"]) {\n'
        '  try { await hooks["tool.execute.before"]({ tool: "write" }, { args: { filePath, content: "x\\n" } })\n'
        '        console.log("made") } catch (error) { console.log("refused", error.message) }\n'
        "}\n"
    )
    done = subprocess.run(
        [node, str(tmp_path / "run.mjs"), str(governed.path)],
        env=governed.environment | {"PATH": f"{tmp_path}:{os.defpath}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    first, second = done.stdout.split("\n", 1)
    assert first == "made", done.stderr
    assert second.startswith("refused safeai-git")
    assert "other/new.py" in second
