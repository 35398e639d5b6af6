"""From settings to a destination. The address may hold secrets: no message repeats more of it than scheme, host and port."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from safeai_git.client.web import tls
from safeai_git.core.errors import WrongUse
from safeai_git.governor.forward.formats import cef
from safeai_git.governor.forward.records import Record
from safeai_git.governor.forward.targets import (
    FileTarget,
    HttpTarget,
    SyslogTarget,
    Target,
    anything,
    otlp_accepts,
    otlp_body,
    webhook_body,
    webhook_secret,
)
from safeai_git.governor.settings import Settings

SYSLOG_TLS_PORT = 6_514
"""RFC 5425 §4.1."""

_SCHEMES = "syslog+tls://HOST[:PORT], syslog+tcp://HOST:PORT, otlp+https://HOST/, webhook+https://HOST/PATH, file:///PATH"
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}): *([ -~]{1,8000})")
_OURS = frozenset({"content-type", "content-length", "host", "transfer-encoding", "connection"})
_LOCAL = ("localhost", "127.0.0.1", "::1")


def target_of(settings: Settings, *, longest: int = 8_192) -> Target:
    """The destination that the settings name.

    Args:
        settings: The ``SAFEAI_FORWARD_…`` among them.
        longest: Bytes of a syslog message.

    Raises:
        WrongUse: They name none, or contradict each other.
    """
    if not settings.forward_to:
        raise WrongUse("SAFEAI_FORWARD_TO is not set", hint=f"it is one of {_SCHEMES}")
    parts = _parts(settings.forward_to)
    host = os.uname().nodename
    text: Callable[[Record], bytes] = (
        (lambda record: cef(record, host)) if settings.forward_format == "cef" else Record.as_json
    )
    scheme, _, over = parts.scheme.partition("+")
    if settings.forward_format == "cef" and scheme not in ("syslog", "file"):
        raise WrongUse("SAFEAI_FORWARD_FORMAT is cef, which goes over syslog or into a file")
    if settings.forward_secret and scheme != "webhook":
        raise WrongUse("SAFEAI_FORWARD_SECRET signs webhooks, and SAFEAI_FORWARD_TO is none")
    if settings.forward_headers and scheme not in ("webhook", "otlp"):
        raise WrongUse("SAFEAI_FORWARD_HEADERS goes with HTTP, and SAFEAI_FORWARD_TO is none of it")
    if scheme == "file":
        return _file(parts, text)
    if not parts.hostname:
        raise WrongUse("SAFEAI_FORWARD_TO names no host", hint=f"it is one of {_SCHEMES}")
    context = None
    if over in ("tls", "https"):
        pair = (settings.forward_cert, settings.forward_key)
        if (pair[0] is None) != (pair[1] is None):
            raise WrongUse("SAFEAI_FORWARD_CERT and SAFEAI_FORWARD_KEY need each other")
        context = tls(
            str(settings.forward_ca or ""), (str(pair[0]), str(pair[1])) if pair[0] is not None else None
        )
    elif settings.forward_ca or settings.forward_cert or settings.forward_key:
        raise WrongUse(
            "certificates are set (SAFEAI_FORWARD_CA, _CERT, _KEY), and SAFEAI_FORWARD_TO uses no TLS"
        )
    name = f"{parts.scheme}://{parts.hostname}" + (f":{_port(parts)}" if _port(parts) else "")
    if scheme == "syslog":
        # The entry's own bytes: what a record says besides stands in the structured data.
        own = text if settings.forward_format == "cef" else _entry
        return SyslogTarget(
            name, parts.hostname, _port(parts) or SYSLOG_TLS_PORT, context, own, host, longest
        )
    headers = _headers(settings.forward_headers)
    if headers and over == "http" and parts.hostname not in _LOCAL:
        raise WrongUse(
            "SAFEAI_FORWARD_HEADERS would go over the network in the clear", hint=f"use {scheme}+https://"
        )
    url = parts._replace(scheme=over).geturl()
    if scheme == "otlp":
        if parts.path in ("", "/"):
            url = parts._replace(scheme=over, path="/v1/logs").geturl()
        return HttpTarget(name, url, headers, context, otlp_body(host), otlp_accepts)
    body = webhook_body(webhook_secret(settings.forward_secret))
    return HttpTarget(name, url, headers, context, body, anything)


def _entry(record: Record) -> bytes:
    return record.text if record.id else record.as_json()


def _parts(address: str) -> SplitResult:
    good = all("!" <= one <= "~" for one in address)
    try:
        parts = urlsplit(address)
        known = parts.scheme in (
            *("syslog+tls", "syslog+tcp", "otlp+https", "otlp+http", "webhook+https", "webhook+http", "file"),
        )
        good = good and known and parts.port != 0 and not (parts.username or parts.password or parts.fragment)
        if parts.scheme.startswith("syslog"):
            good = good and parts.path in ("", "/") and not parts.query
    except ValueError:
        good = False
    if not good:
        raise WrongUse(
            "SAFEAI_FORWARD_TO is no destination (its value is not shown, since it may hold a secret)",
            hint=f"it is one of {_SCHEMES}; a user and password go into SAFEAI_FORWARD_HEADERS",
        )
    if parts.scheme == "syslog+tcp" and not parts.port:
        raise WrongUse(
            "SAFEAI_FORWARD_TO names no port: syslog over TCP has none of its own", hint="often 601 or 514"
        )
    return parts


def _port(parts: SplitResult) -> int:
    return parts.port or 0


def _file(parts: SplitResult, text: Callable[[Record], bytes]) -> FileTarget:
    if parts.netloc or not parts.path.startswith("/") or parts.path.endswith("/") or parts.query:
        raise WrongUse("SAFEAI_FORWARD_TO names no file", hint="write file:///FOLDER/NAME")
    return FileTarget(f"file://{parts.path}", Path(parts.path), text)


def _headers(text: str) -> dict[str, str]:
    """``Name: value``, one a line.

    Raises:
        WrongUse: A line is none, or names what belongs to the request itself.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(filter(None, map(str.strip, text.split("\n"))), 1):
        header = _HEADER.fullmatch(line)
        if header is None or header[1].lower() in _OURS:
            raise WrongUse(
                f"line {number} of SAFEAI_FORWARD_HEADERS is no header that can be set (it is not shown)",
                hint="write 'Authorization: Bearer TOKEN', one header a line",
            )
        found[header[1]] = header[2]
    return found
