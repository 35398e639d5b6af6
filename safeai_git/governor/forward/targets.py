"""Where records go: syslog over TCP or TLS, OTLP, a webhook, a file. Each returns when it knows that they were taken, or raises.

What "taken" means is each one's own: a webhook's or an OTLP server's answer; that a syslog server has read everything and
closed (`client.stream`); that a file's bytes are on the disk.
"""

from __future__ import annotations

import hmac
import json
import os
import re
import time
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from hashlib import sha256
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from safeai_git.client.stream import Context, deliver
from safeai_git.client.web import Answer, exchange
from safeai_git.core.display import safe_text
from safeai_git.core.errors import FormatError, WrongUse
from safeai_git.core.values import replace
from safeai_git.files import sync_folder
from safeai_git.governor.forward.formats import octet_counted, otlp, syslog
from safeai_git.governor.forward.records import Record

SECONDS = 30.0
"""What one delivery may take."""

LONGEST_WAIT = 3_600.0
"""Seconds for which ``Retry-After`` is obeyed at the most."""

LEAST_SECRET_BYTES = 24
_MOST_ANSWER = 1 << 20
_WORDS = re.compile(r"[^\s/?&=;,\"]+=*")
_LEAST_HUSHED = 6
_LATER = frozenset({408, 425, 429})
_NEVER = frozenset({400, 413, 415, 422})


class NotTaken(Exception):
    """Nobody knows that the records were taken. Trying again may help.

    Args:
        message: A sentence without secrets, fit for a terminal.
        wait: Seconds that the destination asks to be left alone for; 0 where it does not say.
        hopeless: Trying again the same way will not help before somebody has changed something.
    """

    def __init__(self, message: str, *, wait: float = 0.0, hopeless: bool = False) -> None:
        super().__init__(message)
        self.wait = wait
        self.hopeless = hopeless


class Refused(Exception):
    """The destination will not take these records, or not so many at once. The message is as that of `NotTaken`."""


class Target(Protocol):
    """A destination."""

    @property
    def name(self) -> str:
        """What messages and the cursor call it: no query and no secret."""

    def deliver(self, records: Sequence[Record]) -> None:
        """Deliver records, in order.

        Raises:
            NotTaken, Refused: They were not taken, or not all of them; some may be there.
        """


@dataclass(frozen=True, slots=True)
class SyslogTarget:
    """Syslog over TCP (RFC 6587) or TLS (RFC 5425): one connection for each batch, octet-counted frames.

    Attributes:
        name: As `Target`.
        host, port: Where it listens.
        context: For TLS; ``None`` for plain TCP.
        text: What a message says.
        sender: This machine's name.
        longest: Bytes of a message (`formats.syslog`).
    """

    name: str
    host: str
    port: int
    context: Context | None
    text: Callable[[Record], bytes]
    sender: str
    longest: int = 8_192

    def deliver(self, records: Sequence[Record]) -> None:
        """As `Target`."""
        frames = (octet_counted(syslog(one, self.sender, self.text(one), self.longest)) for one in records)
        try:
            deliver(self.host, self.port, b"".join(frames), seconds=SECONDS, context=self.context)
        except OSError as error:
            raise NotTaken(f"{self.name} does not take messages: {error}") from None


@dataclass(frozen=True, slots=True)
class FileTarget:
    """A file that grows, a line for each record, for an agent that ships files.

    Attributes:
        name: As `Target`.
        path: The file; opened anew for each batch, so that it can be rotated by renaming.
        text: What a line says.
    """

    name: str
    path: Path
    text: Callable[[Record], bytes]

    def deliver(self, records: Sequence[Record]) -> None:
        """As `Target`."""
        try:
            append(self.path, b"".join(self.text(one) + b"\n" for one in records), mode=0o640)
        except OSError as error:
            raise NotTaken(f"{self.path} cannot be written: {error.strerror or error}") from None


def append(path: Path, data: bytes, *, mode: int) -> None:
    """Add lines to a file, which are durable when this returns.

    A line that a crash or a full disk left unfinished is ended first: what was in it comes again, whole.

    Args:
        path: The file.
        data: Lines with their ends.
        mode: The permissions of a new file.

    Raises:
        OSError: They are not there, or not all of them.
    """
    new = not path.exists()
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, mode)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            data = b"\n" + data
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        sync_folder(path.parent)


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """What is posted, and answered.

    Attributes:
        name: As `Target`.
        url: Where to; may hold secrets.
        headers: What else is said, by name; may hold secrets.
        context: For https.
        body: The request's body and the headers that belong to it.
        accepts: Looks at the body of a 2xx answer; raises as `Target.deliver`.
    """

    name: str
    url: str
    headers: dict[str, str]
    context: Context | None
    body: Callable[[Sequence[Record]], tuple[bytes, dict[str, str]]]
    accepts: Callable[[str, Answer], None]

    def deliver(self, records: Sequence[Record]) -> None:
        """As `Target`."""
        body, headers = self.body(records)
        try:
            answer = exchange(
                "POST",
                self.url,
                body,
                self.headers | headers,
                seconds=SECONDS,
                context=self.context,
                most=_MOST_ANSWER,
            )
        except OSError as error:
            raise NotTaken(f"{self.name} does not answer: {error}") from None
        except FormatError as error:
            raise NotTaken(f"{self.name} does not speak HTTP: {self._hushed(error.message)}") from None
        answer = replace(answer, body=self._hushed(answer.body.decode("utf-8", "replace")).encode())
        if 200 <= answer.status < 300:
            self.accepts(self.name, answer)
            return
        said = safe_text(answer.body.decode()[:200]).strip()
        message = f"{self.name} answers {answer.status}{': ' if said else ''}{said}"
        if answer.status in _NEVER:
            raise Refused(message)
        passing = answer.status in _LATER or answer.status >= 500
        raise NotTaken(message, wait=_wait(answer.retry_after), hopeless=not passing)

    def _hushed(self, text: str) -> str:
        """What a server says without what it was told in confidence: some repeat a token, or the address."""
        parts = urlsplit(self.url)
        told = " ".join([*self.headers.values(), parts.path, parts.query])
        secrets = {one for one in _WORDS.findall(told) if len(one) >= _LEAST_HUSHED}
        for one in sorted(secrets | set(map(unquote, secrets)), key=len, reverse=True):
            text = text.replace(one, "(left out)")
        return text


def _wait(text: str) -> float:
    """``Retry-After`` (RFC 9110 §10.2.3): seconds or a date; 0 where it is neither."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST_WAIT)
    try:
        return min(max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0), LONGEST_WAIT)
    except (ValueError, TypeError, OverflowError):
        return 0.0


def otlp_body(sender: str) -> Callable[[Sequence[Record]], tuple[bytes, dict[str, str]]]:
    """What an OTLP server is sent."""
    return lambda records: (
        otlp(records, sender, time.time_ns()),
        {"Content-Type": "application/json"},
    )


def otlp_accepts(name: str, answer: Answer) -> None:
    """Look at an ``ExportLogsServiceResponse``: a partial success is none, since it does not say what is missing.

    Raises:
        Refused: Some records were rejected.
        NotTaken: The answer is none of an OTLP server.
    """
    try:
        data = json.loads(answer.body) if answer.body.strip() else {}
        # Readers of protobuf's JSON take both forms of a name, so some servers write the other one.
        partial = data.get("partialSuccess") or data.get("partial_success") or {}
        rejected = int(partial.get("rejectedLogRecords") or partial.get("rejected_log_records") or 0)
        said = str(partial.get("errorMessage") or partial.get("error_message") or "")
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        raise NotTaken(
            f"{name} answers {answer.status} with something that is no OTLP answer", hopeless=True
        ) from None
    if rejected:
        raise Refused(f"{name} rejects {rejected:,} of them: {safe_text(said[:200])}")


def webhook_body(secret: bytes) -> Callable[[Sequence[Record]], tuple[bytes, dict[str, str]]]:
    """What a webhook is sent: a line of JSON for each record, signed as Standard Webhooks has it.

    Args:
        secret: Of the signature; empty for none.

    The message's id is the same for the same records (github.com/standard-webhooks/standard-webhooks, spec, "Webhook metadata").
    """

    def made(records: Sequence[Record]) -> tuple[bytes, dict[str, str]]:
        body = b"".join(one.as_json() + b"\n" for one in records)
        keys = "\n".join(one.key for one in records)
        message = f"safeai_{records[0].index}_{sha256(keys.encode()).hexdigest()[:24]}"
        headers = {"Content-Type": "application/x-ndjson", "webhook-id": message}
        if secret:
            stamp = int(time.time())
            headers |= {
                "webhook-timestamp": str(stamp),
                "webhook-signature": webhook_signature(secret, message, stamp, body),
            }
        return body, headers

    return made


def webhook_signature(secret: bytes, message: str, stamp: int, body: bytes) -> str:
    """The signature of a webhook: ``v1,`` and base64 of HMAC-SHA256 over id, timestamp and body with dots between."""
    signed = f"{message}.{stamp}.".encode() + body
    return "v1," + b64encode(hmac.digest(secret, signed, "sha256")).decode()


def webhook_secret(text: str) -> bytes:
    """The secret of signatures: base64 behind ``whsec_``, or the text itself.

    Raises:
        WrongUse: It is too short, or no base64.
    """
    if not text:
        return b""
    try:
        secret = (
            b64decode(text.removeprefix("whsec_"), validate=True)
            if text.startswith("whsec_")
            else text.encode()
        )
    except (Base64Error, ValueError):
        secret = b""
    if len(secret) < LEAST_SECRET_BYTES:
        raise WrongUse(
            f"SAFEAI_FORWARD_SECRET has fewer than {LEAST_SECRET_BYTES} bytes, or is no base64 behind whsec_",
            hint="make one with 'openssl rand -base64 32'",
        )
    return secret


def anything(_name: str, _answer: Answer) -> None:
    """A webhook's 2xx is enough, whatever else it says."""
