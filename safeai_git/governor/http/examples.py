"""Shapes and examples of bodies and answers, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

_KEY = "SHA256:lO1hTjUTUeOBkAVlx1WP0bXQX0SW2LXyLFdHhjqtOGQ"
_DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_PROOF = (
    "c2sp.org/tlog-proof@v1\nextra eyJzZXEiOjB9\nindex 3\n"
    "ETv6S3uoL1W0GAv8GN1mNhDpU2XfNq4YyGAwC0kyAeA=\n\n"
    "governor.example/safeai\n4\nFt0U7hYw0z4s1M1cO5rZz5Y8qQHkGhc3J1x6z0b1qeM=\n\n"
    "— governor.example/safeai xz1B8g==\n"
)
_CHECKPOINT = _PROOF[_PROOF.index("governor.example") :]

ENVELOPE: dict[str, Any] = {
    "type": "object",
    "description": "A DSSE envelope around an in-toto Statement v1.",
    "required": ["payload", "payloadType", "signatures"],
    "additionalProperties": False,
    "properties": {
        "payload": {"type": "string", "format": "byte", "contentEncoding": "base64"},
        "payloadType": {"type": "string", "const": "application/vnd.in-toto+json"},
        "signatures": {
            "type": "array",
            "minItems": 1,
            "maxItems": 16,
            "items": {
                "type": "object",
                "required": ["keyid", "sig"],
                "additionalProperties": False,
                "properties": {
                    "keyid": {"type": "string", "pattern": "^SHA256:[A-Za-z0-9+/]{43}$"},
                    "sig": {"type": "string", "format": "byte", "contentEncoding": "base64"},
                },
            },
        },
    },
}

RESULT: dict[str, Any] = {
    "type": "object",
    "required": ["digest", "index", "repeated", "receipt"],
    "additionalProperties": False,
    "properties": {
        "digest": {"type": "string", "description": "SHA-256 of the envelope's line."},
        "index": {"type": "integer", "minimum": 0, "description": "The entry's place on the log."},
        "repeated": {"type": "boolean", "description": "It was there before."},
        "receipt": {"type": "string", "description": "A C2SP tlog-proof."},
    },
}

PROBLEM_RESULT: dict[str, Any] = {
    "type": "object",
    "required": ["digest", "problem"],
    "additionalProperties": False,
    "properties": {
        "digest": {"type": ["string", "null"], "description": "Null where it is no envelope."},
        "problem": {"$ref": "#/components/schemas/Problem"},
    },
}

_ENVELOPE = {
    "payload": "eyJfdHlwZSI6Imh0dHBzOi8vaW4tdG90by5pby9TdGF0ZW1lbnQvdjEifQ==",
    "payloadType": "application/vnd.in-toto+json",
    "signatures": [{"keyid": _KEY, "sig": "AAAA"}],
}
_RESULT = {"digest": _DIGEST, "index": 3, "repeated": False, "receipt": _PROOF}


def _json(schema: dict[str, Any], example: object) -> dict[str, Any]:
    return {"application/json": {"schema": schema, "example": example}}


def _plain(example: str) -> dict[str, Any]:
    return {"text/plain": {"schema": {"type": "string"}, "example": example}}


VERDICTS_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "oneOf": [
                    {"$ref": "#/components/schemas/Envelope"},
                    {
                        "type": "object",
                        "required": ["envelopes"],
                        "additionalProperties": False,
                        "properties": {
                            "envelopes": {
                                "type": "array",
                                "minItems": 1,
                                "items": {"$ref": "#/components/schemas/Envelope"},
                            }
                        },
                    },
                ]
            },
            "examples": {"one": {"value": _ENVELOPE}, "many": {"value": {"envelopes": [_ENVELOPE]}}},
        }
    },
}
ONE_RESULT = _json({"$ref": "#/components/schemas/Result"}, _RESULT)
RESULTS = _json(
    {
        "oneOf": [
            {"$ref": "#/components/schemas/Result"},
            {
                "type": "object",
                "required": ["results"],
                "additionalProperties": False,
                "properties": {
                    "results": {
                        "type": "array",
                        "items": {
                            "oneOf": [
                                {"$ref": "#/components/schemas/Result"},
                                {"$ref": "#/components/schemas/ProblemResult"},
                            ]
                        },
                    }
                },
            },
        ]
    },
    {"results": [_RESULT]},
)
PROOF = _plain(_PROOF)
CHECKPOINT = _plain(_CHECKPOINT)
OK = _plain("ok\n")
METRICS = _plain(
    "# HELP safeai_kill_switch_active 1 while any kill switch is engaged.\nsafeai_kill_switch_active 0.0\n"
)
ENTRY = _json(
    {"type": "object"},
    {"seq": 0, "prev": "", "time": "2026-01-31T09:30:00.000Z", "kind": "start", "id": "start", "data": {}},
)
CONSISTENCY = _json(
    {
        "type": "object",
        "required": ["from", "to", "hashes"],
        "additionalProperties": False,
        "properties": {
            "from": {"type": "integer"},
            "to": {"type": "integer"},
            "hashes": {"type": "array", "items": {"type": "string", "format": "byte"}},
        },
    },
    {"from": 3, "to": 4, "hashes": ["ETv6S3uoL1W0GAv8GN1mNhDpU2XfNq4YyGAwC0kyAeA="]},
)
