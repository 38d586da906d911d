"""The paths of assistants."""

from __future__ import annotations

from starlette.responses import Response

from ..store import assistants as store
from ..wire import assistants as wire
from ..wire.objects import AssistantObject, DeletionObject
from ..wire.parts import ListQuery, NoQuery, deletion, list_page
from .endpoints import Call, Endpoint, Json


async def create(call: Call[wire.CreateAssistant, NoQuery]) -> Response:
    assistant = call.body.record(project_id=call.project, now=call.server.now())
    return await call.write(wire.render, store.insert, assistant)


async def list_all(call: Call[None, ListQuery]) -> Response:
    found = await call.server.database.read(store.list_page, call.project, call.query.page())
    return Json(list_page(found.items, wire.render, has_more=found.has_more))


async def retrieve(call: Call[None, NoQuery]) -> Response:
    assistant_id = call.id("assistant_id")
    return Json(wire.render(await call.server.database.read(store.get, call.project, assistant_id)))


async def modify(call: Call[wire.ModifyAssistant, NoQuery]) -> Response:
    return await call.write(
        wire.render, store.update, call.project, call.id("assistant_id"), call.body.changes()
    )


async def delete(call: Call[None, NoQuery]) -> Response:
    assistant_id = call.id("assistant_id")
    await call.server.database.write(store.delete, call.project, assistant_id)
    return Json(deletion("assistant", assistant_id))


_ONE = "/v1/assistants/{assistant_id}"

ENDPOINTS = (
    Endpoint(
        "POST",
        "/v1/assistants",
        create,
        "Create an assistant.",
        "The assistant.",
        returns=AssistantObject,
        body=wire.CreateAssistant,
    ),
    Endpoint(
        "GET",
        "/v1/assistants",
        list_all,
        "List assistants.",
        "A page of assistants.",
        returns=list[AssistantObject],
        query=ListQuery,
    ),
    Endpoint(
        "GET",
        _ONE,
        retrieve,
        "Retrieve an assistant.",
        "The assistant.",
        returns=AssistantObject,
    ),
    Endpoint(
        "POST",
        _ONE,
        modify,
        "Modify an assistant.",
        "The assistant as it now is.",
        returns=AssistantObject,
        body=wire.ModifyAssistant,
    ),
    Endpoint(
        "DELETE",
        _ONE,
        delete,
        "Delete an assistant.",
        "The deletion.",
        returns=DeletionObject,
    ),
)
