"""What pipelines ask of `verify`: a ref, a merge to come, approvals, signers, a summary; and other people's tools."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import POLICY, Repo, Result
from google.protobuf import json_format
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

from safeai_git.commands.demands import Demands
from safeai_git.core.envelope import Envelope
from safeai_git.core.errors import WrongUse

DOCUMENT = (Path(__file__).parent.parent / "docs/independent.md").read_text(encoding="utf-8")


@pytest.fixture
def forked(governed: Repo) -> Repo:
    """main and topic, one commit of an agent on each, both judged, and so is the merge of topic into main."""
    governed.git("branch", "topic")
    governed.commit("on main", {"src/main.py": "m = 1\n"}, ai=True)
    assert governed.safeai("check", "--range", "HEAD~1..HEAD").code == 0
    governed.git("checkout", "-q", "topic")
    governed.commit("on topic", {"src/topic.py": "t = 1\n"}, ai=True)
    return governed


def statuses(done: Result) -> list[str]:
    return [one["status"] for one in json.loads(done.out)["commits"]]


def test_a_ref_is_verified_wherever_head_is(forked: Repo) -> None:
    assert forked.safeai("verify").code == 1  # topic has no verdict yet
    done = forked.safeai("verify", "--ref", "main", "--format", "json")
    assert (done.code, statuses(done)) == (0, ["valid"])
    assert forked.safeai("verify", "--ref", "refs/heads/nothing").code == 3
    assert forked.safeai("verify", "HEAD~1..HEAD", "--ref", "main").code == 2


def test_what_would_land_needs_a_verdict_of_its_own(forked: Repo) -> None:
    """Each commit alone may be fine: what the merge gives is another tree."""
    name = forked.git("rev-parse", "topic")
    gate = forked.git("merge-base", "main", "topic")
    assert forked.safeai("check", "--range", f"{gate}..{name}").code == 0
    done = forked.safeai("verify", "--mergeable", "main", "--format", "json")
    assert (done.code, statuses(done)) == (1, ["valid", "missing"])
    assert forked.safeai("check", "--range", "main..topic").code == 0  # judges the merge too
    done = forked.safeai("verify", "--mergeable", "main", "--format", "json")
    assert (done.code, statuses(done)) == (0, ["valid", "valid"])
    # B-72: the branch moves, and the merge is another one.
    forked.git("checkout", "-q", "main")
    forked.commit("later, by hand", {"src/later.py": "l = 1\n"})
    done = forked.safeai("verify", "--mergeable", "main", "--ref", "topic", "--format", "json")
    assert (done.code, statuses(done)) == (1, ["valid", "missing"])
    forked.commit("in the way", {"src/topic.py": "t = 2\n"})
    done = forked.safeai("verify", "--mergeable", "main", "--ref", "topic")
    assert (done.code, "without conflicts" in done.out) == (1, True)


CHECKS = "checks:\n  - {name: apart, run: 'test ! -f src/main.py -o ! -f src/bad.py', paths: [src/]}\n"


def mergeable(repo: Repo, ref: str = "topic") -> tuple[int, list[str], str]:
    done = repo.safeai("verify", "--mergeable", "main", "--ref", ref, "--format", "json")
    told = json.loads(done.out)["commits"]
    return done.code, [one["status"] for one in told], told[-1]["reason"]


def judged(repo: Repo, revisions: str, *flags: str) -> Result:
    done = repo.safeai("check", "--range", revisions, *flags)
    if "no isolation" in done.both or done.code == 3:
        pytest.skip(f"no sandbox here: {done.both[-200:]}")
    return done


def test_what_would_land_was_replayed_where_the_policy_asks_for_it(governed: Repo) -> None:
    """Checks that pass on the branch say nothing of what merging it gives."""
    governed.commit("ask for a check", {".safeai/policy.yaml": POLICY + CHECKS})
    for name in ("topic", "bad", "owing"):
        governed.git("branch", name)
    governed.commit("on main", {"src/main.py": "m = 1\n"}, ai=True)
    assert judged(governed, "HEAD~1..HEAD").code == 0
    for name in ("topic", "bad", "owing"):
        governed.git("checkout", "-q", name)
        governed.commit(f"on {name}", {f"src/{name}.py": "x = 1\n"}, ai=True)
    # Judged and replayed where it stands, and nothing about the merge.
    fork = governed.git("merge-base", "main", "topic")
    assert judged(governed, f"{fork}..topic").code == 0
    assert mergeable(governed)[:2] == (1, ["valid", "missing"])
    assert judged(governed, "main..topic").code == 0
    assert mergeable(governed)[:2] == (0, ["valid", "valid"])
    # The merge judged, but not replayed: the check is owed.
    assert judged(governed, f"{fork}..owing").code == 0
    assert judged(governed, "main..owing", "--no-replay").code == 1
    code, statuses, _ = mergeable(governed, "owing")
    assert (code, statuses[-1]) == (1, "unapproved")
    # The check passes on the branch and fails on the merge.
    assert judged(governed, f"{fork}..bad").code == 0
    assert judged(governed, "main..bad").code == 1
    code, statuses, _ = mergeable(governed, "bad")
    assert (code, statuses) == (1, ["valid", "denied"])


def test_a_step_that_nobody_replayed_cannot_land_as_a_merge(governed: Repo) -> None:
    """A range is replayed at its end: the verdict on a step inside it is none on what landing that step gives."""
    governed.commit("ask for a check", {".safeai/policy.yaml": POLICY + CHECKS})
    governed.git("checkout", "-q", "-b", "topic")
    step = governed.commit("step", {"src/a.py": "a = 2\n"}, ai=True)
    governed.commit("end", {"src/b.py": "b = 1\n"}, ai=True)
    assert judged(governed, "main..topic").code == 0
    assert mergeable(governed)[0] == 0
    governed.git("branch", "half", step)
    code, statuses, reason = mergeable(governed, "half")
    assert (code, statuses[-1]) == (1, "invalid")
    assert "no trusted verdict saw the check" in reason


def test_approvals_and_signers_can_be_asked_for_beyond_the_policy(
    forked: Repo, maria: dict[str, str]
) -> None:
    forked.git("checkout", "-q", "main")
    need = ("verify", "HEAD~1..HEAD", "--require", "agent-approved=1")
    done = forked.safeai(*need)
    assert (done.code, "0 of 1 approvals" in done.out) == (1, True)
    assert forked.safeai("approve", "HEAD", env=maria).code == 0
    done = forked.safeai(*need, "--format", "json")
    assert (done.code, json.loads(done.out)["commits"][0]["approved_by"]) == (0, ["maria@example.com"])
    assert forked.safeai("verify", "HEAD~1..HEAD", "--require", "agent-approved=2").code == 1
    assert forked.safeai("verify", "HEAD~1..HEAD", "--require", "signed-by=*@example.com").code == 0
    done = forked.safeai("verify", "HEAD~1..HEAD", "--require", "signed-by=ci@*")
    assert (done.code, "not by ci@*" in done.out) == (1, True)
    # A person's commit needs no approval of an agent's.
    forked.commit("by hand", {"src/hand.py": "h = 1\n"})
    assert forked.safeai("verify", "HEAD~1..HEAD", "--require", "agent-approved=1").code == 0


@pytest.mark.parametrize(
    "wanted", ["", "agent-approved", "agent-approved=0", "agent-approved=x", "agent-approved=\u0664", "signed-by=", "more=1",
               "agent-approved=101"],
)  # fmt: skip
def test_a_demand_that_there_is_not(wanted: str) -> None:
    with pytest.raises(WrongUse, match="asks for nothing"):
        Demands.parse("", "", [wanted], "")


def test_the_result_as_a_summary(forked: Repo, tmp_path: Path) -> None:
    file = tmp_path / "vsa.json"
    for ref, result, code in (("main", "PASSED", 0), ("topic", "FAILED", 1)):
        assert forked.safeai("verify", "--ref", ref, "--vsa", str(file)).code == code
        payload = Envelope.parse(file.read_bytes().strip()).untrusted_payload
        Statement.copy_from_pb(json_format.Parse(payload, StatementMessage())).validate()
        told = json.loads(payload)
        assert told["predicate"]["verificationResult"] == result
        assert told["subject"][0]["digest"]["gitCommit"] == forked.git("rev-parse", ref)
        assert told["predicate"]["resourceUri"] == "tag:safe-ai.dev,2026:repository/test/repository"


# Other people's tools, as docs/independent.md has them


@pytest.fixture
def taken(governed: Repo, tmp_path: Path) -> Path:
    """A folder with verdict.json and key.pub."""
    governed.commit("work", {"src/b.py": "b = 1\n"}, ai=True)
    assert governed.safeai("check", "--range", "HEAD~1..HEAD").code == 0
    note = governed.git("notes", "--ref", "safeai", "show", "HEAD")
    (tmp_path / "verdict.json").write_text(note.splitlines()[0] + "\n")
    (tmp_path / "key.pub").write_text(governed.safeai("keys", "export").out)
    return tmp_path


def block(language: str, containing: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)
    return next(one for one in found if containing in one)


def spoil(folder: Path) -> None:
    whole: Any = json.loads((folder / "verdict.json").read_text())
    whole["payload"] = ("A" if whole["payload"][40] != "A" else "B").join(
        (whole["payload"][:40], whole["payload"][41:])
    )
    (folder / "verdict.json").write_text(json.dumps(whole))


def test_securesystemslib_agrees(taken: Path) -> None:
    program = [sys.executable, "-c", block("python", "securesystemslib")]
    done = subprocess.run(program, cwd=taken, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"allow [0-9a-f]{40}\n", done.stdout)
    spoil(taken)
    assert subprocess.run(program, cwd=taken, capture_output=True).returncode != 0


def test_openssl_agrees(taken: Path) -> None:
    for tool in ("openssl", "jq", "xxd"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    program = ["sh", "-c", block("sh", "pkeyutl")]
    done = subprocess.run(program, cwd=taken, capture_output=True, text=True)
    assert (done.returncode, "Verified Successfully" in done.stdout) == (0, True), done.stderr
    spoil(taken)
    assert subprocess.run(program, cwd=taken, capture_output=True).returncode != 0
