"""``assistants-server export`` and ``import``: a project's objects as JSON lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.console import Console
from rich.status import Status

from ..clock import SystemClock
from ..routes.keys import DEFAULT_PROJECT
from ..transfer.contents import ImportFault
from ..transfer.exporting import ExportFault, export, is_object
from ..transfer.importing import Tally, import_files
from . import options
from .keys import check_project

_EVERY = 10_000  # objects between two lines of progress where there is no terminal


def export_objects(
    project: options.Project = DEFAULT_PROJECT,
    thread: Annotated[
        list[str] | None,
        typer.Option(help="Only this thread and its messages; may be repeated.", metavar="ID"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write.", show_default="standard output")
    ] = None,
    data: options.Data = None,
    database_url: options.DatabaseUrl = None,
) -> None:
    """Write a project's assistants, files, threads and messages as JSON lines."""
    check_project(project)
    if out is None and sys.stdout.isatty():
        options.give_up("An export is not for reading: give --out FILE, or send it through a pipe.")
    with _target(out) as target:
        try:
            count = options.run(_export(target, project, thread, data, database_url))
        except ExportFault as fault:
            options.give_up(str(fault))
    typer.echo(f"Exported {_objects(count)}.", err=True)


async def _export(
    target: BinaryIO,
    project: str,
    thread_ids: Sequence[str] | None,
    data: Path | None,
    database_url: str | None,
) -> int:
    count = -1  # the first line is no object
    async with options.opened(data, database_url, made=False) as database:
        with _progress() as tell:
            async for line in export(database, project, thread_ids=thread_ids or None):
                target.write(line)
                if is_object(line):
                    count += 1
                    tell("exporting", count)
    return count


def import_objects(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE…", help="Exports, or dumps of OpenAI's objects, as JSON."),
    ],
    project: options.Project = DEFAULT_PROJECT,
    data: options.Data = None,
    database_url: options.DatabaseUrl = None,
) -> None:
    """Store exported or dumped objects, with their ids; what is there already stays as it is.

    Nothing is stored unless every object can be. An import that was interrupted is repeated.
    """
    check_project(project)
    try:
        tally = options.run(_import(files, project, data, database_url))
    except ImportFault as fault:
        options.give_up(str(fault))
    typer.echo(_said(tally))


async def _import(
    files: Sequence[Path], project: str, data: Path | None, database_url: str | None
) -> Tally:
    async with options.opened(data, database_url) as database:
        with _progress() as tell:
            now = int(SystemClock().now())
            return await import_files(database, project, files, now=now, progress=tell)


def _said(tally: Tally) -> str:
    stored = ", ".join(f"{_objects(n, kind)}" for kind, n in tally.stored.items()) or "nothing"
    said = f"Imported {stored}."
    if tally.present:
        said += f" {_objects(tally.present)} had been there already."
    if tally.without_bytes:
        said += (
            f" Left out {_objects(tally.without_bytes, 'file')} whose bytes are not in the dump."
        )
    return said


def _objects(count: int, noun: str = "object") -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


@contextmanager
def _target(out: Path | None) -> Iterator[BinaryIO]:
    """Where the lines go. A file appears when it is whole."""
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    unfinished = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        try:
            with unfinished.open("xb") as file:
                yield file
            unfinished.replace(out)
        except OSError as error:
            options.give_up(f"Cannot write {out}: {error.strerror}.")
    finally:
        unfinished.unlink(missing_ok=True)


class _Telling:
    """How far the work is: one line that changes on a terminal, a line now and then elsewhere."""

    def __init__(self, status: Status | None) -> None:
        self._status = status
        self._doing = ""

    def __call__(self, doing: str, count: int) -> None:
        if self._status is not None:
            if count % 100 == 0 or doing != self._doing:
                self._status.update(f"{doing}: {_objects(count)}")
        elif count % _EVERY == 0 and count:
            typer.echo(f"{doing}: {_objects(count)}", err=True)
        self._doing = doing


@contextmanager
def _progress() -> Iterator[_Telling]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Telling(None)
        return
    with console.status("starting") as status:
        yield _Telling(status)
