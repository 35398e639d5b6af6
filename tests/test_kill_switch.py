"""The kill switch: what its events add up to, what a lease says, and that nothing stale reads as released."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safeai_git.core import canonical
from safeai_git.core.envelope import MAX_PAE, pae
from safeai_git.core.errors import FormatError, WrongUse
from safeai_git.core.kill_switch import LEASE_TYPE, MOST_AGENTS, Lease, Scope, Switches, SwitchEvent
from safeai_git.core.values import replace

NOW = 1_780_000_000
GLOBAL = Scope("global")
REPOSITORY = Scope("repository", "a/b")

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/@:-]{0,99}", fullmatch=True)
texts = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\u2028\u2029"),
    min_size=1,
    max_size=200,
)
scopes = st.one_of(
    st.just(GLOBAL), st.builds(Scope, st.just("repository"), names), st.builds(Scope, st.just("agent"), names)
)


@st.composite
def events(draw: st.DrawFn) -> SwitchEvent:
    engage = draw(st.booleans())
    time = draw(st.integers(0, 2**32))
    expires = draw(st.none() | st.integers(time + 1, 2**33)) if engage else None
    return SwitchEvent(engage, draw(scopes), draw(texts), draw(texts), time, expires)


def engage(scope: Scope = GLOBAL, time: int = NOW, expires: int | None = None) -> SwitchEvent:
    return SwitchEvent(True, scope, "a leaked key", "maria", time, expires)


def release(scope: Scope = GLOBAL, time: int = NOW) -> SwitchEvent:
    return SwitchEvent(False, scope, "mended", "maria", time)


@given(events())
def test_an_event_is_read_back(event: SwitchEvent) -> None:
    assert SwitchEvent.parse(event.format()) == event
    assert len(event.format()) < MAX_PAE


@given(st.lists(events(), max_size=40), names)
def test_a_lease_is_read_back_and_can_be_signed_anywhere(held: list[SwitchEvent], repository: str) -> None:
    lease = Switches(held).lease(governor="governor.example/log", repository=repository, now=NOW, seconds=900)
    assert Lease.parse(lease.format()) == lease
    assert len(pae(LEASE_TYPE, lease.format())) <= MAX_PAE


@given(st.lists(events(), max_size=12), scopes, st.integers(0, 2**32))
def test_released_means_that_nothing_is_engaged(held: list[SwitchEvent], scope: Scope, now: int) -> None:
    switches = Switches(held)
    stopping = [one for one in switches.engaged(now) if one.scope in (GLOBAL, REPOSITORY)]
    agents = {one.scope.name for one in switches.engaged(now) if one.scope.kind == "agent"}
    lease = switches.lease(governor="g", repository="a/b", now=now, seconds=60)
    agent = scope.name if scope.kind == "agent" else "codex"
    state = lease.state(agent, now=now, max_age=60).state
    assert (state == "engaged") == bool(stopping or agent in agents)


def test_a_lease_may_end_at_once_but_never_late() -> None:
    switches = Switches([engage(expires=NOW + 10)])
    lease = switches.lease(governor="g", repository="a/b", now=NOW, seconds=900)
    assert lease.expires == NOW + 10, "what is engaged until then is not known to be released after it"
    assert lease.state("", now=NOW + 9, max_age=900).state == "engaged"
    assert lease.state("", now=NOW + 10, max_age=900).state == "stale"


@pytest.mark.parametrize(
    ("now", "max_age", "state"),
    [
        (NOW, 900, "released"),
        (NOW + 899, 900, "released"),
        (NOW + 900, 3600, "stale"),
        (NOW + 60, 60, "stale"),
        (NOW + 59, 60, "released"),
        (NOW - 120, 900, "released"),
        (NOW - 121, 900, "stale"),
        (NOW, 0, "stale"),
    ],
)
def test_B88_a_stale_lease_releases_nothing(now: int, max_age: int, state: str) -> None:
    lease = Switches().lease(governor="g", repository="a/b", now=NOW, seconds=900)
    assert lease.state("codex", now=now, max_age=max_age).state == state


def test_what_stops_whom() -> None:
    switches = Switches([engage(Scope("agent", "codex"))])
    lease = switches.lease(governor="g", repository="a/b", now=NOW, seconds=900)
    assert lease.state("codex", now=NOW, max_age=900).reason == "it stops codex"
    assert lease.state("claude-code", now=NOW, max_age=900).state == "released"
    assert lease.state("", now=NOW, max_age=900).state == "engaged", "it may be the one that is stopped"
    switches.apply(engage(REPOSITORY))
    assert (
        switches.lease(governor="g", repository="a/b", now=NOW, seconds=1).stopped == "a leaked key (maria)"
    )
    assert not switches.lease(governor="g", repository="a/c", now=NOW, seconds=1).stopped
    switches.apply(release(REPOSITORY))
    switches.apply(engage())
    assert switches.lease(governor="g", repository="a/c", now=NOW, seconds=1).stopped


def test_more_agents_than_a_lease_can_name_stop_everybody() -> None:
    held = [engage(Scope("agent", f"{number:03}" + "x" * 97)) for number in range(MOST_AGENTS)]
    switches = Switches(held)
    assert not switches.lease(governor="g", repository="a/b", now=NOW, seconds=1).stopped
    switches.apply(engage(Scope("agent", "one-more")))
    lease = switches.lease(governor="g", repository="a/b", now=NOW, seconds=1)
    assert lease.state("nobody-in-particular", now=NOW, max_age=10).state == "engaged"


def test_engaging_anew_never_shortens() -> None:
    switches = Switches([engage(), engage(expires=NOW + 5)])
    assert switches.find(GLOBAL, NOW + 100)
    switches = Switches([engage(expires=NOW + 50), engage(expires=NOW + 5)])
    assert switches.find(GLOBAL, NOW + 49)
    switches = Switches([engage(expires=NOW + 5), engage(expires=NOW + 50)])
    assert switches.find(GLOBAL, NOW + 49)
    assert not switches.find(GLOBAL, NOW + 50)
    switches.apply(engage())
    assert switches.find(GLOBAL, NOW + 10**8)
    switches.apply(release())
    assert not switches.engaged(NOW)
    switches.apply(release(Scope("agent", "never-engaged")))


@pytest.mark.parametrize(
    ("kind", "name"),
    [("global", "x"), ("repository", ""), ("agent", ""), ("agent", "a b"), ("agent", "x" * 101), ("planet", ""), ("planet", "x"),
     ("repository", "a\nb"), ("agent", "-x"), ("agent", "é")],
)  # fmt: skip
def test_scopes_that_there_are_not(kind: Any, name: str) -> None:
    with pytest.raises(WrongUse):
        Scope(kind, name)


@pytest.mark.parametrize(
    "changes",
    [
        {"reason": ""}, {"reason": "a\nb"}, {"reason": "x" * 201}, {"by": "\x1b[2J"}, {"by": "\ud800"},
        {"expires": NOW}, {"engage": False, "expires": NOW + 5},
    ],
)  # fmt: skip
def test_events_that_there_are_not(changes: dict[str, Any]) -> None:
    with pytest.raises(WrongUse):
        replace(engage(), **changes)


def _event() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(engage(expires=NOW + 60).format())
    return data


def _lease() -> dict[str, Any]:
    made = Switches([engage(Scope("agent", "codex"))]).lease(
        governor="g", repository="a/b", now=NOW, seconds=9
    )
    data: dict[str, Any] = json.loads(made.format())
    return data


@pytest.mark.parametrize(
    "change",
    [
        {"action": "off"}, {"scope": {"kind": "agent", "name": ""}}, {"scope": {"kind": "planet", "name": "x"}},
        {"scope": "global"}, {"time": "2026-01-01"}, {"time": 5}, {"expires": "soon"}, {"expires": 5},
        {"more": 1}, {"reason": None}, {"by": "\u0007"}, {"scope": {"kind": "global", "name": "", "more": 1}},
    ],
)  # fmt: skip
def test_what_is_no_event_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        SwitchEvent.parse(canonical.dumps(_event() | change))


@pytest.mark.parametrize(
    "change",
    [
        {"agents": "codex"}, {"agents": [5]}, {"agents": [["codex"]]}, {"issued": "2026-01-01"}, {"stopped": None},
        {"stopped": False}, {"more": 1}, {"expires": "never"}, {"governor": 5},
    ],
)  # fmt: skip
def test_what_is_no_lease_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        Lease.parse(canonical.dumps(_lease() | change))


@given(st.binary(max_size=200))
def test_any_bytes_are_answered(data: bytes) -> None:
    for parse in (SwitchEvent.parse, Lease.parse):
        with pytest.raises(FormatError):
            parse(data)


def test_a_scope_in_words() -> None:
    assert [str(one) for one in (GLOBAL, REPOSITORY)] == ["global", "repository a/b"]


def test_a_lease_says_no_more_than_what_concerns_it() -> None:
    switches = Switches([engage(Scope("repository", "a/other")), engage(Scope("agent", "codex"))])
    lease = switches.lease(governor="g", repository="a/b", now=NOW, seconds=60)
    assert (lease.stopped, lease.agents) == ("", ("codex",))
    assert "not known; stopped are codex" in lease.state("", now=NOW, max_age=60).reason
    assert not switches.find(REPOSITORY, NOW)
    quiet = Switches().lease(governor="g", repository="a/b", now=NOW, seconds=60)
    assert quiet.state("", now=NOW, max_age=60).state == "released"


def test_the_reason_is_the_newest_and_that_of_the_stop() -> None:
    switches = Switches([engage(expires=NOW + 9), replace(engage(expires=NOW + 9), reason="another one")])
    assert switches.find(GLOBAL, NOW) == replace(engage(expires=NOW + 9), reason="another one")
    for number in range(MOST_AGENTS + 1):
        switches.apply(engage(Scope("agent", f"a{number}")))
    assert "another one" in switches.lease(governor="g", repository="a/b", now=NOW, seconds=5).stopped
