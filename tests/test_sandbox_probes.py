"""The probe suite in every backend, under every user that can be had here, and that it notices what is missing.

Each probe is exact (the error, and the effect on the host's side) and has a control outside. The runs that end at
limits go once through each backend; all of it everywhere, and every guard taken away, is ``tests/tools_probes.py``.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import pytest

from safeai_git.sandbox import seccomp
from safeai_git.sandbox.levels import PROMISES
from tests import tools_probes
from tests.probes import judge, kernel_calls, rows, situations

CASES = [(situation, level) for situation in situations.SITUATIONS for level in situations.LEVELS[situation]]


def _run(situation: str, level: str, *arguments: str) -> dict[str, object]:
    if why := situations.why_not(situation):
        pytest.skip(why)
    if level == "C" and (why := _no_landlock()):
        pytest.skip(why)
    return situations.run(situation, level, *arguments)


def _no_landlock() -> str:
    from safeai_git.core.errors import SandboxUnavailable
    from safeai_git.sandbox import landlock

    try:
        landlock.installed()
    except SandboxUnavailable as error:
        return error.message
    return ""


@pytest.mark.parametrize(("situation", "level"), CASES)
def test_B67_nothing_gets_out(situation: str, level: str) -> None:
    found = _run(situation, level, "--only", "inside,calls")
    assert judge.faults(found, level) == []


@pytest.mark.parametrize("level", ["A", "B", "C"])
def test_B67_every_run_ends_at_its_limit_and_leaves_nothing(level: str) -> None:
    situation = "root" if situations.why_not("user") else "user"
    found = _run(situation, level, "--only", "runs", "--no-control")
    assert judge.faults(found, level) == []


def test_what_a_pod_cannot_have_is_refused() -> None:
    for level in ("A", "B"):
        found = _run("pod", level, "--only", "calls")
        assert "refused" in found
        assert found["hint"]


def test_a_guard_that_is_missing_turns_a_probe_red() -> None:
    """Two of them here; ``tests/tools_probes.py --mutate`` takes away each."""
    if why := situations.why_not("user"):
        pytest.skip(why)
    program = (
        "import json, sys\nfrom contextlib import ExitStack\n"
        "from tests.probes import driver, mutations\n"
        "wanted = ('filter without ptrace', 'bwrap without --new-session')\n"
        "with ExitStack() as stack:\n"
        "    session = driver.Session('B', stack)\n"
        "    found = {one.name: mutations.noticed(session, one) for one in mutations.every(session) if one.name in wanted}\n"
        "print(json.dumps(found))\n"
    )
    found = situations.execute("user", program)
    assert found["filter without ptrace"] == ["ptrace: reaches the kernel, not EPERM"]
    assert "controlling_terminal: works, not ENXIO" in found["bwrap without --new-session"]


def test_the_suite_is_as_large_as_the_matrix_asks() -> None:
    numbers = {row.number for row in (*rows.INSIDE.values(), *rows.RUNS.values())}
    numbers |= {kernel_calls.row(name) for name in kernel_calls.expected("B")}
    elsewhere = {17, 19, 48}  # 17 with 16; 19 in test_materialise; 48 is this file's parameters
    assert set(range(1, 50)) - numbers == elsewhere
    assert len(rows.INSIDE) + len(rows.RUNS) + len(kernel_calls.expected("B")) >= 110


def test_the_suites_own_list_of_calls_knows_every_refused_one() -> None:
    assert seccomp.REFUSED.keys() <= kernel_calls.REFUSED.keys()
    assert seccomp.SHARED.keys() <= kernel_calls.SHARED.keys()
    for name, numbers in {**seccomp.REFUSED, **seccomp.SHARED}.items():
        assert {**kernel_calls.REFUSED, **kernel_calls.SHARED}[name] == numbers


def test_a_judge_that_hears_nothing_is_not_content() -> None:
    assert judge.faults({"crashed": "x"}, "B") == ["crashed: x"]
    with ExitStack() as stack:
        stack.enter_context(patch.object(rows, "INSIDE", {"tcp": rows.INSIDE["tcp"]}))
        told = {
            "inside": {},
            "effects inside": ["tcp"],
            "control inside": {"tcp": "ENOENT"},
            "control effects inside": [],
        }
        said = judge.faults(told, "B")
    assert "tcp: not told" in said
    assert "on the host: tcp" in said
    assert "outside: tcp: ENOENT, not works" in said
    assert "outside: no effect seen: unix_stream" in said


def test_the_document_names_every_probe_and_level() -> None:
    """The table is generated; a probe that is new must be in it."""
    text = Path(tools_probes.DOCUMENT).read_text()
    for name in (*rows.INSIDE, *rows.RUNS):
        assert f"| {name.replace('_', ' ')} |" in text
    for name in kernel_calls.expected("B"):
        assert f"| call: {name} |" in text
    for level, promise in PROMISES.items():
        assert f"level {level}" in text
        for line in (*promise.guarantees, *promise.lacks):
            assert line in text
