"""Every refusal of a body or query: text, ``param`` and ``code`` to the letter."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from assistants_server.errors import BadRequest
from assistants_server.wire import assistants, messages, parts, runs, steps, threads
from assistants_server.wire.validation import validated

A = assistants.CreateAssistant
M = messages.CreateMessage
R = runs.CreateRun
T = threads.CreateThread

Refusal = tuple[str, str | None, str | None]


def refused(model: type[BaseModel], body: object) -> Refusal:
    with pytest.raises(BadRequest) as caught:
        validated(model, body)
    error = caught.value
    assert (error.status, error.type) == (400, "invalid_request_error")
    return error.message, error.param, error.code


def missing(param: str) -> Refusal:
    return f"Missing required parameter: '{param}'.", param, "missing_required_parameter"


def unknown(param: str) -> Refusal:
    return f"Unknown parameter: '{param}'.", param, "unknown_parameter"


def invalid_type(param: str, expected: str, given: str) -> Refusal:
    text = f"Invalid type for '{param}': expected {expected}, but got {given} instead."
    return text, param, "invalid_type"


def run(**fields: Any) -> dict[str, Any]:
    return {"assistant_id": "asst_1", **fields}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


FUNCTION = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("model", "body", "refusal"),
    [
        (R, {}, missing("assistant_id")),
        (A, {}, missing("model")),
        (M, {"content": "x"}, missing("role")),
        (M, {"role": "user"}, missing("content")),
        (runs.SubmitToolOutputs, {}, missing("tool_outputs")),
        (
            runs.SubmitToolOutputs,
            {"tool_outputs": [{"output": "x"}]},
            missing("tool_outputs[0].tool_call_id"),
        ),
        (R, run(tools=[{}]), missing("tools[0].type")),
        (R, run(tools=[{"type": "function"}]), missing("tools[0].function")),
        (
            R,
            run(tools=[{"type": "function", "function": {}}]),
            missing("tools[0].function.name"),
        ),
        (R, run(tool_choice={"type": "function"}), missing("tool_choice.function")),
        (
            R,
            run(response_format={"type": "json_schema", "json_schema": {}}),
            missing("response_format.json_schema.name"),
        ),
        (
            R,
            run(truncation_strategy={"type": "last_messages"}),
            missing("truncation_strategy.last_messages"),
        ),
        (
            R,
            run(truncation_strategy={"last_messages": 3}),
            missing("truncation_strategy.type"),
        ),
        (T, {"messages": [{"role": "user"}]}, missing("messages[0].content")),
        (
            M,
            {**user("x"), "attachments": [{"tools": []}]},
            missing("attachments[0].file_id"),
        ),
        (
            A,
            {
                "model": "m",
                "tools": [{"type": "file_search", "file_search": {"ranking_options": {}}}],
            },
            missing("tools[0].file_search.ranking_options.score_threshold"),
        ),
    ],
)
def test_missing_parameters_are_named(
    model: type[BaseModel], body: object, refusal: Refusal
) -> None:
    assert refused(model, body) == refusal


@pytest.mark.parametrize(
    ("model", "body", "refusal"),
    [
        (R, run(foo=1), unknown("foo")),
        (A, {"model": "m", "file_ids": []}, unknown("file_ids")),
        (T, {"messages": [{**user("x"), "name": "n"}]}, unknown("messages[0].name")),
        (M, user([{"type": "text", "text": "x", "y": 1}]), unknown("content[0].y")),
        (
            R,
            run(tools=[{"type": "function", "function": {"name": "f", "x": 1}}]),
            unknown("tools[0].function.x"),
        ),
        (messages.ModifyMessage, {"role": "user"}, unknown("role")),
        (runs.ModifyRun, {"model": "x"}, unknown("model")),
        # Each belongs to the other way of creating a run.
        (
            runs.CreateThreadAndRun,
            run(additional_instructions="x"),
            unknown("additional_instructions"),
        ),
        (runs.CreateThreadAndRun, run(additional_messages=[]), unknown("additional_messages")),
        (runs.CreateThreadAndRun, run(reasoning_effort="low"), unknown("reasoning_effort")),
        (R, run(thread={}), unknown("thread")),
        (R, run(tool_resources={}), unknown("tool_resources")),
        # The extensions are accepted on POST /threads/{thread_id}/runs alone.
        (runs.CreateThreadAndRun, run(run_key="k"), unknown("run_key")),
        (runs.CreateThreadAndRun, run(end_runs=[]), unknown("end_runs")),
        (runs.CreateThreadAndRun, run(if_active="queue"), unknown("if_active")),
        (runs.CreateThreadAndRun, run(tool_outputs=[]), unknown("tool_outputs")),
        (runs.CreateThreadAndRun, run(edit_messages=[]), unknown("edit_messages")),
        (runs.CreateThreadAndRun, run(delete_messages=[]), unknown("delete_messages")),
        (runs.CreateThreadAndRun, run(exclude_messages=[]), unknown("exclude_messages")),
        (runs.CreateThreadAndRun, run(on_disconnect="cancel"), unknown("on_disconnect")),
        # A modification makes no vector store.
        (
            assistants.ModifyAssistant,
            {"tool_resources": {"file_search": {"vector_stores": []}}},
            unknown("tool_resources.file_search.vector_stores"),
        ),
    ],
)
def test_unknown_parameters_are_named(
    model: type[BaseModel], body: object, refusal: Refusal
) -> None:
    assert refused(model, body) == refusal


@pytest.mark.parametrize(
    ("model", "body", "refusal"),
    [
        (
            A,
            {"model": "m", "metadata": {"modified": True}},
            invalid_type("metadata.modified", "a string", "a boolean"),
        ),
        (R, {"assistant_id": None}, invalid_type("assistant_id", "a string", "null")),
        (R, {"assistant_id": 5}, invalid_type("assistant_id", "a string", "an integer")),
        (R, run(metadata="x"), invalid_type("metadata", "an object", "a string")),
        (R, run(temperature="1"), invalid_type("temperature", "a decimal", "a string")),
        (R, run(temperature=True), invalid_type("temperature", "a decimal", "a boolean")),
        (R, run(stream="true"), invalid_type("stream", "a boolean", "a string")),
        (R, run(stream=1), invalid_type("stream", "a boolean", "an integer")),
        (
            R,
            run(parallel_tool_calls=0),
            invalid_type("parallel_tool_calls", "a boolean", "an integer"),
        ),
        (
            R,
            run(max_prompt_tokens=300.0),
            invalid_type("max_prompt_tokens", "an integer", "a decimal"),
        ),
        (
            R,
            run(max_prompt_tokens=True),
            invalid_type("max_prompt_tokens", "an integer", "a boolean"),
        ),
        (R, run(tools={}), invalid_type("tools", "an array", "an object")),
        (R, run(tools=["x"]), invalid_type("tools[0]", "an object", "a string")),
        (R, run(tools=[{"type": 5}]), invalid_type("tools[0].type", "a string", "an integer")),
        (
            R,
            run(tool_choice=5),
            invalid_type("tool_choice", "one of a string or an object", "an integer"),
        ),
        (
            R,
            run(response_format=["auto"]),
            invalid_type("response_format", "one of a string or an object", "an array"),
        ),
        (
            R,
            run(tools=[{"type": "function", "function": {"name": "f", "parameters": []}}]),
            invalid_type("tools[0].function.parameters", "an object", "an array"),
        ),
        (M, user(5), invalid_type("content", "one of a string or array of objects", "an integer")),
        (M, user(None), invalid_type("content", "one of a string or array of objects", "null")),
        (M, {"role": 5, "content": "x"}, invalid_type("role", "a string", "an integer")),
        (
            T,
            {
                "messages": [
                    user("a"),
                    user(
                        [
                            {"type": "text", "text": "b"},
                            {"type": "image_url", "image_url": {"url": 5}},
                        ]
                    ),
                ]
            },
            invalid_type("messages[1].content[1].image_url.url", "a string", "an integer"),
        ),
        (
            M,
            user([{"type": "text", "text": {"value": "x"}}]),
            invalid_type("content[0].text", "a string", "an object"),
        ),
        (
            runs.SubmitToolOutputs,
            {"tool_outputs": [{"tool_call_id": "c", "output": {"a": 1}}]},
            invalid_type("tool_outputs[0].output", "a string", "an object"),
        ),
        (
            runs.SubmitToolOutputs,
            {"tool_outputs": None},
            invalid_type("tool_outputs", "an array", "null"),
        ),
        (parts.ListQuery, {"limit": "abc"}, invalid_type("limit", "an integer", "a string")),
        (R, run(run_key=5), invalid_type("run_key", "a string", "an integer")),
        (R, run(end_runs=["k"]), invalid_type("end_runs[0]", "an object", "a string")),
    ],
)
def test_wrong_types_are_told_apart(model: type[BaseModel], body: object, refusal: Refusal) -> None:
    assert refused(model, body) == refusal


@pytest.mark.parametrize("body", [[], "x", 5, None, True])
def test_a_body_is_an_object(body: object) -> None:
    message, param, code = refused(R, body)
    assert message.startswith("Invalid type for the request body: expected an object, but got ")
    assert (param, code) == (None, "invalid_type")


def value(param: str, given: str, supported: str) -> Refusal:
    return f"Invalid value: '{given}'. Supported values are: {supported}.", param, "invalid_value"


@pytest.mark.parametrize(
    ("model", "body", "refusal"),
    [
        (M, {"role": "system", "content": "x"}, value("role", "system", "'user' and 'assistant'")),
        (
            R,
            run(additional_messages=[{"role": "tool", "content": "x"}]),
            value("additional_messages[0].role", "tool", "'user' and 'assistant'"),
        ),
        (R, run(tool_choice="any"), value("tool_choice", "any", "'none', 'auto', and 'required'")),
        (
            R,
            run(tool_choice={"type": "x"}),
            value("tool_choice.type", "x", "'function', 'code_interpreter', and 'file_search'"),
        ),
        (R, run(response_format="text"), value("response_format", "text", "'auto'")),
        (
            R,
            run(response_format={"type": "xml"}),
            value("response_format.type", "xml", "'text', 'json_object', and 'json_schema'"),
        ),
        (
            A,
            {"model": "m", "tools": [{"type": "retrieval"}]},
            value(
                "tools[0].type", "retrieval", "'code_interpreter', 'file_search', and 'function'"
            ),
        ),
        (
            M,
            user([{"type": "audio"}]),
            value("content[0].type", "audio", "'text', 'image_url', and 'image_file'"),
        ),
        (
            M,
            user([{"type": "image_url", "image_url": {"url": "https://x", "detail": "max"}}]),
            value("content[0].image_url.detail", "max", "'auto', 'low', and 'high'"),
        ),
        (
            R,
            run(truncation_strategy={"type": "first"}),
            value("truncation_strategy.type", "first", "'auto' and 'last_messages'"),
        ),
        (
            A,
            {"model": "m", "reasoning_effort": "some"},
            value(
                "reasoning_effort",
                "some",
                "'none', 'minimal', 'low', 'medium', 'high', 'xhigh', and 'max'",
            ),
        ),
        (R, run(if_active="wait"), value("if_active", "wait", "'error', 'queue', and 'supersede'")),
        (R, run(on_disconnect="stop"), value("on_disconnect", "stop", "'continue' and 'cancel'")),
        (parts.ListQuery, {"order": "up"}, value("order", "up", "'asc' and 'desc'")),
        (
            steps.StepsQuery,
            {"include[]": ["everything"]},
            value(
                "include[0]",
                "everything",
                "'step_details.tool_calls[*].file_search.results[*].content'",
            ),
        ),
    ],
)
def test_values_outside_an_enumeration_name_what_is_supported(
    model: type[BaseModel], body: object, refusal: Refusal
) -> None:
    assert refused(model, body) == refusal


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"foo": 1, "temperature": "x", "top_p": 7}, "missing_required_parameter"),
        (run(foo=1, temperature="x", top_p=7), "unknown_parameter"),
        (run(temperature="x", top_p=7), "invalid_type"),
        (run(top_p=7), "decimal_above_max_value"),
        # The order among the fields does not matter, only the kind of complaint.
        (run(top_p=7, tools=[{"type": "function", "function": {}}]), "missing_required_parameter"),
        (run(additional_messages=[{"role": "x", "content": 5}]), "invalid_type"),
    ],
)
def test_missing_comes_before_unknown_before_type_before_value(body: object, code: str) -> None:
    assert refused(R, body)[2] == code


def test_a_body_of_many_unknown_keys_is_one_complaint() -> None:
    body = run(**{f"key{number}": number for number in range(100_000)})
    assert refused(R, body) == unknown("key0")
    assert refused(A, {f"key{number}": number for number in range(100_000)}) == missing("model")
