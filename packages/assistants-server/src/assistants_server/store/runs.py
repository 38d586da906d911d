"""Runs: reading them, and moving them along the table of ``domain.run_state``.

Every status change is a compare-and-set whose ``WHERE`` comes from the table; a change that does
not land returns ``None`` and has changed nothing. How runs begin is in ``run_creation``, how they
end in ``run_endings``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from .. import errors
from ..domain.records import Failure, Metadata, Page, Run, Usage
from ..domain.run_state import ACTIVE, UPDATABLE, RunCause, run_after
from . import pages, rows, thread_lock
from .pages import Listing

_table = rows.runs

# Statements of the hot path are built once: building costs more than running them.
_INSERT = sa.insert(_table)
_ACTIVE_OF_THREAD = (
    sa.select(_table)
    .where(_table.c.thread_id == sa.bindparam("thread_id"), _table.c.status.in_(ACTIVE))
    .with_for_update()
)
_HOLD = (
    sa.select(_table.c.seq)
    .where(
        _table.c.id == sa.bindparam("run_id"),
        _table.c.status == "in_progress",
        _table.c.owner == sa.bindparam("run_owner"),
    )
    .with_for_update()
)
_MOVE = sa.update(_table).where(
    _table.c.id == sa.bindparam("moved_id"),
    _table.c.status == sa.bindparam("moved_from"),
    _table.c.owner.is_not_distinct_from(sa.bindparam("moved_owner")),
)


def _record(row: Row[Any]) -> Run:
    values = row._asdict()
    del values["seq"]
    values["usage"] = Usage(**values["usage"])
    if values["last_error"] is not None:
        values["last_error"] = Failure(**values["last_error"])
    return Run(**values)


def insert(connection: Connection, run: Run) -> None:
    values = {field: getattr(run, field) for field in Run.__slots__}
    values["usage"] = asdict(run.usage)
    values["last_error"] = asdict(run.last_error) if run.last_error else None
    connection.execute(_INSERT, values)


def get(
    connection: Connection, project_id: str, thread_id: str, run_id: str, *, lock: bool = False
) -> Run:
    """The run; with ``lock`` its status holds until the transaction ends.

    Raises:
        NotFound: the project has no such thread, or the thread no such run.
    """
    query = sa.select(_table).where(
        _table.c.id == run_id,
        _table.c.thread_id == thread_id,
        _table.c.project_id == project_id,
    )
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        thread_lock.check(connection, project_id, thread_id)
        raise errors.no_run(run_id)
    return _record(row)


def by_id(connection: Connection, run_id: str) -> Run | None:
    """For the engine, which has no project: the run, unless it is gone with its thread."""
    row = connection.execute(sa.select(_table).where(_table.c.id == run_id)).first()
    return None if row is None else _record(row)


def by_key(connection: Connection, thread_id: str, run_key: str) -> Run | None:
    """Extension ``run_key``: the thread's run of this name, locked."""
    row = connection.execute(
        sa.select(_table)
        .where(_table.c.thread_id == thread_id, _table.c.run_key == run_key)
        .with_for_update()
    ).first()
    return None if row is None else _record(row)


def active(connection: Connection, thread_id: str) -> Run | None:
    """The run that locks the thread; its own row is locked in turn."""
    row = connection.execute(_ACTIVE_OF_THREAD, {"thread_id": thread_id}).first()
    return None if row is None else _record(row)


def list_page(connection: Connection, project_id: str, thread_id: str, page: Page) -> Listing[Run]:
    thread_lock.check(connection, project_id, thread_id)
    query = sa.select(_table).where(_table.c.thread_id == thread_id)
    return pages.fetch(connection, _table, query, page, scope=thread_id, record=_record)


def update_metadata(
    connection: Connection, project_id: str, thread_id: str, run_id: str, metadata: Metadata
) -> Run:
    """Raises:
    BadRequest: the run is being worked on.
    """
    run = get(connection, project_id, thread_id, run_id)
    changed = connection.execute(
        sa.update(_table)
        .where(_table.c.id == run_id, _table.c.status.in_(UPDATABLE))
        .values(metadata=metadata)
    )
    if not changed.rowcount:
        raise errors.cannot_update(run.status)
    return get(connection, project_id, thread_id, run_id)


def move(connection: Connection, run: Run, cause: RunCause, **values: Any) -> Run | None:
    """Apply ``cause`` to the run as the caller knows it, and store ``values`` with it.

    ``None``: the table forbids it, or the run has changed status or owner meanwhile.
    """
    status = run_after(run.status, cause)
    if status is None:
        return None
    columns = {
        name: asdict(value) if isinstance(value, Usage | Failure) else value
        for name, value in values.items()
    }
    where = {"moved_id": run.id, "moved_from": run.status, "moved_owner": run.owner}
    changed = connection.execute(_MOVE, {**where, "status": status, **columns})
    return replace(run, status=status, **values) if changed.rowcount else None


def hold(connection: Connection, run: Run) -> bool:
    """Lock the run's thread and row, and say whether ``run.owner`` may still write for it."""
    try:
        thread_lock.hold(connection, run.project_id, run.thread_id)
    except errors.NotFound:
        return False
    row = connection.execute(_HOLD, {"run_id": run.id, "run_owner": run.owner}).first()
    return row is not None


def renew(connection: Connection, owner: str, *, lease_until: float) -> None:
    """Prolong the leases of a process."""
    connection.execute(sa.update(_table).where(*_held(owner)).values(lease_until=lease_until))


def held(connection: Connection, owner: str) -> set[str]:
    """The runs that are a process's to execute.

    A run that it executes and that is missing here was ended, or asked to be cancelled, by
    somebody else.
    """
    return set(connection.execute(sa.select(_table.c.id).where(*_held(owner))).scalars())


def _held(owner: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (_table.c.owner == owner, _table.c.status.in_(("queued", "in_progress")))


def overdue(connection: Connection, *, now: float, limit: int) -> Sequence[Run]:
    """Active runs whose time is over."""
    found = connection.execute(
        sa.select(_table)
        .where(_table.c.status.in_(ACTIVE), _table.c.expires_at <= now)
        .limit(limit)
    )
    return [_record(row) for row in found]


def orphans(
    connection: Connection, *, now: float, dead: Sequence[str], limit: int
) -> Sequence[Run]:
    """Runs that a process held and no longer renews, or that one of the ``dead`` held."""
    silent = _table.c.lease_until < now
    lost = sa.or_(silent, _table.c.owner.in_(dead)) if dead else silent
    found = connection.execute(
        sa.select(_table).where(_table.c.status.in_(ACTIVE), lost).limit(limit)
    )
    return [_record(row) for row in found]


def count_active(connection: Connection) -> dict[str, int]:
    """How many runs of all projects are in each of the active statuses."""
    found = connection.execute(
        sa.select(_table.c.status, sa.func.count())
        .where(_table.c.status.in_(ACTIVE))
        .group_by(_table.c.status)
    )
    counts: dict[str, int] = dict.fromkeys(sorted(ACTIVE), 0)
    for status, count in found:
        counts[status] = count
    return counts


def owners(connection: Connection) -> Sequence[str]:
    """The processes that hold runs, by their word."""
    found = connection.execute(
        sa.select(_table.c.owner)
        .where(_table.c.status.in_(ACTIVE), _table.c.lease_until.is_not(None))
        .distinct()
    )
    return [owner for owner in found.scalars() if owner is not None]


def claim(connection: Connection, run: Run, *, owner: str, lease_until: float) -> Run | None:
    """Take over an orphan; ``None`` if another process was faster."""
    changed = connection.execute(
        sa.update(_table)
        .where(
            _table.c.id == run.id,
            _table.c.status == run.status,
            _table.c.owner == run.owner,
            _table.c.lease_until == run.lease_until,
        )
        .values(owner=owner, lease_until=lease_until)
    )
    return replace(run, owner=owner, lease_until=lease_until) if changed.rowcount else None


def is_dead_key(connection: Connection, thread_id: str, run_key: str) -> bool:
    """Extension ``end_runs``: the name was ended, its request must be refused."""
    keys = rows.ended_run_keys
    query = sa.select(keys.c.run_key).where(
        keys.c.thread_id == thread_id, keys.c.run_key == run_key
    )
    return connection.execute(query).first() is not None


def bury_key(connection: Connection, thread_id: str, run_key: str) -> None:
    """Extension ``end_runs``: refuse every later request with this name."""
    if not is_dead_key(connection, thread_id, run_key):
        connection.execute(
            sa.insert(rows.ended_run_keys).values(thread_id=thread_id, run_key=run_key)
        )
