"""Objects as the wire shows them: keys in the recorded order, every key always there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from assistants_server.domain.records import (
    Assistant,
    Failure,
    File,
    Message,
    Run,
    Step,
    Thread,
    Usage,
)
from assistants_server.wire import assistants, files, messages, parts, runs, steps, threads

USAGE = {
    "prompt_tokens": 5,
    "completion_tokens": 3,
    "total_tokens": 8,
    "prompt_token_details": {"cached_tokens": 2},
    "completion_tokens_details": {"reasoning_tokens": 1},
}
SPENT = Usage(prompt_tokens=5, completion_tokens=3, cached_tokens=2, reasoning_tokens=1)

ASSISTANT = Assistant(id="asst_1", project_id="p", created_at=1, model="m")
RUN = Run(
    id="run_1",
    project_id="p",
    thread_id="thread_1",
    assistant_id="asst_1",
    created_at=1,
    status="queued",
    model="m",
    usage=SPENT,
)
STEP = Step(
    id="step_1",
    run_id="run_1",
    thread_id="thread_1",
    assistant_id="asst_1",
    created_at=1,
    type="message_creation",
    message_id="msg_1",
    usage=SPENT,
)
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def test_assistants() -> None:
    shown = assistants.render(ASSISTANT)
    assert list(shown) == [
        "id",
        "object",
        "created_at",
        "name",
        "description",
        "model",
        "instructions",
        "tools",
        "top_p",
        "temperature",
        "reasoning_effort",
        "tool_resources",
        "metadata",
        "response_format",
    ]
    assert orjson.dumps(shown["temperature"]) == b"1.0"
    assert shown["tool_resources"] == {}


def test_a_code_interpreter_shows_its_files_even_without_any() -> None:
    shown = assistants.render(replace(ASSISTANT, tools=[{"type": "code_interpreter"}]))
    assert shown["tool_resources"] == {"code_interpreter": {"file_ids": []}}
    kept = {"code_interpreter": {"file_ids": ["file-1"]}}
    shown = assistants.render(
        replace(ASSISTANT, tools=[{"type": "code_interpreter"}], tool_resources=kept)
    )
    assert shown["tool_resources"] == kept


def test_threads() -> None:
    shown = threads.render(Thread(id="thread_1", project_id="p", created_at=1))
    assert shown == {
        "id": "thread_1",
        "object": "thread",
        "created_at": 1,
        "metadata": {},
        "tool_resources": {},
    }


def test_messages() -> None:
    message = Message(id="msg_1", thread_id="thread_1", created_at=1, role="user", content=[])
    shown = messages.render(message)
    assert set(shown) == {
        "id",
        "object",
        "created_at",
        "thread_id",
        "assistant_id",
        "run_id",
        "status",
        "incomplete_details",
        "completed_at",
        "incomplete_at",
        "role",
        "content",
        "attachments",
        "metadata",
    }
    assert parts.encode(shown["attachments"]) == b"[]"
    assert shown["incomplete_details"] is None
    cut = messages.render(replace(message, status="incomplete", incomplete_reason="run_cancelled"))
    assert cut["incomplete_details"] == {"reason": "run_cancelled"}


def test_runs() -> None:
    shown = runs.render(RUN)
    assert list(shown) == [
        "id",
        "object",
        "created_at",
        "assistant_id",
        "thread_id",
        "status",
        "started_at",
        "expires_at",
        "cancelled_at",
        "failed_at",
        "completed_at",
        "required_action",
        "last_error",
        "model",
        "instructions",
        "tools",
        "tool_resources",
        "metadata",
        "temperature",
        "top_p",
        "reasoning_effort",
        "max_completion_tokens",
        "max_prompt_tokens",
        "truncation_strategy",
        "incomplete_details",
        "usage",
        "response_format",
        "tool_choice",
        "parallel_tool_calls",
    ]
    assert shown["truncation_strategy"] == {"type": "auto", "last_messages": None}


@pytest.mark.parametrize("status", ["queued", "in_progress", "requires_action", "cancelling"])
def test_a_run_under_way_shows_no_usage(status: Any) -> None:
    assert runs.render(replace(RUN, status=status))["usage"] is None


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed", "cancelled", "expired"])
def test_a_run_that_ended_shows_its_usage(status: Any) -> None:
    assert runs.render(replace(RUN, status=status))["usage"] == USAGE


def test_only_a_run_that_waits_shows_its_calls() -> None:
    waiting = runs.render(replace(RUN, status="requires_action", pending_calls=[CALL]))
    assert waiting["required_action"] == {
        "type": "submit_tool_outputs",
        "submit_tool_outputs": {"tool_calls": [CALL]},
    }
    assert runs.render(replace(RUN, pending_calls=[CALL]))["required_action"] is None


def test_how_a_run_failed() -> None:
    shown = runs.render(
        replace(RUN, status="failed", last_error=Failure(code="server_error", message="Sorry."))
    )
    assert shown["last_error"] == {"code": "server_error", "message": "Sorry."}
    shown = runs.render(
        replace(RUN, status="incomplete", incomplete_reason="max_completion_tokens")
    )
    assert shown["incomplete_details"] == {"reason": "max_completion_tokens"}


def test_the_ids_of_added_messages_are_shown_where_an_extension_was_used() -> None:
    assert "additional_message_ids" not in runs.render(RUN)
    shown = runs.render(replace(RUN, additional_message_ids=["msg_1"]))
    assert shown["additional_message_ids"] == ["msg_1"]


def test_steps() -> None:
    shown = steps.render(STEP)
    assert set(shown) == {
        "id",
        "object",
        "created_at",
        "run_id",
        "assistant_id",
        "thread_id",
        "type",
        "status",
        "cancelled_at",
        "completed_at",
        "expires_at",
        "expired_at",
        "failed_at",
        "last_error",
        "step_details",
        "usage",
        "metadata",
    }
    assert shown["step_details"] == {
        "type": "message_creation",
        "message_creation": {"message_id": "msg_1"},
    }
    assert shown["usage"] is None, "known, but not shown before the step has ended"
    assert steps.render(replace(STEP, status="completed"))["usage"] == USAGE
    unknown = steps.render(replace(STEP, status="failed", usage=None))["usage"]
    assert unknown is not None
    assert unknown["total_tokens"] == 0


def test_tool_steps_show_their_calls() -> None:
    calls = [{**CALL, "function": {**CALL["function"], "output": None}}]  # type: ignore[dict-item]
    shown = steps.render(replace(STEP, type="tool_calls", message_id=None, tool_calls=calls))
    assert shown["step_details"] == {"type": "tool_calls", "tool_calls": calls}


def test_files() -> None:
    file = File(
        id="file-1", project_id="p", created_at=1, filename="a.txt", bytes=3, purpose="assistants"
    )
    shown = files.render(file)
    assert list(shown) == [
        "object",
        "id",
        "purpose",
        "filename",
        "bytes",
        "created_at",
        "expires_at",
        "status",
        "status_details",
    ]
    assert (shown["object"], shown["status"]) == ("file", "processed")


def test_pages_name_their_own_ends() -> None:
    page = parts.list_page(["a", "b"], lambda name: {"id": name}, has_more=True)
    assert page == {
        "object": "list",
        "data": [{"id": "a"}, {"id": "b"}],
        "first_id": "a",
        "last_id": "b",
        "has_more": True,
    }
    empty = parts.list_page([], dict, has_more=False)
    assert (empty["first_id"], empty["last_id"], empty["has_more"]) == (None, None, False)


@pytest.mark.parametrize(
    ("noun", "shown"),
    [
        ("assistant", "assistant.deleted"),
        ("thread", "thread.deleted"),
        ("thread.message", "thread.message.deleted"),
        ("file", "file"),
    ],
)
def test_deletions(noun: str, shown: str) -> None:
    assert parts.deletion(noun, "x") == {"id": "x", "object": shown, "deleted": True}


def test_half_a_surrogate_pair_is_still_json() -> None:
    assert parts.encode({"text": "\ud83d"}) == b'{"text":"\\ud83d"}'
