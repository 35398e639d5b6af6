"""What a pipeline asks of `verify` beyond valid verdicts: a ref, a merge that is still to come, approvals, signers."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from safeai_git.core.errors import WrongUse
from safeai_git.core.trust import matches
from safeai_git.core.values import replace
from safeai_git.verify import CommitResult

_MOST = 100


class Demands(Struct, frozen=True):
    """The wishes of one verification.

    Attributes:
        ref: The end of what is verified; empty for HEAD.
        mergeable: The branch that it is to be merged into; empty where it has landed.
        agent_approved: How many approvals each change by an agent needs, whatever the policy asks for.
        signed_by: Patterns of principals, one of which must have signed each verdict; empty for any.
        vsa: Where a summary in SLSA's form goes; empty for nowhere, ``-`` for standard output.
    """

    ref: str = ""
    mergeable: str = ""
    agent_approved: int = 0
    signed_by: tuple[str, ...] = ()
    vsa: str = ""

    @classmethod
    def parse(cls, ref: str, mergeable: str, required: Sequence[str], vsa: str) -> Demands:
        """Read the values of the options.

        Raises:
            WrongUse: One of ``--require`` is none that there is.
        """
        approved, signed = 0, []
        for one in required:
            name, _, value = one.partition("=")
            if (
                name == "agent-approved"
                and value.isascii()
                and value.isdigit()
                and 1 <= int(value[:9]) <= _MOST
            ):
                approved = max(approved, int(value[:9]))
            elif name == "signed-by" and value:
                signed.append(value)
            else:
                raise WrongUse(
                    f"'--require {one}' asks for nothing that is known here",
                    hint=f"agent-approved=N (1 to {_MOST}) or signed-by=PATTERN",
                )
        return cls(ref, mergeable, approved, tuple(signed), vsa)

    def held_against(self, result: CommitResult) -> CommitResult:
        """A result, refused where it does not come up to what is asked for."""
        if result.status != "valid":
            return result
        if self.signed_by and not any(matches(who, self.signed_by) for who in result.signed_by):
            why = (
                f"its verdict is signed by {', '.join(result.signed_by)}, not by {', '.join(self.signed_by)}"
            )
            return replace(result, status="invalid", reason=why, hint="have it judged where that key is")
        have = len(result.approved_by)
        if result.attribution.author_class in ("ai", "mixed") and have < self.agent_approved:
            why = f"an agent wrote it, and {have} of {self.agent_approved} approvals are there"
            hint = f"an approver runs 'safeai-git approve {result.commit[:12]}'"
            return replace(result, status="unapproved", reason=why, hint=hint)
        return result
