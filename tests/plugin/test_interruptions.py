"""Barge-in: whatever is interrupted, the thread says what was said, and the next turn is one
request."""

from __future__ import annotations

import asyncio

from livekit.agents import Agent
from livekit.agents.llm import ChatContext
from tests.plugin.agents import RUN, Caller, model_saw, said, settled
from tests.upstream import Upstream, say, stall


def _hot_path(caller: Caller, requests: list[str]) -> None:
    """One request, where the server lets it be one."""
    if caller.extensions is None:
        assert requests == [RUN]


async def test_interrupted_in_mid_reply(caller: Caller, upstream: Upstream) -> None:
    hold = stall()
    upstream.script(say("Once upon a time", hold, " there was a king."))
    async with caller.session() as session:
        speech = session.generate_reply(user_input="a story")
        await hold.reached.wait()
        await settled(lambda: bool(caller.llm._conversation.ledger.held[1:]))
        await _forwarded(session)
        await session.interrupt()
        assert speech.interrupted
        assert said(session.history)[-1] == ("assistant", "Once upon a time")
        with caller.counted() as requests:
            await session.run(user_input="another one")
        _hot_path(caller, requests)
        assert await caller.thread() == said(session.history)
        assert model_saw(upstream.requests[-1]) == said(session.history)[:-1]
    hold.release()


async def test_interrupted_while_thinking(caller: Caller, upstream: Upstream) -> None:
    hold = stall()
    upstream.script(hold + say("never heard"))
    async with caller.session() as session:
        speech = session.generate_reply(user_input="a story")
        await hold.reached.wait()
        await session.interrupt()
        await speech
        with caller.counted() as requests:
            await session.run(user_input="another one")
        _hot_path(caller, requests)
        assert await caller.thread() == said(session.history)
        assert [text for _, text in await caller.thread()] == [
            "a story",
            "another one",
            "another one",
        ]
    hold.release()


async def test_interrupted_and_followed_at_once(caller: Caller, upstream: Upstream) -> None:
    """The new chat() comes before the old stream is cancelled, with a context that lacks it."""
    hold = stall()
    upstream.script(say("Once upon a time", hold, " there was a king."))
    async with caller.session() as session:
        first = session.generate_reply(user_input="a story")
        await hold.reached.wait()
        await _forwarded(session)
        with caller.counted() as requests:
            first.interrupt()
            await session.generate_reply(user_input="another one")
        _hot_path(caller, requests)
        await session.run(user_input="thanks")
        assert await caller.thread() == said(session.history)
        assert ("assistant", "Once upon a time") in await caller.thread()
    hold.release()


async def test_closing_the_stream_frees_the_thread_and_the_model(
    caller: Caller, upstream: Upstream
) -> None:
    hold = stall()
    upstream.script(say("Once upon a time", hold, " there was a king."))
    async with caller.session() as session:
        session.generate_reply(user_input="a story")
        await hold.reached.wait()
        await session.interrupt()
        await upstream.disconnected()
    hold.release()


async def test_ending_the_call_in_mid_reply(caller: Caller, upstream: Upstream) -> None:
    hold = stall()
    upstream.script(say("Once upon a time", hold, " there was a king."))
    async with caller.session() as session:
        session.generate_reply(user_input="a story")
        await hold.reached.wait()
        await _forwarded(session)
        history = session.history
    await caller.llm.sync(history)
    await caller.llm.aclose()
    hold.release()
    assert await caller.thread() == said(history)
    assert (await caller.thread())[-1] == ("assistant", "Once upon a time")
    assert all(run["status"] in ("cancelled", "completed") for run in await caller.runs())


async def test_a_discarded_answer_is_forgotten(caller: Caller) -> None:
    """As preemptive generation does: chat() on a context that never comes true."""
    async with caller.session(agent := Agent(instructions="You are Ana.")) as session:
        await session.run(user_input="one")
        guess = agent.chat_ctx.copy()
        guess.add_message(role="user", content="tw")
        await caller.llm.chat(chat_ctx=guess).collect()
        with caller.counted() as requests:
            await session.run(user_input="two")
        _hot_path(caller, requests)
        assert await caller.thread() == said(session.history)


async def test_an_answer_discarded_in_flight_is_forgotten(
    caller: Caller, upstream: Upstream
) -> None:
    hold = stall()
    async with caller.session(agent := Agent(instructions="You are Ana.")) as session:
        await session.run(user_input="one")
        upstream.script(say("gue", hold, "ss"))
        guess = agent.chat_ctx.copy()
        guess.add_message(role="user", content="tw")
        async with caller.llm.chat(chat_ctx=guess) as stream:
            await anext(aiter(stream))
        with caller.counted() as requests:
            await session.run(user_input="two")
        _hot_path(caller, requests)
        assert await caller.thread() == said(session.history)
    hold.release()


async def test_a_stream_closed_before_it_began_does_nothing(caller: Caller) -> None:
    await caller.llm.load_chat_ctx()
    context = ChatContext.empty()
    context.add_message(role="user", content="hello")
    with caller.counted() as requests:
        await caller.llm.chat(chat_ctx=context).aclose()
    assert requests == []
    assert await caller.thread() == []


async def test_a_turn_that_waits_for_another_leaves_no_trace_when_it_is_closed(
    caller: Caller, upstream: Upstream
) -> None:
    hold = stall()
    upstream.script(say("one", hold))
    first, second = ChatContext.empty(), ChatContext.empty()
    first.add_message(role="user", content="a")
    second.add_message(role="user", content="b")
    one = caller.llm.chat(chat_ctx=first)
    await hold.reached.wait()
    two = caller.llm.chat(chat_ctx=second)
    await asyncio.sleep(0)
    await two.aclose()
    hold.release()
    await one.collect()
    assert await caller.thread() == [("user", "a"), ("assistant", "one")]


async def _forwarded(session: object) -> None:
    """What has arrived at the plugin has reached the session, too."""
    for _ in range(20):
        await asyncio.sleep(0.001)
