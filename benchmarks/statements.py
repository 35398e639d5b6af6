"""A statement of the usual size, as CI signs one on a commit."""

from __future__ import annotations

from safeai_git.core.canonical import dumps


def statement(number: int, repository: str = "github.com/example/widgets") -> bytes:
    """The canonical JSON of a verdict on a commit of that number in a repository."""
    return dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [
                {"name": "commit", "digest": {"gitCommit": f"{number:040x}"}},
                {"name": "tree", "digest": {"gitTree": f"{number:040x}"}},
            ],
            "predicateType": "https://safe-ai.dev/attestation/verdict/v1",
            "predicate": {
                "repository": repository,
                "time": "2026-01-31T09:30:00Z",
                "gate": "0.1.0",
                "kind": "commit",
                "base": {"commit": "a" * 40, "tree": "b" * 40},
                "governed": True,
                "decision": "allow",
                "kill_switch": {"state": "off"},
                "policy": {"digest": "c" * 64, "source": ".safeai/policy.yaml"},
                "attribution": {"class": "ai", "agent": "claude-code", "confidence": "1.00"},
                "edits": {"count": 1, "total_size": 10, "digest": "d" * 64},
                "evidence": [],
                "report": {"sha256": "e" * 64},
                "findings": {"count": 0, "first": []},
            },
        }
    )
