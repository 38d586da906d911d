"""Whether the server may be sent requests, asked every few seconds by whatever spreads them."""

from __future__ import annotations

import asyncio

from ..clock import Clock
from ..errors import Unavailable
from ..store import readiness
from ..store.database import Database

READY_SECONDS = 2.0
"""Longer than that, and a load balancer is better off with another replica."""

WRITE_SECONDS = 10.0
"""How long a database that has taken a write is believed to take the next one. Those who ask may be
many, and ask all day: each of them need not cost the disk a write."""


class Readiness:
    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._wrote_at: float | None = None

    async def check(self) -> None:
        """Return if the database takes a transaction; after a failure it is one that writes.

        Raises:
            Unavailable: with the reason.
        """
        now = self._clock.now()
        by_writing = self._wrote_at is None or not 0 <= now - self._wrote_at < WRITE_SECONDS
        # In the lane of the writers: a database that can only be read serves nobody.
        looking = asyncio.ensure_future(
            self._database.write(readiness.check, by_writing=by_writing)
        )
        waiting = asyncio.ensure_future(self._clock.sleep(READY_SECONDS))
        try:
            await asyncio.wait({looking, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if not looking.done():
                raise Unavailable("The database does not answer in time.")
            await looking
        except Unavailable:
            self._wrote_at = None
            raise
        finally:
            looking.cancel()
            waiting.cancel()
        if by_writing:
            self._wrote_at = now
