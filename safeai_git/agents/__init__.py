"""The catalogue of agents: data in ``catalogue.json``, read here and nowhere else."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

from safeai_git.core.attribution import Agent, Catalogue


@cache
def catalogue() -> Catalogue:
    """The shipped catalogue."""
    text = resources.files(__name__).joinpath("catalogue.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return Catalogue(
        agents=tuple(
            Agent(
                name=row["name"],
                author_class=row.get("class", "ai"),
                emails=frozenset(row.get("emails", ())),
                names=frozenset(row.get("names", ())),
                trailer_names=frozenset(row.get("trailer_names", ())),
                trailers=frozenset(row.get("trailers", ())),
                branches=tuple(row.get("branches", ())),
                environment=frozenset(row.get("environment", ())),
            )
            for row in data["agents"]
        ),
        general_trailers=data["general_trailers"],
    )
