"""The Governor's own decisions: a change comes as a git bundle, and goes back judged, signed and logged.

Facts are read from the bundle's objects by the same gate as everywhere. The policy is that of the base commit, below the
organisation's; which commit is the base is the caller's word, and the verdict is bound to it: elsewhere it is worth
nothing. Nothing of the change runs unless replays are configured, and then in the sandbox.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safeai_git import __version__
from safeai_git.core.display import safe_text
from safeai_git.core.envelope import Envelope
from safeai_git.core.errors import KeyUnusable, StorageError, WrongUse
from safeai_git.core.finding import Decision
from safeai_git.core.log.entry import Draft
from safeai_git.core.verdict import finding_data, report, statement
from safeai_git.gate import Deadline, Gate, Judgement, worst
from safeai_git.git.bundle import Budget, commit_of, opened_bundle
from safeai_git.git.facts import Origin
from safeai_git.git.history import commits_between
from safeai_git.git.repository import Repository
from safeai_git.governor.audit_log import Receipt
from safeai_git.governor.key_registry import KeyRegistry
from safeai_git.governor.kill_switch import KillSwitchService
from safeai_git.governor.policies import PolicyService
from safeai_git.governor.records import ANSWER_SECONDS, NotAllowed, Records
from safeai_git.governor.workspace import Workspace
from safeai_git.keys.port import Signer
from safeai_git.keys.seal import seal
from safeai_git.policy_vm import evaluate_expression, rules_out
from safeai_git.replay import Replayer
from safeai_git.trust import Trust, TrustReader

MOST_COMMITS = 250
"""Commits of one change."""

DEADLINE_SECONDS = 60.0
"""For reading and judging a change."""

REPLAY_SECONDS = 840.0
"""What is allowed on top where checks are replayed; each has its own limits, too."""

_MOST_FINDINGS = 1_000
_LONGEST_CLAIM = 256


class Busy(StorageError):
    """As many changes are being judged as may be at once."""


class TooManyCommits(WrongUse):
    """A change has more commits than are judged in one go."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be decided, and who asks.

    Attributes:
        repository: The name that the caller is authorised for.
        base, head: Commit ids.
        branch: The change's branch; empty where unknown.
        by: Who asks.
        claims: What the proof of that said, for the log.
        everywhere: The caller may ask for every repository.
    """

    repository: str
    base: str
    head: str
    by: str
    branch: str = ""
    claims: Mapping[str, str] | None = None
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class Signed:
    """One verdict of an answer."""

    judgement: Judgement
    envelope: Envelope
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Answer:
    """What was decided.

    Attributes:
        decision: The strictest of all that was judged.
        judged: Each commit, the net change, the result of the merge.
        signed: The verdicts on what the policy governs.
        receipt: Of the entry that says who asked what.
        replayed: Whether checks are replayed here; if not, they count as not replayed.
    """

    decision: Decision
    judged: tuple[Judgement, ...]
    signed: tuple[Signed, ...]
    receipt: Receipt
    replayed: bool

    def data(self) -> dict[str, Any]:
        """The answer as the API gives it; on top the verdict on the whole change, below every one."""
        whole = self.signed[-1] if self.signed else None
        findings: list[dict[str, Any]] = []
        for one in self.judged:
            findings += [
                data for finding in one.verdict.findings if (data := finding_data(finding)) not in findings
            ]
        return {
            "decision": self.decision,
            "replayed": self.replayed,
            "findings": findings[:_MOST_FINDINGS],
            "envelope": None if whole is None else _envelope(whole.envelope),
            "receipt": (whole.receipt if whole else self.receipt).proof().format().decode(),
            "index": (whole.receipt if whole else self.receipt).index,
            "verdicts": [
                {
                    "kind": one.judgement.verdict.proposal.kind,
                    "commit": one.judgement.verdict.proposal.head_commit,
                    "tree": one.judgement.verdict.proposal.tree,
                    "decision": one.judgement.decision,
                    "envelope": _envelope(one.envelope),
                    "report": report(one.judgement.verdict, one.judgement.stamp),
                    "receipt": one.receipt.proof().format().decode(),
                    "index": one.receipt.index,
                }
                for one in self.signed
            ],
        }


@dataclass(frozen=True, slots=True)
class Parts:
    """What a decision rests on."""

    records: Records
    keys: KeyRegistry
    policies: PolicyService
    switches: KillSwitchService
    signer: Signer


class DecisionService:
    """Judges changes that are sent in.

    Args:
        parts: The Governor's state, and its key.
        folder: Where bundles are opened.
        at_once: How many are judged at the same time.
        budget: How much a bundle may be.
        replay: Whether checks that a policy asks for are replayed here; if not, they count as not replayed.
    """

    def __init__(
        self,
        parts: Parts,
        folder: Path,
        *,
        at_once: int = 2,
        budget: Budget | None = None,
        replay: bool = False,
    ) -> None:
        self._parts = parts
        self._budget = budget or Budget()
        self._replay = replay
        self._slots = threading.BoundedSemaphore(at_once)
        self._workspace = Workspace(folder)

    def close(self) -> None:
        """Remove what is left of bundles."""
        self._workspace.close()

    def decide(self, question: Question, bundle: bytes) -> Answer:
        """Judge a change, sign and log what comes out.

        Raises:
            BundleRefused: The bundle is none, damaged, too large, or lacks what the question names.
            WrongUse: There is nothing to judge, or too much.
            NotAllowed: The base's policy is that of another repository than the caller is authorised for.
            Busy: Too much is being judged already.
            CouldNotDecide: The change cannot be read, the policy is not valid, or the log cannot take the verdict.
        """
        self._refuse_without_key()
        if not self._slots.acquire(blocking=False):
            raise Busy("other changes are being judged", hint="ask again in a moment")
        try:
            with (
                self._workspace.folder() as folder,
                opened_bundle(bundle, folder, self._budget) as repository,
            ):
                judged = self._judge(repository, question)
        finally:
            self._slots.release()
        return self._log(question, judged, hashlib.sha256(bundle).hexdigest(), len(bundle))

    def _judge(self, repository: Repository, question: Question) -> list[Judgement]:
        base, head = commit_of(repository, question.base), commit_of(repository, question.head)
        trust = TrustReader(repository, organisation=self._parts.policies.layer())
        self._refuse_other_repository(trust.at(base), question)
        commits = len(commits_between(repository, base, head))
        if not commits:
            raise WrongUse(
                f"there is nothing to judge: {head[:12]} brings nothing that {base[:12]} does not have",
                hint="'base' is the commit that the change goes to, 'head' its end",
            )
        if commits > MOST_COMMITS:
            raise TooManyCommits(f"the change has {commits:,} commits; {MOST_COMMITS} are judged at once")
        name = question.repository
        state: Callable[[Any, str], Any] = lambda _, agent: self._parts.switches.state(name, agent)  # noqa: E731
        gate = Gate(
            repository,
            trust,
            Origin(branch=safe_text(question.branch)[:200]),
            version=__version__,
            now=self._parts.records.now,
            evaluate_expression=evaluate_expression,
            rules_out=rules_out,
            kill_switch=state,
            replayer=Replayer(repository, environ={}) if self._replay else None,
            deadline=Deadline(DEADLINE_SECONDS + (REPLAY_SECONDS if self._replay else 0)),
        )
        return list(gate.range(base, head))

    @staticmethod
    def _refuse_other_repository(trust: Trust, question: Question) -> None:
        """A verdict names the repository as the policy does: what names none is good for any that names none."""
        named = trust.policy.repository
        if named != question.repository and not (question.everywhere and not named):
            says = f"names the repository {named!r}" if named else "names no repository"
            raise NotAllowed(
                f"the policy at {question.base[:12]} {says}, and {question.repository[:100]!a} was asked for",
                hint="write 'repository: NAME' into .safeai/policy.yaml, with the name that the caller is authorised for",
            )

    def _refuse_without_key(self) -> None:
        own = self._parts.keys.fresh().find(self._parts.signer.key_id)
        if own is None or own.revoked is not None:
            raise KeyUnusable(
                f"the Governor's key {self._parts.signer.key_id} is {'revoked' if own else 'not on the log'}",
                hint="start the Governor with another key (SAFEAI_KEY_ID)",
            )

    def _log(self, question: Question, judged: list[Judgement], digest: str, size: int) -> Answer:
        parts = self._parts
        governed = [one for one in judged if one.verdict.governed and one.verdict.proposal.tree]
        envelopes = [seal(statement(one.verdict, one.stamp), [parts.signer]) for one in governed]
        decision = worst(judged)
        drafts = [
            Draft.of_envelope("verdict", f"sha256:{one.digest}", one, unless=parts.keys.kept_out_by(one))
            for one in envelopes
        ]
        claims = sorted((question.claims or {}).items())
        asked: dict[str, Any] = {
            "repository": question.repository,
            "base": question.base,
            "head": question.head,
            "branch": safe_text(question.branch)[:200],
            "by": question.by,
            "claims": {name: safe_text(value)[:_LONGEST_CLAIM] for name, value in claims},
            "bundle": {"sha256": digest, "bytes": size},
            "decision": decision,
            "verdicts": [one.digest for one in envelopes],
        }
        drafts.append(Draft.of_data("decision", f"decision:{time.time_ns()}:{secrets.token_hex(8)}", asked))
        results = parts.records.log.submit(drafts).wait(ANSWER_SECONDS)
        receipts = [one for one in results if isinstance(one, Receipt)]
        if len(receipts) != len(drafts):
            raise KeyUnusable("the Governor's key was revoked while it judged", hint="see GET /v1/keys")
        signed = zip(governed, envelopes, receipts, strict=False)
        return Answer(
            decision, tuple(judged), tuple(Signed(*one) for one in signed), receipts[-1], self._replay
        )


def _envelope(envelope: Envelope) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(envelope.format())
    return data
