"""Identity, portability, display and JSON form of paths."""

from __future__ import annotations

import itertools
import json
import re
import sys
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from safeai_git.core import display as display_module
from safeai_git.core import paths
from safeai_git.core.errors import FormatError
from safeai_git.core.paths import (
    FOLDS,
    display,
    fold,
    fold_part,
    from_json,
    portability_problems,
    safe_text,
    to_json,
)

PIECES = [
    "a",
    "A",
    "git",
    "~1",
    ".",
    " ",
    ":",
    "::$DATA",
    "\\",
    "/",
    "~",
    "n",
    "x",
    "u",
    "0",
    "-",
    "\n",
    "\x1b",
    "\x7f",
]
PIECES += [
    "é",
    "e\u0301",
    "\u0301",
    "\u0323",
    "\u0345",
    "\u1f80",
    "ß",
    "İ",
    "\u212a",
    "\u200c",
    "\u202e",
    "\ufeff",
    "\u00ad",
]
PIECES += [
    "\u115f",
    "\u3164",
    "\U000e0041",
    "\ufe0f",
    "가",
    "\u1100",
    "\u1161",
    "\u0085",
    "\u00a0",
    "\u2028",
    "😀",
]
RAW = [piece.encode() for piece in PIECES] + [
    b"\xff",
    b"\xc3",
    b"\xa9",
    b"\xe2",
    b"\x80",
    b"\x8c",
    b"\xed\xb3\xbf",
]
PATHS = (
    st.lists(st.sampled_from(RAW), max_size=12).map(b"".join)
    | st.binary(max_size=12)
    | st.text().map(str.encode)
)


@settings(max_examples=1000)
@given(PATHS)
@example(b"\xc3\xe2\x80\x8c\xa9")  # an invisible character between two halves of a visible one
@example(b"\xe2\xe2\x80\x8c\x80\xe2\x80\x8c\x8c")
@example(b"a. :b")
@example("\u1f80\u0301".encode())
@example(b". . /..a")
@example("x" * 300 + "\u0301\u0323" * 5)
def test_folding_twice_is_folding_once(path: bytes | str) -> None:
    path = path if isinstance(path, bytes) else path.encode()
    assert fold(fold(path)) == fold(path)


def test_what_folding_rests_on_holds_for_every_character() -> None:
    """Of Unicode as this Python knows it: decomposing and folding case once is enough, and makes no syntax."""
    for code in itertools.chain(range(0xD800), range(0xE000, sys.maxunicode + 1)):
        decomposed = unicodedata.normalize("NFD", chr(code))
        folded = decomposed.casefold()
        assert folded == unicodedata.normalize("NFD", folded) == folded.casefold(), hex(code)
        assert code < 0x80 or not set("\\/:. ~") & set(folded), hex(code)
        if len(decomposed) == 1 and not unicodedata.combining(decomposed):
            assert not any(map(unicodedata.combining, folded[1:])), hex(code)


def test_the_table_of_ignorables_holds_what_it_must() -> None:
    hfs = {*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF}
    bidi = {
        c for c in range(0x3000) if unicodedata.bidirectional(chr(c)) in {"LRE", "RLE", "PDF", "LRO", "RLO"}
    }
    bidi |= {c for c in range(0x3000) if unicodedata.bidirectional(chr(c)) in {"LRI", "RLI", "FSI", "PDI"}}
    variation = {c for c in range(0xE0200) if "VARIATION SELECTOR" in unicodedata.name(chr(c), "")}
    tags = {*range(0xE0001, 0xE0002), *range(0xE0020, 0xE0080)}
    fillers = {c for c in range(0x10000) if unicodedata.name(chr(c), "").endswith(("L FILLER", "G FILLER"))}
    joiners = {0x00AD, 0x034F, 0x061C, 0x180E, 0x200B, 0x200C, 0x200D, 0x2060}
    for code in hfs | bidi | variation | tags | fillers | joiners:
        assert display_module.IGNORABLES.fullmatch(chr(code)), hex(code)
    for code in [*range(0xAD), *range(0xAE, 0x34F), 0x2010, 0x2029, 0x3000, 0xFFFD, 0x1F600]:
        assert not display_module.IGNORABLES.match(chr(code)), hex(code)
    assert {c for c in range(0x3000) if display_module.BIDI_CONTROLS.match(chr(c))} == bidi | {
        0x61C,
        0x200E,
        0x200F,
    }


TWINS = {
    "ignorables": [(".git", ".g\u200cit"), ("infra", "\ufeffin\u00adfra\ufe0f"), ("a", "a\u3164"), ("a", "\U000e0061a")],
    "canonical": [("caf\u00e9", "cafe\u0301"), ("a\u0323\u0301", "a\u0301\u0323"), ("\uac00", "\u1100\u1161"), ("\u1f80\u0301", "\u03b1\u0313\u0301\u0345")],
    "case": [("infra/x", "Infra/X"), ("straße", "STRASSE"), ("k", "\u212a"), ("é", "É"), ("\u03c3", "\u03c2"), ("\u017f", "S")],
    "separators": [("infra/x", "infra\\x"), ("a/b/c", "a\\b/c")],
    "streams": [("key.pem", "key.pem::$DATA"), ("a/b", "a:x/b:y:z"), (".git/config", ".git::$INDEX_ALLOCATION/config")],
    "trailing": [("infra/x", "infra./x"), ("infra", "infra . ."), ("a/b", "a /b.")],
    "short-names": [(".git/config", "git~1/config"), (".gitmodules", "gitmod~1"), (".gitmodules", "gi7eba~4"), (".gitattributes", "gitatt~2"), (".safeai", "safeai~1")],
}  # fmt: skip


@settings(max_examples=1_000)
@given(
    st.lists(st.sampled_from(["a", "z", "0", "_", "-", ".", "/", "~1", " ", ":", "\\", "A", "é"])).map(
        "".join
    )
)
@example("a./b")
@example("a..b")
@example(".a/..")
@example("a.")
def test_folding_is_all_of_its_steps(text: str) -> None:
    path = text.encode()
    for step in FOLDS:
        text = step.apply(text)
    assert fold(path) == text.encode()


def test_every_fold_has_its_twins() -> None:
    assert [step.name for step in FOLDS] == list(TWINS)


@pytest.mark.parametrize(("name", "one", "other"), [(name, *pair) for name in TWINS for pair in TWINS[name]])
def test_B30_B31_B32_twins_are_one_and_each_fold_is_what_makes_them_so(
    monkeypatch: pytest.MonkeyPatch, name: str, one: str, other: str
) -> None:
    assert fold(one.encode()) == fold(other.encode())
    monkeypatch.setattr(paths, "FOLDS", tuple(step for step in FOLDS if step.name != name))
    assert fold(one.encode()) != fold(other.encode())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"a", b"b"),
        (b"infra", b"infrared"),
        (b"\xff", b"\xfe"),
        (b"\xff", "ÿ".encode()),
        (b"\xc3", b""),
        (b"...", b""),
        (b"a/. ./b", b"a/b"),
        (b"a/b", b"a//b"),
        (b":x", b""),
        (b"git~1.txt", b".git"),
        (b"legit~1", b".git"),
        (b"file~1", b"file"),
        ("\uff47\uff49\uff54".encode(), b"git"),  # another file everywhere, whatever it looks like
        ("\u0131".encode(), b"i"),
        (b" a", b"a"),
        (b"\xff\xe2\x80\x8c\xfe", b"\xff\xfe"),
    ],
)
def test_different_files_stay_different(one: bytes, other: bytes) -> None:
    assert fold(one) != fold(other)


@given(st.text("a\u0301\u0323\u0345\u1f80é가\udcff/", min_size=256, max_size=300))
@example("\u0301\u0323" * 150)
def test_long_paths_decompose_as_short_ones_do(text: str) -> None:
    canonical = next(step for step in FOLDS if step.name == "canonical")
    assert canonical.apply(text) == unicodedata.normalize("NFD", text)


def test_B54_a_long_run_of_marks_comes_back() -> None:
    path = ("a" + "\u0301\u0323" * 100_000).encode()
    assert fold(path) == ("a" + "\u0323" * 100_000 + "\u0301" * 100_000).encode()
    assert {problem.kind for problem in portability_problems(path)} == {"long-component", "long-path"}
    assert len(display(path)) == 1 + 6 * 200_000


def test_a_part_is_folded_without_what_needs_the_whole() -> None:
    assert fold_part("A\u200c\\E\u0301") == "a/e\u0301"
    assert fold_part("x. ") == "x. "
    assert fold_part("GIT~1:") == "git~1:"


def kinds(path: str | bytes) -> set[str]:
    return {
        problem.kind for problem in portability_problems(path if isinstance(path, bytes) else path.encode())
    }


@pytest.mark.parametrize(
    "path",
    [
        "src/main.py",
        "docs/été/naïve.md",
        "a b/c-d_e+f,g=h@i#j%k&l(m)[n]{o}!'^$;`~",
        ".github/workflows/ci.yml",
        ".gitignore",
        ".gitmodules",
        "日本語/한국어/עברית/😀.txt",
        "console/auxiliary/com/com10/lpt/nul_l/a.con",
        "notes~",
        "x" * 255,
        "/".join(["d"] * 128),
    ],
)
def test_portable_paths_have_no_problem(path: str) -> None:
    assert portability_problems(path.encode()) == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a\u200cb", {"invisible"}),
        ("a\ufe0fb", {"invisible"}),
        ("a\u3164b", {"invisible"}),
        ("a\u202eb", {"bidi"}),
        ("a\u2066b\u00ad", {"bidi", "invisible"}),
        ("cafe\u0301", {"normalisation"}),
        ("\u212b", {"normalisation"}),
        (".g\u200cit/config", {"invisible", "git-alias"}),
    ],
)
def test_B31_invisible_and_unnormalised_names_are_found(path: str, expected: set[str]) -> None:
    assert kinds(path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".git/config", {"git-alias"}),
        ("a/.GIT", {"git-alias"}),
        ("a/.git./b", {"git-alias", "trailing"}),
        ("a/.git /b", {"git-alias", "trailing"}),
        (".git::$INDEX_ALLOCATION/b", {"git-alias", "reserved-character"}),
        ("a\\.git\\b", {"git-alias", "reserved-character"}),
        ("git~1", {"git-alias", "short-name"}),
        ("a/GIT~2/b", {"git-alias", "short-name"}),
        ("CONFIG~1.YML", {"short-name"}),
        ("a~10", {"short-name"}),
        ("infra./x", {"trailing"}),
        ("infra ", {"trailing"}),
        ("infra\\x", {"reserved-character"}),
        ("xy::$DATA", {"reserved-character"}),
        ("c:/x", {"reserved-character", "drive"}),
        ("Z:x", {"reserved-character", "drive"}),
        ("ab:/x", {"reserved-character"}),
        ("a/c:", {"reserved-character"}),
        *((f"aa{char}b", {"reserved-character"}) for char in '<>:"|?*\\'),
        *(
            (name, {"device"})
            for name in ("aux.py", "CON", "a/nul/b", "prn.tar.gz", "com1", "LPT9.txt", "com0")
        ),
        *((name, {"device"}) for name in ("COM¹", "lpt³.x", "conin$", "CONOUT$", "nul .txt")),
        ("aux:x", {"device", "reserved-character"}),
    ],
)
def test_B32_what_windows_cannot_hold_is_found_on_every_system(path: str, expected: set[str]) -> None:
    assert kinds(path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a\nb", {"control"}),
        ("a\rb", {"control"}),
        ("a\tb", {"control"}),
        ("a\x1b[2Jb", {"control"}),
        ("a\x7fb", {"control"}),
        ("a\u0085b", {"control"}),
        ("a\u2028b", {"control"}),
        ('a"b', {"reserved-character"}),
        ("-rf", {"leading-dash"}),
        ("a/--help", {"leading-dash"}),
    ],
)
def test_B33_names_that_break_lines_and_commands_are_found(path: str, expected: set[str]) -> None:
    assert kinds(path) == expected


def test_B35_long_deep_and_undecodable_paths_are_found() -> None:
    assert kinds("x" * 256) == {"long-component"}
    assert kinds("é" * 128) == {"long-component"}
    assert kinds("/".join(["x" * 255] * 16)) == set()
    assert kinds("/".join(["x" * 255] * 17)) == {"long-path"}
    assert kinds("/".join(["d"] * 129)) == {"deep"}
    assert kinds(b"a/\xff") == {"encoding"}
    assert kinds(b"\xc0\xaf") == {"encoding"}
    assert kinds(b"\xed\xa0\x80") == {"encoding"}
    assert kinds(b"") == set()


def test_a_problem_is_said_once_in_words_fit_for_a_terminal() -> None:
    problems = portability_problems(b"a\nb/c\x1bd/\xff/aux/con. /x\xe2\x80\xaey\\z")
    assert [(problem.kind, problem.what) for problem in problems] == [
        ("control", r"holds the control character \n"),
        ("encoding", r"is not UTF-8: it holds the byte \xff"),
        ("device", "names a device on Windows: aux"),
        ("trailing", r"ends a component in a dot or space, lost on Windows: con.\x20"),
        ("bidi", r"holds \u202e, which turns the direction of the text"),
        ("reserved-character", "holds the character \\, which Windows reserves"),
    ]


@given(PATHS)
def test_problems_never_hold_what_they_warn_of(path: bytes) -> None:
    found = portability_problems(path)
    assert len({problem.kind for problem in found}) == len(found)
    for problem in found:
        assert problem.what.isprintable()
        assert not display_module.IGNORABLES.search(problem.what)


ESCAPES = re.compile(r"\\(?:\\|n|r|t|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")


def undisplay(shown: str) -> bytes:
    """Reads `display` backwards. That this can be done is what proves that no two paths look alike."""

    def read(escape: re.Match[str]) -> str:
        kind, digits = escape[0][1], escape[0][2:]
        if kind in "\\nrt":
            return {"\\": "\\", "n": "\n", "r": "\r", "t": "\t"}[kind]
        code = int(digits, 16)
        return chr(code + 0xDC00) if kind == "x" and code >= 0x80 else chr(code)

    return ESCAPES.sub(read, shown).encode("utf-8", "surrogateescape")


@settings(max_examples=1000)
@given(PATHS)
@example(b"\\")
@example(b"a\\\n")
@example(b"\\\\n")
@example(b"\\x41\\u0041\\U00000041\\q")
@example(b"\\ ")
@example(b"  a  ")
@example("\\e\u0301".encode())
def test_B33_display_is_one_safe_line_that_can_be_read_back(path: bytes) -> None:
    shown = display(path)
    assert undisplay(shown) == path
    assert shown.isprintable()
    assert not display_module.IGNORABLES.search(shown)
    assert unicodedata.is_normalized("NFC", shown)
    assert shown == shown.strip(" ")


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"", ""),
        (b"src/main.py", "src/main.py"),
        ("docs/été/日本.md".encode(), "docs/été/日本.md"),
        (b"a b", "a b"),
        (b" ", r"\x20"),
        (b" a ", r"\x20a\x20"),
        (b"a\nb\rc\td", r"a\nb\rc\td"),
        (b"\x1b[31m", r"\x1b[31m"),
        ("a\u200cb".encode(), r"a\u200cb"),
        ("a\U000e0041".encode(), r"a\U000e0041"),
        ("a\u00a0b".encode(), r"a\u00a0b"),
        ("a\u0085".encode(), r"a\u0085"),
        (b"\xff\xc3", r"\xff\xc3"),
        (b"a\\q", "a\\q"),
        (b"a\\n", r"a\\n"),
        (b"a\\", "a\\"),
        ("\n\u0301".encode(), r"\n\u0301"),
        ("\u0301/\u0323\u0301a".encode(), r"\u0301/\u0323\u0301a"),
        ("q\u0301".encode(), "q\u0301"),
        ("é/e\u0301é".encode(), r"é/e\u0301\u00e9"),
    ],
)
def test_display_of(path: bytes, shown: str) -> None:
    assert display(path) == shown


def test_safe_text_is_for_messages_and_names() -> None:
    assert safe_text("Ada Lovelace <ada@example.org>") == "Ada Lovelace <ada@example.org>"
    assert safe_text("a\nb\x1b]0;x\x07") == r"a\nb\x1b]0;x\x07"
    assert safe_text("a\nb\r\n\tc", newlines=True) == "a\nb\\r\n\\tc"
    assert safe_text("\u202ecod.exe \udcff \ud800") == r"\u202ecod.exe \xff \ud800"
    assert safe_text(" cafe\u0301 ") == " cafe\u0301 "
    assert safe_text("C:\\dir\\new") == r"C:\dir\\new"
    assert safe_text("") == ""


@given(st.text(st.characters(exclude_categories=())) | st.text("\\nxu0a\n\x1b\u200c\udcff"))
def test_safe_text_obeys_nothing(text: str) -> None:
    assert safe_text(text).isprintable()
    assert safe_text(text, newlines=True).replace("\n", "").isprintable()
    assert safe_text(text, newlines=True).count("\n") == text.count("\n")


@given(PATHS)
@example(b"\xff")
@example("é".encode())
def test_json_form_and_back(path: bytes) -> None:
    members = to_json(path)
    assert from_json(json.loads(json.dumps(members))) == path
    assert from_json({**members, "status": "A"}) == path
    try:
        assert members == {"path": path.decode()}
    except UnicodeDecodeError:
        assert members["path"] == display(path)
        assert set(members) == {"path", "path_bytes"}


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"path": None},
        {"path": 7},
        {"path": b"a"},
        {"path": "\udcff"},
        {"path_bytes": "/w=="},
        {"path": "a", "path_bytes": "YQ=="},  # is UTF-8, so it has no second form
        {"path": "\\xfe", "path_bytes": "/w=="},
        {"path": "\\xff", "path_bytes": "/w"},
        {"path": "\\xff", "path_bytes": "/x=="},
        {"path": "\\xff", "path_bytes": " /w=="},
        {"path": "\\xff", "path_bytes": "é"},
        {"path": "\\xff", "path_bytes": 1},
    ],
)
def test_json_that_to_json_does_not_write_is_refused(members: dict[str, object]) -> None:
    with pytest.raises(FormatError) as caught:
        from_json(members)
    assert caught.value.hint
