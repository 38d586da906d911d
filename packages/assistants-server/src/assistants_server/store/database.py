"""How store functions run: ``await database.write(function, …)`` is one transaction.

Store functions are plain functions of a SQLAlchemy ``Connection`` and know nothing of this. On
SQLite one thread owns the writing connection and groups what is waiting into one durable commit (a
savepoint each, so that one refused transaction does not undo its neighbours); a few threads read.
Measured against one pooled connection per writer this is faster by an order of magnitude, and the
durable ``synchronous=FULL`` costs almost nothing. On PostgreSQL both kinds run on an asyncpg pool.
No other module knows which database this is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar

import orjson
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from ..measurements import Times
from . import signals
from .database_errors import DatabaseError as DatabaseError
from .database_errors import report, translate
from .presence import Presence
from .schema import upgrade

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger(__name__)

_READERS = 3
_GROUP = 64  # transactions in one commit; more would delay the first of them
_BUSY_SECONDS = 10  # how long to wait for another process that is writing
_BUSY_PAUSE_SECONDS = 0.01
_CONNECT_SECONDS = 5  # PostgreSQL that takes longer to let us in is treated as gone
_STATEMENT_SECONDS = 30  # nor does it take longer over a statement, unless it hangs
_POOL_SECONDS = 10


def _encode(value: Any) -> str:
    return orjson.dumps(value).decode()


@dataclass(eq=False)
class _Job:
    """A transaction on its way through a lane, and what came of it."""

    function: Callable[[Connection], Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    result: Any = None
    error: BaseException | None = None

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
class _Lane:
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

    def submit(self, function: Callable[[Connection], Any]) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        job = _Job(function, loop.create_future(), loop)
        self.jobs.put(job)
        return job.future

    def stop(self) -> None:
        for _ in self.running:
            self.jobs.put(None)

    def join(self) -> None:
        for thread in self.running:
            thread.join()

    def _serve(self) -> None:
        connection: Connection | None = None
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
            try:
                connection = connection or self.engine.connect()
                self._run(connection, batch)
            except Exception as error:
                for each in batch:
                    each.error = translate(error)
                if connection is not None:
                    _discard(connection)
                    connection = None
            _deliver(batch)
        if connection is not None:
            connection.close()

    def _run(self, connection: Connection, batch: list[_Job]) -> None:
        connection.exec_driver_sql(self.begin)
        for job in batch:
            connection.exec_driver_sql("SAVEPOINT job")
            try:
                job.result = job.function(connection)
            except Exception as error:
                job.error = translate(error)
                try:
                    connection.exec_driver_sql("ROLLBACK TO job")
                except DBAPIError:
                    # SQLite itself rolled everything back (a full disk): the batch fails alike.
                    raise error from None
            connection.exec_driver_sql("RELEASE job")
        connection.exec_driver_sql("COMMIT")


def _deliver(batch: list[_Job]) -> None:
    for job in batch:
        # A loop that was closed meanwhile has nobody left to tell.
        with contextlib.suppress(RuntimeError):
            job.loop.call_soon_threadsafe(job.settle)


def _discard(connection: Connection) -> None:
    with contextlib.suppress(SQLAlchemyError):
        connection.exec_driver_sql("ROLLBACK")
    with contextlib.suppress(SQLAlchemyError):
        connection.close()


class Database:
    """An open database. Made by :meth:`open`, given back by :meth:`close`."""

    def __init__(
        self,
        *,
        lanes: tuple[_Lane, _Lane] | None = None,
        pool: AsyncEngine | None = None,
        presence: Presence,
    ) -> None:
        self.presence = presence
        self.seconds = {"write": Times(), "read": Times()}
        self._lanes = lanes
        self._pool = pool

    @classmethod
    async def open(cls, url: str) -> Database:
        """Connect and bring the schema up to date.

        Args:
            url: ``sqlite:///path`` or ``postgresql://user:password@host/name``.

        Raises:
            DatabaseError: a sentence that says what is wrong with the URL or the database.
        """
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise DatabaseError(
                "The database URL is not one: use sqlite:///… or postgresql://…"
            ) from None
        backend = parsed.get_backend_name()
        if backend == "sqlite":
            return await cls._open_sqlite(parsed)
        if backend in ("postgresql", "postgres"):
            return await cls._open_postgresql(parsed)
        raise DatabaseError(f"Databases of kind '{backend}' are not supported.")

    @classmethod
    async def _open_sqlite(cls, url: URL) -> Database:
        if not url.database or url.database == ":memory:":
            raise DatabaseError("The SQLite URL names no file: use sqlite:///path/to/assistants.db")
        path = Path(url.database)

        def prepare() -> tuple[_Lane, _Lane]:
            path.parent.mkdir(parents=True, exist_ok=True)
            writer = _sqlite_engine(url, read_only=False)
            with writer.connect() as connection:
                _use_write_ahead_log(connection)
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                upgrade(connection)
                connection.exec_driver_sql("COMMIT")
            return (
                _Lane(writer, "write", "BEGIN IMMEDIATE", _GROUP, 1),
                _Lane(_sqlite_engine(url, read_only=True), "read", "BEGIN", 1, _READERS),
            )

        try:
            lanes = await asyncio.get_running_loop().run_in_executor(None, prepare)
        except (OSError, DBAPIError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error.orig)
            raise DatabaseError(f"Cannot open the database {path}: {reason}.") from error
        for lane in lanes:
            lane.start()
        return cls(lanes=lanes, presence=Presence(path.with_name(path.name + "-workers")))

    @classmethod
    async def _open_postgresql(cls, url: URL) -> Database:
        try:
            from sqlalchemy.ext.asyncio import create_async_engine

            engine = partial(
                create_async_engine,
                url.set(drivername="postgresql+asyncpg"),
                json_serializer=_encode,
                json_deserializer=orjson.loads,
            )
            # A migration may take its time; whoever waits for another's does too.
            migrator = engine(poolclass=NullPool, connect_args={"timeout": _CONNECT_SECONDS})
        except ImportError as error:
            raise DatabaseError(
                "PostgreSQL needs the driver: install assistants-server[postgres]."
            ) from error
        where = f"{url.host or 'localhost'}:{url.port or 5432}"
        try:
            async with migrator.begin() as connection:
                await connection.run_sync(upgrade)
        except Exception as error:
            if translate(error) is error:
                raise
            words = str(getattr(error, "orig", error)).split(": ", 1)[-1]
            raise DatabaseError(f"Cannot open the database at {where}: {words}") from error
        finally:
            await migrator.dispose()
        pool = engine(
            pool_size=10,
            max_overflow=20,
            pool_timeout=_POOL_SECONDS,
            # No ping: it would cost a round trip each time. The first that meets a broken
            # connection has the pool throw away all of its age.
            connect_args={"timeout": _CONNECT_SECONDS, "command_timeout": _STATEMENT_SECONDS},
        )
        return cls(pool=pool, presence=Presence(None))

    async def write(
        self,
        function: Callable[Concatenate[Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run ``function`` as one durable transaction; it is committed when this returns.

        Raises:
            DatabaseError: the database failed; nothing of the transaction remains.
            Exception: whatever ``function`` raised; likewise.
        """
        return await self._timed("write", partial(_call, function, args, kwargs))

    async def read(
        self,
        function: Callable[Concatenate[Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run ``function`` on one consistent snapshot of the database."""
        return await self._timed("read", partial(_call, function, args, kwargs))

    async def _timed(
        self, kind: Literal["write", "read"], function: Callable[[Connection], T]
    ) -> T:
        began = time.perf_counter()
        try:
            return await self._run(kind, function)
        finally:
            self.seconds[kind].add(time.perf_counter() - began)

    async def _run(self, kind: Literal["write", "read"], function: Callable[[Connection], T]) -> T:
        if self._lanes is not None:
            result: T = await self._lanes[kind == "read"].submit(function)
            return result
        if self._pool is None:
            raise DatabaseError("The database is closed.")
        try:
            async with self._pool.begin() as connection:
                return await connection.run_sync(function)
        except Exception as error:
            failure = translate(error)
            if failure is error:
                raise
            report(failure)
            raise failure from error

    def listen(self, touched: Callable[[str], None]) -> asyncio.Task[None] | None:
        """Call ``touched`` with the id of every run that any process touches (``signals``).

        The task is the caller's to cancel; ``None`` where the database carries no signals.
        """
        if self._pool is None:
            return None
        url = self._pool.url.set(drivername="postgresql").render_as_string(hide_password=False)
        return asyncio.create_task(signals.listen(url, touched), name="run signals")

    async def close(self) -> None:
        """Finish what was begun, then let go of every connection. Idempotent."""
        self.presence.close()
        lanes, self._lanes = self._lanes, None
        pool, self._pool = self._pool, None
        for lane in lanes or ():
            lane.stop()
        for lane in lanes or ():
            await asyncio.get_running_loop().run_in_executor(None, lane.join)
            lane.engine.dispose()
        if pool is not None:
            await pool.dispose()


def _call(
    function: Callable[..., T],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    connection: Connection,
) -> T:
    return function(connection, *args, **kwargs)


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


def _sqlite_engine(url: URL, *, read_only: bool) -> Engine:
    engine = create_engine(
        url.set(drivername="sqlite+pysqlite"),
        # Transactions are ours: BEGIN IMMEDIATE, so that a writer never fails on upgrading a lock.
        isolation_level="AUTOCOMMIT",
        poolclass=NullPool,
        json_serializer=_encode,
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
