"""Compares what a driver found with what must come of it."""

from __future__ import annotations

from typing import Any

from tests.probes import kernel_calls, rows


def faults(found: dict[str, Any], level: str) -> list[str]:
    """Each surprise, in a line; none is what passes."""
    for word in ("crashed", "refused"):
        if word in found:
            return [f"{word}: {found[word]}"]
    said = [f"{name}: {found[name]}" for name in ("ended inside", "ended calls") if name in found]
    if "inside" in found:
        said += _compare(found["inside"], {name: row.expected(level) for name, row in rows.INSIDE.items()})
        said += [f"on the host: {effect}" for effect in found["effects inside"]]
    if "calls" in found:
        expected = kernel_calls.expected(level)
        said += _compare(found["calls"], {name: (answer,) for name, answer in expected.items()})
        said += [f"on the host: {effect}" for effect in found["effects calls"]]
    if "runs" in found:
        said += _compare(found["runs"], {name: row.expected(level) for name, row in rows.RUNS.items()})
        if level == "A" and "ENOSPC" not in found["runs"].get("disk: the tree", ""):
            said.append("disk: the tree: the kernel did not bound it")
    return [*said, *_controls(found)]


def _controls(found: dict[str, Any]) -> list[str]:
    """A control that did not work makes its probe worth nothing."""
    said = []
    if "control inside" in found:
        expected = {name: rows.split(row.outside) for name, row in rows.INSIDE.items()}
        said += _compare(found["control inside"], expected, "outside: ")
        missing = rows.EFFECTS - set(found["control effects inside"])
        said += [f"outside: no effect seen: {effect}" for effect in sorted(missing)]
    if "control calls" in found:
        expected = dict.fromkeys(kernel_calls.expected("B"), (kernel_calls.REACHES,))
        said += _compare(found["control calls"], expected, "outside: ")
    if found.get("control runs"):
        ends = {name: rows.split(row.outside) for name, row in rows.RUNS.items() if row.outside != "-"}
        said += _compare(found["control runs"], ends, "with wide limits: ")
    return said


def _compare(told: dict[str, str], expected: dict[str, tuple[str, ...]], where: str = "") -> list[str]:
    said = [f"{where}{name}: not told" for name in expected.keys() - told.keys()]
    said += [f"{where}{name}: not expected at all" for name in told.keys() - expected.keys()]
    said += [
        f"{where}{name}: {result}, not {' or '.join(expected[name])}"
        for name, result in told.items()
        if expected.get(name) and result not in expected[name]
    ]
    return sorted(said)
