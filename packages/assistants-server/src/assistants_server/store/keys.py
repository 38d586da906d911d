"""API keys: each belongs to a project, and is stored as a digest only."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from .. import ids
from ..domain.records import ApiKey
from . import rows

_table = rows.api_keys


def _record(row: Row[Any]) -> ApiKey:
    values = row._asdict()
    del values["seq"], values["digest"]
    return ApiKey(**values)


def _digest(secret: str) -> str:
    return sha256(secret.encode(errors="replace")).hexdigest()


def create(connection: Connection, project_id: str, name: str, *, now: int) -> tuple[ApiKey, str]:
    """A new key, and its secret, which nothing can show again."""
    secret = ids.secret()
    key = ApiKey(
        id=ids.key_id(), project_id=project_id, created_at=now, name=name, hint=secret[-4:]
    )
    values = {field: getattr(key, field) for field in ApiKey.__slots__}
    connection.execute(sa.insert(_table).values(**values, digest=_digest(secret)))
    return key, secret


def list_all(connection: Connection) -> Sequence[ApiKey]:
    """Every key of every project, revoked ones too, oldest first."""
    return [_record(row) for row in connection.execute(sa.select(_table).order_by(_table.c.seq))]


def revoke(connection: Connection, key_id: str, *, now: int) -> ApiKey | None:
    """The key stops working; ``None`` if there is no such key. A second time changes nothing."""
    connection.execute(
        sa.update(_table)
        .where(_table.c.id == key_id, _table.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    row = connection.execute(sa.select(_table).where(_table.c.id == key_id)).first()
    return None if row is None else _record(row)


def project_of(connection: Connection, secret: str) -> str | None:
    """The project that the secret opens, if it is a key and not revoked."""
    project: str | None = connection.execute(
        sa.select(_table.c.project_id).where(
            _table.c.digest == _digest(secret), _table.c.revoked_at.is_(None)
        )
    ).scalar()
    return project


def any_exist(connection: Connection) -> bool:
    """Whether keys are in use at all: also when every one of them has been revoked."""
    return connection.execute(sa.select(_table.c.seq).limit(1)).first() is not None
