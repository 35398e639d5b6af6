"""Finds the few programs that the sandbox itself starts, where nothing that is judged could have put them.

Only fixed system folders count, never ``PATH``, the current folder, the repository or its virtual environment. A
program that somebody else than root could have replaced is refused, not skipped: it is a finding about the machine.
"""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from safeai_git.core.errors import SandboxUnavailable

FOLDERS = (Path("/usr/bin"), Path("/usr/local/bin"), Path("/bin"))


def find_program(name: str, *, install: str, folders: tuple[Path, ...] = FOLDERS) -> Path:
    """The real path of a program of the system.

    Args:
        name: Without a folder.
        install: The hint when it is missing.
        folders: Where to look, in this order.

    Raises:
        SandboxUnavailable: It is not there, or somebody else than root could write it.
    """
    for folder in folders:
        place = folder / name
        try:
            real = place.resolve(strict=True)
            if not real.is_file():
                continue
            _check_owner(real)
            _check_owner(real.parent)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, RuntimeError) as error:
            raise SandboxUnavailable(f"{place} cannot be examined: {error}", hint=install) from error
        return real
    places = ", ".join(str(folder / name) for folder in folders)
    raise SandboxUnavailable(f"{name} is not installed (looked for {places})", hint=install)


def _check_owner(path: Path) -> None:
    found = path.stat()
    if found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SandboxUnavailable(
            f"{path} could be replaced by somebody else than root, so it is not trusted",
            hint=f"sudo chown root:root {path} && sudo chmod go-w {path}",
        )


def sha256_of(path: Path) -> str:
    """The digest of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
