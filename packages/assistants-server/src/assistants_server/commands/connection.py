"""What a connection may cost before its request is whole: time, and bytes of headers.

Uvicorn waits for a request as long as the client likes, and keeps every header that it sends. Both
end here, below the app, so that a request at an ordinary pace pays for one timer.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .. import ids
from ..version import __version__
from ..wire.parts import error_body

HEADER_SECONDS = 30.0
"""From the connection's first byte, or the request's, to the end of its headers."""

HEADER_BYTES = 64 * 1024

BODY_SECONDS = 60.0
SLOWEST = 16 * 1024
"""A body gets its minute, and for every so many bytes one second more."""


class BoundedHttp(HttpToolsProtocol):
    """Closes the connection of a client that does not finish its request in time."""

    header_seconds = HEADER_SECONDS
    body_seconds = BODY_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._body_bytes = 0
        self._deadline = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._allow(self.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._finished()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._header_bytes = self._body_bytes = 0
        self._allow(self.header_seconds)
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self._within(len(url)):
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._within(len(name) + len(value)):
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._header_bytes > HEADER_BYTES:
            return
        self._allow(self.body_seconds)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._header_bytes > HEADER_BYTES:
            return
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._finished()
        if self._header_bytes <= HEADER_BYTES:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, or has a method that HTTP does not know, never gets to the app."""
        self._refuse("400 Bad Request", f"We could not read your request: {msg}")

    def _refuse(self, status: str, message: str) -> None:
        body = orjson.dumps(error_body(message, type="invalid_request_error"))
        head = (
            f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {ids.request_id()}\r\n"
            f"assistants-server: {__version__}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _within(self, size: int) -> bool:
        """Whether the headers still fit; the connection is closed when they do not."""
        self._header_bytes += size
        if self._header_bytes <= HEADER_BYTES:
            return True
        if not self.transport.is_closing():
            self._refuse(
                "431 Request Header Fields Too Large",
                f"The headers of the request are too large: at most {HEADER_BYTES} bytes.",
            )
        return False

    def _allow(self, seconds: float) -> None:
        self._finished()
        self._deadline = self.loop.time() + seconds
        self._timer = self.loop.call_at(self._deadline, self._look)

    def _look(self) -> None:
        """The time is over, unless bytes that came meanwhile have bought more."""
        deadline = self._deadline + self._body_bytes / SLOWEST
        if self.loop.time() < deadline:
            self._timer = self.loop.call_at(deadline, self._look)
        else:
            self.transport.abort()

    def _finished(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
