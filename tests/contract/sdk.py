"""What the tests with the official SDK say often."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from openai import AsyncAssistantEventHandler
from openai.types.beta import FunctionToolParam
from typing_extensions import override

DEPRECATED = [
    pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),
]
"""The SDK warns about every call of this API; the API lives on here."""

WEATHER: FunctionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


async def conversation(client: openai.AsyncOpenAI, **assistant: Any) -> tuple[str, str]:
    """An assistant, and a thread in which somebody has said hello: their ids."""
    options: dict[str, Any] = {"model": "gpt-4o", "instructions": "Be brief.", **assistant}
    made = await client.beta.assistants.create(**options)
    thread = await client.beta.threads.create(messages=[{"role": "user", "content": "Hello"}])
    return made.id, thread.id


class Callbacks(AsyncAssistantEventHandler):
    """Keeps the names of the callbacks in order, without ``on_``."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.printed = ""

    @override
    async def on_run_step_created(self, run_step: Any) -> None:
        self.names.append("run_step_created")

    @override
    async def on_run_step_delta(self, delta: Any, snapshot: Any) -> None:
        self.names.append("run_step_delta")

    @override
    async def on_run_step_done(self, run_step: Any) -> None:
        self.names.append("run_step_done")

    @override
    async def on_message_created(self, message: Any) -> None:
        self.names.append("message_created")

    @override
    async def on_message_delta(self, delta: Any, snapshot: Any) -> None:
        self.names.append("message_delta")

    @override
    async def on_message_done(self, message: Any) -> None:
        self.names.append("message_done")

    @override
    async def on_text_created(self, text: Any) -> None:
        self.names.append("text_created")

    @override
    async def on_text_delta(self, delta: Any, snapshot: Any) -> None:
        self.names.append("text_delta")

    @override
    async def on_text_done(self, text: Any) -> None:
        self.names.append("text_done")

    @override
    async def on_tool_call_created(self, tool_call: Any) -> None:
        self.names.append("tool_call_created")

    @override
    async def on_tool_call_delta(self, delta: Any, snapshot: Any) -> None:
        self.names.append("tool_call_delta")
        self.printed += delta.function.arguments

    @override
    async def on_tool_call_done(self, tool_call: Any) -> None:
        self.names.append("tool_call_done")

    @override
    async def on_exception(self, exception: Exception) -> None:
        self.names.append("exception")

    @override
    async def on_timeout(self) -> None:
        self.names.append("timeout")

    @override
    async def on_end(self) -> None:
        self.names.append("end")
