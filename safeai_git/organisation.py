"""The organisation's policy, above the repository's: signed, with a version and an expiry, and never an older one.

It counts when a key that the organisation's own allowed_signers file lists for ``safeai-policy`` has signed it, when it
has not expired, and when no higher version was seen before, here or by this person (B-04). What was seen is remembered
for each organisation and key; what a key has signed that is no longer trusted binds nobody.

Whatever is not so is "could not decide": an organisation's policy that is configured is never passed over.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safeai_git.core import canonical
from safeai_git.core.errors import FormatError, PolicyError, StorageError
from safeai_git.core.policy import Policy
from safeai_git.core.policy_statement import POLICY_NAMESPACE
from safeai_git.core.trust import TrustedKey
from safeai_git.files import locked, read_bounded, write_atomically
from safeai_git.git.repository import Repository
from safeai_git.keys.keyring import MAX_BYTES, Keyring
from safeai_git.organisation_places import organisation_places
from safeai_git.published_policy import LARGEST_PUBLISHED, Published, open_published, policy_text

_LARGEST_RECORD = 4_096
_LONGEST_WAIT_SECONDS = 10.0


class Memory:
    """Remembers the highest version that was seen, in one or more folders; the highest of all counts.

    One small file for each organisation and key, written whole or not at all. A file that cannot be read or does not
    say what it must is never taken for "nothing was seen".

    Args:
        folders: Where to remember.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)

    def admit(self, published: Published, trusted: Iterable[str]) -> None:
        """Take a policy, or refuse it as older than, or other than, what was seen; remember it.

        Args:
            published: What is offered.
            trusted: Ids of all keys that may sign policies now: what each of them has signed binds.

        Raises:
            PolicyError: A higher version was seen, or another statement of the same version.
            StorageError: What was seen cannot be read, or not be written.
        """
        statement = published.statement
        ours = tuple(key.key_id for key in published.keys)
        for key_id in dict.fromkeys((*trusted, *ours)):
            for folder in self._folders:
                self._compare(published, self._seen(self._path(folder, statement.organisation, key_id)))
        offered = statement.version, published.payload_digest
        for key_id in ours:
            record = _record(statement.organisation, key_id, *offered)
            for folder in self._folders:
                path = self._path(folder, statement.organisation, key_id)
                if self._seen(path) != offered:
                    self._remember(path, record, published)

    def _remember(self, path: Path, record: bytes, published: Published) -> None:
        """Write a record, unless another process has seen a newer policy meanwhile."""
        folder = path.parent
        with locked(folder.with_name(f"{folder.name}.lock"), wait=_LONGEST_WAIT_SECONDS):
            self._compare(published, self._seen(path))
            write_atomically(path, record)

    def _compare(self, published: Published, seen: tuple[int, str]) -> None:
        statement = published.statement
        version, digest = seen
        if statement.version < version:
            raise PolicyError(
                f"the policy of {statement.organisation} offered here is version {statement.version}; "
                f"version {version} was seen already",
                hint="get the current one: an older policy is not taken back",
            )
        if statement.version == version and digest != published.payload_digest:
            raise PolicyError(
                f"there are two policies of {statement.organisation} with version {version}",
                hint="ask who publishes them; a changed policy needs a higher version",
            )

    @staticmethod
    def _path(folder: Path, organisation: str, key_id: str) -> Path:
        name = hashlib.sha256(f"{organisation}\n{key_id}".encode()).hexdigest()
        return folder / f"{name}.json"

    @staticmethod
    def _seen(path: Path) -> tuple[int, str]:
        """The version and the digest that a file remembers; 0 where there is no file."""
        try:
            data = read_bounded(path, _LARGEST_RECORD)
        except FileNotFoundError:
            return 0, ""
        except OSError as error:
            raise StorageError(
                f"{path} cannot be read: {error.strerror}",
                hint="it says which version of the organisation's policy was seen; let this user read it",
            ) from error
        try:
            match canonical.loads(data, limit=_LARGEST_RECORD):
                case {
                    "organisation": str(organisation),
                    "key": str(key_id),
                    "version": int(version),
                    "digest": str(digest),
                }:
                    named = Memory._path(path.parent, organisation, key_id) == path
                    if named and _record(organisation, key_id, version, digest) == data:
                        return version, digest
        except FormatError:
            pass
        raise StorageError(
            f"{path} is damaged, so nobody knows which version of the organisation's policy was seen",
            hint="put it back from a backup; or make sure that you hold the newest policy, then delete it",
        )


def _record(organisation: str, key_id: str, version: int, digest: str) -> bytes:
    return canonical.dumps(
        {"organisation": organisation, "key": key_id, "version": version, "digest": digest}
    )


def organisation_policy(
    repository: Repository, environ: Mapping[str, str], *, now: float, ask: bool = False
) -> Policy | None:
    """The organisation's policy that is configured for a repository; ``None`` when none is.

    ``SAFEAI_ORG_POLICY`` or ``git config safeai.orgPolicy`` names the file, ``SAFEAI_ORG_SIGNERS`` or
    ``safeai.orgSigners`` the keys. What the person's or the system's configuration says comes before the clone's.
    In place of the file ``governor`` stands for what the Governor of this machine serves (`fetched_policy`).

    Args:
        repository: Whose.
        environ: The environment.
        now: Seconds since 1970.
        ask: Ask a Governor even if that was done a moment ago.

    Raises:
        PolicyError: One is configured and does not count.
        StorageError: What was seen before cannot be read or written.
        WrongUse, KeyUnusable: It is to come from a Governor that is named in a way that makes no sense.
    """
    places = organisation_places(repository, environ)
    if places is None:
        return None
    keyring = None
    if places.signers is not None:
        _not_of_the_change(repository, places.signers)
        keyring = Keyring.parse(_read(places.signers, MAX_BYTES), str(places.signers))
    fetched = None
    if places.policy is None:
        fetched = _fetching().fetch(repository, environ, keyring, now=now, ask=ask)
        published, keyring = fetched.published, fetched.signers
    else:
        assert keyring is not None  # `organisation_places`
        data = _read(places.policy, LARGEST_PUBLISHED)
        published = open_published(data, str(places.policy), keyring, now=now)
    ids = [entry.public.key_id for entry in keyring.entries]
    trusted = [one for one in ids if isinstance(keyring.trusts(one, POLICY_NAMESPACE, int(now)), TrustedKey)]
    Memory(state_folders(repository, environ)).admit(published, trusted)
    if fetched is not None:
        fetched.keep()
    policy: Policy = published.policy
    return policy


def _fetching() -> Any:
    """The way to a Governor: it rests on this module, and is loaded only where one is asked."""
    return importlib.import_module("safeai_git.fetched_policy")


def organisation_text(repository: Repository, environ: Mapping[str, str]) -> bytes | None:
    """The text of the organisation's policy that is configured; `organisation_policy` says whether it counts.

    Raises:
        PolicyError: It cannot be read.
    """
    places = organisation_places(repository, environ)
    if places is None:
        return None
    if places.policy is None:
        return policy_text(_fetching().copy_of(repository, environ))
    return policy_text(_read(places.policy, LARGEST_PUBLISHED))


def state_folders(repository: Repository, environ: Mapping[str, str]) -> list[Path]:
    """Where the versions seen are remembered: in the repository, and in the person's own state folder if there is one."""
    folders = [repository.private_directory / "organisation"]
    if (own := state_folder(environ)) is not None:
        folders.append(own / "organisation")
    return folders


def state_folder(environ: Mapping[str, str]) -> Path | None:
    """The person's own folder for what is to be remembered across clones (XDG Base Directory); ``None`` without a home."""
    base = environ.get("XDG_STATE_HOME") or environ.get("LOCALAPPDATA")
    home = environ.get("HOME")
    own = Path(base) if base else Path(home) / ".local" / "state" if home else None
    return own / "safeai-git" if own is not None and own.is_absolute() else None


def _not_of_the_change(repository: Repository, path: Path) -> None:
    """Refuse keys that lie where a change can put its own."""
    tree = repository.work_tree
    if tree is not None and path.resolve().is_relative_to(tree.resolve()):
        private = repository.common_directory.resolve()
        if not path.resolve().is_relative_to(private):
            raise PolicyError(
                f"the organisation's signers lie in the working tree ({path}), where a change could replace them",
                hint="keep the file outside the repository",
            )


def _read(path: Path, most: int) -> bytes:
    try:
        data = read_bounded(path, most)
    except OSError as error:
        raise PolicyError(
            f"the organisation's {path} cannot be read: {error.strerror}",
            hint="put the file back; without it nothing is judged here",
        ) from error
    if len(data) > most:
        raise PolicyError(f"{path} is larger than {most:,} bytes")
    return data
