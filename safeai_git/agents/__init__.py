"""The catalogue of agents: data in ``catalogue.json``, read here and nowhere else.

One row for each form in which an agent shows itself: its kind, the form, and where it was seen. What the kinds mean
stands in ``docs/attribution.md``.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from safeai_git.core.attribution_catalogue import Agent, Catalogue, Form


@cache
def catalogue() -> Catalogue:
    """The shipped catalogue."""
    text = Path(__file__).with_name("catalogue.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return Catalogue(
        (
            Agent(
                name=row["name"],
                author_class=row.get("class", "ai"),
                reviewer=row.get("reviewer", False),
                forms=tuple(Form(*form) for form in row["forms"]),
            )
            for row in data["agents"]
        ),
        data["keys"],
        app_words=data["app_words"],
        machine_words=data["machine_words"],
    )
