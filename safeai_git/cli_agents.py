"""The commands of ``safeai-git`` that meet agents where they work. A wing of `cli`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safeai_git.cli_options import AgentOption, Format, FormatOption

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

    @app.command()
    def split(
        revision: Annotated[
            str,
            typer.Argument(
                metavar="[REV]", help="A commit, or BASE..HEAD as one change (default: what is staged)."
            ),
        ] = "",
        output: Annotated[
            Path | None,
            typer.Option("--output", metavar="FOLDER", help="Write the patches here.", readable=False),
        ] = None,
        agent: AgentOption = "",
        output_format: FormatOption = Format.text,
    ) -> None:
        """Propose how to split a refused change: a patch that is allowed, and one with the rest.

        The first part is judged anew. 'git am --keep-cr' and 'git apply --index' take both, one after the other.
        """
        from safeai_git.commands import split as command

        session = door.session(output_format)
        request = command.Request(revision, output, agent)
        door.end(session, lambda: command.split_change(session, request))

    @app.command()
    def mcp() -> None:
        """Serve the Model Context Protocol on standard input and output: check, explain, scope, status.

        Needs the extra: pip install 'safeai-git[mcp]'.
        """
        from safeai_git.core.errors import WrongUse

        try:
            from safeai_git.commands import mcp_server
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "mcp":
                raise
            raise WrongUse(
                "the SDK of the Model Context Protocol is not installed",
                hint="pip install 'safeai-git[mcp]'",
            ) from error
        door.end(door.session(Format.json), mcp_server.serve)

    @agent_app.command("hook")
    def hook_(agent: AgentArgument) -> None:
        """What the agent calls: reads the tool call on standard input, answers in its protocol; 2 stops the agent."""
        from safeai_git.commands import agents

        session = door.session(Format.text)
        door.end(session, lambda: agents.named_hook(agent))
