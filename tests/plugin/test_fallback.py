"""Behind LiveKit's ``FallbackAdapter``: whoever answers, the thread says what was said, and the
adapter's probe, whose answer nobody hears, leaves no trace."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest
from livekit.agents import Agent, APIConnectionError
from livekit.agents.llm import LLM, ChatChunk, ChatContext, ChoiceDelta, FallbackAdapter, LLMStream
from livekit.agents.metrics import LLMMetrics
from tests.plugin.agents import RUN, SUBMIT, Caller, model_saw, said, settled, standard_by_night
from tests.plugin.test_tools import Shop, tool_outputs
from tests.upstream import Upstream, call, fail, say, stall


class Understudy(LLM[Any]):
    """Another provider's LLM: says its one answer, or repeats the user, or is down."""

    def __init__(self, *, answer: str = "", down: bool = False) -> None:
        super().__init__()
        self.answer = answer
        self.down = down
        self.contexts: list[ChatContext] = []

    def chat(
        self, *, chat_ctx: ChatContext, tools: Any = None, conn_options: Any = None, **_: Any
    ) -> LLMStream:
        self.contexts.append(chat_ctx.copy())
        return _Line(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class _Line(LLMStream):
    async def _run(self) -> None:
        assert isinstance(self._llm, Understudy)
        if self._llm.down:
            raise APIConnectionError("the understudy is ill")
        words = self._llm.answer or f"You said {self._chat_ctx.messages()[-1].raw_text_content}"
        self._event_ch.send_nowait(
            ChatChunk(id="u", delta=ChoiceDelta(role="assistant", content=words))
        )


async def recovered(adapter: FallbackAdapter) -> None:
    """Until the probe has found the first one well."""
    await settled(lambda: adapter._status[0].available)
    task = adapter._status[0].recovering_task
    assert task is not None
    await task


async def test_failing_over_and_coming_back(caller: Caller, upstream: Upstream) -> None:
    understudy = Understudy()
    adapter = FallbackAdapter([caller.llm, understudy])
    async with caller.session(llm=adapter) as session:
        await session.run(user_input="one")
        upstream.script(fail(501))
        await session.run(user_input="two")  # the understudy's, and probed with the real context
        assert said(session.history)[-1] == ("assistant", "You said two")
        await recovered(adapter)
        with caller.counted() as requests:
            await session.run(user_input="three")
        if caller.extensions is None:
            assert requests == [RUN]
        assert len(understudy.contexts) == 1
        assert await caller.thread() == said(session.history)
        assert model_saw(upstream.requests[-1]) == said(session.history)[:-1]


@standard_by_night
@pytest.mark.parametrize("after", ["sync", "closing", "attached"])
async def test_the_probe_of_a_last_turn_leaves_no_trace(
    caller: Caller, upstream: Upstream, after: str
) -> None:
    adapter = FallbackAdapter([caller.llm, Understudy()])
    async with caller.session(llm=adapter) as session:
        if after == "attached":
            caller.llm.attach(session)
        await session.run(user_input="one")
        upstream.script(fail(501))
        await session.run(user_input="two")
        await recovered(adapter)
        if after == "sync":
            await caller.llm.sync(session.history)
            assert await caller.thread() == said(session.history)
        history = said(session.history)
    await caller.llm.aclose()
    left = await caller.thread()
    # Closing knows what is unsaid; what another LLM said is brought by who is told of it.
    assert left == (history[:-1] if after == "closing" else history)


@standard_by_night
async def test_a_probe_that_is_still_running_does_not_hold_up_the_caller(
    caller: Caller, upstream: Upstream
) -> None:
    hold = stall()
    adapter = FallbackAdapter([caller.llm, Understudy()])
    async with caller.session(llm=adapter) as session:
        upstream.script(fail(501), hold + say("never heard"))
        await session.run(user_input="one")
        await hold.reached.wait()
        await session.run(user_input="two")
        assert said(session.history)[-1] == ("assistant", "You said two")
        hold.release()
        await recovered(adapter)
        await session.run(user_input="three")
        assert await caller.thread() == said(session.history)


async def test_a_probe_that_calls_a_tool_calls_nothing_and_holds_nothing(
    caller: Caller, upstream: Upstream
) -> None:
    shop = Shop()
    adapter = FallbackAdapter([caller.llm, Understudy()])
    async with caller.session(shop, llm=adapter) as session:
        upstream.script(fail(501), call("order", {"what": "tea"}))
        await session.run(user_input="one")
        await recovered(adapter)
        with caller.counted() as requests:
            await session.run(user_input="two")
        if caller.extensions is None:
            assert requests == [RUN]
        assert shop.orders == []
        assert await caller.thread() == said(session.history)
        assert tool_outputs(upstream.requests[-1]) == []


@standard_by_night
async def test_as_the_understudy_of_another(caller: Caller, upstream: Upstream) -> None:
    """The adapter prewarms its first alone; calls and their outputs are one run all the same."""
    adapter = FallbackAdapter([Understudy(down=True), caller.llm])
    shop = Shop()
    upstream.script(call("order", {"what": "tea"}), say("It is coming."))
    async with caller.session(shop, llm=adapter) as session:
        with caller.counted() as requests:
            await session.run(user_input="tea")
        assert requests[-1] == SUBMIT
        if caller.extensions is None:
            assert requests == [RUN, SUBMIT]
        assert shop.orders == ["tea"]
        await session.run(user_input="thanks")
        assert tool_outputs(upstream.requests[-1]) == ["ordered tea"]
        assert await caller.thread() == said(session.history)


@standard_by_night
@pytest.mark.parametrize("silent", ["the model", "the server"])
async def test_its_patience_is_kept(caller: Caller, upstream: Upstream, silent: str) -> None:
    """The adapter does not watch the clock itself: the LLM must give up."""
    hold = stall()
    adapter = FallbackAdapter([caller.llm, Understudy()], attempt_timeout=0.3)
    if silent == "the server":

        async def answered(request: httpx2.Request) -> None:
            await hold()

        caller.wire.answered = answered
        context = ChatContext.empty()
        context.add_message(role="user", content="one")
        answer = await asyncio.wait_for(adapter.chat(chat_ctx=context).collect(), 5)
        assert answer.text == "You said one"
        caller.wire.answered = None
    else:
        upstream.script(hold + say("late"), hold + say("late"))
        async with caller.session(llm=adapter) as session:
            await asyncio.wait_for(session.generate_reply(user_input="one"), 5)
            assert said(session.history)[-1] == ("assistant", "You said one")
    hold.release()
    task = adapter._status[0].recovering_task
    assert task is not None
    await asyncio.wait({task})


@standard_by_night
async def test_what_each_used_is_told_once(caller: Caller, upstream: Upstream) -> None:
    adapter = FallbackAdapter([caller.llm, Understudy()])
    metrics: list[LLMMetrics] = []
    adapter.on("metrics_collected", metrics.append)
    upstream.script(say("Hello").usage(120, 7))
    async with caller.session(Agent(instructions="You are Ana."), llm=adapter) as session:
        await session.run(user_input="one")
    assert [one.total_tokens for one in metrics] == [127]
    assert adapter.model == caller.llm.model == "gpt-4o"
