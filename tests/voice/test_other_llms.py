"""Other LLMs in the same call, and the same LLM asked about other things: the caller hears one
agent, and the thread has what was heard."""

from __future__ import annotations

import pytest
from livekit.agents.llm import FallbackAdapter
from livekit.agents.voice.amd import AMD
from tests.plugin.agents import RUN, model_saw
from tests.plugin.test_fallback import Understudy
from tests.plugin.test_foreign_contexts import SCRATCH
from tests.upstream import Upstream, fail, say
from tests.upstream import call as tool_call
from tests.voice.call import Line
from tests.voice.virtual_time import thinking

BEFORE = {"preemptive_generation": {"enabled": False}}


@pytest.mark.parametrize("guessing", [True, False], ids=["preemptive", "after the turn"])
async def test_an_understudy_talked_over(line: Line, upstream: Upstream, guessing: bool) -> None:
    """What was heard of another LLM's reply is in the thread, what the probe wrote is not."""
    understudy = Understudy(answer="I am only the understudy and I do not know very much.")
    turn_handling = None if guessing else BEFORE
    upstream.script(say("Good morning."), fail(501), say("never heard"), say("Very well."))
    async with line(
        around=lambda llm: FallbackAdapter([llm, understudy]), turn_handling=turn_handling
    ) as call:
        await call.turn("hello")
        await call.speaks("how are you")
        await call.hears("the understudy")
        with call.counted() as requests:
            await call.turn("stop please")
        assert requests == [RUN]
        heard = call.history[3][1]
        assert heard.startswith("I am only the understudy")
        assert heard != understudy.answer
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_an_attempt_that_takes_too_long_is_taken_over(line: Line, upstream: Upstream) -> None:
    """``attempt_timeout`` is kept by the LLM: the caller does not wait for a silent model."""
    upstream.script(*[thinking(60.0) + say("never")] * 2)
    understudy = Understudy(answer="I step in.")
    async with line(
        around=lambda llm: FallbackAdapter([llm, understudy], attempt_timeout=3.0),
        turn_handling=BEFORE,
    ) as call:
        began = call.now
        await call.speaks("hello")
        await call.hears("I step in.")
        assert call.now - began < 8.0
        await call.settled()
        await call.waits(10.0)  # the probe gives up, too
        understudy.down = True
        await call.turn("are you there")
        assert call.history[-1] == ("assistant", "are you there")
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_answering_machine_detection_at_the_beginning_of_a_call(
    line: Line, upstream: Upstream
) -> None:
    """It listens with the session's ears and asks the session's LLM, beside the first answer."""
    upstream.default = lambda body: (
        tool_call("save_prediction", {"label": "human"})
        if body.get("tool_choice") == "required"
        else say("Good morning, Ben.")
    )
    async with line() as call:
        amd = AMD(call.session, llm=None, stt=None, suppress_compatibility_warning=True)
        async with amd:
            amd._classifier.start_listening()  # type: ignore[union-attr]
            await call.speaks("hello this is Ben speaking")
            verdict = await amd.execute()
        assert verdict.is_human
        await call.settled()
        assert SCRATCH in call.wire.requests
        assert call.wire.requests.count("DELETE threads/*") == call.wire.requests.count(SCRATCH)
        with call.counted() as requests:
            await call.turn("thanks")
        assert requests == [RUN]
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()
