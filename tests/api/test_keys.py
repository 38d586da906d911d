"""Keys: who is let in, what a refusal says, and how soon a revoked key stops working."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.api.exchanges import made, refusal
from tests.live_server import LiveServer, live_server
from tests.manual_clock import ManualClock
from tests.upstream import Upstream

from assistants_server.routes import keys as key_ring
from assistants_server.routes.keys import REMEMBERED_SECONDS, KeyRing
from assistants_server.routes.table import ENDPOINTS
from assistants_server.store import keys as store
from assistants_server.store.database import Database

pytestmark = pytest.mark.filterwarnings("ignore:The Assistants API is deprecated")

BETA = {"OpenAI-Beta": "assistants=v2"}
NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header "
    "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank "
    "username) if you're accessing the API from your browser and are prompted for a username and "
    "password. You can obtain an API key from https://platform.openai.com/account/api-keys."
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def server(
    tmp_path: Path, upstream: Upstream, clock: ManualClock
) -> AsyncIterator[LiveServer]:
    async with live_server(data=tmp_path, upstream_url=upstream.base_url, clock=clock) as running:
        yield running


async def new_key(server: LiveServer, project: str = "acme") -> tuple[str, str]:
    """A key's id and secret, known to the server at once."""
    key, secret = await server.state.database.write(store.create, project, "test", now=1)
    server.state.keys._looked_at = float("-inf")
    return key.id, secret


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer {}"},
        {"authorization": "bearer  {}"},
        {"api-key": "{}"},
        {"Authorization": "Basic x", "api-key": "{}"},
    ],
)
async def test_a_key_opens_its_project(server: LiveServer, headers: dict[str, str]) -> None:
    _, secret = await new_key(server)
    given = {name: value.format(secret) for name, value in headers.items()}
    async with server.http({**BETA, **given}) as http:
        thread = await made(http, "/v1/threads", {})
        assert (await http.get(f"/v1/threads/{thread['id']}")).json() == thread


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": ""}, {"Authorization": "Basic x"}, {"api-key": ""}]
)
async def test_a_missing_key_is_asked_for(server: LiveServer, headers: dict[str, str]) -> None:
    await new_key(server)
    async with server.http({**BETA, **headers}) as http:
        response = await http.get("/v1/threads")
        assert refusal(response) == (401, NO_KEY, None, None)
        assert response.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("dummy", "dummy"),
        ("your_api_key_here", "your_api*****here"),
        ("OPENAI_API_KEY", "OPENAI_A**_KEY"),
        ("sk-" + "x" * 500, "sk-xxxxx" + "*" * 40 + "xxxx"),
    ],
)
async def test_a_wrong_key_is_shown_masked(server: LiveServer, secret: str, shown: str) -> None:
    await new_key(server)
    message = (
        f"Incorrect API key provided: {shown}. You can find your API key at "
        "https://platform.openai.com/account/api-keys."
    )
    async with server.http({**BETA, "Authorization": f"Bearer {secret}"}) as http:
        assert refusal(await http.get("/v1/threads")) == (401, message, None, "invalid_api_key")


async def test_the_sdk_raises_its_authentication_error(server: LiveServer) -> None:
    _, secret = await new_key(server)
    async with server.client(api_key="sk-wrong") as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.beta.threads.create()
    assert refused.value.code == "invalid_api_key"
    async with server.client(api_key=secret) as client:
        assert (await client.beta.threads.create()).id


async def test_checks_come_in_the_wires_order(server: LiveServer) -> None:
    await new_key(server)
    async with server.http({}) as http:
        assert refusal(await http.get("/v1/x"))[0] == 404
        assert refusal(await http.post("/v1/threads", content=b"{"))[3] == "invalid_beta"
    async with server.http() as http:
        assert refusal(await http.post("/v1/threads", content=b"{"))[0] == 401
        assert refusal(await http.get("/v1/threads?limit=0"))[0] == 401


async def test_every_path_but_those_of_operators_needs_a_key(server: LiveServer) -> None:
    await new_key(server)
    statuses: dict[str, set[int]] = {}
    async with server.http() as http:
        for endpoint in ENDPOINTS:
            path = endpoint.path.replace(":path", "").replace("{", "").replace("}", "")
            response = await http.request(endpoint.method, path)
            statuses.setdefault(endpoint.path, set()).add(response.status_code)
    opened = {path for path, codes in statuses.items() if codes != {401}}
    assert opened == {"/health/live", "/health/ready", "/metrics", "/openapi.json"}


async def test_a_revoked_key_stops_working_within_seconds(
    server: LiveServer, clock: ManualClock
) -> None:
    key_id, secret = await new_key(server)
    async with server.http({**BETA, "Authorization": f"Bearer {secret}"}) as http:
        assert (await http.get("/v1/threads")).status_code == 200
        await server.state.database.write(store.revoke, key_id, now=2)
        clock.advance(REMEMBERED_SECONDS)
        assert refusal(await http.get("/v1/threads"))[3] == "invalid_api_key"
    async with server.http() as http:  # revoking the last key does not open the door
        assert refusal(await http.get("/v1/threads"))[1] == NO_KEY


async def test_a_first_key_is_asked_for_within_seconds(
    server: LiveServer, clock: ManualClock
) -> None:
    async with server.http() as http:
        assert (await http.get("/v1/threads")).status_code == 200
        await server.state.database.write(store.create, "acme", "test", now=1)
        clock.advance(REMEMBERED_SECONDS)
        assert refusal(await http.get("/v1/threads"))[0] == 401


@dataclass
class CountedReads:
    """Stands for the database and says who asked it what."""

    keys: dict[str, str]
    asked: list[str] = field(default_factory=list)

    async def read(self, function: Callable[..., Any], *args: str) -> object:
        self.asked.append(function.__name__)
        return bool(self.keys) if function is store.any_exist else self.keys.get(args[0])


def ring(keys: dict[str, str], clock: ManualClock) -> tuple[KeyRing, list[str]]:
    reads = CountedReads(keys)
    database: Any = reads
    typed: Database = database
    return KeyRing(typed, clock), reads.asked


async def test_a_known_key_costs_no_query(clock: ManualClock) -> None:
    keys, asked = ring({"a": "acme"}, clock)
    for _ in range(100):
        assert await keys.in_use()
        assert await keys.project_of("a") == "acme"
    assert asked == ["any_exist", "project_of"]
    clock.advance(REMEMBERED_SECONDS)
    assert await keys.in_use()
    assert await keys.project_of("a") == "acme"
    assert asked == ["any_exist", "project_of", "project_of"]


async def test_wrong_keys_are_not_remembered(clock: ManualClock) -> None:
    keys, asked = ring({"a": "acme"}, clock)
    for number in range(50):
        assert await keys.project_of(f"wrong-{number}") is None
    assert keys._projects == {}
    assert len(asked) == 50


async def test_the_memory_for_keys_is_bounded(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ring, "_MOST_REMEMBERED", 3)
    keys, asked = ring({name: name for name in "abcd"}, clock)
    for name in "abcad":  # "b" was used longest ago
        assert await keys.project_of(name) == name
    asked.clear()
    for name in "acd":
        assert await keys.project_of(name) == name
    assert asked == []
    assert await keys.project_of("b") == "b"
    assert asked == ["project_of"]
