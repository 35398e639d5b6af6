"""What every command starts from: where it runs, how it talks, which key it signs with."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safeai_git import __version__
from safeai_git.core.context import KillSwitch
from safeai_git.core.errors import KeyUnusable, RepositoryError
from safeai_git.core.policy import PolicyStack
from safeai_git.gate import Deadline, Gate
from safeai_git.git.reader import Origin
from safeai_git.git.repository import Repository, discover
from safeai_git.keys.port import Signer
from safeai_git.keys.signer import is_reference, load_signer, open_signer
from safeai_git.organisation import organisation_policy
from safeai_git.policy_vm import evaluate_expression
from safeai_git.recorded import RecordedEvidence
from safeai_git.replay import Replayer
from safeai_git.report.style import Style, for_terminal
from safeai_git.trust import TrustReader

HOOKS = ("pre-commit", "commit-msg", "post-commit", "pre-push")
"""The hooks of a clone, in the order in which git runs them."""

KEY_VARIABLE = "SAFEAI_KEY"
PASSPHRASE_VARIABLE = "SAFEAI_KEY_PASSPHRASE"  # noqa: S105 - a name, not a secret
ENABLE_VARIABLE = "SAFEAI_ENABLE"


@dataclass(slots=True)
class Session:
    """One run of a command.

    Attributes:
        start: The folder that it runs in.
        environ: The environment.
        output_format: ``text``, ``json`` or ``jsonl``.
    """

    start: Path
    environ: Mapping[str, str]
    output_format: str = "text"
    _repository: Repository | None = field(default=None)
    _trust: dict[Path | None, TrustReader] = field(default_factory=dict)
    _leases: Any = None

    @staticmethod
    def here(output_format: str = "text") -> Session:
        """A session in the current folder.

        Raises:
            RepositoryError: The folder is gone.
        """
        try:
            return Session(Path.cwd(), os.environ, output_format)
        except FileNotFoundError as error:
            raise RepositoryError(
                "the current folder does not exist any more", hint="change into another one"
            ) from error

    @property
    def repository(self) -> Repository:
        """The repository that the session is in."""
        if self._repository is None:
            self._repository = discover(self.start, self.environ)
        return self._repository

    def close(self) -> None:
        """Give back what was opened."""
        if self._repository is not None:
            self._repository.close()

    @property
    def style(self) -> Style:
        """Colours for standard output."""
        return Style.for_stream(sys.stdout, self.environ)

    def say(self, text: str) -> None:
        """Text for people, on standard output; nothing when a program reads it."""
        if self.output_format == "text":
            print(for_terminal(text, self.style))

    def data(self, value: Any) -> None:
        """One JSON document on standard output."""
        indent = None if self.output_format == "jsonl" else 2
        print(json.dumps(value, indent=indent, ensure_ascii=True, sort_keys=False))

    def note(self, text: str) -> None:
        """A remark on standard error, for people whatever the format."""
        print(for_terminal(text, Style.for_stream(sys.stderr, self.environ)), file=sys.stderr)

    def progress(self, text: str) -> None:
        """A step of long work, on standard error, only when a person watches."""
        if sys.stderr.isatty():
            self.note(f"... {text}")

    def trust(self, policy_file: Path | None = None) -> TrustReader:
        """Reads policies and signers of the repository."""
        if policy_file not in self._trust:
            organisation = organisation_policy(self.repository, self.environ, now=time.time())
            self._trust[policy_file] = TrustReader(
                self.repository, policy_file=policy_file, organisation=organisation
            )
        return self._trust[policy_file]

    def gate(
        self,
        *,
        agent: str = "",
        branch: str = "",
        policy_file: Path | None = None,
        replay: bool = True,
        remember: bool = False,
        deadline_seconds: float = 0.0,
        jobs: int = 1,
        recorded: RecordedEvidence | None = None,
    ) -> Gate:
        """The gate of the repository; `recorded` evidence stands for a replay."""
        replayer: Replayer | RecordedEvidence | None = recorded
        if replay and recorded is None:
            replayer = Replayer(
                self.repository,
                environ=self.environ,
                progress=self.progress,
                remember=remember,
                jobs=jobs,
            )
        return Gate(
            self.repository,
            self.trust(policy_file),
            Origin(agent, branch, frozenset(self.environ)),
            version=__version__,
            now=time.time,
            evaluate_expression=evaluate_expression,
            replayer=replayer,
            kill_switch=self.kill_switch,
            deadline=Deadline(deadline_seconds) if deadline_seconds else None,
        )

    def kill_switch(self, policy: PolicyStack, agent: str) -> KillSwitch:
        """The kill switch as this machine knows it, by its own word and by its Governor's lease."""
        here = kill_switch(self.environ)
        if here.state == "engaged" or policy.governor is None:
            return here
        if self._leases is None:
            self._leases = importlib.import_module("safeai_git.lease").Leases(self.repository, self.environ)
        told: KillSwitch = self._leases.state(policy, agent)
        return told

    def deliver(self, policy: PolicyStack) -> None:
        """Deliver what waits in the spool, where the policy names a Governor.

        Raises:
            GovernorUnavailable: It did not answer, and the policy does not let verdicts wait.
            LogProofInvalid: It answered with what is not proven, or its log was forked.
        """
        if policy.governor is not None:
            # Loaded only here: who has no Governor does not wait for TLS and HTTP at every commit.
            importlib.import_module("safeai_git.commands.push").deliver(self, policy.governor)

    def switched_off(self, key: str) -> bool:
        """Whether a boolean of the git configuration says no."""
        return self.repository.config(key).lower() in ("false", "no", "off", "0")

    def key_place(self) -> str:
        """Where the private key to sign with is: a file, or a reference to one that somebody else keeps.

        ``SAFEAI_KEY``, ``git config safeai.key``, or the default place if it is there; empty for none.
        """
        named = self.environ.get(KEY_VARIABLE) or self.repository.config("safeai.key")
        if named:
            return named if is_reference(named) else str(Path(named).expanduser())
        default = default_key_folder(self.environ) / "ed25519.default.sk"
        return str(default) if default.exists() else ""

    def signer(self) -> Signer | None:
        """The key to sign with; ``None`` when none is configured.

        Raises:
            KeyUnusable: One is configured and cannot be used.
        """
        place = self.key_place()
        return self._load(place) if place else None

    def need_signer(self) -> Signer:
        """The key to sign with.

        Raises:
            KeyUnusable: There is none, or it cannot be used.
        """
        return self._load(self.need_key())

    def need_key(self) -> str:
        """Where the private key is, unread: long work should not begin when nothing can be signed at its end.

        Raises:
            KeyUnusable: None is configured.
        """
        place = self.key_place()
        if not place:
            raise KeyUnusable(
                "there is no key to sign with",
                hint="make one with 'safeai-git keys generate', or point SAFEAI_KEY at an ssh-ed25519 private key",
            )
        return place

    def _load(self, place: str) -> Signer:
        if is_reference(place):
            return open_signer(place, self.environ)
        passphrase = self.environ.get(PASSPHRASE_VARIABLE)
        return load_signer(Path(place), passphrase.encode() if passphrase else None)


def default_key_folder(environ: Mapping[str, str]) -> Path:
    """Where a person's keys are kept: below XDG_CONFIG_HOME, APPDATA or ``~/.config``."""
    base = environ.get("XDG_CONFIG_HOME") or environ.get("APPDATA")
    folder = Path(base) if base else Path(environ.get("HOME", "~")).expanduser() / ".config"
    return folder / "safeai-git" / "keys"


def kill_switch(environ: Mapping[str, str]) -> KillSwitch:
    """The kill switch as this machine knows it: ``SAFEAI_ENABLE=off`` engages it."""
    value = environ.get(ENABLE_VARIABLE, "").strip().lower()
    if value in ("", "on", "1", "true"):
        return KillSwitch()
    return KillSwitch("engaged", f"{ENABLE_VARIABLE}={value} on this machine")
