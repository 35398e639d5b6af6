"""What valid policies say, remembered by their digest, for whoever cannot wait for YAML.

A file of the person's own cache holds the plain data of one policy, as it was read from the bytes with that digest.
What is read back goes through the same checks as what comes from YAML. Whoever can write there can write the programs
that this person runs, too; still, only advice rests on it: what is signed comes from the policy's own bytes
(decision 43).
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from safeai_git import __version__
from safeai_git.core.errors import PolicyError, StorageError
from safeai_git.core.policy import Policy
from safeai_git.files import read_json, write_atomically


def memory_folder(environ: Mapping[str, str]) -> Path | None:
    """The folder below the person's cache (XDG Base Directory).

    ``None`` without a home, and where the cache lies in a working tree (CI jobs often put it there): what is in such a
    folder may have come with a change.
    """
    named, home = environ.get("XDG_CACHE_HOME"), environ.get("HOME")
    base = Path(named) if named else Path(home) / ".cache" if home else None
    if base is None or not base.is_absolute():
        return None
    folder = Path(os.path.realpath(base), "safeai-git", "policies")
    return None if any(os.path.lexists(one / ".git") for one in folder.parents) else folder


def read_policy(data: bytes, source: str, memory: Path | None = None) -> Policy:
    """Read a policy, as `policyfile.load` does.

    Args:
        data: The file's bytes.
        source: What to call it in messages.
        memory: Where to remember it; ``None`` for nowhere.

    Raises:
        PolicyError: It is no valid policy.
    """
    digest = hashlib.sha256(data).hexdigest()
    place = None if memory is None else memory / f"{digest}-{__version__}.json"
    if place is not None and _is_ours(place):
        # The name again, inside: whoever may rename in the folder makes no policy another one's.
        match read_json(place):
            case {"sha256": known, "says": said} if known == digest:
                with suppress(PolicyError):
                    return Policy.from_data(said, {}, source, digest)
    # Loaded only here: YAML takes longer than judging an edit.
    reader = importlib.import_module("safeai_git.policyfile")
    document = reader.parse(data, source)
    policy = Policy.from_data(document.data, document.positions, source, digest, document.faults)
    if place is not None:
        with suppress(StorageError):
            write_atomically(place, json.dumps({"sha256": digest, "says": document.data}).encode())
    return policy


def _is_ours(place: Path) -> bool:
    """Whether a file that is there is this user's, and nobody else's to write."""
    try:
        found = place.lstat()
    except OSError:
        return False
    others = stat.S_IMODE(found.st_mode) & 0o022
    return stat.S_ISREG(found.st_mode) and not others and getattr(os, "geteuid", lambda: 0)() == found.st_uid
