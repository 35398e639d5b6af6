"""What facts are made of: values that never change, as `msgspec.Struct` or, where a field is left out, as dataclasses.

A dataclass takes half a millisecond to make, and a hook that makes fifty of them before it begins is waited for; a
struct takes a tenth of that (decision 64). These functions take both kinds.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from msgspec import Struct, structs

V = TypeVar("V")


def replace(value: V, /, **changes: Any) -> V:
    """A copy of a value with other contents in some of its fields.

    Raises:
        TypeError: It has no such field, or is no value of this kind.
    """
    if isinstance(value, Struct):
        return structs.replace(value, **changes)
    return dataclasses.replace(value, **changes)  # type: ignore[type-var] # noqa: TID251


def fields(value: object) -> dict[str, Any]:
    """The contents of a value by the names of its fields; what they hold is not taken apart."""
    if isinstance(value, Struct):
        return structs.asdict(value)
    return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}  # type: ignore[arg-type]
