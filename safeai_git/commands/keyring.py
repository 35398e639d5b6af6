"""``keys generate|list|export``."""

from __future__ import annotations

from pathlib import Path

from safeai_git.commands.session import Session
from safeai_git.core.errors import FormatError, WrongUse
from safeai_git.core.publickey import format_openssh, parse_openssh
from safeai_git.files import read_bounded
from safeai_git.keys.file import Generated, generate
from safeai_git.keys.keyfiles import MAX_BYTES, public_path


def generate_key(folder: Path, key_id: str, passphrase: bytes | None) -> Generated:
    """Make a key pair in a folder; see `keys.file.generate`."""
    return generate(folder, key_id, passphrase)


def make(session: Session, folder: Path, key_id: str, passphrase: bytes | None) -> int:
    """Make a key and say where it is and how to have it trusted."""
    made = generate_key(folder, key_id, passphrase)
    if session.output_format != "text":
        session.data(
            {"secret": str(made.secret), "public": str(made.public_file), "key_id": made.public.key_id}
        )
    session.say(f"private key: {made.secret}")
    session.say(f"public key: {made.public_file}")
    session.say(f"key id: {made.public.key_id}")
    session.say("to have its signatures count, a maintainer adds to .safeai/allowed_signers:")
    session.say(f'  you@example.com namespaces="safeai-verdict" {format_openssh(made.public).decode()}')
    return 0


def listing(session: Session, folder: Path) -> int:
    """The public keys in a folder."""
    rows = [
        {
            "name": path.name.removeprefix("ed25519.").removesuffix(".pub"),
            "key_id": _public(path),
            "file": str(path),
        }
        for path in sorted(folder.glob("ed25519.*.pub"))
    ]
    if session.output_format != "text":
        session.data({"keys": rows})
    for row in rows:
        session.say(f"{row['name']}  {row['key_id']}  {row['file']}")
    if not rows:
        session.say(f"no keys in {folder}; 'safeai-git keys generate' makes one")
    return 0


def _public(path: Path) -> str:
    try:
        return parse_openssh(read_bounded(path, MAX_BYTES).strip())[0].key_id
    except FormatError as error:
        raise FormatError(
            f"{path}: {error.message}", hint=error.hint or "put the public key back, or move the file away"
        ) from error


def export(session: Session, folder: Path, key_id: str) -> int:
    """Print a public key, one line, as allowed_signers and ssh-keygen take it."""
    path = public_path(folder, key_id)
    try:
        line = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise WrongUse(
            f"{path}: {error.strerror}", hint="'safeai-git keys list' shows the keys there are"
        ) from error
    if session.output_format != "text":
        session.data({"name": key_id, "public": line})
    session.say(line)
    return 0
