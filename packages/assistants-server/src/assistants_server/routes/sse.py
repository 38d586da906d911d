"""A run's events as a stream of server-sent events.

The stream only reads: the worker owns the run, and the connection may vanish at any byte. A client
that hangs up is reported to the engine, which cancels the run only if that was asked for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..clock import Clock
from ..domain.run_events import StreamFault
from ..engine.runs import Runs, StartedRun
from ..wire import stream

logger = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 15.0


class RunStream(Response):
    """Follows a run's event log to its end."""

    def __init__(
        self,
        started: StartedRun,
        *,
        runs: Runs,
        clock: Clock,
        headers: Mapping[str, str] | None = None,
        place: AbstractContextManager[object] | None = None,
    ) -> None:
        """``place``: given back when the stream has ended."""
        self.status_code = 200
        self.background = None
        self.raw_headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
            *((name.encode(), value.encode()) for name, value in (headers or {}).items()),
        ]
        self._run = started.run
        self._log = started.log
        self._runs = runs
        self._clock = clock
        self._place = nullcontext() if place is None else place
        self._chunks = 0
        self._ended = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._place:
            await self._tell(receive, send)

    async def _tell(self, receive: Receive, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": 200, "headers": list(self.raw_headers)}
        )
        written = asyncio.ensure_future(self._write(send))
        hung_up = asyncio.ensure_future(_hung_up(receive))
        alive = asyncio.ensure_future(self._keep_alive(send))
        tasks = (written, hung_up, alive)
        try:
            await asyncio.wait((written, hung_up), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if not self._ended:
            await self._runs.abandon(self._run)

    async def _write(self, send: Send) -> None:
        try:
            async for events in self._log.follow():
                self._chunks += 1
                await send(_chunk(stream.render(events)))
            last = stream.DONE
        except OSError:
            return  # the connection broke: there is nobody to tell
        except Exception:
            logger.exception("stream failed", extra={"run_id": self._run.id})
            last = stream.fault(StreamFault("The server cannot go on with this stream."))
            last += stream.DONE
        self._ended = True
        await send(_chunk(last, more=False))

    async def _keep_alive(self, send: Send) -> None:
        while True:
            before = self._chunks
            await self._clock.sleep(KEEP_ALIVE_SECONDS)
            if self._ended:
                return
            if self._chunks == before:
                await send(_chunk(stream.KEEP_ALIVE))


def _chunk(body: bytes, *, more: bool = True) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
