"""What all commands share: where the data is, the settings, and one plain sentence for a failure.

An option wins over its environment variable ``ASSISTANTS_…``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer

from ..errors import ApiError
from ..settings import Settings, UnusableSetting
from ..store.database import Database, is_there

T = TypeVar("T")

Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the SQLite database and of the local model's weights.",
        show_default="in your user data folder",
    ),
]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        help="postgresql://… or sqlite:////path/of/a/file",
        show_default="assistants.db in the data folder",
    ),
]
Project = Annotated[
    str, typer.Option(help="Project that the objects belong to; a key opens one project.")
]


def settings(given: Mapping[str, Any]) -> Settings:
    """The settings with those options that were given (are not ``None``)."""
    options = {name: value for name, value in given.items() if value is not None}
    try:
        return Settings.read(**options)
    except UnusableSetting as error:
        give_up(str(error))


def place(known: Settings) -> str:
    """Where the data is, fit to be shown: a URL may hold a password, and so may its parameters."""
    if known.database_url is None:
        return str(known.data)
    return known.database_url.rpartition("@")[2].partition("?")[0]


@asynccontextmanager
async def opened(
    data: Path | None, database_url: str | None, *, made: bool = True
) -> AsyncIterator[Database]:
    """The database that the options name, closed again at the end.

    ``made``: one that is not there is made; otherwise it is refused, because a command for objects
    that are there was given the wrong place.
    """
    known = settings({"data": data, "database_url": database_url})
    if not made and not is_there(known.database):
        give_up(
            f"There is no database at {place(known)}; --data or --database-url names another place."
        )
    database = await Database.open(known.database)
    try:
        yield database
    finally:
        await database.close()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Do the command's work. What goes wrong is said in a sentence; so is being interrupted."""
    try:
        return asyncio.run(work)
    except ApiError as error:
        give_up(error.message)
    except KeyboardInterrupt:
        stopped()


def stopped() -> NoReturn:
    """Whoever ran the command interrupted it. What was acknowledged is stored."""
    typer.echo("Stopped.", err=True)
    raise typer.Exit(130)


def give_up(sentence: str) -> NoReturn:
    typer.echo(sentence, err=True)
    raise typer.Exit(1)
