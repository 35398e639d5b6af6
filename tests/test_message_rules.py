"""What a policy wants a commit to say: who took part, who asked, who signed off; and whom it believes on what paths."""

from __future__ import annotations

from typing import Any

import pytest
from test_guards import ANNA, CI, STAMP, approval_of, edit, found, policy, proposal, signed, trust, weighed

from safeai_git.agents import catalogue
from safeai_git.core.attribution import Attribution, Metadata, attribute
from safeai_git.core.context import Context
from safeai_git.core.evaluate import evaluate, governed_part, of_message
from safeai_git.core.finding import Finding
from safeai_git.core.message import Message
from safeai_git.core.policy import PolicyStack
from safeai_git.core.values import replace
from safeai_git.core.verdict import parse_statement, statement
from safeai_git.git.reader import strongest

PERSON = ("Maria", "maria@example.com")
CLAUDE = ("Claude", "noreply@anthropic.com")
COPILOT = ("copilot-swe-agent[bot]", "198982749+Copilot@users.noreply.github.com")
TRAILER = "Co-Authored-By: Claude <noreply@anthropic.com>"
REQUESTED = "Requested-by: Maria <maria@example.com>"


def who(message: str = "s\n", author: tuple[str, str] = PERSON, **more: Any) -> Attribution:
    made = {"committer": author, "committed": True, **more}
    return attribute(Metadata(author, message=message, **made), catalogue())


def of(said: Attribution, **data: Any) -> list[tuple[str, str]]:
    """What the layer objects to in the message; as the judge has it and as `verify` does."""
    layer = policy(**data)
    alone = [(one.rule, one.outcome.word) for one in of_message(said, PolicyStack((layer,)))]
    judged = [(rule, outcome) for rule, outcome, _ in found(proposal(edit(), who=said), layer)]
    assert alone == judged
    return alone


def message_of(said: Attribution, **data: Any) -> Finding:
    (one,) = of_message(said, PolicyStack((policy(**data),)))
    return one


AGENT = who(claimed_agent="claude-code")
NAMED = who(f"s\n\n{TRAILER}\n")
LOOSE = who(f"s\n\n{TRAILER}\n\nMore words.\nAnd more.\n", claimed_agent="claude-code")
PROSE = who("s\n\nGenerated with Claude Code\n", claimed_agent="claude-code")
UNNAMED = who("s\n\nAI-assisted: yes\n")
AUTHOR = who("s\n", COPILOT)
COMMITTER = who("s\n", committer=CLAUDE)
BRANCH = who(branch="claude/x")
RENOVATE = ("renovate[bot]", "29139614+renovate[bot]@users.noreply.github.com")
BOT = who("s\n", RENOVATE, claimed_agent="codex")
EMPTY = who("", branch="claude/x")


@pytest.mark.parametrize(
    ("said", "require", "disclose", "forbid"),
    [
        (AGENT, False, False, True),
        (BRANCH, False, False, True),
        (BOT, False, False, True),
        (EMPTY, False, False, True),
        (NAMED, True, True, False),
        (LOOSE, False, True, False),
        (PROSE, False, True, False),
        (UNNAMED, False, True, False),
        (AUTHOR, True, True, False),
        (COMMITTER, True, True, False),
    ],
)
def test_what_a_commit_says_of_its_agent(
    said: Attribution, *, require: bool, disclose: bool, forbid: bool
) -> None:
    for mode, passes in (("require", require), ("disclose", disclose), ("forbid", forbid)):
        assert of(said, attribution=mode) == ([] if passes else [("ai-disclosure", "deny")]), mode
    assert of(said) == []


def test_disclosure_is_nobodys_business_but_an_agents() -> None:
    for said in (who(), who("s\n", ("renovate[bot]", "bot@renovateapp.com"))):
        for mode in ("require", "disclose"):
            assert of(said, attribution=mode, applies_to=["ai", "human", "bot"]) == []
    text = who("s\n\nGenerated with Claude Code\n")
    assert of(text, attribution="forbid", applies_to=["ai", "human"]) == []
    assert of(text, attribution="forbid", free_text_governs=True) == [("ai-disclosure", "deny")]


def test_what_to_do_about_it() -> None:
    one = message_of(AGENT, attribution="require")
    assert (one.message, one.remedy) == (
        "an agent took part and no trailer or identity names it",
        "add a trailer to the last paragraph: 'Assisted-by: claude-code'",
    )
    assert "'Assisted-by: AGENT'" in message_of(replace(AGENT, agent=""), attribution="require").remedy
    one = message_of(AGENT, attribution="disclose")
    assert "nothing in the commit says so" in one.message
    assert "'Assisted-by: claude-code'" in one.remedy
    assert "'Assisted-by: AGENT'" in message_of(replace(AGENT, agent=""), attribution="disclose").remedy
    one = message_of(NAMED, attribution="forbid")
    assert "co-authored-by: Claude <noreply@anthropic.com>" in one.message
    assert "nobody" in one.lifted_by


@pytest.mark.parametrize("rule", ["ai-disclosure", "ai-sign-off", "accountable-human"])
@pytest.mark.parametrize("outcome", ["warn", "review", "deny"])
def test_a_policy_may_choose_the_outcome(rule: str, outcome: str) -> None:
    said = who("s\n\nSigned-off-by: Claude <noreply@anthropic.com>\n", claimed_agent="claude-code")
    wanted = {"attribution": "require", "ai_may_sign_off": False, "accountable_trailers": ["Requested-by"]}
    assert (rule, outcome) in of(said, outcomes={rule: outcome}, **wanted)


def test_messages_that_are_not_there_yet_and_those_of_many_commits_are_not_asked() -> None:
    wanted = {"attribution": "require", "ai_may_sign_off": False, "accountable_trailers": ["Requested-by"]}
    staged = who("", committed=False, claimed_agent="claude-code")
    assert staged.message is None
    assert of(staged, **wanted) == []
    assert of(strongest([AGENT, who()]), **wanted) == []
    given = who("s\n", committed=False, claimed_agent="claude-code")  # what the commit-msg hook has
    assert of(given, **wanted) == [("ai-disclosure", "deny"), ("accountable-human", "review")]


# Sign-offs


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        (who(f"s\n\n{TRAILER}\nSigned-off-by: Claude <noreply@anthropic.com>\n"), True),
        (who(f"s\n\n{TRAILER}\n\nsigned_off by : Claude\n\nMore.\n"), True),
        (who(f"s\n\n{TRAILER}\nSigned-off-by: Maria <maria@example.com>\n"), False),
        (who(f"s\n\n{TRAILER}\nSigned-off-by: Maria <m@e.x>\nSigned-off-by: Claude\n"), True),
        (who(f"s\n\n> Signed-off-by: Claude\n\n{TRAILER}\n"), False),
        (who(f"s\n\nas in Signed-off-by: Claude\n\n{TRAILER}\n"), False),
        (NAMED, False),
        # An agent runs here, or commits: the person whose name is there did not add it.
        (who("s\n\nSigned-off-by: Maria <maria@example.com>\n", claimed_agent="codex"), True),
        (who("s\n\nSigned-off-by: Maria <maria@example.com>\n", environment=frozenset({"CLAUDECODE"})), True),
        (who("s\n\nSigned-off-by: Maria <maria@example.com>\n", committer=CLAUDE), True),
        (who("s\n\nSigned-off-by: Maria <maria@example.com>\n", COPILOT), True),
        (who(f"s\n\n{TRAILER}\nSigned-off-by: Maria <maria@example.com>\n", RENOVATE), False),
        # A person committed what an agent is the author of.
        (who("s\n\nSigned-off-by: Maria <maria@example.com>\n", COPILOT, committer=PERSON), False),
        (who("s\n\nSigned-off-by: Maria <maria@example.com>\n", branch="claude/x"), False),
    ],
)
def test_sign_offs(said: Attribution, *, refused: bool) -> None:
    assert of(said, ai_may_sign_off=False) == ([("ai-sign-off", "deny")] if refused else [])
    assert of(said) == []


def test_a_sign_off_is_told_with_whose_it_is() -> None:
    by_agent = message_of(who(f"s\n\n{TRAILER}\nSigned-off-by: Claude\n"), ai_may_sign_off=False)
    assert by_agent.message == "an agent signs off as Claude"
    for_maria = who("s\n\nSigned-off-by: Maria <m@e.x>\n", claimed_agent="codex")
    assert "itself and signs it off as Maria <m@e.x>" in message_of(for_maria, ai_may_sign_off=False).message
    dependabot = who(
        "s\n\nSigned-off-by: dependabot[bot] <support@github.com>\n",
        ("dependabot[bot]", "support@github.com"),
    )
    assert of(dependabot, ai_may_sign_off=False) == []  # not governed


def test_sign_offs_of_a_hostile_message_end() -> None:
    message = Message("".join(f"Signed-off-by: a{number} <a@b.c>\n" for number in range(20_000)), catalogue())
    assert sum(1 for _ in message.sign_offs()) == 20_000
    assert list(Message("signed-off-by:" * 50_000, catalogue()).sign_offs())[1:] == []


# People who answer for it


@pytest.mark.parametrize(
    ("trailers", "named"),
    [
        (REQUESTED, True),
        ("requested-BY: Maria <maria@example.com>", True),
        ("Reviewed-by: Maria <maria@example.com>", False),
        ("Requested-by: Claude <noreply@anthropic.com>", False),
        ("Requested-by: dependabot[bot] <support@github.com>", False),
        ("Requested-by: Maria", False),
        ("Requested-by: <maria@example.com>", False),
        ("Requested-by: Maria <maria>", False),
        ("Requested-by: Claude <noreply@anthropic.com>\nRequested-by: Maria <maria@example.com>", True),
        ("Accepted-by: Maria <maria@example.com>", True),
        ("Requested-by: Maria <maria@example.com>\n\nNot the block any more.", False),
    ],
)
def test_who_asked_for_the_work(trailers: str, *, named: bool) -> None:
    said = who(f"s\n\n{trailers}\n", claimed_agent="claude-code")
    asked = of(said, accountable_trailers=["Requested-by", "Accepted-by"])
    assert asked == ([] if named else [("accountable-human", "review")])
    assert of(who(f"s\n\n{trailers}\n"), accountable_trailers=["Requested-by"], applies_to=["human"]) == []


def test_who_asked_is_told_how_to_say_so() -> None:
    one = message_of(AGENT, accountable_trailers=["Asked-by", "Requested-by"])
    assert one.remedy == "add a trailer to the last paragraph: 'Asked-by: NAME <ADDRESS>'"
    assert "approver" in one.lifted_by
    below = who(
        f"s\n\n{REQUESTED}\n---\nx\n", claimed_agent="codex"
    )  # git log reads on, interpret-trailers does not
    assert of(below, accountable_trailers=["Requested-by"]) == []


# A verdict serves a commit with another message, so the message is asked again


def test_a_verdict_does_not_vouch_for_the_message() -> None:
    wanted = {"attribution": "require", "accountable_trailers": ["Requested-by"]}
    good = who(f"s\n\n{TRAILER}\n{REQUESTED}\n")
    layer = policy(**wanted)
    verdict = signed(
        statement(evaluate(proposal(edit(), who=good), PolicyStack((layer,)), Context()), STAMP), CI
    )
    assert weighed(verdict, who=good, **wanted).status == "valid"
    silent = weighed(verdict, who=AGENT, **wanted)
    assert (silent.status, silent.reason) == (
        "denied",
        "an agent took part and no trailer or identity names it",
    )
    assert "Assisted-by" in silent.hint
    nobody = weighed(verdict, who=NAMED, **wanted)
    assert nobody.status == "unapproved"
    assert nobody.reason.startswith("no person is named who asked for the work; 0 of 1")
    approved = weighed(verdict, signed(approval_of(), ANNA), who=NAMED, **wanted)
    assert (approved.status, approved.approved_by) == ("valid", ("anna",))
    warned = {**wanted, "outcomes": {"ai-disclosure": "warn", "accountable-human": "warn"}}
    layer = policy(**warned)
    verdict = signed(
        statement(evaluate(proposal(edit(), who=good), PolicyStack((layer,)), Context()), STAMP), CI
    )
    assert weighed(verdict, who=AGENT, **warned).status == "valid"


# Free text


TEXT = who("s\n\nGenerated with Claude Code\n")


def test_free_text_governs_where_the_policy_says_so() -> None:
    assert (TEXT.author_class, TEXT.with_free_text().author_class) == ("human", "ai")
    denied = {"deny_paths": ["src/"]}
    assert found(proposal(edit(), who=TEXT), policy(**denied)) == []
    assert found(proposal(edit(), who=TEXT), policy(free_text_governs=True, **denied)) == [
        ("denied-path", "deny", b"src/a")
    ]
    assert found(proposal(edit(), who=who()), policy(free_text_governs=True, **denied)) == []


def test_free_text_takes_nobody_out_of_a_policy() -> None:
    """It would turn mixed into AI, or one agent into another whom the policy trusts more."""
    both = who("s\n\nGenerated with Cursor\n\nAssisted-by: Claude\n")
    assert both.author_class == "mixed"
    layer = policy(free_text_governs=True, applies_to=["mixed"], deny_paths=["src/"])
    assert layer.counted(both) is both
    assert found(proposal(edit(), who=both), layer) == [("denied-path", "deny", b"src/a")]


def test_a_verdict_by_free_text_is_found_again() -> None:
    layer = policy(free_text_governs=True)
    judged = evaluate(proposal(edit(), who=TEXT), PolicyStack((layer,)), Context())
    payload = statement(judged, STAMP)
    said = parse_statement(payload).data["predicate"]["attribution"]
    assert (judged.governed, said["class"], said["agent"], said["confidence"]) == (
        True,
        "ai",
        "claude-code",
        "0.30",
    )
    assert weighed(signed(payload, CI), who=TEXT, free_text_governs=True).status == "valid"
    stack = PolicyStack((policy(), layer))
    assert stack.has_say(TEXT)
    assert stack.counted(TEXT).agent == "claude-code"
    assert not PolicyStack((policy(),)).has_say(TEXT)
    assert PolicyStack((policy(),)).counted(TEXT) is TEXT
    assert PolicyStack(()).has_say(TEXT)


def test_free_text_of_any_commit_of_a_range_counts_for_the_whole() -> None:
    assert strongest([who(), TEXT]).with_free_text().author_class == "ai"
    assert strongest([TEXT, who()]).with_free_text().author_class == "ai"
    assert strongest([who(), who()]).with_free_text().author_class == "human"


# AI until shown human


HUMAN = who()


def test_nobody_is_believed_on_protected_paths() -> None:
    layer = policy(ai_until_shown_human=True, protected_paths=["infra/"], autonomy_tier="beta", max_edits=1)
    change = proposal(edit(), edit(b"infra/x"), edit(b".github/y"), who=HUMAN)
    assert found(change, policy(protected_paths=["infra/"])) == []
    assert found(change, layer) == [
        ("protected-path", "review", b"infra/x"),
        ("protected-path", "review", b".github/y"),
    ]
    assert evaluate(proposal(edit(), who=HUMAN), PolicyStack((layer,)), Context()).governed is False
    assert governed_part(proposal(edit(), edit(b"infra/x"), who=HUMAN), layer) == proposal(
        edit(b"infra/x"), who=HUMAN
    )


def test_where_agents_are_denied_people_need_an_approval() -> None:
    layer = policy(ai_until_shown_human=True, outcomes={"protected-path": "deny"})
    change = proposal(edit(b".github/x"), edit(b".safeai/policy.yaml"), who=HUMAN)
    assert found(change, layer) == [
        ("protected-path", "review", b".github/x"),
        ("protected-path", "deny", b".safeai/policy.yaml"),
    ]
    assert found(replace(change, attribution=AGENT), layer) == [
        ("protected-path", "deny", b".github/x"),
        ("protected-path", "deny", b".safeai/policy.yaml"),
    ]


def test_a_change_too_large_to_tell_needs_an_approval() -> None:
    large = proposal(edit(), who=HUMAN, complete=False)
    assert found(large, policy(ai_until_shown_human=True)) == [("protected-path", "review", None)]
    assert found(large, policy()) == []
    assert governed_part(large, policy()) is None
    governance = proposal(edit(b".safeai/policy.yaml"), who=HUMAN, complete=False)
    assert found(governance, policy()) == [("protected-path", "review", b".safeai/policy.yaml")]
    assert trust().policy.layers[0].watched.first_match_folded(b".github/x") is None
