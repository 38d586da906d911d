"""What the store takes from one process before the executing process hears of it."""

from __future__ import annotations

from tests.engine.bench import PROJECT, Bench, events, names
from tests.engine.test_endings import speaking
from tests.upstream import say, stall

from assistants_server.domain.drafts import RunExtensions
from assistants_server.domain.records import Message
from assistants_server.domain.run_events import ObjectEvent


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
