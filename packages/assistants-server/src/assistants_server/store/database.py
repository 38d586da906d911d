"""How store functions run: ``await database.write(function, …)`` is one transaction.

Store functions are plain functions of a SQLAlchemy ``Connection`` and know nothing of this. On
SQLite a thread writes and a few threads read (``sqlite``); on PostgreSQL both kinds run on an
asyncpg pool. No other module knows which database this is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from ..measurements import Times
from . import signals
from .database_errors import DatabaseError as DatabaseError
from .database_errors import report, translate
from .postgresql import Pool, open_pool
from .presence import Presence
from .sqlite import Lane, open_lanes, why_not

P = ParamSpec("P")
T = TypeVar("T")

_Kind = Literal["write", "progress", "read"]


class Database:
    """An open database. Made by :meth:`open`, given back by :meth:`close`."""

    def __init__(
        self,
        *,
        lanes: tuple[Lane, Lane] | None = None,
        pool: Pool | None = None,
        presence: Presence,
    ) -> None:
        self.presence = presence
        self.seconds: dict[_Kind, Times] = {
            "write": Times(),
            "progress": Times(),
            "read": Times(),
        }
        self._lanes = lanes
        self._pool = pool

    @classmethod
    async def open(cls, url: str) -> Database:
        """Connect and bring the schema up to date.

        Args:
            url: ``sqlite:////path`` or ``postgresql://user:password@host/name``.

        Raises:
            DatabaseError: a sentence that says what is wrong with the URL or the database.
        """
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise DatabaseError(
                "The database URL is not one: use sqlite:////… or postgresql://…"
            ) from None
        backend = parsed.get_backend_name()
        if backend == "sqlite":
            return await cls._open_sqlite(parsed)
        if backend in ("postgresql", "postgres"):
            return cls(pool=await open_pool(parsed), presence=Presence(None))
        raise DatabaseError(
            f"Databases of kind '{backend}' are not supported: use sqlite:////… or postgresql://…"
        )

    @classmethod
    async def _open_sqlite(cls, url: URL) -> Database:
        if not url.database or url.database == ":memory:":
            raise DatabaseError(
                "The SQLite URL names no file: use sqlite:////path/to/assistants.db"
            )
        path = Path(url.database)

        try:
            lanes = await asyncio.get_running_loop().run_in_executor(None, open_lanes, url, path)
        except (OSError, DBAPIError) as error:
            raise DatabaseError(
                f"Cannot open the database {path}: {why_not(path, error)}."
            ) from error
        for lane in lanes:
            lane.start()
        return cls(lanes=lanes, presence=Presence(path.with_name(path.name + "-workers")))

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

    async def write_calling(
        self,
        committed: Callable[[T], None],
        function: Callable[Concatenate[Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Like ``write``, and calls ``committed`` with the result a little earlier, where it can:
        once the transaction is there for everybody, while the disk is still writing it.

        For work that need not wait for the disk, such as asking a model. Nobody may be told before
        this returns. What ``committed`` raises is raised here.
        """
        return await self._timed("write", partial(_call, function, args, kwargs), committed)

    async def progress(
        self,
        function: Callable[Concatenate[Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Like ``write``, for a step of a run under way.

        It outlives the process, but on SQLite it may be lost with the power: a run that the power
        cuts off has not ended, so no answer has told of its end, and the next start settles it by
        what is stored, like that of any dead process. A durable commit makes all before it durable.
        Not waiting for the disk saves a voice agent that time before every first word.
        """
        return await self._timed("progress", partial(_call, function, args, kwargs))

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
        self,
        kind: _Kind,
        function: Callable[[Connection], T],
        committed: Callable[[T], None] | None = None,
    ) -> T:
        began = time.perf_counter()
        try:
            return await self._run(kind, function, committed)
        finally:
            self.seconds[kind].add(time.perf_counter() - began)

    async def _run(
        self,
        kind: _Kind,
        function: Callable[[Connection], T],
        committed: Callable[[T], None] | None,
    ) -> T:
        result: T
        if self._lanes is not None:
            lane = self._lanes[kind == "read"]
            result = await lane.submit(function, durable=kind == "write", committed=committed)
            return result
        if self._pool is None:
            raise DatabaseError("The database is closed.")
        try:
            result = await self._pool.run(function, reading=kind == "read")
        except Exception as error:
            failure = translate(error)
            if failure is error:
                raise
            report(failure)
            raise failure from error
        if committed is not None:
            committed(result)
        return result

    def listen(self, touched: Callable[[str], None]) -> asyncio.Task[None] | None:
        """Call ``touched`` with the id of every run that any process touches (``signals``).

        The task is the caller's to cancel; ``None`` where the database carries no signals.
        """
        if self._pool is None:
            return None
        return asyncio.create_task(signals.listen(self._pool.connect, touched), name="run signals")

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
            await pool.close()


def _call(
    function: Callable[..., T],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    connection: Connection,
) -> T:
    return function(connection, *args, **kwargs)


def is_there(url: str) -> bool:
    """``False`` for a SQLite file that does not exist. Of another database, opening tells."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        return True
    file = parsed.database if parsed.get_backend_name() == "sqlite" else None
    return not file or Path(file).exists()
