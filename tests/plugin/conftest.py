"""A real server over a real socket, the scripted model behind it, and requests counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.live_server import LiveServer, live_server
from tests.plugin.agents import Caller, parrot
from tests.upstream import Upstream


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """Says what it was told, unless a test scripts it."""
    async with Upstream(default=parrot) as model:
        yield model


@pytest.fixture
async def server(tmp_path: Path, upstream: Upstream) -> AsyncIterator[LiveServer]:
    async with live_server(
        data=tmp_path / "data", upstream_url=upstream.base_url, upstream_key="test"
    ) as running:
        yield running


@pytest.fixture(params=[None, False], ids=["extensions", "standard"])
def extensions(request: pytest.FixtureRequest) -> bool | None:
    """The same promises with assistants-server's extensions and by standard requests alone."""
    value: bool | None = request.param
    return value


@pytest.fixture
async def caller(server: LiveServer, extensions: bool | None) -> AsyncIterator[Caller]:
    """Somebody on the telephone: an LLM on a new thread."""
    async with Caller(server, extensions=extensions) as somebody:
        yield somebody
