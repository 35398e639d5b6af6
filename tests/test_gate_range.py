"""A range that people and agents wrote together: whose edits count against whose limits."""

from __future__ import annotations

import json

import pytest
from conftest import Repo


def judged(repo: Repo, revisions: str) -> tuple[int, dict[str, dict[str, object]]]:
    done = repo.safeai("check", "--range", revisions, "--no-sign", "--format", "json")
    rows = json.loads(done.out)["judgements"]
    return done.code, {row["kind"]: row for row in rows}


def test_a_persons_large_commit_does_not_count_against_an_agents_small_one(governed: Repo) -> None:
    base = governed.git("rev-parse", "HEAD")
    governed.commit("by a person", {"assets/large.txt": "x" * 600_000})
    governed.commit("by an agent", {"src/b.py": "b = 1\n"}, ai=True)
    code, rows = judged(governed, f"{base}..HEAD")
    assert code == 0
    paths = [edit["path"] for edit in rows["net"]["edits"]["paths"]]  # type: ignore[index]
    assert paths == ["src/b.py"]


def test_a_path_that_both_changed_is_judged(governed: Repo) -> None:
    base = governed.git("rev-parse", "HEAD")
    governed.commit("by a person", {"src/b.py": "x\n" * 100_000})
    governed.commit("by an agent", {"src/b.py": "x\n" * 100_000 + "b = 1\n"}, ai=True)
    code, rows = judged(governed, f"{base}..HEAD")
    assert code == 1
    assert {finding["rule"] for finding in rows["net"]["findings"]} == {"edit-too-large"}  # type: ignore[index]


def test_B47_what_only_agents_changed_is_judged_as_a_whole(governed: Repo) -> None:
    base = governed.git("rev-parse", "HEAD")
    for number in range(9):
        governed.commit("a step", {f"src/part{number}.py": "x" * 60_000}, ai=True)
    code, rows = judged(governed, f"{base}..HEAD")
    assert code == 1
    assert {finding["rule"] for finding in rows["net"]["findings"]} == {"total-too-large"}  # type: ignore[index]


def test_the_result_of_the_merge_leaves_out_the_same_paths(governed: Repo) -> None:
    base = governed.git("rev-parse", "HEAD")
    governed.git("checkout", "-q", "-b", "topic")
    governed.commit("by a person", {"assets/large.txt": "x" * 600_000})
    governed.commit("by an agent", {"src/b.py": "b = 1\n"}, ai=True)
    governed.git("checkout", "-q", "main")
    governed.commit("meanwhile", {"src/c.py": "c = 1\n"})
    assert governed.git("rev-parse", "main") != base
    code, rows = judged(governed, "main..topic")
    assert code == 0
    assert [edit["path"] for edit in rows["merge-result"]["edits"]["paths"]] == ["src/b.py"]  # type: ignore[index]


def test_a_patch_is_replayed_like_any_other_change(governed: Repo) -> None:
    policy = governed.path / ".safeai" / "policy.yaml"
    policy.write_text(policy.read_text() + "checks: [{name: unit, run: grep -q 2 src/a.py}]\n")
    governed.commit("a check")
    governed.write("src/a.py", "a = 2\n")
    patch = governed.git_bytes("diff").decode()
    governed.git("checkout", "-q", "--", ".")
    done = governed.safeai("check", "--patch", "-", "--agent", "codex", "--no-sign", stdin=patch)
    if "no usable sandbox" in done.both:
        pytest.skip("no sandbox here")
    assert done.code == 0, done.both
    assert "check unit: passed" in done.out
