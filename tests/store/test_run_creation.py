"""Creating a run is all or nothing, and each extension does what its page says."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from assistants_server import errors, ids
from assistants_server.domain.drafts import (
    CarriedOutput,
    EndRun,
    MessageDraft,
    RunDraft,
    RunExtensions,
    ThreadDraft,
)
from assistants_server.domain.records import Assistant, Failure, Message, Page, Run, Step, Usage
from assistants_server.store import (
    assistants,
    messages,
    run_creation,
    run_endings,
    runs,
    steps,
    threads,
    turn,
)
from assistants_server.store.database import Database
from assistants_server.store.run_creation import Claim, Created, ThreadBusy
from assistants_server.store.run_endings import Outcome, Unstored

NOW = 1000
CLAIM = Claim(owner="worker_a", lease_until=NOW + 10.0, expires_at=NOW + 600)


def text(value: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": {"value": value, "annotations": []}}]


def said(*words: str) -> list[MessageDraft]:
    return [MessageDraft(role="user", content=text(word)) for word in words]


class World:
    """A thread with an assistant, and what a test does to it."""

    def __init__(self, database: Database, assistant: Assistant, thread_id: str) -> None:
        self.database = database
        self.assistant = assistant
        self.thread_id = thread_id
        self.unstored: dict[str, Unstored] = {}

    async def create(self, *words: str, now: int = NOW, **extensions: Any) -> Created:
        draft = RunDraft(
            assistant_id=self.assistant.id,
            additional_messages=said(*words),
            extensions=RunExtensions(used=True, **extensions),
        )
        return await self.create_draft(draft, now=now)

    async def create_draft(self, draft: RunDraft, *, now: int = NOW) -> Created:
        return await self.database.write(
            run_creation.create,
            "default",
            self.thread_id,
            draft,
            now=now,
            claim=CLAIM,
            unstored=self.unstored.get,
        )

    async def speak(self, run: Run, words: str) -> Message:
        """The run's message, still being written."""
        message = Message(
            id=ids.message_id(),
            thread_id=run.thread_id,
            created_at=NOW,
            role="assistant",
            content=text(words),
            status="in_progress",
            run_id=run.id,
        )
        opened = await self.database.write(
            turn.open_message,
            run,
            message,
            replace(self.step(run), type="message_creation", message_id=message.id),
        )
        assert opened is not None
        return opened[0]

    def step(self, run: Run) -> Step:
        return Step(
            id=ids.step_id(),
            run_id=run.id,
            thread_id=run.thread_id,
            assistant_id=run.assistant_id,
            created_at=NOW,
            type="tool_calls",
        )

    async def call(self, run: Run, *call_ids: str) -> Run:
        """The run asks for functions and waits."""
        step = await self.database.write(turn.open_calls, run, self.step(run), said=None)
        assert step is not None
        calls = [
            {"id": one, "type": "function", "function": {"name": "f", "arguments": "{}"}}
            for one in call_ids
        ]
        with_output = [
            {**one, "function": {"name": "f", "arguments": "{}", "output": None}} for one in calls
        ]
        waiting = await self.database.write(
            turn.require_action,
            run,
            replace(step, tool_calls=with_output),
            pending=calls,
            usage=Usage(prompt_tokens=1),
        )
        assert waiting is not None
        return waiting

    async def finish(self, run: Run) -> None:
        ending = await self.database.write(
            run_endings.end, run, Outcome(cause="complete"), now=NOW, unstored=None
        )
        assert ending is not None

    async def texts(self) -> list[str]:
        page = Page(order="asc", limit=100)
        listing = await self.database.read(messages.list_page, "default", self.thread_id, page)
        return [message.content[0]["text"]["value"] for message in listing.items]

    async def run(self, run_id: str) -> Run:
        return await self.database.read(runs.get, "default", self.thread_id, run_id)

    async def tool_steps(self, run_id: str) -> list[Step]:
        listing = await self.database.read(
            steps.list_page, "default", self.thread_id, run_id, Page()
        )
        return [step for step in listing.items if step.type == "tool_calls"]


@pytest.fixture
async def world(database: Database) -> World:
    assistant = Assistant(
        id=ids.assistant_id(), project_id="default", created_at=1, model="m", instructions="Be."
    )
    await database.write(assistants.insert, assistant)
    thread = await database.write(threads.create, "default", ThreadDraft(), now=1)
    return World(database, assistant, thread.id)


async def test_two_creations_at_once_leave_one_active_run(world: World) -> None:
    outcomes = await asyncio.gather(
        *(world.create(f"words {n}") for n in range(8)), return_exceptions=True
    )
    created = [outcome for outcome in outcomes if isinstance(outcome, Created)]
    assert len(created) == 1
    refused = [outcome for outcome in outcomes if isinstance(outcome, errors.BadRequest)]
    assert len(refused) == 7
    active = created[0].run.id
    assert {str(error) for error in refused} == {
        f"Thread {world.thread_id} already has an active run {active}."
    }
    assert len(await world.texts()) == 1, "a refused request added its message"


async def test_the_database_itself_refuses_a_second_active_run(world: World) -> None:
    created = await world.create("hello")
    twin = replace(created.run, id=ids.run_id(), run_key=None)
    with pytest.raises(errors.ApiError):
        await world.database.write(runs.begin, twin, now=NOW)


async def test_a_run_of_an_unknown_thread_or_assistant_is_refused(world: World) -> None:
    elsewhere = World(world.database, world.assistant, "thread_unknown")
    with pytest.raises(errors.NotFound, match="No thread found with id 'thread_unknown'"):
        await elsewhere.create("hello")
    with pytest.raises(errors.NotFound, match="No assistant found with id 'asst_unknown'"):
        await world.create_draft(RunDraft(assistant_id="asst_unknown"))


async def test_a_thread_without_words_needs_instructions(world: World) -> None:
    mute = replace(world.assistant, id=ids.assistant_id(), instructions=None)
    await world.database.write(assistants.insert, mute)
    with pytest.raises(errors.BadRequest) as refusal:
        await world.create_draft(RunDraft(assistant_id=mute.id))
    assert refusal.value.code == "invalid_thread"
    draft = RunDraft(assistant_id=mute.id, additional_messages=said("hello"))
    assert (await world.create_draft(draft)).run.instructions is None


async def test_additional_instructions_follow_the_effective_ones(world: World) -> None:
    draft = RunDraft(
        assistant_id=world.assistant.id, instructions="Rule.", additional_instructions="More."
    )
    assert (await world.create_draft(draft)).run.instructions == "Rule.\nMore."


async def test_a_used_run_key_is_refused(world: World) -> None:
    first = await world.create("hello", run_key="turn-1")
    await world.finish(first.started)
    with pytest.raises(errors.BadRequest) as refusal:
        await world.create("hello again", run_key="turn-1")
    assert refusal.value.code == "run_key_exists"
    assert await world.texts() == ["hello"]


async def test_an_ended_run_key_is_refused_when_its_request_arrives_late(world: World) -> None:
    await world.create("second", run_key="turn-2", end_runs=[EndRun(run_key="turn-1", keep=[])])
    with pytest.raises(errors.BadRequest) as refusal:
        await world.create("first", run_key="turn-1", if_active="supersede")
    assert refusal.value.code == "run_ended"
    assert await world.texts() == ["second"]


async def test_end_runs_keeps_what_it_is_told_and_deletes_the_rest(world: World) -> None:
    first = await world.create("hello", "are you there", run_key="turn-1")
    assert first.run.additional_message_ids is not None
    kept = first.run.additional_message_ids[0]
    reply = await world.speak(first.started, "Yes, I am")
    second = await world.create(
        "stop", run_key="turn-2", end_runs=[EndRun(run_key="turn-1", keep=[kept, reply.id])]
    )
    assert [ending.run.id for ending in second.ended] == [first.run.id]
    assert (await world.run(first.run.id)).status == "cancelled"
    assert await world.texts() == ["hello", "Yes, I am", "stop"]


async def test_end_runs_without_keep_leaves_the_reply_incomplete(world: World) -> None:
    first = await world.create("hello", run_key="turn-1")
    reply = await world.speak(first.started, "Yes")
    world.unstored[first.run.id] = Unstored(content=text("Yes, I"))
    await world.create("stop", end_runs=[EndRun(run_key="turn-1")])
    stored = await world.database.read(messages.get, "default", world.thread_id, reply.id)
    assert stored.status == "incomplete"
    assert stored.incomplete_reason == "run_cancelled"
    assert stored.content[0]["text"]["value"] == "Yes, I", "what was announced is what is kept"


async def test_end_runs_of_a_finished_run_deletes_what_was_not_heard(world: World) -> None:
    first = await world.create("hello", run_key="turn-1")
    started = first.started
    await world.speak(started, "Unheard")
    await world.finish(started)
    assert first.run.additional_message_ids is not None
    keep = first.run.additional_message_ids
    second = await world.create("again", end_runs=[EndRun(run_key="turn-1", keep=keep)])
    assert second.ended == [], "a finished run does not end twice"
    assert (await world.run(first.run.id)).status == "completed"
    assert await world.texts() == ["hello", "again"]


async def test_a_refused_request_has_changed_nothing(world: World) -> None:
    first = await world.create("hello", run_key="turn-1")
    await world.speak(first.started, "Yes")
    with pytest.raises(errors.BadRequest) as refusal:
        await world.create(
            "stop",
            run_key="turn-2",
            end_runs=[EndRun(run_key="turn-1", keep=[])],
            delete_messages=list(first.run.additional_message_ids or ()),
            edit_messages={"msg_unknown": text("x")},
        )
    assert (refusal.value.code, refusal.value.param) == (
        "message_not_found",
        "edit_messages[0].id",
    )
    assert (await world.run(first.run.id)).status == "in_progress"
    assert await world.texts() == ["hello", "Yes"]
    await world.create("after all", run_key="turn-2", end_runs=[EndRun(run_key="turn-1")])


async def test_a_run_deletes_and_edits_messages_of_its_own_thread_alone(world: World) -> None:
    database = world.database
    thread = await database.write(
        threads.create, "default", ThreadDraft(messages=said("mine")), now=NOW
    )
    listing = await database.read(messages.list_page, "default", thread.id, Page())
    (foreign,) = listing.items
    await world.create("hello", delete_messages=[foreign.id])
    with pytest.raises(errors.BadRequest, match=foreign.id):
        await world.create("again", if_active="supersede", edit_messages={foreign.id: text("x")})
    assert await database.read(messages.get, "default", thread.id, foreign.id) == foreign
    await database.write(messages.delete, "default", thread.id, foreign.id)


async def test_if_active_queue_waits_and_supersede_cancels(world: World) -> None:
    first = await world.create("hello")
    with pytest.raises(ThreadBusy) as busy:
        await world.create("me too", if_active="queue")
    assert busy.value.run_id == first.run.id
    second = await world.create("me first", if_active="supersede")
    assert (await world.run(first.run.id)).status == "cancelled"
    assert second.run.status == "queued"
    assert await world.texts() == ["hello", "me first"]


async def test_an_overdue_run_does_not_lock_the_thread(world: World) -> None:
    first = await world.create("hello")
    await world.create("later", now=NOW + 600)
    assert (await world.run(first.run.id)).status == "expired"


async def test_a_message_does_not_wait_for_an_overdue_run_to_be_ended(world: World) -> None:
    await world.create("hi")
    draft = MessageDraft(role="user", content=text("still there?"))

    async def add(now: int) -> Message:
        return await world.database.write(
            messages.create, "default", world.thread_id, draft, now=now
        )

    with pytest.raises(errors.BadRequest, match="while a run"):
        await add(CLAIM.expires_at - 1)
    assert (await add(CLAIM.expires_at)).content == draft.content


async def test_an_edit_keeps_id_place_and_run(world: World) -> None:
    first = await world.create("hello", run_key="turn-1")
    reply = await world.speak(first.started, "Yes, I can hear you")
    await world.create(
        "stop", end_runs=[EndRun(run_key="turn-1")], edit_messages={reply.id: text("Yes, I")}
    )
    stored = await world.database.read(messages.get, "default", world.thread_id, reply.id)
    assert (stored.id, stored.position, stored.run_id) == (reply.id, reply.position, first.run.id)
    assert await world.texts() == ["hello", "Yes, I", "stop"]


async def test_outputs_answer_the_calls_of_the_run_that_they_end(world: World) -> None:
    first = await world.create("hello", run_key="turn-1")
    await world.call(first.started, "call_a", "call_b")
    second = await world.create(
        "and?",
        end_runs=[EndRun(run_key="turn-1")],
        tool_outputs=[CarriedOutput(tool_call_id="call_b", output="done", name="f")],
    )
    (step,) = await world.tool_steps(first.run.id)
    assert step.status == "completed"
    assert [(call["id"], call["function"]["output"]) for call in step.tool_calls] == [
        ("call_b", "done")
    ], "a call that nobody committed stays out of the model's sight"
    assert await world.tool_steps(second.run.id) == [], "an answered call is not recorded twice"


async def test_calls_that_nobody_answers_are_cancelled(world: World) -> None:
    first = await world.create("hello", run_key="turn-1")
    await world.call(first.started, "call_a")
    await world.create("and?", end_runs=[EndRun(run_key="turn-1")])
    (step,) = await world.tool_steps(first.run.id)
    assert step.status == "cancelled"


async def test_outputs_without_a_pending_call_become_a_tool_turn_of_the_new_run(
    world: World,
) -> None:
    first = await world.create("hello")
    await world.finish(first.started)
    output = CarriedOutput(tool_call_id="call_x", output="42", name="sum", arguments='{"a": 1}')
    second = await world.create("and?", tool_outputs=[output])
    (step,) = await world.tool_steps(second.run.id)
    assert (step.status, step.after_position) == ("completed", 1)
    assert step.tool_calls == [
        {
            "id": "call_x",
            "type": "function",
            "function": {"name": "sum", "arguments": '{"a": 1}', "output": "42"},
        }
    ]
    await world.finish(second.started)
    third = await world.create("again", tool_outputs=[output])
    assert await world.tool_steps(third.run.id) == [], "sending an output again is safe"


async def test_of_two_outputs_for_one_call_the_first_counts(world: World) -> None:
    twice = [
        CarriedOutput(tool_call_id="call_a", output=words, name="f")
        for words in ("first", "second")
    ]
    other = CarriedOutput(tool_call_id="call_b", output="other", name="f")
    created = await world.create("hi", tool_outputs=[*twice, other])
    (step,) = await world.tool_steps(created.run.id)
    told = [(one["id"], one["function"]["output"]) for one in step.tool_calls]
    assert told == [("call_a", "first"), ("call_b", "other")], "no model takes one id twice"
    await world.finish(created.started)

    asking = await world.create("hello", run_key="turn-1")
    await world.call(asking.started, "call_c")
    answers = [
        CarriedOutput(tool_call_id="call_c", output=words, name="f") for words in ("yes", "no")
    ]
    await world.create("and?", end_runs=[EndRun(run_key="turn-1")], tool_outputs=answers)
    (step,) = await world.tool_steps(asking.run.id)
    assert [one["function"]["output"] for one in step.tool_calls] == ["yes"]


async def test_an_output_without_a_name_has_nowhere_to_go(world: World) -> None:
    created = await world.create(
        "hi", tool_outputs=[CarriedOutput(tool_call_id="call_x", output="42")]
    )
    assert await world.tool_steps(created.run.id) == []


async def test_last_messages_counts_what_is_shown_and_is_fixed_at_creation(world: World) -> None:
    first = await world.create("one", "two", "three")
    assert first.run.additional_message_ids is not None
    hidden = first.run.additional_message_ids[1]
    await world.finish(first.started)
    draft = RunDraft(
        assistant_id=world.assistant.id,
        additional_messages=said("four"),
        truncation_strategy={"type": "last_messages", "last_messages": 3},
        extensions=RunExtensions(used=True, exclude_messages=[hidden]),
    )
    created = await world.create_draft(draft)
    assert created.run.first_position == 1
    narrow = replace(draft, truncation_strategy={"type": "last_messages", "last_messages": 1})
    await world.finish(created.started)
    assert (await world.create_draft(narrow)).run.first_position == 5


async def test_a_run_that_was_ended_cannot_write_any_more(world: World) -> None:
    first = await world.create("hello", run_key="turn-1")
    started = first.started
    await world.create("stop", end_runs=[EndRun(run_key="turn-1")])
    late = Message(
        id=ids.message_id(),
        thread_id=world.thread_id,
        created_at=NOW,
        role="assistant",
        content=text("Late"),
        status="in_progress",
        run_id=started.id,
    )
    opened = await world.database.write(turn.open_message, started, late, world.step(started))
    assert opened is None
    assert await world.texts() == ["hello", "stop"]


async def test_ids_of_another_project_are_unknown(world: World) -> None:
    created = await world.create("hello")
    with pytest.raises(errors.NotFound, match="No thread found"):
        await world.database.read(runs.get, "other", world.thread_id, created.run.id)
    with pytest.raises(errors.NotFound, match="No thread found"):
        await world.database.read(messages.list_page, "other", world.thread_id, Page())


async def test_a_step_that_fails_names_a_code_that_steps_have(world: World) -> None:
    created = await world.create("hello")
    run = created.started
    await world.speak(run, "Hel")
    failure = Failure(code="invalid_prompt", message="Too long.")
    ending = await world.database.write(
        run_endings.end, run, Outcome(cause="fail", failure=failure), now=NOW, unstored=None
    )
    assert ending is not None
    assert ending.run.last_error == failure
    assert ending.step is not None
    assert ending.step.last_error == Failure(code="server_error", message="Too long.")
