"""Whoever ends a run, it ends once, cleanly, and frees its thread."""

from __future__ import annotations

import asyncio

import pytest
from tests.engine.bench import PROJECT, Bench, events, names
from tests.upstream import Stall, call, say, stall

from assistants_server import errors
from assistants_server.domain.drafts import EndRun, RunExtensions, ToolOutput
from assistants_server.engine.runs import StartedRun
from assistants_server.store import runs

FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


async def speaking(bench: Bench, **fields: object) -> tuple[StartedRun, Stall]:
    """A run that has said "Hel" and will say "lo" once the stall is released."""
    hold = stall()
    bench.upstream.script(say("Hel", hold, "lo"))
    started = await bench.start("hi", **fields)
    await hold.reached.wait()
    await said(started, "message.in_progress")
    return started, hold


async def announced(started: StartedRun, name: str) -> None:
    """Wait until the run has announced this."""
    async for batch in started.log.follow():
        if any(getattr(event, "name", None) == name for event in batch):
            return


async def said(started: StartedRun, name: str) -> None:
    """Wait until the run has announced this and its first delta."""
    found = False
    async for batch in started.log.follow():
        for event in batch:
            if found:
                return
            found = getattr(event, "name", None) == name


async def test_cancel_in_mid_stream_closes_the_upstream_and_keeps_the_text(bench: Bench) -> None:
    started, hold = await speaking(bench)
    answer = await bench.runs.cancel(PROJECT, bench.thread_id, started.run.id)
    assert answer.status == "cancelling"
    assert (await names(started.log))[-5:] == [
        "TextDelta",
        "run.cancelling",
        "message.incomplete",
        "run.step.cancelled",
        "run.cancelled",
    ]
    await bench.upstream.disconnected()
    run = await bench.get(started.run)
    assert (run.status, run.cancelled_at, run.expires_at) == ("cancelled", 1_700_000_000, None)
    reply = (await bench.messages())[-1]
    assert (reply.status, reply.incomplete_reason) == ("incomplete", "run_cancelled")
    assert await bench.texts() == ["hi", "Hel"]
    hold.release()


async def test_cancel_before_the_first_word_leaves_no_message(bench: Bench) -> None:
    hold = stall()
    bench.upstream.script(hold + say("late"))
    started = await bench.start("hi")
    await hold.reached.wait()
    await announced(started, "run.in_progress")
    await bench.runs.cancel(PROJECT, bench.thread_id, started.run.id)
    assert (await names(started.log))[-3:] == [
        "run.in_progress",
        "run.cancelling",
        "run.cancelled",
    ]
    await bench.upstream.disconnected()
    hold.release()
    assert await bench.texts() == ["hi"]


async def test_cancel_while_waiting_for_outputs_is_done_at_once(bench: Bench) -> None:
    bench.upstream.script(call("f", id="call_a"))
    started = await bench.start(tools=[FUNCTION])
    await events(started.log)
    answer = await bench.runs.cancel(PROJECT, bench.thread_id, started.run.id)
    assert answer.status == "cancelling"
    assert (await bench.get(started.run)).status == "cancelled"
    (step,) = await bench.steps(started.run)
    assert (step.status, step.cancelled_at) == ("cancelled", 1_700_000_000)
    with pytest.raises(errors.BadRequest, match='Runs in status "cancelled" do not accept'):
        await bench.runs.submit(
            PROJECT,
            bench.thread_id,
            started.run.id,
            [ToolOutput(tool_call_id="call_a", output="x")],
        )


async def test_a_second_cancel_is_refused(bench: Bench) -> None:
    started, hold = await speaking(bench)
    await bench.runs.cancel(PROJECT, bench.thread_id, started.run.id)
    await events(started.log)
    with pytest.raises(errors.BadRequest, match="Cannot cancel run with status 'cancelled'"):
        await bench.runs.cancel(PROJECT, bench.thread_id, started.run.id)
    hold.release()


async def test_a_run_ended_by_the_next_request_stops_and_tells_its_stream(bench: Bench) -> None:
    started, hold = await speaking(bench, extensions=RunExtensions(run_key="one", used=True))
    bench.upstream.script(say("Sure"))
    following = await bench.start(
        "stop", extensions=RunExtensions(end_runs=[EndRun(run_key="one")], used=True)
    )
    assert (await names(started.log))[-3:] == [
        "message.incomplete",
        "run.step.cancelled",
        "run.cancelled",
    ]
    await bench.upstream.disconnected()
    hold.release()
    await events(following.log)
    assert await bench.texts() == ["hi", "Hel", "stop", "Sure"]


async def test_waiting_requests_get_the_thread_in_the_order_they_came(bench: Bench) -> None:
    started, hold = await speaking(bench)
    queue = RunExtensions(if_active="queue", used=True)
    bench.upstream.script(say("A1"), say("B1"))
    first = asyncio.create_task(bench.start("A", extensions=queue))
    await bench.clock.sleeping(3)  # sweeper, checkpoints, and the first in line
    second = asyncio.create_task(bench.start("B", extensions=queue))
    hold.release()
    await events((await first).log)
    await events((await second).log)
    assert await bench.texts() == ["hi", "Hello", "A", "A1", "B", "B1"]
    await events(started.log)


async def test_an_unanswered_run_expires_without_traffic(bench: Bench) -> None:
    bench.upstream.script(call("f", id="call_a"))
    started = await bench.start(tools=[FUNCTION])
    await events(started.log)
    await bench.clock.sleeping()
    bench.clock.advance(bench.settings.run_expiry)
    await bench.clock.sleeping()  # the sweep is over
    run = await bench.database.read(runs.get, PROJECT, bench.thread_id, started.run.id)
    assert (run.status, run.expires_at) == ("expired", 1_700_000_600)
    (step,) = await bench.steps(run)
    assert (step.status, step.expired_at) == ("expired", 1_700_000_600)


async def test_an_overdue_run_is_shown_expired_before_any_sweep(bench: Bench) -> None:
    bench.upstream.script(call("f", id="call_a"))
    started = await bench.start(tools=[FUNCTION])
    await events(started.log)
    bench.clock._now += bench.settings.run_expiry  # no sleeper wakes
    assert (await bench.get(started.run)).status == "expired"


async def test_a_run_that_speaks_too_long_expires_with_its_text(bench: Bench) -> None:
    started, hold = await speaking(bench)
    await bench.clock.sleeping()
    bench.clock.advance(bench.settings.run_expiry)
    assert (await names(started.log))[-3:] == [
        "message.incomplete",
        "run.step.expired",
        "run.expired",
    ]
    assert (await bench.messages())[-1].incomplete_reason == "run_expired"
    hold.release()


async def test_deleting_the_thread_drops_its_run(bench: Bench) -> None:
    started, hold = await speaking(bench)
    await bench.runs.delete_thread(PROJECT, bench.thread_id)
    await bench.upstream.disconnected()
    assert (await names(started.log))[-1] == "StreamFault"
    with pytest.raises(errors.NotFound):
        await bench.get(started.run)
    hold.release()


async def test_a_reader_that_leaves_ends_only_a_run_that_asked_for_it(bench: Bench) -> None:
    started, hold = await speaking(bench)
    await bench.runs.abandon(started.run)
    hold.release()
    await events(started.log)
    assert (await bench.get(started.run)).status == "completed"
    other, hold = await speaking(bench, extensions=RunExtensions(on_disconnect="cancel", used=True))
    await bench.runs.abandon(other.run)
    await events(other.log)
    assert (await bench.get(other.run)).status == "cancelled"
    hold.release()


async def test_drain_lets_a_run_end_and_fails_one_that_does_not(bench: Bench) -> None:
    started, hold = await speaking(bench)
    draining = asyncio.create_task(bench.process.worker.drain(60))
    await asyncio.sleep(0)
    with pytest.raises(errors.Unavailable):
        await bench.start("too late")
    hold.release()
    await draining
    assert (await bench.get(started.run)).status == "completed"
    bench.process = bench.new_process()
    await bench.process.worker.start()
    stuck, hold = await speaking(bench)
    await bench.process.worker.drain(0)
    run = await bench.get(stuck.run)
    assert run.status == "failed"
    assert run.last_error is not None
    assert "shut down" in run.last_error.message
    assert await bench.texts() == ["hi", "Hello", "hi", "Hel"]
    hold.release()


async def test_drain_waits_for_a_run_that_is_being_created(bench: Bench) -> None:
    bench.upstream.script(say("Hello"))
    creating = asyncio.create_task(bench.start("hi"))
    await asyncio.sleep(0)  # its transaction is under way
    await bench.process.worker.drain(60)
    assert (await bench.get((await creating).run)).status == "completed"
    assert await bench.texts() == ["hi", "Hello"]
