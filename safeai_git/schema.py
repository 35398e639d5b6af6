"""JSON Schemas that ship with the product. The only door to jsonschema.

What a policy may say is decided by `safeai_git.core.policy_reader`; the schema says the same to editors and to
``policy lint``. The other schemas describe what is signed and what commands print; ``output`` has one definition for
each command. Nothing is fetched: a reference to something that does not ship is an error.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from referencing import Registry, Resource

from safeai_git.core.display import safe_text
from safeai_git.core.errors import WrongUse
from safeai_git.policyfile import parse

POLICY = "policy"
MOST_FAULTS = 50


def schema(name: str) -> dict[str, Any]:
    """A shipped schema by its name, e.g. ``policy``.

    Raises:
        WrongUse: There is none of this name.
    """
    path = files("safeai_git") / "schemas" / f"{name}.schema.json"
    if not name.replace("-", "").isalnum() or not path.is_file():
        raise WrongUse(f"there is no schema called '{safe_text(name)}'")
    read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return read


def policy_schema() -> dict[str, Any]:
    """The schema of policies (JSON Schema 2020-12)."""
    return schema(POLICY)


def names() -> list[str]:
    """The names of all shipped schemas."""
    shipped = (files("safeai_git") / "schemas").iterdir()
    return sorted(
        one.name.removesuffix(".schema.json") for one in shipped if one.name.endswith(".schema.json")
    )


@cache
def _registry() -> Registry[Any]:
    return Registry().with_resources(
        (found["$id"], Resource.from_contents(found)) for found in map(schema, names())
    )


def faults(value: object, name: str, part: str = "") -> list[str]:
    """What a schema objects to in plain data, as ``/path/to/value: what``, at most 50; empty when it is valid.

    Args:
        value: The data.
        name: The schema's name.
        part: One of its definitions instead of the whole, e.g. ``check`` of ``output``.
    """
    wanted = schema(name)
    if part:
        wanted = {"$ref": f"{wanted['$id']}#/$defs/{part}"}
    validator = Draft202012Validator(wanted, registry=_registry())
    found = sorted(
        validator.iter_errors(value), key=lambda error: [str(part) for part in error.absolute_path]
    )
    return [_line(error) for error in found[:MOST_FAULTS]]


def schema_faults(data: bytes) -> list[str]:
    """What the policy schema objects to in a policy file.

    Raises:
        PolicyError: It is not a YAML file that can be read without ambiguity.
    """
    document = parse(data, "the policy")
    document.check()
    return faults(document.data, POLICY)


def _line(error: ValidationError) -> str:
    where = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in error.absolute_path)
    return safe_text(f"{where or '/'}: {error.message[:300]}")
