"""Objects that come with their ids from elsewhere. What is there already is left as it is.

Every function that stores says whether the object was new. An id that another project holds is
never taken over, and is refused by name: an import is an operator's work, who may know of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import sqlalchemy as sa
from sqlalchemy import Connection

from .. import errors
from ..domain.records import Assistant, File, Message, Thread
from . import assistants, files, messages, pages, rows, runs, thread_lock, threads

Kind = Literal["assistant", "thread", "file"]

_TABLES = {"assistant": rows.assistants, "thread": rows.threads, "file": rows.files}


class Taken(Exception):
    """The id belongs to another project, or to another thread."""

    def __init__(self, object_id: str, reason: str) -> None:
        super().__init__(reason)
        self.object_id = object_id
        self.reason = reason


def check(connection: Connection, kind: Kind, project_id: str, ids: Sequence[str]) -> None:
    """Raises:
    Taken: another project has one of the ids.
    """
    table = _TABLES[kind]
    taken = connection.execute(
        sa.select(table.c.id)
        .where(table.c.id.in_(ids), table.c.project_id != project_id)
        .order_by(table.c.seq)
    ).scalar()
    if taken is not None:
        raise Taken(taken, f"the id {taken} belongs to another project already")


def check_messages(connection: Connection, thread_id: str, ids: Sequence[str]) -> None:
    """Raises:
    Taken: another thread has a message of one of the ids.
    """
    table = rows.messages
    taken = connection.execute(
        sa.select(table.c.id)
        .where(table.c.id.in_(ids), table.c.thread_id != thread_id)
        .order_by(table.c.seq)
    ).scalar()
    if taken is not None:
        raise Taken(taken, f"the message {taken} belongs to another thread already")


def add_assistant(connection: Connection, record: Assistant) -> bool:
    """Raises:
    Taken: see above; likewise below.
    """
    if _is_here(connection, "assistant", record):
        return False
    pages.unearth(connection, [record.id])
    assistants.insert(connection, record)
    return True


def add_thread(connection: Connection, record: Thread) -> bool:
    if _is_here(connection, "thread", record):
        return False
    pages.unearth(connection, [record.id])
    threads.insert(connection, record)
    return True


def begin_file(connection: Connection, record: File, *, now: int) -> bool:
    """The bytes follow with ``files.append``, then :func:`finish_file` shows the file.

    Until then its time of creation is ``now``, so that nobody takes it for an upload that broke
    off long ago and sweeps it away.
    """
    check(connection, "file", record.project_id, [record.id])
    files.abort(connection, record.id)  # what an import that broke off left
    if _is_here(connection, "file", record):
        return False
    pages.unearth(connection, [record.id])
    files.begin(connection, replace(record, created_at=now, expires_at=None))
    return True


def finish_file(connection: Connection, record: File) -> None:
    table = rows.files
    connection.execute(
        sa.update(table).where(table.c.id == record.id).values(created_at=record.created_at)
    )
    files.finish(
        connection,
        record.project_id,
        record.id,
        size=record.bytes,
        purpose=record.purpose,
        expires_at=record.expires_at,
    )


def add_messages(connection: Connection, project_id: str, records: Sequence[Message]) -> list[bool]:
    """Messages of one thread, oldest first.

    Raises:
        Taken: see above.
        BadRequest: something is new, and a run is active on the thread.
    """
    thread_id = records[0].thread_id
    thread_lock.hold(connection, project_id, thread_id)
    ids = [record.id for record in records]
    check_messages(connection, thread_id, ids)
    table = rows.messages
    found = set(connection.execute(sa.select(table.c.id).where(table.c.id.in_(ids))).scalars())
    new = [record for record in records if record.id not in found]
    if new:
        active = runs.active(connection, thread_id)
        if active is not None:
            raise errors.thread_locked(thread_id, active.id)
        pages.unearth(connection, [record.id for record in new])
        for record in new:
            messages.insert(connection, record)
    return [one not in found for one in ids]


def _is_here(connection: Connection, kind: Kind, record: Assistant | Thread | File) -> bool:
    check(connection, kind, record.project_id, [record.id])
    table = _TABLES[kind]
    query = sa.select(table.c.seq).where(table.c.id == record.id)
    return connection.execute(query).first() is not None
