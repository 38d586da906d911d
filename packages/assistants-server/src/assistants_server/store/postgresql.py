"""Transactions on PostgreSQL: a pool of connections, each for one transaction at a time.

Store functions are synchronous and asyncpg is not, so each transaction runs in a greenlet, as
SQLAlchemy's own asyncio engine has it. Its beginning and its end, and statements that are
``prepared``, go to the driver directly: 0.1 milliseconds each, where SQLAlchemy takes 0.3 to 0.4.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from sqlalchemy import AdaptedConnection, Connection, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError
from sqlalchemy.pool import NullPool
from sqlalchemy.util import greenlet_spawn

from .database_errors import DatabaseError, sqlstate, translate
from .rows import encode
from .schema import upgrade

if TYPE_CHECKING:
    from asyncpg import Connection as Driver
    from sqlalchemy.ext.asyncio import AsyncEngine

    from .signals import Connect

T = TypeVar("T")

logger = logging.getLogger(__name__)

CONNECTIONS = 16
"""Kept open once they are: a new one takes PostgreSQL a process and us a dozen statements. With two
cores for everybody, more make no run faster."""

_CONNECT_SECONDS = 5  # PostgreSQL that takes longer to let us in is treated as gone
_STATEMENT_SECONDS = 30  # nor does it take longer over a statement, unless it hangs
_POOL_SECONDS = 10

# A process that is frozen in mid-transaction, or cut off, would hold its locks as long as
# PostgreSQL believes in it, for hours, and nobody could take its runs over.
_IDLE_SECONDS = 5

# Whoever gives up waiting after so long has met a connection that leads nowhere any more. So may
# all that are as old: a firewall forgets them, a standby takes the place of a host that is gone.
_SILENCE_SECONDS = 0.5

_ATTEMPTS = 3
_CHOSEN = ("40P01", "40001")  # deadlock_detected, serialization_failure

_OF_LIBPQ = (
    "channel_binding",
    "connect_timeout",
    "fallback_application_name",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "sslcertmode",
    "sslcompression",
    "sslsni",
    "tcp_user_timeout",
)

_BEGIN = "BEGIN"
_BEGIN_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"  # one snapshot


class Pool:
    """The connections of this process to one database."""

    def __init__(self, engine: AsyncEngine, connect: Connect) -> None:
        """``connect``: for whoever needs a connection of its own."""
        self.connect = connect
        self._engine = engine
        self._met_silence = False
        event.listen(engine.sync_engine, "checkout", self._refuse_what_is_lost)

    async def run(self, function: Callable[[Connection], T], *, reading: bool) -> T:
        """Run ``function`` as one transaction, committed when this returns; anew, if PostgreSQL has
        chosen it to end a circle of transactions that wait for each other."""
        begin = _BEGIN_READING if reading else _BEGIN
        for _ in range(_ATTEMPTS - 1):
            try:
                return await self._attempt(function, begin)
            except Exception as error:
                if sqlstate(error) not in _CHOSEN:
                    raise
                logger.info("running a transaction again that met a deadlock")
        return await self._attempt(function, begin)

    async def _attempt(self, function: Callable[[Connection], T], begin: str) -> T:
        result: T = await greenlet_spawn(self._transaction, function, begin)
        return result

    def _transaction(self, function: Callable[[Connection], T], begin: str) -> T:
        with self._engine.sync_engine.connect() as connection:
            begun = time.monotonic()
            try:
                _ask(connection, lambda driver: driver.execute(begin))
                result = function(connection)
                _ask(connection, lambda driver: driver.execute("COMMIT"))
            except (asyncio.TimeoutError, asyncio.CancelledError):  # in the middle of what?
                self._met_silence |= time.monotonic() - begun > _SILENCE_SECONDS
                connection.invalidate()
                raise
            except Exception:
                _roll_back(connection)
                raise
            except BaseException:
                connection.invalidate()
                raise
            return result

    def _refuse_what_is_lost(self, dbapi_connection: Any, *_: Any) -> None:
        """Have the pool make a new connection in the place of one that was lost while it lay there.

        Of one that was closed the driver knows by itself: a ping would cost a round trip each time.
        """
        if self._met_silence:
            self._met_silence = False
            raise InvalidatePoolError  # all that were made before now, each when it is its turn
        if dbapi_connection.driver_connection.is_closed():
            raise DisconnectionError

    async def close(self) -> None:
        await self._engine.dispose()


async def open_pool(url: URL) -> Pool:
    """Connect and bring the schema up to date.

    Raises:
        DatabaseError: a sentence that says what is wrong.
    """
    try:
        import asyncpg
        from sqlalchemy.ext.asyncio import create_async_engine

        engine = partial(
            create_async_engine,
            "postgresql+asyncpg://",
            json_serializer=encode,
            json_deserializer=orjson.loads,
        )
        # A migration may take its time; whoever waits for another's does too.
        patient = partial(asyncpg.connect, _for_the_driver(url), timeout=_CONNECT_SECONDS)
        connect = partial(_bounded, partial(patient, command_timeout=_STATEMENT_SECONDS))
        migrator = engine(poolclass=NullPool, async_creator=patient)
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
        words = str(getattr(error, "orig", error))
        if words.startswith("<class "):  # so SQLAlchemy introduces what the driver says
            words = words.partition(">: ")[2]
        raise DatabaseError(f"Cannot open the database at {where}: {words}") from error
    finally:
        await migrator.dispose()
    return Pool(
        engine(
            isolation_level="AUTOCOMMIT",  # transactions are ours
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=_POOL_SECONDS,
            pool_reset_on_return=None,  # each has ended its transaction
            async_creator=connect,
        ),
        connect,
    )


def _for_the_driver(url: URL) -> str:
    """The URL with the parameters that asyncpg understands, or passes on to the server.

    Those of libpq's that steer its own sockets are left out, and its timeout, for we have our own:
    https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
    """
    if url.query.get("channel_binding") == "require":
        logger.warning(
            "the database URL asks for channel_binding=require, which asyncpg cannot do; "
            "sslmode=verify-full is what protects the connection"
        )
    return (
        url.set(drivername="postgresql")
        .difference_update_query(_OF_LIBPQ)
        .render_as_string(hide_password=False)
    )


def first(connection: Connection, text: str, values: Sequence[Any]) -> Sequence[Any] | None:
    """The first row of a statement's result."""
    found: Sequence[Any] | None = _ask(connection, lambda driver: driver.fetchrow(text, *values))
    return found


def all_rows(connection: Connection, text: str, values: Sequence[Any]) -> Sequence[Sequence[Any]]:
    found: Sequence[Sequence[Any]] = _ask(connection, lambda driver: driver.fetch(text, *values))
    return found


def count(connection: Connection, text: str, values: Sequence[Any]) -> int:
    """How many rows a change met."""
    tag: str = _ask(connection, lambda driver: driver.execute(text, *values))
    return int(tag.rsplit(" ", 1)[-1])  # "UPDATE 1", "INSERT 0 1"


def _ask(connection: Connection, question: Callable[[Driver], Awaitable[Any]]) -> Any:
    adapted = connection.connection.dbapi_connection
    assert isinstance(adapted, AdaptedConnection)
    return adapted.run_async(question)


def _roll_back(connection: Connection) -> None:
    try:
        _ask(connection, lambda driver: driver.execute("ROLLBACK"))
    except Exception:  # the connection is lost, and the transaction with it
        connection.invalidate()


async def _bounded(connect: Callable[[], Awaitable[Driver]]) -> Driver:
    """A connection that PostgreSQL ends when a transaction on it stands still. Not asked for while
    connecting, because poolers refuse parameters that they do not know."""
    connection = await connect()
    try:
        await connection.execute(
            f"SET idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'",
            timeout=_CONNECT_SECONDS,
        )
    except BaseException:
        connection.terminate()
        raise
    return connection
