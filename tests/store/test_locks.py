"""What transactions of different processes wait for on PostgreSQL, and that none waits in a circle.

PostgreSQL ends a circle after a second, by refusing one of those in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.util import await_only

from assistants_server import errors, ids
from assistants_server.domain.drafts import RunDraft, ThreadDraft
from assistants_server.domain.records import Assistant, Run, Step, Usage
from assistants_server.store import (
    assistants,
    run_cancellation,
    run_creation,
    runs,
    thread_lock,
    threads,
    turn,
)
from assistants_server.store.database import Database
from assistants_server.store.run_creation import Claim

NOW = 1000
CLAIM = Claim(owner="worker_a", lease_until=NOW + 10.0, expires_at=NOW + 600)


async def begun(database: Database) -> Run:
    """A process executes it."""
    assistant = Assistant(
        id=ids.assistant_id(), project_id="default", created_at=1, model="m", instructions="Be."
    )
    await database.write(assistants.insert, assistant)
    thread = await database.write(threads.create, "default", ThreadDraft(), now=1)
    created = await database.write(
        run_creation.create,
        "default",
        thread.id,
        RunDraft(assistant_id=assistant.id),
        now=NOW,
        claim=CLAIM,
        unstored=lambda run_id: None,
    )
    return created.started


@pytest.fixture
async def run(postgresql: Database) -> Run:
    """It waits for its client, and no process executes it."""
    started = await begun(postgresql)
    step = Step(
        id=ids.step_id(),
        run_id=started.id,
        thread_id=started.thread_id,
        assistant_id=started.assistant_id,
        created_at=NOW,
        type="tool_calls",
    )
    opened = await postgresql.write(turn.open_calls, started, step, said=None)
    assert opened is not None
    waiting = await postgresql.write(
        turn.require_action, started, opened, pending=[{"id": "call_a"}], usage=Usage()
    )
    assert waiting is not None
    assert waiting.owner is None
    return waiting


class Adding:
    """A transaction that has the thread and is about to look whether a run is active there."""

    def __init__(self) -> None:
        self.has_thread = asyncio.Event()
        self.goes_on = asyncio.Event()

    def add(self, connection: Connection, thread_id: str) -> Run | None:
        thread_lock.hold(connection, "default", thread_id)
        self.has_thread.set()
        await_only(self.goes_on.wait())
        return runs.active(connection, thread_id)


@asynccontextmanager
async def adding(database: Database, run: Run) -> AsyncIterator[asyncio.Task[Run | None]]:
    """While it has the thread; then it goes on, and is over in the end."""
    one = Adding()
    task = asyncio.ensure_future(database.write(one.add, run.thread_id))
    await one.has_thread.wait()
    try:
        yield task
    finally:
        one.goes_on.set()
        await task


async def until_it_waits(database: Database, other: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start a transaction and return once it waits for another one."""
    waits = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    task = asyncio.ensure_future(other)
    while not await database.read(lambda connection: connection.execute(waits).scalar()):
        assert not task.done()
    return task


async def test_a_run_that_nobody_executes_is_cancelled_while_somebody_adds_to_its_thread(
    postgresql: Database, run: Run
) -> None:
    async with adding(postgresql, run) as other:
        cancelling = postgresql.write(
            run_cancellation.cancel, "default", run.thread_id, run.id, now=NOW
        )
        cancelled, ending = await asyncio.wait_for(cancelling, 20)
        assert cancelled.status == "cancelling"
        assert ending is not None
        assert ending.run.status == "cancelled"
    assert await other is None, "nothing is active any more"


async def test_a_thread_is_deleted_while_somebody_adds_to_it(
    postgresql: Database, run: Run
) -> None:
    async with adding(postgresql, run) as other:
        deleting = await until_it_waits(
            postgresql, postgresql.write(threads.delete, "default", run.thread_id)
        )
    found = await other
    assert found is not None
    assert found.id == run.id
    assert await deleting == run.id
    with pytest.raises(errors.NotFound):
        await postgresql.read(threads.get, "default", run.thread_id)


async def test_a_lease_is_renewed_while_somebody_changes_another_run_of_its_process(
    postgresql: Database,
) -> None:
    changed, other = await begun(postgresql), await begun(postgresql)
    has_run, goes_on = asyncio.Event(), asyncio.Event()

    def change(connection: Connection) -> None:
        runs.hold(connection, changed)
        has_run.set()
        await_only(goes_on.wait())

    changing = asyncio.ensure_future(postgresql.write(change))
    await has_run.wait()
    renewing = postgresql.write(runs.renew, CLAIM.owner, lease_until=NOW + 20.0)
    try:
        await asyncio.wait_for(renewing, 3)  # before PostgreSQL ends what stands still
    finally:
        goes_on.set()
        await changing
    found = await postgresql.read(runs.by_id, other.id)
    assert found is not None
    assert found.lease_until == NOW + 20
