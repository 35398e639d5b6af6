"""The vocabulary of a policy: its words, its bounds, its default protected set and the sections that it is made of.

Data only. What a policy may say is decided by `safeai_git.core.policy_reader`; the same words and bounds stand in
``schemas/policy.schema.json``, and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from safeai_git.core.wildmatch import Pattern

Tier = Literal["frozen", "alpha", "beta", "stable"]
TIERS: tuple[Tier, ...] = ("frozen", "alpha", "beta", "stable")
"""From the least trust to the most."""

AUTHOR_CLASSES = ("ai", "mixed", "human", "bot", "unknown")
OUTCOMES = ("warn", "review", "deny")
"""From the mildest to the strictest."""

UNREACHABLE = ("spool", "review", "deny")
ISOLATION_LEVELS = ("A", "B", "C")
EACH = ("change", "edit")

RULE_IDS = (
    "malformed-tree",
    "malformed-commit",
    "kill-switch",
    "autonomy-tier",
    "undecidable-author",
    "denied-path",
    "path-not-allowed",
    "protected-path",
    "unportable-path",
    "path-collision",
    "mode-change",
    "symlink-escape",
    "submodule",
    "lfs-size",
    "edit-too-large",
    "total-too-large",
    "too-many-edits",
    "policy-expressions",
    "replay-failed",
)
"""The built-in rules; a rule of a policy cannot take one of these names."""

CHOOSABLE: dict[str, tuple[str, ...]] = {
    "mode-change": OUTCOMES,
    "unportable-path": OUTCOMES,
    "path-collision": OUTCOMES,
    "symlink-escape": OUTCOMES,
    "submodule": OUTCOMES,
    "lfs-size": OUTCOMES,
    "protected-path": ("review", "deny"),
}
"""The built-in rules whose outcome a policy may choose, and what it may choose."""

DEFAULT_OUTCOMES = {
    "mode-change": "review",
    "unportable-path": "deny",
    "path-collision": "deny",
    "symlink-escape": "deny",
    "submodule": "review",
    "lfs-size": "deny",
    "protected-path": "review",
}
"""What follows where the policy does not choose."""

MAX_BYTES = 2**40
MAX_EDITS = 1_000_000
MAX_SECONDS = 86_400
MAX_LEASE_SECONDS = 604_800
MIN_MEMORY = 16 * 2**20
MAX_PATTERNS = 1_024
MAX_AGENTS = 256
MAX_APPROVERS = 256
MAX_THRESHOLD = 64
MAX_CHECKS = 64
MAX_RULES = 64
MAX_NAMES = 64
MAX_RUN = 16_384
MAX_WHEN = 2_048
MAX_TEXT = 1_000

GOVERNANCE = (".safeai/",)
"""Always protected, whatever a policy says: what every verdict is held against."""

PROTECTED = (
    # What CI runs.
    ".github/",
    ".gitlab-ci.yml",
    ".gitlab/",
    ".circleci/",
    ".buildkite/",
    ".woodpecker/",
    ".woodpecker.yml",
    ".woodpecker.yaml",
    ".drone.yml",
    ".drone.yaml",
    ".drone.jsonnet",
    ".travis.yml",
    ".appveyor.yml",
    "appveyor.yml",
    ".cirrus.yml",
    ".cirrus.star",
    ".forgejo/",
    ".gitea/",
    ".tekton/",
    ".teamcity/",
    ".semaphore/",
    ".azure-pipelines/",
    ".azure-pipelines.yml",
    "azure-pipelines.yml",
    "azure-pipelines.yaml",
    "bitbucket-pipelines.yml",
    "bitbucket-pipelines.yaml",
    "cloudbuild.yaml",
    "cloudbuild.yml",
    "buildspec.yml",
    "buildspec.yaml",
    "**/Jenkinsfile",
    # What hooks run.
    ".pre-commit-config.yaml",
    ".pre-commit-config.yml",
    ".pre-commit-hooks.yaml",
    ".husky/",
    ".githooks/",
    ".lefthook/",
    "lefthook.yml",
    "lefthook.yaml",
    ".lefthook.yml",
    ".lefthook.yaml",
    "lefthook.toml",
    "lefthook.json",
    "lefthook-local.yml",
    ".overcommit.yml",
    ".lintstagedrc*",
    # What agents obey.
    "**/CLAUDE.md",
    "**/CLAUDE.local.md",
    "**/AGENTS.md",
    "**/AGENTS.override.md",
    "**/AGENT.md",
    "**/GEMINI.md",
    "**/QWEN.md",
    "**/.claude/",
    "**/.cursor/",
    "**/.cursorrules",
    "**/.windsurf/",
    "**/.windsurfrules",
    "**/.clinerules/",
    "**/.roo/",
    "**/.roorules*",
    "**/.roomodes",
    "**/.continue/",
    "**/.codex/",
    "**/.gemini/",
    "**/.junie/",
    "**/.kiro/",
    "**/.amazonq/",
    "**/.augment/",
    "**/.aider.conf.yml",
    "**/.mcp.json",
    ".vscode/mcp.json",
    ".devcontainer/",
    ".devcontainer.json",
    # Who owns what, and what git itself reads from a tree. `.github/` and `.gitlab/` hold the other places.
    "CODEOWNERS",
    "docs/CODEOWNERS",
    "**/.gitattributes",
    ".gitmodules",
    ".mailmap",
    # What every verdict is held against.
    *GOVERNANCE,
)
"""The default protected set. A folder's pattern also holds a file that takes the folder's place."""


@dataclass(frozen=True, slots=True)
class AgentRule:
    """What is said about one agent: a tier of its own (``None``: the policy's), and whether it is admitted."""

    autonomy_tier: Tier | None = None
    allow: bool = True


@dataclass(frozen=True, slots=True)
class Approvals:
    """How many approvals lift a review, and whose count: globs over principals, empty for anyone who is listed."""

    threshold: int = 1
    approvers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """A command to replay in the sandbox.

    Attributes:
        name: Unique in the policy.
        run: A line for ``/bin/sh -c``.
        paths: Which edits ask for it; empty for every change.
        timeout_seconds, memory_bytes: Past these the check is stopped and gives no answer.
        environment: Names of variables that are passed in.
        read_only: Absolute folders or files of the host that are shown inside.
        expect_exit: The exit codes that pass.
        isolation: The weakest level of isolation that will do.
    """

    name: str
    run: str
    paths: tuple[Pattern, ...] = ()
    timeout_seconds: int = 300
    memory_bytes: int = 2 * 2**30
    environment: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()
    expect_exit: tuple[int, ...] = (0,)
    isolation: str = "C"


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """A rule of the policy's own: an expression, asked once or of each edit, and what follows when it is true."""

    id: str
    when: str
    outcome: str
    message: str
    each: str = "change"


@dataclass(frozen=True, slots=True)
class GovernorLink:
    """Where the Governor is, and what follows when it does not answer in time."""

    url: str
    on_unreachable: str = "spool"
    timeout_seconds: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that one policy document says, with the default of whatever it does not say.

    The fields bear the names of the document's keys; ``docs/formats/policy.md`` explains each.
    """

    safe_mode: bool = True
    autonomy_tier: Tier = "beta"
    repository: str = ""
    allow_paths: tuple[Pattern, ...] = ()
    deny_paths: tuple[Pattern, ...] = ()
    protected_paths: tuple[Pattern, ...] = ()
    protect_defaults: bool = True
    max_edit_size_bytes: int = 65_536
    max_total_size_bytes: int = 524_288
    max_edits: int = 1_000
    max_lfs_size_bytes: int | None = None
    applies_to: tuple[str, ...] = ("ai", "mixed")
    unknown_counts_as: str = "ai"
    agents: Mapping[str, AgentRule] = field(default_factory=dict)
    outcomes: Mapping[str, str] = field(default_factory=dict)
    approvals: Approvals = Approvals()
    checks: tuple[Check, ...] = ()
    rules: tuple[PolicyRule, ...] = ()
    governor: GovernorLink | None = None
    kill_switch_max_age_seconds: int = 3_600
    deadline_seconds: int = 10
