"""``bundle`` and ``verify --bundle``: the evidence about one commit, in one file, for whoever has no repository."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from safeai_git.bundle import Demands, Examined, examine
from safeai_git.bundling import make
from safeai_git.commands.session import Session
from safeai_git.core.bundle import LARGEST_BUNDLE, Bundle
from safeai_git.core.canonical import JSON
from safeai_git.core.display import safe_text
from safeai_git.core.errors import FormatError, RepositoryError, StorageError, WrongUse
from safeai_git.core.log.note import NoteKey
from safeai_git.core.log.proof import LogProof
from safeai_git.core.policy import LARGEST_POLICY
from safeai_git.files import read_bounded, write_atomically
from safeai_git.keys.keyring import MAX_BYTES, Keyring
from safeai_git.organisation import organisation_text
from safeai_git.policyfile import load

LARGEST_RECEIPT = 2 * 1024 * 1024


class Request(Struct, frozen=True):
    """What a bundle is made of.

    Attributes:
        revision: The commit.
        policy: The policy file that judged in place of the repository's.
        report: Whether the full report goes in.
        receipts: Files of receipts.
        output: Where to write it; ``None`` for standard output.
    """

    revision: str
    policy: Path | None
    report: bool
    receipts: Sequence[Path]
    output: Path | None


def bundle(session: Session, request: Request) -> int:
    """Write the bundle of a commit. It is examined before it is handed out; what is wrong with it is told.

    Raises:
        RepositoryError: There is no verdict, or no report.
        StorageError: A file cannot be read or written.
    """
    repository = session.repository
    name = repository.commit_id(request.revision or "HEAD")
    proofs = _receipts(request.receipts)
    made = make(
        repository,
        session.trust(request.policy),
        name,
        now=time.time(),
        organisation=organisation_text(repository, session.environ),
        explicit=_file(request.policy, LARGEST_POLICY, "the policy") if request.policy else None,
        report=lambda digest: _report(session, digest) if request.report else None,
        receipts=proofs,
    )
    data = made.format()
    if request.output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        write_atomically(request.output, data, mode=0o644)
        session.note(f"safeai-git: {safe_text(str(request.output))}: {len(data):,} bytes about {name[:12]}")
    return 0


def _report(session: Session, digest: str) -> dict[str, JSON]:
    path = session.repository.private_directory / "reports" / f"{digest}.json"
    try:
        data = read_bounded(path, LARGEST_BUNDLE)
        read = json.loads(data)
    except FileNotFoundError as error:
        raise RepositoryError(
            f"the full report {digest[:16]} is not in this clone",
            hint="make the bundle where the verdict was signed, or leave it out: --without-report",
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise StorageError(f"the report {path} cannot be read: {error}") from error
    if not isinstance(read, dict):
        raise StorageError(f"the report {path} is none")
    return read


def _receipts(files: Sequence[Path]) -> list[LogProof]:
    return [LogProof.parse(_file(one, LARGEST_RECEIPT, "the receipt")) for one in files]


def _file(path: Path, most: int, what: str) -> bytes:
    try:
        data = sys.stdin.buffer.read(most + 1) if str(path) == "-" else read_bounded(path, most)
    except OSError as error:
        raise StorageError(f"{what} {path} cannot be read: {error.strerror or error}") from error
    if len(data) > most:
        raise FormatError(f"{what} {path} is larger than {most:,} bytes")
    return data


class Trusted(Struct, frozen=True):
    """What `verify --bundle` is given beside the file.

    Attributes:
        signers: An allowed_signers file: whose signatures count.
        log_keys: Verifier keys of logs that must hold the evidence.
        commit: The commit that the bundle must be about; empty for any.
        policy: The policy that must have judged; ``None`` for that of the commit's own history.
        report: Whether the full report is asked for.
    """

    signers: Path | None
    log_keys: Sequence[str] = ()
    commit: str = ""
    policy: Path | None = None
    report: bool = True


def verify(session: Session, file: Path, trusted: Trusted) -> int:
    """Prove a bundle from itself and the keys that are named. 0 when it lets its commit pass.

    Raises:
        FormatError: It is no bundle.
    """
    if trusted.signers is None:
        raise WrongUse(
            "a bundle proves nothing without keys that you trust",
            hint="name them: --signers FILE, in the form of .safeai/allowed_signers",
        )
    keys = Keyring.parse(_file(trusted.signers, MAX_BYTES, "the signers"), str(trusted.signers))
    policy = None
    if trusted.policy is not None:
        policy = load(_file(trusted.policy, LARGEST_POLICY, "the policy"), str(trusted.policy))
    log_keys = tuple(NoteKey.bounded(one) for one in trusted.log_keys)
    if len({one.name for one in log_keys}) > 1:
        raise WrongUse("the keys of --log-key belong to different logs", hint="name the keys of one log")
    demands = Demands(trusted.commit, policy, trusted.report, log_keys)
    parsed = Bundle.parse(_file(file, LARGEST_BUNDLE, "the bundle"))
    found = examine(parsed, keys, demands, now=time.time())
    _tell(session, found)
    return 0 if found.decision == "allow" else 1


def _tell(session: Session, found: Examined) -> None:
    weighed, claim = found.weighed, found.claim
    if session.output_format != "text":
        session.data(
            {
                "decision": found.decision,
                "commit": found.commit,
                "repository": claim.repository if claim else "",
                "verdict": claim.decision if claim else "",
                "signed_by": list(weighed.signed_by) if weighed else [],
                "approved_by": list(weighed.approved_by) if weighed else [],
                "parts": [
                    {"part": one.name, "holds": one.holds, "message": safe_text(one.message)}
                    for one in found.parts
                ],
            }
        )
        return
    style = session.style
    about = f" in {safe_text(claim.repository)}" if claim and claim.repository else ""
    session.say(f"{style.decision(found.decision)} bundle about commit {found.commit}{about}")
    for one in found.parts:
        word = style.ok("holds  ") if one.holds else style.bad("refused")
        session.say(f"  {word} {one.name}: {safe_text(one.message)}")
