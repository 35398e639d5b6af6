"""Starts the driver as root, as an ordinary user, and as in a pod, and reads what it found.

The pod: user 1000, no capabilities, no new privileges, no user namespaces, a root that cannot be written, and nothing
of the machine's processes. It is made with bubblewrap here, and is no real one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from safeai_git.sandbox.layout import closed_folder

PROJECT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3"
SITUATIONS = ("root", "user", "pod")
LEVELS = {"root": ("A", "B", "C"), "user": ("A", "B", "C"), "pod": ("C",)}
"""Which backends there can be; anything else in a pod must be refused."""
_USER, _POD = 54321, 1000


def why_not(situation: str) -> str:
    """Why it cannot be had here; empty when it can."""
    if sys.platform != "linux":
        return "replay needs Linux"
    if situation == "root":
        return "" if os.geteuid() == 0 else "the tests do not run as root"
    if closed_folder(PROJECT / "x") is not None:
        return f"an ordinary user cannot read {PROJECT}"
    version = subprocess.run(
        [PYTHON, "-c", "import sys; print(sys.version_info >= (3, 11))"], capture_output=True
    )
    if version.stdout.strip() != b"True":
        return "the driver needs /usr/bin/python3 of 3.11 or newer"
    if situation == "pod":
        tried = subprocess.run([*_prefix("pod"), "/bin/true"], capture_output=True, text=True, check=False)
        return f"no pod can be simulated: {tried.stderr.strip()}" if tried.returncode else ""
    return ""


def _prefix(situation: str) -> list[str]:
    if situation == "root":
        return []
    number = str(_POD if situation == "pod" else _USER)
    drop = (
        ["/usr/bin/setpriv", "--reuid", number, "--regid", number, "--clear-groups"]
        if os.geteuid() == 0
        else []
    )
    if situation == "user":
        return drop
    pod = [
        "/usr/bin/bwrap",
        "--unshare-user",
        "--uid",
        number,
        "--gid",
        number,
        "--unshare-pid",
        "--unshare-ipc",
    ]
    pod += ["--disable-userns", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    pod += [
        "--tmpfs",
        "/tmp",
        "--tmpfs",
        "/var/tmp",
        "--tmpfs",
        "/dev/shm",
        "--ro-bind",
        str(PROJECT),
        str(PROJECT),
        "--cap-drop",
        "ALL",
        "--die-with-parent",
    ]
    return [*drop, *pod]


def _python(situation: str) -> str:
    """An interpreter that the user of the situation can reach."""
    return PYTHON if situation == "pod" or (situation == "user" and os.geteuid() == 0) else sys.executable


def run(situation: str, level: str, *arguments: str) -> dict[str, Any]:
    """What the driver found, or ``{"crashed": ...}``."""
    return _read(situation, "-m", "tests.probes.driver", level, *arguments)


def execute(situation: str, program: str) -> dict[str, Any]:
    """What a program of the suite printed as JSON."""
    return _read(situation, "-c", program)


def _read(situation: str, *arguments: str) -> dict[str, Any]:
    environment = {"PATH": os.defpath, "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*_prefix(situation), _python(situation), *arguments],
        cwd=PROJECT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        start_new_session=True,
        timeout=600,
        check=False,
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        return {"crashed": done.stderr.decode("utf-8", "replace")[-3000:] or f"ended with {done.returncode}"}
    found: dict[str, Any] = json.loads(lines[-1])
    return found
