"""A client that stops reading costs a bounded amount, and nobody else anything."""

from __future__ import annotations

import asyncio

import httpx2
from tests.api.exchanges import Json
from tests.api.streams import frames, names, streaming
from tests.live_server import LiveServer
from tests.upstream import Upstream, say

from assistants_server.engine.event_log import MOST_EVENTS

WORDS = 3 * MOST_EVENTS


async def test_a_run_does_not_wait_for_a_reader_that_stopped(
    http: httpx2.AsyncClient,
    server: LiveServer,
    upstream: Upstream,
    assistant: Json,
    thread: Json,
) -> None:
    upstream.script(say(*["word "] * WORDS))
    body = {
        "assistant_id": assistant["id"],
        "additional_messages": [{"role": "user", "content": "Talk"}],
    }
    runs = f"/v1/threads/{thread['id']}/runs"
    async with streaming(http, runs, body) as response:
        told = frames(response)
        assert (await anext(told))[0] == "thread.run.created"
        async with server.http() as other:  # which is answered while nobody reads the stream
            while (run := (await other.get(runs)).json()["data"][0])["status"] != "completed":
                await asyncio.sleep(0)
            listed = (await other.get(f"/v1/threads/{thread['id']}/messages")).json()["data"]
        assert len(listed[0]["content"][0]["text"]["value"]) == len("word ") * WORDS
        assert run["usage"]["completion_tokens"] > 0
        rest = names([frame async for frame in told])
    assert rest[-2:] == ["error", "done"], "it is told that it has missed something"
    assert len(rest) < WORDS
