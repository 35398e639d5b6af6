"""What a CI job is asked to judge: the two commits and the branch, out of the variables that each CI system sets.

Pure: the environment and the event are arguments. What foreign people choose (branch names, titles) is only ever a
value. Ids are held to be ids here; whether they exist is asked of the repository.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from safeai_git.core.errors import WrongUse

_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_EXPLICIT = "name the commits: --base and --head"


class Change(Struct, frozen=True):
    """A change that a CI job is about.

    Attributes:
        system: ``github``, ``gitlab`` and so on; ``explicit`` when it was named by hand.
        event: What happened, in the system's own word.
        base: Where it starts from, an id; empty where only the default branch can tell (a new branch).
        head: Its end, an id; empty where there is nothing to judge (a branch was deleted).
        branch: The change's branch, its short name.
        target: The branch that it goes to; empty where unknown.
        pull_request: Its number, for fetching; 0 for none.
        only_data: The job has rights that the change's author lacks: nothing of the change may run, not even in a
            sandbox.
    """

    system: str
    event: str
    base: str
    head: str
    branch: str = ""
    target: str = ""
    pull_request: int = 0
    only_data: bool = False


def detect(environ: Mapping[str, str], event: Mapping[str, Any]) -> Change:
    """The change of this job.

    Args:
        environ: The job's environment.
        event: GitHub's event payload; empty elsewhere.

    Raises:
        WrongUse: No CI system is known by its variables, or its event names no two commits.
    """
    for mark, read in _SYSTEMS.items():
        if environ.get(mark):
            return read(environ, event)
    raise WrongUse("this is no CI job of a kind that is known here", hint=_EXPLICIT)


def _github(environ: Mapping[str, str], event: Mapping[str, Any]) -> Change:
    name = environ.get("GITHUB_EVENT_NAME", "")
    if name in ("pull_request", "pull_request_target"):
        request = _part(event, "pull_request")
        base, head = _part(request, "base"), _part(request, "head")
        number = request.get("number", event.get("number", 0))
        return Change(
            "github",
            name,
            _id(base.get("sha"), name, "the base"),
            _id(head.get("sha"), name, "the head"),
            _text(head.get("ref")),
            _text(base.get("ref")),
            number if isinstance(number, int) and number > 0 else 0,
            only_data=name == "pull_request_target",
        )
    if name == "merge_group":
        group = _part(event, "merge_group")
        return Change(
            "github",
            name,
            _id(group.get("base_sha"), name, "the base"),
            _id(group.get("head_sha"), name, "the head"),
            _short(group.get("head_ref")),
            _short(group.get("base_ref")),
        )
    if name == "push":
        before, after = _text(event.get("before")), _text(event.get("after"))
        default = _text(_part(event, "repository").get("default_branch"))
        return Change(
            "github", name, _known(before, name), _known(after, name), _short(event.get("ref")), default
        )
    raise WrongUse(f"the event {name[:80]!r} names no change", hint=_EXPLICIT)


def _gitlab(environ: Mapping[str, str], _: Mapping[str, Any]) -> Change:
    head = _id(environ.get("CI_COMMIT_SHA"), "pipeline", "the head")
    branch = environ.get("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME") or environ.get("CI_COMMIT_REF_NAME", "")
    if environ.get("CI_MERGE_REQUEST_IID"):
        # In a pipeline of merged results CI_COMMIT_SHA is the merge itself; the source's end is named beside it.
        head = environ.get("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA") or head
        base = environ.get("CI_MERGE_REQUEST_TARGET_BRANCH_SHA") or environ.get(
            "CI_MERGE_REQUEST_DIFF_BASE_SHA"
        )
        return Change(
            "gitlab",
            "merge_request",
            _id(base, "merge request", "the base"),
            _id(head, "merge request", "the head"),
            branch,
            environ.get("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", ""),
        )
    before = environ.get("CI_COMMIT_BEFORE_SHA", "")
    return Change(
        "gitlab", "push", _known(before, "push"), head, branch, environ.get("CI_DEFAULT_BRANCH", "")
    )


def _simple(system: str, head: str, before: str, branch: str, target: str) -> Callable[..., Change]:
    def read(environ: Mapping[str, str], _: Mapping[str, Any]) -> Change:
        base = environ.get(before, "") if before else ""
        return Change(
            system,
            "build",
            _known(base, "build") if base else "",
            _id(environ.get(head), "build", head),
            _short(environ.get(branch)),
            _short(environ.get(target)),
        )

    return read


_SYSTEMS: Mapping[str, Callable[[Mapping[str, str], Mapping[str, Any]], Change]] = {
    "GITHUB_ACTIONS": _github,
    "GITLAB_CI": _gitlab,
    "BITBUCKET_BUILD_NUMBER": _simple(
        "bitbucket",
        "BITBUCKET_COMMIT",
        "BITBUCKET_PR_DESTINATION_COMMIT",
        "BITBUCKET_BRANCH",
        "BITBUCKET_PR_DESTINATION_BRANCH",
    ),
    "TF_BUILD": _simple(
        "azure", "BUILD_SOURCEVERSION", "", "BUILD_SOURCEBRANCH", "SYSTEM_PULLREQUEST_TARGETBRANCH"
    ),
    "CI_PIPELINE_FORGE_URL": _simple(
        "woodpecker", "CI_COMMIT_SHA", "CI_PREV_COMMIT_SHA", "CI_COMMIT_BRANCH", "CI_COMMIT_TARGET_BRANCH"
    ),
    "JENKINS_URL": _simple("jenkins", "GIT_COMMIT", "", "BRANCH_NAME", "CHANGE_TARGET"),
}
"""By a variable that only this system sets. Forgejo and Gitea set GitHub's."""


def _part(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = data.get(name)
    return found if isinstance(found, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _short(value: object) -> str:
    return _text(value).removeprefix("refs/heads/").removeprefix("refs/tags/")


def _known(value: str, event: str) -> str:
    """An id, or nothing for the row of zeros that stands for "none"."""
    return "" if value and not value.strip("0") else _id(value, event, "a side of the change")


def _id(value: object, event: str, what: str) -> str:
    text = _text(value)
    if not _ID.fullmatch(text):
        raise WrongUse(f"the {event[:40]} event names no commit for {what}: {text[:80]!a}", hint=_EXPLICIT)
    return text
