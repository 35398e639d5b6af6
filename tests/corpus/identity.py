"""Attacks on the identity of a path: spellings that a pattern misses and some file system does not."""

from __future__ import annotations

import os

from .bench import Bench
from .model import Case, attack, deny, review, undecided

TEXT = b"x = 1\n"
NOT_APPLIED = undecided("does not apply")
"""Git does not apply a patch to such a path: no tree comes to be, so there is no decision."""


def _add(bench: Bench, *paths: bytes) -> Case:
    return Case(bench.base, bench.change(dict.fromkeys(paths, TEXT)))


@attack("B-30", deny("denied-path", "path-collision", at=b"Infra/x.tf"))
def denied_folder_in_other_case(bench: Bench) -> Case:
    """``Infra/x.tf`` against a deny on ``infra/``.

    Denied: on macOS and Windows it lands in the denied folder.
    """
    return _add(bench, b"Infra/x.tf")


@attack("B-30", deny("path-collision", at=b"readme.md"))
def file_that_collides_with_one_that_is_there(bench: Bench) -> Case:
    """``readme.md`` beside ``README.md``.

    Denied: a checkout on a case-folding file system loses one of them.
    """
    return _add(bench, b"readme.md")


@attack("B-30", deny("path-collision", at=b"src/Two.py"))
def two_new_files_that_collide(bench: Bench) -> Case:
    """``src/two.py`` and ``src/Two.py`` come together.

    Denied: which of them is checked out depends on the system.
    """
    return _add(bench, b"src/two.py", b"src/Two.py")


@attack("B-30", deny("path-collision", at=b"src/strasse.py"))
def collision_of_a_letter_that_folds_to_two(bench: Bench) -> Case:
    """``src/straße.py`` and ``src/strasse.py``: full case folding makes one of them.

    Denied: simple lower-casing would miss it.
    """
    return _add(bench, "src/straße.py".encode(), b"src/strasse.py")


@attack("B-31", deny("path-collision", "unportable-path", at="src/cafe\u0301.py".encode()))
def twins_in_two_normal_forms(bench: Bench) -> Case:
    """``café.py`` twice, once composed and once decomposed.

    Denied: they look alike, and on macOS they are one file.
    """
    return _add(bench, "src/caf\u00e9.py".encode(), "src/cafe\u0301.py".encode())


@attack("B-31", deny("unportable-path", at=".g\u200cit/config".encode()))
def git_folder_with_an_invisible_letter(bench: Bench) -> Case:
    """``.g<U+200C>it/config``: git on Linux takes it, HFS+ reads ``.git/config``.

    Denied whatever the policy chooses: it addresses git's own folder.
    """
    return _add(bench, ".g\u200cit/config".encode())


@attack("B-31", deny("denied-path", "unportable-path", at="config/ke\u200bys/x.pem".encode()))
def denied_folder_with_an_invisible_letter(bench: Bench) -> Case:
    """``config/ke<U+200B>ys/x.pem`` against a deny on ``config/keys/``.

    Denied: the invisible character counts for nothing.
    """
    return _add(bench, "config/ke\u200bys/x.pem".encode())


@attack("B-31", deny("unportable-path", at="src/a\u202eyp.exe".encode()))
def name_that_reads_backwards(bench: Bench) -> Case:
    """A bidi control makes ``exe.py`` look like ``yp.exe`` reversed.

    Denied, and shown with the control written out.
    """
    return _add(bench, "src/a\u202eyp.exe".encode())


@attack("B-32", deny("unportable-path", at=b"git~1/config"), patch=NOT_APPLIED)
def short_name_of_the_git_folder(bench: Bench) -> Case:
    """``git~1`` is what NTFS calls ``.git``; git on Linux takes it.

    Denied on every system, whatever the policy chooses.
    """
    return _add(bench, b"git~1/config")


@attack("B-32", deny("denied-path", "unportable-path", at=b"infra./x.tf"))
def denied_folder_with_a_dot_at_the_end(bench: Bench) -> Case:
    """``infra./x.tf``: Windows drops the dot.

    Denied by the deny on ``infra/``.
    """
    return _add(bench, b"infra./x.tf")


@attack("B-32", deny("denied-path", "unportable-path", at=b"infra\\x.tf"))
def denied_folder_with_a_backslash(bench: Bench) -> Case:
    r"""``infra\x.tf`` is one name at the root for git and a file in ``infra`` for Windows.

    Denied by the deny on ``infra/``.
    """
    return _add(bench, b"infra\\x.tf")


@attack("B-32", deny("denied-path", "unportable-path", at=b"infra/main.tf::$DATA"))
def stream_of_a_denied_file(bench: Bench) -> Case:
    """``infra/main.tf::$DATA`` is the file itself on NTFS.

    Denied as that file.
    """
    return _add(bench, b"infra/main.tf::$DATA")


@attack("B-32", deny("unportable-path", at=(b"src/aux.py", b"src/COM1", b"src/nul.tar.gz")))
def names_of_devices(bench: Bench) -> Case:
    """``aux.py``, ``COM1`` and ``nul.tar.gz`` are devices on Windows.

    Denied: a checkout fails there, or talks to a device.
    """
    return _add(bench, b"src/aux.py", b"src/COM1", b"src/nul.tar.gz")


@attack("B-32", deny("unportable-path", at=b"c:/x.py"))
def path_with_a_drive(bench: Bench) -> Case:
    """``c:/x.py`` is a folder named ``c:`` for git and another disk for Windows.

    Denied.
    """
    return _add(bench, b"c:/x.py")


@attack("B-32", deny("protected-path", "unportable-path", at=b"GITMOD~1"))
def short_name_of_a_protected_file(bench: Bench) -> Case:
    """``GITMOD~1`` is ``.gitmodules`` on NTFS.

    Denied as unportable, and protected as what it stands for.
    """
    return _add(bench, b"GITMOD~1")


@attack("B-32", deny("unportable-path", at=b"src/.git /config"), patch=NOT_APPLIED)
def nested_git_folder_with_a_space(bench: Bench) -> Case:
    """``src/.git /config``: Windows drops the space, and a repository appears inside.

    Denied whatever the policy chooses.
    """
    return _add(bench, b"src/.git /config")


@attack("B-33", deny("unportable-path", at=b"src/a\nb.py"))
def newline_in_a_path(bench: Bench) -> Case:
    """One path that looks like two where output is read line by line.

    Denied, as one path, shown on one line.
    """
    return _add(bench, b"src/a\nb.py")


@attack("B-33", deny("denied-path", at=b'config/keys/a\nb\t"c".pem'))
def denied_path_that_git_would_quote(bench: Bench) -> Case:
    """A name in a denied folder that git prints C-quoted, in quotes: a gate that reads such text sees no match.

    Denied: paths are bytes from end to end.
    """
    return _add(bench, b'config/keys/a\nb\t"c".pem')


@attack("B-33", deny("unportable-path", at=(b"src/a\tb.py", b"src/a\rb.py", b'src/a"b.py')))
def tab_return_and_quote_in_paths(bench: Bench) -> Case:
    """Names with a tab, a carriage return and a quote.

    Denied, each as one path.
    """
    return _add(bench, b"src/a\tb.py", b"src/a\rb.py", b'src/a"b.py')


@attack("B-33", deny("unportable-path", at=b"src/\x1b[2J\x1b]0;owned\x07.py"))
def terminal_escape_in_a_path(bench: Bench) -> Case:
    """A name that clears the screen of whoever reads the findings and sets the window's title.

    Denied, and every control is written out.
    """
    return _add(bench, b"src/\x1b[2J\x1b]0;owned\x07.py")


@attack("B-33", deny("unportable-path", at=(b"--output=x", b"src/-rf")))
def names_that_read_as_options(bench: Bench) -> Case:
    """``--output=x`` at the root and ``-rf`` in a folder.

    Denied: some script will pass them on as options.
    """
    return _add(bench, b"--output=x", b"src/-rf")


@attack("B-33", deny("unportable-path", at=b"::error file=src/a.py::all is well\r\n::stop"))
def workflow_command_as_a_path(bench: Bench) -> Case:
    """A name that a CI service would take for one of its commands if it stood on a line of its own.

    Denied, and never printed with its line breaks.
    """
    return _add(bench, b"::error file=src/a.py::all is well\r\n::stop")


@attack("B-33", review("protected-path", at=b"src/a b/'c' $(id)/AGENTS.md"))
def path_of_shell_words(bench: Bench) -> Case:
    """A protected file below a folder that a shell would take apart.

    Review: the pattern finds it, and no shell ever sees it.
    """
    return _add(bench, b"src/a b/'c' $(id)/AGENTS.md")


@attack("B-35", deny("unportable-path", at=b"/".join([b"d"] * 200) + b"/x.py"))
def very_deep_path(bench: Bench) -> Case:
    """Two hundred folders, one in the other.

    Denied as too deep, without a crash.
    """
    return _add(bench, b"/".join([b"d"] * 200) + b"/x.py")


@attack("B-35", deny("unportable-path", at=b"src/" + b"n" * 300))
def component_longer_than_any_file_system_takes(bench: Bench) -> Case:
    """One component of 300 bytes.

    Denied: no usual file system can hold it.
    """
    return _add(bench, b"src/" + b"n" * 300)


_LONG = b"/".join([b"p" * 200] * 25) + b"/x.py"


@attack("B-35", deny("unportable-path", at=_LONG))
def path_longer_than_the_kernel_takes(bench: Bench) -> Case:
    """A path of five thousand bytes.

    Denied as too long.
    """
    return _add(bench, _LONG)


@attack("B-35", deny("unportable-path", at=os.fsencode("src/\udcff\udcfe.py")))
def path_that_is_not_utf8(bench: Bench) -> Case:
    """Bytes that are no UTF-8.

    Denied, shown as escapes, and the same bytes everywhere.
    """
    return _add(bench, b"src/\xff\xfe.py")


@attack("B-35", deny("denied-path", "unportable-path", at=b"config/keys/\xc0\xaf\xed\xa0\x80.pem"))
def overlong_and_surrogate_bytes_in_a_denied_folder(bench: Bench) -> Case:
    """An overlong slash and a lone surrogate, encoded.

    Denied: neither is decoded into something else, and the folder still matches.
    """
    return _add(bench, b"config/keys/\xc0\xaf\xed\xa0\x80.pem")
