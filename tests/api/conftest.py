"""A live server per test, asked over plain HTTP."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from tests.api.conversation import Conversation
from tests.api.exchanges import Json, made
from tests.databases import postgres_server, postgres_url
from tests.live_server import LiveServer, live_server
from tests.upstream import Upstream, echo

__all__ = ["postgres_server", "postgres_url"]


@pytest.fixture
def chosen_database(request: pytest.FixtureRequest) -> str | None:
    """SQLite in the data folder, unless ``TEST_DATABASE=postgresql`` asks for the other."""
    if os.environ.get("TEST_DATABASE") != "postgresql":
        return None
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """Says what it was told, unless a test scripts it."""
    async with Upstream(default=echo) as model:
        yield model


@pytest.fixture
async def server(
    tmp_path: Path, chosen_database: str | None, upstream: Upstream
) -> AsyncIterator[LiveServer]:
    async with live_server(
        data=tmp_path,
        database_url=chosen_database,
        upstream_url=upstream.base_url,
        upstream_key="test",
    ) as running:
        yield running


@pytest.fixture
async def http(server: LiveServer) -> AsyncIterator[httpx2.AsyncClient]:
    async with server.http() as client:
        yield client


@pytest.fixture
async def assistant(http: httpx2.AsyncClient) -> Json:
    return await made(http, "/v1/assistants", {"model": "gpt-4o", "instructions": "Be brief."})


@pytest.fixture
async def thread(http: httpx2.AsyncClient) -> Json:
    return await made(http, "/v1/threads", {})


@pytest.fixture
def talk(
    http: httpx2.AsyncClient, upstream: Upstream, thread: Json, assistant: Json
) -> Conversation:
    return Conversation(http, upstream, thread["id"], assistant["id"])
