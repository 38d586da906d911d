"""Two servers on one PostgreSQL, and one model for both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.databases import postgres_server, postgres_url
from tests.live_server import LiveServer, live_server
from tests.upstream import Upstream, echo

__all__ = ["postgres_server", "postgres_url"]


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream(default=echo) as model:
        yield model


@pytest.fixture
async def replicas(
    tmp_path: Path, postgres_url: str, upstream: Upstream
) -> AsyncIterator[tuple[LiveServer, LiveServer]]:
    common: dict[str, Any] = {
        "database_url": postgres_url,
        "upstream_url": upstream.base_url,
        "upstream_key": "x",
    }
    async with (
        live_server(data=tmp_path / "one", **common) as one,
        live_server(data=tmp_path / "two", **common) as two,
    ):
        yield one, two
