"""The organisation's policy as its Governor hands it out: asked for now and then, kept on disk, good without a network.

What comes back counts as any published policy does (`published_policy`), under the organisation's own signers where they
are configured, else under the log's keys, which this machine's owner has named. A copy that was kept is good until it
expires. Whatever the Governor hands out that does not count is an error, never a reason to go on with less.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from safeai_git.client.governor import GovernorClient
from safeai_git.core.display import safe_text
from safeai_git.core.errors import FormatError, GovernorUnavailable, PolicyError, StorageError
from safeai_git.core.policy_statement import POLICY_NAMESPACE
from safeai_git.core.publickey import format_openssh
from safeai_git.delivery import URL_KEY, Destination, destination
from safeai_git.files import read_bounded, write_atomically
from safeai_git.git.repository import Repository
from safeai_git.keys.keyring import Keyring
from safeai_git.organisation import state_folder
from safeai_git.published_policy import LARGEST_PUBLISHED, Published, open_published

ASK_AFTER_SECONDS = 60
"""A copy that was asked about since is taken without asking again."""

LONGEST_WAIT_SECONDS = 3.0


class Fetched(Struct, frozen=True):
    """A policy that counts; whether it is older than what was seen is still to be asked.

    Attributes:
        published: The policy.
        signers: Under whose keys.
    """

    published: Published
    signers: Keyring
    _data: bytes
    _path: Path
    _new: bool

    def keep(self) -> None:
        """Keep it for the next time. A disk that takes nothing is no reason not to judge by it."""
        if self._new:
            with suppress(StorageError):
                write_atomically(self._path, self._data)
                _asked(self._path).touch()


def fetch(
    repository: Repository,
    environ: Mapping[str, str],
    signers: Keyring | None,
    *,
    now: float,
    ask: bool = False,
) -> Fetched:
    """The organisation's policy of the Governor that this machine names.

    Args:
        repository: Whose configuration is asked where the Governor is.
        environ: The environment, likewise.
        signers: Whose signatures count; ``None`` for the log's keys.
        now: Seconds since 1970.
        ask: Ask even if that was done a moment ago.

    Raises:
        PolicyError: There is none that counts.
        WrongUse, KeyUnusable: The Governor is named in a way that makes no sense.
    """
    to = destination(repository, environ, None)
    if to is None:
        raise PolicyError(
            "the organisation's policy is to come from the Governor, and this machine names none",
            hint=f"git config --global {URL_KEY} https://HOST",
        )
    keyring = signers or _log_keys(to)
    path = _path(repository, environ, to)
    held, why = _held(path, keyring, now)
    if held is not None and not ask and _asked_lately(path, now):
        return held
    try:
        data = GovernorClient(to.address, seconds=LONGEST_WAIT_SECONDS).policy()
    except GovernorUnavailable as error:
        if held is None:
            raise PolicyError(
                f"the organisation's policy cannot be had: {error.message}{why}",
                hint="it is asked for again with the next command; without it nothing is judged here",
            ) from error
        with suppress(OSError):
            _asked(path).touch()
        return held
    except FormatError as error:
        raise PolicyError(f"the organisation's policy cannot be had: {error.message}{why}") from error
    source = f"what the Governor {safe_text(to.address.url)} serves"
    return Fetched(open_published(data, source, keyring, now=now), keyring, data, path, _new=True)


def copy_of(repository: Repository, environ: Mapping[str, str]) -> bytes:
    """The copy that was kept; empty where there is none.

    Raises:
        PolicyError: It cannot be read.
    """
    to = destination(repository, environ, None)
    try:
        return b"" if to is None else read_bounded(_path(repository, environ, to), LARGEST_PUBLISHED)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise PolicyError(f"the organisation's policy cannot be read: {error.strerror or error}") from error


def _held(path: Path, keyring: Keyring, now: float) -> tuple[Fetched | None, str]:
    """The copy that was kept and still counts, and why there is none."""
    try:
        data = read_bounded(path, LARGEST_PUBLISHED)
        return Fetched(
            open_published(data, "the copy at hand", keyring, now=now), keyring, data, path, _new=False
        ), ""
    except OSError:
        return None, ""
    except PolicyError as error:
        return None, f"; {error.message}"


def _log_keys(to: Destination) -> Keyring:
    lines = [
        b'governor namespaces="%b" %b' % (POLICY_NAMESPACE.encode(), format_openssh(one).strip())
        for one in to.present
    ]
    return Keyring.parse(b"\n".join(lines), "the Governor's key")


def _path(repository: Repository, environ: Mapping[str, str], to: Destination) -> Path:
    mark = hashlib.sha256(f"{to.address.url}\n{to.keys[0].name}".encode()).hexdigest()[:32]
    own = state_folder(environ)
    return (repository.private_directory if own is None else own) / "organisation" / f"{mark}.policy"


def _asked(path: Path) -> Path:
    return path.with_suffix(".asked")


def _asked_lately(path: Path, now: float) -> bool:
    try:
        return 0 <= now - _asked(path).stat().st_mtime < ASK_AFTER_SECONDS
    except OSError:
        return False
