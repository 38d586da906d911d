"""Bringing dumped objects in, with their ids.

The whole input is checked before anything is stored, so a fault in the last line leaves the
database as it was, and names that line. What is there already is passed over, so an import that
was cut off is simply repeated. Messages are put into each thread in the order of their creation,
whatever order they were dumped in: OpenAI's lists give the newest first.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from sqlalchemy import Connection

from ..domain.records import File, Thread
from ..store import arrivals, files
from ..store.database import Database
from .dumps import (
    DUMPS,
    DumpedAssistant,
    DumpedContent,
    DumpedFile,
    DumpedMessage,
    DumpedThread,
)
from .exporting import FORMAT, VERSION

M = TypeVar("M", bound=BaseModel)

_BATCH = 200  # messages in one transaction


class ImportFault(Exception):
    """The input cannot be taken; the sentence names the file and the line."""


@dataclass
class Tally:
    """What an import has done: objects stored, and objects that were there already."""

    stored: dict[str, int] = field(default_factory=dict)
    present: int = 0

    def count(self, kind: str, *, new: bool) -> None:
        if new:
            self.stored[kind] = self.stored.get(kind, 0) + 1
        else:
            self.present += 1


@dataclass(frozen=True, slots=True)
class _Line:
    """Where a fault is."""

    path: Path
    number: int

    def fault(self, reason: str) -> ImportFault:
        return ImportFault(f"{self.path}, line {self.number}: {reason}.")


class _Spool:
    """Checked objects on disk until they are stored: a dump may be larger than memory."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()

    def put(self, dumped: BaseModel) -> tuple[int, int]:
        data = dumped.model_dump_json().encode()
        offset = self._file.seek(0, os.SEEK_END)
        self._file.write(data)
        return offset, len(data)

    def get(self, place: tuple[int, int], model: type[M]) -> M:
        self._file.seek(place[0])
        return model.model_validate_json(self._file.read(place[1]))

    def close(self) -> None:
        self._file.close()


@dataclass
class _Contents:
    """What the first reading found; messages and bytes by their place in the spool."""

    spool: _Spool
    assistants: list[DumpedAssistant] = field(default_factory=list)
    threads: dict[str, DumpedThread] = field(default_factory=dict)
    files: list[tuple[DumpedFile, list[tuple[int, int]]]] = field(default_factory=list)
    messages: dict[str, list[tuple[int, tuple[int, int]]]] = field(default_factory=dict)


async def import_files(
    database: Database,
    project_id: str,
    paths: list[Path],
    *,
    progress: Callable[[str, int], None],
) -> Tally:
    """Store the objects of ``paths`` in the project.

    Args:
        progress: told what is going on ("checking", "storing") and how many objects are done.

    Raises:
        ImportFault: a line is not what it should be; nothing was stored.
        DatabaseError: the database failed; repeating the import goes on where it stopped.
    """
    contents = _Contents(_Spool())
    try:
        done = 0
        for path in paths:
            for line, value in _objects(path):
                _check(contents, line, value)
                done += 1
                progress("checking", done)
        return await _Storing(database, project_id, progress).store(contents)
    finally:
        contents.spool.close()


class _Storing:
    def __init__(
        self, database: Database, project_id: str, progress: Callable[[str, int], None]
    ) -> None:
        self._database = database
        self._project_id = project_id
        self._progress = progress
        self._tally = Tally()

    async def store(self, contents: _Contents) -> Tally:
        for assistant in contents.assistants:
            await self._one("assistant", arrivals.assistant, assistant.record(self._project_id))
        for file, chunks in contents.files:
            await self._file(contents.spool, file.record(self._project_id), chunks)
        for thread_id in {**contents.threads, **contents.messages}:
            dumped = contents.threads.get(thread_id)
            messages = _in_order(contents.messages.get(thread_id, []))
            thread = (
                dumped.record(self._project_id)
                if dumped is not None
                # Threads could not be listed, so many dumps hold their messages alone.
                else Thread(id=thread_id, project_id=self._project_id, created_at=messages[0][0])
            )
            await self._one("thread", arrivals.thread, thread)
            for start in range(0, len(messages), _BATCH):
                batch = [
                    contents.spool.get(place, DumpedMessage).record()
                    for _, place in messages[start : start + _BATCH]
                ]
                for new in await self._write(arrivals.add_messages, self._project_id, batch):
                    self._count("message", new=new)
        return self._tally

    async def _file(self, spool: _Spool, file: File, chunks: list[tuple[int, int]]) -> None:
        """Bytes before the object that shows them, so that no half file is ever visible."""
        new = await self._write(arrivals.begin_file, file)
        if new:
            size = number = 0
            for place in chunks:
                data = spool.get(place, DumpedContent).decoded()
                await self._database.write(files.append, file.id, number, data)
                size, number = size + len(data), number + 1
            await self._database.write(
                files.finish,
                file.project_id,
                file.id,
                size=size,
                purpose=file.purpose,
                expires_at=file.expires_at,
            )
        self._count("file", new=new)

    async def _one(self, kind: str, function: Callable[..., bool], record: Any) -> None:
        self._count(kind, new=await self._write(function, record))

    async def _write(self, function: Callable[..., Any], *args: Any) -> Any:
        def call(connection: Connection) -> Any:
            return function(connection, *args)

        try:
            return await self._database.write(call)
        except arrivals.Taken as taken:
            raise ImportFault(str(taken)) from None

    def _count(self, kind: str, *, new: bool) -> None:
        self._tally.count(kind, new=new)
        self._progress("storing", self._tally.present + sum(self._tally.stored.values()))


def _in_order(
    messages: list[tuple[int, tuple[int, int]]],
) -> list[tuple[int, tuple[int, int]]]:
    """By creation; within one second as they were dumped, read backwards if newest came first."""
    if messages and messages[0][0] > messages[-1][0]:
        messages = messages[::-1]
    return sorted(messages, key=lambda message: message[0])


def _objects(path: Path) -> Iterator[tuple[_Line, dict[str, Any]]]:
    """Every object of a file: JSON lines, or one JSON document (an object, a list, a list page)."""
    try:
        with path.open("rb") as lines:
            for number, text in enumerate(lines, start=1):
                if not text.strip():
                    continue
                line = _Line(path, number)
                try:
                    value = orjson.loads(text)
                except orjson.JSONDecodeError as error:
                    if number == 1:  # pretty-printed: one document over many lines
                        yield from _document(path)
                        return
                    raise line.fault(f"not JSON ({error.msg})") from None
                yield from _flat(line, value)
    except OSError as error:
        raise ImportFault(f"{path}: {error.strerror}.") from None


def _document(path: Path) -> Iterator[tuple[_Line, dict[str, Any]]]:
    data = path.read_bytes()
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise _Line(path, error.lineno).fault(f"not JSON ({error.msg})") from None
    yield from _flat(_Line(path, 1), value)


def _flat(line: _Line, value: Any) -> Iterator[tuple[_Line, dict[str, Any]]]:
    if isinstance(value, dict) and value.get("object") == "list":
        value = value.get("data")
    if isinstance(value, list):
        for item in value:
            yield from _flat(line, item)
    elif isinstance(value, dict):
        yield line, value
    else:
        raise line.fault("expected an object or a list of objects")


def _check(contents: _Contents, line: _Line, value: dict[str, Any]) -> None:
    kind = value.get("object")
    if kind == FORMAT:
        if value.get("version") != VERSION:
            raise line.fault(f"an export of version {value.get('version')} is not known here")
        return
    model = DUMPS.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise line.fault(f"objects of kind {kind!r} cannot be imported")
    try:
        dumped = model.model_validate(value)
        if isinstance(dumped, DumpedContent):
            dumped.decoded()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise line.fault(f"{kind}, {where}: {first['msg']}") from None
    except ValueError as error:
        raise line.fault(f"{kind}: {error}") from None
    if isinstance(dumped, DumpedAssistant):
        contents.assistants.append(dumped)
    elif isinstance(dumped, DumpedThread):
        contents.threads[dumped.id] = dumped
    elif isinstance(dumped, DumpedFile):
        contents.files.append((dumped, []))
    elif isinstance(dumped, DumpedMessage):
        places = contents.messages.setdefault(dumped.thread_id, [])
        places.append((dumped.created_at, contents.spool.put(dumped)))
    elif isinstance(dumped, DumpedContent):
        if not contents.files or contents.files[-1][0].id != dumped.file_id:
            raise line.fault(f"content of {dumped.file_id} must follow its file")
        chunks = contents.files[-1][1]
        if dumped.number != len(chunks):
            raise line.fault(f"content {dumped.number} of {dumped.file_id} is out of order")
        chunks.append(contents.spool.put(dumped))
