r"""How records are written for other systems: syslog (RFC 5424), CEF, OpenTelemetry. Pure.

CEF: "ArcSight Common Event Format Implementation Standard", version 25, "Character encoding": in the header ``\`` and ``|``
are escaped, in the values of the extension ``\``, ``=`` and line ends. OpenTelemetry: the JSON encoding of
``ExportLogsServiceRequest`` in OTLP 1.x (opentelemetry.io/docs/specs/otlp, "JSON Protobuf Encoding"): 64-bit numbers are text,
names are in lowerCamelCase.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from safeai_git import __version__
from safeai_git.core.log.entry import receipt_head
from safeai_git.governor.forward.records import ALERT, CHECKPOINT, ERROR, INFO, NOTICE, WARNING, Record
from safeai_git.report.style import for_terminal

APPLICATION = "safeai-governor"
FACILITY = 13
"""Log audit (RFC 5424 §6.2.1)."""

SD_ID = "safeai@32473"
"""32473 is the enterprise number that RFC 5612 sets aside for examples: the project has none of its own."""

_BOM = "\ufeff"
_CEF_SEVERITY = {INFO: 3, NOTICE: 5, WARNING: 7, ERROR: 8, ALERT: 10}
_OTLP_SEVERITY = {
    INFO: (9, "INFO"),
    NOTICE: (10, "INFO2"),
    WARNING: (13, "WARN"),
    ERROR: (17, "ERROR"),
    ALERT: (21, "FATAL"),
}
_CEF_LONGEST = {"msg": 1_023, "suser": 1_023, "act": 63, "cat": 1_023, "externalId": 40}
_CEF_TEXT = 4_000
_SD_LONGEST = 1_000
_NOT_PRINTED = re.compile(r"[^!-~]")


def syslog(record: Record, host: str, text: bytes, longest: int) -> bytes:
    """A syslog message (RFC 5424), without a frame.

    Args:
        record: What it is about.
        host: This machine's name.
        text: What it says: JSON or CEF.
        longest: Bytes that a message may have; the text of a longer one is its entry's beginning, and it says so.
    """
    header = " ".join(
        [
            f"<{FACILITY * 8 + record.severity}>1",
            record.time,
            _NOT_PRINTED.sub("-", host)[:255] or "-",
            APPLICATION,
            "-",
            _NOT_PRINTED.sub("-", record.kind)[:32] or "-",
        ]
    )
    facts = {
        "key": record.key,
        "log": record.origin,
        "index": str(record.index),
        "hash": record.digest,
        "id": record.id,
        "under": str(record.under),
    }
    message = f"{header} {_element(facts)} {_BOM}".encode()
    if len(message) + len(text) <= longest:
        return message + text
    facts["bytes"] = str(len(record.text))
    message = f"{header} {_element(facts)} {_BOM}".encode()
    return message + shortened(record)


def shortened(record: Record) -> bytes:
    """In place of a text that is too long: the entry's head as JSON, with how long the whole is. The hash names the rest."""
    head = receipt_head(record.text) if record.kind != CHECKPOINT else b'{"kind":"checkpoint",'
    return head.rpartition(b'"')[0].rpartition(b'"')[0] + b'"left_out_bytes":%d}' % len(record.text)


def _element(facts: dict[str, str]) -> str:
    return f"[{SD_ID} " + " ".join(f'{name}="{sd_value(value)}"' for name, value in facts.items()) + "]"


def sd_value(text: str) -> str:
    r"""A PARAM-VALUE (RFC 5424 §6.3.3): ``"``, ``\`` and ``]`` are escaped; what a terminal would obey is shown instead."""
    shown = for_terminal(text[:_SD_LONGEST]).replace("\n", "\\n")
    return re.sub(r'(["\\\]])', r"\\\1", shown)


def octet_counted(message: bytes) -> bytes:
    """A frame (RFC 6587 §3.4.1, RFC 5425 §4.3): the length in bytes, a blank, the message."""
    return b"%d %b" % (len(message), message)


def cef(record: Record, host: str) -> bytes:
    """A CEF message, on one line."""
    head = [
        "CEF:0", "safe-ai", "safeai-git", __version__, record.kind, record.name, str(_CEF_SEVERITY[record.severity]),
    ]  # fmt: skip
    fields = " ".join(f"{name}={cef_value(name, value)}" for name, value in _cef_fields(record, host))
    return f"{'|'.join(map(cef_header, head))}|{fields}".encode("utf-8", "replace")


def _cef_fields(record: Record, host: str) -> Iterator[tuple[str, str]]:
    yield "rt", str(record.milliseconds)
    yield "cat", record.kind
    yield "dvchost", host
    yield "externalId", str(record.index)
    for number, label, value in (
        (1, "hash", record.digest),
        (2, "log", record.origin),
        (3, "repository", " ".join(record.facts.get("repository", ()))),
        (4, "agent", " ".join(record.facts.get("agent", ()))),
        (5, "rules", " ".join(record.facts.get("rule", ()))),
        (6, "id", record.id),
    ):
        if value:
            yield f"cs{number}", value
            yield f"cs{number}Label", label
    yield "cn1", str(record.under)
    yield "cn1Label", "checkpointSize"
    for name, field in (("suser", "human"), ("act", "decision")):
        if found := record.facts.get(field):
            yield name, " ".join(found)
    if record.kind == CHECKPOINT:
        yield "msg", record.text.decode()


def cef_header(text: str) -> str:
    r"""A field of the header: ``\`` and ``|`` are escaped; a line end, which cannot stand there, is shown as one."""
    shown = for_terminal(text).replace("\n", "\\n")
    return shown.replace("\\", "\\\\").replace("|", "\\|")


def cef_value(name: str, text: str) -> str:
    r"""A value of the extension: ``\``, ``=`` and line ends are escaped; other controls are shown. Cut to the field's length."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")[: _CEF_LONGEST.get(name, _CEF_TEXT)]
    shown = for_terminal(text)
    return shown.replace("\\", "\\\\").replace("=", "\\=").replace("\n", "\\n")


def otlp(records: Sequence[Record], host: str, observed: int) -> bytes:
    """An ``ExportLogsServiceRequest``.

    Args:
        records: At least one.
        host: This machine's name.
        observed: When they were read, in Unix nanoseconds.
    """
    resource = {"service.name": APPLICATION, "service.version": __version__, "host.name": host}
    request = {
        "resourceLogs": [
            {
                "resource": {"attributes": _attributes(resource)},
                "scopeLogs": [
                    {
                        "scope": {"name": "safeai.audit", "version": __version__},
                        "logRecords": [_log_record(one, observed) for one in records],
                    }
                ],
            }
        ]
    }
    return json.dumps(request, ensure_ascii=True, separators=(",", ":")).encode()


def _log_record(record: Record, observed: int) -> dict[str, Any]:
    number, word = _OTLP_SEVERITY[record.severity]
    facts: dict[str, Any] = {
        "safeai.key": record.key,
        "safeai.log": record.origin,
        "safeai.index": record.index,
        "safeai.hash": record.digest,
        "safeai.kind": record.kind,
        "safeai.id": record.id,
        "safeai.under": record.under,
    }
    facts |= {f"safeai.{field}": values for field, values in record.facts.items()}
    return {
        "timeUnixNano": str(record.milliseconds * 1_000_000),
        "observedTimeUnixNano": str(observed),
        "severityNumber": number,
        "severityText": word,
        "eventName": f"safeai.{record.kind}",
        "body": {"stringValue": record.text.decode()},
        "attributes": _attributes(facts),
    }


def _attributes(facts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value": _any_value(value)} for name, value in facts.items()]


def _any_value(value: Any) -> dict[str, Any]:
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_any_value(one) for one in value]}}
    # Half a surrogate pair or a NUL would have a receiver refuse all of it.
    return {"stringValue": for_terminal(value)}
