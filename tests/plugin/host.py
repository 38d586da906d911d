"""The server of a random session."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from tests.live_server import LiveServer, live_server
from tests.upstream import Upstream


class Host:
    """The server, which may stop and start again under the same address."""

    def __init__(self, data: Path, upstream: Upstream) -> None:
        self._data = data
        self._upstream = upstream
        self._running: AsyncExitStack | None = None
        self._port = 0

    async def __aenter__(self) -> Host:
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._running is not None
        await self._running.aclose()

    async def _start(self) -> None:
        self._running = AsyncExitStack()
        self.server: LiveServer = await self._running.enter_async_context(
            live_server(
                data=self._data,
                upstream_url=self._upstream.base_url,
                upstream_key="test",
                port=self._port,
                drain=0,
            )
        )
        self._port = int(self.server.origin.rpartition(":")[2])

    async def restart(self) -> None:
        assert self._running is not None
        await self._running.aclose()
        await self._start()
