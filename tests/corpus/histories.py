"""Attacks in histories: undone commits, merges, shallow clones, planted refs and grafts, several refs at once."""

from __future__ import annotations

from .bench import Bench
from .model import COMMITS, PRE_RECEIVE, RANGE, Case, Expect, attack, deny, review, undecided

SECRET = b"config/keys/new.pem"


@attack("B-47", deny("denied-path", at=SECRET), modes=COMMITS)
def bad_commit_undone_by_a_later_one(bench: Bench) -> Case:
    """A key is added and taken out again; the net change is empty and history keeps the key.

    Denied: every commit is judged, and the net change besides.
    """
    first = bench.change({SECRET: b"key\n"})
    second = bench.change({SECRET: None}, on=first)
    return Case(bench.base, second)


@attack("B-47", deny("denied-path", at=SECRET), modes=COMMITS)
def bad_commit_in_a_merged_branch(bench: Bench) -> Case:
    """The bad commit and its undoing stand on a side branch, and a merge brings both in.

    Denied: every commit that comes in is judged, whatever parent it hangs on.
    """
    side = bench.change({SECRET: None}, on=bench.change({SECRET: b"key\n"}))
    work = bench.change({b"src/b.py": b"b = 1\n"})
    merge = bench.commit(bench.tree({}, work), work, side, message=b"Merge side")
    return Case(bench.base, merge)


def _fork(bench: Bench) -> tuple[str, str]:
    """Two branches that touch different files."""
    ours = bench.change({b"src/b.py": b"b = 1\n"}, ai=False)
    theirs = bench.change({b"src/c.py": b"c = 1\n"}, ai=False)
    return ours, theirs


@attack("B-48", deny("denied-path", at=SECRET), modes=COMMITS)
def merge_with_content_of_neither_side(bench: Bench) -> Case:
    """A merge commit holds a key that neither of its parents has; most diffs of a merge do not show it.

    Denied: the merge is made again in memory, and the difference to it is an edit.
    """
    ours, theirs = _fork(bench)
    tree = bench.tree({b"src/c.py": b"c = 1\n", SECRET: b"key\n"}, ours)
    return Case(bench.base, bench.commit(tree, ours, theirs, message=b"Merge"))


@attack("B-48", deny("denied-path", at=b"infra/fix.tf"), modes=COMMITS)
def merge_that_drops_one_side(bench: Bench) -> Case:
    """A person's fix in a denied folder is merged 'ours': the merge says it is in, and it is not.

    Denied: what the merge should have brought and did not is a deletion.
    """
    fix = bench.change({b"infra/fix.tf": b"fix\n"}, ai=False)
    bench.git("update-ref", "refs/heads/main", fix)
    work = bench.change({b"src/b.py": b"b = 1\n"})
    return Case(fix, bench.commit(bench.tree({}, work), work, fix, message=b"Merge main"))


@attack("B-48", deny("denied-path", at=b"infra/x.tf"), modes=COMMITS)
def octopus_with_content_of_its_own(bench: Bench) -> Case:
    """A merge of three branches adds a file of its own.

    Denied: all parents are merged again in memory.
    """
    ours, theirs = _fork(bench)
    third = bench.change({b"src/d.py": b"d = 1\n"}, ai=False)
    tree = bench.tree({b"src/c.py": b"c = 1\n", b"src/d.py": b"d = 1\n", b"infra/x.tf": b"x\n"}, ours)
    return Case(bench.base, bench.commit(tree, ours, theirs, third, message=b"Merge all"))


@attack("B-48", deny("edit-too-large", at=b"src/a.py"), modes=COMMITS)
def resolution_of_a_conflict_that_brings_more(bench: Bench) -> Case:
    """Both sides changed one line; the resolution brings 9,000 bytes.

    Denied: a resolution is an edit of the merge's author.
    """
    ours = bench.change({b"src/a.py": b"a = 2\n"}, ai=False)
    theirs = bench.change({b"src/a.py": b"a = 3\n"}, ai=False)
    tree = bench.tree({b"src/a.py": b"data = 0\n" * 1000}, bench.base)
    return Case(bench.base, bench.commit(tree, ours, theirs, message=b"Merge"))


@attack("B-48", deny("denied-path", at=SECRET), modes=(RANGE,))
def bad_only_once_it_is_merged(bench: Bench) -> Case:
    """A folder is renamed on the base while the topic adds a file to it: merging moves nothing, but a base that
    has gone on has to be taken into account.

    Denied by the topic's own commit, and the result of the merge is judged as well.
    """
    topic = bench.change({SECRET: b"key\n"})
    base = bench.change({b"src/b.py": b"b = 1\n"}, ai=False)
    return Case(base, topic)


@attack("B-49", undecided("unshallow"), modes=(RANGE,))
def clone_that_is_too_shallow(bench: Bench) -> Case:
    """The clone was cut off above the base, as CI services do by default.

    No decision, with the command that fetches the rest.
    """
    head = bench.change({SECRET: b"key\n"}, on=bench.change({b"src/b.py": b"b\n"}))
    bench.git("update-ref", "refs/heads/topic", head)
    bench.git("clone", "-q", "--depth", "1", "-b", "topic", f"file://{bench.path}", "../clone")
    return Case(bench.base, head, clone="clone")


@attack("B-49", deny("denied-path", at=SECRET), modes=(RANGE,))
def histories_that_cross(bench: Bench) -> Case:
    """Two branches merged each other, so that there are two best common ancestors; one of them has the key already.

    Denied: the net change is taken against each of them.
    """
    left = bench.change({SECRET: b"key\n"})
    right = bench.change({b"src/b.py": b"b = 1\n"})
    both = bench.tree({b"src/b.py": b"b = 1\n"}, left)
    base = bench.commit(bench.tree({}, right), right, left, message=b"Merge left, without the key", ai=False)
    head = bench.commit(both, left, right, message=b"Merge right")
    return Case(base, head)


@attack("B-49", Expect(error="two dots"), modes=(RANGE,))
def three_dots_for_two(bench: Bench) -> Case:
    """``main...topic`` means something else to git than ``main..topic``.

    Refused as wrong use, with the form that is meant.
    """
    return Case(bench.base, bench.change({SECRET: b"key\n"}), ("main", ".topic"))


@attack("B-49", undecided("no history in common"), modes=(RANGE,))
def history_without_a_common_ancestor(bench: Bench) -> Case:
    """The proposed branch has a root of its own.

    No decision: there is nothing that it could be compared with.
    """
    tree = bench.tree({b"src/b.py": b"b = 1\n"}, bench.base)
    return Case(bench.base, bench.commit(tree, message=b"A new beginning"))


@attack("B-50", deny("denied-path", at=SECRET), modes=("pre-push", PRE_RECEIVE))
def bad_ref_behind_a_good_one(bench: Bench) -> Case:
    """Two branches in one push; only the second holds the key.

    Denied: every ref of a push is judged.
    """
    good, bad = bench.change({b"src/b.py": b"b = 1\n"}), bench.change({SECRET: b"key\n"})
    return Case(bench.base, good, updates=((good, "refs/heads/good"), (bad, "refs/heads/other")))


@attack("B-50", deny("denied-path", at=SECRET), modes=("pre-push", PRE_RECEIVE))
def bad_commit_behind_a_tag(bench: Bench) -> Case:
    """The bad commit comes in with a tag alone, on no branch.

    Denied: what a tag brings in is in the repository too.
    """
    bad = bench.change({SECRET: b"key\n"})
    return Case(bench.base, bad, updates=((bad, "refs/tags/v1"),))


@attack("B-50", deny("denied-path", at=SECRET), modes=("pre-push", PRE_RECEIVE))
def bad_commit_behind_an_annotated_tag(bench: Bench) -> Case:
    """As before, with a tag object around a tag object in front of it.

    Denied: tags are peeled.
    """
    bad = bench.change({SECRET: b"key\n"})
    head = b"object %b\ntype %b\ntag v1\ntagger Ada Author <ada@example.com> 1767323045 +0000\n\nv1\n"
    inner = bench.object("tag", head % (bad.encode(), b"commit"))
    outer = bench.object("tag", head % (inner.encode(), b"tag"))
    return Case(bench.base, bad, updates=((outer, "refs/tags/v1"),))


@attack("B-50", deny("denied-path", at=SECRET), modes=("pre-push", PRE_RECEIVE))
def bad_commit_on_a_ref_outside_the_branches(bench: Bench) -> Case:
    """The bad commit is pushed to ``refs/hidden/x``, which no branch list shows.

    Denied: names of refs exempt from nothing.
    """
    bad = bench.change({SECRET: b"key\n"})
    return Case(bench.base, bad, updates=((bad, "refs/hidden/x"),))


@attack("B-51", deny("denied-path", at=SECRET), modes=(RANGE, "pre-push"))
def bad_commit_covered_by_a_replacement(bench: Bench) -> Case:
    """A replace ref shows a harmless commit instead of the bad one to every git command.

    Denied: no replacement is honoured.
    """
    bad, good = bench.change({SECRET: b"key\n"}), bench.change({b"src/b.py": b"b = 1\n"})
    bench.git("update-ref", f"refs/replace/{bad}", good)
    return Case(bench.base, bad)


@attack("B-51", deny("denied-path", at=SECRET), modes=(RANGE, "pre-push"))
def bad_commit_cut_out_by_a_graft(bench: Bench) -> Case:
    """``.git/info/grafts`` says that the last commit's parent is the base, so that the bad one between vanishes.

    Denied: grafts are not honoured, which ``GIT_NO_REPLACE_OBJECTS`` alone does not stop.
    """
    bad = bench.change({SECRET: b"key\n"})
    head = bench.change({SECRET: None}, on=bad)
    bench.write(".git/info/grafts", f"{head} {bench.base}\n".encode())
    return Case(bench.base, head)


@attack("B-51", deny("denied-path", at=SECRET), modes=(RANGE, "pre-push"))
def objects_borrowed_from_elsewhere(bench: Bench) -> Case:
    """The bad commit's objects lie in another repository that ``alternates`` names.

    Denied: they are read, since a name is the hash of its content, and judged like all others.
    """
    elsewhere = bench.place / "elsewhere"
    bench.git("init", "-q", "--bare", str(elsewhere), cwd=bench.place)
    bad = bench.change({SECRET: b"key\n"})
    objects = bench.path / ".git" / "objects"
    kept = {
        bad,
        bench.git("rev-parse", f"{bad}^{{tree}}"),
        bench.git("rev-parse", f"{bad}:{SECRET.decode()}"),
    }
    for name in kept:
        (elsewhere / "objects" / name[:2]).mkdir(exist_ok=True)
        (objects / name[:2] / name[2:]).rename(elsewhere / "objects" / name[:2] / name[2:])
    (objects / "info").mkdir(exist_ok=True)
    (objects / "info" / "alternates").write_text(f"{elsewhere / 'objects'}\n")
    return Case(bench.base, bad)


@attack("B-51", undecided("not in the object store"), modes=(RANGE,))
def objects_left_with_a_promisor(bench: Bench) -> Case:
    """A partial clone: the blob of the change was never fetched, and its remote is a program.

    No decision, with the command that fetches it; no remote is asked.
    """
    head = bench.change({b"src/b.py": b"b = 12345\n"})
    blob = bench.git("rev-parse", f"{head}:src/b.py")
    (bench.path / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    bench.git("config", "remote.origin.promisor", "true")
    bench.git("config", "remote.origin.partialclonefilter", "blob:none")
    bench.git("config", "remote.origin.url", "ext::sh -c touch% pwned")
    bench.git("config", "core.repositoryformatversion", "1")
    bench.git("config", "extensions.partialClone", "origin")
    return Case(bench.base, head)


@attack("B-52", review("history-rewrite"), modes=(PRE_RECEIVE,))
def main_branch_is_rewritten(bench: Bench) -> Case:
    """A forced push replaces the last commit of ``main`` by another.

    Review: what was judged before is gone afterwards.
    """
    tree = bench.tree({b"src/b.py": b"b = 1\n"}, bench.base)
    other = bench.commit(tree, message=b"Start anew", ai=False)
    return Case(bench.base, other, updates=(("+" + other, "refs/heads/main"),))


@attack("B-52", review("history-rewrite"), modes=(PRE_RECEIVE,))
def tag_is_moved(bench: Bench) -> Case:
    """A tag that the server has moves to another commit.

    Review: people fetch tags by name and believe them.
    """
    new = bench.change({b"src/b.py": b"b = 1\n"})
    bench.git("update-ref", "refs/tags/v0", bench.base)
    return Case(bench.base, new, updates=(("+" + new, "refs/tags/v0"),))


@attack("B-52", review("history-rewrite"), modes=(PRE_RECEIVE,))
def main_branch_is_deleted(bench: Bench) -> Case:
    """The branch that HEAD names is deleted.

    Review.
    """
    return Case(bench.base, bench.base, updates=(("", "refs/heads/main"),))
