"""Reads `catalogue.toml`: every attack that is known, and what has to happen."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the catalogue; ``comes_with`` names the part of the product that is still to come."""

    id: str
    section: str
    attack: str
    required: str
    comes_with: str = ""


def rows() -> list[Row]:
    """All rows, in their order."""
    data = tomllib.loads(Path(__file__).with_name("catalogue.toml").read_text(encoding="utf-8"))
    return [
        Row(number, section["name"], *said)
        for section in data["section"]
        for number, said in section["rows"].items()
    ]
