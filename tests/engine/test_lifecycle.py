"""From created to terminal: what is announced, in which order, and what is stored by then."""

from __future__ import annotations

import json

import pytest
from tests.engine.bench import PROJECT, Bench, events, eventually, names
from tests.upstream import (
    call,
    content_filter,
    cut,
    empty,
    fail,
    garbage,
    length,
    raw,
    refusal,
    say,
    stall,
)

from assistants_server import errors
from assistants_server.domain.drafts import ToolOutput
from assistants_server.domain.records import Usage
from assistants_server.domain.run_events import CallDelta, CallOpened, ObjectEvent, TextDelta
from assistants_server.engine.runs import StartedRun
from assistants_server.engine.worker import CHECKPOINT_SECONDS
from assistants_server.store import messages, runs

BEGUN = ["run.created", "run.queued", "run.in_progress"]
STEP = ["run.step.created", "run.step.in_progress"]
MESSAGE = [*STEP, "message.created", "message.in_progress", "TextDelta"]
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


async def test_a_text_reply_is_announced_in_the_order_of_the_wire(bench: Bench) -> None:
    bench.upstream.script(say("Hel", "lo").usage(7, 2, cached=3))
    started = await bench.start("hi")
    assert started.run.status == "queued"
    assert await names(started.log) == [
        *BEGUN,
        *MESSAGE,
        "message.completed",
        "run.step.completed",
        "run.completed",
    ]
    assert await bench.texts() == ["hi", "Hello"]
    run = await bench.get(started.run)
    assert run.usage == Usage(prompt_tokens=7, completion_tokens=2, cached_tokens=3)
    assert (run.completed_at, run.expires_at) == (1_700_000_000, None)
    (step,) = await bench.steps(run)
    assert (step.type, step.status, step.usage) == ("message_creation", "completed", run.usage)


async def test_every_announced_object_is_stored_before_it_is_announced(bench: Bench) -> None:
    bench.upstream.script(say("Hel", "lo"))
    started = await bench.start("hi")
    async for batch in started.log.follow():
        for event in batch:
            if not isinstance(event, ObjectEvent):
                continue
            if event.name.startswith("message."):
                stored = await bench.database.read(
                    messages.get, PROJECT, bench.thread_id, event.record.id
                )
                assert stored.status in ("in_progress", "completed")
            elif event.name == "run.completed":
                run = await bench.database.read(runs.get, PROJECT, bench.thread_id, event.record.id)
                assert run == event.record


async def test_first_words_do_not_wait_for_the_rest_of_a_burst(bench: Bench) -> None:
    words = ["Hel", "lo ", "there"]
    chunks = [{"choices": [{"index": 0, "delta": {"content": word}}]} for word in words]
    burst = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    bench.upstream.script(raw("".join([*burst, "data: [DONE]\n\n"])))
    started = await bench.start("hi")
    told = [
        [event.text for event in batch if isinstance(event, TextDelta)]
        async for batch in started.log.follow()
    ]
    assert [texts for texts in told if texts] == [["Hel"], ["lo ", "there"]]


async def test_text_then_two_calls_share_a_turn_but_not_a_step(bench: Bench) -> None:
    bench.upstream.script(say("Wait. ") + call("f", {"a": 1}) + call("f", {"a": 2}))
    started = await bench.start(tools=[FUNCTION])
    told = await events(started.log)
    assert await names(started.log) == [
        *BEGUN,
        *MESSAGE,
        "message.completed",
        "run.step.completed",
        *STEP,
        "CallOpened",
        "CallDelta",
        "CallOpened",
        "CallDelta",
        "run.requires_action",
    ]
    opened = [event for event in told if isinstance(event, CallOpened)]
    assert [event.index for event in opened] == [0, 1]
    arguments = ["", ""]
    for event in told:
        if isinstance(event, CallDelta):
            arguments[event.index] += event.arguments
    run = await bench.get(started.run)
    assert [one["function"]["arguments"] for one in run.pending_calls] == arguments
    assert [one["id"] for one in run.pending_calls] == [event.call_id for event in opened]


async def test_outputs_resume_the_run_and_the_model_sees_them(bench: Bench) -> None:
    bench.upstream.script(call("f", {"a": 1}) + call("f", {"a": 2}), say("Both done"))
    started = await bench.start("go", tools=[FUNCTION])
    await events(started.log)
    waiting = await bench.get(started.run)
    outputs = [
        ToolOutput(tool_call_id=one["id"], output=f"out {n}")
        for n, one in enumerate(waiting.pending_calls)
    ]
    resumed = await bench.runs.submit(PROJECT, bench.thread_id, waiting.id, outputs[::-1])
    assert resumed.run.status == "queued"
    assert await names(resumed.log) == [
        "run.step.completed",
        "run.queued",
        "run.in_progress",
        *MESSAGE,
        "message.completed",
        "run.step.completed",
        "run.completed",
    ]
    asked = bench.upstream.requests[1].messages
    assert [message["role"] for message in asked] == ["system", "user", "assistant", "tool", "tool"]
    assert [message["content"] for message in asked[3:]] == ["out 0", "out 1"]
    run = await bench.get(started.run)
    assert run.status == "completed"
    total = [step.usage for step in await bench.steps(run) if step.usage is not None]
    assert run.usage == total[0] + total[1]


async def test_incomplete_or_foreign_outputs_are_refused_and_change_nothing(bench: Bench) -> None:
    bench.upstream.script(call("f", id="call_a") + call("f", id="call_b"))
    started = await bench.start(tools=[FUNCTION])
    await events(started.log)
    for given in (["call_a"], ["call_a", "call_a"], ["call_a", "call_x"], []):
        with pytest.raises(errors.BadRequest) as refusal:
            await bench.runs.submit(
                PROJECT,
                bench.thread_id,
                started.run.id,
                [ToolOutput(tool_call_id=one, output="x") for one in given],
            )
        assert refusal.value.message == (
            f"Expected tool outputs for call_ids ['call_a', 'call_b'], got {given}"
        )
    assert (await bench.get(started.run)).status == "requires_action"


async def test_a_run_without_reader_finishes(bench: Bench) -> None:
    hold = stall()
    bench.upstream.script(say("Hel", hold, "lo"))
    started = await bench.start("hi")
    await hold.reached.wait()
    hold.release()
    assert (await events(started.log))[-1] == ObjectEvent(
        "run.completed", await bench.get(started.run)
    )


async def test_a_token_bound_leaves_the_run_incomplete_with_its_text(bench: Bench) -> None:
    bench.upstream.script(length("Once upon"))
    started = await bench.start(max_completion_tokens=16)
    assert (await names(started.log))[-3:] == [
        "message.incomplete",
        "run.step.completed",
        "run.incomplete",
    ]
    run = await bench.get(started.run)
    assert (run.incomplete_reason, run.completed_at) == ("max_completion_tokens", 1_700_000_000)
    reply = (await bench.messages())[-1]
    assert (reply.status, reply.incomplete_reason) == ("incomplete", "max_tokens")
    assert bench.upstream.requests[0].body["max_tokens"] == 16


async def test_completion_tokens_are_bounded_over_the_whole_run(bench: Bench) -> None:
    bench.upstream.script(call("f", id="call_a").usage(5, 30), say("ok").usage(9, 1))
    started = await bench.start(tools=[FUNCTION], max_completion_tokens=100)
    await events(started.log)
    output = ToolOutput(tool_call_id="call_a", output="x")
    resumed = await bench.runs.submit(PROJECT, bench.thread_id, started.run.id, [output])
    await events(resumed.log)
    bounds = [request.body["max_tokens"] for request in bench.upstream.requests]
    assert bounds == [100, 70]


async def test_a_run_that_speaks_first_is_shown_all_its_calls(bench: Bench) -> None:
    """Its first one stands before the first message of the thread."""
    one, two = call("f", id="call_a"), say("Hm. ") + call("f", id="call_b")
    bench.upstream.script(one, two, say("Hello!"))
    started = await bench.start(None, tools=[FUNCTION], instructions="Greet the guest.")
    await events(started.log)
    for call_id in ("call_a", "call_b"):
        output = ToolOutput(tool_call_id=call_id, output="x")
        resumed = await bench.runs.submit(PROJECT, bench.thread_id, started.run.id, [output])
        await events(resumed.log)
    asked = bench.upstream.requests[-1].messages
    assert [one["tool_call_id"] for one in asked if one["role"] == "tool"] == ["call_a", "call_b"]


async def test_calls_stay_in_order_when_the_messages_between_them_are_deleted(bench: Bench) -> None:
    async def answered(call_id: str, words: str | None) -> None:
        bench.upstream.script(call("f", id=call_id), say("ok"))
        started = await bench.start(words, tools=[FUNCTION])
        await events(started.log)
        output = ToolOutput(tool_call_id=call_id, output="x")
        resumed = await bench.runs.submit(PROJECT, bench.thread_id, started.run.id, [output])
        await events(resumed.log)

    bench.upstream.script(say("ok"))
    await events((await bench.start("hello")).log)
    await answered("call_a", "one")
    for message in (await bench.messages())[2:]:
        await bench.database.write(messages.delete, PROJECT, bench.thread_id, message.id)
    await answered("call_b", None)
    asked = bench.upstream.requests[-1].messages
    assert [one["tool_call_id"] for one in asked if one["role"] == "tool"] == ["call_a", "call_b"]


async def test_a_prompt_bound_with_no_room_ends_the_run_before_the_model_is_asked(
    bench: Bench,
) -> None:
    started = await bench.start("hi", instructions="rule " * 400, max_prompt_tokens=256)
    assert (await names(started.log))[-1] == "run.incomplete"
    assert (await bench.get(started.run)).incomplete_reason == "max_prompt_tokens"


async def test_a_message_beyond_the_prompt_bound_is_not_shown_to_the_model(bench: Bench) -> None:
    started = await bench.start("word " * 400, max_prompt_tokens=256)
    assert (await names(started.log))[-1] == "run.incomplete"
    assert (await bench.get(started.run)).incomplete_reason == "max_prompt_tokens"
    assert not bench.upstream.requests


async def test_tool_outputs_beyond_the_prompt_bound_are_not_shown_to_the_model(
    bench: Bench,
) -> None:
    bench.upstream.script(call("f", id="call_a").usage(20, 1))
    started = await bench.start(tools=[FUNCTION], max_prompt_tokens=256)
    await events(started.log)
    output = ToolOutput(tool_call_id="call_a", output="word " * 400)
    resumed = await bench.runs.submit(PROJECT, bench.thread_id, started.run.id, [output])
    assert (await names(resumed.log))[-1] == "run.incomplete"
    ended = await bench.get(started.run)
    assert ended.incomplete_reason == "max_prompt_tokens"
    assert ended.usage.prompt_tokens == 20


async def test_completion_tokens_that_are_used_up_end_the_run(bench: Bench) -> None:
    bench.upstream.script(call("f", id="call_a").usage(5, 30))
    started = await bench.start(tools=[FUNCTION], max_completion_tokens=30)
    await events(started.log)
    output = ToolOutput(tool_call_id="call_a", output="x")
    resumed = await bench.runs.submit(PROJECT, bench.thread_id, started.run.id, [output])
    assert (await names(resumed.log))[-2:] == ["run.in_progress", "run.incomplete"]
    ended = await bench.get(started.run)
    assert ended.incomplete_reason == "max_completion_tokens"
    assert len(await bench.messages()) == 1


async def test_a_content_filter_leaves_the_run_incomplete(bench: Bench) -> None:
    bench.upstream.script(content_filter("I"))
    started = await bench.start()
    await events(started.log)
    assert (await bench.get(started.run)).incomplete_reason == "content_filter"
    assert (await bench.messages())[-1].incomplete_reason == "content_filter"


async def test_an_empty_turn_completes_without_a_message(bench: Bench) -> None:
    bench.upstream.script(empty())
    started = await bench.start("hi")
    assert await names(started.log) == [*BEGUN, "run.completed"]
    assert await bench.texts() == ["hi"]


async def test_a_refusal_is_a_block_of_its_own(bench: Bench) -> None:
    bench.upstream.script(refusal("I can", "not"))
    started = await bench.start()
    await events(started.log)
    assert (await bench.messages())[-1].content == [{"type": "refusal", "refusal": "I cannot"}]


@pytest.mark.parametrize("bad", [fail(status=400), cut(), garbage()])
async def test_a_model_that_fails_before_its_first_word_fails_the_run(
    bench: Bench, bad: object
) -> None:
    bench.upstream.default = lambda body: bad  # type: ignore[assignment,return-value]
    started = await bench.start("hi")
    assert await names(started.log) == [*BEGUN, "run.failed"]
    run = await bench.get(started.run)
    assert run.last_error is not None
    assert run.last_error.message
    assert (run.failed_at, run.expires_at) == (1_700_000_000, None)
    assert await bench.texts() == ["hi"]


async def test_a_model_that_breaks_off_leaves_its_words_incomplete(bench: Bench) -> None:
    bench.upstream.script(say("Hel") + cut())
    started = await bench.start("hi")
    assert (await names(started.log))[-3:] == [
        "message.incomplete",
        "run.step.failed",
        "run.failed",
    ]
    reply = (await bench.messages())[-1]
    assert (reply.status, reply.incomplete_reason) == ("incomplete", "run_failed")
    assert await bench.texts() == ["hi", "Hel"]


async def test_text_is_checkpointed_while_it_grows(bench: Bench) -> None:
    hold = stall()
    bench.upstream.script(say("one ", "two ", hold, "three"))
    started = await bench.start("hi")
    await heard(started, "two ")
    await bench.clock.sleeping(2)  # the sweeper, and the checkpoints of what is executed
    bench.clock.advance(CHECKPOINT_SECONDS)

    async def stored() -> bool:
        return await bench.texts() == ["hi", "one two "]

    await eventually(stored)  # the model says nothing more, and yet
    assert (await bench.get(started.run)).status == "in_progress"
    hold.release()
    await events(started.log)
    assert await bench.texts() == ["hi", "one two three"]


async def heard(started: StartedRun, words: str) -> None:
    """Return once the run has announced these words."""
    async for batch in started.log.follow():
        if any(isinstance(event, TextDelta) and event.text == words for event in batch):
            return
