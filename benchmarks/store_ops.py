"""Single operations, one after the other and 16 at once: over HTTP, and in the store alone.

    python -m benchmarks.store_ops --operations 500 --messages 10,1000,100000

Durable as in production: on SQLite every commit reaches the disk, PostgreSQL has its defaults. Over
HTTP every client has a connection that is kept, and server and client a process each.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection as DatabaseConnection

from assistants_server import ids
from assistants_server.domain.drafts import MessageDraft, ThreadDraft
from assistants_server.domain.records import Page, Run
from assistants_server.store import conversation, messages, rows, threads
from assistants_server.store.conversation import View
from assistants_server.store.database import Database

from .deployments import Deployment, on_postgresql, on_sqlite, postgresql
from .measure import HEAD, machine, row
from .raw_client import Connection

AT_ONCE = 16
WINDOW = 4000  # the context window of the model, in tokens
_SLICE = 5000

Operation = Callable[[], Awaitable[Any]]


def said(text: str = "Something of an ordinary length, as people say it.") -> MessageDraft:
    content = [{"type": "text", "text": {"value": text, "annotations": []}}]
    return MessageDraft(role="user", content=content)


async def sequential(operation: Operation, count: int) -> list[float]:
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        await operation()
        taken.append(time.perf_counter() - began)
    return taken


async def concurrent(operation: Operation, count: int) -> list[float]:
    shares = await asyncio.gather(
        *(sequential(operation, count // AT_ONCE) for _ in range(AT_ONCE))
    )
    return [one for share in shares for one in share]


async def report(name: str, operation: Operation, count: int) -> None:
    await sequential(operation, 20)
    for way, run in (("", sequential), (f", {AT_ONCE} at once", concurrent)):
        began = time.perf_counter()
        taken = await run(operation, count)
        rate = len(taken) / (time.perf_counter() - began)
        print(row(f"{name}{way} ({rate:,.0f}/s)", taken), flush=True)


def fill(connection: DatabaseConnection, thread_id: str, count: int) -> None:
    """A long thread, without the hours that its conversation would have taken."""
    draft = said()
    sample = messages.insert(connection, messages.from_draft(thread_id, draft, now=1))
    table = rows.messages
    stored = connection.execute(sa.select(table).where(table.c.id == sample.id)).one()._asdict()
    del stored["seq"]
    for start in range(1, count, _SLICE):
        connection.execute(
            sa.insert(table),
            [{**stored, "id": ids.message_id()} for _ in range(min(_SLICE, count - start))],
        )


async def measure(name: str, url: str, operations: int, lengths: list[int]) -> None:
    database = await Database.open(url)
    try:
        # One for each that writes at once: a thread takes its messages one after the other.
        made = [
            await database.write(threads.create, "p", ThreadDraft(), now=1) for _ in range(AT_ONCE)
        ]
        thread, turns = made[0], itertools.cycle(made)

        async def create_thread() -> None:
            await database.write(threads.create, "p", ThreadDraft(), now=1)

        async def add_message() -> None:
            await database.write(messages.create, "p", next(turns).id, said(), now=1)

        async def retrieve() -> None:
            await database.read(threads.get, "p", thread.id)

        async def list_20() -> None:
            await database.read(messages.list_page, "p", thread.id, Page(limit=20))

        await report(f"{name}, create thread", create_thread, operations)
        await report(f"{name}, add message", add_message, operations)
        await report(f"{name}, retrieve thread", retrieve, operations)
        await report(f"{name}, list 20 messages", list_20, operations)
        for length in lengths:
            await long_thread(database, f"{name}, {length:,} messages", length, operations)
    finally:
        await database.close()


async def over_http(name: str, deployment: Deployment, operations: int) -> None:
    """The same as clients see it. Nobody is asked for a model's answer."""
    async with AsyncExitStack() as held:
        (url,) = await held.enter_async_context(deployment("http://127.0.0.1:1/v1"))
        clients = [await held.enter_async_context(Connection(url)) for _ in range(AT_ONCE)]
        made = [await client.made("/threads", {}) for client in clients]
        idle = asyncio.Queue[Connection]()
        for client in clients:
            idle.put_nowait(client)
        turns = itertools.cycle(made)

        async def send(method: str, path: str, body: object = None) -> None:
            client = idle.get_nowait()
            await client.send(method, path, body)
            idle.put_nowait(client)

        message = {"role": "user", "content": "Something of an ordinary length."}
        one = f"/threads/{made[0]}"
        await report(f"{name}, create thread", lambda: send("POST", "/threads", {}), operations)
        await report(
            f"{name}, add message",
            lambda: send("POST", f"/threads/{next(turns)}/messages", message),
            operations,
        )
        await report(f"{name}, retrieve thread", lambda: send("GET", one), operations)
        await report(
            f"{name}, list 20 messages", lambda: send("GET", f"{one}/messages"), operations
        )


async def long_thread(database: Database, name: str, length: int, operations: int) -> None:
    """What a run reads before its first token, and what a client does, in a thread so long."""
    thread = await database.write(threads.create, "p", ThreadDraft(), now=1)
    await database.write(fill, thread.id, length)
    run = Run(
        id=ids.run_id(),
        project_id="p",
        thread_id=thread.id,
        assistant_id="asst_x",
        created_at=1,
        status="in_progress",
        model="m",
    )

    view = View(window=lambda run: WINDOW, tool_history=True)

    async def read() -> None:
        await database.read(conversation.read, run, view)

    async def add() -> None:
        await database.write(messages.create, "p", thread.id, said(), now=1)

    print(row(f"{name}: read for the model", await sequential(read, operations)), flush=True)
    print(row(f"{name}: add one", await sequential(add, operations)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Single operations.")
    parser.add_argument("--operations", type=int, default=500)
    parser.add_argument("--messages", default="10,1000,100000", help="lengths of threads")
    given = parser.parse_args()
    lengths = [int(length) for length in given.messages.split(",")]
    print(f"Single operations, {given.operations} each; {machine()}.\n\n{HEAD}", flush=True)
    for name, deployment in (("SQLite", on_sqlite), ("PostgreSQL", on_postgresql)):
        asyncio.run(over_http(f"HTTP, {name}", deployment, given.operations))
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        sqlite = f"sqlite:///{Path(folder) / 'assistants.db'}"
        asyncio.run(measure("SQLite", sqlite, given.operations, lengths))
    with postgresql() as url:
        asyncio.run(measure("PostgreSQL", url, given.operations, lengths))


if __name__ == "__main__":
    main()
