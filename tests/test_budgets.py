"""B-54: what is made to exhaust memory or time is answered, with a reason, within both."""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import subprocess
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path

import pytest
from conftest import AI_TRAILER, POLICY, Repo, Result

pytestmark = pytest.mark.skipif(not hasattr(os, "wait4"), reason="memory cannot be measured here")

MOST_MEMORY_KIB = 500 * 1024
GENEROUS_SECONDS = 120
FULL = os.environ.get("SAFEAI_BUDGETS") == "full"
"""``make budgets``: the sizes of a determined attacker. The suite has ones that show the same in less time."""

full = pytest.mark.skipif(not FULL, reason="another test shows the same; 'make budgets' runs it")

WHO = "Agent <agent@example.com> 1767322800 +0000"
EMPTY_BLOB = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


# A process is charged with the memory of the one that started it (Linux counts from before exec), and a worker that ran
# many tests has more than is allowed here: so something small starts it.
MEASURED = """\
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code if code >= 0 else 128 - code)
"""


def judged(repo: Repo, *arguments: str) -> Result:
    """Run ``safeai-git``; it has to end by itself, within a memory that any machine has, children included."""
    out, err, memory = (repo.path.parent / name for name in ("out", "err", "memory"))
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", "-c", MEASURED, str(memory)),
                "timeout",
                "--signal=KILL",
                str(GENEROUS_SECONDS),
                sys.executable,
                "-m",
                "safeai_git",
                *arguments,
            ],
            cwd=repo.path,
            env=repo.environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
        process.wait()
    result = Result(process.returncode, out.read_text(errors="replace"), err.read_text(errors="replace"))
    assert not any(word in result.err for word in ("Traceback", "a fault of the program")), result.err[-2000:]
    used = int(memory.read_text())
    assert used < MOST_MEMORY_KIB, f"{used // 1024} MiB"
    return result


def refused(repo: Repo, head: str, *reasons: str) -> None:
    result = judged(repo, "check", "--range", f"main..{head}", "--no-sign")
    assert result.code in (1, 3), result.both[-2000:]
    assert any(reason in result.both for reason in reasons), result.both[-2000:]


@pytest.fixture
def governed(repo: Repo) -> Repo:
    """A repository with a policy and without keys: quicker than the one that the other tests have."""
    repo.commit("start", {".safeai/policy.yaml": POLICY, "src/a.py": "a = 1\n"})
    return repo


def put(repo: Repo, kind: str, data: bytes | Iterable[bytes], size: int = -1) -> str:
    """A loose object, written without git, which would take its time or refuse it."""
    pieces = [data] if isinstance(data, bytes) else data
    head = b"%b %d\0" % (kind.encode(), len(data) if isinstance(data, bytes) else size)
    digest, packer = hashlib.sha1(head), zlib.compressobj(1)
    packed = [packer.compress(head)]
    for piece in pieces:
        digest.update(piece)
        packed.append(packer.compress(piece))
    name = digest.hexdigest()
    path = repo.path / ".git" / "objects" / name[:2] / name[2:]
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(packed) + packer.flush())
    return name


def entry(mode: str, name: str | bytes, target: str) -> bytes:
    raw = name if isinstance(name, bytes) else name.encode()
    return mode.encode() + b" " + raw + b"\0" + bytes.fromhex(target)


def tree(repo: Repo, *entries: bytes) -> str:
    return put(repo, "tree", b"".join(entries))


def beside(repo: Repo, *entries: bytes) -> str:
    """The tree of HEAD with more entries, in git's order."""
    there = repo.git_bytes("cat-file", "tree", "HEAD^{tree}")
    rest, parsed = there, []
    while rest:
        end = rest.index(b"\0") + 21
        parsed.append(rest[:end])
        rest = rest[end:]

    def order(one: bytes) -> bytes:
        mode, _, tail = one.partition(b" ")
        return tail[: tail.index(b"\0")] + (b"/" if mode == b"40000" else b"")

    return tree(repo, *sorted([*parsed, *entries], key=order))


def commit(
    repo: Repo, root: str, *parents: str, message: bytes = b"made by hand", who: str = WHO, ai: bool = True
) -> str:
    lines = [f"tree {root}", *(f"parent {one}" for one in parents), f"author {who}", f"committer {who}"]
    text = message + (f"\n\n{AI_TRAILER}\n".encode() if ai else b"\n")
    return put(repo, "commit", "\n".join(lines).encode() + b"\n\n" + text)


def head(repo: Repo) -> str:
    return repo.git("rev-parse", "HEAD")


def bomb(repo: Repo, leaf: list[bytes], levels: int = 10, wide: int = 10) -> str:
    name = tree(repo, *leaf)
    for _ in range(levels):
        name = tree(repo, *(entry("40000", f"d{i}", name) for i in range(wide)))
    return name


# Trees


@pytest.mark.parametrize(
    "leaf",
    [
        [entry("100644", f"f{i}", EMPTY_BLOB) for i in range(10)],
        [],
        [entry("100644", ".git", EMPTY_BLOB)],
        [entry("100644", "A", EMPTY_BLOB), entry("100644", "a", EMPTY_BLOB)],
    ],
    ids=["files", "nothing", "malformed", "collisions"],
)
def test_B54_a_tree_of_trees(governed: Repo, leaf: list[bytes]) -> None:
    governed.blob(b"")
    root = beside(governed, entry("40000", "src2", bomb(governed, leaf)))
    refused(
        governed, commit(governed, root, head(governed)), "more paths change", "malformed", "cannot be told"
    )


def test_B54_a_tree_of_trees_in_a_merge(governed: Repo) -> None:
    governed.blob(b"")
    start = head(governed)
    root = beside(governed, entry("40000", "src2", bomb(governed, [entry("100644", "f", EMPTY_BLOB)])))
    bad = commit(governed, root, start)
    other = governed.commit("main goes on", {"src/b.py": "b = 1\n"})
    refused(
        governed,
        commit(governed, root, other, bad),
        "more paths change than are read",
        "too large to be merged",
    )


def test_B54_a_tree_of_trees_below_both_sides_of_a_merge(governed: Repo) -> None:
    governed.blob(b"")
    start, sound = head(governed), governed.git("rev-parse", "HEAD^{tree}")
    root = beside(governed, entry("40000", "src2", bomb(governed, [entry("100644", "f", EMPTY_BLOB)])))
    bad = commit(governed, root, start)
    one, two = (commit(governed, sound, bad, message=text) for text in (b"one", b"two"))
    refused(governed, commit(governed, sound, one, two), "more paths change", "too large to be merged")


@full
def test_B54_wide_folders_within_wide_folders(governed: Repo) -> None:
    name = tree(governed)
    for _ in range(6):
        name = tree(governed, *(entry("40000", f"{i:06}", name) for i in range(20_000)))
    root = beside(governed, entry("40000", "src2", name))
    refused(governed, commit(governed, root, head(governed)), "more paths change than are read")


def test_B54_two_hundred_thousand_paths(governed: Repo) -> None:
    governed.blob(b"")
    below = tree(
        governed, *(entry("100644", f"{i:06}", EMPTY_BLOB) for i in range(200_000 if FULL else 100_001))
    )
    root = beside(governed, entry("40000", "src2", below))
    refused(governed, commit(governed, root, head(governed)), "more paths change than are read")


@pytest.mark.parametrize("padding", ["many", "long"])
def test_B01_governance_files_are_judged_however_much_else_changes(governed: Repo, padding: str) -> None:
    """More paths than are read must not hide the one that everything else is held against."""
    governed.blob(b"")
    many, pad = (100_001, "") if padding == "many" else (9, "x" * (1 << 20))
    below = tree(
        governed,
        *(
            entry("100644", f"{i:06}{pad}"[: 1 << 19 if pad else 9], EMPTY_BLOB)
            for i in range(many * (2 if pad else 1))
        ),
    )
    safeai = tree(governed, entry("100644", "policy.yaml", governed.blob(b"applies_to: [bot]\n")))
    there = governed.git("rev-parse", "HEAD:src")
    root = tree(
        governed,
        entry("40000", "-first", below),
        entry("40000", ".safeai", safeai),
        entry("40000", "src", there),
    )
    person = commit(governed, root, head(governed), who=WHO.replace("Agent", "Maria"), ai=False)
    refused(governed, person, "protected by the pattern '.safeai/'")
    result = judged(governed, "verify", f"main..{person}")
    assert result.code == 1, result.both[-2000:]
    assert "missing" in result.out


def test_B54_names_that_all_fold_alike(governed: Repo) -> None:
    governed.blob(b"")
    spellings = map("".join, itertools.product(*((c, c.upper()) for c in "abcdefghijklmnopq")))
    names = sorted(itertools.islice(spellings, 100_000 if FULL else 10_000))
    below = tree(governed, *(entry("100644", name, EMPTY_BLOB) for name in names))
    root = beside(governed, entry("40000", "src2", below))
    refused(governed, commit(governed, root, head(governed)), "[path-not-allowed]")


def test_B35_names_of_a_mebibyte(governed: Repo) -> None:
    governed.blob(b"")
    invisible = b"a" + "\u200c".encode() * 300_000
    names = [invisible, *([b"x" * (1 << 20), "e\u0301\u0323".encode() * 100_000] if FULL else [])]
    for name in names:
        root = beside(governed, entry("100644", name, EMPTY_BLOB))
        refused(governed, commit(governed, root, head(governed)), "has a component of")
    root = beside(governed, entry("100644", b"x" * (1 << 20) + b"y", EMPTY_BLOB))
    refused(governed, commit(governed, root, head(governed)), "holds a path of 1,048,577 bytes")


def test_B35_folders_within_folders(governed: Repo) -> None:
    governed.blob(b"")
    name = tree(governed, entry("100644", "f", EMPTY_BLOB))
    for _ in range(5_000):
        name = tree(governed, entry("40000", "d", name))
    root = beside(governed, entry("40000", "src2", name))
    refused(governed, commit(governed, root, head(governed)), "more than 512 folders deep")


def test_B54_a_tree_of_sixty_mebibytes(governed: Repo) -> None:
    one = entry("100644", "f", EMPTY_BLOB)
    refused(governed, commit(governed, put(governed, "tree", one * 2_000_000), head(governed)), "are read")


# Blobs


def test_B54_a_blob_of_zeros(governed: Repo) -> None:
    size = 600 << 20
    blob = put(governed, "blob", itertools.repeat(bytes(1 << 20), 600), size)
    root = beside(governed, entry("100644", "zeros", blob))
    refused(governed, commit(governed, root, head(governed)), f"the edit counts {size:,} bytes")


def test_B54_a_blob_that_lies_about_its_size(governed: Repo) -> None:
    blob = put(governed, "blob", itertools.repeat(bytes(1 << 20), 64), 10)
    root = beside(governed, entry("100644", "zeros", blob))
    refused(governed, commit(governed, root, head(governed)), "cannot be read")


def test_B54_one_large_blob_under_many_names(governed: Repo) -> None:
    blob = put(governed, "blob", bytes(16 << 20))
    below = tree(governed, *(entry("100644", f"{i:06}", blob) for i in range(50_000 if FULL else 1_000)))
    root = beside(governed, entry("40000", "src2", below))
    refused(governed, commit(governed, root, head(governed)), "deny   src2/000001")


@pytest.mark.parametrize(
    "target", [b"a/" * (1 << 20), b"../" * (1 << 20), b"l0/" * 1365], ids=["down", "up", "links"]
)
def test_B54_links_that_take_long_to_follow(governed: Repo, target: bytes) -> None:
    """Each link leads through the next one many times over."""
    blob = governed.blob(target)
    chain = [governed.blob(f"l{i + 1}/".encode() * 1023) for i in range(30)]
    links = [entry("120000", f"l{i}", one) for i, one in enumerate(chain)]
    root = beside(governed, entry("120000", "link", blob), *links)
    refused(
        governed,
        commit(governed, root, head(governed)),
        "leads round in a circle",
        "leads out of the repository",
    )


# Commits


@pytest.mark.parametrize(
    "message",
    [
        b"x" * (50 << 20),
        b"subject\n\n" + b"a:b\n" * 1_000_000,
        b"subject\n\n" + b"Co-Authored-By: Claude\n" * 45_000,
        b"subject\n\na: b\n" + b" c\n" * 340_000,
        b"subject" + b"\n \n" * 340_000,
        b"subject\n" + b"a" * 1_000_000,
    ],
    ids=["50 MiB", "a million trailers", "co-authors", "continuations", "paragraphs", "a word"],
)
def test_B54_messages(governed: Repo, message: bytes) -> None:
    root = beside(
        governed,
        entry(
            "40000", "config", tree(governed, entry("40000", "keys", governed.git("rev-parse", "HEAD:src")))
        ),
    )
    name = commit(governed, root, head(governed), message=message)
    refused(governed, name, "the path is denied", "at most 1,048,576 are read")


def test_B54_ten_thousand_parents(governed: Repo) -> None:
    start = head(governed)
    root = governed.git("rev-parse", "HEAD^{tree}")
    refused(governed, commit(governed, root, *[start] * 10_000), "names 10,000 parents")


# What the change is held against, and evidence


def test_B54_signers_of_ten_mebibytes(governed: Repo) -> None:
    governed.commit("signers", {".safeai/allowed_signers": b"# x\n" * (5 << 19)})
    result = judged(governed, "check", "--no-sign")
    assert result.code == 3
    assert "is larger than 1,048,576 bytes" in result.err


@pytest.mark.parametrize("line", [b'a "" ', b'a """" "', b"a,", b'a namespaces="', b"a x,"], ids=repr)
def test_B54_one_line_of_signers_that_fills_the_file(governed: Repo, line: bytes) -> None:
    repeated = line + line[-2:] * ((1 << 19) - 8)
    governed.commit("signers", {".safeai/allowed_signers": repeated})
    result = judged(governed, "check", "--no-sign")
    assert result.code == 3
    assert "allowed_signers at" in result.err


def test_B54_a_policy_of_ten_mebibytes(governed: Repo) -> None:
    governed.commit("policy", {".safeai/policy.yaml": POLICY.encode() + b"# x\n" * (5 << 19)})
    result = judged(governed, "check", "--no-sign")
    assert result.code == 3
    assert "is larger than 262,144 bytes" in result.err


def test_B54_a_pattern_made_to_backtrack(governed: Repo) -> None:
    hard = ["**/" * 200 + "*a*a*a*a*a*a*a*a*b", "*a" * 500 + "b", "**/" + "[a]*" * 200 + "b/**/x"]
    governed.commit(
        "policy", {".safeai/policy.yaml": POLICY.replace("config/keys/", ", ".join(map(repr, hard)))}
    )
    governed.commit("long", {"src/a": ""}, ai=True)
    name = "a/" * 100 + "a" * 200
    blob = governed.git("rev-parse", "HEAD:src/a")
    below = tree(governed, *(entry("100644", f"{i:03}" + "a" * 250, blob) for i in range(900)))
    for part in reversed(name.split("/")[:-1]):
        below = tree(governed, entry("40000", part, below))
    root = beside(governed, entry("40000", "zzz", below))
    refused(governed, commit(governed, root, head(governed)), "no allowed pattern matches")


@pytest.mark.parametrize(
    "when",
    ["change.branch.matches(r'((a{100}){100}){100}')", "edits.all(a, edits.all(b, edits.all(c, true)))"],
)
def test_B54_an_expression_made_to_explode(governed: Repo, when: str) -> None:
    rule = f'rules: [{{id: bomb, when: "{when}", outcome: deny, message: refused}}]\n'
    governed.commit("policy", {".safeai/policy.yaml": POLICY + rule})
    result = judged(governed, "check", "--agent", "claude-code", "--no-sign")
    assert result.code in (0, 3), result.both
    governed.write("src/b.py", "b = 1\n")
    governed.git("add", "-A")
    result = judged(governed, "check", "--agent", "claude-code", "--no-sign")
    assert result.code in (1, 3)
    assert "of the expression" in result.both


def noted(repo: Repo, root: str) -> Result:
    """Verify an agent's commit while the notes are these."""
    start = head(repo)
    repo.commit("work", {"src/b.py": "b = 1\n"}, ai=True)
    repo.git("update-ref", "refs/notes/safeai", commit(repo, root))
    return judged(repo, "verify", f"{start}..main")


@pytest.mark.parametrize(
    "content", [b"x" * (50 << 20), b"".join(b"%x\n" % i for i in range(700_000)), b"{\n" * (1 << 21)]
)
def test_B87_a_note_made_to_be_long(governed: Repo, content: bytes) -> None:
    start = head(governed)
    name = governed.commit("work", {"src/b.py": "b = 1\n"}, ai=True)
    note = put(governed, "blob", content)
    governed.git(
        "update-ref", "refs/notes/safeai", commit(governed, tree(governed, entry("100644", name, note)))
    )
    result = judged(governed, "verify", f"{start}..main")
    assert result.code == 1
    assert "missing" in result.out or "invalid" in result.out


@pytest.mark.parametrize("digits", [1, 2])
def test_B87_notes_that_are_a_tree_of_trees(governed: Repo, digits: int) -> None:
    names = [f"{i:0{digits}x}" for i in range(16**digits)]
    below = tree(governed, *(entry("100644", one, governed.blob(b"{}")) for one in names))
    for _ in range(40 // digits - 1):
        below = tree(governed, *(entry("40000", one, below) for one in names))
    result = noted(governed, below)
    assert result.code in (1, 3)
    assert "missing" in result.out or "the notes hold more than 1,000,000 entries" in result.err


# Patches


def base85(data: bytes) -> bytes:
    lines = []
    for at in range(0, len(data), 52):
        piece = data[at : at + 52]
        size = len(piece)
        letter = chr(ord("A") + size - 1) if size <= 26 else chr(ord("a") + size - 27)
        lines.append(letter.encode() + base64.b85encode(piece + bytes(-size % 4)) + b"\n")
    return b"".join(lines)


def patched(repo: Repo, patch: bytes) -> Result:
    file: Path = repo.path.parent / "bomb.patch"
    file.write_bytes(patch)
    return judged(repo, "check", "--patch", str(file), "--no-sign", "--agent", "claude-code")


def test_B62_a_binary_patch_that_unpacks_to_gigabytes(governed: Repo) -> None:
    size = 256 << 20
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(256)) + packer.flush()
    head_line = (
        b"diff --git a/src/z b/src/z\nnew file mode 100644\nindex %040d..%040d\nGIT binary patch\n" % (0, 1)
    )
    result = patched(
        governed, head_line + b"literal %d\n" % size + base85(packed) + b"\nliteral 0\nHcmV?d00001\n\n"
    )
    assert result.code == 3, result.both
    assert "the patch" in result.err
