"""Removing what nobody has touched for long: threads first, then files that nothing names any more.

Each call is one short transaction over a bounded number of objects, so that a server at work on the
same database hardly notices.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection

from ..domain.run_state import ACTIVE
from . import pages, rows

_WORD = re.compile(r"[A-Za-z0-9_-]+")
_SLICE = 1000  # rows of text looked through in one transaction


@dataclass(frozen=True, slots=True)
class Scope:
    """What is older than ``before``, of one project or of all."""

    before: int
    project_id: str | None = None


def _idle(scope: Scope) -> tuple[ColumnElement[bool], ...]:
    """A thread in which nothing was made since, and nothing is under way."""
    threads, messages, runs = rows.threads.c, rows.messages.c, rows.runs.c
    recent_message = sa.exists().where(
        messages.thread_id == threads.id, messages.created_at >= scope.before
    )
    recent_run = sa.exists().where(
        runs.thread_id == threads.id,
        sa.or_(runs.created_at >= scope.before, runs.status.in_(ACTIVE)),
    )
    conditions = (threads.created_at < scope.before, ~recent_message, ~recent_run)
    if scope.project_id is None:
        return conditions
    return (*conditions, threads.project_id == scope.project_id)


def count_threads(connection: Connection, scope: Scope) -> int:
    query = sa.select(sa.func.count()).select_from(rows.threads).where(*_idle(scope))
    return connection.execute(query).scalar_one()


def remove_threads(connection: Connection, scope: Scope, *, limit: int) -> int:
    """Delete up to ``limit`` idle threads with all that is in them; returns how many."""
    table = rows.threads
    found = list(
        connection.execute(
            sa.select(table.c.id)
            .where(*_idle(scope))
            .order_by(table.c.seq)
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).scalars()
    )
    for thread_id in found:
        pages.forget(connection, scope=thread_id)
    connection.execute(sa.delete(table).where(table.c.id.in_(found)))
    return len(found)


def old_files(connection: Connection, scope: Scope) -> Sequence[str]:
    table = rows.files
    query = sa.select(table.c.id).where(table.c.complete, table.c.created_at < scope.before)
    if scope.project_id is not None:
        query = query.where(table.c.project_id == scope.project_id)
    return list(connection.execute(query).scalars())


def named_by_messages(connection: Connection, after: int) -> tuple[set[str], int | None]:
    """Every word in the next messages that could be a file's id, and where to go on."""
    table = rows.messages
    found = connection.execute(
        sa.select(
            table.c.seq,
            sa.cast(table.c.content, sa.Text).label("content"),
            sa.cast(table.c.attachments, sa.Text).label("attachments"),
        )
        .where(table.c.seq > after)
        .order_by(table.c.seq)
        .limit(_SLICE)
    ).all()
    words: set[str] = set()
    for row in found:
        words.update(_WORD.findall(row.content), _WORD.findall(row.attachments))
    return words, found[-1].seq if found else None


def remove_files(connection: Connection, file_ids: Sequence[str], *, after: int) -> int:
    """Delete those of the files that nothing names; returns how many.

    Args:
        after: up to which message has been looked through already.
    """
    named, _ = _named_since(connection, after)
    gone = [one for one in file_ids if one not in named]
    removed = connection.execute(sa.delete(rows.files).where(rows.files.c.id.in_(gone)))
    return removed.rowcount


def unnamed_files(connection: Connection, file_ids: Sequence[str], *, after: int) -> int:
    """How many :func:`remove_files` would delete."""
    named, _ = _named_since(connection, after)
    return sum(one not in named for one in file_ids)


def _named_since(connection: Connection, after: int) -> tuple[set[str], int]:
    """Words of assistants and threads, and of the messages that have come meanwhile."""
    named: set[str] = set()
    for table in (rows.assistants, rows.threads):
        for (resources,) in connection.execute(sa.select(sa.cast(table.c.tool_resources, sa.Text))):
            named.update(_WORD.findall(resources))
    while True:
        words, place = named_by_messages(connection, after)
        if place is None:
            return named, after
        named |= words
        after = place
