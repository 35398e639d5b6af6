"""``policy publish`` and ``policy diff``: an organisation's policy handed out, and what a new policy changes."""

from __future__ import annotations

import time
from pathlib import Path

from safeai_git.commands.session import Session
from safeai_git.core.display import safe_text
from safeai_git.core.errors import FormatError, PolicyError, WrongUse
from safeai_git.core.policy import Policy
from safeai_git.core.policy_difference import difference
from safeai_git.core.policy_statement import parse_time
from safeai_git.core.values import fields
from safeai_git.files import read_bounded, write_atomically
from safeai_git.policy_vm import check_expressions
from safeai_git.policyfile import load
from safeai_git.published_policy import LARGEST_PUBLISHED, policy_text, publish
from safeai_git.report.policy_change import lines

WORKING_FILE = Path(".safeai") / "policy.yaml"


def publish_policy(
    session: Session, file: Path, *, version: int, expires: str, organisation: str, output: Path | None
) -> int:
    """Sign a policy as an organisation's and write the file to hand out.

    Raises:
        PolicyError: It is no valid policy.
        WrongUse: Version, expiry or name will not do.
        KeyUnusable: There is no key to sign with.
    """
    text = _bytes(file)
    check_expressions(load(text, str(file)))
    try:
        until = parse_time(expires)
        if until <= time.time():
            raise WrongUse(f"{expires} is in the past", hint="--expires names a time to come")
        data = publish(
            text, organisation=organisation, version=version, expires=until, signer=session.need_signer()
        )
    except FormatError as error:
        raise WrongUse(error.message, hint=error.hint) from error
    place = output or file.with_name(file.name + ".signed")
    write_atomically(place, data, mode=0o644)
    if session.output_format != "text":
        session.data(
            {"file": str(place), "organisation": organisation, "version": version, "expires": expires}
        )
    session.say(f"published: {place} ({organisation}, version {version}, until {expires})")
    session.say("clients take it with 'git config safeai.orgPolicy' and 'git config safeai.orgSigners'")
    return 0


def diff(session: Session, old: str, new: str) -> int:
    """Show each effective difference between two policies; without arguments, from HEAD's to the working tree's."""
    before = _named(session, old) if old else _at(session, "")
    after = _named(session, new) if new else _working(session)
    changes = difference(before, after)
    if session.output_format != "text":
        session.data({"old": before.source, "new": after.source, "changes": [fields(one) for one in changes]})
        return 0
    session.say(f"from {safe_text(before.source)} to {safe_text(after.source)}")
    session.say(lines(changes))
    return 0


def _named(session: Session, name: str) -> Policy:
    """The policy that a file holds, published or plain; else that of a revision."""
    path = session.start / name
    if path.is_file():
        return load(policy_text(_bytes(path)), name)
    return _at(session, name)


def _at(session: Session, revision: str) -> Policy:
    """The repository's own policy at a revision; the built-in one where it has none."""
    repository = session.repository
    commit = repository.commit_id(revision) if revision else repository.head()
    return session.trust().at(commit).policy.layers[-1]


def _working(session: Session) -> Policy:
    path = session.repository.root / WORKING_FILE
    if not path.exists():
        return Policy.builtin()
    return load(_bytes(path), str(WORKING_FILE))


def _bytes(path: Path) -> bytes:
    try:
        return read_bounded(path, LARGEST_PUBLISHED)
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}", hint="name a policy file that can be read") from error
