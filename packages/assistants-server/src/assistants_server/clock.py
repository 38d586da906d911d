"""Time as a dependency. Leases, expiry and timestamps come from here and from nowhere else.

Tests move their own clock by hand; nothing in the product calls ``time.time()`` or
``asyncio.sleep()`` for a duration that a promise depends on.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What the server needs to know of time."""

    def now(self) -> float:
        """Unix time in seconds."""

    async def sleep(self, seconds: float) -> None:
        """Return after ``seconds`` of this clock's time."""


class SystemClock:
    """The machine's own time."""

    def now(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
