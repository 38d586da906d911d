"""The paths of messages."""

from __future__ import annotations

from starlette.responses import Response

from ..store import messages as store
from ..wire import messages as wire
from ..wire.objects import DeletionObject, MessageObject
from ..wire.parts import NoQuery, deletion, list_page
from .endpoints import Call, Endpoint, Json


async def create(call: Call[wire.CreateMessage, NoQuery]) -> Response:
    return await call.write(
        wire.render,
        store.create,
        call.project,
        call.id("thread_id"),
        call.body.draft(),
        now=call.server.now(),
    )


async def list_all(call: Call[None, wire.MessagesQuery]) -> Response:
    found = await call.server.database.read(
        store.list_page,
        call.project,
        call.id("thread_id"),
        call.query.page(),
        run_id=call.query.run_id,
    )
    return Json(list_page(found.items, wire.render, has_more=found.has_more))


async def retrieve(call: Call[None, NoQuery]) -> Response:
    message = await call.server.database.read(
        store.get, call.project, call.id("thread_id"), call.id("message_id")
    )
    return Json(wire.render(message))


async def modify(call: Call[wire.ModifyMessage, NoQuery]) -> Response:
    return await call.write(
        wire.render,
        store.update,
        call.project,
        call.id("thread_id"),
        call.id("message_id"),
        call.body.changes(),
    )


async def delete(call: Call[None, NoQuery]) -> Response:
    message_id = call.id("message_id")
    await call.server.database.write(store.delete, call.project, call.id("thread_id"), message_id)
    return Json(deletion("thread.message", message_id))


_ALL = "/v1/threads/{thread_id}/messages"
_ONE = _ALL + "/{message_id}"

ENDPOINTS = (
    Endpoint(
        "POST",
        _ALL,
        create,
        "Add a message to a thread that no run is active on.",
        "The message.",
        returns=MessageObject,
        body=wire.CreateMessage,
    ),
    Endpoint(
        "GET",
        _ALL,
        list_all,
        "List a thread's messages.",
        "A page of messages.",
        returns=list[MessageObject],
        query=wire.MessagesQuery,
    ),
    Endpoint(
        "GET",
        _ONE,
        retrieve,
        "Retrieve a message.",
        "The message.",
        returns=MessageObject,
    ),
    Endpoint(
        "POST",
        _ONE,
        modify,
        "Modify a message's metadata, or its content (extension).",
        "The message as it now is.",
        returns=MessageObject,
        body=wire.ModifyMessage,
    ),
    Endpoint(
        "DELETE",
        _ONE,
        delete,
        "Delete a message.",
        "The deletion.",
        returns=DeletionObject,
    ),
)
