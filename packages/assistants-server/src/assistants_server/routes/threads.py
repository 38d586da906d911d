"""The paths of threads."""

from __future__ import annotations

from starlette.responses import Response

from ..store import threads as store
from ..store.idempotency import Answer, Once
from ..wire import threads as wire
from ..wire.objects import DeletionObject, ThreadObject
from ..wire.parts import NoQuery, deletion, encode, list_page
from .endpoints import Call, Endpoint, Json


async def create(call: Call[wire.CreateThread, NoQuery]) -> Response:
    return await call.write(
        wire.render, store.create, call.project, call.body.draft(), now=call.server.now()
    )


async def list_all(call: Call[None, wire.ThreadsQuery]) -> Response:
    found = await call.server.database.read(
        store.list_page, call.project, call.query.page(), metadata=call.query.metadata
    )
    return Json(list_page(found.items, wire.render, has_more=found.has_more))


async def retrieve(call: Call[None, NoQuery]) -> Response:
    thread_id = call.id("thread_id")
    return Json(wire.render(await call.server.database.read(store.get, call.project, thread_id)))


async def modify(call: Call[wire.ModifyThread, NoQuery]) -> Response:
    thread = await call.server.runs.modify_thread(
        call.project,
        call.id("thread_id"),
        call.body.changes(),
        [end.draft() for end in call.body.end_runs or ()],
        once=Once(call.keyed, lambda done: Answer(body=encode(wire.render(done[0])))),
    )
    return Json(wire.render(thread))


async def delete(call: Call[None, NoQuery]) -> Response:
    thread_id = call.id("thread_id")
    await call.server.runs.delete_thread(call.project, thread_id)
    return Json(deletion("thread", thread_id))


_ONE = "/v1/threads/{thread_id}"

ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/threads",
        create,
        "Create a thread, with its first messages if there are any.",
        "The thread.",
        returns=ThreadObject,
        body=wire.CreateThread,
    ),
    Endpoint(
        "GET",
        "/v1/threads",
        list_all,
        "List threads (extension); `metadata[key]=value` keeps those that carry the pair.",
        "A page of threads.",
        returns=list[ThreadObject],
        query=wire.ThreadsQuery,
    ),
    Endpoint(
        "GET",
        _ONE,
        retrieve,
        "Retrieve a thread.",
        "The thread.",
        returns=ThreadObject,
    ),
    Endpoint(
        "POST",
        _ONE,
        modify,
        "Modify a thread.",
        "The thread as it now is.",
        returns=ThreadObject,
        body=wire.ModifyThread,
    ),
    Endpoint(
        "DELETE",
        _ONE,
        delete,
        "Delete a thread with its messages, runs and steps.",
        "The deletion.",
        returns=DeletionObject,
    ),
)
