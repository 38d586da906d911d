"""Contexts that somebody rewrites between two turns: truncated, inserted into, given new ids."""

from __future__ import annotations

from typing import Any

import pytest
from livekit.agents import Agent
from livekit.agents.llm import ChatContext, ChatMessage, ImageContent
from tests.live_server import LiveServer
from tests.plugin.agents import RUN, Caller, model_saw, said, standard_by_night
from tests.plugin.test_images import UPLOAD, frame, png, seen_by_the_model
from tests.upstream import Upstream, say, stall

WORDS = ("one", "two", "three")


async def test_a_truncated_context_is_forgotten_by_the_model_not_by_the_thread(
    caller: Caller, upstream: Upstream
) -> None:
    agent = Agent(instructions="You are Ana.")
    async with caller.session(agent) as session:
        for text in WORDS:
            await session.run(user_input=text)
        context = agent.chat_ctx.copy()
        context.truncate(max_items=2)
        await agent.update_chat_ctx(context)
        for text in ("four", "five"):
            with caller.counted() as requests:
                await session.run(user_input=text)
            assert requests.count(RUN) == 1
            if caller.extensions is None:
                assert requests == [RUN]
            assert model_saw(upstream.requests[-1]) == said(agent.chat_ctx)[:-1]
        await caller.llm.sync(session.history)
        assert await caller.thread() == said(session.history)


async def test_a_late_insert_is_where_it_belongs(caller: Caller, upstream: Upstream) -> None:
    """A thread cannot be inserted into: what stands behind it is sent again, in the one request."""
    agent = Agent(instructions="You are Ana.")
    async with caller.session(agent) as session:
        for text in WORDS:
            await session.run(user_input=text)
        context = agent.chat_ctx.copy()
        place = next(n for n, item in enumerate(context.items) if _words(item) == "two")
        late = ChatMessage(role="assistant", content=["by the way"])
        context.items.insert(place, late)
        await agent.update_chat_ctx(context)
        with caller.counted() as requests:
            await session.run(user_input="four")
        if caller.extensions is None:
            assert requests == [RUN]
        assert await caller.thread() == said(agent.chat_ctx)
        assert (await caller.thread())[2] == ("assistant", "by the way")
        assert model_saw(upstream.requests[-1]) == said(agent.chat_ctx)[:-1]


async def test_a_note_for_one_turn_alone(caller: Caller, upstream: Upstream) -> None:
    """Retrieved text before the question, with an id of its own each time."""

    class Reader(Agent):
        async def llm_node(self, chat_ctx: ChatContext, tools: Any, model_settings: Any) -> Any:
            context = chat_ctx.copy()
            note = ChatMessage(role="user", content=[f"[note {len(context.items)}]"])
            context.items.insert(len(context.items) - 1, note)
            async for chunk in Agent.default.llm_node(self, context, tools, model_settings):
                yield chunk

    async with caller.session(Reader(instructions="You are Ana.")) as session:
        for text in WORDS:
            with caller.counted() as requests:
                await session.run(user_input=text)
            if caller.extensions is None:
                assert requests == [RUN]
            shown = [text for _, text in model_saw(upstream.requests[-1])]
            assert sum(text.startswith("[note") for text in shown) == 1
        await caller.llm.sync(session.history)
        assert await caller.thread() == said(session.history)


@standard_by_night
async def test_a_history_from_a_database_with_new_ids(
    caller: Caller, server: LiveServer, upstream: Upstream
) -> None:
    """Who keeps words and roles alone is recognised by them."""
    async with caller.session() as session:
        for text in WORDS:
            await session.run(user_input=text)
        kept = said(session.history)
    options = {"thread_id": caller.llm.thread_id}
    async with Caller(server, extensions=caller.extensions, options=options) as later:
        context = ChatContext.empty()
        for role, text in kept:
            context.add_message(role="user" if role == "user" else "assistant", content=text)
        agent = Agent(instructions="You are Ana.", chat_ctx=context)
        async with later.session(agent) as session:
            await session.run(user_input="four")
            assert await later.thread() == [*kept, ("user", "four"), ("assistant", "four")]
            assert model_saw(upstream.requests[-1]) == said(agent.chat_ctx)[:-1]


@standard_by_night
async def test_a_greeting_is_said_anew_in_each_call(caller: Caller, server: LiveServer) -> None:
    """The same words as at the thread's end, but nothing shows that they are the same speech."""
    async with caller.session() as session:
        await session.say("Hello, this is Ana.")
        await caller.llm.sync(session.history)
    options = {"thread_id": caller.llm.thread_id}
    async with (
        Caller(server, extensions=caller.extensions, options=options) as later,
        later.session() as session,
    ):
        await session.say("Hello, this is Ana.")
        await session.run(user_input="one")
        assert await later.thread() == [*said(session.history)[:1], *said(session.history)]


@pytest.mark.parametrize("extensions", [None], ids=["extensions"])
async def test_nothing_said_is_nothing_added(caller: Caller, upstream: Upstream) -> None:
    upstream.script(say("Are you there?"), say("Good."))
    async with caller.session() as session:
        await session.run(user_input="")
        await session.run(user_input="yes")
        assert await caller.thread() == said(session.history)
        assert [role for role, _ in await caller.thread()] == ["assistant", "user", "assistant"]


@standard_by_night
@pytest.mark.parametrize("kind", ["frame", "data", "url"])
async def test_a_picture_of_a_turn_that_is_interrupted(
    caller: Caller, upstream: Upstream, kind: str
) -> None:
    """It is uploaded once, and the next turn's model sees it."""
    url = "https://example.com/cat.png"
    image = frame() if kind == "frame" else png() if kind == "data" else url
    hold = stall()
    upstream.script(hold + say("never heard"))
    async with caller.session() as session:
        message = ChatMessage(role="user", content=["look", ImageContent(image=image)])
        speech = session.generate_reply(user_input=message)
        await hold.reached.wait()
        speech.interrupt()
        await speech
        hold.release()
        with caller.counted() as requests:
            await session.run(user_input="what is it?")
        assert requests.count(RUN) == 1
        if caller.extensions is None:
            assert requests == [RUN]
        assert caller.wire.requests.count(UPLOAD) == (0 if kind == "url" else 1)
        assert len(seen_by_the_model(upstream)) == 1
        assert await caller.thread() == said(session.history)


def _words(item: Any) -> str | None:
    return item.raw_text_content if isinstance(item, ChatMessage) else None
