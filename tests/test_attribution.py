"""Who wrote a change: which signals count, how much, and what is nobody's signature."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path

import pytest
from conftest import Repo
from hypothesis import given
from hypothesis import strategies as st
from tools_catalogue import INSTRUCTIONS, PAGE, page, source

from safeai_git.agents import catalogue
from safeai_git.core.attribution import (
    CLASSES,
    CO_AUTHOR,
    HINTS,
    LONGEST_KEY,
    MOST_SIGNALS,
    Attribution,
    Metadata,
    attribute,
)
from safeai_git.core.attribution_catalogue import (
    FORMS,
    Agent,
    Catalogue,
    Form,
    folded,
    split_mention,
)
from safeai_git.core.hints import NOTE, TRACE
from safeai_git.core.trailers_loose import is_revert, retells

PERSON = ("Maria Maintainer", "maria@example.com")
CLAUDE = "Co-Authored-By: Claude Opus 4.6 <noreply@anthropic.com>"


def of_message(message: str, **more: bool) -> Attribution:
    return attribute(Metadata(PERSON, PERSON, message), catalogue(), **more)


def of_author(name: str, email: str) -> Attribution:
    return attribute(Metadata((name, email), (name, email), "a change\n"), catalogue())


def told(found: Attribution) -> tuple[str, str, str]:
    """Class, agent, and the kind of the first signal."""
    return found.author_class, found.agent, found.signals[0].kind if found.signals else ""


AGENTS = [
    ("Claude", "noreply@anthropic.com", "claude-code"),
    ("claude[bot]", "209825114+claude[bot]@users.noreply.github.com", "claude-code"),
    # the number is that of github-actions: the account's name says more
    ("claude[bot]", "41898282+claude[bot]@users.noreply.github.com", "claude-code"),
    ("Claude Code", "me@example.com", "claude-code"),
    ("Claude Bot", "claude@example.com", "claude-code"),
    ("Codex", "codex@openai.com", "codex"),
    ("copilot-swe-agent[bot]", "198982749+Copilot@users.noreply.github.com", "copilot"),
    ("Commit Check", "198982749+Copilot@users.noreply.github.com", "copilot"),
    ("whoever", "198982749+renamed@users.noreply.github.com", "copilot"),
    ("Cursor Agent", "cursoragent@cursor.com", "cursor"),
    ("Maria (aider)", "maria@example.com", "aider"),
    ("Molt (OpenClaw)", "noreply@users.noreply.github.com", "openclaw"),
    ("Ali Ayas (gemini-2.5-pro-preview-05-06)", "ali@example.com", "gemini-cli"),
    ("Devin AI", "158243242+devin-ai-integration[bot]@users.noreply.github.com", "devin"),
    ("google-labs-jules[bot]", "161369871+google-labs-jules[bot]@users.noreply.github.com", "jules"),
    ("gemini-cli", "218195315+gemini-cli@users.noreply.github.com", "gemini-cli"),
    ("openhands", "openhands@all-hands.dev", "openhands"),
    ("Amp", "amp@ampcode.com", "amp"),
    ("opencode", "noreply@opencode.ai", "opencode"),
    ("Roo Code", "chris@roocode.com", "roo"),
    ("Cline", "cline@cline.bot", "cline"),
    ("Windsurf", "noreply@codeium.com", "windsurf"),
    ("sweep-ai[bot]", "128439645+sweep-ai[bot]@users.noreply.github.com", "sweep"),
    (
        "Amazon Q Developer",
        "208079219+amazon-q-developer[bot]@users.noreply.github.com",
        "amazon-q",
    ),
    ("Kiro Agent", "244629292+kiro-agent@users.noreply.github.com", "kiro"),
    ("Replit Agent", "agent@replit.com", "replit"),
    ("gpt-engineer-app[bot]", "159125892+gpt-engineer-app[bot]@users.noreply.github.com", "lovable"),
    ("Junie", "junie@jetbrains.com", "junie"),
    ("goose", "goose@block.xyz", "goose"),
    ("Charm Crush", "crush@charm.land", "crush"),
    ("factory-droid[bot]", "138933559+factory-droid[bot]@users.noreply.github.com", "factory"),
    ("continue[bot]", r"continue\[bot\]@users.noreply.github.com", "continue"),
    ("Gemini", "noreply@somewhere.example", "gemini-cli"),
    ("Devin", "bot@somewhere.example", "devin"),
    ("Devin Agent", "someone@example.com", "devin"),
    # agents that nobody listed
    ("Perfect Agent", "agent@perfect.example", "perfect agent"),
    ("Joe (Agent) Stump", "joe@stump.example", "joe (agent) stump"),
    ("Agent-Neon-42", "agent-neon-42@example.com", "agent neon 42"),
    ("DeepBloom Agent", "someone@example.com", "deepbloom agent"),
    ("New AI Assistant", "assistant@example.com", "new ai assistant"),
    ("Some OS-Bot", "some-osbot@anthropic.com", "some os bot"),
    ("super-ai[bot]", "1+super-ai[bot]@users.noreply.github.com", "super-ai[bot]"),
    ("GPT-5.2 Codex", "someone@example.com", "codex"),
]


@pytest.mark.parametrize(("name", "email", "agent"), AGENTS)
def test_agents_as_authors(name: str, email: str, agent: str) -> None:
    found = of_author(name, email)
    assert told(found) == ("ai", agent, "author")
    assert found.confidence >= 0.8


@pytest.mark.parametrize(("name", "email", "agent"), AGENTS)
def test_agents_as_co_authors(name: str, email: str, agent: str) -> None:
    found = of_message(f"a change\n\nCo-authored-by: {name} <{email}>\n")
    assert told(found) == ("ai", agent, "trailer")


PEOPLE = [
    ("Claude Dupont", "claude.dupont@example.fr"),
    ("Claude", "claude@example.fr"),
    ("Devin Gould", "djgould@example.com"),
    ("Devin", "devin@example.com"),
    ("Jules Robichaud-Gagnon", "jules@example.com"),
    ("Gemini Ganesan", "gemini@example.com"),
    ("Aiden Cline", "63023139+rekram1-node@users.noreply.github.com"),
    ("Benjamin Goose", "benjamin.goose@example.com"),
    ("Amp Smith", "amp@example.com"),
    ("Boris Cherny", "boris@anthropic.com"),
    ("Charlie Marsh", "charliemarsh@openai.com"),
    ("Chris Rowe", "chris@rowe.bot"),
    ("Nik", "nik@cline.bot"),
    ("cte", "support@roocode.com"),
    ("Paul Gauthier", "aider@paulg.example"),
    ("Eric Wheeler", "roo-code@z.ewheeler.example"),
    ("Jiunn Haur Lim", "codex.is.poetry@example.com"),
    ("Chris Cowan", "agentme49@example.com"),
    ("Agent Smith", "smith@matrix.example"),
    ("Alexander Abbot", "abbot@example.com"),
    ("Real Estate Agent", "sales@example.com"),
    ("Maria (she)", "maria@example.com"),
    ("Maria (Claude)", "maria@example.com"),
    ("Dhairya Joshi", "77039476+TheRAWagent@users.noreply.github.com"),
    ("build-agent", "build-agent@ci.example"),
    ("Jean-Claude", "jc@example.com"),
    ("Alex Ley", "alex@scrub-ai.example"),
]


@pytest.mark.parametrize(("name", "email"), PEOPLE)
def test_people_are_people(name: str, email: str) -> None:
    """A name, a domain or a word is not an identity."""
    assert told(of_author(name, email)) == ("human", "", "")
    assert told(of_message(f"a change\n\nCo-authored-by: {name} <{email}>\n")) == ("human", "", "")
    assert told(of_message(f"a change\n\nAssisted-by: {name} <{email}>\n")) == ("human", "", "")


@pytest.mark.parametrize(
    ("name", "email", "agent"),
    [
        ("dependabot[bot]", "49699333+dependabot[bot]@users.noreply.github.com", "dependabot"),
        ("renovate[bot]", "29139614+renovate[bot]@users.noreply.github.com", "renovate"),
        ("pre-commit-ci[bot]", "66853113+pre-commit-ci[bot]@users.noreply.github.com", "pre-commit-ci"),
        ("github-actions[bot]", "41898282+github-actions[bot]@users.noreply.github.com", "github-actions"),
        ("A workflow", "41898282+github-actions[bot]@users.noreply.github.com", "github-actions"),
        ("vercel[bot]", "35613825+vercel[bot]@users.noreply.github.com", "vercel[bot]"),
        ("peril[bot]", "", "peril[bot]"),
        ("datadog-agent[bot]", "1+datadog-agent[bot]@users.noreply.github.com", "datadog-agent[bot]"),
        ("Babel Bot", "babel@example.com", "babel-bot"),
        ("Irwin the IANA Bot", "runner@x.example", "irwin the iana bot"),
        ("typeshedbot", "", "typeshedbot"),
    ],
)
def test_bots_are_not_ai(name: str, email: str, agent: str) -> None:
    assert told(of_author(name, email)) == ("bot", agent, "author")
    by_bot = f"a change\n\nCo-authored-by: {name} <{email}>\n"
    assert told(of_message(by_bot)) == ("human", "", "")
    both = attribute(Metadata((name, email), None, f"a change\n\n{CLAUDE}\n"), catalogue())
    assert told(both)[:2] == ("ai", "claude-code")


def test_a_bot_as_committer_says_nothing() -> None:
    bot = ("renovate[bot]", "29139614+renovate[bot]@users.noreply.github.com")
    assert told(attribute(Metadata(PERSON, bot, "x"), catalogue())) == ("human", "", "")


def test_an_agent_as_committer_alone_is_mixed() -> None:
    found = attribute(Metadata(PERSON, ("Cursor Agent", "cursoragent@cursor.com"), "x"), catalogue())
    assert told(found) == ("mixed", "cursor", "committer")
    assert told(of_author("Cursor Agent", "cursoragent@cursor.com"))[0] == "ai"


@pytest.mark.parametrize(
    "who",
    [
        "ellipsis-dev[bot] <65095814+ellipsis-dev[bot]@users.noreply.github.com>",
        "coderabbitai[bot] <136622811+coderabbitai[bot]@users.noreply.github.com>",
        "Copilot Autofix powered by AI <175728472+Copilot@users.noreply.github.com>",
        "Copilot Autofix powered by AI <62310815+github-advanced-security[bot]@users.noreply.github.com>",
        "some-ai-reviewer[bot] <1+some-ai-reviewer[bot]@users.noreply.github.com>",
    ],
)
def test_a_reviewers_suggestion_is_mixed(who: str) -> None:
    found = of_message(f"Update a.ts\n\nCo-authored-by: {who}\n")
    assert found.author_class == "mixed"
    assert of_message(f"Update a.ts\n\nCo-authored-by: {who}\n{CLAUDE}\n").author_class == "ai"


HELPED = [
    ("Assisted-by: Claude Fable 5", "mixed", "claude-code"),
    ("Assisted-by: Claude", "mixed", "claude-code"),
    ("Assisted-by: Claude (Anthropic)", "mixed", "claude-code"),
    ("Assisted-by: Claude Opus 4.8 <noreply@anthropic.com>", "mixed", "claude-code"),
    ("Assisted-by: Claude:claude-3-opus coccinelle sparse", "mixed", "claude-code"),
    ("Assisted-by: Unheard:some-model-7 [sparse]", "mixed", ""),
    ("Assisted-by: Crush:qwen3.7-max", "mixed", "crush"),
    ("Assisted-by: AWS Claude Opus 4.5 via Crush <crush@charm.land>", "mixed", "crush"),
    ("Assisted-by: AWS Claude Opus 4.5", "mixed", "claude-code"),
    ("Assisted-by: openai/gpt-5.5 via Crush (modified ver.)", "mixed", "crush"),
    ("Assisted-by: <Model-Name> via Crush", "mixed", "crush"),
    ("Assisted-by: YAAI <1+yaai-bot@users.noreply.github.com>", "human", ""),
    ("Assisted-by: an LLM", "mixed", ""),
    ("Assisted-by: GLM-5 (Z.ai)", "mixed", "glm"),
    ("Assisted-by: Kimi-k2.6", "mixed", "kimi"),
    ("Assisted-by: Jules", "mixed", "jules"),
    ("Assisted-by: Jane Doe <jane@example.com>", "human", ""),
    ("Assisted-by: Jane Doe, John Doe", "human", ""),
    ("Assisted-by: dependabot[bot]", "human", ""),
    ("Assisted-by: renovate, dependabot", "human", ""),
    ("Assisted-by: AGENT_NAME:MODEL_VERSION", "human", ""),
    ("Assisted-by: none", "human", ""),
    ("Generated-by: GitHub Copilot", "ai", "copilot"),
    ("Generated-by: openapi-generator", "human", ""),
    ("Generated-by: AI", "ai", ""),
    ("Made-with: Cursor", "ai", "cursor"),
    ("Made-with: love", "human", ""),
    ("AI-assisted: yes", "mixed", ""),
    ("AI-assisted: no", "human", ""),
    ("AI-generated: Claude Code", "ai", "claude-code"),
    ("Co-authored-by-AI: something new", "ai", ""),
    ("Written-by-AI: true", "ai", ""),
    ("AI-Model: gpt-5", "ai", "codex"),
    ("AI-Tool: a tool of ours", "human", ""),
    ("Agent-Id: opencodes", "ai", ""),
    ("Agent-Confidence: 0.990000", "ai", ""),
    ("Agent-Id: who knows", "human", ""),
    ("Build-Agent-Id: 5", "human", ""),
    ("Claude-Session: https://claude.ai/code/session_01", "ai", "claude-code"),
    ("Claude-Steers: 3", "ai", "claude-code"),
    ("Claude-Generated-By: Claude Code (cli/claude-opus-4-5=100%)", "ai", "claude-code"),
    ("Codex-Worktree-Snapshot: startup-cleanup", "ai", "codex"),
    ("Cursor-Agent: fix the crash", "human", ""),
    ("Buildkite-Session: 12", "human", ""),
    ("Kimi-Model: k2", "ai", "kimi"),
    ("Goose-Run-Colour: 1", "human", ""),
    ("Goose-Run: 1", "ai", "goose"),
    ("Amp-Thread-ID: https://ampcode.com/threads/T-1", "ai", "amp"),
    ("Entire-Checkpoint: 91220378d066", "ai", "entire"),
    ("Entire-Agent: none", "ai", "entire"),
    ("Replit-Commit-Session-Id: 5e5ec4ea", "ai", "replit"),
    ("Replit-Commit-Author: Agent", "ai", "replit"),
    ("Replit-Commit-Author: Deployment", "human", ""),
    ("X-Lovable-Edit-ID: edt-1", "ai", "lovable"),
    ("Co-authored-by: ChatGPT", "ai", "codex"),
    ("Co-authored-by: Ona <no-reply@ona.com>", "ai", "ona"),
    ("Co-authored-by: Jules <noreply@jules.google>", "ai", "jules"),
    ("Generated-by: protoc 25.1", "human", ""),
    ("Agent-Logs-Url: https://github.com/o/r/sessions/1", "ai", "copilot"),
    ("Co-authored-by: Codex", "ai", "codex"),
    ("Co-authored-by: Gemini", "ai", "gemini-cli"),
    ("Co-authored-by: Devin", "human", ""),
    ("Co-authored-by: Claude-3.5-Sonnet", "ai", "claude-code"),
    ("Co-authored-by: OpenHands-GPT-5 openhands@all-hands.dev", "ai", "openhands"),
    ("Co-authored-by: Charm Crush <crush@charm.land", "ai", "crush"),
    ("Co-authored-by: claude-sonnet-4-6 via Crush <charmcrush@users.noreply.github.com>", "ai", "crush"),
    ("Co-developed-by: Claude <noreply@anthropic.com>", "ai", "claude-code"),
    ("Co-Authored-By: J <j@example.com> & Claude Sonnet 4.6 <noreply@anthropic.com>", "ai", "claude-code"),
    ("Co-Authored-By: J <j@example.com>, K <k@example.com>", "human", ""),
    ("X" * 90 + "-by-ai: yes", "human", ""),
]


@pytest.mark.parametrize(("line", "author_class", "agent"), HELPED)
def test_trailers_in_gits_block(line: str, author_class: str, agent: str) -> None:
    found = of_message(f"a change of code\n\nWhy.\n\n{line}\n")
    assert (found.author_class, found.agent) == (author_class, agent)
    if author_class != "human":
        assert found.signals[0].kind == "trailer"
        assert 0.7 < found.confidence <= 0.95


OUTSIDE = {
    "a sign-off as a later paragraph": f"s\n\nBody.\n\n{CLAUDE}\n\nSigned-off-by: M <m@example.com>\n",
    "a badge after it": f"s\n\n{CLAUDE}\n\n[![badge](https://x.example/b.svg)](https://x.example)\n",
    "a footer after it": f"s\n\n{CLAUDE}\n\nGenerated with Claude Code (https://claude.com/claude-code)\n",
    "a tool's data after it": f's\n\n{CLAUDE}\n\n=== Do not change ===\n{{\n "cmd": "x"\n}}\n^^^ until here ^^^\n',
    "no blank line before it": f"s\n\nBody.\n{CLAUDE}\n",
    "no body at all": f"s\n{CLAUDE}\n",
    "the whole message indented": f"s\n\n    Why:\n    - a\n    - b\n\n    {CLAUDE}\n\n    Thanks\n",
    "the end indented": f"s\n\nBody.\n\n   💘 Generated with Crush\n\n   {CLAUDE}\n",
    "boxed": f"╭──╮\n│ s │\n│ body │\n│ {CLAUDE} │\n╰──╯\n",
    r"a literal \n\n": rf"s\n\nBody.\n\n{CLAUDE}" + "\n",
    r"a literal \r\n": rf"s\r\n\r\n{CLAUDE}" + "\n",
    "folded into the subject": f"s  🤖 Generated with [Claude Code](https://claude.ai/code)  {CLAUDE}\n",
    "CRLF, outside": f"s\r\n\r\nBody.\r\n{CLAUDE}\r\n",
    "a missing bracket, outside": "s\n\nBody.\nCo-Authored-By: Claude <noreply@anthropic.com\n",
    "a missing blank": "s\n\nBody.\nCo-Authored-By: Claude Opus4.5<noreply@anthropic.com>\n",
    "a blank in the key": "s\n\nBody.\n\nAssisted By: Claude Opus 4.6\n",
    "an underscore in the key": "s\n\nBody.\n\nassisted_by: Claude Opus 4.6\n",
    "messages squashed into one": f"s (#1)\n\n* one\n\n{CLAUDE}\n\n* two\n\n---------\n\nCo-authored-by: M <m@example.com>\n",
    "git's own squash": f"s\n\nSquashed commit of the following:\n\ncommit 1\n\n    like this:\n\n    {CLAUDE}\n\nmore\n",
    "what git log printed": f"s\n\nAuthor: M <m@example.com>\nDate: now\n\n    one\n\n    {CLAUDE}\n\ncommit 2\n",
    "a fence that is never closed": f"s\n\n```\ncode\n{CLAUDE}\nand more\n",
    "the subject says it": "AI-assisted: keep the keys\n",
    "in a block of which git reads nothing": "s\n\n(cherry picked from commit 1)\nAssisted By: Claude Opus 4.6\n",
    "in a block that goes on behind a divider": (
        "s\n\nKey: v\n(cherry picked from commit 1)\n--- \nAssisted By: Claude Opus 4.6\n"
    ),
    "a key that says so": "s\n\nX-LLM-Contribution: Claude\n\nmore\n",
    "a key that tells which": "s\n\nAgent-Id: claude-code\n\nmore\n",
    "a key that begins with an agent's name": "s\n\nCodex-Transcript: 123\n\nmore\n",
}


@pytest.mark.parametrize("message", OUTSIDE.values(), ids=OUTSIDE.keys())
def test_genuine_trailers_outside_the_block_count_weaker(message: str) -> None:
    found = of_message(message)
    assert found.author_class in ("ai", "mixed")
    assert found.signals[0].kind == "loose-trailer"
    assert found.confidence == 0.7


SOMEBODY_ELSES = {
    "quoted": f"s\n\nHe wrote:\n> {CLAUDE}\n\nNo.\n",
    "in a fence": f"s\n\nA message ends so\n\n```\n{CLAUDE}\n```\n\nand is read.\n",
    "in backticks": f"s\n\nWe now add `{CLAUDE}` to messages.\n",
    "in quotes": f's\n\nFix "{CLAUDE}" in the parser.\n',
    "an example": f"s\n\nIt should be:\n\n    {CLAUDE}\n\nSee there.\n",
    "an example at the end": f"s\n\nSo now it'll look like this:\n\n    {CLAUDE}\n",
    "an example that is not indented": f"s\n\nFor example:\n\n{CLAUDE}\n\nis read now.\n",
    "code": f"s\n\nBody.\n\n    {CLAUDE}\n",
    "a bullet": f"s\n\n- {CLAUDE}\n- others\n\nEnd.\n",
    "in the middle, indented": f"s\n\nBody\n  {CLAUDE}\nand on.\n",
    "the subject": "Co-authored-by: is read now\n",
    "an offered key": "s\n\nAssisted-by: AGENT_NAME:MODEL_VERSION\n\nmore\n",
    "documented": "docs: the Co-authored-by: Claude <noreply@anthropic.com> trailer\n",
    "literal, in prose": r"s\n\nThe \n in Co-Authored-By is read" + "\n",
    "told by a revert": f'Revert "s"\n\nThis reverts commit 1.\n\nIt said\n{CLAUDE}\n\nand was wrong.\n',
    "a revert with the old message": f'Revert "s"\n\nThis reverts commit 1.\n\nOriginal message:\n\ns\n\n{CLAUDE}\n',
    "a revert of an agent's work": 'Revert "s by Claude"\n\nThis reverts commit 1.\n',
    "a branch's name": "Merge pull request #1 from o/codex/fix\n\nRead it\n",
    "a remark": "s\n\nCo-authored-by: see below\n\nclaude-code: 15 items\n",
    "a long line": f"s\n\n{CLAUDE}{'x' * 2000}\n\nmore\n",
}


@pytest.mark.parametrize("message", SOMEBODY_ELSES.values(), ids=SOMEBODY_ELSES.keys())
def test_what_is_told_is_nobodys_trailer(message: str) -> None:
    found = of_message(message)
    assert found.author_class == "human"
    assert all(signal.kind == "text" for signal in found.signals)


def test_reverts() -> None:
    """An agent's own revert is the agent's; only what it repeats is not."""
    assert is_revert('Revert "x"')
    assert is_revert("revert: x")
    assert not is_revert("Reverting is hard")
    assert not retells("s\n\nOriginal message:\n")
    assert told(of_message(f'Revert "s"\n\nThis reverts commit 1.\n\n{CLAUDE}\n'))[0] == "ai"


def test_cherry_picks_keep_their_trailers() -> None:
    picked = f"s\n\nBody.\n\n{CLAUDE}\n(cherry picked from commit 0123456789)\n"
    assert told(of_message(picked)) == ("ai", "claude-code", "trailer")


def test_whoever_commits_is_told_beside_the_message() -> None:
    for committer, alone in ((None, True), (PERSON, True), (("x", "x@example.com"), False)):
        found = attribute(Metadata(PERSON, committer, "s\n"), catalogue()).message
        assert found is not None
        assert found.committed_by_author is alone
    assert attribute(Metadata(PERSON, PERSON), catalogue()).message is None
    assert attribute(Metadata(PERSON, PERSON, committed=True), catalogue()).message is not None


def test_who_is_author_and_committer_says_it_once() -> None:
    assert [one.kind for one in of_author("Claude", "noreply@anthropic.com").signals] == ["author"]


def test_what_a_general_key_says() -> None:
    assert told(of_message("s\n\nClaude-Assisted-By: with care\n"))[1] == "claude-code"
    assert told(of_message("s\n\nX-LLM-Assisted: yes\n")) == ("mixed", "", "trailer")
    assert told(of_message("s\n\nX-LLM-Generated: yes\n")) == ("ai", "", "trailer")


@pytest.mark.parametrize("key", ["Reported-by", "Fixes", "Component"])
def test_a_key_that_says_nothing_of_agents_names_none(key: str) -> None:
    assert of_message(f"made\n\n{key}: Claude Code\n").signals == ()


@pytest.mark.parametrize(("length", "author_class"), [(LONGEST_KEY, "ai"), (LONGEST_KEY + 1, "human")])
def test_a_key_longer_than_any_names_nobody(length: int, author_class: str) -> None:
    key = "ai-generated".rjust(length - 1, "x").replace("xai", "x-ai")
    assert len(key) == length
    assert of_message(f"s\n\n{key}: yes\n").author_class == author_class


def test_a_divider_hides_nothing() -> None:
    """``git log`` reads the trailers below a divider, ``interpret-trailers`` those above: both count."""
    below = f"s\n\nBody\n---\nmore\n\n{CLAUDE}\n"
    above = f"s\n\n{CLAUDE}\n---\n a | 1 +\n"
    both = f"s\n\n{CLAUDE}\n---\nmore\n\nMade-with: Cursor\n"
    assert told(of_message(below)) == ("ai", "claude-code", "trailer")
    assert told(of_message(above)) == ("ai", "claude-code", "trailer")
    assert [signal.kind for signal in of_message(both).signals] == ["trailer", "trailer"]


FREE = [
    ("s\n\n🤖 Generated with [Claude Code](https://claude.ai/code)\n", "claude-code"),
    ("s\n\nMost of it was written with the help of Cursor.\n", "cursor"),
    ("s\n\nThis was generated by an AI.\n", ""),
    ("s\n\nWritten by Claude, not by me.\n", "claude-code"),
    ("s\n\nmade with cursor\n", "cursor"),
    ("İ\n\nMade with Cursor too\n", "cursor"),
    ("aider: Added a test\n", "aider"),
    ("s\n\n# Aider chat conversation:\n\nUSER: x\n", "aider"),
    ("s\n\nSee https://claude.ai/code/session_01.\n", "claude-code"),
]


@pytest.mark.parametrize(("message", "agent"), FREE)
def test_free_text_is_reported_and_governs_only_where_asked(message: str, agent: str) -> None:
    found = of_message(message)
    assert (found.author_class, found.agent, found.confidence) == ("human", "", 0.5)
    assert ("text", agent) in {(signal.kind, signal.agent) for signal in found.signals}
    governed = of_message(message, free_text_governs=True)
    assert (governed.author_class, governed.confidence) == ("ai", 0.3)


@pytest.mark.parametrize(
    "message",
    [
        "s\n\nThis commit was generated by running:\n\n    fastmod x\n",
        "s\n\nGenerated by dependabot.\n",
        "s\n\nTool calls that weren't generated by the right tool are dropped.\n",
        "colour: aider: x\n",
        "s\n\nBuilt with Jenkins\n",
        "s\n\nThe sequence produced by the cursor up key\n",
    ],
)
def test_other_tools_are_no_free_text(message: str) -> None:
    assert of_message(message).signals == ()


def test_free_text_adds_nothing_to_what_is_known() -> None:
    named = f"s\n\nGenerated with Codex\n\n{CLAUDE}\n"
    for message, author_class in ((named, "ai"), ("s\n", "human"), ("s\n\nAI-Assisted: yes\n", "mixed")):
        found = of_message(message)
        assert found.author_class == author_class
        assert of_message(message, free_text_governs=True) == found


def test_free_text_beside_an_unreadable_author() -> None:
    message = "s\n\nGenerated with Claude Code\n"
    for author in (None, ("", "x@example.com"), ("x", "")):
        found = attribute(Metadata(author, None, message), catalogue())
        assert (found.author_class, len(found.signals)) == ("unknown", 1)


def test_claims_branches_and_environment() -> None:
    rows = catalogue()
    assert told(attribute(Metadata(PERSON, claimed_agent="Claude Code"), rows)) == (
        "ai",
        "claude-code",
        "claim",
    )
    assert told(attribute(Metadata(PERSON, claimed_agent="unheard of"), rows))[1] == "unheard of"
    found = attribute(Metadata(PERSON, branch="cursor/fix-it"), rows)
    assert (told(found), found.confidence) == (("ai", "cursor", "branch"), 0.7)
    assert told(attribute(Metadata(PERSON, branch="feature/cursor"), rows))[0] == "human"
    found = attribute(Metadata(PERSON, environment=frozenset({"CLAUDECODE", "HOME"})), rows)
    assert told(found) == ("ai", "claude-code", "environment")


def test_the_strongest_comes_first_and_ai_before_mixed() -> None:
    message = f"s\n\nBody.\nMade-with: Cursor\n\nAssisted-by: Kimi K3\n{CLAUDE}\n"
    found = attribute(Metadata(PERSON, ("Amp", "amp@ampcode.com"), message, branch="codex/x"), catalogue())
    assert (found.author_class, found.agent, found.confidence) == ("ai", "claude-code", 0.95)
    confidences = [signal.confidence for signal in found.signals]
    assert confidences == sorted(confidences, reverse=True)
    assert [signal.kind for signal in found.signals[:1]] == ["committer"]


def test_signals_are_bounded() -> None:
    """One agent on each of a million lines is one signal; a thousand agents are the first few."""
    same = of_message("s\n\n" + f"{CLAUDE}\n" * 20_000)
    assert len(same.signals) == 1
    many = of_message("s\n\n" + "".join(f"Co-authored-by: x{n} agent <a@b.example>\n" for n in range(1000)))
    assert len(many.signals) == MOST_SIGNALS
    told_often = of_message("s\n\n" + "generated with Claude Code\n" * 40_000)
    assert len(told_often.signals) == 1


@pytest.mark.parametrize(
    "message",
    [
        "s\n\n" + "Co-authored-by: " + "x" * 1_000_000 + "\n",
        "s\n\n" + "Co-authored-by: <" * 60_000 + "\n",
        "s  " + "Co-authored-by: a@b " * 50_000,
        "s" + r"\nCo-authored-by: x" * 50_000,
        "s\n\n" + "  Co-authored-by: x <y@z.example>\n" * 30_000 + "end\n",
        "s\n\n" + "```\n" * 250_000 + CLAUDE,
        "s\n\n" + "generated with " * 65_000,
        "Co-authored-by" + "-by" * 300_000 + ": x",
        "s\n\nAI" + "-ai" * 300_000 + ": x\n",
        "s\n\n" + "> " * 500_000 + "original message\n",
        'Revert "' + " \t" * 500_000 + "original",
    ],
    ids=range(11),
)
def test_hostile_megabytes_end(message: str) -> None:
    """Nothing here takes more than linear time: a quadratic step would not end within the suite."""
    assert of_message(message).author_class in ("human", "ai")


def test_long_identities() -> None:
    assert of_author("x" * 1_000_000, "y" * 1_000_000 + "@example.com").author_class == "human"
    assert of_author("(" * 100_000, "@" * 100_000).author_class == "human"


def test_names_are_folded() -> None:
    assert (
        folded("  Devin\u2010AI\u00a0Integration ")
        == folded("devin ai_integration")
        == "devin ai integration"
    )
    assert folded("\uff23\uff4c\uff41\uff55\uff44\uff45\u2003\uff23\uff4f\uff44\uff45") == "claude code"
    assert folded("💘 Crush") == "crush"
    assert folded("Clau\u200bde\ufeff Code") == "claude code"
    assert of_author("\uff23\uff2c\uff21\uff35\uff24\uff25\uff0dCode", "x@example.com").agent == "claude-code"


@given(st.text(max_size=60))
def test_folding_is_stable(name: str) -> None:
    assert folded(folded(name)) == folded(name)
    assert folded(unicodedata.normalize("NFKC", name)) == folded(name)


@pytest.mark.parametrize(
    ("value", "name", "email"),
    [
        ("A <a@b.example>", "A", "a@b.example"),
        ("A<A@B.example", "A", "a@b.example"),
        ("A a@b.example", "A", "a@b.example"),
        ("<a@b.example>", "", "a@b.example"),
        (r"x[bot] <x\[bot\]@b.example>", "x[bot]", "x[bot]@b.example"),
        ("A", "A", ""),
        ("A <nobody>", "A", ""),
        ("A <>", "A", ""),
    ],
)
def test_a_mention_taken_apart(value: str, name: str, email: str) -> None:
    assert split_mention(value) == (name, email)


def test_every_row_says_where_it_was_seen() -> None:
    """The catalogue is data: each form once, of a kind that is read, in the form that is looked up, with a source."""
    seen: dict[tuple[str, str], str] = {}
    for agent in catalogue().agents:
        assert agent.author_class in ("ai", "bot")
        assert agent.forms, agent.name
        for form in agent.forms:
            assert form.kind in FORMS, form
            assert len(form.seen) >= 8, form
            assert (form.kind, form.value) not in seen, (form, seen.get((form.kind, form.value)))
            seen[form.kind, form.value] = agent.name
            if form.kind in ("name", "bare-name", "given-name"):
                assert folded(form.value) == form.value, form
            if form.kind in ("email", "domain", "login", "key", "text"):
                assert form.value == form.value.lower(), form
            if form.kind == "github-id":
                assert form.value.isdecimal()
            if form.kind == "model":
                assert not re.compile(form.value).groups, "the agent is found by the number of the group"
                assert not re.match(form.value, ""), form
    assert len({agent.name for agent in catalogue().agents}) == len(catalogue().agents)


@pytest.mark.parametrize(
    "name",
    [
        "claude-code", "codex", "copilot", "cursor", "aider", "devin", "jules", "gemini-cli", "openhands", "amp",
        "opencode", "roo", "cline", "windsurf", "sweep", "amazon-q", "kiro", "replit", "lovable", "junie", "goose",
        "crush", "factory",
    ],
)  # fmt: skip
def test_the_agents_that_everybody_meets_are_there(name: str) -> None:
    agent = catalogue().by_name(name)
    assert agent
    assert agent.name == name
    assert agent.author_class == "ai"


def test_no_key_and_no_phrase_is_passed_over_unread() -> None:
    """A message without any of the hints is not looked at, so each form must hold one."""
    for form in (*catalogue().heads, *catalogue().texts, *CO_AUTHOR, "llm-model", "agent-session", "ai-tool"):
        assert HINTS.search(form), form


def test_an_empty_catalogue_knows_the_general_forms_only() -> None:
    empty = Catalogue((), {})
    assert attribute(Metadata(("Claude", "noreply@anthropic.com")), empty).author_class == "human"
    assert attribute(Metadata(("x[bot]", "")), empty).author_class == "bot"
    one = Catalogue(
        [Agent("one", forms=(Form("email", "a@b", "x"),)), Agent("two", forms=(Form("email", "a@b", "x"),))],
        {},
    )
    assert attribute(Metadata(("x", "a@b")), one).agent == "one"


@pytest.fixture
def history(repo: Repo) -> Repo:
    """A person's commit, and an agent's on a branch."""
    repo.commit("one", {"a": "1"})
    repo.git("checkout", "-q", "-b", "feature")
    repo.commit(f"two\n\n{CLAUDE}\n", {"a": "2"})
    return repo


def rows(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_command_prints_a_line_a_commit(history: Repo) -> None:
    done = history.safeai("attribution", "main..feature", "--format", "jsonl")
    assert done.code == 0, done.both
    assert rows(done.out) == [
        {
            "commit": history.git("rev-parse", "feature"),
            "class": "ai",
            "agent": "claude-code",
            "confidence": 0.95,
            "signals": [
                {
                    "kind": "trailer",
                    "agent": "claude-code",
                    "class": "ai",
                    "confidence": 0.95,
                    "evidence": "co-authored-by: Claude Opus 4.6 <noreply@anthropic.com>",
                }
            ],
        }
    ]
    whole = json.loads(history.safeai("attribution", "--format", "json").out)
    assert [one["class"] for one in whole["commits"]] == ["ai", "human"]
    shown = history.safeai("attribution", "feature").out.splitlines()
    assert shown[0].split()[1:4] == ["ai", "claude-code", "0.95"]
    assert shown[1].split()[1:] == ["human", "-", "0.50"]


def test_the_command_reads_every_branch_and_no_notes(history: Repo) -> None:
    history.git("checkout", "-q", "main")
    history.git("notes", "add", "-m", "a note", "HEAD")
    assert len(rows(history.safeai("attribution", "--format", "jsonl").out)) == 1
    assert len(rows(history.safeai("attribution", "--all", "--format", "jsonl").out)) == 2


def test_the_command_reads_metadata_alone(history: Repo) -> None:
    """A tree that is not there, as in a partial clone, and a message that a terminal must not obey."""
    raw = (
        f"tree {'1' * 40}\nparent {history.git('rev-parse', 'HEAD')}\n"
        "author Evil\x1b[2J Agent <agent@x.example> 1 +0000\ncommitter M <m@example.com> 1 +0000\n\nthree\n"
    )
    name = history.git("hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=raw.encode())
    done = history.safeai("attribution", f"HEAD..{name}")
    assert done.code == 0, done.both
    assert "\x1b" not in done.out
    assert done.out.split()[:2] == [name[:12], "ai"]


def test_the_command_goes_on_after_a_commit_that_cannot_be_read(history: Repo) -> None:
    huge = f"tree {'1' * 40}\nauthor M <m@e.x> 1 +0000\ncommitter M <m@e.x> 1 +0000\n\n{'x' * (2 << 20)}\n"
    name = history.git("hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=huge.encode())
    found = rows(history.safeai("attribution", name, "--format", "jsonl").out)
    assert found == [{"commit": name, "class": "unknown", "agent": "", "confidence": 0.0, "signals": []}]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["main..feature", "--all"], 2, "exclude each other"),
        (["main...feature"], 2, "is not a range"),
        (["..feature"], 2, "is not a range"),
        (["nowhere"], 3, "unknown revision"),
        (["nowhere..feature"], 3, "unknown revision"),
        (["main..nowhere"], 3, "unknown revision"),
        (["main.."], 0, ""),
    ],
)
def test_what_the_command_says_to_odd_arguments(
    history: Repo, arguments: list[str], code: int, said: str
) -> None:
    done = history.safeai("attribution", *arguments)
    assert (done.code, said in done.err) == (code, True), done.both


def test_the_handbook_has_the_table_of_the_catalogue() -> None:
    """``python tests/tools_catalogue.py --write`` brings it up to date."""
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(text)
    assert [
        source(one) for one in ("a/b@0123456789", "a/b@0123456789 x.go", "a/b pull requests", INSTRUCTIONS)
    ] == [
        "commit",
        "file or page",
        "file or page",
        "instructions",
    ]


def test_the_handbook_names_every_form_and_every_signal() -> None:
    page = (Path(__file__).parent.parent / "docs" / "attribution.md").read_text(encoding="utf-8")
    kinds = ("claim", "author", "committer", "trailer", "environment", "loose-trailer", "branch", "text")
    kinds += (NOTE, TRACE)
    for word in (*FORMS, *kinds, *CLASSES):
        assert f"| `{word}` |" in page, word
