"""What real frameworks send, as their programs in ``tests/frameworks`` were seen to send it.

Nulls and empties are everyday: none of them may be refused or change what a run inherits.
"""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from tests.api.exchanges import Json, made
from tests.api.streams import frames, names, played, streaming
from tests.live_server import LiveServer
from tests.upstream import Upstream, call, say

WEATHER = {"type": "function", "function": {"name": "weather"}}

ASSISTANTS: dict[str, Json] = {
    "agency-swarm": {
        "description": "Answers Ana",
        "metadata": {},
        "reasoning_effort": None,
        "response_format": "auto",
        "temperature": 0.3,
        "tool_resources": None,
        "top_p": 1.0,
    },
    "agency-swarm, with resources": {
        "tool_resources": {
            "code_interpreter": {"file_ids": None},
            "file_search": {"vector_store_ids": None, "vector_stores": None},
        },
    },
    "autogen": {"description": "", "metadata": None, "temperature": None, "top_p": None},
    "llama-index": {"name": "assistant", "temperature": None, "top_p": None},
}

RUNS: dict[str, Json] = {
    "agency-swarm": {
        "additional_instructions": None,
        "max_completion_tokens": None,
        "max_prompt_tokens": None,
        "parallel_tool_calls": True,
        "response_format": None,
        "temperature": None,
        "tool_choice": None,
        "truncation_strategy": None,
    },
    "airflow": {"stream": False},
    "langchain, agency-swarm": {"additional_instructions": ""},
    "litellm": {
        "additional_instructions": None,
        "instructions": None,
        "metadata": None,
        "model": None,
        "stream": False,
        "tools": None,
    },
    "llama-index": {"instructions": None},
}

MESSAGES: dict[str, Json] = {
    "langchain": {"content": "hi", "metadata": None},
    "langchain v2": {"content": "hi", "attachments": [], "metadata": None},
    "langchain, a new thread": {"content": "hi", "attachments": None, "metadata": None},
    "semantic-kernel": {"content": [{"type": "text", "text": "hi"}]},
}


@pytest.fixture
async def path(http: httpx2.AsyncClient, thread: Json) -> str:
    path = f"/v1/threads/{thread['id']}"
    await made(http, path + "/messages", {"role": "user", "content": "hi"})
    return path


@pytest.fixture
async def with_a_tool(http: httpx2.AsyncClient) -> Json:
    body = {"model": "gpt-4o", "instructions": "Be brief.", "tools": [WEATHER], "temperature": 0.5}
    return await made(http, "/v1/assistants", body)


@pytest.mark.parametrize("body", ASSISTANTS.values(), ids=ASSISTANTS)
async def test_an_assistant_answers_with_objects_and_defaults(
    http: httpx2.AsyncClient, body: Json
) -> None:
    shown = await made(http, "/v1/assistants", {"model": "gpt-4o", **body})
    assert isinstance(shown["tool_resources"], dict)
    assert (shown["metadata"], shown["top_p"]) == ({}, 1.0)
    assert shown["temperature"] == (body.get("temperature") or 1.0)
    assert shown["response_format"] == "auto"


@pytest.mark.parametrize("body", RUNS.values(), ids=RUNS)
async def test_a_run_of_nulls_inherits(
    http: httpx2.AsyncClient, upstream: Upstream, path: str, with_a_tool: Json, body: Json
) -> None:
    given = {"assistant_id": with_a_tool["id"], **body}
    run = await made(http, path + "/runs", given)
    assert (run["status"], run["instructions"], run["model"]) == ("queued", "Be brief.", "gpt-4o")
    assert [tool["function"]["name"] for tool in run["tools"]] == ["weather"]
    await upstream.arrived(1)
    asked = upstream.requests[0].body
    assert asked["messages"][0] == {"role": "system", "content": "Be brief."}
    assert asked["temperature"] == 0.5
    assert [tool["function"]["name"] for tool in asked["tools"]] == ["weather"]


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
async def test_a_message_comes_alone_and_with_its_thread(
    http: httpx2.AsyncClient, thread: Json, assistant: Json, message: Json
) -> None:
    given = {"role": "user", **message}
    alone = await made(http, f"/v1/threads/{thread['id']}/messages", given)
    body = {"assistant_id": assistant["id"], "thread": {"messages": [given], "metadata": None}}
    run = await made(http, "/v1/threads/runs", body)
    listed = await http.get(f"/v1/threads/{run['thread_id']}/messages", params={"order": "asc"})
    for shown in (alone, listed.json()["data"][0]):
        assert shown["content"][0]["text"]["value"] == "hi"
        assert (shown["attachments"], shown["metadata"]) == ([], {})


async def test_no_tools_for_this_run_are_none(
    http: httpx2.AsyncClient, upstream: Upstream, path: str, with_a_tool: Json
) -> None:
    """Semantic Kernel sends ``tools: []`` for an agent without plugins."""
    body = {"assistant_id": with_a_tool["id"], "metadata": {}, "tools": [], "top_p": 1.0}
    await played(http, path + "/runs", body)
    assert "tools" not in upstream.requests[0].body


async def test_a_picture_in_a_data_url_reaches_the_model(
    http: httpx2.AsyncClient, upstream: Upstream, thread: Json, assistant: Json
) -> None:
    """AutoGen sends every picture so."""
    path = f"/v1/threads/{thread['id']}"
    url = "data:image/png;base64,iVBORw0KGgo="
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": url}}]
    await made(http, path + "/messages", {"role": "user", "content": parts})
    await played(http, path + "/runs", {"assistant_id": assistant["id"]})
    (shown,) = (
        part["image_url"]["url"]
        for part in upstream.requests[0].messages[-1]["content"]
        if part["type"] == "image_url"
    )
    assert shown == url


async def test_files_of_a_thread_are_kept_and_shown(http: httpx2.AsyncClient, thread: Json) -> None:
    """AutoGen reads ``tool_resources``, adds a file and writes all of it back, nulls included."""
    path = f"/v1/threads/{thread['id']}"
    for count in (1, 2):
        resources = (await http.get(path)).json()["tool_resources"]
        kept = (resources.get("code_interpreter") or {}).get("file_ids") or []
        given = {"code_interpreter": {"file_ids": [*kept, f"file-{count}"]}, "file_search": None}
        await made(http, path, {"tool_resources": given})
    assert (await http.get(path)).json()["tool_resources"] == {
        "code_interpreter": {"file_ids": ["file-1", "file-2"]}
    }


async def test_leaving_a_stream_at_requires_action_is_no_cancel(
    http: httpx2.AsyncClient, server: LiveServer, upstream: Upstream, path: str, with_a_tool: Json
) -> None:
    """Semantic Kernel goes before ``done`` and submits, streaming again."""
    upstream.script(call("weather", id="call_a"), say("Sunny."))
    body = {"assistant_id": with_a_tool["id"]}
    run: Any = None
    async with streaming(http, path + "/runs", body) as response:
        async for name, data in frames(response):
            if name == "thread.run.requires_action":
                run = data
                break
    assert (await http.get(f"{path}/runs/{run['id']}")).json()["status"] == "requires_action"
    outputs = {"tool_outputs": [{"tool_call_id": "call_a", "output": "sunny"}]}
    frames_after = await played(http, f"{path}/runs/{run['id']}/submit_tool_outputs", outputs)
    assert names(frames_after)[-2:] == ["thread.run.completed", "done"]


async def test_who_sees_a_run_completed_finds_all_of_it(
    http: httpx2.AsyncClient, upstream: Upstream, path: str, with_a_tool: Json
) -> None:
    """Semantic Kernel reads steps and message at once, and no second time."""
    upstream.script(call("weather", id="call_a"), say("Sunny."))
    body = {"assistant_id": with_a_tool["id"]}
    run = (await played(http, path + "/runs", body))[-2][1]
    outputs = {"tool_outputs": [{"tool_call_id": "call_a", "output": "sunny"}]}
    run_path = f"{path}/runs/{run['id']}"
    async with streaming(http, run_path + "/submit_tool_outputs", outputs) as response:
        async for name, _ in frames(response):
            if name == "thread.run.completed":
                break
        said, called = (await http.get(run_path + "/steps")).json()["data"]
    assert None not in (said["completed_at"], called["completed_at"])
    assert json.dumps(called["step_details"]["tool_calls"]).count('"output": "sunny"') == 1
    message_id = said["step_details"]["message_creation"]["message_id"]
    message = (await http.get(f"{path}/messages/{message_id}")).json()
    assert (message["status"], message["content"][0]["text"]["value"]) == ("completed", "Sunny.")
    assert message["completed_at"] is not None
