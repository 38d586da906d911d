"""The server as an ASGI app: the only place where its parts are built, wired and closed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware

from .clock import Clock, SystemClock
from .engine.model_names import ModelNames
from .engine.runs import Runs
from .engine.worker import Worker
from .providers.contract import ModelProvider
from .providers.selection import select_provider
from .routes import error_responses
from .routes.endpoints import routes
from .routes.keys import KeyRing
from .routes.request_trace import RequestTrace
from .routes.state import ServerState
from .routes.table import ENDPOINTS
from .settings import Settings
from .store.database import Database


def create_app(
    settings: Settings,
    *,
    clock: Clock | None = None,
    provider: ModelProvider | None = None,
) -> Starlette:
    """The app. Nothing is opened before its lifespan starts, and all of it is closed with it.

    Args:
        clock: another source of time (tests).
        provider: another source of models than the settings name. Whoever gives it closes it.
    """
    time = SystemClock() if clock is None else clock

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        database = await Database.open(settings.database)
        try:
            models = select_provider(settings) if provider is None else provider
            try:
                names = ModelNames(database, settings.models)
                worker = Worker(
                    database=database,
                    provider=models,
                    names=names,
                    clock=time,
                    settings=settings,
                )
                await worker.start()
                try:
                    app.state.server = ServerState(
                        settings=settings,
                        clock=time,
                        database=database,
                        provider=models,
                        model_names=names,
                        worker=worker,
                        runs=Runs(database=database, worker=worker, clock=time),
                        keys=KeyRing(database, time),
                    )
                    yield
                finally:
                    await worker.drain(settings.drain)
            finally:
                if provider is None:
                    await models.aclose()
        finally:
            await database.close()

    app = Starlette(
        routes=routes(ENDPOINTS),
        middleware=[Middleware(RequestTrace)],
        exception_handlers={404: error_responses.unknown_path},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app
