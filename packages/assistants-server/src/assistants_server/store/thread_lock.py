"""The thread's row as a lock: whoever adds to a thread holds it, so order is order of commits."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from .. import errors
from . import rows

_table = rows.threads


def hold(connection: Connection, project_id: str, thread_id: str) -> None:
    """Let one transaction at a time add to the thread (SQLite has one writer anyway).

    Raises:
        NotFound: the project has no such thread.
    """
    _find(connection, project_id, thread_id, lock=True)


def check(connection: Connection, project_id: str, thread_id: str) -> None:
    """Without the lock.

    Raises:
        NotFound: the project has no such thread.
    """
    _find(connection, project_id, thread_id, lock=False)


def _find(connection: Connection, project_id: str, thread_id: str, *, lock: bool) -> None:
    query = sa.select(_table.c.seq).where(
        _table.c.id == thread_id, _table.c.project_id == project_id
    )
    if lock:
        query = query.with_for_update()
    if connection.execute(query).first() is None:
        raise errors.no_thread(thread_id)
