"""Limits: lengths, ranges, sizes. Each refusal says the limit and what was given."""

from __future__ import annotations

import pytest
from pydantic import BaseModel
from tests.unit.test_wire_validation import FUNCTION, Refusal, missing, refused, run, unknown, user

from assistants_server.errors import BadRequest
from assistants_server.wire import assistants, files, messages, parts, runs, threads

A = assistants.CreateAssistant
M = messages.CreateMessage
R = runs.CreateRun
T = threads.CreateThread


@pytest.mark.parametrize(
    ("model", "body", "message", "param", "code"),
    [
        (
            parts.ListQuery,
            {"limit": "101"},
            (
                "Invalid 'limit': integer above maximum value. "
                "Expected a value <= 100, but got 101 instead."
            ),
            "limit",
            "integer_above_max_value",
        ),
        (
            parts.ListQuery,
            {"limit": "0"},
            (
                "Invalid 'limit': integer below minimum value. "
                "Expected a value >= 1, but got 0 instead."
            ),
            "limit",
            "integer_below_min_value",
        ),
        (
            files.FilesQuery,
            {"limit": "10001"},
            (
                "Invalid 'limit': integer above maximum value. "
                "Expected a value <= 10000, but got 10001 instead."
            ),
            "limit",
            "integer_above_max_value",
        ),
        (
            R,
            run(temperature=3),
            (
                "Invalid 'temperature': decimal above maximum value. "
                "Expected a value <= 2, but got 3 instead."
            ),
            "temperature",
            "decimal_above_max_value",
        ),
        (
            R,
            run(top_p=-0.5),
            (
                "Invalid 'top_p': decimal below minimum value. "
                "Expected a value >= 0, but got -0.5 instead."
            ),
            "top_p",
            "decimal_below_min_value",
        ),
        (
            R,
            run(max_prompt_tokens=255),
            (
                "Invalid 'max_prompt_tokens': integer below minimum value. "
                "Expected a value >= 256, but got 255 instead."
            ),
            "max_prompt_tokens",
            "integer_below_min_value",
        ),
        (
            R,
            run(max_completion_tokens=2**31),
            (
                "Invalid 'max_completion_tokens': integer above maximum value. "
                "Expected a value <= 2147483647, but got 2147483648 instead."
            ),
            "max_completion_tokens",
            "integer_above_max_value",
        ),
        (
            M,
            user("x" * 256_001),
            (
                "Invalid 'content': string too long. Expected a string with maximum length 256000, "
                "but got a string with length 256001 instead."
            ),
            "content",
            "string_above_max_length",
        ),
        (
            A,
            {"model": "m", "name": "x" * 257},
            (
                "Invalid 'name': string too long. Expected a string with maximum length 256, "
                "but got a string with length 257 instead."
            ),
            "name",
            "string_above_max_length",
        ),
        (
            A,
            {"model": "m", "description": "x" * 513},
            (
                "Invalid 'description': string too long. Expected a string "
                "with maximum length 512, but got a string with length 513 instead."
            ),
            "description",
            "string_above_max_length",
        ),
        (
            A,
            {"model": ""},
            (
                "Invalid 'model': empty string. Expected a string with minimum length 1, "
                "but got an empty string instead."
            ),
            "model",
            "empty_string",
        ),
        (
            M,
            {**user("x"), "attachments": [{"file_id": "file-1", "tools": []}] * 12},
            (
                "Invalid 'attachments': array too long. Expected an array with maximum length 10, "
                "but got an array with length 12 instead."
            ),
            "attachments",
            "array_above_max_length",
        ),
        (
            A,
            {"model": "m", "tools": [FUNCTION] * 129},
            (
                "Invalid 'tools': array too long. Expected an array with maximum length 128, "
                "but got an array with length 129 instead."
            ),
            "tools",
            "array_above_max_length",
        ),
        (
            M,
            user([]),
            (
                "Invalid 'content': empty array. Expected an array with minimum length 1, "
                "but got an empty array instead."
            ),
            "content",
            "empty_array",
        ),
        (
            R,
            run(metadata={str(number): "" for number in range(17)}),
            (
                "Invalid 'metadata': too many properties. Expected an object with at most "
                "16 properties, but got an object with 17 properties instead."
            ),
            "metadata",
            "object_above_max_properties",
        ),
        (
            R,
            run(metadata={"k" * 70: "v"}),
            (
                "Invalid property name in 'metadata': 'kkk...kkk' is too long. Expected a string "
                "with maximum length 64, but got a string with length 70 instead."
            ),
            "metadata." + "k" * 70,
            "property_name_above_max_length",
        ),
        (
            R,
            run(metadata={"k": "v" * 513}),
            (
                "Invalid 'metadata.k': string too long. Expected a string with maximum length 512, "
                "but got a string with length 513 instead."
            ),
            "metadata.k",
            "string_above_max_length",
        ),
        (
            R,
            run(tools=[{"type": "function", "function": {"name": "get time"}}]),
            (
                "Invalid 'tools[0].function.name': string does not match pattern. "
                "Expected a string that matches the pattern '^[a-zA-Z0-9_-]+$'."
            ),
            "tools[0].function.name",
            "invalid_value",
        ),
        (
            T,
            {"messages": [{**user("x"), "attachments": [{"file_id": "x", "tools": []}]}]},
            (
                "Invalid 'messages[0].attachments[0].file_id': 'x'. "
                "Expected an ID that begins with 'file'."
            ),
            "messages[0].attachments[0].file_id",
            "invalid_value",
        ),
        (
            M,
            user([{"type": "image_url", "image_url": {"url": "cat.png"}}]),
            (
                "Invalid 'content[0].image_url.url'. "
                "Expected a valid URL, but got a value with an invalid format."
            ),
            "content[0].image_url.url",
            "invalid_value",
        ),
        (
            T,
            {"tool_resources": {"file_search": {"vector_stores": [{"file_ids": []}]}}},
            (
                "Invalid 'tool_resources.file_search.vector_stores': "
                "this server has no vector stores yet."
            ),
            "tool_resources.file_search.vector_stores",
            "invalid_value",
        ),
        (
            A,
            {"model": "m", "tool_resources": {"code_interpreter": {"file_ids": ["file-1"] * 21}}},
            (
                "Invalid 'tool_resources.code_interpreter.file_ids': array too long. "
                "Expected an array with maximum length 20, but got an array with length 21 instead."
            ),
            "tool_resources.code_interpreter.file_ids",
            "array_above_max_length",
        ),
        (
            A,
            {"model": "m", "tool_resources": {"file_search": {"vector_store_ids": ["a", "b"]}}},
            (
                "Invalid 'tool_resources.file_search.vector_store_ids': array too long. "
                "Expected an array with maximum length 1, but got an array with length 2 instead."
            ),
            "tool_resources.file_search.vector_store_ids",
            "array_above_max_length",
        ),
        (
            A,
            {
                "model": "m",
                "tools": [{"type": "file_search", "file_search": {"max_num_results": 51}}],
            },
            (
                "Invalid 'tools[0].file_search.max_num_results': integer above maximum value. "
                "Expected a value <= 50, but got 51 instead."
            ),
            "tools[0].file_search.max_num_results",
            "integer_above_max_value",
        ),
    ],
)
def test_values_out_of_their_limits_say_the_limit(
    model: type[BaseModel], body: object, message: str, param: str, code: str
) -> None:
    assert refused(model, body) == (message, param, code)


@pytest.mark.parametrize(
    ("form", "refusal"),
    [
        ({}, missing("purpose")),
        ({"purpose": "assistants", "extra": "x"}, unknown("extra")),
        (
            {"purpose": "x"},
            (
                (
                    "'x' is not one of ['fine-tune', 'assistants', 'batch', 'user_data', 'vision', "
                    "'evals'] - 'purpose'"
                ),
                "purpose",
                None,
            ),
        ),
        (
            {"purpose": "vision", "expires_after[seconds]": "3600"},
            missing("expires_after.anchor"),
        ),
        (
            {
                "purpose": "vision",
                "expires_after[anchor]": "created_at",
                "expires_after[seconds]": "60",
            },
            (
                (
                    "Invalid 'expires_after.seconds': integer below minimum value. "
                    "Expected a value >= 3600, but got 60 instead."
                ),
                "expires_after.seconds",
                "integer_below_min_value",
            ),
        ),
    ],
)
def test_upload_fields_are_checked(form: dict[str, str], refusal: Refusal) -> None:
    with pytest.raises(BadRequest) as caught:
        files.upload_fields(form)
    assert (caught.value.message, caught.value.param, caught.value.code) == refusal


def test_an_upload_may_expire() -> None:
    form = {
        "purpose": "vision",
        "expires_after[anchor]": "created_at",
        "expires_after[seconds]": "3600",
    }
    assert files.upload_fields(form).expires_at(1000) == 4600
    assert files.upload_fields({"purpose": "vision"}).expires_at(1000) is None
