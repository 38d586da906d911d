"""Transactions on SQLite: threads that own their connections and run what is waiting in groups.

One thread writes. What waits for it shares one commit (a savepoint each, so that one refused
transaction does not undo its neighbours), which is where the speed comes from: measured against one
pooled connection per writer it is an order of magnitude, and durable commits cost almost nothing.

Beginnings and ends of transactions go to the driver directly: each passes through SQLAlchemy in
35 microseconds, which was a third of the time of a small transaction.

A commit is seen by everybody, and outlives this process, as soon as it is written to the log. That
the disk holds it, whatever happens to the power, is waited for apart, once a group: SQLite's own
``synchronous=FULL`` is this very ``fsync``, but keeps waiting also those who have no need to.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import queue
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from .database_errors import report, translate
from .rows import encode
from .schema import upgrade

# A long read must not hold up the short ones. More threads fight for the interpreter: lists of 20
# at 16 at once, 1,050 a second with two, 760 with three.
_READERS = 2
_GROUP = 64  # transactions in one commit; more would delay the first of them
_BUSY_SECONDS = 10  # how long to wait for another process that is writing
_BUSY_PAUSE_SECONDS = 0.01
_ROOM_TO_OPEN = 256 * 1024  # bytes that a new database and its shared index need


@dataclass(eq=False)
class _Job:
    """A transaction on its way through a lane, and what came of it."""

    function: Callable[[Connection], Any]
    durable: bool
    committed: Callable[[Any], None] | None
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    context: contextvars.Context
    result: Any = None
    error: BaseException | None = None

    def tell(self) -> None:
        """In the caller's loop: the transaction is there, the disk may still be writing it."""
        if self.committed is not None:
            try:
                self.committed(self.result)
            except Exception as error:
                self.error = error

    def settle(self) -> None:
        if self.error is not None:
            report(self.error)
        if self.future.done():
            return  # the caller went away; the transaction stands as it ended
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


@dataclass
class Lane:
    """Threads with a connection each that run transactions from one queue."""

    engine: Engine
    name: str
    begin: str
    group: int
    threads: int
    jobs: queue.SimpleQueue[_Job | None] = field(default_factory=queue.SimpleQueue)
    running: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        for number in range(self.threads):
            thread = threading.Thread(
                target=self._serve, name=f"assistants-{self.name}-{number}", daemon=True
            )
            thread.start()
            self.running.append(thread)

    def submit(
        self,
        function: Callable[[Connection], Any],
        *,
        durable: bool,
        committed: Callable[[Any], None] | None = None,
    ) -> asyncio.Future[Any]:
        """Resolved once the transaction is committed; if ``durable``, once the disk holds it.

        ``committed`` is called with its result as soon as everybody can see it.
        """
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()  # what ``committed`` starts is the caller's doing
        job = _Job(function, durable, committed, loop.create_future(), loop, context)
        self.jobs.put(job)
        return job.future

    def stop(self) -> None:
        for _ in self.running:
            self.jobs.put(None)

    def join(self) -> None:
        for thread in self.running:
            thread.join()

    def _serve(self) -> None:
        session: _Session | None = None
        stopping = False
        while not stopping:
            batch: list[_Job] = []
            job = self.jobs.get()
            while job is not None:
                batch.append(job)
                if len(batch) == self.group:
                    break
                try:
                    job = self.jobs.get_nowait()
                except queue.Empty:
                    break
            stopping = job is None
            if not batch:
                continue
            waiting = batch
            try:
                session = session or _Session(self.engine.connect(), self.begin)
                session.run(batch)
                waiting = [each for each in batch if each.durable]
                _deliver(each for each in batch if not each.durable)
                if any(each.error is None for each in waiting):
                    _tell(waiting)
                    session.sync()
            except Exception as error:
                for each in waiting:
                    each.error = each.error or translate(error)
                if session is not None:
                    session.discard()
                    session = None
            _deliver(waiting)
        if session is not None:
            session.discard()


class _Session:
    """One thread's connection."""

    def __init__(self, connection: Connection, begin: str) -> None:
        self.connection = connection
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        self._driver = driver
        self._begin = begin
        self._log: int | None = None
        (mode,) = driver.execute("PRAGMA journal_mode").fetchone()
        # A file system that cannot have the log (a network's) leaves durability to every commit.
        self._log_path = f"{connection.engine.url.database}-wal" if mode == "wal" else None
        if self._log_path is not None:
            driver.execute("PRAGMA synchronous=NORMAL")

    def run(self, batch: Sequence[_Job]) -> None:
        """Run the jobs in one transaction. What one of them raises is its own.

        Raises:
            sqlite3.Error, DBAPIError: the database failed; nothing of the batch was kept.
        """
        driver = self._driver
        driver.execute(self._begin)
        if len(batch) == 1:
            (job,) = batch
            try:
                job.result = job.function(self.connection)
            except Exception as error:
                job.error = translate(error)
                driver.rollback()
            else:
                driver.execute("COMMIT")
            return
        for job in batch:
            driver.execute("SAVEPOINT job")
            try:
                job.result = job.function(self.connection)
            except Exception as error:
                job.error = translate(error)
                try:
                    driver.execute("ROLLBACK TO job")
                except sqlite3.Error:
                    # SQLite itself rolled everything back (a full disk): the batch fails alike.
                    raise error from None
            driver.execute("RELEASE job")
        driver.execute("COMMIT")

    def sync(self) -> None:
        """Return once the disk holds what was committed.

        Raises:
            OSError: it refused.
        """
        if self._log_path is None:
            return
        if self._log is None:
            self._log = os.open(self._log_path, os.O_RDWR)
        os.fsync(self._log)

    def discard(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._driver.rollback()
        with contextlib.suppress(SQLAlchemyError):
            self.connection.close()
        if self._log is not None:
            os.close(self._log)
            self._log = None


def _tell(batch: Iterable[_Job]) -> None:
    for job in batch:
        if job.committed is not None and job.error is None:
            with contextlib.suppress(RuntimeError):
                job.loop.call_soon_threadsafe(job.tell, context=job.context)


def _deliver(batch: Iterable[_Job]) -> None:
    for job in batch:
        # A loop that was closed meanwhile has nobody left to tell.
        with contextlib.suppress(RuntimeError):
            job.loop.call_soon_threadsafe(job.settle)


def open_lanes(url: URL, path: Path) -> tuple[Lane, Lane]:
    """Bring the file's schema up to date; returns the writing and the reading lane, not started.

    Raises:
        OSError, DBAPIError: the file cannot be used.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = _engine(url, read_only=False)
    with writer.connect() as connection:
        _use_write_ahead_log(connection)
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        upgrade(connection)
        connection.exec_driver_sql("COMMIT")
    return (
        Lane(writer, "write", "BEGIN IMMEDIATE", _GROUP, 1),
        Lane(_engine(url, read_only=True), "read", "BEGIN", 1, _READERS),
    )


def _use_write_ahead_log(connection: Connection) -> None:
    """Switch an empty database to WAL, also while another process is doing so.

    Two that switch at once would wait for each other for ever: SQLite answers one of them "locked"
    without waiting (https://www.sqlite.org/c3ref/busy_handler.html), so that one asks again.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            return
        except DBAPIError as error:
            if "locked" not in str(error.orig) or time.monotonic() > deadline:
                raise
            time.sleep(_BUSY_PAUSE_SECONDS)


def _engine(url: URL, *, read_only: bool) -> Engine:
    engine = create_engine(
        url.set(drivername="sqlite+pysqlite"),
        # Transactions are ours: BEGIN IMMEDIATE, so that a writer never fails on upgrading a lock.
        isolation_level="AUTOCOMMIT",
        poolclass=NullPool,
        json_serializer=encode,
        json_deserializer=orjson.loads,
        connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA cache_size=-16000")
        if read_only:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    return engine


def why_not(path: Path, error: OSError | DBAPIError) -> str:
    """Why the file could not be opened. SQLite has no words for what ails its folder."""
    folder = path.parent
    if folder.exists() and not folder.is_dir():
        return f"{folder} is not a folder"
    if folder.is_dir():
        if shutil.disk_usage(folder).free < _ROOM_TO_OPEN:
            return "the disk is full"
        if not os.access(folder, os.W_OK):
            return f"{folder} cannot be written to"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error.orig)


def first(connection: Connection, text: str, values: Sequence[Any]) -> Sequence[Any] | None:
    """The first row of a statement's result."""
    cursor = _execute(connection, text, values)
    found: Sequence[Any] | None = cursor.fetchone()
    cursor.close()  # or the statement would stay open at the commit
    return found


def all_rows(connection: Connection, text: str, values: Sequence[Any]) -> Sequence[Sequence[Any]]:
    return _execute(connection, text, values).fetchall()


def count(connection: Connection, text: str, values: Sequence[Any]) -> int:
    """How many rows a change met."""
    return _execute(connection, text, values).rowcount


def _execute(connection: Connection, text: str, values: Sequence[Any]) -> sqlite3.Cursor:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver.execute(text, values)
