"""``doctor``: whether the gate really works in this clone, and what is missing."""

from __future__ import annotations

import platform
import time
from pathlib import Path

from msgspec import Struct

from safeai_git import __version__
from safeai_git.client.spool import IncidentSpool, Spool
from safeai_git.commands.session import Session
from safeai_git.commands.setup import hook_states
from safeai_git.commands.trees import in_words
from safeai_git.core.display import count, safe_text
from safeai_git.core.errors import SafeAIError
from safeai_git.core.values import fields
from safeai_git.git.plumbing import git_program, run
from safeai_git.git.repository import NOTES_REF
from safeai_git.git.store import read_commit
from safeai_git.git.tree_cache import Kept, default_place, kept
from safeai_git.sandbox import Isolation, describe
from safeai_git.sandbox.levels import PROMISES

OLDEST_GIT = (2, 38)


class Examined(Struct, frozen=True):
    """One line of the report: ``ok``, ``warn`` (works, with less) or ``bad`` (the gate does not work)."""

    what: str
    state: str
    detail: str


def doctor(session: Session) -> int:
    """Examine everything; 1 when something keeps the gate from working."""
    found: list[Examined] = [
        Examined("safeai-git", "ok", f"{__version__} on Python {platform.python_version()}")
    ]
    for examine in (_git, _repository, _hooks, _policy, _key, _verdicts, _sandbox, _clock):
        try:
            found += examine(session)
        except SafeAIError as error:
            hint = f" ({error.hint})" if error.hint else ""
            found.append(Examined(examine.__name__.strip("_"), "bad", error.message + hint))
        except OSError as error:
            place = f": {error.filename}" if error.filename else ""
            found.append(Examined(examine.__name__.strip("_"), "bad", f"{error.strerror or error}{place}"))
    if session.output_format != "text":
        session.data({"examined": [fields(one) for one in found]})
    style = session.style
    for one in found:
        mark = {"ok": style.ok("ok  "), "warn": style.bold("warn")}.get(one.state, style.bad("bad "))
        session.say(f"{mark} {safe_text(one.what)}: {safe_text(one.detail)}")
    return 1 if any(one.state == "bad" for one in found) else 0


def _git(session: Session) -> list[Examined]:
    printed, _ = run(["version"], cwd=session.start, environ=session.environ)
    version = printed.decode("ascii", "replace").strip().removeprefix("git version ")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    state = "ok" if numbers >= OLDEST_GIT else "bad"
    hint = "" if state == "ok" else f"; {OLDEST_GIT[0]}.{OLDEST_GIT[1]} or newer is needed"
    return [Examined("git", state, f"{version}, {git_program()}{hint}")]


def _repository(session: Session) -> list[Examined]:
    repository = session.repository
    detail = f"{repository.root}, {repository.object_format}"
    if repository.shallow:
        return [
            Examined(
                "repository",
                "warn",
                f"{detail}, shallow: ranges may not be decidable ('git fetch --unshallow')",
            )
        ]
    return [Examined("repository", "ok", detail)]


def _hooks(session: Session) -> list[Examined]:
    """In this clone and in each of its linked working trees, which may have configurations of their own."""
    printed = session.repository.git(["worktree", "list", "--porcelain"]).decode("utf-8", "surrogateescape")
    trees = [line.removeprefix("worktree ") for line in printed.splitlines() if line.startswith("worktree ")]
    found = []
    for tree in trees if len(trees) > 1 else [""]:
        there = Session(Path(tree) if tree else session.start, session.environ)
        where = f" in {tree}" if tree else ""
        try:
            states = hook_states(there)
        except SafeAIError as error:
            found.append(Examined(f"hooks{where}", "warn", error.message))
            continue
        finally:
            there.close()
        found += [
            Examined(f"hook {one.name}{where}", "ok" if one.active else "warn", one.detail) for one in states
        ]
    return found


def _policy(session: Session) -> list[Examined]:
    trust = session.trust().at(session.repository.head())
    if trust.builtin:
        return [
            Examined(
                "policy", "warn", "none at HEAD: the built-in default judges ('safeai-git init' writes one)"
            )
        ]
    found = [Examined("policy", "ok", f"{trust.policy.source}, sha256 {trust.policy.digest[:16]}")]
    verdicts = [
        one for one in trust.keyring.entries if one.refusal("safeai-verdict", int(time.time())) is None
    ]
    approvals = [
        one for one in trust.keyring.entries if one.refusal("safeai-approval", int(time.time())) is None
    ]
    found.append(
        Examined(
            "signers",
            "ok" if verdicts and approvals else "warn",
            f"{len(verdicts)} for verdicts, {len(approvals)} for approvals"
            + (
                ""
                if approvals
                else ': nobody can approve; list a person\'s key with namespaces="safeai-approval"'
            ),
        )
    )
    found += [
        Examined(
            "signers",
            "warn",
            f"{one.source}:{one.line} has no namespaces=: the key counts for verdicts and approvals",
        )
        for one in trust.keyring.entries
        if one.namespaces is None
    ]
    found += [Examined("signers", "warn", one.message) for one in trust.keyring.skipped]
    return found


def _key(session: Session) -> list[Examined]:
    signer = session.signer()
    if signer is None:
        return [Examined("key", "warn", "none: changes are judged, not signed ('safeai-git keys generate')")]
    trust = session.trust().at(session.repository.head())
    answer = trust.keyring.trusts(signer.key_id, "safeai-verdict", int(time.time()))
    refusal = getattr(answer, "message", "")
    if refusal:
        return [Examined("key", "warn", f"{session.key_place()}: its verdicts do not count here: {refusal}")]
    return [Examined("key", "ok", f"{session.key_place()}, {signer.key_id}, trusted for verdicts")]


def _verdicts(session: Session) -> list[Examined]:
    repository = session.repository
    tip = repository.ref(NOTES_REF)
    found = [Examined("verdicts", "ok", f"{NOTES_REF} at {tip[:12]}" if tip else f"none yet in {NOTES_REF}")]
    waiting = len(Spool(repository.private_directory / "spool"))
    if waiting:
        found.append(
            Examined(
                "spool",
                "warn",
                f"{count(waiting, 'verdict')} not yet confirmed by the Governor: 'safeai-git push' delivers them",
            )
        )
    reports = len(IncidentSpool(repository.private_directory))
    if reports:
        found.append(
            Examined("spool", "warn", f"{count(reports, 'incident')} not yet reported: 'safeai-git push'")
        )
    policy = session.trust().at(repository.head()).policy
    if policy.governor is not None:
        switch = session.kill_switch(policy, "")
        state = {"released": "ok", "none": "warn"}.get(switch.state, "bad")
        words = {"none": "no Governor is asked: this machine names none"}.get(switch.state, switch.reason)
        found.append(Examined("kill switch", state, f"{switch.state}: {words}" if words else switch.state))
    return found


def _sandbox(session: Session) -> list[Examined]:
    """Every level, and what the one that is used guarantees and does not."""
    reports = describe()
    if not reports:
        return [
            Examined("sandbox", "warn", "checks are replayed on Linux only: here they count as not replayed")
        ]
    found = [
        Examined(
            f"sandbox {one.level} ({one.name})",
            "ok" if one.isolation else "warn",
            _isolation(one.isolation) if one.isolation else f"{one.reason} ({one.hint})",
        )
        for one in reports
    ]
    used = next((one.level for one in reports if one.isolation), None)
    if used is None:
        return [
            *found,
            Examined("sandbox", "warn", "none: no check is executed, and each counts as undecided"),
        ]
    promise = PROMISES[used]
    found.append(Examined("sandbox", "ok", f"level {used} is used: {promise.summary}"))
    found.append(Examined("sandbox guarantees", "ok", "; ".join(promise.guarantees)))
    found.append(Examined("sandbox does not", "ok", "; ".join(promise.lacks)))
    place = default_place(session.environ)
    found.append(Examined("trees", "ok", in_words(place, Kept(0, 0) if place is None else kept(place))))
    return found


def _isolation(isolation: Isolation) -> str:
    less = f"; not here: {', '.join(isolation.degraded)}" if isolation.degraded else ""
    return (
        f"backend {isolation.backend_sha256[:16]}, self-test {isolation.selftest_sha256[:16]}, "
        f"Linux {isolation.kernel}{less}"
    )


def _clock(session: Session) -> list[Examined]:
    """A clock behind the newest commit signs verdicts that are older than what they judge."""
    head = session.repository.head()
    who = read_commit(session.repository.store, head).committer if head else None
    behind = who.time - time.time() if who else 0
    if behind > 120:
        return [Examined("clock", "bad", f"{behind / 60:.0f} minutes behind the newest commit")]
    return [Examined("clock", "ok", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))]
