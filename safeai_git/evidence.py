"""From what a sandbox observed to the evidence of a check, and how evidence is remembered.

Nothing here runs or judges a change: a check's own result (passed, failed, no answer) follows from its outcome and
from what the policy expects of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from safeai_git.core import canonical
from safeai_git.core.context import Artifact, CheckEvidence, CheckResult
from safeai_git.core.policy import Check
from safeai_git.core.values import fields
from safeai_git.files import read_json, write_atomically
from safeai_git.sandbox.levels import caused_by_isolation, limit_met
from safeai_git.sandbox.port import Isolation, Limits, Outcome


class Seen(Struct, frozen=True):
    """One run of a check: its outcome, and which of the declared files it made.

    Attributes:
        outcome: Of the sandbox.
        artifacts: Those that are there.
        missing: Why one of them is not; empty when all are.
    """

    outcome: Outcome
    artifacts: tuple[Artifact, ...] = ()
    missing: str = ""


def command_digest(check: Check) -> str:
    """SHA-256, in hex, over the canonical JSON of everything in a check that decides what runs and what counts."""
    return canonical.digest(
        {
            "run": check.run,
            "timeout_seconds": check.timeout_seconds,
            "memory_bytes": check.memory_bytes,
            "environment": sorted(check.environment),
            "read_only": sorted(check.read_only),
            "expect_exit": sorted(check.expect_exit),
            "isolation": check.isolation,
            "limits": fields(check.limits),
            "needs": sorted(check.needs),
            "deterministic": check.deterministic,
            "attempts": check.attempts if check.deterministic is False else 1,
            "artifacts": sorted(check.artifacts),
            "setup": None if check.setup is None else fields(check.setup),
        }
    )


def limits_of(check: Check) -> Limits:
    """What the sandbox lets a check use."""
    return Limits(wall_seconds=check.timeout_seconds, memory_bytes=check.memory_bytes, **fields(check.limits))


def undecided(check: Check, tree: str, why: str) -> CheckEvidence:
    """Of a check that did not run."""
    return CheckEvidence(check.name, "undecided", why, command_digest(check), tree)


def observed(
    check: Check, tree: str, runs: Sequence[Seen], isolation: Isolation, prepared: str = ""
) -> CheckEvidence:
    """The evidence of a check that ran, once or several times.

    Args:
        check: As the policy has it.
        tree: Name of the tree it ran on.
        runs: Each run in order; more than one only of a check that may fail by chance.
        isolation: What stood around it.
        prepared: Digest of the content of its prepared environment.
    """
    last = runs[-1]
    outcome = last.outcome
    results = [judged(check, one, isolation.level) for one in runs]
    result, detail, limit = results[-1]
    if len({one for one, _, _ in results}) > 1:
        result, limit = "undecided", ""
        said = ", then ".join(f"{one} ({why})" for one, why, _ in results)
        detail = f"{len(runs)} attempts at a check that may fail by chance differ: {said}"
    elif len(runs) > 1:
        detail = f"{detail}, in each of {len(runs)} attempts"
    return CheckEvidence(
        name=check.name,
        result=result,
        detail=detail,
        command_digest=command_digest(check),
        tree=tree,
        seconds=round(outcome.seconds, 3),
        output_bytes=outcome.output_bytes,
        output_sha256=outcome.output_sha256,
        isolation=isolation.in_words,
        exit_code=outcome.exit_code,
        signal=outcome.signal,
        limit=limit,
        limits={name: int(value) for name, value in fields(limits_of(check)).items()},
        attempts=len(runs),
        artifacts=last.artifacts,
        prepared=prepared,
    )


def judged(check: Check, seen: Seen, level: str) -> tuple[CheckResult, str, str]:
    """What one run says by itself: the result, a sentence, and the limit that it met."""
    outcome = seen.outcome
    if outcome.limit_hit:
        return "failed", f"stopped at its limit: {outcome.limit_hit}", outcome.limit_hit
    if outcome.signal is not None:
        return "failed", f"ended by signal {outcome.signal}", ""
    ended = f"exit code {outcome.exit_code}"
    if outcome.exit_code in check.expect_exit:
        if seen.missing:
            return "failed", f"{ended}, but it did not make what it should: {seen.missing}", ""
        return "passed", ended, ""
    met = limit_met(outcome.exit_code, outcome.output)
    if because := caused_by_isolation(level, outcome.output):
        why = f"{ended}, perhaps only because isolation of level {level} refuses it: {because}"
        return "undecided", why, met
    if met:
        return "failed", f"{ended}, at its limit: {met}", met
    return "failed", ended, ""


class EvidenceStore:
    """Remembers evidence, one file for each tree and command. Whoever can write the folder can write evidence.

    Args:
        folder: Private; made when something is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, tree: str, digest: str) -> CheckEvidence | None:
        """What is remembered; ``None`` for nothing and for what another version wrote."""
        data = read_json(self._place(tree, digest))
        if isinstance(data, dict) and data.get("tree") == tree and data.get("command_digest") == digest:
            return _read(data)
        return None

    def keep(self, evidence: CheckEvidence) -> None:
        """Remember it.

        Raises:
            StorageError: It cannot be written.
        """
        written = {**fields(evidence), "artifacts": [fields(one) for one in evidence.artifacts]}
        text = json.dumps(written, sort_keys=True).encode()
        write_atomically(self._place(evidence.tree, evidence.command_digest), text)

    def _place(self, tree: str, digest: str) -> Path:
        return self._folder / f"{tree}-{digest[:16]}.json"


def _read(data: Mapping[str, Any]) -> CheckEvidence | None:
    try:
        artifacts = tuple(Artifact(**one) for one in data["artifacts"])
        return CheckEvidence(**{**data, "artifacts": artifacts})
    except (TypeError, KeyError):
        return None


def last_lines(output: bytes, number: int = 20) -> str:
    """The end of a check's output, for a message."""
    return os.linesep.join(output.decode("utf-8", "replace").splitlines()[-number:])
