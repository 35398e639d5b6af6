"""Who wrote a change: the signals that a commit or a workstation gives, weighed by one catalogue of agents.

The catalogue is data (`safeai_git.agents`). Whole identities are matched, never words: people are called Claude too.
Everything here is a claim of the change's own metadata, so it decides what is *governed* and never exempts anything
from a rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

AuthorClass = Literal["ai", "mixed", "human", "bot", "unknown"]
CLASSES: tuple[AuthorClass, ...] = ("ai", "mixed", "human", "bot", "unknown")

STRONG = 0.95
WEAK = 0.7


@dataclass(frozen=True, slots=True)
class Signal:
    """One observation that speaks for an agent.

    Attributes:
        kind: ``claim``, ``author``, ``committer``, ``trailer``, ``loose-trailer``, ``branch`` or ``environment``.
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
    """The answer, with the signals that led to it, strongest first."""

    author_class: AuthorClass
    agent: str = ""
    confidence: float = 0.0
    signals: tuple[Signal, ...] = ()


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is known about the origin of a change.

    Attributes:
        author, committer: ``(name, email)``, ``None`` where it is missing or cannot be read.
        message: The commit message, empty while there is none.
        branch: The branch's short name, where it is known.
        environment: Names of the variables that are set, at a workstation.
        claimed_agent: What the caller said with ``--agent``.
    """

    author: tuple[str, str] | None = None
    committer: tuple[str, str] | None = None
    message: str = ""
    branch: str = ""
    environment: frozenset[str] = frozenset()
    claimed_agent: str = ""


@dataclass(frozen=True, slots=True)
class Agent:
    """One row of the catalogue.

    Attributes:
        name: The name used in policies and verdicts.
        author_class: ``ai``, or ``bot`` for automation that is not AI.
        emails: Whole addresses, lower case.
        names: Whole display names, lower case; matched only for commits' author and committer.
        trailer_names: Whole names in a co-author trailer without a known address.
        trailers: Keys (lower case) of trailers that only this agent writes.
        branches: Branch prefixes.
        environment: Variables that are set where it runs commands.
    """

    name: str
    author_class: AuthorClass = "ai"
    emails: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    trailer_names: frozenset[str] = frozenset()
    trailers: frozenset[str] = frozenset()
    branches: tuple[str, ...] = ()
    environment: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The agents, and the trailer keys that speak of AI in general."""

    agents: tuple[Agent, ...]
    general_trailers: Mapping[str, AuthorClass] = field(default_factory=dict)

    def by_name(self, name: str) -> Agent | None:
        """The agent of that name, compared after folding of case, spaces and dashes."""
        wanted = _plain(name)
        return next((agent for agent in self.agents if _plain(agent.name) == wanted), None)

    def by_identity(self, name: str, email: str) -> Agent | None:
        """The agent that commits under this identity."""
        email, name = email.strip().lower(), _plain(name)
        for agent in self.agents:
            if email in agent.emails or (name and name in agent.names):
                return agent
        return None

    def by_mention(self, value: str) -> Agent | None:
        """The agent that a trailer's value (``Name <address>``) names."""
        name, _, rest = value.partition("<")
        email = rest.partition(">")[0].strip().lower()
        plain = _plain(name)
        for agent in self.agents:
            if email in agent.emails or (plain and plain in agent.trailer_names):
                return agent
        return None


def _plain(name: str) -> str:
    return re.sub("[\\s\\-_\u2010-\u2015]+", " ", name).strip().lower()


class Trailer(NamedTuple):
    """``key: value`` from a commit message; the key in lower case."""

    key: str
    value: str


_TRAILER = re.compile(r"(?P<key>[A-Za-z0-9][A-Za-z0-9-]*)[ \t]*:[ \t]*(?P<value>.*)")
_GIT_GENERATED = ("signed-off-by:", "(cherry picked from commit ")
_LOOSE = re.compile(
    r"^[ \t]{0,8}(?P<key>[A-Za-z][A-Za-z-]*[A-Za-z])[ \t]*:[ \t]*(?P<value>\S.*)$", re.MULTILINE
)


def trailer_block(message: str) -> tuple[list[Trailer], str]:
    """The trailers that git itself would find, and the message without them.

    The last paragraph counts when it is not the first, and every line of it is a trailer (or the continuation of
    one), or one is of git's own making and at least a quarter are trailers (git, ``trailer.c``,
    ``find_trailer_block_start``).
    """
    text = message.rstrip()
    paragraphs = list(re.finditer(r"\n[ \t]*\n", text))
    if not paragraphs:
        return [], text
    start = paragraphs[-1].end()
    trailers: list[tuple[str, list[str]]] = []  # key, and the value line by line
    others, generated = 0, False
    for line in text[start:].split("\n"):
        if line.lower().startswith(_GIT_GENERATED):
            generated = True
        if line[:1].isspace() and trailers:
            trailers[-1][1].append(line.strip())
            continue
        found = _TRAILER.fullmatch(line.rstrip("\r"))
        if found:
            trailers.append((found["key"].lower(), [found["value"].strip()]))
        elif not line.startswith(_GIT_GENERATED[1]):
            others += 1
    if trailers and (not others or (generated and len(trailers) * 3 >= others)):
        return [Trailer(key, " ".join(lines)) for key, lines in trailers], text[:start]
    return [], text


def attribute(metadata: Metadata, catalogue: Catalogue) -> Attribution:
    """Decide who wrote a change.

    The strongest signal names the agent; among signals of equal strength the first in the order of `Signal.kind`.
    Without any signal a readable identity is ``human`` and a missing one ``unknown``.
    """
    signals = sorted(_signals(metadata, catalogue), key=lambda signal: -signal.confidence)
    for signal in signals:
        if signal.author_class != "bot":
            return Attribution(signal.author_class, signal.agent, signal.confidence, tuple(signals))
    if signals:
        return Attribution("bot", signals[0].agent, signals[0].confidence, tuple(signals))
    who = metadata.author
    if who is None or not who[0].strip() or "@" not in who[1]:
        return Attribution("unknown")
    return Attribution("human", "", 0.5)


def _signals(metadata: Metadata, catalogue: Catalogue) -> Iterable[Signal]:
    if metadata.claimed_agent:
        agent = catalogue.by_name(metadata.claimed_agent)
        yield Signal(
            "claim", agent.name if agent else metadata.claimed_agent, "ai", 1.0, metadata.claimed_agent
        )
    for kind, identity in (("author", metadata.author), ("committer", metadata.committer)):
        agent = catalogue.by_identity(*identity) if identity else None
        if agent and identity:
            author_class: AuthorClass = agent.author_class if kind == "author" else "mixed"
            if kind == "author" or agent.author_class == "ai":
                yield Signal(kind, agent.name, author_class, 0.99, f"{identity[0]} <{identity[1]}>")
    block, rest = trailer_block(metadata.message)
    for trailer in block:
        yield from _trailer_signal(trailer, catalogue, "trailer", STRONG)
    for found in _LOOSE.finditer(rest):
        loose = Trailer(found["key"].lower(), found["value"].strip())
        yield from _trailer_signal(loose, catalogue, "loose-trailer", WEAK)
    for agent in catalogue.agents:
        if metadata.branch.startswith(agent.branches) and agent.branches:
            yield Signal("branch", agent.name, agent.author_class, WEAK, metadata.branch)
        for name in sorted(agent.environment & metadata.environment):
            yield Signal("environment", agent.name, agent.author_class, 0.9, name)


def _trailer_signal(trailer: Trailer, catalogue: Catalogue, kind: str, confidence: float) -> Iterable[Signal]:
    evidence = f"{trailer.key}: {trailer.value}"
    for agent in catalogue.agents:
        if trailer.key in agent.trailers:
            yield Signal(kind, agent.name, agent.author_class, confidence, evidence)
            return
    if trailer.key in catalogue.general_trailers:
        agent_named = catalogue.by_mention(trailer.value)
        name = agent_named.name if agent_named else ""
        yield Signal(kind, name, catalogue.general_trailers[trailer.key], confidence, evidence)
    elif trailer.key in ("co-authored-by", "co-developed-by"):
        co_author = catalogue.by_mention(trailer.value)
        if co_author is not None and co_author.author_class == "ai":
            yield Signal(kind, co_author.name, "ai", confidence, evidence)
