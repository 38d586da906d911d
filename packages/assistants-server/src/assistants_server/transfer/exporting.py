"""A project as JSON lines: every line is one object in the wire's own shape.

Objects that others refer to come first: assistants, then files (each followed by its bytes in
``file.content`` lines), then threads, each followed by its messages in order. What is exported can
be imported again, here or elsewhere, with every id kept.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

from ..domain.records import Assistant, File, Message, Page, Thread
from ..store import assistants, files, messages, threads
from ..store.database import Database
from ..store.pages import Listing
from ..wire import assistants as assistant_wire
from ..wire import files as file_wire
from ..wire import messages as message_wire
from ..wire import threads as thread_wire
from ..wire.parts import encode

FORMAT = "assistants.export"
VERSION = 1

_PAGE = 100
_CONTENT = b'{"object":"file.content"'

T = TypeVar("T", Assistant, Thread, Message, File)


class ExportFault(Exception):
    """The export is not whole; the sentence says why."""


async def export(
    database: Database, project_id: str, *, thread_ids: Sequence[str] | None = None
) -> AsyncIterator[bytes]:
    """The lines of an export, each with its newline.

    Args:
        thread_ids: these threads alone, without assistants and files; ``None``: everything.

    Raises:
        NotFound: one of the threads does not exist.
        ExportFault: something changed on the way so that the lines so far are no export.
    """
    yield _line({"object": FORMAT, "version": VERSION, "project": project_id})
    if thread_ids is not None:
        for thread_id in thread_ids:
            thread = await database.read(threads.get, project_id, thread_id)
            async for line in _thread(database, thread):
                yield line
        return
    async for assistant in _all(database, assistants.list_page, project_id):
        yield _line(assistant_wire.render(assistant))
    async for file in _all(database, files.list_page, project_id, purpose=None):
        yield _line(file_wire.render(file))
        async for line in _content(database, file):
            yield line
    async for thread in _all(database, threads.list_page, project_id, metadata={}):
        async for line in _thread(database, thread):
            yield line


async def _thread(database: Database, thread: Thread) -> AsyncIterator[bytes]:
    yield _line(thread_wire.render(thread))
    async for message in _all(database, messages.list_page, thread.project_id, thread.id):
        yield _line(message_wire.render(message))


async def _content(database: Database, file: File) -> AsyncIterator[bytes]:
    number = sent = 0
    while (data := await database.read(files.read_chunk, file.id, number)) is not None:
        yield _line(
            {
                "object": "file.content",
                "file_id": file.id,
                "number": number,
                "data": b64encode(data).decode(),
            }
        )
        number += 1
        sent += len(data)
    if sent != file.bytes:
        raise ExportFault(f"The file {file.id} was deleted while it was exported. Export again.")


async def _all(
    database: Database, list_page: Callable[..., Listing[T]], *scope: str, **filters: Any
) -> AsyncIterator[T]:
    after: str | None = None
    while True:
        page = Page(limit=_PAGE, order="asc", after=after)
        listing = await database.read(list_page, *scope, page, **filters)
        for item in listing.items:
            yield item
        if not listing.has_more:
            return
        after = listing.items[-1].id


def is_object(line: bytes) -> bool:
    """Whether this line of an export is one of the project's objects: a piece of a file is none."""
    return not line.startswith(_CONTENT)


def _line(value: Mapping[str, Any]) -> bytes:
    return encode(value) + b"\n"
