"""The paths of runs. ``stream`` in the body decides whether an answer is the run or its events."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from ..domain.records import Run
from ..engine.runs import StartedRun
from ..store import runs as store
from ..wire import runs as wire
from ..wire.parts import IncludeQuery, ListQuery, NoQuery, list_page
from .endpoints import Call, Endpoint, Json
from .request_trace import STORED
from .sse import RunStream

_POLL = {"openai-poll-after-ms": "250"}
"""Without it Python's poll helper waits a second a look, Node's five."""


async def create_with_thread(call: Call[wire.CreateThreadAndRun, NoQuery]) -> Response:
    started = await call.server.runs.create_with_thread(
        call.project, call.body.thread_draft(), call.body.draft()
    )
    return _started(call, started, streaming=call.body.stream)


async def create(call: Call[wire.CreateRun, IncludeQuery]) -> Response:
    started = await call.server.runs.create(call.project, call.id("thread_id"), call.body.draft())
    return _started(call, started, streaming=call.body.stream)


async def submit_tool_outputs(call: Call[wire.SubmitToolOutputs, NoQuery]) -> Response:
    started = await call.server.runs.submit(
        call.project, call.id("thread_id"), call.id("run_id"), call.body.outputs()
    )
    return _started(call, started, streaming=call.body.stream)


async def cancel(call: Call[None, NoQuery]) -> Response:
    return _run(
        await call.server.runs.cancel(call.project, call.id("thread_id"), call.id("run_id"))
    )


async def list_all(call: Call[None, ListQuery]) -> Response:
    found = await call.server.database.read(
        store.list_page, call.project, call.id("thread_id"), call.query.page()
    )
    return Json(list_page(found.items, wire.render, has_more=found.has_more))


async def retrieve(call: Call[Any, NoQuery]) -> Response:
    return _run(await call.server.runs.get(call.project, call.id("thread_id"), call.id("run_id")))


async def modify(call: Call[wire.ModifyRun, NoQuery]) -> Response:
    thread_id, run_id = call.id("thread_id"), call.id("run_id")
    if "metadata" not in call.body.model_fields_set:
        return await retrieve(call)
    run = await call.server.database.write(
        store.update_metadata, call.project, thread_id, run_id, call.body.metadata or {}
    )
    return _run(run)


def _started(call: Call[Any, Any], started: StartedRun, *, streaming: bool | None) -> Response:
    call.request.scope[STORED] = True
    if streaming:
        return RunStream(started, runs=call.server.runs, clock=call.server.clock)
    return _run(started.run)


def _run(run: Run) -> Response:
    return Json(wire.render(run), headers=_POLL)


_ALL = "/v1/threads/{thread_id}/runs"
_ONE = _ALL + "/{run_id}"

ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/threads/runs",
        create_with_thread,
        "Create a thread and run it.",
        "The run, or with `stream` its events.",
        body=wire.CreateThreadAndRun,
    ),
    Endpoint(
        "POST",
        _ALL,
        create,
        "Create a run.",
        "The run, or with `stream` its events.",
        body=wire.CreateRun,
        query=IncludeQuery,
    ),
    Endpoint("GET", _ALL, list_all, "List a thread's runs.", "A page of runs.", query=ListQuery),
    Endpoint("GET", _ONE, retrieve, "Retrieve a run.", "The run."),
    Endpoint(
        "POST",
        _ONE,
        modify,
        "Modify a run's metadata.",
        "The run as it now is.",
        body=wire.ModifyRun,
    ),
    Endpoint("POST", _ONE + "/cancel", cancel, "Cancel a run.", "The run, `cancelling`."),
    Endpoint(
        "POST",
        _ONE + "/submit_tool_outputs",
        submit_tool_outputs,
        "Answer the function calls that a run waits for.",
        "The run, or with `stream` its events from here on.",
        body=wire.SubmitToolOutputs,
    ),
)
