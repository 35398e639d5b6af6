"""The vocabulary of a policy: its words, its bounds, its default protected set and the sections that it is made of.

Data only. What a policy may say is decided by `safeai_git.core.policy_reader`; the same words and bounds stand in
``schemas/policy.schema.json``, and a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from msgspec import Struct

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
ATTRIBUTION = ("forbid", "disclose", "require")
"""What a commit by an agent says of it: nothing, that there was one, which one."""
SETUP_NETWORK = ("never", "reviewed", "proposed")
"""For whose lock files an organisation lets the commands of a set-up use the network: nobody's, the base commit's,
anybody's."""

RULE_IDS = (
    "malformed-tree",
    "malformed-commit",
    "kill-switch",
    "autonomy-tier",
    "undecidable-author",
    "ai-disclosure",
    "ai-sign-off",
    "accountable-human",
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
    "ai-disclosure": OUTCOMES,
    "ai-sign-off": OUTCOMES,
    "accountable-human": OUTCOMES,
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
    "ai-disclosure": "deny",
    "ai-sign-off": "deny",
    "accountable-human": "review",
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
MAX_ATTEMPTS = 10
MAX_ARTIFACTS = 16
MAX_LOCKS = 32

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


class AgentRule(Struct, frozen=True):
    """What is said about one agent: a tier of its own (``None``: the policy's), and whether it is admitted."""

    autonomy_tier: Tier | None = None
    allow: bool = True


class Approvals(Struct, frozen=True):
    """How many approvals lift a review, and whose count: globs over principals, empty for anyone who is listed."""

    threshold: int = 1
    approvers: tuple[str, ...] = ()


class CheckLimits(Struct, frozen=True):
    """What one replay may use, besides its time and its memory; `sandbox.port.Limits` says how each is meant."""

    cpu_seconds: int = 1_800
    processes: int = 512
    file_bytes: int = 2**30
    open_files: int = 4_096
    output_bytes: int = 16 * 2**20
    scratch_bytes: int = 2 * 2**30
    scratch_files: int = 200_000


LIMIT_BOUNDS: dict[str, tuple[int, int]] = {
    "cpu_seconds": (1, MAX_SECONDS),
    "processes": (1, 32_768),
    "file_bytes": (0, MAX_BYTES),
    "open_files": (16, 1_048_576),
    "output_bytes": (0, 256 * 2**20),
    "scratch_bytes": (2**20, MAX_BYTES),
    "scratch_files": (1, 10_000_000),
}
"""The least and the most that a policy may write for each of `CheckLimits`."""


class Setup(Struct, frozen=True):
    """Commands that prepare an environment for a check, once for each content of the lock files.

    Attributes:
        run: A line for ``/bin/sh -c``, started in a tree that holds the lock files and nothing else.
        locks: Paths of the tree whose content decides what is prepared.
        keeps: Folders of the tree that are kept, and shown to the check read-only at the same place.
        network: Whether it asks for the network; it is given only where the organisation's policy says so.
        timeout_seconds, memory_bytes, environment, read_only: As of a check.
    """

    run: str
    locks: tuple[str, ...]
    keeps: tuple[str, ...]
    network: bool = False
    timeout_seconds: int = 900
    memory_bytes: int = 2 * 2**30
    environment: tuple[str, ...] = ()
    read_only: tuple[str, ...] = ()


class Check(Struct, frozen=True):
    """A command to replay in the sandbox.

    Attributes:
        name: Unique in the policy.
        run: A line for ``/bin/sh -c``.
        paths: Which edits ask for it; empty for every change.
        timeout_seconds, memory_bytes: Past these the check is stopped and has failed.
        environment: Names of variables that are passed in.
        read_only: Absolute folders or files of the host that are shown inside.
        expect_exit: The exit codes that pass.
        isolation: The weakest level of isolation that will do.
        limits: What else it may use.
        needs: Programs that must be there; without one of them the check gives no answer.
        deterministic: False for a check that may fail by chance: a failure is tried again, and results that differ
            are no answer. True for one whose output is the same each time. ``None``: the result is, the output may
            not be.
        attempts: How often one that is not deterministic is tried at most.
        artifacts: Files that it makes, as paths of the tree; their digests are evidence.
        setup: What prepares its environment.
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
    limits: CheckLimits = CheckLimits()
    needs: tuple[str, ...] = ()
    deterministic: bool | None = None
    attempts: int = 3
    artifacts: tuple[str, ...] = ()
    setup: Setup | None = None


class PolicyRule(Struct, frozen=True):
    """A rule of the policy's own: an expression, asked once or of each edit, and what follows when it is true."""

    id: str
    when: str
    outcome: str
    message: str
    each: str = "change"


class GovernorLink(Struct, frozen=True):
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
    free_text_governs: bool = False
    ai_until_shown_human: bool = False
    attribution: str | None = None
    ai_may_sign_off: bool = True
    accountable_trailers: tuple[str, ...] = ()
    agents: Mapping[str, AgentRule] = field(default_factory=dict)
    outcomes: Mapping[str, str] = field(default_factory=dict)
    approvals: Approvals = Approvals()  # noqa: RUF009 - it never changes
    checks: tuple[Check, ...] = ()
    allow_read_only: tuple[str, ...] = ()
    allow_setup_network: str = "never"
    rules: tuple[PolicyRule, ...] = ()
    governor: GovernorLink | None = None
    kill_switch_max_age_seconds: int = 3_600
    deadline_seconds: int = 10
