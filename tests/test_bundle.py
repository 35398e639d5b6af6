"""Evidence bundles: made in a real repository, proven without one, and refused part by part."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import POLICY, Repo, Result
from hypothesis import given
from hypothesis import strategies as st
from tools_log import LOG_KEY, LOG_SIGNER, ORIGIN, OTHER_SIGNER

from safeai_git.bundle import Demands, Examined, examine
from safeai_git.core import canonical
from safeai_git.core.bundle import Bundle
from safeai_git.core.envelope import Envelope
from safeai_git.core.errors import FormatError
from safeai_git.core.log.entry import Draft
from safeai_git.core.log.note import ED25519, NoteKey
from safeai_git.core.log.proof import LogProof
from safeai_git.core.publickey import format_openssh
from safeai_git.core.receipt import Receipt as Kept
from safeai_git.core.values import replace
from safeai_git.core.verdict import parse_statement
from safeai_git.git.notes import Notes
from safeai_git.git.repository import discover
from safeai_git.governor.audit_log import Receipt
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.open_log import open_file_log
from safeai_git.keys.file import generate
from safeai_git.keys.keyring import Keyring
from safeai_git.keys.seal import seal
from safeai_git.schema import faults

NOW = 4_000_000_000.0
OTHER_LOG = NoteKey(ORIGIN, ED25519, OTHER_SIGNER.public.raw)


@dataclass
class Evidence:
    """Two approved commits in one repository, a log that holds what was signed, and a bundle of each."""

    repo: Repo
    signers: Path
    bundles: tuple[Path, Path]
    commits: tuple[str, str]
    logged: Path

    def data(self, number: int = 0) -> Any:
        return json.loads(self.bundles[number].read_bytes())

    def verify(self, *arguments: str, env: dict[str, str] | None = None) -> Result:
        return anywhere(self.repo, "verify", "--signers", str(self.signers), *arguments)


def anywhere(repo: Repo, *arguments: str, stdin: bytes = b"") -> Result:
    """The command line in a folder without any repository."""
    folder = repo.path.parent / "elsewhere"
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "safeai_git", *arguments],
        cwd=folder,
        env=repo.environment | {"GIT_CEILING_DIRECTORIES": str(repo.path.parent)},
        input=stdin,
        capture_output=True,
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


def lines(repo: Repo, name: str) -> list[bytes]:
    return [line for line in repo.git_bytes("notes", "--ref", "safeai", "show", name).split(b"\n") if line]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, base_environment: dict[str, str]) -> Evidence:
    tmp_path = tmp_path_factory.mktemp("evidence")
    (tmp_path / "repo").mkdir()
    governed = Repo(tmp_path / "repo", base_environment | {"XDG_CONFIG_HOME": str(tmp_path / "config")})
    governed.git("init", "-q")
    keys = [generate(tmp_path / "config/safeai-git/keys", name, None) for name in ("default", "maria")]
    maria = {"SAFEAI_KEY": str(keys[1].secret)}
    ci, person = (format_openssh(one.public).decode() for one in keys)
    trusted = (
        f'ci@example.com namespaces="safeai-verdict" {ci}\n'
        f'maria@example.com namespaces="safeai-approval" {person}\n'
    )
    governed.commit(
        "start",
        {".safeai/policy.yaml": POLICY, ".safeai/allowed_signers": trusted, "src/a.py": "a = 1\n"},
    )
    commits = []
    for number in ("1", "2"):
        governed.commit(f"Number {number}", {f".github/workflows/{number}.yml": "on: push\n"}, ai=True)
        assert governed.safeai("check", "--range", "HEAD~1..HEAD").code == 1  # asks for review
        assert governed.safeai("approve", "HEAD", "-m", "read it", env=maria).code == 0
        commits.append(governed.git("rev-parse", "HEAD"))
    signers = tmp_path / "trusted"
    signers.write_bytes((governed.path / ".safeai/allowed_signers").read_bytes())
    logged = tmp_path / "receipts"
    logged.mkdir()
    (tmp_path / "log").mkdir()
    log = open_file_log(tmp_path / "log", LogSigner(ORIGIN, [LOG_SIGNER]), reserve=0)
    flags = []
    for name in commits:
        tree = governed.git("rev-parse", f"{name}^{{tree}}")
        for line in sorted({*lines(governed, name), *lines(governed, tree)}):
            envelope = Envelope.parse(line)
            kind = parse_statement(envelope.untrusted_payload).kind
            put = log.append(Draft.of_envelope(kind, f"sha256:{envelope.digest}", envelope))
            assert isinstance(put, Receipt)
            file = logged / envelope.digest
            file.write_bytes(put.proof().format())
            flags += ["--receipt", str(file)]
    log.close()
    bundles = []
    for at, name in enumerate(commits):
        bundles.append(tmp_path / f"{at}.json")
        done = governed.safeai("bundle", name, "-o", str(bundles[-1]), *flags)
        assert done.code == 0, done.both
    return Evidence(governed, signers, (bundles[0], bundles[1]), (commits[0], commits[1]), logged)


@pytest.fixture
def evidence(made: Evidence, tmp_path: Path) -> Evidence:
    """The same with a repository of the test's own."""
    shutil.copytree(made.repo.path, tmp_path / "repo")
    return replace(made, repo=Repo(tmp_path / "repo", made.repo.environment))


def test_it_is_proven_without_the_repository(evidence: Evidence) -> None:
    for file, commit in zip(evidence.bundles, evidence.commits, strict=True):
        done = evidence.verify(
            "--bundle", str(file), commit, "--log-key", LOG_KEY.format(), "--format", "json"
        )
        assert done.code == 0, done.both
        told = json.loads(done.out)
        assert faults(told, "output", "bundle") == []
        assert (told["decision"], told["verdict"], told["commit"]) == ("allow", "review", commit)
        assert told["approved_by"] == ["maria@example.com"]
        assert [one["part"] for one in told["parts"]] == [
            "objects", "policy", "verdict", "approvals", "report", "receipts",
        ]  # fmt: skip
        assert faults(json.loads(file.read_bytes()), "bundle") == []
    text = evidence.verify("--bundle", str(evidence.bundles[0])).out
    assert text.startswith(f"ALLOW bundle about commit {evidence.commits[0]} in test/repository\n")
    assert "receipts: 2, not checked: no key of a log was named" in text


def test_receipts_come_along_from_the_notes(evidence: Evidence, tmp_path: Path) -> None:
    """As ``safeai-git push`` keeps them: a line beside the envelope."""
    notes = Notes(discover(evidence.repo.path, evidence.repo.environment))
    for file in evidence.logged.iterdir():
        line = Kept(file.name, LogProof.parse(file.read_bytes())).format()
        for name in evidence.commits:
            notes.add(evidence.repo.git("rev-parse", f"{name}^{{tree}}"), [line])
    again = tmp_path / "again.json"
    assert evidence.repo.safeai("bundle", evidence.commits[0], "-o", str(again)).code == 0
    assert again.read_bytes() == evidence.bundles[0].read_bytes()


def test_equal_evidence_gives_equal_bytes(evidence: Evidence, tmp_path: Path) -> None:
    flags = [
        word for one in sorted(evidence.logged.iterdir(), reverse=True) for word in ("--receipt", str(one))
    ]
    clone = Repo(tmp_path / "clone", evidence.repo.environment)
    evidence.repo.git("clone", "-q", str(evidence.repo.path), str(clone.path))
    clone.git("fetch", "-q", "origin", "refs/notes/safeai:refs/notes/remotes/origin/safeai")
    done = clone.safeai("bundle", evidence.commits[0], *flags)
    assert done.code == 3
    assert "the full report" in done.err
    reports = evidence.repo.path / ".git/safeai/reports"
    (clone.path / ".git/safeai/reports").mkdir(parents=True)
    for one in reports.iterdir():
        (clone.path / ".git/safeai/reports" / one.name).write_bytes(one.read_bytes())
    assert (
        clone.safeai("bundle", evidence.commits[0], *flags).out.encode() == evidence.bundles[0].read_bytes()
    )


# The tamper table: (the part that is named, what is done to the bundle). `other` is the bundle of another commit.

Change = Callable[[Any, Any], Any]


def swap(member: str) -> Change:
    return lambda data, other: {**data, member: other[member]}


def put(member: str, value: Any) -> Change:
    return lambda data, other: {**data, member: value}


def recoded(data: Any, at: int, old: bytes, new: bytes) -> Any:
    """One object changed and named anew, as who tampers would."""
    objects = data["objects"]
    content = base64.b64decode(objects[at]["data"])
    assert old in content
    content = content.replace(old, new)
    framed = b"%b %d\0%b" % (objects[at]["kind"].encode(), len(content), content)
    objects[at] |= {
        "id": hashlib.sha1(framed).hexdigest(),
        "data": base64.b64encode(content).decode(),
    }
    objects.sort(key=lambda one: one["id"])
    return data


def a_commit(data: Any, other: Any) -> Any:
    at = next(at for at, one in enumerate(data["objects"]) if one["id"] == data["commit"])
    return recoded(data, at, b"Claude", b"Nobody")


def a_parent(data: Any, other: Any) -> Any:
    at = next(
        at
        for at, one in enumerate(data["objects"])
        if one["kind"] == "commit" and one["id"] != data["commit"]
    )
    return recoded(data, at, b"Maria", b"Marta")


def a_tree(data: Any, other: Any) -> Any:
    at = next(at for at, one in enumerate(data["objects"]) if one["kind"] == "tree")
    return recoded(data, at, b"100644 ", b"100755 ") if b"100644 " in base64.b64decode(
        data["objects"][at]["data"]
    ) else recoded(data, at, b"40000 ", b"40001 ")  # fmt: skip


def without_object(number: int) -> Change:
    return lambda data, other: {
        **data,
        "objects": [one for at, one in enumerate(data["objects"]) if at != number % len(data["objects"])],
    }


def nested(member: str, key: str, value: Any) -> Change:
    return lambda data, other: {
        **data,
        member: {**data[member], key: value(data, other) if callable(value) else value},
    }


def envelope(line: str, **changes: Any) -> str:
    parsed = json.loads(line)
    if "payload" in changes:
        payload = json.loads(base64.b64decode(parsed["payload"]))
        changes["payload"](payload)
        parsed["payload"] = base64.b64encode(canonical.dumps(payload)).decode()
    if "sig" in changes:
        raw = bytearray(base64.b64decode(parsed["signatures"][0]["sig"]))
        raw[5] ^= 1
        parsed["signatures"][0]["sig"] = base64.b64encode(raw).decode()
    return canonical.dumps(parsed).decode()


def later(payload: Any) -> None:
    payload["predicate"]["time"] = "2026-01-01T00:00:00Z"


def by_a_stranger(data: Any, other: Any) -> Any:
    payload = base64.b64decode(json.loads(data["verdict"])["payload"])
    return {**data, "verdict": seal(payload, [OTHER_SIGNER]).format().decode()}


def checkpoint_of(old: str, new: str) -> Change:
    def change(data: Any, other: Any) -> Any:
        for one in data["receipts"]:
            assert old in one["proof"]
            one["proof"] = one["proof"].replace(old, new)
        return data

    return change


def crossed(data: Any, other: Any) -> Any:
    first, second = data["receipts"]
    first["proof"], second["proof"] = second["proof"], first["proof"]
    return data


TABLE: list[tuple[str, str, Change]] = [
    ("commit: another name", "objects", swap("commit")),
    ("commit: left out", "commit", lambda data, other: {k: v for k, v in data.items() if k != "commit"}),
    ("commit: no name", "commit", put("commit", "main")),
    ("objects: those of another commit", "objects", swap("objects")),
    ("objects: the commit changed", "objects", a_commit),
    ("objects: a parent changed", "objects", a_parent),
    ("objects: a tree changed", "objects", a_tree),
    ("objects: none", "objects", put("objects", [])),
    ("objects: text", "objects: each has", put("objects", ["tree"])),
    ("objects: of another kind", "objects: each has", put("objects", [{"id": "0" * 40, "kind": "blob", "data": ""}])),
    ("objects: without content", "objects: each has", put("objects", [{"id": "0" * 40, "kind": "tree"}])),
    *((f"objects: number {at} left out", "objects", without_object(at)) for at in range(4)),
    (
        "objects: one more than is needed",
        "objects",
        lambda data, other: {
            **data,
            "objects": sorted(
                {one["id"]: one for one in (*data["objects"], *other["objects"])}.values(),
                key=lambda one: one["id"],
            ),
        },
    ),
    ("objects: under another name", "objects", lambda data, other: data["objects"][0].update(id="1" * 40) or data),
    ("policy: another text", "policy", nested("policy", "repository", "autonomy_tier: stable\n")),
    ("policy: one byte more", "policy", nested("policy", "repository", lambda data, _: data["policy"]["repository"] + "\n")),
    ("policy: the built-in one", "policy", nested("policy", "repository", None)),
    ("policy: left out", "policy", put("policy", None)),
    ("policy: of the commit itself", "objects", nested("policy", "commit", lambda data, _: data["commit"])),
    ("policy: of another commit", "objects", nested("policy", "commit", lambda _, other: other["commit"])),
    ("policy: of no commit", "objects", nested("policy", "commit", "")),
    ("policy: an organisation's above it", "verdict", nested("policy", "organisation", "autonomy_tier: stable\n")),
    ("policy: not YAML", "policy", nested("policy", "organisation", "a: [")),
    ("verdict: of another commit", "verdict", swap("verdict")),
    ("verdict: an approval in its place", "verdict", lambda data, other: {**data, "verdict": data["approvals"][0]}),
    ("verdict: left out", "verdict", put("verdict", None)),
    ("verdict: says allow", "verdict", lambda data, other: {**data, "verdict": envelope(
        data["verdict"], payload=lambda one: one["predicate"].update(decision="allow"))}),
    ("verdict: another time", "verdict", lambda data, other: {**data, "verdict": envelope(data["verdict"], payload=later)}),
    ("verdict: another signature", "verdict", lambda data, other: {**data, "verdict": envelope(data["verdict"], sig=1)}),
    ("verdict: signed by a stranger", "verdict", by_a_stranger),
    ("approvals: of another commit", "approvals", swap("approvals")),
    ("approvals: left out", "approvals", put("approvals", [])),
    ("approvals: another reason", "approvals", lambda data, other: {**data, "approvals": [
        envelope(data["approvals"][0], payload=lambda one: one["predicate"].update(reason="looked away"))]}),
    ("approvals: another signature", "approvals", lambda data, other: {**data, "approvals": [
        envelope(data["approvals"][0], sig=1)]}),
    ("approvals: twice", "approvals", lambda data, other: {**data, "approvals": data["approvals"] * 2}),
    ("approvals: a verdict among them", "approvals", lambda data, other: {**data, "approvals": sorted(
        [*data["approvals"], data["verdict"]])}),
    ("report: of another commit", "report", swap("report")),
    ("report: left out", "report", put("report", None)),
    ("report: no findings", "report", nested("report", "findings", [])),
    ("report: a check that passed", "report", nested("report", "evidence", [{"name": "unit", "result": "passed"}])),
    ("report: no object", "report", put("report", [])),
    ("receipts: of another commit", "receipts", swap("receipts")),
    ("receipts: left out", "receipts", put("receipts", [])),
    ("receipts: one left out", "receipts", lambda data, other: {**data, "receipts": data["receipts"][1:]}),
    ("receipts: crossed", "receipts", crossed),
    ("receipts: another index", "receipts", checkpoint_of("\nindex ", "\nindex 1")),
    ("receipts: of another log", "receipts", checkpoint_of("governor.example", "governed.example")),
    ("receipts: no proof", "receipts", checkpoint_of("tlog-proof@v1", "tlog-proof@v2")),
    ("type: another", "type", put("type", "https://safe-ai.dev/bundle/v2")),
    ("another member", "more", put("more", 1)),
]  # fmt: skip


def refusal(data: Any, keys: Keyring, demands: Demands) -> str:
    """The part that a bundle is refused for; empty when all of it holds."""
    try:
        found = examine(Bundle.parse(canonical.dumps(data) + b"\n"), keys, demands, now=NOW)
    except FormatError as error:
        return error.message
    if found.decision == "allow":
        return ""
    assert [part.holds for part in found.parts] == [True] * (len(found.parts) - 1) + [False]
    return found.parts[-1].name


def test_B80_each_part_changed_left_out_or_swapped_is_refused_by_name(evidence: Evidence) -> None:
    keys = Keyring.parse(evidence.signers.read_bytes(), "trusted")
    demands = Demands(log_keys=(LOG_KEY,))
    assert refusal(evidence.data(), keys, demands) == ""
    for name, part, change in TABLE:
        told = refusal(change(copy.deepcopy(evidence.data(0)), evidence.data(1)), keys, demands)
        assert part in told, (name, part, told)


def test_B80_the_whole_of_another_commit_is_not_the_commit_that_was_asked_for(evidence: Evidence) -> None:
    done = evidence.verify("--bundle", str(evidence.bundles[1]), evidence.commits[0])
    assert (done.code, "refused objects: the bundle is about" in done.out) == (1, True)
    # No prefix and no name: nobody could say here what they stand for.
    assert evidence.verify("--bundle", str(evidence.bundles[0]), evidence.commits[0][:12]).code == 1


def test_B83_keys_are_the_callers_alone(evidence: Evidence, tmp_path: Path) -> None:
    nobody = tmp_path / "nobody"
    nobody.write_text("")
    done = anywhere(evidence.repo, "verify", "--bundle", str(evidence.bundles[0]), "--signers", str(nobody))
    assert (done.code, "refused verdict" in done.out) == (1, True)
    done = anywhere(evidence.repo, "verify", "--bundle", str(evidence.bundles[0]))
    assert (done.code, "--signers FILE" in done.err) == (2, True)
    # Trusted for verdicts alone: the approval falls.
    nobody.write_text(evidence.signers.read_text().splitlines(keepends=True)[0])
    done = anywhere(evidence.repo, "verify", "--bundle", str(evidence.bundles[0]), "--signers", str(nobody))
    assert (done.code, "refused approvals" in done.out) == (1, True)
    done = evidence.verify("--bundle", str(evidence.bundles[0]), "--log-key", OTHER_LOG.format())
    assert (done.code, "refused receipts" in done.out) == (1, True)
    assert evidence.repo.safeai("verify", "--signers", str(nobody)).code == 2


def test_the_policy_can_be_pinned(evidence: Evidence, tmp_path: Path) -> None:
    wanted = tmp_path / "policy.yaml"
    wanted.write_text(POLICY)
    file = str(evidence.bundles[0])
    assert evidence.verify("--bundle", file, "--policy", str(wanted)).code == 0
    wanted.write_text(POLICY + "# stricter\n")
    done = evidence.verify("--bundle", file, "--policy", str(wanted))
    assert (done.code, "refused policy" in done.out) == (1, True)


def test_a_policy_from_elsewhere_has_to_be_named_again(evidence: Evidence, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(POLICY + "# from elsewhere\n")
    repo = evidence.repo
    repo.commit("more", {"src/c.py": "c = 1\n"}, ai=True)
    assert repo.safeai("check", "--range", "HEAD~1..HEAD", "--policy", str(own)).code == 0
    assert repo.safeai("bundle").code == 3  # under the repository's policy there is none
    file = tmp_path / "own.json"
    assert repo.safeai("bundle", "-o", str(file), "--policy", str(own)).code == 0
    done = evidence.verify("--bundle", str(file))
    assert (done.code, "name the one that you expect" in done.out) == (1, True)
    assert evidence.verify("--bundle", str(file), "--policy", str(own)).code == 0


def test_a_verdict_under_the_policy_of_the_ranges_base(evidence: Evidence, tmp_path: Path) -> None:
    """CI judges a range by the policy of its base: the bundle leads back to it, and says how far."""
    repo = evidence.repo
    for number in range(3):
        repo.commit(f"Step {number}", {"src/d.py": f"d = {number}\n"}, ai=True)
    repo.commit("Policy", {".safeai/policy.yaml": POLICY + "# newer\n"})
    repo.commit("After", {"src/d.py": "d = 9\n"}, ai=True)
    assert repo.safeai("check", "--range", "HEAD~5..HEAD").code in (0, 1)
    file = tmp_path / "after.json"
    assert repo.safeai("bundle", "-o", str(file)).code == 0
    done = evidence.verify("--bundle", str(file))
    assert "5 commits before" not in done.out
    assert "2 commits before" in done.out, done.both


def test_a_merge_is_bound_by_its_name(evidence: Evidence, tmp_path: Path) -> None:
    repo = evidence.repo
    repo.git("checkout", "-q", "-b", "side")
    repo.commit("Side", {"src/side.py": "s = 1\n"}, ai=True)
    repo.git("checkout", "-q", "main")
    repo.commit("Main", {"src/main.py": "m = 1\n"}, ai=True)
    repo.git("merge", "-q", "--no-commit", "--no-ff", "side")
    repo.commit("Merge with an addition", {"src/more.py": "e = 1\n"}, ai=True)
    assert repo.safeai("check", "--range", "HEAD~1..HEAD").code == 0
    file = tmp_path / "merge.json"
    done = repo.safeai("bundle", "-o", str(file))
    assert done.code == 0, done.both
    assert evidence.verify("--bundle", str(file)).code == 0


def test_what_is_denied_is_evidence_too_and_does_not_pass(evidence: Evidence, tmp_path: Path) -> None:
    repo = evidence.repo
    repo.commit("Key", {"config/keys/k": "k\n"}, ai=True)
    assert repo.safeai("check", "--range", "HEAD~1..HEAD").code == 1
    file = tmp_path / "denied.json"
    assert repo.safeai("bundle", "-o", str(file)).code == 0
    done = evidence.verify("--bundle", str(file))
    assert (done.code, "refused verdict: the verdict denies it" in done.out) == (1, True)


def test_a_first_commit_and_a_commit_without_a_verdict(
    make_repo: Callable[..., Repo], tmp_path: Path
) -> None:
    repo = make_repo()
    assert repo.safeai("init", "--no-hooks").code == 0
    repo.commit("start", {"src/a.py": "a = 1\n"}, ai=True)
    done = repo.safeai("bundle")
    assert (done.code, "no verdict" in done.err) == (3, True)
    repo.commit("more", {"src/a.py": "a = 2\n"}, ai=True)
    assert repo.safeai("check", "--range", "HEAD~1..HEAD").code == 0
    assert repo.safeai("bundle", "--without-report", "-o", str(tmp_path / "b")).code == 0
    signers = str(repo.path / ".safeai/allowed_signers")
    assert anywhere(repo, "verify", "--bundle", str(tmp_path / "b"), "--signers", signers).code == 1
    flags = ("--bundle", "-", "--signers", signers, "--without-report")
    assert anywhere(repo, "verify", *flags, stdin=(tmp_path / "b").read_bytes()).code == 0


def test_B54_reading_is_bounded(evidence: Evidence, tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(40 * 1024 * 1024)
    done = evidence.verify("--bundle", str(large))
    assert (done.code, "larger than" in done.err) == (3, True)
    for content in (
        b"",
        b"[" * 100_000,
        b"{}",
        b'{"type":"https://safe-ai.dev/bundle/v1"}',
        b"\xff",
        b"null",
    ):
        with pytest.raises(FormatError):
            Bundle.parse(content)
    assert evidence.verify("--bundle", str(tmp_path / "none")).code == 3


def test_B33_what_a_bundle_says_reaches_the_terminal_escaped(evidence: Evidence, tmp_path: Path) -> None:
    data = evidence.data()
    data["policy"]["organisation"] = "\x1b]0;pwned\x07: [\u202e"
    file = tmp_path / "odd.json"
    file.write_bytes(canonical.dumps(data) + b"\n")
    done = evidence.verify("--bundle", str(file))
    assert done.code == 1
    assert not set("\x1b\x07\u202e") & set(done.both)


def test_a_full_disk_leaves_no_half_a_bundle(evidence: Evidence) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("/dev/full is not there")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "safeai_git", "bundle"],
            cwd=evidence.repo.path,
            env=evidence.repo.environment,
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert done.returncode not in (0, 1)
    assert b"Traceback" not in done.stderr


@given(st.binary(max_size=300))
def test_any_bytes_are_a_bundle_or_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        Bundle.parse(data)


def test_any_byte_changed_never_passes(evidence: Evidence) -> None:
    """Each 97th byte of the file, so that all parts are met: what still parses is refused by one of them."""
    keys = Keyring.parse(evidence.signers.read_bytes(), "trusted")
    whole = evidence.bundles[0].read_bytes()
    assert Bundle.parse(whole).format() == whole
    for at in range(3, len(whole), 97):
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        try:
            found: Examined | None = examine(
                Bundle.parse(changed), keys, Demands(log_keys=(LOG_KEY,)), now=NOW
            )
        except FormatError:
            found = None
        assert found is None or found.decision == "deny", at
