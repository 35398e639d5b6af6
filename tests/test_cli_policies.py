"""What the policy says, asked for by people and programs: ``policy ...``, ``explain``, ``scope``, ``check --patch``."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import POLICY, Repo
from tools_cli import make, start

from safeai_git.policyfile import load
from safeai_git.schema import faults

ROOT = Path(__file__).parent.parent
RICH = (
    POLICY
    + """\
protected_paths: [src/auth/]
checks:
  - {name: tests, run: make test, paths: [src/]}
  - {name: lint, run: make lint}
agents:
  devin: {autonomy_tier: alpha}
  goose: {allow: false}
rules:
  - id: no-binaries
    when: edit.binary
    each: edit
    outcome: deny
    message: no binaries, please
"""
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, base_environment: dict[str, str]) -> Repo:
    """A repository with a policy that says a lot, which no test changes."""
    folder = tmp_path_factory.mktemp("shared")
    repo = start(make(folder / "repo", base_environment | {"XDG_CONFIG_HOME": str(folder / "config")}), RICH)
    repo.git("tag", "rich")
    repo.commit("simpler", {".safeai/policy.yaml": POLICY, "src/deep/down/c.py": "c = 1\n"})
    repo.write(".safeai/policy.yaml", RICH)
    return repo


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "policy.yaml"


# policy show


def test_the_policy_that_is_shown_is_that_of_the_commit_not_of_the_working_tree(shared: Repo) -> None:
    done = shared.safeai("policy", "show")
    assert done.code == 0
    assert done.out.startswith(f"# .safeai/policy.yaml at {shared.git('rev-parse', 'HEAD')[:12]}, sha256 ")
    assert "checks: []" in done.out
    assert 'deny_paths: ["config/keys/"]' in done.out
    assert "# signers: 1 in .safeai/allowed_signers at " in done.out
    assert '"no-binaries"' in shared.safeai("policy", "show", "--at", "rich").out


def test_what_is_shown_is_a_policy_that_means_the_same(shared: Repo, file: Path) -> None:
    for arguments in (["--at", "rich"], [], ["--policy", str(ROOT / "policy.example.yaml")]):
        file.write_text(shared.safeai("policy", "show", *arguments).out)
        again = shared.safeai("policy", "show", "--policy", str(file), "--format", "json")
        assert again.code == 0, again.both
        first = json.loads(shared.safeai("policy", "show", *arguments, "--format", "json").out)
        assert json.loads(again.out)["layers"][0]["policy"] == first["layers"][0]["policy"]


def test_without_a_policy_the_built_in_one_is_shown(repo: Repo) -> None:
    done = repo.safeai("policy", "show")
    assert done.code == 0
    assert "built-in" in done.out
    assert "# signers: 0 in no allowed_signers" in done.out


# policy lint


def test_a_valid_policy_is_said_to_be_valid_with_what_deserves_a_look(shared: Repo, file: Path) -> None:
    done = shared.safeai("policy", "lint")
    assert done.code == 0
    assert "the check 'lint' has no 'paths': it runs for every change" in done.out
    digest = load(RICH.encode(), "x").digest
    assert done.out.endswith(f"{shared.path}/.safeai/policy.yaml: valid, sha256 {digest}\n")
    file.write_text("safe_mode: false\nprotect_defaults: false\napplies_to: [human]\n")
    done = shared.safeai("policy", "lint", str(file), "--format", "json")
    data = json.loads(done.out)
    assert (done.code, data["valid"]) == (0, True)
    for word in ("no 'repository'", "safe_mode is off", "protect_defaults is off", "leaves out 'ai'"):
        assert any(word in remark for remark in data["remarks"]), word


def test_all_mistakes_are_shown_at_once_each_with_its_line(shared: Repo, file: Path) -> None:
    file.write_text("safe_mode: 1\ndeny_path: [a]\nmax_edits: -3\nautonomy_tier: gamma\nallow_paths: src/\n")
    done = shared.safeai("policy", "lint", str(file))
    assert done.code == 3
    for place in (
        "1:12: ",
        "2:1: unknown key 'deny_path' (did you mean 'deny_paths'?)",
        "3:12: ",
        "4:16: ",
        "5:14: ",
    ):
        assert f"{file}:{place}" in done.err
    assert "mend all 5, then run 'safeai-git policy lint'" in done.err


def test_expressions_are_compiled_and_each_wrong_one_is_named(shared: Repo, file: Path) -> None:
    rule = "  - {id: %s, when: '%s', message: x, outcome: deny%s}\n"
    file.write_text("rules:\n" + rule % ("first", "edit.size > 1", ""))
    done = shared.safeai("policy", "lint", str(file))
    assert done.code == 3
    assert f"{file}: rule 'first': " in done.err
    assert "hint: 'edit' is only there in a rule with 'each: edit'" in done.err
    file.write_text(file.read_text() + rule % ("second", "edit.size >", ", each: edit"))
    done = shared.safeai("policy", "lint", str(file))
    assert done.code == 3
    assert f"{file}: rule 'first': " in done.err
    assert f"{file}: rule 'second': " in done.err
    assert "mend all 2" in done.err
    file.write_text("rules:\n" + rule % ("good", "edit.size > 1", ", each: edit"))
    assert shared.safeai("policy", "lint", str(file)).code == 0


def test_a_policy_that_is_not_there_says_how_to_get_one(repo: Repo) -> None:
    done = repo.safeai("policy", "lint")
    assert done.code == 3
    assert f"{repo.path}/.safeai/policy.yaml does not exist" in done.err
    assert "'safeai-git init' writes one" in done.err


@pytest.mark.parametrize("policy", ["policy.example.yaml", ".safeai/policy.yaml"])
def test_the_policies_that_we_ship_are_valid(shared: Repo, policy: str) -> None:
    done = shared.safeai("policy", "lint", str(ROOT / policy))
    assert done.code == 0, done.both


def test_the_policy_that_init_writes_is_valid(repo: Repo) -> None:
    assert repo.safeai("init", "--no-hooks").code == 0
    assert repo.safeai("policy", "lint").code == 0


# policy test


def test_cases_are_judged_by_the_policy_of_the_working_tree(shared: Repo, tmp_path: Path) -> None:
    cases = tmp_path / "cases.yaml"
    cases.write_text(
        """\
cases:
  - {name: a small edit, edits: [{path: src/a.py, added: 10}], expect: allow, checks: [{name: tests, result: passed}, {name: lint, result: passed}]}
  - {name: keys, edits: [{path: config/keys/a.pem, added: 1}], expect: deny, rules: [denied-path]}
  - {name: elsewhere, edits: [{path: README, added: 1}], expect: deny, rules: [path-not-allowed]}
  - {name: binary, edits: [{path: src/a.bin, binary: true, size: 9}], expect: deny, rules: [policy-expressions/no-binaries]}
  - {name: no goose, agent: goose, edits: [{path: src/a.py, added: 1}], expect: deny, rules: [autonomy-tier]}
  - {name: a person, author: human, edits: [{path: README, added: 1}], expect: allow}
"""
    )
    done = shared.safeai("policy", "test", str(cases))
    assert done.code == 0, done.both
    assert done.out.splitlines()[-1] == "6 passed, 0 failed"
    assert "ok binary" in done.out
    cases.write_text("cases:\n  - {name: keys, edits: [{path: config/keys/a, added: 1}], expect: allow}\n")
    done = shared.safeai("policy", "test", str(cases))
    assert done.code == 1
    assert "FAILED keys\n      expected allow, got deny (denied-path: " in done.out
    assert done.out.splitlines()[-1] == "0 passed, 1 failed"
    data = json.loads(shared.safeai("policy", "test", str(cases), "--format", "json").out)
    assert data["failed"] == 1
    assert data["cases"][0]["passed"] is False
    loose = tmp_path / "loose.yaml"
    loose.write_text("safe_mode: true\n")
    assert shared.safeai("policy", "test", str(cases), "--policy", str(loose)).code == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file says nothing"),
        ("cases: []\n", "has one key, 'cases', and a list below it"),
        ("cases: [{name: a, expect: perhaps}]\n", ":1:27: 'expect' has to be one of allow, review, deny"),
        ("cases:\n  - {name: a, expects: allow}\n", "unknown key 'expects'"),
        ("cases:\n  - {expect: allow}\n", "'name' has to be text"),
        (
            "cases:\n  - {name: a, expect: allow, edits: [{path: a, added: -1}]}\n",
            "'added' has to be a number",
        ),
        ("cases:\n  - {name: a, expect: allow, edits: [x]}\n", "this has to be a mapping"),
    ],
)
def test_cases_that_cannot_be_read_say_where(
    shared: Repo, tmp_path: Path, content: str, message: str
) -> None:
    cases = tmp_path / "cases.yaml"
    cases.write_text(content)
    done = shared.safeai("policy", "test", str(cases))
    assert done.code == 3
    assert f"{cases}" in done.err
    assert message in done.err


# policy schema


def test_the_schema_is_json_schema_and_takes_what_the_parser_takes(shared: Repo) -> None:
    done = shared.safeai("policy", "schema")
    assert done.code == 0
    schema = json.loads(done.out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert faults({"safe_mode": True}, "policy") == []
    assert faults({"safe_mod": True}, "policy")
    assert faults({"max_edits": -1}, "policy")


# explain


def test_explain_says_which_pattern_decides(shared: Repo) -> None:
    for path, code, said in (
        ("src/a.py", 0, "allowed src/a.py: allow_paths has 'src/'"),
        ("src/not/there.py", 0, "allowed src/not/there.py: allow_paths has 'src/'"),
        ("config/keys/x.pem", 1, "denied  config/keys/x.pem: deny_paths has 'config/keys/'"),
        ("Config/KEYS/x.pem", 1, "denied  Config/KEYS/x.pem: deny_paths has 'config/keys/'"),
        ("README.md", 1, "denied  README.md: no pattern of allow_paths matches"),
        (
            ".github/workflows/ci.yml",
            1,
            "review  .github/workflows/ci.yml: protected_paths has '.github/'",
        ),
        (".safeai/policy.yaml", 1, "review  .safeai/policy.yaml: protected_paths has '.safeai/'"),
        ("src/aux.py", 1, "denied  src/aux.py: the name is not portable: "),
        ("src/.GIT/config", 1, "denied  src/.GIT/config: the name is not portable: "),
        ("./src/../src//a.py", 0, "allowed src/a.py: "),
        (str(shared.path / "src" / "a.py"), 0, "allowed src/a.py: "),
    ):
        done = shared.safeai("explain", path)
        assert done.code == code, (path, done.both)
        assert done.out.startswith(said), done.out
        assert f"(.safeai/policy.yaml at {shared.git('rev-parse', 'HEAD')[:12]})" in done.out
    assert "protected_paths has 'src/auth/'" in shared.safeai("explain", "src/auth/x", "--at", "rich").out


def test_explain_takes_paths_from_where_one_stands(shared: Repo) -> None:
    below = shared.path / "src" / "deep"
    assert shared.safeai("explain", "down/c.py", cwd=below).out.startswith("allowed src/deep/down/c.py: ")
    assert shared.safeai("explain", "../a.py", cwd=below).out.startswith("allowed src/a.py: ")
    assert shared.safeai("explain", "../../README", cwd=below).out.startswith("denied  README: ")


def test_explain_keeps_to_the_repository(shared: Repo) -> None:
    for path, message in (
        ("../elsewhere", "../elsewhere is outside the repository"),
        ("/etc/passwd", "/etc/passwd is outside the repository"),
        (".", ". is the repository itself"),
        ("src/..", "src/.. is the repository itself"),
    ):
        done = shared.safeai("explain", path)
        assert done.code == 2, path
        assert message in done.err
        assert "name a path inside it" in done.err


@pytest.mark.parametrize(
    ("policy", "path", "code", "said"),
    [
        ("autonomy_tier: frozen\n", "src/a", 1, "denied  src/a: autonomy_tier is 'frozen'"),
        ("autonomy_tier: alpha\n", "src/a", 1, "review  src/a: autonomy_tier is 'alpha'"),
        ("autonomy_tier: stable\nprotected_paths: [src/]\n", "src/a", 0, "allowed src/a: "),
        ("autonomy_tier: stable\n", ".safeai/x", 1, "review  .safeai/x: "),
        ("outcomes: {protected-path: deny}\n", ".github/workflows/x", 1, "denied  .github/workflows/x: "),
        (
            "outcomes: {unportable-path: warn}\n",
            "aux.py",
            0,
            "allowed aux.py: no pattern matches, and allow_paths is empty; warned of: ",
        ),
        (
            "outcomes: {unportable-path: warn}\n",
            "a/.git/x",
            1,
            "denied  a/.git/x: the name is not portable: ",
        ),
    ],
)
def test_explain_agrees_with_the_gate(
    shared: Repo, file: Path, policy: str, path: str, code: int, said: str
) -> None:
    file.write_text(policy)
    done = shared.safeai("explain", path, "--policy", str(file))
    assert done.code == code, done.both
    assert done.out.startswith(said)
    cases = file.with_name("cases.yaml")
    expect = {"allowed": "allow", "denied": "deny", "review": "review"}[said.split(maxsplit=1)[0]]
    cases.write_text(f"cases: [{{name: same, edits: [{{path: {path}, added: 1}}], expect: {expect}}}]\n")
    judged = shared.safeai("policy", "test", str(cases), "--policy", str(file))
    assert judged.code == 0, judged.both


def test_explain_for_programs(shared: Repo) -> None:
    data = json.loads(shared.safeai("explain", "config/keys/x", "--format", "json").out)
    assert data["path"] == "config/keys/x"
    assert [(one["outcome"], one["why"]) for one in data["layers"]] == [
        ("denied", "deny_paths has 'config/keys/'")
    ]


# scope


def test_scope_lint_and_explain_know_what_messages_have_to_say(shared: Repo, file: Path) -> None:
    file.write_text(
        "attribution: forbid\nai_may_sign_off: false\naccountable_trailers: [Signed-off-by]\n"
        "ai_until_shown_human: true\n"
    )
    done = shared.safeai("scope", "--for-agent", "--policy", str(file))
    for line in (
        "- Name no AI in commit messages, as author or as committer.",
        "- Name the person who asked for the work: 'Signed-off-by: NAME <ADDRESS>'.",
        "- Add no Signed-off-by, in nobody's name.",
    ):
        assert line in done.out.splitlines()
    remarks = shared.safeai("policy", "lint", str(file)).out
    assert "who leaves no mark cannot be told from a person" in remarks
    assert "a person has to add it after the agent is done" in remarks
    explained = shared.safeai("explain", ".github/x", "--policy", str(file))
    assert "for changes by people too" in explained.out
    file.write_text("attribution: require\n")
    plain = shared.safeai("scope", "--policy", str(file)).out
    assert "- Name yourself in a trailer of each commit message: 'Assisted-by: AGENT'." in plain
    assert "Signed-off-by" not in plain
    assert "people too" not in shared.safeai("explain", ".github/x", "--policy", str(file)).out


def test_scope_tells_an_agent_its_limits(shared: Repo) -> None:
    told = ["scope", "--policy", str(shared.path / ".safeai/policy.yaml")]
    done = shared.safeai(*told, "--for-agent")
    assert done.code == 0
    for line in (
        "Changes to this repository are judged before they are accepted. Stay inside these limits:",
        "- Changes inside the limits are accepted; protected paths need a person's approval.",
        "- Only these paths may change: src/, tests/, .github/, .safeai/",
        "- Never change: config/keys/",
        "- This has to pass: make test (check 'tests')",
        "- Rule no-binaries (deny): no binaries, please",
        (
            "- Check before you commit: safeai-git check. A refusal names the rule and what to do about it; "
            "safeai-git split gives the part that is allowed."
        ),
    ):
        assert line in done.out.splitlines()
    assert "Stay inside" not in shared.safeai(*told).out
    assert "- Each change needs a person's approval." in shared.safeai(*told, "--agent", "devin").out
    assert "- Changes by goose are not accepted." in shared.safeai(*told, "--agent", "goose").out
    data = json.loads(shared.safeai(*told, "--agent", "goose", "--format", "json").out)
    assert data["layers"][0]["admitted"] is False
    assert data["layers"][0]["deny_paths"] == ["config/keys/"]


# check --patch


PATCH = """\
diff --git a/src/a.py b/src/a.py
--- a/src/a.py
+++ b/src/a.py
@@ -1 +1 @@
-a = 1
+a = 2
"""


def check(repo: Repo, *arguments: str, stdin: str = "") -> tuple[int, str]:
    done = repo.safeai("check", "--agent", "claude-code", "--no-sign", *arguments, stdin=stdin)
    return done.code, done.both


def test_a_patch_is_judged_from_a_file_and_from_standard_input(shared: Repo, tmp_path: Path) -> None:
    (tmp_path / "a.patch").write_text(PATCH)
    for code, said in (
        check(shared, "--patch", "-", stdin=PATCH),
        check(shared, "--patch", str(tmp_path / "a.patch")),
    ):
        assert code == 0, said
        assert "ALLOW patch: 1 edit, 12 bytes, by claude-code (ai)" in said
    denied = PATCH.replace("src/a.py", "config/keys/a.py").replace("--- a/config/keys/a.py", "--- /dev/null")
    denied = denied.replace("@@ -1 +1 @@\n-a = 1\n", "new file mode 100644\n@@ -0,0 +1 @@\n").replace(
        "--- /dev/null\n+++ b/config/keys/a.py\nnew file mode 100644\n",
        "new file mode 100644\n--- /dev/null\n+++ b/config/keys/a.py\n",
    )
    code, said = check(shared, "--patch", "-", stdin=denied)
    assert code == 1, said
    assert "[denied-path]" in said


def test_a_patch_is_judged_on_the_revision_that_is_named(shared: Repo) -> None:
    added = PATCH.replace("src/a.py", "src/deep/down/c.py").replace("a = ", "c = ")
    assert check(shared, "--patch", "-", stdin=added)[0] == 0
    code, said = check(shared, "--patch", "-", "--base", "rich", stdin=added)
    assert code == 3
    assert "the patch does not apply" in said
    assert "make it against the revision given by --base" in said


@pytest.mark.parametrize(
    "patch",
    [
        "",
        "nonsense\n",
        PATCH[:-8],
        PATCH.replace("a = 1", "b = 1"),
        PATCH.replace("src/a.py", "../a.py"),
        PATCH.replace("src/a.py", ".git/config"),
    ],
)
def test_B62_what_is_no_patch_for_this_tree_is_no_decision(shared: Repo, patch: str) -> None:
    code, said = check(shared, "--patch", "-", stdin=patch)
    assert code == 3, said
    assert "the patch does not apply" in said
    assert "hint: " in said


def test_a_patch_leaves_no_trace(shared: Repo, tmp_path: Path) -> None:
    shutil.copytree(shared.path, tmp_path / "copy")
    repo = Repo(tmp_path / "copy", shared.environment)
    before = sorted(os.walk(repo.path))
    assert check(repo, "--patch", "-", stdin=PATCH)[0] == 0
    assert sorted(os.walk(repo.path)) == before
