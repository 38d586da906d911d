"""What the model sees of a thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistants_server.domain import model_input
from assistants_server.domain.records import Message, Run, Step, Usage
from assistants_server.domain.tokens import estimate, estimate_message

RUN = Run(
    id="run_1",
    project_id="default",
    thread_id="thread_1",
    assistant_id="asst_1",
    created_at=1,
    status="in_progress",
    model="m",
    instructions="Be brief.",
)


def message(position: int, role: Any, *content: Any, run_id: str | None = None) -> Message:
    blocks = [
        {"type": "text", "text": {"value": part, "annotations": []}}
        if isinstance(part, str)
        else part
        for part in content
    ]
    return Message(
        id=f"msg_{position}",
        thread_id="thread_1",
        created_at=1,
        position=position,
        role=role,
        content=blocks,
        run_id=run_id,
    )


def called(after: int, *calls: tuple[str, str | None], run_id: str = "run_0") -> Step:
    return Step(
        id=f"step_{after}",
        run_id=run_id,
        thread_id="thread_1",
        assistant_id="asst_1",
        created_at=1,
        type="tool_calls",
        status="completed",
        after_position=after,
        tool_calls=[
            {
                "id": name,
                "type": "function",
                "function": {"name": "f", "arguments": "{}", "output": output},
            }
            for name, output in calls
        ],
    )


def roles(*args: Any, **kwargs: Any) -> list[str]:
    return [one["role"] for one in model_input.build(*args, images={}, **kwargs)]


def test_tool_turns_stand_where_they_happened() -> None:
    messages = [message(1, "user", "a"), message(4, "assistant", "b"), message(5, "user", "c")]
    prompt = model_input.build(RUN, messages, [called(1, ("call_a", "42"))], images={})
    assert [one["role"] for one in prompt] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    assert prompt[2]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert prompt[3] == {"role": "tool", "tool_call_id": "call_a", "content": "42"}


def test_text_and_calls_of_one_turn_are_one_message_again() -> None:
    messages = [message(1, "user", "a"), message(2, "assistant", "Wait.", run_id="run_0")]
    prompt = model_input.build(RUN, messages, [called(2, ("call_a", "42"))], images={})
    assert prompt[2]["content"] == "Wait."
    assert [call["id"] for call in prompt[2]["tool_calls"]] == ["call_a"]
    assert prompt[3]["role"] == "tool"


def test_calls_without_an_answer_and_excluded_ones_are_never_shown() -> None:
    run = replace(RUN, excluded_ids=["call_b"])
    turn = called(1, ("call_a", None), ("call_b", "hidden"), ("call_c", "shown"))
    prompt = model_input.build(run, [message(1, "user", "a")], [turn], images={})
    assert [one.get("content") for one in prompt if one["role"] == "tool"] == ["shown"]
    nothing = called(1, ("call_a", None))
    assert roles(run, [message(1, "user", "a")], [nothing]) == ["system", "user"]


def test_images_travel_as_data_urls_unless_they_were_urls() -> None:
    upload = {"type": "image_file", "image_file": {"file_id": "file-a", "detail": "low"}}
    gone = {"type": "image_file", "image_file": {"file_id": "file-b", "detail": "auto"}}
    link = {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "auto"}}
    prompt = model_input.build(
        RUN,
        [message(1, "user", "look", upload, gone, link)],
        [],
        images={"file-a": "data:image/png;base64,AA"},
    )
    assert prompt[1]["content"] == [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}},
        {
            "type": "text",
            "text": "[An image that cannot be shown: it was deleted, or is too large.]",
        },
        {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "auto"}},
    ]
    assert model_input.image_files([message(1, "user", upload, gone)]) == ["file-a", "file-b"]


def test_empty_texts_are_not_shown_unless_there_is_nothing_else() -> None:
    link = {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "auto"}}
    silent = replace(RUN, instructions=None)
    with_image = model_input.build(silent, [message(1, "user", "", link)], [], images={})
    assert with_image == [{"role": "user", "content": [link]}]
    assert roles(RUN, [message(1, "user", "")], []) == ["system"]
    nothing = model_input.build(silent, [message(1, "user", "")], [], images={})
    assert nothing == [{"role": "user", "content": ""}]


def test_a_longer_thread_begins_like_the_shorter_one() -> None:
    messages = [message(n, "user" if n % 2 else "assistant", f"m{n}") for n in range(1, 8)]
    turns = [called(3, ("call_a", "1")), called(5, ("call_b", "2"))]
    shorter = model_input.build(RUN, messages[:5], turns[:1], images={})
    longer = model_input.build(RUN, messages, turns, images={})
    assert longer[: len(shorter)] == shorter, "providers' prompt caches would miss"


@pytest.mark.parametrize(
    ("choice", "turns", "asked"),
    [
        ("auto", 0, None),
        ("none", 0, "none"),
        ("none", 3, "none"),
        ("required", 0, "required"),
        ("required", 1, None),
        ({"type": "function", "function": {"name": "f"}}, 0, "as given"),
        ({"type": "function", "function": {"name": "f"}}, 1, None),
        ({"type": "file_search"}, 0, None),
    ],
)
def test_a_forced_tool_choice_holds_for_the_first_turn(choice: Any, turns: int, asked: Any) -> None:
    expected = choice if asked == "as given" else asked
    assert model_input.tool_choice(replace(RUN, tool_choice=choice, turns=turns)) == expected


def test_the_prompt_bound_counts_what_earlier_turns_took() -> None:
    run = replace(RUN, max_prompt_tokens=1000, usage=Usage(prompt_tokens=400), turns=1)
    assert model_input.prompt_budget(run, window=100_000) == 600 - estimate("Be brief.")


class Sized(NamedTuple):
    position: int
    tokens: int
    role: str = "assistant"


def fitted(sizes: Mapping[int, int], turns: Sequence[Step], budget: int) -> Any:
    """Positions of what fits, and its tokens."""
    thread = [Sized(*each) for each in sizes.items()]
    shown, left, tokens = model_input.fitting(RUN, thread, turns, budget=budget)
    return [each.position for each in shown], [each.after_position for each in left], tokens


OUTPUT = ("c", "x" * 360)  # 90 tokens, and 10 for the call


def test_tool_turns_take_room_and_go_with_the_message_that_they_are_about() -> None:
    turns = [called(1, OUTPUT), called(2, OUTPUT), called(2, OUTPUT), called(3, OUTPUT)]
    sizes = {1: 10, 2: 10, 3: 10}
    assert fitted(sizes, turns, 430) == ([1, 2, 3], [1, 2, 2, 3], 430)
    assert fitted(sizes, turns, 429) == ([2, 3], [2, 2, 3], 320)
    assert fitted(sizes, turns, 319) == ([3], [3], 110)


def test_the_newest_message_and_the_newest_turn_stay_whatever_they_take() -> None:
    turns = [called(1, OUTPUT), called(1, OUTPUT), called(1, OUTPUT)]
    assert fitted({1: 50}, turns, 250) == ([1], [1, 1], 250)
    assert fitted({1: 50}, turns, 1) == ([1], [1], 150)
    assert fitted({}, turns, 1) == ([], [1], 100)


def test_what_the_user_said_last_stays_in_a_run_that_goes_on_for_long() -> None:
    thread = [Sized(1, 10), Sized(2, 10, "user"), Sized(5, 10), Sized(8, 10)]
    turns = [called(2, OUTPUT), called(2, OUTPUT), called(5, OUTPUT), called(8, OUTPUT)]

    def left(budget: int) -> tuple[list[int], list[int]]:
        shown, behind, tokens = model_input.fitting(RUN, thread, turns, budget=budget)
        assert tokens <= budget
        return [one.position for one in shown], [one.after_position for one in behind]

    assert left(440) == ([1, 2, 5, 8], [2, 2, 5, 8])
    assert left(439) == ([2, 5, 8], [2, 2, 5, 8])
    assert left(429) == ([2, 5, 8], [2, 5, 8])
    assert left(329) == ([2, 5, 8], [5, 8])
    assert left(229) == ([2, 8], [8])


def test_calls_that_are_hidden_take_no_room() -> None:
    run = replace(RUN, excluded_ids=["c"])
    thread, turns = [Sized(1, 10), Sized(2, 10)], [called(1, OUTPUT, ("d", None))]
    assert model_input.fitting(run, thread, turns, budget=20) == (thread, turns, 20)


@given(st.text())
def test_an_estimate_grows_with_the_text(text: str) -> None:
    assert (estimate(text) == 0) == (text == "")
    assert estimate(text) <= estimate(text + "x")
    assert estimate_message([{"type": "text", "text": {"value": text}}]) > estimate(text)
