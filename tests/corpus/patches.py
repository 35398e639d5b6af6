"""Attacks with patches made by hand: what they say is not what they do."""

from __future__ import annotations

from .bench import Bench, link
from .model import PATCH, Case, attack, deny, review, undecided

ONLY = (PATCH,)


def _patch(bench: Bench, text: bytes) -> Case:
    return Case(bench.base, bench.base, patch=text)


def _new(path: bytes, mode: bytes = b"100644", line: bytes = b"x") -> bytes:
    return b"diff --git a/%b b/%b\nnew file mode %b\n--- /dev/null\n+++ b/%b\n@@ -0,0 +1 @@\n+%b\n" % (
        path,
        path,
        mode,
        path,
        line,
    )


@attack("B-62", undecided("does not apply"), modes=ONLY)
def patch_that_climbs_out(bench: Bench) -> Case:
    """A patch that creates ``../outside``.

    No decision: it does not apply to a tree, and nothing is written anywhere.
    """
    return _patch(bench, _new(b"../outside"))


@attack("B-62", deny("denied-path", at=b"infra/x.tf"), modes=ONLY)
def patch_with_an_absolute_path(bench: Bench) -> Case:
    """A patch that creates ``/infra/x.tf``; the root is cut off like any first part of a path.

    Denied for the path that the tree has in the end.
    """
    text = b"diff --git /infra/x.tf /infra/x.tf\nnew file mode 100644\n--- /dev/null\n+++ /infra/x.tf\n"
    return _patch(bench, text + b"@@ -0,0 +1 @@\n+x\n")


@attack("B-62", undecided("does not apply"), modes=ONLY)
def patch_into_the_git_folder(bench: Bench) -> Case:
    """A patch that creates ``.git/hooks/post-checkout``.

    No decision: git refuses such a path, and the tree never comes to be.
    """
    return _patch(bench, _new(b".git/hooks/post-checkout", b"100755"))


@attack("B-62", undecided("does not apply"), modes=ONLY)
def patch_through_a_symlink(bench: Bench) -> Case:
    """The first part makes ``src/out`` a link to ``/tmp``, the second writes ``src/out/x``.

    No decision: nothing is ever written through a link.
    """
    making = (
        b"diff --git a/src/out b/src/out\nnew file mode 120000\n--- /dev/null\n+++ b/src/out\n@@ -0,0 +1 @@\n"
    )
    return _patch(bench, making + b"+/tmp\n\\ No newline at end of file\n" + _new(b"src/out/x"))


@attack("B-62", undecided("does not apply"), modes=ONLY)
def patch_with_two_names_for_one_file(bench: Bench) -> Case:
    """The ``diff --git`` line says ``src/x.py``, the lines below it say ``infra/x.tf``.

    No decision: git does not apply what contradicts itself.
    """
    text = b"diff --git a/src/x.py b/src/x.py\nnew file mode 100644\n--- /dev/null\n+++ b/infra/x.tf\n@@ -0,0 +1 @@\n+x\n"
    return _patch(bench, text)


@attack("B-62", deny("denied-path", at=(b"config/keys/prod.pem",)), modes=ONLY)
def patch_that_calls_a_deletion_a_rename(bench: Bench) -> Case:
    """A key is renamed out of the denied folder.

    Denied: the tree lacks the old path, whatever the patch calls it.
    """
    text = b"diff --git a/config/keys/prod.pem b/src/x.txt\nsimilarity index 100%\n"
    return _patch(bench, text + b"rename from config/keys/prod.pem\nrename to src/x.txt\n")


@attack("B-62", review("mode-change", at=b"src/run.sh"), modes=ONLY)
def patch_that_only_changes_a_mode(bench: Bench) -> Case:
    """A patch without a single line, only with another mode.

    Review.
    """
    return _patch(bench, b"diff --git a/src/run.sh b/src/run.sh\nold mode 100644\nnew mode 100755\n")


@attack("B-62", deny("symlink-escape", at=b"src/x"), modes=ONLY)
def patch_that_makes_a_link(bench: Bench) -> Case:
    """A new file of mode 120000 whose line is a path outside.

    Denied as the link that it becomes.
    """
    return _patch(
        bench, _new(b"src/x", b"120000", b"/etc/passwd").rstrip(b"\n") + b"\n\\ No newline at end of file\n"
    )


@attack("B-62", review("submodule", at=b"lib"), modes=ONLY)
def patch_that_makes_a_submodule(bench: Bench) -> Case:
    """A new entry of mode 160000.

    Review as the submodule that it becomes.
    """
    return _patch(bench, _new(b"lib", b"160000", b"Subproject commit " + b"1" * 40))


@attack("B-62", deny("denied-path", at=b"config/keys/a\nb.pem"), modes=ONLY)
def patch_with_a_quoted_path(bench: Bench) -> Case:
    r"""The path is C-quoted and holds a newline.

    Denied: the quotes are undone and the path is the tree's.
    """
    name = b'b/config/keys/a\\nb.pem"'
    text = (
        b'diff --git "a/config/keys/a\\nb.pem" "'
        + name
        + b'\nnew file mode 100644\n--- /dev/null\n+++ "'
        + name
    )
    return _patch(bench, text + b"\n@@ -0,0 +1 @@\n+x\n")


@attack("B-62", undecided("does not apply"), modes=ONLY)
def patch_that_is_none(bench: Bench) -> Case:
    """Something that is not a patch.

    No decision: an empty change must not come of it.
    """
    return _patch(bench, b"Dear maintainer, please merge my work.\n")


@attack("B-62", undecided("does not apply"), modes=ONLY)
def patch_that_lies_about_its_context(bench: Bench) -> Case:
    """The hunk's context is not what the base has.

    No decision: it is not applied somewhere near.
    """
    text = b"diff --git a/src/a.py b/src/a.py\n--- a/src/a.py\n+++ b/src/a.py\n@@ -1,2 +1,2 @@\n x = 9\n-y = 9\n+z = 9\n"
    return _patch(bench, text)


@attack("B-62", undecided("does not apply"), modes=ONLY)
def patch_through_a_symlink_of_the_base(bench: Bench) -> Case:
    """The base has ``src/up``, a link to the root; the patch writes ``src/up/infra/x.tf``.

    No decision: it would address the denied folder by another name.
    """
    base = bench.change({b"src/up": link(b"..")}, ai=False)
    bench.git("update-ref", "refs/heads/main", base)
    return Case(base, base, patch=_new(b"src/up/infra/x.tf"))
