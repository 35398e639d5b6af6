"""Sends bytes over a connection of its own, and says whether the other side has read them all.

TCP acknowledges bytes that lie in the other machine's memory, and not that a program has read them. What can be known: our
end is closed, and the other side, which sees that only behind the last byte, closes its own. So its end counts only if it
comes when nothing of ours is on its way any more, our own end included: a program that closes before it has read everything
sends its end earlier, or a reset (RFC 9293 §3.6.1, RFC 2525 §2.17). Left is one that half-closes without reading in the very
moment in which we end: no sender over TCP can tell. What a program did with what it read nobody can know; and with TLS, too,
this is TCP's word, which whoever is on the way can forge.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import ssl
import struct
import termios

from safeai_git.client.web import in_time
from safeai_git.core.display import safe_text

_MOST_BACK = 65_536

Context = ssl.SSLContext
"""What `safeai_git.client.web.tls` makes."""


def deliver(
    host: str, port: int, data: bytes, *, seconds: float, context: ssl.SSLContext | None = None
) -> None:
    """Send bytes, and wait until the other side has read them and closed.

    Args:
        host: Where to; with TLS the name that the certificate has to be for.
        port: The TCP port.
        data: What.
        seconds: How long all of it may take.
        context: For TLS; ``None`` for plain TCP.

    Raises:
        OSError: It is not known that all of it was read; the text is fit for a terminal.
    """
    try:
        in_time(lambda: _deliver(host, port, data, seconds, context), seconds)
    except TimeoutError:
        raise TimeoutError(
            f"it did not read everything and close its end within {seconds:g} seconds"
        ) from None
    except OSError as error:
        raise OSError(safe_text(error.strerror or str(error))[:200]) from None


def _deliver(host: str, port: int, data: bytes, seconds: float, context: ssl.SSLContext | None) -> None:
    with socket.create_connection((host, port), timeout=seconds) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is None:
            send(plain, data, seconds)
            return
        with context.wrap_socket(plain, server_hostname=host, suppress_ragged_eofs=False) as secured:
            send(secured, data, seconds)


def send(connection: socket.socket, data: bytes, seconds: float) -> None:
    """Send bytes over a connection and end it.

    Raises:
        OSError: It is not known that all of it was read.
    """
    connection.sendall(data)
    _refuse_early_end(connection)
    connection.settimeout(seconds)
    if isinstance(connection, ssl.SSLSocket):
        with contextlib.suppress(ssl.SSLEOFError):  # it closed without ending TLS in turn, as rsyslog does
            connection.unwrap()
    else:
        connection.shutdown(socket.SHUT_WR)
        received = 0
        while more := connection.recv(4_096):
            received += len(more)
            if received > _MOST_BACK:
                raise ConnectionError("it sends instead of reading")
    waiting = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)))[0]  # SIOCOUTQ
    if failed := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(failed, os.strerror(failed))
    if waiting:
        raise _early()


def _early() -> ConnectionError:
    return ConnectionError("it closed its end before it had read everything")


def _refuse_early_end(connection: socket.socket) -> None:
    connection.settimeout(0)
    try:
        for _ in range(_MOST_BACK // 4_096):  # what it says is not asked for
            if not connection.recv(4_096):
                break
        else:
            raise ConnectionError("it sends instead of reading")
    except (BlockingIOError, ssl.SSLWantReadError):
        return
    except ssl.SSLEOFError:
        pass
    raise _early()
