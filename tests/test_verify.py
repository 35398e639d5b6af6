"""Verify: what proves a range, and every way in which evidence can be wrong."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import AI_TRAILER, POLICY, Repo

from safeai_git.commands import people
from safeai_git.commands.session import Session
from safeai_git.core import canonical
from safeai_git.core.envelope import Envelope
from safeai_git.core.errors import RepositoryError
from safeai_git.core.publickey import format_openssh
from safeai_git.core.verdict import approval, report, statement
from safeai_git.gate import Judgement
from safeai_git.git.notes import Notes
from safeai_git.keys.file import generate
from safeai_git.keys.port import Signer
from safeai_git.keys.seal import seal
from safeai_git.keys.signer import load_signer
from safeai_git.seal import Sealer
from safeai_git.verify import Verifier, came_after

NOW = 1_790_000_000.0
PEOPLE = ("ci", "old", "maria", "bert", "outsider")
CHECK = "checks:\n  - name: unit\n    run: 'true'\n    paths: [src/]\n"


@dataclass
class Bench:
    """A repository with a policy and trusted keys, and what the programs of a team do with it, in this process."""

    repo: Repo
    keys: dict[str, Signer]
    now: float = NOW

    def session(self, output_format: str = "text") -> Session:
        return Session(self.repo.path, self.repo.environment, output_format)

    def line(self, who: str, options: str, principal: str = "") -> str:
        key = format_openssh(self.keys[who].public).decode()
        return f"{principal or who + '@example.com'} {options} {key}\n"

    def signers(self, *lines: str) -> str:
        """The content of allowed_signers: without lines, CI for verdicts, Maria and Bert for approvals."""
        usual = (
            self.line("ci", 'namespaces="safeai-verdict"'),
            self.line("old", 'namespaces="safeai-verdict"'),
            self.line("maria", 'namespaces="safeai-approval"'),
            self.line("bert", 'namespaces="safeai-approval"'),
        )
        return "".join(lines or usual)

    def trust(self, policy: str = POLICY, *lines: str) -> str:
        """A new trust root, committed by a person."""
        return self.repo.commit(
            "policy", {".safeai/policy.yaml": policy, ".safeai/allowed_signers": self.signers(*lines)}
        )

    def ai(self, content: str = "b = 2\n", path: str = "src/b.py", message: str = "Add it") -> str:
        return self.repo.commit(message, {path: content}, ai=True)

    def judge(self, name: str) -> Judgement:
        """A commit as its own hook judges it."""
        return self.session().gate(replay=False).commit(name)

    def keep(self, judged: Judgement, who: str = "ci") -> None:
        session = self.session()
        sealer = Sealer(session.repository, self.keys[who])
        sealer.keep(judged, sealer.seal(judged))

    def check(self, revisions: str, who: str = "ci") -> list[Judgement]:
        """What CI does: judge a range and sign it."""
        base, head = (self.repo.git("rev-parse", one) for one in revisions.split(".."))
        judged = list(self.session().gate(replay=False).range(base, head))
        for one in judged:
            if one.verdict.governed:
                self.keep(one, who)
        return judged

    def put(self, name: str, line: bytes) -> None:
        Notes(self.session().repository).add(name, [line])

    def forge(self, name: str, who: str = "ci", **changes: Any) -> None:
        """A properly signed verdict on a commit with some of its values changed."""
        judged = self.judge(name)
        data = json.loads(statement(judged.verdict, judged.stamp))
        for path, value in changes.items():
            place = data
            *above, last = path.split("__")
            for step in above:
                place = place[int(step) if step.isdigit() else step]
            place[last] = value
        self.put(name, seal(canonical.dumps(data), [self.keys[who]]).format())

    def approve(self, name: str, who: str = "maria", **changes: str) -> None:
        judged = self.judge(name)
        proposal, policy = judged.verdict.proposal, judged.trust.policy
        values: dict[str, Any] = {
            "base_tree": proposal.base_tree,
            "tree": proposal.tree,
            "policy_digest": policy.digest,
            "repository": policy.repository,
            "time": int(NOW),
            "reason": "read it",
        }
        payload = approval(**values | changes)
        self.put(proposal.tree, seal(payload, [self.keys[who]]).format())

    def lines(self, name: str) -> list[bytes]:
        return Notes(self.session().repository).lines(name)

    def forget(self) -> None:
        """Notes that were never fetched."""
        self.repo.git("update-ref", "-d", "refs/notes/safeai")

    def verify(self, revisions: str = "") -> Verified:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = people.verify(self.session("json"), revisions, policy=None, everything=True)
        data = json.loads(printed.getvalue())
        return Verified(code, data, {one["commit"]: one for one in data["commits"]})


@dataclass
class Verified:
    code: int
    data: dict[str, Any]
    commits: dict[str, dict[str, Any]]

    def refused(self, name: str, status: str, reason: str) -> None:
        """The range does not pass, and this commit says why."""
        assert (self.commits[name]["status"], self.code) == (status, 1), self.data
        assert reason in self.commits[name]["reason"], self.commits[name]
        assert self.data["decision"] == "deny"

    def passed(self, *names: str) -> None:
        assert self.code == 0, self.data
        assert [self.commits[name]["status"] for name in names] == ["valid"] * len(names), self.data


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Signer]:
    folder = tmp_path_factory.mktemp("keys")
    return {name: load_signer(generate(folder, name, None).secret, None) for name in PEOPLE}


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, base_environment: dict[str, str], keys: Any) -> Path:
    path = tmp_path_factory.mktemp("template") / "repo"
    path.mkdir()
    repo = Repo(path, base_environment)
    repo.git("init", "-q")
    repo.write("src/a.py", "a = 1\n")
    Bench(repo, keys).trust()
    return path


@pytest.fixture
def bench(
    template: Path, tmp_path: Path, environment: dict[str, str], keys: Any, monkeypatch: pytest.MonkeyPatch
) -> Bench:
    shutil.copytree(template, tmp_path / "repo")
    monkeypatch.setattr("time.time", lambda: NOW)  # the only clock: keys and verdicts are dated around it
    return Bench(Repo(tmp_path / "repo", environment), keys)


BASE = "HEAD~1"


def test_a_judged_commit_passes_and_the_signer_is_named(bench: Bench) -> None:
    name = bench.ai()
    bench.keep(bench.judge(name))
    found = bench.verify(f"{BASE}..HEAD")
    found.passed(name)
    assert found.commits[name]["signed_by"] == ["ci@example.com"]


def test_a_judged_range_passes(bench: Bench) -> None:
    base = bench.repo.git("rev-parse", "HEAD")
    names = [bench.ai(f"b = {number}\n") for number in range(3)]
    bench.check(f"{base}..HEAD")
    bench.verify(f"{base}..HEAD").passed(*names)


def test_B10_a_commit_that_went_round_the_hooks_is_missing(bench: Bench) -> None:
    name = bench.ai()
    found = bench.verify(f"{BASE}..HEAD")
    found.refused(name, "missing", "no verdict is there for this commit")
    hint = found.commits[name]["hint"]
    assert "git fetch origin '+refs/notes/safeai:refs/notes/remotes/origin/safeai'" in hint
    assert "safeai-git check --range" in hint


def test_B87_notes_that_were_not_fetched_are_said_to_be_missing_and_the_named_command_brings_them(
    bench: Bench, tmp_path: Path
) -> None:
    name = bench.ai()
    bench.keep(bench.judge(name))
    clone = Bench(Repo(tmp_path / "clone", bench.repo.environment), bench.keys)
    bench.repo.git("clone", "-q", str(bench.repo.path), str(clone.repo.path))
    found = clone.verify(f"{BASE}..HEAD")
    found.refused(name, "missing", "no verdict")
    command = found.commits[name]["hint"].partition("(")[2].partition(")")[0]
    words = [word.strip("'") for word in command.split(" ")]
    assert words[0] == "git"
    clone.repo.git(*words[1:])
    clone.verify(f"{BASE}..HEAD").passed(name)
    assert not clone.session().repository.ref("refs/notes/safeai"), "our own notes must stay as they are"


def test_B87_notes_of_any_remote_count(bench: Bench) -> None:
    name = bench.ai()
    bench.keep(bench.judge(name))
    tip = bench.repo.git("rev-parse", "refs/notes/safeai")
    bench.repo.git("update-ref", "refs/notes/remotes/upstream/safeai", tip)
    bench.forget()
    bench.verify(f"{BASE}..HEAD").passed(name)


def test_B87_a_tampered_payload_is_refused(bench: Bench) -> None:
    name = bench.ai("x\n", "config/keys/prod.pem")
    judged = bench.judge(name)
    envelope = seal(statement(judged.verdict, judged.stamp), [bench.keys["ci"]])
    payload = envelope.untrusted_payload.replace(b'"decision":"deny"', b'"decision":"allow"')
    assert payload != envelope.untrusted_payload
    bench.put(name, type(envelope)(envelope.payload_type, payload, envelope.signatures).format())
    bench.verify(f"{BASE}..HEAD").refused(name, "invalid", "does not hold")


def test_B87_a_tampered_signature_is_refused(bench: Bench) -> None:
    name = bench.ai()
    judged = bench.judge(name)
    envelope = seal(statement(judged.verdict, judged.stamp), [bench.keys["ci"]])
    one = envelope.signatures[0]
    bad = type(one)(one.keyid, bytes([one.sig[0] ^ 1]) + one.sig[1:])
    bench.put(name, type(envelope)(envelope.payload_type, envelope.untrusted_payload, (bad,)).format())
    bench.verify(f"{BASE}..HEAD").refused(name, "invalid", "does not hold")


@pytest.mark.parametrize(
    "line", [b"not an envelope", b"{}", b'{"payload":"e30=","payloadType":"x","signatures":[]}', b"\xff\xfe"]
)
def test_B87_rubbish_in_a_note_is_no_verdict_and_hides_none(bench: Bench, line: bytes) -> None:
    name = bench.ai()
    bench.put(name, line)
    found = bench.verify(f"{BASE}..HEAD")
    assert (found.commits[name]["status"], found.code) == ("invalid", 1)
    bench.keep(bench.judge(name))
    bench.verify(f"{BASE}..HEAD").passed(name)


def test_B87_an_envelope_moved_from_another_commit_is_refused(bench: Bench) -> None:
    good = bench.ai()
    bench.keep(bench.judge(good))
    bad = bench.ai("x\n", "config/keys/prod.pem")
    for line in bench.lines(good):
        bench.put(bad, line)
    bench.verify(f"{BASE}..HEAD").refused(bad, "invalid", "the verdict is about tree")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"predicate__repository": "other/repository"}, "is about the repository 'other/repository'"),
        ({"predicate__policy__digest": "0" * 64}, "made under another policy"),
        ({"predicate__base__tree": "1" * 40}, "starts from tree 111111111111"),
        ({"predicate__base__tree": ""}, "starts from tree nothing"),
        ({"subject__1__digest": {"gitTree": "2" * 40}}, "is about tree 222222222222"),
        ({"predicate__governed": False}, "says that the change is not governed"),
        ({"predicate__attribution__class": "human"}, "whom the policy allows more"),
        ({"predicate__time": "2026-12-01T00:00:00Z"}, "dated in the future"),
    ],
)
def test_B80_a_verdict_about_something_else_is_refused(
    bench: Bench, changes: dict[str, Any], reason: str
) -> None:
    name = bench.ai()
    bench.forge(name, **changes)
    bench.verify(f"{BASE}..HEAD").refused(name, "invalid", reason)
    bench.forge(name)
    bench.verify(f"{BASE}..HEAD").passed(name)


def test_B80_the_reason_shown_is_that_of_the_verdict_that_came_closest(bench: Bench) -> None:
    name = bench.ai()
    bench.forge(name, predicate__base__tree="1" * 40)
    bench.forge(name, who="outsider")
    bench.forge(name, predicate__repository="other/repository")
    bench.put(name, b"zzz")
    bench.verify(f"{BASE}..HEAD").refused(name, "invalid", "is not listed")


def test_B80_a_verdict_for_a_freer_agent_does_not_serve_another(bench: Bench) -> None:
    base = bench.trust(POLICY + "agents:\n  claude-code: {autonomy_tier: frozen}\n")
    name = bench.ai()
    judged = bench.session().gate(agent="aider", replay=False).commit(name)
    assert judged.decision == "allow"
    bench.keep(judged)
    bench.verify(f"{base}..HEAD").refused(name, "invalid", "whom the policy allows more")


@pytest.mark.parametrize(
    ("lines", "who", "reason"),
    [
        ((("ci", 'namespaces="safeai-verdict"'),), "outsider", "is not listed"),
        (
            (("outsider", 'namespaces="safeai-approval"'),),
            "outsider",
            "not allowed to sign for safeai-verdict",
        ),
        ((("ci", 'namespaces="git"'),), "ci", "not allowed to sign for safeai-verdict"),
        ((("ci", 'valid-before="20200101Z"'),), "ci", "was valid only before 2020-01-01"),
        ((("ci", 'valid-after="20300101Z"'),), "ci", "is valid only from 2030-01-01"),
    ],
)
def test_B73_a_signature_by_a_key_that_is_not_trusted_for_verdicts_counts_for_nothing(
    bench: Bench, lines: tuple[tuple[str, str], ...], who: str, reason: str
) -> None:
    base = bench.trust(POLICY, *(bench.line(*one) for one in lines))
    name = bench.ai()
    bench.keep(bench.judge(name), who)
    bench.verify(f"{base}..HEAD").refused(name, "invalid", reason)


def test_B82_a_key_that_is_not_valid_yet_gains_nothing_by_dating_its_verdict_ahead(bench: Bench) -> None:
    base = bench.trust(POLICY, bench.line("ci", 'valid-after="20300101Z"'))
    name = bench.ai()
    bench.forge(name, predicate__time="2030-02-01T00:00:00Z")
    bench.verify(f"{base}..HEAD").refused(name, "invalid", "dated in the future")


def test_B83_without_allowed_signers_nobody_is_trusted(bench: Bench) -> None:
    bench.repo.git("rm", "-q", ".safeai/allowed_signers")
    base = bench.repo.commit("nobody")
    name = bench.ai()
    bench.keep(bench.judge(name))
    bench.verify(f"{base}..HEAD").refused(name, "invalid", "is not listed in no allowed_signers")


def test_a_deny_is_told_as_one(bench: Bench) -> None:
    name = bench.ai("x\n", "config/keys/prod.pem")
    bench.keep(bench.judge(name))
    bench.verify(f"{BASE}..HEAD").refused(name, "denied", "the verdict denies it")


class TestApprovals:
    """A review passes with its approvals, each of a kind that counts."""

    @pytest.fixture
    def name(self, bench: Bench) -> str:
        name = bench.ai("on: push\n", ".github/workflows/ci.yml")
        bench.keep(bench.judge(name))
        return name

    def test_a_review_without_approval_is_refused_and_says_what_to_do(self, bench: Bench, name: str) -> None:
        found = bench.verify(f"{BASE}..HEAD")
        found.refused(name, "unapproved", "0 of 1 approvals are there")
        assert found.commits[name]["hint"] == f"an approver runs 'safeai-git approve {name[:12]}'"

    def test_B02_a_workflow_passes_with_a_persons_approval(self, bench: Bench, name: str) -> None:
        bench.approve(name)
        found = bench.verify(f"{BASE}..HEAD")
        found.passed(name)
        assert found.commits[name]["approved_by"] == ["maria@example.com"]

    @pytest.mark.parametrize("who", ["ci", "outsider"])
    def test_B82_an_approval_by_the_verdicts_key_or_a_strangers_counts_for_nothing(
        self, bench: Bench, name: str, who: str
    ) -> None:
        bench.approve(name, who)
        bench.verify(f"{BASE}..HEAD").refused(name, "unapproved", "0 of 1")

    def test_B82_a_persons_key_makes_no_verdict(self, bench: Bench) -> None:
        name = bench.ai("c = 3\n", "src/c.py")
        bench.keep(bench.judge(name), "maria")
        bench.verify(f"{BASE}..HEAD").refused(name, "invalid", "not allowed to sign for safeai-verdict")

    @pytest.mark.parametrize(
        "changes",
        [
            {"tree": "3" * 40},
            {"base_tree": "3" * 40},
            {"policy_digest": "0" * 64},
            {"repository": "other/repository"},
            {"time": int(NOW) + 3600},
        ],
    )
    def test_B80_an_approval_of_something_else_counts_for_nothing(
        self, bench: Bench, name: str, changes: Any
    ) -> None:
        bench.approve(name, **changes)
        bench.verify(f"{BASE}..HEAD").refused(name, "unapproved", "0 of 1")

    def test_B72_an_approval_ends_with_the_next_change(self, bench: Bench, name: str) -> None:
        bench.approve(name)
        bench.repo.write(".github/workflows/ci.yml", "on: [push, pull_request_target]\n")
        bench.repo.git("add", "-A")
        bench.repo.git("commit", "-q", "--amend", "-m", f"Add it\n\n{AI_TRAILER}")
        amended = bench.repo.git("rev-parse", "HEAD")
        bench.keep(bench.judge(amended))
        bench.verify(f"{BASE}..HEAD").refused(amended, "unapproved", "0 of 1")

    def test_an_approval_does_not_lift_a_deny(self, bench: Bench) -> None:
        name = bench.ai("x\n", "config/keys/prod.pem")
        bench.keep(bench.judge(name))
        bench.approve(name)
        bench.verify(f"{BASE}..HEAD").refused(name, "denied", "denies")

    def test_an_approval_alone_is_no_verdict(self, bench: Bench) -> None:
        name = bench.ai("on: pull_request\n", ".github/workflows/ci.yml")
        bench.approve(name)
        bench.verify(f"{BASE}..HEAD").refused(name, "missing", "no verdict")

    def test_two_approvals_by_one_person_are_one(self, bench: Bench) -> None:
        both = 'namespaces="safeai-approval"'
        lines = [
            bench.line("ci", 'namespaces="safeai-verdict"'),
            bench.line("maria", both),
            bench.line("outsider", both, "maria@example.com"),
            bench.line("bert", both),
        ]
        base = bench.trust(POLICY + "approvals: {threshold: 2}\n", *lines)
        name = bench.ai("on: push\n", ".github/workflows/ci.yml")
        bench.keep(bench.judge(name))
        bench.approve(name, "maria")
        bench.approve(name, "maria", time=int(NOW) - 5)  # type: ignore[arg-type]
        bench.approve(name, "outsider")
        bench.verify(f"{base}..HEAD").refused(name, "unapproved", "1 of 2")
        bench.approve(name, "bert")
        bench.verify(f"{base}..HEAD").passed(name)

    def test_only_the_policys_approvers_count(self, bench: Bench) -> None:
        base = bench.trust(POLICY + "approvals: {approvers: [bert@example.com]}\n")
        name = bench.ai("on: push\n", ".github/workflows/ci.yml")
        bench.keep(bench.judge(name))
        bench.approve(name, "maria")
        bench.verify(f"{base}..HEAD").refused(name, "unapproved", "0 of 1")
        bench.approve(name, "bert")
        bench.verify(f"{base}..HEAD").passed(name)


class TestTheTrustRoot:
    """Who proposes a change does not choose its judge."""

    def test_B01_a_key_that_the_range_lists_itself_does_not_save_the_range(self, bench: Bench) -> None:
        base = bench.repo.git("rev-parse", "HEAD")
        own = bench.signers() + bench.line("outsider", 'namespaces="safeai-verdict,safeai-approval"')
        first = bench.repo.commit("Trust me", {".safeai/allowed_signers": own})  # as a person: no trailer
        bench.keep(bench.judge(first), "outsider")
        bench.approve(first, "outsider")
        second = bench.ai()
        bench.keep(bench.judge(second), "outsider")
        found = bench.verify(f"{base}..HEAD")
        found.refused(first, "invalid", "is not listed")

    def test_B01_an_approved_new_key_counts_for_what_follows(self, bench: Bench) -> None:
        base = bench.repo.git("rev-parse", "HEAD")
        own = bench.signers() + bench.line("outsider", 'namespaces="safeai-verdict"')
        first = bench.repo.commit("Trust the new machine", {".safeai/allowed_signers": own})
        bench.keep(bench.judge(first))
        bench.approve(first)
        second = bench.ai()
        bench.keep(bench.judge(second), "outsider")
        bench.verify(f"{base}..HEAD").passed(first, second)

    def test_B01_a_policy_loosened_by_the_range_itself_does_not_save_the_range(self, bench: Bench) -> None:
        base = bench.repo.git("rev-parse", "HEAD")
        loose = POLICY.replace("deny_paths: [config/keys/]", "deny_paths: []").replace(
            "src/", "config/, src/"
        )
        first = bench.repo.commit("Loosen", {".safeai/policy.yaml": loose})
        second = bench.ai("x\n", "config/keys/prod.pem")
        judged = bench.judge(second)
        assert judged.decision == "allow"
        bench.keep(judged)
        found = bench.verify(f"{base}..HEAD")
        found.refused(first, "missing", "no verdict")
        assert found.commits[second]["status"] == "valid", "held against its own parent, which failed"
        bench.keep(bench.judge(first))
        bench.verify(f"{base}..HEAD").refused(first, "unapproved", "0 of 1")

    def test_B01_taking_the_policy_out_and_putting_another_in_moves_no_beginning(self, bench: Bench) -> None:
        bench.repo.git("rm", "-qr", ".safeai")
        gone = bench.repo.commit("Away")
        found = bench.verify()
        found.refused(gone, "missing", "no verdict")
        own = {".safeai/policy.yaml": "applies_to: [bot]\n", ".safeai/allowed_signers": ""}
        bench.repo.commit("A fresh start", own)
        name = bench.ai("x\n", "config/keys/prod.pem")
        found = bench.verify()
        found.refused(gone, "missing", "no verdict")
        found.refused(name, "missing", "no verdict")

    def test_B01_a_second_line_of_history_with_its_own_policy_is_not_trusted(self, bench: Bench) -> None:
        real = bench.repo.git("rev-parse", "HEAD")
        bench.repo.git("checkout", "-q", "--orphan", "mine")
        fake = bench.repo.commit("Mine", {".safeai/policy.yaml": "applies_to: [bot]\n"})
        tree = bench.repo.git("rev-parse", f"{real}^{{tree}}")
        foxtrot = bench.repo.commit_tree(tree, fake, real)
        bench.repo.git("update-ref", "HEAD", foxtrot)
        with pytest.raises(RepositoryError, match="on another line") as caught:
            bench.verify()
        assert "verify BASE..HEAD" in caught.value.hint

    def test_a_removed_key_does_not_count_after_its_removal(self, bench: Bench) -> None:
        base = bench.repo.git("rev-parse", "HEAD")
        less = bench.signers(
            bench.line("ci", 'namespaces="safeai-verdict"'),
            bench.line("maria", 'namespaces="safeai-approval"'),
        )
        before = bench.ai("a = 0\n", "src/early.py")
        bench.keep(bench.judge(before), "old")
        removal = bench.repo.commit("Take the stolen key out", {".safeai/allowed_signers": less})
        bench.keep(bench.judge(removal))
        bench.approve(removal)
        after = bench.ai()
        bench.keep(bench.judge(after), "old")
        found = bench.verify(f"{base}..HEAD")
        found.refused(after, "invalid", "is not listed")
        assert found.commits[before]["status"] == "valid", "what was signed before the removal stays valid"

    def test_B80_a_fork_from_an_old_commit_brings_no_removed_key_back(self, bench: Bench) -> None:
        start = bench.repo.git("rev-parse", "HEAD")
        middle = bench.ai("a = 0\n", "src/early.py")
        bench.keep(bench.judge(middle))
        less = bench.signers(
            bench.line("ci", 'namespaces="safeai-verdict"'),
            bench.line("maria", 'namespaces="safeai-approval"'),
        )
        removal = bench.repo.commit("Take the stolen key out", {".safeai/allowed_signers": less})
        bench.keep(bench.judge(removal))
        bench.approve(removal)
        bench.repo.git("checkout", "-q", "-b", "fork", middle)
        fork = bench.ai("stolen = 1\n", "src/fork.py")
        bench.keep(bench.judge(fork), "old")
        # as a branch on the protected one ...
        bench.verify(f"{removal}..fork").refused(fork, "invalid", "is not listed")
        # ... and when the whole history is verified after it was merged
        bench.repo.git("checkout", "-q", "main")
        bench.repo.git("-c", "core.hooksPath=/dev/null", "merge", "-q", "--no-ff", "-m", "Merge", "fork")
        bench.verify(f"{start}..HEAD").refused(fork, "invalid", "is not listed")
        bench.check(f"{removal}..HEAD")
        bench.verify(f"{start}..HEAD").passed(middle, removal, fork)

    def test_a_base_without_a_policy_is_held_against_the_built_in_one(self, bench: Bench) -> None:
        bench.repo.git("checkout", "-q", "--orphan", "bare")
        bench.repo.git("rm", "-rqf", ".")
        base = bench.repo.commit("nothing yet")
        name = bench.ai()
        bench.keep(bench.judge(name))
        bench.verify(f"{base}..HEAD").refused(name, "invalid", "not listed")


class TestHistory:
    def test_people_pass_where_the_policy_does_not_govern_them(self, bench: Bench) -> None:
        base = bench.repo.git("rev-parse", "HEAD")
        name = bench.repo.commit("By hand", {"config/keys/prod.pem": "x"})
        found = bench.verify(f"{base}..HEAD")
        assert (found.code, found.commits[name]["status"]) == (0, "not-governed")
        assert "class 'human'" in found.commits[name]["reason"]

    def test_B86_a_policy_that_governs_people_leaves_no_way_round_by_stripping_the_trailer(
        self, bench: Bench
    ) -> None:
        base = bench.trust(POLICY + "applies_to: [ai, mixed, human]\n")
        name = bench.repo.commit("By hand, it says", {"src/b.py": "b = 2\n"})
        bench.verify(f"{base}..HEAD").refused(name, "missing", "no verdict")

    def test_B86_nobody_is_believed_on_protected_paths_where_the_policy_says_so(self, bench: Bench) -> None:
        base = bench.trust(POLICY + "ai_until_shown_human: true\n")
        harmless = bench.repo.commit("By hand, it says", {"src/b.py": "b = 2\n"})
        name = bench.repo.commit("By hand, it says", {".github/workflows/x.yml": "x\n"})
        found = bench.verify(f"{base}..HEAD")
        assert found.commits[harmless]["status"] == "not-governed"
        found.refused(name, "missing", "no verdict")
        kinds = [(one.verdict.proposal.kind, one.decision) for one in bench.check(f"{base}..HEAD")]
        assert kinds == [("commit", "allow"), ("commit", "review"), ("net", "review")]
        bench.verify(f"{base}..HEAD").refused(name, "unapproved", "0 of 1")
        bench.approve(name)
        assert bench.verify(f"{base}..HEAD").code == 0

    def test_B86_what_a_message_has_to_say_is_asked_of_an_amended_one_too(self, bench: Bench) -> None:
        base = bench.trust(POLICY + "accountable_trailers: [Requested-by]\nai_may_sign_off: false\n")
        good = bench.ai(message="Add it\n\nRequested-by: Maria <maria@example.com>")
        bench.check(f"{base}..HEAD")
        # A paragraph of its own stands above the agent's trailer, so git's block has none but that.
        bench.verify(f"{base}..HEAD").refused(good, "unapproved", "no person is named")
        bench.forget()  # the clock stands still here, and of one second the strictest verdict counts
        trailers = f"Requested-by: Maria <maria@example.com>\n{AI_TRAILER}\n"
        bench.repo.git("commit", "-q", "--amend", "-m", f"Add it\n\n{trailers}")
        bench.check(f"{base}..HEAD")
        assert bench.verify(f"{base}..HEAD").code == 0
        signed = f"Add it\n\n{trailers}Signed-off-by: Claude <noreply@anthropic.com>\n"
        bench.repo.git("commit", "-q", "--amend", "-m", signed)
        name = bench.repo.git("rev-parse", "HEAD")
        bench.verify(f"{base}..HEAD").refused(name, "denied", "signs off as Claude")
        bench.repo.git("commit", "-q", "--amend", "-m", f"Add it\n\n{AI_TRAILER}\n")
        name = bench.repo.git("rev-parse", "HEAD")
        bench.verify(f"{base}..HEAD").refused(name, "unapproved", "no person is named")
        bench.approve(name)
        assert bench.verify(f"{base}..HEAD").code == 0

    def test_B86_a_refused_change_stays_refused_when_its_trailer_is_taken_out(self, bench: Bench) -> None:
        base = bench.repo.git("rev-parse", "HEAD")
        bench.ai("x\n", "config/keys/prod.pem")
        bench.check(f"{base}..HEAD")
        bench.repo.git("commit", "-q", "--amend", "-m", "By hand, it says")
        name = bench.repo.git("rev-parse", "HEAD")
        found = bench.verify(f"{base}..HEAD")
        found.refused(name, "unapproved", "this change is claude-code's, and does not let it pass; 0 of 1")
        bench.approve(name)
        found = bench.verify(f"{base}..HEAD")
        assert (found.code, found.commits[name]["approved_by"]) == (0, ["maria@example.com"])
        # Nobody's word but a trusted key's: a person's own change of the same files is theirs.
        bench.forget()
        assert bench.verify(f"{base}..HEAD").commits[name]["status"] == "not-governed"
        bench.ai("x\n", "config/keys/other.pem")
        bench.check("HEAD~1..HEAD", who="outsider")
        bench.repo.git("commit", "-q", "--amend", "-m", "By hand, it says")
        assert bench.verify(f"{base}..HEAD").code == 0

    def test_results_can_be_handed_from_process_to_process(self, bench: Bench) -> None:
        base = bench.repo.git("rev-parse", "HEAD")
        bench.ai()
        session = bench.session()
        verifier = Verifier(session.repository, session.trust(), now=lambda: NOW)
        results = list(verifier.range(base, bench.repo.git("rev-parse", "HEAD")))
        assert pickle.loads(pickle.dumps(results)) == results

    def test_B86_an_allowed_change_needs_nothing_more_when_its_trailer_is_taken_out(
        self, bench: Bench
    ) -> None:
        base = bench.repo.git("rev-parse", "HEAD")
        bench.ai()
        bench.check(f"{base}..HEAD")
        bench.repo.git("commit", "-q", "--amend", "-m", "By hand, it says")
        name = bench.repo.git("rev-parse", "HEAD")
        found = bench.verify(f"{base}..HEAD")
        assert (found.code, found.commits[name]["status"]) == (0, "not-governed")

    def test_B86_a_review_stays_owed_when_the_trailer_is_taken_out(self, bench: Bench) -> None:
        base = bench.repo.git("rev-parse", "HEAD")
        bench.ai("x\n", ".github/workflows/x.yml")
        bench.check(f"{base}..HEAD")
        bench.repo.git("commit", "-q", "--amend", "-m", "By hand, it says")
        name = bench.repo.git("rev-parse", "HEAD")
        bench.verify(f"{base}..HEAD").refused(
            name, "unapproved", "is claude-code's, and does not let it pass"
        )
        bench.approve(name)
        assert bench.verify(f"{base}..HEAD").code == 0

    def test_B86_a_sentence_governs_where_the_policy_says_so(self, bench: Bench) -> None:
        base = bench.trust(POLICY + "free_text_governs: true\n")
        name = bench.repo.commit("Add it\n\nGenerated with Claude Code", {"src/b.py": "b = 2\n"})
        bench.verify(f"{base}..HEAD").refused(name, "missing", "no verdict")
        bench.check(f"{base}..HEAD")
        bench.verify(f"{base}..HEAD").passed(name)

    def test_B86_a_commit_without_a_readable_author_is_governed(self, bench: Bench) -> None:
        base = bench.repo.git("rev-parse", "HEAD")
        bench.repo.write("src/b.py", "b = 2\n")
        bench.repo.git("add", "-A")
        tree = bench.repo.git("write-tree")
        raw = f"tree {tree}\nparent {base}\nauthor x <> 1 +0000\ncommitter x <> 1 +0000\n\nm\n"
        name = bench.repo.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=raw.encode())
        bench.verify(f"{base}..{name}").refused(name, "missing", "no verdict")

    def test_B34_a_tree_that_git_would_not_write_needs_a_verdict_whoever_made_it(self, bench: Bench) -> None:
        base = bench.repo.git("rev-parse", "HEAD")
        blob = bytes.fromhex(bench.repo.blob(b"x"))
        tree = bench.repo.mktree(b"100644 .GIT\0" + blob)
        name = bench.repo.commit_tree(tree, base, message="By hand", ai=False)
        bench.verify(f"{base}..{name}").refused(name, "missing", "no verdict")
        bench.keep(bench.judge(name))
        bench.verify(f"{base}..{name}").refused(name, "denied", "denies")

    def test_B47_a_bad_commit_that_a_later_one_undoes_is_found(self, bench: Bench) -> None:
        base = bench.repo.git("rev-parse", "HEAD")
        bad = bench.ai("x\n", "config/keys/prod.pem")
        (bench.repo.path / "config/keys/prod.pem").unlink()
        good = bench.repo.commit("Never happened", ai=True)
        assert bench.repo.git("rev-parse", f"{base}^{{tree}}") == bench.repo.git("rev-parse", "HEAD^{tree}")
        found = bench.verify(f"{base}..HEAD")
        found.refused(bad, "missing", "no verdict")
        bench.check(f"{base}..HEAD")
        found = bench.verify(f"{base}..HEAD")
        found.refused(bad, "denied", "denies")
        assert found.commits[good]["status"] == "denied"

    def test_a_root_commit_in_the_range(self, bench: Bench) -> None:
        base = bench.repo.git("rev-parse", "HEAD")
        bench.repo.git("checkout", "-q", "--orphan", "other")
        bench.repo.git("rm", "-rqf", ".")
        root = bench.ai()
        bench.verify(f"{base}..HEAD").refused(root, "missing", "no verdict")
        judged = bench.session().gate(replay=False, policy_file=None)
        policy = bench.session().trust().at(base)
        verdict = judged._judge(judged.reader.commit(root), policy)
        bench.keep(verdict)
        bench.verify(f"{base}..HEAD").passed(root)

    def merge(self, bench: Bench, *, evil: str = "") -> tuple[str, str, str]:
        base = bench.repo.git("rev-parse", "HEAD")
        bench.repo.git("checkout", "-q", "-b", "topic")
        side = bench.ai("side = 1\n", "src/side.py")
        bench.keep(bench.judge(side))
        bench.repo.git("checkout", "-q", "main")
        bench.repo.commit("By hand", {"src/main.py": "m = 1\n"})
        bench.repo.git("-c", "core.hooksPath=/dev/null", "merge", "-q", "--no-commit", "--no-ff", "topic")
        if evil:
            bench.repo.write(evil, "evil\n")
            bench.repo.git("add", "-A")
        bench.repo.git("-c", "core.hooksPath=/dev/null", "commit", "-q", "-m", f"Merge\n\n{AI_TRAILER}")
        return base, side, bench.repo.git("rev-parse", "HEAD")

    def test_a_clean_merge_passes(self, bench: Bench) -> None:
        base, side, merge = self.merge(bench)
        found = bench.verify(f"{base}..HEAD")
        assert (found.code, found.commits[side]["status"]) == (0, "valid")
        assert found.commits[merge]["reason"] == "a merge that adds nothing of its own"

    def test_B48_an_evil_merge_is_found(self, bench: Bench) -> None:
        base, _, merge = self.merge(bench, evil="config/keys/prod.pem")
        found = bench.verify(f"{base}..HEAD")
        found.refused(merge, "missing", "no verdict")
        judged = bench.judge(merge)
        assert [edit.path for edit in judged.verdict.proposal.edits] == [b"config/keys/prod.pem"]
        bench.keep(judged)
        bench.verify(f"{base}..HEAD").refused(merge, "denied", "denies")

    def test_B48_a_merge_with_an_allowed_resolution_passes_with_its_verdict(self, bench: Bench) -> None:
        base, _, merge = self.merge(bench, evil="src/resolved.py")
        bench.keep(bench.judge(merge))
        bench.verify(f"{base}..HEAD").passed(merge)

    def test_B48_a_merge_that_drops_one_side_is_found(self, bench: Bench) -> None:
        base, side, _ = self.merge(bench)
        main = bench.repo.git("rev-parse", "HEAD~1")
        name = bench.repo.commit_tree(bench.repo.git("rev-parse", f"{main}^{{tree}}"), main, side)
        bench.verify(f"{base}..{name}").refused(name, "missing", "no verdict")

    def test_B80_the_verdict_on_a_merge_does_not_serve_for_what_it_merged(self, bench: Bench) -> None:
        """Judged is what the merge adds to its parents: nothing. A squash of the same trees brings it all."""
        base = bench.repo.git("rev-parse", "HEAD")
        bench.repo.git("checkout", "-q", "-b", "topic")
        bad = bench.ai("x\n", "config/keys/prod.pem")
        merge = bench.repo.commit_tree(bench.repo.git("rev-parse", f"{bad}^{{tree}}"), base, bad)
        bench.repo.git("update-ref", "HEAD", merge)
        decisions = {one.verdict.proposal.kind: one.decision for one in bench.check(f"{base}..HEAD")}
        assert decisions["merge"] == "allow"
        bench.repo.git("checkout", "-q", "main")
        squash = bench.repo.commit_tree(bench.repo.git("rev-parse", f"{bad}^{{tree}}"), base)
        found = bench.verify(f"{base}..{squash}")
        found.refused(squash, "denied", "denies")
        # and with nothing but the allowing line left over
        kept = bench.lines(bench.repo.git("rev-parse", f"{bad}^{{tree}}"))
        allowing = [line for line in kept if b'"decision":"allow"' in Envelope.parse(line).untrusted_payload]
        assert allowing
        bench.forget()
        for line in allowing:
            bench.put(squash, line)
        bench.verify(f"{base}..{squash}").refused(squash, "invalid", "starts from tree")

    def test_B86_a_new_message_keeps_the_verdict(self, bench: Bench) -> None:
        name = bench.ai()
        bench.keep(bench.judge(name))
        bench.repo.git("commit", "-q", "--amend", "-m", f"Better words\n\n{AI_TRAILER}")
        amended = bench.repo.git("rev-parse", "HEAD")
        assert amended != name
        bench.verify(f"{BASE}..HEAD").passed(amended)

    def test_B86_a_verdict_is_found_wherever_its_note_hangs(self, bench: Bench) -> None:
        name = bench.ai()
        judged = bench.judge(name)
        envelope = seal(statement(judged.verdict, judged.stamp), [bench.keys["ci"]])
        bench.put(bench.repo.git("rev-parse", "HEAD~1"), envelope.format())
        bench.verify(f"{BASE}..HEAD").passed(name)

    def test_B86_a_squash_is_found_by_the_verdict_on_the_merge_result(self, bench: Bench) -> None:
        fork = bench.repo.git("rev-parse", "HEAD")
        bench.repo.git("checkout", "-q", "-b", "topic")
        for number in range(3):
            bench.ai(f"b = {number}\n", f"src/b{number}.py")
        bench.repo.git("checkout", "-q", "main")
        main = bench.repo.commit("By hand", {"src/main.py": "m = 1\n"})
        bench.check(f"{main}..topic")
        bench.repo.git("merge", "-q", "--squash", "topic")
        bench.repo.git("commit", "-q", "-m", f"All of it\n\n{AI_TRAILER}")
        squash = bench.repo.git("rev-parse", "HEAD")
        bench.verify(f"{main}..HEAD").passed(squash)
        assert bench.verify(f"{fork}..HEAD").code == 0

    def test_B72_a_push_after_the_verdict_needs_a_new_one(self, bench: Bench) -> None:
        base = bench.repo.git("rev-parse", "HEAD")
        first = bench.ai()
        bench.check(f"{base}..HEAD")
        second = bench.ai("c = 3\n", "src/c.py")
        found = bench.verify(f"{base}..HEAD")
        found.refused(second, "missing", "no verdict")
        assert found.commits[first]["status"] == "valid"

    def test_a_later_allow_supersedes_a_deny_and_the_reverse(self, bench: Bench) -> None:
        name = bench.ai()
        bench.forge(name, predicate__decision="deny", predicate__time="2026-01-01T00:00:00Z")
        bench.verify(f"{BASE}..HEAD").refused(name, "denied", "denies")
        bench.forge(name, predicate__time="2026-01-02T00:00:00Z")
        bench.verify(f"{BASE}..HEAD").passed(name)
        bench.forge(name, predicate__decision="deny", predicate__time="2026-01-03T00:00:00Z")
        bench.verify(f"{BASE}..HEAD").refused(name, "denied", "denies")

    def test_at_the_same_second_the_strictest_counts(self, bench: Bench) -> None:
        name = bench.ai()
        for decision in ("allow", "deny", "review"):
            bench.forge(name, predicate__decision=decision, predicate__time="2026-01-01T00:00:00Z")
        bench.verify(f"{BASE}..HEAD").refused(name, "denied", "denies")

    def test_a_verdict_from_the_future_does_not_outlive_later_ones(self, bench: Bench) -> None:
        name = bench.ai()
        bench.forge(name, predicate__time="2099-01-01T00:00:00Z")
        bench.forge(name, predicate__decision="deny", predicate__time="2026-01-01T00:00:00Z")
        bench.verify(f"{BASE}..HEAD").refused(name, "denied", "denies")

    def test_a_long_range(self, bench: Bench) -> None:
        base = bench.repo.git("rev-parse", "HEAD")
        count = 1_200
        stream = [b"feature done\n"]
        for number in range(count):
            message = f"Change {number}\n\n{AI_TRAILER}\n" if number == 700 else f"Change {number}"
            stream.append(
                b"commit refs/heads/main\ncommitter A Person <a@example.com> 1767323045 +0000\n"
                + b"data %d\n%b\n" % (len(message), message.encode())
                + (b"from refs/heads/main^0\n" if number == 0 else b"")
                + b"M 100644 inline src/n.py\ndata %d\nn = %d\n\n" % (len(f"n = {number}\n"), number)
            )
        bench.repo.git("fast-import", "--quiet", stdin=b"".join([*stream, b"done\n"]))
        found = bench.verify(f"{base}..HEAD")
        assert len(found.commits) == count
        governed = [name for name, one in found.commits.items() if one["status"] != "not-governed"]
        found.refused(governed[0], "missing", "no verdict")
        assert len(governed) == 1
        bench.keep(bench.judge(governed[0]))
        bench.verify(f"{base}..HEAD").passed(*governed)

    def test_a_commit_that_cannot_be_taken_apart_is_refused(self, bench: Bench) -> None:
        base = bench.repo.git("rev-parse", "HEAD")
        tree = bench.repo.git("rev-parse", "HEAD^{tree}")
        raw = f"tree {tree}\nparent {base}\nauthor A <a@b> 1 +0000\nauthor B <b@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nm\n"
        name = bench.repo.git(
            "hash-object", "-t", "commit", "-w", "--literally", "--stdin", stdin=raw.encode()
        )
        found = bench.verify(f"{base}..{name}")
        assert (found.code, found.commits[name]["status"]) == (1, "missing")


class TestChecks:
    """A range is replayed at its end; `verify` wants to see it done for what lands."""

    def with_evidence(self, bench: Bench, judged: Judgement, result: str = "passed") -> None:
        data = json.loads(statement(judged.verdict, judged.stamp))
        one = {"name": "unit", "result": result, "command_digest": "", "output_sha256": "", "isolation": ""}
        data["predicate"]["evidence"] = [one]
        data["predicate"]["decision"] = "allow"
        data["predicate"]["findings"] = {"count": 0, "first": []}
        line = seal(canonical.dumps(data), [bench.keys["ci"]]).format()
        for name in (judged.verdict.proposal.head_commit, judged.verdict.proposal.tree):
            bench.put(name, line)

    def allow(self, bench: Bench, judged: Judgement) -> None:
        """As for a step inside a range: allowed, not replayed."""
        data = json.loads(statement(judged.verdict, judged.stamp))
        data["predicate"]["decision"] = "allow"
        bench.put(
            judged.verdict.proposal.head_commit, seal(canonical.dumps(data), [bench.keys["ci"]]).format()
        )

    def test_B80_a_step_of_a_range_handed_in_alone_was_never_replayed(self, bench: Bench) -> None:
        base = bench.trust(POLICY + CHECK)
        step = bench.ai()
        end = bench.ai("c = 3\n", "src/c.py")
        judged = bench.check(f"{base}..HEAD")
        assert [one.decision for one in judged] == ["allow", "review", "review"], (
            "only the end asks for the replay"
        )
        self.with_evidence(bench, judged[-1])
        bench.forge(end, predicate__decision="allow", predicate__time="2026-09-21T14:13:21Z")
        bench.verify(f"{base}..{end}").passed(step, end)
        bench.verify(f"{base}..{step}").refused(
            step, "invalid", "no trusted verdict saw the check 'unit' pass"
        )

    def test_each_commit_replayed_by_its_hook_needs_no_replay_at_the_end(self, bench: Bench) -> None:
        base = bench.trust(POLICY + CHECK)
        first = bench.ai()
        self.with_evidence(bench, bench.judge(first))
        last = bench.ai("t = 1\n", "tests/t.py")
        bench.keep(bench.judge(last))
        bench.verify(f"{base}..HEAD").passed(first, last)

    def test_a_failed_check_is_no_passed_one(self, bench: Bench) -> None:
        base = bench.trust(POLICY + CHECK)
        name = bench.ai()
        self.with_evidence(bench, bench.judge(name), "failed")
        bench.verify(f"{base}..HEAD").refused(name, "invalid", "saw the check 'unit' pass")

    def test_a_clean_merge_at_the_end_hides_nothing(self, bench: Bench) -> None:
        base = bench.trust(POLICY + CHECK)
        step = bench.ai()
        self.allow(bench, bench.judge(step))
        merge = bench.repo.commit_tree(bench.repo.git("rev-parse", f"{step}^{{tree}}"), base, step)
        bench.verify(f"{base}..{merge}").refused(merge, "invalid", "saw the check 'unit' pass")

    def test_an_approval_of_a_change_that_was_not_replayed_waives_the_replay(self, bench: Bench) -> None:
        base = bench.trust(POLICY + CHECK)
        name = bench.ai()
        judged = bench.judge(name)
        assert [one.rule for one in judged.verdict.findings] == ["replay-failed"]
        bench.keep(judged)
        bench.verify(f"{base}..HEAD").refused(name, "unapproved", "0 of 1")
        bench.approve(name)
        bench.verify(f"{base}..HEAD").passed(name)

    def test_what_the_range_undoes_again_is_not_owed(self, bench: Bench) -> None:
        base = bench.trust(POLICY + CHECK)
        step = bench.ai()
        self.allow(bench, bench.judge(step))
        (bench.repo.path / "src/b.py").unlink()
        bench.repo.write("tests/t.py", "t = 1\n")
        last = bench.repo.commit("Rather so", ai=True)
        self.allow(bench, bench.judge(last))
        bench.verify(f"{base}..HEAD").passed(step, last)


def test_main_line_anchors() -> None:
    """Where a commit came into the first-parent line, for a merge of a fork and for a foxtrot."""
    parents = {"a": ("base",), "b": ("a",), "side": ("a",), "m": ("b", "side"), "n": ("m",)}
    assert came_after(parents, "n") == {"a": "", "b": "a", "side": "b", "m": "b", "n": "m"}
    foxtrot = {"a": ("base",), "b": ("a",), "f": ("older",), "m": ("f", "b")}
    assert came_after(foxtrot, "m") == {"f": "", "m": "f", "b": "f", "a": "f"}


def test_the_summary_for_people(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    name = bench.ai()
    assert people.verify(bench.session(), f"{BASE}..HEAD", policy=None, everything=False) == 1
    printed = capsys.readouterr().out
    assert f"missing {name[:12]} Add it [claude-code (ai)] no verdict is there for this commit" in printed
    assert "1 commit" in printed
    bench.keep(bench.judge(name))
    assert people.verify(bench.session(), "", policy=None, everything=False) == 0
    printed = capsys.readouterr().out
    assert "the commit that introduced .safeai/policy.yaml" in printed
    assert "signed by ci@example.com" in printed


def test_B18_a_verdict_on_the_staged_tree_serves_for_the_commit_of_that_tree_only(bench: Bench) -> None:
    bench.repo.write("src/b.py", "b = 2\n")
    bench.repo.git("add", "-A")
    judged = bench.session().gate(agent="claude-code", replay=False).staged()
    bench.keep(judged)
    bench.repo.write("src/b.py", "b = 3  # changed between check and commit\n")
    other = bench.repo.commit("Add it", ai=True)
    bench.verify(f"{BASE}..HEAD").refused(other, "missing", "no verdict")
    bench.repo.git("reset", "-q", "--soft", "HEAD~1")
    bench.repo.write("src/b.py", "b = 2\n")
    same = bench.repo.commit("Add it", ai=True)
    bench.verify(f"{BASE}..HEAD").passed(same)


def test_the_full_report_of_a_kept_verdict_is_there(bench: Bench) -> None:
    name = bench.ai()
    judged = bench.judge(name)
    bench.keep(judged)
    session = bench.session()
    kept = list((session.repository.private_directory / "reports").iterdir())
    assert [json.loads(one.read_bytes()) for one in kept] == [report(judged.verdict, judged.stamp)]


def test_every_judgement_signed_once(bench: Bench) -> None:
    name = bench.ai()
    judged = bench.judge(name)
    session = bench.session()
    sealer = Sealer(session.repository, bench.keys["ci"])
    assert not sealer.has(judged)
    envelope = seal(statement(judged.verdict, judged.stamp), [bench.keys["outsider"]])
    stolen = type(envelope.signatures[0])(bench.keys["ci"].key_id, envelope.signatures[0].sig)
    bench.put(name, type(envelope)(envelope.payload_type, envelope.untrusted_payload, (stolen,)).format())
    bench.put(name, b"rubbish")
    assert not Sealer(session.repository, bench.keys["ci"]).has(judged), "a line in our name is not ours"
    bench.keep(judged)
    assert Sealer(session.repository, bench.keys["ci"]).has(judged)
    assert not Sealer(session.repository, bench.keys["old"]).has(judged)
