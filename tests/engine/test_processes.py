"""Several processes on one database: what one leaves, another settles."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from tests.engine.bench import PROJECT, Bench, Process, events, names
from tests.engine.test_endings import FUNCTION, speaking
from tests.manual_clock import ManualClock
from tests.upstream import Upstream, call, say, stall

from assistants_server.domain.drafts import RunExtensions, ToolOutput
from assistants_server.domain.run_events import StreamFault
from assistants_server.engine.worker import SWEEP_SECONDS
from assistants_server.settings import Settings
from assistants_server.store import runs
from assistants_server.store.database import Database


async def sweep(bench: Bench, seconds: float) -> None:
    """Let time pass and every living sweeper do its work."""
    await bench.clock.sleeping()
    bench.clock.advance(seconds)
    await bench.clock.sleeping()


async def test_a_half_done_run_of_a_dead_process_fails_with_its_text(bench: Bench) -> None:
    started, hold = await speaking(bench)
    bench.process.die()
    await bench.upstream.disconnected()
    hold.release()
    bench.process = bench.new_process()
    await bench.process.worker.start()
    assert (await bench.get(started.run)).status == "in_progress", "its lease has not run out"
    await sweep(bench, bench.settings.lease + 1)
    run = await bench.get(started.run)
    assert run.status == "failed"
    assert run.last_error is not None
    assert "stopped before the run was done" in run.last_error.message
    assert (await bench.messages())[-1].status == "incomplete"
    bench.upstream.script(say("Back again"))
    await events((await bench.start("and now?")).log)
    assert (await bench.texts())[-2:] == ["and now?", "Back again"]


async def test_sweeping_ends_also_when_it_is_told_so_as_leases_are_renewed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = bench.process.worker
    (sweeper,) = (task for task in worker._side_tasks if task.get_name() == "run sweeper")
    renewed = worker._renewed

    async def told() -> set[str]:
        mine = await renewed()
        asyncio.get_running_loop().call_soon(sweeper.cancel)  # before the sweeper hears of us
        return mine

    monkeypatch.setattr(worker, "_renewed", told)
    await bench.clock.sleeping()
    bench.clock.advance(SWEEP_SECONDS)
    await asyncio.wait({sweeper}, timeout=10)
    assert sweeper.cancelled()


async def test_leases_do_not_wait_for_a_connection_that_fell_silent(
    postgresql: Database, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(postgresql, upstream, ManualClock(), Settings(lease=2))
    await bench.prepare()
    await bench.process.worker.start()
    hold = stall()
    upstream.script(hold + say("Here"))
    started = await bench.start("hi")
    await hold.reached.wait()
    silent, renew, asked = [True], runs.renew, asyncio.Event()

    def may_hang(connection: Connection, owner: str, *, lease_until: float) -> None:
        asked.set()
        if silent:
            silent.clear()
            connection.execute(sa.text("SELECT pg_sleep(60)"))
        renew(connection, owner, lease_until=lease_until)

    monkeypatch.setattr(runs, "renew", may_hang)

    async def two_renewals() -> None:
        for _ in range(2):
            asked.clear()
            bench.clock.advance(bench.settings.lease / 5)
            await asked.wait()
            await bench.clock.sleeping(2)  # the sweeper, and who stores texts

    await bench.clock.sleeping(2)
    await asyncio.wait_for(two_renewals(), 10)
    stored = await postgresql.read(runs.by_id, started.run.id)
    assert stored is not None
    assert stored.lease_until == bench.clock.now() + bench.settings.lease
    hold.release()
    assert (await names(started.log))[-1] == "run.completed"
    await bench.process.stop()


async def test_a_stream_whose_process_is_torn_down_does_not_end_as_if_in_order(
    bench: Bench,
) -> None:
    started, hold = await speaking(bench)
    bench.process.die()
    told = await events(started.log)
    assert isinstance(told[-1], StreamFault)
    hold.release()


async def test_a_run_that_has_said_nothing_is_executed_by_another_process(bench: Bench) -> None:
    hold = stall()
    bench.upstream.script(call("f", id="call_a"), say(hold, "Never heard"))
    started = await bench.start("hi", tools=[FUNCTION])
    await events(started.log)
    dead = bench.process
    resumed = await dead.runs.submit(
        PROJECT, bench.thread_id, started.run.id, [ToolOutput(tool_call_id="call_a", output="x")]
    )
    assert resumed.run.status == "queued"
    await hold.reached.wait()
    dead.die()
    await bench.upstream.disconnected()
    hold.release()
    bench.upstream.script(say("Taken over"))
    bench.process = bench.new_process()
    await bench.process.worker.start()
    await sweep(bench, bench.settings.lease + 1)
    await bench.upstream.arrived(3)
    await bench.process.worker.drain(60)
    assert (await bench.get(started.run)).status == "completed"
    assert (await bench.texts())[-1] == "Taken over"


async def test_a_run_whose_client_went_with_its_process_is_not_executed_again(
    bench: Bench,
) -> None:
    """Nobody would hear the answer, but the thread would hold it."""
    hold = stall()
    bench.upstream.script(say(hold, "Never heard"))
    started = await bench.start("hi", extensions=RunExtensions(on_disconnect="cancel"))
    await hold.reached.wait()
    bench.process.die()
    await bench.upstream.disconnected()
    hold.release()
    bench.process = bench.new_process()
    await bench.process.worker.start()
    await sweep(bench, bench.settings.lease + 1)
    assert (await bench.get(started.run)).status == "failed"
    assert await bench.texts() == ["hi"]
    assert len(bench.upstream.requests) == 1


async def test_a_run_that_has_cost_two_processes_their_lives_is_not_given_a_third(
    bench: Bench,
) -> None:
    """One whose question itself kills whoever asks it would take every process down in turn."""
    holds = [stall(), stall()]
    for hold in holds:
        bench.upstream.script(say(hold, "Never said"))
    started = await bench.start("hi")
    for hold in holds:
        await hold.reached.wait()
        bench.process.die()
        hold.release()
        bench.process = bench.new_process()
        await bench.process.worker.start()
        await sweep(bench, bench.settings.lease + 1)
    run = await bench.get(started.run)
    assert run.status == "failed"
    assert run.last_error is not None
    assert "stopped before the run was done" in run.last_error.message
    assert len(bench.upstream.requests) == 2


async def test_a_living_process_keeps_its_runs(bench: Bench) -> None:
    started, hold = await speaking(bench)
    other = bench.new_process()
    await other.worker.start()
    for _ in range(10):
        await bench.clock.sleeping(3)  # two sweepers, and the checkpoints
        bench.clock.advance(bench.settings.lease / 5)
    await bench.clock.sleeping(3)
    assert (await bench.get(started.run)).status == "in_progress"
    hold.release()
    await events(started.log)
    assert (await bench.get(started.run)).status == "completed"


async def test_a_cancel_that_reaches_another_process_stops_the_work(bench: Bench) -> None:
    started, hold = await speaking(bench)
    other = bench.new_process()
    await other.worker.start()
    answer = await other.runs.cancel(PROJECT, bench.thread_id, started.run.id)
    assert answer.status == "cancelling"
    await bench.clock.sleeping(3)
    bench.clock.advance(bench.settings.lease / 5)
    await events(started.log)
    assert (await bench.get(started.run)).status == "cancelled"
    assert await bench.texts() == ["hi", "Hel"]
    await bench.upstream.disconnected()
    hold.release()


async def test_outputs_may_reach_any_process(bench: Bench) -> None:
    bench.upstream.script(call("f", id="call_a"), say("Thanks"))
    started = await bench.start("hi", tools=[FUNCTION])
    await events(started.log)
    other = bench.new_process()
    await other.worker.start()
    resumed = await other.runs.submit(
        PROJECT, bench.thread_id, started.run.id, [ToolOutput(tool_call_id="call_a", output="x")]
    )
    await events(resumed.log)
    assert (await bench.texts())[-1] == "Thanks"


async def test_a_run_whose_worker_lost_the_store_is_settled_while_the_process_lives(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, hold = await speaking(bench)
    execution = bench.process.worker._executions.pop(started.run.id)
    assert execution._task is not None
    execution._task.cancel()  # as if its last write had failed: the row still says in_progress
    hold.release()
    for _ in range(2):
        await sweep(bench, bench.settings.lease / 5)
    run = await bench.database.read(runs.get, PROJECT, bench.thread_id, started.run.id)
    assert run.status == "failed"


async def test_on_postgresql_another_process_is_told_at_once(
    postgres_url: str, upstream: Upstream
) -> None:
    database = await Database.open(postgres_url)
    bench = Bench(database, upstream, ManualClock(), Settings())
    await bench.prepare()
    await bench.process.worker.start()
    started, hold = await speaking(bench)
    other = bench.new_process()
    await other.runs.cancel(PROJECT, bench.thread_id, started.run.id)
    await events(started.log)  # no clock has moved
    assert (await bench.get(started.run)).status == "cancelled"
    hold.release()
    for process in bench.processes:
        await process.stop()
    await database.close()


async def test_what_a_dead_process_of_this_host_held_is_settled_at_once(
    tmp_path: Path, upstream: Upstream
) -> None:
    url = f"sqlite:///{tmp_path / 'assistants.db'}"
    databases = [await Database.open(url) for _ in range(2)]
    bench = Bench(databases[0], upstream, ManualClock(), Settings())
    await bench.prepare()
    await bench.process.worker.start()
    started, hold = await speaking(bench)
    other = Process(databases[1], upstream, bench.clock, bench.settings)
    await other.worker.start()
    run = await other.runs.get(PROJECT, bench.thread_id, started.run.id)
    assert run.status == "in_progress", "its process lives"
    await other.stop()
    bench.process.die()
    os.close(databases[0].presence._held.pop(bench.process.worker.id))  # as the system does it
    again = Process(databases[1], upstream, bench.clock, bench.settings)
    await again.worker.start()
    run = await again.runs.get(PROJECT, bench.thread_id, started.run.id)
    assert run.status == "failed", "and no clock has moved"
    hold.release()
    await again.stop()
    await bench.process.provider.aclose()
    for database in databases:
        await database.close()
