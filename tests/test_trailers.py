"""Git's trailer block as git reads it: held against ``git interpret-trailers --parse`` itself."""

from __future__ import annotations

import subprocess

import pytest
from conftest import Repo
from hypothesis import given, settings
from hypothesis import strategies as st
from tools_trailers import TOGETHER, differences, messages_of, of_git, of_ours

from safeai_git.core.trailers import Trailer, read_block, trailer_block

CUT = "# ------------------------ >8 ------------------------\n"

HOSTILE = [
    "",
    "\n",
    "\n\n\n",
    "subject",
    "subject\n",
    "A: b",
    "A: b\n\n",
    "\nA: b\n",
    "\n\nA: b\n",
    "s\n\nA: b",
    "s\n\nA: b\n",
    "s\n\nA: b\n\n\n",
    "s\n\nA: b\n \n\t\n",
    "s\nA: b\n",
    "s\n\nbody\nA: b\n",
    "s\n\nA: b\nbody\n",
    "s\n\nA: b\n\nC: d\n",
    "s\n \nA: b\n",
    "s\r\n\r\nA: b\r\nC: d\r\n",
    "s\r\n\r\nA: b\r\n\r\n",
    "s\n\nA:b\nA :c\nA\t:\td\nA  :  e\n",
    "s\n\n: b\n",
    "s\n\n:\nA: b\n",
    "s\n\nA:\n",
    "s\n\nA:\n b\n",
    "s\n\nA: b\n c\n  d\n\te\n",
    "s\n\nA: b\n \n",
    "s\n\n c\nA: b\n",
    "s\n\n A: b\n",
    "s\n\nA: b\n c: d\nE: f\n",
    "s\n\nA b: c\n",
    "s\n\nA-b: c\n-a: b\n--: c\n",
    "s\n\nA_b: c\n",
    "s\n\n1: 2\n",
    "s\n\nhttp://example.org\n",
    "s\n\nA\u00a0: b\n",
    "s\n\nÄ: b\n",
    "s\n\nA: b\x0b\n\x0cc\n",
    "s\n\nA: \u2028b\u2029\n\u0085\n",
    "s\n\nA: b\x1c\x1d\x1e\n",
    # comments, before, within and after
    "# c\ns\n\nA: b\n",
    "s\n# c\n\nA: b\n",
    "s\n\n# c\nA: b\n",
    "s\n\nA: b\n# c\n",
    "s\n\nA: b\n# c\nC: d\n",
    "s\n\nA: b\n# c\n d\n",
    "s\n\nA: b\n\n# c\n",
    "s\n\nA: b\n# c\n\n# d\n\n",
    "s\n\nA: b\n# c\n\nbody\n",
    "# a\n# b\n",
    "#\n\nA: b\n",
    "s\n\n d\n# c\nA: b\n",
    "s\n\nx\n d\n# c\nA: b\nSigned-off-by: x\n",
    # dividers
    "s\n\nA: b\n---\nC: d\n",
    "s\n\nA: b\n---\n\nC: d\n",
    "s\n\nA: b\n--- x\n\nC: d\n",
    "s\n\nA: b\n---x\n\nC: d\n",
    "s\n\nA: b\n----\n\nC: d\n",
    "s\n\nA: b\n ---\n\nC: d\n",
    "s\n\nA: b\n---",
    "s\n\nA: b\n---\t\n",
    "s\n\nA: b\n---\r\n",
    "---\nA: b\n",
    "s\n\n---\n\nA: b\n",
    "s\n\n---------\n\nA: b\n",
    "s\r---\n\nA: b\n",
    # what git wrote itself, and the quarter
    "s\n\nSigned-off-by: x\n",
    "s\n\nsigned-off-by: x\nbody\n",
    "s\n\nbody\nSigned-off-by: x\n",
    "s\n\nSigned-off-by:x\nbody\n",
    "s\n\na\nb\nc\nSigned-off-by: x\n",
    "s\n\na\nb\nc\nd\nSigned-off-by: x\n",
    "s\n\na\nb\nc\nd\nSigned-off-by: x\nA: b\n",
    "s\n\na\nb\n c\n d\nSigned-off-by: x\n",
    "s\n\nSigned-off-by: x\n a\n b\n c\n d\n e\n",
    "s\n\nA: b\n(cherry picked from commit 0123)\n",
    "s\n\n(cherry picked from commit 0123)\n",
    "s\n\n(cherry picked from commit 0123)\nA: b\n",
    "s\n\nbody\n(cherry picked from commit 0123)\nA: b\n c\nbody\n",
    "s\n\n(cherry picked from commit 0123)\n A: b\n",
    "s\n\n(cherry picked from 0123)\nA: b\n",
    "s\n\n(Cherry picked from commit 0123)\nA: b\n",
    "s (cherry picked from commit 0123)\nA: b\n",
    # old conflict lists
    "s\n\nA: b\n\nConflicts:\n\ta\n\tb\n",
    "s\n\nA: b\nConflicts:\n\ta\n",
    "s\n\nA: b\n\nConflicts:\n a\n",
    "s\n\nA: b\n\nConflicts:\n\ta\nx\n",
    "s\n\nA: b\n\n# Conflicts:\n#\ta\n",
    "s\n\nA: b\n\nConflicts:",
    "Conflicts:\n\ta\n\nA: b\n",
    "\n\ta\nConflicts:\n\tb\n\nA: b\n",
    # the cut line
    f"s\n\nA: b\n{CUT}diff\n\nC: d\n",
    f"{CUT}A: b\n",
    f"{CUT}\ns\n\nA: b\n",
    f"s\n\nA: b\n\n{CUT}",
    f"s\n\nA: b\n\n#\n{CUT}\n---\n",
    f"s\n\nA: b\n{CUT.rstrip()}x\n\nC: d\n",
    f"s\n\nA: b\n{CUT.rstrip()}",
    "s\n\nA: b\n\0C: d\n\nE: f\n",
    "\0",
    "s\n\nA: b <c@d\nCo-authored-by: X\n\n\tSigned-off-by: y\n",
    "\ufeffs\n\n\ufeffA: b\n",
]


def test_hostile_messages_as_git_reads_them() -> None:
    """Nothing of git's rules is left out, whatever a message holds."""
    messages = [text.encode() for text in HOSTILE] + [
        b"s\n\nA: \xff\xfe\nB\xff: c\n",
        b"s\n\nA: b\n\xffC: d\n",
        b"s\n\nA: \xe9\n \xe8\n",
    ]
    assert list(differences(messages)) == []
    assert sum(bool(of_ours(one)) for one in messages) > 40


PIECES = st.one_of(
    st.sampled_from(
        [
            "\n",
            "\n\n",
            "\r\n",
            " ",
            "\t",
            "#",
            "# c\n",
            "---\n",
            "--- ",
            ":",
            "A: b\n",
            "Co-authored-by: X <x@y>\n",
            "Signed-off-by: x\n",
            "signed-off-by: x\n",
            "(cherry picked from commit 1)\n",
            "Conflicts:\n",
            "\tpath\n",
            " folded\n",
            "body text\n",
            "A-1 \t: c\n",
            "é: d\n",
        ]
    ),
    st.text(alphabet="aB1-: \t\r\n#", max_size=6),
)


@settings(max_examples=40)
@given(st.lists(st.lists(PIECES, max_size=14).map("".join), min_size=1, max_size=TOGETHER))
def test_any_message_as_git_reads_it(texts: list[str]) -> None:
    """A property over messages made of what the rules speak about, many to one run of git."""
    assert list(differences([text.encode() for text in texts])) == []


def test_the_script_reads_a_repository(repo: Repo) -> None:
    """The differential script compares the messages of real commits, each once."""
    repo.commit("one\n\nCo-authored-by: X <x@y>\n", {"a": "1"})
    repo.commit("two", {"a": "2"})
    found = messages_of(repo.path, 100)
    assert b"one\n\nCo-authored-by: X <x@y>\n" in found
    assert len(found) == len(set(found)) >= 2
    assert list(differences(found)) == []


def test_a_cut_line_below_a_divider_ends() -> None:
    """Git 2.39.5 never answers here; later ones stop at the divider, and so do we."""
    block = read_block(f"s\n\nA: b\n---\nx\n{CUT}\ny\n")
    assert block.pairs == [("A", "b")]


def test_an_old_conflict_list_in_the_first_line_stays_open() -> None:
    """As in git's ``ignore_non_trailer``, where only a line that ends a run closes the list."""
    assert read_block("Conflicts:\nx\n\n\ta\n").end == len("Conflicts:\nx\n")


def test_without_a_divider_as_git_log_reads() -> None:
    """``%(trailers)`` reads on below ``---``."""
    message = "s\n\nA: b\n---\nmore\n\nC: d\n"
    assert read_block(message).pairs == [("A", "b")]
    assert read_block(message, divider=False).pairs == [("C", "d")]


def test_the_block_and_what_stands_before_it() -> None:
    block, rest = trailer_block("s\n\nbody\n\nCo-Authored-By: X\n  <x@y>\n")
    assert (block, rest) == ([Trailer("co-authored-by", "X <x@y>")], "s\n\nbody\n\n")
    assert trailer_block("s\n\nbody\n") == ([], "s\n\nbody\n")
    where = read_block("s\n\nA: b\n# c\n")
    assert (where.start, where.end) == (3, 8)


MEGABYTE = 1_000_000


@pytest.mark.parametrize(
    ("message", "pairs"),
    [
        ("s\n\n" + "A: b\n" * (MEGABYTE // 5), MEGABYTE // 5),
        ("s\n\nA: b\n" + " c\n" * (MEGABYTE // 3), 1),
        ("s\n\nA: b" + " " * MEGABYTE + "c\n", 1),
        ("s\n\nA: b" + "\n " * (MEGABYTE // 2), 1),
        ("s\n\nA" + " " * MEGABYTE + "\n", 0),
        ("s\n\n" + "A" * MEGABYTE + ": b\n", 1),
        ("s\n\n" + "#\n" * (MEGABYTE // 2) + "A: b\n", 1),
        ("s\n\nA: b\n" + "\n" * MEGABYTE, 1),
        ("s\n\nA: b\n" + "#\nConflicts:\n" * (MEGABYTE // 13), 1),
        ("\n" * MEGABYTE, 0),
        ("---" * (MEGABYTE // 3), 0),
        ("s\n\nA: b\n" + "----\n" * (MEGABYTE // 5), 0),
        ("-" * MEGABYTE + "\n\n: \n" * 1000, 0),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value),
)
def test_megabytes_take_linear_time(message: str, pairs: int) -> None:
    """A quadratic step of ours would not end here. Git has some, so it is asked about the beginning."""
    assert len(read_block(message).pairs) == pairs
    assert list(differences([message[:30_000].encode()])) == []


def test_git_is_there_for_comparison() -> None:
    """The reference of this file is git itself, without the machine's configuration."""
    version = subprocess.run(["git", "version"], capture_output=True, check=True).stdout
    assert version.startswith(b"git version")
    assert of_git([b"s\n\nA: b\n", b"", b"s\n\nC:d\n"]) == [b"A: b\n", b"", b"C: d\n"]
