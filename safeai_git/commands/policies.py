"""``policy show|lint|test|schema``, ``explain`` and ``scope``: what the policy says."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

from safeai_git.commands.session import Session
from safeai_git.core.display import CONTROL, IGNORABLE, display, escape, safe_text
from safeai_git.core.errors import PolicyError, WrongUse
from safeai_git.core.finding import Outcome
from safeai_git.core.paths import portability_problems
from safeai_git.core.policy import LARGEST_POLICY, Policy, PolicyStack
from safeai_git.core.rules import protected_path, unportable_path
from safeai_git.core.rules.common import chosen
from safeai_git.files import read_bounded
from safeai_git.policy_cases import Case, load_cases, run_case
from safeai_git.policy_vm import check_expressions
from safeai_git.policyfile import load
from safeai_git.schema import policy_schema, schema_faults
from safeai_git.trust import Trust

WORKING_FILE = Path(".safeai") / "policy.yaml"

_UNSEEN = re.compile(f"[{CONTROL}{IGNORABLE}]")


def _trust(session: Session, revision: str, policy: Path | None) -> Trust:
    repository = session.repository
    return session.trust(policy).at(repository.commit_id(revision) if revision else repository.head())


def show(session: Session, revision: str, policy: Path | None) -> int:
    """The policy in force, with every default written out."""
    trust = _trust(session, revision, policy)
    layers = [
        {"source": one.source, "digest": one.digest, "policy": one.to_data()} for one in trust.policy.layers
    ]
    if session.output_format != "text":
        session.data({"digest": trust.policy.digest, "layers": layers})
        return 0
    for layer in trust.policy.layers:
        session.say(f"# {layer.source}, sha256 {layer.digest}")
        for key, value in layer.to_data().items():
            session.say(f"{key}: {_yaml(value)}")
    session.say(f"# signers: {len(trust.keyring.entries)} in {trust.keyring.source}")
    return 0


def _yaml(value: Any) -> str:
    """A value in YAML's flow form, of which JSON is a part; whatever is not plain to see as YAML's own escape."""
    return _UNSEEN.sub(lambda found: escape(found.group()), json.dumps(value, ensure_ascii=False))


def lint(session: Session, path: Path | None) -> int:
    """Check a policy file, expressions included; raises with everything that is wrong with it."""
    file = path or _working_file(session)
    data = _bytes(file)
    policy = load(data, str(file))
    check_expressions(policy)
    faults = schema_faults(data)
    if faults:
        raise PolicyError(f"{file}: {faults[0]}", hint="the schema and the parser disagree: please report it")
    remarks = _remarks(policy)
    if session.output_format == "text":
        for remark in remarks:
            session.say(f"{file}: {remark}")
        session.say(f"{file}: valid, sha256 {policy.digest}")
    else:
        session.data({"file": str(file), "valid": True, "digest": policy.digest, "remarks": remarks})
    return 0


def _working_file(session: Session) -> Path:
    """The policy file of the working tree.

    Raises:
        PolicyError: It is a link: committed as one, it would not be read.
    """
    file = session.repository.root / WORKING_FILE
    if file.is_symlink() or file.parent.is_symlink():
        raise PolicyError(f"{file} is not a plain file", hint="put the file itself there, not a link to it")
    if not file.exists():
        hint = "'safeai-git init' writes one; without it the built-in policy judges"
        raise PolicyError(f"{file} does not exist", hint=hint)
    return file


def _remarks(policy: Policy) -> list[str]:
    """What is valid and still worth a second look."""
    remarks = []
    if not policy.repository:
        remarks.append("no 'repository': verdicts are not bound to a name, only to trees and policy")
    if not policy.safe_mode:
        remarks.append("safe_mode is off: what cannot be established asks for review instead of being denied")
    if not policy.protect_defaults:
        remarks.append("protect_defaults is off: CI workflows and hooks can be changed without an approval")
    if policy.attribution == "forbid":
        remarks.append("attribution is 'forbid': who leaves no mark cannot be told from a person later on")
    if policy.ai_may_sign_off is False and "Signed-off-by" in policy.accountable_trailers:
        remarks.append(
            "accountable_trailers has 'Signed-off-by': a person has to add it after the agent is done"
        )
    if "ai" not in policy.applies_to:
        remarks.append("applies_to leaves out 'ai': changes by agents are not governed")
    remarks += [
        f"the check '{one.name}' has no 'paths': it runs for every change"
        for one in policy.checks
        if not one.paths
    ]
    return remarks


def _bytes(path: Path) -> bytes:
    try:
        return read_bounded(path, LARGEST_POLICY)
    except OSError as error:
        raise PolicyError(
            f"{display(os.fsencode(path))}: {error.strerror}", hint="name a file that can be read"
        ) from error


def schema(session: Session) -> int:
    """Print the JSON Schema of policies, for editors."""
    session.data(policy_schema())
    return 0


def test(session: Session, cases: Path, policy: Path | None) -> int:
    """Run a file of cases against the policy of the working tree (or another file). 1 when one fails."""
    file = policy or _working_file(session)
    stack = PolicyStack((load(_bytes(file), str(file)),))
    results = [(case, run_case(case, stack)) for case in load_cases(_bytes(cases), str(cases))]
    failed = [(case, problem) for case, problem in results if problem]
    if session.output_format != "text":
        session.data({"cases": [_case(case, problem) for case, problem in results], "failed": len(failed)})
    for case, problem in results:
        session.say(
            f"{session.style.bad('FAILED') if problem else session.style.ok('ok')} {safe_text(case.name)}"
        )
        if problem:
            session.say(f"      {safe_text(problem)}")
    session.say(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def _case(case: Case, problem: str) -> dict[str, object]:
    return {"name": case.name, "passed": not problem, "problem": problem}


def explain(session: Session, path: str, revision: str, policy: Path | None) -> int:
    """Which pattern decides about a path, from which policy. 1 when an edit of it would not pass unseen."""
    raw = _repository_path(session, path)
    trust = _trust(session, revision, policy)
    verdicts = [_explained(raw, layer) for layer in trust.policy.layers]
    if session.output_format != "text":
        session.data({"path": display(raw), "layers": verdicts})
    for one in verdicts:
        session.say(f"{one['outcome']:7} {display(raw)}: {one['why']} ({one['policy']})")
    return 0 if all(one["outcome"] == "allowed" for one in verdicts) else 1


def _repository_path(session: Session, path: str) -> bytes:
    """A path as a person types it, relative to where they stand, as a path from the root."""
    root = session.repository.root
    full = Path(os.path.normpath(session.start / path))  # the path need not exist, so nothing is resolved
    shown = display(os.fsencode(path))
    if full == root:
        raise WrongUse(f"{shown} is the repository itself", hint="name a path inside it")
    try:
        return os.fsencode(full.relative_to(root).as_posix())
    except ValueError:
        outside = f"{shown} is outside the repository {display(os.fsencode(root))}"
        raise WrongUse(outside, hint="name a path inside it") from None


def _explained(path: bytes, policy: Policy) -> dict[str, str]:
    """What the policy says about an edit of this path by an agent."""
    outcome, why = max(_objections(path, policy), key=itemgetter(0), default=(Outcome.WARN, ""))
    if outcome is Outcome.WARN:
        allowed = policy.allowed.first_match(path) if policy.allow_paths else None
        reason = (
            f"allow_paths has '{allowed.source}'"
            if allowed
            else "no pattern matches, and allow_paths is empty"
        )
        why = f"{reason}; warned of: {why}" if why else reason
    word = {Outcome.DENY: "denied", Outcome.REVIEW: "review", Outcome.WARN: "allowed"}[outcome]
    return {"outcome": word, "why": why, "policy": policy.source}


def _objections(path: bytes, policy: Policy) -> Iterator[tuple[Outcome, str]]:
    """What the rules about paths and tiers would object to, as they do it themselves (`core.rules`)."""
    denied = policy.denied.first_match_folded(path)
    if denied:
        yield Outcome.DENY, f"deny_paths has '{safe_text(denied.source)}'"
    if policy.allow_paths and policy.allowed.first_match(path) is None:
        yield Outcome.DENY, "no pattern of allow_paths matches"
    for problem in portability_problems(path):
        fixed = problem.kind == "git-alias"
        outcome = Outcome.DENY if fixed else chosen(policy, unportable_path.ID, Outcome.DENY)
        yield outcome, f"the name is not portable: {problem.what}"
    if policy.autonomy_tier in ("frozen", "alpha"):
        outcome = Outcome.DENY if policy.autonomy_tier == "frozen" else Outcome.REVIEW
        yield outcome, f"autonomy_tier is '{policy.autonomy_tier}'"
    protected = policy.protected.first_match_folded(path)
    if protected and (policy.autonomy_tier != "stable" or policy.governance.first_match_folded(path)):
        outcome = chosen(policy, protected_path.ID, Outcome.REVIEW)
        whose = ", for changes by people too" if policy.watched.first_match_folded(path) else ""
        yield outcome, f"protected_paths has '{safe_text(protected.source)}'{whose}"


def scope(session: Session, agent: str, *, for_agent: bool, policy: Path | None) -> int:
    """The limits, as data or as text that an agent can be told before it starts."""
    trust = _trust(session, "", policy)
    layers = [_scope(layer, agent) for layer in trust.policy.layers]
    if session.output_format != "text":
        session.data({"agent": agent, "policy": trust.policy.digest, "layers": layers})
        return 0
    if for_agent:
        session.say(
            "Changes to this repository are judged before they are accepted. Stay inside these limits:"
        )
    for layer in trust.policy.layers:
        for line in _scope_text(layer, agent):
            session.say(f"- {safe_text(line)}")
    if for_agent:
        session.say(
            "- Check before you commit: safeai-git check. A refusal names the rule and what to do about it; "
            "safeai-git split gives the part that is allowed."
        )
        session.say(
            "- Do not change .safeai/, hooks, CI workflows or agents' instructions to get round a limit."
        )
    return 0


def _scope(policy: Policy, agent: str) -> dict[str, Any]:
    return {
        "source": policy.source,
        "autonomy_tier": policy.tier(agent),
        "admitted": policy.admits(agent),
        "allow_paths": [one.source for one in policy.allow_paths],
        "deny_paths": [one.source for one in policy.deny_paths],
        "protected_paths": [one.source for one in policy.protected],
        "max_edit_size_bytes": policy.max_edit_size_bytes,
        "max_total_size_bytes": policy.max_total_size_bytes,
        "max_edits": policy.max_edits,
        "attribution": policy.attribution,
        "may_sign_off": policy.ai_may_sign_off,
        "accountable_trailers": list(policy.accountable_trailers),
        "checks": [{"name": one.name, "run": one.run} for one in policy.checks],
        "rules": [{"id": one.id, "outcome": one.outcome, "message": one.message} for one in policy.rules],
    }


def _scope_text(policy: Policy, agent: str) -> list[str]:
    tier = policy.tier(agent)
    lines = [
        {
            "frozen": "No change by an agent is accepted at the moment.",
            "alpha": "Each change needs a person's approval.",
            "beta": "Changes inside the limits are accepted; protected paths need a person's approval.",
            "stable": "Changes inside the limits are accepted; only .safeai/ needs a person's approval.",
        }[tier]
    ]
    if not policy.admits(agent):
        lines = [f"Changes by {agent} are not accepted."]
    if policy.allow_paths:
        lines.append(f"Only these paths may change: {', '.join(one.source for one in policy.allow_paths)}")
    if policy.deny_paths:
        lines.append(f"Never change: {', '.join(one.source for one in policy.deny_paths)}")
    lines.append(f"Protected: {', '.join(one.source for one in policy.protected)}")
    lines.append(
        f"At most {policy.max_edit_size_bytes:,} bytes of added and removed lines in one file, "
        f"{policy.max_total_size_bytes:,} in all, {policy.max_edits:,} files."
    )
    lines += _message_text(policy)
    lines += [f"This has to pass: {one.run} (check '{one.name}')" for one in policy.checks]
    lines += [f"Rule {one.id} ({one.outcome}): {one.message}" for one in policy.rules]
    return lines


def _message_text(policy: Policy) -> list[str]:
    """What a commit by an agent has to say, and what it must not."""
    lines = []
    if policy.attribution:
        lines.append(
            {
                "require": "Name yourself in a trailer of each commit message: 'Assisted-by: AGENT'.",
                "disclose": "Say in each commit message that an AI took part, best by 'Assisted-by: AGENT'.",
                "forbid": "Name no AI in commit messages, as author or as committer.",
            }[policy.attribution]
        )
    if policy.accountable_trailers:
        key = policy.accountable_trailers[0]
        lines.append(f"Name the person who asked for the work: '{key}: NAME <ADDRESS>'.")
    if not policy.ai_may_sign_off:
        lines.append("Add no Signed-off-by, in nobody's name.")
    return lines
