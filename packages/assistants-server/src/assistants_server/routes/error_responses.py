"""Refusals and faults as the wire's error envelope: every answer that is not 2xx."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ..errors import ApiError, NotFound, ServerFault
from ..wire.parts import encode, error_body


class MethodNotAllowed(ApiError):
    status = 405


def render(error: ApiError) -> Response:
    body = error_body(error.message, type=error.type, param=error.param, code=error.code)
    return Response(
        encode(body),
        status_code=error.status,
        headers=dict(error.headers),
        media_type="application/json",
    )


def wrong_method(request: Request, *, allowed: str) -> ApiError:
    return MethodNotAllowed(
        f"Not allowed to {request.method} on {request.url.path}. "
        "(HINT: Perhaps you meant to use a different HTTP method?)",
        code="method_not_supported",
        headers={"Allow": allowed},
    )


def fault() -> ApiError:
    """Something of ours broke. The log says what, under the request's id."""
    return ServerFault(
        "The server had an error processing your request. Sorry about that! You can retry your "
        "request; the server's log has the reason under this answer's x-request-id."
    )


async def unknown_path(request: Request, error: Exception) -> Response:
    """What Starlette's router raises for a path that no route has."""
    assert isinstance(error, HTTPException)
    return render(NotFound(f"Invalid URL ({request.method} {request.url.path})"))
