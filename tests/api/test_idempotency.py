"""``Idempotency-Key``: the same request twice has one effect and one answer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from tests.api.exchanges import Json, made, refusal
from tests.api.streams import Frame, frames, names
from tests.live_server import LiveServer, live_server
from tests.manual_clock import ManualClock
from tests.upstream import Upstream, call, say, stall

from assistants_server.routes.table import ENDPOINTS
from assistants_server.store import idempotency, rows

pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")

KEY = {"Idempotency-Key": "once"}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
REPLAYED = "idempotent-replayed"


def remembered(connection: Connection) -> int:
    return connection.execute(
        sa.select(sa.func.count()).select_from(rows.idempotent_requests)
    ).scalar_one()


async def count(server: LiveServer) -> int:
    return await server.state.database.read(remembered)


@pytest.fixture
async def waiting(
    http: httpx2.AsyncClient, upstream: Upstream, thread: Json, assistant: Json
) -> Json:
    """A run that waits for the output of ``call_a``."""
    upstream.script(call("f", id="call_a"))
    path = f"/v1/threads/{thread['id']}/runs"
    body = {"assistant_id": assistant["id"], "tools": [FUNCTION], "stream": True}
    response = await http.post(path, json=body)
    run: Json = (await http.get(path)).json()["data"][0]
    assert (response.status_code, run["status"]) == (200, "requires_action")
    return run


async def twice(http: httpx2.AsyncClient, path: str, **request: Any) -> Json:
    """The same POST two times; its one answer."""
    first = await http.post(path, headers=KEY, **request)
    assert first.status_code == 200, first.text
    assert REPLAYED not in first.headers
    again = await http.post(path, headers=KEY, **request)
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers[REPLAYED] == "true"
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    answer: Json = first.json()
    return answer


async def test_every_post_is_carried_out_once(
    http: httpx2.AsyncClient,
    server: LiveServer,
    upstream: Upstream,
    assistant: Json,
    thread: Json,
    waiting: Json,
) -> None:
    quiet = (await made(http, "/v1/threads", {}))["id"]
    message = await made(http, f"/v1/threads/{quiet}/messages", {"role": "user", "content": "a"})
    run = f"/v1/threads/{thread['id']}/runs/{waiting['id']}"
    hold = stall()
    upstream.script(hold, hold, hold)
    begun = {"assistant_id": assistant["id"]}
    outputs = {"tool_outputs": [{"tool_call_id": "call_a", "output": "x"}]}
    requests: dict[str, tuple[str, Json]] = {
        "/v1/assistants": ("/v1/assistants", {"model": "m"}),
        "/v1/assistants/{assistant_id}": (f"/v1/assistants/{assistant['id']}", {"name": "n"}),
        "/v1/threads": ("/v1/threads", {}),
        "/v1/threads/{thread_id}": (f"/v1/threads/{quiet}", {"metadata": {"a": "b"}}),
        "/v1/threads/{thread_id}/messages": (
            f"/v1/threads/{quiet}/messages",
            {"role": "user", "content": "b"},
        ),
        "/v1/threads/{thread_id}/messages/{message_id}": (
            f"/v1/threads/{quiet}/messages/{message['id']}",
            {"content": "c"},
        ),
        "/v1/threads/{thread_id}/runs/{run_id}": (run, {"metadata": {"a": "b"}}),
        "/v1/threads/{thread_id}/runs/{run_id}/submit_tool_outputs": (
            run + "/submit_tool_outputs",
            outputs,
        ),
        "/v1/threads/{thread_id}/runs/{run_id}/cancel": (run + "/cancel", {}),
        "/v1/threads/{thread_id}/runs": (f"/v1/threads/{quiet}/runs", begun),
        "/v1/threads/runs": ("/v1/threads/runs", begun),
    }
    refused = {"/v1/vector_stores", "/v1/vector_stores/{rest:path}"}
    assert requests.keys() | refused | {"/v1/files"} == {
        endpoint.path for endpoint in ENDPOINTS if endpoint.method == "POST"
    }
    for path, body in requests.values():
        await twice(http, path, json=body)
    assert await count(server) == len(requests)
    assert len((await http.get("/v1/assistants")).json()["data"]) == 2
    assert len((await http.get(f"/v1/threads/{quiet}/messages")).json()["data"]) == 2
    assert len((await http.get(f"/v1/threads/{quiet}/runs")).json()["data"]) == 1
    assert len((await http.get("/v1/threads")).json()["data"]) == 4
    hold.release()


async def test_an_upload_is_stored_once_whatever_its_boundary(http: httpx2.AsyncClient) -> None:
    def upload(content: bytes, boundary: str) -> dict[str, Any]:
        return {
            "files": {"file": ("a.txt", content)},
            "data": {"purpose": "assistants"},
            "headers": {**KEY, "Content-Type": f"multipart/form-data; boundary={boundary}"},
        }

    first = await http.post("/v1/files", **upload(b"hello", "one"))
    again = await http.post("/v1/files", **upload(b"hello", "two"))
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers[REPLAYED] == "true"
    other = await http.post("/v1/files", **upload(b"other", "one"))
    assert refusal(other)[3] == "idempotency_key_reused"
    assert [file["id"] for file in (await http.get("/v1/files")).json()["data"]] == [
        first.json()["id"]
    ]


async def test_the_same_key_with_another_body_is_refused(http: httpx2.AsyncClient) -> None:
    await twice(http, "/v1/threads", json={"metadata": {"a": "b"}})
    response = await http.post("/v1/threads", headers=KEY, json={})
    assert refusal(response) == (
        400,
        "The Idempotency-Key 'once' was used for a request to this path with another body.",
        None,
        "idempotency_key_reused",
    )
    assert len((await http.get("/v1/threads")).json()["data"]) == 1


async def test_a_key_counts_for_its_path_alone(http: httpx2.AsyncClient) -> None:
    await twice(http, "/v1/threads", json={})
    await twice(http, "/v1/assistants", json={"model": "m"})
    assert (await http.get("/v1/threads", headers=KEY)).headers.get(REPLAYED) is None


@pytest.mark.parametrize("length", [255, 256])
async def test_a_key_has_a_length(http: httpx2.AsyncClient, length: int) -> None:
    response = await http.post("/v1/threads", headers={"Idempotency-Key": "k" * length}, json={})
    if length == 255:
        assert response.status_code == 200
    else:
        assert refusal(response)[2:] == ("Idempotency-Key", "string_above_max_length")


async def test_what_was_refused_may_be_tried_again(
    http: httpx2.AsyncClient, server: LiveServer, upstream: Upstream, thread: Json
) -> None:
    path = f"/v1/threads/{thread['id']}/runs"
    assert refusal(await http.post(path, headers=KEY, json={}))[0] == 400
    body = {"assistant_id": "asst_x"}
    assert refusal(await http.post(path, headers=KEY, json=body))[0] == 404
    assert await count(server) == 0
    upstream.script(say("x"))
    assistant = await made(http, "/v1/assistants", {"model": "m", "instructions": "x"})
    await twice(http, path, json={"assistant_id": assistant["id"]})


async def test_equal_requests_at_once_have_one_effect(http: httpx2.AsyncClient) -> None:
    answers = await asyncio.gather(
        *(http.post("/v1/threads", headers=KEY, json={}) for _ in range(8))
    )
    assert {answer.content for answer in answers} == {answers[0].content}
    assert sum(REPLAYED not in answer.headers for answer in answers) == 1
    assert len((await http.get("/v1/threads")).json()["data"]) == 1


async def test_keys_are_forgotten_after_a_day(tmp_path: Path, upstream: Upstream) -> None:
    clock = ManualClock()
    async with (
        live_server(data=tmp_path, upstream_url=upstream.base_url, clock=clock) as server,
        server.http() as http,
    ):
        first = await twice(http, "/v1/threads", json={})
        await clock.sleeping()
        clock.advance(idempotency.KEPT_SECONDS - 1)
        await clock.sleeping()
        assert await twice_again(http) == first["id"]
        clock.advance(1)
        assert await twice_again(http) != first["id"]
        await clock.sleeping()
        clock.advance(idempotency.KEPT_SECONDS)
        await clock.sleeping()  # the sweeper has swept
        assert await count(server) == 0


async def twice_again(http: httpx2.AsyncClient) -> str:
    thread: Json = (await http.post("/v1/threads", headers=KEY, json={})).json()
    thread_id: str = thread["id"]
    return thread_id


# Streams


class Told:
    """A stream with the key, read as far as a test wants."""

    def __init__(self, http: httpx2.AsyncClient, path: str, body: Json) -> None:
        self._asked = http.stream("POST", path, json={**body, "stream": True}, headers=KEY)

    async def until(self, name: str) -> tuple[list[Frame], httpx2.Response]:
        """Up to the first event of this name; then the connection is closed."""
        seen = []
        async with self._asked as response:
            assert response.status_code == 200, (await response.aread()).decode()
            async for frame in frames(response):
                seen.append(frame)
                if frame[0] == name:
                    break
        return seen, response


@pytest.fixture
def path(thread: Json) -> str:
    return f"/v1/threads/{thread['id']}/runs"


async def test_a_stream_that_was_cut_is_followed_from_its_beginning(
    http: httpx2.AsyncClient, upstream: Upstream, path: str, assistant: Json
) -> None:
    hold = stall()
    upstream.script(say("Hel", hold, "lo"))
    body = {"assistant_id": assistant["id"]}
    cut, _ = await Told(http, path, body).until("thread.message.delta")
    whole: list[Frame] = []
    request = {**body, "stream": True}
    async with http.stream("POST", path, json=request, headers=KEY) as response:
        assert response.headers[REPLAYED] == "true"
        async for frame in frames(response):
            whole.append(frame)
            if frame[0] == "thread.message.delta":
                hold.release()
    assert whole[: len(cut)] == cut
    assert names(whole)[-2:] == ["thread.run.completed", "done"]
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("with_thread", [False, True])
async def test_a_run_that_has_ended_is_told_from_the_store(
    http: httpx2.AsyncClient, upstream: Upstream, path: str, assistant: Json, with_thread: bool
) -> None:
    upstream.script(say("Hel", "lo"))
    where = "/v1/threads/runs" if with_thread else path
    body = {"assistant_id": assistant["id"]}
    live, _ = await Told(http, where, body).until("done")
    told, response = await Told(http, where, body).until("done")
    assert response.headers[REPLAYED] == "true"
    # The same story; the text in one piece instead of two.
    second = names(live).index("thread.message.delta") + 1
    assert names(told) == names(live)[:second] + names(live)[second + 1 :]
    assert told[-2] == live[-2]
    delta = next(data for name, data in told if name == "thread.message.delta")
    assert delta["delta"]["content"][0]["text"]["value"] == "Hello"
    begun = next(data for name, data in told if name == "thread.run.created")
    assert (begun["status"], begun["usage"], begun["completed_at"]) == ("queued", None, None)
    opened = next(data for name, data in told if name == "thread.message.created")
    assert (opened["status"], opened["content"]) == ("in_progress", [])


async def test_a_run_that_waits_is_told_and_so_is_its_end(
    http: httpx2.AsyncClient, upstream: Upstream, path: str, assistant: Json
) -> None:
    upstream.script(say("One moment. ") + call("f", {"a": 1}, id="call_a"), say("Thanks"))
    body = {"assistant_id": assistant["id"], "tools": [FUNCTION]}
    live, _ = await Told(http, path, body).until("done")
    told, _ = await Told(http, path, body).until("done")
    assert told[-2] == live[-2]
    assert list(dict.fromkeys(names(told))) == list(dict.fromkeys(names(live)))
    submit = f"{path}/{live[-2][1]['id']}/submit_tool_outputs"
    outputs = {"tool_outputs": [{"tool_call_id": "call_a", "output": "x"}]}
    ended, _ = await Told(http, submit, outputs).until("done")
    again, response = await Told(http, submit, outputs).until("done")
    assert response.headers[REPLAYED] == "true"
    assert again[0] == ended[0]
    assert names(again)[:3] == [
        "thread.run.step.completed",
        "thread.run.queued",
        "thread.run.in_progress",
    ]
    assert again[-2:] == ended[-2:]
    assert len(upstream.requests) == 2


async def test_a_run_of_another_process_is_waited_for(tmp_path: Path, upstream: Upstream) -> None:
    async with (
        live_server(data=tmp_path, upstream_url=upstream.base_url, upstream_key="k") as one,
        live_server(data=tmp_path, upstream_url=upstream.base_url, upstream_key="k") as other,
        one.http() as http,
        other.http() as elsewhere,
    ):
        assistant = await made(http, "/v1/assistants", {"model": "m", "instructions": "x"})
        thread = await made(http, "/v1/threads", {})
        hold = stall()
        upstream.script(say("Hel", hold, "lo"))
        path, body = f"/v1/threads/{thread['id']}/runs", {"assistant_id": assistant["id"]}
        await Told(http, path, body).until("thread.message.delta")
        seen = []
        async with elsewhere.stream(
            "POST", path, json={**body, "stream": True}, headers=KEY
        ) as response:
            async for frame in frames(response):
                seen.append(frame)
                if frame[0] == "thread.run.queued":
                    hold.release()
        assert names(seen)[:2] == ["thread.run.created", "thread.run.queued"]
        assert names(seen)[-2:] == ["thread.run.completed", "done"]
        assert len((await elsewhere.get(path)).json()["data"]) == 1


async def test_a_run_that_is_gone_with_its_thread_is_unknown(
    http: httpx2.AsyncClient, upstream: Upstream, path: str, assistant: Json
) -> None:
    upstream.script(say("x"))
    body = {"assistant_id": assistant["id"]}
    told, _ = await Told(http, path, body).until("done")
    run_id = told[0][1]["id"]
    await http.delete(path.removesuffix("/runs"))
    response = await http.post(path, json={**body, "stream": True}, headers=KEY)
    assert refusal(response)[:2] == (404, f"No run found with id '{run_id}'.")


async def test_the_sdk_sends_again_after_a_cut(server: LiveServer, upstream: Upstream) -> None:
    hold = stall()
    upstream.script(say("Hel", hold, "lo"))
    async with server.client() as client:
        assistant = await client.beta.assistants.create(model="m", instructions="x")
        thread = await client.beta.threads.create()

        async def ask() -> openai.AsyncStream[Any]:
            return await client.beta.threads.runs.create(
                thread.id, assistant_id=assistant.id, stream=True, extra_headers=KEY
            )

        first = await ask()
        async for event in first:
            if event.event == "thread.message.delta":
                break
        await first.close()
        hold.release()
        events = [event async for event in await ask()]
        assert events[-1].event == "thread.run.completed"
        runs = await client.beta.threads.runs.list(thread.id)
        assert [run.id for run in runs.data] == [events[0].data.id]
        said = await client.beta.threads.messages.list(thread.id)
        assert said.data[0].content[0].text.value == "Hello"  # type: ignore[union-attr]
    assert len(upstream.requests) == 1


async def test_the_sdk_helper_understands_what_is_told_again(
    server: LiveServer, upstream: Upstream
) -> None:
    upstream.script(say("Hel", "lo"))
    async with server.client() as client:
        assistant = await client.beta.assistants.create(model="m", instructions="x")
        thread = await client.beta.threads.create()
        for _ in range(2):
            async with client.beta.threads.runs.stream(
                thread_id=thread.id, assistant_id=assistant.id, extra_headers=KEY
            ) as stream:
                await stream.until_done()
                (message,) = await stream.get_final_messages()
                assert message.content[0].text.value == "Hello"  # type: ignore[union-attr]
                assert (await stream.get_final_run()).status == "completed"
                assert len(await stream.get_final_run_steps()) == 1
    assert len(upstream.requests) == 1
