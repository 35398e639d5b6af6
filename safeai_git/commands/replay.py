"""``safeai-git replay``: the checks of a commit's policy on its tree, what they printed, and a look inside."""

from __future__ import annotations

import codecs
import importlib
import sys

from msgspec import Struct

from safeai_git.check_logs import CheckLogs
from safeai_git.commands.live import Live
from safeai_git.commands.session import Session
from safeai_git.core.display import safe_text
from safeai_git.core.errors import SandboxUnavailable, WrongUse
from safeai_git.core.policy import Check, PolicyStack
from safeai_git.core.verdict import evidence_data
from safeai_git.git.changes import EMPTY_TREE
from safeai_git.git.store import read_commit
from safeai_git.replay import Replayer
from safeai_git.sandbox import choose
from safeai_git.sandbox.terminal import Terminal


class Request(Struct, frozen=True):
    """What `replay` was asked for.

    Attributes:
        revision: A commit; empty for the staged tree.
        only: The one check that is meant; empty for all.
        show_output: Whether what the checks print is passed on.
        jobs: How many run at one time.
    """

    revision: str = ""
    only: str = ""
    show_output: bool = True
    jobs: int = 1


def replay(session: Session, request: Request) -> int:
    """Run the policy's checks on a commit's tree (or the staged one), whatever the verdict on it would be.

    Raises:
        SandboxUnavailable: Nothing here can isolate a check; nothing was executed.
    """
    of = _target(session, request.revision)
    policy = of.policy
    checks = [one for one in policy.checks if not request.only or one.name == request.only]
    if not checks:
        names = ", ".join(one.name for one in policy.checks) or "none"
        raise WrongUse(
            f"the policy has no check '{request.only}'" if request.only else "the policy has no checks",
            hint=f"checks there are: {names}; they are listed under 'checks:' in .safeai/policy.yaml",
        )
    choose(state_dir=session.repository.private_directory)
    with replaying(session, request) as replayer:
        evidence = list(replayer.of_tree(of.tree, checks, policy, base_tree=of.base_tree).values())
    if session.output_format != "text":
        session.data({"tree": of.tree, "checks": [evidence_data(one) for one in evidence]})
    for one in evidence:
        session.say(f"{one.name}: {one.result} ({one.detail}, {one.seconds:.1f} s, {one.isolation})")
        for made in one.artifacts:
            session.say(f"  {made.path}: {made.bytes:,} bytes, sha256 {made.sha256}")
        if one.result != "passed" and one.output_bytes and not request.show_output:
            session.note(f"  what it printed: safeai-git replay --log {one.output_sha256[:12]}")
    open_ones = [one for one in evidence if one.result == "undecided"]
    if open_ones:
        raise SandboxUnavailable(f"the check '{open_ones[0].name}' gave no answer: {open_ones[0].detail}")
    return 0 if all(one.result == "passed" for one in evidence) else 1


def replaying(session: Session, request: Request) -> Live[Replayer]:
    """A replayer that shows a person what it does; only on a terminal does a line say what is running."""

    def build(live: Live[Replayer]) -> Replayer:
        return Replayer(
            session.repository,
            environ=session.environ,
            progress=live.say,
            on_output=live.output if request.show_output else None,
            on_state=live.state,
            jobs=request.jobs,
        )

    say = session.note if session.output_format == "text" else session.progress
    return Live(build, say, sys.stderr, named=request.jobs > 1)


def log(session: Session, digest: str) -> int:
    """Show what a check printed, with whatever a terminal would obey made visible."""
    _, pieces = CheckLogs(session.repository.private_directory / "logs").find(digest)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = ""
    for piece in pieces:
        text = decoder.decode(piece)
        sys.stdout.write(safe_text(text, newlines=True))
    text += decoder.decode(b"", final=True)
    if text and not text.endswith("\n"):
        sys.stdout.write("\n")
    return 0


def again(session: Session, verdict: str, request: Request) -> int:
    """Replay what a verdict claims and compare, field by field: 0 the same, 1 something differs.

    Raises:
        CouldNotDecide: It could not be found out: no such verdict, its tree or its policy is not here, a check gave no
            answer.
    """
    # Loaded only here: it reads verdicts, and so loads what checks them.
    comparing = importlib.import_module("safeai_git.again")
    claimed = comparing.find(session.repository, session.trust(), verdict)
    session.note(f"the verdict of {claimed.signer} on tree {claimed.claim.tree[:12]}")
    if not claimed.whole:
        session.note(
            f"its report {claimed.report}.json is not in .git/safeai/reports, so exit codes, limits and artifacts are "
            "not compared"
        )
    with replaying(session, request) as replayer:
        compared = comparing.compare(claimed, replayer)
    if session.output_format != "text":
        session.data(
            {"tree": claimed.claim.tree, "whole": claimed.whole, "checks": [one.data for one in compared]}
        )
    for one in compared:
        session.say(f"{one.name}: {one.in_words}")
        for field in one.differing:
            session.say(f"  {field.name}: claimed {field.claimed}, here {field.here}")
    for one in compared:
        if one.open:
            raise SandboxUnavailable(f"the check '{one.name}' could not be compared: {one.open}")
    return 0 if not any(one.differing for one in compared) else 1


def shell(session: Session, request: Request) -> int:
    """A shell on the tree in the sandbox, as the named check would see it. Nothing of it is evidence, or kept.

    Raises:
        SandboxUnavailable: Nothing here can isolate it.
        WrongUse: There is no terminal.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise WrongUse(
            "--shell needs a terminal", hint="without one, give the policy a check and replay that"
        )
    of = _target(session, request.revision)
    policy = of.policy
    named = [one for one in policy.checks if one.name == request.only]
    if request.only and not named:
        raise WrongUse(f"the policy has no check '{request.only}'", hint="leave --check out, or name one")
    replayer = Replayer(session.repository, environ=session.environ)
    check = named[0] if named else Check("shell", "")
    session.note(
        f"safeai-git: a shell in the sandbox, on tree {of.tree[:12]}. Nothing is recorded, and "
        "nothing that is written here is kept. 'exit' leaves."
    )
    with Terminal(sys.stdin.fileno(), sys.stdout) as terminal:
        outcome = replayer.look(of.tree, check, terminal, policy, base_tree=of.base_tree)
    stopped = f", stopped at its limit: {outcome.limit_hit}" if outcome.limit_hit else ""
    session.note(f"safeai-git: the sandbox is gone{stopped}; nothing was recorded")
    return 0


class _Target(Struct, frozen=True):
    """What is replayed: a tree, the one that it starts from, and the policy in force there."""

    tree: str
    base_tree: str
    policy: PolicyStack


def _target(session: Session, revision: str) -> _Target:
    """Of a commit, or of what is staged; nothing is judged for it."""
    repository = session.repository
    if revision:
        commit = read_commit(repository.store, repository.commit_id(revision))
        tree, base = commit.tree, commit.parents[0] if commit.parents else ""
    else:
        tree, base = repository.staged_tree(), repository.head()
    base_tree = read_commit(repository.store, base).tree if base else EMPTY_TREE
    return _Target(tree, base_tree, session.trust().at(base).policy)
