"""The database's address, looked at before libpq does: what libpq says of one that is none repeats it, and the password in it."""

from __future__ import annotations

import psycopg
from psycopg.conninfo import conninfo_to_dict

from safeai_git.core.errors import StorageError


def parts_of(url: str) -> dict[str, str]:
    """What an address says, by libpq's own words for it.

    Raises:
        StorageError: It is none; the message does not repeat it.
    """
    try:
        return {name: str(value) for name, value in conninfo_to_dict(url).items()}
    except psycopg.Error:
        raise StorageError(
            "SAFEAI_DATABASE_URL, or --url, is no address of a database",
            hint="postgresql://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full",
        ) from None
