"""Shapes and examples of the keys, the policy, the kill switch, the search, decisions and incidents, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from safeai_git.core.incident import MOST_COMMITS, STATUSES, WHAT
from safeai_git.core.key_list import PURPOSES
from safeai_git.governor.http.examples import ONE_RESULT

_RESULT = ONE_RESULT["application/json"]["example"]
_TIME = {"type": "string", "examples": ["2027-01-01T00:00:00Z"]}
_TIME_OR_NONE = {"type": ["string", "null"], "examples": ["2027-01-01T00:00:00Z"]}
_TEXT = {"type": "string", "maxLength": 200}
_LOGGED: dict[str, Any] = {
    "index": {"type": "integer", "minimum": 0, "description": "The entry's place on the log."},
    "repeated": {"type": "boolean", "description": "It was there before."},
    "receipt": {"type": "string", "description": "A C2SP tlog-proof."},
}
_LOGGED_EXAMPLE = {"index": 3, "repeated": False, "receipt": _RESULT["receipt"]}
_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c"
_KEY_ID = "SHA256:zxPs6AlTgARZ+DxXZYSMwKlgw6MShKiOt0W3B4lQ39Y"
_ENVELOPE = {"$ref": "#/components/schemas/Envelope"}
_ENVELOPE_EXAMPLE = {
    "payload": "e30=",
    "payloadType": "application/vnd.in-toto+json",
    "signatures": [{"keyid": _KEY_ID, "sig": "AAAA"}],
}


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required or properties),
        "properties": properties,
    }


def _json(schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema, "example": example}}


def _text(media_type: str, example: str) -> dict[str, Any]:
    return {media_type: {"schema": {"type": "string"}, "example": example}}


KEY_LIST_TYPE = "application/vnd.safeai.key-list"
POLICY_TYPE = "application/vnd.safeai.policy"
BUNDLE_TYPE = "application/x-git-bundle"

KEY_LIST = _text(KEY_LIST_TYPE, '{"payload":"…","payloadType":"…","signatures":[…]}\n{"keys":[]}')
POLICY = _text(POLICY_TYPE, '{"payload":"…","payloadType":"…","signatures":[…]}\nallow_paths: [src/]\n')

KEY_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": _object(
                {
                    "action": {"enum": ["register", "revoke"]},
                    "public": {"type": "string", "description": "To register: the key's OpenSSH line."},
                    "key": {"type": "string", "description": "To revoke: the key's id."},
                    "principal": {"type": "string", "description": "To register: whose it is."},
                    "purposes": {"type": "array", "items": {"enum": list(PURPOSES)}},
                    "valid_after": _TIME_OR_NONE,
                    "valid_before": _TIME_OR_NONE,
                    "since": {
                        **_TIME_OR_NONE,
                        "description": "To revoke: since when it may have been in wrong hands.",
                    },
                    "reason": _TEXT,
                },
                "action",
            ),
            "examples": {
                "register": {
                    "value": {
                        "action": "register",
                        "public": _KEY,
                        "principal": "ci@example.com",
                        "purposes": ["safeai-verdict"],
                        "reason": "the new runner",
                    }
                },
                "revoke": {"value": {"action": "revoke", "key": _KEY_ID, "reason": "the laptop was stolen"}},
            },
        }
    },
}
KEY_ANSWER = _json(_object({"key": {"type": "string"}, **_LOGGED}), {"key": _KEY_ID, **_LOGGED_EXAMPLE})

POLICY_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": _object(
                {
                    "policy": {"type": "string", "description": "The policy file's text."},
                    "expires": _TIME,
                    "version": {"type": ["integer", "null"], "minimum": 1},
                },
                "policy",
                "expires",
            ),
            "example": {"policy": "allow_paths: [src/]\n", "version": 7, "expires": "2027-01-01T00:00:00Z"},
        },
        **_text("application/yaml", "allow_paths: [src/]\n"),
    },
}
POLICY_ANSWER = _json(
    _object(
        {
            "version": {"type": "integer"},
            "difference": {
                "type": "array",
                "items": _object(
                    {
                        "key": {"type": "string"},
                        "text": {"type": "string"},
                        "direction": {"enum": ["tighter", "looser", "either"]},
                    }
                ),
            },
            **_LOGGED,
        }
    ),
    {
        "version": 7,
        "difference": [{"key": "allow_paths", "text": "'docs/' is added", "direction": "looser"}],
        **_LOGGED_EXAMPLE,
    },
)

_SCOPE = _object({"kind": {"enum": ["global", "repository", "agent"]}, "name": {"type": "string"}}, "kind")
_EVENT = {
    "scope": {"kind": "agent", "name": "codex"},
    "reason": "it edits what it should not",
    "by": "maria@example.com",
    "time": "2026-05-28T20:26:40Z",
    "expires": None,
}
SWITCH_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": _object(
                {
                    "action": {"enum": ["engage", "release"]},
                    "scope": _SCOPE,
                    "reason": {**_TEXT, "minLength": 1},
                    "expires": _TIME_OR_NONE,
                },
                "action",
                "scope",
                "reason",
            ),
            "example": {
                "action": "engage",
                "scope": {"kind": "repository", "name": "acme/shop"},
                "reason": "a leaked key",
                "expires": None,
            },
        }
    },
}
SWITCH_ANSWER = _json(_object(_LOGGED), _LOGGED_EXAMPLE)
_SIGNED = {
    "type": "object",
    "required": ["payload", "payloadType", "signatures"],
    "description": "A DSSE envelope, whatever it holds.",
}
SWITCHES = _json(
    {
        "oneOf": [
            _SIGNED,
            _object(
                {
                    "engaged": {
                        "type": "array",
                        "items": _object(
                            {
                                "scope": _SCOPE,
                                "reason": _TEXT,
                                "by": _TEXT,
                                "time": _TIME,
                                "expires": _TIME_OR_NONE,
                            }
                        ),
                    }
                }
            ),
        ]
    },
    {"engaged": [_EVENT]},
)

ENTRIES = _json(
    _object(
        {
            "entries": {
                "type": "array",
                "items": _object(
                    {
                        "index": {"type": "integer"},
                        "time": {"type": "string"},
                        "kind": {"type": "string"},
                        "id": {"type": "string"},
                        "envelope": _SIGNED,
                        "data": {"type": "object"},
                    },
                    "index",
                    "time",
                    "kind",
                    "id",
                ),
            },
            "next": {"type": ["string", "null"], "description": "The cursor of the next page."},
        }
    ),
    {
        "entries": [
            {
                "index": 3,
                "time": "2026-01-31T09:30:00.000Z",
                "kind": "verdict",
                "id": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "envelope": _ENVELOPE_EXAMPLE,
            }
        ],
        "next": None,
    },
)

DECISION_BODY: dict[str, Any] = {
    "required": True,
    "content": {BUNDLE_TYPE: {"schema": {"type": "string", "format": "binary"}}},
}
_DECISION = {"enum": ["allow", "review", "deny"]}
DECISION = _json(
    _object(
        {
            "decision": _DECISION,
            "replayed": {"type": "boolean", "description": "Whether this Governor replays checks."},
            "findings": {"type": "array", "items": {"type": "object"}},
            "envelope": {"oneOf": [_ENVELOPE, {"type": "null"}]},
            "receipt": {"type": "string"},
            "index": {"type": "integer"},
            "verdicts": {
                "type": "array",
                "items": _object(
                    {
                        "kind": {"type": "string"},
                        "commit": {"type": "string"},
                        "tree": {"type": "string"},
                        "decision": _DECISION,
                        "envelope": _ENVELOPE,
                        "report": {"type": "object", "description": "What the statement names by digest."},
                        "receipt": {"type": "string"},
                        "index": {"type": "integer"},
                    }
                ),
            },
        }
    ),
    {
        "decision": "allow",
        "replayed": False,
        "findings": [],
        "envelope": _ENVELOPE_EXAMPLE,
        "receipt": _RESULT["receipt"],
        "index": 3,
        "verdicts": [],
    },
)

_COMMIT = {"type": "string", "pattern": "^[0-9a-f]{40}([0-9a-f]{24})?$"}
_INCIDENT = _object(
    {
        "what": {"enum": [WHAT]},
        "time": _TIME,
        "repository": {"type": "string", "maxLength": 500},
        "ref": {"type": "string", "minLength": 1, "maxLength": 500},
        "old": {"type": "string", "pattern": "^([0-9a-f]{40}([0-9a-f]{24})?)?$"},
        "new": _COMMIT,
        "commits": {
            "type": "array",
            "minItems": 1,
            "maxItems": MOST_COMMITS,
            "items": _object({"commit": _COMMIT, "status": {"enum": list(STATUSES)}}),
        },
    }
)
INCIDENTS_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": _object({"incidents": {"type": "array", "minItems": 1, "items": _INCIDENT}}),
            "example": {
                "incidents": [
                    {
                        "what": WHAT,
                        "time": "2026-01-31T09:30:00Z",
                        "repository": "acme/shop",
                        "ref": "refs/heads/main",
                        "old": "5f" * 20,
                        "new": "a3" * 20,
                        "commits": [{"commit": "a3" * 20, "status": "missing"}],
                    }
                ]
            },
        }
    },
}
INCIDENT_RESULTS = _json(
    _object(
        {
            "results": {
                "type": "array",
                "items": {
                    "oneOf": [
                        _object({**_LOGGED, "by": {"type": "string"}}),
                        _object({"problem": {"$ref": "#/components/schemas/Problem"}}),
                    ]
                },
            }
        }
    ),
    {"results": [{**_LOGGED_EXAMPLE, "by": "git.example"}]},
)
