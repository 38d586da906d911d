"""What the files of an import hold: every object checked, kept on disk until it is stored.

In memory stay an id and a place per object, so a dump may be larger than memory; only a file that
is one JSON document (a list page, pretty-printed JSON) is read whole. An object that comes twice,
as overlapping pages bring it, counts once.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import orjson
from pydantic import ValidationError

from .dumps import (
    DUMPS,
    DumpedAssistant,
    DumpedContent,
    DumpedFile,
    DumpedMessage,
    DumpedObject,
    DumpedThread,
    unstorable,
)
from .exporting import FORMAT, VERSION

D = TypeVar("D", bound=DumpedObject)

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class ImportFault(Exception):
    """The input cannot be taken; the sentence names the file and the line."""


class Line(NamedTuple):
    """Where an object was read, for whoever has to mend it."""

    path: Path
    number: int

    def fault(self, reason: str) -> ImportFault:
        return ImportFault(f"{self.path}, line {self.number}: {reason}.")


class Place(NamedTuple):
    """An object in the spool. ``created_at`` is what its order is found by."""

    created_at: int
    offset: int
    length: int
    line: Line


@dataclass
class FilePlace:
    place: Place
    size: int
    chunks: list[Place] = field(default_factory=list)
    read: int = 0
    """Bytes that the chunks hold."""


class Contents:
    """The objects of an import, by kind. Close it."""

    def __init__(self) -> None:
        self.assistants: dict[str, Place] = {}
        self.threads: dict[str, Place] = {}
        self.files: dict[str, FilePlace] = {}
        self.messages: dict[str, dict[str, Place]] = {}
        self._threads_of: dict[str, str] = {}
        self._current: FilePlace | None = None
        self._ours: set[Path] = set()
        self._spool = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()

    def close(self) -> None:
        self._spool.close()

    def get(self, place: Place, model: type[D]) -> D:
        self._spool.seek(place.offset)
        return model.model_validate(orjson.loads(self._spool.read(place.length)))

    def read(self, paths: Sequence[Path], *, progress: Callable[[int], None]) -> None:
        """Check every object of every file.

        Raises:
            ImportFault: the first one that cannot be taken.
        """
        count = 0
        for path in paths:
            self._current = None
            with closing(_objects(path)) as objects:
                for line, value in objects:
                    self._take(line, value)
                    count += 1
                    progress(count)
        for file in self.files.values():
            if file.chunks and file.read != file.size:
                raise file.place.line.fault(
                    f"this file has {file.size} bytes, but {file.read} bytes of content follow"
                )

    def in_order(self, places: Sequence[Place]) -> list[Place]:
        """By creation; what was made within one second as it stood in the dump.

        OpenAI's lists, and so most dumps, give the newest first: then the dump is read backwards.
        Where a list is of one second, the other threads of its file tell how it goes, and without
        any sign it is taken for a list as OpenAI gives it. Our own export goes forwards.
        """
        if not places:
            return []
        direction = _direction(places)
        if not direction:
            direction = self._direction_of(places[0].line.path)
        return sorted(
            places if direction > 0 else reversed(places), key=lambda place: place.created_at
        )

    def _direction_of(self, path: Path) -> int:
        if path in self._ours:
            return 1
        votes = Counter(
            _direction(list(messages.values()))
            for messages in self.messages.values()
            if next(iter(messages.values())).line.path == path
        )
        return 1 if votes[1] > votes[-1] else -1

    def _take(self, line: Line, value: dict[str, Any]) -> None:
        kind = value.get("object")
        if kind == FORMAT:
            if value.get("version") != VERSION:
                raise line.fault(f"an export of version {value.get('version')} is not known here")
            self._ours.add(line.path)
            return
        dumped = _checked(line, value)
        if isinstance(dumped, DumpedContent):
            self._take_content(line, dumped, value)
            return
        self._current = None
        if isinstance(dumped, DumpedAssistant):
            if dumped.id not in self.assistants:
                self.assistants[dumped.id] = self._put(line, dumped.created_at, value)
        elif isinstance(dumped, DumpedThread):
            if dumped.id not in self.threads:
                self.threads[dumped.id] = self._put(line, dumped.created_at, value)
        elif isinstance(dumped, DumpedFile):
            self._current = FilePlace(self._put(line, dumped.created_at, value), dumped.bytes)
            # A file that comes again has content only if it had none the first time.
            known = self.files.get(dumped.id)
            if known is None or not known.chunks:
                self.files[dumped.id] = self._current
        elif isinstance(dumped, DumpedMessage):
            thread_id = self._threads_of.setdefault(dumped.id, dumped.thread_id)
            if thread_id != dumped.thread_id:
                raise line.fault(f"the message {dumped.id} stood in {thread_id} before")
            messages = self.messages.setdefault(thread_id, {})
            if dumped.id not in messages:
                messages[dumped.id] = self._put(line, dumped.created_at, value)

    def _take_content(self, line: Line, content: DumpedContent, value: dict[str, Any]) -> None:
        file = self._current
        if file is None or self.get(file.place, DumpedFile).id != content.file_id:
            raise line.fault(f"content of {content.file_id} must follow its file")
        if content.number != len(file.chunks):
            raise line.fault(f"content {content.number} of {content.file_id} is out of order")
        try:
            file.read += len(content.decoded())
        except ValueError as error:
            raise line.fault(f"file.content: {error}") from None
        file.chunks.append(self._put(line, content.number, value))

    def _put(self, line: Line, created_at: int, value: dict[str, Any]) -> Place:
        data = orjson.dumps(value)
        offset = self._spool.seek(0, os.SEEK_END)
        self._spool.write(data)
        return Place(created_at, offset, len(data), line)


def _direction(places: Sequence[Place]) -> int:
    """1: oldest first; -1: newest first; 0: all of one second."""
    first, last = places[0].created_at, places[-1].created_at
    return (first < last) - (first > last)


def _checked(line: Line, value: dict[str, Any]) -> DumpedObject:
    kind = value.get("object")
    if not isinstance(kind, str):
        raise line.fault('it has no "object" that says what it is')
    model = DUMPS.get(kind)
    if model is None:
        raise line.fault(f"objects of kind {kind!r} cannot be imported")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = "".join(f", {part}" for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ").rstrip(".")
        raise line.fault(f"{kind}{where}: {message}") from None


def _objects(path: Path) -> Generator[tuple[Line, dict[str, Any]], None, None]:
    """Every object of a file: JSON lines, or one JSON document (an object, a list, a list page)."""
    try:
        with path.open("rb") as lines:
            first = True
            for number, text in enumerate(lines, start=1):
                text = text.removeprefix(_BYTE_ORDER_MARK) if number == 1 else text
                if not text.strip():
                    continue
                line = Line(path, number)
                try:
                    value = orjson.loads(text)
                except orjson.JSONDecodeError as error:
                    if not first:
                        raise line.fault(f"not JSON ({error.msg})") from None
                    # Pretty-printed: one document over many lines.
                    value = _document(line, error)
                    yield from _flat(line, value)
                    return
                first = False
                yield from _flat(line, value)
    except OSError as error:
        raise ImportFault(f"{path}: {error.strerror}.") from None


def _document(line: Line, fault_of_line: orjson.JSONDecodeError) -> Any:
    data = line.path.read_bytes().removeprefix(_BYTE_ORDER_MARK)
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        # The line at which the reading stopped; the first line itself if that is where it stopped.
        number = max(error.lineno, line.number)
        message = fault_of_line.msg if number == line.number else error.msg
        raise Line(line.path, number).fault(f"not JSON ({message})") from None


def _flat(line: Line, value: Any) -> Iterator[tuple[Line, dict[str, Any]]]:
    reason = unstorable(value)
    if reason is not None:
        raise line.fault(reason)
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict) and value.get("object") == "list":
            value = value.get("data")
        if isinstance(value, list):
            waiting += reversed(value)
        elif isinstance(value, dict):
            yield line, value
        else:
            raise line.fault("expected an object or a list of objects")
