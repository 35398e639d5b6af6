"""The organisation's policy: who may sign it, that it never goes back, and that it only tightens."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tools_cli import before_the_lock

from safeai_git import organisation
from safeai_git.agents import catalogue
from safeai_git.core import canonical
from safeai_git.core.attribution import Attribution, Signal
from safeai_git.core.context import CheckEvidence, Context, KillSwitch
from safeai_git.core.edit import Edit
from safeai_git.core.errors import FormatError, PolicyError, StorageError
from safeai_git.core.evaluate import evaluate
from safeai_git.core.message import Message
from safeai_git.core.policy import Policy, PolicyStack
from safeai_git.core.policy_statement import PolicyStatement, parse_time
from safeai_git.core.proposal import Proposal
from safeai_git.core.trust import AllowedSigner
from safeai_git.files import alone
from safeai_git.keys.ed25519 import Ed25519Signer
from safeai_git.keys.keyring import Keyring
from safeai_git.keys.seal import seal
from safeai_git.keys.signer import load_signer
from safeai_git.organisation import Memory
from safeai_git.published_policy import Published, open_published, policy_text, publish
from tests.conftest import Repo, Result

NOW = 1_800_000_000
TEXT = b"deny_paths: [secret/]\n"


def signer(seed: int) -> Ed25519Signer:
    return Ed25519Signer.of(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


def ring(*signers: Ed25519Signer, **limits: Any) -> Keyring:
    limits = {"namespaces": ("safeai-policy",)} | limits
    return Keyring(tuple(AllowedSigner(one.public, ("org",), **limits) for one in signers), source="signers")


OLD_KEY, NEW_KEY, STRANGER = signer(1), signer(2), signer(3)


def published(
    version: int, text: bytes = TEXT, key: Ed25519Signer = OLD_KEY, expires: int = NOW + 60
) -> bytes:
    return publish(text, organisation="acme", version=version, expires=expires, signer=key)


def opened(data: bytes, keyring: Keyring | None = None, now: float = NOW) -> Published:
    return open_published(data, "file", keyring or ring(OLD_KEY, NEW_KEY), now=now)


# The statement

statements = st.builds(
    PolicyStatement,
    organisation=st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9 ._/-]{0,98}[A-Za-z0-9])?", fullmatch=True),
    version=st.integers(1, 10**15),
    expires=st.integers(0, 253402300799),
    policy_digest=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
)


@given(statements)
def test_a_statement_reads_back_to_itself(statement: PolicyStatement) -> None:
    assert PolicyStatement.parse(statement.format()) == statement


@pytest.mark.parametrize(
    "wrong",
    [
        {"organisation": ""},
        {"organisation": "a" * 101},
        {"organisation": "acme\n"},
        {"organisation": " acme"},
        {"organisation": "\u0430cme"},
        {"version": 0},
        {"version": -1},
        {"version": True},
        {"version": 10**15 + 1},
        {"expires": -1},
        {"expires": 253402300800},
        {"policy_digest": "a" * 63},
        {"policy_digest": "A" * 64},
        {"policy_digest": "a" * 64 + "\n"},
    ],
)
def test_a_statement_refuses_what_it_cannot_mean(wrong: dict[str, Any]) -> None:
    right = {"organisation": "acme", "version": 1, "expires": 5, "policy_digest": "0" * 64}
    with pytest.raises(FormatError):
        PolicyStatement(**right | wrong)


def changed(**changes: Any) -> bytes:
    data = json.loads(PolicyStatement("acme", 1, 5, "0" * 64).format())
    predicate = changes.pop("predicate", {})
    return canonical.dumps(data | changes | {"predicate": data["predicate"] | predicate})


@pytest.mark.parametrize(
    "payload",
    [
        b"[]",
        b"{}",
        changed(predicateType="https://safe-ai.dev/attestation/verdict/v1"),
        changed(_type="https://in-toto.io/Statement/v0.1"),
        changed(subject=[]),
        changed(subject=[{"name": "other.yaml", "digest": {"sha256": "0" * 64}}]),
        changed(subject=[{"name": "policy.yaml", "digest": {"sha256": "0" * 64, "sha1": ""}}]),
        changed(predicate={"more": 1}),
        changed(predicate={"version": True}),
        changed(predicate={"version": "1"}),
        changed(predicate={"version": 1.5}),
        changed(predicate={"expires": "1970-01-01"}),
        changed(predicate={"expires": "soon"}),
        changed().replace(b",", b", ", 1),
    ],
)
def test_a_statement_that_is_written_otherwise_is_refused(payload: bytes) -> None:
    assert PolicyStatement.parse(changed()).version == 1
    with pytest.raises(FormatError):
        PolicyStatement.parse(payload)


def test_times_are_utc_and_unambiguous() -> None:
    assert parse_time("1970-01-02") == parse_time("1970-01-02T00:00:00Z") == 86_400
    for text in ("1970-01-02T00:00:00", "1970-01-02T00:00:00+01:00", "02.01.1970", "1970-02-30", ""):
        with pytest.raises(FormatError, match="is not a time"):
            parse_time(text)


# Opening


def test_a_published_policy_opens() -> None:
    one = opened(published(7))
    assert one.statement.version == 7
    assert one.policy.source == "policy of acme, version 7"
    assert one.policy.digest == hashlib.sha256(TEXT).hexdigest()
    assert [pattern.source for pattern in one.policy.deny_paths] == ["secret/"]
    assert [key.key_id for key in one.keys] == [OLD_KEY.key_id]


@pytest.mark.parametrize("size", [0, 200_000])
def test_a_policy_of_any_length_can_be_published(size: int) -> None:
    """The signed bytes stay within what every signing service takes, whatever the text."""
    text = TEXT + b"# " + b"x" * size + b"\n"
    assert opened(published(1, text)).policy.digest == hashlib.sha256(text).hexdigest()


def test_B04_an_expired_policy_is_refused() -> None:
    assert opened(published(1), now=NOW + 59.9).statement.version == 1
    with pytest.raises(PolicyError, match="has expired"):
        opened(published(1), now=NOW + 60)


@pytest.mark.parametrize(
    "keyring",
    [
        ring(STRANGER),
        ring(OLD_KEY, namespaces=("safeai-verdict",)),
        ring(OLD_KEY, valid_before=NOW),
        ring(OLD_KEY, valid_after=NOW + 1),
        ring(),
    ],
)
def test_only_a_key_that_may_sign_policies_now_counts(keyring: Keyring) -> None:
    with pytest.raises(PolicyError, match="is not a policy that the organisation published"):
        opened(published(1), keyring)


def test_the_text_is_the_one_that_was_signed() -> None:
    for data in (published(1) + b"\n", published(1)[:-1], published(1).replace(b"secret/", b"secre7/")):
        with pytest.raises(PolicyError, match="is not the one that was signed"):
            opened(data)


def test_a_signed_verdict_is_no_policy() -> None:
    payload = canonical.dumps({"_type": "https://in-toto.io/Statement/v1", "predicateType": "other"})
    with pytest.raises(PolicyError, match="is not a policy"):
        opened(seal(payload, [OLD_KEY]).format() + b"\n" + TEXT)


@pytest.mark.parametrize("data", [b"", b"\n", TEXT, b"{}\n" + TEXT, b"\xff\n" + TEXT])
def test_what_is_no_published_policy_is_refused(data: bytes) -> None:
    with pytest.raises(PolicyError, match="is not a policy that the organisation published"):
        opened(data)


def test_an_invalid_policy_is_refused_whoever_signed_it() -> None:
    with pytest.raises(PolicyError, match="policy of acme, version 1:1:1: unknown key"):
        opened(published(1, b"deny_path: [secret/]\n"))


def test_the_text_comes_out_of_both_kinds_of_file() -> None:
    assert policy_text(published(1)) == TEXT
    assert policy_text(TEXT) == TEXT
    assert policy_text(b"") == b""


# Never going back


def admit(memory: Memory, data: bytes, *trusted: Ed25519Signer) -> None:
    keys = trusted or (OLD_KEY, NEW_KEY)
    memory.admit(opened(data, ring(*keys)), [key.key_id for key in keys])


def test_B04_an_older_version_is_refused(tmp_path: Path) -> None:
    memory = Memory([tmp_path / "one", tmp_path / "two"])
    for version in (3, 3, 4):
        admit(memory, published(version))
    with pytest.raises(PolicyError, match="version 4 was seen already"):
        admit(memory, published(3))
    admit(memory, published(4))


def test_B04_the_higher_of_both_memories_counts(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    admit(Memory([one, two]), published(5))
    for kept, lost in ((one, two), (two, one)):
        for file in lost.iterdir():
            file.unlink()
        with pytest.raises(PolicyError, match="version 5 was seen"):
            admit(Memory([one, two]), published(4))
        admit(Memory([one, two]), published(5))
        assert len(list(lost.iterdir())) == len(list(kept.iterdir())) == 1


@pytest.mark.parametrize("two_folders", [False, True])
def test_B04_a_version_that_another_process_sees_meanwhile_is_not_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, two_folders: bool
) -> None:
    """It is remembered after this one has looked, and before this one writes."""
    folders = [tmp_path / "one", tmp_path / "two"][: 1 + two_folders]
    memory = Memory(folders)
    admit(memory, published(5))

    before_the_lock(monkeypatch, organisation, lambda: admit(Memory(folders), published(7)))
    with pytest.raises(PolicyError, match="version 7 was seen"):
        admit(memory, published(6))
    with pytest.raises(PolicyError, match="version 7 was seen"):
        admit(memory, published(6))
    admit(memory, published(7))


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_B04_a_memory_that_somebody_holds_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(organisation, "_LONGEST_WAIT_SECONDS", 0.05)
    memory = Memory([tmp_path / "one"])
    with alone(tmp_path / "one.lock"), pytest.raises(StorageError, match="another process"):
        admit(memory, published(5))
    admit(memory, published(5))
    with alone(tmp_path / "one.lock"):
        admit(memory, published(5))  # nothing is to be written


def test_B04_two_policies_of_one_version_are_refused(tmp_path: Path) -> None:
    memory = Memory([tmp_path])
    admit(memory, published(5))
    for other in (
        published(5, TEXT + b"#"),
        published(5, expires=NOW + 61),
        published(5, TEXT + b"#", NEW_KEY),
    ):
        with pytest.raises(PolicyError, match="two policies of acme with version 5"):
            admit(memory, other)
    admit(memory, published(5, key=NEW_KEY))


def test_B04_a_new_key_does_not_open_the_way_back(tmp_path: Path) -> None:
    memory = Memory([tmp_path])
    admit(memory, published(10, key=OLD_KEY))
    admit(memory, published(11, key=NEW_KEY))
    with pytest.raises(PolicyError, match="version 11 was seen"):
        admit(memory, published(10, key=OLD_KEY))


def test_what_a_key_signed_that_is_trusted_no_more_binds_nobody(tmp_path: Path) -> None:
    """Or a stolen key could lock everybody out with the highest version there is."""
    memory = Memory([tmp_path])
    admit(memory, published(10**15, key=NEW_KEY))
    with pytest.raises(PolicyError):
        admit(memory, published(11, key=OLD_KEY))
    admit(memory, published(11, key=OLD_KEY), OLD_KEY)


def test_organisations_do_not_disturb_each_other(tmp_path: Path) -> None:
    memory = Memory([tmp_path])
    admit(memory, published(5))
    admit(memory, publish(TEXT, organisation="other", version=1, expires=NOW + 60, signer=OLD_KEY))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: b"{}",
        lambda data: data.replace(b'"version":5', b'"version":4 '),
        lambda data: data.replace(b'"version":5', b'"version":"5"'),
        lambda data: data.replace(b"acme", b"acmf"),
        lambda data: data + b" " * 5_000,
        lambda data: b"\xff" + data,
    ],
)
def test_B04_a_damaged_memory_is_never_ignored(tmp_path: Path, damage: Any) -> None:
    memory = Memory([tmp_path])
    admit(memory, published(5))
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(StorageError, match="is damaged") as raised:
        admit(memory, published(6))
    assert "then delete it" in raised.value.hint
    file.unlink()
    admit(memory, published(6))


def test_B04_a_memory_that_cannot_be_read_or_written_is_never_ignored(tmp_path: Path) -> None:
    memory = Memory([tmp_path / "state"])
    admit(memory, published(5))
    (file,) = (tmp_path / "state").iterdir()
    file.unlink()
    file.mkdir()
    with pytest.raises(StorageError, match="cannot be read"):
        admit(memory, published(6))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        admit(Memory([tmp_path / "file" / "below"]), published(6))


# Only tightening

PATHS = [b"src/a.py", b"docs/b.md", b".github/workflows/c.yml", b".safeai/policy.yaml", b"secret/d"]
policies = st.fixed_dictionaries(
    {},
    optional={
        "safe_mode": st.booleans(),
        "autonomy_tier": st.sampled_from(["frozen", "alpha", "beta", "stable"]),
        "allow_paths": st.lists(st.sampled_from(["src/", "docs/", ".github/"]), unique=True),
        "deny_paths": st.lists(st.sampled_from(["src/", "secret/"]), unique=True),
        "protected_paths": st.lists(st.sampled_from(["src/", "docs/"]), unique=True),
        "protect_defaults": st.booleans(),
        "max_edit_size_bytes": st.integers(1, 100),
        "max_total_size_bytes": st.integers(1, 100),
        "max_edits": st.integers(1, 4),
        "applies_to": st.lists(
            st.sampled_from(["ai", "mixed", "human", "bot", "unknown"]), unique=True, min_size=1
        ),
        "free_text_governs": st.booleans(),
        "ai_until_shown_human": st.booleans(),
        "attribution": st.sampled_from([None, "forbid", "disclose", "require"]),
        "ai_may_sign_off": st.booleans(),
        "accountable_trailers": st.lists(st.sampled_from(["Requested-by", "Signed-off-by"]), max_size=2),
        "agents": st.just({"claude-code": {"allow": False}}),
        "outcomes": st.dictionaries(
            st.sampled_from(["unportable-path", "mode-change"]), st.sampled_from(["warn", "review", "deny"])
        ),
        "approvals": st.fixed_dictionaries(
            {"threshold": st.integers(1, 3)},
            optional={"approvers": st.lists(st.sampled_from(["a*", "b*"]), unique=True, min_size=1)},
        ),
        "checks": st.sampled_from(
            [[{"name": "tests", "run": "true"}], [{"name": "lint", "run": "true", "paths": ["src/"]}]]
        ),
        "deadline_seconds": st.integers(1, 100),
    },
)
edits = st.lists(
    st.builds(
        Edit,
        path=st.sampled_from(PATHS),
        status=st.just("M"),
        old_mode=st.just(0o100644),
        new_mode=st.sampled_from([0o100644, 0o100755]),
        bytes_added=st.integers(0, 120),
    ),
    unique_by=lambda edit: edit.path,
)
authors = st.builds(
    Attribution,
    st.sampled_from(["ai", "mixed", "human", "bot", "unknown"]),
    st.sampled_from(["", "claude-code"]),
    signals=st.lists(
        st.builds(
            Signal,
            st.sampled_from(["claim", "author", "trailer", "loose-trailer", "text"]),
            st.sampled_from(["", "claude-code"]),
            st.just("ai"),
            st.just(0.5),
            st.just("x"),
        ),
        max_size=2,
    ).map(tuple),
    message=st.sampled_from(["", "s\n\nRequested-by: A <a@b.c>\n", "s\n\nSigned-off-by: Claude\n"]).map(
        lambda text: Message(text, catalogue())
    ),
)
contexts = st.builds(
    Context,
    kill_switch=st.sampled_from([KillSwitch(), KillSwitch("engaged"), KillSwitch("stale")]),
    evidence=st.dictionaries(
        st.sampled_from(["tests", "lint"]),
        st.sampled_from(["passed", "failed", "undecided"]).map(lambda result: CheckEvidence("x", result, "")),
    ),
)


def layer(data: dict[str, Any], name: str) -> Policy:
    return Policy.from_data(data, {}, name, hashlib.sha256(name.encode()).hexdigest())


@given(policies, policies, edits, authors, contexts)
def test_B05_a_layer_above_never_loosens(
    above: dict[str, Any], own: dict[str, Any], changes: list[Edit], who: Attribution, context: Context
) -> None:
    proposal = Proposal("commit", "1" * 40, "2" * 40, "3" * 40, "4" * 40, tuple(changes), who)
    order = ("allow", "review", "deny")
    organisation, repository = layer(above, "org"), layer(own, "own")
    both = PolicyStack((organisation, repository))
    decided = evaluate(proposal, both, context)
    for one in (PolicyStack((organisation,)), PolicyStack((repository,))):
        single = evaluate(proposal, one, context)
        assert order.index(decided.decision) >= order.index(single.decision)
        assert decided.governed >= single.governed
        assert set(decided.findings) >= set(single.findings)
        assert both.threshold >= one.threshold
        assert set(both.approvers) >= set(one.approvers)
        assert both.safe_mode >= one.safe_mode
        assert both.deadline_seconds <= one.deadline_seconds
        assert set(both.checks_for(PATHS)) >= set(one.checks_for(PATHS))
        assert both.admits(who.agent) <= one.admits(who.agent)
        assert both.digest != one.digest


# As a person uses it


class Organisation:
    """Keys and a published policy outside a governed repository, and the repository's configuration for them."""

    def __init__(self, repo: Repo, folder: Path) -> None:
        self.repo = repo
        self.folder = folder
        made = repo.safeai("keys", "generate", "--key-id", "org", "--folder", str(folder))
        assert made.code == 0, made.both
        public = repo.safeai("keys", "export", "--key-id", "org", "--folder", str(folder)).out.strip()
        self.signers = folder / "signers"
        self.signers.write_text(f'security@acme namespaces="safeai-policy" {public}\n')
        self.file = folder / "policy.yaml.signed"
        repo.git("config", "safeai.orgPolicy", str(self.file))
        repo.git("config", "safeai.orgSigners", str(self.signers))

    def publish(
        self, version: int, text: str = "deny_paths: [vendor/]\n", expires: str = "2999-01-01"
    ) -> Result:
        (self.folder / "policy.yaml").write_text(text)
        return self.repo.safeai(
            *("policy", "publish", str(self.folder / "policy.yaml"), "--version", str(version)),
            *("--expires", expires, "--organisation", "acme"),
            env={"SAFEAI_KEY": str(self.folder / "ed25519.org.sk")},
        )

    def check(self, **env: str) -> Result:
        return self.repo.safeai("check", "--agent", "claude-code", "--no-sign", "--no-replay", env=env)


@pytest.fixture
def acme(governed: Repo, tmp_path: Path) -> Organisation:
    governed.environment["XDG_STATE_HOME"] = str(tmp_path / "state")
    return Organisation(governed, tmp_path / "acme")


def test_the_organisations_policy_judges_beside_the_repositorys(acme: Organisation) -> None:
    done = acme.publish(1, "deny_paths: [src/vendor/]\n")
    assert done.code == 0, done.both
    acme.repo.write("src/vendor/a.py", "a")
    acme.repo.write("config/keys/b.pem", "b")
    acme.repo.git("add", "-A")
    done = acme.check()
    assert done.code == 1
    assert "policy: policy of acme, version 1, .safeai/policy.yaml at" in done.out
    assert "src/vendor/a.py [denied-path]" in done.out
    assert "config/keys/b.pem [denied-path]" in done.out
    shown = json.loads(acme.repo.safeai("policy", "show", "--format", "json").out)
    assert [one["source"].split(" at ")[0] for one in shown["layers"]] == [
        "policy of acme, version 1",
        ".safeai/policy.yaml",
    ]


def test_B05_the_repository_cannot_loosen_it(acme: Organisation) -> None:
    acme.publish(1, "autonomy_tier: frozen\n")
    acme.repo.commit("loosen", {".safeai/policy.yaml": "autonomy_tier: stable\nsafe_mode: false\n"})
    acme.repo.write("src/b.py", "b")
    acme.repo.git("add", "-A")
    done = acme.check()
    assert done.code == 1
    assert "[autonomy-tier]" in done.out


def test_a_policy_named_on_the_command_line_does_not_escape_it(acme: Organisation, tmp_path: Path) -> None:
    acme.publish(1, "deny_paths: [src/]\n")
    (tmp_path / "lax.yaml").write_text("safe_mode: false\n")
    acme.repo.write("src/b.py", "b")
    acme.repo.git("add", "-A")
    done = acme.repo.safeai("check", "--agent", "x", "--policy", str(tmp_path / "lax.yaml"), "--no-sign")
    assert done.code == 1


def test_B04_going_back_is_no_decision(acme: Organisation, tmp_path: Path) -> None:
    acme.publish(1)
    old = acme.file.read_bytes()
    acme.publish(2)
    assert acme.check().code == 0
    acme.file.write_bytes(old)
    done = acme.check()
    assert done.code == 3
    assert "version 2 was seen already" in done.err
    here = acme.repo.path / ".git" / "safeai" / "organisation"
    own = tmp_path / "state" / "safeai-git" / "organisation"
    assert [file.name for file in here.iterdir()] == [file.name for file in own.iterdir()]
    for file in here.iterdir():
        file.unlink()
    assert acme.check().code == 3  # the person has seen it too
    for file in own.iterdir():
        file.write_bytes(b"{")
    done = acme.check()
    assert done.code == 3
    assert "is damaged" in done.err
    acme.publish(2)
    assert acme.check().code == 3


def test_B04_an_expired_policy_is_no_decision(acme: Organisation) -> None:
    acme.publish(1)
    assert acme.check().code == 0
    key = load_signer(acme.folder / "ed25519.org.sk")
    past = int(time.time()) - 1
    acme.file.write_bytes(publish(TEXT, organisation="acme", version=2, expires=past, signer=key))
    done = acme.check()
    assert done.code == 3
    assert "has expired" in done.err


def test_a_policy_that_is_configured_is_never_passed_over(acme: Organisation) -> None:
    assert acme.check().code == 3  # nothing published yet
    acme.publish(1)
    assert acme.check().code == 0
    assert acme.check(SAFEAI_ORG_POLICY=str(acme.folder / "policy.yaml")).code == 3  # not signed
    assert acme.check(SAFEAI_ORG_SIGNERS="signers").code == 3  # not a whole path
    acme.repo.git("config", "--unset", "safeai.orgSigners")
    done = acme.check()
    assert done.code == 3
    assert "only half configured" in done.err
    assert acme.check(SAFEAI_ORG_SIGNERS=str(acme.signers)).code == 0
    acme.repo.git("config", "--unset", "safeai.orgPolicy")
    assert acme.check(SAFEAI_ORG_SIGNERS=str(acme.signers)).code == 3
    assert acme.check().code == 0  # not configured at all


def test_B05_the_clones_configuration_does_not_lead_away_from_the_organisations_policy(
    acme: Organisation, tmp_path: Path
) -> None:
    """Whoever writes .git/config names a policy and keys of their own; the person's and the system's files come first."""
    acme.publish(1, "deny_paths: [src/]\n")
    home = tmp_path / "elsewhere"
    for place, variable in ((home / ".gitconfig", "HOME"), (home / "system", "GIT_CONFIG_SYSTEM")):
        home.mkdir(exist_ok=True)
        place.write_text(f"[safeai]\n\torgPolicy = {acme.file}\n\torgSigners = {acme.signers}\n")
        for key in ("safeai.orgPolicy", "safeai.orgSigners"):
            acme.repo.git("config", key, "/nowhere")
        acme.repo.write("src/b.py", "b = 1\n")
        acme.repo.git("add", "-A")
        value = str(place if variable == "GIT_CONFIG_SYSTEM" else home)
        env = {variable: value, "GIT_CONFIG_NOSYSTEM": "0"}
        assert "denied-path" in acme.check(**env).out
        place.unlink()
    assert acme.check().code == 3


def test_without_a_home_the_clones_configuration_serves(acme: Organisation) -> None:
    acme.publish(1)
    acme.repo.environment.pop("HOME")
    assert acme.check(XDG_CONFIG_HOME="").code == 0


def test_signers_in_the_working_tree_are_refused(acme: Organisation) -> None:
    acme.publish(1)
    acme.repo.write(".safeai/org_signers", acme.signers.read_bytes())
    done = acme.check(SAFEAI_ORG_SIGNERS=str(acme.repo.path / ".safeai" / "org_signers"))
    assert done.code == 3
    assert "where a change could replace them" in done.err
    inside = acme.repo.path / ".git" / "signers"
    inside.write_bytes(acme.signers.read_bytes())
    assert acme.check(SAFEAI_ORG_SIGNERS=str(inside)).code == 0


def test_a_file_that_is_too_large_is_refused(acme: Organisation) -> None:
    acme.publish(1)
    acme.file.write_bytes(acme.file.read_bytes() + b"#" * 500_000)
    done = acme.check()
    assert done.code == 3
    assert "is larger than" in done.err


def test_without_a_state_folder_of_the_persons_own_the_repository_remembers(acme: Organisation) -> None:
    acme.publish(2)
    for name in ("XDG_STATE_HOME", "HOME"):
        acme.repo.environment.pop(name)
    assert acme.check().code == 0
    acme.publish(1)
    assert acme.check().code == 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--version", "0", "--expires", "2999-01-01", "--organisation", "acme"), "version is 1 to"),
        (("--version", "1", "--expires", "2001-01-01", "--organisation", "acme"), "in the past"),
        (("--version", "1", "--expires", "tomorrow", "--organisation", "acme"), "is not a time"),
        (("--version", "1", "--expires", "2999-01-01", "--organisation", "a\x1b"), "cannot be called"),
    ],
)
def test_publishing_what_makes_no_sense_is_wrong_use(
    acme: Organisation, flags: tuple[str, ...], message: str
) -> None:
    (acme.folder / "policy.yaml").write_bytes(TEXT)
    done = acme.repo.safeai("policy", "publish", str(acme.folder / "policy.yaml"), *flags)
    assert done.code == 2
    assert message in done.err
    assert not acme.file.exists()


def test_publishing_needs_a_valid_policy_and_a_key(acme: Organisation) -> None:
    assert acme.publish(1, "deny_path: [a/]\n").code == 3
    assert acme.publish(1, "rules: [{id: a, when: 'size(', outcome: deny, message: m}]\n").code == 3
    assert (
        acme.repo.safeai(
            "policy",
            "publish",
            str(acme.folder / "none"),
            "--version",
            "1",
            "--expires",
            "2999-01-01",
            "--organisation",
            "acme",
        ).code
        == 3
    )
    assert not acme.file.exists()
    output = acme.folder / "out"
    done = acme.repo.safeai(
        *("policy", "publish", str(acme.signers.with_name("policy.yaml")), "--version", "1"),
        *("--expires", "2999-01-01", "--organisation", "acme", "--output", str(output), "--format", "json"),
        env={"SAFEAI_KEY": str(acme.folder / "absent")},
    )
    assert done.code == 3
    (acme.folder / "policy.yaml").write_bytes(TEXT)
    done = acme.repo.safeai(
        *("policy", "publish", str(acme.folder / "policy.yaml"), "--version", "1"),
        *("--expires", "2999-01-01", "--organisation", "acme", "--output", str(output), "--format", "json"),
        env={"SAFEAI_KEY": str(acme.folder / "ed25519.org.sk")},
    )
    assert json.loads(done.out)["file"] == str(output)
    assert output.read_bytes().endswith(b"\n" + TEXT)


# What a new policy changes

NEW_POLICY = "autonomy_tier: stable\nallow_paths: [src/, tests/, .github/, .safeai/]\ndeny_paths: [config/keys/, vendor/]\n"


def test_policy_diff_tells_what_changes_and_which_way(governed: Repo, tmp_path: Path) -> None:
    done = governed.safeai("policy", "diff")
    assert (done.code, done.out.splitlines()[1:]) == (0, ["  no effective difference"])
    governed.write(".safeai/policy.yaml", NEW_POLICY)
    done = governed.safeai("policy", "diff")
    assert done.code == 0
    assert "  looser  autonomy_tier: from 'beta' to 'stable'" in done.out
    assert "  tighter deny_paths: 'vendor/' is added" in done.out
    assert "  either  repository:" in done.out
    governed.commit("new policy")
    back = governed.safeai("policy", "diff", "HEAD", "HEAD~1", "--format", "json")
    directions = {one["key"]: one["direction"] for one in json.loads(back.out)["changes"]}
    assert directions == {"autonomy_tier": "tighter", "deny_paths": "looser", "repository": "either"}
    (tmp_path / "plain.yaml").write_bytes(TEXT)
    (tmp_path / "signed").write_bytes(published(1))
    done = governed.safeai("policy", "diff", str(tmp_path / "plain.yaml"), str(tmp_path / "signed"))
    assert "no effective difference" in done.out
    (governed.path / ".safeai" / "policy.yaml").unlink()
    assert "to built-in default" in governed.safeai("policy", "diff").out
    assert governed.safeai("policy", "diff", "no-such-thing").code == 3
    governed.write(".safeai/policy.yaml", "deny_path: []\n")
    assert governed.safeai("policy", "diff").code == 3


def test_check_tells_what_a_change_of_policy_means(governed: Repo) -> None:
    governed.write(".safeai/policy.yaml", NEW_POLICY)
    governed.git("add", "-A")
    done = governed.safeai("check", "--no-sign")
    assert done.code == 1
    assert "policy.yaml changes:\n  looser  autonomy_tier: from 'beta' to 'stable'" in done.out
    for output_format in ("json", "jsonl"):
        out = governed.safeai("check", "--no-sign", "--format", output_format).out
        first = (
            json.loads(out)["judgements"][0] if output_format == "json" else json.loads(out.splitlines()[0])
        )
        changes = first["policy_change"]["changes"]
        assert {"key": "autonomy_tier", "text": "from 'beta' to 'stable'", "direction": "looser"} in changes
    governed.commit("new policy")
    governed.write("src/b.py", "b")
    governed.git("add", "-A")
    done = governed.safeai("check", "--no-sign", "--format", "json")
    assert "policy_change" not in json.loads(done.out)["judgements"][0]


def test_check_tells_when_a_new_policy_is_none(governed: Repo) -> None:
    for content in ("deny_path: []\n", "# " + "x" * 300_000):
        governed.write(".safeai/policy.yaml", content)
        governed.git("add", "-A")
        done = governed.safeai("check", "--no-sign")
        assert done.code == 1
        assert "what that means cannot be told: the policy as it would be" in done.out
    governed.git("rm", "-q", "--cached", ".safeai/policy.yaml")
    done = governed.safeai("check", "--no-sign")
    assert "policy.yaml changes:\n" in done.out
    assert "'config/keys/' is removed" in done.out
    (governed.path / ".safeai" / "policy.yaml").unlink()
    (governed.path / ".safeai" / "policy.yaml").symlink_to("/etc/hostname")
    governed.git("add", "-A")
    assert "is not a plain file" in governed.safeai("check", "--no-sign").out
