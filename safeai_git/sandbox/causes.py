"""Why bubblewrap could not build a sandbox, in words that say what to do about it.

It prints what the kernel refused, not who made the kernel refuse. One entry per cause that is known; whatever else it
says is passed on as it stands.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from safeai_git.core.errors import SandboxUnavailable

_LONGEST = 400
_DOCTOR = "'safeai-git doctor' shows what was tried"
_APPARMOR_SWITCH = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
_DEBIAN_SWITCH = Path("/proc/sys/kernel/unprivileged_userns_clone")
_NUMBER_ALLOWED = Path("/proc/sys/user/max_user_namespaces")

_APPARMOR_HINT = (
    "sudo apt-get install -y bubblewrap apparmor-profiles && sudo install -m644 "
    "/usr/share/apparmor/extra-profiles/bwrap-userns-restrict /etc/apparmor.d/ && sudo apparmor_parser -r "
    "/etc/apparmor.d/bwrap-userns-restrict; on a throw-away CI machine: "
    "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
)
_CONTAINER_HINT = (
    "let the container make user namespaces (docker run --security-opt seccomp=unconfined --security-opt "
    "systempaths=unconfined), or replay on a machine of its own"
)

_NAMESPACE_REFUSED = (
    "setting up uid map",
    "Failed RTM_NEWADDR",
    "Creating new namespace failed",
    "No permissions to creat",  # "create" and "creating", by version
    "Failed to make / slave",
    "disabling user namespaces",
    "unshare failed",
    "write failed /proc/self/",
)


def explain(said: str) -> SandboxUnavailable:
    """The error to raise for what bubblewrap printed before it gave up."""
    lines = [
        line
        for line in said.splitlines()
        if line.startswith(("bwrap:", "prlimit:", "mount:", "setpriv:", "unshare:"))
    ]
    words = " / ".join(lines)[:_LONGEST] or said.strip()[:_LONGEST] or "no reason given"
    cause, hint = _cause(words)
    return SandboxUnavailable(
        f"the sandbox could not be set up, nothing was executed: {cause} ({words})", hint=hint
    )


def _cause(words: str) -> tuple[str, str]:
    if any(one in words for one in _NAMESPACE_REFUSED):
        if _setting(_APPARMOR_SWITCH) == "1":
            return "AppArmor keeps ordinary programs from using user namespaces", _APPARMOR_HINT
        if _setting(_DEBIAN_SWITCH) == "0":
            return "user namespaces are switched off", "sudo sysctl -w kernel.unprivileged_userns_clone=1"
        if _setting(_NUMBER_ALLOWED) == "0":
            return "no user namespaces are allowed", "sudo sysctl -w user.max_user_namespaces=15000"
        return "the kernel, or the container around this, allows no user namespace", _CONTAINER_HINT
    if words.startswith("mount:"):
        return (
            "an ordinary user can mount no overlay here",
            "Linux 5.13 or newer is needed for level A; the next level does without",
        )
    if words.startswith("setpriv:"):
        return "root cannot become another user here", "run safeai-git as an ordinary user"
    if "mount proc" in words:
        return "the container around this hides parts of /proc, so no new one can be mounted", _CONTAINER_HINT
    if "Unknown option" in words or "unrecognized option" in words:
        return "this bubblewrap is too old", "install bubblewrap 0.8 or newer"
    if "find source path" in words:
        return (
            "a path that is to be shown inside cannot be reached",
            "check that it exists and who may enter it",
        )
    if words.startswith("bwrap: execvp"):
        return "a program that the sandbox needs inside is missing", "install util-linux beneath /usr"
    return "bubblewrap gave up", _DOCTOR


def _setting(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="ascii").strip()
    return ""
