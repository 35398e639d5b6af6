"""The commands of ``safeai-git`` about evidence: verify, approve, show, bundle, schema. A wing of `cli`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from msgspec import Struct

from safeai_git.cli_options import Format, FormatOption, PolicyOption, ReportOption

if TYPE_CHECKING:
    from safeai_git.commands.found import Report
    from safeai_git.commands.session import Session

BundleOption = Annotated[
    Path | None,
    typer.Option(
        "--bundle",
        metavar="FILE",
        help="Verify an evidence bundle ('-' for standard input); the argument is then the commit's whole name.",
        readable=False,
    ),
]
SignersOption = Annotated[
    Path | None,
    typer.Option("--signers", metavar="FILE", help="With --bundle: the keys you trust.", readable=False),
]
LogKeyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--log-key",
        metavar="KEY",
        help="Each verdict must stand on the log of this verifier key (name+id+base64). Repeatable.",
    ),
]


class Door(Struct, frozen=True):
    """What `cli` does for its commands: begin a session, end it with an action, find out where reports go."""

    session: Callable[[Format], Session]
    end: Callable[[Session, Callable[[], int]], NoReturn]
    report: Callable[[list[str] | None], Report | None]


def register_evidence(app: typer.Typer, door: Door) -> None:
    """Add the commands about evidence to an application."""

    @app.command()
    def verify(
        revisions: Annotated[
            str, typer.Argument(metavar="[BASE..HEAD]", help="Default: since the policy was introduced.")
        ] = "",
        everything: Annotated[
            bool, typer.Option("--all", help="Show commits that are not governed too.")
        ] = False,
        ref: Annotated[
            str, typer.Option("--ref", metavar="REF", help="Verify up to here instead of to HEAD.")
        ] = "",
        mergeable: Annotated[
            str,
            typer.Option(
                "--mergeable",
                metavar="BRANCH",
                help="Verify what BRANCH lacks, and what merging it would give.",
            ),
        ] = "",
        require: Annotated[
            list[str] | None,
            typer.Option(
                "--require",
                metavar="WHAT",
                help="agent-approved=N or signed-by=PATTERN, beyond the policy. Repeatable.",
            ),
        ] = None,
        vsa: Annotated[
            str,
            typer.Option(
                "--vsa", metavar="FILE", help="Write the result as a SLSA summary (VSA); '-' to print it."
            ),
        ] = "",
        bundle: BundleOption = None,
        signers: SignersOption = None,
        log_key: LogKeyOption = None,
        without_report: Annotated[
            bool, typer.Option("--without-report", help="With --bundle: the full report may be missing.")
        ] = False,
        policy: PolicyOption = None,
        report: ReportOption = None,
        output_format: FormatOption = Format.text,
    ) -> None:
        """Prove that every governed commit has a valid verdict that lets it pass. Works offline.

        Checked are the signature, the key's validity, the repository, the base, the tree and the policy. Trust begins at
        BASE: its policy and its allowed signers.

        With --bundle no repository is needed: what 'safeai-git bundle' wrote is held against the keys of --signers.
        """
        from safeai_git.commands import people
        from safeai_git.commands.demands import Demands
        from safeai_git.core.errors import WrongUse

        session = door.session(output_format)
        if bundle is not None:
            from safeai_git.commands import bundle as command

            if everything or report or ref or mergeable or require or vsa:
                raise WrongUse(
                    "--all, --report, --ref, --mergeable, --require and --vsa do not go with --bundle",
                    hint="leave them out",
                )
            trusted = command.Trusted(signers, log_key or (), revisions, policy, not without_report)
            door.end(session, lambda: command.verify(session, bundle, trusted))
        if signers or without_report:
            raise WrongUse(
                "--signers and --without-report are about a bundle",
                hint="name it: --bundle FILE; in a repository the base commit says who is trusted",
            )
        demands = Demands.parse(ref, mergeable, require or (), vsa)
        where = door.report(report)
        door.end(
            session,
            lambda: people.verify(
                session,
                revisions,
                policy=policy,
                everything=everything,
                report=where,
                log_keys=log_key or (),
                demands=demands,
            ),
        )

    @app.command()
    def push(output_format: FormatOption = Format.text) -> None:
        """Deliver signed verdicts that wait in the spool to the Governor, and keep its receipts in the notes.

        Where it is, and the key of its log, is said outside of the repository: git config --global safeai.governor and
        safeai.governorKey, or SAFEAI_GOVERNOR and SAFEAI_GOVERNOR_KEY; the token by SAFEAI_TOKEN or safeai.tokenFile.
        """
        from safeai_git.commands import push as command

        session = door.session(output_format)
        door.end(session, lambda: command.push(session))

    @app.command()
    def approve(
        revision: Annotated[
            str, typer.Argument(metavar="[REV]", help="A commit or BASE..HEAD; default: what is staged.")
        ] = "",
        reason: Annotated[str, typer.Option("--reason", "-m", help="Why; it is signed too.")] = "",
        output_format: FormatOption = Format.text,
    ) -> None:
        """Sign an approval of exactly this change.

        It counts when your key is listed in .safeai/allowed_signers for safeai-approval, and only for this tree on this
        base under this policy. SAFEAI_KEY names the private key to use.
        """
        from safeai_git.commands import people

        session = door.session(output_format)
        door.end(session, lambda: people.approve(session, revision, reason=reason))

    @app.command()
    def show(
        revision: Annotated[str, typer.Argument(metavar="[REV]", help="Default: HEAD.")] = "",
        vsa: Annotated[
            bool,
            typer.Option(
                "--vsa", help="Print the verdict as a SLSA summary (VSA), signed if there is a key."
            ),
        ] = False,
        output_format: FormatOption = Format.text,
    ) -> None:
        """Show the verdicts and approvals of a commit, and what each is worth."""
        from safeai_git.commands import people, summaries

        session = door.session(output_format)
        door.end(session, lambda: summaries.vsa(session, revision) if vsa else people.show(session, revision))

    @app.command()
    def bundle(
        revision: Annotated[str, typer.Argument(metavar="[REV]", help="Default: HEAD.")] = "",
        output: Annotated[
            Path | None,
            typer.Option("--output", "-o", metavar="FILE", help="Default: standard output."),
        ] = None,
        receipt: Annotated[
            list[Path] | None,
            typer.Option(
                "--receipt",
                metavar="FILE",
                help="A log's receipt (C2SP tlog-proof). Repeatable.",
                readable=False,
            ),
        ] = None,
        without_report: Annotated[
            bool, typer.Option("--without-report", help="Leave out the full report and what was replayed.")
        ] = False,
        policy: PolicyOption = None,
    ) -> None:
        """Write the evidence about a commit into one file: verdict, approvals, policy, report, receipts.

        'safeai-git verify --bundle FILE --signers FILE' proves it again, without this repository. See
        docs/formats/bundle.md.
        """
        from safeai_git.commands import bundle as command

        session = door.session(Format.text)
        request = command.Request(revision, policy, not without_report, receipt or (), output)
        door.end(session, lambda: command.bundle(session, request))

    @app.command()
    def schema(
        name: Annotated[
            str,
            typer.Argument(
                metavar="NAME", help="policy, verdict, approval, report, bundle, output or common."
            ),
        ],
    ) -> None:
        """Print the JSON Schema of a format, for programs that read what safeai-git writes."""
        from safeai_git.commands import schemas

        session = door.session(Format.json)
        door.end(session, lambda: schemas.schema(session, name))
