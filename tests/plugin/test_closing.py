"""``aclose()`` in every state: it returns soon, frees the thread and leaves no task behind. The
fixtures fail a test that leaves one."""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from livekit.agents import AgentSession, APIConnectOptions, APIError
from livekit.agents.llm import ChatContext, FunctionToolCall
from tests.live_server import LiveServer
from tests.plugin.agents import RUN, Caller, said, settled, speaking
from tests.plugin.test_tools import Shop
from tests.upstream import Upstream, call, fail, say, stall

from livekit.plugins.assistants import AssistantCreateOptions, AssistantLLM, AssistantOptions

ONCE = APIConnectOptions(max_retry=0, timeout=10.0)
OPTIONS = AssistantOptions(
    create_options=AssistantCreateOptions(name="Ana", instructions="Be brief.", model="gpt-4o")
)
either = pytest.mark.parametrize("extensions", [None], ids=["either"])
"""Where it makes no difference what the server can."""

SOON = 3.0
"""Seconds: less than closing's patience, which it has only with a server that does not answer."""


def asking(text: str = "hello") -> ChatContext:
    context = ChatContext.empty()
    context.add_message(role="user", content=text)
    return context


async def statuses(caller: Caller) -> list[str]:
    return [run["status"] for run in await caller.runs()]


@either
async def test_never_used(caller: Caller) -> None:
    await caller.llm.aclose()
    assert caller.wire.requests == []


@either
async def test_while_assistant_and_thread_are_looked_for(caller: Caller) -> None:
    hold = stall()

    async def answered(request: httpx2.Request) -> None:
        await hold()

    caller.wire.answered = answered
    caller.llm.prewarm()
    await hold.reached.wait()
    await asyncio.wait_for(caller.llm.aclose(), SOON)


async def test_while_a_reply_streams(caller: Caller, upstream: Upstream) -> None:
    hold = stall()
    upstream.script(say("Once upon a time", hold, " there was a king."))
    stream = caller.llm.chat(chat_ctx=asking("a story"))
    await anext(aiter(stream))
    await asyncio.wait_for(caller.llm.aclose(), SOON)
    assert await statuses(caller) == ["cancelled"]
    await upstream.disconnected()
    hold.release()


@either
async def test_while_one_turn_streams_and_another_waits(caller: Caller, upstream: Upstream) -> None:
    hold = stall()
    upstream.script(say("one", hold))
    one = caller.llm.chat(chat_ctx=asking("a"))
    await hold.reached.wait()
    two = caller.llm.chat(chat_ctx=asking("b"))
    await asyncio.wait_for(caller.llm.aclose(), SOON)
    hold.release()
    assert one.done
    assert two.done
    assert "b" not in [text for _, text in await caller.thread()]


async def test_while_a_call_waits_for_its_output(caller: Caller, upstream: Upstream) -> None:
    upstream.script(call("order", {"what": "tea"}))
    chunks = [one async for one in caller.llm.chat(chat_ctx=asking(), tools=[Shop().order])]
    calls = [one for chunk in chunks if chunk.delta for one in chunk.delta.tool_calls]
    assert [type(one) for one in calls] == [FunctionToolCall]
    await caller.llm.aclose()
    assert await statuses(caller) == ["cancelled"]


@either
async def test_after_a_turn_that_failed(caller: Caller, upstream: Upstream) -> None:
    upstream.script(fail(400, message="no"))
    with pytest.raises(APIError):
        await caller.llm.chat(chat_ctx=asking(), conn_options=ONCE).collect()
    await caller.llm.aclose()
    assert await statuses(caller) == ["failed"]


async def test_while_its_session_goes_on(caller: Caller, upstream: Upstream) -> None:
    """As a shutdown callback may: what was said is brought, and nothing comes after it."""
    async with caller.session() as session:
        caller.llm.attach(session)
        await session.run(user_input="one")
        await session.say("Bye.")
        await caller.llm.aclose()
        assert await caller.thread() == said(session.history)
        made = len(caller.wire.requests)
        with pytest.raises(APIError, match="closed") as raised:
            await session.run(user_input="two")
        assert not raised.value.retryable
        assert caller.wire.requests[made:] == []


async def test_in_mid_reply_of_an_attached_session(caller: Caller, upstream: Upstream) -> None:
    hold = stall()
    upstream.script(say("Once upon a time", hold, " there was a king."))
    async with caller.session() as session:
        caller.llm.attach(session)
        session.generate_reply(user_input="a story")
        await speaking(session)
        await asyncio.wait_for(caller.llm.aclose(), SOON)
        hold.release()
    assert await statuses(caller) == ["cancelled"]


@either
async def test_with_a_server_that_does_not_answer_any_more(
    caller: Caller, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its patience ends, with what it could not do in the log."""
    monkeypatch.setattr("livekit.plugins.assistants.conversation.CLOSING_PATIENCE", 0.05)
    never = stall()

    async def answered(request: httpx2.Request) -> None:
        await never()

    upstream.script(call("order", {"what": "tea"}))
    await caller.llm.chat(chat_ctx=asking(), tools=[Shop().order]).collect()
    caller.wire.answered = answered
    await asyncio.wait_for(caller.llm.aclose(), SOON)
    assert never.reached.is_set()


@either
async def test_twice_and_what_comes_afterwards(caller: Caller) -> None:
    await caller.llm.chat(chat_ctx=asking()).collect()
    await asyncio.gather(caller.llm.aclose(), caller.llm.aclose())
    with caller.counted() as requests:
        for late in (
            caller.llm.chat(chat_ctx=asking()).collect(),
            caller.llm.sync(asking()),
            caller.llm.load_chat_ctx(),
        ):
            with pytest.raises(APIError, match="closed"):
                await late
    assert requests == []


async def test_a_client_of_its_own_is_closed_whatever_happens(
    server: LiveServer, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = AssistantLLM(assistant_opts=OPTIONS, base_url=server.base_url)
    await llm.chat(chat_ctx=asking()).collect()

    async def broken() -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(llm._conversation, "aclose", broken)
    with pytest.raises(RuntimeError):
        await llm.aclose()
    assert llm._client is not None
    assert llm._client.is_closed()


@either
async def test_sessions_that_ended_are_let_go(caller: Caller) -> None:
    for _ in range(2):
        async with caller.session() as session:
            caller.llm.attach(session)
            caller.llm.attach(session)
            assert len(caller.llm._attachments) == 1
            await session.run(user_input="one")
    assert caller.llm._attachments == []
    await settled(lambda: not caller.llm._conversation._tasks)


def test_made_before_there_is_a_loop() -> None:
    llm = AssistantLLM(assistant_opts=OPTIONS, base_url="http://127.0.0.1:9")
    assert llm.thread_id is None
    asyncio.run(llm.aclose())


@either
async def test_a_second_loop_is_refused_clearly(caller: Caller) -> None:
    await caller.llm.chat(chat_ctx=asking()).collect()

    async def elsewhere() -> None:
        with pytest.raises(APIError, match="another event loop") as raised:
            await caller.llm.chat(chat_ctx=asking()).collect()
        assert not raised.value.retryable
        with pytest.raises(APIError, match="another event loop"):
            await caller.llm.sync(asking())

    with caller.counted() as requests:
        await asyncio.to_thread(asyncio.run, elsewhere())
    assert requests == []


@either
async def test_a_session_closed_before_its_llm(caller: Caller) -> None:
    async with caller.session() as session:
        assert isinstance(session, AgentSession)
        await session.run(user_input="one")
    with caller.counted() as requests:
        await caller.llm.aclose()
    assert RUN not in requests
    assert await caller.thread() == said(session.history)
