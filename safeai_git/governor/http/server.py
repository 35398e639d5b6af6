"""Runs the application under uvicorn: one process, bounded connections, TLS of its own if asked for.

uvicorn bounds what it has begun to answer. What it leaves to whoever embeds it is done here: a connection that sends
nothing, or its head byte by byte, is ended; connections past the limit get a polite 503 at once; the client's certificate
is handed to the application.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
import ssl
from types import FrameType
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from safeai_git.core.errors import LogProofInvalid, SafeAIError, StorageError, WrongUse
from safeai_git.governor.http.app import create_app
from safeai_git.governor.logs import configure
from safeai_git.governor.service import Governor, open_governor
from safeai_git.governor.settings import Settings
from safeai_git.governor.stores.port import LogFailed

IDLE_SECONDS = 30
"""How long a connection may rest between two requests."""

STOP_SECONDS = 45
"""How long a stop waits for answers; Kubernetes' own limit in the manifests is 60."""

_SPARE_FILES = 256
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 21\r\n"
    b"Retry-After: 2\r\nConnection: close\r\n\r\ntoo many connections\n"
)

log = structlog.get_logger("safeai.server")


LARGEST_HEAD = 64 * 1024
"""Bytes of a request's target and header fields. The parser bounds only what comes to it in several pieces."""


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with a clock before each request and bounds on its head and on connections."""

    most_connections = 4_096
    head_seconds = 10.0
    _clock: asyncio.TimerHandle | None = None
    _certificate: bytes | None = None
    _head = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection is there."""
        if len(self.connections) >= self.most_connections:
            transport.write(_BUSY)
            transport.close()
            # Without this, what the client sends meanwhile would reach a protocol that was never set up.
            transport.set_protocol(asyncio.Protocol())
            return
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self._certificate = tls.getpeercert(binary_form=True)
        self._wind()

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection is gone."""
        self._stop_clock()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """The first bytes of a request are there."""
        super().on_message_begin()
        self._head = 0
        self._in_head = True
        if self._certificate is not None:
            self.scope["safeai.certificate"] = self._certificate  # type: ignore[typeddict-unknown-key]
        if self._clock is None:
            self._wind()

    def on_url(self, url: bytes) -> None:
        """A piece of the target is there."""
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field is there: of the head, or a trailer.

        Trailers are dropped. uvicorn takes them for fields of the head, among which they would say who asks: also
        behind an ingress that sets those fields itself and hands trailers on (RFC 9110 §6.5.1).
        """
        self._count(name, value)
        if self._in_head:
            super().on_header(name, value)

    def _count(self, *pieces: bytes) -> None:
        self._head += sum(map(len, pieces))
        if self._head > LARGEST_HEAD:  # uvicorn answers 400 and closes
            raise ValueError("the head of the request is too large")

    def on_headers_complete(self) -> None:
        """The head is there; the application's own clock takes over."""
        self._in_head = False
        self._stop_clock()
        super().on_headers_complete()

    def _wind(self) -> None:
        self._clock = self.loop.call_later(self.head_seconds, self._too_slow)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _too_slow(self) -> None:
        self._clock = None
        if not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's server, that can be told to end because the log failed.

    Args:
        config: uvicorn's settings.
        governor: What it serves.
    """

    failed: LogFailed | None = None

    def __init__(self, config: uvicorn.Config, governor: Governor) -> None:
        super().__init__(config)
        self._governor = governor

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say where."""
        await super().startup(sockets)
        # Modules and the application stay for good: looking through them for cycles again and again holds every answer
        # for some 70 ms (`gc.freeze`).
        gc.collect()
        gc.freeze()
        for listening in self.servers:
            for one in listening.sockets:
                _announce(self._governor, self.config, one.getsockname())

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's
        """A signal: answer what is there and end; a second one ends at once. It is not raised again afterwards."""
        self.force_exit = self.should_exit
        self.should_exit = True

    def end(self, failure: LogFailed) -> None:
        """Answer what is there, and end; may be called from any thread."""
        self.failed = failure
        self.should_exit = True


def host_of(settings: Settings, *, authenticated: bool) -> str:
    """The address to listen on.

    Raises:
        WrongUse: It is not a loopback address, and nobody is asked who he is.
    """
    if authenticated:
        return settings.host or "0.0.0.0"  # noqa: S104 - in a container that is what is meant
    if settings.host not in ("", "127.0.0.1", "::1", "localhost"):
        raise WrongUse(
            f"SAFEAI_HOST is {settings.host}, and no authentication is configured",
            hint="set SAFEAI_JWT_SECRET, SAFEAI_JWT_PUBLIC_KEY, SAFEAI_OIDC_RULES or SAFEAI_CERTIFICATE_RULES",
        )
    return settings.host or "127.0.0.1"


def configuration(governor: Governor) -> uvicorn.Config:
    """Uvicorn's settings for a Governor.

    Raises:
        WrongUse: The address, the certificate or the key cannot be used.
    """
    settings = governor.settings
    tls: dict[str, Any] = {}
    if settings.tls_cert is not None:
        tls = {"ssl_certfile": settings.tls_cert, "ssl_keyfile": settings.tls_key}
        if settings.tls_client_ca is not None:
            tls |= {"ssl_ca_certs": str(settings.tls_client_ca), "ssl_cert_reqs": ssl.CERT_OPTIONAL}
    limits = {"most_connections": _connections(settings), "head_seconds": float(settings.head_seconds)}
    config = uvicorn.Config(
        create_app(governor),
        host=host_of(settings, authenticated=governor.authenticator.configured),
        port=settings.port,
        loop="uvloop",
        http=type("Protocol", (GuardedProtocol,), limits),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        backlog=2048,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        **tls,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError, ValueError) as error:
        raise WrongUse(f"the server's certificate or key cannot be used: {error}") from None
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return config


def serve(settings: Settings) -> None:
    """Serve until a signal comes or the log fails.

    Raises:
        WrongUse: The settings cannot be.
        CouldNotDecide: The key or the log cannot be used, or the log failed meanwhile.
        LogProofInvalid: The log is not in order.
    """
    configure(settings.log_level)
    servers: list[Server] = []
    failures: list[LogFailed] = []

    def failed(failure: LogFailed) -> None:
        failures.append(failure)
        for one in servers:
            one.end(failure)

    governor = open_governor(settings, on_failure=failed)
    try:
        config = configuration(governor)
        server = Server(config, governor)
        servers.append(server)
        if failures:
            raise _ending(failures[0])
        try:
            server.run()
        except SystemExit:  # uvicorn's answer to an address that it cannot have; it has said why
            raise StorageError(
                f"{config.host} port {config.port} cannot be listened on", hint="see the line above"
            ) from None
    finally:
        governor.close()
    if server.failed is not None:
        raise _ending(server.failed)
    log.info("stopped", entries=governor.log.store.size)


def _ending(failure: LogFailed) -> SafeAIError:
    """What a failure ends the process with: a log that proved to be another one, with what refuses it at a start."""
    cause = failure.__cause__
    return cause if isinstance(cause, LogProofInvalid) else failure


def _announce(governor: Governor, config: uvicorn.Config, address: tuple[str, int]) -> None:
    settings = governor.settings
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    if not governor.authenticator.configured:
        log.warning(
            "no authentication is configured: only this machine itself is served, and may do everything",
            hint="set SAFEAI_JWT_SECRET and issue tokens with 'safeai token issue'",
        )
    log.info(
        "serving",
        address=f"{'https' if config.ssl else 'http'}://{host}:{address[1]}",
        log=governor.origin,
        store="postgresql" if settings.database_url else str(settings.data_dir / "audit.log"),
        entries=governor.log.store.size,
        unread=governor.log.store.unheld,
        key=governor.signer.key_id,
        verifier=governor.verifier,
    )


def _connections(settings: Settings) -> int:
    """How many connections can be taken: as many as are wanted, or as the system gives descriptors for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.max_connections + _SPARE_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(16, min(settings.max_connections, soft - _SPARE_FILES))
