"""What is heard can differ from what was written without the caller's doing: the voice fails, the
model fails, somebody rewrites the words, or there are none."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

import pytest
from livekit.agents import Agent, APIError, ModelSettings
from tests.plugin.agents import RUN, model_saw
from tests.plugin.test_failures import breaks_once
from tests.upstream import Upstream, cut, empty, fail, say
from tests.voice.audio import Voice
from tests.voice.call import Line
from tests.voice.virtual_time import pause

STORY = ("Once upon a time ", "there was a king ", "who had three daughters.")


class Loud(Agent):
    """Shows everything in capitals."""

    async def transcription_node(
        self, text: AsyncIterable[str], model_settings: ModelSettings
    ) -> AsyncIterator[str]:
        async for words in text:
            yield words.upper()


class Hoarse(Voice):
    """Loses its voice at a word, once."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.word: str | None = word

    def pronounce(self, text: str) -> bytes:
        if self.word is not None and self.word in text:
            self.word = None
            raise APIError("no voice", retryable=False)
        return super().pronounce(text)


async def test_words_that_are_rewritten_on_their_way(line: Line, upstream: Upstream) -> None:
    """The history has the rewritten words, so that is what was said."""
    upstream.script(say(*STORY), say("Bye."), say("Bye bye."))
    async with line(Loud(instructions="You are Ana.")) as call:
        for words in ("tell me a story", "thanks", "bye"):
            with call.counted() as requests:
                await call.turn(words)
            assert requests == [RUN]
        assert call.history[1] == ("assistant", "".join(STORY).upper())
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.llm.sync(call.session.history)
        await call.agrees()


async def test_a_voice_that_fails_in_mid_reply(
    line: Line, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.script(say(STORY[0], pause(3.0), STORY[1], pause(3.0), STORY[2]), say("Bye."))
    async with line(voice=Hoarse("daughters")) as call:
        with call.counted() as requests:
            await call.turn("tell me a story")
            caplog.clear()
            await call.turn("what happened")
        assert requests == [RUN, RUN]
        assert call.history[1][1].startswith("Once upon a time")
        assert "daughters" not in call.history[1][1]
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_a_model_that_breaks_off_while_its_words_are_spoken(
    line: Line, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    """What was passed on is spoken to its end and remembered; it is not said twice."""
    upstream.script(cut(*STORY[:2]), say("Bye."))
    async with line() as call:
        with call.counted() as requests:
            await call.turn("tell me a story")
            caplog.clear()
            await call.turn("go on")
        assert requests == [RUN, RUN]
        assert call.history[1][1].strip() == "Once upon a time there was a king"
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_a_model_that_refuses_leaves_the_question(
    line: Line, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.script(fail(400, message="no"), say("Yes?"))
    async with line() as call:
        await call.turn("tell me a story")
        caplog.clear()
        await call.turn("hello")
        assert call.history == [
            ("user", "tell me a story"),
            ("user", "hello"),
            ("assistant", "Yes?"),
        ]
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


@pytest.mark.parametrize("words", ["", "   "], ids=["nothing", "blanks"])
async def test_an_answer_without_words(line: Line, upstream: Upstream, words: str) -> None:
    upstream.script(say(words) if words else empty(), say("Yes?"))
    async with line() as call:
        with call.counted() as requests:
            await call.turn("say nothing")
            await call.turn("hello")
        assert requests == [RUN, RUN]
        assert [role for role, _ in call.history] == ["user", "user", "assistant"]
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


@pytest.mark.parametrize(
    "until", ["thread.run.created", "thread.message.created", "thread.message.completed"]
)
async def test_a_line_that_breaks(
    line: Line, upstream: Upstream, caplog: pytest.LogCaptureFixture, until: str
) -> None:
    """Before the first word the turn is tried again; later, what has come is spoken and kept."""
    upstream.default = lambda body: say(*STORY)
    async with line(turn_handling={"preemptive_generation": {"enabled": False}}) as call:
        call.wire.after = breaks_once(f"event: {until}\n".encode())
        with call.counted() as requests:
            await call.turn("tell me a story")
        caplog.clear()
        mended = until in ("thread.run.created", "thread.message.created")
        assert requests == [RUN] * (2 if mended else 1)
        assert call.history[1] == ("assistant", "".join(STORY))
        with call.counted() as requests:
            await call.speaks("again")
            await call.hears("a king", times=2)
            await call.turn("thanks")
        assert requests == [RUN, RUN]
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        assert await call.thread() == call.history
