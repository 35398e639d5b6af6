"""What a change of policy means: each effective difference, and whether it tightens or loosens.

For people who review a change of the policy file. It compares what the documents say after defaults, so spelling a
default out is no difference, and it is advice: what a rule's new expression lets through nobody can tell from text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from safeai_git.core.policy_parts import (
    AUTHOR_CLASSES,
    DEFAULT_OUTCOMES,
    OUTCOMES,
    SETUP_NETWORK,
    TIERS,
    UNREACHABLE,
    Approvals,
    GovernorLink,
)
from safeai_git.core.values import fields, replace

if TYPE_CHECKING:
    from safeai_git.core.policy import Policy

Direction = Literal["tighter", "looser", "either"]


class Change(Struct, frozen=True):
    """One effective difference: the key, a sentence, and what it does to the limits."""

    key: str
    text: str
    direction: Direction


def difference(old: Policy, new: Policy) -> list[Change]:
    """The effective difference between two layers, in the order of the documentation."""
    return list(_changes(old, new))


def _changes(old: Policy, new: Policy) -> Iterator[Change]:
    yield from _ranked("safe_mode", old.safe_mode, new.safe_mode, int)
    yield from _ranked("autonomy_tier", old.autonomy_tier, new.autonomy_tier, lambda tier: -TIERS.index(tier))
    yield from _either("repository", old.repository, new.repository)
    yield from _opening(
        "allow_paths", _sources(old.allow_paths), _sources(new.allow_paths), "every path is allowed"
    )
    yield from _closing("deny_paths", _sources(old.deny_paths), _sources(new.deny_paths))
    yield from _closing("protected_paths", _sources(old.protected.patterns), _sources(new.protected.patterns))
    for key in ("max_edit_size_bytes", "max_total_size_bytes", "max_edits"):
        yield from _ranked(key, getattr(old, key), getattr(new, key), lambda limit: -limit)
    yield from _ranked("max_lfs_size_bytes", old.lfs_limit, new.lfs_limit, lambda limit: -limit)
    before, after = ([one for one in AUTHOR_CLASSES if policy.governs(one)] for policy in (old, new))
    yield from _closing("applies_to", before, after)
    yield from _ranked("free_text_governs", old.free_text_governs, new.free_text_governs, int)
    yield from _ranked("ai_until_shown_human", old.ai_until_shown_human, new.ai_until_shown_human, int)
    yield from _disclosure(old.attribution, new.attribution)
    yield from _ranked("ai_may_sign_off", old.ai_may_sign_off, new.ai_may_sign_off, lambda may: -int(may))
    trailers = (old.accountable_trailers, new.accountable_trailers)
    yield from _opening("accountable_trailers", *trailers, "nobody has to be named")
    yield from _agents(old, new)
    for rule, own in DEFAULT_OUTCOMES.items():
        key = f"outcomes.{rule}"
        yield from _ranked(key, old.outcomes.get(rule, own), new.outcomes.get(rule, own), OUTCOMES.index)
    yield from _approvals(old.approvals, new.approvals)
    yield from _named("checks", {one.name: one for one in old.checks}, {one.name: one for one in new.checks})
    yield from (
        replace(one, direction="looser" if one.direction == "tighter" else "tighter")
        for one in _closing("allow_read_only", old.allow_read_only, new.allow_read_only)
    )
    networks = (old.allow_setup_network, new.allow_setup_network)
    yield from _ranked("allow_setup_network", *networks, lambda one: -SETUP_NETWORK.index(one))
    yield from _named("rules", {one.id: one for one in old.rules}, {one.id: one for one in new.rules})
    yield from _governor(old.governor, new.governor)
    ages = (old.kill_switch_max_age_seconds, new.kill_switch_max_age_seconds)
    yield from _ranked("kill_switch.max_age_seconds", *ages, lambda age: -age)
    yield from _either("deadline_seconds", old.deadline_seconds, new.deadline_seconds)


def _sources(patterns: Sequence[Any]) -> list[str]:
    return [pattern.source for pattern in patterns]


def _word(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,}" if isinstance(value, int) else repr(value)


def _from_to(old: object, new: object) -> str:
    return f"from {_word(old)} to {_word(new)}"


def _either(key: str, old: object, new: object) -> Iterator[Change]:
    if old != new:
        yield Change(key, _from_to(old, new), "either")


def _ranked(key: str, old: Any, new: Any, strictness: Callable[[Any], int]) -> Iterator[Change]:
    if old != new:
        yield Change(key, _from_to(old, new), "tighter" if strictness(new) > strictness(old) else "looser")


def _closing(key: str, old: Sequence[str], new: Sequence[str]) -> Iterator[Change]:
    """A list that closes what it names."""
    yield from (Change(key, f"{one!r} is added", "tighter") for one in new if one not in old)
    yield from (Change(key, f"{one!r} is removed", "looser") for one in old if one not in new)


def _opening(key: str, old: Sequence[str], new: Sequence[str], counts: str) -> Iterator[Change]:
    """A list that opens what it names, and everything when it is empty."""
    if old and not new:
        yield Change(key, f"the list is emptied: {counts}", "looser")
    elif new and not old:
        yield Change(key, f"the list is no longer empty: {', '.join(map(repr, new))}", "tighter")
    else:
        yield from (Change(key, f"{one!r} is added", "looser") for one in new if one not in old)
        yield from (Change(key, f"{one!r} is removed", "tighter") for one in old if one not in new)


def _disclosure(old: str | None, new: str | None) -> Iterator[Change]:
    """To name an agent is to tell of it; what forbids either asks for something else."""
    if old == new:
        return
    text = f"from {_word(old or 'nothing')} to {_word(new or 'nothing')}"
    order = (None, "disclose", "require")
    if "forbid" in (old, new):
        both = None in (old, new)
        yield Change("attribution", text, ("tighter" if new else "looser") if both else "either")
    else:
        yield Change("attribution", text, "tighter" if order.index(new) > order.index(old) else "looser")


def _agents(old: Policy, new: Policy) -> Iterator[Change]:
    for agent in sorted({*old.agents, *new.agents}):
        yield from _ranked(
            f"agents.{agent}.allow", old.admits(agent), new.admits(agent), lambda allow: -int(allow)
        )
        if agent in old.agents and agent in new.agents and old.agents[agent] == new.agents[agent]:
            continue  # a tier that only follows the policy's own was already told
        key = f"agents.{agent}.autonomy_tier"
        yield from _ranked(key, old.tier(agent), new.tier(agent), lambda tier: -TIERS.index(tier))


def _approvals(old: Approvals, new: Approvals) -> Iterator[Change]:
    yield from _ranked("approvals.threshold", old.threshold, new.threshold, lambda number: number)
    yield from _opening("approvals.approvers", old.approvers, new.approvers, "anyone listed may approve")


def _named(key: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Change]:
    """Checks or rules: one more tightens, one less loosens, one that says something else may do either."""
    yield from (Change(f"{key}.{name}", "is added", "tighter") for name in new if name not in old)
    yield from (Change(f"{key}.{name}", "is removed", "looser") for name in old if name not in new)
    for name, was in old.items():
        becomes = new.get(name, was)
        now = fields(becomes)
        changed = [name for name, content in fields(was).items() if content != now[name]]
        if changed == ["outcome"]:
            yield from _ranked(f"{key}.{name}.outcome", was.outcome, becomes.outcome, OUTCOMES.index)
        elif changed:
            yield Change(f"{key}.{name}", f"changes its {', '.join(changed)}", "either")


def _governor(old: GovernorLink | None, new: GovernorLink | None) -> Iterator[Change]:
    if old is None or new is None:
        if old is not new:
            yield Change("governor", f"{new.url!r} is asked" if new else "is no longer asked", "either")
        return
    yield from _either("governor.url", old.url, new.url)
    yield from _ranked("governor.on_unreachable", old.on_unreachable, new.on_unreachable, UNREACHABLE.index)
    yield from _either("governor.timeout_seconds", old.timeout_seconds, new.timeout_seconds)
