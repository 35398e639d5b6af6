"""The log's key is exchanged, as docs/deploy/runbooks.md has it, under clients that remember the old one."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest
from test_push import governed, log_key, logged, named, registered, waiting
from tools_cli import PATIENCE
from tools_governor import SAFEAI, SECRET, Governor
from tools_log import LOG_KEY, LOG_SIGNER, ORIGIN, OTHER_SIGNER, WITNESS_KEY
from tools_postgres import Cluster, cluster

from safeai_git.audit import verify_file
from safeai_git.core.errors import LogProofInvalid, WrongUse
from safeai_git.core.log.entry import Draft
from safeai_git.core.log.note import ED25519, Note, NoteKey
from safeai_git.core.publickey import parse_openssh
from safeai_git.governor.doctor.report import exit_code
from safeai_git.governor.doctor.run import doctor
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.open_log import open_file_log, start_log
from safeai_git.governor.settings import read_settings
from safeai_git.governor.stores.memory import MemoryStore

__all__ = ["cluster"]

NEXT_KEY = NoteKey(ORIGIN, ED25519, OTHER_SIGNER.public.raw)


def refused(governor: Governor, **settings: str) -> str:
    """What a Governor says that does not start."""
    done = subprocess.run(
        [*SAFEAI, "serve"], env=governor.environment | settings, capture_output=True, timeout=PATIENCE
    )
    assert done.returncode in (2, 3), done
    return done.stderr.decode()


def test_a_governor_goes_on_with_another_key(tmp_path: Path, environment: dict[str, str]) -> None:
    governor = Governor(tmp_path / "g", SAFEAI_LOG_ORIGIN=ORIGIN)
    with governor:
        repo = registered(governed(tmp_path / "repo", environment, governor.url), governor)
        old = log_key(governor)
        governor.settings["SAFEAI_PORT"] = str(governor.port)  # which the policy names

        def commit(number: int, key: str) -> str:
            repo.write(f"src/f{number}.py", f"x = {number}\n")
            repo.git("add", "-A")
            done = subprocess.run(
                ["git", "commit", "-q", "-m", "change\n\nCo-Authored-By: Claude <noreply@anthropic.com>\n"],
                cwd=repo.path, env=repo.environment | named(repo, governor) | {"SAFEAI_GOVERNOR_KEY": key},
                capture_output=True, timeout=PATIENCE,
            )  # fmt: skip
            return done.stderr.decode()

        said = commit(1, old)
        assert (waiting(repo), len(logged(governor))) == (0, 1), said
        assert governor.stop() == 0
    subprocess.run(
        [*SAFEAI, "keys", "generate", "--key-id", "next"],
        env=governor.environment, check=True, capture_output=True, timeout=PATIENCE,
    )  # fmt: skip
    before = (tmp_path / "g/audit.log").read_bytes()
    with_next = {"SAFEAI_KEY_ID": "next"}
    assert "name that in SAFEAI_LOG_KEYS" in refused(governor, **with_next)
    assert "is none of the log" in refused(governor, **with_next, SAFEAI_LOG_KEYS=WITNESS_KEY.format())
    assert "SAFEAI_LOG_KEYS cannot be" in refused(governor, SAFEAI_LOG_KEYS="nothing")
    assert (tmp_path / "g/audit.log").read_bytes() == before

    (told,) = [
        one.detail
        for one in doctor(governor.environment | with_next, now=time.time())
        if one.what == "verifier key"
    ]

    governor.settings |= with_next | {"SAFEAI_LOG_KEYS": old}
    with governor:
        (line,) = [one for one in governor.lines if one.get("event") == "serving"][-1:]
        new = line["verifier"]
        assert new == told != old
        said = commit(2, f"{old} {new}")
        assert (waiting(repo), len(logged(governor))) == (0, 2), said
        said = commit(3, new)  # what it remembers is signed with the new one by now
        assert (waiting(repo), len(logged(governor))) == (0, 3), said
        assert "kill-switch" in commit(4, old)  # its lease is signed with the new one
        former = parse_openssh((tmp_path / "g/keys/ed25519.default.pub").read_bytes().strip())[0]
        revocation = {"action": "revoke", "key": former.key_id, "reason": "exchanged"}
        assert governor.ask("POST", "/v1/keys", revocation).status == 201
        governor.stop(9)
    environ = governor.environment | {"SAFEAI_PORT": "1", "SAFEAI_JWT_SECRET": SECRET}
    found = doctor(environ, now=time.time())
    assert exit_code(found) == 0, found
    with governor:
        said = commit(5, new)
        assert (waiting(repo), len(logged(governor))) == (0, 4), said
        assert governor.stop() == 0
    assert governor.audit().returncode == 0
    report = verify_file(tmp_path / "g/audit.log", keys=[NoteKey.parse(old), NoteKey.parse(new)])
    assert report.state == "consistent"
    assert verify_file(tmp_path / "g/audit.log", keys=[NoteKey.parse(old)]).state == "tampered"


def test_both_stores_believe_a_former_key_only_where_it_is_named(tmp_path: Path) -> None:
    log = open_file_log(tmp_path, LogSigner(ORIGIN, [LOG_SIGNER]), reserve=0)
    log.append(Draft.of_data("policy", "one", {}))
    log.close()
    with pytest.raises(LogProofInvalid, match=r"audit\.head is no checkpoint"):
        open_file_log(tmp_path, LogSigner(ORIGIN, [OTHER_SIGNER]), reserve=0)
    log = open_file_log(tmp_path, LogSigner(ORIGIN, [OTHER_SIGNER], [LOG_KEY]), reserve=0)
    log.append(Draft.of_data("policy", "two", {}))
    log.close()
    assert verify_file(tmp_path / "audit.log", keys=[LOG_KEY, NEXT_KEY]).size == 3
    (newest,) = Note.parse((tmp_path / "audit.head").read_bytes()).signatures
    assert newest.key_id == NEXT_KEY.id
    made = LogSigner(ORIGIN, [OTHER_SIGNER], [LOG_KEY, NEXT_KEY])
    assert (made.signing, made.keys) == ((NEXT_KEY,), (NEXT_KEY, LOG_KEY))
    with pytest.raises(WrongUse, match="is none of the log"):
        LogSigner("another.example/log", [LOG_SIGNER], [LOG_KEY])

    store = MemoryStore()
    start_log(store, LogSigner(ORIGIN, [LOG_SIGNER])).append(Draft.of_data("policy", "one", {}))
    with pytest.raises(LogProofInvalid, match="not signed by a key of that log"):
        start_log(store, LogSigner(ORIGIN, [OTHER_SIGNER]))
    start_log(store, LogSigner(ORIGIN, [OTHER_SIGNER], [LOG_KEY])).append(Draft.of_data("policy", "two", {}))
    assert store.size == 3


def bounded(key: NoteKey, size: int) -> NoteKey:
    return NoteKey.bounded(f"{key.format()}@{size}")


def grow(folder: Path, name: str, signer: LogSigner) -> int:
    folder.mkdir(exist_ok=True)
    log = open_file_log(folder, signer, reserve=0)
    log.append(Draft.of_data("policy", name, {}))
    size = log.store.size
    log.close()
    return size


def test_whoever_stole_a_former_key_goes_on_with_no_log(tmp_path: Path) -> None:
    """He can write into the data folder too: more entries, or a log that goes on from where it was the key."""
    ours = tmp_path / "ours"
    short = grow(ours, "one", LogSigner(ORIGIN, [LOG_SIGNER]))
    early = tmp_path / "early"
    shutil.copytree(ours, early)
    size = grow(ours, "two", LogSigner(ORIGIN, [OTHER_SIGNER], [LOG_KEY]))
    thief = LogSigner(ORIGIN, [LOG_SIGNER], [NEXT_KEY])

    def refused_as(folder: Path, why: str, key: NoteKey) -> None:
        before = {one.name: one.read_bytes() for one in folder.iterdir()}
        with pytest.raises(LogProofInvalid, match=why):
            open_file_log(folder, LogSigner(ORIGIN, [OTHER_SIGNER], [key]), reserve=0)
        assert {one.name: one.read_bytes() for one in folder.iterdir()} == before

    longer = tmp_path / "longer"
    shutil.copytree(ours, longer)
    grow(longer, "forged", thief)
    refused_as(longer, r"the former key .* counts up to size", bounded(LOG_KEY, size))
    (longer / "audit.head").unlink()
    refused_as(longer, "signed with another key", bounded(LOG_KEY, size))
    keys = [bounded(LOG_KEY, size), NEXT_KEY]
    assert verify_file(longer / "audit.log", keys=keys).state == "tampered"
    assert verify_file(ours / "audit.log", keys=keys).state == "consistent"
    refused_as(early, f"holds {short} entries, and had {size}", bounded(LOG_KEY, size))
    # A number that is too small cuts nothing off; one that is right changes nothing.
    refused_as(ours, "signed with another key", bounded(LOG_KEY, short - 1))
    for number in range(3):
        grow(ours, f"more-{number}", LogSigner(ORIGIN, [OTHER_SIGNER], [bounded(LOG_KEY, size)]))
    assert open_file_log(longer, LogSigner(ORIGIN, [OTHER_SIGNER], [LOG_KEY])).close() is None, (
        "what it is for"
    )

    store = MemoryStore()
    start_log(store, LogSigner(ORIGIN, [LOG_SIGNER])).append(Draft.of_data("policy", "one", {}))
    with pytest.raises(LogProofInvalid, match=r"the former key .* counts up to size 1"):
        start_log(store, LogSigner(ORIGIN, [OTHER_SIGNER], [bounded(LOG_KEY, 1)]))
    with pytest.raises(LogProofInvalid, match="holds 2 entries, and had 3"):
        start_log(store, LogSigner(ORIGIN, [OTHER_SIGNER], [bounded(LOG_KEY, 3)]))
    start_log(store, LogSigner(ORIGIN, [OTHER_SIGNER], [bounded(LOG_KEY, 2)]))


def test_a_log_in_postgresql_goes_on_with_another_key(cluster: Cluster) -> None:
    from safeai_git.governor.stores.postgres import PostgresStore

    origin = f"{ORIGIN}/rotation"
    former = NoteKey(origin, ED25519, LOG_SIGNER.public.raw)
    start_log(PostgresStore(cluster.url, origin), LogSigner(origin, [LOG_SIGNER])).close()
    with pytest.raises(LogProofInvalid, match="not signed by a key of that log"):
        start_log(PostgresStore(cluster.url, origin), LogSigner(origin, [OTHER_SIGNER]))
    log = start_log(PostgresStore(cluster.url, origin), LogSigner(origin, [OTHER_SIGNER], [former]))
    log.append(Draft.of_data("policy", "two", {}))
    log.close()
    start_log(PostgresStore(cluster.url, origin), LogSigner(origin, [OTHER_SIGNER])).close()


def test_the_setting() -> None:
    text = f" {LOG_KEY.format()}\n{NEXT_KEY.format()} "
    assert read_settings({"SAFEAI_LOG_KEYS": text}).log_keys == (LOG_KEY, NEXT_KEY)
    assert read_settings({"SAFEAI_LOG_KEYS": f"{LOG_KEY.format()}@5"}).log_keys == (bounded(LOG_KEY, 5),)
    with pytest.raises(WrongUse, match="SAFEAI_LOG_KEYS cannot be"):
        read_settings({"SAFEAI_LOG_KEYS": LOG_KEY.format()[:-3]})
