"""The server inside your process: no port, no second program, the same app and the same answers.

    async with EmbeddedServer(settings) as server:
        client = server.client()            # an ordinary openai.AsyncOpenAI
        thread = await client.beta.threads.create()

A server belongs to the event loop that started it. Several parts of one program share a server
through ``acquire`` and ``release``; several processes may have one each on the same data folder.
"""

from __future__ import annotations

import asyncio
import weakref
from dataclasses import dataclass
from types import TracebackType

import httpx2
import openai
from typing_extensions import Self

from .app import create_app
from .asgi_transport import App, Message, StreamingASGITransport, start_detached
from .routes.access import TRUSTED_PROJECT
from .routes.keys import DEFAULT_PROJECT
from .settings import Settings, UnusableSetting

BASE_URL = "http://assistants.local/v1"
"""Looks like an address to the SDK; nothing is ever looked up or connected."""


class StartupError(Exception):
    """The server could not start. The message is a sentence for the user."""


def settings_of_environment() -> Settings:
    """What an embedded server runs with when nothing else is said.

    Raises:
        StartupError: a value cannot be one; the sentence names its variable.
    """
    try:
        return Settings.read()
    except UnusableSetting as error:
        raise StartupError(str(error)) from None


class EmbeddedServer:
    """One server in this event loop.

    Nothing happens before ``start()`` or the first request of a client, whichever comes first.
    Whoever made it calls ``aclose()``.

    Raises:
        StartupError: no settings were given, and one of the environment's cannot be.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings if settings is not None else settings_of_environment()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._lifespan: Lifespan | None = None
        self._failure: Exception | None = None
        self._doors: set[_Door] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Start, or wait for the start under way; costs nothing when the server is up.

        After a failure the next call tries again: a full disk may have been emptied.

        Raises:
            StartupError: it could not start, or was closed.
        """
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise StartupError(
                "The embedded server belongs to another event loop; make one for each loop."
            )
        if self._closing is not None:
            raise StartupError("The embedded server is closed.")
        if self._lifespan is not None:
            return
        self._loop = loop
        if self._starting is None or self._starting.done():
            self._starting = start_detached(self._start())
        # Shielded: others may wait for the same start when this caller is cancelled.
        await asyncio.shield(self._starting)
        if self._failure is not None:
            reason = str(self._failure).strip() or type(self._failure).__name__
            raise StartupError(reason) from self._failure

    def client(
        self,
        *,
        api_key: str = "embedded",
        max_retries: int = 0,
        timeout: float | httpx2.Timeout | None = 600,
    ) -> openai.AsyncOpenAI:
        """An SDK client whose requests stay in this process. Close it like any other.

        Its first request waits for the start. Where the start fails, requests raise
        ``openai.APIConnectionError`` caused by the ``StartupError``.
        """
        return openai.AsyncOpenAI(
            api_key=api_key,
            base_url=BASE_URL,
            max_retries=max_retries,
            timeout=timeout,
            http_client=httpx2.AsyncClient(transport=_Door(self), timeout=timeout),
        )

    async def aclose(self) -> None:
        """Disconnect the clients, let the runs under way drain, close the database. Idempotent."""
        if self._closing is None:
            self._closing = start_detached(self._close())
        await asyncio.shield(self._closing)

    async def _start(self) -> None:
        self._failure = None
        try:
            app = create_app(self.settings)
            lifespan = Lifespan(app)
            await lifespan.start()
        except Exception as error:
            self._failure = error
        else:
            self._lifespan = lifespan

    async def _close(self) -> None:
        if self._starting is not None:
            await self._starting
        await asyncio.gather(*(door.aclose() for door in list(self._doors)))
        if self._lifespan is not None:
            await self._lifespan.stop()


class _Door(httpx2.AsyncBaseTransport):
    """One client's way in: waits for the start, and closes what that client left open."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._server = server
        self._transport: StreamingASGITransport | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            await self._server.start()
        except StartupError as error:
            raise httpx2.ConnectError(str(error), request=request) from error
        if self._transport is None:
            lifespan = self._server._lifespan
            assert lifespan is not None
            state = {**lifespan.state, TRUSTED_PROJECT: DEFAULT_PROJECT}
            self._transport = StreamingASGITransport(lifespan.app, state=state)
            self._server._doors.add(self)
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        self._server._doors.discard(self)
        if self._transport is not None:
            await self._transport.aclose()


class Lifespan:
    """The start and the end of an ASGI app, which a server tells it in one task."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.state: Message = {}
        self._task: asyncio.Task[None] | None = None
        self._asked = False
        self._started = asyncio.Event()
        self._stopping = asyncio.Event()
        self._reason = "The app ended while it was starting."

    async def start(self) -> None:
        """Return when the app is up; raise what it raised when it could not start."""
        scope: Message = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        self._task = start_detached(self.app(scope, self._receive, self._send))
        started = asyncio.ensure_future(self._started.wait())
        try:
            await asyncio.wait({self._task, started}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        finally:
            started.cancel()
        if not self._started.is_set():
            await self._task
            raise RuntimeError(self._reason)

    async def stop(self) -> None:
        """Return when the app has closed what it opened."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "lifespan.startup"}
        await self._stopping.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            self._started.set()
        elif message["type"] == "lifespan.startup.failed":
            self._reason = message.get("message") or self._reason


@dataclass
class _Share:
    server: EmbeddedServer
    holders: int = 0


_shares: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Share]] = (
    weakref.WeakKeyDictionary()
)


def acquire(settings: Settings) -> EmbeddedServer:
    """The server of this event loop with exactly these settings, made if there is none.

    It is not started by this. Every ``acquire`` is answered by one ``release``. Other settings,
    such as another model key, are another server; on the same data folder the two get along.
    """
    shares = _shares.setdefault(asyncio.get_running_loop(), {})
    share = shares.setdefault(settings.model_dump_json(), _Share(EmbeddedServer(settings)))
    share.holders += 1
    return share.server


async def release(server: EmbeddedServer) -> None:
    """Give back what ``acquire`` gave; the last one closes the server.

    Raises:
        ValueError: this loop never acquired it, or released it already.
    """
    shares = _shares.get(asyncio.get_running_loop(), {})
    for key, share in shares.items():
        if share.server is server:
            share.holders -= 1
            if share.holders == 0:
                del shares[key]
                await server.aclose()
            return
    raise ValueError("This server was not acquired in this event loop, or is released already.")
