"""A TCP proxy that hands connections to the replicas in turn, and past those that are down."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Sequence


class Proxy:
    """``async with Proxy(ports) as proxy`` listens on ``proxy.port``."""

    def __init__(self, targets: Sequence[int]) -> None:
        self._targets = targets
        self._turn = itertools.count()
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._carry(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # a client or replica that is gone; its other half is closed below
        finally:
            writer.transport.abort()
            self._connections.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = next(self._turn)
        for number in range(len(self._targets)):
            port = self._targets[(first + number) % len(self._targets)]
            with contextlib.suppress(OSError):
                replica_reader, replica_writer = await asyncio.open_connection("127.0.0.1", port)
                break
        else:
            return
        ways = (
            asyncio.ensure_future(_pump(reader, replica_writer)),
            asyncio.ensure_future(_pump(replica_reader, writer)),
        )
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            replica_writer.transport.abort()
            await asyncio.gather(*ways, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
