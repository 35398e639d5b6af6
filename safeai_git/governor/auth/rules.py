"""Rules on what CI tokens and client certificates may: a YAML file each, matched on whole values.

A CI token is authorised by claims that its issuer vouches for; ids that never change hands (``repository_id``) serve
better than names. An event that runs a stranger's pull request with the base's rights (``pull_request_target``,
``workflow_run``, ``issue_comment``) never matches a rule that does not name it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safeai_git.core.errors import PolicyError
from safeai_git.core.policy_faults import Faults, Refused, Section, guess
from safeai_git.core.policy_values import text
from safeai_git.governor.auth.principal import SCOPES, Grant, NotAuthenticated, Principal
from safeai_git.policyfile import parse

MOST_ROWS = 1_000
LONGEST = 1_024
"""Characters of one value."""

_NONE: frozenset[str] = frozenset()

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
    faults, top = _open(data, source, "issuers")
    known = ("issuer", "jwks_url", "audience", "rules")
    found = tuple(_issuer(one) for one in _rows(top, "issuers", known, "issuer"))
    faults.check()
    return found


def load_certificates(data: bytes, source: str) -> tuple[Rule, ...]:
    """Read the rules for client certificates, matched on ``subject``, ``san`` and ``sha256``.

    Raises:
        PolicyError: The file makes no sense; the message says where.
    """
    faults, top = _open(data, source, "certificates")
    found = _rules(top, "certificates", "match")
    for rule in found:
        for name in sorted(rule.match.keys() - {"subject", "san", "sha256"}):
            top.note("certificates", f"a certificate has no {name!r}", "use subject, san or sha256")
    faults.check()
    return found


def _open(data: bytes, source: str, key: str) -> tuple[Faults, Section]:
    document = parse(data, source)
    faults = Faults(document.source, document.positions, document.faults)
    return faults, Section(faults, document.data, (), (key,), "the file")


def _rows(section: Section, key: str, known: tuple[str, ...], what: str) -> list[Section]:
    rows = section.sections(key, known, what, MOST_ROWS)
    if not rows:
        section.note(key, f"'{key}' must be a list that is not empty")
    return rows


def _issuer(row: Section) -> Issuer:
    issuer = row.need("issuer", _https, "")
    keys = row.get("jwks_url", _https, f"{issuer.rstrip('/')}/.well-known/jwks")
    return Issuer(issuer, keys, row.need("audience", text(LONGEST), ""), _rules(row, "rules", "claims"))


def _rules(section: Section, key: str, facts: str) -> tuple[Rule, ...]:
    rows = _rows(section, key, ("name", facts, "scopes", "repositories"), "rule")
    return tuple(_rule(row, facts) for row in rows)


def _rule(row: Section, facts: str) -> Rule:
    names = [name for name in row.mapping(facts, MOST_ROWS) if isinstance(name, str)]
    wanted = row.section(facts, names)
    if wanted is None or not names:
        row.note(facts, f"a rule needs {facts}: without any it would fit everybody")
    match = {name: wanted.get(name, _values, _NONE) for name in names} if wanted else {}
    grant = Grant(row.need("scopes", _scopes, _NONE), row.get("repositories", _values, None))
    return Rule(row.need("name", text(LONGEST), ""), match, grant)


def _https(value: object) -> str:
    address = text(LONGEST)(value)
    if not address.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
        raise Refused("must be an https:// address")
    return address


def _values(value: object) -> frozenset[str]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(one, str | int) for one in values):
        raise Refused("must be a value or a list of values")
    return frozenset(_text(one) for one in values)


def _scopes(value: object) -> frozenset[str]:
    scopes = _values(value)
    for unknown in sorted(scopes - SCOPES.keys()):
        raise Refused(f"names {unknown!r}, and there is no such scope", guess(unknown, SCOPES))
    return scopes


def read_rules(path: Path) -> bytes:
    """The bytes of a rules file.

    Raises:
        PolicyError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise PolicyError(f"{path}: the file cannot be read: {error.strerror or error}") from None
