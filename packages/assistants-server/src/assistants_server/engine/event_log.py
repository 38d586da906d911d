"""One run's events in order. The worker appends, streams follow; neither waits for the other.

A stream that reads slowly, or stops, holds nothing up: it has its own place in the log. The log
lives as long as somebody holds it and is at most one run's answer long.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from ..domain.run_events import RunEvent


class Followed(Protocol):
    """A run's events from the first to the last, in batches."""

    def follow(self) -> AsyncIterator[Sequence[RunEvent]]: ...


class EventLog:
    """Append after commit, follow from the beginning, close at the end."""

    def __init__(self) -> None:
        self._events: list[RunEvent] = []
        self._closed = False
        self._waiting: list[asyncio.Future[None]] = []

    def append(self, *events: RunEvent) -> None:
        self._events.extend(events)
        self._wake()

    def close(self) -> None:
        """Nothing will follow. Idempotent."""
        self._closed = True
        self._wake()

    @property
    def first(self) -> RunEvent | None:
        """What the log begins with."""
        return self._events[0] if self._events else None

    async def follow(self) -> AsyncIterator[Sequence[RunEvent]]:
        """All events from the first to the last; what is there already comes in one batch."""
        place = 0
        while True:
            if place < len(self._events):
                batch = self._events[place:]
                place += len(batch)
                yield batch
            elif self._closed:
                return
            else:
                grown = asyncio.get_running_loop().create_future()
                self._waiting.append(grown)
                await grown

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for grown in waiting:
            if not grown.done():
                grown.set_result(None)
