"""The policy VM: what an expression may be, what it answers, and that it never says false for want of an answer."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safeai_git.core import expressions
from safeai_git.core.attribution import Attribution
from safeai_git.core.edit import MODE_EXECUTABLE, MODE_FILE, MODE_SYMLINK, Edit, LfsPointer
from safeai_git.core.errors import CouldNotDecide, PolicyError
from safeai_git.core.expression_bounds import (
    CHANGE_FACTS,
    EDIT_FACTS,
    FUNCTIONS,
    LARGEST_REGEX,
    Cost,
    examine,
    regex_units,
)
from safeai_git.core.expression_tokens import tokens
from safeai_git.core.expressions import BUDGET, Expression, PolicyVM, compile_rule
from safeai_git.core.facts import change_facts, edit_facts
from safeai_git.core.proposal import Proposal

EDITS = (
    Edit(
        b"src/a.py",
        "M",
        MODE_FILE,
        MODE_FILE,
        bytes_added=30,
        bytes_removed=10,
        lines_added=3,
        lines_removed=1,
    ),
    Edit(b"src/run", "A", 0, MODE_EXECUTABLE, new_size=9000, binary=True),
    Edit(b"link\xff", "T", MODE_FILE, MODE_SYMLINK, old_size=5, new_size=7),
    Edit(b"big.bin", "A", 0, MODE_FILE, lfs=LfsPointer(2**70)),
)
PROPOSAL = Proposal("commit", "", "", "", "", EDITS, Attribution("ai", "devin"))


def facts(edit: int | None = None, edits: tuple[Edit, ...] = EDITS) -> dict[str, Any]:
    made: dict[str, Any] = {
        "change": change_facts(PROPOSAL, "topic"),
        "edits": [edit_facts(one) for one in edits],
    }
    if edit is not None:
        made["edit"] = made["edits"][edit]
    return made


def ask(when: str, edit: int | None = None) -> bool:
    return PolicyVM()(when, facts(edit))


def refusal(when: str, each: str = "edit") -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        compile_rule(when, each)
    return caught.value


# Answers


@pytest.mark.parametrize(
    ("when", "answer"),
    [
        ("true", True),
        ("change.edits == 4", True),
        ("change.lines_added - change.lines_removed > 2", False),
        ("change.author_class == 'ai' && change.agent != 'claude-code'", True),
        ("change.branch.startsWith('top')", True),
        ("size(edits) > 3 && edits.size() > 3", True),
        ("edits[0].path == 'src/a.py'", True),
        ("edits.exists(e, e.binary && e.status == 'A')", True),
        ("edits.all(e, e.path.startsWith('src/'))", False),
        ("edits.exists_one(e, e.symlink)", True),
        ("edits.exists(e, ['docs/', 'src/'].exists(folder, e.path.startsWith(folder)))", True),
        ("edits.exists(e, edits.exists(f, f.path != e.path && f.size == e.size))", False),
        (r"edits.exists(e, e.path.matches(r'^src/[a-z]+\.py$'))", True),
        ("edits.exists(e, e.path.matches('^src/'))", True),
        ("edits.exists(e, e.new_mode == '100755' && e.old_mode == '000000')", True),
        ("edits.exists(e, e.lfs && !e.binary)", True),
        ("'M' in ['M', 'A'] && {'a': 1}['a'] == 1", True),
        ("int('12') + int(1.5) == 13 && string(3) == '3' && double(2) > 1.5", True),
        ("change.edits > 3 ? true : false", True),
        ("has(change.edits) // a comment ) ' \"\n && true", True),
        ('"""a"b""" == \'a"b\' && r"\\d" == \'\\\\d\'', True),
    ],
)
def test_answers_about_the_change(when: str, answer: bool) -> None:
    assert ask(when) is answer


@pytest.mark.parametrize(
    ("when", "answers"),
    [
        ("edit.size > 100", [False, True, False, True]),
        ("edit.binary || edit.symlink", [False, True, True, False]),
        ("edit.path.contains('xff')", [False, False, True, False]),
        ("edit.lines_added + edit.lines_removed == 4", [True, False, False, False]),
        ("edit.path == edits[0].path", [True, False, False, False]),
    ],
)
def test_answers_about_each_edit(when: str, answers: list[bool]) -> None:
    vm, all_facts = PolicyVM(), facts()
    assert [vm(when, {**all_facts, "edit": one}) for one in all_facts["edits"]] == answers


def test_a_compiled_expression_answers_by_itself() -> None:
    expression = compile_rule("edit.size > 100")
    assert isinstance(expression, Expression)
    assert expression.text == "edit.size > 100"
    assert expression.evaluate(facts(0)) is False
    assert expression.evaluate(facts(1)) is True


def test_expressions_answer_in_any_thread() -> None:
    expression, answers = compile_rule("edit.size > 100"), []
    threads = [
        threading.Thread(target=lambda i=i: answers.append((i, expression.evaluate(facts(i)))))
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [(0, False), (1, True), (2, False), (3, True)]


def test_the_facts_are_the_ones_that_expressions_know() -> None:
    for one in facts()["edits"]:
        assert {name: type(value) for name, value in one.items()} == EDIT_FACTS
    made = facts()["change"]
    assert {**CHANGE_FACTS, **{name: type(value) for name, value in made.items()}} == CHANGE_FACTS
    assert set(CHANGE_FACTS) - set(made) <= {"repository"}


# No answer is an error, never false


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("1 / (change.edits - 4) == 1", "division by zero"),
        ("1 % (change.edits - 4) == 1", "modulo by zero"),
        ("9223372036854775807 + change.edits > 0", "overflow"),
        ("(0 - 9223372036854775807 - change.edits) < 0", "overflow"),
        ("uint(change.edits - 5) > 1u", "overflow"),
        ("edits[4].size > 1", "index out of bounds"),
        ("edits[change.edits - 5].size > 1", "index out of bounds"),
        ("int(change.agent) > 1", "parse error"),
        ("{'a': true}[change.agent]", "there is no 'devin'"),
        ("edits.exists(e, 1 / (change.edits - 4) == 1)", "division by zero"),
        ("!(1 / (change.edits - 4) == 1)", "division by zero"),
        ("1 / (change.edits - 4) == 1 && true", "division by zero"),
        ("1 / (change.edits - 4) == 1 || false", "division by zero"),
    ],
)
def test_an_error_on_the_way_is_no_answer(when: str, message: str) -> None:
    with pytest.raises(CouldNotDecide, match="gave no answer") as caught:
        ask(when)
    assert not isinstance(caught.value, PolicyError)
    assert message in caught.value.message


def test_what_is_decided_without_the_erring_part_is_decided() -> None:
    """CEL's own rule (langdef.md, Logical operators): an operand that settles the matter absorbs the other's error."""
    assert ask("1 / (change.edits - 4) == 1 || true") is True
    assert ask("1 / (change.edits - 4) == 1 && false") is False


def test_facts_that_are_missing_are_no_answer() -> None:
    with pytest.raises(CouldNotDecide, match="gave no answer"):
        PolicyVM()("change.edits > 1", {})
    with pytest.raises(CouldNotDecide, match="gave no answer"):
        PolicyVM()("edits.exists(e, e.binary)", {"change": {}})
    with pytest.raises(CouldNotDecide, match="there is no 'branch'"):
        PolicyVM()("change.branch == ''", {"change": {"edits": 1}, "edits": []})
    with pytest.raises(CouldNotDecide, match="gave no answer"):
        compile_rule("edit.size > 1").evaluate(facts())


def test_a_result_that_is_no_truth_value_is_no_answer() -> None:
    with pytest.raises(CouldNotDecide, match="gave text, not true or false"):
        ask("change.edits > 3 ? change.branch : true")


def test_facts_that_cannot_be_given_are_no_answer() -> None:
    for odd in ("\udcff", object()):
        with pytest.raises(CouldNotDecide, match="the facts cannot be given"):
            PolicyVM()("true", {"change": {"branch": odd}, "edits": []})


# What is refused before it runs


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("", "Syntax error"),
        ("true true", "line 1, column 6 of the expression: Syntax error"),
        ("edit.size >\n\n  3 3", "line 3, column 5"),
        ("((true)", "the '(' is never closed"),
        ("true)||(true", "line 1, column 5 of the expression: the ')' closes nothing"),
        ("[true)", "the ')' closes nothing"),
        ("true @ true", "@ cannot stand here"),
        ("`a` == 1", "` cannot stand here"),
        ("true \u202e", "\\u202e cannot stand here"),
        ("'a", "' cannot stand here"),
        ("'a\nb' == ''", "cannot stand here"),
        ("99999999999999999999 > 1", "invalid int literal"),
        ("nothing == 1", "there is no name 'nothing' here"),
        ("size == 1", "there is no name 'size' here"),
        ("now() == 1", "there is no function 'now' here"),
        ("getenv('HOME') == ''", "there is no function 'getenv' here"),
        ("matches('a', 'b')", "there is no function 'matches' here"),
        ("timestamp('2020-01-01T00:00:00Z') == 1", "there is no function 'timestamp' here"),
        ("type(1) == int", "there is no function 'type' here"),
        ("edit.path.reverse() == ''", "there is no function 'reverse' here"),
        ("edit.pth == ''", "there is no fact 'pth' here"),
        ("has(edit.pth)", "there is no fact 'pth' here"),
        ("change.size > 1", "there is no fact 'size' here"),
        ("edits.exists(e, e.pth == '')", "there is no fact 'pth' here"),
        (".edit.size > 1", "a name cannot begin with a dot"),
        ("edit.size > 1 && .edit.size > 1", "a name cannot begin with a dot"),
        ("Edit{size: 1}.size == 1", "messages cannot be built here"),
        ("edits.map(e, e.size).size() > 1", "'map' is not offered"),
        ("edits.filter(e, e.binary).size() > 1", "'filter' is not offered"),
        ("edits == edits", "'edits' cannot be passed about"),
        ("[edits].exists(x, true)", "'edits' cannot be passed about"),
        ("(edits).exists(e, true)", "'edits' cannot be passed about"),
        ("(edits + edits).size() > 1", "'edits' cannot be passed about"),
        ("edit in edits", "'edits' cannot be passed about"),
        ("edit.path.exists(c, true)", "a macro ranges over 'edits' or over a list"),
        ("[[1]][0].exists(x, true)", "a macro ranges over 'edits' or over a list"),
        ("{'a': 1}.exists(x, true)", "a macro ranges over 'edits' or over a list"),
        ("[[1], [2]].exists(x, x.exists(y, true))", "a macro ranges over 'edits' or over a list"),
        ("[1].exists(a, [1].exists(b, [1].exists(c, true)))", "a macro within a macro within a macro"),
        ("edits.exists(edit, true)", "'edit' is taken"),
        ("edits.exists(e, edits.exists(e, true))", "'e' is taken"),
        ("edits.exists((e), true)", "a macro takes a name and a condition"),
        ("edits.exists()", "a macro takes a name and a condition"),
        ("edits.exists(", "a macro takes a name and a condition"),
        ("edits.exists(true, true)", "a macro takes a name and a condition"),
        ("edits.exists(e, e.binary, e.lfs)", "the expression cannot work"),
        ("edit.path.matches(edit.path)", "'matches' takes one regular expression that is written out"),
        ("edit.path.matches('a' + 'b')", "'matches' takes one regular expression that is written out"),
        ("edit.path.matches(", "'matches' takes one regular expression that is written out"),
        ("edit.path.matches('\\\\d')", "a regular expression with a backslash has to be a raw string"),
        ("edit.path.matches('a\\x7b9\\x7d')", "a regular expression with a backslash has to be a raw string"),
        (r"edit.path.matches(r'(\w{64}){64}')", "the regular expression is too large"),
        ("edit.path.matches('((a{99}){99}){99}')", "the regular expression is too large"),
        ("edit.path.matches('(')", "the regular expression cannot work: error: unclosed group"),
        ("false && edit.path.matches('(?=a)')", "the regular expression cannot work: error: look-around"),
        ("edit.path.matches(r'(a)\\1')", "the regular expression cannot work: error: backreferences"),
        ("1", "the expression gives a number, not true or false"),
        ("edit.path", "the expression gives text, not true or false"),
        ("null", "the expression gives nothing, not true or false"),
        ("[true]", "the expression gives a list, not true or false"),
        ("edit.path > 3", "the expression cannot work: No such overload"),
        ("edit.size + 1.0 > 3.0", "the expression cannot work: No such overload"),
        ("edit.size.startsWith('a')", "the expression cannot work: Undefined"),
        ("edit.binary > 1", "the expression cannot work"),
        ("edit.size(1)", "the expression cannot work"),
    ],
)
def test_expressions_that_are_refused(when: str, message: str) -> None:
    assert message in refusal(when).message


def test_a_misspelt_name_has_a_hint() -> None:
    assert refusal("edit.pth == ''").hint == "did you mean 'path'?"
    assert refusal("chnge.edits > 1").hint == "did you mean 'change'?"
    assert "startsWith" in refusal("edit.path.lower() == ''").hint
    assert "each: edit" in refusal("edit.size > 1", "change").hint


def test_edit_is_only_there_when_each_edit_is_asked() -> None:
    assert "there is no name 'edit' here" in refusal("edit.size > 1", "change").message
    with pytest.raises(PolicyError):
        PolicyVM()("edit.size > 1", facts())


def test_B54_long_expressions_are_refused() -> None:
    assert "more than 2,048 bytes" in refusal("true" + " " * 2045).message
    assert "more than 2,048 bytes" in refusal("'" + "é" * 1024 + "' == ''").message
    assert compile_rule("true" + " " * 2044).cost == Cost(1, 0, 0)


@pytest.mark.parametrize(
    "when",
    [
        "(" * 900 + "true" + ")" * 900,
        "[" * 1000 + "]" * 1000,
        "string(" * 250 + "1" + ")" * 250 + " == '1'",
        "true ? " * 200 + "true" + " : true" * 200,
        "{1: " * 300 + "1" + "}" * 300,
    ],
)
def test_B54_nesting_that_is_too_deep_is_refused(when: str) -> None:
    assert refusal(when).message


@pytest.mark.parametrize(
    "when",
    [
        "!" * 2000 + "true",
        "true" + " && true" * 200,
        "- " * 1000 + "1 < 2",
        "change.edits" + " - 1" * 400 + " < 0",
    ],
)
def test_B54_long_chains_come_back(when: str) -> None:
    assert ask(when) is True


def test_B54_text_cannot_be_made_to_grow() -> None:
    doubled = "[edit.path + edit.path + edit.path].exists(a, [a + a + a].exists(b, b + b == 'x'))"
    assert PolicyVM()(doubled, facts(0)) is False
    assert "adds at most 16 times" in refusal("edit.path" + " + edit.path" * 17 + " == ''").message
    assert "'map' is not offered" in refusal("['a']" + ".map(x, x + x)" * 8 + " == []").message


def test_B54_regular_expressions_take_linear_time() -> None:
    many = {"change": {"branch": "a" * 200_000 + "!"}, "edits": []}
    for regex in ("^(a+)+$", "^(a|aa)*$", "^(a*)*b", "(.*)(.*)(.*)(.*)x"):
        assert PolicyVM()(f"change.branch.matches('{regex}')", many) is False


def test_B54_huge_text_is_looked_through() -> None:
    many = {"change": {"branch": "a" * 5_000_000}, "edits": []}
    assert PolicyVM()("change.branch.contains('b') || change.branch.endsWith('b')", many) is False


def test_B54_a_budget_bounds_all_rules_of_a_change() -> None:
    edits = [{"path": "x", "size": i} for i in range(3000)]
    many = {"change": {"edits": 3000}, "edits": edits}
    with pytest.raises(CouldNotDecide, match=f"more than {BUDGET:,} steps"):
        PolicyVM()("edits.exists(e, edits.exists(f, f.size < e.size - 9000))", many)
    vm, small = PolicyVM(budget=1000), facts()
    for _ in range(5):
        assert vm("change.edits == 4", small)
    with pytest.raises(CouldNotDecide, match="more than 1,000 steps"):
        [vm("change.edits == 4", small) for _ in range(20)]
    assert vm("change.edits == 4", facts()), "another change has a budget of its own"


def test_B54_long_paths_cost_more() -> None:
    vm = PolicyVM(budget=10_000)
    assert vm("edits.exists(e, e.path.contains('b'))", {"change": {}, "edits": [{"path": "ab"}]})
    with pytest.raises(CouldNotDecide, match="steps"):
        vm("edits.exists(e, e.path.contains('b'))", {"change": {}, "edits": [{"path": "a" * 1_000_000}]})


def test_cost_counts_what_is_multiplied() -> None:
    assert compile_rule("change.edits > 1").cost == Cost(5, 0, 0)
    once = compile_rule("edits.exists(e, e.size > 1)").cost
    assert once.each > 0
    assert once.pairs == 0
    twice = compile_rule("edits.exists(e, edits.exists(f, f.size > e.size))").cost
    assert twice.pairs > 0
    small, large = (
        compile_rule(f"edits.exists(e, [{items}].exists(p, e.size == p))").cost
        for items in ("1", "1, 2, 3, 4")
    )
    assert large.each - small.each > 3 * 7
    assert Cost(1, 2, 3).steps(10) == 321


def test_cost_of_regular_expressions_follows_their_counts() -> None:
    assert regex_units("r'abc'") == 6
    assert regex_units("r'a{9}'") == 9 * 7
    assert regex_units("r'a{2,30}'") == 30 * 10
    assert regex_units("r'a{0}'") == 7
    assert regex_units("r'a{,}x{'") == 9
    assert regex_units("r'((a{99}){99}){9999999999}'") == LARGEST_REGEX + 1
    assert regex_units(r"r'\w'") == 5 + 50
    plain, classes = (compile_rule(f"edit.path.matches(r'{regex}')").cost.once for regex in ("aa", r"\w"))
    assert classes > 5 * plain


# Reading the text


def test_tokens_end_where_the_library_ends_them() -> None:
    for text, expected in (
        ("a.b(1u,.5e3)", ["a", ".", "b", "(", "1u", ",", ".5e3", ")"]),
        ("0xFFu>=1e9", ["0xFFu", ">=", "1e9"]),
        ("r'\\'+'\\''", ["r'\\'", "+", "'\\''"]),
        ("bR'x' b\"y\"", ["bR'x'", 'b"y"']),
        ("'''a'b''' \"\"\"c\"d\"\"\"", ["'''a'b'''", '"""c"d"""']),
        ("rr'x'", ["rr", "'x'"]),
        ("''''", ["''", "''"]),
        ("x//'\n'y'", ["x", "'y'"]),
        ("a&&!b||c!=d", ["a", "&&", "!", "b", "||", "c", "!=", "d"]),
    ):
        assert [token.text for token in tokens(text)] == expected


CONFUSING = st.lists(
    st.sampled_from(
        [
            "'",
            '"',
            "\\",
            "r",
            "b",
            "R",
            "'''",
            '"""',
            "//",
            "\n",
            "(",
            ")",
            "+",
            "edits",
            ".",
            "x",
            " ",
            "map",
            "==",
        ]
    ),
    max_size=14,
).map("".join)


@settings(max_examples=1500, deadline=None)
@given(CONFUSING)
def test_text_that_hides_in_strings_stays_in_strings(text: str) -> None:
    """Whatever is taken for a string here is one to the library, so nothing can hide from the bounds in one."""
    try:
        found = tokens(text)
    except PolicyError:
        return
    library = expressions._library()
    for token in found:
        if token.kind == "string":
            try:
                value = library.compile(token.text).execute({})
            except ValueError:
                continue  # an escape that the library does not know, so it refuses the whole
            assert isinstance(value, str | bytes)
    try:
        variables = library.compile(text).variables()
    except ValueError:
        return
    assert {one.lstrip(".") for one in variables} <= {token.text for token in found if token.kind == "name"}


@settings(max_examples=500, deadline=None)
@given(st.text(max_size=40) | CONFUSING)
def test_any_text_is_an_expression_or_a_policy_error(text: str) -> None:
    try:
        expression = compile_rule(text)
    except PolicyError as error:
        assert error.message.isprintable()  # noqa: PT017 - either way out is right
    else:
        assert expression.text == text


EXPRESSION_PARTS = st.sampled_from(
    [
        "edit",
        "edits",
        "change",
        ".size",
        ".path",
        ".exists(e, ",
        ".all(f, ",
        "e",
        "f",
        ")",
        "(",
        "[",
        "]",
        "1",
        "'a'",
        " == ",
        " > ",
        " && ",
        "!",
        " + ",
        ".matches('a')",
        ".startsWith('a')",
        "[0]",
        "size(",
        "true",
        " ? ",
        " : ",
        " in ",
        "{",
        "}",
        ", ",
    ]
)


@settings(max_examples=1500, deadline=None)
@given(st.lists(EXPRESSION_PARTS, min_size=1, max_size=12).map("".join))
def test_what_compiles_answers_or_says_that_it_cannot(text: str) -> None:
    try:
        expression = compile_rule(text)
    except PolicyError:
        return
    try:
        answer: object = PolicyVM().run(expression, facts(0))
    except CouldNotDecide:
        return
    assert isinstance(answer, bool)


def test_examine_reports_the_regular_expressions() -> None:
    reading = examine(r"edit.path.matches(r'a\d') && change.branch.matches('b')", each="edit")
    assert reading.regexes == (r"r'a\d'", "'b'")


def test_every_function_that_is_offered_exists() -> None:
    used = {
        "size": "size('a') == 1",
        "contains": "'a'.contains('a')",
        "startsWith": "'a'.startsWith('a')",
        "endsWith": "'a'.endsWith('a')",
        "matches": "'a'.matches('a')",
        "has": "has(change.edits)",
        "int": "int('1') == 1",
        "uint": "uint('1') == 1u",
        "double": "double('1') == 1.0",
        "string": "string(1) == '1'",
    }
    assert set(used) == set(FUNCTIONS)
    assert all(ask(when) for when in used.values())


# The library


def test_the_library_comes_without_its_command_line() -> None:
    """The package's own import loads a terminal toolkit, which costs ten times what the extension does."""
    code = (
        "import sys; from safeai_git.core.expressions import compile_rule; compile_rule('true')\n"
        "assert not {'prompt_toolkit', 'typer', 'rich', 'cel', 'cel.cli'} & set(sys.modules), sys.modules.keys()\n"
        "import cel; assert cel.compile is sys.modules['cel.cel'].compile; assert cel.evaluate('1 + 1') == 2\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_policy_without_rules_does_not_load_the_library() -> None:
    code = (
        "import sys, safeai_git.policyfile as p, safeai_git.core.evaluate; p.load(b'safe_mode: true', 'x')\n"
        "assert 'cel.cel' not in sys.modules and 'jsonschema' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_library_that_is_already_there_is_used() -> None:
    assert expressions._library() is sys.modules["cel.cel"]


def test_a_missing_library_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cel", "cel.cel", "cel.cli", "cel.stdlib"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(CouldNotDecide, match="the library that evaluates them is missing"):
        expressions._library()


# All edits at once

QUICK = (
    "edit.binary && edit.status == 'A'",
    "edit.path.endsWith('.sh') // && true",
    "size(edit.path) > 5 || edit.size == 9000",
    "10 / edit.lines_added > 100",
    "edit.lines_added > 0 ? false : 1 / edit.lines_added > 0",
    "edits.exists(edit, edit.size > 8000) && edit.size == 0",
    "edits.exists(other, other.path == edit.path && other.lfs)",
    "int(edit.path) > 4",
    "edit.path.matches('^src/[a-z]+$')",
    "change.edits == 4 && edit.symlink",
    "edit.nothing || edit.binary",
    "true) || (false",
)  # fmt: skip


def _asked(vm: PolicyVM, expression: Expression, given: dict[str, Any]) -> list[bool | None]:
    answers: list[bool | None] = []
    for one in given["edits"]:
        try:
            answers.append(vm.run(expression, given | {"edit": one}))
        except CouldNotDecide:
            answers.append(None)
    return answers


@given(st.sampled_from(QUICK), st.lists(st.sampled_from(EDITS), max_size=6))
@settings(deadline=None, max_examples=300)
def test_what_is_false_throughout_is_false_for_each(when: str, edits: list[Edit]) -> None:
    try:
        expression = compile_rule(when)
    except PolicyError:
        return
    given, vm = facts(edits=tuple(edits)), PolicyVM()
    answers = _asked(vm, expression, given)  # first, so that the VM remembers another edit
    program = expression._throughout
    assert program is not None
    quick = vm.is_false_throughout(expression, program, given)
    assert quick == all(one is False for one in answers), (when, answers)
    assert quick == expression.is_false_throughout(given)


def test_an_answer_that_is_no_truth_is_not_false_throughout() -> None:
    """No rule is compiled that has one where it is tried; what depends on the facts is met only here."""
    for when in ("0", "''", "null", "[]", "0.0", "0u", "edit.size > 100 ? 0 : 0", "edit"):
        program = expressions._throughout(when)
        assert program is not None
        assert not PolicyVM().is_false_throughout(compile_rule("false"), program, facts()), when
    assert expressions._throughout("edits.all(") is None
    assert not Expression("false", Cost(1, 1, 0), expressions._program("false")).is_false_throughout(facts())


def test_a_quick_look_is_charged_like_the_slow_one() -> None:
    rule, given = compile_rule("edit.size < 0"), facts()
    assert rule._throughout is not None
    each = expressions.CALL_STEPS + rule.cost.steps(len(EDITS))
    vm = PolicyVM(budget=each * len(EDITS) * 2 - 1)
    assert vm.is_false_throughout(rule, rule._throughout, given)
    assert not vm.is_false_throughout(rule, rule._throughout, given), "the budget would not last"
    assert _asked(vm, rule, given) == [False] * 3 + [None]


def test_many_edits_are_asked_at_once() -> None:
    many = tuple(Edit(b"src/%d.py" % number, "A", 0, MODE_FILE) for number in range(30_000))
    given = facts(edits=many)
    assert compile_rule("edit.binary && edit.path == 'x'").is_false_throughout(given)
    assert not compile_rule("edit.path == 'src/29999.py'").is_false_throughout(given)
