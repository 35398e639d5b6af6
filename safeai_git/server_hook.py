"""The hooks of a server: what a push brings is judged before it is taken, and looked at once more afterwards."""

from __future__ import annotations

from collections.abc import Sequence

from safeai_git.commands.receive import pre_receive, update
from safeai_git.commands.reconcile import post_receive
from safeai_git.commands.session import Session

_HOOKS = {"pre-receive": pre_receive, "update": update, "post-receive": post_receive}


def run(name: str, arguments: Sequence[str]) -> int:
    """Run one of them; see `hook.run_hook`."""
    session = Session.here()
    try:
        return _HOOKS[name](session, arguments)
    finally:
        session.close()
