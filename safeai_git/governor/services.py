"""Everything of a Governor that rests on its log: opened together, closed in the right order."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from safeai_git.core.errors import PolicyError, SafeAIError
from safeai_git.files import read_bounded
from safeai_git.governor.audit_log import AuditLog
from safeai_git.governor.decisions import DecisionService, Parts
from safeai_git.governor.key_registry import KeyRegistry
from safeai_git.governor.kill_switch import KillSwitchService
from safeai_git.governor.policies import LARGEST_TEXT, PolicyService
from safeai_git.governor.records import Records
from safeai_git.governor.search import Search
from safeai_git.governor.settings import Settings
from safeai_git.keys.port import Signer

FIRST_POLICY = "policy.yaml"
FIRST_POLICY_SECONDS = 365 * 86_400
"""How long the policy out of ``SAFEAI_CONFIG_DIR`` counts."""

QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class Services:
    """What the API speaks to.

    Attributes:
        records: The log and what it adds up to.
        keys, policies, switches, search, decisions: See their modules.
    """

    records: Records
    keys: KeyRegistry
    policies: PolicyService
    switches: KillSwitchService
    search: Search
    decisions: DecisionService
    _stack: ExitStack

    @classmethod
    def open(
        cls,
        log: AuditLog,
        settings: Settings,
        *,
        origin: str,
        signer: Signer,
        now: Callable[[], float] = time.time,
    ) -> Services:
        """Read the log, have the Governor's own key on it, publish the first policy, engage the switch if so set.

        Args:
            log: An open log; closing it, after this, is the caller's.
            settings: The settings.
            origin: The log's name.
            signer: The Governor's key.
            now: Seconds since 1970.

        Raises:
            StorageError: The log cannot be read or written, or the data folder not be used.
            LogProofInvalid: The log contradicts itself.
            PolicyError: The first policy is not valid.
            Conflicting: The Governor's key was revoked.
        """
        with ExitStack() as stack:
            records = Records.of(log, now)
            stack.callback(records.close)
            keys = KeyRegistry(records, origin, signer)
            keys.ensure_own()
            policies = PolicyService(records, origin, signer)
            _publish_first(policies, settings)
            switches = KillSwitchService(
                records,
                origin,
                signer,
                lease_seconds=settings.lease_seconds,
                second_person=settings.release_needs_second_person,
            )
            if not settings.enabled:
                switches.start_engaged()
            search = Search(settings.data_dir, records, origin)
            stack.callback(search.close)
            decisions = DecisionService(
                Parts(records, keys, policies, switches, signer),
                settings.data_dir / QUARANTINE,
                replay=settings.replay_checks,
            )
            stack.callback(decisions.close)
            return cls(records, keys, policies, switches, search, decisions, stack.pop_all())

    @property
    def failure(self) -> SafeAIError | None:
        """Why what rests on the log is not up to date, or ``None``; a search index that is behind is no reason."""
        return self.records.follower.failure

    def close(self) -> None:
        """Stop everything; before the log is closed."""
        self._stack.close()


def _publish_first(policies: PolicyService, settings: Settings) -> None:
    path = settings.config_dir / FIRST_POLICY
    try:
        text = read_bounded(path, LARGEST_TEXT)
    except FileNotFoundError:
        return
    except OSError as error:
        raise PolicyError(f"{path} cannot be read: {error.strerror or error}") from error
    policies.first(text, seconds=FIRST_POLICY_SECONDS)
