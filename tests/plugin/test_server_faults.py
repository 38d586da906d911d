"""A server that refuses or restarts: what helps is tried again, what does not is said, and then the
thread says what was said."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import pytest
from livekit.agents import APIError, APIStatusError
from tests.live_server import live_server
from tests.plugin.agents import RUN, SUBMIT, Caller, said, settled, standard_by_night
from tests.plugin.test_tools import Shop, tool_outputs
from tests.upstream import Upstream, call, say, stall


def refuses(caller: Caller, status: int, path: str = "/runs", times: int = 1) -> None:
    """The next requests to this path are answered by somebody in front of the server."""
    left = [True] * times

    def refuse(request: httpx2.Request) -> httpx2.Response | None:
        if left and request.method == "POST" and request.url.path.endswith(path):
            left.pop()
            body = {"error": {"message": "not now", "type": "x", "param": None, "code": None}}
            return httpx2.Response(status, json=body, request=request)
        return None

    caller.wire.before = refuse


@standard_by_night
@pytest.mark.parametrize("status", [408, 429, 503])
async def test_a_refusal_that_may_pass_is_tried_again(caller: Caller, status: int) -> None:
    async with caller.session() as session:
        await session.run(user_input="one")
        refuses(caller, status)
        with caller.counted() as requests:
            await session.run(user_input="two")
        assert requests.count(RUN) == 2
        assert await caller.thread() == said(session.history)
        assert [role for role, _ in await caller.thread()] == ["user", "assistant"] * 2


@standard_by_night
@pytest.mark.parametrize("status", [400, 404, 409])
async def test_a_refusal_for_good_is_said_at_once(caller: Caller, status: int) -> None:
    """The question stays, unanswered; the next turn is one request again."""
    async with caller.session() as session:
        await session.run(user_input="one")
        refuses(caller, status)
        with caller.counted() as requests, pytest.raises(APIStatusError) as raised:
            await session.run(user_input="two")
        assert raised.value.status_code == status
        assert requests.count(RUN) == 1
        with caller.counted() as requests:
            await session.run(user_input="three")
        assert requests.count(RUN) == 1
        if caller.extensions is None:
            assert requests == [RUN]
        assert [text for _, text in said(session.history)] == [
            "one",
            "one",
            "two",
            "three",
            "three",
        ]
        assert await caller.thread() == said(session.history)


@pytest.mark.parametrize("status", [404, 429, 500])
async def test_outputs_that_cannot_be_submitted_reach_the_model_all_the_same(
    caller: Caller, upstream: Upstream, status: int
) -> None:
    """As after a restart: the run is gone or does not answer; its outputs are carried."""
    shop = Shop()
    upstream.script(call("order", {"what": "tea"}))
    async with caller.session(shop) as session:
        refuses(caller, status, "/submit_tool_outputs")
        with caller.counted() as requests:
            await session.run(user_input="tea")
        assert requests.count(SUBMIT) + requests.count(RUN) == 3
        assert shop.orders == ["tea"]
        if caller.extensions is None:
            assert tool_outputs(upstream.requests[-1]) == ["ordered tea"]
        else:
            assert "ordered tea" in str(upstream.requests[-1].messages)
        await session.run(user_input="thanks")
        assert await caller.thread() == said(session.history)


class Restartable:
    """A server that ends and comes back on the same port with the same data."""

    def __init__(self, data: Path, upstream: Upstream) -> None:
        self._data = data
        self._upstream = upstream
        self._running = AsyncExitStack()
        self._port = 0

    async def start(self) -> None:
        server = await self._running.enter_async_context(
            live_server(
                data=self._data,
                port=self._port,
                upstream_url=self._upstream.base_url,
                upstream_key="test",
                drain=0,
            )
        )
        self._port = int(server.origin.rsplit(":", 1)[1])
        self.base_url, self.http = server.base_url, server.http

    async def stop(self) -> None:
        await self._running.aclose()


@pytest.fixture
async def restartable(tmp_path: Path, upstream: Upstream) -> AsyncIterator[Restartable]:
    server = Restartable(tmp_path / "data", upstream)
    await server.start()
    yield server
    await server.stop()


@pytest.mark.parametrize("moment", ["thinking", "speaking"])
async def test_a_server_restarted_in_mid_reply(
    restartable: Restartable, upstream: Upstream, extensions: bool | None, moment: str
) -> None:
    """The turn fails; what was said of it stays; the next one goes on, in one request."""
    async with Caller(restartable, extensions=extensions) as caller, caller.session() as session:
        await session.run(user_input="one")
        hold = stall()
        upstream.script(hold + say("no") if moment == "thinking" else say("Once upon ", hold))
        speech = session.generate_reply(user_input="a story")
        await hold.reached.wait()
        if moment == "speaking":
            await settled(lambda: len(caller.llm._conversation.ledger.held) == 4)
        await restartable.stop()
        hold.release()
        await speech.wait_for_playout()
        assert isinstance(speech.exception(), APIError)
        await restartable.start()
        with caller.counted() as requests:
            await session.run(user_input="and then?")
        assert requests.count(RUN) == 1
        if extensions is None:
            assert requests == [RUN]
        assert await caller.thread() == said(session.history)
        heard = [text.strip() for _, text in await caller.thread()]
        assert ("Once upon" in heard) == (moment == "speaking")
        assert {run["status"] for run in await caller.runs()} <= {
            "completed",
            "cancelled",
            "failed",
        }


async def test_a_server_restarted_while_a_tool_works(
    restartable: Restartable, upstream: Upstream, extensions: bool | None
) -> None:
    """The run waits in the database; its output is submitted as if nothing had been."""
    shop = Shop()
    async with (
        Caller(restartable, extensions=extensions) as caller,
        caller.session(shop) as session,
    ):
        upstream.script(call("slow_order", {"what": "tea"}), say("It is coming."))
        speech = session.generate_reply(user_input="tea")
        await shop.working.wait()
        await restartable.stop()
        await restartable.start()
        with caller.counted() as requests:
            shop.finish.set()
            await speech
        assert requests == [SUBMIT]
        assert shop.orders == ["tea"]
        assert tool_outputs(upstream.requests[-1]) == ["ordered tea"]
        assert await caller.thread() == said(session.history)
