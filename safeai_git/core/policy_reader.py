"""The strict reader of a policy: plain data with positions in, `Settings` out, or every mistake at once.

It decides at run time what a policy may say. ``schemas/policy.schema.json`` says the same to editors; beyond it are
only the checks that a schema cannot express: patterns that parse, bounds counted in bytes, unique names, an agent's
tier that is not above the policy's, and whole numbers that are written as such (a schema takes 5.0 for 5).
"""

from __future__ import annotations

from collections.abc import Mapping

from safeai_git.core import policy_parts as parts
from safeai_git.core.policy_faults import KEY, Faults, Section, guess, show
from safeai_git.core.policy_parts import (
    AgentRule,
    Approvals,
    Check,
    CheckLimits,
    GovernorLink,
    PolicyRule,
    Settings,
    Setup,
)
from safeai_git.core.policy_values import (
    AGENT,
    NAME,
    PRINCIPAL,
    PROGRAM,
    REPOSITORY,
    TRAILER,
    URL,
    boolean,
    expression,
    host_path,
    matching,
    maybe,
    number,
    one_of,
    optional,
    pattern,
    text,
    tree_path,
    variable,
)


def read(data: object, faults: Faults) -> Settings:
    """The settings of a document.

    Args:
        data: Mappings, lists, text, numbers, booleans and ``None``.
        faults: Where mistakes are noted, with the source and the positions; may hold earlier ones.

    Raises:
        PolicyError: Anything is wrong; the message lists all of it.
    """
    known = (*TOP, "$schema")
    top = Section(faults, data, (), known, "the policy")
    top.get("$schema", text(parts.MAX_TEXT), "")
    tier: parts.Tier = top.get("autonomy_tier", one_of(parts.TIERS), "beta")
    kill_switch = top.section("kill_switch", ("max_age_seconds",))
    settings = Settings(
        safe_mode=top.get("safe_mode", boolean, default=True),
        autonomy_tier=tier,
        repository=top.get(
            "repository", matching(REPOSITORY, "must be a name such as github.com/org/name"), ""
        ),
        allow_paths=top.many("allow_paths", pattern, parts.MAX_PATTERNS),
        deny_paths=top.many("deny_paths", pattern, parts.MAX_PATTERNS),
        protected_paths=top.many("protected_paths", pattern, parts.MAX_PATTERNS),
        protect_defaults=top.get("protect_defaults", boolean, default=True),
        max_edit_size_bytes=top.get("max_edit_size_bytes", number(0, parts.MAX_BYTES), 65_536),
        max_total_size_bytes=top.get("max_total_size_bytes", number(0, parts.MAX_BYTES), 524_288),
        max_edits=top.get("max_edits", number(0, parts.MAX_EDITS), 1_000),
        max_lfs_size_bytes=top.get("max_lfs_size_bytes", optional(number(0, parts.MAX_BYTES)), None),
        applies_to=_applies_to(top),
        unknown_counts_as=top.get("unknown_counts_as", one_of(parts.AUTHOR_CLASSES[:-1]), "ai"),
        free_text_governs=top.get("free_text_governs", boolean, default=False),
        ai_until_shown_human=top.get("ai_until_shown_human", boolean, default=False),
        attribution=_attribution(top),
        ai_may_sign_off=top.get("ai_may_sign_off", boolean, default=True),
        accountable_trailers=top.many(
            "accountable_trailers",
            matching(TRAILER, "must be the key of a trailer, such as Requested-by"),
            parts.MAX_NAMES,
        ),
        agents=_agents(top, tier, faults),
        outcomes=_outcomes(top, faults),
        approvals=_approvals(top),
        checks=_checks(top),
        allow_read_only=top.many("allow_read_only", host_path, parts.MAX_NAMES),
        allow_setup_network=top.get("allow_setup_network", one_of(parts.SETUP_NETWORK), "never"),
        rules=_rules(top),
        governor=_governor(top),
        kill_switch_max_age_seconds=kill_switch.get(
            "max_age_seconds", number(1, parts.MAX_LEASE_SECONDS), 3_600
        )
        if kill_switch
        else 3_600,
        deadline_seconds=top.get("deadline_seconds", number(1, 600), 10),
    )
    faults.check()
    return settings


TOP = (
    "safe_mode",
    "autonomy_tier",
    "repository",
    "allow_paths",
    "deny_paths",
    "protected_paths",
    "protect_defaults",
    "max_edit_size_bytes",
    "max_total_size_bytes",
    "max_edits",
    "max_lfs_size_bytes",
    "applies_to",
    "unknown_counts_as",
    "free_text_governs",
    "ai_until_shown_human",
    "attribution",
    "ai_may_sign_off",
    "accountable_trailers",
    "agents",
    "outcomes",
    "approvals",
    "checks",
    "allow_read_only",
    "allow_setup_network",
    "rules",
    "governor",
    "kill_switch",
    "deadline_seconds",
)


def _attribution(top: Section) -> str | None:
    def read(value: object) -> str | None:
        return None if value is None else one_of(parts.ATTRIBUTION)(value)

    return top.get("attribution", read, None)


def _applies_to(top: Section) -> tuple[str, ...]:
    classes = top.many("applies_to", one_of(parts.AUTHOR_CLASSES), 16, ("ai", "mixed"))
    if not classes:
        top.note(
            "applies_to",
            "'applies_to' is empty, so the policy would govern nobody",
            "name at least one class",
        )
    return classes


def _agents(top: Section, tier: str, faults: Faults) -> dict[str, AgentRule]:
    agents: dict[str, AgentRule] = {}
    for name, value in top.mapping("agents", parts.MAX_AGENTS).items():
        place = ("agents", name)
        if not isinstance(name, str) or not AGENT.match(name):
            hint = "small letters, digits, '-', '_' and '.' make a name"
            faults.note((*place, KEY), f"{show(name)} is not an agent's name", hint)
        entry = Section(faults, value, place, ("autonomy_tier", "allow"), f"the agent {show(name)}")
        own = entry.get("autonomy_tier", one_of(parts.TIERS), None)
        if own is not None and parts.TIERS.index(own) > parts.TIERS.index(tier):
            hint = "an agent's tier may be lower than the policy's, never higher"
            faults.note((*place, "autonomy_tier"), f"the tier '{own}' is above the policy's '{tier}'", hint)
        agents[name] = AgentRule(own, entry.get("allow", boolean, default=True))
    return agents


def _outcomes(top: Section, faults: Faults) -> Mapping[str, str]:
    outcomes: dict[str, str] = {}
    given = top.mapping("outcomes", len(parts.CHOOSABLE) + len(parts.RULE_IDS))
    for rule in given:
        if rule in parts.CHOOSABLE:
            continue
        what = (
            f"the outcome of '{rule}' is fixed"
            if rule in parts.RULE_IDS
            else f"there is no rule {show(rule)}"
        )
        hint = guess(rule, parts.CHOOSABLE) or f"a policy may choose for: {', '.join(parts.CHOOSABLE)}"
        faults.note(("outcomes", rule, KEY), what, hint)
    chosen = Section(faults, given, ("outcomes",), given, "")
    for rule in given:
        if rule in parts.CHOOSABLE:
            outcomes[rule] = chosen.get(rule, one_of(parts.CHOOSABLE[rule]), "deny")
    return outcomes


def _approvals(top: Section) -> Approvals:
    entry = top.section("approvals", ("threshold", "approvers"))
    if entry is None:
        return Approvals()
    principal = matching(PRINCIPAL, "must be a principal of allowed_signers or a glob over them")
    approvers = entry.many("approvers", principal, parts.MAX_APPROVERS)
    return Approvals(entry.get("threshold", number(1, parts.MAX_THRESHOLD), 1), approvers)


def _checks(top: Section) -> tuple[Check, ...]:
    known = (
        "name",
        "run",
        "paths",
        "timeout_seconds",
        "memory_bytes",
        "environment",
        "read_only",
        "expect_exit",
        "isolation",
        "limits",
        "needs",
        "deterministic",
        "attempts",
        "artifacts",
        "setup",
    )
    checks: dict[str, Check] = {}
    for entry in top.sections("checks", known, "check", parts.MAX_CHECKS):
        check = Check(
            name=entry.need("name", matching(NAME, "must be a name of small letters, digits and '-'"), ""),
            run=entry.need("run", text(parts.MAX_RUN, line=False), ""),
            paths=entry.many("paths", pattern, parts.MAX_PATTERNS),
            timeout_seconds=entry.get("timeout_seconds", number(1, parts.MAX_SECONDS), 300),
            memory_bytes=entry.get("memory_bytes", number(parts.MIN_MEMORY, parts.MAX_BYTES), 2 * 2**30),
            environment=entry.many("environment", variable, parts.MAX_NAMES),
            read_only=entry.many("read_only", host_path, parts.MAX_NAMES),
            expect_exit=entry.many("expect_exit", number(0, 255), 256, (0,)),
            isolation=entry.get("isolation", one_of(parts.ISOLATION_LEVELS), "C"),
            limits=_limits(entry),
            needs=entry.many("needs", matching(PROGRAM, "must be the name of a program"), parts.MAX_NAMES),
            deterministic=entry.get("deterministic", maybe, None),
            attempts=entry.get("attempts", number(1, parts.MAX_ATTEMPTS), 3),
            artifacts=entry.many("artifacts", tree_path, parts.MAX_ARTIFACTS),
            setup=_setup(entry),
        )
        if not check.expect_exit:
            entry.note("expect_exit", "'expect_exit' is empty, so no exit code would pass", "write [0]")
        if check.name in checks and check.name:
            entry.note("name", f"two checks are called '{check.name}'", "give each a name of its own")
        checks[check.name] = check
    return tuple(checks.values())


def _limits(check: Section) -> CheckLimits:
    entry = check.section("limits", parts.LIMIT_BOUNDS)
    if entry is None:
        return CheckLimits()
    own = CheckLimits()
    return CheckLimits(
        **{
            key: entry.get(key, number(*bounds), getattr(own, key))
            for key, bounds in parts.LIMIT_BOUNDS.items()
        }
    )


def _setup(check: Section) -> Setup | None:
    known = (
        "run",
        "locks",
        "keeps",
        "network",
        "timeout_seconds",
        "memory_bytes",
        "environment",
        "read_only",
    )
    entry = check.section("setup", known, optional=True)
    if entry is None:
        return None
    setup = Setup(
        run=entry.need("run", text(parts.MAX_RUN, line=False), ""),
        locks=entry.many("locks", tree_path, parts.MAX_LOCKS),
        keeps=entry.many("keeps", tree_path, parts.MAX_LOCKS),
        network=entry.get("network", boolean, default=False),
        timeout_seconds=entry.get("timeout_seconds", number(1, parts.MAX_SECONDS), 900),
        memory_bytes=entry.get("memory_bytes", number(parts.MIN_MEMORY, parts.MAX_BYTES), 2 * 2**30),
        environment=entry.many("environment", variable, parts.MAX_NAMES),
        read_only=entry.many("read_only", host_path, parts.MAX_NAMES),
    )
    if not setup.locks or not setup.keeps:
        entry.note(None, "a set-up needs 'locks' and 'keeps'", "name the lock files, and the folders to keep")
    for place in setup.keeps:
        others = [*setup.locks, *setup.keeps]
        others.remove(place)
        if any(f"{one}/".startswith(f"{place}/") for one in others):
            entry.note(
                "keeps", f"'{place}' holds another path of the set-up", "keep folders beside each other"
            )
    return setup


def _rules(top: Section) -> tuple[PolicyRule, ...]:
    rules: dict[str, PolicyRule] = {}
    for entry in top.sections("rules", ("id", "when", "each", "outcome", "message"), "rule", parts.MAX_RULES):
        rule = PolicyRule(
            id=entry.need("id", matching(NAME, "must be a name of small letters, digits and '-'"), ""),
            when=entry.need("when", expression, ""),
            outcome=entry.need("outcome", one_of(parts.OUTCOMES), "deny"),
            message=entry.need("message", text(parts.MAX_TEXT), ""),
            each=entry.get("each", one_of(parts.EACH), "change"),
        )
        if rule.id in parts.RULE_IDS:
            entry.note("id", f"'{rule.id}' is a built-in rule", "give this rule a name of its own")
        if rule.id in rules and rule.id:
            entry.note("id", f"two rules are called '{rule.id}'", "give each a name of its own")
        rules[rule.id] = rule
    return tuple(rules.values())


def _governor(top: Section) -> GovernorLink | None:
    entry = top.section("governor", ("url", "on_unreachable", "timeout_seconds"))
    if entry is None:
        return None
    url = matching(
        URL, "must be a URL", "https://host[:port][/path]; http:// only for 127.0.0.1, [::1] and localhost"
    )
    return GovernorLink(
        url=entry.need("url", url, ""),
        on_unreachable=entry.get("on_unreachable", one_of(parts.UNREACHABLE), "spool"),
        timeout_seconds=entry.get("timeout_seconds", number(1, 300), 5),
    )
