"""Several who share a thread or an LLM: nobody loses what was said, nobody says it twice."""

from __future__ import annotations

import asyncio

import httpx2
import pytest
from livekit.agents import Agent
from livekit.agents.llm import ChatContext
from tests.live_server import LiveServer
from tests.plugin.agents import RUN, Caller, model_saw, said, speaking, standard_by_night
from tests.upstream import Upstream, say, stall


async def test_two_llms_take_turns_on_one_thread(
    caller: Caller, server: LiveServer, upstream: Upstream
) -> None:
    """Each knows its own session; the model is shown what both have said."""
    await caller.llm.load_chat_ctx()
    options = {"thread_id": caller.llm.thread_id}
    async with (
        Caller(server, extensions=caller.extensions, options=options) as other,
        caller.session() as here,
        other.session() as there,
    ):
        await here.run(user_input="one")
        await there.run(user_input="two")
        with caller.counted() as requests:
            await here.run(user_input="three")
        assert requests.count(RUN) == 1
        if caller.extensions is None:
            assert requests == [RUN]
        words = ["one", "one", "two", "two", "three", "three"]
        assert [text for _, text in await caller.thread()] == words
        assert [text for _, text in model_saw(upstream.requests[-1])] == words[:-1]
        await there.say("Bye.")
        await other.llm.sync(there.history)
        await caller.llm.sync(here.history)
        assert [text for _, text in await caller.thread()] == [*words, "Bye."]


async def test_two_llms_at_once_on_one_thread(
    caller: Caller, server: LiveServer, upstream: Upstream
) -> None:
    """One is interrupted while the other waits for it: the other's turn is not touched."""
    hold = stall()
    await caller.llm.load_chat_ctx()
    options = {"thread_id": caller.llm.thread_id}
    async with (
        Caller(server, extensions=caller.extensions, options=options) as other,
        caller.session() as here,
        other.session() as there,
    ):
        upstream.script(say("Once upon", hold, " a time"))
        first = here.generate_reply(user_input="a story")
        await hold.reached.wait()
        await speaking(here)
        second = there.generate_reply(user_input="hello")
        await asyncio.sleep(0)
        first.interrupt()
        await second
        hold.release()
        await here.run(user_input="and then?")
        await there.run(user_input="thanks")
        mine = [one for one in await caller.thread() if one in said(here.history)]
        theirs = [one for one in await caller.thread() if one in said(there.history)]
        assert mine == said(here.history)
        assert theirs == said(there.history)
        assert len(await caller.thread()) == len(mine) + len(theirs)
        assert ("assistant", "Once upon") in mine


async def test_one_llm_in_two_sessions(caller: Caller, upstream: Upstream) -> None:
    """The sessions see each their own; the thread has both, interruptions included."""
    hold = stall()
    async with caller.session() as here, caller.session() as there:
        await here.run(user_input="one")
        await there.run(user_input="two")
        upstream.script(say("Once upon", hold, " a time"))
        speech = here.generate_reply(user_input="a story")
        await hold.reached.wait()
        await speaking(here)
        speech.interrupt()
        await speech
        hold.release()
        with caller.counted() as requests:
            await there.run(user_input="three")
        if caller.extensions is None:
            assert requests == [RUN]
            assert model_saw(upstream.requests[-1]) == said(there.history)[:-1]
        await here.run(user_input="four")
        if caller.extensions is None:
            assert model_saw(upstream.requests[-1]) == said(here.history)[:-1]
        await caller.llm.sync(here.history)
        await caller.llm.sync(there.history)
        thread = await caller.thread()
        assert sorted(thread) == sorted([*said(here.history), *said(there.history)])
        assert [one for one in thread if one in said(here.history)] == said(here.history)
        assert [one for one in thread if one in said(there.history)] == said(there.history)


@standard_by_night
async def test_one_llm_in_two_sessions_at_once(caller: Caller) -> None:
    async with caller.session() as here, caller.session() as there:
        await asyncio.gather(
            here.generate_reply(user_input="one").wait_for_playout(),
            there.generate_reply(user_input="two").wait_for_playout(),
        )
        await asyncio.gather(
            here.generate_reply(user_input="three").wait_for_playout(),
            there.generate_reply(user_input="four").wait_for_playout(),
        )
        await caller.llm.sync(here.history)
        await caller.llm.sync(there.history)
        assert sorted(await caller.thread()) == sorted([*said(here.history), *said(there.history)])


@standard_by_night
async def test_what_somebody_else_writes_is_left_alone(caller: Caller, upstream: Upstream) -> None:
    """Another program adds a message: it stays, the model sees it, interruptions do not hurt it."""
    hold = stall()
    async with caller.session() as session:
        await session.run(user_input="one")
        async with caller.server.http() as http:
            answer = await http.post(
                f"/v1/threads/{caller.llm.thread_id}/messages",
                json={"role": "user", "content": "[order 7 was delivered]"},
            )
            answer.raise_for_status()
        upstream.script(hold + say("never heard"))
        speech = session.generate_reply(user_input="two")
        await hold.reached.wait()
        speech.interrupt()
        await speech
        hold.release()
        await session.run(user_input="three")
        await caller.llm.sync(session.history)
        thread = await caller.thread()
        assert ("user", "[order 7 was delivered]") in thread
        assert ("user", "[order 7 was delivered]") in model_saw(upstream.requests[-1])
        assert [one for one in thread if "delivered" not in one[1]] == said(session.history)


@standard_by_night
@pytest.mark.parametrize("known", [True, False], ids=["with its history", "without"])
async def test_an_agent_process_that_dies_in_mid_turn_is_replaced(
    caller: Caller, server: LiveServer, upstream: Upstream, known: bool
) -> None:
    """No flush, no goodbye: the next process takes the thread up, and the open run is over."""
    hold = stall()

    def is_dead(request: httpx2.Request) -> None:
        raise httpx2.ConnectError("the process is gone", request=request)

    async with caller.session() as session:
        await session.run(user_input="one")
        before = said(session.history)
        upstream.script(say("Once upon", hold, " a time"))
        session.generate_reply(user_input="a story")
        await hold.reached.wait()
        caller.wire.before = is_dead
        await caller.wire.aclose()
        if caller.extensions is None:
            await upstream.disconnected()
        hold.release()
    options = {"thread_id": caller.llm.thread_id}
    async with Caller(server, extensions=caller.extensions, options=options) as later:
        context = await later.llm.load_chat_ctx() if known else ChatContext.empty()
        agent = Agent(instructions="You are Ana.", chat_ctx=context)
        async with later.session(agent) as session:
            await session.run(user_input="two")
            thread = await later.thread()
            assert thread[: len(before)] == before
            assert thread[-2:] == [("user", "two"), ("assistant", "two")]
            if known:
                assert thread == said(agent.chat_ctx)
        assert all(run["status"] in ("completed", "cancelled") for run in await later.runs())
