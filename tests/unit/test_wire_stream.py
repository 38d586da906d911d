"""Frames of a stream, byte for byte."""

from __future__ import annotations

import orjson
import pytest

from assistants_server.domain.records import Message, Run, Step, Thread
from assistants_server.domain.run_events import (
    CallDelta,
    CallOpened,
    ObjectEvent,
    RefusalDelta,
    RunEvent,
    StreamFault,
    TextDelta,
)
from assistants_server.wire import messages, runs, steps, stream, threads


def frame(name: str, data: object) -> bytes:
    return f"event: {name}\ndata: ".encode() + orjson.dumps(data) + b"\n\n"


def message_delta(block: object) -> dict[str, object]:
    return {"id": "msg_1", "object": "thread.message.delta", "delta": {"content": [block]}}


def step_delta(call: object) -> dict[str, object]:
    return {
        "id": "step_1",
        "object": "thread.run.step.delta",
        "delta": {"step_details": {"type": "tool_calls", "tool_calls": [call]}},
    }


@pytest.mark.parametrize(
    ("event", "name", "data"),
    [
        (
            TextDelta("msg_1", 0, "Hel", opens=True),
            "thread.message.delta",
            message_delta(
                {"index": 0, "type": "text", "text": {"value": "Hel", "annotations": []}}
            ),
        ),
        (
            TextDelta("msg_1", 1, 'a "quote"\n\\ \u00fc', opens=False),
            "thread.message.delta",
            message_delta({"index": 1, "type": "text", "text": {"value": 'a "quote"\n\\ \u00fc'}}),
        ),
        (
            RefusalDelta("msg_1", 0, "No"),
            "thread.message.delta",
            message_delta({"index": 0, "type": "refusal", "refusal": "No"}),
        ),
        (
            CallOpened("step_1", 0, "call_1", "f"),
            "thread.run.step.delta",
            step_delta(
                {
                    "index": 0,
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "f", "arguments": "", "output": None},
                }
            ),
        ),
        (
            CallDelta("step_1", 1, '{"ci'),
            "thread.run.step.delta",
            step_delta({"index": 1, "type": "function", "function": {"arguments": '{"ci'}}),
        ),
    ],
)
def test_deltas(event: RunEvent, name: str, data: object) -> None:
    assert stream.render([event]) == frame(name, data)


def test_objects_are_shown_whole() -> None:
    thread = Thread(id="thread_1", project_id="p", created_at=1)
    run = Run(
        id="run_1",
        project_id="p",
        thread_id="thread_1",
        assistant_id="asst_1",
        created_at=1,
        status="queued",
        model="m",
    )
    step = Step(
        id="step_1",
        run_id="run_1",
        thread_id="thread_1",
        assistant_id="asst_1",
        created_at=1,
        type="tool_calls",
    )
    message = Message(id="msg_1", thread_id="thread_1", created_at=1, role="user", content=[])
    events = [
        ObjectEvent("thread.created", thread),
        ObjectEvent("run.created", run),
        ObjectEvent("run.step.created", step),
        ObjectEvent("message.created", message),
    ]
    assert stream.render(events) == b"".join(
        [
            frame("thread.created", threads.render(thread)),
            frame("thread.run.created", runs.render(run)),
            frame("thread.run.step.created", steps.render(step)),
            frame("thread.message.created", messages.render(message) | {"attachments": []}),
        ]
    )


def test_a_fault_is_readable_with_and_without_the_envelope() -> None:
    error = {"message": "Gone.", "type": "server_error", "param": None, "code": None}
    assert stream.render([StreamFault("Gone.")]) == frame("error", {"error": error, **error})


def test_the_end() -> None:
    assert stream.DONE == b"event: done\ndata: [DONE]\n\n"
    assert stream.KEEP_ALIVE.startswith(b":")
    assert stream.KEEP_ALIVE.endswith(b"\n\n")


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\r", "\n", "\x0c", "\x1e"])
def test_no_line_end_of_any_kind_cuts_a_frame(separator: str) -> None:
    text = f"one{separator}two"
    events: list[RunEvent] = [
        TextDelta("msg_1", 0, text, opens=False),
        CallDelta("step_1", 0, text),
        RefusalDelta("msg_1", 0, text),
    ]
    for event in events:
        rendered = stream.render([event])
        lines = rendered.decode().splitlines()
        assert len(lines) == 3, "event, data, and the empty line between frames"
        assert repr(text) in repr(orjson.loads(lines[1].removeprefix("data: ")))


def test_half_a_surrogate_pair_passes_through_for_the_client_to_join() -> None:
    halves = [TextDelta("msg_1", 0, half, opens=False) for half in ("\ud83d", "\ude00")]
    assert b'"\\ud83d"' in stream.render(halves)
    assert b'"\\ude00"' in stream.render(halves)
