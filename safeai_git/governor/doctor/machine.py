"""The machine and the environment: versions, variables, files of secrets, descriptors, the clock."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import sqlite3
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from safeai_git import __version__
from safeai_git.core.errors import SafeAIError
from safeai_git.files import read_bounded
from safeai_git.governor.doctor.case import Case
from safeai_git.governor.doctor.report import Examined, of_error
from safeai_git.governor.policies import LARGEST_TEXT
from safeai_git.governor.services import FIRST_POLICY
from safeai_git.governor.settings import VARIABLES
from safeai_git.policyfile import load
from safeai_git.sandbox import describe

SPARE_FILES = 256
_SERVER_PARTS = ("uvicorn", "uvloop", "fastapi", "msgspec", "pyjwt", "psycopg", "cryptography")
_EARLIEST = 1_767_225_600
"""2026-01-01: nothing of this was there before."""


def versions(_case: Case) -> Iterator[Examined]:
    """What would serve."""
    found, missing = [], []
    for name in _SERVER_PARTS:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    yield Examined(
        "safeai",
        "ok",
        f"{__version__} on Python {platform.python_version()}, Linux {platform.release()}, user id {os.geteuid()}",
    )
    yield Examined("libraries", "ok", ", ".join([*found, f"SQLite {sqlite3.sqlite_version}"]))
    if missing:
        yield Examined(
            "libraries", "bad", f"not installed: {', '.join(missing)}", "install safeai-git[governor]"
        )


def settings(case: Case) -> Iterator[Examined]:
    """Every variable that makes no sense, not only the first."""
    for slip in case.slips:
        yield of_error("settings", slip.error)
    known = {variable.name for variable in VARIABLES} | {f"{one.name}_FILE" for one in VARIABLES}
    given = sorted(name for name in case.environ if name in known)
    if not case.slips:
        yield Examined(
            "settings", "ok", f"set are {', '.join(given)}" if given else "all have their defaults"
        )
    if not case.settings.enabled:
        yield Examined(
            "settings",
            "warn",
            "SAFEAI_ENABLE is off: each start engages the global kill switch",
            "set it to on where changes may pass, and release the switch",
        )
    if case.settings.jwt_private_key:
        yield Examined(
            "settings",
            "warn",
            "SAFEAI_JWT_PRIVATE_KEY is set: whoever takes over the server can issue tokens, and serving does not need it",
            "keep it where tokens are issued",
        )


def secret_files(case: Case) -> Iterator[Examined]:
    """Who may read the files that hold secrets, and who may write those that say who may what."""
    secret = [
        (f"{one.name}_FILE", Path(case.environ[f"{one.name}_FILE"]))
        for one in VARIABLES
        if one.secret and f"{one.name}_FILE" in case.environ
    ]
    keys = (("SAFEAI_TLS_KEY", case.settings.tls_key), ("SAFEAI_FORWARD_KEY", case.settings.forward_key))
    secret += ((name, path) for name, path in keys if path is not None)
    believed = [
        (one.name, value)
        for one in VARIABLES
        if one.read.__name__ == "_path" and isinstance(value := getattr(case.settings, one.field), Path)
    ]
    believed.append(("the first policy", case.settings.config_dir / FIRST_POLICY))
    wrong = 0
    for (name, path), bits, who in (
        *((one, stat.S_IROTH, "read") for one in secret),
        *((one, stat.S_IWOTH, "write") for one in believed),
    ):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError:
            continue  # whoever reads it says so
        if mode & bits:
            wrong += 1
            letter = "r" if who == "read" else "w"
            yield Examined(
                "files",
                "bad",
                f"everybody on this machine may {who} {path} ({name}, mode {mode:04o})",
                f"chmod o-{letter} {path}"
                + (", and change the secret if others were here" if who == "read" else ""),
            )
    if not wrong:
        yield Examined(
            "files", "ok", "no secret is open to everybody, and no rule can be written by everybody"
        )


def first_policy(case: Case) -> Iterator[Examined]:
    """The policy that a Governor without one publishes."""
    path = case.settings.config_dir / FIRST_POLICY
    try:
        text = read_bounded(path, LARGEST_TEXT)
    except FileNotFoundError:
        yield Examined("first policy", "ok", f"none: there is no {path}")
        return
    except OSError as error:
        yield Examined("first policy", "bad", f"{path} cannot be read: {error.strerror or error}")
        return
    try:
        yield Examined("first policy", "ok", f"{path}, sha256 {load(text, str(path)).digest[:16]}")
    except SafeAIError as error:
        yield of_error("first policy", error)


def files_limit(case: Case) -> Iterator[Examined]:
    """Whether there are descriptors for as many connections as are wanted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = case.settings.max_connections + SPARE_FILES
    most = max(soft, hard) if hard != resource.RLIM_INFINITY else wanted
    if most >= wanted:
        yield Examined("open files", "ok", f"{soft:,} (up to {hard:,}) for {wanted:,}")
        return
    yield Examined(
        "open files",
        "warn",
        f"the system gives {most:,} descriptors: {max(16, most - SPARE_FILES):,} connections at once, and not the "
        f"{case.settings.max_connections:,} of SAFEAI_MAX_CONNECTIONS",
        "raise the limit (LimitNOFILE=, ulimit -Hn), or lower the setting",
    )


def clock(case: Case) -> Iterator[Examined]:
    """The clock, held against what is known to be past."""
    shown = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(case.now))
    latest, source = max((float(_EARLIEST), "this program"), (case.last or 0.0, "the log's last entry"))
    if latest - case.now > 120:
        yield Examined(
            "clock",
            "bad",
            f"{shown} is {(latest - case.now) / 60:,.0f} minutes before {source}: tokens, leases and keys would be judged wrongly",
            "set the clock (chrony, systemd-timesyncd)",
        )
        return
    yield Examined("clock", "ok", shown)


def sandbox(case: Case) -> Iterator[Examined]:
    """Whether checks can be replayed, where they are to be."""
    if not case.settings.replay_checks:
        return
    levels = [one for one in describe() if one.isolation]
    if levels:
        yield Examined("sandbox", "ok", f"checks are replayed at level {levels[0].level} ({levels[0].name})")
        return
    reasons = "; ".join(f"{one.level}: {one.reason}" for one in describe())
    yield Examined(
        "sandbox",
        "bad",
        f"SAFEAI_REPLAY_CHECKS is on, and nothing here can isolate a check: {reasons}",
        "level C needs Landlock and seccomp, and no privilege: docs/sandbox.md",
    )
