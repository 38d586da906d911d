"""What is exported comes back the same, on either database, however often it is imported."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from tests.transfer.projects import (
    NOW,
    Drafted,
    exported,
    fill,
    imported,
    lines,
    projects,
    said,
    store,
)

from assistants_server import ids
from assistants_server.domain.records import File, Message, Page, Thread
from assistants_server.store import arrivals, files, messages, threads
from assistants_server.store.database import Database, DatabaseError


class World:
    """Two databases in a loop of their own: Hypothesis calls plain functions."""

    def __init__(self, source: str, target: str) -> None:
        self.loop = asyncio.new_event_loop()
        self.source = self.loop.run_until_complete(Database.open(source))
        self.target = self.loop.run_until_complete(Database.open(target))
        self.names = (f"project-{number}" for number in itertools.count())

    def close(self) -> None:
        self.loop.run_until_complete(self.source.close())
        self.loop.run_until_complete(self.target.close())
        self.loop.close()


@pytest.fixture(params=["sqlite to postgresql", "postgresql to sqlite"])
def world(request: pytest.FixtureRequest, tmp_path: Path, postgres_url: str) -> Iterator[World]:
    urls = [f"sqlite:///{tmp_path / 'assistants.db'}", postgres_url]
    if request.param.startswith("postgresql"):
        urls.reverse()
    opened = World(*urls)
    yield opened
    opened.close()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drafted=projects)
def test_a_project_comes_back_as_it_was(world: World, tmp_path: Path, drafted: Drafted) -> None:
    async def there_and_back() -> None:
        project = next(world.names)
        await store(world.source, project, drafted)
        before = await exported(world.source, project)
        path = tmp_path / "export.jsonl"
        fill(path, before)
        first = await imported(world.target, project, path)
        assert await exported(world.target, project) == before
        again = await imported(world.target, project, path, path)
        assert (again.stored, again.present) == ({}, sum(first.stored.values()))
        assert await exported(world.target, project) == before

    world.loop.run_until_complete(there_and_back())


@pytest.fixture
async def other(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(f"sqlite:///{tmp_path / 'other.db'}")
    yield opened
    await opened.close()


async def test_an_export_is_longer_than_a_page(
    database: Database, other: Database, tmp_path: Path
) -> None:
    thread = Thread(id="thread_1", project_id="p", created_at=NOW)
    await database.write(arrivals.add_thread, thread)
    message = Message(
        id="",
        thread_id="thread_1",
        created_at=NOW,
        completed_at=NOW,
        role="user",
        content=[],
    )
    many = [replace(message, id=ids.message_id()) for _ in range(350)]
    await database.write(arrivals.add_messages, "p", many)
    path = tmp_path / "export.jsonl"
    fill(path, await exported(database, "p"))
    assert (await imported(other, "p", path)).stored == {"thread": 1, "message": 350}
    assert await exported(other, "p") == await exported(database, "p")


async def test_bytes_of_files_come_along(
    database: Database, other: Database, tmp_path: Path
) -> None:
    file = File(
        id="file-1", project_id="p", created_at=5, filename="a", bytes=0, purpose="assistants"
    )
    content = [bytes([number]) * files.CHUNK for number in range(3)] + [b"end"]
    await database.write(arrivals.begin_file, file, now=NOW)
    for number, data in enumerate(content):
        await database.write(files.append, "file-1", number, data)
    await database.write(files.finish, "p", "file-1", size=sum(map(len, content)), purpose="vision")
    path = tmp_path / "export.jsonl"
    fill(path, await exported(database, "p"))
    await imported(other, "p", path)
    assert await other.read(files.read, "p", ["file-1"]) == {"file-1": b"".join(content)}


async def test_one_thread_alone(database: Database, other: Database, tmp_path: Path) -> None:
    for name in ("thread_1", "thread_2"):
        await database.write(arrivals.add_thread, Thread(id=name, project_id="p", created_at=NOW))
    path = tmp_path / "export.jsonl"
    fill(path, await exported(database, "p", "thread_2"))
    assert (await imported(other, "p", path)).stored == {"thread": 1}
    found = await other.read(threads.list_page, "p", Page(), metadata={})
    assert [thread.id for thread in found.items] == ["thread_2"]


async def test_an_import_that_broke_off_is_repeated(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dump.jsonl"
    chunks = [
        {"object": "file.content", "file_id": "file-1", "number": number, "data": "eHh4"}
        for number in range(3)
    ]
    file = {
        "object": "file",
        "id": "file-1",
        "created_at": 3,
        "filename": "a.txt",
        "bytes": 9,
        "purpose": "assistants",
    }
    fill(path, lines(file, *chunks, *(said(n, NOW - n) for n in range(900))))
    writes = itertools.count()
    write = database.write
    failing: set[int] = set()

    async def flaky(function: Any, *args: Any, **kwargs: Any) -> Any:
        if next(writes) in failing:
            raise DatabaseError("The database does not answer.")
        return await write(function, *args, **kwargs)

    monkeypatch.setattr(database, "write", flaky)
    for stop in range(1, 9):
        writes = itertools.count()
        failing = {stop}
        with pytest.raises(DatabaseError):
            await imported(database, "p", path)
        # Nothing half is ever shown.
        found = await database.read(files.list_page, "p", Page(), purpose=None)
        assert all(shown.bytes == 9 for shown in found.items)
        if stop == 5:
            break
    failing = set()
    await imported(database, "p", path)
    exported_once = await exported(database, "p")
    assert exported_once.count(b'"thread.message"') == 900
    newest = await database.read(messages.list_page, "p", "thread_1", Page(limit=2))
    assert [message.id for message in newest.items] == ["msg_0", "msg_1"]
    assert await database.read(files.read, "p", ["file-1"]) == {"file-1": b"x" * 9}
    (shown,) = (await database.read(files.list_page, "p", Page(), purpose=None)).items
    assert shown.created_at == 3


async def test_a_file_under_way_is_not_swept_for_its_age(database: Database) -> None:
    file = File(
        id="file-1", project_id="p", created_at=5, filename="a", bytes=3, purpose="x", expires_at=6
    )
    await database.write(arrivals.begin_file, file, now=NOW)
    assert await database.write(files.sweep, now=NOW, unfinished_before=NOW - 3600) == 0
    await database.write(arrivals.finish_file, file)
    assert await database.write(files.sweep, now=NOW, unfinished_before=NOW - 3600) == 1


async def test_what_was_deleted_may_come_back_and_be_deleted_again(
    database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "dump.jsonl"
    fill(path, lines(said(1, NOW), said(2, NOW)))
    for _ in range(2):
        await imported(database, "p", path)
        await database.write(messages.delete, "p", "thread_1", "msg_1")
        await database.write(messages.delete, "p", "thread_1", "msg_2")
        await database.write(threads.delete, "p", "thread_1")
    assert (await imported(database, "p", path)).stored == {"thread": 1, "message": 2}
