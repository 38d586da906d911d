"""The scripted upstream keeps its own promises, seen through the official SDK."""

from __future__ import annotations

import asyncio

import httpx2
import openai
import pytest
from openai import AsyncStream
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionUserMessageParam,
)
from tests.upstream import Upstream, call, calls, cut, echo, fail, length, refusal, say, stall

HELLO: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "Hello you there"}]


def client(upstream: Upstream) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=upstream.base_url, api_key="k", max_retries=0)


async def ask(sdk: openai.AsyncOpenAI) -> ChatCompletion:
    return await sdk.chat.completions.create(model="m", messages=HELLO)


async def ask_stream(sdk: openai.AsyncOpenAI) -> AsyncStream[ChatCompletionChunk]:
    return await sdk.chat.completions.create(
        model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )


async def test_stream_is_what_openai_sends() -> None:
    async with Upstream() as upstream, client(upstream) as sdk:
        upstream.script((say("One ") + call("a", {"x": 1}) + call("b")).usage(5, 7, cached=2))
        chunks = [chunk async for chunk in await ask_stream(sdk)]
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    assert deltas[1].content == "One "
    started = [c for d in deltas for c in d.tool_calls or () if c.id]
    assert [c.function.name for c in started if c.function] == ["a", "b"]
    assert chunks[-2].choices[0].finish_reason == "tool_calls"
    assert not chunks[-1].choices
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.total_tokens == 12
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 2
    assert upstream.requests[0].headers["authorization"] == "Bearer k"


async def test_answers_at_once_too() -> None:
    async with Upstream() as upstream, client(upstream) as sdk:
        upstream.script(say("Hel", "lo"), calls(call("a"), call("b")), length("x"), refusal("no"))
        answers = [(await ask(sdk)).choices[0] for _ in range(4)]
    assert answers[0].message.content == "Hello"
    made = answers[1].message.tool_calls or []
    assert all(isinstance(c, ChatCompletionMessageFunctionToolCall) for c in made)
    assert len(made) == 2
    assert [a.finish_reason for a in answers] == ["stop", "tool_calls", "length", "stop"]
    assert answers[3].message.refusal == "no"


async def test_lists_models_and_echoes_by_default() -> None:
    async with Upstream(default=echo, models=["m1"]) as upstream, client(upstream) as sdk:
        assert [m.id async for m in sdk.models.list()] == ["m1"]
        assert (await ask(sdk)).choices[0].message.content == "Hello you there "


async def test_leftover_steps_fail() -> None:
    upstream = Upstream()
    upstream.script(say("never asked"))
    with pytest.raises(AssertionError, match="1 steps"):
        async with upstream:
            pass


async def test_unexpected_requests_fail() -> None:
    upstream = Upstream()
    await upstream.__aenter__()
    async with client(upstream) as sdk:
        with pytest.raises(openai.BadRequestError):
            await ask(sdk)
    with pytest.raises(AssertionError, match="1 requests"):
        await upstream.__aexit__(None, None, None)


async def test_stall_holds_the_stream_and_a_leaving_client_is_noticed() -> None:
    async with Upstream() as upstream, client(upstream) as sdk:
        before, between = stall(), stall()
        upstream.script(before + say("Hel", between, "lo"))
        opening = asyncio.ensure_future(ask_stream(sdk))
        await before.reached.wait()
        await upstream.arrived(1)
        assert not opening.done()
        before.release()
        stream = await opening
        await stream.__anext__()
        assert (await stream.__anext__()).choices[0].delta.content == "Hel"
        await between.reached.wait()
        assert upstream.disconnects == 0
        await stream.close()
        await upstream.disconnected()


async def test_cut_breaks_the_connection_and_fail_has_its_status() -> None:
    async with Upstream() as upstream, client(upstream) as sdk:
        upstream.script(cut(after=2), cut(), stall(), fail(429, code="insufficient_quota"))
        stream, heard = await ask_stream(sdk), []

        async def listen() -> None:
            async for chunk in stream:
                heard.append(chunk.choices[0].delta.content)

        with pytest.raises((openai.APIConnectionError, httpx2.RemoteProtocolError)):
            await listen()
        assert heard == ["", "word0 ", "word1 "]
        with pytest.raises(openai.APIConnectionError):
            await ask(sdk)
        with pytest.raises(openai.APITimeoutError):
            await sdk.with_options(timeout=0.01).chat.completions.create(model="m", messages=HELLO)
        with pytest.raises(openai.RateLimitError):
            await ask(sdk)
