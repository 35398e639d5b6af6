"""What every command starts from: where it runs, how it talks, which key it signs with."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from safeai_git import __version__
from safeai_git.commands.quick import QuickSession
from safeai_git.core.errors import KeyUnusable
from safeai_git.core.policy import PolicyStack
from safeai_git.git.facts import Origin
from safeai_git.judging import Deadline, Replays
from safeai_git.policy_vm import evaluate_expression, rules_out
from safeai_git.report.style import Style, for_terminal

if TYPE_CHECKING:
    from safeai_git.gate import Gate
    from safeai_git.keys.port import Signer
    from safeai_git.recorded import RecordedEvidence

HOOKS = ("pre-commit", "commit-msg", "post-commit", "pre-push")
"""The hooks of a clone, in the order in which git runs them."""

KEY_VARIABLE = "SAFEAI_KEY"
PASSPHRASE_VARIABLE = "SAFEAI_KEY_PASSPHRASE"  # noqa: S105 - a name, not a secret


class Session(QuickSession):
    """One run of a command; see `QuickSession` for its attributes."""

    brief = False

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
        replayer: Replays | None = recorded
        if replay and recorded is None:
            # Loaded only here: `verify` and its like replay nothing.
            replayer = importlib.import_module("safeai_git.replay").Replayer(
                self.repository,
                environ=self.environ,
                progress=self.progress,
                remember=remember,
                jobs=jobs,
            )
        # Loaded only here: it walks history, and `replay` has no need of that.
        gate: Gate = importlib.import_module("safeai_git.gate").Gate(
            self.repository,
            self.trust(policy_file),
            Origin(agent, branch, frozenset(self.environ)),
            version=__version__,
            now=time.time,
            evaluate_expression=evaluate_expression,
            rules_out=rules_out,
            replayer=replayer,
            kill_switch=self.kill_switch,
            deadline=Deadline(deadline_seconds) if deadline_seconds else None,
        )
        return gate

    def deliver(self, policy: PolicyStack) -> None:
        """Deliver what waits in the spool, where the policy names a Governor.

        Raises:
            GovernorUnavailable: It did not answer, and the policy does not let verdicts wait.
            LogProofInvalid: It answered with what is not proven, or its log was forked.
        """
        if policy.governor is not None:
            # Loaded only here: who has no Governor does not wait for TLS and HTTP at every commit.
            importlib.import_module("safeai_git.commands.push").deliver(self, policy.governor)

    def key_place(self) -> str:
        """Where the private key to sign with is: a file, or a reference to one that somebody else keeps.

        ``SAFEAI_KEY``, ``git config safeai.key``, or the default place if it is there; empty for none.
        """
        named = self.environ.get(KEY_VARIABLE) or self.repository.config("safeai.key")
        if named:
            return named if _keeping().is_reference(named) else str(Path(named).expanduser())
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
        keeping = _keeping()
        if keeping.is_reference(place):
            signer: Signer = keeping.open_signer(place, self.environ)
        else:
            passphrase = self.environ.get(PASSPHRASE_VARIABLE)
            signer = keeping.load_signer(Path(place), passphrase.encode() if passphrase else None)
        return signer


class BriefSession(Session):
    """One that asks a repository for little and signs nothing: it remembers policies, and asks git for the first objects."""

    brief = True


def _keeping() -> ModuleType:
    """Where keys are read and asked for; loaded late, since not every command signs."""
    return importlib.import_module("safeai_git.keys.signer")


def default_key_folder(environ: Mapping[str, str]) -> Path:
    """Where a person's keys are kept: below XDG_CONFIG_HOME, APPDATA or ``~/.config``."""
    base = environ.get("XDG_CONFIG_HOME") or environ.get("APPDATA")
    folder = Path(base) if base else Path(environ.get("HOME", "~")).expanduser() / ".config"
    return folder / "safeai-git" / "keys"
