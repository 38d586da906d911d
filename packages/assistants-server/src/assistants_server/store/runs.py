"""Runs: reading them, and moving them along the table of ``domain.run_state``.

Every status change is a compare-and-set whose ``WHERE`` comes from the table; a change that does
not land returns ``None`` and has changed nothing. How runs begin is in ``run_creation``, how they
end in ``run_endings``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from .. import errors
from ..domain.records import Failure, Metadata, Page, Run, Usage
from ..domain.run_state import ACTIVE, UPDATABLE, RunCause, RunStatus, run_after
from . import pages, rows, thread_lock
from .pages import Listing
from .prepared import Prepared

_table = rows.runs

_INSERT = Prepared(sa.insert(_table))
_BY_ID = sa.select(_table).where(
    _table.c.id == sa.bindparam("run_id"),
    _table.c.thread_id == sa.bindparam("thread_id"),
    _table.c.project_id == sa.bindparam("project_id"),
)
_GET = Prepared(_BY_ID)
_LOCK = Prepared(_BY_ID.with_for_update())
_BY_KEY = Prepared(
    sa.select(_table)
    .where(
        _table.c.thread_id == sa.bindparam("thread_id"),
        _table.c.run_key == sa.bindparam("run_key"),
    )
    .with_for_update()
)
_ACTIVE_OF_THREAD = Prepared(
    sa.select(_table)
    .where(_table.c.thread_id == sa.bindparam("thread_id"), rows.ACTIVE_RUN)
    .with_for_update()
)
# The thread before the run, as everybody locks them. The turn tells one claim from another: a run
# that was taken over may come back to the process that lost it, where the lost turn still goes on.
_HOLD = Prepared(
    sa.select(_table.c.seq)
    .join_from(rows.threads, _table, _table.c.thread_id == rows.threads.c.id)
    .where(
        _table.c.id == sa.bindparam("run_id"),
        _table.c.status == "in_progress",
        _table.c.owner == sa.bindparam("run_owner"),
        _table.c.turns == sa.bindparam("run_turns"),
    )
    .with_for_update(of=[rows.threads, _table], key_share=True)
)
_MOVE = Prepared(
    sa.update(_table).where(
        _table.c.id == sa.bindparam("moved_id"),
        _table.c.status == sa.bindparam("moved_from"),
        _table.c.owner.is_not_distinct_from(sa.bindparam("moved_owner")),
        _table.c.turns == sa.bindparam("moved_turns"),
    )
)
_DEAD_KEY = Prepared(
    sa.select(rows.ended_run_keys.c.run_key).where(
        rows.ended_run_keys.c.thread_id == sa.bindparam("thread_id"),
        rows.ended_run_keys.c.run_key == sa.bindparam("run_key"),
    )
)
_BURY_KEY = Prepared(sa.insert(rows.ended_run_keys))


def _record(values: dict[str, Any]) -> Run:
    del values["seq"]
    values["usage"] = Usage(**values["usage"])
    if values["last_error"] is not None:
        values["last_error"] = Failure(**values["last_error"])
    return Run(**values)


def begin(connection: Connection, queued: Run, *, now: int) -> Run:
    """Store a new run as one whose turn has begun; returns it so."""
    status = run_after(queued.status, "start")
    assert status is not None, "new runs are queued"
    run = replace(queued, status=status, started_at=now)
    values = {field: getattr(run, field) for field in Run.__slots__}
    _INSERT.count(connection, values)
    return run


def get(
    connection: Connection, project_id: str, thread_id: str, run_id: str, *, lock: bool = False
) -> Run:
    """The run; with ``lock`` its status holds until the transaction ends.

    Raises:
        NotFound: the project has no such thread, or the thread no such run.
    """
    place = {"run_id": run_id, "thread_id": thread_id, "project_id": project_id}
    found = (_LOCK if lock else _GET).first(connection, place)
    if found is None:
        thread_lock.check(connection, project_id, thread_id)
        raise errors.no_run(run_id)
    return _record(found)


def by_id(connection: Connection, run_id: str) -> Run | None:
    """For the engine, which has no project: the run, unless it is gone with its thread."""
    row = connection.execute(sa.select(_table).where(_table.c.id == run_id)).first()
    return None if row is None else _record(row._asdict())


def by_key(connection: Connection, thread_id: str, run_key: str) -> Run | None:
    """Extension ``run_key``: the thread's run of this name, locked."""
    found = _BY_KEY.first(connection, {"thread_id": thread_id, "run_key": run_key})
    return None if found is None else _record(found)


def active(connection: Connection, thread_id: str) -> Run | None:
    """The run that locks the thread; its own row is locked in turn."""
    found = _ACTIVE_OF_THREAD.first(connection, {"thread_id": thread_id})
    return None if found is None else _record(found)


def list_page(connection: Connection, project_id: str, thread_id: str, page: Page) -> Listing[Run]:
    thread_lock.check(connection, project_id, thread_id)
    of_thread = {"thread_id": thread_id}
    return pages.fetch(connection, _table, of_thread, page, scope=thread_id, record=_record)


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


def move(connection: Connection, run: Run, *causes: RunCause, **values: Any) -> Run | None:
    """Apply ``causes`` to the run as the caller knows it, and store ``values`` with it.

    ``None``: the table forbids it, or the run has changed status, owner or turn meanwhile.
    """
    status: RunStatus | None = run.status
    for cause in causes:
        status = status and run_after(status, cause)
    if status is None:
        return None
    where = {
        "moved_id": run.id,
        "moved_from": run.status,
        "moved_owner": run.owner,
        "moved_turns": run.turns,
    }
    changed = _MOVE.count(connection, {**where, "status": status, **values})
    return replace(run, status=status, **values) if changed else None


def hold(connection: Connection, run: Run) -> bool:
    """Lock the run's thread and row, and say whether ``run.owner`` may still write this turn."""
    held = {"run_id": run.id, "run_owner": run.owner, "run_turns": run.turns}
    return _HOLD.first(connection, held) is not None


def renew(connection: Connection, owner: str, *, lease_until: float) -> None:
    """Prolong the leases of a process.

    A run that somebody is changing at this moment is left for the next time: all others would wait
    with it.
    """
    free = (
        sa.select(_table.c.seq)
        .where(*_held(owner))
        .with_for_update(skip_locked=True, key_share=True)
    )
    connection.execute(
        sa.update(_table).where(_table.c.seq.in_(free)).values(lease_until=lease_until)
    )


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
    return [_record(row._asdict()) for row in found]


def orphans(
    connection: Connection, *, now: float, dead: Sequence[str], limit: int
) -> Sequence[Run]:
    """Runs that a process held and no longer renews, or that one of the ``dead`` held."""
    silent = _table.c.lease_until < now
    lost = sa.or_(silent, _table.c.owner.in_(dead)) if dead else silent
    found = connection.execute(
        sa.select(_table).where(_table.c.status.in_(ACTIVE), lost).limit(limit)
    )
    return [_record(row._asdict()) for row in found]


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
    """Take over an orphan; ``None`` if another process was faster.

    Returns the run as it was, but for the owner: ``taken_over`` tells of earlier times.
    """
    changed = connection.execute(
        sa.update(_table)
        .where(
            _table.c.id == run.id,
            _table.c.status == run.status,
            _table.c.owner == run.owner,
            _table.c.lease_until == run.lease_until,
        )
        .values(owner=owner, lease_until=lease_until, taken_over=True)
    )
    return replace(run, owner=owner, lease_until=lease_until) if changed.rowcount else None


def is_dead_key(connection: Connection, thread_id: str, run_key: str) -> bool:
    """Extension ``end_runs``: the name was ended, its request must be refused."""
    return _DEAD_KEY.first(connection, {"thread_id": thread_id, "run_key": run_key}) is not None


def bury_key(connection: Connection, thread_id: str, run_key: str) -> None:
    """Extension ``end_runs``: refuse every later request with this name."""
    if not is_dead_key(connection, thread_id, run_key):
        _BURY_KEY.count(connection, {"thread_id": thread_id, "run_key": run_key})
