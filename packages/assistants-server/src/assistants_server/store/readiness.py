"""Whether the database can do its work, for whoever decides if a server is sent requests."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection

from . import rows
from .database_errors import DatabaseError

ROOM = 1024 * 1024
"""Bytes that must be free beside a SQLite file. On a full disk small writes may still find room in
the log that is there, while large ones are refused."""

_table = rows.tombstones


def check(connection: Connection, *, by_writing: bool) -> None:
    """Return if a transaction can be stored.

    ``by_writing`` is the proof: that a disk was remounted read-only or has a quota, or that
    PostgreSQL is a standby now, is not seen before something is written.

    Raises:
        DatabaseError: with the reason.
    """
    file = connection.engine.url.database if connection.dialect.name == "sqlite" else None
    if file is not None and shutil.disk_usage(Path(file).parent).free < ROOM:
        raise DatabaseError("The disk that holds the database has less than 1 MiB left.")
    if not by_writing:
        connection.execute(sa.select(_table.c.id).limit(1))
        return
    # Taken away in the same transaction, so nobody ever sees it; it is written all the same.
    row = secrets.token_hex(16)
    connection.execute(sa.insert(_table).values(id=row, scope=row, created_at=0, seq=0))
    connection.execute(sa.delete(_table).where(_table.c.id == row))
