"""Patterns: git's own answers, the semantics of a policy's patterns, and hostile ones."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from safeai_git.core.errors import CouldNotDecide, PolicyError
from safeai_git.core.globs import GlobError, parse
from safeai_git.core.paths import fold
from safeai_git.core.wildmatch import LONGEST_PATTERN, Pattern, PatternSet, wildmatch

TABLE = json.loads((Path(__file__).parent / "data" / "wildmatch.json").read_text(encoding="utf-8"))
ROWS: list[tuple[bytes, bytes, bool, bool]] = [
    (pattern.encode(), text.encode(), plain, icase)
    for rows in TABLE["areas"].values()
    for pattern, text, plain, icase in rows
]


class Git:
    """The installed git as a judge of many patterns and paths at once.

    Attributes are looked up with WM_PATHNAME, and `check-attr` takes paths that do not exist. Everything stands below
    one more component that begins with a wildcard, so that git compares no literal prefix apart from wildmatch.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        self.env["GIT_ATTR_NOSYSTEM"] = "1"
        self.run("init", "-q", ".")

    def run(self, *args: str, stdin: bytes = b"") -> bytes:
        done = subprocess.run(
            ["git", *args], cwd=self.folder, env=self.env, input=stdin, stdout=subprocess.PIPE, check=True
        )
        return done.stdout

    @staticmethod
    def takes(pattern: bytes, path: bytes) -> bool:
        """A slash at a pattern's end means something else to attributes, and paths are made canonical first."""
        return (
            not pattern.endswith(b"/")
            and b"\0" not in pattern + path
            and not {b"", b".", b".."} & set(path.split(b"/"))
        )

    def matches(
        self, patterns: Sequence[bytes], paths: Sequence[bytes], *, casefold: bool
    ) -> set[tuple[bytes, bytes]]:
        quoted = ["".join(f"\\{byte:03o}" for byte in b"?/" + pattern) for pattern in patterns]
        attributes = self.folder / ".git" / "attributes-of-the-test"
        attributes.write_text("".join(f'"{text}" p{n}\n' for n, text in enumerate(quoted)), encoding="ascii")
        config = ["-c", f"core.attributesFile={attributes}", "-c", f"core.ignoreCase={str(casefold).lower()}"]
        stdin = b"".join(b"x/%b\0" % path for path in paths)
        fields = self.run(*config, "check-attr", "-z", "--stdin", "--all", stdin=stdin).split(b"\0")[:-1]
        return {
            (patterns[int(name[1:])], path[2:])
            for path, name, _ in zip(
                *[iter(fields)] * 3, strict=True
            )  # a triple for each attribute that is set
        }


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> Git:
    return Git(tmp_path_factory.mktemp("oracle"))


def pairs(patterns: Iterable[bytes], paths: Iterable[bytes], *, casefold: bool) -> set[tuple[bytes, bytes]]:
    paths = list(paths)
    return {
        (pattern, path)
        for pattern in patterns
        for path in paths
        if wildmatch(pattern, path, casefold=casefold)
    }


@pytest.mark.parametrize(("pattern", "text", "plain", "icase"), ROWS)
def test_table(pattern: bytes, text: bytes, plain: bool, icase: bool) -> None:
    assert wildmatch(pattern, text) is plain
    assert wildmatch(pattern, text, casefold=True) is icase


@pytest.mark.parametrize("casefold", [False, True])
def test_table_is_what_git_says(git: Git, casefold: bool) -> None:
    rows = [row for row in ROWS if git.takes(row[0], row[1])]
    assert len(rows) > 230
    said = git.matches([row[0] for row in rows], sorted({row[1] for row in rows}), casefold=casefold)
    for pattern, text, *expected in rows:
        assert ((pattern, text) in said) is expected[casefold], (pattern, text)


PIECES = [
    "a",
    "b",
    "A",
    "é",
    "*",
    "*",
    "**",
    "?",
    "/",
    "/",
    "/**/",
    "**/",
    "\\",
    "[",
    "]",
    "[ab]",
    "[!a]",
    "[^A-b]",
]
PIECES += ["-", "!", "[[:upper:]]", "[[:alpha:]-b]", "[]a]", "[\\]-b]", ":", "[:", ":]", " "]
GLOBS = st.lists(st.sampled_from(PIECES), max_size=9).map(lambda pieces: "".join(pieces).encode())
NAMES = st.text("aabBAé*[]-\\:! ", min_size=1, max_size=5)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: "/".join(names).encode())


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(GLOBS, min_size=20, max_size=40), st.lists(PATHS, min_size=20, max_size=40), st.booleans())
def test_any_pattern_is_what_git_says(
    git: Git, globs: list[bytes], paths: list[bytes], casefold: bool
) -> None:
    globs = sorted({glob for glob in globs if git.takes(glob, b"x")})
    assert pairs(globs, paths, casefold=casefold) == git.matches(globs, paths, casefold=casefold)


@pytest.mark.parametrize("casefold", [False, True])
def test_every_byte_in_every_class_is_what_git_says(git: Git, casefold: bool) -> None:
    names = [
        "alnum",
        "alpha",
        "blank",
        "cntrl",
        "digit",
        "graph",
        "lower",
        "print",
        "punct",
        "space",
        "upper",
    ]
    names.append("xdigit")
    globs = [f"[{no}[:{name}:]]".encode() for name in names for no in ("", "!")]
    globs += [b"?", b"[X-c]", b"[^X-c]", b"[\x80-\xff]", b"[!\xc3]", b"[--0]", b"[B]", b"[!B]", b"\\B"]
    paths = [bytes([byte]) for byte in range(1, 256) if byte not in b"/."]
    assert pairs(globs, paths, casefold=casefold) == git.matches(globs, paths, casefold=casefold)


def test_without_pathname_is_what_git_says(git: Git) -> None:
    names = ["a", "b", "ab", "a/b", "a/b/c", "abc/ab", "B/a", "aab", "x/y/b", "a/ab/b"]
    blob = git.run("hash-object", "-w", "--stdin", stdin=b"x").decode().strip()
    lines = [f"{blob} refs/tags/{name}\n" for name in sorted(names)]
    (git.folder / ".git" / "packed-refs").write_text("".join(lines), encoding="ascii")
    globs = [
        "*",
        "**",
        "a*",
        "*b",
        "a*b",
        "a?b",
        "a[/]b",
        "a[!x]b",
        "**/b",
        "a/**/b",
        "a**b",
        "*/*",
        "?/*",
        "[a-b]*",
        "[A]*",
        "\\a*",
        "*a*b*",
        "x/?/b",
        "*[",
    ]
    for glob in globs:
        for casefold in (False, True):
            found = git.run("tag", "--list", *["--ignore-case"] * casefold, glob).decode().split()
            ours = [
                n for n in names if wildmatch(glob.encode(), n.encode(), pathname=False, casefold=casefold)
            ]
            assert sorted(found) == sorted(ours), (glob, casefold)


MEANT = [
    ("src", "src", True),
    ("src", "src/a", False),
    ("src", "x/src", False),
    ("/src", "src", True),
    ("src/", "src", True),
    ("src/", "src/a", True),
    ("src/", "src/a/b", True),
    ("src/", "srcs", False),
    ("src/", "x/src/a", False),
    ("/src/", "src/a", True),
    ("src/**", "src", False),
    ("src/**", "src/a", True),
    ("src/**", "src/a/b", True),
    ("src/**/", "src/a/b", True),
    ("src/*", "src/a", True),
    ("src/*", "src/a/b", False),
    ("src/*/", "src/a/b", True),
    ("src/*/", "src/a", True),
    ("src/*/", "src", False),
    ("config/keys/", "config/keys", True),
    ("config/keys/", "config/keys/a/b", True),
    ("config/keys/", "config", False),
    ("config\\/keys\\/", "config/keys/a", True),
    ("**", "a/b/c", True),
    ("**", "a", True),
    ("**/", "a", True),
    ("**/**", "a/b", True),
    ("*", "a", True),
    ("*", "a/b", False),
    ("*/", "a/b", True),
    ("**/*", "a/b", True),
    ("**/keys", "keys", True),
    ("**/keys", "a/keys", True),
    ("**/keys", "a/xkeys", False),
    ("**/keys", "keys/a", False),
    ("**/keys/", "keys", True),
    ("**/keys/", "keys/a", True),
    ("**/keys/", "x/keys", True),
    ("**/keys/", "x/keys/a", True),
    ("**/keys/", "x/keys2/a", False),
    ("**/keys/**", "keys", False),
    ("**/keys/**", "x/keys", False),
    ("**/keys/**", "keys/a", True),
    ("**/keys/**", "x/keys/a/b", True),
    ("**/a/keys/", "x/a/keys/b", True),
    ("**/*.pem", "a.pem", True),
    ("**/*.pem", "x/y/a.pem", True),
    ("**/*.pem", "x/y/a.pem/b", False),
    ("**/*.pem/", "x/y/a.pem/b", True),
    ("**/**.pem", "x/y/a.pem", True),
    ("**/**/a", "x/y/a", True),
    ("**\\/a", "a", False),
    ("**\\/a", "x/a", True),
    (".env*", ".env.local", True),
    ("\\!important", "!important", True),
    ("a b", "a b", True),
    ("a.c", "abc", False),
    ("a\\*", "a*", True),
]


@pytest.mark.parametrize(("pattern", "path", "expected"), MEANT)
def test_what_a_policy_means(pattern: str, path: str, expected: bool) -> None:
    parsed = Pattern.parse(pattern)
    assert parsed.matches(path.encode()) is expected
    assert parsed.source == pattern


@pytest.mark.parametrize(("pattern", "path", "expected"), MEANT)
def test_folded_paths_keep_the_meaning(pattern: str, path: str, expected: bool) -> None:
    patterns = PatternSet([Pattern.parse(pattern)])
    for spelling in (path, path.upper(), path.title(), path + "::$DATA"):
        assert (patterns.first_match_folded(spelling.encode()) is not None) is expected, spelling


def policy_means(pattern: bytes, path: bytes) -> bool:
    """The same, said with wildmatch alone: for a folder the path, or any folder above it."""
    if pattern.startswith(b"/"):
        pattern = pattern[1:]
    if not pattern.endswith(b"/"):
        return wildmatch(pattern, path)
    parts = path.split(b"/")
    return any(wildmatch(pattern[:-1], b"/".join(parts[:n])) for n in range(1, len(parts) + 1))


SAFE_GLOBS = st.builds(
    lambda front, parts, back: front + "/".join(parts) + back,
    st.sampled_from(["", "/", "**/"]),
    st.lists(
        st.sampled_from(["a", "b", "ab", "*", "**", "***", "a*", "*b", "?", "[ab]b", "*.b", "a**"]),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["", "/", "/**", "/**/"]),
)


@settings(max_examples=500, deadline=None)
@given(SAFE_GLOBS, st.lists(st.text("ab.", min_size=1, max_size=3), min_size=1, max_size=5).map("/".join))
@example("**/a/", "a/b")
@example("**/*b", "a/.b")
def test_the_short_cuts_mean_what_wildmatch_means(pattern: str, path: str) -> None:
    assert Pattern.parse(pattern).matches(path.encode()) is policy_means(pattern.encode(), path.encode())


REFUSED = [
    ("", "is empty", "everything"),
    ("!src/", "no negation", "deny_paths"),
    ("src/[ab", "without its ]", "\\["),
    ("src/[!", "without its ]", "\\["),
    ("src/[a\\", "without its ]", "\\["),
    ("src/[a-\\", "without its ]", "\\["),
    ("src/[[:alpha:", "without its ]", "\\["),
    ("src/\\", "ends in a backslash", "two"),
    ("src/[[:letter:]]", "unknown class", "[:alpha:]"),
    ("src/[[::]]", "unknown class", "[:alpha:]"),
    ("src/[/]x", "nothing matches", "never"),
    ("src/[é]", "beyond ASCII", "one pattern for each"),
    ("src/[!é]", "beyond ASCII", "one pattern for each"),
    ("src/[a-é]", "beyond ASCII", "one pattern for each"),
    ("/", "empty component", "one /"),
    ("//", "empty component", "one /"),
    ("a//b", "empty component", "one /"),
    ("a//", "empty component", "one /"),
    ("//a", "empty component", "one /"),
    ("a/./b", ". or ..", "root"),
    ("../a", ". or ..", "root"),
    ("./a", ". or ..", "root"),
    ("a/\\.\\.", ". or ..", "root"),
    ("a\0b", "\\x00", "in its place"),
    ("src/\n", "\\n", "in its place"),
    ("in\u200cfra/", "\\u200c", "in its place"),
    ("\u202efdp.exe", "\\u202e", "in its place"),
    ("a\ud800", "\\ud800", "in its place"),
    ("x" * (LONGEST_PATTERN + 1), "1,025 bytes", "split"),
    ("é" * 600, "1,200 bytes", "split"),
]


@pytest.mark.parametrize(("pattern", "message", "hint"), REFUSED)
def test_refused_patterns_say_why(pattern: str, message: str, hint: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Pattern.parse(pattern)
    assert message in caught.value.message
    assert caught.value.message.startswith("the pattern '")
    assert "\n" not in caught.value.message
    assert hint in caught.value.hint
    assert isinstance(caught.value, CouldNotDecide)


def test_a_pattern_of_the_longest_size_is_read() -> None:
    assert Pattern.parse("x" * LONGEST_PATTERN).matches(b"x" * LONGEST_PATTERN)


@given(st.text(max_size=30) | GLOBS.map(bytes.decode))
def test_parse_gives_a_pattern_or_a_policy_error(text: str) -> None:
    try:
        pattern = Pattern.parse(text)
    except PolicyError:
        return
    for path in (b"a", b"a/b", b"\xff/\xc3", text.encode()):
        assert pattern.matches(path) in (True, False)
        assert pattern.folded().matches(fold(path)) in (True, False)


def denied(pattern: str, path: str) -> bool:
    found = PatternSet([Pattern.parse(pattern)]).first_match_folded(path.encode("utf-8", "surrogateescape"))
    return found is not None


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("infra/", "Infra/x"),
        ("Infra/", "infra/x"),
        ("infra/", "INFRA"),
        ("[A-Z]*.key", "a.key"),
        ("[A-Z]*.KEY", "Q.Key"),
        ("[A]*", "apple"),
        ("\\Infra/", "iNFRA/x"),
        ("[[:upper:]]x", "ax"),
        ("**/*.PEM", "a/b.pem"),
        ("**/*.pem", "a/B.PEM"),
        ("STRASSE/", "straße/x"),
        ("*STRASSE*", "xstraßex"),
    ],
)
def test_B30_case_never_hides_a_denied_path(pattern: str, path: str) -> None:
    assert denied(pattern, path)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("caf\u00e9/", "cafe\u0301/x"),
        ("cafe\u0301/", "caf\u00e9/x"),
        ("caf\u00e9*", "cafe\u0301s"),
        ("cafe*", "caf\u00e9"),
        ("*\u00e9", "xe\u0301"),
        ("infra/", "in\u200cfra/x"),
        ("infra/", "\ufeffinfra/x"),
        ("*.key", "a.k\u00ade\u202ey"),
        (".git/", ".g\u200cit/config"),
        (".git/", ".G\u200dIt"),
    ],
)
def test_B31_twins_and_invisible_characters_never_hide_a_denied_path(pattern: str, path: str) -> None:
    assert denied(pattern, path)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("infra/", "infra./x"),
        ("infra/", "infra \u200c./x"),
        ("infra/", "infra\\x"),
        ("infra/**", "infra\\x\\y"),
        ("infra\\\\x", "infra/x"),
        ("a*\\\\x", "ab/x"),
        ("\\\\", "\\"),
        ("infra./", "infra/x"),
        ("key.pem", "key.pem::$DATA"),
        ("**/*.pem", "a/key.pem:stream"),
        ("**/*.pem", "a/key.pem. ."),
        (".git/", "git~1/config"),
        (".git/", "GIT~1 /config"),
        (".git/", ".git::$INDEX_ALLOCATION/config"),
        (".gitmodules", "GITMOD~1"),
        (".gitattributes", "gi7d29~3"),
        (".safeai/", "SAFEAI~1/policy.yaml"),
    ],
)
def test_B32_names_that_windows_takes_for_another_never_hide_a_denied_path(pattern: str, path: str) -> None:
    assert denied(pattern, path)


def test_B33_odd_bytes_in_a_name_are_matched_like_any_other() -> None:
    for path in ("infra/a\nb", "infra/\t", 'infra/"q"', "infra/\x1b[2J", "infra/-rf", "infra/\udcff"):
        assert denied("infra/", path)
        assert denied("infra/*", path)
        assert not denied("infra", path)
        assert not denied("infra/?", path) or len(path) == len("infra/?")


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("infra/", "infrared/x"),
        ("*.", "a"),  # the name must end in a dot; that Windows drops it does not make `a` one
        ("secret:*", "secret"),
        ("[!a]*", "apple"),
        ("[!a]*", "a"),
        ("[\\\\]x", "ax"),
        ("caf?", "cafe\u0301"),
    ],
)
def test_folding_does_not_deny_more_than_was_meant(pattern: str, path: str) -> None:
    assert not denied(pattern, path)


@pytest.mark.parametrize(
    ("pattern", "path"), [("*.", "a."), ("secret:*", "secret:x"), ("[!a]*", "Apple"), ("cafe?", "cafe\udcff")]
)
def test_what_only_the_exact_bytes_tell_is_denied_too(pattern: str, path: str) -> None:
    assert denied(pattern, path)


@given(st.lists(NAMES, min_size=1, max_size=3).map("/".join))
def test_a_literal_pattern_denies_all_that_folds_like_it(name: str) -> None:
    pattern = "".join("\\" + char if char in "*?[]\\!" else char for char in name)
    assert denied(pattern, name)
    assert denied(pattern, name.swapcase())
    assert denied(pattern, fold(name.encode()).decode())
    assert denied(pattern + "/", name.upper() + "/below")


@settings(max_examples=300, deadline=None)
@given(
    SAFE_GLOBS,
    st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=4).map("/".join),
    st.data(),
)
@example("a/*b", "a/bb", None)
def test_B30_B31_B32_every_twin_of_a_denied_path_is_denied(
    pattern: str, path: str, data: st.DataObject | None
) -> None:
    if not Pattern.parse(pattern).matches(path.encode()):
        return
    disguises: list[Callable[[str], str]] = [
        str.upper,
        str.title,
        lambda text: text.replace("/", "\\"),
        lambda text: text.replace("/", ". /"),
    ]
    disguises += [
        lambda text: text + "::$DATA",
        lambda text: text.replace("b", "b\u200c"),
        lambda text: text + " .",
    ]
    chosen = (
        data.draw(st.lists(st.sampled_from(range(len(disguises))), max_size=4))
        if data
        else range(len(disguises))
    )
    for number in chosen:
        path = disguises[number](path)
    assert denied(pattern, path)


def test_folding_again_changes_nothing() -> None:
    for source in ("Infra/", "**/*.PEM", "[A-Z]*/É", "a\\\\b*", "**\\/A"):
        once = Pattern.parse(source).folded()
        assert once.folded() == once
        assert once.source == source


def test_the_first_pattern_that_matches_is_the_one_that_decides() -> None:
    patterns = [Pattern.parse(text) for text in ("docs/", "**/*.md", "Docs/api/", "*")]
    rules = PatternSet(iter(patterns))
    assert list(rules) == patterns
    assert len(rules) == 4
    assert rules.patterns == tuple(patterns)
    assert rules.first_match(b"docs/a.md") is patterns[0]
    assert rules.first_match(b"x/a.md") is patterns[1]
    assert rules.first_match(b"Docs/api/x") is patterns[2]
    assert rules.first_match(b"DOCS/api/x") is None
    assert rules.first_match_folded(b"DOCS/api/x") is patterns[0]
    assert rules.first_match_folded(b"x/y/A.MD") is patterns[1]
    assert rules.first_match_folded(b"top") is patterns[3]
    assert rules.first_match_folded(b"x/y") is None
    assert rules.first_match_folded(b"x/y") is None


SHAPES = st.lists(
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["", "**/", "/"]),
        st.sampled_from(
            ["a", "b", "a/b", "a/", "A", "*a", "*", "?a", "a*/b", "[ab]", "**", "É", "a.b", "é/"]
        ),
        st.sampled_from(["", "/", "/**", "/**/", "/*"]),
    ).filter(lambda text: "//" not in text and text != "/"),
    max_size=6,
)


@settings(max_examples=400, deadline=None)
@given(SHAPES, st.lists(PATHS, min_size=1, max_size=10))
def test_several_patterns_decide_as_each_by_itself_would(sources: list[str], paths: list[bytes]) -> None:
    patterns = []
    for source in sources:
        with contextlib.suppress(PolicyError):
            patterns.append(Pattern.parse(source))
    rules = PatternSet(patterns)
    for path in paths:
        assert rules.first_match(path) is next((one for one in patterns if one.matches(path)), None)
        folded = (one for one in patterns if one.matches(path) or one.folded().matches(fold(path)))
        assert rules.first_match_folded(path) is next(folded, None)


def test_no_patterns_match_nothing() -> None:
    assert PatternSet([]).first_match(b"a") is None
    assert PatternSet([]).first_match_folded(b"a") is None
    assert not PatternSet([])


def test_patterns_are_values() -> None:
    assert Pattern.parse("src/*.py") == Pattern.parse("src/*.py")
    assert len({Pattern.parse("src/"), Pattern.parse("src/"), Pattern.parse("src")}) == 2
    assert repr(Pattern.parse("src/")) == "Pattern(source='src/')"


HOSTILE = [
    "*a*a*a*a*a*a*a*a*b",
    "**/a/**/a/**/a/**/b",
    "**/*a*a*a*b/**/*a*a*b",
    "*a" * 500 + "b",
    "**/" * 300 + "b",
    "**/?/**/?/*a*?*b",
    "[a-z]*" * 150 + "[!a-z]",
    "*" + "?" * 1000 + "b",
    "**/" + "?/" * 400 + "b",
    "*" * 1000 + "b",
    "**/*[!b]*[ab]*[!b]*b/",
]


@pytest.mark.parametrize("pattern", HOSTILE)
@pytest.mark.parametrize("unit", [b"a", b"a/", b"aa/", b"a/aaaaaaa/"])
def test_B54_a_pattern_that_would_explode_comes_back(pattern: str, unit: bytes) -> None:
    path = (unit * 65536)[:65536].rstrip(b"/") + b"x"
    rules = PatternSet([Pattern.parse(pattern)])
    assert rules.first_match(path) is None
    assert rules.first_match_folded(path) is None


def test_B54_a_long_way_that_ends_well_is_found() -> None:
    deep = b"a/" * 30000
    assert Pattern.parse("*a" * 500).matches(b"a" * 65536)
    assert Pattern.parse("**/a/**/a/**/a/**/b").matches(deep + b"b")
    assert Pattern.parse("**/*a*a*b/**/*a*?b").matches(deep + b"xaxab/" + deep + b"aab")
    assert Pattern.parse("**/" + "?/" * 400 + "b").matches(deep + b"b")


def test_malformed_is_told_apart_from_the_rest() -> None:
    with pytest.raises(GlobError) as caught:
        parse(b"[")
    assert str(caught.value) == caught.value.what
    assert caught.value.hint
    assert parse(b"a/**\\/b")[1].is_double_star
