"""Answers begun before the caller has finished, on as LiveKit has it: only what was adopted leaves
a trace, and each call of ``chat()`` is one request."""

from __future__ import annotations

from typing import Any

import pytest
from livekit.agents import Agent, StopResponse
from livekit.agents.llm import ChatContext, ChatMessage
from tests.plugin.agents import RUN, model_saw
from tests.upstream import Upstream, say
from tests.upstream import call as tool_call
from tests.voice.audio import Heard
from tests.voice.call import RECOGNITION, Line
from tests.voice.virtual_time import pause, running_loop, thinking


class Editor(Agent):
    """An agent that touches what the caller said before it is answered."""

    def __init__(self, **hooks: Any) -> None:
        super().__init__(instructions="You are Ana.")
        self.hooks = hooks

    async def on_user_turn_completed(self, turn_ctx: ChatContext, new_message: ChatMessage) -> None:
        said = new_message.raw_text_content or ""
        if said in self.hooks.get("rewrite", {}):
            new_message.content = [self.hooks["rewrite"][said]]
        if said in self.hooks.get("ignore", ()):
            raise StopResponse()
        if said in self.hooks.get("crash", ()):
            raise RuntimeError("the hook is broken")
        if said in self.hooks.get("remind", {}):
            turn_ctx.add_message(role="assistant", content=self.hooks["remind"][said])


def in_two(first: str, second: str, *, gap: float = 0.0) -> dict[str, Any]:
    """Speech that is recognised as two sentences, the first final while the second is spoken."""
    return {
        "seconds": 2.0,
        "heard": (Heard(0.8 + gap, first), Heard(2.0 + RECOGNITION, second)),
    }


async def test_adopted(line: Line, upstream: Upstream) -> None:
    upstream.script(say("Good morning."), say("Bye."))
    async with line() as call:
        began: list[float] = []
        ended: list[float] = []
        loop = running_loop()
        assert loop is not None
        call.session.on("conversation_item_added", lambda _: ended.append(loop.time()))
        with call.counted() as requests:
            await call.speaks("hello there")
            await call.until(lambda: bool(call.wire.requests))
            began.append(loop.time())
            await call.settled()
            await call.turn("thanks")
        assert began[0] < ended[0], "the answer was not begun before the turn's end"
        assert requests == [RUN, RUN]
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_adopted_with_rewritten_punctuation(line: Line, upstream: Upstream) -> None:
    upstream.script(say("Good morning."), say("Bye."))
    agent = Editor(rewrite={"hello there": "Hello, there!!"})
    async with line(agent) as call:
        with call.counted() as requests:
            await call.turn("hello there")
        assert requests == [RUN]
        assert model_saw(upstream.requests[0]) == [("user", "hello there")]
        with call.counted() as requests:
            await call.turn("thanks")
        assert requests == [RUN]
        assert call.history[0] == ("user", "Hello, there!!")
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_begun_from_a_preflight_and_adopted_with_the_final_words(
    line: Line, upstream: Upstream
) -> None:
    upstream.script(say("Good morning."), say("Bye."))
    heard = (Heard(1.0, "hello there", "preflight"), Heard(1.2, "Hello there."))
    async with line() as call:
        with call.counted() as requests:
            await call.speaks("hello there", heard=heard)
            await call.settled()
            await call.turn("thanks")
        assert len(requests) <= 3
        assert set(requests) == {RUN}
        assert call.history[0] == ("user", "Hello there.")
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_discarded_in_flight(line: Line, upstream: Upstream) -> None:
    """The new attempt's chat() comes before the old one is cancelled."""
    upstream.script(say("never ", pause(10.0), "heard"), say("Fine, and you?"), say("Bye."))
    async with line() as call:
        with call.counted() as requests:
            await call.speaks("", **in_two("hello there", "how are you"))
            await call.settled()
        assert requests == [RUN, RUN]
        assert call.history[0] == ("user", "hello there how are you")
        assert model_saw(upstream.requests[1]) == call.history[:1]
        with call.counted() as requests:
            await call.turn("thanks")
        assert requests == [RUN]
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_discarded_before_the_models_first_word(line: Line, upstream: Upstream) -> None:
    upstream.script(thinking(10.0) + say("never heard"), say("Fine, and you?"))
    async with line() as call:
        with call.counted() as requests:
            await call.speaks("", **in_two("hello there", "how are you"))
            await call.settled()
        assert requests == [RUN, RUN]
        assert model_saw(upstream.requests[1]) == call.history[:1]
        await call.agrees()


async def test_discarded_after_it_finished(line: Line, upstream: Upstream) -> None:
    """There is no signal whatever but that its message never comes back."""
    upstream.script(say("never heard"), say("Fine, and you?"), say("Bye."))
    async with line() as call:
        with call.counted() as requests:
            await call.speaks("", **in_two("hello there", "how are you"))
            await call.settled()
        assert requests == [RUN, RUN]
        assert model_saw(upstream.requests[1]) == call.history[:1]
        with call.counted() as requests:
            await call.turn("thanks")
        assert requests == [RUN]
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_three_a_turn(line: Line, upstream: Upstream) -> None:
    """LiveKit tries three times; the words after that wait for the end of the turn."""
    upstream.script(
        say("one ", pause(10.0), "never"), say("two"), say("three"), say("At last."), say("Bye.")
    )
    words = ("one", "two", "three", "four")
    heard = tuple(Heard(0.5 * (n + 1), word) for n, word in enumerate(words))
    async with line() as call:
        with call.counted() as requests:
            await call.speaks("", seconds=2.0, heard=heard)
            await call.settled()
        assert requests == [RUN] * 4
        assert call.history == [("user", "one two three four"), ("assistant", "At last.")]
        assert model_saw(upstream.requests[-1]) == call.history[:1]
        with call.counted() as requests:
            await call.turn("thanks")
        assert requests == [RUN]
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


@pytest.mark.parametrize("hook", ["ignore", "crash"])
@pytest.mark.parametrize("in_flight", [True, False], ids=["in flight", "finished"])
async def test_an_ignored_turn_leaves_no_trace(
    line: Line,
    upstream: Upstream,
    caplog: pytest.LogCaptureFixture,
    hook: str,
    in_flight: bool,
) -> None:
    """StopResponse, or a hook that fails: LiveKit drops the user's message, too."""
    never = say("never ", pause(10.0), "heard") if in_flight else say("never heard")
    upstream.script(never, say("Yes?"))
    agent = Editor(**{hook: ("hm hm",)})
    async with line(agent) as call:
        with call.counted() as requests:
            await call.turn("hm hm")
            caplog.clear()
            await call.turn("hello there")
        assert requests == [RUN, RUN]
        assert call.history == [("user", "hello there"), ("assistant", "Yes?")]
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_an_ignored_last_turn_is_cleaned_up_on_closing(
    line: Line, upstream: Upstream
) -> None:
    upstream.script(say("Good morning."), say("never heard"))
    async with line(Editor(ignore=("hm hm",))) as call:
        await call.turn("hello there")
        await call.turn("hm hm")
        await call.hangs_up()
        await call.llm.aclose()
        assert call.history == [("user", "hello there"), ("assistant", "Good morning.")]
        assert await call.thread() == call.history


async def test_invalidated_by_a_reminder_for_this_turn_only(line: Line, upstream: Upstream) -> None:
    upstream.script(say("never heard"), say("It is ten."), say("Bye."))
    agent = Editor(remind={"what time is it": "[It is ten o'clock.]"})
    async with line(agent) as call:
        with call.counted() as requests:
            await call.turn("what time is it")
        assert requests == [RUN, RUN]
        assert ("assistant", "[It is ten o'clock.]") in model_saw(upstream.requests[1])
        with call.counted() as requests:
            await call.turn("thanks")
        assert requests == [RUN]
        assert call.history[:2] == [("user", "what time is it"), ("assistant", "It is ten.")]
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_invalidated_by_other_words(line: Line, upstream: Upstream) -> None:
    upstream.script(say("never heard"), say("Hello, Ben."), say("Bye."))
    agent = Editor(rewrite={"I am Ban": "I am Ben"})
    async with line(agent) as call:
        with call.counted() as requests:
            await call.turn("I am Ban")
            await call.turn("thanks")
        assert requests == [RUN] * 3
        assert call.history[0] == ("user", "I am Ben")
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_a_guess_that_calls_a_tool_and_is_discarded(line: Line, upstream: Upstream) -> None:
    """Its run waits for an output that will never come; the tool is not called."""
    upstream.script(tool_call("teleport"), say("Fine, and you?"), say("Bye."))
    async with line() as call:
        with call.counted() as requests:
            await call.speaks("", **in_two("hello there", "how are you"))
            await call.settled()
            await call.turn("thanks")
        assert requests == [RUN] * 3
        assert model_saw(upstream.requests[1]) == call.history[:1]
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_switched_off(line: Line, upstream: Upstream) -> None:
    upstream.script(say("Fine, and you?"))
    async with line(turn_handling={"preemptive_generation": {"enabled": False}}) as call:
        with call.counted() as requests:
            await call.speaks("", **in_two("hello there", "how are you"))
            await call.settled()
        assert requests == [RUN]
        await call.agrees()
