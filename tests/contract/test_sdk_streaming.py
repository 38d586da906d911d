"""Streams through the official SDK: the order of its callbacks, and what its helpers return."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from tests.contract.sdk import DEPRECATED, WEATHER, Callbacks, conversation
from tests.upstream import Answer, Upstream, call, calls, cut, length, say

pytestmark = DEPRECATED

TEXT = [
    "run_step_created",
    "message_created",
    "text_created",
    "text_delta",
    "message_delta",
    "text_delta",
    "message_delta",
    "text_done",
    "message_done",
    "run_step_done",
    "end",
]


async def played(
    client: openai.AsyncOpenAI, upstream: Upstream, answer: Answer, **run: Any
) -> Callbacks:
    upstream.script(answer)
    assistant, thread = await conversation(client, tools=[WEATHER])
    handler = Callbacks()
    async with client.beta.threads.runs.stream(
        thread_id=thread, assistant_id=assistant, event_handler=handler, **run
    ) as stream:
        await stream.until_done()
    return handler


async def test_a_reply_raises_the_callbacks_in_order(
    client: openai.AsyncOpenAI, upstream: Upstream
) -> None:
    handler = await played(client, upstream, say("Hel", "lo"))
    assert handler.names == TEXT
    (message,) = await handler.get_final_messages()
    assert message.content[0].type == "text"
    assert message.content[0].text.value == "Hello"
    assert message.status == "completed"
    assert (await handler.get_final_run()).status == "completed"
    assert len(await handler.get_final_run_steps()) == 1


async def test_a_reply_cut_by_a_bound_raises_the_same(
    client: openai.AsyncOpenAI, upstream: Upstream
) -> None:
    handler = await played(client, upstream, length("Hel", "lo"), max_completion_tokens=16)
    assert handler.names == TEXT
    assert (await handler.get_final_run()).status == "incomplete"


async def test_a_reply_that_breaks_off_raises_the_same(
    client: openai.AsyncOpenAI, upstream: Upstream
) -> None:
    handler = await played(client, upstream, cut("Hel", "lo"))
    assert handler.names == TEXT
    run = await handler.get_final_run()
    assert run.status == "failed"
    assert run.last_error is not None


async def test_a_thread_created_and_run_raises_the_same(
    client: openai.AsyncOpenAI, upstream: Upstream
) -> None:
    upstream.script(say("Hel", "lo"))
    assistant, _ = await conversation(client)
    handler = Callbacks()
    async with client.beta.threads.create_and_run_stream(
        assistant_id=assistant,
        thread={"messages": [{"role": "user", "content": "Hello"}]},
        event_handler=handler,
    ) as stream:
        await stream.until_done()
    assert handler.names == TEXT


async def test_text_deltas_are_the_reply(client: openai.AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(say("Grüße", " 🙂", "\n", '"quoted"', " end"))
    assistant, thread = await conversation(client)
    async with client.beta.threads.runs.stream(thread_id=thread, assistant_id=assistant) as stream:
        text = "".join([delta async for delta in stream.text_deltas])
        (message,) = await stream.get_final_messages()
    assert text == 'Grüße 🙂\n"quoted" end'
    assert message.content[0].type == "text"
    assert message.content[0].text.value == text


def without_fragments(names: list[str]) -> list[str]:
    """Argument fragments may be many; each is a call delta followed by a step delta."""
    kept: list[str] = []
    for name in names:
        kept.append(name)
        if kept[-4:] == ["tool_call_delta", "run_step_delta"] * 2:
            del kept[-2:]
    return kept


async def test_parallel_calls_raise_the_callbacks_in_order_and_go_on(
    client: openai.AsyncOpenAI, upstream: Upstream
) -> None:
    answer = calls(call("weather", {"city": "Oslo"}), call("weather", {"city": "Rome"}))
    handler = await played(client, upstream, answer)
    assert without_fragments(handler.names) == [
        "run_step_created",
        "tool_call_created",
        "run_step_delta",
        "tool_call_delta",
        "run_step_delta",
        "tool_call_done",
        "tool_call_created",
        "run_step_delta",
        "tool_call_delta",
        "run_step_delta",
        "tool_call_done",
        "end",
    ]
    assert handler.printed == '{"city":"Oslo"}{"city":"Rome"}', "nothing is lost to a printer"
    run = await handler.get_final_run()
    assert run.required_action is not None
    pending = run.required_action.submit_tool_outputs.tool_calls
    (step,) = await handler.get_final_run_steps()
    assert step.step_details.type == "tool_calls"
    assert [one.id for one in step.step_details.tool_calls] == [one.id for one in pending]

    upstream.script(say("Hel", "lo"))
    second = Callbacks()
    async with client.beta.threads.runs.submit_tool_outputs_stream(
        thread_id=run.thread_id,
        run_id=run.id,
        tool_outputs=[{"tool_call_id": one.id, "output": "12"} for one in pending],
        event_handler=second,
    ) as stream:
        await stream.until_done()
    assert second.names == ["run_step_done", *TEXT]
    assert (await second.get_final_run()).status == "completed"


async def test_text_and_then_a_call_are_two_steps_one_after_the_other(
    client: openai.AsyncOpenAI, upstream: Upstream
) -> None:
    handler = await played(client, upstream, say("One ", "moment.") + call("weather", {}))
    # Node's SDK refuses a step that begins before the previous one ended.
    assert handler.names.index("run_step_done") < handler.names.index("tool_call_created")
    assert handler.names[:10] == TEXT[:10]
    (message,) = await handler.get_final_messages()
    assert message.status == "completed"


async def test_raw_iteration_ends_with_the_last_event(
    client: openai.AsyncOpenAI, upstream: Upstream
) -> None:
    upstream.script(say("Hi"))
    assistant, thread = await conversation(client)
    stream = await client.beta.threads.runs.create(thread, assistant_id=assistant, stream=True)
    names = [event.event async for event in stream]
    assert names[0] == "thread.run.created"
    assert names[-1] == "thread.run.completed"
    assert stream.response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert stream.response.headers["x-request-id"].startswith("req_")


async def test_a_refusal_before_the_stream_is_an_ordinary_error(
    client: openai.AsyncOpenAI,
) -> None:
    assistant, _ = await conversation(client)
    with pytest.raises(openai.NotFoundError):
        async with client.beta.threads.runs.stream(
            thread_id="thread_x", assistant_id=assistant
        ) as stream:
            await stream.until_done()
