"""Runs through the official SDK: polling, tools, locks, cancellation, expiry, bounds."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest
from openai.types.beta.thread_create_and_run_params import ThreadMessage
from tests.contract.sdk import DEPRECATED, WEATHER, conversation
from tests.live_server import LiveServer, live_server
from tests.manual_clock import ManualClock
from tests.upstream import Upstream, call, calls, fail, length, say, stall

pytestmark = DEPRECATED


async def test_a_run_is_polled_to_its_end(client: openai.AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(say("Hi ", "there.").usage(11, 2, cached=4, reasoning=1))
    assistant, thread = await conversation(client)
    run = await client.beta.threads.runs.create_and_poll(
        thread_id=thread, assistant_id=assistant, poll_interval_ms=5
    )
    assert run.status == "completed"
    assert (run.model, run.instructions, run.expires_at) == ("gpt-4o", "Be brief.", None)
    assert run.usage is not None
    assert (run.usage.prompt_tokens, run.usage.completion_tokens) == (11, 2)
    assert run.usage.to_dict()["prompt_token_details"] == {"cached_tokens": 4}
    page = await client.beta.threads.messages.list(thread)
    reply, question = page.data
    assert reply.role == "assistant"
    assert reply.content[0].type == "text"
    assert reply.content[0].text.value == "Hi there."
    assert (reply.run_id, reply.assistant_id) == (run.id, assistant)
    assert (question.run_id, question.assistant_id) == (None, None)
    only = await client.beta.threads.messages.list(thread, run_id=run.id)
    assert [message.id for message in only.data] == [reply.id]
    steps = await client.beta.threads.runs.steps.list(run.id, thread_id=thread)
    (step,) = steps.data
    assert step.step_details.type == "message_creation"
    assert step.step_details.message_creation.message_id == reply.id
    assert (
        await client.beta.threads.runs.steps.retrieve(step.id, thread_id=thread, run_id=run.id)
        == step
    )
    (listed,) = (await client.beta.threads.runs.list(thread)).data
    assert listed == run


async def test_a_thread_is_created_and_run_at_once(
    client: openai.AsyncOpenAI, upstream: Upstream
) -> None:
    upstream.script(say("Hi."))
    assistant, _ = await conversation(client)
    run = await client.beta.threads.create_and_run_poll(
        assistant_id=assistant,
        thread={"messages": [{"role": "user", "content": "Hello"}], "metadata": {"k": "v"}},
        poll_interval_ms=5,
    )
    assert run.status == "completed"
    assert (await client.beta.threads.retrieve(run.thread_id)).metadata == {"k": "v"}


async def test_a_run_that_brings_its_thread_shows_as_much_of_it_as_was_asked_for(
    client: openai.AsyncOpenAI, upstream: Upstream
) -> None:
    upstream.script(say("Hi."), say("Hi again."))
    assistant, _ = await conversation(client)
    said: list[ThreadMessage] = [
        {"role": "user", "content": text} for text in ("One", "Two", "Three")
    ]
    for count, shown in ((2, ["Two", "Three"]), (9, ["One", "Two", "Three"])):
        await client.beta.threads.create_and_run_poll(
            assistant_id=assistant,
            thread={"messages": said},
            truncation_strategy={"type": "last_messages", "last_messages": count},
            poll_interval_ms=5,
        )
        asked = upstream.requests[-1].messages
        assert [message["content"] for message in asked] == ["Be brief.", *shown]


async def test_parallel_calls_are_answered_and_polled(
    client: openai.AsyncOpenAI, upstream: Upstream
) -> None:
    upstream.script(
        calls(call("weather", {"city": "Oslo"}), call("weather", {"city": "Rome"})),
        say("Cold and warm."),
    )
    assistant, thread = await conversation(client, tools=[WEATHER])
    runs = client.beta.threads.runs
    run = await runs.create_and_poll(thread_id=thread, assistant_id=assistant, poll_interval_ms=5)
    assert run.status == "requires_action"
    assert run.usage is None
    assert run.required_action is not None
    pending = run.required_action.submit_tool_outputs.tool_calls
    assert [one.function.arguments for one in pending] == ['{"city":"Oslo"}', '{"city":"Rome"}']
    first, second = pending
    with pytest.raises(openai.BadRequestError) as refused:
        await runs.submit_tool_outputs(
            run.id,
            thread_id=thread,
            tool_outputs=[{"tool_call_id": first.id, "output": "-3"}],
        )
    assert refused.value.message == (
        "Error code: 400 - Expected tool outputs for call_ids "
        f"['{first.id}', '{second.id}'], got ['{first.id}']"
    )
    run = await runs.submit_tool_outputs_and_poll(
        run_id=run.id,
        thread_id=thread,
        tool_outputs=[
            {"tool_call_id": first.id, "output": "-3"},
            {"tool_call_id": second.id, "output": "21"},
        ],
        poll_interval_ms=5,
    )
    assert run.status == "completed"
    assert run.usage is not None
    steps = [step async for step in runs.steps.list(run.id, thread_id=thread, order="asc")]
    assert [step.type for step in steps] == ["tool_calls", "message_creation"]
    assert run.usage.total_tokens == sum(step.usage.total_tokens for step in steps if step.usage)
    details = steps[0].step_details
    assert details.type == "tool_calls"
    outputs = [one.function.output for one in details.tool_calls if one.type == "function"]
    assert outputs == ["-3", "21"]
    roles = [message["role"] for message in upstream.requests[1].messages]
    assert roles[-3:] == ["assistant", "tool", "tool"]


async def test_a_run_that_waits_locks_its_thread_until_it_is_cancelled(
    client: openai.AsyncOpenAI, upstream: Upstream
) -> None:
    upstream.script(call("weather", {}), say("Hi."))
    assistant, thread = await conversation(client, tools=[WEATHER])
    runs, messages = client.beta.threads.runs, client.beta.threads.messages
    run = await runs.create_and_poll(thread_id=thread, assistant_id=assistant, poll_interval_ms=5)
    locked = f"Can't add messages to {thread} while a run {run.id} is active."
    with pytest.raises(openai.BadRequestError, match=locked):
        await messages.create(thread, role="user", content="x")
    second = f"Thread {thread} already has an active run {run.id}."
    with pytest.raises(openai.BadRequestError, match=second):
        await runs.create(thread, assistant_id=assistant)
    answer = await runs.cancel(run.id, thread_id=thread)
    assert answer.status == "cancelling"
    run = await runs.poll(run.id, thread_id=thread, poll_interval_ms=5)
    assert run.status == "cancelled"
    assert run.cancelled_at is not None
    (step,) = (await runs.steps.list(run.id, thread_id=thread)).data
    assert (step.status, step.type) == ("cancelled", "tool_calls")
    with pytest.raises(openai.BadRequestError, match="Cannot cancel run"):
        await runs.cancel(run.id, thread_id=thread)
    await messages.create(thread, role="user", content="Never mind.")
    run = await runs.create_and_poll(thread_id=thread, assistant_id=assistant, poll_interval_ms=5)
    assert run.status == "completed"
    assert all(m["role"] != "tool" for m in upstream.requests[-1].messages)


async def test_a_run_that_waits_too_long_expires(tmp_path: Path) -> None:
    clock = ManualClock()
    async with (
        Upstream() as upstream,
        live_server(
            data=tmp_path,
            clock=clock,
            upstream_url=upstream.base_url,
            upstream_key="test",
            run_expiry=60,
        ) as server,
        server.client() as client,
    ):
        upstream.script(call("weather", {}))
        assistant, thread = await conversation(client, tools=[WEATHER])
        runs = client.beta.threads.runs
        async with runs.stream(thread_id=thread, assistant_id=assistant) as stream:
            await stream.until_done()
            run = await stream.get_final_run()
        assert run.status == "requires_action"
        assert run.expires_at == run.created_at + 60
        clock.advance(61)
        expired = await runs.retrieve(run.id, thread_id=thread)
        assert expired.status == "expired"
        assert (expired.completed_at, expired.last_error) == (None, None)
        assert expired.expires_at == run.expires_at
        (step,) = (await runs.steps.list(run.id, thread_id=thread)).data
        assert step.status == "expired"
        assert step.expired_at is not None
        with pytest.raises(openai.BadRequestError, match='Runs in status "expired" do not accept'):
            await runs.submit_tool_outputs(run.id, thread_id=thread, tool_outputs=[])
        await client.beta.threads.messages.create(thread, role="user", content="Still there?")


async def test_a_token_bound_leaves_the_run_incomplete(
    client: openai.AsyncOpenAI, upstream: Upstream
) -> None:
    upstream.script(length("One two"))
    assistant, thread = await conversation(client)
    run = await client.beta.threads.runs.create_and_poll(
        thread_id=thread, assistant_id=assistant, max_completion_tokens=16, poll_interval_ms=5
    )
    assert run.status == "incomplete"
    assert run.incomplete_details is not None
    assert run.incomplete_details.reason == "max_completion_tokens"
    assert run.completed_at is not None
    (message,) = (await client.beta.threads.messages.list(thread, run_id=run.id)).data
    assert message.status == "incomplete"
    assert message.incomplete_details is not None
    assert message.incomplete_details.reason == "max_tokens"


async def test_a_model_that_refuses_fails_the_run(
    client: openai.AsyncOpenAI, upstream: Upstream
) -> None:
    upstream.script(fail(400, message="No such model", code="model_not_found"))
    assistant, thread = await conversation(client)
    run = await client.beta.threads.runs.create_and_poll(
        thread_id=thread, assistant_id=assistant, poll_interval_ms=5
    )
    assert run.status == "failed"
    assert run.last_error is not None
    assert run.last_error.message
    assert run.failed_at is not None
    await client.beta.threads.messages.create(thread, role="user", content="Again")


async def test_leaving_a_stream_leaves_the_run_alone(
    client: openai.AsyncOpenAI, upstream: Upstream, server: LiveServer
) -> None:
    hold = stall()
    upstream.script(say("Hel", hold, "lo"))
    assistant, thread = await conversation(client)
    runs = client.beta.threads.runs
    stream = await runs.create(thread, assistant_id=assistant, stream=True)
    async for event in stream:
        if event.event == "thread.run.created":
            run_id = event.data.id
        if event.event == "thread.message.delta":
            break
    await stream.close()
    hold.release()
    run = await runs.poll(run_id, thread_id=thread, poll_interval_ms=5)
    assert run.status == "completed"
    (reply,) = (await client.beta.threads.messages.list(thread, run_id=run_id)).data
    assert reply.content[0].type == "text"
    assert reply.content[0].text.value == "Hello"


async def test_a_runs_metadata_can_be_changed(
    client: openai.AsyncOpenAI, upstream: Upstream
) -> None:
    upstream.script(say("Hi."))
    assistant, thread = await conversation(client)
    runs = client.beta.threads.runs
    run = await runs.create_and_poll(
        thread_id=thread, assistant_id=assistant, metadata={"a": "b"}, poll_interval_ms=5
    )
    assert run.metadata == {"a": "b"}
    changed = await runs.update(run.id, thread_id=thread, metadata={"c": "d"})
    assert changed.metadata == {"c": "d"}
