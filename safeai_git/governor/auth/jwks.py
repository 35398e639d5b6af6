"""Public keys of an issuer, fetched from its JWKS address (RFC 7517), with rotation.

Keys are kept for `FRESH_SECONDS`; a ``kid`` that is not among them has them fetched again, at most once in
`BETWEEN_SECONDS`, so that made-up ids cannot have us knock at the issuer's door. While it does not answer, keys that
were seen serve for `STALE_SECONDS`.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import jwt

from safeai_git.core.errors import KeyUnusable
from safeai_git.governor.auth.principal import NotAuthenticated
from safeai_git.governor.auth.tokens import Algorithm
from safeai_git.keys.webtoken import TokenKey, fitting

FRESH_SECONDS = 3_600.0
BETWEEN_SECONDS = 30.0
STALE_SECONDS = 86_400.0
LARGEST = 262_144
MOST_KEYS = 64
_TIMEOUT_SECONDS = 5.0

Fetch = Callable[[str], bytes]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An issuer that moves is configured anew."""

    def redirect_request(self, *_: Any) -> None:
        return None


def fetch(url: str) -> bytes:
    """Get a document: no redirect, no proxy from the environment, bounded in size and time.

    Raises:
        OSError: It cannot be had.
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
    with opener.open(url, timeout=_TIMEOUT_SECONDS) as answer:
        data: bytes = answer.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise OSError(f"{url} answers with more than {LARGEST:,} bytes")
    return data


class RemoteKeys:
    """The keys behind one address; call it with a ``kid``. Safe to use from several threads.

    Args:
        url: Of the JWKS.
        algorithm: Keys for anything else are passed over.
        get: Brings the document.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        url: str,
        algorithm: Algorithm,
        *,
        get: Fetch = fetch,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._algorithm = algorithm
        self._get = get
        self._clock = clock
        self._keys: dict[str, TokenKey] = {}
        self._fetched = self._tried = float("-inf")
        self._lock = threading.Lock()

    def __call__(self, kid: str) -> TokenKey:
        """The key of this id.

        Raises:
            NotAuthenticated: The issuer has none, or cannot be asked.
        """
        now = self._clock()
        if kid not in self._keys or now - self._fetched > FRESH_SECONDS:
            with self._lock:  # a key that is there and fresh waits for nobody
                if now - self._tried >= BETWEEN_SECONDS:
                    self._tried = now
                    self._renew(now)
        if now - self._fetched > STALE_SECONDS:
            raise NotAuthenticated("issuer-unreachable", f"no keys from {self._url}")
        try:
            return self._keys[kid]
        except KeyError:
            raise NotAuthenticated("token-unknown-key", f"{self._url} has no key {kid[:80]!r}") from None

    def _renew(self, now: float) -> None:
        try:
            found = usable(json.loads(self._get(self._url)), self._algorithm)
        except (OSError, ValueError, RecursionError):
            return  # what was fetched before serves until it is stale
        if found:
            self._keys, self._fetched = found, now


def usable(data: object, algorithm: Algorithm) -> dict[str, TokenKey]:
    """The keys of a JWKS that serve an algorithm, by ``kid``; what does not is passed over."""
    rows = data.get("keys") if isinstance(data, dict) else None
    found: dict[str, TokenKey] = {}
    for row in rows[:MOST_KEYS] if isinstance(rows, list) else []:
        if not isinstance(row, dict) or row.get("use", "sig") != "sig":
            continue
        if row.get("alg", algorithm) != algorithm or not isinstance(row.get("kid"), str):
            continue
        try:
            found[row["kid"]] = fitting(jwt.PyJWK(row, algorithm).key, algorithm)
        except (jwt.PyJWTError, KeyUnusable, ValueError, TypeError):
            continue
    return found
