"""HTTP without parsing what comes back: an SDK's own work would be most of what is measured."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import orjson

BETA = "OpenAI-Beta: assistants=v2\r\n"


@dataclass(frozen=True)
class Reply:
    first: float
    """Seconds to the first text."""
    whole: float


async def ask(url: str, body: object, *, text: bytes) -> Reply:
    """One streamed POST on a connection of its own; ``text`` marks the first that counts.

    Raises:
        RuntimeError: the stream did not come to its end.
    """
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port, limit=2**20)
    writer.write(_request("POST", place.path, body, "Connection: close\r\n"))
    began = time.perf_counter()
    first, tail = None, b""
    try:
        while data := await reader.read(65536):
            tail = tail[-200:] + data
            if first is None and text in tail:
                first = time.perf_counter() - began
    finally:
        writer.close()
    if first is None or b"[DONE]" not in tail:
        raise RuntimeError(f"not a whole reply: {tail[-200:]!r}")
    return Reply(first, time.perf_counter() - began)


async def direct(url: str) -> Reply:
    """A reply of the model itself."""
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Go"}], "stream": True}
    return await ask(f"{url}/chat/completions", body, text=b'"content":"word')


async def through(url: str, assistant_id: str) -> Reply:
    """The same reply as a run on a thread that is made for it."""
    message = {"role": "user", "content": "Go"}
    body = {"assistant_id": assistant_id, "thread": {"messages": [message]}, "stream": True}
    return await ask(f"{url}/threads/runs", body, text=b"thread.message.delta")


class Connection:
    """A connection that is kept, for requests with JSON answers, one after the other."""

    def __init__(self, url: str) -> None:
        self._place = urlsplit(url)

    async def __aenter__(self) -> Connection:
        self._reader, self._writer = await asyncio.open_connection(
            self._place.hostname, self._place.port
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.close()

    async def send(self, method: str, path: str, body: object = None) -> bytes:
        """Returns the body of the answer.

        Raises:
            RuntimeError: it is none of 200.
        """
        self._writer.write(_request(method, self._place.path + path, body, ""))
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        content = await self._reader.readexactly(length)
        if b" 200 " not in head[:16]:
            raise RuntimeError(f"{head!r} {content!r}")
        return content

    async def made(self, path: str, body: object) -> str:
        """The id of what a POST made."""
        answer: dict[str, Any] = orjson.loads(await self.send("POST", path, body))
        identity: str = answer["id"]
        return identity


async def new_assistant(url: str) -> str:
    async with Connection(url) as connection:
        return await connection.made("/assistants", {"model": "gpt-4o"})


def _request(method: str, path: str, body: object, headers: str) -> bytes:
    content = b"" if body is None else orjson.dumps(body)
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"{BETA}{headers}Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content
