"""Threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from .. import errors, ids
from ..domain.drafts import EndRun, ThreadDraft
from ..domain.records import Metadata, Page, Thread
from . import attachments, messages, pages, rows, run_endings, runs, signals, thread_lock
from .pages import Listing
from .prepared import Prepared
from .run_endings import Ending, Unstored

_table = rows.threads
_pairs = rows.thread_metadata

_INSERT = Prepared(sa.insert(_table))
_ONE = Prepared(
    sa.select(_table).where(
        _table.c.id == sa.bindparam("thread_id"), _table.c.project_id == sa.bindparam("project_id")
    )
)


def _record(values: dict[str, Any]) -> Thread:
    del values["seq"]
    return Thread(**values)


def create(connection: Connection, project_id: str, draft: ThreadDraft, *, now: int) -> Thread:
    """The thread with its first messages."""
    thread = Thread(
        id=ids.thread_id(),
        project_id=project_id,
        created_at=now,
        tool_resources=attachments.joined(draft.tool_resources, draft.messages),
        metadata=draft.metadata,
    )
    insert(connection, thread)
    for message in draft.messages:
        messages.insert(connection, messages.from_draft(thread.id, message, now=now))
    return thread


def insert(connection: Connection, thread: Thread) -> None:
    _INSERT.count(connection, {field: getattr(thread, field) for field in Thread.__slots__})
    _index(connection, thread)


def get(connection: Connection, project_id: str, thread_id: str) -> Thread:
    found = _ONE.first(connection, {"thread_id": thread_id, "project_id": project_id})
    if found is None:
        raise errors.no_thread(thread_id)
    return _record(found)


def update(
    connection: Connection,
    project_id: str,
    thread_id: str,
    changes: Mapping[str, Any],
    end_runs: Sequence[EndRun],
    *,
    now: int,
    unstored: Callable[[str], Unstored | None],
) -> tuple[Thread, Sequence[Ending]]:
    """End the runs that are named (an extension) and apply ``changes`` (record field names).

    Args:
        unstored: what this process holds of a run it is executing, beyond the database.
    """
    thread_lock.hold(connection, project_id, thread_id)
    ended = run_endings.end_named(connection, thread_id, end_runs, {}, now=now, unstored=unstored)
    if changes:
        connection.execute(sa.update(_table).where(_table.c.id == thread_id).values(dict(changes)))
    thread = get(connection, project_id, thread_id)
    if "metadata" in changes:
        connection.execute(sa.delete(_pairs).where(_pairs.c.thread_id == thread_id))
        _index(connection, thread)
    return thread, ended


def delete(connection: Connection, project_id: str, thread_id: str) -> str | None:
    """With its messages, runs and steps; returns the run that was active. Files stay."""
    thread_lock.hold(connection, project_id, thread_id)
    active = runs.active(connection, thread_id)
    if active is not None:
        signals.touch(connection, active.id)
    pages.bury(connection, _table, thread_id, scope=project_id)
    pages.forget(connection, scope=thread_id)
    connection.execute(sa.delete(_table).where(_table.c.id == thread_id))
    return None if active is None else active.id


def list_page(
    connection: Connection, project_id: str, page: Page, *, metadata: Metadata
) -> Listing[Thread]:
    """Extension: the project's threads, those that carry all of ``metadata``."""
    carries = [
        sa.exists().where(
            _pairs.c.thread_id == _table.c.id,
            _pairs.c.project_id == project_id,
            _pairs.c.key == key,
            _pairs.c.value == value,
        )
        for key, value in metadata.items()
    ]
    return pages.fetch(
        connection,
        _table,
        {"project_id": project_id},
        page,
        scope=project_id,
        record=_record,
        also=carries,
    )


def _index(connection: Connection, thread: Thread) -> None:
    if thread.metadata:
        connection.execute(
            sa.insert(_pairs),
            [
                {
                    "thread_id": thread.id,
                    "project_id": thread.project_id,
                    "key": key,
                    "value": value,
                }
                for key, value in thread.metadata.items()
            ],
        )
