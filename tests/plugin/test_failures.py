"""What goes wrong is said clearly, retried where that helps, and leaves the thread as it was."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import httpx2
import openai
import pytest
from livekit.agents import (
    APIConnectionError,
    APIConnectOptions,
    APIError,
    APIStatusError,
    APITimeoutError,
)
from livekit.agents.llm import ChatChunk, ChatContext, LLMError
from tests.live_server import LiveServer
from tests.plugin.agents import RUN, Caller, said, settled, speaking
from tests.upstream import Upstream, cut, fail, length, say, stall

from livekit.plugins.assistants import errors

ONCE = APIConnectOptions(max_retry=0, timeout=10.0)
TWICE = APIConnectOptions(max_retry=1, retry_interval=0.0, timeout=10.0)


def asking(text: str = "hello") -> ChatContext:
    context = ChatContext.empty()
    context.add_message(role="user", content=text)
    return context


@pytest.fixture
def reported(caller: Caller) -> list[LLMError]:
    found: list[LLMError] = []
    caller.llm.on("error", found.append)
    return found


class Broken(httpx2.AsyncByteStream):
    """A body that breaks off as soon as it has said ``until``."""

    def __init__(self, inner: httpx2.AsyncByteStream, until: bytes) -> None:
        self._inner = inner
        self._until = until

    async def __aiter__(self) -> AsyncIterator[bytes]:
        seen = b""
        async for chunk in self._inner:
            seen += chunk
            if self._until in seen:
                head = seen[: seen.index(self._until)]
                yield chunk[: max(0, len(chunk) - (len(seen) - len(head)))]
                raise httpx2.ReadError("the line is dead")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


def breaks_once(until: bytes) -> Callable[[httpx2.Request, httpx2.Response], httpx2.Response]:
    left = [True]

    def spoil(request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
        if left and request.url.path.endswith("/runs") and request.method == "POST":
            left.pop()
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.stream = Broken(response.stream, until)
        return response

    return spoil


async def test_a_model_that_is_down_is_told_and_tried_again(
    caller: Caller, upstream: Upstream, reported: list[LLMError]
) -> None:
    upstream.script(*[fail(501)] * 2)
    with pytest.raises(APIConnectionError) as raised:
        await caller.llm.chat(chat_ctx=asking(), conn_options=TWICE).collect()
    assert "501" in str(raised.value)
    assert [one.recoverable for one in reported] == [True, False]
    upstream.done()
    assert (await caller.llm.chat(chat_ctx=asking()).collect()).text == "hello"


@pytest.mark.parametrize(
    ("status", "words"), [(401, "does not accept the key"), (403, "does not allow this key")]
)
async def test_a_key_that_the_model_server_refuses_is_said_clearly_and_not_tried_again(
    caller: Caller, upstream: Upstream, reported: list[LLMError], status: int, words: str
) -> None:
    upstream.script(fail(status))
    with pytest.raises(APIError, match=words) as raised:
        await caller.llm.chat(chat_ctx=asking(), conn_options=TWICE).collect()
    assert not raised.value.retryable
    assert [one.recoverable for one in reported] == [False]
    assert len(upstream.requests) == 1


async def test_a_retry_adds_nothing_twice(caller: Caller, upstream: Upstream) -> None:
    upstream.script(fail(501), say("Here I am."))
    async with caller.session() as session:
        await session.run(user_input="hello")
        assert await caller.thread() == said(session.history)


async def test_text_that_was_spoken_is_not_spoken_again(
    caller: Caller, upstream: Upstream, reported: list[LLMError]
) -> None:
    upstream.script(cut("Once upon ", "a time"))
    stream = caller.llm.chat(chat_ctx=asking(), conn_options=TWICE)
    texts: list[str] = []

    async def listen() -> None:
        async for chunk in stream:
            if chunk.delta and chunk.delta.content:
                texts.append(chunk.delta.content)

    with pytest.raises(APIError):
        await listen()
    await stream.aclose()
    assert "".join(texts) == "Once upon a time"
    assert [one.recoverable for one in reported] == [False]


@pytest.mark.parametrize(
    "until", [b"thread.run.created", b"thread.run.in_progress", b"thread.message.created"]
)
async def test_a_line_that_breaks_before_the_first_word_is_mended(
    caller: Caller, upstream: Upstream, until: bytes
) -> None:
    async with caller.session() as session:
        await session.run(user_input="one")
        caller.wire.after = breaks_once(b"event: " + until)
        await session.run(user_input="two")
        await session.run(user_input="three")
        assert await caller.thread() == said(session.history)
        assert [role for role, _ in await caller.thread()] == ["user", "assistant"] * 3


@pytest.mark.parametrize("until", [b"thread.message.completed", b"thread.run.completed", b"done"])
async def test_a_line_that_breaks_later_leaves_what_was_said(
    caller: Caller, upstream: Upstream, until: bytes
) -> None:
    async with caller.session() as session:
        await session.run(user_input="one")
        caller.wire.after = breaks_once(b"event: " + until)
        speech = session.generate_reply(user_input="two two two")
        await speech
        with caller.counted() as requests:
            await session.run(user_input="three")
        if caller.extensions is None:
            assert requests == [RUN]
        assert await caller.thread() == said(session.history)
        assert ("assistant", "two two two") in await caller.thread()


@pytest.mark.parametrize("extensions", [False], ids=["standard"])
async def test_a_cancel_that_somebody_on_the_way_refuses_is_asked_for_again(
    caller: Caller, upstream: Upstream
) -> None:
    refused: list[str] = []

    def refuse(request: httpx2.Request) -> httpx2.Response | None:
        if not request.url.path.endswith("/cancel") or len(refused) == 2:
            return None
        refused.append(request.url.path)
        return httpx2.Response(400, json={"error": {"message": "No."}}, request=request)

    hold = stall()
    upstream.script(say("Once upon a time", hold, " there was a king."))
    async with caller.session() as session:
        caller.wire.before = refuse
        speech = session.generate_reply(user_input="a story")
        await hold.reached.wait()
        await speaking(session)
        speech.interrupt()
        await speech
        await settled(lambda: len(refused) == 1)
        await session.run(user_input="another one")
        assert await caller.thread() == said(session.history)
    assert len(refused) == 2
    hold.release()


async def test_a_request_whose_answer_is_lost_is_not_applied_twice(caller: Caller) -> None:
    def lose(request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
        if request.url.path.endswith("/runs") and request.method == "POST":
            caller.wire.after = None
            response.status_code = 502
        return response

    async with caller.session() as session:
        await session.run(user_input="one")
        caller.wire.after = lose
        await session.run(user_input="two")
        await session.run(user_input="three")
        assert await caller.thread() == said(session.history)


async def test_the_thread_deleted_underneath_is_made_again(caller: Caller) -> None:
    async with caller.session() as session:
        await session.run(user_input="one")
        before = caller.llm.thread_id
        async with caller.server.http() as http:
            await http.delete(f"/v1/threads/{before}")
        await session.run(user_input="two")
        assert caller.llm.thread_id != before
        assert await caller.thread() == said(session.history)


async def test_a_message_deleted_by_somebody_else(caller: Caller) -> None:
    async with caller.session() as session:
        await session.run(user_input="one")
        async with caller.server.http() as http:
            path = f"/v1/threads/{caller.llm.thread_id}/messages"
            messages = (await http.get(path)).json()["data"]
            await http.delete(f"{path}/{messages[0]['id']}")
        agent = session.current_agent
        context = agent.chat_ctx.copy()
        context.messages()[-1].content = ["changed"]
        await agent.update_chat_ctx(context)
        await session.run(user_input="two")
        assert await caller.thread() == said(agent.chat_ctx)


async def test_another_process_on_the_thread_is_waited_for(
    caller: Caller, server: LiveServer, upstream: Upstream
) -> None:
    hold = stall()
    async with caller.session() as session:
        await session.run(user_input="one")
        upstream.script(say("busy", hold))
        options = {"thread_id": caller.llm.thread_id}
        async with Caller(server, extensions=caller.extensions, options=options) as other:
            stream = other.llm.chat(chat_ctx=asking("from elsewhere"))
            await hold.reached.wait()
            caller.wire.requests.clear()
            speech = session.generate_reply(user_input="two")
            await settled(lambda: bool(caller.wire.requests))
            hold.release()
            await stream.collect()
            await speech
        texts = [text for _, text in await caller.thread()]
        assert sorted(texts) == sorted(["one", "one", "from elsewhere", "busy", "two", "two"])


async def test_a_wrong_key_is_said_clearly(server: LiveServer) -> None:
    def unauthorized(request: httpx2.Request) -> httpx2.Response:
        body = {"error": {"message": "Incorrect API key provided: x.", "code": "invalid_api_key"}}
        return httpx2.Response(401, json=body)

    async with Caller(server) as caller:
        await caller.client.close()
        transport = httpx2.MockTransport(unauthorized)
        caller.llm._client = caller.llm._given_client = openai.AsyncOpenAI(
            api_key="x",
            base_url=server.base_url,
            http_client=httpx2.AsyncClient(transport=transport),
        )
        with pytest.raises(APIStatusError, match="refused the API key: Incorrect") as raised:
            await caller.llm.chat(chat_ctx=asking(), conn_options=TWICE).collect()
        assert raised.value.status_code == 401
        await caller.llm._client.close()


async def test_a_server_that_is_not_there(server: LiveServer) -> None:
    async with Caller(server) as caller:

        def refuse(request: httpx2.Request) -> None:
            raise httpx2.ConnectError("Connection refused", request=request)

        caller.wire.before = refuse
        with pytest.raises(APIConnectionError, match="could not be reached"):
            await caller.llm.chat(chat_ctx=asking(), conn_options=ONCE).collect()
        caller.wire.before = None
        assert (await caller.llm.chat(chat_ctx=asking()).collect()).text == "hello"


async def test_a_silent_model_is_given_up_after_the_timeout_asked_for(
    caller: Caller, upstream: Upstream
) -> None:
    hold = stall()
    upstream.script(hold + say("late"))
    await caller.llm.load_chat_ctx()
    impatient = APIConnectOptions(max_retry=0, timeout=0.3)
    with pytest.raises(APITimeoutError):
        await caller.llm.chat(chat_ctx=asking(), conn_options=impatient).collect()
    hold.release()


async def test_a_model_that_falls_silent_in_mid_reply(caller: Caller, upstream: Upstream) -> None:
    """What came is kept and not said again; the next turn is one request."""
    hold = stall()
    await caller.llm.load_chat_ctx()
    upstream.script(say("Once upon ", hold, "a time"))
    context = asking("a story")
    impatient = APIConnectOptions(max_retry=2, retry_interval=0.0, timeout=0.3)
    stream = caller.llm.chat(chat_ctx=context, conn_options=impatient)
    chunks: list[ChatChunk] = []

    async def listen() -> None:
        async for chunk in stream:
            chunks.append(chunk)

    with pytest.raises(APITimeoutError):
        await listen()
    await stream.aclose()
    hold.release()
    said_before = next(one.delta for one in chunks if one.delta and one.delta.content)
    context.add_message(
        role="assistant",
        content=said_before.content or "",
        interrupted=True,
        extra=said_before.extra or {},
    )
    context.add_message(role="user", content="go on")
    with caller.counted() as requests:
        await caller.llm.chat(chat_ctx=context).collect()
    assert requests.count(RUN) == 1
    if caller.extensions is None:
        assert requests == [RUN]
    assert await caller.thread() == [*said(context), ("assistant", "go on")]


async def test_a_reply_cut_off_by_a_bound_is_a_reply(caller: Caller, upstream: Upstream) -> None:
    upstream.script(length("as far as it goes"))
    async with caller.session() as session:
        await session.run(user_input="a lot")
        await session.run(user_input="thanks")
        assert await caller.thread() == said(session.history)


def test_every_exception_of_the_sdk_and_its_http_library_is_translated() -> None:
    known = tuple(kind for kind, _ in errors.TRANSLATIONS)
    foreign = [
        one
        for module in (openai, httpx2)
        for one in list(vars(module).values())
        if isinstance(one, type) and issubclass(one, Exception) and not issubclass(one, Warning)
    ]
    assert len(foreign) > 30
    webhook = openai.InvalidWebhookSignatureError  # nothing to do with requests
    assert [one for one in foreign if not issubclass(one, known) and one is not webhook] == []
