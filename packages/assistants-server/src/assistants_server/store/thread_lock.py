"""The thread's row as a lock: whoever adds to a thread holds it, so order is order of commits.

It is taken before a run's, and of the kind that lets foreign keys be checked. PostgreSQL checks one
anew when a row is updated twice in a transaction, so that whoever holds a run alone and ends it
would wait for the thread otherwise, and its holder for the run.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from .. import errors
from . import rows
from .prepared import Prepared

_table = rows.threads

_FIND = sa.select(_table.c.seq).where(
    _table.c.id == sa.bindparam("thread_id"), _table.c.project_id == sa.bindparam("project_id")
)
_CHECK = Prepared(_FIND)
_LOCK = Prepared(_FIND.with_for_update(key_share=True))


def hold(connection: Connection, project_id: str, thread_id: str) -> None:
    """Let one transaction at a time add to the thread (SQLite has one writer anyway).

    Raises:
        NotFound: the project has no such thread.
    """
    _find(connection, _LOCK, project_id, thread_id)


def check(connection: Connection, project_id: str, thread_id: str) -> None:
    """Without the lock.

    Raises:
        NotFound: the project has no such thread.
    """
    _find(connection, _CHECK, project_id, thread_id)


def _find(connection: Connection, query: Prepared, project_id: str, thread_id: str) -> None:
    if query.first(connection, {"thread_id": thread_id, "project_id": project_id}) is None:
        raise errors.no_thread(thread_id)
