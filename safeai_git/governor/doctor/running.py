"""Whether a Governor runs on this data folder: by the kernel's table of locks, and by asking it. No lock is taken."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from safeai_git.client.web import Answer, exchange
from safeai_git.core.errors import FormatError
from safeai_git.files import read_bounded
from safeai_git.governor.doctor.case import Case
from safeai_git.governor.doctor.report import Examined
from safeai_git.governor.stores.lock import LOCK

_SECONDS = 3.0
_UNREAD = re.compile(
    r"^safeai_log_unread_entries ([0-9]{1,8}(?:\.[0-9]{1,12})?(?:e\+[0-9]{2})?)$", re.MULTILINE
)
_ROW = re.compile(r"\d+: FLOCK\s+\S+\s+WRITE (\d+) [0-9a-f]+:[0-9a-f]+:(\d+) ")
_NOTE = re.compile(r"process (\d+) on (\S{1,255})")


def examine(case: Case) -> Iterator[Examined]:
    """Say who has the log, and whether that one answers."""
    holder = _holder(case.settings.data_dir / LOCK) if not case.settings.database_url else ""
    answer, address = _asked(case)
    case.running = bool(holder)
    if holder:
        yield Examined("server", "ok", f"{holder} has the log open")
    if answer is not None and answer.status == 200 and answer.body == b"ok\n":
        yield Examined("server", "ok", f"{address} is ready")
        yield from _unread(address.removesuffix("/readyz"))
    elif answer is not None and answer.status == 503:
        yield Examined(
            "server", "bad", f"{address} takes nothing: {_reason(answer.body)}", "docs/deploy/runbooks.md"
        )
    elif answer is not None:
        yield Examined(
            "server",
            "bad",
            f"{address} is answered by something else ({answer.status})",
            "end it, or set SAFEAI_PORT",
        )
    elif holder and not case.settings.tls_cert:
        yield Examined(
            "server",
            "warn",
            f"{address} does not answer: it is starting, was started with other settings, or hangs",
            "look at its last lines",
        )
    elif not holder and not case.settings.tls_cert:
        yield Examined("server", "ok", f"none is running on this machine: nobody answers at {address}")


def _holder(lock: Path) -> str:
    """The process that holds the lock; empty where none does, as far as this machine can see."""
    try:
        status = lock.lstat()
        if not stat.S_ISREG(status.st_mode):
            return ""
        noted = read_bounded(lock, 400).decode("utf-8", "replace")
        rows = Path("/proc/locks").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    held = {int(one[1]) for one in _ROW.finditer(rows) if int(one[2]) == status.st_ino}
    note = _NOTE.search(noted)
    if note is not None and int(note[1]) in held:
        return f"process {note[1]} on {note[2]}"
    return ""


def _asked(case: Case) -> tuple[Answer | None, str]:
    settings = case.settings
    host = settings.host if settings.host not in ("", "0.0.0.0", "::") else "127.0.0.1"  # noqa: S104 - compared
    host = f"[{host}]" if ":" in host else host
    address = f"http://{host}:{settings.port}/readyz"
    if settings.tls_cert is not None or settings.port == 0:
        return None, address
    try:
        return exchange("GET", address, None, {}, seconds=_SECONDS, most=65_536), address
    except OSError:
        return None, address
    except FormatError:
        return Answer(0, b""), address


def _unread(server: str) -> Iterator[Examined]:
    """Whether it has read all of its log by now: a start may leave the older part for afterwards."""
    try:
        answer = exchange("GET", f"{server}/metrics", None, {}, seconds=_SECONDS, most=1_048_576)
    except (OSError, FormatError):
        return
    found = _UNREAD.search(answer.body.decode("utf-8", "replace"))
    if found is not None and float(found[1]):
        yield Examined(
            "server",
            "warn",
            f"{float(found[1]):,.0f} entries of its log were taken from audit.index and are still being read",
            "ask again in some minutes; SAFEAI_READ_LOG_FIRST=on reads them before it serves",
        )
    elif found is not None:
        yield Examined("server", "ok", "all of its log has been read since it was started")


def _reason(body: bytes) -> str:
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    detail = said.get("detail") if isinstance(said, dict) else None
    return str(detail or "it does not say why")[:300]
