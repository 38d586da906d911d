"""What the store takes from one process before the executing process hears of it."""

from __future__ import annotations

from dataclasses import replace

from tests.engine.bench import PROJECT, Bench, events, eventually, names
from tests.engine.test_endings import FUNCTION, speaking
from tests.engine.test_processes import sweep
from tests.upstream import call, say, stall

from assistants_server.domain.drafts import RunExtensions, ToolOutput
from assistants_server.domain.records import Message, Run
from assistants_server.domain.run_events import ObjectEvent, StreamFault
from assistants_server.store import runs


async def test_a_write_that_a_cancellation_overtook_ends_the_run_cancelled(bench: Bench) -> None:
    hold = stall()
    bench.upstream.script(hold + say("too late"))
    started = await bench.start("hi")
    await hold.reached.wait()
    # Another process receives the cancellation, and no clock moves: nobody tells the first one.
    answer = await bench.new_process().runs.cancel(PROJECT, bench.thread_id, started.run.id)
    assert answer.status == "cancelling"
    hold.release()
    assert (await names(started.log))[-2:] == ["run.cancelling", "run.cancelled"]
    assert (await bench.get(started.run)).status == "cancelled", "not only once its lease is over"
    assert await bench.texts() == ["hi"]


async def test_a_message_has_its_first_words_whoever_ends_its_run(bench: Bench) -> None:
    started, hold = await speaking(bench)
    other = bench.new_process()
    draft = bench.draft("stop", extensions=RunExtensions(if_active="supersede", used=True))
    bench.upstream.script(say("Yes?"))
    second = await other.runs.create(PROJECT, bench.thread_id, draft)
    hold.release()
    told = await events(started.log)
    await events(second.log)
    (message,) = [
        event.record
        for event in told
        if isinstance(event, ObjectEvent) and event.name == "message.incomplete"
    ]
    # The SDK's handlers look up every block that they saw a delta of, and fail on a missing one.
    assert isinstance(message, Message)
    assert [block["text"]["value"] for block in message.content] == ["Hel"]
    assert await bench.texts() == ["hi", "Hel", "stop", "Yes?"]


async def test_an_execution_that_was_overtaken_does_not_write_when_its_process_gets_the_run_back(
    bench: Bench,
) -> None:
    frozen = bench.new_process()  # its sweeper does not run: it renews nothing, and hears nothing
    stale, fresh = stall(), stall()
    bench.upstream.script(stale + say("Too late"), call("f", id="call_a"), fresh + say("Right"))
    draft = bench.draft("hi", tools=[FUNCTION])
    started = await frozen.runs.create(PROJECT, bench.thread_id, draft)
    await stale.reached.wait()
    await sweep(bench, bench.settings.lease + 1)
    run = started.run
    await eventually(lambda: _waits(bench, run))
    # It wakes up, and its first request is the client's answer to what the other process asked.
    output = ToolOutput(tool_call_id="call_a", output="x")
    resumed = await frozen.runs.submit(PROJECT, bench.thread_id, run.id, [output])
    await fresh.reached.wait()
    earlier = replace(await bench.get(run), turns=0)
    assert not await bench.database.write(runs.hold, earlier), "not even what is on its way already"
    stale.release()
    assert isinstance((await events(started.log))[-1], StreamFault)
    fresh.release()
    assert (await names(resumed.log))[-1] == "run.completed"
    assert await bench.texts() == ["hi", "Right"]


async def _waits(bench: Bench, run: Run) -> bool:
    return (await bench.get(run)).status == "requires_action"
