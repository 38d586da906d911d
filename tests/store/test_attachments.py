"""Attachments show in the thread's tool resources, once each, however their message came."""

from __future__ import annotations

from typing import Any

from tests.store.test_run_creation import NOW, World, text, world

from assistants_server.domain.drafts import MessageDraft, RunDraft, ThreadDraft
from assistants_server.store import messages, threads
from assistants_server.store.database import Database

__all__ = ["world"]


def attaching(*file_ids: str, tool: str = "code_interpreter") -> MessageDraft:
    attachments = [{"file_id": one, "tools": [{"type": tool}]} for one in file_ids]
    return MessageDraft(role="user", content=text("look"), attachments=attachments)


async def files_of(database: Database, thread_id: str) -> Any:
    thread = await database.read(threads.get, "default", thread_id)
    return thread.tool_resources


async def test_files_for_the_code_interpreter_join_the_thread(world: World) -> None:
    database = world.database
    draft = ThreadDraft(messages=[attaching("file-a")])
    thread = await database.write(threads.create, "default", draft, now=NOW)
    assert thread.tool_resources == {"code_interpreter": {"file_ids": ["file-a"]}}
    message = attaching("file-b", "file-a")
    await database.write(messages.create, "default", thread.id, message, now=NOW)
    assert await files_of(database, thread.id) == {
        "code_interpreter": {"file_ids": ["file-a", "file-b"]}
    }


async def test_files_that_come_with_a_run_join_the_thread(world: World) -> None:
    draft = RunDraft(assistant_id=world.assistant.id, additional_messages=[attaching("file-a")])
    await world.create_draft(draft)
    assert await files_of(world.database, world.thread_id) == {
        "code_interpreter": {"file_ids": ["file-a"]}
    }


async def test_files_for_search_wait_for_a_vector_store(world: World) -> None:
    message = attaching("file-a", tool="file_search")
    await world.database.write(messages.create, "default", world.thread_id, message, now=NOW)
    assert await files_of(world.database, world.thread_id) == {}
