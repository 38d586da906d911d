"""What is PostgreSQL's own: connections that are kept, lost and given up."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy import AdaptedConnection, Connection
from sqlalchemy.util import await_only

from assistants_server.domain.drafts import ThreadDraft
from assistants_server.domain.records import Page, Thread
from assistants_server.store import postgresql as postgresql_module
from assistants_server.store import signals, threads
from assistants_server.store.database import Database, DatabaseError
from assistants_server.store.prepared import Prepared

SLEEP = Prepared(sa.select(sa.func.pg_sleep(60)))


def driver(connection: Connection) -> asyncpg.Connection[asyncpg.Record]:
    found = connection.connection.driver_connection
    assert isinstance(found, asyncpg.Connection)
    return found


def update(connection: Connection, thread_id: str, changes: dict[str, Any]) -> None:
    threads.update(
        connection, "default", thread_id, changes, [], now=1, unstored=lambda run_id: None
    )


def with_parameter(url: str, parameter: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{parameter}"


@pytest.mark.parametrize(
    "parameter",
    [
        "sslmode=prefer",
        "connect_timeout=10",
        "application_name=assistants",
        "options=-c%20statement_timeout%3D5000",
        "channel_binding=prefer",
        "target_session_attrs=read-write&keepalives=1&keepalives_idle=30",
    ],
)
async def test_the_url_that_a_provider_hands_out_is_all_it_takes(
    postgres_url: str, parameter: str
) -> None:
    database = await Database.open(with_parameter(postgres_url, parameter))
    thread = await database.write(threads.create, "default", ThreadDraft(), now=1)
    touched = asyncio.Event()
    listening = database.listen(lambda run_id: touched.set())
    assert listening is not None
    while not touched.is_set():  # until it listens
        await database.write(signals.touch, "run_x")
    listening.cancel()
    assert await database.read(threads.get, "default", thread.id) == thread
    await database.close()


async def test_a_parameter_that_nobody_knows_is_named(postgres_url: str) -> None:
    with pytest.raises(DatabaseError, match='parameter "pgbouncer"'):
        await Database.open(with_parameter(postgres_url, "pgbouncer=true"))


async def test_a_promise_of_the_url_that_cannot_be_kept_is_told(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    database = await Database.open(with_parameter(postgres_url, "channel_binding=require"))
    await database.close()
    assert "channel_binding=require" in caplog.text


async def test_a_connection_that_was_lost_while_it_was_kept_is_never_used_again(
    postgresql: Database, postgres_url: str
) -> None:
    """PostgreSQL was restarted, say. No request pays for that with an error."""
    kept = await postgresql.read(driver)
    lost = asyncio.Event()
    kept.add_termination_listener(lambda _: lost.set())
    operator = await asyncpg.connect(postgres_url)
    await operator.execute("SELECT pg_terminate_backend($1)", kept.get_server_pid())
    await operator.close()
    await lost.wait()
    thread = await postgresql.write(threads.create, "default", ThreadDraft(), now=1)
    assert await postgresql.read(threads.get, "default", thread.id) == thread
    assert await postgresql.read(driver) is not kept


async def test_a_transaction_whose_caller_goes_away_leaves_nothing(postgresql: Database) -> None:
    kept: list[asyncpg.Connection[asyncpg.Record]] = []

    def hang(connection: Connection) -> None:
        threads.create(connection, "default", ThreadDraft(), now=1)
        kept.append(driver(connection))
        SLEEP.count(connection, {})

    caller = asyncio.ensure_future(postgresql.write(hang))
    while not kept:
        await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert kept[0].is_closed()
    listing = await postgresql.read(threads.list_page, "default", Page(), metadata={})
    assert listing.items == []


async def test_transactions_that_wait_for_each_other_are_both_carried_out(
    postgresql: Database,
) -> None:
    one, other = [
        await postgresql.write(threads.create, "default", ThreadDraft(), now=1) for _ in range(2)
    ]
    have_one = {one.id: asyncio.Event(), other.id: asyncio.Event()}
    begun: Counter[str] = Counter()

    def take(connection: Connection, first: Thread, second: Thread) -> None:
        connection.execute(sa.text("SET LOCAL deadlock_timeout = '1ms'"))
        begun[first.id] += 1
        changes = {"metadata": {"by": first.id}}
        update(connection, first.id, changes)
        if begun[first.id] == 1:
            adapted = connection.connection.dbapi_connection
            assert isinstance(adapted, AdaptedConnection)
            have_one[first.id].set()
            adapted.run_async(lambda _: have_one[second.id].wait())
        update(connection, second.id, changes)

    await asyncio.gather(postgresql.write(take, one, other), postgresql.write(take, other, one))
    assert sum(begun.values()) == 3, "one of them had to begin again"
    found = [await postgresql.read(threads.get, "default", each.id) for each in (one, other)]
    assert found[0].metadata == found[1].metadata


async def test_a_transaction_that_failed_hands_its_connection_on(postgresql: Database) -> None:
    def fail(connection: Connection) -> None:
        threads.create(connection, "default", ThreadDraft(), now=1)
        raise ZeroDivisionError

    kept = await postgresql.read(driver)
    with pytest.raises(ZeroDivisionError):
        await postgresql.write(fail)
    assert await postgresql.read(driver) is kept
    listing = await postgresql.read(threads.list_page, "default", Page(), metadata={})
    assert listing.items == []


async def test_a_process_that_stands_still_in_a_transaction_loses_its_locks(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was frozen, or cut off; others must be able to take its runs over."""
    monkeypatch.setattr(postgresql_module, "_IDLE_SECONDS", 0.1)
    database = await Database.open(postgres_url)
    thread = await database.write(threads.create, "default", ThreadDraft(), now=1)
    frozen, goes_on = asyncio.Event(), asyncio.Event()

    def stand_still(connection: Connection) -> None:
        update(connection, thread.id, {"metadata": {"by": "frozen"}})
        frozen.set()
        await_only(goes_on.wait())

    standing = asyncio.ensure_future(database.write(stand_still))
    await frozen.wait()
    changes = {"metadata": {"by": "other"}}
    await asyncio.wait_for(database.write(update, thread.id, changes), timeout=10)
    goes_on.set()
    with pytest.raises(DatabaseError):
        await standing
    found = await database.read(threads.get, "default", thread.id)
    assert found.metadata == {"by": "other"}
    await database.close()


async def test_after_one_connection_fell_silent_none_that_is_as_old_is_used(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A firewall forgot them, say: each would cost somebody half a minute."""
    monkeypatch.setattr(postgresql_module, "_STATEMENT_SECONDS", 0.2)
    monkeypatch.setattr(postgresql_module, "_SILENCE_SECONDS", 0.1)
    database = await Database.open(postgres_url)

    async def two() -> set[asyncpg.Connection[asyncpg.Record]]:
        found: set[asyncpg.Connection[asyncpg.Record]] = set()
        both = asyncio.Event()

        def meet(connection: Connection) -> None:
            found.add(driver(connection))
            if len(found) == 2:
                both.set()
            await_only(both.wait())

        await asyncio.gather(database.read(meet), database.read(meet))
        return found

    old = await two()
    with pytest.raises(DatabaseError, match="does not answer"):
        await database.read(SLEEP.count, {})
    assert not old & await two()
    await database.close()
