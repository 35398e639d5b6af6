"""Policies: the YAML door, the strict reader, the shipped schema, layers, and what a change of policy means."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safeai_git import policyfile, schema
from safeai_git.core import policy_parts as parts
from safeai_git.core.errors import PolicyError, WrongUse
from safeai_git.core.policy import LARGEST_POLICY, Approvals, GovernorLink, Policy, PolicyStack
from safeai_git.core.policy_difference import difference
from safeai_git.core.policy_faults import MOST_FAULTS, UNREADABLE, Faults, Section, guess, kind, show
from safeai_git.core.policy_reader import TOP
from safeai_git.core.rules import RULE_IDS

ROOT = Path(__file__).parent.parent
EXAMPLE = (ROOT / "policy.example.yaml").read_bytes()
FIVE_KEYS = b"""safe_mode: true
autonomy_tier: beta
allow_paths: [src/, tests/]
deny_paths: [.git/, config/keys/]
max_edit_size_bytes: 65536
max_total_size_bytes: 524288
"""
LOADERS = ["SafeLoader", "CSafeLoader"] if hasattr(yaml, "CSafeLoader") else ["SafeLoader"]


@pytest.fixture(params=LOADERS)
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(policyfile, "LOADER", getattr(yaml, request.param))
    return str(request.param)


def load(text: str | bytes) -> Policy:
    return policyfile.load(text if isinstance(text, bytes) else text.encode(), "p.yaml")


def from_data(data: object) -> Policy:
    return Policy.from_data(data, {}, "p", "0" * 64)


def objection(data: object) -> str:
    """What the reader objects to in plain data; empty when nothing."""
    try:
        from_data(data)
    except PolicyError as error:
        return error.message
    return ""


def refused(text: str | bytes) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        load(text)
    return caught.value


# The edges


@pytest.mark.parametrize(
    "text",
    [
        "autonomy_tier: alpha\nagents: {devin: {autonomy_tier: alpha}}\n",
        f"checks: [{{name: a, run: x, read_only: [/{'a' * 1023}]}}]\n",
        f"checks: [{{name: a, run: x, artifacts: [{'a' * 1024}]}}]\n",
        f"rules: [{{id: a, when: '{'x' * 2048}', outcome: deny, message: m}}]\n",
        f"deny_paths: [{', '.join(['a'] * 1024)}]\n",
        f"agents: {{{', '.join(f'a{n}: {{}}' for n in range(256))}}}\n",
        "approvals: {threshold: 64}\n",
    ],
)
def test_what_just_fits(text: str) -> None:
    load(text)


def test_a_list_that_just_fits_is_taken_whole() -> None:
    assert len(load(f"deny_paths: [{', '.join(['a'] * 1024)}]\n").deny_paths) == 1024


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            f"rules: [{{id: a, when: '{'é' * 1025}', outcome: deny, message: m}}]\n",
            "p.yaml:1:23: 'when' has more than 2,048 bytes",
            "",
        ),
        (
            "approvals: {threshold: 64.0}\n",
            "p.yaml:1:24: 'threshold' must be a whole number, not 64.0",
            "write 64",
        ),
        (
            "approvals: {threshold: 65.0}\n",
            "p.yaml:1:24: 'threshold' must be a whole number, not 65.0",
            "write digits only",
        ),
        (
            f"agents: {{{', '.join(f'a{n}: {{}}' for n in range(257))}}}\n",
            "p.yaml:1:9: 'agents' has 257 entries; 256 are allowed",
            "",
        ),
        (
            "outcomes: {submodul: deny}\n",
            "p.yaml:1:12: there is no rule 'submodul'",
            "did you mean 'submodule'?",
        ),
        (
            "outcomes: {zzzzzz: deny}\n",
            "p.yaml:1:12: there is no rule 'zzzzzz'",
            f"a policy may choose for: {', '.join(parts.CHOOSABLE)}",
        ),
        (
            "approvals: {zzzzzz: 1}\n",
            "p.yaml:1:13: unknown key 'zzzzzz'",
            "the keys are: threshold, approvers",
        ),
        ("approvals: {treshold: 1}\n", "p.yaml:1:13: unknown key 'treshold'", "did you mean 'threshold'?"),
    ],
)
def test_one_mistake_and_its_hint(text: str, message: str, hint: str) -> None:
    error = refused(text)
    assert (error.message, error.hint) == (message, hint)


def test_short_lists_of_keys_are_shown_and_long_ones_are_not() -> None:
    def hint(number: int) -> str:
        faults = Faults("p", {}, [])
        Section(faults, {"zzzzzz": 1}, (), [f"key{n}" for n in range(number)], "x")
        return faults.noted[0].hint

    assert hint(9).startswith("the keys are: key0, ")
    assert not hint(10).startswith("the keys are: ")
    assert hint(10)


@pytest.mark.parametrize(
    "section",
    [
        "checks: [{run: x}, {run: y}]\n",
        "rules: [{when: a, outcome: deny, message: m}, {when: b, outcome: deny, message: m}]\n",
    ],
)
def test_two_without_a_name_are_not_called_the_same(section: str) -> None:
    assert "are called" not in refused(section).message


def test_as_many_mistakes_as_are_shown_have_no_more() -> None:
    def lines(number: int) -> list[str]:
        return refused(f"deny_paths: [{', '.join(['3'] * number)}]\n").message.splitlines()

    assert len(lines(MOST_FAULTS)) == MOST_FAULTS
    assert lines(MOST_FAULTS + 1)[-1] == "p.yaml: and 1 more"


# What is accepted


def test_five_keys_are_a_policy(loader: str) -> None:
    policy = load(FIVE_KEYS)
    assert [one.source for one in policy.allow_paths] == ["src/", "tests/"]
    assert policy.safe_mode
    assert policy.tier("claude-code") == "beta"
    assert policy.digest == hashlib.sha256(FIVE_KEYS).hexdigest()
    assert policy.source == "p.yaml"
    assert schema.schema_faults(FIVE_KEYS) == []


def test_the_example_holds_every_key_and_loads(loader: str) -> None:
    policy = load(EXAMPLE)
    assert schema.schema_faults(EXAMPLE) == []
    assert [one.name for one in policy.checks] == ["unit-tests"]
    described = schema.policy_schema()
    written = policyfile.parse(EXAMPLE, "example").data

    def keys(value: Any, shape: Any, where: str) -> None:
        while "$ref" in shape:
            shape = described["$defs"][shape["$ref"].rsplit("/", 1)[1]]
        if isinstance(value, dict):
            if "properties" in shape:
                seen.setdefault(where, set(shape["properties"])).difference_update(value)
            for key, item in value.items():
                inner = shape.get("properties", {}).get(key) or shape.get("additionalProperties")
                keys(item, inner, f"{where}/{key if 'properties' in shape else '*'}")
        elif isinstance(value, list):
            for item in value:
                keys(item, shape["items"], f"{where}/*")

    seen: dict[str, set[str]] = {}
    keys(written, described, "")
    assert seen, "nothing was compared"
    assert {where: missing for where, missing in seen.items() if missing} == {}


def test_the_example_states_the_defaults_that_it_claims() -> None:
    policy, builtin = load(EXAMPLE), Policy.builtin()
    own = {"repository", "allow_paths", "deny_paths", "protected_paths", "agents", "outcomes", "approvals"}
    own |= {"checks", "rules", "governor", "attribution", "accountable_trailers"}
    ours, theirs = policy.to_data(), builtin.to_data()
    assert {key: ours[key] for key in theirs if key not in own} == {
        key: theirs[key] for key in theirs if key not in own
    }
    assert dict(policy.outcomes) == parts.DEFAULT_OUTCOMES


def test_an_empty_mapping_means_the_defaults() -> None:
    assert from_data({}).to_data() == Policy.builtin().to_data()


def test_what_a_policy_says_can_be_read_back() -> None:
    for policy in (load(EXAMPLE), Policy.builtin(), load(FIVE_KEYS)):
        again = Policy.from_data(policy.to_data(), {}, policy.source, policy.digest)
        assert again == policy
        assert schema.faults(policy.to_data(), "policy") == []


def test_the_builtin_policy_is_named_and_has_a_digest() -> None:
    builtin = Policy.builtin()
    assert builtin.source == "built-in default"
    assert len(builtin.digest) == 64
    assert builtin is Policy.builtin()
    assert not builtin.allow_paths
    assert builtin.safe_mode


def test_crlf_and_quoted_and_block_text_are_read(loader: str) -> None:
    lines = [
        "checks:",
        '- name: "a"',
        "  run: |",
        "    one",
        "    two",
        "- name: 'b'",
        "  run: >-",
        "    x",
        "    y",
        "",
    ]
    assert [one.run for one in load("\r\n".join(lines)).checks] == ["one\ntwo\n", "x y"]


def test_words_that_only_look_odd_are_text(loader: str) -> None:
    policy = load("deny_paths: ['yes', \"on\", '0777', v1.2, a:b, x-1, '12:30', nothing]\n")
    assert [one.source for one in policy.deny_paths] == [
        "yes",
        "on",
        "0777",
        "v1.2",
        "a:b",
        "x-1",
        "12:30",
        "nothing",
    ]


# What is refused, and how it is said


def test_B06_an_empty_file_is_no_policy(loader: str) -> None:
    for text in ("", "\n", "# only a comment\n", "---\n", "null\n", "~", "--- \n...\n"):
        error = refused(text)
        assert error.message == "p.yaml: the file says nothing"
        assert "safe_mode: true" in error.hint


def test_B06_anything_but_a_mapping_is_no_policy(loader: str) -> None:
    for text, what in (
        ("[a]", "a list"),
        ("word", "text"),
        ("3", "a number"),
        ("true", "true or false"),
        ("1.5", "a fraction"),
    ):
        assert refused(text).message == f"p.yaml:1:1: the policy must be a mapping, not {what}"


def test_B07_every_mistake_is_reported_with_its_place(loader: str) -> None:
    error = refused(
        "deny_path: [a]\n"
        "safe_mode: yes\n"
        "autonomy_tier: betta\n"
        "max_edits: -1\n"
        "max_edit_size_bytes: .nan\n"
        "max_total_size_bytes: 0777\n"
        "max_lfs_size_bytes: 1_000\n"
        "applies_to: [ai, robots]\n"
        "deadline_seconds: '10'\n"
    )
    assert error.message.splitlines() == [
        "p.yaml:1:1: unknown key 'deny_path' (did you mean 'deny_paths'?)",
        "p.yaml:2:12: 'yes' is text to some readers and true to others (write true, or \"yes\")",
        "p.yaml:3:16: 'autonomy_tier' must be one of frozen, alpha, beta, stable, not 'betta' (did you mean 'beta'?)",
        "p.yaml:4:12: 'max_edits' must be from 0 to 1,000,000, not -1",
        (
            "p.yaml:5:22: '.nan' is a number or a date to some readers only"
            ' (a number is written in plain decimal digits, text as ".nan")'
        ),
        (
            "p.yaml:6:23: '0777' is a number or a date to some readers only"
            ' (a number is written in plain decimal digits, text as "0777")'
        ),
        (
            "p.yaml:7:21: '1_000' is a number or a date to some readers only"
            ' (a number is written in plain decimal digits, text as "1_000")'
        ),
        (
            "p.yaml:8:18: item 2 of 'applies_to' must be one of ai, mixed, human, bot, unknown, not 'robots'"
            " (did you mean 'bot'?)"
        ),
        "p.yaml:9:19: 'deadline_seconds' must be a whole number, not '10' (write digits only)",
    ]
    assert error.hint == "mend all 9, then run 'safeai-git policy lint'"


def test_B07_one_mistake_has_its_own_hint(loader: str) -> None:
    error = refused("safe_mode: true\ndeny_path: [a]\n")
    assert (error.message, error.hint) == (
        "p.yaml:2:1: unknown key 'deny_path'",
        "did you mean 'deny_paths'?",
    )


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("Yes", "text to some readers and true"),
        ("off", "text to some readers and false"),
        ("True", "text to some readers and true"),
        ("NULL", "text to some readers and null"),
        ("+5", "a number or a date to some readers only"),
        ("0x10", "a number or a date to some readers only"),
        ("0o17", "a number or a date to some readers only"),
        ("0b1", "a number or a date to some readers only"),
        ("12:30", "a number or a date to some readers only"),
        ("2024-01-01", "a number or a date to some readers only"),
        (".5", "a number or a date to some readers only"),
        ("5.", "a number or a date to some readers only"),
        (".inf", "a number or a date to some readers only"),
        ("-.Inf", "a number or a date to some readers only"),
        ("1e400", "a number that a policy cannot hold"),
        ("9" * 21, "a number that a policy cannot hold"),
        ("9" * 5000, "a number that a policy cannot hold"),
    ],
)
def test_B07_scalars_that_readers_disagree_about(loader: str, value: str, what: str) -> None:
    error = refused(f"max_edits: {value}\n")
    assert what in error.message
    assert error.message.startswith("p.yaml:1:12: ")
    assert len(error.message) < 200


@pytest.mark.parametrize("value", ["1.5", "65536.0", "1e3", "-0.5"])
def test_B07_fractions_are_no_whole_numbers(loader: str, value: str) -> None:
    error = refused(f"max_edits: {value}\n")
    assert "must be a whole number" in error.message
    assert error.hint == f"write {int(float(value))}"


def test_B07_a_fraction_beyond_bounds_has_no_figure_as_a_hint(loader: str) -> None:
    assert refused("max_edits: 1e300\n").hint == "write digits only"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x 1\n", "1:4: an anchor (&x)"),
        ("safe_mode: *x\n", "1:12: an alias (*x)"),
        ("*x : 1\n", "1:1: an alias (*x)"),
        ("<<: {safe_mode: true}\n", "1:1: a merge key (<<)"),
        ("safe_mode: !!bool true\n", "1:12: a tag ('tag:yaml.org,2002:bool')"),
        ("safe_mode: !x true\n", "1:12: a tag ('!x')"),
        ("!!map {safe_mode: true}\n", "1:1: a tag ('tag:yaml.org,2002:map')"),
        (
            "!!python/object/apply:os.system [id]\n",
            "a tag ('tag:yaml.org,2002:python/object/apply:os.system')",
        ),
        ("safe_mode: true\n---\nsafe_mode: false\n", "2:1: a second document"),
        ("%YAML 1.1\n---\nsafe_mode: true\n", "1:1: a directive ('%...')"),
        ("? [a]\n: b\n", "1:3: a key that is not text"),
        ("? {a: b}\n: {c: d}\nsafe_mode: true\n", "1:3: a key that is not text"),
        ("agents: {1: {}}\n", "1:10: the key '1' is not text"),
        ("agents: {true: {}}\n", "1:10: the key 'true' is not text"),
        ("safe_mode: true\tx\n", "1:16: a tab"),
        ("safe_mode: [\n", "2:1: not YAML: "),
        ("safe_mode: 'x\n", "not YAML: "),
        ("[" * 400, "1:17: nested deeper than 16 levels"),
        ("a: {" * 400, "nested deeper than 16 levels"),
        ('safe_mode: "\\x1b[31m"\n', "1:12: 'safe_mode' must be true or false, not '\\x1b[31m'"),
        ('"\\e[31m": 1\n', "1:1: unknown key '\\x1b[31m'"),
        ('"\\0": 1\n', "1:1: unknown key '\\x00'"),
        ('safe_mode: true\n"\\01": 1\n', "2:1: unknown key '\\x001'"),
        ("? [a]\n: {max_edits: 1, b: [c]}\nmax_edits: -1\n", "3:12: 'max_edits' must be from 0"),
    ],
)
def test_B07_yaml_that_a_policy_may_not_use(loader: str, text: str, message: str) -> None:
    found = refused(text).message
    assert message in found
    assert found.startswith("p.yaml:")


def test_B07_a_key_given_twice_names_both_lines(loader: str) -> None:
    error = refused("safe_mode: true\nmax_edits: 3\nsafe_mode: false\n")
    assert (
        error.message == "p.yaml:3:1: the key 'safe_mode' stands here a second time; the first is in line 1"
    )


def test_B07_a_key_given_twice_is_found_at_any_depth(loader: str) -> None:
    assert "a second time" in refused("governor: {url: https://a, url: https://b}\n").message
    assert "a second time" in refused("safe_mode: [{x: 1, x: 2}]\n").message


def test_several_faults_of_syntax_and_meaning_are_told_together(loader: str) -> None:
    lines = refused("a: &x 1\nb: *x\nmax_edits: no\n").message.splitlines()
    assert [line.split(": ")[0] for line in lines] == [
        "p.yaml:1:1",
        "p.yaml:1:4",
        "p.yaml:2:1",
        "p.yaml:2:4",
        "p.yaml:3:12",
    ]
    lines = refused("a: {b: *c}\nb: 'x").message.splitlines()
    assert "an alias" in lines[0]
    assert "not YAML" in lines[1]


def test_B31_invisible_characters_are_refused_where_they_stand(loader: str) -> None:
    for char in "\u202e\u2066\u200b\u200c\ufeff\u2028\u2029\x85\x00\x1b\u00ad\U000e0041":
        error = refused(f"safe_mode: true # a{char}safe_mode: false\n")
        assert error.message == f"p.yaml:1:20: the invisible character U+{ord(char):04X}"
    assert "U+000D" in refused("safe_mode: true # \rautonomy_tier: stable\n").message
    assert "U+FEFF" in refused("\ufeffsafe_mode: true\n").message


def test_bytes_that_are_not_utf8(loader: str) -> None:
    assert refused(b"safe_mode: true\n# \xff\n").message == "p.yaml:2:3: the byte 0xff is not UTF-8"
    assert "not UTF-8" in refused("safe_mode: true".encode("utf-16")).message
    assert "not UTF-8" in refused(b"# \xed\xa0\x80\n").message


def test_escapes_that_are_no_characters(loader: str) -> None:
    for escape in ("\\ud800", "\\UFFFFFFFF", "\\U00110000"):
        error = refused(f'allow_paths: ["{escape}"]\n')
        assert error.message.startswith("p.yaml:")
        assert "surrogate" in error.message or "not YAML" in error.message


def test_B54_a_file_that_is_too_large_is_not_parsed() -> None:
    text = b"#" * LARGEST_POLICY
    assert refused(text).message == "p.yaml: the file says nothing"
    assert refused(text + b"#").message == "p.yaml: the file has more than 262,144 bytes"


def test_B54_many_mistakes_are_cut_short(loader: str) -> None:
    lines = refused("".join(f"k{i}: 1\n" for i in range(5000))).message.splitlines()
    assert len(lines) == 51
    assert lines[-1] == "p.yaml: and 4,950 more"


def test_B54_long_foreign_text_is_shown_short(loader: str) -> None:
    assert len(refused(f"{'k' * 900}: 1\n").message) < 200
    assert len(refused(f"safe_mode: {'v' * 9000}\n").message) < 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("allow_paths: src/\n", "'allow_paths' must be a list, not text"),
        ("allow_paths:\n", "'allow_paths' must be a list, not nothing"),
        ("allow_paths: [3]\n", "item 1 of 'allow_paths' must be a path pattern, not a number"),
        ("deny_paths: ['../x']\n", "item 1 of 'deny_paths' is not a path pattern"),
        ("deny_paths: ['a[']\n", "item 1 of 'deny_paths' is not a path pattern"),
        (f"deny_paths: [{', '.join(['a'] * 1025)}]\n", "'deny_paths' has 1,025 items; 1,024 are allowed"),
        ("applies_to: []\n", "the policy would govern nobody"),
        ("unknown_counts_as: unknown\n", "'unknown_counts_as' must be one of ai, mixed, human, bot"),
        ("repository: a b\n", "'repository' must be a name such as github.com/org/name"),
        ("agents: [devin]\n", "'agents' must be a mapping, not a list"),
        ("agents: {Devin: {}}\n", "'Devin' is not an agent's name"),
        ("agents: {devin: alpha}\n", "the agent 'devin' must be a mapping, not text"),
        (
            "agents: {devin: {autonomy_tier: stable}}\n",
            "1:33: the tier 'stable' is above the policy's 'beta'",
        ),
        ("agents: {devin: {alow: false}}\n", "1:18: unknown key 'alow'"),
        ("outcomes: {kill-switch: warn}\n", "1:12: the outcome of 'kill-switch' is fixed"),
        ("outcomes: {submodul: warn}\n", "there is no rule 'submodul'"),
        ("outcomes: {protected-path: warn}\n", "'protected-path' must be one of review, deny, not 'warn'"),
        ("outcomes: deny\n", "'outcomes' must be a mapping, not text"),
        ("approvals: {threshold: 0}\n", "'threshold' must be from 1 to 64, not 0"),
        ("approvals: {threshold: true}\n", "'threshold' must be a whole number, not true or false"),
        ("approvals: {approvers: ['!x']}\n", "item 1 of 'approvers' must be a principal"),
        ("approvals: 2\n", "'approvals' must be a mapping, not a number"),
        ("checks: {a: b}\n", "'checks' must be a list, not a mapping"),
        ("checks: [3]\n", "check 1 must be a mapping, not a number"),
        ("checks: [{run: x}]\n", "1:10: the key 'name' is missing"),
        ("checks: [{name: a, run: ''}]\n", "'run' has 0 characters; from 1 to 16,384 are allowed"),
        ('checks: [{name: a, run: "a\\0b"}]\n', "'run' holds a NUL"),
        ("checks: [{name: a, run: 3}]\n", "'run' must be text, not a number"),
        ("checks: [{name: a, run: x}, {name: a, run: z}]\n", "two checks are called 'a'"),
        ("checks: [{name: a, run: x, expect_exit: []}]\n", "'expect_exit' is empty"),
        (
            "checks: [{name: a, run: x, expect_exit: [256]}]\n",
            "item 1 of 'expect_exit' must be from 0 to 255",
        ),
        ("checks: [{name: a, run: x, isolation: D}]\n", "'isolation' must be one of A, B, C, not 'D'"),
        ("checks: [{name: a, run: x, memory_bytes: 1}]\n", "'memory_bytes' must be from 16,777,216"),
        ("checks: [{name: a, run: x, read_only: [/a/../b]}]\n", "must be an absolute path of the host"),
        ("checks: [{name: a, run: x, read_only: [/]}]\n", "must be an absolute path of the host"),
        (f"checks: [{{name: a, run: x, read_only: [/{'a' * 1024}]}}]\n", "more than 1,024 characters"),
        ("checks: [{name: a, run: x, environment: [A=b]}]\n", "must be the name of an environment variable"),
        (
            "rules: [{id: a, when: 'true', outcome: block, message: m}]\n",
            "'outcome' must be one of warn, review, deny",
        ),
        (
            "rules: [{id: a, when: 'true', outcome: deny, message: \"a\\nb\"}]\n",
            "'message' holds a line break",
        ),
        ("rules: [{id: a, when: 'true', outcome: deny}]\n", "the key 'message' is missing"),
        (
            "rules: [{id: mode-change, when: x, outcome: deny, message: m}]\n",
            "'mode-change' is a built-in rule",
        ),
        ("kill_switch: {max_age_seconds: 0}\n", "'max_age_seconds' must be from 1 to 604,800"),
        ("deadline_seconds: 601\n", "'deadline_seconds' must be from 1 to 600"),
        ("governor: {}\n", "1:11: the key 'url' is missing"),
    ],
)
def test_B07_values_that_a_key_does_not_take(text: str, message: str) -> None:
    assert message in refused(text).message


def test_rules_of_one_name_and_too_many() -> None:
    one = {"id": "a", "when": "true", "outcome": "deny", "message": "m"}
    with pytest.raises(PolicyError, match="two rules are called 'a'"):
        from_data({"rules": [one, one]})
    with pytest.raises(PolicyError, match="'rules' has 65 items; 64 are allowed"):
        from_data({"rules": [one] * 65})
    with pytest.raises(PolicyError, match="'agents' has 257 entries; 256 are allowed"):
        from_data({"agents": {f"a{i}": {} for i in range(257)}})


def test_B65_a_policy_cannot_pass_variables_that_steer_programs() -> None:
    for name in ("LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "GIT_DIR", "SAFEAI_PASSPHRASE"):
        check = {"name": "a", "run": "x", "environment": [name]}
        with pytest.raises(PolicyError, match=f"may not pass {name} into the sandbox"):
            from_data({"checks": [check]})
        assert schema.faults({"checks": [check]}, "policy") != []


GOOD_URLS = [
    "https://governor.example.com",
    "https://governor.example.com:8443/base/path",
    "https://[2001:db8::1]:1/",
    "http://localhost:8000",
    "http://127.0.0.1",
    "http://127.255.0.9:65535/x",
    "http://[::1]:8080/",
]
BAD_URLS = [
    "",
    "http://example.com",
    "http://127.999.0.1",
    "http://127.0.0.1.example.com",
    "http://localhost.example.com",
    "http://127.0.0.1@example.com",
    "https://user:pw@example.com",
    "https://example.com:0",
    "https://example.com:65536",
    "https://example.com/?a=b",
    "https://example.com/#x",
    "https://example.com\n",
    "https:///x",
    "ftp://example.com",
    "HTTPS://example.com",
    "https://exa mple.com",
]


@pytest.mark.parametrize("url", GOOD_URLS)
def test_urls_of_a_governor(url: str) -> None:
    assert from_data({"governor": {"url": url}}).governor == GovernorLink(url)
    assert schema.faults({"governor": {"url": url}}, "policy") == []


@pytest.mark.parametrize("url", BAD_URLS)
def test_urls_that_would_leave_the_machine_unprotected(url: str) -> None:
    with pytest.raises(PolicyError, match="'url' must be a URL"):
        from_data({"governor": {"url": url}})
    assert schema.faults({"governor": {"url": url}}, "policy") != []


# The schema and the reader accept the same documents


def test_checks_that_a_schema_cannot_express() -> None:
    """All of them: the reader refuses, the schema does not know."""
    rule = {"id": "a", "when": "true", "outcome": "deny", "message": "m"}
    check = {"name": "a", "run": "x"}
    documents: list[dict[str, Any]] = [
        {"deny_paths": ["a//b"]},
        {"deny_paths": ["é" * 600]},
        {"rules": [{**rule, "when": "é" * 1100}]},
        {"rules": [rule, rule]},
        {"checks": [check, check]},
        {"agents": {"devin": {"autonomy_tier": "stable"}}},
        {"max_edits": 5.0},
        {"checks": [{**check, "setup": {"run": "x", "locks": ["a/lock"], "keeps": ["a"]}}]},
        {"checks": [{**check, "setup": {"run": "x", "locks": ["lock"], "keeps": ["a", "a"]}}]},
    ]
    for document in documents:
        assert schema.faults(document, "policy") == []
        with pytest.raises(PolicyError):
            from_data(document)


WORDS = st.text("aA1-_./:@!, \n\x00\x7fé", max_size=6)
JUNK: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [-1, 0, 1, 2, 64, 65, 255, 256, 600, 601, 2**24, 2**40, 2**40 + 1, 86_400, 86_401, 0.5, -1.5]
    ),
    WORDS,
    st.lists(st.one_of(st.none(), WORDS, st.integers(-1, 300)), max_size=3),
    st.dictionaries(WORDS, st.one_of(st.none(), WORDS), max_size=2),
)
PATTERN = st.one_of(
    st.sampled_from(["src/", "**/*.pem", "a[0-9]?", "x" * 1024]), st.sampled_from(["", "x" * 1025, 3, None])
)
NUMBER = st.integers(0, 700)
PLAIN_NAME = st.from_regex(r"[a-z0-9][a-z0-9-]{0,4}", fullmatch=True)
NAME = st.integers(0, 9).flatmap(lambda n: WORDS if n == 9 else PLAIN_NAME)


def maybe(good: st.SearchStrategy[Any], *, odds: int = 12) -> st.SearchStrategy[Any]:
    """Mostly what belongs there."""
    return st.integers(0, odds).flatmap(lambda n: JUNK if n == odds else good)


def mapping(needed: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[Any]:
    spoilt = st.dictionaries(st.sampled_from([*needed, *optional, "extra"]), JUNK, max_size=1)
    whole = st.fixed_dictionaries(needed, optional=optional)
    return st.integers(0, 8).flatmap(
        lambda n: st.builds(lambda a, b: {**a, **b}, whole, spoilt) if n == 8 else whole
    )


def words(*options: str) -> st.SearchStrategy[Any]:
    return maybe(st.sampled_from(options))


TREE_PATH = st.sampled_from(["out/x", "..b", "/x", "a//b", "../a", "a/.", "a/", "x\n", ""])
AGENT = mapping({}, {"autonomy_tier": words("frozen", "alpha"), "allow": maybe(st.booleans())})
CHECK = mapping(
    {"name": NAME, "run": maybe(st.sampled_from(["x", "a\nb", "a\n"]))},
    {
        "paths": maybe(st.lists(PATTERN, max_size=2)),
        "timeout_seconds": maybe(NUMBER),
        "memory_bytes": maybe(st.just(2**30)),
        "environment": maybe(
            st.lists(st.one_of(WORDS, st.sampled_from(["LANG", "_x", "GIT_DIR", "LD_", "x\n"])), max_size=2)
        ),
        "read_only": maybe(
            st.lists(st.sampled_from(["/opt/x", "/a/..b", "/..", "/a/./b", "/a\n", "a", "/a//b"]), max_size=2)
        ),
        "expect_exit": maybe(st.lists(st.integers(-1, 256), max_size=2)),
        "isolation": words("A", "B", "C", "D"),
        "limits": maybe(mapping({}, {"processes": maybe(NUMBER), "open_files": maybe(NUMBER)})),
        "needs": maybe(st.lists(st.sampled_from(["node", "g++", "a/b", "", "x\n"]), max_size=2)),
        "deterministic": maybe(st.sampled_from([None, True, False])),
        "attempts": maybe(st.integers(0, 11)),
        "artifacts": maybe(st.lists(TREE_PATH, max_size=2)),
        "setup": maybe(
            mapping(
                {
                    "run": maybe(st.just("x")),
                    "locks": maybe(st.lists(st.sampled_from(["lock", "a/lock"]), max_size=2)),
                    "keeps": maybe(st.lists(TREE_PATH, max_size=1)),
                },
                {
                    "network": maybe(st.booleans()),
                    "timeout_seconds": maybe(NUMBER),
                    "memory_bytes": maybe(NUMBER),
                },
            )
        ),
    },
)
RULE = mapping(
    {
        "id": st.one_of(NAME, st.just("mode-change")),
        "when": words("true"),
        "outcome": words("warn"),
        "message": words("m", "Why.", "m\n"),
    },
    {"each": words("edit", "change", "file")},
)
DOCUMENT = mapping(
    {},
    {
        "$schema": words("x"),
        "safe_mode": maybe(st.booleans()),
        "autonomy_tier": words("beta", "stable"),
        "repository": words("github.com/a/b", "", "a\n"),
        "allow_paths": maybe(st.lists(PATTERN, max_size=2)),
        "deny_paths": maybe(st.lists(PATTERN, max_size=2)),
        "protected_paths": maybe(st.lists(PATTERN, max_size=2)),
        "protect_defaults": maybe(st.booleans()),
        "max_edit_size_bytes": maybe(NUMBER),
        "max_total_size_bytes": maybe(NUMBER),
        "max_edits": maybe(NUMBER),
        "max_lfs_size_bytes": maybe(st.one_of(st.none(), NUMBER)),
        "applies_to": maybe(st.lists(words("ai", "human", "unknown"), max_size=3)),
        "unknown_counts_as": words("ai", "human", "unknown"),
        "free_text_governs": maybe(st.booleans()),
        "ai_until_shown_human": maybe(st.booleans()),
        "attribution": maybe(st.sampled_from([None, *parts.ATTRIBUTION, "allow"])),
        "ai_may_sign_off": maybe(st.booleans()),
        "accountable_trailers": maybe(st.lists(words("Requested-by", "a b", "", "-x", "x\n"), max_size=2)),
        "agents": maybe(st.dictionaries(NAME, maybe(AGENT), max_size=2)),
        "outcomes": maybe(
            st.dictionaries(
                words(*parts.CHOOSABLE, *RULE_IDS).filter(lambda key: isinstance(key, str)),
                words(*parts.OUTCOMES),
                max_size=2,
            )
        ),
        "approvals": maybe(
            mapping(
                {}, {"threshold": maybe(st.integers(0, 65)), "approvers": maybe(st.lists(WORDS, max_size=2))}
            )
        ),
        "checks": maybe(st.lists(CHECK, max_size=2)),
        "allow_read_only": maybe(st.lists(st.sampled_from(["/opt", "/", "a"]), max_size=2)),
        "allow_setup_network": words("never", "reviewed", "proposed", "always"),
        "rules": maybe(st.lists(RULE, max_size=2)),
        "governor": maybe(
            mapping(
                {"url": st.sampled_from([*GOOD_URLS, *BAD_URLS])},
                {
                    "on_unreachable": words("spool", "deny", "warn"),
                    "timeout_seconds": maybe(st.integers(0, 301)),
                },
            )
        ),
        "kill_switch": maybe(mapping({}, {"max_age_seconds": maybe(NUMBER)})),
        "deadline_seconds": maybe(NUMBER),
    },
)


def unique(document: Any) -> bool:
    """Whether the names are unique, which a schema cannot ask for."""
    for key, name in (("checks", "name"), ("rules", "id")):
        items = document.get(key)
        names = (
            [one[name] for one in items if isinstance(one, dict) and name in one]
            if isinstance(items, list)
            else []
        )
        if len({str(one) for one in names}) != len(names):
            return False
    return True


SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@settings(max_examples=400, deadline=None, suppress_health_check=SLOW)
@given(DOCUMENT.filter(unique))
def test_schema_and_reader_accept_the_same_documents(document: dict[str, Any]) -> None:
    assert bool(schema.faults(document, "policy")) == bool(objection(document)), objection(document)


@pytest.mark.parametrize("part", ["CHECK", "RULE", "AGENT"])
def test_schema_and_reader_agree_about_sections(part: str) -> None:
    """The same, with nothing else in the document that could be wrong."""
    key, wrap = {"CHECK": ("checks", list), "RULE": ("rules", list), "AGENT": ("agents", dict)}[part]

    @settings(max_examples=200, deadline=None, suppress_health_check=SLOW)
    @given(globals()[part])
    def agree(section: Any) -> None:
        document = {key: [section] if wrap is list else {"devin": section}}
        assert bool(schema.faults(document, "policy")) == bool(objection(document)), objection(document)

    agree()


def test_schema_and_reader_know_the_same_keys_bounds_and_defaults() -> None:
    described = schema.policy_schema()
    assert set(described["properties"]) == {*TOP, "$schema"}
    data = Policy.builtin().to_data()
    for key, shape in described["properties"].items():
        if "default" in shape and key in data and key != "outcomes":
            assert shape["default"] == data[key], key
    outcomes = described["properties"]["outcomes"]["properties"]
    assert {rule: one["default"] for rule, one in outcomes.items()} == parts.DEFAULT_OUTCOMES
    assert {rule: tuple(one["enum"]) for rule, one in outcomes.items()} == parts.CHOOSABLE


def test_the_built_in_rules_are_the_ones_that_exist() -> None:
    assert set(parts.RULE_IDS) == set(RULE_IDS)
    assert set(parts.CHOOSABLE) == set(parts.DEFAULT_OUTCOMES)
    assert set(parts.CHOOSABLE) < set(RULE_IDS)


def test_the_schema_is_one_and_its_examples_are_valid() -> None:
    described = schema.policy_schema()
    assert described["$id"] == "https://safe-ai.dev/schemas/policy.schema.json"
    json.dumps(described)
    for key, shape in described["properties"].items():
        for example in shape.get("examples", []):
            assert schema.faults({key: example}, "policy") == [], key
            from_data({key: example})


def test_schemas_that_are_not_there() -> None:
    for name in ("nothing", "../policy", "", "policy.schema"):
        with pytest.raises(WrongUse, match="there is no schema"):
            schema.schema(name)


def test_a_schema_says_where() -> None:
    found = schema.schema_faults(b"checks: [{name: a, run: x, paths: ['']}]\nagents: {'a/b~c': {x: 1}}\n")
    assert found[0].startswith("/agents: ")
    assert any(line.startswith("/checks/0/paths/0: ") for line in found)
    with pytest.raises(PolicyError, match="an alias"):
        schema.schema_faults(b"a: *b\n")


# Fuzzing the door


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutated_files_are_policies_or_policy_errors(loader: str, data: st.DataObject) -> None:
    text = bytearray(EXAMPLE)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 8))
        text[at : at + cut] = data.draw(
            st.one_of(
                st.binary(max_size=4),
                st.sampled_from([b": ", b"\n", b"- ", b"&a ", b"*a", b"{", b"]", b'"', b"? ", b"<<: "]),
            )
        )
    policy = None
    try:
        policy = policyfile.load(bytes(text), "p.yaml")
    except PolicyError as error:
        said = error.message
    if policy is None:
        assert said.startswith("p.yaml")
    else:
        assert policyfile.parse(bytes(text), "p").data == yaml.safe_load(bytes(text))
        assert Policy.from_data(policy.to_data(), {}, policy.source, policy.digest) == policy


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_any_bytes_are_policies_or_policy_errors(loader: str, data: bytes) -> None:
    with pytest.raises(PolicyError):
        policyfile.load(data + b"\n~", "p")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, *SLOW])
@given(DOCUMENT, st.data())
def test_json_is_read_as_it_is(loader: str, document: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(document, indent=data.draw(st.sampled_from([None, 1]))).replace("\x7f", "\\u007f")
    found = policyfile.parse(text.encode(), "p")
    found.check()
    assert found.data == document


# Layers


def test_what_checks_may_be_shown_is_the_organisations_to_say() -> None:
    ours = from_data(
        {
            "checks": [
                {"name": "a", "run": "x", "read_only": ["/opt/node", "/optional", "/srv/cache"]},
                {
                    "name": "b",
                    "run": "x",
                    "setup": {"run": "y", "locks": ["l"], "keeps": ["k"], "read_only": ["/srv/wheels"]},
                },
            ],
            "allow_read_only": ["/srv"],
            "allow_setup_network": "proposed",
        }
    )
    theirs = from_data(
        {
            "checks": [{"name": "c", "run": "x", "read_only": ["/var/cache/own"]}],
            "allow_read_only": ["/opt"],
            "allow_setup_network": "reviewed",
        }
    )
    alone, both = PolicyStack((ours,)), PolicyStack((theirs, ours))
    assert [alone.refused_mounts(one) for one in alone.checks] == [(), ()]
    assert {one.name: both.refused_mounts(one) for one in both.checks} == {
        "c": (),
        "a": ("/optional", "/srv/cache"),
        "b": ("/srv/wheels",),
    }
    assert (alone.setup_network, both.setup_network) == ("never", "reviewed")


def test_B05_a_layer_can_only_tighten() -> None:
    strict = load(
        "safe_mode: true\nautonomy_tier: alpha\napprovals: {threshold: 2, approvers: [a]}\nkill_switch: {max_age_seconds: 60}\n"
        "deadline_seconds: 5\nagents: {goose: {allow: false}, devin: {autonomy_tier: frozen}}\n"
        "governor: {url: 'https://a', on_unreachable: deny, timeout_seconds: 9}\nchecks: [{name: a, run: x}]\n"
    )
    loose = load(
        "safe_mode: false\nautonomy_tier: stable\napplies_to: [human]\nunknown_counts_as: human\nrepository: r\n"
        "governor: {url: 'https://b', timeout_seconds: 3}\nchecks: [{name: a, run: x}, {name: b, run: z, paths: [src/]}]\n"
    )
    for layers in ((strict, loose), (loose, strict)):
        stack = PolicyStack(layers)
        assert stack.safe_mode
        assert stack.tier("") == "alpha"
        assert stack.tier("Devin") == "frozen"
        assert stack.threshold == 2
        assert stack.approvers == (("a",),)
        assert not stack.admits("goose")
        assert stack.admits("devin")
        assert [stack.governs(one) for one in parts.AUTHOR_CLASSES] == [True, True, True, False, True]
        assert stack.kill_switch_max_age_seconds == 60
        assert stack.deadline_seconds == 5
        assert stack.repository == "r"
        assert sorted(one.name for one in stack.checks) == ["a", "b"]
        assert {one.name for one in stack.checks_for([b"src/x"])} == {"a", "b"}
        assert {one.name for one in stack.checks_for([b"doc"])} == {"a"}
        assert stack.governor == GovernorLink(layers[0].governor.url if layers[0].governor else "", "deny", 3)
    assert PolicyStack((strict, loose)).source == "p.yaml, p.yaml"


def test_a_stack_of_one_has_the_digest_of_its_layer_and_others_have_their_own() -> None:
    one, two = load(FIVE_KEYS), Policy.builtin()
    assert PolicyStack((one,)).digest == one.digest
    both = {PolicyStack(layers).digest for layers in ((one, two), (two, one), (one, one))}
    assert len(both) == 3
    assert (
        PolicyStack((one, two)).digest == hashlib.sha256(f"{one.digest}\n{two.digest}\n".encode()).hexdigest()
    )


def test_a_stack_without_layers_trusts_nobody() -> None:
    empty = PolicyStack(())
    assert empty.safe_mode
    assert empty.tier("x") == "frozen"
    assert not empty.admits("x")
    assert empty.governs("human")
    assert empty.governor is None
    assert empty.kill_switch_max_age_seconds == 0
    assert empty.deadline_seconds == 10
    assert empty.threshold == 1
    assert empty.repository == ""
    assert empty.checks_for([b"x"]) == ()


def test_B86_unknown_is_governed_as_what_it_counts_as() -> None:
    assert from_data({}).governs("unknown")
    assert not from_data({"unknown_counts_as": "human"}).governs("unknown")
    assert from_data({"unknown_counts_as": "human", "applies_to": ["unknown"]}).governs("unknown")
    assert not from_data({}).governs("human")


def test_agents_are_found_whatever_their_case() -> None:
    policy = from_data({"agents": {"goose": {"allow": False, "autonomy_tier": "alpha"}, "devin": {}}})
    assert not policy.admits("Goose")
    assert policy.tier("GOOSE") == "alpha"
    assert policy.tier("devin") == policy.tier("") == "beta"
    assert policy.admits("")


def test_the_limit_for_lfs_follows_the_limit_for_edits() -> None:
    assert from_data({"max_edit_size_bytes": 7}).lfs_limit == 7
    assert from_data({"max_lfs_size_bytes": 0}).lfs_limit == 0


def test_checks_are_asked_for_by_any_spelling_of_a_path() -> None:
    policy = from_data({"checks": [{"name": "a", "run": "x", "paths": ["src/"]}, {"name": "b", "run": "x"}]})
    assert [one.name for one in policy.checks_for([b"SRC/x"])] == ["a", "b"]
    assert [one.name for one in policy.checks_for([b"doc/x"])] == ["b"]


@pytest.mark.parametrize(
    "path",
    [
        ".github/workflows/ci.yml",
        ".github/copilot-instructions.md",
        ".GitHub/workflows/ci.yml",
        ".github",
        ".gitlab-ci.yml",
        ".pre-commit-config.yaml",
        ".pre-commit-hooks.yaml",
        ".husky/pre-commit",
        "lefthook.yml",
        "ci/Jenkinsfile",
        "Jenkinsfile",
        "CLAUDE.md",
        "pkg/deep/claude.md",
        "AGENTS.md",
        ".claude/settings.json",
        "pkg/.cursor/rules/x.mdc",
        ".cursorrules",
        ".windsurfrules",
        ".clinerules",
        ".aider.conf.yml",
        ".codex/config.toml",
        ".mcp.json",
        "CODEOWNERS",
        "docs/CODEOWNERS",
        ".gitlab/CODEOWNERS",
        ".gitattributes",
        "a/.gitattributes",
        ".gitmodules",
        ".safeai/policy.yaml",
    ],
)
def test_B02_the_default_protected_set(path: str) -> None:
    assert Policy.builtin().protected.first_match_folded(path.encode())


def test_B01_governance_files_are_protected_whatever_a_policy_says() -> None:
    policy = from_data({"protect_defaults": False, "protected_paths": ["infra/"]})
    assert policy.protected.first_match_folded(b".safeai/policy.yaml")
    assert policy.protected.first_match_folded(b".SafeAI/policy.yaml")
    assert policy.protected.first_match_folded(b"infra/x")
    assert policy.protected.first_match_folded(b".github/workflows/ci.yml") is None
    assert policy.governance.first_match_folded(b".safeai")
    assert policy.governance.first_match_folded(b"src/x") is None


# What a change of policy means


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"safe_mode": False}, {}, [("safe_mode", "from false to true", "tighter")]),
        ({}, {"autonomy_tier": "stable"}, [("autonomy_tier", "from 'beta' to 'stable'", "looser")]),
        ({}, {"repository": "x"}, [("repository", "from '' to 'x'", "either")]),
        ({}, {"allow_paths": ["a"]}, [("allow_paths", "the list is no longer empty: 'a'", "tighter")]),
        (
            {"allow_paths": ["a"]},
            {},
            [("allow_paths", "the list is emptied: every path is allowed", "looser")],
        ),
        (
            {"allow_paths": ["a"]},
            {"allow_paths": ["b"]},
            [("allow_paths", "'b' is added", "looser"), ("allow_paths", "'a' is removed", "tighter")],
        ),
        ({"deny_paths": ["a"]}, {}, [("deny_paths", "'a' is removed", "looser")]),
        ({}, {"protected_paths": ["a"]}, [("protected_paths", "'a' is added", "tighter")]),
        ({"protected_paths": [".github/"]}, {}, []),
        ({}, {"max_edits": 2000}, [("max_edits", "from 1,000 to 2,000", "looser")]),
        (
            {},
            {"max_edit_size_bytes": 1},
            [
                ("max_edit_size_bytes", "from 65,536 to 1", "tighter"),
                ("max_lfs_size_bytes", "from 65,536 to 1", "tighter"),
            ],
        ),
        ({}, {"unknown_counts_as": "human"}, [("applies_to", "'unknown' is removed", "looser")]),
        ({}, {"applies_to": ["ai", "mixed", "bot"]}, [("applies_to", "'bot' is added", "tighter")]),
        ({}, {"free_text_governs": True}, [("free_text_governs", "from false to true", "tighter")]),
        ({"ai_until_shown_human": True}, {}, [("ai_until_shown_human", "from true to false", "looser")]),
        ({}, {"ai_may_sign_off": False}, [("ai_may_sign_off", "from true to false", "tighter")]),
        ({}, {"attribution": "disclose"}, [("attribution", "from 'nothing' to 'disclose'", "tighter")]),
        (
            {"attribution": "require"},
            {"attribution": "disclose"},
            [("attribution", "from 'require' to 'disclose'", "looser")],
        ),
        ({"attribution": "require"}, {}, [("attribution", "from 'require' to 'nothing'", "looser")]),
        ({}, {"attribution": "forbid"}, [("attribution", "from 'nothing' to 'forbid'", "tighter")]),
        ({"attribution": "forbid"}, {}, [("attribution", "from 'forbid' to 'nothing'", "looser")]),
        (
            {"attribution": "forbid"},
            {"attribution": "require"},
            [("attribution", "from 'forbid' to 'require'", "either")],
        ),
        (
            {},
            {"accountable_trailers": ["Requested-by"]},
            [("accountable_trailers", "the list is no longer empty: 'Requested-by'", "tighter")],
        ),
        (
            {"accountable_trailers": ["A"]},
            {"accountable_trailers": ["A", "B"]},
            [("accountable_trailers", "'B' is added", "looser")],
        ),
        ({}, {"agents": {"x": {"allow": False}}}, [("agents.x.allow", "from true to false", "tighter")]),
        (
            {"agents": {"x": {"autonomy_tier": "alpha"}}},
            {},
            [("agents.x.autonomy_tier", "from 'alpha' to 'beta'", "looser")],
        ),
        (
            {"agents": {"x": {}}},
            {"agents": {"x": {}}, "autonomy_tier": "alpha"},
            [("autonomy_tier", "from 'beta' to 'alpha'", "tighter")],
        ),
        ({"outcomes": {"submodule": "review"}}, {}, []),
        (
            {},
            {"outcomes": {"submodule": "deny"}},
            [("outcomes.submodule", "from 'review' to 'deny'", "tighter")],
        ),
        ({}, {"approvals": {"threshold": 2}}, [("approvals.threshold", "from 1 to 2", "tighter")]),
        (
            {"approvals": {"approvers": ["a"]}},
            {},
            [("approvals.approvers", "the list is emptied: anyone listed may approve", "looser")],
        ),
        ({}, {"checks": [{"name": "a", "run": "x"}]}, [("checks.a", "is added", "tighter")]),
        ({"checks": [{"name": "a", "run": "x"}]}, {}, [("checks.a", "is removed", "looser")]),
        (
            {"checks": [{"name": "a", "run": "x"}]},
            {"checks": [{"name": "a", "run": "z", "paths": ["b"]}]},
            [("checks.a", "changes its run, paths", "either")],
        ),
        ({}, {"governor": {"url": "https://a"}}, [("governor", "'https://a' is asked", "either")]),
        ({"governor": {"url": "https://a"}}, {}, [("governor", "is no longer asked", "either")]),
        (
            {"governor": {"url": "https://a"}},
            {"governor": {"url": "https://b", "on_unreachable": "deny", "timeout_seconds": 6}},
            [
                ("governor.url", "from 'https://a' to 'https://b'", "either"),
                ("governor.on_unreachable", "from 'spool' to 'deny'", "tighter"),
                ("governor.timeout_seconds", "from 5 to 6", "either"),
            ],
        ),
        (
            {},
            {"kill_switch": {"max_age_seconds": 7200}},
            [("kill_switch.max_age_seconds", "from 3,600 to 7,200", "looser")],
        ),
        ({}, {"deadline_seconds": 20}, [("deadline_seconds", "from 10 to 20", "either")]),
        (
            {"allow_read_only": ["/opt"]},
            {"allow_read_only": ["/srv"]},
            [
                ("allow_read_only", "'/srv' is added", "looser"),
                ("allow_read_only", "'/opt' is removed", "tighter"),
            ],
        ),
        (
            {"allow_setup_network": "reviewed"},
            {"allow_setup_network": "proposed"},
            [("allow_setup_network", "from 'reviewed' to 'proposed'", "looser")],
        ),
    ],
)
def test_differences_of_policies(
    old: dict[str, Any], new: dict[str, Any], expected: list[tuple[str, str, str]]
) -> None:
    found = difference(from_data(old), from_data(new))
    assert [(one.key, one.text, one.direction) for one in found] == expected


def test_differences_of_rules() -> None:
    rule = {"id": "a", "when": "true", "outcome": "deny", "message": "m"}
    for change, text, direction in (
        ({"outcome": "warn"}, "from 'deny' to 'warn'", "looser"),
        ({"when": "false"}, "changes its when", "either"),
        ({}, "", ""),
    ):
        found = difference(from_data({"rules": [rule]}), from_data({"rules": [{**rule, **change}]}))
        assert [(one.text, one.direction) for one in found] == ([(text, direction)] if text else [])


def test_dropping_the_default_set_is_shown_path_by_path() -> None:
    found = difference(Policy.builtin(), from_data({"protect_defaults": False}))
    assert {one.direction for one in found} == {"looser"}
    assert {one.text for one in found} == {
        f"{one!r} is removed" for one in parts.PROTECTED if one not in parts.GOVERNANCE
    }


def test_a_policy_does_not_differ_from_itself() -> None:
    policy = load(EXAMPLE)
    assert difference(policy, Policy.from_data(policy.to_data(), {}, "other", "1" * 64)) == []


# The pieces


def test_guesses() -> None:
    assert guess("deny-path", TOP) == "did you mean 'deny_paths'?"
    assert guess("mode_chang", parts.CHOOSABLE) == "did you mean 'mode-change'?"
    assert guess("x" * 100_000, TOP) == ""
    assert guess(3, TOP) == ""


def test_names_for_kinds_and_values() -> None:
    assert [kind(one) for one in (None, {}, [], "", True, 1, 1.5)] == [
        "nothing",
        "a mapping",
        "a list",
        "text",
        "true or false",
        "a number",
        "a fraction",
    ]
    assert show("\u202e") == "'\\u202e'"


def test_values_that_were_refused_before_are_not_refused_again() -> None:
    faults = Faults("p", {})
    data = {"a": UNREADABLE, "b": [UNREADABLE, 1], "c": UNREADABLE}
    section = Section(faults, data, (), data, "it")
    assert section.get("a", lambda value: 1 / 0, 7) == 7
    assert section.many("b", lambda value: value, 9) == (1,)
    assert section.many("a", lambda value: value, 9, (5,)) == (5,)
    assert section.mapping("a", 9) == {}
    assert section.sections("a", (), "x", 9) == []
    inner = section.section("c", ("k",))
    assert inner is not None
    assert inner.need("k", lambda value: value, 3) == 3
    faults.check()


def test_faults_without_positions_name_the_source() -> None:
    with pytest.raises(PolicyError) as caught:
        from_data({"max_edits": "x"})
    assert caught.value.message == "p: 'max_edits' must be a whole number, not 'x'"
    with pytest.raises(PolicyError) as caught:
        Policy.from_data({"agents": {3: {}}}, {("agents",): (4, 2)}, "p", "")
    assert caught.value.message == "p:4:2: 3 is not an agent's name"


def test_a_policy_without_approvals_needs_one() -> None:
    assert from_data({}).approvals == Approvals(1, ())


def test_the_documentation_has_every_key_and_its_examples_are_policies(loader: str) -> None:
    page = (ROOT / "docs" / "formats" / "policy.md").read_text(encoding="utf-8")
    for key in schema.policy_schema()["properties"]:
        assert f"| `{key}` |" in page, key
    for section in ("check", "rule", "agent"):
        for key in schema.policy_schema()["$defs"][section]["properties"]:
            assert f"`{key}`" in page or f"`{key}:" in page, key
    blocks = [block.split("```")[0] for block in page.split("```yaml\n")[1:]]
    policies = [block for block in blocks if not block.startswith("#")]
    assert len(policies) == 2
    for block in policies:
        assert load(block).source == "p.yaml"
