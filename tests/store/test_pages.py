"""Pages never skip or repeat, whatever is written or deleted between two of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from assistants_server import errors
from assistants_server.domain.drafts import MessageDraft, ThreadDraft
from assistants_server.domain.records import Page
from assistants_server.store import messages, runs, threads
from assistants_server.store.database import Database

TEXT = [{"type": "text", "text": {"value": "hello", "annotations": []}}]
Order = Literal["asc", "desc"]


async def _thread(database: Database, count: int) -> tuple[str, list[str]]:
    thread = await database.write(threads.create, "default", ThreadDraft(), now=1)
    made = [
        await database.write(
            messages.create,
            "default",
            thread.id,
            MessageDraft(role="user", content=TEXT),
            now=1 + n // 3,  # several in one second
        )
        for n in range(count)
    ]
    return thread.id, [message.id for message in made]


async def _walk(database: Database, thread_id: str, *, limit: int, order: Order) -> list[str]:
    seen: list[str] = []
    after: str | None = None
    while True:
        page = Page(limit=limit, order=order, after=after)
        listing = await database.read(messages.list_page, "default", thread_id, page)
        seen += [message.id for message in listing.items]
        if not listing.has_more:
            return seen
        after = seen[-1]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limit", [1, 2, 7, 100])
async def test_following_the_cursor_gives_everything_once_in_order(
    database: Database, limit: int, order: Order
) -> None:
    thread_id, made = await _thread(database, 7)
    expected = made if order == "asc" else made[::-1]
    assert await _walk(database, thread_id, limit=limit, order=order) == expected


@pytest.mark.parametrize(
    ("listing", "cursor"),
    [
        (messages.list_page, None),
        (messages.list_page, "after"),
        (messages.list_page, "before"),
        (runs.list_page, None),
    ],
)
async def test_a_page_is_read_in_order_and_not_sorted_out_of_the_whole_thread(
    database: Database, listing: Callable[..., object], cursor: str | None
) -> None:
    """LangChain and LlamaIndex page through all of a thread after every turn."""
    thread_id, made = await _thread(database, 3)

    def plan(connection: Connection) -> str:
        asked: list[tuple[str, Any]] = []

        def note(sql: str, values: object = ()) -> None:
            if "LIMIT" in sql:
                asked.append((sql, values))

        driver: Any = connection.connection.driver_connection
        place: Any = {cursor: made[1]} if cursor else {}
        page = Page(limit=2, **place)
        if connection.dialect.name == "postgresql":  # so few rows are else read without an index
            connection.execute(text("SET LOCAL enable_seqscan = off"))
            connection.execute(text("SET LOCAL enable_bitmapscan = off"))
            driver.add_query_logger(lambda query: note(query.query, query.args))
            listing(connection, "default", thread_id, page)
            connection.execute(text("SELECT 1"))  # meanwhile the driver tells of the last one
            ((sql, values),) = asked
            return str(connection.exec_driver_sql(f"EXPLAIN {sql}", values).all())
        driver.set_trace_callback(note)
        listing(connection, "default", thread_id, page)
        driver.set_trace_callback(None)
        ((sql, _),) = asked
        return str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}").all())

    found = await database.read(plan)
    assert "created_at_seq" in found, found
    assert "TEMP B-TREE" not in found, found
    assert "Sort" not in found, found


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_before_gives_the_nearest_entries_in_the_chosen_order(
    database: Database, order: Order
) -> None:
    thread_id, made = await _thread(database, 6)
    expected = made if order == "asc" else made[::-1]
    page = Page(limit=2, order=order, before=expected[4])
    listing = await database.read(messages.list_page, "default", thread_id, page)
    assert [message.id for message in listing.items] == expected[2:4]
    assert listing.has_more
    page = Page(limit=2, order=order, before=expected[2])
    listing = await database.read(messages.list_page, "default", thread_id, page)
    assert [message.id for message in listing.items] == expected[:2]
    assert not listing.has_more


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_two_cursors_give_what_lies_between_them(database: Database, order: Order) -> None:
    thread_id, made = await _thread(database, 6)
    expected = made if order == "asc" else made[::-1]

    async def between(after: int, before: int, limit: int = 20) -> tuple[list[str], bool]:
        page = Page(limit=limit, order=order, after=expected[after], before=expected[before])
        listing = await database.read(messages.list_page, "default", thread_id, page)
        return [message.id for message in listing.items], listing.has_more

    assert await between(0, 4) == (expected[1:4], False)
    assert await between(0, 4, limit=2) == (expected[1:3], True)
    for nothing in ((2, 2), (2, 3), (4, 1)):
        assert await between(*nothing) == ([], False)


async def test_a_cursor_that_was_deleted_still_marks_its_place(database: Database) -> None:
    thread_id, made = await _thread(database, 5)
    await database.write(messages.delete, "default", thread_id, made[2])
    page = Page(order="asc", after=made[2])
    listing = await database.read(messages.list_page, "default", thread_id, page)
    assert [message.id for message in listing.items] == made[3:]


async def test_a_cursor_of_another_thread_is_refused(database: Database) -> None:
    thread_id, _ = await _thread(database, 1)
    _, elsewhere = await _thread(database, 1)
    with pytest.raises(errors.BadRequest) as refusal:
        await database.read(messages.list_page, "default", thread_id, Page(after=elsewhere[0]))
    assert refusal.value.param == "after"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    order=st.sampled_from(["asc", "desc"]),
    limit=st.integers(1, 4),
    moves=st.lists(st.sampled_from(["page", "add", "delete_seen", "delete_last"]), max_size=12),
)
def test_a_walk_among_writers_repeats_nothing_and_skips_nothing_that_stays(
    tmp_path_factory: pytest.TempPathFactory, order: Order, limit: int, moves: list[str]
) -> None:
    async def scenario() -> None:
        path = tmp_path_factory.mktemp("pages") / "assistants.db"
        database = await Database.open(f"sqlite:///{path}")
        thread_id, made = await _thread(database, 8)
        stays, seen = set(made), list[str]()
        after: str | None = None
        more = True
        for move in [*moves, *["page"] * 30]:
            if move == "page" and more:
                page = Page(limit=limit, order=order, after=after)
                listing = await database.read(messages.list_page, "default", thread_id, page)
                seen += [message.id for message in listing.items]
                after, more = seen[-1] if seen else None, listing.has_more
            elif move == "add":
                draft = MessageDraft(role="user", content=TEXT)
                await database.write(messages.create, "default", thread_id, draft, now=9)
            elif move in ("delete_seen", "delete_last") and seen:
                victim = seen[-1] if move == "delete_last" else seen[0]
                if victim in stays:
                    stays.discard(victim)
                    await database.write(messages.delete, "default", thread_id, victim)
        assert len(seen) == len(set(seen)), "an entry came twice"
        assert stays <= set(seen), "an entry was skipped"
        await database.close()

    asyncio.run(scenario())
