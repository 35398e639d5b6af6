"""A verdict's evidence, derived again on another machine and compared with what was claimed.

The commands come from the policy of the verdict's base, as they are in this clone: a verdict claims results, and cannot
say what is run. What is compared field by field: tree, command, level of isolation, result, exit code, signal, limit,
artifacts, and the output of checks that the policy calls deterministic. Times are not.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from msgspec import Struct

from safeai_git.core import canonical
from safeai_git.core.context import CheckEvidence
from safeai_git.core.display import safe_text
from safeai_git.core.envelope import Envelope, Opened, check_envelope
from safeai_git.core.errors import CouldNotDecide, FormatError, RepositoryError
from safeai_git.core.policy import Check, PolicyStack
from safeai_git.core.verdict import VERDICT_NAMESPACE, Claim, evidence_data, parse_statement
from safeai_git.evidence import command_digest
from safeai_git.files import read_bounded, read_json
from safeai_git.git.notes import Notes
from safeai_git.git.repository import Repository
from safeai_git.git.store import read_commit
from safeai_git.keys.ed25519 import verify
from safeai_git.replay import Replayer
from safeai_git.trust import TrustReader

_LARGEST_ENVELOPE = 1024 * 1024
_NAME = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})\Z")
_OF_THE_RUN = ("result", "exit_code", "signal", "limit")
_OF_THE_OUTPUT = ("output_bytes", "output_sha256")


class Claimed(Struct, frozen=True):
    """What a verdict says was observed.

    Attributes:
        claim: The statement.
        signer: Who signed it, in words.
        report: Digest of its report.
        whole: Whether the report is here; without it only what the statement holds can be compared.
        evidence: One mapping for each check, as in the report or in the statement.
        policy: The policy of the base, which is the one that the verdict names.
    """

    claim: Claim
    signer: str
    report: str
    whole: bool
    evidence: tuple[dict[str, Any], ...]
    policy: PolicyStack


class Field(Struct, frozen=True):
    """One figure: what was claimed, and what was found here."""

    name: str
    claimed: Any
    here: Any

    @property
    def same(self) -> bool:
        """Whether both are equal."""
        return bool(self.claimed == self.here)


class Comparison(Struct, frozen=True):
    """One check: its figures, or why there are none."""

    name: str
    fields: tuple[Field, ...]
    open: str = ""

    @property
    def differing(self) -> tuple[Field, ...]:
        """The figures that are not the same."""
        return tuple(field for field in self.fields if not field.same)

    @property
    def in_words(self) -> str:
        """The same, different, or neither."""
        if self.open:
            return f"could not be compared: {self.open}"
        return (
            "differs" if self.differing else f"the same in {', '.join(field.name for field in self.fields)}"
        )

    @property
    def data(self) -> dict[str, Any]:
        """For programs."""
        same = None if self.open else not self.differing
        fields = [{"name": one.name, "claimed": one.claimed, "here": one.here} for one in self.fields]
        return {"name": self.name, "same": same, "fields": fields, "detail": self.open}


def find(repository: Repository, trust: TrustReader, wanted: str) -> Claimed:
    """A verdict that claims evidence.

    Args:
        repository: Where its objects are.
        trust: For the policy and the signers of its base.
        wanted: A file with its envelope, or a commit: then the newest of a trusted key, or the newest at all.

    Raises:
        CouldNotDecide: There is none, or what it rests on is not here.
    """
    found = [(envelope, claim) for envelope, claim in _verdicts(repository, wanted) if _evidence(claim)]
    if not found:
        raise RepositoryError(
            f"no verdict that claims evidence is kept for {safe_text(wanted)}",
            hint="a verdict claims some where the policy has checks; 'safeai-git show' says what is kept",
        )
    signers = [_signer(trust, envelope, claim) for envelope, claim in found]
    best = max(range(len(found)), key=lambda one: (bool(signers[one]), found[one][1].time))
    claim = found[best][1]
    base = str(claim.data["predicate"]["base"]["commit"])
    for what, name in (("base commit", base), ("tree", claim.tree)):
        if name and not (_NAME.match(name) and repository.store.exists(name)):
            raise _not_here(what, name)
    policy = trust.at(base).policy
    if policy.digest != claim.policy_digest:
        raise RepositoryError(
            f"the verdict was made under policy {claim.policy_digest[:12]}, the base has {policy.digest[:12]} here",
            hint="configure the same policy of the organisation as where it was made",
        )
    digest = str(claim.data["predicate"]["report"]["sha256"])
    report = read_json(repository.private_directory / "reports" / f"{digest}.json")
    whole = isinstance(report, dict) and canonical.digest(report) == digest
    evidence = report["evidence"] if whole else _evidence(claim)
    return Claimed(
        claim, signers[best] or "a key that is not trusted here", digest, whole, tuple(evidence), policy
    )


def compare(claimed: Claimed, replayer: Replayer) -> list[Comparison]:
    """Replay each check that the verdict has evidence of, and compare."""
    compared: list[Comparison] = []
    known = {command_digest(check): check for check in claimed.policy.checks}
    for one in claimed.evidence:
        name = safe_text(str(one["name"]))
        check = known.get(str(one["command_digest"]))
        if check is None or check.name != one["name"]:
            compared.append(Comparison(name, (), "the policy of the base has no such check"))
            continue
        if one["result"] == "undecided":
            compared.append(Comparison(name, (), "it gave no answer where the verdict was made"))
            continue
        here = replayer.of_tree(
            claimed.claim.tree, [check], claimed.policy, base_tree=claimed.claim.base_tree
        )[check.name]
        open_question = here.detail if here.result == "undecided" else ""
        fields = () if open_question else tuple(_fields(one, here, check, claimed))
        compared.append(Comparison(name, fields, open_question))
    return compared


def _fields(claimed: dict[str, Any], here: CheckEvidence, check: Check, verdict: Claimed) -> list[Field]:
    found = evidence_data(here)
    names = [
        *(name for name in _OF_THE_RUN if name in claimed),
        *(_OF_THE_OUTPUT if check.deterministic else ()),
        *(["artifacts"] if check.artifacts else []),
    ]
    return [
        Field("tree", claimed.get("tree", verdict.claim.tree), here.tree),
        Field("command_digest", claimed["command_digest"], here.command_digest),
        Field("level", str(claimed["isolation"])[:1], here.isolation[:1]),
        *(Field(name, claimed[name], found[name]) for name in names if name in claimed),
    ]


def _verdicts(repository: Repository, wanted: str) -> list[tuple[Envelope, Claim]]:
    try:  # first: the working tree could have a file of a branch's name
        name = repository.commit_id(wanted)
    except RepositoryError:
        if not Path(wanted).is_file():
            raise
        lines = read_bounded(Path(wanted), _LARGEST_ENVELOPE).splitlines()
    else:
        notes = Notes(repository)
        lines = sorted({*notes.lines(name), *notes.lines(read_commit(repository.store, name).tree)})
    found: list[tuple[Envelope, Claim]] = []
    for line in lines:
        try:
            envelope = Envelope.parse(line)
            claim = parse_statement(envelope.untrusted_payload)
        except FormatError:
            continue
        if claim.kind == "verdict":
            found.append((envelope, claim))
    return found


def _evidence(claim: Claim) -> list[dict[str, Any]]:
    found = claim.data["predicate"]["evidence"]
    try:
        return [one for one in found if one["command_digest"] and one["isolation"] and one["result"]]
    except (KeyError, TypeError):
        return []


def _signer(trust: TrustReader, envelope: Envelope, claim: Claim) -> str:
    """Who signed it, if that key is trusted by the base; empty otherwise."""
    try:
        keyring = trust.at(str(claim.data["predicate"]["base"]["commit"])).keyring
    except CouldNotDecide:
        return ""
    opened = check_envelope(envelope, keyring, purpose=VERDICT_NAMESPACE, at=claim.time, verify=verify)
    return ", ".join(key.principal for key in opened.signers) if isinstance(opened, Opened) else ""


def _not_here(what: str, name: str) -> RepositoryError:
    return RepositoryError(
        f"the verdict's {what} {safe_text(name)[:40]} is not in this clone",
        hint="fetch the branch that it is on",
    )
