"""Where the organisation's policy is, if one is configured: all that a hook has to ask where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from safeai_git.core.errors import PolicyError
from safeai_git.git.repository import Repository

POLICY_VARIABLE, POLICY_KEY = "SAFEAI_ORG_POLICY", "safeai.orgPolicy"
SIGNERS_VARIABLE, SIGNERS_KEY = "SAFEAI_ORG_SIGNERS", "safeai.orgSigners"

FROM_GOVERNOR = "governor"
"""In place of a file: the policy that the Governor of this machine serves."""


class Places(NamedTuple):
    """Where an organisation's policy is.

    Attributes:
        policy: Its file; ``None`` for the Governor.
        signers: The keys that may sign it; ``None`` for those of the Governor's log.
    """

    policy: Path | None
    signers: Path | None


def organisation_places(repository: Repository, environ: Mapping[str, str]) -> Places | None:
    """The files of the policy and of the keys that may sign it; ``None`` when none is configured."""
    policy = environ.get(POLICY_VARIABLE) or repository.config_from_outside(POLICY_KEY)
    signers = environ.get(SIGNERS_VARIABLE) or repository.config_from_outside(SIGNERS_KEY)
    if not policy and not signers:
        return None
    if policy == FROM_GOVERNOR:
        return Places(None, _absolute(signers, f"{SIGNERS_VARIABLE} or {SIGNERS_KEY}") if signers else None)
    if not policy or not signers:
        missing = f"{POLICY_VARIABLE} or {POLICY_KEY}" if signers else f"{SIGNERS_VARIABLE} or {SIGNERS_KEY}"
        raise PolicyError(
            "the organisation's policy is only half configured",
            hint=f"set {missing} too: the policy's file and the keys that may sign it go together",
        )
    place = _absolute(policy, f"{POLICY_VARIABLE} or {POLICY_KEY}")
    return Places(place, _absolute(signers, f"{SIGNERS_VARIABLE} or {SIGNERS_KEY}"))


def _absolute(named: str, setting: str) -> Path:
    path = Path(named).expanduser()
    if not path.is_absolute():
        raise PolicyError(
            f"{setting} is '{named}', which means another file in each folder", hint="give the whole path"
        )
    return path
