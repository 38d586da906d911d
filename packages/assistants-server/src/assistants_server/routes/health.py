"""Health, for whatever watches over the process."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from ..errors import Unavailable
from ..store import assistants
from ..wire.objects import HealthObject
from ..wire.parts import NoQuery
from .endpoints import Call, Endpoint, Json

READY_SECONDS = 2.0
"""Longer than that, and a load balancer is better off with another replica."""


async def live(call: Call[None, NoQuery]) -> Response:
    """The process answers."""
    return Json({"status": "ok"})


async def ready(call: Call[None, NoQuery]) -> Response:
    """It may be sent requests: the database takes a transaction, and it is not shutting down.

    Raises:
        Unavailable: with the reason.
    """
    call.server.worker.check_accepting()
    # In the lane of the writers: a database that can only be read serves nobody.
    looking = asyncio.ensure_future(call.server.database.write(assistants.any_exist))
    waiting = asyncio.ensure_future(call.server.clock.sleep(READY_SECONDS))
    await asyncio.wait({looking, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not looking.done():
        looking.cancel()
        raise Unavailable("The database does not answer in time.")
    await looking
    return Json({"status": "ok"})


ENDPOINTS = (
    Endpoint(
        "GET",
        "/health/live",
        live,
        "Is the process alive?",
        "It is.",
        returns=HealthObject,
        beta=False,
        open=True,
    ),
    Endpoint(
        "GET",
        "/health/ready",
        ready,
        "May it be sent requests?",
        "It may; otherwise 503 with the reason.",
        returns=HealthObject,
        beta=False,
        open=True,
    ),
)
