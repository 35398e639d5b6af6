"""The product against the attack corpus: every attack, in every mode in which it makes sense.

The name of each test carries the attack's id, its name and the mode, for `docs/threat-model.md` and for
``pytest -k B-33``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from corpus import ATTACKS
from corpus.model import MODES, PATCH, PRE_PUSH, PRE_RECEIVE, RANGE, STAGED, Attack, Expect
from corpus.modes import Built, Outcome, build, command_line, in_process

from safeai_git.core.display import display

ASKED = (STAGED, RANGE, PATCH)
"""The modes in which the gate is asked in process and once more through the command line."""

CASES = [pytest.param(one, mode, id=f"{one.id}-{one.name}-{mode}") for one in ATTACKS for mode in one.modes]
LINES = [
    pytest.param(one, asked[number % len(asked)], id=f"{one.id}-{one.name}-{asked[number % len(asked)]}")
    for number, one in enumerate(ATTACKS)
    if (asked := [mode for mode in one.modes if mode in ASKED])
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Attack], Built]:
    """Builds each attack once; the cases of one attack follow each other, so one at a time is kept."""
    kept: dict[str, Built] = {}

    def get(attack: Attack) -> Built:
        if attack.name not in kept:
            kept.clear()
            kept[attack.name] = build(attack, tmp_path_factory.mktemp("attack"))
        return kept[attack.name]

    return get


@pytest.mark.parametrize(("attack", "mode"), CASES)
def test_attack(
    attack: Attack,
    mode: str,
    built: Callable[[Attack], Built],
    record_property: Callable[[str, object], None],
) -> None:
    """The attack gets the answer that it must get."""
    wanted = attack.expected(mode)
    if mode in ASKED:
        outcome = in_process(built(attack), mode)
        told = outcome.refused or outcome.message or f"{outcome.decision}: {', '.join(sorted(outcome.rules))}"
        record_property("outcome", told.splitlines()[0])
        if outcome.refused or wanted.git:
            assert wanted.git
            assert wanted.git in outcome.refused
            return
        assert outcome.decision == wanted.decision, outcome
        assert outcome.rules >= set(wanted.rules)
        assert outcome.paths >= set(wanted.paths)
        assert wanted.error in outcome.message
    else:
        outcome = command_line(built(attack), mode)
        record_property(
            "outcome", f"exit {outcome.code}" + (f", {wanted.decision}" if wanted.decision else "")
        )
        if outcome.refused or wanted.git:
            assert wanted.git
            assert wanted.git in outcome.refused
            return
        _check_text(outcome, wanted, advice=mode == PRE_PUSH, plain=mode == PRE_RECEIVE)


@pytest.mark.parametrize(("attack", "mode"), LINES)
def test_command_line(attack: Attack, mode: str, built: Callable[[Attack], Built]) -> None:
    """The command line says the same: exit code, rules and paths, and nothing that a terminal would obey."""
    wanted = attack.expected(mode)
    outcome = command_line(built(attack), mode)
    if wanted.git:
        assert wanted.git in outcome.refused
        return
    _check_text(outcome, wanted, advice=False, plain=False)


def _check_text(outcome: Outcome, wanted: Expect, *, advice: bool, plain: bool) -> None:
    """Check what was printed.

    Args:
        outcome: What came out.
        wanted: What has to.
        advice: A workstation's hook, which lets go what needs a person, and shows only what it refuses.
        plain: What was printed went through git's own side band.
    """
    told = outcome.printed.decode("utf-8")
    assert not [char for char in told if not char.isprintable() and char != "\n"], told
    if wanted.error:
        assert (outcome.code != 0) if plain else outcome.code in (2, 3), told
        assert wanted.error in told
        return
    if wanted.decision == "allow" or (advice and wanted.decision == "review"):
        assert outcome.code == 0, told
        return
    assert outcome.code == 1, told
    for rule in wanted.rules:
        assert f"[{rule}]" in told
    for path in wanted.paths:
        assert display(path) in told


def test_every_mode_lets_an_ordinary_change_pass(tmp_path: Path) -> None:
    """The control: were everything refused, the corpus would prove nothing."""
    from corpus.bench import Bench
    from corpus.model import Case, allow

    def ordinary(bench: Bench) -> Case:
        """An ordinary change by an agent."""
        return Case(bench.base, bench.change({b"src/a.py": b"a = 2\n", b"src/new.py": b"n = 1\n"}))

    there = build(Attack("control", "ordinary", ordinary, allow(), MODES), tmp_path / "control")
    for mode in ASKED:
        outcome = in_process(there, mode)
        assert (outcome.decision, outcome.rules) == ("allow", frozenset()), (mode, outcome)
    for mode in MODES:
        outcome = command_line(there, mode)
        assert outcome.code == 0, (mode, outcome.printed)


def test_attacks_are_named_once() -> None:
    """A name is an address: in the register, in the threat model and on disk."""
    names = [(one.id, one.name) for one in ATTACKS]
    assert len(names) == len(set(names)) > 100
    assert all(one.about and one.modes for one in ATTACKS)


def test_attacks_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    """Whoever builds the corpus gets the same object names."""
    for attack in ATTACKS[::25]:
        one, other = build(attack, tmp_path / "1" / attack.name), build(attack, tmp_path / "2" / attack.name)
        assert (one.case.base, one.case.head, one.case.patch) == (
            other.case.base,
            other.case.head,
            other.case.patch,
        )
