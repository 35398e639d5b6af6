"""Who wrote a change: the signals that a commit or a workstation gives, weighed by one catalogue of agents.

The catalogue is data (`safeai_git.agents`), how it is matched stands in `attribution_catalogue`. Everything here is a
claim of the change's own metadata, so it decides what is *governed* and never exempts anything from a rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from msgspec import Struct

from safeai_git.core.attribution_catalogue import (
    CLASSES,
    Agent,
    AuthorClass,
    Catalogue,
    Match,
    folded,
)
from safeai_git.core.message import Message
from safeai_git.core.trailers import Trailer, read_block, trailer_block
from safeai_git.core.trailers_loose import is_revert, loose_trailers, retells
from safeai_git.core.values import replace

__all__ = [
    "CLASSES",
    "Agent",
    "Attribution",
    "AuthorClass",
    "Catalogue",
    "Metadata",
    "Signal",
    "attribute",
    "trailer_block",
]

STRONG = 0.95
WEAK = 0.7
TEXT = 0.3
MOST_SIGNALS = 24
"""Signals that are kept of one commit, the strongest; a message may name an agent on each of a million lines."""
MOST_SENTENCES = 64
"""Sentences that are looked at of one message."""
LONGEST_KEY = 80
LONGEST_VALUE = 1000
"""Characters of a trailer (or of an identity) that are looked at: what is longer names nobody."""


class Signal(Struct, frozen=True):
    """One observation that speaks for an agent.

    Attributes:
        kind: ``claim``, ``author``, ``committer``, ``trailer``, ``loose-trailer``, ``branch``, ``environment`` or
            ``text``.
        agent: The catalogue's name for it; empty for a signal that names none.
        author_class: What the signal alone would make of the change.
        confidence: 0 to 1.
        evidence: What was seen, as text.
    """

    kind: str
    agent: str
    author_class: AuthorClass
    confidence: float
    evidence: str


@dataclass(frozen=True, slots=True)
class Attribution:
    """The answer, with the signals that led to it, strongest first.

    ``message`` is that of the one commit which the answer is about; ``None`` where none is known yet, or for several.
    """

    author_class: AuthorClass
    agent: str = ""
    confidence: float = 0.0
    signals: tuple[Signal, ...] = ()
    message: Message | None = field(default=None, compare=False)

    def with_free_text(self) -> Attribution:
        """The answer if sentences such as "written with ..." decide too."""
        text = next((one for one in self.signals if one.kind == "text"), None)
        if text is None or self.author_class == "ai":
            return self
        return replace(self, author_class="ai", agent=text.agent, confidence=text.confidence)


class Metadata(Struct, frozen=True):
    """What is known about the origin of a change.

    Attributes:
        author, committer: ``(name, email)``, ``None`` where it is missing or cannot be read.
        message: The commit message, empty while there is none.
        committed: Whether the message is what it is: an empty one of a commit is one that says nothing.
        branch: The branch's short name, where it is known.
        environment: Names of the variables that are set, at a workstation.
        claimed_agent: What the caller said with ``--agent``.
    """

    author: tuple[str, str] | None = None
    committer: tuple[str, str] | None = None
    message: str = ""
    committed: bool = False
    branch: str = ""
    environment: frozenset[str] = frozenset()
    claimed_agent: str = ""


def attribute(metadata: Metadata, catalogue: Catalogue, *, free_text_governs: bool = False) -> Attribution:
    """Decide who wrote a change.

    Whoever says "AI" is believed before whoever says "mixed", and both before a bot; among those of the class that
    follows, the strongest signal names the agent, and of equal ones the first in the order of `Signal.kind`. Without
    any signal a readable identity is ``human`` and a missing one ``unknown``.

    Args:
        metadata: What is known.
        catalogue: The agents.
        free_text_governs: Whether a sentence such as "written with ..." decides too. It is reported in any case.
    """
    found: dict[tuple[str, str, str], Signal] = {}
    for signal in _signals(metadata, catalogue):
        found.setdefault((signal.kind, signal.agent, signal.author_class), signal)
        if len(found) >= MOST_SIGNALS:
            break
    signals = tuple(sorted(found.values(), key=lambda signal: -signal.confidence))
    answer = replace(_decided(metadata.author, signals), message=_message(metadata, catalogue))
    return answer.with_free_text() if free_text_governs else answer


def _decided(who: tuple[str, str] | None, signals: tuple[Signal, ...]) -> Attribution:
    for author_class in ("ai", "mixed", "bot"):
        for signal in signals:
            if signal.author_class == author_class and signal.kind != "text":
                return Attribution(author_class, signal.agent, signal.confidence, signals)
    if who is None or not who[0].strip() or "@" not in who[1]:
        return Attribution("unknown", signals=signals)
    return Attribution("human", "", 0.5, signals)


def _message(metadata: Metadata, catalogue: Catalogue) -> Message | None:
    if not metadata.message and not metadata.committed:
        return None
    alone = metadata.committer is None or metadata.committer == metadata.author
    return Message(metadata.message, catalogue, committed_by_author=alone)


def _signals(metadata: Metadata, catalogue: Catalogue) -> Iterator[Signal]:
    if metadata.claimed_agent:
        agent = catalogue.by_name(metadata.claimed_agent)
        name = agent.name if agent else metadata.claimed_agent
        yield Signal("claim", name, "ai", 1.0, metadata.claimed_agent)
    if metadata.author:
        match = _identity(metadata.author, catalogue)
        if match:
            yield _signal("author", match, _shown(metadata.author))
    if metadata.committer and metadata.committer != metadata.author:
        match = _identity(metadata.committer, catalogue)
        if match and match.agent.author_class == "ai":
            # Agents commit people's work too: when they rebase, or as aider does for what it finds uncommitted.
            yield Signal("committer", match.agent.name, "mixed", match.confidence, _shown(metadata.committer))
    yield from _of_branch_and_environment(metadata, catalogue)
    yield from _of_message(metadata.message, catalogue)


def _identity(who: tuple[str, str], catalogue: Catalogue) -> Match | None:
    return catalogue.identity(who[0][:LONGEST_VALUE], who[1][:LONGEST_VALUE])


def _shown(who: tuple[str, str]) -> str:
    return f"{who[0]} <{who[1]}>"


def _signal(kind: str, match: Match, evidence: str, ceiling: float = 1.0) -> Signal:
    agent = match.agent
    return Signal(kind, agent.name, agent.author_class, min(match.confidence, ceiling), evidence)


def _of_branch_and_environment(metadata: Metadata, catalogue: Catalogue) -> Iterator[Signal]:
    if metadata.branch:
        for prefix, agent in catalogue.branches:
            if metadata.branch.startswith(prefix):
                yield Signal("branch", agent.name, agent.author_class, WEAK, metadata.branch)
    for name in sorted(metadata.environment & catalogue.variables.keys()):
        agent = catalogue.variables[name]
        yield Signal("environment", agent.name, agent.author_class, 0.9, name)


# What a message must hold for a closer look to be worth its time; every key and every footer holds one of them.
HINTS = re.compile(
    r"author|assist|develop|generat|written|made|built|create|code|pair|claude|codex|copilot|cursor|devin|gemini|"
    r"agent|crush|entire|amp|replit|session|aider|droid|opencode|ai[ _-]|produc|implement|vib|jules|kiro|llm|checkpoint|lovable|"
    r"-(?:ai|model|thread|version|strategy|attribut|steers|escapes|permission|transcript|conversation|task|run|logs|"
    r"worktree|metadata|trace|workspace)"
)


def _of_message(message: str, catalogue: Catalogue) -> Iterator[Signal]:
    lower = message.lower()
    if not message or not HINTS.search(lower):
        return
    if ":" in message:
        yield from _of_trailers(message, catalogue)
    yield from _of_text(lower, message if len(message) == len(lower) else lower.upper(), catalogue)


def _of_trailers(message: str, catalogue: Catalogue) -> Iterator[Signal]:
    blocks = [read_block(message)]
    if "\n---" in message:
        # A divider ends a message that is mailed; in one that was committed `git log` reads on.
        blocks.append(read_block(message, divider=False))
    if not retells(message):
        for key, value in (pair for block in blocks for pair in block.pairs):
            signal = _of_trailer(Trailer(key.lower(), value), catalogue, "trailer", STRONG)
            if signal:
                yield signal
    if is_revert(message):
        return
    rest, at = "", 0
    for block in blocks:
        if block.pairs and block.start >= at:
            rest, at = rest + message[at : block.start], block.end
    rest += message[at:]

    def wanted(key: str) -> bool:
        return _speaks(catalogue, key)

    for trailer in loose_trailers(rest, wanted):
        signal = _of_trailer(trailer, catalogue, "loose-trailer", WEAK)
        if signal:
            yield signal


CO_AUTHOR = frozenset(
    {
        "co-authored-by",
        "co-developed-by",
        "coauthored-by",
        "co-author",
        "co-author-by",
        "co-authored",
        "co-authored-with",
        "co-written-by",
        "pair-programmed-with",
    }
)
_NO = frozenset({"no", "none", "false", "0", "n/a", "na", "nil", "never", "-", "not used", "human", ""})
_OF_AN_AGENT = re.compile(
    r"(?P<agent>[a-z]+(?:-code|-cli|-ai)?)-(?:session|session-id|session-url|thread|thread-id|generated-by|generated|"
    r"assisted|assisted-by|model|version|agent|checkpoint|checkpoint-id|strategy|attribution|steers|escapes|"
    r"permission-prompts|transcript|conversation|conversation-id|task|task-id|run|run-id|logs-url|worktree-snapshot|"
    r"co-author|metadata|task-url|trace-id|workspace)"
)
_SAYS_SO = re.compile(
    r"(?:.*-)?(?:ai|llm)-(?:assisted|generated|authored|co-authored|written|assistance|contribution|disclosure)"
    r"(?:-by|-with|-code|-commit)?"
    r"|(?:co-)?(?:authored|assisted|generated|developed|written|created)-(?:by|with)-(?:ai|llm|agent)"
)
_TELLS_WHICH = re.compile(
    r"(?:.*-)?(?:ai|llm|agent)-(?:agent|assistant|model|tools?|session|used|usage|provider|attribution|co-?author)"
    r"(?:-id|-url)?"
    r"|agent-(?:id|confidence)"  # git/git@3ba804b7c6
)


def _speaks(catalogue: Catalogue, key: str) -> bool:
    """Whether a trailer of this key (lower case, dashes) can say anything about an agent."""
    return (
        key in CO_AUTHOR
        or key in catalogue.heads
        or _SAYS_SO.fullmatch(key) is not None
        or _TELLS_WHICH.fullmatch(key) is not None
        or _agent_of_key(catalogue, key) is not None
    )


def _agent_of_key(catalogue: Catalogue, key: str) -> Agent | None:
    """``Claude-Session``, ``Codex-Worktree-Snapshot``: a key that begins with an agent's name."""
    found = _OF_AN_AGENT.fullmatch(key)
    return catalogue.product(found["agent"]) if found else None


def _of_trailer(trailer: Trailer, catalogue: Catalogue, kind: str, confidence: float) -> Signal | None:
    if len(trailer.key) > LONGEST_KEY:
        return None
    key, value = trailer.key, trailer.value[:LONGEST_VALUE]
    evidence = f"{key}: {value[:300]}"
    if key in CO_AUTHOR:
        match = catalogue.mention(value)
        if match is None or match.agent.author_class != "ai":
            return None
        if match.agent.reviewer:
            return Signal(kind, match.agent.name, "mixed", min(match.confidence, confidence), evidence)
        return _signal(kind, match, evidence, confidence)
    own = catalogue.own_keys.get(key) or catalogue.own_keys.get(f"{key}: {value.lower()}")
    if own:
        return Signal(kind, own.name, own.author_class, confidence, evidence)
    if folded(value) in _NO:
        return None
    # "cursor-agent: fix the crash" is a remark; an identifier, a number or an address is one word
    one_word = " " not in value.strip()
    own = _agent_of_key(catalogue, key)
    if own and (one_word or "-by" in key):
        return Signal(kind, own.name, own.author_class, confidence, evidence)
    says_so = _SAYS_SO.fullmatch(key) is not None or (one_word and _TELLS_WHICH.fullmatch(key) is not None)
    named = catalogue.helper(value) if says_so or _speaks(catalogue, key) else None
    if named is None and not says_so:
        return None
    author_class = catalogue.keys.get(key, "mixed" if "assist" in key else "ai")
    return Signal(kind, named.agent.name if named else "", author_class, confidence, evidence)


_MADE_WITH = re.compile(
    r"(?:generated|written|wrote|created|made|built|authored|implemented|developed|coded|assisted|produced)\s{1,3}"
    r"(?:entirely |mostly |partly |partially |automatically |in part )?(?:with|by|using|via)\s{1,3}"
    r"(?:the |an? )?(?:help of |assistance of |assistance from |help from )?[\[*`_\"]{0,3}(?P<what>[^\n\]\)<>`*]{2,60})"
)
_END_OF_PHRASE = re.compile(r"[.,;:!?(\"']")
_AI = re.compile(
    r"(?:ai|llm|an ai|generative ai|artificial intelligence|ai (?:system|agent|assistant|tool)s?)\b"
)


def _of_text(text: str, original: str, catalogue: Catalogue) -> Iterator[Signal]:
    """Free text, in lower case and as written: sentences and footers that say how the change came about."""
    for phrase, agent in catalogue.texts.items():
        if phrase in text and (not phrase.endswith(": ") or text.startswith(phrase)):
            yield Signal("text", agent.name, "ai", TEXT, phrase.strip())
    for found in islice(_MADE_WITH.finditer(text), MOST_SENTENCES):
        named = _tool_in(found["what"], original[found.start("what")].isupper(), catalogue)
        if named or _AI.match(folded(found["what"])):
            yield Signal("text", named.name if named else "", "ai", TEXT, found[0][:120].strip())


def _tool_in(what: str, capital: bool, catalogue: Catalogue) -> Agent | None:
    """The tool at the beginning of a phrase; one called by a common word only with a capital, or if nothing follows."""
    words = folded(_END_OF_PHRASE.split(what, maxsplit=1)[0]).split()
    for count in range(min(len(words), 5), 0, -1):
        agent = catalogue.product(" ".join(words[:count]), common=capital or count == len(words))
        if agent and agent.author_class == "ai":
            return agent
    return None
