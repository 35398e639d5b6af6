"""What a verdict needs to know besides the change and the policy: the kill switch, and what a replay observed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from msgspec import Struct, field

from safeai_git.core.errors import CouldNotDecide

KillSwitchState = Literal["released", "engaged", "stale", "none"]


class KillSwitch(Struct, frozen=True):
    """The kill switch as it is known here.

    ``stale`` means that the last lease is older than the policy allows, ``none`` that no Governor is asked at all.
    """

    state: KillSwitchState = "none"
    reason: str = ""


CheckResult = Literal["passed", "failed", "undecided"]


class Artifact(Struct, frozen=True):
    """A file that a check made: its path in the tree, SHA-256 in hex, size in bytes."""

    path: str
    sha256: str
    bytes: int


class CheckEvidence(Struct, frozen=True):
    """What a replay observed of one check.

    Attributes:
        name: The check's name in the policy.
        result: ``undecided`` covers everything that kept the check from giving an answer of its own.
        detail: One sentence: the exit code, the signal, the limit, or why it could not run.
        command_digest: SHA-256, hex, of the canonical JSON of what was run.
        tree: The tree that it ran on.
        seconds: Wall clock.
        output_bytes, output_sha256: Of everything that it printed.
        isolation: The sandbox's level and backend, e.g. ``B bubblewrap``; empty when nothing ran.
        exit_code: The command's own; ``None`` when it was stopped or nothing ran.
        signal: The signal that it was stopped with.
        limit: The limit that stopped it or that it ran into by its own account; empty when none.
        limits: What it was allowed, by the names of `sandbox.port.Limits`, in whole numbers.
        attempts: How often it ran; the figures are of the last time.
        artifacts: The declared files that it made.
        prepared: SHA-256, hex, of the content of its prepared environment; empty when it has none.
    """

    name: str
    result: CheckResult
    detail: str
    command_digest: str = ""
    tree: str = ""
    seconds: float = 0.0
    output_bytes: int = 0
    output_sha256: str = ""
    isolation: str = ""
    exit_code: int | None = None
    signal: int | None = None
    limit: str = ""
    limits: Mapping[str, int] = field(default_factory=dict)
    attempts: int = 1
    artifacts: tuple[Artifact, ...] = ()
    prepared: str = ""


def _no_expressions(when: str, facts: Mapping[str, Any]) -> bool:
    raise CouldNotDecide(f"no policy VM was given to evaluate {when!r} on {len(facts)} facts")


def nothing_ruled_out(_when: str, _facts: Mapping[str, Any]) -> bool:
    """No quick look: each edit is asked for."""
    return False


class Context(Struct, frozen=True):
    """Facts of the moment.

    Attributes:
        kill_switch: Its state.
        evidence: What a replay observed, by check name; a check without an entry was not replayed.
        replay_expected: False for a change that is refused anyway, and for a step inside a range whose end is
            replayed instead.
        evaluate_expression: The policy VM: an expression's text and the facts, to true or false. Raises
            `CouldNotDecide` for anything else.
        rules_out: A quick look before an expression is asked of each edit: true only where it is sure to be false for
            every one of the facts' ``edits``; false tells nothing.
        branch: The branch's short name, where it is known.
    """

    kill_switch: KillSwitch = KillSwitch()
    evidence: Mapping[str, CheckEvidence] = field(default_factory=dict)
    replay_expected: bool = True
    evaluate_expression: Callable[[str, Mapping[str, Any]], bool] = _no_expressions
    rules_out: Callable[[str, Mapping[str, Any]], bool] = nothing_ruled_out
    branch: str = ""
