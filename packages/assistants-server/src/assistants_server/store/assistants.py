"""Assistants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from .. import errors
from ..domain.records import Assistant, Page
from . import pages, rows
from .pages import Listing
from .prepared import Prepared

_table = rows.assistants

_ONE = Prepared(
    sa.select(_table).where(
        _table.c.id == sa.bindparam("assistant_id"),
        _table.c.project_id == sa.bindparam("project_id"),
    )
)


def _record(values: dict[str, Any]) -> Assistant:
    del values["seq"]
    return Assistant(**values)


def _values(assistant: Assistant) -> dict[str, Any]:
    return {field: getattr(assistant, field) for field in Assistant.__slots__}


def insert(connection: Connection, assistant: Assistant) -> Assistant:
    connection.execute(sa.insert(_table).values(_values(assistant)))
    return assistant


def get(connection: Connection, project_id: str, assistant_id: str) -> Assistant:
    found = _ONE.first(connection, {"assistant_id": assistant_id, "project_id": project_id})
    if found is None:
        raise errors.no_assistant(assistant_id)
    return _record(found)


def update(
    connection: Connection, project_id: str, assistant_id: str, changes: Mapping[str, Any]
) -> Assistant:
    """Apply ``changes`` (record field names) and return the result."""
    get(connection, project_id, assistant_id)
    if changes:
        connection.execute(
            sa.update(_table).where(_table.c.id == assistant_id).values(dict(changes))
        )
    return get(connection, project_id, assistant_id)


def delete(connection: Connection, project_id: str, assistant_id: str) -> None:
    """Runs of the assistant go on: they carry copies of all they need."""
    get(connection, project_id, assistant_id)
    pages.bury(connection, _table, assistant_id, scope=project_id)
    connection.execute(sa.delete(_table).where(_table.c.id == assistant_id))


def list_page(connection: Connection, project_id: str, page: Page) -> Listing[Assistant]:
    mine = {"project_id": project_id}
    return pages.fetch(connection, _table, mine, page, scope=project_id, record=_record)
