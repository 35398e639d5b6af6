"""Policies: one layer (`Policy`), and the layers together (`PolicyStack`).

A layer is what one document says, ready to be asked. Layers are never merged into one: each is evaluated by itself
and the worst outcome counts, so another layer can only tighten (B-05). The stack answers the few questions that are
about all of them at once, always with the strictest layer's answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from msgspec import Struct

from safeai_git.core import canonical
from safeai_git.core.attribution import Attribution
from safeai_git.core.policy_faults import Fault, Faults, Positions
from safeai_git.core.policy_parts import (
    GOVERNANCE,
    PROTECTED,
    TIERS,
    UNREACHABLE,
    AgentRule,
    Approvals,
    Check,
    GovernorLink,
    PolicyRule,
    Settings,
    Setup,
    Tier,
)
from safeai_git.core.policy_reader import read
from safeai_git.core.values import fields as contents
from safeai_git.core.wildmatch import Pattern, PatternSet

__all__ = [
    "AgentRule",
    "Approvals",
    "Check",
    "GovernorLink",
    "Policy",
    "PolicyRule",
    "PolicyStack",
    "Setup",
]

LARGEST_POLICY = 256 * 1024
"""Bytes of a policy file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy(Settings):
    """One layer.

    Attributes:
        source: What to call it in messages, e.g. ``.safeai/policy.yaml at abc1234``.
        digest: SHA-256, in hex, of the file's exact bytes; for the built-in one, of its canonical JSON.
        allowed, denied: The path lists, ready to match.
        protected: The default set (unless the policy drops it), the policy's own additions, the governance files.
        governance: The files that are protected whatever a policy says.
    """

    source: str
    digest: str
    allowed: PatternSet = field(init=False, repr=False, compare=False)
    denied: PatternSet = field(init=False, repr=False, compare=False)
    protected: PatternSet = field(init=False, repr=False, compare=False)
    governance: PatternSet = field(init=False, repr=False, compare=False)
    _triggers: tuple[PatternSet, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        always = _patterns(PROTECTED if self.protect_defaults else GOVERNANCE)
        derived = {
            "allowed": PatternSet(self.allow_paths),
            "denied": PatternSet(self.deny_paths),
            "protected": PatternSet((*always, *self.protected_paths)),
            "governance": PatternSet(_patterns(GOVERNANCE)),
            "_triggers": tuple(PatternSet(check.paths) for check in self.checks),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_data(
        cls, data: object, positions: Positions, source: str, digest: str, faults: Sequence[Fault] = ()
    ) -> Policy:
        """Read a layer from plain data.

        Args:
            data: Mappings, lists, text, numbers, booleans and ``None``.
            positions: Where the values stand in the file, as far as that is known.
            source: What to call the policy in messages.
            digest: SHA-256, in hex, of the bytes that the data was read from.
            faults: Mistakes that were found on the way here; they are reported with those found now.

        Raises:
            PolicyError: Anything is wrong; the message lists all of it, one a line.
        """
        settings = read(data, Faults(source, positions, list(faults)))
        return cls(source=source, digest=digest, **_given(settings))

    @classmethod
    def builtin(cls) -> Policy:
        """The policy of a repository that has none."""
        return _builtin()

    @property
    def lfs_limit(self) -> int:
        """The largest file that an LFS pointer may stand for, in bytes."""
        return self.max_edit_size_bytes if self.max_lfs_size_bytes is None else self.max_lfs_size_bytes

    def tier(self, agent: str) -> Tier:
        """An agent's autonomy tier; the policy's own for an agent that it does not name, and for no agent."""
        own = self.agents.get(agent.casefold())
        return own.autonomy_tier if own and own.autonomy_tier else self.autonomy_tier

    def admits(self, agent: str) -> bool:
        """Whether changes by this agent are accepted at all."""
        own = self.agents.get(agent.casefold())
        return own is None or own.allow

    def governs(self, author_class: str) -> bool:
        """Whether this layer has a say in changes by this class of authors."""
        if author_class == "unknown" and self.unknown_counts_as in self.applies_to:
            return True
        return author_class in self.applies_to

    def counted(self, who: Attribution) -> Attribution:
        """Who wrote a change as this layer has it: where it would have no say, free text counts if it wants that."""
        if self.free_text_governs and not self.governs(who.author_class):
            return who.with_free_text()
        return who

    @property
    def watched(self) -> PatternSet:
        """The paths that are judged whoever changes them."""
        return self.protected if self.ai_until_shown_human else self.governance

    def checks_for(self, paths: Iterable[bytes]) -> tuple[Check, ...]:
        """The checks that a change of these paths asks for, in the policy's order."""
        changed = tuple(paths)
        return tuple(
            check
            for check, trigger in zip(self.checks, self._triggers, strict=True)
            if not check.paths or any(trigger.first_match_folded(path) for path in changed)
        )

    def to_data(self) -> dict[str, Any]:
        """Everything that this layer says, defaults written out; `from_data` reads it back to an equal layer."""
        data = {one.name: _plain(getattr(self, one.name)) for one in fields(Settings)}
        data["kill_switch"] = {"max_age_seconds": data.pop("kill_switch_max_age_seconds")}
        if self.governor is None:
            del data["governor"]
        for name, agent in self.agents.items():
            if agent.autonomy_tier is None:
                del data["agents"][name]["autonomy_tier"]
        return data


class PolicyStack(Struct, frozen=True):
    """The layers that judge together, the organisation's first. Without layers it trusts nobody with anything."""

    layers: tuple[Policy, ...]

    @property
    def source(self) -> str:
        """The layers' names."""
        return ", ".join(layer.source for layer in self.layers)

    @property
    def digest(self) -> str:
        """The layer's digest if there is one, else SHA-256, in hex, of the digests in order, each with a newline."""
        if len(self.layers) == 1:
            return self.layers[0].digest
        return hashlib.sha256("".join(f"{layer.digest}\n" for layer in self.layers).encode()).hexdigest()

    @property
    def safe_mode(self) -> bool:
        """Whether any layer asks for it."""
        return not self.layers or any(layer.safe_mode for layer in self.layers)

    @property
    def repository(self) -> str:
        """The repository's identity: of the last layer that states one, which is the repository's own if it does."""
        return next((layer.repository for layer in reversed(self.layers) if layer.repository), "")

    @property
    def threshold(self) -> int:
        """How many approvals lift a review: the largest number that a layer asks for."""
        return max((layer.approvals.threshold for layer in self.layers), default=1)

    @property
    def approvers(self) -> tuple[tuple[str, ...], ...]:
        """The lists of principals whose approvals count; one who counts is on every list."""
        return tuple(layer.approvals.approvers for layer in self.layers if layer.approvals.approvers)

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every layer's checks, each once; two layers' checks of one name that differ are both there."""
        return tuple(dict.fromkeys(check for layer in self.layers for check in layer.checks))

    @property
    def governor(self) -> GovernorLink | None:
        """The first layer's Governor, with the strictest answer to its silence."""
        links = [layer.governor for layer in self.layers if layer.governor]
        if not links:
            return None
        strictest = max((link.on_unreachable for link in links), key=UNREACHABLE.index)
        return GovernorLink(links[0].url, strictest, min(link.timeout_seconds for link in links))

    @property
    def kill_switch_max_age_seconds(self) -> int:
        """How old a lease may be: the shortest age."""
        return min((layer.kill_switch_max_age_seconds for layer in self.layers), default=0)

    @property
    def deadline_seconds(self) -> int:
        """How long a hook may take: the shortest time, since the first to pass it decides."""
        return min((layer.deadline_seconds for layer in self.layers), default=Settings().deadline_seconds)

    def tier(self, agent: str) -> Tier:
        """An agent's autonomy tier: the lowest."""
        return min((layer.tier(agent) for layer in self.layers), key=TIERS.index, default="frozen")

    def admits(self, agent: str) -> bool:
        """Whether every layer accepts changes by this agent."""
        return bool(self.layers) and all(layer.admits(agent) for layer in self.layers)

    def governs(self, author_class: str) -> bool:
        """Whether any layer has a say in changes by this class of authors."""
        return not self.layers or any(layer.governs(author_class) for layer in self.layers)

    def has_say(self, who: Attribution) -> bool:
        """Whether any layer has a say in all that this author changes."""
        return not self.layers or any(layer.governs(layer.counted(who).author_class) for layer in self.layers)

    def counted(self, who: Attribution) -> Attribution:
        """Who wrote a change, as the first layer has it that counts more than the change's own signals."""
        return next((one for one in (layer.counted(who) for layer in self.layers) if one is not who), who)

    def checks_for(self, paths: Iterable[bytes]) -> tuple[Check, ...]:
        """The checks of all layers that a change of these paths asks for, each once."""
        changed = tuple(paths)
        return tuple(dict.fromkeys(check for layer in self.layers for check in layer.checks_for(changed)))

    def refused_mounts(self, check: Check) -> tuple[str, ...]:
        """What a check or its set-up wants to be shown of the host and the organisation's policy does not allow.

        Without an organisation's policy nobody but the repository's own, which the base commit holds, has a say.
        """
        if len(self.layers) < 2 or check in self.layers[0].checks:
            return ()
        allowed = self.layers[0].allow_read_only
        wanted = (*check.read_only, *(check.setup.read_only if check.setup else ()))
        return tuple(path for path in wanted if not any(f"{path}/".startswith(f"{one}/") for one in allowed))

    @property
    def setup_network(self) -> str:
        """For whose lock files a set-up may use the network; ``never`` where no organisation's policy says so."""
        return self.layers[0].allow_setup_network if len(self.layers) > 1 else "never"


def _plain(value: Any) -> Any:
    if isinstance(value, Pattern):
        return value.source
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Struct):
        return {name: _plain(content) for name, content in contents(value).items()}
    return value


@cache
def _patterns(sources: tuple[str, ...]) -> tuple[Pattern, ...]:
    return tuple(Pattern.parse(source) for source in sources)


@cache
def _builtin() -> Policy:
    # The protected set stands in the text, so that a change of it changes the digest.
    spelt_out = Settings(protect_defaults=False, protected_paths=_patterns(PROTECTED))
    text = canonical.dumps(Policy(**_given(spelt_out), source="", digest="").to_data())
    return Policy(**_given(Settings()), source="built-in default", digest=hashlib.sha256(text).hexdigest())


def _given(settings: Settings) -> dict[str, Any]:
    return {one.name: getattr(settings, one.name) for one in fields(Settings)}
