"""``show --vsa`` and ``verify --vsa``: evidence for other people's tools."""

from __future__ import annotations

import time
from pathlib import Path

from safeai_git.commands.session import Session
from safeai_git.core.envelope import Envelope, Opened, check_envelope
from safeai_git.core.errors import FormatError, RepositoryError
from safeai_git.core.verdict import VERDICT_NAMESPACE, Claim, parse_statement
from safeai_git.core.vsa import of_verification, summary
from safeai_git.files import write_atomically
from safeai_git.git.notes import Notes
from safeai_git.git.store import read_commit
from safeai_git.keys.ed25519 import verify as verify_signature
from safeai_git.keys.seal import seal
from safeai_git.trust import Trust

_STRICTEST_LAST = ("allow", "review", "deny")


def vsa(session: Session, revision: str) -> int:
    """Print the SLSA summary of a commit's verdict: a signed envelope, or the bare statement when there is no key.

    The summary is of the newest verdict by a trusted key; of several in one second, of the strictest.

    Raises:
        RepositoryError: No trusted verdict is kept.
    """
    repository = session.repository
    name = repository.commit_id(revision or "HEAD")
    commit = read_commit(repository.store, name)
    keyring = session.trust().at(commit.parents[0] if commit.parents else name).keyring
    notes = Notes(repository)
    found: list[tuple[Claim, str]] = []
    for line in sorted({*notes.lines(name), *notes.lines(commit.tree)}):
        try:
            envelope = Envelope.parse(line)
            claim = parse_statement(envelope.untrusted_payload)
        except FormatError:
            continue
        opened = check_envelope(
            envelope, keyring, purpose=VERDICT_NAMESPACE, at=claim.time, verify=verify_signature
        )
        if claim.kind == "verdict" and isinstance(opened, Opened):
            found.append((claim, envelope.digest))
    if not found:
        raise RepositoryError(
            f"no verdict of a trusted key is kept about {name[:12]}",
            hint="'safeai-git show' says what is kept, 'safeai-git verify' how to get a verdict",
        )
    payload = summary(*max(found, key=lambda one: (one[0].time, _STRICTEST_LAST.index(one[0].decision))))
    print(_signed(session, payload).decode())
    return 0


def _signed(session: Session, payload: bytes) -> bytes:
    """A statement in a signed envelope, or bare when there is no key."""
    signer = session.signer()
    if signer is None:
        session.note("safeai-git: not signed: no key is configured ('safeai-git keys generate' makes one)")
        return payload
    return seal(payload, [signer]).format()


def write_summary(session: Session, trust: Trust, head: str, decision: str, to: str) -> None:
    """Write the SLSA summary of a verification: that everything up to a commit passed, or did not.

    Args:
        session: Of the command.
        trust: What was verified against.
        head: The end of what was verified.
        decision: What it came to.
        to: A file; ``-`` for standard output.

    Raises:
        StorageError: The file cannot be written.
    """
    tree = read_commit(session.repository.store, head).tree
    line = _signed(
        session, of_verification(trust.policy, head, tree, passed=decision == "allow", time=int(time.time()))
    )
    if to == "-":
        print(line.decode())
    else:
        write_atomically(Path(to), line + b"\n", mode=0o644)
