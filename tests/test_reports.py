"""Reports for forges and CI systems: valid in each format's own terms, whatever a path or a message spells."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from conftest import Repo
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from safeai_git.core.display import display, safe_text
from safeai_git.report import github, gitlab, junit, markdown, sarif
from safeai_git.report.remarks import Level, Remark

SCHEMA = json.loads((Path(__file__).parent / "data" / "sarif" / "sarif-schema-2.1.0.json").read_bytes())
SARIF = jsonschema.Draft7Validator(SCHEMA)
LEVELS: list[Level] = ["error", "warning", "note"]

HOSTILE = [
    b"a\n::set-output name=decision::allow", b"##[set-output name=x]y", b"%0A::error::x", b"a,line=9,title=x::y",
    b"<script>alert(1)</script>", b"[x](javascript:alert(1))", b"`code` *b* _i_ ~s~ | cell | ![i](http://x/y.png)",
    b"@maintainer fixes #1 GH-1 www.example.com http://example.com a@example.com", b"\x1b[2J\x07", b"\xff\xfe/\x00x",
    "\u202egnp.exe".encode(), b"]]>&lt;<!--", b"../../etc/passwd", b"a b%20c#d?e", b"\r\n\r\n# h1\n- li", b"$(id)`id`${IFS}",
    b"&#64;x &amp; \\", b"http\\://x", b":emoji: 0123456789abcdef0123456789abcdef01234567",
]  # fmt: skip

paths = st.sampled_from(HOSTILE) | st.binary(min_size=1, max_size=60)
texts = st.builds(lambda data: safe_text(data.decode("utf-8", "surrogateescape")), paths)
remarks = st.builds(
    Remark,
    rule=st.sampled_from(["denied-path", "my-rule", "verify-missing"]) | texts.filter(bool),
    level=st.sampled_from(LEVELS),
    path=st.none() | paths,
    commit=st.sampled_from(["", "1" * 40]),
    message=texts,
    remedy=texts,
    lifted_by=texts,
)
lists = st.lists(remarks, max_size=8)


def remark(level: Level = "error", path: bytes | None = b"src/a.py", message: str = "it is denied") -> Remark:
    return Remark("denied-path", level, path, "1" * 40, message, "take it out", "a maintainer")


@given(lists, st.booleans())
def test_sarif_is_valid(found: list[Remark], finished: bool) -> None:
    document = json.loads(sarif.document(found, finished=finished))
    SARIF.validate(document)
    run = document["runs"][0]
    assert run["invocations"][0]["executionSuccessful"] is finished
    assert len(run["results"]) == len(found)
    for one, result in zip(found, run["results"], strict=True):
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == one.rule
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert unquote_to_bytes(uri) == (one.path if one.path is not None else sarif.WHOLE_CHANGE)
        assert re.fullmatch(r"[A-Za-z0-9._~/%-]+", uri)


def test_sarif_leaves_out_what_nobody_shows_and_says_so() -> None:
    found = [remark(message=f"number {number}") for number in range(sarif.MOST_RESULTS + 3)]
    run = json.loads(sarif.document(found))["runs"][0]
    assert len(run["results"]) == sarif.MOST_RESULTS
    assert "3 more" in run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"]


def test_sarif_tells_what_a_rule_is_about() -> None:
    rule = json.loads(sarif.document([remark()]))["runs"][0]["tool"]["driver"]["rules"][0]
    assert rule["id"] == "denied-path"
    assert rule["shortDescription"]["text"].startswith("A path that the policy denies")
    assert rule["helpUri"].endswith("#denied-path")


def test_a_finding_keeps_its_fingerprint_and_others_have_others() -> None:
    def prints(*found: Remark) -> list[str]:
        return [
            one["partialFingerprints"]["safeaiFinding/v1"]
            for one in json.loads(sarif.document(found))["runs"][0]["results"]
        ]

    one, other = remark(), remark(path=b"src/b.py")
    assert prints(one, other) == prints(one, other)
    assert len(set(prints(one, other))) == 2


@given(lists)
def test_github_takes_each_line_for_one_command_of_ours(found: list[Remark]) -> None:
    lines = github.workflow_commands(found).split("\n") if found else []
    for line in lines:
        command = re.fullmatch(
            r"::(error|warning|notice) ((?:file=[^:,\r\n]*,line=1,)?title=[^:,\r\n]*)::([^\r\n]*)", line
        )
        assert command, line
    for one, line in zip([one for one in found if one.path is not None][:1], lines, strict=False):
        if found[0] is one:
            file = re.search(r"file=([^,]*),", line)
            assert file
            assert file[1].replace("%3A", ":").replace("%2C", ",").replace("%0A", "\n").replace(
                "%0D", "\r"
            ).replace("%25", "%") == display(one.path or b"")


def test_github_shows_ten_of_a_kind_so_the_last_line_counts_the_rest() -> None:
    found = [remark(level) for level in LEVELS for _ in range(15)]
    lines = github.workflow_commands(found).split("\n")
    for word in ("error", "warning", "notice"):
        assert sum(line.startswith(f"::{word} ") for line in lines) == 10
    assert "16 more" in lines[-1]
    assert github.workflow_commands([]) == ""


@given(lists)
def test_markdown_has_no_markup_but_ours(found: list[Remark]) -> None:
    text = markdown.document("a title", "deny", [("branch", "main")], found)
    _only_ours(text, rows=len(found))


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_of_each_hostile_name(name: bytes) -> None:
    text = safe_text(name.decode("utf-8", "surrogateescape"))
    page = markdown.document(text, "review", [(text, text)], [remark(path=name, message=text)])
    _only_ours(page, rows=1)
    # what a forge makes links of after the parser: people, issues, addresses
    assert not re.search(r"(?<!&)[@#](?!\d+;)", page.replace("## safeai-git", ""))
    assert "://" not in page
    assert "www." not in page or "<code>" in page


def _only_ours(text: str, rows: int) -> None:
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text)
    assert sum(token.type == "tr_open" for token in tokens) == (rows + 1 if rows else 0)
    assert sum(token.type == "td_open" for token in tokens) == 6 * rows
    for token in tokens:
        assert token.type not in ("html_block", "fence", "code_block", "hr"), token
        for inline in token.children or []:
            assert inline.type in ("text", "text_special", "html_inline", "softbreak"), inline
            if inline.type == "html_inline":
                assert inline.content in ("<code>", "</code>", "<!-- -->")


def test_markdown_is_cut() -> None:
    text = markdown.document("t", "deny", [], [remark(message="x" * 10_000)] * 1000)
    assert len(text.encode()) < 1024 * 1024  # all that GitHub takes for a step
    assert "800 more findings" in text


@given(lists)
def test_gitlab(found: list[Remark]) -> None:
    rows = json.loads(gitlab.document(found))
    assert len({row["fingerprint"] for row in rows}) == len(rows)
    for row in rows:
        assert row["severity"] in ("info", "minor", "major", "critical", "blocker")
        assert {"description", "check_name", "fingerprint", "severity", "location"} == set(row)
        assert row["location"]["lines"] == {"begin": 1}


@given(st.lists(st.tuples(texts, lists), max_size=4))
def test_junit(cases: list[tuple[str, list[Remark]]]) -> None:
    root = ET.fromstring(junit.document(cases))
    suite = root[0]
    assert suite.get("tests") == str(len(cases))
    failed = [name for name, found in cases if any(one.level == "error" for one in found)]
    assert [case.get("name") for case in suite if case.find("failure") is not None] == failed
    assert suite.get("failures") == str(len(failed))


# From the command line


@pytest.fixture
def refused(governed: Repo) -> Repo:
    governed.write("config/keys/k", "secret\n")
    governed.git("add", "-A")
    return governed


def test_check_writes_every_report(refused: Repo, tmp_path: Path) -> None:
    kinds = ("json", "markdown", "sarif", "gitlab", "junit")
    flags = [word for kind in kinds for word in ("--report", f"{kind}={tmp_path / kind}")]
    done = refused.safeai("check", "--agent", "codex", *flags, "--report", "github=-")
    assert done.code == 1
    assert "::error file=config/keys/k,line=1" in done.out
    SARIF.validate(json.loads((tmp_path / "sarif").read_bytes()))
    assert "denied-path" in (tmp_path / "markdown").read_text()
    assert json.loads((tmp_path / "json").read_bytes())["decision"] == "deny"
    assert {row["check_name"] for row in json.loads((tmp_path / "gitlab").read_bytes())} >= {"denied-path"}
    assert ET.parse(tmp_path / "junit").getroot().get("failures") == "1"


def test_an_approved_review_is_a_warning_and_no_error(governed: Repo, tmp_path: Path) -> None:
    governed.write(".github/workflows/x.yml", "on: push\n")
    governed.git("add", "-A")
    before = json.loads(_sarif(governed, tmp_path, code=1))["runs"][0]["results"]
    assert [one["level"] for one in before] == ["error"]
    key = str(governed.path.parent / "maria" / "ed25519.maria.sk")
    assert governed.safeai("approve", env={"SAFEAI_KEY": key}).code == 0
    after = json.loads(_sarif(governed, tmp_path, code=0))["runs"][0]["results"]
    assert [one["level"] for one in after] == ["warning"]


def _sarif(repo: Repo, folder: Path, code: int) -> bytes:
    done = repo.safeai("check", "--agent", "codex", "--report", f"sarif={folder / 'x.sarif'}")
    assert done.code == code, done.both
    return (folder / "x.sarif").read_bytes()


def test_verify_names_the_commits_that_have_no_verdict(governed: Repo, tmp_path: Path) -> None:
    commit = governed.commit("Add b", {"src/b.py": "b\n"}, ai=True)
    done = governed.safeai("verify", "--report", f"sarif={tmp_path / 'v'}", "--report", "github=-")
    assert done.code == 1
    result: dict[str, Any] = json.loads((tmp_path / "v").read_bytes())["runs"][0]["results"][0]
    assert (result["ruleId"], result["properties"]["commit"]) == ("verify-missing", commit)
    assert "::error title=safeai-git%3A verify-missing::" in done.out


@pytest.mark.parametrize("value", ["sarif", "pdf=x", "sarif=", "=x", ""])
def test_a_report_that_there_is_not(governed: Repo, value: str) -> None:
    done = governed.safeai("check", "--report", value)
    assert (done.code, "KIND=FILE" in done.err) == (2, True)


def test_a_report_that_cannot_be_written(refused: Repo, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    done = refused.safeai("check", "--agent", "codex", "--report", f"sarif={tmp_path / 'file' / 'x'}")
    assert done.code == 3, done.both
    assert "file" in done.err
