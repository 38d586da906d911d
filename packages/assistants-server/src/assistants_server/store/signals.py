"""Word to other processes that a run of theirs was touched. PostgreSQL carries it with the commit.

On SQLite nothing is sent: the owner notices when it renews its leases, a second or two later.
A signal is a hint and may be lost; the store alone says what is true.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy import Connection

from .prepared import Prepared

if TYPE_CHECKING:
    from asyncpg import Connection as Driver

    Connect = Callable[[], Awaitable[Driver]]

logger = logging.getLogger(__name__)

CHANNEL = "assistants_runs"

_NOTIFY = Prepared(sa.select(sa.func.pg_notify(CHANNEL, sa.bindparam("run_id", type_=sa.Text()))))

_RECONNECT_SECONDS = 1.0
_PING_SECONDS = 10.0  # a connection may also be lost without a word


def touch(connection: Connection, run_id: str) -> None:
    """Tell whoever executes the run to look at it, once this transaction is committed."""
    if connection.dialect.name == "postgresql":
        _NOTIFY.first(connection, {"run_id": run_id})


async def listen(connect: Connect, touched: Callable[[str], None]) -> None:
    """Call ``touched`` with the id of each run that is touched, until cancelled.

    One connection of its own is held, and made anew when lost.
    """
    import asyncpg

    failures = (OSError, asyncio.TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
    while True:
        with contextlib.suppress(*failures):
            connection = await connect()
            lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            connection.add_termination_listener(lambda _, lost=lost: lost.set_result(None))
            try:
                await connection.add_listener(
                    CHANNEL, lambda _connection, _pid, _channel, run_id: touched(run_id)
                )
                while True:
                    # Not wait_for: before Python 3.12 it may lose the cancellation.
                    await asyncio.wait({lost}, timeout=_PING_SECONDS)
                    if lost.done():
                        break
                    await connection.execute("SELECT 1", timeout=_PING_SECONDS)
            finally:
                connection.terminate()
        logger.warning("lost the connection that carries signals")
        await asyncio.sleep(_RECONNECT_SECONDS)
