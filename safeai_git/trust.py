"""What a change is held against: the policy and the allowed signers of the *base* commit.

Never those of the index, the working tree or the proposed tree: whoever proposes a change does not choose its judge.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from safeai_git.core.display import display
from safeai_git.core.errors import PolicyError
from safeai_git.core.objects import TreeEntry
from safeai_git.core.policy import LARGEST_POLICY, Policy, PolicyStack
from safeai_git.files import read_bounded
from safeai_git.git.changes import TreeComparer
from safeai_git.git.repository import Repository
from safeai_git.git.store import read_commit
from safeai_git.policy_memory import read_policy

if TYPE_CHECKING:
    from safeai_git.keys.keyring import Keyring

FOLDER = b".safeai"
POLICY_FILE = b"policy.yaml"
SIGNERS_FILE = b"allowed_signers"
LARGEST_SIGNERS = 1024 * 1024
_MOST_REMEMBERED = 256
"""Commits whose folder is remembered: a history is walked along neighbours."""


class Trust(Struct, frozen=True):
    """A policy and the keys whose signatures count, both from one commit.

    Attributes:
        policy: The layers, the organisation's first.
        signers: The allowed signers; ``None`` where the commit has no such file.
        commit: The commit that they were read from; empty for an unborn branch.
        builtin: True when there is no policy file and the built-in default judges.
    """

    policy: PolicyStack
    signers: Keyring | None
    commit: str
    builtin: bool

    @property
    def keyring(self) -> Keyring:
        """The allowed signers; an empty keyring where there are none."""
        return _no_keys() if self.signers is None else self.signers


@cache
def _no_keys() -> Keyring:
    return _parsed(b"", "no allowed_signers")


def _parsed(data: bytes, source: str) -> Keyring:
    # Loaded only here: many a hook needs no key.
    keyring: Keyring = importlib.import_module("safeai_git.keys.keyring").Keyring.parse(data, source)
    return keyring


class TrustReader:
    """Reads and remembers trust roots of one repository.

    Args:
        repository: An open repository.
        policy_file: Judge by this file instead of the repository's own policy (``--policy``).
        organisation: A policy layer above the repository's own.
        memory: Where what a valid policy says is remembered; see `policy_memory`.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        policy_file: Path | None = None,
        organisation: Policy | None = None,
        memory: Path | None = None,
    ) -> None:
        self._repository = repository
        self._comparer = TreeComparer(repository.store)
        self._organisation = organisation
        self._memory = memory
        self._explicit = _from_file(policy_file) if policy_file else None
        self._known: dict[tuple[TreeEntry | None, TreeEntry | None], Trust] = {}
        self._folders: dict[str, dict[bytes, TreeEntry]] = {}

    def at(self, commit: str) -> Trust:
        """The trust root of a commit; of the empty string, that of a repository without commits.

        Raises:
            PolicyError: The policy or the signers there are invalid, or not a plain file.
        """
        entries = self._entries(commit)
        policy, signers = entries.get(POLICY_FILE), entries.get(SIGNERS_FILE)
        if policy is None and self._explicit is None:
            nothing_like_a_policy(entries, commit[:12])
        key = (policy, signers)
        if key not in self._known:
            self._known[key] = self._read(commit, policy, signers)
        return self._known[key]

    def has_policy(self, commit: str) -> bool:
        """Whether a commit brings a policy of its own, readable or not."""
        return POLICY_FILE in self._entries(commit)

    def _entries(self, commit: str) -> dict[bytes, TreeEntry]:
        if not commit:
            return {}
        known = self._folders.get(commit)
        if known is None:
            if len(self._folders) >= _MOST_REMEMBERED:
                self._folders.clear()
            known = self._folders[commit] = self._folder(commit)
        return known

    def _folder(self, commit: str) -> dict[bytes, TreeEntry]:
        root = read_commit(self._repository.store, commit).tree
        folder = next((one for one in self._comparer.entries(root) if one.name == FOLDER), None)
        if folder is not None and not folder.is_tree:
            raise PolicyError(
                f".safeai at {commit[:12]} is not a folder",
                hint="a maintainer has to put the policy's folder back",
            )
        return {one.name: one for one in self._comparer.entries(folder.id)} if folder else {}

    def _read(self, commit: str, policy: TreeEntry | None, signers: TreeEntry | None) -> Trust:
        where = commit[:12]
        if self._explicit is not None:
            layer = self._explicit
        elif policy is not None:
            source = f".safeai/policy.yaml at {where}"
            layer = read_policy(self._file(policy, source, LARGEST_POLICY), source, self._memory)
        else:
            layer = Policy.builtin()
        keyring = None
        if signers is not None:
            source = f".safeai/allowed_signers at {where}"
            keyring = _parsed(self._file(signers, source, LARGEST_SIGNERS), source)
        layers = (layer,) if self._organisation is None else (self._organisation, layer)
        return Trust(PolicyStack(layers), keyring, commit, builtin=self._explicit is None and policy is None)

    def _file(self, entry: TreeEntry, source: str, limit: int) -> bytes:
        if entry.mode & 0o170000 != 0o100000:
            raise PolicyError(f"{source} is not a plain file", hint="a maintainer has to put the file back")
        if self._repository.store.header(entry.id)[1] > limit:
            raise PolicyError(f"{source} is larger than {limit:,} bytes")
        return self._repository.store.read(entry.id)[1]


def nothing_like_a_policy(entries: Iterable[bytes], where: str) -> None:
    """Refuse a misspelt policy: without this, no policy at all would judge (B-06).

    Args:
        entries: Names in ``.safeai``, none of which is the policy's.
        where: The commit, for the message.

    Raises:
        PolicyError: One of them looks like a policy.
    """
    near = [
        one for one in entries if difflib.get_close_matches(display(one).lower(), ["policy.yaml"], 1, 0.8)
    ]
    if near:
        raise PolicyError(
            f".safeai/policy.yaml is missing at {where}, but there is .safeai/{display(near[0])}",
            hint="rename it to policy.yaml on the base branch",
        )


def _from_file(path: Path) -> Policy:
    try:
        data = read_bounded(path, LARGEST_POLICY)
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}", hint="name a policy file that can be read") from error
    return read_policy(data, str(path))
