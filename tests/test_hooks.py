"""The git hooks, run by real git: what they let pass, stop, sign and send, and how they are put in and taken out."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import AI_TRAILER, POLICY, Repo, Result

from safeai_git.commands.session import Session
from safeai_git.commands.setup import Asker, hook_states, install, uninstall
from safeai_git.core.envelope import Envelope
from safeai_git.core.verdict import Claim, parse_statement
from safeai_git.git.notes import Notes

HOOKS = ("pre-commit", "commit-msg", "post-commit", "pre-push")
AGENT = {"CLAUDECODE": "1"}
SOURCE = Path(__file__).parent.parent


@dataclass
class Clone(Repo):
    """A repository whose hooks are on."""

    def run(self, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Result:
        done = subprocess.run(
            ["git", *arguments],
            cwd=cwd or self.path,
            env=self.environment | dict(env or {}),
            capture_output=True,
            stdin=subprocess.DEVNULL,
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    def stage(self, path: str, content: str = "x = 1\n") -> None:
        self.write(path, content)
        self.git("add", "--", path)

    def agent_commit(self, path: str, content: str = "x = 1\n", *flags: str) -> str:
        """An agent's commit through the hooks, which has to go through; its name."""
        self.stage(path, content)
        done = self.run("commit", "-q", "-m", f"Add {path}", "-m", AI_TRAILER, *flags)
        assert done.code == 0, done.both
        return self.git("rev-parse", "HEAD")

    def verdicts(self, revision: str = "HEAD") -> list[Claim]:
        session = Session(self.path, self.environment)
        lines = Notes(session.repository).lines(self.git("rev-parse", revision))
        return [parse_statement(Envelope.parse(line).untrusted_payload) for line in lines]

    def decisions(self, revision: str = "HEAD") -> list[str]:
        return [claim.decision for claim in self.verdicts(revision)]

    def session(self) -> Session:
        return Session(self.path, self.environment)


@pytest.fixture(scope="session")
def hooked(tmp_path_factory: pytest.TempPathFactory, base_environment: dict[str, str]) -> Path:
    """A repository set up by the real command, with a first commit of a person."""
    place = tmp_path_factory.mktemp("hooked")
    clone = Clone(place / "repo", base_environment | {"XDG_CONFIG_HOME": str(place / "config")})
    clone.path.mkdir()
    clone.git("init", "-q")
    done = clone.safeai("init")
    assert done.code == 0, done.both
    clone.git("config", "safeai.key", str(place / "config/safeai-git/keys/ed25519.default.sk"))
    clone.write(".safeai/policy.yaml", POLICY)
    clone.commit("start", {"src/a.py": "a = 1\n"})
    return clone.path


@pytest.fixture
def clone(hooked: Path, tmp_path: Path, environment: dict[str, str]) -> Clone:
    shutil.copytree(hooked, tmp_path / "repo", symlinks=True)
    return Clone(tmp_path / "repo", environment)


@pytest.fixture
def remote(clone: Clone, tmp_path: Path) -> Repo:
    """An empty remote, reached by a file:// URL."""
    bare = Repo(tmp_path / "remote.git", clone.environment)
    bare.path.mkdir()
    bare.git("init", "-q", "--bare")
    clone.git("remote", "add", "origin", f"file://{bare.path}")
    return bare


class TestCommit:
    def test_a_change_inside_the_limits_is_committed_and_signed(self, clone: Clone) -> None:
        name = clone.agent_commit("src/b.py")
        assert clone.decisions(name) == ["allow"]
        assert clone.verdicts("HEAD^{tree}")[0].commits == (name,)
        assert clone.safeai("verify", "HEAD~1..HEAD").code == 0

    def test_a_person_is_left_in_peace(self, clone: Clone) -> None:
        clone.stage("docs/anything.md")
        done = clone.run("commit", "-q", "-m", "By hand")
        assert (done.code, done.both, clone.verdicts()) == (0, "", [])

    def test_pre_commit_stops_a_denied_change_by_the_agents_environment(self, clone: Clone) -> None:
        head = clone.git("rev-parse", "HEAD")
        clone.stage("config/keys/prod.pem")
        done = clone.run("commit", "-q", "-m", "Add keys", env=AGENT)
        assert done.code == 1
        assert "config/keys/prod.pem [denied-path]" in done.err
        assert "the commit is refused; nothing of the change is lost" in done.err
        assert clone.git("rev-parse", "HEAD") == head
        assert clone.git("diff", "--cached", "--name-only") == "config/keys/prod.pem"

    def test_commit_msg_stops_a_denied_change_by_its_trailer_alone(self, clone: Clone) -> None:
        head = clone.git("rev-parse", "HEAD")
        clone.stage("config/keys/prod.pem")
        done = clone.run("commit", "-q", "-m", "Add keys", "-m", AI_TRAILER)
        assert (done.code, clone.git("rev-parse", "HEAD")) == (1, head)
        assert done.err.count("[denied-path]") == 1

    def test_a_review_is_let_go_with_a_warning_shown_once(self, clone: Clone) -> None:
        clone.stage(".github/workflows/ci.yml", "on: push\n")
        done = clone.run("commit", "-q", "-m", "CI", "-m", AI_TRAILER, env=AGENT)
        assert done.code == 0
        assert done.err.count("REVIEW staged change") == 1
        assert "it may be committed here; CI and 'safeai-git verify' will ask for the approval" in done.err
        assert clone.decisions() == ["review"]
        assert clone.safeai("verify", "HEAD~1..HEAD").code == 1

    def test_without_a_key_it_is_judged_not_signed_and_the_commit_goes_on(self, clone: Clone) -> None:
        clone.git("config", "--unset", "safeai.key")
        clone.stage("src/b.py")
        done = clone.run("commit", "-q", "-m", "Add it", "-m", AI_TRAILER)
        assert (done.code, clone.verdicts()) == (0, [])
        assert "judged, not signed: no key is configured" in done.err

    def test_B06_what_cannot_be_decided_blocks_the_commit(self, clone: Clone) -> None:
        clone.write(".safeai/policy.yaml", POLICY + "deny_path: [x]\n")
        head = clone.commit("A broken policy")
        clone.stage("src/b.py")
        done = clone.run("commit", "-q", "-m", "Add it")
        assert done.code == 1
        assert "unknown key 'deny_path'" in done.err
        assert clone.git("rev-parse", "HEAD") == head
        hook = subprocess.run(
            [clone.path / ".git/hooks/pre-commit"], cwd=clone.path, env=clone.environment, capture_output=True
        )
        assert hook.returncode == 3

    def test_from_a_subfolder(self, clone: Clone) -> None:
        clone.write("src/deep/b.py", "b = 2\n")
        done = clone.run("add", ".", cwd=clone.path / "src/deep")
        done = clone.run("commit", "-q", "-m", "Add", "-m", AI_TRAILER, cwd=clone.path / "src/deep")
        assert (done.code, clone.decisions()) == (0, ["allow"])
        clone.write("config/keys/x", "x")
        clone.git("add", "-A")
        done = clone.run("commit", "-q", "-m", "Add", env=AGENT, cwd=clone.path / "src/deep")
        assert done.code == 1

    def test_B18_a_partial_commit_is_judged_by_its_temporary_index(self, clone: Clone) -> None:
        clone.stage("config/keys/prod.pem")
        clone.write("src/a.py", "a = 2\n")
        done = clone.run("commit", "-q", "--only", "src/a.py", "-m", "Only this", "-m", AI_TRAILER, env=AGENT)
        assert done.code == 0, done.both
        assert clone.decisions() == ["allow"]
        assert clone.git("diff", "--name-only", "HEAD~1", "HEAD") == "src/a.py"
        clone.stage("src/a.py", "a = 3\n")
        done = clone.run("commit", "-q", "--only", "config/keys/prod.pem", "-m", "That", env=AGENT)
        assert done.code == 1
        assert "denied-path" in done.err

    def test_B18_commit_all_is_judged_by_what_it_adds(self, clone: Clone) -> None:
        clone.commit("keys, by hand", {"config/keys/prod.pem": "old"})
        clone.write("config/keys/prod.pem", "new")
        done = clone.run("commit", "-qa", "-m", "Update", env=AGENT)
        assert done.code == 1
        assert "denied-path" in done.err

    def test_in_a_linked_working_tree(self, clone: Clone, tmp_path: Path) -> None:
        clone.git("worktree", "add", "-q", "-b", "topic", str(tmp_path / "linked"))
        linked = Clone(tmp_path / "linked", clone.environment)
        name = linked.agent_commit("src/b.py")
        assert clone.decisions(name) == ["allow"]
        linked.stage("config/keys/prod.pem")
        assert linked.run("commit", "-q", "-m", "x", env=AGENT).code == 1

    @pytest.mark.parametrize(
        ("cleanup", "message"),
        [
            ("strip", f"By hand\n\n# {AI_TRAILER}\n"),
            ("scissors", f"By hand\n\n# {'-' * 24} >8 {'-' * 24}\n{AI_TRAILER}\n"),
        ],
    )
    def test_comments_and_what_stands_below_the_scissors_do_not_speak(
        self, clone: Clone, cleanup: str, message: str
    ) -> None:
        clone.stage("config/keys/prod.pem")
        clone.write(".git/message", message)
        done = clone.run(
            "commit", "-q", "-e", f"--cleanup={cleanup}", "-F", ".git/message", env={"GIT_EDITOR": "true"}
        )
        assert done.code == 0, done.both
        assert AI_TRAILER not in clone.git("log", "-1", "--format=%B")

    def test_a_message_that_only_the_commit_shows_is_judged_after_the_commit(self, clone: Clone) -> None:
        """With ``-m`` git keeps what stands below scissors; the hook before cannot know."""
        clone.stage("config/keys/prod.pem")
        cut = "# ------------------------ >8 ------------------------"
        done = clone.run("commit", "-q", "--cleanup=verbatim", "-m", f"Add\n\n{cut}\n\n{AI_TRAILER}")
        assert done.code == 0
        assert "this commit will not pass: mend it with 'git commit --amend'" in done.err
        assert clone.decisions() == ["deny"]


class TestHistory:
    def test_B86_an_amended_message_keeps_its_verdict(self, clone: Clone) -> None:
        first = clone.agent_commit("src/b.py")
        done = clone.run("commit", "-q", "--amend", "-m", "Better words", "-m", AI_TRAILER)
        assert done.code == 0
        assert clone.git("rev-parse", "HEAD") != first
        assert clone.safeai("verify", "HEAD~1..HEAD").code == 0

    def test_B72_amended_content_gets_a_verdict_of_its_own(self, clone: Clone) -> None:
        clone.agent_commit("src/b.py")
        clone.stage("src/b.py", "b = 3\n")
        assert clone.run("commit", "-q", "--amend", "--no-edit").code == 0
        tree = clone.git("rev-parse", "HEAD^{tree}")
        assert tree in {claim.tree for claim in clone.verdicts()}
        assert clone.safeai("verify", "HEAD~1..HEAD").code == 0

    def test_a_rebase_carries_the_notes_and_pre_push_judges_what_is_new(
        self, clone: Clone, remote: Repo
    ) -> None:
        clone.git("push", "-q", "--no-verify", "origin", "main")
        clone.git("checkout", "-q", "-b", "topic")
        clone.agent_commit("src/b.py")
        clone.agent_commit("src/c.py")
        clone.git("checkout", "-q", "main")
        clone.commit("By hand", {"src/main.py": "m = 1\n"})
        clone.git("checkout", "-q", "topic")
        done = clone.run("rebase", "-q", "main")
        assert done.code == 0, done.both
        assert clone.verdicts("HEAD"), "notes.rewriteRef has to carry them"
        done = clone.run("push", "-q", "origin", "topic")
        assert done.code == 0, done.both
        assert clone.safeai("verify", "main..topic").code == 0

    def test_a_cherry_pick_is_judged_on_its_new_base(self, clone: Clone) -> None:
        clone.git("checkout", "-q", "-b", "topic")
        name = clone.agent_commit("src/b.py")
        clone.git("checkout", "-q", "main")
        clone.commit("By hand", {"src/main.py": "m = 1\n"})
        done = clone.run("cherry-pick", name)
        assert done.code == 0, done.both
        assert clone.safeai("verify", "HEAD~1..HEAD").code == 0

    def test_a_merge_that_adds_nothing_is_let_go(self, clone: Clone) -> None:
        clone.git("checkout", "-q", "-b", "topic")
        clone.agent_commit("src/b.py")
        clone.git("checkout", "-q", "main")
        clone.commit("By hand", {"src/main.py": "m = 1\n"})
        assert clone.run("merge", "-q", "--no-ff", "-m", "Merge", "topic").code == 0
        assert clone.safeai("verify", "HEAD~2..HEAD").code == 0


class TestPush:
    def test_a_new_branch_is_judged_signed_and_its_verdicts_sent(self, clone: Clone, remote: Repo) -> None:
        clone.git("checkout", "-q", "-b", "topic")
        name = clone.commit("Round the hooks", {"src/b.py": "b = 2\n"}, ai=True)
        done = clone.run("push", "-q", "origin", "topic")
        assert done.code == 0, done.both
        assert clone.decisions(name) == ["allow"]
        assert remote.git("rev-parse", "refs/heads/topic") == name
        assert remote.git("rev-parse", "refs/notes/safeai") == clone.git("rev-parse", "refs/notes/safeai")

    def test_B10_a_commit_that_went_round_the_hooks_stops_the_push(self, clone: Clone, remote: Repo) -> None:
        clone.commit("Round the hooks", {"config/keys/prod.pem": "x"}, ai=True)
        done = clone.run("push", "-q", "origin", "main")
        assert done.code == 1
        assert "denied-path" in done.err
        assert "the push is refused: 1 of 2 commits do not pass" in done.err
        assert remote.git("for-each-ref") == ""

    def test_B50_every_ref_of_a_push_is_judged(self, clone: Clone, remote: Repo) -> None:
        clone.git("push", "-q", "--no-verify", "origin", "main")
        for branch, path in (("good", "src/b.py"), ("bad", "config/keys/prod.pem")):
            clone.git("checkout", "-q", "-b", branch, "main")
            clone.commit(branch, {path: "x\n"}, ai=True)
        done = clone.run("push", "-q", "origin", "good", "bad", "main")
        assert done.code == 1
        assert "1 of 2 commits" in done.err
        assert "bad" not in remote.git("for-each-ref")

    def test_B47_a_bad_commit_that_a_later_one_undoes_stops_the_push(
        self, clone: Clone, remote: Repo
    ) -> None:
        clone.commit("bad", {"config/keys/prod.pem": "x"}, ai=True)
        clone.git("rm", "-q", "config/keys/prod.pem")
        clone.commit("undone", ai=True)
        assert clone.run("push", "-q", "origin", "main").code == 1

    def test_deletions_tags_and_pushes_of_nothing_new_go_through(self, clone: Clone, remote: Repo) -> None:
        assert clone.run("push", "-q", "origin", "main:main", "main:gone").code == 0
        clone.git("tag", "-a", "v1", "-m", "one")
        clone.git("tag", "file", clone.git("rev-parse", "HEAD:src/a.py"))
        clone.git("tag", "-a", "-m", "a folder", "folder", "HEAD:src")
        for arguments in (
            ["origin", "v1"],
            ["origin", "file", "folder"],
            ["origin", ":gone"],
            ["origin", "main"],
            ["origin", "main"],
        ):
            done = clone.run("push", "-q", *arguments)
            assert done.code == 0, (arguments, done.both)
        assert "gone" not in remote.git("for-each-ref")

    def test_a_tag_brings_its_commits_and_they_are_judged(self, clone: Clone, remote: Repo) -> None:
        clone.git("push", "-q", "--no-verify", "origin", "main")
        clone.git("checkout", "-q", "--detach")
        clone.commit("bad", {"config/keys/prod.pem": "x"}, ai=True)
        clone.git("tag", "-a", "v1", "-m", "one")
        assert clone.run("push", "-q", "origin", "v1").code == 1

    def test_by_url_without_a_remote(self, clone: Clone, remote: Repo) -> None:
        name = clone.agent_commit("src/b.py")
        clone.git("remote", "remove", "origin")
        done = clone.run("push", "-q", f"file://{remote.path}", "main")
        assert done.code == 0, done.both
        assert remote.git("rev-parse", "main") == name
        assert remote.git("rev-parse", "refs/notes/safeai")

    def test_verdicts_of_two_clones_meet_at_the_remote(
        self, clone: Clone, remote: Repo, tmp_path: Path
    ) -> None:
        clone.git("push", "-q", "--no-verify", "origin", "main")
        shutil.copytree(clone.path, tmp_path / "second", symlinks=True)
        second = Clone(tmp_path / "second", clone.environment)
        names = []
        for one, branch in ((clone, "ours"), (second, "theirs")):
            one.git("checkout", "-q", "-b", branch)
            names.append(one.agent_commit(f"src/{branch}.py"))
            done = one.run("push", "-q", "origin", branch)
            assert done.code == 0, done.both
            assert "not pushed" not in done.err
        fresh = Clone(tmp_path / "fresh", clone.environment)
        clone.git("clone", "-q", str(remote.path), str(fresh.path))
        fresh.git("fetch", "-q", "origin", "+refs/notes/safeai:refs/notes/safeai")
        assert [fresh.decisions(name) for name in names] == [["allow"], ["allow"]]

    def test_notes_are_kept_here_when_that_is_asked_for(self, clone: Clone, remote: Repo) -> None:
        clone.agent_commit("src/b.py")
        clone.git("config", "safeai.pushNotes", "false")
        assert clone.run("push", "-q", "origin", "main").code == 0
        assert "notes" not in remote.git("for-each-ref")

    def test_a_remote_that_takes_no_notes_does_not_stop_the_push(self, clone: Clone, remote: Repo) -> None:
        refuse = remote.path / "hooks/update"
        refuse.write_text('#!/bin/sh\ncase $1 in refs/notes/*) echo "no notes" >&2; exit 1;; esac\n')
        refuse.chmod(0o755)
        clone.agent_commit("src/b.py")
        done = clone.run("push", "-q", "origin", "main")
        assert done.code == 0, done.both
        assert "the verdicts were not pushed" in done.err
        assert "git push origin refs/notes/safeai" in done.err

    def test_lines_that_git_does_not_write_are_refused(self, clone: Clone) -> None:
        done = clone.safeai("hook", "run", "pre-push", "origin", "url", stdin="refs/heads/main\n")
        assert done.code == 2
        assert "four words" in done.err

    def test_what_the_pre_commit_program_tells_is_understood(self, clone: Clone, remote: Repo) -> None:
        """It reads git's lines itself and hands on variables."""
        clone.commit("bad", {"config/keys/prod.pem": "x"}, ai=True)
        head = clone.git("rev-parse", "HEAD")
        told = {"PRE_COMMIT_REMOTE_NAME": "origin", "PRE_COMMIT_REMOTE_BRANCH": "refs/heads/main"}
        for tip in ({"PRE_COMMIT_TO_REF": head}, {"PRE_COMMIT_LOCAL_BRANCH": "refs/heads/main"}):
            done = clone.safeai("hook", "run", "pre-push", env=told | tip)
            assert (done.code, "denied-path" in done.err) == (1, True), done.both
        assert clone.safeai("hook", "run", "pre-push").code == 0, "nothing is pushed, nothing to say"


class TestInit:
    def test_twice_changes_nothing(self, clone: Clone, remote: Repo) -> None:
        assert clone.safeai("init").code == 0
        before = snapshot(clone.path)
        done = clone.safeai("init")
        assert done.code == 0, done.both
        assert snapshot(clone.path) == before
        assert f"kept: {clone.path}/.safeai/policy.yaml" in done.out
        assert "configured" not in done.out

    def test_a_fetch_works_while_the_remote_has_no_verdicts_and_brings_them_once_it_has(
        self, clone: Clone, remote: Repo, tmp_path: Path
    ) -> None:
        clone.git("push", "-q", "--no-verify", "origin", "main")
        other = Clone(tmp_path / "other", clone.environment)
        clone.git("clone", "-q", f"file://{remote.path}", str(other.path))
        assert other.safeai("init", "--no-hooks").code == 0
        assert other.run("fetch", "-q").code == 0
        name = clone.agent_commit("src/b.py")
        assert clone.run("push", "-q", "origin", "main").code == 0
        assert other.run("pull", "-q").code == 0
        assert other.git("rev-parse", "HEAD") == name
        assert other.safeai("verify", "HEAD~1..HEAD").code == 0

    def test_nothing_that_is_there_is_overwritten(self, make_repo: object, tmp_path: Path) -> None:
        repo: Repo = make_repo("fresh")  # type: ignore[operator]
        repo.write(".safeai/policy.yaml", "autonomy_tier: alpha\n")
        repo.write(".safeai/allowed_signers", "# mine\n")
        repo.write(".git/hooks/pre-commit", "#!/bin/sh\nexit 0\n", 0o755)
        done = repo.safeai("init")
        assert done.code == 0, done.both
        assert (repo.path / ".safeai/policy.yaml").read_text() == "autonomy_tier: alpha\n"
        assert (repo.path / ".safeai/allowed_signers").read_text() == "# mine\n"
        assert (repo.path / ".git/hooks/pre-commit").read_text() == "#!/bin/sh\nexit 0\n"
        assert "your key is not listed in .safeai/allowed_signers" in done.out
        assert "pre-commit is somebody else's and was left alone; --yes keeps it" in done.err
        assert "hook commit-msg: installed" in done.out

    def test_a_linked_policy_folder_is_not_written_through(self, repo: Repo, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        (repo.path / ".safeai").symlink_to(tmp_path / "elsewhere")
        done = repo.safeai("init", "--no-hooks")
        assert done.code == 3
        assert "is a symbolic link" in done.err
        assert list((tmp_path / "elsewhere").iterdir()) == []

    def test_a_bare_repository_has_no_place_for_a_policy(self, make_repo: object) -> None:
        repo: Repo = make_repo("bare.git", "--bare")  # type: ignore[operator]
        done = repo.safeai("init")
        assert done.code == 3
        assert "is a bare repository" in done.err

    @pytest.mark.parametrize(
        ("url", "name"),
        [
            ("https://user:secret@example.com/team/shop.git", "example.com/team/shop"),
            ("git@example.com:team/shop.git", "example.com/team/shop"),
            ("ssh://git@example.com:22/team/shop", "example.com22/team/shop"),
            ("/srv/git/shop.git", "repo"),
            ("", "repo"),
        ],
    )
    def test_the_repositorys_name_holds_no_secret(self, repo: Repo, url: str, name: str) -> None:
        if url:
            repo.git("remote", "add", "origin", url)
        assert repo.safeai("init", "--no-hooks").code == 0
        policy = (repo.path / ".safeai/policy.yaml").read_text()
        assert f"repository: {name}\n" in policy
        repo.commit("policy")
        assert repo.safeai("policy", "show").code == 0


class TestInstall:
    @pytest.fixture
    def bare_hooks(self, clone: Clone) -> Path:
        """The clone's hook folder without our hooks."""
        assert uninstall(clone.session()) == 0
        return clone.path / ".git/hooks"

    def test_uninstall_puts_everything_back_byte_for_byte(self, clone: Clone, bare_hooks: Path) -> None:
        foreign = b"#!/bin/sh\r\n\xff exit 0"
        (bare_hooks / "pre-commit").write_bytes(foreign)
        (bare_hooks / "pre-commit").chmod(0o744)
        (bare_hooks / "real").write_text("#!/bin/sh\n")
        (bare_hooks / "pre-push").symlink_to("real")
        before = snapshot(bare_hooks)
        assert install(clone.session(), Asker(yes=True), version="1") == 0
        assert install(clone.session(), Asker(yes=True), version="1") == 0
        assert (bare_hooks / "pre-commit.before-safeai").read_bytes() == foreign
        assert snapshot(bare_hooks) != before
        assert uninstall(clone.session()) == 0
        assert snapshot(bare_hooks) == before

    def test_a_foreign_hook_runs_first_and_can_stop_the_commit(self, clone: Clone, bare_hooks: Path) -> None:
        hook = bare_hooks / "pre-commit"
        hook.write_text('#!/bin/sh\necho "mine first" >&2\n[ ! -e stop ]\n')
        hook.chmod(0o755)
        assert install(clone.session(), Asker(yes=True), version="1") == 0
        clone.stage("config/keys/prod.pem")
        done = clone.run("commit", "-q", "-m", "x", env=AGENT)
        assert done.code == 1
        assert done.err.index("mine first") < done.err.index("denied-path")
        clone.write("stop")
        done = clone.run("commit", "-q", "-m", "x", env=AGENT)
        assert done.code == 1
        assert "denied-path" not in done.err

    def test_a_foreign_pre_push_hook_sees_what_git_sends(
        self, clone: Clone, bare_hooks: Path, remote: Repo
    ) -> None:
        hook = bare_hooks / "pre-push"
        hook.write_text('#!/bin/sh\ncat >.git/seen; echo "$@" >>.git/seen\n')
        hook.chmod(0o755)
        assert install(clone.session(), Asker(yes=True), version="1") == 0
        name = clone.commit("bad", {"config/keys/prod.pem": "x"}, ai=True)
        url = f"file://{remote.path}"
        assert clone.run("push", "-q", "origin", "main").code == 1
        zero = "0" * 40
        sent = f"refs/heads/main {name} refs/heads/main {zero}\norigin {url}\n"
        assert (clone.path / ".git/seen").read_text() == sent
        clone.git("push", "-q", "--no-verify", "origin", "main")
        assert clone.run("push", "-q", "origin", "main").code == 0, "with nothing to push"
        assert (clone.path / ".git/seen").read_text() == f"origin {url}\n"

    def test_a_foreign_hook_that_is_switched_off_stays_off(self, clone: Clone, bare_hooks: Path) -> None:
        (bare_hooks / "pre-commit").write_text("#!/bin/sh\nexit 1\n")
        (bare_hooks / "pre-commit").chmod(0o644)
        assert install(clone.session(), Asker(yes=True), version="1") == 0
        clone.agent_commit("src/b.py")

    def test_a_hook_of_ones_own_that_calls_us_is_not_ours(self, clone: Clone, bare_hooks: Path) -> None:
        own = '#!/bin/sh\nmake lint || exit\nsafeai-git hook run pre-commit "$@"\n'
        (bare_hooks / "pre-commit").write_text(own)
        (bare_hooks / "pre-commit").chmod(0o755)
        assert install(clone.session(), Asker(yes=False), version="1") == 0
        assert uninstall(clone.session()) == 0
        assert (bare_hooks / "pre-commit").read_text() == own

    def test_a_comment_about_us_does_not_make_a_hook_call_us(self, clone: Clone, bare_hooks: Path) -> None:
        (bare_hooks / "pre-commit").write_text("#!/bin/sh\n# was: safeai-git hook run pre-commit\n")
        (bare_hooks / "pre-commit").chmod(0o755)
        states = {one.name: one for one in hook_states(clone.session())}
        assert not states["pre-commit"].active
        assert "does not call safeai-git" in states["pre-commit"].detail

    def test_without_agreement_one_missing_hook_is_told_by_the_exit_code(
        self, clone: Clone, bare_hooks: Path
    ) -> None:
        (bare_hooks / "pre-commit").write_text("#!/bin/sh\n")
        done = clone.safeai("hook", "install")
        assert done.code == 1
        assert "somebody else's" in done.err

    def test_hooks_path_inside_gits_folder_is_used(self, clone: Clone, bare_hooks: Path) -> None:
        clone.git("config", "core.hooksPath", ".git/own hooks")
        assert install(clone.session(), Asker(yes=False), version="1") == 0
        assert all(one.active for one in hook_states(clone.session()))
        clone.agent_commit("src/b.py")
        assert clone.decisions() == ["allow"]

    @pytest.mark.parametrize("where", ["inside", "outside"])
    def test_hooks_path_that_is_not_the_clones_own_is_not_written_to(
        self, clone: Clone, bare_hooks: Path, tmp_path: Path, where: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shared = clone.path / ".githooks" if where == "inside" else tmp_path / "shared"
        shared.mkdir()
        clone.git("config", "core.hooksPath", ".githooks" if where == "inside" else str(shared))
        assert install(clone.session(), Asker(yes=True), version="1") == 1
        printed = capsys.readouterr().out
        assert list(shared.iterdir()) == []
        assert f'{shared}/pre-push: safeai-git hook run pre-push "$@"' in printed
        for name in HOOKS:
            (shared / name).write_text(f'#!/bin/sh\nsafeai-git hook run {name} "$@"\n')
            (shared / name).chmod(0o755)
        assert install(clone.session(), Asker(yes=True), version="1") == 0

    def test_the_hook_files_of_the_project_do_the_same(self, clone: Clone, bare_hooks: Path) -> None:
        """`core.hooksPath` may point to them when the command is on the PATH."""
        folder = SOURCE / "hooks"
        assert sorted(one.name for one in folder.iterdir()) == sorted(HOOKS)
        assert all(one.stat().st_mode & stat.S_IXUSR for one in folder.iterdir())
        clone.git("config", "core.hooksPath", str(folder))
        assert all(one.active for one in hook_states(clone.session()))
        path = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{clone.environment['PATH']}"}
        clone.stage("config/keys/prod.pem")
        assert clone.run("commit", "-q", "-m", "x", "-m", AI_TRAILER, env=path).code == 1
        clone.git("rm", "-qf", "config/keys/prod.pem")
        clone.stage("src/b.py")
        assert clone.run("commit", "-q", "-m", "x", "-m", AI_TRAILER, env=path).code == 0
        assert clone.decisions() == ["allow"]

    def test_an_interpreter_in_a_folder_with_spaces(
        self, clone: Clone, bare_hooks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place = tmp_path / "a 'quoted' place $HOME"
        place.mkdir()
        wrapper = place / "python"
        wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        wrapper.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(wrapper))
        assert install(clone.session(), Asker(yes=False), version="1") == 0
        clone.agent_commit("src/b.py")
        assert clone.decisions() == ["allow"]

    def test_B65_a_hook_imports_nothing_from_where_it_runs(self, clone: Clone) -> None:
        clone.write("safeai_git/__init__.py", "raise SystemExit('planted')\n")
        clone.write("yaml.py", "raise SystemExit('planted')\n")
        clone.stage("src/b.py")
        planted = {"PYTHONPATH": str(clone.path)}
        done = clone.run("commit", "-q", "-m", "x", "-m", AI_TRAILER, env=planted)
        assert done.code == 0, done.both
        assert clone.decisions() == ["allow"]

    def test_with_pre_commit_in_use_its_snippet_is_shown_instead(
        self, clone: Clone, bare_hooks: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        clone.write(".pre-commit-config.yaml", "repos: []\n")
        before = snapshot(bare_hooks)
        assert install(clone.session(), Asker(yes=True), version="1.2.3") == 0
        printed = capsys.readouterr().out
        assert "rev: v1.2.3" in printed
        assert snapshot(bare_hooks) == before

    def test_B10_a_hook_that_is_not_executable_is_reported(self, clone: Clone) -> None:
        (clone.path / ".git/hooks/post-commit").chmod(0o644)
        (clone.path / ".git/hooks/pre-push").unlink()
        states = {one.name: one for one in hook_states(clone.session())}
        assert "not executable" in states["post-commit"].detail
        assert "is missing" in states["pre-push"].detail
        assert [name for name, one in states.items() if one.active] == ["pre-commit", "commit-msg"]


def test_an_unknown_hook_is_wrong_use(clone: Clone) -> None:
    done = clone.safeai("hook", "run", "post-merge")
    assert done.code == 2
    assert "pre-commit, commit-msg, post-commit, pre-push" in done.err


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder, with mode and content; git's index is left out, it holds times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name == "index" or path.is_dir():
            continue
        content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        found[str(path.relative_to(folder))] = (path.lstat().st_mode, content)
    return found
