"""The paths of vector stores, which this server does not have yet. It says so plainly."""

from __future__ import annotations

from starlette.responses import Response

from ..errors import BadRequest, NotFound
from ..wire.parts import ListQuery, NoQuery, list_page
from .endpoints import Call, Endpoint, Json

_NONE = "This server has no vector stores yet."


async def list_all(call: Call[None, ListQuery]) -> Response:
    return Json(list_page([], dict, has_more=False))


async def create(call: Call[None, NoQuery]) -> Response:
    raise BadRequest(_NONE, code="unsupported")


async def missing(call: Call[None, NoQuery]) -> Response:
    name = call.request.path_params["rest"].partition("/")[0]
    raise NotFound(f"No vector store found with id '{name}'. {_NONE}")


_ALL = "/v1/vector_stores"

ENDPOINTS = (
    Endpoint(
        "GET",
        _ALL,
        list_all,
        "List vector stores: there are none.",
        "An empty page.",
        query=ListQuery,
        beta=False,
    ),
    Endpoint("POST", _ALL, create, "Refused: there are none.", "Never.", beta=False),
    *(
        Endpoint(
            method,
            _ALL + "/{rest:path}",
            missing,
            "Refused: there are no vector stores.",
            "Never.",
            beta=False,
        )
        for method in ("GET", "POST", "DELETE")
    ),
)
