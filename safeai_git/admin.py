"""The commands of ``safeai``: what whoever runs the Governor needs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from safeai_git.__main__ import finish

if TYPE_CHECKING:
    from safeai_git.governor.archive import Place
    from safeai_git.governor.settings import Settings

app = typer.Typer(
    name="safeai",
    help="Run a Governor, and administer its data folder.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
keys_app = typer.Typer(help="The Governor's signing keys.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")
audit_app = typer.Typer(
    help="The audit log, or any copy of it: 'safeai audit --verify [FILE]' checks one.", no_args_is_help=True
)
app.add_typer(audit_app, name="audit")
token_app = typer.Typer(help="Tokens for the Governor's API.", no_args_is_help=True)
app.add_typer(token_app, name="token")
db_app = typer.Typer(help="The Governor's PostgreSQL.", no_args_is_help=True)
app.add_typer(db_app, name="db")

DATA_DIRECTORY = Annotated[
    Path,
    typer.Option(
        "--data-dir", envvar="SAFEAI_DATA_DIR", metavar="FOLDER", help="The Governor's data folder."
    ),
]


@app.callback()
def root() -> None:
    """Keeps ``keys`` a group of its own."""


@keys_app.command("generate")
def keys_generate(
    data_directory: DATA_DIRECTORY,
    key_id: Annotated[
        str, typer.Option("--key-id", metavar="NAME", help="The key's name in file names.")
    ] = "default",
) -> None:
    """Make an Ed25519 key pair in FOLDER/keys; one that is there is never overwritten."""
    from safeai_git.commands import keyring
    from safeai_git.commands.session import Session

    session = Session.here()
    made = keyring.generate_key(data_directory / "keys", key_id, None)
    session.say(f"private key: {made.secret}")
    session.say(f"public key: {made.public_file}")
    session.say(f"key id: {made.public.key_id}")


@app.command()
def serve() -> None:
    """Serve the Governor's API until it is told to end. Settings come from the environment: docs/deploy/settings.md."""
    settings = _settings()
    with _extra():
        from safeai_git.governor.http.server import serve as run_server

        run_server(settings)


class Format(StrEnum):
    """How a report is written."""

    TEXT = "text"
    JSON = "json"


@app.command()
def doctor(
    form: Annotated[Format, typer.Option("--format", help="For people, or for programs.")] = Format.TEXT,
    archive: Annotated[
        str,
        typer.Option(
            "--archive", metavar="PLACE", help="Look at this archive too: a folder or s3://BUCKET/PREFIX."
        ),
    ] = "",
) -> None:
    """Say what keeps a Governor with these settings from serving, and what to do. Ends with 0, 1 broken, 3 could not look."""
    import time

    from safeai_git.report.style import Style

    with _extra():
        from safeai_git.governor.doctor import report
        from safeai_git.governor.doctor.run import doctor as examine

        found = examine(os.environ, now=time.time(), archive=archive)
    if form is Format.JSON:
        typer.echo(report.data(found))
    else:
        typer.echo(report.text(found, Style.for_stream(sys.stdout, os.environ)))
    raise typer.Exit(report.exit_code(found))


@app.command()
def witness(
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="The witness's name; never change it.")],
    log: Annotated[
        list[str], typer.Option("--log", metavar="VKEY", help="A log to look at, by its key. Repeatable.")
    ],
    data_directory: DATA_DIRECTORY = Path(),
    key_id: Annotated[str, typer.Option("--key-id", metavar="KEY", help="In FOLDER/keys.")] = "default",
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535)] = 8001,
) -> None:
    """Cosign checkpoints of logs as long as they only grow (C2SP tlog-witness). Behind TLS of your own."""
    from safeai_git.core.log.note import NoteKey
    from safeai_git.keys.signer import load_signer

    logs = [NoteKey.bounded(one) for one in log]
    signer = load_signer(data_directory / "keys" / f"ed25519.{key_id}.sk")
    with _extra():
        from safeai_git.governor.http.witness_server import serve_witness
        from safeai_git.governor.witness import Witness

        made = Witness(data_directory, name, logs, signer)
        typer.echo(f"witness key: {made.key.format()}")
        try:
            serve_witness(made, host, port)
        finally:
            made.close()


@token_app.command("issue")
def token_issue(
    subject: Annotated[str, typer.Argument(metavar="NAME", help="Whom it stands for; it goes onto the log.")],
    scope: Annotated[
        list[str],
        typer.Option(
            "--scope", metavar="SCOPE", help="What it may: verdicts:write, log:read, ... Repeatable."
        ),
    ],
    repository: Annotated[
        list[str] | None,
        typer.Option(
            "--repository", metavar="NAME", help="Only for this repository. Repeatable; default: all."
        ),
    ] = None,
    days: Annotated[float, typer.Option("--days", min=0.001, max=366, help="How long it is good.")] = 30,
) -> None:
    """Print a token, signed with SAFEAI_JWT_SECRET or SAFEAI_JWT_PRIVATE_KEY. Whoever has it may what it says."""
    from typing import cast

    from safeai_git.core.errors import WrongUse

    settings = _settings()
    with _extra():
        from safeai_git.governor.auth.tokens import Algorithm, issue, secret

        secret_kind = settings.jwt_algorithm == "HS256"
        key = settings.jwt_secret if secret_kind else settings.jwt_private_key
        if not key:
            name = "SAFEAI_JWT_SECRET" if secret_kind else "SAFEAI_JWT_PRIVATE_KEY"
            raise WrongUse(
                f"{name} is not set, and SAFEAI_JWT_ALGORITHM is {settings.jwt_algorithm}",
                hint="it must be what the Governor was started with"
                if secret_kind
                else f"or set {name}_FILE",
            )
        typer.echo(
            issue(
                key=secret(key) if secret_kind else key,
                algorithm=cast("Algorithm", settings.jwt_algorithm),
                issuer=settings.jwt_issuer,
                audience=settings.jwt_audience,
                subject=subject,
                scopes=frozenset(scope),
                seconds=max(1, int(days * 86_400)),
                repositories=frozenset(repository) if repository else None,
            )
        )


def _settings() -> Settings:
    from safeai_git.governor.settings import read_settings

    return read_settings(os.environ)


@contextmanager
def _extra() -> Iterator[None]:
    """Say which extra is missing, instead of a traceback."""
    from safeai_git.core.errors import StorageError

    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("safeai_git"):
            raise
        raise StorageError(
            f"the Governor needs {error.name}, which is not installed", hint="install safeai-git[governor]"
        ) from None


LOG_FILE = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="The log; audit.log in the data folder if not said.")
]
LOG_KEYS = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        metavar="KEY",
        help="A key of the log: a .pub file or a verifier key. Those in keys/ beside the log if not said.",
    ),
]
LOG_ANCHORS = Annotated[
    list[Path] | None,
    typer.Option("--anchor", metavar="FILE", help="A checkpoint that was kept elsewhere; may be repeated."),
]
LOG_JSON = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@audit_app.command("verify")
def audit_verify(
    file: LOG_FILE = None,
    data_directory: DATA_DIRECTORY = Path(),
    key: LOG_KEYS = None,
    anchor: LOG_ANCHORS = None,
    require_anchor: Annotated[
        bool,
        typer.Option("--require-anchor", help="End with 1 where no checkpoint from outside vouches for it."),
    ] = False,
    witness_policy: Annotated[
        Path | None,
        typer.Option(
            "--witness-policy",
            metavar="FILE",
            help="End with 1 where no checkpoint that this C2SP policy's witnesses cosigned vouches for it.",
        ),
    ] = None,
    archive: Annotated[
        str,
        typer.Option(
            "--archive", metavar="PLACE", help="A folder or s3://BUCKET/PREFIX: FILE goes on where it ends."
        ),
    ] = "",
    as_json: LOG_JSON = False,
) -> None:
    """Check chain, tree, signatures and anchors (also: audit --verify). Ends with 0, or 2 tampered, 3 torn, 4 unreadable."""
    from safeai_git.commands import audit

    log = file or data_directory / "audit.log"
    source = None
    if archive:
        with _extra():
            from safeai_git.governor.archive import Archived

            source = Archived(_place(archive), log if file or log.exists() else None)
    raise typer.Exit(
        audit.verify(
            log,
            key or [],
            anchor or [],
            require_anchor=require_anchor,
            as_data=as_json,
            witnesses=witness_policy,
            source=source,
        )
    )


def _place(text: str) -> Place:
    """Where an archive is."""
    from safeai_git.governor.archive import Folder

    if not text.startswith("s3://"):
        return Folder(Path(text))
    from safeai_git.core.errors import StorageError

    try:
        from safeai_git.governor.archive_s3 import S3
    except ModuleNotFoundError as error:
        raise StorageError(
            f"object stores need {error.name}, which is not installed", hint="install safeai-git[aws]"
        ) from None
    return S3(text)


@audit_app.command("archive")
def audit_archive(
    place: Annotated[str, typer.Argument(metavar="PLACE", help="A folder, or s3://BUCKET/PREFIX.")],
    file: LOG_FILE = None,
    data_directory: DATA_DIRECTORY = Path(),
    key: LOG_KEYS = None,
    anchor: LOG_ANCHORS = None,
    segment_bytes: Annotated[
        int,
        typer.Option(
            "--segment-bytes", min=1, max=1 << 28, help="Size of a segment before it is compressed."
        ),
    ] = 16 << 20,
    restore: Annotated[
        Path | None,
        typer.Option("--restore", metavar="FILE", help="The other way: write what it holds here."),
    ] = None,
) -> None:
    """Bring the log's closed batches into an archive, compressed; the log itself is only read, running or not."""
    from safeai_git.commands import audit

    with _extra():
        from safeai_git.governor import archive

        where = _place(place)
        if restore is not None:
            typer.echo(
                f"{archive.restore(where, restore):,} bytes in {restore}; run 'safeai audit --verify {restore}'"
            )
            return
        log = file or data_directory / "audit.log"
        keys, anchors = audit.log_keys(log, key or []), audit.anchors_of(log, anchor or [])
        written, held = archive.archive_log(
            log, where, keys, anchors, segment_bytes=segment_bytes, progress=audit.progress_bar()
        )
    typer.echo(f"{len(written):,} segments were written; the archive holds {held:,} entries")


@audit_app.command("forward")
def audit_forward(
    file: LOG_FILE = None,
    key: LOG_KEYS = None,
    once: Annotated[
        bool, typer.Option("--once", help="Deliver what is there and end; else go on for ever.")
    ] = False,
    cursor: Annotated[
        Path | None,
        typer.Option(
            "--cursor", metavar="FILE", help="What was acknowledged; SAFEAI_FORWARD_CURSOR if not said."
        ),
    ] = None,
    begin: Annotated[
        int, typer.Option("--from", metavar="N", min=0, help="Begin here, where there is no cursor yet.")
    ] = 0,
    patience: Annotated[
        float,
        typer.Option(
            "--patience",
            metavar="SECONDS",
            min=0,
            help="With --once: give up after so long without progress.",
        ),
    ] = 60.0,
    longest: Annotated[
        int,
        typer.Option(
            "--longest",
            metavar="BYTES",
            min=2_048,
            max=1 << 20,
            help="What the syslog server takes as one message.",
        ),
    ] = 8_192,
    set_aside: Annotated[
        Path | None,
        typer.Option("--set-aside", metavar="FILE", help="Put what the destination refuses here, and go on."),
    ] = None,
    metrics: Annotated[
        Path | None, typer.Option("--metrics", metavar="FILE", help="For Prometheus' textfile collector.")
    ] = None,
) -> None:
    """Deliver entries to SAFEAI_FORWARD_TO, each at least once and in order. Ends with 0, 1 refused, 3 could not deliver."""
    from safeai_git.commands import audit

    settings = _settings()
    with _extra():
        from safeai_git.governor.forward.open import Wanted, open_forwarder, say
        from safeai_git.governor.forward.records import shown
        from safeai_git.governor.forward.run import Unwanted

        keys = audit.log_keys(file or settings.data_dir / "audit.log", key or [])
        wanted = Wanted(file, keys, cursor, begin, set_aside, metrics, patience, longest)
        forwarder = open_forwarder(settings, wanted)
        try:
            with forwarder.file.held():
                if not once:
                    forwarder.follow()
                done = forwarder.once()
        except Unwanted as error:
            say(f"{error}; it will not take {shown([error.record])}: --set-aside FILE keeps it and goes on")
            raise typer.Exit(1) from None
    typer.echo(f"{done:,} entries were delivered to {forwarder.target.name}")


@audit_app.command("tail")
def audit_tail(
    file: LOG_FILE = None,
    data_directory: DATA_DIRECTORY = Path(),
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=1_000_000, help="How many.")] = 10,
    raw: Annotated[bool, typer.Option("--raw", help="The lines as they stand in the file.")] = False,
) -> None:
    """Show the last entries."""
    from safeai_git.commands import audit

    raise typer.Exit(audit.tail(file or data_directory / "audit.log", lines, raw=raw))


@audit_app.command("prove")
def audit_prove(
    number: Annotated[int, typer.Argument(metavar="N", min=0, help="The entry, from 0.")],
    file: LOG_FILE = None,
    data_directory: DATA_DIRECTORY = Path(),
    key: LOG_KEYS = None,
    anchor: LOG_ANCHORS = None,
    to: Annotated[Path | None, typer.Option("--to", metavar="FILE", help="Where to; else printed.")] = None,
) -> None:
    """Write the receipt of an entry (a C2SP tlog-proof) under the newest checkpoint."""
    from safeai_git.commands import audit

    raise typer.Exit(
        audit.prove_entry(file or data_directory / "audit.log", key or [], anchor or [], number, to)
    )


@audit_app.command("consistency")
def audit_consistency(
    old: Annotated[int, typer.Argument(metavar="A", min=0, help="The smaller size.")],
    new: Annotated[int, typer.Argument(metavar="B", min=0, help="The larger size.")],
    file: LOG_FILE = None,
    data_directory: DATA_DIRECTORY = Path(),
    key: LOG_KEYS = None,
    anchor: LOG_ANCHORS = None,
    as_json: LOG_JSON = False,
) -> None:
    """Prove that the log of size A is the beginning of that of size B."""
    from safeai_git.commands import audit

    log = file or data_directory / "audit.log"
    raise typer.Exit(audit.prove_consistency(log, key or [], anchor or [], old, new, as_data=as_json))


@audit_app.command("export")
def audit_export(
    file: LOG_FILE = None,
    data_directory: DATA_DIRECTORY = Path(),
    key: LOG_KEYS = None,
    anchor: LOG_ANCHORS = None,
    tiles: Annotated[
        Path | None, typer.Option("--tiles", metavar="FOLDER", help="As static C2SP tiles, for any client.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="As lines, up to the newest checkpoint.")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            metavar="FILE",
            help="With --to: keep the newest checkpoint here, as the anchor of the next time.",
        ),
    ] = None,
    url: Annotated[str, typer.Option("--url", metavar="URL", help="Out of this PostgreSQL.")] = "",
    origin: Annotated[
        str, typer.Option("--origin", metavar="NAME", help="With --url: which log, if it holds several.")
    ] = "",
) -> None:
    """Write a verified copy of the log, out of its file or, with --url, out of a database."""
    from safeai_git.commands import audit

    if url:
        from safeai_git.core.errors import WrongUse

        if to is None or tiles is not None or file is not None or checkpoint is not None:
            raise WrongUse("with --url the log is written as lines: --to FILE, and nothing else")
        with _extra():
            from safeai_git.governor.stores.postgres_copy import export_log
        name, written = export_log(url, origin, to, audit.log_keys(data_directory / "audit.log", key or []))
        typer.echo(f"{written:,} entries of {name} in {to}")
        raise typer.Exit(0)

    log = file or data_directory / "audit.log"
    raise typer.Exit(audit.export(log, key or [], anchor or [], tiles=tiles, to=to, checkpoint=checkpoint))


@audit_app.command("import")
def audit_import(
    url: Annotated[
        str, typer.Option("--url", envvar="SAFEAI_DATABASE_URL", metavar="URL", help="The database.")
    ],
    file: LOG_FILE = None,
    data_directory: DATA_DIRECTORY = Path(),
    key: LOG_KEYS = None,
    anchor: LOG_ANCHORS = None,
) -> None:
    """Put a log into a PostgreSQL that holds nothing of it yet: all of it, verified, or nothing."""
    from safeai_git.commands import audit

    log = file or data_directory / "audit.log"
    keys, anchors = audit.log_keys(log, key or []), audit.anchors_of(log, anchor or [])
    with _extra():
        from safeai_git.governor.stores.postgres_copy import import_log
    name, size = import_log(url, log, keys, anchors, progress=audit.progress_bar())
    typer.echo(f"{size:,} entries went in; start the Governor with SAFEAI_LOG_ORIGIN={name}")


@db_app.command("upgrade")
def db_upgrade(
    url: Annotated[
        str, typer.Option("--url", envvar="SAFEAI_DATABASE_URL", metavar="URL", help="The database.")
    ],
) -> None:
    """Make the log's tables, or bring them up to date. Running it twice, or twice at once, does no harm."""
    with _extra():
        from safeai_git.governor.stores.postgres_schema import upgrade

        done = upgrade(url)
    typer.echo(f"{done} migrations were run" if done else "nothing was to be done")


def main() -> None:
    """Run ``safeai``."""
    arguments = sys.argv[1:]
    if arguments:
        os.environ.pop("_SAFEAI_COMPLETE", None)  # see `safeai_git.__main__.main`
    finish(lambda: run(arguments), "safeai")


def run(arguments: list[str]) -> int:
    """Parse the arguments and run the command; its exit code. Errors of ours come through."""
    if arguments[:1] == ["audit"] and "--verify" in arguments:
        # The guide's spelling; a group cannot have both a file and commands.
        arguments = ["audit", "verify", *(one for one in arguments[1:] if one != "--verify")]
    try:
        app(args=arguments, prog_name="safeai", standalone_mode=True)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 2
    return 0
