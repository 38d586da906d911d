"""What the extensions promise when a connection is cut, or a request arrives late."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
import pytest
from tests.api.conversation import Conversation
from tests.api.exchanges import Json, made
from tests.api.raw import RawRequest
from tests.live_server import LiveServer, live_server
from tests.manual_clock import ManualClock
from tests.upstream import Upstream, call, say, stall

FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


async def waiting_request(
    server: LiveServer, clock: ManualClock, send: Callable[[], Awaitable[None]]
) -> asyncio.Task[None]:
    """Send a request that has to wait; returns the server's task once it waits."""
    before, sleepers = set(server.connections.tasks), clock.sleepers
    await send()
    await clock.sleeping(sleepers + 1)
    (task,) = server.connections.tasks - before
    return task


async def test_whoever_hangs_up_while_waiting_gets_no_run_later(
    tmp_path: Path, upstream: Upstream
) -> None:
    clock = ManualClock()
    async with (
        live_server(
            data=tmp_path, upstream_url=upstream.base_url, upstream_key="k", clock=clock
        ) as server,
        server.http() as http,
    ):
        assistant = await made(http, "/v1/assistants", {"model": "m", "instructions": "x"})
        thread = await made(http, "/v1/threads", {})
        talk = Conversation(http, upstream, thread["id"], assistant["id"])
        hold = stall()
        upstream.script(hold + say("One"), say("Three"))
        await talk.start("one")
        gone = RawRequest(server, talk.path, talk.body("two", if_active="queue", stream=True))

        async def send() -> None:
            await gone.begin()
            await gone.finish()

        task = await waiting_request(server, clock, send)
        gone.cut()
        await asyncio.wait((task,))
        hold.release()
        third = await talk.turn("three", if_active="queue")
        assert third["status"] == "completed"
        assert await talk.texts() == ["one", "One", "three", "Three"]
        assert len((await http.get(talk.path)).json()["data"]) == 2


async def test_whoever_hangs_up_in_the_line_leaves_it_at_once(
    tmp_path: Path, upstream: Upstream
) -> None:
    clock = ManualClock()
    async with (
        live_server(
            data=tmp_path, upstream_url=upstream.base_url, upstream_key="k", clock=clock
        ) as server,
        server.http() as http,
    ):
        assistant = await made(http, "/v1/assistants", {"model": "m", "instructions": "x"})
        thread = await made(http, "/v1/threads", {})
        talk = Conversation(http, upstream, thread["id"], assistant["id"])
        hold = stall()
        upstream.script(hold + say("One"), say("Two"), say("Four"))
        await talk.start("one")
        second, third, fourth = (
            RawRequest(server, talk.path, talk.body(word, if_active="queue", stream=True))
            for word in ("two", "three", "four")
        )

        async def send(request: RawRequest) -> asyncio.Task[None]:
            before = set(server.connections.tasks)
            await request.begin()
            await request.finish()
            while not server.connections.tasks - before:
                await asyncio.sleep(0)
            (task,) = server.connections.tasks - before
            return task

        async def at_the_head() -> None:
            await send(second)

        await waiting_request(server, clock, at_the_head)
        behind = await send(third)
        await send(fourth)
        third.cut()
        await asyncio.wait((behind,))  # though the one before it still waits
        hold.release()
        await second.until("thread.run.completed")
        await fourth.until("thread.run.completed")
        assert await talk.texts() == ["one", "One", "two", "Two", "four", "Four"]
        for request in (second, fourth):
            request.cut()


@pytest.mark.parametrize(
    ("wish", "status", "texts"),
    [
        ({"on_disconnect": "cancel"}, "cancelled", ["hello", "Hel"]),
        ({"on_disconnect": "continue"}, "completed", ["hello", "Hello"]),
        ({}, "completed", ["hello", "Hello"]),
    ],
)
async def test_a_cut_connection_does_what_was_asked_for(
    talk: Conversation, server: LiveServer, wish: Json, status: str, texts: list[str]
) -> None:
    hold = stall()
    talk.upstream.script(say("Hel", hold, "lo"))
    request = RawRequest(server, talk.path, talk.body("hello", stream=True, **wish))
    await request.begin()
    await request.finish()
    await request.until("thread.message.delta")
    request.cut()
    if status == "cancelled":
        await talk.upstream.disconnected()  # the model is told to stop, nobody has to ask
    hold.release()
    await server.state.worker.drain(30)
    (run,) = (await talk.http.get(talk.path)).json()["data"]
    assert run["status"] == status
    assert await talk.texts() == texts


WISHES: dict[str, Json] = {
    "run_key alone": {},
    "end_runs": {"end_runs": [{"run_key": "turn-1", "keep": ["$question"]}]},
    "supersede": {"if_active": "supersede"},
    "queue": {"if_active": "queue"},
    "tool_outputs": {"tool_outputs": [{"tool_call_id": "call_x", "output": "42", "name": "f"}]},
    "edit_messages": {"edit_messages": [{"id": "$question", "content": "hello!"}]},
    "delete_messages": {"delete_messages": ["$answer"]},
    "exclude_messages": {"exclude_messages": ["$answer"]},
    "on_disconnect": {"on_disconnect": "cancel"},
}


@pytest.mark.parametrize("wish", WISHES.values(), ids=WISHES.keys())
async def test_what_was_asked_for_before_a_cut_stands_and_a_late_copy_changes_nothing(
    talk: Conversation, server: LiveServer, wish: Json
) -> None:
    hold = stall()
    talk.upstream.script(say("Hello"), say("Se", hold, "cond"), say("Third"))
    await talk.turn("hello", run_key="turn-1")
    question, answer = (message["id"] for message in await talk.messages())
    told = orjson.dumps(wish).decode().replace("$question", question).replace("$answer", answer)
    body = talk.body("and?", run_key="turn-2", stream=True, **orjson.loads(told))
    request, late, later = (RawRequest(server, talk.path, body) for _ in range(3))
    await late.begin()
    await later.begin()
    await request.begin()
    await request.finish()
    await request.until("thread.message.delta")
    request.cut()
    if "on_disconnect" not in wish:
        hold.release()
    while server.state.worker._tasks:
        await asyncio.wait(server.state.worker._tasks)
    texts = await talk.texts()
    reply = "Se" if "on_disconnect" in wish else "Second"
    expected = {
        "edit_messages": ["hello!", "Hello", "and?", reply],
        "delete_messages": ["hello", "and?", reply],
        "end_runs": ["hello", "and?", reply],
    }
    assert texts == next(
        (expected[name] for name in wish if name in expected), ["hello", "Hello", "and?", reply]
    )
    shown = talk.shown
    if "exclude_messages" in wish:
        assert shown == [("user", "hello"), ("user", "and?")]
    if "tool_outputs" in wish:
        assert ("tool", "42") in shown

    before = await talk.state()
    await late.finish()
    assert await late.status() == 400
    assert '"code":"run_key_exists"' in await late.until("}}")
    assert await talk.state() == before
    await talk.turn("third", run_key="turn-3", end_runs=[{"run_key": "turn-2"}])
    before = await talk.state()
    await later.finish()
    assert await later.status() == 400
    assert '"code":"run_ended"' in await later.until("}}")
    assert await talk.state() == before
    late.cut()
    later.cut()
    hold.release()


async def test_an_edit_that_is_cut_is_whole_or_not_and_its_late_copy_is_harmless_with_a_key(
    talk: Conversation, server: LiveServer
) -> None:
    await talk.turn("hello")
    question = (await talk.messages())[0]["id"]
    path = f"/v1/threads/{talk.thread_id}/messages/{question}"
    keyed = {"Idempotency-Key": "edit-1"}
    before = await talk.state()
    half = RawRequest(server, path, {"content": "heard"}, headers=keyed)
    await half.begin()
    half.cut()
    assert await talk.state() == before

    late = RawRequest(server, path, {"content": "heard"}, headers=keyed)
    await late.begin()
    heard = await talk.http.post(path, json={"content": "heard"}, headers=keyed)
    assert heard.json()["content"][0]["text"]["value"] == "heard"
    await made(talk.http, path, {"content": "corrected"})
    before = await talk.state()
    await late.finish()
    assert await late.status() == 200
    assert "idempotent-replayed: true" in await late.until("\r\n\r\n")
    late.cut()
    assert await talk.state() == before
    assert (await talk.texts())[0] == "corrected"


async def test_hanging_up_behind_the_end_cancels_nothing(talk: Conversation) -> None:
    talk.upstream.script(call("f", id="call_a"))
    run = await talk.turn("hello", tools=[FUNCTION], on_disconnect="cancel")
    assert run["status"] == "requires_action"
    assert (await talk.http.get(f"{talk.path}/{run['id']}")).json()["status"] == "requires_action"
