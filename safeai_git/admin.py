"""The commands of ``safeai``: what whoever runs the Governor needs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from safeai_git.__main__ import finish

app = typer.Typer(
    name="safeai",
    help="Administer a Governor's data folder.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
keys_app = typer.Typer(help="The Governor's signing keys.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")

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


def main() -> None:
    """Run ``safeai``."""
    arguments = sys.argv[1:]
    if arguments:
        os.environ.pop("_SAFEAI_COMPLETE", None)  # see `safeai_git.__main__.main`
    finish(lambda: run(arguments), "safeai")


def run(arguments: list[str]) -> int:
    """Parse the arguments and run the command; its exit code. Errors of ours come through."""
    try:
        app(args=arguments, prog_name="safeai", standalone_mode=True)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 2
    return 0
