"""The log in PostgreSQL: three Governors on one database, killed, paused and cut off; and a database that was changed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_log_crash import Children, Run, draft
from tools_cli import PATIENCE, run
from tools_log import LOG_KEY, LOG_SIGNER, ORIGIN
from tools_postgres import Cluster, cluster  # noqa: F401 - a fixture

from safeai_git.audit import Anchor, Report, verify_file
from safeai_git.core.errors import StorageError
from safeai_git.core.log.entry import Entry
from safeai_git.core.log.merkle import leaf_hash
from safeai_git.core.log.proof import verify_proof
from safeai_git.governor.audit_log import Receipt
from safeai_git.governor.log_signer import LogSigner
from safeai_git.governor.open_log import start_log
from safeai_git.governor.stores.file import FileStore, Identity
from safeai_git.governor.stores.port import LogAway, LogFailed, Placed
from safeai_git.keys.ed25519 import verify

psycopg = pytest.importorskip("psycopg", reason="psycopg is needed to speak to PostgreSQL")
from safeai_git.governor.stores.postgres import PostgresStore  # noqa: E402
from safeai_git.governor.stores.postgres_copy import export_log, import_log  # noqa: E402
from safeai_git.governor.stores.postgres_schema import MIGRATIONS, upgrade  # noqa: E402

ROOT = Path(__file__).parent.parent
SIGNER = LogSigner(ORIGIN, [LOG_SIGNER])
NOW = 1_767_323_045_678


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def exported(store: PostgresStore, path: Path, *anchors: Anchor) -> Report:
    path.write_bytes(b"".join(line + b"\n" for line in store.lines()))
    return verify_file(path, keys=[LOG_KEY], anchors=anchors)


def test_the_database_holds_the_same_bytes_as_the_file(cluster: Cluster, tmp_path: Path) -> None:  # noqa: F811
    store = PostgresStore(cluster.url, "same bytes")
    (tmp_path / "file").mkdir()
    file = FileStore.open_folder(tmp_path / "file", Identity(ORIGIN, (LOG_KEY,), verify), reserve=0)
    for at in range(0, 60, 7):
        drafts = [draft(number) for number in range(at, at + 7)]
        one, two = store.append(drafts, NOW + at), file.append(drafts, NOW + at)
        assert (one.lines, one.root, one.outcomes) == (two.lines, two.root, two.outcomes)
        for each in (store, file):
            each.publish(SIGNER.sign(one.size, one.root), one.size)
    file.close()
    report = exported(store, tmp_path / "exported")
    assert (report.state, report.size) == ("consistent", 63)
    assert (tmp_path / "exported").read_bytes() == (tmp_path / "file" / "audit.log").read_bytes()
    store.close()


def test_migrations_run_twice_at_once(cluster: Cluster) -> None:  # noqa: F811
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE twice")
    url = cluster.url.replace("/postgres?", "/twice?")
    with pytest.raises(StorageError, match="no tables of the log") as caught:
        PostgresStore(url, ORIGIN)
    assert "safeai db upgrade" in caught.value.hint
    done: list[int] = []
    threads = [threading.Thread(target=lambda: done.append(upgrade(url))) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(done) == [0, 0, 0, len(MIGRATIONS)]
    PostgresStore(url, ORIGIN).close()


def test_the_command_makes_the_tables(cluster: Cluster, environment: dict[str, str]) -> None:  # noqa: F811
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE command")
    variables = environment | {"SAFEAI_DATABASE_URL": cluster.url.replace("/postgres?", "/command?")}
    program = [sys.executable, "-c", "from safeai_git.admin import main; main()"]
    first = run(["db", "upgrade"], ROOT, variables, program=program)
    assert (first.code, first.out) == (0, f"{len(MIGRATIONS)} migrations were run\n"), first.both
    assert run(["db", "upgrade"], ROOT, variables, program=program).out == "nothing was to be done\n"
    wrong = run(
        ["db", "upgrade", "--url", "postgresql:///none?host=/nowhere"], ROOT, environment, program=program
    )
    assert wrong.code == 3
    assert "safeai: the database could not be brought up to date: " in wrong.err


def test_a_database_that_would_lose_entries_is_refused(cluster: Cluster) -> None:  # noqa: F811
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        try:
            connection.execute("ALTER SYSTEM SET full_page_writes = off")
            connection.execute("SELECT pg_reload_conf()")
            refused = False
            for _ in range(1000):
                try:
                    PostgresStore(cluster.url, "refused").close()
                except StorageError as error:
                    refused = "full_page_writes off" in error.message
                    break
            assert refused
        finally:
            connection.execute("ALTER SYSTEM RESET full_page_writes")
            connection.execute("SELECT pg_reload_conf()")


def opened(url: str, log_id: str) -> PostgresStore:
    return PostgresStore(url, log_id, patience=30)


def test_governors_that_share_a_log_see_each_others_entries(cluster: Cluster, tmp_path: Path) -> None:  # noqa: F811
    logs = [start_log(opened(cluster.url, "shared"), SIGNER) for _ in range(3)]
    for number in range(30):
        receipt = logs[number % 3].append(draft(number))
        assert isinstance(receipt, Receipt)
        assert receipt.index == number + 1, "one began the log, and the others found it begun"
        verify_proof(receipt.proof(), leaf_hash(receipt.line), ORIGIN, [LOG_KEY], verify)
        again = logs[(number + 1) % 3].append(draft(number))
        assert isinstance(again, Receipt)
        assert (again.index, again.line, again.repeated) == (receipt.index, receipt.line, True)
        verify_proof(again.proof(), leaf_hash(again.line), ORIGIN, [LOG_KEY], verify)
    for log in logs:
        log.close()
    store = opened(cluster.url, "shared")
    assert exported(store, tmp_path / "shared").state == "consistent"
    store.close()


def paused_in_a_transaction(cluster: Cluster, pid: int) -> bool:  # noqa: F811
    """Stop a process at a moment at which it has the log's row locked."""
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        for _ in range(2000):
            os.kill(pid, signal.SIGSTOP)
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND state = 'idle in transaction' "
                "AND query LIKE '%%audit%%' AND query NOT LIKE 'SELECT size%%'",
                (f"safeai {pid}",),
            ).fetchone()
            if row is not None and row[0]:
                return True
            os.kill(pid, signal.SIGCONT)
    return False


def test_three_governors_one_killed_one_paused_and_the_database_restarted(
    cluster: Cluster,  # noqa: F811
    tmp_path: Path,
) -> None:
    log_id = "three"
    governors = [Children() for _ in range(3)]
    runs = [Run() for _ in governors]
    start_log(opened(cluster.url, log_id), SIGNER).close()
    pids = [one.start("load", f"{cluster.url}|{log_id}", 1_000_000 * at) for at, one in enumerate(governors)]

    def answers(at: int, count: int) -> None:
        end = len(runs[at].acks) + count
        while len(runs[at].acks) < end:
            assert governors[at].read(runs[at]), runs[at].words

    for one in governors:
        one.go()
    for at in range(3):
        answers(at, 20)
    assert paused_in_a_transaction(cluster, pids[1])
    answers(0, 220)  # more than the pipe can have held: they were made while the other was paused
    os.kill(pids[2], signal.SIGKILL)
    os.kill(pids[1], signal.SIGCONT)
    answers(1, 220)
    cluster.stop(signal.SIGQUIT)
    cluster.start()
    answers(0, 220)
    answers(1, 220)
    for at in range(2):
        os.kill(pids[at], signal.SIGKILL)
    for at in range(3):
        while governors[at].read(runs[at]):
            pass
        assert not runs[at].words, runs[at].words
        assert runs[at].code == -9
        governors[at].stdin.close()
        assert governors[at].process.wait(60) == 0
        governors[at].stdout.close()
    store = opened(cluster.url, log_id)
    found = [Entry.parse(line) for line in store.lines() if line.startswith(b'{"seq"')]
    ids = [one.id for one in found]
    assert len(ids) == len(set(ids))
    for each in runs:
        for number, (index, _) in each.acks.items():
            assert found[index].rest == draft(number).rest
    anchors = [
        Anchor(f"ack {number}", note) for each in runs for number, (_, note) in list(each.acks.items())[-20:]
    ]
    report = exported(store, tmp_path / "three", *anchors)
    assert report.state in ("consistent", "torn"), report.faults  # the last batch may lack its checkpoint
    assert len(report.anchors) == len(anchors)
    store.close()


def test_a_database_that_was_set_back_is_noticed(cluster: Cluster) -> None:  # noqa: F811
    log_id = "set back"
    store = opened(cluster.url, log_id)
    first = store.append([draft(1)], NOW)
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        row = connection.execute("SELECT * FROM audit_head WHERE log_id = %s", (log_id,)).fetchone()
        assert row is not None
        store.append([draft(2)], NOW)
        connection.execute("DELETE FROM audit_head WHERE log_id = %s", (log_id,))
        connection.execute("INSERT INTO audit_head VALUES (%s, %s, %s, %s, %s, %s, %s)", row)
    with pytest.raises(LogFailed, match="was rolled back or changed"):
        store.append([draft(3)], NOW)
    with pytest.raises(LogFailed):
        store.append([draft(3)], NOW)
    assert first.size == 1
    store.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "UPDATE audit_entry SET leaf = sha256('x') WHERE log_id = %s AND idx = 1",
            "do not lead to the root",
        ),
        ("DELETE FROM audit_entry WHERE log_id = %s AND idx = 1", "entry 1 is gone"),
        ("DELETE FROM audit_entry WHERE log_id = %s AND idx = 2", "entry 2 is gone"),
        ("UPDATE audit_head SET root = sha256('x') WHERE log_id = %s", "do not lead to the root"),
    ],
)
def test_a_database_that_was_changed_is_not_opened(cluster: Cluster, change: str, message: str) -> None:  # noqa: F811
    log_id = change
    store = opened(cluster.url, log_id)
    store.append([draft(number) for number in range(3)], NOW)
    store.close()
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute(change, (log_id,))
    with pytest.raises(LogFailed, match=message):
        opened(cluster.url, log_id)


def test_a_database_that_keeps_something_else_takes_nothing(cluster: Cluster) -> None:  # noqa: F811
    store = opened(cluster.url, "changed on the way")
    store.append([draft(1)], NOW)
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.leaf = sha256('x'); RETURN NEW; END $$"
        )
        connection.execute(
            "CREATE TRIGGER other BEFORE INSERT ON audit_entry FOR EACH ROW "
            "WHEN (NEW.log_id = 'changed on the way') EXECUTE FUNCTION other()"
        )
        try:
            with pytest.raises(LogFailed, match="does not keep what it is given"):
                store.append([draft(2)], NOW)
        finally:
            connection.execute("DROP TRIGGER other ON audit_entry")
            connection.execute("DROP FUNCTION other")
    again = opened(cluster.url, "changed on the way")
    assert again.size == 1
    again.close()
    with pytest.raises(LogFailed):
        store.append([draft(2)], NOW)
    store.close()


def test_only_a_checkpoint_may_wait_for_the_next_sync(cluster: Cluster) -> None:  # noqa: F811
    store = opened(cluster.url, "what waits")
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION said() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "INSERT INTO how VALUES (TG_TABLE_NAME, current_setting('synchronous_commit')); RETURN NULL; END $$"
        )
        connection.execute("CREATE TABLE how (name text, setting text)")
        for name in ("audit_entry", "audit_head", "audit_checkpoint"):
            connection.execute(
                f"CREATE CONSTRAINT TRIGGER said AFTER INSERT OR UPDATE ON {name} DEFERRABLE INITIALLY DEFERRED "
                "FOR EACH ROW WHEN (NEW.log_id = 'what waits') EXECUTE FUNCTION said()"
            )
        try:
            for number in (1, 2):
                made = store.append([draft(number)], NOW)
                store.publish(SIGNER.sign(made.size, made.root), made.size)
            found = set(connection.execute("SELECT * FROM how").fetchall())
        finally:
            for name in ("audit_entry", "audit_head", "audit_checkpoint"):
                connection.execute(f"DROP TRIGGER said ON {name}")
            connection.execute("DROP TABLE how")
            connection.execute("DROP FUNCTION said")
    assert found == {("audit_entry", "on"), ("audit_head", "on"), ("audit_checkpoint", "off")}
    store.close()


def test_a_young_table_is_not_read_whole_for_each_batch(cluster: Cluster) -> None:  # noqa: F811
    """A server counts a table after a while (ANALYZE); until then it guesses which way is short."""
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE young")
    url = cluster.url.replace("/postgres?", "/young?")
    upgrade(url)
    with psycopg.connect(url, autocommit=True) as connection:
        for name in ("audit_idem", "audit_entry"):
            connection.execute(f"ALTER TABLE {name} SET (autovacuum_enabled = false)")

    def read() -> int:
        """Rows that were fetched by way of any index, and by reading whole tables; each connection tells as it ends."""
        with psycopg.connect(url, autocommit=True) as connection:
            others = "SELECT 1 FROM pg_stat_activity WHERE datname = 'young' AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
            until(lambda: connection.execute(others).fetchone() is None)
            (found,) = connection.execute(
                "SELECT sum(coalesce(idx_tup_fetch, 0) + seq_tup_read) FROM pg_stat_user_tables "
                "WHERE relname IN ('audit_idem', 'audit_entry')"
            ).fetchone() or (0,)
        return int(found)

    store = opened(url, "young")
    store.append([draft(number) for number in range(4_000)], NOW)
    store.close()
    begun = read()
    store = opened(url, "young")  # which reads all leaves once
    known = store.append([draft(number) for number in (7, 4_000, 4_001)], NOW)
    assert [placed.repeated for placed in known.outcomes if isinstance(placed, Placed)] == [
        True,
        False,
        False,
    ]
    store.append([draft(number) for number in range(4_002, 4_066)], NOW)
    store.close()
    assert 4_000 <= read() - begun < 4_000 + 200


def test_an_id_without_its_entry_ends_the_log(cluster: Cluster) -> None:  # noqa: F811
    store = opened(cluster.url, "half gone")
    store.append([draft(number) for number in range(3)], NOW)
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        connection.execute("DELETE FROM audit_entry WHERE log_id = 'half gone' AND idx = 1")
    with pytest.raises(LogFailed, match="an entry is gone from the database, and its id is still there"):
        store.append([draft(1)], NOW)
    store.close()


def test_a_database_that_is_gone_is_said_to_be(cluster: Cluster) -> None:  # noqa: F811
    store = PostgresStore(cluster.url, "gone", patience=0.2)
    cluster.stop()
    with pytest.raises(LogAway, match="does not answer"):
        store.append([draft(1)], NOW)
    cluster.start()
    assert store.append([draft(1)], NOW).size == 1
    store.close()


def test_an_address_that_is_none_is_not_repeated(tmp_path: Path) -> None:
    url = "postgre://user:hidden@host/database"
    for ask in (
        lambda: PostgresStore(url, "x"),
        lambda: upgrade(url),
        lambda: export_log(url, "x", tmp_path / "out", []),
        lambda: import_log(url, tmp_path / "missing", []),
    ):
        with pytest.raises(StorageError, match="is no address of a database") as refused:
            ask()
        assert "hidden" not in refused.value.message + refused.value.hint
