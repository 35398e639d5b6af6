"""A verdict as a SLSA Verification Summary, for consumers that know that format and not ours.

Format: slsa.dev, "Verification Summary Attestation (VSA)", version 1; ``docs/formats/vsa.md`` says which of our values
stands where. It repeats what the verdict says and names the verdict's envelope; it claims no SLSA level.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from safeai_git.core import canonical
from safeai_git.core.display import safe_text
from safeai_git.core.envelope import MAX_PAE, PAYLOAD_TYPE, pae
from safeai_git.core.errors import FormatError
from safeai_git.core.policy import PolicyStack
from safeai_git.core.trust import format_time
from safeai_git.core.verdict import STATEMENT_TYPE, Claim

VSA_TYPE = "https://slsa.dev/verification_summary/v1"
VERIFIER = "https://safe-ai.dev/safeai-git"
ALLOWED = "SAFEAI_ALLOWED"
"""What a passed summary has verified. Levels of one's own are allowed if they do not begin with ``SLSA_``."""

_TAG = "tag:safe-ai.dev,2026:"
_HOSTED = re.compile(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?:/[A-Za-z0-9._~-]+)+")


def summary(claim: Claim, envelope_digest: str) -> bytes:
    """The summary of one verdict: an in-toto statement in canonical JSON, small enough to sign anywhere.

    Args:
        claim: The verdict. Only ``allow`` passes: a review that approvals lift still fails, since a verdict does not
            know of them.
        envelope_digest: SHA-256, in hex, of the envelope that the verdict came in, which is what the summary rests on.

    Raises:
        FormatError: It is no verdict, or its names are too long for a summary.
    """
    if claim.kind != "verdict":
        raise FormatError(f"a summary is made from a verdict, not from an {claim.kind}")
    passed = claim.decision == "allow"
    try:
        predicate = claim.data["predicate"]
        payload = canonical.dumps(
            {
                "_type": STATEMENT_TYPE,
                "subject": claim.data["subject"],
                "predicateType": VSA_TYPE,
                "predicate": {
                    "verifier": {"id": VERIFIER},
                    "timeVerified": predicate["time"],
                    "resourceUri": resource_uri(claim.repository),
                    "policy": {
                        "uri": _TAG + "policy/" + _quoted(str(predicate["policy"]["source"])),
                        "digest": {"sha256": claim.policy_digest},
                    },
                    "inputAttestations": [
                        {
                            "uri": _TAG + "verdict/" + envelope_digest,
                            "digest": {"sha256": envelope_digest},
                        }
                    ],
                    "verificationResult": "PASSED" if passed else "FAILED",
                    "verifiedLevels": [ALLOWED if passed else "FAILED"],
                },
            }
        )
    except KeyError as error:
        raise FormatError(f"the verdict lacks {error}, which a summary needs") from error
    if len(pae(PAYLOAD_TYPE, payload)) > MAX_PAE:
        raise FormatError("the names in the verdict are too long for a summary that can be signed")
    return payload


def of_verification(policy: PolicyStack, commit: str, tree: str, *, passed: bool, time: int) -> bytes:
    """The summary of a whole verification, which ends at a commit: every governed commit up to it passed, or not.

    Args:
        policy: That of the verification's trust root.
        commit: The end.
        tree: Its tree.
        passed: What it came to.
        time: Seconds since 1970.

    Raises:
        FormatError: The names are too long for a summary.
    """
    payload = canonical.dumps(
        {
            "_type": STATEMENT_TYPE,
            "subject": [
                {"name": "commit", "digest": {"gitCommit": commit}},
                {"name": "tree", "digest": {"gitTree": tree}},
            ],
            "predicateType": VSA_TYPE,
            "predicate": {
                "verifier": {"id": VERIFIER},
                "timeVerified": format_time(time),
                "resourceUri": resource_uri(safe_text(policy.repository)),
                "policy": {
                    "uri": _TAG + "policy/" + _quoted(safe_text(policy.source)),
                    "digest": {"sha256": policy.digest},
                },
                "verificationResult": "PASSED" if passed else "FAILED",
                "verifiedLevels": [ALLOWED if passed else "FAILED"],
            },
        }
    )
    if len(pae(PAYLOAD_TYPE, payload)) > MAX_PAE:
        raise FormatError("the policy's names are too long for a summary that can be signed")
    return payload


def resource_uri(repository: str) -> str:
    """A repository's name as a URI: ``git+https://`` before ``host/path``, a tag URI (RFC 4151) of any other name."""
    if _HOSTED.fullmatch(repository):
        return "git+https://" + repository
    return _TAG + "repository/" + _quoted(repository)


def _quoted(text: str) -> str:
    return quote(text, safe="/")
