"""``assistants-server migrate``: bring the database to this version, without serving."""

from __future__ import annotations

from pathlib import Path

import typer

from ..store import schema
from . import options


def migrate(data: options.Data = None, database_url: options.DatabaseUrl = None) -> None:
    """Bring the database's tables up to date; serving does so by itself."""
    known = options.settings({"data": data, "database_url": database_url})
    revision = options.run(_migrate(data, database_url))
    typer.echo(f"The database in {options.place(known)} is at revision {revision}.")


async def _migrate(data: Path | None, database_url: str | None) -> str | None:
    async with options.opened(data, database_url) as database:
        return await database.read(schema.current)
