"""``assistants-server keys``: make, list and revoke the keys that open projects."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ..clock import SystemClock
from ..domain.records import ApiKey
from ..routes.keys import DEFAULT_PROJECT, REMEMBERED_SECONDS
from ..store import keys as store
from . import options

cli = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)

_PROJECT = re.compile(r"[A-Za-z0-9._-]{1,64}")


@cli.command()
def create(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What the key is for; it is shown in the list.")
    ],
    project: options.Project = DEFAULT_PROJECT,
    data: options.Data = None,
    database_url: options.DatabaseUrl = None,
) -> None:
    """Make a key that opens one project, and show it, this once."""
    if not name.strip() or not name.isprintable() or len(name) > 200:
        options.give_up("A key's name has 1 to 200 characters, all of them printable.")
    check_project(project)
    key, secret, first = options.run(_create(name, project, data, database_url))
    typer.echo(secret)
    typer.echo(
        f"This is {key.id}, for project {project}. It cannot be shown again. "
        f"Running servers take it {_soon()}.",
        err=True,
    )
    if first:
        typer.echo("It is the first: from now on every request needs a key.", err=True)


async def _create(
    name: str, project: str, data: Path | None, database_url: str | None
) -> tuple[ApiKey, str, bool]:
    async with options.opened(data, database_url) as database:
        first = not await database.read(store.any_exist)
        key, secret = await database.write(store.create, project, name, now=_now())
    return key, secret, first


@cli.command("list")
def list_all(data: options.Data = None, database_url: options.DatabaseUrl = None) -> None:
    """List every key of every project, without the keys themselves."""
    found = options.run(_list_all(data, database_url))
    if not found:
        typer.echo("There are no keys.", err=True)
        return
    rows = [
        (key.id, key.name, key.project_id, f"sk-…{key.hint}", _day(key.created_at), _state(key))
        for key in found
    ]
    if not sys.stdout.isatty():
        for row in rows:
            typer.echo("\t".join(row))
        return
    table = Table("id", "name", "project", "key", "made", "state", box=None)
    for row in rows:
        table.add_row(*row)
    Console().print(table, markup=False)


async def _list_all(data: Path | None, database_url: str | None) -> Sequence[ApiKey]:
    async with options.opened(data, database_url, made=False) as database:
        return await database.read(store.list_all)


@cli.command()
def revoke(
    key_id: Annotated[
        str, typer.Argument(metavar="ID", help="The key's id, as the list shows it.")
    ],
    data: options.Data = None,
    database_url: options.DatabaseUrl = None,
) -> None:
    """Make a key stop working, for good; running servers refuse it within 5 seconds."""
    key = options.run(_revoke(key_id, data, database_url))
    if key is None:
        options.give_up(f"There is no key '{key_id}'; see: assistants-server keys list")
    typer.echo(f"{key.id} ({key.name}) is revoked. Running servers refuse it {_soon()}.")


async def _revoke(key_id: str, data: Path | None, database_url: str | None) -> ApiKey | None:
    async with options.opened(data, database_url, made=False) as database:
        return await database.write(store.revoke, key_id, now=_now())


def check_project(project: str) -> None:
    if not _PROJECT.fullmatch(project):
        options.give_up(
            f"'{project}' cannot name a project: 1 to 64 letters, digits, dots, dashes, "
            "underscores."
        )


def _state(key: ApiKey) -> str:
    return "in use" if key.revoked_at is None else f"revoked {_day(key.revoked_at)}"


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d")


def _soon() -> str:
    return f"within {REMEMBERED_SECONDS:.0f} seconds"


def _now() -> int:
    return int(SystemClock().now())
