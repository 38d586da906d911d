from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from tests.databases import database, database_url, postgres_server, postgres_url, postgresql
from tests.engine.bench import Bench
from tests.manual_clock import ManualClock
from tests.upstream import Upstream

from assistants_server.settings import Settings
from assistants_server.store.database import Database

__all__ = ["database", "database_url", "postgres_server", "postgres_url", "postgresql"]


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as server:
        yield server


@pytest.fixture
async def bench(database: Database, upstream: Upstream) -> AsyncIterator[Bench]:
    bench = Bench(database, upstream, ManualClock(), Settings())
    await bench.prepare()
    await bench.process.worker.start()
    yield bench
    for process in bench.processes:
        await process.stop()
