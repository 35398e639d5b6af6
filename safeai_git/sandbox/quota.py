"""Level A: bubblewrap in a second stage, and a first one that has the kernel bound what a job writes into its tree.

The first stage is a user and a mount namespace of its own. ``mount`` lays a file system in memory, of the size that the
job may write, over ``/sys`` there, and an overlay of the tree upon it; only trusted programs run there. The second stage
is level B with that overlay in the tree's place. Promises what level B does, and besides: what is written past the limit
fails with ENOSPC, and nothing that a job writes reaches the tree outside. An overlay that ordinary users can make cannot
rename a folder that the tree holds already (EXDEV; ``mv`` copies instead). Needs user namespaces within user namespaces.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from safeai_git.core.errors import SandboxUnavailable
from safeai_git.sandbox import bubblewrap
from safeai_git.sandbox.identity import Identity
from safeai_git.sandbox.port import Isolation, Job
from safeai_git.sandbox.programs import find_program, sha256_of

NAME = "two-stage bubblewrap"
LEVEL = "A"

_OVERLAY = Path("/sys/tree")
"""``/sys`` exists on every machine, and no job sees it."""
_NAMESPACES = ("--user", "--map-root-user", "--mount", "--propagation", "unchanged")
_TABLE = """\
scratch /sys tmpfs size={size},mode=0755 0 0
/sys /sys/bare none bind,X-mount.mkdir 0 0
/sys /sys/upper none bind,X-mount.mkdir 0 0
/sys /sys/work none bind,X-mount.mkdir 0 0
overlay /sys/tree overlay X-mount.mkdir,lowerdir={tree},upperdir=/sys/bare/upper,workdir=/sys/bare/work,userxattr 0 0
"""
"""All of it in one go, by fstab(5). ``mount`` makes no folders but mount points: so something is mounted on those that
the overlay needs, and seen through another mount of the same file system they are bare."""
_STAGE = "LC_ALL=C {mount} -n -a -T {table} >&2 || exit 1\n"
_PLAIN = re.compile(r"/[A-Za-z0-9/._+@=-]*\Z")
_SPECIAL_TO_OVERLAYFS = "a path that overlayfs reads as an option"


@dataclass(frozen=True, slots=True)
class Installed(bubblewrap.Installed):
    """The programs that this backend consists of: ``mount`` and ``unshare`` besides those of level B."""

    mount: Path
    unshare: Path


def installed() -> Installed:
    """Find the programs.

    Raises:
        SandboxUnavailable: One is missing or not trusted.
    """
    found = bubblewrap.installed()
    mount = find_program("mount", install="install util-linux (mount)")
    unshare = find_program("unshare", install="install util-linux")
    digests = found.both_digests + sha256_of(mount) + sha256_of(unshare)
    return Installed(
        found.bubblewrap,
        found.prlimit,
        found.digest,
        hashlib.sha256(digests.encode()).hexdigest(),
        mount,
        unshare,
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
        self._unshare = programs.unshare

    def _source(self, job: Job) -> Path:
        if not all(_PLAIN.match(str(layer)) for layer in (job.tree, *job.below)):
            raise SandboxUnavailable(
                f"the tree of check {job.name} is at {_SPECIAL_TO_OVERLAYFS}", hint="point TMPDIR elsewhere"
            )
        return _OVERLAY

    def _stage(self, job: Job, stack: ExitStack) -> tuple[tuple[str, ...], str]:
        tree = ":".join(map(str, (job.tree, *job.below)))
        table = _TABLE.format(size=job.limits.scratch_bytes, tree=tree).encode("ascii")
        try:  # mount reads no pipe, and a descriptor would be left to the job
            descriptor, path = tempfile.mkstemp(prefix="safeai-mounts-", dir=job.tree.parent)
            stack.callback(Path(path).unlink, missing_ok=True)
            with open(descriptor, "wb") as file:
                file.write(table)
                os.fchmod(descriptor, 0o644)
        except OSError as error:
            raise SandboxUnavailable(
                f"{job.tree.parent} cannot be written: {error.strerror}",
                hint="check free space and permissions",
            ) from error
        words = {"mount": shlex.quote(str(self._mount)), "table": shlex.quote(path)}
        return (str(self._unshare), *_NAMESPACES), _STAGE.format(**words)

    @staticmethod
    def policy_digest() -> str:
        """SHA-256, in hex, of what decides what a job may do."""
        decides = (bubblewrap.Bubblewrap.policy_digest(), *_NAMESPACES, _STAGE, _TABLE)
        return hashlib.sha256("\0".join(decides).encode()).hexdigest()
