"""What a change does to the policy: for people who review it, as a remark beside the verdict.

The verdict does not depend on it. A new policy that is not valid is said to be so; one that cannot be read here is too.
"""

from __future__ import annotations

from msgspec import Struct

from safeai_git.core.errors import CouldNotDecide
from safeai_git.core.policy import LARGEST_POLICY, Policy
from safeai_git.core.policy_difference import Change, difference
from safeai_git.core.proposal import Proposal
from safeai_git.git.repository import Repository
from safeai_git.policyfile import load
from safeai_git.trust import FOLDER, POLICY_FILE

POLICY_PATH = FOLDER + b"/" + POLICY_FILE


class PolicyChange(Struct, frozen=True):
    """What becomes of the policy.

    Attributes:
        changes: Each effective difference.
        problem: Why there is no telling, if there is none.
    """

    changes: tuple[Change, ...] = ()
    problem: str = ""


def policy_change(repository: Repository, proposal: Proposal) -> PolicyChange | None:
    """The difference that a change makes to the repository's policy; ``None`` when it does not touch the file."""
    edit = next((one for one in proposal.edits if one.path == POLICY_PATH), None)
    if edit is None:
        return None
    try:
        old = _policy(repository, edit.old_id, edit.old_mode, "the policy as it is")
        new = _policy(repository, edit.new_id, edit.new_mode, "the policy as it would be")
    except CouldNotDecide as error:
        return PolicyChange(problem=error.message)
    return PolicyChange(tuple(difference(old, new)))


def _policy(repository: Repository, blob: str, mode: int, source: str) -> Policy:
    if not blob:
        return Policy.builtin()
    if mode & 0o170000 != 0o100000:
        raise CouldNotDecide(f"{source} is not a plain file")
    if repository.store.header(blob)[1] > LARGEST_POLICY:
        raise CouldNotDecide(f"{source} is larger than {LARGEST_POLICY:,} bytes")
    return load(repository.store.read(blob)[1], source)
