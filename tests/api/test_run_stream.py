"""The stream's own behaviour: batches, keep-alive, hang-ups, an end for every log."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from tests.manual_clock import ManualClock

from assistants_server.domain.records import Run
from assistants_server.domain.run_events import RunEvent, TextDelta
from assistants_server.engine.event_log import EventLog
from assistants_server.engine.runs import Runs, StartedRun
from assistants_server.routes.sse import KEEP_ALIVE_SECONDS, RunStream
from assistants_server.wire import stream

RUN = Run(
    id="run_1",
    project_id="p",
    thread_id="thread_1",
    assistant_id="asst_1",
    created_at=1,
    status="queued",
    model="m",
)


def delta(text: str) -> RunEvent:
    return TextDelta("msg_1", 0, text, opens=False)


class Abandoned:
    """Stands for ``Runs`` and keeps what was abandoned."""

    def __init__(self) -> None:
        self.runs: list[Run] = []

    async def abandon(self, run: Run) -> None:
        self.runs.append(run)


class Client:
    """The other end of a stream."""

    def __init__(self, log: EventLog) -> None:
        self.clock = ManualClock()
        self.abandoned = Abandoned()
        self.bodies: list[bytes] = []
        self.ended = False
        self._arrived = asyncio.Condition()
        self._gone = asyncio.Event()
        response = RunStream(
            StartedRun(RUN, log), runs=cast("Runs", self.abandoned), clock=self.clock
        )
        self.task = asyncio.ensure_future(response({"type": "http"}, self._receive, self._send))

    def hang_up(self) -> None:
        self._gone.set()

    async def arrived(self, count: int) -> None:
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.bodies) >= count)

    async def _receive(self) -> Any:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        assert not self.ended, "nothing is sent after the end"
        if message["type"] == "http.response.body":
            self.bodies.append(message["body"])
            self.ended = not message["more_body"]
            async with self._arrived:
                self._arrived.notify_all()


async def test_what_is_there_leaves_in_one_chunk() -> None:
    log = EventLog()
    log.append(delta("a"), delta("b"))
    log.append(delta("c"))
    client = Client(log)
    await client.arrived(1)
    assert client.bodies == [stream.render([delta("a"), delta("b"), delta("c")])]
    log.append(delta("d"))
    await client.arrived(2)
    log.close()
    await client.task
    assert client.bodies[1:] == [stream.render([delta("d")]), stream.DONE]
    assert client.ended
    assert client.abandoned.runs == []


async def test_a_quiet_stream_is_kept_alive() -> None:
    log = EventLog()
    client = Client(log)
    for count in (1, 2):
        await client.clock.sleeping()
        client.clock.advance(KEEP_ALIVE_SECONDS)
        await client.arrived(count)
        assert client.bodies[-1] == stream.KEEP_ALIVE
    await client.clock.sleeping()
    log.append(delta("a"))
    await client.arrived(3)
    client.clock.advance(KEEP_ALIVE_SECONDS)
    await client.clock.sleeping()
    assert client.bodies[-1] != stream.KEEP_ALIVE, "it was not quiet"
    log.close()
    await client.task


async def test_hanging_up_is_reported_at_once() -> None:
    log = EventLog()
    log.append(delta("a"))
    client = Client(log)
    await client.arrived(1)
    client.hang_up()
    await client.task
    assert client.abandoned.runs == [RUN]
    assert not client.ended
    log.append(delta("b"))
    assert len(client.bodies) == 1


async def test_leaving_after_the_end_is_no_hang_up() -> None:
    log = EventLog()
    log.close()
    client = Client(log)
    await client.task
    client.hang_up()
    assert client.abandoned.runs == []


async def test_a_stream_that_breaks_inside_says_so_and_ends() -> None:
    log = EventLog()
    log.append(cast("RunEvent", object()))
    client = Client(log)
    await client.task
    (last,) = client.bodies
    assert last.startswith(b"event: error\ndata: ")
    assert last.endswith(stream.DONE)
    assert client.abandoned.runs == []


async def test_two_clients_read_one_log_each_at_its_own_pace() -> None:
    log = EventLog()
    log.append(delta("a"))
    first = Client(log)
    await first.arrived(1)
    log.append(delta("b"))
    await first.arrived(2)
    second = Client(log)
    await second.arrived(1)
    assert second.bodies == [stream.render([delta("a"), delta("b")])]
    log.close()
    await asyncio.gather(first.task, second.task)
