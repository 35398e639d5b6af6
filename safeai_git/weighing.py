"""What the envelopes about one change are worth: which verdict counts, and why the others do not.

Promises that a verdict counts only for the change, the repository and the policy that it names, under a key that is
trusted there and still was when the change came into the history at hand. Refuses what is dated in the future: the
time is the signer's own claim, and a key that is not valid yet would be by then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from msgspec import Struct

from safeai_git.approvals import counted, from_the_future, people
from safeai_git.core.attribution import Attribution
from safeai_git.core.envelope import Envelope, Rejected, check_envelope
from safeai_git.core.errors import FormatError
from safeai_git.core.evaluate import of_message
from safeai_git.core.finding import Outcome
from safeai_git.core.policy import Policy
from safeai_git.core.policy_parts import TIERS
from safeai_git.core.publickey import PublicKey
from safeai_git.core.receipt import START as RECEIPT
from safeai_git.core.trust import KeyDirectory, Refusal, TrustedKey
from safeai_git.core.verdict import VERDICT_NAMESPACE, Claim, parse_statement
from safeai_git.git.repository import NOTES_REF, REMOTE_NOTES
from safeai_git.keys.ed25519 import verify as verify_signature
from safeai_git.trust import Trust

Worth = Literal["valid", "unapproved", "denied", "invalid", "missing"]

FETCH_NOTES = f"git fetch origin '+{NOTES_REF}:{REMOTE_NOTES.format(remote='origin')}'"

_MOST_NAMED_CHECKS = 8
"""Checks that a statement names at most (`core.verdict`); an allowing verdict that names so many had all pass."""


class Subject(Struct, frozen=True):
    """A change that a verdict has to be about.

    Attributes:
        tree, base_tree: Where it leads and what it starts from (empty for nothing).
        who: Who wrote it, by its own metadata.
    """

    tree: str
    base_tree: str
    who: Attribution


class Court(Struct, frozen=True):
    """What envelopes are held against.

    Attributes:
        trust: Policy and keys of one trust root.
        limit: Keys that a signature must be trusted by as well, so that one that was taken out stays out.
        now: Seconds since 1970.
    """

    trust: Trust
    limit: KeyDirectory
    now: float

    @property
    def keys(self) -> KeyDirectory:
        """The keys whose signatures count."""
        return (
            self.trust.keyring if self.limit is self.trust.keyring else _Both(self.trust.keyring, self.limit)
        )


class _Both(Struct, frozen=True):
    """Two key directories that both have to agree."""

    first: KeyDirectory
    second: KeyDirectory

    def public(self, key_id: str) -> PublicKey | None:
        return self.first.public(key_id)

    def trusts(self, key_id: str, namespace: str, at: int | None) -> TrustedKey | Refusal:
        answer, limit = (one.trusts(key_id, namespace, at) for one in (self.first, self.second))
        return limit if isinstance(limit, Refusal) else answer


class Weighed(Struct, frozen=True):
    """What the envelopes about a change come to; see `verify.CommitResult` for the fields.

    ``claim`` and ``envelope`` are the verdict that counts, if one does.
    """

    status: Worth
    reason: str
    hint: str = ""
    signed_by: tuple[str, ...] = ()
    approved_by: tuple[str, ...] = ()
    claim: Claim | None = None
    envelope: Envelope | None = None


class _Counting(NamedTuple):
    """A verdict that counts, who signed it, and the envelope that it came in."""

    claim: Claim
    signed_by: tuple[str, ...]
    envelope: Envelope


def weigh(lines: Iterable[bytes], subject: Subject, court: Court) -> Weighed:
    """Weigh all envelopes about one change.

    The newest verdict that counts decides, at the same second the strictest; where none counts, the reason is that of
    the one that came closest.
    """
    there = sorted(line for line in set(lines) if not line.startswith(RECEIPT))
    verdicts: list[_Counting] = []
    failed = (0, "")
    for line in there:
        try:
            envelope = Envelope.parse(line)
            claim = parse_statement(envelope.untrusted_payload)
        except FormatError as error:
            failed = max(failed, (1, error.message))
            continue
        if claim.kind != "verdict":
            continue
        mismatch = next(_mismatches(claim, subject, court), None)
        if mismatch:
            failed = max(failed, mismatch)
            continue
        opened = _open(envelope, claim, court)
        if isinstance(opened, str):
            failed = max(failed, (9, opened))
        else:
            verdicts.append(_Counting(claim, opened, envelope))
    if verdicts:
        return _decide(verdicts, there, subject, court)
    if failed[1]:
        hint = "judge the commit again: 'safeai-git check --range BASE..HEAD' with a trusted key"
        return Weighed("invalid", failed[1], hint)
    hint = f"fetch the verdicts ({FETCH_NOTES}) or make them ('safeai-git check --range BASE..HEAD')"
    return Weighed("missing", "no verdict is there for this commit", hint)


def passed_checks(lines: Iterable[bytes], tree: str, courts: Iterable[Court]) -> frozenset[str] | None:
    """Names of the checks that trusted verdicts saw pass on a tree, wherever the change began; ``None`` for all."""
    names: set[str] = set()
    judges = list(courts)
    for line in set(lines):
        try:
            envelope = Envelope.parse(line)
            claim = parse_statement(envelope.untrusted_payload)
        except FormatError:
            continue
        if claim.kind != "verdict" or claim.tree != tree or not claim.checks:
            continue
        for court in judges:
            ours = (court.trust.policy.repository, court.trust.policy.digest)
            if (claim.repository, claim.policy_digest) == ours and not isinstance(
                _open(envelope, claim, court), str
            ):
                if claim.decision == "allow" and len(claim.checks) >= _MOST_NAMED_CHECKS:
                    return None
                names |= claim.checks
    return frozenset(names)


def _open(envelope: Envelope, claim: Claim, court: Court) -> tuple[str, ...] | str:
    """Who signed a verdict, or why it counts for nothing."""
    if from_the_future(claim, court.now):
        return "the verdict is dated in the future"
    opened = check_envelope(
        envelope, court.keys, purpose=VERDICT_NAMESPACE, at=claim.time, verify=verify_signature
    )
    return opened.message if isinstance(opened, Rejected) else people(opened.signers)


def _decide(verdicts: list[_Counting], lines: list[bytes], subject: Subject, court: Court) -> Weighed:
    severity = {"allow": 0, "review": 1, "deny": 2}
    one = max(verdicts, key=lambda one: (one.claim.time, severity[one.claim.decision]))
    by, claim = one.signed_by, one.claim
    if claim.decision == "deny":
        why = "'safeai-git show' tells why"
        return Weighed("denied", "the verdict denies it", why, by, (), claim, one.envelope)
    # The verdict is about the change and serves it under any message, so what the message lacks is asked here.
    said = of_message(subject.who, court.trust.policy)
    worst = max(said, key=lambda finding: finding.outcome, default=None)
    if worst is not None and worst.outcome is Outcome.DENY:
        return Weighed("denied", worst.message, worst.remedy, by, (), claim, one.envelope)
    asks = worst if worst is not None and worst.outcome is Outcome.REVIEW else None
    if claim.decision == "allow" and asks is None:
        return Weighed("valid", "a trusted verdict allows it", "", by, (), claim, one.envelope)
    approved = counted(lines, subject.base_tree, subject.tree, court.trust, keys=court.keys, now=court.now)
    needed = court.trust.policy.threshold
    if len(approved) >= needed:
        return Weighed("valid", "approved", "", by, approved, claim, one.envelope)
    return Weighed(
        "unapproved",
        f"{asks.message if asks else 'the verdict asks for review'}; {len(approved)} of {needed} approvals are there",
        "an approver runs 'safeai-git approve COMMIT'",
        by,
        approved,
        claim,
        one.envelope,
    )


def _mismatches(claim: Claim, subject: Subject, court: Court) -> Iterator[tuple[int, str]]:
    """Why a verdict is not about this change, the farthest off first, each with how close it came."""
    policy = court.trust.policy
    if claim.tree != subject.tree:
        yield 2, f"the verdict is about tree {claim.tree[:12]}, the commit's is {subject.tree[:12]}"
    if claim.base_tree != subject.base_tree:
        base, ours = claim.base_tree[:12] or "nothing", subject.base_tree[:12] or "nothing"
        yield 3, f"the verdict starts from tree {base}, the commit from {ours}"
    if claim.repository != policy.repository:
        yield 4, f"the verdict is about the repository '{claim.repository}', this is '{policy.repository}'"
    if claim.policy_digest != policy.digest:
        yield 5, "the verdict was made under another policy"
    if not claim.governed:
        yield 6, "the verdict says that the change is not governed, and it is"
    said = claim.data["predicate"]["attribution"]
    agent = str(said.get("agent", ""))
    if any(_gives_more(layer, said["class"], agent, subject.who) for layer in policy.layers):
        yield (
            7,
            (
                f"the verdict was made for '{agent or said['class']}', whom the policy allows more than "
                f"'{subject.who.agent or subject.who.author_class}'"
            ),
        )


def _gives_more(layer: Policy, said_class: str, said_agent: str, who: Attribution) -> bool:
    """Whether a policy layer is easier on the author that a verdict names than on the one of the commit."""
    who = layer.counted(who)
    if not layer.governs(who.author_class):
        return False
    return (
        not layer.governs(said_class)
        or TIERS.index(layer.tier(said_agent)) > TIERS.index(layer.tier(who.agent))
        or (layer.admits(said_agent) and not layer.admits(who.agent))
    )
