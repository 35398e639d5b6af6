"""The commands of ``safeai-git`` that meet agents where they work. A wing of `cli`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from safeai_git.cli_options import Format

if TYPE_CHECKING:
    from safeai_git.cli_evidence import Door

AgentArgument = Annotated[
    str,
    typer.Argument(metavar="AGENT", help="claude-code, codex, cursor, gemini-cli, copilot-cli or opencode."),
]
UserOption = Annotated[
    bool, typer.Option("--user", help="In your own settings, for every repository, instead of this one's.")
]


def register_agents(app: typer.Typer, door: Door) -> None:
    """Add ``agent`` and its commands to an application."""
    agent_app = typer.Typer(
        help="Judge an agent's edits before it makes them: docs/agents.md.", no_args_is_help=True
    )
    app.add_typer(agent_app, name="agent")

    @agent_app.command()
    def install(agent: AgentArgument, user: UserOption = False) -> None:
        """Put the hook into the agent's settings; whatever else stands there stays as it is."""
        from safeai_git.commands import agents

        session = door.session(Format.text)
        door.end(session, lambda: agents.install(session, agent, user=user))

    @agent_app.command()
    def uninstall(agent: AgentArgument, user: UserOption = False) -> None:
        """Take the hook out of the agent's settings again."""
        from safeai_git.commands import agents

        session = door.session(Format.text)
        door.end(session, lambda: agents.uninstall(session, agent, user=user))

    @agent_app.command("hook")
    def hook_(agent: AgentArgument) -> None:
        """What the agent calls: reads the tool call on standard input, answers in its protocol; 2 stops the agent."""
        from safeai_git.commands import agents

        session = door.session(Format.text)
        door.end(session, lambda: agents.named_hook(agent))
