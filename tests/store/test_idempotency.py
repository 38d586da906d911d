"""An answer is stored with its effect or not at all, whoever asks at the same time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import Connection

from assistants_server import errors
from assistants_server.domain.drafts import ThreadDraft
from assistants_server.domain.records import Page, Thread
from assistants_server.store import idempotency, threads
from assistants_server.store.database import Database
from assistants_server.store.idempotency import (
    KEPT_SECONDS,
    AlreadyAnswered,
    Answer,
    KeyedRequest,
    Once,
)

REQUEST = KeyedRequest(project_id="p", key="k", path="/v1/threads", body_digest="d", now=1000)


def once(request: KeyedRequest = REQUEST) -> Once:
    return Once(request, lambda thread: Answer(body=thread.id.encode()))


async def create(database: Database, request: KeyedRequest = REQUEST) -> Thread:
    return await database.write(once(request)(threads.create), "p", ThreadDraft(), now=1000)


async def count(database: Database) -> int:
    listing = await database.read(threads.list_page, "p", Page(limit=100), metadata={})
    return len(listing.items)


async def test_many_equal_requests_at_once_have_one_effect(database: Database) -> None:
    outcomes = await asyncio.gather(*(create(database) for _ in range(12)), return_exceptions=True)
    (made,) = [outcome for outcome in outcomes if isinstance(outcome, Thread)]
    told = [one.answer for one in outcomes if isinstance(one, AlreadyAnswered)]
    assert told == [Answer(body=made.id.encode())] * 11
    assert await count(database) == 1


async def test_a_failure_is_not_remembered(database: Database) -> None:
    def fail(connection: Connection) -> Thread:
        threads.create(connection, "p", ThreadDraft(), now=1)
        raise errors.no_thread("thread_x")

    with pytest.raises(errors.NotFound):
        await database.write(once()(fail))
    assert await count(database) == 0
    await create(database)


async def test_key_project_and_path_make_a_request(database: Database) -> None:
    await create(database)
    await create(database, replace(REQUEST, project_id="q"))
    await create(database, replace(REQUEST, key="l"))
    await create(database, replace(REQUEST, path="/v1/" + "x" * 10_000))
    with pytest.raises(errors.BadRequest) as refusal:
        await create(database, replace(REQUEST, body_digest="e"))
    assert refusal.value.code == "idempotency_key_reused"


async def test_after_a_day_a_key_is_new_whether_it_was_swept_or_not(database: Database) -> None:
    await create(database)
    almost = replace(REQUEST, now=REQUEST.now + KEPT_SECONDS - 1)
    await database.write(idempotency.sweep, now=almost.now)
    with pytest.raises(AlreadyAnswered):
        await create(database, almost)
    later = replace(REQUEST, now=REQUEST.now + KEPT_SECONDS, body_digest="e")
    await create(database, later)
    await database.write(idempotency.sweep, now=later.now + KEPT_SECONDS)
    await create(database)
