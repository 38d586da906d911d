"""Assistants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from .. import errors
from ..domain.records import Assistant, Page
from . import pages, rows
from .pages import Listing

_table = rows.assistants

_ONE = sa.select(_table).where(
    _table.c.id == sa.bindparam("assistant_id"), _table.c.project_id == sa.bindparam("project_id")
)


def _record(row: Row[Any]) -> Assistant:
    values = row._asdict()
    del values["seq"]
    return Assistant(**values)


def _values(assistant: Assistant) -> dict[str, Any]:
    return {field: getattr(assistant, field) for field in Assistant.__slots__}


def _find(connection: Connection, project_id: str, assistant_id: str) -> Row[Any]:
    place = {"assistant_id": assistant_id, "project_id": project_id}
    row = connection.execute(_ONE, place).first()
    if row is None:
        raise errors.no_assistant(assistant_id)
    return row


def insert(connection: Connection, assistant: Assistant) -> Assistant:
    connection.execute(sa.insert(_table).values(_values(assistant)))
    return assistant


def get(connection: Connection, project_id: str, assistant_id: str) -> Assistant:
    return _record(_find(connection, project_id, assistant_id))


def any_exist(connection: Connection) -> bool:
    """Also a question that any database can answer which works at all."""
    return connection.execute(sa.select(_table.c.seq).limit(1)).first() is not None


def update(
    connection: Connection, project_id: str, assistant_id: str, changes: Mapping[str, Any]
) -> Assistant:
    """Apply ``changes`` (record field names) and return the result."""
    _find(connection, project_id, assistant_id)
    if changes:
        connection.execute(
            sa.update(_table).where(_table.c.id == assistant_id).values(dict(changes))
        )
    return get(connection, project_id, assistant_id)


def delete(connection: Connection, project_id: str, assistant_id: str) -> None:
    """Runs of the assistant go on: they carry copies of all they need."""
    row = _find(connection, project_id, assistant_id)
    pages.bury(connection, row, scope=project_id)
    connection.execute(sa.delete(_table).where(_table.c.id == assistant_id))


def list_page(connection: Connection, project_id: str, page: Page) -> Listing[Assistant]:
    query = sa.select(_table).where(_table.c.project_id == project_id)
    return pages.fetch(connection, _table, query, page, scope=project_id, record=_record)
