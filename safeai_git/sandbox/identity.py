"""Whose rights a sandbox starts with. Never root's.

Namespaces made by root map root's own id, and ``/proc/sys/kernel/core_pattern`` then stays writable inside (measured
with bubblewrap 0.8 and 0.11). So root steps down first, to an id that nobody else uses; an ordinary user stays
itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from safeai_git.core.errors import SandboxUnavailable

if sys.platform != "win32":
    import grp
    import pwd

RANGE = range(61184, 65520)
"""Ids that distributions keep for services made up on the spot (systemd, "Users, Groups, UIDs and GIDs"); 65534 and
above are other things."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The user and group that a sandbox is started as; `None` in place of one means: as the caller."""

    uid: int
    gid: int


def sandbox_identity() -> Identity | None:
    """``None`` for an ordinary user; for root, an id from `RANGE` that is in no directory and has no process.

    Raises:
        SandboxUnavailable: Root finds no free id.
    """
    if 0 not in os.getresuid():
        return None
    busy = set(_ids_of_processes())
    for number in RANGE:
        if number not in busy and _is_unknown(number):
            return Identity(number, number)
    raise SandboxUnavailable(
        f"root finds no unused id between {RANGE.start} and {RANGE.stop - 1} to run a check as",
        hint="run safeai-git as an ordinary user",
    )


def _ids_of_processes() -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError, IndexError):  # it has ended since
                owner = entry.stat().st_uid
                # proc(5): the state stands after the name in brackets. Ended ones wait for whoever collects them.
                if owner in RANGE and (entry / "stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z":
                    yield owner


def _is_unknown(number: int) -> bool:
    for look_up in (pwd.getpwuid, grp.getgrgid):
        with suppress(KeyError):
            look_up(number)
            return False
    return True
