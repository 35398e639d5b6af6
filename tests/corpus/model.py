"""What an attack is: a case to build, the modes in which it makes sense, and what has to come out.

An expectation names a decision with the rules and paths that have to be among the findings, or a word of the message
with which no decision is reached. There is no expectation that anything passes silently.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .bench import Bench

STAGED, RANGE, PATCH, PRE_PUSH, PRE_RECEIVE = "staged", "range", "patch", "pre-push", "pre-receive"
MODES = (STAGED, RANGE, PATCH, PRE_PUSH, PRE_RECEIVE)
COMMITS = (RANGE, PRE_PUSH, PRE_RECEIVE)
"""The modes that see commits, and not only a tree."""


@dataclass(frozen=True, slots=True)
class Case:
    """A built attack.

    Attributes:
        base, head: Commits: where the change starts, and what is proposed.
        words: How a range is named on the command line, where that is part of the attack.
        patch: A patch made by hand, where ``git diff`` would not write it.
        updates: What a push moves: ``(commit, full ref name)``, a forced update with a ``+`` before the commit; by
            default the head goes to a new branch.
        clone: The folder, beside the repository, of a clone that is judged instead.
    """

    base: str
    head: str
    words: tuple[str, str] | None = None
    patch: bytes | None = None
    updates: tuple[tuple[str, str], ...] = ()
    clone: str = ""


@dataclass(frozen=True, slots=True)
class Expect:
    """What has to come out.

    Attributes:
        decision: ``allow``, ``review`` or ``deny``; empty where no decision may be reached.
        rules: Rules that have to object.
        paths: Paths that have to be among those objected to.
        error: A word of the message, where there is no decision (exit 3, or 2 where the arguments make no sense).
        git: A word of git's own refusal, where the attack does not get past git in this mode.
    """

    decision: str = ""
    rules: tuple[str, ...] = ()
    paths: tuple[bytes, ...] = ()
    error: str = ""
    git: str = ""


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack: its id in the catalogue, its name, how it is built, and what each mode has to answer."""

    id: str
    name: str
    build: Callable[[Bench], Case]
    expect: Expect
    modes: tuple[str, ...]
    policy: bytes | None = None
    elsewhere: dict[str, Expect] = field(default_factory=dict)

    @property
    def about(self) -> str:
        """What it is, what must happen and why."""
        return " ".join((self.build.__doc__ or "").split())

    def expected(self, mode: str) -> Expect:
        """What has to come out in one mode."""
        return self.elsewhere.get(mode, self.expect)


ATTACKS: list[Attack] = []
"""Every attack, in the order of the catalogue."""


def attack(
    number: str,
    expect: Expect,
    *,
    modes: tuple[str, ...] = MODES,
    policy: bytes | None = None,
    **elsewhere: Expect,
) -> Callable[[Callable[[Bench], Case]], Callable[[Bench], Case]]:
    """Put a builder into the register.

    Args:
        number: The row of the catalogue.
        expect: What has to come out.
        modes: Where it makes sense.
        policy: The policy of the base commit, where it is not the usual one.
        elsewhere: What has to come out in one mode that differs (``pre_push=Expect(...)``).
    """

    def keep(build: Callable[[Bench], Case]) -> Callable[[Bench], Case]:
        other = {mode.replace("_", "-"): what for mode, what in elsewhere.items()}
        ATTACKS.append(Attack(number, build.__name__, build, expect, modes, policy, other))
        return build

    return keep


def deny(*rules: str, at: bytes | tuple[bytes, ...] = ()) -> Expect:
    """The change is denied."""
    return Expect("deny", rules, (at,) if isinstance(at, bytes) else at)


def review(*rules: str, at: bytes | tuple[bytes, ...] = ()) -> Expect:
    """A person has to approve of it."""
    return Expect("review", rules, (at,) if isinstance(at, bytes) else at)


def allow(*rules: str, at: bytes | tuple[bytes, ...] = ()) -> Expect:
    """It passes, with a warning where rules are named."""
    return Expect("allow", rules, (at,) if isinstance(at, bytes) else at)


def undecided(word: str) -> Expect:
    """No decision is reached, and the message says why."""
    return Expect(error=word)


def refused_by_git(word: str) -> Expect:
    """Git itself does not let the attack come so far."""
    return Expect(git=word)
