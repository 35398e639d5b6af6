"""What a job sees: an allow-list of mounts, built as bubblewrap arguments.

The root is empty; shown are ``/usr``, a few files of ``/etc``, the toolchain of the running interpreter, the tree, and
what the policy adds. Never shown: a home folder as a whole, ``/run`` (sockets take connections through a read-only
mount), another ``/etc``, anything that holds the repository itself. Order matters: later mounts lie on earlier ones.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from safeai_git.core.errors import SandboxUnavailable
from safeai_git.sandbox.identity import Identity
from safeai_git.sandbox.port import MIB, Job, Limits

HOME = "/home/sandbox"
USER_ID = 1000
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a mount of the sandbox's own
TEMPORARY = "/tmp"  # noqa: S108 - likewise

PASSED_FROM_ETC = (
    "ld.so.cache",
    "alternatives",
    "mime.types",
    "localtime",
    "ssl/certs",
    "ssl/openssl.cnf",
    "pki/tls/certs",
    "pki/ca-trust/extracted",
    "ca-certificates/extracted",
)

OWN_FILES = {
    "/etc/passwd": f"root:x:0:0:root:/root:/bin/sh\nsandbox:x:{USER_ID}:{USER_ID}:sandbox:{HOME}:/bin/sh\n"
    "nobody:x:65534:65534:nobody:/:/bin/false\n",
    "/etc/group": f"root:x:0:\nsandbox:x:{USER_ID}:\nnogroup:x:65534:\n",
    "/etc/hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files\n",
}
"""Written for the sandbox, so that the host's users and network names stay out."""

_ALIASES = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_NEVER_BENEATH = tuple(map(Path, ("/proc", "/sys", "/dev", "/run", "/var/run", "/boot")))
_SYSTEM = (*_NEVER_BENEATH, Path("/etc"))
_SHARED = Path(SHARED_MEMORY)
_HOMES = tuple(map(Path, ("/root", "/home", "/var/lib", "/tmp", "/var/tmp", "/etc")))  # noqa: S108
_SECRET_FOLDERS = frozenset(
    {".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".git", ".safeai", "gcloud"}
)
_POINTS = tuple(
    map(
        Path,
        ("/usr/bin", "/usr/lib", "/etc", "/dev", "/proc", TEMPORARY, HOME, *(f"/{a}" for a in _ALIASES)),
    )
)


@dataclass(frozen=True, slots=True)
class Mount:
    """A place of the host and where it appears."""

    source: Path
    target: Path


def _beneath(path: Path, other: Path) -> bool:
    """As `Path.is_relative_to`, which takes both apart each time: every start of a sandbox asks dozens of times."""
    parts = other.parts
    return path.parts[: len(parts)] == parts


def check_mount_point(job: Job) -> None:
    """Refuse to put the tree where it would hide or be hidden by what the sandbox itself mounts.

    Raises:
        SandboxUnavailable: With the job's path.
    """
    place = job.mount_at
    if not place.is_absolute() or ".." in place.parts:
        raise SandboxUnavailable(
            f"{place} is not an absolute path to mount a tree at", hint="give the repository's root"
        )
    inside = [point for point in _SYSTEM if _beneath(place, point)]
    inside = [point for point in inside if not _beneath(place, _SHARED) or place == _SHARED]
    if place.parts[1:2] and place.parts[1] in _ALIASES:
        inside.append(Path("/", place.parts[1]))
    above = [point for point in _POINTS if _beneath(point, place)]
    if inside or above:
        raise SandboxUnavailable(
            f"a repository at {place} would lie across {(inside or above)[0]}, which the sandbox needs",
            hint="clone it into a folder of its own",
        )


def policy_mounts(job: Job, identity: Identity | None) -> list[Mount]:
    """The mounts that the policy asks for, or a refusal that names the one it cannot have.

    Args:
        job: With the paths.
        identity: Who must be able to reach them; ``None`` for the caller.

    Raises:
        SandboxUnavailable: A path is missing, shows more than a toolchain, or lies where the tree has its own content.
    """
    return [Mount(_checked(path, job, identity), path) for path in job.read_only]


def _checked(path: Path, job: Job, identity: Identity | None) -> Path:
    def refuse(why: str, hint: str) -> SandboxUnavailable:
        return SandboxUnavailable(f"check {job.name}: {path} cannot be shown read-only: {why}", hint=hint)

    if not path.is_absolute() or ".." in path.parts:
        raise refuse("it is not an absolute path", "write the path in full")
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise refuse(
            str(error), "install it on this machine, or take it out of the policy's read_only"
        ) from error
    narrower = "name the folder of the toolchain itself"
    if any(_beneath(real, layer.resolve()) for layer in (job.tree, *job.below)):
        raise refuse("it is part of the proposed tree", narrower)
    homes = _homes()
    for candidate in (path, real):
        if holder := _too_wide(candidate, job, homes):
            raise refuse(f"that would show {holder}", narrower)
    if _beneath(path, job.mount_at) and (taken := _taken(job, path)):
        raise refuse(f"the proposed tree has {taken} of its own", "take it out of the policy, or out of git")
    if identity is not None and (closed := closed_folder(real)):
        raise refuse(
            f"the user that root runs checks as cannot enter {closed}", "run safeai-git as an ordinary user"
        )
    return real


def prepared_mounts(job: Job, identity: Identity | None) -> list[Mount]:
    """The prepared folders.

    Args:
        job: With the folders.
        identity: Who must be able to reach them; ``None`` for the caller.

    Raises:
        SandboxUnavailable: The tree has content of its own there, or they cannot be reached.
    """
    found: list[Mount] = []
    for target, source in job.prepared.items():
        if source is None:
            continue
        if taken := _taken(job, target):
            raise SandboxUnavailable(
                f"check {job.name}: the prepared {target.name} cannot be shown: the proposed tree has {taken} of its own",
                hint="take it out of 'keeps' in the policy, or out of git",
            )
        if identity is not None and (closed := closed_folder(source)):
            raise SandboxUnavailable(
                f"check {job.name}: the user that root runs checks as cannot enter {closed}",
                hint="point SAFEAI_PREPARED at a folder that others may pass, or run safeai-git as an ordinary user",
            )
        found.append(Mount(source, target))
    return found


def closed_folder(path: Path) -> Path | None:
    """The first folder on the way to `path` that others than its owner and group cannot pass."""
    return next(
        (folder for folder in reversed(path.parents) if not folder.stat().st_mode & stat.S_IXOTH), None
    )


def _too_wide(path: Path, job: Job, homes: tuple[Path, ...]) -> str:
    """What a mount of this path would give away; empty when nothing."""
    if _SECRET_FOLDERS & set(path.parts) or os.path.lexists(path / ".git"):
        return "what is kept secret there"
    if beneath := [point for point in _SYSTEM if _beneath(path, point)]:
        return str(beneath[0])
    if above := [point for point in (*_NEVER_BENEATH, *homes) if _beneath(point, path)]:
        return str(above[0])
    if path.parent == Path("/home"):
        return f"the home folder {path}"
    return "the repository itself" if _beneath(job.mount_at, path) else ""


def _homes() -> tuple[Path, ...]:
    """Folders that hold what is somebody's own."""
    values = (
        os.environ.get(name, "") for name in ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "GNUPGHOME")
    )
    return (*_HOMES, *(Path(os.path.realpath(value)) for value in values if value.startswith("/")))


def _taken(job: Job, path: Path) -> str:
    """The part of `path` that the tree itself holds where a mount point must be made; links count as held."""
    layers = [job.tree, *job.below]
    parts = path.relative_to(job.mount_at).parts
    for number, part in enumerate(parts, 1):
        layers, other = _within(layers, part)
        if other or not layers:
            return str(Path(*parts[:number])) if other else ""
    for name in {one.name for layer in layers for one in layer.iterdir()}:
        found, other = _within(layers, name)
        if found or other:
            return str(Path(*parts)) if parts else "."
    return ""


def _within(layers: list[Path], name: str) -> tuple[list[Path], bool]:
    """The folder of that name as layers, uppermost first; or whether the name is something else than a folder."""
    found: list[Path] = []
    for layer in layers:
        try:
            status = (layer / name).lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not stat.S_ISDIR(status.st_mode):
            whiteout = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
            return found, not found and not whiteout
        found.append(layer / name)
    return found, False


def toolchain_mounts(job: Job, identity: Identity | None) -> list[Mount]:
    """The running interpreter and its environment, as far as they can be shown without showing anything else.

    What lies in a home folder, beneath the repository's parent, or where the tree has its own content is left out: the
    policy's ``read_only`` is how a team asks for it.
    """
    mounts: list[Mount] = []
    shown = [Path("/usr")]
    interpreter = Path(sys.executable).resolve()
    for prefix in dict.fromkeys((sys.base_prefix, sys.prefix)):
        place = Path(prefix)
        if len(place.parts) < 3 or any(_beneath(place, one) for one in shown):
            continue
        if any(_beneath(place, one) or _beneath(one, place) for one in job.prepared):
            continue
        in_a_home = any(_beneath(place, home) for home in _homes())
        if in_a_home and not _beneath(place, job.mount_at):
            continue
        try:
            real = _checked(place, job, identity)
        except SandboxUnavailable:
            continue
        shown.append(real)
        mounts.append(Mount(real, place))
    return mounts if any(_beneath(interpreter, one) for one in shown) else []


def scratch_sizes(limits: Limits) -> dict[str, int]:
    """Bytes of each RAM-backed folder of the sandbox."""
    quarter = max(limits.scratch_bytes // 4, MIB)
    return {SHARED_MEMORY: quarter, TEMPORARY: 2 * quarter, HOME: quarter}


def copied_files(*, network: bool = False) -> dict[str, bytes]:
    """What is written into the sandbox's own ``/etc``: `OWN_FILES`, and the host's where they are small.

    A copy costs a tenth of a mount. What others may not read is left to the mount, which shows it as it is. With the
    host's network comes how the host looks names up in it.
    """
    found = {target: content.encode("ascii") for target, content in OWN_FILES.items()}
    if network:
        found["/etc/nsswitch.conf"] = found["/etc/nsswitch.conf"].replace(
            b"hosts: files", b"hosts: files dns"
        )
    for name in (*PASSED_FROM_ETC, *(("resolv.conf",) if network else ())):
        with suppress(OSError):
            status = Path("/etc", name).stat()
            if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH and status.st_size <= MIB:
                found[f"/etc/{name}"] = Path("/etc", name).read_bytes()
    return found


def root_arguments(limits: Limits, own_files: dict[str, int]) -> Iterator[str]:
    """Everything but the tree and what lies on it.

    Args:
        limits: For the sizes.
        own_files: An open descriptor for each of `copied_files`.
    """
    yield from ("--ro-bind", "/usr", "/usr")
    for alias in _ALIASES:
        place = f"/{alias}"
        try:
            yield from ("--symlink", os.readlink(place), place)  # noqa: PTH115 - a third of its time
        except OSError:
            if os.path.isdir(place):  # noqa: PTH112
                yield from ("--ro-bind", place, place)
    for name in PASSED_FROM_ETC:
        if f"/etc/{name}" not in own_files and (real := Path(os.path.realpath(f"/etc/{name}"))).exists():
            yield from ("--ro-bind", str(real), f"/etc/{name}")
    for target, descriptor in own_files.items():
        yield from ("--file", str(descriptor), target)
    sizes = scratch_sizes(limits)
    yield from ("--dev", "/dev")
    yield from ("--size", str(sizes[SHARED_MEMORY]), "--perms", "1777", "--tmpfs", SHARED_MEMORY)
    # bubblewrap leaves /proc/sys writable to whoever is root outside (see identity)
    yield from ("--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys")
    yield from ("--size", str(sizes[TEMPORARY]), "--perms", "1777", "--tmpfs", TEMPORARY)
    yield from ("--size", str(sizes[HOME]), "--perms", "0700", "--tmpfs", HOME)


def tree_arguments(job: Job, mounts: list[Mount], tree: Path) -> Iterator[str]:
    """The tree over the repository's own path, the read-only mounts, and then nothing more can change.

    Args:
        job: For the path.
        mounts: What is shown read-only.
        tree: What is shown as the tree.
    """
    outside = [mount for mount in mounts if not _beneath(mount.target, job.mount_at)]
    inside = [mount for mount in mounts if _beneath(mount.target, job.mount_at)]
    for mount in outside:
        yield from ("--ro-bind", str(mount.source), str(mount.target))
    yield from ("--bind", str(tree), str(job.mount_at))
    for mount in inside:
        yield from ("--ro-bind", str(mount.source), str(mount.target))
    yield from ("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", str(job.mount_at))
