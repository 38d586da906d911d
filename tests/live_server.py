"""The server behind a real socket, in this process.

    async with live_server(data=tmp_path, upstream_url=upstream.base_url) as server:
        async with server.client() as client:
            thread = await client.beta.threads.create()

Leaving the block closes it the way a process ends: runs drain, connections close, the database is
closed. Every answer that it gave is held against the rules of the wire; one that broke them fails
the test there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
import uvicorn
from starlette.applications import Starlette
from tests.wire_rules.traffic import Traffic
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState as Connections

from assistants_server.app import create_app
from assistants_server.clock import Clock
from assistants_server.providers.contract import ModelProvider
from assistants_server.routes.state import ServerState
from assistants_server.settings import Settings
from assistants_server.tracing import Tracing

BETA = {"OpenAI-Beta": "assistants=v2"}


@dataclass(frozen=True)
class LiveServer:
    """A running server. ``state`` is what its routes work with."""

    origin: str
    settings: Settings
    app: Starlette
    connections: Connections
    traffic: Traffic

    @property
    def base_url(self) -> str:
        """What an SDK is given."""
        return self.origin + "/v1"

    @property
    def state(self) -> ServerState:
        state: ServerState = self.app.state.server
        return state

    def client(self, *, strict: bool = True, **options: Any) -> openai.AsyncOpenAI:
        """The official SDK. ``strict``: it checks every answer against its own types."""
        options = {"api_key": "test", "max_retries": 0, **options}
        return openai.AsyncOpenAI(
            base_url=self.base_url, _strict_response_validation=strict, **options
        )

    def http(self, headers: Mapping[str, str] = BETA) -> httpx2.AsyncClient:
        """Plain HTTP; paths begin with ``/v1``."""
        return httpx2.AsyncClient(
            base_url=self.origin,
            headers=dict(headers),
            timeout=30,
            verify=False,  # there is nothing to verify, and certificates take 30 ms to load
        )


@asynccontextmanager
async def live_server(
    *,
    data: Path,
    clock: Clock | None = None,
    provider: ModelProvider | None = None,
    tracing: Tracing | None = None,
    port: int = 0,
    **settings: Any,
) -> AsyncIterator[LiveServer]:
    """Serve on a free port of the loopback. ``settings`` are fields of ``Settings``."""
    # Nobody answers on the discard port; tests that need a model name one.
    known = Settings(data=data, **{"upstream_url": "http://127.0.0.1:9/v1", **settings})
    app = create_app(known, clock=clock, provider=provider, tracing=tracing)
    # uvicorn's protocol without its Server: that one polls, sleeps and takes the signals.
    traffic = Traffic(app)
    config = uvicorn.Config(
        traffic,
        http="httptools",
        interface="asgi3",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=60,
    )
    config.load()
    connections = Connections()
    async with app.router.lifespan_context(app):
        listener = await asyncio.get_running_loop().create_server(
            lambda: HttpToolsProtocol(config, connections, {}), "127.0.0.1", port
        )
        address = listener.sockets[0].getsockname()
        try:
            yield LiveServer(f"http://127.0.0.1:{address[1]}", known, app, connections, traffic)
        finally:
            listener.close()
            for connection in list(connections.connections):
                if isinstance(connection, HttpToolsProtocol):
                    connection.transport.abort()
            while connections.tasks:
                await asyncio.wait(connections.tasks)
            await listener.wait_closed()
    traffic.check()
