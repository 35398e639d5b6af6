"""Level A: bubblewrap in two stages, so that the kernel bounds what a job writes into its tree.

The outer stage lays a file system in memory, of the size that the job may write, over ``/sys`` in a mount namespace of
its own, and an overlay of the tree upon it; only trusted programs run there. The inner stage is level B with that
overlay in the tree's place. Promises what level B does, and besides: what is written past the limit fails with ENOSPC,
and nothing that a job writes reaches the tree outside. An overlay that ordinary users can make cannot rename a folder
that the tree holds already (EXDEV; ``mv`` copies instead). Needs user namespaces within user namespaces.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from safeai_git.core.errors import SandboxUnavailable
from safeai_git.sandbox import bubblewrap
from safeai_git.sandbox.identity import Identity
from safeai_git.sandbox.port import Isolation, Job
from safeai_git.sandbox.programs import find_program, sha256_of

NAME = "two-stage bubblewrap"
LEVEL = "A"

_BASE = Path("/sys")
"""Exists on every machine, and no job sees it."""
_OVERLAY = _BASE / "tree"
_OPTIONS = "lowerdir={tree},upperdir=/sys/upper,workdir=/sys/work,userxattr"
_MAKES_OVERLAYS = ("CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_SETFCAP")
"""What mounting an overlay takes, and mapping the user once more (user_namespaces(7)), within the outer stage's
namespace; the inner stage drops them."""
_STAGE = '"$0" -n -t overlay overlay -o "$1" /sys/tree && shift && exec "$@"'
_PLAIN = re.compile(r"/[A-Za-z0-9/._+@=-]*\Z")
_SPECIAL_TO_OVERLAYFS = "a path that overlayfs reads as an option"


@dataclass(frozen=True, slots=True)
class Installed(bubblewrap.Installed):
    """The programs that this backend consists of: ``mount`` besides those of level B."""

    mount: Path


def installed() -> Installed:
    """Find the programs.

    Raises:
        SandboxUnavailable: One is missing or not trusted.
    """
    found = bubblewrap.installed()
    mount = find_program("mount", install="install util-linux (mount)")
    return Installed(
        found.bubblewrap,
        found.prlimit,
        found.digest,
        hashlib.sha256((found.both_digests + sha256_of(mount)).encode()).hexdigest(),
        mount,
    )


class Quota(bubblewrap.Bubblewrap):
    """The backend; see `bubblewrap.Bubblewrap` for its arguments."""

    keeps_tree = True

    def __init__(
        self,
        programs: Installed,
        isolation: Isolation,
        identity: Identity | None,
        *,
        no_further_namespaces: bool = True,
    ) -> None:
        super().__init__(programs, isolation, identity, no_further_namespaces=no_further_namespaces)
        self._mount = programs.mount

    def _source(self, job: Job) -> Path:
        if not all(_PLAIN.match(str(layer)) for layer in (job.tree, *job.below)):
            raise SandboxUnavailable(
                f"the tree of check {job.name} is at {_SPECIAL_TO_OVERLAYFS}", hint="point TMPDIR elsewhere"
            )
        return _OVERLAY

    def _outer(self, job: Job) -> Sequence[str]:
        return (
            str(self._programs.bubblewrap),
            *_stage(job.limits.scratch_bytes),
            *("--", "/bin/sh", "-c", _STAGE, str(self._mount), _OPTIONS.format(tree=_lower(job))),
        )

    @staticmethod
    def policy_digest() -> str:
        """SHA-256, in hex, of what decides what a job may do."""
        decides = (bubblewrap.Bubblewrap.policy_digest(), *_stage(0), _STAGE, _OPTIONS)
        return hashlib.sha256("\0".join(decides).encode()).hexdigest()


def _lower(job: Job) -> str:
    return ":".join(map(str, (job.tree, *job.below)))


def _stage(size: int) -> tuple[str, ...]:
    """The outer stage's arguments; the size in bytes."""
    return (
        *("--bind", "/", "/", "--dev-bind", "/dev", "/dev"),
        *("--size", str(size), "--tmpfs", str(_BASE)),
        *("--dir", "/sys/upper", "--dir", "/sys/work", "--dir", str(_OVERLAY)),
        *("--unshare-user", "--uid", "0", "--die-with-parent"),
        *(part for capability in _MAKES_OVERLAYS for part in ("--cap-add", capability)),
    )
