"""Which commits are meant: those of a range, or, when nobody says it, all since the policy was introduced."""

from __future__ import annotations

from safeai_git.commands.session import Session
from safeai_git.core.errors import HistoryTooShallow, ObjectMissing, RepositoryError, WrongUse
from safeai_git.git.history import TOO_SHALLOW_HINT, commits_between
from safeai_git.git.store import read_commit


def endpoints(session: Session, revisions: str) -> tuple[str, str]:
    """The two commits of ``BASE..HEAD``; an empty side is HEAD.

    Raises:
        WrongUse: It is not of that form.
    """
    base, dots, head = revisions.partition("..")
    if not dots or head.startswith("."):
        raise WrongUse(
            f"'{revisions}' is not a range",
            hint="write BASE..HEAD, for example main..feature (two dots, not three)",
        )
    return session.repository.commit_id(base or "HEAD"), session.repository.commit_id(head or "HEAD")


def since_policy(session: Session, head: str = "") -> tuple[str, str]:
    """From the oldest commit with a policy on the first-parent line, to a commit (default: HEAD).

    The oldest, since whoever takes the policy out and puts another one in must not move the beginning of trust.

    Raises:
        RepositoryError: There is no policy, or it came in along two lines, of which nobody knows the trusted one.
    """
    repository, trust = session.repository, session.trust()
    head = head or repository.head()
    if not head:
        raise RepositoryError("there are no commits to verify yet", hint="commit something first")
    introduced = ""
    at = head
    while at:
        try:
            if trust.has_policy(at):
                introduced = at
            parents = read_commit(repository.store, at).parents
        except ObjectMissing as error:
            if not repository.shallow:
                raise
            raise HistoryTooShallow(
                "the commit that introduced the policy may lie below this shallow clone",
                hint=TOO_SHALLOW_HINT,
            ) from error
        at = parents[0] if parents else ""
    if not introduced:
        raise RepositoryError(
            "HEAD has no .safeai/policy.yaml and never had, so there is nothing to verify against",
            hint="'safeai-git init' writes one; or name a range: safeai-git verify BASE..HEAD",
        )
    descended = {introduced}
    for name in commits_between(repository, introduced, head):
        parents = read_commit(repository.store, name).parents
        if not descended.isdisjoint(parents):
            descended.add(name)
        elif trust.has_policy(name) and not any(map(trust.has_policy, parents)):
            raise RepositoryError(
                f"the policy was introduced by {introduced[:12]} and, on another line, by {name[:12]}",
                hint="name the commit that you trust: safeai-git verify BASE..HEAD",
            )
    return introduced, head
