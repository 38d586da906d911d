"""Barge-in by voice: the thread keeps what was heard, and the next turn is one request."""

from __future__ import annotations

import pytest
from tests.plugin.agents import RUN, model_saw
from tests.upstream import Upstream, say
from tests.voice.audio import Voice
from tests.voice.call import Line
from tests.voice.virtual_time import pause, thinking

STORY = "Once upon a time there was a king who had three daughters and a very old dog."


async def test_while_thinking(line: Line, upstream: Upstream) -> None:
    upstream.script(thinking(4.0) + say("never heard"), say("Very well."))
    async with line() as call:
        with call.counted() as requests:
            await call.speaks("tell me a story")
            await call.until(lambda: call.session.agent_state == "thinking")
            await call.turn("no wait")
        assert requests == [RUN, RUN]
        assert call.history == [
            ("user", "tell me a story"),
            ("user", "no wait"),
            ("assistant", "Very well."),
        ]
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_while_streaming(line: Line, upstream: Upstream) -> None:
    upstream.script(
        say("Once upon a time ", "there was a king ", pause(20.0), "and he died."),
        say("Very well."),
    )
    async with line() as call:
        with call.counted() as requests:
            await call.speaks("tell me a story")
            await call.hears("upon a time")
            await call.turn("stop please")
        assert requests == [RUN, RUN]
        (_, story), (_, heard), *_ = call.history
        assert story == "tell me a story"
        assert heard.startswith("Once upon a time")
        assert "died" not in heard
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_while_speaking_after_the_stream_has_ended(line: Line, upstream: Upstream) -> None:
    upstream.script(say(STORY), say("Very well."))
    async with line() as call:
        with call.counted() as requests:
            await call.speaks("tell me a story")
            await call.hears("a king")
            await call.turn("stop please")
        assert requests == [RUN, RUN]
        heard = call.history[1][1]
        assert heard.startswith("Once upon a time there was a king")
        assert heard != STORY
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_before_the_first_sound(line: Line, upstream: Upstream) -> None:
    """The answer is complete, but its first sound is still being made."""
    upstream.script(say(STORY), say("Very well."))
    async with line(voice=Voice(latency=4.0)) as call:
        with call.counted() as requests:
            await call.speaks("tell me a story")
            await call.until(lambda: call.session.agent_state == "thinking")
            await call.turn("no wait")
        assert requests == [RUN, RUN]
        assert [text for _, text in call.history] == ["tell me a story", "no wait", "Very well."]
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_before_the_first_word(line: Line, upstream: Upstream) -> None:
    """There is sound, but no word of it was complete."""
    upstream.script(say("Incomprehensibilities-and-antidisestablishmentarianism. Next."), say("OK"))
    async with line() as call:
        with call.counted() as requests:
            await call.speaks("a long word")
            await call.agent_speaks()
            await call.turn("no wait")
        assert requests == [RUN, RUN]
        assert [text for _, text in call.history] == ["a long word", "no wait", "OK"]
        assert call.line.played[0].interrupted
        assert call.line.played[0].playback_position > 0
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


@pytest.mark.parametrize("stage", ["thinking", "streaming", "speaking"])
async def test_followed_at_once_by_a_new_turn(line: Line, upstream: Upstream, stage: str) -> None:
    """The new chat() comes before the old stream is cancelled, and does not know its reply."""
    answers = {
        "thinking": thinking(10.0) + say("never"),
        "streaming": say("Once upon a time there was", pause(10.0), " a king."),
        "speaking": say(STORY),
    }
    upstream.script(answers[stage], say("Another one."), say("Bye."))
    async with line() as call:
        await call.speaks("tell me a story")
        if stage == "thinking":
            await call.until(lambda: call.session.agent_state == "thinking")
        else:
            await call.hears("upon a")
        with call.counted() as requests:
            call.session.interrupt()
            await call.session.generate_reply(user_input="another one")
        assert requests == [RUN]
        await call.settled()
        with call.counted() as requests:
            await call.turn("thanks")
        assert requests == [RUN]
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_two_turns_in_a_row(line: Line, upstream: Upstream) -> None:
    upstream.script(say(STORY), say(STORY), say("Very well."))
    async with line() as call:
        with call.counted() as requests:
            await call.speaks("tell me a story")
            await call.hears("a king")
            await call.speaks("no the other one")
            await call.hears("a time", times=2)
            await call.turn("stop it")
        assert requests == [RUN, RUN, RUN]
        assert [role for role, _ in call.history] == ["user", "assistant"] * 3
        assert call.history[3][1] != STORY
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_a_cough_interrupts_nothing(line: Line, upstream: Upstream) -> None:
    """Sound without words: the speech is held, then goes on."""
    upstream.script(say(STORY))
    async with line() as call:
        with call.counted() as requests:
            await call.speaks("tell me a story")
            await call.hears("a king")
            await call.speaks("", seconds=0.8, heard=())
            await call.settled()
            await call.turn("thanks")
        assert requests == [RUN, RUN]
        assert call.history[1] == ("assistant", STORY)
        await call.agrees()


async def test_the_heard_part_of_a_last_reply_is_brought_by_sync(
    line: Line, upstream: Upstream
) -> None:
    upstream.script(say(STORY))
    async with line() as call:
        await call.speaks("tell me a story")
        await call.hears("a king")
        await call.session.interrupt()
        await call.settled()
        await call.llm.sync(call.session.history)
        assert call.history[1][1] != STORY
        await call.agrees()


async def test_the_full_text_is_kept_where_that_is_asked_for(
    line: Line, upstream: Upstream
) -> None:
    upstream.script(say(STORY), say("Very well."))
    async with line(llm={"interrupted": "full"}) as call:
        with call.counted() as requests:
            await call.speaks("tell me a story")
            await call.hears("a king")
            await call.turn("stop please")
        assert requests == [RUN, RUN]
        assert call.history[1][1] != STORY
        assert (await call.thread())[1] == ("assistant", STORY)
        assert model_saw(upstream.requests[-1])[1] == ("assistant", STORY)
