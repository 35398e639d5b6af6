"""``safeai-git mcp``: what an agent may ask, as a Model Context Protocol server on standard input and output.

Four questions, none of which changes anything: ``check``, ``explain``, ``scope``, ``status``. Each is the command of that
name with ``--format json``, in the folder that the server was started in. Needs the official SDK, the extra ``[mcp]``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from safeai_git import __version__
from safeai_git.commands import check as check_command
from safeai_git.commands import doctor, policies
from safeai_git.commands.session import Session
from safeai_git.core.errors import SafeAIError

_INSTRUCTIONS = (
    "This repository's changes are judged against a policy before they are accepted. Ask 'scope' before you start, "
    "'explain' about a path, and 'check' before you commit; a refusal names the rule and what to do about it."
)


class _Listening(Session):
    """A session whose data is kept instead of printed: standard output belongs to the protocol."""

    said: Any = None

    def data(self, value: Any) -> None:
        """Keep a JSON document."""
        self.said = value


def _answer(command: Callable[[_Listening], object]) -> dict[str, Any]:
    session = _Listening.here("json")
    try:
        with redirect_stdout(sys.stderr):
            command(session)
    except SafeAIError as error:
        hint = f"; {error.hint}" if error.hint else ""
        raise ToolError(f"could not decide: {error.message}{hint}") from error
    finally:
        session.close()
    return session.said if isinstance(session.said, dict) else {"answer": session.said}


def check(revisions: str = "", agent: str = "") -> dict[str, Any]:
    """Judge a change: what is staged, or the commits of a range BASE..HEAD. Nothing is signed and no check is replayed.

    The decision is allow, review (a person has to approve) or deny; each finding names its rule, its path, why, what
    to do, and who can lift it.
    """
    request = check_command.Request(revisions, agent=agent, replay=False, sign=False)
    return _answer(lambda session: check_command.check(session, request))


def explain(path: str) -> dict[str, Any]:
    """Say which pattern of the policy decides about a path, and what that means for an edit of it."""
    return _answer(lambda session: policies.explain(session, path, "", None))


def scope(agent: str = "") -> dict[str, Any]:
    """Say what may be changed in this repository: paths, sizes, what needs a person's approval."""
    return _answer(lambda session: policies.scope(session, agent, for_agent=True, policy=None))


def status() -> dict[str, Any]:
    """Say whether the gate works here: git, the hooks, the policy, the kill switch, the key, the sandbox."""
    return _answer(doctor.doctor)


def serve() -> int:
    """Serve until standard input ends."""
    server: MCPServer[Any] = MCPServer(
        "safeai-git", instructions=_INSTRUCTIONS, version=__version__, log_level="ERROR"
    )
    for tool in (check, explain, scope, status):
        server.tool()(tool)
    server.run("stdio")
    return 0
