"""Requests as bytes on a socket, for tests that stop in the middle of one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
from tests.live_server import LiveServer


class RawRequest:
    """One POST on a connection of its own, sent and read as far as a test wants."""

    def __init__(
        self,
        server: LiveServer,
        path: str,
        body: dict[str, Any],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._port = int(server.origin.rpartition(":")[2])
        self._body = orjson.dumps(body)
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nOpenAI-Beta: assistants=v2\r\n{more}"
            f"Content-Type: application/json\r\nContent-Length: {len(self._body)}\r\n\r\n"
        ).encode()

    async def begin(self) -> None:
        """Send all but the last byte."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(self._head + self._body[:-1])
        await self._writer.drain()

    async def finish(self) -> None:
        """Send the last byte."""
        self._writer.write(self._body[-1:])
        await self._writer.drain()

    async def until(self, words: str) -> str:
        """The answer up to these words."""
        return (await self._reader.readuntil(words.encode())).decode()

    async def status(self) -> int:
        return int((await self._reader.readline()).split()[1])

    def cut(self) -> None:
        """The connection is reset: nothing more leaves, nothing more arrives."""
        self._writer.transport.abort()
