"""The in-process transport behaves like a socket with a server behind it."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from assistants_server.asgi_transport import (
    HIGH_WATER,
    App,
    Message,
    Receive,
    Send,
    StreamingASGITransport,
)

START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1")]}


def piece(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}


END: Message = {"type": "http.response.body", "body": b"", "more_body": False}


class Client:
    """A client of one app; leaving it checks that the app was left no task."""

    def __init__(self, app: App, *, timeout: float | None = None, state: Any = None) -> None:
        self.transport = StreamingASGITransport(app, state=state)
        self.http = httpx2.AsyncClient(
            transport=self.transport, base_url="http://app", timeout=timeout
        )

    async def __aenter__(self) -> httpx2.AsyncClient:
        self.before = asyncio.all_tasks()
        return self.http

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()
        assert asyncio.all_tasks() <= self.before


async def test_a_piece_is_readable_before_the_next_one_is_sent() -> None:
    read = asyncio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(START)
        await send(piece(b"one"))
        await read.wait()
        await send(piece(b"two"))
        await send(END)

    async with Client(app) as http, http.stream("GET", "/") as response:
        pieces = response.aiter_raw()
        assert await anext(pieces) == b"one"
        read.set()
        assert await anext(pieces) == b"two"
        assert await anext(pieces, None) is None


async def test_the_head_is_there_before_the_body() -> None:
    seen = asyncio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(START)
        await seen.wait()
        await send(END)

    async with Client(app) as http, http.stream("GET", "/") as response:
        assert response.status_code == 200
        assert response.headers["x-a"] == "1"
        seen.set()


async def test_the_scope_says_what_was_asked() -> None:
    scopes: list[Message] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await send(START)
        await send(END)

    state = {"database": object()}
    async with Client(app, state=state) as http:
        await http.post("/a%20b?q=1", headers={"X-Key": "v"})
    scope = scopes[0]
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("POST", "/a b", b"/a%20b")
    assert scope["query_string"] == b"q=1"
    assert (b"x-key", b"v") in scope["headers"]
    assert scope["state"] == state
    assert scope["state"] is not state


async def test_a_slow_reader_holds_up_the_app() -> None:
    sent = 0

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(START)
        for _ in range(100):
            await send(piece(bytes(HIGH_WATER // 4)))
            sent += 1
        await send(END)

    async with Client(app) as http, http.stream("GET", "/") as response:
        for _ in range(50):
            await asyncio.sleep(0)
        assert sent == 4, "the fifth piece must wait for the reader"
        body = [data async for data in response.aiter_raw()]
    assert sent == 100
    assert sum(map(len, body)) == 100 * (HIGH_WATER // 4)


async def test_closing_early_disconnects_the_app_at_once() -> None:
    heard: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send(START)
        await send(piece(b"one"))
        heard.set_result(await receive())

    async with Client(app) as http:
        async with http.stream("GET", "/"):
            pass
        assert await heard == {"type": "http.disconnect"}


async def test_closing_early_frees_an_app_that_waits_to_send() -> None:
    ended = asyncio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(START)
        for _ in range(10):
            await send(piece(bytes(HIGH_WATER)))
        await send(END)
        ended.set()

    async with Client(app) as http:
        async with http.stream("GET", "/"):
            pass
        await ended.wait()


async def test_an_app_that_only_sends_cannot_spin_after_a_disconnect() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(START)
        while True:
            await send(piece(b"more"))

    client = Client(app)
    async with client as http:
        async with http.stream("GET", "/"):
            pass
        await client.transport.aclose(grace=0)


async def test_cancelling_the_request_disconnects_the_app() -> None:
    entered = asyncio.Event()
    heard: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        entered.set()
        heard.set_result(await receive())

    async with Client(app) as http:
        request = asyncio.ensure_future(http.get("/"))
        await entered.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert (await heard)["type"] == "http.disconnect"


async def test_cancelling_the_reader_disconnects_the_app() -> None:
    heard: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    reading = asyncio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send(START)
        await send(piece(b"one"))
        heard.set_result(await receive())

    async def read() -> None:
        async with http.stream("GET", "/") as response:
            async for _ in response.aiter_raw():
                reading.set()

    async with Client(app) as http:
        reader = asyncio.ensure_future(read())
        await reading.wait()
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert (await heard)["type"] == "http.disconnect"


async def test_an_upload_streams() -> None:
    received: list[Message] = []
    more = asyncio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        received.append(await receive())
        more.set()
        while received[-1]["more_body"]:
            received.append(await receive())
        await send(START)
        await send(END)

    async def upload() -> AsyncIterator[bytes]:
        yield b"one"
        await more.wait()
        yield b"two"

    async with Client(app) as http:
        await http.post("/", content=upload())
    assert [message["body"] for message in received] == [b"one", b"two", b""]


async def test_a_refusal_need_not_wait_for_the_upload() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({**START, "status": 413})
        await send(END)

    async def upload() -> AsyncIterator[bytes]:
        while True:
            yield b"more"

    async with Client(app) as http:
        assert (await http.post("/", content=upload())).status_code == 413


async def test_a_failing_upload_fails_the_request_and_disconnects_the_app() -> None:
    heard: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        heard.set_result(await receive())

    async def upload() -> AsyncIterator[bytes]:
        yield b"one"
        raise OSError("unreadable")

    async with Client(app) as http:
        with pytest.raises(OSError, match="unreadable"):
            await http.post("/", content=upload())
        assert (await heard)["type"] == "http.disconnect"


async def test_cancelling_during_an_upload_disconnects_the_app() -> None:
    stalled = asyncio.Event()
    heard: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        heard.set_result(await receive())

    async def upload() -> AsyncIterator[bytes]:
        stalled.set()
        await asyncio.Event().wait()
        yield b""

    async with Client(app) as http:
        request = asyncio.ensure_future(http.post("/", content=upload()))
        await stalled.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert (await heard)["type"] == "http.disconnect"


async def test_a_failure_before_the_answer_is_an_error_of_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        raise ValueError("secret words")

    async with Client(app) as http:
        with caplog.at_level(logging.INFO), pytest.raises(httpx2.RemoteProtocolError) as raised:
            await http.get("/")
    assert isinstance(raised.value.__cause__, ValueError)
    assert "ValueError" in caplog.text
    assert "secret words" not in caplog.text, "the text may quote a conversation"


async def test_a_failure_in_mid_answer_comes_after_what_was_sent() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(START)
        await send(piece(b"one"))
        raise ValueError

    async with Client(app) as http, http.stream("GET", "/") as response:
        pieces = response.aiter_raw()
        assert await anext(pieces) == b"one"
        with pytest.raises(httpx2.RemoteProtocolError) as raised:
            await anext(pieces)
    assert isinstance(raised.value.__cause__, ValueError)


async def test_a_failure_after_the_answer_does_not_spoil_it() -> None:
    """Starlette sends its 500 and then raises the error again, for the server's log."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({**START, "status": 500})
        await send(END)
        raise ValueError

    async with Client(app) as http:
        assert (await http.get("/")).status_code == 500


async def test_an_app_that_says_nothing_is_an_error() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        return

    async with Client(app) as http:
        with pytest.raises(httpx2.RemoteProtocolError):
            await http.get("/")


@pytest.mark.parametrize("started", [False, True])
async def test_the_read_timeout_holds_before_and_during_the_answer(started: bool) -> None:
    heard: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        if started:
            await send(START)
            await send(piece(b"one"))
        heard.set_result(await receive())

    async with Client(app, timeout=0.01) as http:
        with pytest.raises(httpx2.ReadTimeout):
            await http.get("/")
        assert (await heard)["type"] == "http.disconnect"


async def test_a_finished_answer_tells_the_app_that_nobody_listens() -> None:
    heard: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send(START)
        await send(END)
        heard.set_result(await receive())

    async with Client(app) as http:
        await http.get("/")
        assert (await heard)["type"] == "http.disconnect"


async def test_head_has_no_body() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(START)
        await send(piece(b"unseen"))
        await send(END)

    async with Client(app) as http:
        assert (await http.head("/")).content == b""


async def test_closing_cancels_an_app_that_ignores_the_disconnect() -> None:
    entered = asyncio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(START)
        entered.set()
        await asyncio.Event().wait()

    client = Client(app)
    async with client as http:
        response = await http.send(http.build_request("GET", "/"), stream=True)
        await entered.wait()
        await client.transport.aclose(grace=0)
        with pytest.raises(httpx2.RemoteProtocolError):
            await response.aread()


async def test_the_app_does_not_see_the_callers_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        seen.append(variable.get())
        await send(START)
        await send(END)

    variable.set("the caller's")
    async with Client(app) as http:
        await http.get("/")
    assert seen == ["unset"]


async def test_requests_run_side_by_side() -> None:
    met = asyncio.Event()
    inside = 0

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        nonlocal inside
        inside += 1
        if inside == 20:
            met.set()
        await met.wait()
        await send(START)
        await send(END)

    async with Client(app) as http:
        answers = await asyncio.gather(*(http.get("/") for _ in range(20)))
    assert [answer.status_code for answer in answers] == [200] * 20
