"""Speech that no caller's turn asked for, and the end of a call in all its moments."""

from __future__ import annotations

import pytest
from livekit.agents import Agent
from tests.plugin.agents import ADD, RUN, model_saw
from tests.upstream import Upstream, say
from tests.voice.call import Line
from tests.voice.virtual_time import pause, thinking

NOTICE = "Our shop is closed on Sundays, on Mondays, and whenever the weather is good."


async def test_say_before_the_first_turn(line: Line, upstream: Upstream) -> None:
    upstream.script(say("Fine."))
    async with line() as call:
        with call.counted() as requests:
            await call.session.say("Hello, this is Ana.")
            assert requests == []
            await call.turn("how are you")
        assert requests == [RUN]
        assert call.history[0] == ("assistant", "Hello, this is Ana.")
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_say_interrupted(line: Line, upstream: Upstream) -> None:
    upstream.script(say("Yes?"), say("Bye."))
    async with line() as call:
        with call.counted() as requests:
            call.session.say(NOTICE)
            await call.hears("on Sundays,")
            await call.turn("excuse me")
            await call.turn("thanks")
        assert requests == [RUN, RUN]
        heard = call.history[0][1]
        assert heard.startswith("Our shop is closed on Sundays")
        assert heard != NOTICE
        assert model_saw(upstream.requests[0]) == call.history[:2]
        await call.agrees()


async def test_say_interrupted_before_its_first_word(line: Line, upstream: Upstream) -> None:
    upstream.script(say("Yes?"))
    async with line() as call:
        speech = call.session.say(NOTICE)
        speech.interrupt()
        await speech
        with call.counted() as requests:
            await call.turn("excuse me")
        assert requests == [RUN]
        assert [text for _, text in call.history] == ["excuse me", "Yes?"]
        await call.agrees()


async def test_say_after_the_last_turn_is_brought_by_sync(line: Line, upstream: Upstream) -> None:
    upstream.script(say("Fine."))
    async with line() as call:
        await call.turn("how are you")
        call.session.say(NOTICE)
        await call.hears("on Sundays,")
        await call.session.interrupt()
        await call.settled()
        with call.counted() as requests:
            await call.llm.sync(call.session.history)
        assert requests == ([ADD] if call.extensions is None else [])
        await call.agrees()


async def test_say_while_the_model_thinks(line: Line, upstream: Upstream) -> None:
    """Speech is queued behind the answer; both are said, in the order in which they are heard."""
    upstream.script(thinking(2.0) + say("It is sunny."), say("Bye."))
    async with line() as call:
        with call.counted() as requests:
            await call.speaks("how is the weather")
            await call.until(lambda: call.session.agent_state == "thinking")
            await call.session.say("One moment.")
            await call.settled()
            await call.turn("thanks")
        assert requests == [RUN, RUN]
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_two_queued_replies(line: Line, upstream: Upstream) -> None:
    """Their snapshots exclude each other; the second is ready while the first is spoken."""
    upstream.script(say("The first answer."), say("The second answer."), say("Bye."))
    async with line() as call:
        with call.counted() as requests:
            first = call.session.generate_reply(user_input="first")
            second = call.session.generate_reply(user_input="second")
            await first
            await second
        assert requests == [RUN, RUN]
        assert model_saw(upstream.requests[1]) == [("user", "second")]
        assert sorted(await call.thread()) == sorted(call.history)
        with call.counted() as requests:
            await call.turn("thanks")
        assert requests == [RUN]
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_two_queued_replies_cut_in_the_first(line: Line, upstream: Upstream) -> None:
    upstream.script(say(NOTICE), say(NOTICE), say("Very well."), say("Bye."))
    async with line() as call:
        with call.counted() as requests:
            call.session.generate_reply(user_input="first")
            call.session.generate_reply(user_input="second")
            await call.hears("on Sundays,")
            await call.turn("stop please")
            await call.settled()
            await call.turn("thanks")
        assert set(requests) == {RUN}
        assert len(requests) <= 4
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_a_reply_with_instructions_interrupted(line: Line, upstream: Upstream) -> None:
    upstream.script(say(NOTICE), say("Fine."), say("Bye."))
    async with line() as call:
        with call.counted() as requests:
            call.session.generate_reply(instructions="Tell them when we are open.")
            await call.hears("on Sundays,")
            await call.turn("how are you")
            await call.turn("thanks")
        assert requests == [RUN] * 3
        assert "when we are open" in str(upstream.requests[0].messages)
        assert "when we are open" not in str(upstream.requests[1].messages)
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


@pytest.mark.parametrize("attached", [True, False], ids=["attached", "synced"])
@pytest.mark.parametrize("moment", ["guessing", "thinking", "streaming", "speaking", "silent"])
async def test_hanging_up(line: Line, upstream: Upstream, moment: str, attached: bool) -> None:
    """Whenever the call ends, the thread has what was said, and no run holds it."""
    answers = {
        "guessing": say(NOTICE),
        "thinking": thinking(20.0) + say("never"),
        "streaming": say("Our shop is closed on Sundays, ", pause(20.0), "as always."),
        "speaking": say(NOTICE),
        "silent": say("Fine."),
    }
    upstream.script(answers[moment])
    async with line(Agent(instructions="You are Ana.")) as call:
        if attached:
            call.llm.attach(call.session)
        await call.speaks("hello there")
        if moment == "guessing":
            await call.until(lambda: bool(call.wire.requests))
        elif moment == "thinking":
            await call.until(lambda: call.session.agent_state == "thinking")
        elif moment == "silent":
            await call.settled()
        else:
            await call.hears("closed on")
        await call.hangs_up()
        if not attached:
            await call.llm.sync(call.session.history)
        await call.llm.aclose()
        assert await call.thread() == call.history
        async with call.server.http() as http:
            runs = (await http.get(f"/v1/threads/{call.llm.thread_id}/runs")).json()["data"]
        assert all(run["status"] in ("completed", "cancelled") for run in runs)


async def test_an_attached_session_is_followed_between_turns(
    line: Line, upstream: Upstream
) -> None:
    """A moment after it was said it is there, without a call of ours."""
    upstream.script(say(NOTICE))
    async with line() as call:
        call.llm.attach(call.session)
        await call.speaks("when are you open")
        await call.hears("on Sundays,")
        await call.session.interrupt()
        await call.settled()
        assert call.history[1][1] != NOTICE
        assert await call.thread() == call.history
