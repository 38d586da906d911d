"""Some processes on one database, some clients, one model, one clock: all of it in one loop.

A synchronous test moves it: ``world.do(coroutine)`` runs the loop until that is done and leaves
everything else where it stands. Processes can die as by ``kill -9``: their connections break and
nothing more of them is stored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from tests.api.streams import frames
from tests.interleavings import snapshots, waiting
from tests.interleavings.plans import Model
from tests.interleavings.snapshots import Snapshot
from tests.interleavings.waiting import Waiting
from tests.live_server import BETA, LiveServer, live_server
from tests.manual_clock import ManualClock
from tests.upstream import Upstream
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from assistants_server.domain.run_state import TERMINAL
from assistants_server.engine.runs import _LOOK_AGAIN_SECONDS
from assistants_server.store.database import Database

T = TypeVar("T")

LEASE = 10.0
STEP = LEASE / 5  # a sweeper's period
LOOK = _LOOK_AGAIN_SECONDS
EXPIRY = 30
PATIENCE = 8.0  # seconds of real time after which something that must happen has not


class SweeperClock:
    """The shared clock, as one process sees it; counts how often its sweeper went to sleep, and
    how often a request that waits for a thread did."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.sweeps = 0
        self.looks = 0

    def now(self) -> float:
        return self._clock.now()

    async def sleep(self, seconds: float) -> None:
        if seconds == STEP:
            self.sweeps += 1
        if seconds == LOOK:
            self.looks += 1
        await self._clock.sleep(seconds)


class Process:
    """A server that can be stopped in order, or killed."""

    def __init__(self, server: LiveServer, clock: SweeperClock, stack: AsyncExitStack) -> None:
        self.server = server
        self.clock = clock
        self.http: httpx2.AsyncClient
        self.waiting: list[Waiting] = []
        self._stack = stack

    @property
    def worker(self) -> str:
        return self.server.state.worker.id

    async def stop(self) -> None:
        await self._stack.aclose()

    async def kill(self) -> None:
        for connection in list(self.server.connections.connections):
            if isinstance(connection, HttpToolsProtocol):
                connection.transport.abort()
        worker = self.server.state.worker
        for task in [*worker._tasks, *worker._side_tasks]:
            task.cancel()
        await self._stack.aclose()


class Stream:
    """A client that reads a run's events in the background."""

    def __init__(self, process: Process, thread_id: str) -> None:
        self.process = process
        self.thread_id = thread_id
        self.run_id: str | None = None
        self.cancels = False  # the run is to end when this client leaves
        self.events: list[tuple[str, Any]] = []
        self.status = 0
        self.answer: Any = None
        self.left = False
        self._answered = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self, path: str, body: dict[str, Any]) -> None:
        """Returns once the answer has begun."""
        self._task = asyncio.ensure_future(self._read(path, {**body, "stream": True}))
        await self._answered.wait()

    async def _read(self, path: str, body: dict[str, Any]) -> None:
        try:
            async with self.process.http.stream("POST", path, json=body) as response:
                self.status = response.status_code
                if self.status != 200:
                    await response.aread()
                    self.answer = response.json()
                    return
                async for name, data in frames(response):
                    self.events.append((name, data))
                    if isinstance(data, dict) and data.get("object") == "thread.run":
                        self.run_id = data["id"]
                        self._answered.set()
        except httpx2.TransportError:
            self.left = True  # the process died under it
        finally:
            self._answered.set()

    @property
    def reading(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def whole(self) -> bool:
        return bool(self.events) and self.events[-1][0] == "done"

    async def leave(self) -> None:
        self.left = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})


class World:
    def __init__(self, data: Path, database_url: str) -> None:
        self.model = Model()
        self.clock = ManualClock()
        self.processes: list[Process] = []
        self.streams: list[Stream] = []
        self.waiting: list[Waiting] = []  # all that were sent, in that order
        self.refused: dict[str, str] = {}  # models of which no run may come, and why
        self.thread_ids: list[str] = []
        self.dead: dict[str, float] = {}  # worker -> when it died
        self.assistant_id = ""
        self._data = data
        self._database_url = database_url
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self._before = Snapshot(frozenset(), {}, {}, {})

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(asyncio.wait_for(coroutine, PATIENCE))

    def open(self) -> None:
        self.do(self._open())

    def close(self) -> None:
        try:
            self.do(self._close())
        finally:
            self._loop.close()

    async def _open(self) -> None:
        self._upstream = await self._stack.enter_async_context(Upstream(default=self.model))
        self._database = await Database.open(self._database_url)
        self._stack.push_async_callback(self._database.close)
        process = await self.start()
        made = await process.http.post("/v1/assistants", json={"model": "m", "instructions": "x"})
        self.assistant_id = made.json()["id"]

    async def _close(self) -> None:
        await self.forget()
        for process in self.processes:
            await process.stop()
        await self._stack.aclose()

    # Processes

    async def start(self) -> Process:
        stack = AsyncExitStack()
        clock = SweeperClock(self.clock)
        server = await stack.enter_async_context(
            live_server(
                data=self._data,
                clock=clock,
                database_url=self._database_url,
                upstream_url=self._upstream.base_url,
                upstream_key="test",
                lease=LEASE,
                run_expiry=EXPIRY,
                drain=0,
            )
        )
        process = Process(server, clock, stack)
        process.http = await stack.enter_async_context(
            httpx2.AsyncClient(base_url=server.origin, headers=BETA, timeout=PATIENCE)
        )
        self.processes.append(process)
        return process

    async def end(self, process: Process, *, violently: bool) -> None:
        if not violently:
            for one in list(process.waiting):
                await self.hang_up(one)
        self.processes.remove(process)
        worker = process.worker
        await (process.kill() if violently else process.stop())
        self.dead[worker] = self.clock.now()

    async def advance(self) -> None:
        """A sweeper's period passes, and every sweeper sweeps."""
        counts = [(process.clock, process.clock.sweeps) for process in self.processes]
        self.clock.advance(STEP)
        await self.until(
            lambda: _true(all(clock.sweeps > count for clock, count in counts)), "every sweep"
        )

    # Clients

    async def stream(self, process: Process, thread_id: str, path: str, body: Any) -> Stream:
        stream = Stream(process, thread_id)
        await stream.open(path, body)
        if stream.status == 200:
            self.streams.append(stream)
        return stream

    async def queue(self, process: Process, thread_id: str, body: Any) -> Waiting:
        one = Waiting(process, thread_id, body)
        self.waiting.append(one)
        await one.send()
        return one

    async def hang_up(self, one: Waiting) -> None:
        """The client leaves; if there is no run by then, there will be none."""
        await one.leave()
        if one.run(await self.snapshot()) is None:
            self.refused[one.model] = "its client had left before it was its turn"

    async def look_again(self) -> None:
        """Whoever waits for a thread that another process has freed sees it by looking."""
        while True:
            now = await self.snapshot()
            free = [
                one for one in self.waiting if one.pending and now.active(one.thread_id) is None
            ]
            if not free:
                return
            looks = [(process.clock, process.clock.looks) for process in self.processes]
            self.clock.advance(LOOK)

            async def noticed(free: list[Waiting] = free, looks: Any = looks) -> bool:
                answered = not all(one.pending for one in free)
                return answered or any(clock.looks > count for clock, count in looks)

            await self.until(noticed, "a look at a thread that is free")

    async def forget(self) -> None:
        """A new beginning: every client leaves and every thread goes."""
        for one in self.waiting:
            await one.leave()
        self.waiting.clear()
        self.refused.clear()
        for stream in self.streams:
            await stream.leave()
        self.streams.clear()
        while len(self.processes) > 1:
            await self.end(self.processes[-1], violently=False)
        if not self.processes:
            await self.start()
        for thread_id in self.thread_ids:
            await self.processes[0].http.delete(f"/v1/threads/{thread_id}")
        self.thread_ids.clear()
        self.dead.clear()
        self._before = await self.snapshot()

    # Looking

    async def snapshot(self) -> Snapshot:
        return await self._database.read(snapshots.take, set(self.thread_ids))

    async def judge(self) -> Snapshot:
        """Everything that must hold after any move."""
        # Before the store is looked at: what was announced must be there.
        told = [event for stream in self.streams for event in stream.events]
        answered = [one for one in self.waiting if one.status]
        now = await self.snapshot()
        snapshots.judge(now, self._before)
        waiting.judge(self.waiting, answered, now, self.refused)
        for process in self.processes:
            process.server.traffic.check()
        for name, data in told:
            _judge_announced(name, data, now)
        self._before = now
        return now

    async def settle(self) -> Snapshot:
        """Wait until nothing can go on by itself, and see that everything has gone so far.

        What one process did to another's run is noticed at the owner's next sweep.
        """
        if len(self.processes) > 1 and not await self._is_settled():
            await self.advance()
        await self.until(self._is_settled, "everything that can go on by itself")
        while any(one.pending for one in self.waiting):
            told = sum(one.pending for one in self.waiting)
            await self.look_again()
            await self.until(self._is_settled, "everything that can go on by itself")
            if told == sum(one.pending for one in self.waiting):
                break
        return await self.judge()

    async def _is_settled(self) -> bool:
        now = await self.snapshot()
        living = {process.worker for process in self.processes}
        for run in now.runs.values():
            if run["status"] in TERMINAL:
                continue
            if run["expires_at"] <= self.clock.now():
                return False
            if run["status"] == "requires_action":
                continue
            if run["owner"] not in living:
                continue  # until its lease is over
            if run["status"] != "in_progress" or not self.model[run["model"]].holding:
                return False
        for stream in self.streams:
            followed = now.runs.get(stream.run_id or "")
            going_on = followed is not None and followed["status"] in ("queued", "in_progress")
            if stream.reading and not going_on:
                return False
        return True

    async def until(self, check: Callable[[], Awaitable[bool]], what: str) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE / 2
        while not await check():
            if loop.time() > end:
                runs = (await self.snapshot()).runs.values()
                shown = [(run["id"], run["status"], run["owner"]) for run in runs]
                raise AssertionError(f"waited in vain for {what}: {shown}")
            await asyncio.sleep(0)


async def _true(value: bool) -> bool:
    return value


def _judge_announced(name: str, data: Any, now: Snapshot) -> None:
    """Nothing is announced that is not stored."""
    if not isinstance(data, dict) or data.get("thread_id") not in now.threads:
        return
    status = data.get("status")
    if data["object"] == "thread.run":
        stored = now.runs[data["id"]]["status"]
        assert stored in snapshots.REACHABLE[str(status)], f"{name}, but it is {stored}"
    elif data["object"] == "thread.run.step" and status != "in_progress":
        assert now.steps[data["id"]]["status"] == status, f"{name} is not stored"
    elif data["object"] == "thread.message" and data["id"] in now.messages:
        stored = now.messages[data["id"]]["status"]
        assert status in ("in_progress", stored), f"{name}, but it is {stored}"
