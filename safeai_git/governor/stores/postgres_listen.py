"""Hears from PostgreSQL that another Governor appended something that all must know at once.

A hint and no more: nothing is read from it, and whoever listens asks again from time to time anyway. Behind a pooler in
transaction mode nothing is ever heard.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import psycopg

CHANNEL = "safeai_log"

_ROUND_SECONDS = 0.5
"""How long one wait lasts, and so how long closing may take."""


class Listener:
    """A thread with a connection of its own.

    Args:
        url: How to connect.
        log_id: Which log is meant; notifications of others are passed over.
        wake: Called after each notification, and whenever some may have been missed.
    """

    def __init__(self, url: str, log_id: str, wake: Callable[[], None]) -> None:
        self._url = url
        self._log_id = log_id
        self._wake = wake
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-listen", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            with suppress(psycopg.Error):
                self._listen()
            self._ended.wait(_ROUND_SECONDS)

    def _listen(self) -> None:
        with psycopg.connect(self._url, autocommit=True, connect_timeout=5) as connection:
            connection.execute(f"LISTEN {CHANNEL}".encode())
            self._wake()
            while not self._ended.is_set():
                for notification in connection.notifies(timeout=_ROUND_SECONDS):
                    if notification.payload == self._log_id:
                        self._wake()
