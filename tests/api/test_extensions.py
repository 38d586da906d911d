"""The extensions over HTTP: what each does, what each refuses, and what a cut connection leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest
from tests.api.conversation import Conversation
from tests.api.exchanges import Json, made, refusal
from tests.api.raw import RawRequest
from tests.api.streams import frames, names, streaming
from tests.live_server import LiveServer
from tests.upstream import call, say, stall

MISSING = "missing_required_parameter"
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


# run_key and end_runs


async def test_a_run_key_is_used_once(talk: Conversation) -> None:
    await talk.turn("hello", run_key="turn-1")
    assert await talk.refused("hello", run_key="turn-1") == (
        400,
        "A run with run_key 'turn-1' already exists in this thread.",
        "run_key",
        "run_key_exists",
    )
    other = await made(talk.http, "/v1/threads", {})
    body = talk.body("hello", run_key="turn-1")
    await made(talk.http, f"/v1/threads/{other['id']}/runs", body)


async def test_end_runs_ends_a_run_and_keeps_what_was_heard(talk: Conversation) -> None:
    talk.upstream.script(say("Yes, I ", stall(), "am"), say("Sorry"))
    first = await talk.cut("are you", "there?", run_key="turn-1")
    reply = (await talk.messages())[-1]["id"]
    kept = [first["additional_message_ids"][1], reply]
    await talk.turn("stop", end_runs=[{"run_key": "turn-1", "keep": kept}])
    await talk.upstream.disconnected()
    assert await talk.texts() == ["there?", "Yes, I ", "stop", "Sorry"]
    assert talk.shown == [("user", "there?"), ("assistant", "Yes, I "), ("user", "stop")]
    ended = (await talk.http.get(f"{talk.path}/{first['id']}")).json()
    assert ended["status"] == "cancelled"


async def test_end_runs_without_keep_leaves_what_a_cancel_leaves(talk: Conversation) -> None:
    talk.upstream.script(say("Yes, I ", stall(), "am"), say("Sorry"))
    await talk.cut("hello", run_key="turn-1")
    await talk.turn("stop", end_runs=[{"run_key": "turn-1"}])
    assert await talk.texts() == ["hello", "Yes, I ", "stop", "Sorry"]
    reply = (await talk.messages())[1]
    assert (reply["status"], reply["incomplete_details"]) == (
        "incomplete",
        {"reason": "run_cancelled"},
    )


async def test_a_stream_that_is_read_learns_that_its_run_was_ended(talk: Conversation) -> None:
    talk.upstream.script(say("Yes, I ", stall(), "am"), say("Sorry"))
    seen = []
    async with streaming(talk.http, talk.path, talk.body("hello", run_key="turn-1")) as response:
        async for frame in frames(response):
            seen.append(frame)
            if frame[0] == "thread.message.delta":
                await talk.turn("stop", end_runs=[{"run_key": "turn-1"}])
    assert names(seen)[-4:] == [
        "thread.message.incomplete",
        "thread.run.step.cancelled",
        "thread.run.cancelled",
        "done",
    ]


async def test_a_request_whose_run_was_ended_before_it_arrived_is_refused(
    talk: Conversation, server: LiveServer
) -> None:
    late = RawRequest(server, talk.path, talk.body("first", run_key="turn-1", stream=True))
    await late.begin()
    await talk.turn("second", run_key="turn-2", end_runs=[{"run_key": "turn-1", "keep": []}])
    before = await talk.state()
    await late.finish()
    assert await late.status() == 400
    assert '"code":"run_ended"' in await late.until("}}")
    late.cut()
    assert await talk.state() == before
    assert await talk.refused("first", run_key="turn-1", if_active="supersede") == (
        400,
        "The run with run_key 'turn-1' was ended before this request arrived.",
        "run_key",
        "run_ended",
    )


async def test_updating_a_thread_ends_runs_by_their_names(talk: Conversation) -> None:
    """For a client that has nothing to say: what it gave up must not come to the thread later."""
    talk.upstream.script(say("Yes, I ", stall(), "am"), say("Fine"))
    first = await talk.cut("are you", "there?", run_key="turn-1")
    reply = (await talk.messages())[-1]["id"]
    body = {
        "metadata": {"kind": "call"},
        "end_runs": [{"run_key": "turn-1", "keep": [reply]}, {"run_key": "turn-2"}],
    }
    thread = await made(talk.http, f"/v1/threads/{talk.thread_id}", body)
    assert thread["metadata"] == {"kind": "call"}
    await talk.upstream.disconnected()
    assert await talk.texts() == ["Yes, I "]
    ended = (await talk.http.get(f"{talk.path}/{first['id']}")).json()
    assert ended["status"] == "cancelled"
    before = await talk.state()
    assert (await talk.refused("late", run_key="turn-2"))[3] == "run_ended"
    assert await talk.state() == before
    await talk.turn("hello")
    assert talk.shown == [("assistant", "Yes, I "), ("user", "hello")]


async def test_a_waiting_request_whose_run_is_ended_by_a_thread_update_is_refused(
    talk: Conversation,
) -> None:
    hold = stall()
    talk.upstream.script(hold + say("One"))
    first = await talk.start("one")
    await hold.reached.wait()
    waiting = asyncio.ensure_future(talk.refused("two", run_key="turn-2", if_active="queue"))
    path = f"/v1/threads/{talk.thread_id}"
    await made(talk.http, path, {"end_runs": [{"run_key": "turn-2"}]})
    await made(talk.http, f"{talk.path}/{first['id']}/cancel", {})
    assert (await waiting)[3] == "run_ended"
    assert await talk.texts() == ["one"]


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (["turn-1"], (400, "end_runs[0]", "invalid_type")),
        ([{}], (400, "end_runs[0].run_key", MISSING)),
        ([{"run_key": "k", "keep": [""]}], (400, "end_runs[0].keep[0]", "empty_string")),
    ],
)
async def test_a_thread_update_with_bad_names_is_refused_and_changes_nothing(
    talk: Conversation, wish: Any, expected: tuple[int, str, str]
) -> None:
    await talk.turn("one", run_key="k")
    before = await talk.state()
    path = f"/v1/threads/{talk.thread_id}"
    answer = await talk.http.post(path, json={"end_runs": wish, "metadata": {"a": "b"}})
    status, _, param, code = refusal(answer)
    assert (status, param, code) == expected
    assert await talk.state() == before


# if_active


async def test_an_active_run_refuses_another_unless_asked_otherwise(talk: Conversation) -> None:
    hold = stall()
    talk.upstream.script(hold + say("One"), say("Two"))
    first = await talk.start("one")
    await hold.reached.wait()
    message = f"Thread {talk.thread_id} already has an active run {first['id']}."
    for wishes in ({}, {"if_active": "error"}, {"if_active": None}):
        assert await talk.refused("two", **wishes) == (400, message, None, None)
    second = await talk.turn("two", if_active="supersede")
    assert second["status"] == "completed"
    assert await talk.texts() == ["one", "two", "Two"]


async def test_whoever_queues_waits_for_the_run_and_sees_its_answer(talk: Conversation) -> None:
    hold = stall()
    talk.upstream.script(hold + say("One"), say("Two"))
    await talk.start("one")
    waiting = asyncio.ensure_future(talk.turn("two", if_active="queue"))
    await hold.reached.wait()
    hold.release()
    assert (await waiting)["status"] == "completed"
    assert await talk.texts() == ["one", "One", "two", "Two"]
    assert talk.shown == [("user", "one"), ("assistant", "One"), ("user", "two")]


# What happens to messages and tools


async def test_outputs_of_a_pending_call_finish_its_step(talk: Conversation) -> None:
    talk.upstream.script(
        call("f", {"a": 1}, id="call_a") + call("f", {"a": 2}, id="call_b"), say("Done")
    )
    first = await talk.turn("hello", run_key="turn-1", tools=[FUNCTION])
    assert first["status"] == "requires_action"
    output = {"tool_call_id": "call_a", "output": "42", "name": "f"}
    second = await talk.turn("and?", end_runs=[{"run_key": "turn-1"}], tool_outputs=[output])
    (step,) = (await talk.http.get(f"{talk.path}/{first['id']}/steps")).json()["data"]
    assert step["status"] == "completed"
    assert [one["id"] for one in step["step_details"]["tool_calls"]] == ["call_a"]
    shown = talk.upstream.requests[-1].messages
    asked = next(one for one in shown if one.get("tool_calls"))
    assert [one["id"] for one in asked["tool_calls"]] == ["call_a"]
    assert ("tool", "42") in talk.shown
    (only,) = (await talk.http.get(f"{talk.path}/{second['id']}/steps")).json()["data"]
    assert only["type"] == "message_creation"


async def test_outputs_of_an_unknown_call_become_a_turn_of_the_new_run(talk: Conversation) -> None:
    output = {"tool_call_id": "call_x", "output": "42", "name": "sum", "arguments": '{"a":1}'}
    await talk.turn("hello")
    talk.upstream.script(say("Forty-two"), say("Again"))
    run = await talk.turn("and?", tool_outputs=[output])
    _, step = (await talk.http.get(f"{talk.path}/{run['id']}/steps")).json()["data"]
    (kept,) = step["step_details"]["tool_calls"]
    assert kept == {
        "id": "call_x",
        "type": "function",
        "function": {"name": "sum", "arguments": '{"a":1}', "output": "42"},
    }
    assert [role for role, _ in talk.shown] == ["user", "assistant", "assistant", "tool", "user"]
    again = await talk.turn("again", tool_outputs=[output])  # safe to send twice
    assert len((await talk.http.get(f"{talk.path}/{again['id']}/steps")).json()["data"]) == 1


async def test_outputs_are_shown_before_the_first_message_of_a_thread(talk: Conversation) -> None:
    output = {"tool_call_id": "call_x", "output": "42", "name": "sum"}
    await talk.turn("hello", tool_outputs=[output])
    assert [role for role, _ in talk.shown] == ["assistant", "tool", "user"]


async def test_edits_and_deletions_are_seen_by_the_new_run(talk: Conversation) -> None:
    talk.upstream.script(say("Yes, I can hear you"), say("Fine"))
    await talk.turn("hello", "can you hear me")
    first, _, reply = await talk.messages()
    await talk.turn(
        "stop",
        edit_messages=[{"id": reply["id"], "content": [{"type": "text", "text": "Yes, I"}]}],
        delete_messages=[first["id"], "msg_unknown", first["id"]],
    )
    assert await talk.texts() == ["can you hear me", "Yes, I", "stop", "Fine"]
    assert talk.shown == [("user", "can you hear me"), ("assistant", "Yes, I"), ("user", "stop")]
    edited = (await talk.messages())[1]
    assert {key: edited[key] for key in edited if key != "content"} == {
        key: reply[key] for key in reply if key != "content"
    }


async def test_excluded_messages_are_hidden_from_one_run_only(talk: Conversation) -> None:
    await talk.turn("one", "two", "three")
    hidden = [message["id"] for message in (await talk.messages())[1:2]]
    await talk.turn("four", exclude_messages=[*hidden, "msg_unknown"])
    assert ("user", "two") not in talk.shown
    window = {"type": "last_messages", "last_messages": 3}
    last = (await talk.messages())[-1]["id"]
    await talk.turn("five", exclude_messages=[last], truncation_strategy=window)
    assert [text for _, text in talk.shown][1:] == ["four", "five"]
    await talk.turn("six")
    assert ("user", "two") in talk.shown


async def test_the_run_tells_the_ids_of_its_messages_in_order(talk: Conversation) -> None:
    run = await talk.turn("one", "two", run_key="turn-1")
    assert run["additional_message_ids"] == [one["id"] for one in (await talk.messages())[:2]]
    assert "additional_message_ids" not in await talk.turn("three")
    for nothing in ({"run_key": None}, {"end_runs": None, "if_active": None}):
        assert "additional_message_ids" not in await talk.turn("four", **nothing)
    assert "additional_message_ids" in await talk.turn("five", end_runs=[])


# Refusals


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ({"run_key": ""}, (400, "run_key", "empty_string")),
        ({"run_key": "k" * 257}, (400, "run_key", "string_above_max_length")),
        ({"end_runs": ["turn-1"]}, (400, "end_runs[0]", "invalid_type")),
        ({"end_runs": [{}]}, (400, "end_runs[0].run_key", MISSING)),
        ({"if_active": "wait"}, (400, "if_active", "invalid_value")),
        ({"on_disconnect": "stop"}, (400, "on_disconnect", "invalid_value")),
        (
            {"tool_outputs": [{}]},
            (400, "tool_outputs[0].tool_call_id", "missing_required_parameter"),
        ),
        (
            {"edit_messages": [{"id": "msg_1"}]},
            (400, "edit_messages[0].content", "missing_required_parameter"),
        ),
        (
            {"edit_messages": [{"id": "msg_1", "content": 1}]},
            (400, "edit_messages[0].content", "invalid_type"),
        ),
        ({"delete_messages": [1]}, (400, "delete_messages[0]", "invalid_type")),
        ({"exclude_messages": "msg_1"}, (400, "exclude_messages", "invalid_type")),
        ({"run_key": "used"}, (400, "run_key", "run_key_exists")),
        ({"run_key": "dead"}, (400, "run_key", "run_ended")),
        (
            {"edit_messages": [{"id": "msg_x", "content": "?"}]},
            (400, "edit_messages[0].id", "message_not_found"),
        ),
        ({"if_active": "error", "end_runs": []}, (400, None, None)),
        ({"assistant_id": "asst_x"}, (404, None, None)),
    ],
)
async def test_a_refused_request_changes_nothing(
    talk: Conversation, wishes: Json, expected: tuple[int, str | None, str | None]
) -> None:
    hold = stall()
    talk.upstream.script(say("Hello"), say("Yes, ", hold, "I am"))
    await talk.turn("hello", run_key="used", end_runs=[{"run_key": "dead"}])
    await talk.cut("are you there?", run_key="active")
    reply = (await talk.messages())[1]["id"]
    everything = {
        "run_key": "new",
        "end_runs": [{"run_key": "active", "keep": []}, {"run_key": "used", "keep": []}],
        "if_active": "supersede",
        "tool_outputs": [{"tool_call_id": "call_x", "output": "42", "name": "sum"}],
        "delete_messages": [reply],
    }
    before = await talk.state()
    status, _, param, code = await talk.refused("stop", **{**everything, **wishes})
    assert (status, param, code) == expected
    assert await talk.state() == before
    assert talk.upstream.disconnects == 0
    # Nothing of it was carried out, so all of it still can be.
    await talk.turn("stop", **everything)
    assert (await talk.texts())[0] == "stop"


async def test_extensions_belong_to_runs_on_existing_threads(talk: Conversation) -> None:
    for name in ("run_key", "end_runs", "if_active", "tool_outputs", "on_disconnect"):
        body = {"assistant_id": talk.assistant_id, name: None}
        response = await talk.http.post("/v1/threads/runs", json=body)
        assert refusal(response)[2:] == (name, "unknown_parameter")


# Threads and messages


async def test_threads_are_listed_by_metadata_in_pages(http: httpx2.AsyncClient) -> None:
    ids = []
    for number in range(5):
        metadata = {"user": "ann" if number % 2 == 0 else "bob", "n": str(number)}
        ids.append((await made(http, "/v1/threads", {"metadata": metadata}))["id"])
    found: list[str] = []
    query: dict[str, Any] = {"metadata[user]": "ann", "limit": 2, "order": "asc"}
    while True:
        page = (await http.get("/v1/threads", params=query)).json()
        found += [thread["id"] for thread in page["data"]]
        if not page["has_more"]:
            break
        query["after"] = page["last_id"]
    assert found == [ids[0], ids[2], ids[4]]

    async def listed(**metadata: str) -> list[str]:
        query = {f"metadata[{key}]": value for key, value in metadata.items()}
        page = (await http.get("/v1/threads", params=query)).json()
        return [thread["id"] for thread in page["data"]]

    assert await listed() == ids[::-1]
    assert await listed(user="ann", n="2") == [ids[2]]
    assert await listed(user="bob", n="2") == []
    await made(http, f"/v1/threads/{ids[2]}", {"metadata": {"user": "bob"}})
    await http.delete(f"/v1/threads/{ids[3]}")
    assert await listed(user="bob") == [ids[2], ids[1]]


async def test_a_messages_content_changes_unless_a_run_is_writing_it(talk: Conversation) -> None:
    hold = stall()
    talk.upstream.script(say("Hel", hold, "lo"))
    run = await talk.cut("hello")
    first, reply = await talk.messages()
    path = f"/v1/threads/{talk.thread_id}/messages"
    assert (await made(talk.http, f"{path}/{first['id']}", {"content": "hi"}))["role"] == "user"
    response = await talk.http.post(f"{path}/{reply['id']}", json={"content": "Hel"})
    assert refusal(response) == (
        400,
        f"The content of message '{reply['id']}' cannot be changed while a run is writing it.",
        "content",
        "message_in_progress",
    )
    await made(talk.http, f"{path}/{reply['id']}", {"metadata": {"a": "b"}})
    await made(talk.http, f"{talk.path}/{run['id']}/cancel", {})
    hold.release()
    await talk.turn("still there?", if_active="queue")
    await made(talk.http, f"{path}/{reply['id']}", {"content": "He"})
    assert (await talk.texts())[:2] == ["hi", "He"]
    assert (await talk.messages())[1]["metadata"] == {"a": "b"}
