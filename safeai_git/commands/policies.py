"""``policy show|lint|test|schema``, ``explain`` and ``scope``: what the policy says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safeai_git.commands.session import Session
from safeai_git.core.display import display
from safeai_git.core.errors import PolicyError, WrongUse
from safeai_git.core.policy import Policy, PolicyStack
from safeai_git.policy_cases import Case, load_cases, run_case
from safeai_git.policy_vm import check_expressions
from safeai_git.policyfile import load
from safeai_git.schema import policy_schema, schema_faults
from safeai_git.trust import Trust

WORKING_FILE = Path(".safeai") / "policy.yaml"


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
    """A value in YAML's flow form, of which JSON is a part."""
    return json.dumps(value, ensure_ascii=False)


def lint(session: Session, path: Path | None) -> int:
    """Check a policy file, expressions included; raises with everything that is wrong with it."""
    file = path or (session.repository.root / WORKING_FILE)
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


def _remarks(policy: Policy) -> list[str]:
    """What is valid and still worth a second look."""
    remarks = []
    if not policy.repository:
        remarks.append("no 'repository': verdicts are not bound to a name, only to trees and policy")
    if not policy.safe_mode:
        remarks.append("safe_mode is off: what cannot be established asks for review instead of being denied")
    if not policy.protect_defaults:
        remarks.append("protect_defaults is off: CI workflows and hooks can be changed without an approval")
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
        return path.read_bytes()
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}", hint="name a policy file that can be read") from error


def schema(session: Session) -> int:
    """Print the JSON Schema of policies, for editors."""
    session.data(policy_schema())
    return 0


def test(session: Session, cases: Path, policy: Path | None) -> int:
    """Run a file of cases against the policy of the working tree (or another file). 1 when one fails."""
    file = policy or (session.repository.root / WORKING_FILE)
    stack = PolicyStack((load(_bytes(file), str(file)),))
    results = [(case, run_case(case, stack)) for case in load_cases(_bytes(cases), str(cases))]
    failed = [(case, problem) for case, problem in results if problem]
    if session.output_format != "text":
        session.data({"cases": [_case(case, problem) for case, problem in results], "failed": len(failed)})
    for case, problem in results:
        session.say(f"{session.style.bad('FAILED') if problem else session.style.ok('ok')} {case.name}")
        if problem:
            session.say(f"      {problem}")
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
    try:
        return os.fsencode(full.relative_to(root).as_posix())
    except ValueError:
        raise WrongUse(f"{path} is outside the repository {root}", hint="name a path inside it") from None


def _explained(path: bytes, policy: Policy) -> dict[str, str]:
    denied = policy.denied.first_match_folded(path)
    protected = policy.protected.first_match_folded(path)
    allowed = policy.allowed.first_match(path) if policy.allow_paths else None
    if denied:
        outcome, why = "denied", f"deny_paths has '{denied.source}'"
    elif policy.allow_paths and allowed is None:
        outcome, why = "denied", "no pattern of allow_paths matches"
    elif protected:
        outcome, why = "review", f"protected_paths has '{protected.source}'"
    elif allowed:
        outcome, why = "allowed", f"allow_paths has '{allowed.source}'"
    else:
        outcome, why = "allowed", "no pattern matches, and allow_paths is empty"
    return {"outcome": outcome, "why": why, "policy": policy.source}


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
            session.say(f"- {line}")
    if for_agent:
        session.say(
            "- Check before you commit: safeai-git check. A refusal names the rule and what to do about it."
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
    lines += [f"This has to pass: {one.run} (check '{one.name}')" for one in policy.checks]
    lines += [f"Rule {one.id} ({one.outcome}): {one.message}" for one in policy.rules]
    return lines
