"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class ManualClock:
    """``now()`` is what the test says; sleepers wake when :meth:`advance` passes them."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._slept = asyncio.Condition()

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        wake = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._numbers), wake))
        async with self._slept:
            self._slept.notify_all()
        await wake

    @property
    def sleepers(self) -> int:
        """How many are waiting for this clock."""
        return sum(not wake.done() for _, _, wake in self._sleepers)

    async def sleeping(self, count: int = 1) -> None:
        """Return once at least ``count`` wait for this clock."""
        async with self._slept:
            await self._slept.wait_for(lambda: self.sleepers >= count)

    def advance(self, seconds: float) -> None:
        """Let time pass: wakes every sleeper whose time has come, in order."""
        self._now += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, wake = heapq.heappop(self._sleepers)
            if not wake.done():
                wake.set_result(None)
