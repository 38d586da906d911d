"""Function tools: one request a step, and results that are never lost nor repeated."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from livekit.agents import Agent, RunContext, StopResponse, ToolError, function_tool
from livekit.agents.llm import ChatContext, ProviderTool
from tests.live_server import LiveServer
from tests.plugin.agents import RUN, SUBMIT, Caller, said, settled
from tests.upstream import Upstream, call, calls, say, stall

from livekit.plugins.assistants import AssistantLoadOptions, AssistantOptions


class Shop(Agent):
    """Tools in all their moods."""

    def __init__(self) -> None:
        super().__init__(instructions="You keep a shop.")
        self.orders: list[str] = []
        self.working = asyncio.Event()
        self.finish = asyncio.Event()

    @function_tool
    async def order(self, what: str) -> str:
        """Order something."""
        self.orders.append(what)
        return f"ordered {what}"

    @function_tool
    async def slow_order(self, what: str) -> str:
        """Order something that takes a while."""
        self.orders.append(what)
        self.working.set()
        await self.finish.wait()
        return f"ordered {what}"

    @function_tool
    async def order_later(self, context: RunContext[Any]) -> str:
        """Order something, and say at once that it is on its way."""
        await context.update("The kitchen is at it.")
        await self.finish.wait()
        return "ordered late"

    @function_tool
    async def note(self, text: str) -> None:
        """Note something; there is nothing to say about it."""

    @function_tool
    async def fails(self) -> str:
        """Fail."""
        raise ToolError("The shop is closed.")

    @function_tool
    async def hush(self) -> str:
        """Say nothing."""
        raise StopResponse()

    @function_tool
    async def announce(self, context: RunContext[Any]) -> str:
        """Say something while working."""
        context.session.say("One moment.")
        return "done"

    @function_tool
    async def rename(self) -> str:
        """Become somebody else."""
        await self.update_instructions("You keep a library.")
        return "renamed"

    @function_tool
    async def ask_meanwhile(self, context: RunContext[Any]) -> str:
        """Have the model say something while working."""
        await context.session.generate_reply(instructions="Tell them to wait.")
        return "asked"


def tool_outputs(request: Any) -> list[str]:
    return [m["content"] for m in request.messages if m["role"] == "tool"]


async def test_two_parallel_calls_are_answered_in_one_request(
    caller: Caller, upstream: Upstream
) -> None:
    upstream.script(
        calls(call("order", {"what": "tea"}), call("order", {"what": "milk"})), say("Done.")
    )
    shop = Shop()
    async with caller.session(shop) as session:
        with caller.counted() as requests:
            await session.run(user_input="tea and milk")
        assert requests.count(RUN) == 1
        assert requests[-1] == SUBMIT
        if caller.extensions is None:
            assert requests == [RUN, SUBMIT]
        assert sorted(shop.orders) == ["milk", "tea"]
        assert sorted(tool_outputs(upstream.requests[-1])) == ["ordered milk", "ordered tea"]
        assert await caller.thread() == [("user", "tea and milk"), ("assistant", "Done.")]
        assert [run["status"] for run in await caller.runs()] == ["completed"]


async def test_the_usage_of_a_tool_turn_is_counted_once(caller: Caller, upstream: Upstream) -> None:
    totals: list[int] = []
    caller.llm.on("metrics_collected", lambda metrics: totals.append(metrics.total_tokens))
    upstream.script(call("order", {"what": "tea"}).usage(100, 10), say("Done.").usage(130, 3))
    async with caller.session(Shop()) as session:
        await session.run(user_input="tea")
    assert sum(totals) == 243


async def test_words_before_a_call_stay_where_they_are(caller: Caller, upstream: Upstream) -> None:
    upstream.script(say("One moment. ") + call("order", {"what": "tea"}), say("Done."))
    async with caller.session(Shop()) as session:
        with caller.counted() as requests:
            await session.run(user_input="tea")
        assert requests[-1] == SUBMIT
        assert await caller.thread() == said(session.history)


async def test_three_steps_are_one_run(caller: Caller, upstream: Upstream) -> None:
    upstream.script(
        call("order", {"what": "tea"}), call("order", {"what": "milk"}), say("Both are here.")
    )
    async with caller.session(Shop()) as session:
        await session.run(user_input="tea, then milk")
        await session.run(user_input="thanks")
    assert caller.wire.requests.count(SUBMIT) == 2
    assert tool_outputs(upstream.requests[-1]) == ["ordered tea", "ordered milk"]


async def test_a_failing_and_an_unknown_tool_are_answered(
    caller: Caller, upstream: Upstream
) -> None:
    upstream.script(calls(call("fails"), call("teleport")), say("I am sorry."))
    async with caller.session(Shop()) as session:
        with caller.counted() as requests:
            await session.run(user_input="try")
        assert requests[-1] == SUBMIT
        answered = tool_outputs(upstream.requests[-1])
        assert answered[0] == "The shop is closed."
        assert "teleport" in answered[1]


@pytest.mark.parametrize("tool", ["note", "hush"])
async def test_a_call_that_needs_no_reply_does_not_hold_the_thread(
    caller: Caller, upstream: Upstream, tool: str
) -> None:
    arguments = {"text": "x"} if tool == "note" else {}
    upstream.script(call(tool, arguments))
    async with caller.session(Shop()) as session:
        await session.run(user_input="note this")
        with caller.counted() as requests:
            await session.run(user_input="and now?")
        if caller.extensions is None:
            assert requests == [RUN]
        assert await caller.thread() == said(session.history)
    statuses = [run["status"] for run in await caller.runs()]
    assert statuses == ["cancelled", "completed"]


async def test_its_result_reaches_the_next_turn(caller: Caller, upstream: Upstream) -> None:
    upstream.script(call("note", {"text": "x"}))
    async with caller.session(Shop()) as session:
        await session.run(user_input="note this")
        await session.run(user_input="and now?")
    if caller.extensions is None:
        (turn,) = [m for m in upstream.requests[-1].messages if m.get("tool_calls")]
        assert turn["tool_calls"][0]["function"]["name"] == "note"
    else:
        assert "note(" in upstream.requests[-1].messages[0]["content"]


async def test_saying_something_in_a_tool(caller: Caller, upstream: Upstream) -> None:
    upstream.script(call("announce"), say("It is done."))
    async with caller.session(Shop()) as session:
        await session.run(user_input="go")
        await session.run(user_input="thanks")
        assert sorted(await caller.thread()) == sorted(said(session.history))
        assert await caller.thread() == said(session.current_agent.chat_ctx)


async def test_a_tool_that_changes_the_instructions(caller: Caller, upstream: Upstream) -> None:
    upstream.script(call("rename"), say("Hush, please."))
    async with caller.session(Shop()) as session:
        with caller.counted() as requests:
            await session.run(user_input="go")
        if caller.extensions is None:
            assert requests == [RUN, RUN]
            assert tool_outputs(upstream.requests[-1]) == ["renamed"]
        assert "library" in upstream.requests[-1].messages[0]["content"]
        assert await caller.thread() == said(session.history)


async def test_a_reply_within_a_tool(caller: Caller, upstream: Upstream) -> None:
    upstream.script(call("ask_meanwhile"), say("Please wait."), say("Here you are."))
    async with caller.session(Shop()) as session:
        await session.run(user_input="go")
        await session.run(user_input="thanks")
        assert await caller.thread() == said(session.current_agent.chat_ctx)


async def test_a_tool_interrupted_after_its_effect_is_not_called_again(
    caller: Caller, upstream: Upstream
) -> None:
    """The result of the order must reach the model: no duplicate orders."""
    upstream.script(call("slow_order", {"what": "tea"}))
    shop = Shop()
    async with caller.session(shop) as session:
        speech = session.generate_reply(user_input="tea")
        await shop.working.wait()
        speech.interrupt()
        shop.finish.set()
        await speech
        await session.run(user_input="hello?")
        assert shop.orders == ["tea"]
        if caller.extensions is None:
            assert tool_outputs(upstream.requests[-1]) == ["ordered tea"]
        else:
            assert "ordered tea" in upstream.requests[-1].messages[0]["content"]
        assert await caller.thread() == said(session.history)


async def test_a_turn_while_a_tool_runs(caller: Caller, upstream: Upstream) -> None:
    upstream.script(call("slow_order", {"what": "tea"}), say("Working on it."), say("Here."))
    shop = Shop()
    async with caller.session(shop) as session:
        first = session.generate_reply(user_input="tea")
        await shop.working.wait()
        await session.generate_reply(user_input="how long?", tool_choice="none")
        shop.finish.set()
        await first
        await session.run(user_input="thanks")
        assert shop.orders == ["tea"]
        assert await caller.thread() == said(session.current_agent.chat_ctx)


async def test_too_many_steps_end_in_words(caller: Caller, upstream: Upstream) -> None:
    upstream.script(*(call("order", {"what": str(n)}) for n in range(3)), say("That is enough."))
    async with caller.session(Shop(), max_tool_steps=2) as session:
        await session.run(user_input="a lot")
        await session.run(user_input="thanks")
        assert await caller.thread() == said(session.history)


async def test_a_call_although_calls_are_switched_off(caller: Caller, upstream: Upstream) -> None:
    """LiveKit ignores it: no item, no output. It must not hold the thread."""
    shop = Shop()
    upstream.script(*(call("order", {"what": str(n)}) for n in range(4)), say("Yes?"))
    async with caller.session(shop, max_tool_steps=2) as session:
        await session.run(user_input="a lot")
        assert shop.orders == ["0", "1", "2"]
        with caller.counted() as requests:
            await session.run(user_input="hello?")
        assert requests.count(RUN) == 1
        if caller.extensions is None:
            assert requests == [RUN]
            assert tool_outputs(upstream.requests[-1]) == ["ordered 0", "ordered 1", "ordered 2"]
        assert await caller.thread() == said(session.history)


async def test_a_tool_that_reports_and_goes_on(caller: Caller, upstream: Upstream) -> None:
    """Its report answers the call; the result comes later, as a call that no run has made."""
    upstream.script(call("order_later"), say("They are at it."))
    upstream.default = lambda body: say("All right.")
    shop = Shop()
    async with caller.session(shop) as session:
        with caller.counted() as requests:
            await session.generate_reply(user_input="tea")
        assert [one for one in requests if one in (RUN, SUBMIT)] == [RUN, RUN]
        await session.run(user_input="how is the weather?")
        shop.finish.set()
        await settled(lambda: any("ordered late" in str(one.messages) for one in upstream.requests))
        await settled(lambda: session.agent_state == "listening")
        with caller.counted() as requests:
            await session.run(user_input="thanks")
        assert requests.count(RUN) == 1
        assert "ordered late" in str(upstream.requests[-1].messages)
        assert await caller.thread() == said(session.current_agent.chat_ctx)


async def test_closing_with_a_run_that_waits_stores_the_result_and_frees_the_thread(
    caller: Caller, upstream: Upstream
) -> None:
    hold = stall()
    upstream.script(call("note", {"text": "x"}), say("never heard", hold))
    async with caller.session(Shop()) as session:
        await session.run(user_input="note this")
        await caller.llm.aclose()
    (run,) = await caller.runs()
    assert run["status"] == "cancelled"
    hold.release()


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
async def test_a_tool_of_another_provider_is_left_out(
    server: LiveServer, upstream: Upstream
) -> None:
    """It means nothing here; what the assistant has of its own stays."""
    async with server.client() as client:
        assistant = await client.beta.assistants.create(
            model="gpt-4o", tools=[{"type": "function", "function": {"name": "look_up"}}]
        )
    load = AssistantOptions(load_options=AssistantLoadOptions(assistant_id=assistant.id))
    context = ChatContext.empty()
    context.add_message(role="user", content="hello")
    async with Caller(server, options={"assistant_opts": load}) as caller:
        foreign = ProviderTool(id="somebody_elses")
        answer = await caller.llm.chat(chat_ctx=context, tools=[foreign]).collect()
    assert answer.text == "hello"
    (tool,) = upstream.requests[-1].body["tools"]
    assert tool["function"]["name"] == "look_up"
