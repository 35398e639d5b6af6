"""SARIF 2.1.0 (OASIS), as GitHub's code scanning and other readers take it.

A finding about the whole change points at the policy, since every result needs a place. At most `MOST_RESULTS` are
written: GitHub shows no more, and says so itself of nothing.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote_from_bytes

from safeai_git import __version__
from safeai_git.core.rules import MALFORMED, RULES
from safeai_git.report.remarks import Remark

MOST_RESULTS = 5_000
HELP = "https://safe-ai.dev/docs/rules"
SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
WHOLE_CHANGE = b".safeai/policy.yaml"

_BUILT_IN = {
    rule.ID: inspect.cleandoc(inspect.getmodule(rule.findings).__doc__ or rule.ID)
    for rule in (*MALFORMED, *RULES)
}


def document(remarks: Sequence[Remark], *, finished: bool = True) -> str:
    """The report as JSON text.

    Args:
        remarks: The objections, worst first.
        finished: False when no decision was reached.
    """
    shown = remarks[:MOST_RESULTS]
    rules = list(dict.fromkeys(one.rule for one in shown))
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "safeai-git",
                "version": __version__,
                "informationUri": "https://safe-ai.dev/docs",
                "rules": [_rule(one) for one in rules],
            }
        },
        "columnKind": "utf16CodeUnits",
        "originalUriBaseIds": {"SRCROOT": {"description": {"text": "The repository's root."}}},
        "invocations": [_invocation(len(remarks) - len(shown), finished)],
        "results": [_result(one, rules.index(one.rule)) for one in shown],
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=1)


def _rule(rule: str) -> dict[str, Any]:
    text = _BUILT_IN.get(rule, f"A rule of the policy: {rule}." if not rule.startswith("verify-") else rule)
    first = text.partition("\n\n")[0].replace("\n", " ")
    return {
        "id": rule,
        "shortDescription": {"text": first},
        "help": {"text": f"{text}\n\nSee {HELP}#{rule}"},
        "helpUri": f"{HELP}#{quote_from_bytes(rule.encode())}",
        "properties": {"tags": ["security"], "precision": "very-high"},
    }


def _result(one: Remark, index: int) -> dict[str, Any]:
    uri = quote_from_bytes(WHOLE_CHANGE if one.path is None else one.path, safe="/")
    found: dict[str, Any] = {
        "ruleId": one.rule,
        "ruleIndex": index,
        "level": one.level,
        "message": {"text": f"{one.place}: {one.sentence}" if one.place else one.sentence},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": uri, "uriBaseId": "SRCROOT"},
                    "region": {"startLine": 1},
                }
            }
        ],
        "partialFingerprints": {"safeaiFinding/v1": one.fingerprint},
    }
    if one.commit:
        found["properties"] = {"commit": one.commit}
    return found


def _invocation(left: int, finished: bool) -> dict[str, Any]:
    made: dict[str, Any] = {"executionSuccessful": finished}
    if left:
        text = f"{left} more findings are in the JSON report"
        made["toolExecutionNotifications"] = [{"level": "warning", "message": {"text": text}}]
    return made
