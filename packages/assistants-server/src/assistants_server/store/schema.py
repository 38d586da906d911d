"""Bringing a database to this version's schema, at every start.

Alembic owns the migrations (``migrations/versions``, one file a change). It is imported only when
there is something to do, because it takes longer to import than the rest of a start.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from .database_errors import DatabaseError

REVISIONS = ("0001", "0002", "0003", "0004")
"""All that this version knows, in order; a test compares them with the migrations."""

HEAD = REVISIONS[-1]

_LOCK = 0x617373697374  # an arbitrary key for PostgreSQL's advisory locks ("assist")


def current(connection: Connection) -> str | None:
    """The revision of this database, ``None`` for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(
        text("SELECT version_num FROM alembic_version")
    ).scalar_one_or_none()
    return revision


def upgrade(connection: Connection) -> None:
    """Apply the missing migrations inside the caller's transaction.

    Two processes that start at once take turns: SQLite's write lock, or an advisory lock.

    Raises:
        DatabaseError: the database is of a newer version, which this one must not write to.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    revision = current(connection)
    if revision == HEAD:
        return
    if revision is not None and revision not in REVISIONS:
        raise DatabaseError(
            f"The database is at revision {revision}, of a newer assistants-server than this one "
            f"(which knows {HEAD}): start that version, or restore the backup made before it."
        )
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
