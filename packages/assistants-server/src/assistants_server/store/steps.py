"""Run steps: one a message the model wrote, one a turn in which it called tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from .. import errors
from ..domain.records import Failure, Page, Step, Usage
from . import messages, pages, rows, runs
from .pages import Listing
from .prepared import Prepared

_table = rows.steps
_ALL = 2**31 - 1

_INSERT = Prepared(sa.insert(_table))
_SAVE = Prepared(
    sa.update(_table).where(
        _table.c.id == sa.bindparam("saved_id"), _table.c.status == "in_progress"
    )
)
_IN_PROGRESS = Prepared(
    sa.select(_table)
    .where(_table.c.run_id == sa.bindparam("run_id"), _table.c.status == "in_progress")
    .order_by(_table.c.seq)
)
_FINISHED_CALLS = (
    sa.select(_table)
    .where(
        _table.c.thread_id == sa.bindparam("thread_id"),
        _table.c.type == "tool_calls",
        _table.c.status == "completed",
        _table.c.after_position >= sa.bindparam("from_position"),
    )
    .order_by(_table.c.after_position, _table.c.seq)
    .limit(sa.bindparam("most"))
)
_NEWEST_CALLS = Prepared(
    sa.select(_table.c.after_position)
    .where(_table.c.thread_id == sa.bindparam("thread_id"), _table.c.type == "tool_calls")
    .order_by(_table.c.after_position.desc())
    .limit(1)
)
_OF_THREAD = Prepared(_FINISHED_CALLS)
_OF_RUN = Prepared(_FINISHED_CALLS.where(_table.c.run_id == sa.bindparam("run_id")))


def _record(values: dict[str, Any]) -> Step:
    del values["seq"]
    if values["usage"] is not None:
        values["usage"] = Usage(**values["usage"])
    if values["last_error"] is not None:
        values["last_error"] = Failure(**values["last_error"])
    return Step(**values)


def _values(step: Step) -> dict[str, Any]:
    return {field: getattr(step, field) for field in Step.__slots__}


def insert(connection: Connection, step: Step) -> None:
    _INSERT.count(connection, _values(step))


def save(connection: Connection, step: Step) -> bool:
    """Write a step in progress as it now is; ``False`` if it had ended already."""
    return _SAVE.count(connection, {"saved_id": step.id, **_values(step)}) > 0


def next_place(connection: Connection, thread_id: str) -> int:
    """What a turn of tools that happens now stands behind: the newest message, or an earlier turn
    that stands behind a deleted one."""
    turn = _NEWEST_CALLS.first(connection, {"thread_id": thread_id})
    newest = messages.newest_position(connection, thread_id)
    return newest if turn is None else max(newest, turn["after_position"])


def get(connection: Connection, project_id: str, thread_id: str, run_id: str, step_id: str) -> Step:
    """Raises:
    NotFound: the project has no such thread, run or step.
    """
    runs.get(connection, project_id, thread_id, run_id)
    row = connection.execute(
        sa.select(_table).where(_table.c.id == step_id, _table.c.run_id == run_id)
    ).first()
    if row is None:
        raise errors.no_step(step_id)
    return _record(row._asdict())


def list_page(
    connection: Connection, project_id: str, thread_id: str, run_id: str, page: Page
) -> Listing[Step]:
    runs.get(connection, project_id, thread_id, run_id)
    of_run = {"run_id": run_id}
    return pages.fetch(connection, _table, of_run, page, scope=run_id, record=_record)


def by_id(connection: Connection, step_id: str) -> Step | None:
    """For the engine, which has no project."""
    row = connection.execute(sa.select(_table).where(_table.c.id == step_id)).first()
    return None if row is None else _record(row._asdict())


def of_run(connection: Connection, run_id: str) -> Sequence[Step]:
    """Every step, oldest first."""
    found = connection.execute(
        sa.select(_table).where(_table.c.run_id == run_id).order_by(_table.c.seq)
    )
    return [_record(row._asdict()) for row in found]


def in_progress(connection: Connection, run_id: str) -> Sequence[Step]:
    """The run's open step, if there is one."""
    return [_record(found) for found in _IN_PROGRESS.all(connection, {"run_id": run_id})]


def finished_calls(
    connection: Connection,
    thread_id: str,
    *,
    from_position: int,
    run_id: str | None,
    most: int | None,
) -> Sequence[Step]:
    """Answered tool turns at or behind ``from_position``, the oldest ``most`` of them, oldest
    first; of one run, if given."""
    place = {"thread_id": thread_id, "from_position": from_position, "most": most or _ALL}
    if run_id is None:
        return [_record(found) for found in _OF_THREAD.all(connection, place)]
    return [_record(found) for found in _OF_RUN.all(connection, {**place, "run_id": run_id})]


def answered(connection: Connection, thread_id: str, call_ids: Sequence[str]) -> set[str]:
    """Those of the calls that have an output somewhere in the thread."""
    if not call_ids:
        return set()
    wanted = set(call_ids)
    found = connection.execute(
        sa.select(_table.c.tool_calls).where(
            _table.c.thread_id == thread_id,
            _table.c.type == "tool_calls",
            _table.c.status == "completed",
        )
    )
    return {
        call["id"]
        for calls in found.scalars()
        for call in calls
        if call["id"] in wanted and _output(call) is not None
    }


def _output(call: Mapping[str, Any]) -> Any:
    return call.get("function", {}).get("output")
