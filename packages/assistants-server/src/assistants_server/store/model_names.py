"""The model names that a project replaces, beside those that the settings replace for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy import Connection

from . import rows

_table = rows.model_names


def read(connection: Connection) -> dict[str, dict[str, str]]:
    """The map of every project that has one."""
    maps: dict[str, dict[str, str]] = {}
    for row in connection.execute(sa.select(_table).order_by(_table.c.project_id, _table.c.name)):
        maps.setdefault(row.project_id, {})[row.name] = row.target
    return maps


def add(connection: Connection, project_id: str, names: Mapping[str, str]) -> None:
    """Put ``names`` into the project's map; a name that is there gets its new target."""
    _delete(connection, project_id, list(names))
    connection.execute(
        sa.insert(_table),
        [
            {"project_id": project_id, "name": name, "target": target}
            for name, target in names.items()
        ],
    )


def remove(connection: Connection, project_id: str, names: Sequence[str]) -> Sequence[str]:
    """Take ``names`` out of the project's map, unless some are not there: returns those."""
    known = read(connection).get(project_id, {})
    unknown = [name for name in names if name not in known]
    if not unknown:
        _delete(connection, project_id, names)
    return unknown


def _delete(connection: Connection, project_id: str, names: Sequence[str]) -> None:
    connection.execute(
        sa.delete(_table).where(_table.c.project_id == project_id, _table.c.name.in_(names))
    )
