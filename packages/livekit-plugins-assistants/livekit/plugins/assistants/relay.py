"""Events on their way from a request that goes on by itself to whoever still listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Generic, TypeVar

T = TypeVar("T")


class Relay(Generic[T]):
    """One puts, ends or fails; one other listens, for as long as it likes."""

    def __init__(self) -> None:
        self._arrived: asyncio.Queue[T | Exception | None] = asyncio.Queue()

    def put(self, event: T) -> None:
        self._arrived.put_nowait(event)

    def end(self, failure: Exception | None = None) -> None:
        self._arrived.put_nowait(failure)

    async def begun(self) -> AsyncGenerator[T, None]:
        """The events, once the first is there. Raises the failure, if that comes first."""
        first = await self._arrived.get()
        if isinstance(first, Exception):
            raise first
        return self._from(first)

    async def _from(self, event: T | Exception | None) -> AsyncGenerator[T, None]:
        while event is not None:
            if isinstance(event, Exception):
                raise event
            yield event
            event = await self._arrived.get()
