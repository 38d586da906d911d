"""A cancellation that the store takes before the executing process hears of it."""

from __future__ import annotations

from tests.engine.bench import PROJECT, Bench, names
from tests.upstream import say, stall


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
