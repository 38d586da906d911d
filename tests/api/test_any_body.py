"""Whatever JSON reaches whatever endpoint: an answer, or a refusal in the envelope. Never a 5xx."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.live_server import BETA, LiveServer, live_server
from tests.upstream import Upstream, echo

from assistants_server.routes.openapi import document
from assistants_server.routes.table import ENDPOINTS

JSON = {**BETA, "content-type": "application/json"}

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["user", "auto", "function", "text", "json_schema", "file-1", "asst_1", "\0"])
)

KEYS = st.sampled_from(
    sorted(
        {
            name
            for schema in document(ENDPOINTS)["components"]["schemas"].values()
            for name in schema.get("properties", {})
        }
    )
) | st.text(max_size=4)

VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)

FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
MESSAGE = {
    "role": "user",
    "content": [
        {"type": "text", "text": "hi"},
        {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
        {"type": "image_file", "image_file": {"file_id": "file-1"}},
    ],
    "attachments": [{"file_id": "file-1", "tools": [{"type": "code_interpreter"}]}],
    "metadata": {"k": "v"},
}
OPTIONS = {
    "tools": [FUNCTION, {"type": "file_search", "file_search": {"max_num_results": 3}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
    "truncation_strategy": {"type": "last_messages", "last_messages": 2},
    "metadata": {"k": "v"},
    "temperature": 1,
    "stream": False,
}
FULL: list[tuple[str, Any]] = [
    (
        "/v1/assistants",
        {
            "model": "m",
            "tools": OPTIONS["tools"],
            "tool_resources": {"code_interpreter": {"file_ids": ["file-1"]}},
            "response_format": OPTIONS["response_format"],
        },
    ),
    ("/v1/threads", {"messages": [MESSAGE], "tool_resources": {"file_search": {}}}),
    ("/v1/threads/{thread_id}/messages", MESSAGE),
    ("/v1/threads/{thread_id}/messages/{message_id}", {"content": "x", "metadata": {"k": "v"}}),
    (
        "/v1/threads/{thread_id}/runs",
        {
            **OPTIONS,
            "assistant_id": "asst_1",
            "additional_messages": [MESSAGE],
            "run_key": "k",
            "end_runs": [{"run_key": "j", "keep": ["msg_1"]}],
            "if_active": "supersede",
            "tool_outputs": [{"tool_call_id": "c", "output": "x", "name": "f", "arguments": "{}"}],
            "edit_messages": [{"id": "msg_1", "content": "x"}],
            "delete_messages": ["msg_1"],
            "exclude_messages": ["msg_1"],
        },
    ),
    ("/v1/threads/runs", {**OPTIONS, "assistant_id": "asst_1", "thread": {"messages": [MESSAGE]}}),
    (
        "/v1/threads/{thread_id}/runs/{run_id}/submit_tool_outputs",
        {"tool_outputs": [{"tool_call_id": "c", "output": "x"}]},
    ),
]


def places(value: Any) -> list[tuple[Any, ...]]:
    """Every place inside ``value``, as the keys that lead there."""
    inside: list[tuple[Any, ...]] = [()]
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            inside += [(key, *place) for place in places(item)]
    return inside


def replaced(value: Any, place: tuple[Any, ...], by: Any) -> Any:
    if not place:
        return by
    copy = value.copy()
    copy[place[0]] = replaced(copy[place[0]], place[1:], by)
    return copy


@st.composite
def nearly_right(draw: st.DrawFn) -> tuple[str, Any]:
    """A full, correct request with one place of it replaced by anything."""
    path, body = draw(st.sampled_from(FULL))
    return path, replaced(body, draw(st.sampled_from(places(body))), draw(VALUES))


WRITING = sorted({e.path for e in ENDPOINTS if e.method == "POST" and e.body is not None})
READING = sorted({e.path for e in ENDPOINTS if e.method == "GET"})


class World:
    """A server with an assistant and a thread, in a loop of its own for Hypothesis to drive."""

    def __init__(self, loop: asyncio.AbstractEventLoop, data: Path) -> None:
        self._loop = loop
        self._data = data
        self.ids: dict[str, str] = {}

    async def open(self, stack: AsyncExitStack) -> None:
        upstream = await stack.enter_async_context(Upstream(default=echo))
        server: LiveServer = await stack.enter_async_context(
            live_server(data=self._data, upstream_url=upstream.base_url, upstream_key="test")
        )
        self.http = await stack.enter_async_context(server.http())
        assistant = await self.http.post("/v1/assistants", json={"model": "m"})
        thread = await self.http.post("/v1/threads")
        message = await self.http.post(
            f"/v1/threads/{thread.json()['id']}/messages", json={"role": "user", "content": "hi"}
        )
        self.ids = {
            "assistant_id": assistant.json()["id"],
            "thread_id": thread.json()["id"],
            "message_id": message.json()["id"],
            "run_id": "run_1",
            "step_id": "step_1",
            "file_id": "file-1",
            "model": "m",
            "rest": "vs_1",
        }

    def ask(self, method: str, path: str, **options: Any) -> httpx2.Response:
        for name, value in self.ids.items():
            path = path.replace("{" + name + "}", value).replace("{" + name + ":path}", value)
        response: httpx2.Response = self._loop.run_until_complete(
            self.http.request(method, path, **options)
        )
        return response


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    loop = asyncio.new_event_loop()
    stack = AsyncExitStack()
    made = World(loop, tmp_path_factory.mktemp("world"))
    with ExitStack() as closing:
        closing.callback(loop.close)
        closing.callback(lambda: loop.run_until_complete(stack.aclose()))
        loop.run_until_complete(made.open(stack))
        yield made


def judge(response: httpx2.Response) -> None:
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        assert error["type"] == "invalid_request_error"
    else:
        assert response.status_code == 200


@pytest.mark.parametrize("path", WRITING)
@given(body=VALUES)
def test_any_json_to_any_endpoint(world: World, path: str, body: Any) -> None:
    judge(world.ask("POST", path, content=orjson.dumps(body), headers=JSON))


@given(request=nearly_right())
def test_a_request_that_is_nearly_right(world: World, request: tuple[str, Any]) -> None:
    path, body = request
    judge(world.ask("POST", path, content=orjson.dumps(body), headers=JSON))


@given(content=st.binary(max_size=64), path=st.sampled_from([*WRITING, "/v1/files"]))
def test_any_bytes_to_any_endpoint(world: World, content: bytes, path: str) -> None:
    judge(world.ask("POST", path, content=content))
    form = {"content-type": "multipart/form-data; boundary=b"}
    judge(world.ask("POST", "/v1/files", content=b"--b\r\n" + content, headers=form))


@given(
    query=st.dictionaries(
        st.sampled_from(
            [
                "limit",
                "order",
                "after",
                "before",
                "run_id",
                "purpose",
                "include[]",
                "include",
                "metadata[a]",
                "metadata",
                "metadata[",
                "[]",
            ]
        )
        | st.text(max_size=5),
        st.text(max_size=5) | st.integers().map(str) | st.sampled_from(["asc", "desc", "\0"]),
        max_size=4,
    ),
    path=st.sampled_from(READING),
)
def test_any_query_to_any_endpoint(world: World, query: dict[str, str], path: str) -> None:
    judge(world.ask("GET", path, params=query))
