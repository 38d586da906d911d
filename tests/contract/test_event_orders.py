"""The exact order of events on the wire, case by case, and what each event shows."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from tests.api.exchanges import Json, made
from tests.api.streams import Frame, frames, names, played, streaming
from tests.upstream import Answer, Upstream, call, calls, content_filter, cut, length, say, stall

BEGUN = ["thread.run.created", "thread.run.queued", "thread.run.in_progress"]
STEP = ["thread.run.step.created", "thread.run.step.in_progress"]
MESSAGE = [*STEP, "thread.message.created", "thread.message.in_progress"]
REPLIED = ["thread.message.completed", "thread.run.step.completed", "thread.run.completed", "done"]
WORDS = ["thread.message.delta", "thread.message.delta"]


@pytest.fixture
async def body(http: httpx2.AsyncClient) -> Json:
    tools = [{"type": "function", "function": {"name": "f"}}]
    assistant = await made(
        http, "/v1/assistants", {"model": "gpt-4o", "instructions": "x", "tools": tools}
    )
    return {"assistant_id": assistant["id"]}


@pytest.fixture
async def path(http: httpx2.AsyncClient) -> str:
    thread = await made(http, "/v1/threads", {"messages": [{"role": "user", "content": "hi"}]})
    return f"/v1/threads/{thread['id']}/runs"


def data(events: list[Frame], name: str) -> Any:
    return next(shown for event, shown in events if event == name)


def without_fragments(events: list[Frame]) -> list[str]:
    """The names, with consecutive step deltas of one call as one."""
    kept: list[str] = []
    index = -1
    for name, shown in events:
        if name == "thread.run.step.delta":
            (delta,) = shown["delta"]["step_details"]["tool_calls"]
            if delta["index"] == index:
                continue
            index = delta["index"]
        kept.append(name)
    return kept


async def test_a_text_reply(
    http: httpx2.AsyncClient, upstream: Upstream, path: str, body: Json
) -> None:
    upstream.script(say("Hel", "lo").usage(5, 2))
    events = await played(http, path, body)
    assert names(events) == [*BEGUN, *MESSAGE, *WORDS, *REPLIED]
    created, queued, started = (shown for _, shown in events[:3])
    assert (created["status"], created["started_at"]) == ("queued", None)
    assert queued["id"] == created["id"]
    assert started["status"] == "in_progress"
    assert started["started_at"] is not None
    step = data(events, "thread.run.step.created")
    assert (step["type"], step["status"], step["usage"]) == (
        "message_creation",
        "in_progress",
        None,
    )
    message = data(events, "thread.message.created")
    assert step["step_details"]["message_creation"]["message_id"] == message["id"]
    assert (message["status"], message["content"], message["attachments"]) == (
        "in_progress",
        [],
        [],
    )
    assert (message["run_id"], message["assistant_id"]) == (created["id"], body["assistant_id"])
    first, second = (shown for name, shown in events if name == "thread.message.delta")
    assert first["delta"] == {
        "content": [{"index": 0, "type": "text", "text": {"value": "Hel", "annotations": []}}]
    }
    assert second["delta"] == {"content": [{"index": 0, "type": "text", "text": {"value": "lo"}}]}
    whole = data(events, "thread.message.completed")
    assert whole["content"] == [{"type": "text", "text": {"value": "Hello", "annotations": []}}]
    assert whole["completed_at"] is not None
    usage = data(events, "thread.run.step.completed")["usage"]
    assert usage["total_tokens"] == 7
    run = data(events, "thread.run.completed")
    assert (run["usage"], run["expires_at"]) == (usage, None)
    assert run["completed_at"] is not None
    assert events[-1] == ("done", "[DONE]")


async def test_a_function_call_and_its_answer(
    http: httpx2.AsyncClient, upstream: Upstream, path: str, body: Json
) -> None:
    upstream.script(call("f", {"city": "Oslo"}, id="call_a").usage(5, 2))
    events = await played(http, path, body)
    assert without_fragments(events) == [
        *BEGUN,
        *STEP,
        "thread.run.step.delta",
        "thread.run.requires_action",
        "done",
    ]
    step = data(events, "thread.run.step.created")
    assert step["step_details"] == {"type": "tool_calls", "tool_calls": []}
    deltas = [shown for name, shown in events if name == "thread.run.step.delta"]
    assert deltas[0]["delta"]["step_details"]["tool_calls"] == [
        {
            "index": 0,
            "id": "call_a",
            "type": "function",
            "function": {"name": "f", "arguments": "", "output": None},
        }
    ]
    fragments = [one["delta"]["step_details"]["tool_calls"][0] for one in deltas[1:]]
    assert all(set(one) == {"index", "type", "function"} for one in fragments)
    assert "".join(one["function"]["arguments"] for one in fragments) == '{"city":"Oslo"}'
    run = data(events, "thread.run.requires_action")
    assert run["usage"] is None
    assert run["required_action"]["submit_tool_outputs"]["tool_calls"] == [
        {
            "id": "call_a",
            "type": "function",
            "function": {"name": "f", "arguments": '{"city":"Oslo"}'},
        }
    ]

    upstream.script(say("Co", "ld").usage(9, 2))
    outputs = {"tool_outputs": [{"tool_call_id": "call_a", "output": "-3"}]}
    events = await played(http, f"{path}/{run['id']}/submit_tool_outputs", outputs)
    assert names(events) == [
        "thread.run.step.completed",
        "thread.run.queued",
        "thread.run.in_progress",
        *MESSAGE,
        *WORDS,
        *REPLIED,
    ]
    answered = events[0][1]
    assert answered["id"] == step["id"]
    assert answered["step_details"]["tool_calls"][0]["function"]["output"] == "-3"
    assert answered["usage"]["total_tokens"] == 7
    queued = events[1][1]
    assert (queued["required_action"], queued["started_at"]) == (None, run["started_at"])
    assert queued["expires_at"] == run["expires_at"]
    assert data(events, "thread.run.completed")["usage"]["total_tokens"] == 7 + 11


async def test_parallel_calls(
    http: httpx2.AsyncClient, upstream: Upstream, path: str, body: Json
) -> None:
    upstream.script(calls(call("f", {"n": 1}, id="call_a"), call("f", {"n": 2}, id="call_b")))
    events = await played(http, path, body)
    assert without_fragments(events) == [
        *BEGUN,
        *STEP,
        "thread.run.step.delta",
        "thread.run.step.delta",
        "thread.run.requires_action",
        "done",
    ]
    run = data(events, "thread.run.requires_action")
    pending = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    assert [one["id"] for one in pending] == ["call_a", "call_b"]


async def test_text_and_then_a_call(
    http: httpx2.AsyncClient, upstream: Upstream, path: str, body: Json
) -> None:
    upstream.script(say("Hel", "lo") + call("f", {}))
    events = await played(http, path, body)
    assert without_fragments(events) == [
        *BEGUN,
        *MESSAGE,
        *WORDS,
        "thread.message.completed",
        "thread.run.step.completed",
        *STEP,
        "thread.run.step.delta",
        "thread.run.requires_action",
        "done",
    ]


async def cancelled(http: httpx2.AsyncClient, path: str, body: Json, after: str) -> list[Frame]:
    """A stream in which the run is cancelled once the event of this name has come."""
    events: list[Frame] = []
    async with streaming(http, path, body) as response:
        async for name, shown in frames(response):
            events.append((name, shown))
            if name == after:
                after = ""
                await made(http, f"{path}/{events[0][1]['id']}/cancel", {})
    return events


async def test_cancelling_in_the_middle_of_a_text(
    http: httpx2.AsyncClient, upstream: Upstream, path: str, body: Json
) -> None:
    upstream.script(say("Hel", stall(), "lo"))
    events = await cancelled(http, path, body, "thread.message.delta")
    assert names(events) == [
        *BEGUN,
        *MESSAGE,
        "thread.message.delta",
        "thread.run.cancelling",
        "thread.message.incomplete",
        "thread.run.step.cancelled",
        "thread.run.cancelled",
        "done",
    ]
    message = data(events, "thread.message.incomplete")
    assert message["incomplete_details"] == {"reason": "run_cancelled"}
    assert message["content"][0]["text"]["value"] == "Hel"
    assert message["incomplete_at"] is not None
    assert data(events, "thread.run.step.cancelled")["cancelled_at"] is not None
    run = data(events, "thread.run.cancelled")
    assert (run["expires_at"], run["completed_at"]) == (None, None)
    assert run["usage"] is not None


async def test_cancelling_before_the_model_said_anything(
    http: httpx2.AsyncClient, upstream: Upstream, path: str, body: Json
) -> None:
    upstream.script(stall() + say("late"))
    events = await cancelled(http, path, body, "thread.run.in_progress")
    assert names(events) == [*BEGUN, "thread.run.cancelling", "thread.run.cancelled", "done"]


async def test_cancelling_during_a_tool_step(
    http: httpx2.AsyncClient, upstream: Upstream, path: str, body: Json
) -> None:
    upstream.script(call("f", {}) + stall() + call("f", {}))
    events = await cancelled(http, path, body, "thread.run.step.delta")
    assert without_fragments(events) == [
        *BEGUN,
        *STEP,
        "thread.run.step.delta",
        "thread.run.cancelling",
        "thread.run.step.cancelled",
        "thread.run.cancelled",
        "done",
    ]


async def test_a_failure_in_the_middle_of_a_text(
    http: httpx2.AsyncClient, upstream: Upstream, path: str, body: Json
) -> None:
    upstream.script(cut("Hel", "lo"))
    events = await played(http, path, body)
    assert names(events) == [
        *BEGUN,
        *MESSAGE,
        *WORDS,
        "thread.message.incomplete",
        "thread.run.step.failed",
        "thread.run.failed",
        "done",
    ]
    message = data(events, "thread.message.incomplete")
    assert message["incomplete_details"] == {"reason": "run_failed"}
    assert data(events, "thread.run.step.failed")["last_error"]["code"] == "server_error"
    run = data(events, "thread.run.failed")
    assert run["last_error"]["code"] == "server_error"
    assert run["failed_at"] is not None
    assert run["expires_at"] is None


@pytest.mark.parametrize(
    ("answer", "run_reason", "message_reason"),
    [
        (length("Hel", "lo"), "max_completion_tokens", "max_tokens"),
        (content_filter("Hel", "lo"), "content_filter", "content_filter"),
    ],
)
async def test_a_bound_in_the_middle_of_a_text(
    http: httpx2.AsyncClient,
    upstream: Upstream,
    path: str,
    body: Json,
    answer: Answer,
    run_reason: str,
    message_reason: str,
) -> None:
    upstream.script(answer)
    events = await played(http, path, {**body, "max_completion_tokens": 16})
    assert names(events) == [
        *BEGUN,
        *MESSAGE,
        *WORDS,
        "thread.message.incomplete",
        "thread.run.step.completed",
        "thread.run.incomplete",
        "done",
    ]
    message = data(events, "thread.message.incomplete")
    assert message["incomplete_details"] == {"reason": message_reason}
    run = data(events, "thread.run.incomplete")
    assert run["incomplete_details"] == {"reason": run_reason}
    assert run["completed_at"] is not None
    assert run["expires_at"] is None
    assert run["usage"] is not None


async def test_a_bound_before_any_text(
    http: httpx2.AsyncClient, upstream: Upstream, path: str, body: Json
) -> None:
    upstream.script(length())
    events = await played(http, path, body)
    assert names(events) == [*BEGUN, "thread.run.incomplete", "done"]


async def test_an_empty_turn_completes_without_a_message(
    http: httpx2.AsyncClient, upstream: Upstream, path: str, body: Json
) -> None:
    upstream.script(say())
    events = await played(http, path, body)
    assert names(events) == [*BEGUN, "thread.run.completed", "done"]


async def test_a_thread_created_and_run(
    http: httpx2.AsyncClient, upstream: Upstream, body: Json
) -> None:
    upstream.script(say("Hel", "lo"))
    thread = {"messages": [{"role": "user", "content": "hi"}]}
    events = await played(http, "/v1/threads/runs", {**body, "thread": thread})
    assert names(events) == ["thread.created", *BEGUN, *MESSAGE, *WORDS, *REPLIED]
    assert events[0][1]["object"] == "thread"
    assert events[1][1]["thread_id"] == events[0][1]["id"]
