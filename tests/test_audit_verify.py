"""``safeai audit``: a log in order, and a table of what was done to one, with what is said about it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Result
from tools_cli import PATIENCE
from tools_log import LOG_KEY, LOG_SIGNER, ORIGIN, OTHER_SIGNER, WITNESS_SIGNER

from safeai_git.audit import Anchor, Report, verify_file
from safeai_git.core.errors import FormatError, LogProofInvalid
from safeai_git.core.log import base64
from safeai_git.core.log.checkpoint import Checkpoint
from safeai_git.core.log.entry import Draft, completed, format_commit
from safeai_git.core.log.merkle import Frontier, leaf_hash
from safeai_git.core.log.note import ED25519, Note, NoteKey, NoteSignature
from safeai_git.core.log.proof import LogProof, verify_proof
from safeai_git.core.publickey import format_openssh
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.open_log import open_file_log
from safeai_git.keys.ed25519 import Ed25519Signer, verify
from safeai_git.keys.seal import seal

ROOT = Path(__file__).parent.parent
AGENT = WITNESS_SIGNER
PUBLIC = format_openssh(AGENT.public).decode()


def drafts() -> list[Draft]:
    """A key that is registered, two verdicts signed with it, one by a stranger, and a word about policy."""
    return [
        Draft.of_data("keychange", "key", {"action": "register", "public": PUBLIC}),
        Draft.of_envelope("verdict", "one", seal(b'{"n":1}', [AGENT])),
        Draft.of_envelope("verdict", "two", seal(b'{"n":2}', [AGENT])),
        Draft.of_envelope("verdict", "stranger", seal(b'{"n":3}', [OTHER_SIGNER])),
        Draft.of_data("policy", "policy", {"version": 1}),
    ]


def make(folder: Path, entries: list[Draft], signer: Ed25519Signer = LOG_SIGNER) -> Path:
    """A log with one commit line for each entry, and audit.head beside it."""
    folder.mkdir(exist_ok=True)
    log = open_file_log(folder, LogSigner(ORIGIN, [signer]), reserve=0, now=lambda: 1_767_323_045)
    for entry in entries:
        log.append(entry)
    log.close()
    return folder / "audit.log"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("good"), drafts())


@pytest.fixture(scope="module")
def anchor(good: Path) -> Anchor:
    return Anchor("my notes", (good.parent / "audit.head").read_bytes())


def check(path: Path, *anchors: Anchor, keys: tuple[NoteKey, ...] = (LOG_KEY,)) -> Report:
    return verify_file(path, keys=keys, anchors=anchors)


def said(report: Report) -> str:
    return " | ".join(map(str, report.faults))


def test_a_log_in_order(good: Path, anchor: Anchor) -> None:
    seen: list[bytes] = []
    told: list[tuple[int, int]] = []
    report = verify_file(
        good,
        keys=[LOG_KEY],
        anchors=[anchor],
        progress=lambda done, total: told.append((done, total)),
        sink=lambda line, leaf: seen.append(line),
    )
    assert (report.state, report.faults) == ("consistent", [])
    assert (report.size, report.committed, report.commits) == (6, 6, 6)
    assert (report.checked, report.unknown) == (2, 1)
    assert report.anchors == [("my notes", 6, True)]
    assert report.anchored == 6
    assert seen == [line for line in good.read_bytes().splitlines() if line.startswith(b'{"seq"')]
    assert told[-1] == (good.stat().st_size, good.stat().st_size)


def test_an_older_anchor_vouches_for_less(good: Path) -> None:
    lines = good.read_bytes().splitlines()
    note = json.loads(lines[5])["checkpoint"].encode()
    report = check(good, Anchor("older", note))
    assert report.state == "consistent"
    assert report.anchored == 3


def test_B84_every_flipped_bit_is_found(tmp_path: Path) -> None:
    """One bit of every byte. Only in the very last line can it pass for a crash, and then every entry is there."""
    small = make(tmp_path / "small", drafts()[:2])
    anchor = Anchor("my notes", (small.parent / "audit.head").read_bytes())
    data = small.read_bytes()
    last_line = data.rindex(b"\n", 0, -1) + 1
    path = tmp_path / "audit.log"
    begins = [0, *(at + 1 for at in range(len(data)) if data[at : at + 1] == b"\n")]
    for at in range(len(data)):
        wrong = bytearray(data)
        wrong[at] ^= 1 << (at % 8)
        path.write_bytes(wrong)
        report = check(path, anchor)
        if at >= last_line and report.state == "torn":
            assert report.size == report.anchored == 3
            continue
        assert report.state == "tampered", at
        line = sum(begin <= at for begin in begins)
        fault = report.faults[0]
        assert line <= fault.line <= line + 1, (at, said(report))
        assert fault.offset <= begins[line] if line < len(begins) else True


Change = Callable[[list[bytes]], list[bytes]]


def entry_lines(lines: list[bytes]) -> list[bytes]:
    return [line for line in lines if line.startswith(b'{"seq"')]


def rebuilt(
    lines: list[bytes], change: Callable[[bytes], bytes], signer: Ed25519Signer = LOG_SIGNER
) -> list[bytes]:
    """Change entries and write the chain behind them anew, with checkpoints signed by a key; time and size stay."""
    key = NoteKey(ORIGIN, ED25519, signer.public.raw)
    frontier, prev, made = Frontier(), "", []
    for line in lines:
        if not line.startswith(b'{"seq"'):
            text = Checkpoint(ORIGIN, frontier.size, frontier.root()).format()
            note = Note(text, (NoteSignature(ORIGIN, key.id, signer.sign(text.encode())),))
            made.append(format_commit(note.format()))
            continue
        stated = json.loads(line)["prev"].encode()
        entry = change(line.replace(b'"prev":"' + stated, b'"prev":"' + prev.encode(), 1))
        leaf = leaf_hash(entry)
        frontier.append(leaf)
        prev = base64.encode(leaf)
        made.append(entry)
    return made


def newer_policy(line: bytes) -> bytes:
    return line.replace(b'"version":1}', b'"version":2}')


def other_start(line: bytes) -> bytes:
    key = NoteKey(ORIGIN, ED25519, OTHER_SIGNER.public.raw).format().encode()
    return line.replace(LOG_KEY.format().encode(), key)


TAMPERED: dict[str, tuple[Change, str]] = {
    "swapped entries": (lambda x: [*x[:2], x[4], x[3], x[2], *x[5:]], "number 2, and number 1 is due"),
    "deleted entry": (lambda x: [*x[:4], *x[6:]], "number 3, and number 2 is due"),
    "deleted entry, commit line kept": (lambda x: [*x[:4], *x[5:]], "over 3 entries, and 2 stand"),
    "inserted entry": (lambda x: [*x[:4], x[2], *x[4:]], "number 1, and number 2 is due"),
    "inserted line": (lambda x: [*x[:4], b"hello", *x[4:]], "line 5 "),
    "inserted empty line": (lambda x: [*x[:4], b"", *x[4:]], "line 5 "),
    "doubled batch": (lambda x: [*x[:6], *x[4:]], "number 2, and number 3 is due"),
    "doubled commit line": (lambda x: [*x[:6], *x[5:]], "second commit line"),
    "cut middle": (lambda x: [*x[:4], *x[8:]], "number 4, and number 2 is due"),
    "cut beginning": (lambda x: x[2:], "number 1, and number 0 is due"),
    "cut tail": (lambda x: x[:8], "cut off or an older copy: the file holds 4 entries, and my notes"),
    "cut tail in a batch": (lambda x: x[:9], "cut off or an older copy: the file holds 5 entries"),
    "emptied": (lambda x: [], "cut off or an older copy: the file holds 0 entries"),
    "a field changed": (
        lambda x: [*x[:10], newer_policy(x[10]), *x[11:]],
        "one of the entries 5 to 5 was changed",
    ),
    "chain rebuilt without the key": (
        lambda x: rebuilt(x, newer_policy, OTHER_SIGNER),
        "is not signed by a key of that log",
    ),
    "chain rebuilt with the key": (
        lambda x: rebuilt(x, newer_policy),
        "forked or rewritten: over its first 6 entries",
    ),
    "rebuilt and longer": (
        lambda x: rebuilt(
            [*x, *(line.replace(b'"seq":5', b'"seq":6').replace(b'"id":"', b'"id":"z') for line in x[10:])],
            newer_policy,
        ),
        "forked or rewritten: over its first 6 entries",
    ),
    "the same id twice": (
        lambda x: rebuilt(x, lambda line: line.replace(b'"id":"two"', b'"id":"one"')),
        "entries 2 and 3 have the same id",
    ),
    "a verdict changed by a holder of the key": (
        lambda x: rebuilt(
            x, lambda line: line.replace(b'"payload":"eyJuIjoxfQ=="', b'"payload":"eyJuIjo5fQ=="')
        ),
        "in entry 2 does not hold",
    ),
    "a key revoked before its verdict": (
        lambda x: rebuilt(
            x,
            lambda line: (
                line
                if b'"id":"one"' not in line
                else line[: line.index(b'"kind"')]
                + Draft.of_data("keychange", "one", {"action": "revoke", "key": AGENT.key_id}).rest
            ),
        ),
        "which entry 2 revoked",
    ),
    "a head without its entry": (lambda x: [*x[:4], *x[5:]], "over 3 entries, and 2 stand before it"),
    "CRLF": (lambda x: [line + b"\r" for line in x], "line 1 "),
    "all commit lines gone, and the end": (lambda x: entry_lines(x)[:5], "cut off or an older copy"),
}


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The lines of a log with so many verdicts that their signatures are checked in several processes."""
    folder = tmp_path_factory.mktemp("busy")
    log = open_file_log(folder, LogSigner(ORIGIN, [LOG_SIGNER]), reserve=0, now=lambda: 1_767_323_045)
    log.submit([*drafts()[:1], *(verdict(number) for number in range(600))]).wait()
    log.submit([Draft.of_data("keychange", "end", {"action": "revoke", "key": AGENT.key_id}), verdict(600)])
    log.close()
    return (folder / "audit.log").read_bytes().splitlines()


def verdict(number: int) -> Draft:
    return Draft.of_envelope("verdict", f"verdict-{number}", seal(b'{"n":%d}' % number, [AGENT]))


def spoiled(lines: list[bytes], *numbers: int) -> list[bytes]:
    """With signatures by nobody in some entries, and everything else made to fit."""
    ids = [b'"id":"verdict-%d"' % number for number in numbers]
    other = b'"sig":"' + b64encode(bytes(64)) + b'"'
    return rebuilt(
        lines,
        lambda line: re.sub(rb'"sig":"[^"]*"', other, line) if any(one in line for one in ids) else line,
    )


SPOILED: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "nothing": (lambda x: x[:-3], ""),
    "what was signed after a revocation": (lambda x: x, "which entry 602 revoked"),
    "a signature": (lambda x: spoiled(x, 555), "in entry 557 does not hold"),
    "two": (lambda x: spoiled(x, 44, 555), "in entry 46 does not hold"),
    "one, and a line behind it": (
        lambda x: [*spoiled(x, 44)[:400], b"{}", *x[400:]],
        "in entry 46 does not hold",
    ),
    "one, and a line before it": (lambda x: [*x[:40], b"{}", *spoiled(x, 44)[40:]], "line 41 "),
}


@pytest.mark.parametrize("name", SPOILED)
def test_many_signatures_are_judged_as_one_by_one(busy: list[bytes], tmp_path: Path, name: str) -> None:
    change, expected = SPOILED[name]
    path = tmp_path / "audit.log"
    path.write_bytes(b"".join(line + b"\n" for line in change(busy)))
    seen: list[bytes] = []
    one_by_one = verify_file(path, keys=[LOG_KEY], sink=lambda line, leaf: seen.append(line))
    report = check(path)
    assert report == one_by_one
    assert report.checked == (600 if len(seen) > 600 else len(seen) - 2)
    assert expected in said(report)
    assert (report.state == "consistent") == (not expected)


@pytest.mark.parametrize("name", TAMPERED)
def test_B84_tampering_is_found_and_named(good: Path, anchor: Anchor, tmp_path: Path, name: str) -> None:
    change, expected = TAMPERED[name]
    path = tmp_path / "audit.log"
    path.write_bytes(b"".join(line + b"\n" for line in change(good.read_bytes().splitlines())))
    report = check(path, anchor)
    assert report.state == "tampered"
    assert expected in said(report), said(report)


def test_B84_a_file_of_another_log_or_another_key_is_named(
    good: Path, anchor: Anchor, tmp_path: Path
) -> None:
    other = make(tmp_path / "other", drafts(), OTHER_SIGNER)
    report = check(other, anchor)
    assert report.state == "tampered"
    assert "is not signed by a key of that log" in said(report)
    # Nobody vouches for the key: the file's own word is taken, and contradicts the anchor.
    report = check(other, anchor, keys=())
    assert report.state == "tampered"
    assert "was written anew with another key" in said(report)
    assert report.keys_claimed
    report = check(other, keys=())
    assert report.state == "consistent"
    assert report.keys_claimed
    elsewhere = Anchor("elsewhere", LogSigner("other.example", [LOG_SIGNER]).sign(1, bytes(32)))
    with pytest.raises(FormatError, match="elsewhere does not fit this log's key"):
        check(good, elsewhere)


def test_B84_all_commit_lines_gone_is_not_in_order(good: Path, anchor: Anchor, tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(b"".join(line + b"\n" for line in entry_lines(good.read_bytes().splitlines())))
    assert check(path, anchor).state == "consistent", "every entry is there, and the anchor signs for them"
    report = check(path)
    assert report.state == "torn"
    assert "the last 6 of 6 entries are covered by no signed checkpoint" in said(report)


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_torn_end_is_told_from_tampering(good: Path, tmp_path: Path, cut: int) -> None:
    data = good.read_bytes()
    path = tmp_path / "audit.log"
    path.write_bytes(data[:-cut])
    report = check(path)
    assert report.state == "torn", said(report)
    path.write_bytes(data + bytes(300))
    report = check(path)
    assert (report.state, report.size) == ("torn", 6)
    path.write_bytes(data[:400] + bytes(300) + data[700:])
    assert check(path).state == "tampered"


# the command


def safeai(*arguments: str, environment: dict[str, str], **variables: str) -> Result:
    program = [sys.executable, "-c", "from safeai_git.admin import main; main()", *arguments]
    done = subprocess.run(program, capture_output=True, cwd=ROOT, env=environment | variables)
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, base_environment: dict[str, str]) -> Path:
    """A data folder as an operator has it, with a key made by the command and a log of some entries."""
    folder = tmp_path_factory.mktemp("data")
    made = safeai("keys", "generate", environment=base_environment, SAFEAI_DATA_DIR=str(folder))
    assert made.code == 0, made.both
    code = (
        "import sys\nfrom pathlib import Path\nfrom safeai_git.governor.open_log import open_file_log\n"
        "from safeai_git.governor.log_signer import LogSigner\nfrom safeai_git.keys.signer import load_signer\n"
        "from safeai_git.core.log.entry import Draft\nfolder = Path(sys.argv[1])\n"
        "signer = load_signer(folder / 'keys' / 'ed25519.default.sk')\n"
        "log = open_file_log(folder, LogSigner('governor.example/audit', [signer]), reserve=0)\n"
        "for number in range(300): log.append(Draft.of_data('policy', f'id-{number}', {'n': number}))\nlog.close()\n"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, cwd=ROOT, timeout=PATIENCE)
    return folder


def test_the_guides_command_verifies_the_data_folder(data: Path, environment: dict[str, str]) -> None:
    done = safeai("audit", "--verify", environment=environment, SAFEAI_DATA_DIR=str(data))
    assert done.code == 0, done.both
    assert f"CONSISTENT: {data}/audit.log of governor.example/audit\n" in done.out
    assert "Internally consistent to 301 entries; 301 signed checkpoints, the newest over 301.\n" in done.out
    assert "which lies beside the log and so proves little" in done.out
    assert "cannot be excluded" in done.out
    assert done.err == "", "no progress bar without a terminal"
    anchored = safeai(
        *("audit", "--verify", "--require-anchor", "--anchor", str(data / "audit.head")),
        environment=environment,
        SAFEAI_DATA_DIR=str(data),
    )
    assert anchored.code == 0
    assert "Anchored to 301 entries by" in anchored.out
    assert "cannot be excluded" not in anchored.out
    bare = safeai("audit", "--verify", "--require-anchor", environment=environment, SAFEAI_DATA_DIR=str(data))
    assert bare.code == 1


def test_a_copy_verifies_anywhere(data: Path, environment: dict[str, str], tmp_path: Path) -> None:
    copy = shutil.copy(data / "audit.log", tmp_path / "audit_20260102.log")
    done = safeai("audit", "--verify", str(copy), environment=environment)
    assert done.code == 0, done.both
    assert "The key is the log's own word" in done.out
    key = str(data / "keys" / "ed25519.default.pub")
    done = safeai("audit", "--verify", str(copy), "--key", key, "--json", environment=environment)
    assert done.code == 0, done.both
    found = json.loads(done.out)
    assert (found["state"], found["size"], found["keys_claimed"]) == ("consistent", 301, False)
    done = safeai("audit", "verify", "--key", found["keys"][0], str(copy), environment=environment)
    assert done.code == 0, done.both


def test_each_ending_has_its_exit_code(data: Path, environment: dict[str, str], tmp_path: Path) -> None:
    lines = (data / "audit.log").read_bytes().splitlines(keepends=True)
    head = str(data / "audit.head")
    path = tmp_path / "audit.log"
    key = ("--key", str(data / "keys" / "ed25519.default.pub"))
    path.write_bytes(b"".join(lines[:40]))
    cut = safeai("audit", "--verify", str(path), *key, environment=environment)
    assert (cut.code, "cannot be excluded" in cut.out) == (0, True)
    cut = safeai("audit", "--verify", str(path), *key, "--anchor", head, environment=environment)
    assert cut.code == 2
    assert "TAMPERED" in cut.out
    assert f"the file holds 20 entries, and {head} is a checkpoint over 301" in cut.out
    path.write_bytes(b"".join(lines)[:-10])
    torn = safeai("audit", "--verify", str(path), *key, environment=environment)
    assert torn.code == 3, torn.both
    assert "TORN" in torn.out
    path.write_bytes(b"".join([*lines[:10], *lines[12:]]))
    bad = safeai("audit", "--verify", str(path), *key, environment=environment)
    assert bad.code == 2
    assert "line 11 (byte " in bad.out
    assert "entry 5 is due" in bad.out
    for unreadable in (tmp_path / "missing", tmp_path, data / "keys" / "ed25519.default.pub"):
        done = safeai("audit", "--verify", str(unreadable), environment=environment)
        assert done.code == 4, (unreadable, done.both)
        assert done.err.startswith("safeai: ")
    wrong = safeai("audit", "--verify", str(path), "--key", "nonsense", environment=environment)
    assert wrong.code == 2
    assert "name a .pub file or a verifier key" in wrong.err


def test_a_hostile_file_cannot_speak_to_the_terminal(environment: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(b'{"seq":0,"prev":"\x1b[31m"}\n')
    done = safeai("audit", "--verify", str(path), environment=environment)
    assert done.code == 2, done.both
    assert "\x1b" not in done.both
    path.write_bytes(b'{"seq":0' + b"x" * 2_000_000)
    done = safeai("audit", "--verify", str(path), environment=environment)
    assert done.code == 3
    assert len(done.both) < 2_000


def test_entries_are_shown_proven_and_exported(
    data: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    here = {"environment": environment, "SAFEAI_DATA_DIR": str(data)}
    shown = safeai("audit", "tail", "-n", "2", **here)
    assert [line.split()[0] for line in shown.out.splitlines()] == ["299", "300"]
    raw = safeai("audit", "tail", "-n", "1", "--raw", **here).out.strip().encode()
    done = safeai("audit", "prove", "300", "--to", str(tmp_path / "p.tlog-proof"), **here)
    assert done.code == 0, done.both
    proof = LogProof.parse((tmp_path / "p.tlog-proof").read_bytes())
    key = NoteKey.parse(json.loads((data / "audit.log").read_bytes().split(b"\n")[0])["data"]["keys"][0])
    assert verify_proof(proof, leaf_hash(raw), "governor.example/audit", [key], verify).checkpoint.size == 301
    assert proof.extra is not None
    assert completed(proof.extra, b'{"n":299}') == raw
    assert safeai("audit", "prove", "7", **here).out.startswith("c2sp.org/tlog-proof@v1\n")
    assert safeai("audit", "prove", "301", **here).code == 2
    found = json.loads(safeai("audit", "consistency", "100", "301", "--json", **here).out)
    assert len(b64decode(found["old_root"])) == 32
    assert found["new_root"].encode() in (data / "audit.head").read_bytes()
    assert "is the beginning of size 301" in safeai("audit", "consistency", "100", "301", **here).out
    assert safeai("audit", "consistency", "100", "302", **here).code == 2
    done = safeai("audit", "export", "--to", str(tmp_path / "copy.log"), **here)
    assert done.code == 0, done.both
    assert (tmp_path / "copy.log").read_bytes() == (data / "audit.log").read_bytes()
    assert safeai("audit", "export", "--to", str(tmp_path / "copy.log"), **here).code == 2
    assert safeai("audit", "export", **here).code == 2
    broken = tmp_path / "broken.log"
    broken.write_bytes((data / "audit.log").read_bytes().replace(b'{"n":7}', b'{"n":8}'))
    done = safeai("audit", "prove", "3", str(broken), **here)
    assert done.code == 3
    assert "is not in order" in done.err
    assert "run 'safeai audit --verify" in done.err


def test_a_terminal_sees_a_bar(data: Path, environment: dict[str, str]) -> None:
    import pty

    master, slave = pty.openpty()
    program = [sys.executable, "-c", "from safeai_git.admin import main; main()", "audit", "--verify"]
    done = subprocess.run(
        program,
        stdout=subprocess.PIPE,
        stderr=slave,
        cwd=ROOT,
        env=environment | {"SAFEAI_DATA_DIR": str(data)},
    )
    os.close(slave)
    assert done.returncode == 0
    assert b"] 100%" in os.read(master, 4096)
    os.close(master)


def test_nothing_is_proven_out_of_a_log_without_a_checkpoint(good: Path, tmp_path: Path) -> None:
    from safeai_git.audit_proofs import read

    path = tmp_path / "audit.log"
    path.write_bytes(b"".join(line + b"\n" for line in entry_lines(good.read_bytes().splitlines())))
    with pytest.raises(LogProofInvalid, match=r"no signed checkpoint|covered by no signed"):
        read(path, [LOG_KEY])
