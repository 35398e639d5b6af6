"""Files of JSON lines that only grow, kept in a repository's private folder: what a server did, for who administers it.

A line is whole or not there, and durable when `append` returns. Who reads the file may take it away at any time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safeai_git.core.errors import StorageError


def append(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows at the end of a file, in one write, so that two processes never mix theirs.

    Raises:
        StorageError: They could not be written.
    """
    data = b"".join(
        json.dumps(row, ensure_ascii=True, separators=(",", ":")).encode() + b"\n" for row in rows
    )
    if not data:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            written = os.write(descriptor, data)
            if written != len(data):
                raise StorageError(
                    f"{path} took only {written:,} of {len(data):,} bytes", hint="is the disk full?"
                )
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror or error}",
            hint="check free space and permissions of its folder",
        ) from error
