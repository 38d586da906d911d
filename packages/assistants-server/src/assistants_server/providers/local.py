"""The model in this process: llama.cpp from a wheel, for the first minutes and for real words in
tests. It is loaded when it is first asked, and says plainly what is missing where it cannot run.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import secrets
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
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
from ..domain.records import JsonObject, Usage
from . import local_prompt, local_tools, weights
from .contract import ModelInfo, ProviderError
from .weights import LocalModelUnavailable

NAME = "local"

WINDOW = 2048  # tokens a conversation may take; more would make the first token slow
_AT_ONCE = 2  # turns generated side by side; more wait for one of these
_LONGEST_ANSWER = 400  # tokens; a model of this size does not always find an end
_LONGEST_CALL = 200  # tokens of a call's arguments
# Prompts that a slot had to give up are kept here: a turn with functions has up to three.
_PROMPT_CACHE_MIB = 128
_NO_RUNTIME = (
    "No model can answer. Set OPENAI_API_KEY (and OPENAI_BASE_URL, for another endpoint than "
    "OpenAI's), or install the local model: assistants-server[local]."
)
_TOPICS_KEPT = 32  # sets of functions whose calibration is remembered


class _TooLong(Exception):
    """The engine counted more tokens than it has room for; nothing was generated."""


class _Engine(Protocol):
    def handle_chat_completions(self, body: Any, callback: Any) -> Any: ...

    def handle_completions(self, body: Any, callback: Any = None) -> Any: ...


@dataclass(eq=False)
class _Generation:
    """One turn on its way through a thread of the engine."""

    loop: asyncio.AbstractEventLoop
    chunks: asyncio.Queue[dict[str, Any] | None] = field(default_factory=asyncio.Queue)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self, ask: Callable[[Any, Any], Any], body: dict[str, Any]) -> None:
        try:
            if not self.stopped.is_set():  # given up while it waited for a thread
                ask(body, self._take)
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


@dataclass(frozen=True, slots=True)
class _Completion:
    """A short answer to one of the patterns of ``local_tools``."""

    text: str
    usage: Usage
    likely: Sequence[tuple[str, float]]  # first tokens and their log probabilities


class LocalModel:
    """SmolLM2-135M-Instruct, or any GGUF file."""

    def __init__(self, given: Path | None = None, *, data: Path) -> None:
        self._given = given
        self._data = data
        self._engine: _Engine | None = None
        self._loading = asyncio.Lock()
        self._generations: set[_Generation] = set()
        self._topics: dict[str, local_tools.Topics] = {}
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

    def lacks(self) -> str | None:
        """What stands in the way of an answer, as far as it shows before the model is loaded."""
        if importlib.util.find_spec("xllamacpp") is None:
            return _NO_RUNTIME
        try:
            weights.find(self._data, self._given)
        except LocalModelUnavailable as error:
            return error.message
        return None

    async def prewarm(self) -> None:
        """Load the model now instead of with the first turn.

        Raises:
            LocalModelUnavailable: runtime or weights are missing.
        """
        await self._load()

    async def _generate(
        self, engine: _Engine, request: ModelRequest
    ) -> AsyncGenerator[Sequence[Piece], None]:
        ask, body = engine.handle_chat_completions, _free(request)
        if local_prompt.wants_tools(request):
            call = await self._call(engine, request)
            if call is not None:
                yield call
                return
        elif self._given is None and (turn := local_prompt.results(request.messages)):
            ask, body = engine.handle_completions, _about_results(request, turn)
        said = False
        async with aclosing(self._chunks(ask, body)) as chunks:
            async for chunk in chunks:
                pieces = _pieces(chunk, strip=not said)
                said = said or any(isinstance(piece, TextPiece) for piece in pieces)
                if pieces:
                    yield pieces

    async def _chunks(
        self, ask: Callable[[Any, Any], Any], body: dict[str, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The engine's chunks as it makes them; closing it ends the generation."""
        generation = _Generation(asyncio.get_running_loop())
        self._generations.add(generation)
        self._threads.submit(generation.run, ask, body)
        try:
            while (chunk := await generation.chunks.get()) is not None:
                _check(chunk)
                yield chunk
        finally:
            generation.stopped.set()
            self._generations.discard(generation)

    # Functions --------------------------------------------------------------------------------

    async def _call(self, engine: _Engine, request: ModelRequest) -> list[Piece] | None:
        """The call that the turn makes; ``None``: it makes none."""
        text = local_prompt.last_request(request.messages)
        tools = local_prompt.offered(request)
        usage = Usage()
        tool = tools[0]
        if len(tools) > 1 or not local_prompt.must_call(request):
            topics = await self._calibrated(engine, tools)
            topic = await self._complete(engine, _likely(topics.prompt(text)))
            usage = topic.usage
            choice = topics.choose(
                topics.scores(topic.likely), must=local_prompt.must_call(request)
            )
            if choice is None:
                return None
            tool = tools[choice]
        arguments = "{}"
        question = local_tools.arguments_question(tool, text, copy=self._given is None)
        if question is not None:
            answer = await self._complete(engine, _arguments(question))
            usage = usage + answer.usage
            try:
                arguments = json.dumps(json.loads(answer.text))
            except ValueError:  # it found no end
                return [TurnEnd("length"), TurnUsage(usage)]
        return [
            CallPiece(0, arguments, id=ids.call_id(), name=tool["name"]),
            TurnEnd("tool_calls"),
            TurnUsage(usage),
        ]

    async def _calibrated(self, engine: _Engine, tools: Sequence[JsonObject]) -> local_tools.Topics:
        key = json.dumps(tools, sort_keys=True)
        topics = self._topics.get(key)
        if topics is None:
            topics = local_tools.Topics(tools)
            scores = []
            for text in local_tools.NEUTRAL:
                answer = await self._complete(engine, _likely(topics.prompt(text)))
                scores.append(topics.scores(answer.likely))
            topics.calibrate(scores)
            if len(self._topics) >= _TOPICS_KEPT:
                self._topics.pop(next(iter(self._topics)))
            self._topics[key] = topics
        return topics

    async def _complete(self, engine: _Engine, body: dict[str, Any]) -> _Completion:
        async with aclosing(self._chunks(_at_once(engine), body)) as chunks:
            async for answer in chunks:
                choice = answer["choices"][0]
                first = ((choice.get("logprobs") or {}).get("content") or [{}])[0]
                return _Completion(
                    text=choice["text"],
                    usage=_usage(answer) or Usage(),
                    likely=[(t["token"], t["logprob"]) for t in first.get("top_logprobs") or ()],
                )
        raise ProviderError("The local model was closed.")

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
            raise LocalModelUnavailable(_NO_RUNTIME) from error
        path = weights.find(self._data, self._given)
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx = WINDOW * _AT_ONCE
        parameters.n_parallel = _AT_ONCE
        # Threads that spin for a core which something else uses slow each other down to a crawl.
        parameters.cpuparams.n_threads = max(1, (os.cpu_count() or 2) - 1)
        parameters.cpuparams_batch.n_threads = max(1, os.cpu_count() or 2)
        parameters.verbosity = -1
        parameters.cache_ram_mib = _PROMPT_CACHE_MIB
        # The engine also listens on a loopback port. Nobody is told the key that it asks for.
        parameters.api_keys = [secrets.token_urlsafe(32)]
        parameters.ui = False
        parameters.endpoint_slots = False
        try:
            engine: _Engine = xllamacpp.Server(parameters)
        except Exception as error:
            raise LocalModelUnavailable(f"The model file {path} cannot be loaded.") from error
        return engine

    async def aclose(self) -> None:
        """Idempotent. Waits for the token that is being generated, not for the answer."""
        for generation in self._generations:
            generation.stopped.set()
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


def _at_once(engine: _Engine) -> Callable[[Any, Any], Any]:
    """A completion whose whole answer is its one chunk."""
    return lambda body, take: take(engine.handle_completions(body))


def _likely(prompt: str) -> dict[str, Any]:
    return {"prompt": prompt, "n_predict": 1, "temperature": 0, "n_probs": 2000}


def _arguments(question: local_tools.ArgumentsQuestion) -> dict[str, Any]:
    return {
        "prompt": question.prompt,
        "json_schema": question.schema,
        "n_predict": _LONGEST_CALL,
        "temperature": 0,
    }


def _about_results(request: ModelRequest, turn: local_prompt.Results) -> dict[str, Any]:
    prompt = local_tools.result_prompt(turn.text, turn.calls)
    return {**_bounds(request), "prompt": prompt, "temperature": 0, "stop": ["\n"]}


def _free(request: ModelRequest) -> dict[str, Any]:
    body = {**_bounds(request), "messages": local_prompt.plain(request.messages)}
    # 1.0 is OpenAI's default for large models; a small one talks nonsense at it.
    body["temperature"] = 0.2 if request.temperature is None else min(request.temperature, 0.3)
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
        choice.get("text") or (choice.get("delta") or {}).get("content") or ""
        for choice in chunk.get("choices") or ()
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


def _pieces(chunk: dict[str, Any], *, strip: bool) -> list[Piece]:
    """``strip``: the answer has not begun; a completion begins with a space."""
    pieces: list[Piece] = []
    text = _text(chunk)
    if text := text.lstrip() if strip else text:
        pieces.append(TextPiece(text))
    for choice in chunk.get("choices") or ():
        if reason := choice.get("finish_reason"):
            pieces.append(TurnEnd("length" if reason == "length" else "stop"))
    if usage := _usage(chunk):
        pieces.append(TurnUsage(usage))
    return pieces
