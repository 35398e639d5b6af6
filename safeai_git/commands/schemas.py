"""``schema``: the formats, for other people's tools. Apart from the rest: a hook does not wait for jsonschema."""

from __future__ import annotations

from safeai_git.commands.session import Session
from safeai_git.schema import schema as shipped


def schema(session: Session, name: str) -> int:
    """Print a shipped JSON Schema."""
    session.data(shipped(name))
    return 0
