"""A key sees one project: ids of another answer like ids that never were, and nothing changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.api.exchanges import Json, made
from tests.live_server import BETA, LiveServer, live_server
from tests.upstream import Upstream, call

from assistants_server.routes.table import ENDPOINTS
from assistants_server.store import keys
from assistants_server.transfer.exporting import export

FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
UNKNOWN = {
    "assistant_id": "asst_000000000000000000000000",
    "thread_id": "thread_000000000000000000000000",
    "message_id": "msg_000000000000000000000000",
    "run_id": "run_000000000000000000000000",
    "step_id": "step_000000000000000000000000",
    "file_id": "file-0000000000000000000000",
}
BODIES: dict[str, Any] = {
    "/v1/assistants/{assistant_id}": {"name": "mine now"},
    "/v1/threads/{thread_id}": {"metadata": {"mine": "now"}},
    "/v1/threads/{thread_id}/messages": {"role": "user", "content": "let me in"},
    "/v1/threads/{thread_id}/messages/{message_id}": {"content": "changed"},
    "/v1/threads/{thread_id}/runs": {"if_active": "supersede", "end_runs": [{"run_key": "turn"}]},
    "/v1/threads/{thread_id}/runs/{run_id}": {"metadata": {"mine": "now"}},
    "/v1/threads/{thread_id}/runs/{run_id}/submit_tool_outputs": {
        "tool_outputs": [{"tool_call_id": "call_a", "output": "mine"}]
    },
}
WITH_IDS = [one for one in ENDPOINTS if any("{" + name + "}" in one.path for name in UNKNOWN)]
LISTS = ["/v1/assistants", "/v1/threads", "/v1/files"]
ELSEWHERE = {
    # Without objects of a project, or creations of new ones, which are looked at below.
    ("POST", "/v1/assistants"),
    ("POST", "/v1/threads"),
    ("POST", "/v1/threads/runs"),
    ("POST", "/v1/files"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model:path}"),
    ("GET", "/v1/vector_stores"),
    ("POST", "/v1/vector_stores"),
    ("GET", "/v1/vector_stores/{rest:path}"),
    ("POST", "/v1/vector_stores/{rest:path}"),
    ("DELETE", "/v1/vector_stores/{rest:path}"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
}


@dataclass(frozen=True)
class Worlds:
    """Two projects on one server; the other one has one object of each kind."""

    server: LiveServer
    mine: httpx2.AsyncClient
    theirs: httpx2.AsyncClient
    ids: dict[str, str]
    my_ids: dict[str, str]

    async def everything(self) -> Any:
        """All that the other project holds, seen by itself."""
        ids = self.ids
        runs = f"/v1/threads/{ids['thread_id']}/runs"
        stored = export(self.server.state.database, "theirs")
        return (
            b"".join([line async for line in stored]),
            (await self.theirs.get(runs)).json(),
            (await self.theirs.get(f"{runs}/{ids['run_id']}/steps")).json(),
        )


async def furnished(http: httpx2.AsyncClient, upstream: Upstream) -> dict[str, str]:
    upstream.script(call("f", id="call_a"))
    assistant = await made(http, "/v1/assistants", {"model": "m", "instructions": "x"})
    message = {"role": "user", "content": "private"}
    thread = await made(http, "/v1/threads", {"messages": [message], "metadata": {"who": "me"}})
    path = f"/v1/threads/{thread['id']}/"
    body = {"assistant_id": assistant["id"], "tools": [FUNCTION], "run_key": "turn"}
    await http.post(path + "runs", json={**body, "stream": True})
    run = (await http.get(path + "runs")).json()["data"][0]
    form = {"file": ("a.txt", b"private")}
    file = await http.post("/v1/files", files=form, data={"purpose": "assistants"})
    return {
        "assistant_id": assistant["id"],
        "thread_id": thread["id"],
        "message_id": (await http.get(path + "messages")).json()["data"][0]["id"],
        "run_id": run["id"],
        "step_id": (await http.get(f"{path}runs/{run['id']}/steps")).json()["data"][0]["id"],
        "file_id": file.json()["id"],
    }


@pytest.fixture
async def worlds(tmp_path: Path, upstream: Upstream) -> AsyncIterator[Worlds]:
    async with live_server(
        data=tmp_path, upstream_url=upstream.base_url, upstream_key="k"
    ) as server:
        secrets = [
            (await server.state.database.write(keys.create, project, "test", now=1))[1]
            for project in ("mine", "theirs")
        ]
        mine, theirs = (
            server.http({**BETA, "Authorization": f"Bearer {secret}"}) for secret in secrets
        )
        async with mine, theirs:
            yield Worlds(
                server,
                mine,
                theirs,
                ids=await furnished(theirs, upstream),
                my_ids=await furnished(mine, upstream),
            )


async def asked(
    http: httpx2.AsyncClient, method: str, path: str, ids: dict[str, str], assistant_id: str
) -> tuple[int, str]:
    """Status and body, with the ids of the request taken out."""
    body = BODIES.get(path) if method == "POST" else None
    if path.endswith("/runs") and body is not None:
        body = {**body, "assistant_id": assistant_id}
    where = path
    for name, value in ids.items():
        where = where.replace("{" + name + "}", value)
    response = await http.request(method, where, json=body)
    text = response.text
    for name, value in ids.items():
        text = text.replace(value, name)
    return response.status_code, text


def test_every_endpoint_is_walked() -> None:
    walked = {(one.method, one.path) for one in WITH_IDS}
    walked |= {("GET", path) for path in LISTS} | ELSEWHERE
    assert walked == {(one.method, one.path) for one in ENDPOINTS}


async def test_ids_of_another_project_answer_like_unknown_ones(worlds: Worlds) -> None:
    before = await worlds.everything()
    mine = worlds.my_ids
    for endpoint in WITH_IDS:
        # All ids are theirs; then only the innermost, under objects of my own.
        names = [name for name in UNKNOWN if "{" + name + "}" in endpoint.path]
        for foreign in (names, names[-1:]):
            theirs = {**mine, **{name: worlds.ids[name] for name in foreign}}
            unknown = {**mine, **{name: UNKNOWN[name] for name in foreign}}
            request = (worlds.mine, endpoint.method, endpoint.path)
            told = await asked(*request, theirs, mine["assistant_id"])
            expected = await asked(*request, unknown, mine["assistant_id"])
            assert told == expected, endpoint
            assert told[0] == 404, endpoint
    assert await worlds.everything() == before


async def test_runs_use_assistants_of_their_own_project(worlds: Worlds) -> None:
    theirs = worlds.ids["assistant_id"]
    runs = f"/v1/threads/{worlds.my_ids['thread_id']}/runs"
    for path in (runs, "/v1/threads/runs"):
        refused = [
            (await worlds.mine.post(path, json={"assistant_id": assistant_id})).text.replace(
                assistant_id, "…"
            )
            for assistant_id in (theirs, UNKNOWN["assistant_id"])
        ]
        assert refused[0] == refused[1]
        assert "No assistant found" in refused[0]


async def test_lists_show_ones_own_alone(worlds: Worlds) -> None:
    for path in LISTS:
        ids = {"assistants": "assistant_id", "threads": "thread_id", "files": "file_id"}
        name = ids[path.rpartition("/")[2]]
        (only,) = (await worlds.mine.get(path)).json()["data"]
        assert only["id"] == worlds.my_ids[name]
        for cursor in ("after", "before"):
            if (path, cursor) == ("/v1/files", "before"):
                continue
            refused = [
                (await worlds.mine.get(path, params={cursor: one})).text.replace(one, "…")
                for one in (worlds.ids[name], UNKNOWN[name])
            ]
            assert refused[0] == refused[1]
    found = await worlds.mine.get("/v1/threads", params={"metadata[who]": "me"})
    assert [one["id"] for one in found.json()["data"]] == [worlds.my_ids["thread_id"]]
    messages = f"/v1/threads/{worlds.my_ids['thread_id']}/messages"
    foreign = {"run_id": worlds.ids["run_id"]}
    assert (await worlds.mine.get(messages, params=foreign)).json()["data"] == []


async def test_wishes_for_a_run_reach_no_other_project(worlds: Worlds, upstream: Upstream) -> None:
    before = await worlds.everything()
    body: Json = {
        "assistant_id": worlds.my_ids["assistant_id"],
        "run_key": "turn-2",
        "end_runs": [{"run_key": "turn", "keep": []}],
        "if_active": "supersede",
        "delete_messages": [worlds.ids["message_id"]],
        "exclude_messages": [worlds.ids["message_id"]],
        "tool_outputs": [{"tool_call_id": "call_a", "output": "mine", "name": "f"}],
    }
    path = f"/v1/threads/{worlds.my_ids['thread_id']}/runs"
    edit = {"edit_messages": [{"id": worlds.ids["message_id"], "content": "changed"}]}
    response = await worlds.mine.post(path, json={**body, **edit})
    assert response.json()["error"]["code"] == "message_not_found"
    image = {"type": "image_file", "image_file": {"file_id": worlds.ids["file_id"]}}
    show = {"additional_messages": [{"role": "user", "content": [image]}], "stream": True}
    upstream.script(call("f", id="call_b"))
    assert (await worlds.mine.post(path, json={**body, **show})).status_code == 200
    assert "private" not in str(upstream.requests[-1].messages[-1])
    assert "data:" not in str(upstream.requests[-1].messages), "bytes of another project's file"
    assert await worlds.everything() == before


async def test_an_idempotency_key_belongs_to_its_project(worlds: Worlds) -> None:
    key = {"Idempotency-Key": "same"}
    mine = await worlds.mine.post("/v1/threads", json={}, headers=key)
    theirs = await worlds.theirs.post("/v1/threads", json={"metadata": {"a": "b"}}, headers=key)
    assert (mine.status_code, theirs.status_code) == (200, 200)
    assert mine.json()["id"] != theirs.json()["id"]
