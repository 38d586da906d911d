"""An endpoint is one row of a table; the router and the OpenAPI document are made from the rows.

A request is checked in the wire's order: path, beta header, key, body and query, then the handler
looks objects up and judges their state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from pydantic import BaseModel
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..errors import ApiError, BadRequest
from ..store.idempotency import AlreadyAnswered, Answer, KeyedRequest, Once
from ..wire.parts import NoQuery, encode
from . import access, error_responses, request_values
from .state import ServerState

LONGEST_KEY = 255
REPLAYED = {"idempotent-replayed": "true"}

P = ParamSpec("P")
T = TypeVar("T")
Body = TypeVar("Body")
Query = TypeVar("Query", bound=BaseModel)

PREFIXES: Mapping[str, str] = {
    "assistant_id": "asst",
    "thread_id": "thread",
    "message_id": "msg",
    "run_id": "run",
    "step_id": "step",
}
"""What the ids in a path begin with. An unknown file has a refusal of its own, whatever its id."""


@dataclass(frozen=True, slots=True)
class Call(Generic[Body, Query]):
    """One request that passed every check that needs no object."""

    request: Request
    server: ServerState
    project: str
    body: Body
    query: Query
    keyed: KeyedRequest | None = None
    """Set if the request has an ``Idempotency-Key``."""
    headers: Mapping[str, str] = field(default_factory=dict)

    async def write(
        self,
        render: Callable[[T], Mapping[str, Any]],
        function: Callable[Concatenate[Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Response:
        """Carry out the store function, once; answer with what it returns."""
        once = Once(self.keyed, lambda result: Answer(body=encode(render(result))))
        result = await self.server.database.write(once(function), *args, **kwargs)
        return Json(render(result), headers=dict(self.headers))

    def id(self, name: str) -> str:
        """The id of that name in the path.

        Raises:
            BadRequest: it cannot be one.
        """
        value: str = self.request.path_params[name]
        prefix = PREFIXES[name]
        if not value.startswith(prefix) or "\0" in value:
            raise BadRequest(
                f"Invalid '{name}': '{value}'. Expected an ID that begins with '{prefix}'.",
                param=name,
                code="invalid_value",
            )
        return value


Handler = Callable[[Call[Any, Any]], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``body=None``: a body is not read (cancel, deletions) or the handler reads it (uploads).

    ``beta``: the assistants beta header is asked for. ``answer`` names the answer for the document,
    ``returns`` is its type (``list[X]``: a page of them), or ``media`` says what else comes.
    ``headers`` go with a JSON answer to a change.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    answer: str
    returns: Any = None
    media: str | None = None
    body: type[BaseModel] | None = None
    query: type[BaseModel] = NoQuery
    beta: bool = True
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    open: bool = False  # without a key: health and the document itself


class Json(Response):
    """A JSON answer."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return encode(content)


async def answer(endpoint: Endpoint, request: Request) -> Response:
    server: ServerState = request.app.state.server
    if endpoint.beta and server.settings.require_beta_header:
        access.check_beta(request)
    project = "" if endpoint.open else await access.project_of(request, server.keys)
    body, content = None, b""
    if endpoint.body is not None:
        content = await request_values.read_bytes(request, limit=server.settings.max_body)
        body = request_values.parsed(request, content, endpoint.body)
    query = request_values.read_query(request, endpoint.query)
    keyed = _keyed(request, project, content, now=server.now())
    call = Call(request, server, project, body, query, keyed, endpoint.headers)
    try:
        return await endpoint.handler(call)
    except AlreadyAnswered as again:
        headers = {**endpoint.headers, **REPLAYED}
        return Response(again.answer.body, media_type=Json.media_type, headers=headers)


def _keyed(request: Request, project: str, content: bytes, *, now: int) -> KeyedRequest | None:
    key = request.headers.get("idempotency-key", "")
    if not key or request.method != "POST":
        return None
    if len(key) > LONGEST_KEY:
        raise BadRequest(
            f"Invalid 'Idempotency-Key': string too long. Expected a string with maximum length "
            f"{LONGEST_KEY}, but got a string with length {len(key)} instead.",
            param="Idempotency-Key",
            code="string_above_max_length",
        )
    digest = sha256(request.scope["query_string"] + b"\0" + content).hexdigest()
    return KeyedRequest(
        project_id=project, key=key, path=request.url.path, body_digest=digest, now=now
    )


class Resource:
    """All endpoints of one path, as an ASGI app."""

    def __init__(self, path: str, endpoints: Sequence[Endpoint]) -> None:
        self.path = path
        self._endpoints = {endpoint.method: endpoint for endpoint in endpoints}
        self._allowed = ", ".join(sorted(self._endpoints))
        if "GET" in self._endpoints:
            self._endpoints["HEAD"] = self._endpoints["GET"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoints.get(scope["method"])
        request = Request(scope, receive)
        try:
            if endpoint is None:
                raise error_responses.wrong_method(request, allowed=self._allowed)
            response = await answer(endpoint, request)
        except ApiError as error:
            response = error_responses.render(error)
        await response(scope, receive, send)


def routes(endpoints: Sequence[Endpoint]) -> list[Route]:
    """One route a path, in the table's order: fixed paths stand before those with ids."""
    by_path: dict[str, list[Endpoint]] = {}
    for endpoint in endpoints:
        by_path.setdefault(endpoint.path, []).append(endpoint)
    return [Route(path, Resource(path, rows)) for path, rows in by_path.items()]
