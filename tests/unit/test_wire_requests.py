"""What requests become: nulls, empties, defaults, and the completion of what a client left out."""

from __future__ import annotations

from typing import Any

import pytest

from assistants_server.domain.drafts import CarriedOutput, EndRun, RunExtensions, ToolOutput
from assistants_server.domain.records import Assistant
from assistants_server.wire import assistants, messages, parts, runs, threads
from assistants_server.wire.validation import validated

TEXT_BLOCK = {"type": "text", "text": {"value": "hi", "annotations": []}}
RANKING = {"ranker": "default_2024_08_21", "score_threshold": 0.0, "hybrid_search": None}


def assistant(**fields: Any) -> Assistant:
    body = validated(assistants.CreateAssistant, {"model": "m", **fields})
    return body.record(project_id="p", now=7)


def modified(**fields: Any) -> dict[str, Any]:
    return validated(assistants.ModifyAssistant, fields).changes()


def run(**fields: Any) -> Any:
    return validated(runs.CreateRun, {"assistant_id": "asst_1", **fields}).draft()


# --- null and empty -----------------------------------------------------------------------------


def test_nulls_of_a_new_assistant_are_its_defaults() -> None:
    names = set(assistants.CreateAssistant.model_fields) - {"model"}
    plain, nulled = assistant(), assistant(**dict.fromkeys(names))
    for field in Assistant.__slots__:
        if field != "id":
            assert getattr(nulled, field) == getattr(plain, field), field
    assert (plain.temperature, plain.top_p, plain.response_format) == (1.0, 1.0, "auto")
    assert (plain.tools, plain.tool_resources, plain.metadata) == ((), {}, {})


def test_zero_is_a_temperature() -> None:
    made = assistant(temperature=0, top_p=0)
    assert (made.temperature, made.top_p) == (0.0, 0.0)
    assert isinstance(made.temperature, float), "the wire shows 0.0, as recorded"


def test_absent_keeps_on_a_modification() -> None:
    assert modified() == {}


def test_null_clears_on_a_modification() -> None:
    names = set(assistants.ModifyAssistant.model_fields)
    assert modified(**dict.fromkeys(names)) == {
        "name": None,
        "description": None,
        "instructions": None,
        "tools": [],
        "tool_resources": {},
        "metadata": {},
        "temperature": 1.0,
        "top_p": 1.0,
        "response_format": "auto",
        "reasoning_effort": None,
    }


def test_a_modification_sets_what_it_names() -> None:
    assert modified(name="n", temperature=0, model="other") == {
        "name": "n",
        "temperature": 0.0,
        "model": "other",
    }


def test_nulls_of_a_new_thread_are_its_defaults() -> None:
    body = {"messages": None, "tool_resources": None, "metadata": None}
    assert (
        validated(threads.CreateThread, body).draft() == validated(threads.CreateThread, {}).draft()
    )


def test_null_clears_a_thread() -> None:
    body = {"tool_resources": None, "metadata": None}
    assert validated(threads.ModifyThread, body).changes() == {"tool_resources": {}, "metadata": {}}
    assert validated(threads.ModifyThread, {}).changes() == {}


@pytest.mark.parametrize("attachments", [None, []])
def test_messages_come_with_empty_attachments_every_day(attachments: object) -> None:
    body = {"role": "user", "content": "hi", "attachments": attachments, "metadata": None}
    draft = validated(messages.CreateMessage, body).draft()
    assert (draft.attachments, draft.metadata) == ([], {})


def test_nulls_of_a_new_run_inherit() -> None:
    names = set(runs.CreateRun.model_fields) - {"assistant_id"}
    assert run(**dict.fromkeys(names)) == run()
    plain = run()
    assert (plain.model, plain.instructions, plain.tools, plain.temperature) == (None,) * 4
    assert plain.parallel_tool_calls is True
    assert plain.extensions == RunExtensions()


def test_no_tools_at_all_is_not_the_assistants_tools() -> None:
    assert run(tools=[]).tools == []
    assert run(tools=None).tools is None


def test_empty_additional_instructions_are_none() -> None:
    assert run(additional_instructions="").additional_instructions is None
    assert run(instructions="").instructions == "", "given, so it replaces"


def test_an_output_may_be_absent() -> None:
    body = {"tool_outputs": [{"tool_call_id": "a"}, {"tool_call_id": "b", "output": None}]}
    assert validated(runs.SubmitToolOutputs, body).outputs() == [
        ToolOutput(tool_call_id="a", output=""),
        ToolOutput(tool_call_id="b", output=""),
    ]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"code_interpreter": None, "file_search": None}, {}),
        (
            {"code_interpreter": {"file_ids": None}, "file_search": {"vector_store_ids": None}},
            {"code_interpreter": {"file_ids": []}, "file_search": {"vector_store_ids": []}},
        ),
        (
            {"code_interpreter": {"file_ids": ["file-1"]}},
            {"code_interpreter": {"file_ids": ["file-1"]}},
        ),
        (
            {"file_search": {"vector_store_ids": ["vs_1"], "vector_stores": []}},
            {"file_search": {"vector_store_ids": ["vs_1"]}},
        ),
    ],
)
def test_tool_resources_may_hold_nulls(given: Any, kept: Any) -> None:
    assert assistant(tool_resources=given).tool_resources == kept
    assert validated(threads.CreateThread, {"tool_resources": given}).draft().tool_resources == kept


# --- what is completed --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"type": "code_interpreter"}, {"type": "code_interpreter"}),
        (
            {"type": "file_search"},
            {"type": "file_search", "file_search": {"ranking_options": RANKING}},
        ),
        (
            {"type": "file_search", "file_search": {"max_num_results": 5}},
            {
                "type": "file_search",
                "file_search": {"max_num_results": 5, "ranking_options": RANKING},
            },
        ),
        (
            {
                "type": "file_search",
                "file_search": {"ranking_options": {"ranker": "auto", "score_threshold": 0.5}},
            },
            {
                "type": "file_search",
                "file_search": {
                    "ranking_options": {
                        "ranker": "auto",
                        "score_threshold": 0.5,
                        "hybrid_search": None,
                    }
                },
            },
        ),
        (
            {"type": "function", "function": {"name": "f", "description": None, "strict": None}},
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "parameters": {"type": "object", "properties": {}},
                    "strict": False,
                },
            },
        ),
        (
            {
                "type": "function",
                "function": {
                    "strict": True,
                    "parameters": {"type": "object"},
                    "description": "d",
                    "name": "f",
                },
            },
            {
                "type": "function",
                "function": {
                    "name": "f",
                    "description": "d",
                    "parameters": {"type": "object"},
                    "strict": True,
                },
            },
        ),
    ],
)
def test_tools_are_shown_completed(given: Any, shown: Any) -> None:
    (kept,) = assistant(tools=[given]).tools
    assert kept == shown
    if given["type"] == "function":
        assert list(kept["function"]) == list(shown["function"])
    again = assistant(tools=[kept])
    assert again.tools == [kept], "what an answer shows is accepted in a request"


@pytest.mark.parametrize(
    "response_format",
    [
        "auto",
        {"type": "text"},
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
        {"type": "json_schema", "json_schema": {"name": "n", "strict": None}},
    ],
)
def test_response_formats_are_shown_as_sent(response_format: Any) -> None:
    assert assistant(response_format=response_format).response_format == response_format
    assert run(response_format=response_format).response_format == response_format


@pytest.mark.parametrize(
    "choice",
    [
        "none",
        "auto",
        "required",
        {"type": "file_search"},
        {"type": "function", "function": {"name": "f"}},
    ],
)
def test_tool_choices_are_shown_as_sent(choice: Any) -> None:
    assert run(tool_choice=choice).tool_choice == choice


def test_truncation_shows_both_keys() -> None:
    assert run(truncation_strategy={"type": "auto"}).truncation_strategy == {
        "type": "auto",
        "last_messages": None,
    }


@pytest.mark.parametrize(
    ("content", "blocks"),
    [
        ("hi", [TEXT_BLOCK]),
        ([{"type": "text", "text": "hi"}], [TEXT_BLOCK]),
        (
            [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}],
            [{"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "auto"}}],
        ),
        (
            [
                {
                    "type": "image_url",
                    "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"},
                }
            ],
            [
                {
                    "type": "image_url",
                    "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"},
                }
            ],
        ),
        (
            [{"type": "image_file", "image_file": {"file_id": "file-1", "detail": None}}],
            [{"type": "image_file", "image_file": {"file_id": "file-1", "detail": "auto"}}],
        ),
    ],
)
def test_content_becomes_blocks(content: Any, blocks: Any) -> None:
    for role in ("user", "assistant"):
        body = {"role": role, "content": content}
        assert validated(messages.CreateMessage, body).draft().content == blocks
    assert validated(messages.ModifyMessage, {"content": content}).changes() == {"content": blocks}


def test_a_message_modification_keeps_what_it_does_not_name() -> None:
    assert validated(messages.ModifyMessage, {}).changes() == {}
    assert validated(messages.ModifyMessage, {"content": None}).changes() == {}
    assert validated(messages.ModifyMessage, {"metadata": None}).changes() == {"metadata": {}}


# --- extensions ---------------------------------------------------------------------------------


def test_the_extensions_become_a_draft() -> None:
    draft = run(
        run_key="turn-2",
        end_runs=[{"run_key": "turn-1", "keep": ["msg_1"]}, {"run_key": "turn-0"}],
        if_active="queue",
        tool_outputs=[
            {"tool_call_id": "call_1", "output": "4"},
            {"tool_call_id": "call_2", "output": "5", "name": "f", "arguments": "{}"},
        ],
        edit_messages=[{"id": "msg_1", "content": "hi"}],
        delete_messages=["msg_2"],
        exclude_messages=["msg_3", "call_9"],
        on_disconnect="cancel",
    )
    assert draft.extensions == RunExtensions(
        run_key="turn-2",
        end_runs=[EndRun(run_key="turn-1", keep=["msg_1"]), EndRun(run_key="turn-0")],
        if_active="queue",
        tool_outputs=[
            CarriedOutput(tool_call_id="call_1", output="4"),
            CarriedOutput(tool_call_id="call_2", output="5", name="f", arguments="{}"),
        ],
        edit_messages={"msg_1": [TEXT_BLOCK]},
        delete_messages=["msg_2"],
        exclude_messages=["msg_3", "call_9"],
        on_disconnect="cancel",
        used=True,
    )


@pytest.mark.parametrize(
    "extension",
    [
        {"run_key": "k"},
        {"if_active": "error"},
        {"delete_messages": []},
        {"on_disconnect": "continue"},
    ],
)
def test_any_extension_counts_as_use(extension: dict[str, Any]) -> None:
    assert run(**extension).extensions.used is True


def test_keep_nothing_is_not_keep_all() -> None:
    nothing, all_of_it = run(
        end_runs=[{"run_key": "a", "keep": []}, {"run_key": "b"}]
    ).extensions.end_runs
    assert nothing.keep == []
    assert all_of_it.keep is None


# --- lists --------------------------------------------------------------------------------------


def test_list_queries_have_the_documented_defaults() -> None:
    page = validated(parts.ListQuery, {}).page()
    assert (page.limit, page.order, page.after, page.before) == (20, "desc", None, None)


def test_empty_cursors_are_none() -> None:
    page = validated(parts.ListQuery, {"after": "", "before": ""}).page()
    assert (page.after, page.before) == (None, None)


def test_unknown_query_parameters_are_ignored() -> None:
    assert validated(parts.ListQuery, {"api-version": "2024"}).limit == 20
