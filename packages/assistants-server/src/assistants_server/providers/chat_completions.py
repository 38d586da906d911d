"""Any OpenAI-compatible Chat Completions endpoint.

Not through the official SDK, because a caller waits on the telephone: ``chat.completions.create``
walks through all messages (7 ms for 40 of them), and its retries may wait for minutes. The HTTP is
in ``endpoint``, the body is read in ``chat_stream``, and what fails is said in ``chat_errors``.

Whoever stops taking pieces closes the stream, and with it the upstream connection: a model that
goes on for nobody costs money.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp
import orjson

from ..clock import Clock, SystemClock
from ..domain.model_exchange import ModelRequest, Piece
from .chat_errors import (
    Question,
    Refusal,
    broke_off,
    endless,
    explain,
    explain_in_stream,
    garbage,
    kind,
)
from .chat_stream import Endless, Garbage, StreamError, Turn
from .contract import ModelInfo
from .endpoint import FAILURES, Endpoint, body_of

# A failed attempt is repeated after these seconds, or after what Retry-After asks for if that is
# still worth waiting for while somebody listens.
RETRY_SECONDS = (0.1, 0.5)
LONGEST_RETRY_AFTER = 5.0
RETRIED_STATUS = frozenset({408, 409, 429, 500, 502, 503, 504})
# How long the end of a body may take after [DONE], so that its connection can be used again.
TAIL_SECONDS = 1.0

# Parameters that not every server knows. One that is refused by name for a model is left out for
# it from then on; the two names of the token bound replace each other.
OPTIONAL = ("stream_options", "parallel_tool_calls", "user")
TOKEN_BOUNDS = ("max_completion_tokens", "max_tokens")
# Every run has values for these. Some models refuse one whatever it says (OpenAI's o3-mini), or the
# two together (Anthropic's); then it is left out where it says nothing but the default.
SAMPLING = ("top_p", "temperature")
DEFAULT = 1.0
MODELS = 1000  # whose refusals are remembered: clients name them, so there may be any number
_REFUSAL = re.compile(
    r"unsupported|unrecognized|unknown|unexpected|not (supported|permitted|allowed|recognized)"
    r"|does(n't| not) support|extra (inputs|fields|parameters)|forbidden|cannot both",
    re.IGNORECASE,
)

log = logging.getLogger(__name__)


class ChatCompletions:
    """One endpoint. Use it in one event loop and close it."""

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        context_window: int = 128_000,
        timeout: float = 120.0,
        clock: Clock | None = None,
    ) -> None:
        """``timeout``: seconds without a byte, before the first and between any two.

        Raises:
            ProviderError: the URL or the key cannot be used.
        """
        self._endpoint = Endpoint(base_url, api_key, timeout=timeout)
        self.host = self._endpoint.host
        self.base_url = self._endpoint.base_url
        self._context_window = context_window
        self._timeout = timeout
        self._clock = clock or SystemClock()
        self._refused: dict[str, set[str]] = {}  # by model
        if not self.host.endswith(("api.openai.com", ".openai.azure.com")):
            # Elsewhere the old name is understood most widely, and the new one often ignored.
            self._bounds = TOKEN_BOUNDS[::-1]
        else:
            self._bounds = TOKEN_BOUNDS
        self._answers: set[aiohttp.ClientResponse] = set()
        self._tails: set[asyncio.Task[None]] = set()

    def context_window(self, model: str) -> int:
        return self._context_window

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Sequence[Piece], None]:
        """See :class:`ModelProvider`. Nothing is sent before the first batch is asked for."""
        question = Question(self.host, request.model, self._timeout)
        turn = Turn()
        failure: Exception | None = None
        response = await self._open(request, question)
        self._answers.add(response)
        try:
            at_once = "application/json" in response.headers.get("content-type", "")
            try:
                async for data in _whole(response) if at_once else response.content.iter_any():
                    whole = at_once and data.lstrip()[:1] == b"{"
                    pieces = turn.whole(data) if whole else turn.feed(data)
                    if pieces:
                        yield pieces
                    if turn.over:
                        break
            except FAILURES as error:
                log.debug("reading from %s failed: %s", self.host, kind(error))
                failure = error
            if not turn.over:
                last = _last_pieces(turn, failure, question)
                if last:
                    yield last
            yield turn.end()
        except StreamError as error:
            log.debug("error in the stream of %s: %r", self.host, error.body)
            raise explain_in_stream(error.body, question) from None
        except Garbage:
            raise garbage(question) from None
        except Endless:
            raise endless(question) from None
        finally:
            self._leave(response, whole=turn.over)

    async def models(self) -> Sequence[ModelInfo]:
        question = Question(self.host, "", self._timeout)
        try:
            listed = orjson.loads(await self._endpoint.get("/models"))["data"]
            return [
                ModelInfo(
                    id=str(line["id"]),
                    owned_by=str(line.get("owned_by") or self.host),
                    created=int(line.get("created") or 0),
                )
                for line in listed
            ]
        except FAILURES as error:
            raise explain(error, question) from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise garbage(question) from None

    async def aclose(self) -> None:
        for response in self._answers:
            response.close()
        for tail in self._tails:
            tail.cancel()
        if self._tails:
            await asyncio.wait(self._tails)
        await self._endpoint.aclose()

    # One request ------------------------------------------------------------------------------

    def _leave(self, response: aiohttp.ClientResponse, *, whole: bool) -> None:
        """Close the connection, unless all that mattered has come: then it may be used again."""
        self._answers.discard(response)
        if not whole:
            response.close()
        elif not response.content.at_eof():
            tail = asyncio.create_task(_read_tail(response), name="end of an answer")
            self._tails.add(tail)
            tail.add_done_callback(self._tails.discard)

    async def _open(self, request: ModelRequest, question: Question) -> aiohttp.ClientResponse:
        attempts = 0
        while True:
            body = self._body(request)
            try:
                return await self._post(body, request.headers)
            except FAILURES as error:
                if isinstance(error, Refusal) and self._learns(error, body):
                    continue
                delay = _delay(error, attempts)
                if delay is None:
                    log.debug("%s refused a request: %s", self.host, kind(error))
                    raise explain(error, question) from None
            attempts += 1
            await self._clock.sleep(delay)

    async def _post(
        self, body: dict[str, Any], headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        try:
            content = orjson.dumps(body)
        except TypeError:  # half a surrogate pair in somebody's text: no server reads it
            content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        return await self._endpoint.post("/chat/completions", content, headers)

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": request.model,
            "messages": request.messages,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.tools:
            body["tools"] = request.tools
            _add(body, "tool_choice", request.tool_choice)
            _add(body, "parallel_tool_calls", request.parallel_tool_calls)
        _add(body, "temperature", request.temperature)
        _add(body, "top_p", request.top_p)
        _add(body, "response_format", request.response_format)
        _add(body, "reasoning_effort", request.reasoning_effort)
        _add(body, "user", request.user)
        refused = self._refused.get(request.model, ())
        bound = next(name for name in self._bounds if name not in refused)
        _add(body, bound, request.max_completion_tokens)
        return {
            name: value
            for name, value in body.items()
            if name not in refused or (name in SAMPLING and value != DEFAULT)
        }

    def _learns(self, error: Refusal, body: dict[str, Any]) -> bool:
        """Whether the endpoint refused a parameter by name that can be left out or renamed."""
        if error.status not in (400, 422):
            return False
        text = error.text
        refused = self._refused.get(body["model"], set())
        for name in (*OPTIONAL, *TOKEN_BOUNDS, *SAMPLING):
            if name not in body or not (error.param == name or name in text):
                continue
            if not _REFUSAL.search(text):
                continue
            if name in TOKEN_BOUNDS and refused.intersection(TOKEN_BOUNDS) - {name}:
                continue  # neither name is known: the bound cannot be kept, so the error stands
            if name in SAMPLING and body[name] != DEFAULT:
                continue  # somebody chose it, and is told that it cannot be had
            if len(self._refused) >= MODELS:
                self._refused.clear()
            self._refused.setdefault(body["model"], refused).add(name)
            log.debug("%s does not know %s", self.host, name)
            return True
        return False


def _last_pieces(turn: Turn, failure: Exception | None, question: Question) -> Sequence[Piece]:
    """The body is over without ``[DONE]``: in order, or broken off."""
    if failure is not None:
        if turn.ended:
            return []
        raise explain(failure, question) from None
    try:
        pieces = turn.close()
    except Garbage:
        raise broke_off(question) from None
    if not turn.ended:
        raise broke_off(question)
    return pieces


async def _whole(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    yield await body_of(response)


async def _read_tail(response: aiohttp.ClientResponse) -> None:
    """What follows ``[DONE]``, so that the connection is left in order."""
    try:
        await asyncio.wait_for(body_of(response), TAIL_SECONDS)
    except (*FAILURES, asyncio.TimeoutError):
        response.close()


def _add(body: dict[str, Any], name: str, value: object) -> None:
    if value is not None:
        body[name] = value


def _delay(error: BaseException, attempts: int) -> float | None:
    """Seconds until the next attempt; ``None``: this one was the last."""
    if attempts >= len(RETRY_SECONDS):
        return None
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        # Connecting may be tried again; a model that was silent for minutes has used them up.
        again = isinstance(error, aiohttp.ConnectionTimeoutError)
        return RETRY_SECONDS[attempts] if again else None
    if not isinstance(error, Refusal):
        return RETRY_SECONDS[attempts]
    if error.is_quota or error.status not in RETRIED_STATUS:
        return None
    wait = _retry_after(error.headers)
    if wait is None:
        return RETRY_SECONDS[attempts]
    return wait if wait <= LONGEST_RETRY_AFTER else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * unit
        except (KeyError, ValueError):  # a date needs two clocks that agree: not used
            continue
        if seconds >= 0:
            return seconds
    return None
