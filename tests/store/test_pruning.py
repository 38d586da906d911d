"""What pruning takes, and above all what it leaves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from assistants_server import ids
from assistants_server.__main__ import cli
from assistants_server.clock import SystemClock
from assistants_server.domain.drafts import MessageDraft, ThreadDraft
from assistants_server.domain.records import Assistant, File, Page
from assistants_server.store import assistants, files, messages, pruning, threads
from assistants_server.store.database import Database
from assistants_server.store.pruning import Scope

OLD, NEW = 1_000, 2_000
SCOPE = Scope(before=1_500)


async def thread(database: Database, *, created: int, project: str = "p", **draft: Any) -> str:
    made = await database.write(threads.create, project, ThreadDraft(**draft), now=created)
    return made.id


async def said(database: Database, thread_id: str, *, now: int, **draft: Any) -> None:
    message = MessageDraft(role="user", **{"content": [], **draft})
    await database.write(messages.create, "p", thread_id, message, now=now)


async def file(database: Database, *, created: int, project: str = "p") -> str:
    record = File(
        id=ids.file_id(), project_id=project, created_at=created, filename="f", bytes=0, purpose=""
    )
    await database.write(files.begin, record)
    await database.write(files.append, record.id, 0, b"data")
    await database.write(files.finish, project, record.id, size=4, purpose="user_data")
    return record.id


async def left(database: Database, project: str = "p") -> set[str]:
    listing = await database.read(threads.list_page, project, Page(limit=100), metadata={})
    return {one.id for one in listing.items}


async def test_threads_go_that_nothing_happened_in(database: Database) -> None:
    await thread(database, created=OLD)
    revived = await thread(database, created=OLD)
    await said(database, revived, now=NEW)
    fresh = await thread(database, created=NEW)
    assert await database.read(pruning.count_threads, SCOPE) == 1
    assert await database.write(pruning.remove_threads, SCOPE, limit=10) == 1
    assert await left(database) == {revived, fresh}
    assert await database.write(pruning.remove_threads, SCOPE, limit=10) == 0


async def test_only_so_many_at_a_time_and_of_one_project_alone(database: Database) -> None:
    for _ in range(3):
        await thread(database, created=OLD)
    other = await thread(database, created=OLD, project="q")
    mine = Scope(before=1_500, project_id="p")
    assert await database.write(pruning.remove_threads, mine, limit=2) == 2
    assert await database.write(pruning.remove_threads, mine, limit=2) == 1
    assert await left(database, "q") == {other}


async def test_files_stay_that_anything_names(database: Database) -> None:
    shown, attached, searched, forgotten = [await file(database, created=OLD) for _ in range(4)]
    fresh = await file(database, created=NEW)
    place = await thread(database, created=NEW)
    image = {"type": "image_file", "image_file": {"file_id": shown, "detail": "auto"}}
    await said(database, place, now=NEW, content=[image])
    await said(database, place, now=NEW, attachments=[{"file_id": attached, "tools": []}])
    await database.write(
        assistants.insert,
        Assistant(
            id=ids.assistant_id(),
            project_id="p",
            created_at=OLD,
            model="m",
            tool_resources={"code_interpreter": {"file_ids": [searched]}},
        ),
    )
    old = await database.read(pruning.old_files, SCOPE)
    assert set(old) == {shown, attached, searched, forgotten}
    assert await database.read(pruning.unnamed_files, old, after=0) == 1
    assert await database.write(pruning.remove_files, old, after=0) == 1
    listing = await database.read(files.list_page, "p", Page(limit=100), purpose=None)
    assert {one.id for one in listing.items} == {shown, attached, searched, fresh}


@pytest.mark.parametrize("age", ["30", "d", "0d", "-1d", "1y", ""])
def test_an_age_that_is_none_deletes_nothing(age: str) -> None:
    done = CliRunner().invoke(cli, ["prune", f"--older-than={age}"])
    assert done.exit_code == 1
    assert "is no age" in done.output


async def fill(url: str) -> None:
    now = int(SystemClock().now())
    database = await Database.open(url)
    for created in (now - 40 * 86_400, now):
        await thread(database, created=created)
        await file(database, created=created)
    await database.close()


def test_the_command_counts_before_it_deletes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'assistants.db'}"
    asyncio.run(fill(url))
    prune = ["prune", "--older-than", "30d", "--database-url", url]
    for _ in range(2):
        done = CliRunner().invoke(cli, [*prune, "--dry-run"])
        assert done.stdout == "Would delete 1 thread and 1 file.\n"
    assert CliRunner().invoke(cli, prune).stdout == "Deleted 1 thread and 1 file.\n"
    assert CliRunner().invoke(cli, prune).stdout == "Deleted 0 threads and 0 files.\n"
