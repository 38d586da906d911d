"""Messages of threads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from .. import errors, ids
from ..domain.drafts import MessageDraft
from ..domain.records import JsonObject, Message, Page
from ..domain.tokens import estimate_message
from . import attachments, pages, rows, runs, thread_lock
from .pages import Listing
from .prepared import Prepared

_table = rows.messages
_FIELDS = tuple(field for field in Message.__slots__ if field != "position")


def _newest(column: sa.ColumnElement[int], thread_id: str) -> sa.Select[Any]:
    """A column of the newest message of the thread that the parameter names."""
    query = sa.select(column).where(_table.c.thread_id == sa.bindparam(thread_id))
    return query.order_by(_table.c.seq.desc()).limit(1)


_NEWEST = Prepared(_newest(_table.c.seq, "thread_id"))
# ``created_at`` never runs backwards within a thread, whatever the clocks of replicas do.
_TIMES = sa.union_all(
    sa.select(sa.bindparam("now", type_=_table.c.created_at.type).label("time")),
    sa.select(_newest(_table.c.created_at, "of_thread").subquery().c.created_at),
).subquery()
_INSERT = Prepared(
    sa.insert(_table)
    .values(created_at=sa.select(sa.func.max(_TIMES.c.time)).scalar_subquery())
    .returning(_table.c.seq, _table.c.created_at)
)
_IN_PROGRESS = Prepared(
    sa.select(_table).where(
        _table.c.run_id == sa.bindparam("run_id"), _table.c.status == "in_progress"
    )
)
_CHANGE_OPEN = Prepared(
    sa.update(_table).where(
        _table.c.id == sa.bindparam("changed_id"), _table.c.status == "in_progress"
    )
)
# Of long threads thousands are read before every first word: no more than models are shown.
_SHOWN = Prepared(
    sa.select(
        _table.c.seq.label("position"),
        _table.c.id,
        _table.c.role,
        _table.c.content,
        _table.c.run_id,
        _table.c.tokens,
    )
    .where(
        _table.c.thread_id == sa.bindparam("thread_id"),
        _table.c.seq >= sa.bindparam("first_position"),
        _table.c.seq < sa.bindparam("before"),
    )
    .order_by(_table.c.seq.desc())
    .limit(sa.bindparam("slice"))
)

_FIND = Prepared(
    sa.select(_table)
    .join(rows.threads, rows.threads.c.id == _table.c.thread_id)
    .where(
        _table.c.id == sa.bindparam("message_id"),
        _table.c.thread_id == sa.bindparam("thread_id"),
        rows.threads.c.project_id == sa.bindparam("project_id"),
    )
)
_HELD = Prepared(
    sa.select(_table.c.seq).where(
        _table.c.id == sa.bindparam("message_id"), _table.c.thread_id == sa.bindparam("thread_id")
    )
)
_DELETE = Prepared(sa.delete(_table).where(_table.c.id == sa.bindparam("message_id")))
_EDIT = Prepared(
    sa.update(_table).where(
        _table.c.id == sa.bindparam("edited_id"), _table.c.thread_id == sa.bindparam("of_thread")
    )
)
_OF_RUN = Prepared(
    sa.select(_table)
    .where(
        sa.or_(
            _table.c.run_id == sa.bindparam("run_id"),
            _table.c.added_by_run_id == sa.bindparam("run_id"),
        )
    )
    .order_by(_table.c.seq)
)
_BEYOND = Prepared(
    sa.select(_table.c.seq)
    .where(
        _table.c.thread_id == sa.bindparam("thread_id"),
        _table.c.seq >= sa.bindparam("from_position"),
    )
    .order_by(_table.c.seq)
    .offset(sa.bindparam("most"))
    .limit(1)
)


def _record(values: dict[str, Any]) -> Message:
    """Takes ``values`` for its own."""
    values["position"] = values.pop("seq")
    del values["tokens"]
    return Message(**values)


def from_draft(
    thread_id: str, draft: MessageDraft, *, now: int, added_by_run_id: str | None = None
) -> Message:
    """What a client adds is complete from the start."""
    return Message(
        id=ids.message_id(),
        thread_id=thread_id,
        created_at=now,
        completed_at=now,
        role=draft.role,
        content=draft.content,
        attachments=draft.attachments,
        metadata=draft.metadata,
        added_by_run_id=added_by_run_id,
    )


def insert(connection: Connection, message: Message) -> Message:
    """Append to the thread, whose row the caller has locked; returns it with its position, and
    created no earlier than the message before it."""
    values = {field: getattr(message, field) for field in _FIELDS}
    values["now"] = values.pop("created_at")
    values["of_thread"] = message.thread_id
    values["tokens"] = estimate_message(message.content)
    inserted = _INSERT.first(connection, values)
    assert inserted is not None, "an insert returns its row"
    return replace(message, position=inserted["seq"], created_at=inserted["created_at"])


def create(
    connection: Connection, project_id: str, thread_id: str, draft: MessageDraft, *, now: int
) -> Message:
    """Raises:
    NotFound: the project has no such thread.
    BadRequest: a run is active on it whose time is not over.
    """
    thread_lock.hold(connection, project_id, thread_id)
    active = runs.active(connection, thread_id)
    if active is not None and not active.is_overdue(now):
        raise errors.thread_locked(thread_id, active.id)
    attachments.join(connection, thread_id, [draft])
    return insert(connection, from_draft(thread_id, draft, now=now))


def get(connection: Connection, project_id: str, thread_id: str, message_id: str) -> Message:
    """Raises:
    NotFound: the project has no such thread, or the thread no such message.
    """
    place = {"message_id": message_id, "thread_id": thread_id, "project_id": project_id}
    found = _FIND.first(connection, place)
    if found is None:
        thread_lock.check(connection, project_id, thread_id)
        raise errors.no_message(message_id)
    return _record(found)


def update(
    connection: Connection,
    project_id: str,
    thread_id: str,
    message_id: str,
    changes: Mapping[str, Any],
) -> Message:
    """Apply ``changes`` (record field names) and return the result.

    Raises:
        NotFound: the project has no such thread, or the thread no such message.
        BadRequest: a change of ``content`` while a run is writing the message.
    """
    message = get(connection, project_id, thread_id, message_id)
    if changes:
        values = dict(changes)
        if "content" in values:
            if message.status == "in_progress":
                raise errors.message_in_progress(message_id)
            values["tokens"] = estimate_message(values["content"])
        connection.execute(sa.update(_table).where(_table.c.id == message_id).values(values))
    return get(connection, project_id, thread_id, message_id)


def delete(connection: Connection, project_id: str, thread_id: str, message_id: str) -> None:
    get(connection, project_id, thread_id, message_id)
    _bury(connection, thread_id, message_id)


def discard(connection: Connection, thread_id: str, message_ids: Iterable[str]) -> None:
    """Delete those of the ids that the thread holds."""
    for message_id in message_ids:
        place = {"message_id": message_id, "thread_id": thread_id}
        if _HELD.first(connection, place) is not None:
            _bury(connection, thread_id, message_id)


def _bury(connection: Connection, thread_id: str, message_id: str) -> None:
    pages.bury(connection, _table, message_id, scope=thread_id)
    _DELETE.count(connection, {"message_id": message_id})


def list_page(
    connection: Connection,
    project_id: str,
    thread_id: str,
    page: Page,
    *,
    run_id: str | None = None,
) -> Listing[Message]:
    thread_lock.check(connection, project_id, thread_id)
    filters = {"thread_id": thread_id}
    if run_id is not None:
        filters["run_id"] = run_id
    return pages.fetch(connection, _table, filters, page, scope=thread_id, record=_record)


def edit(
    connection: Connection, thread_id: str, content: Mapping[str, Sequence[JsonObject]]
) -> None:
    """Extension ``edit_messages``: new content, same id, place and run.

    Raises:
        BadRequest: ``message_not_found`` for the first id that the thread does not hold.
    """
    for number, (message_id, blocks) in enumerate(content.items()):
        changed = _EDIT.count(
            connection,
            {
                "edited_id": message_id,
                "of_thread": thread_id,
                "content": blocks,
                "tokens": estimate_message(blocks),
            },
        )
        if not changed:
            raise errors.message_to_edit_missing(message_id, f"edit_messages[{number}].id")


def close(connection: Connection, message: Message) -> bool:
    """Write how a message in progress ended; ``False`` if it had ended already."""
    values = {
        "changed_id": message.id,
        "status": message.status,
        "content": message.content,
        "incomplete_reason": message.incomplete_reason,
        "completed_at": message.completed_at,
        "incomplete_at": message.incomplete_at,
        "tokens": estimate_message(message.content),
    }
    return _CHANGE_OPEN.count(connection, values) > 0


def checkpoint(connection: Connection, message_id: str, content: Sequence[JsonObject]) -> bool:
    """Store text that is still growing; ``False`` if the message has ended or is gone."""
    return _CHANGE_OPEN.count(connection, {"changed_id": message_id, "content": content}) > 0


def by_id(connection: Connection, message_id: str) -> Message | None:
    """For the engine, which has no project."""
    row = connection.execute(sa.select(_table).where(_table.c.id == message_id)).first()
    return None if row is None else _record(row._asdict())


def in_progress(connection: Connection, run_id: str) -> Sequence[Message]:
    """The message the run is writing, if there is one."""
    return [_record(found) for found in _IN_PROGRESS.all(connection, {"run_id": run_id})]


def of_run(connection: Connection, run_id: str) -> Sequence[Message]:
    """Every message the run brought or wrote, in thread order."""
    return [_record(found) for found in _OF_RUN.all(connection, {"run_id": run_id})]


def written_by(connection: Connection, run_id: str) -> Sequence[Message]:
    """What the run itself wrote, in thread order."""
    found = connection.execute(
        sa.select(_table).where(_table.c.run_id == run_id).order_by(_table.c.seq)
    )
    return [_record(row._asdict()) for row in found]


def newest_position(connection: Connection, thread_id: str) -> int:
    """The place of the thread's last message; 0 for an empty thread."""
    newest = _NEWEST.first(connection, {"thread_id": thread_id})
    return 0 if newest is None else int(newest["seq"])


class ShownMessage(NamedTuple):
    """A message as far as models are shown it."""

    position: int
    id: str
    role: str
    content: Sequence[JsonObject]
    run_id: str | None
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What of a thread is to be seen: from ``first_position`` on, without the ``excluded`` ids, the
    newest messages that fit ``tokens`` (estimated), and the newest one at least."""

    first_position: int
    excluded: Sequence[str]
    tokens: int


class Newest(NamedTuple):
    """What is in a window, newest first. From ``from_position`` on nothing was left out of it but
    what is excluded: the oldest message, or 0 if that is the thread's first."""

    messages: Sequence[ShownMessage]
    from_position: int


def newest(connection: Connection, thread_id: str, window: Window) -> Newest:
    """Reads in bounded slices, so a long thread costs what the model's window holds and no more."""
    found: list[ShownMessage] = []
    left, before = window.tokens, _BEHIND_ALL
    while True:
        place = {"thread_id": thread_id, "first_position": window.first_position, "before": before}
        slice_found = _SHOWN.all(connection, {**place, "slice": _SLICE})
        for values in slice_found:
            before = values["position"]
            if values["id"] in window.excluded:
                continue
            left -= values["tokens"]
            if left < 0 and found:
                return Newest(found, found[-1].position)
            found.append(ShownMessage(**values))
        if len(slice_found) < _SLICE:
            oldest = found[-1].position if found else 0
            is_first = oldest == before and not window.first_position
            return Newest(found, 0 if is_first else oldest)


def are_more(connection: Connection, thread_id: str, *, from_position: int, most: int) -> bool:
    """Whether more than ``most`` messages of the thread stand at or behind a place."""
    place = {"thread_id": thread_id, "from_position": from_position, "most": most}
    return _BEYOND.first(connection, place) is not None


_SLICE = 200
_BEHIND_ALL = 2**63 - 1
