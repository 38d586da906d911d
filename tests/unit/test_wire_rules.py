"""The checker of the wire's rules can fail: each rule is broken once, in answers made by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from tests.wire_rules.judgement import EVENTS, judge_object
from tests.wire_rules.streams import Opening, StreamRules
from tests.wire_rules.traffic import BrokenRule, Traffic

Json = dict[str, Any]
Frame = tuple[str, Any]
Change = Callable[[list[Frame]], None]

ASSISTANT_ID = "asst_" + "a" * 24
THREAD_ID = "thread_" + "t" * 24
RUN_ID = "run_" + "r" * 24
STEP_ID = "step_" + "s" * 24
MESSAGE_ID = "msg_" + "m" * 24
NOW = 1_700_000_000

USAGE = {
    "prompt_tokens": 5,
    "completion_tokens": 2,
    "total_tokens": 7,
    "prompt_token_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
}
CALL = {"id": "call_a", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def run(status: str, **changes: Any) -> Json:
    whole = {
        "id": RUN_ID,
        "object": "thread.run",
        "created_at": NOW,
        "assistant_id": ASSISTANT_ID,
        "thread_id": THREAD_ID,
        "status": status,
        "started_at": None if status == "queued" else NOW,
        "expires_at": NOW + 600,
        "cancelled_at": None,
        "failed_at": None,
        "completed_at": None,
        "required_action": None,
        "last_error": None,
        "model": "gpt-4o",
        "instructions": None,
        "tools": [],
        "tool_resources": {},
        "metadata": {},
        "temperature": 1.0,
        "top_p": 1.0,
        "reasoning_effort": None,
        "max_completion_tokens": None,
        "max_prompt_tokens": None,
        "truncation_strategy": {"type": "auto", "last_messages": None},
        "incomplete_details": None,
        "usage": None,
        "response_format": "auto",
        "tool_choice": "auto",
        "parallel_tool_calls": True,
    }
    ended = {"completed_at": NOW + 1, "usage": USAGE, "expires_at": None}
    waits = {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": [CALL]}}
    extra: dict[str, Json] = {"completed": ended, "requires_action": {"required_action": waits}}
    return {**whole, **extra.get(status, {}), **changes}


def step(status: str, details: Json, **changes: Any) -> Json:
    whole = {
        "id": STEP_ID,
        "object": "thread.run.step",
        "created_at": NOW,
        "run_id": RUN_ID,
        "assistant_id": ASSISTANT_ID,
        "thread_id": THREAD_ID,
        "type": details["type"],
        "status": status,
        "cancelled_at": None,
        "completed_at": NOW + 1 if status == "completed" else None,
        "expires_at": NOW + 600 if status == "in_progress" else None,
        "expired_at": None,
        "failed_at": None,
        "last_error": None,
        "step_details": details,
        "usage": None if status == "in_progress" else USAGE,
        "metadata": {},
    }
    return {**whole, **changes}


def message(status: str, content: list[Any], **changes: Any) -> Json:
    whole = {
        "id": MESSAGE_ID,
        "object": "thread.message",
        "created_at": NOW,
        "assistant_id": ASSISTANT_ID,
        "thread_id": THREAD_ID,
        "run_id": RUN_ID,
        "status": status,
        "incomplete_details": None,
        "incomplete_at": None,
        "completed_at": NOW + 1 if status == "completed" else None,
        "role": "assistant",
        "content": content,
        "attachments": [],
        "metadata": {},
    }
    return {**whole, **changes}


def text(value: str) -> Json:
    return {"type": "text", "text": {"value": value, "annotations": []}}


def words(part: Json) -> Json:
    delta = {"content": [{"index": 0, "type": "text", "text": part}]}
    return {"id": MESSAGE_ID, "object": "thread.message.delta", "delta": delta}


def fragment(call: Json) -> Json:
    details = {"step_details": {"type": "tool_calls", "tool_calls": [{"index": 0, **call}]}}
    return {"id": STEP_ID, "object": "thread.run.step.delta", "delta": details}


CREATES = {"type": "message_creation", "message_creation": {"message_id": MESSAGE_ID}}
BEGUN: list[Frame] = [
    ("thread.run.created", run("queued")),
    ("thread.run.queued", run("queued")),
    ("thread.run.in_progress", run("in_progress")),
]
REPLY: list[Frame] = [
    ("thread.run.step.created", step("in_progress", CREATES)),
    ("thread.run.step.in_progress", step("in_progress", CREATES)),
    ("thread.message.created", message("in_progress", [])),
    ("thread.message.in_progress", message("in_progress", [])),
    ("thread.message.delta", words({"value": "Hel", "annotations": []})),
    ("thread.message.delta", words({"value": "lo"})),
    ("thread.message.completed", message("completed", [text("Hello")])),
    ("thread.run.step.completed", step("completed", CREATES)),
    ("thread.run.completed", run("completed")),
    ("done", "[DONE]"),
]
CALLS: Json = {"type": "tool_calls", "tool_calls": []}
OPENING = {**CALL, "function": {"name": "f", "arguments": "", "output": None}}
ASKED: list[Frame] = [
    ("thread.run.step.created", step("in_progress", CALLS)),
    ("thread.run.step.in_progress", step("in_progress", CALLS)),
    ("thread.run.step.delta", fragment(OPENING)),
    ("thread.run.step.delta", fragment({"type": "function", "function": {"arguments": "{}"}})),
    ("thread.run.requires_action", run("requires_action")),
    ("done", "[DONE]"),
]
ANSWERED = {**CALL, "function": {"name": "f", "arguments": "{}", "output": "12"}}
SUBMITTED: list[Frame] = [
    (
        "thread.run.step.completed",
        step("completed", {**CALLS, "tool_calls": [ANSWERED]}, id="step_" + "c" * 24),
    ),
    ("thread.run.queued", run("queued", started_at=NOW)),
    ("thread.run.in_progress", run("in_progress")),
    *REPLY,
]
THREAD = {
    "id": THREAD_ID,
    "object": "thread",
    "created_at": NOW,
    "metadata": {},
    "tool_resources": {},
}

GOOD: dict[str, tuple[Opening, list[Frame]]] = {
    "a reply": ("run", BEGUN + REPLY),
    "a call": ("run", BEGUN + ASKED),
    "a submission": ("submission", SUBMITTED),
    "a thread": ("thread and run", [("thread.created", THREAD), *BEGUN, *REPLY]),
}


def framed(frames: list[Frame]) -> list[str]:
    return [
        f"event: {name}\ndata: {data if isinstance(data, str) else orjson.dumps(data).decode()}"
        for name, data in frames
    ]


def played(opening: Opening, frames: list[Frame]) -> list[str]:
    rules = StreamRules(opening)
    for frame in framed(frames):
        rules.frame(frame)
    rules.end()
    return rules.complaints


@pytest.mark.parametrize("case", GOOD)
def test_what_openai_sent_breaks_no_rule(case: str) -> None:
    assert played(*GOOD[case]) == []


def without(name: str) -> Change:
    def change(frames: list[Frame]) -> None:
        del frames[[known for known, _ in frames].index(name)]

    return change


def twice(name: str) -> Change:
    def change(frames: list[Frame]) -> None:
        place = [known for known, _ in frames].index(name)
        frames.insert(place, frames[place])

    return change


def swapped(first: str, second: str) -> Change:
    def change(frames: list[Frame]) -> None:
        names = [known for known, _ in frames]
        a, b = names.index(first), names.index(second)
        frames[a], frames[b] = frames[b], frames[a]

    return change


def set_in(name: str, value: Any, *place: Any) -> Change:
    def change(frames: list[Frame]) -> None:
        found: Any = next(data for known, data in frames if known == name)
        for key in place[:-1]:
            found = found[key]
        found[place[-1]] = value

    return change


DELTA = "thread.message.delta"
PART = ("delta", "content", 0)
FRAGMENT = "thread.run.step.delta"
FRAGMENT_PART = ("delta", "step_details", "tool_calls", 0)

BROKEN: list[tuple[str, Change, str]] = [
    ("a reply", without("done"), "without done"),
    ("a reply", without("thread.run.queued"), "expected thread.run.queued"),
    ("a reply", without("thread.run.in_progress"), "step is created while the run is not"),
    ("a reply", without("thread.run.step.created"), "while no step is open"),
    ("a reply", without("thread.run.step.in_progress"), "expected thread.run.step.in_progress"),
    ("a reply", without("thread.message.created"), "expected thread.message.created"),
    ("a reply", without("thread.message.in_progress"), "expected thread.message.in_progress"),
    ("a reply", without(DELTA), "first delta of a text block"),
    ("a reply", without("thread.message.completed"), "while its message is open"),
    ("a reply", without("thread.run.step.completed"), "step must end before"),
    ("a reply", without("thread.run.completed"), "neither waiting nor terminal"),
    ("a reply", twice("thread.run.completed"), "after the last event of the run"),
    ("a reply", twice("thread.run.in_progress"), "in_progress cannot become in_progress"),
    ("a reply", twice("thread.run.step.created"), "expected thread.run.step.in_progress"),
    ("a reply", twice(DELTA), "only the first delta of a text block"),
    ("a reply", twice("done"), "after done"),
    (
        "a reply",
        swapped("thread.message.completed", "thread.run.step.completed"),
        "a step ends while its message is open",
    ),
    ("a reply", set_in(DELTA, 1, *PART, "index"), "content index 1 after 0 blocks"),
    ("a reply", set_in(DELTA, "msg_x", "id"), "not open"),
    ("a reply", set_in(DELTA, "Hal", *PART, "text", "value"), "another one than its deltas"),
    ("a reply", set_in(DELTA, "assistant", "delta", "role"), "Extra inputs"),
    ("a reply", set_in("thread.run.completed", "run_x", "id"), "of another run"),
    ("a reply", set_in("thread.message.created", "thread_x", "thread_id"), "of another thread"),
    ("a reply", set_in("thread.run.created", NOW, "started_at"), "has not started"),
    ("a reply", set_in("thread.run.completed", "failed", "status"), "shows a run that is failed"),
    (
        "a reply",
        set_in("thread.run.step.completed", {**USAGE, "prompt_tokens": 6}, "usage"),
        "must be the sum",
    ),
    (
        "a reply",
        set_in(
            "thread.run.step.completed", {**USAGE, "prompt_tokens": 6, "total_tokens": 8}, "usage"
        ),
        "the run's usage is 7, its steps' [8]",
    ),
    (
        "a reply",
        set_in("thread.message.created", [text("Hel")], "content"),
        "in progress and empty",
    ),
    (
        "a reply",
        set_in(
            "thread.run.step.created",
            "msg_x",
            "step_details",
            "message_creation",
            "message_id",
        ),
        "another one than its step's",
    ),
    ("a call", set_in(FRAGMENT, 1, *FRAGMENT_PART, "index"), "call index 1 after 0 calls"),
    ("a call", set_in(FRAGMENT, "{", *FRAGMENT_PART, "function", "arguments"), "Input should be"),
    ("a call", twice(FRAGMENT), "call"),
    (
        "a call",
        set_in(
            "thread.run.requires_action",
            "{ }",
            "required_action",
            "submit_tool_outputs",
            "tool_calls",
            0,
            "function",
            "arguments",
        ),
        "other calls than the deltas",
    ),
    ("a call", without("thread.run.step.created"), "without an open tool_calls step"),
    ("a submission", without("thread.run.step.completed"), "expected thread.run.step.completed"),
    ("a thread", without("thread.created"), "expected thread.created"),
]


@pytest.mark.parametrize(("case", "change", "complaint"), BROKEN)
def test_a_broken_stream_is_found(case: str, change: Change, complaint: str) -> None:
    opening, frames = copy.deepcopy(GOOD[case])
    change(frames)
    assert any(complaint in found for found in played(opening, frames)), played(opening, frames)


@pytest.mark.parametrize("name", sorted({name for name, _ in BEGUN + REPLY + ASKED} - {"done"}))
def test_every_event_of_a_stream_is_needed_in_its_place(name: str) -> None:
    opening, frames = copy.deepcopy(GOOD["a call" if (name, name) in ASKED else "a reply"])
    if name not in [known for known, _ in frames]:
        opening, frames = copy.deepcopy(GOOD["a call"])
    frames.append(frames.pop([known for known, _ in frames].index(name)))
    assert played(opening, frames)


@pytest.mark.parametrize(
    "frame",
    [
        "event: thread.run.created",
        "event: x\ndata: {}\ndata: {}",
        "data: {}",
        "event: x\r\ndata: {}",
        "event: done\ndata: done",
    ],
)
def test_a_broken_frame_is_found(frame: str) -> None:
    rules = StreamRules("run")
    rules.frame(frame)
    assert rules.complaints


def test_comments_keep_a_stream_alive() -> None:
    rules = StreamRules("run")
    rules.frame(": keep-alive")
    assert rules.complaints == []


def test_the_sdk_knows_all_events_of_the_wire() -> None:
    assert len(EVENTS) == 24


@pytest.mark.parametrize(
    ("content", "good"),
    [([text("Hello")], True), ([text("Hel")], True), ([text("Hal")], False), ([], False)],
)
def test_a_broken_off_message_is_the_beginning_of_its_deltas(
    content: list[Json], good: bool
) -> None:
    end = {
        "incomplete_details": {"reason": "run_failed"},
        "incomplete_at": NOW,
    }
    failure = {"failed_at": NOW, "last_error": {"code": "server_error", "message": "No."}}
    frames = [
        *BEGUN,
        *REPLY[:-4],
        ("thread.message.incomplete", message("incomplete", content, **end)),
        ("thread.run.step.failed", step("failed", CREATES, **failure)),
        ("thread.run.failed", run("failed", **failure, usage=USAGE, expires_at=None)),
        ("done", "[DONE]"),
    ]
    assert (played("run", frames) == []) is good


# Objects ------------------------------------------------------------------------------------------

OBJECTS: list[tuple[str, Json]] = [
    ("thread.run", run("completed")),
    ("thread.run", run("requires_action")),
    ("thread.run.step", step("completed", CREATES)),
    ("thread.message", message("completed", [text("Hello")])),
    ("thread", THREAD),
]


@pytest.mark.parametrize(("kind", "value"), OBJECTS)
def test_every_key_is_always_there(kind: str, value: Json) -> None:
    assert judge_object(kind, value, "x") == []
    for key in value:
        assert judge_object(kind, {k: v for k, v in value.items() if k != key}, "x"), key
    assert judge_object(kind, dict(reversed(list(value.items()))), "x"), "order"
    assert judge_object(kind, {**value, "surprise": 1}, "x")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("thread.run", run("completed", usage=None)),
        ("thread.run", run("completed", expires_at=NOW)),
        ("thread.run", run("in_progress", started_at=None)),
        ("thread.run", run("queued", usage=USAGE)),
        ("thread.run", run("failed", failed_at=NOW, usage=USAGE, expires_at=None)),
        ("thread.run", run("completed", created_at=float(NOW))),
        ("thread.run", run("completed", metadata=None)),
        ("thread.run", run("completed", additional_message_ids=None)),
        ("thread.run", run("resting")),
        ("thread.run.step", step("completed", CREATES, usage=None)),
        ("thread.run.step", step("completed", {**CALLS, "tool_calls": [OPENING]})),
        ("thread.run.step", step("completed", CALLS)),
        ("thread.run.step", step("in_progress", CREATES, type="tool_calls")),
        ("thread.message", message("completed", [])),
        ("thread.message", message("completed", [text("x")], run_id=None)),
        ("thread.message", message("completed", [text("x")], role="user")),
        ("thread.message", message("incomplete", [text("x")])),
        ("thread.message", message("completed", [text("x")], attachments=None)),
        ("thread.message", message("completed", [{"type": "text", "text": "x"}])),
        ("thread", {**THREAD, "tool_resources": None}),
        ("thread", {**THREAD, "tool_resources": {"code_interpreter": None}}),
    ],
)
def test_an_object_that_contradicts_itself_is_found(kind: str, value: Json) -> None:
    assert judge_object(kind, value, "x")


# Traffic ------------------------------------------------------------------------------------------

HEADERS = {
    "content-type": "application/json",
    "x-request-id": "req_" + "0" * 32,
    "openai-processing-ms": "1",
    "openai-version": "2020-10-01",
    "assistants-server": "1.0",
}
POLL = {"openai-poll-after-ms": "250"}
STREAM = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
RUN = f"/v1/threads/{THREAD_ID}/runs/{RUN_ID}"


def page(items: list[Json], **changes: Any) -> Json:
    ends = {"first_id": items[0]["id"], "last_id": items[-1]["id"]} if items else {}
    empty = {"first_id": None, "last_id": None}
    return {"object": "list", "data": items, **empty, **ends, "has_more": False, **changes}


def refusal(**changes: Any) -> Json:
    error = {"message": "No.", "type": "invalid_request_error", "param": None, "code": None}
    return {"error": {**error, **changes}}


async def seen(*answers: tuple[str, str, int, Json, Any]) -> list[str]:
    """What the checker says of (method, path, status, headers, body), asked one after another."""
    number = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        _, _, status, headers, body = answers[number]
        known = {**HEADERS, "x-request-id": f"req_{number:032x}", **headers}
        pairs = [(k.encode(), v.encode()) for k, v in known.items() if v is not None]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        await send({"type": "http.response.body", "body": data})

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        pass

    traffic = Traffic(app)
    for number, (method, url, *_) in enumerate(answers):  # noqa: B007 - the app reads it
        path, _, query = url.partition("?")
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode()}
        await traffic(scope, receive, send)
    return traffic.complaints


def sse(frames: list[Frame]) -> bytes:
    return b"".join(frame.encode() + b"\n\n" for frame in framed(frames))


async def test_good_answers_break_no_rule() -> None:
    other = {**THREAD, "id": "thread_" + "u" * 24, "created_at": NOW - 5}
    assert not await seen(
        ("POST", f"/v1/threads/{THREAD_ID}/runs", 200, STREAM, sse(BEGUN + REPLY)),
        ("GET", RUN, 200, POLL, run("completed")),
        ("POST", "/v1/threads", 200, {}, THREAD),
        ("GET", "/v1/threads?limit=2", 200, {}, page([THREAD, other])),
        ("GET", "/v1/threads?order=asc", 200, {}, page([other, THREAD])),
        ("GET", "/v1/assistants", 200, {}, page([])),
        ("GET", "/v1/files/file-1/content", 200, {"content-type": "application/octet-stream"}, b""),
        ("POST", "/v1/nothing", 404, {}, refusal()),
        ("POST", "/v1/threads", 429, {"retry-after": "1"}, refusal(type="rate_limit_error")),
        ("GET", RUN, 200, POLL, run("completed", metadata={"changed": "later"})),
    )


@pytest.mark.parametrize(
    "answer",
    [
        ("GET", RUN, 200, {}, run("completed")),
        ("GET", RUN, 200, {"openai-poll-after-ms": "0.25"}, run("completed")),
        ("GET", RUN, 200, POLL, THREAD),
        ("GET", RUN, 200, POLL, b"<html>"),
        ("GET", RUN, 201, POLL, run("completed")),
        ("GET", RUN, 200, {**POLL, "x-request-id": "req_1"}, run("completed")),
        ("GET", RUN, 200, {**POLL, "content-type": "text/html"}, run("completed")),
        ("GET", "/v1/nothing", 200, {}, {}),
        ("GET", "/v1/threads?limit=1", 200, {}, page([THREAD, {**THREAD, "id": "thread_2"}])),
        ("GET", "/v1/threads", 200, {}, page([THREAD, THREAD])),
        ("GET", "/v1/threads", 200, {}, page([THREAD], last_id=None)),
        ("GET", "/v1/threads", 200, {}, page([], has_more=True)),
        ("GET", "/v1/threads", 200, {}, [THREAD]),
        ("GET", "/v1/threads?order=asc", 200, {}, page([THREAD, {**THREAD, "created_at": 5}])),
        ("POST", "/v1/threads", 200, {}, {**THREAD, "id": "thread_short"}),
        ("POST", "/v1/threads", 404, {}, {"detail": "Not Found"}),
        ("POST", "/v1/threads", 404, {}, b"Not Found"),
        ("POST", "/v1/threads", 404, {}, refusal(message="")),
        ("POST", "/v1/threads", 409, {}, refusal()),
        ("POST", "/v1/threads", 500, {}, refusal()),
        ("POST", "/v1/threads", 400, {}, refusal(type="server_error")),
        ("POST", "/v1/threads", 405, {}, refusal()),
        ("POST", "/v1/threads", 429, {}, refusal(type="rate_limit_error")),
        ("POST", "/v1/threads", 200, STREAM, sse(BEGUN + REPLY)),
        ("POST", f"{RUN}/submit_tool_outputs", 200, STREAM, sse(BEGUN + REPLY)),
        ("POST", f"/v1/threads/{THREAD_ID}/runs", 200, STREAM, sse(BEGUN + REPLY[:-1])),
        ("POST", f"/v1/threads/{THREAD_ID}/runs", 200, STREAM, sse(BEGUN + REPLY)[:-1]),
    ],
)
async def test_a_bad_answer_is_found(answer: tuple[str, str, int, Json, Any]) -> None:
    assert await seen(answer)


async def test_an_ended_run_that_changes_is_found() -> None:
    ended = ("GET", RUN, 200, POLL, run("completed"))
    assert await seen(ended, ("GET", RUN, 200, POLL, run("completed", completed_at=NOW + 2)))
    assert await seen(ended, ("GET", RUN, 200, POLL, run("in_progress")))


async def test_a_server_that_broke_a_rule_fails_its_test() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def nothing(*_: Any) -> Any:
        return {"type": "http.request"}

    traffic = Traffic(app)
    scope = {"type": "http", "method": "GET", "path": "/v1/threads", "query_string": b""}
    await traffic(scope, nothing, nothing)
    with pytest.raises(BrokenRule, match="GET /v1/threads -> 200: x-request-id is None"):
        traffic.check()
    traffic.check()
