"""The paths of runs. ``stream`` in the body decides whether an answer is the run or its events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from ..domain.records import Run
from ..engine.retelling import Beginning
from ..engine.runs import StartedRun
from ..engine.waiting_lines import CallerLeft
from ..store import runs as store
from ..store.idempotency import AlreadyAnswered, Answer, Once
from ..store.run_creation import Created
from ..store.tool_outputs import Resumed
from ..wire import runs as wire
from ..wire.objects import RunObject
from ..wire.parts import IncludeQuery, ListQuery, NoQuery, encode, list_page
from .endpoints import REPLAYED, Call, Endpoint, Json
from .request_trace import STORED
from .sse import RunStream

_POLL = {"openai-poll-after-ms": "250"}
"""Without it Python's poll helper waits a second a look, Node's five."""


async def create_with_thread(call: Call[wire.CreateThreadAndRun, NoQuery]) -> Response:
    create = partial(
        call.server.runs.create_with_thread,
        call.project,
        call.body.thread_draft(),
        call.body.draft(),
        once=_once(call),
    )
    return await _started(call, create, beginning="thread")


async def create(call: Call[wire.CreateRun, IncludeQuery]) -> Response:
    thread_id, draft = call.id("thread_id"), call.body.draft()
    async with _leaving(call, watched=draft.extensions.if_active == "queue") as left:
        create = partial(
            call.server.runs.create,
            call.project,
            thread_id,
            draft,
            once=_once(call),
            left=left,
        )
        return await _started(call, create, beginning="run")


async def submit_tool_outputs(call: Call[wire.SubmitToolOutputs, NoQuery]) -> Response:
    submit = partial(
        call.server.runs.submit,
        call.project,
        call.id("thread_id"),
        call.id("run_id"),
        call.body.outputs(),
        once=_once(call),
    )
    return await _started(call, submit, beginning="outputs")


async def cancel(call: Call[None, NoQuery]) -> Response:
    once = Once(call.keyed, lambda done: _answer(done[0]))
    thread_id, run_id = call.id("thread_id"), call.id("run_id")
    return _run(await call.server.runs.cancel(call.project, thread_id, run_id, once=once))


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
    return await call.write(
        wire.render,
        store.update_metadata,
        call.project,
        thread_id,
        run_id,
        call.body.metadata or {},
    )


async def _started(
    call: Call[Any, Any], start: Callable[[], Awaitable[StartedRun]], *, beginning: Beginning
) -> Response:
    """The run as its request left it, or its stream."""
    if not call.body.stream:
        started, _ = await _carried_out(call, start, beginning=beginning)
        return _run(started.run)
    with ExitStack() as place:
        place.enter_context(call.server.streams.admitted(call.project))
        started, headers = await _carried_out(call, start, beginning=beginning)
        return RunStream(
            started,
            runs=call.server.runs,
            clock=call.server.clock,
            headers=headers,
            place=place.pop_all(),
        )


async def _carried_out(
    call: Call[Any, Any], start: Callable[[], Awaitable[StartedRun]], *, beginning: Beginning
) -> tuple[StartedRun, Mapping[str, str]]:
    """The run, and the headers that tell if the request had been carried out before."""
    headers: Mapping[str, str] = {}
    try:
        started = await start()
    except AlreadyAnswered as again:
        if again.answer.run_id is None:
            raise
        started = await call.server.runs.follow(again.answer.run_id, beginning=beginning)
        headers = REPLAYED
    except CallerLeft:
        raise ClientDisconnect from None
    call.request.scope[STORED] = started.run.id
    return started, headers


def _once(call: Call[Any, Any]) -> Once:
    def answer(made: Created | Resumed) -> Answer:
        return Answer(run_id=made.run.id) if call.body.stream else _answer(made.run)

    return Once(call.keyed, answer)


def _answer(run: Run) -> Answer:
    return Answer(body=encode(wire.render(run)))


@asynccontextmanager
async def _leaving(call: Call[Any, Any], *, watched: bool) -> AsyncIterator[asyncio.Event]:
    """Set when the client hangs up. Its body has been read, so nothing else can come."""
    left = asyncio.Event()

    async def watch() -> None:
        while (await call.request.receive())["type"] != "http.disconnect":
            pass
        left.set()

    watching = asyncio.ensure_future(watch()) if watched else None
    try:
        yield left
    finally:
        if watching is not None:
            watching.cancel()
            await asyncio.wait((watching,))


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
        returns=RunObject,
        body=wire.CreateThreadAndRun,
        headers=_POLL,
    ),
    Endpoint(
        "POST",
        _ALL,
        create,
        "Create a run.",
        "The run, or with `stream` its events.",
        returns=RunObject,
        body=wire.CreateRun,
        query=IncludeQuery,
        headers=_POLL,
    ),
    Endpoint(
        "GET",
        _ALL,
        list_all,
        "List a thread's runs.",
        "A page of runs.",
        returns=list[RunObject],
        query=ListQuery,
    ),
    Endpoint(
        "GET",
        _ONE,
        retrieve,
        "Retrieve a run.",
        "The run.",
        returns=RunObject,
    ),
    Endpoint(
        "POST",
        _ONE,
        modify,
        "Modify a run's metadata.",
        "The run as it now is.",
        returns=RunObject,
        body=wire.ModifyRun,
        headers=_POLL,
    ),
    Endpoint(
        "POST",
        _ONE + "/cancel",
        cancel,
        "Cancel a run.",
        "The run, `cancelling`.",
        returns=RunObject,
        headers=_POLL,
    ),
    Endpoint(
        "POST",
        _ONE + "/submit_tool_outputs",
        submit_tool_outputs,
        "Answer the function calls that a run waits for.",
        "The run, or with `stream` its events from here on.",
        returns=RunObject,
        body=wire.SubmitToolOutputs,
        headers=_POLL,
    ),
)
