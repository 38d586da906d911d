"""The patterns that let a small model call functions: pure, whatever the model then says."""

from __future__ import annotations

import math
from typing import Any

import pytest

from assistants_server.domain.model_exchange import ModelRequest
from assistants_server.providers import local_prompt
from assistants_server.providers.local_tools import (
    NEUTRAL,
    Topics,
    arguments_question,
    result_prompt,
)


def function(name: str, description: str = "", **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties}
    return {"name": name, "description": description, "parameters": parameters}


TEXT = {"type": "string"}
CLOCK = function("get_time", "The date and time now.")
BOOKING = function("place_order", "Order coffee or tea.", item=TEXT, quantity={"type": "integer"})
ORDERS = function("look_up_order", "What an order holds.", number={"type": "integer"})


def test_functions_get_words_that_begin_differently() -> None:
    assert Topics([CLOCK, BOOKING, ORDERS]).labels == [" time", " coffee", " order"]
    assert Topics([function("get"), function("getTime"), function("time_2")]).labels == [
        " 1",
        " time",
        " 3",
    ]


def test_every_function_and_small_talk_have_their_examples() -> None:
    prompt = Topics([CLOCK, ORDERS]).prompt("What time\nis it?")
    assert prompt.endswith("User: What time is it?\nTopic:")
    topics = [line for line in prompt.splitlines() if line.startswith("Topic: ")]
    assert topics.count("Topic: time") == topics.count("Topic: order") == 3
    assert topics.count("Topic: chat") == 6


def test_conditions_are_read_as_wishes() -> None:
    tool = function("get", "Called when the user asks for the weather. More.")
    assert "User: The weather.\nTopic: weather" in Topics([tool]).prompt("x")


def test_a_preference_for_a_word_is_not_a_choice() -> None:
    topics = Topics([CLOCK, ORDERS])
    time, order, talk = -1.0, -4.0, -2.0  # "time" is the likeliest whatever is asked
    usual = [[time + n / 10, order, talk] for n in range(len(NEUTRAL))]
    topics.calibrate(usual)
    assert topics.choose([time, order, talk]) is None
    assert topics.choose([time, order + 3, talk]) == 1, "unusual for an order"
    assert topics.choose([time, order - 1, talk], must=True) == 0, "if it has to be one"


def test_scores_belong_to_the_words_that_tokens_begin() -> None:
    topics = Topics([CLOCK, ORDERS])
    likely = [(" ti", math.log(0.5)), (" chat", math.log(0.3)), (" ", -0.1), (" zzz", -9.0)]
    assert topics.scores(likely) == [math.log(0.5), -9.0, math.log(0.3)]


def test_texts_are_copied_from_the_request_and_other_arguments_are_not() -> None:
    mode = {"enum": ["a", "b"]}
    tool = function("f", "Do it.", item=TEXT, quantity={"type": "integer"}, mode=mode)
    asked = arguments_question(tool, "Is the blue jacket there?", copy=True)
    assert asked is not None
    assert asked.schema["properties"]["item"]["enum"] == [
        "blue",
        "blue jacket",
        "blue jacket there",
        "jacket",
        "jacket there",
        "there",
    ]
    assert asked.schema["properties"]["quantity"] == {"type": "integer"}
    assert asked.schema["properties"]["mode"] == mode
    assert asked.schema["additionalProperties"] is False
    free = arguments_question(tool, "Is the blue jacket there?", copy=False)
    assert free is not None
    assert free.schema["properties"]["item"] == TEXT
    assert asked.prompt.endswith("User: Is the blue jacket there?\nJSON:")


def test_a_request_of_little_words_leaves_texts_free() -> None:
    asked = arguments_question(function("f", item=TEXT), "is it?", copy=True)
    assert asked is not None
    assert asked.schema["properties"]["item"] == TEXT


@pytest.mark.parametrize("tool", [CLOCK, {"name": "f"}, {"name": "f", "parameters": {}}])
def test_a_function_without_arguments_is_not_asked_for_them(tool: dict[str, Any]) -> None:
    assert arguments_question(tool, "x", copy=True) is None


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"type": ["null", "number"]},
        {"anyOf": [{"type": "null"}, {"type": "array"}]},
        {"type": "boolean"},
        {"type": "object"},
        {"type": "null"},
        {"enum": [None]},
    ],
)
def test_any_kind_of_parameter_has_an_example(kind: dict[str, Any]) -> None:
    assert arguments_question(function("f", x=kind), "x y", copy=True)
    assert Topics([function("f", x=kind)]).labels


def test_results_stand_between_question_and_answer() -> None:
    prompt = result_prompt("Where is it?", [("look_up", {"order_id": "7"}, "on its\nway")])
    assert prompt.endswith("User: Where is it?\nResult of look up, order id 7: on its way\nAnswer:")


# The conversation -----------------------------------------------------------------------------


def tool_turn(*, answered: bool = True) -> list[dict[str, Any]]:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Old."},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": [{"type": "text", "text": "Do it."}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "done"},
    ]
    return messages if answered else messages[:4]


def test_results_are_found_with_their_calls() -> None:
    found = local_prompt.results(tool_turn())
    assert found == local_prompt.Results("Do it.", [("f", {"a": 1}, "done")])
    assert local_prompt.results(tool_turn(answered=False)) is None
    assert local_prompt.results([]) is None


@pytest.mark.parametrize(
    ("choice", "answered", "wants"),
    [
        (None, False, True),
        ("auto", False, True),
        ("auto", True, False),
        ("required", True, True),
        ("none", False, False),
    ],
)
def test_a_result_is_talked_about_unless_a_call_is_demanded(
    choice: str | None, answered: bool, wants: bool
) -> None:
    tools = [{"type": "function", "function": CLOCK}]
    messages = tool_turn(answered=answered)
    request = ModelRequest(model="local", messages=messages, tools=tools, tool_choice=choice)
    assert local_prompt.wants_tools(request) is wants


def test_a_named_function_is_the_only_one_offered() -> None:
    tools = [{"type": "function", "function": one} for one in (CLOCK, ORDERS)]
    named = {"type": "function", "function": {"name": "look_up_order"}}
    request = ModelRequest(model="local", messages=[], tools=tools, tool_choice=named)
    assert local_prompt.offered(request) == [ORDERS]
    assert local_prompt.must_call(request)


def test_the_template_sees_three_roles_and_no_image() -> None:
    image = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    shown = local_prompt.plain([*tool_turn(), {"role": "user", "content": [image]}])
    assert [one["role"] for one in shown] == ["system", "user", "assistant", "user", "user"]
    assert "done" in shown[3]["content"]
    assert "cannot see" in shown[4]["content"]
