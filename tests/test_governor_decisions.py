"""The Governor's own decisions: what a bundle's change comes to, and bundles that nobody should have sent."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import AI_TRAILER, POLICY, Repo
from tools_cli import make
from tools_log import LOG_KEY, LOG_SIGNER, ORIGIN
from tools_state import NOW, parts
from tools_state import Parts as Governor

from safeai_git.audit import verify_file
from safeai_git.core.envelope import open_envelope
from safeai_git.core.errors import CouldNotDecide, KeyUnusable, PolicyError, WrongUse
from safeai_git.core.kill_switch import Scope
from safeai_git.core.log.entry import Entry
from safeai_git.core.log.merkle import leaf_hash
from safeai_git.core.log.proof import verify_proof
from safeai_git.core.trust import AllowedSigner
from safeai_git.core.values import replace
from safeai_git.core.verdict import VERDICT_NAMESPACE, parse_statement
from safeai_git.git.bundle import Budget, BundleRefused, make_bundle
from safeai_git.git.plumbing import Bounds
from safeai_git.git.repository import discover
from safeai_git.governor.decisions import Answer, Busy, DecisionService, Parts, Question
from safeai_git.governor.records import NotAllowed
from safeai_git.governor.workspace import Workspace
from safeai_git.keys.ed25519 import verify
from safeai_git.keys.keyring import Keyring
from safeai_git.schema import faults

ROOT = Path(__file__).parent.parent
NAME = "test/repository"


@pytest.fixture
def governor(tmp_path: Path) -> Iterator[Governor]:
    (tmp_path / "data").mkdir()
    with parts(tmp_path / "data") as made:
        made.keys.ensure_own()
        yield made


def service(governor: Governor, tmp_path: Path, **options: object) -> DecisionService:
    held = Parts(governor.records, governor.keys, governor.policies, governor.switches, LOG_SIGNER)
    return DecisionService(held, tmp_path / "data" / "quarantine", **options)  # type: ignore[arg-type]


@pytest.fixture
def decisions(governor: Governor, tmp_path: Path) -> Iterator[DecisionService]:
    made = service(governor, tmp_path)
    yield made
    made.close()
    assert not list((tmp_path / "data" / "quarantine").glob("of-*"))


@pytest.fixture
def repo(tmp_path: Path, environment: dict[str, str]) -> Repo:
    made = make(tmp_path / "repo", environment)
    made.commit("older", {"src/old.py": "old = 1\n", "docs/deep/a.md": "a\n"})
    made.commit("start", {".safeai/policy.yaml": POLICY, "src/a.py": "a = 1\n"})
    return made


def ask(repo: Repo, base: str = "HEAD~1", head: str = "HEAD", **options: object) -> Question:
    question = Question(NAME, repo.git("rev-parse", base), repo.git("rev-parse", head), "ci@example.com")
    return replace(question, **options)  # type: ignore[arg-type]


def bundle(repo: Repo, base: str = "HEAD~1", head: str = "HEAD") -> bytes:
    repository = discover(repo.path, repo.environment)
    try:
        return make_bundle(repository, repo.git("rev-parse", base), repo.git("rev-parse", head))
    finally:
        repository.close()


def decide(decisions: DecisionService, repo: Repo, **options: object) -> Answer:
    return decisions.decide(ask(repo, **options), bundle(repo))


def keys() -> Keyring:
    return Keyring((AllowedSigner(LOG_SIGNER.public, ("governor",)),))


def test_a_change_is_judged_signed_logged_and_proven(
    decisions: DecisionService, governor: Governor, repo: Repo, tmp_path: Path
) -> None:
    repo.commit("more", {"src/b.py": "b = 1\n"}, ai=True)
    answer = decide(decisions, repo, claims={"actor_id": "1", "ref": "refs/heads/x\x1b[2J"})
    assert (answer.decision, [one.judgement.verdict.proposal.kind for one in answer.signed]) == (
        "allow",
        ["commit", "net"],
    )
    for one in answer.signed:
        opened = open_envelope(one.envelope, keys(), purpose=VERDICT_NAMESPACE, at=NOW, verify=verify)
        claim = parse_statement(opened.payload)
        assert (claim.repository, claim.decision) == (NAME, "allow")
        assert claim.tree == repo.git("rev-parse", "HEAD^{tree}")
        assert claim.base_tree == repo.git("rev-parse", "HEAD~1^{tree}")
        verify_proof(one.receipt.proof(), leaf_hash(one.receipt.line), ORIGIN, [LOG_KEY], verify)
    asked = Entry.parse(answer.receipt.line)
    data = asked.data()
    assert isinstance(data, dict)
    assert (asked.kind, data["by"], data["decision"]) == ("decision", "ci@example.com", "allow")
    assert data["verdicts"] == [one.envelope.digest for one in answer.signed]
    assert "\x1b" not in str(data["claims"])
    shown = answer.data()
    assert shown["envelope"] == shown["verdicts"][-1]["envelope"]
    assert all(faults(one["report"], "report") == [] for one in shown["verdicts"])
    assert verify_file(tmp_path / "data" / "audit.log", keys=[LOG_SIGNER.public]).checked == 2


def test_it_says_what_the_gate_says_where_the_repository_is(decisions: DecisionService, repo: Repo) -> None:
    repo.commit("fine", {"src/b.py": "b = 1\n"}, ai=True)
    repo.commit("person", {"docs/x.md": "x\n"})
    repo.commit("key", {"config/keys/a": "x\n"}, ai=True)
    repo.commit("large", {"src/l.py": "l = 1\n" * 20_000}, ai=True)
    question = ask(repo, "HEAD~4")
    answer = decisions.decide(question, bundle(repo, "HEAD~4"))
    done = repo.safeai("check", "--range", "HEAD~4..HEAD", "--no-replay", "--format", "json")
    there = json.loads(done.out)["judgements"]
    assert answer.decision == "deny"
    assert [one.decision for one in answer.judged] == [one["decision"] for one in there]
    ours = [sorted(finding.rule for finding in one.verdict.findings) for one in answer.judged]
    assert ours == [sorted(finding["rule"] for finding in one["findings"]) for one in there]


def test_a_bundle_of_git_itself_serves_as_well(decisions: DecisionService, repo: Repo) -> None:
    repo.commit("more", {"src/b.py": "b = 1\n"}, ai=True)
    whole = repo.git_bytes("bundle", "create", "-", "HEAD", "main")
    assert decisions.decide(ask(repo), whole).decision == "allow"
    thin = repo.git_bytes("bundle", "create", "-", "HEAD", "^HEAD~1")
    with pytest.raises(BundleRefused, match=r"holds no commit|cannot be taken"):
        decisions.decide(ask(repo), thin)


def test_a_branch_that_fell_behind_is_judged_with_what_merging_gives(
    decisions: DecisionService, repo: Repo
) -> None:
    repo.git("checkout", "-q", "-b", "topic")
    repo.commit("more", {"src/b.py": "b = 1\n"}, ai=True)
    repo.git("checkout", "-q", "main")
    repo.commit("meanwhile", {"src/c.py": "c = 1\n"})
    whole = repo.git_bytes("bundle", "create", "-", "main", "topic")
    answer = decisions.decide(ask(repo, "main", "topic"), whole)
    kinds = [one.verdict.proposal.kind for one in answer.judged]
    assert (answer.decision, kinds) == ("allow", ["commit", "net", "merge-result"])


def test_the_organisations_policy_lies_above(
    decisions: DecisionService, governor: Governor, repo: Repo
) -> None:
    repo.commit("more", {"src/b.py": "b = 1\n"}, ai=True)
    governor.policies.publish(b"deny_paths: [src/b.py]\n", expires=NOW + 60, by="maria")
    assert decide(decisions, repo).decision == "deny"
    governor.clock.now += 60
    with pytest.raises(PolicyError, match="has expired"):
        decide(decisions, repo)


def test_a_kill_switch_stops_it(decisions: DecisionService, governor: Governor, repo: Repo) -> None:
    repo.commit("more", {"src/b.py": "b = 1\n"}, ai=True)
    for scope in (Scope("global"), Scope("repository", NAME), Scope("agent", "claude-code")):
        governor.switches.engage(scope, reason="a leak", by="maria")
        answer = decide(decisions, repo)
        assert answer.decision == "deny"
        assert {finding.rule for one in answer.judged for finding in one.verdict.findings} == {"kill-switch"}
        governor.switches.release(scope, reason="mended", by="maria")
    for scope in (Scope("repository", "another"), Scope("agent", "codex")):
        governor.switches.engage(scope, reason="a leak", by="maria")
    assert decide(decisions, repo).decision == "allow"


def test_approvals_travel_in_the_bundle(
    decisions: DecisionService, governor: Governor, governed: Repo, maria: dict[str, str]
) -> None:
    governed.commit("CI", {".github/workflows/ci.yml": "on: push\n"}, ai=True)
    assert decide(decisions, governed).decision == "review"
    done = governed.safeai("approve", "HEAD", env=maria)
    assert done.code == 0, done.both
    governor.clock.now = time.time() + 1  # the approval's time is that of this machine's clock
    answer = decide(decisions, governed)
    assert answer.decision == "allow"
    assert {one.approved_by for one in answer.judged} == {("maria@example.com",)}


def test_only_what_the_caller_may_ask_for_is_judged(decisions: DecisionService, repo: Repo) -> None:
    repo.commit("more", {"src/b.py": "b = 1\n"}, ai=True)
    with pytest.raises(NotAllowed, match="names the repository 'test/repository'"):
        decide(decisions, repo, repository="acme/shop")
    with pytest.raises(NotAllowed):
        decide(decisions, repo, repository="acme/shop", everywhere=True)
    nameless = POLICY.replace("repository: test/repository\n", "")
    repo.commit("nameless", {".safeai/policy.yaml": nameless})
    repo.commit("more", {"src/c.py": "c = 1\n"}, ai=True)
    with pytest.raises(NotAllowed, match="names no repository"):
        decide(decisions, repo)
    assert decide(decisions, repo, everywhere=True).decision == "allow"


def test_questions_that_cannot_be_answered(decisions: DecisionService, repo: Repo) -> None:
    repo.commit("more", {"src/b.py": "b = 1\n"}, ai=True)
    data = bundle(repo)
    tree = repo.git("rev-parse", "HEAD^{tree}")
    for question in (
        ask(repo, head="HEAD~1"),
        ask(repo, base="HEAD", head="HEAD~1"),
    ):
        with pytest.raises(WrongUse, match="nothing to judge"):
            decisions.decide(question, data)
    for name in ("", "HEAD", "0" * 40, tree, "-h", "refs/heads/main", repo.git("rev-parse", "HEAD~2")):
        with pytest.raises(BundleRefused):
            decisions.decide(replace(ask(repo), base=name), data)
    broken = POLICY.replace("deny_paths", "deny_path")
    repo.commit("broken", {".safeai/policy.yaml": broken})
    repo.commit("more", {"src/c.py": "c = 1\n"}, ai=True)
    with pytest.raises(PolicyError, match="deny_path"):
        decide(decisions, repo)


def test_a_revoked_key_signs_nothing_more(decisions: DecisionService, governor: Governor, repo: Repo) -> None:
    repo.commit("more", {"src/b.py": "b = 1\n"}, ai=True)
    decide(decisions, repo)
    governor.keys.revoke(LOG_SIGNER.key_id, reason="leaked", by="maria")
    size = governor.log.store.size
    with pytest.raises(KeyUnusable, match="revoked"):
        decide(decisions, repo)
    assert governor.log.store.size == size


# bundles that nobody should have sent


def pack(*objects: tuple[int, bytes], count: int | None = None) -> bytes:
    """A pack of whole objects (gitformat-pack(5)): type 1 commit, 2 tree, 3 blob."""
    body = b"PACK" + (2).to_bytes(4, "big") + (len(objects) if count is None else count).to_bytes(4, "big")
    for kind, data in objects:
        size, head = len(data) >> 4, kind << 4 | len(data) & 15
        encoded = bytearray()
        while size:
            encoded.append(head | 0x80)
            head, size = size & 0x7F, size >> 7
        body += bytes([*encoded, head]) + zlib.compress(data, 9)
    return body + hashlib.sha1(body).digest()


def as_bundle(data: bytes, header: bytes = b"# v2 git bundle\n") -> bytes:
    return header + b"\n" + data


def test_what_is_no_bundle_is_refused_and_nothing_stays(
    decisions: DecisionService, repo: Repo, tmp_path: Path
) -> None:
    repo.commit("more", {"src/b.py": "b = 1\n"}, ai=True)
    good = bundle(repo)
    question = ask(repo)
    table = {
        "nothing": b"",
        "text": b"hello\n\n",
        "only a header": b"# v2 git bundle\n\n",
        "an endless header": b"# v2 git bundle\n" + b"x" * (2 << 20),
        "another hash": as_bundle(pack(), b"# v3 git bundle\n@object-format=sha256\n"),
        "a filter": as_bundle(pack(), b"# v3 git bundle\n@filter=blob:none\n"),
        "a ref that walks": as_bundle(pack(), b"# v2 git bundle\n" + b"0" * 40 + b" ../../hooks/x\n"),
        "cut off": good[: len(good) // 2],
        "the last byte": good[:-1] + bytes([good[-1] ^ 1]),
        "more objects than there are": as_bundle(pack((3, b"x"), count=5)),
        "very many objects": as_bundle(pack((3, b"x"), count=2**31)),
        "a pack of nothing": as_bundle(pack()),
        "a tree with .git": as_bundle(pack((2, b"40000 .git\0" + b"\x01" * 20))),
        "a tree with ..": as_bundle(pack((2, b"40000 ..\0" + b"\x01" * 20))),
        "a commit that is none": as_bundle(pack((1, b"tree x\n"))),
    }
    for name, data in table.items():
        with pytest.raises(BundleRefused):
            print(name, decisions.decide(question, data).decision)
    for at in range(0, len(good), max(1, len(good) // 20)):
        changed = bytearray(good)
        changed[at] ^= 0x10
        try:
            answer = decisions.decide(question, bytes(changed))
        except CouldNotDecide:
            continue
        # A ref's name or a comment: the commits are those that were asked for.
        assert answer.signed[-1].judgement.verdict.proposal.tree == repo.git("rev-parse", "HEAD^{tree}")
    own = next((tmp_path / "data" / "quarantine").glob("of-*"))
    assert [one.name for one in own.iterdir()] == ["lock"]


def test_a_few_bytes_that_stand_for_very_many_are_held_to_limits(
    governor: Governor, repo: Repo, tmp_path: Path
) -> None:
    repo.write("src/zeros.bin", "")
    (repo.path / "src" / "zeros.bin").write_bytes(bytes(64 << 20))
    repo.git("add", "-A")
    repo.git("commit", "-q", "-m", f"zeros\n\n{AI_TRAILER}")
    data = bundle(repo)
    assert len(data) < 1 << 20
    tight = Budget(bounds=Bounds(memory_bytes=48 << 20, cpu_seconds=20, file_bytes=1 << 20, seconds=60))
    decisions = service(governor, tmp_path, budget=tight)
    try:
        with pytest.raises(BundleRefused):
            decisions.decide(ask(repo), data)
    finally:
        decisions.close()
    decisions = service(governor, tmp_path)
    try:
        assert decisions.decide(ask(repo), data).decision == "deny"
    finally:
        decisions.close()


def test_checks_run_only_where_that_is_wanted(governor: Governor, repo: Repo, tmp_path: Path) -> None:
    checks = "checks:\n  - {name: fine, run: test -f src/b.py}\n  - {name: gone, run: test -f src/none.py}\n"
    repo.commit("checks", {".safeai/policy.yaml": POLICY + checks})
    repo.commit("more", {"src/b.py": "b = 1\n"}, ai=True)
    for replay in (False, True):
        decisions = service(governor, tmp_path, replay=replay)
        try:
            answer = decide(decisions, repo)
        finally:
            decisions.close()
        assert answer.decision in ("review", "deny")
        assert answer.data()["replayed"] is replay
        evidence = answer.judged[-1].verdict.context.evidence
        if not replay:
            assert dict(evidence) == {}
        elif any(one.isolation for one in evidence.values()):
            found = {name: (one.result, one.exit_code) for name, one in evidence.items()}
            assert found == {"fine": ("passed", 0), "gone": ("failed", 1)}
        else:
            pytest.skip(f"no sandbox can be had here: {evidence['fine'].detail}")


def test_too_many_objects_and_too_many_commits_are_refused(
    governor: Governor, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        repo.commit(f"n{number}", {f"src/n{number}.py": "n = 1\n"}, ai=True)
    small = service(governor, tmp_path, budget=Budget(objects=5))
    try:
        with pytest.raises(BundleRefused, match="5 are taken at most"):
            small.decide(ask(repo, "HEAD~4"), bundle(repo, "HEAD~4"))
        monkeypatch.setattr("safeai_git.governor.decisions.MOST_COMMITS", 3)
    finally:
        small.close()
    usual = service(governor, tmp_path)
    try:
        with pytest.raises(WrongUse, match="4 commits"):
            usual.decide(ask(repo, "HEAD~4"), bundle(repo, "HEAD~4"))
    finally:
        usual.close()


def test_nothing_of_a_change_is_run(decisions: DecisionService, repo: Repo, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    run = f"touch {canary}; cat"
    repo.commit(
        "attributes",
        {
            ".gitattributes": "* filter=evil diff=evil merge=evil\n",
            ".gitmodules": '[submodule "x"]\n\tpath = src/x\n\turl = ./x\n',
            "src/b.py": "b = 1\n",
        },
        ai=True,
    )
    for name in ("filter.evil.smudge", "filter.evil.clean", "diff.evil.textconv", "core.fsmonitor"):
        repo.git("config", name, run)
    decide(decisions, repo)
    assert not canary.exists()


def test_only_so_many_are_judged_at_once(governor: Governor, repo: Repo, tmp_path: Path) -> None:
    repo.commit("more", {"src/b.py": "b = 1\n"}, ai=True)
    data, question = bundle(repo), ask(repo)
    decisions = service(governor, tmp_path, at_once=1)
    answers: list[object] = []

    def one() -> None:
        try:
            answers.append(decisions.decide(question, data).decision)
        except Busy as error:
            answers.append(error)

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "allow" in answers
    assert all(answer == "allow" or isinstance(answer, Busy) for answer in answers)
    assert decisions.decide(question, data).decision == "allow", "a slot is given back"
    decisions.close()


HOLDING = """\
import sys, time
from pathlib import Path
from safeai_git.governor.workspace import Workspace
workspace = Workspace(Path(sys.argv[1]))
with workspace.folder() as folder:
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "file").write_bytes(b"x")
    (folder / "deep").chmod(0o500)
    print(folder, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_process_left_is_gone_after_the_next_start(tmp_path: Path) -> None:
    children = []
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", HOLDING, str(tmp_path / "q")],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        assert child.stdout is not None
        children.append((child, Path(child.stdout.readline().strip())))
    (killed, left), (_, held) = children
    try:
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert (left / "deep" / "er" / "file").exists()
        (tmp_path / "else").mkdir()
        (tmp_path / "q" / "of-link").symlink_to(tmp_path / "else")
        (tmp_path / "q" / "of-file").write_bytes(b"x")
        workspace = Workspace(tmp_path / "q")
        assert not left.parent.exists()
        assert list((tmp_path / "else").iterdir()) == []
        for odd in ("of-link", "of-file"):
            (tmp_path / "q" / odd).unlink()
        assert (held / "deep" / "er" / "file").exists(), "whose process runs keeps its own"
        workspace.close()
    finally:
        for child, _ in children:
            child.kill()
            child.wait()
            assert child.stdout is not None
            child.stdout.close()
    Workspace(tmp_path / "q").close()
    assert os.listdir(tmp_path / "q") == ["lock"]
