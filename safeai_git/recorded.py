"""What an earlier job saw of the checks, taken from its report: for a job that signs and must not run the change.

The replay runs where there is nothing to steal, the key is used where nothing of the change runs. What the first job
reports is believed as far as that job is: whoever breaks out of its sandbox can make checks pass, and cannot sign.
Taken is only what is about the very tree and the very command that are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from safeai_git.core import canonical
from safeai_git.core.canonical import JSON
from safeai_git.core.context import CheckEvidence, CheckResult
from safeai_git.core.display import safe_text
from safeai_git.core.errors import FormatError, StorageError
from safeai_git.core.policy import Check, PolicyStack
from safeai_git.core.proposal import Proposal
from safeai_git.evidence import command_digest, undecided
from safeai_git.files import read_bounded

LARGEST = 32 * 1024 * 1024
_RESULTS: dict[str, CheckResult] = {one: one for one in get_args(CheckResult)}


class RecordedEvidence:
    """The evidence in another job's report (``--report json=FILE`` of `check` or `ci`).

    Args:
        path: The report.

    Raises:
        FormatError: It is no report.
        StorageError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            data = read_bounded(path, LARGEST)
        except OSError as error:
            raise StorageError(f"the evidence {path} cannot be read: {error.strerror or error}") from error
        self._seen: dict[tuple[str, str], CheckEvidence] = {}
        whole = canonical.loads(data, limit=LARGEST)
        judgements = whole.get("judgements") if isinstance(whole, dict) else None
        if not isinstance(judgements, list):
            raise FormatError(
                f"{path} is no report with judgements",
                hint="make it with --report json=FILE in the job that replays",
            )
        for judgement in judgements:
            told = judgement.get("evidence") if isinstance(judgement, dict) else None
            for one in told if isinstance(told, list) else ():
                found = _read(one)
                self._seen.setdefault((found.tree, found.command_digest), found)

    def evidence(
        self, proposal: Proposal, checks: Iterable[Check], policy: PolicyStack | None = None
    ) -> dict[str, CheckEvidence]:
        """What was seen of each check on the proposed tree; what was not is undecided, never passed.

        Args:
            proposal: The change.
            checks: Of the base commit's policy.
            policy: All layers: what a check may not be shown, keeps it from counting here too.
        """
        found: dict[str, CheckEvidence] = {}
        for check in checks:
            known = self._seen.get((proposal.tree, command_digest(check)))
            if known is None or (policy is not None and policy.refused_mounts(check)):
                known = undecided(
                    check, proposal.tree, "the job that replays reported nothing of it on this tree"
                )
            found[check.name] = known
        return found


def _read(value: JSON) -> CheckEvidence:
    match value:
        case {
            "name": str(name),
            "result": str(result),
            "detail": str(detail),
            "command_digest": str(digest),
            "tree": str(tree),
            "milliseconds": int(milliseconds),
            "output_bytes": int(output_bytes),
            "output_sha256": str(output_sha256),
            "isolation": str(isolation),
        } if result in _RESULTS:
            told = f"{safe_text(isolation)[:80]}, in an earlier job"
            return CheckEvidence(
                safe_text(name)[:120],
                _RESULTS[result],
                safe_text(detail)[:500],
                digest,
                tree,
                milliseconds / 1000,
                output_bytes,
                output_sha256,
                told,
            )
    raise FormatError("the report holds evidence in a form that is not known here")
