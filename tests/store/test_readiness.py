"""What is asked of a database before its server is sent requests."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from assistants_server.store import readiness, rows
from assistants_server.store.database import Database, DatabaseError


@pytest.mark.parametrize("by_writing", [True, False])
async def test_a_database_that_is_well_is_ready_and_keeps_nothing(
    database: Database, by_writing: bool
) -> None:
    await database.write(readiness.check, by_writing=by_writing)
    everything = sa.select(rows.tombstones)
    assert await database.read(lambda connection: connection.execute(everything).all()) == []


async def test_a_database_that_is_read_only_is_found_out_by_writing(database: Database) -> None:
    def read_only(connection: Connection) -> None:
        """As a standby is, or a file on a disk that was remounted."""
        on_sqlite = connection.dialect.name == "sqlite"
        connection.execute(
            sa.text("PRAGMA query_only=ON" if on_sqlite else "SET TRANSACTION READ ONLY")
        )
        readiness.check(connection, by_writing=False)
        readiness.check(connection, by_writing=True)

    with pytest.raises(DatabaseError, match="it is read-only"):
        await database.write(read_only)
