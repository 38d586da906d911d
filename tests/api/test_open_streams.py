"""How many streams a project may have open, and that it is the only one to notice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest
from tests.api.exchanges import Json, made, refusal
from tests.api.streams import frames, names, played, streaming
from tests.live_server import BETA, LiveServer, live_server
from tests.upstream import Upstream, say, stall

from assistants_server.store import keys

MOST = 2
TOTAL = 4


@pytest.fixture
async def server(tmp_path: Path, upstream: Upstream) -> AsyncIterator[LiveServer]:
    async with live_server(
        data=tmp_path,
        upstream_url=upstream.base_url,
        upstream_key="test",
        max_open_streams=MOST,
        max_open_streams_total=TOTAL,
    ) as running:
        yield running


async def caller(server: LiveServer, stack: AsyncExitStack, project: str) -> httpx2.AsyncClient:
    """Who holds a key of the project."""
    _, secret = await server.state.database.write(keys.create, project, project, now=0)
    key = {"Authorization": f"Bearer {secret}"}
    return await stack.enter_async_context(server.http({**BETA, **key}))


async def wish(http: httpx2.AsyncClient) -> Json:
    """A thread and what asks for its run."""
    assistant = await made(http, "/v1/assistants", {"model": "gpt-4o", "instructions": "Hi"})
    thread = await made(http, "/v1/threads", {})
    words = [{"role": "user", "content": "Hello"}]
    body = {"assistant_id": assistant["id"], "additional_messages": words, "stream": True}
    return {"path": f"/v1/threads/{thread['id']}", "body": body}


async def begun(http: httpx2.AsyncClient, stack: AsyncExitStack, one: Json) -> httpx2.Response:
    """The answer: a stream that stays open until the stack is closed, or a refusal."""
    request = http.build_request("POST", one["path"] + "/runs", json=one["body"])
    response = await http.send(request, stream=True)
    stack.push_async_callback(response.aclose)
    if response.status_code != 200:
        await response.aread()
    return response


async def test_a_flood_of_streams_is_refused_before_anything_is_stored(
    server: LiveServer, upstream: Upstream
) -> None:
    async with AsyncExitStack() as stack:
        flooding = await caller(server, stack, "flooding")
        wishes = [await wish(flooding) for _ in range(5)]
        holds = [stall() for _ in range(MOST)]
        upstream.script(*(hold + say("Hi") for hold in holds))

        answers = await asyncio.gather(*(begun(flooding, stack, one) for one in wishes))
        refused = [
            (one, wished)
            for one, wished in zip(answers, wishes, strict=True)
            if one.status_code != 200
        ]
        assert len(refused) == 5 - MOST
        for answer, wished in refused:
            status, message, _, code = refusal(answer)
            assert (status, code) == (429, "rate_limit_exceeded")
            assert message == f"Too many open streams: this server allows {MOST} for a project."
            assert answer.headers["retry-after"] == "1"
            for kept in ("/runs", "/messages"):
                assert (await flooding.get(wished["path"] + kept)).json()["data"] == []

        # Neither another project, nor what is no stream, has anything to do with it.
        calm = await caller(server, stack, "calm")
        other = await wish(calm)
        upstream.script(say("Calm"), say("Still"))
        told = await played(calm, other["path"] + "/runs", other["body"])
        assert names(told)[-2:] == ["thread.run.completed", "done"]
        polled = {**refused[0][1]["body"], "stream": False}
        assert (await made(flooding, refused[0][1]["path"] + "/runs", polled))["status"] == "queued"
        await upstream.arrived(MOST + 2)
        for hold in holds:
            hold.release()


async def test_many_projects_that_flood_leave_room_for_one_that_does_not(
    server: LiveServer, upstream: Upstream
) -> None:
    hold = stall()
    upstream.script(*(hold + say("Hi") for _ in range(TOTAL)))
    async with AsyncExitStack() as stack:

        async def opened(project: str) -> list[httpx2.Response]:
            http = await caller(server, stack, project)
            return [await begun(http, stack, await wish(http)) for _ in range(MOST)]

        first, second = [await opened(name) for name in ("first", "second")]
        assert [one.status_code for one in (*first, *second)] == [200, 200, 200, 429]
        status, message, _, code = refusal(second[1])
        assert (status, code) == (429, "rate_limit_exceeded")
        assert message == (
            f"Too many open streams: this server allows {TOTAL} in all and keeps room for other "
            "projects."
        )
        assert second[1].headers["retry-after"] == "1"
        newcomer, _ = await opened("newcomer")
        assert newcomer.status_code == 200
        assert server.state.measurements.open_streams == TOTAL
        hold.release()


async def test_room_is_given_back_when_a_stream_ends_or_its_client_leaves(
    server: LiveServer, http: httpx2.AsyncClient, upstream: Upstream
) -> None:
    for _ in range(MOST + 1):
        upstream.script(say("Hi"))
        one = await wish(http)
        await played(http, one["path"] + "/runs", one["body"])
    hold = stall()
    upstream.script(say("Hel", hold, "lo"))
    one = await wish(http)
    async with streaming(http, one["path"] + "/runs", one["body"]) as response:
        await anext(frames(response))
        assert server.state.measurements.open_streams == 1
    while server.connections.tasks:
        await asyncio.wait(server.connections.tasks)
    assert server.state.measurements.open_streams == 0
    hold.release()


async def test_room_is_given_back_when_the_request_is_refused(
    server: LiveServer, http: httpx2.AsyncClient
) -> None:
    for _ in range(MOST + 1):
        body = {"assistant_id": "asst_unknown", "stream": True}
        assert refusal(await http.post("/v1/threads/runs", json=body))[0] == 404
    assert server.state.measurements.open_streams == 0
