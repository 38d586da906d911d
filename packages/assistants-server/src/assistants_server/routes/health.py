"""Health, for whatever watches over the process."""

from __future__ import annotations

from starlette.responses import Response

from ..wire.objects import HealthObject
from ..wire.parts import NoQuery
from .endpoints import Call, Endpoint, Json


async def live(call: Call[None, NoQuery]) -> Response:
    """The process answers."""
    return Json({"status": "ok"})


async def ready(call: Call[None, NoQuery]) -> Response:
    """It may be sent requests: the database stores what it is given, and it is not shutting down.

    Raises:
        Unavailable: with the reason.
    """
    call.server.worker.check_accepting()
    await call.server.readiness.check()
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
