"""Run events as server-sent events.

Text deltas are the hot path: everything but the text is the same for every delta of a block, so it
is prepared once and the text alone is encoded. No frame is ever without data (the official SDK
fails on one), and what a frame says of an id or a name it says once (the SDK concatenates).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from ..domain.records import Message, Run, Step, Thread
from ..domain.run_events import (
    CallDelta,
    CallOpened,
    ObjectEvent,
    RefusalDelta,
    RunEvent,
    StreamFault,
    TextDelta,
)
from . import messages, runs, steps, threads
from .parts import encode, error_body

DONE = b"event: done\ndata: [DONE]\n\n"

KEEP_ALIVE = b": keep-alive\n\n"
"""A comment: parsers skip it, proxies and read timeouts are satisfied."""


def render(events: Sequence[RunEvent]) -> bytes:
    """All of ``events`` as one chunk of the stream."""
    chunk = b"".join([_frame(event) for event in events])
    # JSON allows these line separators inside strings, but readers that split on every kind of
    # line end that Unicode knows would cut the frame there.
    if b"\xe2\x80" in chunk:
        chunk = chunk.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    if b"\xc2\x85" in chunk:
        chunk = chunk.replace(b"\xc2\x85", b"\\u0085")
    return chunk


def _frame(event: RunEvent) -> bytes:
    if isinstance(event, TextDelta):
        return (
            _text_prefix(event.message_id, event.index)
            + encode(event.text)
            + (b',"annotations":[]}}]}}\n\n' if event.opens else b"}}]}}\n\n")
        )
    if isinstance(event, CallDelta):
        return (
            _arguments_prefix(event.step_id, event.index) + encode(event.arguments) + b"}}]}}}\n\n"
        )
    if isinstance(event, ObjectEvent):
        name = event.name if event.name.startswith("thread.") else "thread." + event.name
        return _event(name, _object(event.record))
    if isinstance(event, CallOpened):
        call = {
            "index": event.index,
            "id": event.call_id,
            "type": "function",
            "function": {"name": event.name, "arguments": "", "output": None},
        }
        return _event(
            "thread.run.step.delta",
            {
                "id": event.step_id,
                "object": "thread.run.step.delta",
                "delta": {"step_details": {"type": "tool_calls", "tool_calls": [call]}},
            },
        )
    if isinstance(event, RefusalDelta):
        return _event(
            "thread.message.delta",
            {
                "id": event.message_id,
                "object": "thread.message.delta",
                "delta": {
                    "content": [{"index": event.index, "type": "refusal", "refusal": event.text}]
                },
            },
        )
    return fault(event)


def fault(event: StreamFault) -> bytes:
    """Both shapes in one: with the bare keys alone the SDK's ``stream()`` swallows the error."""
    payload = error_body(event.message, type="server_error")
    return _event("error", {**payload, **payload["error"]})


def _event(name: str, data: Mapping[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + encode(data) + b"\n\n"


def _object(record: Thread | Run | Step | Message) -> Mapping[str, Any]:
    if isinstance(record, Run):
        return runs.render(record)
    if isinstance(record, Step):
        return steps.render(record)
    if isinstance(record, Message):
        return messages.render(record)
    return threads.render(record)


@lru_cache(maxsize=4096)
def _text_prefix(message_id: str, index: int) -> bytes:
    return (
        f'event: thread.message.delta\ndata: {{"id":"{message_id}",'
        f'"object":"thread.message.delta","delta":{{"content":[{{"index":{index},'
        f'"type":"text","text":{{"value":'
    ).encode()


@lru_cache(maxsize=4096)
def _arguments_prefix(step_id: str, index: int) -> bytes:
    return (
        f'event: thread.run.step.delta\ndata: {{"id":"{step_id}",'
        f'"object":"thread.run.step.delta","delta":{{"step_details":{{"type":"tool_calls",'
        f'"tool_calls":[{{"index":{index},"type":"function","function":{{"arguments":'
    ).encode()
