"""Every parser of foreign bytes, fed bytes that it never expected: an answer or one of our errors, in bounded memory.

In the suite each target gets some hundred inputs, mutated from valid ones and made up. ``make fuzz`` runs this file
as a program for a given time, with limits of the operating system on memory and on each input's time.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from safeai_git.agents import catalogue
from safeai_git.core import canonical
from safeai_git.core.attribution import Attribution, Metadata, attribute, trailer_block
from safeai_git.core.display import display, safe_text
from safeai_git.core.envelope import MAX_LINE, Envelope
from safeai_git.core.errors import CouldNotDecide, SafeAIError
from safeai_git.core.expressions import SAMPLE_CHANGE, SAMPLE_EDIT, compile_rule
from safeai_git.core.foreign_records import parse_authorship_log, parse_traces
from safeai_git.core.hints import NOTE as NOTE_KIND
from safeai_git.core.hints import hints
from safeai_git.core.kill_switch import Lease, Scope, Switches, SwitchEvent
from safeai_git.core.log.chain import is_entry
from safeai_git.core.log.checkpoint import Checkpoint
from safeai_git.core.log.entry import Draft, Entry, format_commit, parse_commit
from safeai_git.core.log.note import Note, NoteKey
from safeai_git.core.log.policy import parse_policy
from safeai_git.core.log.proof import LogProof
from safeai_git.core.objects import TreeEntry, format_tree, parse_tree, tree_problems
from safeai_git.core.objects import parse_commit as parse_commit_object
from safeai_git.core.paths import fold, from_json, portability_problems, to_json
from safeai_git.core.policy import Policy, PolicyStack
from safeai_git.core.publickey import format_openssh, parse_openssh
from safeai_git.core.verdict import approval, parse_statement
from safeai_git.core.wildmatch import Pattern
from safeai_git.git.changes import TreeComparer
from safeai_git.git.content import lfs_pointer, resolve_link
from safeai_git.git.facts import Origin
from safeai_git.git.libgit2 import Libgit2Store
from safeai_git.git.lines import line_counts
from safeai_git.git.notes import Notes
from safeai_git.git.reader import ProposalReader
from safeai_git.git.repository import Repository, discover
from safeai_git.keys.allowed_signers import parse_line
from safeai_git.keys.ed25519 import Ed25519Signer
from safeai_git.keys.keyring import Keyring
from safeai_git.keys.seal import seal
from safeai_git.policy_cases import load_cases, run_case
from safeai_git.policyfile import load
from safeai_git.trust import Trust
from safeai_git.weighing import Court, Subject, weigh

SIGNER = Ed25519Signer.of(Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32))
PUBLIC = format_openssh(SIGNER.public)
TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
PAYLOAD = approval(
    base_tree="", tree=TREE, policy_digest="d" * 64, repository="r", time=1_767_322_800, reason="x"
)
ENVELOPE = seal(PAYLOAD, [SIGNER]).format()
SIGNERS = b'anna@example.com,!b namespaces="safeai-approval,x*",valid-after="20260101",valid-before="202701010000Z" %b c\n'
POLICY = b"""\
safe_mode: true
autonomy_tier: beta
allow_paths: [src/, "**/*.[ch]"]
outcomes: {submodule: deny}
approvals:
  threshold: 2
checks:
  - name: unit
    run: |
      make test
rules:
  - {id: big, when: "change.edits > 3 && edits.exists(e, e.path.matches(r'^a+$'))", outcome: warn, message: m}
"""
CASES = b"""\
cases:
  - name: a case
    author: ai
    edits:
      - {path: src/a, added: 5, status: M, old_mode: "100644"}
      - {path: link, link: outside}
    checks: [{name: unit, result: passed}]
    expect: deny
    rules: [symlink-escape]
"""
COMMIT = b"""\
tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904
parent 4b825dc642cb6eb9a060e54bf8d69288fbee4904
author A <a@example.com> 1767322800 +0100
committer B <b@example.com> 1767322800 -0000
encoding latin-1
gpgsig -----BEGIN
 -----END

subject

Co-Authored-By: Claude Code <noreply@anthropic.com>
 continued
(cherry picked from commit 1)
"""
AUTHORSHIP = b"""\
src/main.rs
  s_c9883b05a2487d::t_9f8e7d6c5b4a32 1-10,15-20
  h_31dce776f88375 42
"src/my lib.rs"
  abcd1234abcd1234 1,3-5
---
{"schema_version": "authorship/3.0.0", "base_commit_sha": "7734793b756b3921c88db5375a8c156e9532447b",
 "prompts": {"abcd1234abcd1234": {"agent_id": {"tool": "cursor", "id": "x", "model": "gpt-5"}}},
 "sessions": {"s_c9883b05a2487d": {"agent_id": {"tool": "claude", "id": "y", "model": "claude-opus-4-5"}}}}
"""
TRACE = (
    b'{"version":"0.1.0","id":"550e8400-e29b-41d4-a716-446655440000","timestamp":"2026-01-23T14:30:00Z",'
    b'"vcs":{"type":"git","revision":"a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6e7f8a9b0"},"tool":{"name":"cursor"},'
    b'"files":[{"path":"a.ts","conversations":[{"contributor":{"type":"ai","model_id":"anthropic/claude-opus-4-5"},'
    b'"ranges":[{"start_line":42,"end_line":67,"contributor":{"type":"mixed"}},{"start_line":1,"end_line":1}]}]}]}'
)
PATCH = b"""\
diff --git a/src/a b/src/a
index 7898192..6178079 100644
--- a/src/a
+++ b/src/a
@@ -1 +1 @@
-a
+b
diff --git a/new b/new
new file mode 100755
index 0000000..7898192
--- /dev/null
+++ b/new
@@ -0,0 +1 @@
+a
"""
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
TREES = format_tree([TreeEntry(b"100644", b"a", b"\1" * 20), TreeEntry(b"40000", b"b", b"\2" * 20)])
EXPRESSION = b"""change.edits > 3 && [1, 2].exists(x, x == 1) || edit.path.startsWith("a") && has(edit.lfs) ? true : !(1 < 2)"""
PATHS = [b"src/a.py", "é/e\u0301/\u200c\u202e".encode(), b"\xff\xfe", b"git~1/aux.c/x. :$DATA", b"../.git\\x"]
TOKENS = [
    b"\0",
    b"\n",
    b"\r\n",
    b" ",
    b'"',
    b"'",
    b"\\",
    b"/",
    b"*",
    b"**/",
    b"[",
    b"]",
    b"{",
    b"}",
    b"..",
    b"&a",
    b"*a",
    b"!!",
    b"\xff",
    b"\xed\xa0\x80",
]
TOKENS += [
    b"-1",
    b"99999999999999999999",
    b"1e999",
    b"NaN",
    b"\\ud800",
    b"40000 ",
    b"160000 ",
    b"\xef\xbb\xbf",
    "\u2028".encode(),
    b"<<: ",
    b"\t",
    b"%",
    b"a" * 64,
]


@dataclass
class Bench:
    """What the targets need that is slow to make."""

    folder: Path
    repository: Repository = field(init=False)
    store: Libgit2Store = field(init=False)
    base: str = field(init=False)

    def __post_init__(self) -> None:
        environ = {"PATH": os.defpath, "HOME": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        self.folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["git", "init", "-q", "."], cwd=self.folder, env=environ, check=True)
        (self.folder / "src").mkdir()
        (self.folder / "src" / "a").write_text("a\n")
        subprocess.run(["git", "add", "-A"], cwd=self.folder, env=environ, check=True)
        self.repository = discover(self.folder, environ)
        store = self.repository.store
        assert isinstance(store, Libgit2Store)
        self.store = store
        root = self.repository.staged_tree()
        who = "A <a@example.com> 1767322800 +0000"
        self.base = store.write("commit", f"tree {root}\nauthor {who}\ncommitter {who}\n\nbase\n".encode())
        self.index = (self.folder / ".git" / "index").read_bytes()


# One function for each parser


def a_message(bench: Bench, data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    block, rest = trailer_block(text)
    assert text.rstrip().startswith(rest.rstrip()) or not block
    told = Metadata(("n", "e@x"), None, text, branch=text[:40], environment=frozenset({text[:9]}))
    attribute(told, catalogue())


def a_commit(bench: Bench, data: bytes) -> None:
    assert isinstance(parse_commit_object(data).text, str)


def a_tree(bench: Bench, data: bytes) -> None:
    entries = parse_tree(data)
    assert format_tree(entries) == data
    tree_problems(entries, frozenset(entries[:1]))
    found = TreeComparer(bench.store).compare(
        "", bench.store.write("tree", format_tree([one for one in entries if not one.is_tree]))
    )
    assert all(one.new for one in found.changes)


def a_wide_tree(bench: Bench, data: bytes) -> None:
    assert format_tree(parse_tree(data, 32)) == data


def a_pointer(bench: Bench, data: bytes) -> None:
    pointer = lfs_pointer(data)
    assert pointer is None or pointer.size is None or pointer.size >= 0


def a_link(bench: Bench, data: bytes) -> None:
    blob = bench.store.write("blob", data)
    root = bench.store.write(
        "tree",
        format_tree(
            [TreeEntry(b"120000", b"a", bytes.fromhex(blob)), TreeEntry(b"120000", b"b", bytes.fromhex(blob))]
        ),
    )
    assert resolve_link(TreeComparer(bench.store), root, b"d/link", data) in (
        "inside",
        "outside",
        "git",
        "loop",
    )


def two_texts(bench: Bench, data: bytes) -> None:
    old, _, new = data.partition(b"a")
    added, removed, lines_added, lines_removed, _ = line_counts(old, new)
    assert added - removed == len(new) - len(old)
    assert min(added, removed, lines_added, lines_removed) >= 0


def a_policy(bench: Bench, data: bytes) -> None:
    assert isinstance(load(data, "policy"), Policy)


def cases(bench: Bench, data: bytes) -> None:
    for case in load_cases(data, "cases"):
        run_case(case, PolicyStack((Policy.builtin(),)))


def signers(bench: Bench, data: bytes) -> None:
    Keyring.parse(data, "signers").trusts(SIGNER.key_id, "safeai-verdict", 1)


def a_line_of_signers(bench: Bench, data: bytes) -> None:
    parse_line(data.decode("utf-8", "replace"))


def a_public_key(bench: Bench, data: bytes) -> None:
    assert format_openssh(*parse_openssh(data)) == data


def an_envelope(bench: Bench, data: bytes) -> None:
    assert Envelope.parse(data).format() == data


def json_text(bench: Bench, data: bytes) -> None:
    value = canonical.loads(data, limit=MAX_LINE)
    assert canonical.loads(canonical.dumps(value), limit=10 * MAX_LINE) == value


def a_statement(bench: Bench, data: bytes) -> None:
    assert parse_statement(data).kind in ("verdict", "approval")


def a_note(bench: Bench, data: bytes) -> None:
    trust = Trust(PolicyStack((Policy.builtin(),)), Keyring(()), "", builtin=True)
    worth = weigh(data.split(b"\n"), Subject(TREE, "", Attribution("ai")), Court(trust, trust.keyring, 2e9))
    assert worth.status in ("invalid", "missing")


def a_tree_of_notes(bench: Bench, data: bytes) -> None:
    root = bench.store.write("tree", data)
    who = "A <a@example.com> 1767322800 +0000"
    tip = bench.store.write("commit", f"tree {root}\nauthor {who}\ncommitter {who}\n\nnotes\n".encode())
    assert isinstance(Notes(bench.repository)._of([tip]), dict)


def an_authorship_log(bench: Bench, data: bytes) -> None:
    record = parse_authorship_log(data)
    assert all(claim.lines > 0 and claim.path for claim in record.claims)
    assert len(hints(NOTE_KIND, TREE, [record], catalogue())) <= 4


def trace_records(bench: Bench, data: bytes) -> None:
    for record in parse_traces(data):
        assert all(claim.lines > 0 for claim in record.claims)


def a_pattern(bench: Bench, data: bytes) -> None:
    text, _, path = data.decode("utf-8", "surrogateescape").partition("\n")
    pattern = Pattern.parse(text)
    raw = path.encode("utf-8", "surrogateescape")
    pattern.matches(raw)
    pattern.folded().matches(fold(raw))


def a_path(bench: Bench, data: bytes) -> None:
    assert fold(fold(data)) == fold(data)
    assert from_json(to_json(data)) == data
    assert display(data).isprintable()
    assert safe_text(data.decode("utf-8", "surrogateescape")).isprintable()
    assert all(one.what.isprintable() for one in portability_problems(data))


def a_path_in_json(bench: Bench, data: bytes) -> None:
    value = canonical.loads(data, limit=MAX_LINE)
    if isinstance(value, dict):
        assert isinstance(from_json(value), bytes)


def an_expression(bench: Bench, data: bytes) -> None:
    compiled = compile_rule(data.decode("utf-8", "surrogateescape"), each="edit")
    assert compiled.evaluate(
        {"change": dict(SAMPLE_CHANGE), "edits": [SAMPLE_EDIT], "edit": SAMPLE_EDIT}
    ) in (True, False)


def a_patch(bench: Bench, data: bytes) -> None:
    reader = ProposalReader(bench.repository, catalogue(), Origin("claude-code"))
    assert reader.patch(data, bench.base).kind == "patch"


def an_index(bench: Bench, data: bytes) -> None:
    (bench.folder / ".git" / "index").write_bytes(data)
    try:
        assert len(bench.repository.staged_tree()) == 40
    finally:
        (bench.folder / ".git" / "index").write_bytes(bench.index)


def a_signed_note(bench: Bench, data: bytes) -> None:
    assert Note.parse(data).format() == data


def a_checkpoint(bench: Bench, data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    assert Checkpoint.parse(text).format() == text


def a_receipt(bench: Bench, data: bytes) -> None:
    assert LogProof.parse(data).format() == data


def a_log_line(bench: Bench, data: bytes) -> None:
    if is_entry(data):
        assert Entry.parse(data).rest in data
    else:
        assert format_commit(parse_commit(data)) == data


def a_verifier_key(bench: Bench, data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    assert NoteKey.parse(text).format() == text


def a_witness_policy(bench: Bench, data: bytes) -> None:
    assert isinstance(parse_policy(data).is_met_by([]), bool)


def a_switch_event(bench: Bench, data: bytes) -> None:
    assert SwitchEvent.parse(data).format() == data


def a_lease(bench: Bench, data: bytes) -> None:
    assert Lease.parse(data).format() == data


LOG_KEY = b"governor.example/safeai-audit+dfc40b58+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
NOTE = (
    "governor.example/safeai-audit\n7\nNZq173Ytm7JMChwQUYqc7UevAcCjK8Hy7k1pFtLRA6c=\n\n"
    "\u2014 governor.example/safeai-audit "
    "38QLWEPJ8HL6eXnPBiAoydwyJMhP+gEtgqJB00RMqT7df0CqKoBMC2muybz7oE03whd2ZPEmRVXOQCuX3bE1rG53twE=\n"
).encode()
RECEIPT = (
    b"c2sp.org/tlog-proof@v1\nindex 2\ntTA06jTY3fie3dzRlGNFbKFEbIDRzseDTbysiRQfLLA=\n"
    b"20u3Ek4yUewFdxu5rUYcen0vTZN8YF//7pzZS6fGr3k=\npdcULeEHsInEHAzzM1YCt5YSSBhoYCm68Qs7vNkOKAs=\n\n" + NOTE
)
EVENT = SwitchEvent(True, Scope("agent", "codex"), "why", "who", 1_780_000_000, 1_780_000_060)

TARGETS: dict[str, tuple[Callable[[Bench, bytes], None], list[bytes]]] = {
    "message": (
        a_message,
        [
            COMMIT,
            b"s\n\nSigned-off-by: a\nx\ny: z\n",
            b"a\n\nCo-Authored-By: Cursor <cursoragent@cursor.com>",
        ],
    ),
    "commit": (a_commit, [COMMIT]),
    "tree": (a_tree, [TREES, b""]),
    "wide tree": (a_wide_tree, [format_tree([TreeEntry(b"100644", b"a", b"\1" * 32)])]),
    "pointer": (a_pointer, [LFS]),
    "link": (a_link, [b"../a/./b", b"a", b"b/../../x", b".GIT/config"]),
    "texts": (two_texts, [b"x\ny\nz\nax\nz\n", b"a\n" * 40]),
    "policy": (a_policy, [POLICY]),
    "cases": (cases, [CASES]),
    "signers": (signers, [SIGNERS % PUBLIC, b"# x\n" + SIGNERS % PUBLIC]),
    "line of signers": (a_line_of_signers, [(SIGNERS % PUBLIC).strip()]),
    "public key": (a_public_key, [PUBLIC]),
    "envelope": (an_envelope, [ENVELOPE]),
    "json": (json_text, [PAYLOAD, b'{"a":[1,2.5,-0,1e3,"\\u00e9",null,true]}']),
    "statement": (a_statement, [PAYLOAD]),
    "note": (a_note, [ENVELOPE + b"\n" + ENVELOPE[:40], b"\n{}\n[]\n"]),
    "tree of notes": (a_tree_of_notes, [TREES, format_tree([TreeEntry(b"100644", b"a" * 40, b"\1" * 20)])]),
    "authorship log": (an_authorship_log, [AUTHORSHIP]),
    "trace records": (trace_records, [TRACE, TRACE + b"\n" + TRACE]),
    "pattern": (a_pattern, [b"**/*.[ch]\nsrc/a.c", b"/a/**/b[!a-z[:digit:]]?\\*\na/b", b"docs/\ndocs"]),
    "path": (a_path, PATHS),
    "path in json": (a_path_in_json, [canonical.dumps(to_json(path)) for path in PATHS]),
    "expression": (an_expression, [EXPRESSION]),
    "signed note": (a_signed_note, [NOTE]),
    "checkpoint": (a_checkpoint, [NOTE.partition(b"\n\n")[0] + b"\n"]),
    "receipt": (a_receipt, [RECEIPT]),
    "log line": (
        a_log_line,
        [
            format_commit(NOTE),
            Draft.of_data("policy", "policy-7", {"version": 7}).format(0, "", "2026-01-02T03:04:05.678Z"),
        ],
    ),
    "verifier key": (a_verifier_key, [LOG_KEY]),
    "witness policy": (a_witness_policy, [b"log " + LOG_KEY + b"\nquorum none\n"]),
    "switch event": (a_switch_event, [EVENT.format()]),
    "lease": (
        a_lease,
        [Switches([EVENT]).lease(governor="g", repository="a/b", now=1_780_000_000, seconds=9).format()],
    ),
}
SLOW: dict[str, tuple[Callable[[Bench, bytes], None], list[bytes]]] = {
    "patch": (a_patch, [PATCH]),
    "index": (an_index, []),
}
"""Each input of these starts git."""


def ours(target: Callable[[Bench, bytes], None], bench: Bench, data: bytes) -> None:
    """Only our own errors come out, and their messages can be shown."""
    refusal: SafeAIError | None = None
    try:
        target(bench, data)
    except SafeAIError as error:
        refusal = error
    assert refusal is None or (isinstance(refusal, CouldNotDecide) and refusal.message)
    assert refusal is None or "\0" not in refusal.message


def mutated(seed: bytes, chance: random.Random) -> bytes:
    """A valid input after a few accidents."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 6)):
        at = chance.randint(0, len(data))
        end = min(len(data), at + chance.choice((1, 1, 2, 8, 40)))
        match chance.randrange(6):
            case 0:
                del data[at:end]
            case 1:
                data[at:at] = chance.choice(TOKENS)
            case 2:
                data[at:end] = chance.choice(TOKENS)
            case 3:
                data[at:at] = data[at:end] * chance.choice((1, 2, 20, 200))
            case 4 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case _:
                other = chance.randint(0, len(data))
                data[at:end] = data[other : other + (end - at)]
    return bytes(data)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("fuzz") / "repository")
    yield made
    made.repository.close()


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=150)
@given(accidents=st.integers(0, 2**32), made_up=st.binary(max_size=200), pick=st.integers(0, 3))
def test_B54_a_parser_answers_or_refuses(
    bench: Bench, name: str, accidents: int, made_up: bytes, pick: int
) -> None:
    target, seeds = TARGETS[name]
    chance = random.Random(accidents)
    ours(target, bench, made_up if pick == 0 else mutated(chance.choice(seeds), chance))


@pytest.mark.parametrize("name", TARGETS)
def test_the_valid_inputs_reach_behind_the_parser(bench: Bench, name: str) -> None:
    target, seeds = TARGETS[name]
    reached = 0
    for seed in seeds:
        with contextlib.suppress(SafeAIError):
            target(bench, seed)
            reached += 1
    assert reached


@pytest.mark.parametrize("name", SLOW)
@settings(max_examples=15)
@given(accidents=st.integers(0, 2**32))
def test_B54_B62_git_is_given_odd_input_and_we_answer_or_refuse(
    bench: Bench, name: str, accidents: int
) -> None:
    target, seeds = SLOW[name]
    chance = random.Random(accidents)
    ours(target, bench, mutated(chance.choice(seeds or [bench.index]), chance))


def test_B54_all_of_them_in_bounded_memory() -> None:
    done = subprocess.run(
        [sys.executable, __file__, "--seconds", "3", "--seed", "1", "--memory-mib", "1536"],
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    assert b"inputs" in done.stdout


def main() -> int:
    """Fuzz until the time is up; 1 and the input at the first failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--memory-mib", type=int, default=2_048, help="of address space")
    parser.add_argument("--only", default="", metavar="NAME")
    asked = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (asked.memory_mib << 20, asked.memory_mib << 20))
    chance = random.Random(asked.seed)
    every = {name: one for name, one in (TARGETS | SLOW).items() if asked.only in name}
    names = [name for name in every for _ in range(1 if name in SLOW else 20)]
    end, count = time.monotonic() + asked.seconds, 0
    with tempfile.TemporaryDirectory(prefix="safeai-fuzz-") as folder:
        bench = Bench(Path(folder) / "repository")
        while time.monotonic() < end:
            name = chance.choice(names)
            target, seeds = every[name]
            data = mutated(chance.choice(seeds or [bench.index]), chance)
            signal.alarm(20)
            try:
                ours(target, bench, data)
            except BaseException:
                print(f"{name}: seed {asked.seed}, input {count}: {data!r}", file=sys.stderr)
                raise
            count += 1
        signal.alarm(0)
        bench.repository.close()
    print(f"{count:,} inputs to {len(every)} parsers, seed {asked.seed}: only answers and errors of ours")
    return 0


if __name__ == "__main__":
    sys.exit(main())
