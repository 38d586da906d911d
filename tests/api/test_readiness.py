"""When a server says that it may be sent requests. Its disk is a real one, and really full."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from tests.api.exchanges import made, refusal
from tests.live_server import LiveServer, live_server
from tests.manual_clock import ManualClock

from assistants_server.routes.readiness import READY_SECONDS, WRITE_SECONDS

READY = "/health/ready"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def server(tmp_path: Path, clock: ManualClock) -> AsyncIterator[LiveServer]:
    async with live_server(data=tmp_path, clock=clock) as running:
        yield running


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of four megabytes."""
    if sys.platform != "linux":
        pytest.skip("needs tmpfs")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(path: Path) -> None:
    """Leave not a byte of the disk."""
    with path.open("wb", buffering=0) as file:
        while shutil.disk_usage(path.parent).free:
            file.write(b"x" * 4096)


async def test_a_server_is_not_ready_while_its_disk_is_full(small_disk: Path) -> None:
    async with live_server(data=small_disk) as server, server.http() as http:
        assert (await http.get(READY)).status_code == 200
        fill(small_disk / "filling")
        status, message, *_ = refusal(await http.get(READY))
        assert (status, message) == (
            503,
            "The disk that holds the database has less than 1 MiB left.",
        )
        much = {"messages": [{"role": "user", "content": "x" * 200_000}]}
        status, message, *_ = refusal(await http.post("/v1/threads", json=much))
        assert (status, message) == (
            503,
            "The disk that holds the database is full; nothing was stored.",
        )
        assert (await http.get("/health/live")).status_code == 200

        (small_disk / "filling").unlink()
        assert (await http.get(READY)).status_code == 200
        await made(http, "/v1/threads", much)


def refuse_writes(connection: Connection) -> None:
    connection.execute(
        sa.text(
            "CREATE TRIGGER refuse BEFORE INSERT ON tombstones BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
    )


def take_writes(connection: Connection) -> None:
    connection.execute(sa.text("DROP TRIGGER refuse"))


async def test_a_server_is_not_ready_from_the_next_write_on_that_its_database_refuses(
    server: LiveServer, clock: ManualClock
) -> None:
    async with server.http() as http:
        assert (await http.get(READY)).status_code == 200
        await server.state.database.write(refuse_writes)
        # It has just taken a write; to be asked costs the disk none.
        assert (await http.get(READY)).status_code == 200
        clock.advance(WRITE_SECONDS)
        for _ in range(2):
            assert refusal(await http.get(READY))[:2] == (
                503,
                "The database refused the operation.",
            )
        await server.state.database.write(take_writes)
        assert (await http.get(READY)).status_code == 200


async def test_to_be_asked_often_costs_one_write_in_a_while(
    server: LiveServer, clock: ManualClock, tmp_path: Path
) -> None:
    def written() -> int:
        return (tmp_path / "assistants.db-wal").stat().st_size

    async def ask(http: httpx2.AsyncClient) -> int:
        """How many bytes the database's log grew by."""
        before = written()
        for _ in range(5):
            assert (await http.get(READY)).status_code == 200
        return written() - before

    async with server.http() as http:
        assert await ask(http) > 0
        assert await ask(http) == 0
        clock.advance(WRITE_SECONDS)
        assert await ask(http) > 0


async def test_a_server_is_not_ready_while_its_database_hangs(
    server: LiveServer, clock: ManualClock
) -> None:
    free = threading.Event()

    def hang(connection: Connection) -> None:
        free.wait()

    async with server.http() as http:
        assert (await http.get(READY)).status_code == 200
        hanging = asyncio.ensure_future(server.state.database.write(hang))
        asking = asyncio.ensure_future(http.get(READY))
        await clock.sleeping(2)  # the sweeper, and whoever asked
        clock.advance(READY_SECONDS)
        status, message, *_ = refusal(await asking)
        assert (status, message) == (503, "The database does not answer in time.")
        assert (await http.get("/health/live")).status_code == 200
        free.set()
        await hanging
        assert (await http.get(READY)).status_code == 200


async def test_a_server_that_drains_is_alive_but_not_ready(server: LiveServer) -> None:
    async with server.http() as http:
        await server.state.worker.drain(0)
        assert refusal(await http.get(READY))[:2] == (503, "The server is shutting down.")
        assert (await http.get("/health/live")).status_code == 200
