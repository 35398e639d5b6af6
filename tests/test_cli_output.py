"""What the command line prints: pure data for programs, nothing that a terminal would obey, nothing lost unnoticed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import POLICY, Repo
from tools_cli import SAFEAI, Terminal, make, run, start

from safeai_git import __version__
from safeai_git.report.style import Style, for_terminal

CHECKED = POLICY + 'checks:\n  - name: look\n    run: "cat src/a.py"\n    timeout_seconds: 20\n'
HOSTILE_NAME = b"src/\x1b[2J\x1b]0;owned\x07\nALLOW \xff\xe2\x80\xaegpj.py"
HOSTILE_SUBJECT = "\x1b[31mred\x1b[0m \u202eevil\u202c\x9b2J \u200bend"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, base_environment: dict[str, str]) -> Repo:
    """A repository with signed, hostile history, which no test changes."""
    folder = tmp_path_factory.mktemp("shared")
    repo = start(
        make(folder / "repo", base_environment | {"XDG_CONFIG_HOME": str(folder / "config")}), CHECKED
    )
    repo.git("tag", "first")
    repo.write(HOSTILE_NAME, "x = 1\n")
    repo.commit(
        HOSTILE_SUBJECT,
        ai=True,
        env={"GIT_AUTHOR_NAME": "\x1b[8mEve\x1b[0m", "GIT_AUTHOR_EMAIL": "\x1b[2Jeve@example.com"},
    )
    done = repo.safeai("check", "--range", "first..HEAD", "--no-replay")
    assert done.code == 1, done.both
    repo.write("src/new.py", "new = 1\n")
    repo.git("add", "-A")
    return repo


@pytest.mark.parametrize("output_format", ["json", "jsonl"])
@pytest.mark.parametrize(
    "command",
    [
        ["check", "--no-replay", "--no-sign"],
        ["check", "--range", "first..HEAD", "--no-replay", "--no-sign"],
        ["verify"],
        ["verify", "first..HEAD", "--all"],
        ["show"],
        ["explain", "src/a.py"],
        ["scope", "--for-agent"],
        ["policy", "show"],
        ["policy", "lint"],
        ["keys", "list"],
        ["keys", "export"],
        ["doctor"],
        ["approve", "HEAD"],
        ["replay", "HEAD", "--quiet"],
    ],
    ids=" ".join,
)
def test_for_programs_standard_output_is_json_and_nothing_else(
    shared: Repo, command: list[str], output_format: str
) -> None:
    done = shared.safeai(*command, "--format", output_format)
    if command[0] == "replay" and done.code == 3:
        pytest.skip(f"no sandbox here: {done.err}")
    assert done.code in (0, 1), done.both
    assert done.out.isascii()
    if output_format == "json":
        assert isinstance(json.loads(done.out), dict)
    else:
        for line in done.out.splitlines():
            assert isinstance(json.loads(line), dict)


def test_an_error_leaves_standard_output_empty_for_programs(shared: Repo) -> None:
    for command in (
        ["check", "--range", "nowhere..HEAD"],
        ["verify", "nowhere..HEAD"],
        ["policy", "lint", "nowhere"],
    ):
        done = shared.safeai(*command, "--format", "json")
        assert (done.code, done.out) == (3, "")


def test_the_data_of_a_check_carries_the_exact_path(shared: Repo) -> None:
    done = shared.safeai("check", "--range", "first..HEAD", "--no-replay", "--no-sign", "--format", "json")
    data = json.loads(done.out)
    assert data["decision"] == "deny"
    assert [one["passes"] for one in data["judgements"]] == [False, False]
    lines = shared.safeai(
        "check", "--range", "first..HEAD", "--no-replay", "--no-sign", "--format", "jsonl"
    ).out
    assert [json.loads(line) for line in lines.splitlines()][:2] == [
        one | {"time": json.loads(lines.splitlines()[at])["time"]} if "time" in one else one
        for at, one in enumerate(data["judgements"])
    ]


@pytest.mark.parametrize(
    "command",
    [
        ["check", "--range", "first..HEAD", "--no-replay", "--no-sign"],
        ["verify", "--all"],
        ["show"],
        ["explain", os.fsdecode(HOSTILE_NAME)],
        ["approve", "HEAD"],
        ["replay", "HEAD"],
    ],
    ids=lambda command: command[0],
)
def test_B33_nothing_foreign_is_obeyed_by_a_terminal(shared: Repo, command: list[str]) -> None:
    done = shared.safeai(*command)
    assert re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e]", done.both) is None
    assert not [line for line in done.both.splitlines() if line.startswith("ALLOW \ufffd")]


def test_B33_a_hostile_name_is_shown_on_one_line_with_everything_in_it_escaped(shared: Repo) -> None:
    done = shared.safeai("check", "--range", "first..HEAD", "--no-replay", "--no-sign")
    assert r"src/\x1b[2J\x1b]0;owned\x07\nALLOW \xff\u202egpj.py" in done.out


def test_B33_errors_are_escaped_too(shared: Repo, tmp_path: Path) -> None:
    folder = tmp_path / "\x1b[2J"
    folder.mkdir()
    for arguments in (
        ["check"],
        ["policy", "lint", "\x1b]0;x\x07\u202e"],
        ["check", "--range", "\x1b[1m..HEAD"],
        ["-C", "\x1b[1m", "check"],
    ):
        done = run(arguments, folder, shared.environment)
        assert done.code in (2, 3), arguments
        assert "\x1b" not in done.err
        assert "\\x1b" in done.err


def test_a_policy_cannot_hide_what_it_says(shared: Repo, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY + 'checks:\n  - {name: a, run: "true # \\x1b[2J\\x9b2J\\u202e"}\n')
    for command in (["policy", "show"], ["scope"]):
        done = shared.safeai(*command, "--policy", str(file))
        assert done.code == 0
        assert re.search("[\x1b\x80-\x9f\u202e]", done.out) is None
        assert r"true # \x1b[2J" in done.out or r"true # \u001b[2J\u009b2J\u202e" in done.out


def test_the_last_look_lets_only_our_own_colours_pass() -> None:
    coloured, plain = Style(coloured=True), Style()
    line = coloured.bad("DENY") + "\x1b[8mhidden\x1b]0;x\x07\u202e\udcff\n\ttab"
    assert for_terminal(line, coloured) == (
        "\x1b[31mDENY\x1b[0m\\x1b[8mhidden\\x1b]0;x\\x07\\u202e\\xff\n\\ttab"
    )
    assert (
        for_terminal(line, plain)
        == for_terminal(line)
        == ("\\x1b[31mDENY\\x1b[0m\\x1b[8mhidden\\x1b]0;x\\x07\\u202e\\xff\n\\ttab")
    )
    assert plain.bad("x") + plain.ok("x") + plain.bold("x") + plain.decision("deny") == "xxxDENY"
    assert for_terminal("Grüße, 世界 \\n") == "Grüße, 世界 \\n"


def without(environment: dict[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in names}


def test_colours_only_on_a_terminal_and_only_if_wanted(shared: Repo) -> None:
    check = ["check", "--no-replay", "--no-sign", "--agent", "claude-code"]
    wanted = without(shared.environment, "NO_COLOR") | {"TERM": "xterm"}
    assert "\x1b" not in run(check, shared.path, wanted).both
    for environment, coloured in (
        (wanted, True),
        (wanted | {"NO_COLOR": ""}, True),
        (wanted | {"NO_COLOR": "1"}, False),
        (wanted | {"TERM": "dumb"}, False),
    ):
        terminal = Terminal(check, shared.path, environment)
        code = terminal.end()
        assert code == 1
        assert (b"\x1b[33mREVIEW\x1b[0m" in terminal.output) is coloured
        assert b"REVIEW" in terminal.output
    terminal = Terminal([*check, "--format", "json"], shared.path, wanted)
    assert terminal.end() == 1
    assert b"\x1b" not in terminal.output


@pytest.mark.parametrize(
    ("command", "code"), [(["scope"], 3), (["--version"], 3), (["check", "--no-replay", "--no-sign"], 1)]
)
def test_output_that_cannot_be_written_is_no_success(shared: Repo, command: list[str], code: int) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*SAFEAI, *command], cwd=shared.path, env=shared.environment, stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode in (code, 3)
    assert done.returncode != 0
    assert b"No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


@pytest.mark.parametrize(
    "command", [["scope"], ["policy", "schema"], ["--help"], ["policy", "show", "--format", "json"]]
)
def test_a_reader_that_went_away_is_no_success_and_no_traceback(shared: Repo, command: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [*SAFEAI, *command], cwd=shared.path, env=shared.environment, stdout=write, stderr=subprocess.PIPE
        )
    finally:
        os.close(write)
    assert done.returncode not in (0, -13)
    assert done.stderr == b""


def test_closed_streams_take_nobody_elses_place(shared: Repo) -> None:
    for closed in (">&-", "2>&-", "<&-", "<&- >&- 2>&-"):
        line = f'"$0" -m safeai_git check --no-replay --agent claude-code --no-sign {closed}'
        done = subprocess.run(
            ["sh", "-c", line, sys.executable], cwd=shared.path, env=shared.environment, capture_output=True
        )
        assert done.returncode == 1, (closed, done)
        assert b"Traceback" not in done.stderr
    line = '"$0" -m safeai_git check --range nowhere..HEAD --format json 2>&-'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable], cwd=shared.path, env=shared.environment, capture_output=True
    )
    assert (done.returncode, done.stdout) == (3, b"")


def test_an_encoding_that_lacks_a_character_is_no_fault(shared: Repo, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"gr\xc3\xbc\xc3\x9fe-\xff")
    repo = start(make(folder, shared.environment | {"XDG_CONFIG_HOME": str(tmp_path / "config")}))
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    for command in (["doctor"], ["policy", "lint"], ["keys", "list"], ["init", "--no-hooks"]):
        done = repo.safeai(*command, env=ascii_only)
        assert done.code in (0, 1), done.both
        assert "a fault of the program" not in done.err


def test_version_and_help_work_anywhere(tmp_path: Path, environment: dict[str, str]) -> None:
    done = run(["--version"], tmp_path, environment)
    assert (done.code, done.out, done.err) == (0, f"safeai-git {__version__}\n", "")
    done = run(["check", "-h"], tmp_path, environment)
    assert done.code == 0
    assert "Judge a change: what is staged, a range of commits, or a patch." in done.out
    assert "Exit codes: 0 allowed" in " ".join(run(["--help"], tmp_path, environment).out.split())


def test_another_folder(shared: Repo, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(shared.path)
    for folder in (
        str(shared.path),
        os.path.relpath(shared.path, tmp_path),
        str(tmp_path / "link"),
        str(shared.path / "src"),
    ):
        done = run(["-C", folder, "policy", "show"], tmp_path, shared.environment)
        assert done.code == 0, done.both
        path = "a.py" if folder.endswith("src") else "src/a.py"
        done = run(["-C", folder, "explain", path], tmp_path, shared.environment)
        assert done.code == 0, done.both
        assert done.out.startswith("allowed src/a.py: ")


def test_a_folder_that_is_gone(shared: Repo, tmp_path: Path) -> None:
    line = 'mkdir "$1" && cd "$1" && rmdir "$1" && exec "$0" -m safeai_git check'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable, str(tmp_path / "gone")],
        env=shared.environment | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
    )
    assert done.returncode == 3
    assert b"the current folder does not exist any more" in done.stderr


def test_a_shell_gets_completions(shared: Repo) -> None:
    asked = {"_SAFEAI_GIT_COMPLETE": "complete_bash", "COMP_WORDS": "safeai-git ver", "COMP_CWORD": "1"}
    done = shared.safeai(env=asked)
    assert (done.code, done.out.split()) == (0, ["verify"])
    done = shared.safeai(env=asked | {"COMP_WORDS": "safeai-git policy ", "COMP_CWORD": "2"})
    assert set(done.out.split()) >= {"show", "lint", "test", "schema"}


def test_B65_a_variable_for_completions_ends_no_judgement(shared: Repo) -> None:
    for value in ("source_bash", "complete_bash", "source_zsh", "nonsense"):
        done = shared.safeai(
            "verify", env={"_SAFEAI_GIT_COMPLETE": value, "COMP_WORDS": "safeai-git", "COMP_CWORD": "0"}
        )
        assert done.code == 1
        assert "DENY" in done.out
