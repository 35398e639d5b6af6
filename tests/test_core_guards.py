"""Guards of `core/` beside those of the judge: one test for each, on values alone."""

from __future__ import annotations

from base64 import b64decode, b64encode
from hashlib import sha256
from typing import Any

import pytest
from test_guards import edit, policy, proposal, verdict_of
from tools_log import LOG_SIGNER, leaves, nodes_of

from safeai_git.core import canonical
from safeai_git.core.bundle import LARGEST_BUNDLE, MOST_OBJECTS, Bundle, PolicyText
from safeai_git.core.context import CheckEvidence, Context
from safeai_git.core.envelope import MAX_LINE, MAX_PAE, Envelope
from safeai_git.core.errors import FormatError
from safeai_git.core.evaluate import evaluate
from safeai_git.core.kill_switch import Scope, Switches, SwitchEvent
from safeai_git.core.log.hashes import Hashes
from safeai_git.core.log.note import NoteKey
from safeai_git.core.objects import parse_commit
from safeai_git.core.policy import Policy, PolicyStack
from safeai_git.core.policy_faults import Refused
from safeai_git.core.policy_values import tree_path
from safeai_git.core.values import replace
from safeai_git.core.vsa import of_verification
from safeai_git.keys.seal import seal

ID = "1" * 40


def test_a_failed_check_names_its_output_where_there_is_some() -> None:
    change, layer = proposal(edit()), policy(checks=[{"name": "unit", "run": "true"}])

    def remedy(printed: bytes) -> str:
        seen = CheckEvidence(
            "unit", "failed", "x", output_bytes=len(printed), output_sha256=sha256(printed).hexdigest()
        )
        found = evaluate(change, PolicyStack((layer,)), Context(evidence={"unit": seen})).findings
        assert [one.rule for one in found] == ["replay-failed"]
        return found[0].remedy

    assert remedy(b"").endswith("--check unit' shows it")
    assert remedy(b"a").endswith("shows it, and what it printed is in 'safeai-git replay --log ca978112ca1b'")


def test_where_room_is_short_the_sandboxs_name_goes_before_findings() -> None:
    layer = policy(deny_paths=["denied/"])
    change = proposal(*(edit(b"denied/%d" % i) for i in range(4)))

    def made(isolation: str) -> tuple[int, set[str], int]:
        evidence = {
            f"c{i}": CheckEvidence(f"c{i}", "passed", "", "c" * 64, isolation=isolation) for i in range(8)
        }
        payload = verdict_of(change, layer, evidence=evidence)
        said: Any = canonical.loads(payload, limit=MAX_PAE)["predicate"]  # type: ignore[index,call-overload]
        return len(payload), {one["isolation"] for one in said["evidence"]}, len(said["findings"]["first"])

    assert made("B bubblewrap")[1:] == ({"B bubblewrap"}, 4)
    assert made("B" * 400)[1:] == ({"B"}, 4)


def test_a_line_of_an_envelope_is_bounded_and_its_base64_is_written_one_way() -> None:
    def line(payload: bytes, sig: bytes = bytes(64)) -> bytes:
        kind, key = b"application/vnd.in-toto+json" + b"x" * pad, LOG_SIGNER.key_id.encode()
        return b'{"payload":"%b","payloadType":"%b","signatures":[{"keyid":"%b","sig":"%b"}]}' % (
            b64encode(payload),
            kind,
            key,
            b64encode(sig),
        )

    pad = 1
    size = (MAX_LINE - len(line(b""))) // 4 * 3
    pad += MAX_LINE - len(line(bytes(size)))
    longest = line(bytes(size))
    assert len(longest) == MAX_LINE
    assert Envelope.parse(longest).format() == longest
    pad += 1
    with pytest.raises(FormatError):
        Envelope.parse(line(bytes(size)))
    pad = 1
    good = line(b"{}x1")
    assert Envelope.parse(good).format() == good
    payload, sig = b64encode(b"{}x1"), b64encode(bytes(64))
    for part in (payload, sig):
        odd = part[:-3] + bytes([part[-3] + 1]) + part[-2:]
        assert b64decode(odd) == b64decode(part)
        with pytest.raises(FormatError):
            Envelope.parse(good.replace(part, odd))


def test_a_bundle_is_bounded() -> None:
    whole = Bundle(ID, (), PolicyText("", None), seal(b"{}", [LOG_SIGNER]))
    assert Bundle.parse(whole.format()) == whole
    room = LARGEST_BUNDLE - len(replace(whole, report={"x": ""}).format())
    assert len(replace(whole, report={"x": "y" * room}).format()) == LARGEST_BUNDLE
    with pytest.raises(FormatError, match="at most 33,554,432 are read"):
        replace(whole, report={"x": "y" * (room + 1)}).format()
    for wrong in (b"5", b"[%b]" % b",".join([b"5"] * (MOST_OBJECTS + 1))):
        with pytest.raises(FormatError, match="objects: not a list of at most"):
            Bundle.parse(whole.format().replace(b'"objects":[]', b'"objects":' + wrong))


def test_a_commit_may_end_with_its_parents() -> None:
    for data in (b"tree %b\nparent %b\n\nx" % (ID.encode(), ID.encode()), b"tree %b\n" % ID.encode()):
        assert "author and committer do not follow the parents" in parse_commit(data).problems


def test_a_path_of_the_tree_has_a_longest_length() -> None:
    assert tree_path("a" * 1_024)
    with pytest.raises(Refused, match="1,024"):
        tree_path("a" * 1_025)


def test_switches_that_were_copied_go_their_own_way() -> None:
    one = Switches([SwitchEvent(True, Scope("global"), "a leaked key", "maria", 5)])
    two = one.copy()
    two.apply(SwitchEvent(False, Scope("global"), "mended", "maria", 6))
    assert (len(one.engaged(7)), len(two.engaged(7))) == (1, 0)


def test_hashes_of_a_log_are_those_that_it_has() -> None:
    hashes, plain = Hashes(), nodes_of(leaves(600))
    for leaf in leaves(600):
        hashes.append(leaf)
    for level, index in ((0, 0), (0, 599), (3, 74), (8, 1), (9, 0)):
        assert hashes.node(level, index) == plain(level, index)
    for level, index in ((0, 600), (0, -1), (3, 75), (8, 2), (9, 1), (10, 0), (16, 0)):
        with pytest.raises(LookupError, match="no subtree"):
            hashes.node(level, index)


def test_what_is_said_of_a_key_that_cannot_be_read_holds_no_control_characters() -> None:
    with pytest.raises(FormatError, match=r"the verifier key 'a\\x00b' is not base64"):
        NoteKey.parse("a\0b+00000000+=")


def test_a_summary_of_a_verification_has_names_that_can_be_signed() -> None:
    named = of_verification(PolicyStack((policy(),)), ID, ID, passed=True, time=1)
    assert b'"verificationResult":"PASSED"' in named
    layer = Policy.from_data({"repository": "a/b"}, {}, "\U00020000" * 400, "d" * 64)
    with pytest.raises(FormatError, match="too long"):
        of_verification(PolicyStack((layer,)), ID, ID, passed=True, time=1)
