"""GitLab's code quality report (docs.gitlab.com, "Code Quality", report format): a JSON list."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from safeai_git.report.remarks import Level, Remark
from safeai_git.report.sarif import WHOLE_CHANGE

_SEVERITY: dict[Level, str] = {"error": "blocker", "warning": "minor", "note": "info"}


def document(remarks: Iterable[Remark]) -> str:
    """The report as JSON text. Each finding's fingerprint stays the same while it is the same finding."""
    seen: set[str] = set()
    rows = []
    for one in remarks:
        facts = (one.rule.encode(), one.path or b"", one.message.encode())
        name = hashlib.sha256(b"\0".join(facts)).hexdigest()
        if name in seen:
            continue
        seen.add(name)
        rows.append(
            {
                "description": one.sentence,
                "check_name": one.rule,
                "fingerprint": name,
                "severity": _SEVERITY[one.level],
                "location": {
                    "path": (WHOLE_CHANGE if one.path is None else one.path).decode(
                        "utf-8", "backslashreplace"
                    ),
                    "lines": {"begin": 1},
                },
            }
        )
    return json.dumps(rows, indent=1)
