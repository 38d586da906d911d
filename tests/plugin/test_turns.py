"""Plain turns of a session: what the thread holds, what the model sees, how many requests."""

from __future__ import annotations

from typing import Any

import pytest
from livekit.agents import Agent
from livekit.agents.llm import ChatContext, ChatMessage
from livekit.agents.metrics import LLMMetrics
from tests.plugin.agents import ADD, RUN, Caller, Entering, model_saw, said, speaking
from tests.upstream import Upstream, say, stall


async def test_three_turns_are_three_requests(caller: Caller, upstream: Upstream) -> None:
    async with caller.session() as session:
        with caller.counted() as requests:
            for text in ("one", "two", "three"):
                await session.run(user_input=text)
        assert requests == ([RUN] if caller.extensions is None else [ADD, RUN]) * 3
        assert await caller.thread() == said(session.history)
        assert [role for role, _ in await caller.thread()] == ["user", "assistant"] * 3
        assert model_saw(upstream.requests[-1]) == said(session.history)[:-1]


async def test_the_agents_instructions_are_the_runs(caller: Caller, upstream: Upstream) -> None:
    agent = Agent(instructions="Speak like a pirate.")
    async with caller.session(agent) as session:
        await session.run(user_input="one")
        await agent.update_instructions("Speak like a queen.")
        await session.generate_reply(user_input="two", instructions="Mention the weather.")
        await session.run(user_input="three")
    systems = [request.messages[0]["content"] for request in upstream.requests]
    assert [" ".join(text.split()) for text in systems] == [
        "Speak like a pirate.",
        "Speak like a queen. Mention the weather.",
        "Speak like a queen.",
    ]
    assert {role for role, _ in await caller.thread()} == {"user", "assistant"}


async def test_what_was_said_without_the_model_is_in_the_thread(
    caller: Caller, upstream: Upstream
) -> None:
    async with caller.session() as session:
        await session.say("Welcome!")
        with caller.counted() as requests:
            await session.run(user_input="one")
        assert requests.count(RUN) == 1
        if caller.extensions is None:
            assert requests == [RUN]
        await session.say("Still there?")
        await session.run(user_input="two")
        assert await caller.thread() == said(session.history)
        assert model_saw(upstream.requests[-1]) == said(session.history)[:-1]
        await session.say("Bye.")
        await caller.llm.sync(session.history)
        assert await caller.thread() == said(session.history)
        assert (await caller.thread())[-1] == ("assistant", "Bye.")


async def test_an_attached_session_leaves_its_last_words_when_it_closes(caller: Caller) -> None:
    async with caller.session() as session:
        caller.llm.attach(session)
        await session.run(user_input="one")
        await session.say("Bye.")
        history = session.history
    await caller.llm.aclose()
    assert await caller.thread() == said(history)
    assert (await caller.thread())[-1] == ("assistant", "Bye.")


async def test_usage_reaches_livekits_metrics(caller: Caller, upstream: Upstream) -> None:
    metrics: list[LLMMetrics] = []
    caller.llm.on("metrics_collected", metrics.append)
    upstream.script(say("Hello ", "there").usage(120, 7, cached=64, reasoning=2))
    async with caller.session() as session:
        await session.run(user_input="one")
    (one,) = metrics
    assert (one.prompt_tokens, one.completion_tokens, one.total_tokens) == (120, 7, 127)
    assert one.prompt_cached_tokens == 64
    assert one.reasoning_tokens == 2
    assert one.request_id == (await caller.runs())[0]["id"]
    assert one.ttft > 0
    assert not one.cancelled


async def test_an_interrupted_reply_is_told_as_cancelled(
    caller: Caller, upstream: Upstream
) -> None:
    metrics: list[LLMMetrics] = []
    caller.llm.on("metrics_collected", metrics.append)
    hold = stall()
    upstream.script(say("Once upon", hold))
    async with caller.session() as session:
        session.generate_reply(user_input="a story")
        await speaking(session)
        await session.interrupt()
        await session.run(user_input="thanks")
        hold.release()
        (run, _) = await caller.runs()
    told = [(one.cancelled, one.request_id, one.total_tokens > 0) for one in metrics]
    assert told[0] == (True, run["id"], False)
    assert [one[0] for one in told] == [True, False]


async def test_a_reply_carries_its_stamp(caller: Caller) -> None:
    async with caller.session() as session:
        await session.run(user_input="one")
        reply = session.history.items[-1]
        assert isinstance(reply, ChatMessage)
    stamp = reply.extra["assistants"]
    assert stamp["thread_id"] == caller.llm.thread_id
    assert stamp["run_id"] == (await caller.runs())[0]["id"]
    assert stamp["message_id"].startswith("msg_")


async def test_edits_and_removals_reach_the_thread(caller: Caller, upstream: Upstream) -> None:
    agent = Agent(instructions="You are Ana.")
    async with caller.session(agent) as session:
        for text in ("one", "two", "three"):
            await session.run(user_input=text)
        context = agent.chat_ctx.copy()
        gone = next(one for one in context.items if _words(one) == "two")
        context.items.remove(gone)
        edited = next(one for one in context.items if _words(one) == "one")
        assert isinstance(edited, ChatMessage)
        edited.content = ["ONE"]
        await agent.update_chat_ctx(context)
        with caller.counted() as requests:
            await session.run(user_input="four")
        if caller.extensions is None:
            assert requests == [RUN]
        assert await caller.thread() == said(agent.chat_ctx)
        assert model_saw(upstream.requests[-1]) == said(agent.chat_ctx)[:-1]


async def test_a_sliding_window_hides_and_keeps(caller: Caller, upstream: Upstream) -> None:
    class Forgetful(Agent):
        async def llm_node(self, chat_ctx: ChatContext, tools: Any, model_settings: Any) -> Any:
            window = chat_ctx.copy()
            window.truncate(max_items=3)
            async for chunk in Agent.default.llm_node(self, window, tools, model_settings):
                yield chunk

    async with caller.session(Forgetful(instructions="You are Ana.")) as session:
        for text in ("one", "two", "three", "four"):
            await session.run(user_input=text)
        assert await caller.thread() == said(session.history)
        assert model_saw(upstream.requests[-1]) == said(session.history)[-4:-1]


async def test_empty_and_blank_items_are_not_sent(caller: Caller) -> None:
    agent = Agent(instructions="You are Ana.")
    async with caller.session(agent) as session:
        context = agent.chat_ctx.copy()
        context.add_message(role="user", content="  ")
        context.add_message(role="assistant", content=[])
        await agent.update_chat_ctx(context)
        await session.run(user_input="one")
        assert await caller.thread() == [("user", "one"), ("assistant", "one")]


async def test_another_agent_sees_its_own_turns(caller: Caller, upstream: Upstream) -> None:
    first, second = Entering(instructions="First."), Entering(instructions="Second.")
    async with caller.session(first) as session:
        await session.run(user_input="one")
        await second.takes_over(session)
        await session.run(user_input="two")
        if caller.extensions is None:
            assert model_saw(upstream.requests[-1]) == [("user", "two")]
        await first.takes_over(session)
        await session.run(user_input="three")
        assert await caller.thread() == said(session.history)
        if caller.extensions is None:
            saw = [text for _, text in model_saw(upstream.requests[-1])]
            assert saw == ["one", "one", "three"]


async def test_a_judge_leaves_no_trace(caller: Caller, upstream: Upstream) -> None:
    async with caller.session() as session:
        await session.run(user_input="one")
        judge = ChatContext.empty()
        judge.add_message(role="system", content="Was it polite?")
        judge.add_message(role="user", content="The transcript")
        upstream.script(say("Yes."))
        answer = await caller.llm.chat(chat_ctx=judge).collect()
        assert answer.text == "Yes."
        await session.run(user_input="two")
        assert await caller.thread() == said(session.history)
    await caller.llm.aclose()
    assert "DELETE threads/*" in caller.wire.requests


async def test_two_replies_queued_at_once(caller: Caller) -> None:
    async with caller.session() as session:
        first = session.generate_reply(user_input="a")
        second = session.generate_reply(user_input="b")
        await first
        await second
        await session.run(user_input="c")
        assert await caller.thread() == said(session.history)


@pytest.mark.parametrize("n", [None, 1])
async def test_without_a_session_the_llm_works_alone(caller: Caller, n: int | None) -> None:
    context = ChatContext.empty()
    context.add_message(role="user", content="hello there")
    answer = await caller.llm.chat(chat_ctx=context, n=n).collect()
    assert answer.text == "hello there"
    context.add_message(role="assistant", content=answer.text, extra=answer.extra)
    context.add_message(role="user", content="again")
    await caller.llm.chat(chat_ctx=context).collect()
    assert await caller.thread() == [*said(context), ("assistant", "again")]


def _words(item: Any) -> str | None:
    return item.raw_text_content if isinstance(item, ChatMessage) else None
