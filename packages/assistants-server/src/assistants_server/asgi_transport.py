"""An httpx2 transport that calls an ASGI app in this event loop and streams its answer.

The stock ``ASGITransport`` hands over a response when its whole body is there, which makes a stream
of tokens useless. This one behaves like a server behind a socket, as uvicorn does it (ASGI spec
2.3): bytes arrive as they are sent, a slow reader holds up the sender, closing the response early
tells the app ``http.disconnect`` at once, and what the app raises is an error of the connection.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, cast

import httpx2

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)

HIGH_WATER = 64 * 1024
"""Unread bytes above which ``send`` waits for the reader (uvicorn's figure)."""


class StreamingASGITransport(httpx2.AsyncBaseTransport):
    """Sends requests to ``app``; owns the task of each until the app is done with it.

    ``state`` is what the app's lifespan left there; every request gets a copy.
    """

    def __init__(self, app: App, *, state: Message | None = None) -> None:
        self._app = app
        self._state = state
        self._exchanges: dict[asyncio.Task[None], _Exchange] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        exchange = _Exchange(request)
        task = start_detached(exchange.serve(self._app, _scope(request, self._state)))
        self._exchanges[task] = exchange
        task.add_done_callback(self._exchanges.pop)
        try:
            status, headers = await exchange.head()
        except BaseException:
            exchange.disconnect()
            raise
        return httpx2.Response(status, headers=headers, stream=_Body(exchange))

    async def aclose(self, grace: float = 5.0) -> None:
        """Disconnect what is open and wait for the app; after ``grace`` seconds it is cancelled."""
        for exchange in self._exchanges.values():
            exchange.disconnect()
        if self._exchanges:
            _, late = await asyncio.wait(set(self._exchanges), timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


def start_detached(coroutine: Any) -> asyncio.Task[None]:
    """A task without the caller's context variables, as code behind a socket would run."""
    create = asyncio.get_running_loop().create_task
    return contextvars.Context().run(create, coroutine)


def _scope(request: httpx2.Request, state: Message | None) -> Message:
    scope: Message = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.split(b"?")[0],
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": (request.url.host, request.url.port or 80),
        "client": ("127.0.0.1", 0),
    }
    if state is not None:
        scope["state"] = dict(state)
    return scope


class _Exchange:
    """One request and its answer: ``receive`` and ``send`` for the app, the reader's ends of both.

    Everything happens in one event loop, so that state between two awaits is consistent.
    """

    def __init__(self, request: httpx2.Request) -> None:
        self._request = request
        self._read_timeout: float | None = request.extensions.get("timeout", {}).get("read")
        self._upload: AsyncIterator[bytes] | None = None
        self._pull: asyncio.Future[bytes | None] | None = None
        self._uploaded = False
        self._head: tuple[int, list[tuple[bytes, bytes]]] | None = None
        self._chunks: list[bytes] = []
        self._unread = 0
        self._complete = False
        self._failure: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._drained = asyncio.Event()
        self._over = asyncio.Event()  # the answer is complete, or nobody reads it any more

    # The app's ends.

    async def serve(self, app: App, scope: Message) -> None:
        cause: Exception | None = None
        try:
            await app(scope, self._receive, self._send)
        except Exception as error:
            # The text may quote a conversation; the kind of error does not.
            logger.error("Exception in ASGI application: %s", type(error).__name__)
            logger.debug("Exception in ASGI application", exc_info=error)
            cause = error
        finally:
            if not self._complete and self._failure is None:
                self._failure = httpx2.RemoteProtocolError(
                    "The app ended without finishing its answer.", request=self._request
                )
                self._failure.__cause__ = cause
            self._over.set()
            self._wake()

    async def _receive(self) -> Message:
        if self._uploaded or self._over.is_set():
            await self._over.wait()
            return {"type": "http.disconnect"}
        try:
            body = self._request.content
        except httpx2.RequestNotRead:
            return await self._receive_upload()
        self._uploaded = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def _receive_upload(self) -> Message:
        if self._upload is None:
            self._upload = aiter(cast("AsyncIterable[bytes]", self._request.stream))
        self._pull = pull = asyncio.ensure_future(anext(self._upload, None))
        try:
            await asyncio.wait({pull})
        finally:
            pull.cancel()
        if pull.cancelled():
            return {"type": "http.disconnect"}
        error = pull.exception()
        if error is not None:
            self._failure = cast("Exception", error)
            self.disconnect()
            self._wake()
            return {"type": "http.disconnect"}
        body = pull.result()
        self._uploaded = body is None
        return {"type": "http.request", "body": body or b"", "more_body": not self._uploaded}

    async def _send(self, message: Message) -> None:
        if self._over.is_set():
            await asyncio.sleep(0)  # dropped, as uvicorn does, but an endless sender must not spin
            return
        if message["type"] == "http.response.start":
            self._head = (message["status"], list(message.get("headers", ())))
        elif message["type"] == "http.response.body":
            body = message.get("body", b"")
            if body and self._request.method != "HEAD":
                self._chunks.append(bytes(body))
                self._unread += len(body)
            if not message.get("more_body", False):
                self._complete = True
                self._over.set()
        self._wake()
        while self._unread > HIGH_WATER and not self._over.is_set():
            self._drained.clear()
            await self._drained.wait()

    # The reader's ends.

    async def head(self) -> tuple[int, list[tuple[bytes, bytes]]]:
        while self._head is None:
            await self._more()
        return self._head

    async def read(self) -> bytes:
        """What has arrived since the last call, together; empty at the end of the answer."""
        while not self._chunks:
            if self._complete:
                return b""
            await self._more()
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._unread = 0
        self._drained.set()
        return data

    def disconnect(self) -> None:
        """Nobody reads any more. Returns at once; the app learns it in its next loop cycle."""
        self._over.set()
        self._drained.set()
        if self._pull is not None:
            self._pull.cancel()

    async def _more(self) -> None:
        if self._failure is not None:
            raise self._failure
        loop = asyncio.get_running_loop()
        self._reader = reader = loop.create_future()
        timer = None
        if self._read_timeout is not None:
            timer = loop.call_later(self._read_timeout, self._time_out, reader)
        try:
            await reader
        finally:
            self._reader = None
            if timer is not None:
                timer.cancel()

    def _time_out(self, reader: asyncio.Future[None]) -> None:
        if not reader.done():
            reader.set_exception(
                httpx2.ReadTimeout(
                    f"Nothing arrived for {self._read_timeout:g} s.", request=self._request
                )
            )

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class _Body(httpx2.AsyncByteStream):
    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self._exchange.read():
            yield data

    async def aclose(self) -> None:
        self._exchange.disconnect()
