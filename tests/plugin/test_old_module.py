"""What was written for ``livekit.plugins.openai.beta`` runs after changing the import."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any, ClassVar

import pytest
from livekit.agents import Agent, AgentSession, RunResult
from livekit.agents.llm import ChatContext, ImageContent
from openai import AsyncAssistantEventHandler
from openai.types.beta.threads import Text, TextDelta
from tests.live_server import LiveServer
from tests.plugin.agents import Caller
from tests.upstream import Upstream, call, say

import livekit.plugins.assistants as plugin
from livekit.plugins.assistants import (
    AssistantCreateOptions,
    AssistantLLM,
    AssistantLLMStream,
    AssistantLoadOptions,
    AssistantOptions,
    LLMOptions,
    OnFileUploadedInfo,
    build_oai_message,
)
from livekit.plugins.assistants.event_handler import AssistantEvents


def test_the_names_and_their_arguments_are_there() -> None:
    fields = {
        one: [field.name for field in dataclasses.fields(one)]
        for one in (
            AssistantOptions,
            AssistantCreateOptions,
            AssistantLoadOptions,
            LLMOptions,
            OnFileUploadedInfo,
        )
    }
    assert fields == {
        AssistantOptions: ["create_options", "load_options"],
        AssistantCreateOptions: ["name", "instructions", "model", "temperature"],
        AssistantLoadOptions: ["assistant_id", "thread_id"],
        LLMOptions: ["model"],
        OnFileUploadedInfo: ["type", "original_file", "openai_file_object"],
    }
    old = ["assistant_opts", "client", "api_key", "base_url", "on_file_uploaded"]
    parameters = inspect.signature(AssistantLLM.__init__).parameters
    assert list(parameters)[1:6] == old
    assert all(one.kind is one.KEYWORD_ONLY for name, one in parameters.items() if name != "self")
    assert issubclass(AssistantLLMStream.EventHandler, AsyncAssistantEventHandler)
    assert {"ChatModels", "OnFileUploaded"} <= set(plugin.__all__)
    assert all(hasattr(plugin, name) for name in plugin.__all__)


@pytest.mark.parametrize("embedded", [False, True], ids=["remote", "embedded"])
async def test_the_old_example_runs(
    server: LiveServer,
    upstream: Upstream,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    embedded: bool,
) -> None:
    if embedded:
        monkeypatch.setenv("OPENAI_BASE_URL", upstream.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "test")
    else:
        monkeypatch.setenv("ASSISTANTS_BASE_URL", server.base_url)
    uploaded: list[str] = []

    def on_file_uploaded(info: plugin.OnFileUploadedInfo) -> None:
        uploaded.append(info.openai_file_object.filename)

    upstream.script(call("get_weather", {"location": "Paris"}), say("It is sunny in Paris."))

    from livekit.agents import function_tool

    @function_tool
    async def get_weather(location: str) -> str:
        """Called when the user asks about the weather."""
        return f"The weather in {location} is sunny."

    llm = plugin.AssistantLLM(
        assistant_opts=plugin.AssistantOptions(
            create_options=plugin.AssistantCreateOptions(
                model="gpt-4o",
                instructions="You are a voice assistant created by LiveKit.",
                name="KITT",
            )
        ),
        on_file_uploaded=on_file_uploaded,
    )
    async with llm, AgentSession[None](llm=llm, vad=None) as session:
        await session.start(Agent(instructions="", tools=[get_weather]))
        result: RunResult[None] = await session.run(user_input="What is the weather in Paris?")
        result.expect.next_event().is_function_call(name="get_weather")
        result.expect.next_event().is_function_call_output()
        result.expect.next_event().is_message(role="assistant")
        result.expect.no_more_events()
    system = upstream.requests[-1].messages[0]
    assert system["content"] == "You are a voice assistant created by LiveKit."


async def test_n_can_only_be_one(caller: Caller) -> None:
    with pytest.raises(ValueError, match="n can only be 1"):
        caller.llm.chat(chat_ctx=ChatContext.empty(), n=2)


async def test_a_subclass_may_bring_its_own_event_handler(
    server: LiveServer, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Shouting(AssistantEvents):
        seen: ClassVar[list[str]] = []

        async def on_text_delta(self, delta: TextDelta, snapshot: Text) -> None:
            delta.value = (delta.value or "").upper()
            await super().on_text_delta(delta, snapshot)

        async def on_tool_call_done(self, tool_call: Any) -> None:
            self.seen.append(tool_call.type)

    monkeypatch.setattr(AssistantLLMStream, "EventHandler", Shouting)
    upstream.script(say("hello ", "there"))
    async with Caller(server) as caller:
        context = ChatContext.empty()
        context.add_message(role="user", content="hi")
        answer = await caller.llm.chat(chat_ctx=context).collect()
        assert answer.text == "HELLO THERE"
        assert answer.usage is not None
        assert answer.extra["assistants"]["thread_id"] == caller.llm.thread_id


def test_build_oai_message() -> None:
    context = ChatContext.empty()
    plain = context.add_message(role="user", content="hello")
    assert build_oai_message(plain) == {"role": "user", "content": "hello"}
    url = ImageContent(image="https://example.com/a.png")
    parts = context.add_message(role="user", content=["look", url])
    assert build_oai_message(parts) == {
        "role": "user",
        "content": [
            {"type": "text", "text": "look"},
            {
                "type": "image_url",
                "image_url": {"url": "https://example.com/a.png", "detail": "auto"},
            },
        ],
    }
