"""A connection to the log's database that can change nothing, for whoever only looks."""

from __future__ import annotations

from typing import Any

import psycopg

from safeai_git.core.errors import StorageError
from safeai_git.governor.stores.postgres import OPTIONS
from safeai_git.governor.stores.postgres_address import parts_of

_READ_ONLY = f"{OPTIONS} -c default_transaction_read_only=on"


def connected(url: str) -> psycopg.Connection[Any]:
    """A connection; the caller closes it.

    Raises:
        StorageError: There is none to be had; the message holds nothing of the address but the server's name.
    """
    parts_of(url)
    try:
        return psycopg.connect(
            url, autocommit=True, options=_READ_ONLY, connect_timeout=5, application_name="safeai reader"
        )
    except psycopg.Error as error:
        raise StorageError(
            f"the database cannot be reached: {str(error).strip().splitlines()[0]}",
            hint="check SAFEAI_DATABASE_URL, the network policy and the database's own log",
        ) from None
