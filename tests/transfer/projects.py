"""Projects with any content, and what a test does with exports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
from hypothesis import strategies as st

from assistants_server import ids
from assistants_server.domain.records import Assistant, File, Message, Page, Thread
from assistants_server.store import arrivals, files, messages
from assistants_server.store.database import Database
from assistants_server.transfer.exporting import export
from assistants_server.transfer.importing import Tally, import_files

NOW = 1_700_000_000

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
metadata = st.dictionaries(texts, texts, max_size=3)
moments = st.integers(NOW, NOW + 2)  # so that many things happen within one second
blocks = st.one_of(
    texts.map(lambda value: {"type": "text", "text": {"value": value, "annotations": []}}),
    st.just({"type": "image_file", "image_file": {"file_id": "file-1", "detail": "low"}}),
    st.just({"type": "image_url", "image_url": {"url": "data:,x", "detail": "auto"}}),
)
function = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
tools = st.lists(st.sampled_from([function, {"type": "file_search"}]), max_size=2)


@dataclass(frozen=True)
class Drafted:
    """A project in the making; ids are given when it is stored, so that examples never collide."""

    assistants: Sequence[Assistant]
    files: Sequence[tuple[File, Sequence[bytes]]]
    threads: Sequence[tuple[Thread, Sequence[Message]]]


assistants = st.builds(
    Assistant,
    id=st.just(""),
    project_id=st.just(""),
    created_at=moments,
    model=texts.filter(bool),
    name=st.none() | texts,
    instructions=st.none() | texts,
    tools=tools,
    metadata=metadata,
    temperature=st.floats(0, 2),
    top_p=st.floats(0, 1),
    response_format=st.sampled_from(["auto", {"type": "json_object"}]),
    reasoning_effort=st.sampled_from([None, "low"]),
)
file_contents = st.lists(st.binary(min_size=1, max_size=50), max_size=3)
stored_files = st.tuples(
    st.builds(
        File,
        id=st.just(""),
        project_id=st.just(""),
        created_at=moments,
        filename=texts,
        bytes=st.just(0),
        purpose=st.sampled_from(["assistants", "vision"]),
        expires_at=st.none() | st.just(NOW * 2),
    ),
    file_contents,
)
written = st.builds(
    Message,
    id=st.just(""),
    thread_id=st.just(""),
    created_at=moments,
    role=st.sampled_from(["user", "assistant"]),
    content=st.lists(blocks, max_size=3),
    attachments=st.sampled_from([[], [{"file_id": "file-1", "tools": [{"type": "file_search"}]}]]),
    metadata=metadata,
    completed_at=st.none() | moments,
    assistant_id=st.none() | st.just("asst_1"),
    run_id=st.none() | st.just("run_1"),
).map(lambda message: replace(message, completed_at=message.completed_at or message.created_at))
half_written = written.map(
    lambda message: replace(
        message,
        role="assistant",
        status="incomplete",
        incomplete_reason="run_cancelled",
        incomplete_at=message.created_at,
        completed_at=None,
    )
)
threads = st.tuples(
    st.builds(
        Thread, id=st.just(""), project_id=st.just(""), created_at=moments, metadata=metadata
    ),
    st.lists(written | half_written, max_size=5),
)
projects = st.builds(
    Drafted,
    assistants=st.lists(assistants, max_size=3),
    files=st.lists(stored_files, max_size=2),
    threads=st.lists(threads, max_size=3),
)


async def store(database: Database, project: str, drafted: Drafted) -> None:
    for assistant in drafted.assistants:
        made = replace(assistant, id=ids.assistant_id(), project_id=project)
        await database.write(arrivals.add_assistant, made)
    for file, chunks in drafted.files:
        begun = replace(file, id=ids.file_id(), project_id=project, bytes=sum(map(len, chunks)))
        await database.write(arrivals.begin_file, begun, now=NOW)
        for number, data in enumerate(chunks):
            await database.write(files.append, begun.id, number, data)
        await database.write(arrivals.finish_file, begun)
    for thread, said in drafted.threads:
        opened = replace(thread, id=ids.thread_id(), project_id=project)
        await database.write(arrivals.add_thread, opened)
        for message in said:
            placed = replace(message, id=ids.message_id(), thread_id=opened.id)
            await database.write(messages.insert, placed)


async def exported(database: Database, project: str, *thread_ids: str) -> bytes:
    lines = export(database, project, thread_ids=thread_ids or None)
    return b"".join([line async for line in lines])


async def imported(database: Database, project: str, *paths: Path) -> Tally:
    return await import_files(
        database, project, list(paths), now=NOW, progress=lambda doing, count: None
    )


async def texts_of(database: Database, project: str, thread_id: str) -> list[str]:
    """What the thread says, oldest first."""
    page = await database.read(messages.list_page, project, thread_id, Page(limit=100, order="asc"))
    return ["".join(block["text"]["value"] for block in message.content) for message in page.items]


def lines(*objects: Any) -> bytes:
    return b"".join(orjson.dumps(one) + b"\n" for one in objects)


def said(number: int, created_at: int, thread_id: str = "thread_1", **more: Any) -> dict[str, Any]:
    """A message as OpenAI's API showed it."""
    return {
        "id": f"msg_{number}",
        "object": "thread.message",
        "created_at": created_at,
        "thread_id": thread_id,
        "role": "user",
        "content": [{"type": "text", "text": {"value": str(number), "annotations": []}}],
        "file_ids": [],
        "assistant_id": None,
        "run_id": None,
        "metadata": {},
        **more,
    }


def page(*data: Any) -> dict[str, Any]:
    return {
        "object": "list",
        "data": list(data),
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


def fill(path: Path, content: bytes) -> None:
    path.write_bytes(content)
