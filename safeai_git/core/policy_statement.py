"""An organisation's policy as an in-toto statement: what is signed, and how it is read back.

The statement names the policy's text by its SHA-256 and carries what the text does not say: whose it is, which version,
until when. The text travels beside it, so a policy of any length fits under every signing service (`MAX_PAE`). Format:
``docs/formats/policy-envelope.md``. A statement that is not written the one way that `format` writes it is refused.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from msgspec import Struct

from safeai_git.core import canonical
from safeai_git.core.envelope import MAX_PAE
from safeai_git.core.errors import FormatError
from safeai_git.core.trust import format_time
from safeai_git.core.verdict import STATEMENT_TYPE

POLICY_TYPE = "https://safe-ai.dev/attestation/policy/v1"
POLICY_NAMESPACE = "safeai-policy"
SUBJECT = "policy.yaml"

LARGEST_VERSION = 10**15
"""Versions beyond it would soon leave what every JSON reader holds exactly."""

_ORGANISATION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._/-]{0,98}[A-Za-z0-9])?")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LATEST = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())


class PolicyStatement(Struct, frozen=True):
    """What an organisation says about a policy text.

    Attributes:
        organisation: 1 to 100 ASCII letters, digits, spaces and ``. _ / -``.
        version: 1 or more; a higher one replaces a lower one.
        expires: The first second, in Unix time, at which it no longer counts.
        policy_digest: SHA-256, in hex, of the text's exact bytes.

    Raises:
        FormatError: One of these does not hold.
    """

    organisation: str
    version: int
    expires: int
    policy_digest: str

    def __post_init__(self) -> None:
        if not _ORGANISATION.fullmatch(self.organisation):
            raise FormatError(
                f"an organisation cannot be called {self.organisation[:100]!a}",
                hint="use 1 to 100 ASCII letters, digits, spaces, dots, slashes and hyphens",
            )
        if self.version is True or not 1 <= self.version <= LARGEST_VERSION:
            raise FormatError(f"a policy's version is 1 to {LARGEST_VERSION:,}, not {self.version}")
        if not 0 <= self.expires <= _LATEST:
            raise FormatError("a policy's expiry lies outside the years 1970 to 9999")
        if not _DIGEST.fullmatch(self.policy_digest):
            raise FormatError("a policy's digest is 64 hexadecimal digits")

    def format(self) -> bytes:
        """The statement in canonical JSON."""
        return canonical.dumps(
            {
                "_type": STATEMENT_TYPE,
                "subject": [{"name": SUBJECT, "digest": {"sha256": self.policy_digest}}],
                "predicateType": POLICY_TYPE,
                "predicate": {
                    "organisation": self.organisation,
                    "version": self.version,
                    "expires": format_time(self.expires),
                },
            }
        )

    @classmethod
    def parse(cls, payload: bytes) -> PolicyStatement:
        """Read a statement, the inverse of `format`.

        Raises:
            FormatError: It is something else, a verdict for instance.
        """
        match canonical.loads(payload, limit=MAX_PAE, depth=4):
            case {
                "predicateType": "https://safe-ai.dev/attestation/policy/v1",
                "subject": [{"digest": {"sha256": str(digest)}}],
                "predicate": {
                    "organisation": str(organisation),
                    "version": int(version),
                    "expires": str(expires),
                },
            }:
                statement = cls(organisation, int(version), parse_time(expires), digest)
            case _:
                raise FormatError(f"not a statement of type {POLICY_TYPE}")
        if statement.format() != payload:
            raise FormatError("the policy statement is not in canonical form")
        return statement


def parse_time(text: str) -> int:
    """Unix time of ``2027-01-31T09:30:00Z`` or, for its first second, ``2027-01-31``; always UTC.

    Raises:
        FormatError: It is neither.
    """
    for form in ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d"):
        try:
            return int(datetime.strptime(text, form).replace(tzinfo=UTC).timestamp())
        except ValueError:
            continue
    raise FormatError(f"{text[:40]!a} is not a time", hint="write 2027-01-31 or 2027-01-31T09:30:00Z, in UTC")
