"""What others do to a thread, an assistant or an ``AssistantLLM`` that is not theirs alone."""

from __future__ import annotations

import gc

import httpx2
import pytest
from livekit.agents import Agent, APIConnectOptions, APIStatusError
from livekit.agents.llm import ChatContext
from tests.live_server import LiveServer
from tests.plugin.agents import Caller, CountingTransport, Entering, said
from tests.upstream import Upstream, say, stall


async def test_one_session_does_not_delete_what_another_one_said(caller: Caller) -> None:
    async with caller.session(Agent(instructions="You are Bob.")) as session:
        await session.run(user_input="first session")
    del session
    gc.collect()  # nobody can ask it any more what it said
    async with caller.session() as session:
        await session.run(user_input="second session")
        await caller.llm.sync(session.history)
        assert await caller.thread() == [
            ("user", "first session"),
            ("assistant", "first session"),
            *said(session.history),
        ]


async def test_what_was_taken_out_does_not_come_back_with_a_new_thread(caller: Caller) -> None:
    async with caller.session() as session:
        await session.run(user_input="one")
        await session.run(user_input="two")
        agent = session.current_agent
        context = agent.chat_ctx.copy()
        (gone,) = [one for one in context.messages() if one.raw_text_content == "two"][:1]
        context.items.remove(gone)
        await agent.update_chat_ctx(context)
        await session.run(user_input="three")
        async with caller.server.http() as http:
            await http.delete(f"/v1/threads/{caller.llm.thread_id}")
        await session.run(user_input="four")
        await caller.llm.sync(session.history)
        assert await caller.thread() == said(agent.chat_ctx)


async def test_what_nobody_has_brought_yet_is_brought_to_a_new_thread(caller: Caller) -> None:
    async with caller.session() as session:
        await session.run(user_input="one")
        async with caller.server.http() as http:
            await http.delete(f"/v1/threads/{caller.llm.thread_id}")
        await session.say("Good night.")
        await caller.llm.sync(session.history)
        assert await caller.thread() == said(session.history)


async def test_what_was_said_before_a_handoff_stays_when_it_is_brought_after_it(
    caller: Caller,
) -> None:
    async with caller.session() as session:
        await session.say("Welcome.")
        await Entering(instructions="You are Bob.").takes_over(session)
        await session.run(user_input="one")
        await caller.llm.sync(session.history)
        await session.run(user_input="two")
        assert await caller.thread() == said(session.history)


async def test_what_a_speculation_brought_goes_when_it_is_taken_out(caller: Caller) -> None:
    """A guess of somebody else moved the reply behind what was said in between."""
    async with caller.session() as session:
        await session.run(user_input="one")
        await session.say("By the way.")
        agent = session.current_agent
        context = agent.chat_ctx.copy()
        context.items[-2], context.items[-1] = context.items[-1], context.items[-2]
        await agent.update_chat_ctx(context)
        guess = context.copy()
        guess.add_message(role="user", content="guess")
        await caller.llm.chat(chat_ctx=guess).collect()
        context = agent.chat_ctx.copy()
        context.items.pop()  # the reply
        await agent.update_chat_ctx(context)
        await session.run(user_input="two")
        assert await caller.thread() == said(agent.chat_ctx)


async def test_an_assistant_that_is_deleted_again_and_again_is_made_again(caller: Caller) -> None:
    async with caller.session() as session:
        for number in range(6):
            async with caller.server.http() as http:
                await http.delete(f"/v1/assistants/{caller.llm.assistant_id}")
            await session.run(user_input=f"number {number}")
        assert await caller.thread() == said(session.history)
        async with caller.server.http() as http:
            made = (await http.get("/v1/assistants")).json()["data"]
        assert [one["id"] for one in made] == [caller.llm.assistant_id]


class NoCancelling(CountingTransport):
    """Somebody on the way does not know the path, and says so."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if not request.url.path.endswith("/cancel"):
            return await super().handle_async_request(request)
        return httpx2.Response(404, json={"error": {"message": "?"}}, request=request)


async def test_a_proxy_that_does_not_know_the_path_does_not_mean_that_a_run_is_gone(
    server: LiveServer, upstream: Upstream
) -> None:
    """Without the extensions the next turn cancels the last one's run, or says that it cannot."""
    async with Caller(server, extensions=False, wire=NoCancelling()) as caller:
        context = ChatContext.empty()
        context.add_message(role="user", content="one")
        hold = stall()
        upstream.script(say("never", hold, " heard"))
        async with caller.llm.chat(chat_ctx=context) as stream:
            await anext(aiter(stream))
        context.add_message(role="user", content="two")
        once = APIConnectOptions(max_retry=0)
        with pytest.raises(APIStatusError, match="404"):
            await caller.llm.chat(chat_ctx=context, conn_options=once).collect()
        hold.release()
