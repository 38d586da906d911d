"""One run's events in order. The worker appends, streams follow; neither waits for the other.

A stream that reads slowly, or stops, holds nothing up: it has its own place in the log. The log
lives as long as somebody holds it, and keeps the newest events only: a stream that falls behind
further than that is told so and ends, and finds what it missed in the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from ..domain.run_events import CallDelta, RefusalDelta, RunEvent, StreamFault, TextDelta

MOST_EVENTS = 32_768
MOST_TEXT = 8 * 1024 * 1024
"""What a log keeps, in events and in characters of their deltas. An ordinary answer is far below
both, so that it can be followed from its beginning at any time."""

_BATCH = 512  # events handed over at once, so that a reader who is behind costs one batch

TOO_SLOW = StreamFault(
    "This stream was read too slowly; retrieve the run and its messages instead."
)


class Followed(Protocol):
    """A run's events from the first to the last, in batches."""

    def follow(self) -> AsyncIterator[Sequence[RunEvent]]: ...


class EventLog:
    """Append after commit, follow from the beginning, close at the end."""

    def __init__(self) -> None:
        self._events: list[RunEvent] = []
        self._dropped = 0
        self._text = 0
        self._closed = False
        self._waiting: list[asyncio.Future[None]] = []

    def append(self, *events: RunEvent) -> None:
        self._events.extend(events)
        self._text += sum(map(_length, events))
        if len(self._events) > MOST_EVENTS or self._text > MOST_TEXT:
            self._drop()
        self._wake()

    def close(self) -> None:
        """Nothing will follow. Idempotent."""
        self._closed = True
        self._wake()

    @property
    def first(self) -> RunEvent | None:
        """What the log begins with, while it has its beginning."""
        return self._events[0] if self._events and not self._dropped else None

    async def follow(self) -> AsyncIterator[Sequence[RunEvent]]:
        """All events from the first to the last; what is there already comes in large batches."""
        place = 0
        while True:
            if place < self._dropped:
                yield [TOO_SLOW]
                return
            begin = place - self._dropped
            if begin < len(self._events):
                batch = self._events[begin : begin + _BATCH]
                place += len(batch)
                yield batch
            elif self._closed:
                return
            else:
                grown = asyncio.get_running_loop().create_future()
                self._waiting.append(grown)
                await grown

    def _drop(self) -> None:
        """The older half, which in a log of this length all but the slowest have read."""
        while len(self._events) > 1:
            half = len(self._events) // 2
            self._text -= sum(map(_length, self._events[:half]))
            self._dropped += half
            del self._events[:half]
            if self._text <= MOST_TEXT:
                return

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for grown in waiting:
            if not grown.done():
                grown.set_result(None)


def _length(event: RunEvent) -> int:
    if isinstance(event, (TextDelta, RefusalDelta)):
        return len(event.text)
    return len(event.arguments) if isinstance(event, CallDelta) else 0
