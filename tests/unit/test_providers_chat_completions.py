"""The Chat Completions provider, against a scripted server over real HTTP."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp
import pytest
from tests.manual_clock import ManualClock
from tests.upstream import (
    Answer,
    Upstream,
    call,
    content_filter,
    cut,
    delta,
    echo,
    empty,
    event,
    fail,
    garbage,
    length,
    raw,
    refusal,
    say,
    stall,
)

from assistants_server.domain.model_exchange import (
    CallPiece,
    ModelRequest,
    Piece,
    RefusalPiece,
    TextPiece,
    TurnEnd,
    TurnUsage,
)
from assistants_server.domain.records import Usage
from assistants_server.providers import chat_completions, chat_errors, endpoint
from assistants_server.providers.chat_completions import ChatCompletions
from assistants_server.providers.contract import ProviderError

SECRET = "my secret words"
KEY = "sk-secret-key"
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def ask(**fields: Any) -> ModelRequest:
    messages = [{"role": "user", "content": SECRET}]
    return ModelRequest(**{"model": "m-1", "messages": messages, **fields})


@asynccontextmanager
async def provider(upstream: Upstream, **fields: Any) -> AsyncIterator[ChatCompletions]:
    made = ChatCompletions(**{"base_url": upstream.base_url, "api_key": KEY, **fields})
    try:
        yield made
    finally:
        await made.aclose()


async def hear(asked: ChatCompletions, request: ModelRequest | None = None) -> list[Piece]:
    return [piece async for batch in asked.stream(request or ask()) for piece in batch]


async def refused(asked: ChatCompletions, request: ModelRequest | None = None) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await hear(asked, request)
    assert SECRET not in str(caught.value)
    assert KEY not in str(caught.value)
    return caught.value


# A turn ---------------------------------------------------------------------------------------


async def test_a_turn_has_its_text_its_end_and_its_usage() -> None:
    async with Upstream() as upstream, provider(upstream) as asked:
        upstream.script(say("Hel", "lo").usage(9, 4, cached=3, reasoning=2))
        pieces = await hear(asked)
    assert pieces == [
        TextPiece("Hel"),
        TextPiece("lo"),
        TurnEnd("stop"),
        TurnUsage(Usage(prompt_tokens=9, completion_tokens=4, cached_tokens=3, reasoning_tokens=2)),
    ]


async def test_text_and_parallel_calls_in_one_turn() -> None:
    async with Upstream() as upstream, provider(upstream) as asked:
        upstream.script(say("Wait. ") + call("f", {"x": 1}, id="a") + call("g", {"y": 2}, id="b"))
        pieces = await hear(asked, ask(tools=TOOLS))
    assert pieces[0] == TextPiece("Wait. ")
    assert [(p.index, p.id, p.name) for p in pieces if isinstance(p, CallPiece) and p.id] == [
        (0, "a", "f"),
        (1, "b", "g"),
    ]
    arguments = [p.arguments for p in pieces if isinstance(p, CallPiece) and p.index == 1]
    assert "".join(arguments) == '{"y":2}'
    assert pieces[-2] == TurnEnd("tool_calls")


@pytest.mark.parametrize(
    ("answer", "pieces"),
    [
        (length("x"), [TextPiece("x"), TurnEnd("length")]),
        (content_filter(), [TurnEnd("content_filter")]),
        (refusal("no"), [RefusalPiece("no"), TurnEnd("stop")]),
        (empty(), [TurnEnd("stop")]),
        (say("x").no_finish(), [TextPiece("x"), TurnEnd("stop")]),
        (say("x").no_done(), [TextPiece("x"), TurnEnd("stop")]),
        (raw(": hello\n\n") + say("x"), [TextPiece("x"), TurnEnd("stop")]),
    ],
)
async def test_other_turns(answer: Answer, pieces: list[Piece]) -> None:
    async with Upstream() as upstream, provider(upstream) as asked:
        upstream.script(answer.no_usage())
        assert await hear(asked) == pieces


async def test_an_answer_at_once_is_heard_too() -> None:
    body = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
    async with Upstream() as upstream, provider(upstream) as asked:
        upstream.script(fail(201, body))
        assert await hear(asked) == [TextPiece("Hi"), TurnEnd("stop")]


async def test_what_arrives_together_is_given_together() -> None:
    together = b"".join(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n' for _ in range(5))
    async with Upstream() as upstream, provider(upstream) as asked:
        hold = stall()
        upstream.script(raw(together) + hold + say("y"))
        batches = asked.stream(ask())
        # The role chunk comes first and holds nothing; the five may come with it or after it.
        assert await anext(batches) == [TextPiece("x")] * 5
        hold.release()
        rest = [piece async for batch in batches for piece in batch]
    assert rest[0] == TextPiece("y")


# What is sent ---------------------------------------------------------------------------------


async def test_the_request_holds_what_was_asked_and_nothing_else() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}}
    async with Upstream(default=echo) as upstream, provider(upstream) as asked:
        await hear(asked)
        full = ask(
            tools=TOOLS,
            tool_choice="required",
            parallel_tool_calls=False,
            temperature=0.0,
            top_p=0.5,
            response_format=schema,
            reasoning_effort="low",
            max_completion_tokens=7,
            user="u",
        )
        await hear(asked, full)
        await hear(asked, ask(tool_choice="auto", parallel_tool_calls=True))
    plain = {
        "model": "m-1",
        "messages": [{"role": "user", "content": SECRET}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert upstream.requests[0].body == plain
    assert upstream.requests[1].body == {
        **plain,
        "tools": TOOLS,
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "temperature": 0.0,
        "top_p": 0.5,
        "response_format": schema,
        "reasoning_effort": "low",
        "max_tokens": 7,
        "user": "u",
    }
    assert upstream.requests[2].body == plain, "no tools: nothing about tools either"
    assert upstream.requests[0].headers["authorization"] == f"Bearer {KEY}"


async def test_without_a_key_none_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of another server")
    async with Upstream(default=echo) as upstream, provider(upstream, api_key=None) as asked:
        await hear(asked)
    assert "authorization" not in upstream.requests[0].headers


async def test_half_a_surrogate_pair_does_not_end_the_conversation() -> None:
    async with Upstream(default=echo) as upstream, provider(upstream) as asked:
        pieces = await hear(asked, ask(messages=[{"role": "user", "content": "a\ud83d"}]))
    assert pieces[0] == TextPiece("a? ")


async def test_turns_share_one_connection() -> None:
    async with Upstream(default=echo) as upstream, provider(upstream) as asked:
        await asked.models()
        for _ in range(5):
            await hear(asked)
    assert upstream.connections_made == 1


async def test_openai_gets_the_new_name_of_the_token_bound() -> None:
    for url, name in (
        (None, "max_completion_tokens"),
        ("https://x.openai.azure.com/openai/v1/", "max_completion_tokens"),
        ("http://127.0.0.1:11434/v1", "max_tokens"),
    ):
        asked = ChatCompletions(base_url=url, api_key=KEY)
        assert name in asked._body(ask(max_completion_tokens=7)), url
        await asked.aclose()


# Errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (fail(401, message=f"Incorrect API key provided: {KEY}"), "invalid_prompt", "key"),
        (fail(403), "invalid_prompt", "does not allow"),
        (fail(404, code="model_not_found"), "invalid_prompt", "m-1"),
        (fail(404, b"<html>not here</html>"), "invalid_prompt", "Chat Completions API"),
        (fail(429, code="insufficient_quota"), "rate_limit_exceeded", "quota"),
        (fail(429, headers={"retry-after": "60"}), "rate_limit_exceeded", "again in 60 s"),
        (fail(400, code="context_length_exceeded"), "invalid_prompt", "longer than the model"),
        (
            fail(400, message="This model's maximum context length is 9 tokens"),
            "invalid_prompt",
            "longer than the model",
        ),
        (fail(400, type="exceed_context_size_error"), "invalid_prompt", "longer than the model"),
        (fail(400, code="content_filter"), "invalid_prompt", "content rules"),
        (fail(400, message=f"bad: {SECRET}"), "invalid_prompt", "status 400"),
        (
            fail(
                400, message="temperature: not this", code="unsupported_value", param="temperature"
            ),
            "invalid_prompt",
            "(unsupported_value, temperature): temperature: not this",
        ),
        (fail(422, message=SECRET, code=SECRET, param="messages"), "invalid_prompt", "(messages)"),
        (fail(413, b"too large"), "invalid_prompt", "larger than"),
        (fail(501, b"no"), "server_error", "status 501"),
        (garbage(), "server_error", "not a Chat Completions stream"),
        (fail(201, b'"what"', headers={"content-type": "text/plain"}), "server_error", "broke"),
        (fail(201, b"<html>", headers={"content-type": "text/html"}), "server_error", "broke"),
        (fail(201, b"{}"), "server_error", "not a Chat Completions stream"),
        (fail(201, {"error": {"message": SECRET}}), "server_error", "broke off with an error"),
        (cut("Hel"), "server_error", "broke before"),
        (say("x").no_finish().no_done(), "server_error", "broke before"),
        (say("x") + event({"error": {"message": SECRET}}), "server_error", "broke off"),
        (event({"error": {"code": 429, "message": "slow"}}), "rate_limit_exceeded", "limits"),
        (event({"error": {"type": "insufficient_quota"}}), "rate_limit_exceeded", "quota"),
        (event({"error": {"code": "503", "message": "x"}}), "server_error", "(503)"),
        (event({"error": SECRET}), "server_error", "broke off with an error."),
        (event({"object": "error", "message": "context length"}), "invalid_prompt", "longer"),
        (delta(content=3), "server_error", "not a Chat Completions stream"),
        (say("x" * 9_000_000), "server_error", "longer than any model's"),
    ],
)
async def test_every_failure_has_a_sentence(answer: Answer, code: str, words: str) -> None:
    async with Upstream() as upstream, provider(upstream) as asked:
        upstream.script(answer)
        error = await refused(asked)
    assert error.code == code
    assert words in error.message


async def test_a_connection_cut_after_the_end_of_the_turn_costs_nothing() -> None:
    async with Upstream() as upstream, provider(upstream) as asked:
        done = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        upstream.script(say("Hello") + event(done) + cut())
        assert await hear(asked) == [TextPiece("Hello"), TurnEnd("stop")]


async def test_nobody_listening_names_host_and_port_after_three_attempts() -> None:
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        port = placeholder.getsockname()[1]
    clock = ManualClock()
    asked = ChatCompletions(base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY, clock=clock)
    asking = asyncio.ensure_future(refused(asked))
    for seconds in chat_completions.RETRY_SECONDS:
        await clock.sleeping()
        clock.advance(seconds)
    assert f"127.0.0.1:{port}" in (await asking).message
    await asked.aclose()


async def test_a_silent_model_is_given_up() -> None:
    async with Upstream() as upstream, provider(upstream, timeout=0.02) as asked:
        upstream.script(stall(), say("Hel", stall(), "lo"))
        for _ in range(2):
            assert "silent for 0.02 s" in (await refused(asked)).message
    assert len(upstream.requests) == 2, "silence is not tried again"


@pytest.mark.parametrize(
    "url", ["localhost:11434/v1", "", "ftp://x/v1", "http://", "http://x:y/", "http://a..b/v1"]
)
async def test_a_url_that_is_none_is_said_at_once(url: str) -> None:
    if url:
        with pytest.raises(ProviderError, match="not one that can be called"):
            ChatCompletions(base_url=url, api_key=KEY)
    else:
        await ChatCompletions(base_url=url, api_key=KEY).aclose()


async def test_secrets_in_a_url_are_not_repeated() -> None:
    with pytest.raises(ProviderError) as caught:
        ChatCompletions(base_url="ftp://user:pass@host/v1?key=abc", api_key=KEY)
    assert "pass" not in caught.value.message
    assert "abc" not in caught.value.message
    with pytest.raises(ProviderError) as caught:
        ChatCompletions(api_key="sk-\u2026")
    assert "sk" not in caught.value.message


async def test_no_text_of_a_conversation_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with Upstream() as upstream, provider(upstream) as asked:
        upstream.script(fail(400, message=SECRET), say("x") + event({"error": {"message": SECRET}}))
        await refused(asked)
        await refused(asked)
    assert SECRET not in caplog.text


async def test_the_key_is_not_logged_even_for_those_who_debug(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The HTTP client shows the whole request in some of its exceptions."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(chat_completions, "RETRY_SECONDS", ())
    asked_for: list[bytes] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked_for.append(await reader.readline())
        writer.write(b"SSH-2.0 Hello\r\n\r\n")
        await reader.read()  # to close with words unread would take our own back
        writer.close()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}/a%2Fb/v1?q=hidden"
        asked = ChatCompletions(base_url=url, api_key=KEY)
        assert "not a Chat Completions stream" in (await refused(asked)).message
        await asked.aclose()
    assert asked_for[0].startswith(b"POST /a%2Fb/v1/chat/completions?q=hidden "), "as it was given"
    assert "refused a request: ClientResponseError" in caplog.text
    assert KEY not in caplog.text
    assert "hidden" not in caplog.text


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in vars(aiohttp).values()
        if type(kind) is type and issubclass(kind, aiohttp.ClientError | TimeoutError)
    ],
)
def test_the_table_covers_every_exception_of_the_http_client(kind: Any) -> None:
    question = chat_errors.Question("host", "m-1", 1.0)
    raised = kind.__new__(kind)  # its arguments are the client's own business
    assert "host" in chat_errors.explain(raised, question).message


def test_an_exception_of_ours_is_not_explained_away() -> None:
    with pytest.raises(ZeroDivisionError):
        chat_errors.explain(ZeroDivisionError(), chat_errors.Question("host", "m-1", 1.0))


# Retries --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "seconds"),
    [
        (fail(500), 0.1),
        (fail(503, headers={"retry-after": "2"}), 2.0),
        (fail(429, headers={"retry-after-ms": "300"}), 0.3),
        (fail(429, headers={"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}), 0.1),
        (cut(), 0.1),
    ],
)
async def test_a_failed_attempt_is_repeated_before_the_first_byte(
    first: Answer, seconds: float
) -> None:
    clock = ManualClock()
    async with Upstream() as upstream, provider(upstream, clock=clock) as asked:
        upstream.script(first, say("x"))
        hearing = asyncio.ensure_future(hear(asked))
        await clock.sleeping()
        clock.advance(seconds - 0.01)
        assert clock.sleepers == 1
        clock.advance(0.02)
        assert (await hearing)[0] == TextPiece("x")


async def test_the_third_failure_is_told() -> None:
    clock = ManualClock()
    async with Upstream() as upstream, provider(upstream, clock=clock) as asked:
        upstream.script(fail(500), fail(502), fail(503))
        asking = asyncio.ensure_future(refused(asked))
        for seconds in chat_completions.RETRY_SECONDS:
            await clock.sleeping()
            clock.advance(seconds)
        assert "503" in (await asking).message


async def test_nothing_is_repeated_once_text_was_heard() -> None:
    async with Upstream() as upstream, provider(upstream) as asked:
        upstream.script(cut("Hel"))
        await refused(asked)
    assert len(upstream.requests) == 1


# Closing --------------------------------------------------------------------------------------


async def test_closing_the_stream_closes_the_upstream_connection() -> None:
    async with Upstream() as upstream, provider(upstream) as asked:
        upstream.script(say("Hel", stall(), "lo"))
        batches = asked.stream(ask())
        assert await anext(batches) == [TextPiece("Hel")]
        await batches.aclose()
        await upstream.disconnected()


async def test_cancelling_before_the_first_byte_closes_it_too() -> None:
    async with Upstream() as upstream, provider(upstream) as asked:
        hold = stall()
        upstream.script(hold)
        hearing = asyncio.ensure_future(hear(asked))
        await hold.reached.wait()
        hearing.cancel()
        await upstream.disconnected()
        with pytest.raises(asyncio.CancelledError):
            await hearing


async def test_a_stream_may_be_closed_by_another_task() -> None:
    async with Upstream() as upstream, provider(upstream) as asked:
        upstream.script(say("Hel", stall(), "lo"))
        batches = asked.stream(ask())
        await asyncio.ensure_future(anext(batches))
        await asyncio.ensure_future(batches.aclose())
        await upstream.disconnected()


async def test_closing_the_provider_ends_its_streams_and_may_be_repeated() -> None:
    async with Upstream() as upstream, provider(upstream) as asked:
        hold = stall()
        upstream.script(say("Hel", hold, "lo"))
        hearing = asyncio.ensure_future(refused(asked))
        await hold.reached.wait()
        await asked.aclose()
        assert "broke" in (await hearing).message
        await upstream.disconnected()
        await asked.aclose()


async def test_a_slow_consumer_slows_the_model_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "READ_AHEAD", 2000)
    async with Upstream() as upstream, provider(upstream) as asked:
        upstream.script(say(*["word "] * 5000))
        pieces, largest = 0, 0
        async for batch in asked.stream(ask()):
            pieces += sum(isinstance(piece, TextPiece) for piece in batch)
            largest = max(largest, len(batch))
    assert pieces == 5000
    assert largest < 100, "it read further ahead than it may"


# The list of models ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [b"200 OK", b"403 Forbidden"])
async def test_a_body_without_end_is_not_read_to_its_end(
    status: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "LONGEST_BODY", 100_000)
    left = asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %s\r\nContent-Type: application/json\r\n\r\n{" % status)
        with suppress(OSError):
            while True:
                writer.write(b" " * 50_000)
                await writer.drain()
        left.set()

    async with await asyncio.start_server(flood, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        asked = ChatCompletions(base_url=f"http://127.0.0.1:{port}/v1", api_key=KEY)
        await refused(asked)
        await left.wait()
        await asked.aclose()


async def test_models_are_listed() -> None:
    async with Upstream(models=["a", "b"]) as upstream, provider(upstream) as asked:
        listed = await asked.models()
    assert [(m.id, m.owned_by) for m in listed] == [("a", "upstream"), ("b", "upstream")]


async def test_a_list_that_cannot_be_had_has_its_sentence() -> None:
    async with Upstream() as upstream:
        asked = ChatCompletions(base_url=upstream.base_url + "/elsewhere", api_key=KEY)
        with pytest.raises(ProviderError, match="Chat Completions API"):
            await asked.models()
        await asked.aclose()
