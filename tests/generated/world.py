"""A server that answers generated requests, and all of its rows to compare before and after."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2
import orjson
import pytest
import sqlalchemy as sa
from sqlalchemy import Connection
from tests.generated.requests import Ref, Request
from tests.live_server import BETA, live_server
from tests.upstream import Answer, Upstream, call, echo, say

from assistants_server.store import rows

T = TypeVar("T")

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
LONG = pytest.mark.timeout(0 if NIGHTLY else 120)
"""A search takes its time; each request in it has ``CLIENT_SECONDS`` all the same."""

MOST_THREADS = 12
CLIENT_SECONDS = 20


def model(body: dict[str, Any]) -> Answer:
    """Calls the first tool that it is shown, says what it was told, or something."""
    last = body["messages"][-1] if body["messages"] else {"role": "system"}
    if body.get("tools") and last["role"] == "user" and body.get("tool_choice") != "none":
        return call(body["tools"][0]["function"]["name"], {})
    return echo(body) if last["role"] == "user" and last["content"] else say("Well.")


def everything(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table."""
    return {
        table.name: [
            tuple(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key))
        ]
        for table in rows.metadata.sorted_tables
    }


class World:
    """One server, driven from outside its loop: Hypothesis asks for one thing at a time."""

    def __init__(self, data: Path, database_url: str | None = None) -> None:
        self._data = data
        self._database_url = database_url
        self._loop = asyncio.new_event_loop()
        self._stack = AsyncExitStack()
        self.known: dict[str, list[str]] = {}

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(asyncio.wait_for(coroutine, CLIENT_SECONDS))

    def open(self) -> None:
        self.do(self._open())

    def close(self) -> None:
        try:
            self.do(self._stack.aclose())
        finally:
            self._loop.close()

    async def _open(self) -> None:
        upstream = await self._stack.enter_async_context(
            Upstream(default=model, models=("gpt-4o",))
        )
        self.server = await self._stack.enter_async_context(
            live_server(
                data=self._data,
                database_url=self._database_url,
                upstream_url=upstream.base_url,
                upstream_key="test",
            )
        )
        self.http = await self._stack.enter_async_context(
            httpx2.AsyncClient(base_url=self.server.origin, timeout=CLIENT_SECONDS)
        )
        await self.look()
        await self.seed()

    async def seed(self) -> None:
        """One of everything: a thread whose run is over, and one whose run waits for outputs."""
        asked = {"model": "gpt-4o", "instructions": "Be brief."}
        made = await self.http.post("/v1/assistants", json=asked, headers=BETA)
        tools = [{"type": "function", "function": {"name": "f"}}]
        thread = {"messages": [{"role": "user", "content": "hello"}]}
        run = {"assistant_id": made.json()["id"], "thread": thread}
        for body in (run, {**run, "tools": tools}):
            await self.http.post("/v1/threads/runs", json=body, headers=BETA)
        form = {"purpose": (None, "assistants"), "file": ("a.txt", b"text")}
        await self.http.post("/v1/files", files=form)
        await self.rest()
        await self.look()

    # Looking

    async def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        return await self.server.state.database.read(everything)

    async def look(self) -> None:
        """What is there to refer to, newest first."""
        found = await self.rows()

        def ids(table: str) -> list[str]:
            place = list(rows.metadata.tables[table].columns.keys()).index("id")
            return [row[place] for row in reversed(found[table])]

        steps = rows.metadata.tables["steps"].columns.keys()
        calls = [c["id"] for row in found["steps"] for c in row[steps.index("tool_calls")]]
        self.known = {
            "assistant": ids("assistants"),
            "thread": ids("threads"),
            "message": ids("messages"),
            "run": ids("runs"),
            "step": ids("steps"),
            "file": ids("files"),
            "call": calls[::-1],
            "model": ["gpt-4o"],
        }

    # Asking

    async def ask(self, request: Request) -> httpx2.Response:
        """Send it, and wait until what it set going has come to rest."""
        path = request.path
        owners = await self._owners(request)
        for name, value in request.ids.items():
            known = owners.get(name) or self.resolved(value)
            path = path.replace("{" + name + "}", segment(str(known) or "-"))
        headers = {} if request.breakage == "beta" else dict(BETA)
        content: bytes | None = request.content
        if content is None and request.schema is not None:
            content = orjson.dumps(self.body(request))
        if content is not None:
            kind = "text/plain" if request.breakage == "type" else "application/json"
            headers["content-type"] = kind
        response: httpx2.Response = await self.http.request(
            request.method.upper(),
            path,
            params=[(name, text(self.resolved(value))) for name, value in pairs(request.query)],
            headers=headers,
            content=content,
        )
        await self.rest()
        return response

    async def rest(self) -> None:
        worker = self.server.state.worker
        while worker._tasks:
            await asyncio.wait(worker._tasks)

    def body(self, request: Request) -> Any:
        body = self.resolved(request.body)
        if isinstance(body, dict) and body.get("if_active") == "queue":
            body["if_active"] = "supersede"  # nobody here would end the run that it waits for
        return body

    async def _owners(self, request: Request) -> dict[str, str]:
        """The thread (and run) that a message, run or step in a path really belongs to."""
        inner = [name for name in ("step_id", "message_id", "run_id") if name in request.ids]
        if not inner or not isinstance(request.ids.get(inner[0]), Ref):
            return {}
        if not isinstance(request.ids.get("thread_id"), Ref):
            return {}
        table = rows.metadata.tables[inner[0].removesuffix("_id") + "s"]
        known = self.resolved(request.ids[inner[0]])

        def find(connection: Connection) -> dict[str, str]:
            row = connection.execute(sa.select(table).where(table.c.id == known)).first()
            if row is None:
                return {}
            owners = {inner[0]: known, "thread_id": row.thread_id}
            return {**owners, "run_id": row.run_id} if inner[0] == "step_id" else owners

        return await self.server.state.database.read(find)

    def resolved(self, value: Any) -> Any:
        """With the ids of what is there in place of every ``Ref``."""
        if isinstance(value, Ref):
            known = self.known[value.kind]
            return known[value.pick % len(known)] if known else f"{value.kind}_none"
        if isinstance(value, dict):
            return {key: self.resolved(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.resolved(item) for item in value]
        return value

    async def tidy(self) -> None:
        """Keep the dumps small."""
        for thread_id in self.known["thread"][MOST_THREADS:]:
            await self.http.delete(f"/v1/threads/{thread_id}", headers=BETA)
        for assistant_id in self.known["assistant"][MOST_THREADS:]:
            await self.http.delete(f"/v1/assistants/{assistant_id}", headers=BETA)
        for file_id in self.known["file"][MOST_THREADS:]:
            await self.http.delete(f"/v1/files/{file_id}")
        await self.look()
        if not all(self.known.values()):
            await self.seed()


def segment(text: str) -> str:
    """The text as one segment of a path, dots included: clients resolve ``/.`` and ``/..``."""
    return quote(text, safe="").replace(".", "%2E")


def pairs(query: dict[str, Any]) -> list[tuple[str, Any]]:
    """As a query string has them: arrays repeat, objects have their keys in brackets."""
    found: list[tuple[str, Any]] = []
    for name, value in query.items():
        if isinstance(value, list):
            found += [(name, item) for item in value]
        elif isinstance(value, dict):
            found += [(f"{name}[{key}]", item) for key, item in value.items()]
        elif value is not None:
            found.append((name, value))
    return found


def text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)
