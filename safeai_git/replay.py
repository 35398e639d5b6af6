"""Replay: the policy's checks, run on the proposed tree in a sandbox, and what was observed.

Which checks, and how, comes from the policy of the base commit. The tree is written from blobs by ourselves. Nothing
here judges: evidence goes to `core.evaluate`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from safeai_git.core import canonical
from safeai_git.core.context import CheckEvidence, CheckResult
from safeai_git.core.errors import SandboxUnavailable
from safeai_git.core.policy import Check
from safeai_git.core.proposal import Proposal
from safeai_git.files import read_json, write_atomically
from safeai_git.git.proposed_tree import Laid, proposed_tree
from safeai_git.git.repository import Repository
from safeai_git.sandbox import choose
from safeai_git.sandbox.levels import caused_by_isolation, limit_met
from safeai_git.sandbox.port import Backend, Job, Limits, Outcome

Progress = Callable[[str], None]


def command_digest(check: Check) -> str:
    """SHA-256, in hex, over the canonical JSON of everything in a check that decides what runs."""
    return canonical.digest(
        {
            "run": check.run,
            "timeout_seconds": check.timeout_seconds,
            "memory_bytes": check.memory_bytes,
            "environment": sorted(check.environment),
            "read_only": sorted(check.read_only),
            "expect_exit": sorted(check.expect_exit),
            "isolation": check.isolation,
        }
    )


class Replayer:
    """Runs checks on trees of one repository and remembers what it saw.

    Args:
        repository: Where the trees are.
        environ: Values for the variables that a check asks for by name.
        progress: Told about each step, for a person who waits.
        on_output: Given the output of the checks as it comes.
        remember: Keep and reuse evidence in the repository's private folder. For hooks only: whoever can write that
            folder can write evidence, so an authority replays anew.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        environ: Mapping[str, str],
        progress: Progress = lambda _: None,
        on_output: Callable[[bytes], None] | None = None,
        remember: bool = False,
    ) -> None:
        self._repository = repository
        self._environ = environ
        self._progress = progress
        self._on_output = on_output
        self._remember = remember
        self._seen: dict[tuple[str, str], CheckEvidence] = {}

    def evidence(self, proposal: Proposal, checks: Iterable[Check]) -> dict[str, CheckEvidence]:
        """Replay every check on the proposed tree; what cannot run is undecided, never passed."""
        wanted = list(checks)
        found = {check.name: known for check in wanted if (known := self._known(proposal.tree, check))}
        missing = [check for check in wanted if check.name not in found]
        for level in sorted({check.isolation for check in missing}):
            asked = [check for check in missing if check.isolation == level]
            try:
                found |= self._run(proposal, asked, level)
            except SandboxUnavailable as error:
                found |= {
                    check.name: CheckEvidence(check.name, "undecided", error.message, command_digest(check))
                    for check in asked
                }
        return {check.name: found[check.name] for check in wanted}

    def _run(self, proposal: Proposal, checks: list[Check], level: str) -> dict[str, CheckEvidence]:
        backend = choose(state_dir=self._repository.private_directory, least=level)
        for reason in backend.isolation.not_stronger:
            self._progress(f"isolated at level {backend.isolation.level} only; not {reason}")
        found: dict[str, CheckEvidence] = {}
        identity = backend.identity
        for check in checks:
            # Each check gets a tree of its own: what one writes must not decide another.
            self._progress(f"preparing tree {proposal.tree[:12]} for {check.name}")
            with proposed_tree(
                self._repository.store,
                proposal.tree,
                repository=self._repository.root,
                layered=backend.keeps_tree,
                owner=None if identity is None else (identity.uid, identity.gid),
            ) as laid:
                self._progress(f"replaying {check.name}: {check.run}")
                outcome = backend.run(self._job(check, laid), on_output=self._on_output)
            found[check.name] = evidence = _observed(check, proposal.tree, outcome, backend)
            self._progress(f"{check.name}: {evidence.result} ({evidence.detail}, {evidence.seconds:.1f} s)")
            self._keep(evidence)
        return found

    def _job(self, check: Check, laid: Laid) -> Job:
        return Job(
            name=check.name,
            argv=("/bin/sh", "-c", check.run),
            tree=laid.tree,
            below=laid.below,
            tree_entries=laid.written.entries,
            tree_bytes=laid.written.bytes,
            mount_at=self._repository.root,
            environment={name: self._environ[name] for name in check.environment if name in self._environ},
            limits=Limits(wall_seconds=check.timeout_seconds, memory_bytes=check.memory_bytes),
            read_only=tuple(Path(folder) for folder in check.read_only),
        )

    def _known(self, tree: str, check: Check) -> CheckEvidence | None:
        key = (tree, command_digest(check))
        if key not in self._seen and self._remember:
            data = read_json(self._place(*key))
            if isinstance(data, dict) and data.get("tree") == tree and data.get("command_digest") == key[1]:
                try:
                    self._seen[key] = CheckEvidence(**data)
                except TypeError:  # written by another version
                    return None
        return self._seen.get(key)

    def _keep(self, evidence: CheckEvidence) -> None:
        if evidence.result == "undecided":
            return
        self._seen[evidence.tree, evidence.command_digest] = evidence
        if self._remember:
            text = json.dumps(asdict(evidence), sort_keys=True).encode()
            write_atomically(self._place(evidence.tree, evidence.command_digest), text)

    def _place(self, tree: str, digest: str) -> Path:
        return self._repository.private_directory / "evidence" / f"{tree}-{digest[:16]}.json"


def _observed(check: Check, tree: str, outcome: Outcome, backend: Backend) -> CheckEvidence:
    result, detail = _judged(check, outcome, backend.isolation.level)
    return CheckEvidence(
        name=check.name,
        result=result,
        detail=detail,
        command_digest=command_digest(check),
        tree=tree,
        seconds=round(outcome.seconds, 3),
        output_bytes=outcome.output_bytes,
        output_sha256=outcome.output_sha256,
        isolation=backend.isolation.in_words,
    )


def _judged(check: Check, outcome: Outcome, level: str) -> tuple[CheckResult, str]:
    if outcome.limit_hit:
        return "failed", f"stopped at its limit: {outcome.limit_hit}"
    if outcome.signal is not None:
        return "failed", f"ended by signal {outcome.signal}"
    ended = f"exit code {outcome.exit_code}"
    if outcome.exit_code in check.expect_exit:
        return "passed", ended
    if because := caused_by_isolation(level, outcome.output):
        return "undecided", f"{ended}, perhaps only because isolation of level {level} refuses it: {because}"
    if met := limit_met(outcome.exit_code, outcome.output):
        return "failed", f"{ended}, at its limit: {met}"
    return "failed", ended


def last_lines(output: bytes, number: int = 20) -> str:
    """The end of a check's output, for a message."""
    return os.linesep.join(output.decode("utf-8", "replace").splitlines()[-number:])
