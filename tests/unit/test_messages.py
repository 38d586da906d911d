"""Messages as they go over the wire."""

from __future__ import annotations

from livekit.agents.llm import ProviderTool

from livekit.plugins.assistants.messages import ITEM_ID, chat_context, wire_message
from livekit.plugins.assistants.snapshot import Entry, Image, Text, project
from livekit.plugins.assistants.tools import (
    AssistantTool,
    merge_hosted,
    wire_tool_choice,
    wire_tools,
)


def entry(*parts: Text | Image, item_id: str = "item_1") -> Entry:
    return Entry(item_id=item_id, role="user", parts=parts)


def test_text_is_sent_as_a_string_with_its_items_id() -> None:
    assert wire_message(entry(Text("a"), Text("b")), {}) == {
        "role": "user",
        "content": "a\nb",
        "metadata": {ITEM_ID: "item_1"},
    }


def test_parts_keep_their_order_and_lost_images_are_left_out() -> None:
    message = wire_message(
        entry(Image("i1"), Text("x"), Image("i2", url="https://e.com/i"), Image("i3")),
        {"i1": "file-1"},
    )
    assert message["content"] == [
        {"type": "image_file", "image_file": {"file_id": "file-1", "detail": "auto"}},
        {"type": "text", "text": "x"},
        {"type": "image_url", "image_url": {"url": "https://e.com/i", "detail": "auto"}},
    ]


def test_a_message_is_never_empty() -> None:
    assert wire_message(entry(Image("i1")), {})["content"]


def test_metadata_keeps_to_the_wires_limits() -> None:
    message = wire_message(entry(Text("a"), item_id="x" * 600), {})
    assert len(message["metadata"][ITEM_ID]) == 512


def test_a_thread_becomes_a_context_that_is_recognised() -> None:
    def block(text: str) -> dict[str, object]:
        return {"type": "text", "text": {"value": text, "annotations": []}}

    messages = [
        {
            "id": "msg_1",
            "role": "user",
            "content": [block("hi")],
            "metadata": {ITEM_ID: "item_1"},
            "created_at": 1,
            "status": "completed",
            "run_id": None,
        },
        {
            "id": "msg_2",
            "role": "assistant",
            "content": [block("hel")],
            "metadata": {},
            "created_at": 2,
            "status": "incomplete",
            "run_id": "run_1",
        },
        {"id": "msg_3", "role": "user", "content": [block(" ")], "created_at": 3},
    ]
    context = chat_context("thread_1", messages)
    one, two = project(context).entries
    assert (one.item_id, one.message_ids) == ("item_1", ("msg_1",))
    assert (two.item_id, two.message_ids, two.interrupted) == ("msg_2", ("msg_2",), True)
    assert two.thread_id == "thread_1"


def test_tools_of_the_server_go_with_the_functions() -> None:
    assert wire_tools([AssistantTool({"type": "file_search"})], strict=True) == [
        {"type": "file_search"}
    ]
    assert wire_tools([ProviderTool(id="somebody_elses")], strict=True) == []


def test_a_loaded_assistants_own_tools_stay_beside_the_agents_functions() -> None:
    function = {"type": "function", "function": {"name": "f"}}
    other = {"type": "function", "function": {"name": "g"}}
    search = {"type": "file_search"}
    assert merge_hosted([function], [other, search]) == [function, search]
    assert merge_hosted([search], [search]) == [search]


def test_a_named_tool_choice_has_the_wires_shape() -> None:
    assert wire_tool_choice("required") == "required"
    assert wire_tool_choice({"type": "function", "function": {"name": "f"}}) == {
        "type": "function",
        "function": {"name": "f"},
    }
