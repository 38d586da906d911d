"""What a context looks like to the plugin, and that it stays so."""

from __future__ import annotations

from typing import Any

import pytest
from livekit.agents.llm import (
    AgentConfigUpdate,
    AgentHandoff,
    AudioContent,
    CacheBreakpoint,
    ChatContext,
    ChatMessage,
    FunctionCall,
    FunctionCallOutput,
    ImageContent,
)

from livekit import rtc
from livekit.plugins.assistants.snapshot import (
    EntryCache,
    Image,
    Text,
    digest,
    entry_of,
    project,
    stamp,
)


def context(*items: Any) -> ChatContext:
    return ChatContext(list(items))


def message(role: Any, *content: Any, **more: Any) -> ChatMessage:
    return ChatMessage(role=role, content=list(content), **more)


def test_only_what_was_said_becomes_entries() -> None:
    picture = project(
        context(
            message("system", "Be brief.", id="lk.agent_task.instructions"),
            AgentConfigUpdate(instructions="x"),
            AgentHandoff(new_agent_id="b"),
            message("user", "hello"),
            message("assistant", "hi"),
            message("user", "   "),
            message("assistant"),
        )
    )
    assert [(one.role, one.text) for one in picture.entries] == [
        ("user", "hello"),
        ("assistant", "hi"),
    ]
    assert picture.has_instructions


def test_leading_system_text_is_the_instructions_and_later_text_is_additional() -> None:
    picture = project(
        context(
            message("user", "restored long ago"),
            message("system", "Be brief.", CacheBreakpoint(), id="lk.agent_task.instructions"),
            message("system", "It is noon.", id="lk.agent_task.instructions.dynamic"),
            message("user", "hello"),
            message("developer", "Mention the weather."),
        )
    )
    assert picture.instructions == "Be brief.\n\nIt is noon."
    assert picture.additional_instructions == "Mention the weather."


def test_without_system_text_there_are_no_instructions() -> None:
    picture = project(context(message("system", "", id="lk.agent_task.instructions")))
    assert picture.instructions is None
    assert picture.has_instructions


def test_a_snapshot_does_not_follow_edits_in_place() -> None:
    item = message("user", "hello there")
    cache = EntryCache()
    before = project(context(item), cache).entries
    item.content = ["Hello, there!"]
    after = project(context(item), cache).entries
    assert before[0].text == "hello there"
    assert after[0].text == "Hello, there!"
    assert before[0].digest != after[0].digest


def test_a_stamp_given_later_is_seen() -> None:
    item = message("assistant", "hi")
    cache = EntryCache()
    assert project(context(item), cache).entries[0].message_ids == ()
    item.extra.update(stamp("thread_1", "run_1", ["msg_1", "msg_2"]))
    (entry,) = project(context(item), cache).entries
    assert (entry.thread_id, entry.message_ids) == ("thread_1", ("msg_1", "msg_2"))


def test_a_stamp_that_is_nonsense_is_none() -> None:
    for value in ("x", {"thread_id": 1}, {"thread_id": "t"}, None):
        entry = entry_of(message("assistant", "hi", extra={"assistants": value}))
        assert entry is not None
        assert entry.message_ids == ()


def test_calls_are_paired_with_their_outputs_by_id() -> None:
    picture = project(
        context(
            FunctionCall(call_id="c2", name="g", arguments="{}"),
            FunctionCall(call_id="c1", name="f", arguments='{"a": 1}'),
            FunctionCall(call_id="c3", name="h", arguments="{}"),
            FunctionCallOutput(call_id="c1", output="1", is_error=False),
            FunctionCallOutput(call_id="c2", output="no", is_error=True),
            FunctionCallOutput(call_id="gone", name="k", output="4", is_error=False),
        )
    )
    assert [(a.call_id, a.name, a.arguments, a.output) for a in picture.answers] == [
        ("c1", "f", '{"a": 1}', "1"),
        ("c2", "g", "{}", "no"),
        ("gone", "k", None, "4"),
    ]
    assert picture.calls == {"c1", "c2", "c3", "gone"}


def test_the_stand_ins_of_running_tools_are_no_results() -> None:
    flag = {"__lk_running_placeholder__": True}
    picture = project(
        context(
            FunctionCall(id="x_running", call_id="c1", name="f", arguments="{}", extra=flag),
            FunctionCallOutput(
                id="x_running_output", call_id="c1", output="in progress", is_error=False
            ),
        )
    )
    assert picture.answers == ()
    assert picture.calls == frozenset()


def test_images_are_told_apart_without_looking_at_their_bytes() -> None:
    frame = ImageContent(
        id="img_1", image=rtc.VideoFrame(2, 2, rtc.VideoBufferType.RGBA, b"\0" * 16)
    )
    url = ImageContent(id="img_2", image="https://example.com/a.png", inference_detail="low")
    picture = project(context(message("user", "look", frame, url)))
    assert picture.entries[0].parts == (
        Text("look"),
        Image("img_1"),
        Image("img_2", url="https://example.com/a.png", detail="low"),
    )
    assert list(picture.images) == ["img_1"]


def test_an_image_alone_says_something_to_a_model_and_nothing_from_an_agent() -> None:
    image = ImageContent(image="https://example.com/a.png")
    assert entry_of(message("user", image)) is not None
    assert entry_of(message("assistant", image)) is None


def test_spoken_audio_counts_by_its_transcript() -> None:
    entry = entry_of(message("user", AudioContent(frame=[], transcript="hello")))
    assert entry is not None
    assert entry.text == "hello"


def test_blanks_do_not_matter_to_a_digest_and_words_and_images_do() -> None:
    assert digest([Text("a  b\n")]) == digest([Text("a"), Text("b")])
    assert digest([Text("a b")]) != digest([Text("ab")])
    assert digest([Text("a"), Image("i1")]) != digest([Text("a"), Image("i2")])


def test_a_long_lived_cache_of_entries_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EntryCache, "MOST", 3)
    cache = EntryCache()
    for lap in range(4):
        context = ChatContext.empty()
        for n in range(2):
            context.add_message(role="user", content=f"{lap}.{n}")
        assert [one.text for one in project(context, cache).entries] == [f"{lap}.0", f"{lap}.1"]
    assert len(cache._known) <= 3
