"""What others do to a thread, an assistant or an ``AssistantLLM`` that is not theirs alone."""

from __future__ import annotations

import gc

from livekit.agents import Agent
from tests.plugin.agents import Caller, Entering, said


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
