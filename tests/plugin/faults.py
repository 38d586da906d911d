"""A wire on which one request goes wrong."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import httpx2
from tests.plugin.agents import CountingTransport
from tests.plugin.moves import Fault
from tests.upstream import Stall, stall

RUNNING = ("/runs", "/submit_tool_outputs")
Happening = Callable[[], Coroutine[Any, Any, None]]


class FaultyWire(CountingTransport):
    """``at_event`` is called, once, before an event of a stream reaches the client; ``happenings``
    are what a fault can cause elsewhere. ``dead``: nothing passes any more."""

    def __init__(self) -> None:
        super().__init__()
        self.fault: Fault | None = None
        self.happenings: dict[str, Happening] = {}
        self.at_event: tuple[str, Happening] | None = None
        self.late: list[Callable[[httpx2.AsyncClient], Awaitable[httpx2.Response]]] = []
        self.dead = False
        self._seen = 0
        self._under_way: set[asyncio.Task[None]] = set()

    def arm(self, fault: Fault | None) -> None:
        self.fault, self._seen = fault, 0

    def hold_up(self, moment: str) -> Stall:
        """The next request that runs the model, "on its way" or its answer "on the way back"."""
        hold = stall()

        async def wait(request: httpx2.Request) -> None:
            if request.method == "POST" and request.url.path.endswith(RUNNING):
                self.departing = self.answered = None
                await hold()

        if moment == "on its way":
            self.departing = wait
        else:
            self.answered = wait
        return hold

    async def calm(self) -> None:
        """Nothing more goes wrong, and what has begun to happen is over."""
        self.fault = self.at_event = self.departing = self.answered = None
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self.dead:
            raise httpx2.ConnectError("the process is dead", request=request)
        fault = self._due(request)
        if fault is None:
            response = await super().handle_async_request(request)
        elif fault.kind == "refused":
            raise httpx2.ConnectError("refused", request=request)
        elif fault.kind == "late":
            self.late.append(functools.partial(_send_again, request))
            raise httpx2.ReadError("the line is dead", request=request)
        elif fault.kind.isdigit():
            body = {"error": {"message": "Somebody on the way says no.", "type": "gateway"}}
            return httpx2.Response(int(fault.kind), json=body, request=request)
        else:
            response = await super().handle_async_request(request)
            if not _is_stream(response) or fault.kind == "lost":
                await response.aread()
                return httpx2.Response(502, text="lost", request=request)
            self._trip(response, fault.at, functools.partial(self._break, fault))
        if _is_stream(response):
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.stream = _Mortal(response.stream, self)
            if self.at_event is not None:
                event, happening = self.at_event
                self._trip(response, event, functools.partial(self._happen, happening))
        return response

    def _due(self, request: httpx2.Request) -> Fault | None:
        if self.fault is None or "/threads" not in request.url.path:
            return None
        self._seen += 1
        if self._seen <= self.fault.request:
            return None
        fault, self.fault = self.fault, None
        return fault

    async def _break(self, fault: Fault) -> None:
        if (happening := self.happenings.get(fault.kind)) is not None:
            # It goes on even if whoever reads the stream is interrupted meanwhile.
            task = asyncio.ensure_future(happening())
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            await asyncio.shield(task)
            return
        if fault.kind == "hang":
            raise httpx2.ReadTimeout("silence")
        raise httpx2.ReadError("the line is dead")

    async def _happen(self, happening: Happening) -> None:
        if self.at_event is not None:
            self.at_event = None
            await happening()

    @staticmethod
    def _trip(response: httpx2.Response, event: str, happening: Happening) -> None:
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Tripwire(response.stream, f"event: {event}\n".encode(), happening)


class _Tripwire(httpx2.AsyncByteStream):
    """Something happens, once, before a body says ``until``."""

    def __init__(self, inner: httpx2.AsyncByteStream, until: bytes, happening: Happening) -> None:
        self._inner = inner
        self._until = until
        self._happening: Happening | None = happening

    async def __aiter__(self) -> AsyncIterator[bytes]:
        seen = b""
        async for chunk in self._inner:
            before = len(seen)
            seen += chunk
            place = seen.find(self._until)
            if place < 0 or self._happening is None:
                yield chunk
                continue
            head = max(0, place - before)
            yield chunk[:head]
            happening, self._happening = self._happening, None
            await happening()
            yield chunk[head:]

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Mortal(httpx2.AsyncByteStream):
    """A body that is not read any more once its reader is dead."""

    def __init__(self, inner: httpx2.AsyncByteStream, wire: FaultyWire) -> None:
        self._inner = inner
        self._wire = wire

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._inner:
            if self._wire.dead:
                raise httpx2.ReadError("the process is dead")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


def _is_stream(response: httpx2.Response) -> bool:
    return response.headers.get("content-type", "").startswith("text/event-stream")


async def _send_again(request: httpx2.Request, client: httpx2.AsyncClient) -> httpx2.Response:
    headers = {
        name: value
        for name, value in request.headers.items()
        if name.lower() not in ("host", "content-length", "connection")
    }
    return await client.request(
        request.method, str(request.url), content=request.content, headers=headers
    )
