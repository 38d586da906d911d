"""Multipart forms read as they arrive: what is held in memory is one chunk, whatever is sent."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from ..errors import BadRequest
from .request_values import too_large, wrong_content_type

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_OVERHEAD = 1024 * 1024
"""Bytes that boundaries, headers and plain fields may take beside the file."""

_MOST_PARTS = 32


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a form. ``filename`` is the last part of the path that the client sent."""

    name: str
    filename: str | None


async def parts(request: Request, *, limit: int) -> AsyncIterator[tuple[Part, bytes | None]]:
    """Every part's data as it arrives, ``None`` at a part's end.

    Raises:
        PayloadTooLarge: the body is larger than a file of ``limit`` bytes makes it.
        BadRequest: not a multipart form, or a broken one.
    """
    header = request.headers.get("content-type", "")
    kind, options = parse_options_header(header)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data":
        raise wrong_content_type(header, "multipart/form-data")
    if not boundary:
        raise BadRequest(
            "We could not parse the form of your request: its Content-Type header names no "
            "boundary."
        )
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit + _OVERHEAD:
        raise too_large(limit)
    form = _Form()
    try:
        parser = MultipartParser(boundary, form.callbacks())
    except FormParserError as error:
        raise _broken(error) from None
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit + _OVERHEAD:
            raise too_large(limit)
        try:
            parser.write(chunk)
        except FormParserError as error:
            raise _broken(error) from None
        for item in form.take():
            yield item
    if not form.ended:
        raise BadRequest("We could not parse the form of your request: it ends before its end.")


class _Form:
    """What the parser says, in order, until somebody takes it."""

    def __init__(self) -> None:
        self.ended = False
        self._items: list[tuple[Part, bytes | None]] = []
        self._part = Part("", None)
        self._parts = 0
        self._headers: dict[bytes, bytes] = {}
        self._name = b""
        self._value = b""

    def take(self) -> list[tuple[Part, bytes | None]]:
        items, self._items = self._items, []
        return items

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._all,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise BadRequest(f"The form has too many fields; at most {_MOST_PARTS} are accepted.")
        self._headers = {}

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        filename = options.get(b"filename")
        self._part = Part(
            name=_text(options.get(b"name", b"")),
            filename=None if filename is None else _last_part(_text(filename)),
        )

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._items.append((self._part, data[start:end]))

    def _end(self) -> None:
        self._items.append((self._part, None))

    def _all(self) -> None:
        self.ended = True


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="replace").replace("\0", "")


def _last_part(path: str) -> str:
    """Browsers and scripts send whole paths, with either slash."""
    return re.split(r"[\\/]", path)[-1][:255]


def _broken(error: FormParserError) -> BadRequest:
    return BadRequest(f"We could not parse the form of your request: {error}.")
