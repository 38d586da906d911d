"""Memory that outlives the process: by thread id, by key, with and without its history."""

from __future__ import annotations

import asyncio

import pytest
from livekit.agents import Agent, APIError
from livekit.agents.llm import ChatContext, ImageContent
from tests.live_server import LiveServer
from tests.plugin.agents import RUN, Caller, model_saw, said
from tests.upstream import Upstream

from livekit.plugins.assistants import (
    AssistantCreateOptions,
    AssistantError,
    AssistantLLM,
    AssistantLoadOptions,
    AssistantOptions,
)

# The tests prepare threads with the SDK, whose Assistants methods say that they are deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")


async def test_a_thread_resumed_by_id_is_what_the_model_sees(
    caller: Caller, server: LiveServer, upstream: Upstream
) -> None:
    async with caller.session() as session:
        await session.run(user_input="my name is Ana")
        before = said(session.history)
    async with Caller(
        server, extensions=caller.extensions, options={"thread_id": caller.llm.thread_id}
    ) as later:
        async with later.session() as session:
            with later.counted() as requests:
                await session.run(user_input="what is my name?")
            if caller.extensions is None:
                assert requests == [RUN]
            assert model_saw(upstream.requests[-1]) == [*before, ("user", "what is my name?")]
        assert await later.thread() == [*before, *said(session.history)]
        assert later.llm.thread_id == caller.llm.thread_id
        assert later.llm.assistant_id == caller.llm.assistant_id


async def test_a_loaded_history_is_not_sent_again(
    caller: Caller, server: LiveServer, upstream: Upstream
) -> None:
    async with caller.session() as session:
        await session.run(user_input="my name is Ana")
        await session.run(user_input="and I like tea")
    async with Caller(
        server, extensions=caller.extensions, options={"thread_id": caller.llm.thread_id}
    ) as later:
        remembered = await later.llm.load_chat_ctx()
        assert said(remembered) == await later.thread()
        agent = Agent(instructions="You are Ana.", chat_ctx=remembered)
        async with later.session(agent) as session:
            await session.run(user_input="what do I like?")
            assert await later.thread() == said(agent.chat_ctx)
            assert model_saw(upstream.requests[-1]) == said(agent.chat_ctx)[:-1]


async def test_a_history_saved_by_livekit_is_recognised(caller: Caller, server: LiveServer) -> None:
    async with caller.session() as session:
        await session.run(user_input="my name is Ana")
        saved = session.history.to_dict()
    async with Caller(
        server, extensions=caller.extensions, options={"thread_id": caller.llm.thread_id}
    ) as later:
        agent = Agent(instructions="You are Ana.", chat_ctx=ChatContext.from_dict(saved))
        async with later.session(agent) as session:
            await session.run(user_input="again")
            assert await later.thread() == said(agent.chat_ctx)


async def test_a_limit_loads_the_newest(caller: Caller) -> None:
    async with caller.session() as session:
        await session.run(user_input="one")
        await session.run(user_input="two")
    assert said(await caller.llm.load_chat_ctx(limit=2)) == [("user", "two"), ("assistant", "two")]


async def test_a_long_thread_is_loaded_whole_and_recognised(
    server: LiveServer, upstream: Upstream
) -> None:
    async with server.client() as client:
        thread = await client.beta.threads.create()
        for n in range(120):
            await client.beta.threads.messages.create(thread.id, role="user", content=f"m{n}")
    async with Caller(server, options={"thread_id": thread.id}) as later:
        remembered = await later.llm.load_chat_ctx()
        assert len(remembered.items) == 120
        agent = Agent(instructions="You are Ana.", chat_ctx=remembered)
        async with later.session(agent) as session:
            await session.run(user_input="new")
        assert len(upstream.requests[-1].messages) == 122


async def test_a_caller_is_found_again_by_key(server: LiveServer, upstream: Upstream) -> None:
    key = {"thread_key": "caller:+351"}
    async with Caller(server, options={**key}) as first, first.session() as session:
        await session.run(user_input="my name is Ana")
    async with Caller(server, options={**key}) as again:
        async with again.session() as session:
            await session.run(user_input="hello")
        assert again.llm.thread_id == first.llm.thread_id
        assert len(await again.thread()) == 4
    async with Caller(server, options={"thread_key": "caller:+352"}) as other:
        assert said(await other.llm.load_chat_ctx()) == []
        assert other.llm.thread_id != first.llm.thread_id


async def test_two_processes_make_one_thread_for_a_key(server: LiveServer) -> None:
    async with (
        Caller(server, options={"thread_key": "caller:1"}) as one,
        Caller(server, options={"thread_key": "caller:1"}) as two,
    ):
        await asyncio.gather(one.llm.load_chat_ctx(), two.llm.load_chat_ctx())
        assert one.llm.thread_id == two.llm.thread_id
        assert one.llm.assistant_id == two.llm.assistant_id


async def test_a_key_whose_thread_was_deleted_gets_a_new_one(server: LiveServer) -> None:
    async with Caller(server, options={"thread_key": "caller:1"}) as one:
        await one.llm.load_chat_ctx()
        async with server.client() as client:
            await client.beta.threads.delete(str(one.llm.thread_id))
    async with Caller(server, options={"thread_key": "caller:1"}) as two:
        assert said(await two.llm.load_chat_ctx()) == []
        assert two.llm.thread_id != one.llm.thread_id


async def test_the_assistant_made_before_is_found(server: LiveServer) -> None:
    def options(instructions: str) -> dict[str, object]:
        return {
            "assistant_opts": AssistantOptions(
                create_options=AssistantCreateOptions(
                    name="Ana", instructions=instructions, model="gpt-4o", temperature=0.0
                )
            )
        }

    made = []
    for instructions in ("Be brief.", "Be brief.", "Be long."):
        async with Caller(server, options=options(instructions)) as one:
            await one.llm.load_chat_ctx()
            made.append(one.llm.assistant_id)
    assert made[0] == made[1] != made[2]


async def test_loading_writes_the_new_threads_id_back(server: LiveServer) -> None:
    async with server.client() as client:
        assistant = await client.beta.assistants.create(model="gpt-4o", name="Ana")
    load = AssistantLoadOptions(assistant_id=assistant.id, thread_id=None)
    async with Caller(
        server, options={"assistant_opts": AssistantOptions(load_options=load)}
    ) as one:
        async with one.session() as session:
            await session.run(user_input="hello")
        assert load.thread_id == one.llm.thread_id
        assert one.llm.model == "gpt-4o"


async def test_options_can_be_shared_by_callers_who_have_keys(server: LiveServer) -> None:
    """The thread of one caller's key is not written into what the next caller's LLM is made of."""
    async with server.client() as client:
        assistant = await client.beta.assistants.create(model="gpt-4o", name="Ana")
    shared = AssistantOptions(load_options=AssistantLoadOptions(assistant_id=assistant.id))
    threads = []
    for key in ("caller:1", "caller:2"):
        options = {"assistant_opts": shared, "thread_key": key}
        async with Caller(server, options=options) as one:
            await one.llm.load_chat_ctx()
            threads.append(one.llm.thread_id)
    assert threads[0] != threads[1]
    assert shared.load_options is not None
    assert shared.load_options.thread_id is None


@pytest.mark.parametrize("noun", ["thread", "assistant"])
async def test_an_unknown_id_is_said_clearly(server: LiveServer, noun: str) -> None:
    ids = {"thread": "thread_0", "assistant": "asst_0"}
    load = AssistantLoadOptions(assistant_id="asst_000000000000000000000000", thread_id=None)
    options: dict[str, object] = {"thread_id": "thread_000000000000000000000000"}
    if noun == "assistant":
        options = {"assistant_opts": AssistantOptions(load_options=load)}
    async with Caller(server, options=options) as one:
        with pytest.raises(APIError, match=f"There is no {noun} '{ids[noun]}") as raised:
            await one.llm.load_chat_ctx()
        assert not raised.value.retryable


async def test_what_cannot_be_is_refused_at_once() -> None:
    with pytest.raises(AssistantError, match="exactly one"):
        AssistantLLM(assistant_opts=AssistantOptions())
    options = AssistantOptions(load_options=AssistantLoadOptions("asst_1", "thread_1"))
    with pytest.raises(AssistantError, match="not both"):
        AssistantLLM(assistant_opts=options, thread_key="caller:1")


async def test_images_of_a_loaded_history_stay_in_the_thread(
    server: LiveServer, upstream: Upstream
) -> None:
    async with server.client() as client:
        thread = await client.beta.threads.create()
        await client.beta.threads.messages.create(
            thread.id,
            role="user",
            content=[
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            ],
        )
    async with Caller(server, options={"thread_id": thread.id}) as later:
        remembered = await later.llm.load_chat_ctx()
        (item,) = remembered.messages()
        assert [type(part) for part in item.content] == [str, ImageContent]
        async with later.session(Agent(instructions="", chat_ctx=remembered)) as session:
            await session.run(user_input="what is it?")
        assert len(await later.thread()) == 3
