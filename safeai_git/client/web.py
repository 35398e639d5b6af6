"""One HTTP exchange with a server that nobody has to trust: within a time, up to a size, with no redirect followed.

Each exchange runs in a thread of its own and is left behind when its time is up: a name server, a handshake or an answer
that comes a byte at a time cannot hold a hook. No redirect is followed, so that a token goes to the named address alone.
Proxies are those of the environment, and none on the way to this machine itself.
"""

from __future__ import annotations

import http.client
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from msgspec import Struct

from safeai_git.core.display import safe_text
from safeai_git.core.errors import FormatError, WrongUse

LARGEST_ANSWER = 16 * 1024 * 1024

_LOOPBACK = ("localhost", "127.0.0.1", "::1")

Result = TypeVar("Result")


class Answer(Struct, frozen=True):
    """What a server answered, whatever the status.

    Attributes:
        status, body: As they came.
        retry_after: The header of that name; empty where there is none.
    """

    status: int
    body: bytes
    retry_after: str = ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def may_have_a_token(url: str) -> bool:
    """Whether a token may be sent there: https, or this machine itself; no user, query or fragment in the address."""
    try:
        parts = urlsplit(url)
        local = parts.hostname in _LOOPBACK
        good = bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and local))
        good = good and not (parts.username or parts.password or parts.query or parts.fragment)
        return good and parts.port != 0 and all("!" <= one <= "~" for one in url)
    except ValueError:
        return False


def exchange(
    method: str,
    url: str,
    body: bytes | None,
    headers: Mapping[str, str],
    *,
    seconds: float,
    context: ssl.SSLContext | None = None,
    most: int = LARGEST_ANSWER,
) -> Answer:
    """Send one request and read the whole answer.

    Args:
        method: ``GET`` or ``POST``.
        url: An address that `may_have_a_token`, with a path.
        body: What to send; ``None`` for nothing.
        headers: What else to say.
        seconds: What the exchange may take, from the name's look-up to the last byte.
        context: For https; ``None`` for the system's authorities.
        most: Bytes that the answer may have.

    Raises:
        OSError: There is no answer, or not in time (`TimeoutError`); the text is fit for a terminal.
        FormatError: What came back is no HTTP, or longer than that.
    """
    return in_time(
        lambda: exchange_here(method, url, body, headers, seconds=seconds, context=context, most=most),
        seconds,
    )


def exchange_here(
    method: str,
    url: str,
    body: bytes | None,
    headers: Mapping[str, str],
    *,
    seconds: float,
    context: ssl.SSLContext | None = None,
    most: int = LARGEST_ANSWER,
) -> Answer:
    """As `exchange`, in the caller's own thread: a head that comes a byte at a time can hold it far longer than `seconds`."""
    request = urllib.request.Request(url, body, dict(headers), method=method)  # noqa: S310 - `may_have_a_token`
    until = time.monotonic() + seconds
    try:
        try:
            with _opener(url, context).open(request, timeout=seconds) as answer:
                return Answer(answer.status, _read(answer, until, most), _retry_after(answer))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, _read(error, until, most), _retry_after(error))
    except OSError as error:
        raise OSError(safe_text(str(getattr(error, "reason", None) or error)[:200])) from None
    except (http.client.HTTPException, ValueError) as error:
        raise FormatError(f"what came back is no HTTP: {safe_text(str(error)[:200])}") from None


def in_time(work: Callable[[], Result], seconds: float) -> Result:
    """The result of work, for which nobody waits longer than the time allowed; what it raises is raised here.

    Raises:
        TimeoutError: The time is up. The work goes on in its thread, and what becomes of it is dropped.
    """
    found: list[Result] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            found.append(work())
        except Exception as error:  # noqa: BLE001 - handed to the thread that waits
            failed.append(error)

    thread = threading.Thread(target=run, name="exchange", daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError(f"no answer within {seconds:g} seconds")
    return found[0]


def tls(authorities: str = "", certificate: tuple[str, str] | None = None) -> ssl.SSLContext:
    """Settings of TLS.

    Args:
        authorities: A file of certificates (PEM) to trust instead of the system's; empty for those.
        certificate: Files of a client's certificate and its key.

    Raises:
        WrongUse: One of the files cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=authorities or None)
        if certificate is not None:
            context.load_cert_chain(*certificate)
    except OSError as error:
        raise WrongUse(
            f"a certificate cannot be used ({', '.join(filter(None, (authorities, *(certificate or ()))))}): {error}"
        ) from None
    return context


def _opener(url: str, context: ssl.SSLContext | None) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if urlsplit(url).hostname in _LOOPBACK:
        handlers.append(urllib.request.ProxyHandler({}))
    if url.startswith("https"):
        handlers.append(urllib.request.HTTPSHandler(context=context or tls()))
    return urllib.request.build_opener(*handlers)


def _retry_after(answer: Any) -> str:
    return str(answer.headers.get("Retry-After") or "")[:100]


def _read(answer: Any, until: float, most: int) -> bytes:
    parts, size = [], 0
    while chunk := answer.read1(65_536) if hasattr(answer, "read1") else answer.read(65_536):
        size += len(chunk)
        if size > most:
            raise FormatError(f"the answer is longer than {most:,} bytes")
        if time.monotonic() > until:
            raise TimeoutError("the answer took too long")
        parts.append(chunk)
    return b"".join(parts)
