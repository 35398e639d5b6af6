"""A log from its file into PostgreSQL and back: the same bytes, all of them or none."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import Result
from tools_cli import run
from tools_log import LOG_SIGNER, ORIGIN
from tools_postgres import Cluster, cluster  # noqa: F401 - a fixture
from tools_state import SIGNER, Clock, in_database, parts

from safeai_git.audit import verify_file
from safeai_git.core.kill_switch import Scope
from safeai_git.core.log.entry import Draft
from safeai_git.core.publickey import format_openssh
from safeai_git.governor.open_log import open_file_log

psycopg = pytest.importorskip("psycopg", reason="psycopg is needed to speak to PostgreSQL")
from safeai_git.governor.stores.postgres_schema import upgrade  # noqa: E402

ROOT = Path(__file__).parent.parent
PROGRAM = [sys.executable, "-c", "from safeai_git.admin import main; main()"]


@pytest.fixture(scope="module")
def database(cluster: Cluster) -> str:  # noqa: F811
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE import")
    made = cluster.url.replace("/postgres?", "/import?")
    upgrade(made)
    return made


@pytest.fixture
def url(database: str) -> str:
    """A database in which no log is."""
    with psycopg.connect(database) as connection:
        connection.execute("TRUNCATE audit_head, audit_entry, audit_idem, audit_checkpoint")
    return database


def a_log(folder: Path, count: int) -> Path:
    """A log with some history: batches, a kill switch, and its key beside it."""
    (folder / "keys").mkdir(parents=True)
    (folder / "keys" / "ed25519.default.pub").write_bytes(format_openssh(LOG_SIGNER.public) + b"\n")
    with parts(folder) as governor:
        governor.switches.engage(Scope("global"), reason="a leak", by="maria")
        for at in range(0, count, 700):
            drafts = [
                Draft.of_data("verdict", f"v-{number}", {"n": number})
                for number in range(at, min(count, at + 700))
            ]
            governor.log.submit(drafts).wait()
    return folder / "audit.log"


def safeai(environment: Mapping[str, str], *arguments: str) -> Result:
    return run(list(arguments), ROOT, environment, program=PROGRAM)


def entries_in(url: str) -> int:
    with psycopg.connect(url) as connection:
        return sum(
            connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()[0]  # type: ignore[index]
            for table in ("audit_entry", "audit_idem", "audit_checkpoint", "audit_head")
        )


def test_there_and_back_again(url: str, tmp_path: Path, environment: dict[str, str]) -> None:
    log = a_log(tmp_path / "data", 2_500)
    variables = environment | {"SAFEAI_DATABASE_URL": url}
    done = safeai(variables, "audit", "import", "--data-dir", str(tmp_path / "data"))
    assert done.code == 0, done.both
    assert done.out == f"2,502 entries went in; start the Governor with SAFEAI_LOG_ORIGIN={ORIGIN}\n"
    back = safeai(environment, "audit", "export", "--url", url, "--to", str(tmp_path / "back.log"))
    assert back.code == 0, back.both
    assert (tmp_path / "back.log").read_bytes() == log.read_bytes()

    clock = Clock()
    clock.now += 10
    with parts(in_database(url, ORIGIN, clock), clock) as governor:
        assert governor.switches.active, "what the entries say holds here too"
        governor.switches.release(Scope("global"), reason="mended", by="anna")
        again = governor.log.append(Draft.of_data("verdict", "v-7", {"n": 7}))
        assert again.repeated  # type: ignore[union-attr]
    out = safeai(
        environment, "audit", "export", "--url", url, "--origin", ORIGIN, "--to", str(tmp_path / "more.log")
    )
    assert out.code == 0, out.both
    more = (tmp_path / "more.log").read_bytes()
    assert more.startswith(log.read_bytes())
    assert verify_file(tmp_path / "more.log", keys=[LOG_SIGNER.public]).size == 2_503

    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "audit.log").write_bytes(more)
    file = open_file_log(tmp_path / "again", SIGNER, reserve=0)
    assert file.store.size == 2_503
    file.close()


def test_a_second_import_and_one_into_a_log_that_is_used_are_refused(
    url: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    log = a_log(tmp_path / "data", 10)
    arguments = (
        "audit",
        "import",
        str(log),
        "--url",
        url,
        "--key",
        str(tmp_path / "data/keys/ed25519.default.pub"),
    )
    assert safeai(environment, *arguments).code == 0
    before = entries_in(url)
    again = safeai(environment, *arguments)
    assert (again.code, entries_in(url)) == (2, before)
    assert "holds 12 entries of the log" in again.err


@pytest.mark.parametrize("how", ["byte", "torn", "swapped", "no key", "another key", "no tables"])
def test_what_is_not_in_order_does_not_go_in(
    url: str, tmp_path: Path, environment: dict[str, str], how: str
) -> None:
    log = a_log(tmp_path / "data", 2_000)
    lines = log.read_bytes().splitlines(keepends=True)
    wanted = 3
    if how == "byte":
        log.write_bytes(b"".join([*lines[:-3], lines[-3].replace(b'{"n":', b'{"m":'), *lines[-2:]]))
    elif how == "torn":
        log.write_bytes(b"".join(lines)[:-40])
    elif how == "swapped":
        log.write_bytes(b"".join([*lines[:5], lines[6], lines[5], *lines[7:]]))
    elif how == "no key":
        (tmp_path / "data" / "keys" / "ed25519.default.pub").unlink()
        wanted = 2
    elif how == "another key":
        from tools_log import OTHER_SIGNER

        key = tmp_path / "data" / "keys" / "ed25519.default.pub"
        key.write_bytes(format_openssh(OTHER_SIGNER.public) + b"\n")
    else:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER TABLE audit_idem RENAME TO away")
    done = safeai(environment, "audit", "import", str(log), "--url", url)
    if how == "no tables":
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ALTER TABLE away RENAME TO audit_idem")
        assert "safeai db upgrade" in done.err
    assert done.code == wanted, done.both
    assert "Traceback" not in done.err
    assert entries_in(url) == 0


def test_a_database_without_the_log_and_a_file_that_is_there_are_named(
    url: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    nothing = safeai(environment, "audit", "export", "--url", url, "--to", str(tmp_path / "x"))
    assert (nothing.code, "the database holds 0 logs" in nothing.err) == (2, True), nothing.both
    a_log(tmp_path / "data", 5)
    assert (
        safeai(environment, "audit", "import", "--url", url, "--data-dir", str(tmp_path / "data")).code == 0
    )
    (tmp_path / "there").write_text("mine")
    kept = safeai(environment, "audit", "export", "--url", url, "--to", str(tmp_path / "there"))
    assert (kept.code, (tmp_path / "there").read_text()) == (2, "mine")
    other = safeai(environment, "audit", "export", "--url", url, "--origin", "x", "--to", str(tmp_path / "y"))
    assert (other.code, ORIGIN in other.err) == (2, True), other.both
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE audit_entry SET body = body || ' ' WHERE idx = 3")
    changed = safeai(environment, "audit", "export", "--url", url, "--to", str(tmp_path / "changed"))
    assert changed.code == 3, changed.both
    assert sorted(one.name for one in tmp_path.iterdir() if one.is_file()) == ["there"]
