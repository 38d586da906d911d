"""Requests that wait for a thread get their turn in the order of their arrival."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


class CallerLeft(Exception):
    """Whoever waited for the thread is gone; nothing was done for them."""


@dataclass(eq=False)
class _Line:
    """``head`` is held by the one whose turn it is."""

    head: asyncio.Lock = field(default_factory=asyncio.Lock)
    length: int = 0


class WaitingLines:
    """One line a thread, while somebody stands there."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def turn(self, thread_id: str, left: asyncio.Event) -> AsyncIterator[None]:
        """One's turn, held until the block ends.

        Raises:
            CallerLeft: ``left`` came first.
        """
        line = self._lines.setdefault(thread_id, _Line())
        line.length += 1
        try:
            await _reached(line.head, None if line.length == 1 else left)
            try:
                yield
            finally:
                line.head.release()
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[thread_id]


async def _reached(head: asyncio.Lock, left: asyncio.Event | None) -> None:
    """Hold ``head``; without anybody before us there is nothing to leave."""
    if left is None:
        await head.acquire()
        return
    turn = asyncio.ensure_future(head.acquire())
    leaving = asyncio.ensure_future(left.wait())
    held = False
    try:
        await asyncio.wait((turn, leaving), return_when=asyncio.FIRST_COMPLETED)
        held = turn.done() and not left.is_set()
    finally:
        leaving.cancel()
        if not held and not turn.cancel():  # too late to cancel: it is held all the same
            head.release()
    if not held:
        raise CallerLeft
