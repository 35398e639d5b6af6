"""The catalogue of agents, and how an identity or a trailer's value is matched with it.

The catalogue itself is data (`safeai_git.agents`). What is matched is a whole thing: an address, a GitHub account or
its number, a whole display name, a model's name. A domain or a word never is enough, since people are called Claude,
work at the vendors and have a tool's name in their address. The general forms at the end know agents that nobody
listed, by what only a program calls itself (``NAME[bot]``, ``NAME Agent``, ``agent@``).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

from msgspec import Struct

AuthorClass = Literal["ai", "mixed", "human", "bot", "unknown"]
CLASSES: tuple[AuthorClass, ...] = ("ai", "mixed", "human", "bot", "unknown")

FORMS = (
    "email",
    "login",
    "github-id",
    "name",
    "bare-name",
    "given-name",
    "domain",
    "model",
    "key",
    "branch",
    "environment",
    "text",
)
"""What a row of the catalogue can hold: see `Agent.forms` and ``docs/attribution.md``."""


class Form(NamedTuple):
    """One form in which an agent shows itself.

    Attributes:
        kind: One of `FORMS`.
        value: The form itself.
        seen: Where it was seen: ``owner/repository@commit``, or a page.
    """

    kind: str
    value: str
    seen: str


class Agent(Struct, frozen=True):
    """One agent of the catalogue.

    Attributes:
        name: The name used in policies and verdicts.
        author_class: ``ai``, or ``bot`` for automation that is not AI.
        reviewer: It reviews: as a co-author it made a suggestion that a person took.
        forms: The forms in which it shows itself.
    """

    name: str
    author_class: AuthorClass = "ai"
    reviewer: bool = False
    forms: tuple[Form, ...] = ()

    def values(self, kind: str) -> tuple[str, ...]:
        """The values of one kind of form."""
        return tuple(form.value for form in self.forms if form.kind == kind)


class Match(NamedTuple):
    """An agent that was recognised, and how sure that is (0 to 1)."""

    agent: Agent
    confidence: float


LISTED = 0.99
NAMED = 0.9
GENERAL = 0.8

_SEPARATORS = re.compile("[\\s\\-_\u00ad\u2010-\u2015\u2212\ufe58\ufe63\uff0d]+")
_NOT_NAME = re.compile(r"[^\w\s\-.:/()\[\]+@'&]+")
_ADDRESS = re.compile(r"<?\s*(?P<email>[^\s<>(),;\"]{1,128}@[^\s<>(),;\"]{1,253})\s*>?")
_GITHUB = re.compile(r"(?:(?P<id>\d{1,12})\+)?(?P<login>[^@+]+)@users\.noreply\.github\.com")
_IN_BRACKETS = re.compile(r"\(([^()]{1,80})\)\s*$")
_PARTS = re.compile(r"[:()/,;|\[\]]| (?:via|using|with|and|on|in|by|from) ")
_KERNEL = re.compile(r"[A-Za-z][\w.-]{0,40}:[A-Za-z0-9][\w.:/@-]{0,80}(?:[ \t]+\[?[\w.,+-]{1,40}\]?){0,8}")
_PLACEHOLDER = re.compile(r"[A-Z]+(?:_[A-Z]+)+|<[A-Za-z][\w -]*>|\.\.\.|…|\$\{|\{\{?|%s")

_ROLES = frozenset({"noreply", "no-reply", "donotreply", "agent", "bot", "ai", "assistant"})
_REVIEWS = frozenset({"review", "reviewer", "reviews", "autofix"})
_OWN_ADDRESS = re.compile(r"(?:(?:.*[-+])?(?:ai-)?agent|subagent|agent-.*)@.*")
_OWN_NAME = re.compile(r"(?:.* )?(?:agent|subagent|ai (?:assistant|bot|coder))|.*\(agent\).*")
_SELF_NAMES = re.compile(r" (?:code|coder|cli|ai|agi|bot|agent|subagent|assistant)\b")


def folded(name: str) -> str:
    """A name for comparing: NFKC, case folded, dashes and blanks of every kind as one blank, no ornaments."""
    if not name.isascii():
        name = unicodedata.normalize("NFKC", name)
        name = "".join(char for char in name if char == "\u00ad" or unicodedata.category(char) != "Cf")
    plain = _NOT_NAME.sub(" ", _SEPARATORS.sub(" ", name))
    return _SEPARATORS.sub(" ", plain).strip(" '\"*_`.").casefold()


def split_mention(value: str) -> tuple[str, str]:
    """Name and address of a trailer's value, also where a bracket is missing; the address in lower case, or empty."""
    found = _ADDRESS.search(value[:1000])
    if not found:
        return value.partition("<")[0].strip(), ""
    return value[: found.start()].rstrip("< \t"), found["email"].lower().replace("\\", "")


class Catalogue:
    """The agents, indexed by what is looked up.

    Args:
        agents: The rows. Where two claim the same form, the first counts.
        keys: Trailer keys (lower case, dashes) that say by themselves or by their value that AI took part, with the
            class that follows.
        app_words: Words in the name of a GitHub app (``NAME[bot]``) that say that it is AI.
        machine_words: Words that make an "agent" an ordinary machine: a build agent, a user agent.
    """

    def __init__(
        self,
        agents: Iterable[Agent],
        keys: Mapping[str, AuthorClass],
        *,
        app_words: Iterable[str] = (),
        machine_words: Iterable[str] = (),
    ) -> None:
        self.agents = tuple(agents)
        self.keys = dict(keys)
        self._app_words, self._machine_words = frozenset(app_words), frozenset(machine_words)
        self._emails = self._index("email", str.lower)
        self._logins = self._index("login", str.lower)
        self._numbers = self._index("github-id", str)
        self._domains = self._index("domain", str.lower)
        self._names = self._index("name", folded)
        self._given = self._index("given-name", folded)
        self._bare = self._index("bare-name", folded)
        self._tools = self._given | self._bare | {folded(one.name): one for one in reversed(self.agents)}
        self._tools |= self._names
        self.own_keys = self._index("key", str.lower)
        self.heads = {key.partition(":")[0] for key in self.own_keys} | self.keys.keys()
        models = list(self._index("model", str).items())
        self._of_model = [agent for _, agent in models]
        self._model_pattern = re.compile("|".join(f"({pattern})" for pattern, _ in models) or r"(?!)")
        self.branches = [(one, agent) for agent in self.agents for one in agent.values("branch")]
        self.variables = {one: agent for agent in self.agents for one in agent.values("environment")}
        self.texts = self._index("text", str.lower)
        self.identity = lru_cache(maxsize=4096)(self._identity)
        self.mention = lru_cache(maxsize=4096)(self._mention)

    def _index(self, kind: str, fold: Callable[[str], str]) -> dict[str, Agent]:
        return {fold(one): agent for agent in reversed(self.agents) for one in agent.values(kind)}

    def by_name(self, name: str) -> Agent | None:
        """The agent that a policy or a caller names, compared after folding."""
        return self._tools.get(folded(name))

    def product(self, name: str, *, common: bool = True) -> Agent | None:
        """The agent or model of that name where a tool is meant, as after ``Generated with``.

        Args:
            name: Any way of writing it.
            common: Whether names that are ordinary words or people's names too will do.
        """
        name = folded(name)
        return (self._tools if common else self._names).get(name) or self._model(name)

    def _model(self, name: str) -> Agent | None:
        found = self._model_pattern.match(name)
        return self._of_model[(found.lastindex or 1) - 1] if found else None

    def _listed(self, name: str, email: str) -> Match | None:
        """By what the catalogue lists, the more particular first."""
        agent = self._names.get(name)
        if agent and agent.reviewer:
            return Match(agent, LISTED)
        agent = self._emails.get(email)
        if agent:
            return Match(agent, LISTED)
        account = _GITHUB.fullmatch(email)
        if account:
            agent = self._logins.get(account["login"]) or self._numbers.get(account["id"] or "")
            if agent:
                return Match(agent, LISTED)
        local, _, domain = email.partition("@")
        agent = self._domains.get(domain)
        if agent:
            agent = agent if local in _ROLES else self.product(local)
            if agent:
                return Match(agent, LISTED)
        agent = self._names.get(name)
        if agent:
            return Match(agent, NAMED)
        agent = self._bare.get(name) or self._given.get(name)
        if agent and local in _ROLES:
            return Match(agent, NAMED)
        return None

    def _identity(self, name: str, email: str) -> Match | None:
        """Who commits under this name and address; ``None`` for a person."""
        plain, email = folded(name), email.strip().lower().replace("\\", "")
        listed = self._listed(plain, email)
        if listed:
            return listed
        bracketed = _IN_BRACKETS.search(name)
        if bracketed:
            agent = self.product(bracketed[1], common=bracketed[1] == bracketed[1].lower())
            if agent:
                return Match(agent, LISTED)
        return self._general(plain, email)

    def _general(self, name: str, email: str) -> Match | None:
        """By the forms that programs share."""
        model = self._model(name)
        if model:
            return Match(model, NAMED)
        account = _GITHUB.fullmatch(email)
        app = next((one for one in (account["login"] if account else "", name) if one.endswith("[bot]")), "")
        if app:
            words = set(re.split(r"[^a-z0-9]+", app.removesuffix("[bot]")))
            is_ai = words & self._app_words and not words & self._machine_words
            return Match(Agent(app, "ai" if is_ai else "bot", reviewer=bool(words & _REVIEWS)), GENERAL)
        first, _, more = name.partition(" ")
        known = self._bare.get(first) or self._given.get(first)
        if known and _SELF_NAMES.match(" " + more):
            return Match(known, NAMED)
        if _OWN_ADDRESS.fullmatch(email) or _OWN_NAME.fullmatch(name):
            words = set(re.split(r"[^a-z0-9]+", f"{name} {email.partition('@')[0]}"))
            if more and not words & self._machine_words:
                return Match(Agent(name), GENERAL)
        if name.endswith(" bot"):
            vendor = email.partition("@")[2] in self._domains
            return Match(Agent(name, "ai" if vendor else "bot"), GENERAL)
        return None

    def _mention(self, value: str) -> Match | None:
        """The agent that a co-author's line names, also beside others; ``None`` for a person."""
        name, email = split_mention(value)
        found = self._identity(name, email)
        if found:
            return found
        if not email:
            agent = self._bare.get(folded(name))
            return Match(agent, NAMED) if agent else None
        rest = _ADDRESS.sub("", value, count=1)[len(name) :].strip(" ,;&+")
        return self._mention(rest) if "@" in rest else None

    def helper(self, value: str) -> Match | None:
        """The agent or model that a line like ``Assisted-by`` names; ``None`` for a person and for a placeholder.

        Known are ``MODEL via AGENT``, the kernel's ``AGENT:MODEL [TOOLS]``, and lists of these.
        """
        value = value[:1000]
        address = _ADDRESS.search(value)
        plain = _NOT_NAME.sub(" ", value[: address.start()] if address else value)
        parts = _PARTS.split(plain)
        if len(parts) == 1:
            found = self.mention(value)
            return found if found and found.agent.author_class == "ai" else self._helper_by_form(value)
        for part in reversed(parts) if " via " in plain else parts:
            words = folded(part)
            agent = self._names.get(words) or self._model(words)
            if agent is None and not address:
                agent = self._tools.get(words) or self._last_words(words)
            if agent and agent.author_class == "ai":
                return Match(agent, NAMED)
        found = self.mention(value) if address else None
        return found if found and found.agent.author_class == "ai" else self._helper_by_form(value)

    def _helper_by_form(self, value: str) -> Match | None:
        if "@" in value or _PLACEHOLDER.search(value):
            return None
        words = folded(value)
        agent = self._tools.get(words) or self._last_words(words)
        if agent:
            return Match(agent, NAMED) if agent.author_class == "ai" else None
        if _KERNEL.fullmatch(value.strip()) or {"ai", "llm"} & set(words.split()):
            return Match(Agent(""), GENERAL)
        return None

    def _last_words(self, words: str) -> Agent | None:
        """A model behind its vendor's name: ``aws claude opus 4``."""
        rest = words
        while " " in rest:
            rest = rest.partition(" ")[2]
            agent = self._model(rest)
            if agent:
                return agent
        return None
