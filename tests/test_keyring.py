"""Allowed signers: what the file says, who is trusted for what and when, and whether OpenSSH agrees."""

from __future__ import annotations

import calendar
import os
import subprocess
import time
from base64 import b64encode
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from tools_cli import SSH_KEYGEN, needs_ssh_keygen

from safeai_git.core.errors import FormatError, PolicyError
from safeai_git.core.publickey import PublicKey, format_openssh
from safeai_git.core.trust import AllowedSigner, Refusal, TrustedKey, format_time, matches
from safeai_git.keys.allowed_signers import MAX_PATTERN, Skipped, format_line, parse_line
from safeai_git.keys.keyring import MAX_BYTES, Keyring


def key(seed: int) -> PublicKey:
    return PublicKey(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32).public_key().public_bytes_raw())


ANNA, BOB = key(1), key(2)
LINE = format_openssh(ANNA).decode()
RSA_LINE = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAQ=="
SECURITY_KEY_LINE = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAA"


def one(text: str) -> AllowedSigner:
    entry = parse_line(text, "signers", 1)
    assert isinstance(entry, AllowedSigner)
    return entry


def complaint(text: str) -> str:
    with pytest.raises(PolicyError) as caught:
        parse_line(text, "signers", 7)
    assert caught.value.message.startswith("signers:7: ")
    return caught.value.message


def at(text: str) -> int:
    return calendar.timegm(time.strptime(text, "%Y-%m-%d %H:%M:%S"))


# Patterns


@pytest.mark.parametrize(
    ("text", "patterns", "expected"),
    [
        ("a", ["a"], True),
        ("a", ["b"], False),
        ("a", [], False),
        ("a", [""], False),
        ("", [""], True),
        ("", ["*"], True),
        ("abc", ["a*c"], True),
        ("abc", ["a?c"], True),
        ("ac", ["a?c"], False),
        ("abcbc", ["a*bc"], True),
        ("abcb", ["a*bc"], False),
        ("A", ["a"], False),
        ("[a]", ["[a]"], True),
        ("a", ["[a]"], False),
        ("anna@example.com", ["*@example.com"], True),
        ("anna@example.com.evil", ["*@example.com"], False),
        ("a", ["b", "a"], True),
        ("a", ["*", "!a"], False),
        ("a", ["!a", "*"], False),
        ("b", ["!a", "*"], True),
        ("b", ["!a"], False),
        ("ab", ["**", "!a"], True),
    ],
)
def test_pattern_lists_are_those_of_openssh(text: str, patterns: list[str], expected: bool) -> None:
    assert matches(text, patterns) is expected


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_a_pattern_matches_what_fnmatch_matches(pattern: str, text: str) -> None:
    assert matches(text, [pattern]) == fnmatchcase(text, pattern)


def test_B54_no_pattern_explodes() -> None:
    assert not matches("a" * 2_000, ["*a" * 500 + "b"])


# Lines


def test_a_line_with_everything() -> None:
    text = f'"anna@example.com,*@ci" NAMESPACES="safeai-*,!safeai-x",valid-after="20260131Z",valid-before="202602010930" {LINE} Anna\'s laptop'
    assert one(text) == AllowedSigner(
        ANNA,
        ("anna@example.com", "*@ci"),
        ("safeai-*", "!safeai-x"),
        at("2026-01-31 00:00:00"),
        at("2026-02-01 09:30:00"),
    )


@pytest.mark.parametrize(
    "text",
    [
        f"a {LINE}",
        f"  a \t {LINE}",
        f"a\t{LINE}\t",
        f'"a" {LINE} comment "with" quotes',
        f"a {LINE} ssh-ed25519 AAAA",
        f"a {LINE} # \u00e9\u00e8",
    ],
)
def test_space_quotes_and_comments_do_not_matter(text: str) -> None:
    assert one(text) == AllowedSigner(ANNA, ("a",))


@pytest.mark.parametrize("text", ["", "   ", "\t", "#", "# a ssh-ed25519 AAAA", "  # x\x07"])
def test_blank_lines_and_comments_say_nothing(text: str) -> None:
    assert parse_line(text) is None


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("20260131", "2026-01-31 00:00:00"),
        ("20260131Z", "2026-01-31 00:00:00"),
        ("20260131z", "2026-01-31 00:00:00"),
        ("20260131UTC", "2026-01-31 00:00:00"),
        ("202601310930", "2026-01-31 09:30:00"),
        ("202601310930Z", "2026-01-31 09:30:00"),
        ("20260131093045", "2026-01-31 09:30:45"),
        ("20240229235959Z", "2024-02-29 23:59:59"),
        ("19700101000001", "1970-01-01 00:00:01"),
        ("99991231235959Z", "9999-12-31 23:59:59"),
    ],
)
def test_times_are_utc_whatever_the_machine_s_time_zone(
    written: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        assert one(f'a valid-after="{written}" {LINE}').valid_after == at(meant)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_namespaces_that_are_empty_serve_no_purpose() -> None:
    assert one(f'a namespaces="" {LINE}').namespaces == ()
    assert one(f"a {LINE}").namespaces is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", "no key follows"),
        ("a ", "no key follows"),
        (LINE, "no key follows"),
        ("a ssh-ed25519", "nothing follows ssh-ed25519"),
        ("a ssh-ed25519 !", "not base64"),
        ("a ssh-ed25519 \u00e9", "not base64"),
        ("a ssh-ed25519 AAAA", "is not an ssh-ed25519 key, whatever"),
        ("a " + LINE[:-4], "32 bytes, not 29"),
        ("a " + LINE.replace("ssh-ed25519", "ssh-rsa"), "is not an ssh-rsa key, whatever"),
        ("a x-ed25519 AAAA", "no key follows"),
        (f"a,,b {LINE}", "an empty item"),
        (f"a, {LINE}", "an empty item"),
        (f'"" {LINE}', "an empty item"),
        (f"! {LINE}", "an empty item"),
        (f"!a,!b {LINE}", "signs for nobody"),
        (f'"a {LINE}', "do not end before a space"),
        (f'"a"b {LINE}', "do not end before a space"),
        (f'"a"{LINE}', "do not end before a space"),
        (f'a"b" {LINE}', "a quote stands within"),
        (f"{'a' * (MAX_PATTERN + 1)} {LINE}", "longer than 1,023"),
        (f"a\u200b {LINE}", "cannot be seen"),
        (f"\u202ea {LINE}", "cannot be seen"),
        (f"a\x00 {LINE}", "control character"),
        (f"a {LINE} \x1b[31m", "control character"),
        (f"a\r {LINE}", "control character"),
        (f"*@example.com cert-authority {LINE}", "certificates are not supported"),
        (f'* cert-authority,namespaces="x" {RSA_LINE}', "certificates are not supported"),
        (f'a cert-authority="x" {LINE}', "certificates are not supported"),
        (f"a namespaces {LINE}", "needs a value in quotes"),
        (f"a namespaces=x {LINE}", "not understood from 'namespaces=x'"),
        (f'a namespaces="x {LINE}', "do not end before a space"),
        (f'a namespaces="x"y {LINE}', "not understood"),
        (f'a namespaces="x\\"y" {LINE}', "do not end before a space"),
        (f'a namespaces="x\\y" {LINE}', "not understood"),
        (f'a namespaces="a,,b" {LINE}', "an empty item"),
        (f'a namespaces="a",namespaces="a" {LINE}', "stands twice"),
        (f'a namespaces="a",Namespaces="a" {LINE}', "stands twice"),
        (f'a namespaces="a", {LINE}', "end with a comma"),
        (f'a ,namespaces="a" {LINE}', "not understood"),
        (f'a verify-required,namespaces="a" {LINE}', "'verify-required' is not an option"),
        (f'a valid-after="" {LINE}', "not a time"),
        (f'a valid-after="2026" {LINE}', "not a time"),
        (f'a valid-after="20260230" {LINE}', "not a time"),
        (f'a valid-after="20261301" {LINE}', "not a time"),
        (f'a valid-after="202601312460" {LINE}', "not a time"),
        (f'a valid-after="20260131000060Z" {LINE}', "not a time"),
        (f'a valid-after="2026013109" {LINE}', "not a time"),
        (f'a valid-after="19700101Z" {LINE}', "not a time"),
        (f'a valid-before="19600101Z" {LINE}', "not a time"),
        (f'a valid-before="\u0662\u0660260131" {LINE}', "not a time"),
        (f'a valid-after="20260131",valid-before="20260131" {LINE}', "never be valid"),
        (f'a valid-after="20260131",valid-before="20250131" {LINE}', "never be valid"),
    ],
)
def test_B07_a_line_that_is_not_understood_is_an_error_with_its_place(text: str, expected: str) -> None:
    assert expected in complaint(text)


def test_B87_a_listed_key_of_small_order_is_refused() -> None:
    blob = ANNA.blob[:-32] + bytes(32)
    assert "anybody can sign" in complaint(f"a ssh-ed25519 {b64encode(blob).decode()}")


PATTERN = st.builds(
    str.__add__,
    st.sampled_from(["", "!"]),
    st.text(
        st.characters(categories=["L", "N", "P", "S"], exclude_characters='",\\'), min_size=1, max_size=8
    ),
).filter(lambda text: text.removeprefix("!") != "")
PRINCIPALS = st.lists(PATTERN | st.just("a b"), min_size=1, max_size=3).map(lambda some: (*some, "anna"))
TIMES = st.integers(1, 253402300799)
WINDOWS = st.tuples(st.none() | TIMES, st.none() | TIMES).filter(
    lambda window: window[0] is None or window[1] is None or window[0] < window[1]
)
ENTRIES = st.builds(
    lambda public, principals, namespaces, window: AllowedSigner(public, principals, namespaces, *window),
    st.sampled_from([ANNA, BOB]),
    PRINCIPALS,
    st.none() | st.lists(PATTERN, max_size=3).map(tuple),
    WINDOWS,
)


@given(ENTRIES)
def test_lines_format_and_parse(entry: AllowedSigner) -> None:
    text = format_line(entry)
    assert parse_line(text) == entry
    assert format_line(one(text)) == text


@given(st.text() | st.text('a,!*" =\\Znv-0123').map(lambda text: f"{text} {LINE}"))
def test_whatever_a_line_says_it_is_understood_or_refused(text: str) -> None:
    try:
        entry = parse_line(text.replace("\n", ""))
    except PolicyError:
        return
    if isinstance(entry, AllowedSigner):
        assert parse_line(format_line(entry)) == entry


@pytest.mark.parametrize(
    "entry",
    [
        AllowedSigner(ANNA, ()),
        AllowedSigner(ANNA, ("!a",)),
        AllowedSigner(ANNA, ('a"b',)),
        AllowedSigner(ANNA, ("a,b",)),
        AllowedSigner(ANNA, ("a\nb",)),
        AllowedSigner(ANNA, ("a",), ('x"',)),
        AllowedSigner(ANNA, ("a",), ("x\\",)),
        AllowedSigner(ANNA, ("a",), None, 200, 100),
        AllowedSigner(ANNA, ("a",), None, 0),
    ],
    ids=str,
)
def test_an_entry_that_no_line_can_carry_is_not_written(entry: AllowedSigner) -> None:
    with pytest.raises(FormatError, match="cannot be written"):
        format_line(entry)


# Files


def test_a_file_is_read_line_by_line_and_knows_its_places() -> None:
    data = f"# team\r\n\r\nanna {LINE}\r\nbob {RSA_LINE}\nbob {SECURITY_KEY_LINE}\nbob {format_openssh(BOB).decode()}"
    keyring = Keyring.parse(data.encode(), "signers")
    assert [(entry.public, entry.source, entry.line) for entry in keyring.entries] == [
        (ANNA, "signers", 3),
        (BOB, "signers", 6),
    ]
    assert keyring.skipped == (
        Skipped("ssh-rsa", "signers", 4),
        Skipped("sk-ssh-ed25519@openssh.com", "signers", 5),
    )
    assert [one.message.split(" keys")[0] for one in keyring.skipped] == [
        "signers:4: ssh-rsa",
        "signers:5: sk-ssh-ed25519@openssh.com",
    ]


@pytest.mark.parametrize("data", [b"", b"\n\n", b"# nobody\n"])
def test_an_empty_file_trusts_nobody(data: bytes) -> None:
    keyring = Keyring.parse(data, "signers")
    assert keyring.entries == ()
    assert keyring.public(ANNA.key_id) is None
    assert isinstance(keyring.trusts(ANNA.key_id, "x", None), Refusal)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (f"anna {LINE}\nbob ssh-ed25519 AAAA\n".encode(), "signers:2: the key is not"),
        (b"\n\xff\n", "signers:2: not UTF-8 at byte 0"),
        (b"\xef\xbb\xbfanna " + LINE.encode(), "signers:1: a character that cannot be seen"),
        (f"anna {LINE}\0\n".encode(), "signers:1: a control character"),
        (b"#" * (MAX_BYTES + 1), "signers: 1,048,577 bytes are too many"),
    ],
)
def test_B06_one_bad_line_makes_the_whole_file_an_error(data: bytes, expected: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Keyring.parse(data, "signers")
    assert caught.value.message.startswith(expected)


# Trust


def trusted(answer: TrustedKey | Refusal) -> TrustedKey:
    assert isinstance(answer, TrustedKey)
    return answer


def refused(answer: TrustedKey | Refusal) -> tuple[str, str]:
    assert isinstance(answer, Refusal)
    return answer.reason, answer.message


def test_refusals_say_which_of_the_reasons_it_is() -> None:
    text = f'anna namespaces="safeai-verdict",valid-after="20260101Z",valid-before="20270101Z" {LINE}'
    keyring = Keyring.parse(text.encode(), "signers")
    start, end = at("2026-01-01 00:00:00"), at("2027-01-01 00:00:00")
    assert trusted(keyring.trusts(ANNA.key_id, "safeai-verdict", start)).public == ANNA
    assert trusted(keyring.trusts(ANNA.key_id, "safeai-verdict", end - 1)).key_id == ANNA.key_id
    assert refused(keyring.trusts(BOB.key_id, "safeai-verdict", start)) == (
        "unknown-key",
        f"key {BOB.key_id} is not listed in signers",
    )
    where = f"key {ANNA.key_id} (signers:1)"
    assert refused(keyring.trusts(ANNA.key_id, "safeai-approval", start)) == (
        "wrong-namespace",
        f"{where} is not allowed to sign for safeai-approval",
    )
    assert refused(keyring.trusts(ANNA.key_id, "safeai-verdict", start - 1)) == (
        "not-yet-valid",
        f"{where} is valid only from 2026-01-01T00:00:00Z",
    )
    assert refused(keyring.trusts(ANNA.key_id, "safeai-verdict", end)) == (
        "expired",
        f"{where} was valid only before 2027-01-01T00:00:00Z",
    )
    assert refused(keyring.trusts(ANNA.key_id, "safeai-verdict", None))[0] == "time-unknown"


def test_a_key_without_limits_serves_any_purpose_at_any_time() -> None:
    keyring = Keyring.parse(f"anna {LINE}".encode(), "signers")
    for when in (None, 0, 10**12):
        assert trusted(keyring.trusts(ANNA.key_id, "whatever", when)).principal == "anna"


def test_without_a_time_half_a_window_does_not_serve_either() -> None:
    for limit in ('valid-after="20260101Z"', 'valid-before="20260101Z"'):
        keyring = Keyring.parse(f"anna {limit} {LINE}".encode(), "signers")
        assert refused(keyring.trusts(ANNA.key_id, "x", None))[0] == "time-unknown"


def test_all_lines_of_a_key_are_considered() -> None:
    lines = [
        f'anna valid-before="20260101Z" {LINE}',
        f'ops,*@ci valid-after="20260601Z" {LINE}',
        f'!eve,root namespaces="x" {LINE}',
    ]
    keyring = Keyring.parse("\n".join(lines).encode(), "signers")
    assert [entry.line for entry in keyring.find(ANNA.key_id)] == [1, 2, 3]
    assert keyring.public(ANNA.key_id) == ANNA
    early = trusted(keyring.trusts(ANNA.key_id, "y", at("2025-01-01 00:00:00")))
    late = trusted(keyring.trusts(ANNA.key_id, "x", at("2026-07-01 00:00:00")))
    assert (early.principal, late.principal) == ("anna", "ops")
    assert [entry.line for entry in late.lines] == [2, 3]
    assert late.names("b@ci")
    assert late.names("root")
    assert not late.names("anna")
    assert trusted(keyring.trusts(ANNA.key_id, "x", None)).principal == "root"
    assert refused(keyring.trusts(ANNA.key_id, "y", at("2026-03-01 00:00:00")))[0] == "expired"
    reordered = Keyring.parse("\n".join(reversed(lines)).encode(), "signers")
    assert refused(reordered.trusts(ANNA.key_id, "y", at("2026-03-01 00:00:00")))[0] == "expired"


@given(st.lists(ENTRIES, max_size=4), st.sampled_from(["safeai-verdict", "x"]), st.none() | TIMES)
def test_a_key_is_trusted_exactly_when_one_of_its_lines_serves(
    entries: list[AllowedSigner], namespace: str, when: int | None
) -> None:
    answer = Keyring(tuple(entries)).trusts(ANNA.key_id, namespace, when)
    serving = [one for one in entries if one.public == ANNA and one.refusal(namespace, when) is None]
    assert isinstance(answer, TrustedKey) == bool(serving)


def test_times_are_shown_in_utc() -> None:
    assert format_time(at("2026-01-31 09:30:00")) == "2026-01-31T09:30:00Z"


# OpenSSH as the judge


@dataclass(frozen=True)
class Judge:
    """The real ``ssh-keygen -Y verify``, with one signature to judge by different allowed_signers files."""

    folder: Path
    public: PublicKey

    def accepts(self, line: str, when: int, *, name: str = "anna") -> bool:
        (self.folder / "signers").write_text(line)
        stamp = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(when))
        with (self.folder / "message").open("rb") as message:
            done = subprocess.run(
                [SSH_KEYGEN, "-Y", "verify", "-f", "signers", "-I", name, "-n", "safeai-verdict",
                 "-s", "message.sig", f"-Overify-time={stamp}"],
                cwd=self.folder, stdin=message, capture_output=True, env={**os.environ, "TZ": "UTC"},
            )  # fmt: skip
        return done.returncode == 0

    def names(self, line: str, when: int) -> list[str]:
        (self.folder / "signers").write_text(line)
        stamp = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(when))
        done = subprocess.run(
            [SSH_KEYGEN, "-Y", "find-principals", "-f", "signers", "-s", "message.sig", f"-Overify-time={stamp}"],
            cwd=self.folder, capture_output=True, text=True, env={**os.environ, "TZ": "UTC"},
        )  # fmt: skip
        return done.stdout.split("\n")[:-1] if done.returncode == 0 else []


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    folder = tmp_path_factory.mktemp("judge")
    (folder / "message").write_bytes(b"m")
    make = [SSH_KEYGEN, "-q", "-t", "ed25519", "-N", "", "-f", "key"]
    sign = [SSH_KEYGEN, "-q", "-Y", "sign", "-f", "key", "-n", "safeai-verdict", "message"]
    for command in (make, sign):
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    line = " ".join((folder / "key.pub").read_text().split()[:2])
    return Judge(folder, one(f"a {line}").public)


START, END = at("2026-01-31 09:30:00"), at("2026-02-28 00:00:00")


@needs_ssh_keygen
@pytest.mark.parametrize("when", [1, START - 1, START, START + 1, END - 1, END + 1, END + 10**8])
@pytest.mark.parametrize(
    "options",
    [
        "",
        'valid-after="202601310930Z"',
        'valid-before="20260228Z"',
        'valid-after="20260131093000Z",valid-before="20260228UTC"',
        'VALID-AFTER="202601310930z"',
        'namespaces="safeai-verdict"',
        'namespaces="safeai-*"',
        'namespaces="*,!safeai-verdict"',
        'namespaces="other,safeai-?erdict"',
        'namespaces="SAFEAI-VERDICT"',
        'namespaces=""',
        'namespaces=" safeai-verdict"',
        'namespaces="safeai-verdict",valid-before="20260228Z"',
    ],
)
def test_openssh_agrees_on_namespaces_and_times(judge: Judge, options: str, when: int) -> None:
    line = f"anna {options} {format_openssh(judge.public).decode()}"
    answer = Keyring.parse(line.encode(), "signers").trusts(judge.public.key_id, "safeai-verdict", when)
    assert isinstance(answer, TrustedKey) == judge.accepts(line, when)


@needs_ssh_keygen
def test_openssh_still_takes_the_second_at_which_ours_has_ended(judge: Judge) -> None:
    line = f'anna valid-before="20260228Z" {format_openssh(judge.public).decode()}'
    keyring = Keyring.parse(line.encode(), "signers")
    assert judge.accepts(line, END)
    assert refused(keyring.trusts(judge.public.key_id, "safeai-verdict", END))[0] == "expired"


@needs_ssh_keygen
@pytest.mark.parametrize("name", ["anna", "anna@example.com", "bob", "a b", "#x", "Anna"])
@pytest.mark.parametrize(
    "principals",
    [
        "anna",
        "*@example.com",
        "bob,anna",
        "*,!anna",
        "!anna,*",
        '"a b"',
        '"anna,a b"',
        "ann?",
        "*n*",
        '"#x"',
        "x=y,anna",
    ],
)
def test_openssh_agrees_on_principals(judge: Judge, principals: str, name: str) -> None:
    line = f"{principals} {format_openssh(judge.public).decode()} comment"
    keyring = Keyring.parse(line.encode(), "signers")
    answer = trusted(keyring.trusts(judge.public.key_id, "safeai-verdict", START))
    assert answer.names(name) == judge.accepts(line, START, name=name)


@needs_ssh_keygen
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_openssh_reads_the_lines_that_we_write(judge: Judge, data: st.DataObject) -> None:
    after, before = data.draw(
        st.tuples(st.none() | TIMES, st.none() | TIMES).filter(lambda w: None in w or w[0] < w[1])
    )
    namespaces = data.draw(
        st.none() | st.lists(st.sampled_from(["safeai-verdict", "s*", "!x", "x"]), max_size=2)
    )
    patterns = None if namespaces is None else tuple(namespaces)
    entry = AllowedSigner(judge.public, ("anna",), patterns, after, before)
    when = data.draw(TIMES.filter(lambda moment: moment != before))
    answer = Keyring((entry,)).trusts(judge.public.key_id, "safeai-verdict", when)
    assert isinstance(answer, TrustedKey) == judge.accepts(format_line(entry), when)


@needs_ssh_keygen
def test_openssh_finds_the_same_principals(judge: Judge) -> None:
    line = format_openssh(judge.public).decode()
    text = f'anna valid-before="20260131Z" {line}\nbob {line}\n'
    keyring = Keyring.parse(text.encode(), "signers")
    for when in (START, at("2026-01-01 00:00:00")):
        answer = trusted(keyring.trusts(judge.public.key_id, "safeai-verdict", when))
        assert judge.names(text, when)[0] == answer.principal
