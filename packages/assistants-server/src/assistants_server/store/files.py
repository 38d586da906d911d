"""Uploaded files and their bytes, which live in the database in chunks.

A file is invisible until :func:`finish`: an upload that breaks off leaves nothing that a client
can see, and :func:`sweep` removes what it left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from .. import errors
from ..domain.records import File, Page
from . import pages, rows
from .pages import Listing

CHUNK = 256 * 1024
"""Bytes in a chunk; only the last one of a file is shorter."""

MOST_SHOWN = 48 * 1024 * 1024
"""Bytes of uploaded images that one question to a model carries. No endpoint takes more, and they
are held in memory, several times over, until it has them."""

_table = rows.files
_chunks = rows.file_chunks


def _record(values: dict[str, Any]) -> File:
    del values["seq"], values["complete"]
    return File(**values)


def begin(connection: Connection, file: File) -> None:
    values = {field: getattr(file, field) for field in File.__slots__}
    connection.execute(sa.insert(_table).values(**values, complete=False))


def append(connection: Connection, file_id: str, number: int, data: bytes) -> None:
    connection.execute(sa.insert(_chunks).values(file_id=file_id, number=number, data=data))


def finish(
    connection: Connection,
    project_id: str,
    file_id: str,
    *,
    size: int,
    purpose: str,
    expires_at: int | None = None,
) -> File:
    """The upload is whole: show it. A form may tell what the file is for after its bytes."""
    connection.execute(
        sa.update(_table)
        .where(_table.c.id == file_id)
        .values(bytes=size, purpose=purpose, expires_at=expires_at, complete=True)
    )
    return get(connection, project_id, file_id)


def abort(connection: Connection, file_id: str) -> None:
    connection.execute(sa.delete(_table).where(_table.c.id == file_id, ~_table.c.complete))


def get(connection: Connection, project_id: str, file_id: str) -> File:
    """Raises:
    NotFound: the project has no such file.
    """
    row = connection.execute(
        sa.select(_table).where(
            _table.c.id == file_id, _table.c.project_id == project_id, _table.c.complete
        )
    ).first()
    if row is None:
        raise errors.no_file(file_id)
    return _record(row._asdict())


def delete(connection: Connection, project_id: str, file_id: str) -> None:
    get(connection, project_id, file_id)
    pages.bury(connection, _table, file_id, scope=project_id)
    connection.execute(sa.delete(_table).where(_table.c.id == file_id))


def list_page(
    connection: Connection, project_id: str, page: Page, *, purpose: str | None
) -> Listing[File]:
    filters: dict[str, Any] = {"project_id": project_id, "complete": True}
    if purpose is not None:
        filters["purpose"] = purpose
    return pages.fetch(connection, _table, filters, page, scope=project_id, record=_record)


def read_chunk(connection: Connection, file_id: str, number: int) -> bytes | None:
    """One chunk; ``None`` behind the last."""
    data: bytes | None = connection.execute(
        sa.select(_chunks.c.data).where(_chunks.c.file_id == file_id, _chunks.c.number == number)
    ).scalar()
    return data


def read(
    connection: Connection, project_id: str, file_ids: Sequence[str], *, most: int = MOST_SHOWN
) -> dict[str, bytes]:
    """Whole contents of those of the files that the project has, for the model to see: of the first
    ones that are no more than ``most`` bytes together."""
    sizes = connection.execute(
        sa.select(_table.c.id, _table.c.bytes).where(
            _table.c.id.in_(file_ids), _table.c.project_id == project_id, _table.c.complete
        )
    )
    size_of: dict[str, int] = {row.id: row.bytes for row in sizes}
    parts: dict[str, list[bytes]] = {}
    for file_id in dict.fromkeys(file_ids):
        if size_of.get(file_id, most + 1) <= most:
            most -= size_of[file_id]
            parts[file_id] = []
    found = connection.execute(
        sa.select(_chunks.c.file_id, _chunks.c.data)
        .where(_chunks.c.file_id.in_(parts))
        .order_by(_chunks.c.file_id, _chunks.c.number)
    )
    for file_id, data in found:
        parts[file_id].append(data)
    return {file_id: b"".join(chunks) for file_id, chunks in parts.items()}


def sweep(connection: Connection, *, now: int, unfinished_before: int) -> int:
    """Remove expired files and what broken uploads left; returns how many."""
    removed = connection.execute(
        sa.delete(_table).where(
            sa.or_(
                _table.c.expires_at <= now,
                sa.and_(~_table.c.complete, _table.c.created_at < unfinished_before),
            )
        )
    )
    return removed.rowcount
