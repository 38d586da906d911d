"""Tools by voice: what a tool has done reaches the model, once, whatever becomes of its turn."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from livekit.agents import Agent, RunContext, StopResponse, function_tool
from tests.plugin.agents import RUN, SUBMIT, model_saw, said
from tests.upstream import Request, Upstream, say
from tests.upstream import call as tool_call
from tests.voice.call import Line
from tests.voice.virtual_time import pause


class Shop(Agent):
    """Takes orders, quickly or slowly."""

    def __init__(self) -> None:
        super().__init__(instructions="You keep a shop.")
        self.orders: list[str] = []

    @function_tool
    async def order(self, what: str) -> str:
        """Order something."""
        self.orders.append(what)
        return f"ordered {what}"

    @function_tool
    async def slow_order(self, what: str, seconds: float) -> str:
        """Order something that takes a while."""
        self.orders.append(what)
        await asyncio.sleep(seconds)
        return f"ordered {what}"

    @function_tool
    async def announce(self, context: RunContext[Any]) -> str:
        """Say something while working."""
        context.session.say("One moment, the kettle is on.")
        await asyncio.sleep(1.0)
        return "tea is made"

    @function_tool
    async def ask_meanwhile(self, context: RunContext[Any]) -> str:
        """Have the model say something while working."""
        await context.session.generate_reply(instructions="Tell them to wait.")
        return "tea is made"

    @function_tool
    async def hush(self) -> str:
        """Say nothing about it."""
        raise StopResponse()

    @function_tool
    async def order_later(self, context: RunContext[Any], what: str) -> str:
        """Order something that takes long enough to talk about something else."""
        self.orders.append(what)
        await context.update("The kitchen is working on it.")
        await asyncio.sleep(8.0)
        return f"ordered {what}"


def outputs(request: Request) -> list[str]:
    """What tools returned, as the model sees it: as such, or told in its instructions where the
    thread cannot take them."""
    found = [message["content"] for message in request.messages if message["role"] == "tool"]
    for message in request.messages:
        if message["role"] == "system":
            found += re.findall(r"returned: (.*)", message["content"])
    return found


def words(request: Request) -> list[tuple[str, str]]:
    """What a request shows of the conversation in words, without calls and their outputs."""
    return [
        (role, text)
        for role, text in model_saw(request)
        if role in ("user", "assistant") and text.strip()
    ]


async def test_a_tool_while_the_agent_speaks(line: Line, upstream: Upstream) -> None:
    upstream.script(
        say("One moment please, I am asking the kitchen. ") + tool_call("order", {"what": "tea"}),
        say("Your tea is coming."),
        say("Bye."),
    )
    shop = Shop()
    async with line(shop) as call:
        with call.counted() as requests:
            await call.turn("tea please")
        assert requests == [RUN, SUBMIT]
        assert shop.orders == ["tea"]
        assert outputs(upstream.requests[1]) == ["ordered tea"]
        with call.counted() as requests:
            await call.turn("thanks")
        assert requests == [RUN]
        assert outputs(upstream.requests[2]) == ["ordered tea"]
        assert words(upstream.requests[2]) == call.history[:-1]
        await call.agrees()


async def test_a_guess_that_calls_a_tool_and_is_adopted(line: Line, upstream: Upstream) -> None:
    """The tool waits for the turn to be certain; its call is answered in the same run."""
    upstream.script(tool_call("order", {"what": "tea"}), say("Your tea is coming."))
    shop = Shop()
    async with line(shop) as call:
        with call.counted() as requests:
            await call.speaks("tea please")
            await call.until(lambda: bool(call.wire.requests))
            assert not shop.orders
            await call.settled()
        assert requests == [RUN, SUBMIT]
        assert shop.orders == ["tea"]
        await call.agrees()


async def test_an_interrupted_tool_that_had_its_effect_is_not_called_again(
    line: Line, upstream: Upstream
) -> None:
    upstream.script(
        tool_call("slow_order", {"what": "tea", "seconds": 3.0}), say("It is ordered."), say("Bye.")
    )
    shop = Shop()
    async with line(shop) as call:
        with call.counted() as requests:
            await call.speaks("tea please")
            await call.until(lambda: shop.orders == ["tea"])
            await call.turn("hello are you there")
            await call.waits(5.0)
        assert requests == [RUN] * call.llm.asked
        with call.counted() as requests:
            await call.turn("thanks")
        assert requests == [RUN]
        assert shop.orders == ["tea"]
        assert outputs(upstream.requests[-1]) == ["ordered tea"]
        assert words(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_interrupted_in_its_speech_while_a_tool_works(line: Line, upstream: Upstream) -> None:
    """The words before the call are cut, the tool goes on, its result reaches the next turn."""
    upstream.script(
        say("One moment please, I am going to ask the kitchen about that. ")
        + tool_call("slow_order", {"what": "tea", "seconds": 2.5}),
        say("It is ordered."),
        say("Bye."),
    )
    shop = Shop()
    async with line(shop) as call:
        with call.counted() as requests:
            await call.speaks("tea please")
            await call.hears("moment please")
            await call.turn("hurry up")
            await call.settled()
            await call.turn("thanks")
        assert shop.orders == ["tea"]
        assert requests == [RUN] * 3
        assert outputs(upstream.requests[-1]) == ["ordered tea"]
        assert words(upstream.requests[-1]) == call.history[:-1]
        assert call.history[1][1].startswith("One moment please")
        assert "about that" not in call.history[1][1]
        await call.agrees()


async def test_a_slow_tool_released_to_the_background(
    line: Line, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    """Longer than LiveKit waits after an interruption: a placeholder now, the result later."""
    upstream.script(
        say("One moment please, I am going to ask the kitchen about that. ")
        + tool_call("slow_order", {"what": "tea", "seconds": 15.0})
    )
    upstream.default = lambda body: say("All right.")
    shop = Shop()
    async with line(shop) as call:
        await call.speaks("tea please")
        await call.hears("moment please")
        await call.turn("hurry up")
        await call.waits(20.0)
        assert "tools still running when the interrupted speech timed out" in caplog.text
        caplog.clear()
        await call.settled()
        with call.counted() as requests:
            await call.turn("thanks")
        assert requests == [RUN]
        assert shop.orders == ["tea"]
        assert "ordered tea" in outputs(upstream.requests[-1])
        assert words(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_a_tool_that_reports_and_goes_on(line: Line, upstream: Upstream) -> None:
    upstream.script(
        tool_call("order_later", {"what": "tea"}),
        say("The kitchen is at it."),
        say("It is sunny."),
        say("Your tea is ready."),
        say("Bye."),
    )
    shop = Shop()
    async with line(shop) as call:
        with call.counted() as requests:
            await call.turn("tea please")
            await call.turn("how is the weather")
            await call.hears("tea is ready.")
            await call.settled()
        assert len(requests) == 4
        assert shop.orders == ["tea"]
        with call.counted() as requests:
            await call.turn("thanks")
        assert requests == [RUN]
        assert any("ordered tea" in output for output in outputs(upstream.requests[-1]))
        assert words(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_hanging_up_while_a_tool_works(line: Line, upstream: Upstream) -> None:
    upstream.script(tool_call("slow_order", {"what": "tea", "seconds": 3.0}))
    shop = Shop()
    async with line(shop) as call:
        await call.speaks("tea please")
        await call.until(lambda: shop.orders == ["tea"])
        await call.hangs_up()
        await call.llm.sync(call.session.history)
        await call.llm.aclose()
        assert await call.thread() == call.history


async def test_two_steps_with_words_between_them_and_an_interruption(
    line: Line, upstream: Upstream
) -> None:
    upstream.script(
        say("Tea first. ") + tool_call("order", {"what": "tea"}),
        say("Now the milk. ", pause(0.5)) + tool_call("order", {"what": "milk"}),
        say("Both are on their way, and they will be with you in a moment."),
        say("Bye."),
    )
    shop = Shop()
    async with line(shop) as call:
        with call.counted() as requests:
            await call.speaks("tea and milk please")
            await call.hears("on their way")
            await call.turn("thanks")
        assert requests == [RUN, SUBMIT, SUBMIT, RUN]
        assert shop.orders == ["tea", "milk"]
        assert outputs(upstream.requests[-1]) == ["ordered tea", "ordered milk"]
        assert words(upstream.requests[-1]) == call.history[:-1]
        assert "in a moment" not in call.history[-3][1]
        await call.agrees()


@pytest.mark.parametrize("interrupted", [True, False], ids=["talked over", "heard out"])
async def test_speech_of_a_tool(line: Line, upstream: Upstream, interrupted: bool) -> None:
    """Its ``say()`` is queued behind what its turn says; both are in the thread as heard."""
    upstream.script(tool_call("announce"), say("Here is your tea."), say("Bye."))
    if interrupted:
        upstream.default = lambda body: say("Bye.")
    shop = Shop()
    async with line(shop) as call:
        await call.speaks("tea please")
        await call.hears("One moment,")
        if interrupted:
            await call.turn("hurry up")
        await call.settled()
        with call.counted() as requests:
            await call.turn("thanks")
        assert requests == [RUN]
        assert "tea is made" in outputs(upstream.requests[-1])
        assert words(upstream.requests[-1]) == said(shop.chat_ctx)[:-1]
        assert await call.thread() == said(shop.chat_ctx)
        assert sorted(await call.thread()) == sorted(call.history)
        heard = [text for _, text in call.history if text.startswith("One moment,")]
        assert (heard != ["One moment, the kettle is on."]) == interrupted


async def test_a_reply_within_a_tool_talked_over(line: Line, upstream: Upstream) -> None:
    upstream.script(
        tool_call("ask_meanwhile"), say("Please wait a moment, the kettle has to boil first.")
    )
    upstream.default = lambda body: say("Very well.")
    shop = Shop()
    async with line(shop) as call:
        await call.speaks("tea please")
        await call.hears("wait a moment,")
        await call.turn("hurry up")
        await call.settled()
        with call.counted() as requests:
            await call.turn("thanks")
        assert requests == [RUN]
        assert "tea is made" in outputs(upstream.requests[-1])
        assert words(upstream.requests[-1]) == said(shop.chat_ctx)[:-1]
        assert await call.thread() == said(shop.chat_ctx)
        assert "boil first" not in str(call.history)


async def test_a_tool_that_wants_no_reply(line: Line, upstream: Upstream) -> None:
    """The run waits for an output that comes with the next turn, in its one request."""
    upstream.script(tool_call("hush"), say("Yes?"))
    async with line(Shop()) as call:
        with call.counted() as requests:
            await call.turn("be quiet")
            await call.turn("hello")
        assert requests == [RUN, RUN]
        assert words(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()
