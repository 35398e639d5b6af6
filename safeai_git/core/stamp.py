"""When and by which gate a verdict was made."""

from __future__ import annotations

from msgspec import Struct


class Stamp(Struct, frozen=True):
    """Where and when a verdict was made, given by the entry point that knows.

    ``time`` is in seconds since 1970, ``gate`` the version of safeai-git, ``repository`` the name that the policy
    gives it.
    """

    time: int
    gate: str
    repository: str
