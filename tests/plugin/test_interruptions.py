"""Barge-in: whatever is interrupted, the thread says what was said, and the next turn is one
request."""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from livekit.agents import Agent, function_tool
from livekit.agents.llm import ChatContext
from tests.live_server import LiveServer
from tests.plugin.agents import RUN, Caller, model_saw, parrot, said, settled, speaking
from tests.upstream import Stall, Upstream, call, say, stall


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
        await speaking(session)
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
        await speaking(session)
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
        await speaking(session)
        await session.interrupt()
        await upstream.disconnected()
    hold.release()


def _held_up(caller: Caller, moment: str, *, path: str = "/runs") -> Stall:
    """The next request to this path is held up: on its way, or its answer on the way back."""
    hold = stall()

    async def wait(request: httpx2.Request) -> None:
        if request.method == "POST" and request.url.path.endswith(path):
            caller.wire.departing = caller.wire.answered = None
            await hold()

    setattr(caller.wire, moment, wait)
    return hold


@pytest.mark.parametrize("moment", ["departing", "answered"])
async def test_a_run_that_was_interrupted_before_the_server_answered_is_cancelled(
    caller: Caller, upstream: Upstream, moment: str
) -> None:
    """Without another turn: the model does not go on for nothing."""
    silent = stall()
    upstream.default = lambda _: silent + say("never heard")
    async with caller.session() as session:
        hold = _held_up(caller, moment)
        speech = session.generate_reply(user_input="a story")
        await hold.reached.wait()
        speech.interrupt()
        await speech
        hold.release()
        await settled(lambda: not caller.llm._conversation._tasks)
        await caller.no_run_is_active()
        assert {run["status"] for run in await caller.runs()} <= {"cancelled"}
        upstream.default = parrot
        with caller.counted() as requests:
            await session.run(user_input="another one")
        _hot_path(caller, requests)
        assert await caller.thread() == said(session.history)
    silent.release()


@pytest.mark.parametrize("moment", ["departing", "answered"])
async def test_followed_at_once_before_the_server_answered(
    caller: Caller, upstream: Upstream, moment: str
) -> None:
    async with caller.session() as session:
        hold = _held_up(caller, moment)
        first = session.generate_reply(user_input="a story")
        await hold.reached.wait()
        first.interrupt()
        second = session.generate_reply(user_input="another one")
        await first
        await settled(caller.llm._conversation.lock.locked)
        hold.release()
        await second
        await session.run(user_input="thanks")
        assert await caller.thread() == said(session.history)


async def test_ending_the_call_before_the_server_answered(
    caller: Caller, upstream: Upstream
) -> None:
    silent = stall()
    upstream.default = lambda _: silent + say("never heard")
    async with caller.session() as session:
        hold = _held_up(caller, "answered")
        session.generate_reply(user_input="a story")
        await hold.reached.wait()
        history = session.history
        hold.release()
    await caller.llm.aclose()
    assert {run["status"] for run in await caller.runs()} <= {"cancelled"}
    assert await caller.thread() == said(history)
    silent.release()


@pytest.mark.parametrize("end", ["sync", "close"])
async def test_a_reply_that_was_complete_before_the_server_s_answer_came(
    caller: Caller, upstream: Upstream, end: str
) -> None:
    """Nobody heard it, and no later turn says so."""
    async with caller.session() as session:
        hold = _held_up(caller, "answered")
        speech = session.generate_reply(user_input="a story")
        await hold.reached.wait()
        await caller.no_run_is_active()
        speech.interrupt()
        await speech
        hold.release()
        if end == "sync":
            await caller.llm.sync(session.history)
        history = session.history
    await caller.llm.aclose()
    assert [run["status"] for run in await caller.runs()] == ["completed"]
    assert await caller.thread() == said(history) == [("user", "a story")]


async def test_a_tool_s_results_whose_answer_is_interrupted_before_it_came(
    caller: Caller, upstream: Upstream
) -> None:
    class Clerk(Agent):
        @function_tool
        async def order(self) -> str:
            """Order."""
            return "order 17"

    silent = stall()
    upstream.script(call("order"), silent + say("never heard"))
    async with caller.session(Clerk(instructions="You are Ana.")) as session:
        hold = _held_up(caller, "answered", path="/submit_tool_outputs")
        speech = session.generate_reply(user_input="order it")
        await hold.reached.wait()
        speech.interrupt()
        await speech
        await settled(lambda: not caller.llm._conversation._tasks)
        await caller.no_run_is_active()
        assert {run["status"] for run in await caller.runs()} == {"cancelled"}
        await session.run(user_input="thanks")
        assert await caller.thread() == said(session.history)
    silent.release()


async def test_ending_the_call_in_mid_reply(caller: Caller, upstream: Upstream) -> None:
    hold = stall()
    upstream.script(say("Once upon a time", hold, " there was a king."))
    async with caller.session() as session:
        session.generate_reply(user_input="a story")
        await hold.reached.wait()
        await speaking(session)
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


@pytest.mark.parametrize("brought", [True, False], ids=["brought", "not yet brought"])
async def test_a_discarded_answer_that_repeats_what_was_said(
    caller: Caller, upstream: Upstream, brought: bool
) -> None:
    """Words that were spoken once are no proof that they were spoken twice."""
    async with caller.session(agent := Agent(instructions="You are Ana.")) as session:
        await session.say("Yes?")
        if brought:
            await session.run(user_input="one")
        guess = agent.chat_ctx.copy()
        guess.add_message(role="user", content="tw")
        upstream.script(say("Yes?"))
        await caller.llm.chat(chat_ctx=guess).collect()
        await session.run(user_input="two")
        assert await caller.thread() == said(session.history)


async def test_the_full_text_is_kept_where_that_is_asked_for(
    server: LiveServer, upstream: Upstream, extensions: bool | None
) -> None:
    """What the model had written when it was interrupted, heard or not; never what nobody heard a
    word of."""
    options = {"interrupted": "full"}
    async with (
        Caller(server, extensions=extensions, options=options) as caller,
        caller.session() as session,
    ):
        hold = stall()
        upstream.script(say("Once upon a time", " there was", hold, " a king."))
        speech = session.generate_reply(user_input="a story")
        await hold.reached.wait()
        await speaking(session)
        await session.interrupt()
        assert speech.interrupted
        reply = session.history.messages()[-1]
        reply.content = ["Once upon"]  # as voice pipelines do, with what was heard
        silent = stall()
        upstream.script(silent + say("never heard"))
        speech = session.generate_reply(user_input="go on")
        await silent.reached.wait()
        speech.interrupt()
        await speech
        hold.release()
        silent.release()
        with caller.counted() as requests:
            await session.run(user_input="thanks")
        _hot_path(caller, requests)
        assert [text for _, text in await caller.thread()] == [
            "a story",
            "Once upon a time there was",
            "go on",
            "thanks",
            "thanks",
        ]


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
