"""Rules on what CI tokens and client certificates may: a YAML file each, matched on whole values.

A CI token is authorised by claims that its issuer vouches for; ids that never change hands (``repository_id``) serve
better than names. An event that runs a stranger's pull request with the base's rights (``pull_request_target``,
``workflow_run``, ``issue_comment``) never matches a rule that does not name it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from safeai_git.core.errors import PolicyError
from safeai_git.core.policy_faults import guess
from safeai_git.governor.auth.principal import SCOPES, Grant, NotAuthenticated, Principal
from safeai_git.policyfile import Document, parse

RISKY_EVENTS = frozenset({"pull_request_target", "workflow_run", "issue_comment"})

KEPT_CLAIMS = (
    "repository",
    "repository_id",
    "repository_owner_id",
    "job_workflow_ref",
    "job_workflow_sha",
    "ref",
    "event_name",
    "actor_id",
    "run_id",
    "run_attempt",
    "runner_environment",
    "project_id",
    "project_path",
    "pipeline_id",
    "job_id",
)
"""Claims of GitHub's and GitLab's tokens that go onto the log with what was asked."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What whoever fits may.

    Attributes:
        name: For messages.
        match: Claim (or field of a certificate) to the values that it may have; all of them must fit.
        grant: What follows.
    """

    name: str
    match: Mapping[str, frozenset[str]]
    grant: Grant

    def fits(self, facts: Mapping[str, Any]) -> bool:
        """Whether every claim that the rule names has one of its values."""
        if str(facts.get("event_name", "")) in RISKY_EVENTS and "event_name" not in self.match:
            return False
        return all(_text(facts.get(name)) in values for name, values in self.match.items())


@dataclass(frozen=True, slots=True)
class Issuer:
    """A CI system.

    Attributes:
        issuer: The exact ``iss``.
        jwks_url: Where its keys are.
        audience: The exact ``aud``.
        rules: At least one.
    """

    issuer: str
    jwks_url: str
    audience: str
    rules: tuple[Rule, ...]

    def principal(self, claims: Mapping[str, Any]) -> Principal:
        """Whom a verified token stands for.

        Raises:
            NotAuthenticated: No rule fits.
        """
        grants = tuple(rule.grant for rule in self.rules if rule.fits(claims))
        if not grants:
            raise NotAuthenticated("no-rule", f"no rule of {self.issuer} fits {_text(claims.get('sub'))!r}")
        kept = {name: text for name in KEPT_CLAIMS if (text := _text(claims.get(name)))}
        return Principal(_text(claims["sub"])[:256], "ci", grants, kept)


def _text(value: object) -> str:
    """A claim as text: GitHub writes ids as text, GitLab as numbers; anything else fits nothing."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int) else ""


def load_issuers(data: bytes, source: str) -> tuple[Issuer, ...]:
    """Read the rules for CI tokens.

    Raises:
        PolicyError: The file makes no sense; the message says where.
    """
    reader = _Reader(parse(data, source))
    top = reader.mapping((), reader.document.data, {"issuers"})
    issuers = []
    for at, row in reader.rows(("issuers",), top.get("issuers")):
        one = reader.mapping(at, row, {"issuer", "jwks_url", "audience", "rules"})
        issuer = reader.text((*at, "issuer"), one.get("issuer"))
        jwks = one.get("jwks_url", f"{issuer.rstrip('/')}/.well-known/jwks")
        issuers.append(
            Issuer(
                issuer,
                reader.https((*at, "jwks_url"), jwks),
                reader.text((*at, "audience"), one.get("audience")),
                reader.rules((*at, "rules"), one.get("rules"), "claims"),
            )
        )
    reader.document.check()
    return tuple(issuers)


def load_certificates(data: bytes, source: str) -> tuple[Rule, ...]:
    """Read the rules for client certificates, matched on ``subject``, ``san`` and ``sha256``.

    Raises:
        PolicyError: The file makes no sense; the message says where.
    """
    reader = _Reader(parse(data, source))
    top = reader.mapping((), reader.document.data, {"certificates"})
    found = reader.rules(("certificates",), top.get("certificates"), "match")
    for number, rule in enumerate(found):
        for name in rule.match.keys() - {"subject", "san", "sha256"}:
            reader.note(
                ("certificates", number), f"a certificate has no {name!r}", "use subject, san or sha256"
            )
    reader.document.check()
    return found


Place = tuple[Any, ...]


class _Reader:
    """Takes a rules file apart and notes each mistake where it stands."""

    def __init__(self, document: Document) -> None:
        self.document = document

    def note(self, place: Place, what: str, hint: str = "") -> None:
        while place and place not in self.document.positions:
            place = place[:-1]
        line, column = self.document.positions.get(place, (1, 1))
        self.document.note(line, column, what, hint)

    def mapping(self, place: Place, value: object, known: set[str]) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.note(place, f"a mapping with {', '.join(sorted(known))} is needed here")
            return {}
        for key in value:
            if key not in known:
                near = guess(key, known)
                self.note((*place, key), f"unknown key {str(key)!r}", near)
        return value

    def rows(self, place: Place, value: object) -> list[tuple[Place, object]]:
        if not isinstance(value, list) or not value:
            self.note(place, "a list that is not empty is needed here")
            return []
        return [((*place, number), row) for number, row in enumerate(value)]

    def text(self, place: Place, value: object) -> str:
        if not isinstance(value, str) or not value:
            self.note(place, f"text is needed for {place[-1]!r}")
            return ""
        return value

    def https(self, place: Place, value: object) -> str:
        text = self.text(place, value)
        if not text.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
            self.note(place, "an https:// address is needed here")
        return text

    def names(self, place: Place, value: object) -> frozenset[str]:
        values = value if isinstance(value, list) else [value]
        if not values or not all(isinstance(one, str | int) for one in values):
            self.note(place, "a value or a list of values is needed here")
            return frozenset()
        return frozenset(_text(one) for one in values)

    def rules(self, place: Place, value: object, key: str) -> tuple[Rule, ...]:
        return tuple(self._rule(at, row, key) for at, row in self.rows(place, value))

    def _rule(self, at: Place, row: object, key: str) -> Rule:
        one = self.mapping(at, row, {"name", key, "scopes", "repositories"})
        match = one.get(key)
        if not isinstance(match, dict) or not match:
            self.note((*at, key), f"a rule needs {key}: without any it would fit everybody")
            match = {}
        scopes = self.names((*at, "scopes"), one.get("scopes"))
        for unknown in sorted(scopes - SCOPES.keys()):
            self.note((*at, "scopes"), f"there is no scope {unknown!r}", guess(unknown, SCOPES))
        held = None
        if "repositories" in one:
            held = self.names((*at, "repositories"), one["repositories"])
        fields = {str(name): self.names((*at, key, name), values) for name, values in match.items()}
        return Rule(self.text((*at, "name"), one.get("name")), fields, Grant(scopes, held))


def parse_error(source: str, error: OSError) -> PolicyError:
    """What to say about a rules file that cannot be read."""
    return PolicyError(f"{source}: the file cannot be read: {error.strerror or error}")
