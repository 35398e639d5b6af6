"""Keys, policy and kill switch of a Governor: what follows from the log, and that nothing else does."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tools_log import LOG_SIGNER, ORIGIN, OTHER_SIGNER
from tools_postgres import Cluster, cluster  # noqa: F401 - a fixture
from tools_state import NOW, SIGNER, Clock, Parts, in_database, parts, person

from safeai_git.audit import verify_file
from safeai_git.core import canonical
from safeai_git.core.envelope import Envelope, Rejected, check_envelope, open_envelope
from safeai_git.core.errors import FormatError, LogProofInvalid, PolicyError, StorageError, WrongUse
from safeai_git.core.key_list import (
    LIST_NAMESPACE,
    PURPOSES,
    KeyBook,
    ListedKey,
    ListStatement,
    register_data,
)
from safeai_git.core.kill_switch import LEASE_NAMESPACE, LEASE_TYPE, Lease, Scope, SwitchEvent
from safeai_git.core.log.entry import Draft, Entry
from safeai_git.core.log.merkle import leaf_hash
from safeai_git.core.trust import AllowedSigner, Refusal, TrustedKey
from safeai_git.core.values import replace
from safeai_git.core.verdict import VERDICT_NAMESPACE
from safeai_git.governor import follower
from safeai_git.governor.audit_log import AuditLog, Receipt
from safeai_git.governor.follower import Follower
from safeai_git.governor.live import LiveState
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.open_log import open_file_log, start_log
from safeai_git.governor.policies import LARGEST_TEXT, PolicyTooLong
from safeai_git.governor.records import Conflicting, NotAllowed, Records
from safeai_git.governor.stores.memory import MemoryStore
from safeai_git.governor.stores.port import Appended, Barred, LogAway, LogFailed
from safeai_git.keys.ed25519 import verify
from safeai_git.keys.key_list import open_keys
from safeai_git.keys.keyring import Keyring
from safeai_git.keys.seal import seal
from safeai_git.published_policy import open_published
from safeai_git.schema import faults

psycopg = pytest.importorskip("psycopg", reason="psycopg is needed to speak to PostgreSQL")
from safeai_git.governor.stores.postgres import PostgresStore, insert_entries  # noqa: E402

CI, DEV = person(1), person(2)
GLOBAL = Scope("global")
POLICY = b"allow_paths: [src/, tests/]\nmax_edit_size_bytes: 65536\n"
LOOSER = b"allow_paths: [src/, tests/, docs/]\nmax_edit_size_bytes: 1024\n"
NEXT_YEAR = NOW + 365 * 86_400


@pytest.fixture
def governor(tmp_path: Path) -> Iterator[Parts]:
    (tmp_path / "log").mkdir()
    with parts(tmp_path / "log", second_person=True) as made:
        yield made


def trusted() -> Keyring:
    """What a client has configured: the Governor's key, for all that it signs."""
    return Keyring((AllowedSigner(LOG_SIGNER.public, ("governor",)),))


def register(governor: Parts, signer: object = CI, principal: str = "ci@example.com") -> Receipt:
    return governor.keys.register(
        signer.public,  # type: ignore[attr-defined]
        principal,
        [VERDICT_NAMESPACE],
        reason="CI",
        by="maria",
    )


# keys


def test_a_key_is_known_once_its_entry_is_durable_and_after_a_restart(
    governor: Parts, tmp_path: Path
) -> None:
    assert isinstance(governor.keys.keys.trusts(CI.key_id, VERDICT_NAMESPACE, NOW), Refusal)
    receipt = register(governor)
    found = governor.keys.keys.trusts(CI.key_id, VERDICT_NAMESPACE, NOW)
    assert isinstance(found, TrustedKey)
    assert found.principal == "ci@example.com"
    entry = Entry.parse(receipt.line)
    assert (entry.kind, entry.data()["by"]) == ("keychange", "maria")  # type: ignore[index,call-overload]
    shutil.copytree(tmp_path / "log", tmp_path / "copy")
    with parts(tmp_path / "copy") as again:
        assert again.keys.keys.format() == governor.keys.keys.format()


def test_a_revoked_key_is_trusted_at_no_time_that_somebody_claims(governor: Parts) -> None:
    register(governor)
    governor.clock.now += 100
    before = governor.log.append(Draft.of_data("verdict", "before", {}))
    revoked = governor.keys.revoke(CI.key_id, reason="the laptop was stolen", by="maria", since=NOW + 50)
    for at in (NOW - 10_000, NOW, int(governor.clock.now), None):
        refusal = governor.keys.keys.trusts(CI.key_id, VERDICT_NAMESPACE, at)
        assert isinstance(refusal, Refusal)
        assert refusal.reason == "revoked"
        assert "the laptop was stolen" in refusal.message
    assert isinstance(before, Receipt)
    counts = governor.keys.keys.counts
    place = {"index": before.index, "time": NOW + 49}
    assert isinstance(counts(CI.key_id, VERDICT_NAMESPACE, **place), TrustedKey)
    assert isinstance(counts(CI.key_id, VERDICT_NAMESPACE, **place | {"time": NOW + 50}), Refusal)
    assert isinstance(counts(CI.key_id, VERDICT_NAMESPACE, **place | {"index": revoked.index + 1}), Refusal)
    assert isinstance(counts(CI.key_id, "safeai-approval", **place), Refusal)


def test_a_revocation_is_for_good(governor: Parts) -> None:
    register(governor)
    governor.keys.revoke(CI.key_id, reason="lost", by="maria")
    with pytest.raises(Conflicting, match="stays so"):
        register(governor)
    with pytest.raises(Conflicting, match="revoked already"):
        governor.keys.revoke(CI.key_id, reason="lost again", by="maria")
    # What stands on the log all the same, by an older replica for instance, changes nothing.
    late = Draft.of_data("keychange", "late", {"action": "register", "public": "x", "purposes": []})
    governor.log.append(late)
    listed = json.loads(governor.keys.keys.format())["keys"][0]
    again = {key: listed[key] for key in ("public", "principal", "purposes", "valid_after", "valid_before")}
    governor.log.append(Draft.of_data("keychange", "later", {"action": "register", **again}))
    governor.records.follower.catch_up()
    assert governor.records.state.unreadable == 1
    assert isinstance(governor.keys.keys.trusts(CI.key_id, VERDICT_NAMESPACE, NOW), Refusal)


def test_what_was_checked_before_a_revocation_does_not_come_behind_it(
    governor: Parts, tmp_path: Path
) -> None:
    register(governor)
    envelope = seal(b'{"n":1}', [CI])
    late = seal(b'{"n":2}', [CI])
    bars = governor.keys.kept_out_by(envelope)
    first = Draft.of_envelope("verdict", f"sha256:{envelope.digest}", envelope, unless=bars)
    assert isinstance(governor.log.append(first), Receipt)
    governor.keys.revoke(CI.key_id, reason="lost", by="maria")
    second = Draft.of_envelope("verdict", f"sha256:{late.digest}", late, unless=bars)
    assert isinstance(governor.log.append(second), Barred)
    again = governor.log.append(first)
    assert isinstance(again, Receipt)
    assert again.repeated, "what was taken before goes on having its receipt"
    report = verify_file(tmp_path / "log" / "audit.log", keys=[LOG_SIGNER.public])
    assert (report.state, report.checked) == ("consistent", 1)


def test_who_registers_anew_replaces_what_was_said(governor: Parts) -> None:
    for name in ("one", "two", "one"):
        register(governor, principal=name)
        found = governor.keys.keys.find(CI.key_id)
        assert found is not None
        assert found.principal == name
    assert found is not None
    assert found.changes == 3


def test_two_who_register_at_once_are_told(governor: Parts) -> None:
    answers: list[object] = []

    def one(name: str) -> None:
        try:
            answers.append(register(governor, principal=name))
        except Conflicting as error:
            answers.append(error)

    threads = [threading.Thread(target=one, args=(f"p{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    receipts = [answer for answer in answers if isinstance(answer, Receipt)]
    found = governor.keys.keys.find(CI.key_id)
    assert found is not None
    assert found.changes == len(receipts) >= 1
    assert len(answers) == 8


@pytest.mark.parametrize(
    ("principal", "purposes", "window"),
    [
        ("", ["safeai-verdict"], {}),
        ("*", ["safeai-verdict"], {}),
        ("a,b", ["safeai-verdict"], {}),
        ("a\nb", ["safeai-verdict"], {}),
        ("a", [], {}),
        ("a", ["safeai-*"], {}),
        ("a", ["safeai-verdict"], {"valid_after": 5, "valid_before": 5}),
    ],
)
def test_what_no_key_can_be_is_refused_before_it_is_logged(
    governor: Parts, principal: str, purposes: list[str], window: dict[str, int]
) -> None:
    size = governor.log.store.size
    with pytest.raises(WrongUse):
        governor.keys.register(CI.public, principal, purposes, reason="", by="maria", **window)
    with pytest.raises(WrongUse):
        governor.keys.register(CI.public, "a", ["safeai-verdict"], reason="a\x1b[2Jb", by="maria")
    assert governor.log.store.size == size


def test_the_list_is_signed_and_says_what_the_registry_says(governor: Parts) -> None:
    governor.keys.ensure_own()
    size = governor.log.store.size
    governor.keys.ensure_own()
    assert governor.log.store.size == size
    register(governor)
    governor.keys.register(
        DEV.public, "dev", ["safeai-approval"], reason="", by="m", valid_after=NOW, valid_before=NOW + 60
    )
    governor.keys.revoke(CI.key_id, reason="lost", by="maria")
    document = governor.keys.document()
    assert governor.keys.document() is document
    opened = open_keys(document.data, trusted(), governor=ORIGIN, now=NOW)
    assert opened.keys.format() == governor.keys.keys.format()
    assert opened.statement.size == governor.records.state.size
    assert faults(json.loads(document.data.partition(b"\n")[2]), "key-list") == []
    assert isinstance(opened.keys.trusts(DEV.key_id, "safeai-approval", NOW + 59), TrustedKey)
    assert isinstance(opened.keys.trusts(DEV.key_id, "safeai-approval", NOW + 60), Refusal)
    assert isinstance(opened.keys.trusts(CI.key_id, VERDICT_NAMESPACE, NOW), Refusal)
    own = opened.keys.trusts(LOG_SIGNER.key_id, LIST_NAMESPACE, NOW)
    assert isinstance(own, TrustedKey)
    assert isinstance(opened.keys.trusts(LOG_SIGNER.key_id, "safeai-approval", NOW), Refusal)
    governor.clock.now += 61
    renewed = governor.keys.document()
    assert renewed.etag != document.etag
    register(governor, person(3))
    assert len(open_keys(governor.keys.document().data, trusted(), governor=ORIGIN, now=NOW + 61).keys) == 4


def test_a_list_that_is_not_the_signed_one_is_refused(governor: Parts) -> None:
    register(governor)
    old = governor.keys.document().data
    governor.keys.revoke(CI.key_id, reason="lost", by="maria")
    new = governor.keys.document().data
    line, _, listed = new.partition(b"\n")
    older = old.partition(b"\n")[2]
    statement = ListStatement.parse(Envelope.parse(line).untrusted_payload)
    verdict = seal(statement.format(), [LOG_SIGNER]).format()
    stranger = seal(statement.format(), [OTHER_SIGNER], payload_type="application/vnd.safeai.key-list+json")
    table = {
        "the revocation is left out": line + b"\n" + older,
        "a byte more": new + b"\n",
        "no list": line,
        "nothing": b"",
        "another payload type": verdict + b"\n" + listed,
        "a stranger's signature": stranger.format() + b"\n" + listed,
    }
    for name, data in table.items():
        with pytest.raises(FormatError):
            print(name, open_keys(data, trusted(), governor=ORIGIN, now=NOW))
    for options in ({"governor": "other"}, {"now": NOW + 90_000}, {"now": NOW - 1_000}, {"seen": 99}):
        with pytest.raises(FormatError):
            open_keys(new, trusted(), **{"governor": ORIGIN, "now": NOW, **options})  # type: ignore[arg-type]
    newest = open_keys(new, trusted(), governor=ORIGIN, now=NOW).statement.size
    with pytest.raises(FormatError, match="one over 3 was seen before"):
        open_keys(old, trusted(), governor=ORIGIN, now=NOW, seen=newest)


def test_a_list_of_many_keys_is_read_back_and_its_signature_stays_small(governor: Parts) -> None:
    book = KeyBook()
    register(governor)
    one = governor.keys.keys.find(CI.key_id)
    assert one is not None
    book = KeyBook(replace(one, public=person(number).public) for number in range(250))
    assert KeyBook.parse(book.format()).format() == book.format()
    with pytest.raises(FormatError):
        KeyBook.parse(book.format().replace(b'"index"', b'"indexes"'))
    assert len(PURPOSES) == 5


# policy


def test_a_policy_is_published_signed_and_only_forward(governor: Parts, tmp_path: Path) -> None:
    assert governor.policies.document() is None
    first = governor.policies.publish(POLICY, expires=NEXT_YEAR, by="maria")
    assert first.version == 1
    assert {(one.key, one.direction) for one in first.changes} == {("allow_paths", "tighter")}
    with pytest.raises(Conflicting, match="no step forward"):
        governor.policies.publish(LOOSER, expires=NEXT_YEAR, by="maria", version=1)
    again = governor.policies.publish(POLICY, expires=NEXT_YEAR, by="maria", version=1)
    assert (again.receipt.repeated, again.receipt.index) == (True, first.receipt.index)
    second = governor.policies.publish(LOOSER, expires=NEXT_YEAR, by="anna", version=9)
    assert {(one.key, one.direction) for one in second.changes} == {
        ("allow_paths", "looser"),
        ("max_edit_size_bytes", "tighter"),
        ("max_lfs_size_bytes", "tighter"),
    }
    logged = Entry.parse(second.receipt.line).data()
    assert isinstance(logged, dict)
    assert (logged["by"], logged["changes"]) == ("anna", 3)
    for version in (8, 5, 1):
        with pytest.raises(Conflicting):
            governor.policies.publish(POLICY, expires=NEXT_YEAR, by="maria", version=version)
    document = governor.policies.document()
    assert document is not None
    opened = open_published(document.data, "the Governor", trusted(), now=NOW)
    assert opened.statement.version == 9
    assert opened.policy.max_edit_size_bytes == 1024
    layer = governor.policies.layer()
    assert layer is not None
    assert layer.digest == opened.policy.digest
    shutil.copytree(tmp_path / "log", tmp_path / "copy")
    with parts(tmp_path / "copy") as again_there:
        assert again_there.policies.document() == document


@pytest.mark.parametrize(
    ("text", "options", "error"),
    [
        (b"allow_path: [src/]\n", {}, PolicyError),
        (b"\xff\xfe", {}, PolicyError),
        (b"", {}, PolicyError),
        (POLICY, {"expires": NOW}, WrongUse),
        (POLICY, {"version": 0}, FormatError),
        (POLICY, {"version": 10**16}, FormatError),
        (POLICY + b"#" * LARGEST_TEXT, {}, PolicyTooLong),
    ],
)
def test_what_is_no_policy_is_not_logged(
    governor: Parts, text: bytes, options: dict[str, int], error: type[Exception]
) -> None:
    size = governor.log.store.size
    with pytest.raises(error):
        governor.policies.publish(text, by="maria", **{"expires": NEXT_YEAR, **options})  # type: ignore[arg-type]
    assert governor.log.store.size == size


def test_the_longest_policy_fits_into_an_entry(governor: Parts) -> None:
    text = POLICY + b"#" * (LARGEST_TEXT - len(POLICY))
    assert governor.policies.publish(text, expires=NEXT_YEAR, by="m" * 200).version == 1


def test_an_expired_policy_is_no_policy_to_judge_by(governor: Parts) -> None:
    governor.policies.publish(POLICY, expires=NOW + 60, by="maria")
    governor.clock.now += 60
    with pytest.raises(PolicyError, match="has expired"):
        governor.policies.layer()


def test_the_first_policy_is_published_once(governor: Parts) -> None:
    assert governor.policies.first(POLICY, seconds=60)
    assert not governor.policies.first(LOOSER, seconds=60)
    assert governor.records.state.policy is not None
    assert governor.records.state.policy.text == POLICY


# the kill switch


def lease(governor: Parts, repository: str = "acme/shop") -> Lease:
    line = governor.switches.lease(repository).data
    opened = open_envelope(
        Envelope.parse(line),
        trusted(),
        purpose=LEASE_NAMESPACE,
        at=NOW,
        verify=verify,
        payload_type=LEASE_TYPE,
    )
    return Lease.parse(opened.payload)


def test_a_switch_stops_whom_it_is_for_and_lets_go(governor: Parts) -> None:
    assert (lease(governor).stopped, governor.switches.active) == ("", False)
    governor.switches.engage(Scope("repository", "acme/shop"), reason="a leak", by="maria")
    assert lease(governor).stopped == "a leak (maria)"
    assert lease(governor, "acme/other").stopped == ""
    assert governor.switches.state("acme/shop", "codex").state == "engaged"
    assert governor.switches.active
    governor.switches.engage(Scope("agent", "codex"), reason="wild", by="maria", expires=NOW + 60)
    assert lease(governor, "acme/other").agents == ("codex",)
    assert lease(governor, "acme/other").expires == NOW + 60
    governor.clock.now += 60
    assert lease(governor, "acme/other").agents == ()
    governor.switches.release(Scope("repository", "acme/shop"), reason="mended", by="anna")
    assert (lease(governor).stopped, governor.switches.active) == ("", False)


def test_who_engaged_it_cannot_release_it_where_a_second_person_is_needed(governor: Parts) -> None:
    governor.switches.engage(GLOBAL, reason="a leak", by="maria")
    with pytest.raises(NotAllowed, match="somebody else"):
        governor.switches.release(GLOBAL, reason="never mind", by="maria")
    # Neither by engaging it once more, for a short time or as somebody who was not the first.
    governor.switches.engage(GLOBAL, reason="again", by="maria", expires=NOW + 1)
    governor.switches.engage(GLOBAL, reason="again", by="otto")
    with pytest.raises(NotAllowed):
        governor.switches.release(GLOBAL, reason="never mind", by="maria")
    governor.clock.now += 2
    assert governor.switches.active
    governor.switches.release(GLOBAL, reason="mended", by="anna")
    assert not governor.switches.active


def test_an_old_engage_entry_that_is_sent_again_engages_nothing(governor: Parts) -> None:
    engaged = Entry.parse(governor.switches.engage(GLOBAL, reason="a leak", by="maria").line)
    released = Entry.parse(governor.switches.release(GLOBAL, reason="mended", by="anna").line)
    for old in (engaged, released, engaged):
        again = governor.log.append(Draft(old.kind, old.id, old.rest))
        assert isinstance(again, Receipt)
        assert again.repeated
    governor.records.follower.catch_up()
    assert not governor.switches.active


def test_what_is_not_engaged_cannot_be_released(governor: Parts) -> None:
    governor.switches.engage(Scope("agent", "codex"), reason="wild", by="maria")
    for scope in (GLOBAL, Scope("repository", "codex"), Scope("agent", "codex2")):
        with pytest.raises(WrongUse, match="no kill switch is engaged"):
            governor.switches.release(scope, reason="mended", by="anna")


def test_off_starts_engaged_and_stays_so_over_restarts(tmp_path: Path) -> None:
    for _ in range(3):
        with parts(tmp_path) as governor:
            governor.switches.start_engaged()
            assert [one.by for one in governor.switches.engaged()] == ["SAFEAI_ENABLE"]
            size = governor.log.store.size
    assert size == 2, "engaged once, not at every start"
    with parts(tmp_path) as governor:
        assert governor.switches.active, "'on' releases nothing by itself"
        governor.switches.release(GLOBAL, reason="mended", by="anna")
    with parts(tmp_path) as governor:
        assert not governor.switches.active


def test_engaging_works_though_the_log_takes_nothing(tmp_path: Path) -> None:
    clock = Clock()
    log = open_file_log(tmp_path, SIGNER, reserve=0, now=clock)
    with parts(lambda: log, clock) as governor:
        (tmp_path / "audit.log").rename(tmp_path / "gone")
        with pytest.raises(LogFailed):
            governor.switches.engage(GLOBAL, reason="a leak", by="maria")
        assert governor.switches.active
        assert lease(governor).stopped == "a leak (maria)"
        with pytest.raises(LogFailed):
            governor.switches.release(GLOBAL, reason="mended", by="anna")
        assert governor.switches.active


class Refusing(MemoryStore):
    """A store that can be told to take nothing."""

    refuses = False

    def append(self, drafts: Sequence[Draft], now: int) -> Appended:
        if self.refuses:
            raise LogAway("the database does not answer")
        return super().append(drafts, now)


def test_what_never_got_onto_the_log_is_lifted_by_a_release_that_did() -> None:
    store, clock = Refusing(), Clock()
    with parts(lambda: start_log(store, SIGNER, now=clock), clock) as governor:
        store.refuses = True
        with pytest.raises(LogAway):
            governor.switches.engage(GLOBAL, reason="a leak", by="maria")
        store.refuses = False
        assert governor.switches.active
        clock.now += 1
        governor.switches.engage(GLOBAL, reason="a leak", by="maria")
        # As another replica writes it, which knows nothing of the first.
        clock.now += 1
        event = SwitchEvent(False, GLOBAL, "mended", "anna", int(clock.now))
        governor.log.append(Draft.of_data("killswitch", "other", json.loads(event.format())))
        governor.records.follower.catch_up()
        assert not governor.switches.active


def test_an_event_that_cannot_be_read_stops_everything(governor: Parts) -> None:
    governor.log.append(Draft.of_data("killswitch", "odd", {"action": "pause"}))
    governor.records.follower.catch_up()
    assert governor.records.state.unreadable == 1
    assert lease(governor).stopped.startswith("entry 1 of the log cannot be read here")


# following


class Broken(MemoryStore):
    """A store that was changed behind the log's back."""

    def change(self, how: str) -> None:
        if how == "last":
            self._lines[-1] = self._lines[-1].replace(b"id-9", b"id-x")
        elif how == "middle":
            self._lines[5] = self._lines[5].replace(b"id-5", b"id-x")
        elif how == "gone":
            del self._lines[7:]
        else:
            self._lines[3], self._lines[4] = self._lines[4], self._lines[3]


@pytest.mark.parametrize("how", ["last", "middle", "gone", "swapped"])
def test_nothing_follows_from_a_log_that_contradicts_itself(how: str) -> None:
    store = Broken()
    log = start_log(store, SIGNER)
    for number in range(1, 10):
        log.append(Draft.of_data("verdict", f"id-{number}", {}))
    store.change(how)
    following = Follower(log, LiveState(), name="test")
    for _ in range(2):
        with pytest.raises(LogProofInvalid):
            following.catch_up()
        with pytest.raises(LogProofInvalid):
            following.need(1e9)
    assert isinstance(following.failure, LogProofInvalid)
    log.close()


def test_a_log_that_became_shorter_is_noticed(tmp_path: Path) -> None:
    store = MemoryStore()
    log = start_log(store, SIGNER)
    records = Records.of(log)
    other = MemoryStore()
    start_log(other, SIGNER).close()
    log.append(Draft.of_data("verdict", "one", {}))
    records.follower.catch_up()
    store._state, store._lines = other._state, other._lines
    with pytest.raises(LogProofInvalid, match="rolled back"):
        records.follower.catch_up()
    records.close()
    log.close()


# several Governors on one database


def two(cluster: Cluster, log_id: str, clock: Clock) -> tuple[AuditLog, AuditLog]:  # noqa: F811
    opener = in_database(cluster.url, log_id, clock)
    return opener(), opener()


def heard(follower: Follower, size: int) -> bool:
    """Whether a follower comes to a size by itself: it is only looked at."""
    for _ in range(6000):
        if follower.size >= size:
            return True
        threading.Event().wait(0.01)
    return False


def test_a_governor_that_nobody_tells_asks_by_itself(cluster: Cluster) -> None:  # noqa: F811
    clock = Clock()
    one_log, other_log = two(cluster, "asks", clock)
    with parts(lambda: one_log, clock) as one, parts(lambda: other_log, clock) as other:
        one.log.append(Draft.of_data("verdict", "untold", {}))
        assert heard(other.records.follower, 2)


def test_each_governor_is_told_what_the_other_writes(
    cluster: Cluster,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follower, "EVERY_SECONDS", 600.0)
    clock = Clock()
    one_log, other_log = two(cluster, "state", clock)
    with parts(lambda: one_log, clock) as one, parts(lambda: other_log, clock) as other:
        one.switches.engage(GLOBAL, reason="a leak", by="maria")
        assert heard(other.records.follower, 2)
        assert lease(other).stopped == "a leak (maria)"
        other.switches.release(GLOBAL, reason="mended", by="anna")
        assert heard(one.records.follower, 3)
        assert not one.switches.active
        register(one)
        assert heard(other.records.follower, 4)
        one.keys.revoke(CI.key_id, reason="lost", by="maria")
        with pytest.raises(Conflicting, match=r"revoked already|stays so"):
            other.keys.revoke(CI.key_id, reason="lost as well", by="otto")
        one.policies.publish(POLICY, expires=NEXT_YEAR, by="maria")
        with pytest.raises(Conflicting, match="no step forward"):
            other.policies.publish(LOOSER, expires=NEXT_YEAR, by="maria", version=1)
        assert other.policies.publish(LOOSER, expires=NEXT_YEAR, by="maria").version == 2
        document = one.policies.document()
        assert document is None or document.data.endswith((LOOSER, POLICY))
        one.records.follower.catch_up()
        assert one.policies.document() == other.policies.document()


def test_a_verdict_checked_by_one_governor_does_not_come_behind_the_others_revocation(
    cluster: Cluster,  # noqa: F811
) -> None:
    clock = Clock()
    one_log, other_log = two(cluster, "revoked", clock)
    with parts(lambda: one_log, clock) as one, parts(lambda: other_log, clock) as other:
        register(one)
        other.records.follower.catch_up()
        envelope = seal(b'{"n":1}', [CI])
        assert not isinstance(
            check_envelope(envelope, other.keys.keys, purpose=VERDICT_NAMESPACE, at=NOW, verify=verify),
            Rejected,
        )
        bars = other.keys.kept_out_by(envelope)
        one.keys.revoke(CI.key_id, reason="lost", by="maria")
        draft = Draft.of_envelope("verdict", f"sha256:{envelope.digest}", envelope, unless=bars)
        assert isinstance(other.log.append(draft), Barred)


@pytest.mark.parametrize("how", ["inserted", "changed", "another note", "no note"])
def test_a_database_that_was_written_anew_without_the_key_is_refused(
    cluster: Cluster,  # noqa: F811
    how: str,
) -> None:
    """Somebody who can write the database registers a key of his own, and mends every hash."""
    clock, name = Clock(), f"anew {how}"
    opener = in_database(cluster.url, name, clock)
    with parts(opener, clock) as governor:
        for number in range(5):
            governor.log.append(Draft.of_data("verdict", f"id-{number}", {}))
    forged = MemoryStore()
    log = start_log(forged, SIGNER, now=clock)
    record = register_data(
        ListedKey(OTHER_SIGNER.public, "thief", (VERDICT_NAMESPACE,)), reason="", by="maria"
    )
    log.append(Draft.of_data("keychange", "key:1", record))
    count = 9 if how == "inserted" else 4
    for number in range(count):
        log.append(Draft.of_data("verdict", f"id-{number}", {}))
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute("DELETE FROM audit_entry WHERE log_id = %s", (name,))
        lines = forged.read(0, 100)
        insert_entries(
            connection,
            name,
            [f"x{at}" for at in range(len(lines))],
            lines,
            [leaf_hash(one) for one in lines],
            0,
        )
        head = forged._state.head
        connection.execute(
            "UPDATE audit_head SET size = %s, root = %s, edge = %s, prev = %s WHERE log_id = %s",
            (len(lines), forged.root(), head.frontier.edge, leaf_hash(lines[-1]), name),
        )
        if how == "another note":
            other = LogSigner(ORIGIN, [OTHER_SIGNER]).sign(len(lines), forged.root())
            connection.execute("UPDATE audit_checkpoint SET note = %s WHERE log_id = %s", (other, name))
        if how == "no note":
            connection.execute("UPDATE audit_checkpoint SET note = 'none' WHERE log_id = %s", (name,))
    with pytest.raises(LogProofInvalid):
        opener()


def test_a_database_that_is_away_signs_no_lease(cluster: Cluster) -> None:  # noqa: F811
    clock = Clock()
    log = start_log(PostgresStore(cluster.url, "away", patience=0.2), SIGNER, now=clock)
    with parts(lambda: log, clock) as governor:
        assert lease(governor).stopped == ""
        cluster.stop()
        try:
            governor.records.follower._fresh = float("-inf")  # as it is seconds later
            with pytest.raises(StorageError):
                governor.switches.lease("acme/shop")
            with pytest.raises(StorageError):
                governor.switches.state("acme/shop", "codex")
        finally:
            cluster.start()
        for _ in range(100):
            try:
                assert lease(governor).stopped == ""
                break
            except StorageError:
                continue
        else:
            pytest.fail("it does not come back")
        governor.switches.engage(GLOBAL, reason="a leak", by="maria")
        assert lease(governor).stopped


def test_an_event_is_what_the_log_holds(governor: Parts) -> None:
    receipt = governor.switches.engage(GLOBAL, reason="ein Leck: ä", by="maria")
    event = SwitchEvent.parse(canonical.dumps(Entry.parse(receipt.line).data()))
    assert (event.reason, event.by, event.engage) == ("ein Leck: ä", "maria", True)
