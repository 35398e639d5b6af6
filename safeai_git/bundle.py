"""Evidence bundles, held against keys without a repository: what is proven, and which part does not hold.

The verdict's trees and the policy's text are bound to the commit by git's own hashes, everything else by signatures
and digests. Trusted are the keys that the caller brings, never any that came along. `bundling` makes bundles.

What a bundle cannot prove: that no later verdict denies the same change. Ask the log, or `verify` in the repository.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from msgspec import Struct

from safeai_git.agents import catalogue
from safeai_git.approvals import counted
from safeai_git.core import canonical
from safeai_git.core.bundle import Bundle, GitObject, object_name
from safeai_git.core.canonical import JSON
from safeai_git.core.errors import FormatError, LogProofInvalid, PolicyError
from safeai_git.core.log.note import NoteKey
from safeai_git.core.objects import Commit, TreeEntry, parse_commit, parse_tree
from safeai_git.core.policy import Policy, PolicyStack
from safeai_git.core.receipt import check_receipt
from safeai_git.core.verdict import Claim, parse_statement
from safeai_git.git.facts import Origin
from safeai_git.git.reader import who_wrote
from safeai_git.keys.ed25519 import verify as verify_signature
from safeai_git.keys.keyring import Keyring
from safeai_git.policyfile import load
from safeai_git.trust import FOLDER, POLICY_FILE, Trust, nothing_like_a_policy
from safeai_git.weighing import Court, Subject, Weighed, weigh

FARTHEST_POLICY = 1_000
"""First parents between a commit and the one whose policy judged it."""

Read = Callable[[str], tuple[str, bytes]]
"""Gives a git object's type and content by its name."""

PartName = Literal["objects", "policy", "verdict", "approvals", "report", "receipts"]


class Part(Struct, frozen=True):
    """What was found about one part of a bundle."""

    name: PartName
    holds: bool
    message: str


@dataclass(slots=True)
class Examined:
    """What a bundle proves to the holder of some keys.

    Attributes:
        commit: The commit that it is about.
        parts: In the order in which they were looked at; nothing after the first that does not hold.
        weighed: What the verdict and the approvals come to, if it came to that.
    """

    commit: str
    parts: list[Part] = field(default_factory=list)
    weighed: Weighed | None = None

    @property
    def decision(self) -> Literal["allow", "deny"]:
        """``allow`` when every part holds and the verdict lets the change pass."""
        whole = len(self.parts) == len(_ORDER) and all(part.holds for part in self.parts)
        return "allow" if whole and self.weighed is not None and self.weighed.status == "valid" else "deny"

    @property
    def claim(self) -> Claim | None:
        """What the verdict says."""
        return self.weighed.claim if self.weighed else None


_ORDER: tuple[PartName, ...] = ("objects", "policy", "verdict", "approvals", "report", "receipts")


class Demands(Struct, frozen=True):
    """What is asked of a bundle beside signatures that hold.

    Attributes:
        commit: The commit that it must be about; empty for any.
        policy: The policy that the verdict must have been made under; ``None`` for that of the commit's history.
        report: Whether the full report has to be there.
        log_keys: Keys of the one log that must hold the verdict and each approval; empty to ask for no log.
    """

    commit: str = ""
    policy: Policy | None = None
    report: bool = True
    log_keys: Sequence[NoteKey] = ()


class _RefusedPart(Exception):
    """A part does not hold; the argument says why."""


def examine(bundle: Bundle, keys: Keyring, demands: Demands, *, now: float) -> Examined:
    """Prove a bundle again, or say which part of it does not hold.

    Args:
        bundle: The file, parsed.
        keys: Whose signatures count, and for what.
        demands: What else is asked for.
        now: Seconds since 1970; what is dated later counts for nothing.
    """
    found = Examined(bundle.commit)
    case = _Case(bundle, keys, demands, now, found)
    for name in _ORDER:
        try:
            found.parts.append(Part(name, True, getattr(case, name)()))
        except (_RefusedPart, FormatError, PolicyError, LogProofInvalid) as error:
            message = str(error.args[0]) if error.args else "it does not hold"
            found.parts.append(Part(name, False, message))
            break
    return found


@dataclass(slots=True)
class _Objects:
    """Git objects by name, and which of them were asked for."""

    known: dict[str, GitObject]
    used: set[str] = field(default_factory=set)

    def read(self, name: str) -> tuple[str, bytes]:
        found = self.known.get(name)
        if found is None:
            raise _RefusedPart(f"the object {name} is not among them")
        self.used.add(name)
        return found.kind, found.data

    def commit(self, name: str) -> Commit:
        kind, data = self.read(name)
        if kind != "commit":
            raise _RefusedPart(f"the object {name} is a {kind} where a commit is needed")
        return parse_commit(data)


def policy_entry(read: Read, commit: str) -> TreeEntry | None:
    """Where the tree of a commit has the policy's file; ``None`` when it has none.

    Args:
        read: Gives an object's type and content by its name.
        commit: The commit's name.

    Raises:
        PolicyError: There is something that only looks like a policy.
    """
    folder = _entry(read, parse_commit(read(commit)[1]).tree, FOLDER)
    if folder is None or not folder.is_tree:
        return None
    found = _entry(read, folder.id, POLICY_FILE)
    if found is None:
        entries = parse_tree(read(folder.id)[1], len(commit) // 2)
        nothing_like_a_policy((one.name for one in entries), commit[:12])
    return found


def _entry(read: Read, tree: str, wanted: bytes) -> TreeEntry | None:
    kind, data = read(tree)
    if kind != "tree":
        raise _RefusedPart(f"the object {tree} is a {kind} where a tree is needed")
    return next((one for one in parse_tree(data, len(tree) // 2) if one.name == wanted), None)


@dataclass(slots=True)
class _Case:
    """One examination; the methods are the parts, each of which says what it found or raises."""

    bundle: Bundle
    keys: Keyring
    demands: Demands
    now: float
    found: Examined
    store: _Objects = field(init=False)
    commit: Commit = field(init=False)
    steps: int = 0
    trust: Trust = field(init=False)

    def objects(self) -> str:
        """The commit, its first parents and trees are what their names say, and all of them are needed."""
        bundle = self.bundle
        if self.demands.commit and bundle.commit != self.demands.commit:
            raise _RefusedPart(f"the bundle is about {bundle.commit}, not about {self.demands.commit}")
        self.store = _Objects({one.name(bundle.commit): one for one in bundle.objects})
        self.commit = self.store.commit(bundle.commit)
        at, commit = bundle.commit, self.commit
        if bundle.policy.commit == at:
            raise _RefusedPart("the policy is that of the commit itself, which chooses no judge of its own")
        wanted = bundle.policy.commit or (self.commit.parents[0] if self.commit.parents else bundle.commit)
        while at != wanted:
            if not commit.parents or self.steps >= FARTHEST_POLICY:
                raise _RefusedPart(
                    f"{wanted[:12]}, which the policy is of, is no first parent of the commit's"
                )
            at = commit.parents[0]
            commit = self.store.commit(at)
            self.steps += 1
        if bundle.policy.commit:
            policy_entry(self.store.read, bundle.policy.commit)
        more = self.store.known.keys() - self.store.used
        if more:
            raise _RefusedPart(f"nothing needs the object {min(more)}")
        return f"commit {bundle.commit[:12]}, tree {self.commit.tree[:12]}"

    def policy(self) -> str:
        """The text stands where the commit's history says, or is the one that the caller named."""
        text, wanted = self.bundle.policy, self.demands.policy
        where = f".safeai/policy.yaml at {text.commit[:12]}" if text.commit else "the policy that was named"
        own = Policy.builtin() if text.repository is None else load(text.repository.encode(), where)
        if text.commit:
            entry = policy_entry(self.store.read, text.commit)
            if (entry is None) != (text.repository is None):
                raise _RefusedPart(
                    f"the commit {text.commit[:12]} has {'no' if entry is None else 'a'} policy"
                )
            if entry is not None and text.repository is not None:
                stands = object_name("blob", text.repository.encode(), self.bundle.commit)
                if entry.id != stands or entry.mode & 0o170000 != 0o100000:
                    raise _RefusedPart(f"the text is not that of {where}")
        elif text.repository is not None or self.commit.parents:
            if wanted is None:
                raise _RefusedPart(
                    "it does not come from the repository; name the one that you expect: --policy"
                )
        elif wanted is None:
            where = "the built-in policy"
        if wanted is not None and wanted.digest != own.digest:
            raise _RefusedPart(f"{where} is not the policy that was asked for")
        layers = [own]
        if text.organisation is not None:
            layers.insert(0, load(text.organisation.encode(), "the organisation's policy"))
        stack = PolicyStack(tuple(layers))
        self.trust = Trust(stack, self.keys, text.commit, builtin=text.repository is None)
        back = f", {self.steps} commits before" if self.steps > 1 else ""
        return f"{where}{back}{', and the organisation above it' if len(layers) > 1 else ''}, {stack.digest[:16]}"

    def verdict(self) -> str:
        """A trusted key signed a verdict about this very change under this policy, and it does not deny."""
        claim = parse_statement(self.bundle.verdict.untrusted_payload)
        if claim.kind != "verdict":
            raise _RefusedPart(f"an {claim.kind} stands where the verdict should")
        base = claim.base_tree
        if len(self.commit.parents) > 1:
            # Only the repository can compute the merge; the signer's word binds the start to this very commit.
            if self.bundle.commit not in claim.commits:
                raise _RefusedPart("the commit is a merge, and the verdict does not name it")
        else:
            base = self.store.commit(self.commit.parents[0]).tree if self.commit.parents else ""
        who = who_wrote(self.commit, catalogue(), Origin())
        lines = [one.format() for one in (self.bundle.verdict, *self.bundle.approvals)]
        subject = Subject(self.commit.tree, base, who)
        self.found.weighed = weighed = weigh(lines, subject, Court(self.trust, self.keys, self.now))
        if weighed.claim is None or weighed.status == "denied":
            raise _RefusedPart(weighed.reason)
        return f"{claim.decision}, signed by {', '.join(weighed.signed_by)}"

    def approvals(self) -> str:
        """Each approval counts, and there are as many as the policy wants."""
        weighed = self.found.weighed
        if weighed is None or weighed.claim is None:
            raise _RefusedPart("there is no verdict for them")
        claim, needed = weighed.claim, self.trust.policy.threshold
        if claim.decision != "review":
            if self.bundle.approvals:
                raise _RefusedPart("the verdict asks for none, so none belongs in the bundle")
            return "none needed"
        for one in self.bundle.approvals:
            who = counted(
                [one.format()], claim.base_tree, claim.tree, self.trust, keys=self.keys, now=self.now
            )
            if not who:
                raise _RefusedPart(f"the approval {one.digest[:16]} does not count for this change")
        if weighed.status != "valid":
            raise _RefusedPart(f"{len(weighed.approved_by)} of {needed} are there")
        return f"by {', '.join(weighed.approved_by)} ({needed} needed)"

    def report(self) -> str:
        """The full report is the one that the verdict names."""
        claim = self.found.claim
        report = self.bundle.report
        if report is None or claim is None:
            if self.demands.report:
                raise _RefusedPart(
                    "it is not in the bundle, and it is asked for (--without-report waives it)"
                )
            return "not in the bundle"
        if canonical.digest(report) != claim.data["predicate"]["report"]["sha256"]:
            raise _RefusedPart("it is not the report that the verdict names")
        # The signer made it, so it has a report's form; what it says is the signer's word.
        told = [
            f"{one.get('name')} {one.get('result')} ({one.get('isolation') or 'not isolated'})"
            for one in _dicts(report.get("evidence"))
        ]
        findings = len(_dicts(report.get("findings")))
        return f"{findings} findings; replayed: {', '.join(told) or 'nothing'}"

    def receipts(self) -> str:
        """A log that is trusted holds the verdict and each approval."""
        envelopes = {one.digest: one for one in (self.bundle.verdict, *self.bundle.approvals)}
        there = {one.envelope: one for one in self.bundle.receipts}
        stray = there.keys() - envelopes.keys()
        if stray:
            raise _RefusedPart(f"one is for {min(stray)[:16]}, which is not in the bundle")
        if not self.demands.log_keys:
            return f"{len(there)}, not checked: no key of a log was named" if there else "none"
        told = []
        for digest, envelope in sorted(envelopes.items()):
            if digest not in there:
                raise _RefusedPart(f"there is none for the envelope {digest[:16]}")
            logged = check_receipt(there[digest], envelope, self.demands.log_keys, verify_signature)
            size, origin = logged.checkpoint.checkpoint.size, self.demands.log_keys[0].name
            told.append(f"entry {logged.index} of {size} in {origin}, {logged.time}")
        return "; ".join(told)


def _dicts(value: JSON) -> list[dict[str, JSON]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
