"""The server as an ASGI app: the only place where its parts are built, wired and closed."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware

from .clock import Clock, SystemClock
from .engine.model_names import ModelNames
from .engine.runs import Runs
from .engine.worker import Worker
from .errors import Unavailable
from .providers.contract import ModelProvider
from .providers.selection import select_provider
from .routes import error_responses
from .routes.endpoints import routes
from .routes.keys import KeyRing
from .routes.open_streams import OpenStreams
from .routes.readiness import Readiness
from .routes.request_trace import RequestTrace
from .routes.state import ServerState
from .routes.table import ENDPOINTS
from .settings import Settings
from .store.database import Database

if TYPE_CHECKING:
    from .tracing import Tracing

logger = logging.getLogger(__name__)


def create_app(
    settings: Settings,
    *,
    clock: Clock | None = None,
    provider: ModelProvider | None = None,
    tracing: Tracing | None = None,
) -> Starlette:
    """The app. Nothing is opened before its lifespan starts, and all of it is closed with it.

    Args:
        clock: another source of time (tests).
        provider: another source of models than the settings name. Whoever gives it closes it.
        tracing: where spans go, whatever the settings say of it.

    Raises:
        Unavailable: spans are wanted, and what they need is not installed.
    """
    time = SystemClock() if clock is None else clock
    spans = _tracing(settings) if tracing is None else tracing
    middleware = [Middleware(RequestTrace)]
    if spans is not None:
        middleware.append(Middleware(spans.requests))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as closing:
            if spans is not None:
                spans.start()
                closing.push_async_callback(spans.aclose)
            open_database = Database.open if spans is None else spans.open_database
            database = await open_database(settings.database)
            closing.push_async_callback(database.close)
            models = provider
            if models is None:
                models = select_provider(settings)
                closing.push_async_callback(models.aclose)
            names = ModelNames(database, settings.models)
            worker = (Worker if spans is None else spans.worker)(
                database=database,
                provider=models if spans is None else spans.provider(models),
                names=names,
                clock=time,
                settings=settings,
            )
            await worker.start()
            closing.push_async_callback(worker.drain, settings.drain)
            app.state.server = ServerState(
                settings=settings,
                clock=time,
                database=database,
                provider=models,
                model_names=names,
                worker=worker,
                runs=Runs(database=database, worker=worker, clock=time),
                keys=KeyRing(database, time),
                streams=OpenStreams(
                    worker.measurements,
                    most=settings.max_open_streams,
                    total=settings.open_streams_in_all,
                ),
                readiness=Readiness(database, time),
            )
            yield

    app = Starlette(
        routes=routes(ENDPOINTS),
        middleware=middleware,
        exception_handlers={404: error_responses.unknown_path},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


def _tracing(settings: Settings) -> Tracing | None:
    if not settings.traces:
        return None
    try:
        from .tracing import Tracing
    except ImportError:
        missing = "Tracing needs OpenTelemetry: install assistants-server[otel]."
        if settings.tracing:
            raise Unavailable(missing) from None
        # Such variables are often set for all programs of a host.
        logger.warning(missing)
        return None
    return Tracing()
