"""GitLab's code quality report (docs.gitlab.com, "Code Quality", report format): a JSON list."""

from __future__ import annotations

import json
from collections.abc import Iterable

from safeai_git.report.remarks import Level, Remark
from safeai_git.report.sarif import WHOLE_CHANGE

_SEVERITY: dict[Level, str] = {"error": "blocker", "warning": "minor", "note": "info"}


def document(remarks: Iterable[Remark]) -> str:
    """The report as JSON text. Each finding's fingerprint stays the same while it is the same finding."""
    found = {one.fingerprint: one for one in reversed(list(remarks))}
    rows = [
        {
            "description": one.sentence,
            "check_name": one.rule,
            "fingerprint": fingerprint,
            "severity": _SEVERITY[one.level],
            "location": {
                "path": (WHOLE_CHANGE if one.path is None else one.path).decode("utf-8", "backslashreplace"),
                "lines": {"begin": 1},
            },
        }
        for fingerprint, one in reversed(found.items())
    ]
    return json.dumps(rows, indent=1)
