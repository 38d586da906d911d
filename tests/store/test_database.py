"""Transactions: what is acknowledged is there, what failed left nothing."""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import AdaptedConnection, Connection
from sqlalchemy.engine import make_url

from assistants_server import errors
from assistants_server.domain.drafts import ThreadDraft
from assistants_server.domain.records import Page, Thread
from assistants_server.store import model_names, rows, runs, schema, sqlite, threads
from assistants_server.store.database import Database, DatabaseError


async def test_a_failing_transaction_does_not_undo_its_neighbours(database: Database) -> None:
    def fail(connection: Connection) -> None:
        threads.create(connection, "default", ThreadDraft(metadata={"of": "the failed"}), now=1)
        raise errors.no_thread("thread_x")

    async def create(number: int) -> None:
        draft = ThreadDraft(metadata={"number": str(number)})
        await database.write(threads.create, "default", draft, now=1)

    outcomes = await asyncio.gather(
        *(database.write(fail) if n % 3 == 0 else create(n) for n in range(30)),
        return_exceptions=True,
    )
    assert [isinstance(outcome, errors.NotFound) for outcome in outcomes] == [
        n % 3 == 0 for n in range(30)
    ]
    listing = await database.read(threads.list_page, "default", Page(limit=100), metadata={})
    assert sorted(int(thread.metadata["number"]) for thread in listing.items) == [
        n for n in range(30) if n % 3
    ]


async def test_what_was_written_is_read_at_once(database: Database) -> None:
    for _ in range(20):
        thread = await database.write(threads.create, "default", ThreadDraft(), now=1)
        assert await database.read(threads.get, "default", thread.id) == thread


async def test_migrations_make_the_tables_that_the_code_uses(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), rows.metadata))

    assert await database.read(differences) == []


def test_the_migrations_are_the_revisions_that_a_start_knows() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    scripts = ScriptDirectory.from_config(config)
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert revisions[::-1] == list(schema.REVISIONS)
    assert scripts.get_current_head() == schema.HEAD


def of_a_newer_version(connection: Connection) -> None:
    connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))


async def test_a_database_of_a_newer_version_is_refused_in_a_sentence(database_url: str) -> None:
    database = await Database.open(database_url)
    await database.write(of_a_newer_version)
    with pytest.raises(DatabaseError, match="at revision 9999, of a newer assistants-server"):
        await Database.open(database_url)
    assert await database.read(schema.current) == "9999"
    await database.close()


async def test_an_older_database_is_brought_up_to_date(database_url: str) -> None:
    database = await Database.open(database_url)
    thread = await database.write(threads.create, "default", ThreadDraft(), now=1)

    def back_to_the_first(connection: Connection) -> None:
        connection.execute(sa.text("ALTER TABLE runs DROP COLUMN taken_over"))
        connection.execute(sa.text("DROP TABLE model_names"))
        for table in ("messages", "runs"):
            connection.execute(sa.text(f"DROP INDEX ix_{table}_thread_id_created_at_seq"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0001'"))

    await database.write(back_to_the_first)
    await database.close()
    database = await Database.open(database_url)
    assert await database.read(schema.current) == schema.HEAD
    assert await database.read(threads.get, "default", thread.id) == thread
    assert await database.read(model_names.read) == {}
    await database.close()


async def test_opening_twice_keeps_what_is_there(database_url: str) -> None:
    first = await Database.open(database_url)
    thread = await first.write(threads.create, "default", ThreadDraft(), now=1)
    second = await Database.open(database_url)
    assert await second.read(threads.get, "default", thread.id) == thread
    await first.close()
    await second.close()


async def test_two_processes_starting_on_an_empty_database_take_turns(database_url: str) -> None:
    opened = await asyncio.gather(*(Database.open(database_url) for _ in range(4)))
    for database in opened:
        await database.write(threads.create, "default", ThreadDraft(), now=1)
        await database.close()


def test_processes_that_switch_an_empty_file_to_the_write_ahead_log_wait_for_each_other(
    tmp_path: Path,
) -> None:
    """Without waiting, one in twenty rounds of these had a process that could not start."""

    def start(path: Path, together: threading.Barrier) -> None:
        engine = sqlite._engine(make_url(f"sqlite:///{path}"), read_only=False)
        with engine.connect() as connection:
            together.wait()
            sqlite._use_write_ahead_log(connection)
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS started (at)")
            connection.exec_driver_sql("COMMIT")

    with ThreadPoolExecutor(6) as processes:
        for round_number in range(100):
            together = threading.Barrier(6)
            path = tmp_path / f"{round_number}.db"
            for started in [processes.submit(start, path, together) for _ in range(6)]:
                started.result()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("nonsense", "not one: use sqlite"),
        ("mysql://host/name", "'mysql' are not supported"),
        ("sqlite://", "names no file"),
        ("sqlite:////proc/nowhere/assistants.db", "Cannot open the database /proc/nowhere"),
        (f"sqlite:///{__file__}/assistants.db", f"{__file__} is not a folder."),
        ("postgresql://postgres@127.0.0.1:1/postgres", "Cannot open the database at 127.0.0.1:1"),
        ("postgresql://127.0.0.1:1/?sslmode=some", "127.0.0.1:1: `sslmode` parameter must be one"),
    ],
)
async def test_a_database_that_cannot_be_opened_is_named_in_a_sentence(
    url: str, sentence: str
) -> None:
    with pytest.raises(DatabaseError) as refusal:
        await Database.open(url)
    assert sentence in refusal.value.message


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "assistants.db"
    path.write_bytes(b"my diary" * 1000)
    with pytest.raises(DatabaseError, match="not a database"):
        await Database.open(f"sqlite:///{path}")
    assert path.read_bytes() == b"my diary" * 1000


async def test_a_disk_with_no_room_to_open_is_called_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "assistants.db"
    path.write_bytes(b"")

    def no_shared_index(connection: Connection) -> None:
        raise OSError(errno.EIO, "disk I/O error")

    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(total=1, used=1, free=0))
    monkeypatch.setattr("assistants_server.store.sqlite.upgrade", no_shared_index)
    with pytest.raises(DatabaseError, match="the disk is full"):
        await Database.open(f"sqlite:///{path}")


async def test_a_full_disk_is_said_and_nothing_of_the_transaction_remains(tmp_path: Path) -> None:
    database = await Database.open(f"sqlite:///{tmp_path / 'assistants.db'}")

    def fill(connection: Connection) -> None:
        # SQLite's own way of being full: no page may be added.
        connection.execute(sa.text("PRAGMA max_page_count=1"))

    def write_much(connection: Connection) -> None:
        for _ in range(50):
            threads.create(connection, "default", ThreadDraft(metadata={"k": "v" * 500}), now=1)

    before = await database.write(threads.create, "default", ThreadDraft(), now=1)
    await database.write(fill)
    with pytest.raises(DatabaseError, match="disk that holds the database is full"):
        await database.write(write_much)
    listing = await database.read(threads.list_page, "default", Page(), metadata={})
    assert [thread.id for thread in listing.items] == [before.id]
    await database.close()


async def test_a_database_held_by_another_program_is_said_to_be_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistants_server.store.sqlite._BUSY_SECONDS", 0.01)
    path = tmp_path / "assistants.db"
    database = await Database.open(f"sqlite:///{path}")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseError, match="busy"):
        await database.write(threads.create, "default", ThreadDraft(), now=1)
    other.execute("ROLLBACK")
    other.close()
    await database.write(threads.create, "default", ThreadDraft(), now=1)
    await database.close()


def collide(connection: Connection) -> None:
    connection.execute(sa.insert(rows.ended_run_keys).values(thread_id="none", run_key="my secret"))


def collide_prepared(connection: Connection) -> None:
    runs.bury_key(connection, "none", "my secret")


@pytest.mark.parametrize("collide", [collide, collide_prepared])
async def test_a_statement_the_database_refuses_does_not_leak_its_values(
    database: Database, caplog: pytest.LogCaptureFixture, collide: Callable[[Connection], None]
) -> None:
    with pytest.raises(DatabaseError) as refusal:
        await database.write(collide)
    assert "my secret" not in refusal.value.message
    assert "my secret" not in caplog.text
    (line,) = caplog.records
    assert line.getMessage() == "The database refused the operation."
    # SQLAlchemy before 2.1, which Python 3.10 has, gives PostgreSQL's errors its own names.
    kinds = "IntegrityError", "IntegrityError 23503", "ForeignKeyViolationError 23503"
    assert vars(line)["database_error"] in kinds


async def test_what_others_write_meanwhile_does_not_show_in_a_reading(database: Database) -> None:
    def count(connection: Connection) -> int:
        return len(threads.list_page(connection, "default", Page(), metadata={}).items)

    def count_around_a_write(connection: Connection) -> tuple[int, int]:
        before = count(connection)
        writing = database.write(threads.create, "default", ThreadDraft(), now=1)
        adapted = connection.connection.dbapi_connection
        if isinstance(adapted, AdaptedConnection):
            adapted.run_async(lambda driver: writing)
        else:
            asyncio.run_coroutine_threadsafe(writing, loop).result()
        return before, count(connection)

    loop = asyncio.get_running_loop()
    assert await database.read(count_around_a_write) == (0, 0)
    assert await database.read(count) == 1


async def test_closing_twice_is_nothing(database: Database) -> None:
    await database.close()
    await database.close()
    with pytest.raises(DatabaseError, match="closed"):
        await database.read(threads.get, "default", "thread_x")


async def test_work_that_need_not_wait_for_the_disk_begins_when_everybody_sees_the_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda log: disk.wait())
    database = await Database.open(f"sqlite:///{tmp_path / 'assistants.db'}")
    seen: asyncio.Future[Thread] = asyncio.get_running_loop().create_future()
    writing = asyncio.ensure_future(
        database.write_calling(seen.set_result, threads.create, "default", ThreadDraft(), now=1)
    )
    thread = await seen
    assert await database.read(threads.get, "default", thread.id) == thread
    assert not writing.done(), "it was said to be stored before the disk had it"
    disk.set()
    assert await writing == thread
    await database.close()


async def test_a_disk_that_refuses_to_keep_a_transaction_fails_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = await Database.open(f"sqlite:///{tmp_path / 'assistants.db'}")

    def refuse(log: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", refuse)
        with pytest.raises(DatabaseError):
            await database.write(threads.create, "default", ThreadDraft(), now=1)
    await database.write(threads.create, "default", ThreadDraft(), now=1)
    await database.close()


async def test_only_what_is_acknowledged_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    path = tmp_path / "assistants.db"
    database = await Database.open(f"sqlite:///{path}")
    thread = await database.progress(threads.create, "default", ThreadDraft(), now=1)
    assert synced == []
    assert await database.read(threads.get, "default", thread.id) == thread
    with pytest.raises(errors.NotFound):
        await database.write(threads.delete, "default", "thread_x")
    assert synced == []
    await database.write(threads.create, "default", ThreadDraft(), now=1)
    (log,) = synced
    assert os.path.samestat(os.fstat(log), os.stat(f"{path}-wal"))
    await database.close()


async def test_what_fails_in_the_work_that_begins_early_is_raised_to_whoever_wrote(
    database: Database,
) -> None:
    def fail(thread: Thread) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.write_calling(fail, threads.create, "default", ThreadDraft(), now=1)
    listing = await database.read(threads.list_page, "default", Page(), metadata={})
    assert len(listing.items) == 1, "the transaction stands"
