"""``assistants-server prune``: delete what nobody has touched for long. Servers may be running."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..clock import SystemClock
from ..store import pruning
from ..store.database import Database
from ..store.pruning import Scope
from . import options

_AGE = re.compile(r"(\d{1,6})([hdw])")
_SECONDS = {"h": 3600, "d": 86_400, "w": 604_800}
_BATCH = 100  # threads or files deleted in one transaction


@dataclass(frozen=True, slots=True)
class Removed:
    threads: int
    files: int


def prune(
    older_than: Annotated[
        str, typer.Option(help="Age of what is deleted: 12h, 30d, 8w.", show_default=False)
    ],
    project: Annotated[
        str | None, typer.Option(help="Of this project only.", show_default="all projects")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and delete nothing.")] = False,
    data: options.Data = None,
    database_url: options.DatabaseUrl = None,
) -> None:
    """Delete threads in which nothing has happened for so long, and old files nothing names.

    A thread goes with its messages and runs. Assistants and keys stay.
    """
    found = _AGE.fullmatch(older_than.strip())
    if found is None or not int(found[1]):
        options.give_up(f"'{older_than}' is no age: write 12h, 30d or 8w.")
    before = int(SystemClock().now()) - int(found[1]) * _SECONDS[found[2]]
    removed = options.run(_prune(Scope(before, project), dry_run, data, database_url))
    verb = "Would delete" if dry_run else "Deleted"
    typer.echo(f"{verb} {_count(removed.threads, 'thread')} and {_count(removed.files, 'file')}.")


async def _prune(scope: Scope, dry: bool, data: Path | None, database_url: str | None) -> Removed:
    async with options.opened(data, database_url, made=False) as database:
        if dry:
            threads = await database.read(pruning.count_threads, scope)
        else:
            threads = await _threads(database, scope)
        return Removed(threads, await _files(database, scope, dry))


async def _threads(database: Database, scope: Scope) -> int:
    total = 0
    while removed := await database.write(pruning.remove_threads, scope, limit=_BATCH):
        total += removed
        typer.echo(f"{_count(total, 'thread')} deleted", err=True)
    return total


async def _files(database: Database, scope: Scope, dry: bool) -> int:
    """Looks through every message once; those that come meanwhile are looked at at the end."""
    old = await database.read(pruning.old_files, scope)
    after = 0
    named: set[str] = set()
    while old:
        words, place = await database.read(pruning.named_by_messages, after)
        if place is None:
            break
        named |= words.intersection(old)
        after = place
    spare = [one for one in old if one not in named]
    if dry:
        return await database.read(pruning.unnamed_files, spare, after=after)
    total = 0
    for start in range(0, len(spare), _BATCH):
        batch = spare[start : start + _BATCH]
        total += await database.write(pruning.remove_files, batch, after=after)
    return total


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
