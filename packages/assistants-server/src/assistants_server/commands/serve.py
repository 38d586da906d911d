"""``assistants-server serve``: the app behind a socket, until a signal.

Whatever goes wrong before the server listens is one plain sentence on standard error and exit
status 1.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import typer
import uvicorn
from starlette.applications import Starlette

from .. import log
from ..app import create_app
from ..errors import ApiError
from ..providers.contract import ProviderError
from ..providers.selection import Selection
from ..settings import Settings
from ..store import keys
from ..version import __version__
from . import options


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on; 0 picks a free one.", show_default="8400"),
    ] = None,
    data: options.Data = None,
    database_url: options.DatabaseUrl = None,
    upstream_url: Annotated[
        str | None,
        typer.Option(
            help="Chat Completions endpoint that answers (…/v1).",
            show_default="OPENAI_BASE_URL, or OpenAI's own when there is a key",
        ),
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Answer every model name with the local model.")
    ] = False,
    local_model: Annotated[
        Path | None,
        typer.Option(
            help="GGUF file of the local model; as an option it implies --local.",
            show_default="SmolLM2-135M-Instruct",
        ),
    ] = None,
    log_level: Annotated[
        str | None,
        typer.Option(help="debug, info, warning or error.", show_default="info"),
    ] = None,
) -> None:
    """Serve the API until stopped: the first signal lets runs end, the second does not.

    Every option but --local is also an environment variable ASSISTANTS_…
    (--upstream-url is ASSISTANTS_UPSTREAM_URL); options win. The key of the
    upstream is OPENAI_API_KEY or ASSISTANTS_UPSTREAM_KEY. The documentation lists
    the settings that are variables alone.
    """
    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "data": data,
        "database_url": database_url,
        "upstream_url": upstream_url,
        "local_model": local_model,
        "log_level": log_level,
        "models": {"*": "local"} if local or local_model else None,
    }
    settings = options.settings(given)
    try:
        log.configure(settings.log_level)
    except ValueError:
        options.give_up(
            f"There is no log level '{settings.log_level}': debug, info, warning or error."
        )
    if _is_its_own_upstream(settings):
        options.give_up(
            f"The models are to be asked at {_upstream(settings)}, which is this server itself. "
            "Name their endpoint with --upstream-url, or unset OPENAI_BASE_URL: what it tells "
            "the clients, it tells the server too."
        )
    if not _is_loopback(settings.host) and not options.run(_has_keys(data, database_url)):
        options.give_up(
            f"Refusing to listen on {settings.host}: this server has no keys, so anybody who "
            "reaches it could use it. Make one with: assistants-server keys create NAME"
        )
    _use_all_descriptors()
    listener = _listen(settings)
    try:
        _Server(create_app(settings), settings, listener).run(sockets=[listener])
    except (ApiError, ProviderError) as error:
        options.give_up(error.message)
    finally:
        listener.close()


async def _has_keys(data: Path | None, database_url: str | None) -> bool:
    async with options.opened(data, database_url) as database:
        return await database.read(keys.any_exist)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _upstream(settings: Settings) -> str | None:
    return settings.upstream_url or os.environ.get("OPENAI_BASE_URL")


def _is_its_own_upstream(settings: Settings) -> bool:
    """Every model would be missing, and ``GET /models`` would ask itself without end."""
    try:
        url = urlsplit(_upstream(settings) or "")
        host, port = url.hostname, url.port
    except ValueError:
        return False
    here = host is not None and (host == settings.host or _is_loopback(host))
    return here and port == settings.port


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        options.give_up(f"Cannot listen on {where}: {reason}.")


def _use_all_descriptors() -> None:
    """A stream takes a file descriptor and its model's call another. Many systems give a process
    1,024 until it asks for what it may have."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS calls it unlimited and refuses that
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class _Server(uvicorn.Server):
    """Uvicorn around an app whose lifespan is ours, so that what fails in it is a sentence.

    The first signal drains: runs get their time to end, and streams end with them. The second
    ends the process at once; what was acknowledged is stored.
    """

    def __init__(self, app: Starlette, settings: Settings, listener: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_protocol(),
                access_log=False,
                log_config=None,
                lifespan="off",
                server_header=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=int(settings.drain) + 5,
                ws="none",
            )
        )
        self._app = app
        self._settings = settings
        self._listener = listener

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        with self._signals():
            async with self._app.router.lifespan_context(self._app):
                models: Selection = self._app.state.server.provider
                await models.prewarm()
                # What is there now stays: without this the collector walks through all of it, for
                # tens of milliseconds, in the middle of somebody's answer.
                gc.freeze()
                lacks = models.lacks()
                answers = "no model yet" if lacks else models.describe()
                typer.echo(_greeting(self._settings, self._listener, answers))
                if lacks:
                    typer.echo(lacks, err=True)
                await super().serve(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        draining = asyncio.ensure_future(self._app.state.server.worker.drain(self._settings.drain))
        await super().shutdown(sockets)
        await draining

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Uvicorn would raise the signal again when it is done, before the database is closed.
        yield

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        kinds = (signal.SIGINT, signal.SIGTERM)
        before = {kind: signal.signal(kind, self._stop) for kind in kinds}
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    def _stop(self, kind: int, frame: FrameType | None) -> None:
        if self.should_exit:
            os._exit(128 + kind)
        self.should_exit = True


def _protocol() -> type[asyncio.Protocol] | Literal["auto"]:
    try:
        from .connection import BoundedHttp
    except ImportError:  # httptools is for CPython alone
        return "auto"
    return BoundedHttp


def _greeting(settings: Settings, listener: socket.socket, answers: str) -> str:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return (
        f"assistants-server {__version__} listens on http://{shown}:{port}/v1, "
        f"answers with {answers}, keeps its data in {options.place(settings)}."
    )
