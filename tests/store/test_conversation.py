"""What a model is shown of a thread: the newest part that fits, however it was read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection
from tests.store.test_run_creation import NOW, World, text, world

from assistants_server.domain import model_input
from assistants_server.domain.drafts import MessageDraft, ThreadDraft
from assistants_server.domain.records import File, Message, Run, Step
from assistants_server.domain.tokens import estimate_message
from assistants_server.store import conversation, files, messages, steps, threads
from assistants_server.store.conversation import SHORT, View

__all__ = ["world"]

EVERYTHING = 10**6


async def thread_of(world: World, count: int) -> list[Message]:
    """Messages of different lengths, oldest first, in a thread of their own."""

    def fill(connection: Connection) -> list[Message]:
        thread = threads.create(connection, "default", ThreadDraft(), now=NOW)
        drafts = [
            MessageDraft(role="user", content=text(f"{number} " * (number % 7 + 1)))
            for number in range(count)
        ]
        return [
            messages.insert(connection, messages.from_draft(thread.id, draft, now=NOW))
            for draft in drafts
        ]

    return await world.database.write(fill)


async def run_on(world: World, thread: Sequence[Message]) -> Run:
    created = await world.create("hello")
    return replace(created.run, thread_id=thread[0].thread_id, instructions=None)


def window_for(tokens: int) -> View:
    """A view whose budget for messages is ``tokens``."""
    return View(window=lambda run: tokens * 4 // 3, tool_history=True)


def fitting(thread: Sequence[Message], run: Run, view: View) -> list[str]:
    """The ids that fit, worked out the plain way."""
    left = model_input.prompt_budget(run, window=view.window(run))
    shown: list[str] = []
    for message in reversed(thread):
        if message.position < run.first_position or message.id in run.excluded_ids:
            continue
        left -= estimate_message(message.content)
        if left < 0 and shown:
            break
        shown.append(message.id)
    return shown[::-1]


@pytest.mark.parametrize("count", [1, 200, 201, 450])
@pytest.mark.parametrize("tokens", [1, 3000, EVERYTHING])
async def test_the_newest_messages_that_fit_are_shown_of_a_thread_of_any_length(
    world: World, count: int, tokens: int
) -> None:
    thread = await thread_of(world, count)
    run, view = await run_on(world, thread), window_for(tokens)
    shown = await world.database.read(conversation.read, run, view)
    assert [message.id for message in shown.messages] == fitting(thread, run, view)


async def test_hidden_messages_leave_their_room_to_older_ones(world: World) -> None:
    thread = await thread_of(world, 450)
    run, view = await run_on(world, thread), window_for(1000)
    run = replace(run, excluded_ids=[message.id for message in thread[-220::2]])
    run = replace(run, first_position=thread[100].position)
    shown = await world.database.read(conversation.read, run, view)
    assert [message.id for message in shown.messages] == fitting(thread, run, view)


@pytest.mark.parametrize("tokens", [1, 300, EVERYTHING])
async def test_a_short_thread_reads_the_same_in_passing(world: World, tokens: int) -> None:
    thread = await thread_of(world, SHORT)
    run, view = await run_on(world, thread), window_for(tokens)
    in_passing = await world.database.read(conversation.read_short, run, view)
    assert in_passing == await world.database.read(conversation.read, run, view)


def turn_of(run: Run, name: str, *calls: dict[str, Any], after: int) -> Step:
    return Step(
        id=name,
        run_id=run.id,
        thread_id=run.thread_id,
        assistant_id=run.assistant_id,
        created_at=NOW,
        type="tool_calls",
        status="completed",
        after_position=after,
        tool_calls=calls,
    )


async def test_a_thread_of_many_tool_turns_is_not_read_in_passing(world: World) -> None:
    """They may be all that a thread consists of: an agent at work answers them for hours."""
    thread = await thread_of(world, 1)
    run, view = await run_on(world, thread), window_for(EVERYTHING)

    def answer(connection: Connection, number: int) -> None:
        steps.insert(connection, turn_of(run, f"step_{number}", after=thread[0].position))

    for number in range(SHORT):
        await world.database.write(answer, number)
    short = await world.database.read(conversation.read_short, run, view)
    assert short is not None
    assert len(short.turns) == SHORT
    await world.database.write(answer, SHORT)
    assert await world.database.read(conversation.read_short, run, view) is None


def answered(run: Run, output: str, *, after: int) -> Step:
    """A tool turn of the run that stands behind that place of the thread."""
    function = {"name": "f", "arguments": "{}", "output": output}
    call = {"id": "call_1", "type": "function", "function": function}
    return turn_of(run, f"step_{after}", call, after=after)


BOTH = pytest.mark.parametrize("read", [conversation.read, conversation.read_short])


@BOTH
async def test_tool_outputs_push_older_messages_out(world: World, read: Any) -> None:
    thread = await thread_of(world, 20)
    run = await run_on(world, thread)
    turn = answered(run, "word " * 800, after=thread[10].position)
    await world.database.write(steps.insert, turn)
    shown = await world.database.read(read, run, window_for(1000))
    assert [one.id for one in shown.messages] == [one.id for one in thread[11:]]
    assert shown.turns == []
    shown = await world.database.read(read, run, window_for(1100))
    assert 10 <= len(shown.messages) < len(thread)
    assert [one.id for one in shown.turns] == [turn.id]
    assert shown.tokens <= 1100


@BOTH
async def test_a_turn_before_the_first_message_goes_with_it(world: World, read: Any) -> None:
    thread = await thread_of(world, 20)
    run = await run_on(world, thread)
    turn = answered(run, "x", after=0)
    await world.database.write(steps.insert, turn)

    async def turns_shown(run: Run, tokens: int) -> list[str]:
        shown = await world.database.read(read, run, window_for(tokens))
        return [one.id for one in shown.turns]

    assert await turns_shown(run, EVERYTHING) == [turn.id]
    assert await turns_shown(run, 50) == []
    assert await turns_shown(replace(run, first_position=thread[1].position), EVERYTHING) == []
    assert await turns_shown(replace(run, excluded_ids=[thread[0].id]), EVERYTHING) == []


async def test_a_long_thread_or_one_with_images_is_not_read_in_passing(world: World) -> None:
    long = await thread_of(world, SHORT + 1)
    view = window_for(EVERYTHING)
    run = await run_on(world, long)
    assert await world.database.read(conversation.read_short, run, view) is None
    image = {"type": "image_file", "image_file": {"file_id": "file-x", "detail": "auto"}}
    await world.database.write(
        messages.create,
        "default",
        (short := await thread_of(world, 1))[0].thread_id,
        MessageDraft(role="user", content=[image]),
        now=NOW,
    )
    seen = replace(run, thread_id=short[0].thread_id)
    assert await world.database.read(conversation.read_short, seen, view) is None


def upload(connection: Connection, name: str, size: int) -> None:
    file = File(id=name, project_id="default", created_at=NOW, filename="a", bytes=0, purpose="")
    files.begin(connection, file)
    files.append(connection, name, 0, b"x" * (size - 1))
    files.append(connection, name, 1, b"y")
    files.finish(connection, "default", name, size=size, purpose="vision")


async def test_of_images_that_have_no_room_together_the_newest_are_shown(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = await thread_of(world, 1)
    for name in ("file-old", "file-new"):
        await world.database.write(upload, name, 6)
        image = {"type": "image_file", "image_file": {"file_id": name, "detail": "auto"}}
        draft = MessageDraft(role="user", content=[image])
        await world.database.write(messages.create, "default", thread[0].thread_id, draft, now=NOW)
    monkeypatch.setattr(files, "read", partial(files.read, most=10))
    run = await run_on(world, thread)
    found = await world.database.read(conversation.read, run, window_for(EVERYTHING))
    assert set(found.images) == {"file-new"}


async def test_images_are_shown_as_far_as_an_endpoint_takes_them(world: World) -> None:
    for name, size in (("file-new", 6), ("file-large", 11), ("file-old", 5), ("file-older", 4)):
        await world.database.write(upload, name, size)
    asked = ["file-new", "file-gone", "file-large", "file-old", "file-older", "file-new"]
    shown = await world.database.read(files.read, "default", asked, most=10)
    assert shown == {"file-new": b"xxxxxy", "file-older": b"xxxy"}
