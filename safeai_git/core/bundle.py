"""Evidence bundles: everything that a verdict on one commit rests on, in one file, for whoever has no repository.

A `Bundle` is untrusted bytes, well formed and no more; `safeai_git.bundle` holds it against keys. There is one way to
write a bundle: canonical JSON (RFC 8785) and a newline. Equal evidence gives equal bytes, and what parses formats back
to itself. Format: ``docs/formats/bundle.md``.
"""

from __future__ import annotations

import hashlib
import re

from msgspec import Struct

from safeai_git.core import canonical
from safeai_git.core.canonical import JSON
from safeai_git.core.envelope import Envelope
from safeai_git.core.errors import FormatError
from safeai_git.core.log import base64
from safeai_git.core.log.proof import LogProof
from safeai_git.core.receipt import Receipt

BUNDLE_TYPE = "https://safe-ai.dev/bundle/v1"

LARGEST_BUNDLE = 32 * 1024 * 1024
"""Bytes of a bundle's file. A report of 100,000 paths takes about half of it."""

MOST_OBJECTS = 1_024
MOST_APPROVALS = 256

_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_MEMBERS = frozenset({"type", "commit", "objects", "policy", "verdict", "approvals", "report", "receipts"})
_DEPTH = 12


class GitObject(Struct, frozen=True):
    """A commit or a tree as git keeps it.

    Attributes:
        kind: ``commit`` or ``tree``.
        data: Its content, without git's header.
    """

    kind: str
    data: bytes

    def name(self, like: str) -> str:
        """Its name, which is the hash of its content.

        Args:
            like: A name of the same repository: its length says which hash it uses.
        """
        return object_name(self.kind, self.data, like)


def object_name(kind: str, data: bytes, like: str) -> str:
    """The name that git gives an object (git, ``object-file.c``, write_object_file): SHA-1 or SHA-256 in hex.

    Args:
        kind: Its type.
        data: Its content.
        like: A name of the same repository: its length says which hash it uses.
    """
    framed = b"%b %d\0%b" % (kind.encode(), len(data), data)
    hasher = hashlib.sha256 if len(like) == 64 else hashlib.sha1
    return hasher(framed).hexdigest()


class PolicyText(Struct, frozen=True):
    """The policy in force, word for word.

    Attributes:
        commit: The commit that it was read from; empty where it does not come from the repository.
        repository: The text of ``.safeai/policy.yaml`` there; ``None`` where there is none and the built-in one judges.
        organisation: The text of the layer above it; ``None`` for none.
    """

    commit: str
    repository: str | None
    organisation: str | None = None


class Bundle(Struct, frozen=True):
    """The evidence about one commit. Nothing in it has been checked.

    Attributes:
        commit: The commit's name in hex.
        objects: Commits and trees by which git's own hashes bind the verdict's trees and the policy to the commit.
        policy: The policy's text.
        verdict: The envelope of the verdict that counts.
        approvals: The envelopes of approvals, in ascending order of their lines.
        report: The full report that the verdict names by digest, replay included; ``None`` when it was left out.
        receipts: In ascending order of the envelopes' digests, one for each at most.
    """

    commit: str
    objects: tuple[GitObject, ...]
    policy: PolicyText
    verdict: Envelope
    approvals: tuple[Envelope, ...] = ()
    report: dict[str, JSON] | None = None
    receipts: tuple[Receipt, ...] = ()

    def format(self) -> bytes:
        """Write the bundle.

        Raises:
            FormatError: It would be larger than `LARGEST_BUNDLE`, or something has no canonical form.
        """
        named = {one.name(self.commit): one for one in self.objects}
        data = canonical.dumps(
            {
                "type": BUNDLE_TYPE,
                "commit": self.commit,
                "objects": [
                    {"id": name, "kind": one.kind, "data": base64.encode(one.data)}
                    for name, one in sorted(named.items())
                ],
                "policy": {
                    "commit": self.policy.commit,
                    "repository": self.policy.repository,
                    "organisation": self.policy.organisation,
                },
                "verdict": self.verdict.format().decode(),
                "approvals": sorted({one.format().decode() for one in self.approvals}),
                "report": self.report,
                "receipts": [
                    {"envelope": one.envelope, "proof": one.proof.format().decode()}
                    for one in sorted({one.envelope: one for one in self.receipts}.values(), key=_envelope_of)
                ],
            }
        )
        if len(data) >= LARGEST_BUNDLE:
            raise FormatError(
                f"the bundle would have {len(data):,} bytes; at most {LARGEST_BUNDLE:,} are read",
                hint="leave the report out: --without-report",
            )
        return data + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> Bundle:
        """Read a bundle, the inverse of `format`.

        Raises:
            FormatError: Not a bundle, or not written the one way. The message begins with the part that is wrong.
        """
        whole = canonical.loads(data.removesuffix(b"\n"), limit=LARGEST_BUNDLE, depth=_DEPTH)
        if not isinstance(whole, dict) or whole.get("type") != BUNDLE_TYPE:
            raise FormatError(f"not an evidence bundle: its type is not {BUNDLE_TYPE}")
        missing = sorted(_MEMBERS - whole.keys())
        if missing or len(whole) != len(_MEMBERS):
            odd = ", ".join(missing or sorted(repr(one[:40]) for one in whole.keys() - _MEMBERS)[:3])
            raise FormatError(f"{odd}: {'missing' if missing else 'not'} in a bundle")
        report = whole["report"]
        if report is not None and not isinstance(report, dict):
            raise FormatError("report: neither an object nor null")
        bundle = cls(
            commit=_name(whole["commit"], "commit"),
            objects=tuple(_object(one) for one in _list(whole["objects"], "objects", MOST_OBJECTS)),
            policy=_policy(whole["policy"]),
            verdict=_envelope(whole["verdict"], "verdict"),
            approvals=tuple(
                _envelope(one, "approvals") for one in _list(whole["approvals"], "approvals", MOST_APPROVALS)
            ),
            report=report,
            receipts=tuple(_receipt(one) for one in _list(whole["receipts"], "receipts", MOST_APPROVALS + 1)),
        )
        _one_way(bundle, data, whole)
        return bundle


def _envelope_of(receipt: Receipt) -> str:
    return receipt.envelope


def _one_way(bundle: Bundle, data: bytes, whole: dict[str, JSON]) -> None:
    """Refuse what `format` would write otherwise, and name the part: order, names of objects, members of parts."""
    again = bundle.format()
    if again != data:
        written = canonical.loads(again[:-1], limit=LARGEST_BUNDLE, depth=_DEPTH)
        odd = [key for key in sorted(_MEMBERS) if isinstance(written, dict) and written[key] != whole[key]]
        what = odd[0] if odd else "the file"
        raise FormatError(f"{what}: not as a bundle says it: changed, out of order, twice, or not canonical")


def _list(value: JSON, part: str, most: int) -> list[JSON]:
    if not isinstance(value, list) or len(value) > most:
        raise FormatError(f"{part}: not a list of at most {most:,}")
    return value


def _name(value: JSON, part: str) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise FormatError(f"{part}: not the name of a git object")
    return value


def _object(value: JSON) -> GitObject:
    match value:
        case {"id": str(), "kind": "commit" | "tree" as kind, "data": str(data)}:
            return GitObject(str(kind), base64.decode(data, "objects: the content of one"))
    raise FormatError("objects: each has an id, a kind (commit or tree) and data")


def _policy(value: JSON) -> PolicyText:
    match value:
        case {
            "commit": str(commit),
            "repository": str() | None as repository,
            "organisation": str() | None as organisation,
        }:
            if commit:
                _name(commit, "policy")
            return PolicyText(commit, repository, organisation)
    raise FormatError("policy: it has a commit, and the texts of the repository's and the organisation's")


def _envelope(value: JSON, part: str) -> Envelope:
    if not isinstance(value, str):
        raise FormatError(f"{part}: an envelope is a text")
    try:
        return Envelope.parse(value.encode())
    except FormatError as error:
        raise FormatError(f"{part}: {error.message}") from error


def _receipt(value: JSON) -> Receipt:
    match value:
        case {"envelope": str(envelope), "proof": str(proof)} if re.fullmatch("[0-9a-f]{64}", envelope):
            try:
                return Receipt(envelope, LogProof.parse(proof.encode()))
            except FormatError as error:
                raise FormatError(f"receipts: {error.message}") from error
    raise FormatError("receipts: each names an envelope by SHA-256 and has a proof")
