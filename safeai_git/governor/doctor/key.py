"""The signing key: there, closed to others, usable, and the one that the log was signed with (which `log_file` says)."""

from __future__ import annotations

import os
from collections.abc import Iterator

from safeai_git.core.errors import SafeAIError
from safeai_git.core.publickey import parse_openssh
from safeai_git.files import read_bounded
from safeai_git.governor.doctor.case import Case
from safeai_git.governor.doctor.report import Examined, of_error
from safeai_git.governor.service import signer_of
from safeai_git.keys.ed25519 import verify
from safeai_git.keys.keyfiles import MAX_BYTES, public_path
from safeai_git.keys.signer import is_reference

_PROBE = b"safeai doctor asks whether this key signs: "
"""No envelope, checkpoint or cosignature begins so."""


def examine(case: Case) -> Iterator[Examined]:
    """Load the key and have it sign something that means nothing."""
    key_id = case.settings.key_id
    try:
        signer = signer_of(case.settings, case.environ)
        probe = _PROBE + os.urandom(16)
        if not verify(signer.public.raw, signer.sign(probe), probe):
            yield Examined(
                "key",
                "bad",
                f"{key_id} gives signatures that do not hold under its own public key",
                "take another key",
            )
            return
    except SafeAIError as error:
        yield of_error("key", error)
        return
    case.signer = signer
    if is_reference(key_id):
        yield Examined("key", "ok", f"{key_id} answers and signs, {signer.key_id}")
        return
    folder = case.settings.data_dir / "keys"
    yield Examined("key", "ok", f"{folder / f'ed25519.{key_id}.sk'} signs, {signer.key_id}")
    path = public_path(folder, key_id)
    try:
        public = parse_openssh(read_bounded(path, MAX_BYTES).strip())[0]
    except (OSError, SafeAIError):
        yield Examined(
            "key",
            "warn",
            f"there is no readable {path}: 'safeai audit' then takes the log's own word for its key",
            "put the public half there",
        )
        return
    if public.raw != signer.public.raw:
        yield Examined(
            "key",
            "bad",
            f"{path} is another key's public half: 'safeai audit' would call this log forged",
            "put the right one there",
        )


def verifier(case: Case) -> Iterator[Examined]:
    """What clients are told, once the log's name is known."""
    if case.log_keys:
        yield Examined("verifier key", "ok", case.log_keys[0].format())
