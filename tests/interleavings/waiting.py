"""A request that waits for its thread (``if_active: "queue"``), while everything else goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import httpx2
from tests.interleavings.snapshots import Row, Snapshot

if TYPE_CHECKING:
    from tests.interleavings.world import Process


class Waiting:
    """One such request. ``model`` names its plan, and so the run that it asks for."""

    def __init__(self, process: Process, thread_id: str, body: dict[str, Any]) -> None:
        self.process = process
        self.thread_id = thread_id
        self.model: str = body["model"]
        self.status = 0
        self.answer: Any = None
        self.left = False
        self._body = {**body, "if_active": "queue"}
        self._served: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def send(self) -> None:
        """Returns once it is answered, or waits."""
        tasks = self.process.server.connections.tasks
        before, looks = set(tasks), self.process.clock.looks
        line = [one for one in self.process.waiting if one.thread_id == self.thread_id]
        self.process.waiting.append(self)
        self._task = asyncio.ensure_future(self._ask())
        while not self._task.done():
            self._served = tasks - before
            # Whoever stands behind another does not look; it has arrived when it is being served.
            if self._served and (line or self.process.clock.looks > looks):
                break
            await asyncio.sleep(0)

    async def _ask(self) -> None:
        path = f"/v1/threads/{self.thread_id}/runs"
        try:
            response = await self.process.http.post(path, json=self._body)
            self.status, self.answer = response.status_code, response.json()
        except httpx2.TransportError:
            self.left = True  # the process died under it
        finally:
            self.process.waiting.remove(self)

    @property
    def pending(self) -> bool:
        return self._task is not None and not self._task.done()

    async def leave(self) -> None:
        """Hang up; returns when the server has noticed."""
        if self._task is None:
            return
        self.left = self.left or self.pending
        self._task.cancel()
        await asyncio.wait({self._task})
        served = [task for task in self._served if not task.done()]
        if served:
            await asyncio.wait(served)

    def run(self, now: Snapshot) -> Row | None:
        """What came of it."""
        return next((run for run in now.runs.values() if run["model"] == self.model), None)


def judge(
    waiting: list[Waiting], answered: list[Waiting], now: Snapshot, refused: Mapping[str, str]
) -> None:
    """What must hold of all that were sent, those ``answered`` before the store was looked at.

    ``refused``: models of which no run may come.
    """
    for run in now.runs.values():
        assert run["model"] not in refused, f"{run['id']}: {refused[run['model']]}"
    order = {run["model"]: place for place, run in enumerate(now.runs.values())}
    for one in answered:
        if one.status == 404:
            assert one.thread_id not in now.threads, one.answer
        else:
            assert (one.status, one.answer["status"]) == (200, "queued"), one.answer
            assert one.thread_id not in now.threads or one.model in order
    for number, one in enumerate(waiting):
        for earlier in waiting[:number]:
            same = earlier.process is one.process and earlier.thread_id == one.thread_id
            if not same or earlier.left or one.thread_id not in now.threads:
                continue
            if one.model in order:
                assert earlier.model in order, "whoever came later was served first"
                assert order[earlier.model] < order[one.model], "whoever came later was first"
