"""Raw streams: the frames of a run as (event, data), as they arrive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import orjson

Frame = tuple[str, Any]


async def frames(response: httpx2.Response) -> AsyncIterator[Frame]:
    """Every frame; ``data`` is parsed, but for the last one's ``[DONE]``. Comments are left out."""
    name = ""
    async for line in response.aiter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            data = line.removeprefix("data: ")
            yield name, data if data == "[DONE]" else orjson.loads(data)


@asynccontextmanager
async def streaming(
    http: httpx2.AsyncClient, path: str, body: dict[str, Any]
) -> AsyncIterator[httpx2.Response]:
    """POST with ``stream: true``; the answer is an open stream."""
    async with http.stream("POST", path, json={**body, "stream": True}) as response:
        assert response.status_code == 200, (await response.aread()).decode()
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        yield response


async def played(http: httpx2.AsyncClient, path: str, body: dict[str, Any]) -> list[Frame]:
    """The whole stream."""
    async with streaming(http, path, body) as response:
        return [frame async for frame in frames(response)]


def names(played: list[Frame]) -> list[str]:
    return [name for name, _ in played]
