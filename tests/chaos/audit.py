"""Ledger against database: every promise that was made is looked for, and every lock.

The audit asks the server as any client would, and the database itself for what no client can see.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import openai
import sqlalchemy as sa
from sqlalchemy import Connection

from assistants_server.domain.run_state import ACTIVE, TERMINAL
from assistants_server.store import rows
from assistants_server.store.database import Database

from .ledger import Ledger, RunSeen, Said

UNSTORED_SECONDS = 1.0
"""Text may be announced this long before it is stored."""

SLACK_SECONDS = 1.0  # a busy machine delays what we see, and what the server does

Fault = tuple[float, float]
"""From when to when something was down, by the monotonic clock."""

STEP_ENDS = {"completed", "failed", "cancelled", "expired"}


class Audit:
    """``await Audit(…).complaints()`` is empty when every promise was kept."""

    def __init__(self, ledger: Ledger, client: openai.AsyncOpenAI, faults: Sequence[Fault]) -> None:
        self._ledger = ledger
        self._client = client
        self._faults = faults
        self._found: list[str] = []

    async def complaints(self) -> list[str]:
        for thread_id in self._ledger.threads:
            await self._thread(thread_id)
        for file in self._ledger.files:
            content = await self._client.files.content(file.id)
            self._expect(
                hashlib.sha256(content.content).hexdigest() == file.digest,
                f"{file.id} has other bytes than were uploaded",
            )
        return self._found

    def _expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self._found.append(otherwise)

    async def _thread(self, thread_id: str) -> None:
        threads = self._client.beta.threads
        messages = [one async for one in threads.messages.list(thread_id, order="asc", limit=100)]
        runs = {one.id: one async for one in threads.runs.list(thread_id, limit=100)}
        self._users_messages(thread_id, messages)
        for message in messages:
            self._expect(
                message.run_id not in self._ledger.dropped,
                f"{message.id} is there, though all of {message.run_id} was dropped",
            )
        shown = {message.id: message for message in messages}
        for seen in [one for one in self._ledger.runs.values() if one.thread_id == thread_id]:
            run = runs.get(seen.id)
            if run is None:
                self._expect(False, f"{seen.id} is lost; it was {seen.statuses}")
                continue
            self._run(seen, run)
            await self._steps(seen)
            for said in self._ledger.said.values():
                if said.run_id == seen.id and seen.id not in self._ledger.doubtful:
                    self._reply(said, shown.get(said.id))

    def _users_messages(self, thread_id: str, messages: Sequence[Any]) -> None:
        texts = [_text(message) for message in messages]
        by_text = {_text(message): message for message in messages if message.role == "user"}
        last = -1
        for written in self._ledger.in_thread(thread_id):
            count = texts.count(written.marker)
            what = f"'{written.marker}' ({written.id})"
            self._expect(count <= 1, f"{what} is there {count} times")
            if written.state == "gone":
                self._expect(count == 0, f"{what} is there, but was deleted or refused")
            if written.state != "there":
                continue
            self._expect(count == 1, f"{what} is lost")
            message = by_text.get(written.marker)
            if message is None:
                continue
            if written.id is not None:
                self._expect(message.id == written.id, f"{what} is now {message.id}")
            if written.touched is not None:
                found = int((message.metadata or {}).get("touched", 0))
                self._expect(found == written.touched, f"{what} has lost an update: {found}")
            if written.answered:
                place = texts.index(written.marker)
                self._expect(place > last, f"{what} stands before what was written before it")
                last = place

    def _run(self, seen: RunSeen, run: Any) -> None:
        told = seen.statuses[-1]
        self._expect(run.status in TERMINAL, f"{run.id} is still {run.status}")
        if told in TERMINAL:
            self._expect(run.status == told, f"{run.id} was {told} and is now {run.status}")

    async def _steps(self, seen: RunSeen) -> None:
        if not seen.steps:
            return
        listed = self._client.beta.threads.runs.steps.list(seen.id, thread_id=seen.thread_id)
        stored = {step.id: step.status async for step in listed}
        for step_id, told in seen.steps.items():
            status = stored.get(step_id)
            self._expect(status in STEP_ENDS, f"{step_id} of {seen.id} is {status}")
            if told in STEP_ENDS:
                self._expect(status == told, f"{step_id} was {told} and is now {status}")

    def _reply(self, said: Said, message: Any | None) -> None:
        if message is None:
            self._expect(False, f"reply {said.id} of {said.run_id} is lost")
            return
        stored = _text(message)
        self._expect(message.status != "in_progress", f"{said.id} is still in progress")
        if said.text is not None:
            self._expect(message.status == said.status, f"{said.id} is now {message.status}")
            self._expect(stored == said.text, f"{said.id} has another text than was told")
            return
        streamed = "".join(text for _, text in said.deltas)
        if stored.startswith(streamed):
            return
        self._expect(streamed.startswith(stored), f"{said.id}: its text was never streamed")
        length = 0
        for when, text in said.deltas:
            length += len(text)
            if length > len(stored) and not self._excused(when):
                self._expect(False, f"{said.id} of {said.run_id} has lost '{text}' of {when:.2f}")
                return

    def _excused(self, when: float) -> bool:
        """Whether something died so soon after this text that it need not have been stored."""
        margin = UNSTORED_SECONDS + SLACK_SECONDS
        return any(begin - margin <= when <= end + margin for begin, end in self._faults)

    async def locks(self, assistant_id: str) -> list[str]:
        """Whether every thread takes a message and a run."""
        found = []
        for thread_id in self._ledger.threads:
            threads = self._client.beta.threads
            await threads.messages.create(thread_id, role="user", content="x play talk 4 0")
            run = await threads.runs.create(thread_id, assistant_id=assistant_id)
            while run.status in ACTIVE:
                await asyncio.sleep(0.02)
                run = await threads.runs.retrieve(run.id, thread_id=thread_id)
            if run.status != "completed":
                found.append(f"a last run in {thread_id} is {run.status}: {run.last_error}")
        return found


async def inside(url: str, ledger: Ledger) -> list[str]:
    """What no client can see: run names, and what may not be open once its run has ended."""
    database = await Database.open(url)
    try:
        return await database.read(_inside, ledger)
    finally:
        await database.close()


def _inside(connection: Connection, ledger: Ledger) -> list[str]:
    runs = rows.runs
    named = connection.execute(
        sa.select(runs.c.thread_id, runs.c.run_key).where(runs.c.run_key.is_not(None))
    )
    keys = {(thread_id, run_key) for thread_id, run_key in named}
    found = [f"the run named {key} is lost" for _, key in sorted(ledger.keys - keys)]
    for table in (rows.messages, rows.steps):
        left = connection.execute(
            sa.select(table.c.id, runs.c.id, runs.c.status)
            .join(runs, runs.c.id == table.c.run_id)
            .where(table.c.status == "in_progress", runs.c.status.in_(TERMINAL))
        )
        found += [f"{one} is in progress, but {run} is {status}" for one, run, status in left]
    return found


async def unsettled(url: str) -> AsyncGenerator[dict[str, int], None]:
    """How many runs are where a process should be at work, again and again."""
    database = await Database.open(url)
    try:
        while True:
            yield await database.read(_unsettled)
            await asyncio.sleep(0.1)
    finally:
        await database.close()


def _unsettled(connection: Connection) -> dict[str, int]:
    status = rows.runs.c.status
    counted = connection.execute(
        sa.select(status, sa.func.count())
        .where(status.in_(("queued", "in_progress", "cancelling")))
        .group_by(status)
    )
    return {row[0]: row[1] for row in counted}


def _text(message: Any) -> str:
    return "".join(block.text.value for block in message.content if block.type == "text")
