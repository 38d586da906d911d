"""Requests that nobody sends by mistake, and what may not be found in the log after any request."""

from __future__ import annotations

import asyncio
import io
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import httpx2
import orjson
import pytest
import uvicorn
from tests.api.exchanges import Json, made, refusal
from tests.api.streams import played
from tests.live_server import BETA, LiveServer
from tests.upstream import Upstream, call, cut, fail, say
from uvicorn.server import ServerState as Connections

from assistants_server import log
from assistants_server.commands.connection import HEADER_BYTES, BoundedHttp

FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


# Connections ----------------------------------------------------------------------------------


@asynccontextmanager
async def bounded(server: LiveServer, **limits: float) -> AsyncIterator[int]:
    """The same app behind the protocol of ``serve``; gives the port."""
    hasty = type("HastyHttp", (BoundedHttp,), limits)
    config = uvicorn.Config(
        server.app, interface="asgi3", lifespan="off", log_config=None, access_log=False
    )
    config.load()
    listener = await asyncio.get_running_loop().create_server(
        lambda: hasty(config, Connections(), {}), "127.0.0.1", 0
    )
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await listener.wait_closed()


async def answer_to(port: int, *sent: bytes) -> bytes:
    """All that comes back until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        for part in sent:
            writer.write(part)
            await writer.drain()
        received = await reader.read(-1)
    except ConnectionError:
        pass  # closed while we were still sending
    finally:
        writer.transport.abort()
    return received


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /health/live HTTP/1.1\r\n", b"GET /health/live HTTP/1.1\r\nHost: x\r\nX: "],
)
async def test_a_request_that_never_gets_through_its_headers_is_cut(
    server: LiveServer, sent: bytes
) -> None:
    async with bounded(server, header_seconds=0.05) as port:
        assert await answer_to(port, sent) == b""


async def test_a_body_that_never_ends_is_cut(server: LiveServer) -> None:
    head = b"POST /v1/threads HTTP/1.1\r\nHost: x\r\nOpenAI-Beta: assistants=v2\r\n"
    async with bounded(server, body_seconds=0.05) as port:
        assert await answer_to(port, head + b"Content-Length: 100\r\n\r\n{") == b""


async def test_a_request_at_an_ordinary_pace_is_answered(server: LiveServer) -> None:
    async with (
        bounded(server) as port,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=BETA) as http,
    ):
        for _ in range(3):  # on one connection
            assert (await http.post("/v1/threads", json={})).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"BREW /v1/threads HTTP/1.1\r\nHost: x\r\n\r\n",
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
    ],
    ids=["unknown method", "no HTTP", "TLS"],
)
async def test_what_cannot_be_read_as_a_request_gets_the_envelope(
    server: LiveServer, sent: bytes
) -> None:
    async with bounded(server) as port:
        head, _, body = (await answer_to(port, sent)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/json" in head
    assert re.search(rb"x-request-id: req_[0-9a-f]{32}", head)
    error = orjson.loads(body)["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, None)
    assert error["message"].startswith("We could not read your request: ")


@pytest.mark.parametrize(
    "headers",
    [b"X: " + b"x" * HEADER_BYTES + b"\r\n", b"X: y\r\n" * HEADER_BYTES, b"x" * HEADER_BYTES],
    ids=["one huge", "many small", "one endless"],
)
async def test_a_bomb_of_headers_is_refused(server: LiveServer, headers: bytes) -> None:
    async with bounded(server, header_seconds=2) as port:
        received = await answer_to(
            port, b"GET /health/live HTTP/1.1\r\nHost: x\r\n", headers, b"\r\n\r\n"
        )
    assert not received.startswith(b"HTTP/1.1 200"), received[:100]


async def test_headers_that_are_too_large_get_the_envelope(server: LiveServer) -> None:
    async with bounded(server) as port:
        # The last of them is the one too many: a server that closes with bytes unread resets the
        # connection, and the answer with it.
        fields = b"".join(b"X: " + b"x" * 1000 + b"\r\n" for _ in range(HEADER_BYTES // 1000))
        head = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
        received = await answer_to(port, head + fields, b"X: " + b"x" * 1000 + b"\r\n\r\n")
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert orjson.loads(body)["error"]["message"].startswith("The headers of the request are too")


async def test_a_url_without_end_is_refused(server: LiveServer) -> None:
    async with bounded(server, header_seconds=2) as port:
        url = b"/" + b"a" * HEADER_BYTES
        received = await answer_to(port, b"GET " + url + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert not received.startswith(b"HTTP/1.1 200"), received[:100]


# Bodies, names, ids ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        lambda: {"metadata": {str(number): "x" for number in range(100_000)}},
        lambda: {"messages": [{"role": "user", "content": "x"}] * 50_000},
        lambda: {"x" * 1_000_000: 1},
        lambda: {"metadata": {"a": "x" * 1_000_000}},
        lambda: {"messages": [{"role": "user", "content": [{"type": "text"}] * 100_000}]},
    ],
    ids=["wide", "long", "long name", "long value", "many parts"],
)
async def test_a_body_of_the_wrong_size_is_refused(
    http: httpx2.AsyncClient, body: Callable[[], Json]
) -> None:
    status, message, *_ = refusal(await http.post("/v1/threads", json=body()))
    assert status == 400
    assert len(message) < 2000, "it does not send the bomb back"


@pytest.mark.parametrize(
    "name",
    [
        *("../../etc/passwd", "..\\..\\boot.ini", "/etc/passwd", "C:\\x", "..", "%2e%2e%2f", ""),
        *("a\r\nSet-Cookie: x", "x" * 5000, "\u202egpj.exe", "name\0.txt"),
    ],
)
async def test_a_file_s_name_leads_nowhere(http: httpx2.AsyncClient, name: str) -> None:
    response = await http.post(
        "/v1/files", files={"file": (name, b"data")}, data={"purpose": "user_data"}
    )
    assert response.status_code in (200, 400)
    if response.status_code == 200:
        file = response.json()
        assert "/" not in file["filename"].replace("%2F", "")
        assert "\\" not in file["filename"]
        assert len(file["filename"]) <= 255
        content = await http.get(f"/v1/files/{file['id']}/content")
        assert content.content == b"data"
        assert "set-cookie" not in content.headers


@pytest.mark.parametrize(
    "identity",
    [
        *("thread_" + "x" * 20_000, "thread_%00", "thread_%ff", "thread_..%2f..", "thread_'--"),
        *("thread_\u0430", "thread_%F0%9F%92%A9", "thread_%25", "thread_x%0d%0ay: z"),
    ],
)
async def test_an_id_may_be_anything_and_is_unknown(
    http: httpx2.AsyncClient, identity: str
) -> None:
    response = await http.get(f"/v1/threads/{identity}")
    assert response.status_code in (400, 404)
    assert "y" not in response.headers


# The log --------------------------------------------------------------------------------------


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """All that the server logs, as ``serve`` configures it."""
    stream = io.StringIO()
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    log.configure("info", stream=stream)
    yield stream
    for handler in set(root.handlers) - set(before):
        root.removeHandler(handler)
    root.setLevel(level)
    logging.getLogger("assistants_server").setLevel(logging.NOTSET)


async def test_no_text_and_no_secret_gets_into_the_log(
    server: LiveServer, upstream: Upstream, written: io.StringIO
) -> None:
    key = {"Authorization": "Bearer sk-MARKkey"}
    async with server.http({**BETA, **key}) as http:
        assistant = await made(
            http,
            "/v1/assistants",
            {"model": "gpt-4o", "instructions": "MARKinstructions", "tools": [FUNCTION]},
        )
        image = {"type": "image_url", "image_url": {"url": "https://x.test/MARKimage.png"}}
        content = [{"type": "text", "text": "MARKuser"}, image]
        thread = await made(
            http,
            "/v1/threads",
            {
                "messages": [{"role": "user", "content": content}],
                "metadata": {"MARKname": "MARKvalue"},
            },
        )
        runs = f"/v1/threads/{thread['id']}/runs"
        body = {"assistant_id": assistant["id"]}
        upstream.script(
            call("f", {"a": "MARKarguments"}, id="call_a"),
            say("MARKreply"),
            fail(400, message="MARKupstream"),
            say("MARKcut") + cut(),
        )
        told = await played(http, runs, body)
        run = next(data for name, data in told if name == "thread.run.requires_action")
        outputs = [{"tool_call_id": "call_a", "output": "MARKoutput"}]
        await played(http, f"{runs}/{run['id']}/submit_tool_outputs", {"tool_outputs": outputs})
        for _ in range(2):
            await played(http, runs, body)
        await http.post("/v1/threads", content=b'{"MARKbroken')
        await http.post("/v1/threads", json={"metadata": {"MARKlong": "MARK" * 1000}})
        await http.get("/v1/threads?metadata[MARKquery]=MARKquery")
        await http.get("/v1/threads/thread_x", headers={"Authorization": "Bearer sk-MARKother"})
        await http.post(
            "/v1/files", files={"file": ("MARKfile", b"MARKbytes")}, data={"purpose": "user_data"}
        )
    logged = written.getvalue()
    assert logged.count('"message":"POST /v1/threads') >= 5, "it does log"
    assert "MARK" not in logged
