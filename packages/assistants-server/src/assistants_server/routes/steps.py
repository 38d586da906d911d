"""The paths of run steps."""

from __future__ import annotations

from starlette.responses import Response

from ..store import steps as store
from ..wire import steps as wire
from ..wire.objects import StepObject
from ..wire.parts import IncludeQuery, list_page
from .endpoints import Call, Endpoint, Json


async def list_all(call: Call[None, wire.StepsQuery]) -> Response:
    found = await call.server.database.read(
        store.list_page,
        call.project,
        call.id("thread_id"),
        call.id("run_id"),
        call.query.page(),
    )
    return Json(list_page(found.items, wire.render, has_more=found.has_more))


async def retrieve(call: Call[None, IncludeQuery]) -> Response:
    step = await call.server.database.read(
        store.get,
        call.project,
        call.id("thread_id"),
        call.id("run_id"),
        call.id("step_id"),
    )
    return Json(wire.render(step))


_ALL = "/v1/threads/{thread_id}/runs/{run_id}/steps"

ENDPOINTS = (
    Endpoint(
        "GET",
        _ALL,
        list_all,
        "List a run's steps.",
        "A page of run steps.",
        returns=list[StepObject],
        query=wire.StepsQuery,
    ),
    Endpoint(
        "GET",
        _ALL + "/{step_id}",
        retrieve,
        "Retrieve a run step.",
        "The run step.",
        returns=StepObject,
        query=IncludeQuery,
    ),
)
