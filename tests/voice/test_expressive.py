"""Expressive speech: the model writes markup for the voice, LiveKit keeps it in the history, raw,
until a turn runs without it; then it takes the markup out of all that was said, in place."""

from __future__ import annotations

from typing import Any

from livekit.agents import Agent
from livekit.agents.llm import ChatChunk, ChatContext
from tests.plugin.agents import RUN, model_saw
from tests.upstream import Request, Upstream, say
from tests.voice.audio import ExpressiveVoice
from tests.voice.call import Call, Line

GLAD = '<expr type="expression" label="glad and warm"/>'
LAUGH = '<expr type="sound" label="laugh"/>'
STORY = "Once upon a time there was a king who had three daughters and a very old dog."


def expressive(line: Line, **options: Any) -> Call:
    return line(**{"voice": ExpressiveVoice(), "expressive": True, **options})


def instructions(request: Request) -> str:
    (system,) = [one for one in request.messages if one["role"] == "system"]
    return str(system["content"])


async def test_markup_stays_as_the_model_wrote_it(line: Line, upstream: Upstream) -> None:
    answers = [f"{GLAD} Good morning. {LAUGH} You again.", f"{GLAD} It is nine.", LAUGH, "Bye."]
    upstream.script(*(say(*one.partition(" ")) for one in answers))
    async with expressive(line) as call:
        with call.counted() as requests:
            for words in ("hello there", "what time is it", "it is late", "good bye"):
                await call.turn(words)
        assert requests == [RUN] * 4
        assert [text for role, text in call.history if role == "assistant"] == answers
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        for request in upstream.requests:
            assert instructions(request).startswith("You are Ana.")
            assert instructions(request).count("formatting tags") == 1
        await call.agrees()


async def test_switched_off_the_markup_leaves_the_thread_once(
    line: Line, upstream: Upstream
) -> None:
    upstream.script(
        say(f"{GLAD} Good morning."), say("Plain."), say(LAUGH), say("Off."), say("Bye.")
    )
    async with expressive(line) as call:
        for words in ("hello there", "be plain", "laugh"):
            await call.turn(words)
        call.session.update_options(expressive=False)
        with call.counted() as requests:
            await call.turn("stop that")
        assert requests == [RUN]
        assert call.history[:5] == [
            ("user", "hello there"),
            ("assistant", "Good morning."),
            ("user", "be plain"),
            ("assistant", "Plain."),
            ("user", "laugh"),
        ]
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        assert instructions(upstream.requests[-1]) == "You are Ana."
        with call.counted() as requests:
            await call.turn("good bye")
        assert requests == [RUN]
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


async def test_interrupted(line: Line, upstream: Upstream) -> None:
    upstream.script(say(f"{GLAD} {STORY}"), say(f"{GLAD} Very well."), say("Off."))
    async with expressive(line) as call:
        with call.counted() as requests:
            await call.speaks("tell me a story")
            await call.hears("a king")
            await call.turn("stop please")
        assert requests == [RUN, RUN]
        heard = call.history[1][1]
        assert "a king" in heard
        assert "dog" not in heard
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()
        call.session.update_options(expressive=False)
        with call.counted() as requests:
            await call.turn("thanks")
        assert requests == [RUN]
        assert not any("<" in text for _, text in call.history)
        await call.agrees()


async def test_a_first_word_that_was_markup_alone(line: Line, upstream: Upstream) -> None:
    upstream.script(say(LAUGH), say("Good morning."), say("Off."), say("Bye."))
    async with expressive(line) as call:
        await call.session.generate_reply(instructions="Laugh.")
        await call.turn("hello there")
        call.session.update_options(expressive=False)
        await call.turn("stop that")
        await call.turn("good bye")
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.agrees()


class Plain(Agent):
    """Its replies come back without the plugin's stamp."""

    async def llm_node(self, chat_ctx: ChatContext, tools: Any, model_settings: Any) -> Any:
        async for chunk in Agent.default.llm_node(self, chat_ctx, tools, model_settings):
            assert isinstance(chunk, ChatChunk)
            if chunk.delta is not None and chunk.delta.content:
                yield chunk.delta.content


async def test_replies_without_a_stamp(line: Line, upstream: Upstream) -> None:
    """They are known by their words, until those change."""
    upstream.script(
        say(f"{GLAD} Good morning."), say(f"{GLAD} It is nine."), say("Off."), say("Bye.")
    )
    async with expressive(line, agent=Plain(instructions="You are Ana.")) as call:
        await call.turn("hello there")
        with call.counted() as requests:
            await call.turn("what time is it")
        assert requests == [RUN]
        call.session.update_options(expressive=False)
        await call.turn("stop that")
        assert model_saw(upstream.requests[-1]) == call.history[:-1]
        await call.turn("good bye")
        assert not any("<" in text for _, text in call.history)
        await call.agrees()


async def test_all_that_was_written_of_an_interrupted_reply_keeps_its_markup(
    line: Line, upstream: Upstream
) -> None:
    upstream.script(say(f"{GLAD} {STORY}"), say(f"{GLAD} Very well."), say("Off."))
    async with expressive(line, llm={"interrupted": "full"}) as call:
        await call.speaks("tell me a story")
        await call.hears("a king")
        await call.turn("stop please")
        call.session.update_options(expressive=False)
        await call.turn("thanks")
        assert await call.thread() == [
            ("user", "tell me a story"),
            ("assistant", f"{GLAD} {STORY}"),
            ("user", "stop please"),
            ("assistant", "Very well."),
            ("user", "thanks"),
            ("assistant", "Off."),
        ]


async def test_a_later_call_that_is_not_expressive(line: Line, upstream: Upstream) -> None:
    """What was said in an earlier call is not changed, and nothing of it is there twice."""
    upstream.script(say(f"{GLAD} Hello."), say(f"{GLAD} Nine."), say("Off."), say("Bye."))
    async with expressive(line) as call:
        await call.turn("hello there")
        await call.turn("what time is it")
    before = await call.thread()
    async with line(llm={"thread_id": call.llm.thread_id}) as later:
        await later.agent.update_chat_ctx(await later.llm.load_chat_ctx())
        with later.counted() as requests:
            await later.turn("me again")
            await later.turn("good bye")
        assert requests == [RUN, RUN]
        assert await later.thread() == [*before, *later.history]
        assert model_saw(upstream.requests[-1]) == (await later.thread())[:-1]
