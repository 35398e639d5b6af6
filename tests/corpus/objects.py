"""Attacks with trees that git would not write, built with ``hash-object --literally``."""

from __future__ import annotations

from .bench import EXECUTABLE, FILE, FOLDER, Bench, Entry
from .model import COMMITS, STAGED, Case, attack, deny, refused_by_git, undecided

SEEN = (STAGED, *COMMITS)
"""Modes in which such a tree can be proposed: a patch cannot say it."""


def _tree(bench: Bench, tree: str) -> Case:
    return Case(bench.base, bench.commit(tree, bench.base))


def _beside(bench: Bench, *more: tuple[bytes, bytes, bytes]) -> Case:
    """The base's root with further entries, all in git's order."""
    rows = bench.entries(bench.base)
    rows += [(mode, name, bench.object("blob", content)) for mode, name, content in more]
    rows.sort(key=lambda row: row[1] + (b"/" if row[0] == FOLDER else b""))
    return _tree(bench, bench.raw_tree(rows))


def _below(bench: Bench, folder: bytes) -> Case:
    """A folder of any name at the root, with one file in it."""
    return Case(bench.base, bench.change({folder + b"/config": b"[core]\n"}))


REFUSED = refused_by_git("invalid path")
NOT_PACKED = refused_by_git("unpack failed")
"""An honest git does not even pack such a tree for a push; a dishonest one is met by the same reading as a range."""


@attack("B-34", deny("malformed-tree", at=b".."), modes=SEEN, staged=REFUSED)
def entry_named_dot_dot(bench: Bench) -> Case:
    """A folder named ``..``: a careless checkout writes above the repository.

    Denied before any other rule looks at the paths.
    """
    return _below(bench, b"..")


@attack("B-34", deny("malformed-tree", at=b"src/."), modes=SEEN, staged=REFUSED)
def entry_named_dot(bench: Bench) -> Case:
    """An entry named ``.``.

    Denied: the path that it makes is another's.
    """
    return Case(bench.base, bench.change({b"src/.": b"x\n"}))


@attack("B-34", deny("malformed-tree", at=b".git"), modes=SEEN, staged=REFUSED)
def entry_named_git(bench: Bench) -> Case:
    """``.git/config`` as a tracked file.

    Denied: it would name programs to run.
    """
    return _below(bench, b".git")


@attack("B-34", deny("malformed-tree", at=b".GIT"), modes=SEEN, staged=REFUSED)
def entry_named_git_in_capitals(bench: Bench) -> Case:
    """``.GIT/config``, which is ``.git/config`` where case does not count.

    Denied on every system.
    """
    return _below(bench, b".GIT")


@attack("B-34", deny("malformed-tree", at=b"src/.Git"), modes=SEEN, staged=REFUSED)
def nested_git_folder(bench: Bench) -> Case:
    """``src/.Git/config``: a repository inside, whose configuration runs programs.

    Denied at any depth.
    """
    return _below(bench, b"src/.Git")


@attack("B-34", deny("malformed-tree", at=b"README.md"), modes=SEEN)
def one_name_twice(bench: Bench) -> Case:
    """The root holds ``README.md`` twice with different contents: some readers see the first, some the last.

    Denied: such a tree means two things.
    """
    return _beside(bench, (FILE, b"README.md", b"other\n"))


@attack("B-34", deny("malformed-tree", at=b"src"), modes=SEEN)
def file_and_folder_of_one_name(bench: Bench) -> Case:
    """The root holds ``src`` as a file and as a folder.

    Denied: which of them is checked out depends on the reader.
    """
    return _beside(bench, (FILE, b"src", b"x\n"))


@attack("B-34", deny("malformed-tree"), modes=SEEN)
def unsorted_tree(bench: Bench) -> Case:
    """The entries of the root stand in reverse order, so that a lookup by halving misses some.

    Denied.
    """
    rows = bench.entries(bench.tree({b"zz.py": b"z\n"}, bench.base))
    return _tree(bench, bench.raw_tree(reversed(rows)))


@attack("B-34", deny("malformed-tree", at=b"src/b.py"), modes=SEEN)
def mode_that_git_never_writes(bench: Bench) -> Case:
    """Mode 100777, as very old git wrote it.

    Denied: git reads it as another mode than it says.
    """
    return Case(bench.base, bench.change({b"src/b.py": Entry(b"100777", b"x\n")}))


@attack("B-34", deny("malformed-tree", at=b"src/b.py"), modes=SEEN)
def mode_of_a_device(bench: Bench) -> Case:
    """Mode 060644, a block device.

    Denied: git takes any unknown type for a submodule.
    """
    return Case(bench.base, bench.change({b"src/b.py": Entry(b"60644", b"x\n")}))


@attack("B-34", deny("malformed-tree", at=b"src/b.py"), modes=SEEN)
def mode_with_a_leading_zero(bench: Bench) -> Case:
    """Mode 0100755 written with a zero in front: two names for one tree.

    Denied.
    """
    return Case(bench.base, bench.change({b"src/b.py": Entry(b"0" + EXECUTABLE, b"x\n")}))


@attack("B-34", deny("malformed-tree", at=b"src/../infra/x.tf"), modes=SEEN, staged=REFUSED)
def slash_inside_a_component(bench: Bench) -> Case:
    """One entry whose name is ``../infra/x.tf``: it lies in ``src`` and addresses a denied folder.

    Denied.
    """
    rows = bench.entries(f"{bench.base}:src")
    inner = bench.raw_tree([(FILE, b"../infra/x.tf", bench.object("blob", b"x\n")), *rows])
    return Case(
        bench.base, bench.commit(bench.tree({b"src": Entry(FOLDER, name=inner)}, bench.base), bench.base)
    )


@attack(
    "B-34",
    deny("malformed-tree", at=b"src"),
    modes=SEEN,
    staged=refused_by_git("too-short tree"),
    pre_receive=NOT_PACKED,
)
def tree_that_breaks_off(bench: Bench) -> Case:
    """A tree object whose last entry is cut short.

    Denied: what cannot be taken apart is not guessed at.
    """
    inner = bench.object("tree", b"100644 a.py\0" + b"\x11" * 19)
    return Case(
        bench.base, bench.commit(bench.tree({b"src": Entry(FOLDER, name=inner)}, bench.base), bench.base)
    )


@attack(
    "B-34",
    deny("malformed-tree", at=b"src"),
    modes=SEEN,
    staged=refused_by_git("empty filename"),
    pre_receive=NOT_PACKED,
)
def entry_without_a_name(bench: Bench) -> Case:
    """An entry with an empty name.

    Denied.
    """
    inner = bench.object("tree", b"100644 \0" + b"\x11" * 20)
    return Case(
        bench.base, bench.commit(bench.tree({b"src": Entry(FOLDER, name=inner)}, bench.base), bench.base)
    )


@attack("B-34", undecided("blob was expected"), modes=SEEN, pre_receive=NOT_PACKED)
def file_that_names_a_tree(bench: Bench) -> Case:
    """An entry says that it is a file and names a tree.

    No decision: the objects contradict each other, and git cannot check it out either.
    """
    tree = bench.entries(bench.base)[0][2]
    folder = next(what for mode, _, what in bench.entries(bench.base) if mode == FOLDER)
    return Case(bench.base, bench.change({b"src/b.py": Entry(FILE, name=folder or tree)}))


@attack("B-56", undecided("hash"), modes=(STAGED,))
def object_whose_bytes_do_not_fit_its_name(bench: Bench) -> Case:
    """A loose object is overwritten with the bytes of another one, so that its name lies.

    No decision: every object is checked against its name as it is read.
    """
    head = bench.change({b"src/b.py": b"good = 1\n"})
    good, evil = bench.object("blob", b"good = 1\n"), bench.object("blob", b"evil = 1\n")
    objects = bench.path / ".git" / "objects"
    place = objects / good[:2] / good[2:]
    place.chmod(0o644)
    place.write_bytes((objects / evil[:2] / evil[2:]).read_bytes())
    return Case(bench.base, head)


@attack(
    "B-56",
    deny("malformed-tree", at=b"src"),
    modes=(STAGED, *COMMITS),
    staged=refused_by_git("too-short tree"),
    pre_receive=NOT_PACKED,
)
def entry_with_a_name_of_another_format(bench: Bench) -> Case:
    """A tree whose entry has an object name of 32 bytes, as in a SHA-256 repository.

    Denied: formats are not mixed.
    """
    inner = bench.object("tree", b"100644 a.py\0" + b"\x11" * 32)
    return Case(
        bench.base, bench.commit(bench.tree({b"src": Entry(FOLDER, name=inner)}, bench.base), bench.base)
    )
