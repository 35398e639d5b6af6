"""The organisation's policy: published once, with a version, on the log; handed out as it was signed.

The text stands in the entry: a replica, and whoever reads the log in years, needs nothing else. So a policy has to fit
into one (`LARGEST_TEXT`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from safeai_git.core.display import safe_text
from safeai_git.core.errors import PolicyError, WrongUse
from safeai_git.core.log.entry import Draft, Entry
from safeai_git.core.policy import Policy
from safeai_git.core.policy_difference import Change, difference
from safeai_git.core.policy_statement import PolicyStatement
from safeai_git.core.trust import format_time
from safeai_git.governor.audit_log import Receipt
from safeai_git.governor.key_registry import Document
from safeai_git.governor.records import FRESH_SECONDS, Conflicting, Records
from safeai_git.keys.port import Signer
from safeai_git.keys.seal import seal
from safeai_git.policyfile import load

LARGEST_TEXT = 48 * 1024
"""Bytes of a policy: with its signature and what it changes it has to fit into an entry of the log."""

_MOST_LOGGED_CHANGES = 20


class PolicyTooLong(WrongUse):
    """A policy does not fit into an entry."""


@dataclass(frozen=True, slots=True)
class Published:
    """A policy that was published.

    Attributes:
        version: Its version.
        changes: What it changes, each with its direction.
        receipt: The log's word.
    """

    version: int
    changes: tuple[Change, ...]
    receipt: Receipt


def change_data(change: Change) -> dict[str, str]:
    """One difference as data."""
    return {"key": change.key, "text": safe_text(change.text)[:200], "direction": change.direction}


class PolicyService:
    """Publishes the organisation's policy and hands it out.

    Args:
        records: The log.
        governor: Its origin, which is the organisation's name in the statement too: it never changes.
        signer: Signs the statement.
    """

    def __init__(self, records: Records, governor: str, signer: Signer) -> None:
        self._records = records
        self._organisation = _organisation(governor)
        self._signer = signer

    def publish(self, text: bytes, *, expires: int, by: str, version: int | None = None) -> Published:
        """Publish a policy.

        Args:
            text: The policy file.
            expires: Unix time from which it does not count any more.
            by: Who publishes it.
            version: Higher than every one before; the next one if it is not said.

        Raises:
            PolicyError: It is not valid; the message says where.
            WrongUse: It expires in the past, or is too long.
            Conflicting: A version as high, or higher, is published.
            StorageError: The log cannot take it.
        """
        now = int(self._records.now())
        if expires <= now:
            raise WrongUse(f"the policy would have expired on {format_time(expires)} already")
        if len(text) > LARGEST_TEXT:
            raise PolicyTooLong(
                f"the policy has {len(text):,} bytes, and an entry of the log holds {LARGEST_TEXT:,}",
                hint="shorten its comments",
            )
        self._records.follower.catch_up()
        held = self._records.state.policy
        newest = held.statement.version if held else 0
        version = newest + 1 if version is None else version
        new = load(text, "the policy")
        if held is not None and version <= newest:
            same = (version, expires, text) == (newest, held.statement.expires, held.text)
            if not same:
                raise Conflicting(
                    f"version {newest} is published, and version {version} would be no step forward",
                    hint=f"publish it as version {newest + 1} or higher",
                )
            entry = Entry.parse(self._records.log.store.entry(held.index))
            again = Draft(entry.kind, entry.id, entry.rest)
            return Published(version, (), self._records.write(again, "the log holds another policy"))
        changes = tuple(difference(held.policy() if held else Policy.builtin(), new))
        receipt = self._records.write(
            self._draft(text, version, expires, by, changes),
            f"another policy of version {version} is published",
        )
        current = self._records.state.policy
        if current is not None and current.statement.version > version:
            raise Conflicting(
                f"version {current.statement.version} was published in this moment: version {version} does not count"
            )
        return Published(version, changes, receipt)

    def _draft(self, text: bytes, version: int, expires: int, by: str, changes: tuple[Change, ...]) -> Draft:
        statement = PolicyStatement(self._organisation, version, expires, sha256(text).hexdigest())
        envelope = seal(statement.format(), [self._signer])
        try:
            told: Any = {
                "envelope": json.loads(envelope.format()),
                "text": text.decode(),
                "by": by,
                "changes": len(changes),
                "difference": [change_data(one) for one in changes[:_MOST_LOGGED_CHANGES]],
            }
        except UnicodeDecodeError:
            raise PolicyError("the policy is not UTF-8") from None
        return Draft.of_data("policy", f"policy:{version}", told)

    def first(self, text: bytes, *, seconds: int) -> bool:
        """Publish a Governor's first policy; false, and nothing done, where one is published already.

        Raises: as `publish` does.
        """
        if self._records.state.policy is not None:
            return False
        try:
            self.publish(text, expires=int(self._records.now()) + seconds, by="SAFEAI_CONFIG_DIR", version=1)
        except Conflicting:
            return False  # another replica, in the same moment
        return True

    def document(self) -> Document | None:
        """The newest policy as it was signed; ``None`` where there is none.

        Raises:
            StorageError: The log cannot be read.
            LogProofInvalid: It contradicts itself.
        """
        self._records.follower.need(FRESH_SECONDS)
        held = self._records.state.policy
        return None if held is None else Document.of(held.document())

    def layer(self) -> Policy | None:
        """The newest policy, to judge by.

        Raises:
            PolicyError: It has expired, or this version does not understand it.
            StorageError: The log cannot be read.
        """
        self._records.follower.need(FRESH_SECONDS)
        held = self._records.state.policy
        if held is None:
            return None
        if self._records.now() >= held.statement.expires:
            raise PolicyError(
                f"the {held.source} has expired ({format_time(held.statement.expires)})",
                hint="publish it anew, with a higher version",
            )
        return held.policy()


def _organisation(governor: str) -> str:
    """The log's origin in the letters that a statement takes."""
    name = "".join(one if one.isascii() and (one.isalnum() or one in "._/-") else "-" for one in governor)
    return name[:100].strip("._/-") or "organisation"
