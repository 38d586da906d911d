"""Finding or making the assistant and the thread of a conversation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import openai

from .errors import AssistantError
from .ledger import Held
from .messages import ITEM_ID, parts_of
from .options import AssistantCreateOptions, AssistantOptions
from .server import Json, Server
from .snapshot import digest

DEFINITION = "livekit_definition"
THREAD_KEY = "livekit_thread_key"

_SEARCHED = 1000  # assistants looked through for one made before


@dataclass(frozen=True, slots=True, kw_only=True)
class Assistant:
    id: str
    model: str
    tools: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedThread:
    """A thread with its newest messages as a protected base."""

    id: str
    base: tuple[Held, ...] = ()
    complete: bool = True


async def find_assistant(server: Server, options: AssistantOptions) -> Assistant:
    """The assistant to load, or the one made before from the same definition, or a new one."""
    if options.load_options is not None:
        assistant_id = options.load_options.assistant_id
        try:
            return _assistant(await server.request("GET", f"/assistants/{assistant_id}"))
        except openai.NotFoundError as error:
            raise AssistantError(f"There is no assistant {assistant_id!r}.") from error
    assert options.create_options is not None
    body = _definition(options.create_options)
    mark = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    found = await _assistant_made_before(server, body, mark)
    if found is not None:
        return _assistant(found)
    name: str | None = f"livekit-assistant-{mark}"
    body["metadata"] = {DEFINITION: mark}
    while True:
        made = await server.request("POST", "/assistants", body=body, idempotency_key=name)
        # Somebody else may have made one at the same time: the older one is everybody's.
        found = await _assistant_made_before(server, body, mark)
        if found is not None:
            if found["id"] != made["id"]:
                await server.request("DELETE", f"/assistants/{made['id']}")
            return _assistant(found)
        if await _exists(server, f"/assistants/{made['id']}"):
            return _assistant(made)  # a server that shows an assistant otherwise than it was given
        name = _next_name(name, made["id"])


async def find_thread(
    server: Server, *, thread_id: str | None, thread_key: str | None
) -> LoadedThread:
    """The thread of this id or key with its newest messages, or a new one."""
    if thread_id is not None:
        return await load_thread(server, thread_id)
    if thread_key is None:
        return LoadedThread(id=(await server.request("POST", "/threads"))["id"])
    found = await _thread_of_key(server, thread_key)
    if found is not None:
        return await load_thread(server, found)
    return await _thread_for_key(server, thread_key)


async def load_thread(server: Server, thread_id: str) -> LoadedThread:
    try:
        page = await server.page(f"/threads/{thread_id}/messages")
    except openai.NotFoundError as error:
        raise AssistantError(f"There is no thread {thread_id!r}.") from error
    base = tuple(held_base(message) for message in reversed(page["data"]))
    return LoadedThread(id=thread_id, base=base, complete=not page.get("has_more"))


def held_base(message: Json) -> Held:
    return Held(
        message_id=message["id"],
        role=message["role"],
        digest=digest(parts_of(message)),
        item_id=(message.get("metadata") or {}).get(ITEM_ID),
    )


async def _thread_of_key(server: Server, key: str) -> str | None:
    try:
        page = await server.request(
            "GET", "/threads", params={f"metadata[{THREAD_KEY}]": key, "limit": 1, "order": "asc"}
        )
    except openai.APIStatusError as error:
        if error.status_code not in (404, 405):
            raise
        raise AssistantError(
            "thread_key needs a server that can list threads, as assistants-server does; "
            "this one cannot. Keep the thread's id yourself and pass thread_id."
        ) from error
    return page["data"][0]["id"] if page["data"] else None


async def _thread_for_key(server: Server, key: str) -> LoadedThread:
    """Make the thread of a key. Of two made at the same time the older one is everybody's; servers
    that honour the idempotency key make only one."""
    name: str | None = f"livekit-thread-{hashlib.sha256(key.encode()).hexdigest()}"
    while True:
        made = await server.request(
            "POST", "/threads", body={"metadata": {THREAD_KEY: key}}, idempotency_key=name
        )
        found = await _thread_of_key(server, key)
        if found is not None:
            if found == made["id"]:
                return LoadedThread(id=found)
            await server.request("DELETE", f"/threads/{made['id']}")
            return await load_thread(server, found)
        if await _exists(server, f"/threads/{made['id']}"):
            raise AssistantError(f"The server does not find the thread it made for {key!r}.")
        name = _next_name(name, made["id"])


def _next_name(name: str | None, gone: str) -> str | None:
    """The idempotency key brought back one that was deleted since: the next key. After the second
    such, none: the search alone then says whose is the older one."""
    return f"{name}-{gone}" if name is not None and name.count("-") < 4 else None


async def _exists(server: Server, path: str) -> bool:
    try:
        await server.request("GET", path)
    except openai.NotFoundError:
        return False
    return True


async def _assistant_made_before(server: Server, body: Json, mark: str) -> Json | None:
    """The oldest assistant with this mark that nobody has changed since."""
    found = [
        one
        for one in await server.every("/assistants", order="desc", most=_SEARCHED)
        if (one.get("metadata") or {}).get(DEFINITION) == mark and _still(one, body)
    ]
    return found[-1] if found else None


def _definition(options: AssistantCreateOptions) -> Json:
    body: Json = {
        "name": options.name,
        "instructions": options.instructions,
        "model": options.model,
    }
    if options.temperature is not None:
        body["temperature"] = options.temperature
    return body


def _still(assistant: Json, body: Json) -> bool:
    return all(assistant.get(name) == value for name, value in body.items())


def _assistant(body: Json) -> Assistant:
    return Assistant(id=body["id"], model=body["model"], tools=body.get("tools") or ())
