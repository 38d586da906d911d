"""How much one project may have under way, and that it is the only one to notice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from tests.engine.bench import PROJECT, Bench, events
from tests.manual_clock import ManualClock
from tests.upstream import Upstream, say, stall

from assistants_server import ids
from assistants_server.domain.drafts import RunExtensions, ThreadDraft
from assistants_server.engine.runs import StartedRun
from assistants_server.engine.waiting_lines import CallerLeft
from assistants_server.errors import NotFound, TooManyRequests
from assistants_server.settings import Settings
from assistants_server.store import assistants
from assistants_server.store.database import Database


@pytest.fixture
async def bench(database: Database, upstream: Upstream) -> AsyncIterator[Bench]:
    bench = Bench(database, upstream, ManualClock(), Settings(max_active_runs=2))
    await bench.prepare()
    await bench.process.worker.start()
    yield bench
    for process in bench.processes:
        await process.stop()


async def start_elsewhere(bench: Bench, project: str = PROJECT) -> StartedRun:
    """On a thread of its own."""
    assistant = replace(bench.assistant, id=ids.assistant_id(), project_id=project)
    await bench.database.write(assistants.insert, assistant)
    draft = replace(bench.draft(None), assistant_id=assistant.id)
    return await bench.runs.create_with_thread(project, ThreadDraft(), draft)


async def test_a_flood_is_refused_even_when_it_comes_all_at_once(bench: Bench) -> None:
    holds = [stall(), stall()]
    bench.upstream.script(*(hold + say("done") for hold in holds))
    flood = [start_elsewhere(bench) for _ in range(10)]
    outcomes = await asyncio.gather(*flood, return_exceptions=True)
    refused = [one for one in outcomes if isinstance(one, TooManyRequests)]
    started = [one for one in outcomes if isinstance(one, StartedRun)]
    assert (len(refused), len(started)) == (8, 2)
    assert refused[0].headers == {"Retry-After": "1"}

    bench.upstream.script(say("untouched"))
    other = await start_elsewhere(bench, project="another")
    await events(other.log)
    for hold in holds:
        hold.release()
    for run in started:
        await events(run.log)


async def test_room_is_given_back(bench: Bench) -> None:
    for _ in range(5):
        bench.upstream.script(say("done"))
        await events((await start_elsewhere(bench)).log)


async def test_waiting_for_a_thread_takes_room_too(bench: Bench) -> None:
    hold = stall()
    bench.upstream.script(say("Hel", hold, "lo"), say("then"))
    started = await bench.start("hi")
    queue = RunExtensions(if_active="queue", used=True)
    waiting = asyncio.create_task(bench.start("next", extensions=queue))
    await bench.clock.sleeping(3)  # sweeper, checkpoints, and the one in line
    with pytest.raises(TooManyRequests):
        await bench.start("too many", extensions=queue)
    waits_since = time.perf_counter()
    await bench.messages()
    waited = time.perf_counter() - waits_since
    hold.release()
    await events(started.log)
    await events((await waiting).log)
    measured = bench.process.worker.measurements
    assert measured.queue_seconds.sum > waited, "the queue's time is not that of the waiting"
    assert measured.first_token_seconds.sum > measured.queue_seconds.sum


async def test_whoever_asked_to_wait_for_a_thread_leaves_nothing_behind(bench: Bench) -> None:
    draft = bench.draft("hi", extensions=RunExtensions(if_active="queue", used=True))
    for thread_id in ("thread_that_is_not_there", "thread_that_is_not_there_either"):
        with pytest.raises(NotFound):
            await bench.runs.create(PROJECT, thread_id, draft)
    hold = stall()
    bench.upstream.script(hold + say("done"))
    running = await bench.start()
    left = asyncio.Event()
    waiting = asyncio.ensure_future(bench.runs.create(PROJECT, bench.thread_id, draft, left=left))
    while not bench.process.worker._freed:
        await asyncio.sleep(0)
    left.set()
    with pytest.raises(CallerLeft):
        await waiting
    assert not bench.process.worker._freed
    hold.release()
    await events(running.log)
