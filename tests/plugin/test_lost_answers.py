"""Messages whose adding was never confirmed: they are there once, whoever asks next."""

from __future__ import annotations

import httpx2
import pytest
from livekit.agents import Agent, APIConnectOptions, APIError
from livekit.agents.llm import ChatContext, ChatMessage
from tests.plugin.agents import ADD, RUN, Caller, said, settled
from tests.upstream import Upstream, say, stall

ONCE = APIConnectOptions(max_retry=0, timeout=10.0)


def is_adding(request: httpx2.Request) -> bool:
    return request.method == "POST" and request.url.path.endswith("/messages")


def lose_the_answer(caller: Caller) -> None:
    """The next message is added, but the answer that says so is lost."""

    def lose(request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
        if is_adding(request):
            caller.wire.after = None
            response.status_code = 502
        return response

    caller.wire.after = lose


def hold_back(caller: Caller, last: str = "/messages") -> list[httpx2.Request]:
    """The next request to add a message, or to whose path ends so, is held up on its way; its
    sender gives up."""
    held: list[httpx2.Request] = []

    def hold(request: httpx2.Request) -> None:
        if request.method == "POST" and request.url.path.endswith(last):
            caller.wire.before = None
            held.append(request)
            raise httpx2.ReadError("the line is dead", request=request)

    caller.wire.before = hold
    return held


async def arrives(request: httpx2.Request) -> httpx2.Response:
    names = ("authorization", "content-type", "openai-beta", "idempotency-key")
    headers = {name: request.headers[name] for name in names if name in request.headers}
    async with httpx2.AsyncClient(timeout=30) as client:
        response: httpx2.Response = await client.post(
            str(request.url), content=request.content, headers=headers
        )
        return response


@pytest.mark.parametrize("extensions", [False], ids=["standard"])
async def test_a_message_of_a_turn_that_broke_off_and_that_the_next_turn_does_not_know(
    caller: Caller,
) -> None:
    """As two queued replies are: the second's context lacks the first's question."""
    await caller.llm.load_chat_ctx()
    whole, second = ChatContext.empty(), ChatContext.empty()
    whole.add_message(role="user", content="one")
    lose_the_answer(caller)
    with pytest.raises(APIError):
        await caller.llm.chat(chat_ctx=whole, conn_options=ONCE).collect()

    two = second.add_message(role="user", content="two")
    answer = await caller.llm.chat(chat_ctx=second).collect()
    reply = ChatMessage(role="assistant", content=[answer.text], extra=answer.extra)

    whole.items += [two, reply]
    whole.add_message(role="user", content="three")
    await caller.llm.chat(chat_ctx=whole).collect()
    assert await caller.thread() == [*said(whole), ("assistant", "three")]


async def test_a_message_of_a_turn_that_was_interrupted_before_its_answer_came(
    caller: Caller,
) -> None:
    hold = stall()

    async def answered(request: httpx2.Request) -> None:
        if request.method == "POST":
            caller.wire.answered = None
            await hold()

    async with caller.session() as session:
        await session.run(user_input="zero")
        caller.wire.answered = answered
        first = session.generate_reply(user_input="one")
        second = session.generate_reply(user_input="two")
        await hold.reached.wait()
        first.interrupt()
        await first
        await second
        await session.run(user_input="three")
        assert await caller.thread() == said(session.current_agent.chat_ctx)
        assert [text for _, text in await caller.thread()].count("one") == 1


async def test_a_run_whose_answer_is_lost_is_cancelled_when_nobody_tries_again(
    caller: Caller, upstream: Upstream
) -> None:
    silent = stall()
    upstream.script(silent + say("never heard"))

    async def lose(request: httpx2.Request) -> None:
        if request.url.path.endswith("/runs"):
            caller.wire.answered = None
            raise httpx2.ReadError("the line is dead", request=request)

    await caller.llm.load_chat_ctx()
    context = ChatContext.empty()
    context.add_message(role="user", content="one")
    caller.wire.answered = lose
    with pytest.raises(APIError):
        await caller.llm.chat(chat_ctx=context, conn_options=ONCE).collect()
    await settled(lambda: not caller.llm._conversation._tasks)
    await caller.no_run_is_active()
    assert [run["status"] for run in await caller.runs()] == ["cancelled"]
    silent.release()


@pytest.mark.parametrize("next_move", ["sync", "turn"])
async def test_a_sync_whose_answer_is_lost_is_not_applied_twice(
    caller: Caller, next_move: str
) -> None:
    async with caller.session() as session:
        await session.run(user_input="one")
        await session.say("Still there?")
        lose_the_answer(caller)
        with pytest.raises(APIError):
            await caller.llm.sync(session.history)
        if next_move == "sync":
            await caller.llm.sync(session.history)
        else:
            await session.run(user_input="two")
        assert await caller.thread() == said(session.history)


@pytest.mark.parametrize("extensions", [None], ids=["extensions"])
@pytest.mark.parametrize("next_move", ["sync", "turn"])
async def test_a_sync_that_arrives_after_its_sender_has_gone_on_changes_nothing(
    caller: Caller, next_move: str
) -> None:
    async with caller.session() as session:
        await session.run(user_input="one")
        await session.say("Still there?")
        held = hold_back(caller)
        with pytest.raises(APIError):
            await caller.llm.sync(session.history)
        if next_move == "sync":
            await caller.llm.sync(session.history)
        else:
            await session.run(user_input="two")
        await arrives(held.pop())
        assert await caller.thread() == said(session.history)
        await session.run(user_input="three")
        assert await caller.thread() == said(session.history)


@pytest.mark.parametrize("extensions", [None], ids=["extensions"])
@pytest.mark.parametrize("arrival", ["before the next turn", "after it"])
async def test_a_turn_that_arrives_after_its_sender_has_gone_on_is_refused(
    caller: Caller, upstream: Upstream, arrival: str
) -> None:
    """The user was answered by the retry; what comes late must not answer once more."""
    async with caller.session() as session:
        await session.run(user_input="one")
        held = hold_back(caller, "/runs")
        with caller.counted() as requests:
            await session.run(user_input="two")
        assert requests == [RUN, RUN]
        if arrival == "after it":
            await session.run(user_input="three")
        asked = len(upstream.requests)
        refusal = await arrives(held.pop())
        assert (refusal.status_code, refusal.json()["error"]["code"]) == (400, "run_ended")
        assert len(upstream.requests) == asked
        with caller.counted() as requests:
            await session.run(user_input="four")
        assert requests == [RUN]
        assert await caller.thread() == said(session.history)


@pytest.mark.parametrize("extensions", [None], ids=["extensions"])
@pytest.mark.parametrize("close", [False, True], ids=["sync", "aclose"])
async def test_a_turn_that_arrives_after_a_sync_is_refused(
    caller: Caller, upstream: Upstream, close: bool
) -> None:
    await caller.llm.load_chat_ctx()
    context = ChatContext.empty()
    context.add_message(role="user", content="one")
    held = hold_back(caller, "/runs")
    with pytest.raises(APIError):
        await caller.llm.chat(chat_ctx=context, conn_options=ONCE).collect()
    if close:
        await caller.llm.aclose()
    else:
        await caller.llm.sync(context)
    refusal = await arrives(held.pop())
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (400, "run_ended")
    assert upstream.requests == []
    assert await caller.thread() == ([] if close else said(context))


async def test_a_message_that_is_refused_is_not_sent_for_ever(
    caller: Caller, upstream: Upstream
) -> None:
    """Too long for the server: that turn fails, and the next one without it does not."""
    agent = Agent(instructions="You are Ana.")
    async with caller.session(agent) as session:
        await session.run(user_input="one")
        await session.say("x" * 256_001)
        with pytest.raises(APIError):
            await caller.llm.sync(session.history)
        context = agent.chat_ctx.copy()
        context.items.pop()
        await agent.update_chat_ctx(context)
        with caller.counted() as requests:
            await session.run(user_input="two")
        assert requests.count(ADD) == (0 if caller.extensions is None else 1)
        assert await caller.thread() == said(agent.chat_ctx)


@pytest.mark.parametrize("move", ["sync", "say and turn"])
async def test_a_thread_deleted_before_something_is_brought(caller: Caller, move: str) -> None:
    """A sync that finds no thread must not end the conversation: a new thread gets all of it."""
    async with caller.session() as session:
        await session.run(user_input="one")
        before = caller.llm.thread_id
        async with caller.server.http() as http:
            await http.delete(f"/v1/threads/{before}")
        await session.say("Still there?")
        if move == "sync":
            await caller.llm.sync(session.history)
            assert await caller.thread() == said(session.history)
        await session.run(user_input="two")
        assert caller.llm.thread_id != before
        assert await caller.thread() == said(session.history)


async def test_changes_that_broke_off_on_a_thread_that_is_deleted_then(caller: Caller) -> None:
    async with caller.session() as session:
        await session.run(user_input="one")
        await session.say("Still there?")
        lose_the_answer(caller)
        with pytest.raises(APIError):
            await caller.llm.sync(session.history)
        async with caller.server.http() as http:
            await http.delete(f"/v1/threads/{caller.llm.thread_id}")
        await session.run(user_input="two")
        assert await caller.thread() == said(session.history)
