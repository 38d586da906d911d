"""The clock of these tests: it jumps over waiting, and never over work."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest
from livekit.agents.llm import ChatMessage
from sqlalchemy import Connection, text
from tests.voice.virtual_time import running_loop

from assistants_server.store.database import Database

WORK = 0.03
"""Seconds of real work, longer than the virtual timeouts beside it."""


def work() -> str:
    threading.Event().wait(WORK)
    return "done"


async def test_waiting_costs_nothing() -> None:
    begun = time.time()
    really = time.monotonic()
    await asyncio.sleep(1000)
    assert time.time() - begun == pytest.approx(1000, abs=0.01)
    assert time.monotonic() - really < 10


async def test_no_timeout_fires_while_a_thread_works() -> None:
    loop = asyncio.get_running_loop()
    before = loop.time()
    assert await asyncio.wait_for(loop.run_in_executor(None, work), WORK / 10) == "done"
    assert loop.time() == before


async def test_nor_while_one_works_for_somebody_who_has_gone() -> None:
    over = threading.Event()

    def finish() -> None:
        work()
        over.set()

    waiting = asyncio.get_running_loop().run_in_executor(None, finish)
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(WORK / 10)
    assert over.is_set()


async def test_no_timeout_fires_while_a_transaction_runs(tmp_path: Path) -> None:
    def slow(connection: Connection) -> int:
        work()
        return int(connection.execute(text("select 1")).scalar_one())

    database = await Database.open(f"sqlite:///{tmp_path / 'a.db'}")
    assert await asyncio.wait_for(database.write(slow), WORK / 10) == 1
    assert await asyncio.wait_for(database.read(slow), WORK / 10) == 1
    await database.close()


async def test_the_wall_clock_follows_in_order() -> None:
    first, second = ChatMessage(role="user", content=[]), ChatMessage(role="user", content=[])
    assert first.created_at < second.created_at < time.time()
    loop = running_loop()
    assert loop is not None
    loop.jump(60)
    assert ChatMessage(role="user", content=[]).created_at - first.created_at > 59


async def test_other_threads_keep_the_machines_time() -> None:
    loop = asyncio.get_running_loop()
    before = await loop.run_in_executor(None, time.time)
    await asyncio.sleep(1000)
    assert await loop.run_in_executor(None, time.time) - before < 10


async def test_a_wait_without_end_is_told() -> None:
    loop = running_loop()
    assert loop is not None
    with pytest.raises(RuntimeError, match="will not come"):
        loop.jump(1_000_000)
    loop.jump(-1_000_000)


@pytest.mark.real_time
async def test_a_test_can_keep_the_machines_time() -> None:
    assert running_loop() is None
