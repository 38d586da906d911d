"""A server without its HTTP side: real database, real provider, a scripted model, a still clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tests.manual_clock import ManualClock
from tests.upstream import Upstream

from assistants_server import ids
from assistants_server.domain.drafts import MessageDraft, RunDraft, RunExtensions, ThreadDraft
from assistants_server.domain.records import Assistant, Message, Page, Run, Step
from assistants_server.domain.run_events import ObjectEvent, RunEvent
from assistants_server.engine.event_log import Followed
from assistants_server.engine.model_names import ModelNames
from assistants_server.engine.runs import Runs, StartedRun
from assistants_server.engine.worker import Worker
from assistants_server.providers.chat_completions import ChatCompletions
from assistants_server.settings import Settings
from assistants_server.store import assistants, messages, steps, threads
from assistants_server.store.database import Database

PROJECT = "default"


def text(value: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": {"value": value, "annotations": []}}]


class Process:
    """What one process has of its own: a worker, and requests that go through it."""

    def __init__(
        self, database: Database, upstream: Upstream, clock: ManualClock, settings: Settings
    ) -> None:
        self.provider = ChatCompletions(
            base_url=upstream.base_url, api_key="key", context_window=8000
        )
        self.worker = Worker(
            database=database,
            provider=self.provider,
            names=ModelNames(database, settings.models),
            clock=clock,
            settings=settings,
        )
        self.runs = Runs(database=database, worker=self.worker, clock=clock)

    async def stop(self, grace: float = 0) -> None:
        await self.worker.drain(grace)
        await self.provider.aclose()

    def die(self) -> None:
        """As kill -9: no task of it runs on, nothing more is stored."""
        for task in [*self.worker._tasks, *self.worker._side_tasks]:
            task.cancel()


class Bench:
    def __init__(
        self, database: Database, upstream: Upstream, clock: ManualClock, settings: Settings
    ) -> None:
        self.database = database
        self.upstream = upstream
        self.clock = clock
        self.settings = settings
        self.processes: list[Process] = []
        self.process = self.new_process()

    def new_process(self) -> Process:
        process = Process(self.database, self.upstream, self.clock, self.settings)
        self.processes.append(process)
        return process

    @property
    def runs(self) -> Runs:
        return self.process.runs

    async def prepare(self, **assistant: Any) -> None:
        """An assistant and a thread."""
        values = {"model": "gpt-4o", "instructions": "Be brief.", **assistant}
        self.assistant = Assistant(
            id=ids.assistant_id(), project_id=PROJECT, created_at=1, **values
        )
        await self.database.write(assistants.insert, self.assistant)
        thread = await self.database.write(threads.create, PROJECT, ThreadDraft(), now=1)
        self.thread_id = thread.id

    def draft(self, words: str | None, **fields: Any) -> RunDraft:
        extensions = fields.pop("extensions", RunExtensions())
        said = [] if words is None else [MessageDraft(role="user", content=text(words))]
        return RunDraft(
            assistant_id=self.assistant.id,
            additional_messages=said,
            extensions=extensions,
            **fields,
        )

    async def start(self, words: str | None = "hello", **fields: Any) -> StartedRun:
        return await self.runs.create(PROJECT, self.thread_id, self.draft(words, **fields))

    async def get(self, run: Run) -> Run:
        return await self.runs.get(PROJECT, self.thread_id, run.id)

    async def messages(self) -> Sequence[Message]:
        page = Page(order="asc", limit=100)
        listing = await self.database.read(messages.list_page, PROJECT, self.thread_id, page)
        return listing.items

    async def texts(self) -> list[str]:
        return [
            "".join(block["text"]["value"] for block in message.content)
            for message in await self.messages()
        ]

    async def steps(self, run: Run) -> Sequence[Step]:
        page = Page(order="asc")
        listing = await self.database.read(steps.list_page, PROJECT, self.thread_id, run.id, page)
        return listing.items


async def events(log: Followed) -> list[RunEvent]:
    """All that the log will ever hold."""
    return [event async for batch in log.follow() for event in batch]


async def names(log: Followed) -> list[str]:
    """Event names, deltas by their class, runs of the same delta once."""
    found: list[str] = []
    for event in await events(log):
        name = event.name if isinstance(event, ObjectEvent) else type(event).__name__
        if not found or found[-1] != name or isinstance(event, ObjectEvent):
            found.append(name)
    return found


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    """Return once ``check`` holds: for what is stored by a task that announces nothing of it."""
    while not await check():
        await asyncio.sleep(0)
