"""A call with a real voice, real voice activity detection and real recognition.

The engines really work, in threads, while virtual time stands still: for the session they are
infinitely fast, on any machine, and what they hear is the same every time.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from examples.local_voice.line import Line
from livekit.agents import Agent
from tests.live_server import LiveServer, live_server
from tests.plugin.agents import RUN, Said, model_saw, said
from tests.upstream import Answer, Upstream, say
from tests.voice.call import CountedLLM, Wire
from tests.voice.virtual_time import Work, running_loop

from assistants_server.domain.model_exchange import ModelRequest, Piece
from assistants_server.providers.contract import ModelInfo, ModelProvider
from examples import voice_without_cloud as example
from livekit.plugins.assistants import AssistantCreateOptions, AssistantOptions

MISSING = example.missing_parts()

needs_voice = pytest.mark.skipif(
    bool(MISSING), reason=f"{', '.join(MISSING)} not installed: run `uv sync --group voice`"
)

GREETING = "Good morning. What can I do for you?"
STORY = (
    "Once upon a time there was an old sailor who lived in a house on the shore. "
    "Every evening he walked down to the harbour and looked at the ships. "
    "One day a ship came in that nobody had ever seen before."
)


def storyteller(body: dict[str, Any]) -> Answer:
    asked = body["messages"][-1]["content"]
    if "story" in asked:
        return say(*(f"{word} " for word in STORY.split()))
    return say("Very well, I stop.") if "stop" in asked else say(GREETING)


async def the_call(
    server: LiveServer, model: str, tmp_path: Path
) -> tuple[Said, Said, list[str], int]:
    """The example's call: what was said, what the thread holds, the requests that were made, and
    how often the model was asked."""
    wire = Wire()
    client = openai.AsyncOpenAI(
        api_key="test",
        base_url=server.base_url,
        http_client=httpx2.AsyncClient(transport=wire),
    )
    definition = AssistantCreateOptions(
        name=example.NAME, instructions=example.INSTRUCTIONS, model=model
    )
    line, ear = Line(record=True), example.Ear()
    async with (
        client,
        CountedLLM(
            assistant_opts=AssistantOptions(create_options=definition),
            client=client,
            max_completion_tokens=80,
            temperature=0.0,
        ) as llm,
        line,
    ):
        agent = Agent(instructions=example.INSTRUCTIONS)
        async with example.answered(line, ear, llm, agent) as session:
            await llm.load_chat_ctx()
            wire.requests.clear()
            await example.call(line, ear, session)
            requests = list(wire.requests)
        thread = said(await llm.load_chat_ctx())
        line.write_recording(tmp_path / "call.wav")
        assert (tmp_path / "call.wav").stat().st_size > 16_000 * 4 * 10
        return said(session.history), thread, requests, llm.asked


@needs_voice
async def test_the_thread_holds_what_was_said_aloud(
    server: LiveServer, upstream: Upstream, tmp_path: Path
) -> None:
    upstream.default = storyteller
    history, thread, requests, asked = await the_call(server, "gpt-4o", tmp_path)
    assert [text for role, text in history if role == "user"] == [
        "good morning",
        "tell me a story about the sea",
        "stop please",
    ]
    (_, greeting), (_, story), (_, ending) = [one for one in history if one[0] == "assistant"]
    assert greeting == GREETING
    assert STORY.startswith(story)
    assert 8 <= len(story.split()) < len(STORY.split()), "it was cut where the caller spoke"
    assert ending == "Very well, I stop."
    assert thread == history
    assert requests == [RUN] * asked
    assert model_saw(upstream.requests[-1]) == history[:-1]


@needs_voice
async def test_the_local_model_on_the_line(tmp_path: Path) -> None:
    """The same call with a model that really writes, whatever it writes."""
    pytest.importorskip("xllamacpp", reason="no local model: run `uv sync --group demo`")
    from assistants_server.providers.local import LocalModel

    data = tmp_path / "data"
    model = LocalModel(data=data)
    try:
        async with live_server(data=data, provider=_Timeless(model)) as server:
            history, thread, requests, asked = await the_call(server, "local", tmp_path)
    finally:
        await model.aclose()
    assert thread == history
    assert len([role for role, _ in history if role == "assistant"]) == 3
    assert requests == [RUN] * asked


class _Timeless:
    """A model whose work takes no virtual time."""

    def __init__(self, model: ModelProvider) -> None:
        self._model = model
        loop = running_loop()
        self._work = loop.work if loop is not None else Work()

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[Piece], None]:
        stream = self._model.stream(request)
        try:
            while True:
                with self._work.thread():
                    pieces = await anext(stream, None)
                if pieces is None:
                    return
                yield pieces
        finally:
            with self._work.thread():
                await stream.aclose()

    def context_window(self, model: str) -> int:
        return self._model.context_window(model)

    async def models(self) -> Sequence[ModelInfo]:
        return await self._model.models()

    async def aclose(self) -> None:
        await self._model.aclose()
