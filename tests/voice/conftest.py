"""Voice tests run in virtual time, except where the clock is marked real."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest
from tests.live_server import LiveServer, live_server
from tests.plugin.agents import parrot
from tests.upstream import Upstream
from tests.voice.call import Call, Line
from tests.voice.virtual_time import VirtualLoop, counted_transactions, wall_clock

__all__ = ["counted_transactions", "wall_clock"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real_time: on an ordinary loop, with the machine's clock")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.get_closest_marker("real_time") is not None:
        return {"real": asyncio.new_event_loop}
    return {"virtual": VirtualLoop}


@pytest.fixture(autouse=True)
def virtual_time(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("real_time") is None:
        request.getfixturevalue("wall_clock")
        request.getfixturevalue("counted_transactions")


@pytest.fixture(autouse=True)
def nothing_fails_unseen(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """LiveKit logs what breaks in its tasks and goes on. A test that breaks something on purpose
    clears the log."""
    yield
    failures = [
        record.getMessage()
        for record in caplog.get_records("call")
        if record.name.startswith("livekit") and record.levelno >= logging.ERROR
    ]
    assert failures == []


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
def line(request: pytest.FixtureRequest, server: LiveServer) -> Line:
    """Calls to the server: with assistants-server's extensions, and by standard requests alone."""
    return partial(Call, server, extensions=request.param)
