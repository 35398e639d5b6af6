"""The caller's own resource limits, which nothing that it starts can exceed."""

from __future__ import annotations

import sys

if sys.platform != "win32":
    import resource


def hard_limit(name: str, wanted: int) -> int:
    """`wanted`, or less where the caller's hard limit is lower: raising that takes a privilege.

    Args:
        name: As `resource` calls it, e.g. ``RLIMIT_CPU``.
        wanted: In the limit's own unit.
    """
    hard = resource.getrlimit(getattr(resource, name))[1]
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
