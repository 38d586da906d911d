"""Runs over plain HTTP: states, locks, and the texts that clients match on."""

from __future__ import annotations

import httpx2
import pytest
from tests.api.exchanges import Json, made, refusal
from tests.api.streams import frames, names, played, streaming
from tests.live_server import LiveServer
from tests.upstream import Upstream, call, calls, say, stall


async def run_waiting_for_outputs(
    http: httpx2.AsyncClient, upstream: Upstream, thread: Json, assistant: Json
) -> Json:
    """A run with two pending calls, ``call_a`` and ``call_b``."""
    upstream.script(calls(call("f", {"x": 1}, id="call_a"), call("f", {"x": 2}, id="call_b")))
    tools = [{"type": "function", "function": {"name": "f"}}]
    body = {"assistant_id": assistant["id"], "tools": tools}
    events = await played(http, f"/v1/threads/{thread['id']}/runs", body)
    name, run = events[-2]
    assert name == "thread.run.requires_action"
    assert isinstance(run, dict)
    return run


@pytest.fixture
async def waiting(
    http: httpx2.AsyncClient, upstream: Upstream, thread: Json, assistant: Json
) -> Json:
    return await run_waiting_for_outputs(http, upstream, thread, assistant)


async def test_a_run_is_queued_when_it_is_made(
    http: httpx2.AsyncClient, thread: Json, assistant: Json
) -> None:
    await made(
        http, f"/v1/threads/{thread['id']}/messages", {"role": "user", "content": "hello there"}
    )
    path = f"/v1/threads/{thread['id']}/runs"
    response = await http.post(path, json={"assistant_id": assistant["id"]})
    run = response.json()
    assert run["status"] == "queued"
    assert run["expires_at"] == run["created_at"] + 600
    assert (run["model"], run["instructions"]) == ("gpt-4o", "Be brief.")
    assert (run["usage"], run["started_at"], run["required_action"]) == (None,) * 3
    assert response.headers["openai-poll-after-ms"] == "250"
    answer = await http.get(f"{path}/{run['id']}")
    assert answer.headers["openai-poll-after-ms"] == "250"


async def test_a_run_inherits_what_it_does_not_name(
    http: httpx2.AsyncClient, upstream: Upstream, thread: Json
) -> None:
    assistant = await made(
        http,
        "/v1/assistants",
        {
            "model": "gpt-4o",
            "instructions": "Inherited.",
            "temperature": 0,
            "tools": [{"type": "function", "function": {"name": "f"}}],
            "metadata": {"not": "inherited"},
        },
    )
    path = f"/v1/threads/{thread['id']}/runs"
    nulls = dict.fromkeys(["instructions", "tools", "temperature", "metadata", "response_format"])
    for body in ({}, nulls):
        upstream.script(say("hi"))
        run = (await played(http, path, {"assistant_id": assistant["id"], **body}))[-2][1]
        assert run["status"] == "completed"
        assert (run["instructions"], run["temperature"]) == ("Inherited.", 0)
        assert run["tools"] == assistant["tools"]
        assert run["metadata"] == {}
    upstream.script(say("hi"))
    own = {"assistant_id": assistant["id"], "tools": [], "instructions": "Own.", "temperature": 1}
    run = (await played(http, path, own))[-2][1]
    assert (run["tools"], run["instructions"], run["temperature"]) == ([], "Own.", 1)


async def test_nothing_to_run_on_is_refused(http: httpx2.AsyncClient, thread: Json) -> None:
    assistant = await made(http, "/v1/assistants", {"model": "m"})
    response = await http.post(
        f"/v1/threads/{thread['id']}/runs", json={"assistant_id": assistant["id"]}
    )
    assert refusal(response) == (
        400,
        "Run creation requires a Thread with a user message or an assistant with instructions.",
        None,
        "invalid_thread",
    )


async def test_an_unknown_assistant_is_named(http: httpx2.AsyncClient, thread: Json) -> None:
    gone = (404, "No assistant found with id 'asst_x'.", None, None)
    body = {"assistant_id": "asst_x"}
    assert refusal(await http.post(f"/v1/threads/{thread['id']}/runs", json=body)) == gone
    assert refusal(await http.post("/v1/threads/runs", json=body)) == gone


async def test_an_active_run_locks_its_thread(
    http: httpx2.AsyncClient, thread: Json, assistant: Json, waiting: Json
) -> None:
    path = f"/v1/threads/{thread['id']}"
    message = {"role": "user", "content": "x"}
    assert refusal(await http.post(path + "/messages", json=message)) == (
        400,
        f"Can't add messages to {thread['id']} while a run {waiting['id']} is active.",
        None,
        None,
    )
    assert refusal(await http.post(path + "/runs", json={"assistant_id": assistant["id"]})) == (
        400,
        f"Thread {thread['id']} already has an active run {waiting['id']}.",
        None,
        None,
    )
    # What reads, and what changes metadata, stays open.
    assert (await http.get(path + "/messages")).status_code == 200
    await made(http, path, {"metadata": {"a": "b"}})
    await made(http, f"{path}/runs/{waiting['id']}", {"metadata": {"a": "b"}})


@pytest.mark.parametrize(
    ("given", "listed"),
    [
        (["call_a"], "['call_a']"),
        ([], "[]"),
        (["call_a", "call_x"], "['call_a', 'call_x']"),
        (["call_a", "call_a"], "['call_a', 'call_a']"),
        (["call_a", "call_b", "call_c"], "['call_a', 'call_b', 'call_c']"),
    ],
)
async def test_outputs_must_be_exactly_those_asked_for(
    http: httpx2.AsyncClient, thread: Json, waiting: Json, given: list[str], listed: str
) -> None:
    path = f"/v1/threads/{thread['id']}/runs/{waiting['id']}"
    outputs = [{"tool_call_id": name, "output": "1"} for name in given]
    response = await http.post(path + "/submit_tool_outputs", json={"tool_outputs": outputs})
    assert refusal(response) == (
        400,
        f"Expected tool outputs for call_ids ['call_a', 'call_b'], got {listed}",
        None,
        None,
    )
    assert (await http.get(path)).json() == waiting


async def test_a_run_has_left_requires_action_before_the_submission_is_answered(
    http: httpx2.AsyncClient, upstream: Upstream, thread: Json, waiting: Json
) -> None:
    hold = stall()
    upstream.script(hold + say("done"))
    path = f"/v1/threads/{thread['id']}/runs/{waiting['id']}"
    outputs = [{"tool_call_id": name, "output": "1"} for name in ("call_a", "call_b")]
    run = await made(http, path + "/submit_tool_outputs", {"tool_outputs": outputs})
    assert (run["status"], run["required_action"]) == ("queued", None)
    assert run["expires_at"] == waiting["expires_at"], "not extended"
    assert (await http.get(path)).json()["status"] in ("queued", "in_progress")
    await hold.reached.wait()
    assert refusal(
        await http.post(path + "/submit_tool_outputs", json={"tool_outputs": outputs})
    ) == (400, 'Runs in status "in_progress" do not accept tool outputs.', None, None)
    assert refusal(await http.post(path, json={"metadata": {}})) == (
        400,
        "Cannot update run with status 'in_progress'.",
        None,
        None,
    )
    hold.release()


async def test_a_cancelled_run_cannot_be_cancelled_again(
    http: httpx2.AsyncClient, thread: Json, waiting: Json
) -> None:
    path = f"/v1/threads/{thread['id']}/runs/{waiting['id']}"
    response = await http.post(path + "/cancel")
    assert response.json()["status"] == "cancelling"
    assert response.headers["openai-poll-after-ms"] == "250"
    run = (await http.get(path)).json()
    assert run["status"] == "cancelled"
    assert run["expires_at"] is None
    assert run["cancelled_at"] is not None
    assert run["usage"]["total_tokens"] > 0
    assert refusal(await http.post(path + "/cancel")) == (
        400,
        "Cannot cancel run with status 'cancelled'.",
        None,
        None,
    )
    await made(http, f"/v1/threads/{thread['id']}/messages", {"role": "user", "content": "x"})


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"nonsense"])
async def test_cancelling_needs_no_body(
    http: httpx2.AsyncClient, thread: Json, waiting: Json, body: bytes
) -> None:
    path = f"/v1/threads/{thread['id']}/runs/{waiting['id']}/cancel"
    headers = {"content-type": "application/json"}
    response = await http.post(path, content=body, headers=headers)
    assert response.json()["status"] == "cancelling"


async def test_a_run_can_be_cancelled_in_mid_stream(
    http: httpx2.AsyncClient, upstream: Upstream, thread: Json, assistant: Json
) -> None:
    hold = stall()
    upstream.script(say("Hel", hold, "lo"))
    path = f"/v1/threads/{thread['id']}/runs"
    seen = []
    async with streaming(http, path, {"assistant_id": assistant["id"]}) as response:
        async for name, data in frames(response):
            seen.append((name, data))
            if name == "thread.message.delta":
                await made(http, f"{path}/{seen[0][1]['id']}/cancel", {})
    assert names(seen)[-6:] == [
        "thread.message.delta",
        "thread.run.cancelling",
        "thread.message.incomplete",
        "thread.run.step.cancelled",
        "thread.run.cancelled",
        "done",
    ]
    message = seen[-4][1]
    assert message["incomplete_details"] == {"reason": "run_cancelled"}
    assert message["content"][0]["text"]["value"] == "Hel"
    await upstream.disconnected()


async def test_a_client_that_hangs_up_does_not_stop_the_run(
    http: httpx2.AsyncClient, server: LiveServer, upstream: Upstream, thread: Json, assistant: Json
) -> None:
    hold = stall()
    upstream.script(say("Hel", hold, "lo"))
    path = f"/v1/threads/{thread['id']}/runs"
    async with streaming(http, path, {"assistant_id": assistant["id"]}) as response:
        async for name, data in frames(response):
            if name == "thread.run.created":
                run_id = data["id"]
            if name == "thread.message.delta":
                break
    hold.release()
    await server.state.worker.drain(30)
    assert (await http.get(f"{path}/{run_id}")).json()["status"] == "completed"


async def test_a_client_that_asked_for_it_stops_the_run_by_hanging_up(
    http: httpx2.AsyncClient, server: LiveServer, upstream: Upstream, thread: Json, assistant: Json
) -> None:
    upstream.script(say("Hel", stall(), "lo"))
    path = f"/v1/threads/{thread['id']}/runs"
    body = {"assistant_id": assistant["id"], "on_disconnect": "cancel"}
    async with streaming(http, path, body) as response:
        async for name, data in frames(response):
            if name == "thread.run.created":
                run_id = data["id"]
            if name == "thread.message.delta":
                break
    await upstream.disconnected()
    await server.state.worker.drain(30)
    assert (await http.get(f"{path}/{run_id}")).json()["status"] == "cancelled"


async def test_steps_tell_what_a_run_did(
    http: httpx2.AsyncClient, upstream: Upstream, thread: Json, waiting: Json
) -> None:
    path = f"/v1/threads/{thread['id']}/runs/{waiting['id']}"
    upstream.script(say("done"))
    outputs = [{"tool_call_id": name, "output": name} for name in ("call_a", "call_b")]
    events = await played(http, path + "/submit_tool_outputs", {"tool_outputs": outputs})
    assert names(events)[:2] == ["thread.run.step.completed", "thread.run.queued"]
    newest, oldest = (await http.get(path + "/steps")).json()["data"]
    assert newest["type"] == "message_creation"
    assert [one["function"]["output"] for one in oldest["step_details"]["tool_calls"]] == [
        "call_a",
        "call_b",
    ]
    assert (await http.get(f"{path}/steps/{oldest['id']}")).json() == oldest
    include = {"include[]": "step_details.tool_calls[*].file_search.results[*].content"}
    assert (await http.get(path + "/steps", params=include)).json()["data"] == [newest, oldest]
    assert refusal(await http.get(path + "/steps/step_x")) == (
        404,
        "No run step found with id 'step_x'.",
        None,
        None,
    )


async def test_the_ids_of_added_messages_come_with_the_extensions(
    http: httpx2.AsyncClient, upstream: Upstream, thread: Json, assistant: Json
) -> None:
    path = f"/v1/threads/{thread['id']}/runs"
    body = {
        "assistant_id": assistant["id"],
        "additional_messages": [{"role": "user", "content": "hello"}],
    }
    assert "additional_message_ids" not in (await played(http, path, body))[0][1]
    run = (await played(http, path, {**body, "run_key": "turn"}))[0][1]
    page = (await http.get(f"/v1/threads/{thread['id']}/messages?order=asc")).json()
    assert run["additional_message_ids"] == [page["data"][2]["id"]]
    assert page["data"][2]["run_id"] is None
    again = await http.post(path, json={**body, "run_key": "turn"})
    assert refusal(again) == (
        400,
        "A run with run_key 'turn' already exists in this thread.",
        "run_key",
        "run_key_exists",
    )
    await made(http, path, {**body, "end_runs": [{"run_key": "late"}], "if_active": "queue"})
    late = await http.post(path, json={**body, "run_key": "late", "if_active": "queue"})
    assert refusal(late)[3] == "run_ended"
    edits = [{"id": "msg_x", "content": "?"}]
    edit = await http.post(path, json={**body, "edit_messages": edits, "if_active": "queue"})
    assert refusal(edit)[2:] == ("edit_messages[0].id", "message_not_found")


async def test_a_call_id_of_any_length_can_be_answered(
    http: httpx2.AsyncClient, upstream: Upstream, assistant: Json
) -> None:
    """Gateways hide what their model wants back in it (LiteLLM: Gemini's thought signatures)."""
    call_id = "call_a__thought__" + "x" * 5000
    upstream.script(call("f", id=call_id), say("Thanks"))
    thread = await made(http, "/v1/threads", {"messages": [{"role": "user", "content": "Hi"}]})
    path = f"/v1/threads/{thread['id']}/runs"
    tools = [{"type": "function", "function": {"name": "f"}}]
    body = {"assistant_id": assistant["id"], "tools": tools}
    run = (await played(http, path, body))[-2][1]
    outputs = {"tool_outputs": [{"tool_call_id": call_id, "output": "1"}]}
    answered = await played(http, f"{path}/{run['id']}/submit_tool_outputs", outputs)
    assert answered[-2][0] == "thread.run.completed"
    assert upstream.requests[-1].messages[-1]["tool_call_id"] == call_id
