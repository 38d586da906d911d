"""Every endpoint of the server. The router and the OpenAPI document are made from this."""

from __future__ import annotations

from starlette.responses import Response

from ..wire.parts import NoQuery
from . import (
    assistants,
    files,
    health,
    messages,
    metrics,
    models,
    openapi,
    runs,
    steps,
    threads,
    vector_stores,
)
from .endpoints import Call, Endpoint, Json


async def document(call: Call[None, NoQuery]) -> Response:
    return Json(openapi.document(ENDPOINTS))


ENDPOINTS: tuple[Endpoint, ...] = (
    *assistants.ENDPOINTS,
    *runs.ENDPOINTS,  # before threads: /threads/runs is no thread
    *threads.ENDPOINTS,
    *messages.ENDPOINTS,
    *steps.ENDPOINTS,
    *files.ENDPOINTS,
    *models.ENDPOINTS,
    *vector_stores.ENDPOINTS,
    *health.ENDPOINTS,
    *metrics.ENDPOINTS,
    Endpoint(
        "GET",
        "/openapi.json",
        document,
        "This document.",
        "The OpenAPI document.",
        beta=False,
        open=True,
    ),
)
