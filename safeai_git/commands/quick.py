"""What a hook starts from: as much of a `Session` as judging what is about to be made takes, and no more.

Whoever writes waits for it, so it loads nothing that walks history, replays, signs or talks to a Governor before one
of these is asked for.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from safeai_git import __version__
from safeai_git.core.context import CheckEvidence, KillSwitch
from safeai_git.core.errors import RepositoryError
from safeai_git.core.policy import Check, PolicyStack
from safeai_git.core.proposal import Proposal
from safeai_git.git.facts import Origin
from safeai_git.git.repository import Repository, discover
from safeai_git.judging import Deadline, Judge, Replays
from safeai_git.organisation_places import organisation_places
from safeai_git.policy_memory import memory_folder
from safeai_git.policy_vm import evaluate_expression, rules_out
from safeai_git.report.style import Style, for_terminal
from safeai_git.trust import TrustReader

ENABLE_VARIABLE = "SAFEAI_ENABLE"


@dataclass(slots=True)
class QuickSession:
    """One run of a command, or of a hook.

    Attributes:
        start: The folder that it runs in.
        environ: The environment.
        output_format: ``text``, ``json`` or ``jsonl``.
    """

    start: Path
    environ: Mapping[str, str]
    output_format: str = "text"
    brief: ClassVar[bool] = True
    _repository: Repository | None = field(default=None)
    _trust: dict[Path | None, TrustReader] = field(default_factory=dict)
    _leases: Any = None

    @classmethod
    def here(cls, output_format: str = "text") -> Self:
        """A session in the current folder.

        Raises:
            RepositoryError: The folder is gone.
        """
        try:
            return cls(Path.cwd(), os.environ, output_format)
        except FileNotFoundError as error:
            raise RepositoryError(
                "the current folder does not exist any more", hint="change into another one"
            ) from error

    @property
    def repository(self) -> Repository:
        """The repository that the session is in."""
        if self._repository is None:
            self._repository = discover(self.start, self.environ, brief=self.brief)
        return self._repository

    def close(self) -> None:
        """Give back what was opened."""
        if self._repository is not None:
            self._repository.close()

    def note(self, text: str) -> None:
        """A remark on standard error, for people whatever the format."""
        print(for_terminal(text, Style.for_stream(sys.stderr, self.environ)), file=sys.stderr)

    def trust(self, policy_file: Path | None = None) -> TrustReader:
        """Reads policies and signers of the repository."""
        if policy_file not in self._trust:
            organisation = None
            if organisation_places(self.repository, self.environ) is not None:
                # Loaded only here: envelopes and keys are of no use to whoever has no policy above his own.
                found = importlib.import_module("safeai_git.organisation")
                organisation = found.organisation_policy(self.repository, self.environ, now=time.time())
            self._trust[policy_file] = TrustReader(
                self.repository,
                policy_file=policy_file,
                organisation=organisation,
                memory=memory_folder(self.environ) if self.brief else None,
            )
        return self._trust[policy_file]

    def judge(
        self, *, agent: str = "", replayer: Replays | None = None, deadline_seconds: float = 0.0
    ) -> Judge:
        """The judge of what is about to be made."""
        return Judge(
            self.repository,
            self.trust(),
            Origin(agent, "", frozenset(self.environ)),
            version=__version__,
            now=time.time,
            evaluate_expression=evaluate_expression,
            rules_out=rules_out,
            replayer=replayer,
            kill_switch=self.kill_switch,
            deadline=Deadline(deadline_seconds) if deadline_seconds else None,
        )

    def replayer(self) -> Replays:
        """Replays checks, and remembers what came of it."""
        return _LateReplayer(self)

    def progress(self, text: str) -> None:
        """A step of long work, on standard error, only when a person watches."""
        if sys.stderr.isatty():
            self.note(f"... {text}")

    def kill_switch(self, policy: PolicyStack, agent: str) -> KillSwitch:
        """The kill switch as this machine knows it, by its own word and by its Governor's lease."""
        here = kill_switch(self.environ)
        if here.state == "engaged" or policy.governor is None:
            return here
        if self._leases is None:
            self._leases = importlib.import_module("safeai_git.lease").Leases(self.repository, self.environ)
        told: KillSwitch = self._leases.state(policy, agent)
        return told

    def switched_off(self, key: str) -> bool:
        """Whether a boolean of the git configuration says no."""
        return self.repository.config(key).lower() in ("false", "no", "off", "0")


class _LateReplayer:
    """A replayer that is made when there is something to replay, and loaded only then."""

    def __init__(self, session: QuickSession) -> None:
        self._session = session
        self._made: Replays | None = None

    def evidence(
        self, proposal: Proposal, checks: Iterable[Check], policy: PolicyStack | None = None
    ) -> Mapping[str, CheckEvidence]:
        """See `Replays`."""
        if not (wanted := list(checks)):
            return {}
        if self._made is None:
            made: Replays = importlib.import_module("safeai_git.replay").Replayer(
                self._session.repository,
                environ=self._session.environ,
                progress=self._session.progress,
                remember=True,
            )
            self._made = made
        return self._made.evidence(proposal, wanted, policy)


def kill_switch(environ: Mapping[str, str]) -> KillSwitch:
    """The kill switch as this machine knows it: ``SAFEAI_ENABLE=off`` engages it."""
    value = environ.get(ENABLE_VARIABLE, "").strip().lower()
    if value in ("", "on", "1", "true"):
        return KillSwitch()
    return KillSwitch("engaged", f"{ENABLE_VARIABLE}={value} on this machine")
