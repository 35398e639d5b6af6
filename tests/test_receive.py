"""A push, judged where it arrives: real ``git push`` to a real bare repository with the hook in place."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from safeai_git.core.context import KillSwitch
from safeai_git.core.errors import CouldNotDecide, DeadlinePassed, FormatError
from safeai_git.gate import Deadline
from safeai_git.git.notes_update import NotesAt
from safeai_git.git.repository import discover
from safeai_git.policy_vm import evaluate_expression
from safeai_git.receive import Receiver
from safeai_git.ref_updates import Update, parse_updates
from safeai_git.trust import TrustReader
from tests.conftest import POLICY, Repo, Result

NOTES = "refs/notes/safeai"
ZEROS = "0" * 40


def install(server: Repo, flags: str = "", around: str = "{run}") -> None:
    """Put the hook where docs/pre-receive.md says."""
    run = f"{shlex.quote(sys.executable)} -m safeai_git hook run pre-receive {flags}"
    hook = server.path / "hooks" / "pre-receive"
    hook.write_text(f"#!/bin/sh\ncd {shlex.quote(str(server.path))}\n{around.format(run=run)}\n")
    hook.chmod(0o755)


def push(repo: Repo, *arguments: str, env: dict[str, str] | None = None) -> Result:
    """``git push`` past the clone's own hooks."""
    done = subprocess.run(
        ["git", "push", "--no-verify", "origin", *arguments],
        cwd=repo.path,
        env=repo.environment | {"PYTHONPATH": os.pathsep.join(sys.path)} | (env or {}),
        capture_output=True,
    )
    return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def refs(server: Repo) -> dict[str, str]:
    rows = server.git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    return dict(row.split(" ") for row in rows)  # type: ignore[arg-type]


@pytest.fixture
def server(make_repo: Callable[..., Repo], governed: Repo) -> Repo:
    """A bare repository whose main is the governed one's, and the hook."""
    bare = make_repo("server.git", "--bare")
    governed.git("remote", "add", "origin", f"file://{bare.path}")
    governed.git("push", "-q", "--no-verify", "origin", "main")
    install(bare)
    return bare


# What passes


def test_allowed_commits_are_taken_without_a_word(governed: Repo, server: Repo) -> None:
    head = governed.commit("work", {"src/b.py": "b = 1\n"}, ai=True)
    done = push(governed, "main")
    assert done.code == 0, done.both
    assert "safeai-git" not in done.err
    assert refs(server)["refs/heads/main"] == head


def test_people_are_not_governed_by_default(governed: Repo, server: Repo) -> None:
    governed.commit("by hand", {"config/keys/prod.pem": "secret"})
    assert push(governed, "main").code == 0


def test_a_first_push_to_an_empty_server_is_judged_by_the_builtin_policy(
    make_repo: Callable[..., Repo], governed: Repo
) -> None:
    bare = make_repo("empty.git", "--bare")
    install(bare)
    governed.git("remote", "add", "origin", f"file://{bare.path}")
    assert push(governed, "main").code == 0
    governed.commit("big", {"src/big.py": "x = 1\n" * 100_000}, ai=True)
    governed.git("push", "-q", "--no-verify", f"file://{bare.path}", "HEAD~1:refs/heads/other")
    done = push(governed, "main")
    assert done.code != 0
    assert "[edit-too-large]" in done.err


def test_a_new_branch_is_judged_by_the_policy_of_head(governed: Repo, server: Repo) -> None:
    governed.git("checkout", "-q", "-b", "topic")
    governed.commit("work", {"src/b.py": "b = 1\n"}, ai=True)
    assert push(governed, "topic").code == 0
    governed.commit("more", {"config/keys/prod.pem": "secret"}, ai=True)
    done = push(governed, "topic:refs/heads/another")
    assert done.code != 0
    assert "config/keys/prod.pem [denied-path]" in done.err
    assert "refs/heads/another" not in refs(server)


def test_nothing_is_written_into_the_quarantine(governed: Repo, server: Repo) -> None:
    around = (
        'find "$GIT_QUARANTINE_PATH" objects safeai 2>/dev/null | sort > before\n'
        'test -n "$GIT_QUARANTINE_PATH" || exit 9\n{run}\ncode=$?\n'
        'find "$GIT_QUARANTINE_PATH" objects safeai 2>/dev/null | sort > after\nexit $code'
    )
    install(server, around=around)
    governed.git("checkout", "-q", "-b", "topic", "main~0")
    governed.commit("one", {"src/b.py": "b = 1\n"}, ai=True)
    governed.git("checkout", "-q", "main")
    governed.commit("two", {"src/c.py": "c = 1\n"}, ai=True)
    governed.git("-c", "core.hooksPath=/dev/null", "merge", "-q", "--no-ff", "-m", "merge", "topic")
    assert push(governed, "main").code == 0
    before = (server.path / "before").read_text()
    assert "incoming" in before
    assert before == (server.path / "after").read_text()


# What does not


def test_all_findings_are_told_at_once_and_nothing_moves(governed: Repo, server: Repo) -> None:
    before = refs(server)
    governed.commit("one", {"config/keys/a.pem": "a"}, ai=True)
    governed.commit("two", {"docs/b.md": "b"}, ai=True)
    done = push(governed, "main")
    assert done.code != 0
    assert "config/keys/a.pem [denied-path]" in done.err
    assert "docs/b.md [path-not-allowed]" in done.err
    assert "the push is refused: 1 of 1 ref" in done.err
    assert refs(server) == before


def test_B50_a_commit_hidden_between_two_good_ones_is_judged(governed: Repo, server: Repo) -> None:
    bad = governed.commit("in", {"config/keys/a.pem": "a"}, ai=True)
    governed.git("rm", "-q", "config/keys/a.pem")
    governed.commit("out, by hand")
    done = push(governed, "main")
    assert done.code != 0
    assert f"DENY commit {bad[:12]}" in done.err
    assert done.err.count("DENY") == 2  # the ref's and the commit's


def test_B50_each_of_several_refs_is_judged(governed: Repo, server: Repo) -> None:
    before = refs(server)
    governed.git("checkout", "-q", "-b", "good")
    governed.commit("good", {"src/b.py": "b"}, ai=True)
    governed.git("checkout", "-q", "-b", "bad", "main")
    governed.commit("bad", {"config/keys/a.pem": "a"}, ai=True)
    for flags in ((), ("--atomic",)):
        done = push(governed, *flags, "good", "bad")
        assert done.code != 0
        assert "DENY refs/heads/bad" in done.err
        assert "refs/heads/good:" not in done.err
        assert "1 of 2 refs" in done.err
        assert refs(server) == before
    assert push(governed, "--atomic", "good", "good:refs/heads/two").code == 0


def test_B50_commits_that_only_the_notes_reach_are_new(governed: Repo, server: Repo) -> None:
    """Otherwise notes, which no policy judges, would carry commits past it."""
    before = refs(server)["refs/heads/main"]
    bad = governed.commit("in", {"config/keys/a.pem": "a"}, ai=True)
    governed.git("update-ref", NOTES, governed.commit_tree(governed.mktree(), bad, ai=False))
    assert push(governed, NOTES).code == 0
    governed.git("rm", "-q", "config/keys/a.pem")
    governed.commit("out, by hand")
    done = push(governed, "main")
    assert done.code != 0
    assert f"DENY commit {bad[:12]}" in done.err
    assert refs(server)["refs/heads/main"] == before


def test_B50_small_steps_add_up_in_the_net_change(governed: Repo, server: Repo) -> None:
    for number in range(12):
        governed.commit(f"step {number}", {f"src/{number}.py": "x = 1\n" * 8_000}, ai=True)
    done = push(governed, "main")
    assert done.code != 0
    assert "net change" in done.err
    assert "[total-too-large]" in done.err


def test_commits_that_are_here_already_still_count_in_the_net_change(governed: Repo, server: Repo) -> None:
    """A branch without the policy was once laxer; what it brings to main is judged by main's."""
    governed.git("checkout", "-q", "-b", "topic")
    governed.commit("bad", {"config/keys/a.pem": "a"}, ai=True)
    (server.path / "hooks" / "pre-receive").rename(server.path / "hooks" / "aside")
    assert push(governed, "topic").code == 0
    (server.path / "hooks" / "aside").rename(server.path / "hooks" / "pre-receive")
    done = push(governed, "topic:main")
    assert done.code != 0
    assert "DENY net change" in done.err


def test_B48_a_merge_that_slips_something_in_is_judged(governed: Repo, server: Repo) -> None:
    governed.git("checkout", "-q", "-b", "topic")
    topic = governed.commit("one", {"src/b.py": "b = 1\n"}, ai=True)
    governed.git("checkout", "-q", "main")
    ours = governed.commit("two", {"src/c.py": "c = 1\n"}, ai=True)
    governed.git("-c", "core.hooksPath=/dev/null", "merge", "-q", "--no-commit", "--no-ff", topic)
    governed.write("config/keys/a.pem", "a")
    governed.git("add", "-A")
    evil = governed.commit_tree(governed.git("write-tree"), ours, topic)
    done = push(governed, f"{evil}:refs/heads/main")
    assert done.code != 0
    assert "DENY merge commit" in done.err


def test_a_policy_cannot_be_changed_by_the_push_that_needs_it_changed(governed: Repo, server: Repo) -> None:
    governed.commit("loosen", {".safeai/policy.yaml": "safe_mode: false\n"})
    governed.commit("use it", {"config/keys/a.pem": "a"}, ai=True)
    done = push(governed, "main")
    assert done.code != 0
    assert ".safeai/policy.yaml [protected-path]" in done.err
    assert "config/keys/a.pem [denied-path]" in done.err


def test_a_branch_that_drops_the_policy_is_judged_by_that_of_head(governed: Repo, server: Repo) -> None:
    orphan = governed.commit_tree(governed.mktree(), ai=False)
    assert push(governed, f"{orphan}:refs/heads/bare").code == 0
    governed.git("checkout", "-q", "--orphan", "bare")
    governed.git("rm", "-rfq", ".")
    governed.git("reset", "-q", "--hard", orphan)
    governed.commit("bad", {"config/keys/a.pem": "a"}, ai=True)
    done = push(governed, "bare")
    assert done.code != 0
    assert "[denied-path]" in done.err


# Review, approvals, checks


def reviewed(governed: Repo) -> None:
    """A commit that needs an approval."""
    governed.commit("ci", {".github/workflows/a.yml": "on: push\n"}, ai=True)


def test_a_review_without_approvals_blocks(governed: Repo, server: Repo) -> None:
    reviewed(governed)
    done = push(governed, "main")
    assert done.code != 0
    assert "REVIEW refs/heads/main" in done.err


def test_approvals_count_from_the_notes_of_the_same_push(
    governed: Repo, server: Repo, maria: dict[str, str]
) -> None:
    reviewed(governed)
    assert governed.safeai("approve", "HEAD", env=maria).code == 0
    assert push(governed, "main").code != 0
    done = push(governed, "main", NOTES)
    assert done.code == 0, done.both
    assert "approved by maria@example.com" in done.err
    assert set(refs(server)) == {"refs/heads/main", NOTES}


def test_approvals_count_from_notes_that_are_here(
    governed: Repo, server: Repo, maria: dict[str, str]
) -> None:
    reviewed(governed)
    governed.safeai("approve", "HEAD", env=maria)
    assert push(governed, NOTES).code == 0
    assert push(governed, "main").code == 0


def test_an_approval_by_the_wrong_key_does_not_count(governed: Repo, server: Repo) -> None:
    reviewed(governed)
    assert governed.safeai("approve", "HEAD").code == 0  # the clone's own key, which is for verdicts
    assert push(governed, "main", NOTES).code != 0


def test_several_commits_need_an_approval_of_the_net_change_too(
    governed: Repo, server: Repo, maria: dict[str, str]
) -> None:
    base = governed.git("rev-parse", "main")
    reviewed(governed)
    governed.commit("more", {"src/b.py": "b"}, ai=True)
    governed.safeai("approve", "HEAD~1", env=maria)
    assert push(governed, "main", NOTES).code != 0
    assert governed.safeai("approve", f"{base}..HEAD", env=maria).code == 0
    done = push(governed, "main", NOTES)
    assert done.code == 0, done.both


def test_an_approval_of_what_a_merge_adds_counts(governed: Repo, server: Repo, maria: dict[str, str]) -> None:
    base = governed.git("rev-parse", "main")
    governed.git("checkout", "-q", "-b", "topic")
    topic = governed.commit("one", {"src/b.py": "b = 1\n"}, ai=True)
    governed.git("checkout", "-q", "main")
    ours = governed.commit("two", {"src/c.py": "c = 1\n"}, ai=True)
    governed.git("-c", "core.hooksPath=/dev/null", "merge", "-q", "--no-commit", "--no-ff", topic)
    governed.write(".github/workflows/a.yml", "on: push\n")
    governed.git("add", "-A")
    merge = governed.commit_tree(governed.git("write-tree"), ours, topic)
    governed.git("reset", "-q", "--hard", merge)
    assert governed.safeai("approve", merge, env=maria).code == 0
    done = push(governed, "main", NOTES)
    assert done.code != 0
    assert "ALLOW merge commit" in done.err
    assert "REVIEW net change" in done.err
    assert governed.safeai("approve", f"{base}..{merge}", env=maria).code == 0
    done = push(governed, "main", NOTES)
    assert done.code == 0, done.both


@pytest.fixture
def checked(governed: Repo, server: Repo) -> Repo:
    """The same with a check in the policy of main."""
    policy = POLICY + "checks:\n  - name: tests\n    run: 'true'\n"
    governed.commit("checks", {".safeai/policy.yaml": policy})
    governed.git(
        "push",
        "-q",
        "--no-verify",
        "--receive-pack",
        "git -c core.hooksPath=/dev/null receive-pack",
        "origin",
        "main",
    )
    return governed


def test_a_check_that_nobody_saw_pass_needs_review(checked: Repo) -> None:
    checked.commit("work", {"src/b.py": "b"}, ai=True)
    done = push(checked, "main")
    assert done.code != 0
    assert "the check 'tests' has not been replayed" in done.err


def test_a_trusted_verdict_that_saw_the_check_pass_counts(checked: Repo) -> None:
    checked.commit("work", {"src/b.py": "b"}, ai=True)
    made = checked.safeai("check", "--range", "HEAD~1..HEAD")
    if made.code != 0:
        pytest.skip(f"nothing here can replay a check: {made.both}")
    assert push(checked, "main").code != 0
    done = push(checked, "main", NOTES)
    assert done.code == 0, done.both


def test_the_organisations_policy_judges_pushes_too(governed: Repo, server: Repo, tmp_path: Path) -> None:
    made = governed.safeai("keys", "generate", "--key-id", "org", "--folder", str(tmp_path / "org"))
    assert made.code == 0, made.both
    exported = governed.safeai("keys", "export", "--key-id", "org", "--folder", str(tmp_path / "org"))
    (tmp_path / "signers").write_text(f'acme namespaces="safeai-policy" {exported.out.strip()}\n')
    (tmp_path / "policy.yaml").write_text("deny_paths: [src/vendor/]\n")
    done = governed.safeai(
        *("policy", "publish", str(tmp_path / "policy.yaml"), "--version", "1", "--expires", "2999-01-01"),
        *("--organisation", "acme"),
        env={"SAFEAI_KEY": str(tmp_path / "org" / "ed25519.org.sk")},
    )
    assert done.code == 0, done.both
    server.git("config", "safeai.orgPolicy", str(tmp_path / "policy.yaml.signed"))
    server.git("config", "safeai.orgSigners", str(tmp_path / "signers"))
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    governed.commit("work", {"src/b.py": "b"}, ai=True)
    assert push(governed, "main", env=state).code == 0
    governed.commit("more", {"src/vendor/b.py": "b"}, ai=True)
    done = push(governed, "main", env=state)
    assert done.code != 0
    assert "src/vendor/b.py [denied-path]" in done.err
    (tmp_path / "policy.yaml.signed").unlink()
    assert "cannot be read" in push(governed, "main", env=state).err


# History


def test_B52_rewriting_the_main_branch_needs_review(governed: Repo, server: Repo) -> None:
    governed.commit("work", {"src/b.py": "b"}, ai=True)
    assert push(governed, "main").code == 0
    before = refs(server)
    governed.git("reset", "-q", "--hard", "HEAD~1")
    done = push(governed, "--force", "main")
    assert done.code != 0
    assert "review [history-rewrite]" in done.err
    assert "git config safeai.historyRewrite warn" in done.err
    assert refs(server) == before
    server.git("config", "safeai.historyRewrite", "warn")
    done = push(governed, "--force", "main")
    assert done.code == 0
    assert "warn   [history-rewrite]" in done.err


def test_B52_rewriting_another_branch_is_a_warning_and_its_commits_are_judged(
    governed: Repo, server: Repo
) -> None:
    governed.git("checkout", "-q", "-b", "topic")
    governed.commit("work", {"src/b.py": "b"}, ai=True)
    assert push(governed, "topic").code == 0
    governed.git("reset", "-q", "--hard", "main")
    governed.commit("otherwise", {"src/c.py": "c"}, ai=True)
    done = push(governed, "--force", "topic")
    assert done.code == 0
    assert "warn   [history-rewrite]" in done.err
    governed.git("reset", "-q", "--hard", "main")
    governed.commit("bad", {"config/keys/a.pem": "a"}, ai=True)
    assert "[denied-path]" in push(governed, "--force", "topic").err
    server.git("config", "safeai.historyRewrite", "deny")
    governed.git("reset", "-q", "--hard", "main")
    assert "deny   [history-rewrite]" in push(governed, "--force", "topic").err


def test_B52_an_unrelated_history_is_judged_whole(governed: Repo, server: Repo) -> None:
    governed.git("checkout", "-q", "--orphan", "other")
    governed.git("rm", "-rfq", ".")
    governed.commit("root", {"src/x.py": "x"}, ai=True)
    done = push(governed, "--force", "other:main")
    assert done.code != 0
    assert "does not descend" in done.err
    governed.commit("next", {"docs/y.md": "y"}, ai=True)
    done = push(governed, "other")
    assert "DENY net change" in done.err


def test_B52_deleting_a_branch_is_a_warning(governed: Repo, server: Repo) -> None:
    governed.git("push", "-q", "--no-verify", "origin", "main:refs/heads/old")
    done = push(governed, "--delete", "old")
    assert done.code == 0
    assert "is deleted" in done.err
    server.git("config", "receive.denyDeleteCurrent", "false")
    done = push(governed, "--delete", "main")
    assert done.code != 0
    assert "review [history-rewrite]" in done.err


def test_B52_another_name_for_the_main_branch_does_not_help(governed: Repo, server: Repo) -> None:
    governed.commit("work", {"src/b.py": "b"}, ai=True)
    assert push(governed, "main").code == 0
    server.git("symbolic-ref", "refs/heads/alias", "refs/heads/main")
    done = push(governed, "--force", "HEAD~1:refs/heads/alias")
    assert done.code != 0
    assert "review [history-rewrite]" in done.err


def test_B52_tags_are_added_and_not_moved(governed: Repo, server: Repo) -> None:
    governed.git("tag", "-a", "-m", "one", "v1")
    governed.git("tag", "plain")
    assert push(governed, "v1", "plain").code == 0
    governed.commit("work", {"src/b.py": "b"}, ai=True)
    governed.git("tag", "-f", "-a", "-m", "two", "v1")
    done = push(governed, "--force", "v1")
    assert done.code != 0
    assert "the tag is moved" in done.err
    done = push(governed, "--delete", "plain")
    assert done.code != 0
    assert "review [history-rewrite]" in done.err


def test_B50_a_tag_brings_its_commits_to_judgement(governed: Repo, server: Repo) -> None:
    governed.commit("bad", {"config/keys/a.pem": "a"}, ai=True)
    governed.git("tag", "-a", "-m", "inner", "inner")
    governed.git("tag", "-a", "-m", "outer", "outer", "inner")
    done = push(governed, "outer")
    assert done.code != 0
    assert "[denied-path]" in done.err


def test_a_tag_of_no_commit_cannot_be_judged(governed: Repo, server: Repo) -> None:
    governed.git("tag", "-a", "-m", "a blob", "blob", governed.blob(b"content"))
    done = push(governed, "blob")
    assert done.code != 0
    assert "[ref-without-commit]" in done.err
    governed.git("tag", "tree", "HEAD^{tree}")
    assert "[ref-without-commit]" in push(governed, "tree").err


# Notes


def noted(governed: Repo, server: Repo) -> None:
    """A verdict in the server's notes."""
    governed.commit("work", {"src/b.py": "b"}, ai=True)
    assert governed.safeai("check", "--range", "HEAD~1..HEAD", "--no-replay").code == 0
    assert push(governed, "main", NOTES).code == 0


def test_B87_notes_are_not_deleted_or_rewritten(governed: Repo, server: Repo) -> None:
    noted(governed, server)
    before = refs(server)
    assert "[notes-update]" in push(governed, "--delete", NOTES).err
    governed.git("update-ref", NOTES, governed.commit_tree(governed.mktree(), ai=False))
    done = push(governed, "--force", NOTES)
    assert done.code != 0
    assert "does not descend" in done.err
    assert refs(server) == before


def test_B87_notes_lose_no_lines_even_going_forward(governed: Repo, server: Repo) -> None:
    noted(governed, server)
    governed.git("update-ref", NOTES, governed.commit_tree(governed.mktree(), NOTES, ai=False))
    done = push(governed, NOTES)
    assert done.code != 0
    assert "of its lines would be lost" in done.err


def test_B87_notes_carry_envelopes_and_nothing_else(governed: Repo, server: Repo) -> None:
    noted(governed, server)
    tip = governed.git("rev-parse", NOTES)
    governed.git("notes", f"--ref={NOTES}", "append", "-m", "hello", "HEAD~1")
    assert "is no envelope" in push(governed, NOTES).err
    governed.git("update-ref", NOTES, tip)
    listed = governed.git_bytes("ls-tree", NOTES)
    blob = governed.blob(b"payload")
    tree = governed.git("mktree", stdin=listed + f"100644 blob {blob}\tpayload.bin\n".encode())
    governed.git("update-ref", NOTES, governed.commit_tree(tree, tip, ai=False))
    done = push(governed, NOTES)
    assert done.code != 0
    assert "payload.bin: it is not a note" in done.err
    assert "[notes-update]" in push(governed, "--force", f"{blob}:{NOTES}").err


def test_notes_grow_when_two_clones_add_to_them(governed: Repo, server: Repo) -> None:
    noted(governed, server)
    governed.commit("more", {"src/c.py": "c"}, ai=True)
    assert governed.safeai("check", "--range", "HEAD~1..HEAD", "--no-replay").code == 0
    done = push(governed, "main", NOTES)
    assert done.code == 0, done.both


def test_B54_notes_that_are_a_bomb_are_not_read_to_the_end(governed: Repo) -> None:
    blob = bytes.fromhex(governed.blob(b"x"))
    tree = governed.mktree(b"100644 " + b"0" * 2 + b"\0" + blob)
    for _ in range(18):
        tree = governed.mktree(
            *(b"40000 %02x\0" % digit + bytes.fromhex(tree) for digit in range(0x10, 0x20))
        )
    tip = governed.commit_tree(tree, ai=False)
    repository = discover(governed.path, governed.environment)
    with pytest.raises(FormatError, match="more than 1,000 entries"):
        NotesAt(repository, (tip,), most=1_000).lines("00")
    repository.close()


# What cannot be decided


def test_a_sha256_server_gives_no_decision(make_repo: Callable[..., Repo]) -> None:
    bare = make_repo("server.git", "--bare", "--object-format=sha256")
    install(bare, around="{run}\ncode=$?\necho code $code >&2\nexit $code")
    clone = make_repo("clone", "--object-format=sha256")
    clone.commit("one", {"a": "a"})
    clone.git("remote", "add", "origin", f"file://{bare.path}")
    done = push(clone, "main")
    assert done.code != 0
    assert "format sha256 cannot be judged yet" in done.err
    assert "code 3" in done.err
    assert refs(bare) == {}


def test_B49_a_shallow_push_of_cut_off_history_gives_no_decision(
    governed: Repo, server: Repo, make_repo: Callable[..., Repo], tmp_path: Path
) -> None:
    for number in range(3):
        governed.commit(f"{number}", {"src/b.py": f"{number}"}, ai=True)
    shallow = tmp_path / "shallow"
    governed.git("clone", "-q", "--depth=1", f"file://{governed.path}", str(shallow))
    clone = Repo(shallow, governed.environment)
    clone.git("remote", "set-url", "origin", f"file://{server.path}")
    server.git("config", "receive.shallowUpdate", "true")
    install(server, around="{run}\ncode=$?\necho code $code >&2\nexit $code")
    before = refs(server)
    done = push(clone, "HEAD:refs/heads/cut")
    assert done.code != 0
    assert "COULD NOT DECIDE refs/heads/cut" in done.err
    assert "code 3" in done.err
    assert refs(server) == before


def test_a_shallow_push_whose_history_is_here_is_judged(governed: Repo, server: Repo, tmp_path: Path) -> None:
    shallow = tmp_path / "shallow"
    governed.git("clone", "-q", "--depth=1", f"file://{server.path}", str(shallow))
    clone = Repo(shallow, governed.environment)
    clone.commit("work", {"src/b.py": "b"}, ai=True)
    assert push(clone, "main").code == 0
    clone.commit("bad", {"config/keys/a.pem": "a"}, ai=True)
    assert "[denied-path]" in push(clone, "main").err


def test_a_broken_policy_on_the_branch_gives_no_decision(governed: Repo, server: Repo) -> None:
    governed.git("checkout", "-q", "-b", "topic")
    governed.commit("break it", {".safeai/policy.yaml": "safe_mode: maybe\n"})
    governed.git(
        "push",
        "-q",
        "--no-verify",
        "--receive-pack",
        "git -c core.hooksPath=/dev/null receive-pack",
        "origin",
        "topic",
    )
    governed.commit("work", {"src/b.py": "b"}, ai=True)
    done = push(governed, "topic")
    assert done.code != 0
    assert "no full answer: .safeai/policy.yaml" in done.err


def test_a_head_that_names_no_branch_gives_no_policy_to_judge_by(governed: Repo, server: Repo) -> None:
    server.git("symbolic-ref", "HEAD", "refs/heads/master")
    done = push(governed, "main:refs/heads/topic")
    assert done.code != 0
    assert "git symbolic-ref HEAD" in done.err
    governed.commit("work", {"src/b.py": "b"}, ai=True)
    assert push(governed, "main").code == 0  # main brings its own policy


def test_B54_the_deadline_ends_the_judging_of_a_push(governed: Repo, server: Repo) -> None:
    base = refs(server)["refs/heads/main"]
    new = governed.commit("work", {"src/b.py": "b"}, ai=True)
    repository = discover(governed.path, governed.environment)
    updates = [Update(base, new, b"refs/heads/main"), Update("", new, b"refs/heads/other")]
    governed.git("update-ref", "refs/heads/main", base)
    for seconds, told in ((1e-9, 1), (600.0, 2)):
        receiver = Receiver(
            repository,
            TrustReader(repository),
            version="0",
            now=lambda: 1.8e9,
            evaluate_expression=evaluate_expression,
            kill_switch=KillSwitch(),
            deadline=Deadline(seconds),
        )
        answers = list(receiver.answers(updates))
        assert len(answers) == told
        assert isinstance(answers[0].error, DeadlinePassed) is (told == 1)
        assert bool(answers[0].judged) is (told == 2)
    repository.close()


def test_a_deadline_that_is_none_is_wrong_use(governed: Repo, server: Repo) -> None:
    governed.commit("work", {"src/b.py": "b"}, ai=True)
    for flags in ("--deadline-seconds", "--deadline-seconds 0", "--deadline-seconds -1", "--other"):
        install(server, flags)
        done = push(governed, "main")
        assert done.code != 0
        assert "it takes --deadline-seconds N" in done.err
    install(server, "--deadline-seconds=60")
    assert push(governed, "main").code == 0


def test_a_wrong_word_in_the_servers_configuration_gives_no_decision(governed: Repo, server: Repo) -> None:
    server.git("config", "safeai.historyRewrite", "allow")
    governed.commit("work", {"src/b.py": "b"}, ai=True)
    done = push(governed, "main")
    assert done.code != 0
    assert "it can be warn, review or deny" in done.err


# Hostile input


def test_hostile_names_reach_the_pushers_terminal_escaped(governed: Repo, server: Repo) -> None:
    governed.git("checkout", "-q", "-b", "plain")
    governed.commit("bad", {b"config/keys/\x1b[31m\n\xff".decode("utf-8", "surrogateescape"): "a"}, ai=True)
    done = push(governed, "HEAD:refs/heads/\u202eevil\u200b")
    assert done.code != 0
    told = [line for line in done.err.splitlines() if line.startswith("remote:")]
    assert any("refs/heads/\\u202eevil\\u200b" in line for line in told)
    assert any("config/keys/\\x1b[31m\\n\\xff" in line for line in told)
    assert not any("\x1b[31m" in line or "\u202e" in line for line in told)


def run(server: Repo, line: str) -> Result:
    return server.safeai("hook", "run", "pre-receive", stdin=line)


def test_the_pushers_word_about_the_old_tip_is_not_taken(governed: Repo, server: Repo) -> None:
    main = refs(server)["refs/heads/main"]
    done = run(server, f"{ZEROS} {main} refs/heads/main\n")
    assert done.code == 3
    assert "is not where this push says it is" in done.err
    assert run(server, f"{main} {main} refs/heads/other\n").code == 3
    assert run(server, f"{main} {main} refs/heads/main\n").code == 0
    assert run(server, "").code == 0


def test_an_object_that_is_not_there_gives_no_decision(server: Repo) -> None:
    assert run(server, f"{ZEROS} {'1' * 40} refs/heads/other\n").code == 3


def test_a_refusal_outweighs_what_could_not_be_decided(governed: Repo, server: Repo) -> None:
    main = refs(server)["refs/heads/main"]
    lines = f"{ZEROS} {'1' * 40} refs/heads/other\n{main} {ZEROS} refs/heads/main\n"
    done = run(server, lines)
    assert done.code == 1
    assert "COULD NOT DECIDE refs/heads/other" in done.err


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"refs/heads/main\n",
        b"0" * 40 + b" " + b"1" * 40 + b" main\n",
        b"0" * 40 + b" " + b"1" * 40 + b" refs/heads/a b\n",
        b"0" * 40 + b" " + b"1" * 39 + b" refs/heads/a\n",
        b"0" * 40 + b" " + b"1" * 40 + b" refs/heads/\x1b[31m\n",
        b"0" * 40 + b" " + b"1" * 40 + b" refs/heads/a\n\n",
        (b"0" * 40 + b" " + b"1" * 40 + b" refs/heads/a\n") * 2,
        (b"0" * 40 + b" " + b"1" * 40 + b" refs/heads/a\n") * 10_001,
    ],
)
def test_lines_that_git_does_not_write_are_refused(line: bytes) -> None:
    with pytest.raises(CouldNotDecide):
        parse_updates(line)


def test_lines_are_taken_apart() -> None:
    old, new = "1" * 40, "2" * 40
    told = (
        f"{ZEROS} {new} refs/heads/a\n{old} {ZEROS} refs/tags/b\n".encode()
        + b"%b %b refs/heads/\xff\n"
        % (
            old.encode(),
            new.encode(),
        )
    )
    assert parse_updates(told) == [
        Update("", new, b"refs/heads/a"),
        Update(old, "", b"refs/tags/b"),
        Update(old, new, b"refs/heads/\xff"),
    ]
