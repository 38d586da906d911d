"""Objects that come with their ids from elsewhere. What is there already is left as it is.

Every function says whether the object was new. An id that another project holds is never taken
over, and is refused by name: an import is an operator's work, who may know of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy import Connection, Table

from ..domain.records import Assistant, File, Message, Thread
from . import assistants, files, messages, rows, thread_lock, threads


class Taken(Exception):
    """The id belongs to another project, or to another thread."""


def assistant(connection: Connection, record: Assistant) -> bool:
    """Raises:
    Taken: see above; likewise below.
    """
    if _is_here(connection, rows.assistants, record.id, record.project_id):
        return False
    assistants.insert(connection, record)
    return True


def thread(connection: Connection, record: Thread) -> bool:
    if _is_here(connection, rows.threads, record.id, record.project_id):
        return False
    threads.insert(connection, record)
    return True


def begin_file(connection: Connection, record: File) -> bool:
    """The bytes follow with ``files.append`` and ``files.finish``; until then it is invisible."""
    files.abort(connection, record.id)  # what an import that broke off left
    if _is_here(connection, rows.files, record.id, record.project_id):
        return False
    files.begin(connection, record)
    return True


def add_messages(connection: Connection, project_id: str, records: Sequence[Message]) -> list[bool]:
    """Messages of one thread, oldest first."""
    thread_id = records[0].thread_id
    thread_lock.hold(connection, project_id, thread_id)
    table = rows.messages
    found = {
        row.id: row.thread_id
        for row in connection.execute(
            sa.select(table.c.id, table.c.thread_id).where(
                table.c.id.in_([record.id for record in records])
            )
        )
    }
    for record in records:
        if found.get(record.id, thread_id) != thread_id:
            raise Taken(f"The message {record.id} belongs to another thread already.")
        if record.id not in found:
            messages.insert(connection, record)
    return [record.id not in found for record in records]


def _is_here(connection: Connection, table: Table, object_id: str, project_id: str) -> bool:
    owner = connection.execute(
        sa.select(table.c.project_id).where(table.c.id == object_id)
    ).scalar()
    if owner is not None and owner != project_id:
        raise Taken(f"The id {object_id} belongs to another project already.")
    return owner is not None
