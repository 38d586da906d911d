"""The official SDK, checking every answer against its own types, and a model that is scripted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import openai
import pytest
from tests.databases import database_url, postgres_server, postgres_url
from tests.live_server import LiveServer, live_server
from tests.upstream import Upstream

__all__ = ["database_url", "postgres_server", "postgres_url"]


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as model:
        yield model


@pytest.fixture
async def server(
    tmp_path: Path, database_url: str, upstream: Upstream
) -> AsyncIterator[LiveServer]:
    """One on each database: what an SDK sees must not tell which it is."""
    async with live_server(
        data=tmp_path,
        database_url=database_url,
        upstream_url=upstream.base_url,
        upstream_key="test",
    ) as running:
        yield running


@pytest.fixture
async def client(server: LiveServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with server.client() as sdk:
        yield sdk


@pytest.fixture
async def http(server: LiveServer) -> AsyncIterator[httpx2.AsyncClient]:
    async with server.http() as plain:
        yield plain
