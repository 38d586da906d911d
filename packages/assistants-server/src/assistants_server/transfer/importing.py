"""Bringing dumped objects in, with their ids.

The whole input is checked before anything is stored, so a fault in the last line leaves the
database as it was, and names that line. What is there already is passed over, so an import that
was cut off is simply repeated. Messages are put into each thread in the order of their creation,
whatever order they were dumped in: OpenAI's lists give the newest first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..domain.records import Thread
from ..store import arrivals, files
from ..store.database import Database
from .contents import Contents, FilePlace, ImportFault, Place
from .dumps import DumpedAssistant, DumpedContent, DumpedFile, DumpedMessage, DumpedThread

_BATCH = 200  # messages in one transaction, ids in one question

T = TypeVar("T")

Progress = Callable[[str, int], None]


@dataclass
class Tally:
    """What an import has done."""

    stored: dict[str, int] = field(default_factory=dict)
    present: int = 0
    """Objects that were there already."""
    without_bytes: int = 0
    """Files whose bytes the dump does not hold; they are left out."""

    def count(self, kind: str, *, new: bool) -> None:
        if new:
            self.stored[kind] = self.stored.get(kind, 0) + 1
        else:
            self.present += 1

    @property
    def done(self) -> int:
        return self.present + sum(self.stored.values()) + self.without_bytes


async def import_files(
    database: Database,
    project_id: str,
    paths: Sequence[Path],
    *,
    now: int,
    progress: Progress,
) -> Tally:
    """Store the objects of ``paths`` in the project.

    Args:
        progress: told what is going on ("checking", "storing") and how many objects are done.

    Raises:
        ImportFault: a line is not what it should be, or names what is not the project's; nothing
            was stored.
        ApiError: the database failed, or a run is active on a thread that messages are for;
            repeating the import goes on where it stopped.
    """
    contents = Contents()
    try:
        contents.read(paths, progress=partial(progress, "checking"))
        await _check_ids(database, project_id, contents)
        return await _Storing(database, project_id, contents, now, progress).store()
    finally:
        contents.close()


async def _check_ids(database: Database, project_id: str, contents: Contents) -> None:
    """Nothing of the input belongs to another project."""
    threads = {
        thread_id: next(iter(messages.values()))
        for thread_id, messages in contents.messages.items()
    }
    threads.update(contents.threads)
    kinds: Mapping[arrivals.Kind, Mapping[str, Place]] = {
        "assistant": contents.assistants,
        "file": {name: file.place for name, file in contents.files.items()},
        "thread": threads,
    }
    for kind, places in kinds.items():
        for batch in _batches(list(places)):
            try:
                await database.read(arrivals.check, kind, project_id, batch)
            except arrivals.Taken as taken:
                raise places[taken.object_id].line.fault(taken.reason) from None
    for thread_id, messages in contents.messages.items():
        for batch in _batches(list(messages)):
            try:
                await database.read(arrivals.check_messages, thread_id, batch)
            except arrivals.Taken as taken:
                raise messages[taken.object_id].line.fault(taken.reason) from None


class _Storing:
    def __init__(
        self,
        database: Database,
        project_id: str,
        contents: Contents,
        now: int,
        progress: Progress,
    ) -> None:
        self._database = database
        self._project_id = project_id
        self._contents = contents
        self._now = now
        self._progress = progress
        self._tally = Tally()

    async def store(self) -> Tally:
        contents = self._contents
        try:
            for place in contents.in_order(list(contents.assistants.values())):
                assistant = contents.get(place, DumpedAssistant).record(self._project_id)
                new = await self._database.write(arrivals.add_assistant, assistant)
                self._count("assistant", new=new)
            by_place = {file.place: file for file in contents.files.values()}
            for place in contents.in_order(list(by_place)):
                await self._store_file(by_place[place])
            for created_at, thread_id in self._threads():
                await self._store_thread(created_at, thread_id)
        except arrivals.Taken as taken:  # since the check
            raise ImportFault(f"Not everything was stored: {taken.reason}.") from None
        return self._tally

    def _threads(self) -> list[tuple[int, str]]:
        """Oldest first, by their time of creation and id."""
        contents = self._contents
        ids = {place: thread_id for thread_id, place in contents.threads.items()}
        threads = [
            (place.created_at, ids[place])
            for place in contents.in_order(list(contents.threads.values()))
        ]
        # Threads could not be listed, so many dumps hold their messages alone.
        threads += [
            (min(place.created_at for place in messages.values()), thread_id)
            for thread_id, messages in contents.messages.items()
            if thread_id not in contents.threads
        ]
        return sorted(threads, key=lambda thread: thread[0])

    async def _store_thread(self, created_at: int, thread_id: str) -> None:
        place = self._contents.threads.get(thread_id)
        if place is None:
            thread = Thread(id=thread_id, project_id=self._project_id, created_at=created_at)
        else:
            thread = self._contents.get(place, DumpedThread).record(self._project_id)
        new = await self._database.write(arrivals.add_thread, thread)
        self._count("thread", new=new)
        await self._store_messages(thread_id)

    async def _store_messages(self, thread_id: str) -> None:
        contents = self._contents
        places = contents.in_order(list(contents.messages.get(thread_id, {}).values()))
        for batch in _batches(places):
            records = [contents.get(place, DumpedMessage).record() for place in batch]
            for new in await self._database.write(arrivals.add_messages, self._project_id, records):
                self._count("message", new=new)

    async def _store_file(self, found: FilePlace) -> None:
        """Bytes before the object that shows them, so that no half file is ever visible."""
        file = self._contents.get(found.place, DumpedFile).record(self._project_id)
        if file.bytes and not found.chunks:
            self._tally.without_bytes += 1
            return
        new = await self._database.write(arrivals.begin_file, file, now=self._now)
        if new:
            for number, place in enumerate(found.chunks):
                data = self._contents.get(place, DumpedContent).decoded()
                await self._database.write(files.append, file.id, number, data)
            await self._database.write(arrivals.finish_file, replace(file, bytes=found.read))
        self._count("file", new=new)

    def _count(self, kind: str, *, new: bool) -> None:
        self._tally.count(kind, new=new)
        self._progress("storing", self._tally.done)


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]
